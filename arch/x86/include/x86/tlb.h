/* TLB flushes over CPUs, and the stamp clock that lets freed frames wait for lazy flushes.
 * (arch/x86/mm/tlb.c; test/fake on the host) */
#ifndef X86_TLB_H
#define X86_TLB_H

#include "core/types.h"
#include "core/cpumask.h"

#define TLB_FLUSH_ALL 0 /* everything non-global (guests have no global pages) */
#define TLB_FLUSH_VA  1 /* one page */
#define TLB_FLUSH_LDT                                                                                        \
    2 /* also drop the lazily mapped LDT window of the CPU's current vCPU is the caller's job first */
#define TLB_FLUSH_GUESTS                                                                                     \
    3 /* nothing of Krypton's own: the CPU leaves its HVM guest, and no section with interrupts off goes on that had begun before */

/* Flushes on the given CPUs and waits for them; interrupts must be on if other CPUs are named. */
void tlb_flush_cpus(const struct cpumask *cpus, unsigned kind, gva_t va);
void tlb_flush_local(void);
/* VEC_FLUSH, interrupts off. */
void tlb_flush_interrupt(void);
void tlb_flush_local_va(gva_t va);
/* WBINVD on the given CPUs, waits (arch/x86/pv/cache_flush.c). */
void cache_flush_cpus(const struct cpumask *cpus);
/* Global clock of flushes. */
uint32_t tlb_stamp(void);
/* The CPUs of `cpus` which have not flushed since `stamp` are flushed. */
void tlb_flush_older(const struct cpumask *cpus, uint32_t stamp);

#endif
