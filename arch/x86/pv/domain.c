/*
 * The architecture's part of domains and vCPUs: objects, the per-domain area of the address space, what is
 * told to guests.
 *
 * Per-domain area (L4 slot 260): one L3, one L2, and an L1 for each 16 vCPUs; a vCPU's window is 32 entries:
 * GDT pages 0-15 (14 is the CPU's own while the vCPU runs), LDT pages 0-15.
 *
 * Invariants
 *  1. The window tables exist before the vCPU is published and live as long as the domain.
 *  2. System domains have none of this: their vCPUs never run guests.
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
#include "x86/layout.h"
#include "x86/platform.h"
#include "x86/pte.h"
#include "x86/spec.h"

#define TABLE_FLAGS   (PTE_P | PTE_RW | PTE_A | PTE_D)
#define WINDOW_PAGES  (VCPU_WINDOW_SIZE / FRAME_SIZE)
#define VCPUS_PER_L1  (512 / WINDOW_PAGES)
#define FPU_MIN       576
#define FCW_DEFAULT   0x37f
#define MXCSR_DEFAULT 0x1f80
#define MXCSR_OFFSET  24

/* --- domains --- */

struct domain *arch_domain_alloc(void)
{
    return mem_alloc(sizeof(struct x86_domain));
}

void arch_domain_free(struct domain *d)
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
    mem_free(x->policy);
    rights_domain_free(d);
    if (x->pirq)
        pirq_domain_free(d);
    mem_free(x);
}

/* flags: none defined for PV guests yet. On failure the caller frees the domain, with what was allocated
 * here. */
int arch_domain_init(struct domain *d, uint32_t flags)
{
    static uint64_t serial;
    struct x86_domain *x = x86_domain(d);
    int err;

    if (d->system)
        return 0;
    x->serial = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    x->xpti = d->hardware ? spec_plan.xpti_dom0 : spec_plan.xpti_domu;
    x->perdomain_l3 = frame_alloc_va(0);
    x->perdomain_l2 = frame_alloc_va(0);
    x->window_l1 = mem_alloc_array(d->max_vcpus, sizeof(*x->window_l1));
    if (!x->perdomain_l3 || !x->perdomain_l2 || !x->window_l1)
        return -ENOMEM;
    x->perdomain_l3_mfn = arch_va_mfn(x->perdomain_l3);
    x->perdomain_l3[pt_index(PERDOMAIN_VIRT, 3)] = pte_make(arch_va_mfn(x->perdomain_l2), TABLE_FLAGS);
    err = pv_policy_domain_init(d);
    if (!err)
        err = rights_domain_init(d);
    return err ? err : pirq_domain_init(d);
}

int arch_domain_release(struct domain *d)
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

struct vcpu *arch_vcpu_alloc(struct domain *d)
{
    return mem_alloc(sizeof(struct x86_vcpu));
}

void arch_vcpu_free(struct vcpu *v)
{
    struct x86_vcpu *x = x86_vcpu(v);

    mem_free(x->pv.trap);
    mem_free(x->fpu);
    mem_free(x);
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

static void fpu_reset(struct x86_vcpu *x)
{
    uint16_t fcw = FCW_DEFAULT;
    uint32_t mxcsr = MXCSR_DEFAULT;

    memset(x->fpu, 0, MAX(x86_fpu_size, FPU_MIN));
    memcpy(x->fpu, &fcw, sizeof(fcw));
    memcpy((char *)x->fpu + MXCSR_OFFSET, &mxcsr, sizeof(mxcsr));
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

int arch_vcpu_init(struct vcpu *v)
{
    struct x86_vcpu *x = x86_vcpu(v);

    x->pv.root_kernel = x->pv.root_user = INVALID_MFN;
    for (unsigned i = 0; i < PV_GDT_FRAMES; i++)
        x->pv.gdt_frame[i] = INVALID_MFN;
    spin_init(&x->pv.ldt_lock, RANK_PV_FRAME);
    if (v->idle || v->domain->system)
        return 0;
    x->pv.trap = mem_alloc_array(256, sizeof(struct pv_trap));
    x->fpu = mem_alloc(MAX(x86_fpu_size, FPU_MIN));
    if (!x->pv.trap || !x->fpu)
        return -ENOMEM;
    pv_reset(x);
    return map_window(v);
}

/* Registers, callbacks and FPU as after creation. Page tables, GDT and LDT stay: they have their own owners
 * (pv/mmu). */
void arch_vcpu_reset(struct vcpu *v)
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

void arch_vcpu_dump(struct vcpu *v)
{
    const struct guest_regs *r = vcpu_regs(v);
    const struct pv_vcpu *pv = pv_vcpu(v);
    unsigned id = v->domain->id.v;

    if (v->idle)
        return;
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

uint32_t arch_features(const struct domain *d)
{
    uint32_t f = 1u << XENFEAT_mmu_pt_update_preserve_ad | 1u << XENFEAT_highmem_assist |
                 1u << XENFEAT_gnttab_map_avail_bits | 1u << XENFEAT_direct_mapped;

    if (d->vm_assist & (1ull << VMASST_TYPE_pae_extended_cr3))
        f |= 1u << XENFEAT_pae_pgdir_above_4gb;
    if (d->hardware)
        f |= 1u << XENFEAT_dom0;
    return f;
}

const char *arch_capabilities(void)
{
    return "xen-3.0-x86_64 ";
}

uint64_t arch_virt_start(const struct domain *d)
{
    return HYP_VIRT_START;
}
