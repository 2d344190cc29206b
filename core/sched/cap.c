/*
 * Caps: a domain's CPU budget, spent by credit_charge, given anew every period. Who finds it used up is parked until the
 * refill: out of the queues, in the domain's list.
 *
 * Invariants
 *  1. What is left of a period may be used in the next one and not later; what was used beyond it is a debt of the next one.
 * So over any time a domain gets no more than its cap and one period's budget.
 *  2. A unit is parked exactly while it is in sched_domain.parked (or unpark_all is about to clear it); the refill timer
 * runs then.
 *
 * Locks: rq->lock, then sched_domain.lock.
 */
#include "private.h"
#include "core/alloc.h"
#include "arch/cpu.h"
#include "arch/time.h"

#define PERIOD_NS 50000000ull
#define CAP_MAX   (MAX_VCPUS * 100u)

static int64_t quota(uint32_t cap)
{
    return (int64_t)(PERIOD_NS / 100 * cap);
}

/* The periods that have passed are added to the budget; what others took of one may be used in the next. sd->lock held. */
static void refill(struct sched_domain *sd, uint32_t cap, uint64_t now)
{
    uint64_t periods, at;
    int64_t most = 2 * quota(cap), b;

    if (now < sd->refill_at)
        return;
    periods = MIN((now - sd->refill_at) / PERIOD_NS + 1, 1000u);
    b = __atomic_add_fetch(&sd->budget, (int64_t)periods * quota(cap), __ATOMIC_RELAXED);
    if (b > most)
        __atomic_sub_fetch(&sd->budget, b - most, __ATOMIC_RELAXED);
    at = sd->refill_at + periods * PERIOD_NS;
    __atomic_store_n(&sd->refill_at, at <= now ? now + PERIOD_NS : at, __ATOMIC_RELAXED);
}

int64_t budget_left(const struct vcpu *v, uint64_t now)
{
    struct sched_domain *sd = v->domain->sched;
    uint32_t cap = __atomic_load_n(&v->domain->sched_cap, __ATOMIC_RELAXED);

    if (!cap)
        return INT64_MAX;
    if (now >= __atomic_load_n(&sd->refill_at, __ATOMIC_RELAXED)) {
        spin_lock(&sd->lock);
        refill(sd, cap, now);
        spin_unlock(&sd->lock);
    }
    return __atomic_load_n(&sd->budget, __ATOMIC_RELAXED);
}

/* u is on no queue, its queue's lock is held. */
void park(struct sched_unit *u)
{
    struct sched_domain *sd = u->v->domain->sched;

    u->parked = true;
    spin_lock(&sd->lock);
    u->next_parked = sd->parked;
    sd->parked = u;
    timer_set(&sd->refill, sd->refill_at);
    spin_unlock(&sd->lock);
}

static void unpark_all(struct sched_unit *u)
{
    struct sched_unit *next;

    for (; u; u = next) {
        unsigned long flags;
        struct runq *rq = vcpu_rq_lock(u->v, &flags);

        next = u->next_parked;
        u->next_parked = NULL;
        u->parked = false;
        u->woke = true;
        place_and_unlock(u->v, rq, flags);
    }
}

static void refill_fire(void *data)
{
    struct sched_domain *sd = data;
    uint32_t cap = __atomic_load_n(&sd->d->sched_cap, __ATOMIC_RELAXED);
    struct sched_unit *list = NULL;
    unsigned long flags = spin_lock_irq(&sd->lock);

    if (cap)
        refill(sd, cap, arch_time_ns());
    if (!cap || __atomic_load_n(&sd->budget, __ATOMIC_RELAXED) > 0) {
        list = sd->parked;
        sd->parked = NULL;
    } else {
        timer_set(&sd->refill, sd->refill_at);
    }
    spin_unlock_irq(&sd->lock, flags);
    unpark_all(list);
}

int budget_domain_init(struct domain *d)
{
    struct sched_domain *sd = mem_new(struct sched_domain);

    if (!sd)
        return -ENOMEM;
    spin_init(&sd->lock, RANK_SCHED_DOMAIN);
    sd->d = d;
    timer_init(&sd->refill, refill_fire, sd, arch_cpu_id());
    d->sched = sd;
    return 0;
}

void budget_domain_free(struct domain *d)
{
    timer_kill(&d->sched->refill);
    mem_free(d->sched);
    d->sched = NULL;
}

int budget_set_cap(struct domain *d, uint32_t cap)
{
    struct sched_domain *sd = d->sched;
    unsigned long flags;

    if (cap > CAP_MAX)
        return -EINVAL;
    flags = spin_lock_irq(&sd->lock);
    if (cap != d->sched_cap) {
        __atomic_store_n(&sd->budget, quota(cap), __ATOMIC_RELAXED);
        __atomic_store_n(&sd->refill_at, arch_time_ns() + PERIOD_NS, __ATOMIC_RELAXED);
        __atomic_store_n(&d->sched_cap, cap, __ATOMIC_RELAXED);
    }
    spin_unlock_irq(&sd->lock, flags);
    refill_fire(sd); /* who is parked may go on */
    return 0;
}
