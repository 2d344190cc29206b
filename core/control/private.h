/* Inside core/control only. */
#ifndef CORE_CONTROL_PRIVATE_H
#define CORE_CONTROL_PRIVATE_H

#include "core/control.h"

/* wire.c: the forms that structures have in the releases served. */
bool domctl_version_ok(uint32_t version);
bool sysctl_version_ok(uint32_t version);
/* createdomain's arguments in op->u, as `version` lays them out. */
void wire_read_create(uint32_t version, const struct xen_domctl *op, struct domctl_create *out);

/* create.c, domain_ctl.c, vcpu_ctl.c, sched_ctl.c: one handler per domctl. */
long domctl_createdomain(struct hypercall *hc);
long domctl_destroydomain(struct hypercall *hc);
long domctl_pausedomain(struct hypercall *hc);
long domctl_unpausedomain(struct hypercall *hc);
long domctl_resumedomain(struct hypercall *hc);
long domctl_soft_reset(struct hypercall *hc);
long domctl_getdomaininfo(struct hypercall *hc);
long domctl_max_mem(struct hypercall *hc);
long domctl_setdomainhandle(struct hypercall *hc);
long domctl_settimeoffset(struct hypercall *hc);
long domctl_set_virq_handler(struct hypercall *hc);
long domctl_subscribe(struct hypercall *hc);
long domctl_max_vcpus(struct hypercall *hc);
long domctl_setvcpucontext(struct hypercall *hc);
long domctl_getvcpuinfo(struct hypercall *hc);
long domctl_sendtrigger(struct hypercall *hc);

long domctl_setvcpuaffinity(struct hypercall *hc);
long domctl_getvcpuaffinity(struct hypercall *hc);
long domctl_scheduler_op(struct hypercall *hc);
long domctl_setnodeaffinity(struct hypercall *hc);
long domctl_getnodeaffinity(struct hypercall *hc);

/* What getdomaininfo and getdomaininfolist say of d. */
void control_domain_info(struct domain *d, struct xen_domctl_getdomaininfo *out);

/* sysctl handlers. */
long sysctl_getdomaininfolist(struct hypercall *hc);
long sysctl_readconsole(struct hypercall *hc);
long sysctl_debug_keys(struct hypercall *hc);
long sysctl_physinfo(struct hypercall *hc);
long sysctl_perfc_op(struct hypercall *hc);
long sysctl_tbuf_op(struct hypercall *hc);
long sysctl_pcitopoinfo(struct hypercall *hc);
long sysctl_page_offline_op(struct hypercall *hc);
long sysctl_getcpuinfo(struct hypercall *hc);
long sysctl_availheap(struct hypercall *hc);
long sysctl_cputopoinfo(struct hypercall *hc);
long sysctl_numainfo(struct hypercall *hc);
long sysctl_sched_id(struct hypercall *hc);
long sysctl_scheduler_op(struct hypercall *hc);
long sysctl_cpupool_op(struct hypercall *hc);

#endif
