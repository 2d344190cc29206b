/*
 * Translated domains as others meet them: memory_op with a real p2m, a PV control domain that maps their memory by its numbers, grants in
 * both directions, foreign mappings; and what hostile numbers, races and missing memory do to all that.
 */
#include "pv.h"
#include "core/grant.h"
#include "core/grant/private.h"
#include "core/memory_op.h"
#include "core/sched.h"

#define VA 0x500000000000ull

/* --- guests --- */

static struct domain *ctl, *hvm, *two; /* the PV control domain, translated guests */
static unsigned flushes;
static void (*during_flush)(void); /* what another CPU does meanwhile */

static void flush(struct domain *d)
{
    void (*fn)(void) = during_flush;

    flushes++;
    during_flush = NULL;
    if (fn)
        fn();
}
static void paging(struct vcpu *v, struct guest_paging *p)
{
    *p = (struct guest_paging){0};
}

static struct domain *domain_new(uint16_t id, const struct guest_ops *ops)
{
    struct domain_config c = {.ops = ops,
                              .privileged = id == 1,
                              .max_vcpus = 1,
                              .max_evtchn_port = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 3000};

    return fake_domain_new(id, &c);
}

static int group_setup(void **state)
{
    static const struct p2m_machine machine = {
        .flush = flush, .paging = paging, .large = true, .huge = true, .guest_bits = 40};

    fake_machine(16384, 2);
    p2m_machine_set(&machine);
    return 0;
}

static mfn_t l4, l1; /* the control domain's */

static mfn_t page(struct domain *d)
{
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    return m;
}
static uint64_t *at(mfn_t m)
{
    return arch_frame_va(m);
}

static long ext(unsigned cmd, uint64_t arg1, uint16_t fd)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.mfn = arg1};
    struct hypercall hc = {.caller = ctl->vcpu[0], .arg = {(uint64_t)&op, 1, 0, fd}};
    long r;

    while ((r = pv_mmuext_op(&hc)) == HC_AGAIN)
        ;
    return r;
}

static uint64_t free_before;

static int setup(void **state)
{
    mfn_t l3, l2;

    free_before = frame_free_node(0);
    ctl = domain_new(1, &fake_guest_ops);
    hvm = domain_new(2, &fake_translated_ops);
    two = domain_new(3, &fake_translated_ops);
    l4 = page(ctl);
    l3 = page(ctl);
    l2 = page(ctl);
    l1 = page(ctl);
    at(l4)[pt_index(VA, 4)] = pte_make(l3, PTB);
    at(l3)[pt_index(VA, 3)] = pte_make(l2, PTB);
    at(l2)[pt_index(VA, 2)] = pte_make(l1, PTB);
    fake_current[0] = ctl->vcpu[0];
    assert_int_equal(ext(MMUEXT_PIN_L4_TABLE, l4.n, DOMID_SELF), 0);
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, l4.n, DOMID_SELF), 0);
    flushes = 0;
    return 0;
}

static void check(void)
{
    p2m_room_check(hvm);
    p2m_room_check(two);
    pv_mmu_room_check(ctl);
    pv_mmu_room_check(hvm);
    grant_room_check(ctl);
    grant_room_check(hvm);
    grant_room_check(two);
    frame_room_check();
}

static int teardown(void **state)
{
    fake_fail_alloc = fake_fail_mem = fake_fail_copy = fake_preempt_every = 0;
    during_flush = NULL;
    check();
    fake_current[0] = sched_idle_vcpu(0);
    fake_preempt_every = 3;
    fake_domain_end(hvm);
    fake_preempt_every = 0;
    fake_domain_end(two);
    fake_domain_end(ctl);
    assert_null(domain_get(DID(2)));
    assert_null(domain_get(DID(3)));
    frame_room_check();
    return 0;
}

/* --- hypercalls --- */

static long mem(struct domain *d, unsigned nr, void *arg)
{
    return fake_hypercall(d->vcpu[0], memory_ops, memory_op_count, 63, nr, (uintptr_t)arg, 0, NULL);
}
static long reserve(struct domain *by, unsigned nr, uint64_t gfn, unsigned order)
{
    xen_pfn_t list = gfn;
    struct xen_memory_reservation r = {.nr_extents = 1, .extent_order = order, .domid = 2};

    r.extent_start.p = &list;
    return mem(by, nr, &r);
}
static long populate(uint64_t gfn, unsigned order)
{
    return reserve(ctl, XENMEM_populate_physmap, gfn, order);
}
static long decrease(uint64_t gfn, unsigned order)
{
    return reserve(hvm, XENMEM_decrease_reservation, gfn, order);
}
static long place(struct domain *by, unsigned space, uint64_t idx, uint64_t gfn)
{
    struct xen_add_to_physmap a = {.domid = 2, .space = space, .idx = idx, .gpfn = gfn, .size = 1};

    return mem(by, XENMEM_add_to_physmap, &a);
}
static int foreign(struct domain *by, uint16_t from, uint64_t idx, uint64_t gfn)
{
    struct xen_add_to_physmap_batch b = {
        .domid = 2, .space = XENMAPSPACE_gmfn_foreign, .size = 1, .u.foreign_domid = from};
    int err = 1;
    long r;

    b.idxs.p = &idx;
    b.gpfns.p = &gfn;
    b.errs.p = &err;
    r = mem(by, XENMEM_add_to_physmap_batch, &b);
    return r ? (int)r : err;
}
static long unplace(struct domain *by, uint64_t gfn)
{
    struct xen_remove_from_physmap a = {.domid = 2, .gpfn = gfn};

    return mem(by, XENMEM_remove_from_physmap, &a);
}
static struct p2m_entry look(struct domain *d, uint64_t gfn)
{
    struct p2m_entry e;

    p2m_look(d, GFN(gfn), &e);
    return e;
}
static uint64_t refs(mfn_t m)
{
    return mfn_frame(m)->count & FRAME_REF_MASK;
}
/* mmu_update of entry i of the control domain's L1 */
static long update(unsigned i, uint64_t e, unsigned cmd, uint32_t fd)
{
    mmu_update_t u = {(mfn_to_maddr(l1).a + i * 8) | cmd, e};
    struct hypercall hc = {.caller = ctl->vcpu[0], .arg = {(uint64_t)&u, 1, 0, fd}};
    long r;

    while ((r = pv_mmu_update(&hc)) == HC_AGAIN)
        ;
    return r;
}

/* --- memory_op --- */

static void reservation(void **state)
{
    assert_int_equal(populate(0x400, 9), 1);
    assert_int_equal(hvm->frames, 512);
    assert_int_equal(look(hvm, 0x400 + 5).order, 9);
    assert_int_equal(m2p_get(look(hvm, 0x405).mfn), 0x405);
    assert_int_equal(populate(3, 0), 1);
    check();
    assert_int_equal(decrease(0x410, 0), 1);
    assert_int_equal(hvm->frames, 512);
    assert_int_equal(look(hvm, 0x410).type, P2M_NONE);
    assert_int_equal(decrease(0x410, 0), 0);
    assert_int_equal(populate(0x410, 0), 1);
    assert_int_equal(decrease(0x410, 0), 1);
    assert_int_equal(decrease(0x400, 4), 1);
    assert_int_equal(decrease(0x400, 9), 0); /* nothing at its beginning any more */
    check();
    {
        domid_t id = 2;

        assert_int_equal(mem(ctl, XENMEM_maximum_gpfn, &id), 0x5ff);
    }
}

/* A balloon driver's list: few flushes, and an end where something is not there. */
static void a_list_of_numbers(void **state)
{
    xen_pfn_t list[100];
    struct xen_memory_reservation r = {.nr_extents = 100, .domid = 2};

    r.extent_start.p = list;
    assert_int_equal(populate(0x400, 9), 1);
    for (unsigned i = 0; i < 100; i++)
        list[i] = 0x400 + 5 * i;
    flushes = 0;
    fake_preempt_every = 1;
    assert_int_equal(mem(hvm, XENMEM_decrease_reservation, &r), 100);
    fake_preempt_every = 0;
    assert_int_equal(flushes, 4);
    assert_int_equal(hvm->frames, 412);
    assert_int_equal(mem(hvm, XENMEM_decrease_reservation, &r), 0);
    list[0] = 0x401;
    list[1] = 0x402;
    list[2] = ~0ull;
    assert_int_equal(mem(hvm, XENMEM_decrease_reservation, &r), 2);
    assert_int_equal(hvm->frames, 410);
    list[0] = 0x403;
    list[1] = 0x403; /* twice */
    assert_int_equal(mem(hvm, XENMEM_decrease_reservation, &r), 1);
    fake_fail_copy = 2; /* the list cannot be read at once */
    list[0] = 0x404;
    list[1] = 0x406;
    assert_int_equal(mem(hvm, XENMEM_decrease_reservation, &r), 2);
    check();
}

static void numbers_beyond(void **state)
{
    uint64_t top = 1ull << 28;
    const uint64_t bad[] = {top, top + 1, 1ull << 40, 1ull << 52, ~0ull, ~0ull >> 1, ~0ull - 511};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(populate(bad[i], 0), 0);
        assert_int_equal(populate(bad[i], 9), 0);
        assert_int_equal(decrease(bad[i], 0), 0);
        assert_int_equal(decrease(bad[i], 9), 0);
        assert_int_not_equal(place(hvm, XENMAPSPACE_shared_info, 0, bad[i]), 0);
        assert_int_not_equal(place(hvm, XENMAPSPACE_gmfn, bad[i], 5), 0);
        assert_int_not_equal(unplace(hvm, bad[i]), 0);
        assert_int_not_equal(foreign(ctl, 1, bad[i], 5), 0);
        assert_int_not_equal(foreign(ctl, 3, bad[i], 5), 0);
        assert_int_not_equal(update(0, pte_make(MFN(bad[i] & (PTE_MFN_MASK >> 12)), RW), 0, 2), 0);
    }
    assert_int_equal(populate(top - 1, 1), 0);
    assert_int_equal(hvm->frames, 0);
    assert_int_equal(populate(top - 1, 0), 1);
    check();
}

static void spaces(void **state)
{
    mfn_t m, n;

    /* What another domain called these frames means nothing. */
    m2p_set(hvm->shared_info_mfn, 1ull << 50);
    assert_true(arch_mfn_to_gfn(hvm, hvm->shared_info_mfn).n == INVALID_GFN.n);
    assert_int_equal(place(hvm, XENMAPSPACE_shared_info, 0, 10), 0);
    assert_true(mfn_eq(look(hvm, 10).mfn, hvm->shared_info_mfn));
    assert_int_equal(place(hvm, XENMAPSPACE_shared_info, 0, 11), 0);
    assert_int_equal(look(hvm, 10).type, P2M_NONE);
    assert_int_equal(place(hvm, XENMAPSPACE_grant_table, 0, 12), 0);
    assert_int_equal(place(hvm, XENMAPSPACE_grant_table, 3, 13), 0);
    assert_int_equal(place(hvm, XENMAPSPACE_grant_table, 4, 14), -EINVAL);
    assert_int_equal(place(hvm, XENMAPSPACE_grant_table, 0x80000000u, 14), -EINVAL); /* version 1 */
    assert_int_equal(populate(20, 0), 1);
    m = look(hvm, 20).mfn;
    assert_int_equal(populate(21, 0), 1);
    n = look(hvm, 21).mfn;
    assert_int_equal(place(hvm, XENMAPSPACE_gmfn, 20, 21), 0); /* the frame there is given back */
    assert_true(mfn_eq(look(hvm, 21).mfn, m));
    assert_int_equal(look(hvm, 20).type, P2M_NONE);
    assert_int_equal(refs(n), 0);
    assert_int_equal(hvm->frames, 1);
    assert_int_equal(m2p_get(m), 21);
    assert_int_equal(place(hvm, XENMAPSPACE_gmfn, 21, 21), 0);
    assert_int_equal(refs(m), 2);
    assert_int_equal(place(hvm, XENMAPSPACE_gmfn, 12, 40), 0); /* grant frames move, too */
    assert_int_equal(place(hvm, XENMAPSPACE_dev_mmio, 0, 41), -EOPNOTSUPP);
    assert_int_equal(place(hvm, XENMAPSPACE_gmfn_foreign, 0, 41), -ENOSYS);
    assert_int_equal(unplace(hvm, 21), 0);
    assert_int_equal(hvm->frames, 1);
    assert_int_equal(unplace(hvm, 21), -ENOENT);
    assert_int_equal(place(two, XENMAPSPACE_shared_info, 0, 10), -EPERM); /* of domain 2 */
    check();
}

static void foreign_frames(void **state)
{
    mfn_t m = page(ctl), t;

    assert_int_equal(foreign(hvm, 3, 5, 5), -EPERM); /* no say in domain 3 */
    assert_int_equal(foreign(ctl, 2, 5, 5), -EINVAL);
    assert_int_equal(populate(20, 0), 1);
    assert_int_equal(foreign(ctl, 2, 20, 5), -EINVAL); /* its own is not foreign */
    assert_int_equal(decrease(20, 0), 1);
    assert_int_equal(foreign(ctl, 9, 5, 5), -ESRCH);
    assert_int_equal(foreign(ctl, 1, m.n, 5), 0);
    assert_int_equal(look(hvm, 5).type, P2M_FOREIGN);
    assert_int_equal(refs(m), 2);
    assert_int_equal(mfn_frame(m)->type & PGT_TYPE_MASK, PGT_WRITABLE);
    /* It cannot become a page table of the control domain now. */
    assert_int_equal(ext(MMUEXT_PIN_L1_TABLE, m.n, DOMID_SELF), -EINVAL);
    /* A page table is shown read-only. */
    assert_int_equal(foreign(ctl, 1, l1.n, 6), 0);
    assert_int_equal(look(hvm, 6).type, P2M_FOREIGN_RO);
    assert_int_equal(p2m_fault(hvm, 0x6000, P2M_ACC_WRITE), P2M_DENIED);
    check();
    /* The domain itself may not pass it on. */
    assert_int_equal(place(hvm, XENMAPSPACE_gmfn, 5, 7), -EINVAL);
    assert_int_equal(unplace(hvm, 5), 0);
    assert_int_equal(refs(m), 1);
    assert_int_equal(ext(MMUEXT_PIN_L1_TABLE, m.n, DOMID_SELF), 0);
    /* From another translated one; its owner gives it back meanwhile. */
    {
        xen_pfn_t list = 8;
        struct xen_memory_reservation r = {.nr_extents = 1, .domid = 3};

        r.extent_start.p = &list;
        assert_int_equal(mem(ctl, XENMEM_populate_physmap, &r), 1);
        t = look(two, 8).mfn;
        assert_int_equal(foreign(ctl, 3, 8, 8), 0);
        assert_int_equal(mem(two, XENMEM_decrease_reservation, &r), 1);
    }
    assert_int_equal(refs(t), 1);
    assert_int_equal(two->frames, 1); /* as long as somebody can reach it */
    assert_int_equal(decrease(8, 0), 1);
    assert_int_equal(two->frames, 0);
    /* The rest ends with the domains, in whatever order. */
    check();
}

/* --- the PV control domain --- */

static void mapped_by_number(void **state)
{
    mfn_t m;

    assert_int_equal(populate(0x400, 9), 1);
    m = look(hvm, 0x477).mfn;
    assert_int_equal(update(0, pte_make(MFN(0x477), RW), 0, 2), 0);
    assert_true(mfn_eq(pte_mfn(at(l1)[0]), m));
    assert_int_equal(refs(m), 3);
    assert_int_equal(update(1, pte_make(MFN(0x9999), RW), 0, 2), -EINVAL);
    assert_int_equal(update(1, pte_make(MFN(0x477), RW), MMU_PT_UPDATE_NO_TRANSLATE, 2),
                     -EINVAL); /* no frame of its */
    assert_int_equal(update(1, pte_make(m, RO), MMU_PT_UPDATE_NO_TRANSLATE, 2), 0);
    /* Neither its tables nor its part of the M2P are ours to write; nor is it a PV domain. */
    assert_int_equal(update(0, 0, MMU_MACHPHYS_UPDATE, 2), -EINVAL);
    assert_int_equal(update(0, 0, 0, 3u << 16 | 1), -EPERM);
    assert_int_equal(ext(MMUEXT_PIN_L1_TABLE, m.n, 2), -EPERM);
    check();
    /* The guest lets it go: it stays until the last mapping has gone. */
    assert_int_equal(decrease(0x400, 9), 1);
    assert_int_equal(refs(m), 2);
    assert_int_equal(hvm->frames, 1);
    assert_int_equal(update(2, pte_make(MFN(0x477), RW), 0, 2), -EINVAL);
    assert_int_equal(update(1, 0, 0, 1), 0);
    assert_int_equal(update(0, 0, 0, 1), 0);
    assert_int_equal(hvm->frames, 0);
    check();
}

/* --- grants --- */

static void grant(struct domain *by, uint32_t ref, uint16_t to, uint64_t gfn, uint16_t flags)
{
    grant_entry_v1_t *e = grant_v1(by->grant, ref);

    e->frame = (uint32_t)gfn;
    e->domid = to;
    e->flags = (uint16_t)(GTF_permit_access | flags);
}
static long gop(struct domain *d, unsigned nr, void *arg)
{
    return fake_hypercall(d->vcpu[0], grant_ops, grant_op_count, 0, nr, (uintptr_t)arg, 1, NULL);
}
static int map(struct domain *by, uint16_t from, uint32_t ref, uint64_t addr, unsigned flags,
               uint32_t *handle)
{
    struct gnttab_map_grant_ref m = {
        .host_addr = addr, .flags = GNTMAP_host_map | flags, .ref = ref, .dom = from};

    assert_int_equal(gop(by, GNTTABOP_map_grant_ref, &m), 0);
    *handle = m.handle;
    return m.status;
}
static int unmap(struct domain *by, uint64_t addr, uint32_t handle)
{
    struct gnttab_unmap_grant_ref u = {.host_addr = addr, .handle = handle};

    assert_int_equal(gop(by, GNTTABOP_unmap_grant_ref, &u), 0);
    return u.status;
}
static int copy(struct domain *by, uint16_t from, uint32_t ref, uint64_t gfn)
{
    struct gnttab_copy c = {.source.u.ref = ref,
                            .source.domid = from,
                            .dest.domid = DOMID_SELF,
                            .dest.u.gmfn = gfn,
                            .len = 16,
                            .flags = GNTCOPY_source_gref};

    assert_int_equal(gop(by, GNTTABOP_copy, &c), 0);
    return c.status;
}

static void grants_of_translated_domains(void **state)
{
    uint32_t h;
    mfn_t m, own = page(ctl);

    assert_int_equal(populate(0x100, 0), 1);
    m = look(hvm, 0x100).mfn;
    strcpy((char *)at(m), "from the guest");
    grant(hvm, 8, 1, 0x100, 0);
    assert_int_equal(map(ctl, 2, 8, VA, 0, &h), GNTST_okay);
    assert_true(mfn_eq(pte_mfn(at(l1)[0]), m));
    assert_int_equal(copy(ctl, 2, 8, own.n), GNTST_okay);
    assert_string_equal((char *)at(own), "from the guest");
    /* The frame outlives its place; a new frame at that number is another one. */
    assert_int_equal(decrease(0x100, 0), 1);
    assert_int_equal(populate(0x100, 0), 1);
    assert_false(mfn_eq(look(hvm, 0x100).mfn, m));
    assert_int_equal(hvm->frames, 2);
    assert_int_equal(unmap(ctl, VA, h), GNTST_okay);
    assert_int_equal(hvm->frames, 1);
    check();
    /* What is not there, is a ROM, or belongs to another cannot be granted. */
    grant(hvm, 9, 1, 0x101, 0);
    assert_int_equal(map(ctl, 2, 9, VA, 0, &h), GNTST_bad_page);
    assert_int_equal(copy(ctl, 2, 9, own.n), GNTST_bad_page);
    grant(hvm, 9, 1, ~0u, 0);
    assert_int_equal(map(ctl, 2, 9, VA, 0, &h), GNTST_bad_page);
    assert_int_equal(p2m_change_type(hvm, GFN(0x100), P2M_RAM, P2M_RAM_RO), 0);
    assert_int_equal(map(ctl, 2, 8, VA, 0, &h), GNTST_bad_page);
    assert_int_equal(map(ctl, 2, 8, VA, GNTMAP_readonly, &h), GNTST_okay);
    assert_int_equal(unmap(ctl, VA, h), GNTST_okay);
    assert_int_equal(foreign(ctl, 1, own.n, 0x102), 0);
    grant(hvm, 9, 1, 0x102, 0);
    assert_int_equal(map(ctl, 2, 9, VA, 0, &h), GNTST_bad_page);
    check();
}

static void grants_into_translated_domains(void **state)
{
    uint32_t h, k;
    mfn_t m = page(ctl), n = page(ctl);

    grant(ctl, 8, 2, m.n, 0);
    grant(ctl, 9, 2, n.n, GTF_readonly);
    assert_int_equal(map(hvm, 1, 8, 0x5000, 0, &h), GNTST_okay);
    assert_int_equal(look(hvm, 5).type, P2M_GRANT);
    assert_true(mfn_eq(look(hvm, 5).mfn, m));
    assert_int_equal(ext(MMUEXT_PIN_L1_TABLE, m.n, DOMID_SELF), -EINVAL);
    assert_int_equal(map(hvm, 1, 9, 0x5000, GNTMAP_readonly, &k), GNTST_general_error); /* is taken */
    assert_int_equal(map(hvm, 1, 9, 0x6000, 0, &k), GNTST_general_error);
    assert_int_equal(map(hvm, 1, 9, 0x6000, GNTMAP_readonly | GNTMAP_contains_pte, &k), GNTST_general_error);
    assert_int_equal(map(hvm, 1, 9, 1ull << 60, GNTMAP_readonly, &k), GNTST_general_error);
    assert_int_equal(map(hvm, 1, 9, 0x6000, GNTMAP_readonly, &k), GNTST_okay);
    check();
    /* Not by other ways than the grant's own. */
    assert_int_equal(decrease(5, 0), 0);
    assert_int_equal(unplace(hvm, 5), -EBUSY);
    assert_int_equal(populate(5, 0), 0);
    assert_int_equal(place(hvm, XENMAPSPACE_shared_info, 0, 5), -EBUSY);
    assert_int_equal(place(hvm, XENMAPSPACE_gmfn, 5, 50), -EINVAL);
    assert_int_equal(update(0, pte_make(MFN(5), RW), 0, 2), -EINVAL);
    assert_int_equal(unmap(hvm, 0x6000, h), GNTST_general_error);
    flushes = 0;
    assert_int_equal(unmap(hvm, 0x5000, h), GNTST_okay);
    assert_int_equal(flushes, 1);
    assert_int_equal(look(hvm, 5).type, P2M_NONE);
    assert_int_equal(refs(m), 1);
    assert_int_equal(ext(MMUEXT_PIN_L1_TABLE, m.n, DOMID_SELF), 0);
    check();
    /* k ends with the domain. */
}

/* A backend copies from a frame that its owner gives back, and takes again, at each flush. */
static void gives_back(void)
{
    assert_int_equal(populate(0x200, 0), 1);
}
static void change_while_in_use(void **state)
{
    struct p2m_entry e;
    mfn_t own = page(ctl);
    uint32_t h;

    assert_int_equal(populate(0x200, 0), 1);
    grant(hvm, 8, 1, 0x200, 0);
    assert_int_equal(map(ctl, 2, 8, VA, 0, &h), GNTST_okay);
    assert_int_equal(p2m_get(hvm, GFN(0x200), P2M_WRITE, &e), 0);
    during_flush = gives_back; /* another vCPU fills the place before the first has let go */
    assert_int_equal(decrease(0x200, 0), 1);
    assert_int_equal(look(hvm, 0x200).type, P2M_RAM);
    assert_false(mfn_eq(look(hvm, 0x200).mfn, e.mfn));
    assert_int_equal(copy(ctl, 2, 8, own.n), GNTST_okay); /* the entry in use still means the first */
    assert_int_equal(refs(e.mfn), 3);
    frame_put(mfn_frame(e.mfn));
    check();
    assert_int_equal(unmap(ctl, VA, h), GNTST_okay);
    assert_int_equal(hvm->frames, 1);
}

/* --- no memory: each allocation of each operation fails once --- */

static long do_populate(void)
{
    return populate(512 * 600 + 3, 0) == 1 ? 0 : -ENOMEM;
}
static long do_populate_large(void)
{
    return populate(512 * 700, 9) == 1 ? 0 : -ENOMEM;
}
static long do_decrease(void)
{
    return decrease(512 * 3 + 7, 0) == 1 ? 0 : -ENOMEM;
}
static long do_place(void)
{
    return place(hvm, XENMAPSPACE_grant_table, 2, 512 * 512 * 3);
}
static long do_move(void)
{
    return place(hvm, XENMAPSPACE_gmfn, 512 * 4 + 9, 512 * 512 * 4);
}
static mfn_t lent;
static long do_foreign(void)
{
    return foreign(ctl, 1, lent.n, 512 * 512 * 5);
}
static long do_map(void)
{
    uint32_t h;

    grant(ctl, 8, 2, lent.n, 0);
    return map(hvm, 1, 8, 512ull * 512 * 4096 * 6, 0, &h);
}

static void without_memory(void **state)
{
    static long (*const ops[])(void) = {do_populate, do_populate_large, do_decrease, do_place,
                                        do_move,     do_foreign,        do_map};

    assert_int_equal(populate(512 * 3, 9), 1);
    assert_int_equal(populate(512 * 4, 9), 1);
    lent = page(ctl);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        unsigned n = 1;

        for (;; n++) {
            unsigned left;
            long r;

            fake_fail_alloc = n;
            r = ops[i]();
            left = fake_fail_alloc;
            fake_fail_alloc = 0;
            check();
            if (left)
                break; /* it needs fewer: it has done its work */
            if (!r)
                break;
        }
        assert_true(n > 1 && n < 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reservation, setup, teardown),
        cmocka_unit_test_setup_teardown(a_list_of_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_beyond, setup, teardown),
        cmocka_unit_test_setup_teardown(spaces, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_frames, setup, teardown),
        cmocka_unit_test_setup_teardown(mapped_by_number, setup, teardown),
        cmocka_unit_test_setup_teardown(grants_of_translated_domains, setup, teardown),
        cmocka_unit_test_setup_teardown(grants_into_translated_domains, setup, teardown),
        cmocka_unit_test_setup_teardown(change_while_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(without_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
