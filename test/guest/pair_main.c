/*
 * A domU for bench: kernel arguments "role=server|client|idle peer=DOMID". A client and a server measure what two guests can
 * do to each other; the marks (bench/mark.h) go to the counting plugin, nothing is printed. The server must be there first.
 *
 *   300-301  1000 times: ring the other, who sleeps, and sleep till it rings back
 *   302-303  1000 turns: yield to the other, who yields back
 *   304-305  1000 times: map the other's page, unmap it
 *   306-307  1000 times: copy the other's page (4 KiB)
 *   308 done, 399 something failed
 */
#include "bench/mark.h"
#include "guest.h"

#define ROUNDS 1000
#define REF    8

/* The page that the server grants to the client. */
struct board {
    volatile uint32_t port; /* the server's; 0 = not ready */
    volatile uint32_t yield;
    volatile uint64_t turns;
};

static uint16_t peer;
static unsigned port;

static __attribute__((noreturn)) void fail(void)
{
    MARK(399);
    guest_shutdown(SHUTDOWN_poweroff);
}

static const char *argument(const char *name)
{
    const char *s = (const char *)start_info->cmd_line;
    size_t n = strlen(name);

    for (; *s; s++)
        if (!strncmp(s, name, n))
            return s + n;
    return "";
}

static void ring(void)
{
    struct evtchn_send s = {.port = port};

    HC2(event_channel_op, EVTCHNOP_send, &s);
}

static void sleep_till_rung(void)
{
    evtchn_port_t p = port;
    struct sched_poll poll = {.nr_ports = 1};

    set_xen_guest_handle(poll.ports, &p);
    while (!port_pending(port))
        HC2(sched_op, SCHEDOP_poll, &poll);
    __atomic_and_fetch(&shared->evtchn_pending[port / 64], ~(1ul << (port % 64)), __ATOMIC_SEQ_CST);
}

/* --- server --- */
static grant_entry_v1_t *grant_table(void)
{
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
    static xen_pfn_t frames[1];
    grant_entry_v1_t *table = (grant_entry_v1_t *)scratch_va(100);

    set_xen_guest_handle(setup.frame_list, frames);
    if (HC3(grant_table_op, GNTTABOP_setup_table, &setup, 1) || setup.status ||
        pte_set(table, frames[0] * PAGE | PTE_KERNEL))
        fail();
    return table;
}

static void server(void)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = peer};
    struct board *b = page_alloc();
    grant_entry_v1_t *table = grant_table();

    if (HC2(event_channel_op, EVTCHNOP_alloc_unbound, &a))
        fail();
    port = a.port;
    port_mask(port);
    b->port = port;
    table[REF].domid = peer;
    table[REF].frame = (uint32_t)va_mfn(b);
    __atomic_store_n(&table[REF].flags, GTF_permit_access, __ATOMIC_SEQ_CST);
    for (;;) {
        if (b->yield) {
            HC2(sched_op, SCHEDOP_yield, NULL);
            b->turns++;
        } else {
            sleep_till_rung();
            ring();
        }
    }
}

/* --- client --- */
static long map_page(struct gnttab_map_grant_ref *map)
{
    long r = HC3(grant_table_op, GNTTABOP_map_grant_ref, map, 1);

    return r ? r : map->status;
}

static struct board *find_server(void)
{
    struct gnttab_map_grant_ref map = {
        .flags = GNTMAP_host_map, .ref = REF, .dom = peer, .host_addr = (uint64_t)scratch_va(101)};
    struct evtchn_bind_interdomain bind = {.remote_dom = peer};

    for (unsigned tries = 0; map_page(&map); tries++) {
        if (tries == 100000)
            fail();
        HC2(sched_op, SCHEDOP_yield, NULL);
    }
    bind.remote_port = ((struct board *)map.host_addr)->port;
    if (HC2(event_channel_op, EVTCHNOP_bind_interdomain, &bind))
        fail();
    port = bind.local_port;
    port_mask(port);
    return (struct board *)map.host_addr;
}

/* Some rounds to warm up, then ROUNDS between the two marks. */
#define MEASURE(first, last, stmt)                                                                           \
    do {                                                                                                     \
        for (unsigned i_ = 0; i_ < 50; i_++) {                                                               \
            stmt;                                                                                            \
        }                                                                                                    \
        MARK(first);                                                                                         \
        for (unsigned i_ = 0; i_ < ROUNDS; i_++) {                                                           \
            stmt;                                                                                            \
        }                                                                                                    \
        MARK(last);                                                                                          \
    } while (0)

static void measure_turns(struct board *b)
{
    uint64_t before;

    b->yield = 1;
    ring();
    before = b->turns;
    MEASURE(302, 303, HC2(sched_op, SCHEDOP_yield, NULL));
    if (b->turns - before < ROUNDS * 9 / 10) /* it was not alone on the CPU */
        fail();
}

static void map_unmap(void)
{
    struct gnttab_map_grant_ref map = {
        .flags = GNTMAP_host_map, .ref = REF, .dom = peer, .host_addr = (uint64_t)scratch_va(102)};
    struct gnttab_unmap_grant_ref unmap = {.host_addr = map.host_addr};

    if (map_page(&map))
        fail();
    unmap.handle = map.handle;
    HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &unmap, 1);
}

static void measure_grants(void)
{
    struct gnttab_copy copy = {
        .source.domid = peer, .dest.domid = DOMID_SELF, .len = PAGE, .flags = GNTCOPY_source_gref};

    MEASURE(304, 305, map_unmap());
    copy.source.u.ref = REF;
    copy.dest.u.gmfn = va_mfn(page_alloc());
    MEASURE(306, 307, HC3(grant_table_op, GNTTABOP_copy, &copy, 1));
    if (copy.status)
        fail();
}

/* The control domain has the same CPU: it is done with making this guest by then. */
static void wait_for_quiet(void)
{
    evtchn_port_t p = port;
    struct sched_poll poll = {.nr_ports = 1, .timeout = time_ns() + 3000000000ull};

    set_xen_guest_handle(poll.ports, &p);
    while (time_ns() < poll.timeout)
        HC2(sched_op, SCHEDOP_poll, &poll);
}

static void client(void)
{
    struct board *b = find_server();

    wait_for_quiet();
    MEASURE(300, 301, {
        ring();
        sleep_till_rung();
    });
    measure_grants();
    measure_turns(b);
    MARK(308);
}

void guest_program(void)
{
    char role = *argument("role=");

    for (const char *s = argument("peer="); *s >= '0' && *s <= '9'; s++)
        peer = (uint16_t)(peer * 10 + *s - '0');
    if (role == 's')
        server();
    if (role == 'c')
        client();
    while (role == 'i')
        HC2(sched_op, SCHEDOP_block, NULL);
}
