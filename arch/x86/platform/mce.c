/*
 * Machine checks: the exception, and corrected errors, which no exception tells of: every CPU looks at its banks now
 * and then. What a report means is decided in policy/mce.c.
 *
 * A report of a bank is printed and cleared by the CPU that finds it; banks may be shared between CPUs, then one of them
 * finds it. Corrected errors can come in floods (a cell that is stuck): looking for them bounds how many are printed.
 *
 * Invariants: the exception handler takes no lock where Krypton was interrupted (console_nmi_begin is in force); where a guest
 * was, this CPU held none.
 * Locks: none.
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/console.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/evtchn.h"
#include "core/log.h"
#include "core/timer.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/mce.h"
#include "x86/msr.h"
#include "x86/pv.h"

#define POLL_NS    15000000000ull
#define BANKS_MOST 32u

static struct timer poll_timer[MAX_CPUS];

static unsigned bank_count(void)
{
    uint64_t cap = cpu_features.mca ? rdmsr(MSR_MCG_CAP) : 0;

    return MIN(MCG_CAP_COUNT(cap), BANKS_MOST);
}

static bool news; /* [a] the hardware domain has not been told of a report yet */

/* For the hardware domain. A guest is named where it ran; for what looking finds nobody is known. */
static void keep(struct mce_report *r, uint32_t flags, bool from_guest)
{
    const struct vcpu *v = from_guest ? arch_current() : NULL;

    r->urgent = flags & MC_FLAG_MCE;
    r->flags = flags | (r->status & MCI_UNCORRECTED ? MC_FLAG_UNCORRECTABLE : MC_FLAG_CORRECTABLE);
    r->cpu = arch_cpu_id();
    r->domid = v ? v->domain->id.v : DOMID_INVALID;
    r->vcpuid = v ? (uint16_t)v->id : XEN_MC_VCPUID_INVALID;
    r->mcg_status = rdmsr(MSR_MCG_STATUS);
    r->tsc = rdtsc();
    if (mce_log_put(r))
        __atomic_store_n(&news, true, __ATOMIC_RELAXED);
}

/* Prints, keeps and clears what the bank holds; its status, or 0. flags: MC_FLAG_* of how it was found. */
static uint64_t bank_take(unsigned bank, const char *what, uint32_t flags, bool from_guest)
{
    struct mce_report r = {.bank = (uint16_t)bank};
    uint64_t status, addr = 0;

    if (!rdmsr_safe(MSR_MC0_STATUS + 4 * bank, &status) || !(status & MCI_VALID))
        return 0;
    if (status & MCI_ADDR_VALID && !rdmsr_safe(MSR_MC0_ADDR + 4 * bank, &addr))
        addr = 0;
    if (status & MCI_MISC_VALID && !rdmsr_safe(MSR_MC0_MISC + 4 * bank, &r.misc))
        r.misc = 0;
    r.status = status;
    r.addr = addr;
    keep(&r, flags, from_guest);
    log_err("machine check: CPU %u bank %u: %s, status %#llx address %#llx", arch_cpu_id(), bank, what,
            (unsigned long long)status, (unsigned long long)addr);
    if (!wrmsr_safe(MSR_MC0_STATUS + 4 * bank, 0))
        log_warn("machine check: bank %u cannot be cleared", bank);
    return status;
}

/* --- the exception --- */

static enum mce_verdict judge_banks(bool from_guest)
{
    uint64_t cap = rdmsr(MSR_MCG_CAP);
    enum mce_verdict worst = MCE_CONTINUE;

    for (unsigned i = 0; i < bank_count(); i++) {
        enum mce_verdict v =
            mce_judge_bank(cap, bank_take(i, "reported by exception", MC_FLAG_MCE, from_guest), from_guest);

        worst = MAX(worst, v);
    }
    return worst;
}

void mce_exception(const struct guest_regs *r, bool from_guest)
{
    uint64_t status = rdmsr(MSR_MCG_STATUS);
    enum mce_verdict v = mce_judge(status, judge_banks(from_guest), from_guest);

    if (v == MCE_PANIC) {
        console_panic_mode();
        show_registers(r);
        panic("machine check: the hardware reports an error that cannot be recovered from (MCG_STATUS %#llx)",
              (unsigned long long)status);
    }
    wrmsr(MSR_MCG_STATUS, 0);
    if (v == MCE_KILL_GUEST)
        domain_crash(arch_current()->domain, "machine check: it has used memory that lost its contents");
    pv_hardware_mce();
}

/* --- corrected errors --- */

static void poll(void *unused)
{
    for (unsigned i = 0; i < bank_count(); i++)
        (void)bank_take(i, "corrected, or not used yet", MC_FLAG_POLLED, false);
    /* Of those by exception, too: there no lock can be taken. */
    if (__atomic_exchange_n(&news, false, __ATOMIC_RELAXED))
        evtchn_virq_dom0(VIRQ_MCA);
    timer_set(&poll_timer[arch_cpu_id()], arch_time_ns() + POLL_NS);
}

void mce_init_cpu(void)
{
    if (!cpu_features.mca)
        return;
    for (unsigned i = 0; i < bank_count(); i++) {
        (void)bank_take(i, "left from before the start", MC_FLAG_RESET, false);
        /* Bank 0 of the oldest family 6 belongs to the firmware. */
        if ((i || cpu_features.family != 6 || cpu_features.model >= 0x1a) &&
            !wrmsr_safe(MSR_MC0_CTL + 4 * i, ~0ull))
            log_debug("machine check: bank %u has no control register", i);
    }
    if (rdmsr(MSR_MCG_CAP) & MCG_CAP_CTL_P && !wrmsr_safe(MSR_MCG_CTL, ~0ull))
        log_debug("machine check: no global control register");
}

void mce_init(void)
{
    if (!bank_count())
        return;
    for_each_cpu(c, &cpus_online)
    {
        timer_init(&poll_timer[c], poll, NULL, c);
        timer_set(&poll_timer[c], arch_time_ns() + POLL_NS);
    }
}
