/*
 * Where a PV guest's kernel wants to be entered: trap table, callbacks, kernel stack. Hypercalls
 * set_trap_table, set_callbacks, callback_op, nmi_op, stack_switch, fpu_taskswitch.
 *
 * Invariants
 *  1. Every stored address is canonical.
 *  2. The table belongs to the vCPU that runs: no lock.
 */
#include "private.h"
#include "core/guest.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "x86/pte.h"

/* --- trap table --- */

int pv_set_trap(struct vcpu *v, const struct trap_info *t)
{
    struct pv_trap *e = &pv_vcpu(v)->trap[t->vector];

    if (!va_canonical(t->address))
        return -EINVAL;
    *e = (struct pv_trap){
        .address = t->address, .cs = t->cs, .dpl = (uint8_t)TI_GET_DPL(t), .mask_events = TI_GET_IF(t) != 0};
    return 0;
}

/* A null pointer clears the table; else a list that ends with address 0, preemptible. */
long do_set_trap_table(struct hypercall *hc)
{
    struct vcpu *v = hc->caller;
    struct trap_info t;

    if (!hc->arg[0]) {
        for (unsigned i = 0; i < 256; i++)
            pv_vcpu(v)->trap[i] = (struct pv_trap){0};
        return 0;
    }
    for (;;) {
        if (guest_read(v, &t, GVA(hc->arg[0]), sizeof(t)))
            return -EFAULT;
        if (!t.address)
            return 0;
        if (pv_set_trap(v, &t))
            return -EINVAL;
        hc->arg[0] += sizeof(t);
        if (preempt_needed())
            return HC_AGAIN;
    }
}

/* --- callbacks --- */

static int register_nmi(struct vcpu *v, uint64_t address)
{
    struct trap_info t = {.vector = TRAP_NMI, .cs = FLAT_KERNEL_CS, .address = address};

    TI_SET_IF(&t, 1);
    if (!address)
        return -EINVAL;
    return pv_set_trap(v, &t);
}

static int register_callback(struct vcpu *v, const struct callback_register *reg)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    struct pv_callback cb = {.eip = reg->address, .mask_events = (reg->flags & CALLBACKF_mask_events) != 0};

    if (!va_canonical(reg->address))
        return -EINVAL;
    switch (reg->type) {
    case CALLBACKTYPE_event:
        pv->event = cb;
        return 0;
    case CALLBACKTYPE_failsafe:
        pv->failsafe = cb;
        return 0;
    case CALLBACKTYPE_syscall:
        pv->syscall = cb;
        return 0;
    case CALLBACKTYPE_syscall32:
        pv->syscall32 = cb;
        return 0;
    case CALLBACKTYPE_sysenter:
        pv->sysenter = cb;
        return 0;
    case CALLBACKTYPE_nmi:
        return register_nmi(v, reg->address);
    default:
        return -ENOSYS;
    }
}

static long callback_register_op(struct hypercall *hc)
{
    struct callback_register reg;

    if (guest_read(hc->caller, &reg, GVA(hc->arg[1]), sizeof(reg)))
        return -EFAULT;
    return register_callback(hc->caller, &reg);
}

static long callback_unregister_op(struct hypercall *hc)
{
    struct callback_unregister u;

    if (guest_read(hc->caller, &u, GVA(hc->arg[1]), sizeof(u)))
        return -EFAULT;
    switch (u.type) {
    case CALLBACKTYPE_nmi:
        pv_vcpu(hc->caller)->trap[TRAP_NMI] = (struct pv_trap){0};
        return 0;
    case CALLBACKTYPE_event:
    case CALLBACKTYPE_failsafe:
    case CALLBACKTYPE_syscall:
    case CALLBACKTYPE_syscall32:
    case CALLBACKTYPE_sysenter: /* a kernel cannot do without them */
        return -EINVAL;
    default:
        return -ENOSYS;
    }
}

const struct hc_op callback_ops[] = {
    {CALLBACKOP_register, PERM_ANY, "CALLBACKOP_register", callback_register_op, 0,
     "sysenter_deprecated: ENOSYS (32-bit guests)"},
    {CALLBACKOP_unregister, PERM_ANY, "CALLBACKOP_unregister", callback_unregister_op, 0,
     "NMI only; others EINVAL"},
};
const unsigned callback_op_count = ARRAY_SIZE(callback_ops);

/* set_callbacks(event, failsafe, syscall): the older form for all three. Failsafe and syscall keep events as
 * they are. */
long do_set_callbacks(struct hypercall *hc)
{
    static const uint16_t type[] = {CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall};

    for (unsigned i = 0; i < 3; i++) {
        struct callback_register reg = {.type = type[i], .address = hc->arg[i]};
        int err = register_callback(hc->caller, &reg);
        if (err)
            return err;
    }
    return 0;
}

/* --- NMI --- */

static long nmi_register_op(struct hypercall *hc)
{
    struct xennmi_callback cb;

    if (guest_read(hc->caller, &cb, GVA(hc->arg[1]), sizeof(cb)))
        return -EFAULT;
    return register_nmi(hc->caller, cb.handler_address);
}

static long nmi_unregister_op(struct hypercall *hc)
{
    pv_vcpu(hc->caller)->trap[TRAP_NMI] = (struct pv_trap){0};
    return 0;
}

const struct hc_op nmi_ops[] = {
    {XENNMI_register_callback, PERM_ANY, "XENNMI_register_callback", nmi_register_op, 0, NULL},
    {XENNMI_unregister_callback, PERM_ANY, "XENNMI_unregister_callback", nmi_unregister_op, 0, NULL},
};
const unsigned nmi_op_count = ARRAY_SIZE(nmi_ops);

/* --- stack, FPU --- */

/* stack_switch(ss, sp). The address is checked when a frame is stored there. */
long do_stack_switch(struct hypercall *hc)
{
    struct pv_vcpu *pv = pv_vcpu(hc->caller);

    pv->kernel_ss = (hc->arg[0] & 0xffff) | 3;
    pv->kernel_sp = hc->arg[1];
    return 0;
}

long do_fpu_taskswitch(struct hypercall *hc)
{
    pv_set_fpu_ts(hc->caller, hc->arg[0] != 0);
    return 0;
}
