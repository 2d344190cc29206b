/*
 * PV domains and vCPUs: the per-domain area of the address space, what is told to guests.
 *
 * Per-domain area (L4 slot 260): one L3, one L2, and an L1 for each 16 vCPUs; a vCPU's window is 32 entries:
 * GDT pages 0-15 (14 is the CPU's own while the vCPU runs), LDT pages 0-15.
 *
 * Invariants
 *  1. The window tables exist before the vCPU is published and live as long as the domain.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/layout.h"
#include "x86/platform.h"
#include "x86/pte.h"
#include "x86/spec.h"

#define TABLE_FLAGS  (PTE_P | PTE_RW | PTE_A | PTE_D)
#define WINDOW_PAGES (VCPU_WINDOW_SIZE / FRAME_SIZE)
#define VCPUS_PER_L1 (512 / WINDOW_PAGES)

/* --- domains --- */

void pv_domain_free(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);

    for (unsigned i = 0; x->perdomain_l2 && i < 512; i++)
        if (x->perdomain_l2[i] & PTE_P)
            frame_free_va(arch_frame_va(pte_mfn(x->perdomain_l2[i])), 0);
    if (x->perdomain_l2)
        frame_free_va(x->perdomain_l2, 0);
    if (x->perdomain_l3)
        frame_free_va(x->perdomain_l3, 0);
    mem_free(x->window_l1);
}

/* flags: none defined for PV guests yet. */
int pv_domain_init(struct domain *d, uint32_t flags)
{
    struct x86_domain *x = x86_domain(d);

    x->xpti = d->hardware ? spec_plan.xpti_dom0 : spec_plan.xpti_domu;
    x->perdomain_l3 = frame_alloc_va(0);
    x->perdomain_l2 = frame_alloc_va(0);
    x->window_l1 = mem_alloc_array(d->max_vcpus, sizeof(*x->window_l1));
    if (!x->perdomain_l3 || !x->perdomain_l2 || !x->window_l1)
        return -ENOMEM;
    x->perdomain_l3_mfn = arch_va_mfn(x->perdomain_l3);
    x->perdomain_l3[pt_index(PERDOMAIN_VIRT, 3)] = pte_make(arch_va_mfn(x->perdomain_l2), TABLE_FLAGS);
    return 0;
}

int pv_domain_release(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);

    for_each_vcpu(d, v)
    {
        int err = pv_vcpu_release_tables(v);
        if (err)
            return err;
        pv_clear_gdt(v);
        pv_ldt_unmap(v);
    }
    if (x->release_step == 0) {
        pirq_domain_release(d);
        x->release_step = 1;
    }
    return pv_domain_release_tables(d);
}

/* --- vCPUs --- */

void pv_vcpu_free(struct vcpu *v)
{
    mem_free(x86_vcpu(v)->pv.trap);
}

static int map_window(struct vcpu *v)
{
    struct x86_domain *d = x86_domain(v->domain);
    uint64_t *l2e = &d->perdomain_l2[v->id / VCPUS_PER_L1];
    uint64_t *l1;

    if (!(*l2e & PTE_P)) {
        l1 = frame_alloc_va(0);
        if (!l1)
            return -ENOMEM;
        __atomic_store_n(l2e, pte_make(arch_va_mfn(l1), TABLE_FLAGS), __ATOMIC_RELEASE);
    }
    l1 = arch_frame_va(pte_mfn(*l2e));
    d->window_l1[v->id] = l1 + (v->id % VCPUS_PER_L1) * WINDOW_PAGES;
    return 0;
}

static void pv_reset(struct x86_vcpu *x)
{
    struct pv_vcpu *pv = &x->pv;

    x->regs =
        (struct guest_regs){.rflags = EFLAGS_IF | EFLAGS_MBS, .cs = FLAT_KERNEL_CS, .ss = FLAT_KERNEL_SS};
    x->xcr0 = 1; /* x87 only, as after a reset */
    pv->kernel_mode = true;
    pv->kernel_ss = FLAT_KERNEL_SS;
    pv->cr4_guest = pv_cr4_guest_value(PV_CR4_INITIAL);
    pv->dr[6] = 0xffff0ff0;
    pv->dr[7] = 0x400;
    fpu_reset(x);
}

int pv_vcpu_init(struct vcpu *v)
{
    struct x86_vcpu *x = x86_vcpu(v);

    x->pv.root_kernel = x->pv.root_user = INVALID_MFN;
    for (unsigned i = 0; i < PV_GDT_FRAMES; i++)
        x->pv.gdt_frame[i] = INVALID_MFN;
    spin_init(&x->pv.ldt_lock, RANK_PV_FRAME);
    x->pv.trap = mem_alloc_array(256, sizeof(struct pv_trap));
    if (!x->pv.trap)
        return -ENOMEM;
    pv_reset(x);
    return map_window(v);
}

/* Registers, callbacks and FPU as after creation. Page tables, GDT and LDT stay: they have their own owners
 * (pv/mmu). */
void pv_vcpu_reset(struct vcpu *v)
{
    struct x86_vcpu *x = x86_vcpu(v);
    struct pv_vcpu *pv = &x->pv;

    memset(pv->trap, 0, 256 * sizeof(struct pv_trap));
    pv->event = pv->failsafe = pv->syscall = pv->syscall32 = pv->sysenter = (struct pv_callback){0};
    pv->nmi_pending = pv->nmi_masked = pv->mce_pending = pv->ts = pv->cpuid_fault = false;
    pv->ds = pv->es = pv->fs = pv->gs = 0;
    pv->fs_base = pv->gs_base_kernel = pv->gs_base_user = 0;
    pv->iopl = pv->iobmp_ports = 0;
    memset(pv->dr, 0, sizeof(pv->dr));
    pv_reset(x);
}

void pv_vcpu_dump(struct vcpu *v)
{
    const struct guest_regs *r = vcpu_regs(v);
    const struct pv_vcpu *pv = pv_vcpu(v);
    unsigned id = v->domain->id.v;

    log_err("d%u vCPU %u (%s mode) on CPU %u:", id, v->id, pv->kernel_mode ? "kernel" : "user", v->cpu);
    log_err("d%u rip %04lx:%016lx rsp %04lx:%016lx rflags %lx vector %x error %x", id, r->cs & 0xffff, r->rip,
            r->ss & 0xffff, r->rsp, r->rflags, r->vector, r->error_code);
    log_err("d%u rax %016lx rbx %016lx rcx %016lx rdx %016lx", id, r->rax, r->rbx, r->rcx, r->rdx);
    log_err("d%u rsi %016lx rdi %016lx rbp %016lx r8  %016lx", id, r->rsi, r->rdi, r->rbp, r->r8);
    log_err("d%u r9  %016lx r10 %016lx r11 %016lx r12 %016lx", id, r->r9, r->r10, r->r11, r->r12);
    log_err("d%u r13 %016lx r14 %016lx r15 %016lx cr2 %016lx", id, r->r13, r->r14, r->r15, pv->cr2);
    log_err("d%u root %lx user root %lx gdt entries %u ldt entries %u", id, pv->root_kernel.n,
            pv->root_user.n, pv->gdt_entries, pv->ldt_entries);
}

/* --- what guests are told --- */

uint32_t pv_features(const struct domain *d)
{
    uint32_t f = 1u << XENFEAT_mmu_pt_update_preserve_ad | 1u << XENFEAT_highmem_assist |
                 1u << XENFEAT_gnttab_map_avail_bits | 1u << XENFEAT_direct_mapped;

    if (d->vm_assist & (1ull << VMASST_TYPE_pae_extended_cr3))
        f |= 1u << XENFEAT_pae_pgdir_above_4gb;
    if (d->hardware)
        f |= 1u << XENFEAT_dom0;
    return f;
}

uint64_t pv_virt_start(const struct domain *d)
{
    return HYP_VIRT_START;
}
