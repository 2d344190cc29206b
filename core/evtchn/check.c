/* Event channels: the room's invariants (evtchn.c) as code, and debug key 'e'. Takes one domain's lock at a
 * time, so the far ends are compared only as far as that allows. */
#include "private.h"
#include "core/console.h"
#include "core/log.h"
#include "lib/bitmap.h"

#define DUMP_PORTS 64u

/* Invariant 1. d's lock is held: neither end can change, for that takes both domains' locks. */
static void check_peer(const struct domain *d, const struct evtchn *c, uint32_t port)
{
    const struct evtchn *rc;

    BUG_ON(!c->remote);
    rc = evtchn_find(c->remote, c->remote_port);
    BUG_ON(!rc || rc->state != EVT_INTERDOMAIN || rc->remote != d || rc->remote_port != port || rc == c);
}

static void check_port(const struct domain *d, const struct evtchn *c, uint32_t port)
{
    const struct vcpu *v;

    BUG_ON(c->state > EVT_IPI || __atomic_load_n(&c->notify_vcpu, __ATOMIC_RELAXED) >= d->max_vcpus ||
           __atomic_load_n(&c->priority, __ATOMIC_RELAXED) > EVTCHN_FIFO_PRIORITY_MIN);
    BUG_ON((c->state == EVT_FREE && port) != bitmap_test(d->evtchn.free, port));
    switch (c->state) {
    case EVT_INTERDOMAIN:
        check_peer(d, c, port);
        break;
    case EVT_VIRQ:
        BUG_ON(c->virq >= NR_VIRQS);
        v = domain_vcpu(d, virq_is_global(c->virq) ? 0 : c->notify_vcpu);
        BUG_ON(!v || v->virq_port[c->virq] != port);
        break;
    case EVT_PIRQ:
        BUG_ON(!evtchn_pirq_slot(d, c->pirq) || *evtchn_pirq_slot(d, c->pirq) != port);
        break;
    default:
        break;
    }
}

static void check_virqs(const struct domain *d, const struct vcpu *v)
{
    for (uint32_t q = 0; q < NR_VIRQS; q++) {
        const struct evtchn *c;

        if (!v->virq_port[q])
            continue;
        c = evtchn_find(d, v->virq_port[q]);
        BUG_ON(!c || c->state != EVT_VIRQ || c->virq != q);
        BUG_ON(virq_is_global(q) ? v->id != 0 : c->notify_vcpu != v->id);
    }
}

void evtchn_room_check(const struct domain *d)
{
    struct evtchn_domain *e = (struct evtchn_domain *)&d->evtchn;
    unsigned long flags;
    uint32_t open = 0, own = 0;

    if (!e->bucket)
        return;
    flags = spin_lock_irq(&e->lock);
    BUG_ON(e->valid_ports > e->max_port + 1 || e->valid_ports > e->bucket_count * EVTCHN_PER_BUCKET);
    for (uint32_t port = 0; port < e->valid_ports; port++) {
        const struct evtchn *c = evtchn_find(d, port);

        check_port(d, c, port);
        open += c->state != EVT_FREE;
        own += c->own;
        BUG_ON(c->own && c->state != EVT_UNBOUND && c->state != EVT_INTERDOMAIN);
    }
    BUG_ON(open != e->active || own != e->own);
    for (uint32_t w = 0; w < e->first_free; w++)
        BUG_ON(e->free[w]);
    for_each_vcpu(d, v)
    {
        check_virqs(d, v);
        BUG_ON(v->evtchn.fifo && !e->fifo);
    }
    spin_unlock_irq(&e->lock, flags);
}

static const char *const state_name[] = {"free", "reserved", "unbound", "interdomain", "pirq", "virq", "ipi"};

/* A port as it was for an instant, so that nothing is printed under its lock. */
struct snapshot {
    struct evtchn c;
    bool pending, masked;
    uint16_t remote_id;
};

static struct snapshot look(const struct domain *d, struct evtchn *c, uint32_t port)
{
    unsigned long flags = spin_lock_irq(&c->lock);
    struct snapshot s = {.c = *c};

    if (c->state > EVT_RESERVED) {
        s.pending = evtchn_pending(d, c, port);
        s.masked = evtchn_masked(d, port);
    }
    if (c->state == EVT_INTERDOMAIN)
        s.remote_id = c->remote->id.v;
    spin_unlock_irq(&c->lock, flags);
    return s;
}

static void dump_port(const struct snapshot *s, uint32_t port)
{
    const struct evtchn *c = &s->c;

    console_printf("  %5u %-11s [%c%c] vcpu %u prio %u", port, state_name[c->state], s->pending ? 'p' : '-',
                   s->masked ? 'm' : '-', c->notify_vcpu, c->priority);
    if (c->state == EVT_INTERDOMAIN)
        console_printf(" d%u port %u", s->remote_id, c->remote_port);
    else if (c->state == EVT_UNBOUND)
        console_printf(" for d%u", c->remote_id);
    else if (c->state == EVT_PIRQ || c->state == EVT_VIRQ)
        console_printf(" %u", c->virq);
    console_printf("\n");
}

static void dump_domain(const struct domain *d)
{
    const struct evtchn_domain *e = &d->evtchn;
    uint32_t shown = 0;

    console_printf("d%u: %u open ports of %u, %s\n", d->id.v, e->active, e->max_port,
                   e->fifo ? "FIFO" : "2-level");
    for (uint32_t port = 1; port < e->valid_ports && shown < DUMP_PORTS; port++) {
        struct snapshot s = look(d, evtchn_find(d, port), port);

        if (s.c.state <= EVT_RESERVED)
            continue;
        dump_port(&s, port);
        shown++;
    }
    if (shown == DUMP_PORTS)
        console_printf("  ...\n");
}

void evtchn_dump(void)
{
    for_each_held_domain(d)
    {
        dump_domain(d);
    }
}
