/* THE SEAM: time. */
#ifndef ARCH_TIME_H
#define ARCH_TIME_H

#include "core/types.h"

struct vcpu;
struct domain;

uint64_t arch_cycles(void);  /* this CPU's cycle counter, as guests read it: time stamp of trace records */
uint64_t arch_time_ns(void); /* ns since boot, monotonic on all CPUs */
void arch_timer_program(
    uint64_t deadline_ns); /* this CPU: WORK_TIMER at about this time; ~0ull = off. Interrupts off */
void arch_wallclock(uint64_t *sec, uint32_t *nsec); /* UTC now */
void arch_wallclock_set(uint64_t sec, uint32_t nsec, uint64_t system_time_ns);
/* Writes the wall clock (version protocol) into d's shared_info. */
void arch_wallclock_publish(struct domain *d);
/* Writes v's time record into its vcpu_info (and time area): when it begins to run and when calibration changes. */
void arch_vcpu_time_publish(struct vcpu *v);

#endif
