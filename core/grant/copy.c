/*
 * GNTTABOP_copy (xen/grant_table.h): Krypton copies between two frames, each the caller's own or one granted
 * to it.
 *
 * A source or destination stays in use from one element to the next if it is named again, so that a network
 * backend that copies many pieces of one page looks it up once. Nothing stays in use when the call returns or
 * preempts. A transitive grant (version 2) leads once further: the granter says "as if I were you", the entry
 * it names must grant to it.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/work.h"
#include "core/perf.h"
#include "arch/mem.h"
#include "lib/string.h"

struct side {
    bool valid, gref, writable, transitive;
    uint16_t domid;         /* as the caller named it */
    uint64_t name;          /* grant reference or frame number */
    struct grant_use use;   /* gref: the entry that holds the frame */
    struct grant_use outer; /* transitive: the entry that led there */
    mfn_t mfn;
    uint16_t start, length;
};

/* Elements that are read at a time and done between two questions for preemption. */
#define BATCH 8

struct sides {
    struct side from, to;
};

static void side_drop(struct vcpu *v, struct side *s)
{
    if (!s->valid)
        return;
    if (s->gref) {
        grant_use_end(&s->use);
        domain_put(s->use.granter);
        if (s->transitive) {
            grant_use_end(&s->outer);
            domain_put(s->outer.granter);
        }
    } else {
        if (s->writable)
            arch_frame_written(v->domain, s->mfn);
        arch_grant_unpin(s->mfn, !s->writable);
    }
    s->valid = false;
}

/* The entry `u` in the domain `id`; a reference on it when GNTST_okay. */
static int use_in(struct vcpu *v, uint16_t id, struct grant_use *u)
{
    int r;

    u->granter = domain_get(id == DOMID_SELF ? v->domain->id : DID(id));
    if (!u->granter)
        return GNTST_bad_domain;
    r = grant_use_begin(u);
    if (r)
        domain_put(u->granter);
    return r;
}

static int side_take_grant(struct vcpu *v, struct side *s)
{
    int r;

    s->use = (struct grant_use){
        .ref = (uint32_t)s->name, .user = v->domain->id.v, .readonly = !s->writable, .copy = true};
    s->transitive = false;
    r = use_in(v, s->domid, &s->use);
    if (r)
        return r;
    if (mfn_eq(s->use.mfn, INVALID_MFN)) {
        s->outer = s->use;
        s->use = (struct grant_use){.ref = s->outer.trans_ref,
                                    .user = s->outer.granter->id.v,
                                    .readonly = !s->writable,
                                    .copy = true};
        r = use_in(v, s->outer.trans_domid, &s->use);
        if (!r && mfn_eq(s->use.mfn, INVALID_MFN)) {
            grant_use_end(&s->use);
            domain_put(s->use.granter);
            r = GNTST_general_error; /* once further, not twice */
        }
        if (r) {
            grant_use_end(&s->outer);
            domain_put(s->outer.granter);
            return r;
        }
        s->transitive = true;
    }
    s->mfn = s->use.mfn;
    s->start = s->use.start;
    s->length = s->use.length;
    return GNTST_okay;
}

/* One of the caller's own frames. */
static int side_take_frame(struct vcpu *v, struct side *s)
{
    if (s->domid != DOMID_SELF && s->domid != v->domain->id.v)
        return GNTST_permission_denied;
    if (!arch_gfn_pin(v->domain, GFN(s->name), !s->writable, &s->mfn))
        return GNTST_bad_page;
    s->start = 0;
    s->length = FRAME_SIZE;
    return GNTST_okay;
}

static __attribute__((noinline)) int side_change(struct vcpu *v, struct side *s,
                                                 const struct gnttab_copy_ptr *p, bool gref, uint64_t name)
{
    int r;

    side_drop(v, s);
    s->gref = gref;
    s->domid = p->domid;
    s->name = name;
    r = gref ? side_take_grant(v, s) : side_take_frame(v, s);
    s->valid = !r;
    return r;
}

static inline int side_want(struct vcpu *v, struct side *s, const struct gnttab_copy_ptr *p, bool gref)
{
    uint64_t name = gref ? p->u.ref : p->u.gmfn;

    if (s->valid && s->gref == gref && s->domid == p->domid && s->name == name)
        return GNTST_okay;
    return side_change(v, s, p, gref, name);
}

static bool inside(const struct side *s, uint16_t offset, uint16_t len)
{
    return offset >= s->start && offset + (uint32_t)len <= s->start + (uint32_t)s->length;
}

/* Both pages are guests', who may write to them meanwhile: then they get what they asked for. */
static void copy_bytes(mfn_t to, uint16_t to_offset, mfn_t from, uint16_t from_offset, uint16_t len)
{
    memmove((char *)arch_frame_va(to) + to_offset, (const char *)arch_frame_va(from) + from_offset, len);
}

static int copy_one(struct vcpu *v, const struct gnttab_copy *op, struct side *from, struct side *to)
{
    int r;

    if (op->source.offset + (uint32_t)op->len > FRAME_SIZE ||
        op->dest.offset + (uint32_t)op->len > FRAME_SIZE)
        return GNTST_bad_copy_arg;
    r = side_want(v, from, &op->source, op->flags & GNTCOPY_source_gref);
    if (!r)
        r = side_want(v, to, &op->dest, op->flags & GNTCOPY_dest_gref);
    if (r)
        return r;
    if (!inside(from, op->source.offset, op->len) || !inside(to, op->dest.offset, op->len))
        return GNTST_general_error;
    perf_count(grant_copies);
    copy_bytes(to->mfn, op->dest.offset, from->mfn, op->source.offset, op->len);
    return GNTST_okay;
}

/* Elements i up to `count` or what one batch holds; *done is how many were done. */
static int copy_batch(struct vcpu *v, gva_t list, uint32_t i, uint32_t count, struct sides *s, uint32_t *done)
{
    struct gnttab_copy op[BATCH];
    uint32_t n = MIN(count - i, (uint32_t)BATCH);

    *done = 0;
    if (__builtin_add_overflow(list.a, i * sizeof(op[0]), &list.a) ||
        guest_read(v, op, list, n * sizeof(op[0])))
        return -EFAULT;
    for (uint32_t k = 0; k < n; k++) {
        int16_t status = (int16_t)copy_one(v, &op[k], &s->from, &s->to);
        gva_t at = GVA(list.a + k * sizeof(op[0]) + offsetof(struct gnttab_copy, status));

        if (guest_write(v, at, &status, sizeof(status)))
            return -EFAULT;
        ++*done;
    }
    return 0;
}

long grant_op_copy(struct hypercall *hc)
{
    struct sides s; /* what is not valid has no other fields */
    uint32_t count = hc_u32(hc, 2), i = 0, done = 0;
    int r = 0;

    s.from.valid = s.to.valid = s.from.writable = false;
    s.to.writable = true;
    while (i < count && !r) {
        if (i && preempt_needed())
            break;
        r = copy_batch(hc->caller, GVA(hc->arg[1]), i, count, &s, &done);
        i += done;
    }
    side_drop(hc->caller, &s.from);
    side_drop(hc->caller, &s.to);
    return r ? r : grant_again(hc, i, sizeof(struct gnttab_copy));
}
