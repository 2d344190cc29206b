/* The hypervisor's own address space (arch/x86/mm). */
#ifndef X86_MM_H
#define X86_MM_H

#include "core/types.h"
#include "x86/layout.h"

struct boot_info;

extern uint64_t *hyp_l4; /* master root; slots 256-271 are fixed after mm_init */
extern mfn_t hyp_l4_mfn;
/* Direct map, frame table, M2P, memory handed to the frame allocator. */
void mm_init(const struct boot_info *bi);
/* Hands the rest of the memory to the frame allocator, by node: after acpi_init, before anything allocates. */
void mm_release_memory(const struct boot_info *bi);
/* Memory of use only while booting goes to the allocator; interrupts on. */
void mm_release_init(void);
/* Maps a CPU's stack area (x86/layout.h) and its descriptor page; pages 3 and 4 of `page` are not used. False: no memory. */
bool must_check mm_map_stack(unsigned cpu, const mfn_t *page, mfn_t gdt);
/* Device memory (uncached unless wc), any length; panics only for absurd sizes, NULL when VMAP is full. */
void *mm_map_device(maddr_t base, size_t bytes);
void mm_unmap_device(void *va,
                     size_t bytes); /* also what mm_map_firmware gave; interrupts on (unless one CPU runs) */
/* Maps RAM or firmware memory that has no direct map (ACPI tables): write-back, read-only. */
void *mm_map_firmware(maddr_t base, size_t bytes);
/* Sets one PTE in a hypervisor area (stack stubs, windows); allocates tables. flags = PTE_*. */
bool must_check mm_set_page(uint64_t va, mfn_t m, uint64_t flags);
/* The 16 hypervisor entries for a guest's L4: copies slots into l4 and the domain's slot 260. */
struct domain;
void mm_fill_guest_l4(uint64_t *l4, struct domain *d);
/* The M2P in such an L4, or nothing in its place. True: that was a change. */
bool mm_show_m2p(uint64_t *l4, bool show);
/* The machine-to-physical table. */
extern uint64_t *const m2p_table;         /* = M2P_RW_VIRT; index mfn; only where m2p_present */
bool m2p_present(mfn_t m);                /* is there memory behind the entry? */
#define M2P_INVALID 0xffffffffffffffffull /* what a frame without a pfn holds: INVALID_M2P_ENTRY */
uint64_t m2p_get(mfn_t m);                /* M2P_INVALID also for frames that are not RAM */
void m2p_set(mfn_t m, uint64_t pfn);      /* no-op for frames that are not RAM */
void m2p_set_block(mfn_t m, uint64_t pfn, uint64_t n); /* n frames, all of them RAM: pfn, pfn + 1, ... */
extern uint64_t m2p_entries;                           /* first mfn beyond the table */
/* Frames of the M2P table itself: for XENMEM_machphys_mfn_list; entry i covers 2 MiB of the table.
 * INVALID_MFN: a hole. */
mfn_t m2p_frame(unsigned i);

#endif
