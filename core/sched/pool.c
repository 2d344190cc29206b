/*
 * CPU pools: disjoint sets of CPUs, each with domains that run there only. Pool 0 exists always, has every CPU
 * at first and keeps the hardware domain. What a vCPU may use is v->allowed: its hard affinity within the pool.
 *
 *   free CPU --cpupool_cpu_add--> in a pool --cpupool_cpu_remove--> free (runs its idle vCPU only)
 *   domain: created in a pool --cpupool_domain_move--> in another one --sched_domain_retire (dying)--> in pool 0
 *
 * Invariants
 *  1. A CPU is in at most one pool. A pool that has domains has a CPU; pool 0 has the hardware domain.
 *  2. v->allowed of a guest's vCPU is never empty and lies within its domain's pool. Where hard affinity and
 * pool have nothing in common, the affinity becomes "all" (the pool won).
 *  3. rq->pool is the pool whose clock the queue follows: that of the CPU, or of the pool that it was in last. It
 * changes only while the queue is empty and the CPU idle, so times of two pools are never mixed on a queue.
 *  4. pool->domains is the length of its list. Each guest domain is in one list, each guest vCPU in its domain's.
 *
 * The memory of pools is never given back: whoever reads rq->pool without the lock may see the pool that was.
 *
 * Locks: pool_lock (RANK_CPUPOOL), then run queues one at a time.
 */
#include "private.h"
#include "core/console.h"
#include "core/log.h"
#include "core/params.h"
#include "core/work.h"
#include "arch/cpu.h"

#define RATE_LIMIT_US 1000u

static struct spinlock pool_lock = SPINLOCK_INIT(RANK_CPUPOOL);
static struct cpupool pools[MAX_CPUS];

static unsigned opt_rate_limit = RATE_LIMIT_US;
PARAM_UINT("sched_ratelimit_us", opt_rate_limit, "least time that a vCPU keeps a CPU when others want it");

static const struct cpumask all_cpus = {{[0 ... MAX_CPUS / 64 - 1] = ~0ull}};

static struct cpupool *pool_find(uint32_t id)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pools); i++)
        if (pools[i].used && pools[i].id == id)
            return &pools[i];
    return NULL;
}

static struct cpupool *pool_unused(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pools); i++)
        if (!pools[i].used)
            return &pools[i];
    return NULL;
}

/* Online CPUs that are in no pool. */
static void free_cpus(struct cpumask *out)
{
    *out = cpus_online;
    for (unsigned i = 0; i < ARRAY_SIZE(pools); i++)
        for (unsigned w = 0; w < ARRAY_SIZE(out->w); w++)
            out->w[w] &= ~pools[i].cpus.w[w];
}

/* --- vCPUs
 * ------------------------------------------------------------------------------------------------------- */

void affinity_apply_and_unlock(struct vcpu *v, struct runq *rq, unsigned long flags)
{
    const struct cpumask *pool = &v->domain->pool->cpus;

    spin_assert_held(&pool_lock);
    cpumask_and(&v->allowed, &v->hard_affinity, pool);
    if (cpumask_empty(&v->allowed)) {
        log_debug("d%uv%u: none of its CPUs is in its pool any more, may use all there", v->domain->id.v,
                  v->id);
        v->hard_affinity = all_cpus;
        v->allowed = *pool;
    }
    obey_and_unlock(v, rq, flags);
}

static void affinities_follow(struct cpupool *p)
{
    for (struct sched_domain *sd = p->first; sd; sd = sd->next)
        for (struct sched_unit *u = sd->units; u; u = u->next) {
            unsigned long flags;
            struct runq *rq = vcpu_rq_lock(u->v, &flags);

            affinity_apply_and_unlock(u->v, rq, flags);
        }
}

static bool pinned_to(const struct cpupool *p, unsigned cpu)
{
    for (const struct sched_domain *sd = p->first; sd; sd = sd->next)
        for (const struct sched_unit *u = sd->units; u; u = u->next)
            if (u->v->pin_override && cpumask_test(&u->v->hard_affinity, cpu))
                return true;
    return false;
}

/* Where a new vCPU starts: they are spread, starting behind the domain's number. */
static unsigned first_cpu(const struct vcpu *v, const struct cpumask *set)
{
    unsigned n = (v->id + v->domain->id.v) % cpumask_count(set);

    for_each_cpu(cpu, set)
    {
        if (!n--)
            return cpu;
    }
    return 0;
}

void pool_vcpu_enter(struct vcpu *v)
{
    struct sched_domain *sd = v->domain->sched;

    spin_lock(&pool_lock);
    v->hard_affinity = v->soft_affinity = all_cpus;
    v->allowed = v->domain->pool->cpus;
    v->cpu = first_cpu(v, &v->allowed);
    v->sched->next = sd->units;
    sd->units = v->sched;
    spin_unlock(&pool_lock);
}

void pool_vcpu_leave(struct vcpu *v)
{
    struct sched_unit **at;

    spin_lock(&pool_lock);
    for (at = &v->domain->sched->units; *at != v->sched;)
        at = &(*at)->next;
    *at = v->sched->next;
    spin_unlock(&pool_lock);
}

void pools_lock(void)
{
    spin_lock(&pool_lock);
}

void pools_unlock(void)
{
    spin_unlock(&pool_lock);
}

/* --- domains
 * ----------------------------------------------------------------------------------------------------- */

static void enter(struct cpupool *p, struct domain *d)
{
    d->sched->next = p->first;
    p->first = d->sched;
    p->domains++;
    __atomic_store_n(&d->pool, p, __ATOMIC_RELAXED);
}

static void leave(struct domain *d)
{
    struct sched_domain **at;

    for (at = &d->pool->first; *at != d->sched;)
        at = &(*at)->next;
    *at = d->sched->next;
    d->pool->domains--;
}

int pool_domain_enter(struct domain *d, uint32_t id)
{
    struct cpupool *p;
    int r = -ENOENT;

    spin_lock(&pool_lock);
    p = pool_find(id);
    if (p && !cpumask_empty(&p->cpus)) {
        enter(p, d);
        r = 0;
    }
    spin_unlock(&pool_lock);
    return r;
}

void pool_domain_leave(struct domain *d)
{
    spin_lock(&pool_lock);
    if (d->pool)
        leave(d);
    d->pool = NULL;
    spin_unlock(&pool_lock);
}

/* Affinities named CPUs of the old pool: they start again at "all". */
static void move(struct domain *d, struct cpupool *to)
{
    leave(d);
    enter(to, d);
    for (struct sched_unit *u = d->sched->units; u; u = u->next) {
        unsigned long flags;
        struct runq *rq = vcpu_rq_lock(u->v, &flags);

        u->v->hard_affinity = u->v->soft_affinity = all_cpus;
        affinity_apply_and_unlock(u->v, rq, flags);
    }
}

int cpupool_domain_move(struct domain *d, uint32_t id)
{
    struct cpupool *p;
    int r = 0;

    if (d->system || d->hardware)
        return -EINVAL;
    spin_lock(&pool_lock);
    p = pool_find(id);
    if (domain_is_dying(d))
        r = -EINVAL;
    else if (!p || (p != d->pool && cpumask_empty(&p->cpus)))
        r = -ENOENT;
    else if (p != d->pool)
        move(d, p);
    spin_unlock(&pool_lock);
    return r;
}

void sched_domain_retire(struct domain *d)
{
    spin_lock(&pool_lock);
    if (d->pool != &pools[0])
        move(d, &pools[0]);
    spin_unlock(&pool_lock);
}

uint32_t sched_domain_pool(const struct domain *d)
{
    uint32_t id;

    spin_lock(&pool_lock);
    id = d->pool ? d->pool->id : CPUPOOL_ANY;
    spin_unlock(&pool_lock);
    return id;
}

/* --- pools
 * ------------------------------------------------------------------------------------------------------- */

static uint32_t lowest_free_id(void)
{
    uint32_t id = 0;

    while (pool_find(id))
        id++;
    return id;
}

int cpupool_create(uint32_t id, uint32_t *out)
{
    struct cpupool *p;
    int r = 0;

    spin_lock(&pool_lock);
    p = pool_unused();
    if (id != CPUPOOL_ANY && pool_find(id)) {
        r = -EEXIST;
    } else if (!p) {
        r = -ENOMEM;
    } else {
        p->id = *out = id == CPUPOOL_ANY ? lowest_free_id() : id;
        p->rate_limit = opt_rate_limit * 1000ull;
        p->used = true;
    }
    spin_unlock(&pool_lock);
    return r;
}

int cpupool_destroy(uint32_t id)
{
    struct cpupool *p;
    int r = 0;

    spin_lock(&pool_lock);
    p = pool_find(id);
    if (!p)
        r = -ENOENT;
    else if (p == &pools[0] || p->domains || !cpumask_empty(&p->cpus))
        r = -EBUSY;
    else
        p->used = false;
    spin_unlock(&pool_lock);
    return r;
}

int cpupool_info(uint32_t id, struct cpupool_info *out)
{
    const struct cpupool *p = NULL;

    spin_lock(&pool_lock);
    for (unsigned i = 0; i < ARRAY_SIZE(pools); i++)
        if (pools[i].used && pools[i].id >= id && (!p || pools[i].id < p->id))
            p = &pools[i];
    if (p)
        *out = (struct cpupool_info){.id = p->id, .domains = p->domains, .cpus = p->cpus};
    spin_unlock(&pool_lock);
    return p ? 0 : -ENOENT;
}

void cpupool_free_cpus(struct cpumask *out)
{
    spin_lock(&pool_lock);
    free_cpus(out);
    spin_unlock(&pool_lock);
}

/* The CPU's queue takes over the clock of p. -EAGAIN: who ran there has not left yet. */
static int queue_enter(struct cpupool *p, unsigned cpu)
{
    struct runq *rq = &runqs[cpu];
    unsigned long flags = spin_lock_irq(&rq->lock);
    int r = -EAGAIN;

    if (rq->cur == rq->idle && !rq->nr) {
        __atomic_store_n(&rq->pool, p, __ATOMIC_RELAXED);
        policy->pool_changed(rq);
        r = 0;
    }
    spin_unlock_irq(&rq->lock, flags);
    return r;
}

static int cpu_add(uint32_t id, uint32_t cpu)
{
    struct cpupool *p = pool_find(id);
    struct cpumask unused;
    int r;

    free_cpus(&unused);
    if (cpu == CPUPOOL_ANY)
        cpu = cpumask_next(&unused, 0);
    if (cpu >= MAX_CPUS || !cpumask_test(&cpus_online, cpu))
        return -EINVAL;
    if (!cpumask_test(&unused, cpu))
        return -ENODEV;
    if (!p)
        return -ENOENT;
    r = queue_enter(p, cpu);
    if (r)
        return r;
    cpumask_set(&p->cpus, cpu);
    affinities_follow(p);
    work_raise_cpu(cpu, WORK_SCHEDULE); /* it is idle: it looks for work of its new pool */
    return 0;
}

static unsigned last_cpu(const struct cpumask *m)
{
    unsigned last = MAX_CPUS;

    for_each_cpu(cpu, m)
    {
        last = cpu;
    }
    return last;
}

static int cpu_remove(uint32_t id, uint32_t cpu)
{
    struct cpupool *p = pool_find(id);

    if (!p)
        return -ENOENT;
    if (cpu == CPUPOOL_ANY)
        cpu = last_cpu(&p->cpus);
    if (cpu >= MAX_CPUS || !cpumask_test(&cpus_online, cpu))
        return -EINVAL;
    if (!cpumask_test(&p->cpus, cpu))
        return -ENODEV;
    if (p->domains && cpumask_count(&p->cpus) == 1)
        return -EBUSY;
    if (pinned_to(p, cpu))
        return -EADDRINUSE;
    cpumask_clear(&p->cpus, cpu);
    affinities_follow(p);
    return 0;
}

int cpupool_cpu_add(uint32_t id, uint32_t cpu)
{
    int r;

    spin_lock(&pool_lock);
    r = cpu_add(id, cpu);
    spin_unlock(&pool_lock);
    return r;
}

int cpupool_cpu_remove(uint32_t id, uint32_t cpu)
{
    int r;

    spin_lock(&pool_lock);
    r = cpu_remove(id, cpu);
    spin_unlock(&pool_lock);
    return r;
}

int cpupool_rate_limit(uint32_t id, const uint32_t *set_us, uint32_t *us)
{
    struct cpupool *p;
    int r = -ESRCH;

    if (set_us && *set_us && (*set_us < RATE_LIMIT_MIN_US || *set_us > RATE_LIMIT_MAX_US))
        return -EINVAL;
    spin_lock(&pool_lock);
    p = pool_find(id);
    if (p) {
        if (set_us)
            __atomic_store_n(&p->rate_limit, *set_us * 1000ull, __ATOMIC_RELAXED);
        *us = (uint32_t)(p->rate_limit / 1000);
        r = 0;
    }
    spin_unlock(&pool_lock);
    return r;
}

/* --- set-up and checks
 * ------------------------------------------------------------------------------------------- */

void pool_init(void)
{
    if (opt_rate_limit && (opt_rate_limit < RATE_LIMIT_MIN_US || opt_rate_limit > RATE_LIMIT_MAX_US)) {
        log_warn("sched_ratelimit_us: %u is not 0 nor between %u and %u", opt_rate_limit, RATE_LIMIT_MIN_US,
                 RATE_LIMIT_MAX_US);
        opt_rate_limit = RATE_LIMIT_US;
    }
    pools[0].used = true;
    pools[0].rate_limit = opt_rate_limit * 1000ull;
}

/* The CPU does not run guests yet. */
void pool_cpu_init(unsigned cpu)
{
    spin_lock(&pool_lock);
    runqs[cpu].pool = &pools[0];
    cpumask_set(&pools[0].cpus, cpu);
    spin_unlock(&pool_lock);
}

static void check_domain(const struct cpupool *p, const struct sched_domain *sd)
{
    BUG_ON(sd->d->pool != p || sd->d->system);
    for (const struct sched_unit *u = sd->units; u; u = u->next) {
        unsigned long flags;
        struct runq *rq = vcpu_rq_lock(u->v, &flags);
        struct cpumask m;

        cpumask_and(&m, &u->v->hard_affinity, &p->cpus);
        BUG_ON(u->v->domain != sd->d || cpumask_empty(&m));
        for (unsigned w = 0; w < ARRAY_SIZE(m.w); w++)
            BUG_ON(m.w[w] != u->v->allowed.w[w]);
        spin_unlock_irq(&rq->lock, flags);
    }
}

void pool_check(void)
{
    struct cpumask seen = {{0}}, both;

    spin_lock(&pool_lock);
    for (const struct cpupool *p = pools; p < pools + ARRAY_SIZE(pools); p++) {
        unsigned n = 0;

        cpumask_and(&both, &seen, &p->cpus);
        BUG_ON(!cpumask_empty(&both));
        cpumask_or(&seen, &seen, &p->cpus);
        BUG_ON(!p->used && (p->domains || !cpumask_empty(&p->cpus)));
        BUG_ON(p->domains && cpumask_empty(&p->cpus));
        for (const struct sched_domain *sd = p->first; sd; sd = sd->next, n++)
            check_domain(p, sd);
        BUG_ON(n != p->domains);
        for_each_cpu(cpu, &p->cpus)
        {
            BUG_ON(runqs[cpu].pool != p);
        }
    }
    for_each_cpu(cpu, &cpus_online)
    {
        BUG_ON(!cpumask_test(&seen, cpu) && __atomic_load_n(&runqs[cpu].nr, __ATOMIC_RELAXED));
    }
    spin_unlock(&pool_lock);
}

void pool_dump(void)
{
    spin_lock(&pool_lock);
    for (const struct cpupool *p = pools; p < pools + ARRAY_SIZE(pools); p++) {
        if (!p->used)
            continue;
        console_printf("Pool %u: %u domains, rate limit %llu us, CPUs", p->id, p->domains,
                       (unsigned long long)p->rate_limit / 1000);
        for_each_cpu(cpu, &p->cpus)
        {
            console_printf(" %u", cpu);
        }
        console_printf("\n");
    }
    spin_unlock(&pool_lock);
}
