/* Frames: heap, references, owners, claims - directed tests, attacks, and a random model. */
#include "fake.h"
#include "core/alloc.h"
#include "core/memory/private.h"
#include "lib/string.h"

#include <stdlib.h>

/* The room needs only this of core/domain. */
void domain_ref(struct domain *d)
{
    d->refs++;
}
void domain_put(struct domain *d)
{
    assert_true(d->refs > 1);
    d->refs--;
}

static uint64_t free_now(void)
{
    struct frame_info i;

    frame_info(&i);
    return i.free;
}

static bool all_zero(mfn_t m)
{
    const uint64_t *p = arch_frame_va(m);

    for (unsigned i = 0; i < FRAME_SIZE / 8; i++)
        if (p[i])
            return false;
    return true;
}

static void drop_owner(struct frame *f)
{
    assert_true(frame_clear_allocated(f));
    frame_put(f);
}

static void alloc_and_free_all(void **state)
{
    mfn_t m[4096];
    unsigned n = 0;
    uint64_t before = free_now();

    while (n < 4096 && frame_alloc(0, 0, FRAME_ANY_NODE, &m[n]))
        n++;
    assert_int_equal(n, 4096);
    assert_int_equal(free_now(), 0);
    frame_room_check();
    /* Every second, then the rest: all blocks must merge again. */
    for (unsigned i = 0; i < n; i += 2)
        frame_free(m[i], 0);
    frame_room_check();
    for (unsigned i = 1; i < n; i += 2)
        frame_free(m[i], 0);
    frame_room_check();
    assert_int_equal(free_now(), before);
    assert_true(frame_alloc(11, 0, FRAME_ANY_NODE, &m[0]));
    assert_int_equal(m[0].n % 2048, 0);
    frame_free(m[0], 11);
}

/* Domains whose numbers nobody had yet need a frame for the table of owners. */
static void a_domain_without_room_in_the_table_of_owners(void **state)
{
    struct domain d = {.id = DID(5 * 512)};
    mfn_t m[4096];
    unsigned n = 0;

    while (n < 4096 && frame_alloc(0, 0, FRAME_ANY_NODE, &m[n]))
        n++;
    assert_int_equal(frame_domain_init(&d), -ENOMEM);
    frame_free(m[--n], 0);
    assert_int_equal(frame_domain_init(&d), 0);
    assert_int_equal(free_now(), 0);
    d.id = DID(5 * 512 + 511); /* the same frame of the table */
    assert_int_equal(frame_domain_init(&d), 0);
    d.id = DID(6 * 512);
    assert_int_equal(frame_domain_init(&d), -ENOMEM);
    while (n--)
        frame_free(m[n], 0);
    frame_room_check();
}

static void orders_are_aligned_and_zero(void **state)
{
    for (unsigned order = 0; order <= 10; order++) {
        mfn_t m;

        assert_true(frame_alloc(order, FA_ZERO, FRAME_ANY_NODE, &m));
        assert_int_equal(m.n & ((1ull << order) - 1), 0);
        for (uint64_t i = 0; i < 1ull << order; i++) {
            assert_true(all_zero(MFN(m.n + i)));
            memset(arch_frame_va(MFN(m.n + i)), 0xee, FRAME_SIZE);
        }
        frame_free(m, order);
    }
    frame_room_check();
}

static void too_much(void **state)
{
    mfn_t m;

    assert_false(frame_alloc(FRAME_MAX_ORDER, 0, FRAME_ANY_NODE, &m));
    assert_false(frame_alloc(FRAME_MAX_ORDER + 1, 0, FRAME_ANY_NODE, &m));
    assert_false(frame_alloc(63, 0, FRAME_ANY_NODE, &m));
    assert_false(frame_alloc_bits(0, 12, 0, FRAME_ANY_NODE, &m));
    assert_false(frame_alloc_bits(0, 0, 0, FRAME_ANY_NODE, &m));
    assert_false(frame_alloc_bits(0, 16, 0, FRAME_ANY_NODE, &m)); /* the machine begins at frame 16 */
    assert_true(frame_alloc_bits(0, 17, 0, FRAME_ANY_NODE, &m));
    assert_in_range(m.n, 16, 31);
    frame_free(m, 0);
    frame_room_check();
}

static void bits_and_nodes(void **state)
{
    struct fake_range r[] = {
        {0, 64, 0}, {0xff000, 0x100000, 0}, {0x100000, 0x101000, 1}, {0x140000, 0x141000, 3}};
    mfn_t m;

    fake_start_ranges(r, 4, 4);
    fake_node_of_cpu[1] = 1;
    assert_true(frame_alloc(0, 0, FRAME_ANY_NODE, &m));
    assert_true(m.n < 0x100000); /* CPU 0 is on node 0 */
    assert_true(m.n >= 0xff000); /* high memory first */
    frame_free(m, 0);
    fake_cpu = 1;
    assert_true(frame_alloc(0, 0, FRAME_ANY_NODE, &m));
    assert_in_range(m.n, 0x100000, 0x100fff);
    frame_free(m, 0);
    assert_true(frame_alloc(0, FA_BELOW_4G, FRAME_ANY_NODE, &m));
    assert_true(m.n < 0x100000);
    frame_free(m, 0);
    assert_true(frame_alloc(3, FA_EXACT_NODE, 3, &m));
    assert_in_range(m.n, 0x140000, 0x140fff);
    frame_free(m, 3);
    assert_false(frame_alloc(0, FA_EXACT_NODE, 2, &m));
    assert_false(frame_alloc(0, FA_EXACT_NODE, 99, &m));
    assert_false(frame_alloc(0, FA_EXACT_NODE | FA_BELOW_4G, 3, &m));
    assert_true(frame_alloc(0, FA_BELOW_4G, 3, &m)); /* not exact: elsewhere */
    frame_free(m, 0);
    assert_true(frame_alloc_bits(0, 20, 0, 3, &m));
    assert_in_range(m.n, 1, 63); /* frame 0 is never given out */
    frame_free(m, 0);
    assert_false(mfn_valid(MFN(0x80000)));
    assert_false(mfn_valid(MFN(0x141000)));
    assert_false(mfn_valid(INVALID_MFN));
    assert_true(mfn_valid(MFN(0)));
    assert_int_equal(frame_free_node(1), 0x1000);
    assert_int_equal(frame_free_node(2), 0);
    assert_int_equal(frame_free_node(1000), 0);
    frame_room_check();
    fake_stop();
}

static void ranges_must_not_overlap(void **state)
{
    expect_panic("given twice", frame_add_range(MFN(100), MFN(101), 0));
    expect_panic("given twice", frame_reserve_range(MFN(4000), MFN(4100)));
}

static void reserved_ranges_can_be_freed(void **state)
{
    struct fake_range r[] = {{16, 1024, 0}, {2048, 4096, 0}};
    struct frame_info i;

    fake_start_ranges(r, 2, 1);
    frame_reserve_range(MFN(1024), MFN(2048));
    frame_info(&i);
    assert_int_equal(i.total, 4080);
    assert_int_equal(i.free, 3056);
    assert_int_equal(i.hypervisor, 1024);
    assert_true(mfn_valid(MFN(1500)));
    for (unsigned n = 1024; n < 2048; n++)
        frame_free(MFN(n), 0);
    frame_room_check();
    assert_int_equal(free_now(), 4080);
    fake_stop();
}

static void bad_frees_panic(void **state)
{
    mfn_t m;

    assert_true(frame_alloc(2, 0, FRAME_ANY_NODE, &m));
    frame_free(m, 2);
    expect_panic("not in use by us", frame_free(m, 2));
    expect_panic("not in use by us", frame_free(MFN(m.n + 1), 0));
    expect_panic("BUG", frame_free(MFN(8192), 0));
    assert_true(frame_alloc(1, 0, FRAME_ANY_NODE, &m));
    expect_panic("BUG", frame_free(MFN(m.n + 1), 1)); /* not aligned */
    frame_free(m, 1);
}

static void owned_frames_live_by_references(void **state)
{
    struct domain *d = fake_domain(7, 10), *other = fake_domain(8, 10);
    uint64_t before;
    struct frame *f;
    did_t owner;
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    before = free_now();
    f = mfn_frame(m);
    assert_int_equal(d->frames, 1);
    assert_int_equal(d->refs, 3); /* its memory keeps it */
    assert_true(all_zero(m));
    assert_false(frame_get(f, other));
    assert_true(frame_get(f, d));
    assert_true(frame_get_any(f, &owner));
    assert_int_equal(owner.v, 7);
    frame_ref(f);
    frame_domain_check(d);
    assert_false(frame_steal(d, f)); /* others hold references */
    drop_owner(f);
    assert_false(frame_clear_allocated(f)); /* once */
    frame_put(f);
    frame_put(f);
    assert_int_equal(d->frames, 1); /* one reference left */
    frame_put(f);
    assert_int_equal(d->frames, 0);
    assert_int_equal(d->refs, 2);
    assert_int_equal(free_now(), before + 1);
    assert_false(frame_get(f, d));
    assert_false(frame_get_any(f, &owner));
    frame_domain_check(d);
}

static void dropping_too_much_panics(void **state)
{
    struct domain *d = fake_domain(7, 10);
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    expect_panic("dropped twice", frame_put(mfn_frame(m)));
    mfn_frame(m)->count = FRAME_ALLOCATED | 1;
    drop_owner(mfn_frame(m));
    expect_panic("BUG", frame_put(mfn_frame(m)));
    mfn_frame(m)->count = 0;
    expect_panic("BUG", frame_ref(mfn_frame(m)));
    mfn_frame(m)->count = 0;
}

static void the_counter_does_not_overflow(void **state)
{
    struct domain *d = fake_domain(7, 10);
    did_t owner;
    struct frame *f;
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    f = mfn_frame(m);
    f->count = FRAME_ALLOCATED | FRAME_REF_MASK;
    assert_false(frame_get(f, d));
    assert_false(frame_get_any(f, &owner));
    assert_true(f->count == (FRAME_ALLOCATED | FRAME_REF_MASK));
    expect_panic("BUG", frame_ref(f));
    f->count = FRAME_ALLOCATED | FRAME_BROKEN | 1;
    assert_false(frame_get(f, d));
    f->count = FRAME_ALLOCATED | 1;
    drop_owner(f);
}

static void limits_hold(void **state)
{
    struct domain *d = fake_domain(7, 9);
    mfn_t m[4], extra;

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(frame_alloc_domain(d, 1, 64, 0, &m[i]), 0);
    assert_int_equal(frame_alloc_domain(d, 1, 64, 0, &extra), -ENOMEM);
    assert_int_equal(frame_alloc_domain(d, FRAME_MAX_ORDER, 64, 0, &extra), -ENOMEM);
    assert_int_equal(frame_alloc_domain(d, 63, 64, 0, &extra), -ENOMEM);
    assert_int_equal(frame_alloc_domain(d, 1, 64, FA_NO_LIMIT, &extra), 0);
    assert_int_equal(d->frames, 10);
    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &extra), -ENOMEM);
    frame_domain_check(d);
    d->dying = DOM_DYING;
    assert_int_equal(frame_alloc_domain(d, 0, 64, FA_NO_LIMIT, &extra), -ENOMEM);
    while (frame_domain_release(d, 3) == -EAGAIN)
        ;
    assert_int_equal(d->frames, 0);
    assert_int_equal(d->refs, 2);
}

static void dirty_memory_never_reaches_another(void **state)
{
    struct domain *a = fake_domain(1, 5000), *b = fake_domain(2, 5000);
    struct frame_info i;
    mfn_t m;

    while (!frame_alloc_domain(a, 0, 64, 0, &m))
        memset(arch_frame_va(m), 0x5e, FRAME_SIZE);
    frame_info(&i);
    assert_int_equal(i.scrub_pending, 0);
    for (struct frame *f = frame_domain_first(a); f; f = frame_domain_first(a))
        drop_owner(f);
    frame_info(&i);
    assert_true(i.scrub_pending > 3000);
    while (!frame_alloc_domain(b, 0, 64, 0, &m))
        assert_true(all_zero(m));
    frame_info(&i);
    assert_int_equal(i.scrub_pending, 0);
    b->dying = DOM_DYING;
    assert_int_equal(frame_domain_release(b, ~0u), 0);
    frame_info(&i);
    assert_int_equal(i.scrub_pending, 0); /* a dying domain's memory is zeroed at once ... */
    fake_zeroed = 0;
    while (!frame_alloc_domain(a, 0, 64, 0, &m))
        ;
    assert_int_equal(fake_zeroed, 0); /* ... and not again */
}

/* What nobody could write to is not zeroed again; what somebody could, and what came from elsewhere, is. */
static void untouched_memory_is_not_scrubbed(void **state)
{
    struct domain *a = fake_domain(1, 100), *b = fake_domain(2, 100);
    mfn_t m[4], n;

    fake_types_show_writes = true;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m[i]), 0);
    mfn_frame(m[1])->type = 1;
    memset(arch_frame_va(m[1]), 0x5e, FRAME_SIZE);
    /* m[2] goes through hands that show nothing. */
    assert_true(frame_steal(a, mfn_frame(m[2])));
    memset(arch_frame_va(m[2]), 0x5e, FRAME_SIZE);
    assert_int_equal(frame_assign(b, m[2], 0, 0), 0);
    /* m[3] comes back from a living domain. */
    drop_owner(mfn_frame(m[3]));
    fake_zeroed = 0;
    a->dying = b->dying = DOM_DYING;
    assert_int_equal(frame_domain_release(a, ~0u), 0);
    assert_int_equal(fake_zeroed, 1);
    assert_int_equal(frame_domain_release(b, ~0u), 0);
    assert_int_equal(fake_zeroed, 2);
    a = fake_domain(3, 5000);
    while (!frame_alloc_domain(a, 0, 64, 0, &n))
        assert_true(all_zero(n));
}

/* An architecture that is wrong about it is caught. */
static void a_touched_frame_called_untouched_panics(void **state)
{
    struct domain *a = fake_domain(1, 100);
    mfn_t m;

    fake_types_show_writes = true;
    assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m), 0);
    memset(arch_frame_va(m), 0x5e, FRAME_SIZE);
    a->dying = DOM_DYING;
    expect_panic("BUG", (void)!frame_domain_release(a, ~0u));
}

static void stale_translations_are_flushed_before_reuse(void **state)
{
    struct domain *a = fake_domain(1, 5000), *b = fake_domain(2, 5000);
    mfn_t m, n;

    assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m), 0);
    drop_owner(mfn_frame(m));
    memset(fake_flushes, 0, sizeof(fake_flushes));
    assert_int_equal(frame_alloc_domain(b, 0, 64, 0, &n), 0);
    assert_true(mfn_eq(m, n));
    assert_true(fake_flushes[0] && fake_flushes[1]);
    drop_owner(mfn_frame(n));
}

static void steal_and_assign(void **state)
{
    struct domain *a = fake_domain(1, 4), *b = fake_domain(2, 1);
    mfn_t m, n;

    assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m), 0);
    assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &n), 0);
    assert_false(frame_steal(b, mfn_frame(m)));
    assert_true(frame_steal(a, mfn_frame(m)));
    assert_int_equal(a->frames, 1);
    assert_int_equal(mfn_frame(m)->owner, FRAME_NO_OWNER);
    assert_false(frame_get(mfn_frame(m), a));
    assert_int_equal(frame_assign(b, m, 0, 0), 0);
    assert_true(frame_get(mfn_frame(m), b));
    frame_put(mfn_frame(m));
    assert_true(frame_steal(a, mfn_frame(n)));
    assert_int_equal(a->refs, 2);
    assert_int_equal(frame_assign(b, n, 0, 0), -ENOMEM);
    b->dying = DOM_DYING;
    assert_int_equal(frame_assign(b, n, 0, FA_NO_LIMIT), -EINVAL);
    frame_free(n, 0);
    frame_room_check();
    assert_int_equal(frame_domain_release(b, 10), 0);
    assert_int_equal(b->refs, 2);
}

static void shared_frames(void **state)
{
    struct domain *d = fake_domain(DOMID_XEN, 0);
    mfn_t m;

    assert_true(frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m));
    frame_share(d, m);
    assert_int_equal(d->special_frames, 1);
    assert_int_equal(d->frames, 0);
    frame_domain_check(d);
    assert_true(frame_get(mfn_frame(m), d));
    assert_false(frame_clear_allocated(mfn_frame(m))); /* not the domain's to give away */
    assert_false(frame_steal(d, mfn_frame(m)));
    assert_false(frame_unshare(m));
    frame_put(mfn_frame(m));
    expect_panic("dropped twice", frame_put(mfn_frame(m))); /* the hypervisor's own */
    mfn_frame(m)->count = FRAME_SPECIAL | 1;
    assert_true(frame_unshare(m));
    assert_int_equal(d->refs, 2);
    frame_free(m, 0);
    expect_panic("BUG", (void)!frame_unshare(m));
}

static void a_dead_domain_stays_while_others_map_it(void **state)
{
    struct domain *d = fake_domain(7, 100);
    mfn_t m;

    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    assert_true(frame_get(mfn_frame(m), d)); /* a foreign mapping */
    d->dying = DOM_DYING;
    assert_int_equal(frame_domain_release(d, 5), -EAGAIN);
    assert_int_equal(frame_domain_release(d, 100), 0);
    assert_int_equal(d->frames, 1);
    assert_int_equal(d->refs, 3);
    frame_domain_check(d);
    assert_int_equal(frame_domain_release(d, 100), 0);
    frame_put(mfn_frame(m));
    assert_int_equal(d->frames, 0);
    assert_int_equal(d->refs, 2);
    frame_domain_check(d);
}

static void claims_are_kept(void **state)
{
    struct domain *a = fake_domain(1, 5000), *b = fake_domain(2, 5000);
    struct frame_info i;
    mfn_t m;

    assert_int_equal(frame_claim(a, 5001), -EINVAL); /* above its limit */
    a->max_frames = 10000;
    assert_int_equal(frame_claim(a, 5001), -ENOMEM);
    assert_int_equal(frame_claim(a, 3000), 0);
    assert_int_equal(frame_claim(a, 3500), -EINVAL); /* has one */
    frame_info(&i);
    assert_int_equal(i.claimed, 3000);
    while (!frame_alloc_domain(b, 0, 64, 0, &m))
        ;
    assert_in_range(b->frames, 1000, 1096);
    for (unsigned n = 0; n < 3000; n++)
        assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m), 0);
    assert_int_equal(a->outstanding, 0);
    assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m), -ENOMEM);
    assert_int_equal(frame_claim(a, 3000), -EINVAL); /* owns that much already */
    frame_room_check();
    b->dying = DOM_DYING;
    assert_int_equal(frame_domain_release(b, ~0u), 0);
    assert_int_equal(frame_claim(a, 3500), 0);
    fake_fail_alloc = 1;
    assert_int_equal(frame_alloc_domain(a, 0, 64, 0, &m), -ENOMEM);
    assert_int_equal(a->outstanding, 500); /* a failure gives the claim back */
    assert_int_equal(frame_claim(a, 0), 0);
    frame_info(&i);
    assert_int_equal(i.claimed, 0);
    assert_int_equal(frame_claim(a, 3500), 0);
    a->dying = DOM_DYING;
    assert_int_equal(frame_domain_release(a, ~0u), 0);
    frame_info(&i);
    assert_int_equal(i.claimed, 0);
    frame_room_check();
}

/* --- merging, by exhaustion --- */

#define NEAR 8u /* neighbours; what lies around them stays in use */

static bool heads(uint64_t n)
{
    return frame_table[n].flags & FRAME_F_HEAD;
}

/* `ours`: a bit for each of the neighbours that is not free. Every free one is in one block, and no buddies stay apart. */
static void check_neighbours(uint64_t base, unsigned ours)
{
    for (unsigned i = 0; i < NEAR; i++) {
        bool is_free = !(ours & (1u << i));
        unsigned covered = 0;

        assert_true(!(frame_table[base + i].flags & FRAME_F_FREE) == !is_free);
        for (unsigned h = 0; h <= i; h++)
            covered += heads(base + h) && h + (1u << frame_table[base + h].order) > i;
        assert_int_equal(covered, is_free);
        if (heads(base + i)) {
            unsigned o = frame_table[base + i].order, buddy = i ^ (1u << o);

            assert_true(o <= 3 && !(i & ((1u << o) - 1)));
            assert_true(o == 3 || !heads(base + buddy) || frame_table[base + buddy].order != o);
        }
    }
}

/* Frees what is left in every order, whole blocks of it, too; each step is undone by taking single frames out of their blocks. */
static unsigned free_in_every_order(uint64_t base, unsigned ours)
{
    unsigned ways = !ours;
    bool clean;

    check_neighbours(base, ours);
    for (unsigned order = 0; order <= 3; order++)
        for (unsigned i = 0; i < NEAR; i += 1u << order) {
            unsigned block = ((1u << (1u << order)) - 1) << i;

            if ((ours & block) != block)
                continue;
            frame_free(MFN(base + i), order);
            ways += free_in_every_order(base, ours & ~block);
            for (unsigned k = 0; k < 1u << order; k++)
                assert_true(heap_carve(MFN(base + i + k), 0, &clean) && budget_take(1, 0));
        }
    return ways;
}

static void every_order_of_merging(void **state)
{
    uint64_t before = free_now();
    mfn_t m;

    assert_true(frame_alloc(4, 0, FRAME_ANY_NODE, &m)); /* the upper half keeps the lower one apart */
    assert_true(free_in_every_order(m.n, (1u << NEAR) - 1) > 40320); /* 8! of single frames alone */
    frame_room_check();
    frame_free(m, 4);
    assert_int_equal(free_now(), before);
    frame_room_check();
}

static void idle_cpus_zero_what_nobody_had(void **state)
{
    struct domain *d = fake_domain(7, 100);
    uint64_t before;
    mfn_t m, again;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0); /* the table of owners is made */
    drop_owner(mfn_frame(m));
    before = free_now();
    assert_true(frame_alloc(4, 0, FRAME_ANY_NODE, &m));
    memset(arch_frame_va(m), 0xa5, 16 * FRAME_SIZE);
    frame_free(m, 4);
    assert_true(frame_scrub_due());
    while (frame_scrub_due()) {
        frame_scrub_some();
        assert_int_equal(free_now(), before);
    }
    frame_room_check();
    for (unsigned i = 0; i < 16; i++)
        assert_true(mfn_frame(MFN(m.n + i))->flags & FRAME_F_CLEAN);
    assert_int_equal(frame_alloc_domain(d, 4, 64, 0, &again), 0);
    for (unsigned i = 0; i < 16; i++) {
        assert_true(all_zero(MFN(again.n + i)));
        drop_owner(mfn_frame(MFN(again.n + i)));
    }
    assert_int_equal(free_now(), before);
    frame_room_check();
}

/* Zeroed now, it could be written to afterwards by a CPU that has not flushed, and would still be called clean. */
static void idle_cpus_leave_what_a_guest_could_write(void **state)
{
    struct domain *d = fake_domain(7, 100);
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0); /* the table of owners is made */
    drop_owner(mfn_frame(m));
    assert_true(frame_alloc(4, 0, FRAME_ANY_NODE, &m));
    frame_share(d, m);
    assert_true(frame_unshare(m));
    frame_free(m, 4);
    while (frame_scrub_due())
        frame_scrub_some();
    assert_false(mfn_frame(m)->flags & FRAME_F_CLEAN);
    assert_true(mfn_frame(MFN(m.n + 1))->flags & FRAME_F_CLEAN);
    frame_room_check();
}

/* A frame that came clean, was written to by its owner and was then given away (exchange, transfer) is not clean. */
static void what_was_given_away_is_zeroed(void **state)
{
    struct domain *d = fake_domain(7, 100);
    mfn_t m, again;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0); /* the table of owners is made */
    drop_owner(mfn_frame(m));
    while (frame_scrub_due())
        frame_scrub_some();
    assert_int_equal(frame_alloc_domain(d, 4, 64, 0, &m), 0);
    for (unsigned i = 0; i < 16; i++) {
        memset(arch_frame_va(MFN(m.n + i)), 0xa5, FRAME_SIZE);
        assert_true(frame_steal(d, mfn_frame(MFN(m.n + i))));
        frame_free(MFN(m.n + i), 0);
    }
    assert_int_equal(frame_alloc_domain(d, 4, 64, 0, &again), 0);
    assert_true(mfn_eq(m, again));
    for (unsigned i = 0; i < 16; i++) {
        assert_true(all_zero(MFN(m.n + i)));
        drop_owner(mfn_frame(MFN(m.n + i)));
    }
    frame_room_check();
}

/* The CPU that zeroes asks the budget like everybody: a claim of all there is leaves nothing to it. */
static void idle_zeroing_does_not_undercut_claims(void **state)
{
    uint64_t n = free_now();

    assert_true(budget_take(n, 0));
    while (frame_scrub_due())
        frame_scrub_some();
    for (uint64_t i = 1; i < frame_count; i++)
        assert_false(mfn_frame(MFN(i))->flags & FRAME_F_CLEAN);
    budget_give(n);
    frame_room_check();
}

static void every_allocation_may_fail(void **state)
{
    struct domain *d = fake_domain(7, 100);
    mfn_t m;
    uint64_t before;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    before = free_now();
    fake_fail_alloc = 1;
    assert_int_equal(frame_alloc_domain(d, 2, 64, 0, &m), -ENOMEM);
    fake_fail_alloc = 1;
    assert_false(frame_alloc(1, 0, FRAME_ANY_NODE, &m));
    fake_fail_alloc = 1;
    assert_null(frame_alloc_va(0));
    assert_int_equal(free_now(), before);
    assert_int_equal(d->frames, 1);
    frame_room_check();
    frame_domain_check(d);
}

/* --- a model: three domains and the hypervisor do random things; what we expect is kept beside --- */

#define HELD 600
struct held {
    mfn_t m;
    unsigned order;
    int owner; /* -1: hypervisor */
    unsigned refs;
    bool allocated;
};

static void model_step(struct held *h, struct domain **d, unsigned *rng)
{
    unsigned r = rand_r(rng), what = r % 8;
    struct held *e = &h[(r >> 4) % HELD];

    if (!e->m.n) {
        e->owner = (int)((r >> 14) % 4) - 1;
        e->order = e->owner < 0 ? (r >> 18) % 5 : 0;
        e->refs = 1;
        e->allocated = true;
        if (e->owner < 0 ? !frame_alloc(e->order, FA_ZERO, FRAME_ANY_NODE, &e->m)
                         : frame_alloc_domain(d[e->owner], 0, 64, 0, &e->m))
            e->m = MFN(0);
        else
            assert_true(all_zero(e->m));
        if (e->m.n)
            memset(arch_frame_va(e->m), 0x77, FRAME_SIZE);
        return;
    }
    if (e->owner < 0) {
        frame_free(e->m, e->order);
        e->m = MFN(0);
        return;
    }
    if (what < 3) {
        assert_true(frame_get(mfn_frame(e->m), d[e->owner]));
        e->refs++;
    } else if (what == 3) {
        assert_false(frame_get(mfn_frame(e->m), d[(e->owner + 1) % 3]));
    } else if (what == 4) {
        bool can = e->allocated && e->refs == 1;

        assert_int_equal(frame_steal(d[e->owner], mfn_frame(e->m)), can);
        if (can) {
            e->owner = (e->owner + 1) % 3;
            assert_int_equal(frame_assign(d[e->owner], e->m, 0, FA_NO_LIMIT), 0);
        }
    } else {
        if (e->allocated && (what == 5 || e->refs == 1)) {
            assert_true(frame_clear_allocated(mfn_frame(e->m)));
            e->allocated = false;
        }
        if (e->refs > 1 || !e->allocated) {
            frame_put(mfn_frame(e->m));
            if (!--e->refs)
                e->m = MFN(0);
        }
    }
}

static void model(void **state)
{
    static struct held h[HELD];
    struct domain *d[3];
    unsigned rng = 1;

    memset(h, 0, sizeof(h));
    for (unsigned i = 0; i < 3; i++)
        d[i] = fake_domain((uint16_t)(i + 1), 150 + i * 20);
    for (unsigned step = 0; step < 60000; step++) {
        model_step(h, d, &rng);
        if (step % 2000 == 0) {
            uint64_t want[3] = {0};

            frame_room_check();
            for (unsigned i = 0; i < HELD; i++)
                if (h[i].m.n && h[i].owner >= 0) {
                    want[h[i].owner]++;
                    assert_int_equal(mfn_frame(h[i].m)->count & FRAME_REF_MASK, h[i].refs);
                }
            for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(d[i]->frames, want[i]);
                frame_domain_check(d[i]);
            }
        }
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fake_setup, fake_teardown)
    const struct CMUnitTest tests[] = {
        T(a_domain_without_room_in_the_table_of_owners),
        T(alloc_and_free_all),
        T(orders_are_aligned_and_zero),
        T(too_much),
        cmocka_unit_test(bits_and_nodes),
        T(ranges_must_not_overlap),
        cmocka_unit_test(reserved_ranges_can_be_freed),
        T(bad_frees_panic),
        T(owned_frames_live_by_references),
        T(dropping_too_much_panics),
        T(the_counter_does_not_overflow),
        T(limits_hold),
        T(dirty_memory_never_reaches_another),
        T(untouched_memory_is_not_scrubbed),
        T(a_touched_frame_called_untouched_panics),
        T(stale_translations_are_flushed_before_reuse),
        T(steal_and_assign),
        T(shared_frames),
        T(a_dead_domain_stays_while_others_map_it),
        T(claims_are_kept),
        T(every_order_of_merging),
        T(idle_cpus_zero_what_nobody_had),
        T(idle_cpus_leave_what_a_guest_could_write),
        T(what_was_given_away_is_zeroed),
        T(idle_zeroing_does_not_undercut_claims),
        T(every_allocation_may_fail),
        T(model),
    };

    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
