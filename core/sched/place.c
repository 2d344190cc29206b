/*
 * On which CPU a vCPU waits: the choice when it becomes runnable, affinity, and work that moves from a queue
 * to a CPU that can do it sooner. The rules about v->cpu are invariants 1 and 2 of sched.c.
 *
 * Where a vCPU wakes: its last CPU if idle there; else an idle CPU that its soft affinity names; else any
 * idle one that it may use; else its last CPU. Whoever becomes idle takes waiting vCPUs from other queues,
 * and every busy CPU looks now and then whether another queue is behind its own (rebalance), so a bad choice
 * does not last.
 */
#include "core/perf.h"
#include "private.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "arch/time.h"

/* --- the choice
 * ----------------------------------------------------------------------------------------------------------
 */

static bool cpu_allowed(const struct vcpu *v, unsigned cpu)
{
    return cpumask_test(&v->allowed, cpu) && cpumask_test(&cpus_online, cpu);
}

/* First idle CPU of the set, from `from` upwards and round. MAX_CPUS: none. */
static unsigned idle_in(const struct cpumask *set, unsigned from)
{
    struct cpumask m;
    unsigned cpu;

    cpumask_and(&m, set, &idle_cpus);
    cpu = cpumask_next(&m, from);
    return cpu < MAX_CPUS ? cpu : cpumask_next(&m, 0);
}

static unsigned least_loaded(const struct cpumask *set)
{
    unsigned best = MAX_CPUS, load = ~0u;

    for_each_cpu(cpu, set)
    {
        unsigned n =
            cpumask_test(&cpus_online, cpu) ? __atomic_load_n(&runqs[cpu].nr, __ATOMIC_RELAXED) : ~0u;

        if (n < load) {
            load = n;
            best = cpu;
        }
    }
    return best;
}

/* An idle CPU for v: its last one, one that its soft affinity names, any. MAX_CPUS: none. */
static unsigned idle_cpu_for(const struct vcpu *v)
{
    unsigned last = v->cpu, cpu;
    struct cpumask both;

    if (cpu_allowed(v, last) && cpumask_test(&v->soft_affinity, last) && cpumask_test(&idle_cpus, last))
        return last;
    cpumask_and(&both, &v->allowed, &v->soft_affinity);
    cpu = idle_in(&both, last);
    return cpu < MAX_CPUS ? cpu : idle_in(&v->allowed, last);
}

/* The lock of v's queue is held, so its affinity stands still. */
static unsigned choose_cpu(const struct runq *rq, const struct vcpu *v)
{
    unsigned last = v->cpu, cpu = cpumask_empty(&idle_cpus) ? MAX_CPUS : idle_cpu_for(v);
    struct cpumask both;

    if (cpu < MAX_CPUS)
        return cpu;
    if (cpu_allowed(v, last))
        return v->sched->woke ? policy->busy_cpu(rq, v, arch_time_ns()) : last;
    cpumask_and(&both, &v->allowed, &v->soft_affinity);
    cpu = least_loaded(&both);
    if (cpu < MAX_CPUS)
        return cpu;
    cpu = least_loaded(&v->allowed);
    return cpu < MAX_CPUS ? cpu : last; /* its last CPU went away: nothing does that yet */
}

/* v was just queued: the CPU must hear of it now, or when the current vCPU has had its share. */
static void tell_cpu(struct runq *rq, const struct vcpu *v)
{
    uint64_t now, in;

    if (rq->cur == rq->idle) {
        cpumask_clear(&idle_cpus, rq->cpu); /* the next one looks elsewhere */
        work_raise_cpu(rq->cpu, WORK_SCHEDULE);
        return;
    }
    now = arch_time_ns();
    in = policy->preempt_in(rq, v, now);
    if (!in) {
        work_raise_cpu(rq->cpu, WORK_SCHEDULE);
    } else if (!rq->tick_at || now + in < rq->tick_at) {
        rq->tick_at = now + in;
        timer_set(&rq->tick, rq->tick_at);
    }
}

/* Whoever lets v run changes a flag first and calls vcpu_wake then: v may be met here in between. */
static void put_on_queue(struct runq *rq, struct vcpu *v)
{
    if (v->runstate.state != RUNSTATE_runnable) {
        v->sched->woke = true;
        runstate_set(v, RUNSTATE_runnable, arch_time_ns());
    }
    policy->enqueue(rq, v);
}

void place_and_unlock(struct vcpu *v, struct runq *rq, unsigned long flags)
{
    bool moved = false;

    while (vcpu_may_queue(v, rq)) {
        unsigned cpu = moved && cpu_allowed(v, rq->cpu) ? rq->cpu : choose_cpu(rq, v);

        if (cpu == rq->cpu) {
            put_on_queue(rq, v);
            tell_cpu(rq, v);
            break;
        }
        perf_count(migrations);
        __atomic_store_n(&v->cpu, cpu, __ATOMIC_RELEASE);
        spin_unlock_irq(&rq->lock, flags);
        rq = vcpu_rq_lock(v, &flags);
        moved = true;
    }
    spin_unlock_irq(&rq->lock, flags);
}

/* --- moving waiting vCPUs
 * ------------------------------------------------------------------------------------------------- */

/* Moves one waiting vCPU of `from` here. */
static bool take_from(struct runq *from, struct runq *to, int64_t limit)
{
    unsigned long flags = spin_lock_irq(&from->lock);
    struct vcpu *v = policy->steal(from, to->cpu, limit);

    if (v)
        __atomic_store_n(&v->cpu, to->cpu, __ATOMIC_RELEASE); /* vcpu_rq_lock */
    spin_unlock_irq(&from->lock, flags);
    if (!v)
        return false;
    /* In between others may have queued it here, put it to sleep or forbidden it this CPU: then it is theirs. */
    to = vcpu_rq_lock(v, &flags);
    if (vcpu_may_queue(v, to) && cpu_allowed(v, to->cpu)) {
        put_on_queue(to, v);
        spin_unlock_irq(&to->lock, flags);
    } else {
        place_and_unlock(v, to, flags);
    }
    return true;
}

/* The queue of the pool that is furthest behind the limit, has something waiting, and is not in `tried`. */
static struct runq *furthest_behind(const struct runq *rq, const struct cpumask *tried, int64_t limit)
{
    const struct cpupool *pool = __atomic_load_n(&rq->pool, __ATOMIC_RELAXED);
    struct runq *best = NULL;
    int64_t head = 0;

    for_each_cpu(cpu, &pool->cpus) /* not locked: what is taken is checked once more */
    {
        struct runq *o = &runqs[cpu];
        int64_t h = __atomic_load_n(&o->head, __ATOMIC_RELAXED);

        if (o == rq || !o->ready || !__atomic_load_n(&o->nr, __ATOMIC_RELAXED) || cpumask_test(tried, cpu))
            continue;
        if (limit != STEAL_ANY && h - limit >= 0)
            continue;
        if (!best || h - head < 0) {
            best = o;
            head = h;
        }
    }
    return best;
}

#define TRIES 8 /* of a CPU that has work; an idle one looks at all */

void rebalance(struct runq *rq, uint64_t now)
{
    struct cpumask tried = {{0}};
    struct runq *o;
    int64_t limit;

    if (!policy->wants_more(rq, now, &limit))
        return;
    for (unsigned i = 0; i < TRIES || limit == STEAL_ANY; i++) {
        o = furthest_behind(rq, &tried, limit);
        if (!o || take_from(o, rq, limit))
            return;
        cpumask_set(&tried, o->cpu); /* it has only vCPUs that must not run here */
    }
}

/* Which idle CPU may take something that waits on rq? */
static unsigned helper_for(struct runq *rq)
{
    unsigned long flags = spin_lock_irq(&rq->lock);
    unsigned cpu = MAX_CPUS;

    for (struct rb_node *n = rb_first(&rq->tree); n && cpu == MAX_CPUS; n = rb_next(n))
        cpu = idle_in(&container_of(n, struct sched_unit, node)->v->allowed, rq->cpu);
    spin_unlock_irq(&rq->lock, flags);
    return cpu;
}

void offer_to_idle(struct runq *rq)
{
    unsigned cpu;

    if (cpumask_empty(&idle_cpus))
        return;
    cpu = helper_for(rq);
    if (cpu == MAX_CPUS)
        return;
    cpumask_clear(&idle_cpus, cpu);
    work_raise_cpu(cpu, WORK_SCHEDULE);
}

/* --- affinity
 * ----------------------------------------------------------------------------------------------------------------
 */

void obey_and_unlock(struct vcpu *v, struct runq *rq, unsigned long flags)
{
    bool waits = v->sched->queued;

    if (!cpu_allowed(v, rq->cpu)) {
        if (rq->cur == v) {
            work_raise_cpu(rq->cpu, WORK_SCHEDULE);
        } else if (waits) {
            policy->dequeue(rq, v);
            place_and_unlock(v, rq, flags);
            return;
        }
    }
    spin_unlock_irq(&rq->lock, flags);
    if (waits)
        offer_to_idle(rq);
}

static bool in_pool(const struct vcpu *v, const struct cpumask *m)
{
    struct cpumask both;

    cpumask_and(&both, m, &v->domain->pool->cpus);
    return !cpumask_empty(&both);
}

int sched_set_affinity(struct vcpu *v, const struct cpumask *hard, const struct cpumask *soft)
{
    unsigned long flags;
    struct runq *rq;
    int r = 0;

    if (v->idle)
        return -EINVAL;
    pools_lock();
    rq = vcpu_rq_lock(v, &flags);
    if ((hard && !in_pool(v, hard)) || (soft && !in_pool(v, soft)))
        r = -EINVAL;
    else if (hard && v->pin_override)
        r = -EBUSY;
    if (!r && hard)
        v->hard_affinity = *hard;
    if (!r && soft)
        v->soft_affinity = *soft;
    affinity_apply_and_unlock(v, rq, flags);
    pools_unlock();
    return r;
}

void sched_get_affinity(struct vcpu *v, struct sched_affinity *out)
{
    unsigned long flags;
    struct runq *rq = vcpu_rq_lock(v, &flags);

    out->hard = v->hard_affinity;
    out->soft = v->soft_affinity;
    out->hard_now = v->allowed;
    cpumask_and(&out->soft_now, &v->soft_affinity, &v->allowed);
    spin_unlock_irq(&rq->lock, flags);
}

/* rq->lock held. */
static int override_set(struct vcpu *v, int cpu)
{
    if (cpu < 0) {
        if (!v->pin_override)
            return -EINVAL;
        v->hard_affinity = v->saved_affinity;
        v->pin_override = false;
        return 0;
    }
    if (v->pin_override)
        return -EBUSY;
    if ((unsigned)cpu >= MAX_CPUS || !cpumask_test(&v->domain->pool->cpus, (unsigned)cpu))
        return -EINVAL;
    v->saved_affinity = v->hard_affinity;
    v->hard_affinity = (struct cpumask){{0}};
    cpumask_set(&v->hard_affinity, (unsigned)cpu);
    v->pin_override = true;
    return 0;
}

int sched_pin_override(struct vcpu *v, int cpu)
{
    unsigned long flags;
    struct runq *rq;
    int r;

    if (v->idle)
        return -EINVAL;
    pools_lock();
    rq = vcpu_rq_lock(v, &flags);
    r = override_set(v, cpu);
    affinity_apply_and_unlock(v, rq, flags);
    pools_unlock();
    return r;
}
