/*
 * The PV MMU: from a virtual address to the entry that maps it. Tables are read without references: another
 * vCPU may change or free them meanwhile. So nothing found here is trusted: frames are looked at only if they
 * are RAM, and who writes locks the table, which checks type and owner.
 */
#include "types.h"
#include "arch/mem.h"

mfn_t walk_root(struct vcpu *v)
{
    const struct pv_vcpu *pv = pv_vcpu(v);

    return pv->kernel_mode ? pv->root_kernel : pv->root_user;
}

/* Entry for va at `level` under an L4; false when the way there is not present. *all: AND of the flags on the
 * way. */
static inline __attribute__((always_inline)) bool entry_at(mfn_t table, gva_t va, unsigned level, uint64_t *e,
                                                           uint64_t *all)
{
    *all = ~0ull;
#pragma GCC unroll 4
    for (unsigned l = 4; l > level; l--) {
        if (!mfn_valid(table))
            return false;
        *e = __atomic_load_n((uint64_t *)arch_frame_va(table) + pt_index(va.a, l), __ATOMIC_RELAXED);
        if (!(*e & PTE_P))
            return false;
        *all &= *e;
        table = pte_mfn(*e);
    }
    if (!mfn_valid(table))
        return false;
    *e = __atomic_load_n((uint64_t *)arch_frame_va(table) + pt_index(va.a, level), __ATOMIC_RELAXED);
    return true;
}

bool address_is_guests(gva_t va)
{
    return va_canonical(va.a) && !(va.a >= HYP_VIRT_START && va.a < HYP_VIRT_END);
}

struct frame *walk_l1(mfn_t root, gva_t va, unsigned *index)
{
    uint64_t e, all;

    if (!address_is_guests(va) || !entry_at(root, va, 2, &e, &all) || !(e & PTE_P) || !mfn_valid(pte_mfn(e)))
        return NULL;
    *index = pt_index(va.a, 1);
    return mfn_frame(pte_mfn(e));
}

bool walk_permits(mfn_t root, gva_t va, bool write)
{
    uint64_t e, all;

    if (!address_is_guests(va) || !entry_at(root, va, 1, &e, &all))
        return false;
    all &= e;
    return all & PTE_P && all & PTE_US && (!write || all & PTE_RW);
}

bool walk_l1e(mfn_t root, gva_t va, uint64_t *e)
{
    uint64_t all;

    return address_is_guests(va) && entry_at(root, va, 1, e, &all) && *e & PTE_P;
}

bool pv_mmu_walk(struct vcpu *v, gva_t va, uint64_t *l1e)
{
    return walk_l1e(walk_root(v), va, l1e);
}
