/*
 * The state of a PV vCPU as the toolstack reads it: the other direction of vcpu_context.c. And what is in neither: extended FPU state,
 * MSRs, traps that a debugger waits for.
 *
 * The vCPU does not run and stays so meanwhile (the caller has paused it): everything is in struct x86_vcpu.
 * No locks.
 */
#include "private.h"
#include "arch/cpu.h"
#include "core/evtchn.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/msr.h"
#include "x86/policy.h"
#include "../metal/asm.h"

#define XSAVE_BV    512 /* XSTATE_BV in the area; SDM vol. 1 13.4.2 */
#define FCW_DEFAULT 0x37f
#define MXCSR       24
#define MXCSR_MASK  0xffffu
#define XSTATE_HEAD 16 /* XCR0 and the components that follow, before the area (xen/domctl.h: vcpuextstate) */

/* A component in its initial state may not have been written by XSAVEOPT: puts that state there. */
static void fpu_complete(const struct x86_vcpu *x)
{
    uint8_t *area = x->fpu;
    const uint16_t fcw = FCW_DEFAULT;
    uint64_t valid;

    if (!cpu_features.xsave)
        return;
    memcpy(&valid, area + XSAVE_BV, sizeof(valid));
    if (!(valid & 1)) {
        memset(area, 0, 24);
        memset(area + 32, 0, 128);
        memcpy(area, &fcw, sizeof(fcw));
    }
    if (!(valid & 2))
        memset(area + 160, 0, 256);
    for (unsigned i = 2; i < 8; i++) {
        struct cpuid_leaf l;

        if (valid & 1ull << i || !(cpu_features.xcr0_mask & 1ull << i))
            continue;
        l = cpuid(0xd, i);
        if (l.a + l.b <= cpu_features.xsave_size)
            memset(area + l.b, 0, l.a);
    }
}

static void get_registers(const struct x86_vcpu *x, struct cpu_user_regs *u)
{
    const struct guest_regs *r = &x->regs;

    *u = (struct cpu_user_regs){
        .error_code = r->error_code,
        .entry_vector = r->vector,
        .rip = r->rip,
        .cs = (uint16_t)r->cs,
        .rflags = r->rflags | (uint64_t)x->pv.iopl << 12, /* the I/O privilege level is not in the hardware */
        .rsp = r->rsp,
        .ss = (uint16_t)r->ss,
        .ds = x->pv.ds,
        .es = x->pv.es,
        .fs = x->pv.fs,
        .gs = x->pv.gs,
    };
    general_registers_out(u, r);
    u->saved_upcall_mask = __atomic_load_n(&x->core.info->evtchn_upcall_mask, __ATOMIC_RELAXED);
}

static void get_entries(const struct pv_vcpu *pv, struct vcpu_guest_context *c)
{
    for (unsigned i = 0; i < 256; i++) {
        const struct pv_trap *t = &pv->trap[i];

        if (!t->address)
            continue;
        c->trap_ctxt[i] = (struct trap_info){.vector = (uint8_t)i, .cs = t->cs, .address = t->address};
        TI_SET_DPL(&c->trap_ctxt[i], t->dpl);
        TI_SET_IF(&c->trap_ctxt[i], t->mask_events ? 1 : 0);
    }
    c->event_callback_eip = pv->event.eip;
    c->failsafe_callback_eip = pv->failsafe.eip;
    c->syscall_callback_eip = pv->syscall.eip;
}

static unsigned long get_flags(const struct x86_vcpu *x)
{
    const struct pv_vcpu *pv = &x->pv;
    unsigned long flags = VGCF_i387_valid;

    flags |= pv->kernel_mode ? VGCF_in_kernel : 0;
    flags |= pv->failsafe.mask_events ? VGCF_failsafe_disables_events : 0;
    flags |= pv->syscall.mask_events ? VGCF_syscall_disables_events : 0;
    flags |= x->core.pause_flags & VPF_DOWN ? 0 : VGCF_online;
    return flags;
}

static void get_tables(const struct pv_vcpu *pv, struct vcpu_guest_context *c)
{
    unsigned pages = (pv->gdt_entries + 511) / 512;

    for (unsigned i = 0; i < pages && i < PV_GDT_FRAMES; i++)
        c->gdt_frames[i] = pv->gdt_frame[i].n;
    c->gdt_ents = pv->gdt_entries;
    c->ldt_base = pv->ldt_base.a;
    c->ldt_ents = pv->ldt_entries;
    c->ctrlreg[0] = pv->ts ? 8 : 0;
    c->ctrlreg[1] = mfn_eq(pv->root_user, INVALID_MFN) ? 0 : xen_pfn_to_cr3(pv->root_user.n);
    c->ctrlreg[2] = pv->cr2;
    c->ctrlreg[3] = mfn_eq(pv->root_kernel, INVALID_MFN) ? 0 : xen_pfn_to_cr3(pv->root_kernel.n);
    c->ctrlreg[4] = pv->cr4_guest;
}

void pv_vcpu_get_context(struct vcpu *v, struct vcpu_guest_context *c)
{
    const struct x86_vcpu *x = x86_vcpu(v);
    const struct pv_vcpu *pv = &x->pv;

    memset(c, 0, sizeof(*c));
    fpu_complete(x);
    memcpy(&c->fpu_ctxt, x->fpu, sizeof(c->fpu_ctxt));
    c->flags = get_flags(x);
    get_registers(x, &c->user_regs);
    get_entries(pv, c);
    get_tables(pv, c);
    for (unsigned i = 0; i < 8; i++)
        c->debugreg[i] = pv->dr[i];
    c->kernel_ss = pv->kernel_ss;
    c->kernel_sp = pv->kernel_sp;
    c->vm_assist = v->domain->vm_assist;
    c->fs_base = pv->fs_base;
    c->gs_base_kernel = pv->gs_base_kernel;
    c->gs_base_user = pv->gs_base_user;
}

/* --- extended FPU state --- */

/* Components that may hold something: those that the guest has switched on, and those that are not as after a reset. */
static uint64_t components(const struct x86_vcpu *x)
{
    uint64_t used;

    memcpy(&used, (const char *)x->fpu + XSAVE_BV, sizeof(used));
    return (used | x->xcr0) & policy_xcr0(x86_domain(x->core.domain)->policy);
}

size_t pv_vcpu_xstate_size(struct vcpu *v)
{
    const struct cpu_policy *p = x86_domain(v->domain)->policy;

    if (!policy_xcr0(p))
        return 0;
    return XSTATE_HEAD + policy_xsave_size(p, components(x86_vcpu(v)));
}

void pv_vcpu_xstate_get(struct vcpu *v, void *to)
{
    const struct x86_vcpu *x = x86_vcpu(v);
    uint64_t head[2] = {x->xcr0, components(x)};

    fpu_complete(x);
    memcpy(to, head, sizeof(head));
    memcpy((char *)to + XSTATE_HEAD, x->fpu, pv_vcpu_xstate_size(v) - XSTATE_HEAD);
}

/* Header of the area (SDM vol. 1 13.4.2): components present, compact format, reserved. */
static bool xstate_ok(const struct cpu_policy *p, const uint64_t head[2], const uint64_t header[8])
{
    uint64_t xcr0 = head[0], all = head[1];

    if (!policy_xcr0_ok(xcr0, policy_xcr0(p)) || !policy_xcr0_ok(all | 3, policy_xcr0(p)) || xcr0 & ~all)
        return false;
    if (header[0] & ~all)
        return false;
    for (unsigned i = 1; i < 8; i++)
        if (header[i])
            return false;
    return true;
}

/* What could fault when it is loaded is refused or made harmless: Krypton loads it. */
int pv_vcpu_xstate_set(struct vcpu *v, const void *from, size_t size)
{
    const struct cpu_policy *p = x86_domain(v->domain)->policy;
    struct x86_vcpu *x = x86_vcpu(v);
    uint64_t head[2], header[8];

    if (size < XSTATE_HEAD + XSAVE_BV + sizeof(header) || !policy_xcr0(p))
        return -EINVAL;
    memcpy(head, from, sizeof(head));
    memcpy(header, (const char *)from + XSTATE_HEAD + XSAVE_BV, sizeof(header));
    if (!xstate_ok(p, head, header) || size != XSTATE_HEAD + policy_xsave_size(p, head[1]) ||
        size - XSTATE_HEAD > cpu_features.xsave_size)
        return -EINVAL;
    memset(x->fpu, 0, cpu_features.xsave_size);
    memcpy(x->fpu, (const char *)from + XSTATE_HEAD, size - XSTATE_HEAD);
    *(uint32_t *)((char *)x->fpu + MXCSR) &= MXCSR_MASK;
    x->xcr0 = head[0];
    return 0;
}

/* --- MSRs --- */

unsigned pv_vcpu_msrs_get(struct vcpu *v, uint32_t index[PV_VCPU_MSRS], uint64_t value[PV_VCPU_MSRS])
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    unsigned n = 0;

    if (pv->cpuid_fault) {
        index[n] = MSR_MISC_FEATURES;
        value[n++] = 1;
    }
    if (pv->tsc_aux) {
        index[n] = MSR_TSC_AUX;
        value[n++] = pv->tsc_aux;
    }
    return n;
}

bool pv_vcpu_msr_set(struct vcpu *v, uint32_t index, uint64_t value)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    switch (index) {
    case MSR_MISC_FEATURES: /* bit 0 only, and only where the domain was promised it */
        if (value > (x86_domain(v->domain)->policy->platform_info >> 31 & 1))
            return false;
        pv->cpuid_fault = value;
        return true;
    case MSR_TSC_AUX:
        if (value >> 32)
            return false;
        pv->tsc_aux = (uint32_t)value;
        return true;
    default:
        return false;
    }
}

/* --- a debugger --- */

bool pv_debugger_takes(struct vcpu *v, uint8_t vector)
{
    struct x86_domain *d = x86_domain(v->domain);

    if (likely(!__atomic_load_n(&d->debugged, __ATOMIC_RELAXED)) || !pv_vcpu(v)->kernel_mode)
        return false;
    arch_irq_enable(); /* #DB comes with interrupts off; a lock may be waited for here only with them on */
    __atomic_store_n(&pv_vcpu(v)->debug_event, vector, __ATOMIC_RELEASE);
    if (domain_controller_pause_nosync(v->domain))
        return false;
    evtchn_virq_dom0(VIRQ_DEBUGGER);
    return true;
}
