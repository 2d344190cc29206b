/*
 * Timers: per CPU a tree by deadline; the hardware timer is programmed for the earliest one.
 *
 * Invariants
 *  1. t->queued exactly when t is in the tree of queue t->cpu; t->cpu changes only under the lock of the old
 * queue, and only while the timer is in no tree.
 *  2. The hardware of a CPU is programmed for `programmed` <= the earliest deadline of its queue, or
 * WORK_TIMER is pending there. (Stopping the earliest timer leaves it programmed: one spare interrupt is
 * cheaper.)
 *  3. q->running is the timer whose function runs on that CPU, NULL else; it is set under the lock in which
 * the timer left the tree. After the function was called the timer is not touched: it may be freed.
 *  4. A killed timer is in no tree and never enters one again.
 *
 * Locks: q->lock (RANK_TIMER), one at a time; timer_migrate two, lower CPU first. Functions run without
 * locks, interrupts on, from WORK_TIMER.
 */
#include "core/perf.h"
#include "core/timer.h"
#include "core/console.h"
#include "core/cpumask.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "arch/time.h"

#define NEVER (~0ull)

struct timer_queue {
    struct spinlock lock;
    struct rb_root tree;
    uint64_t programmed;
    uint64_t now;          /* [lock] when timers_run() last began */
    struct timer *running; /* [lock; read without] */
    bool ready;
} __attribute__((aligned(64)));

static struct timer_queue queues[MAX_CPUS];

static bool timer_less(const struct rb_node *a, const struct rb_node *b)
{
    return container_of(a, struct timer, node)->deadline < container_of(b, struct timer, node)->deadline;
}

static struct timer *first_timer(const struct timer_queue *q)
{
    struct rb_node *n = rb_first(&q->tree);

    return n ? container_of(n, struct timer, node) : NULL;
}

/* Locks the queue that t belongs to. */
static struct timer_queue *timer_lock(const struct timer *t, unsigned long *flags)
{
    for (;;) {
        struct timer_queue *q = &queues[__atomic_load_n(&t->cpu, __ATOMIC_RELAXED)];

        *flags = spin_lock_irq(&q->lock);
        if (likely(q == &queues[t->cpu]))
            return q;
        spin_unlock_irq(&q->lock, *flags);
    }
}

static void dequeue(struct timer_queue *q, struct timer *t)
{
    if (!t->queued)
        return;
    rb_erase(&q->tree, &t->node);
    t->queued = false;
}

/* Makes sure that the CPU of q wakes up for its earliest timer. */
static void program(struct timer_queue *q, uint64_t deadline)
{
    unsigned cpu = (unsigned)(q - queues);

    if (deadline >= q->programmed)
        return;
    q->programmed = deadline;
    if (cpu == arch_cpu_id())
        arch_timer_program(deadline);
    else
        work_raise_cpu(cpu, WORK_TIMER); /* which programs it */
}

static void timers_run(void)
{
    struct timer_queue *q = &queues[arch_cpu_id()];
    unsigned long flags = spin_lock_irq(&q->lock);
    struct timer *t;

    q->now = arch_time_ns();
    while ((t = first_timer(q)) && t->deadline <= q->now) {
        void (*fn)(void *) = t->fn;
        void *data = t->data;

        perf_count(timers_fired);
        dequeue(q, t);
        __atomic_store_n(&q->running, t, __ATOMIC_RELEASE);
        spin_unlock_irq(&q->lock, flags);
        fn(data);
        flags = spin_lock_irq(&q->lock);
        __atomic_store_n(&q->running, NULL, __ATOMIC_RELEASE);
    }
    q->programmed = t ? t->deadline : NEVER;
    arch_timer_program(q->programmed);
    spin_unlock_irq(&q->lock, flags);
}

void timers_init_cpu(unsigned cpu)
{
    struct timer_queue *q = &queues[cpu];

    if (q->ready)
        return;
    spin_init(&q->lock, RANK_TIMER);
    q->tree = (struct rb_root)RB_ROOT;
    q->programmed = NEVER;
    q->ready = true;
    if (cpu == 0) {
        work_register(WORK_TIMER, timers_run);
        debug_key_register('a', "timers", timer_dump);
    }
}

void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu)
{
    BUG_ON(cpu >= MAX_CPUS || !queues[cpu].ready);
    *t = (struct timer){.fn = fn, .data = data, .cpu = (uint16_t)cpu};
}

void timer_set(struct timer *t, uint64_t deadline_ns)
{
    unsigned long flags;
    struct timer_queue *q = timer_lock(t, &flags);

    if (!t->killed) {
        dequeue(q, t);
        /* After this round of timers_run(), or a function that always asks for the past would hold its CPU. */
        __atomic_store_n(&t->deadline, MIN(MAX(deadline_ns, q->now + 1), NEVER - 1), __ATOMIC_RELAXED);
        rb_insert(&q->tree, &t->node, timer_less);
        t->queued = true;
        program(q, t->deadline);
    }
    spin_unlock_irq(&q->lock, flags);
}

void timer_stop(struct timer *t)
{
    unsigned long flags;
    struct timer_queue *q = timer_lock(t, &flags);

    dequeue(q, t);
    spin_unlock_irq(&q->lock, flags);
}

void timer_kill(struct timer *t)
{
    unsigned long flags;
    struct timer_queue *q = timer_lock(t, &flags);
    unsigned self = arch_cpu_id();

    dequeue(q, t);
    t->killed = true;
    spin_unlock_irq(&q->lock, flags);
    /* It may run where it was queued before a migration, so every CPU is looked at. */
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++)
        while (cpu != self && __atomic_load_n(&queues[cpu].running, __ATOMIC_ACQUIRE) == t)
            arch_cpu_relax();
}

void timer_migrate(struct timer *t, unsigned cpu)
{
    struct timer_queue *to = &queues[cpu], *from;
    unsigned long flags;

    BUG_ON(cpu >= MAX_CPUS || !to->ready);
    for (;;) {
        from = &queues[__atomic_load_n(&t->cpu, __ATOMIC_RELAXED)];
        if (from == to)
            return;
        flags = spin_lock_irq(&MIN(from, to)->lock);
        spin_lock_second(&MAX(from, to)->lock);
        if (likely(from == &queues[t->cpu]))
            break;
        spin_unlock(&MAX(from, to)->lock);
        spin_unlock_irq(&MIN(from, to)->lock, flags);
    }
    if (t->queued)
        rb_erase(&from->tree, &t->node);
    __atomic_store_n(&t->cpu, (uint16_t)cpu, __ATOMIC_RELAXED);
    if (t->queued) {
        rb_insert(&to->tree, &t->node, timer_less);
        program(to, t->deadline);
    }
    spin_unlock(&MAX(from, to)->lock);
    spin_unlock_irq(&MIN(from, to)->lock, flags);
}

void timer_room_check(void)
{
    for_each_cpu(cpu, &cpus_online)
    {
        struct timer_queue *q = &queues[cpu];
        unsigned long flags = spin_lock_irq(&q->lock);

        BUG_ON(!rb_valid(&q->tree, timer_less));
        for (struct rb_node *n = rb_first(&q->tree); n; n = rb_next(n)) {
            struct timer *t = container_of(n, struct timer, node);

            BUG_ON(!t->queued || t->killed || t->cpu != cpu);
        }
        spin_unlock_irq(&q->lock, flags);
    }
}

#define DUMP_MAX 32

void timer_dump(void)
{
    uint64_t now = arch_time_ns();

    console_printf("Timers, now %llu ns\n", (unsigned long long)now);
    for_each_cpu(cpu, &cpus_online)
    {
        struct timer_queue *q = &queues[cpu];
        unsigned long flags = spin_lock_irq(&q->lock);
        struct rb_node *n = rb_first(&q->tree);

        console_printf("CPU %u: programmed %+lld us\n", cpu,
                       q->programmed == NEVER ? 0ll : (long long)(q->programmed - now) / 1000);
        for (unsigned i = 0; n && i < DUMP_MAX; i++, n = rb_next(n)) {
            struct timer *t = container_of(n, struct timer, node);

            console_printf("  %+10lld us  fn %p data %p\n", (long long)(t->deadline - now) / 1000,
                           (void *)(uintptr_t)t->fn, t->data);
        }
        spin_unlock_irq(&q->lock, flags);
    }
}
