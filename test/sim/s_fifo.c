/*
 * A domain goes from the 2-level to the FIFO interface while events are sent: each that was sent is pending at
 * the end, wherever the change met it.
 */
#include "sim.h"
#include "core/evtchn.h"

#define PORTS 30u /* each is sent to once */

static mfn_t control, array;
static uint32_t sent; /* [a] bit per port */
static unsigned opened, changes;

static void start(void)
{
    struct domain *d = sim_domain(3, 64);

    control = sim_page(d);
    array = sim_page(d);
    sent = opened = changes = 0;
}

static void op(struct sim_vcpu *s, unsigned nr)
{
    sim_call(s, __HYPERVISOR_event_channel_op, nr, (uint64_t)(uintptr_t)s->arg, 0, 0);
}

/* vCPU 0 opens ports and changes the interface, in three steps. */
static void change(struct sim_vcpu *s)
{
    struct evtchn_init_control c = {.control_gfn = control.n, .vcpu = changes, .offset = changes * 128};
    struct evtchn_expand_array e = {.array_gfn = array.n};

    if (changes < 3) {
        memcpy(s->arg, &c, sizeof(c));
        op(s, EVTCHNOP_init_control);
    } else if (changes == 3) {
        memcpy(s->arg, &e, sizeof(e));
        op(s, EVTCHNOP_expand_array);
    }
    changes++;
}

static void open_one(struct sim_vcpu *s)
{
    struct evtchn_bind_ipi b = {.vcpu = opened % 3};

    memcpy(s->arg, &b, sizeof(b));
    op(s, EVTCHNOP_bind_ipi);
    __atomic_store_n(&opened, opened + 1, __ATOMIC_RELEASE);
}

static void step(struct sim_vcpu *s)
{
    uint32_t port = 1 + sim_rnd(PORTS);
    struct evtchn_send e = {.port = port};

    if (s->v->id == 0 && (opened < 4 || (opened < PORTS && sim_one_in(2)))) {
        open_one(s);
    } else if (s->v->id == 0 && changes < 4 && sim_one_in(3)) {
        change(s);
    } else if (port < __atomic_load_n(&opened, __ATOMIC_ACQUIRE) &&
               !(__atomic_fetch_or(&sent, 1u << port, __ATOMIC_RELAXED) & (1u << port))) {
        memcpy(s->arg, &e, sizeof(e));
        op(s, EVTCHNOP_send);
        sim_note("sends to port %u", port);
    }
}

static void check(void)
{
    for (uint32_t port = 1; port <= PORTS; port++) {
        bool valid;

        if (sent & (1u << port) && !evtchn_is_pending(sim_dom[0], PORT(port), &valid))
            sim_fail("the event of port %u is lost", port);
    }
}

const struct sim_scenario sim_fifo = {"fifo", 120, start, step, NULL, check, NULL};
