/*
 * Event channels: three domains open, send, mask, move and close ports of each other, both ends at once, in the
 * 2-level and the FIFO interface and while a domain changes from one to the other; vCPUs block, poll and are
 * woken by them.
 */
#include "sim.h"
#include "core/evtchn.h"
#include "core/grant.h"

#define PORTS 12u

static mfn_t control[SIM_DOMAINS], array[SIM_DOMAINS];

static void start(void)
{
    for (unsigned i = 0; i < 3; i++) {
        struct domain *d = sim_domain(2, 64);

        control[i] = sim_page(d);
        array[i] = sim_page(d);
    }
}

static void op(struct sim_vcpu *s, unsigned nr)
{
    sim_call(s, __HYPERVISOR_event_channel_op, nr, (uint64_t)(uintptr_t)s->arg, 0, 0);
}

#define EVENT(s, nr, type, ...)                                                                              \
    do {                                                                                                     \
        struct type a = {__VA_ARGS__};                                                                       \
                                                                                                             \
        memcpy((s)->arg, &a, sizeof(a));                                                                     \
        op(s, nr);                                                                                           \
    } while (0)

static void open_port(struct sim_vcpu *s)
{
    uint16_t other = sim_any()->id.v;

    switch (sim_rnd(6)) {
    case 0:
        EVENT(s, EVTCHNOP_alloc_unbound, evtchn_alloc_unbound, .dom = DOMID_SELF, .remote_dom = other);
        break;
    case 1:
    case 2:
        EVENT(s, EVTCHNOP_bind_interdomain, evtchn_bind_interdomain, .remote_dom = other,
              .remote_port = sim_rnd(PORTS));
        break;
    case 3:
        EVENT(s, EVTCHNOP_bind_virq, evtchn_bind_virq, .virq = sim_rnd(4), .vcpu = sim_rnd(2));
        break;
    case 4:
        EVENT(s, EVTCHNOP_bind_ipi, evtchn_bind_ipi, .vcpu = sim_rnd(2));
        break;
    default:
        EVENT(s, EVTCHNOP_bind_pirq, evtchn_bind_pirq, .pirq = sim_rnd(5));
    }
}

/* From one interface to the other, and back by closing everything. */
static void change_abi(struct sim_vcpu *s)
{
    unsigned n = s->v->domain->id.v, vcpu = sim_rnd(2);

    switch (sim_rnd(4)) {
    case 0:
        EVENT(s, EVTCHNOP_reset, evtchn_reset, .dom = DOMID_SELF);
        break;
    case 1:
        EVENT(s, EVTCHNOP_expand_array, evtchn_expand_array, .array_gfn = array[n].n);
        break;
    default:
        EVENT(s, EVTCHNOP_init_control, evtchn_init_control, .control_gfn = control[n].n,
              .offset = vcpu * 128, .vcpu = vcpu);
    }
}

/* The guest's side: it takes what is pending, in its way. */
static void consume(struct sim_vcpu *s)
{
    struct domain *d = s->v->domain;

    __atomic_store_n(&s->v->info->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    __atomic_exchange_n(&s->v->info->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    __atomic_exchange_n(&d->shared_info->evtchn_pending[0], 0, __ATOMIC_SEQ_CST);
    if (sim_one_in(2))
        __atomic_fetch_and((uint32_t *)sim_va(array[d->id.v]) + sim_rnd(PORTS), ~(1u << EVTCHN_FIFO_PENDING),
                           __ATOMIC_SEQ_CST);
    if (sim_one_in(4))
        __atomic_fetch_xor((uint32_t *)sim_va(array[d->id.v]) + sim_rnd(PORTS), 1u << EVTCHN_FIFO_MASKED,
                           __ATOMIC_SEQ_CST);
    if (sim_one_in(4))
        __atomic_fetch_xor(&d->shared_info->evtchn_mask[0], 1ul << sim_rnd(PORTS), __ATOMIC_SEQ_CST);
}

static void wait(struct sim_vcpu *s)
{
    struct sched_poll *p = (struct sched_poll *)s->arg;
    evtchn_port_t *ports = (evtchn_port_t *)(s->arg + 256);

    if (sim_one_in(2)) {
        sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_block, 0, 0, 0);
        return;
    }
    ports[0] = sim_rnd(PORTS);
    ports[1] = sim_rnd(PORTS);
    *p = (struct sched_poll){.nr_ports = sim_rnd(3),
                             .timeout = sim_one_in(2) ? 1000000000 + sim_rnd(1u << 30) : 0};
    set_xen_guest_handle(p->ports, ports);
    sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_poll, (uint64_t)(uintptr_t)p, 0, 0);
}

static void step(struct sim_vcpu *s)
{
    uint32_t port = sim_rnd(PORTS);

    switch (sim_rnd(24)) {
    case 0 ... 5:
        open_port(s);
        break;
    case 6 ... 8:
        EVENT(s, EVTCHNOP_close, evtchn_close, .port = port);
        break;
    case 9 ... 14:
        EVENT(s, EVTCHNOP_send, evtchn_send, .port = port);
        break;
    case 15:
        EVENT(s, EVTCHNOP_bind_vcpu, evtchn_bind_vcpu, .port = port, .vcpu = sim_rnd(2));
        break;
    case 16:
        EVENT(s, EVTCHNOP_unmask, evtchn_unmask, .port = port);
        break;
    case 17:
        EVENT(s, EVTCHNOP_set_priority, evtchn_set_priority, .port = port, .priority = sim_rnd(16));
        break;
    case 18:
        EVENT(s, EVTCHNOP_status, evtchn_status, .dom = DOMID_SELF, .port = port);
        break;
    case 19:
        change_abi(s);
        break;
    case 20:
    case 21:
        wait(s);
        break;
    default:
        consume(s);
    }
}

static void irq(void)
{
    struct domain *d = sim_any();

    evtchn_virq(d->vcpu[sim_rnd(2)], sim_rnd(4));
    evtchn_virq_global(d, sim_rnd(4));
    (void)evtchn_pirq(d, sim_rnd(5));
}

const struct sim_scenario sim_events = {"events", 160, start, step, irq, NULL, NULL};
