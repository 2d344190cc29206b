/*
 * Who runs where: the framework. It knows when a vCPU may run and on which CPU's queue it is; the policy
 * (credit.c) knows who is next. place.c chooses CPUs.
 *
 *             vcpu_wake                    sched_run picks it
 *   asleep ------------------> queued -------------------------> current (running)
 *     ^   <----------------------|                                   |
 *     |     vcpu_sleep_nosync                          sched_run picks another one
 *     |                                                              v
 *     '-------- sched_context_saved: not runnable -------------- leaving (running, but not current)
 *                                                                    |  sched_context_saved: runnable
 *                                                                    '-------------------------------->
 * queued
 *
 * Invariants
 *  1. v->running is true from the moment a CPU chooses v until sched_context_saved(v). Only a vCPU that is
 * not running is ever on a queue, so no CPU loads registers that another one still saves.
 *  2. A vCPU is on at most one queue, that of v->cpu, and only when runnable and allowed there. v->cpu
 * changes only under the lock of the old queue, and only while v is neither queued nor running.
 *  3. Nothing that makes a vCPU runnable gets lost: the flag changes first, then vcpu_wake looks under the
 * lock; a vCPU that was leaving at that time is looked at again by sched_context_saved.
 *  4. rq->cur is a vCPU with running set and v->cpu == rq->cpu; the idle vCPU is never on a queue.
 *  5. The sum of runstate.time[] plus the time since state_entry_time is the time since the vCPU was made.
 *  6. arch_context_switch is called without locks, with everything above already true for the new state.
 *
 * Locks: rq->lock (RANK_SCHED, interrupts off), one at a time; pools: pool.c.
 */
#include "core/frame.h"
#include "core/perf.h"
#include "core/trace.h"
#include "private.h"
#include "core/console.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/time.h"

struct runq runqs[MAX_CPUS];
struct cpumask cpus_online = {{1}};
struct cpumask idle_cpus;
const struct sched_policy *const policy = &credit_policy;

bool vcpu_runnable(const struct vcpu *v)
{
    return !(__atomic_load_n(&v->pause_flags, __ATOMIC_SEQ_CST) |
             __atomic_load_n(&v->pause_count, __ATOMIC_SEQ_CST) |
             __atomic_load_n(&v->domain->pause_count, __ATOMIC_SEQ_CST));
}

struct runq *vcpu_rq_lock(const struct vcpu *v, unsigned long *flags)
{
    for (;;) {
        struct runq *rq = &runqs[__atomic_load_n(&v->cpu, __ATOMIC_RELAXED)];

        *flags = spin_lock_irq(&rq->lock);
        /* Who moved v here held another queue's lock: what he did with v comes before this (take_from). */
        if (likely(rq->cpu == __atomic_load_n(&v->cpu, __ATOMIC_ACQUIRE)))
            return rq;
        spin_unlock_irq(&rq->lock, *flags);
    }
}

/* --- runstate
 * ------------------------------------------------------------------------------------------------------- */

void runstate_set(struct vcpu *v, int state, uint64_t now)
{
    struct vcpu_runstate_info *r = &v->runstate;

    if (r->state == state)
        return;
    trace(TRC_SCHED_RUNSTATE_CHANGE | ((uint32_t)r->state & 3) << 8 | ((uint32_t)state & 3) << 4,
          TRACE_VCPU(v));
    /* Clocks of two CPUs may differ by less than what anybody sees; time never runs backwards in a record. */
    if (now > r->state_entry_time) {
        r->time[r->state] += now - r->state_entry_time;
        r->state_entry_time = now;
    }
    r->state = state;
}

/* Of a vCPU that is not runnable. */
static int resting_state(const struct vcpu *v)
{
    return __atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED) & (VPF_BLOCKED | VPF_POLLING | VPF_DEVICE)
               ? RUNSTATE_blocked
               : RUNSTATE_offline;
}

void sched_runstate(struct vcpu *v, struct vcpu_runstate_info *out)
{
    unsigned long flags;
    struct runq *rq = vcpu_rq_lock(v, &flags);
    uint64_t now = arch_time_ns();

    *out = v->runstate;
    spin_unlock_irq(&rq->lock, flags);
    if (now > out->state_entry_time) {
        out->time[out->state] += now - out->state_entry_time;
        out->state_entry_time = now;
    }
}

uint64_t sched_vcpu_time(struct vcpu *v)
{
    struct vcpu_runstate_info r;

    sched_runstate(v, &r);
    return r.time[RUNSTATE_running];
}

uint64_t sched_idle_time(unsigned cpu)
{
    return cpu < MAX_CPUS && runqs[cpu].ready ? sched_vcpu_time(runqs[cpu].idle) : 0;
}

static void publish_current(void)
{
    struct vcpu *v = arch_current();

    if (!v->idle)
        vcpu_runstate_publish(v);
}

/* --- runnable or not
 * ------------------------------------------------------------------------------------------------ */

void vcpu_wake(struct vcpu *v)
{
    unsigned long flags;
    struct runq *rq = vcpu_rq_lock(v, &flags);

    trace(TRC_SCHED_WAKE, v->domain->id.v, v->id);
    if (rq->cur == v || !vcpu_runnable(v)) {
        spin_unlock_irq(&rq->lock, flags);
        return;
    }
    if (v->runstate.state != RUNSTATE_runnable) {
        v->sched->woke = true;
        runstate_set(v, RUNSTATE_runnable, arch_time_ns());
    }
    place_and_unlock(v, rq, flags);
}

void vcpu_sleep_nosync(struct vcpu *v)
{
    unsigned long flags;
    struct runq *rq = vcpu_rq_lock(v, &flags);

    trace(TRC_SCHED_SLEEP, v->domain->id.v, v->id);
    if (!vcpu_runnable(v)) {
        if (rq->cur == v) {
            work_raise_cpu(rq->cpu, WORK_SCHEDULE);
        } else {
            if (v->sched->queued)
                policy->dequeue(rq, v);
            runstate_set(v, resting_state(v), arch_time_ns());
        }
    }
    spin_unlock_irq(&rq->lock, flags);
}

void vcpu_sleep_sync(struct vcpu *v)
{
    vcpu_sleep_nosync(v);
    while (!vcpu_runnable(v) && __atomic_load_n(&v->running, __ATOMIC_ACQUIRE))
        arch_cpu_relax();
}

void vcpu_block(struct vcpu *v)
{
    trace(TRC_SCHED_BLOCK, v->domain->id.v, v->id);
    __atomic_store_n(&v->info->evtchn_upcall_mask, 0, __ATOMIC_RELAXED);
    __atomic_fetch_or(&v->pause_flags, VPF_BLOCKED, __ATOMIC_SEQ_CST);
    /* Whoever sends an event from here on sees BLOCKED; what was sent before is seen here. */
    if (__atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_SEQ_CST) ||
        (v->domain->ops->awake && v->domain->ops->awake(v)))
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_BLOCKED, __ATOMIC_SEQ_CST);
    else
        work_raise(WORK_SCHEDULE);
}

void vcpu_unblock(struct vcpu *v)
{
    uint32_t old;

    if (!(__atomic_load_n(&v->pause_flags, __ATOMIC_SEQ_CST) & (VPF_BLOCKED | VPF_POLLING)))
        return;
    old = __atomic_fetch_and(&v->pause_flags, ~(uint32_t)(VPF_BLOCKED | VPF_POLLING), __ATOMIC_SEQ_CST);
    if (old & VPF_POLLING)
        __atomic_fetch_and(&v->domain->evtchn.poll_mask[v->id / 64], ~(1ull << (v->id % 64)),
                           __ATOMIC_SEQ_CST);
    if (old & (VPF_BLOCKED | VPF_POLLING))
        vcpu_wake(v);
}

void vcpu_device_wait(struct vcpu *v)
{
    __atomic_fetch_or(&v->pause_flags, VPF_DEVICE, __ATOMIC_SEQ_CST);
    work_raise(WORK_SCHEDULE);
}

void vcpu_device_done(struct vcpu *v)
{
    if (__atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DEVICE, __ATOMIC_SEQ_CST) & VPF_DEVICE)
        vcpu_wake(v);
}

void vcpu_yield(struct vcpu *v)
{
    struct runq *rq = &runqs[v->cpu]; /* v is the caller's: it stays here */

    if (!__atomic_load_n(&rq->nr, __ATOMIC_RELAXED))
        return;
    trace(TRC_SCHED_YIELD, v->domain->id.v, v->id);
    v->sched->yielded = true;
    work_raise(WORK_SCHEDULE);
}

void vcpu_kick(struct vcpu *v)
{
    unsigned cpu = __atomic_load_n(&v->cpu, __ATOMIC_RELAXED);

    if (__atomic_load_n(&v->running, __ATOMIC_ACQUIRE) && cpu != arch_cpu_id())
        arch_cpu_kick(cpu);
}

/* --- the switch
 * ------------------------------------------------------------------------------------------------------- */

static void tick_fire(void *data)
{
    work_raise(WORK_SCHEDULE);
}

/* A tick that comes too early costs one look now and then; moving it at each switch would cost more. */
static void set_tick(struct runq *rq, uint64_t until, uint64_t now)
{
    if (rq->tick_at <= now)
        rq->tick_at = 0;
    if (!until || (rq->tick_at && rq->tick_at <= until))
        return;
    rq->tick_at = until;
    timer_set(&rq->tick, until);
}

static struct vcpu *choose(struct runq *rq, uint64_t now)
{
    struct vcpu *prev = rq->cur, *next;
    bool stays = !prev->idle && vcpu_runnable(prev) && cpumask_test(&prev->allowed, rq->cpu);
    uint64_t until = 0;

    if (!prev->idle)
        policy->charge(rq, now);
    next = policy->next(rq, stays ? prev : NULL, now, &until);
    set_tick(rq, until, now);
    return next ? next : rq->idle;
}

/* Everything that others can see of the change from rq->cur to next. */
static void become(struct runq *rq, struct vcpu *next, uint64_t now)
{
    struct vcpu *prev = rq->cur;

    trace(TRC_SCHED_SWITCH, prev->domain->id.v, prev->id, next->domain->id.v, next->id);
    if (!prev->idle)
        policy->leave(rq, prev);
    runstate_set(prev, prev->idle || vcpu_runnable(prev) ? RUNSTATE_runnable : resting_state(prev), now);
    runstate_set(next, RUNSTATE_running, now);
    __atomic_store_n(&next->running, true, __ATOMIC_RELEASE);
    rq->cur = next;
}

/* WORK_SCHEDULE. Interrupts on, no locks; does not come back when another vCPU runs next. */
static void sched_run(void)
{
    struct runq *rq = &runqs[arch_cpu_id()];
    uint64_t now = arch_time_ns();
    struct vcpu *prev, *next;

    perf_count(sched_runs);
    rebalance(rq, now);
    arch_irq_disable();
    spin_lock(&rq->lock);
    now = arch_time_ns();
    prev = rq->cur;
    next = choose(rq, now);
    if (next->idle)
        cpumask_set(&idle_cpus, rq->cpu);
    else if (prev->idle)
        cpumask_clear(&idle_cpus, rq->cpu);
    if (next != prev)
        become(rq, next, now);
    runq_check(rq);
    spin_unlock(&rq->lock);
    if (__atomic_load_n(&rq->nr, __ATOMIC_RELAXED))
        offer_to_idle(rq);
    else if (next->idle && vcpu_runnable(prev) && !prev->idle)
        work_raise(WORK_SCHEDULE); /* it had to make room (cap, affinity): the CPU looks for other work now */
    if (next == prev) {
        arch_irq_enable();
        return;
    }
    if (!prev->idle)
        vcpu_runstate_publish(prev);
    if (next->runstate_area.a)
        work_raise(WORK_RUNSTATE);
    perf_count(context_switches);
    lock_assert_none();
    arch_context_switch(prev, next);
}

void sched_context_saved(struct vcpu *prev)
{
    unsigned long flags;
    struct runq *rq;

    if (prev->idle) {
        __atomic_store_n(&prev->running, false, __ATOMIC_RELEASE);
        return;
    }
    rq = vcpu_rq_lock(prev, &flags);
    __atomic_store_n(&prev->running, false, __ATOMIC_RELEASE);
    place_and_unlock(prev, rq, flags);
}

void sched_idle_loop(void)
{
    work_raise(WORK_SCHEDULE); /* this CPU is known to be idle only after that */
    for (;;) {
        arch_irq_disable();
        while (work_pending()) {
            arch_irq_enable();
            work_run();
            arch_irq_disable();
        }
        if (likely(!frame_scrub_due())) {
            arch_cpu_idle();
            continue;
        }
        arch_irq_enable();
        frame_scrub_some();
    }
}

/* --- set-up
 * ------------------------------------------------------------------------------------------------------------
 */

int sched_init_cpu(unsigned cpu)
{
    struct runq *rq = &runqs[cpu];
    struct vcpu *idle;
    int r;

    if (cpu >= MAX_CPUS)
        return -EINVAL;
    if (rq->ready)
        return 0;
    timers_init_cpu(cpu);
    spin_init(&rq->lock, RANK_SCHED);
    rq->cpu = cpu;
    rq->tree = (struct rb_root)RB_ROOT;
    timer_init(&rq->tick, tick_fire, NULL, cpu);
    r = vcpu_create(dom_idle, cpu, &idle);
    if (r)
        return r;
    pool_cpu_init(cpu);
    rq->idle = rq->cur = idle;
    idle->running = true;
    runstate_set(idle, RUNSTATE_running, arch_time_ns());
    rq->ready = true;
    return 0;
}

void sched_init(void)
{
    unsigned cpu = arch_cpu_id();

    work_register(WORK_SCHEDULE, sched_run);
    work_register(WORK_RUNSTATE, publish_current);
    debug_key_register('r', "run queues", sched_dump);
    pool_init();
    if (sched_init_cpu(cpu))
        panic("No memory for the scheduler");
    cpumask_set(&cpus_online, cpu);
    log_info("Scheduler: %s", policy->name);
}

struct vcpu *sched_idle_vcpu(unsigned cpu)
{
    return runqs[cpu].idle;
}

int sched_domain_init(struct domain *d, uint32_t cpupool)
{
    int r = policy->domain_init(d);

    if (r || d->system)
        return r;
    r = pool_domain_enter(d, cpupool);
    if (r)
        policy->domain_free(d);
    return r;
}

void sched_domain_free(struct domain *d)
{
    pool_domain_leave(d);
    policy->domain_free(d);
}

int sched_vcpu_init(struct vcpu *v)
{
    int r;

    v->runstate.state = RUNSTATE_offline;
    v->runstate.state_entry_time = arch_time_ns();
    if (v->idle) {
        v->cpu = v->id;
        cpumask_set(&v->hard_affinity, v->id);
        return 0;
    }
    r = policy->vcpu_init(v);
    if (!r)
        pool_vcpu_enter(v);
    return r;
}

void sched_vcpu_free(struct vcpu *v)
{
    unsigned long flags;
    struct runq *rq;

    BUG_ON(v->running || v->idle);
    /* Whoever cleared `running` (sched_context_saved) did that under this lock and has left v when he left
     * it. */
    rq = vcpu_rq_lock(v, &flags);
    BUG_ON(v->sched->queued);
    spin_unlock_irq(&rq->lock, flags);
    pool_vcpu_leave(v);
    policy->vcpu_free(v);
}

int sched_set_params(struct domain *d, uint32_t weight, uint32_t cap)
{
    return policy->set_params(d, weight, cap);
}

void sched_get_params(struct domain *d, struct sched_params *out)
{
    out->weight = __atomic_load_n(&d->sched_weight, __ATOMIC_RELAXED);
    out->cap = __atomic_load_n(&d->sched_cap, __ATOMIC_RELAXED);
}
