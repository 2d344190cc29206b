/* THE SEAM: kinds of guest. Chosen once at creation as a const table of the domain (house plan, decision 4). */
#ifndef ARCH_GUEST_OPS_H
#define ARCH_GUEST_OPS_H

#include "core/types.h"

struct domain;
struct vcpu;
struct hypercall;
struct arch_guest_ops; /* the architecture's own part of the table */

struct guest_ops {
    const char *name;                                                /* "pv", "hvm" */
    bool translated;                                                 /* gfn != mfn: has a p2m of its own */
    bool (*copy_in)(struct vcpu *v, void *to, gva_t from, size_t n); /* false = fault */
    bool (*copy_out)(struct vcpu *v, gva_t to, const void *from, size_t n);
    bool (*zero)(struct vcpu *v, gva_t to, size_t n);
    void (*kick)(struct vcpu *v); /* extra work beyond the IPI when events arrive; may be NULL */
    /* Something beside pending events keeps v from blocking; may be NULL */
    bool (*awake)(struct vcpu *v);
    /* v, which runs, would be told of events now. NULL: evtchn_upcall_mask says so. */
    bool (*listens)(const struct vcpu *v);
    const struct arch_guest_ops *arch;
};
extern const struct guest_ops pv_guest_ops;

/* The architecture's part of life. Objects are allocated by the architecture: its struct begins with the core's. */
struct domain *arch_domain_alloc(void); /* zeroed */
void arch_domain_free(struct domain *d);
struct vcpu *arch_vcpu_alloc(struct domain *d);
void arch_vcpu_free(struct vcpu *v);
int must_check arch_domain_init(struct domain *d, uint32_t flags); /* after the core's parts exist */
int must_check arch_vcpu_init(struct vcpu *v);                     /* also for idle vCPUs */
/* Destruction: drop page tables, special references, device rights. Preemptible: -EAGAIN = again. */
int must_check arch_domain_release(struct domain *d);
/* Device models and ways of announcing events go; d's vCPUs do not run, its lock is held. Translated domains only. */
int must_check arch_domain_soft_reset(struct domain *d);
/* VCPUOP_initialise, DOMCTL_setvcpucontext: takes a vcpu_guest_context from the caller's memory. v does not run. *online: the
 * context says that it is up. -EINVAL, -EFAULT, -EAGAIN (preempted: call again). */
int must_check arch_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online);
/* Drops what the context of v holds (page tables, descriptor tables). v does not run. -EAGAIN: call again. */
int must_check arch_vcpu_unload(struct vcpu *v);
/* VCPUOP_up on a fresh vCPU etc. need nothing more; SCHEDOP_shutdown of the last vCPU: SHUTDOWN_suspend hooks later. */
void arch_vcpu_reset(struct vcpu *v);
/* VCPUOP_send_nmi. */
int must_check arch_vcpu_nmi(struct vcpu *v);
/* The vCPU's arch state in the log (debug key '0', crash). */
void arch_vcpu_dump(struct vcpu *v);
/* Features of XENVER_get_features for d, submap 0. */
uint32_t arch_features(const struct domain *d);
const char *arch_capabilities(void);              /* "xen-3.0-x86_64 ..." */
uint64_t arch_virt_start(const struct domain *d); /* XENVER_platform_parameters */
/* Global VIRQs and physical interrupts: evtchn bind_pirq / unbind / unmask for a guest. */
int must_check arch_pirq_bind(struct vcpu *v, uint32_t pirq, bool will_share);
void arch_pirq_unbind(struct domain *d, uint32_t pirq);
void arch_pirq_unmask(struct domain *d,
                      uint32_t pirq); /* EVTCHNOP_unmask of a PIRQ port = end of interrupt if level */
/* May d's event channel be bound to this pirq? */
bool arch_pirq_allowed(const struct domain *d, uint32_t pirq);
/* Moves the interrupt to the CPU of v (bind_vcpu of a PIRQ port); best effort. */
void arch_pirq_set_affinity(struct domain *d, uint32_t pirq, struct vcpu *v);
/* runstate / time areas written into guest memory of v when it is current: false = fault (area dropped). */
bool arch_vcpu_area_write(struct vcpu *v, gva_t to, const void *from, size_t n);

#endif
