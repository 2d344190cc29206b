/*
 * XENMEM_add_to_physmap(_batch), remove_from_physmap, acquire_resource: places where something appears in a
 * guest's physical address space, and resources that a tools domain maps.
 *
 * A PV domain has no such space of its own: for it add_to_physmap is refused with EACCES, as the interface
 * has it, and acquire_resource returns machine frame numbers. For translated domains the shared_info page and
 * grant frames can be placed; moving guest frames and foreign mappings need a p2m that counts references and
 * come with it.
 *
 * Locks: none of its own.
 */
#include "private.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/grant.h"
#include "core/guest.h"
#include "core/memory_op.h"
#include "core/work.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"

#define STATUS_BIT 0x80000000u /* XENMAPIDX_grant_table_status, an int in the 4.17 header */

/* The frame that (space, idx) names. */
static int space_frame(struct domain *d, unsigned space, uint64_t idx, mfn_t *out)
{
    switch (space) {
    case XENMAPSPACE_shared_info:
        if (idx)
            return -EINVAL;
        *out = d->shared_info_mfn;
        return 0;
    case XENMAPSPACE_grant_table:
        if (idx > ~0u)
            return -EINVAL;
        return grant_frame(d, (unsigned)idx & ~STATUS_BIT, idx & STATUS_BIT, out);
    case XENMAPSPACE_gmfn:
    case XENMAPSPACE_gmfn_range:
    case XENMAPSPACE_gmfn_foreign:
        return -EOPNOTSUPP;
    default:
        return -EINVAL;
    }
}

/* A special frame appears at one place only; what was at g before goes. */
static int place(struct domain *d, gfn_t g, mfn_t m)
{
    mfn_t there = arch_gfn_to_mfn(d, g);
    gfn_t before = arch_mfn_to_gfn(d, m);

    if (mfn_eq(there, m))
        return 0;
    if (mfn_valid(there)) {
        struct frame *f = mfn_frame(there);

        arch_physmap_remove(d, g, there, 0);
        if (frame_get(f, d)) {
            if (frame_clear_allocated(f))
                frame_put(f);
            frame_put(f);
        }
    }
    if (before.n != INVALID_GFN.n && mfn_eq(arch_gfn_to_mfn(d, before), m))
        arch_physmap_remove(d, before, m, 0);
    return arch_physmap_add(d, g, m, 0);
}

static int add_one(struct domain *d, unsigned space, uint64_t idx, gfn_t g)
{
    mfn_t m;
    int rc = space_frame(d, space, idx, &m);

    return rc ? rc : place(d, g, m);
}

long memory_add_to_physmap(struct hypercall *hc)
{
    struct xen_add_to_physmap a;
    struct domain *d;
    long rc;

    if (hc->arg[0] >> MEMOP_EXTENT_SHIFT)
        return -EINVAL;
    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    if (a.space == XENMAPSPACE_gmfn_foreign)
        return -ENOSYS; /* batch only */
    rc = hc_target(hc, DID(a.domid), &d);
    if (rc)
        return rc;
    rc = d->ops->translated ? add_one(d, a.space, a.idx, GFN(a.gpfn)) : -EACCES;
    domain_put(d);
    return rc;
}

/* Item i of a batch, its error stored in the guest's list. */
static int batch_one(struct hypercall *hc, const struct xen_add_to_physmap_batch *b, struct domain *d,
                     uint64_t i)
{
    uint64_t idx, gpfn;
    int rc;

    if (guest_read_at(hc->caller, &idx, HANDLE(b->idxs), i, sizeof(idx)) ||
        guest_read_at(hc->caller, &gpfn, HANDLE(b->gpfns), i, sizeof(gpfn)))
        return -EFAULT;
    rc = add_one(d, b->space, idx, GFN(gpfn));
    return guest_write_at(hc->caller, HANDLE(b->errs), i, &rc, sizeof(rc));
}

static long batch_run(struct hypercall *hc, const struct xen_add_to_physmap_batch *b, struct domain *d)
{
    uint64_t start = hc->arg[0] >> MEMOP_EXTENT_SHIFT;

    for (uint64_t i = start; i < b->size; i++) {
        int rc;

        if (i != start && preempt_needed()) {
            hc->arg[0] = XENMEM_add_to_physmap_batch | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        rc = batch_one(hc, b, d, i);
        if (rc)
            return rc;
    }
    return 0;
}

long memory_add_to_physmap_batch(struct hypercall *hc)
{
    struct xen_add_to_physmap_batch b;
    struct domain *d;
    long rc;

    if (guest_read(hc->caller, &b, GVA(hc->arg[1]), sizeof(b)))
        return -EFAULT;
    if (b.space == XENMAPSPACE_gmfn_range || hc->arg[0] >> MEMOP_EXTENT_SHIFT > b.size ||
        (b.space != XENMAPSPACE_gmfn_foreign && b.u.res0))
        return -EINVAL;
    rc = hc_target(hc, DID(b.domid), &d);
    if (rc)
        return rc;
    rc = d->ops->translated ? batch_run(hc, &b, d) : -EACCES;
    domain_put(d);
    return rc;
}

long memory_remove_from_physmap(struct hypercall *hc)
{
    struct xen_remove_from_physmap a;
    struct domain *d;
    mfn_t m;
    long rc;

    if (hc->arg[0] >> MEMOP_EXTENT_SHIFT)
        return -EINVAL;
    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    rc = hc_target(hc, DID(a.domid), &d);
    if (rc)
        return rc;
    m = arch_gfn_to_mfn(d, GFN(a.gpfn));
    if (mfn_valid(m) && frame_get(mfn_frame(m), d)) {
        arch_physmap_remove(d, GFN(a.gpfn), m, 0);
        frame_put(mfn_frame(m));
    } else {
        rc = -ENOENT;
    }
    domain_put(d);
    return rc;
}

/* --- acquire_resource --- */

/* Frames of a v2 status table for so many shared frames: one status word per 16-byte entry. */
static uint64_t status_frames(uint64_t shared)
{
    return ROUND_UP(shared * (FRAME_SIZE / sizeof(union grant_entry_v2)) * sizeof(grant_status_t),
                    FRAME_SIZE) /
           FRAME_SIZE;
}

static long grant_frames_out(struct hypercall *hc, struct domain *d, struct xen_mem_acquire_resource *r)
{
    uint64_t start = hc->arg[0] >> MEMOP_EXTENT_SHIFT;

    for (uint64_t i = start; i < r->nr_frames; i++) {
        uint64_t n;
        mfn_t m;
        int rc;

        if (i != start && preempt_needed()) {
            hc->arg[0] = XENMEM_acquire_resource | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        if (r->frame + i < r->frame || r->frame + i > ~0u)
            return -EINVAL;
        rc = grant_frame(d, (unsigned)(r->frame + i), r->id == XENMEM_resource_grant_table_id_status, &m);
        n = m.n;
        if (!rc)
            rc = guest_write_at(hc->caller, HANDLE(r->frame_list), i, &n, sizeof(n));
        if (rc)
            return rc;
    }
    return 0;
}

static long acquire_grant_table(struct hypercall *hc, struct domain *d, struct xen_mem_acquire_resource *r)
{
    bool status = r->id == XENMEM_resource_grant_table_id_status;
    uint32_t n;

    if (r->id != XENMEM_resource_grant_table_id_shared && !status)
        return -EINVAL;
    if (HANDLE(r->frame_list).a)
        return grant_frames_out(hc, d, r);
    if (r->nr_frames)
        return -EINVAL;
    n = grant_frame_limit(d);
    n = status ? (uint32_t)status_frames(n) : n;
    return guest_write(hc->caller, GVA(hc->arg[1] + offsetof(struct xen_mem_acquire_resource, nr_frames)), &n,
                       sizeof(n));
}

long memory_acquire_resource(struct hypercall *hc)
{
    struct xen_mem_acquire_resource r;
    struct domain *d;
    long rc;

    if (guest_read(hc->caller, &r, GVA(hc->arg[1]), sizeof(r)))
        return -EFAULT;
    if (r.pad || hc->arg[0] >> MEMOP_EXTENT_SHIFT > r.nr_frames)
        return -EINVAL;
    if (r.type != XENMEM_resource_grant_table || hc->caller->domain->ops->translated)
        return -EOPNOTSUPP;
    rc = hc_target(hc, DID(r.domid), &d);
    if (rc)
        return rc;
    /* One's own resources are reached by other ways. */
    rc = d == hc->caller->domain ? -EPERM : acquire_grant_table(hc, d, &r);
    domain_put(d);
    return rc;
}
