/*
 * SCHEDOP_* (xen/sched.h). arg: 0 command, 1 pointer. All but remote_shutdown act on the caller.
 *
 * SCHEDOP_poll and the sender of an event: the poller publishes what it waits for (poll_port / polling_any,
 * VPF_POLLING, then the bit in poll_mask) and looks at the ports after that; the sender marks the port
 * pending and looks at poll_mask after that. So at least one of them sees the other. In this order: a sender
 * that takes the bit finds VPF_POLLING to clear. A bit that is left over costs one spare wake-up.
 */
#include "core/domain.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"

#define POLL_MAX 128u

static long op_yield(struct hypercall *hc)
{
    vcpu_yield(hc->caller);
    return 0;
}

static long op_block(struct hypercall *hc)
{
    vcpu_block(hc->caller);
    return 0;
}

/* --- shutdown
 * ----------------------------------------------------------------------------------------------------------
 */

static int reason_check(unsigned reason)
{
    return reason < SHUTDOWN_CODE_NONE ? 0 : -EINVAL;
}

static long op_shutdown(struct hypercall *hc)
{
    struct sched_shutdown a;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    if (reason_check(a.reason))
        return -EINVAL;
    log_guest(hc->caller->domain->id, LOG_INFO, "shuts down, code %u", a.reason);
    domain_shutdown(hc->caller->domain, (uint8_t)a.reason);
    return 0;
}

static long op_shutdown_code(struct hypercall *hc)
{
    struct domain *d = hc->caller->domain;
    struct sched_shutdown a;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    if (reason_check(a.reason))
        return -EINVAL;
    spin_lock(&d->lock);
    if (!d->shutting_down && d->shutdown_code == SHUTDOWN_CODE_NONE)
        d->shutdown_code = (uint8_t)a.reason;
    spin_unlock(&d->lock);
    return 0;
}

static long op_remote_shutdown(struct hypercall *hc)
{
    struct sched_remote_shutdown a;
    struct domain *d;
    int r;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    if (reason_check(a.reason))
        return -EINVAL;
    r = hc_target(hc, DID(a.domain_id), &d);
    if (r)
        return r;
    if (d == hc->caller->domain)
        r = -EPERM;
    else
        domain_shutdown(d, (uint8_t)a.reason);
    domain_put(d);
    return r;
}

/* --- poll
 * --------------------------------------------------------------------------------------------------------------
 */

static void poll_begin(struct vcpu *v, const evtchn_port_t *port, unsigned n)
{
    timer_stop(&v->poll); /* of an earlier poll that an event ended */
    __atomic_store_n(&v->polling_any, n != 1, __ATOMIC_RELAXED);
    __atomic_store_n(&v->poll_port.v, n == 1 ? port[0] : 0, __ATOMIC_RELAXED);
    __atomic_fetch_or(&v->pause_flags, VPF_POLLING, __ATOMIC_SEQ_CST);
    __atomic_fetch_or(&v->domain->evtchn.poll_mask[v->id / 64], 1ull << (v->id % 64), __ATOMIC_SEQ_CST);
}

static void poll_cancel(struct vcpu *v)
{
    __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_POLLING, __ATOMIC_SEQ_CST);
    __atomic_fetch_and(&v->domain->evtchn.poll_mask[v->id / 64], ~(1ull << (v->id % 64)), __ATOMIC_SEQ_CST);
}

/* 1: something is there already; 0: not; -EINVAL: no such port. */
static int poll_look(const struct vcpu *v, const evtchn_port_t *port, unsigned n)
{
    const struct guest_ops *ops = v->domain->ops;
    bool valid;

    if (__atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_SEQ_CST) &&
        (ops->listens ? ops->listens(v) : !__atomic_load_n(&v->info->evtchn_upcall_mask, __ATOMIC_RELAXED)))
        return 1;
    for (unsigned i = 0; i < n; i++) {
        bool pending = evtchn_is_pending(v->domain, PORT(port[i]), &valid);

        if (!valid)
            return -EINVAL;
        if (pending)
            return 1;
    }
    return 0;
}

static long op_poll(struct hypercall *hc)
{
    struct vcpu *v = hc->caller;
    evtchn_port_t port[POLL_MAX];
    struct sched_poll a;
    int r;

    if (guest_read(v, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    if (a.nr_ports > POLL_MAX)
        return -EINVAL;
    if (a.nr_ports && guest_read(v, port, HANDLE(a.ports), a.nr_ports * sizeof(port[0])))
        return -EFAULT;
    poll_begin(v, port, a.nr_ports);
    r = poll_look(v, port, a.nr_ports);
    if (r) {
        poll_cancel(v);
        return r < 0 ? r : 0;
    }
    if (a.timeout) {
        timer_migrate(&v->poll, arch_cpu_id());
        timer_set(&v->poll, a.timeout);
    }
    work_raise(WORK_SCHEDULE);
    return 0;
}

/* --- the rest
 * -----------------------------------------------------------------------------------------------------------
 */

static long op_watchdog(struct hypercall *hc)
{
    struct sched_watchdog a;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    return domain_watchdog(hc->caller->domain, a.id, a.timeout);
}

static long op_pin_override(struct hypercall *hc)
{
    struct sched_pin_override a;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    return sched_pin_override(hc->caller, a.pcpu);
}

/* arg: 0 command, 1 the value itself. */
long do_sched_op_compat(struct hypercall *hc)
{
    switch (hc_u32(hc, 0)) {
    case SCHEDOP_yield:
        return op_yield(hc);
    case SCHEDOP_block:
        return op_block(hc);
    case SCHEDOP_shutdown:
        if (reason_check(hc_u32(hc, 1)))
            return -EINVAL;
        domain_shutdown(hc->caller->domain, (uint8_t)hc->arg[1]);
        return 0;
    }
    return -ENOSYS;
}

const struct hc_op sched_ops[] = {
    {SCHEDOP_yield, PERM_ANY, "SCHEDOP_yield", op_yield},
    {SCHEDOP_block, PERM_ANY, "SCHEDOP_block", op_block},
    {SCHEDOP_shutdown, PERM_ANY, "SCHEDOP_shutdown", op_shutdown},
    {SCHEDOP_poll, PERM_ANY, "SCHEDOP_poll", op_poll, 0, "up to 128 ports"},
    {SCHEDOP_remote_shutdown, PERM_TARGET, "SCHEDOP_remote_shutdown", op_remote_shutdown, 0,
     "another domain"},
    {SCHEDOP_shutdown_code, PERM_ANY, "SCHEDOP_shutdown_code", op_shutdown_code},
    {SCHEDOP_watchdog, PERM_ANY, "SCHEDOP_watchdog", op_watchdog, 0, "two timers per domain"},
    {SCHEDOP_pin_override, PERM_HARDWARE, "SCHEDOP_pin_override", op_pin_override},
};
const unsigned sched_op_count = ARRAY_SIZE(sched_ops);
