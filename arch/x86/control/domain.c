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

int arch_domain_config(const struct domctl_create *c, const struct guest_ops **ops, uint32_t *arch_flags)
{
    if (c->flags &
        (XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap | XEN_DOMCTL_CDF_oos_off | XEN_DOMCTL_CDF_nested_virt))
        return -EINVAL; /* PV guests only, so far */
    if (c->arch.emulation_flags)
        return -EINVAL; /* devices of HVM guests */
    *ops = &pv_guest_ops;
    *arch_flags = 0;
    return 0;
}

void arch_domain_info(const struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    info->gpaddr_bits = cpu_features.phys_bits;
}

gfn_t arch_shared_info_gfn(struct domain *d)
{
    return d->ops->translated ? arch_mfn_to_gfn(d, d->shared_info_mfn) : GFN(d->shared_info_mfn.n);
}
