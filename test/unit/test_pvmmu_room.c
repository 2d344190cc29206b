/* The PV MMU from a guest's side: what is accepted, what is refused, preemption anywhere, and a random model
 * whose every step is followed by the room check (a recount of all tables from their contents). */
#include "model.h"
#include "pv.h"
#include "core/grant.h"
#include "arch/x86/pv/mmu/types.h"
#include "core/sched.h"

#include <time.h>

static const struct domain *granted; /* beside the hardware domain */
static uint64_t mmio_first = 0x100000, mmio_last = 0x1000ff;
bool iomem_allowed(const struct domain *d, mfn_t m)
{
    return (d->hardware || (granted && d == granted)) && m.n >= mmio_first && m.n <= mmio_last;
}

/* --- guests --- */

static struct domain *dom, *other,
    *ctl; /* an ordinary guest, another, a privileged one that owns the devices */

static struct domain *domain_new(uint16_t id, bool privileged)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .privileged = privileged,
                              .hardware = privileged,
                              .max_vcpus = 2,
                              .max_evtchn_port = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 3000};

    return fake_domain_new(id, &c);
}

static void domain_end(struct domain *d)
{
    fake_domain_kill(d);
    assert_int_equal(d->frames, 0);
    domain_put(d);
    fake_run_until(fake_now + 1000000000ull);
}

static struct vcpu *volatile ctl_vcpu[2]; /* so that the leak checker finds them */

static int group_setup(void **state)
{
    fake_machine(16384, 2);
    ctl = domain_new(1, true); /* lives on: the owner of the devices cannot be destroyed */
    ctl_vcpu[0] = ctl->vcpu[0];
    ctl_vcpu[1] = ctl->vcpu[1];
    return 0;
}

static bool pins_held; /* by the test itself: the model knows nothing of them */

static int setup(void **state)
{
    pins_held = false;
    dom = domain_new(2, false);
    other = domain_new(3, false);
    fake_current[0] = dom->vcpu[0];
    return 0;
}

static int teardown(void **state)
{
    fake_preempt_every = 0;
    fake_fail_copy = 0;
    fake_irqs_off[0] = false;
    fake_current[0] = sched_idle_vcpu(0);
    pv_mmu_room_check(dom);
    pv_mmu_room_check(other);
    pv_mmu_room_check(ctl);
    while (pv_domain_release_tables(ctl) == -EAGAIN)
        ;
    domain_end(dom);
    domain_end(other);
    return 0;
}

static void check(void)
{
    pv_mmu_room_check(dom);
    pv_mmu_room_check(other);
    pv_mmu_room_check(ctl);
    if (!pins_held)
        model_mmu_check();
}

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
static uint64_t type_of(mfn_t m)
{
    return mfn_frame(m)->type & PGT_TYPE_MASK;
}
#define COUNTS ((1ull << 40) - 1) /* of struct frame.type */
static uint64_t type_count(mfn_t m)
{
    return mfn_frame(m)->type & COUNTS;
}

/* A root with one table per level for the region at VA; data[] mapped from it on, writable; the tables
 * read-only behind. */
#define DATA 8
#define VA   0x500000000000ull
struct space {
    mfn_t l4, l3, l2, l1, data[DATA];
};
#define VA_DATA(i) (VA + (uint64_t)(i)*FRAME_SIZE)
#define VA_L1      (VA + 8 * FRAME_SIZE)
#define VA_FREE    (VA + 16 * FRAME_SIZE)

static void space_make(struct domain *d, struct space *s)
{
    s->l4 = page(d);
    s->l3 = page(d);
    s->l2 = page(d);
    s->l1 = page(d);
    at(s->l4)[pt_index(VA, 4)] = pte_make(s->l3, PTB);
    at(s->l3)[pt_index(VA, 3)] = pte_make(s->l2, PTB);
    at(s->l2)[pt_index(VA, 2)] = pte_make(s->l1, PTB);
    for (unsigned i = 0; i < DATA; i++) {
        s->data[i] = page(d);
        at(s->l1)[i] = pte_make(s->data[i], RW & ~PTE_US); /* as kernels write it */
    }
    at(s->l1)[8] = pte_make(s->l1, RO);
    at(s->l1)[9] = pte_make(s->l2, RO);
    at(s->l1)[10] = pte_make(s->l3, RO);
    at(s->l1)[11] = pte_make(s->l4, RO);
}

/* --- hypercalls, repeated until done --- */

static unsigned agains;

static long run(struct vcpu *v, long (*fn)(struct hypercall *), uint64_t a0, uint64_t a1, uint64_t a2,
                uint64_t a3)
{
    struct hypercall hc = {.caller = v, .arg = {a0, a1, a2, a3}};
    struct vcpu *was = fake_current[0];
    long r;

    fake_current[0] = v;
    for (agains = 0; (r = fn(&hc)) == HC_AGAIN; agains++)
        assert_true(agains < 1000000);
    fake_current[0] = was;
    return r;
}
static long update_as(struct vcpu *v, uint64_t ptr, uint64_t val, uint32_t fd)
{
    mmu_update_t u = {ptr, val};

    return run(v, pv_mmu_update, (uint64_t)&u, 1, 0, fd);
}
static long update(mfn_t table, unsigned index, uint64_t val)
{
    return update_as(dom->vcpu[0], mfn_to_maddr(table).a + index * 8, val, DOMID_SELF);
}
static long ext_as(struct vcpu *v, unsigned cmd, uint64_t arg1, uint64_t arg2, uint16_t fd)
{
    struct mmuext_op op = {.cmd = cmd};

    op.arg1.mfn = arg1;
    op.arg2.src_mfn = arg2;
    return run(v, pv_mmuext_op, (uint64_t)&op, 1, 0, fd);
}
static long ext(unsigned cmd, uint64_t arg1)
{
    return ext_as(dom->vcpu[0], cmd, arg1, 0, DOMID_SELF);
}
static long pin(mfn_t m, unsigned level)
{
    return ext(MMUEXT_PIN_L1_TABLE + level - 1, m.n);
}
static long unpin(mfn_t m)
{
    return ext(MMUEXT_UNPIN_TABLE, m.n);
}
static long map_va(uint64_t va, uint64_t val, uint64_t flags)
{
    return run(dom->vcpu[0], pv_update_va_mapping, va, val, flags, 0);
}

static void space_start(struct space *s)
{
    space_make(dom, s);
    assert_int_equal(pin(s->l4, 4), 0);
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, s->l4.n), 0);
    check();
}

/* --- tables --- */

static void test_pin_and_unpin(void **state)
{
    struct space s;

    space_make(dom, &s);
    at(s.l4)[HYP_SLOT_FIRST] = 0xbad0bad0bad00067;
    assert_int_equal(pin(s.l4, 4), 0);
    check();
    assert_true(type_of(s.l4) == PGT_L4 && type_of(s.l3) == PGT_L3 && type_of(s.l2) == PGT_L2 &&
                type_of(s.l1) == PGT_L1);
    assert_true(type_of(s.data[0]) == PGT_WRITABLE);
    assert_int_equal(type_count(s.data[0]), 1);
    assert_true(at(s.l1)[0] & PTE_US);
    assert_true(at(s.l4)[HYP_SLOT_FIRST] != 0xbad0bad0bad00067);
    assert_int_equal(pin(s.l4, 4), -EINVAL); /* is pinned */
    assert_int_equal(pin(s.l3, 3), 0);
    assert_int_equal(pin(s.l3, 2), -EINVAL);
    assert_int_equal(unpin(s.l4), 0);
    assert_int_equal(unpin(s.l4), -EINVAL);
    assert_true(type_of(s.l3) == PGT_L3 && type_count(s.l3) == 1);
    assert_int_equal(type_count(s.l4), 0);
    assert_int_equal(at(s.l4)[HYP_SLOT_FIRST], 0);
    check();
    assert_int_equal(unpin(s.l3), 0);
    assert_int_equal(type_count(s.data[0]), 0);
    check();
}

static void test_bad_tables(void **state)
{
    struct space s;
    mfn_t foreign = page(other);
    const struct {
        unsigned level;
        uint64_t entry;
    } bad[] = {
        {1, pte_make(foreign, RO)},
        {1, pte_make(MFN(frame_count + 5), RO)},
        {1, pte_make(MFN(mmio_first), RW)}, /* has no devices */
        {1, pte_make(MFN(1), RW)},          /* a hole */
        {1, ~0ull},
        {2, pte_make(foreign, PTB)},
        {2, pte_make(MFN(frame_count), PTB)},
        {3, pte_make(MFN(17), PTB | PTE_PS)},
    };

    space_make(dom, &s);
    mfn_t t[5] = {s.l1, s.l1, s.l2, s.l3, s.l4};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t *e = &at(t[bad[i].level])[300];

        *e = bad[i].entry;
        assert_true(pin(s.l4, 4) < 0);
        check();
        for (unsigned k = 1; k < 5; k++)
            assert_int_equal(type_count(t[k]), 0);
        *e = 0;
    }
    /* Superpages, global and cache bits of upper entries, cache bits of L1 entries. */
    uint64_t flags[] = {PTE_PS, PTE_G, PTE_PCD, PTE_PWT};
    for (unsigned level = 2; level <= 4; level++)
        for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
            at(t[level])[pt_index(VA, level)] |= flags[i];
            assert_int_equal(pin(s.l4, 4), -EINVAL);
            at(t[level])[pt_index(VA, level)] &= ~flags[i];
        }
    at(s.l1)[0] |= PTE_PCD;
    assert_int_equal(pin(s.l4, 4), -EINVAL);
    at(s.l1)[0] &= ~PTE_PCD;
    at(s.l1)[0] |= PTE_G; /* taken off */
    assert_int_equal(pin(s.l4, 4), 0);
    assert_false(at(s.l1)[0] & PTE_G);
    check();
    assert_int_equal(unpin(s.l4), 0);
}

static void test_no_writable_tables(void **state)
{
    struct space s;

    space_make(dom, &s);
    at(s.l1)[20] = pte_make(s.l2, RW);
    assert_int_equal(pin(s.l4, 4), -EINVAL);
    check();
    at(s.l1)[20] = pte_make(s.l1, RW); /* of itself */
    assert_int_equal(pin(s.l4, 4), -EINVAL);
    at(s.l1)[20] = 0;
    assert_int_equal(pin(s.l4, 4), 0);
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, s.l4.n), 0);
    for (mfn_t *t = &s.l4; t <= &s.l1; t++) {
        assert_int_equal(map_va(VA_FREE, pte_make(*t, RW), 0), -EINVAL);
        assert_int_equal(map_va(VA_FREE, pte_make(*t, RO), 0), 0);
    }
    /* A page that is mapped writable becomes no table. */
    assert_int_equal(pin(s.data[0], 1), -EINVAL);
    assert_int_equal(update(s.l2, 5, pte_make(s.data[0], PTB)), -EINVAL);
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RO), UVMF_INVLPG), 0);
    assert_int_equal(pin(s.data[0], 1), 0);
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RW), 0), -EINVAL);
    assert_int_equal(unpin(s.data[0]), 0);
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RW), 0), 0);
    check();
}

static void test_special_frames(void **state)
{
    struct space s;

    space_start(&s);
    /* shared_info can be mapped and written, but be no table or descriptor page. */
    assert_int_equal(map_va(VA_FREE, pte_make(dom->shared_info_mfn, RW), 0), 0);
    assert_int_equal(map_va(VA_FREE, 0, 0), 0);
    for (unsigned level = 1; level <= 4; level++)
        assert_int_equal(pin(dom->shared_info_mfn, level), -EINVAL);
    assert_int_equal(pv_set_gdt_frames(dom->vcpu[0], &dom->shared_info_mfn.n, 10), -EINVAL);
    check();
}

static void test_linear(void **state)
{
    struct space s;
    mfn_t l4b = page(dom);

    space_make(dom, &s);
    at(s.l4)[100] = pte_make(s.l4, RW);
    assert_int_equal(pin(s.l4, 4), -EINVAL);
    at(s.l4)[100] = pte_make(s.l4, RO);
    assert_int_equal(pin(s.l4, 4), 0);
    assert_int_equal(type_count(s.l4), 1);
    check();
    assert_int_equal(update(s.l4, 101, pte_make(s.l4, RO)), 0);
    assert_int_equal(update(s.l4, 102, pte_make(s.l4, RW)), -EINVAL);
    assert_int_equal(update(s.l4, 100, pte_make(s.l4, RW)), -EINVAL);
    assert_int_equal(update(s.l4, 100, 0), 0);
    at(l4b)[7] = pte_make(s.l4, RW); /* another L4, writable */
    assert_int_equal(pin(l4b, 4), -EINVAL);
    check();
    at(l4b)[7] = pte_make(s.l4, RO);
    assert_int_equal(pin(l4b, 4), 0);
    assert_int_equal(type_count(s.l4), 2);
    check();
    assert_int_equal(update(l4b, 7, pte_make(s.l4, RW)), -EINVAL);
    assert_int_equal(update(l4b, 7, pte_make(s.l4, RO & ~PTE_A)), 0);
    assert_int_equal(unpin(s.l4), 0); /* l4b still names it */
    assert_int_equal(type_count(s.l4), 1);
    check();
    assert_int_equal(update(l4b, 7, 0), 0);
    assert_int_equal(type_count(s.l4), 0);
    assert_int_equal(type_count(s.l3), 0);
    check();
    assert_int_equal(unpin(l4b), 0);
}

/* No circles, no chains: what they would keep could never be released. */
static void test_linear_chains(void **state)
{
    mfn_t a = page(dom), b = page(dom), c = page(dom);

    assert_int_equal(pin(a, 4) | pin(b, 4) | pin(c, 4), 0);
    assert_int_equal(update(a, 5, pte_make(b, RO)), 0);
    assert_int_equal(update(b, 5, pte_make(a, RO)), -EINVAL); /* a circle */
    assert_int_equal(update(b, 5, pte_make(c, RO)), -EINVAL); /* a -> b -> c */
    assert_int_equal(update(c, 5, pte_make(a, RO)), -EINVAL); /* c -> a -> b */
    assert_int_equal(update(c, 5, pte_make(b, RO)), 0);       /* b twice: no chain */
    assert_int_equal(update(b, 6, pte_make(b, RO)), 0);       /* itself: holds nothing */
    check();
    assert_int_equal(unpin(b), 0);
    check();
    assert_int_equal(unpin(a), 0);
    assert_int_equal(type_count(b), 1);
    assert_int_equal(unpin(c), 0);
    assert_int_equal(type_count(b), 0);
    check();
    /* Marks end with the type: now the other way round. */
    assert_int_equal(update(a, 5, 0) | pin(a, 4), 0);
    at(b)[6] = pte_make(a, RO);
    assert_int_equal(pin(b, 4), 0);
    check();
}

static void test_linear_lower_levels(void **state)
{
    struct space s;
    mfn_t l2b = page(dom), l3b = page(dom);

    space_start(&s);
    assert_int_equal(update(s.l2, 9, pte_make(s.l2, RW)), -EINVAL);
    assert_int_equal(update(s.l2, 9, pte_make(s.l2, RO)), 0);
    assert_int_equal(update(s.l3, 9, pte_make(s.l3, RO)), 0);
    assert_int_equal(pin(l2b, 2) | pin(l3b, 3), 0);
    assert_int_equal(update(s.l2, 10, pte_make(l2b, RO)), 0);
    assert_int_equal(update(s.l3, 10, pte_make(l3b, RO)), 0);
    assert_int_equal(update(s.l3, 11, pte_make(s.l1, RO)), -EINVAL); /* two levels below, none above */
    assert_int_equal(update(s.l2, 11, pte_make(s.l3, RO)), -EINVAL);
    assert_int_equal(update(l2b, 1, pte_make(s.l2, RO)), -EINVAL);
    check();
    assert_int_equal(unpin(l2b) | unpin(l3b), 0);
    check();
}

/* The release of a table goes down through the one that it names, preempted anywhere. */
static void test_linear_release_preempted(void **state)
{
    struct space s, t;

    space_make(dom, &s);
    space_make(dom, &t);
    at(t.l4)[3] = pte_make(s.l4, RO);
    for (unsigned every = 1; every < 6; every++) {
        assert_int_equal(pin(s.l4, 4) | pin(t.l4, 4) | unpin(s.l4), 0);
        fake_preempt_every = every;
        assert_int_equal(unpin(t.l4), 0);
        fake_preempt_every = 0;
        assert_int_equal(type_count(s.l4) | type_count(s.l1) | type_count(t.l4), 0);
        check();
    }
    /* And at the end of the domain. */
    assert_int_equal(pin(s.l4, 4) | pin(t.l4, 4), 0);
}

/* --- updates --- */

static void test_update_upper(void **state)
{
    struct space s;
    mfn_t l1b;

    space_start(&s);
    l1b = page(dom);
    at(l1b)[3] = pte_make(s.data[0], RW);
    assert_int_equal(update(s.l2, 7, pte_make(l1b, PTB & ~PTE_US)), 0);
    assert_true(at(s.l2)[7] & PTE_US);
    assert_int_equal(type_count(s.data[0]), 2);
    check();
    assert_int_equal(update(s.l2, 7, pte_make(l1b, RO)), 0); /* flags only */
    assert_int_equal(type_count(l1b), 1);
    assert_int_equal(update(s.l2, 8, pte_make(l1b, PTB)), 0);
    assert_int_equal(type_count(l1b), 2);
    assert_int_equal(update(s.l2, 7, pte_make(l1b, PTB | PTE_PS)), -EINVAL);
    assert_int_equal(update(s.l2, 7, 0), 0);
    assert_int_equal(update(s.l2, 8, 0x1234560), 0); /* not present: anything */
    assert_int_equal(at(s.l2)[8], 0x1234560);
    assert_int_equal(type_count(l1b), 0);
    check();
    seen.l4_changes = 0;
    for (unsigned slot = HYP_SLOT_FIRST; slot <= HYP_SLOT_LAST; slot++) {
        assert_int_equal(update(s.l4, slot, 0), -EINVAL);
        assert_int_equal(update(s.l4, slot, pte_make(s.l3, PTB)), -EINVAL);
    }
    /* Copies of an L4 (xpti) must hear of each change of it, and of nothing else. */
    assert_int_equal(seen.l4_changes, 0);
    assert_int_equal(update(s.l4, 272, pte_make(s.l3, PTB)), 0);
    assert_int_equal(seen.l4_changes, 1);
    assert_true(mfn_eq(seen.l4, s.l4));
    check();
    assert_int_equal(update(s.l4, 272, pte_make(s.l3, RO)), 0); /* flags only */
    assert_int_equal(seen.l4_changes, 2);
    assert_int_equal(update(s.l4, 272, 0), 0);
    assert_int_equal(seen.l4_changes, 3);
}

static void test_update_modes(void **state)
{
    struct space s;
    uint64_t a0, e;

    space_start(&s);
    a0 = mfn_to_maddr(s.l1).a + 8 * 16;
    e = pte_make(s.data[1], PTE_P | PTE_US);
    assert_int_equal(update_as(dom->vcpu[0], a0, e, DOMID_SELF), 0);
    at(s.l1)[16] |= PTE_A | PTE_D; /* the processor */
    assert_int_equal(update_as(dom->vcpu[0], a0 | MMU_PT_UPDATE_PRESERVE_AD, e | PTE_AVAIL1, DOMID_SELF), 0);
    assert_int_equal(at(s.l1)[16], e | PTE_AVAIL1 | PTE_A | PTE_D);
    assert_int_equal(update_as(dom->vcpu[0], a0 | MMU_PT_UPDATE_NO_TRANSLATE, e, DOMID_SELF), 0);
    assert_int_equal(at(s.l1)[16], e);
    assert_int_equal(update_as(dom->vcpu[0], a0 + 4, e, DOMID_SELF), -EINVAL);
    /* M2P */
    assert_int_equal(
        update_as(dom->vcpu[0], mfn_to_maddr(s.data[1]).a | MMU_MACHPHYS_UPDATE, 0x77, DOMID_SELF), 0);
    assert_int_equal(m2p_get(s.data[1]), 0x77);
    assert_int_equal(
        update_as(dom->vcpu[0], mfn_to_maddr(page(other)).a | MMU_MACHPHYS_UPDATE, 0x77, DOMID_SELF),
        -EINVAL);
    /* Plain pages: like a store. Descriptor pages and others' frames not. */
    assert_int_equal(update(s.data[2], 9, 0x1122), 0);
    assert_int_equal(at(s.data[2])[9], 0x1122);
    assert_int_equal(update(page(other), 9, 0x1122), -EINVAL);
    assert_int_equal(update(MFN(2), 9, 0x1122), -EINVAL);
    assert_int_equal(update(dom->shared_info_mfn, 500, 1), 0);
    check();
}

static void test_update_list(void **state)
{
    struct space s;
    mmu_update_t u[40];
    uint32_t done = 99;

    space_start(&s);
    for (unsigned i = 0; i < 40; i++)
        u[i] = (mmu_update_t){mfn_to_maddr(s.l1).a + (100 + i) * 8, pte_make(s.data[i % DATA], RW)};
    assert_int_equal(run(dom->vcpu[0], pv_mmu_update, (uint64_t)u, 40, (uint64_t)&done, DOMID_SELF), 0);
    assert_int_equal(done, 40);
    assert_int_equal(type_count(s.data[0]), 6);
    check();
    /* Preempted all the time: the count is right nevertheless. */
    fake_preempt_every = 1;
    for (unsigned i = 0; i < 40; i++)
        u[i].val = 0;
    assert_int_equal(run(dom->vcpu[0], pv_mmu_update, (uint64_t)u, 40, (uint64_t)&done, DOMID_SELF), 0);
    fake_preempt_every = 0;
    assert_int_equal(done, 40);
    assert_true(agains >= 1);
    assert_int_equal(type_count(s.data[0]), 1);
    /* An error in the middle. */
    u[17].val = pte_make(s.l1, RW);
    assert_int_equal(run(dom->vcpu[0], pv_mmu_update, (uint64_t)u, 40, (uint64_t)&done, DOMID_SELF), -EINVAL);
    assert_int_equal(done, 17);
    /* The list ends before what is readable: first the good ones. */
    u[17].val = 0;
    fake_fault_start = (uint64_t)&u[5];
    fake_fault_end = (uint64_t)&u[40];
    assert_int_equal(run(dom->vcpu[0], pv_mmu_update, (uint64_t)u, 40, (uint64_t)&done, DOMID_SELF), -EFAULT);
    assert_int_equal(done, 5);
    fake_fault_start = fake_fault_end = 0;
    assert_int_equal(run(dom->vcpu[0], pv_mmu_update, (uint64_t)u, 0, 0, DOMID_SELF), 0);
    assert_int_equal(run(dom->vcpu[0], pv_mmu_update, (uint64_t)u, 40, 8, DOMID_SELF), -EFAULT);
    check();
}

static void test_va(void **state)
{
    static const uint64_t cached[] = {PTE_PWT, PTE_PCD, PTE_PAT};
    struct space s;
    mfn_t fresh;

    space_start(&s);
    fresh = page(dom);
    assert_int_equal(map_va(VA_FREE, pte_make(fresh, RW), UVMF_TLB_FLUSH | UVMF_LOCAL), 0);
    assert_int_equal(fake_flush_kind, TLB_FLUSH_ALL);
    assert_int_equal(map_va(VA_FREE, pte_make(fresh, RO), UVMF_INVLPG | UVMF_ALL), 0);
    assert_int_equal(fake_flush_kind, TLB_FLUSH_VA);
    assert_int_equal(fake_flush_va, VA_FREE);
    assert_int_equal(map_va(VA, pte_make(s.data[0], RW), UVMF_NONE), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(cached); i++) { /* the frame stays, its memory type does not change */
        uint64_t was = at(s.l1)[pt_index(VA, 1)];

        assert_int_equal(map_va(VA, pte_make(s.data[0], RW | cached[i]), 0), -EINVAL);
        assert_int_equal(update(s.l1, pt_index(VA, 1), pte_make(s.data[0], RW | cached[i])), -EINVAL);
        assert_int_equal(at(s.l1)[pt_index(VA, 1)], was);
    }
    assert_int_equal(map_va(0x123456789000, 0, 0), -EINVAL);
    assert_int_equal(map_va(0x8000000000000000, 0, 0), -EINVAL);
    assert_int_equal(map_va(HYP_VIRT_START, 0, 0), -EINVAL);
    assert_int_equal(map_va(HYP_VIRT_END - FRAME_SIZE, 0, 0), -EINVAL);
    check();
}

static void test_va_bitmap(void **state)
{
    struct space s;
    uint64_t bits[2] __attribute__((aligned(16))) = {3, 0};
    uint32_t before;

    space_start(&s);
    dom->vcpu[1]->running = true;
    dom->vcpu[1]->cpu = 1;
    cpumask_set(&x86_domain(dom)->dirty_cpus, 1);
    before = fake_flushes[1];
    assert_int_equal(map_va(VA_FREE, 0, UVMF_TLB_FLUSH | (uint64_t)bits), 0);
    assert_int_equal(fake_flushes[1], before + 1);
    bits[0] = 1;
    assert_int_equal(map_va(VA_FREE, 0, UVMF_INVLPG | (uint64_t)bits), 0);
    assert_int_equal(fake_flushes[1], before + 1);
    assert_int_equal(map_va(VA_FREE, 0, UVMF_INVLPG | 0x100), -EFAULT);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_TLB_FLUSH_MULTI, 0, 0x100, DOMID_SELF), -EFAULT);
    bits[0] = 2;
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_TLB_FLUSH_MULTI, 0, (uint64_t)bits, DOMID_SELF), 0);
    assert_int_equal(fake_flushes[1], before + 2);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_INVLPG_MULTI, VA, (uint64_t)bits, DOMID_SELF), 0);
    assert_int_equal(fake_flushes[1], before + 3);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_INVLPG_MULTI, HYP_VIRT_START, (uint64_t)bits, DOMID_SELF),
                     0);
    assert_int_equal(fake_flushes[1], before + 3);
    assert_int_equal(ext(MMUEXT_TLB_FLUSH_ALL, 0), 0);
    assert_int_equal(fake_flushes[1], before + 4);
    dom->vcpu[1]->running = false;
}

static void test_retype_flushes(void **state)
{
    struct space s;
    uint32_t before0, before1;

    space_start(&s);
    cpumask_set(&x86_domain(dom)->dirty_cpus, 1);
    assert_int_equal(map_va(VA_DATA(0), 0, UVMF_NONE), 0);
    before0 = fake_flushes[0];
    before1 = fake_flushes[1];
    assert_int_equal(pin(s.data[0], 1), 0); /* was writable: nobody may still have it so */
    assert_int_equal(fake_flushes[0], before0 + 1);
    assert_int_equal(fake_flushes[1], before1 + 1);
    assert_int_equal(unpin(s.data[0]), 0);
    assert_int_equal(pin(s.data[0], 1), 0); /* the same type again */
    assert_int_equal(fake_flushes[1], before1 + 1);
    assert_int_equal(unpin(s.data[0]), 0);
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RW), UVMF_NONE), 0); /* was a table */
    assert_int_equal(fake_flushes[1], before1 + 2);
    assert_int_equal(map_va(VA_DATA(0), 0, UVMF_NONE), 0);
    fake_irqs_off[0] = true; /* other processors cannot be asked now */
    assert_int_equal(pv_frame_get_type(s.data[0], dom, PGT_SEG_DESC, false), -EBUSY);
    cpumask_clear(&x86_domain(dom)->dirty_cpus, 1); /* it may be back before the flush */
    assert_int_equal(pv_frame_get_type(s.data[0], dom, PGT_SEG_DESC, false), -EBUSY);
    fake_irqs_off[0] = false;
    assert_int_equal(pv_frame_get_type(s.data[0], dom, PGT_SEG_DESC, false), 0);
    pv_frame_put_type(s.data[0]);
    check();
}

/* A count that is full takes no more: the next would make it another type's. */
static void test_full_counts(void **state)
{
    struct space s;
    struct frame *data, *l1;
    uint64_t data_was, l1_was;

    space_start(&s);
    data = mfn_frame(s.data[0]);
    l1 = mfn_frame(s.l1);
    data_was = data->type;
    l1_was = l1->type;
    data->type = (data_was & ~COUNTS) | (COUNTS - 2);
    assert_int_equal(map_va(VA_FREE, pte_make(s.data[0], RW), UVMF_NONE), 0);
    assert_int_equal(type_count(s.data[0]), COUNTS - 1);
    assert_int_equal(map_va(VA_FREE + FRAME_SIZE, pte_make(s.data[0], RW), UVMF_NONE), -EBUSY);
    assert_int_equal(pv_frame_get_type(s.data[0], dom, PGT_WRITABLE, false), -EBUSY);
    assert_int_equal(type_count(s.data[0]), COUNTS - 1);
    data->type = data_was + 1;
    l1->type = (l1_was & ~COUNTS) | (COUNTS - 1);
    assert_int_not_equal(update(s.l1, 20, pte_make(s.data[1], RW)), 0);
    assert_int_equal(at(s.l1)[20], 0);
    assert_int_equal(l1->type & COUNTS, COUNTS - 1);
    l1->type = l1_was;
    check();
}

/* --- roots, flushes, pages --- */

static void test_roots(void **state)
{
    struct space s, t;
    unsigned loads;

    space_start(&s);
    space_make(dom, &t);
    loads = seen.roots_loaded;
    assert_int_equal(ext(MMUEXT_NEW_USER_BASEPTR, t.l4.n), 0); /* not pinned: validated now */
    assert_int_equal(seen.roots_loaded, loads);                /* the kernel runs */
    assert_int_equal(type_count(t.l4), 1);
    check();
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, t.l4.n), 0);
    assert_int_equal(seen.roots_loaded, loads + 1);
    assert_int_equal(type_count(s.l4), 1); /* its pin */
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, 0), -EINVAL);
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, s.l3.n), -EINVAL);
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, page(other).n), -EINVAL);
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, ~0ull), -EINVAL);
    assert_int_equal(ext(MMUEXT_NEW_USER_BASEPTR, 0), 0);
    check();
    assert_int_equal(ext(MMUEXT_NEW_BASEPTR, s.l4.n), 0);
    assert_int_equal(type_count(t.l4), 0);
    assert_int_equal(unpin(s.l4), 0); /* still the root */
    assert_int_equal(type_count(s.l4), 1);
    assert_int_equal(map_va(VA_FREE, 0, 0), 0);
    check();
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_NEW_BASEPTR, s.l4.n, 0, dom->id.v), -EPERM);
}

static void test_other_ops(void **state)
{
    struct space s;
    mfn_t a = page(dom), b = page(dom);

    space_start(&s);
    at(a)[5] = 7;
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_COPY_PAGE, b.n, a.n, DOMID_SELF), 0);
    assert_int_equal(at(b)[5], 7);
    assert_int_equal(ext(MMUEXT_CLEAR_PAGE, b.n), 0);
    assert_int_equal(at(b)[5], 0);
    assert_int_equal(ext(MMUEXT_CLEAR_PAGE, s.l1.n), -EINVAL);
    assert_int_equal(ext(MMUEXT_CLEAR_PAGE, page(other).n), -EINVAL);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_COPY_PAGE, s.l1.n, a.n, DOMID_SELF), -EINVAL);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_COPY_PAGE, b.n, page(other).n, DOMID_SELF), -EINVAL);
    assert_int_equal(ext(MMUEXT_FLUSH_CACHE, 0), -EACCES);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0, DOMID_SELF), 0);
    assert_int_equal(seen.caches_flushed, 2);
    assert_int_equal(ext(MMUEXT_MARK_SUPER, 0), -EOPNOTSUPP);
    assert_int_equal(ext(14, 0), -ENOSYS);
    assert_int_equal(ext(4711, 0), -ENOSYS);
    assert_int_equal(ext(MMUEXT_TLB_FLUSH_LOCAL, 0), 0);
    assert_int_equal(ext(MMUEXT_INVLPG_LOCAL, VA), 0);
    assert_int_equal(ext(MMUEXT_INVLPG_ALL, VA), 0);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_PIN_L1_TABLE, a.n, 0, other->id.v), -EPERM);
    assert_int_equal(ext_as(dom->vcpu[0], MMUEXT_PIN_L1_TABLE, a.n, 0, DOMID_XEN), -EPERM);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_PIN_L1_TABLE, a.n, 0, 999), -ESRCH);
    check();
}

/* --- foreign frames, devices --- */

static void test_foreign(void **state)
{
    struct space s, c;
    mfn_t foreign = page(other), table;
    uint64_t pte;

    space_start(&s);
    space_make(ctl, &c);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_NEW_BASEPTR, c.l4.n, 0, DOMID_SELF), 0);
    pte = mfn_to_maddr(c.l1).a + 16 * 8;
    assert_int_equal(update_as(dom->vcpu[0], mfn_to_maddr(s.l1).a, pte_make(foreign, RW), other->id.v),
                     -EPERM);
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(foreign, RW), DOMID_SELF), -EINVAL);
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(foreign, RW), other->id.v), 0);
    assert_int_equal(type_count(foreign), 1);
    check();
    /* As long as it is mapped so, it is no table; afterwards every CPU is flushed before it becomes one. */
    assert_int_equal(ext_as(other->vcpu[0], MMUEXT_PIN_L1_TABLE, foreign.n, 0, DOMID_SELF), -EINVAL);
    assert_int_equal(
        run(ctl->vcpu[0], pv_update_va_mapping_otherdomain, VA_FREE, pte_make(foreign, RO), 0, other->id.v),
        0);
    assert_int_equal(type_count(foreign), 0);
    uint32_t before = fake_flushes[1];
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_PIN_L1_TABLE, foreign.n, 0, other->id.v), 0);
    assert_int_equal(fake_flushes[1], before + 1);
    assert_int_equal(
        run(ctl->vcpu[0], pv_update_va_mapping_otherdomain, VA_FREE, pte_make(foreign, RW), 0, other->id.v),
        -EINVAL);
    check();
    /* Another domain's page tables. */
    table = s.l1;
    assert_int_equal(update_as(ctl->vcpu[0], mfn_to_maddr(table).a + 30 * 8, pte_make(s.data[0], RW),
                               (dom->id.v + 1u) << 16 | dom->id.v),
                     0);
    assert_int_equal(type_count(s.data[0]), 2);
    assert_int_equal(
        update_as(ctl->vcpu[0], mfn_to_maddr(table).a + 30 * 8, 0, (other->id.v + 1u) << 16 | dom->id.v),
        -EINVAL);
    assert_int_equal(update_as(dom->vcpu[0], pte, 0, (ctl->id.v + 1u) << 16 | dom->id.v), -EPERM);
    check();
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_UNPIN_TABLE, foreign.n, 0, other->id.v), 0);
}

static void test_devices(void **state)
{
    struct space s, c;

    space_start(&s);
    space_make(ctl, &c);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_NEW_BASEPTR, c.l4.n, 0, DOMID_SELF), 0);
    uint64_t pte = mfn_to_maddr(c.l1).a + 16 * 8, io = pte_make(MFN(mmio_first), RW | PTE_PCD | PTE_PWT);
    assert_int_equal(update_as(ctl->vcpu[0], pte, io, DOMID_SELF), 0);
    assert_int_equal(update_as(ctl->vcpu[0], pte, io, DOMID_IO), 0);
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(MFN(mmio_last + 1), RW), DOMID_IO), -EPERM);
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(c.data[0], RO), DOMID_IO), -EINVAL); /* RAM */
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(c.data[0], RW | PTE_PAT), DOMID_SELF), 0);
    assert_int_equal(map_va(VA_FREE, io, 0), -EINVAL);
    assert_int_equal(map_va(VA_FREE, pte_make(MFN(mmio_first), RW), 0), -EPERM);
    assert_int_equal(update_as(dom->vcpu[0], mfn_to_maddr(s.l1).a, pte_make(MFN(mmio_first), RW), DOMID_IO),
                     -EPERM);
    check();
}

/* A granted domain maps device memory, with memory types; what it loses is taken out of all its tables, and only that. */
static void test_devices_taken(void **state)
{
    uint32_t before;
    struct space s;
    int r;

    space_start(&s);
    granted = dom;
    x86_domain(dom)->devices = true;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(map_va(VA_FREE + i * FRAME_SIZE, pte_make(MFN(mmio_first + i), RW | PTE_PCD), 0), 0);
    check();
    assert_int_equal(pv_mmio_zap(dom, mmio_last + 1, ~0ull >> 12), 0);
    assert_true(at(s.l1)[16] & PTE_P);
    granted = NULL;
    before = fake_flushes[0];
    fake_preempt_every = 1;
    do
        r = pv_mmio_zap(dom, mmio_first + 1, mmio_first + 2);
    while (r == -EAGAIN);
    fake_preempt_every = 0;
    assert_int_equal(r, 0);
    assert_true(fake_flushes[0] > before);
    assert_true(at(s.l1)[16] & PTE_P && !at(s.l1)[17] && !at(s.l1)[18] && at(s.l1)[19] & PTE_P);
    assert_true(at(s.l1)[0] & PTE_P); /* its memory */
    /* A range that has RAM in it, too: frames of the guest stay mapped. */
    assert_int_equal(pv_mmio_zap(dom, 0, ~0ull >> 12), 0);
    assert_true(!at(s.l1)[16] && !at(s.l1)[19] && at(s.l1)[0] & PTE_P);
    assert_int_equal(map_va(VA_FREE, pte_make(MFN(mmio_first), RW), 0), -EPERM);
    check();
}

static void test_m2p_list(void **state)
{
    struct xen_machphys_mapping m;
    struct hypercall hc = {.caller = dom->vcpu[0], .arg = {XENMEM_machphys_mapping, (uint64_t)&m}};
    struct xen_machphys_mfn_list list = {.max_extents = 4};
    xen_pfn_t extent[4] = {9, 9, 9, 9};

    assert_int_equal(arch_memory_op(&hc), 0);
    assert_true(m.v_start == M2P_VIRT && m.v_end == M2P_VIRT_END);
    hc.arg[0] = XENMEM_machphys_mfn_list;
    hc.arg[1] = (uint64_t)&list;
    list.extent_start.p = extent;
    assert_int_equal(arch_memory_op(&hc), -EPERM);
    hc.caller = ctl->vcpu[0];
    assert_int_equal(arch_memory_op(&hc), 0);
    assert_int_equal(list.nr_extents, 1);
    assert_true(extent[1] == 9);
    hc.arg[0] = 63;
    assert_int_equal(arch_memory_op(&hc), -ENOSYS);
    hc.arg[0] = XENMEM_get_sharing_shared_pages;
    assert_int_equal(arch_memory_op(&hc), 0);
}

static void test_memory_maps(void **state)
{
    struct e820_entry in[3] = {
        {0, 0x9f000, E820_RAM}, {0x100000, 0x1000000, E820_RAM}, {0xe0000000, 0x1000, 2}};
    struct e820_entry out[8];
    struct xen_foreign_memory_map set = {.domid = dom->id.v, .map = {.nr_entries = 3}};
    struct xen_memory_map map = {.nr_entries = 2};
    struct hypercall hc = {.caller = dom->vcpu[0], .arg = {XENMEM_memory_map, (uint64_t)&map}};

    map.buffer.p = out;
    set.map.buffer.p = in;
    assert_int_equal(arch_memory_op(&hc), -ENOSYS);
    hc.caller = other->vcpu[0];
    hc.arg[0] = XENMEM_set_memory_map;
    hc.arg[1] = (uint64_t)&set;
    assert_int_equal(arch_memory_op(&hc), -EPERM);
    hc.caller = ctl->vcpu[0];
    assert_int_equal(arch_memory_op(&hc), 0);
    set.map.nr_entries = 129;
    assert_int_equal(arch_memory_op(&hc), -EINVAL);
    hc = (struct hypercall){.caller = dom->vcpu[0], .arg = {XENMEM_memory_map, (uint64_t)&map}};
    assert_int_equal(arch_memory_op(&hc), 0);
    assert_int_equal(map.nr_entries, 2);
    assert_memory_equal(out, in, 2 * sizeof(in[0]));
    map.buffer.p = NULL;
    assert_int_equal(arch_memory_op(&hc), 0);
    assert_int_equal(map.nr_entries, 3);
    hc.arg[0] = XENMEM_machine_memory_map;
    assert_int_equal(arch_memory_op(&hc), -EPERM);
    boot_info.e820_count = 1;
    boot_info.e820[0] = in[1];
    hc.caller = ctl->vcpu[0];
    map.nr_entries = 8;
    map.buffer.p = out;
    assert_int_equal(arch_memory_op(&hc), 0);
    assert_int_equal(map.nr_entries, 1);
    assert_memory_equal(out, &in[1], sizeof(in[0]));
}

static mfn_t m2p_chunk = {~0ull};
mfn_t m2p_frame(unsigned i)
{
    return i ? INVALID_MFN : m2p_chunk;
}

/* Privileged domains may read the M2P through DOMID_XEN; nobody may write it. */
static void test_m2p_shared(void **state)
{
    struct space c;
    xen_pfn_t extent[2] = {9, 9};
    struct xen_machphys_mfn_list list = {.max_extents = 2};
    struct hypercall hc = {.caller = ctl->vcpu[0], .arg = {XENMEM_machphys_mfn_list, (uint64_t)&list}};
    uint64_t pte;

    assert_true(frame_alloc(9, FA_ZERO, FRAME_ANY_NODE, &m2p_chunk));
    list.extent_start.p = extent;
    for (unsigned again = 0; again < 2; again++) {
        assert_int_equal(arch_memory_op(&hc), 0);
        assert_int_equal(extent[0], m2p_chunk.n);
    }
    space_make(ctl, &c);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_NEW_BASEPTR, c.l4.n, 0, DOMID_SELF), 0);
    pte = mfn_to_maddr(c.l1).a + 16 * 8;
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(MFN(m2p_chunk.n + 7), RO), DOMID_XEN), 0);
    check();
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(m2p_chunk, RW), DOMID_XEN), -EINVAL);
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(m2p_chunk, RO), DOMID_SELF), -EINVAL);
    assert_int_equal(update_as(ctl->vcpu[0], pte, pte_make(c.data[0], RO), DOMID_XEN), -EINVAL);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_PIN_L1_TABLE, m2p_chunk.n, 0, DOMID_XEN), -EINVAL);
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_CLEAR_PAGE, m2p_chunk.n, 0, DOMID_XEN), -EINVAL);
    assert_int_equal(update_as(dom->vcpu[0], pte, 0, DOMID_XEN), -EPERM);
    check();
    m2p_chunk = INVALID_MFN;
}

static void test_physmap(void **state)
{
    mfn_t m = page(dom);

    assert_int_equal(arch_physmap_add(dom, GFN(0x55), m, 0), 0);
    assert_int_equal(arch_mfn_to_gfn(dom, m).n, 0x55);
    assert_int_equal(arch_gfn_to_mfn(dom, GFN(m.n)).n, m.n); /* PV guests name machine frames */
    assert_true(mfn_eq(arch_gfn_to_mfn(dom, GFN(frame_count)), INVALID_MFN));
    assert_int_equal(x86_domain(dom)->p2m_max_pfn >= 0x55, true);
    assert_int_equal(arch_physmap_remove(dom, GFN(0x55), m, 0), 0);
    assert_int_equal(arch_mfn_to_gfn(dom, m).n, M2P_INVALID);
}

/* --- grants --- */

static void test_grants(void **state)
{
    struct space s;
    mfn_t g = page(other);
    struct vcpu *v = dom->vcpu[0];

    space_start(&s);
    pins_held = true;
    assert_true(arch_grant_pin(other, g, false));
    assert_int_equal(arch_grant_map(v, VA_FREE, g, GNTMAP_host_map | 1 << _GNTMAP_guest_avail0, false), 0);
    assert_int_equal(at(s.l1)[16], pte_make(g, RW | PTE_AVAIL0));
    assert_int_equal(type_count(g), 2);
    check();
    assert_int_equal(arch_grant_unmap(v, VA_FREE, g, GNTMAP_host_map, true, 0), -EINVAL);
    assert_int_equal(arch_grant_unmap(v, VA_FREE, s.data[0], GNTMAP_host_map, false, 0), -EINVAL);
    assert_int_equal(arch_grant_unmap(v, VA_FREE, g, GNTMAP_host_map, false, 0), 0);
    assert_int_equal(type_count(g), 1);
    /* The guest overwrites the entry: counts stay right, unmapping says so. */
    assert_int_equal(arch_grant_map(v, VA_FREE, g, GNTMAP_host_map, false), 0);
    assert_int_equal(map_va(VA_FREE, 0, 0), 0);
    assert_int_equal(type_count(g), 1);
    assert_int_equal(arch_grant_unmap(v, VA_FREE, g, GNTMAP_host_map, false, 0), -EINVAL);
    /* By PTE. */
    uint64_t pte = mfn_to_maddr(s.l1).a + 17 * 8;
    unsigned by_pte = GNTMAP_host_map | GNTMAP_contains_pte;
    assert_int_equal(arch_grant_map(v, pte, g, by_pte, true), 0);
    assert_int_equal(at(s.l1)[17], pte_make(g, RO));
    assert_int_equal(arch_grant_map(v, pte + 1, g, by_pte, true), -EINVAL);
    assert_int_equal(arch_grant_map(v, mfn_to_maddr(s.l2).a, g, by_pte, true), -EINVAL);
    assert_int_equal(arch_grant_map(v, mfn_to_maddr(s.data[0]).a, g, by_pte, true), -EINVAL);
    assert_int_equal(arch_grant_map(v, ~7ull, g, by_pte, true), -EINVAL);
    assert_int_equal(arch_grant_unmap(v, pte, g, by_pte, true, VA), -EINVAL);
    assert_int_equal(arch_grant_unmap(v, pte, g, by_pte, true, 0), 0);
    check();
    /* Replace: the entry at another address moves here. */
    assert_int_equal(arch_grant_map(v, VA_FREE, g, GNTMAP_host_map, false), 0);
    assert_int_equal(arch_grant_unmap(v, VA_FREE, g, GNTMAP_host_map, true, VA_DATA(0)), -EINVAL);
    assert_int_equal(at(s.l1)[0], pte_make(s.data[0], RW));
    assert_int_equal(arch_grant_unmap(v, VA_FREE, g, GNTMAP_host_map, false, VA_DATA(0)), 0);
    assert_int_equal(at(s.l1)[0], 0);
    assert_int_equal(at(s.l1)[16], pte_make(s.data[0], RW));
    check();
    /* Tables with mappings die with their domain; no writable pin of a table. */
    assert_int_equal(arch_grant_map(v, VA_DATA(0), g, GNTMAP_host_map, false), 0);
    arch_grant_unpin(g, false);
    assert_false(arch_grant_pin(dom, s.l1, false));
    assert_true(arch_grant_pin(dom, s.l1, true));
    arch_grant_unpin(s.l1, true);
    assert_false(arch_grant_pin(dom, g, true));
    assert_false(arch_grant_map(v, 0x1000, g, GNTMAP_host_map, true) == 0);
}

/* --- descriptors --- */

#define DESC_CODE 0x00af9b000000ffffull /* level 0 */
#define DESC_DATA 0x00cf93000000ffffull

static void test_descriptor_rules(void **state)
{
    assert_true(pv_descriptor_ok(0));
    assert_true(pv_descriptor_ok(0x7fff7fffffffffff & ~(1ull << 47)));
    assert_false(pv_descriptor_ok(DESC_CODE));
    assert_true(pv_descriptor_ok(pv_descriptor_fix(DESC_CODE)));
    assert_true(pv_descriptor_ok(pv_descriptor_fix(DESC_DATA)));
    for (unsigned type = 1; type < 16; type++) /* gates, TSS, LDT of any level */
        for (uint64_t dpl = 0; dpl < 4; dpl++)
            assert_false(pv_descriptor_ok(pv_descriptor_fix(1ull << 47 | dpl << 45 | (uint64_t)type << 40)));
}

static void test_gdt(void **state)
{
    struct space s;
    mfn_t g = page(dom), h = page(dom), bad = page(dom);
    struct vcpu *v = dom->vcpu[0];
    uint64_t f[2] = {g.n, h.n}, all[PV_GDT_FRAMES], *w;

    for (unsigned i = 0; i < PV_GDT_FRAMES; i++)
        all[i] = g.n;
    space_start(&s);
    w = x86_domain(dom)->window_l1[0];
    at(g)[1] = DESC_CODE;
    at(bad)[9] = 0x0000ec0000000000; /* a call gate */
    assert_int_equal(pv_set_gdt_frames(v, f, 600), 0);
    assert_int_equal(at(g)[1], DESC_CODE | 3ull << 45);
    assert_true(type_of(g) == PGT_SEG_DESC && (w[1] & PTE_P) && !w[2]);
    check();
    assert_int_equal(map_va(VA_FREE, pte_make(g, RW), 0), -EINVAL);
    assert_int_equal(update(g, 1, 0), -EINVAL);
    assert_int_equal(pin(g, 1), -EINVAL);
    f[1] = bad.n;
    assert_int_equal(pv_set_gdt_frames(v, f, 600), -EINVAL);
    f[1] = s.data[0].n; /* writable somewhere */
    assert_int_equal(pv_set_gdt_frames(v, f, 600), -EINVAL);
    f[1] = ~0ull;
    assert_int_equal(pv_set_gdt_frames(v, f, 600), -EINVAL);
    assert_int_equal(pv_set_gdt_frames(v, all, FIRST_RESERVED_GDT_ENTRY + 1), -EINVAL);
    check();
    assert_int_equal(pv_set_gdt_frames(v, all, FIRST_RESERVED_GDT_ENTRY), 0);
    check();
    assert_int_equal(pv_set_gdt_frames(v, f, 10), 0); /* the same frame again */
    assert_int_equal(type_count(h), 0);
    assert_false(w[1]);
    assert_int_equal(map_va(VA_FREE, pte_make(h, RW), 0), 0);
    pv_clear_gdt(v);
    assert_int_equal(type_count(g), 0);
    check();
}

static void test_ldt(void **state)
{
    struct space s;
    struct vcpu *v = dom->vcpu[0];
    struct guest_regs *r = vcpu_regs(v), copy;
    uint64_t ldt = VCPU_LDT_VIRT(0), *w;

    space_start(&s);
    w = x86_domain(dom)->window_l1[0];
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, VA_DATA(0) + 8, 10, DOMID_SELF), -EINVAL);
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, VA_DATA(0), 8193, DOMID_SELF), -EINVAL);
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, HYP_VIRT_START, 1, DOMID_SELF), -EINVAL);
    /* Its end or its beginning alone is the guest's. */
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, HYP_VIRT_END - FRAME_SIZE, 1024, DOMID_SELF), -EINVAL);
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, 0x800000000000 - FRAME_SIZE, 1024, DOMID_SELF), -EINVAL);
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, VA_DATA(0), 520, DOMID_SELF), 0);
    assert_int_equal(seen.ldts_loaded, 1);
    r->error_code = 0;
    assert_true(pv_mmu_fault(v, ldt + 16, r)); /* mapped writable: no descriptor page */
    assert_int_equal(seen.vector, TRAP_PF);
    assert_int_equal(seen.addr, VA_DATA(0) + 16);
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RO), 0), 0);
    assert_int_equal(map_va(VA_DATA(1), pte_make(s.data[1], RO), 0), 0);
    seen.vector = 0;
    copy = *r;
    assert_true(pv_mmu_fault(v, ldt + 16, &copy));
    assert_true(pv_mmu_fault(v, ldt + 16, &copy));
    assert_true(pv_mmu_fault(v, ldt + 4096, &copy));
    assert_false(pv_mmu_fault(v, ldt + 520 * 8, &copy)); /* beyond its end */
    assert_false(pv_mmu_fault(v, ldt + 0xfff8, &copy));
    assert_int_equal(seen.vector, 0);
    assert_true(w[16] & PTE_P && w[17] & PTE_P);
    assert_int_equal(pv_vcpu(v)->ldt_mapped, 3);
    check();
    /* The kernel takes the page back: the window lets it go. */
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RW), 0), 0);
    assert_int_equal(pv_vcpu(v)->ldt_mapped, 0);
    assert_true(type_of(s.data[0]) == PGT_WRITABLE);
    check();
    assert_true(pv_mmu_fault(v, ldt + 4096, &copy));
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, 0, 0, DOMID_SELF), 0);
    assert_int_equal(pv_vcpu(v)->ldt_mapped, 0);
    assert_false(w[17]);
    /* The GDT's window. */
    assert_true(pv_mmu_fault(v, VCPU_GDT_VIRT(0) + 0x1238, r));
    assert_int_equal(seen.vector, TRAP_GP);
    assert_int_equal(seen.addr, 0x1238);
    check();
}

/* A page that leaves the windows is in no CPU's TLB when it is let go. */
static void test_ldt_flush(void **state)
{
    struct space s;
    struct vcpu *v = dom->vcpu[0];
    struct guest_regs *r = vcpu_regs(v);
    uint32_t before;

    space_start(&s);
    cpumask_set(&x86_domain(dom)->dirty_cpus, 1);
    assert_int_equal(map_va(VA_DATA(0), 0, 0), 0);
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RO), UVMF_TLB_FLUSH | UVMF_ALL), 0);
    assert_int_equal(ext_as(v, MMUEXT_SET_LDT, VA_DATA(0), 512, DOMID_SELF), 0);
    assert_true(pv_mmu_fault(v, VCPU_LDT_VIRT(0) + 16, r));
    assert_int_equal(pv_vcpu(v)->ldt_mapped, 1);
    before = fake_flushes[1];
    assert_true(ldt_unmap_all(dom));
    assert_int_equal(fake_flushes[1], before + 1);
    assert_int_equal(fake_flush_kind, TLB_FLUSH_ALL);
    assert_false(ldt_unmap_all(dom));
    assert_int_equal(fake_flushes[1], before + 1);
    check();
}

/* --- page faults --- */

static bool fault(struct guest_regs *r, uint64_t addr, const void *code)
{
    r->error_code = PF_PRESENT | PF_WRITE | PF_USER;
    r->rip = (uint64_t)code;
    return pv_mmu_fault(dom->vcpu[0], addr, r);
}

/* A write of part of an entry goes to that part. */
static void test_partial_writes(void **state)
{
    struct space s;
    struct guest_regs *r = vcpu_regs(dom->vcpu[0]);
    static const uint8_t movb[16] = {0x88, 0x01};       /* mov %al, (%rcx) */
    static const uint8_t movw[16] = {0x66, 0x89, 0x01}; /* mov %ax, (%rcx) */
    static const uint8_t movl[16] = {0x89, 0x01};       /* mov %eax, (%rcx) */
    uint64_t e;

    space_start(&s);
    dom->vm_assist = 1ull << VMASST_TYPE_writable_pagetables;
    e = pte_make(s.data[3], RO);
    r->rax = e;
    assert_true(fault(r, VA_L1 + 20 * 8, movl));
    assert_int_equal(at(s.l1)[20], e & 0xffffffff);
    r->rax = 0x8000;
    assert_true(fault(r, VA_L1 + 20 * 8 + 6, movw));
    e |= PTE_NX;
    assert_int_equal(at(s.l1)[20], e);
    e |= 0xe00;
    r->rax = e >> 8 & 0xff;
    assert_true(fault(r, VA_L1 + 20 * 8 + 1, movb));
    assert_int_equal(at(s.l1)[20], e);
    r->rax = 0;
    assert_true(fault(r, VA_L1 + 20 * 8 + 4, movl));
    assert_int_equal(at(s.l1)[20], e & 0xffffffff);
    check();
}

static void test_faults(void **state)
{
    struct space s;
    struct guest_regs *r = vcpu_regs(dom->vcpu[0]);
    static const uint8_t mov[16] = {0x48, 0x89, 0x01};              /* mov %rax, (%rcx) */
    static const uint8_t andb[16] = {0xf0, 0x80, 0x21, 0xfd};       /* lock andb $~2, (%rcx) */
    static const uint8_t xchg[16] = {0x48, 0x87, 0x02};             /* xchg %rax, (%rdx) */
    static const uint8_t cmpx[16] = {0xf0, 0x48, 0x0f, 0xb1, 0x0f}; /* lock cmpxchg %rcx, (%rdi) */
    static const uint8_t stos[16] = {0xf3, 0x48, 0xab};             /* rep stosq */
    static const uint8_t none[16] = {0x0f, 0x0b};

    space_start(&s);
    r->rax = pte_make(s.data[3], RW);
    assert_false(fault(r, VA_L1 + 20 * 8, mov)); /* not asked for by vm_assist */
    dom->vm_assist = 1ull << VMASST_TYPE_writable_pagetables;
    assert_true(fault(r, VA_L1 + 20 * 8, mov));
    assert_int_equal(at(s.l1)[20], pte_make(s.data[3], RW));
    assert_int_equal(r->rip, (uint64_t)mov + 3);
    assert_int_equal(type_count(s.data[3]), 2);
    assert_true(fault(r, VA_L1 + 20 * 8, andb));
    assert_int_equal(at(s.l1)[20], pte_make(s.data[3], RO));
    assert_int_equal(type_count(s.data[3]), 1);
    r->rax = 0;
    assert_true(fault(r, VA_L1 + 20 * 8, xchg));
    assert_int_equal(r->rax, pte_make(s.data[3], RO));
    assert_int_equal(at(s.l1)[20], 0);
    check();
    r->rcx = pte_make(s.data[4], RW);
    r->rax = 1;
    assert_true(fault(r, VA_L1 + 20 * 8, cmpx));
    assert_int_equal(r->rax, 0);
    assert_int_equal(at(s.l1)[20], 0);
    assert_true(fault(r, VA_L1 + 20 * 8, cmpx));
    assert_int_equal(at(s.l1)[20], pte_make(s.data[4], RW));
    r->rcx = 3;
    r->rdi = VA_L1 + 20 * 8;
    r->rax = 0;
    for (unsigned i = 0; i < 3; i++)
        assert_true(fault(r, VA_L1 + (20 + i) * 8, stos));
    assert_int_equal(r->rcx, 0);
    assert_int_equal(r->rip, (uint64_t)stos + 3);
    assert_int_equal(at(s.l1)[20], 0);
    /* What would be refused as an update is refused here: the guest gets its fault. */
    r->rax = pte_make(s.l1, RW);
    assert_false(fault(r, VA_L1 + 20 * 8, mov));
    assert_int_equal(r->rip, (uint64_t)mov);
    assert_false(fault(r, VA_L1 + 20 * 8, none));
    assert_false(fault(r, VA_L1 + 20 * 8 + 4, mov)); /* across entries */
    assert_false(fault(r, VA_L1 + FRAME_SIZE, mov)); /* an L2 */
    assert_false(fault(r, VA_L1 + 20 * 8, (void *)0x10));
    fake_fault_start =
        (uint64_t)mov + 3; /* the instruction ends where the memory does: that is the next page's matter */
    fake_fault_end = (uint64_t)mov + 16;
    assert_false(fault(r, VA_L1 + 20 * 8, mov));
    fake_fault_start = fake_fault_end = 0;
    check();
    /* Stale translations. */
    assert_true(fault(r, VA_DATA(0), mov));
    assert_int_equal(map_va(VA_DATA(0), pte_make(s.data[0], RO), 0), 0);
    assert_false(fault(r, VA_DATA(0), mov));
    assert_false(fault(r, 0x1234567890, mov));
    assert_false(fault(r, HYP_VIRT_START + 0x1000, mov));
    r->error_code = PF_WRITE;
    assert_false(pv_mmu_fault(dom->vcpu[0], VA_DATA(1), r));
    r->error_code = PF_PRESENT | PF_WRITE | PF_RSVD;
    assert_false(pv_mmu_fault(dom->vcpu[0], VA_DATA(1), r));
    uint64_t e;
    assert_true(pv_mmu_walk(dom->vcpu[0], GVA(VA_DATA(1)), &e));
    assert_int_equal(pte_mfn(e).n, s.data[1].n);
    assert_false(pv_mmu_walk(dom->vcpu[0], GVA(VA_FREE), &e));
    assert_false(pv_mmu_walk(dom->vcpu[0], GVA(1ull << 60), &e));
}

/* --- preemption --- */

#define WIDE 40
struct wide {
    mfn_t l4, l3[2], l2[2], l1[WIDE], data[WIDE];
};

static void wide_make(struct wide *w)
{
    w->l4 = page(dom);
    for (unsigned i = 0; i < 2; i++) {
        w->l3[i] = page(dom);
        w->l2[i] = page(dom);
        at(w->l4)[i * 300 + 1] = pte_make(w->l3[i], PTB);
        at(w->l3[i])[i * 511] = pte_make(w->l2[i], PTB);
    }
    for (unsigned i = 0; i < WIDE; i++) {
        w->l1[i] = page(dom);
        w->data[i] = page(dom);
        at(w->l2[i % 2])[i * 12 + 3] = pte_make(w->l1[i], PTB);
        at(w->l1[i])[i] = pte_make(w->data[i], RW);
        at(w->l1[i])[511] = pte_make(w->data[0], RO);
    }
}

static void test_preemption(void **state)
{
    struct wide w;

    wide_make(&w);
    for (unsigned every = 1; every < 8; every++) {
        fake_preempt_every = every;
        assert_int_equal(pin(w.l4, 4), 0);
        assert_true(agains >= WIDE / every / 2);
        fake_preempt_every = 0;
        check();
        fake_preempt_every = every;
        assert_int_equal(unpin(w.l4), 0);
        assert_true(agains >= WIDE / every / 2);
        fake_preempt_every = 0;
        check();
        for (unsigned i = 0; i < WIDE; i++)
            assert_int_equal(type_count(w.l1[i]), 0);
    }
    /* A bad entry at the far end: what was done is undone, bit by bit. */
    at(w.l1[WIDE - 1])[500] = pte_make(w.l4, RW);
    fake_preempt_every = 3;
    assert_int_equal(pin(w.l4, 4), -EINVAL);
    fake_preempt_every = 0;
    check();
    assert_int_equal(ext(MMUEXT_TLB_FLUSH_LOCAL, 0), 0); /* the next operation finishes that */
    check();
    assert_int_equal(type_count(w.l4), 0);
    assert_int_equal(type_count(w.data[1]), 0);
}

/* One step of a hypercall only. */
static long step(struct vcpu *v, struct hypercall *hc, long (*fn)(struct hypercall *))
{
    hc->caller = v;
    return fn(hc);
}

static void test_abandoned(void **state)
{
    struct wide w;
    struct mmuext_op op = {.cmd = MMUEXT_PIN_L4_TABLE}, op1 = {.cmd = MMUEXT_PIN_L3_TABLE};
    struct hypercall hc = {.arg = {(uint64_t)&op, 1, 0, DOMID_SELF}},
                     hc1 = {.arg = {(uint64_t)&op1, 1, 0, DOMID_SELF}};
    long r;

    wide_make(&w);
    op.arg1.mfn = w.l4.n;
    op1.arg1.mfn = w.l3[0].n;
    fake_preempt_every = 1;
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(step(dom->vcpu[0], &hc, pv_mmuext_op), HC_AGAIN);
    check();
    /* Another vCPU comes to the same tables while they are half done. */
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(step(dom->vcpu[1], &hc1, pv_mmuext_op), HC_AGAIN);
    check();
    /* The first goes away, for something else. */
    fake_preempt_every = 0;
    assert_int_equal(ext(MMUEXT_CLEAR_PAGE, w.data[3].n), 0);
    check();
    fake_preempt_every = 1;
    mfn_t l1 = page(dom);
    assert_int_equal(pin(l1, 1), 0);
    fake_preempt_every = 0;
    assert_int_equal(pv_vcpu(dom->vcpu[0])->pending.mfn, 0);
    check();
    fake_preempt_every = 1;
    while ((r = step(dom->vcpu[1], &hc1, pv_mmuext_op)) == HC_AGAIN)
        ;
    fake_preempt_every = 0;
    assert_int_equal(r, 0);
    check();
    assert_true(type_of(w.l3[0]) == PGT_L3 && type_count(w.l3[0]) == 1);
    /* What is half done as an L4 is nothing else meanwhile. */
    hc.arg[1] = 1;
    fake_preempt_every = 1;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(step(dom->vcpu[0], &hc, pv_mmuext_op), HC_AGAIN);
    fake_preempt_every = 0;
    assert_int_equal(pv_vcpu(dom->vcpu[0])->pending.mfn, w.l4.n);
    assert_int_equal(pin(w.l4, 3), -EINVAL);
    assert_int_equal(type_count(w.l4), 0);
    check();
    /* Left in the middle at the end: destruction copes (teardown). */
    fake_preempt_every = 1;
    hc.arg[1] = 1;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(step(dom->vcpu[0], &hc, pv_mmuext_op), HC_AGAIN);
    fake_preempt_every = 0;
    check();
    fake_preempt_every = 2;
}

static void test_release_is_preemptible(void **state)
{
    struct wide w;
    struct space s;
    unsigned n = 0;

    wide_make(&w);
    space_start(&s);
    assert_int_equal(pin(w.l4, 4), 0);
    assert_int_equal(pin(w.l2[0], 2), 0);
    assert_int_equal(ext(MMUEXT_NEW_USER_BASEPTR, w.l4.n), 0);
    fake_preempt_every = 1;
    while (pv_domain_release_tables(dom) == -EAGAIN)
        n++;
    assert_true(n >= WIDE);
    fake_preempt_every = 0;
    check();
    for (unsigned i = 0; i < WIDE; i++)
        assert_int_equal(type_count(w.l1[i]) + type_count(w.data[i]), 0);
    assert_int_equal(type_count(s.l4), 0);
}

static void test_dying(void **state)
{
    mfn_t l1 = page(dom);

    dom->dying = DOM_DYING;
    assert_int_equal(ext_as(ctl->vcpu[0], MMUEXT_PIN_L1_TABLE, l1.n, 0, dom->id.v), -EINVAL);
    assert_int_equal(pin(l1, 1), -EINVAL); /* its own vCPU, which was in the call already */
    assert_int_equal(type_count(l1), 0);
    assert_int_equal(update_as(ctl->vcpu[0], mfn_to_maddr(l1).a, 0, (dom->id.v + 1u) << 16 | DOMID_SELF),
                     -ESRCH);
    dom->dying = DOM_ALIVE;
    assert_int_equal(pv_pin_table(dom, l1, 1), 0);
    assert_int_equal(pv_pin_table(dom, l1, 1), -EINVAL);
    assert_int_equal(pv_pin_table(dom, l1, 5), -EINVAL);
    check();
}

static void test_panics(void **state)
{
    mfn_t m = page(dom);

    expect_panic("type too many", pv_frame_put_type(m));
    assert_int_equal(pv_frame_get_type(m, dom, PGT_WRITABLE, false), 0);
    pv_frame_put_type(m);
}

/* --- the model: a guest that does everything at random --- */

#define POOL 20
static mfn_t pool[2][POOL];
static unsigned seed, tried, done;

static unsigned rnd(unsigned n)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 8) % n;
}

static uint64_t random_entry(unsigned who)
{
    static const uint64_t flags[] = {RW,          RO,           PTB,          PTB, RO | PTE_AVAIL0,
                                     RW | PTE_NX, PTB | PTE_PS, RW | PTE_PCD, 0,   RW & ~PTE_P};
    mfn_t m = pool[rnd(8) ? who : !who][rnd(POOL)];

    if (!rnd(40))
        m = rnd(2) ? MFN(mmio_first) : who ? other->shared_info_mfn : dom->shared_info_mfn;
    return pte_make(m, flags[rnd(rnd(2) ? 5 : ARRAY_SIZE(flags))]);
}

static unsigned random_index(void)
{
    static const unsigned idx[] = {0, 1, 2, 255, 256, 271, 272, 511};

    return idx[rnd(ARRAY_SIZE(idx))];
}

static void fill_random(unsigned who)
{
    mfn_t m = pool[who][rnd(POOL)];

    /* As the guest could: the page must be writable now. */
    if (pv_frame_get_type(m, who ? other : dom, PGT_WRITABLE, false))
        return;
    for (unsigned i = 0; i < 3; i++)
        at(m)[random_index()] = random_entry(who);
    pv_frame_put_type(m);
}

static void random_step(void)
{
    unsigned who = rnd(2);
    struct domain *d = who ? other : dom;
    bool by_ctl = !rnd(6);
    struct vcpu *v = by_ctl ? ctl->vcpu[0] : d->vcpu[rnd(2)];
    mfn_t m = pool[rnd(12) ? who : !who][rnd(POOL)];
    struct mmuext_op op = {.cmd = MMUEXT_PIN_L1_TABLE + rnd(4)};
    mmu_update_t u = {mfn_to_maddr(m).a + random_index() * 8 + rnd(2) * 2, random_entry(who)};
    struct hypercall hc = {.caller = v, .arg = {(uint64_t)&op, 1, 0, by_ctl ? d->id.v : DOMID_SELF}};
    long (*fn)(struct hypercall *) = pv_mmuext_op;
    uint64_t frames[2] = {m.n, pool[who][rnd(POOL)].n};
    unsigned steps = rnd(5) ? 1000000 : 1 + rnd(4);

    fake_current[0] = v;
    op.arg1.mfn = m.n;
    switch (rnd(12)) {
    case 0:
    case 1:
        fill_random(who);
        return;
    case 2:
    case 3:
        break; /* pin */
    case 4:
        op.cmd = MMUEXT_UNPIN_TABLE;
        break;
    case 5:
        op.cmd = rnd(2) ? MMUEXT_NEW_BASEPTR : MMUEXT_NEW_USER_BASEPTR;
        break;
    case 6:
        op.cmd = rnd(2) ? MMUEXT_CLEAR_PAGE : MMUEXT_COPY_PAGE;
        op.arg2.src_mfn = frames[1];
        break;
    case 7:
        if (!by_ctl)
            (void)!pv_set_gdt_frames(v, frames, rnd(700));
        return;
    default:
        fn = pv_mmu_update;
        hc.arg[0] = (uint64_t)&u;
        if (by_ctl)
            hc.arg[3] |= (d->id.v + 1u) << 16;
    }
    long r = HC_AGAIN;

    while (steps-- && r == HC_AGAIN)
        r = fn(&hc);
    tried++;
    done += r == 0;
}

static void test_model(void **state)
{
    const char *more = getenv("PVMMU_STEPS");
    unsigned n = more ? (unsigned)atoi(more) : 6000;

    unsigned was = seed = more ? (unsigned)time(NULL) : 1;

    for (unsigned who = 0; who < 2; who++)
        for (unsigned i = 0; i < POOL; i++)
            pool[who][i] = page(who ? other : dom);
    for (unsigned i = 0; i < n; i++) {
        fake_preempt_every = rnd(3);
        random_step();
        fake_preempt_every = 0;
        check();
    }
    if (more)
        print_message("# seed %u: %u of %u hypercalls succeeded\n", was, done, tried);
    assert_true(done > tried / 10);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_pin_and_unpin),
        T(test_bad_tables),
        T(test_no_writable_tables),
        T(test_special_frames),
        T(test_linear),
        T(test_linear_chains),
        T(test_linear_lower_levels),
        T(test_linear_release_preempted),
        T(test_update_upper),
        T(test_update_modes),
        T(test_update_list),
        T(test_va),
        T(test_va_bitmap),
        T(test_retype_flushes),
        T(test_full_counts),
        T(test_roots),
        T(test_other_ops),
        T(test_foreign),
        T(test_devices),
        T(test_devices_taken),
        T(test_m2p_list),
        T(test_m2p_shared),
        T(test_physmap),
        T(test_memory_maps),
        T(test_grants),
        T(test_descriptor_rules),
        T(test_gdt),
        T(test_ldt),
        T(test_ldt_flush),
        T(test_partial_writes),
        T(test_faults),
        T(test_preemption),
        T(test_abandoned),
        T(test_release_is_preemptible),
        T(test_dying),
        T(test_panics),
        T(test_model),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
