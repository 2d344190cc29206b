/*
 * The tree of tables: finding, splitting, merging, exchanging entries, and what has to wait for the flush (p2m.c has the theory).
 * Locks: p->lock in all but p2m_walk and gone_drop.
 */
#include "private.h"
#include "arch/mem.h"
#include "x86/mm.h"

/* --- frames of tables --- */

uint64_t *p2m_table_new(struct p2m *p)
{
    mfn_t m;

    if (p->used >= p->pool || !frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m))
        return NULL;
    p->used++;
    mfn_frame(m)->type = 0; /* table_fill */
    return arch_frame_va(m);
}

void p2m_table_free(struct p2m *p, uint64_t *table)
{
    *table_fill(table) = 0;
    frame_free_va(table, 0);
    p->used--;
}

static uint64_t *slot_table(uint64_t *slot)
{
    return (uint64_t *)((uintptr_t)slot & ~(FRAME_SIZE - 1));
}

static void slot_refill(uint64_t *slot, uint64_t old, uint64_t e)
{
    *table_fill(slot_table(slot)) += (uint64_t)(e != 0) - (uint64_t)(old != 0);
}

/* --- finding --- */

uint64_t p2m_walk(const struct p2m *p, uint64_t gfn, unsigned *level)
{
    const uint64_t *t = p->root;

    for (unsigned l = LEVELS;; l--) {
        uint64_t e = entry_read(&t[slot_index(gfn, l)]);

        if (!entry_is_table(p, e, l)) {
            *level = l;
            return e;
        }
        t = entry_table(e);
    }
}

/* Entry i of the table that says the same as e, an entry of `level`. */
static uint64_t child_entry(const struct p2m *p, uint64_t e, unsigned level, unsigned i)
{
    if (type_has_frame(entry_type(e)))
        e += (uint64_t)i << (level_order(level - 1) + FRAME_SHIFT);
    return level == 2 ? e & ~p->fmt->large : e;
}

/* A table in place of the leaf (or of nothing) in *slot. False: no memory, nothing changed. */
static bool split(struct p2m *p, uint64_t *slot, unsigned level)
{
    uint64_t *t = p2m_table_new(p), e = entry_read(slot);
    uint64_t table;

    if (!t)
        return false;
    table = mfn_to_maddr(arch_va_mfn(t)).a | p->fmt->table;
    *table_fill(t) = e ? ENTRIES : 0;
    do { /* the hardware may set its bits meanwhile */
        for (unsigned i = 0; e && i < ENTRIES; i++)
            t[i] = child_entry(p, e, level, i);
    } while (!__atomic_compare_exchange_n(slot, &e, table, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    slot_refill(slot, e, table);
    return true;
}

uint64_t *p2m_slot(struct p2m *p, uint64_t gfn, unsigned level, bool make)
{
    uint64_t *t = p->root;

    for (unsigned l = LEVELS; l > level; l--) {
        uint64_t *slot = &t[slot_index(gfn, l)];

        if (!entry_is_table(p, *slot, l) && ((!*slot && !make) || !split(p, slot, l)))
            return NULL;
        t = entry_table(*slot);
    }
    return &t[slot_index(gfn, level)];
}

/* --- exchanging --- */

/* References, counts and the machine-to-physical table, for an entry that comes or goes. */
static void account_new(struct p2m *p, uint64_t gfn, uint64_t e, unsigned level)
{
    enum p2m_type t = entry_type(e);
    uint64_t n = 1ull << level_order(level);
    mfn_t m = entry_mfn(e);

    p->count[t] += n;
    if (!type_own(t) && !type_grant(t))
        return;
    for (uint64_t i = 0; i < n; i++) {
        frame_ref(mfn_frame(MFN(m.n + i)));
        if (type_own(t)) {
            arch_frame_writable(MFN(m.n + i));
            m2p_set(MFN(m.n + i), gfn + i);
        }
    }
}

static void account_gone(struct p2m *p, uint64_t gfn, uint64_t e, unsigned level)
{
    enum p2m_type t = entry_type(e);
    uint64_t n = 1ull << level_order(level);
    mfn_t m = entry_mfn(e);

    p->count[t] -= n;
    for (uint64_t i = 0; type_own(t) && i < n; i++)
        if (m2p_get(MFN(m.n + i)) == gfn + i)
            m2p_set(MFN(m.n + i), M2P_INVALID);
}

static void gone_add(struct gone *gone, uint64_t e, unsigned level, bool table)
{
    BUG_ON(gone->count == GONE_MAX);
    gone->leaf[gone->count] = e;
    gone->level[gone->count] = (uint8_t)(table ? 0 : level);
    gone->count++;
    if (e & gone->p->fmt->present) {
        gone->flush = true;
        __atomic_fetch_add(&gone->p->generation, 1, __ATOMIC_SEQ_CST);
    }
}

void p2m_exchange(struct p2m *p, uint64_t *slot, unsigned level, uint64_t gfn, uint64_t e, struct gone *gone)
{
    uint64_t old;

    if (e)
        account_new(p, gfn, e, level);
    old = __atomic_exchange_n(slot, e, __ATOMIC_ACQ_REL);
    BUG_ON(entry_is_table(p, old, level));
    slot_refill(slot, old, e);
    if (!old)
        return;
    account_gone(p, gfn, old, level);
    if (e && type_own(entry_type(e)) && m2p_get(entry_mfn(e)) != gfn)
        for (uint64_t i = 0; i < 1ull << level_order(level); i++) /* the same frame, entered again */
            m2p_set(MFN(entry_mfn(e).n + i), gfn + i);
    gone_add(gone, old, level, false);
}

void p2m_prune(struct p2m *p, uint64_t gfn, struct gone *gone)
{
    uint64_t *path[LEVELS + 1], *t = p->root;
    unsigned l = LEVELS;

    for (; l > 1; l--) {
        path[l] = &t[slot_index(gfn, l)];
        if (!entry_is_table(p, *path[l], l))
            break;
        t = entry_table(*path[l]);
    }
    while (++l <= LEVELS && !*table_fill(t)) {
        uint64_t old = __atomic_exchange_n(path[l], 0, __ATOMIC_ACQ_REL);

        t = slot_table(path[l]);
        slot_refill(path[l], old, 0);
        gone_add(gone, old, l, true);
    }
}

/* The entry that says the same as the whole table; 0: there is none. */
static uint64_t merged(const struct p2m *p, const uint64_t *t, unsigned level)
{
    const uint64_t hw = p->fmt->accessed | p->fmt->dirty;
    uint64_t e = t[0] & ~hw, step = 1ull << (level_order(level) + FRAME_SHIFT);

    if (!type_own(entry_type(e)) || entry_mfn(e).n & ((1ull << level_order(level + 1)) - 1))
        return 0;
    for (unsigned i = 1; i < ENTRIES; i++)
        if ((t[i] & ~hw) != e + i * step)
            return 0;
    return e | p->fmt->large | hw; /* the hardware may have set its bits in any of them */
}

void p2m_merge(struct p2m *p, uint64_t gfn, struct gone *gone)
{
    unsigned level;

    (void)p2m_walk(p, gfn, &level);
    while (++level <= 3 && (level == 2 ? p2m_machine.large : p2m_machine.huge)) {
        uint64_t *slot = p2m_slot(p, gfn, level, false), e, *t;

        t = entry_table(*slot);
        e = *table_fill(t) == ENTRIES ? merged(p, t, level - 1) : 0;
        if (!e)
            return;
        e = __atomic_exchange_n(slot, e, __ATOMIC_ACQ_REL);
        gone_add(gone, e, level, true);
    }
}

/* --- after the flush --- */

static void drop_leaf(struct p2m *p, uint64_t e, unsigned level, bool release)
{
    enum p2m_type t = entry_type(e);
    mfn_t m = entry_mfn(e);

    if (type_others(t)) {
        arch_grant_unpin(m, t == P2M_FOREIGN_RO);
        return;
    }
    if (!type_own(t) && !type_grant(t))
        return;
    for (uint64_t i = 0; i < 1ull << level_order(level); i++) {
        struct frame *f = mfn_frame(MFN(m.n + i));

        if (release && type_own(t) && !pod_keep(p, frame_mfn(f)) && frame_clear_allocated(f))
            frame_put(f);
        frame_put(f);
    }
}

void gone_drop(struct gone *gone)
{
    if (gone->flush)
        p2m_machine.flush(gone->p->d);
    for (unsigned i = 0; i < gone->count; i++) {
        if (gone->level[i]) {
            drop_leaf(gone->p, gone->leaf[i], gone->level[i], gone->release);
            continue;
        }
        spin_lock(&gone->p->lock);
        p2m_table_free(gone->p, entry_table(gone->leaf[i]));
        spin_unlock(&gone->p->lock);
    }
    gone->count = 0;
    gone->flush = false;
}

/* --- the end: no flush, as no vCPU of the domain runs any more, and none will --- */

static void empty_leaf(struct p2m *p, uint64_t *slot, unsigned level, uint64_t gfn)
{
    uint64_t e = *slot;

    *slot = 0;
    slot_refill(slot, e, 0);
    account_gone(p, gfn, e, level);
    drop_leaf(p, e, level, false);
}

/* Entry i, for gfn, and all behind it where they are small. */
static void empty_leaves(struct p2m *p, uint64_t *t, unsigned level, unsigned i, uint64_t gfn)
{
    unsigned end = level == 1 ? ENTRIES : i + 1;

    for (; i < end; i++, gfn++)
        if (t[i])
            empty_leaf(p, &t[i], level, gfn);
}

bool p2m_empty_some(struct p2m *p)
{
    uint64_t *t = p->root, *parent = NULL, gfn = 0;

    for (unsigned level = LEVELS;; level--) {
        unsigned i = 0;

        while (i < ENTRIES && !t[i])
            i++;
        if (i == ENTRIES)
            break;
        gfn += (uint64_t)i << level_order(level);
        /* 1 GiB at once would take too long, unless there is no memory for a table. */
        if (!entry_is_table(p, t[i], level) && (level < 3 || !split(p, &t[i], level))) {
            empty_leaves(p, t, level, i, gfn);
            return false;
        }
        parent = &t[i];
        t = entry_table(t[i]);
    }
    if (!parent)
        return true;
    slot_refill(parent, *parent, 0);
    *parent = 0;
    p2m_table_free(p, t);
    return false;
}
