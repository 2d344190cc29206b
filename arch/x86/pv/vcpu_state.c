/*
 * The state of a PV vCPU as the toolstack reads it: the other direction of vcpu_context.c. And what is in neither: MSRs, traps that a debugger waits for.
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
    xstate_complete(x);
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
