/*
 * The switch from one vCPU to the next, of whatever kind they are.
 *
 * Invariants
 *  1. sched_context_saved(prev) is called when nothing of prev is left on this CPU.
 *  2. Between two guests this CPU's own GDT is loaded, and while no PV guest is, Krypton's own page tables.
 * Locks: none; interrupts are off.
 */
#include "x86/guest.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "x86/mm.h"
#include "x86/percpu.h"
#include "x86/spec.h"
#include "../metal/pvregs.h"

struct guest_regs *vcpu_regs(struct vcpu *v)
{
    return v == arch_current() ? current_regs() : &x86_vcpu(v)->regs;
}

void leave_last_domain(const struct vcpu *next)
{
    uint64_t serial = ((const struct x86_domain *)next->domain)->serial;
    struct cpu_info *ci = cpu_info();

    if (spec_plan.ibpb && ci->last_domain && ci->last_domain != serial)
        spec_barrier();
    ci->last_domain = serial;
}

void arch_context_switch(struct vcpu *prev, struct vcpu *next)
{
    struct cpu_info *ci = cpu_info();

    ASSERT(!arch_irq_enabled());
    if (prev == next)
        return;
    if (!prev->idle) {
        guest_kind(prev->domain)->save(x86_vcpu(prev));
        cpu_load_own_gdt();
    }
    ci->current = next;
    if (next->idle) {
        hw_write_cr3(mfn_to_maddr(hyp_l4_mfn).a);
    } else {
        leave_last_domain(next);
        guest_kind(next->domain)->load(x86_vcpu(next));
    }
    if (!prev->idle && prev->domain != next->domain)
        cpumask_clear(&x86_domain(prev->domain)->dirty_cpus, ci->cpu);
    sched_context_saved(prev);
    if (next->idle)
        metal_resume_idle();
    guest_kind(next->domain)->resume();
}
