/*
 * Levelling the clocks of a pool's queues. Queues whose vCPUs may not meet (affinity) run at speeds of their own, and what
 * lies far back must not count when they meet one day. Put in order, the clocks form groups: within one, distances say who is to
 * have a CPU next; between groups they say nothing. So wherever two neighbours are further apart than DRIFT, all that are behind
 * the gap are moved up by what is too much: nothing changes among them, and nothing within a queue (its base moves).
 *
 * Locks: one run queue at a time. A queue may run on meanwhile: the distances are a moment's, as precise as DRIFT needs.
 */
#include "private.h"
#include "lib/sort.h"

#define PERIOD_NS 50000000ull
#define DRIFT_NS  50000000ull /* of the running time of the vCPU that runs ahead of the gap */

struct level {
    int64_t at;    /* absolute clock */
    int64_t drift; /* allowed below it */
    unsigned cpu;
};

static int higher_first(const void *a, const void *b)
{
    int64_t d = ((const struct level *)b)->at - ((const struct level *)a)->at;

    return d < 0 ? -1 : d > 0;
}

/* The clocks of the CPUs that run something. An idle queue has none worth keeping: it starts at the front. */
static unsigned clocks_read(const struct cpumask *cpus, struct level *l)
{
    unsigned n = 0;

    for_each_cpu(cpu, cpus)
    {
        struct runq *rq = &runqs[cpu];
        unsigned long flags = spin_lock_irq(&rq->lock);

        if (rq->cur != rq->idle)
            l[n++] = (struct level){.at = rq->clock + rq->base,
                                    .drift = credit_time(DRIFT_NS, MIN(weight_of(rq->cur), 256u)),
                                    .cpu = cpu};
        spin_unlock_irq(&rq->lock, flags);
    }
    return n;
}

static void move_up(struct runq *rq, int64_t by)
{
    unsigned long flags = spin_lock_irq(&rq->lock);

    __atomic_store_n(&rq->base, rq->base + by, __ATOMIC_RELAXED);
    __atomic_store_n(&rq->head, rq->head + by, __ATOMIC_RELAXED);
    spin_unlock_irq(&rq->lock, flags);
}

static void level(const struct cpumask *cpus)
{
    static struct level l[MAX_CPUS]; /* too much for a stack; one CPU at a time */
    unsigned n = clocks_read(cpus, l);
    int64_t up = 0;

    sort(l, n, sizeof(l[0]), higher_first);
    for (unsigned i = 1; i < n; i++) {
        int64_t gap = l[i - 1].at - l[i].at;

        if (gap > l[i - 1].drift)
            up += gap - l[i - 1].drift;
        if (up)
            move_up(&runqs[l[i].cpu], up);
    }
}

void level_when_due(struct cpupool *p, uint64_t now)
{
    static bool busy;

    if (now < __atomic_load_n(&p->levelled, __ATOMIC_RELAXED) + PERIOD_NS)
        return;
    if (__atomic_exchange_n(&busy, true, __ATOMIC_ACQUIRE))
        return; /* another CPU does it, for this pool or another one */
    __atomic_store_n(&p->levelled, now, __ATOMIC_RELAXED);
    level(&p->cpus);
    __atomic_store_n(&busy, false, __ATOMIC_RELEASE);
}
