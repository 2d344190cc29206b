/* Page-table entries (Intel SDM vol. 3 4.5, AMD APM vol. 2 5.4). Pure: used by mm, pv/mmu and the host tests. */
#ifndef X86_PTE_H
#define X86_PTE_H

#include "core/types.h"

#define PTE_P        0x001ull
#define PTE_RW       0x002ull
#define PTE_US       0x004ull
#define PTE_PWT      0x008ull
#define PTE_PCD      0x010ull
#define PTE_A        0x020ull
#define PTE_D        0x040ull
#define PTE_PS       0x080ull /* L2, L3 */
#define PTE_PAT      0x080ull /* L1 */
#define PTE_G        0x100ull
#define PTE_AVAIL0   0x200ull
#define PTE_AVAIL1   0x400ull
#define PTE_AVAIL2   0x800ull
#define PTE_NX       (1ull << 63)
#define PTE_MFN_MASK 0x000ffffffffff000ull

static inline mfn_t pte_mfn(uint64_t e)
{
    return MFN((e & PTE_MFN_MASK) >> FRAME_SHIFT);
}
static inline uint64_t pte_flags(uint64_t e)
{
    return e & ~PTE_MFN_MASK;
}
static inline uint64_t pte_make(mfn_t m, uint64_t flags)
{
    return (m.n << FRAME_SHIFT) | flags;
}
static inline unsigned pt_index(uint64_t va, unsigned level) /* level 1..4 */
{
    return (unsigned)(va >> (12 + 9 * (level - 1))) & 511;
}
static inline bool va_canonical(uint64_t va)
{
    return ((int64_t)(va << 16) >> 16) == (int64_t)va;
}

#endif
