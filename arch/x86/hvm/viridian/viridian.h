/*
 * Viridian: the Hyper-V interface (Microsoft's Top Level Functional Specification, TLFS) for guests whose toolstack asks for it by
 * HVM_PARAM_VIRIDIAN (xen/hvm/params.h). Host-testable: knows the vCPU, its local APIC, its p2m, time and timers, no processor.
 *
 * A domain without it has hvm_domain.viridian == NULL and none of this is called for it.
 */
#ifndef HVM_VIRIDIAN_H
#define HVM_VIRIDIAN_H

#include "x86/hvm.h"

struct cpuid_leaf;
struct hvm_viridian_domain_context;
struct hvm_viridian_vcpu_context;

#define VIRIDIAN_LEAF     0x40000000u
#define VIRIDIAN_CALL     0x80000000u /* in EAX: not a hypercall of Xen's */
/* How far Xen's own leaves, and the MSR of its hypercall page, make room. */
#define VIRIDIAN_XEN_LEAF 0x100u
#define VIRIDIAN_XEN_MSR  0x40000200u

/* Not inlined: what is seldom called, or from where guests without it come along too. */

/* --- life.c --- */
/* The domain gets these groups. d->lock held; d has never run. -EINVAL, -EEXIST (it has others), -EBUSY (it runs), -ENOMEM. */
int must_check viridian_set(struct domain *d, uint64_t features);
int must_check viridian_vcpu_init(struct vcpu *v); /* of a domain that has it; else nothing */
void viridian_vcpu_free(struct vcpu *v);
__attribute__((noinline)) void viridian_vcpu_reset(struct vcpu *v); /* v does not run */
void viridian_reset(struct domain *d);                              /* a new kernel; none of its vCPUs runs */
void viridian_stop(struct domain *d);                               /* a dying domain: timers and pages go */
void viridian_free(struct domain *d);

/* --- cpuid.c --- */
void viridian_cpuid(struct vcpu *v, uint32_t leaf, struct cpuid_leaf *out);

/* --- msr.c: of the current vCPU. False: #GP --- */
bool viridian_owns_msr(uint32_t msr);
bool viridian_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value);
bool viridian_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value);

/* --- call.c --- */
struct viridian_call {
    uint64_t input;   /* code, flags, counts (TLFS 3.7) */
    uint64_t in, out; /* addresses of parameters, or the parameters themselves (fast) */
};
/* The current vCPU's; the result value. */
__attribute__((noinline)) uint64_t viridian_call(struct vcpu *v, const struct viridian_call *c);
/* The guest's hypercall page is there. */
bool viridian_calls(const struct domain *d);

/* --- synic.c: ends of interrupts, on the current vCPU --- */
/* The local APIC has just given this vector. */
__attribute__((noinline)) void viridian_taken(struct vcpu *v, uint8_t vector);
/* While hvm_vcpu.lazy_eoi: has the guest ended its interrupt without telling? */
__attribute__((noinline)) void viridian_look(struct vcpu *v);

/* --- time.c --- */
/* vCPU 0's TSC was set. */
__attribute__((noinline)) void viridian_tsc_moved(struct domain *d);

/* --- save.c: records of xen/arch-x86/hvm/save.h; the domain is paused. set: -EINVAL, the page is not there --- */
void viridian_get_domain(struct domain *d, struct hvm_viridian_domain_context *c);
void viridian_get_vcpu(struct vcpu *v, struct hvm_viridian_vcpu_context *c);
void viridian_set_domain(struct domain *d, const struct hvm_viridian_domain_context *c);
int must_check viridian_set_vcpu(struct vcpu *v, const struct hvm_viridian_vcpu_context *c);

/* --- what it needs: hvm/hypercall.c, the host tests' own --- */
/* No translation that these vCPUs of the caller's domain made before (bit i of the set: vCPU i) is used any more. */
void hvm_flush_vcpus(struct vcpu *caller, const uint64_t *set);

#endif
