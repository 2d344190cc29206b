/*
 * The PV MMU: single page-table entries: which ones a guest may have and what they hold (invariants in
 * types.c).
 *
 * The guest's kernel and its user programs both run in ring 3, apart by separate roots, so every present
 * entry must be a user entry whatever the guest wrote; and nothing of a guest is global. Guests know that
 * they read back adjusted entries.
 */
#include "types.h"
#include "core/log.h"
#include "x86/platform.h"

#define CACHE_BITS (PTE_PWT | PTE_PCD | PTE_PAT)

uint64_t entry_adjust(uint64_t e, unsigned level)
{
    e |= PTE_US;
    return level == 1 ? e & ~PTE_G : e;
}

bool entry_flags_ok(const struct domain *d, uint64_t e, unsigned level)
{
    /* Memory types only for those with devices; tables themselves are always cached. Bits 52-62 mean nothing
     * to the processor as long as protection keys are off. */
    if (level == 1)
        return !(e & CACHE_BITS) || d->hardware || ((const struct x86_domain *)d)->devices;
    return !(e & (PTE_PS | PTE_G | PTE_PWT | PTE_PCD));
}

/* Device memory has no frame and is not counted: a right that ends is followed by pv_mmio_zap (mmio.c). */
static int mmio_entry_get(mfn_t m, const struct domain *d, const struct domain *pg_owner)
{
    if (!iomem_allowed(d, m))
        return -EPERM;
    return pg_owner == d || pg_owner == dom_io || iomem_allowed(pg_owner, m) ? 0 : -EPERM;
}

int l1_entry_get(uint64_t e, struct domain *d, struct domain *pg_owner)
{
    mfn_t m = pte_mfn(e);
    struct frame *f;
    int r;

    if (unlikely(!entry_flags_ok(d, e, 1)))
        return -EINVAL;
    f = frame_named(m);
    if (unlikely(!f))
        return mmio_entry_get(m, d, pg_owner);
    if (unlikely(!frame_get(f, pg_owner)))
        return -EINVAL;
    if (!(e & PTE_RW))
        return 0;
    r = type_ref(f, PGT_WRITABLE, d);
    if (likely(!r))
        return type_finish(f, d, false); /* waits for a flush at most */
    frame_put(f);
    return r;
}

void l1_entry_put(uint64_t e)
{
    struct frame *f;

    if (!(e & PTE_P) || !mfn_valid(pte_mfn(e)))
        return;
    f = mfn_frame(pte_mfn(e));
    if (e & PTE_RW)
        type_unref_now(f);
    frame_put(f);
}

/* --- linear tables: entries of levels 2 to 4 that name a table of their own level ---
 *
 * The processor then reads a table as one of the level below, down to page tables as data: read-only. A table
 * that names itself holds nothing. One that names another holds a reference of the other's own type, and no
 * table both names others and is named: so there are no circles that would keep tables for ever, and the
 * release of one goes down at most one more level. Both marks stay as long as the frame is a table. */

bool entry_is_self(uint64_t e, unsigned level, const struct frame *table)
{
    return level > 1 && e & PTE_P && mfn_eq(pte_mfn(e), frame_mfn(table));
}

bool entry_is_linear(uint64_t e, unsigned level, const struct frame *table)
{
    if (entry_is_self(e, level, table))
        return true;
    return level > 1 && e & PTE_P && pgt_level(type_word(mfn_frame(pte_mfn(e)))) == level;
}

/* Sets `mark` unless the other mark is there. */
static bool linear_mark(struct frame *f, uint64_t mark, uint64_t other)
{
    uint64_t x = type_word(f);

    do {
        if (x & other)
            return false;
    } while (!(x & mark) &&
             !__atomic_compare_exchange_n(&f->type, &x, x | mark, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return true;
}

/* The reference by type, of a table that is in use as such and names no other. */
static bool linear_take(struct frame *f, unsigned level)
{
    uint64_t x = type_word(f);

    do {
        if (pgt_level(x) != level || !(x & PGT_VALIDATED) || x & PGT_NAMES || !pgt_count(x) ||
            pgt_count(x) >= PGT_COUNT_MASK - 1)
            return false;
    } while (!__atomic_compare_exchange_n(&f->type, &x, (x + 1) | PGT_NAMED, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
    return true;
}

int linear_ref(struct frame *table, unsigned level, struct frame *f, struct domain *d)
{
    if (level < 2 || !frame_get(f, d))
        return -EINVAL;
    /* Only a table that could be named makes its own mark; two that name each other at once both fail. */
    if (pgt_level(type_word(f)) == level && linear_mark(table, PGT_NAMES, PGT_NAMED) && linear_take(f, level))
        return 0;
    frame_put(f);
    return -EINVAL;
}

int upper_entry_ref(uint64_t e, unsigned level, struct frame *table, struct domain *d, struct frame **child)
{
    struct frame *f;
    int r;

    *child = NULL;
    f = frame_named(pte_mfn(e));
    if (!entry_flags_ok(d, e, level) || !f)
        return -EINVAL;
    if (entry_is_self(e, level, table))
        return e & PTE_RW ? -EINVAL : 0;
    if (!frame_get(f, d))
        return -EINVAL;
    r = type_ref(f, pgt_of_level(level - 1), d);
    if (r)
        frame_put(f);
    if (r == -EINVAL && !(e & PTE_RW))
        r = linear_ref(table, level, f, d);
    if (!r)
        *child = f;
    return r;
}

struct frame *upper_entry_child(uint64_t e, const struct frame *table)
{
    if (!(e & PTE_P) || mfn_eq(pte_mfn(e), frame_mfn(table)))
        return NULL;
    return mfn_frame(pte_mfn(e));
}
