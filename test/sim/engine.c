/*
 * Simulated CPUs as coroutines of one thread, interleaved by a seed.
 *
 * At every point (an atomic step, a guest access, a preemption check) the CPU that runs may be left for another
 * one. How often is itself drawn from the seed, from every second point to every thousandth; now and then a CPU
 * stalls for thousands of points, with whatever it holds, as one does that an SMI or a hypervisor below takes
 * away. A waiting loop always lets others go on. Time moves with points, at a rate drawn from the seed, and
 * jumps to the next timer when all CPUs are idle.
 *
 * Found here: waiting for ever (nobody gets anything done although CPUs wait in loops), lost wake-ups (all CPUs
 * idle, and somebody should run). What is reported then: where each CPU stands.
 *
 * The trace's hash covers every point and every switch: two runs of one seed must agree in it (--twice).
 */
#include "sim_private.h"
#include "core/work.h"

#include <stdarg.h>
#include <unistd.h>

#define STACK_BYTES   (256u * 1024)
#define RELAXES_LIMIT 200000u
#define END_LIMIT_NS  60000000000ull

#if defined(__SANITIZE_ADDRESS__)
#define FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS 1
#endif
#endif
#ifdef FIBERS
void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
#else
#define __sanitizer_start_switch_fiber(fake, bottom, size) ((void)0)
#define __sanitizer_finish_switch_fiber(fake, bottom, size)                                                  \
    do {                                                                                                     \
        *(bottom) = NULL;                                                                                    \
        *(size) = 0;                                                                                         \
    } while (0)
#endif

const bool sim_deterministic = true;
static uint64_t points, hash = 0xcbf29ce484222325ull, rng, now = 1000000000;
static int64_t run_left;
static uint32_t mean, ns_per_point, stall_one_in, relaxes, turns, check_every;
static bool check_due, inside; /* inside: a simulated CPU runs */

/* The simulator's own context. */
static void *main_sp, *main_fake;
static const void *main_bottom;
static size_t main_size;

static uint32_t chance(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng * 0x2545f4914f6cdd1dull) >> 32) % below;
}

static void mix(uint64_t x)
{
    hash = (hash ^ x) * 0x100000001b3ull;
}

/* --- coroutines --- */

void sim_switch(void **save, void *load);
/* System V: what a function must keep, then the other stack. */
__asm__(".text\n.globl sim_switch\n.type sim_switch, @function\nsim_switch:\n"
        "\tpush %rbp\n\tpush %rbx\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n"
        "\tmov %rsp, (%rdi)\n\tmov %rsi, %rsp\n"
        "\tpop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbx\n\tpop %rbp\n\tret\n"
        ".size sim_switch, . - sim_switch\n");

static void first_entry(void)
{
    __sanitizer_finish_switch_fiber(NULL, &main_bottom, &main_size);
    sim_cpu_main();
    abort();
}

static void coroutine_make(struct sim_cpu *c)
{
    void **sp;

    c->stack = aligned_alloc(4096, STACK_BYTES);
    sp = (void **)((char *)c->stack + STACK_BYTES) - 2;
    *sp = (void *)(uintptr_t)first_entry; /* entered as if called: rsp + 8 is a multiple of 16 */
    sp -= 6;
    memset(sp, 0, 6 * sizeof(*sp));
    c->sp = sp;
}

static void resume(struct sim_cpu *c)
{
    sim_me = c;
    mix(c->id + 0x10000);
    run_left = 1 + chance(2 * mean);
    inside = true;
    __sanitizer_start_switch_fiber(&main_fake, c->stack, STACK_BYTES);
    sim_switch(&main_sp, c->sp);
    {
        const void *bottom;
        size_t size;

        __sanitizer_finish_switch_fiber(main_fake, &bottom, &size);
        (void)bottom, (void)size;
    }
    inside = false;
    sim_me = NULL;
}

static void leave(void)
{
    struct sim_cpu *c = sim_me;

    __sanitizer_start_switch_fiber(&c->fake_stack, main_bottom, main_size);
    sim_switch(&c->sp, main_sp);
    __sanitizer_finish_switch_fiber(c->fake_stack, &main_bottom, &main_size);
}

/* --- points --- */

/* While all are to meet for a check the clock stands, or timers could always bring something more to do. */
static void time_passes(void)
{
    if (!check_due)
        now += ns_per_point;
}

void sim_point(const char *file, int line)
{
    struct sim_cpu *c = sim_me;

    if (!inside)
        return;
    c->file = file;
    c->line = line;
    points++;
    time_passes();
    mix((uint64_t)c->id << 32 | (uint32_t)line);
    if (--run_left <= 0) {
        if (!chance(stall_one_in)) {
            c->stalled_until = points + 100 + chance(8000);
            sim_note("stalls at %s:%d", file, line);
        }
        leave();
    }
    sim_interrupts(c);
}

uint64_t sim_engine_now(void)
{
    return now;
}

void sim_engine_progress(void)
{
    relaxes = 0;
}

void sim_engine_relax(void)
{
    if (++relaxes > RELAXES_LIMIT)
        sim_fail("CPUs wait for ever");
    time_passes();
    points++;
    sim_interrupts(sim_me);
    leave();
}

void sim_engine_wait(void)
{
    struct sim_cpu *c = sim_me;

    c->state = SIM_WAITING;
    leave();
    c->state = SIM_READY;
}

bool sim_engine_boundary(void)
{
    struct sim_cpu *c = sim_me;

    sim_engine_progress();
    if (check_due) {
        c->state = SIM_PARKED;
        leave();
        c->state = SIM_READY;
        return !check_due;
    }
    if (--run_left <= 0)
        leave();
    return !check_due;
}

bool sim_engine_turn(void)
{
    if (sim_finishing)
        return false;
    if (++turns >= sim_scenario->turns) {
        sim_finishing = true;
        check_due = true;
    } else if (turns % check_every == 0) {
        check_due = true;
    }
    return true;
}

/* --- who goes on --- */

static bool ready(const struct sim_cpu *c)
{
    return c->state == SIM_READY || sim_interrupt_waiting(c);
}

static struct sim_cpu *pick(void)
{
    struct sim_cpu *able[SIM_CPUS], *stalled = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < SIM_CPUS; i++) {
        struct sim_cpu *c = &sim_cpus[i];

        if (!ready(c))
            continue;
        if (c->stalled_until > points)
            stalled = !stalled || c->stalled_until < stalled->stalled_until ? c : stalled;
        else
            able[n++] = c;
    }
    if (n)
        return able[chance(n)];
    if (stalled)
        stalled->stalled_until = 0;
    return stalled;
}

static bool to_next_timer(void)
{
    uint64_t when = ~0ull;

    for (unsigned i = 0; i < SIM_CPUS; i++)
        when = MIN(when, sim_cpus[i].deadline);
    if (when == ~0ull)
        return false;
    now = MAX(now, when);
    return true;
}

/* All CPUs are between two turns: the checks. False: none was due. */
static bool check_if_due(void)
{
    if (!check_due)
        return false;
    sim_world_check();
    check_due = false;
    check_every = 1 + chance(24);
    for (unsigned i = 0; i < SIM_CPUS; i++)
        if (sim_cpus[i].state == SIM_PARKED)
            sim_cpus[i].state = SIM_READY;
    return true;
}

/* Nobody can go on. */
static void standstill(void)
{
    if (check_if_due())
        return;
    sim_world_lost_wakeups();
    if (sim_finishing)
        sim_cpus[0].state = SIM_READY;
    if (to_next_timer() || sim_finishing)
        return;
    sim_note("all sleep: woken");
    sim_world_rescue();
}

static void draw(void)
{
    static const uint32_t means[] = {1, 3, 10, 40, 200, 1000}, rates[] = {1, 20, 300, 5000, 20000};

    rng = sim_seed * 0x9e3779b97f4a7c15ull + 0x1234567;
    for (unsigned i = 0; i < 8; i++)
        (void)chance(2);
    mean = means[chance(ARRAY_SIZE(means))];
    ns_per_point = rates[chance(ARRAY_SIZE(rates))];
    stall_one_in = chance(2) ? 1u << (4 + chance(6)) : 1u << 30;
    check_every = 1 + chance(24);
}

/* The domains have gone, but a CPU may be in the middle of a timer's function: all come to where a turn would begin. */
static void come_to_rest(void)
{
    struct sim_cpu *c;

    check_due = true;
    while ((c = pick()))
        resume(c);
}

void sim_engine_run(void)
{
    uint64_t end = 0;

    draw();
    for (unsigned i = 0; i < SIM_CPUS; i++)
        coroutine_make(&sim_cpus[i]);
    while (!sim_gone) {
        struct sim_cpu *c = pick();

        if (c)
            resume(c);
        else
            standstill();
        if (sim_finishing && !end)
            end = now + END_LIMIT_NS;
        if (end && now > end)
            sim_fail("domains do not go away");
    }
    come_to_rest();
    if (sim_trace)
        fprintf(stderr, "%llu points, hash %016llx\n", (unsigned long long)points, (unsigned long long)hash);
}

/* --- reports --- */

uint64_t sim_hash(void);
uint64_t sim_hash(void)
{
    return hash;
}

void sim_note(const char *fmt, ...)
{
    char line[300];
    va_list ap;

    if (!sim_trace)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    fprintf(stderr, "%8llu %12llu ns CPU%c %s\n", (unsigned long long)points, (unsigned long long)now,
            sim_me ? (char)('0' + sim_me->id) : '-', line);
}

void sim_engine_report(void)
{
    static const char *const states[] = {"runs", "is idle", "waits for the check"};

    for (unsigned i = 0; i < SIM_CPUS; i++) {
        const struct sim_cpu *c = &sim_cpus[i];

        fprintf(stderr, "  CPU %u %s, d%uv%u%s%s, %s %lld, at %s:%d\n", i, states[c->state],
                c->current->domain->id.v, c->current->id, c->irqs_off ? ", interrupts off" : "",
                c->in_irq ? ", in an interrupt" : "", c->doing ? c->doing : "between turns", (long long)c->nr,
                c->file ? c->file : "?", c->line);
    }
}
