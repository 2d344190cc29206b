/*
 * What the toolstack asks of the scheduler: weights and caps, affinity, CPU pools, NUMA affinity. We answer as credit2
 * (XEN_SCHEDULER_CREDIT2), whose parameters - a weight, a cap in percent of a CPU, a rate limit per pool - are ours.
 * Errors of the pool operations: xen/sysctl.h. Locks: none of its own.
 */
#include "private.h"
#include "core/cpupool.h"
#include "core/domain.h"
#include "core/frame.h"
#include "core/sched.h"

#define HARD  XEN_VCPUAFFINITY_HARD
#define SOFT  XEN_VCPUAFFINITY_SOFT
#define FORCE XEN_VCPUAFFINITY_FORCE

/* --- parameters --- */

/* 0 leaves a weight as it is. Credit2 has no parameters of single vCPUs. */
long domctl_scheduler_op(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct xen_domctl_scheduler_op *op = &c->op.u.scheduler_op;
    struct sched_params p;

    if (op->sched_id != XEN_SCHEDULER_CREDIT2)
        return -EINVAL;
    switch (op->cmd) {
    case XEN_DOMCTL_SCHEDOP_putinfo:
        sched_get_params(c->d, &p);
        if (op->u.credit2.weight)
            p.weight = op->u.credit2.weight;
        p.cap = op->u.credit2.cap;
        return sched_set_params(c->d, p.weight, p.cap);
    case XEN_DOMCTL_SCHEDOP_getinfo:
        sched_get_params(c->d, &p);
        op->u.credit2.weight = (uint16_t)p.weight;
        op->u.credit2.cap = (uint16_t)p.cap;
        c->write_back = true;
        return 0;
    }
    return -EINVAL;
}

long sysctl_sched_id(struct hypercall *hc)
{
    sysctl_of(hc)->op.u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2;
    sysctl_of(hc)->write_back = true;
    return 0;
}

long sysctl_scheduler_op(struct hypercall *hc)
{
    struct sysctl *c = sysctl_of(hc);
    struct xen_sysctl_scheduler_op *op = &c->op.u.scheduler_op;
    uint32_t *us = &op->u.sched_credit2.ratelimit_us, want = *us;
    bool put = op->cmd == XEN_SYSCTL_SCHEDOP_putinfo;

    if (!put && op->cmd != XEN_SYSCTL_SCHEDOP_getinfo)
        return -EINVAL;
    if (op->sched_id != XEN_SCHEDULER_CREDIT2)
        return -EINVAL;
    c->write_back = true;
    return cpupool_rate_limit(op->cpupool_id, put ? &want : NULL, us);
}

/* --- affinity --- */

static int affinity_target(struct domctl *c, struct vcpu **out)
{
    const struct xen_domctl_vcpuaffinity *a = &c->op.u.vcpuaffinity;

    if (a->vcpu >= c->d->max_vcpus || !(a->flags & (HARD | SOFT | FORCE)))
        return -EINVAL;
    if ((a->flags & HARD && !HANDLE(a->cpumap_hard.bitmap).a) ||
        (a->flags & SOFT && !HANDLE(a->cpumap_soft.bitmap).a))
        return -EINVAL;
    *out = domctl_vcpu(c, a->vcpu);
    return *out ? 0 : -ESRCH;
}

/* The masks that the flags name. */
static int affinity_write(struct hypercall *hc, const struct cpumask *hard, const struct cpumask *soft)
{
    struct xen_domctl_vcpuaffinity *a = &domctl_of(hc)->op.u.vcpuaffinity;
    int r = 0;

    if (a->flags & HARD)
        r = control_bitmap_write(hc->caller, &a->cpumap_hard, hard->w, cpu_count());
    if (!r && a->flags & SOFT)
        r = control_bitmap_write(hc->caller, &a->cpumap_soft, soft->w, cpu_count());
    return r;
}

/* FORCE first undoes what the vCPU itself asked for (SCHEDOP_pin_override). Answers what is in force. */
long domctl_setvcpuaffinity(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct xen_domctl_vcpuaffinity *a = &c->op.u.vcpuaffinity;
    struct cpumask hard = {{0}}, soft = {{0}};
    struct sched_affinity now;
    struct vcpu *v;
    int r = affinity_target(c, &v);

    if (!r && a->flags & HARD)
        r = control_bitmap_read(hc->caller, hard.w, MAX_CPUS, &a->cpumap_hard);
    if (!r && a->flags & SOFT)
        r = control_bitmap_read(hc->caller, soft.w, MAX_CPUS, &a->cpumap_soft);
    if (r)
        return r;
    if (a->flags & FORCE && sched_pin_override(v, -1))
        a->flags &= ~FORCE; /* there was nothing to undo */
    if (a->flags & (HARD | SOFT))
        r = sched_set_affinity(v, a->flags & HARD ? &hard : NULL, a->flags & SOFT ? &soft : NULL);
    if (r)
        return r;
    sched_get_affinity(v, &now);
    return affinity_write(hc, &now.hard_now, &now.soft_now);
}

long domctl_getvcpuaffinity(struct hypercall *hc)
{
    struct sched_affinity now;
    struct vcpu *v;
    int r = affinity_target(domctl_of(hc), &v);

    if (r)
        return r;
    sched_get_affinity(v, &now);
    return affinity_write(hc, &now.hard, &now.soft);
}

/* --- NUMA --- */

/* Where a domain's memory should come from; a set without memory is no place. */
long domctl_setnodeaffinity(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    uint64_t nodes;

    if (control_bitmap_read(hc->caller, &nodes, 32, &c->op.u.nodeaffinity.nodemap))
        return -EFAULT;
    return frame_set_node_affinity(c->d, (uint32_t)nodes);
}

long domctl_getnodeaffinity(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    uint64_t nodes = frame_node_affinity(c->d);

    return control_bitmap_write(hc->caller, &c->op.u.nodeaffinity.nodemap, &nodes, 32);
}

/* --- pools --- */

static int pool_info(struct hypercall *hc, struct xen_sysctl_cpupool_op *op)
{
    struct cpupool_info i;
    int r = cpupool_info(op->cpupool_id, &i);

    if (r)
        return r;
    op->cpupool_id = i.id;
    op->sched_id = XEN_SCHEDULER_CREDIT2;
    op->n_dom = i.domains;
    sysctl_of(hc)->write_back = true;
    return control_bitmap_write(hc->caller, &op->cpumap, i.cpus.w, cpu_count());
}

static int pool_free_info(struct hypercall *hc, struct xen_sysctl_cpupool_op *op)
{
    struct cpumask m;

    cpupool_free_cpus(&m);
    return control_bitmap_write(hc->caller, &op->cpumap, m.w, cpu_count());
}

static int pool_create(struct hypercall *hc, struct xen_sysctl_cpupool_op *op)
{
    if (op->sched_id != XEN_SCHEDULER_CREDIT2)
        return -ENOENT;
    sysctl_of(hc)->write_back = true;
    return cpupool_create(op->cpupool_id, &op->cpupool_id);
}

static int pool_move(const struct xen_sysctl_cpupool_op *op)
{
    struct domain *d = op->domid < DOMID_FIRST_RESERVED ? domain_get(DID(op->domid)) : NULL;
    int r;

    if (!d)
        return -EINVAL;
    r = cpupool_domain_move(d, op->cpupool_id);
    domain_put(d);
    return r;
}

long sysctl_cpupool_op(struct hypercall *hc)
{
    struct xen_sysctl_cpupool_op *op = &sysctl_of(hc)->op.u.cpupool_op;

    switch (op->op) {
    case XEN_SYSCTL_CPUPOOL_OP_CREATE:
        return pool_create(hc, op);
    case XEN_SYSCTL_CPUPOOL_OP_DESTROY:
        return cpupool_destroy(op->cpupool_id);
    case XEN_SYSCTL_CPUPOOL_OP_INFO:
        return pool_info(hc, op);
    case XEN_SYSCTL_CPUPOOL_OP_ADDCPU:
        return cpupool_cpu_add(op->cpupool_id, op->cpu);
    case XEN_SYSCTL_CPUPOOL_OP_RMCPU:
        return cpupool_cpu_remove(op->cpupool_id, op->cpu);
    case XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN:
        return pool_move(op);
    case XEN_SYSCTL_CPUPOOL_OP_FREEINFO:
        return pool_free_info(hc, op);
    }
    return -ENOSYS;
}
