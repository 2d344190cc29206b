/* Pinning and unpinning the page tables of a process: one L4, L3 and L2, eight full L1 tables, and the kernel's half. */
#include "bench.h"

#define L1_TABLES 8

static uint64_t *table(void)
{
    return page_alloc();
}

static uint64_t *full_l1(void)
{
    uint64_t *l1 = table();

    for (unsigned i = 0; i < 512; i += 64) {
        uint64_t pte = pte_of(page_alloc(), PTE_KERNEL);

        for (unsigned k = 0; k < 64; k++)
            l1[i + k] = pte;
    }
    return l1;
}

static uint64_t *process_tree(void)
{
    const uint64_t *own = (const uint64_t *)start_info->pt_base;
    uint64_t *l4 = table(), *l3 = table(), *l2 = table();
    long r = 0;

    for (unsigned i = 0; i < L1_TABLES; i++) {
        uint64_t *l1 = full_l1();

        l2[i] = pte_of(l1, PTE_KERNEL);
        r |= page_protect(l1);
    }
    l3[0] = pte_of(l2, PTE_KERNEL);
    l4[0] = pte_of(l3, PTE_KERNEL);
    l4[511] = own[511];
    r |= page_protect(l2) | page_protect(l3) | page_protect(l4);
    return r ? NULL : l4;
}

void bench_tree(void)
{
    uint64_t *l4 = process_tree();
    long r = l4 ? 0 : -1;

    if (!r)
        MEASURE("pin_unpin_tree", 20, {
            r |= mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0);
            r |= mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l4), 0);
        });
    print("bench-status pin_unpin_tree %ld\n", r);
}
