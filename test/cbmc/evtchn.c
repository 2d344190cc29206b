/* Proof: changes of event channels (core/evtchn/evtchn.c) between two domains of two ports each, from every consistent state: both
 * ends still agree, and a VIRQ leads to its port. */
#include "prove.h"
#include "core/log.h"
#include "core/evtchn/private.h"

#define PORTS 3
static struct domain dom[2];
static struct vcpu vcpu[2];
static struct vcpu *vcpus[2][1];
static struct evtchn port[2][PORTS];
static struct evtchn *bucket[2][1];
static uint32_t refs[2];

/* What other files of the room do. */
int evtchn_port_alloc(struct domain *d, struct evtchn **c, uint32_t *p)
{
    unsigned k = d == &dom[1];

    for (uint32_t i = 1; i < PORTS; i++)
        if (port[k][i].state == EVT_FREE && !d->dying) {
            port[k][i].state = EVT_RESERVED;
            d->evtchn.active++;
            *c = &port[k][i];
            *p = i;
            return 0;
        }
    return -ENOSPC;
}
void evtchn_port_release(struct domain *d, struct evtchn *c, uint32_t p)
{
    prove(c->state != EVT_FREE && c == &port[d == &dom[1]][p]);
    c->state = EVT_FREE;
    c->remote = NULL;
    d->evtchn.active--;
}
void evtchn_set_pending(struct domain *d, struct evtchn *c, uint32_t p)
{
    prove(c->state > EVT_RESERVED);
}
void domain_ref(struct domain *d)
{
    refs[d == &dom[1]]++;
}
void domain_put(struct domain *d)
{
    prove(refs[d == &dom[1]]);
    refs[d == &dom[1]]--;
}
uint32_t *evtchn_pirq_slot(const struct domain *d, uint32_t pirq)
{
    static uint32_t slot;

    return &slot;
}

static bool consistent(unsigned k, uint32_t p)
{
    const struct evtchn *c = &port[k][p];

    switch (c->state) {
    case EVT_INTERDOMAIN: {
        unsigned r = c->remote == &dom[1];
        const struct evtchn *far;

        if ((c->remote != &dom[0] && c->remote != &dom[1]) || !c->remote_port || c->remote_port >= PORTS)
            return false;
        far = &port[r][c->remote_port];
        return far != c && far->state == EVT_INTERDOMAIN && far->remote == &dom[k] && far->remote_port == p;
    }
    case EVT_VIRQ:
        return c->virq < NR_VIRQS && c->notify_vcpu == 0 && vcpu[k].virq_port[c->virq] == p;
    case EVT_FREE:
        return !c->remote;
    case EVT_UNBOUND:
    case EVT_IPI:
        return !c->remote && c->notify_vcpu == 0;
    default:
        return false;
    }
}

/* The other direction: a bound VIRQ has its port. */
static bool virq_has_port(unsigned k, uint32_t q)
{
    uint32_t p = vcpu[k].virq_port[q];

    return !p || (p < PORTS && port[k][p].state == EVT_VIRQ && port[k][p].virq == q);
}

static bool all_consistent(uint32_t virq)
{
    for (unsigned k = 0; k < 2; k++) {
        for (uint32_t p = 1; p < PORTS; p++)
            if (!consistent(k, p))
                return false;
        if (!virq_has_port(k, virq))
            return false;
    }
    return true;
}

static void start(uint32_t virq)
{
    for (unsigned k = 0; k < 2; k++) {
        dom[k].id.v = (uint16_t)(k + 1);
        dom[k].max_vcpus = 1;
        dom[k].dying = anybool();
        vcpu[k].domain = &dom[k];
        vcpus[k][0] = &vcpu[k];
        dom[k].vcpu = vcpus[k];
        bucket[k][0] = port[k];
        dom[k].evtchn.bucket = bucket[k];
        dom[k].evtchn.valid_ports = PORTS;
        vcpu[k].virq_port[virq] = any32();
        for (uint32_t p = 1; p < PORTS; p++) {
            port[k][p].state = (uint8_t)any32();
            port[k][p].remote = anybool() ? NULL : anybool() ? &dom[0] : &dom[1];
            port[k][p].remote_port = any32();
            port[k][p].notify_vcpu = 0;
            assume(port[k][p].state != EVT_VIRQ || port[k][p].virq == virq);
            dom[k].evtchn.active += port[k][p].state != EVT_FREE;
        }
    }
    assume(all_consistent(virq));
}

static void end(uint32_t virq)
{
    uint32_t open[2] = {0};

    prove(all_consistent(virq));
    for (unsigned k = 0; k < 2; k++)
        for (uint32_t p = 1; p < PORTS; p++)
            open[k] += port[k][p].state != EVT_FREE;
    prove(open[0] == dom[0].evtchn.active && open[1] == dom[1].evtchn.active);
    prove(!refs[0] && !refs[1]);
}

void prove_bind(void)
{
    struct domain *a = anybool() ? &dom[0] : &dom[1], *b = anybool() ? &dom[0] : &dom[1];
    uint32_t rport = any32();
    uint16_t asked;
    port_t out;

    start(1);
    asked = rport < PORTS && rport && port[b == &dom[1]][rport].state == EVT_UNBOUND ? port[b == &dom[1]][rport].remote_id : 0;
    if (!evtchn_bind_interdomain(a, b, rport, &out)) {
        prove(asked == a->id.v);
        prove(!a->dying);
    }
    end(1);
}

void prove_close(void)
{
    struct domain *d = anybool() ? &dom[0] : &dom[1];
    uint32_t p = any32();

    start(1);
    if (!evtchn_close(d, p))
        prove(port[d == &dom[1]][p].state == EVT_FREE);
    end(1);
}

void prove_virq(void)
{
    struct domain *d = anybool() ? &dom[0] : &dom[1];
    bool was;
    port_t out;

    start(1);
    was = vcpu[d == &dom[1]].virq_port[1];
    if (!evtchn_bind_virq(d, 1, any32(), &out))
        prove(!was && !d->dying);
    end(1);
}

void prove_unbound(void)
{
    struct domain *d = anybool() ? &dom[0] : &dom[1];
    port_t out;

    start(1);
    if (!evtchn_alloc_unbound(d, DID(any16()), &out))
        prove(!d->dying);
    end(1);
}
