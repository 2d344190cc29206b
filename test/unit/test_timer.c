/* Timers and deferred work: order, re-arming, migration, killing; and a random model of the queue. */
#include "fake.h"
#include "core/timer.h"
#include "core/work.h"

#include <stdlib.h>

#define CPUS 4

static int group_setup(void **state)
{
    fake_start(4096, CPUS);
    for (unsigned c = 0; c < CPUS; c++)
        timers_init_cpu(c);
    return 0;
}
static int group_teardown(void **state)
{
    timer_room_check();
    fake_stop();
    return 0;
}

static unsigned log_n;
static uintptr_t log_what[64];
static uint64_t log_when[64];

static void note(void *data)
{
    log_what[log_n] = (uintptr_t)data;
    log_when[log_n++] = fake_now;
}

static void fires_in_order(void **state)
{
    struct timer t[5];
    static const unsigned at[] = {50, 10, 30, 20, 30};
    uint64_t start = fake_now;

    log_n = 0;
    for (unsigned i = 0; i < 5; i++) {
        timer_init(&t[i], note, (void *)(uintptr_t)i, i % CPUS);
        timer_set(&t[i], start + at[i]);
    }
    timer_room_check();
    fake_run_until(start + 100);
    assert_int_equal(log_n, 5);
    assert_int_equal(log_what[0], 1);
    assert_int_equal(log_what[1], 3);
    assert_int_equal(log_what[4], 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(log_when[i], start + at[log_what[i]]);
}

static void stop_and_rearm(void **state)
{
    struct timer a, b;
    uint64_t start = fake_now;

    log_n = 0;
    timer_init(&a, note, (void *)1, 0);
    timer_init(&b, note, (void *)2, 0);
    timer_set(&a, start + 10);
    timer_set(&b, start + 20);
    timer_stop(&a);
    timer_set(&b, start + 40);
    timer_set(&b, start + 30);
    fake_run_until(start + 35);
    assert_int_equal(log_n, 1);
    assert_int_equal(log_what[0], 2);
    assert_int_equal(log_when[0], start + 30);
    timer_stop(&b); /* not queued: nothing happens */
}

static void past_fires_soon(void **state)
{
    struct timer a;

    log_n = 0;
    timer_init(&a, note, NULL, 1);
    timer_set(&a, 5);
    assert_true(fake_kicked[1]); /* CPU 1 has to program its hardware */
    fake_run_until(fake_now + 1);
    assert_int_equal(log_n, 1);
}

static void migrates_with_deadline(void **state)
{
    struct timer a;
    uint64_t start = fake_now;

    log_n = 0;
    timer_init(&a, note, NULL, 0);
    timer_set(&a, start + 500);
    timer_migrate(&a, 3);
    timer_migrate(&a, 3);
    timer_room_check();
    fake_settle();
    assert_int_equal(fake_timer_deadline[3], start + 500);
    timer_migrate(&a, 1);
    fake_run_until(start + 1000);
    assert_int_equal(log_n, 1);
    assert_int_equal(log_when[0], start + 500);
}

static void killed_is_dead(void **state)
{
    struct timer a;

    log_n = 0;
    timer_init(&a, note, NULL, 2);
    timer_set(&a, fake_now + 10);
    timer_kill(&a);
    timer_set(&a, fake_now + 20);
    timer_migrate(&a, 1);
    fake_run_until(fake_now + 100);
    assert_int_equal(log_n, 0);
    timer_kill(&a);
}

static void free_self(void *data)
{
    struct timer *t = data;

    timer_kill(t); /* from its own function: does not wait */
    free(t);
    log_n++;
}

static void may_free_itself(void **state)
{
    struct timer *t = malloc(sizeof(*t));

    log_n = 0;
    timer_init(t, free_self, t, 0);
    timer_set(t, fake_now + 1);
    fake_run_until(fake_now + 10);
    assert_int_equal(log_n, 1);
}

static struct timer again;
static void rearm_past(void *data)
{
    if (++log_n < 10)
        timer_set(&again, 1); /* must not keep the CPU in timers_run for ever */
}

static void rearm_in_the_past_yields(void **state)
{
    log_n = 0;
    timer_init(&again, rearm_past, NULL, 0);
    timer_set(&again, fake_now);
    work_raise(WORK_TIMER);
    work_run();
    assert_int_equal(log_n, 1);
    fake_run_until(fake_now + 100);
    assert_int_equal(log_n, 10);
}

/* Random operations on 200 timers against a plain array of deadlines. */
#define N 200
static uint64_t model[N]; /* 0 = not set */
static unsigned fired;
static void model_fire(void *data)
{
    unsigned i = (unsigned)(uintptr_t)data;

    assert_true(model[i] && model[i] <= fake_now);
    model[i] = 0;
    fired++;
}

static void random_model(void **state)
{
    static struct timer t[N];

    srand(7);
    for (unsigned i = 0; i < N; i++)
        timer_init(&t[i], model_fire, (void *)(uintptr_t)i, i % CPUS);
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i = (unsigned)rand() % N;

        fake_cpu = (unsigned)rand() % CPUS;
        switch (rand() % 8) {
        case 0:
            timer_stop(&t[i]);
            model[i] = 0;
            break;
        case 1:
            timer_migrate(&t[i], (unsigned)rand() % CPUS);
            break;
        case 2:
            fake_run_until(fake_now + (unsigned)rand() % 300);
            for (unsigned k = 0; k < N; k++)
                assert_true(!model[k] || model[k] > fake_now);
            break;
        default:
            model[i] = fake_now + (unsigned)rand() % 2000 + 1;
            timer_set(&t[i], model[i]);
        }
        if (step % 256 == 0)
            timer_room_check();
    }
    assert_true(fired > 1000);
    fake_cpu = 0;
    for (unsigned i = 0; i < N; i++)
        timer_kill(&t[i]);
    timer_room_check();
}

/* --- deferred work --- */

static unsigned ran[WORK_COUNT];
static void on_arch(void)
{
    ran[WORK_ARCH]++;
}

static void raise_remote_kicks_once(void **state)
{
    uint32_t kicks = fake_kicks[2];

    work_register(WORK_ARCH, on_arch);
    work_raise_cpu(2, WORK_ARCH);
    work_raise_cpu(2, WORK_ARCH);
    assert_int_equal(fake_kicks[2], kicks + 1);
    assert_false(work_pending());
    assert_false(preempt_needed());
    fake_cpu = 2;
    assert_true(work_pending());
    assert_true(preempt_needed());
    fake_cpu = 0;
    fake_settle();
    assert_int_equal(ran[WORK_ARCH], 1);
    work_raise_cpu(0, WORK_ARCH); /* self: no IPI */
    assert_true(work_pending());
    assert_false(fake_kicked[0]);
    work_run();
    assert_int_equal(ran[WORK_ARCH], 2);
}

static struct tasklet self;
static unsigned tasklet_runs;
static void tasklet_again(void *data)
{
    tasklet_runs++;
    tasklet_schedule(&self);
}

static void tasklet_cannot_hog(void **state)
{
    tasklet_init(&self, tasklet_again, NULL);
    tasklet_schedule(&self);
    tasklet_schedule(&self); /* queued already */
    work_raise(WORK_ARCH);
    ran[WORK_ARCH] = 0;
    work_run();
    assert_int_equal(tasklet_runs, 1);
    assert_int_equal(ran[WORK_ARCH], 1); /* what comes after tasklets had its turn */
    assert_true(work_pending());
    self.fn = note;
    work_run();
    assert_false(work_pending());
}

static unsigned order[3], order_n;
static void tasklet_note(void *data)
{
    order[order_n++] = (unsigned)(uintptr_t)data;
}
static void tasklets_in_order(void **state)
{
    struct tasklet t[3];

    for (unsigned i = 0; i < 3; i++) {
        tasklet_init(&t[i], tasklet_note, (void *)(uintptr_t)i);
        tasklet_schedule(&t[i]);
    }
    work_run();
    assert_int_equal(order_n, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(order[i], i);
}

static void dump_is_safe(void **state)
{
    struct timer t;

    timer_init(&t, note, NULL, 0);
    timer_set(&t, fake_now + 1000);
    timer_dump();
    timer_kill(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_in_order),           cmocka_unit_test(stop_and_rearm),
        cmocka_unit_test(past_fires_soon),          cmocka_unit_test(migrates_with_deadline),
        cmocka_unit_test(killed_is_dead),           cmocka_unit_test(may_free_itself),
        cmocka_unit_test(rearm_in_the_past_yields), cmocka_unit_test(random_model),
        cmocka_unit_test(raise_remote_kicks_once),  cmocka_unit_test(tasklet_cannot_hog),
        cmocka_unit_test(tasklets_in_order),        cmocka_unit_test(dump_is_safe),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
