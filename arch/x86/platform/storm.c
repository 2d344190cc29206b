/*
 * Interrupt storms: a level line whose cause nobody clears, a device that sends messages without end. One line may use up
 * to half of a CPU's time (handling, and what entry and exit cost) with many interrupts; beyond that it is masked and said so, and tried again
 * later: after 100 ms, then twice as long each time, up to some seconds, until it has been quiet for a minute. Guests that
 * use an edge or message line are told when it is on again, since what came meanwhile may be lost.
 *
 * Invariants: a line is masked while storm is set. `storms` counts since the line was quiet last.
 * Locks: the line's.
 */
#include "arch/time.h"
#include "core/log.h"
#include "core/timer.h"
#include "private.h"

#define WINDOW_NS   20000000ull
#define OVERHEAD_NS 2000ull  /* of an interrupt, outside of what is measured */
#define MOST_NS     50000ull /* more was not the interrupt's doing: an SMI, a hypervisor below */
#define FEWEST      500u
#define HOLD_NS     100000000ull
#define HOLD_SHIFTS 6u
#define QUIET_NS    60000000000ull

static struct timer timer;
static bool ready;

static bool too_much(struct irq_line *l, uint64_t begin, uint64_t end)
{
    if (end - l->window_ns > WINDOW_NS) {
        l->window_ns = begin;
        l->busy_ns = l->burst = 0;
    }
    l->busy_ns += MIN(end - begin, MOST_NS) + OVERHEAD_NS;
    return ++l->burst >= FEWEST && l->busy_ns > WINDOW_NS / 2;
}

bool storm_note(struct irq_line *l, uint64_t begin, uint64_t end)
{
    uint64_t hold;

    if (likely(!too_much(l, begin, end)) || l->storm || !ready)
        return false;
    if (end - l->storm_until > QUIET_NS)
        l->storms = 0;
    hold = HOLD_NS << MIN(l->storms, HOLD_SHIFTS);
    l->storms++;
    l->storm = true;
    l->storm_until = end + hold;
    l->busy_ns = 0;
    if (!(l->storms & (l->storms - 1)))
        log_warn("interrupt line %u (vector %#x) takes more than half of CPU %u: off for %llu ms",
                 (unsigned)(l - irq_lines), l->vector, l->cpu, (unsigned long long)hold / 1000000);
    timer_set(&timer, l->storm_until);
    return true;
}

static void expire(void *unused)
{
    uint64_t now = arch_time_ns(), next = ~0ull;

    for (unsigned i = 0; i < IRQ_MAX; i++)
        next = MIN(next, irq_storm_over(&irq_lines[i], now));
    if (next != ~0ull)
        timer_set(&timer, next);
}

void irq_storm_init(void)
{
    timer_init(&timer, expire, NULL, 0);
    ready = true;
}
