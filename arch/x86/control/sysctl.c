/*
 * sysctl's rows that only x86 can answer, and the machine's figures.
 */
#include "arch/control.h"
#include "core/control.h"
#include "x86/cpu.h"
#include "x86/platform.h"

long arch_sysctl(struct hypercall *hc)
{
    return -ENOSYS;
}

void arch_physinfo(struct xen_sysctl_physinfo *p)
{
    p->threads_per_core = 1;
    p->cores_per_socket = p->nr_cpus;
    p->capabilities = XEN_SYSCTL_PHYSCAP_pv;
}
