/*
 * The life of a published domain: paused and running, shut down, crashed, watched.
 *
 * Invariants
 *  1. A vCPU is runnable only if its own pause_flags and pause_count and its domain's pause_count are all
 * zero.
 *  2. shut_down holds exactly one pause of the domain, dropped by domain_resume().
 *  3. shutdown_code never changes from a code to another one while shutting_down.
 *  4. domain_crash() acts once per shutdown; the reason is printed once.
 *  5. pause_count includes controller_pauses at every moment: both rise in one step under d->lock.
 *
 * Locks: d->lock; domain_crash takes none but the run queues'. The synchronous pauses wait for other CPUs and
 * so are called without locks.
 */
#include "private.h"
#include "core/console.h"
#include "core/log.h"
#include "core/params.h"
#include "core/sched.h"
#include "core/trace.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/time.h"
#include "lib/fmt.h"
#include <stdarg.h>

/* --- pauses
 * ------------------------------------------------------------------------------------------------------------
 */

/* The vCPUs of a domain whose pause_count the caller has raised. */
static void sleep_nosync(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        vcpu_sleep_nosync(v);
    }
}

static void sleep_sync(struct domain *d)
{
    sleep_nosync(d);
    for_each_vcpu(d, v)
    {
        vcpu_sleep_sync(v);
    }
}

void domain_pause_nosync(struct domain *d)
{
    __atomic_fetch_add(&d->pause_count, 1, __ATOMIC_SEQ_CST);
    sleep_nosync(d);
}

void domain_pause(struct domain *d)
{
    ASSERT(arch_current()->domain != d);
    __atomic_fetch_add(&d->pause_count, 1, __ATOMIC_SEQ_CST);
    sleep_sync(d);
}

void domain_unpause(struct domain *d)
{
    uint32_t old = __atomic_fetch_sub(&d->pause_count, 1, __ATOMIC_SEQ_CST);

    BUG_ON(!old);
    if (old == 1) {
        for_each_vcpu(d, v)
        {
            vcpu_wake(v);
        }
    }
}

void vcpu_pause(struct vcpu *v)
{
    ASSERT(arch_current() != v);
    __atomic_fetch_add(&v->pause_count, 1, __ATOMIC_SEQ_CST);
    vcpu_sleep_sync(v);
}

void vcpu_unpause(struct vcpu *v)
{
    uint32_t old = __atomic_fetch_sub(&v->pause_count, 1, __ATOMIC_SEQ_CST);

    BUG_ON(!old);
    if (old == 1)
        vcpu_wake(v);
}

/* Both counts as one step: an unpause on another CPU that sees the controller's pause finds the domain's as well. */
static int count_controller_pause(struct domain *d)
{
    int r = 0;

    spin_lock(&d->lock);
    if (d->controller_pauses == 255) {
        r = -EOVERFLOW;
    } else {
        d->controller_pauses++;
        __atomic_fetch_add(&d->pause_count, 1, __ATOMIC_SEQ_CST);
    }
    spin_unlock(&d->lock);
    return r;
}

int domain_controller_pause(struct domain *d)
{
    int r = count_controller_pause(d);

    ASSERT(arch_current()->domain != d);
    if (!r)
        sleep_sync(d);
    return r;
}

int domain_controller_pause_nosync(struct domain *d)
{
    int r = count_controller_pause(d);

    if (!r)
        sleep_nosync(d);
    return r;
}

int domain_controller_unpause(struct domain *d)
{
    int r = 0;

    spin_lock(&d->lock);
    if (!d->controller_pauses)
        r = -EINVAL;
    else
        d->started |= !--d->controller_pauses;
    spin_unlock(&d->lock);
    if (!r)
        domain_unpause(d);
    return r;
}

/* --- shutdown
 * ----------------------------------------------------------------------------------------------------------
 */

void domain_shutdown(struct domain *d, uint8_t code)
{
    uint32_t port;
    bool first;

    trace(TRC_SCHED_SHUTDOWN_CODE, d->id.v, 0, code);
    spin_lock(&d->lock);
    first = !d->shutting_down && !domain_is_dying(d);
    if (first) {
        d->shutting_down = true;
        if (d->shutdown_code == SHUTDOWN_CODE_NONE)
            d->shutdown_code = code;
        code = d->shutdown_code;
    }
    spin_unlock(&d->lock);
    if (!first)
        return;
    domain_pause_nosync(d);
    if (d->hardware)
        hardware_domain_shutdown(code);
    spin_lock(&d->lock);
    d->shut_down = true;
    spin_unlock(&d->lock);
    port = __atomic_load_n(&d->suspend_port, __ATOMIC_RELAXED);
    if (code == SHUTDOWN_suspend && port && evtchn_send(d, PORT(port)))
        log_guest(d->id, LOG_DEBUG, "suspended, but its port %u for that is closed", port);
    evtchn_virq_dom0(VIRQ_DOM_EXC);
}

int domain_resume(struct domain *d)
{
    int r = -EINVAL;

    spin_lock(&d->lock);
    if (d->shut_down && !domain_is_dying(d)) {
        d->shutting_down = d->shut_down = false;
        d->shutdown_code = SHUTDOWN_CODE_NONE;
        __atomic_store_n(&d->crashed, 0, __ATOMIC_RELAXED);
        r = 0;
    }
    spin_unlock(&d->lock);
    if (!r)
        domain_unpause(d);
    return r;
}

void domain_crash_job(void *data)
{
    struct domain *d = data;

    domain_shutdown(d, SHUTDOWN_crash);
    domain_put(d);
}

/*
 * The caller may hold locks, so here the domain only stops; the rest is done by a tasklet. If the domain runs
 * here, the switch away from it is pending when the caller comes to the way back to the guest.
 */
void domain_crash(struct domain *d, const char *fmt, ...)
{
    struct vcpu *v = arch_current();
    char why[160];
    va_list ap;

    BUG_ON(d->system);
    if (__atomic_exchange_n(&d->crashed, 1, __ATOMIC_ACQ_REL)) {
        domain_pause_nosync(d); /* nothing of it may go on, whoever resumed it meanwhile */
        return;
    }
    va_start(ap, fmt);
    fmt_vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    log_err("d%u crashed: %s", d->id.v, why);
    if (v && v->domain == d)
        arch_vcpu_dump(v);
    domain_pause_nosync(d);
    domain_ref(d);
    tasklet_schedule(&d->crash_job);
}

/* --- the machine follows its hardware domain
 * ----------------------------------------------------------------------------- */

bool opt_noreboot;
PARAM_BOOL("noreboot", opt_noreboot, "stay on the screen instead of restarting after a crash");

static __attribute__((noreturn)) void crashed(const char *what)
{
    log_err("Hardware Dom0 %s", what);
    if (opt_noreboot) {
        log_err("noreboot: the machine stays as it is");
        for (;;)
            arch_cpu_relax();
    }
    log_err("Restarting the machine");
    arch_machine_restart();
}

void hardware_domain_shutdown(uint8_t code)
{
    switch (code) {
    case SHUTDOWN_poweroff:
        log_info("Hardware Dom0 powered off: powering off the machine");
        arch_machine_poweroff();
    case SHUTDOWN_reboot:
        log_info("Hardware Dom0 rebooted: restarting the machine");
        arch_machine_restart();
    case SHUTDOWN_crash:
        crashed("crashed");
    case SHUTDOWN_watchdog:
        crashed("watchdog fired");
    default:
        crashed("shut down for a reason we do not know");
    }
}

/* --- SCHEDOP_watchdog's timers
 * ------------------------------------------------------------------------------------------- */

void domain_watchdog_fire(void *data)
{
    struct domain *d = data;

    log_guest(d->id, LOG_WARN, "watchdog timer expired");
    domain_shutdown(d, SHUTDOWN_watchdog);
}

long domain_watchdog(struct domain *d, uint32_t id, uint32_t seconds)
{
    long r = 0;

    if (id > DOMAIN_WATCHDOGS || (!id && !seconds))
        return -EINVAL;
    spin_lock(&d->lock);
    if (!id) {
        while (id < DOMAIN_WATCHDOGS && (d->watchdog_used & (1u << id)))
            id++;
        r = id < DOMAIN_WATCHDOGS ? (long)++id : -ENOSPC;
    } else if (!(d->watchdog_used & (1u << (id - 1)))) {
        r = -EINVAL;
    }
    if (r >= 0 && seconds) {
        d->watchdog_used |= 1u << (id - 1);
        timer_set(&d->watchdog[id - 1], arch_time_ns() + seconds * 1000000000ull);
    } else if (r >= 0) {
        d->watchdog_used &= ~(1u << (id - 1));
        timer_stop(&d->watchdog[id - 1]);
    }
    spin_unlock(&d->lock);
    return r;
}
