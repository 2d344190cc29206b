/*
 * The control interface's questions about guests that only x86 can answer: what kinds there are, what is told of them.
 * No state, no locks.
 */
#include "arch/control.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "core/control.h"
#include "core/domain.h"
#include "x86/cpu.h"
#include "x86/hvm.h"

/* What type="hvm" has: all that is emulated but PCI configuration for PVH dom0; PIRQs by event channels may be asked for. */
#define FULL_HVM (XEN_X86_EMU_ALL & ~(XEN_X86_EMU_VPCI | XEN_X86_EMU_USE_PIRQ))

/* Nested paging only (hap), and of emulated devices the local APIC, that is PVH, or all of them. */
static int hvm_config(const struct domctl_create *c, const struct guest_ops **ops, uint32_t *arch_flags)
{
    if (!hvm_available() || !(c->flags & XEN_DOMCTL_CDF_hap) || c->flags & XEN_DOMCTL_CDF_nested_virt)
        return -EINVAL;
    if (c->arch.emulation_flags != XEN_X86_EMU_LAPIC &&
        (c->arch.emulation_flags & ~XEN_X86_EMU_USE_PIRQ) != FULL_HVM)
        return c->arch.emulation_flags & ~XEN_X86_EMU_ALL ? -EINVAL : -EOPNOTSUPP;
    *ops = &hvm_guest_ops;
    *arch_flags = c->arch.emulation_flags;
    return 0;
}

int arch_domain_config(const struct domctl_create *c, const struct guest_ops **ops, uint32_t *arch_flags)
{
    if (c->flags & XEN_DOMCTL_CDF_hvm)
        return hvm_config(c, ops, arch_flags);
    if (c->flags & (XEN_DOMCTL_CDF_hap | XEN_DOMCTL_CDF_oos_off | XEN_DOMCTL_CDF_nested_virt))
        return -EINVAL;
    if (c->arch.emulation_flags)
        return -EINVAL; /* devices of HVM guests */
    *ops = &pv_guest_ops;
    *arch_flags = 0;
    return 0;
}

void arch_domain_info(const struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    info->gpaddr_bits = cpu_features.phys_bits;
    if (!d->ops->translated)
        return;
    info->flags |= XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
    info->arch_config.emulation_flags = hvm_domain(d)->emulation_flags;
}

int arch_domain_button(struct domain *d, bool sleep)
{
    if (!d->ops->translated || !hvm_domain(d)->board)
        return -EINVAL;
    return sleep ? hvm_sleep_button(d) : hvm_power_button(d);
}

gfn_t arch_shared_info_gfn(struct domain *d)
{
    return d->ops->translated ? arch_mfn_to_gfn(d, d->shared_info_mfn) : GFN(d->shared_info_mfn.n);
}
