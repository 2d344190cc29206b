/*
 * The XSAVE state of vCPUs: switched as a whole with the vCPU, so that Krypton never waits for a first use of it.
 *
 * Invariants
 *  1. Outside of guests' turns XCR0 is the full mask and CR0.TS is clear.
 *  2. x->fpu always holds what XRSTOR or FXRSTOR loads without a fault.
 *  3. No vCPU finds the addresses of another one's last x87 instruction and operand.
 */
#include "x86/guest.h"
#include "arch/cpu.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "../metal/pvregs.h"

#define FPU_MIN       576
#define FCW_DEFAULT   0x37f
#define MXCSR_DEFAULT 0x1f80
#define MXCSR_OFFSET  24
#define XMM_OFFSET    160
#define XMM_BYTES     256
#define XSTATE_BV     512
#define XSTATE_SSE    2ull

void fpu_reset(struct x86_vcpu *x)
{
    uint16_t fcw = FCW_DEFAULT;
    uint32_t mxcsr = MXCSR_DEFAULT;

    memset(x->fpu, 0, MAX(x86_fpu_size, FPU_MIN));
    memcpy(x->fpu, &fcw, sizeof(fcw));
    memcpy((char *)x->fpu + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
}

void fpu_save(struct x86_vcpu *x)
{
    uint64_t mask = cpu_features.xcr0_mask;

    if (!cpu_features.xsave) {
        hw_fxsave(x->fpu);
        return;
    }
    if (x->xcr0 != mask)
        hw_xsetbv(mask);
    if (cpu_features.xsaveopt)
        hw_xsaveopt(x->fpu, mask);
    else
        hw_xsave(x->fpu, mask);
}

void fpu_load(struct x86_vcpu *x)
{
    uint64_t mask = cpu_features.xcr0_mask;

    if (unlikely(cpu_features.x87_pointers_stay))
        hw_x87_forget();
    if (!cpu_features.xsave) {
        hw_fxrstor(x->fpu);
        return;
    }
    hw_xrstor(x->fpu, mask);
    if (x->xcr0 != mask)
        hw_xsetbv(x->xcr0);
}

void fpu_vector(struct x86_vcpu *x, unsigned n, bool write, uint64_t value[2])
{
    uint64_t *present = (uint64_t *)((char *)x->fpu + XSTATE_BV);
    char *xmm = (char *)x->fpu + XMM_OFFSET;
    unsigned long flags = arch_irq_save();

    fpu_save(x);
    if (cpu_features.xsave && !(*present & XSTATE_SSE)) { /* as after a reset, and the memory says nothing */
        memset(xmm, 0, XMM_BYTES);
        *present |= XSTATE_SSE;
    }
    if (write)
        memcpy(xmm + (n & 15) * 16, value, 16);
    else
        memcpy(value, xmm + (n & 15) * 16, 16);
    fpu_load(x);
    arch_irq_restore(flags);
}
