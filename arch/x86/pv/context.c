/*
 * What a PV vCPU owns of a processor besides its general registers, and how it gets into the processor and out of it.
 *
 * While a vCPU runs, its selectors, segment bases, FPU state, CR3 and debug registers are in the hardware;
 * while it does not, they are in struct x86_vcpu. GS: the active base belongs to the mode the vCPU is in, the
 * shadow base (KernelGSBase) to the other one, so that a change of mode is a SWAPGS.
 *
 * The GDT register points to the vCPU's window (x86/layout.h), whose page 14 is this CPU's own; between two
 * guests it points to this CPU's own table, so that at no instant an interrupt could meet a GDT that is not
 * mapped.
 *
 * Invariants
 *  1. dirty_cpus of a domain contains every CPU whose CR3 may be a root of that domain. The bit is set before
 * CR3 is loaded and cleared after another CR3 has been.
 *  2. Outside of guests CR0.TS is clear.
 * Locks: none; interrupts are off.
 */
#include "private.h"
#include "core/log.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/layout.h"
#include "x86/mm.h"
#include "x86/percpu.h"
#include "x86/pte.h"
#include "x86/spec.h"
#include "x86/tlb.h"
#include "../metal/asm.h"
#include "../metal/bases.h"
#include "../metal/pvregs.h"
#include "x86/msr.h"

#define CR0_TS       0x8ull
#define CR4_TSD      0x4ull
#define CR4_DE       0x8ull
#define CR4_FSGSBASE 0x10000ull
#define CR4_PER_VCPU (CR4_TSD | CR4_DE | CR4_FSGSBASE)

#define DR6_DEFAULT  0xffff0ff0ull
#define DR7_DEFAULT  0x400ull
#define DR7_ENABLES  0xffull

mfn_t pv_active_root(const struct vcpu *v)
{
    const struct pv_vcpu *pv = &((const struct x86_vcpu *)v)->pv;

    return pv->kernel_mode ? pv->root_kernel : pv->root_user;
}

/* --- pieces --- */

/* CR0.TS is the guest's wish (fpu_taskswitch). */
static void save_fpu(struct x86_vcpu *x)
{
    if (x->pv.ts)
        hw_clts();
    fpu_save(x);
}

static void load_fpu(struct x86_vcpu *x)
{
    fpu_load(x);
    if (x->pv.ts)
        hw_write_cr0(hw_read_cr0() | CR0_TS);
}

void pv_set_fpu_ts(struct vcpu *v, bool set)
{
    pv_vcpu(v)->ts = set;
    if (set)
        hw_write_cr0(hw_read_cr0() | CR0_TS);
    else
        hw_clts();
}

void pv_set_xcr0(struct vcpu *v, uint64_t value)
{
    x86_vcpu(v)->xcr0 = value;
    hw_xsetbv(value);
}

/* I/O breakpoints stay in the guest's view only: its port accesses are emulated, and the hardware must not
 * stop ours. */
static uint64_t hardware_dr7(uint64_t dr7)
{
    for (unsigned i = 0; i < 4; i++)
        if ((dr7 >> (16 + 4 * i) & 3) == 2)
            dr7 &= ~(3ull << (2 * i));
    return dr7;
}

void pv_load_debug_registers(struct vcpu *v)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    uint64_t dr7 = hardware_dr7(pv->dr[7]);

    if (dr7 & DR7_ENABLES) {
        hw_write_dr0(pv->dr[0]);
        hw_write_dr1(pv->dr[1]);
        hw_write_dr2(pv->dr[2]);
        hw_write_dr3(pv->dr[3]);
        hw_write_dr6(DR6_DEFAULT);
        hw_write_dr7(dr7);
        pv->dr_loaded = true;
    } else if (pv->dr_loaded) {
        hw_write_dr7(DR7_DEFAULT);
        pv->dr_loaded = false;
    }
}

static void unload_debug_registers(struct pv_vcpu *pv)
{
    if (!pv->dr_loaded)
        return;
    hw_write_dr7(DR7_DEFAULT);
    pv->dr_loaded = false;
}

void pv_load_cr4(struct vcpu *v)
{
    struct cpu_info *ci = cpu_info();
    uint64_t want = (ci->cr4 & ~CR4_PER_VCPU) | (pv_vcpu(v)->cr4_guest & CR4_PER_VCPU);

    if (!cpu_features.fsgsbase)
        want &= ~CR4_FSGSBASE;
    if (want == ci->cr4)
        return;
    ci->cr4 = want;
    hw_write_cr4(want);
}

static void save_segments(struct pv_vcpu *pv)
{
    uint64_t active = hw_gs_base(), shadow = hw_gs_shadow();

    pv->ds = hw_read_ds();
    pv->es = hw_read_es();
    pv->fs = hw_read_fs();
    pv->gs = hw_read_gs();
    pv->fs_base = hw_fs_base();
    pv->gs_base_kernel = pv->kernel_mode ? active : shadow;
    pv->gs_base_user = pv->kernel_mode ? shadow : active;
}

/* A selector into the LDT needs its page in the window now: here a fault could not be told from a bad
 * selector. */
void pv_prefault_ldt(struct vcpu *v, uint16_t sel)
{
    struct guest_regs r = *current_regs();

    if (!(sel & 4) || (sel >> 3) >= pv_vcpu(v)->ldt_entries)
        return;
    r.error_code = 0;
    r.vector = TRAP_PF;
    (void)pv_mmu_fault(v, VCPU_LDT_VIRT(v->id) + (sel & 0xfff8), &r);
}

static bool load_selector(struct vcpu *v, uint16_t now, uint16_t sel, bool (*load)(uint16_t))
{
    if (!(sel & ~3) && !(now & ~3) && sel == now)
        return true;
    pv_prefault_ldt(v, sel);
    return load(sel);
}

/* False: a selector could not be loaded (now null), the guest must hear of it. */
static bool load_segments(struct vcpu *v)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    bool ok = true;

    ok &= load_selector(v, hw_read_ds(), pv->ds, hw_load_ds);
    ok &= load_selector(v, hw_read_es(), pv->es, hw_load_es);
    ok &= load_selector(v, hw_read_fs(), pv->fs, hw_load_fs);
    ok &= load_selector(v, hw_read_gs(), pv->gs, hw_load_gs);
    hw_set_fs_base(pv->fs_base);
    hw_set_gs_base(pv->kernel_mode ? pv->gs_base_kernel : pv->gs_base_user);
    hw_set_gs_shadow(pv->kernel_mode ? pv->gs_base_user : pv->gs_base_kernel);
    return ok;
}

/* AMD APM vol. 2 4.8.3: a 16-byte LDT descriptor. */
void pv_load_ldt(struct vcpu *v)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    uint64_t base = VCPU_LDT_VIRT(v->id), limit = (uint64_t)pv->ldt_entries * 8 - 1;
    uint64_t *d = &cpu_gdt_page()[(SEL_LDT & 0xfff) / 8];

    if (!pv->ldt_entries) {
        hw_lldt(0);
        return;
    }
    d[0] = (limit & 0xffff) | (base & 0xffffff) << 16 | 0x82ull << 40 | (limit >> 16 & 0xf) << 48 |
           (base >> 24 & 0xff) << 56;
    d[1] = base >> 32;
    hw_lldt(SEL_LDT);
}

/* The root for the mode the vCPU is in. */
static void load_root(struct vcpu *v)
{
    uint64_t cr3 = mfn_to_maddr(pv_active_root(v)).a;

    hw_write_cr3(cr3);
    if (unlikely(xpti_active())) {
        cpu_info()->hyp_cr3 = cr3;
        cpu_info()->flags |= CPUF_ROOT_STALE;
    }
}

/* --- the whole --- */

void pv_ctxt_save(struct x86_vcpu *x)
{
    x->regs = *current_regs();
    save_segments(&x->pv);
    save_fpu(x);
    unload_debug_registers(&x->pv);
}

/* The tables of the vCPU and the GDT window, in this order: window entry, CR3 (which flushes the old entry),
 * GDT. */
static void load_tables(struct x86_vcpu *x)
{
    struct x86_domain *d = x86_domain(x->core.domain);

    cpumask_set(&d->dirty_cpus, arch_cpu_id());
    __atomic_store_n(&d->window_l1[x->core.id][GDT_HYP_PAGE],
                     pte_make(cpu_gdt_mfn(), PTE_P | PTE_RW | PTE_A | PTE_D | (cpu_features.nx ? PTE_NX : 0)),
                     __ATOMIC_RELAXED);
    load_root(&x->core);
    if (unlikely(xpti_active()))
        cpu_info()->guest_cr3 = d->xpti ? xpti_root(arch_cpu_id()) : 0;
    hw_lgdt(VCPU_GDT_VIRT(x->core.id), GDT_GUEST_LIMIT);
}

void pv_ctxt_load(struct x86_vcpu *x)
{
    struct vcpu *v = &x->core;

    *current_regs() = x->regs;
    load_tables(x);
    pv_load_ldt(v);
    pv_load_cr4(v);
    load_fpu(x);
    if (cpu_features.rdtscp)
        wrmsr(MSR_TSC_AUX, x->pv.tsc_aux);
    pv_load_debug_registers(v);
    if (!load_segments(v))
        pv_bounce_failsafe(v, current_regs());
    arch_vcpu_time_publish(v);
}

void pv_toggle_mode(struct vcpu *v)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    pv->kernel_mode = !pv->kernel_mode;
    hw_swapgs();
    load_root(v);
}

void pv_root_changed(struct vcpu *v)
{
    if (v == arch_current())
        load_root(v);
}

/* Whoever begins to run on it after we looked copies it after it was changed. */
void pv_l4_changed(struct domain *d, mfn_t l4)
{
    struct cpumask m = {{0}};

    if (likely(!x86_domain(d)->xpti))
        return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for_each_vcpu(d, v)
    {
        const struct pv_vcpu *pv = pv_vcpu(v);

        if (__atomic_load_n(&v->running, __ATOMIC_RELAXED) &&
            (mfn_eq(pv->root_kernel, l4) || mfn_eq(pv->root_user, l4)))
            cpumask_set(&m, __atomic_load_n(&v->cpu, __ATOMIC_RELAXED));
    }
    tlb_flush_cpus(&m, TLB_FLUSH_ALL, GVA(0));
}
