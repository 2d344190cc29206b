/*
 * dom0's first page tables. They are ordinary guest tables: built here by hand in dom0's frames, then
 * validated by pv/mmu like any other, so a mistake in this file ends in a refused pin, not in a hole.
 */
#include "dom0_private.h"
#include "core/log.h"
#include "arch/mem.h"
#include "x86/pte.h"

#define TABLE_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

/* Hands out table frames from two ranges: the bootstrap tables, and those behind a separate p2m. */
struct pool {
    const struct dom0_memory *m;
    uint64_t next, end;
};

static mfn_t pool_take(struct pool *p)
{
    BUG_ON(p->next >= p->end);
    return dom0_mfn(p->m, p->next++);
}

static uint64_t tables_at(uint64_t va, uint64_t end, unsigned shift)
{
    return ((end - 1) >> shift) - (va >> shift) + 1;
}

uint64_t dom0_table_count(uint64_t va, uint64_t pages)
{
    uint64_t end = va + (pages << FRAME_SHIFT);

    va &= (1ull << 48) - 1;
    end = ((end - 1) & ((1ull << 48) - 1)) + 1;
    return tables_at(va, end, 21) + tables_at(va, end, 30) + tables_at(va, end, 39);
}

/* The entry for va at level 1 of the tree under the L4 at `l4`, tables made from `p` on the way. */
static uint64_t *entry_for(struct pool *p, mfn_t l4, uint64_t va)
{
    uint64_t *table = arch_frame_va(l4);

    for (unsigned level = 4; level > 1; level--) {
        uint64_t *e = &table[pt_index(va, level)];

        if (!*e)
            *e = pte_make(pool_take(p), TABLE_FLAGS);
        table = arch_frame_va(pte_mfn(*e));
    }
    return &table[pt_index(va, 1)];
}

static bool is_table(const struct dom0_layout *l, uint64_t pfn)
{
    return (pfn >= l->tables_pfn && pfn < l->tables_pfn + l->tables_pages) ||
           (pfn >= l->p2m_pfn + l->p2m_pages && pfn < l->p2m_pfn + l->p2m_pages + l->p2m_table_pages);
}

static void map(const struct dom0_memory *m, const struct dom0_layout *l, struct pool *p, uint64_t va,
                uint64_t pfn, uint64_t count)
{
    mfn_t l4 = dom0_mfn(m, l->tables_pfn);

    for (uint64_t i = 0; i < count; i++, pfn++, va += FRAME_SIZE) {
        uint64_t flags = PTE_P | PTE_US | PTE_A | PTE_D | (is_table(l, pfn) ? 0 : PTE_RW);

        *entry_for(p, l4, va) = pte_make(dom0_mfn(m, pfn), flags);
    }
}

void dom0_tables_build(const struct dom0_memory *m, const struct dom0_layout *l, uint64_t virt_base)
{
    struct pool boot = {m, l->tables_pfn + 1, l->tables_pfn + l->tables_pages};
    struct pool p2m = {m, l->p2m_pfn + l->p2m_pages, l->p2m_pfn + l->p2m_pages + l->p2m_table_pages};

    map(m, l, &boot, virt_base, 0, l->mapped_end);
    if (l->p2m_table_pages)
        map(m, l, &p2m, l->p2m_va, l->p2m_pfn, l->p2m_pages);
}
