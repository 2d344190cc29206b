/* core/sched: between the framework (sched.c, place.c), the policy (credit.c) and their checks. */
#ifndef SCHED_PRIVATE_H
#define SCHED_PRIVATE_H

#include "core/cpupool.h"
#include "core/domain.h"
#include "core/lock.h"
#include "core/sched.h"
#include "lib/rbtree.h"

/* The policy's view of a vCPU. [rq] = lock of the queue of v->cpu */
struct sched_unit {
    struct rb_node node;     /* [rq] while queued */
    struct vcpu *v;          /* [c] */
    struct cpupool *pool;    /* [rq] whose clock vt belongs to */
    struct sched_unit *next; /* [pool] of the same domain */
    int64_t vt; /* [rq] virtual time: counted from the queue's base while queued or current, else absolute */
    uint64_t charged;    /* [rq] ns: up to here its run is in vt */
    uint64_t dispatched; /* [rq] ns: since when it has the CPU */
    uint64_t looked;     /* [rq] ns: when it last compared CPUs to wake on */
    bool queued;         /* [rq] */
    bool yielded;        /* [rq] */
    bool woke;           /* [rq] it was asleep (or parked) since it was last queued */
    bool parked;         /* [rq] out of the domain's budget: in sched_domain.parked, not to be queued */
    struct sched_unit *next_parked; /* [sched_domain lock] */
};

/* A domain's CPU budget when it has a cap. */
struct sched_domain {
    struct spinlock lock;      /* RANK_SCHED_DOMAIN */
    struct domain *d;          /* [c] */
    struct sched_domain *next; /* [pool] in the same pool */
    struct sched_unit *units;  /* [pool] */
    int64_t budget;            /* [a] ns left in this period; below 0: debt */
    uint64_t refill_at;        /* [lock; read without] ns */
    struct sched_unit *parked; /* [lock] */
    struct timer refill;
};

struct cpupool {
    uint32_t id;                /* [pool] */
    uint32_t domains;           /* [pool] */
    bool used;                  /* [pool] */
    struct cpumask cpus;        /* [pool; read without] */
    uint64_t rate_limit;        /* [a] ns */
    struct sched_domain *first; /* [pool] */
    uint64_t levelled;          /* [a] ns: when its clocks were last levelled */
    int64_t front; /* [a] the policy's: absolute clock of the queue that is ahead; may lag by a little */
};

struct runq {
    struct spinlock lock; /* RANK_SCHED */
    unsigned cpu;         /* [c] */
    bool ready;           /* [c] */
    struct vcpu *cur;     /* [lock] whom this CPU runs; its `running` is set */
    struct vcpu *idle;    /* [c] */
    struct cpupool *pool; /* [pool and lock; read with one of them] */
    struct timer tick;    /* WORK_SCHEDULE at the end of the slice */
    uint64_t tick_at;     /* [lock] ns when it comes at the latest; 0 or past: it is off */

    /* the policy's */
    struct rb_root tree; /* [lock] by vt */
    uint32_t nr;         /* [lock; read without] */
    int64_t clock;       /* [lock] virtual time that this queue has reached */
    int64_t base;        /* [lock; read without] absolute = counted from base + base */
    int64_t head;        /* [lock; read without] absolute vt of the first in the tree */
    int64_t cur_at;      /* [lock; read without] absolute vt of the current vCPU when it was last charged */
    uint64_t cur_since;  /* [lock; read without] ns: since when it has the CPU */
    uint64_t balanced;   /* [this CPU] ns: last look at the other queues */
} __attribute__((aligned(64)));

extern struct runq runqs[MAX_CPUS];
extern struct cpumask idle_cpus; /* [a] CPUs that run their idle vCPU and were not told of work since */

/* All with rq->lock held, interrupts off, unless said. */
struct sched_policy {
    const char *name;
    int (*domain_init)(struct domain *d);                               /* no locks */
    void (*domain_free)(struct domain *d);                              /* no locks */
    int (*set_params)(struct domain *d, uint32_t weight, uint32_t cap); /* no locks */
    int (*vcpu_init)(struct vcpu *v);                                   /* no locks */
    void (*vcpu_free)(struct vcpu *v);                                  /* no locks */
    /* The current vCPU's run up to now is accounted. */
    void (*charge)(struct runq *rq, uint64_t now);
    /* v is runnable, not running, not queued, v->cpu == rq->cpu. */
    void (*enqueue)(struct runq *rq, struct vcpu *v);
    void (*dequeue)(struct runq *rq, struct vcpu *v);
    /* ns until the current vCPU should make room for v, just queued. 0 = now. The current one is not idle. */
    uint64_t (*preempt_in)(struct runq *rq, const struct vcpu *v, uint64_t now);
    /* Who runs next; taken off the queue; NULL = nobody. prev: the current vCPU if it may go on, charged;
     * else NULL. *until: ns time at which to ask again, 0 = no need. */
    struct vcpu *(*next)(struct runq *rq, struct vcpu *prev, uint64_t now, uint64_t *until);
    /* The current vCPU leaves the CPU: its vt becomes absolute. */
    void (*leave)(struct runq *rq, struct vcpu *v);
    /* Worth a look at the other queues? Own queue, unlocked. *limit: take only what lies before this absolute
     * vt. */
    /* The empty queue of an idle CPU has come to another pool. */
    void (*pool_changed)(struct runq *rq);
    bool (*wants_more)(struct runq *rq, uint64_t now, int64_t *limit);
    /* v wakes, no CPU that it may use is idle, its own is rq's (locked): where it will run soonest. */
    unsigned (*busy_cpu)(const struct runq *rq, const struct vcpu *v, uint64_t now);
    /* Takes a vCPU off `from` for CPU `to`, the earliest that may run there and lies before limit. */
    struct vcpu *(*steal)(struct runq *from, unsigned to, int64_t limit);
    void (*check)(struct runq *rq);
    void (*dump)(struct runq *rq);
};
extern const struct sched_policy credit_policy;
extern const struct sched_policy *const policy;

#define STEAL_ANY INT64_MAX

/* The queue of v's CPU, locked. */
struct runq *vcpu_rq_lock(const struct vcpu *v, unsigned long *flags);
/* Puts v on a queue if it is runnable and neither running nor queued nor parked; may move it. Unlocks rq. */
void place_and_unlock(struct vcpu *v, struct runq *rq, unsigned long flags);
/* Gets work from other queues, if the policy wants some. No locks. */
void rebalance(struct runq *rq, uint64_t now);
/* Other CPUs may take from rq what waits there. No locks. */
void offer_to_idle(struct runq *rq);
/* v->allowed has changed: v leaves a CPU that it may not use any more. Unlocks. */
void obey_and_unlock(struct vcpu *v, struct runq *rq, unsigned long flags);
/* Debug builds: the queue's invariants. Lock held. */
void runq_check(struct runq *rq);
void runstate_set(struct vcpu *v, int state, uint64_t now);

/* --- pool.c. pool_lock is taken before any queue's. */
void pool_init(void);
void pool_cpu_init(unsigned cpu);
void pools_lock(void);
void pools_unlock(void);
int must_check pool_domain_enter(struct domain *d, uint32_t id); /* -ENOENT */
void pool_domain_leave(struct domain *d);
/* Initial affinity and CPU; from here on v follows its pool. */
void pool_vcpu_enter(struct vcpu *v);
void pool_vcpu_leave(struct vcpu *v);
/* v->allowed from hard affinity and pool. pools_lock and rq->lock held; unlocks rq. */
void affinity_apply_and_unlock(struct vcpu *v, struct runq *rq, unsigned long flags);
void pool_check(void);
void pool_dump(void);

/* --- cap.c: a domain's budget. Queue lock held where a vCPU or unit is given. */
int must_check budget_domain_init(struct domain *d);
void budget_domain_free(struct domain *d);
int must_check budget_set_cap(struct domain *d, uint32_t cap); /* -EINVAL */
int64_t budget_left(const struct vcpu *v, uint64_t now);       /* ns; INT64_MAX without a cap */
void park(struct sched_unit *u);                               /* u is on no queue */

/* --- level.c */
void level_when_due(struct cpupool *p, uint64_t now); /* no locks */

/* Virtual time: ns at a weight. */
#define VT_SHIFT 16
static inline int64_t credit_time(uint64_t ns, uint32_t weight)
{
    return (int64_t)((MIN(ns, 10000000000ull) << VT_SHIFT) / weight);
}
static inline uint32_t weight_of(const struct vcpu *v)
{
    return __atomic_load_n(&v->domain->sched_weight, __ATOMIC_RELAXED);
}

static inline bool vcpu_may_queue(const struct vcpu *v, const struct runq *rq)
{
    return vcpu_runnable(v) && !v->running && !v->sched->queued && !v->sched->parked && rq->cur != v;
}

#endif
