/*
 * PV guest memory by virtual address: through the page tables that are loaded, under the guest's own rights.
 *
 * Invariants
 *  1. No access outside the guest's halves of the address space, whatever number the guest gave (wrap
 * included).
 *  2. The vCPU is the current one: its tables are loaded.
 * A copy that faults is tried once more from where it stopped (metal/access.S): a stale translation (the guest
 * raised the rights of an entry without a flush, as the architecture allows) is dropped by the fault itself
 * (SDM vol. 3 4.10.4.1).
 */
#include "private.h"
#include "x86/layout.h"
#include "x86/percpu.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "../metal/pvregs.h"

#define LOW_HALF_END 0x0000800000000000ull

bool pv_range_ok(uint64_t a, size_t n)
{
    uint64_t last = a + n - 1;

    if (unlikely(last < a)) /* wraps, or nothing at all is accessed */
        return !n;
    return likely(a >= HYP_VIRT_END) || last < LOW_HALF_END || !n;
}

bool pv_copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    return likely(pv_range_ok(from.a, n)) && !metal_copy_from_user(to, (const void *)from.a, n);
}

bool pv_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return likely(pv_range_ok(to.a, n)) && !metal_copy_to_user((void *)to.a, from, n);
}

bool pv_zero(struct vcpu *v, gva_t to, size_t n)
{
    return likely(pv_range_ok(to.a, n)) && !metal_zero_user((void *)to.a, n);
}

/* The kernel's tables while a user process runs; back with leave_kernel_tables(). */
static bool enter_kernel_tables(struct vcpu *v)
{
    if (pv_vcpu(v)->kernel_mode)
        return false;
    hw_write_cr3(mfn_to_maddr(pv_vcpu(v)->root_kernel).a);
    return true;
}

static void leave_kernel_tables(struct vcpu *v, bool entered)
{
    if (entered)
        hw_write_cr3(mfn_to_maddr(pv_active_root(v)).a);
}

bool pv_copy_in_kernel(struct vcpu *v, void *to, gva_t from, size_t n)
{
    bool entered = enter_kernel_tables(v), ok = pv_copy_in(v, to, from, n);

    leave_kernel_tables(v, entered);
    return ok;
}

bool pv_copy_out_kernel(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    bool entered = enter_kernel_tables(v), ok = pv_copy_out(v, to, from, n);

    leave_kernel_tables(v, entered);
    return ok;
}

bool pv_area_write(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return v == arch_current() && pv_copy_out_kernel(v, to, from, n);
}
