/*
 * The PV MMU: guest frame numbers and freed frames (include/arch/mem.h). A PV guest names machine frames; its
 * own numbering is recorded in the machine-to-physical table only, for its own use.
 */
#include "types.h"
#include "arch/mem.h"
#include "core/cpumask.h"
#include "x86/mm.h"
#include "x86/tlb.h"

void pv_physmap_add(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    uint64_t last = g.n + (1ull << order) - 1, *max = &x86_domain(d)->p2m_max_pfn;
    uint64_t was = __atomic_load_n(max, __ATOMIC_RELAXED);

    m2p_set_block(m, g.n, 1ull << order);
    while (was < last &&
           !__atomic_compare_exchange_n(max, &was, last, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

void pv_physmap_remove(mfn_t m, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++)
        m2p_set(MFN(m.n + i), M2P_INVALID);
}

void arch_frame_stamp(struct frame *f)
{
    __atomic_store_n(&f->stamp, tlb_stamp(), __ATOMIC_RELAXED);
}

/* The newest stamp that is not above now; 0: none. */
static __attribute__((noinline)) uint32_t newest_until(const struct frame *f, const struct frame *end,
                                                       uint32_t now)
{
    uint32_t newest = 0;

    for (; f < end; f++)
        if (f->stamp > newest && f->stamp <= now)
            newest = f->stamp;
    return newest;
}

/* Stamp 0: nobody had the frame yet. A stamp above the clock is from before a flush of all CPUs; a clock that
 * stands at 0 knows nothing (tlb.c). */
void arch_frame_settle(struct frame *f, unsigned order)
{
    const struct frame *first = f, *end = f + (1ull << order);
    uint32_t newest = 0, now = tlb_stamp();

    for (; end - f >= 4; f += 4)
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++)
            newest = MAX(newest, f[i].stamp);
    for (; f < end; f++)
        newest = MAX(newest, f->stamp);
    if (unlikely(newest > now))
        newest = newest_until(first, end, now);
    if (newest || !now)
        tlb_flush_older(&cpus_online, newest);
}
