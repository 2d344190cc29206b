/*
 * Where entry.S arrives in C: interrupts, exceptions of guests (on to pv/), exceptions of Krypton itself, and
 * the work to be done before a guest runs on.
 *
 *   exception in Krypton -> in the exception table: go on at its fix-up
 *                        -> the IRETQ to the guest: the guest's problem (pv_iret_fault)
 *                        -> NMI, #MC, #DB: reported, go on if that is possible
 *                        -> anything else: registers, call trace, panic
 *
 * Invariants
 *  1. A guest cannot make Krypton panic here: each instruction that may fault on a guest's account is in the
 * table.
 *  2. After exit_work, which is called when there may be something to do, interrupts are off, no work is pending and due
 * events are in the guest's frame.
 * Locks: none. The machine-check handler prints without locks (console's panic mode) only if it does not
 * return.
 */
#include "asm.h"
#include "metal.h"
#include "pvregs.h"
#include "arch/cpu.h"
#include "core/console.h"
#include "core/log.h"
#include "core/work.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/percpu.h"
#include "x86/platform.h"
#include "x86/pv.h"
#include "x86/tlb.h"
#include "x86/mce.h"
#include "x86/msr.h"

#define DR6_DEFAULT 0xffff0ff0ull

struct fixup {
    uint64_t at, to;
};
extern const struct fixup __start_krypton_extable[], __stop_krypton_extable[];

uint32_t panic_stop;
static bool (*nmi_handler)(const struct guest_regs *r);

void nmi_set_handler(bool (*fn)(const struct guest_regs *r))
{
    nmi_handler = fn;
}

static const char *trap_name(unsigned vector)
{
    static const char *const name[] = {
        "#DE divide error",
        "#DB debug",
        "NMI",
        "#BP breakpoint",
        "#OF overflow",
        "#BR bound range",
        "#UD invalid opcode",
        "#NM no coprocessor",
        "#DF double fault",
        "9",
        "#TS invalid TSS",
        "#NP segment not present",
        "#SS stack fault",
        "#GP general protection",
        "#PF page fault",
        "15",
        "#MF x87 error",
        "#AC alignment check",
        "#MC machine check",
        "#XM SIMD error",
        "20",
        "#CP control protection",
    };

    return vector < ARRAY_SIZE(name) ? name[vector] : "exception";
}

/* --- interrupts
 * ------------------------------------------------------------------------------------------------------ */

static void interrupt(uint8_t vector)
{
    switch (vector) {
    case VEC_TIMER:
        apic_timer_interrupt();
        break;
    case VEC_KICK: /* whoever sent it has set what there is to do: the way out looks */
        apic_eoi();
        break;
    case VEC_FLUSH:
        apic_eoi();
        tlb_flush_interrupt();
        break;
    case VEC_CALL:
        apic_eoi();
        smp_call_interrupt();
        break;
    case VEC_ERROR:
        apic_error_interrupt();
        break;
    case VEC_SPURIOUS:
        break;
    default:
        irq_handle(vector);
    }
}

/* --- NMI, machine check
 * ------------------------------------------------------------------------------------------------ */

/* A stuck NMI source must not fill the log. */
static bool nmi_worth_a_line(void)
{
    static uint32_t seen;
    uint32_t n = __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);

    return !(n & (n - 1));
}

static void nmi(struct guest_regs *r)
{
    uint8_t reason;
    bool say;

    if (__atomic_load_n(&panic_stop, __ATOMIC_ACQUIRE))
        machine_park();
    if (nmi_handler && nmi_handler(r))
        return;
    if (arch_cpu_id())
        return; /* the chipset's come to the boot CPU; some senders reach all */
    say = nmi_worth_a_line();
    reason = in8(0x61); /* system control port B: bit 7 SERR, bit 6 I/O check */
    if (reason & 0xc0) {
        if (say)
            log_err("NMI: the chipset reports %s (port 0x61 = %#x)",
                    reason & 0x80 ? "a system error (SERR)" : "an I/O check", reason);
        out8(0x61, (uint8_t)((reason & 0x0f) | 0x0c)); /* acknowledge: mask and unmask */
        out8(0x61, (uint8_t)(reason & 0x03));
    } else if (say) {
        log_warn("NMI on CPU 0 of unknown source");
    }
    pv_hardware_nmi();
}

/* --- from a guest
 * ------------------------------------------------------------------------------------------------------ */

void trap_from_guest(struct guest_regs *r)
{
    ASSERT(!cpu_features.smap || !(hw_flags() & EFLAGS_AC));
    switch (r->vector) {
    case TRAP_NMI:
        nmi(r);
        pv_trap(r);
        break;
    case TRAP_MC:
        mce_exception(r, true);
        pv_trap(r);
        break;
    case TRAP_DB:
        pv_trap(r);
        break;
    case TRAP_DF:
        show_registers(r);
        panic("double fault while a guest was running");
    case 0x80:
        hw_sti();
        pv_int80(r);
        break;
    default:
        if (r->vector >= 32) {
            interrupt((uint8_t)r->vector);
        } else {
            hw_sti();
            pv_trap(r);
        }
    }
}

void trap_syscall_other(struct guest_regs *r)
{
    if (r->vector == ENTRY_SYSENTER)
        pv_sysenter_entry(r);
    else
        pv_cstar_entry(r);
}

/* The way back to a guest when there is something to do (exit_to_guest looks, with interrupts off). */
void exit_work(struct guest_regs *r)
{
    for (;;) {
        /* A delivery that fails crashes the domain: work again. */
        if (!work_pending() && (!pv_deliver_events(r) || !work_pending()))
            return;
        hw_sti();
        work_run();
        hw_cli();
    }
}

/* --- from Krypton itself
 * ------------------------------------------------------------------------------------------------- */

static uint64_t fixup_of(uint64_t rip)
{
    for (const struct fixup *f = __start_krypton_extable; f < __stop_krypton_extable; f++)
        if (f->at == rip)
            return f->to;
    return 0;
}

/* The guest's registers are back in the processor but for the five on the stack, where IRETQ left them: r has
 * the others. */
__attribute__((noreturn)) static void iret_fault(const struct guest_regs *r)
{
    struct guest_regs *g = current_regs();
    struct guest_regs all = *r; /* r lies where g does */

    all.rip = g->rip;
    all.cs = g->cs;
    all.rflags = g->rflags;
    all.rsp = g->rsp;
    all.ss = g->ss;
    all.vector = all.error_code = 0;
    {
        uint32_t vector = r->vector, error_code = r->error_code;

        *g = all;
        metal_iret_fault(vector, error_code);
    }
}

static void debug_trap(struct guest_regs *r)
{
    /* A guest's watchpoint met by our copy of its memory, TF on SYSENTER, #DB held back by MOV SS: nothing to
     * do for us. */
    hw_write_dr6(DR6_DEFAULT);
    r->rflags &= ~(uint64_t)EFLAGS_TF;
    r->rflags |= EFLAGS_RF;
}

__attribute__((noreturn)) static void fatal(struct guest_regs *r)
{
    uint64_t base = (uint64_t)(cpu_info() + 1) - STACK_SIZE, cr2 = hw_read_cr2();
    static uint32_t owner; /* cpu + 1 of the one that reports */
    uint32_t nobody = 0, self = arch_cpu_id() + 1;

    if (!__atomic_compare_exchange_n(&owner, &nobody, self, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        if (nobody == self)
            arch_panic_end(); /* the report itself faulted */
        machine_park();
    }
    console_panic_mode();
    console_printf("\n");
    show_registers(r);
    if (r->vector == TRAP_DF && cr2 - base < STACK_SIZE && (cr2 - base) / FRAME_SIZE == STACK_PAGE_GUARD)
        panic("stack overflow on CPU %u", arch_cpu_id());
    if (r->vector == TRAP_PF)
        panic("page fault in Krypton: %s of %#lx, error code %#x",
              r->error_code & PF_FETCH   ? "execution"
              : r->error_code & PF_WRITE ? "write"
                                         : "read",
              (unsigned long)cr2, r->error_code);
    panic("%s in Krypton, error code %#x", trap_name(r->vector), r->error_code);
}

/* It may have interrupted a holder of any lock, so its log lines wait for deferred work; and a CPU that had just looked for work
 * before it halts or goes to a guest, so it is made to look again. */
static void interrupted_anywhere(struct guest_regs *r)
{
    console_nmi_begin();
    if (r->vector == TRAP_NMI)
        nmi(r);
    else
        mce_exception(r, false);
    console_nmi_end();
    if (work_pending())
        apic_send_self(VEC_KICK);
}

void trap_from_krypton(struct guest_regs *r)
{
    uint64_t to;

    if (likely(r->vector >= 32)) {
        interrupt((uint8_t)r->vector);
        return;
    }
    switch (r->vector) {
    case TRAP_NMI:
    case TRAP_MC:
        interrupted_anywhere(r);
        return;
    case TRAP_DB:
        debug_trap(r);
        return;
    case TRAP_DF:
        fatal(r);
    }
    if (r->rip == (uint64_t)guest_iretq)
        iret_fault(r);
    to = fixup_of(r->rip);
    if (!to)
        fatal(r);
    r->rip = to;
}
