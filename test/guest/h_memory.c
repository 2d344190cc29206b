/* A PVH guest's memory: giving back, taking again, what can appear where, in lists long enough to be preempted. */
#include "hvm.h"

#define LIST 700u
static xen_pfn_t list[LIST];

static long reservation(unsigned op, unsigned first, unsigned n, unsigned order)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, list + first);
    return HC2(memory_op, op, &r);
}

static long size(void)
{
    domid_t self = DOMID_SELF;

    return HC2(memory_op, XENMEM_current_reservation, &self);
}

/* Pages that nobody uses. */
static void fill_list(void)
{
    uint64_t first = va_pfn(page_alloc());

    for (unsigned i = 0; i < LIST; i++)
        list[i] = i ? va_pfn(page_alloc()) : first;
}

TEST(hvm_memory_goes_and_comes)
{
    long before = size();

    fill_list();
    *(volatile uint32_t *)pfn_va(list[3]) = 0x1234;
    CHECK_EQ(reservation(XENMEM_decrease_reservation, 0, LIST, 0), LIST);
    CHECK_EQ(size(), before - LIST);
    CHECK_EQ(*(volatile uint32_t *)pfn_va(list[3]), 0xffffffff);
    CHECK_EQ(reservation(XENMEM_decrease_reservation, 0, 1, 0), 0);
    CHECK_EQ(reservation(XENMEM_populate_physmap, 0, LIST, 0), LIST);
    CHECK_EQ(size(), before);
    CHECK_EQ(*(volatile uint32_t *)pfn_va(list[3]), 0); /* scrubbed */
    for (unsigned i = 0; i < LIST; i++)
        *(volatile uint32_t *)pfn_va(list[i]) = i;
    for (unsigned i = 0; i < LIST; i++)
        CHECK_EQ(*(volatile uint32_t *)pfn_va(list[i]), i);
}

TEST(hvm_memory_stops_at_the_first_bad)
{
    long before = size();
    xen_pfn_t kept = list[100];

    list[100] = (xen_pfn_t)~0ul;
    CHECK_EQ(reservation(XENMEM_decrease_reservation, 0, LIST, 0), 100);
    CHECK_EQ(size(), before - 100);
    CHECK_EQ(reservation(XENMEM_populate_physmap, 0, 101, 0), 100);
    list[100] = kept;
    CHECK_EQ(size(), before);
    CHECK_EQ(reservation(XENMEM_populate_physmap, 0, 1, 30), 0);
    CHECK_EQ(reservation(XENMEM_populate_physmap, 0, 0, 0), 0);
}

TEST(hvm_memory_bad_pointers)
{
    struct xen_memory_reservation r = {.nr_extents = 4, .domid = DOMID_SELF};
    struct xen_add_to_physmap_batch b = {.domid = DOMID_SELF, .space = XENMAPSPACE_gmfn, .size = 3};

    CHECK_EQ(HC2(memory_op, XENMEM_populate_physmap, HV_ADDRESS), -14);
    CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap, HV_ADDRESS), -14);
    set_xen_guest_handle(r.extent_start, (xen_pfn_t *)HV_ADDRESS);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r) > 0, 0);
    r.domid = 12345;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &r) <= 0);
    set_xen_guest_handle(b.idxs, (xen_ulong_t *)HV_ADDRESS);
    CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap_batch, &b), -14);
    CHECK_EQ(HC2(memory_op, 63, &b), -38);
}

TEST(hvm_physmap_moves_pages)
{
    static xen_ulong_t from[LIST];
    static int errs[LIST];
    struct xen_add_to_physmap_batch b = {.domid = DOMID_SELF, .space = XENMAPSPACE_gmfn, .size = 100};
    struct xen_add_to_physmap a = {.domid = DOMID_SELF, .space = XENMAPSPACE_gmfn};

    for (unsigned i = 0; i < 100; i++) {
        *(volatile uint32_t *)pfn_va(list[i]) = 7000 + i;
        from[i] = list[i];
        list[i] = scratch_gfn(300 + i);
        errs[i] = 99;
    }
    from[50] = 0xffffff; /* nothing there */
    set_xen_guest_handle(b.idxs, from);
    set_xen_guest_handle(b.gpfns, list);
    set_xen_guest_handle(b.errs, errs);
    CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap_batch, &b), 0);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(errs[i], i == 50 ? -22 : 0);
        CHECK(i == 50 || *(volatile uint32_t *)scratch_va(300 + i) == 7000 + i);
    }
    for (unsigned i = 0; i < 100; i++) { /* and back, one by one */
        a.idx = scratch_gfn(300 + i);
        a.gpfn = from[i];
        list[i] = from[i];
        if (i != 50)
            CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap, &a), 0);
    }
    CHECK_EQ(*(volatile uint32_t *)pfn_va(list[9]), 7009);
    a.space = 77;
    CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap, &a), -22);
    a.space = XENMAPSPACE_shared_info;
    a.idx = 1;
    CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap, &a), -22);
}

TEST(hvm_memory_map_tells_ram)
{
    struct {
        uint64_t addr, size;
        uint32_t type;
    } __attribute__((packed)) rows[32];
    struct xen_memory_map m = {.nr_entries = ARRAY_SIZE(rows)};
    uint64_t ram = 0,
             screen = by_multiboot ? (16 << 20) / PAGE : 0; /* its device model's: no RAM of its map */
    long r;

    set_xen_guest_handle(m.buffer, (void *)rows);
    r = HC2(memory_op, XENMEM_memory_map, &m);
    if (r == -38) /* the toolstack gave none: it is in hvm_start_info */
        return;
    CHECK_EQ(r, 0);
    CHECK(m.nr_entries > 0 && m.nr_entries < ARRAY_SIZE(rows));
    for (unsigned i = 0; i < m.nr_entries; i++)
        ram += rows[i].type == 1 ? rows[i].size : 0;
    CHECK(ram / PAGE >= (uint64_t)size() - 600 - screen && ram / PAGE <= (uint64_t)size() + 600);
    domid_t self = DOMID_SELF;
    CHECK(HC2(memory_op, XENMEM_maximum_gpfn, &self) > (long)va_pfn(page_alloc()));
}

TEST(hvm_grant_copy_in_lists)
{
    enum { N = 40 };
    static struct gnttab_copy c[N];
    grant_entry_v1_t *table = scratch_va(220);
    char *from = page_alloc(), *to = page_alloc();

    CHECK(grant_table_at(table, false));
    table[40].frame = (uint32_t)va_pfn(from);
    table[40].domid = own_id;
    table[40].flags = GTF_permit_access;
    for (unsigned i = 0; i < N; i++) {
        from[i] = (char)(i + 1);
        c[i] = (struct gnttab_copy){.source.domid = own_id,
                                    .source.offset = (uint16_t)i,
                                    .dest.domid = DOMID_SELF,
                                    .dest.offset = (uint16_t)(2 * i),
                                    .len = 1,
                                    .flags = GNTCOPY_source_gref,
                                    .status = 1};
        c[i].source.u.ref = 40;
        c[i].dest.u.gmfn = va_pfn(to);
    }
    c[11].source.u.ref = 41;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, c, N), 0);
    for (unsigned i = 0; i < N; i++) {
        CHECK_EQ(c[i].status != GNTST_okay, i == 11);
        CHECK_EQ(to[2 * i], i == 11 ? 0 : (char)(i + 1));
    }
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_copy, c, 0), 0);
    table[40].flags = 0;
}

TEST(hvm_grant_setup_names_frames)
{
    static xen_pfn_t frames[4];
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1, .status = 99};

    set_xen_guest_handle(s.frame_list, frames);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    CHECK_EQ(s.status, GNTST_okay);
    s.nr_frames = 0x10000;
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    CHECK(s.status != GNTST_okay);
    s.nr_frames = 1;
    set_xen_guest_handle(s.frame_list, (xen_pfn_t *)HV_ADDRESS);
    CHECK_EQ(HC3(grant_table_op, GNTTABOP_setup_table, &s, 1), 0);
    CHECK(s.status != GNTST_okay);
}
