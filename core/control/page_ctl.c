/*
 * sysctl page_offline_op (xen/sysctl.h): frames out of use and back (core/memory/offline.c). A word of status per frame: PG_* flags and
 * the owner's id.
 * Locks: none.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"

#define RANGE_MAX 4096u /* frames of one call: 16 KiB of status */

static int offline(mfn_t m, uint32_t *status)
{
    did_t owner;

    switch (frame_offline(m, &owner)) {
    case FRAME_OFFLINE_DONE:
        *status = PG_OFFLINE_OFFLINED;
        return 0;
    case FRAME_OFFLINE_PENDING:
        *status = PG_OFFLINE_PENDING | PG_OFFLINE_OWNED | (owner.v ? 0 : PG_OFFLINE_DOM0PAGE) |
                  (uint32_t)owner.v << PG_OFFLINE_OWNER_SHIFT;
        return 0;
    case FRAME_OFFLINE_BUSY:
        *status = PG_OFFLINE_AGAIN | PG_OFFLINE_FAILED;
        return 0;
    case FRAME_OFFLINE_PRIVATE:
        *status = PG_OFFLINE_XENPAGE | PG_OFFLINE_FAILED | (uint32_t)DOMID_XEN << PG_OFFLINE_OWNER_SHIFT;
        return 0;
    case FRAME_OFFLINE_NO_RAM:
        break;
    }
    *status = PG_OFFLINE_INVALID | PG_OFFLINE_NOT_CONV_RAM;
    return -EINVAL;
}

static int online(mfn_t m, uint32_t *status)
{
    bool ok = frame_online(m);

    *status = ok ? PG_ONLINE_ONLINED : PG_ONLINE_FAILED;
    return ok ? 0 : -EINVAL;
}

static int query(mfn_t m, uint32_t *status)
{
    enum frame_offline s = frame_offline_query(m);

    *status = s == FRAME_OFFLINE_DONE      ? PG_OFFLINE_STATUS_OFFLINED
              : s == FRAME_OFFLINE_PENDING ? PG_OFFLINE_STATUS_OFFLINE_PENDING
              : s == FRAME_OFFLINE_BUSY    ? PG_OFFLINE_STATUS_ONLINE
                                           : PG_OFFLINE_INVALID;
    return s == FRAME_OFFLINE_NO_RAM ? -EINVAL : 0;
}

/* Stops at the first frame that cannot be: its status is written, later ones are not written. */
long sysctl_page_offline_op(struct hypercall *hc)
{
    struct xen_sysctl_page_offline_op *p = &sysctl_of(hc)->op.u.page_offline;
    uint32_t status;
    int r = 0;

    if (p->end < p->start || p->end - p->start >= RANGE_MAX || p->cmd < sysctl_page_offline ||
        p->cmd > sysctl_query_page_offline)
        return -EINVAL;
    for (uint32_t i = 0; i <= p->end - p->start && !r; i++) {
        mfn_t m = MFN(p->start + (uint64_t)i);

        r = p->cmd == sysctl_page_online          ? online(m, &status)
            : p->cmd == sysctl_query_page_offline ? query(m, &status)
                                                  : offline(m, &status);
        if (guest_write_at(hc->caller, HANDLE(p->status), i, &status, sizeof(status)))
            return -EFAULT;
    }
    return r;
}
