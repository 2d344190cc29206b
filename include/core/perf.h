/*
 * Software performance counters (xen/sysctl.h perfc_op, shown by xenperf): events since the start or the last reset, per CPU.
 *
 * Debug builds count; a release does only if built with PERFC=1, because finding this CPU's counters takes three instructions more.
 * A count is one addition to memory of this CPU's own, not atomic: an interrupt in between may lose one. Rows beside an array's name
 * are its elements; the others are single. The list is the interface's order.
 */
#ifndef CORE_PERF_H
#define CORE_PERF_H

#include "core/types.h"

#define PERF_ARRAYS(A)                                                                                       \
    A(hypercalls, "hypercalls", 64)                                                                          \
    A(exceptions, "exceptions", 32)                                                                          \
    A(hvm_exits, "HVM guests: exits by kind", 32)

#define PERF_SINGLES(S)                                                                                      \
    S(hypercalls_again, "hypercalls: preempted")                                                             \
    S(page_fault_fixups, "exceptions: page faults answered by Krypton")                                      \
    S(privileged_ops, "exceptions: privileged instructions emulated")                                        \
    S(ptwr_emulations, "page tables: writes emulated")                                                       \
    S(validate_seg, "page types: descriptor pages validated")                                                \
    S(validate_l1, "page tables: L1 validated")                                                              \
    S(validate_l2, "page tables: L2 validated")                                                              \
    S(validate_l3, "page tables: L3 validated")                                                              \
    S(validate_l4, "page tables: L4 validated")                                                              \
    S(type_changes, "page types: changed")                                                                   \
    S(tlb_flushes, "TLB: flushes of this CPU")                                                               \
    S(tlb_requests, "TLB: flushes asked of other CPUs")                                                      \
    S(interrupts, "interrupts: devices")                                                                     \
    S(timer_interrupts, "interrupts: local timer")                                                           \
    S(ipis_sent, "interrupts: sent to other CPUs")                                                           \
    S(sched_runs, "sched: runs through scheduler")                                                           \
    S(context_switches, "sched: context switches")                                                           \
    S(migrations, "sched: vCPUs moved to another CPU")                                                       \
    S(timers_fired, "timers: fired")                                                                         \
    S(event_sends, "events: sent by guests")                                                                 \
    S(event_virqs, "events: virtual interrupts")                                                             \
    S(event_pirqs, "events: device interrupts")                                                              \
    S(grant_maps, "grants: mapped")                                                                          \
    S(grant_unmaps, "grants: unmapped")                                                                      \
    S(grant_copies, "grants: copies")                                                                        \
    S(frames_taken, "frames: blocks allocated")                                                              \
    S(frames_given, "frames: blocks freed")                                                                  \
    S(frames_scrubbed_idle, "frames: zeroed by an idle CPU")                                                 \
    S(frames_scrubbed, "frames: zeroed for a new owner")                                                     \
    S(domains_created, "domains: created")

enum perf_counter {
#define PERF_A(id, name, n) PERF_##id, PERF_##id##_last = PERF_##id + (n)-1,
#define PERF_S(id, name)    PERF_##id,
    PERF_ARRAYS(PERF_A) PERF_SINGLES(PERF_S) PERF_VALUES
#undef PERF_A
#undef PERF_S
};

/* This CPU's counters: PERF_VALUES of them, somewhere from its first instruction on (include/arch/cpu.h). */
uint32_t *arch_perf(void);
#if defined(DEBUG) || defined(PERF_COUNTERS)
#define PERF_COUNTED         1
#define perf_count_in(id, i) ((void)arch_perf()[PERF_##id + (i)]++)
#else
#define PERF_COUNTED         0
#define perf_count_in(id, i) ((void)(i))
#endif
#define perf_count(id) perf_count_in(id, 0)

/* Where the CPU is to count; the same address for CPUs that there is no memory for (their counts are not shown). */
uint32_t *perf_cpu_area(unsigned cpu);
uint64_t perf_sum(unsigned value); /* over all CPUs */
uint32_t perf_of_cpu(unsigned cpu, unsigned value);
void perf_reset(void);

#endif
