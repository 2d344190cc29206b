/*
 * Deferred work: per CPU a word of pending kinds, and a list of tasklets.
 *
 * Invariants
 *  1. A raised kind stays pending until its function is about to run; a raise that comes later runs it once
 * more.
 *  2. The CPU looks at its word with interrupts off before it returns to a guest or halts; whoever raises
 * work for another CPU sets the bit first and then sends the IPI, so no raise is lost.
 *  3. A tasklet is in at most one list: whoever turns `queued` from false to true puts it there, and the CPU
 * that took it out turns it back before it calls the function.
 *  4. work_run() runs each kind at most once, WORK_SCHEDULE last: a tasklet that re-arms itself cannot keep a
 * CPU from switching.
 *
 * Locks: none. The word is atomic; a CPU's tasklets are queued and taken by that CPU only, but also in its NMI handler (a log
 * line rings an event), so the list is changed by single atomic steps.
 */
#include "core/work.h"
#include "core/log.h"
#include "arch/cpu.h"

struct cpu_work {
    uint32_t pending;       /* [a] bit per enum work */
    struct tasklet *newest; /* [a] tasklets, the last queued first */
} __attribute__((aligned(64)));

static struct cpu_work cpu_work[MAX_CPUS];
static work_fn work_fns[WORK_COUNT];

void work_register(enum work w, work_fn fn)
{
    BUG_ON(work_fns[w] && work_fns[w] != fn);
    work_fns[w] = fn;
}

void work_raise(enum work w)
{
    __atomic_fetch_or(&cpu_work[arch_cpu_id()].pending, 1u << w, __ATOMIC_SEQ_CST);
}

void work_raise_cpu(unsigned cpu, enum work w)
{
    uint32_t old = __atomic_fetch_or(&cpu_work[cpu].pending, 1u << w, __ATOMIC_SEQ_CST);

    /* Already set: the IPI of whoever set it is under way, or that CPU has set it itself and will look. */
    if (!(old & (1u << w)) && cpu != arch_cpu_id())
        arch_cpu_kick(cpu);
}

bool work_pending(void)
{
    return __atomic_load_n(&cpu_work[arch_cpu_id()].pending, __ATOMIC_SEQ_CST) != 0;
}

const uint32_t *work_word(unsigned cpu)
{
    return &cpu_work[cpu].pending;
}

bool preempt_needed(void)
{
    return __atomic_load_n(&cpu_work[arch_cpu_id()].pending, __ATOMIC_RELAXED) != 0;
}

/* What is queued, oldest first. */
static struct tasklet *tasklet_take_all(struct cpu_work *c)
{
    struct tasklet *newest = __atomic_exchange_n(&c->newest, NULL, __ATOMIC_ACQ_REL), *list = NULL, *next;

    for (; newest; newest = next) {
        next = newest->next;
        newest->next = list;
        list = newest;
    }
    return list;
}

static void tasklets_run(void)
{
    struct tasklet *t = tasklet_take_all(&cpu_work[arch_cpu_id()]), *next;

    for (; t; t = next) {
        next = t->next;
        __atomic_store_n(&t->queued, false, __ATOMIC_RELEASE);
        t->fn(t->data); /* may free t */
    }
}

void work_run(void)
{
    struct cpu_work *c = &cpu_work[arch_cpu_id()];
    uint32_t todo = __atomic_load_n(&c->pending, __ATOMIC_SEQ_CST);

    while (todo) {
        unsigned w = (unsigned)__builtin_ctz(todo);

        todo &= todo - 1;
        __atomic_fetch_and(&c->pending, ~(1u << w), __ATOMIC_SEQ_CST);
        if (w == WORK_TASKLET)
            tasklets_run();
        else if (likely(work_fns[w]))
            work_fns[w]();
    }
}

void tasklet_init(struct tasklet *t, void (*fn)(void *), void *data)
{
    *t = (struct tasklet){.fn = fn, .data = data};
}

void tasklet_schedule(struct tasklet *t)
{
    struct cpu_work *c = &cpu_work[arch_cpu_id()];

    if (__atomic_exchange_n(&t->queued, true, __ATOMIC_ACQ_REL))
        return;
    t->next = __atomic_load_n(&c->newest, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&c->newest, &t->next, t, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
    work_raise(WORK_TASKLET);
}
