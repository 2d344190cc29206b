/*
 * Kinds of guest on x86: what the architecture does differently for PV and HVM guests, one table for each (struct guest_ops.arch).
 * arch/x86/guest dispatches the seam's questions (include/arch/guest_ops.h) through it and does itself what is the same for all.
 */
#ifndef X86_GUEST_H
#define X86_GUEST_H

#include "arch/guest_ops.h"
#include "core/hypercall.h"
#include "lib/string.h"
#include "x86/vcpu.h"

struct vcpu_guest_context;
struct arch_guest_ops {
    /* Domains. init: after policy, rights and PIRQs exist; on failure free() is called. */
    int (*domain_init)(struct domain *d, uint32_t flags);
    void (*domain_free)(struct domain *d);
    int (*domain_release)(struct domain *d);     /* -EAGAIN: again */
    void (*domain_soft_reset)(struct domain *d); /* NULL: there is none */

    /* vCPUs; none of them is an idle one. */
    int (*vcpu_init)(struct vcpu *v);
    void (*vcpu_free)(struct vcpu *v); /* also after a vcpu_init that failed */
    void (*vcpu_reset)(struct vcpu *v);
    int (*vcpu_initialise)(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online);
    int (*vcpu_unload)(struct vcpu *v); /* -EAGAIN: again */
    int (*vcpu_nmi)(struct vcpu *v);
    void (*vcpu_dump)(struct vcpu *v);
    void (*vcpu_context)(struct vcpu *v, struct vcpu_guest_context *c); /* v does not run */
    /* runstate and time records of v, the current vCPU */
    bool (*area_write)(struct vcpu *v, gva_t to, const void *from, size_t n);

    /* The switch, interrupts off: from the processor into memory and back; then into the guest. */
    void (*save)(struct x86_vcpu *x);
    void (*load)(struct x86_vcpu *x);
    __attribute__((noreturn)) void (*resume)(void);

    uint32_t (*features)(const struct domain *d);
    uint64_t (*virt_start)(const struct domain *d);
};
extern const struct arch_guest_ops pv_arch_ops, hvm_arch_ops;

static inline const struct arch_guest_ops *guest_kind(const struct domain *d)
{
    return d->ops->arch;
}

/* --- hypercall arguments in 64-bit registers: xen/arch-x86/xen-x86_64.h --- */
static inline struct hypercall hypercall_of(struct vcpu *v, const struct guest_regs *r)
{
    return (struct hypercall){
        .caller = v, .nr = (uint32_t)r->rax, .arg = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9}};
}
/* Those that a preempted one has moved on. */
static inline void hypercall_write_back(const struct hypercall *hc, struct guest_regs *r)
{
    r->rdi = hc->arg[0];
    r->rsi = hc->arg[1];
    r->rdx = hc->arg[2];
    r->r10 = hc->arg[3];
    r->r8 = hc->arg[4];
    r->r9 = hc->arg[5];
}

/* --- the fifteen general registers, with which struct guest_regs and the interface's struct cpu_user_regs begin in the same order --- */
#define GENERAL_REGISTERS offsetof(struct guest_regs, error_code)
_Static_assert(offsetof(struct cpu_user_regs, error_code) == GENERAL_REGISTERS &&
                   offsetof(struct cpu_user_regs, rbx) == offsetof(struct guest_regs, rbx) &&
                   offsetof(struct cpu_user_regs, rax) == offsetof(struct guest_regs, rax) &&
                   offsetof(struct cpu_user_regs, rdi) == offsetof(struct guest_regs, rdi),
               "xen/arch-x86/xen-x86_64.h");
static inline void general_registers_out(struct cpu_user_regs *u, const struct guest_regs *r)
{
    memcpy(u, r, GENERAL_REGISTERS);
}
static inline void general_registers_in(struct guest_regs *r, const struct cpu_user_regs *u)
{
    memcpy(r, u, GENERAL_REGISTERS);
}

/* --- arch/x86/guest/fpu.c: the whole XSAVE state of a vCPU, eager; interrupts off --- */
void fpu_reset(struct x86_vcpu *x);
void fpu_save(struct x86_vcpu *x);
void fpu_load(struct x86_vcpu *x);
/* XMM n of current x, for an instruction that is executed for it (one that the processor had let pass: x has not switched it off). */
void fpu_vector(struct x86_vcpu *x, unsigned n, bool write, uint64_t value[2]);

/* --- arch/x86/guest/xstate.c: the same as the interface has it: XCR0, components, area --- */
/* XSAVEOPT leaves out what is in its initial state: puts that state there. */
void xstate_complete(const struct x86_vcpu *x);
size_t xstate_size(struct vcpu *v); /* 0: there is none */
void xstate_get(struct vcpu *v, void *to);
/* What could fault when it is loaded is refused (-EINVAL) or made harmless: Krypton loads it. */
int must_check xstate_check(const struct vcpu *v, const void *from, size_t size);
void xstate_set(struct vcpu *v, const void *from, size_t size); /* checked */

/* --- arch/x86/guest/policy.c: CPUID and MSR policies (x86/policy.h) --- */
struct cpu_policy;
struct policy_host;
void guest_policy_init(void);                        /* once, the processor's features known */
const struct cpu_policy *guest_policy_max(bool hvm); /* all that any guest of the kind may be shown */
void guest_policy_host(struct policy_host *h);
/* The policy that d begins with. -ENOMEM. */
int must_check guest_policy_domain_init(struct domain *d);

/* What another domain has taught the branch predictors must not steer this one, nor Krypton on its behalf. */
void leave_last_domain(const struct vcpu *next);

#endif
