/* THE SEAM: processors. What core may ask of a machine. */
#ifndef ARCH_CPU_H
#define ARCH_CPU_H

#include "core/types.h"

struct vcpu;

unsigned arch_cpu_id(void);           /* the CPU this runs on: 0 .. cpu_count()-1 */
unsigned arch_cpu_node(unsigned cpu); /* NUMA node, below FRAME_NODES */
void arch_cpu_place(unsigned cpu, uint32_t *core, uint32_t *socket); /* its core's number within its socket */
unsigned arch_node_count(void);                                      /* 1 .. FRAME_NODES */
uint32_t arch_node_distance(unsigned a, unsigned b);                 /* 10 = local; ~0u = not known */
struct vcpu *arch_current(void);                                     /* read only at entry and dispatch */
bool arch_irq_enabled(void);
void arch_irq_disable(void);
void arch_irq_enable(void);
unsigned long arch_irq_save(void); /* disables; returns what restore needs */
void arch_irq_restore(unsigned long flags);
void arch_cpu_relax(void);
void arch_cpu_kick(
    unsigned cpu);        /* IPI: the target runs its deferred work / looks for events. Interrupt-safe */
void arch_cpu_idle(void); /* called with interrupts off and no work pending; returns with them on */

/* Saves prev's registers, calls sched_context_saved(prev), makes next current and resumes it: does not return
 * unless prev == next. next may be this CPU's idle vCPU. Interrupts are off on entry. */
void arch_context_switch(struct vcpu *prev, struct vcpu *next);
/* Where an idle vCPU begins: core's loop. */
__attribute__((noreturn)) void sched_idle_loop(void);

__attribute__((noreturn)) void arch_machine_restart(void);
__attribute__((noreturn)) void arch_machine_poweroff(void);
/* End of a panic: stop other CPUs, print registers and trace, then stop or reboot as the options say. */
void arch_panic_begin(void);
__attribute__((noreturn)) void arch_panic_end(void);

#endif
