/*
 * The ACPI parser on made-up machines: what it reads, and that truncated, corrupt and hostile tables make it
 * complain and go on, never read outside them. Every table lives in its own heap block of exactly its length:
 * ASan sees a byte too many.
 */
#include <stdlib.h>
#include "fake.h"
#include "arch/x86/platform/acpi_parse.h"
#include "lib/string.h"

#define MAX_BLOCKS 80

static struct {
    uint64_t pa;
    uint8_t *p;
    size_t len;
} block[MAX_BLOCKS];
static unsigned blocks;

static uint8_t *add_block(uint64_t pa, size_t len)
{
    assert_true(blocks < MAX_BLOCKS);
    block[blocks].pa = pa;
    block[blocks].p = calloc(1, len ? len : 1);
    block[blocks].len = len;
    return block[blocks++].p;
}

static const void *map(void *ctx, uint64_t pa, size_t len)
{
    for (unsigned i = 0; i < blocks; i++)
        if (pa >= block[i].pa && pa - block[i].pa <= block[i].len && len <= block[i].len - (pa - block[i].pa))
            return block[i].p + (pa - block[i].pa);
    return NULL;
}

static const struct acpi_source src = {map, NULL};

static void put(uint8_t *p, unsigned off, unsigned n, uint64_t v)
{
    memcpy(p + off, &v, n);
}

static void fix_sum(uint8_t *p, size_t len, unsigned at)
{
    uint8_t s = 0;

    p[at] = 0;
    for (size_t i = 0; i < len; i++)
        s = (uint8_t)(s + p[i]);
    p[at] = (uint8_t)-s;
}

/* A table that is being written. */
struct build {
    uint8_t bytes[4096];
    uint32_t len;
};

static void b_start(struct build *b, const char *sig, uint32_t len)
{
    memset(b, 0, sizeof(*b));
    memcpy(b->bytes, sig, 4);
    b->len = len;
}

static void b_add(struct build *b, const void *p, uint32_t n)
{
    memcpy(b->bytes + b->len, p, n);
    b->len += n;
}

static uint64_t b_done(struct build *b, uint64_t pa)
{
    uint8_t *p;

    put(b->bytes, 4, 4, b->len);
    fix_sum(b->bytes, b->len, 9);
    p = add_block(pa, b->len);
    memcpy(p, b->bytes, b->len);
    return pa;
}

static uint64_t madt(uint64_t pa, unsigned cpus)
{
    struct build b;

    b_start(&b, "APIC", 44);
    put(b.bytes, 36, 4, 0xfee00000);
    put(b.bytes, 40, 4, 1);
    for (unsigned i = 0; i < cpus; i++)
        b_add(&b, (uint8_t[]){0, 8, (uint8_t)(i + 10), (uint8_t)(i * 2), 1, 0, 0, 0}, 8);
    b_add(&b, (uint8_t[]){0, 8, 99, 77, 0, 0, 0, 0}, 8);                           /* not enabled */
    b_add(&b, (uint8_t[]){9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 200, 0, 0, 0}, 16); /* x2APIC id 256 */
    b_add(&b, (uint8_t[]){1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0}, 12);         /* IO-APIC */
    b_add(&b, (uint8_t[]){2, 10, 0, 0, 2, 0, 0, 0, 0, 0}, 10);                     /* irq 0 -> 2 */
    b_add(&b, (uint8_t[]){2, 10, 0, 9, 9, 0, 0, 0, 0x0f, 0}, 10);                  /* 9: level, low */
    b_add(&b, (uint8_t[]){4, 6, 0xff, 5, 0, 1}, 6);                                /* NMI on LINT1 */
    b_add(&b, (uint8_t[]){5, 12, 0, 0, 0, 0, 0xe1, 0xfe, 0, 0, 0, 0}, 12);         /* LAPIC elsewhere */
    b_add(&b, (uint8_t[]){0x42, 4, 1, 2}, 4);                                      /* unknown type */
    return b_done(&b, pa);
}

static uint64_t fadt(uint64_t pa, uint64_t dsdt)
{
    struct build b;

    b_start(&b, "FACP", 244);
    put(b.bytes, 46, 2, 9);
    put(b.bytes, 48, 4, 0xb2);
    put(b.bytes, 56, 4, 0x600);
    put(b.bytes, 64, 4, 0x604);
    put(b.bytes, 76, 4, 0x608);
    put(b.bytes, 88, 1, 4);
    put(b.bytes, 91, 1, 4);
    put(b.bytes, 108, 1, 0x32);
    put(b.bytes, 112, 4, 1u << 8 | 1u << 10);
    put(b.bytes, 116, 1, 1);
    put(b.bytes, 120, 8, 0xcf9);
    put(b.bytes, 128, 1, 0x0f);
    put(b.bytes, 140, 8, dsdt);
    put(b.bytes, 172, 1, 1); /* X_PM1a_CNT: another port than the old field */
    put(b.bytes, 176, 8, 0x704);
    return b_done(&b, pa);
}

static uint64_t aml(uint64_t pa, const char *sig, const void *code, unsigned n)
{
    struct build b;

    b_start(&b, sig, 36);
    b_add(&b, "junk_S5_more", 12); /* the name without NameOp is not it */
    b_add(&b, code, n);
    return b_done(&b, pa);
}

static uint64_t root(uint64_t pa, const char *sig, unsigned width, const uint64_t *tables, unsigned n)
{
    struct build b;

    b_start(&b, sig, 36);
    for (unsigned i = 0; i < n; i++)
        b_add(&b, &tables[i], width);
    return b_done(&b, pa);
}

static uint64_t rsdp(uint64_t pa, uint64_t rsdt, uint64_t xsdt)
{
    uint8_t *p = add_block(pa, 36);

    memcpy(p, "RSD PTR ", 8);
    p[15] = xsdt ? 2 : 0;
    put(p, 16, 4, rsdt);
    put(p, 20, 4, 36);
    put(p, 24, 8, xsdt);
    fix_sum(p, 20, 8);
    fix_sum(p, 36, 32);
    return pa;
}

static const uint8_t s5_code[] = {0x08, '_', 'S', '5', '_', 0x12, 0x07, 4, 0x0a, 5, 0x01, 0, 0};

static uint64_t whole_machine(void)
{
    struct build b;
    uint64_t t[8];
    unsigned n = 0;

    t[n++] = madt(0x10000, 3);
    t[n++] = fadt(0x11000, aml(0x12000, "DSDT", s5_code, sizeof(s5_code)));
    b_start(&b, "HPET", 56);
    put(b.bytes, 44, 8, 0xfed00000);
    t[n++] = b_done(&b, 0x13000);
    b_start(&b, "MCFG", 44);
    b_add(&b, (uint8_t[]){0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0}, 16);
    b_add(&b, (uint8_t[]){0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 9, 3, 0, 0, 0, 0},
          16); /* first bus after the last */
    t[n++] = b_done(&b, 0x14000);
    b_start(&b, "SRAT", 48);
    b_add(&b, (uint8_t[]){0, 16, 7, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 16); /* CPU apic 2 in domain 7 */
    b_add(&b, (uint8_t[40]){[0] = 1, [1] = 40, [2] = 3, [19] = 0x40, [28] = 1}, 40);
    t[n++] = b_done(&b, 0x15000);
    b_start(&b, "SLIT", 44);
    put(b.bytes, 36, 8, 8);
    for (unsigned i = 0; i < 64; i++)
        b_add(&b, (uint8_t[]){i / 8 == i % 8 ? 10 : (uint8_t)(20 + i % 8)}, 1);
    t[n++] = b_done(&b, 0x16000);
    return rsdp(0x1000, 0, root(0x2000, "XSDT", 8, t, n));
}

static struct acpi_facts f;

static void t_whole(void **state)
{
    assert_int_equal(acpi_parse(&src, whole_machine(), &f), 1); /* the bad MCFG entry */
    assert_int_equal(f.cpu_count, 5);
    assert_false(f.madt_cut);
    assert_int_equal(acpi_usable_cpus(&f), 4);
    assert_int_equal(f.cpu[1].apic_id, 2);
    assert_int_equal(f.cpu[1].acpi_id, 11);
    assert_int_equal(f.cpu[4].apic_id, 256);
    assert_int_equal(f.cpu[4].acpi_id, 200);
    assert_int_equal(f.lapic_base.a, 0xfee10000);
    assert_int_equal(f.ioapic_count, 1);
    assert_int_equal(f.ioapic[0].base.a, 0xfec00000);
    assert_int_equal(f.override_count, 2);
    assert_true(f.override[1].level && f.override[1].low && !f.override[0].level);
    assert_int_equal(f.nmi_count, 1);
    assert_int_equal(f.nmi[0].acpi_id, ~0u);
    assert_int_equal(f.pm1a_cnt, 0x704);
    assert_int_equal(f.pm1a_evt, 0x600);
    assert_int_equal(f.pm_timer_port, 0x608);
    assert_true(f.pm_timer_32 && f.reset_valid && f.pcat_compat && !f.hw_reduced);
    assert_int_equal(f.rtc_century, 0x32);
    assert_true(f.s5_valid);
    assert_int_equal(f.s5_typ_a, 5);
    assert_int_equal(f.s5_typ_b, 1);
    assert_int_equal(f.hpet_base.a, 0xfed00000);
    assert_int_equal(f.mcfg_count, 1);
    assert_int_equal(f.node_count, 2);
    assert_int_equal(f.node_mem[0].size, 0x40000000);
    assert_int_equal(f.node_mem[0].node, 1);
    assert_int_equal(f.cpu[1].node, 0);
    assert_true(f.node_distance_valid);
    assert_int_equal(f.node_distance[0][0], 10);
    assert_int_equal(f.node_distance[0][1], 23);
}

/* Revision 0, 32-bit root, S5 only in an SSDT, with a prefixed name and word constants. */
static void t_old(void **state)
{
    static const uint8_t code[] = {0x08, '\\', '_',  'S', '5', '_', 0x12, 0x0a, 4, 0x0b,
                                   7,    0,    0x0c, 6,   0,   0,   0,    0,    0};
    uint64_t t[3] = {madt(0x10000, 1), fadt(0x11000, 0), aml(0x12000, "SSDT", code, sizeof(code))};

    assert_int_equal(acpi_parse(&src, rsdp(0x1000, root(0x2000, "RSDT", 4, t, 3), 0), &f), 0);
    assert_int_equal(acpi_usable_cpus(&f), 2);
    assert_true(f.s5_valid);
    assert_int_equal(f.s5_typ_a, 7);
    assert_int_equal(f.s5_typ_b, 6);
}

static void t_xsdt_broken_rsdt_used(void **state)
{
    uint64_t t[2] = {madt(0x10000, 1), fadt(0x11000, 0)}, x = root(0x3000, "XSDT", 8, t, 2);

    block[blocks - 1].p[40] ^= 1;
    assert_true(acpi_parse(&src, rsdp(0x1000, root(0x2000, "RSDT", 4, t, 2), x), &f) > 0);
    assert_int_equal(acpi_usable_cpus(&f), 2);
}

static void t_no_root(void **state)
{
    assert_int_equal(acpi_parse(&src, 0x1000, &f), -1);
    assert_int_equal(acpi_parse(&src, rsdp(0x1000, 0x5000, 0x6000), &f), -1);
}

static void t_no_cpu(void **state)
{
    struct build b;
    uint64_t t[1];

    b_start(&b, "APIC", 44);
    b_add(&b, (uint8_t[]){0, 8, 1, 1, 0, 0, 0, 0}, 8);
    t[0] = b_done(&b, 0x10000);
    assert_true(acpi_parse(&src, rsdp(0x1000, 0, root(0x2000, "XSDT", 8, t, 1)), &f) > 0); /* no FADT */
    assert_int_equal(acpi_usable_cpus(&f), 0);
}

/* What follows an entry of an impossible length is lost, and the caller must know. */
static void t_cut(void **state)
{
    static const uint8_t lengths[] = {0, 1, 200};

    for (unsigned i = 0; i < sizeof(lengths); i++) {
        struct build b;
        uint64_t t[2], base = 0x100000 * (i + 1);

        b_start(&b, "APIC", 44);
        b_add(&b, (uint8_t[]){0, 8, 1, 1, 1, 0, 0, 0}, 8);
        b_add(&b, (uint8_t[]){2, lengths[i], 0, 0}, 4);
        t[0] = b_done(&b, base + 0x10000);
        t[1] = fadt(base + 0x11000, 0);
        assert_int_equal(acpi_parse(&src, rsdp(base + 0x1000, 0, root(base + 0x2000, "XSDT", 8, t, 2)), &f),
                         1);
        assert_int_equal(acpi_usable_cpus(&f), 1);
        assert_true(f.madt_cut);
    }
}

static void t_too_many(void **state)
{
    struct build b;
    uint64_t t[1];

    b_start(&b, "APIC", 44);
    for (unsigned i = 0; i < 20; i++)
        b_add(&b,
              (uint8_t[]){1, 12, 3, 0, 0, (uint8_t)(i << 4), 0xc0, 0xfe, (uint8_t)(i * 24),
                          (uint8_t)(i * 24 >> 8), 0, 0},
              12);
    for (unsigned i = 0; i < 40; i++)
        b_add(&b, (uint8_t[]){2, 10, 0, i % 16, 2, 0, 0, 0, 0, 0}, 10);
    for (unsigned i = 0; i < 20; i++)
        b_add(&b, (uint8_t[]){4, 6, 0xff, 5, 0, i & 1}, 6);
    for (unsigned i = 0; i < 200; i++)
        b_add(&b, (uint8_t[]){9, 16, 0, 0, (uint8_t)i, 3, 0, 0, 1, 0, 0, 0, 200, 0, 0, 0}, 16);
    t[0] = b_done(&b, 0x10000);
    b_start(&b, "APIC", 44);
    for (unsigned i = 0; i < 120; i++)
        b_add(&b, (uint8_t[]){9, 16, 0, 0, (uint8_t)i, 4, 0, 0, 1, 0, 0, 0, 200, 0, 0, 0}, 16);
    b_done(&b, 0x11000);
    assert_true(acpi_parse(&src, rsdp(0x1000, 0, root(0x2000, "XSDT", 8, t, 1)), &f) > 0);
    assert_int_equal(f.cpu_count, 200);
    assert_int_equal(f.ioapic_count, 16);
    assert_int_equal(f.override_count, 24);
    assert_int_equal(f.nmi_count, 8);
}

/* The block of each table cut after every possible byte: as if memory ended there. */
static void t_truncated(void **state)
{
    uint64_t pa = whole_machine();

    for (unsigned i = 0; i < blocks; i++) {
        size_t full = block[i].len;
        uint8_t *p = block[i].p;

        for (size_t len = 0; len < full; len++) {
            block[i].p = malloc(len ? len : 1);
            memcpy(block[i].p, p, len);
            block[i].len = len;
            acpi_parse(&src, pa, &f);
            free(block[i].p);
        }
        block[i].p = p;
        block[i].len = full;
    }
    assert_int_equal(acpi_parse(&src, pa, &f), 1);
}

/* Every byte of every table takes hostile values, with the checksum made right again. */
static void t_corrupt(void **state)
{
    static const uint8_t values[] = {0x00, 0x01, 0x02, 0x7f, 0x80, 0xff};
    uint64_t pa = whole_machine();

    for (unsigned i = 0; i < blocks; i++)
        for (size_t off = 0; off < block[i].len; off++)
            for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
                uint8_t *p = block[i].p, was = p[off], sum = p[9];

                p[off] = values[v];
                if (memcmp(p, "RSD PTR ", 8)) {
                    if (off != 9)
                        fix_sum(p, block[i].len, 9);
                }
                acpi_parse(&src, pa, &f);
                assert_in_range(f.cpu_count, 0, MAX_CPUS);
                p[off] = was;
                p[9] = sum;
            }
    assert_int_equal(acpi_parse(&src, pa, &f), 1);
}

static void t_random_madt(void **state)
{
    uint32_t seed = 12345;
    uint64_t t[1] = {0x10000};
    uint64_t pa = rsdp(0x1000, 0, root(0x2000, "XSDT", 8, t, 1));
    uint8_t *p = add_block(0x10000, 300);

    for (unsigned round = 0; round < 20000; round++) {
        for (unsigned i = 36; i < 300; i++)
            p[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24) & (round & 1 ? 0x1f : 0xff);
        memcpy(p, round % 3 ? "APIC" : "SRAT", 4);
        put(p, 4, 4, 300);
        fix_sum(p, 300, 9);
        acpi_parse(&src, pa, &f);
        assert_in_range(f.cpu_count, 0, MAX_CPUS);
    }
}

static void t_scan(void **state)
{
    uint8_t *p = add_block(0xe0000, 0x1000);

    assert_int_equal(acpi_rsdp_scan(&src, 0xe0000, 0x1000), 0);
    memcpy(p + 0xff0, "RSD PTR ", 8); /* does not fit */
    memcpy(p + 0x45, "RSD PTR ", 8);  /* not aligned */
    fix_sum(p + 0x45, 20, 8);
    assert_int_equal(acpi_rsdp_scan(&src, 0xe0000, 0x1000), 0);
    memcpy(p + 0x100, "RSD PTR ", 8);
    fix_sum(p + 0x100, 20, 8);
    assert_int_equal(acpi_rsdp_scan(&src, 0xe0000, 0x1000), 0xe0100);
    p[0x104] ^= 1;
    assert_int_equal(acpi_rsdp_scan(&src, 0xe0000, 0x1000), 0);
    assert_int_equal(acpi_rsdp_scan(&src, 0xf0000, 0x1000), 0);
}

static int done(void **state)
{
    while (blocks)
        free(block[--blocks].p);
    return fake_teardown(state);
}

int main(void)
{
#define T(n) cmocka_unit_test_setup_teardown(n, fake_setup, done)
    const struct CMUnitTest tests[] = {
        T(t_whole),       T(t_old),       T(t_xsdt_broken_rsdt_used),
        T(t_no_root),     T(t_no_cpu),    T(t_cut),
        T(t_too_many),    T(t_truncated), T(t_corrupt),
        T(t_random_madt), T(t_scan),
    };

    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
