/*
 * FS and GS bases in the hardware: by RDFSBASE and its kin while CR4 allows them (the running guest's wish), which is much
 * cheaper than by MSR. Krypton itself uses neither segment, so it may swap GS for an instant anywhere.
 */
#ifndef METAL_BASES_H
#define METAL_BASES_H

#include "asm.h"
#include "pvregs.h"
#include "x86/msr.h"
#include "x86/percpu.h"

static inline bool bases_by_insn(void)
{
    return cpu_info()->cr4 & 1ull << 16;
}

static inline uint64_t hw_fs_base(void)
{
    uint64_t v;

    if (!bases_by_insn())
        return rdmsr(MSR_FS_BASE);
    __asm__ volatile("rdfsbase %0" : "=r"(v));
    return v;
}
static inline uint64_t hw_gs_base(void)
{
    uint64_t v;

    if (!bases_by_insn())
        return rdmsr(MSR_GS_BASE);
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}
static inline uint64_t hw_gs_shadow(void)
{
    uint64_t v;

    if (!bases_by_insn())
        return rdmsr(MSR_KERNEL_GS_BASE);
    __asm__ volatile("swapgs; rdgsbase %0; swapgs" : "=r"(v) : : "memory");
    return v;
}

/* v is canonical. */
static inline void hw_set_fs_base(uint64_t v)
{
    if (bases_by_insn())
        __asm__ volatile("wrfsbase %0" : : "r"(v));
    else
        wrmsr(MSR_FS_BASE, v);
}
static inline void hw_set_gs_base(uint64_t v)
{
    if (bases_by_insn())
        __asm__ volatile("wrgsbase %0" : : "r"(v));
    else
        wrmsr(MSR_GS_BASE, v);
}
static inline void hw_set_gs_shadow(uint64_t v)
{
    if (bases_by_insn())
        __asm__ volatile("swapgs; wrgsbase %0; swapgs" : : "r"(v) : "memory");
    else
        wrmsr(MSR_KERNEL_GS_BASE, v);
}

#endif
