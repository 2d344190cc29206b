/*
 * Frames out of use: a person suspects a memory cell and takes the frame away (sysctl page_offline_op; no tool needs to stop a guest).
 *
 *   free --frame_offline--> out (count == BROKEN) --frame_online--> free
 *   owned --frame_offline--> leaving (LEAVING set) --last frame_put--> out
 *                                  '--frame_online--> owned
 *
 * Invariants: a frame that is out is in no list, has no owner and no references, and is not part of the budget.
 * Locks: none here; the heap's for free frames, compare-and-exchange on the count word for the others.
 */
#include "private.h"
#include "core/domain.h"

/* LEAVING on or off on a frame that somebody owns. */
static bool mark(struct frame *f, bool leaving)
{
    uint64_t c = __atomic_load_n(&f->count, __ATOMIC_RELAXED);

    do {
        if (!(c & FRAME_REF_MASK) || c & FRAME_SPECIAL || leaving == !!(c & FRAME_LEAVING))
            return false;
    } while (!__atomic_compare_exchange_n(&f->count, &c, c ^ FRAME_LEAVING, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return true;
}

static enum frame_offline offline_free(struct frame *f)
{
    bool clean;

    if (!budget_take(1, 0))
        return FRAME_OFFLINE_BUSY;
    if (!heap_carve(frame_mfn(f), 0, &clean)) {
        budget_give(1);
        return FRAME_OFFLINE_BUSY;
    }
    __atomic_store_n(&f->count, FRAME_BROKEN, __ATOMIC_RELEASE);
    return FRAME_OFFLINE_DONE;
}

enum frame_offline frame_offline(mfn_t m, did_t *owner)
{
    struct frame *f = mfn_frame(m);
    uint64_t c;

    if (!mfn_valid(m))
        return FRAME_OFFLINE_NO_RAM;
    c = __atomic_load_n(&f->count, __ATOMIC_ACQUIRE);
    *owner = DID(__atomic_load_n(&f->owner, __ATOMIC_RELAXED));
    if (c & FRAME_BROKEN)
        return FRAME_OFFLINE_DONE;
    if (c & FRAME_LEAVING || mark(f, true))
        return FRAME_OFFLINE_PENDING;
    if (__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & FRAME_F_FREE)
        return offline_free(f);
    return FRAME_OFFLINE_PRIVATE;
}

bool frame_online(mfn_t m)
{
    struct frame *f = mfn_frame(m);
    uint64_t out = FRAME_BROKEN;

    if (!mfn_valid(m))
        return false;
    if (mark(f, false))
        return true;
    if (!__atomic_compare_exchange_n(&f->count, &out, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return false;
    heap_give(m, 0);
    budget_give(1);
    return true;
}

enum frame_offline frame_offline_query(mfn_t m)
{
    uint64_t c;

    if (!mfn_valid(m))
        return FRAME_OFFLINE_NO_RAM;
    c = __atomic_load_n(&mfn_frame(m)->count, __ATOMIC_ACQUIRE);
    return c & FRAME_BROKEN    ? FRAME_OFFLINE_DONE
           : c & FRAME_LEAVING ? FRAME_OFFLINE_PENDING
                               : FRAME_OFFLINE_BUSY;
}
