/*
 * TLB flushes on any set of CPUs, and the clock of flushes.
 *
 * Nothing is global (CR4.PGE = 0) and there are no PCIDs: loading CR3 empties the TLB. Loads of CR3 elsewhere
 * (context switch, guest mode switch) also flush, but are not recorded: that errs on the safe side.
 *
 * The clock ticks at each full flush. last_flush[cpu] = the tick at which the CPU began its last full flush.
 * A frame is stamped with the clock when a mapping of it has gone; a CPU whose last flush began at a later
 * tick cannot hold it. After 2^32 - 1 ticks the clock stands at 0 = "unknown" (every question is answered by
 * a flush) until a full flush of all CPUs, begun by the next one that may wait, has brought a new era.
 *
 * A request: the initiator fills its own slot, marks itself in the target's mask, sends the IPI and waits;
 * the target serves every marked initiator. One slot per CPU suffices: an initiator waits, interrupts on, not
 * preempted.
 *
 * Invariants
 *  1. request[i].pending is the number of CPUs that still have to serve i; the slot changes only while it is
 * 0.
 *  2. last_flush[cpu] <= clock, in one era.
 * Locks: none. Waiting CPUs serve others' requests (interrupts are on), so two initiators cannot block each
 * other.
 */
#include "x86/tlb.h"
#include "../metal/pvregs.h"
#include "arch/cpu.h"
#include "core/log.h"
#include "core/perf.h"
#include "x86/platform.h"
#include "x86/percpu.h"
#include "x86/regs.h"
#include "x86/spec.h"

struct request {
    uint32_t pending, kind;
    uint64_t va;
} __attribute__((aligned(64)));

static struct request request[MAX_CPUS];
static struct cpumask wanted_by[MAX_CPUS];
static uint32_t clock = 1, last_flush[MAX_CPUS];

/* The clock one further; 0 = it stands still until a new era. */
static uint32_t tick(void)
{
    uint32_t now = __atomic_load_n(&clock, __ATOMIC_SEQ_CST);

    while (now &&
           !__atomic_compare_exchange_n(&clock, &now, now + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return now ? now + 1 : 0;
}

void tlb_flush_local(void)
{
    unsigned long flags = arch_irq_save();
    uint32_t now = tick();

    perf_count(tlb_flushes);
    hw_write_cr3(hw_read_cr3());
    if (xpti_active())
        cpu_info()->flags |= CPUF_ROOT_STALE;
    __atomic_store_n(&last_flush[arch_cpu_id()], now, __ATOMIC_RELEASE);
    arch_irq_restore(flags);
}

void tlb_flush_local_va(gva_t va)
{
    hw_invlpg(va.a);
}

static void serve(uint32_t kind, uint64_t va)
{
    if (kind == TLB_FLUSH_VA)
        hw_invlpg(va);
    else if (kind != TLB_FLUSH_GUESTS) /* those are left behind by coming here */
        tlb_flush_local();
}

void tlb_flush_interrupt(void)
{
    unsigned self = arch_cpu_id();

    for_each_cpu(i, &wanted_by[self])
    {
        struct request *r = &request[i];

        cpumask_clear(&wanted_by[self], i);
        serve(r->kind, r->va);
        __atomic_fetch_sub(&r->pending, 1, __ATOMIC_RELEASE);
    }
}

static void ask(const struct cpumask *others, unsigned kind, gva_t va)
{
    unsigned self = arch_cpu_id();
    struct request *r = &request[self];

    perf_count(tlb_requests);
    r->kind = kind;
    r->va = va.a;
    __atomic_store_n(&r->pending, cpumask_count(others), __ATOMIC_RELEASE);
    for_each_cpu(c, others) cpumask_set(&wanted_by[c], self);
    apic_send_ipi_mask(others, VEC_FLUSH);
}

static void wait_for_answers(void)
{
    const struct request *r = &request[arch_cpu_id()];

    while (__atomic_load_n(&r->pending, __ATOMIC_ACQUIRE))
        arch_cpu_relax();
}

/* The CPUs of the set that are online, without this one. False: none. */
static __attribute__((noinline)) bool others_of(const struct cpumask *cpus, unsigned self,
                                                struct cpumask *others)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(others->w); i++) {
        uint64_t w = cpumask_word(cpus, i) & cpumask_word(&cpus_online, i);

        if (i == self / 64)
            w &= ~(1ull << (self % 64));
        others->w[i] = w;
        any |= w;
    }
    return any;
}

static void flush(const struct cpumask *cpus, unsigned kind, gva_t va)
{
    struct cpumask others;
    unsigned self = arch_cpu_id();
    bool mine = cpumask_test(cpus, self);

    if (!cpumask_others(cpus, self) || !others_of(cpus, self, &others)) {
        if (mine)
            serve(kind, va.a);
        return;
    }
    ASSERT(arch_irq_enabled());
    ask(&others, kind, va);
    if (mine)
        serve(kind, va.a);
    wait_for_answers();
}

/* The clock has come to its end: when every CPU has flushed, no stamp of the old era means anything any more. */
static void new_era(void)
{
    static uint32_t busy;

    if (likely(__atomic_load_n(&clock, __ATOMIC_RELAXED)) || !arch_irq_enabled() ||
        __atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE))
        return;
    if (!__atomic_load_n(&clock, __ATOMIC_SEQ_CST)) {
        flush(&cpus_online, TLB_FLUSH_ALL, GVA(0));
        __atomic_store_n(&clock, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

void tlb_flush_cpus(const struct cpumask *cpus, unsigned kind, gva_t va)
{
    flush(cpus, kind, va);
    new_era();
}

uint32_t tlb_stamp(void)
{
    return __atomic_load_n(&clock, __ATOMIC_SEQ_CST);
}

/* Stamps above the clock are of an old era, whose end was a flush of all. */
static bool may_hold(unsigned cpu, uint32_t stamp, uint32_t now)
{
    return !now || (stamp <= now && __atomic_load_n(&last_flush[cpu], __ATOMIC_ACQUIRE) <= stamp);
}

void tlb_flush_older(const struct cpumask *cpus, uint32_t stamp)
{
    struct cpumask m = {{0}};
    uint32_t now = tlb_stamp();

    for_each_cpu(c, cpus) if (may_hold(c, stamp, now)) m.w[c / 64] |= 1ull << (c % 64);
    if (!cpumask_empty(&m))
        flush(&m, TLB_FLUSH_ALL, GVA(0));
    new_era();
}
