/* The fake machine's answers to the control interface. */
#include "fake.h"
#include "fake_private.h"
#include "arch/control.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "core/control.h"
#include "core/domain.h"

weak long arch_domctl(struct hypercall *hc)
{
    return -ENOSYS;
}
weak long arch_sysctl(struct hypercall *hc)
{
    return -ENOSYS;
}
weak int arch_domain_config(const struct domctl_create *c, const struct guest_ops **ops, uint32_t *arch_flags)
{
    *ops = &fake_guest_ops;
    *arch_flags = 0;
    return 0;
}
weak void arch_domain_info(const struct domain *d, struct xen_domctl_getdomaininfo *info)
{
}
weak int arch_domain_button(struct domain *d, bool sleep)
{
    return -EINVAL;
}
weak uint32_t arch_pci_node(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    return bus == 1 ? 0 : bus == 2 ? XEN_INVALID_NODE_ID : XEN_INVALID_DEV;
}
weak void arch_physinfo(struct xen_sysctl_physinfo *pi)
{
}
weak gfn_t arch_shared_info_gfn(struct domain *d)
{
    return GFN(d->shared_info_mfn.n);
}
