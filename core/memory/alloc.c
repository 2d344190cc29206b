/*
 * Small objects (include/core/alloc.h): slabs of equal objects, one class per size; larger requests get whole
 * frames.
 *
 * A slab is a block of frames: a 64-byte header, then the objects. Each frame of a slab names, in its struct
 * frame (next), the first frame of the slab and (prev) that it is a slab, so that mem_free finds the header
 * from any pointer. Whole-frame allocations note their number of frames in the same place. The link of free
 * objects lies inside them.
 *
 * Invariants
 *  1. A slab is on its class's partial list exactly when it has a free object; full slabs are on no list.
 *  2. used + length of the free list == objects of the slab.
 *  3. At most one slab of a class is empty; a second one goes back to the heap at once.
 *  4. Memory handed out is zero. (debug) Free objects carry a pattern behind their link: a changed one is a
 * write after mem_free, and freeing an object that carries it is a double free. Locks: one per class
 * (RANK_SLAB); the heap is called without it.
 */
#include "core/alloc.h"
#include "core/console.h"
#include "core/lock.h"
#include "core/log.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "private.h"

#define HEADER          64u
#define LARGE_MAX_ORDER FRAME_MAX_ORDER
/* frame.prev of frames that belong to this room. */
#define KIND_SLAB       0x51abu
#define KIND_LARGE      0x1a49u

struct object {
    struct object *next;
    uint64_t pattern; /* debug: FREE_PATTERN while free */
};
#define FREE_PATTERN 0x6b6b6b6bdead6b6bull

struct slab {
    struct slab *next, *prev; /* partial list */
    struct object *free;
    uint32_t used;
    uint32_t class;
    uint32_t objects;
};
_Static_assert(sizeof(struct slab) <= HEADER, "objects begin behind the header");

struct class
{
    struct spinlock lock;
    uint32_t size;
    uint8_t order; /* of its slabs: so that little is left over */
    struct slab *partial;
    uint32_t slabs, empty;
    uint64_t used;
};

#define CLASS(s, o)                                                                                          \
    {                                                                                                        \
        .lock = SPINLOCK_INIT(RANK_SLAB), .size = (s), .order = (o)                                          \
    }
static struct class classes[] = {
    CLASS(16, 0),   CLASS(32, 0),   CLASS(48, 0),   CLASS(64, 0),  CLASS(128, 0),
    CLASS(192, 0),  CLASS(256, 0),  CLASS(384, 0),  CLASS(512, 1), CLASS(768, 1),
    CLASS(1024, 2), CLASS(1536, 2), CLASS(2048, 3),
};

static struct class *class_for(size_t bytes)
{
    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++)
        if (bytes <= classes[i].size)
            return &classes[i];
    return NULL;
}

/* --- lists: class lock held --- */

static void partial_add(struct class *c, struct slab *s)
{
    s->prev = NULL;
    s->next = c->partial;
    if (c->partial)
        c->partial->prev = s;
    c->partial = s;
}

static void partial_del(struct class *c, struct slab *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        c->partial = s->next;
    if (s->next)
        s->next->prev = s->prev;
    s->next = s->prev = NULL;
}

/* --- slabs --- */

static void object_free(struct slab *s, struct object *o, unsigned size)
{
    mem_permit(o, sizeof(*o));
    o->next = s->free;
    o->pattern = FREE_PATTERN;
    s->free = o;
    mem_forbid(o, size);
}

static struct slab *slab_new(struct class *c)
{
    uint64_t bytes = FRAME_SIZE << c->order;
    struct slab *s;
    mfn_t m;

    if (!frame_alloc(c->order, 0, FRAME_ANY_NODE, &m))
        return NULL;
    for (uint64_t i = 0; i < 1ull << c->order; i++) {
        mfn_frame(MFN(m.n + i))->next = (uint32_t)m.n;
        mfn_frame(MFN(m.n + i))->prev = KIND_SLAB;
    }
    s = arch_frame_va(m);
    *s = (struct slab){.class = (uint32_t)(c - classes), .objects = (uint32_t)((bytes - HEADER) / c->size)};
    for (uint32_t i = s->objects; i--;)
        object_free(s, (struct object *)((char *)s + HEADER + (uint64_t)i * c->size), c->size);
    return s;
}

static void slab_delete(struct class *c, struct slab *s)
{
    mfn_t m = arch_va_mfn(s);

    for (uint64_t i = 0; i < 1ull << c->order; i++)
        mfn_frame(MFN(m.n + i))->prev = mfn_frame(MFN(m.n + i))->next = 0;
    frame_free(m, c->order);
}

/* Class lock held; there is a free object in s. */
static void *object_take(struct class *c, struct slab *s)
{
    struct object *o = s->free;

    BUG_ON(!o);
    mem_permit(o, c->size);
    if (o->pattern != FREE_PATTERN)
        panic("object %p (%u bytes) was written to after mem_free", (void *)o, c->size);
    s->free = o->next;
    c->empty -= s->used == 0;
    s->used++;
    c->used++;
    if (!s->free)
        partial_del(c, s);
    return o;
}

static void *class_alloc(struct class *c)
{
    struct slab *s;
    void *p = NULL;

    spin_lock(&c->lock);
    if (c->partial)
        p = object_take(c, c->partial);
    spin_unlock(&c->lock);
    if (p)
        return p;
    s = slab_new(c);
    if (!s)
        return NULL;
    spin_lock(&c->lock);
    c->slabs++;
    c->empty++;
    partial_add(c, s);
    p = object_take(c, s);
    spin_unlock(&c->lock);
    return p;
}

static void class_free(struct class *c, struct slab *s, struct object *o)
{
    bool delete;

    spin_lock(&c->lock);
    BUG_ON(!s->used);
    if (!s->free)
        partial_add(c, s);
    object_free(s, o, c->size);
    s->used--;
    c->used--;
    c->empty += s->used == 0;
    delete = s->used == 0 && c->empty > 1;
    if (delete) {
        partial_del(c, s);
        c->slabs--;
        c->empty--;
    }
    spin_unlock(&c->lock);
    if (delete)
        slab_delete(c, s);
}

/* --- whole frames --- */

/* Gives frames [m, m + n) back in the largest aligned blocks. */
static void free_run(uint64_t m, uint64_t n)
{
    while (n) {
        unsigned order = (unsigned)__builtin_ctzll(m);

        while (order > LARGE_MAX_ORDER || (1ull << order) > n)
            order--;
        frame_free(MFN(m), order);
        m += 1ull << order;
        n -= 1ull << order;
    }
}

static void *large_alloc(size_t bytes)
{
    uint64_t frames = ROUND_UP(bytes, FRAME_SIZE) / FRAME_SIZE;
    unsigned order = frames > 1 ? 64 - (unsigned)__builtin_clzll(frames - 1) : 0;
    mfn_t m;

    if (bytes > FRAME_SIZE << LARGE_MAX_ORDER || !frame_alloc(order, FA_ZERO, FRAME_ANY_NODE, &m))
        return NULL;
    free_run(m.n + frames, (1ull << order) - frames);
    mfn_frame(m)->next = (uint32_t)frames;
    mfn_frame(m)->prev = KIND_LARGE;
    return arch_frame_va(m);
}

static void large_free(mfn_t m)
{
    uint64_t frames = mfn_frame(m)->next;

    mfn_frame(m)->next = mfn_frame(m)->prev = 0;
    free_run(m.n, frames);
}

/* --- public --- */

void slab_init(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
        classes[i].partial = NULL;
        classes[i].slabs = classes[i].empty = 0;
        classes[i].used = 0;
    }
}

void *mem_alloc(size_t bytes)
{
    struct class *c = class_for(bytes);
    void *p;

    if (!c)
        return large_alloc(bytes);
    p = class_alloc(c);
    if (!p)
        return NULL;
    memset(p, 0, c->size);
    /* What the caller did not ask for stays forbidden. */
    mem_forbid((char *)p + ROUND_UP(bytes, 8), c->size - ROUND_UP(bytes, 8));
    return p;
}

void *mem_alloc_array(size_t n, size_t bytes)
{
    size_t total;

    return __builtin_mul_overflow(n, bytes, &total) ? NULL : mem_alloc(total);
}

void mem_free(void *p)
{
    const struct frame *f;
    struct slab *s;
    struct class *c;
    uint64_t off;
    mfn_t m;

    if (!p)
        return;
    m = arch_va_mfn(p);
    BUG_ON(!mfn_valid(m));
    f = mfn_frame(m);
    if (f->prev == KIND_LARGE && !((uintptr_t)p & (FRAME_SIZE - 1))) {
        large_free(m);
        return;
    }
    if (f->prev != KIND_SLAB || f->flags & FRAME_F_FREE || f->owner != FRAME_NO_OWNER)
        panic("mem_free(%p): not from mem_alloc", p);
    s = arch_frame_va(MFN(f->next));
    c = &classes[s->class];
    off = (uint64_t)((char *)p - (char *)s) - HEADER;
    BUG_ON((char *)p < (char *)s + HEADER || off % c->size || off / c->size >= s->objects);
    mem_permit(p, c->size);
    /* Not in release builds: an object may hold a guest's numbers, and a guest must not be able to stop the
     * machine. */
    ASSERT(((struct object *)p)->pattern != FREE_PATTERN);
    class_free(c, s, p);
}

static uint32_t free_length(const struct slab *s)
{
    uint32_t n = 0;

    for (struct object *o = s->free; o && n <= s->objects; n++) {
        struct object *next;

        mem_permit(o, sizeof(*o));
        next = o->next;
        BUG_ON(o->pattern != FREE_PATTERN);
        mem_forbid(o, sizeof(*o));
        o = next;
    }
    return n;
}

uint64_t mem_idle_frames(void)
{
    uint64_t frames = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
        struct class *c = &classes[i];

        spin_lock(&c->lock);
        frames += (uint64_t)c->empty << c->order;
        spin_unlock(&c->lock);
    }
    return frames;
}

/* What is in use, and the frames that slabs take; debug key 'm'. */
void slab_dump(void)
{
    uint64_t objects = 0, frames = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
        struct class *c = &classes[i];

        spin_lock(&c->lock);
        objects += c->used;
        frames += (uint64_t)c->slabs << c->order;
        spin_unlock(&c->lock);
    }
    console_printf("  small objects: %llu in %llu frames, of which %llu are empty\n",
                   (unsigned long long)objects, (unsigned long long)frames,
                   (unsigned long long)mem_idle_frames());
}

void mem_room_check(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
        struct class *c = &classes[i];
        uint32_t empty = 0, partial = 0;

        spin_lock(&c->lock);
        for (struct slab *s = c->partial; s; s = s->next) {
            BUG_ON(s->class != i || !s->free || s->used >= s->objects);
            BUG_ON(free_length(s) + s->used != s->objects);
            empty += s->used == 0;
            partial++;
        }
        BUG_ON(empty != c->empty || empty > 1 || partial > c->slabs);
        spin_unlock(&c->lock);
    }
}
