/*
 * HYPERVISOR_iret (struct iret_context): the guest kernel leaves to its user space, or to itself.
 *
 * Invariants
 *  1. The guest gets ring 3 whatever the frame says; of the flags it cannot change IOPL, VM and IF.
 *  2. Events are unmasked exactly if the frame's IF says so; the exit path then finds what is pending.
 * A frame that cannot be read crashes the domain: there is nobody to return to.
 */
#include "private.h"
#include "core/guest.h"
#include "core/log.h"

static void load_frame(struct vcpu *v, struct guest_regs *r, const struct iret_context *c)
{
    r->rip = c->rip;
    r->cs = (c->cs & 0xffff) | 3;
    r->rflags = (c->rflags & 0xffffffff & ~(uint64_t)(EFLAGS_IOPL | EFLAGS_VM | EFLAGS_VIF | EFLAGS_VIP)) |
                EFLAGS_IF | EFLAGS_MBS;
    r->rsp = c->rsp;
    r->ss = (c->ss & 0xffff) | 3;
    r->rax = c->rax;
    if (c->flags & VGCF_in_syscall) {
        /* What SYSRET leaves: CS and SS of the frame do not count, and the exit path may use the instruction. */
        r->cs = FLAT_USER_CS64;
        r->ss = FLAT_USER_SS64;
        r->rcx = r->rip;
        r->r11 = r->rflags;
    } else {
        r->rcx = c->rcx;
        r->r11 = c->r11;
    }
}

void pv_iret(struct vcpu *v, struct guest_regs *r)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    struct iret_context c;

    if (unlikely(!pv_copy_in(v, &c, GVA(r->rsp), sizeof(c)))) {
        domain_crash(v->domain, "vCPU %u: iret frame at %lx cannot be read", v->id, r->rsp);
        return;
    }
    if ((c.cs & 3) == 3) {
        if (unlikely(mfn_eq(pv->root_user, INVALID_MFN))) {
            domain_crash(v->domain, "vCPU %u: iret to user mode without user page tables", v->id);
            return;
        }
        pv_toggle_mode(v);
    }
    if (v->domain->vm_assist & (1ull << VMASST_TYPE_architectural_iopl))
        pv->iopl = (uint32_t)(c.rflags >> 12) & 3;
    load_frame(v, r, &c);
    /* Whoever rings sets the pending bit and then kicks this CPU: no barrier is needed before the exit path looks. */
    __atomic_store_n(&v->info->evtchn_upcall_mask, !(c.rflags & EFLAGS_IF), __ATOMIC_RELEASE);
    pv->nmi_masked = false;
}

long do_iret(struct hypercall *hc)
{
    pv_iret(hc->caller, vcpu_regs(hc->caller));
    return HC_NO_RESULT;
}
