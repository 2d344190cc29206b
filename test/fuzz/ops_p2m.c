/* Translated memory: what its guest and the toolstack do with its numbers, accesses, populate on demand, log-dirty, device memory. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/control.h"
#include "core/memory_op.h"
#include "x86/p2m.h"
#include "x86/pte.h"

#include <string.h>

#define TRANSLATED (FUZZ_GUESTS - 1)

static struct domain *translated(void)
{
    struct domain *d = guests[TRANSLATED].d;

    return d->ops->translated ? d : NULL; /* it may have gone: then the name means another */
}

static uint64_t pick_gfn(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 128)
        return FUZZ_GFN + b % (FUZZ_PAGES + 4);
    if (b < 176)
        return FUZZ_GFN_LARGE + in_u8(s->in) * 2u;
    if (b < 208)
        return FUZZ_GFN_LARGE << (b & 3);
    return b < 240 ? FUZZ_GFN_GRANT + b % 16 : in_number(s->in);
}

static uint16_t whose(struct step *s)
{
    return in_u8(s->in) < 240 ? TRANSLATED : pick_domid(s);
}

static unsigned pick_order(struct step *s)
{
    uint8_t b = in_u8(s->in);

    return b < 160 ? 0 : b < 220 ? P2M_2M : b % 20;
}

static long memory(struct step *s, unsigned cmd, void *arg)
{
    return call_n(s, __HYPERVISOR_memory_op, cmd, arg, 0, 0);
}

/* --- reservations --- */

static void reservation(struct step *s, unsigned cmd, unsigned flags)
{
    struct xen_memory_reservation *r = arg_alloc(sizeof(*r));
    unsigned n = 1 + in_below(s->in, 5);
    xen_pfn_t *list = arg_alloc(n * sizeof(*list));

    for (unsigned i = 0; i < n; i++)
        list[i] = pick_gfn(s);
    *r = (struct xen_memory_reservation){
        .nr_extents = n, .extent_order = pick_order(s), .domid = whose(s), .mem_flags = flags};
    r->extent_start.p = list;
    (void)memory(s, cmd, r);
}
static void op_populate(struct step *s)
{
    reservation(s, XENMEM_populate_physmap, 0);
}
static void op_pod(struct step *s)
{
    reservation(s, XENMEM_populate_physmap, XENMEMF_populate_on_demand);
}
static void op_decrease(struct step *s)
{
    reservation(s, XENMEM_decrease_reservation, 0);
}

static void op_pod_target(struct step *s)
{
    struct xen_pod_target *t = arg_alloc(sizeof(*t));

    memset(t, 0, sizeof(*t));
    t->target_pages = in_u8(s->in) & 1 ? in_u8(s->in) * 8u : in_number(s->in);
    t->domid = whose(s);
    (void)memory(s, in_u8(s->in) & 3 ? XENMEM_set_pod_target : XENMEM_get_pod_target, t);
}

/* --- what appears where --- */

static void op_place(struct step *s)
{
    struct xen_add_to_physmap *a = arg_alloc(sizeof(*a));
    uint8_t b = in_u8(s->in);

    *a = (struct xen_add_to_physmap){
        .domid = whose(s), .space = b % 7, .idx = pick_gfn(s), .gpfn = pick_gfn(s)};
    if (a->space == XENMAPSPACE_grant_table || b >= 240)
        a->idx = in_u8(s->in) % 5u | (b & 64 ? 0x80000000u : 0);
    if (a->space == XENMAPSPACE_shared_info && b < 240)
        a->idx = 0;
    a->size = in_u8(s->in) % 20;
    (void)memory(s, XENMEM_add_to_physmap, a);
}

static void op_batch(struct step *s)
{
    struct xen_add_to_physmap_batch *a = arg_alloc(sizeof(*a));
    xen_ulong_t *idx = arg_alloc(4 * sizeof(*idx));
    xen_pfn_t *to = arg_alloc(4 * sizeof(*to));
    uint8_t b = in_u8(s->in);

    memset(a, 0, sizeof(*a));
    a->domid = whose(s);
    a->space = b < 200 ? XENMAPSPACE_gmfn_foreign : b % 7;
    a->size = (uint16_t)(1 + b % 4);
    if (a->space == XENMAPSPACE_gmfn_foreign)
        a->u.foreign_domid = (domid_t)in_below(s->in, 4);
    for (unsigned i = 0; i < 4; i++) {
        idx[i] = b & 8 ? pick_gfn(s) : guests[b % 2].page[in_below(s->in, FUZZ_PAGES)].n;
        to[i] = pick_gfn(s);
    }
    a->idxs.p = idx;
    a->gpfns.p = to;
    a->errs.p = arg_alloc(4 * sizeof(int));
    (void)memory(s, XENMEM_add_to_physmap_batch, a);
}

static void op_remove(struct step *s)
{
    struct xen_remove_from_physmap *a = arg_alloc(sizeof(*a));

    *a = (struct xen_remove_from_physmap){.domid = whose(s), .gpfn = pick_gfn(s)};
    (void)memory(s, XENMEM_remove_from_physmap, a);
}

/* The control domain maps such a page by its number, writable or not, or takes the mapping away. */
static void op_map_foreign(struct step *s)
{
    mmu_update_t *u = arg_alloc(sizeof(*u));
    uint8_t b = in_u8(s->in);

    u->ptr = s->g->page[PG_L1B].n << FRAME_SHIFT | (b % 32) * 8;
    u->val = b & 64 ? pte_make(MFN(pick_gfn(s)), PTE_P | PTE_US | PTE_A | PTE_D | (b & 128 ? PTE_RW : 0)) : 0;
    (void)call_n(s, __HYPERVISOR_mmu_update, u, 1, 0, TRANSLATED);
}

/* --- accesses, and what is known to have been written --- */

#define NOTED 0x500u
static uint64_t
    written[NOTED]; /* the frame that was written under this number since the last clean; 0: none */

/* By how many numbers a frame can be reached: a mapping of a grant of its own goes past the record. */
static mfn_t looked_for;
static unsigned found;

static void count_number(struct domain *d, const struct p2m_entry *e)
{
    found += looked_for.n - e->mfn.n < 1ull << e->order;
}

static void note_written(struct domain *d, uint64_t g)
{
    looked_for = arch_gfn_to_mfn(d, GFN(g));
    found = 0;
    model_walk_p2m(d, count_number);
    if (found == 1)
        written[g] = looked_for.n;
}

static void op_touch(struct step *s)
{
    uint64_t g = pick_gfn(s);
    mfn_t m;

    if (!s->g->d->ops->translated)
        return;
    if (in_u8(s->in) & 3) {
        m = MFN(g);
        if (!guest_store(s, m, in_u8(s->in), in_u8(s->in) & 1 ? 0 : in_u64(s->in)) || g >= NOTED)
            return;
        note_written(s->g->d, g);
    } else {
        (void)p2m_fault(s->g->d, g << FRAME_SHIFT | 8, in_u8(s->in) & 7);
    }
}

void written_forget(void)
{
    memset(written, 0, sizeof(written));
}

/* A number under which the same frame has been since it was written says so. */
static void written_check(const uint8_t *bits, uint64_t pages)
{
    for (uint64_t g = 0; g < NOTED && g < pages; g++) {
        struct p2m_entry e;

        p2m_look(translated(), GFN(g), &e);
        if (written[g] && e.mfn.n == written[g] && (e.type == P2M_RAM || e.type == P2M_LOGGED) &&
            !(bits[g / 8] >> (g % 8) & 1))
            panic("number %#lx was written and is called clean", g);
    }
}

static struct xen_domctl *domctl_new(uint32_t cmd, uint16_t domain)
{
    struct xen_domctl *op = arg_alloc(sizeof(*op));

    *op =
        (struct xen_domctl){.cmd = cmd, .interface_version = XEN_DOMCTL_INTERFACE_VERSION, .domain = domain};
    return op;
}
static long domctl(struct step *s, struct xen_domctl *op)
{
    return call_n(s, __HYPERVISOR_domctl, op, 0, 0, 0);
}

static void op_log(struct step *s)
{
    static const uint8_t ops[] = {XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, XEN_DOMCTL_SHADOW_OP_OFF,
                                  XEN_DOMCTL_SHADOW_OP_ENABLE, XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION};
    struct xen_domctl *op = domctl_new(XEN_DOMCTL_shadow_op, TRANSLATED);

    if (!translated())
        return;
    op->u.shadow_op.op = ops[in_below(s->in, sizeof(ops))];
    op->u.shadow_op.mode = XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY;
    if (!domctl(s, op))
        written_forget();
}

static void op_log_read(struct step *s)
{
    struct xen_domctl *op = domctl_new(XEN_DOMCTL_shadow_op, TRANSLATED);
    uint8_t *bits = arg_alloc(NOTED / 8), b = in_u8(s->in);
    bool whole = !fuzz_fail_copy && !fuzz_flip_copy && !fake_fail_alloc;

    if (!translated())
        return;
    op->u.shadow_op.op = b & 1 ? XEN_DOMCTL_SHADOW_OP_CLEAN : XEN_DOMCTL_SHADOW_OP_PEEK;
    op->u.shadow_op.pages = NOTED;
    op->u.shadow_op.dirty_bitmap.p = bits;
    if (domctl(s, op)) {
        written_forget();
        return;
    }
    if (whole)
        written_check(bits, op->u.shadow_op.pages);
    if (b & 1 || !whole)
        written_forget();
}

static void op_pool(struct step *s)
{
    uint32_t cmd = in_u8(s->in) & 3 ? XEN_DOMCTL_set_paging_mempool_size : XEN_DOMCTL_get_paging_mempool_size;
    struct xen_domctl *op = domctl_new(cmd, whose(s));

    op->u.paging_mempool.size = in_u8(s->in) & 7 ? in_u8(s->in) * FRAME_SIZE : in_number(s->in);
    (void)domctl(s, op);
}

static void op_devices(struct step *s)
{
    uint8_t b = in_u8(s->in);
    uint64_t first = 0x100000 + in_u8(s->in);
    struct xen_domctl *op =
        domctl_new(b & 1 ? XEN_DOMCTL_iomem_permission : XEN_DOMCTL_memory_mapping, whose(s));

    if (b & 1) {
        op->u.iomem_permission.first_mfn = first;
        op->u.iomem_permission.nr_mfns = in_u8(s->in) % 64u;
        op->u.iomem_permission.allow_access = b >> 1 & 1;
    } else {
        op->u.memory_mapping = (struct xen_domctl_memory_mapping){.first_gfn = pick_gfn(s),
                                                                  .first_mfn = first,
                                                                  .nr_mfns = in_u8(s->in) % 8u,
                                                                  .add_mapping = b >> 1 & 1};
    }
    (void)domctl(s, op);
}

static const struct fuzz_op op[] = {
    {"p2m_populate", op_populate},
    {"p2m_pod", op_pod},
    {"p2m_decrease", op_decrease},
    {"pod_target", op_pod_target},
    {"place", op_place},
    {"place", op_place},
    {"batch", op_batch},
    {"batch", op_batch},
    {"unplace", op_remove},
    {"map_foreign", op_map_foreign},
    {"touch", op_touch},
    {"touch", op_touch},
    {"log", op_log},
    {"log_read", op_log_read},
    {"pool", op_pool},
    {"devices", op_devices},
};
const struct fuzz_group ops_p2m = {op, ARRAY_SIZE(op)};
