/* What a machine check means (arch/x86/policy/mce.c): every combination of the bits that count, against the rules said
 * in another way. */
#include "fake.h"
#include "x86/mce.h"

#define SER MCG_CAP_SER_P

static void one_bank(void **state)
{
    const struct {
        uint64_t cap, status;
        enum mce_verdict guest, krypton;
    } t[] = {
        {SER, 0, MCE_CONTINUE, MCE_CONTINUE},
        {SER, MCI_UNCORRECTED | MCI_CONTEXT_LOST, MCE_CONTINUE, MCE_CONTINUE}, /* not valid */
        {0, MCI_VALID, MCE_CONTINUE, MCE_CONTINUE},                            /* corrected */
        {0, MCI_VALID | MCI_OVERFLOW, MCE_CONTINUE, MCE_CONTINUE},             /* corrected, many */
        {0, MCI_VALID | MCI_UNCORRECTED, MCE_PANIC, MCE_PANIC},
        {SER, MCI_VALID | MCI_UNCORRECTED, MCE_CONTINUE, MCE_CONTINUE},
        {SER, MCI_VALID | MCI_UNCORRECTED | MCI_SIGNALED, MCE_CONTINUE, MCE_CONTINUE},
        {SER, MCI_VALID | MCI_UNCORRECTED | MCI_SIGNALED | MCI_ACTION, MCE_KILL_GUEST, MCE_PANIC},
        {SER, MCI_VALID | MCI_UNCORRECTED | MCI_SIGNALED | MCI_OVERFLOW, MCE_PANIC, MCE_PANIC},
        {SER, MCI_VALID | MCI_CONTEXT_LOST, MCE_PANIC, MCE_PANIC},
        {SER, MCI_VALID | MCI_UNCORRECTED | MCI_CONTEXT_LOST, MCE_PANIC, MCE_PANIC},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        assert_int_equal(mce_judge_bank(t[i].cap, t[i].status, true), t[i].guest);
        assert_int_equal(mce_judge_bank(t[i].cap, t[i].status, false), t[i].krypton);
    }
}

/* Whatever the bits are: lost context is never survived, Krypton never goes on where it used bad data, and a guest is
 * never killed for what Krypton was doing. */
static void all_bits(void **state)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t status = (i & 1 ? MCI_VALID : 0) | (i & 2 ? MCI_OVERFLOW : 0) |
                          (i & 4 ? MCI_UNCORRECTED : 0) | (i & 8 ? MCI_CONTEXT_LOST : 0) |
                          (i & 16 ? MCI_SIGNALED : 0) | (i & 32 ? MCI_ACTION : 0) |
                          (i & 64 ? MCI_ADDR_VALID : 0);
        enum mce_verdict g = mce_judge_bank(i & 128 ? SER : 0, status, true);
        enum mce_verdict k = mce_judge_bank(i & 128 ? SER : 0, status, false);

        assert_true(k != MCE_KILL_GUEST && k >= g);
        if (status & MCI_VALID && status & MCI_CONTEXT_LOST)
            assert_true(g == MCE_PANIC && k == MCE_PANIC);
        if (!(status & MCI_VALID) || !(status & (MCI_UNCORRECTED | MCI_CONTEXT_LOST)))
            assert_true(g == MCE_CONTINUE && k == MCE_CONTINUE);
    }
}

/* Reports come back oldest first, each class apart, once; what was fetched frees its place only when acknowledged. */
static void reports(void **state)
{
    struct mce_report r = {.urgent = false}, got;

    assert_false(mce_log_fetch(false, &got));
    for (unsigned i = 0; i < MCE_LOG_PLACES; i++) {
        r.urgent = i % 4 == 3;
        r.status = i;
        assert_true(mce_log_put(&r));
    }
    r.status = 99;
    assert_false(mce_log_put(&r)); /* full: the first ones stay */
    for (unsigned i = 0; i < MCE_LOG_PLACES; i++)
        if (i % 4 != 3) {
            assert_true(mce_log_fetch(false, &got));
            assert_int_equal(got.status, i);
            if (i == 0)
                assert_false(mce_log_put(&r)); /* its place is still ours */
            assert_false(mce_log_ack(true, got.id));
            assert_false(mce_log_ack(false, got.id + MCE_LOG_PLACES));
            if (i == 0) { /* it could not be handed over: the next fetch finds it again */
                uint64_t id = got.id;

                assert_true(mce_log_put_back(false, id));
                assert_true(mce_log_fetch(false, &got));
                assert_int_equal(got.id, id);
            }
            assert_true(mce_log_ack(false, got.id));
            assert_false(mce_log_ack(false, got.id));
        }
    assert_false(mce_log_fetch(false, &got));
    r.urgent = true;
    assert_true(mce_log_put(&r));
    for (unsigned i = 3; i < MCE_LOG_PLACES; i += 4) {
        assert_true(mce_log_fetch(true, &got));
        assert_int_equal(got.status, i);
        assert_true(mce_log_ack(true, got.id));
    }
    assert_true(mce_log_fetch(true, &got)); /* the new one came after all others, whatever its place */
    assert_int_equal(got.status, 99);
    assert_true(mce_log_ack(true, got.id));
    assert_false(mce_log_fetch(true, &got));
}

static void resumable(void **state)
{
    assert_int_equal(mce_judge(MCG_RIPV, MCE_CONTINUE, true), MCE_CONTINUE);
    assert_int_equal(mce_judge(MCG_RIPV, MCE_KILL_GUEST, true), MCE_KILL_GUEST);
    assert_int_equal(mce_judge(0, MCE_CONTINUE, true), MCE_KILL_GUEST);
    assert_int_equal(mce_judge(0, MCE_CONTINUE, false), MCE_PANIC);
    assert_int_equal(mce_judge(MCG_RIPV, MCE_PANIC, true), MCE_PANIC);
    assert_int_equal(mce_judge(0, MCE_PANIC, true), MCE_PANIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_bank), cmocka_unit_test(all_bits),
                                       cmocka_unit_test(reports), cmocka_unit_test(resumable)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
