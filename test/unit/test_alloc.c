/* Small objects: sizes, alignment, zeroing, reuse, misuse, exhaustion, and a random model. */
#include "fake.h"
#include "core/alloc.h"
#include "lib/string.h"

#include <stdlib.h>

static uint64_t free_now(void)
{
    struct frame_info i;

    frame_info(&i);
    return i.free;
}

static bool filled(const unsigned char *p, size_t n, unsigned char with)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != with)
            return false;
    return true;
}

static void sizes_alignment_zero(void **state)
{
    for (size_t n = 0; n <= 9000; n += n < 300 ? 1 : 97) {
        unsigned char *a = mem_alloc(n), *b = mem_alloc(n);

        assert_non_null(a);
        assert_non_null(b);
        assert_ptr_not_equal(a, b);
        assert_int_equal((uintptr_t)a % (n >= 64 ? 64 : 16), 0);
        assert_true(filled(a, n, 0) && filled(b, n, 0));
        memset(a, 0xff, n);
        assert_true(filled(b, n, 0));
        memset(b, 0xee, n);
        assert_true(filled(a, n, 0xff));
        mem_free(a);
        mem_free(b);
        mem_room_check();
    }
    frame_room_check();
}

static void memory_comes_back(void **state)
{
    static void *p[3000];
    uint64_t before = free_now();
    size_t sizes[] = {16, 40, 64, 200, 500, 1000, 2000, 5000};

    for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
        unsigned n = 0;

        while (n < 3000 && (p[n] = mem_alloc(sizes[s])))
            n++;
        assert_true(n > 500);
        mem_room_check();
        for (unsigned i = 0; i < n; i++)
            mem_free(p[(i * 7919) % n]);
        mem_room_check();
    }
    frame_room_check();
    /* One empty slab per class may stay, of at most 8 frames. */
    assert_in_range(before - free_now(), 0, 13 * 8);
}

static void arrays_do_not_overflow(void **state)
{
    void *p = mem_alloc_array(10, 10);

    assert_non_null(p);
    mem_free(p);
    assert_null(mem_alloc_array(1ull << 33, 1ull << 33));
    assert_null(mem_alloc_array(~0ull, 2));
    assert_null(mem_alloc(~0ull));
    assert_null(mem_alloc(~0ull - 4095));
    assert_null(mem_alloc(1ull << 40));
    mem_free(NULL);
}

static void large_ones_are_trimmed(void **state)
{
    uint64_t before = free_now();
    char *p = mem_alloc(5 * FRAME_SIZE + 1);

    assert_int_equal(before - free_now(), 6);
    p[5 * FRAME_SIZE] = 1;
    mem_free(p);
    assert_int_equal(free_now(), before);
    frame_room_check();
}

static void failures(void **state)
{
    void *p;

    fake_fail_alloc = 1;
    assert_null(mem_alloc(100));
    fake_fail_alloc = 1;
    assert_null(mem_alloc(10000));
    fake_fail_mem = 1;
    assert_null(mem_alloc(100));
    p = mem_alloc(100);
    assert_non_null(p);
    mem_free(p);
    mem_room_check();
}

static void misuse_panics(void **state)
{
    char *p = mem_alloc(100), *q = mem_alloc(100);
    mfn_t m;

    mem_free(p);
    expect_panic("pattern", mem_free(p));
    expect_panic("BUG", mem_free(q + 1));
    assert_true(frame_alloc(0, 0, FRAME_ANY_NODE, &m));
    expect_panic("not from mem_alloc", mem_free(arch_frame_va(m)));
    mem_free(q);
}

#define SLOTS 500

static void model(void **state)
{
    static struct {
        unsigned char *p;
        size_t n;
        unsigned char with;
    } s[SLOTS];
    unsigned rng = 3;

    memset(s, 0, sizeof(s));
    for (unsigned step = 0; step < 40000; step++) {
        unsigned i = (unsigned)rand_r(&rng) % SLOTS;

        if (s[i].p) {
            assert_true(filled(s[i].p, s[i].n, s[i].with));
            mem_free(s[i].p);
            s[i].p = NULL;
        } else {
            s[i].n = 1 + (unsigned)rand_r(&rng) % (rand_r(&rng) % 4 ? 300 : 6000);
            s[i].with = (unsigned char)(step | 1);
            s[i].p = mem_alloc(s[i].n);
            assert_non_null(s[i].p);
            assert_true(filled(s[i].p, s[i].n, 0));
            memset(s[i].p, s[i].with, s[i].n);
        }
        if (step % 4000 == 0)
            mem_room_check();
    }
    for (unsigned i = 0; i < SLOTS; i++)
        mem_free(s[i].p);
    mem_room_check();
    frame_room_check();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fake_setup, fake_teardown)
    const struct CMUnitTest tests[] = {
        T(sizes_alignment_zero),
        T(memory_comes_back),
        T(arrays_do_not_overflow),
        T(large_ones_are_trimmed),
        T(failures),
        T(misuse_panics),
        T(model),
    };

    return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
