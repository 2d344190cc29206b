/* Locks: exclusion, order of ranks, misuse. */
#include "fake.h"
#include "core/lock.h"

static struct spinlock domain_lock = SPINLOCK_INIT(RANK_DOMAIN), other = SPINLOCK_INIT(RANK_DOMAIN),
                       heap = SPINLOCK_INIT(RANK_HEAP), timer = SPINLOCK_INIT(RANK_TIMER);

static int fresh(void **state)
{
    spin_init(&domain_lock, RANK_DOMAIN);
    spin_init(&other, RANK_DOMAIN);
    spin_init(&heap, RANK_HEAP);
    spin_init(&timer, RANK_TIMER);
    return fake_setup(state);
}

static void lock_and_unlock(void **state)
{
    for (unsigned i = 0; i < 70000; i++) { /* tickets wrap */
        spin_lock(&domain_lock);
        assert_true(spin_is_locked(&domain_lock));
        spin_assert_held(&domain_lock);
        spin_unlock(&domain_lock);
        assert_false(spin_is_locked(&domain_lock));
    }
    lock_assert_none();
}

static void trylock(void **state)
{
    for (unsigned i = 0; i < 70000; i++) {
        assert_true(spin_trylock(&domain_lock));
        fake_cpu = 1;
        assert_false(spin_trylock(&domain_lock));
        fake_cpu = 0;
        spin_unlock(&domain_lock);
    }
    spin_lock(&heap);
    assert_true(spin_trylock(&domain_lock)); /* out of order, but it cannot wait */
    spin_unlock(&domain_lock);
    spin_unlock(&heap);
}

static void ranks(void **state)
{
    spin_lock(&domain_lock);
    spin_lock(&heap);
    spin_unlock(&domain_lock); /* any order of release */
    expect_panic("lock order", spin_lock(&other));
}

static void same_rank(void **state)
{
    spin_lock(&domain_lock);
    spin_lock_second(&other);
    spin_unlock(&other);
    expect_panic("lock order", spin_lock(&other));
}

static void second_needs_a_first(void **state)
{
    spin_lock(&domain_lock);
    spin_lock(&heap);
    expect_panic("lock order", spin_lock_second(&other));
}

static void twice(void **state)
{
    spin_lock(&domain_lock);
    expect_panic("taken twice", spin_lock(&domain_lock));
}

static void not_mine(void **state)
{
    expect_panic("should be held", spin_assert_held(&domain_lock));
    spin_lock(&domain_lock);
    fake_cpu = 1;
    expect_panic("does not hold", spin_unlock(&domain_lock));
}

static void never_initialised(void **state)
{
    struct spinlock zero = {0};

    expect_panic("never initialised", spin_lock(&zero));
}

static void interrupts(void **state)
{
    unsigned long flags = spin_lock_irq(&timer);

    assert_false(arch_irq_enabled());
    spin_unlock_irq(&timer, flags);
    assert_true(arch_irq_enabled());
    expect_panic("arch_irq_enabled", spin_lock(&timer));
}

static void none_may_be_held(void **state)
{
    lock_assert_none();
    spin_lock(&heap);
    expect_panic("locks held", lock_assert_none());
}

static void a_lock_held_elsewhere_waits(void **state)
{
    spin_lock(&domain_lock);
    fake_cpu = 1;
    expect_panic("spins for ever", spin_lock(&domain_lock));
}

static void readers_and_writer(void **state)
{
    struct rwlock l;

    rw_init(&l, RANK_PHYSMAP);
    read_lock(&l);
    fake_cpu = 1;
    read_lock(&l);
    read_unlock(&l);
    expect_panic("spins for ever", write_lock(&l)); /* CPU 0 reads */
}

static void writer_keeps_readers_out(void **state)
{
    struct rwlock l;

    rw_init(&l, RANK_PHYSMAP);
    write_lock(&l);
    write_unlock(&l);
    read_lock(&l);
    read_unlock(&l);
    write_lock(&l);
    fake_cpu = 1;
    expect_panic("spins for ever", read_lock(&l));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, fake_teardown)
    const struct CMUnitTest tests[] = {
        T(lock_and_unlock),
        T(trylock),
        T(ranks),
        T(same_rank),
        T(twice),
        T(second_needs_a_first),
        T(not_mine),
        T(never_initialised),
        T(interrupts),
        T(none_may_be_held),
        T(readers_and_writer),
        T(a_lock_held_elsewhere_waits),
        T(writer_keeps_readers_out),
    };

    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
