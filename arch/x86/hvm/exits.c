/*
 * Exits: one table, no vendor. And what is done before the guest goes on.
 *
 *   vendor's entry code -> hvm_handle_exit(exit) -> row -> verdict -> instruction pointer or exception
 *                       <- hvm_before_entry: work, INIT, events
 *
 * Invariants
 *  1. Everything that an exit says is the guest's doing; nothing of it is used as a number without a check.
 *  2. A guest that cannot go on ends alone: domain_crash or domain_shutdown, which raise the work that switches away from it.
 */
#include "private.h"
#include "dev/irq.h"
#include "dev/vlapic.h"
#include "core/log.h"
#include "core/perf.h"
#include "core/sched.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "x86/cpu.h"
#include "x86/mce.h"
#include "x86/policy.h"
#include "x86/pte.h"
#include "../metal/pvregs.h"
#include <xen/hvm/params.h>

/* --- ends --- */

void hvm_triple_fault(struct vcpu *v)
{
    uint64_t code = hvm_domain(v->domain)->param[HVM_PARAM_TRIPLE_FAULT_REASON];

    log_guest(v->domain->id, LOG_WARN, "vCPU %u: triple fault at %lx", v->id, hvm_get(v, HVM_RIP));
    domain_shutdown(v->domain, (uint8_t)code);
}

/* --- handlers --- */

static enum hvm_verdict nothing(struct vcpu *v, const struct hvm_exit *x)
{
    return HVM_RESUME;
}

static enum hvm_verdict window(struct vcpu *v, const struct hvm_exit *x)
{
    hvm_ops->watch_window(v, false);
    return HVM_RESUME;
}

/* The handler is over when IRET has run; the next NMI waits for the exit after this one. */
static enum hvm_verdict iret(struct vcpu *v, const struct hvm_exit *x)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    h->nmi_masked = false;
    h->nmi_ended = true;
    hvm_attend(v);
    hvm_ops->watch_iret(v, false);
    return HVM_RESUME;
}

static enum hvm_verdict machine_check(struct vcpu *v, const struct hvm_exit *x)
{
    mce_exception(vcpu_regs(v), true);
    return HVM_RESUME;
}

/* A debug exception has its reasons in DR6 already. */
static enum hvm_verdict exception(struct vcpu *v, const struct hvm_exit *x)
{
    hvm_exception(v, x->exception.vector, x->exception.has_error, x->exception.error);
    return HVM_RESUME;
}

static enum hvm_verdict cpuid_exit(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);
    struct cpuid_leaf l;

    hvm_cpuid(v, (uint32_t)r->rax, (uint32_t)r->rcx, &l);
    r->rax = l.a;
    r->rbx = l.b;
    r->rcx = l.c;
    r->rdx = l.d;
    return HVM_NEXT;
}

static enum hvm_verdict hlt(struct vcpu *v, const struct hvm_exit *x)
{
    if (hvm_get(v, HVM_RFLAGS) & EFLAGS_IF)
        vcpu_block(v);
    else if (!hvm_nmi_pending(v))
        vcpu_go_down(v); /* with interrupts off for good */
    return HVM_NEXT;
}

static enum hvm_verdict hypercall(struct vcpu *v, const struct hvm_exit *x)
{
    return hvm_hypercall(v);
}

static enum hvm_verdict rdmsr_exit(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);
    uint64_t value;

    if (!hvm_rdmsr(v, (uint32_t)r->rcx, &value))
        return HVM_GP;
    r->rax = (uint32_t)value;
    r->rdx = value >> 32;
    return HVM_NEXT;
}

static enum hvm_verdict wrmsr_exit(struct vcpu *v, const struct hvm_exit *x)
{
    const struct guest_regs *r = vcpu_regs(v);

    return hvm_wrmsr(v, (uint32_t)r->rcx, r->rdx << 32 | (uint32_t)r->rax) ? HVM_NEXT : HVM_GP;
}

static enum hvm_verdict xsetbv(struct vcpu *v, const struct hvm_exit *x)
{
    const struct guest_regs *r = vcpu_regs(v);
    uint64_t value = r->rdx << 32 | (uint32_t)r->rax;

    if (!cpu_features.xsave || !(hvm_get(v, HVM_CR4) & CR4_OSXSAVE))
        return HVM_UD;
    if (hvm_ops->cpl(v) || (uint32_t)r->rcx ||
        !policy_xcr0_ok(value, policy_xcr0(x86_domain(v->domain)->policy)))
        return HVM_GP;
    x86_vcpu(v)->xcr0 = value;
    hw_xsetbv(value);
    return HVM_NEXT;
}

/* From here on until it is switched away, the guest has the processor's own. */
static enum hvm_verdict debugreg(struct vcpu *v, const struct hvm_exit *x)
{
    hvm_debugregs_load(v);
    return HVM_RESUME;
}

/* Only a domain with devices has memory that could be in the wrong cache state: nothing to do. */
static enum hvm_verdict cache(struct vcpu *v, const struct hvm_exit *x)
{
    return HVM_NEXT;
}

/* No counters. */
static enum hvm_verdict rdpmc(struct vcpu *v, const struct hvm_exit *x)
{
    return HVM_GP;
}

/* FERR#, which a PC's chipset makes interrupt 13 of. The instruction freezes again until the guest has taken the interrupt and cleared the
 * error; who does not take it, or has no such line, waits in vain as on a processor, and lets others run. */
static enum hvm_verdict fpu_error(struct vcpu *v, const struct hvm_exit *x)
{
    hvm_fpu_error(v->domain);
    vcpu_yield(v);
    return HVM_RESUME;
}

static enum hvm_verdict refused(struct vcpu *v, const struct hvm_exit *x)
{
    return HVM_UD;
}

static enum hvm_verdict shutdown(struct vcpu *v, const struct hvm_exit *x)
{
    hvm_vcpu(v)->event.valid = false;
    hvm_triple_fault(v);
    return HVM_RESUME;
}

static enum hvm_verdict invalid(struct vcpu *v, const struct hvm_exit *x)
{
    domain_crash(v->domain, "vCPU %u: its state cannot be entered (reason %lx)", v->id, x->reason);
    return HVM_RESUME;
}

static enum hvm_verdict (*const handlers[HVM_EXIT_KINDS])(struct vcpu *v, const struct hvm_exit *x) = {
    [HVM_EXIT_NOTHING] = nothing,
    [HVM_EXIT_WINDOW] = window,
    [HVM_EXIT_IRET] = iret,
    [HVM_EXIT_MACHINE_CHECK] = machine_check,
    [HVM_EXIT_EXCEPTION] = exception,
    [HVM_EXIT_CPUID] = cpuid_exit,
    [HVM_EXIT_HLT] = hlt,
    [HVM_EXIT_HYPERCALL] = hypercall,
    [HVM_EXIT_IO] = hvm_io,
    [HVM_EXIT_RDMSR] = rdmsr_exit,
    [HVM_EXIT_WRMSR] = wrmsr_exit,
    [HVM_EXIT_XSETBV] = xsetbv,
    [HVM_EXIT_RDTSC] = hvm_rdtsc,
    [HVM_EXIT_RDTSCP] = hvm_rdtsc,
    [HVM_EXIT_DEBUGREG] = debugreg,
    [HVM_EXIT_CACHE] = cache,
    [HVM_EXIT_MEMORY] = hvm_memory,
    [HVM_EXIT_CONTROL] = hvm_write_control,
    [HVM_EXIT_RDPMC] = rdpmc,
    [HVM_EXIT_FPU_ERROR] = fpu_error,
    [HVM_EXIT_REFUSED] = refused,
    [HVM_EXIT_TASK_SWITCH] = hvm_task_switch,
    [HVM_EXIT_SHUTDOWN] = shutdown,
    [HVM_EXIT_INVALID] = invalid,
};

/* --- the frame around them --- */

bool hvm_is_64(const struct vcpu *v)
{
    return hvm_ops->is_64(v);
}

#define DEBUGCTL_BTF 2u

/* Behind an instruction, which is no branch: no shadow is left, and a single step is due. */
void hvm_advance(struct vcpu *v, unsigned length)
{
    if (likely(!hvm_ops->advance(v, length)) || hvm_get(v, HVM_DEBUGCTL) & DEBUGCTL_BTF)
        return;
    hvm_set(v, HVM_DR6, hvm_get(v, HVM_DR6) | 1ull << 14);
    hvm_exception(v, TRAP_DB, false, 0);
}

void hvm_handle(struct vcpu *v, const struct hvm_exit *x)
{
    switch (handlers[x->kind](v, x)) {
    case HVM_RESUME:
        break;
    case HVM_NEXT:
        hvm_advance(v, x->length);
        break;
    case HVM_GP:
        hvm_exception(v, TRAP_GP, true, 0);
        break;
    case HVM_UD:
        hvm_exception(v, TRAP_UD, false, 0);
        break;
    }
}

void hvm_handle_exit(struct vcpu *v, const struct hvm_exit *x)
{
    perf_count_in(hvm_exits, x->kind);
    hvm_after_exit(v);
    hvm_access_begin(v, x);
    hvm_handle(v, x);
}

void hvm_before_entry(struct vcpu *v)
{
    for (;;) {
        arch_irq_disable();
        if (unlikely(work_pending())) {
            arch_irq_enable();
            work_run();
            continue;
        }
        if (likely(hvm_quiet(v))) {
            ASSERT(!hvm_access_pending(v) && !hvm_vcpu(v)->event.valid && !hvm_vcpu(v)->nmi_ended);
            break;
        }
        if (hvm_access_pending(v)) {
            arch_irq_enable();
            hvm_access_go_on(v);
            continue;
        }
        if (__atomic_load_n(&hvm_vcpu(v)->init_pending, __ATOMIC_RELAXED)) {
            arch_irq_enable();
            hvm_take_init(v);
            continue;
        }
        hvm_deliver(v);
        break;
    }
    lock_assert_none();
}
