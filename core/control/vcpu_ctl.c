/*
 * domctl on single vCPUs: context, what is told about one, triggers.
 * Locks: d->lock around a change of context, as VCPUOP_initialise takes it; the domain is paused meanwhile.
 */
#include "private.h"
#include "arch/control.h"
#include "arch/guest_ops.h"
#include "arch/time.h"
#include "core/domain.h"
#include "core/sched.h"

static void set_online(struct vcpu *v, bool online)
{
    if (online)
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_or(&v->pause_flags, VPF_DOWN, __ATOMIC_SEQ_CST);
}

/* A null context puts the vCPU back to where it was before it was initialised. */
static int reset(struct vcpu *v)
{
    int r = arch_vcpu_unload(v);

    if (r)
        return r;
    arch_vcpu_reset(v);
    set_online(v, false);
    v->initialised = false;
    return 0;
}

static int set_context(struct vcpu *v, struct vcpu *caller, gva_t context)
{
    bool online = false;
    int r;

    if (!context.a)
        return reset(v);
    r = arch_vcpu_initialise(v, caller, context, &online);
    if (r)
        return r;
    v->initialised = true;
    if (!v->id) /* a guest without a time offset, too, wants to know the time of day */
        arch_wallclock_publish(v->domain);
    set_online(v, online);
    return 0;
}

long domctl_setvcpucontext(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct vcpu *v = domctl_vcpu(c, c->op.u.vcpucontext.vcpu);
    int r;

    if (c->d == hc->caller->domain)
        return -EINVAL;
    if (!v)
        return -ESRCH;
    domain_pause(c->d);
    spin_lock(&c->d->lock);
    r = domain_is_dying(c->d) ? -EINVAL : set_context(v, hc->caller, HANDLE(c->op.u.vcpucontext.ctxt));
    spin_unlock(&c->d->lock);
    domain_unpause(c->d); /* wakes it if it is up now */
    return r == -EAGAIN ? HC_AGAIN : r;
}

long domctl_getvcpuinfo(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct xen_domctl_getvcpuinfo *i = &c->op.u.getvcpuinfo;
    struct vcpu *v = domctl_vcpu(c, i->vcpu);
    uint32_t flags;

    if (!v)
        return c->d->max_vcpus > i->vcpu ? -ESRCH : -EINVAL;
    flags = __atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED);
    i->online = !(flags & VPF_DOWN);
    i->blocked = (flags & VPF_BLOCKED) != 0;
    i->running = __atomic_load_n(&v->running, __ATOMIC_RELAXED);
    i->cpu_time = sched_vcpu_time(v);
    /* One that sleeps is moved when it wakes: told is where that will be. */
    i->cpu = i->running || cpumask_test(&v->allowed, v->cpu) ? v->cpu : cpumask_next(&v->allowed, 0);
    c->write_back = true;
    return 0;
}

long domctl_sendtrigger(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct vcpu *v = domctl_vcpu(c, c->op.u.sendtrigger.vcpu);

    if (!v)
        return -ESRCH;
    switch (c->op.u.sendtrigger.trigger) {
    case XEN_DOMCTL_SENDTRIGGER_NMI:
        return arch_vcpu_nmi(v);
    case XEN_DOMCTL_SENDTRIGGER_RESET:
    case XEN_DOMCTL_SENDTRIGGER_INIT:
        return -EINVAL; /* pins of a processor that no toolstack pulls */
    case XEN_DOMCTL_SENDTRIGGER_POWER:
    case XEN_DOMCTL_SENDTRIGGER_SLEEP:
        return arch_domain_button(c->d, c->op.u.sendtrigger.trigger == XEN_DOMCTL_SENDTRIGGER_SLEEP);
    }
    return -ENOSYS;
}
