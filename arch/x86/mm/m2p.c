/*
 * The machine-to-physical table: entry n is the guest's own number for machine frame n. Mapped twice:
 * read-only for guests at M2P_VIRT (the interface promises it), writable for Krypton at M2P_RW_VIRT.
 *
 * Invariants
 *  1. Memory lies behind the entries of each GiB that holds RAM, in 2 MiB pieces; behind others there is
 * nothing.
 *  2. An entry whose frame has no pfn, or is not RAM, is M2P_INVALID.
 * Locks: none; entries are single words, written by the owner of the frame.
 */
#include "private.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/nospec.h"
#include "lib/string.h"
#include "x86/mm.h"

#define CHUNK         0x200000ull
#define CHUNK_ENTRIES (CHUNK / 8)
#define CHUNKS_MAX    ((DIRECT_VIRT_END - DIRECT_VIRT) >> 30)

uint64_t *const m2p_table = (uint64_t *)M2P_RW_VIRT;
uint64_t m2p_entries;
static uint64_t present[CHUNKS_MAX / 64];

bool m2p_present(mfn_t m)
{
    uint64_t chunk = m.n / CHUNK_ENTRIES;

    return m.n < m2p_entries && (present[chunk / 64] >> (chunk % 64) & 1);
}

uint64_t m2p_get(mfn_t m)
{
    return m2p_present(m) ? __atomic_load_n(&m2p_table[array_index(m.n, m2p_entries)], __ATOMIC_RELAXED)
                          : M2P_INVALID;
}

void m2p_set(mfn_t m, uint64_t pfn)
{
    if (mfn_valid(m))
        __atomic_store_n(&m2p_table[m.n], pfn, __ATOMIC_RELAXED);
}

void m2p_set_block(mfn_t m, uint64_t pfn, uint64_t n)
{
#pragma GCC unroll 4
    for (uint64_t *e = &m2p_table[m.n], *end = e + n; e < end; e++)
        __atomic_store_n(e, pfn++, __ATOMIC_RELAXED);
}

mfn_t m2p_frame(unsigned i)
{
    const uint64_t *e;

    if (!m2p_present(MFN((uint64_t)i * CHUNK_ENTRIES)))
        return INVALID_MFN;
    e = table_find(M2P_RW_VIRT + i * CHUNK, 2);
    return e && *e & PTE_P ? pte_mfn(*e) : INVALID_MFN;
}

void m2p_init(uint64_t frames, bool (*has_ram)(uint64_t first_mfn, uint64_t last_mfn))
{
    m2p_entries = ROUND_UP(frames, CHUNK_ENTRIES);
    for (uint64_t c = 0; c < m2p_entries / CHUNK_ENTRIES; c++) {
        uint64_t pa;

        if (!has_ram(c * CHUNK_ENTRIES, (c + 1) * CHUNK_ENTRIES - 1))
            continue;
        pa = early_alloc(CHUNK, CHUNK, ~0ull);
        map_range(M2P_RW_VIRT + c * CHUNK, pa, CHUNK, PTE_KRW);
        map_range(M2P_VIRT + c * CHUNK, pa, CHUNK, PTE_KRO | PTE_US);
        memset((void *)(M2P_RW_VIRT + c * CHUNK), 0xff, CHUNK);
        present[c / 64] |= 1ull << (c % 64);
    }
}
