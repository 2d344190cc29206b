/* Between the files of arch/x86/mm. */
#ifndef MM_PRIVATE_H
#define MM_PRIVATE_H

#include "core/types.h"
#include "x86/pte.h"

struct boot_info;

/* --- early.c: memory before the frame allocator
 * ------------------------------------------------------------------------- */
void early_init(const struct boot_info *bi);
/* `bytes` (whole frames), aligned, below `limit`, as high as possible. Panics when there is none. */
uint64_t early_alloc(uint64_t bytes, uint64_t align, uint64_t limit);
/* Calls fn for each range that is left; then early_alloc is over. */
void early_finish(void (*fn)(uint64_t start, uint64_t end));

/* --- tables.c: Krypton's page tables
 * --------------------------------------------------------------------------------------- */
#define PTE_TABLE (PTE_P | PTE_RW | PTE_A | PTE_D)
#define PTE_KRW   (PTE_P | PTE_RW | PTE_A | PTE_D | PTE_NX)
#define PTE_KRO   (PTE_P | PTE_A | PTE_NX)
#define PTE_KRX   (PTE_P | PTE_A)
#define PTE_UC    (PTE_PCD | PTE_PWT)

/* Page tables come from early_alloc below `limit` until heap is true. */
extern bool tables_from_heap;
extern uint64_t tables_limit;
/* The entry for va at `level` (1 = page); tables in between are made. NULL: no memory (only after boot). */
uint64_t *table_entry(uint64_t va, unsigned level);
/* The same without making tables: NULL when there is none at that level (a superpage included). */
uint64_t *table_find(uint64_t va, unsigned level);
/* Maps with the largest pages that alignment permits. Boot only: panics without memory. */
void map_range(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags);
void map_pages(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags);

/* --- m2p.c
 * -------------------------------------------------------------------------------------------------------------------
 */
void m2p_init(uint64_t frames, bool (*has_ram)(uint64_t first_mfn, uint64_t last_mfn));

#endif
