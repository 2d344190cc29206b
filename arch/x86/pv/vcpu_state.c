/*
 * The state of a PV vCPU as the toolstack reads it: the other direction of vcpu_context.c.
 *
 * The vCPU does not run and stays so meanwhile (the caller has paused it): everything is in struct x86_vcpu.
 * No locks.
 */
#include "private.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "../metal/asm.h"

#define XSAVE_BV    512 /* XSTATE_BV in the area; SDM vol. 1 13.4.2 */
#define FCW_DEFAULT 0x37f

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
        .r15 = r->r15,
        .r14 = r->r14,
        .r13 = r->r13,
        .r12 = r->r12,
        .rbp = r->rbp,
        .rbx = r->rbx,
        .r11 = r->r11,
        .r10 = r->r10,
        .r9 = r->r9,
        .r8 = r->r8,
        .rax = r->rax,
        .rcx = r->rcx,
        .rdx = r->rdx,
        .rsi = r->rsi,
        .rdi = r->rdi,
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
    u->saved_upcall_mask = x->core.info->evtchn_upcall_mask;
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
