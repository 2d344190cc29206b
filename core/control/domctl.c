/*
 * domctl: the table, and the way of every operation: read -> version -> row -> permission -> target -> handler -> write back.
 *
 * Invariants
 *  1. The operation is copied in once; nothing of it is read again from the caller's memory.
 *  2. The target is referenced while the handler runs; a dying domain is a target, too (each operation says what it does with one).
 *  3. An operation that no row has is refused with ENOSYS, a wrong interface version with EACCES (tools show "Permission denied"), both
 *     before anything is looked up.
 * Locks: none; handlers take the domain's.
 */
#include "private.h"
#include "arch/control.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/nospec.h"

#define ROW(op, fn, ...)                                                                                     \
    {                                                                                                        \
        XEN_DOMCTL_##op, PERM_CONTROL, "XEN_DOMCTL_" #op, fn, ##__VA_ARGS__                                  \
    }
#define NOT(op, code, why)                                                                                   \
    {                                                                                                        \
        XEN_DOMCTL_##op, PERM_CONTROL, "XEN_DOMCTL_" #op, .refused = code, .note = why                       \
    }
#define HVM "devices of HVM guests are not there yet"

const struct hc_op domctl_ops[] = {
    ROW(createdomain, domctl_createdomain),
    ROW(destroydomain, domctl_destroydomain),
    ROW(pausedomain, domctl_pausedomain),
    ROW(unpausedomain, domctl_unpausedomain),
    ROW(getdomaininfo, domctl_getdomaininfo,
        .note = "the next domain from the id on for 4.17's tools, exactly that domain for later ones"),
    ROW(setvcpuaffinity, domctl_setvcpuaffinity),
    ROW(shadow_op, arch_domctl,
        .note = "the paging pool and log-dirty of HVM domains; PV domains: EOPNOTSUPP"),
    ROW(max_mem, domctl_max_mem),
    ROW(setvcpucontext, domctl_setvcpucontext),
    ROW(getvcpucontext, arch_domctl),
    ROW(getvcpuinfo, domctl_getvcpuinfo),
    ROW(max_vcpus, domctl_max_vcpus),
    ROW(scheduler_op, domctl_scheduler_op,
        .note = "credit2's weight and cap; vCPUs have no parameters of their own"),
    ROW(setdomainhandle, domctl_setdomainhandle),
    ROW(setdebugging, arch_domctl),
    ROW(irq_permission, arch_domctl),
    ROW(iomem_permission, arch_domctl),
    ROW(ioport_permission, arch_domctl),
    ROW(hypercall_init, arch_domctl),
    {23, PERM_CONTROL, "XEN_DOMCTL_soft_reset_cont", .refused = ENOSYS,
     .note = "not in the headers for tools: another hypervisor's own way on"},
    ROW(settimeoffset, domctl_settimeoffset),
    ROW(getvcpuaffinity, domctl_getvcpuaffinity),
    NOT(real_mode_area, ENOSYS, "an operation of PowerPC"),
    ROW(resumedomain, domctl_resumedomain),
    ROW(sendtrigger, domctl_sendtrigger, .note = "NMI; POWER and SLEEP for HVM guests"),
    ROW(subscribe, domctl_subscribe),
    ROW(gethvmcontext, arch_domctl,
        .note = "HEADER, CPU, CPU_XSAVE, LAPIC, LAPIC_REGS, MTRR; with emulated devices PIC to PMTIMER; "
                "EINVAL for PV "
                "guests"),
    ROW(sethvmcontext, arch_domctl, .note = "the same"),
    ROW(set_address_size, arch_domctl, .note = "64; 32-bit PV guests: EOPNOTSUPP"),
    ROW(get_address_size, arch_domctl),
    NOT(assign_device, ENOSYS, "no IOMMU driver yet"),
    NOT(bind_pt_irq, EINVAL, HVM),
    ROW(memory_mapping, arch_domctl),
    NOT(ioport_mapping, EINVAL, HVM),
    ROW(set_ext_vcpucontext, arch_domctl, .note = "without machine-check banks: EPERM"),
    ROW(get_ext_vcpucontext, arch_domctl),
    NOT(set_opt_feature, ENOSYS, "an operation of Itanium"),
    NOT(test_assign_device, ENOSYS, "no IOMMU driver yet"),
    NOT(set_target, EOPNOTSUPP, "stub domains serve HVM guests"),
    NOT(deassign_device, ENOSYS, "no IOMMU driver yet"),
    NOT(unbind_pt_irq, EINVAL, HVM),
    NOT(get_device_group, ENOSYS, "no IOMMU driver yet"),
    NOT(debug_op, EOPNOTSUPP, "single steps by the processor are for HVM guests; a PV kernel has TF"),
    ROW(gethvmcontext_partial, arch_domctl, .note = "the same"),
    NOT(vm_event_op, EOPNOTSUPP, "no introspection"),
    NOT(mem_sharing_op, EOPNOTSUPP, "no page sharing"),
    ROW(gettscinfo, arch_domctl),
    ROW(settscinfo, arch_domctl,
        .note = "PV guests: default and never emulated, at the machine's frequency, else EOPNOTSUPP"),
    ROW(getpageframeinfo3, arch_domctl),
    ROW(setvcpuextstate, arch_domctl),
    ROW(getvcpuextstate, arch_domctl),
    NOT(set_access_required, EOPNOTSUPP, "no introspection"),
    NOT(audit_p2m, ENOSYS, "a debugging aid of translated guests"),
    ROW(set_virq_handler, domctl_set_virq_handler),
    NOT(set_broken_page_p2m, EINVAL, HVM),
    ROW(setnodeaffinity, domctl_setnodeaffinity),
    ROW(getnodeaffinity, domctl_getnodeaffinity),
    NOT(cacheflush, ENOSYS, "an operation of Arm"),
    ROW(get_vcpu_msrs, arch_domctl, .note = "MISC_FEATURES_ENABLES, TSC_AUX"),
    ROW(set_vcpu_msrs, arch_domctl, .note = "the same"),
    NOT(setvnumainfo, EOPNOTSUPP, "missing: guests see one node"),
    NOT(psr_cmt_op, ENOSYS, "no cache monitoring"),
    NOT(monitor_op, EOPNOTSUPP, "no introspection"),
    NOT(psr_alloc, EOPNOTSUPP, "no cache allocation"),
    ROW(soft_reset, domctl_soft_reset, .note = "translated domains that are shut down"),
    NOT(vuart_op, ENOSYS, "an operation of Arm"),
    ROW(get_cpu_policy, arch_domctl),
    ROW(set_cpu_policy, arch_domctl, .note = "until the domain is first unpaused"),
    NOT(vmtrace_op, EOPNOTSUPP, "no processor trace"),
    ROW(get_paging_mempool_size, arch_domctl, .note = "EOPNOTSUPP for PV domains"),
    ROW(set_paging_mempool_size, arch_domctl, .note = "the same"),
    ROW(gsi_permission, arch_domctl),
    NOT(set_llc_colors, EOPNOTSUPP, "no cache colouring; tools of 4.20 ask on every create and go on"),
    ROW(gdbsx_guestmemio, arch_domctl, .note = "1 MiB per call; not by a 32-bit kernel's tables: EOPNOTSUPP"),
    ROW(gdbsx_pausevcpu, arch_domctl),
    ROW(gdbsx_unpausevcpu, arch_domctl),
    ROW(gdbsx_domstatus, arch_domctl),
};
const unsigned domctl_op_count = ARRAY_SIZE(domctl_ops);

/* createdomain makes its target; getdomaininfo may mean the next one. */
static bool finds_own_target(uint32_t cmd)
{
    return cmd == XEN_DOMCTL_createdomain || cmd == XEN_DOMCTL_getdomaininfo;
}

static long run(struct domctl *c, const struct hc_op *row)
{
    long r;

    if (!finds_own_target(c->op.cmd)) {
        c->d = domain_get(DID(c->op.domain));
        if (!c->d)
            return -ESRCH;
    } else if (c->op.cmd == XEN_DOMCTL_createdomain) {
        /* A domain whose number never reaches its maker would be nobody's to destroy. */
        if (guest_write(c->hc.caller, GVA(c->hc.arg[0]), &c->op, sizeof(c->op)))
            return -EFAULT;
        wire_read_create(c->version, &c->op, &c->create);
    }
    r = row->fn(&c->hc);
    if (c->d)
        domain_put(c->d);
    return r;
}

/* arg: 0 address of a struct xen_domctl. */
long do_domctl(struct hypercall *hc)
{
    struct domctl c = {.hc = *hc};
    const struct hc_op *row;
    long r;

    if (guest_read(hc->caller, &c.op, GVA(hc->arg[0]), sizeof(c.op)))
        return -EFAULT;
    c.version = c.op.interface_version;
    if (!domctl_version_ok(c.version))
        return -EACCES;
    r = hc_op_choose(hc->caller, domctl_ops, domctl_op_count, c.op.cmd, &row);
    if (r)
        return r;
    r = run(&c, row);
    if (c.write_back && r != HC_AGAIN && guest_write(hc->caller, GVA(hc->arg[0]), &c.op, sizeof(c.op)))
        return -EFAULT;
    return r;
}

struct vcpu *domctl_vcpu(const struct domctl *c, uint32_t id)
{
    return domain_vcpu(c->d, id);
}
