/*
 * GNTTABOP_map_grant_ref, unmap_grant_ref, unmap_and_replace (xen/grant_table.h), and the end of a dying
 * domain's mappings.
 *
 * Unmapping goes in batches of three steps: the handles become BUSY and the page-table entries go; one flush
 * of the translations; then frames, granters and handles are let go. So no CPU can reach a frame through a
 * stale translation after its granter was told that it is free.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/work.h"
#include "core/perf.h"
#include "core/trace.h"
#include "arch/mem.h"

#define UNMAP_BATCH 16
#define KINDS       (GNTMAP_device_map | GNTMAP_host_map)
#define KEPT_FLAGS  (KINDS | GNTMAP_readonly | GNTMAP_application_map | GNTMAP_contains_pte)

/* --- map --- */

/* The entry is in use for us, k is BUSY: the host mapping, and the handle goes live. */
static int map_enter(struct vcpu *v, const struct gnttab_map_grant_ref *op, const struct grant_use *u,
                     struct track *k)
{
    if ((op->flags & GNTMAP_host_map) && arch_grant_map(v, op->host_addr, u->mfn, op->flags, u->readonly))
        return GNTST_general_error;
    k->granter = u->granter;
    k->ref = u->ref;
    k->flags = (uint16_t)(op->flags & KEPT_FLAGS);
    grant_track_live(k);
    return GNTST_okay;
}

static int map_from(struct vcpu *v, struct gnttab_map_grant_ref *op, struct domain *rd)
{
    struct grant_table *t = v->domain->grant;
    struct grant_use u = {
        .granter = rd, .ref = op->ref, .user = v->domain->id.v, .readonly = op->flags & GNTMAP_readonly};
    uint32_t handle;
    struct track *k = grant_track_new(t, &handle);
    int r;

    if (!k)
        return GNTST_no_space;
    r = grant_use_begin(&u);
    if (!r) {
        r = map_enter(v, op, &u, k);
        if (r)
            grant_use_end(&u);
    }
    if (r) {
        grant_track_free(t, k, handle);
        return r;
    }
    perf_count(grant_maps);
    trace(TRC_MEM_PAGE_GRANT_MAP, op->dom);
    op->handle = handle;
    op->dev_bus_addr = mfn_to_maddr(u.mfn).a;
    return GNTST_okay;
}

static int map_one(struct vcpu *v, struct gnttab_map_grant_ref *op)
{
    struct domain *rd;
    int r;

    if (!(op->flags & KINDS))
        return GNTST_bad_gntref;
    rd = domain_get(DID(op->dom));
    if (!rd)
        return GNTST_bad_domain;
    r = map_from(v, op, rd);
    if (r)
        domain_put(rd); /* else the handle keeps it */
    return r;
}

long grant_op_map(struct hypercall *hc)
{
    gva_t list = GVA(hc->arg[1]);
    uint32_t count = hc_u32(hc, 2);

    for (uint32_t i = 0; i < count; i++) {
        struct gnttab_map_grant_ref op;

        if (i && preempt_needed())
            return grant_again(hc, i, sizeof(op));
        if (guest_read_at(hc->caller, &op, list, i, sizeof(op)))
            return -EFAULT;
        op.status = (int16_t)map_one(hc->caller, &op);
        if (guest_write_at(hc->caller, list, i, &op, sizeof(op)))
            return -EFAULT;
    }
    return 0;
}

/* --- unmap --- */

struct unmap {
    uint64_t host_addr, dev_addr, new_addr;
    uint32_t handle;
    struct track *track; /* BUSY by us, NULL: nothing to finish */
    uint16_t done;       /* GNTMAP_device_map / host_map that went */
};

struct unmap_batch {
    struct vcpu *v;
    struct unmap item[UNMAP_BATCH];
    unsigned count;
};

/* The handle is BUSY by us. Checks all, then removes. */
static int unmap_remove(struct vcpu *v, struct unmap *u)
{
    struct track *k = u->track;
    uint16_t want = (uint16_t)((u->host_addr ? GNTMAP_host_map : 0) | (u->dev_addr ? GNTMAP_device_map : 0));
    mfn_t m = grant_use_mfn(k->granter, k->ref);

    want &= k->flags;
    if ((want & GNTMAP_device_map) && u->dev_addr != mfn_to_maddr(m).a)
        return GNTST_bad_dev_addr;
    if ((want & GNTMAP_host_map) &&
        arch_grant_unmap(v, u->host_addr, m, k->flags, k->flags & GNTMAP_readonly, u->new_addr))
        return GNTST_general_error;
    perf_count(grant_unmaps);
    trace(TRC_MEM_PAGE_GRANT_UNMAP, k->granter->id.v);
    u->done = want;
    return GNTST_okay;
}

static void track_release(struct domain *user, struct track *k, uint32_t handle)
{
    struct grant_use use = {.granter = k->granter, .ref = k->ref, .readonly = k->flags & GNTMAP_readonly};

    grant_use_end(&use);
    grant_track_free(user->grant, k, handle);
    domain_put(use.granter);
}

static void unmap_finish(struct unmap_batch *b)
{
    uint16_t done = 0;

    for (unsigned i = 0; i < b->count; i++)
        done |= b->item[i].done;
    if (done & GNTMAP_host_map)
        arch_grant_flush(b->v->domain);
    for (unsigned i = 0; i < b->count; i++) {
        struct unmap *u = &b->item[i];

        u->track->flags &= (uint16_t)~u->done;
        if (u->track->flags & KINDS)
            grant_track_live(u->track);
        else
            track_release(b->v->domain, u->track, u->handle);
    }
    b->count = 0;
}

/* BUSY by us; NULL: no LIVE handle. */
static struct track *unmap_track(struct unmap_batch *b, uint32_t handle)
{
    struct track *k = grant_track(b->v->domain->grant, handle);

    if (!k || grant_track_take(k))
        return k;
    /* Perhaps the same handle came earlier in this batch with its other mapping. */
    if (!b->count)
        return NULL;
    unmap_finish(b);
    return grant_track_take(k) ? k : NULL;
}

/* Adds the element to the batch; the status is final, though the handle is let go only by unmap_finish. */
static int unmap_begin(struct unmap_batch *b, const struct gnttab_unmap_grant_ref *op, bool replace)
{
    struct track *k = unmap_track(b, op->handle);
    struct unmap *u = &b->item[b->count];
    int r;

    if (!k)
        return GNTST_bad_handle;
    *u = (struct unmap){.host_addr = op->host_addr,
                        .dev_addr = replace ? 0 : op->dev_bus_addr,
                        .new_addr = replace ? op->dev_bus_addr : 0,
                        .handle = op->handle,
                        .track = k};
    r = unmap_remove(b->v, u);
    if (r || !u->done) {
        grant_track_live(u->track);
        return r;
    }
    b->count++;
    return r;
}

/* Element i of the guest's array -> *u, and its status back. The two structures agree in size and in these
 * fields. */
_Static_assert(sizeof(struct gnttab_unmap_grant_ref) == sizeof(struct gnttab_unmap_and_replace) &&
                   offsetof(struct gnttab_unmap_grant_ref, handle) ==
                       offsetof(struct gnttab_unmap_and_replace, handle) &&
                   offsetof(struct gnttab_unmap_grant_ref, status) ==
                       offsetof(struct gnttab_unmap_and_replace, status) &&
                   offsetof(struct gnttab_unmap_grant_ref, dev_bus_addr) ==
                       offsetof(struct gnttab_unmap_and_replace, new_addr),
               "one loop for both");

static int unmap_element(struct unmap_batch *b, gva_t list, uint32_t i, bool replace)
{
    struct gnttab_unmap_grant_ref op;

    if (guest_read_at(b->v, &op, list, i, sizeof(op)))
        return -EFAULT;
    op.status = (int16_t)unmap_begin(b, &op, replace);
    return guest_write_at(b->v, list, i, &op, sizeof(op));
}

static long unmap_list(struct hypercall *hc, bool replace)
{
    struct unmap_batch b; /* the items are filled one by one: no need to clear them all */
    uint32_t count = hc_u32(hc, 2), i;
    int r = 0;

    b.v = hc->caller;
    b.count = 0;
    for (i = 0; i < count && !r; i++) {
        if (i && preempt_needed())
            break;
        r = unmap_element(&b, GVA(hc->arg[1]), i, replace);
        if (b.count == UNMAP_BATCH)
            unmap_finish(&b);
    }
    unmap_finish(&b);
    return r ? r : grant_again(hc, i, sizeof(struct gnttab_unmap_grant_ref));
}

long grant_op_unmap(struct hypercall *hc)
{
    return unmap_list(hc, false);
}

long grant_op_unmap_and_replace(struct hypercall *hc)
{
    return unmap_list(hc, true);
}

/* --- the end --- */

int grant_domain_release_mappings(struct domain *d)
{
    struct grant_table *t = d->grant;
    struct track *k;

    if (!t)
        return 0;
    for (uint32_t n = 0; (k = grant_track(t, t->release_next)); t->release_next++, n++) {
        if (n % 16 == 15 && preempt_needed())
            return -EAGAIN;
        if (grant_track_take(k))
            track_release(d, k, t->release_next);
    }
    return 0;
}
