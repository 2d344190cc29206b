/*
 * Simulated CPUs as threads, for ThreadSanitizer: what the coroutines of engine.c cannot show, since there every plain access
 * between two atomic steps is undivided. Nothing here orders the threads but what the product does itself: flags and clock
 * are relaxed atomics.
 *
 * No checks on the way (nothing is ever at rest), all of them at the end; no seed decides the order.
 */
#include "sim_private.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <unistd.h>

#define RESCUE_AFTER 200u
#define IDLE_NS      20000u

const bool sim_deterministic = false;
static uint64_t now = 1000000000;
static uint32_t turns;

uint64_t sim_engine_now(void)
{
    return __atomic_load_n(&now, __ATOMIC_RELAXED);
}

static void time_passes(uint64_t ns)
{
    __atomic_fetch_add(&now, ns, __ATOMIC_RELAXED);
}

void sim_point(const char *file, int line)
{
    struct sim_cpu *c = sim_me;

    if (!c)
        return;
    time_passes(20);
    if (sim_one_in(256))
        sched_yield();
    sim_interrupts(c);
}

void sim_engine_relax(void)
{
    time_passes(20);
    sched_yield();
    sim_interrupts(sim_me);
}

/* Idle. CPU 0 wakes guests that sleep for good, as an interrupt would. */
void sim_engine_wait(void)
{
    for (unsigned n = 0; !sim_interrupt_waiting(sim_me); n++) {
        if (__atomic_load_n(&sim_gone, __ATOMIC_RELAXED))
            return;
        time_passes(IDLE_NS);
        usleep(1);
        if (sim_me->id == 0 && n > RESCUE_AFTER && !__atomic_load_n(&sim_finishing, __ATOMIC_RELAXED))
            sim_world_rescue();
        if (sim_me->id == 0 && __atomic_load_n(&sim_finishing, __ATOMIC_RELAXED))
            return;
    }
}

bool sim_engine_boundary(void)
{
    return true;
}

bool sim_engine_turn(void)
{
    if (__atomic_load_n(&sim_finishing, __ATOMIC_RELAXED))
        return false;
    if (__atomic_add_fetch(&turns, 1, __ATOMIC_RELAXED) >= sim_scenario->turns * 10)
        __atomic_store_n(&sim_finishing, true, __ATOMIC_RELAXED);
    return true;
}

void sim_engine_progress(void)
{
}

static void *cpu_thread(void *c)
{
    sim_me = c;
    sim_cpu_main();
    return NULL;
}

void sim_engine_run(void)
{
    pthread_t t[SIM_CPUS];

    for (unsigned i = 0; i < SIM_CPUS; i++)
        SIM_CHECK(!pthread_create(&t[i], NULL, cpu_thread, &sim_cpus[i]));
    for (unsigned i = 0; i < SIM_CPUS; i++)
        SIM_CHECK(!pthread_join(t[i], NULL));
}

uint64_t sim_hash(void);
uint64_t sim_hash(void)
{
    return 0;
}

void sim_note(const char *fmt, ...)
{
}

void sim_engine_report(void)
{
}

/* The first report ends the run. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "halt_on_error=1:die_after_fork=0:history_size=4";
}
