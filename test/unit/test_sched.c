/*
 * The scheduler on a simulated machine of 4 CPUs: shares by weight over the whole machine and within one CPU,
 * caps, wake-up latency, affinity, blocking without lost wake-ups, polling, and random sequences under the
 * room checks.
 */
#include "fake.h"
#include "core/cpupool.h"
#include "core/evtchn.h"
#include "core/sched.h"
#include "core/timer.h"
#include "core/work.h"

#include <stdlib.h>
#include <string.h>

#define CPUS  4
#define MS(x) ((x)*1000000ull)
#define SEC   1000000000ull

static int group_setup(void **state)
{
    fake_start(16384, CPUS);
    domain_subsystem_init();
    sched_init();
    for (unsigned c = 0; c < CPUS; c++) {
        assert_int_equal(sched_init_cpu(c), 0);
        fake_current[c] = sched_idle_vcpu(c);
        fake_cpu = c;
        work_raise(WORK_SCHEDULE);
    }
    fake_cpu = 0;
    fake_settle();
    return 0;
}
static int group_teardown(void **state)
{
    sched_room_check();
    timer_room_check();
    return 0;
}

static struct cpumask cpus(uint64_t bits)
{
    return (struct cpumask){{bits}};
}

/* A domain with n vCPUs, not started. */
static struct domain *make(uint16_t id, unsigned n, unsigned weight, unsigned cap, uint64_t affinity)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .max_vcpus = n,
                              .max_evtchn_port = 1023,
                              .max_frames = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 4};
    struct cpumask hard = cpus(affinity), all = cpus(~0ull);
    struct domain *d;
    struct vcpu *v;

    assert_int_equal(domain_create(DID(id), &c, &d), 0);
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(vcpu_create(d, i, &v), 0);
        v->initialised = true;
        v->pause_flags = 0;
        assert_int_equal(sched_set_affinity(v, &hard, &all), 0);
    }
    assert_int_equal(sched_set_params(d, weight, cap), 0);
    return d;
}

static struct domain *start(uint16_t id, unsigned n, unsigned weight, unsigned cap, uint64_t affinity)
{
    struct domain *d = make(id, n, weight, cap, affinity);

    assert_int_equal(domain_controller_unpause(d), 0);
    return d;
}

/* Ends all domains and lets the reaper do its work. */
static void end(struct domain **d, unsigned n)
{
    struct domain *gone;

    fake_settle();
    for (unsigned i = 0; i < n; i++) {
        did_t id = d[i]->id;
        int r;

        fake_cpu = 0;
        domain_pause_nosync(d[i]);
        fake_settle(); /* one thread: the CPUs must have left before anybody waits for them */
        while ((r = domain_kill(d[i])) == -EAGAIN)
            work_run();
        assert_int_equal(r, 0);
        domain_put(d[i]);
        fake_run_until(fake_now + MS(300));
        gone = domain_get(id);
        assert_null(gone);
    }
    sched_room_check();
    timer_room_check();
}

static uint64_t ran(struct domain *d)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < d->max_vcpus; i++)
        sum += sched_vcpu_time(d->vcpu[i]);
    return sum;
}

/* Runs the machine for 30 s and compares each domain's time with its part, in 1/1000 of all CPUs' time. */
static void expect_shares(struct domain **d, const unsigned *per_mille, unsigned n, unsigned ncpus)
{
    uint64_t before[16], all = 30 * SEC * ncpus;

    fake_run_until(fake_now + SEC); /* what came before is forgotten */
    for (unsigned i = 0; i < n; i++)
        before[i] = ran(d[i]);
    fake_run_until(fake_now + 30 * SEC);
    sched_room_check();
    for (unsigned i = 0; i < n; i++) {
        uint64_t got = ran(d[i]) - before[i], want = all / 1000 * per_mille[i];
        int64_t off = (int64_t)(got - want);

        if (off < 0)
            off = -off;
        if (off * 100 > (int64_t)want + (int64_t)all / 10) /* 1 %, and the rounding of per_mille */
            fail_msg("domain %u: %.3f s instead of %.3f s", i, (double)got / 1e9, (double)want / 1e9);
    }
}

static void one_cpu_by_weight(void **state)
{
    struct domain *d[] = {start(1, 1, 128, 0, 1), start(2, 1, 256, 0, 1), start(3, 1, 640, 0, 1)};
    static const unsigned want[] = {125, 250, 625};

    expect_shares(d, want, 3, 1);
    end(d, 3);
}

static void extreme_weights(void **state)
{
    struct domain *d[] = {start(1, 1, 64, 0, 1), start(2, 1, 65472, 0, 1)};
    uint64_t a = ran(d[0]), b = ran(d[1]);

    fake_run_until(fake_now + 30 * SEC);
    a = ran(d[0]) - a;
    b = ran(d[1]) - b;
    assert_true(b > 29900 * MS(1));
    assert_true(a > MS(15) && a < MS(60)); /* 1 in 1024 of 30 s is 29 ms */
    end(d, 2);
}

static void three_on_two_cpus(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 3), start(2, 1, 256, 0, 3), start(3, 1, 256, 0, 3)};
    static const unsigned want[] = {333, 333, 334};

    expect_shares(d, want, 3, 2);
    end(d, 3);
}

static void weights_on_two_cpus(void **state)
{
    struct domain *d[] = {start(1, 2, 256, 0, 3), start(2, 2, 512, 0, 3), start(3, 2, 256, 0, 3)};
    static const unsigned want[] = {250, 500, 250};

    expect_shares(d, want, 3, 2);
    end(d, 3);
}

static void weights_on_four_cpus(void **state)
{
    struct domain *d[] = {start(1, 4, 100, 0, 15), start(2, 4, 200, 0, 15), start(3, 4, 300, 0, 15),
                          start(4, 4, 400, 0, 15)};
    static const unsigned want[] = {100, 200, 300, 400};

    expect_shares(d, want, 4, 4);
    end(d, 4);
}

static void five_on_three_cpus(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 7), start(2, 1, 256, 0, 7), start(3, 1, 256, 0, 7),
                          start(4, 1, 256, 0, 7), start(5, 1, 256, 0, 7)};
    static const unsigned want[] = {200, 200, 200, 200, 200};

    expect_shares(d, want, 5, 3);
    end(d, 5);
}

/* Every number of equal vCPUs on 2 to 4 CPUs, and mixed weights of which none is more than a CPU's part. */
static void all_sizes(void **state)
{
    for (unsigned ncpus = 2; ncpus <= 4; ncpus++)
        for (unsigned n = ncpus + 1; n <= 9; n++) {
            struct domain *d[9];
            unsigned want[9], weight[9], sum = 0;

            for (unsigned i = 0; i < n; i++)
                sum += weight[i] = n >= 2 * ncpus ? 256 + 64 * (i % 4) : 256;
            for (unsigned i = 0; i < n; i++) {
                d[i] = start((uint16_t)(i + 1), 1, weight[i], 0, (1u << ncpus) - 1);
                want[i] = (1000 * weight[i] + sum / 2) / sum;
            }
            expect_shares(d, want, n, ncpus);
            end(d, n);
        }
}

/* A weight that no single vCPU can use: it gets one CPU, the others share the rest. */
static void infeasible_weight(void **state)
{
    struct domain *d[] = {start(1, 1, 2560, 0, 3), start(2, 1, 256, 0, 3), start(3, 1, 256, 0, 3)};
    static const unsigned want[] = {500, 250, 250};

    expect_shares(d, want, 3, 2);
    end(d, 3);
}

/* Groups that cannot meet run at different speeds; each is fair in itself. */
static void pinned_groups(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 1), start(2, 1, 512, 0, 1), start(3, 1, 256, 0, 1),
                          start(4, 1, 256, 0, 2), start(5, 1, 768, 0, 2)};
    static const unsigned want[] = {125, 250, 125, 125, 375};

    expect_shares(d, want, 5, 2);
    end(d, 5);
}

/* One vCPU alone for a long time, then company: the past counts for no more than a moment. */
static void past_is_forgotten(void **state)
{
    struct domain *d[3] = {start(1, 1, 256, 0, 3), start(2, 1, 1024, 0, 3), NULL};
    static const unsigned want[] = {333, 333, 334};
    uint64_t before;

    fake_run_until(fake_now + 100 * SEC);
    assert_int_equal(sched_set_params(d[1], 256, 0), 0);
    d[2] = start(3, 1, 256, 0, 3);
    before = ran(d[0]);
    fake_run_until(fake_now + SEC);
    assert_true(ran(d[0]) - before > MS(300));
    expect_shares(d, want, 3, 2);
    end(d, 3);
}

/* One CPU, no tick while nobody waits: what a vCPU ran alone does not count when company comes. */
static void alone_is_free(void **state)
{
    struct domain *d[2];
    uint64_t a, b;

    for (unsigned c = 1; c < CPUS; c++)
        assert_int_equal(cpupool_cpu_remove(0, c), 0);
    d[0] = start(1, 1, 1, 0, 1);
    fake_run_until(fake_now + 100 * SEC);
    d[1] = start(2, 1, 100, 0, 1);
    a = ran(d[0]);
    b = ran(d[1]);
    fake_run_until(fake_now + 10 * SEC);
    a = ran(d[0]) - a;
    b = ran(d[1]) - b;
    assert_true(a > MS(70) && a < MS(130)); /* 1 in 101 */
    assert_int_equal(a + b, 10 * SEC);
    end(d, 2);
    for (unsigned c = 1; c < CPUS; c++)
        assert_int_equal(cpupool_cpu_add(0, c), 0);
}

static void caps(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 25, 15), start(2, 2, 256, 120, 15), start(3, 1, 256, 0, 15)};
    static const unsigned want[] = {250 / 4, 1200 / 4, 1000 / 4};

    expect_shares(d, want, 3, 4);
    assert_int_equal(sched_set_params(d[0], 256, 0), 0);
    fake_run_until(fake_now + SEC);
    assert_int_equal(d[0]->vcpu[0]->runstate.state, RUNSTATE_running);
    assert_int_equal(sched_set_params(d[0], 0, 0), -EINVAL);
    assert_int_equal(sched_set_params(d[0], 65536, 0), -EINVAL);
    assert_int_equal(sched_set_params(d[0], 256, 1000000), -EINVAL);
    end(d, 3);
}

static void cap_of_parked_domain_dies(void **state)
{
    struct domain *d[] = {start(1, 3, 256, 10, 15)};

    fake_run_until(fake_now + MS(20)); /* used up: all parked */
    assert_int_equal(d[0]->vcpu[0]->runstate.state, RUNSTATE_runnable);
    end(d, 1);
}

/* --- sleeping and waking
 * ---------------------------------------------------------------------------------------------------- */

static void on_cpu_of(struct vcpu *v)
{
    fake_cpu = v->cpu;
    assert_ptr_equal(fake_current[fake_cpu], v);
}

static void block(struct vcpu *v)
{
    on_cpu_of(v);
    vcpu_block(v);
    fake_settle();
}

struct io {
    struct vcpu *v;
    struct timer wake;
    uint64_t period, woke, worst, sum;
    unsigned n;
    struct timer done;
};

static void io_wake(void *data)
{
    struct io *io = data;

    io->woke = fake_now;
    vcpu_unblock(io->v);
    timer_set(&io->wake, fake_now + io->period);
}

/* Simulated guest: when it runs after a wake-up it works for 100 us and blocks. Polled by a fine clock. */
static void io_step(struct io *io)
{
    uint64_t lat;

    if (!io->woke || io->v->runstate.state != RUNSTATE_running)
        return;
    lat = io->v->runstate.state_entry_time - io->woke;
    io->worst = MAX(io->worst, lat);
    io->sum += lat;
    io->n++;
    io->woke = 0;
    block(io->v);
}

static void io_wakes_before_hogs(void **state)
{
    struct domain *d[] = {start(1, 4, 256, 0, 1), start(2, 1, 256, 0, 1)};
    struct io io = {.v = d[1]->vcpu[0], .period = MS(7)};

    timer_init(&io.wake, io_wake, &io, 3);
    while (io.v->runstate.state != RUNSTATE_running)
        fake_run_until(fake_now + 100000);
    block(io.v);
    timer_set(&io.wake, fake_now + io.period);
    for (unsigned i = 0; i < 100000; i++) {
        fake_run_until(fake_now + 50000);
        io_step(&io);
    }
    assert_true(io.n > 600);
    /* Five vCPUs on one CPU; yet it waits for no more than the rate limit and a little. */
    assert_true(io.worst <= MS(1) + 100000);
    timer_kill(&io.wake);
    vcpu_unblock(io.v);
    end(d, 2);
}

static void wakes_on_idle_cpu(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 15), start(2, 1, 256, 0, 15)};
    struct vcpu *a = d[0]->vcpu[0], *b = d[1]->vcpu[0];

    fake_settle();
    assert_true(a->running && b->running && a->cpu != b->cpu);
    block(a);
    fake_run_until(fake_now + MS(1));
    fake_cpu = b->cpu;
    vcpu_unblock(a); /* from b's CPU */
    fake_settle();
    assert_true(a->running && b->running && a->cpu != b->cpu);
    end(d, 2);
}

static void block_sees_pending_event(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 1)};
    struct vcpu *v = d[0]->vcpu[0];

    fake_settle();
    on_cpu_of(v);
    v->info->evtchn_upcall_mask = 1;
    v->info->evtchn_upcall_pending = 1;
    vcpu_block(v);
    assert_int_equal(v->info->evtchn_upcall_mask, 0);
    fake_settle();
    assert_true(v->running);
    /* And one that comes between blocking and the switch. */
    v->info->evtchn_upcall_pending = 0;
    vcpu_block(v);
    vcpu_mark_events_pending(v);
    fake_settle();
    assert_true(v->running);
    v->info->evtchn_upcall_pending = 0;
    block(v);
    assert_false(v->running);
    assert_int_equal(v->runstate.state, RUNSTATE_blocked);
    vcpu_mark_events_pending(v);
    fake_settle();
    assert_true(v->running);
    end(d, 1);
}

/* The window between choosing another vCPU and the saved context: a wake-up in it must neither be lost nor
 * let another CPU start the vCPU. */
static struct vcpu *wake_in_switch, *flag_in_switch;
static unsigned in_switch;
void arch_context_switch(struct vcpu *prev, struct vcpu *next)
{
    assert_true(fake_irqs_off[fake_cpu]);
    assert_true(prev->running && next->running);
    assert_int_equal(next->cpu, fake_cpu);
    for (unsigned c = 0; c < CPUS; c++)
        assert_true(c == fake_cpu || fake_current[c] != next); /* nobody runs twice */
    if (prev == wake_in_switch) {
        in_switch++;
        vcpu_unblock(prev);
        assert_true(prev->running);
        assert_false(prev->runstate.state == RUNSTATE_running);
    }
    if (prev == flag_in_switch)
        __atomic_fetch_and(&prev->pause_flags, ~(uint32_t)VPF_BLOCKED, __ATOMIC_SEQ_CST);
    fake_current[fake_cpu] = next;
    sched_context_saved(prev);
    if (prev == flag_in_switch) {
        in_switch++;
        sched_room_check();
        vcpu_wake(prev);
    }
    fake_irqs_off[fake_cpu] = false;
}

/* Who wakes it has changed the flag and comes to vcpu_wake only after the switch. (sim life 23) */
static void flag_changes_during_switch(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 15)};
    struct vcpu *v = d[0]->vcpu[0];

    fake_settle();
    flag_in_switch = v;
    in_switch = 0;
    block(v);
    flag_in_switch = NULL;
    assert_true(in_switch >= 1);
    assert_true(v->running);
    end(d, 1);
}

static void wake_during_switch(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 15)};
    struct vcpu *v = d[0]->vcpu[0];

    fake_settle();
    wake_in_switch = v;
    in_switch = 0;
    block(v);
    wake_in_switch = NULL;
    assert_true(in_switch >= 1);
    assert_true(v->running);
    end(d, 1);
}

static void yield_gives_turn(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 1), start(2, 1, 256, 0, 1)};
    struct vcpu *a, *b;

    fake_settle();
    a = fake_current[0];
    b = a == d[0]->vcpu[0] ? d[1]->vcpu[0] : d[0]->vcpu[0];
    fake_cpu = 0;
    vcpu_yield(a);
    fake_settle();
    assert_ptr_equal(fake_current[0], b);
    vcpu_yield(b);
    fake_settle();
    assert_ptr_equal(fake_current[0], a);
    block(b == fake_current[0] ? b : a);
    assert_false(work_pending());
    vcpu_yield(fake_current[0]); /* nobody waits: no work at all */
    assert_false(work_pending());
    end(d, 2);
}

/* --- affinity
 * -----------------------------------------------------------------------------------------------------------------
 */

static void affinity_moves(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 15)};
    struct vcpu *v = d[0]->vcpu[0];
    struct cpumask two = cpus(4), none = cpus(1ull << 40), all = cpus(15);

    fake_settle();
    assert_int_equal(sched_set_affinity(v, &none, &all), -EINVAL);
    assert_int_equal(sched_set_affinity(v, &two, &all), 0);
    fake_settle();
    assert_int_equal(v->cpu, 2);
    assert_true(v->running);
    on_cpu_of(v);
    assert_int_equal(sched_pin_override(v, 1), 0);
    assert_int_equal(sched_pin_override(v, 1), -EBUSY);
    fake_settle();
    assert_int_equal(v->cpu, 1);
    assert_int_equal(sched_set_affinity(v, &all, &all), -EBUSY);
    assert_int_equal(sched_set_affinity(v, NULL, &all), 0);
    assert_int_equal(cpupool_cpu_remove(0, 1), -EADDRINUSE);
    fake_settle();
    assert_int_equal(v->cpu, 1);
    assert_int_equal(sched_pin_override(v, -1), 0);
    assert_int_equal(v->hard_affinity.w[0], 4);
    assert_int_equal(sched_set_affinity(v, &all, &none), -EINVAL);
    assert_int_equal(sched_set_affinity(v, &all, &all), 0);
    assert_int_equal(sched_pin_override(v, -1), -EINVAL);
    assert_int_equal(sched_pin_override(v, 300), -EINVAL);
    assert_int_equal(sched_pin_override(v, 77), -EINVAL);
    assert_int_equal(v->hard_affinity.w[0], 15);
    end(d, 1);
}

static void queued_vcpu_obeys_affinity(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 1), start(2, 1, 256, 0, 1), start(3, 1, 256, 0, 1)};
    struct cpumask three = cpus(8), all = cpus(15);
    struct vcpu *v = NULL;

    fake_settle();
    for (unsigned i = 0; i < 3; i++)
        if (!d[i]->vcpu[0]->running)
            v = d[i]->vcpu[0];
    assert_int_equal(sched_set_affinity(v, &three, &all), 0);
    fake_settle();
    assert_true(v->running && v->cpu == 3);
    end(d, 3);
}

static void soft_affinity_is_preferred(void **state)
{
    struct domain *d[] = {make(1, 1, 256, 0, 15)};
    struct cpumask all = cpus(15), soft = cpus(8);

    assert_int_equal(sched_set_affinity(d[0]->vcpu[0], &all, &soft), 0);
    assert_int_equal(domain_controller_unpause(d[0]), 0);
    fake_settle();
    assert_int_equal(d[0]->vcpu[0]->cpu, 3);
    end(d, 1);
}

/* --- pools
 * --------------------------------------------------------------------------------------------------------------------- */

static uint64_t pool_cpus(uint32_t id)
{
    struct cpupool_info i;

    assert_int_equal(cpupool_info(id, &i), 0);
    assert_int_equal(i.id, id);
    return i.cpus.w[0];
}

static uint64_t unused_cpus(void)
{
    struct cpumask m;

    cpupool_free_cpus(&m);
    return m.w[0];
}

/* A new pool with these CPUs of pool 0. */
static uint32_t pool_with(uint64_t bits)
{
    uint32_t id;

    assert_int_equal(cpupool_create(CPUPOOL_ANY, &id), 0);
    for (unsigned c = 0; c < CPUS; c++)
        if (bits >> c & 1) {
            assert_int_equal(cpupool_cpu_remove(0, c), 0);
            fake_settle();
            assert_int_equal(cpupool_cpu_add(id, c), 0);
        }
    assert_int_equal(pool_cpus(id), bits);
    return id;
}

static void pool_end(uint32_t id)
{
    uint64_t bits = pool_cpus(id);

    fake_settle();
    for (unsigned c = 0; c < CPUS; c++)
        if (bits >> c & 1) {
            assert_int_equal(cpupool_cpu_remove(id, c), 0);
            assert_int_equal(cpupool_cpu_add(0, c), 0);
        }
    assert_int_equal(cpupool_destroy(id), 0);
    assert_int_equal(pool_cpus(0), 15);
    sched_room_check();
}

static void pools_come_and_go(void **state)
{
    struct cpupool_info i;
    uint32_t a, b, c;

    assert_int_equal(pool_cpus(0), 15);
    assert_int_equal(unused_cpus(), 0);
    assert_int_equal(cpupool_create(0, &a), -EEXIST);
    assert_int_equal(cpupool_create(CPUPOOL_ANY, &a), 0);
    assert_int_equal(a, 1);
    assert_int_equal(cpupool_create(77, &b), 0);
    assert_int_equal(cpupool_create(77, &c), -EEXIST);
    assert_int_equal(cpupool_create(CPUPOOL_ANY, &c), 0);
    assert_int_equal(c, 2);
    assert_int_equal(cpupool_info(3, &i), 0); /* the next one */
    assert_int_equal(i.id, 77);
    assert_true(cpumask_empty(&i.cpus) && !i.domains);
    assert_int_equal(cpupool_info(78, &i), -ENOENT);
    assert_int_equal(cpupool_info(CPUPOOL_ANY, &i), -ENOENT);
    assert_int_equal(cpupool_destroy(a), 0);
    assert_int_equal(cpupool_destroy(a), -ENOENT);
    assert_int_equal(cpupool_destroy(b) | cpupool_destroy(c), 0);
    assert_int_equal(cpupool_destroy(0), -EBUSY);
    for (a = 1; !cpupool_create(CPUPOOL_ANY, &b); a++)
        assert_int_equal(b, a);
    assert_int_equal(cpupool_create(CPUPOOL_ANY, &b), -ENOMEM);
    while (--a)
        assert_int_equal(cpupool_destroy(a), 0);
}

static void pool_cpus_move(void **state)
{
    uint32_t p;

    assert_int_equal(cpupool_create(5, &p), 0);
    assert_int_equal(cpupool_cpu_add(p, 1), -ENODEV); /* not free */
    assert_int_equal(cpupool_cpu_add(p, CPUPOOL_ANY), -EINVAL);
    assert_int_equal(cpupool_cpu_add(p, 4), -EINVAL); /* not online */
    assert_int_equal(cpupool_cpu_add(p, 256), -EINVAL);
    assert_int_equal(cpupool_cpu_add(p, 0x80000001u), -EINVAL);
    assert_int_equal(cpupool_cpu_remove(p, 1), -ENODEV); /* of another pool */
    assert_int_equal(cpupool_cpu_remove(p, CPUPOOL_ANY), -EINVAL);
    assert_int_equal(cpupool_cpu_remove(6, 1), -ENOENT);
    assert_int_equal(cpupool_cpu_remove(0, 300), -EINVAL);
    assert_int_equal(cpupool_cpu_remove(0, CPUPOOL_ANY), 0); /* the last one */
    assert_int_equal(pool_cpus(0), 7);
    assert_int_equal(unused_cpus(), 8);
    assert_int_equal(cpupool_cpu_add(6, 3), -ENOENT);
    assert_int_equal(cpupool_cpu_add(p, CPUPOOL_ANY), 0);
    assert_int_equal(pool_cpus(p), 8);
    assert_int_equal(cpupool_destroy(p), -EBUSY);
    pool_end(p);
}

/* Domains run in their pool only, move with their vCPUs, and hold its last CPU. */
static void domains_stay_in_pools(void **state)
{
    struct domain *d[] = {start(1, 4, 256, 0, 15), start(2, 2, 256, 0, 15)};
    uint32_t p = pool_with(12), full;
    struct cpupool_info i;

    fake_run_until(fake_now + MS(50));
    assert_true(fake_current[2]->idle && fake_current[3]->idle);
    assert_int_equal(cpupool_domain_move(d[1], p), 0);
    fake_settle();
    assert_int_equal(sched_domain_pool(d[1]), p);
    for (unsigned c = 0; c < CPUS; c++)
        assert_ptr_equal(fake_current[c]->domain, d[c >= 2]);
    fake_run_until(fake_now + SEC);
    sched_room_check();
    for (unsigned c = 0; c < CPUS; c++)
        assert_ptr_equal(fake_current[c]->domain, d[c >= 2]);
    assert_int_equal(cpupool_info(p, &i), 0);
    assert_int_equal(i.domains, 1);
    assert_int_equal(cpupool_destroy(p), -EBUSY);
    assert_int_equal(cpupool_cpu_remove(p, 2), 0);
    assert_int_equal(cpupool_cpu_remove(p, 3), -EBUSY);
    fake_settle();
    assert_ptr_equal(fake_current[3]->domain, d[1]);
    assert_true(fake_current[2]->idle);
    assert_int_equal(cpupool_cpu_add(0, 2), 0);
    fake_settle();
    assert_ptr_equal(fake_current[2]->domain, d[0]); /* taken into use at once */

    assert_int_equal(cpupool_create(CPUPOOL_ANY, &full), 0);
    assert_int_equal(cpupool_domain_move(d[1], full), -ENOENT); /* it has no CPU */
    assert_int_equal(cpupool_domain_move(d[1], 99), -ENOENT);
    assert_int_equal(cpupool_domain_move(d[1], p), 0); /* is there */
    assert_int_equal(cpupool_domain_move(dom_idle, p), -EINVAL);
    assert_int_equal(cpupool_destroy(full), 0);
    end(&d[1], 1); /* a dead domain leaves its pool */
    pool_end(p);
    end(&d[0], 1);
}

static void pool_wins_over_affinity(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 8)};
    struct vcpu *v = d[0]->vcpu[0];
    struct cpumask three = cpus(8), all = cpus(15);
    struct sched_affinity a;
    uint32_t p;

    fake_settle();
    assert_int_equal(v->cpu, 3);
    p = pool_with(8);
    fake_settle();
    assert_true(v->running && v->cpu != 3);
    sched_get_affinity(v, &a);
    assert_int_equal(a.hard.w[0], ~0ull);
    assert_int_equal(a.hard_now.w[0], 7);
    assert_int_equal(sched_set_affinity(v, &three, NULL), -EINVAL);
    assert_int_equal(sched_set_affinity(v, NULL, &three), -EINVAL);
    assert_int_equal(sched_set_affinity(v, &all, &all), 0);
    sched_get_affinity(v, &a);
    assert_int_equal(a.hard.w[0], 15);
    assert_int_equal(a.soft_now.w[0], 7);
    assert_int_equal(cpupool_domain_move(d[0], p), 0);
    sched_get_affinity(v, &a);
    assert_int_equal(a.hard.w[0], ~0ull);
    assert_int_equal(a.hard_now.w[0], 8);
    fake_settle();
    assert_true(v->running && v->cpu == 3);
    assert_int_equal(cpupool_domain_move(d[0], 0), 0);
    end(d, 1);
    pool_end(p);
}

static void domain_made_in_pool(void **state)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .max_vcpus = 1,
                              .max_evtchn_port = 1023,
                              .max_frames = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 4,
                              .cpupool = 1};
    struct domain *d;
    struct vcpu *v;
    uint32_t p;

    assert_int_equal(domain_create(DID(1), &c, &d), -ENOENT);
    assert_int_equal(cpupool_create(1, &p), 0);
    assert_int_equal(domain_create(DID(1), &c, &d), -ENOENT); /* without a CPU */
    assert_int_equal(cpupool_destroy(p), 0);
    p = pool_with(4);
    assert_int_equal(domain_create(DID(1), &c, &d), 0);
    assert_int_equal(vcpu_create(d, 0, &v), 0);
    assert_int_equal(v->cpu, 2);
    v->initialised = true;
    v->pause_flags = 0;
    assert_int_equal(domain_controller_unpause(d), 0);
    fake_settle();
    assert_ptr_equal(fake_current[2], v);
    end(&d, 1);
    pool_end(p);
}

static void rate_limits(void **state)
{
    uint32_t us = 0, want;

    assert_int_equal(cpupool_rate_limit(0, NULL, &us), 0);
    assert_int_equal(us, 1000);
    assert_int_equal(cpupool_rate_limit(3, NULL, &us), -ESRCH);
    for (want = 1; want < RATE_LIMIT_MIN_US; want++)
        assert_int_equal(cpupool_rate_limit(0, &want, &us), -EINVAL);
    want = RATE_LIMIT_MAX_US + 1;
    assert_int_equal(cpupool_rate_limit(0, &want, &us), -EINVAL);
    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t good[] = {RATE_LIMIT_MAX_US, 0, 1000};
        struct domain *d[] = {start(1, 1, 256, 0, 1), start(2, 1, 256, 0, 1)};
        static const unsigned half[] = {500, 500};

        assert_int_equal(cpupool_rate_limit(0, &good[i], &us), 0);
        assert_int_equal(us, good[i]);
        if (good[i] != RATE_LIMIT_MAX_US)
            expect_shares(d, half, 2, 1);
        else
            fake_run_until(fake_now + SEC);
        end(d, 2);
    }
}

/* --- runstate
 * ------------------------------------------------------------------------------------------------------------------
 */

static void runstate_adds_up(void **state)
{
    struct domain *d[] = {start(1, 3, 256, 0, 3), start(2, 2, 256, 60, 3)};
    uint64_t t0 = fake_now, idle = sched_idle_time(0) + sched_idle_time(1), used = ran(d[0]) + ran(d[1]);

    fake_run_until(fake_now + SEC);
    block(fake_current[0]->idle ? fake_current[1] : fake_current[0]);
    fake_run_until(fake_now + SEC);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < d[i]->max_vcpus; k++) {
            struct vcpu_runstate_info r;
            uint64_t sum = 0;

            sched_runstate(d[i]->vcpu[k], &r);
            for (unsigned s = 0; s < 4; s++)
                sum += r.time[s];
            assert_int_equal(sum, fake_now - d[i]->created_ns);
            assert_int_equal(r.state_entry_time, fake_now);
        }
    idle = sched_idle_time(0) + sched_idle_time(1) - idle;
    used = ran(d[0]) + ran(d[1]) - used;
    assert_int_equal(idle + used, 2 * (fake_now - t0));
    end(d, 2);
}

static void runstate_area_follows(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 1), start(2, 1, 256, 0, 1)};
    static struct vcpu_runstate_info area;
    struct vcpu *v = d[0]->vcpu[0];

    memset(&area, 0, sizeof(area));
    v->runstate_area = GVA((uintptr_t)&area);
    d[0]->vm_assist = 1ull << VMASST_TYPE_runstate_update_flag;
    fake_run_until(fake_now + SEC);
    assert_int_equal(area.state, v->runstate.state);
    assert_int_equal(area.state_entry_time & XEN_RUNSTATE_UPDATE, 0);
    assert_true(area.time[RUNSTATE_running] > MS(450));
    assert_true(area.time[RUNSTATE_runnable] > MS(450));
    v->runstate_area = GVA(8); /* faults: nothing happens */
    fake_run_until(fake_now + SEC);
    v->runstate_area = GVA(0);
    end(d, 2);
}

/* --- SCHEDOP_*
 * -------------------------------------------------------------------------------------------------------------------
 */

static long op(struct vcpu *v, unsigned cmd, void *arg)
{
    long r = fake_hypercall(v, sched_ops, sched_op_count, 0, cmd, (uintptr_t)arg, 0, NULL);

    fake_settle();
    return r;
}

static void poll_waits_and_times_out(void **state)
{
    struct domain *d[] = {start(1, 2, 256, 0, 15)};
    struct vcpu *v = d[0]->vcpu[0];
    evtchn_port_t port[2] = {0}, bad = 999;
    struct sched_poll p = {.nr_ports = 1};
    port_t made;

    fake_settle();
    assert_int_equal(evtchn_alloc_unbound(d[0], DID(0), &made), 0);
    port[0] = made.v;
    p.ports.p = port;
    p.timeout = fake_now + MS(5);
    v->info->evtchn_upcall_mask = 1;
    on_cpu_of(v);
    assert_int_equal(op(v, SCHEDOP_poll, &p), 0);
    assert_false(v->running);
    assert_int_equal(v->runstate.state, RUNSTATE_blocked);
    fake_run_until(fake_now + MS(4));
    assert_false(v->running);
    fake_run_until(fake_now + MS(2));
    assert_true(v->running);
    assert_int_equal(d[0]->evtchn.poll_mask[0], 0);

    p.timeout = 0;
    on_cpu_of(v);
    assert_int_equal(op(v, SCHEDOP_poll, &p), 0);
    assert_false(v->running);
    evtchn_notify(d[0], made);
    fake_settle();
    assert_true(v->running);
    on_cpu_of(v);
    assert_int_equal(op(v, SCHEDOP_poll, &p), 0); /* still pending: returns at once */
    assert_true(v->running);

    p.ports.p = &bad;
    assert_int_equal(op(v, SCHEDOP_poll, &p), -EINVAL);
    assert_int_equal(v->pause_flags, 0);
    assert_int_equal(d[0]->evtchn.poll_mask[0], 0);
    p.nr_ports = 129;
    assert_int_equal(op(v, SCHEDOP_poll, &p), -EINVAL);
    p.nr_ports = 2;
    p.ports.p = (void *)16;
    assert_int_equal(op(v, SCHEDOP_poll, &p), -EFAULT);
    assert_int_equal(op(v, SCHEDOP_poll, NULL), -EFAULT);
    assert_int_equal(v->pause_flags, 0);
    end(d, 1);
}

static void compat_and_unknown(void **state)
{
    struct domain *d[] = {start(1, 1, 256, 0, 15)};
    struct vcpu *v = d[0]->vcpu[0];
    struct hypercall hc = {.caller = v, .arg = {SCHEDOP_block}};

    fake_settle();
    assert_int_equal(op(v, SCHEDOP_pin_override, &hc), -EPERM);
    assert_int_equal(op(v, 77, NULL), -ENOSYS);
    on_cpu_of(v);
    assert_int_equal(do_sched_op_compat(&hc), 0);
    fake_settle();
    assert_false(v->running);
    vcpu_unblock(v);
    fake_settle();
    hc.arg[0] = SCHEDOP_yield;
    assert_int_equal(do_sched_op_compat(&hc), 0);
    hc.arg[0] = 9;
    assert_int_equal(do_sched_op_compat(&hc), -ENOSYS);
    hc.arg[0] = SCHEDOP_shutdown;
    hc.arg[1] = 300;
    assert_int_equal(do_sched_op_compat(&hc), -EINVAL);
    hc.arg[1] = SHUTDOWN_poweroff;
    assert_int_equal(do_sched_op_compat(&hc), 0);
    fake_settle();
    assert_true(d[0]->shut_down);
    assert_false(v->running);
    end(d, 1);
}

/* --- everything at random
 * -------------------------------------------------------------------------------------------------------- */

#define RDOMS 6
static struct {
    struct domain *d;
    unsigned paused;
} rd[RDOMS];

/* CPUs and domains wander between two pools; whatever is refused, nothing breaks. */
static void random_pool_action(struct domain *d)
{
    unsigned cpu = (unsigned)rand() % (CPUS + 1), from = (unsigned)rand() % 2;

    if (rand() % 2) {
        (void)!cpupool_domain_move(d, (unsigned)rand() % 3);
    } else if (!cpupool_cpu_remove(from, cpu)) {
        if (rand() % 2)
            fake_settle();
        if (cpupool_cpu_add((unsigned)rand() % 2, cpu)) {
            fake_settle();
            assert_int_equal(cpupool_cpu_add((unsigned)rand() % 2, cpu), 0);
        }
    }
}

static void random_action(void)
{
    unsigned i = (unsigned)rand() % RDOMS;
    struct domain *d = rd[i].d;
    struct vcpu *v = d->vcpu[(unsigned)rand() % d->max_vcpus];
    struct cpumask m = cpus((uint64_t)rand() % 15 + 1), s = cpus((uint64_t)rand() % 15 + 1);

    fake_cpu = (unsigned)rand() % CPUS;
    switch (rand() % 12) {
    case 10:
        random_pool_action(d);
        break;
    case 0:
        if (rd[i].paused++ < 3)
            domain_pause_nosync(d);
        else
            rd[i].paused--;
        break;
    case 1:
        if (rd[i].paused) {
            rd[i].paused--;
            domain_unpause(d);
        }
        break;
    case 2:
        (void)!sched_set_affinity(v, &m, &s); /* there may be nothing of it in the pool */
        break;
    case 3:
        assert_int_equal(
            sched_set_params(d, (unsigned)rand() % 2000 + 1, rand() % 3 ? 0 : (unsigned)rand() % 150), 0);
        break;
    case 4:
    case 5:
        if (fake_current[v->cpu] == v && v->running) {
            fake_cpu = v->cpu;
            if (rand() % 2)
                vcpu_block(v);
            else
                vcpu_yield(v);
        }
        break;
    case 6:
    case 7:
        vcpu_unblock(v);
        break;
    case 8:
        vcpu_kick(v);
        break;
    default:
        fake_run_until(fake_now + (uint64_t)rand() % MS(20));
    }
}

/* Whoever may run while a CPU that it may use idles would be a lost wake-up. */
static void nobody_forgotten(void)
{
    fake_run_until(fake_now + MS(60)); /* caps refill */
    for (unsigned i = 0; i < RDOMS; i++)
        assert_int_equal(sched_set_params(rd[i].d, 256, 0), 0);
    fake_run_until(fake_now + MS(60));
    for (unsigned i = 0; i < RDOMS; i++)
        for (unsigned k = 0; k < rd[i].d->max_vcpus; k++) {
            struct vcpu *v = rd[i].d->vcpu[k];

            if (!vcpu_runnable(v) || v->running)
                continue;
            assert_int_equal(v->runstate.state, RUNSTATE_runnable);
            for (unsigned c = 0; c < CPUS; c++)
                assert_false(cpumask_test(&v->allowed, c) && fake_current[c]->idle);
        }
}

static void random_sequences(void **state)
{
    struct domain *d[RDOMS];
    uint32_t p;

    assert_int_equal(cpupool_create(1, &p), 0);
    srand(11);
    for (unsigned i = 0; i < RDOMS; i++) {
        d[i] = rd[i].d = start((uint16_t)(i + 1), 1 + i % 3, 256, 0, 15);
        rd[i].paused = 0;
    }
    for (unsigned n = 0; n < 20000; n++) {
        random_action();
        if (rand() % 3 == 0)
            fake_settle();
        sched_room_check();
        if (n % 500 == 0)
            nobody_forgotten();
    }
    sched_dump();
    timer_dump();
    for (unsigned i = 0; i < RDOMS; i++) /* one pool may have no CPU, never one with domains */
        if (cpupool_domain_move(d[i], 0))
            assert_int_equal(sched_domain_pool(d[i]), p);
    end(d, RDOMS);
    for (unsigned c = 0; c < CPUS; c++)
        if (!cpupool_cpu_remove(p, c))
            assert_int_equal(cpupool_cpu_add(0, c), 0);
    assert_int_equal(cpupool_destroy(p), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_cpu_by_weight),
        cmocka_unit_test(extreme_weights),
        cmocka_unit_test(three_on_two_cpus),
        cmocka_unit_test(weights_on_two_cpus),
        cmocka_unit_test(weights_on_four_cpus),
        cmocka_unit_test(five_on_three_cpus),
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(infeasible_weight),
        cmocka_unit_test(pinned_groups),
        cmocka_unit_test(past_is_forgotten),
        cmocka_unit_test(alone_is_free),
        cmocka_unit_test(caps),
        cmocka_unit_test(cap_of_parked_domain_dies),
        cmocka_unit_test(io_wakes_before_hogs),
        cmocka_unit_test(wakes_on_idle_cpu),
        cmocka_unit_test(block_sees_pending_event),
        cmocka_unit_test(wake_during_switch),
        cmocka_unit_test(flag_changes_during_switch),
        cmocka_unit_test(yield_gives_turn),
        cmocka_unit_test(affinity_moves),
        cmocka_unit_test(queued_vcpu_obeys_affinity),
        cmocka_unit_test(soft_affinity_is_preferred),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(pool_cpus_move),
        cmocka_unit_test(domains_stay_in_pools),
        cmocka_unit_test(pool_wins_over_affinity),
        cmocka_unit_test(domain_made_in_pool),
        cmocka_unit_test(rate_limits),
        cmocka_unit_test(runstate_adds_up),
        cmocka_unit_test(runstate_area_follows),
        cmocka_unit_test(poll_waits_and_times_out),
        cmocka_unit_test(compat_and_unknown),
        cmocka_unit_test(random_sequences),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
