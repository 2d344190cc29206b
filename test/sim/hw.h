/* In front of arch/x86/mm/tlb.c in a simulation, in place of the registers of a real processor: the protocol of
 * flushes between CPUs runs as it is, on simulated TLBs (test/sim/machine.c). */
#ifndef METAL_PVREGS_H
#define METAL_PVREGS_H

#include "x86/percpu.h"
#include "x86/spec.h"

uint64_t hw_read_cr3(void);
void hw_write_cr3(uint64_t v);
void hw_invlpg(uint64_t va);
struct cpu_info *sim_cpu_info(void);
#define cpu_info()    sim_cpu_info()
#define xpti_active() false

#endif
