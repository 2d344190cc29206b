/*
 * The PV MMU: where a preempted hypercall keeps its work. A guest's registers hold only how far a request
 * list was done; references are never told to a guest, so they wait in a slot of the vCPU (or of a dying
 * domain).
 *
 *    empty --pending_get preempted--> get: one reference pair on a table that is not VALIDATED yet
 *    get --pending_get of the same--> goes on --> empty          get --anything else--> dropped
 *    empty or get --pending_put preempted--> put: a reference pair that is being dropped --settled--> empty
 *
 * Invariant: at most one pair; a hypercall returns to its guest only when no put is in the slot, so what a
 * guest was told to be released is released. Locks: the slot is its vCPU's; others use it only while that
 * vCPU cannot run.
 */
#include "types.h"
#include "core/log.h"

int pending_settle(struct pv_pending *p)
{
    struct frame *f;

    if (!p || likely(!p->mfn))
        return 0;
    f = mfn_frame(MFN(p->mfn));
    p->put = true;
    if (type_unref(f, true))
        return -EAGAIN;
    p->mfn = 0;
    frame_put(f);
    return 0;
}

int pending_settle_put(struct pv_pending *p)
{
    return p->mfn && p->put ? pending_settle(p) : 0;
}

void pending_put(struct pv_pending *p, struct frame *f)
{
    if (!p) {
        frame_put_typed(f);
        return;
    }
    BUG_ON(p->mfn);
    if (type_unref(f, true)) {
        p->mfn = frame_mfn(f).n;
        p->put = true;
        return;
    }
    frame_put(f);
}

/* The slot's own pair, if it is what the caller wants. */
static bool take_from_slot(struct pv_pending *p, const struct frame *f, const struct domain *d, uint64_t type)
{
    if (p->put || p->mfn != frame_mfn(f).n || f->owner != d->id.v || pgt_type(type_word(f)) != type)
        return false;
    p->mfn = 0;
    return true;
}

static int get_fresh(struct frame *f, struct domain *d, uint64_t type)
{
    int r;

    if (!frame_get(f, d))
        return -EINVAL;
    r = type_ref(f, type, d);
    if (r)
        frame_put(f);
    return r;
}

/* The pair is held. Here and below: not inlined, so that the frequent case needs little of a stack frame. */
static __attribute__((noinline)) int get_finish(struct pv_pending *p, struct frame *f, struct domain *d)
{
    int r = type_finish(f, d, true);

    if (r == -EAGAIN) {
        p->mfn = frame_mfn(f).n;
        p->put = false;
    } else if (r) {
        pending_put(p, f);
    }
    return r;
}

static __attribute__((noinline)) int get_by_slot(struct pv_pending *p, struct frame *f, struct domain *d,
                                                 uint64_t type)
{
    if (!take_from_slot(p, f, d, type)) {
        int r = pending_settle(p);

        if (!r)
            r = get_fresh(f, d, type);
        if (r)
            return r;
    }
    return get_finish(p, f, d);
}

int pending_get(struct pv_pending *p, mfn_t m, struct domain *d, uint64_t type)
{
    struct frame *f = frame_named(m);
    int r;

    if (!p)
        return frame_get_typed(m, d, type, d);
    if (!f)
        return -EINVAL;
    if (unlikely(p->mfn))
        return get_by_slot(p, f, d, type);
    r = get_fresh(f, d, type);
    if (unlikely(r) || likely(type_word(f) & PGT_VALIDATED))
        return r;
    return get_finish(p, f, d);
}
