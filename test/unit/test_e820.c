/* Memory maps as firmware really gives them: overlaps, holes, empty and wrapping entries
 * (arch/x86/boot/e820.c). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "arch/x86/boot/private.h"

#define ENTRIES 64

static void check_shape(const struct e820_entry *m, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(m[i].size > 0);
        assert_in_range(m[i].type, E820_RAM, E820_UNUSABLE);
        assert_true(m[i].addr + m[i].size <= 1ull << 52);
        if (!i)
            continue;
        assert_true(m[i - 1].addr + m[i - 1].size <= m[i].addr);
        assert_false(m[i - 1].addr + m[i - 1].size == m[i].addr && m[i - 1].type == m[i].type);
    }
}

static void plain_map(void **state)
{
    const struct e820_entry raw[] = {
        {0x100000, 0x1000000, E820_RAM}, {0, 0x9f000, E820_RAM}, {0xf0000, 0x10000, E820_RESERVED}};
    struct e820_entry out[ENTRIES];
    unsigned n = e820_sanitize(raw, 3, out, ENTRIES);

    assert_int_equal(n, 3);
    check_shape(out, n);
    assert_int_equal(out[0].addr, 0);
    assert_int_equal(out[2].size, 0x1000000);
    assert_int_equal(e820_ram(out, n), 0x109f000);
}

static void overlap_is_not_ram(void **state)
{
    const struct e820_entry raw[] = {{0x1000, 0x10000, E820_RAM}, {0x4000, 0x1000, E820_NVS}};
    struct e820_entry out[ENTRIES];
    unsigned n = e820_sanitize(raw, 2, out, ENTRIES);

    assert_int_equal(n, 3);
    assert_int_equal(out[1].type, E820_NVS);
    assert_int_equal(out[1].addr, 0x4000);
    assert_int_equal(e820_ram(out, n), 0xf000);
}

static void neighbours_merge(void **state)
{
    const struct e820_entry raw[] = {{0x3000, 0x1000, E820_RAM},
                                     {0x1000, 0x1000, E820_RAM},
                                     {0x2000, 0x1000, E820_RAM},
                                     {0x2800, 0, E820_RESERVED}};
    struct e820_entry out[ENTRIES];

    assert_int_equal(e820_sanitize(raw, 4, out, ENTRIES), 1);
    assert_int_equal(out[0].size, 0x3000);
}

static void wraps_and_unknown_types(void **state)
{
    const struct e820_entry raw[] = {
        {~0ull - 0xfff, 0x2000, E820_RAM}, {0x1000, ~0ull, 77}, {0, 0x2000, E820_RAM}};
    struct e820_entry out[ENTRIES];
    unsigned n = e820_sanitize(raw, 3, out, ENTRIES);

    check_shape(out, n);
    assert_int_equal(e820_ram(out, n), 0x1000);
    assert_int_equal(out[n - 1].type, E820_RESERVED);
}

static void empty_and_full(void **state)
{
    struct e820_entry raw[ENTRIES] = {{0}}, out[4];

    assert_int_equal(e820_sanitize(raw, 0, out, 4), 0);
    for (unsigned i = 0; i < ENTRIES; i++)
        raw[i] = (struct e820_entry){i * 0x2000, 0x1000, E820_RAM};
    assert_int_equal(e820_sanitize(raw, ENTRIES, out, 4), 4);
    check_shape(out, 4);
}

static void limit_cuts_ram_only(void **state)
{
    struct e820_entry m[] = {{0, 0x2000, E820_RAM}, {0x2000, 0x1000, E820_NVS}, {0x3000, 0x1000, E820_RAM}};
    unsigned n = e820_limit(m, 3, 0x1800);

    assert_int_equal(n, 2);
    assert_int_equal(m[0].size, 0x1800);
    assert_int_equal(m[1].type, E820_NVS);
    assert_int_equal(e820_limit(m, n, 0), 2);
}

/* Against a byte-for-byte model of a small address space. */
static unsigned rank(uint32_t t)
{
    return t == E820_RAM ? 1 : t == E820_ACPI ? 2 : t == E820_NVS ? 3 : t == E820_UNUSABLE ? 5 : 4;
}

static void random_maps(void **state)
{
    enum { SPACE = 256, ROUNDS = 3000 };

    srand(1);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct e820_entry raw[12], out[ENTRIES];
        unsigned count = (unsigned)rand() % 12, n, model[SPACE] = {0};

        for (unsigned i = 0; i < count; i++) {
            raw[i] =
                (struct e820_entry){(uint64_t)rand() % SPACE, (uint64_t)rand() % 64, (uint32_t)rand() % 8};
            for (uint64_t a = raw[i].addr; a < raw[i].addr + raw[i].size && a < SPACE; a++) {
                uint32_t t = raw[i].type >= 1 && raw[i].type <= 5 ? raw[i].type : E820_RESERVED;

                if (!model[a] || rank(t) > rank(model[a]))
                    model[a] = t;
            }
        }
        n = e820_sanitize(raw, count, out, ENTRIES);
        check_shape(out, n);
        for (uint64_t a = 0; a < SPACE; a++) {
            unsigned got = 0;

            for (unsigned i = 0; i < n; i++)
                if (a >= out[i].addr && a < out[i].addr + out[i].size)
                    got = out[i].type;
            assert_int_equal(got, model[a]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_map),        cmocka_unit_test(overlap_is_not_ram),
        cmocka_unit_test(neighbours_merge), cmocka_unit_test(wraps_and_unknown_types),
        cmocka_unit_test(empty_and_full),   cmocka_unit_test(limit_cuts_ram_only),
        cmocka_unit_test(random_maps),
    };

    return cmocka_run_group_tests_name("e820", tests, NULL, NULL);
}
