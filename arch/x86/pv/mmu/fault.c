/*
 * The PV MMU's part in page faults of a guest: pages of the LDT window that are not there yet, writes to page
 * tables (ptwr.c), and translations that were stale. All else is the guest's.
 */
#include "types.h"
#include "core/abi.h"

/* A fault inside v's descriptor windows: by a selector. What the processor would have said without windows: a
 * page of the LDT is not present (page fault at the guest's address), or the GDT ends before (#GP with the
 * selector). */
static bool window_fault(struct vcpu *v, unsigned offset, struct guest_regs *r)
{
    unsigned ldt = offset - (unsigned)(VCPU_LDT_VIRT(0) - VCPU_GDT_VIRT(0));
    bool in_ldt = VCPU_GDT_VIRT(0) + offset >= VCPU_LDT_VIRT(0);

    if (in_ldt && window_map_ldt(v, ldt))
        return true;
    if (r != vcpu_regs(v)) /* only a question whether the page can be had */
        return false;
    if (in_ldt)
        pv_inject_pf(v, pv_vcpu(v)->ldt_base.a + ldt, r->error_code);
    else
        pv_inject(v, TRAP_GP, offset & 0xfff8, true);
    return true;
}

bool pv_mmu_fault(struct vcpu *v, uint64_t addr, struct guest_regs *r)
{
    uint64_t offset = addr - VCPU_GDT_VIRT(v->id);
    uint32_t error = r->error_code;

    if (unlikely(offset < VCPU_WINDOW_SIZE))
        return window_fault(v, (unsigned)offset, r);
    if ((error & (PF_PRESENT | PF_WRITE | PF_RSVD | PF_FETCH)) != (PF_PRESENT | PF_WRITE))
        return false;
    if (pv_vcpu(v)->kernel_mode && v->domain->vm_assist & (1ull << VMASST_TYPE_writable_pagetables) &&
        ptwr_emulate(v, addr, r))
        return true;
    /* The guest gave write permission and did not flush; the fault itself has dropped the translation. */
    return walk_permits(walk_root(v), GVA(addr), true);
}
