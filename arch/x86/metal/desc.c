/*
 * Descriptor tables: one IDT for all CPUs; per CPU a page with its GDT (page 14 of every GDT it ever loads,
 * see x86/layout.h) and, in the unused second half of that page, its TSS.
 *
 * Invariants
 *  1. Selectors 0xe008-0xe067 mean the same in every GDT a CPU loads: while a guest runs, GDTR points to the
 * vCPU's window, whose page 14 is this page; otherwise to this page, so placed that index 0x1c01 falls on its
 * second entry.
 *  2. Only gates 3 (INT3), 4 (INTO) and 0x80 are open to ring 3.
 *  3. The IDT is not written after mm_init (it lies in .data.ro_after_init).
 * Locks: none; each CPU writes its own page.
 */
#include "asm.h"
#include "metal.h"
#include "offsets.h"
#include "pvregs.h"
#include "core/log.h"
#include "arch/mem.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/percpu.h"
#include "x86/vcpu.h"
#include "core/abi.h"

_Static_assert(sizeof(struct guest_regs) == REGS_SIZE && offsetof(struct guest_regs, rcx) == REGS_RCX &&
                   offsetof(struct guest_regs, r11) == REGS_R11 &&
                   offsetof(struct guest_regs, vector) == REGS_VECTOR &&
                   offsetof(struct guest_regs, rip) == REGS_RIP && offsetof(struct guest_regs, ss) == REGS_SS,
               "offsets.h");
_Static_assert(sizeof(struct cpu_info) == INFO_SIZE && offsetof(struct cpu_info, scratch) == INFO_SCRATCH &&
                   offsetof(struct cpu_info, current) == INFO_CURRENT &&
                   offsetof(struct cpu_info, flags) == INFO_FLAGS &&
                   offsetof(struct cpu_info, guest_cr3) == INFO_GUEST_CR3 &&
                   offsetof(struct cpu_info, hyp_cr3) == INFO_HYP_CR3 && offsetof(struct cpu_info, regs) == 0,
               "offsets.h");

_Static_assert(offsetof(struct cpu_info, work) == INFO_WORK && offsetof(struct x86_vcpu, core) == 0 &&
                   offsetof(struct vcpu, info) == VCPU_INFO &&
                   offsetof(struct x86_vcpu, pv.nmi_pending) == VCPU_NMI_MCE_PENDING &&
                   offsetof(struct pv_vcpu, mce_pending) == offsetof(struct pv_vcpu, nmi_pending) + 1 &&
                   offsetof(vcpu_info_t, evtchn_upcall_pending) == 0 &&
                   offsetof(vcpu_info_t, evtchn_upcall_mask) == 1,
               "offsets.h");

#define GDT_ENTRIES_PER_PAGE 512
#define TSS_INDEX            256 /* of the page, in descriptors: byte 2048 */
#define TSS_SIZE             104

#define CODE64_RING0         0x00af9b000000ffffull
#define DATA_RING0           0x00cf93000000ffffull
#define CODE32_RING3         0x00cffb000000ffffull
#define DATA_RING3           0x00cff3000000ffffull
#define CODE64_RING3         0x00affb000000ffffull
#define SEGMENT_CPU          0x0040f30000000000ull

enum { IST_NONE, IST_NMI, IST_MC, IST_DF };

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap;
} __attribute__((packed));
_Static_assert(sizeof(struct tss) == TSS_SIZE, "AMD APM vol. 2 12.2.5");

struct gate {
    uint16_t offset0, selector;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, reserved;
};

#define INDEX(sel) (((sel)&0xfff) / 8)

/* head.S loads it before any C runs: its first descriptors are constants. */
uint64_t boot_gdt_page[GDT_ENTRIES_PER_PAGE] __attribute__((section(".data.page_aligned"), aligned(4096))) = {
    [INDEX(SEL_HYP_CS)] = CODE64_RING0,    [INDEX(SEL_HYP_DS)] = DATA_RING0,
    [INDEX(SEL_USER_CS32)] = CODE32_RING3, [INDEX(SEL_USER_DS)] = DATA_RING3,
    [INDEX(SEL_USER_CS64)] = CODE64_RING3, [INDEX(SEL_PER_CPU)] = SEGMENT_CPU,
};
static struct gate idt[256] RO_AFTER_INIT __attribute__((aligned(4096)));
static uint64_t *gdt_pages[MAX_CPUS] = {boot_gdt_page};
static mfn_t gdt_mfns[MAX_CPUS];

uint64_t *cpu_gdt_page(void)
{
    return gdt_pages[cpu_info()->cpu];
}

mfn_t cpu_gdt_mfn(void)
{
    return gdt_mfns[cpu_info()->cpu];
}

void cpu_load_own_gdt(void)
{
    hw_lldt(0);
    hw_lgdt((uint64_t)cpu_gdt_page() - GDT_HYP_PAGE * FRAME_SIZE, (GDT_HYP_PAGE + 1) * FRAME_SIZE - 1);
}

static void set_gate(unsigned vector, unsigned ist, unsigned dpl)
{
    uint64_t at = (uint64_t)trap_gates + vector * 16;

    idt[vector] = (struct gate){
        .offset0 = (uint16_t)at,
        .selector = SEL_HYP_CS,
        .ist = (uint8_t)ist,
        .type = (uint8_t)(0x8e | dpl << 5), /* present interrupt gate */
        .offset1 = (uint16_t)(at >> 16),
        .offset2 = (uint32_t)(at >> 32),
    };
}

uint64_t desc_idt(void)
{
    return (uint64_t)idt;
}

void desc_init_idt(void)
{
    for (unsigned v = 0; v < 256; v++)
        set_gate(v, IST_NONE, v == TRAP_BP || v == TRAP_OF || v == 0x80 ? 3 : 0);
    set_gate(TRAP_NMI, IST_NMI, 0);
    set_gate(TRAP_MC, IST_MC, 0);
    set_gate(TRAP_DF, IST_DF, 0);
    set_gate(TRAP_DB, IST_DF, 0);
}

/* The TSS is read at the address given here, which must be mapped while guests run (xpti): the descriptor page has one
 * by the stack area, once that is mapped. */
static void set_tss(unsigned cpu, uint64_t *gdt, uint64_t stack_base)
{
    struct tss *t = (struct tss *)&gdt[TSS_INDEX];
    uint64_t base = stack_base == STACK_BASE(cpu) ? STACK_TSS_VIRT(cpu) + TSS_INDEX * 8 : (uint64_t)t;

    *t = (struct tss){.iomap = TSS_SIZE};
    t->rsp[0] = stack_base + STACK_SIZE - sizeof(struct cpu_info) + sizeof(struct guest_regs);
    t->ist[IST_NMI - 1] = stack_base + (STACK_PAGE_NMI + 1) * FRAME_SIZE;
    t->ist[IST_MC - 1] = stack_base + (STACK_PAGE_MC + 1) * FRAME_SIZE;
    t->ist[IST_DF - 1] = stack_base + (STACK_PAGE_DF + 1) * FRAME_SIZE;
    gdt[INDEX(SEL_TSS)] =
        (TSS_SIZE - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[INDEX(SEL_TSS) + 1] = base >> 32;
}

void desc_init_this(unsigned cpu, uint64_t stack_base, uint64_t *gdt)
{
    uint64_t va = (uint64_t)gdt;

    if (gdt != boot_gdt_page)
        for (unsigned i = 0; i < TSS_INDEX; i++)
            gdt[i] = i == INDEX(SEL_LDT) || i == INDEX(SEL_LDT) + 1 ? 0 : boot_gdt_page[i];
    gdt[INDEX(SEL_PER_CPU)] = SEGMENT_CPU | cpu;
    set_tss(cpu, gdt, stack_base);
    gdt_pages[cpu] = gdt;
    gdt_mfns[cpu] = va >= DIRECT_VIRT ? arch_va_mfn(gdt) : maddr_to_mfn(MADDR(va - IMAGE_VIRT));
    cpu_load_own_gdt();
    hw_load_cs(SEL_HYP_CS);
    hw_lidt((uint64_t)idt, sizeof(idt) - 1);
    hw_ltr(SEL_TSS);
}
