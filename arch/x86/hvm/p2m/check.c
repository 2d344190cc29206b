/* The invariants of p2m.c, and a summary for the debug key. Nothing may be under way for the domain. */
#include "private.h"
#include "core/console.h"
#include "x86/mm.h"

struct tally {
    const struct p2m *p;
    uint64_t tables, count[P2M_TYPES], highest;
};

/* Invariant 6: the number that the frame goes by leads to it. */
static void check_m2p(const struct p2m *p, mfn_t m)
{
    uint64_t gfn = m2p_get(m), e;
    unsigned level;

    if (gfn == M2P_INVALID)
        return; /* it went by another number, which has gone */
    BUG_ON(gfn > p->max_gfn);
    e = p2m_walk(p, gfn, &level);
    BUG_ON(!type_own(entry_type(e)));
    BUG_ON(entry_mfn(e).n + (gfn & ((1ull << level_order(level)) - 1)) != m.n);
}

static void check_frames(const struct p2m *p, enum p2m_type t, mfn_t m, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        const struct frame *f = mfn_frame(MFN(m.n + i));

        BUG_ON(!mfn_valid(MFN(m.n + i)) || !(f->count & FRAME_REF_MASK));
        if (!type_own(t))
            continue;
        BUG_ON(f->owner != p->d->id.v || !f->type);
        check_m2p(p, MFN(m.n + i));
    }
}

static void check_leaf(struct tally *k, uint64_t e, unsigned level, uint64_t gfn)
{
    const struct p2m_format *fmt = k->p->fmt;
    uint64_t n = 1ull << level_order(level), hw = fmt->accessed | fmt->dirty;
    enum p2m_type t = entry_type(e);

    BUG_ON(t == P2M_NONE || t >= P2M_TYPES);
    BUG_ON((e & ~hw) != (entry_make(k->p, entry_mfn(e), t, level) & ~hw));
    BUG_ON(level > 1 && type_has_frame(t) && entry_mfn(e).n & (n - 1));
    BUG_ON(gfn + n - 1 > k->p->max_gfn);
    k->count[t] += n;
    k->highest = MAX(k->highest, gfn + n - 1);
    if (type_has_frame(t) && t != P2M_MMIO)
        check_frames(k->p, t, entry_mfn(e), n);
}

static void check_table(struct tally *k, uint64_t *t, unsigned level, uint64_t gfn)
{
    uint64_t fill = 0;

    k->tables++;
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint64_t first = gfn + ((uint64_t)i << level_order(level));

        if (!t[i])
            continue;
        fill++;
        if (entry_is_table(k->p, t[i], level)) {
            BUG_ON((t[i] & ~ENTRY_MFN_MASK & ~k->p->fmt->accessed) !=
                   (k->p->fmt->table & ~k->p->fmt->accessed));
            check_table(k, entry_table(t[i]), level - 1, first);
        } else {
            check_leaf(k, t[i], level, first);
        }
    }
    BUG_ON(fill != *table_fill(t));
    BUG_ON(!fill && level > 1 && t != k->p->root && !k->p->d->dying);
}

void p2m_room_check(struct domain *d)
{
    struct p2m *p = p2m_of(d);
    struct tally k = {.p = p};

    if (!p)
        return;
    spin_lock(&p->lock);
    check_table(&k, p->root, LEVELS, 0);
    BUG_ON(k.tables != p->used || p->used > p->pool);
    for (unsigned t = 0; t < P2M_TYPES; t++)
        BUG_ON(k.count[t] != p->count[t]);
    BUG_ON(k.highest > p->highest);
    spin_unlock(&p->lock);
}

/* Entries of each level in and below a table. */
static void count_leaves(const struct p2m *p, const uint64_t *t, unsigned level, unsigned *leaves)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        if (entry_is_table(p, t[i], level))
            count_leaves(p, entry_table(t[i]), level - 1, leaves);
        else if (t[i])
            leaves[level]++;
    }
}

void p2m_dump(struct domain *d)
{
    static const char *const names[P2M_TYPES] = {"",
                                                 "ram",
                                                 "rom",
                                                 "mmio",
                                                 "foreign",
                                                 "foreign (ro)",
                                                 "grant",
                                                 "grant (ro)",
                                                 "pod",
                                                 "logged",
                                                 "ram of a device model"};
    unsigned leaves[LEVELS + 1] = {0};
    struct p2m *p = p2m_of(d);

    if (!p)
        return;
    spin_lock(&p->lock);
    count_leaves(p, p->root, LEVELS, leaves);
    spin_unlock(&p->lock);
    console_printf("d%u p2m (%s): %llu of %llu frames of tables, highest %#llx\n", d->id.v, p->fmt->name,
                   (unsigned long long)p->used, (unsigned long long)p->pool, (unsigned long long)p->highest);
    console_printf("  entries: %u of 1 GiB, %u of 2 MiB, %u of 4 KiB\n", leaves[3], leaves[2], leaves[1]);
    for (unsigned t = 1; t < P2M_TYPES; t++)
        if (p->count[t])
            console_printf("  %s: %llu frames\n", names[t], (unsigned long long)p->count[t]);
}
