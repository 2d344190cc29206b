/*
 * Control registers and MSRs of one CPU, and the seam's small questions about processors
 * (include/arch/cpu.h).
 *
 * Invariants
 *  1. CR0.TS is clear and XCR0 is cpu_features.xcr0_mask, except while a guest runs that asked otherwise
 * (pv/context.c).
 *  2. PAT is what the interface promises to PV guests: WB WT UC- UC WC WP UC UC.
 *  3. CR4.PGE stays clear: nothing is global, a load of CR3 empties the TLB (mm/tlb.c relies on it).
 */
#include "asm.h"
#include "metal.h"
#include "pvregs.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/perf.h"
#include "core/log.h"
#include "core/work.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/percpu.h"
#include "x86/platform.h"
#include "x86/spec.h"
#include "x86/msr.h"

#define EFER_SCE       0x1ull
#define EFER_NXE       0x800ull
#define PAT_PV         0x050100070406ull

#define CR0_WANTED     0x80050033ull /* PG AM WP NE ET MP PE */
#define CR4_PAE        (1ull << 5)
#define CR4_MCE        (1ull << 6)
#define CR4_OSFXSR     (1ull << 9)
#define CR4_OSXMMEXCPT (1ull << 10)
#define CR4_UMIP       (1ull << 11)
#define CR4_FSGSBASE   (1ull << 16)
#define CR4_OSXSAVE    (1ull << 18)
#define CR4_SMEP       (1ull << 20)
#define CR4_SMAP       (1ull << 21)

#define SYSCALL_CLEARS (EFLAGS_TF | EFLAGS_IF | EFLAGS_DF | EFLAGS_IOPL | EFLAGS_NT | EFLAGS_RF | EFLAGS_AC)

static uint64_t cr4_wanted(void)
{
    const struct cpu_features *f = &cpu_features;
    uint64_t v = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;

    v |= f->mce ? CR4_MCE : 0;
    v |= f->umip ? CR4_UMIP : 0;
    v |= f->fsgsbase ? CR4_FSGSBASE : 0;
    v |= f->xsave ? CR4_OSXSAVE : 0;
    v |= f->smep ? CR4_SMEP : 0;
    v |= f->smap ? CR4_SMAP : 0;
    return v;
}

static void init_syscall(const struct cpu_info *ci)
{
    uint64_t stack_base = (uint64_t)(ci + 1) - STACK_SIZE;
    uint64_t page = stack_base + STACK_PAGE_STUBS * FRAME_SIZE;

    wrmsr(MSR_STAR, (uint64_t)SEL_USER_CS32 << 48 | (uint64_t)SEL_HYP_CS << 32);
    wrmsr(MSR_LSTAR, page + (uint64_t)(stub_syscall - stubs_page));
    wrmsr(MSR_CSTAR, page + (uint64_t)(stub_cstar - stubs_page));
    wrmsr(MSR_SFMASK, SYSCALL_CLEARS);
    if (!cpu_features.intel)
        return;
    wrmsr(MSR_SYSENTER_CS, SEL_HYP_CS);
    wrmsr(MSR_SYSENTER_ESP, (uint64_t)(&ci->regs + 1));
    wrmsr(MSR_SYSENTER_EIP, (uint64_t)entry_sysenter);
}

/* On the CPU's own stack: its syscall stubs are found from there. */
#define MISC_FEATURES_CPUID_FAULT 1ull
#define HWCR_CPUID_USER_DIS       (1ull << 35)

/* CPUID of guests, kernel and user, becomes #GP from here on, and the policy's answer. Krypton itself is in ring 0. */
static void init_cpuid_fault(void)
{
    uint32_t msr = cpu_features.amd ? MSR_HWCR : MSR_MISC_FEATURES;
    uint64_t on = cpu_features.amd ? HWCR_CPUID_USER_DIS : MISC_FEATURES_CPUID_FAULT, value;

    if (!cpu_features.cpuid_fault)
        return;
    if (!rdmsr_safe(msr, &value) || !wrmsr_safe(msr, value | on))
        panic("CPUID faulting was announced and cannot be switched on");
}

void cpu_init_this(unsigned cpu)
{
    struct cpu_info *ci = cpu_info();

    hw_write_cr0(CR0_WANTED);
    ci->cr4 = cr4_wanted();
    hw_write_cr4(ci->cr4);
    if (cpu_features.xsave)
        hw_xsetbv(cpu_features.xcr0_mask);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE | EFER_NXE);
    wrmsr(MSR_PAT, PAT_PV);
    hw_write_cr3(hw_read_cr3());
    spec_init_cpu();
    init_cpuid_fault();
    init_syscall(ci);
}

/* --- the seam
 * ---------------------------------------------------------------------------------------------------------
 */

unsigned arch_cpu_id(void)
{
    return cpu_info()->cpu;
}

uint32_t *arch_perf(void)
{
    return cpu_info()->perf;
}

uint64_t arch_cycles(void)
{
    return rdtsc();
}

struct vcpu *arch_current(void)
{
    return cpu_info()->current;
}

bool arch_irq_enabled(void)
{
    return hw_flags() & EFLAGS_IF;
}

void arch_irq_disable(void)
{
    hw_cli();
}

void arch_irq_enable(void)
{
    hw_sti();
}

unsigned long arch_irq_save(void)
{
    unsigned long flags = hw_flags();

    hw_cli();
    return flags;
}

void arch_irq_restore(unsigned long flags)
{
    if (flags & EFLAGS_IF)
        hw_sti();
}

void arch_cpu_relax(void)
{
    hw_pause();
}

void arch_cpu_kick(unsigned cpu)
{
    apic_send_ipi(cpu, VEC_KICK);
}

/* HLT directly after STI: an interrupt that is due comes only once the CPU sleeps, and wakes it. */
void arch_cpu_idle(void)
{
    hw_sti_hlt();
}
