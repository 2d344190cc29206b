/*
 * Bounce frames: how a PV guest's kernel is entered for a trap, an event, a system call or a failed return.
 *
 * The frame on the kernel's stack, lowest address first (64-bit words; xen/arch-x86/xen-x86_64.h, and what
 * kernels pop):
 *
 *     rcx  r11  [ds es fs gs: failsafe only]  [error code]  rip  cs | saved upcall mask << 32  rflags  rsp ss
 *
 * From user mode the stack is the one of stack_switch and the address space changes to the kernel's; from
 * kernel mode the frame goes below the interrupted stack pointer and CS is shown with RPL 0, which tells the
 * kernel where it came from. RFLAGS.IF in the frame is the inverse of the upcall mask; the real IF is always
 * 1 in a guest.
 *
 * Invariants
 *  1. Nothing is changed in the guest's registers before the whole frame has been stored.
 *  2. A frame never touches the hypervisor's part of the address space.
 *  3. What cannot be delivered crashes the domain, with the reason.
 * Locks: none. The vCPU is the current one; interrupts may be on or off.
 */
#include "private.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"

#define FRAME_WORDS_MAX 12
#define FLAGS_CLEARED   (EFLAGS_AC | EFLAGS_VM | EFLAGS_RF | EFLAGS_NT | EFLAGS_TF)

static uint8_t upcall_mask(const struct vcpu *v)
{
    return __atomic_load_n(&v->info->evtchn_upcall_mask, __ATOMIC_RELAXED);
}

/* RFLAGS as the guest's kernel sees them. */
static uint64_t guest_rflags(struct vcpu *v, const struct guest_regs *r, uint8_t masked)
{
    uint64_t f = r->rflags & ~(uint64_t)(EFLAGS_IF | EFLAGS_IOPL);

    if (!masked)
        f |= EFLAGS_IF;
    if (v->domain->vm_assist & (1ull << VMASST_TYPE_architectural_iopl))
        f |= (uint64_t)(pv_vcpu(v)->iopl & 3) << 12;
    return f;
}

/* The frame ends at `end`; the result is its lowest word. */
static inline uint64_t *build_frame(struct vcpu *v, const struct guest_regs *r, const struct pv_bounce *b,
                                    bool from_kernel, uint64_t *end)
{
    uint8_t masked = upcall_mask(v);
    uint64_t *w = end - 5;

    w[0] = r->rip;
    w[1] = (from_kernel ? r->cs & 0xfffc : r->cs & 0xffff) | (uint64_t)masked << 32;
    w[2] = guest_rflags(v, r, masked);
    w[3] = r->rsp;
    w[4] = r->ss & 0xffff;
    if (b->has_error)
        *--w = b->error_code;
    if (unlikely(b->segments)) {
        *--w = pv_vcpu(v)->gs;
        *--w = pv_vcpu(v)->fs;
        *--w = pv_vcpu(v)->es;
        *--w = pv_vcpu(v)->ds;
    }
    *--w = r->r11;
    *--w = r->rcx;
    return w;
}

static __attribute__((noinline)) bool undeliverable(struct vcpu *v, const char *what, const char *why)
{
    domain_crash(v->domain, "vCPU %u: %s: %s", v->id, what, why);
    return false;
}

/* Inlined where the kind of frame is known. */
static inline __attribute__((always_inline)) bool bounce(struct vcpu *v, struct guest_regs *r,
                                                         const struct pv_bounce *b, bool from_kernel)
{
    uint64_t words[FRAME_WORDS_MAX], *end = words + FRAME_WORDS_MAX, *w, sp;

    if (unlikely(!b->address))
        return undeliverable(v, b->what, "no handler");
    w = build_frame(v, r, b, from_kernel, end);
    if (!from_kernel)
        pv_toggle_mode(v);
    sp = ((from_kernel ? r->rsp : pv_vcpu(v)->kernel_sp) & ~15ull) - (size_t)(end - w) * 8;
    if (unlikely(!pv_copy_out(v, GVA(sp), w, (size_t)(end - w) * 8)))
        return undeliverable(v, b->what, "bad kernel stack");
    if (b->mask_events)
        __atomic_store_n(&v->info->evtchn_upcall_mask, 1, __ATOMIC_RELAXED);
    r->rsp = sp;
    r->ss = FLAT_KERNEL_SS;
    r->cs = FLAT_KERNEL_CS;
    /* The frame has what RCX and R11 were; with these the way out from a system call can be SYSRET. */
    r->rip = r->rcx = b->address;
    r->rflags = r->r11 = (r->rflags & ~(uint64_t)FLAGS_CLEARED) | EFLAGS_IF | EFLAGS_MBS;
    return true;
}

bool pv_bounce(struct vcpu *v, struct guest_regs *r, const struct pv_bounce *b)
{
    return bounce(v, r, b, pv_vcpu(v)->kernel_mode);
}

bool pv_bounce_callback(struct vcpu *v, struct guest_regs *r, const struct pv_callback *cb, const char *what)
{
    struct pv_bounce b = {.address = cb->eip, .mask_events = cb->mask_events, .what = what};

    return bounce(v, r, &b, false);
}

static const char *trap_name(uint8_t vector)
{
    static const char *const names[] = {"#DE", "#DB",     "NMI",    "#BP", "#OF", "#BR", "#UD",
                                        "#NM", "#DF",     "trap 9", "#TS", "#NP", "#SS", "#GP",
                                        "#PF", "trap 15", "#MF",    "#AC", "#MC", "#XM"};

    return vector < ARRAY_SIZE(names) ? names[vector] : "software interrupt";
}

bool pv_has_trap(const struct vcpu *v, uint8_t vector)
{
    const struct pv_vcpu *pv = &((const struct x86_vcpu *)v)->pv;

    return pv->trap && pv->trap[vector].address;
}

bool pv_bounce_trap(struct vcpu *v, struct guest_regs *r, uint8_t vector, uint32_t error_code, bool has_error)
{
    const struct pv_trap *t = &pv_vcpu(v)->trap[vector];
    struct pv_bounce b = {.address = t->address,
                          .error_code = error_code,
                          .has_error = has_error,
                          .mask_events = t->mask_events,
                          .what = trap_name(vector)};

    if (!t->address)
        log_guest(v->domain->id, LOG_ERR, "vCPU %u: unhandled %s, error code %x, rip %lx, rsp %lx, cr2 %lx",
                  v->id, b.what, error_code, r->rip, r->rsp, pv_vcpu(v)->cr2);
    return pv_bounce(v, r, &b);
}

bool pv_bounce_failsafe(struct vcpu *v, struct guest_regs *r)
{
    const struct pv_callback *cb = &pv_vcpu(v)->failsafe;
    struct pv_bounce b = {
        .address = cb->eip, .mask_events = cb->mask_events, .segments = true, .what = "failsafe callback"};

    return pv_bounce(v, r, &b);
}

bool pv_soft_interrupt(struct vcpu *v, struct guest_regs *r, uint8_t vector)
{
    const struct pv_trap *t = &pv_vcpu(v)->trap[vector];
    unsigned needed = pv_vcpu(v)->kernel_mode ? 1 : 3;

    if (!t->address || t->dpl < needed)
        return false;
    return pv_bounce_trap(v, r, vector, 0, false);
}

void pv_inject(struct vcpu *v, uint8_t vector, uint32_t error_code, bool has_error)
{
    pv_bounce_trap(v, vcpu_regs(v), vector, error_code, has_error);
}

/* The user bit tells guest user from guest kernel: the hardware only knows ring 3. */
void pv_inject_pf(struct vcpu *v, uint64_t addr, uint32_t error_code)
{
    error_code &= ~(uint32_t)PF_USER;
    if (!pv_vcpu(v)->kernel_mode)
        error_code |= PF_USER;
    pv_vcpu(v)->cr2 = addr;
    __atomic_store_n(&v->info->arch.cr2, addr, __ATOMIC_RELAXED);
    pv_bounce_trap(v, vcpu_regs(v), TRAP_PF, error_code, true);
}

/* --- events --- */

void pv_nmi(struct vcpu *v)
{
    __atomic_store_n(&pv_vcpu(v)->nmi_pending, true, __ATOMIC_SEQ_CST);
    vcpu_unblock(v);
    vcpu_kick(v);
}

int pv_vcpu_nmi(struct vcpu *v)
{
    pv_nmi(v);
    return 0;
}

static bool deliver_nmi(struct vcpu *v, struct guest_regs *r)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    if (likely(!pv->nmi_pending) || pv->nmi_masked || !pv_has_trap(v, TRAP_NMI))
        return false;
    __atomic_store_n(&pv->nmi_pending, false, __ATOMIC_RELAXED);
    pv->nmi_masked = true; /* until iret */
    pv_bounce_trap(v, r, TRAP_NMI, 0, false);
    return true;
}

static bool deliver_mce(struct vcpu *v, struct guest_regs *r)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    if (likely(!pv->mce_pending) || pv->nmi_masked || !pv_has_trap(v, TRAP_MC))
        return false;
    pv->mce_pending = false;
    pv->nmi_masked = true;
    pv_bounce_trap(v, r, TRAP_MC, 0, false);
    return true;
}

/* Not the common case: kept out of line, so that the check for it needs no stack frame. */
static __attribute__((noinline)) bool deliver_nmi_or_mce(struct vcpu *v, struct guest_regs *r)
{
    return deliver_mce(v, r) || deliver_nmi(v, r);
}

static __attribute__((noinline)) bool deliver_upcall(struct vcpu *v, struct guest_regs *r)
{
    struct pv_bounce b = {.address = pv_vcpu(v)->event.eip, .mask_events = true, .what = "event callback"};

    if (!b.address)
        return false;
    pv_bounce(v, r, &b);
    return true;
}

bool pv_deliver_events(struct guest_regs *r)
{
    struct vcpu *v = arch_current();
    const struct pv_vcpu *pv = pv_vcpu(v);

    if (unlikely(pv->mce_pending | pv->nmi_pending) && deliver_nmi_or_mce(v, r))
        return true;
    if (likely(!__atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_ACQUIRE)) || upcall_mask(v))
        return false;
    return deliver_upcall(v, r);
}
