/*
 * sysctl: the table, and the way of every operation: read -> version -> row -> handler -> write back. As domctl.c, without a target.
 * Locks: none; handlers take those of the rooms they ask.
 */
#include "private.h"
#include "arch/control.h"
#include "core/guest.h"
#include "core/perf.h"

#define ROW(op, fn, ...)                                                                                     \
    {                                                                                                        \
        XEN_SYSCTL_##op, PERM_CONTROL, "XEN_SYSCTL_" #op, fn, ##__VA_ARGS__                                  \
    }
#define NOT(op, code, why)                                                                                   \
    {                                                                                                        \
        XEN_SYSCTL_##op, PERM_CONTROL, "XEN_SYSCTL_" #op, .refused = code, .note = why                       \
    }

const struct hc_op sysctl_ops[] = {
    ROW(readconsole, sysctl_readconsole),
    ROW(tbuf_op, sysctl_tbuf_op),
    ROW(physinfo, sysctl_physinfo),
    ROW(sched_id, sysctl_sched_id),
#if PERF_COUNTED
    ROW(perfc_op, sysctl_perfc_op, .note = "a release that is built without PERFC=1: ENOSYS"),
#else
    NOT(perfc_op, ENOSYS, "built without PERFC=1"),
#endif
    ROW(getdomaininfolist, sysctl_getdomaininfolist),
    ROW(debug_keys, sysctl_debug_keys),
    ROW(getcpuinfo, sysctl_getcpuinfo),
    ROW(availheap, sysctl_availheap),
    NOT(get_pmstat, ENODEV, "nobody drives frequencies or sleep states; the idle CPU halts"),
    NOT(cpu_hotplug, EOPNOTSUPP, "missing: CPUs stay as started"),
    NOT(pm_op, ENODEV, "see get_pmstat"),
    ROW(page_offline_op, sysctl_page_offline_op),
    NOT(lockprof_op, ENOSYS, "no lock profiling"),
    ROW(cputopoinfo, sysctl_cputopoinfo),
    ROW(numainfo, sysctl_numainfo),
    ROW(cpupool_op, sysctl_cpupool_op),
    ROW(scheduler_op, sysctl_scheduler_op, .note = "credit2's rate limit"),
    NOT(coverage_op, EOPNOTSUPP, "images carry no coverage counters"),
    NOT(psr_cmt_op, ENODEV, "no cache monitoring"),
    ROW(pcitopoinfo, sysctl_pcitopoinfo),
    NOT(psr_alloc, ENODEV, "no cache allocation"),
    ROW(get_cpu_levelling_caps, arch_sysctl),
    ROW(get_cpu_featureset, arch_sysctl, .note = "of HVM guests: EOPNOTSUPP"),
    NOT(livepatch_op, ENOSYS, "no live patching"),
    ROW(get_cpu_policy, arch_sysctl, .note = "of HVM guests: EOPNOTSUPP"),
};
const unsigned sysctl_op_count = ARRAY_SIZE(sysctl_ops);

/* arg: 0 address of a struct xen_sysctl. */
long do_sysctl(struct hypercall *hc)
{
    struct sysctl c = {.hc = *hc};
    const struct hc_op *row;
    long r;

    if (guest_read(hc->caller, &c.op, GVA(hc->arg[0]), sizeof(c.op)))
        return -EFAULT;
    c.version = c.op.interface_version;
    if (!sysctl_version_ok(c.version))
        return -EACCES;
    r = hc_op_choose(hc->caller, sysctl_ops, sysctl_op_count, c.op.cmd, &row);
    if (r)
        return r;
    r = row->fn(&c.hc);
    if (c.write_back && r != HC_AGAIN && guest_write(hc->caller, GVA(hc->arg[0]), &c.op, sizeof(c.op)))
        return -EFAULT;
    return r;
}
