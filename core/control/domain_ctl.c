/*
 * domctl on a domain as a whole: life, limits, identity, what is told about it.
 * Locks: d->lock where a field is its own; figures are read without (they are a moment's).
 */
#include "private.h"
#include "arch/control.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "core/domain.h"
#include "core/evtchn.h"
#include "core/grant.h"
#include "core/guest.h"
#include "core/sched.h"
#include "lib/string.h"

#define KIB_PER_FRAME (FRAME_SIZE / 1024)

/* --- life --- */

/* Preemptible: the domain itself remembers how far its destruction has come. */
long domctl_destroydomain(struct hypercall *hc)
{
    int r = domain_kill(domctl_of(hc)->d);

    return r == -EAGAIN ? HC_AGAIN : r;
}

long domctl_pausedomain(struct hypercall *hc)
{
    struct domain *d = domctl_of(hc)->d;

    return d == hc->caller->domain ? -EINVAL : domain_controller_pause(d);
}

long domctl_unpausedomain(struct hypercall *hc)
{
    return domain_controller_unpause(domctl_of(hc)->d);
}

long domctl_resumedomain(struct hypercall *hc)
{
    struct domain *d = domctl_of(hc)->d;

    return d == hc->caller->domain ? -EINVAL : domain_resume(d);
}

/* Preemptible: the domain itself remembers how far it has come. */
long domctl_soft_reset(struct hypercall *hc)
{
    int r = domain_soft_reset(domctl_of(hc)->d);

    return r == -EAGAIN ? HC_AGAIN : r;
}

/* --- limits and identity --- */

/* Below what the domain has: it keeps that and gets no more. */
long domctl_max_mem(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);

    spin_lock(&c->d->page_lock);
    __atomic_store_n(&c->d->max_frames, c->op.u.max_mem.max_memkb / KIB_PER_FRAME, __ATOMIC_RELAXED);
    spin_unlock(&c->d->page_lock);
    return 0;
}

long domctl_setdomainhandle(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);

    spin_lock(&c->d->lock);
    memcpy(c->d->handle, c->op.u.setdomainhandle.handle, sizeof(c->d->handle));
    spin_unlock(&c->d->lock);
    return 0;
}

long domctl_settimeoffset(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);

    spin_lock(&c->d->lock);
    c->d->time_offset = c->op.u.settimeoffset.time_offset_seconds;
    spin_unlock(&c->d->lock);
    arch_wallclock_publish(c->d);
    return 0;
}

/* --- who is told of what --- */

long domctl_set_virq_handler(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);

    return evtchn_virq_handler_set(c->d, c->op.u.set_virq_handler.virq);
}

/* The port of the domain that rings when it has suspended. */
long domctl_subscribe(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    uint32_t port = c->op.u.subscribe.port;
    bool valid;

    evtchn_is_pending(c->d, PORT(port), &valid);
    if (!valid)
        return -EINVAL;
    __atomic_store_n(&c->d->suspend_port, port, __ATOMIC_RELAXED);
    return 0;
}

/* --- figures --- */

static void vcpu_figures(struct domain *d, struct xen_domctl_getdomaininfo *out)
{
    uint32_t state = XEN_DOMINF_blocked;

    out->max_vcpu_id = XEN_INVALID_MAX_VCPU_ID;
    for_each_vcpu(d, v)
    {
        uint32_t flags = __atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED);

        out->cpu_time += sched_vcpu_time(v);
        out->max_vcpu_id = v->id;
        if (flags & VPF_DOWN)
            continue;
        out->nr_online_vcpus++;
        if (!(flags & VPF_BLOCKED))
            state &= ~(uint32_t)XEN_DOMINF_blocked;
        if (__atomic_load_n(&v->running, __ATOMIC_RELAXED))
            state |= XEN_DOMINF_running;
    }
    if (out->nr_online_vcpus)
        out->flags |= state;
}

static void state_flags(const struct domain *d, struct xen_domctl_getdomaininfo *out)
{
    if (__atomic_load_n(&d->dying, __ATOMIC_RELAXED) == DOM_DEAD)
        out->flags |= XEN_DOMINF_dying;
    if (d->shut_down)
        out->flags |= XEN_DOMINF_shutdown;
    if (d->controller_pauses)
        out->flags |= XEN_DOMINF_paused;
    if (d->xenstore)
        out->flags |= XEN_DOMINF_xs_domain;
    out->flags |= (uint32_t)d->shutdown_code << XEN_DOMINF_shutdownshift;
}

void control_domain_info(struct domain *d, struct xen_domctl_getdomaininfo *out)
{
    memset(out, 0, sizeof(*out));
    out->domain = d->id.v;
    spin_lock(&d->lock);
    state_flags(d, out);
    memcpy(out->handle, d->handle, sizeof(out->handle));
    spin_unlock(&d->lock);
    vcpu_figures(d, out);
    out->tot_pages = __atomic_load_n(&d->frames, __ATOMIC_RELAXED);
    out->max_pages = __atomic_load_n(&d->max_frames, __ATOMIC_RELAXED);
    out->outstanding_pages = __atomic_load_n(&d->outstanding, __ATOMIC_RELAXED);
    out->shared_info_frame = arch_shared_info_gfn(d).n;
    out->cpupool = sched_domain_pool(d);
    arch_domain_info(d, out);
}

/* 4.17's tools walk the list by asking for id + 1 and get the next domain there is; later ones mean exactly that id. */
long domctl_getdomaininfo(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    did_t id = DID(c->op.domain);

    if (id.v == DOMID_SELF)
        id = hc->caller->domain->id;
    c->d = c->version < DOMCTL_4_18 ? domain_get_from(id) : domain_get(id);
    if (!c->d)
        return -ESRCH;
    control_domain_info(c->d, &c->op.u.getdomaininfo);
    c->op.domain = c->d->id.v;
    c->write_back = true;
    return 0;
}

/* sysctl: as many as there are from first_domain on, up to max_domains. */
long sysctl_getdomaininfolist(struct hypercall *hc)
{
    struct xen_sysctl_getdomaininfolist *l = &sysctl_of(hc)->op.u.getdomaininfolist;
    struct xen_domctl_getdomaininfo info;
    uint32_t n = 0;

    for (unsigned id = l->first_domain; n < l->max_domains && id < DOMID_FIRST_RESERVED; n++) {
        struct domain *d = domain_get_from(DID(id));

        if (!d)
            break;
        control_domain_info(d, &info);
        id = d->id.v + 1u;
        domain_put(d);
        if (guest_write_at(hc->caller, HANDLE(l->buffer), n, &info, sizeof(info)))
            return -EFAULT;
    }
    l->num_domains = n;
    sysctl_of(hc)->write_back = true;
    return 0;
}
