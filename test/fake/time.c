/* Switching, deferred work and timers of the fake machine: needs core/sched and core/work.c, so apart from
 * the rest. */
#include "fake.h"
#include "core/lock.h"
#include "core/sched.h"
#include "core/work.h"
#include "fake_private.h"

/* One CPU: all the work it has. */
static bool settle_cpu(unsigned cpu)
{
    bool did = false;

    fake_cpu = cpu;
    while (fake_kicked[cpu] || work_pending()) {
        fake_kicked[cpu] = false;
        if (work_pending()) {
            work_run();
            did = true;
        }
    }
    return did;
}

void fake_settle(void)
{
    unsigned was = fake_cpu;
    bool again = true;

    for (unsigned rounds = 0; again; rounds++) {
        again = false;
        for_each_cpu(c, &cpus_online) again |= settle_cpu(c);
        if (rounds > 100000)
            panic("fake machine: deferred work never ends");
    }
    fake_cpu = was;
}

static unsigned next_deadline(uint64_t *when)
{
    unsigned first = MAX_CPUS;

    for_each_cpu(c, &cpus_online)
    {
        if (fake_timer_deadline[c] < *when) {
            *when = fake_timer_deadline[c];
            first = c;
        }
    }
    return first;
}

void fake_run_until(uint64_t when)
{
    unsigned was = fake_cpu;

    fake_settle();
    for (;;) {
        uint64_t at = when == ~0ull ? when : when + 1;
        unsigned c = next_deadline(&at);

        if (c == MAX_CPUS)
            break;
        fake_now = MAX(fake_now, at);
        fake_cpu = c;
        fake_timer_deadline[c] = ~0ull;
        work_raise(WORK_TIMER);
        fake_settle();
    }
    fake_now = MAX(fake_now, when);
    fake_cpu = was;
}

weak void arch_context_switch(struct vcpu *prev, struct vcpu *next)
{
    BUG_ON(arch_irq_enabled());
    lock_assert_none();
    fake_switches++;
    if (prev != next)
        sched_context_saved(prev);
    fake_current[fake_cpu] = next;
    fake_irqs_off[fake_cpu] = false;
}
