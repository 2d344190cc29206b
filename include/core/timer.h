/* Timers on arch_time_ns(): one queue per CPU; functions run from WORK_TIMER (interrupts on, no locks held). */
#ifndef CORE_TIMER_H
#define CORE_TIMER_H

#include "core/types.h"
#include "lib/rbtree.h"

struct timer {
    struct rb_node node; /* [queue lock] while queued */
    uint64_t deadline;   /* [queue lock; read without] ns of system time */
    void (*fn)(void *data);
    void *data;
    uint16_t cpu;        /* [queue lock; read without to find the lock] */
    bool queued, killed; /* [queue lock] */
};

void timers_init_cpu(unsigned cpu);
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu);
/* Arms (or re-arms). A deadline in the past fires soon. Any CPU may call it; callable under any lock <
 * RANK_TIMER. */
void timer_set(struct timer *t, uint64_t deadline_ns);
void timer_stop(struct timer *t);
/* Stops it for good; waits for a running function unless called from it. No lock that the function takes may
 * be held. */
void timer_kill(struct timer *t);
void timer_migrate(struct timer *t, unsigned cpu);
/* The architecture's timer interrupt calls work_raise(WORK_TIMER). */
void timer_dump(void); /* debug key 'a' */
void timer_room_check(void);

#endif
