/* In place of arch/x86/metal/asm.h and pvregs.h for host builds of files that write MSRs: the processor takes any value here, since a check
 * that is missing shows in the address that was let through. */
#ifndef METAL_ASM_H
#define METAL_ASM_H
#define METAL_PVREGS_H
#define METAL_BASES_H

#include "core/log.h"
#include "x86/cpu.h"
#include "x86/msr.h"
#include "x86/pte.h"

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    if (!va_canonical(v))
        panic("MSR %#x is given %#lx: the processor would fault", msr, v);
}
static inline uint64_t rdmsr(uint32_t msr)
{
    return 0;
}

static inline void hw_set_fs_base(uint64_t v)
{
    wrmsr(MSR_FS_BASE, v);
}
static inline void hw_set_gs_base(uint64_t v)
{
    wrmsr(MSR_GS_BASE, v);
}
static inline void hw_set_gs_shadow(uint64_t v)
{
    wrmsr(MSR_KERNEL_GS_BASE, v);
}

bool hw_load_gs(uint16_t sel);
static inline uint16_t hw_read_ds(void)
{
    return 0;
}
static inline uint16_t hw_read_es(void)
{
    return 0;
}
static inline void hw_swapgs(void)
{
}

#endif
