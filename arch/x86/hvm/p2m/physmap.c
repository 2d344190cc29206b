/*
 * The p2m behind the seam: reservations, grant mappings, device memory.
 *
 * A grant's entry goes without a flush: the grant room keeps its pin until it has called arch_grant_flush, which serves a whole batch. Its
 * table stays, even when it is empty: the next grant is mapped there.
 * Locks: p->lock.
 */
#include "private.h"
#include "core/work.h"

void p2m_flush(struct domain *d)
{
    p2m_machine.flush(d);
}

int p2m_release_frames(struct domain *d, gfn_t g, unsigned order)
{
    struct p2m_entry e;
    int r;

    p2m_look(d, g, &e);
    if (e.type == P2M_NONE)
        return -ENOENT;
    r = p2m_take(p2m_of(d), g.n, INVALID_MFN, 1ull << order, TAKE_GUEST, true);
    pod_trim(p2m_of(d));
    return r;
}

/* --- grants --- */

int p2m_grant_map(struct domain *d, uint64_t gpa, mfn_t m, bool readonly)
{
    struct p2m *p = p2m_of(d);
    struct gone gone = {.p = p};
    uint64_t gfn = gpa >> FRAME_SHIFT, *slot = NULL;
    unsigned level;
    int r = -EINVAL;

    if (gfn > p->max_gfn || !mfn_valid(m))
        return -EINVAL;
    spin_lock(&p->lock);
    if (!domain_is_dying(p->d) && entry_type(p2m_walk(p, gfn, &level)) == P2M_NONE)
        slot = p2m_slot(p, gfn, 1, true);
    if (slot) {
        p2m_exchange(p, slot, 1, gfn, entry_make(p, m, readonly ? P2M_GRANT_RO : P2M_GRANT, 1), &gone);
        p2m_raise_highest(p, gfn);
        r = 0;
    } else {
        p2m_prune(p, gfn, &gone);
    }
    spin_unlock(&p->lock);
    gone_drop(&gone);
    return r;
}

int p2m_grant_unmap(struct domain *d, uint64_t gpa, mfn_t m, bool readonly)
{
    struct p2m *p = p2m_of(d);
    struct gone gone = {.p = p};
    uint64_t gfn = gpa >> FRAME_SHIFT, e;
    unsigned level;
    int r = -EINVAL;

    if (gfn > p->max_gfn)
        return -EINVAL;
    spin_lock(&p->lock);
    e = p2m_walk(p, gfn, &level);
    if (entry_type(e) == (readonly ? P2M_GRANT_RO : P2M_GRANT) && mfn_eq(entry_mfn(e), m)) {
        p2m_exchange(p, p2m_slot(p, gfn, 1, false), 1, gfn, 0, &gone);
        r = 0;
    }
    spin_unlock(&p->lock);
    gone.flush = false;
    gone_drop(&gone);
    return r;
}

/* --- device memory --- */

/* Is [g, g + n) empty, or what it is to become? */
static bool mmio_fits(struct domain *d, gfn_t g, mfn_t m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        struct p2m_entry e;

        p2m_look(d, GFN(g.n + i), &e);
        if (e.type != P2M_NONE && (e.type != P2M_MMIO || e.mfn.n != m.n + i))
            return false;
    }
    return true;
}

int p2m_mmio_map(struct domain *d, gfn_t g, mfn_t m, uint64_t n)
{
    if (!mmio_fits(d, g, m, n))
        return -EBUSY;
    return p2m_set_range(p2m_of(d), g.n, m.n, n, P2M_MMIO);
}

/* What is not mapped (any more) is no error, so that the caller can go on after a preemption. */
int p2m_mmio_unmap(struct domain *d, gfn_t g, mfn_t m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        int r = p2m_take(p2m_of(d), g.n + i, MFN(m.n + i), 1, TAKE_MMIO, false);

        if (r && r != -ENOENT)
            return r;
    }
    return 0;
}

/* The cursor is in p->zap: one such operation at a time, under the toolstack's pause of the domain. */
int p2m_mmio_zap(struct domain *d, mfn_t first, mfn_t last)
{
    struct p2m *p = p2m_of(d);

    for (unsigned n = 1; p->count[P2M_MMIO] && p->zap <= p2m_highest(d).n; n++) {
        struct p2m_entry e;
        int r = 0;

        p2m_look(d, GFN(p->zap), &e);
        if (e.type == P2M_MMIO && e.mfn.n >= first.n && e.mfn.n <= last.n) {
            r = p2m_take(p, p->zap++, e.mfn, 1, TAKE_MMIO, false);
        } else {
            uint64_t next = e.type == P2M_MMIO ? 1 : 1ull << e.order;

            p->zap = (p->zap | (next - 1)) + 1;
        }
        if (r)
            return r;
        if (n % 256 == 0 && preempt_needed())
            return -EAGAIN;
    }
    p->zap = 0;
    return 0;
}
