/* The processor: features found, control registers, MSRs. Everything with inline asm is behind this header
 * (metal). */
#ifndef X86_CPU_H
#define X86_CPU_H

#include "core/types.h"

/* Features we ask about by name; filled once from CPUID (arch/x86/metal/features.c). */
struct cpu_features {
    char vendor[13];
    bool intel, amd;
    uint32_t family, model, stepping;
    uint32_t max_leaf, max_ext_leaf;
    uint8_t phys_bits, virt_bits;
    bool nx, smep, smap, umip, fsgsbase, pge, pcid, x2apic, tsc_deadline, tsc_invariant, rdtscp, xsave,
        xsaveopt, xsavec, xsaves, avx, avx512, gbpages, mwait, pat, mce, mca, ibpb, ibrs, stibp, ssbd,
        md_clear, arch_caps, nrips, svm, vmx, syscall32_amd, hypervisor, rdrand, erms, invpcid, rtm,
        ibrs_always, auto_ibrs, cpuid_fault; /* CPUID outside of ring 0 faults when asked to */
    bool x87_pointers_stay;     /* over FXRSTOR and XRSTOR, but for those of a pending exception */
    uint64_t arch_capabilities; /* MSR 0x10a when arch_caps */
    uint64_t xcr0_mask;         /* what we enable */
    uint32_t xsave_size;        /* for xcr0_mask */
};
extern struct cpu_features cpu_features;
#define x86_fpu_size cpu_features.xsave_size

/* Detects; panics with a sentence about what is missing. Then per CPU: CR0, CR4, EFER, PAT, SYSCALL/SYSENTER
 * MSRs, TSS, IDT. */
void cpu_detect(void);
void cpu_init_this(unsigned cpu);
/* Descriptor tables of this CPU, whose stack area (the one we run on) begins at stack_base. IDT, TSS, GDT. */
void desc_init_this(unsigned cpu, uint64_t stack_base, uint64_t *gdt_page);
/* A handler for NMIs with interrupts off and no lock held: true = it was its. At most one; boot. */
struct guest_regs;
void nmi_set_handler(bool (*fn)(const struct guest_regs *r));
/* Prints the registers and the call trace of r (a trap frame of any context) by console_printf. */
void show_registers(const struct guest_regs *r);
/* A vCPU's own registers, whether it runs or not. */
void show_guest_registers(const struct guest_regs *r);
/* The function that contains addr, or NULL. For panic, debug keys, XENPF_get_symbol. */
const char *symbol_find(uint64_t addr, uint64_t *offset, uint64_t *size);
/* Symbol number i in address order: false at the end. */
bool symbol_get(unsigned i, uint64_t *addr, const char **name);

struct cpuid_leaf {
    uint32_t a, b, c, d;
};

#endif
