/*
 * The architecture's half of the hypercall table (the core's: core/hypercall/table.c). docs/hypercalls.md is
 * generated from both.
 */
#include "private.h"
#include "x86/hvm.h"
#include "x86/platform.h"
#include <xen/pmu.h>

/* Without performance counters for guests every operation is refused as on a hypervisor started without them. */
#define PMU_REFUSED(op)                                                                                      \
    {                                                                                                        \
        op, PERM_ANY, #op, NULL, EOPNOTSUPP, "no performance counters for guests"                            \
    }
static const struct hc_op pmu_ops[] = {
    PMU_REFUSED(XENPMU_mode_get),    PMU_REFUSED(XENPMU_mode_set), PMU_REFUSED(XENPMU_feature_get),
    PMU_REFUSED(XENPMU_feature_set), PMU_REFUSED(XENPMU_init),     PMU_REFUSED(XENPMU_finish),
    PMU_REFUSED(XENPMU_lvtpc_set),   PMU_REFUSED(XENPMU_flush),
};
static const unsigned pmu_op_count = ARRAY_SIZE(pmu_ops);

#define OPS(t) .ops = t##_ops, .op_count = &t##_op_count

static const struct hc_entry arch_hypercall_rows[] = {
    {__HYPERVISOR_set_trap_table, PERM_PV, "set_trap_table", do_set_trap_table, .nargs = 1},
    {__HYPERVISOR_mmu_update, PERM_PV, "mmu_update", pv_mmu_update, .nargs = 4},
    {__HYPERVISOR_set_gdt, PERM_PV, "set_gdt", do_set_gdt, .nargs = 2},
    {__HYPERVISOR_stack_switch, PERM_PV, "stack_switch", do_stack_switch, .nargs = 2},
    {__HYPERVISOR_set_callbacks, PERM_PV, "set_callbacks", do_set_callbacks, .nargs = 3},
    {__HYPERVISOR_fpu_taskswitch, PERM_PV, "fpu_taskswitch", do_fpu_taskswitch, .nargs = 1},
    {__HYPERVISOR_platform_op, PERM_HARDWARE, "platform_op", do_platform_op, OPS(platform), .nargs = 1},
    {__HYPERVISOR_set_debugreg, PERM_PV, "set_debugreg", do_set_debugreg, .nargs = 2},
    {__HYPERVISOR_get_debugreg, PERM_PV, "get_debugreg", do_get_debugreg, .nargs = 1},
    {__HYPERVISOR_update_descriptor, PERM_PV, "update_descriptor", do_update_descriptor, .nargs = 2},
    {__HYPERVISOR_update_va_mapping, PERM_PV, "update_va_mapping", pv_update_va_mapping, .nargs = 3},
    {__HYPERVISOR_update_va_mapping_otherdomain, PERM_PV, "update_va_mapping_otherdomain",
     pv_update_va_mapping_otherdomain, .nargs = 4},
    {__HYPERVISOR_iret, PERM_PV, "iret", do_iret, .nargs = 0},
    {__HYPERVISOR_set_segment_base, PERM_PV, "set_segment_base", do_set_segment_base, .nargs = 2},
    {__HYPERVISOR_mmuext_op, PERM_PV, "mmuext_op", pv_mmuext_op, .nargs = 4},
    {__HYPERVISOR_nmi_op, PERM_PV, "nmi_op", OPS(nmi), .nargs = 2},
    {__HYPERVISOR_callback_op, PERM_PV, "callback_op", OPS(callback), .nargs = 2},
    {__HYPERVISOR_physdev_op, PERM_PV, "physdev_op", OPS(physdev), .nargs = 2},
    {__HYPERVISOR_hvm_op, PERM_ANY, "hvm_op", OPS(hvm_op), .nargs = 2},
    {__HYPERVISOR_dm_op, PERM_CONTROL, "dm_op", do_dm_op, OPS(dm), .nargs = 3, .unknown = EOPNOTSUPP,
     .note = "on HVM domains other than itself"},
    {__HYPERVISOR_xenpmu_op, PERM_ANY, "xenpmu_op", OPS(pmu), .nargs = 2, .unknown = EINVAL},
    {__HYPERVISOR_mca, PERM_HARDWARE, "mca", do_mca, OPS(mca), .nargs = 1, .unknown = EINVAL},
};

const struct hc_entry *const arch_hypercalls = arch_hypercall_rows;
const unsigned arch_hypercall_count = ARRAY_SIZE(arch_hypercall_rows);
