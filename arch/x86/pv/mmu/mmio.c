/*
 * The PV MMU: a domain loses device memory. Mappings of it have no frame to count them, so all page tables of the domain are looked
 * through: rare, and only for domains that were granted some.
 *
 * The domain is paused by the caller, and the right is gone already: no vCPU of it is between the check of an entry and its writing,
 * so a table that is no validated L1 now holds no entry that was checked before.
 * Locks: page_lock while the list is walked; each table's own while it is searched.
 */
#include "types.h"
#include "core/work.h"
#include "arch/mem.h"
#include "x86/tlb.h"

#define SCAN_CHUNK 256u

/* The next L1 of d from the cursor on, or NULL: none among SCAN_CHUNK frames. *end: the list has ended. */
static struct frame *next_l1(struct domain *d, bool *end)
{
    struct x86_domain *x = x86_domain(d);
    struct frame *f, *found = NULL;

    spin_lock(&d->page_lock);
    f = x->zap_cursor ? &frame_table[x->zap_cursor] : frame_domain_first(d);
    if (f && f->owner != d->id.v) /* gone from the list meanwhile: from the start */
        f = frame_domain_first(d);
    for (unsigned n = 0; f && n < SCAN_CHUNK && !found; n++) {
        if (pgt_level(type_word(f)) == 1)
            found = f;
        f = frame_next(f);
    }
    x->zap_cursor = f ? (uint32_t)frame_mfn(f).n : 0;
    *end = !f;
    spin_unlock(&d->page_lock);
    return found;
}

static bool zap_table(struct frame *f, const struct domain *d, uint64_t first, uint64_t last)
{
    uint64_t *entry = arch_frame_va(frame_mfn(f));
    bool changed = false;

    if (!table_lock(f, d))
        return false;
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        uint64_t e = entry[i], n = pte_mfn(e).n;

        if (!(e & PTE_P) || n < first || n > last || mfn_valid(MFN(n)))
            continue;
        __atomic_store_n(&entry[i], 0, __ATOMIC_RELAXED);
        changed = true;
    }
    table_unlock(f);
    return changed;
}

int pv_mmio_zap(struct domain *d, uint64_t first, uint64_t last)
{
    bool end = false, changed = false;

    do {
        struct frame *f = next_l1(d, &end);

        if (f)
            changed |= zap_table(f, d, first, last);
    } while (!end && !preempt_needed());
    if (changed)
        tlb_flush_cpus(&x86_domain(d)->dirty_cpus, TLB_FLUSH_ALL, GVA(0));
    return end ? 0 : -EAGAIN;
}
