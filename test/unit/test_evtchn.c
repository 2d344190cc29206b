/* Event channels: every operation and its refusals, both ways of delivery, polling, a lying guest, and a
 * random model that checks the room after each step. */
#include "fake.h"
#include "model.h"
#include "core/evtchn.h"
#include "core/sched.h"
#include "core/evtchn/private.h"

#include <stdlib.h>
#include <string.h>

#define VCPUS 3u

static struct domain *da, *db;

static struct domain *domain_new(uint16_t id, bool privileged, unsigned max_port)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .privileged = privileged,
                              .max_vcpus = VCPUS,
                              .max_evtchn_port = max_port,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 4,
                              .max_frames = 2000};

    return fake_domain_new(id, &c);
}

static void domain_end(struct domain *d)
{
    fake_domain_kill(d);
    evtchn_room_check(d);
    assert_int_equal(d->evtchn.active, 0);
    domain_put(d);
    fake_run_until(fake_now + 1000000000ull);
}

static int group_setup(void **state)
{
    fake_machine(16384, 2);
    return 0;
}

static int setup(void **state)
{
    fake_fail_alloc = fake_fail_mem = fake_fail_copy = fake_preempt_every = 0;
    da = domain_new(1, true, EVTCHN_FIFO_PORTS - 1);
    db = domain_new(2, false, 1023);
    dom0 = da;
    da->hardware = true; /* while the test runs: such a domain may use PIRQs, but not be killed */
    return 0;
}

static int teardown(void **state)
{
    fake_fail_alloc = fake_fail_mem = fake_fail_copy = fake_preempt_every = 0;
    fake_pirq_deny = false;
    evtchn_room_check(da);
    evtchn_room_check(db);
    dom0 = NULL;
    da->hardware = false;
    domain_end(db);
    domain_end(da);
    frame_room_check();
    return 0;
}

/* A lock that another CPU has until somebody waits for it. */
static struct spinlock *elsewhere;
static unsigned waited;

static void lock_elsewhere(struct spinlock *l)
{
    __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
    elsewhere = l;
}
/* Who waits for the lock of the domain with the lower id does not hold the other's: the CPU that has it may want that one. */
void arch_cpu_relax(void)
{
    if (!elsewhere)
        panic("somebody waits for ever");
    assert_int_equal(db->evtchn.lock.next, db->evtchn.lock.owner);
    waited++;
    __atomic_fetch_add(&elsewhere->owner, 1, __ATOMIC_RELEASE);
    elsewhere = NULL;
}

static long op(struct domain *d, unsigned nr, void *arg)
{
    return fake_hypercall(d->vcpu[0], evtchn_ops, evtchn_op_count, 0, nr, (uintptr_t)arg, 0, NULL);
}

/* --- shorthands: the port, or a negative errno --- */

static long unbound(struct domain *d, uint16_t dom, uint16_t remote)
{
    struct evtchn_alloc_unbound a = {.dom = dom, .remote_dom = remote};
    long r = op(d, EVTCHNOP_alloc_unbound, &a);

    return r ? r : (long)a.port;
}
static long interdomain(struct domain *d, uint16_t remote, uint32_t port)
{
    struct evtchn_bind_interdomain a = {.remote_dom = remote, .remote_port = port};
    long r = op(d, EVTCHNOP_bind_interdomain, &a);

    return r ? r : (long)a.local_port;
}
static long virq(struct domain *d, uint32_t q, uint32_t vcpu)
{
    struct evtchn_bind_virq a = {.virq = q, .vcpu = vcpu};
    long r = op(d, EVTCHNOP_bind_virq, &a);

    return r ? r : (long)a.port;
}
static long ipi(struct domain *d, uint32_t vcpu)
{
    struct evtchn_bind_ipi a = {.vcpu = vcpu};
    long r = op(d, EVTCHNOP_bind_ipi, &a);

    return r ? r : (long)a.port;
}
static long pirq(struct domain *d, uint32_t n)
{
    struct evtchn_bind_pirq a = {.pirq = n};
    long r = op(d, EVTCHNOP_bind_pirq, &a);

    return r ? r : (long)a.port;
}
static long port_op(struct domain *d, unsigned nr, uint32_t port)
{
    struct evtchn_close a = {.port = port};

    return op(d, nr, &a);
}
#define close_port(d, p)  port_op(d, EVTCHNOP_close, (uint32_t)(p))
#define send_port(d, p)   port_op(d, EVTCHNOP_send, (uint32_t)(p))
#define unmask_port(d, p) port_op(d, EVTCHNOP_unmask, (uint32_t)(p))
static long rebind(struct domain *d, long port, uint32_t vcpu)
{
    struct evtchn_bind_vcpu a = {.port = (uint32_t)port, .vcpu = vcpu};

    return op(d, EVTCHNOP_bind_vcpu, &a);
}
static long status(struct domain *d, uint16_t dom, long port, struct evtchn_status *s)
{
    *s = (struct evtchn_status){.dom = dom, .port = (uint32_t)port};
    return op(d, EVTCHNOP_status, s);
}
static long reset(struct domain *d, uint16_t dom)
{
    struct evtchn_reset a = {.dom = dom};

    return op(d, EVTCHNOP_reset, &a);
}

static bool pending2(struct domain *d, long port)
{
    return (d->shared_info->evtchn_pending[port / 64] >> (port % 64)) & 1;
}
static void mask2(struct domain *d, long port, bool on)
{
    uint64_t bit = 1ull << (port % 64);

    if (on)
        d->shared_info->evtchn_mask[port / 64] |= bit;
    else
        d->shared_info->evtchn_mask[port / 64] &= ~bit;
}
/* What a guest does in its upcall; true if its vCPU had been told. */
static bool consume2(struct domain *d, unsigned vcpu)
{
    struct vcpu_info *i = d->vcpu[vcpu]->info;
    bool told = i->evtchn_upcall_pending;

    i->evtchn_upcall_pending = 0;
    i->evtchn_pending_sel = 0;
    memset(d->shared_info->evtchn_pending, 0, sizeof(d->shared_info->evtchn_pending));
    return told;
}

/* --- two domains --- */

static void connect_send_close(void **state)
{
    struct evtchn_status s;
    long pa = unbound(da, DOMID_SELF, 2), pb;

    assert_true(pa > 0);
    assert_int_equal(send_port(da, pa), 0); /* nobody there: swallowed */
    assert_int_equal(interdomain(db, 1, (uint32_t)pa + 1), -EINVAL);
    assert_int_equal(interdomain(db, 77, (uint32_t)pa), -ESRCH);
    assert_int_equal(interdomain(da, DOMID_SELF, (uint32_t)pa), -EINVAL); /* not for us */
    pb = interdomain(db, 1, (uint32_t)pa);
    assert_true(pb > 0);
    assert_true(pending2(db, pb)); /* always rung once */
    assert_true(consume2(db, 0));
    assert_int_equal(interdomain(db, 1, (uint32_t)pa), -EINVAL); /* taken */
    assert_int_equal(send_port(da, pa), 0);
    assert_true(pending2(db, pb) && !pending2(da, pa));
    assert_true(consume2(db, 0));
    assert_int_equal(send_port(db, pb), 0);
    assert_true(pending2(da, pa));
    assert_true(consume2(da, 0));
    assert_int_equal(status(da, 2, pb, &s), 0);
    assert_int_equal(s.status, EVTCHNSTAT_interdomain);
    assert_int_equal(s.u.interdomain.dom, 1);
    assert_int_equal(s.u.interdomain.port, pa);
    assert_int_equal(status(db, 1, pa, &s), -EPERM);
    assert_int_equal(close_port(db, pb), 0);
    assert_int_equal(close_port(db, pb), -EINVAL);
    assert_int_equal(status(da, DOMID_SELF, pa, &s), 0);
    assert_int_equal(s.status, EVTCHNSTAT_unbound);
    assert_int_equal(s.u.unbound.dom, 2);
    assert_int_equal(status(da, DOMID_SELF, pa + 1, &s), 0);
    assert_int_equal(s.status, EVTCHNSTAT_closed);
    assert_int_equal(status(da, DOMID_SELF, 1 << 20, &s), -EINVAL);
    pb = interdomain(db, 1, (uint32_t)pa); /* again */
    assert_true(pb > 0);
    assert_int_equal(close_port(da, pa), 0);
    assert_int_equal(send_port(db, pb), 0); /* unbound: swallowed */
}

static void locks_in_order(void **state)
{
    long p = unbound(da, DOMID_SELF, 2), q;

    waited = 0;
    lock_elsewhere(&da->evtchn.lock);
    q = interdomain(db, 1, (uint32_t)p);
    assert_true(q > 0);
    assert_int_equal(waited, 1);
    lock_elsewhere(&da->evtchn.lock);
    assert_int_equal(port_op(db, EVTCHNOP_close, (uint32_t)q), 0);
    assert_int_equal(waited, 2);
}

static void loopback(void **state)
{
    long p = unbound(db, DOMID_SELF, DOMID_SELF), q = interdomain(db, DOMID_SELF, (uint32_t)p);

    assert_true(p > 0 && q > 0);
    consume2(db, 0);
    assert_int_equal(send_port(db, q), 0);
    assert_true(pending2(db, p));
    evtchn_room_check(db);
    assert_int_equal(close_port(db, p), 0);
    assert_int_equal(close_port(db, q), 0);
}

static void for_another_domain(void **state)
{
    long p = unbound(da, 2, 1);
    struct evtchn_status s;

    assert_true(p > 0);
    assert_int_equal(status(db, DOMID_SELF, p, &s), 0);
    assert_int_equal(s.u.unbound.dom, 1);
    assert_int_equal(unbound(db, 1, 2), -EPERM);
    assert_int_equal(unbound(da, 99, 1), -ESRCH);
    assert_true(interdomain(da, 2, (uint32_t)p) > 0);
}

/* --- one domain --- */

static void virqs(void **state)
{
    long p = virq(da, VIRQ_TIMER, 1), g;

    assert_true(p > 0);
    assert_int_equal(virq(da, VIRQ_TIMER, 1), -EEXIST);
    assert_int_equal(virq(da, VIRQ_TIMER, VCPUS), -ENOENT);
    assert_int_equal(virq(da, NR_VIRQS, 0), -EINVAL);
    assert_int_equal(virq(da, VIRQ_DOM_EXC, 1), -EINVAL);
    assert_int_equal(send_port(da, p), -EINVAL);
    evtchn_virq(da->vcpu[1], VIRQ_TIMER);
    assert_true(pending2(da, p));
    assert_true(consume2(da, 1));
    assert_false(consume2(da, 0));
    evtchn_virq(da->vcpu[2], VIRQ_TIMER); /* not bound */
    evtchn_virq(da->vcpu[1], NR_VIRQS);
    assert_false(consume2(da, 1) || consume2(da, 2));
    assert_int_equal(rebind(da, p, 0), -EINVAL);
    g = virq(da, VIRQ_DOM_EXC, 0);
    assert_true(g > 0);
    evtchn_virq_dom0(VIRQ_DOM_EXC);
    assert_true(pending2(da, g) && consume2(da, 0));
    assert_int_equal(rebind(da, g, 2), 0);
    assert_int_equal(rebind(da, g, VCPUS), -ENOENT);
    evtchn_virq_dom0(VIRQ_DOM_EXC);
    assert_true(consume2(da, 2));
    evtchn_room_check(da);
    assert_int_equal(close_port(da, g), 0);
    evtchn_virq_dom0(VIRQ_DOM_EXC);
    assert_false(pending2(da, g));
    assert_int_equal(virq(da, VIRQ_DOM_EXC, 0), g); /* numbers are reused from the lowest */
    assert_int_equal(da->vcpu[0]->virq_port[VIRQ_DOM_EXC], g);
}

static void ipis_and_mask(void **state)
{
    long p = ipi(db, 2);

    assert_true(p > 0);
    assert_int_equal(ipi(db, VCPUS), -ENOENT);
    assert_int_equal(rebind(db, p, 0), -EINVAL);
    mask2(db, p, true);
    assert_int_equal(send_port(db, p), 0);
    assert_true(pending2(db, p));
    assert_int_equal(db->vcpu[2]->info->evtchn_upcall_pending, 0);
    assert_int_equal(unmask_port(db, p), 0);
    assert_true(consume2(db, 2));
    assert_int_equal(unmask_port(db, p), 0);
    assert_false(consume2(db, 2));
    assert_int_equal(unmask_port(db, 999), -EINVAL);
    assert_int_equal(unmask_port(db, 0), -EINVAL);
    evtchn_notify(db, PORT(p));
    assert_true(consume2(db, 2));
    evtchn_notify(db, PORT(5000));
}

static void pirqs(void **state)
{
    long p = pirq(da, 9), q;

    assert_true(p > 0);
    assert_int_equal(fake_pirq_bound, 1);
    assert_int_equal(pirq(da, 9), -EEXIST);
    assert_int_equal(pirq(da, EVTCHN_MAX_PIRQ), -EINVAL);
    assert_true(evtchn_pirq(da, 9));
    assert_true(pending2(da, p) && consume2(da, 0));
    assert_false(evtchn_pirq(da, 10));
    assert_false(evtchn_pirq(da, ~0u));
    assert_false(evtchn_pirq(db, 9));
    assert_int_equal(rebind(da, p, 1), 0);
    assert_true(evtchn_pirq(da, 9) && consume2(da, 1));
    assert_int_equal(unmask_port(da, p), 0);
    assert_int_equal(fake_pirq_unmasked, 1);
    fake_pirq_deny = true;
    assert_int_equal(pirq(da, 11), -EBUSY);
    fake_pirq_deny = false;
    assert_false(evtchn_pirq(da, 11));
    q = pirq(da, 11);
    assert_true(q > 0);
    evtchn_room_check(da);
    assert_int_equal(close_port(da, p), 0);
    assert_false(evtchn_pirq(da, 9));
    assert_true(evtchn_pirq(da, 11));
    assert_int_equal(pirq(da, 9), p);
}

static void numbers_run_out(void **state)
{
    long p;

    for (long want = 1; want <= 1023; want++) {
        p = ipi(db, 0);
        assert_int_equal(p, want);
    }
    assert_int_equal(ipi(db, 0), -ENOSPC);
    assert_int_equal(close_port(db, 700), 0);
    assert_int_equal(close_port(db, 3), 0);
    assert_int_equal(ipi(db, 0), 3);
    assert_int_equal(ipi(db, 0), 700);
    assert_int_equal(ipi(db, 0), -ENOSPC);
    for (long want = 1; want < 4096; want++)
        assert_int_equal(ipi(da, 0), want);
    assert_int_equal(ipi(da, 0), -ENOSPC); /* 2-level ends there */
}

static void faults_and_memory(void **state)
{
    struct evtchn_bind_ipi a = {.vcpu = 0};

    for (unsigned nr = EVTCHNOP_bind_interdomain; nr <= EVTCHNOP_set_priority; nr++)
        assert_int_equal(op(db, nr, (void *)8), -EFAULT);
    assert_int_equal(op(db, 14, &a), -ENOSYS);
    fake_fail_mem = 1;
    assert_int_equal(ipi(db, 0), -ENOMEM);
    assert_int_equal(db->evtchn.active, 0);
    fake_fail_mem = 0;
    fake_fail_copy = 2; /* writing back: the port stays, as the interface says */
    assert_int_equal(op(db, EVTCHNOP_bind_ipi, &a), -EFAULT);
    assert_int_equal(db->evtchn.active, 1);
}

static void resets(void **state)
{
    long p = unbound(da, DOMID_SELF, 2);
    unsigned again = 0;
    struct evtchn_reset a = {.dom = DOMID_SELF};

    assert_true(interdomain(db, 1, (uint32_t)p) > 0);
    for (unsigned i = 0; i < 300; i++)
        assert_true(ipi(db, i % VCPUS) > 0);
    assert_int_equal(reset(da, 2), 0); /* paused by its toolstack since creation */
    assert_int_equal(db->evtchn.active, 0);
    assert_int_equal(reset(db, 1), -EPERM);
    assert_int_equal(domain_controller_unpause(db), 0);
    assert_int_equal(reset(da, 2), -EINVAL);
    for (unsigned i = 0; i < 300; i++)
        assert_true(ipi(db, i % VCPUS) > 0);
    fake_preempt_every = 1;
    assert_int_equal(
        fake_hypercall(db->vcpu[0], evtchn_ops, evtchn_op_count, 0, EVTCHNOP_reset, (uintptr_t)&a, 0, &again),
        0);
    fake_preempt_every = 0;
    assert_true(again > 3);
    assert_int_equal(db->evtchn.active, 0);
}

static void polling(void **state)
{
    struct vcpu *v = db->vcpu[1];
    long p = ipi(db, 0), q = ipi(db, 0);
    bool valid;

    mask2(db, p, true);
    v->pause_flags |= VPF_POLLING;
    v->poll_port = PORT(p);
    v->polling_any = false;
    db->evtchn.poll_mask[0] |= 2;
    send_port(db, q);
    assert_int_equal(db->evtchn.poll_mask[0], 2);
    send_port(db, p);
    assert_int_equal(db->evtchn.poll_mask[0], 0);
    assert_false(v->pause_flags & VPF_POLLING);
    v->pause_flags |= VPF_POLLING;
    v->polling_any = true;
    db->evtchn.poll_mask[0] |= 2;
    consume2(db, 0);
    send_port(db, q);
    assert_int_equal(db->evtchn.poll_mask[0], 0);
    assert_true(evtchn_is_pending(db, PORT(q), &valid) && valid);
    assert_false(evtchn_is_pending(db, PORT(p), &valid));
    assert_true(valid);
    assert_false(evtchn_is_pending(db, PORT(5000), &valid) || valid);
}

/* The toolstack kills one end. */
static void death(void **state)
{
    struct domain *d = domain_new(3, false, 1023);
    struct evtchn_status s;
    long p = unbound(da, DOMID_SELF, 3), q = interdomain(d, 1, (uint32_t)p), u = unbound(d, DOMID_SELF, 1);

    assert_true(q > 0 && u > 0 && virq(d, VIRQ_TIMER, 2) > 0);
    domain_ref(d);
    domain_end(d);
    assert_int_equal(status(da, DOMID_SELF, p, &s), 0);
    assert_int_equal(s.status, EVTCHNSTAT_unbound);
    assert_int_equal(interdomain(da, 3, (uint32_t)u), -EINVAL);
    assert_int_equal(unbound(da, 3, 1), -EINVAL);
    domain_put(d);
    fake_run_until(fake_now + 1000000000ull);
}

/* --- FIFO --- */

struct fifo_guest {
    struct domain *d;
    struct evtchn_fifo_control_block *block[VCPUS];
    event_word_t *page[4];
    unsigned pages;
    uint32_t head[VCPUS][EVTCHN_FIFO_MAX_QUEUES];
};

static mfn_t guest_frame(struct domain *d)
{
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, FA_ZERO, &m), 0);
    return m;
}
static long control(struct domain *d, mfn_t m, uint32_t offset, uint32_t vcpu)
{
    struct evtchn_init_control a = {.control_gfn = m.n, .offset = offset, .vcpu = vcpu};
    long r = op(d, EVTCHNOP_init_control, &a);

    return r ? r : a.link_bits;
}
static long expand(struct domain *d, mfn_t m)
{
    struct evtchn_expand_array a = {.array_gfn = m.n};

    return op(d, EVTCHNOP_expand_array, &a);
}
static long priority(struct domain *d, long port, uint32_t prio)
{
    struct evtchn_set_priority a = {.port = (uint32_t)port, .priority = prio};

    return op(d, EVTCHNOP_set_priority, &a);
}

static void fifo_start(struct fifo_guest *g, struct domain *d)
{
    mfn_t m = guest_frame(d);

    *g = (struct fifo_guest){.d = d};
    for (unsigned i = 0; i < VCPUS; i++) {
        g->block[i] = (void *)((char *)arch_frame_va(m) + 128 * i);
        assert_int_equal(control(d, m, 128 * i, i), EVTCHN_FIFO_LINK_BITS);
    }
}
static void fifo_page(struct fifo_guest *g)
{
    mfn_t m = guest_frame(g->d);

    g->page[g->pages++] = arch_frame_va(m);
    assert_int_equal(expand(g->d, m), 0);
}
static event_word_t *word(struct fifo_guest *g, uint32_t port)
{
    return &g->page[port / 1024][port % 1024];
}
#define BIT(n) (1u << (n))
/* The guest's side: the next event of a vCPU in order of priority, or 0. */
static uint32_t fifo_take(struct fifo_guest *g, unsigned vcpu, unsigned *prio)
{
    struct evtchn_fifo_control_block *b = g->block[vcpu];

    for (unsigned q = 0; q < EVTCHN_FIFO_MAX_QUEUES; q++) {
        uint32_t port;

        if (!(b->ready & BIT(q)) && !g->head[vcpu][q])
            continue;
        b->ready &= ~BIT(q);
        port = g->head[vcpu][q] ? g->head[vcpu][q] : b->head[q];
        g->head[vcpu][q] = *word(g, port) & EVTCHN_FIFO_LINK_MASK;
        *word(g, port) &= ~(BIT(EVTCHN_FIFO_LINKED) | EVTCHN_FIFO_LINK_MASK);
        if (!(*word(g, port) & BIT(EVTCHN_FIFO_PENDING)) || (*word(g, port) & BIT(EVTCHN_FIFO_MASKED))) {
            q--; /* again */
            continue;
        }
        *word(g, port) &= ~BIT(EVTCHN_FIFO_PENDING);
        if (prio)
            *prio = q;
        return port;
    }
    return 0;
}

/* The event word is not there yet, but the port counts as pending: who polls it is woken. */
static void fifo_polling_before_the_page(void **state)
{
    struct vcpu *v = db->vcpu[1];
    long p = ipi(db, 0);
    struct fifo_guest g;
    bool valid;

    fifo_start(&g, db);
    v->pause_flags |= VPF_POLLING;
    v->poll_port = PORT(p);
    v->polling_any = false;
    db->evtchn.poll_mask[0] |= 2;
    send_port(db, p);
    assert_true(evtchn_is_pending(db, PORT(p), &valid));
    assert_int_equal(db->evtchn.poll_mask[0], 0);
    assert_false(v->pause_flags & VPF_POLLING);
}

static void fifo_refusals(void **state)
{
    mfn_t m = guest_frame(db), foreign = guest_frame(da);

    assert_int_equal(expand(db, m), -EOPNOTSUPP);
    assert_int_equal(control(db, m, 0, VCPUS), -ENOENT);
    assert_int_equal(control(db, m, 4, 0), -EINVAL);
    assert_int_equal(control(db, m, FRAME_SIZE - 64, 0), -EINVAL);
    assert_int_equal(control(db, m, ~0u & ~7u, 0), -EINVAL);
    assert_int_equal(control(db, foreign, 0, 0), -EINVAL);
    assert_int_equal(control(db, MFN(1ull << 50), 0, 0), -EINVAL);
    fake_set_page_table(m, true);
    assert_int_equal(control(db, m, 0, 0), -EINVAL);
    fake_set_page_table(m, false);
    for (unsigned n = 1; n <= 2; n++) {
        fake_fail_mem = n;
        assert_int_equal(control(db, m, 0, 0), -ENOMEM);
        fake_fail_mem = 0;
    }
    assert_int_equal(fake_pins(m, true), 0);
    assert_int_equal(control(db, m, 0, 0), EVTCHN_FIFO_LINK_BITS);
    assert_int_equal(control(db, m, 0, 0), -EINVAL);
    assert_int_equal(fake_pins(m, true), 1);
    assert_int_equal(expand(db, foreign), -EINVAL);
    assert_int_equal(priority(db, 1, 3), -EINVAL);
    assert_int_equal(priority(db, ipi(db, 0), 16), -EINVAL);
    assert_int_equal(priority(da, ipi(da, 0), 3), -ENOSYS);
}

static void fifo_order(void **state)
{
    struct fifo_guest g;
    long p[6];
    unsigned q;

    fifo_start(&g, db);
    fifo_page(&g);
    for (unsigned i = 0; i < 6; i++)
        p[i] = ipi(db, 0);
    assert_int_equal(priority(db, p[3], 0), 0);
    assert_int_equal(priority(db, p[4], 15), 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(send_port(db, p[i]), 0);
    send_port(db, p[0]); /* already pending and linked */
    assert_int_equal(db->vcpu[0]->info->evtchn_upcall_pending, 1);
    assert_int_equal(fifo_take(&g, 0, &q), p[3]);
    assert_int_equal(q, 0);
    assert_int_equal(fifo_take(&g, 0, &q), p[0]);
    assert_int_equal(q, EVTCHN_FIFO_PRIORITY_DEFAULT);
    assert_int_equal(fifo_take(&g, 0, NULL), p[1]);
    send_port(db, p[0]); /* behind the tail */
    assert_int_equal(fifo_take(&g, 0, NULL), p[2]);
    assert_int_equal(fifo_take(&g, 0, NULL), p[5]);
    assert_int_equal(fifo_take(&g, 0, NULL), p[0]);
    assert_int_equal(fifo_take(&g, 0, &q), p[4]);
    assert_int_equal(q, 15);
    assert_int_equal(fifo_take(&g, 0, NULL), 0);
    send_port(db, p[4]); /* the tail itself again, queue empty */
    assert_int_equal(fifo_take(&g, 0, NULL), p[4]);
}

static void fifo_mask_and_move(void **state)
{
    struct fifo_guest g;
    long p, q, r;

    fifo_start(&g, db);
    fifo_page(&g);
    p = unbound(db, DOMID_SELF, DOMID_SELF);
    q = interdomain(db, DOMID_SELF, (uint32_t)p);
    r = ipi(db, 0);
    fifo_take(&g, 0, NULL);
    *word(&g, (uint32_t)p) |= BIT(EVTCHN_FIFO_MASKED);
    send_port(db, q);
    assert_int_equal(fifo_take(&g, 0, NULL), 0);
    assert_int_equal(unmask_port(db, p), 0);
    assert_int_equal(fifo_take(&g, 0, NULL), p);
    /* Linked on vCPU 0 as tail, then moved to vCPU 1 after the guest took it. */
    send_port(db, q);
    assert_int_equal(rebind(db, p, 1), 0);
    assert_int_equal(fifo_take(&g, 0, NULL), p);
    send_port(db, q);
    assert_int_equal(fifo_take(&g, 0, NULL), 0);
    send_port(db, r); /* vCPU 0's queue must not be chained to the moved tail */
    assert_int_equal(fifo_take(&g, 0, NULL), r);
    assert_int_equal(fifo_take(&g, 1, NULL), p);
    assert_int_equal(fifo_take(&g, 1, NULL), 0);
}

static void fifo_before_the_page(void **state)
{
    struct fifo_guest g;
    long p = ipi(db, 1), q;
    bool valid;

    send_port(db, p); /* in 2-level */
    fifo_start(&g, db);
    q = ipi(db, 1);
    send_port(db, q);
    assert_true(evtchn_is_pending(db, PORT(q), &valid));
    assert_int_equal(fifo_take(&g, 1, NULL), 0);
    fifo_page(&g);
    assert_int_equal(fifo_take(&g, 1, NULL), p);
    assert_int_equal(fifo_take(&g, 1, NULL), q);
    assert_int_equal(fifo_take(&g, 1, NULL), 0);
}

static void fifo_many_ports_and_reset(void **state)
{
    struct fifo_guest g;
    mfn_t m;

    fifo_start(&g, da);
    fifo_page(&g);
    for (long want = 1; want < 6000; want++)
        assert_int_equal(ipi(da, 0), want);
    assert_int_equal(send_port(da, 5000), 0); /* no word yet */
    send_port(da, 7);
    assert_int_equal(fifo_take(&g, 0, NULL), 7);
    send_port(da, 8);
    assert_int_equal(close_port(da, 8), 0);
    assert_int_equal(ipi(da, 0), 6000); /* 8 is still linked in the guest's queue */
    assert_int_equal(fifo_take(&g, 0, NULL), 0);
    assert_int_equal(ipi(da, 0), 8);
    m = maddr_to_mfn(mfn_to_maddr(arch_va_mfn(g.page[0])));
    assert_int_equal(fake_pins(m, true), 1);
    assert_int_equal(reset(da, DOMID_SELF), 0);
    assert_null(da->evtchn.fifo);
    assert_int_equal(fake_pins(m, true), 0);
    assert_int_equal(ipi(da, 0), 1);
    send_port(da, 1);
    assert_true(pending2(da, 1));
    evtchn_room_check(da);
    fifo_start(&g, da); /* and once more */
    fifo_page(&g);
}

/* The guest writes anything anywhere: nothing of ours breaks, nothing loops. */
static void fifo_hostile(void **state)
{
    struct fifo_guest g;
    unsigned seed = 12345;

    fifo_start(&g, db);
    fifo_page(&g);
    for (unsigned i = 0; i < 100; i++)
        assert_true(ipi(db, i % VCPUS) > 0);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t port = 1 + (uint32_t)rand_r(&seed) % 100;

        switch (rand_r(&seed) % 6) {
        case 0:
            *word(&g, (uint32_t)rand_r(&seed) % 1024) = (uint32_t)rand_r(&seed) << 1;
            break;
        case 1:
            memset(g.block[(unsigned)rand_r(&seed) % VCPUS], rand_r(&seed), 72);
            break;
        case 2:
            unmask_port(db, port);
            break;
        case 3:
            priority(db, port, (uint32_t)rand_r(&seed) % 16);
            break;
        default:
            send_port(db, port);
        }
    }
    evtchn_room_check(db);
}

/* --- model --- */

struct model_port {
    int state;
    struct domain *peer;
    long port;
};

/* Random operations on both domains; the room's invariants after each; what a send reaches is known. */
static void model(void **state)
{
    struct domain *dom[2] = {da, db};
    unsigned seed = 99;

    for (unsigned i = 0; i < 6000; i++) {
        struct domain *d = dom[rand_r(&seed) % 2], *other = d == da ? db : da;
        uint32_t port = (uint32_t)rand_r(&seed) % 40;
        struct evtchn *c = evtchn_find(d, port);

        fake_fail_mem = rand_r(&seed) % 50 ? 0 : 1;
        switch (rand_r(&seed) % 10) {
        case 0:
            unbound(d, DOMID_SELF, rand_r(&seed) % 3 ? other->id.v : DOMID_SELF);
            break;
        case 1:
        case 2:
            interdomain(d, rand_r(&seed) % 3 ? other->id.v : DOMID_SELF, port);
            break;
        case 3:
            virq(d, (uint32_t)rand_r(&seed) % (NR_VIRQS + 1), (uint32_t)rand_r(&seed) % (VCPUS + 1));
            break;
        case 4:
            if (d->evtchn.active < 30)
                ipi(d, (uint32_t)rand_r(&seed) % VCPUS);
            break;
        case 5:
            pirq(da, (uint32_t)rand_r(&seed) % 8);
            break;
        case 6:
        case 7:
            close_port(d, port);
            break;
        case 8:
            rebind(d, port, (uint32_t)rand_r(&seed) % VCPUS);
            break;
        default:
            if (c && c->state == EVT_INTERDOMAIN) {
                struct domain *rd = c->remote;
                uint32_t rport = c->remote_port;

                assert_int_equal(send_port(d, port), 0);
                assert_true(pending2(rd, rport));
            }
        }
        fake_fail_mem = 0;
        evtchn_room_check(da);
        evtchn_room_check(db);
        model_evtchn_check();
    }
    evtchn_dump();
}

/* --- ports at which Krypton itself is one end --- */

static bool waits(const struct vcpu *v)
{
    return v->pause_flags & VPF_DEVICE;
}

static void krypton_own(void **state)
{
    struct evtchn_status s;
    port_t own;
    long far;

    assert_int_equal(evtchn_own_open(db, da->id, 1, &own), 0);
    assert_int_equal(interdomain(db, DOMID_SELF, own.v), -EINVAL);
    far = interdomain(da, 2, own.v);
    assert_true(far > 0);
    consume2(da, 0);
    evtchn_own_send(db, own);
    assert_true(pending2(da, far));
    vcpu_device_wait(db->vcpu[1]);
    vcpu_device_wait(db->vcpu[2]);
    assert_false(vcpu_runnable(db->vcpu[1]));
    assert_int_equal(send_port(da, far), 0);
    assert_true(!waits(db->vcpu[1]) && waits(db->vcpu[2]));
    assert_int_equal(send_port(da, far), 0); /* nobody waits */
    vcpu_device_done(db->vcpu[2]);
    assert_true(!pending2(db, own.v) && !db->vcpu[1]->info->evtchn_upcall_pending);

    /* What the guest tries to do with it. */
    consume2(da, 0);
    assert_int_equal(send_port(db, own.v), -EINVAL);
    assert_int_equal(unmask_port(db, own.v), -EINVAL);
    assert_int_equal(rebind(db, own.v, 0), -EINVAL);
    assert_int_equal(close_port(db, own.v), -EINVAL);
    assert_int_equal(status(db, DOMID_SELF, own.v, &s), -EACCES);
    assert_int_equal(reset(db, DOMID_SELF), 0);
    assert_false(pending2(da, far));
    assert_int_equal(status(da, DOMID_SELF, far, &s), 0);
    assert_int_equal(s.status, EVTCHNSTAT_interdomain);

    /* The far side comes and goes. */
    assert_int_equal(close_port(da, far), 0);
    evtchn_own_send(db, own); /* to nobody */
    far = interdomain(da, 2, own.v);
    assert_true(far > 0);
    evtchn_own_close(db, own);
    evtchn_own_close(db, own);
    assert_int_equal(db->evtchn.own, 0);
    assert_int_equal(send_port(da, far), 0);                   /* unbound: swallowed */
    assert_int_equal(evtchn_own_open(db, da->id, 0, &own), 0); /* closed with its domain */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(connect_send_close),
        T(locks_in_order),
        T(loopback),
        T(for_another_domain),
        T(virqs),
        T(ipis_and_mask),
        T(pirqs),
        T(numbers_run_out),
        T(faults_and_memory),
        T(resets),
        T(polling),
        T(death),
        T(fifo_refusals),
        T(fifo_order),
        T(fifo_mask_and_move),
        T(fifo_before_the_page),
        T(fifo_polling_before_the_page),
        T(fifo_many_ports_and_reset),
        T(fifo_hostile),
        T(krypton_own),
        T(model),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
