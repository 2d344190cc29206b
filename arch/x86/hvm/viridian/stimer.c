/*
 * Synthetic timers (TLFS 12.3): four for each vCPU, one-shot (an absolute reference time) or periodic, that end in an interrupt of the
 * local APIC (direct mode) or in a message of a source.
 *
 *   off --config enabled, count not 0--> runs (due) --time is up--> direct: vector; else message, which may have to wait (waits)
 *                                        one-shot: off; periodic: runs
 *
 * Invariants
 *  1. due is not 0 exactly while the configuration says enabled and the count is not 0; then `timer` is armed for it, or its function
 *     is about to run.
 *  2. A period is at least PERIOD_MIN of ours, however short the guest asked, and UNHEARD_NS while the vCPU does not take its ticks; at
 *     most CATCH_UP periods are made up for.
 * Locks: the vCPU's (RANK_VIRIDIAN).
 */
#include "private.h"
#include "../dev/vlapic.h"
#include "arch/cpu.h"
#include "arch/time.h"

#define ENABLED     1ull
#define PERIODIC    2ull
#define LAZY        4ull
#define AUTO_ENABLE 8ull
#define DIRECT      (1ull << 12)
#define VECTOR(c)   ((uint8_t)((c) >> 4))
#define SINT_OF(c)  ((unsigned)((c) >> 16) & 15)
#define CONFIG_BITS 0xf1fffull
/* In units of 100 ns. */
#define PERIOD_MIN  500ull
#define FAR         (1ull << 33) /* a quarter of an hour: later ends are looked at again then */
#define SLACK       10ull
#define CATCH_UP    16ull

static struct spinlock *lock_of(const struct stimer *t)
{
    return &viridian_vcpu(t->v)->lock;
}

static unsigned index_of(const struct stimer *t)
{
    return (unsigned)(t - viridian_vcpu(t->v)->stimer);
}

static void arm(struct stimer *t, uint64_t now, uint64_t at)
{
    uint64_t left = at > now ? MIN(at - now, FAR) : 0;

    timer_migrate(&t->timer, arch_cpu_id());
    timer_set(&t->timer, arch_time_ns() + left * 100);
}

/* --- its end --- */

static bool post(struct stimer *t, uint64_t now)
{
    const uint64_t payload[3] = {index_of(t), t->waits_due, now};

    t->waits = !synic_post(t->v, SINT_OF(t->config), MESSAGE_TIMER, payload, 3);
    return !t->waits;
}

/* Reference time stays below 2^58: no sum overflows. */
static uint64_t period_of(const struct stimer *t)
{
    return MIN(MAX(t->count, PERIOD_MIN), ~0ull >> 1);
}

/* Ticks that were missed: a lazy timer forgets them, another one makes up for some at twice its speed. */
static uint64_t next_period(struct stimer *t, uint64_t now)
{
    uint64_t period = period_of(t), behind;

    t->due += period;
    if (t->due > now)
        return t->due;
    behind = (now - t->due) / period;
    if ((t->config & LAZY) || behind >= CATCH_UP) {
        t->due += (behind + 1) * period;
        return t->due;
    }
    return now + period / 2;
}

/* Does the vCPU hear of its end? */
static bool is_heard(const struct stimer *t)
{
    uint64_t source = viridian_vcpu(t->v)->sint[SINT_OF(t->config)];

    if (t->config & DIRECT)
        return vlapic_is_news(t->v, VECTOR(t->config));
    return !t->waits && !(source & (SINT_MASKED | SINT_POLLING)) && vlapic_is_news(t->v, (uint8_t)source);
}

/* Lock held. True: a message was written. */
static bool expire(struct stimer *t, uint64_t now)
{
    t->waits_due = t->due;
    if (t->config & PERIODIC) {
        uint64_t next = next_period(t, now);

        arm(t, now, is_heard(t) ? next : MAX(next, now + UNHEARD_NS / 100));
    } else {
        t->due = 0;
        t->config &= ~ENABLED;
    }
    if (!(t->config & DIRECT))
        return post(t, now);
    vlapic_set_irq(t->v, VECTOR(t->config));
    return false;
}

static void fire(void *data)
{
    struct stimer *t = data;
    unsigned long flags = spin_lock_irq(lock_of(t));
    uint64_t now = reference_time(t->v->domain);
    bool wrote = false;

    if (t->due > now + SLACK)
        arm(t, now, t->due); /* it was too far away, or is another one now */
    else if (t->due)
        wrote = expire(t, now);
    spin_unlock_irq(lock_of(t), flags);
    if (wrote)
        synic_wrote(t->v);
}

void stimers_try(struct vcpu *v)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);
    unsigned long flags = spin_lock_irq(&vv->lock);
    uint64_t now = reference_time(v->domain);
    bool wrote = false;

    for (unsigned n = 0; n < STIMERS; n++)
        if (vv->stimer[n].waits)
            wrote |= post(&vv->stimer[n], now);
    spin_unlock_irq(&vv->lock, flags);
    if (wrote)
        synic_wrote(v);
}

/* --- its beginning --- */

static bool has_target(uint64_t config)
{
    return config & DIRECT ? VECTOR(config) >= FIRST_VECTOR : SINT_OF(config) != 0;
}

/* Lock held. What ran or waited is forgotten. */
static void start(struct stimer *t)
{
    uint64_t now = reference_time(t->v->domain);

    timer_stop(&t->timer);
    t->waits = false;
    t->due = 0;
    if (!has_target(t->config) || !t->count)
        t->config &= ~ENABLED;
    if (!(t->config & ENABLED))
        return;
    t->due = t->count;
    if (t->config & PERIODIC)
        t->due = now + period_of(t);
    arm(t, now, t->due);
}

void stimer_set_config(struct vcpu *v, unsigned n, uint64_t value)
{
    struct stimer *t = &viridian_vcpu(v)->stimer[n];
    unsigned long flags = spin_lock_irq(lock_of(t));

    t->config = value & CONFIG_BITS;
    start(t);
    spin_unlock_irq(lock_of(t), flags);
}

void stimer_set_count(struct vcpu *v, unsigned n, uint64_t value)
{
    struct stimer *t = &viridian_vcpu(v)->stimer[n];
    unsigned long flags = spin_lock_irq(lock_of(t));

    t->count = value;
    if (t->config & AUTO_ENABLE)
        t->config |= ENABLED;
    start(t);
    spin_unlock_irq(lock_of(t), flags);
}

void stimer_reset(struct vcpu *v, unsigned n)
{
    stimer_set_config(v, n, 0);
    stimer_set_count(v, n, 0);
}

void stimer_init(struct vcpu *v, unsigned n)
{
    struct stimer *t = &viridian_vcpu(v)->stimer[n];

    t->v = v;
    timer_init(&t->timer, fire, t, arch_cpu_id());
}
