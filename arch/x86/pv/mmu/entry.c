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
        return !(e & CACHE_BITS) || d->hardware;
    return !(e & (PTE_PS | PTE_G | PTE_PWT | PTE_PCD));
}

/* Device memory has no frame and is not counted: who may touch it is fixed. */
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

bool entry_is_linear(uint64_t e, unsigned level, const struct frame *table)
{
    return level == 4 && e & PTE_P && mfn_eq(pte_mfn(e), frame_mfn(table));
}

int upper_entry_ref(uint64_t e, unsigned level, const struct frame *table, struct domain *d,
                    struct frame **child)
{
    struct frame *f;
    int r;

    *child = NULL;
    f = frame_named(pte_mfn(e));
    if (!entry_flags_ok(d, e, level) || !f)
        return -EINVAL;
    if (entry_is_linear(e, level, table))
        return e & PTE_RW ? -EINVAL : 0;
    if (!frame_get(f, d))
        return -EINVAL;
    r = type_ref(f, pgt_of_level(level - 1), d);
    if (r)
        frame_put(f);
    else
        *child = f;
    return r;
}

struct frame *upper_entry_child(uint64_t e, const struct frame *table)
{
    if (!(e & PTE_P) || mfn_eq(pte_mfn(e), frame_mfn(table)))
        return NULL;
    return mfn_frame(pte_mfn(e));
}
