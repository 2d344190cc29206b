/* Grant tables v1 and v2, granted to ourselves: set-up, map, copy, refusals. */
#include "guest.h"

static grant_entry_v1_t *v1;
static char *target;

static bool setup(void)
{
    if (v1)
        return true;
    v1 = (grant_entry_v1_t *)scratch_va(200);
    target = page_alloc();
    return grant_table_at(v1, false);
}

static void give(unsigned ref, const void *page, unsigned flags)
{
    v1[ref].frame = (uint32_t)va_mfn(page);
    v1[ref].domid = own_id;
    __atomic_store_n(&v1[ref].flags, (uint16_t)flags, __ATOMIC_SEQ_CST);
}

TEST(grant_query_and_setup)
{
    struct gnttab_query_size q = {.dom = DOMID_SELF};

    CHECK(setup());
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_query_size, &q, 1), 0);
    CHECK_EQ(q.status, GNTST_okay);
    CHECK(q.nr_frames >= 1 && q.max_nr_frames >= q.nr_frames);
}

TEST(grant_map_reads_the_page_and_unmaps)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (unsigned long)scratch_va(201), .flags = GNTMAP_host_map, .ref = 8, .dom = own_id};
    struct gnttab_unmap_grant_ref u = {.host_addr = m.host_addr};
    uint64_t v;

    CHECK(setup());
    target[0] = 0x42;
    give(8, target, GTF_permit_access);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(*(char *)scratch_va(201), 0x42);
    *(volatile char *)scratch_va(201) = 0x43;
    CHECK_EQ(target[0], 0x43);
    CHECK((v1[8].flags & (GTF_reading | GTF_writing)) == (GTF_reading | GTF_writing));
    u.handle = m.handle;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK_EQ(u.status, GNTST_okay);
    CHECK(read_faults(scratch_va(201), &v) ||
          (HVM_GUEST && v == ~0ull)); /* a hole in an HVM guest's memory */
    CHECK_EQ(v1[8].flags & (GTF_reading | GTF_writing), 0);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK(u.status != GNTST_okay); /* a handle works once */
    give(8, target, 0);
}

TEST(grant_readonly_is_readonly)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (unsigned long)scratch_va(202), .flags = GNTMAP_host_map, .ref = 9, .dom = own_id};
    struct gnttab_unmap_grant_ref u = {.host_addr = m.host_addr};

    CHECK(setup());
    give(9, target, GTF_permit_access | GTF_readonly);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK(m.status != GNTST_okay);
    m.flags |= GNTMAP_readonly;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(write_faults(scratch_va(202), 1));
    u.handle = m.handle;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK_EQ(u.status, GNTST_okay);
    give(9, target, 0);
}

TEST(grant_of_a_page_table_never_writable)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (unsigned long)scratch_va(203), .flags = GNTMAP_host_map, .ref = 10, .dom = own_id};

    if (HVM_GUEST)
        return;
    CHECK(setup());
    give(10, (void *)start_info->pt_base, GTF_permit_access);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK(m.status != GNTST_okay);
    CHECK_EQ(v1[10].flags & (GTF_reading | GTF_writing), 0);
    give(10, target, 0);
}

TEST(grant_hostile_references)
{
    static const struct {
        unsigned ref, dom, flags;
    } bad[] = {
        {0xffffffff, 0, GNTMAP_host_map},
        {511, 0, GNTMAP_host_map},
        {8, 12345, GNTMAP_host_map},
        {1000000, 0, GNTMAP_host_map},
        {11, 0, 0},
    };

    CHECK(setup());
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct gnttab_map_grant_ref m = {.host_addr = (unsigned long)scratch_va(204),
                                         .flags = bad[i].flags,
                                         .ref = bad[i].ref,
                                         .dom = (domid_t)bad[i].dom};

        CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
        CHECK(m.status != GNTST_okay);
    }
    struct gnttab_unmap_grant_ref u = {.host_addr = (unsigned long)scratch_va(204), .handle = 0xfffffff0};
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK_EQ(u.status, GNTST_bad_handle);
}

TEST(grant_map_into_hypervisor_or_table_refused)
{
    static const uint64_t where[] = {0xffff830000000000ull, 0xffff800000000000ull, 0x0000800000000000ull};

    CHECK(setup());
    give(12, target, GTF_permit_access);
    for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
        struct gnttab_map_grant_ref m = {
            .host_addr = where[i], .flags = GNTMAP_host_map, .ref = 12, .dom = own_id};

        CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
        CHECK(m.status != GNTST_okay);
    }
    CHECK_EQ(v1[12].flags & (GTF_reading | GTF_writing), 0);
    give(12, target, 0);
}

TEST(grant_overwritten_mapping_keeps_counts)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (unsigned long)scratch_va(205), .flags = GNTMAP_host_map, .ref = 13, .dom = own_id};
    struct gnttab_unmap_grant_ref u = {.host_addr = m.host_addr};

    CHECK(setup());
    give(13, target, GTF_permit_access);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK(mapping_gone(scratch_va(205)) || HVM_GUEST); /* the guest removes it behind the grant's back */
    u.handle = m.handle;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0); /* okay or an error, but no harm */
    give(13, target, 0);
    if (HVM_GUEST)
        return;
    CHECK_EQ(pte_set(scratch_va(205), va_mfn(target) * PAGE | PTE_KERNEL), 0);
    CHECK_EQ(pte_set(scratch_va(205), 0), 0);
}

static struct gnttab_copy copy_of(unsigned ref, const void *dest, unsigned offset, unsigned len)
{
    struct gnttab_copy c = {.source.u.ref = ref,
                            .source.domid = own_id,
                            .source.offset = (uint16_t)offset,
                            .dest.domid = DOMID_SELF,
                            .len = (uint16_t)len,
                            .flags = GNTCOPY_source_gref};

    c.dest.u.gmfn = va_mfn(dest);
    return c;
}

TEST(grant_copy_copies_and_checks)
{
    char *dest = page_alloc();
    struct gnttab_copy c;

    CHECK(setup());
    memset(target, 0x31, PAGE);
    give(14, target, GTF_permit_access | GTF_readonly);
    c = copy_of(14, dest, 100, 50);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK_EQ(c.status, GNTST_okay);
    CHECK(dest[0] == 0x31 && dest[49] == 0x31 && dest[50] == 0);
    c = copy_of(14, dest, 4000, 200); /* beyond the page */
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK(c.status != GNTST_okay);
    c = copy_of(15, dest, 0, 10); /* nothing granted there */
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK(c.status != GNTST_okay);
    c = copy_of(14, dest, 0, 10);
    c.dest.u.gmfn = HVM_GUEST ? 0xffffff : TABLE_MFN; /* no memory; a page table */
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK(c.status != GNTST_okay);
    give(14, target, 0);
}

TEST(grant_bad_arguments)
{
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, HV_ADDRESS, 1), -14);
    CHECK(HC3(grant_table_op, GNTTABOP_copy, 0x10, 3) == -14);
    CHECK_EQ(HC3(grant_table_op, 4000, NULL, 0), -38);
}

TEST(grant_version_two_and_back)
{
    struct gnttab_set_version sv = {.version = 2};
    struct gnttab_get_version gv = {.dom = DOMID_SELF};

    CHECK(setup());
    if (HC3(grant_table_op, GNTTABOP_set_version, &sv, 1)) {
        print("  grant table version 2 is refused\n");
        return;
    }
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_get_version, &gv, 1), 0);
    CHECK_EQ(gv.version, 2);
    sv.version = 1;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_set_version, &sv, 1), 0);
    sv.version = 7;
    CHECK(HC3(grant_table_op, GNTTABOP_set_version, &sv, 1) < 0);
}
