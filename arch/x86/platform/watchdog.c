/*
 * Hang detection (`watchdog`, `watchdog_timeout=`): every CPU runs a timer once a second that counts a
 * heartbeat and looks at the next CPU's. A CPU whose heartbeat stands still for the timeout is named, sent an
 * NMI so that its own registers are printed, and the machine panics. It needs two CPUs: a lone one has nobody
 * to watch it.
 *
 * Invariants: beat[c] is written by c only; suspect[] is set once and never cleared.
 * Locks: none.
 */
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/console.h"
#include "core/log.h"
#include "core/params.h"
#include "core/timer.h"
#include "private.h"
#include "x86/cpu.h"

#define PERIOD_NS 1000000000ull

static bool opt_watchdog;
PARAM_BOOL("watchdog", opt_watchdog, "panic when a CPU hangs");
static unsigned opt_timeout = 5;
PARAM_UINT("watchdog_timeout", opt_timeout, "seconds without life before `watchdog` panics");

static struct {
    struct timer timer;
    uint32_t beat;
    uint32_t seen;     /* the watched CPU's beat as last seen */
    uint64_t since_ns; /* ... and since when */
} dog[MAX_CPUS];
static bool suspect[MAX_CPUS];

static void accuse(unsigned cpu)
{
    uint64_t until = arch_time_ns() + PERIOD_NS;

    console_panic_mode(); /* it may hold the console's lock */
    log_err("watchdog: CPU%u has run no timer for %u s", cpu, opt_timeout);
    __atomic_store_n(&suspect[cpu], true, __ATOMIC_SEQ_CST);
    apic_send_nmi(cpu);
    while (arch_time_ns() < until) /* it panics with its own registers, if it still takes NMIs */
        arch_cpu_relax();
    panic("watchdog: CPU%u hangs and does not take NMIs", cpu);
}

static void bark(void *unused)
{
    unsigned self = arch_cpu_id(), other = (self + 1) % cpu_count();
    uint64_t now = arch_time_ns();
    uint32_t beat = __atomic_load_n(&dog[other].beat, __ATOMIC_RELAXED);

    __atomic_fetch_add(&dog[self].beat, 1, __ATOMIC_RELAXED);
    if (!beat || beat != dog[self].seen ||
        !dog[self].since_ns) { /* 0: it is still busy starting the machine */
        dog[self].seen = beat;
        dog[self].since_ns = now;
    } else if (now - dog[self].since_ns > opt_timeout * PERIOD_NS) {
        accuse(other);
    }
    timer_set(&dog[self].timer, now + PERIOD_NS);
}

/* On the suspect itself: its registers say where it hangs. */
static bool nmi(const struct guest_regs *r)
{
    if (!__atomic_load_n(&suspect[arch_cpu_id()], __ATOMIC_SEQ_CST))
        return false;
    console_panic_mode();
    show_registers(r);
    panic("watchdog: CPU%u hangs", arch_cpu_id());
}

#ifdef DEBUG
/* For the test of this very file: a CPU that takes no interrupts any more. */
static void hang(void *unused)
{
    arch_irq_disable();
    for (;;)
        arch_cpu_relax();
}

static void hang_last_cpu(void)
{
    static struct timer timer;

    timer_init(&timer, hang, NULL, cpu_count() - 1);
    timer_set(&timer, arch_time_ns());
}
#endif

void watchdog_init(void)
{
#ifdef DEBUG
    debug_key_register('H', "hang the last CPU", hang_last_cpu);
#endif
    if (!opt_watchdog)
        return;
    if (cpu_count() < 2) {
        log_warn("watchdog: needs two CPUs, there is one");
        return;
    }
    nmi_set_handler(nmi);
    opt_timeout = MAX(opt_timeout, 2u);
    for_each_cpu(c, &cpus_online)
    {
        timer_init(&dog[c].timer, bark, NULL, c);
        timer_set(&dog[c].timer, arch_time_ns() + PERIOD_NS);
    }
    log_info("watchdog: on, %u s", opt_timeout);
}
