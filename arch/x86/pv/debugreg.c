/*
 * Debug registers of PV guests (SDM vol. 3 17.2).
 *
 * Invariants
 *  1. No breakpoint address lies in the hypervisor's part of the address space.
 *  2. DR7 never has GD set; reserved bits are as the hardware wants them, so loading them cannot fault.
 */
#include "private.h"
#include "arch/cpu.h"
#include "core/nospec.h"

#define DR6_RESERVED_ONE  0xffff0ff0ull
#define DR6_RESERVED_ZERO 0x1000ull
#define DR7_RESERVED_ONE  0x400ull
#define DR7_RESERVED_ZERO 0xd800ull
#define DR7_GD            0x2000ull
#define DR7_ENABLES       0xffull
#define CR4_DE            0x8ull

/* 0, -EPERM: an I/O breakpoint that the guest did not switch on with CR4.DE, or general detect. */
static int check_dr7(const struct pv_vcpu *pv, uint64_t v)
{
    if (v & DR7_GD)
        return -EPERM;
    for (unsigned i = 0; i < 4 && (v & DR7_ENABLES); i++)
        if ((v >> (16 + 4 * i) & 3) == 2 && !(pv->cr4_guest & CR4_DE))
            return -EPERM;
    return 0;
}

int pv_set_debugreg(struct vcpu *v, unsigned reg, uint64_t value)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    int err = 0;

    if (reg == 4 || reg == 5) {
        if (pv->cr4_guest & CR4_DE)
            return -ENODEV;
        reg += 2;
    }
    switch (reg) {
    case 0 ... 3:
        if (!pv_range_ok(value, 8))
            return -EPERM;
        pv->dr[array_index(reg, 4)] = value;
        break;
    case 6: /* bits 32-63 of DR6 and DR7: #GP on the processor */
        if (value >> 32)
            return -EINVAL;
        pv->dr[6] = (value & ~DR6_RESERVED_ZERO) | DR6_RESERVED_ONE;
        return 0;
    case 7:
        if (value >> 32)
            return -EINVAL;
        value = (value & ~DR7_RESERVED_ZERO) | DR7_RESERVED_ONE;
        err = check_dr7(pv, value);
        if (!err)
            pv->dr[7] = value;
        break;
    default:
        return -EINVAL;
    }
    if (!err && v == arch_current())
        pv_load_debug_registers(v);
    return err;
}

int pv_get_debugreg(struct vcpu *v, unsigned reg, uint64_t *value)
{
    const struct pv_vcpu *pv = pv_vcpu(v);

    if (reg == 4 || reg == 5) {
        if (pv->cr4_guest & CR4_DE)
            return -ENODEV;
        reg += 2;
    }
    if (reg > 7)
        return -EINVAL;
    *value = pv->dr[array_index(reg, ARRAY_SIZE(pv->dr))];
    return 0;
}

long do_set_debugreg(struct hypercall *hc)
{
    return pv_set_debugreg(hc->caller, hc_u32(hc, 0), hc->arg[1]);
}

/* The interface returns the value itself: a refusal looks like a large value (xen/arch-x86/xen.h). */
long do_get_debugreg(struct hypercall *hc)
{
    uint64_t value;
    int err = pv_get_debugreg(hc->caller, hc_u32(hc, 0), &value);

    return err ? -EINVAL : (long)value;
}
