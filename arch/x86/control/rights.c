/*
 * domctl: device rights (xen/domctl.h: irq_, gsi_, ioport_, iomem_permission). A domain gets what the caller has itself; what is taken
 * from it is also taken out of its page tables and interrupt mappings.
 * Locks: none; those of the rights.
 */
#include "private.h"
#include "core/guest.h"
#include "arch/guest_ops.h"
#include "x86/p2m.h"
#include "x86/platform.h"
#include "x86/pv.h"

/* As of 4.20; older headers do not have it. */
struct gsi_permission {
    uint32_t gsi;
    uint8_t flag; /* 1 grant, 0 revoke */
    uint8_t pad[3];
};

static long irq_permission(struct domctl *c)
{
    const struct xen_domctl_irq_permission *p = &c->op.u.irq_permission;

    return rights_set_pirq(c->d, c->hc.caller->domain, p->pirq, p->allow_access != 0);
}

static long gsi_permission(struct domctl *c)
{
    const struct gsi_permission *p = (const struct gsi_permission *)&c->op.u;

    if (p->flag > 1 || p->pad[0] || p->pad[1] || p->pad[2])
        return -EINVAL;
    return rights_set_gsi(c->d, c->hc.caller->domain, p->gsi, p->flag);
}

static long ioport_permission(struct domctl *c)
{
    const struct xen_domctl_ioport_permission *p = &c->op.u.ioport_permission;

    return rights_set_ports(c->d, c->hc.caller->domain, p->first_port, p->nr_ports, p->allow_access != 0);
}

/* The right goes first: the guest cannot map again what is being taken out of its tables. Preemptible. */
static long iomem_take(struct domain *d, const struct domain *by, uint64_t first, uint64_t count)
{
    int r = 0;

    if (d == by) /* cannot be paused; what it has mapped it may keep until it unmaps it */
        return rights_set_iomem(d, by, first, count, false);
    domain_pause(d);
    r = rights_set_iomem(d, by, first, count, false);
    if (!r && x86_domain(d)->devices)
        r = d->ops->translated ? p2m_mmio_zap(d, MFN(first), MFN(first + count - 1))
                               : pv_mmio_zap(d, first, first + count - 1);
    domain_unpause(d);
    return r == -EAGAIN ? HC_AGAIN : r;
}

static long iomem_permission(struct domctl *c)
{
    const struct xen_domctl_iomem_permission *p = &c->op.u.iomem_permission;
    const struct domain *by = c->hc.caller->domain;

    if (p->allow_access)
        return rights_set_iomem(c->d, by, p->first_mfn, p->nr_mfns, true);
    return iomem_take(c->d, by, p->first_mfn, p->nr_mfns);
}

long control_rights(struct domctl *c)
{
    switch (c->op.cmd) {
    case XEN_DOMCTL_irq_permission:
        return irq_permission(c);
    case XEN_DOMCTL_gsi_permission:
        return gsi_permission(c);
    case XEN_DOMCTL_ioport_permission:
        return ioport_permission(c);
    default:
        return iomem_permission(c);
    }
}
