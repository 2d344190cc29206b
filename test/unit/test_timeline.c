/* The arithmetic of time: rates from 1 MHz to 100 GHz, bending, and what guests compute from the same
 * numbers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "arch/x86/platform/timeline.h"

static const uint64_t rates[] = {1000000,    1193182,     99999999,    500000000,    999999999,  1000000000,
                                 1000000001, 1999999999,  2000000000,  2000000001,   2399998123, 3999999999,
                                 4000000000, 4000000001u, 7654321987u, 100000000000u};

static void t_rates(void **state)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        struct timeline t = {.tsc = 1000, .ns = 77};
        uint64_t hour;

        timeline_set_rate(&t, rates[i]);
        assert_true(t.mul >= 0x7fffffff);
        /* An hour of cycles is an hour, to 2 ppb. */
        hour = timeline_at(&t, 1000 + rates[i] * 3600) - 77;
        assert_in_range(hour, 3600 * TIMELINE_BILLION - 7200, 3600 * TIMELINE_BILLION + 7200);
        /* Never backwards. */
        for (uint64_t c = 0, last = 0; c < 5000; c++) {
            uint64_t now = timeline_at(&t, c);

            assert_true(now >= last);
            last = now;
        }
        assert_int_equal(timeline_at(&t, 0), 77);
    }
}

/* A clock with an error, bent once a second, meets the truth and stays. */
static void t_bend(void **state)
{
    static const int64_t errors[] = {0, 50000, -50000, 90000000, -90000000};

    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        struct timeline t = {.ns = (uint64_t)(10 * (int64_t)TIMELINE_BILLION + errors[i])};
        uint64_t hz = 2400000000u, truth = 10 * TIMELINE_BILLION, last = 0;

        for (unsigned s = 0; s < 6; s++) {
            timeline_set_rate(&t, timeline_bend(hz, t.ns, truth));
            t.ns = timeline_at(&t, t.tsc + hz);
            t.tsc += hz;
            truth += TIMELINE_BILLION;
            assert_true(t.ns > last);
            last = t.ns;
        }
        assert_in_range(t.ns, truth - 2000, truth + 2000);
    }
}

/* A guest's counter of another frequency, scaled or made of time: the guest computes the same time from it. */
static void t_guests(void **state)
{
    static const uint64_t guests[] = {1000, 999999, 1000000, 2399998, 5000000, 100000000};

    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++)
        for (unsigned k = 0; k < ARRAY_SIZE(guests); k++) {
            uint64_t khz = rates[i] / 1000, ratio = (guests[k] << 32) / khz, start = khz * 1000 * 77;
            struct timeline host = {.tsc = start, .ns = 5 * TIMELINE_BILLION}, scaled, exact;

            timeline_set_rate(&host, khz * 1000);
            if (!ratio || ratio >> 40)
                continue;
            scaled = exact = host;
            timeline_scale(&scaled, ratio);
            timeline_exact(&exact, (guests[k] << 32) / 1000000, guests[k] * 1000);
            assert_true(scaled.mul >= 0x7fffffff);
            for (unsigned s = 0; s < 3; s++) {
                uint64_t tsc = start + khz * 1000 * s, want = timeline_at(&host, tsc);
                uint64_t its = (uint64_t)((unsigned __int128)tsc * ratio >> 32);
                uint64_t made = (uint64_t)((unsigned __int128)want * ((guests[k] << 32) / 1000000) >> 32);
                uint64_t grain =
                    1000000 / guests[k] + 10; /* of one tick, and what 32 bits of fraction lose */

                assert_in_range(timeline_at(&scaled, its), want - grain, want + grain);
                assert_in_range(timeline_at(&exact, made), want - grain, want + grain);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(t_rates), cmocka_unit_test(t_bend),
                                       cmocka_unit_test(t_guests)};

    return cmocka_run_group_tests_name("timeline", tests, NULL, NULL);
}
