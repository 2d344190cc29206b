/*
 * XENMEM_exchange: a PV domain gives frames and gets others that lie as it needs them (contiguous, below some
 * address). Linux uses it for DMA buffers.
 *
 * The work goes by chunks: the smallest number of extents that is whole on both sides (one side then has one
 * extent).
 *
 *   read the chunk's numbers -> allocate the new frames -> steal the old ones   (all can fail, all is undone)
 *   -> free the old, give the new                                               (cannot fail unless the
 * domain dies)
 *
 * Invariants
 *  1. nr_exchanged counts input extents of completed chunks only; everything beyond them is as it was.
 *  2. An input frame is taken only when the domain's own reference is the only one (frame_steal): no mapping,
 * no grant, no page type can be left. A frame named twice in a chunk fails the second time.
 *  3. Between steal and assign the frames of a chunk belong to nobody; both counts are equal, so giving the
 * new ones does not exceed what the domain had. Locks: none of its own.
 */
#include "private.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/memory_op.h"
#include "core/work.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"

struct exchange {
    struct vcpu *caller;
    struct domain *d;
    struct xen_memory_exchange x;
    gva_t in_list, out_list;
    unsigned in_shift, out_shift; /* extents per chunk, as powers of two */
    unsigned bits, flags, node;
};

/* Frames that belong to nobody but this call, chained through frame.next. */
struct chain {
    uint32_t first;
};

static void chain_push(struct chain *c, mfn_t m)
{
    mfn_frame(m)->next = c->first;
    c->first = (uint32_t)m.n;
}

static bool chain_pop(struct chain *c, mfn_t *m)
{
    if (!c->first)
        return false;
    *m = MFN(c->first);
    c->first = mfn_frame(*m)->next;
    mfn_frame(*m)->next = 0;
    return true;
}

static bool steal_one(struct exchange *e, gfn_t g, struct chain *stolen)
{
    mfn_t m = arch_gfn_to_mfn(e->d, g);

    if (!mfn_valid(m) || !frame_steal(e->d, mfn_frame(m)))
        return false;
    chain_push(stolen, m);
    return true;
}

/* Gives stolen frames back to their owner. When that dies meanwhile it does not take them any more: they are
 * freed. */
static void unsteal(struct exchange *e, struct chain *stolen)
{
    mfn_t m;

    while (chain_pop(stolen, &m))
        if (frame_assign(e->d, m, 0, FA_NO_LIMIT))
            frame_free(m, 0);
}

static int steal_chunk(struct exchange *e, uint64_t chunk, struct chain *stolen)
{
    uint64_t per = 1ull << e->x.in.extent_order;

    for (uint64_t i = chunk << e->in_shift; i < (chunk + 1) << e->in_shift; i++) {
        uint64_t gmfn;

        if (guest_read_at(e->caller, &gmfn, e->in_list, i, sizeof(gmfn)))
            return -EFAULT;
        for (uint64_t k = 0; k < per; k++)
            if (!steal_one(e, GFN(gmfn + k), stolen))
                return -EINVAL;
    }
    return 0;
}

static void free_blocks(struct exchange *e, struct chain *blocks)
{
    mfn_t m;

    while (chain_pop(blocks, &m))
        frame_free(m, e->x.out.extent_order);
}

/* The chunk's new blocks, last extent first, so that popping gives them in the order of the list. */
static int alloc_chunk(struct exchange *e, struct chain *blocks)
{
    mfn_t m;

    for (uint64_t i = 0; i < 1ull << e->out_shift; i++) {
        if (!frame_alloc_bits(e->x.out.extent_order, e->bits, e->flags | FA_ZERO, e->node, &m))
            return -ENOMEM;
        chain_push(blocks, m);
    }
    return 0;
}

static void free_stolen(struct exchange *e, struct chain *stolen)
{
    mfn_t m;

    while (chain_pop(stolen, &m)) {
        BUG_ON(arch_physmap_remove(e->d, arch_mfn_to_gfn(e->d, m), m, 0)); /* cannot fail for PV domains */
        frame_free(m, 0);
    }
}

/* The new block for out extent i becomes e->d's at the place the list says, and its number goes into the
 * list. */
static int give_one(struct exchange *e, uint64_t i, mfn_t m)
{
    uint64_t gpfn = 0, n = m.n;
    int rc = guest_read_at(e->caller, &gpfn, e->out_list, i, sizeof(gpfn));

    if (frame_assign(e->d, m, e->x.out.extent_order, FA_NO_LIMIT)) {
        frame_free(m, e->x.out.extent_order);
        return -ESRCH;
    }
    if (!rc)
        rc = arch_physmap_add(e->d, GFN(gpfn), m, e->x.out.extent_order);
    if (!rc)
        rc = guest_write_at(e->caller, e->out_list, i, &n, sizeof(n));
    return rc;
}

/* 0: done. *committed tells whether the chunk counts as exchanged, also when an error is returned. */
static int exchange_chunk(struct exchange *e, uint64_t chunk, bool *committed)
{
    struct chain blocks = {0}, stolen = {0};
    uint64_t i = chunk << e->out_shift, probe;
    mfn_t m;
    int rc = 0;

    *committed = false;
    /* Faults that can be foreseen must not cost the guest a chunk. */
    for (uint64_t k = i; k < i + (1ull << e->out_shift) && !rc; k++)
        rc = guest_read_at(e->caller, &probe, e->out_list, k, sizeof(probe));
    if (!rc)
        rc = alloc_chunk(e, &blocks);
    if (!rc)
        rc = steal_chunk(e, chunk, &stolen);
    if (rc) {
        unsteal(e, &stolen);
        free_blocks(e, &blocks);
        return rc;
    }
    free_stolen(e, &stolen);
    for (; chain_pop(&blocks, &m); i++) {
        int one = give_one(e, i, m);

        rc = rc ? rc : one;
    }
    *committed = true;
    return rc;
}

static int exchange_check(struct exchange *e)
{
    struct xen_memory_exchange *x = &e->x;
    unsigned max = memory_max_order(e->caller->domain);
    unsigned in_order = x->in.extent_order, out_order = x->out.extent_order;

    if (in_order > max || out_order > max)
        return -EPERM;
    if (x->in.domid != x->out.domid || x->nr_exchanged > x->in.nr_extents ||
        x->in.nr_extents > ~0ull >> in_order || x->out.nr_extents > ~0ull >> out_order ||
        x->in.nr_extents << in_order != x->out.nr_extents << out_order)
        return -EINVAL;
    e->in_list = HANDLE(x->in.extent_start);
    e->out_list = HANDLE(x->out.extent_start);
    e->in_shift = out_order > in_order ? out_order - in_order : 0;
    e->out_shift = in_order > out_order ? in_order - out_order : 0;
    return memory_alloc_args(x->out.mem_flags, &e->bits, &e->flags, &e->node);
}

/* Runs chunks from nr_exchanged on and keeps it up to date. 0, an error, or HC_AGAIN. */
static long exchange_run(struct exchange *e)
{
    uint64_t start = e->x.nr_exchanged >> e->in_shift, chunks = e->x.in.nr_extents >> e->in_shift;

    for (uint64_t c = start; c < chunks; c++) {
        bool committed;
        int rc;

        if (c != start && preempt_needed())
            return HC_AGAIN;
        rc = exchange_chunk(e, c, &committed);
        if (committed)
            e->x.nr_exchanged = (c + 1) << e->in_shift;
        if (rc)
            return rc;
    }
    return 0;
}

long memory_exchange(struct hypercall *hc)
{
    struct exchange e = {.caller = hc->caller};
    gva_t nr_at = GVA(hc->arg[1] + offsetof(struct xen_memory_exchange, nr_exchanged));
    uint64_t nr;
    long rc;

    if (hc->arg[0] >> MEMOP_EXTENT_SHIFT)
        return -EINVAL;
    if (guest_read(hc->caller, &e.x, GVA(hc->arg[1]), sizeof(e.x)))
        return -EFAULT;
    rc = exchange_check(&e);
    if (rc)
        return rc;
    rc = hc_target(hc, DID(e.x.in.domid), &e.d);
    if (rc)
        return rc;
    if (e.d->ops->translated)
        rc = -EOPNOTSUPP;
    else
        rc = exchange_run(&e);
    domain_put(e.d);
    /* The argument itself is the cursor: an interrupted call goes on from nr_exchanged. */
    nr = e.x.nr_exchanged;
    if (guest_write(hc->caller, nr_at, &nr, sizeof(nr)))
        return -EFAULT;
    return rc;
}
