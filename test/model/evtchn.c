/* Reference model of event channels (model.h): by what EVTCHNOP_status tells, so that it is the interface that agrees. */
#include "model.h"
#include "core/log.h"
#include "core/evtchn/private.h"

static bool status(struct domain *d, uint32_t port, struct evtchn_status *s)
{
    const struct evtchn *c = evtchn_find(d, port);

    if (c)
        evtchn_status(d, c, s);
    return c;
}

static void both_ends(struct domain *d, uint32_t port, const struct evtchn_status *s)
{
    struct domain *rd = model_domain_from(s->u.interdomain.dom);
    struct evtchn_status far;

    if (!rd || rd->id.v != s->u.interdomain.dom || !status(rd, s->u.interdomain.port, &far))
        panic("model: d%u port %u: its peer d%u port %u does not exist", d->id.v, port, s->u.interdomain.dom,
              s->u.interdomain.port);
    if (far.status != EVTCHNSTAT_interdomain || far.u.interdomain.dom != d->id.v ||
        far.u.interdomain.port != port)
        panic("model: d%u port %u: d%u port %u does not point back", d->id.v, port, rd->id.v,
              s->u.interdomain.port);
    if (rd == d && s->u.interdomain.port == port)
        panic("model: d%u port %u is its own peer", d->id.v, port);
}

static void only_one(struct domain *d, uint32_t port, const struct evtchn_status *s)
{
    struct evtchn_status t;

    for (uint32_t p = port + 1; status(d, p, &t); p++) {
        if (t.status != s->status)
            continue;
        if (s->status == EVTCHNSTAT_virq && t.u.virq == s->u.virq &&
            (t.vcpu == s->vcpu || virq_is_global(t.u.virq)))
            panic("model: d%u: VIRQ %u is bound to ports %u and %u", d->id.v, s->u.virq, port, p);
        if (s->status == EVTCHNSTAT_pirq && t.u.pirq == s->u.pirq)
            panic("model: d%u: PIRQ %u is bound to ports %u and %u", d->id.v, s->u.pirq, port, p);
    }
}

void model_evtchn_check(void)
{
    for_each_domain(d)
    {
        struct evtchn_status s;

        for (uint32_t p = 1; status(d, p, &s); p++) {
            if (s.status == EVTCHNSTAT_interdomain)
                both_ends(d, p, &s);
            if (s.status == EVTCHNSTAT_virq || s.status == EVTCHNSTAT_pirq)
                only_one(d, p, &s);
            if (s.status != EVTCHNSTAT_closed && d->dying == DOM_DEAD)
                panic("model: d%u is dead and port %u open", d->id.v, p);
        }
    }
}
