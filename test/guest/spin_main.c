/*
 * A guest for xl whose only work is to use a processor, or to wait for one. Its command line (extra= in xl's configuration):
 *
 *   (nothing)              uses all it gets, on every vCPU (up to 4); every second "spin: N ms of 1000": what vCPU 0 ran,
 *                          by its own runstate record
 *   sleep=US work=US       sleeps (one-shot timer, SCHEDOP_block), works, sleeps; for each 200 wake-ups one line
 *                          "sleep: median A ns, 90 % B ns, most C ns", counted from the timer's deadline
 *
 * It never ends by itself.
 */
#include "guest.h"

#define WAKEUPS 200

static unsigned timer_port;
static volatile struct vcpu_runstate_info runstate;

/* The number behind `name=` on the command line, or `otherwise`. */
static uint64_t option(const char *name, uint64_t otherwise)
{
    const char *s = (const char *)start_info->cmd_line;
    size_t n = strlen(name);

    for (; *s; s++) {
        uint64_t v = 0;

        if (strncmp(s, name, n) || s[n] != '=')
            continue;
        for (s += n + 1; *s >= '0' && *s <= '9'; s++)
            v = v * 10 + (uint64_t)(*s - '0');
        return v;
    }
    return otherwise;
}

static uint64_t ran(void)
{
    uint64_t t, entry;

    do {
        entry = runstate.state_entry_time;
        __asm__ volatile("" ::: "memory");
        t = runstate.time[RUNSTATE_running] + (time_ns() - entry);
        __asm__ volatile("" ::: "memory");
    } while (entry != runstate.state_entry_time);
    return t;
}

static void spin_on(void *arg)
{
    for (;;)
        ;
}

static void spin(void)
{
    struct vcpu_register_runstate_memory_area area = {.addr.v = (struct vcpu_runstate_info *)&runstate};
    uint64_t next = time_ns(), before;

    HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &area);
    for (unsigned n = 1; n < 4 && vcpu_exists(n); n++)
        vcpu_run(n, spin_on, NULL);
    for (;;) {
        before = ran();
        next += 1000000000;
        while (time_ns() < next)
            ;
        print("spin: %lu ms of 1000\n", (unsigned long)((ran() - before) / 1000000));
    }
}

static void timer_event(void)
{
    port_clear(timer_port);
}

static bool timer_init(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER};

    if (HC2(event_channel_op, EVTCHNOP_bind_virq, &b))
        return false;
    HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, NULL);
    timer_port = b.port;
    event_hook = timer_event;
    port_unmask(b.port);
    return true;
}

/* Sleeps until the deadline; how late it woke, in ns. Our clock may be some ns behind the timer's: then it is set again. */
static uint64_t sleep_until(uint64_t deadline)
{
    struct vcpu_set_singleshot_timer t = {.timeout_abs_ns = deadline};
    uint64_t now;

    while ((now = time_ns()) < deadline) {
        HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, &t);
        HC2(sched_op, SCHEDOP_block, NULL); /* allows events, too */
        events_off();
    }
    return now - deadline;
}

static void sleep_and_work(uint64_t sleep, uint64_t work)
{
    static uint64_t late[WAKEUPS];
    uint64_t end;

    for (;;) {
        for (unsigned i = 0; i < WAKEUPS; i++) {
            late[i] = sleep_until(time_ns() + sleep);
            for (end = time_ns() + work; time_ns() < end;)
                ;
        }
        sort_numbers(late, WAKEUPS);
        print("sleep: median %lu ns, 90 %% %lu ns, most %lu ns\n", (unsigned long)late[WAKEUPS / 2],
              (unsigned long)late[WAKEUPS * 9 / 10], (unsigned long)late[WAKEUPS - 1]);
    }
}

void guest_program(void)
{
    uint64_t sleep = option("sleep", 0) * 1000, work = option("work", 100) * 1000;

    events_off();
    if (sleep && !timer_init())
        print("no timer\n");
    else if (sleep)
        sleep_and_work(sleep, work);
    else
        spin();
}
