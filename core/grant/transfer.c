/*
 * GNTTABOP_transfer (xen/grant_table.h): a PV domain gives one of its frames away to a domain that waits for
 * it with a GTF_accept_transfer entry. As the interface says, the frame is gone from the caller unless the
 * status is GNTST_bad_page.
 *
 * The taker may spin from "committed" to "completed", so everything that can fail comes before "committed"
 * except the taker's death. The taker's table stays read-locked from one to the other: its version cannot
 * change in between.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"

#define TRIES 4

/* The frame, taken from d: ownerless, contents as they were, in nobody's translations. */
static bool frame_take(struct domain *d, uint64_t gfn, mfn_t *out)
{
    mfn_t m = arch_gfn_to_mfn(d, GFN(gfn));
    gfn_t g;

    if (!mfn_valid(m) || __atomic_load_n(&mfn_frame(m)->owner, __ATOMIC_RELAXED) != d->id.v)
        return false;
    g = arch_mfn_to_gfn(d, m);
    if (!frame_steal(d, mfn_frame(m)))
        return false;
    BUG_ON(arch_physmap_remove(d, g, m, 0)); /* cannot fail for PV domains */
    arch_grant_flush(d);
    *out = m;
    return true;
}

/* accept_transfer for `from` -> committed, and where the taker wants it. Lock read. */
static bool commit(struct grant_table *t, uint32_t ref, did_t from, gfn_t *where)
{
    uint32_t *p = grant_header(t, ref), w = __atomic_load_n(p, __ATOMIC_RELAXED);
    bool done = false;

    for (unsigned i = 0; i < TRIES && !done; i++) {
        if ((w & 0xffff) != GTF_accept_transfer || w >> 16 != from.v)
            return false;
        done = __atomic_compare_exchange_n(p, &w, w | GTF_transfer_committed, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    }
    if (done)
        *where = GFN(t->version == 1 ? __atomic_load_n(&grant_v1(t, ref)->frame, __ATOMIC_RELAXED)
                                     : __atomic_load_n(&grant_v2(t, ref)->full_page.frame, __ATOMIC_RELAXED));
    return done;
}

static void complete(struct domain *d, struct grant_table *t, uint32_t ref, mfn_t m)
{
    if (d->ops->translated)
        ; /* it knows the frame by the number it gave */
    else if (t->version == 1)
        __atomic_store_n(&grant_v1(t, ref)->frame, (uint32_t)m.n, __ATOMIC_RELEASE);
    else
        __atomic_store_n(&grant_v2(t, ref)->full_page.frame, m.n, __ATOMIC_RELEASE);
    (void)__atomic_fetch_or((uint16_t *)grant_header(t, ref), GTF_transfer_completed, __ATOMIC_SEQ_CST);
}

/* Lock of `to`'s table read. The frame is `to`'s, or still ownerless with an error. */
static int hand_over(struct domain *to, uint32_t ref, did_t from, mfn_t m)
{
    struct grant_table *t = to->grant;
    gfn_t where;

    if (ref >= grant_refs(t))
        return GNTST_bad_gntref;
    ref = (uint32_t)array_index(ref, grant_refs(t));
    if (t->version == 1 && !to->ops->translated && m.n >> 32)
        return GNTST_address_too_big;
    if (__atomic_load_n(&to->frames, __ATOMIC_RELAXED) >=
            __atomic_load_n(&to->max_frames, __ATOMIC_RELAXED) ||
        domain_is_dying(to))
        return GNTST_general_error;
    if (!commit(t, ref, from, &where))
        return GNTST_general_error;
    if (frame_assign(to, m, 0, FA_NO_LIMIT))
        return GNTST_general_error; /* it dies: nobody waits */
    if (arch_physmap_add(to, where, m, 0))
        log_guest(to->id, LOG_WARN, "transferred frame %lx has no place at %lx", m.n, where.n);
    complete(to, t, ref, m);
    return GNTST_okay;
}

static int transfer_one(struct vcpu *v, const struct gnttab_transfer *op)
{
    struct domain *d = v->domain, *to;
    mfn_t m;
    int r;

    if (d->ops->translated)
        return GNTST_bad_page;
    if (!frame_take(d, op->mfn, &m))
        return GNTST_bad_page;
    to = domain_get(DID(op->domid));
    r = to && to->grant ? GNTST_okay : GNTST_bad_domain;
    if (!r) {
        read_lock(&to->grant->lock);
        r = hand_over(to, op->ref, d->id, m);
        read_unlock(&to->grant->lock);
    }
    if (r)
        frame_free(m, 0);
    if (to)
        domain_put(to);
    return r;
}

long grant_op_transfer(struct hypercall *hc)
{
    gva_t list = GVA(hc->arg[1]);
    uint32_t count = hc_u32(hc, 2);

    for (uint32_t i = 0; i < count; i++) {
        struct gnttab_transfer op;

        if (i && preempt_needed())
            return grant_again(hc, i, sizeof(op));
        if (guest_read_at(hc->caller, &op, list, i, sizeof(op)))
            return -EFAULT;
        op.status = (int16_t)transfer_one(hc->caller, &op);
        if (guest_write_at(hc->caller, list, i, &op, sizeof(op)))
            return -EFAULT;
    }
    return 0;
}
