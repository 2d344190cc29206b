/*
 * The hypervisor's virtual address space: L4 slots 256..271 of every page table (xen/arch-x86/xen-x86_64.h
 * gives the hole 0xffff800000000000-0xffff87ffffffffff). Guests own all other slots.
 *
 *  slot 256  M2P           machine-to-physical table, readable by guests (so not by Krypton itself where SMAP
 * is on) slot 257  M2P_RW        the same table for Krypton slot 258  FRAMES        struct frame for every
 * frame slot 259  VMAP          device and fixed mappings (ioremap), uncached or as asked slot 260  PERDOMAIN
 * this domain's: GDT and LDT windows of each vCPU (32 pages each) slot 261  IMAGE         Krypton's text and
 * data, per-CPU stacks (all within 2 GiB of each other) slots 262-271 DIRECT    all RAM, 5 TiB
 */
#ifndef X86_LAYOUT_H
#define X86_LAYOUT_H

#define HYP_SLOT_FIRST 256
#define HYP_SLOT_LAST  271
#define HYP_VIRT_START 0xffff800000000000
#define HYP_VIRT_END   0xffff880000000000

#define M2P_VIRT       0xffff800000000000
#define M2P_VIRT_END   0xffff804000000000 /* 256 GiB: 32 G frames */
#define M2P_RW_VIRT    0xffff808000000000
#define FRAMES_VIRT    0xffff810000000000
#define VMAP_VIRT      0xffff818000000000
#define VMAP_VIRT_END  0xffff820000000000
#define PERDOMAIN_VIRT 0xffff820000000000
#define PERDOMAIN_SLOT 260
#define IMAGE_SLOT     261
#define IMAGE_VIRT                                                                                           \
    0xffff82d040000000 /* maps physical IMAGE_PHYS_BASE 0: va = IMAGE_VIRT + pa for the image */
#define IMAGE_LOAD_PA       0x200000
#define STACKS_VIRT         0xffff82d060000000 /* per-CPU stack areas: STACK_BASE(cpu) */
#define DIRECT_VIRT         0xffff830000000000
#define DIRECT_VIRT_END     0xffff880000000000

/* Per-CPU stack area, aligned to its size. Pages: 0 NMI, 1 #MC, 2 #DF, 3 syscall stubs (RX), 4 guard, 5-7
 * main; at the very top: struct cpu_info (x86/percpu.h). */
#define STACK_ORDER         3
#define STACK_SIZE          0x8000
/* Every other STACK_SIZE of address space stays unmapped: an overflow of page 0 cannot reach the neighbour's
 * cpu_info. */
#define STACK_BASE(cpu)     (STACKS_VIRT + (uint64_t)(cpu)*2 * STACK_SIZE + STACK_SIZE)
#define STACK_PAGE_NMI      0
#define STACK_PAGE_MC       1
#define STACK_PAGE_DF       2 /* #DF and #DB: the former never returns */
#define STACK_PAGE_STUBS    3
#define STACK_PAGE_GUARD    4
#define STACK_PAGE_MAIN     5
#define STACK_PAGE_TOP      7 /* of main: where entries push */
/* In the unmapped half below a stack area: this CPU's descriptor page, for its TSS. */
#define STACK_TSS_VIRT(cpu) (STACK_BASE(cpu) - STACK_SIZE / 2)

/* Per-vCPU descriptor windows in PERDOMAIN. */
#define VCPU_WINDOW_SIZE    0x20000
#define VCPU_GDT_VIRT(id)   (PERDOMAIN_VIRT + (uint64_t)(id)*VCPU_WINDOW_SIZE)
#define VCPU_LDT_VIRT(id)   (VCPU_GDT_VIRT(id) + 0x10000)

/* Hypervisor selectors, in GDT page 14 (xen ABI: FIRST_RESERVED_GDT_ENTRY). Guest ones: FLAT_RING3_* of the
 * headers. */
#define SEL_HYP_CS          0xe008
#define SEL_HYP_DS          0xe010
#define SEL_USER_CS32       0xe023
#define SEL_USER_DS         0xe02b
#define SEL_USER_CS64       0xe033
#define SEL_TSS             0xe040
#define SEL_LDT             0xe050
#define SEL_PER_CPU         0xe060 /* limit = CPU number: lsl for getcpu-like use */
#define GDT_HYP_PAGE        14
/* The last byte of it that is descriptors: the CPU's TSS lies in the same page behind them. */
#define GDT_GUEST_LIMIT     (SEL_PER_CPU + 7)

#endif
