/*
 * Domains, their vCPUs' turns, and what must hold when all CPUs are between two turns, when nobody has anything
 * to do, and at the end, when every domain has gone and everything it had is back.
 */
#include "sim_private.h"
#include "fake.h"
#include "model.h"
#include "core/alloc.h"
#include "core/grant.h"
#include "core/lock.h"
#include "core/timer.h"
#include "core/work.h"
#include "core/sched/private.h"
#include "arch/time.h"

#define VCPUS          8u
#define SYSTEM_DOMAINS 3u

struct domain *sim_dom[SIM_DOMAINS];
unsigned sim_domains;
const struct sim_scenario *sim_scenario;
uint64_t sim_seed;
bool sim_trace, sim_finishing, sim_gone;
static struct sim_vcpu sim_vcpus[SIM_DOMAINS][VCPUS];
static uint64_t free_before;
/* What the first frame of a domain leaves behind: a piece of the table of owners, for ordinary ids. */
#define OWNER_TABLE_FRAMES 1

/* --- set-up --- */

struct domain *sim_domain(unsigned vcpus, unsigned max_frames)
{
    struct domain_config c = {.ops = &sim_guest_ops,
                              .privileged = !sim_domains,
                              .hardware = !sim_domains,
                              .max_vcpus = vcpus,
                              .max_evtchn_port = 1023,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = max_frames};
    unsigned n = sim_domains++;

    SIM_CHECK(n < SIM_DOMAINS && vcpus <= VCPUS);
    SIM_CHECK(!domain_create(DID(n), &c, &sim_dom[n]));
    for (unsigned i = 0; i < vcpus; i++) {
        struct sim_vcpu *s = &sim_vcpus[n][i];

        SIM_CHECK(!vcpu_create(sim_dom[n], i, &s->v));
        s->arg = calloc(1, SIM_ARG);
        s->v->initialised = true;
    }
    return sim_dom[n];
}

mfn_t sim_page(struct domain *d)
{
    mfn_t m;

    SIM_CHECK(!frame_alloc_domain(d, 0, 64, 0, &m));
    return m;
}

struct sim_vcpu *sim_of(const struct vcpu *v)
{
    return &sim_vcpus[v->domain->id.v][v->id];
}

struct domain *sim_any(void)
{
    return sim_dom[sim_rnd(sim_domains)];
}

/* All vCPUs are up and, when the domain is unpaused, runnable. */
static void release(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
    }
    if (d->controller_pauses)
        SIM_CHECK(!domain_controller_unpause(d));
    else
        domain_unpause(d);
}

/* Once, before processes are forked off that run a seed each. */
void sim_world_prepare(void)
{
    fake_start(SIM_FRAMES, SIM_CPUS);
    sim_machine_start();
    domain_subsystem_init();
    sched_init();
    for (unsigned c = 0; c < SIM_CPUS; c++) {
        SIM_CHECK(!sched_init_cpu(c));
        sim_cpus[c].current = sched_idle_vcpu(c);
    }
    hypercall_init();
}

void sim_world_start(const struct sim_scenario *s)
{
    struct frame_info i;

    sim_scenario = s;
    sim_machine_seed();
    frame_info(&i);
    free_before = i.free + mem_idle_frames();
    s->start();
    for (unsigned n = 0; n < sim_domains; n++)
        release(sim_dom[n]);
}

/* --- turns --- */

long sim_kill(struct sim_vcpu *s)
{
    return domain_kill(s->target) == -EAGAIN ? HC_AGAIN : 0;
}

static void turn(struct sim_cpu *c, struct sim_vcpu *s)
{
    long r = 0;

    if (!s->again) {
        s->job = NULL;
        s->hc.nr = ~0ull;
        sim_scenario->step(s);
        if (s->job)
            sim_note("d%uv%u job on d%u", s->v->domain->id.v, s->v->id, s->target ? s->target->id.v : ~0u);
        else if (s->hc.nr != ~0ull)
            sim_note("d%uv%u calls %llu(%#llx, %#llx, %#llx)", s->v->domain->id.v, s->v->id,
                     (unsigned long long)s->hc.nr, (unsigned long long)s->hc.arg[0],
                     (unsigned long long)s->hc.arg[1], (unsigned long long)s->hc.arg[2]);
    }
    c->doing = s->job ? "a job" : "hypercall";
    c->nr = s->hc.nr;
    if (s->job)
        r = s->job(s);
    else if (s->hc.nr != ~0ull)
        r = hypercall_dispatch(&s->hc);
    s->again = r == HC_AGAIN;
    SIM_CHECK(!c->irqs_off);
    lock_assert_none();
    if (s->job || s->hc.nr != ~0ull)
        sim_note("d%uv%u: %s%ld", s->v->domain->id.v, s->v->id, s->again ? "again " : "", s->again ? 0 : r);
    c->doing = NULL;
    sim_engine_progress();
}

/* --- the end of all, by CPU 0 when it is idle --- */

/* The hardware domain outlives the others, which tell it of their end. */
static void forget_dom0(void)
{
    dom0 = NULL;
    domain_put(sim_dom[0]);
}

static void kill_next(unsigned *killed)
{
    struct domain *d = sim_dom[sim_domains - 1 - *killed];

    if (d->hardware) { /* the machine would not let go of it */
        domain_pause(d);
        d->hardware = false;
        domain_unpause(d);
    }
    if (domain_kill(d) == -EAGAIN)
        return;
    SIM_CHECK(d->dying == DOM_DEAD);
    if (d != dom0)
        domain_put(d);
    ++*killed;
    sim_engine_progress();
}

/* True when all domains have gone. */
static bool end_all(void)
{
    static unsigned paused, killed;

    while (paused < sim_domains)
        domain_pause_nosync(sim_dom[paused++]);
    if (!arch_current()->idle)
        return false;
    if (killed < sim_domains)
        kill_next(&killed);
    else if (dom0 && sim_domains_alive() == SYSTEM_DOMAINS + 1)
        forget_dom0();
    return sim_domains_alive() == SYSTEM_DOMAINS;
}

void sim_cpu_main(void)
{
    struct sim_cpu *c = sim_me;

    work_raise(WORK_SCHEDULE);
    for (;;) {
        c->irqs_off = true;
        while (work_pending()) {
            arch_irq_enable();
            work_run();
            arch_irq_disable();
        }
        lock_assert_none();
        if (!sim_engine_boundary()) {
            arch_irq_enable();
            continue;
        }
        if (work_pending())
            continue;
        if (__atomic_load_n(&sim_finishing, __ATOMIC_RELAXED) && c->id == 0) {
            arch_irq_enable();
            if (end_all())
                __atomic_store_n(&sim_gone, true, __ATOMIC_SEQ_CST);
            arch_irq_disable();
            if (work_pending())
                continue;
        }
        /* Zeroing memory touches all of it: in some seeds only, so that most of them stay short. */
        if (c->current->idle && !(sim_seed % 16) && frame_scrub_due()) {
            arch_irq_enable();
            frame_scrub_some();
        } else if (c->current->idle || !sim_engine_turn()) {
            sim_engine_wait();
            arch_irq_enable();
        } else {
            arch_irq_enable();
            turn(c, sim_of(c->current));
        }
        if (!sim_deterministic && __atomic_load_n(&sim_gone, __ATOMIC_SEQ_CST))
            return;
    }
}

/* --- checks --- */

void sim_world_check(void)
{
    frame_room_check();
    mem_room_check();
    sched_room_check();
    timer_room_check();
    for (unsigned i = 0; i < sim_domains; i++) {
        struct domain *d = sim_dom[i];

        domain_room_check(d);
        evtchn_room_check(d);
        grant_room_check(d);
        grant_room_check_sums(d);
        frame_domain_check(d);
        pv_mmu_room_check(d);
    }
    model_mmu_check();
    model_evtchn_check();
    if (sim_scenario->check)
        sim_scenario->check();
}

static bool blocked(const struct vcpu *v)
{
    return __atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED) & (VPF_BLOCKED | VPF_POLLING);
}

void sim_world_lost_wakeups(void)
{
    for (unsigned c = 0; c < SIM_CPUS; c++) {
        sim_me = &sim_cpus[c];
        if (work_pending())
            sim_fail("CPU %u sleeps with work pending", c);
    }
    sim_me = NULL;
    for (unsigned i = 0; i < sim_domains && !sim_finishing; i++)
        for_each_vcpu(sim_dom[i], v)
        {
            bool valid = true;

            /* Out of its domain's budget: the refill wakes it. */
            if (vcpu_runnable(v) && !v->running && !(v->sched->parked && v->domain->sched->refill.queued))
                sim_fail("d%uv%u is runnable and nobody runs it", i, v->id);
            if (v->pause_flags & VPF_BLOCKED && v->info->evtchn_upcall_pending)
                sim_fail("d%uv%u sleeps with an event pending", i, v->id);
            if (v->pause_flags & VPF_POLLING && !v->polling_any &&
                evtchn_is_pending(v->domain, v->poll_port, &valid))
                sim_fail("d%uv%u polls a port that is pending", i, v->id);
        }
}

/* As an interrupt on CPU 0, which looks for work after it. */
void sim_world_rescue(void)
{
    arch_cpu_kick(0);
    for (unsigned i = 0; i < sim_domains; i++)
        for_each_vcpu(sim_dom[i], v)
        {
            if (blocked(v))
                vcpu_unblock(v);
        }
}

void sim_world_end_check(void)
{
    struct frame_info i;

    frame_room_check();
    mem_room_check();
    sched_room_check();
    timer_room_check();
    SIM_CHECK(sim_domains_alive() == SYSTEM_DOMAINS);
    frame_info(&i);
    i.free += mem_idle_frames();
    if (i.free + OWNER_TABLE_FRAMES < free_before || i.free > free_before || i.claimed)
        sim_fail("%lld frames have not come back, %llu are promised", (long long)(free_before - i.free),
                 (unsigned long long)i.claimed);
    if (sim_scenario->end)
        sim_scenario->end();
}
