/* Looking at the scheduler: the invariants of sched.c and credit.c, and debug key 'r'. */
#include "private.h"
#include "core/console.h"
#include "core/log.h"

static void check(struct runq *rq)
{
    BUG_ON(!rq->cur || !rq->cur->running || rq->cur->cpu != rq->cpu);
    BUG_ON(rq->cur->runstate.state != RUNSTATE_running);
    BUG_ON(!rq->cur->idle && rq->cur->sched->queued);
    BUG_ON(rq->idle->cpu != rq->cpu);
    policy->check(rq);
}

void runq_check(struct runq *rq)
{
#ifdef DEBUG
    check(rq);
#endif
}

void sched_room_check(void)
{
    pool_check();
    for_each_cpu(cpu, &cpus_online)
    {
        struct runq *rq = &runqs[cpu];
        unsigned long flags;

        if (!rq->ready)
            continue;
        flags = spin_lock_irq(&rq->lock);
        check(rq);
        spin_unlock_irq(&rq->lock, flags);
    }
}

void sched_dump(void)
{
    console_printf("Scheduler: %s\n", policy->name);
    pool_dump();
    for_each_cpu(cpu, &cpus_online)
    {
        struct runq *rq = &runqs[cpu];
        uint64_t idle_ms;
        unsigned long flags;

        if (!rq->ready)
            continue;
        idle_ms = sched_idle_time(cpu) / 1000000;
        flags = spin_lock_irq(&rq->lock);
        console_printf("CPU %u: %s, idle %llu ms\n", cpu, rq->cur == rq->idle ? "idle" : "busy",
                       (unsigned long long)idle_ms);
        policy->dump(rq);
        spin_unlock_irq(&rq->lock, flags);
    }
}
