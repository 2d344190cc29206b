/*
 * The scheduler: more vCPUs than CPUs block, poll, yield, wake each other, change their affinity, weight and cap,
 * run out of their domain's budget, are pinned and unpinned. Nobody that may run is forgotten (the simulator looks
 * whenever all CPUs are idle), and nobody runs where it must not.
 */
#include "sim.h"
#include "core/cpupool.h"

static void start(void)
{
    for (unsigned i = 0; i < 3; i++)
        (void)sim_domain(3, 40);
}

static struct vcpu *a_vcpu(void)
{
    return sim_any()->vcpu[sim_rnd(3)];
}

static long affinity_job(struct sim_vcpu *s)
{
    struct cpumask hard = {{1 + sim_rnd((1u << SIM_CPUS) - 1)}}, soft = {{sim_rnd(1u << SIM_CPUS)}};

    (void)!sched_set_affinity(s->target->vcpu[sim_rnd(3)], &hard, &soft);
    return 0;
}
static long params_job(struct sim_vcpu *s)
{
    static const uint32_t caps[] = {0, 0, 1, 10, 50, 150};

    (void)!sched_set_params(s->target, 1 + sim_rnd(1000), caps[sim_rnd(ARRAY_SIZE(caps))]);
    return 0;
}
static long pause_job(struct sim_vcpu *s)
{
    if (s->target == s->v->domain)
        return 0;
    domain_pause(s->target);
    for_each_vcpu(s->target, v) SIM_CHECK(!__atomic_load_n(&v->running, __ATOMIC_RELAXED));
    domain_unpause(s->target);
    return 0;
}

/* A second pool comes and goes, with CPUs and domains. */
static long pool_job(struct sim_vcpu *s)
{
    uint32_t id, pool = sim_rnd(2), cpu = sim_rnd(SIM_CPUS);

    switch (sim_rnd(6)) {
    case 0:
        (void)!cpupool_create(1, &id);
        break;
    case 1:
        (void)!cpupool_destroy(1);
        break;
    case 2:
        (void)!cpupool_cpu_remove(pool, cpu);
        break;
    case 3:
    case 4:
        (void)!cpupool_cpu_add(pool, cpu);
        break;
    default:
        (void)!cpupool_domain_move(s->target, pool);
    }
    return 0;
}

static void control(struct sim_vcpu *s)
{
    struct sched_pin_override p = {.pcpu = (int32_t)sim_rnd(SIM_CPUS + 1) - 1};

    switch (sim_rnd(8)) {
    case 0:
        sim_job(s, params_job, sim_any());
        break;
    case 1:
        sim_job(s, pause_job, sim_any());
        break;
    case 2:
        sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_pin_override, SIM_PUT(s, p), 0, 0);
        break;
    case 3 ... 5:
        sim_job(s, pool_job, sim_any());
        break;
    default:
        sim_job(s, affinity_job, sim_any());
    }
}

static void poll(struct sim_vcpu *s)
{
    struct sched_poll p = {.nr_ports = 0, .timeout = arch_time_ns() + sim_rnd(20000000)};

    sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_poll, SIM_PUT(s, p), 0, 0);
}

static void step(struct sim_vcpu *s)
{
    struct vcpu *other;

    if (s->v->domain == sim_dom[0] && sim_one_in(3)) {
        control(s);
        return;
    }
    switch (sim_rnd(10)) {
    case 0 ... 1:
        sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_block, 0, 0, 0);
        break;
    case 2:
        sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0, 0);
        break;
    case 3 ... 4:
        poll(s);
        break;
    case 5:
        sim_call(s, __HYPERVISOR_set_timer_op, arch_time_ns() + sim_rnd(10000000), 0, 0, 0);
        break;
    default: /* an event */
        other = a_vcpu();
        vcpu_mark_events_pending(other);
        __atomic_store_n(&s->v->info->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    }
}

static void irq(void)
{
    vcpu_mark_events_pending(a_vcpu());
}

static void check(void)
{
    for (unsigned i = 0; i < sim_domains; i++)
        for_each_vcpu(sim_dom[i], v)
        {
            unsigned where = 0;

            for (unsigned c = 0; c < SIM_CPUS; c++)
                where += sim_runs(c) == v;
            SIM_CHECK(where == (v->running ? 1u : 0u));
        }
}

const struct sim_scenario sim_sched = {"sched", 240, start, step, irq, check, NULL};
