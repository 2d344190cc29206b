/* THE SEAM: the control interface. Operations whose meaning is the processor's or the guest kind's. */
#ifndef ARCH_CONTROL_H
#define ARCH_CONTROL_H

#include "core/types.h"

struct hypercall;
struct domain;
struct domctl_create;
struct xen_domctl_getdomaininfo;
struct xen_sysctl_physinfo;
struct guest_ops;

/* Rows of domctl_ops / sysctl_ops that only the architecture can answer (hc leads to the decoded operation: core/control.h). */
long arch_domctl(struct hypercall *hc);
long arch_sysctl(struct hypercall *hc);
/* createdomain: which kind of guest, and are the options ones that this machine can give? NULL ops never with 0. -EINVAL, -EOPNOTSUPP. */
int must_check arch_domain_config(const struct domctl_create *c, const struct guest_ops **ops,
                                  uint32_t *arch_flags);
/* getdomaininfo: flags (kind of guest), gpaddr_bits, arch_config. */
void arch_domain_info(const struct domain *d, struct xen_domctl_getdomaininfo *info);
/* pcitopoinfo: the NUMA node of a PCI function; XEN_INVALID_NODE_ID: not known, XEN_INVALID_DEV: nobody has reported such a function. */
uint32_t arch_pci_node(uint16_t seg, uint8_t bus, uint8_t devfn);
/* The button of a guest's case, power or sleep. -EINVAL: it has none. */
int arch_domain_button(struct domain *d, bool sleep);
/* physinfo: threads, cores, frequency, capabilities, hw_cap. */
void arch_physinfo(struct xen_sysctl_physinfo *pi);

#endif
