/*
 * Frames: allocation for the hypervisor, reference counts, figures (include/core/frame.h). Blocks are
 * heap.c's, a domain's lists and limits owner.c's.
 *
 * A frame's life
 *
 *   free --frame_alloc--> private (count 0, no owner) --frame_free--> free
 *   free --frame_alloc_domain--> owned (ALLOCATED|1, on the owner's page list)
 *   private --frame_assign--> owned --frame_steal (count exactly ALLOCATED|1)--> private
 *   private --frame_share--> special (SPECIAL|1, owner set, on its special list) --frame_unshare--> private
 *   owned --frame_clear_allocated, last frame_put--> free
 *
 * Contents. A free frame is CLEAN (zero) or not. Whoever allocates with FA_ZERO, and every domain, gets
 * zeroes: frames that are not CLEAN are zeroed after arch_frame_settle(), when no processor can write through
 * a stale translation any more. Frames of a dying domain are zeroed when they are freed (nobody runs on its
 * translations) and become CLEAN; what a living domain gives back stays dirty until somebody takes it, and
 * counts as scrub_pending. A domain's frame keeps CLEAN from its allocation on; when it comes back
 * and the architecture says that nobody could write to it (arch_frame_untouched), it is still all zero. Much of the memory of
 * a guest that lives for a short time is never touched, so its end costs little. A debug build looks whether it is true.
 *
 * The budget is the number of free frames that no claim has promised away. Every allocation first takes its
 * size from the budget (or from its domain's own claim) and only then looks for blocks, so that a claim can
 * never be undercut.
 *
 * Invariants
 *  1. References are only added to a frame whose count is above 0 (frame_get*): a free or private frame
 * cannot be reached through a guest's number.
 *  2. References 0 implies neither ALLOCATED nor SPECIAL: the owner's and the hypervisor's own references are
 * counted.
 *  3. A frame goes back to the heap once: by the frame_put that took its references from 1 to 0, or by
 * frame_free.
 *  4. budget + sum of claims == free frames, when nothing is under way.
 * Locks: none here; heap.c and owner.c have theirs.
 */
#include "private.h"
#include "owner.h"
#include "core/cpumask.h"
#include "core/domain.h"
#include "core/log.h"
#include "core/console.h"
#include "core/perf.h"
#include "arch/cpu.h"
#include "arch/mem.h"

static int64_t budget;        /* [a] */
static uint64_t total_frames; /* [boot] */
static uint64_t dirty_frames; /* [a] free frames with a guest's data */

bool budget_take(uint64_t n, uint64_t floor)
{
    int64_t have = __atomic_load_n(&budget, __ATOMIC_RELAXED);

    do {
        if (have < 0 || (uint64_t)have < n || (uint64_t)have - n < floor)
            return false;
    } while (!__atomic_compare_exchange_n(&budget, &have, have - (int64_t)n, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return true;
}

void budget_give(uint64_t n)
{
    __atomic_fetch_add(&budget, (int64_t)n, __ATOMIC_ACQ_REL);
}

uint64_t budget_reserve(void)
{
    return MIN(total_frames / 128, 1024);
}

/* --- boot --- */

void frame_init(struct frame *table, uint64_t count)
{
    heap_init(table, count);
    owner_init();
    slab_init();
    scrub_init();
    budget = 0;
    total_frames = dirty_frames = 0;
    debug_key_register('m', "memory", frame_dump);
}

void frame_add_range(mfn_t start, mfn_t end, unsigned node)
{
    uint64_t from = start.n ? start.n : 1; /* frame 0 ends lists: it is never given out */

    BUG_ON(end.n > frame_count);
    if (start.n == 0 && end.n > 0) {
        heap_reserve_range(0, 1);
        total_frames++;
    }
    if (from >= end.n)
        return;
    heap_add_range(from, end.n, node);
    total_frames += end.n - from;
    budget_give(end.n - from);
}

void frame_reserve_range(mfn_t start, mfn_t end)
{
    BUG_ON(end.n > frame_count);
    if (start.n >= end.n)
        return;
    heap_reserve_range(start.n, end.n);
    total_frames += end.n - start.n;
}

/* --- hypervisor memory --- */

/* f, settled and in nobody's hands, is not known to be zero. */
static void clean_up(struct frame *f, bool zero)
{
    if (f->flags & FRAME_F_STALE)
        __atomic_fetch_sub(&dirty_frames, 1, __ATOMIC_RELAXED);
    if (zero) {
        perf_count(frames_scrubbed);
        arch_frame_zero(frame_mfn(f));
    }
    frame_flags_change(f, FRAME_F_STALE, zero ? FRAME_F_CLEAN : 0);
}

/* The block was taken, not all of it CLEAN. */
static __attribute__((noinline)) void clean_up_block(mfn_t m, unsigned order, bool zero)
{
    for (struct frame *f = mfn_frame(m), *end = f + (1ull << order); f < end; f++)
        if (!(f->flags & FRAME_F_CLEAN))
            clean_up(f, zero);
}

/* A block for the hypervisor: what its frames were before is forgotten. */
static void forget(mfn_t m, unsigned order)
{
    for (struct frame *f = mfn_frame(m), *end = f + (1ull << order); f < end; f++) {
        __atomic_store_n(&f->type, 0, __ATOMIC_RELAXED);
        f->next = f->prev = 0;
        frame_flags_change(f, FRAME_F_CLEAN, 0);
    }
}

static bool take_there(unsigned order, mfn_t m, bool *clean)
{
    if (!mfn_valid(m) || !heap_carve(m, order, clean))
        return false;
    for (uint64_t i = 0; i < 1ull << order; i++)
        mem_permit(arch_frame_va(MFN(m.n + i)), FRAME_SIZE);
    return true;
}

bool frame_take(unsigned order, unsigned bits, unsigned flags, unsigned node, mfn_t *out)
{
    bool clean;

    if (node == FRAME_ANY_NODE)
        node = arch_cpu_node(arch_cpu_id());
    else if (flags & FA_EXACT_NODE && node >= HEAP_NODES)
        return false;
    if (flags & FA_BELOW_4G)
        bits = MIN(bits, 32u);
    if (!(flags & FA_PLACE && take_there(order, *out, &clean)) &&
        !heap_take(order, bits, node, flags & FA_EXACT_NODE, out, &clean))
        return false;
    perf_count(frames_taken);
    arch_frame_settle(mfn_frame(*out), order);
    if (!clean)
        clean_up_block(*out, order, flags & FA_ZERO);
    return true;
}

bool frame_alloc_bits(unsigned order, unsigned bits, unsigned flags, unsigned node, mfn_t *out)
{
    if (order > FRAME_MAX_ORDER || !budget_take(1ull << order, 0))
        return false;
    if (frame_take(order, bits, flags, node, out)) {
        forget(*out, order);
        return true;
    }
    budget_give(1ull << order);
    return false;
}

bool frame_alloc(unsigned order, unsigned flags, unsigned node, mfn_t *out)
{
    return frame_alloc_bits(order, 64, flags, node, out);
}

void frame_free(mfn_t m, unsigned order)
{
    BUG_ON(!mfn_valid(m));
    if (m.n == 0) {
        BUG_ON(order); /* frame 0 stays ours for ever */
        return;
    }
    BUG_ON(order > FRAME_MAX_ORDER || m.n & ((1ull << order) - 1) || m.n + (1ull << order) > frame_count);
    for (uint64_t i = 0; i < 1ull << order; i++) {
        struct frame *f = mfn_frame(MFN(m.n + i));

        BUG_ON(__atomic_load_n(&f->count, __ATOMIC_RELAXED) ||
               __atomic_load_n(&f->owner, __ATOMIC_RELAXED) != FRAME_NO_OWNER);
    }
    heap_give(m, order);
    budget_give(1ull << order);
}

void *frame_alloc_va(unsigned order)
{
    mfn_t m;

    return frame_alloc(order, FA_ZERO, FRAME_ANY_NODE, &m) ? arch_frame_va(m) : NULL;
}

void frame_free_va(void *va, unsigned order)
{
    if (va)
        frame_free(arch_va_mfn(va), order);
}

/* --- references --- */

/* One more, if there is one already and the counter has room. */
static bool ref_if_used(struct frame *f)
{
    uint64_t c = __atomic_load_n(&f->count, __ATOMIC_RELAXED);

    do {
        uint64_t refs = c & FRAME_REF_MASK;

        if (!refs || refs == FRAME_REF_MASK || c & FRAME_BROKEN)
            return false;
    } while (!__atomic_compare_exchange_n(&f->count, &c, c + 1, true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
    return true;
}

bool frame_get(struct frame *f, const struct domain *d)
{
    if (unlikely(__atomic_load_n(&f->owner, __ATOMIC_RELAXED) != d->id.v) || unlikely(!ref_if_used(f)))
        return false;
    /* With a reference held the owner cannot change any more: what it is now counts. */
    if (likely(__atomic_load_n(&f->owner, __ATOMIC_RELAXED) == d->id.v))
        return true;
    frame_put(f);
    return false;
}

bool frame_get_any(struct frame *f, did_t *owner)
{
    if (!ref_if_used(f))
        return false;
    *owner = DID(__atomic_load_n(&f->owner, __ATOMIC_RELAXED));
    return true;
}

void frame_ref(struct frame *f)
{
    uint64_t refs = __atomic_fetch_add(&f->count, 1, __ATOMIC_RELAXED) & FRAME_REF_MASK;

    BUG_ON(refs == 0 || refs == FRAME_REF_MASK);
}

void frame_put(struct frame *f)
{
    uint64_t before = __atomic_fetch_sub(&f->count, 1, __ATOMIC_ACQ_REL);

    BUG_ON((before & FRAME_REF_MASK) == 0);
    if (likely((before & FRAME_REF_MASK) != 1))
        return;
    if (unlikely(before & (FRAME_ALLOCATED | FRAME_SPECIAL)))
        panic("frame %#llx: the owner's reference was dropped twice (count %#llx, owner d%u)",
              (unsigned long long)frame_mfn(f).n, (unsigned long long)before, f->owner);
    owner_frame_last_put(f);
}

bool frame_clear_allocated(struct frame *f)
{
    return __atomic_fetch_and(&f->count, ~FRAME_ALLOCATED, __ATOMIC_ACQ_REL) & FRAME_ALLOCATED;
}

/* Debug builds only: half a thousand reads. */
static __attribute__((unused)) bool frame_is_zero(mfn_t m)
{
    const uint64_t *p = arch_frame_va(m);

    for (unsigned i = 0; i < FRAME_SIZE / sizeof(*p); i++)
        if (p[i])
            return false;
    return true;
}

void frame_release_owned(struct frame *f, bool scrub)
{
    mfn_t m = frame_mfn(f);

    arch_frame_stamp(f);
    if (f->flags & FRAME_F_CLEAN && !arch_frame_untouched(f))
        frame_flags_change(f, FRAME_F_CLEAN, 0);
    __atomic_store_n(&f->type, 0, __ATOMIC_RELAXED);
    if (f->flags & FRAME_F_CLEAN) {
        ASSERT(frame_is_zero(m));
    } else if (scrub) {
        arch_frame_zero(m);
        frame_flags_change(f, 0, FRAME_F_CLEAN);
    } else {
        frame_flags_change(f, 0, FRAME_F_STALE);
        __atomic_fetch_add(&dirty_frames, 1, __ATOMIC_RELAXED);
    }
    if (unlikely(__atomic_load_n(&f->count, __ATOMIC_RELAXED) & FRAME_LEAVING)) {
        __atomic_store_n(&f->count, FRAME_BROKEN, __ATOMIC_RELEASE);
        return;
    }
    heap_give(m, 0);
    budget_give(1);
}

/* --- figures --- */

void frame_info(struct frame_info *out)
{
    uint64_t owned = owner_frames();

    *out = (struct frame_info){.total = total_frames, .free = heap_free_frames()};
    out->claimed = owner_claims();
    out->scrub_pending = __atomic_load_n(&dirty_frames, __ATOMIC_RELAXED);
    out->hypervisor = out->total - MIN(out->total, out->free + owned);
}

void frame_room_check(void)
{
    heap_check();
    BUG_ON((uint64_t)__atomic_load_n(&budget, __ATOMIC_RELAXED) + owner_claims() != heap_free_frames());
    for (uint64_t n = 0; n < frame_count; n++) {
        const struct frame *f = &frame_table[n];
        uint64_t refs = f->count & FRAME_REF_MASK;

        BUG_ON(!refs && f->count & (FRAME_ALLOCATED | FRAME_SPECIAL));
        BUG_ON(refs && (f->flags & (FRAME_F_RAM | FRAME_F_FREE)) != FRAME_F_RAM);
        BUG_ON(refs && f->owner == FRAME_NO_OWNER);
    }
}

void frame_dump(void)
{
    struct frame_info i;

    frame_info(&i);
    console_printf(
        "memory (KiB): total %llu, free %llu (claimed %llu, to be scrubbed %llu), hypervisor %llu\n",
        (unsigned long long)i.total * 4, (unsigned long long)i.free * 4, (unsigned long long)i.claimed * 4,
        (unsigned long long)i.scrub_pending * 4, (unsigned long long)i.hypervisor * 4);
    for (unsigned n = 0; n < HEAP_NODES; n++)
        if (frame_free_node(n))
            console_printf("  node %u: free %llu KiB\n", n, (unsigned long long)frame_free_node(n) * 4);
    slab_dump();
    owner_dump();
}
