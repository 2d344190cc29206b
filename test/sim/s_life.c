/*
 * The life of domains: the control domain's vCPUs pause, unpause, shut down, resume and kill the same two guests at
 * once, while these run, sleep, set timers, bring vCPUs up and down, shut down, crash and register memory areas.
 */
#include "sim.h"

static bool killing;

static void start(void)
{
    for (unsigned i = 0; i < 3; i++)
        sim_space_make(sim_domain(2, 64));
    killing = sim_one_in(2);
}

static long pause_job(struct sim_vcpu *s)
{
    (void)!domain_controller_pause(s->target);
    return 0;
}
static long unpause_job(struct sim_vcpu *s)
{
    (void)!domain_controller_unpause(s->target);
    return 0;
}
static long resume_job(struct sim_vcpu *s)
{
    (void)!domain_resume(s->target);
    return 0;
}
static bool runs(const struct vcpu *v)
{
    return __atomic_load_n(&v->running, __ATOMIC_RELAXED);
}

/* As a debugger does: one vCPU, looked at, let go. */
static long vcpu_job(struct sim_vcpu *s)
{
    struct vcpu *v = s->target->vcpu[sim_rnd(2)];

    vcpu_pause(v);
    SIM_CHECK(!runs(v));
    SIM_POINT();
    SIM_CHECK(!runs(v));
    vcpu_unpause(v);
    return 0;
}
/* The domain stands still between both. */
static long still_job(struct sim_vcpu *s)
{
    domain_pause(s->target);
    for_each_vcpu(s->target, v) SIM_CHECK(!runs(v));
    SIM_POINT();
    for_each_vcpu(s->target, w) SIM_CHECK(!runs(w));
    domain_unpause(s->target);
    return 0;
}

static void control(struct sim_vcpu *s)
{
    static long (*const jobs[])(struct sim_vcpu *) = {pause_job,  unpause_job, unpause_job, resume_job,
                                                      resume_job, vcpu_job,    still_job,   still_job};
    struct domain *d = sim_dom[1 + sim_rnd(2)];
    struct sched_remote_shutdown a = {.domain_id = d->id.v, .reason = sim_rnd(4)};

    if (killing && sim_one_in(20))
        sim_job(s, sim_kill, d);
    else if (sim_one_in(8))
        sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, SIM_PUT(s, a), 0, 0);
    else
        sim_job(s, jobs[sim_rnd(ARRAY_SIZE(jobs))], d);
}

static void areas(struct sim_vcpu *s)
{
    struct vcpu_register_vcpu_info i = {.mfn = sim_space[s->v->domain->id.v].data[s->v->id].n,
                                        .offset = 64 * sim_rnd(4)};
    struct vcpu_register_runstate_memory_area r = {.addr.p = (uint64_t)(uintptr_t)s->arg + 2048};

    if (sim_one_in(2))
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, s->v->id, SIM_PUT(s, i), 0);
    else
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_register_runstate_memory_area, s->v->id, SIM_PUT(s, r), 0);
}

static void watchdog(struct sim_vcpu *s)
{
    struct sched_watchdog w = {.id = sim_rnd(3), .timeout = sim_rnd(3)};

    sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_watchdog, SIM_PUT(s, w), 0, 0);
}

static void timers(struct sim_vcpu *s)
{
    struct vcpu_set_singleshot_timer one = {.timeout_abs_ns = 1000000000 + sim_rnd(1u << 30)};
    struct vcpu_set_periodic_timer period = {.period_ns = 1000000 + sim_rnd(10000000)};

    switch (sim_rnd(5)) {
    case 0:
        sim_call(s, __HYPERVISOR_set_timer_op, sim_rnd(4) ? 1000000000 + sim_rnd(1u << 30) : 0, 0, 0, 0);
        break;
    case 1:
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, s->v->id, SIM_PUT(s, one), 0);
        break;
    case 2:
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_set_periodic_timer, sim_rnd(2), SIM_PUT(s, period), 0);
        break;
    case 3:
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_stop_periodic_timer, sim_rnd(2), 0, 0);
        break;
    default:
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_stop_singleshot_timer, s->v->id, 0, 0);
    }
}

static void guest(struct sim_vcpu *s)
{
    struct sched_shutdown a = {.reason = sim_rnd(4)};

    switch (sim_rnd(16)) {
    case 0 ... 3:
        timers(s);
        break;
    case 4 ... 5:
        sim_call(s, __HYPERVISOR_sched_op, sim_rnd(2) ? SCHEDOP_block : SCHEDOP_yield, 0, 0, 0);
        break;
    case 6 ... 7:
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_up, sim_rnd(2), 0, 0);
        break;
    case 8:
        sim_call(s, __HYPERVISOR_vcpu_op, VCPUOP_down, sim_rnd(2), 0, 0);
        break;
    case 9 ... 10:
        areas(s);
        break;
    case 11:
        watchdog(s);
        break;
    case 12:
        if (sim_one_in(4))
            sim_call(s, __HYPERVISOR_sched_op, SCHEDOP_shutdown, SIM_PUT(s, a), 0, 0);
        break;
    case 13:
        if (sim_one_in(6))
            domain_crash(s->v->domain, "in a simulation");
        break;
    default:
        sim_touch(s->v, SIM_PAGE(sim_rnd(SIM_DATA)), true, 0);
    }
}

static void step(struct sim_vcpu *s)
{
    if (s->v->domain == sim_dom[0] && !sim_one_in(3))
        control(s);
    else if (s->v->domain == sim_dom[0])
        timers(s);
    else
        guest(s);
}

/* A bad access in an interrupt's context, by whoever runs. */
static void irq(void)
{
    struct vcpu *v = arch_current();

    if (!v->idle && v->domain != sim_dom[0] && sim_one_in(10))
        domain_crash(v->domain, "in an interrupt");
}

const struct sim_scenario sim_life = {"life", 160, start, step, irq, NULL, NULL};
