/* The p2m of translated domains: entries of all sizes, references, pool, changes while tables are read, what guests may ask. */
#include "fake.h"
#include "core/work.h"
#include "lib/string.h"
#include "x86/mm.h"
#include "x86/p2m.h"
#include "x86/vcpu.h"

void domain_ref(struct domain *d)
{
    d->refs++;
}
void domain_put(struct domain *d)
{
    assert_true(d->refs > 1);
    d->refs--;
}
bool preempt_needed(void)
{
    return false; /* the test says when: fake_preempt_every */
}

void arch_frame_writable(mfn_t m)
{
    mfn_frame(m)->type |= 1;
}

static struct domain *guest, *other;
static unsigned flushes;

static void (*watch_flush)(void);
static void (*meanwhile)(void); /* what another CPU does during the next flush */

/* During a flush a CPU may still use what it found: nothing may have been let go yet. */
static mfn_t watched = {~0ull};
static void flush(struct domain *d)
{
    assert_true(d == guest);
    if (!mfn_eq(watched, INVALID_MFN))
        assert_true(mfn_frame(watched)->count & FRAME_REF_MASK);
    flushes++;
    if (watch_flush)
        watch_flush();
    if (meanwhile) {
        void (*fn)(void) = meanwhile;

        meanwhile = NULL;
        fn();
    }
}
static void paging(struct vcpu *v, struct guest_paging *p)
{
    *p = (struct guest_paging){0};
}

static struct p2m_machine machine = {
    .flush = flush, .paging = paging, .large = true, .huge = true, .guest_bits = 40};

static int start(void **state, bool ept)
{
    fake_start(8192, 2);
    machine.ept = ept;
    machine.guest_bits = 40;
    machine.large = machine.huge = true;
    p2m_machine_set(&machine);
    guest = fake_domain(5, 4000);
    guest->ops = &fake_translated_ops;
    other = fake_domain(6, 100);
    flushes = 0;
    watched = INVALID_MFN;
    return p2m_domain_init(guest);
}
static int start_npt(void **state)
{
    return start(state, false);
}
static int start_ept(void **state)
{
    return start(state, true);
}

static void check(void)
{
    p2m_room_check(guest);
    frame_room_check();
    frame_domain_check(guest);
    frame_domain_check(other);
}

/* A dying guest: everything comes back. */
static int end(void **state)
{
    check();
    guest->dying = DOM_DYING;
    fake_preempt_every = 2;
    while (p2m_domain_release(guest) == -EAGAIN)
        p2m_room_check(guest);
    fake_preempt_every = 0;
    assert_int_equal(p2m_pool_used(guest), 1);
    while (frame_domain_release(guest, 64))
        ;
    assert_int_equal(guest->frames, 0);
    p2m_domain_free(guest);
    other->dying = DOM_DYING;
    while (frame_domain_release(other, 64))
        ;
    assert_int_equal(other->frames, 0);
    fake_stop();
    return 0;
}

static mfn_t ram(unsigned order)
{
    mfn_t m;

    assert_int_equal(frame_alloc_domain(guest, order, 64, 0, &m), 0);
    return m;
}
static uint64_t refs(mfn_t m)
{
    return mfn_frame(m)->count & FRAME_REF_MASK;
}
static struct p2m_entry look(uint64_t gfn)
{
    struct p2m_entry e;

    p2m_look(guest, GFN(gfn), &e);
    return e;
}

static void set_get_remove(void **state)
{
    mfn_t m = ram(0);
    struct p2m_entry e;

    assert_int_equal(look(7).type, P2M_NONE);
    assert_int_equal(p2m_get(guest, GFN(7), 0, &e), -ENOENT);
    assert_int_equal(p2m_set(guest, GFN(7), m, 0, P2M_RAM), 0);
    assert_int_equal(flushes, 0); /* nothing was there */
    assert_int_equal(refs(m), 2);
    assert_int_equal(m2p_get(m), 7);
    assert_int_equal(p2m_highest(guest).n, 7);
    assert_int_equal(p2m_get(guest, GFN(7), P2M_WRITE, &e), 0);
    assert_true(mfn_eq(e.mfn, m) && e.type == P2M_RAM && e.order == 0);
    assert_int_equal(refs(m), 3);
    check();
    watched = m;
    assert_int_equal(p2m_remove(guest, GFN(7), m, 0), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(refs(m), 2); /* ours keeps it, whatever the guest does */
    assert_true(m2p_get(m) == M2P_INVALID);
    assert_int_equal(p2m_remove(guest, GFN(7), m, 0), -ENOENT);
    assert_int_equal(p2m_remove(guest, GFN(7), INVALID_MFN, 0), 0);
    frame_put(mfn_frame(m));
    assert_int_equal(p2m_pool_used(guest), 1); /* empty tables go */
}

static void large_entries(void **state)
{
    mfn_t m = ram(9);
    uint64_t gfn = 512 * 5;

    assert_int_equal(p2m_set(guest, GFN(gfn), m, 9, P2M_RAM), 0);
    assert_int_equal(look(gfn + 77).order, 9);
    assert_int_equal(look(gfn + 77).mfn.n, m.n + 77);
    assert_int_equal(refs(MFN(m.n + 77)), 2);
    assert_int_equal(p2m_pool_used(guest), 3);
    check();
    /* One out of the middle splits. */
    assert_int_equal(p2m_remove(guest, GFN(gfn + 100), MFN(m.n + 100), 0), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(look(gfn + 100).type, P2M_NONE);
    assert_int_equal(look(gfn + 99).order, 0);
    assert_int_equal(look(gfn + 101).mfn.n, m.n + 101);
    assert_int_equal(refs(MFN(m.n + 100)), 1);
    assert_int_equal(refs(MFN(m.n + 101)), 2);
    assert_int_equal(p2m_pool_used(guest), 4);
    check();
    /* Put back: merging happens when the last of a table is written. */
    assert_int_equal(p2m_set(guest, GFN(gfn + 100), MFN(m.n + 100), 0, P2M_RAM), 0);
    assert_int_equal(p2m_set(guest, GFN(gfn + 511), MFN(m.n + 511), 0, P2M_RAM), 0);
    assert_int_equal(look(gfn + 100).order, 9);
    assert_int_equal(p2m_pool_used(guest), 3);
    check();
    flushes = 0;
    assert_int_equal(p2m_remove(guest, GFN(gfn), m, 9), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(p2m_pool_used(guest), 1);
}

static void ranges_that_lie_badly(void **state)
{
    mfn_t m = ram(9), n = ram(9);

    /* Not aligned to each other: small entries. */
    assert_int_equal(p2m_set(guest, GFN(1000), m, 9, P2M_RAM), 0);
    assert_int_equal(look(1024).order, 0);
    check();
    /* Over it, partly: what was there goes. */
    assert_int_equal(p2m_set(guest, GFN(1024), n, 9, P2M_RAM), 0);
    assert_int_equal(look(1023).mfn.n, m.n + 23);
    assert_int_equal(look(1024).mfn.n, n.n);
    assert_int_equal(look(1024).order, 9); /* the table that was there has merged */
    assert_int_equal(refs(MFN(m.n + 24)), 1);
    check();
    /* A range with a hole, whatever it maps. */
    assert_int_equal(p2m_remove(guest, GFN(1010), INVALID_MFN, 5), 0);
    assert_int_equal(look(1009).mfn.n, m.n + 9);
    assert_int_equal(look(1042).mfn.n, n.n + 18);
    assert_int_equal(look(1041).type, P2M_NONE);
    check();
}

static void sizes_that_the_machine_lacks(void **state)
{
    mfn_t m = ram(9);

    machine.large = machine.huge = false;
    p2m_machine_set(&machine);
    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(look(512).order, 0);
    assert_int_equal(look(1023).order, 0);
    check();
}

/* 1 GiB needs frames that lie so: device memory does. */
static void a_gigabyte(void **state)
{
    assert_int_equal(p2m_mmio_map(guest, GFN(1 << 18), MFN(2 << 18), 1 << 18), 0);
    assert_int_equal(look((1 << 18) + 12345).order, 18);
    assert_int_equal(look((1 << 18) + 12345).mfn.n, (2 << 18) + 12345);
    check();
    assert_int_equal(p2m_mmio_map(guest, GFN(1 << 18), MFN(2 << 18), 1), 0); /* the same again */
    assert_int_equal(p2m_mmio_map(guest, GFN(1 << 18), MFN(3 << 18), 1), -EBUSY);
    assert_int_equal(p2m_mmio_unmap(guest, GFN((1 << 18) + 513), MFN((2 << 18) + 513), 1), 0);
    assert_int_equal(look((1 << 18) + 512).order, 0);
    assert_int_equal(look((1 << 18) + 1024).order, 9);
    check();
    /* Memory does not take the place of a device. */
    assert_int_equal(p2m_set(guest, GFN(1 << 18), ram(0), 0, P2M_RAM), -EBUSY);
    assert_int_equal(p2m_remove(guest, GFN(1 << 18), INVALID_MFN, 0), -EBUSY);
    assert_int_equal(p2m_mmio_unmap(guest, GFN(1 << 18), MFN(2 << 18), 1 << 18), 0);
    assert_int_equal(p2m_pool_used(guest), 1);
}

static void hostile_numbers(void **state)
{
    uint64_t top = (1ull << 28) - 1;
    mfn_t m = ram(0);
    struct p2m_entry e;

    for (uint64_t g = top + 1; g; g <<= 1) {
        assert_int_equal(p2m_set(guest, GFN(g), m, 0, P2M_RAM), -EINVAL);
        assert_int_equal(p2m_get(guest, GFN(g), 0, &e), -ENOENT);
        assert_int_equal(p2m_remove(guest, GFN(g), INVALID_MFN, 0), -EINVAL);
        assert_int_equal(p2m_change_type(guest, GFN(g), P2M_RAM, P2M_RAM_RO), -EINVAL);
        assert_int_equal(p2m_grant_map(guest, g << 12 | ~(~0ull >> 12), m, false), -EINVAL);
        assert_int_not_equal(p2m_release_frames(guest, GFN(g), 0), 0);
        assert_int_equal(look(g).type, P2M_NONE);
    }
    assert_int_equal(p2m_fault(guest, ~0ull, P2M_ACC_WRITE), P2M_IS_MMIO);
    assert_int_equal(p2m_set(guest, GFN(~0ull), m, 0, P2M_RAM), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(top), m, 9, P2M_RAM), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(top), m, 0, P2M_RAM), 0);
    assert_int_equal(p2m_set(guest, GFN(0), MFN(frame_count), 0, P2M_RAM), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(0), MFN(~0ull), 0, P2M_RAM), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(0), MFN(~0ull >> 12), 1, P2M_MMIO), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(0), m, 0, P2M_NONE), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(0), m, 0, (enum p2m_type)77), -EINVAL);
    assert_int_equal(p2m_set(guest, GFN(0), m, 0, P2M_GRANT), -EINVAL);
    /* Another domain's frame is no RAM of this one. */
    assert_int_equal(frame_alloc_domain(other, 0, 64, 0, &m), 0);
    assert_int_equal(p2m_set(guest, GFN(0), m, 0, P2M_RAM), -EINVAL);
    check();
}

static void types(void **state)
{
    mfn_t m = ram(9);
    struct p2m_entry e;

    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(p2m_change_type(guest, GFN(600), P2M_RAM, P2M_RAM_RO), 0);
    assert_int_equal(p2m_change_type(guest, GFN(600), P2M_RAM, P2M_RAM_RO), -EBUSY);
    assert_int_equal(p2m_change_type(guest, GFN(5), P2M_RAM, P2M_RAM_RO), -EBUSY);
    assert_int_equal(flushes, 1);
    assert_int_equal(refs(MFN(m.n + 88)), 2);
    assert_int_equal(m2p_get(MFN(m.n + 88)), 600);
    assert_int_equal(p2m_get(guest, GFN(600), P2M_WRITE, &e), -ENOENT);
    assert_int_equal(p2m_get(guest, GFN(600), 0, &e), 0);
    frame_put(mfn_frame(e.mfn));
    assert_int_equal(p2m_fault(guest, 600ull << 12, P2M_ACC_WRITE), P2M_IS_ROM);
    assert_int_equal(p2m_fault(guest, 600ull << 12, P2M_ACC_FETCH), P2M_RETRY);
    assert_int_equal(p2m_fault(guest, 601ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(p2m_change_type(guest, GFN(601), P2M_RAM, P2M_RAM_DM), 0);
    assert_int_equal(p2m_fault(guest, 601ull << 12, P2M_ACC_WRITE), P2M_IS_DM_RAM);
    assert_int_equal(p2m_fault(guest, 77ull << 30, 0), P2M_IS_MMIO);
    check();
}

static void a_frame_at_two_numbers(void **state)
{
    mfn_t m = ram(0);

    assert_int_equal(p2m_set(guest, GFN(1), m, 0, P2M_RAM), 0);
    assert_int_equal(p2m_set(guest, GFN(2), m, 0, P2M_RAM), 0);
    assert_int_equal(refs(m), 3);
    assert_int_equal(m2p_get(m), 2);
    check();
    assert_int_equal(p2m_remove(guest, GFN(1), m, 0), 0);
    assert_int_equal(m2p_get(m), 2);
    assert_int_equal(p2m_set(guest, GFN(2), m, 0, P2M_RAM), 0); /* onto itself */
    assert_int_equal(refs(m), 2);
    assert_int_equal(m2p_get(m), 2);
    check();
}

static void frames_given_back(void **state)
{
    mfn_t m = ram(9), s;
    struct p2m_entry e;

    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(p2m_get(guest, GFN(700), 0, &e), 0); /* a backend copies */
    assert_int_equal(p2m_release_frames(guest, GFN(512), 9), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(guest->frames, 1); /* the one in use */
    assert_int_equal(p2m_release_frames(guest, GFN(512), 9), -ENOENT);
    frame_put(mfn_frame(e.mfn));
    assert_int_equal(guest->frames, 0);
    /* What Krypton shares is unmapped, not freed. */
    assert_true(frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &s));
    frame_share(guest, s);
    assert_int_equal(p2m_set(guest, GFN(9), s, 0, P2M_RAM), 0);
    check();
    assert_false(frame_unshare(s));
    assert_int_equal(p2m_release_frames(guest, GFN(9), 0), 0);
    assert_true(frame_unshare(s));
    frame_free(s, 0);
}

static void grants(void **state)
{
    mfn_t m, r = ram(0);

    assert_int_equal(frame_alloc_domain(other, 0, 64, 0, &m), 0);
    assert_int_equal(p2m_grant_map(guest, 0x5000, m, false), 0);
    assert_int_equal(refs(m), 2);
    assert_int_equal(p2m_grant_map(guest, 0x5000, m, false), -EINVAL); /* something is there */
    assert_int_equal(p2m_set(guest, GFN(5), r, 0, P2M_RAM), -EBUSY);
    assert_int_equal(p2m_remove(guest, GFN(5), INVALID_MFN, 0), -EBUSY);
    assert_int_equal(p2m_release_frames(guest, GFN(5), 0), -EBUSY);
    assert_int_equal(p2m_change_type(guest, GFN(5), P2M_RAM, P2M_RAM_RO), -EBUSY);
    assert_int_equal(p2m_fault(guest, 0x5000, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(p2m_fault(guest, 0x5000, P2M_ACC_FETCH), P2M_DENIED);
    check();
    assert_int_equal(p2m_grant_unmap(guest, 0x5000, m, true), -EINVAL);
    assert_int_equal(p2m_grant_unmap(guest, 0x5000, r, false), -EINVAL);
    assert_int_equal(p2m_grant_unmap(guest, 0x6000, m, false), -EINVAL);
    assert_int_equal(p2m_grant_unmap(guest, ~0ull, m, false), -EINVAL);
    assert_int_equal(p2m_grant_unmap(guest, 0x5000, m, false), 0);
    assert_int_equal(refs(m), 1);
    assert_int_equal(p2m_grant_map(guest, 0x5000, m, true), 0);
    assert_int_equal(p2m_fault(guest, 0x5000, P2M_ACC_WRITE), P2M_DENIED);
    assert_int_equal(p2m_fault(guest, 0x5000, 0), P2M_RETRY);
    /* A guest dies with it: the entry lets go. */
}

static void pool_limits(void **state)
{
    mfn_t m = ram(9);

    assert_int_equal(p2m_pool_set(guest, 2), 0);
    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), -ENOMEM);
    assert_int_equal(refs(m), 1);
    assert_int_equal(p2m_pool_used(guest), 1); /* what was made on the way is gone */
    check();
    assert_int_equal(p2m_pool_set(guest, 3), 0);
    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(p2m_remove(guest, GFN(600), INVALID_MFN, 0), -ENOMEM); /* no table to split into */
    assert_int_equal(p2m_change_type(guest, GFN(600), P2M_RAM, P2M_RAM_RO), -ENOMEM);
    assert_int_equal(p2m_grant_map(guest, 1ull << 36, m, false), -EINVAL);
    check();
    assert_int_equal(p2m_pool_set(guest, 0), 0);
    assert_int_equal(p2m_pool_size(guest), 3);
    assert_int_equal(p2m_pool_set(guest, 1ull << 40), -ENOMEM);
    assert_int_equal(p2m_remove(guest, GFN(512), m, 9), 0);
}

/* Each allocation of a change fails once; then the change works. */
static void no_memory(void **state)
{
    mfn_t m = ram(9), k = ram(3);
    uint64_t free = frame_free_node(0);

    for (unsigned n = 1; n < 20; n++) {
        int r;

        fake_fail_alloc = n;
        r = p2m_set(guest, GFN(512 * 512 - 3), k, 3, P2M_RAM); /* into two level-2 tables */
        if (!r) {
            fake_fail_alloc = 0;
            assert_int_equal(n, 6);
            break;
        }
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(refs(k), 1);
        check();
        assert_int_equal(frame_free_node(0), free);
    }
    assert_int_equal(p2m_remove(guest, GFN(512 * 512 - 3), k, 3), 0);
    assert_int_equal(frame_free_node(0), free);
    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    fake_fail_alloc = 1;
    assert_int_equal(p2m_remove(guest, GFN(513), MFN(m.n + 1), 0), -ENOMEM);
    assert_int_equal(look(513).order, 9);
    fake_fail_alloc = 1;
    assert_int_equal(p2m_release_frames(guest, GFN(513), 0), -ENOMEM);
    check();
}

/* --- populate on demand --- */

static void populate_on_demand(void **state)
{
    uint64_t word = 7;
    mfn_t m;

    assert_int_equal(p2m_pod_target(guest, 512 + 20), 0); /* nothing is there yet: it is being built */
    assert_int_equal(guest->frames, 512 + 20);
    assert_int_equal(p2m_pod_cached(guest), 512 + 20);
    assert_int_equal(p2m_pod_mark(guest, GFN(512), 9), 0);
    assert_int_equal(p2m_pod_mark(guest, GFN(1024), 9), 0);
    assert_int_equal(p2m_pod_entries(guest), 1024);
    assert_int_equal(look(700).type, P2M_POD);
    assert_int_equal(look(700).order, 9);
    check();
    /* The first use gets a large entry, the next a small one. */
    assert_int_equal(p2m_fault(guest, 700ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(look(700).order, 9);
    assert_int_equal(p2m_fault(guest, 1100ull << 12, 0), P2M_RETRY);
    m = look(1100).mfn;
    assert_int_equal(look(1100).type, P2M_RAM);
    assert_int_equal(look(1101).type, P2M_POD);
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(((uint64_t *)arch_frame_va(m))[i], 0);
    assert_int_equal(p2m_pod_cached(guest), 19);
    assert_int_equal(p2m_pod_mark(guest, GFN(700), 0), -EINVAL); /* something is there */
    check();
    /* Given back while others are outstanding: it waits, empty. */
    assert_true(guest_phys_out(guest, 1100ull << 12, &word, 8));
    assert_int_equal(p2m_release_frames(guest, GFN(1100), 0), 0);
    assert_int_equal(guest->frames, 532);
    assert_int_equal(p2m_pod_cached(guest), 20);
    assert_true(guest_phys_in(guest, &word, 1101ull << 12, 8));
    assert_int_equal(word, 0);
    /* The balloon driver gives back numbers that were never used: what nobody waits for is freed. */
    for (unsigned i = 1102; i < 1536; i++)
        assert_int_equal(p2m_release_frames(guest, GFN(i), 0), 0);
    assert_int_equal(p2m_pod_entries(guest), 76); /* 1101 was read */
    assert_int_equal(p2m_release_frames(guest, GFN(1024), 6), 0);
    assert_int_equal(p2m_pod_entries(guest), 12);
    assert_int_equal(p2m_pod_cached(guest), 12);
    assert_int_equal(guest->frames, 512 + 1 + 12);
    check();
    /* A smaller target than what there is changes nothing, a larger one no more than is outstanding. */
    assert_int_equal(p2m_pod_target(guest, 100), 0);
    assert_int_equal(p2m_pod_target(guest, 2000), 0);
    assert_int_equal(guest->frames, 525);
}

/* More is used than there is: pages that are still empty help, others do not. */
static void an_empty_cache(void **state)
{
    uint64_t word = 0x77;

    assert_int_equal(p2m_pod_target(guest, 8), 0);
    assert_int_equal(p2m_pod_mark(guest, GFN(512), 9), 0);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(p2m_fault(guest, (600ull + i) << 12, P2M_ACC_WRITE), P2M_RETRY);
        if (i != 3)
            assert_true(guest_phys_out(guest, ((600ull + i) << 12) + 4088, &word, 8));
    }
    assert_int_equal(p2m_pod_cached(guest), 0);
    flushes = 0;
    assert_int_equal(p2m_fault(guest, 700ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(look(700).type, P2M_RAM);
    assert_int_equal(look(603).type, P2M_POD); /* was empty */
    assert_int_equal(look(604).type, P2M_RAM);
    assert_true(flushes >= 2);
    check();
    assert_true(guest_phys_out(guest, 700ull << 12, &word, 8));
    assert_int_equal(p2m_fault(guest, 701ull << 12, 0), P2M_NO_MEMORY);
    {
        struct p2m_entry e;

        assert_int_equal(p2m_get(guest, GFN(701), 0, &e), -ENOMEM);
    }
    assert_int_equal(guest->frames, 8);
    check();
}

/* A page that looks empty is written while it is being taken away: nothing is lost. */
static void written_meanwhile(void);
static void a_write_during_the_sweep(void **state)
{
    uint64_t word = 5;

    assert_int_equal(p2m_pod_target(guest, 1), 0);
    assert_int_equal(p2m_pod_mark(guest, GFN(512), 9), 0);
    assert_int_equal(p2m_fault(guest, 600ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    meanwhile = written_meanwhile;
    assert_int_equal(p2m_fault(guest, 601ull << 12, P2M_ACC_WRITE), P2M_NO_MEMORY);
    assert_true(guest_phys_in(guest, &word, 600ull << 12, 8));
    assert_int_equal(word, 99);
    check();
}
static void written_meanwhile(void)
{
    uint64_t word = 99;

    assert_int_equal(look(600).type, P2M_LOGGED);
    assert_true(guest_phys_out(guest, 600ull << 12, &word, 8));
    assert_int_equal(look(600).type, P2M_RAM);
}

static void pod_without_memory(void **state)
{
    assert_int_equal(p2m_pod_target(guest, 5000), -ENOMEM); /* beyond its limit */
    assert_int_equal(p2m_pod_target(guest, 100), 0);
    check();
    for (unsigned n = 1; n < 6; n++) {
        fake_fail_alloc = n;
        (void)!p2m_pod_mark(guest, GFN(512 * 512 - 1), 1);
        fake_fail_alloc = 0;
        check();
    }
    assert_int_equal(p2m_pod_mark(guest, GFN(512 * 7), 9), 0);
    fake_fail_alloc = 1; /* no table to split into */
    (void)!p2m_fault(guest, 512ull * 7 << 12, 0);
    fake_fail_alloc = 0;
    check();
}

/* --- what has been written --- */

static uint8_t bits[4096];
static unsigned read_bits(uint64_t gfn, unsigned n, bool clean)
{
    unsigned count = 0;

    memset(bits, 0xff, sizeof(bits));
    if (p2m_log_read_some(guest, GFN(gfn), n, bits, clean))
        p2m_flush(guest);
    for (unsigned i = 0; i < (n + 7) / 8; i++)
        count += (unsigned)__builtin_popcount(bits[i]);
    check();
    return count;
}

static void dirty_memory(void **state)
{
    mfn_t m = ram(9), n = ram(3);
    uint64_t word = 1;
    struct p2m_entry e;

    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(p2m_set(guest, GFN(3), n, 3, P2M_RAM), 0);
    fake_preempt_every = 1;
    while (p2m_log_enable(guest) == -EAGAIN)
        ;
    fake_preempt_every = 0;
    assert_true(p2m_log_enabled(guest));
    assert_int_equal(p2m_log_enable(guest), -EINVAL);
    assert_int_equal(look(600).order, 9);
    assert_int_equal(read_bits(0, 1100, true), 0);
    /* Each way to write: the guest, the hypervisor, a grant's user. */
    assert_int_equal(p2m_fault(guest, 5ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(p2m_fault(guest, 6ull << 12, 0), P2M_RETRY); /* a read */
    assert_int_equal(p2m_fault(guest, 600ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_true(guest_phys_out(guest, 700ull << 12, &word, 8));
    assert_int_equal(p2m_get(guest, GFN(701), P2M_WRITE, &e), 0);
    assert_int_equal(read_bits(0, 1100, true), 4);
    assert_true(bits[5 / 8] == 1 << 5 && bits[600 / 8] == 1 && bits[700 / 8] == 0x30);
    p2m_mark_dirty(guest, GFN(701)); /* it has written after that */
    frame_put(mfn_frame(e.mfn));
    p2m_mark_dirty(guest, GFN(~0ull));
    p2m_mark_dirty(guest, GFN(9999));
    assert_int_equal(read_bits(0, 1100, false), 1);
    assert_int_equal(read_bits(640, 64, true), 1);
    assert_int_equal(read_bits(640, 64, true), 0);
    assert_int_equal(look(600).order, 0);
    /* What appears is dirty; what goes is not. */
    assert_int_equal(p2m_remove(guest, GFN(3), n, 3), 0);
    assert_int_equal(p2m_set(guest, GFN(80), n, 3, P2M_RAM), 0);
    assert_int_equal(read_bits(0, 1100, true), 8);
    assert_int_equal(read_bits((1ull << 28) - 8, 64, true), 0);
    assert_int_equal(read_bits(~0ull, 64, true), 0);
    fake_preempt_every = 1;
    while (p2m_log_disable(guest) == -EAGAIN)
        p2m_room_check(guest);
    fake_preempt_every = 0;
    assert_int_equal(look(600).order, 9); /* large again */
    assert_int_equal(look(82).type, P2M_RAM);
}

/* What is asked for is a part of a large entry: a screen is looked at in pieces. It is clean afterwards, the rest stays dirty. */
static void dirty_parts_of_large_entries(void **state)
{
    mfn_t m = ram(9);

    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(read_bits(520, 256, false), 256);
    assert_int_equal(look(520).order, 9); /* only looked at */
    assert_int_equal(read_bits(520, 256, true), 256);
    assert_int_equal(read_bits(520, 256, true), 0);
    assert_int_equal(read_bits(512, 512, false), 256);
    assert_int_equal(p2m_fault(guest, 600ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(read_bits(520, 256, true), 1);
    assert_int_equal(read_bits(512, 512, true), 256);
    assert_int_equal(read_bits(512, 512, true), 0);
}

/* No table to split a large entry into: all of it counts as written. */
static void dirty_without_memory(void **state)
{
    mfn_t m = ram(9);

    assert_int_equal(p2m_set(guest, GFN(512), m, 9, P2M_RAM), 0);
    assert_int_equal(p2m_log_enable(guest), 0);
    fake_fail_alloc = 1;
    assert_int_equal(p2m_fault(guest, 600ull << 12, P2M_ACC_WRITE), P2M_RETRY);
    assert_int_equal(look(700).type, P2M_RAM);
    assert_int_equal(read_bits(512, 512, true), 512);
    assert_int_equal(read_bits(512, 512, true), 0);
}

/* Random operations against a plain array. */
#define MODEL 2048
static struct {
    uint64_t mfn;
    enum p2m_type type;
} model[MODEL];

static uint32_t seed;
static uint32_t rnd(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void model_check(void)
{
    for (uint64_t g = 0; g < MODEL; g++) {
        struct p2m_entry e = look(g);

        assert_int_equal(e.type, model[g].type);
        if (e.type != P2M_NONE)
            assert_int_equal(e.mfn.n, model[g].mfn);
    }
    check();
}

static void random_operations(void **state)
{
    mfn_t block[4];

    for (unsigned i = 0; i < 4; i++)
        block[i] = ram(9);
    memset(model, 0, sizeof(model));
    seed = 12345;
    for (unsigned n = 0; n < 1500; n++) {
        unsigned order = rnd(3) ? rnd(4) : 9, size = 1u << order;
        uint64_t gfn = order == 9 && rnd(2) ? rnd(4) * 512 : rnd(MODEL - size);
        uint64_t mfn = block[rnd(4)].n + (order == 9 ? 0 : rnd(512 - size));
        enum p2m_type type = rnd(5) ? P2M_RAM : P2M_RAM_RO;
        int r;

        if (!rnd(10))
            fake_fail_alloc = 1 + rnd(3);
        if (rnd(3)) {
            r = p2m_set(guest, GFN(gfn), MFN(mfn), order, type);
            for (unsigned i = 0; i < size; i++) {
                struct p2m_entry e = look(gfn + i);

                if (r) { /* each of them is as it was, or empty */
                    assert_true(e.type == P2M_NONE ||
                                (e.type == model[gfn + i].type && e.mfn.n == model[gfn + i].mfn) ||
                                e.mfn.n == mfn + i);
                    model[gfn + i].type = e.type;
                    model[gfn + i].mfn = e.mfn.n;
                } else {
                    model[gfn + i].type = type;
                    model[gfn + i].mfn = mfn + i;
                }
            }
        } else {
            r = p2m_remove(guest, GFN(gfn), INVALID_MFN, order);
            for (unsigned i = 0; i < size; i++)
                if (!r || look(gfn + i).type == P2M_NONE)
                    model[gfn + i].type = P2M_NONE;
        }
        assert_true(!r || r == -ENOMEM);
        fake_fail_alloc = 0;
        if (n % 16 == 0)
            model_check();
    }
    model_check();
}

/* All operations at random, each allocation may fail; a processor that remembers every translation until the next flush. */
static uint64_t tlb[MODEL]; /* frame + 1 that it may still use */

static void tlb_fill(void)
{
    for (uint64_t g = 0; g < MODEL; g++) {
        struct p2m_entry e = look(g);

        if (e.type != P2M_NONE && e.type != P2M_POD && e.type != P2M_MMIO)
            tlb[g] = e.mfn.n + 1;
    }
}
static void tlb_check(void)
{
    for (uint64_t g = 0; g < MODEL; g++)
        if (tlb[g]) /* the frame still is somebody's that it was shown to */
            assert_true(refs(MFN(tlb[g] - 1)) && mfn_frame(MFN(tlb[g] - 1))->owner != FRAME_NO_OWNER);
}
static void tlb_flush(void)
{
    tlb_check();
    memset(tlb, 0, sizeof(tlb));
}

static void random_step(mfn_t lent)
{
    unsigned order = rnd(4) ? rnd(4) : 9, size = 1u << order;
    uint64_t gfn = order == 9 ? rnd(4) * 512 : rnd(MODEL - size);
    struct p2m_entry e;
    mfn_t m;

    switch (rnd(14)) {
    case 0:
    case 1:
    case 2:
        if (frame_alloc_domain(guest, order, 64, 0, &m))
            break;
        if (p2m_set(guest, GFN(gfn), m, order, P2M_RAM))
            for (unsigned i = 0; i < size; i++)
                if (frame_clear_allocated(mfn_frame(MFN(m.n + i))))
                    frame_put(mfn_frame(MFN(m.n + i)));
        break;
    case 3:
    case 4:
        (void)!p2m_release_frames(guest, GFN(gfn), order);
        break;
    case 5:
        (void)!p2m_change_type(guest, GFN(gfn), rnd(2) ? P2M_RAM : P2M_RAM_RO, rnd(2) ? P2M_RAM_DM : P2M_RAM);
        break;
    case 6:
        (void)!p2m_grant_map(guest, gfn << 12, lent, rnd(2));
        break;
    case 7:
        for (uint64_t g = 0; g < MODEL; g++)
            if (look(g).type == P2M_GRANT || look(g).type == P2M_GRANT_RO)
                assert_int_equal(p2m_grant_unmap(guest, g << 12, lent, look(g).type == P2M_GRANT_RO), 0);
        tlb_flush(); /* as the grant room does */
        break;
    case 8:
        (void)!p2m_mmio_map(guest, GFN(gfn), MFN(0x100000 + gfn), size);
        break;
    case 9:
        (void)!p2m_mmio_zap(guest, MFN(0x100000 + gfn), MFN(0x100000 + gfn + 2 * size));
        break;
    case 10:
        (void)!p2m_pod_mark(guest, GFN(gfn), order);
        break;
    case 11:
        (void)!p2m_pod_target(guest, rnd(1500));
        break;
    case 12:
        if (p2m_log_read_some(guest, GFN(gfn & ~7ull), 512, bits, rnd(2)))
            p2m_flush(guest);
        break;
    default:
        (void)!p2m_fault(guest, gfn << 12, rnd(8));
        if (!p2m_get(guest, GFN(gfn), rnd(2), &e))
            frame_put(mfn_frame(e.mfn));
    }
}

static void random_everything(void **state)
{
    mfn_t lent;

    seed = 4711;
    assert_int_equal(frame_alloc_domain(other, 0, 64, 0, &lent), 0);
    memset(tlb, 0, sizeof(tlb));
    watch_flush = tlb_flush;
    for (unsigned n = 0; n < 3000; n++) {
        if (!rnd(6))
            fake_fail_alloc = 1 + rnd(4);
        random_step(lent);
        fake_fail_alloc = 0;
        if (n % 8 == 0) {
            tlb_check();
            tlb_fill();
        }
        if (n % 32 == 0)
            check();
    }
    tlb_check();
    watch_flush = NULL;
}

#define BOTH(f)                                                                                              \
    {#f " (npt)", f, start_npt, end, NULL},                                                                  \
    {                                                                                                        \
#f " (ept)", f, start_ept, end, NULL                                                                 \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(set_get_remove),
        BOTH(large_entries),
        BOTH(ranges_that_lie_badly),
        BOTH(sizes_that_the_machine_lacks),
        BOTH(a_gigabyte),
        BOTH(hostile_numbers),
        BOTH(types),
        BOTH(a_frame_at_two_numbers),
        BOTH(frames_given_back),
        BOTH(grants),
        BOTH(pool_limits),
        BOTH(no_memory),
        BOTH(populate_on_demand),
        BOTH(an_empty_cache),
        BOTH(a_write_during_the_sweep),
        BOTH(pod_without_memory),
        BOTH(dirty_memory),
        BOTH(dirty_parts_of_large_entries),
        BOTH(dirty_without_memory),
        BOTH(random_operations),
        BOTH(random_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
