/*
 * Krypton's own page tables: L4 slots 256-271 (x86/layout.h), the same in every address space but for slot
 * 260.
 *
 * Invariants
 *  1. The L4 entries of these slots exist after mm_init and do not change: guests' L4s hold copies.
 *  2. An entry that is not present may become present at any time; a present one is changed only together
 * with a flush.
 *  3. Only slot 256 has entries for ring 3 (the guests' view of the M2P), and they are read-only.
 * Locks: vmap.c's for its slot; the rest is built while one CPU runs, or belongs to one CPU (stack areas).
 */
#include "private.h"
#include "arch/mem.h"
#include "core/frame.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/mm.h"

uint64_t *hyp_l4;
mfn_t hyp_l4_mfn;
bool tables_from_heap;
uint64_t tables_limit = 1ull << 32;

static uint64_t *new_table(void)
{
    uint64_t *t;

    if (tables_from_heap)
        return frame_alloc_va(0);
    t = (uint64_t *)(DIRECT_VIRT + early_alloc(FRAME_SIZE, FRAME_SIZE, tables_limit));
    memset(t, 0, FRAME_SIZE);
    return t;
}

static uint64_t *table_of(uint64_t entry)
{
    return arch_frame_va(pte_mfn(entry));
}

uint64_t *table_entry(uint64_t va, unsigned level)
{
    uint64_t *t = hyp_l4;
    uint64_t user = pt_index(va, 4) == HYP_SLOT_FIRST ? PTE_US : 0;

    for (unsigned l = 4; l > level; l--) {
        uint64_t *e = &t[pt_index(va, l)];

        if (!(*e & PTE_P)) {
            uint64_t *n = new_table();

            if (!n)
                return NULL;
            __atomic_store_n(e, pte_make(arch_va_mfn(n), PTE_TABLE | user), __ATOMIC_RELEASE);
        }
        BUG_ON(l < 4 && *e & PTE_PS);
        t = table_of(*e);
    }
    return &t[pt_index(va, level)];
}

uint64_t *table_find(uint64_t va, unsigned level)
{
    uint64_t *t = hyp_l4;

    for (unsigned l = 4; l > level; l--) {
        uint64_t e = t[pt_index(va, l)];

        if (!(e & PTE_P) || (l < 4 && e & PTE_PS))
            return NULL;
        t = table_of(e);
    }
    return &t[pt_index(va, level)];
}

static unsigned largest_level(uint64_t va, uint64_t pa, uint64_t bytes)
{
    uint64_t both = va | pa;

    if (cpu_features.gbpages && !(both & 0x3fffffff) && bytes >= 0x40000000)
        return 3;
    return !(both & 0x1fffff) && bytes >= 0x200000 ? 2 : 1;
}

void map_range(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    while (bytes) {
        unsigned level = largest_level(va, pa, bytes);
        uint64_t step = 1ull << (12 + 9 * (level - 1));
        uint64_t *e = table_entry(va, level);

        if (!e)
            panic("no memory for Krypton's page tables");
        *e = pte_make(maddr_to_mfn(MADDR(pa)), flags | (level > 1 ? PTE_PS : 0));
        va += step;
        pa += step;
        bytes -= step;
    }
}

void map_pages(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    for (uint64_t off = 0; off < bytes; off += FRAME_SIZE) {
        uint64_t *e = table_entry(va + off, 1);

        if (!e)
            panic("no memory for Krypton's page tables");
        *e = pte_make(maddr_to_mfn(MADDR(pa + off)), flags);
    }
}

bool mm_set_page(uint64_t va, mfn_t m, uint64_t flags)
{
    uint64_t *e = table_entry(va, 1);

    if (!e)
        return false;
    __atomic_store_n(e, pte_make(m, flags), __ATOMIC_RELEASE);
    return true;
}
