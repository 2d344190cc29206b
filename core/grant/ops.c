/*
 * GNTTABOP_* (xen/grant_table.h): arguments and results of the operations on whole tables; the others take
 * arrays and are in map.c, copy.c and transfer.c. Results are a GNTST_* status in the structure; the
 * hypercall itself fails only for arguments that cannot be read or written.
 */
#include "private.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/work.h"

#define LIST_CHUNK 64

long grant_again(struct hypercall *hc, uint32_t done, size_t size)
{
    uint32_t count = hc_u32(hc, 2);

    if (done >= count)
        return 0;
    hc->arg[1] += done * size;
    hc->arg[2] = count - done;
    return HC_AGAIN;
}

/* Target of a table operation as a status; reference taken when GNTST_okay. */
static int table_target(struct hypercall *hc, domid_t id, struct domain **d)
{
    int r = hc_target(hc, DID(id), d);

    if (r)
        return r == -EPERM ? GNTST_permission_denied : GNTST_bad_domain;
    if ((*d)->grant)
        return GNTST_okay;
    domain_put(*d);
    return GNTST_bad_domain;
}

/* Frames [first, first + n) of the table as the guest names them. False: no longer that many. */
static bool names_read(struct domain *d, uint32_t first, uint32_t n, bool status, uint64_t *out)
{
    struct grant_table *t = d->grant;
    bool there;

    read_lock(&t->lock);
    there = first + n <= (status ? t->status_frames : t->frames);
    for (uint32_t i = 0; there && i < n; i++)
        out[i] = grant_frame_gfn(d, status ? (void *)t->status[first + i] : t->shared[first + i]).n;
    read_unlock(&t->lock);
    return there;
}

/* The first n names into the guest's list. n is within the table's limit. */
static int names_write(struct hypercall *hc, struct domain *d, gva_t list, uint32_t n, bool status)
{
    uint64_t name[LIST_CHUNK];

    for (uint32_t i = 0; i < n; i += LIST_CHUNK) {
        uint32_t part = MIN(n - i, (uint32_t)LIST_CHUNK);

        if (!names_read(d, i, part, status, name))
            return GNTST_general_error;
        if (guest_write(hc->caller, GVA(list.a + i * sizeof(name[0])), name, part * sizeof(name[0])))
            return GNTST_bad_virt_addr;
    }
    return GNTST_okay;
}

static int setup(struct domain *d, uint32_t frames)
{
    struct grant_table *t = d->grant;
    int r = 0;

    if (frames > t->max_frames)
        return GNTST_general_error;
    write_lock(&t->lock);
    if (frames > t->frames)
        r = grant_grow(d, frames);
    write_unlock(&t->lock);
    return r ? GNTST_general_error : GNTST_okay;
}

static long op_setup_table(struct hypercall *hc)
{
    gva_t at = GVA(hc->arg[1]);
    struct gnttab_setup_table op;
    struct domain *d;

    if (hc_u32(hc, 2) != 1)
        return -EINVAL;
    if (guest_read(hc->caller, &op, at, sizeof(op)))
        return -EFAULT;
    op.status = (int16_t)table_target(hc, op.dom, &d);
    if (!op.status) {
        op.status = (int16_t)setup(d, op.nr_frames);
        if (!op.status)
            op.status = (int16_t)names_write(hc, d, HANDLE(op.frame_list), op.nr_frames, false);
        domain_put(d);
    }
    return guest_write(hc->caller, at, &op, sizeof(op));
}

static long op_get_status_frames(struct hypercall *hc)
{
    gva_t at = GVA(hc->arg[1]);
    struct gnttab_get_status_frames op;
    struct domain *d;

    if (hc_u32(hc, 2) != 1)
        return -EINVAL;
    if (guest_read(hc->caller, &op, at, sizeof(op)))
        return -EFAULT;
    op.status = (int16_t)table_target(hc, op.dom, &d);
    if (!op.status) {
        if (op.nr_frames > __atomic_load_n(&d->grant->status_frames, __ATOMIC_RELAXED))
            op.status = GNTST_general_error;
        else
            op.status = (int16_t)names_write(hc, d, HANDLE(op.frame_list), op.nr_frames, true);
        domain_put(d);
    }
    return guest_write(hc->caller, at, &op, sizeof(op));
}

static long op_query_size(struct hypercall *hc)
{
    gva_t at = GVA(hc->arg[1]);
    struct gnttab_query_size op;
    struct domain *d;

    if (hc_u32(hc, 2) != 1)
        return -EINVAL;
    if (guest_read(hc->caller, &op, at, sizeof(op)))
        return -EFAULT;
    op.status = (int16_t)table_target(hc, op.dom, &d);
    if (!op.status) {
        op.nr_frames = grant_frame_count(d);
        op.max_nr_frames = d->grant->max_frames;
        domain_put(d);
    }
    return guest_write(hc->caller, at, &op, sizeof(op));
}

/* The version that is in effect afterwards is written back, also on failure. */
static long op_set_version(struct hypercall *hc)
{
    gva_t at = GVA(hc->arg[1]);
    struct gnttab_set_version op;
    struct domain *d = hc->caller->domain;
    int r;

    if (guest_read(hc->caller, &op, at, sizeof(op)))
        return -EFAULT;
    r = grant_set_version(d, op.version);
    op.version = __atomic_load_n(&d->grant->version, __ATOMIC_RELAXED);
    if (guest_write(hc->caller, at, &op, sizeof(op)))
        return -EFAULT;
    return r;
}

static long op_get_version(struct hypercall *hc)
{
    gva_t at = GVA(hc->arg[1]);
    struct gnttab_get_version op;
    struct domain *d;
    int r;

    if (guest_read(hc->caller, &op, at, sizeof(op)))
        return -EFAULT;
    r = hc_target(hc, DID(op.dom), &d);
    if (r)
        return r;
    r = d->grant ? 0 : -ESRCH;
    if (!r)
        op.version = __atomic_load_n(&d->grant->version, __ATOMIC_RELAXED);
    domain_put(d);
    return r ? r : guest_write(hc->caller, at, &op, sizeof(op));
}

static bool in_use(const struct grant_table *t, uint32_t ref)
{
    const struct active *a = grant_active(t, ref);

    return a && (a->read || a->write);
}

static int swap(struct grant_table *t, uint32_t a, uint32_t b)
{
    if (a >= grant_refs(t) || b >= grant_refs(t))
        return GNTST_bad_gntref;
    a = (uint32_t)array_index(a, grant_refs(t));
    b = (uint32_t)array_index(b, grant_refs(t));
    if (in_use(t, a) || in_use(t, b))
        return GNTST_eagain;
    if (t->version == 1) {
        grant_entry_v1_t x = *grant_v1(t, a);

        *grant_v1(t, a) = *grant_v1(t, b);
        *grant_v1(t, b) = x;
    } else {
        grant_entry_v2_t x = *grant_v2(t, a);

        *grant_v2(t, a) = *grant_v2(t, b);
        *grant_v2(t, b) = x;
    }
    return GNTST_okay;
}

/* The table is written-locked for each: nobody starts to use an entry while it moves. */
static long op_swap_grant_ref(struct hypercall *hc)
{
    struct grant_table *t = hc->caller->domain->grant;
    gva_t list = GVA(hc->arg[1]);
    uint32_t count = hc_u32(hc, 2);

    for (uint32_t i = 0; i < count; i++) {
        struct gnttab_swap_grant_ref op;

        if (i && preempt_needed())
            return grant_again(hc, i, sizeof(op));
        if (guest_read_at(hc->caller, &op, list, i, sizeof(op)))
            return -EFAULT;
        write_lock(&t->lock);
        op.status = (int16_t)swap(t, op.ref_a, op.ref_b);
        write_unlock(&t->lock);
        if (guest_write_at(hc->caller, list, i, &op, sizeof(op)))
            return -EFAULT;
    }
    return 0;
}

static long op_dump_table(struct hypercall *hc)
{
    gva_t at = GVA(hc->arg[1]);
    struct gnttab_dump_table op;
    struct domain *d;

    if (guest_read(hc->caller, &op, at, sizeof(op)))
        return -EFAULT;
    op.status = (int16_t)table_target(hc, op.dom, &d);
    if (!op.status) {
        grant_dump_domain(d);
        domain_put(d);
    }
    return guest_write(hc->caller, at, &op, sizeof(op));
}

#define ROW(op, p, f, ...)                                                                                   \
    {                                                                                                        \
        .nr = GNTTABOP_##op, .perm = (p), .name = "GNTTABOP_" #op, .fn = (f), ##__VA_ARGS__                  \
    }

const struct hc_op grant_ops[] = {
    ROW(map_grant_ref, PERM_ANY, grant_op_map,
        .note = "RAM only; cache attributes of the entry are not used"),
    ROW(unmap_grant_ref, PERM_ANY, grant_op_unmap),
    ROW(setup_table, PERM_TARGET, op_setup_table, .note = "at most 1024 frames, 64 of 32-bit callers"),
    ROW(dump_table, PERM_CONTROL, op_dump_table),
    ROW(transfer, PERM_ANY, grant_op_transfer, .note = "PV callers only"),
    ROW(copy, PERM_ANY, grant_op_copy),
    ROW(query_size, PERM_TARGET, op_query_size),
    ROW(unmap_and_replace, PERM_ANY, grant_op_unmap_and_replace),
    ROW(set_version, PERM_ANY, op_set_version),
    ROW(get_status_frames, PERM_TARGET, op_get_status_frames),
    ROW(get_version, PERM_TARGET, op_get_version),
    ROW(swap_grant_ref, PERM_ANY, op_swap_grant_ref),
    ROW(cache_flush, PERM_ANY, NULL, .refused = EOPNOTSUPP,
        .note = "caches of x86 are coherent; nothing to do"),
};
const unsigned grant_op_count = ARRAY_SIZE(grant_ops);
