/* Between the files of the dom0 builder. */
#ifndef PV_DOM0_PRIVATE_H
#define PV_DOM0_PRIVATE_H

#include "core/domain.h"
#include "lib/elf.h"
#include "x86/boot.h"
#include "x86/unpack.h"

/* What the kernel's ELF notes (xen/elfnote.h) and headers ask for. Addresses are guest-virtual. */
struct dom0_kernel {
    struct elf elf;
    uint64_t phys_low, phys_high; /* of the PT_LOAD segments, by p_paddr */
    uint64_t virt_base;           /* where pfn 0 is mapped */
    uint64_t virt_offset;         /* virtual = p_paddr + virt_offset */
    uint64_t entry;
    uint64_t hypercall_page; /* 0 = none wanted */
    uint64_t init_p2m;       /* 0 = p2m goes behind the kernel */
    bool initrd_unmapped;    /* MOD_START_PFN: ramdisk by pfn, not mapped */
    uint32_t features;       /* XENFEAT bits the kernel requires */
    const char *os, *os_version;
};

/* dom0's memory: pfns in runs of contiguous machine frames. */
struct dom0_run {
    uint64_t pfn;
    mfn_t mfn;
    unsigned order;
};
struct dom0_memory {
    struct domain *d;
    uint64_t pages; /* dom0's size now */
    uint64_t max_pages;
    struct dom0_run *run;
    unsigned run_count, run_max, run_order; /* run[] is 2^run_order frames */
};

/* The initial layout, in pfns (virtual = virt_base + pfn * 4096 for those below mapped_end). */
struct dom0_layout {
    uint64_t initrd_pfn, initrd_pages, initrd_bytes;
    uint64_t p2m_pfn, p2m_pages; /* the list itself */
    uint64_t p2m_table_pages;    /* page tables behind it, when it has an area of its own */
    uint64_t start_info_pfn, stack_pfn;
    uint64_t tables_pfn, tables_pages;
    uint64_t mapped_end; /* pfns [0, mapped_end) are mapped at virt_base */
    uint64_t used_end;   /* first pfn that holds nothing */
    uint64_t p2m_va;
};

/* Panics with the cause when the image cannot be a PV dom0. */
void dom0_kernel_parse(struct dom0_kernel *k, const struct kernel_image *image);

/* Decides the size from dom0_mem= (panics if it cannot be had) and allocates it. */
uint64_t dom0_memory_size(uint64_t *max_pages);
void dom0_memory_allocate(struct dom0_memory *m, struct domain *d, uint64_t pages, uint64_t max_pages);
mfn_t dom0_mfn(const struct dom0_memory *m, uint64_t pfn);
void *dom0_va(const struct dom0_memory *m, uint64_t pfn);
void dom0_memory_done(struct dom0_memory *m);

/* Number of page-table frames needed to map `pages` from va on, the L4 not counted. */
uint64_t dom0_table_count(uint64_t va, uint64_t pages);
/* Fills the tables of the layout; the L4 is at tables_pfn. Table frames themselves are mapped read-only. */
void dom0_tables_build(const struct dom0_memory *m, const struct dom0_layout *l, uint64_t virt_base);

#endif
