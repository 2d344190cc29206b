/*
 * A vCPU's whole state in the form of the interface: struct vcpu_guest_context (xen/arch-x86/xen.h).
 *
 * Read, check, do: everything that can be wrong is checked before anything is changed; what needs frames
 * (GDT, page tables) comes last and can be repeated: -EAGAIN leaves a vCPU that is not initialised.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/guest.h"
#include "arch/guest_ops.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/pte.h"

#define ASSISTS                                                                                              \
    (1ul << VMASST_TYPE_4gb_segments | 1ul << VMASST_TYPE_4gb_segments_notify |                              \
     1ul << VMASST_TYPE_writable_pagetables | 1ul << VMASST_TYPE_pae_extended_cr3 |                          \
     1ul << VMASST_TYPE_architectural_iopl | 1ul << VMASST_TYPE_runstate_update_flag |                       \
     1ul << VMASST_TYPE_m2p_strict)
#define LDT_MAX 8192

static bool addresses_ok(const struct vcpu_guest_context *c)
{
    return va_canonical(c->user_regs.rip) && va_canonical(c->event_callback_eip) &&
           va_canonical(c->failsafe_callback_eip) && va_canonical(c->syscall_callback_eip) &&
           va_canonical(c->fs_base) && va_canonical(c->gs_base_kernel) && va_canonical(c->gs_base_user);
}

static bool ldt_ok(const struct vcpu_guest_context *c)
{
    if (c->ldt_ents > LDT_MAX)
        return false;
    return !c->ldt_ents || (!(c->ldt_base & (FRAME_SIZE - 1)) && pv_range_ok(c->ldt_base, c->ldt_ents * 8));
}

static bool context_ok(const struct vcpu_guest_context *c)
{
    if (!addresses_ok(c) || !ldt_ok(c) || c->gdt_ents > FIRST_RESERVED_GDT_ENTRY)
        return false;
    for (unsigned i = 0; i < 256; i++)
        if (!va_canonical(c->trap_ctxt[i].address))
            return false;
    return true;
}

static void set_registers(struct x86_vcpu *x, const struct cpu_user_regs *u)
{
    x->regs = (struct guest_regs){
        .rip = u->rip,
        .cs = u->cs | 3u,
        .rflags = (u->rflags & 0xffffffff & ~(uint64_t)(EFLAGS_IOPL | EFLAGS_VM | EFLAGS_VIF | EFLAGS_VIP)) |
                  EFLAGS_IF | EFLAGS_MBS,
        .rsp = u->rsp,
        .ss = u->ss | 3u,
    };
    general_registers_in(&x->regs, u);
    x->pv.iopl = (uint32_t)(u->rflags >> 12) & 3;
}

static void set_entries(struct pv_vcpu *pv, const struct vcpu_guest_context *c)
{
    for (unsigned i = 0; i < 256; i++)
        pv->trap[i] = (struct pv_trap){.address = c->trap_ctxt[i].address,
                                       .cs = c->trap_ctxt[i].cs,
                                       .dpl = (uint8_t)TI_GET_DPL(&c->trap_ctxt[i]),
                                       .mask_events = TI_GET_IF(&c->trap_ctxt[i]) != 0};
    pv->event = (struct pv_callback){.eip = c->event_callback_eip, .mask_events = true};
    pv->failsafe = (struct pv_callback){.eip = c->failsafe_callback_eip,
                                        .mask_events = (c->flags & VGCF_failsafe_disables_events) != 0};
    pv->syscall = (struct pv_callback){.eip = c->syscall_callback_eip,
                                       .mask_events = (c->flags & VGCF_syscall_disables_events) != 0};
}

/* A data selector that a ring 3 kernel could have loaded: of the hypervisor's descriptors only those open to ring 3. */
static uint16_t data_selector(uint16_t sel)
{
    bool reserved = !(sel & 4) && sel >= FIRST_RESERVED_GDT_BYTE;

    return reserved ? sel | 3 : sel;
}

static void set_segments(struct pv_vcpu *pv, const struct vcpu_guest_context *c)
{
    pv->ds = data_selector(c->user_regs.ds);
    pv->es = data_selector(c->user_regs.es);
    pv->fs = data_selector(c->user_regs.fs);
    pv->gs = data_selector(c->user_regs.gs);
    pv->fs_base = c->fs_base;
    pv->gs_base_kernel = c->gs_base_kernel;
    pv->gs_base_user = c->gs_base_user;
    pv->kernel_ss = (c->kernel_ss & 0xffff) | 3;
    pv->kernel_sp = c->kernel_sp;
    pv->kernel_mode = (c->flags & VGCF_in_kernel) != 0;
}

static int set_debug_registers(struct vcpu *v, const struct vcpu_guest_context *c)
{
    static const uint8_t order[] = {0, 1, 2, 3, 6, 7};

    pv_vcpu(v)->dr[7] = 0x400;
    for (unsigned i = 0; i < ARRAY_SIZE(order); i++) {
        int err = pv_set_debugreg(v, order[i], c->debugreg[order[i]]);
        if (err)
            return -EINVAL;
    }
    return 0;
}

static int set_tables(struct vcpu *v, const struct vcpu_guest_context *c)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    uint64_t frames[FIRST_RESERVED_GDT_PAGE];
    int err;

    for (unsigned i = 0; i < FIRST_RESERVED_GDT_PAGE; i++)
        frames[i] = c->gdt_frames[i];
    err = pv_set_gdt_frames(v, frames, (unsigned)c->gdt_ents);
    if (err)
        return err;
    pv->ldt_base = GVA(c->ldt_base);
    pv->ldt_entries = (uint32_t)c->ldt_ents;
    err = pv_set_root(v, MFN(xen_cr3_to_pfn(c->ctrlreg[3])), false);
    if (!err && c->ctrlreg[1])
        err = pv_set_root(v, MFN(xen_cr3_to_pfn(c->ctrlreg[1])), true);
    return err;
}

int pv_vcpu_set_context(struct vcpu *v, const struct vcpu_guest_context *c)
{
    struct x86_vcpu *x = x86_vcpu(v);
    int err;

    if (!context_ok(c))
        return -EINVAL;
    if (!(c->flags & VGCF_in_kernel) && !c->ctrlreg[1])
        return -EINVAL; /* user mode needs tables of its own */
    x->pv.cr4_guest = pv_cr4_guest_value(c->ctrlreg[4] ? c->ctrlreg[4] : PV_CR4_INITIAL);
    err = set_debug_registers(v, c);
    if (err)
        return err;
    set_registers(x, &c->user_regs);
    set_entries(&x->pv, c);
    set_segments(&x->pv, c);
    x->pv.ts = (c->ctrlreg[0] & 8) != 0;
    if (c->flags & VGCF_i387_valid) {
        uint64_t both = 3;
        memcpy(x->fpu, &c->fpu_ctxt, sizeof(c->fpu_ctxt));
        ((uint32_t *)x->fpu)[6] &= 0xffff; /* MXCSR: reserved bits would fault when loaded */
        if (cpu_features.xsave)
            memcpy((char *)x->fpu + 512, &both, sizeof(both));
    }
    err = set_tables(v, c);
    if (!err && v->id == 0 && c->vm_assist)
        __atomic_fetch_or(&v->domain->vm_assist, c->vm_assist & ASSISTS, __ATOMIC_RELAXED);
    return err;
}

int pv_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online)
{
    struct vcpu_guest_context *c = mem_new(struct vcpu_guest_context); /* 5 KiB: not for the stack */
    int err;

    if (!c)
        return -ENOMEM;
    err = guest_read(caller, c, context, sizeof(*c));
    if (!err)
        err = pv_vcpu_set_context(v, c);
    *online = (c->flags & VGCF_online) != 0;
    mem_free(c);
    return err;
}
