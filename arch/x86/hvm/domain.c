/*
 * HVM domains and vCPUs: made, reset, switched, unmade.
 *
 * Invariants
 *  1. A published HVM domain has a p2m; a published vCPU has its vendor's structure and a local APIC.
 *  2. While a vCPU does not run, its general registers are in x->regs, its FPU state in x->fpu, DR0-3 and TSC_AUX in struct hvm_vcpu, and
 *     all else in the vendor's structure.
 *  3. dirty_cpus has each CPU on which a vCPU of the domain is loaded.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/console.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "dev/board.h"
#include "dev/irq.h"
#include "dev/vlapic.h"
#include "viridian/viridian.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/mm.h"
#include "x86/msr.h"
#include "x86/percpu.h"
#include "x86/platform.h"
#include "x86/policy.h"
#include "x86/tlb.h"
#include "../metal/asm.h"
#include "../metal/pvregs.h"
#include <xen/hvm/params.h>

#define DR7_ENABLED 0xffull

_Static_assert(HVM_PARAMS == HVM_NR_PARAMS, "xen/hvm/params.h");

const struct hvm_ops *hvm_ops; /* [boot] */

/* --- boot --- */

/*
 * No CPU uses a translation of d's from before, and none goes on with what it read of d's tables with interrupts off. Both is done only
 * where a vCPU of d is loaded: one that is loaded later (dirty_cpus first, then the epoch) takes a new ASID and sees the new tables.
 */
static void flush(struct domain *d)
{
    __atomic_fetch_add(&hvm_domain(d)->p2m_epoch, 1, __ATOMIC_SEQ_CST);
    tlb_flush_cpus(&x86_domain(d)->dirty_cpus, TLB_FLUSH_GUESTS, GVA(0));
}

static void dump_memory(void)
{
    for_each_held_domain(d)
    {
        if (d->ops->translated)
            p2m_dump(d);
    }
}

void hvm_init(void)
{
    struct p2m_machine m = {
        .flush = flush,
        .paging = hvm_paging,
        .large = true,
        .huge = cpu_features.gbpages,
        .guest_bits = MIN(cpu_features.phys_bits, 48u),
    };

    if (!svm_available())
        return;
    if (!svm_ops.cpu_prepare(0)) {
        log_err("HVM: no memory for the boot CPU");
        return;
    }
    hvm_ops = &svm_ops;
    p2m_machine_set(&m);
    debug_key_register('D', "memory of translated domains", dump_memory);
    hvm_init_cpu();
}

bool hvm_available(void)
{
    return hvm_ops != NULL;
}

bool hvm_prepare_cpu(unsigned cpu)
{
    return !hvm_ops || hvm_ops->cpu_prepare(cpu);
}

void hvm_init_cpu(void)
{
    if (hvm_ops)
        hvm_ops->cpu_on();
}

/* --- domains --- */

int hvm_domain_init(struct domain *d, uint32_t flags)
{
    struct hvm_domain *h = mem_new(struct hvm_domain);

    if (!h)
        return -ENOMEM;
    x86_domain(d)->hvm = h;
    h->emulation_flags = flags;
    h->param[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
    h->bus = mem_new(struct hvm_bus);
    if (!h->bus)
        return -ENOMEM;
    hvm_bus_add(d, &vlapic_device);
    hvm_bus_add(d, &text_device);
    if (flags & XEN_X86_EMU_PIC) {
        h->param[HVM_PARAM_HPET_ENABLED] = 1;
        if (hvm_board_init(d))
            return -ENOMEM;
    }
    return p2m_domain_init(d);
}

void hvm_domain_free(struct domain *d)
{
    if (!hvm_domain(d))
        return;
    p2m_domain_free(d);
    hvm_board_free(d);
    ioreq_free(d);
    viridian_free(d);
    mem_free(hvm_domain(d)->bus);
    mem_free(hvm_domain(d));
    x86_domain(d)->hvm = NULL;
}

static void stop_timers(struct hvm_vcpu *h)
{
    timer_kill(&h->startup);
    if (h->vlapic)
        vlapic_free(h->vlapic);
}

int hvm_domain_release(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);

    if (x->release_step == 0) {
        for_each_vcpu(d, v)
        {
            stop_timers(hvm_vcpu(v));
        }
        hvm_board_stop(d);
        viridian_stop(d);
        ioreq_release(d);
        pirq_domain_release(d);
        mem_free(x->e820);
        x->e820 = NULL;
        x->e820_count = 0;
        x->release_step = 1;
    }
    return p2m_domain_release(d);
}

/* --- vCPUs --- */

int hvm_vcpu_init(struct vcpu *v)
{
    struct hvm_vcpu *h = mem_new(struct hvm_vcpu);

    if (!h)
        return -ENOMEM;
    x86_vcpu(v)->hvm = h;
    timer_init(&h->startup, hvm_startup_try, v, arch_cpu_id());
    h->vlapic = mem_new(struct vlapic);
    h->io = (struct hvm_io *)mem_new(struct hvm_waiting);
    if (!h->vlapic || !h->io)
        return -ENOMEM;
    vlapic_init(v, h->vlapic);
    x86_vcpu(v)->walk = walk_cache_alloc();
    if (viridian_vcpu_init(v) || hvm_ops->vcpu_init(v))
        return -ENOMEM;
    hvm_vcpu_reset(v);
    return 0;
}

void hvm_vcpu_free(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    if (!h)
        return;
    hvm_ops->vcpu_free(v);
    viridian_vcpu_free(v);
    stop_timers(h);
    mem_free(h->vlapic);
    mem_free(h->io);
    walk_cache_free(x86_vcpu(v)->walk);
    mem_free(h);
    x86_vcpu(v)->hvm = NULL;
}

/* Whoever writes an event just now asks after the reset. */
static void forget_events(struct hvm_vcpu *h)
{
    uint32_t asked = HVM_ASKED;

    h->event.valid = h->nmi_pending = h->nmi_masked = h->nmi_ended = false;
    (void)__atomic_compare_exchange_n(&h->asked.state, &asked, HVM_ASKED_NONE, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED);
}

/* AMD APM vol. 2 14.1.3: what INIT leaves as it is (FPU, MTRRs, TSC) stays. */
void hvm_vcpu_init_reset(struct vcpu *v)
{
    uint64_t pat = hvm_get(v, HVM_PAT);

    hvm_ops->vcpu_reset(v);
    hvm_set(v, HVM_PAT, pat);
    *vcpu_regs(v) = (struct guest_regs){.rdx = x86_domain(v->domain)->policy->basic[1].a};
    for (unsigned i = 0; i < 4; i++)
        hvm_vcpu(v)->dr[i] = 0;
    hvm_vcpu(v)->dr_loaded = false;
    hvm_ops->tsc(v);
    forget_events(hvm_vcpu(v));
    vlapic_init_reset(v);
    hvm_event_rekick(v);
}

void hvm_vcpu_reset(struct vcpu *v)
{
    struct x86_vcpu *x = x86_vcpu(v);
    struct hvm_vcpu *h = hvm_vcpu(v);

    hvm_ops->vcpu_reset(v);
    x->regs = (struct guest_regs){.rdx = x86_domain(v->domain)->policy->basic[1].a};
    x->xcr0 = 1;
    fpu_reset(x);
    h->tsc_aux = h->tsc_adjust = 0;
    h->mtrr_def = 0;
    h->sipi_wait = h->init_pending = h->startup_early = h->dr_loaded = false;
    for (unsigned i = 0; i < ARRAY_SIZE(h->mtrr_var); i++)
        h->mtrr_var[i] = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(h->mtrr_fixed); i++)
        h->mtrr_fixed[i] = 0;
    for (unsigned i = 0; i < 4; i++)
        h->dr[i] = 0;
    forget_events(h);
    hvm_access_forget(v);
    vlapic_reset(v);
    viridian_vcpu_reset(v);
    hvm_event_rekick(v);
    hvm_ops->tsc(v);
}

/* Nothing that a vCPU's context holds of the domain's memory. */
int hvm_vcpu_unload(struct vcpu *v)
{
    return 0;
}

static void dump_segment(struct vcpu *v, const char *name, enum hvm_seg s)
{
    struct hvm_segment g;

    hvm_ops->get_segment(v, s, &g);
    log_err("d%u %s sel %04x attr %03x limit %08x base %016lx", v->domain->id.v, name, g.sel, g.attr, g.limit,
            g.base);
}

void hvm_vcpu_dump(struct vcpu *v)
{
    const struct guest_regs *r = vcpu_regs(v);
    unsigned id = v->domain->id.v;

    log_err("d%u vCPU %u (%s) on CPU %u:", id, v->id, hvm_ops->name, v->cpu);
    log_err("d%u rip %016lx rsp %016lx rflags %lx cpl %u", id, hvm_get(v, HVM_RIP), hvm_get(v, HVM_RSP),
            hvm_get(v, HVM_RFLAGS), hvm_ops->cpl(v));
    log_err("d%u rax %016lx rbx %016lx rcx %016lx rdx %016lx", id, r->rax, r->rbx, r->rcx, r->rdx);
    log_err("d%u rsi %016lx rdi %016lx rbp %016lx r8  %016lx", id, r->rsi, r->rdi, r->rbp, r->r8);
    log_err("d%u r9  %016lx r10 %016lx r11 %016lx r12 %016lx", id, r->r9, r->r10, r->r11, r->r12);
    log_err("d%u r13 %016lx r14 %016lx r15 %016lx", id, r->r13, r->r14, r->r15);
    log_err("d%u cr0 %lx cr2 %lx cr3 %lx cr4 %lx efer %lx", id, hvm_get(v, HVM_CR0), hvm_get(v, HVM_CR2),
            hvm_get(v, HVM_CR3), hvm_get(v, HVM_CR4), hvm_get(v, HVM_EFER));
    dump_segment(v, "cs", HVM_CS);
    dump_segment(v, "ss", HVM_SS);
    dump_segment(v, "ds", HVM_DS);
    dump_segment(v, "tr", HVM_TR);
    dump_segment(v, "gdtr", HVM_GDTR);
    dump_segment(v, "idtr", HVM_IDTR);
    hvm_ops->dump(v);
}

/* --- how it translates addresses now --- */

#define PAGE1GB (1u << 26)

static uint32_t flag(bool is, uint32_t bit)
{
    return is ? bit : 0;
}

void hvm_paging(struct vcpu *v, struct guest_paging *p)
{
    uint64_t cr0 = hvm_get(v, HVM_CR0), cr4 = hvm_get(v, HVM_CR4), efer = hvm_get(v, HVM_EFER);
    const struct cpu_policy *policy = x86_domain(v->domain)->policy;

    p->cr3 = hvm_get(v, HVM_CR3);
    p->pkru = 0;
    p->mode = flag(cr0 & CR0_PG, GP_PAGING) | flag(cr4 & CR4_PAE, GP_PAE) | flag(efer & EFER_LMA, GP_LONG) |
              flag(cr4 & CR4_PSE, GP_PSE) | flag(cr0 & CR0_WP, GP_WP) | flag(efer & EFER_NXE, GP_NXE) |
              flag(cr4 & CR4_SMEP, GP_SMEP) | flag(cr4 & CR4_SMAP, GP_SMAP) |
              flag(hvm_get(v, HVM_RFLAGS) & EFLAGS_AC, GP_AC) |
              flag(policy->extended[1].d & PAGE1GB, GP_HUGE);
}

/* --- the switch --- */

void hvm_debugregs_load(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    hw_write_dr0(h->dr[0]);
    hw_write_dr1(h->dr[1]);
    hw_write_dr2(h->dr[2]);
    hw_write_dr3(h->dr[3]);
    h->dr_loaded = true;
    hvm_ops->use_debugregs(v, true);
}

/* DR7 is in force as soon as the guest runs; the other registers' first use would bring them in only later. */
void hvm_debugregs_follow(struct vcpu *v)
{
    if (unlikely(hvm_get(v, HVM_DR7) & DR7_ENABLED))
        hvm_debugregs_load(v);
}

static void save(struct x86_vcpu *x)
{
    struct vcpu *v = &x->core;
    struct hvm_vcpu *h = x->hvm;

    x->regs = *current_regs();
    fpu_save(x);
    if (cpu_features.rdtscp)
        h->tsc_aux = rdmsr(MSR_TSC_AUX);
    if (h->dr_loaded) {
        h->dr[0] = hw_read_dr0();
        h->dr[1] = hw_read_dr1();
        h->dr[2] = hw_read_dr2();
        h->dr[3] = hw_read_dr3();
        h->dr_loaded = false;
        hvm_ops->use_debugregs(v, false);
    }
    cpumask_clear(&x86_domain(v->domain)->dirty_cpus, arch_cpu_id());
}

static void load(struct x86_vcpu *x)
{
    struct vcpu *v = &x->core;

    *current_regs() = x->regs;
    cpumask_set(&x86_domain(v->domain)->dirty_cpus, arch_cpu_id());
    hw_write_cr3(mfn_to_maddr(hyp_l4_mfn).a);
    (void)hw_load_ds(0);
    (void)hw_load_es(0);
    fpu_load(x);
    if (cpu_features.rdtscp)
        wrmsr(MSR_TSC_AUX, x->hvm->tsc_aux);
    hvm_ops->load(v);
    hvm_debugregs_follow(v);
    hvm_attend(v); /* whatever was done to it meanwhile */
    arch_vcpu_time_publish(v);
}

static void hvm_soft_reset(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        __atomic_store_n(&hvm_vcpu(v)->upcall_vector, 0, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&hvm_domain(d)->callback_vector, 0, __ATOMIC_RELAXED);
    hvm_callback_none(d);
    viridian_reset(d);
    ioreq_release(d);
}

/* --- the table --- */

static bool area_write(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return v == arch_current() && hvm_copy_out(v, to, from, n);
}

static uint32_t features(const struct domain *d)
{
    return 1u << XENFEAT_writable_page_tables | 1u << XENFEAT_auto_translated_physmap |
           1u << XENFEAT_hvm_callback_vector | 1u << XENFEAT_hvm_safe_pvclock |
           1u << XENFEAT_gnttab_map_avail_bits | 1u << XENFEAT_not_direct_mapped;
}

static uint64_t virt_start(const struct domain *d)
{
    return 0;
}

static __attribute__((noreturn)) void resume(void)
{
    hvm_ops->resume();
}

const struct arch_guest_ops hvm_arch_ops = {
    .domain_init = hvm_domain_init,
    .domain_free = hvm_domain_free,
    .domain_release = hvm_domain_release,
    .domain_soft_reset = hvm_soft_reset,
    .vcpu_init = hvm_vcpu_init,
    .vcpu_free = hvm_vcpu_free,
    .vcpu_reset = hvm_vcpu_reset,
    .vcpu_initialise = hvm_vcpu_initialise,
    .vcpu_unload = hvm_vcpu_unload,
    .vcpu_nmi = hvm_vcpu_nmi,
    .vcpu_dump = hvm_vcpu_dump,
    .vcpu_context = hvm_vcpu_context,
    .area_write = area_write,
    .save = save,
    .load = load,
    .resume = resume,
    .features = features,
    .virt_start = virt_start,
};

const struct guest_ops hvm_guest_ops = {
    .name = "hvm",
    .translated = true,
    .copy_in = hvm_copy_in,
    .copy_out = hvm_copy_out,
    .zero = hvm_zero,
    .kick = hvm_event_kick,
    .awake = hvm_interrupt_pending,
    .listens = hvm_takes_interrupts,
    .arch = &hvm_arch_ops,
};
