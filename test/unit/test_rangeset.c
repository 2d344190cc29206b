/* Range sets against a bitmap: every step of a random walk, then the edges and the failing allocations. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"
#include "core/alloc.h"
#include "core/errno.h"
#include "core/rangeset.h"

#define N 300u

static struct rangeset set;
static uint8_t model[N];

static int setup(void **state)
{
    fake_setup(state);
    rangeset_init(&set);
    memset(model, 0, sizeof(model));
    return 0;
}

static int teardown(void **state)
{
    rangeset_destroy(&set);
    mem_room_check();
    return fake_teardown(state);
}

static bool model_contains(unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++)
        if (!model[i])
            return false;
    return true;
}

static void compare(void)
{
    unsigned ranges = 0;

    rangeset_check(&set);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(rangeset_contains(&set, i, i), model[i]);
        ranges += model[i] && (!i || !model[i - 1]);
    }
    assert_int_equal(set.count, ranges);
    assert_int_equal(rangeset_empty(&set), ranges == 0);
}

static void test_random_walk(void **state)
{
    srand(7);
    for (unsigned step = 0; step < 4000; step++) {
        unsigned first = (unsigned)rand() % N, len = 1 + (unsigned)rand() % (step % 3 ? 4 : 60);
        unsigned last = MIN(first + len - 1, N - 1), a = (unsigned)rand() % N, b = (unsigned)rand() % N;
        bool in = rand() & 1;

        assert_int_equal(in ? rangeset_add(&set, first, last) : rangeset_remove(&set, first, last), 0);
        memset(&model[first], in, last - first + 1);
        assert_int_equal(rangeset_contains(&set, MIN(a, b), MAX(a, b)), model_contains(MIN(a, b), MAX(a, b)));
        if (!(step % 16))
            compare();
    }
    compare();
}

static void test_edges(void **state)
{
    assert_int_equal(rangeset_add(&set, 5, 4), -EINVAL);
    assert_int_equal(rangeset_remove(&set, 5, 4), -EINVAL);
    assert_false(rangeset_contains(&set, 5, 4));
    assert_int_equal(rangeset_add(&set, 0, ~0ull), 0);
    assert_true(rangeset_contains(&set, 0, ~0ull));
    assert_int_equal(rangeset_add(&set, ~0ull, ~0ull), 0); /* nothing wraps */
    assert_int_equal(rangeset_add(&set, 0, 0), 0);
    assert_int_equal(set.count, 1);
    assert_int_equal(rangeset_remove(&set, ~0ull, ~0ull), 0);
    assert_int_equal(rangeset_remove(&set, 0, 0), 0);
    assert_true(rangeset_contains(&set, 1, ~0ull - 1) && !rangeset_contains(&set, 0, 1));
    assert_int_equal(rangeset_remove(&set, 100, 100), 0); /* in two */
    assert_true(set.count == 2 && !rangeset_contains(&set, 99, 101));
    assert_int_equal(rangeset_add(&set, 100, 100), 0);
    assert_int_equal(set.count, 1);
    rangeset_check(&set);
    assert_int_equal(rangeset_remove(&set, 0, ~0ull), 0);
    assert_true(rangeset_empty(&set));
}

/* Bounded: a toolstack that grants every second port does not eat the hypervisor's memory. */
static void test_bounded(void **state)
{
    unsigned i;

    for (i = 0; i < RANGESET_MAX; i++)
        assert_int_equal(rangeset_add(&set, i * 2, i * 2), 0);
    assert_int_equal(rangeset_add(&set, i * 2, i * 2), -ENOMEM);
    assert_false(rangeset_contains(&set, i * 2, i * 2));
    assert_int_equal(rangeset_add(&set, 4, 4), 0); /* what needs no room goes on, and takes none */
    assert_int_equal(rangeset_remove(&set, 6, 6), 0);
    assert_int_equal(rangeset_add(&set, i * 2, i * 2 + 7), 0);
    assert_int_equal(rangeset_remove(&set, i * 2 + 3, i * 2 + 3), -ENOMEM);
    rangeset_check(&set);
}

static void test_no_memory(void **state)
{
    fake_fail_mem = 1;
    assert_int_equal(rangeset_add(&set, 1, 2), -ENOMEM);
    assert_true(rangeset_empty(&set));
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(rangeset_add(&set, i * 10, i * 10 + 5), 0);
    fake_fail_mem = 1;
    assert_int_equal(rangeset_remove(&set, 2, 2), -ENOMEM); /* would be nine */
    assert_true(rangeset_contains(&set, 0, 5));
    rangeset_check(&set);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_random_walk), T(test_edges), T(test_bounded),
                                       T(test_no_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
