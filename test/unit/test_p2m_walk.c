/*
 * Guest-virtual addresses: every paging mode against what the manual says, permission by permission; the accessed and dirty bits; copies,
 * and the translation cache that must never be seen.
 */
#include "fake.h"
#include "lib/string.h"
#include "x86/p2m.h"
#include "x86/pte.h"
#include "x86/vcpu.h"

void domain_ref(struct domain *d)
{
    d->refs++;
}
void domain_put(struct domain *d)
{
    d->refs--;
}
bool preempt_needed(void)
{
    return false;
}
void arch_frame_writable(mfn_t m)
{
    mfn_frame(m)->type |= 1;
}

static struct domain *guest;
static struct vcpu *v;
static struct guest_paging gp;
static void (*during_flush)(void);

static void flush(struct domain *d)
{
    if (during_flush)
        during_flush();
}
static void paging(struct vcpu *x, struct guest_paging *p)
{
    *p = gp;
}

#define FRAMES 256
#define GFN0   16

/* FRAMES frames of memory from GFN0 on. */
static int setup(void **state)
{
    static const struct p2m_machine machine = {
        .flush = flush, .paging = paging, .large = true, .huge = true, .guest_bits = 40};

    fake_start(4096, 1);
    p2m_machine_set(&machine);
    guest = fake_domain(5, 2000);
    guest->ops = &fake_translated_ops;
    v = fake_vcpu0(guest);
    assert_int_equal(p2m_domain_init(guest), 0);
    for (unsigned i = 0; i < FRAMES; i++) {
        mfn_t m;

        assert_int_equal(frame_alloc_domain(guest, 0, 64, 0, &m), 0);
        assert_int_equal(p2m_set(guest, GFN(GFN0 + i), m, 0, P2M_RAM), 0);
    }
    x86_vcpu(v)->walk = walk_cache_alloc();
    memset(&gp, 0, sizeof(gp));
    during_flush = NULL;
    return 0;
}
static int teardown(void **state)
{
    p2m_room_check(guest);
    walk_cache_free(x86_vcpu(v)->walk);
    guest->dying = DOM_DYING;
    while (p2m_domain_release(guest))
        ;
    while (frame_domain_release(guest, 64))
        ;
    p2m_domain_free(guest);
    fake_stop();
    return 0;
}

static void *ram(uint64_t gpa)
{
    struct p2m_entry e;

    p2m_look(guest, GFN(gpa >> 12), &e);
    return (char *)arch_frame_va(e.mfn) + (gpa & 4095);
}
static uint64_t *word(uint64_t gpa)
{
    return ram(gpa);
}

/* --- tables of each mode: root at gfn 16, lower ones behind; va 0x...; data at gfn 40 --- */
#define PAGE(i) ((uint64_t)(GFN0 + (i)) << 12)
#define DATA    PAGE(24)
#define ALL     (PTE_P | PTE_RW | PTE_US)

enum mode { LEGACY, PAE, LONG };
static const uint32_t modes[] = {
    [LEGACY] = GP_PAGING,
    [PAE] = GP_PAGING | GP_PAE | GP_NXE,
    [LONG] = GP_PAGING | GP_PAE | GP_LONG | GP_NXE,
};
static const unsigned depth[] = {[LEGACY] = 2, [PAE] = 3, [LONG] = 4};
static const uint64_t address[] = {[LEGACY] = 0x12345678, [PAE] = 0x92345678, [LONG] = 0xffff923456789678ull};

/* The entry of that level (1 = lowest). */
static void *entry(enum mode m, unsigned level)
{
    unsigned bits = m == LEGACY ? 10 : 9;
    unsigned index = (unsigned)(address[m] >> (12 + bits * (level - 1))) & ((1u << bits) - 1);

    if (m == PAE && level == 3)
        index &= 3;
    return ram(PAGE(depth[m] - level) + index * (m == LEGACY ? 4u : 8u));
}
static uint64_t get(enum mode m, unsigned level)
{
    return m == LEGACY ? *(uint32_t *)entry(m, level) : *(uint64_t *)entry(m, level);
}
static void put(enum mode m, unsigned level, uint64_t e)
{
    if (m == LEGACY)
        *(uint32_t *)entry(m, level) = (uint32_t)e;
    else
        *(uint64_t *)entry(m, level) = e;
}
static void build(enum mode m, uint32_t more)
{
    gp = (struct guest_paging){.cr3 = PAGE(0), .mode = modes[m] | more};
    for (unsigned l = depth[m]; l; l--)
        put(m, l, (l > 1 ? PAGE(depth[m] - l + 1) : DATA) | (m == PAE && l == 3 ? PTE_P : ALL));
}

static uint64_t at;
static uint32_t error;
static enum walk_result walk(enum mode m, unsigned access)
{
    at = error = 0;
    return guest_walk(v, &gp, address[m], access, &at, &error);
}
#define OK(m, access)                                                                                        \
    do {                                                                                                     \
        assert_int_equal(walk(m, access), WALK_OK);                                                          \
        assert_int_equal(at, DATA | (address[m] & 4095));                                                    \
    } while (0)
#define FAULT(m, access, bits)                                                                               \
    do {                                                                                                     \
        assert_int_equal(walk(m, access), WALK_FAULT);                                                       \
        assert_int_equal(error, bits);                                                                       \
    } while (0)

static void each_mode(void **state)
{
    for (enum mode m = LEGACY; m <= LONG; m++) {
        uint32_t fetch = m == LEGACY ? 0 : WALK_FETCH; /* told only where NX is */

        build(m, GP_WP);
        OK(m, WALK_WRITE | WALK_USER);
        for (unsigned l = depth[m]; l; l--) {
            bool pdpte = m == PAE && l == 3;
            uint64_t e;

            build(m, GP_WP);
            e = get(m, l);
            put(m, l, e & ~PTE_P);
            FAULT(m, 0, 0);
            FAULT(m, WALK_WRITE | WALK_USER, WALK_WRITE | WALK_USER);
            FAULT(m, WALK_FETCH, fetch);
            if (pdpte)
                continue; /* has no rights */
            put(m, l, e & ~PTE_US);
            FAULT(m, WALK_USER, WALK_USER | WALK_PRESENT);
            OK(m, WALK_WRITE);
            put(m, l, e & ~PTE_RW);
            FAULT(m, WALK_USER | WALK_WRITE, WALK_USER | WALK_WRITE | WALK_PRESENT);
            FAULT(m, WALK_WRITE, WALK_WRITE | WALK_PRESENT);
            gp.mode &= ~GP_WP; /* the kernel may, the user may not */
            OK(m, WALK_WRITE);
            FAULT(m, WALK_USER | WALK_WRITE, WALK_USER | WALK_WRITE | WALK_PRESENT);
            if (m == LEGACY)
                continue;
            put(m, l, e | PTE_NX);
            OK(m, WALK_USER);
            FAULT(m, WALK_FETCH, WALK_FETCH | WALK_PRESENT);
            gp.mode &= ~GP_NXE; /* then the bit is reserved */
            FAULT(m, 0, WALK_RSVD | WALK_PRESENT);
        }
    }
}

static void accessed_and_dirty(void **state)
{
    for (enum mode m = LEGACY; m <= LONG; m++) {
        build(m, GP_WP);
        OK(m, 0);
        for (unsigned l = depth[m]; l; l--) {
            assert_int_equal(!!(get(m, l) & PTE_A), !(m == PAE && l == 3));
            assert_false(get(m, l) & PTE_D);
        }
        OK(m, WALK_WRITE);
        assert_true(get(m, 1) & PTE_D);
        assert_false(get(m, 2) & PTE_D);
        /* Not by an access that is refused. */
        build(m, GP_WP);
        put(m, 1, get(m, 1) & ~PTE_RW);
        FAULT(m, WALK_WRITE, WALK_WRITE | WALK_PRESENT);
        for (unsigned l = depth[m]; l; l--)
            assert_false(get(m, l) & (PTE_A | PTE_D));
    }
}

static void reserved_bits(void **state)
{
    for (enum mode m = PAE; m <= LONG; m++)
        for (unsigned l = depth[m]; l; l--) {
            build(m, 0);
            put(m, l, get(m, l) | 1ull << 40); /* beyond the guest's addresses */
            FAULT(m, WALK_USER, WALK_USER | WALK_RSVD | WALK_PRESENT);
            build(m, 0);
            put(m, l, get(m, l) | 1ull << 55); /* for software in long mode */
            if (m == LONG)
                OK(m, 0);
            else
                FAULT(m, 0, WALK_RSVD | WALK_PRESENT);
        }
    build(LONG, 0);
    put(LONG, 4, get(LONG, 4) | PTE_PS);
    FAULT(LONG, 0, WALK_RSVD | WALK_PRESENT);
    build(LONG, 0);
    put(LONG, 3, PTE_PS | ALL); /* no such pages for this guest */
    FAULT(LONG, 0, WALK_RSVD | WALK_PRESENT);
    build(PAE, 0);
    put(PAE, 3, get(PAE, 3) | PTE_RW);
    FAULT(PAE, 0, WALK_RSVD | WALK_PRESENT);
}

static void large_pages(void **state)
{
    build(LONG, GP_HUGE);
    put(LONG, 3, 0x40000000ull | PTE_PS | ALL);
    assert_int_equal(walk(LONG, WALK_WRITE), WALK_OK);
    assert_int_equal(at, 0x40000000ull | (address[LONG] & 0x3fffffff));
    assert_true(get(LONG, 3) & PTE_D);
    put(LONG, 3, 0x40200000ull | PTE_PS | ALL); /* not aligned */
    FAULT(LONG, 0, WALK_RSVD | WALK_PRESENT);
    for (enum mode m = PAE; m <= LONG; m++) {
        build(m, 0);
        put(m, 2, 0x600000 | PTE_PS | ALL);
        assert_int_equal(walk(m, 0), WALK_OK);
        assert_int_equal(at, 0x600000 | (address[m] & 0x1fffff));
        put(m, 2, 0x602000 | PTE_PS | ALL);
        FAULT(m, 0, WALK_RSVD | WALK_PRESENT);
    }
    build(LEGACY, GP_PSE);
    put(LEGACY, 2, 0x00c00000 | 5 << 13 | PTE_PS | ALL); /* PSE-36 */
    assert_int_equal(walk(LEGACY, 0), WALK_OK);
    assert_int_equal(at, 0x500c00000ull | (address[LEGACY] & 0x3fffff));
    put(LEGACY, 2, 0x00c00000 | 1 << 21 | PTE_PS | ALL);
    FAULT(LEGACY, 0, WALK_RSVD | WALK_PRESENT);
    build(LEGACY, 0); /* without PSE the bit means nothing */
    put(LEGACY, 2, get(LEGACY, 2) | PTE_PS);
    OK(LEGACY, 0);
}

static void smep_smap_keys(void **state)
{
    build(LONG, GP_SMEP | GP_SMAP | GP_WP);
    FAULT(LONG, WALK_FETCH, WALK_FETCH | WALK_PRESENT);
    OK(LONG, WALK_FETCH | WALK_USER);
    FAULT(LONG, 0, WALK_PRESENT);
    FAULT(LONG, WALK_WRITE, WALK_WRITE | WALK_PRESENT);
    gp.mode |= GP_AC;
    OK(LONG, WALK_WRITE);
    FAULT(LONG, WALK_IMPLICIT, WALK_PRESENT);
    OK(LONG, WALK_USER);
    put(LONG, 3, get(LONG, 3) & ~PTE_US); /* a supervisor page */
    gp.mode &= ~GP_AC;
    OK(LONG, WALK_IMPLICIT);
    OK(LONG, WALK_FETCH);
    /* Keys: of user pages only, not for fetches. */
    build(LONG, GP_PKE | GP_WP);
    put(LONG, 1, get(LONG, 1) | 3ull << 59);
    OK(LONG, WALK_USER | WALK_WRITE);
    gp.pkru = 2u << 6; /* key 3: no writes */
    OK(LONG, WALK_USER);
    FAULT(LONG, WALK_USER | WALK_WRITE, WALK_USER | WALK_WRITE | WALK_PK | WALK_PRESENT);
    FAULT(LONG, WALK_WRITE, WALK_WRITE | WALK_PK | WALK_PRESENT);
    gp.mode &= ~GP_WP;
    OK(LONG, WALK_WRITE);
    gp.pkru = 1u << 6; /* nothing */
    FAULT(LONG, 0, WALK_PK | WALK_PRESENT);
    OK(LONG, WALK_USER | WALK_FETCH);
    put(LONG, 2, get(LONG, 2) & ~PTE_US);
    OK(LONG, 0);
}

static void tables_in_no_memory(void **state)
{
    const uint64_t bad[] = {0x30000000, 0xfffffff000, 0xfee00000};

    for (enum mode m = LEGACY; m <= LONG; m++)
        for (unsigned l = depth[m]; l > 1; l--)
            for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
                if (m == LEGACY && bad[i] >> 32)
                    continue;
                build(m, 0);
                put(m, l, bad[i] | PTE_P | (m == PAE && l == 3 ? 0 : PTE_RW | PTE_US));
                assert_int_equal(walk(m, 0), WALK_NO_RAM);
                assert_int_equal(at & ~4095ull, bad[i]);
            }
    build(LONG, 0);
    gp.cr3 = ~0ull;
    assert_int_equal(walk(LONG, 0), WALK_NO_RAM);
    /* In a ROM: readable, but its bits cannot be set. */
    build(LONG, 0);
    assert_int_equal(p2m_change_type(guest, GFN(GFN0 + 3), P2M_RAM, P2M_RAM_RO), 0);
    assert_int_equal(walk(LONG, 0), WALK_NO_RAM);
    put(LONG, 1, get(LONG, 1) | PTE_A);
    OK(LONG, 0);
    /* Not canonical. */
    build(LONG, 0);
    assert_int_equal(guest_walk(v, &gp, 1ull << 47, 0, &at, &error), WALK_FAULT);
}

/* --- copies --- */

static void copies(void **state)
{
    char buf[64] = "0123456789abcdef", back[64];

    gp = (struct guest_paging){0}; /* no paging: physical addresses */
    assert_true(hvm_copy_out(v, GVA(DATA + 4090), buf, 16));
    assert_memory_equal(ram(DATA + 4090), "012345", 6);
    assert_memory_equal(ram(DATA + 4096), "6789abcdef", 10);
    assert_true(hvm_copy_in(v, back, GVA(DATA + 4090), 16));
    assert_memory_equal(buf, back, 16);
    assert_true(hvm_zero(v, GVA(DATA + 4095), 2));
    assert_int_equal(*(char *)ram(DATA + 4096), 0);
    assert_false(hvm_copy_in(v, back, GVA(0x8000000), 1));
    assert_false(hvm_copy_in(v, back, GVA(PAGE(FRAMES) - 3), 4));
    assert_true(hvm_copy_in(v, back, GVA((1ull << 32) + DATA), 4)); /* 32 bits wide */
    assert_true(hvm_copy_in(v, back, GVA(0x12345), 0));
    for (enum mode m = LEGACY; m <= LONG; m++) {
        build(m, GP_WP);
        assert_true(hvm_copy_out(v, GVA(address[m]), buf, 8));
        assert_memory_equal(ram(DATA + (address[m] & 4095)), buf, 8);
        assert_true(get(m, 1) & PTE_D);
        assert_false(hvm_copy_in(v, back, GVA(address[m] | 4095), 2)); /* the next page is not there */
        put(m, 1, get(m, 1) & ~PTE_RW);
        assert_false(hvm_copy_out(v, GVA(address[m]), buf, 8));
        assert_true(hvm_copy_in(v, back, GVA(address[m]), 8));
    }
}

static void copies_to_roms_and_by_number(void **state)
{
    char buf[16] = "fifteen letters";

    assert_int_equal(p2m_change_type(guest, GFN(DATA >> 12), P2M_RAM, P2M_RAM_RO), 0);
    assert_true(hvm_copy_out(v, GVA(DATA), buf, 16)); /* a ROM: written, and lost */
    assert_int_equal(*(char *)ram(DATA), 0);
    assert_false(guest_phys_out(guest, DATA - 8, buf, 16));
    assert_true(guest_phys_in(guest, buf, DATA - 8, 16));
    assert_false(guest_phys_in(guest, buf, ~0ull, 16));
    assert_true(guest_phys_out(guest, DATA + 4096, "x", 1));
    assert_int_equal(*(char *)ram(DATA + 4096), 'x');
}

static void the_emulators_copies(void **state)
{
    struct copy_fault f;
    char buf[32];

    build(LONG, GP_WP);
    put(LONG, 1, get(LONG, 1) & ~PTE_US);
    assert_int_equal(guest_linear_in(v, &gp, buf, address[LONG], 4, WALK_USER, &f), COPY_FAULT);
    assert_int_equal(f.address, address[LONG]);
    assert_int_equal(f.error, WALK_USER | WALK_PRESENT);
    assert_int_equal(guest_linear_out(v, &gp, address[LONG] | 4090, buf, 16, 0, &f), COPY_FAULT);
    assert_int_equal(f.address, (address[LONG] | 4095) + 1); /* the page at fault, not the first byte */
    assert_int_equal(f.error, WALK_WRITE);
    put(LONG, 1, 0xfee00000ull | ALL);
    assert_int_equal(guest_linear_in(v, &gp, buf, address[LONG], 4, 0, &f), COPY_NO_RAM);
    assert_int_equal(f.gpa, 0xfee00000ull | (address[LONG] & 4095));
}

/* --- the cache --- */

static uint32_t read32(uint64_t va)
{
    uint32_t x = 0xdead;

    assert_true(hvm_copy_in(v, &x, GVA(va), 4));
    return x;
}

static void no_stale_translation(void **state)
{
    uint64_t va = address[LONG] & ~3ull, off = va & 4095;
    uint32_t one = 1;

    build(LONG, GP_WP);
    for (unsigned i = 0; i < 64; i++)
        *(uint32_t *)ram(PAGE(24 + i) + off) = 100 + i;
    assert_int_equal(read32(va), 100);
    assert_int_equal(read32(va), 100);
    /* The guest changes each level without telling anybody. */
    put(LONG, 1, PAGE(25) | ALL);
    assert_int_equal(read32(va), 101);
    *word(PAGE(10) + ((va >> 12) & 511) * 8) = PAGE(26) | ALL;
    put(LONG, 2, PAGE(10) | ALL);
    assert_int_equal(read32(va), 102);
    /* Rights go: a line made by a read or by a write. */
    assert_true(hvm_copy_out(v, GVA(va), &one, 4));
    put(LONG, 3, get(LONG, 3) & ~PTE_RW);
    assert_false(hvm_copy_out(v, GVA(va), &one, 4));
    assert_int_equal(read32(va), 1);
    put(LONG, 3, get(LONG, 3) | PTE_RW);
    put(LONG, 4, get(LONG, 4) & ~PTE_P);
    assert_false(hvm_copy_in(v, &one, GVA(va), 4));
    put(LONG, 4, get(LONG, 4) | PTE_P);
    assert_int_equal(read32(va), 1);
    /* Dirty and accessed bits that the guest takes away come again. */
    build(LONG, GP_WP);
    assert_true(hvm_copy_out(v, GVA(va), &one, 4));
    put(LONG, 1, get(LONG, 1) & ~(PTE_D | PTE_A));
    assert_true(hvm_copy_out(v, GVA(va), &one, 4));
    assert_true(get(LONG, 1) & PTE_D);
    /* Another mode, other tables. */
    gp.mode |= GP_SMAP;
    assert_false(hvm_copy_in(v, &one, GVA(va), 4));
    gp.mode &= ~GP_SMAP;
    gp.cr3 = PAGE(40);
    assert_false(hvm_copy_in(v, &one, GVA(va), 4));
}

static void nothing_stale_of_the_p2m(void **state)
{
    uint64_t va = address[LONG] & ~3ull, off = va & 4095;
    mfn_t other;

    build(LONG, GP_WP);
    *(uint32_t *)ram(DATA + off) = 7;
    assert_int_equal(read32(va), 7);
    assert_int_equal(frame_alloc_domain(guest, 0, 64, 0, &other), 0);
    *(uint32_t *)((char *)arch_frame_va(other) + off) = 8;
    assert_int_equal(p2m_set(guest, GFN(DATA >> 12), other, 0, P2M_RAM), 0);
    assert_int_equal(read32(va), 8);
    assert_int_equal(p2m_change_type(guest, GFN(DATA >> 12), P2M_RAM, P2M_RAM_RO), 0);
    assert_true(hvm_zero(v, GVA(va), 4)); /* dropped */
    assert_int_equal(read32(va), 8);
    /* A table goes. */
    assert_int_equal(p2m_release_frames(guest, GFN(GFN0 + 2), 0), 0);
    {
        uint32_t x;

        assert_false(hvm_copy_in(v, &x, GVA(va), 4));
    }
}

/* While a frame is being taken away, a copy that comes in between finds the new state, one before it the old. */
static uint32_t seen;
static bool found;
static void copy_now(void)
{
    seen = 0;
    found = hvm_copy_in(v, &seen, GVA(address[LONG] & ~3ull), 4);
}
static void copies_during_a_change(void **state)
{
    build(LONG, GP_WP);
    copy_now();
    assert_true(found);
    during_flush = copy_now;
    assert_int_equal(p2m_remove(guest, GFN(DATA >> 12), INVALID_MFN, 0), 0);
    assert_false(found);
}

/* Random tables and accesses: the cache and a walk without one agree. */
static void random_tables(void **state)
{
    struct walk_cache *cache = x86_vcpu(v)->walk;
    uint32_t seed = 99;

    build(LONG, GP_WP);
    for (unsigned n = 0; n < 20000; n++) {
        uint64_t va = address[LONG] & ~3ull;
        uint32_t a = 0, b = 0;
        bool in_a, in_b;

        seed = seed * 1664525 + 1013904223;
        switch (seed >> 28) {
        case 0:
            put(LONG, 1 + (seed >> 20) % 4, get(LONG, 1 + (seed >> 20) % 4) ^ (1ull << ((seed >> 8) % 8)));
            break;
        case 1:
            put(LONG, 1, PAGE(24 + (seed >> 8) % 100) | ALL);
            break;
        case 2:
            build(LONG, seed & 0x100 ? GP_WP : 0);
            break;
        }
        *(uint32_t *)ram(PAGE(24 + (seed >> 9) % 100) + (va & 4095)) = n;
        in_a = hvm_copy_in(v, &a, GVA(va), 4);
        x86_vcpu(v)->walk = NULL;
        in_b = hvm_copy_in(v, &b, GVA(va), 4);
        x86_vcpu(v)->walk = cache;
        assert_int_equal(in_a, in_b);
        assert_int_equal(a, b);
        if (seed & 0x2000) {
            in_a = hvm_copy_out(v, GVA(va), &n, 4);
            x86_vcpu(v)->walk = NULL;
            in_b = hvm_copy_out(v, GVA(va), &n, 4);
            x86_vcpu(v)->walk = cache;
            assert_int_equal(in_a, in_b);
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_mode),
        TEST(accessed_and_dirty),
        TEST(reserved_bits),
        TEST(large_pages),
        TEST(smep_smap_keys),
        TEST(tables_in_no_memory),
        TEST(copies),
        TEST(copies_to_roms_and_by_number),
        TEST(the_emulators_copies),
        TEST(no_stale_translation),
        TEST(nothing_stale_of_the_p2m),
        TEST(copies_during_a_change),
        TEST(random_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
