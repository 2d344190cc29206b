/*
 * Event channels and grants on several processors at once: real threads, each a CPU of its own, run random
 * operations of three domains against each other. The debug locks check their order; afterwards the rooms
 * check themselves. What this looks for: deadlocks, lock-order mistakes, counts that drift, objects used
 * after they were freed (ASan).
 */
#include "fake.h"
#include "limit.h"
#include "core/perf.h"
#include "core/evtchn.h"
#include "core/grant.h"
#include "core/sched.h"
#include "core/evtchn/private.h"
#include "core/grant/private.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4u
#define DOMAINS 3u
#define STEPS   LIMIT_ROUNDS(40000u)
#define PORTS   24u

/* --- each thread is a processor --- */

static _Thread_local unsigned this_cpu;
static _Thread_local bool irqs_off;

unsigned arch_cpu_id(void)
{
    return this_cpu;
}
struct vcpu *arch_current(void)
{
    return fake_current[this_cpu];
}
bool arch_irq_enabled(void)
{
    return !irqs_off;
}
void arch_irq_disable(void)
{
    irqs_off = true;
}
void arch_irq_enable(void)
{
    irqs_off = false;
}
unsigned long arch_irq_save(void)
{
    unsigned long was = !irqs_off;

    irqs_off = true;
    return was;
}
void arch_irq_restore(unsigned long flags)
{
    irqs_off = !flags;
}
uint32_t *arch_perf(void)
{
    static _Thread_local uint32_t counts[PERF_VALUES];

    return counts;
}
void arch_cpu_relax(void)
{
    sched_yield();
}

/* The fake machine's own lists and TLBs are for one thread. */
void arch_frame_settle(struct frame *f, unsigned order)
{
}
void arch_frame_stamp(struct frame *f)
{
}

bool arch_grant_pin(struct domain *owner, mfn_t m, bool readonly)
{
    return mfn_valid(m) && frame_get(mfn_frame(m), owner);
}
void arch_grant_unpin(mfn_t m, bool readonly)
{
    frame_put(mfn_frame(m));
}
int arch_grant_map(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly)
{
    return addr & FRAME_SIZE ? -EINVAL : 0;
}
int arch_grant_unmap(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly, uint64_t new_addr)
{
    return 0;
}
void arch_grant_flush(struct domain *d)
{
}
int arch_pirq_bind(struct vcpu *v, uint32_t pirq, bool will_share)
{
    return pirq % 3 ? 0 : -EBUSY;
}
void arch_pirq_unbind(struct domain *d, uint32_t pirq)
{
}
void arch_pirq_unmask(struct domain *d, uint32_t pirq)
{
}
void arch_pirq_set_affinity(struct domain *d, uint32_t pirq, struct vcpu *v)
{
}
bool arch_pirq_allowed(const struct domain *d, uint32_t pirq)
{
    return true;
}

/* --- the machine --- */

static struct domain *dom[DOMAINS];
static mfn_t frame[DOMAINS], control_frame[DOMAINS], array_frame[DOMAINS];

static int group_setup(void **state)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .max_vcpus = THREADS,
                              .max_evtchn_port = 1023,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 100};
    struct vcpu *v;

    fake_start(16384, THREADS);
    domain_subsystem_init();
    sched_init();
    for (unsigned i = 0; i < THREADS; i++) {
        if (sched_init_cpu(i))
            return -1;
        fake_current[i] = sched_idle_vcpu(i);
    }
    for (unsigned i = 0; i < DOMAINS; i++) {
        if (domain_create(DID(i + 1), &c, &dom[i]))
            return -1;
        for (unsigned n = 0; n < THREADS; n++)
            if (vcpu_create(dom[i], n, &v))
                return -1;
        if (frame_alloc_domain(dom[i], 0, 64, FA_ZERO, &frame[i]) ||
            frame_alloc_domain(dom[i], 0, 64, FA_ZERO, &control_frame[i]) ||
            frame_alloc_domain(dom[i], 0, 64, FA_ZERO, &array_frame[i]))
            return -1;
    }
    return 0;
}

static int group_teardown(void **state)
{
    for (unsigned i = 0; i < DOMAINS; i++) {
        int r;

        while ((r = domain_kill(dom[i])) == -EAGAIN)
            ;
        if (r)
            return -1;
        domain_put(dom[i]);
    }
    fake_run_until(fake_now + 1000000000ull);
    return 0;
}

static long call(struct domain *d, const struct hc_op *ops, unsigned n, unsigned nr, void *arg,
                 uint32_t count)
{
    return fake_hypercall(d->vcpu[this_cpu], ops, n, 0, nr, (uintptr_t)arg, count, NULL);
}
#define event_op(d, nr, a) (void)call(d, evtchn_ops, evtchn_op_count, nr, a, 0)

static void run(void *(*fn)(void *))
{
    pthread_t t[THREADS];

    limit_run();
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, fn, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    limit_end();
}

/* --- events --- */

static bool few_ports(struct domain *d)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);
    bool few = d->evtchn.active < PORTS;

    spin_unlock_irq(&d->evtchn.lock, flags);
    return few;
}

static void random_event_op(struct domain *d, unsigned *seed)
{
    unsigned di = (unsigned)rand_r(seed) % DOMAINS;
    uint32_t port = (uint32_t)rand_r(seed) % PORTS;
    struct evtchn_alloc_unbound unbound = {.dom = DOMID_SELF, .remote_dom = dom[di]->id.v};
    struct evtchn_bind_interdomain inter = {.remote_dom = dom[di]->id.v, .remote_port = port};
    struct evtchn_bind_virq virq = {.virq = (uint32_t)rand_r(seed) % 4,
                                    .vcpu = (uint32_t)rand_r(seed) % THREADS};
    struct evtchn_bind_ipi ipi = {.vcpu = (uint32_t)rand_r(seed) % THREADS};
    struct evtchn_bind_pirq pirq = {.pirq = (uint32_t)rand_r(seed) % 5};
    struct evtchn_close one = {.port = port};
    struct evtchn_bind_vcpu move = {.port = port, .vcpu = (uint32_t)rand_r(seed) % THREADS};
    struct evtchn_set_priority prio = {.port = port, .priority = (uint32_t)rand_r(seed) % 16};
    struct evtchn_status st = {.dom = DOMID_SELF, .port = port};

    switch (rand_r(seed) % 16) {
    case 0:
        if (few_ports(d))
            event_op(d, EVTCHNOP_alloc_unbound, &unbound);
        break;
    case 1:
    case 2:
        if (few_ports(d))
            event_op(d, EVTCHNOP_bind_interdomain, &inter);
        break;
    case 3:
        event_op(d, EVTCHNOP_bind_virq, &virq);
        break;
    case 4:
        if (few_ports(d))
            event_op(d, EVTCHNOP_bind_ipi, &ipi);
        break;
    case 5:
        event_op(d, EVTCHNOP_bind_pirq, &pirq);
        break;
    case 6:
    case 7:
        event_op(d, EVTCHNOP_close, &one);
        break;
    case 8:
        event_op(d, EVTCHNOP_bind_vcpu, &move);
        break;
    case 9:
        event_op(d, EVTCHNOP_unmask, &one);
        break;
    case 10:
        event_op(d, EVTCHNOP_set_priority, &prio);
        break;
    case 11:
        event_op(d, EVTCHNOP_status, &st);
        break;
    case 12:
        evtchn_virq(d->vcpu[virq.vcpu], virq.virq);
        evtchn_virq_global(d, virq.virq);
        (void)evtchn_pirq(d, pirq.pirq);
        break;
    default:
        event_op(d, EVTCHNOP_send, &one);
    }
}

/* Now and then a domain goes to FIFO, or back by a reset that closes all its ports under the others' feet. */
static void change_abi(struct domain *d, unsigned di, unsigned *seed)
{
    struct evtchn_init_control c = {.control_gfn = control_frame[di].n,
                                    .vcpu = (uint32_t)rand_r(seed) % THREADS};
    struct evtchn_expand_array e = {.array_gfn = array_frame[di].n};
    struct evtchn_reset r = {.dom = DOMID_SELF};

    c.offset = c.vcpu * 128;
    switch (rand_r(seed) % 4) {
    case 0:
        event_op(d, EVTCHNOP_reset, &r);
        break;
    case 1:
        event_op(d, EVTCHNOP_expand_array, &e);
        break;
    default:
        event_op(d, EVTCHNOP_init_control, &c);
    }
}

static void *event_thread(void *arg)
{
    unsigned seed = 17 + (unsigned)(uintptr_t)arg;

    this_cpu = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < STEPS; i++) {
        unsigned di = (unsigned)rand_r(&seed) % DOMAINS;

        if (rand_r(&seed) % 64)
            random_event_op(dom[di], &seed);
        else
            change_abi(dom[di], di, &seed);
        if (rand_r(&seed) % 8 == 0) /* the guest consumes, in its way */
            __atomic_store_n((uint32_t *)arch_frame_va(array_frame[di]) + (unsigned)rand_r(&seed) % PORTS, 0,
                             __ATOMIC_RELAXED);
        if (rand_r(&seed) % 256 == 0)
            evtchn_room_check(dom[di]);
    }
    return NULL;
}

static void events(void **state)
{
    struct evtchn_reset r = {.dom = DOMID_SELF};

    run(event_thread);
    for (unsigned i = 0; i < DOMAINS; i++) {
        evtchn_room_check(dom[i]);
        assert_int_equal(call(dom[i], evtchn_ops, evtchn_op_count, EVTCHNOP_reset, &r, 0), 0);
        evtchn_room_check(dom[i]);
        assert_int_equal(dom[i]->evtchn.active, 0);
        assert_int_equal(mfn_frame(control_frame[i])->count & FRAME_REF_MASK, 1);
        assert_int_equal(mfn_frame(array_frame[i])->count & FRAME_REF_MASK, 1);
    }
}

/* --- grants --- */

#define HANDLES 64u

static void random_grant_op(struct domain *d, unsigned *seed)
{
    struct gnttab_map_grant_ref m = {.host_addr = ((uint64_t)rand_r(seed) % 8) << FRAME_SHIFT,
                                     .flags = (uint32_t)rand_r(seed) % 8,
                                     .ref = (uint32_t)rand_r(seed) % 12,
                                     .dom = (domid_t)(1 + (unsigned)rand_r(seed) % DOMAINS)};
    struct gnttab_unmap_grant_ref u[4] = {0};
    struct gnttab_copy c = {.source = {.u.ref = m.ref, .domid = m.dom},
                            .dest = {.u.gmfn = frame[d->id.v - 1].n, .domid = DOMID_SELF},
                            .len = 8,
                            .flags = GNTCOPY_source_gref};
    struct gnttab_set_version ver = {.version = 1 + (uint32_t)rand_r(seed) % 2};
    struct gnttab_swap_grant_ref s = {.ref_a = (uint32_t)rand_r(seed) % 12,
                                      .ref_b = (uint32_t)rand_r(seed) % 12};

    for (unsigned i = 0; i < 4; i++) {
        u[i].host_addr = 1;
        u[i].handle = (uint32_t)rand_r(seed) % HANDLES;
        u[i].dev_bus_addr = frame[(unsigned)rand_r(seed) % DOMAINS].n << FRAME_SHIFT;
    }
    switch (rand_r(seed) % 16) {
    case 0:
        (void)call(d, grant_ops, grant_op_count, GNTTABOP_set_version, &ver, 1);
        break;
    case 1:
        (void)call(d, grant_ops, grant_op_count, GNTTABOP_swap_grant_ref, &s, 1);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        (void)call(d, grant_ops, grant_op_count, GNTTABOP_copy, &c, 1);
        break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
        (void)call(d, grant_ops, grant_op_count, GNTTABOP_map_grant_ref, &m, 1);
        break;
    default:
        (void)call(d, grant_ops, grant_op_count, GNTTABOP_unmap_grant_ref, u, 4);
    }
}

/* The granter rewrites an entry for some user, whatever the version: what does not fit is refused. */
static void rewrite_entry(struct domain *d, unsigned *seed)
{
    uint32_t ref = (uint32_t)rand_r(seed) % 12, user = 1 + (uint32_t)rand_r(seed) % DOMAINS;
    uint32_t word = GTF_permit_access | (rand_r(seed) % 4 ? 0 : GTF_readonly) | user << 16;
    uint64_t f = frame[d->id.v - 1].n;

    read_lock(&d->grant->lock); /* for the version only: which words are the entry's */
    if (d->grant->version == 1)
        __atomic_store_n(&grant_v1(d->grant, ref)->frame, (uint32_t)f, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&grant_v2(d->grant, ref)->full_page.frame, f, __ATOMIC_RELAXED);
    __atomic_store_n(grant_header(d->grant, ref), word, __ATOMIC_RELEASE);
    read_unlock(&d->grant->lock);
}

static void *grant_thread(void *arg)
{
    unsigned seed = 171 + (unsigned)(uintptr_t)arg;

    this_cpu = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < STEPS; i++) {
        struct domain *d = dom[(unsigned)rand_r(&seed) % DOMAINS];

        if (rand_r(&seed) % 4)
            random_grant_op(d, &seed);
        else
            rewrite_entry(d, &seed);
    }
    return NULL;
}

static void grants(void **state)
{
    uint64_t pins = 0;

    run(grant_thread);
    for (unsigned i = 0; i < DOMAINS; i++) {
        grant_room_check(dom[i]);
        grant_room_check_sums(dom[i]);
        pins += dom[i]->grant->track_used;
    }
    print_message("%llu mappings left to release\n", (unsigned long long)pins);
    for (unsigned i = 0; i < DOMAINS; i++)
        while (grant_domain_release_mappings(dom[i]) == -EAGAIN)
            ;
    for (unsigned i = 0; i < DOMAINS; i++) {
        grant_room_check(dom[i]);
        assert_int_equal(dom[i]->grant->in_use, 0);
        assert_int_equal(dom[i]->grant->track_used, 0);
        assert_int_equal(mfn_frame(frame[i])->count & FRAME_REF_MASK, 1);
        assert_int_equal(dom[i]->refs, 3); /* publication, ours, its memory */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(events), cmocka_unit_test(grants)};

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
