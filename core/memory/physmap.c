/*
 * XENMEM_add_to_physmap(_batch), remove_from_physmap, acquire_resource: places where something appears in a
 * guest's physical address space, and resources that a tools domain maps.
 *
 * A PV domain has no such space of its own: for it add_to_physmap is refused with EACCES, as the interface
 * has it, and acquire_resource returns machine frame numbers.
 *
 * Invariants
 *  1. What is to appear is referenced while it is being placed.
 *  2. A frame of the domain's own, or shared with it, appears at one number only: it moves. What was at the new number before leaves the
 *     domain (a frame of its own is given back).
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

/* The frame that (space, idx) names, referenced. */
static int space_frame(struct domain *d, unsigned space, uint64_t idx, struct frame **out)
{
    mfn_t m;
    int rc = 0;

    switch (space) {
    case XENMAPSPACE_shared_info:
        if (idx)
            return -EINVAL;
        m = d->shared_info_mfn;
        break;
    case XENMAPSPACE_grant_table:
        if (idx > ~0u)
            return -EINVAL;
        rc = grant_frame(d, (unsigned)idx & ~STATUS_BIT, idx & STATUS_BIT, &m);
        break;
    case XENMAPSPACE_gmfn:
    case XENMAPSPACE_gmfn_range:
        *out = arch_gfn_get(d, GFN(idx));
        return *out ? 0 : -EINVAL;
    case XENMAPSPACE_dev_mmio:
        return -EOPNOTSUPP;
    default:
        return -EINVAL;
    }
    if (rc)
        return rc;
    *out = mfn_frame(m);
    return frame_get(*out, d) ? 0 : -EINVAL; /* a status frame may have gone again */
}

/* m, of which the caller has a reference, appears at g. */
static int place(struct domain *d, gfn_t g, mfn_t m)
{
    gfn_t before = arch_mfn_to_gfn(d, m);
    int rc;

    if (mfn_eq(arch_gfn_to_mfn(d, g), m))
        return 0;
    rc = arch_physmap_release(d, g, 0);
    if (rc && rc != -ENOENT)
        return rc;
    if (before.n != INVALID_GFN.n) {
        rc = arch_physmap_remove(d, before, m, 0);
        if (rc && rc != -ENOENT)
            return rc;
    }
    return arch_physmap_add(d, g, m, 0);
}

static int add_one(struct domain *d, unsigned space, uint64_t idx, gfn_t g)
{
    struct frame *f;
    int rc = space_frame(d, space, idx, &f);

    if (rc)
        return rc;
    rc = place(d, g, frame_mfn(f));
    frame_put(f);
    return rc;
}

int memory_relocate(struct domain *d, gfn_t from, gfn_t to)
{
    return add_one(d, XENMAPSPACE_gmfn_range, from.n, to);
}

/* Another domain's frame; the caller has been found to have a say in both domains. */
static int add_foreign(struct domain *d, struct domain *from, uint64_t idx, gfn_t g)
{
    int rc;

    if (d == from)
        return -EINVAL;
    rc = arch_physmap_release(d, g, 0);
    return rc && rc != -ENOENT ? rc : arch_physmap_add_foreign(d, g, from, GFN(idx));
}

/* a->size numbers from the cursor on. */
static long add_range(struct hypercall *hc, const struct xen_add_to_physmap *a, struct domain *d)
{
    uint64_t start = hc->arg[0] >> MEMOP_EXTENT_SHIFT;

    for (uint64_t i = start; i < a->size; i++) {
        int rc;

        if (i != start && preempt_needed()) {
            hc->arg[0] = XENMEM_add_to_physmap | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        rc = add_one(d, a->space, a->idx + i, GFN(a->gpfn + i));
        if (rc)
            return rc;
    }
    return 0;
}

long memory_add_to_physmap(struct hypercall *hc)
{
    struct xen_add_to_physmap a;
    struct domain *d;
    long rc;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    if (a.space == XENMAPSPACE_gmfn_foreign)
        return -ENOSYS; /* batch only */
    if (a.space != XENMAPSPACE_gmfn_range)
        a.size = 1;
    if (hc->arg[0] >> MEMOP_EXTENT_SHIFT > a.size)
        return -EINVAL;
    rc = hc_target(hc, DID(a.domid), &d);
    if (rc)
        return rc;
    rc = d->ops->translated ? add_range(hc, &a, d) : -EACCES;
    domain_put(d);
    return rc;
}

/* Item i of a batch, its error stored in the guest's list. */
static int batch_one(struct hypercall *hc, const struct xen_add_to_physmap_batch *b, struct domain *d,
                     struct domain *from, uint64_t i)
{
    uint64_t idx, gpfn;
    int rc;

    if (guest_read_at(hc->caller, &idx, HANDLE(b->idxs), i, sizeof(idx)) ||
        guest_read_at(hc->caller, &gpfn, HANDLE(b->gpfns), i, sizeof(gpfn)))
        return -EFAULT;
    rc = from ? add_foreign(d, from, idx, GFN(gpfn)) : add_one(d, b->space, idx, GFN(gpfn));
    return guest_write_at(hc->caller, HANDLE(b->errs), i, &rc, sizeof(rc));
}

static long batch_run(struct hypercall *hc, const struct xen_add_to_physmap_batch *b, struct domain *d,
                      struct domain *from)
{
    uint64_t start = hc->arg[0] >> MEMOP_EXTENT_SHIFT;

    for (uint64_t i = start; i < b->size; i++) {
        int rc;

        if (i != start && preempt_needed()) {
            hc->arg[0] = XENMEM_add_to_physmap_batch | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        rc = batch_one(hc, b, d, from, i);
        if (rc)
            return rc;
    }
    return 0;
}

long memory_add_to_physmap_batch(struct hypercall *hc)
{
    struct xen_add_to_physmap_batch b;
    struct domain *d, *from = NULL;
    long rc;

    if (guest_read(hc->caller, &b, GVA(hc->arg[1]), sizeof(b)))
        return -EFAULT;
    if (b.space == XENMAPSPACE_gmfn_range || hc->arg[0] >> MEMOP_EXTENT_SHIFT > b.size ||
        (b.space != XENMAPSPACE_gmfn_foreign && b.u.res0))
        return -EINVAL;
    rc = hc_target(hc, DID(b.domid), &d);
    if (rc)
        return rc;
    if (!d->ops->translated)
        rc = -EACCES;
    else if (b.space == XENMAPSPACE_gmfn_foreign)
        rc = hc_target(hc, DID(b.u.foreign_domid), &from);
    if (!rc)
        rc = batch_run(hc, &b, d, from);
    if (from)
        domain_put(from);
    domain_put(d);
    return rc;
}

long memory_remove_from_physmap(struct hypercall *hc)
{
    struct xen_remove_from_physmap a;
    struct domain *d;
    struct frame *f;
    long rc;

    if (hc->arg[0] >> MEMOP_EXTENT_SHIFT)
        return -EINVAL;
    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    rc = hc_target(hc, DID(a.domid), &d);
    if (rc)
        return rc;
    f = arch_gfn_get(d, GFN(a.gpfn));
    if (f) {
        rc = arch_physmap_remove(d, GFN(a.gpfn), frame_mfn(f), 0);
        frame_put(f);
    } else {
        rc = d->ops->translated ? arch_physmap_release(d, GFN(a.gpfn), 0) : -ENOENT; /* another domain's? */
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

/* Ask first with no list: how many frames. */
static long acquire_of_arch(struct hypercall *hc, struct domain *d, struct xen_mem_acquire_resource *r)
{
    uint32_t n = arch_resource_frames(d, r->type);

    if (!n)
        return -EINVAL;
    if (!HANDLE(r->frame_list).a)
        return r->nr_frames
                   ? -EINVAL
                   : guest_write(hc->caller,
                                 GVA(hc->arg[1] + offsetof(struct xen_mem_acquire_resource, nr_frames)), &n,
                                 sizeof(n));
    if (r->frame >= n || r->nr_frames > n - r->frame)
        return -EINVAL;
    for (uint64_t i = 0; i < r->nr_frames; i++) {
        uint64_t number;
        mfn_t m;
        int rc = arch_resource_frame(d, r->type, r->id, r->frame + i, &m);

        number = m.n;
        if (!rc)
            rc = guest_write_at(hc->caller, HANDLE(r->frame_list), i, &number, sizeof(number));
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
    if ((r.type != XENMEM_resource_grant_table && r.type != XENMEM_resource_ioreq_server) ||
        hc->caller->domain->ops->translated)
        return -EOPNOTSUPP;
    rc = hc_target(hc, DID(r.domid), &d);
    if (rc)
        return rc;
    /* One's own resources are reached by other ways. */
    if (d == hc->caller->domain)
        rc = -EPERM;
    else if (r.type == XENMEM_resource_grant_table)
        rc = acquire_grant_table(hc, d, &r);
    else
        rc = acquire_of_arch(hc, d, &r);
    domain_put(d);
    return rc;
}
