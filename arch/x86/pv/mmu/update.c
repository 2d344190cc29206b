/*
 * The PV MMU: changing single entries of tables in use, and mmu_update (xen/xen.h).
 *
 * New references are taken before the table is locked, old ones dropped after it is unlocked; in between the
 * entry is exchanged atomically, since processors set accessed and dirty bits at any time. What the guest has
 * to flush is its own business: safety rests on the stamps (types.c, invariant 7), not on guests' flushes.
 *
 * Preemption: mmu_update goes on from the request it had reached: arg 0 advanced, arg 1 = requests left, its
 * upper half = requests done before (for *pdone).
 */
#include "types.h"
#include "core/abi.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/mem.h"
#include "x86/mm.h"

static uint64_t *entry_of(struct frame *f, unsigned index)
{
    return (uint64_t *)arch_frame_va(frame_mfn(f)) + index;
}

static uint64_t entry_write(uint64_t *p, uint64_t e, bool preserve_ad)
{
    uint64_t old, keep = preserve_ad ? PTE_A | PTE_D : 0;

    if (!keep)
        return __atomic_exchange_n(p, e, __ATOMIC_ACQ_REL);
    old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(p, &old, e | (old & keep), false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        ;
    return old;
}

/* Do both entries hold the same references? */
static bool same_hold(uint64_t a, uint64_t b)
{
    return a & b & PTE_P && !((a ^ b) & (PTE_MFN_MASK | PTE_RW));
}

int l1_swap(const struct pt_change *c, uint64_t *entry, uint64_t e, uint64_t *old)
{
    uint64_t now = __atomic_load_n(entry, __ATOMIC_RELAXED);
    int r;

    *old = 0;
    if (e & PTE_P) {
        e = entry_adjust(e, 1);
        if (same_hold(now, e)) {
            if (unlikely(!entry_flags_ok(c->d, e, 1)))
                return -EINVAL;
            entry_write(entry, e, c->preserve_ad);
            return 0;
        }
        r = l1_entry_get(e, c->d, c->pg_owner);
        if (unlikely(r))
            return r;
    }
    *old = entry_write(entry, e, c->preserve_ad);
    return 0;
}

/* The entry with the frame that c->pg_owner has at the number which the entry names; *held: a reference on it. */
static int entry_translate(const struct pt_change *c, uint64_t *e, struct frame **held)
{
    *held = arch_gfn_get(c->pg_owner, GFN(pte_mfn(*e).n));
    if (!*held)
        return -EINVAL;
    *e = pte_make(frame_mfn(*held), pte_flags(*e));
    return 0;
}

static int l1_write_translated(const struct pt_change *c, struct frame *f, unsigned index, uint64_t e)
{
    struct pt_change plain = *c;
    struct frame *held;
    int r = entry_translate(c, &e, &held);

    if (r)
        return r;
    plain.guest_frames = false;
    r = l1_write(&plain, f, index, e);
    frame_put(held);
    return r;
}

int l1_write(const struct pt_change *c, struct frame *f, unsigned index, uint64_t e)
{
    uint64_t old;
    int r;

    if (unlikely(c->guest_frames) && e & PTE_P)
        return l1_write_translated(c, f, index, e);
    if (unlikely(!table_lock(f, c->d)))
        return -EINVAL;
    if (unlikely(pgt_type(type_word(f)) != PGT_L1)) {
        table_unlock(f);
        return -EINVAL;
    }
    r = l1_swap(c, entry_of(f, index), e, &old);
    table_unlock(f);
    if (likely(!r))
        l1_entry_put(old);
    return r;
}

/* The entry keeps its child: only flags change. False: it does not, nothing was done. */
static bool upper_flags_write(const struct pt_change *c, struct frame *f, unsigned level, uint64_t *entry,
                              uint64_t e)
{
    bool done = false;

    if (!table_lock(f, c->d))
        return false;
    if (pgt_level(type_word(f)) == level) {
        uint64_t now = __atomic_load_n(entry, __ATOMIC_RELAXED);

        done = (now & e & PTE_P) && !((now ^ e) & PTE_MFN_MASK) && entry_flags_ok(c->d, e, level) &&
               !(entry_is_linear(e, level, f) && e & PTE_RW);
        if (done)
            entry_write(entry, e, c->preserve_ad);
    }
    table_unlock(f);
    return done;
}

/* References for the child of a new entry. *child NULL: it needs none. */
static int upper_child_get(const struct pt_change *c, struct frame *f, unsigned level, uint64_t e,
                           struct frame **child)
{
    int r;

    *child = NULL;
    if (!(e & PTE_P))
        return pending_settle(c->pending);
    if (!entry_flags_ok(c->d, e, level) || !mfn_valid(pte_mfn(e)))
        return -EINVAL;
    if (entry_is_self(e, level, f))
        return e & PTE_RW ? -EINVAL : pending_settle(c->pending);
    r = pending_get(c->pending, pte_mfn(e), c->d, pgt_of_level(level - 1));
    if (r == -EINVAL && !(e & PTE_RW) && (!c->pending || !c->pending->mfn))
        r = linear_ref(f, level, mfn_frame(pte_mfn(e)), c->d);
    if (!r)
        *child = mfn_frame(pte_mfn(e));
    return r;
}

static int upper_write(const struct pt_change *c, struct frame *f, unsigned level, unsigned index, uint64_t e)
{
    uint64_t *entry = entry_of(f, index), old;
    struct frame *child, *former;
    int r;

    if (!slot_is_guests(level, index))
        return -EINVAL;
    if (e & PTE_P)
        e = entry_adjust(e, level);
    if (upper_flags_write(c, f, level, entry, e))
        return 0;
    r = upper_child_get(c, f, level, e, &child);
    if (r)
        return r;
    /* The table itself may have been released or become something else while the child was validated. */
    if (!table_lock(f, c->d))
        goto gone;
    if (pgt_level(type_word(f)) != level) {
        table_unlock(f);
        goto gone;
    }
    old = entry_write(entry, e, c->preserve_ad);
    table_unlock(f);
    former = upper_entry_child(old, f);
    if (former)
        pending_put(c->pending, former);
    return 0;
gone:
    if (child)
        pending_put(c->pending, child);
    return -EINVAL;
}

int table_write(const struct pt_change *c, struct frame *f, unsigned index, uint64_t e)
{
    unsigned level = pgt_level(pgt_type(type_word(f)));

    int r;

    if (level <= 1)
        return level ? l1_write(c, f, index, e) : -EINVAL;
    r = upper_write(c, f, level, index, e);
    if (!r && level == 4)
        pv_l4_changed(c->d, frame_mfn(f));
    return r;
}

/* --- mmu_update
 * ------------------------------------------------------------------------------------------------- */

/* A request may also name an ordinary page of the guest: a plain store, as if the guest had it mapped
 * writable. */
static int plain_write(struct domain *d, struct frame *f, unsigned index, uint64_t value)
{
    int r = frame_get_typed(frame_mfn(f), d, PGT_WRITABLE, d);

    if (r)
        return r;
    __atomic_store_n(entry_of(f, index), value, __ATOMIC_RELEASE);
    frame_put_typed(f);
    return 0;
}

static inline int update_entry(struct pt_change *c, uint64_t ptr, uint64_t value)
{
    struct frame *f = frame_named(maddr_to_mfn(MADDR(ptr)));
    unsigned index = (unsigned)(ptr & (FRAME_SIZE - 1)) / 8;
    uint64_t x;

    if (unlikely(ptr & 4 || !f))
        return -EINVAL;
    x = type_word(f);
    if (likely(pgt_count(x) && pgt_type(x) == PGT_L1))
        return l1_write(c, f, index, value);
    if (pgt_count(x) && pgt_level(x))
        return table_write(c, f, index, value);
    return plain_write(c->d, f, index, value);
}

static int update_m2p(const struct pt_change *c, uint64_t ptr, uint64_t value)
{
    struct frame *f = frame_named(maddr_to_mfn(MADDR(ptr)));

    if (!f || c->translated || !frame_get(f, c->pg_owner))
        return -EINVAL;
    m2p_set(frame_mfn(f), value);
    frame_put(f);
    return 0;
}

static inline int update_one(struct pt_change *c, const mmu_update_t *req)
{
    unsigned cmd = req->ptr & 3;

    switch (cmd) {
    case MMU_NORMAL_PT_UPDATE:
    case MMU_PT_UPDATE_PRESERVE_AD:
    case MMU_PT_UPDATE_NO_TRANSLATE:
        c->preserve_ad = cmd == MMU_PT_UPDATE_PRESERVE_AD;
        c->guest_frames = c->translated && cmd != MMU_PT_UPDATE_NO_TRANSLATE;
        return update_entry(c, req->ptr - cmd, req->val);
    case MMU_MACHPHYS_UPDATE:
    default:
        return update_m2p(c, req->ptr - cmd, req->val);
    }
}

#define BATCH 16

/* Requests i and the next, as many as there are up to BATCH; one where not all can be read. 0: not even that. */
static uint32_t requests_read(struct vcpu *v, gva_t list, uint32_t i, uint32_t count, mmu_update_t req[BATCH])
{
    uint32_t n = MIN(count - i, (uint32_t)BATCH);

    if (likely(!guest_read_at(v, req, GVA(list.a + (uint64_t)i * sizeof(*req)), 0, n * sizeof(*req))))
        return n;
    return guest_read_at(v, req, list, i, sizeof(*req)) ? 0 : 1;
}

/* After `done` of the requests: the old entry's release was preempted, or somebody else needs the CPU. */
static inline bool must_stop(const struct pt_change *c, uint32_t done, uint32_t count)
{
    return unlikely(c->pending->put && c->pending->mfn) || (!(done % 32) && done < count && preempt_needed());
}

/* Runs requests; *done = how many are through. 0, an errno, or HC_AGAIN: preempted. */
static long run_requests(struct pt_change *c, struct vcpu *v, gva_t list, uint32_t count, uint32_t *done)
{
    mmu_update_t req[BATCH];
    uint32_t i = 0;
    int r = 0;

    while (i < count && !r) {
        uint32_t n = requests_read(v, list, i, count, req);

        if (unlikely(!n))
            r = -EFAULT;
        for (uint32_t k = 0; k < n && !r; k++) {
            r = update_one(c, &req[k]);
            if (likely(!r) && must_stop(c, ++i, count))
                r = -EAGAIN;
        }
    }
    *done = i;
    return unlikely(r == -EAGAIN) ? HC_AGAIN : r;
}

/* foreigndom: low half whose frames, high half (minus 1; 0 = the caller's) whose page tables. */
static int targets(struct hypercall *hc, struct domain **pt_owner, struct domain **pg_owner)
{
    uint32_t fd = hc_u32(hc, 3);
    int r = hc_borrow(hc, DID(fd >> 16 ? (fd >> 16) - 1 : DOMID_SELF), pt_owner);

    if (r)
        return r;
    if (domain_is_dying(*pt_owner) && *pt_owner != hc->caller->domain)
        r = -ESRCH;
    else if ((*pt_owner)->ops->translated) /* its tables are its own business */
        r = -EPERM;
    else
        r = target_frames(hc, (uint16_t)fd, pg_owner);
    if (r)
        hc_release(hc, *pt_owner);
    return r;
}

/* One request of the caller's own, no count wanted, nothing left over from before: as nearly all calls are. */
static inline bool is_single(const struct hypercall *hc, const struct pv_pending *p)
{
    return hc->arg[1] == 1 && !hc->arg[2] && hc_u32(hc, 3) == DOMID_SELF && !p->mfn &&
           !hc->caller->domain->ops->translated;
}

static long update_single(struct hypercall *hc, struct pv_pending *p)
{
    struct pt_change c = {.pending = p, .d = hc->caller->domain, .pg_owner = hc->caller->domain};
    mmu_update_t req;
    int r;

    if (guest_read(hc->caller, &req, GVA(hc->arg[0]), sizeof(req)))
        return -EFAULT;
    r = update_one(&c, &req);
    if (unlikely(r))
        return r == -EAGAIN ? HC_AGAIN : r;
    if (likely(!p->mfn || !p->put))
        return 0;
    hc->arg[1] = 0; /* done, but for the old entry's release */
    hc_set_cursor(hc, 1, 1);
    return HC_AGAIN;
}

static __attribute__((noinline)) long update_many(struct hypercall *hc)
{
    struct pt_change c = {.pending = &pv_vcpu(hc->caller)->pending};
    uint32_t count = hc_u32(hc, 1), before = hc_cursor(hc, 1), done;
    gva_t pdone = GVA(hc->arg[2]);
    long r;

    if (pending_settle_put(c.pending))
        return HC_AGAIN;
    r = targets(hc, &c.d, &c.pg_owner);
    if (unlikely(r))
        return r;
    c.translated = frames_translated(c.pg_owner);
    r = run_requests(&c, hc->caller, GVA(hc->arg[0]), count, &done);
    hc_release(hc, c.pg_owner);
    hc_release(hc, c.d);
    if (r == HC_AGAIN) {
        hc->arg[0] += (uint64_t)done * sizeof(mmu_update_t);
        hc->arg[1] = count - done;
        hc_set_cursor(hc, 1, before + done);
        return HC_AGAIN;
    }
    before += done;
    if (pdone.a && guest_write(hc->caller, pdone, &before, sizeof(before)))
        return -EFAULT;
    return r;
}

long pv_mmu_update(struct hypercall *hc)
{
    struct pv_pending *p = &pv_vcpu(hc->caller)->pending;

    return likely(is_single(hc, p)) ? update_single(hc, p) : update_many(hc);
}
