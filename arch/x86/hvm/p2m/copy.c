/*
 * A guest's memory by its virtual addresses: hypercall arguments (the guest_ops of HVM kinds) and the emulator's accesses.
 *
 * A vCPU remembers some translations of pages (struct walk_cache). Nothing has to be invalidated, and no exits are needed for that: a
 * line is used only while CR3 and mode are the same, the p2m's generation is, and the guest's own entries that the walk went through read
 * the same as then. So a changed table is seen at once, as if nothing had been remembered, and reading three or four words is all that is
 * left of a walk of two tables.
 *
 * Invariants
 *  1. From the look at the generation to the end of the copy interrupts are off: the frame stays what it was (p2m.c, invariant 2).
 *  2. No copy crosses a page in one step, none in such a section is longer than a page.
 * Locks: none.
 */
#include "walk.h"
#include "arch/cpu.h"
#include "core/alloc.h"
#include "lib/string.h"
#include "x86/pte.h"

#define LINES   8u
#define BLOCKED 16

struct walk_line {
    uint64_t page; /* address | 1 when in use */
    uint64_t cr3;
    uint64_t generation;
    uint32_t mode, pkru;
    unsigned access;
    unsigned steps;
    bool narrow;
    const void *entry[LEVELS];
    uint64_t value[LEVELS];
    char *host; /* the page */
};
struct walk_cache {
    struct walk_line line[LINES];
};

struct walk_cache *walk_cache_alloc(void)
{
    return mem_new(struct walk_cache);
}

void walk_cache_free(struct walk_cache *c)
{
    mem_free(c);
}

/* --- the cache --- */

static inline struct walk_line *line_of(struct vcpu *v, uint64_t va)
{
    struct walk_cache *c = x86_vcpu(v)->walk;

    return c ? &c->line[(va >> FRAME_SHIFT) % LINES] : NULL;
}

/* A line that was made for a write is good for a read. */
static inline bool line_fits(const struct walk_line *l, const struct p2m *p, const struct guest_paging *gp,
                             uint64_t va, unsigned access)
{
    if (l->page != ((va & ~(FRAME_SIZE - 1)) | 1) || l->cr3 != gp->cr3 || l->mode != gp->mode ||
        l->pkru != gp->pkru || (l->access | WALK_WRITE) != (access | WALK_WRITE) ||
        access & ~l->access & WALK_WRITE)
        return false;
    if (l->generation != __atomic_load_n(&p->generation, __ATOMIC_SEQ_CST))
        return false;
    for (unsigned i = 0; i < l->steps; i++)
        if (guest_entry_read(l->entry[i], l->narrow) != l->value[i])
            return false;
    return true;
}

static void line_fill(struct walk_line *l, const struct walk *w, uint64_t generation, char *host)
{
    l->page = (w->va & ~(FRAME_SIZE - 1)) | 1;
    l->cr3 = w->gp->cr3;
    l->mode = w->gp->mode;
    l->pkru = w->gp->pkru;
    l->access = w->access;
    l->generation = generation;
    l->steps = w->steps;
    l->narrow = w->narrow;
    for (unsigned i = 0; i < w->steps; i++) {
        l->entry[i] = w->entry[i];
        l->value[i] = w->value[i];
    }
    l->host = (char *)((uintptr_t)host & ~(FRAME_SIZE - 1));
}

/* --- one page --- */

/* The memory at w->va; interrupts off. As ram_find. */
static enum walk_result find(struct vcpu *v, struct walk *w, void **host)
{
    struct walk_line *l = line_of(v, w->va);
    uint64_t generation;
    enum walk_result r;

    if (likely(l && line_fits(l, w->p, w->gp, w->va, w->access))) {
        *host = l->host + (w->va & (FRAME_SIZE - 1));
        return WALK_OK;
    }
    generation = __atomic_load_n(&w->p->generation, __ATOMIC_SEQ_CST);
    r = walk_run(w);
    if (r)
        return r;
    w->writing = w->access & WALK_WRITE;
    r = ram_find(w->p, w->gpa, w->writing, host);
    if (!r && *host && l)
        line_fill(l, w, generation, *host);
    return r;
}

enum direction { IN, OUT, ZERO };

static inline void move(void *host, void *buf, size_t n, enum direction dir)
{
    if (dir == IN)
        memcpy(buf, host, n);
    else if (host && dir == OUT)
        memcpy(host, buf, n);
    else if (host)
        memset(host, 0, n);
}

/* Within one page. */
static enum walk_result page_move(struct vcpu *v, struct walk *w, void *buf, size_t n, enum direction dir)
{
    for (unsigned i = 0; i < BLOCKED; i++) {
        unsigned long flags = arch_irq_save();
        void *host;
        enum walk_result r = find(v, w, &host);

        if (likely(!r))
            move(host, buf, n, dir);
        arch_irq_restore(flags);
        if (likely(r != WALK_AGAIN))
            return r;
        if (!arch_irq_enabled() || !ram_unblock(w->p, w->gpa, w->writing))
            break;
    }
    return WALK_NO_RAM;
}

static enum walk_result range_move(struct vcpu *v, const struct guest_paging *gp, uint64_t va, void *buf,
                                   size_t n, unsigned access, enum direction dir, struct walk *w)
{
    w->p = p2m_of(v->domain); /* the rest is set by the walk, if there is one */
    w->gp = gp;
    w->access = access;
    w->error = 0;
    while (n) {
        size_t part = MIN(n, FRAME_SIZE - (va & (FRAME_SIZE - 1)));
        enum walk_result r;

        w->va = va;
        r = page_move(v, w, buf, part, dir);
        if (unlikely(r))
            return r;
        va += part;
        n -= part;
        buf = (char *)buf + (dir == ZERO ? 0 : part);
    }
    return WALK_OK;
}

/* --- the emulator's --- */

static enum copy_result linear_move(struct vcpu *v, const struct guest_paging *gp, uint64_t va, void *buf,
                                    size_t n, unsigned access, enum direction dir, struct copy_fault *fault)
{
    struct walk w;

    switch (range_move(v, gp, va, buf, n, access, dir, &w)) {
    case WALK_OK:
        return COPY_OK;
    case WALK_FAULT:
        *fault = (struct copy_fault){.address = w.va, .error = w.error};
        return COPY_FAULT;
    default:
        *fault = (struct copy_fault){.address = w.va, .gpa = w.gpa};
        return COPY_NO_RAM;
    }
}

enum copy_result guest_linear_in(struct vcpu *v, const struct guest_paging *p, void *to, uint64_t va,
                                 size_t n, unsigned access, struct copy_fault *fault)
{
    return linear_move(v, p, va, to, n, access, IN, fault);
}

enum copy_result guest_linear_out(struct vcpu *v, const struct guest_paging *p, uint64_t va, const void *from,
                                  size_t n, unsigned access, struct copy_fault *fault)
{
    return linear_move(v, p, va, (void *)(uintptr_t)from, n, access | WALK_WRITE, OUT, fault);
}

/* --- hypercall arguments --- */

static inline bool argument_move(struct vcpu *v, gva_t at, void *buf, size_t n, unsigned access,
                                 enum direction dir)
{
    const struct arg_window *window = x86_vcpu(v)->window;
    struct guest_paging gp;
    struct walk w;

    if (unlikely(window)) {
        void *own = arg_window_find(window, at.a, n);

        if (own) {
            move(own, buf, n, dir);
            return true;
        }
    }
    p2m_machine.paging(v, &gp);
    return range_move(v, &gp, at.a, buf, n, access, dir, &w) == WALK_OK;
}

bool hvm_copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    return argument_move(v, from, to, n, 0, IN);
}

bool hvm_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return argument_move(v, to, (void *)(uintptr_t)from, n, WALK_WRITE, OUT);
}

bool hvm_zero(struct vcpu *v, gva_t to, size_t n)
{
    return argument_move(v, to, NULL, n, WALK_WRITE, ZERO);
}

/* --- by guest-physical address, of any domain --- */

static bool phys_move(struct domain *d, uint64_t gpa, void *buf, size_t n, enum direction dir)
{
    while (n) {
        size_t off = gpa & (FRAME_SIZE - 1), part = MIN(n, FRAME_SIZE - off);
        struct p2m_entry e;

        if (p2m_get(d, GFN(gpa >> FRAME_SHIFT), dir == OUT ? P2M_WRITE : 0, &e))
            return false;
        move((char *)arch_frame_va(e.mfn) + off, buf, part, dir);
        frame_put(mfn_frame(e.mfn));
        gpa += part;
        n -= part;
        buf = (char *)buf + part;
    }
    return true;
}

bool guest_phys_in(struct domain *d, void *to, uint64_t gpa, size_t n)
{
    return phys_move(d, gpa, to, n, IN);
}

bool guest_phys_out(struct domain *d, uint64_t gpa, const void *from, size_t n)
{
    return phys_move(d, gpa, (void *)(uintptr_t)from, n, OUT);
}
