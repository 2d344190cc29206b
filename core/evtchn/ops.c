/*
 * EVTCHNOP_* (xen/event_channel.h): reads the guest's argument once, resolves domains, calls the state
 * machine, writes the result back. A fault while writing back leaves the port open, as the interface has
 * always done: the guest can close it.
 */
#include "private.h"
#include "core/guest.h"
#include "core/log.h"

#define ARG(hc) GVA((hc)->arg[1])

static long op_alloc_unbound(struct hypercall *hc)
{
    struct evtchn_alloc_unbound a;
    struct domain *d;
    port_t port;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (r)
        return r;
    r = hc_target(hc, DID(a.dom), &d);
    if (r)
        return r;
    if (a.remote_dom == DOMID_SELF)
        a.remote_dom = hc->caller->domain->id.v;
    r = d->system ? -EINVAL : evtchn_alloc_unbound(d, DID(a.remote_dom), &port);
    domain_put(d);
    if (r)
        return r;
    a.port = port.v;
    return guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

static long op_bind_interdomain(struct hypercall *hc)
{
    struct domain *ld = hc->caller->domain, *rd;
    struct evtchn_bind_interdomain a;
    port_t port;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (r)
        return r;
    rd = domain_get(a.remote_dom == DOMID_SELF ? ld->id : DID(a.remote_dom));
    if (!rd)
        return -ESRCH;
    r = evtchn_bind_interdomain(ld, rd, a.remote_port, &port);
    domain_put(rd);
    if (r)
        return r;
    a.local_port = port.v;
    return guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

static long op_bind_virq(struct hypercall *hc)
{
    struct evtchn_bind_virq a;
    port_t port;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (!r)
        r = evtchn_bind_virq(hc->caller->domain, a.virq, a.vcpu, &port);
    if (r)
        return r;
    a.port = port.v;
    return guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

static long op_bind_ipi(struct hypercall *hc)
{
    struct evtchn_bind_ipi a;
    port_t port;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (!r)
        r = evtchn_bind_ipi(hc->caller->domain, a.vcpu, &port);
    if (r)
        return r;
    a.port = port.v;
    return guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

/* The interrupt goes to vCPU 0 until bind_vcpu says otherwise. */
static long op_bind_pirq(struct hypercall *hc)
{
    struct vcpu *v = domain_vcpu(hc->caller->domain, 0);
    struct evtchn_bind_pirq a;
    port_t port;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (!r)
        r = v ? evtchn_bind_pirq(v, a.pirq, a.flags & BIND_PIRQ__WILL_SHARE, &port) : -EINVAL;
    if (r)
        return r;
    a.port = port.v;
    return guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

static long op_close(struct hypercall *hc)
{
    struct evtchn_close a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    return r ? r : evtchn_close(hc->caller->domain, a.port);
}

static long op_send(struct hypercall *hc)
{
    struct evtchn_send a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    return r ? r : evtchn_send(hc->caller->domain, PORT(a.port));
}

static long op_status(struct hypercall *hc)
{
    struct evtchn_status a;
    const struct evtchn *c;
    struct domain *d;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (r)
        return r;
    r = hc_target(hc, DID(a.dom), &d);
    if (r)
        return r;
    c = d->system ? NULL : evtchn_find(d, a.port);
    if (!c)
        r = -EINVAL;
    else if (__atomic_load_n(&c->own, __ATOMIC_RELAXED))
        r = -EACCES;
    else
        evtchn_status(d, c, &a);
    domain_put(d);
    return r ? r : guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

static long op_bind_vcpu(struct hypercall *hc)
{
    struct evtchn_bind_vcpu a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    return r ? r : evtchn_bind_vcpu(hc->caller->domain, a.port, a.vcpu);
}

static long op_unmask(struct hypercall *hc)
{
    struct evtchn_unmask a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    return r ? r : evtchn_unmask(hc->caller->domain, a.port);
}

/*
 * Closes all; back to 2-level. The cursor is the port to go on with. -EINVAL: another domain that is not
 * paused by its toolstack; -EAGAIN: ports were opened behind the cursor.
 */
static long op_reset(struct hypercall *hc)
{
    uint32_t from = hc_cursor(hc, 0);
    struct evtchn_reset a;
    struct domain *d;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (r)
        return r;
    r = hc_target(hc, DID(a.dom), &d);
    if (r)
        return r;
    if (d->system || (d != hc->caller->domain && !d->controller_pauses)) {
        r = -EINVAL;
    } else if (evtchn_close_all(d, &from, false)) {
        hc_set_cursor(hc, 0, from);
        domain_put(d);
        return HC_AGAIN;
    } else {
        r = evtchn_fifo_leave(d);
    }
    domain_put(d);
    return r;
}

static long op_init_control(struct hypercall *hc)
{
    struct evtchn_init_control a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    if (!r)
        r = evtchn_init_control(hc->caller->domain, a.control_gfn, a.offset, a.vcpu);
    if (r)
        return r;
    a.link_bits = EVTCHN_FIFO_LINK_BITS;
    return guest_write(hc->caller, ARG(hc), &a, sizeof(a));
}

static long op_expand_array(struct hypercall *hc)
{
    struct evtchn_expand_array a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    return r ? r : evtchn_expand_array(hc->caller->domain, a.array_gfn);
}

static long op_set_priority(struct hypercall *hc)
{
    struct evtchn_set_priority a;
    int r = guest_read(hc->caller, &a, ARG(hc), sizeof(a));

    return r ? r : evtchn_set_priority(hc->caller->domain, a.port, a.priority);
}

#define ROW(op, p, f, ...)                                                                                   \
    {                                                                                                        \
        .nr = EVTCHNOP_##op, .perm = (p), .name = "EVTCHNOP_" #op, .fn = (f), ##__VA_ARGS__                  \
    }

const struct hc_op evtchn_ops[] = {
    ROW(bind_interdomain, PERM_ANY, op_bind_interdomain),
    ROW(bind_virq, PERM_ANY, op_bind_virq),
    ROW(bind_pirq, PERM_ANY, op_bind_pirq, .note = "PIRQs the domain was given, below 16384"),
    ROW(close, PERM_ANY, op_close),
    ROW(send, PERM_ANY, op_send),
    ROW(status, PERM_TARGET, op_status),
    ROW(alloc_unbound, PERM_TARGET, op_alloc_unbound),
    ROW(bind_ipi, PERM_ANY, op_bind_ipi),
    ROW(bind_vcpu, PERM_ANY, op_bind_vcpu),
    ROW(unmask, PERM_ANY, op_unmask),
    ROW(reset, PERM_TARGET, op_reset, .note = "another domain must be paused by its toolstack"),
    ROW(init_control, PERM_ANY, op_init_control),
    ROW(expand_array, PERM_ANY, op_expand_array),
    ROW(set_priority, PERM_ANY, op_set_priority, .note = "ENOSYS in the 2-level ABI"),
    {14, PERM_ANY, "EVTCHNOP_reset_cont", .refused = ENOSYS,
     .note = "how another hypervisor goes on with reset: not for guests"},
};
const unsigned evtchn_op_count = ARRAY_SIZE(evtchn_ops);
