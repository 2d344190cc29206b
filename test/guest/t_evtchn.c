/* Event channels: states, delivery, limits, hostile ports. */
#include "guest.h"

#define EVTCHN(op, p) HC2(event_channel_op, EVTCHNOP_##op, p)

static long close_port(unsigned port)
{
    struct evtchn_close c = {.port = port};

    return EVTCHN(close, &c);
}

/* A pair of ports of ours, bound to each other. */
static bool make_pair(unsigned *a, unsigned *b)
{
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain i = {.remote_dom = DOMID_SELF};

    if (EVTCHN(alloc_unbound, &u))
        return false;
    i.remote_port = u.port;
    if (EVTCHN(bind_interdomain, &i))
        return false;
    *a = u.port;
    *b = i.local_port;
    return true;
}

TEST(evtchn_send_sets_the_other_end)
{
    unsigned a, b;
    struct evtchn_send s;

    CHECK(make_pair(&a, &b));
    events_off();
    port_clear(a);
    port_clear(b);
    s.port = b;
    CHECK_EQ(EVTCHN(send, &s), 0);
    CHECK(port_pending(a));
    CHECK(!port_pending(b));
    port_clear(a);
    CHECK_EQ(close_port(a), 0);
    struct evtchn_status st = {.dom = DOMID_SELF, .port = b};
    CHECK_EQ(EVTCHN(status, &st), 0);
    CHECK_EQ(st.status, EVTCHNSTAT_unbound); /* the far end survives as unbound */
    CHECK_EQ(close_port(b), 0);
}

TEST(evtchn_status_tells_states)
{
    unsigned a, b;
    struct evtchn_status st = {.dom = DOMID_SELF};

    CHECK(make_pair(&a, &b));
    st.port = a;
    CHECK_EQ(EVTCHN(status, &st), 0);
    CHECK_EQ(st.status, EVTCHNSTAT_interdomain);
    CHECK_EQ(st.u.interdomain.port, b);
    CHECK_EQ(close_port(a), 0);
    CHECK_EQ(EVTCHN(status, &st), 0);
    CHECK_EQ(st.status, EVTCHNSTAT_closed);
    CHECK_EQ(close_port(b), 0);
}

static volatile unsigned ipi_count;
static unsigned ipi_port;
static void ipi_event(void)
{
    if (port_pending(ipi_port)) {
        port_clear(ipi_port);
        ipi_count++;
    }
}

TEST(evtchn_ipi_reaches_the_callback)
{
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_send s;

    CHECK_EQ(EVTCHN(bind_ipi, &ipi), 0);
    s.port = ipi_port = ipi.port;
    ipi_count = 0;
    event_hook = ipi_event;
    events_off();
    port_unmask(ipi.port);
    CHECK_EQ(EVTCHN(send, &s), 0);
    CHECK_EQ(ipi_count, 0); /* masked */
    events_on();
    CHECK_EQ(ipi_count, 1);
    CHECK_EQ(EVTCHN(send, &s), 0); /* unmasked: delivered before the hypercall returns */
    CHECK_EQ(ipi_count, 2);
    events_off();
    CHECK_EQ(close_port(ipi.port), 0);
}

TEST(evtchn_masked_port_waits_for_unmask)
{
    unsigned a, b;
    struct evtchn_send s;

    CHECK(make_pair(&a, &b));
    events_off();
    CHECK(port_pending(b)); /* binding rings the local end once: a notification may have been lost before */
    port_clear(b);
    port_mask(a);
    shared->vcpu_info[0].evtchn_upcall_pending = 0;
    s.port = b;
    CHECK_EQ(EVTCHN(send, &s), 0);
    CHECK(port_pending(a));
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_pending, 0);
    port_unmask(a);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_pending, 1);
    shared->vcpu_info[0].evtchn_upcall_pending = 0;
    port_clear(a);
    CHECK_EQ(close_port(a), 0);
    CHECK_EQ(close_port(b), 0);
}

TEST(evtchn_hostile_ports)
{
    static const unsigned bad[] = {0, 100000, 0x7fffffff, 0xffffffff};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct evtchn_send s = {.port = bad[i]};
        struct evtchn_unmask u = {.port = bad[i]};
        struct evtchn_status st = {.dom = DOMID_SELF, .port = bad[i]};
        struct evtchn_bind_vcpu bv = {.port = bad[i], .vcpu = 0};

        CHECK(EVTCHN(send, &s) < 0);
        CHECK(EVTCHN(bind_vcpu, &bv) < 0);
        CHECK(close_port(bad[i]) < 0);
        CHECK(bad[i] == 0 || EVTCHN(unmask, &u) < 0);
        CHECK(bad[i] == 0 || EVTCHN(status, &st) < 0);
    }
}

TEST(evtchn_hostile_arguments)
{
    struct evtchn_alloc_unbound u = {.dom = 12345, .remote_dom = DOMID_SELF};
    struct evtchn_bind_virq v = {.virq = 1000, .vcpu = 0};
    struct evtchn_bind_ipi i = {.vcpu = 4096};
    struct evtchn_bind_pirq p = {.pirq = 0xffffffff};
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF, .remote_port = 0xfffffff0};

    CHECK_EQ(EVTCHN(alloc_unbound, &u), NO_SUCH_DOMAIN);
    CHECK_EQ(EVTCHN(bind_virq, &v), -22);
    v = (struct evtchn_bind_virq){.virq = VIRQ_TIMER, .vcpu = 0xffffffff};
    CHECK_EQ(EVTCHN(bind_virq, &v), -2); /* ENOENT */
    CHECK_EQ(EVTCHN(bind_ipi, &i), -2);
    CHECK_EQ(EVTCHN(bind_pirq, &p), -22);
    CHECK_EQ(EVTCHN(bind_interdomain, &b), -22);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_send, HV_ADDRESS), -14);
    CHECK_EQ(HC2(event_channel_op, 4242, &b), -38);
}

TEST(evtchn_virq_binds_once)
{
    struct evtchn_bind_virq a = {.virq = VIRQ_DEBUG, .vcpu = 0}, b = a;

    CHECK_EQ(EVTCHN(bind_virq, &a), 0);
    CHECK_EQ(EVTCHN(bind_virq, &b), -17); /* EEXIST */
    CHECK_EQ(close_port(a.port), 0);
    CHECK_EQ(EVTCHN(bind_virq, &b), 0);
    CHECK_EQ(close_port(b.port), 0);
}

TEST(evtchn_poll_times_out_and_wakes)
{
    unsigned a, b;
    evtchn_port_t ports[1];
    struct sched_poll poll = {.nr_ports = 1};
    struct vcpu_runstate_info rs;
    uint64_t t0;

    CHECK(make_pair(&a, &b));
    events_off();
    port_clear(a);
    port_mask(a);
    ports[0] = a;
    set_xen_guest_handle(poll.ports, ports);
    HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &rs);
    t0 = rs.state_entry_time;
    poll.timeout = t0 + 50000000;
    CHECK_EQ(HC2(sched_op, SCHEDOP_poll, &poll), 0); /* times out */
    struct evtchn_send s = {.port = b};
    CHECK_EQ(EVTCHN(send, &s), 0);
    poll.timeout = 0;
    CHECK_EQ(HC2(sched_op, SCHEDOP_poll, &poll), 0); /* pending: at once */
    port_clear(a);
    ports[0] = 0x7fffffff;
    CHECK_EQ(HC2(sched_op, SCHEDOP_poll, &poll), -22);
    poll.nr_ports = 100000;
    CHECK_EQ(HC2(sched_op, SCHEDOP_poll, &poll), -22);
    CHECK_EQ(close_port(a), 0);
    CHECK_EQ(close_port(b), 0);
}
