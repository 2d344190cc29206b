/*
 * sysctl on where things are: processors in cores, sockets and nodes, memory by node and by address.
 * Locks: none of its own; figures are a moment's.
 */
#include "private.h"
#include "arch/control.h"
#include "arch/cpu.h"
#include "core/cpumask.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/sched.h"
#include "core/work.h"

long sysctl_getcpuinfo(struct hypercall *hc)
{
    struct xen_sysctl_getcpuinfo *g = &sysctl_of(hc)->op.u.getcpuinfo;

    g->nr_cpus = MIN(g->max_cpus, cpu_count());
    for (unsigned i = 0; i < g->nr_cpus; i++) {
        struct xen_sysctl_cpuinfo one = {.idletime = sched_idle_time(i)};

        if (guest_write_at(hc->caller, HANDLE(g->info), i, &one, sizeof(one)))
            return -EFAULT;
    }
    sysctl_of(hc)->write_back = true;
    return 0;
}

long sysctl_availheap(struct hypercall *hc)
{
    struct xen_sysctl_availheap *a = &sysctl_of(hc)->op.u.availheap;

    a->avail_bytes = frame_free_region(a->node, a->min_bitwidth, a->max_bitwidth) << FRAME_SHIFT;
    sysctl_of(hc)->write_back = true;
    return 0;
}

long sysctl_cputopoinfo(struct hypercall *hc)
{
    struct xen_sysctl_cputopoinfo *t = &sysctl_of(hc)->op.u.cputopoinfo;
    unsigned n = cpu_count();

    for (unsigned i = 0; HANDLE(t->cputopo).a && i < MIN(n, t->num_cpus); i++) {
        struct xen_sysctl_cputopo one = {.node = arch_cpu_node(i)};

        arch_cpu_place(i, &one.core, &one.socket);
        if (guest_write_at(hc->caller, HANDLE(t->cputopo), i, &one, sizeof(one)))
            return -EFAULT;
    }
    t->num_cpus = n;
    sysctl_of(hc)->write_back = true;
    return 0;
}

/* Memory and distances of node i; rows of the matrix have n elements. */
static int numa_one(struct vcpu *caller, const struct xen_sysctl_numainfo *ni, unsigned i, unsigned n)
{
    struct xen_sysctl_meminfo m = {.memsize = frame_total_node(i) << FRAME_SHIFT,
                                   .memfree = frame_free_node(i) << FRAME_SHIFT};

    if (HANDLE(ni->meminfo).a && guest_write_at(caller, HANDLE(ni->meminfo), i, &m, sizeof(m)))
        return -EFAULT;
    for (unsigned j = 0; HANDLE(ni->distance).a && j < n; j++) {
        uint32_t d = arch_node_distance(i, j);

        if (guest_write_at(caller, HANDLE(ni->distance), i * n + j, &d, sizeof(d)))
            return -EFAULT;
    }
    return 0;
}

/* An array that is too short gets what fits: rows then have the caller's number of elements, not ours. */
long sysctl_numainfo(struct hypercall *hc)
{
    struct xen_sysctl_numainfo *ni = &sysctl_of(hc)->op.u.numainfo;
    unsigned n = MIN(arch_node_count(), ni->num_nodes);

    for (unsigned i = 0; i < n; i++)
        if (numa_one(hc->caller, ni, i, n))
            return -EFAULT;
    ni->num_nodes = arch_node_count();
    sysctl_of(hc)->write_back = true;
    return 0;
}

/* As many as asked for, preemptible: num_devs of the caller's structure is how far it came. */
long sysctl_pcitopoinfo(struct hypercall *hc)
{
    struct xen_sysctl_pcitopoinfo *t = &sysctl_of(hc)->op.u.pcitopoinfo;
    uint32_t i;

    if (!HANDLE(t->devs).a || !HANDLE(t->nodes).a)
        return -EINVAL;
    for (i = 0; i < t->num_devs && !(i && preempt_needed()); i++) {
        struct physdev_pci_device dev;
        uint32_t node;

        if (guest_read_at(hc->caller, &dev, HANDLE(t->devs), i, sizeof(dev)))
            return -EFAULT;
        node = arch_pci_node(dev.seg, dev.bus, dev.devfn);
        if (guest_write_at(hc->caller, HANDLE(t->nodes), i, &node, sizeof(node)))
            return -EFAULT;
    }
    t->num_devs = i;
    sysctl_of(hc)->write_back = true;
    return 0;
}
