/*
 * Operations on grant tables whose structures hold frame numbers: setting up a table, and copies. The others are the same in both worlds.
 */
#include "private.h"
#include "core/guest.h"
#include "core/work.h"

#define NAMES  64u /* frames that a table of the usual size has */
#define COPIES 8u

/* --- lists of the table's frames --- */

struct setup {
    struct gnttab_setup_table s;
    uint64_t name[NAMES];
};

static long setup_one(struct narrow *n, gva_t at)
{
    struct narrow_setup_table a;
    struct setup w = {.s.status = 0};
    struct hypercall hc;
    uint32_t names[NAMES];
    long r;

    if (guest_read(n->caller, &a, at, sizeof(a)))
        return -EFAULT;
    if (a.nr_frames > NAMES) {
        a.status = GNTST_general_error;
        return guest_write(n->caller, at, &a, sizeof(a));
    }
    w.s.dom = a.dom;
    w.s.nr_frames = a.nr_frames;
    set_xen_guest_handle(w.s.frame_list, narrow_address(offsetof(struct setup, name)));
    r = narrow_native(n, &hc, 1, &w, sizeof(w));
    if (r)
        return r;
    a.status = w.s.status;
    for (uint32_t i = 0; a.status == GNTST_okay && i < a.nr_frames; i++)
        names[i] = (uint32_t)w.name[i];
    if (a.status == GNTST_okay &&
        guest_write(n->caller, GVA(a.frame_list), names, a.nr_frames * sizeof(names[0])))
        a.status = GNTST_bad_virt_addr;
    return guest_write(n->caller, at, &a, sizeof(a));
}

/* The list is of 8-byte numbers in both worlds. */
static long status_one(struct narrow *n, gva_t at)
{
    struct narrow_status_frames a;
    struct gnttab_get_status_frames w = {.status = 0};
    struct hypercall hc;
    long r;

    if (guest_read(n->caller, &a, at, sizeof(a)))
        return -EFAULT;
    w.dom = a.dom;
    w.nr_frames = a.nr_frames;
    set_xen_guest_handle(w.frame_list, (uint64_t *)(uintptr_t)a.frame_list);
    r = narrow_native(n, &hc, 1, &w, sizeof(w));
    if (r)
        return r;
    a.status = w.status;
    return guest_write(n->caller, at, &a, sizeof(a));
}

long narrow_setup_table(struct narrow *n)
{
    return n->arg[2] == 1 ? setup_one(n, GVA(n->arg[1])) : -EINVAL;
}

long narrow_status_frames(struct narrow *n)
{
    return n->arg[2] == 1 ? status_one(n, GVA(n->arg[1])) : -EINVAL;
}

/* --- copies --- */

static struct gnttab_copy widened(const struct narrow_copy *c)
{
    struct gnttab_copy w = {.source = {.domid = c->source.domid, .offset = c->source.offset},
                            .dest = {.domid = c->dest.domid, .offset = c->dest.offset},
                            .len = c->len,
                            .flags = c->flags,
                            .status = c->status};

    w.source.u.gmfn = c->source.u;
    w.dest.u.gmfn = c->dest.u;
    return w;
}

/* `count` elements at `at`; *done of them have their status. */
static long copy_part(struct narrow *n, uint64_t at, uint32_t count, uint32_t *done)
{
    struct narrow_copy theirs[COPIES];
    struct gnttab_copy ours[COPIES];
    struct narrow part = *n;
    struct hypercall hc;
    long r;

    *done = 0;
    if (at >> 32 || guest_read(n->caller, theirs, GVA(at), count * sizeof(theirs[0])))
        return -EFAULT;
    for (uint32_t i = 0; i < count; i++)
        ours[i] = widened(&theirs[i]);
    part.arg[2] = count;
    r = narrow_native(&part, &hc, 1, ours, count * sizeof(ours[0]));
    if (r && r != HC_AGAIN)
        return r;
    *done = r == HC_AGAIN ? count - MIN((uint32_t)hc.arg[2], count) : count;
    for (uint32_t i = 0; i < *done; i++)
        theirs[i].status = ours[i].status;
    return guest_write(n->caller, GVA(at), theirs, *done * sizeof(theirs[0])) ? -EFAULT : r;
}

static long go_on(struct narrow *n, uint32_t done)
{
    n->arg[1] += done * (uint32_t)sizeof(struct narrow_copy);
    n->arg[2] -= done;
    return HC_AGAIN;
}

long narrow_grant_copy(struct narrow *n)
{
    uint32_t count = n->arg[2], i = 0, now;

    if ((int32_t)count < 0)
        return -EINVAL;
    while (i < count) {
        long r =
            copy_part(n, n->arg[1] + (uint64_t)i * sizeof(struct narrow_copy), MIN(count - i, COPIES), &now);

        if (r && r != HC_AGAIN)
            return r;
        i += now;
        if (i < count && (r == HC_AGAIN || preempt_needed()))
            return go_on(n, i);
    }
    return 0;
}
