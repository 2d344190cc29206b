/*
 * Deferred work: what an interrupt or another CPU asks a CPU to do before it returns to a guest (or idles).
 * Runs with interrupts on, no locks held, on the way back to a guest.
 */
#ifndef CORE_WORK_H
#define CORE_WORK_H

#include "core/types.h"

enum work {
    WORK_TIMER,
    WORK_TASKLET,
    WORK_ARCH,
    WORK_RUNSTATE, /* the vCPU that has just come here: tell it (core/domain) */
    WORK_SCHEDULE, /* last: may not return */
    WORK_COUNT
};

typedef void (*work_fn)(void);
void work_register(enum work w, work_fn fn);    /* boot */
void work_raise(enum work w);                   /* on this CPU; interrupt-safe */
void work_raise_cpu(unsigned cpu, enum work w); /* with an IPI when it is another CPU */
bool work_pending(void);                        /* this CPU */
/* What work_pending looks at on that CPU, for the way back to a guest: something is pending while it is not 0. */
const uint32_t *work_word(unsigned cpu);
/* Runs what is pending now, each kind once: loop while work_pending(). Interrupts on, no locks; may not
 * return (sched.h). */
void work_run(void);
/* Long operations ask this at least every ~100 us of work; true = stop and continue later. */
bool preempt_needed(void);

/* A job to run once on some CPU outside interrupt context; may be re-armed by its own function. */
struct tasklet {
    struct tasklet *next;
    void (*fn)(void *data);
    void *data;
    bool queued;
};
void tasklet_init(struct tasklet *t, void (*fn)(void *), void *data);
void tasklet_schedule(struct tasklet *t); /* this CPU; interrupt-safe; no-op when queued */

#endif
