/*
 * Proportional share. Every vCPU has a virtual time, vt, which grows with the time it runs divided by its
 * domain's weight; each CPU runs the one with the smallest vt on its queue. Virtual times are comparable
 * between CPUs, so a CPU whose vCPUs are ahead takes waiting ones from queues that are behind: that makes
 * shares fair over the whole machine, not only within a queue.
 *
 * - Low wake-up latency: a vCPU that slept starts BONUS behind the queue's clock, so one that uses little CPU
 * goes before those that use much. One that used its share before it slept gains nothing.
 * - Rate limit: a vCPU keeps the CPU for at least the pool's rate limit, unless it blocks or yields.
 * - Waking where no CPU is idle: on its last CPU if it may run there at once; else where the vCPU that runs is
 * furthest ahead.
 * - Clocks: queues that do not share vCPUs (affinity) run apart; level.c bounds their distances. Whoever arrives
 * on a queue is at most LAG behind and LEAD ahead of it, in its own running time. So the past is soon forgotten,
 * and nobody starves when such queues meet.
 * - Caps: a capped domain has cap percent of a CPU per period as budget. A vCPU that finds it used up is
 * parked until the refill; what several vCPUs used beyond it is a debt of the next period, so the average is
 * exact.
 *
 * Units: virtual time is ns * 65536 / weight, so 256 per ns at the default weight.
 *
 * Invariants
 *  1. A queued vCPU is runnable, not running, not parked, allowed on the CPU, and has v->cpu == rq->cpu.
 *  2. rq->nr is the size of the tree; rq->head the absolute vt of its first (if any).
 *  3. vt is counted from rq->base exactly while queued or current.
 *  4. rq->clock never runs backwards.
 *  5. A parked vCPU is in its domain's parked list (or the refill is about to clear it) and on no queue.
 *
 * Locks: rq->lock, then sched_domain.lock.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/console.h"
#include "core/log.h"
#include "arch/cpu.h"
#include "arch/time.h"

#define WEIGHT_DEFAULT 256u
#define WEIGHT_MAX     65535u

#define MS(x)          ((x)*1000000ull)
#define SLICE_MAX_NS   MS(10)
#define BALANCE_NS     MS(5)
#define QUANTUM_NS     200000ull /* the least slice of a capped vCPU */

#define VT(ms)         ((int64_t)(MS(ms) << VT_SHIFT) / WEIGHT_DEFAULT) /* at the default weight */
#define BONUS          VT(4)
#define WAKE_GRAN      VT(1) /* a vCPU makes room for another one that is this far behind it */
#define GRAN           VT(4) /* ... which is looked at when it is this far ahead */
#define MARGIN         VT(6) /* a CPU takes from a queue that is this far behind */

#define IDLE_LAG       VT(10)
#define LAG_NS         MS(50) /* most that a vCPU may be behind where it arrives from another queue, */
#define LEAD_NS        MS(20) /* ... and ahead, in its own running time (at least at the default weight) */
#define LOOK_CPUS      16

static uint64_t unscaled(int64_t vt, uint32_t weight)
{
    return ((uint64_t)vt * weight) >> VT_SHIFT;
}

static uint32_t cap_of(const struct vcpu *v)
{
    return __atomic_load_n(&v->domain->sched_cap, __ATOMIC_RELAXED);
}

static bool unit_less(const struct rb_node *a, const struct rb_node *b)
{
    return container_of(a, struct sched_unit, node)->vt - container_of(b, struct sched_unit, node)->vt < 0;
}

static struct sched_unit *first_unit(const struct runq *rq)
{
    struct rb_node *n = rb_first(&rq->tree);

    return n ? container_of(n, struct sched_unit, node) : NULL;
}

/* --- clocks
 * --------------------------------------------------------------------------------------------------------------
 */

static int64_t front_of(const struct cpupool *p)
{
    return __atomic_load_n(&p->front, __ATOMIC_RELAXED);
}

/* A queue that lags more than `most` behind the front is moved up. */
static void pull(struct runq *rq, int64_t most)
{
    int64_t lag = front_of(rq->pool) - (rq->clock + rq->base);

    if (lag > most)
        __atomic_store_n(&rq->base, rq->base + lag - most, __ATOMIC_RELAXED);
}

static void publish_head(struct runq *rq)
{
    const struct sched_unit *u = first_unit(rq);

    if (u)
        __atomic_store_n(&rq->head, u->vt + rq->base, __ATOMIC_RELAXED);
}

static void advance_clock(struct runq *rq, const struct sched_unit *cur)
{
    const struct sched_unit *head = first_unit(rq);
    int64_t at = cur->vt;

    if (head && head->vt - at < 0)
        at = head->vt;
    if (at - rq->clock > 0)
        rq->clock = at;
    if (rq->clock + rq->base - front_of(rq->pool) > 0)
        __atomic_store_n(&rq->pool->front, rq->clock + rq->base, __ATOMIC_RELAXED);
    __atomic_store_n(&rq->cur_at, cur->vt + rq->base, __ATOMIC_RELAXED);
    publish_head(rq);
}

/* --- queues
 * --------------------------------------------------------------------------------------------------------------
 */

static void credit_charge(struct runq *rq, uint64_t now)
{
    struct sched_unit *u = rq->cur->sched;
    uint64_t ran = now > u->charged ? now - u->charged : 0;

    u->charged = now;
    u->vt += credit_time(ran, weight_of(u->v));
    if (cap_of(u->v))
        __atomic_sub_fetch(&u->v->domain->sched->budget, (int64_t)ran, __ATOMIC_RELAXED);
    advance_clock(rq, u);
}

static void tree_insert(struct runq *rq, struct sched_unit *u)
{
    rb_insert(&rq->tree, &u->node, unit_less);
    u->queued = true;
    __atomic_store_n(&rq->nr, rq->nr + 1, __ATOMIC_RELAXED);
    publish_head(rq);
}

static void tree_remove(struct runq *rq, struct sched_unit *u)
{
    rb_erase(&rq->tree, &u->node);
    u->queued = false;
    __atomic_store_n(&rq->nr, rq->nr - 1, __ATOMIC_RELAXED);
    publish_head(rq);
}

static void credit_enqueue(struct runq *rq, struct vcpu *v)
{
    struct sched_unit *u = v->sched;
    uint32_t most = MIN(weight_of(v), WEIGHT_DEFAULT);
    int64_t lead = credit_time(LEAD_NS, most), lag = u->woke ? BONUS : credit_time(LAG_NS, most);

    /* Time that nobody else wanted moves the clock, too, before anybody is measured by it. */
    if (rq->cur != rq->idle)
        credit_charge(rq, arch_time_ns());
    if (rq->cur == rq->idle && !rq->nr)
        pull(rq, IDLE_LAG);
    if (u->pool != rq->pool) {
        u->vt += front_of(rq->pool) - front_of(u->pool);
        u->pool = rq->pool;
    }
    u->vt -= rq->base;
    if (u->vt - (rq->clock - lag) < 0)
        u->vt = rq->clock - lag;
    else if (u->vt - (rq->clock + lead) > 0)
        u->vt = rq->clock + lead;
    u->woke = false;
    tree_insert(rq, u);
}

static void credit_dequeue(struct runq *rq, struct vcpu *v)
{
    tree_remove(rq, v->sched);
    v->sched->vt += rq->base;
}

static void credit_leave(struct runq *rq, struct vcpu *v)
{
    __atomic_store_n(&rq->cur_at, INT64_MIN, __ATOMIC_RELAXED); /* until the next one is charged */
    v->sched->vt += rq->base;
    v->sched->yielded = false;
}

/* --- decisions
 * ------------------------------------------------------------------------------------------------------------
 */

static uint64_t rate_limit(const struct runq *rq)
{
    return __atomic_load_n(&rq->pool->rate_limit, __ATOMIC_RELAXED);
}

/* ns that the current vCPU u may run on until it is GRAN ahead of `other`, within the bounds of a slice. */
static uint64_t slice(const struct runq *rq, const struct sched_unit *u, int64_t vt,
                      const struct sched_unit *other, uint64_t ran)
{
    int64_t room = other->vt + GRAN - vt;
    uint64_t ns = room > 0 ? unscaled(room, weight_of(u->v)) : 0;
    uint64_t limit = rate_limit(rq), least = ran < limit ? limit - ran : QUANTUM_NS;

    return MIN(MAX(ns, least), SLICE_MAX_NS);
}

static uint64_t credit_preempt_in(struct runq *rq, const struct vcpu *v, uint64_t now)
{
    const struct sched_unit *cur = rq->cur->sched, *u = v->sched;
    uint64_t ran = now > cur->dispatched ? now - cur->dispatched : 0;
    int64_t vt = cur->vt + credit_time(now > cur->charged ? now - cur->charged : 0, weight_of(cur->v));

    if (vt - u->vt > WAKE_GRAN)
        return ran >= rate_limit(rq) ? 0 : rate_limit(rq) - ran;
    return slice(rq, cur, vt, u, ran);
}

/* The first on the queue whose domain may still use CPU time; others are parked on the way. */
static struct sched_unit *first_with_budget(struct runq *rq, uint64_t now)
{
    struct sched_unit *u;

    while ((u = first_unit(rq)) && budget_left(u->v, now) <= 0) {
        credit_dequeue(rq, u->v);
        park(u);
    }
    return u;
}

static bool keeps_cpu(const struct runq *rq, const struct sched_unit *u, const struct sched_unit *head,
                      uint64_t now)
{
    if (!head)
        return true;
    if (u->yielded)
        return false;
    return now - u->dispatched < rate_limit(rq) || u->vt - head->vt <= WAKE_GRAN;
}

static uint64_t slice_end(struct runq *rq, const struct sched_unit *u, uint64_t now)
{
    const struct sched_unit *head = first_unit(rq);
    uint64_t ns = 0;
    int64_t left;

    if (head)
        ns = slice(rq, u, u->vt, head, now - u->dispatched);
    else if (cpumask_others(&rq->pool->cpus, rq->cpu))
        ns = SLICE_MAX_NS; /* to look at the other queues */
    if (cap_of(u->v)) {
        left = MAX(budget_left(u->v, now), (int64_t)QUANTUM_NS);
        ns = ns ? MIN(ns, (uint64_t)left) : (uint64_t)left;
    }
    return ns ? now + ns : 0;
}

static struct vcpu *credit_next(struct runq *rq, struct vcpu *prev, uint64_t now, uint64_t *until)
{
    struct sched_unit *u = prev ? prev->sched : NULL, *head = first_with_budget(rq, now);

    if (u && budget_left(prev, now) <= 0) {
        park(u);
        u = NULL;
    }
    if (!u || !keeps_cpu(rq, u, head, now)) {
        if (!head)
            return NULL;
        tree_remove(rq, head);
        head->charged = head->dispatched = now;
        __atomic_store_n(&rq->cur_since, now, __ATOMIC_RELAXED);
        u = head;
        advance_clock(rq, u);
    }
    u->yielded = false;
    *until = slice_end(rq, u, now);
    return u->v;
}

static void credit_pool_changed(struct runq *rq)
{
    __atomic_store_n(&rq->base, front_of(rq->pool) - rq->clock, __ATOMIC_RELAXED);
}

/* The absolute vt of whoever on this queue, waiting or running, is furthest behind. */
static int64_t earliest_here(struct runq *rq, uint64_t now)
{
    const struct sched_unit *u = rq->cur->sched;
    unsigned long flags = spin_lock_irq(&rq->lock);
    int64_t vt = u->vt + credit_time(now > u->charged ? now - u->charged : 0, weight_of(u->v)) + rq->base;

    if (rq->nr && rq->head - vt < 0)
        vt = rq->head;
    spin_unlock_irq(&rq->lock, flags);
    return vt;
}

static bool credit_wants_more(struct runq *rq, uint64_t now, int64_t *limit)
{
    const struct vcpu *cur = rq->cur; /* this CPU's own: nobody else changes it */

    level_when_due(__atomic_load_n(&rq->pool, __ATOMIC_RELAXED), now);
    if (!__atomic_load_n(&rq->nr, __ATOMIC_RELAXED) && (cur->idle || !vcpu_runnable(cur))) {
        *limit = STEAL_ANY;
        return true;
    }
    if (now - rq->balanced < BALANCE_NS || cur->idle)
        return false;
    rq->balanced = now;
    *limit = earliest_here(rq, now) - MARGIN;
    return true;
}

/* How far the vCPU that runs there is ahead of vt, as far as is known; 0 while the rate limit lets it stay. */
static int64_t lead_over(const struct runq *rq, int64_t vt, uint64_t now)
{
    int64_t at = __atomic_load_n(&rq->cur_at, __ATOMIC_RELAXED);

    if (at == INT64_MIN || now - __atomic_load_n(&rq->cur_since, __ATOMIC_RELAXED) < rate_limit(rq))
        return 0;
    return at - vt;
}

/* Its last CPU is good enough when it runs there at once, but now and then all are compared, or those that sleep much would
 * stay where they make others wait while another CPU is ahead. */
static unsigned credit_busy_cpu(const struct runq *rq, const struct vcpu *v, uint64_t now)
{
    struct sched_unit *u = v->sched;
    int64_t vt = MAX(u->vt, rq->clock + rq->base - BONUS), most = lead_over(rq, vt, now);
    unsigned best = rq->cpu, cpu = rq->cpu;

    if (most > WAKE_GRAN && now - u->looked < BALANCE_NS)
        return rq->cpu;
    u->looked = now;
    most += most > WAKE_GRAN ? MARGIN : 0;
    for (unsigned i = 0; i < LOOK_CPUS; i++) {
        int64_t lead;

        cpu = cpumask_next(&v->allowed, cpu + 1);
        if (cpu == MAX_CPUS)
            cpu = cpumask_next(&v->allowed, 0);
        if (cpu == rq->cpu || cpu == MAX_CPUS)
            break;
        lead = lead_over(&runqs[cpu], vt, now);
        if (lead > MAX(most, WAKE_GRAN)) {
            most = lead;
            best = cpu;
        }
    }
    return best;
}

#define STEAL_LOOK 16

static struct vcpu *credit_steal(struct runq *from, unsigned to, int64_t limit)
{
    struct rb_node *n = rb_first(&from->tree);

    for (unsigned i = 0; n && i < STEAL_LOOK; i++, n = rb_next(n)) {
        struct vcpu *v = container_of(n, struct sched_unit, node)->v;

        if (limit != STEAL_ANY && v->sched->vt + from->base - limit >= 0)
            return NULL;
        if (!cpumask_test(&v->allowed, to))
            continue;
        if (limit != STEAL_ANY && !cpumask_test(&v->soft_affinity, to))
            continue;
        credit_dequeue(from, v);
        return v;
    }
    return NULL;
}

/* --- life
 * ------------------------------------------------------------------------------------------------------------------
 */

static int credit_domain_init(struct domain *d)
{
    d->sched_weight = WEIGHT_DEFAULT;
    return budget_domain_init(d);
}

static int credit_set_params(struct domain *d, uint32_t weight, uint32_t cap)
{
    int r;

    if (!weight || weight > WEIGHT_MAX)
        return -EINVAL;
    r = budget_set_cap(d, cap);
    if (!r)
        __atomic_store_n(&d->sched_weight, weight, __ATOMIC_RELAXED);
    return r;
}

static int credit_vcpu_init(struct vcpu *v)
{
    v->sched = mem_new(struct sched_unit);
    if (!v->sched)
        return -ENOMEM;
    v->sched->v = v;
    v->sched->pool = __atomic_load_n(&v->domain->pool, __ATOMIC_RELAXED);
    v->sched->vt = front_of(v->sched->pool);
    return 0;
}

/* A vCPU that is parked belongs to a dead domain: nobody else of it needs the refill. */
static void credit_vcpu_free(struct vcpu *v)
{
    BUG_ON(v->sched->queued);
    if (v->sched->parked)
        timer_kill(&v->domain->sched->refill);
    mem_free(v->sched);
    v->sched = NULL;
}

/* --- looking
 * ----------------------------------------------------------------------------------------------------------------
 */

static void credit_check(struct runq *rq)
{
    unsigned n = 0;

    BUG_ON(!rb_valid(&rq->tree, unit_less));
    for (struct rb_node *i = rb_first(&rq->tree); i; i = rb_next(i), n++) {
        const struct sched_unit *u = container_of(i, struct sched_unit, node);

        BUG_ON(!u->queued || u->parked || u->v->sched != u);
        BUG_ON(u->v->running || u->v->cpu != rq->cpu || u->v == rq->cur);
        BUG_ON(!cpumask_test(&u->v->allowed, rq->cpu));
        BUG_ON(u->v->runstate.state != RUNSTATE_runnable);
    }
    BUG_ON(n != rq->nr);
    if (n)
        BUG_ON(rq->head != first_unit(rq)->vt + rq->base);
}

static void dump_unit(const struct runq *rq, const struct sched_unit *u, const char *what)
{
    console_printf("  %s d%uv%u vt %+lld us  weight %u cap %u%%\n", what, u->v->domain->id.v, u->v->id,
                   (long long)(u->vt - rq->clock) / 256000, weight_of(u->v), cap_of(u->v));
}

static void credit_dump(struct runq *rq)
{
    console_printf("  waiting %u, behind the front %lld us\n", rq->nr,
                   (long long)(front_of(rq->pool) - rq->clock - rq->base) / 256000);
    if (rq->cur != rq->idle)
        dump_unit(rq, rq->cur->sched, "runs ");
    for (struct rb_node *i = rb_first(&rq->tree); i; i = rb_next(i))
        dump_unit(rq, container_of(i, struct sched_unit, node), "waits");
}

const struct sched_policy credit_policy = {
    .name = "proportional share, per-CPU queues",
    .domain_init = credit_domain_init,
    .domain_free = budget_domain_free,
    .set_params = credit_set_params,
    .vcpu_init = credit_vcpu_init,
    .vcpu_free = credit_vcpu_free,
    .charge = credit_charge,
    .enqueue = credit_enqueue,
    .dequeue = credit_dequeue,
    .preempt_in = credit_preempt_in,
    .next = credit_next,
    .leave = credit_leave,
    .pool_changed = credit_pool_changed,
    .wants_more = credit_wants_more,
    .busy_cpu = credit_busy_cpu,
    .steal = credit_steal,
    .check = credit_check,
    .dump = credit_dump,
};
