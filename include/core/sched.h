/*
 * Who runs where. The framework (core/sched/sched.c) owns runnability, runstate and the switch; a policy
 * (credit.c) is a leaf behind struct sched_policy. Proportional share: weight 256 default, cap in percent of
 * a CPU.
 *
 * The switch: WORK_SCHEDULE -> sched_run() -> arch_context_switch(prev, next): never returns when next !=
 * prev.
 */
#ifndef CORE_SCHED_H
#define CORE_SCHED_H

#include "core/types.h"
#include "core/hypercall.h"
#include "core/cpumask.h"

struct vcpu;
struct domain;

void sched_init(void);                       /* boot CPU; registers WORK_SCHEDULE */
int must_check sched_init_cpu(unsigned cpu); /* each CPU, creates its idle vCPU; before it goes online */
struct vcpu *sched_idle_vcpu(unsigned cpu);
/* Its CPU pool is the given one; a system domain has none. -ENOMEM, -ENOENT. */
int must_check sched_domain_init(struct domain *d, uint32_t cpupool);
/* A dying domain does not keep its pool busy. */
void sched_domain_retire(struct domain *d);
void sched_domain_free(struct domain *d);
int must_check sched_vcpu_init(struct vcpu *v);
void sched_vcpu_free(struct vcpu *v); /* v does not run and never will */

/* Runnable or not may have changed: puts v on a run queue or takes it off. Interrupt-safe. */
void vcpu_wake(struct vcpu *v);
void vcpu_sleep_nosync(struct vcpu *v);
void vcpu_sleep_sync(struct vcpu *v); /* returns when v's state is saved; never on v itself */
/* The caller's vCPU: block unless events are pending; yield. Take effect on the way back to the guest. */
void vcpu_block(struct vcpu *v);
void vcpu_unblock(struct vcpu *v); /* clears BLOCKED / POLLING and wakes */
/* The caller's vCPU waits for a device model, whatever events come: begin, look whether the answer has come, and if so end; else it
 * sleeps on its way to the guest. End: from any context. */
void vcpu_device_wait(struct vcpu *v);
void vcpu_device_done(struct vcpu *v);
void vcpu_yield(struct vcpu *v);
bool vcpu_runnable(const struct vcpu *v);
/* Events for v: if it runs on another CPU, make that CPU look (IPI). Interrupt-safe. */
void vcpu_kick(struct vcpu *v);
/* Called by arch_context_switch as soon as prev's registers are in memory: others may run it now. */
void sched_context_saved(struct vcpu *prev);

/* NULL: stays. -EINVAL: nothing of it is in the pool; -EBUSY: pin_override holds. */
int must_check sched_set_affinity(struct vcpu *v, const struct cpumask *hard, const struct cpumask *soft);
/* As they were set, and what of them is in force: within the pool, and the soft one within the hard one. */
struct sched_affinity {
    struct cpumask hard, soft, hard_now, soft_now;
};
void sched_get_affinity(struct vcpu *v, struct sched_affinity *out);
/* The CPU pool that d belongs to; CPUPOOL_ANY: none, a system domain. */
uint32_t sched_domain_pool(const struct domain *d);
struct sched_params {
    uint32_t weight, cap; /* cap: percent of a CPU, 0 = none */
};
int must_check sched_set_params(struct domain *d, uint32_t weight, uint32_t cap);
void sched_get_params(struct domain *d, struct sched_params *out);
/* ns v has run; ns a CPU has idled. */
uint64_t sched_vcpu_time(struct vcpu *v);
uint64_t sched_idle_time(unsigned cpu);
/* Runstate of v as of now (for VCPUOP_get_runstate_info). */
struct vcpu_runstate_info;
void sched_runstate(struct vcpu *v, struct vcpu_runstate_info *out);
void sched_room_check(void);
void sched_dump(void); /* debug key 'r' */

/* The vCPU's choice of CPU for a while (SCHEDOP_pin_override): cpu < 0 gives the affinity back that it had.
 * -EINVAL. */
int must_check sched_pin_override(struct vcpu *v, int cpu);

extern const struct hc_op sched_ops[]; /* SCHEDOP_* : core/sched/ops.c */
extern const unsigned sched_op_count;
long do_sched_op_compat(struct hypercall *hc); /* yield and block of 2005 */

#endif
