/*
 * A paused vCPU as XEN_DOMCTL_getvcpucontext shows one (struct vcpu_guest_context): what a core dump and a debugger want of it. Its whole
 * state is in the records of context.c.
 * Locks: none.
 */
#include "private.h"
#include "lib/string.h"
#include "x86/guest.h"

static uint16_t selector(const struct vcpu *v, enum hvm_seg s)
{
    struct hvm_segment g;

    hvm_ops->get_segment(v, s, &g);
    return g.sel;
}

static uint64_t base(const struct vcpu *v, enum hvm_seg s)
{
    struct hvm_segment g;

    hvm_ops->get_segment(v, s, &g);
    return g.base;
}

static void registers(struct vcpu *v, struct cpu_user_regs *u)
{
    *u = (struct cpu_user_regs){
        .rip = hvm_get(v, HVM_RIP),
        .rflags = hvm_get(v, HVM_RFLAGS),
        .rsp = hvm_get(v, HVM_RSP),
        .cs = selector(v, HVM_CS),
        .ss = selector(v, HVM_SS),
        .ds = selector(v, HVM_DS),
        .es = selector(v, HVM_ES),
        .fs = selector(v, HVM_FS),
        .gs = selector(v, HVM_GS),
    };
    general_registers_out(u, &x86_vcpu(v)->regs);
}

void hvm_vcpu_context(struct vcpu *v, struct vcpu_guest_context *c)
{
    const struct hvm_vcpu *h = hvm_vcpu(v);
    bool kernel = !hvm_ops->cpl(v);
    uint64_t gs = base(v, HVM_GS), other = hvm_get(v, HVM_KERNEL_GS); /* SWAPGS changes them over */

    memset(c, 0, sizeof(*c));
    xstate_complete(x86_vcpu(v));
    memcpy(&c->fpu_ctxt, x86_vcpu(v)->fpu, sizeof(c->fpu_ctxt));
    c->flags =
        VGCF_i387_valid | (kernel ? VGCF_in_kernel : 0) | (v->pause_flags & VPF_DOWN ? 0 : VGCF_online);
    registers(v, &c->user_regs);
    c->ctrlreg[0] = hvm_get(v, HVM_CR0);
    c->ctrlreg[2] = hvm_get(v, HVM_CR2);
    c->ctrlreg[3] = hvm_get(v, HVM_CR3);
    c->ctrlreg[4] = hvm_get(v, HVM_CR4);
    for (unsigned i = 0; i < 4; i++)
        c->debugreg[i] = h->dr[i];
    c->debugreg[6] = hvm_get(v, HVM_DR6);
    c->debugreg[7] = hvm_get(v, HVM_DR7);
    c->fs_base = base(v, HVM_FS);
    c->gs_base_kernel = kernel ? gs : other;
    c->gs_base_user = kernel ? other : gs;
}
