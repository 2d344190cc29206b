/*
 * sysctl tbuf_op (xen/sysctl.h): trace buffers for xentrace. One operation at a time: trace_lock.
 * Locks: trace_lock, nothing inside it but the allocator's; guest memory is read before it is taken.
 */
#include "private.h"
#include "core/cpumask.h"
#include "core/lock.h"
#include "core/trace.h"

static struct spinlock trace_lock = SPINLOCK_INIT(RANK_DOMAIN);

static long run(struct xen_sysctl_tbuf_op *t, const struct cpumask *cpus)
{
    switch (t->cmd) {
    case XEN_SYSCTL_TBUFOP_get_info:
        t->buffer_mfn = trace_info(&t->size, &t->evt_mask).n;
        return 0;
    case XEN_SYSCTL_TBUFOP_set_cpu_mask:
        trace_set_cpus(cpus);
        return 0;
    case XEN_SYSCTL_TBUFOP_set_evt_mask:
        trace_set_events(t->evt_mask);
        return 0;
    case XEN_SYSCTL_TBUFOP_set_size:
        return trace_set_size(t->size);
    case XEN_SYSCTL_TBUFOP_enable:
    case XEN_SYSCTL_TBUFOP_disable:
        return trace_enable(t->cmd == XEN_SYSCTL_TBUFOP_enable);
    }
    return -EINVAL;
}

long sysctl_tbuf_op(struct hypercall *hc)
{
    struct xen_sysctl_tbuf_op *t = &sysctl_of(hc)->op.u.tbuf_op;
    struct cpumask cpus;
    long r;

    if (t->cmd == XEN_SYSCTL_TBUFOP_set_cpu_mask &&
        control_bitmap_read(hc->caller, cpus.w, MAX_CPUS, &t->cpu_mask))
        return -EFAULT;
    spin_lock(&trace_lock);
    r = run(t, &cpus);
    spin_unlock(&trace_lock);
    sysctl_of(hc)->write_back = t->cmd == XEN_SYSCTL_TBUFOP_get_info;
    return r;
}
