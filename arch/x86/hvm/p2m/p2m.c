/*
 * The p2m of translated domains (x86/p2m.h): life, pool, lookups and changes. format.c has what the hardware wants, table.c the tree,
 * fault.c nested page faults, walk.c and copy.c the guest's own addresses, grant.c and physmap.c the seam, check.c the invariants.
 *
 *   number --> entry {frame, type} --> frame, referenced by the entry
 *
 *   NONE --p2m_set--> type, references taken --exchanged--> gone: unreachable, references held --flush--> references dropped
 *
 * Invariants
 *  1. An entry of RAM (RAM, RAM_RO, LOGGED, RAM_DM) holds a reference on each of its frames, which the domain owns; FOREIGN holds one
 *     arch_gfn_pin of another domain's frame, GRANT a reference (the grant room holds the pin), MMIO nothing.
 *  2. What an exchange took out is let go after a flush that began after the exchange. So a CPU that reads tables with interrupts off,
 *     and then uses what they say before it lets interrupts in, uses frames and tables that still are what they were.
 *  3. `generation` rises after each exchange of an entry that the hardware could use, before the flush.
 *  4. used = frames of tables, root included, never above `pool` but by p2m_pool_set. count[t] = sum of entries of type t, in frames.
 *  5. A table's frame has in its `type` word the number of entries that are not 0. Tables other than the root are not empty, but the
 *     lowest ones, from which grants were unmapped.
 *  6. For a frame of RAM the machine-to-physical table has the number under which it was entered last, while that entry is there.
 *  7. A frame of RAM is writable for ever in the sense of pv/mmu: no page table of a PV domain.
 * Locks: p->lock (RANK_P2M) around changes and around lookups that take references. Never two p2ms at once. Not held while flushing.
 */
#include "private.h"
#include "core/alloc.h"

/* As Xen's tools expect of a fresh domain: 1 MiB. */
#define POOL_FIRST 256u

struct p2m_machine p2m_machine;

void p2m_machine_set(const struct p2m_machine *m)
{
    p2m_machine = *m;
}

/* --- life --- */

int p2m_domain_init(struct domain *d)
{
    struct p2m *p = mem_new(struct p2m);

    if (!p)
        return -ENOMEM;
    spin_init(&p->lock, RANK_P2M);
    p->d = d;
    p->fmt = p2m_machine.ept ? &p2m_ept : &p2m_npt;
    p->max_gfn = (1ull << (MIN(p2m_machine.guest_bits, 48u) - FRAME_SHIFT)) - 1;
    p->pool = POOL_FIRST;
    p->root = p2m_table_new(p);
    if (!p->root) {
        mem_free(p);
        return -ENOMEM;
    }
    x86_domain(d)->p2m = p;
    return 0;
}

int p2m_domain_release(struct domain *d)
{
    struct p2m *p = p2m_of(d);
    bool done = !p;

    while (!done) {
        spin_lock(&p->lock);
        pod_forget(p);
        done = p2m_empty_some(p);
        spin_unlock(&p->lock);
        if (!done && preempt_needed())
            return -EAGAIN;
    }
    return 0;
}

void p2m_domain_free(struct domain *d)
{
    struct p2m *p = p2m_of(d);

    if (!p)
        return;
    while (!p2m_empty_some(p))
        ; /* only of a domain that was never published is there something, and not much */
    p2m_table_free(p, p->root);
    BUG_ON(p->used);
    x86_domain(d)->p2m = NULL;
    mem_free(p);
}

mfn_t p2m_root(const struct domain *d)
{
    return arch_va_mfn(p2m_of(d)->root);
}

uint64_t p2m_generation(const struct domain *d)
{
    return __atomic_load_n(&p2m_of(d)->generation, __ATOMIC_SEQ_CST);
}

gfn_t p2m_highest(const struct domain *d)
{
    return GFN(__atomic_load_n(&p2m_of(d)->highest, __ATOMIC_RELAXED));
}

/* --- the pool --- */

uint64_t p2m_pool_size(const struct domain *d)
{
    return __atomic_load_n(&p2m_of(d)->pool, __ATOMIC_RELAXED);
}

uint64_t p2m_pool_used(const struct domain *d)
{
    return __atomic_load_n(&p2m_of(d)->used, __ATOMIC_RELAXED);
}

int p2m_pool_set(struct domain *d, uint64_t frames)
{
    struct p2m *p = p2m_of(d);
    struct frame_info i;

    frame_info(&i);
    if (frames > i.total)
        return -ENOMEM;
    spin_lock(&p->lock);
    __atomic_store_n(&p->pool, MAX(frames, p->used), __ATOMIC_RELAXED);
    spin_unlock(&p->lock);
    return 0;
}

/* --- looking --- */

static void entry_out(uint64_t e, unsigned level, uint64_t gfn, struct p2m_entry *out)
{
    out->type = entry_type(e);
    out->order = level_order(level);
    out->mfn = INVALID_MFN;
    if (type_has_frame(out->type))
        out->mfn = MFN(entry_mfn(e).n + (gfn & ((1ull << out->order) - 1)));
}

void p2m_look(struct domain *d, gfn_t g, struct p2m_entry *e)
{
    struct p2m *p = p2m_of(d);
    unsigned level;
    uint64_t x;

    *e = (struct p2m_entry){.mfn = INVALID_MFN, .order = level_order(LEVELS)};
    if (g.n > p->max_gfn)
        return;
    spin_lock(&p->lock);
    x = p2m_walk(p, g.n, &level);
    spin_unlock(&p->lock);
    entry_out(x, level, g.n, e);
}

static bool would_do(enum p2m_type t, unsigned want)
{
    if (want & P2M_WRITE)
        return t == P2M_RAM || t == P2M_RAM_DM;
    return type_own(t) || (want & P2M_OTHERS && type_others(t));
}

int p2m_get(struct domain *d, gfn_t g, unsigned want, struct p2m_entry *e)
{
    struct p2m *p = p2m_of(d);

    if (g.n > p->max_gfn)
        return -ENOENT;
    for (;;) {
        unsigned level;
        uint64_t x;
        bool ok;

        spin_lock(&p->lock);
        x = p2m_walk(p, g.n, &level);
        entry_out(x, level, g.n, e);
        ok = would_do(e->type, want);
        if (ok)
            frame_ref(mfn_frame(e->mfn));
        spin_unlock(&p->lock);
        if (ok)
            return 0;
        if (e->type != P2M_POD && !(e->type == P2M_LOGGED && want & P2M_WRITE))
            return -ENOENT;
        if (p2m_fault(d, g.n << FRAME_SHIFT, want & P2M_WRITE ? P2M_ACC_WRITE : 0) != P2M_RETRY)
            return -ENOMEM;
    }
}

/* --- changing --- */

/* The largest piece at gfn that mfn and the rest of the range allow. */
static unsigned piece_level(uint64_t gfn, uint64_t mfn, uint64_t left)
{
    uint64_t both = gfn | mfn;

    if (p2m_machine.huge && left >= 1ull << P2M_1G && !(both & ((1ull << P2M_1G) - 1)))
        return 3;
    if (p2m_machine.large && left >= 1ull << P2M_2M && !(both & ((1ull << P2M_2M) - 1)))
        return 2;
    return 1;
}

void p2m_raise_highest(struct p2m *p, uint64_t gfn)
{
    if (gfn > p->highest)
        __atomic_store_n(&p->highest, gfn, __ATOMIC_RELAXED);
}

/* May an entry of that type make room for one of type t (which is not from the grant room)? */
static bool gives_way(enum p2m_type there, enum p2m_type t)
{
    return !type_grant(there) && (there != P2M_MMIO || t == P2M_MMIO);
}

/* Sets entries from *gfn on, as many as may go before a flush. Lock held. */
static int set_some(struct p2m *p, uint64_t *gfn, uint64_t end, uint64_t mfn, enum p2m_type type,
                    struct gone *gone)
{
    bool frames = type_has_frame(type);

    if (domain_is_dying(p->d))
        return -EINVAL;
    while (*gfn < end && gone->count < GONE_BATCH) {
        unsigned level = piece_level(*gfn, frames ? mfn : 0, end - *gfn), found;
        uint64_t *slot, here = *gfn;

        (void)p2m_walk(p, here, &found);
        level = MIN(level, found); /* over smaller entries: one by one, then merged */
        slot = p2m_slot(p, here, level, true);
        if (!slot) {
            p2m_prune(p, here, gone);
            return -ENOMEM;
        }
        if (!gives_way(entry_type(*slot), type))
            return -EBUSY;
        p2m_exchange(p, slot, level, here, entry_make(p, MFN(mfn), type, level), gone);
        *gfn += 1ull << level_order(level);
        mfn += frames ? 1ull << level_order(level) : 0;
        p2m_raise_highest(p, *gfn - 1);
        if (!(*gfn & (ENTRIES - 1)))
            p2m_merge(p, here, gone);
    }
    return 0;
}

static int set_check(const struct p2m *p, uint64_t gfn, uint64_t mfn, uint64_t n, enum p2m_type type)
{
    if (gfn > p->max_gfn || n - 1 > p->max_gfn - gfn || type == P2M_NONE || type >= P2M_TYPES)
        return -EINVAL;
    if (type == P2M_MMIO)
        return mfn > ENTRY_MFN_MASK >> FRAME_SHIFT || n > (ENTRY_MFN_MASK >> FRAME_SHIFT) - mfn ? -EINVAL : 0;
    for (uint64_t i = 0; type != P2M_POD && i < n; i++)
        if (!mfn_valid(MFN(mfn + i)) || (type_own(type) && mfn_frame(MFN(mfn + i))->owner != p->d->id.v))
            return -EINVAL;
    return 0;
}

int p2m_set_range(struct p2m *p, uint64_t gfn, uint64_t mfn, uint64_t n, enum p2m_type type)
{
    struct gone gone = {.p = p};
    uint64_t at = gfn;
    int r = set_check(p, gfn, mfn, n, type);

    while (!r && at < gfn + n) {
        uint64_t m = type_has_frame(type) ? mfn + (at - gfn) : 0;

        spin_lock(&p->lock);
        r = set_some(p, &at, gfn + n, m, type, &gone);
        spin_unlock(&p->lock);
        gone_drop(&gone);
    }
    /* What is there of it goes again. Where that needs a table and there is none, the entries stay, with their references. */
    if (r && at > gfn && p2m_take(p, gfn, INVALID_MFN, at - gfn, TAKE_ALL & ~TAKE_GRANT, false))
        log_debug("d%u: no memory to undo a change of its p2m", p->d->id.v);
    return r;
}

int p2m_set(struct domain *d, gfn_t g, mfn_t m, unsigned order, enum p2m_type type)
{
    if (type_grant(type))
        return -EINVAL;
    return p2m_set_range(p2m_of(d), g.n, m.n, 1ull << order, type);
}

/* May the entry e (at level, for gfn) be taken? 0, -ENOENT, -EBUSY. */
static int take_check(uint64_t e, unsigned level, uint64_t gfn, mfn_t m, unsigned types)
{
    struct p2m_entry x;

    entry_out(e, level, gfn, &x);
    if (x.type == P2M_NONE)
        return mfn_eq(m, INVALID_MFN) ? 0 : -ENOENT;
    if (!mfn_eq(m, INVALID_MFN) && !mfn_eq(x.mfn, m))
        return -ENOENT;
    return types & 1u << x.type ? 0 : -EBUSY;
}

/* Takes what is at *gfn, no more than up to end; moves *gfn on. Lock held. */
static int take_piece(struct p2m *p, uint64_t *gfn, uint64_t end, mfn_t m, unsigned types, struct gone *gone)
{
    unsigned level;
    uint64_t e = p2m_walk(p, *gfn, &level), *slot;
    int r = take_check(e, level, *gfn, m, types);

    if (r)
        return r;
    while (level > 1 &&
           (*gfn & ((1ull << level_order(level)) - 1) || end - *gfn < 1ull << level_order(level)))
        level--;
    if (e) {
        slot = p2m_slot(p, *gfn, level, false);
        if (!slot)
            return -ENOMEM; /* to split what is larger */
        p2m_exchange(p, slot, level, *gfn, 0, gone);
    }
    *gfn += 1ull << level_order(level);
    return 0;
}

/* As many as may go before a flush. Lock held. */
static int take_some(struct p2m *p, uint64_t *gfn, uint64_t end, mfn_t m, unsigned types, struct gone *gone)
{
    uint64_t here = *gfn, first = here;
    int r = 0;

    while (!r && *gfn < end && gone->count < GONE_BATCH) {
        mfn_t want = mfn_eq(m, INVALID_MFN) ? m : MFN(m.n + (*gfn - first));

        if (*gfn / ENTRIES != here / ENTRIES)
            p2m_prune(p, here, gone); /* the last table is through */
        here = *gfn;
        r = take_piece(p, gfn, end, want, types, gone);
    }
    p2m_prune(p, here, gone);
    return r;
}

int p2m_take(struct p2m *p, uint64_t gfn, mfn_t m, uint64_t n, unsigned types, bool release)
{
    struct gone gone = {.p = p, .release = release};
    uint64_t at = gfn;
    int r = gfn > p->max_gfn || n - 1 > p->max_gfn - gfn ? -EINVAL : 0;

    while (!r && at < gfn + n) {
        mfn_t from = mfn_eq(m, INVALID_MFN) ? m : MFN(m.n + (at - gfn));

        spin_lock(&p->lock);
        r = take_some(p, &at, gfn + n, from, types, &gone);
        spin_unlock(&p->lock);
        gone_drop(&gone);
    }
    return r;
}

/* One number of a list. Lock held. */
static bool release_one(struct p2m *p, uint64_t gfn, struct gone *gone)
{
    uint64_t at = gfn;
    unsigned level;
    bool done;

    if (gfn > p->max_gfn || !p2m_walk(p, gfn, &level))
        return false;
    done = !take_piece(p, &at, gfn + 1, INVALID_MFN, TAKE_GUEST, gone);
    p2m_prune(p, gfn, gone);
    return done;
}

unsigned p2m_release_list(struct domain *d, const uint64_t *gfn, unsigned n)
{
    struct p2m *p = p2m_of(d);
    struct gone gone = {.p = p, .release = true};
    unsigned done = 0;
    bool ok = true;

    while (ok && done < n) {
        spin_lock(&p->lock);
        while (ok && done < n && gone.count < GONE_BATCH) {
            ok = release_one(p, gfn[done], &gone);
            done += ok;
        }
        spin_unlock(&p->lock);
        gone_drop(&gone);
    }
    pod_trim(p);
    return done;
}

int p2m_remove(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    return p2m_take(p2m_of(d), g.n, m, 1ull << order, TAKE_GUEST, false);
}

int p2m_change_type(struct domain *d, gfn_t g, enum p2m_type from, enum p2m_type to)
{
    struct p2m *p = p2m_of(d);
    struct gone gone = {.p = p};
    unsigned level;
    uint64_t *slot;
    int r = -EBUSY;

    if (g.n > p->max_gfn || !type_own(from) || !type_own(to))
        return -EINVAL;
    spin_lock(&p->lock);
    if (entry_type(p2m_walk(p, g.n, &level)) == from) {
        slot = p2m_slot(p, g.n, 1, false);
        r = slot ? 0 : -ENOMEM;
        if (slot)
            p2m_exchange(p, slot, 1, g.n, entry_make(p, entry_mfn(*slot), to, 1), &gone);
    }
    spin_unlock(&p->lock);
    gone_drop(&gone);
    return r;
}
