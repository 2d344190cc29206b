/*
 * Everything that enters Krypton from a PV guest as an exception or a system call, and where it goes:
 *
 * - exception: pv_trap. Krypton's own use first (page-table fix-ups, emulation), else the guest's trap table.
 * - INT n: #GP with the IDT bit set (gates are closed to ring 3), or pv_int80; then the trap table, by its dpl.
 * - SYSCALL: from kernel mode a hypercall, from user mode the syscall callback, from 32-bit code the syscall32
 *   callback; without callback #UD.
 * - SYSENTER: its callback, else #GP.
 * - return to the guest failed: pv_iret_fault, the failsafe callback.
 *
 * Invariants
 *  1. Only the guest's kernel makes hypercalls.
 *  2. An exception that Krypton does not handle is delivered exactly once, with the error code the hardware
 * gave, but for the user bit of page faults and selectors that name the IDT. Locks: none held on entry. regs
 * are the running vCPU's on this CPU's stack.
 */
#include "private.h"
#include "core/log.h"
#include "core/perf.h"
#include "core/trace.h"
#include "arch/cpu.h"
#include "x86/guest.h"
#include "../metal/pvregs.h"

static bool has_error_code(uint32_t vector)
{
    return vector == TRAP_DF || (vector >= TRAP_TS && vector <= TRAP_PF) || vector == TRAP_AC ||
           vector == TRAP_CP;
}

static void deliver(struct vcpu *v, struct guest_regs *r)
{
    trace(TRC_PV_TRAP | TRC_64_FLAG, TRACE_U64(r->rip),
          (r->vector & 0x7fff) | (uint32_t)has_error_code(r->vector) << 15 | r->error_code << 16);
    pv_bounce_trap(v, r, (uint8_t)r->vector, r->error_code, has_error_code(r->vector));
}

static void page_fault(struct vcpu *v, struct guest_regs *r)
{
    uint64_t addr = hw_read_cr2();

    if (pv_mmu_fault(v, addr, r)) {
        perf_count(page_fault_fixups);
        return;
    }
    trace(TRC_PV_PAGE_FAULT | TRC_64_FLAG, TRACE_U64(r->rip), TRACE_U64(addr), r->error_code);
    pv_inject_pf(v, addr, r->error_code);
}

/* INT n through a gate that is closed to ring 3: error code = vector * 8 + 2 (SDM vol. 3 6.13). */
static bool software_interrupt(struct vcpu *v, struct guest_regs *r)
{
    if ((r->error_code & 3) != 2)
        return false;
    if (!pv_has_trap(v, (uint8_t)(r->error_code >> 3)))
        return false;
    r->rip += 2;
    if (pv_soft_interrupt(v, r, (uint8_t)(r->error_code >> 3)))
        return true;
    r->rip -= 2;
    return v->domain->crashed; /* crashed while building the frame: nothing more to deliver */
}

static void emulate_or_deliver(struct vcpu *v, struct guest_regs *r)
{
    struct pv_fault f = {0};

    trace(TRC_PV_EMULATE_PRIVOP | TRC_64_FLAG, TRACE_U64(r->rip));
    switch (pv_emulate_privileged(v, r, &f)) {
    case PVE_DONE:
    case PVE_RETRY:
        perf_count(privileged_ops);
        return;
    case PVE_FAULT:
        if (f.vector == TRAP_PF)
            pv_inject_pf(v, f.cr2, f.error_code);
        else
            pv_bounce_trap(v, r, f.vector, f.error_code, f.has_error);
        return;
    case PVE_NOT_OURS:
        deliver(v, r);
        return;
    }
}

static void general_protection(struct vcpu *v, struct guest_regs *r)
{
    if (software_interrupt(v, r))
        return;
    if (r->error_code)
        deliver(v, r);
    else
        emulate_or_deliver(v, r);
}

/* CR0.TS is the guest's wish (fpu_taskswitch): its own #NM clears it, as kernels expect. */
static void device_not_available(struct vcpu *v, struct guest_regs *r)
{
    if (!pv_vcpu(v)->ts)
        return; /* nothing to wait for: the state is loaded */
    pv_set_fpu_ts(v, false);
    deliver(v, r);
}

#define DR6_DEFAULT 0xffff0ff0ull

static void debug_exception(struct vcpu *v, struct guest_regs *r)
{
    uint64_t dr6 = hw_read_dr6();

    hw_write_dr6(DR6_DEFAULT);
    pv_vcpu(v)->dr[6] |= dr6 & 0xe00f;
    if (pv_debugger_takes(v, TRAP_DB))
        return;
    deliver(v, r);
}

/* INT n through a gate that is open to ring 3: the guest's table decides; refused, it looks like a closed gate. */
static void open_gate(struct vcpu *v, struct guest_regs *r, uint8_t vector)
{
    if (pv_soft_interrupt(v, r, vector) || v->domain->crashed)
        return;
    r->rip -= 2;
    pv_bounce_trap(v, r, TRAP_GP, (uint32_t)vector << 3 | 2, true);
}

void pv_trap(struct guest_regs *r)
{
    struct vcpu *v = arch_current();

    perf_count_in(exceptions, r->vector & 31);
    switch (r->vector) {
    case TRAP_PF:
        page_fault(v, r);
        break;
    case TRAP_GP:
        general_protection(v, r);
        break;
    case TRAP_UD:
        if (!pv_emulate_forced_cpuid(v, r))
            deliver(v, r);
        break;
    case TRAP_NM:
        device_not_available(v, r);
        break;
    case TRAP_DB:
        debug_exception(v, r);
        break;
    case TRAP_BP:
        if (!pv_debugger_takes(v, TRAP_BP))
            deliver(v, r);
        break;
    case TRAP_NMI:
    case TRAP_MC: /* reported by the entry code; the guest has no part in it */
        break;
    default:
        if (r->vector < 32)
            deliver(v, r);
        else
            open_gate(v, r, (uint8_t)r->vector);
    }
}

void pv_int80(struct guest_regs *r)
{
    open_gate(arch_current(), r, 0x80);
}

/* --- system calls --- */

/*
 * HYPERVISOR_iret is every second hypercall of a kernel, has no arguments, and any PV kernel may use it (its row says so to those who
 * come by a multicall): it goes past the table, unless somebody wants to see it in a trace.
 */
static bool is_plain_iret(const struct guest_regs *r)
{
    return r->rax == __HYPERVISOR_iret && likely(!trace_mask);
}

static __attribute__((noinline)) void hypercall(struct vcpu *v, struct guest_regs *r)
{
    struct hypercall hc = hypercall_of(v, r);
    long result = hypercall_dispatch(&hc);

    if (unlikely(result == HC_AGAIN)) {
        perf_count(hypercalls_again);
        hypercall_write_back(&hc, r);
        r->rip -= 2; /* the two bytes of SYSCALL: runs again with rax unchanged */
    } else if (result != HC_NO_RESULT) {
        r->rax = (uint64_t)result;
    }
}

/* SYSCALL of user space. A kernel that has not said where it wants it: as if the instruction did not exist. */
static void user_syscall(struct vcpu *v, struct guest_regs *r, const struct pv_callback *cb, const char *what)
{
    if (cb->eip) {
        pv_bounce_callback(v, r, cb, what);
        return;
    }
    r->rip -= 2;
    pv_bounce_trap(v, r, TRAP_UD, 0, false);
}

void pv_syscall_entry(struct guest_regs *r, struct vcpu *v)
{
    if (!pv_vcpu(v)->kernel_mode) {
        user_syscall(v, r, &pv_vcpu(v)->syscall, "syscall callback");
    } else if (is_plain_iret(r)) {
        perf_count_in(hypercalls, __HYPERVISOR_iret);
        pv_iret(v, r);
    } else {
        hypercall(v, r);
    }
}

/* SYSENTER leaves no return address: the frame carries none, kernels find it by their vDSO convention. */
void pv_sysenter_entry(struct guest_regs *r)
{
    struct vcpu *v = arch_current();
    const struct pv_callback *cb = &pv_vcpu(v)->sysenter;

    if (pv_vcpu(v)->kernel_mode || !cb->eip)
        pv_bounce_trap(v, r, TRAP_GP, 0, true);
    else
        pv_bounce_callback(v, r, cb, "sysenter callback");
}

/* A kernel that runs 32-bit code and makes system calls gets what its user space without callback gets. */
void pv_cstar_entry(struct guest_regs *r)
{
    static const struct pv_callback none;
    struct vcpu *v = arch_current();

    user_syscall(v, r, pv_vcpu(v)->kernel_mode ? &none : &pv_vcpu(v)->syscall32, "syscall32 callback");
}

/* --- a return that failed --- */

void pv_iret_fault(struct guest_regs *r, uint32_t vector, uint32_t error_code)
{
    struct vcpu *v = arch_current();

    if (vector == TRAP_PF && pv_mmu_fault(v, hw_read_cr2(), r))
        return; /* a page of the LDT window: try again */
    log_guest(v->domain->id, LOG_DEBUG, "vCPU %u: return to %lx:%lx failed with exception %u, error code %x",
              v->id, r->cs, r->rip, vector, error_code);
    pv_vcpu(v)->ds = hw_read_ds();
    pv_vcpu(v)->es = hw_read_es();
    pv_vcpu(v)->fs = hw_read_fs();
    pv_vcpu(v)->gs = hw_read_gs();
    pv_bounce_failsafe(v, r);
}
