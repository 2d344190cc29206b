/* Proof: changes of a port's state (core/evtchn/evtchn.c), for every state of both ends: binding connects both ends or changes
 * nothing, only the domain that was named may bind; closing frees the port once and leaves the peer unbound, for us alone; a VIRQ
 * belongs to one port. One CPU: that others cannot come between is the locks' work (test/sim). */
#include "prove.h"
#include "core/domain.h"
#include "core/errno.h"
#include "core/evtchn/private.h"

#define OURS  1u /* the port that numbering gives us */
#define PORTS 2u

struct domain *dom0;

static struct domain us, them;
static struct evtchn ours[PORTS], theirs[PORTS], *our_bucket[1] = {ours}, *their_bucket[1] = {theirs};
static struct vcpu vcpu, *vcpus[1] = {&vcpu};
static uint32_t slot;
static unsigned allocated, released, rung, line_gone;

int evtchn_port_alloc(struct domain *d, struct evtchn **c, uint32_t *port)
{
    prove(d == &us);
    if (anybool())
        return -ENOSPC;
    allocated++;
    ours[OURS].state = EVT_RESERVED;
    *c = &ours[OURS];
    *port = OURS;
    return 0;
}
void evtchn_port_release(struct domain *d, struct evtchn *c, uint32_t port)
{
    prove(d == &us && c == &ours[port]);
    released++;
    c->state = EVT_FREE;
    c->remote = NULL;
    c->remote_port = 0;
}
void evtchn_set_pending(struct domain *d, struct evtchn *c, uint32_t port)
{
    prove(d == &us && c == &ours[OURS] && port == OURS);
    rung++;
}
uint32_t *evtchn_pirq_slot(const struct domain *d, uint32_t pirq)
{
    return &slot;
}
void arch_pirq_unbind(struct domain *d, uint32_t pirq)
{
    prove(ours[OURS].state == EVT_RESERVED);
    line_gone++;
}
void domain_ref(struct domain *d)
{
}
void domain_put(struct domain *d)
{
}

static void start(void)
{
    us.id.v = 1 + anybool() * 2;
    them.id.v = 2;
    us.evtchn.bucket = our_bucket;
    them.evtchn.bucket = their_bucket;
    us.evtchn.valid_ports = them.evtchn.valid_ports = PORTS;
    us.vcpu = vcpus;
    us.max_vcpus = 1;
    us.dying = anybool();
    vcpu.domain = &us;
}

static unsigned any_state(void)
{
    unsigned s = any16() % 7;

    return s;
}

void prove_bind_interdomain(void)
{
    uint32_t rport = any32();
    unsigned was;
    port_t out;
    int r;

    start();
    theirs[1].state = (uint8_t)any_state();
    theirs[1].remote_id = any16();
    was = theirs[1].state;
    uint16_t who = theirs[1].remote_id;

    r = evtchn_bind_interdomain(&us, &them, rport, &out);
    if (r) {
        prove(allocated == released && !rung);
        prove(theirs[1].state == was && !theirs[1].remote && theirs[0].state == EVT_FREE);
        return;
    }
    prove(rport == 1 && was == EVT_UNBOUND && who == us.id.v && !us.dying && out.v == OURS && rung == 1 &&
          !released);
    prove(ours[OURS].state == EVT_INTERDOMAIN && ours[OURS].remote == &them && ours[OURS].remote_port == 1);
    prove(theirs[1].state == EVT_INTERDOMAIN && theirs[1].remote == &us && theirs[1].remote_port == OURS);
}

void prove_close(void)
{
    uint32_t port = any32(), virq = any32() % NR_VIRQS;
    unsigned was;
    bool binding = anybool();
    int r;

    start();
    ours[OURS].state = (uint8_t)any_state();
    was = ours[OURS].state;
    if (was == EVT_INTERDOMAIN) {
        ours[OURS].remote = &them;
        ours[OURS].remote_port = 1;
        theirs[1].state = EVT_INTERDOMAIN;
        theirs[1].remote = &us;
        theirs[1].remote_port = OURS;
    }
    if (was == EVT_VIRQ) {
        ours[OURS].virq = virq;
        vcpu.virq_port[virq] = OURS;
    }
    if (was == EVT_PIRQ && binding)
        ours[OURS].remote = &us; /* its line is being bound */

    r = evtchn_close(&us, port);
    if (r) {
        prove(r == -EINVAL || r == -EBUSY);
        prove(ours[OURS].state == was && !released && !line_gone);
        prove(r != -EINVAL || port != OURS || was == EVT_FREE);
        prove(r != -EBUSY || (port == OURS && (was == EVT_RESERVED || (was == EVT_PIRQ && binding))));
        return;
    }
    prove(port == OURS && released == 1 && ours[OURS].state == EVT_FREE);
    prove(was != EVT_FREE && was != EVT_RESERVED);
    if (was == EVT_INTERDOMAIN)
        prove(theirs[1].state == EVT_UNBOUND && !theirs[1].remote && theirs[1].remote_id == us.id.v);
    prove(!vcpu.virq_port[virq]);
    prove(line_gone == (was == EVT_PIRQ));
}

void prove_bind_virq(void)
{
    uint32_t virq = any32(), v = any32(), before = anybool() ? OURS + 1 : 0;
    port_t out;
    int r;

    start();
    if (virq < NR_VIRQS)
        vcpu.virq_port[virq] = before;
    r = evtchn_bind_virq(&us, virq, v, &out);
    if (r) {
        prove(allocated == released);
        prove(virq >= NR_VIRQS || vcpu.virq_port[virq] == before);
        return;
    }
    prove(virq < NR_VIRQS && v == 0 && !before && !us.dying && out.v == OURS && !released);
    prove(vcpu.virq_port[virq] == OURS && ours[OURS].state == EVT_VIRQ && ours[OURS].virq == virq &&
          ours[OURS].notify_vcpu == 0);
}
