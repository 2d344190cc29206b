/* Grant tables: every operation and its refusals in both versions, hostile numbers, preemption, death of
 * either side, and a random model that checks the room after each step. */
#include "fake.h"
#include "model.h"
#include "core/grant.h"
#include "core/sched.h"
#include "core/grant/private.h"

#include <stdlib.h>
#include <string.h>

#define VA(i) (0x7000000000ull + (uint64_t)(i)*FRAME_SIZE)

static struct domain *ctl, *da, *db; /* control, granter, user */

static struct domain *domain_new(uint16_t id, bool privileged)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .privileged = privileged,
                              .max_vcpus = 1,
                              .max_evtchn_port = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 200};

    return fake_domain_new(id, &c);
}

static int group_setup(void **state)
{
    fake_machine(16384, 1);
    return 0;
}

static int setup(void **state)
{
    fake_grant_maps = fake_grant_flushes = 0; /* of domains that are gone */
    ctl = domain_new(1, true);
    da = domain_new(2, false);
    db = domain_new(3, false);
    return 0;
}

static int teardown(void **state)
{
    fake_fail_alloc = fake_fail_mem = fake_fail_copy = fake_preempt_every = fake_fail_map =
        fake_fail_physmap = 0;
    grant_room_check(ctl);
    grant_room_check(da);
    grant_room_check(db);
    fake_domain_end(db);
    fake_domain_end(da);
    fake_domain_end(ctl);
    assert_null(domain_get(DID(2)));
    assert_null(domain_get(DID(3)));
    frame_room_check();
    mem_room_check();
    return 0;
}

static long op_n(struct domain *d, unsigned nr, void *arg, uint32_t count)
{
    return fake_hypercall(d->vcpu[0], grant_ops, grant_op_count, 0, nr, (uintptr_t)arg, count, NULL);
}
#define op(d, nr, arg) op_n(d, nr, arg, 1)

static mfn_t frame_of(struct domain *d)
{
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, FA_ZERO, &m), 0);
    return m;
}

/* --- the granter's side --- */

static void grant1(uint32_t ref, uint16_t flags, uint16_t domid, uint64_t frame)
{
    grant_entry_v1_t *e = grant_v1(da->grant, ref);

    e->frame = (uint32_t)frame;
    e->domid = domid;
    e->flags = flags;
}
static void grant2(uint32_t ref, uint16_t flags, uint16_t domid, uint64_t frame)
{
    grant_entry_v2_t *e = grant_v2(da->grant, ref);

    e->full_page.frame = frame;
    e->hdr.domid = domid;
    e->hdr.flags = flags;
}
static uint16_t flags1(uint32_t ref)
{
    return grant_v1(da->grant, ref)->flags;
}
static long version(struct domain *d, uint32_t n)
{
    struct gnttab_set_version a = {.version = n};

    return op(d, GNTTABOP_set_version, &a);
}

/* --- the user's side: status --- */

static int map(struct domain *d, uint16_t dom, uint32_t ref, unsigned flags, uint64_t va, uint32_t *handle)
{
    struct gnttab_map_grant_ref a = {.host_addr = va, .flags = flags, .ref = ref, .dom = dom};

    assert_int_equal(op(d, GNTTABOP_map_grant_ref, &a), 0);
    *handle = a.handle;
    return a.status;
}
static int unmap(struct domain *d, uint32_t handle, uint64_t va, uint64_t dev)
{
    struct gnttab_unmap_grant_ref a = {.host_addr = va, .dev_bus_addr = dev, .handle = handle};

    assert_int_equal(op(d, GNTTABOP_unmap_grant_ref, &a), 0);
    return a.status;
}
static struct gnttab_copy_ptr own(mfn_t m, uint16_t offset)
{
    return (struct gnttab_copy_ptr){.u.gmfn = m.n, .domid = DOMID_SELF, .offset = offset};
}
static struct gnttab_copy_ptr of_grant(uint16_t dom, uint32_t ref, uint16_t offset)
{
    return (struct gnttab_copy_ptr){.u.ref = ref, .domid = dom, .offset = offset};
}
static int copy(struct domain *d, struct gnttab_copy_ptr from, struct gnttab_copy_ptr to, uint16_t len,
                uint16_t flags)
{
    struct gnttab_copy a = {.source = from, .dest = to, .len = len, .flags = flags};

    assert_int_equal(op(d, GNTTABOP_copy, &a), 0);
    return a.status;
}

static void map_unmap(void **state)
{
    mfn_t m = frame_of(da);
    uint32_t h, ro;

    grant1(8, GTF_permit_access, 3, m.n);
    assert_int_equal(map(db, 2, 8, GNTMAP_host_map | GNTMAP_readonly, VA(0), &ro), GNTST_okay);
    assert_int_equal(flags1(8), GTF_permit_access | GTF_reading);
    assert_int_equal(map(db, 2, 8, GNTMAP_host_map, VA(1), &h), GNTST_okay);
    assert_int_equal(flags1(8), GTF_permit_access | GTF_reading | GTF_writing);
    assert_true(fake_is_mapped(VA(0), m) && fake_is_mapped(VA(1), m));
    assert_int_equal(fake_pins(m, true), 1);
    assert_int_equal(fake_pins(m, false), 1);
    grant_room_check(db);
    assert_int_equal(unmap(db, h, VA(0), 0), GNTST_general_error); /* not that one */
    assert_int_equal(unmap(db, 77, VA(1), 0), GNTST_bad_handle);
    assert_int_equal(unmap(db, ~0u, VA(1), 0), GNTST_bad_handle);
    assert_int_equal(unmap(da, h, VA(1), 0), GNTST_bad_handle);
    assert_int_equal(unmap(db, h, 0, 0), GNTST_okay); /* nothing asked, nothing done */
    assert_int_equal(unmap(db, h, VA(1), 0), GNTST_okay);
    assert_int_equal(flags1(8), GTF_permit_access | GTF_reading);
    assert_int_equal(fake_grant_flushes, 1);
    assert_int_equal(unmap(db, h, VA(1), 0), GNTST_bad_handle);
    assert_int_equal(unmap(db, ro, VA(0), 0), GNTST_okay);
    assert_int_equal(flags1(8), GTF_permit_access);
    assert_int_equal(fake_pins(m, true) + fake_pins(m, false), 0);
    assert_int_equal(fake_grant_maps, 0);
    fake_grant_flushes = 0;
}

static void map_device(void **state)
{
    mfn_t m = frame_of(da);
    struct gnttab_map_grant_ref a = {
        .host_addr = VA(0), .flags = GNTMAP_host_map | GNTMAP_device_map, .ref = 9, .dom = 2};

    grant1(9, GTF_permit_access, 3, m.n);
    assert_int_equal(op(db, GNTTABOP_map_grant_ref, &a), 0);
    assert_int_equal(a.status, GNTST_okay);
    assert_int_equal(a.dev_bus_addr, m.n << FRAME_SHIFT);
    assert_int_equal(unmap(db, a.handle, VA(0), a.dev_bus_addr + 1), GNTST_bad_dev_addr);
    assert_true(fake_is_mapped(VA(0), m));
    assert_int_equal(unmap(db, a.handle, VA(0), 0), GNTST_okay);
    assert_int_equal(flags1(9) & GTF_writing, GTF_writing); /* the device still may */
    assert_int_equal(fake_pins(m, true), 1);
    assert_int_equal(unmap(db, a.handle, 0, a.dev_bus_addr), GNTST_okay);
    assert_int_equal(fake_pins(m, true), 0);
    assert_int_equal(flags1(9), GTF_permit_access);
}

static void map_refusals(void **state)
{
    mfn_t m = frame_of(da), table = frame_of(da), foreign = frame_of(ctl);
    uint32_t h;

    grant1(8, GTF_permit_access, 3, m.n);
    grant1(9, GTF_permit_access | GTF_readonly, 3, m.n);
    grant1(10, GTF_permit_access, 1, m.n);
    grant1(11, GTF_accept_transfer, 3, m.n);
    grant1(12, GTF_permit_access, 3, foreign.n);
    grant1(13, GTF_permit_access, 3, 0xffffffff);
    grant1(14, GTF_permit_access, 3, table.n);
    grant1(15, GTF_transitive, 3, m.n);
    fake_set_page_table(table, true);
    assert_int_equal(map(db, 2, 8, 0, VA(0), &h), GNTST_bad_gntref);
    assert_int_equal(map(db, 99, 8, GNTMAP_host_map, VA(0), &h), GNTST_bad_domain);
    assert_int_equal(map(db, DOMID_XEN, 8, GNTMAP_host_map, VA(0), &h), GNTST_bad_domain);
    assert_int_equal(map(db, 2, 512, GNTMAP_host_map, VA(0), &h), GNTST_bad_gntref);
    assert_int_equal(map(db, 2, ~0u, GNTMAP_host_map, VA(0), &h), GNTST_bad_gntref);
    assert_int_equal(map(db, 2, 7, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    assert_int_equal(map(db, 2, 9, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    assert_int_equal(map(db, 2, 10, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    assert_int_equal(map(db, 2, 11, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    assert_int_equal(map(db, 2, 12, GNTMAP_host_map, VA(0), &h), GNTST_bad_page);
    assert_int_equal(map(db, 2, 13, GNTMAP_host_map, VA(0), &h), GNTST_bad_page);
    assert_int_equal(map(db, 2, 14, GNTMAP_host_map, VA(0), &h), GNTST_bad_page);
    assert_int_equal(map(db, 2, 15, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    fake_fail_map = 1;
    assert_int_equal(map(db, 2, 8, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    fake_fail_map = 0;
    for (uint32_t ref = 7; ref < 16; ref++)
        assert_int_equal(flags1(ref) & (GTF_reading | GTF_writing) & ~(ref == 11 ? 0xffffu : 0), 0);
    assert_int_equal(map(db, 2, 14, GNTMAP_host_map | GNTMAP_readonly, VA(0), &h), GNTST_okay);
    assert_int_equal(map(db, 2, 14, GNTMAP_host_map, VA(1), &h), GNTST_bad_page);
    assert_int_equal(flags1(14), GTF_permit_access | GTF_reading); /* the writer's bit went again */
    assert_int_equal(db->grant->track_used, 1);
    assert_int_equal(da->grant->in_use, 1);
    for (unsigned nr = GNTTABOP_map_grant_ref; nr < GNTTABOP_cache_flush; nr++)
        if (nr != GNTTABOP_dump_table)
            assert_int_equal(op(db, nr, (void *)8), -EFAULT);
    assert_int_equal(op(db, GNTTABOP_dump_table, &h), -EPERM);
    assert_int_equal(op(db, GNTTABOP_cache_flush, &h), -EOPNOTSUPP);
    fake_set_page_table(table, false);
}

/* Names of what was not granted do not make the granter's table larger. */
static void refused_names_take_nothing(void **state)
{
    uint32_t h;

    grant1(70, GTF_permit_access, 1, frame_of(da).n);
    for (uint32_t ref = 0; ref < 512; ref++) {
        assert_int_equal(map(db, 2, ref, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
        assert_null(grant_active(da->grant, ref));
    }
}

/* What counts is what was granted when the first pin was made. */
static void granter_changes_its_mind(void **state)
{
    mfn_t m = frame_of(da), other = frame_of(da);
    uint32_t h, h2;

    grant1(8, GTF_permit_access, 3, m.n);
    assert_int_equal(map(db, 2, 8, GNTMAP_host_map | GNTMAP_readonly, VA(0), &h), GNTST_okay);
    grant_v1(da->grant, 8)->frame = (uint32_t)other.n;
    assert_int_equal(map(db, 2, 8, GNTMAP_host_map | GNTMAP_readonly, VA(1), &h2), GNTST_okay);
    assert_true(fake_is_mapped(VA(1), m));
    assert_int_equal(map(ctl, 2, 8, GNTMAP_host_map | GNTMAP_readonly, VA(2), &h2), GNTST_general_error);
    grant1(8, GTF_permit_access, 1, other.n);
    assert_int_equal(map(ctl, 2, 8, GNTMAP_host_map | GNTMAP_readonly, VA(2), &h2), GNTST_general_error);
    assert_int_equal(unmap(db, h, VA(0), 0), GNTST_okay);
    grant1(8, 0, 0, 0);
}

static void handles_run_out(void **state)
{
    mfn_t m = frame_of(da);
    uint32_t h, seen = 0;

    grant1(8, GTF_permit_access, 3, m.n);
    for (unsigned i = 0; i < 2 * TRACKS_PER_FRAME; i++) {
        assert_int_equal(map(db, 2, 8, GNTMAP_device_map | GNTMAP_readonly, 0, &h), GNTST_okay);
        seen = MAX(seen, h);
    }
    assert_int_equal(seen, 2 * TRACKS_PER_FRAME - 1);
    assert_int_equal(map(db, 2, 8, GNTMAP_device_map | GNTMAP_readonly, 0, &h), GNTST_no_space);
    assert_int_equal(unmap(db, 300, 0, m.n << FRAME_SHIFT), GNTST_okay);
    assert_int_equal(map(db, 2, 8, GNTMAP_device_map, 0, &h), GNTST_okay);
    assert_int_equal(h, 300);
    grant_room_check(db);
}

static void batches(void **state)
{
    struct gnttab_map_grant_ref m[40];
    struct gnttab_unmap_grant_ref u[41];
    struct gnttab_unmap_and_replace r[2];
    unsigned again = 0;

    for (uint32_t i = 0; i < 40; i++) {
        grant1(100 + i, GTF_permit_access, 3, frame_of(da).n);
        m[i] = (struct gnttab_map_grant_ref){
            .host_addr = VA(i), .flags = GNTMAP_host_map | GNTMAP_device_map, .ref = 100 + i, .dom = 2};
    }
    fake_preempt_every = 3;
    assert_int_equal(fake_hypercall(db->vcpu[0], grant_ops, grant_op_count, 0, GNTTABOP_map_grant_ref,
                                    (uintptr_t)m, 40, &again),
                     0);
    assert_true(again > 10);
    fake_preempt_every = 0;
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(m[i].status, GNTST_okay);
        u[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = VA(i), .dev_bus_addr = i ? m[i].dev_bus_addr : 0, .handle = m[i].handle};
    }
    /* The same handle again in one batch, for its other half. */
    u[40] = (struct gnttab_unmap_grant_ref){.dev_bus_addr = m[0].dev_bus_addr, .handle = m[0].handle};
    u[39] = u[40];
    u[40] = (struct gnttab_unmap_grant_ref){
        .host_addr = VA(39), .dev_bus_addr = m[39].dev_bus_addr, .handle = m[39].handle};
    fake_grant_flushes = 0;
    assert_int_equal(op_n(db, GNTTABOP_unmap_grant_ref, u, 41), 0);
    for (uint32_t i = 0; i < 41; i++)
        assert_int_equal(u[i].status, GNTST_okay);
    assert_int_equal(fake_grant_flushes, 3);
    assert_int_equal(db->grant->track_used, 0);
    assert_int_equal(da->grant->in_use, 0);
    /* unmap_and_replace: the rest of the list is done although one fails */
    assert_int_equal(op_n(db, GNTTABOP_map_grant_ref, m, 1), 0);
    r[0] = (struct gnttab_unmap_and_replace){.host_addr = VA(0), .handle = 400, .new_addr = VA(50)};
    r[1] = (struct gnttab_unmap_and_replace){.host_addr = VA(0), .handle = m[0].handle, .new_addr = VA(50)};
    assert_int_equal(op_n(db, GNTTABOP_unmap_and_replace, r, 2), 0);
    assert_int_equal(r[0].status, GNTST_bad_handle);
    assert_int_equal(r[1].status, GNTST_okay);
    assert_int_equal(unmap(db, m[0].handle, 0, m[0].dev_bus_addr), GNTST_okay);
}

static void copies(void **state)
{
    mfn_t ours = frame_of(db), theirs = frame_of(da), secret = frame_of(da);
    char *p = arch_frame_va(ours), *q = arch_frame_va(theirs);

    grant1(8, GTF_permit_access, 3, theirs.n);
    grant1(9, GTF_permit_access | GTF_readonly, 3, theirs.n);
    strcpy(p + 100, "hello");
    assert_int_equal(copy(db, own(ours, 100), of_grant(2, 8, 200), 6, GNTCOPY_dest_gref), GNTST_okay);
    assert_string_equal(q + 200, "hello");
    assert_int_equal(copy(db, of_grant(2, 9, 200), own(ours, 4090), 6, GNTCOPY_source_gref), GNTST_okay);
    assert_string_equal(p + 4090, "hello");
    assert_int_equal(copy(db, own(ours, 100), of_grant(2, 9, 200), 6, GNTCOPY_dest_gref),
                     GNTST_general_error);
    assert_int_equal(copy(db, own(ours, 4090), of_grant(2, 8, 0), 7, GNTCOPY_dest_gref), GNTST_bad_copy_arg);
    assert_int_equal(copy(db, own(ours, 0), of_grant(2, 8, 0xffff), 0xffff, GNTCOPY_dest_gref),
                     GNTST_bad_copy_arg);
    assert_int_equal(copy(db, own(secret, 0), own(ours, 0), 8, 0), GNTST_bad_page);
    assert_int_equal(copy(db, of_grant(2, 0, 0), own(ours, 0), 8, 0), GNTST_permission_denied);
    assert_int_equal(copy(db, of_grant(99, 8, 0), own(ours, 0), 8, GNTCOPY_source_gref), GNTST_bad_domain);
    assert_int_equal(copy(db, own(ours, 0), own(ours, 8), 4000, 0), GNTST_okay); /* overlapping */
    assert_int_equal(flags1(8), GTF_permit_access);
    assert_int_equal(da->grant->in_use, 0);
    assert_int_equal(fake_pins(ours, true) + fake_pins(ours, false), 0);
}

static void copy_list(void **state)
{
    static struct gnttab_copy list[64];
    mfn_t ours = frame_of(db), theirs = frame_of(da);
    unsigned again = 0;

    grant1(8, GTF_permit_access, 3, theirs.n);
    for (unsigned i = 0; i < 64; i++) {
        ((char *)arch_frame_va(ours))[i] = (char)(i + 1);
        list[i] = (struct gnttab_copy){.source = own(ours, (uint16_t)i),
                                       .dest = of_grant(2, 8, (uint16_t)(63 - i)),
                                       .len = 1,
                                       .flags = GNTCOPY_dest_gref};
    }
    list[20].dest.u.ref = 9;
    fake_preempt_every = 2;
    assert_int_equal(
        fake_hypercall(db->vcpu[0], grant_ops, grant_op_count, 0, GNTTABOP_copy, (uintptr_t)list, 64, &again),
        0);
    assert_true(again >= 3);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(list[i].status, i == 20 ? GNTST_general_error : GNTST_okay);
        assert_int_equal(((char *)arch_frame_va(theirs))[63 - i], i == 20 ? 0 : i + 1);
    }
    assert_int_equal(da->grant->in_use, 0);
    fake_preempt_every = 0;
    fake_fail_copy = 3; /* writing back the second status: nothing stays pinned */
    assert_int_equal(op_n(db, GNTTABOP_copy, list, 4), -EFAULT);
    assert_int_equal(da->grant->in_use, 0);
}

static void version_two(void **state)
{
    mfn_t m = frame_of(da), ours = frame_of(db);
    struct gnttab_get_version g = {.dom = DOMID_SELF};
    uint32_t h;

    grant1(1, GTF_permit_access, 3, m.n);
    assert_int_equal(version(da, 3), -EINVAL);
    assert_int_equal(version(da, 0), -EINVAL);
    assert_int_equal(map(db, 2, 1, GNTMAP_host_map, VA(0), &h), GNTST_okay);
    assert_int_equal(version(da, 2), 0); /* a reserved entry goes on */
    assert_int_equal(*grant_status_word(da->grant, 1), GTF_reading | GTF_writing);
    assert_int_equal(grant_v2(da->grant, 1)->hdr.flags, GTF_permit_access);
    assert_int_equal(grant_v2(da->grant, 1)->full_page.frame, m.n);
    assert_int_equal(op(da, GNTTABOP_get_version, &g), 0);
    assert_int_equal(g.version, 2);
    assert_int_equal(unmap(db, h, VA(0), 0), GNTST_okay);
    assert_int_equal(*grant_status_word(da->grant, 1), 0);
    grant2(20, GTF_permit_access, 3, m.n);
    assert_int_equal(map(db, 2, 20, GNTMAP_host_map, VA(0), &h), GNTST_okay);
    assert_int_equal(*grant_status_word(da->grant, 20), GTF_reading | GTF_writing);
    assert_int_equal(grant_v2(da->grant, 20)->hdr.flags, GTF_permit_access);
    assert_int_equal(version(da, 1), -EBUSY);
    assert_int_equal(unmap(db, h, VA(0), 0), GNTST_okay);
    /* part of a page */
    grant2(21, GTF_permit_access | GTF_sub_page, 3, m.n);
    grant_v2(da->grant, 21)->sub_page.page_off = 100;
    grant_v2(da->grant, 21)->sub_page.length = 50;
    assert_int_equal(map(db, 2, 21, GNTMAP_host_map, VA(0), &h), GNTST_general_error);
    assert_int_equal(copy(db, of_grant(2, 21, 100), own(ours, 0), 50, GNTCOPY_source_gref), GNTST_okay);
    assert_int_equal(copy(db, of_grant(2, 21, 99), own(ours, 0), 2, GNTCOPY_source_gref),
                     GNTST_general_error);
    assert_int_equal(copy(db, of_grant(2, 21, 100), own(ours, 0), 51, GNTCOPY_source_gref),
                     GNTST_general_error);
    assert_int_equal(*grant_status_word(da->grant, 21), 0);
    /* an entry that version 1 cannot say */
    grant2(2, GTF_permit_access | GTF_sub_page, 3, m.n);
    assert_int_equal(version(da, 1), -ERANGE);
    grant2(2, 0, 0, 0);
    assert_int_equal(version(da, 1), 0);
    assert_int_equal(grant_v1(da->grant, 1)->frame, m.n);
    assert_int_equal(da->grant->status_frames, 0);
    fake_fail_alloc = 1;
    assert_int_equal(version(da, 2), -ENOMEM);
    assert_int_equal(da->grant->version, 1);
}

static void transitive(void **state)
{
    mfn_t theirs = frame_of(ctl), ours = frame_of(db);
    grant_entry_v1_t *e = grant_v1(ctl->grant, 30);
    grant_entry_v2_t *t;
    uint32_t h;

    assert_int_equal(version(da, 2), 0);
    t = grant_v2(da->grant, 40);
    e->frame = (uint32_t)theirs.n;
    e->domid = 2; /* to da */
    e->flags = GTF_permit_access | GTF_readonly;
    t->transitive.trans_domid = 1;
    t->transitive.gref = 30;
    t->hdr.domid = 3; /* who lets db use it */
    t->hdr.flags = GTF_transitive;
    strcpy(arch_frame_va(theirs), "far away");
    assert_int_equal(copy(db, of_grant(2, 40, 0), own(ours, 0), 9, GNTCOPY_source_gref), GNTST_okay);
    assert_string_equal(arch_frame_va(ours), "far away");
    assert_int_equal(copy(db, own(ours, 0), of_grant(2, 40, 0), 9, GNTCOPY_dest_gref), GNTST_general_error);
    assert_int_equal(map(db, 2, 40, GNTMAP_host_map | GNTMAP_readonly, VA(0), &h), GNTST_general_error);
    assert_int_equal(e->flags, GTF_permit_access | GTF_readonly);
    e->domid = 3; /* not to da */
    assert_int_equal(copy(db, of_grant(2, 40, 0), own(ours, 0), 9, GNTCOPY_source_gref), GNTST_general_error);
    t->transitive.trans_domid = 2; /* to itself: once further only */
    t->transitive.gref = 40;
    t->hdr.domid = 2;
    assert_int_equal(copy(da, of_grant(2, 40, 0), own(frame_of(da), 0), 9, GNTCOPY_source_gref),
                     GNTST_general_error);
    assert_int_equal(da->grant->in_use, 0);
    assert_int_equal(ctl->grant->in_use, 0);
}

static void tables(void **state)
{
    uint64_t list[8] = {0};
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 2};
    struct gnttab_query_size q = {.dom = DOMID_SELF};
    struct gnttab_get_status_frames f = {.dom = DOMID_SELF, .nr_frames = 1};
    mfn_t m;

    s.frame_list.p = (void *)list;
    f.frame_list.p = (void *)list;
    assert_int_equal(op(da, GNTTABOP_setup_table, &s), 0);
    assert_int_equal(s.status, GNTST_okay);
    assert_int_equal(list[1], arch_va_mfn(da->grant->shared[1]).n);
    assert_int_equal(list[2], 0);
    assert_int_equal(op(da, GNTTABOP_query_size, &q), 0);
    assert_int_equal(q.nr_frames, 2);
    assert_int_equal(q.max_nr_frames, 4);
    s.nr_frames = 5;
    assert_int_equal(op(da, GNTTABOP_setup_table, &s), 0);
    assert_int_equal(s.status, GNTST_general_error);
    s.nr_frames = 2;
    s.frame_list.p = (void *)8;
    assert_int_equal(op(da, GNTTABOP_setup_table, &s), 0);
    assert_int_equal(s.status, GNTST_bad_virt_addr);
    s.dom = 3;
    assert_int_equal(op(da, GNTTABOP_setup_table, &s), 0);
    assert_int_equal(s.status, GNTST_permission_denied);
    s.frame_list.p = (void *)list;
    assert_int_equal(op(ctl, GNTTABOP_setup_table, &s), 0);
    assert_int_equal(s.status, GNTST_okay);
    s.dom = 66;
    assert_int_equal(op(ctl, GNTTABOP_setup_table, &s), 0);
    assert_int_equal(s.status, GNTST_bad_domain);
    write_lock(&da->grant->lock); /* whoever asks: the limit is grant_grow's */
    assert_int_equal(grant_grow(da, da->grant->max_frames + 1), -EINVAL);
    write_unlock(&da->grant->lock);
    assert_int_equal(op_n(da, GNTTABOP_setup_table, &s, 2), -EINVAL);
    assert_int_equal(op(da, GNTTABOP_get_status_frames, &f), 0);
    assert_int_equal(f.status, GNTST_general_error);
    assert_int_equal(version(da, 2), 0);
    assert_int_equal(op(da, GNTTABOP_get_status_frames, &f), 0);
    assert_int_equal(f.status, GNTST_okay);
    assert_int_equal(list[0], arch_va_mfn(da->grant->status[0]).n);
    assert_int_equal(grant_frame(da, 3, false, &m), 0);
    assert_int_equal(grant_frame_count(da), 4);
    assert_int_equal(grant_frame(da, 4, false, &m), -EINVAL);
    assert_int_equal(grant_frame(da, ~0u, true, &m), -EINVAL);
    assert_int_equal(grant_frame(da, 0, true, &m), 0);
    assert_int_equal(m.n, list[0]);
    assert_int_equal(grant_frame(db, 0, true, &m), -EINVAL);
    fake_fail_alloc = 1;
    assert_int_equal(grant_frame(db, 3, false, &m), -ENOMEM);
    grant_dump();
}

static void swaps(void **state)
{
    mfn_t m = frame_of(da);
    struct gnttab_swap_grant_ref s = {.ref_a = 10, .ref_b = 11};
    uint32_t h;

    grant1(10, GTF_permit_access, 3, m.n);
    assert_int_equal(op(da, GNTTABOP_swap_grant_ref, &s), 0);
    assert_int_equal(s.status, GNTST_okay);
    assert_int_equal(flags1(10), 0);
    assert_int_equal(map(db, 2, 11, GNTMAP_host_map, VA(0), &h), GNTST_okay);
    assert_int_equal(op(da, GNTTABOP_swap_grant_ref, &s), 0);
    assert_int_equal(s.status, GNTST_eagain);
    s.ref_b = 512;
    assert_int_equal(op(da, GNTTABOP_swap_grant_ref, &s), 0);
    assert_int_equal(s.status, GNTST_bad_gntref);
}

static void transfers(void **state)
{
    mfn_t m = frame_of(db), held = frame_of(db);
    struct gnttab_transfer t = {.mfn = m.n, .domid = 2, .ref = 50};
    uint64_t before = db->frames, theirs = da->frames;

    assert_int_equal(arch_physmap_add(db, GFN(5), m, 0), 0);
    grant1(50, GTF_accept_transfer, 3, 77);
    strcpy(arch_frame_va(m), "moving");
    fake_grant_flushes = 0;
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0);
    assert_int_equal(t.status, GNTST_okay);
    assert_int_equal(fake_grant_flushes, 1); /* of db: it must not reach its former frame any more */
    assert_int_equal(flags1(50), GTF_accept_transfer | GTF_transfer_committed | GTF_transfer_completed);
    assert_int_equal(grant_v1(da->grant, 50)->frame, m.n);
    assert_int_equal(db->frames, before - 1);
    assert_int_equal(da->frames, theirs + 1);
    assert_string_equal(arch_frame_va(m), "moving");
    assert_int_equal(arch_mfn_to_gfn(da, m).n, 77);
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0); /* no longer ours */
    assert_int_equal(t.status, GNTST_bad_page);
    frame_ref(mfn_frame(held));
    t.mfn = held.n;
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0);
    assert_int_equal(t.status, GNTST_bad_page);
    frame_put(mfn_frame(held));
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0); /* nobody waits: gone, as the interface says */
    assert_int_equal(t.status, GNTST_general_error);
    assert_int_equal(db->frames, before - 2);
    grant1(52, GTF_accept_transfer, 1, 79); /* waits for another domain's */
    t.ref = 52;
    t.mfn = frame_of(db).n;
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0);
    assert_int_equal(t.status, GNTST_general_error);
    assert_int_equal(flags1(52), GTF_accept_transfer);
    grant1(51, GTF_accept_transfer, 3, 78);
    t.ref = 51;
    t.mfn = frame_of(db).n;
    da->max_frames = da->frames;
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0);
    assert_int_equal(t.status, GNTST_general_error);
    assert_int_equal(flags1(51), GTF_accept_transfer); /* not committed */
    da->max_frames = 200;
    t.mfn = frame_of(db).n;
    t.domid = 88;
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0);
    assert_int_equal(t.status, GNTST_bad_domain);
    t.mfn = 1ull << 60;
    assert_int_equal(op(db, GNTTABOP_transfer, &t), 0);
    assert_int_equal(t.status, GNTST_bad_page);
    frame_room_check();
}

/* The user dies with mappings; the granter dies while it is mapped and stays as long as that lasts. */
static void death_of_user(void **state)
{
    struct domain *d = domain_new(4, false);
    mfn_t m = frame_of(da);
    uint32_t h;

    grant1(8, GTF_permit_access, 4, m.n);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(map(d, 2, 8, GNTMAP_host_map | (i % 2 ? GNTMAP_readonly : 0), VA(i), &h),
                         GNTST_okay);
    fake_preempt_every = 2;
    fake_domain_end(d);
    fake_preempt_every = 0;
    assert_int_equal(flags1(8), GTF_permit_access);
    assert_int_equal(da->grant->in_use, 0);
    assert_int_equal(fake_pins(m, true) + fake_pins(m, false), 0);
    assert_null(domain_get(DID(4)));
    fake_grant_maps = 0;
}

static void death_of_granter(void **state)
{
    struct domain *d = domain_new(4, false);
    mfn_t m;
    uint32_t h, h2;
    grant_entry_v1_t *e = grant_v1(d->grant, 8);

    assert_int_equal(frame_alloc_domain(d, 0, 64, FA_ZERO, &m), 0);
    e->frame = (uint32_t)m.n;
    e->domid = 3;
    e->flags = GTF_permit_access;
    assert_int_equal(map(db, 4, 8, GNTMAP_host_map, VA(0), &h), GNTST_okay);
    fake_domain_end(d);
    d = domain_get(DID(4)); /* a zombie */
    assert_non_null(d);
    assert_int_equal(mfn_frame(m)->owner, 4);
    assert_int_equal(grant_frame(d, 3, false, &m), -EINVAL);
    assert_int_equal(map(db, 4, 8, GNTMAP_host_map, VA(1), &h2), GNTST_okay); /* still held: harmless */
    assert_int_equal(unmap(db, h2, VA(1), 0), GNTST_okay);
    domain_put(d);
    assert_int_equal(unmap(db, h, VA(0), 0), GNTST_okay);
    fake_run_until(fake_now + 1000000000ull);
    assert_null(domain_get(DID(4)));
}

/* --- model --- */

struct model_map {
    bool live, readonly;
    uint32_t handle, ref;
    uint64_t va, dev;
};

/* What the entry's bits must be, from the model's list of mappings. */
static void model_check(const struct model_map *maps, unsigned n)
{
    for (uint32_t ref = 16; ref < 24; ref++) {
        uint16_t want = 0, have;

        for (unsigned i = 0; i < n; i++)
            if (maps[i].live && maps[i].ref == ref)
                want |= (uint16_t)(GTF_reading | (maps[i].readonly ? 0 : GTF_writing));
        have = da->grant->version == 1 ? flags1(ref) : *grant_status_word(da->grant, ref);
        assert_int_equal(have & (GTF_reading | GTF_writing), want);
    }
}

static void model(void **state)
{
    static struct model_map maps[64];
    unsigned seed = 4711;
    mfn_t m[8];

    memset(maps, 0, sizeof(maps));
    for (unsigned i = 0; i < 8; i++)
        m[i] = frame_of(da);
    for (unsigned step = 0; step < 8000; step++) {
        struct model_map *x = &maps[(unsigned)rand_r(&seed) % 64];
        uint32_t ref = 16 + (uint32_t)rand_r(&seed) % 8;
        unsigned flags = GNTMAP_host_map | ((unsigned)rand_r(&seed) % 2 ? GNTMAP_readonly : 0) |
                         ((unsigned)rand_r(&seed) % 2 ? GNTMAP_device_map : 0);
        int r;

        fake_fail_map = rand_r(&seed) % 10 ? 0 : 1;
        fake_fail_alloc = rand_r(&seed) % 20 ? 0 : 1;
        switch (rand_r(&seed) % 8) {
        case 0:
            if (step % 500 < 20)
                (void)(version(da, 1 + (uint32_t)rand_r(&seed) % 2));
            break;
        case 1: /* the granter writes, as a real one: not over an entry in use */
            if (grant_active(da->grant, ref) &&
                (grant_active(da->grant, ref)->read || grant_active(da->grant, ref)->write))
                break;
            if (da->grant->version == 1)
                grant1(ref, (uint16_t)(GTF_permit_access | (rand_r(&seed) % 4 ? 0 : GTF_readonly)), 3,
                       m[ref - 16].n);
            else
                grant2(ref, (uint16_t)(GTF_permit_access | (rand_r(&seed) % 4 ? 0 : GTF_readonly)), 3,
                       m[ref - 16].n);
            break;
        case 2:
        case 3:
        case 4:
            if (x->live)
                break;
            x->va = VA(x - maps);
            r = map(db, 2, ref, flags, x->va, &x->handle);
            x->live = r == GNTST_okay;
            x->ref = ref;
            x->readonly = flags & GNTMAP_readonly;
            x->dev = flags & GNTMAP_device_map ? m[ref - 16].n << FRAME_SHIFT : 0;
            break;
        default:
            r = unmap(db, x->live ? x->handle : 500, x->va, x->dev);
            assert_int_equal(r, x->live ? GNTST_okay : GNTST_bad_handle);
            x->live = false;
        }
        fake_fail_map = fake_fail_alloc = 0;
        grant_room_check(da);
        grant_room_check(db);
        grant_room_check_sums(da);
        model_grant_pins_check();
        model_check(maps, 64);
    }
    for (unsigned i = 0; i < 64; i++)
        if (maps[i].live)
            assert_int_equal(unmap(db, maps[i].handle, maps[i].va, maps[i].dev), GNTST_okay);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(fake_pins(m[i], true) + fake_pins(m[i], false), 0);
}

/* A granter that writes garbage all the time; a user that passes garbage numbers. */
static void hostile(void **state)
{
    static uint64_t garbage[512];
    unsigned seed = 31337;

    for (unsigned step = 0; step < 4000; step++) {
        uint32_t ref = (uint32_t)rand_r(&seed) % 64, h;
        uint8_t *e = (uint8_t *)da->grant->shared[0];

        e[(unsigned)rand_r(&seed) % 1024] = (uint8_t)rand_r(&seed);
        switch (rand_r(&seed) % 6) {
        case 0:
            e[ref * 8] = GTF_permit_access;
            e[ref * 8 + 2] = 3;
            e[ref * 8 + 3] = 0;
            (void)(map(db, 2, ref, (unsigned)rand_r(&seed) & 0x1f, VA(step % 100), &h));
            break;
        case 1:
            (void)(unmap(db, (uint32_t)rand_r(&seed) % 16, VA(step % 100), (uint64_t)rand_r(&seed) << 12));
            break;
        case 2:
            (void)(version(da, 1 + (uint32_t)rand_r(&seed) % 2));
            break;
        default:
            for (unsigned i = 0; i < ARRAY_SIZE(garbage); i++)
                garbage[i] = (uint64_t)rand_r(&seed) % 100 ? (uint64_t)rand_r(&seed) % 8
                                                           : (uint64_t)rand_r(&seed) << 20;
            (void)(op_n(step % 2 ? da : db, (unsigned)rand_r(&seed) % 13, garbage,
                        (uint32_t)rand_r(&seed) % 20));
        }
        grant_room_check(da);
        grant_room_check(db);
        grant_room_check_sums(da);
        model_grant_pins_check();
    }
    fake_grant_maps = 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(map_unmap),        T(map_device),
        T(map_refusals),     T(granter_changes_its_mind),
        T(handles_run_out),  T(batches),
        T(copies),           T(copy_list),
        T(version_two),      T(transitive),
        T(tables),           T(swaps),
        T(transfers),        T(death_of_user),
        T(death_of_granter), T(model),
        T(hostile),          T(refused_names_take_nothing),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
