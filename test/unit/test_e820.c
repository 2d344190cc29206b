/*
 * Memory maps of bad firmware: holes, overlaps, wrapping, empty and unsorted entries (arch/x86/boot/e820.c), against a
 * byte-by-byte reading of the same rules.
 */
#include "fake.h"
#include "arch/x86/boot/private.h"
#include "lib/string.h"

static void check_sane(const struct e820_entry *map, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(map[i].size > 0);
        assert_in_range(map[i].type, 1, 5);
        if (!i)
            continue;
        assert_true(map[i - 1].addr + map[i - 1].size <= map[i].addr);
        if (map[i - 1].addr + map[i - 1].size == map[i].addr)
            assert_int_not_equal(map[i - 1].type, map[i].type);
    }
}

static uint32_t type_in(const struct e820_entry *map, unsigned n, uint64_t at)
{
    for (unsigned i = 0; i < n; i++)
        if (map[i].addr <= at && at - map[i].addr < map[i].size)
            return map[i].type;
    return 0;
}

static void ordinary_map_stays(void **state)
{
    const struct e820_entry raw[] = {
        {0, 0x9fc00, E820_RAM}, {0x9fc00, 0x400, E820_RESERVED}, {0x100000, 0x7ff00000, E820_RAM}};
    struct e820_entry out[8];

    assert_int_equal(e820_sanitize(raw, 3, out, 8), 3);
    assert_memory_equal(raw, out, sizeof(raw));
}

static void unsorted_and_neighbours_merge(void **state)
{
    const struct e820_entry raw[] = {
        {0x3000, 0x1000, E820_RAM}, {0x1000, 0x2000, E820_RAM}, {0x8000, 0, E820_RAM}};
    struct e820_entry out[8];

    assert_int_equal(e820_sanitize(raw, 3, out, 8), 1);
    assert_int_equal(out[0].addr, 0x1000);
    assert_int_equal(out[0].size, 0x3000);
}

static void the_more_restrictive_type_wins(void **state)
{
    const struct e820_entry raw[] = {{0, 0x100000, E820_RAM},
                                     {0x1000, 0x1000, E820_RESERVED},
                                     {0x1800, 0x1800, E820_ACPI},
                                     {0x5000, 0x1000, 77}};
    struct e820_entry out[16];
    unsigned n = e820_sanitize(raw, 4, out, 16);

    check_sane(out, n);
    assert_int_equal(type_in(out, n, 0xfff), E820_RAM);
    assert_int_equal(type_in(out, n, 0x1fff), E820_RESERVED);
    assert_int_equal(type_in(out, n, 0x2000), E820_ACPI);
    assert_int_equal(type_in(out, n, 0x3000), E820_RAM);
    assert_int_equal(type_in(out, n, 0x5000),
                     E820_RESERVED); /* a type that nobody knows is not ours to use */
}

static void wrapping_entry_ends_at_the_end(void **state)
{
    const struct e820_entry raw[] = {{0xfffffffffffff000ull, 0x2000, E820_RAM},
                                     {0x1000, ~0ull, E820_RESERVED}};
    struct e820_entry out[8];
    unsigned n = e820_sanitize(raw, 2, out, 8);

    check_sane(out, n);
    assert_int_equal(e820_ram(out, n), 0);
}

static void limit_cuts_ram_only(void **state)
{
    struct e820_entry map[] = {
        {0, 0x1000, E820_RAM}, {0x1000, 0x9000, E820_RESERVED}, {0xa000, 0x6000, E820_RAM}};
    unsigned n = e820_limit(map, 3, 0xc000);

    assert_int_equal(n, 3);
    assert_int_equal(map[2].size, 0x2000);
    assert_int_equal(e820_limit(map, 3, 0x800), 2);
    assert_int_equal(map[0].size, 0x800);
    assert_int_equal(map[1].type, E820_RESERVED);
}

static void too_many_entries_do_not_overflow(void **state)
{
    struct e820_entry raw[64], out[5];

    for (unsigned i = 0; i < 64; i++)
        raw[i] = (struct e820_entry){i * 0x2000ull, 0x1000, E820_RAM};
    assert_int_equal(e820_sanitize(raw, 64, out, 5), 5);
    check_sane(out, 5);
}

/* Random maps of small addresses against the definition, address by address. */
static void random_maps_agree_with_the_definition(void **state)
{
    static const unsigned rank[6] = {4, 1, 4, 2, 3, 5};
    uint64_t seed = 1;

    for (unsigned round = 0; round < 300; round++) {
        struct e820_entry raw[12], out[64];
        unsigned n;

        for (unsigned i = 0; i < 12; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            raw[i] = (struct e820_entry){seed >> 32 & 63, seed >> 40 & 31, (uint32_t)(1 + (seed >> 50) % 5)};
        }
        n = e820_sanitize(raw, 12, out, 64);
        check_sane(out, n);
        for (uint64_t at = 0; at < 128; at++) {
            uint32_t want = 0;

            for (unsigned i = 0; i < 12; i++)
                if (raw[i].addr <= at && at - raw[i].addr < raw[i].size &&
                    (!want || rank[raw[i].type] > rank[want]))
                    want = raw[i].type;
            assert_int_equal(type_in(out, n, at), want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_map_stays),
        cmocka_unit_test(unsorted_and_neighbours_merge),
        cmocka_unit_test(the_more_restrictive_type_wins),
        cmocka_unit_test(wrapping_entry_ends_at_the_end),
        cmocka_unit_test(limit_cuts_ram_only),
        cmocka_unit_test(too_many_entries_do_not_overflow),
        cmocka_unit_test(random_maps_agree_with_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
