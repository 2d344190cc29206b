/* Event channels: every EVTCHNOP; what the interface promises of a sent event is checked at once. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/evtchn/private.h"

#include <string.h>

static long evtchn(struct step *s, unsigned cmd, void *arg)
{
    return call_n(s, __HYPERVISOR_event_channel_op, cmd, arg, 0, 0);
}

static void op_alloc_unbound(struct step *s)
{
    struct evtchn_alloc_unbound *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_alloc_unbound){.dom = pick_domid(s),
                                       .remote_dom = in_u8(s->in) & 7 ? in_u8(s->in) % 4 : pick_domid(s)};
    if (!evtchn(s, EVTCHNOP_alloc_unbound, a) && a->dom == DOMID_SELF)
        port_remember(s->g, a->port);
}

static void op_bind_interdomain(struct step *s)
{
    struct evtchn_bind_interdomain *a = arg_alloc(sizeof(*a));
    struct guest *far = pick_guest(s);
    uint8_t b = in_u8(s->in);

    *a = (struct evtchn_bind_interdomain){.remote_dom = b < 240 ? far->d->id.v : pick_domid(s)};
    a->remote_port = b < 240 && far->ports ? far->port[b % MIN(far->ports, (unsigned)ARRAY_SIZE(far->port))]
                                           : in_u32(s->in);
    if (!evtchn(s, EVTCHNOP_bind_interdomain, a))
        port_remember(s->g, a->local_port);
}

static void op_bind_virq(struct step *s)
{
    struct evtchn_bind_virq *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_bind_virq){.virq = in_u8(s->in) % 26u, .vcpu = in_u8(s->in) % 3u};
    if (!evtchn(s, EVTCHNOP_bind_virq, a))
        port_remember(s->g, a->port);
}

static void op_bind_ipi(struct step *s)
{
    struct evtchn_bind_ipi *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_bind_ipi){.vcpu = in_u8(s->in) % 3u};
    if (!evtchn(s, EVTCHNOP_bind_ipi, a))
        port_remember(s->g, a->port);
}

static void op_bind_pirq(struct step *s)
{
    struct evtchn_bind_pirq *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_bind_pirq){.pirq =
                                       in_u8(s->in) < 240 ? in_u8(s->in) % 8u : (uint32_t)in_number(s->in)};
    if (!evtchn(s, EVTCHNOP_bind_pirq, a))
        port_remember(s->g, a->port);
}

static void op_close(struct step *s)
{
    struct evtchn_close *a = arg_alloc(sizeof(*a));

    a->port = pick_port(s);
    (void)evtchn(s, EVTCHNOP_close, a);
}

/* A domain may let its event words, its queues' heads and its vCPUs' records be the same memory. */
static bool words_overlap(const struct domain *d)
{
    const struct evtchn_fifo_domain *f = d->evtchn.fifo;

    for (uint32_t i = 0; f && i < f->pages; i++)
        for_each_vcpu(d, v) if (mfn_eq(v->info_mfn, f->mfn[i]) ||
                                (v->evtchn.fifo && mfn_eq(v->evtchn.fifo->mfn, f->mfn[i]))) return true;
    return false;
}

/* After a send the far end is pending, whatever way it is told. */
static void op_send(struct step *s)
{
    struct evtchn_send *a = arg_alloc(sizeof(*a));
    const struct evtchn *c;
    bool valid;

    a->port = pick_port(s);
    c = evtchn_find(s->g->d, a->port);
    if (fuzz_flip_copy || fuzz_fail_copy || evtchn(s, EVTCHNOP_send, a) || !c || c->state != EVT_INTERDOMAIN)
        return;
    if (!evtchn_is_pending(c->remote, PORT(c->remote_port), &valid) && !guest_scribbled &&
        !words_overlap(c->remote))
        panic("an event was sent and the far end is not pending");
}

static void op_bind_vcpu(struct step *s)
{
    struct evtchn_bind_vcpu *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_bind_vcpu){.port = pick_port(s), .vcpu = in_u8(s->in) % 3u};
    (void)evtchn(s, EVTCHNOP_bind_vcpu, a);
}

static void op_unmask(struct step *s)
{
    struct evtchn_unmask *a = arg_alloc(sizeof(*a));

    a->port = pick_port(s);
    (void)evtchn(s, EVTCHNOP_unmask, a);
}

static void op_status(struct step *s)
{
    struct evtchn_status *a = arg_alloc(sizeof(*a));

    memset(a, 0, sizeof(*a));
    a->dom = pick_domid(s);
    a->port = pick_port(s);
    (void)evtchn(s, EVTCHNOP_status, a);
}

static void op_init_control(struct step *s)
{
    struct evtchn_init_control *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_init_control){.control_gfn = pick_frame(s),
                                      .offset =
                                          in_u8(s->in) < 240 ? in_u8(s->in) * 8u : (uint32_t)in_number(s->in),
                                      .vcpu = in_u8(s->in) & 15 ? s->v->id : in_u8(s->in)};
    may_write(a->control_gfn);
    (void)evtchn(s, EVTCHNOP_init_control, a);
}

static void op_expand_array(struct step *s)
{
    struct evtchn_expand_array *a = arg_alloc(sizeof(*a));

    a->array_gfn = pick_frame(s);
    may_write(a->array_gfn);
    (void)evtchn(s, EVTCHNOP_expand_array, a);
}

static void op_priority(struct step *s)
{
    struct evtchn_set_priority *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_set_priority){.port = pick_port(s), .priority = in_u8(s->in) % 17u};
    (void)evtchn(s, EVTCHNOP_set_priority, a);
}

static void op_reset(struct step *s)
{
    struct evtchn_reset *a = arg_alloc(sizeof(*a));

    a->dom = pick_domid(s);
    (void)evtchn(s, EVTCHNOP_reset, a);
}

/* The guest handles its events, or writes anything into the words that it shares with us. */
static void op_shared(struct step *s)
{
    struct shared_info *si = s->g->d->shared_info;
    const struct evtchn_fifo_domain *f = s->g->d->evtchn.fifo;
    unsigned i = in_u8(s->in);
    uint64_t value = in_u8(s->in) & 1 ? 0 : in_u64(s->in);

    if (f && f->pages) {
        f->page[0][i % 64] = (uint32_t)value;
        if (s->v->evtchn.fifo)
            s->v->evtchn.fifo->block->head[i % 16] = (uint32_t)(value >> 32) % 64;
    } else {
        si->evtchn_pending[i % 4] = value;
        si->evtchn_mask[i / 4 % 4] = value >> 7;
    }
    s->v->info->evtchn_upcall_pending = s->v->info->evtchn_upcall_mask = 0;
    s->v->info->evtchn_pending_sel = value >> 60;
}

/* The machine rings. */
static void op_ring(struct step *s)
{
    uint8_t b = in_u8(s->in);

    switch (b & 3) {
    case 0:
        evtchn_virq(s->v, b >> 2);
        break;
    case 1:
        evtchn_virq_dom0(b >> 2 & 15);
        break;
    case 2:
        (void)evtchn_pirq(s->g->d, b >> 2 & 7);
        break;
    default:
        evtchn_notify(s->g->d, PORT(pick_port(s)));
    }
}

static const struct fuzz_op op[] = {
    {"alloc_unbound", op_alloc_unbound},
    {"bind_interdomain", op_bind_interdomain},
    {"bind_interdomain", op_bind_interdomain},
    {"bind_virq", op_bind_virq},
    {"bind_ipi", op_bind_ipi},
    {"bind_pirq", op_bind_pirq},
    {"close", op_close},
    {"close", op_close},
    {"send", op_send},
    {"send", op_send},
    {"bind_vcpu", op_bind_vcpu},
    {"unmask", op_unmask},
    {"status", op_status},
    {"init_control", op_init_control},
    {"expand_array", op_expand_array},
    {"set_priority", op_priority},
    {"reset", op_reset},
    {"shared", op_shared},
    {"ring", op_ring},
};
const struct fuzz_group ops_evtchn = {op, ARRAY_SIZE(op)};
