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

/* Nested paging only (hap), and of emulated devices the local APIC: that is PVH. */
static int hvm_config(const struct domctl_create *c, const struct guest_ops **ops, uint32_t *arch_flags)
{
    if (!hvm_available() || !(c->flags & XEN_DOMCTL_CDF_hap) || c->flags & XEN_DOMCTL_CDF_nested_virt)
        return -EINVAL;
    if (c->arch.emulation_flags != XEN_X86_EMU_LAPIC)
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

gfn_t arch_shared_info_gfn(struct domain *d)
{
    return d->ops->translated ? arch_mfn_to_gfn(d, d->shared_info_mfn) : GFN(d->shared_info_mfn.n);
}
