/*
 * Shares as a whole, against a model: random machines of 1 to 8 CPUs with spinning and sleeping guests, weights,
 * caps and affinities. The ideal is weighted max-min fairness: all shares rise at the rate of their weights until
 * something is full - a vCPU's own CPU or demand, a domain's cap, or a set of CPUs with those that may run only
 * there - and what is full stands still while the rest rises on. Guests that sleep are taken with what they used, and time
 * that nobody wanted is left out.
 */
#include "fake.h"
#include "core/cpupool.h"
#include "core/sched.h"
#include "core/timer.h"
#include "core/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS    8
#define MS(x)   ((x)*1000000ull)
#define SEC     1000000000ull
#define MAX_V   32
#define MAX_D   12
#define SECONDS 20

/* --- the machine
 * ---------------------------------------------------------------------------------------------------- */

struct guest {
    struct vcpu *v;
    unsigned dom, weight;
    uint64_t allowed;
    uint64_t run, sleep;  /* ns; sleep 0 = spins */
    uint64_t left, since; /* of this run */
    struct timer done, wake;
    uint64_t woke, latency_sum, latency_most;
    unsigned wakes;
    uint64_t ran0;
    double got, ideal, demand;
    bool still;
};

static struct guest guests[MAX_V];
static unsigned nguests;
static struct domain *doms[MAX_D];
static unsigned caps[MAX_D], ndoms, ncpus;
static double idle; /* CPUs: time that nobody wanted */

static struct guest *guest_of(const struct vcpu *v)
{
    for (unsigned i = 0; i < nguests; i++)
        if (guests[i].v == v)
            return &guests[i];
    return NULL;
}

static void wake_fire(void *data)
{
    struct guest *g = data;

    g->woke = fake_now;
    g->left = g->run;
    vcpu_unblock(g->v);
}

static void done_fire(void *data)
{
    struct guest *g = data;

    if (fake_current[fake_cpu] != g->v || fake_now < g->since + g->left)
        return;
    vcpu_block(g->v);
    timer_set(&g->wake, fake_now + g->sleep / 2 + (uint64_t)rand() % g->sleep);
}

static void begins(struct guest *g)
{
    g->since = fake_now;
    if (g->woke) {
        g->latency_sum += fake_now - g->woke;
        g->latency_most = MAX(g->latency_most, fake_now - g->woke);
        g->wakes++;
        g->woke = 0;
    }
    timer_migrate(&g->done, fake_cpu);
    timer_set(&g->done, fake_now + g->left);
}

void arch_context_switch(struct vcpu *prev, struct vcpu *next)
{
    struct guest *g = prev->idle ? NULL : guest_of(prev);

    if (g && g->sleep) {
        timer_stop(&g->done);
        g->left -= MIN(g->left, fake_now - g->since);
    }
    fake_current[fake_cpu] = next;
    sched_context_saved(prev);
    g = next->idle ? NULL : guest_of(next);
    if (g && g->sleep)
        begins(g);
    fake_irqs_off[fake_cpu] = false;
}

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
    ncpus = CPUS;
    return 0;
}

/* Pool 0 has this many CPUs from now on. */
static void set_cpus(unsigned n)
{
    for (; ncpus > n; ncpus--)
        assert_int_equal(cpupool_cpu_remove(0, ncpus - 1), 0);
    for (; ncpus < n; ncpus++)
        assert_int_equal(cpupool_cpu_add(0, ncpus), 0);
    fake_settle();
}

/* --- the mix
 * ------------------------------------------------------------------------------------------------------------------ */

static struct domain *domain(unsigned nvcpus, unsigned weight, unsigned cap, uint64_t affinity, uint64_t run,
                             uint64_t sleep)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .max_vcpus = nvcpus,
                              .max_evtchn_port = 1023,
                              .max_frames = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 4};
    struct cpumask hard = {{affinity}};
    struct domain *d;

    assert_int_equal(domain_create(DID(ndoms + 1), &c, &d), 0);
    for (unsigned i = 0; i < nvcpus; i++) {
        struct guest *g = &guests[nguests++];

        *g = (struct guest){.dom = ndoms, .weight = weight, .run = run, .sleep = sleep, .left = run};
        g->allowed = affinity & ((1u << ncpus) - 1);
        assert_int_equal(vcpu_create(d, i, &g->v), 0);
        g->v->initialised = true;
        g->v->pause_flags = 0;
        assert_int_equal(sched_set_affinity(g->v, &hard, NULL), 0);
        timer_init(&g->done, done_fire, g, 0);
        timer_init(&g->wake, wake_fire, g, (unsigned)rand() % ncpus);
    }
    assert_int_equal(sched_set_params(d, weight, cap), 0);
    caps[ndoms] = cap;
    doms[ndoms++] = d;
    return d;
}

static void end(void)
{
    for (unsigned i = 0; i < nguests; i++) {
        timer_kill(&guests[i].wake);
        timer_kill(&guests[i].done);
    }
    for (unsigned i = 0; i < ndoms; i++) {
        int r;

        fake_cpu = 0;
        domain_pause_nosync(doms[i]);
        fake_settle();
        while ((r = domain_kill(doms[i])) == -EAGAIN)
            work_run();
        assert_int_equal(r, 0);
        domain_put(doms[i]);
    }
    fake_run_until(fake_now + MS(300));
    sched_room_check();
    ndoms = nguests = 0;
}

/* --- the ideal
 * ---------------------------------------------------------------------------------------------------------------- */

/* A constraint: a sum of shares that may not exceed `most`. Member i: bit i. */
struct limit {
    uint32_t who;
    double most;
};

static unsigned limits_make(struct limit *l)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nguests; i++)
        l[n++] = (struct limit){1u << i, guests[i].sleep ? guests[i].demand : 1};
    for (unsigned d = 0; d < ndoms; d++)
        if (caps[d]) {
            l[n] = (struct limit){0, caps[d] / 100.0};
            for (unsigned i = 0; i < nguests; i++)
                l[n].who |= guests[i].dom == d ? 1u << i : 0;
            n++;
        }
    for (uint64_t set = 1; set < 1ull << ncpus; set++) {
        l[n] = (struct limit){0, __builtin_popcountll(set) - (set + 1 == 1ull << ncpus ? idle : 0)};
        for (unsigned i = 0; i < nguests; i++)
            l[n].who |= !(guests[i].allowed & ~set) ? 1u << i : 0;
        n += l[n].who != 0;
    }
    return n;
}

/* How far all that may still rise can rise, in share per weight. */
static double room(const struct limit *l, uint32_t rising)
{
    double left = l->most, weight = 0;

    for (unsigned i = 0; i < nguests; i++)
        if (l->who >> i & 1) {
            left -= guests[i].ideal;
            weight += rising >> i & 1 ? guests[i].weight : 0;
        }
    return weight > 0 ? left / weight : 1e9;
}

static void ideal_make(void)
{
    static struct limit l[MAX_V + MAX_D + (1 << CPUS)];
    unsigned n = limits_make(l);
    uint32_t rising = (uint32_t)((1ull << nguests) - 1);

    for (unsigned i = 0; i < nguests; i++)
        guests[i].ideal = 0;
    while (rising) {
        double step = 1e9;

        for (unsigned k = 0; k < n; k++)
            step = MIN(step, room(&l[k], rising));
        for (unsigned i = 0; i < nguests; i++)
            guests[i].ideal += rising >> i & 1 ? step * guests[i].weight : 0;
        for (unsigned k = 0; k < n; k++)
            if (room(&l[k], rising) < 1e-12)
                rising &= ~l[k].who;
    }
}

/* --- comparing
 * ---------------------------------------------------------------------------------------------------------------- */

static double idle_time(void)
{
    double sum = 0;

    for (unsigned c = 0; c < ncpus; c++)
        sum += (double)sched_idle_time(c);
    return sum;
}

static void start_and_measure(void)
{
    double sum = 0;

    for (unsigned i = 0; i < ndoms; i++)
        assert_int_equal(domain_controller_unpause(doms[i]), 0);
    fake_run_until(fake_now + 2 * SEC);
    for (unsigned i = 0; i < nguests; i++) {
        guests[i].ran0 = sched_vcpu_time(guests[i].v);
        guests[i].wakes = 0;
        guests[i].latency_sum = guests[i].latency_most = 0;
    }
    idle = -idle_time();
    fake_run_until(fake_now + SECONDS * SEC);
    idle = (idle + idle_time()) / (SECONDS * 1e9);
    sched_room_check();
    for (unsigned i = 0; i < nguests; i++) {
        struct guest *g = &guests[i];

        g->got = (double)(sched_vcpu_time(g->v) - g->ran0) / (SECONDS * 1e9);
        g->demand = g->got;
        sum += g->got;
    }
    /* Every nanosecond of every CPU is somebody's, once. */
    assert_true(sum + idle > ncpus - 1e-9 && sum + idle < ncpus + 1e-9);
}

static double worst; /* of this run: difference in percent of the ideal */

static void print_mix(void)
{
    printf("%u CPUs\n", ncpus);
    for (unsigned i = 0; i < nguests; i++) {
        struct guest *g = &guests[i];

        printf("  d%u weight %u cap %u cpus %llx run %llu us sleep %llu us: got %.4f ideal %.4f (%+.1f %%)  "
               "latency mean %.0f most %llu us\n",
               g->dom + 1, g->weight, caps[g->dom], (unsigned long long)g->allowed,
               (unsigned long long)g->run / 1000, (unsigned long long)g->sleep / 1000, g->got, g->ideal,
               (g->got / g->ideal - 1) * 100, g->wakes ? (double)g->latency_sum / g->wakes / 1000 : 0,
               (unsigned long long)g->latency_most / 1000);
    }
}

/* Sums of a domain's vCPUs, which are equal: those are what is promised. */
static bool compare(double percent)
{
    bool ok = true;

    ideal_make();
    for (unsigned d = 0; d < ndoms; d++) {
        double got = 0, ideal = 0, off;

        for (unsigned i = 0; i < nguests; i++)
            if (guests[i].dom == d) {
                got += guests[i].got;
                ideal += guests[i].ideal;
            }
        off = MAX(got - ideal, ideal - got) - 0.001;
        worst = MAX(worst, off / ideal * 100);
        ok &= off <= ideal * percent / 100;
    }
    return ok;
}

static unsigned pick(unsigned n)
{
    return (unsigned)rand() % n;
}

static void random_mix(bool pins, bool sleepers, bool capped)
{
    unsigned n = 2 + pick(MAX_D - 2);

    for (unsigned i = 0; i < n && nguests < MAX_V - 4; i++) {
        unsigned nv = 1 + pick(3), weight = 64u << pick(5), cap = 0;
        uint64_t mask = (1u << ncpus) - 1, run = 0, sleep = 0;

        weight += pick(weight);
        if (pins && pick(5) < 2)
            mask = 1 + pick((unsigned)mask);
        if (sleepers && pick(3) == 0) {
            run = 50000 + pick(2000000);
            sleep = MS(1) + pick(30000000);
        } else if (capped && pick(4) == 0) {
            cap = 10 + pick(nv * 100);
        }
        domain(nv, weight, cap, mask, run, sleep);
    }
}

/* A vCPU that is entitled to a whole CPU stays where it is, also when others could run only there: mixes with such a one
 * and with pins are not compared. */
static bool comparable(bool pins)
{
    for (unsigned i = 0; pins && i < nguests; i++)
        if (!guests[i].sleep && guests[i].ideal > 0.999)
            return false;
    return true;
}

static void mixes(unsigned seed, unsigned count, bool pins, bool sleepers, bool capped, double percent)
{
    unsigned bad = 0, compared = 0;

    worst = 0;
    for (unsigned i = 0; i < count; i++) {
        srand(seed + i);
        set_cpus(1 + pick(CPUS));
        random_mix(pins, sleepers, capped);
        start_and_measure();
        ideal_make();
        if (comparable(pins)) {
            compared++;
            if (!compare(percent)) {
                bad++;
                printf("mix %u: ", seed + i);
                print_mix();
            }
        }
        end();
    }
    printf("%u mixes compared, %u bad, worst %.2f %%\n", compared, bad, worst);
    assert_int_equal(bad, 0);
    assert_true(compared > count / 4);
}

static void spinning(void **state)
{
    mixes(1000, 25, false, false, false, 1);
}
static void pinned(void **state)
{
    mixes(2000, 40, true, false, false, 3);
}
static void sleeping(void **state)
{
    mixes(3000, 25, false, true, false, 2);
}
static void everything(void **state)
{
    mixes(5000, 40, true, true, false, 3);
}
/* Where a domain comes to its cap only just, because others want the CPUs, it may miss some of it. */
static void capped(void **state)
{
    mixes(4000, 25, false, false, true, 7);
}

/* The promises by name: 256:512:1024 on two CPUs, alone, pinned, and with I/O-bound guests beside. */
static void expect_percent(const double *want, unsigned n, double off_most)
{
    start_and_measure();
    for (unsigned d = 0; d < n; d++) {
        double got = 0;

        for (unsigned i = 0; i < nguests; i++)
            got += guests[i].dom == d ? guests[i].got * 100 : 0;
        if (MAX(got - want[d], want[d] - got) > off_most)
            fail_msg("domain %u: %.2f %% of a CPU instead of %.2f %%", d + 1, got, want[d]);
    }
    end();
}

static void three_weights(void **state)
{
    static const double one_each[] = {200 / 6.0, 400 / 6.0, 100},
                        two_each[] = {200 / 7.0, 400 / 7.0, 800 / 7.0},
                        on_one[] = {100 / 7.0, 200 / 7.0, 400 / 7.0};

    set_cpus(2);
    for (unsigned k = 0; k < 3; k++)
        domain(1, 256u << k, 0, 3, 0, 0);
    expect_percent(one_each, 3, 0.5); /* the third may not have more than one CPU */
    for (unsigned k = 0; k < 3; k++)
        domain(2, 256u << k, 0, 3, 0, 0);
    expect_percent(two_each, 3, 0.5);
    for (unsigned k = 0; k < 3; k++)
        domain(1, 256u << k, 0, 2, 0, 0);
    expect_percent(on_one, 3, 0.5);
}

/* The same with guests beside that sleep most of the time: what they leave is shared by weight, and they wait for no more than
 * the rate limit and the end of one another's turn. */
static void weights_and_sleepers(void **state)
{
    set_cpus(2);
    for (unsigned k = 0; k < 3; k++)
        domain(2, 256u << k, 0, 3, 0, 0);
    for (unsigned k = 0; k < 3; k++)
        domain(1, 256, 0, 3, 100000, MS(10));
    start_and_measure();
    assert_true(compare(1));
    for (unsigned i = 6; i < 9; i++) {
        assert_true(guests[i].wakes > 1500);
        assert_true(guests[i].latency_sum / guests[i].wakes < 100000);
        assert_true(guests[i].latency_most <= 1200000);
    }
    end();
}

static void caps_hold(void **state)
{
    static const double one[] = {25, 100}, many[] = {25, 150, 40, 185};

    set_cpus(2);
    domain(1, 256, 25, 3, 0, 0);
    domain(1, 256, 0, 3, 0, 0);
    expect_percent(one, 2, 0.5);
    set_cpus(4);
    domain(3, 256, 25, 15, 0, 0); /* several vCPUs, one budget */
    domain(2, 512, 150, 15, 0, 0);
    domain(1, 256, 40, 15, 0, 0);
    domain(4, 256, 0, 15, 0, 0);
    expect_percent(many, 4, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spinning),  cmocka_unit_test(pinned),
        cmocka_unit_test(sleeping),  cmocka_unit_test(everything),
        cmocka_unit_test(capped),    cmocka_unit_test(three_weights),
        cmocka_unit_test(caps_hold), cmocka_unit_test(weights_and_sleepers),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
