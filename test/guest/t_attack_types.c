/*
 * Attacks on page types and their counts. Invariants: 1 to 7 at the head of arch/x86/pv/mmu/types.c. All run on one vCPU in an
 * ordinary domain, but for the races.
 */
#include "toolstack.h"

/* --- every use of a page against every other --- */

enum use { WRITABLE_MAP, TABLE1, TABLE2, TABLE3, TABLE4, GDT_PAGE, VCPU_INFO, USES };
static const char *const use_name[] = {"writable", "L1", "L2", "L3", "L4", "GDT", "vcpu_info"};

static char *page;

/* The page is mapped read-only at its own address; 0 when it has been put to this use. */
static long use_begin(enum use u)
{
    xen_pfn_t frame = va_mfn(page);

    switch (u) {
    case WRITABLE_MAP:
        return pte_set(scratch_va(3), frame * PAGE | PTE_KERNEL);
    case GDT_PAGE:
        return HC2(set_gdt, &frame, 512);
    case VCPU_INFO: {
        struct vcpu_register_vcpu_info r = {.mfn = frame};

        return HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &r);
    }
    default:
        return mmu_ext(MMUEXT_PIN_L1_TABLE + u - TABLE1, frame, 0);
    }
}

static long use_end(enum use u)
{
    switch (u) {
    case WRITABLE_MAP:
        return pte_set(scratch_va(3), 0);
    case GDT_PAGE:
        return HC2(set_gdt, NULL, 0);
    case VCPU_INFO:
        return -1; /* for good */
    default:
        return mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(page), 0);
    }
}

/* Writable uses go together, all else excludes each other. */
static bool compatible(enum use a, enum use b)
{
    return (a == WRITABLE_MAP || a == VCPU_INFO) && (b == WRITABLE_MAP || b == VCPU_INFO);
}

ATTACK(page_with_two_uses)
{
    page = page_alloc();
    CHECK_EQ(page_protect(page), 0);
    for (unsigned a = 0; a < VCPU_INFO; a++) {
        CHECK_EQ(use_begin(a), 0);
        for (unsigned b = 0; b < VCPU_INFO; b++) {
            long r = a == b ? -1 : use_begin(b);

            if (r == 0 && !compatible(a, b))
                test_fail("a %s page became %s", use_name[a], use_name[b]);
            if (r == 0)
                (void)use_end(b);
        }
        CHECK_EQ(use_end(a), 0);
    }
    CHECK_EQ(use_begin(VCPU_INFO), 0);
    for (unsigned b = TABLE1; b <= GDT_PAGE; b++)
        CHECK(use_begin(b) < 0);
    CHECK_EQ(use_begin(WRITABLE_MAP), 0);
}

/* What the hypervisor shows to its guest is writable and never a table. */
ATTACK(shared_pages_as_tables)
{
    uint64_t frame[2] = {start_info->shared_info / PAGE, 0};
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};

    set_xen_guest_handle(s.frame_list, (xen_pfn_t *)&frame[1]);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    CHECK_EQ(s.status, GNTST_okay);
    CHECK_EQ(pte_set(shared, frame[0] * PAGE | PTE_KERNEL_RO), 0);
    for (unsigned i = 0; i < 2; i++) {
        xen_pfn_t f = frame[i];

        for (unsigned l = 1; l <= 4; l++)
            CHECK(mmu_ext(MMUEXT_PIN_L1_TABLE + l - 1, f, 0) < 0);
        CHECK(HC2(set_gdt, &f, 512) < 0);
        CHECK(mmu_ext(MMUEXT_NEW_BASEPTR, f, 0) < 0);
    }
    CHECK_EQ(pte_set(shared, frame[0] * PAGE | PTE_KERNEL), 0);
}

/* The same table by an alias in an address space that is not validated yet. */
ATTACK(alias_in_another_space)
{
    uint64_t *l4 = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc();
    uint64_t *cur = (uint64_t *)start_info->pt_base;

    for (unsigned target = 0; target < 4; target++) {
        void *victims[4] = {cur, l4, l2, l1};

        memset(l4, 0, PAGE);
        memset(l3, 0, PAGE);
        memset(l2, 0, PAGE);
        memset(l1, 0, PAGE);
        l4[1] = pte_of(l3, PTE_KERNEL);
        l3[1] = pte_of(l2, PTE_KERNEL);
        l2[1] = pte_of(l1, PTE_KERNEL);
        l1[1] = pte_of(victims[target], PTE_KERNEL); /* writable */
        CHECK_EQ(page_protect(l1) | page_protect(l2) | page_protect(l3) | page_protect(l4), 0);
        CHECK(mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0) < 0);
        CHECK(mmu_ext(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0) < 0);
        CHECK(mmu_ext(MMUEXT_NEW_USER_BASEPTR, va_mfn(l4), 0) < 0);
        /* Everything was let go again. */
        CHECK_EQ(page_unprotect(l1) | page_unprotect(l2) | page_unprotect(l3) | page_unprotect(l4), 0);
    }
}

/* A writable translation that the processor still holds when the page becomes a table: the hypervisor flushes it. */
ATTACK(stale_translation_of_a_table)
{
    volatile uint64_t *at = scratch_va(5);
    uint64_t *t = page_alloc(), m = pte_machine((void *)at);

    for (unsigned level = 1; level <= 4; level++) {
        CHECK_EQ(page_unprotect(t), 0);
        memset(t, 0, PAGE);
        CHECK_EQ(pte_set((void *)at, pte_of(t, PTE_KERNEL)), 0);
        at[3] = 0x1234000;            /* loads the translation */
        CHECK_EQ(mmu_one(m, 0), 0);   /* no flush asked for */
        CHECK_EQ(page_protect(t), 0); /* flushes this address only */
        CHECK_EQ(mmu_ext(MMUEXT_PIN_L1_TABLE + level - 1, va_mfn(t), 0), 0);
        CHECK(write_faults((void *)&at[3], 0xffffffffffffffffull));
        CHECK_EQ(t[3], 0x1234000);
        CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(t), 0), 0);
    }
}

ATTACK(stale_translation_of_descriptors)
{
    volatile uint64_t *at = scratch_va(6);
    uint64_t *t = page_alloc(), m = pte_machine((void *)at);
    xen_pfn_t frame = va_mfn(t);

    CHECK_EQ(pte_set((void *)at, pte_of(t, PTE_KERNEL)), 0);
    at[3] = 0;
    CHECK_EQ(mmu_one(m, 0), 0);
    CHECK_EQ(page_protect(t), 0);
    CHECK_EQ(HC2(set_gdt, &frame, 512), 0);
    CHECK(write_faults((void *)&at[3], 0x00cf9b000000ffffull)); /* ring 0 code */
    CHECK_EQ(HC2(set_gdt, NULL, 0), 0);
}

/* The other vCPU holds the translation and writes without rest. */
static struct {
    volatile uint64_t *at;
    volatile bool stop;
    volatile uint64_t writes, faults;
} writer;

static void write_on(void *unused)
{
    while (!writer.stop) {
        if (probe_write((void *)writer.at, 0xdead000ull))
            writer.faults++;
        else
            writer.writes++;
    }
}

ATTACK(stale_translation_elsewhere)
{
    uint64_t *t = page_alloc(), m;
    unsigned rounds = 0;

    writer.at = scratch_va(7);
    m = pte_machine((void *)writer.at);
    CHECK_EQ(vcpu_run(1, write_on, NULL), 0);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t from = writer.writes, end = time_ns() + 500000000;

        CHECK_EQ(pte_set((void *)writer.at, pte_of(t, PTE_KERNEL)), 0);
        while (writer.writes < from + 10 && time_ns() < end)
            ;
        CHECK_EQ(mmu_one(m, 0), 0); /* the translation stays there */
        CHECK_EQ(page_protect(t), 0);
        CHECK_EQ(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(t), 0), 0);
        CHECK_EQ(mmu_one(va_mfn(t) * PAGE, 0), 0);
        rounds++;
        for (volatile unsigned k = 0; k < 20000; k++)
            if (t[0]) {
                test_fail("a table was written by a stale translation");
                break;
            }
        CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(t), 0), 0);
        CHECK_EQ(page_unprotect(t), 0);
        memset(t, 0, PAGE);
    }
    writer.stop = true;
    CHECK(vcpu_wait(1));
    CHECK(rounds > 0);
}

/* --- linear and recursive tables --- */

ATTACK(linear_tables_are_read_only)
{
    uint64_t *l4 = (uint64_t *)start_info->pt_base, v, *other = page_alloc();
    uint64_t cur = va_mfn(l4), l3 = (l4[511] >> 12) & 0xffffffffff, e;
    uint64_t *at;

    /* The L4 in itself; an L3 in itself; another L4 in this one. */
    CHECK_EQ(mmu_one(cur * PAGE + 8 * 8, cur * PAGE | PTE_KERNEL_RO), 0);
    CHECK_EQ(mmu_one(l3 * PAGE + 9 * 8, l3 * PAGE | PTE_KERNEL_RO), 0);
    CHECK_EQ(page_protect(other), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(other), 0), 0);
    CHECK_EQ(mmu_one(cur * PAGE + 10 * 8, va_mfn(other) * PAGE | PTE_KERNEL_RO), 0);
    for (unsigned i = 8; i <= 10; i++)
        CHECK(mmu_one(cur * PAGE + i * 8, (i == 10 ? va_mfn(other) : cur) * PAGE | PTE_KERNEL) < 0);
    CHECK(mmu_one(l3 * PAGE + 9 * 8, l3 * PAGE | PTE_KERNEL) < 0);
    /* An L1 entry through two rounds of the L4: its address in the linear area. */
    e = 8ull << 39 | ((uint64_t)start_info & 0xffffffffffffull) >> 9;
    at = (uint64_t *)(e & ~7ull);
    CHECK(!read_faults(at, &v));
    CHECK_EQ(v >> 12 & 0xffffffffff, va_mfn(start_info));
    CHECK(write_faults(at, v | 2));
    CHECK(pte_set(at, pte_of(page_alloc(), PTE_KERNEL)) <
          0); /* "the entry" there is one of a table that is no L1 */
    /* The hypervisor's slots stay out of sight through it. */
    for (uint64_t slot = 257; slot < 272; slot++)
        CHECK(read_faults((void *)(8ull << 39 | slot << 30), &v) &&
              read_faults((void *)(8ull << 39 | 8ull << 30 | slot << 21), &v));
    CHECK(mmu_one(va_mfn(other) * PAGE + 8 * 8, cur * PAGE | PTE_KERNEL_RO) < 0); /* a circle */
    CHECK_EQ(mmu_one(cur * PAGE + 10 * 8, 0) | mmu_one(cur * PAGE + 8 * 8, 0) | mmu_one(l3 * PAGE + 9 * 8, 0),
             0);
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(other), 0), 0);
    CHECK_EQ(page_unprotect(other), 0);
}

/* Left behind at the domain's end: circles of references would keep its memory for ever. */
ATTACK(linear_tables_left_behind)
{
    uint64_t *t[3] = {page_alloc(), page_alloc(), page_alloc()};

    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(page_protect(t[i]), 0);
        CHECK_EQ(mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(t[i]), 0), 0);
    }
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < 3; j++)
            mmu_one(va_mfn(t[i]) * PAGE + (20 + j) * 8, va_mfn(t[j]) * PAGE | PTE_KERNEL_RO);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(t[i]), 0), 0);
}

/* --- frames that go while they are in use --- */

ATTACK(tables_given_away_in_use)
{
    uint64_t *l4 = (uint64_t *)start_info->pt_base, l1 = pte_machine(start_info) / PAGE;
    xen_pfn_t list[3] = {va_mfn(l4), l1, va_mfn(start_info)}, in[1], out[1];
    struct xen_memory_exchange x = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                    .out = {.nr_extents = 1, .domid = DOMID_SELF}};
    struct gnttab_transfer t = {.domid = own_id, .ref = 8};

    set_xen_guest_handle(x.in.extent_start, in);
    set_xen_guest_handle(x.out.extent_start, out);
    for (unsigned i = 0; i < 3; i++) {
        in[0] = list[i];
        out[0] = 5;
        x.nr_exchanged = 0;
        t.mfn = list[i];
        CHECK(HC2(memory_op, XENMEM_exchange, &x) < 0); /* mapped, or a table: not the only reference */
        CHECK(HC3(grant_table_op, GNTTABOP_transfer, &t, 1) < 0 || t.status != GNTST_okay);
    }
    CHECK_EQ(mmu_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
}

/* A page given back while it is a pinned table, a GDT, mapped: what holds it keeps it; nobody else gets it meanwhile. */
ATTACK(pages_given_back_in_use)
{
    uint64_t *a = page_alloc(), *b = page_alloc();
    xen_pfn_t f[2] = {va_mfn(a), va_mfn(b)};
    struct xen_memory_reservation r = {.nr_extents = 2, .domid = DOMID_SELF};

    CHECK_EQ(page_protect(a) | page_protect(b), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L2_TABLE, f[0], 0), 0);
    CHECK_EQ(HC2(set_gdt, &f[1], 512), 0);
    set_xen_guest_handle(r.extent_start, f);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 2);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 0); /* once */
    CHECK(pte_set(scratch_va(8), f[0] * PAGE | PTE_KERNEL) < 0);
    CHECK_EQ(mmu_one(f[0] * PAGE, 0), 0); /* still a table of ours */
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, f[0], 0), 0);
    CHECK_EQ(HC2(set_gdt, NULL, 0), 0);
    CHECK_EQ(pte_set(a, 0) | pte_set(b, 0), 0); /* the last references */
    CHECK(pte_set(scratch_va(8), f[0] * PAGE | PTE_KERNEL_RO) < 0);
    CHECK(pte_set(scratch_va(8), f[1] * PAGE | PTE_KERNEL_RO) < 0);
}

/* --- superpages, other sizes --- */

ATTACK(superpages_refused)
{
    uint64_t mfn = ((const uint64_t *)start_info->mfn_list)[0], e2, e3, l4;

    table_entry((void *)VIRT_BASE, 2, &e2);
    table_entry((void *)VIRT_BASE, 3, &e3);
    table_entry((void *)VIRT_BASE, 4, &l4);
    for (unsigned i = 200; i < 204; i++) {
        CHECK(mmu_one((e2 & ~0xfffull) + i * 8, mfn * PAGE | PTE_KERNEL | 0x80) < 0);
        CHECK(mmu_one((e3 & ~0xfffull) + i * 8, mfn * PAGE | PTE_KERNEL | 0x80) < 0);
        CHECK(mmu_one((l4 & ~0xfffull) + i * 8, mfn * PAGE | PTE_KERNEL | 0x80) < 0);
        CHECK(mmu_one((e2 & ~0xfffull) + i * 8, mfn * PAGE | PTE_KERNEL_RO | 0x80) < 0);
    }
    CHECK(mmu_ext(MMUEXT_MARK_SUPER, mfn, 0) == -95);
    CHECK(mmu_ext(MMUEXT_UNMARK_SUPER, mfn, 0) == -95);
}

/* --- races --- */

static struct {
    volatile bool stop;
    uint64_t a, b, l2, entry;
} race;

/* All that can be done to two frames, in an order of no meaning. */
static void churn(uint64_t seed)
{
    static const unsigned pin[] = {MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE,
                                   MMUEXT_PIN_L4_TABLE};
    uint64_t x = seed, f;

    for (unsigned i = 0; i < 3000 && !race.stop; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        f = x >> 40 & 1 ? race.a : race.b;
        switch (x >> 56 & 7) {
        case 0:
        case 1:
            mmu_ext(pin[x >> 50 & 3], f, 0);
            break;
        case 2:
            mmu_ext(MMUEXT_UNPIN_TABLE, f, 0);
            break;
        case 3:
            mmu_one(race.entry + (x >> 45 & 7) * 8, f * PAGE | (x >> 44 & 1 ? PTE_KERNEL : PTE_KERNEL_RO));
            break;
        case 4:
            mmu_one(race.entry + (x >> 45 & 7) * 8, 0);
            break;
        case 5:
            mmu_one(f * PAGE + (x >> 45 & 7) * 8, (x >> 41 & 1 ? race.a : race.b) * PAGE | PTE_KERNEL_RO);
            break;
        case 6:
            mmu_one(f * PAGE + (x >> 45 & 7) * 8, 0);
            break;
        default: {
            xen_pfn_t frame = f;

            HC2(set_gdt, x >> 43 & 1 ? &frame : NULL, x >> 43 & 1 ? 512 : 0);
        }
        }
    }
}

static void churn_elsewhere(void *seed)
{
    churn((uint64_t)seed);
}

/* Ends with all of it in some state: the domain's end must take it apart. The counts are checked then (debug builds). */
ATTACK(race_of_all_uses)
{
    void *a = page_alloc(), *b = page_alloc();

    race.a = va_mfn(a);
    race.b = va_mfn(b);
    race.entry = pte_machine(scratch_va(16));
    CHECK_EQ(page_protect(a) | page_protect(b), 0);
    CHECK_EQ(vcpu_run(1, churn_elsewhere, (void *)77), 0);
    churn(99);
    CHECK(vcpu_wait(1));
}

static void roots_forever(void *other)
{
    for (;;) {
        mmu_ext(MMUEXT_NEW_USER_BASEPTR, (uint64_t)other, 0);
        mmu_ext(MMUEXT_PIN_L4_TABLE, (uint64_t)other, 0);
        mmu_ext(MMUEXT_UNPIN_TABLE, (uint64_t)other, 0);
        mmu_ext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
    }
}

/* Crashed from the other vCPU in the midst of work on tables: what was under way is taken apart. */
ATTACK(end_in_the_midst_of_pinning)
{
    uint64_t *l4 = page_alloc();

    CHECK_EQ(page_protect(l4), 0);
    CHECK_EQ(vcpu_run(1, roots_forever, (void *)va_mfn(l4)), 0);
    for (unsigned i = 0; i < 200; i++) {
        mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0);
        mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l4), 0);
    }
}
