/*
 * A domain as a kernel wants it that goes on where another one crashed (kexec): no event channels, nothing of ours in its memory, no device
 * models; its memory, its grants and its vCPUs' registers stay. The toolstack asks when the domain has shut down for that.
 *
 * Invariants
 *  1. It acts on a domain that is shut down and whose vCPUs are off their CPUs; the last step lets it run again.
 *  2. Each step may be done again: who was preempted starts over, evtchn.close_next says how far ports are closed.
 * Locks: d->lock for the whole of a call.
 */
#include "private.h"
#include "core/evtchn.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"

static void forget_areas(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        vcpu_info_release(v);
        v->runstate_area.a = v->time_area.a = 0;
    }
    __atomic_store_n(&d->suspend_port, 0, __ATOMIC_RELAXED);
}

static int reset(struct domain *d)
{
    int r;

    if (!d->shut_down || domain_is_dying(d))
        return -EINVAL;
    r = evtchn_domain_reset(d);
    if (r)
        return r;
    forget_areas(d);
    return arch_domain_soft_reset(d);
}

int domain_soft_reset(struct domain *d)
{
    int r;

    if (d->system || d->hardware || arch_current()->domain == d || !d->ops->translated || !d->shut_down)
        return -EINVAL;
    for_each_vcpu(d, v)
    {
        vcpu_sleep_sync(v);
    }
    spin_lock(&d->lock);
    r = reset(d);
    spin_unlock(&d->lock);
    return r ? r : domain_resume(d);
}
