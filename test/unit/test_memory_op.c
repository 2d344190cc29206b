/* XENMEM_*: reservations, exchange, claims, resources: as guests call them and as they attack them. */
#include "fake.h"
#include "core/grant.h"
#include "core/memory_op.h"
#include "lib/string.h"
#include "x86/mm.h"

#include <stdlib.h>

/* Below core/domain and core/hypercall: only what this room asks of them. */
void domain_ref(struct domain *d)
{
    d->refs++;
}
void domain_put(struct domain *d)
{
    assert_true(d->refs > 1);
    d->refs--;
}
static struct domain *tools, *guest;
int hc_target(struct hypercall *hc, did_t id, struct domain **out)
{
    struct domain *self = hc->caller->domain;

    *out = id.v == DOMID_SELF || did_eq(id, self->id) ? self
           : id.v == tools->id.v                      ? tools
           : id.v == guest->id.v                      ? guest
                                                      : NULL;
    if (*out != self && !self->privileged)
        return -EPERM;
    if (!*out)
        return -ESRCH;
    domain_ref(*out);
    return 0;
}
static mfn_t grant_frames[4];
int grant_frame(struct domain *d, unsigned i, bool status, mfn_t *out)
{
    if (i >= 4 || status)
        return -EINVAL;
    *out = grant_frames[i];
    return 0;
}
unsigned grant_frame_limit(const struct domain *d)
{
    return 32;
}
bool preempt_needed(void)
{
    return false;
}

static int setup(void **state)
{
    fake_setup(state);
    tools = fake_domain(0, 2000);
    tools->privileged = tools->hardware = true;
    guest = fake_domain(5, 1000);
    for (unsigned i = 0; i < 4; i++)
        grant_frames[i] = MFN(100 + i);
    return 0;
}

static long op(struct domain *d, unsigned nr, void *arg)
{
    return fake_hypercall(fake_vcpu0(d), memory_ops, memory_op_count, 63, nr, (uintptr_t)arg, 0, NULL);
}

static struct xen_memory_reservation res(void *list, uint64_t n, unsigned order, unsigned flags, unsigned id)
{
    struct xen_memory_reservation r = {
        .nr_extents = n, .extent_order = order, .mem_flags = flags, .domid = (domid_t)id};

    r.extent_start.p = list;
    return r;
}

static void consistent(void)
{
    frame_room_check();
    frame_domain_check(tools);
    frame_domain_check(guest);
    assert_int_equal(tools->refs, tools->frames + tools->special_frames ? 3 : 2);
    assert_int_equal(guest->refs, guest->frames + guest->special_frames ? 3 : 2);
}

static void populate_and_give_back(void **state)
{
    xen_pfn_t list[100];
    struct xen_memory_reservation r = res(list, 100, 0, 0, DOMID_SELF);

    for (unsigned i = 0; i < 100; i++)
        list[i] = 5000 + i;
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 100);
    assert_int_equal(guest->frames, 100);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(m2p_get(MFN(list[i])), 5000 + i);
        assert_int_equal(mfn_frame(MFN(list[i]))->owner, 5);
    }
    consistent();
    assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 100);
    assert_int_equal(guest->frames, 0);
    assert_true(m2p_get(MFN(list[7])) == M2P_INVALID);
    assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 0); /* nothing there any more */
    consistent();
}

static void preemption_goes_on_where_it_was(void **state)
{
    xen_pfn_t list[200];
    struct xen_memory_reservation r = res(list, 200, 0, 0, DOMID_SELF);
    unsigned again = 0;

    for (unsigned i = 0; i < 200; i++)
        list[i] = i;
    fake_preempt_every = 3;
    assert_int_equal(fake_hypercall(fake_vcpu0(guest), memory_ops, memory_op_count, 63,
                                    XENMEM_populate_physmap, (uintptr_t)&r, 0, &again),
                     200);
    assert_true(again >= 40);
    assert_int_equal(guest->frames, 200);
    again = 0;
    fake_preempt_every = 1;
    assert_int_equal(fake_hypercall(fake_vcpu0(guest), memory_ops, memory_op_count, 63,
                                    XENMEM_decrease_reservation, (uintptr_t)&r, 0, &again),
                     200);
    assert_int_equal(again, 199);
    assert_int_equal(guest->frames, 0);
    consistent();
}

static void forged_cursors_only_skip(void **state)
{
    xen_pfn_t list[4] = {1, 2, 3, 4};
    struct xen_memory_reservation r = res(list, 4, 0, 0, DOMID_SELF);

    assert_int_equal(op(guest, XENMEM_populate_physmap | 2 << MEMOP_EXTENT_SHIFT, &r), 4);
    assert_int_equal(guest->frames, 2);
    assert_int_equal(op(guest, XENMEM_populate_physmap | 9 << MEMOP_EXTENT_SHIFT, &r), 9);
    assert_int_equal(guest->frames, 2);
    assert_int_equal(op(guest, XENMEM_maximum_ram_page | 1 << MEMOP_EXTENT_SHIFT, NULL), -EINVAL);
    consistent();
}

static void reservations_refuse_nonsense(void **state)
{
    xen_pfn_t list[2] = {1, 2};
    struct xen_memory_reservation r = res(list, 1, 10, 0, DOMID_SELF);

    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 0); /* order too large for a guest */
    r = res(list, ~0ull, 0, 0, DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 0);
    r = res(list, 1, 0, 0, 0);
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), -EPERM);
    r = res(list, 1, 0, 0, 77);
    assert_int_equal(op(tools, XENMEM_populate_physmap, &r), 0); /* no such domain */
    r = res((void *)8, 1, 0, 0, DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 0);
    assert_int_equal(op(guest, XENMEM_populate_physmap, (void *)8), -EFAULT);
    r = res(list, 1, 0, XENMEMF_address_bits(12), DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), -EINVAL);
    r = res(list, 1, 0, XENMEMF_populate_on_demand, DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 0);
    r = res(list, 1, 0, XENMEMF_exact_node(3), DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 0);
    assert_int_equal(guest->frames, 0);
    consistent();
}

static void partial_results(void **state)
{
    xen_pfn_t list[2000];
    struct xen_memory_reservation r = res(list, 2000, 0, 0, DOMID_SELF);

    for (unsigned i = 0; i < 2000; i++)
        list[i] = i;
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 1000); /* its limit */
    assert_int_equal(guest->frames, 1000);
    r.nr_extents = 10;
    assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 10);
    fake_fail_physmap = 5;
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 4);
    assert_int_equal(guest->frames, 994);
    r = res(list + 4, 1, 0, 0, DOMID_SELF);
    fake_fail_copy = 3; /* structure, gpfn, then the write of the mfn */
    assert_int_equal(op(guest, XENMEM_populate_physmap, &r), 0);
    assert_int_equal(guest->frames, 994);
    consistent();
}

static void increase_and_attack_decrease(void **state)
{
    xen_pfn_t list[8], evil[8];
    struct xen_memory_reservation r = res(list, 2, 2, XENMEMF_address_bits(24), DOMID_SELF);
    mfn_t special, private;

    assert_int_equal(op(guest, XENMEM_increase_reservation, &r), 2);
    assert_int_equal(guest->frames, 8);
    assert_true(list[0] < 4096 && list[0] % 4 == 0);
    fake_fail_copy = 2; /* the structure, then the write of the first number: the frames go back */
    assert_int_equal(op(guest, XENMEM_increase_reservation, &r), 0);
    assert_int_equal(guest->frames, 8);
    /* Not its own: Krypton's, another domain's, special ones, holes, nonsense. */
    assert_true(frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &special));
    frame_share(guest, special);
    assert_true(frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &private));
    evil[0] = special.n;
    evil[1] = private.n;
    evil[2] = ~0ull;
    evil[3] = 0;
    evil[4] = frame_count;
    evil[5] = 1ull << 52;
    for (unsigned i = 0; i < 6; i++) {
        r = res(&evil[i], 1, 0, 0, DOMID_SELF);
        assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 0);
    }
    evil[0] = ~0ull - 3;
    r = res(evil, 1, 3, 0, DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 0);
    /* A frame that is mapped somewhere leaves the reservation but stays until the mapping goes; twice does
     * not work. */
    assert_true(frame_get(mfn_frame(MFN(list[0])), guest));
    r = res(list, 1, 0, 0, DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 1);
    assert_int_equal(op(guest, XENMEM_decrease_reservation, &r), 0);
    assert_int_equal(guest->frames, 8);
    frame_put(mfn_frame(MFN(list[0])));
    assert_int_equal(guest->frames, 7);
    r = res(NULL, 1, 0, 0, DOMID_SELF);
    assert_int_equal(op(guest, XENMEM_increase_reservation, &r), 1); /* without a list */
    assert_true(frame_unshare(special));
    frame_free(special, 0);
    frame_free(private, 0);
    consistent();
}

/* While a number is written to the guest (in vain), another of its vCPUs gives back the frame, whose number it has guessed, and the
 * control domain gets it. */
static mfn_t snatched;
static bool snatching_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    uint64_t guess = frame_mfn(frame_domain_first(v->domain)).n;
    struct xen_memory_reservation r = res(&guess, 1, 0, 0, DOMID_SELF);

    assert_int_equal(op(v->domain, XENMEM_decrease_reservation, &r), 1);
    do
        assert_int_equal(frame_alloc_domain(tools, 0, 64, 0, &snatched), 0);
    while (snatched.n != guess);
    return false;
}

static void give_back_what_has_gone(void **state)
{
    struct guest_ops snatching = fake_guest_ops;
    xen_pfn_t list[1] = {7};
    struct xen_memory_reservation r = res(list, 1, 0, 0, DOMID_SELF);
    static const unsigned calls[] = {XENMEM_increase_reservation, XENMEM_populate_physmap};

    snatching.copy_out = snatching_copy_out;
    guest->ops = &snatching;
    for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
        assert_int_equal(op(guest, calls[i], &r), 0);
        assert_int_equal(mfn_frame(snatched)->count, FRAME_ALLOCATED | 1);
        assert_int_equal(mfn_frame(snatched)->owner, tools->id.v);
        assert_int_equal(guest->frames, 0);
        consistent();
    }
    guest->ops = &fake_guest_ops;
}

static void figures(void **state)
{
    struct xen_reserved_device_memory_map rdm = {.flags = XENMEM_RDM_ALL, .nr_entries = 9};
    struct shared_info *si = calloc(1, sizeof(*si));
    xen_pfn_t list[3] = {0, 1, 2};
    struct xen_memory_reservation r = res(list, 3, 0, 0, 5);
    domid_t id = 5, self = DOMID_SELF, none = 99;

    assert_int_equal(op(tools, XENMEM_populate_physmap, &r), 3);
    assert_int_equal(op(guest, XENMEM_current_reservation, &self), 3);
    assert_int_equal(op(tools, XENMEM_current_reservation, &id), 3);
    assert_int_equal(op(tools, XENMEM_maximum_reservation, &id), 1000);
    guest->max_frames = ~0ull;
    assert_true(op(guest, XENMEM_maximum_reservation, &self) > 0);
    guest->max_frames = 1000;
    assert_int_equal(op(guest, XENMEM_current_reservation, &none), -EPERM);
    assert_int_equal(op(tools, XENMEM_current_reservation, &none), -ESRCH);
    assert_int_equal(op(tools, XENMEM_current_reservation, NULL), -EFAULT);
    assert_int_equal(op(guest, XENMEM_maximum_ram_page, NULL), (long)frame_count);
    assert_int_equal(op(guest, XENMEM_maximum_gpfn, &self), 0);
    guest->shared_info = si;
    si->arch.max_pfn = 4096;
    assert_int_equal(op(guest, XENMEM_maximum_gpfn, &self), 4095);
    si->arch.max_pfn = ~0ul;
    assert_true(op(guest, XENMEM_maximum_gpfn, &self) > 0);
    guest->shared_info = NULL;
    free(si);
    assert_int_equal(op(guest, XENMEM_get_vnumainfo, NULL), -EOPNOTSUPP);
    assert_int_equal(op(guest, XENMEM_reserved_device_memory_map, NULL), -EPERM);
    assert_int_equal(op(tools, XENMEM_reserved_device_memory_map, NULL), -EFAULT);
    assert_int_equal(op(tools, XENMEM_reserved_device_memory_map, &rdm), 0);
    assert_int_equal(rdm.nr_entries, 0);
    rdm.flags = 2;
    assert_int_equal(op(tools, XENMEM_reserved_device_memory_map, &rdm), -EINVAL);
    assert_int_equal(op(tools, XENMEM_sharing_op, NULL), -ENOSYS);
    assert_int_equal(op(guest, XENMEM_sharing_op, NULL), -EPERM);
    for (unsigned i = 0; i < memory_op_count; i++)
        assert_int_equal(memory_ops[i].nr, i);
}

static void claims(void **state)
{
    struct xen_memory_reservation r = res(NULL, 800, 0, 0, 5);
    struct xen_pod_target t = {.target_pages = 10, .domid = 5};

    assert_int_equal(op(guest, XENMEM_claim_pages, &r), -EPERM);
    assert_int_equal(op(tools, XENMEM_claim_pages, &r), 0);
    assert_int_equal(op(tools, XENMEM_claim_pages, &r), -EINVAL);
    r.nr_extents = 0;
    assert_int_equal(op(tools, XENMEM_claim_pages, &r), 0);
    r = res(&r, 10, 0, 0, 5);
    assert_int_equal(op(tools, XENMEM_claim_pages, &r), -EINVAL);
    r = res(NULL, 10, 1, 0, 5);
    assert_int_equal(op(tools, XENMEM_claim_pages, &r), -EINVAL);
    assert_int_equal(op(tools, XENMEM_set_pod_target, &t), 0);
    assert_int_equal(op(tools, XENMEM_get_pod_target, &t), 0);
    assert_int_equal(t.tot_pages, guest->frames);
    t.target_pages = 100000;
    assert_int_equal(op(tools, XENMEM_set_pod_target, &t), -EINVAL);
    consistent();
}

/* --- exchange --- */

#define IN_MAX 1024

struct swap {
    xen_pfn_t in[IN_MAX], out[IN_MAX];
    struct xen_memory_exchange x;
};

/* n frames of d's in single extents; out: gpfns 9000... */
static struct swap *swap_new(struct domain *d, unsigned n, unsigned in_order, unsigned out_order,
                             unsigned bits)
{
    struct swap *s = calloc(1, sizeof(*s));
    struct xen_memory_reservation r = res(s->in, n >> in_order, in_order, 0, DOMID_SELF);

    for (unsigned i = 0; i < n >> in_order; i++)
        s->in[i] = 100 + ((uint64_t)i << in_order);
    assert_int_equal(op(d, XENMEM_populate_physmap, &r), n >> in_order);
    for (unsigned i = 0; i < n >> out_order; i++)
        s->out[i] = 9000 + ((uint64_t)i << out_order);
    s->x.in = r;
    s->x.out = res(s->out, n >> out_order, out_order, XENMEMF_address_bits(bits), DOMID_SELF);
    return s;
}

static void exchange_like_swiotlb(void **state)
{
    struct swap *s = swap_new(tools, 512, 0, 9, 32);
    const uint64_t *p;

    memset(arch_frame_va(MFN(s->in[3])), 0x66, FRAME_SIZE);
    assert_int_equal(op(tools, XENMEM_exchange, &s->x), 0);
    assert_int_equal(s->x.nr_exchanged, 512);
    assert_int_equal(s->out[0] % 512, 0);
    assert_int_equal(tools->frames, 512);
    for (unsigned i = 0; i < 512; i++) {
        assert_int_equal(mfn_frame(MFN(s->out[0] + i))->owner, 0);
        assert_int_equal(m2p_get(MFN(s->out[0] + i)), 9000 + i);
        p = arch_frame_va(MFN(s->out[0] + i));
        assert_true(p[0] == 0 && p[511] == 0);
    }
    consistent();
    free(s);
}

static void exchange_back_to_singles(void **state)
{
    struct swap *s = swap_new(tools, 256, 5, 0, 0);

    assert_int_equal(op(tools, XENMEM_exchange, &s->x), 0);
    assert_int_equal(s->x.nr_exchanged, 8);
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(m2p_get(MFN(s->out[i])), 9000 + i);
    consistent();
    free(s);
}

static void exchange_is_preempted(void **state)
{
    struct swap *s = swap_new(tools, 256, 0, 3, 0);
    unsigned again = 0;

    fake_preempt_every = 1;
    assert_int_equal(fake_hypercall(fake_vcpu0(tools), memory_ops, memory_op_count, 63, XENMEM_exchange,
                                    (uintptr_t)&s->x, 0, &again),
                     0);
    assert_int_equal(again, 31);
    assert_int_equal(s->x.nr_exchanged, 256);
    assert_int_equal(tools->frames, 256);
    consistent();
    free(s);
}

/* Whatever fails, the domain has all its frames, nr_exchanged says what was done, and the rest is untouched. */
static void exchange_fails_anywhere(void **state)
{
    for (unsigned kind = 0; kind < 3; kind++)
        for (unsigned n = 1; n < 60; n++) {
            struct swap *s = swap_new(tools, 32, 0, 2, 0);
            struct xen_memory_reservation r;
            xen_pfn_t left[32];
            unsigned count = 0;
            long rc;

            fake_fail_alloc = kind == 0 ? n : 0;
            fake_fail_copy = kind == 1 ? n : 0;
            fake_fail_physmap = kind == 2 ? n : 0;
            rc = op(tools, XENMEM_exchange, &s->x);
            fake_fail_alloc = fake_fail_copy = fake_fail_physmap = 0;
            assert_true(rc == 0 || rc == -ENOMEM || rc == -EFAULT);
            assert_int_equal(tools->frames, 32);
            assert_int_equal(s->x.nr_exchanged % 4, 0);
            if (rc == 0)
                assert_int_equal(s->x.nr_exchanged, 32);
            if (kind == 0)
                for (uint64_t i = s->x.nr_exchanged; i < 32; i++) {
                    assert_int_equal(mfn_frame(MFN(s->in[i]))->owner, 0);
                    assert_int_equal(m2p_get(MFN(s->in[i])), 100 + i);
                }
            consistent();
            for (struct frame *f = frame_domain_first(tools); f; f = frame_next(f))
                left[count++] = frame_mfn(f).n;
            r = res(left, count, 0, 0, DOMID_SELF);
            assert_int_equal(op(tools, XENMEM_decrease_reservation, &r), 32);
            free(s);
        }
}

static void exchange_refuses(void **state)
{
    struct swap *s = swap_new(guest, 16, 0, 2, 0);
    struct xen_memory_exchange good = s->x;
    xen_pfn_t first = s->in[0];

    s->x.out.nr_extents++;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    s->x = good;
    s->x.in.extent_order = 13;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EPERM);
    s->x = good;
    s->x.in.nr_extents = s->x.out.nr_extents = 1ull << 62;
    s->x.in.extent_order = s->x.out.extent_order = 2;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    s->x = good;
    s->x.out.domid = 0;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    s->x = good;
    s->x.in.domid = s->x.out.domid = 0;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EPERM);
    s->x = good;
    s->x.nr_exchanged = 17;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    s->x = good;
    s->in[1] = s->in[0]; /* the same frame twice */
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    assert_int_equal(s->x.nr_exchanged, 0);
    s->in[1] = ~0ull;
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    assert_true(frame_get(mfn_frame(MFN(s->in[2])), guest)); /* mapped somewhere */
    s->in[1] = s->in[2];
    assert_int_equal(op(guest, XENMEM_exchange, &s->x), -EINVAL);
    frame_put(mfn_frame(MFN(s->in[2])));
    assert_int_equal(s->in[0], first);
    assert_int_equal(guest->frames, 16);
    assert_int_equal(m2p_get(MFN(first)), 100);
    consistent();
    free(s);
}

/* --- physmap and resources --- */

static void physmap_of_pv_is_refused(void **state)
{
    struct xen_add_to_physmap a = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 5};
    struct xen_add_to_physmap_batch b = {.domid = DOMID_SELF, .space = XENMAPSPACE_grant_table};
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = 4000000};

    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), -EACCES);
    assert_int_equal(op(guest, XENMEM_add_to_physmap_batch, &b), -EACCES);
    assert_int_equal(op(guest, XENMEM_remove_from_physmap, &r), -ENOENT);
    r.gpfn = grant_frames[0].n; /* not its own */
    assert_int_equal(op(guest, XENMEM_remove_from_physmap, &r), -ENOENT);
}

static void physmap_of_translated_domains(void **state)
{
    struct xen_add_to_physmap a = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 5};
    struct xen_add_to_physmap_batch b = {.domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .size = 3};
    xen_ulong_t idx[3] = {0, 1, 9};
    xen_pfn_t gpfn[3] = {40, 41, 42};
    int err[3] = {7, 7, 7};
    mfn_t m;

    guest->ops = &fake_translated_ops;
    for (unsigned i = 0; i < 4; i++) {
        assert_true(frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m));
        frame_share(guest, m);
        grant_frames[i] = m;
    }
    assert_true(frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m));
    frame_share(guest, m);
    guest->shared_info_mfn = m;
    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), 0);
    assert_int_equal(arch_gfn_to_mfn(guest, GFN(5)).n, m.n);
    a.gpfn = 6; /* moves */
    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), 0);
    assert_int_equal(arch_gfn_to_mfn(guest, GFN(6)).n, m.n);
    assert_true(mfn_eq(arch_gfn_to_mfn(guest, GFN(5)), INVALID_MFN));
    a.idx = 1;
    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), -EINVAL);
    a.space = XENMAPSPACE_gmfn; /* nothing is at number 1 */
    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), -EINVAL);
    a.space = XENMAPSPACE_dev_mmio;
    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), -EOPNOTSUPP);
    a.space = 99;
    assert_int_equal(op(guest, XENMEM_add_to_physmap, &a), -EINVAL);
    b.idxs.p = idx;
    b.gpfns.p = gpfn;
    b.errs.p = err;
    fake_preempt_every = 1;
    assert_int_equal(op(guest, XENMEM_add_to_physmap_batch, &b), 0);
    assert_int_equal(err[0], 0);
    assert_int_equal(err[2], -EINVAL);
    assert_int_equal(arch_gfn_to_mfn(guest, GFN(41)).n, grant_frames[1].n);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(frame_unshare(grant_frames[i]));
        frame_free(grant_frames[i], 0);
    }
    assert_true(frame_unshare(m));
    frame_free(m, 0);
}

/* Behind its neighbour, though the heap would give the smaller block in front of it. */
static void pieces_grow(void **state)
{
    xen_pfn_t gpfn;
    struct xen_memory_reservation r = res(&gpfn, 1, 9, 0, 5);
    mfn_t m, odd = MFN(1);

    guest->ops = &fake_translated_ops;
    guest->max_frames = 2000;
    assert_true(frame_alloc(11, 0, FRAME_ANY_NODE, &m));
    frame_free(m, 11);
    m.n += 512;
    gpfn = m.n + 512;
    assert_int_equal(frame_alloc_domain_node(guest, 9, 64, FA_PLACE, FRAME_ANY_NODE, &m), 0);
    assert_int_equal(m.n + 512, gpfn);
    assert_int_equal(arch_physmap_add(guest, GFN(m.n), m, 9), 0);
    assert_int_equal(op(tools, XENMEM_populate_physmap, &r), 1);
    assert_int_equal(arch_gfn_to_mfn(guest, GFN(m.n + 512)).n, m.n + 512);
    consistent();
    /* What is not free is had elsewhere. */
    assert_int_equal(frame_alloc_domain_node(guest, 0, 64, FA_PLACE, FRAME_ANY_NODE, &m), 0);
    assert_false(m.n == gpfn - 512);
    assert_int_equal(frame_alloc_domain_node(guest, 0, 64, FA_PLACE, FRAME_ANY_NODE, &odd), 0);
    consistent();
}

static void grant_frames_as_resource(void **state)
{
    xen_pfn_t list[4] = {0};
    struct xen_mem_acquire_resource r = {.domid = 5, .type = XENMEM_resource_grant_table};

    assert_int_equal(op(guest, XENMEM_acquire_resource, &r), -EPERM);
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), 0);
    assert_int_equal(r.nr_frames, 32);
    r.id = XENMEM_resource_grant_table_id_status;
    r.nr_frames = 0;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), 0);
    assert_int_equal(r.nr_frames, 4); /* 32 * 256 entries of 2 bytes */
    r.id = 0;
    r.nr_frames = 3;
    r.frame = 1;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EINVAL); /* no list */
    r.frame_list.p = list;
    fake_preempt_every = 1;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), 0);
    assert_int_equal(list[2], grant_frames[3].n);
    r.frame = 2;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EINVAL);
    r.frame = ~0ull;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EINVAL);
    r.pad = 1;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EINVAL);
    r.pad = 0;
    r.type = XENMEM_resource_ioreq_server; /* such domains have none */
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EINVAL);
    r.type = XENMEM_resource_vmtrace_buf;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EOPNOTSUPP);
    r.type = XENMEM_resource_grant_table;
    r.domid = 0;
    assert_int_equal(op(tools, XENMEM_acquire_resource, &r), -EPERM);
}

/* Random numbers through every call: nothing may break, whatever comes back. */
static void noise(void **state)
{
    static struct {
        union {
            uint32_t w[32];
            uint64_t q[16];
        } arg;
        xen_pfn_t list[1024];
    } g;
    unsigned rng = 11;

    fake_window_start = (uintptr_t)&g;
    fake_window_end = fake_window_start + sizeof(g);
    for (unsigned step = 0; step < 30000; step++) {
        struct domain *d = rand_r(&rng) % 2 ? guest : tools;

        for (unsigned i = 0; i < 32; i++)
            g.arg.w[i] =
                rand_r(&rng) % 4 ? (uint32_t)rand_r(&rng) % 16 : (uint32_t)rand_r(&rng) * 2654435761u;
        for (unsigned i = 0; i < 64; i++)
            g.list[i] = (uint64_t)rand_r(&rng) % 4300;
        g.arg.q[0] = (uintptr_t)g.list;
        if (rand_r(&rng) % 2)
            g.arg.q[4] = (uintptr_t)(g.list + 512);
        if (rand_r(&rng) % 2)
            g.arg.w[6] = DOMID_SELF;
        fake_preempt_every = 1 + (unsigned)rand_r(&rng) % 5;
        (void)op(d, (unsigned)rand_r(&rng) % 30 | (rand_r(&rng) % 4 ? 0 : ((unsigned)rand_r(&rng) % 8) << 6),
                 &g.arg);
        if (step % 3000 == 0)
            consistent();
    }
    fake_preempt_every = 0;
    consistent();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, fake_teardown)
    const struct CMUnitTest tests[] = {
        T(populate_and_give_back),
        T(preemption_goes_on_where_it_was),
        T(forged_cursors_only_skip),
        T(reservations_refuse_nonsense),
        T(partial_results),
        T(increase_and_attack_decrease),
        T(give_back_what_has_gone),
        T(figures),
        T(claims),
        T(exchange_like_swiotlb),
        T(exchange_back_to_singles),
        T(exchange_is_preempted),
        T(exchange_fails_anywhere),
        T(exchange_refuses),
        T(physmap_of_pv_is_refused),
        T(physmap_of_translated_domains),
        T(pieces_grow),
        T(grant_frames_as_resource),
        T(noise),
    };

    return cmocka_run_group_tests_name("memory_op", tests, NULL, NULL);
}
