/*
 * The core's half of the hypercall table (the other half: arch/x86/pv/hypercalls.c). A row without handler and without
 * sub-operations is refused with `unknown` (0 = ENOSYS); docs/hypercalls.md is generated from both halves.
 */
#include "private.h"
#include "core/abi.h"
#include "core/console_io.h"
#include "core/control.h"
#include "core/domain.h"
#include "core/evtchn.h"
#include "core/grant.h"
#include "core/memory_op.h"
#include "core/sched.h"

#define OPS(t) .ops = t##_ops, .op_count = &t##_op_count

const struct hc_entry core_hypercalls[] = {
    {__HYPERVISOR_memory_op, PERM_ANY, "memory_op", OPS(memory), .nargs = 2,
     .op_mask = (1u << MEMOP_EXTENT_SHIFT) - 1},
    {__HYPERVISOR_multicall, PERM_ANY, "multicall", do_multicall, .nargs = 2},
    {__HYPERVISOR_set_timer_op, PERM_ANY, "set_timer_op", do_set_timer_op, .nargs = 1},
    {__HYPERVISOR_xen_version, PERM_ANY, "xen_version", OPS(version), .nargs = 2},
    {__HYPERVISOR_console_io, PERM_ANY, "console_io", OPS(console), .nargs = 3},
    {__HYPERVISOR_grant_table_op, PERM_ANY, "grant_table_op", OPS(grant), .nargs = 3},
    {__HYPERVISOR_vm_assist, PERM_ANY, "vm_assist", do_vm_assist, .nargs = 2},
    {__HYPERVISOR_vcpu_op, PERM_ANY, "vcpu_op", OPS(vcpu), .nargs = 3},
    {__HYPERVISOR_sched_op, PERM_ANY, "sched_op", OPS(sched), .nargs = 2},
    {__HYPERVISOR_sched_op_compat, PERM_ANY, "sched_op_compat", do_sched_op_compat, .nargs = 2},
    {__HYPERVISOR_event_channel_op, PERM_ANY, "event_channel_op", OPS(evtchn), .nargs = 2},
    {__HYPERVISOR_event_channel_op_compat, PERM_ANY, "event_channel_op_compat", .unknown = ENOSYS,
     .note = "interface of 2006; no kernel since 2.6.18 uses it"},
    {__HYPERVISOR_physdev_op_compat, PERM_ANY, "physdev_op_compat", .unknown = ENOSYS,
     .note = "interface of 2006; no kernel since 2.6.18 uses it"},
    {__HYPERVISOR_domctl, PERM_CONTROL, "domctl", do_domctl, OPS(domctl), .nargs = 1,
     .note = "interface versions 0x15 to 0x17 (Xen 4.17 to 4.21), EACCES for others"},
    {__HYPERVISOR_sysctl, PERM_CONTROL, "sysctl", do_sysctl, OPS(sysctl), .nargs = 1,
     .note = "interface version 0x15 (Xen 4.17 to 4.20), EACCES for others"},
    {__HYPERVISOR_xsm_op, PERM_ANY, "xsm_op", .unknown = ENOSYS,
     .note = "no loadable policy: one permission table"},
    {__HYPERVISOR_kexec_op, PERM_CONTROL, "kexec_op", .unknown = ENOSYS,
     .note = "missing: no memory is kept for a crash kernel"},
    {__HYPERVISOR_tmem_op, PERM_ANY, "tmem_op", .unknown = ENOSYS, .note = "withdrawn from the interface"},
    {__HYPERVISOR_argo_op, PERM_ANY, "argo_op", .unknown = EOPNOTSUPP,
     .note = "not offered: a way between domains beside grants and events, off by default elsewhere too"},
    {__HYPERVISOR_hypfs_op, PERM_CONTROL, "hypfs_op", .unknown = ENOSYS,
     .note = "not offered: no parameter can be changed at run time"},
    {__HYPERVISOR_xenoprof_op, PERM_ANY, "xenoprof_op", .unknown = ENOSYS,
     .note = "withdrawn: use xenpmu_op"},
};
const unsigned core_hypercall_count = ARRAY_SIZE(core_hypercalls);
