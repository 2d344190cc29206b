/*
 * Event channels (xen/event_channel.h): one bit of news from one place to a vCPU. This file is the state
 * machine of ports; port.c numbers them, send.c rings them, fifo.c and fifo_setup.c are the FIFO way of
 * telling the guest, pirq.c ties ports to physical interrupts, ops.c reads the guest's arguments, check.c
 * verifies what is said here.
 *
 *              evtchn_alloc_unbound                evtchn_bind_interdomain (by the peer)
 *   FREE --------------------------------> UNBOUND ----------------------------------> INTERDOMAIN
 *    | ^                                      ^ |                                         | | ^
 *    | |           evtchn_close               | |        evtchn_close of the peer         | | |
 *    | +--------------------------------------|-+                                         | | |
 *    | |                                      +-------------------------------------------+ | |
 *    | +------------------------------------------------------------------------------------+ |
 *    | |           evtchn_close                                                               |
 *    +-|--------------------------------------------------------------------------------------+
 *    | |           evtchn_bind_interdomain
 *    +-|---> VIRQ evtchn_bind_virq, IPI evtchn_bind_ipi, PIRQ evtchn_bind_pirq
 *      +---- evtchn_close from each of them
 *   (a PIRQ port whose line is being bound has itself as `remote`: nobody may close it then)
 *   RESERVED lies between FREE and all others while whoever opens or closes the port has to leave the locks
 * for it; a port in it is closed to everybody else.
 *
 * Invariants
 *  1. a is INTERDOMAIN with peer b exactly when b is INTERDOMAIN with peer a. So the peer's domain lives.
 *  2. v->virq_port[q] is p exactly when p is VIRQ with virq q and, for a per-vCPU VIRQ, notify_vcpu v
 * (global: v is vCPU 0).
 *  3. A PIRQ's slot names port p exactly when p is PIRQ with that number, or RESERVED on the way in or out.
 *  4. evtchn.active is the number of ports that are not FREE; a port's free bit is set exactly when it is
 * FREE and not 0.
 *  5. notify_vcpu < max_vcpus. The vCPU may not exist yet: then the pending bit is set and nobody is told.
 *  6. A dying domain opens no port; evtchn_domain_close leaves none.
 *  7. Nothing here is decided by what a guest writes into shared memory; that decides only whether it hears
 * of its events.
 *
 * Locks: evtchn.lock of the domain for structure, and inside it the port's own lock for its state; changes
 * take both, looking takes either. Two domains: lower id first; two ports: lower domain id, then lower port.
 * Sending takes only the lock of the port that is rung (send.c). All with interrupts off. Memory, frames and
 * interrupt lines have locks of lower rank, so that work is done before or after, with the port RESERVED.
 */
#include "private.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/guest_ops.h"

/* --- two domains --- */

static unsigned long lock_pair(struct domain *a, struct domain *b)
{
    unsigned long flags;

    if (a == b)
        return spin_lock_irq(&a->evtchn.lock);
    if (a->id.v > b->id.v) {
        struct domain *t = a;
        a = b;
        b = t;
    }
    flags = spin_lock_irq(&a->evtchn.lock);
    spin_lock_second(&b->evtchn.lock);
    return flags;
}

static void unlock_pair(struct domain *a, struct domain *b, unsigned long flags)
{
    if (a != b)
        spin_unlock(&b->evtchn.lock);
    spin_unlock_irq(&a->evtchn.lock, flags);
}

/* Two ports, first the one with the lower domain id, then the lower port; domain locks held. */
static void lock_ports(struct domain *d1, struct evtchn *c1, uint32_t p1, struct domain *d2,
                       struct evtchn *c2, uint32_t p2)
{
    bool swap = d1 == d2 ? p1 > p2 : d1->id.v > d2->id.v;

    spin_lock(swap ? &c2->lock : &c1->lock);
    spin_lock_second(swap ? &c1->lock : &c2->lock);
}

static void unlock_ports(struct evtchn *c1, struct evtchn *c2)
{
    spin_unlock(&c1->lock);
    spin_unlock(&c2->lock);
}

/* RESERVED -> an open state for a port that needs no second one. The dying check of allocation is repeated
 * because the lock was left in between (invariant 6). */
static int port_open(struct domain *d, struct evtchn *c, uint32_t port, enum evtchn_state state,
                     uint32_t what, uint16_t vcpu, bool own)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);
    int r = 0;

    spin_lock(&c->lock);
    if (domain_is_dying(d)) {
        evtchn_port_release(d, c, port);
        r = -EINVAL;
    } else {
        if (state == EVT_UNBOUND)
            c->remote_id = (uint16_t)what;
        else
            c->virq = what;
        __atomic_store_n(&c->own, own, __ATOMIC_RELAXED);
        d->evtchn.own += own;
        __atomic_store_n(&c->notify_vcpu, vcpu, __ATOMIC_RELAXED);
        evtchn_state_set(c, state);
    }
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
    return r;
}

/* --- opening --- */

static int open_unbound(struct domain *d, did_t remote, uint16_t vcpu, bool own, port_t *out)
{
    struct evtchn *c;
    uint32_t port;
    int r = evtchn_port_alloc(d, &c, &port);

    if (r)
        return r;
    r = port_open(d, c, port, EVT_UNBOUND, remote.v, vcpu, own);
    if (!r)
        *out = PORT(port);
    return r;
}

int evtchn_alloc_unbound(struct domain *d, did_t remote, port_t *out)
{
    return open_unbound(d, remote, 0, false, out);
}

int evtchn_own_open(struct domain *d, did_t remote, unsigned vcpu, port_t *out)
{
    return open_unbound(d, remote, (uint16_t)vcpu, true, out);
}

/* Both domain locks held, lc RESERVED. */
static int connect(struct domain *ld, struct evtchn *lc, uint32_t lport, struct domain *rd, uint32_t rport)
{
    struct evtchn *rc = evtchn_find(rd, rport);

    if (domain_is_dying(ld) || !rc || rc->state != EVT_UNBOUND || rc->remote_id != ld->id.v)
        return -EINVAL;
    lock_ports(ld, lc, lport, rd, rc, rport);
    lc->remote = rd;
    lc->remote_port = rport;
    evtchn_state_set(lc, EVT_INTERDOMAIN);
    rc->remote = ld;
    rc->remote_port = lport;
    evtchn_state_set(rc, EVT_INTERDOMAIN);
    evtchn_set_pending(ld, lc, lport); /* the peer may have rung before anybody listened */
    unlock_ports(lc, rc);
    return 0;
}

int evtchn_bind_interdomain(struct domain *ld, struct domain *rd, uint32_t rport, port_t *out)
{
    struct evtchn *lc;
    uint32_t lport;
    unsigned long flags;
    int r;

    if (rd->system)
        return -EINVAL;
    r = evtchn_port_alloc(ld, &lc, &lport);
    if (r)
        return r;
    flags = lock_pair(ld, rd);
    r = connect(ld, lc, lport, rd, rport);
    if (r) {
        spin_lock(&lc->lock);
        evtchn_port_release(ld, lc, lport);
        spin_unlock(&lc->lock);
    }
    unlock_pair(ld, rd, flags);
    if (!r)
        *out = PORT(lport);
    return r;
}

/* Lock held: takes the VIRQ for a RESERVED port. */
static int virq_claim(struct domain *d, struct vcpu *v, uint32_t virq, struct evtchn *c, uint32_t port)
{
    if (domain_is_dying(d))
        return -EINVAL;
    if (v->virq_port[virq])
        return -EEXIST;
    spin_lock(&c->lock);
    c->virq = virq;
    __atomic_store_n(&c->notify_vcpu, (uint16_t)v->id, __ATOMIC_RELAXED);
    evtchn_state_set(c, EVT_VIRQ);
    __atomic_store_n(&v->virq_port[virq], port, __ATOMIC_RELEASE);
    spin_unlock(&c->lock);
    return 0;
}

/* -EINVAL: no such VIRQ, or a global one not on vCPU 0; -ENOENT: no such vCPU; -EEXIST: bound already. */
int evtchn_bind_virq(struct domain *d, uint32_t virq, uint32_t vcpu, port_t *out)
{
    struct vcpu *v = domain_vcpu(d, vcpu);
    struct evtchn *c;
    uint32_t port;
    unsigned long flags;
    int r;

    if (virq >= NR_VIRQS || (virq_is_global(virq) && vcpu != 0))
        return -EINVAL;
    virq = (uint32_t)array_index(virq, NR_VIRQS);
    if (!v)
        return -ENOENT;
    if (__atomic_load_n(&v->virq_port[virq], __ATOMIC_RELAXED))
        return -EEXIST;
    r = evtchn_port_alloc(d, &c, &port);
    if (r)
        return r;
    flags = spin_lock_irq(&d->evtchn.lock);
    r = virq_claim(d, v, virq, c, port);
    if (r) {
        spin_lock(&c->lock);
        evtchn_port_release(d, c, port);
        spin_unlock(&c->lock);
    }
    spin_unlock_irq(&d->evtchn.lock, flags);
    if (!r)
        *out = PORT(port);
    return r;
}

int evtchn_bind_ipi(struct domain *d, uint32_t vcpu, port_t *out)
{
    struct evtchn *c;
    uint32_t port;
    int r;

    if (!domain_vcpu(d, vcpu))
        return -ENOENT;
    r = evtchn_port_alloc(d, &c, &port);
    if (r)
        return r;
    r = port_open(d, c, port, EVT_IPI, 0, (uint16_t)vcpu, false);
    if (!r)
        *out = PORT(port);
    return r;
}

/* --- closing --- */

/* Both domains' locks held, c INTERDOMAIN: the peer waits for somebody again, this end is free. */
static void disconnect(struct domain *d, struct evtchn *c, uint32_t port)
{
    struct domain *rd = c->remote;
    uint32_t rport = c->remote_port;
    struct evtchn *rc = evtchn_find(rd, rport);

    BUG_ON(!rc || rc->state != EVT_INTERDOMAIN || rc->remote != d || rc->remote_port != port);
    lock_ports(d, c, port, rd, rc, rport);
    rc->remote = NULL;
    rc->remote_port = 0;
    rc->remote_id = d->id.v;
    evtchn_state_set(rc, EVT_UNBOUND);
    evtchn_port_release(d, c, port);
    unlock_ports(c, rc);
}

/* No locks. Goes through a reference because the two locks may have to be taken in the other order. */
static int close_interdomain(struct domain *d, struct evtchn *c, uint32_t port)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);
    struct domain *rd = c->state == EVT_INTERDOMAIN ? c->remote : NULL;
    int r = -EAGAIN;

    if (rd)
        domain_ref(rd);
    spin_unlock_irq(&d->evtchn.lock, flags);
    if (!rd)
        return r;
    flags = lock_pair(d, rd);
    if (c->state == EVT_INTERDOMAIN && c->remote == rd) {
        disconnect(d, c, port);
        r = 0;
    }
    unlock_pair(d, rd, flags);
    domain_put(rd);
    return r;
}

/* The interrupt line's lock ranks below ours: shut the port, let the line go, free the port. */
static void close_pirq(struct domain *d, struct evtchn *c, uint32_t port, unsigned long flags)
{
    uint32_t pirq = c->pirq;

    spin_lock(&c->lock);
    evtchn_state_set(c, EVT_RESERVED);
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
    arch_pirq_unbind(d, pirq);
    flags = spin_lock_irq(&d->evtchn.lock);
    spin_lock(&c->lock);
    __atomic_store_n(evtchn_pirq_slot(d, pirq), 0, __ATOMIC_RELAXED);
    evtchn_port_release(d, c, port);
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
}

/* Lock held. */
static void close_alone(struct domain *d, struct evtchn *c, uint32_t port)
{
    spin_lock(&c->lock);
    if (c->state == EVT_VIRQ) {
        struct vcpu *v = domain_vcpu(d, virq_is_global(c->virq) ? 0 : c->notify_vcpu);

        BUG_ON(!v || v->virq_port[c->virq] != port);
        __atomic_store_n(&v->virq_port[c->virq], 0, __ATOMIC_RELAXED);
    }
    evtchn_port_release(d, c, port);
    spin_unlock(&c->lock);
}

/* -EINVAL: no open port; -EBUSY: another CPU is opening or closing it; -EAGAIN: it changed under our hands. */
static int close_once(struct domain *d, struct evtchn *c, uint32_t port, bool own)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);
    unsigned state = c->state == EVT_PIRQ && c->remote ? EVT_RESERVED : c->own && !own ? EVT_FREE : c->state;

    switch (state) {
    case EVT_FREE:
    case EVT_RESERVED:
        spin_unlock_irq(&d->evtchn.lock, flags);
        return state == EVT_FREE ? -EINVAL : -EBUSY;
    case EVT_INTERDOMAIN:
        spin_unlock_irq(&d->evtchn.lock, flags);
        return close_interdomain(d, c, port);
    case EVT_PIRQ:
        close_pirq(d, c, port, flags);
        return 0;
    default:
        close_alone(d, c, port);
        spin_unlock_irq(&d->evtchn.lock, flags);
        return 0;
    }
}

/* own: Krypton's own too. */
static int close_port(struct domain *d, uint32_t port, bool own)
{
    struct evtchn *c = evtchn_find(d, port);
    int r = -EAGAIN;

    if (!c)
        return -EINVAL;
    /* A peer can change the port a few times meanwhile; whoever makes it change forever gets -EAGAIN. */
    for (unsigned tries = 0; r == -EAGAIN && tries < 16; tries++)
        r = close_once(d, c, port, own);
    return r;
}

int evtchn_close(struct domain *d, uint32_t port)
{
    return close_port(d, port, false);
}

/* A far side that changes its end for ever is the only one to be surprised by a port that stays. */
void evtchn_own_close(struct domain *d, port_t port)
{
    const struct evtchn *c = evtchn_find(d, port.v);

    if (c && __atomic_load_n(&c->own, __ATOMIC_RELAXED))
        (void)close_port(d, port.v, true);
}

int evtchn_close_all(struct domain *d, uint32_t *from, bool own)
{
    uint32_t start = *from;

    for (uint32_t port = start; port < __atomic_load_n(&d->evtchn.valid_ports, __ATOMIC_ACQUIRE); port++) {
        struct evtchn *c = evtchn_find(d, port);

        *from = port;
        if (port % 32 == 31 && port != start && preempt_needed())
            return -EAGAIN;
        if (__atomic_load_n(&c->state, __ATOMIC_RELAXED) == EVT_FREE)
            continue;
        if (close_port(d, port, own) == -EAGAIN)
            return -EAGAIN;
    }
    return 0;
}

/*
 * For a domain that is dying. Passing through the lock first makes whoever opened a port before `dying` was
 * seen done with it, so the walk finds that port (invariant 6).
 */
int evtchn_domain_close(struct domain *d)
{
    struct evtchn_domain *e = &d->evtchn;
    unsigned long flags;
    bool left;
    int r;

    if (!e->bucket)
        return 0;
    flags = spin_lock_irq(&e->lock);
    spin_unlock_irq(&e->lock, flags);
    r = evtchn_close_all(d, &e->close_next, true);
    if (r)
        return r;
    flags = spin_lock_irq(&e->lock);
    left = e->active != 0;
    spin_unlock_irq(&e->lock, flags);
    if (left) { /* RESERVED by a CPU that is about to find out that d dies */
        e->close_next = 0;
        return -EAGAIN;
    }
    return evtchn_fifo_leave(d);
}

int evtchn_domain_reset(struct domain *d)
{
    int r = evtchn_close_all(d, &d->evtchn.close_next, false);

    if (r)
        return r;
    d->evtchn.close_next = 0;
    return evtchn_fifo_leave(d);
}

/* --- the rest --- */

/* -ENOENT: no such vCPU; -EINVAL: no such port, or one that stays where it was bound. */
int evtchn_bind_vcpu(struct domain *d, uint32_t port, uint32_t vcpu)
{
    struct vcpu *v = domain_vcpu(d, vcpu);
    struct evtchn *c = evtchn_find(d, port);
    unsigned long flags;
    bool moves;
    uint32_t pirq;
    int state;

    if (!v)
        return -ENOENT;
    if (!c)
        return -EINVAL;
    flags = spin_lock_irq(&d->evtchn.lock);
    spin_lock(&c->lock);
    state = c->state;
    pirq = c->pirq;
    moves = !c->own;
    moves &= state == EVT_UNBOUND || state == EVT_INTERDOMAIN || state == EVT_PIRQ ||
             (state == EVT_VIRQ && virq_is_global(c->virq));
    if (moves)
        __atomic_store_n(&c->notify_vcpu, (uint16_t)v->id, __ATOMIC_RELAXED);
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
    if (moves && state == EVT_PIRQ)
        arch_pirq_set_affinity(d, pirq, v);
    return moves ? 0 : -EINVAL;
}

void evtchn_status(struct domain *d, const struct evtchn *c, struct evtchn_status *out)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);

    out->vcpu = __atomic_load_n(&c->notify_vcpu, __ATOMIC_RELAXED);
    switch (c->state) {
    case EVT_UNBOUND:
        out->status = EVTCHNSTAT_unbound;
        out->u.unbound.dom = c->remote_id;
        break;
    case EVT_INTERDOMAIN:
        out->status = EVTCHNSTAT_interdomain;
        out->u.interdomain.dom = c->remote->id.v;
        out->u.interdomain.port = c->remote_port;
        break;
    case EVT_PIRQ:
        out->status = EVTCHNSTAT_pirq;
        out->u.pirq = c->pirq;
        break;
    case EVT_VIRQ:
        out->status = EVTCHNSTAT_virq;
        out->u.virq = c->virq;
        break;
    case EVT_IPI:
        out->status = EVTCHNSTAT_ipi;
        break;
    default:
        out->status = EVTCHNSTAT_closed;
    }
    spin_unlock_irq(&d->evtchn.lock, flags);
}
