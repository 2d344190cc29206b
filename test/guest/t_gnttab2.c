/* Grant tables, version 2: entries apart from their status, ways of granting that version 1 lacks, hostile entries.
 * Linked before t_grant.c, whose last mapping stays for ever: a version cannot change while a grant is in use. */
#include "guest.h"

static grant_entry_v2_t *v2;
static volatile grant_status_t *status;
static char *target;

static long set_version(unsigned version)
{
    struct gnttab_set_version sv = {.version = version};

    return HC3(grant_table_op, GNTTABOP_set_version, &sv, 1);
}

static bool setup(void)
{
    if (set_version(2))
        return false;
    v2 = (grant_entry_v2_t *)scratch_va(210);
    status = (volatile grant_status_t *)scratch_va(211);
    target = target ? target : page_alloc();
    return grant_table_at(v2, false) && grant_table_at((void *)status, true);
}

/* Table frames may go when the version changes: nothing of ours maps them then. */
static bool leave(void)
{
    return mapping_gone(v2) && mapping_gone((void *)status) && !set_version(1);
}

static void give(unsigned ref, const void *page, unsigned flags)
{
    v2[ref].full_page.frame = va_mfn(page);
    v2[ref].hdr.domid = own_id;
    __atomic_store_n(&v2[ref].hdr.flags, (uint16_t)flags, __ATOMIC_SEQ_CST);
}

TEST(grant2_status_is_apart)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = (unsigned long)scratch_va(212), .flags = GNTMAP_host_map, .ref = 20, .dom = own_id};
    struct gnttab_unmap_grant_ref u = {.host_addr = m.host_addr};
    uint64_t v;

    CHECK(setup());
    target[0] = 0x61;
    give(20, target, GTF_permit_access);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK_EQ(m.status, GNTST_okay);
    CHECK_EQ(*(char *)scratch_va(212), 0x61);
    CHECK_EQ(status[20] & (GTF_reading | GTF_writing), GTF_reading | GTF_writing);
    CHECK_EQ(v2[20].hdr.flags, GTF_permit_access);
    CHECK(set_version(1) < 0); /* in use */
    u.handle = m.handle;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &u, 1), 0);
    CHECK_EQ(u.status, GNTST_okay);
    CHECK_EQ(status[20] & (GTF_reading | GTF_writing), 0);
    CHECK(read_faults(scratch_va(212), &v) || (HVM_GUEST && v == ~0ull));
    give(20, target, 0);
    CHECK(leave());
}

TEST(grant2_part_of_a_page)
{
    char *dest = page_alloc();
    struct gnttab_copy c = {
        .source.u.ref = 21, .source.domid = own_id, .dest.domid = DOMID_SELF, .flags = GNTCOPY_source_gref};

    CHECK(setup());
    memset(target, 0x41, PAGE);
    v2[21].sub_page.frame = va_mfn(target);
    v2[21].sub_page.page_off = 100;
    v2[21].sub_page.length = 50;
    v2[21].hdr.domid = own_id;
    v2[21].hdr.flags = GTF_permit_access | GTF_sub_page | GTF_readonly;
    c.dest.u.gmfn = va_mfn(dest);
    c.source.offset = 100;
    c.len = 50;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK_EQ(c.status, GNTST_okay);
    CHECK(dest[0] == 0x41 && dest[49] == 0x41 && dest[50] == 0);
    c.len = 51; /* one byte more than granted */
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK(c.status != GNTST_okay);
    c.source.offset = 99;
    c.len = 2;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
    CHECK(c.status != GNTST_okay);
    struct gnttab_map_grant_ref m = {.host_addr = (unsigned long)scratch_va(212),
                                     .flags = GNTMAP_host_map | GNTMAP_readonly,
                                     .ref = 21,
                                     .dom = own_id};
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
    CHECK(m.status != GNTST_okay); /* a part cannot be mapped */
    v2[21].hdr.flags = 0;
    CHECK(leave());
}

TEST(grant2_transitive_to_nowhere)
{
    char *dest = page_alloc();
    struct gnttab_copy c = {.source.u.ref = 22,
                            .source.domid = own_id,
                            .dest.domid = DOMID_SELF,
                            .len = 8,
                            .flags = GNTCOPY_source_gref};

    CHECK(setup());
    c.dest.u.gmfn = va_mfn(dest);
    for (unsigned i = 0; i < 3; i++) {
        v2[22].transitive.trans_domid =
            i == 0 ? 12345 : own_id; /* nobody; ourselves, in a circle; out of range */
        v2[22].transitive.gref = i == 2 ? 0xffffffff : 22;
        v2[22].hdr.domid = own_id;
        v2[22].hdr.flags = GTF_transitive;
        CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, &c, 1), 0);
        CHECK(c.status != GNTST_okay);
        CHECK_EQ(status[22] & (GTF_reading | GTF_writing), 0);
    }
    v2[22].hdr.flags = 0;
    CHECK(leave());
}

TEST(grant2_hostile_status_frames)
{
    uint64_t list[4];
    struct gnttab_get_status_frames g = {.dom = DOMID_SELF, .nr_frames = 0x7fffffff};

    CHECK(setup());
    set_xen_guest_handle(g.frame_list, list);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_get_status_frames, &g, 1), 0);
    CHECK(g.status != GNTST_okay);
    g.nr_frames = 1;
    g.dom = 12345;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_get_status_frames, &g, 1), 0);
    CHECK(g.status != GNTST_okay);
    /* The guest scribbles over the status words and the entries. */
    for (unsigned i = 8; i < 200; i++) {
        status[i] = 0xffff;
        ((uint64_t *)&v2[i])[0] = ~0ull;
        ((uint64_t *)&v2[i])[1] = ~0ull;
    }
    for (unsigned i = 8; i < 200; i += 16) {
        struct gnttab_map_grant_ref m = {
            .host_addr = (unsigned long)scratch_va(212), .flags = GNTMAP_host_map, .ref = i, .dom = own_id};

        CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
        CHECK(m.status != GNTST_okay);
    }
    memset(&v2[8], 0, 192 * sizeof(v2[0]));
    for (unsigned i = 8; i < 200; i++)
        status[i] = 0;
    CHECK(leave());
}
