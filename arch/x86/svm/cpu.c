/*
 * SVM on this machine's processors: is it there, is all there that we need, and switching it on.
 *
 * Invariants
 *  1. A CPU that runs guests has EFER.SVME set, a host save area, and a page with its own FS, GS, TR, LDTR and MSRs.
 *  2. The permission maps are the same for all guests and do not change after svm_available(): every port is intercepted - 0x80, too,
 *     by whose flood a guest has brought down other hypervisors' machines (CVE-2017-1000407) - and every MSR but those that VMLOAD and
 *     VMSAVE exchange, and TSC_AUX. PAT, which a guest writes once, is not passed either: an emulated processor would keep it for us.
 */
#include "private.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/params.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/msr.h"
#include "../metal/asm.h"

#define MSR_VM_CR        0xc0010114u
#define MSR_VM_HSAVE_PA  0xc0010117u
#define VM_CR_SVMDIS     (1ull << 4)
#define SVM_LEAF         0x8000000au
#define SVM_NESTED_PAGES (1u << 0)
#define SVM_LBR          (1u << 1)
#define SVM_NRIPS        (1u << 3)
#define SVM_TSC_RATIO    (1u << 4)
#define SVM_VNMI         (1u << 25)
#define MSR_TSC_RATIO    0xc0000104u
#define TSC_RATIO_1      (1ull << 32)
#define TSC_RATIO_MAX    ((1ull << 40) - 1) /* eight bits before the point */

#define MAP_ORDER_IO     2 /* 12 KiB */
#define MAP_ORDER_MSR    1 /* 8 KiB */

void svm_vmsave(uint64_t pa);

static bool opt_hap = true;
PARAM_BOOL("hap", opt_hap, "nested paging, without which there are no HVM and PVH guests");

uint64_t svm_iopm_pa, svm_msrpm_pa; /* [boot] */
bool svm_nrips, svm_watch_cr4;      /* [boot] */
uint64_t svm_vnmi;                  /* [boot] */
static uint64_t hsave_pa[MAX_CPUS], host_pa[MAX_CPUS];
static uint64_t tsc_ratio[MAX_CPUS]; /* of each CPU, its own: what its MSR holds */

uint64_t svm_host_pa(unsigned cpu)
{
    return host_pa[cpu];
}

/* Two bits for an MSR, read and write, in a map of three ranges (APM vol. 2 15.11). */
static void msr_pass(uint8_t *map, uint32_t msr)
{
    uint32_t at = msr < 0x2000 ? msr : msr < 0xc0002000 ? 0x2000 + (msr & 0x1fff) : 0x4000 + (msr & 0x1fff);

    map[at / 4] &= (uint8_t) ~(3u << (at % 4 * 2));
}

static bool make_maps(void)
{
    static const uint32_t pass[] = {MSR_FS_BASE,      MSR_GS_BASE,     MSR_KERNEL_GS_BASE, MSR_STAR,
                                    MSR_LSTAR,        MSR_CSTAR,       MSR_SFMASK,         MSR_SYSENTER_CS,
                                    MSR_SYSENTER_ESP, MSR_SYSENTER_EIP};
    uint8_t *io = frame_alloc_va(MAP_ORDER_IO), *msr = frame_alloc_va(MAP_ORDER_MSR);

    if (!io || !msr)
        return false;
    memset(io, 0xff, FRAME_SIZE << MAP_ORDER_IO);
    memset(msr, 0xff, FRAME_SIZE << MAP_ORDER_MSR);
    for (unsigned i = 0; i < ARRAY_SIZE(pass); i++)
        msr_pass(msr, pass[i]);
    if (cpu_features.rdtscp)
        msr_pass(msr, MSR_TSC_AUX);
    svm_iopm_pa = mfn_to_maddr(arch_va_mfn(io)).a;
    svm_msrpm_pa = mfn_to_maddr(arch_va_mfn(msr)).a;
    return true;
}

/* Protection keys, shadow stacks, branch tracking, five levels: bits of CR4 that no guest may set. */
static bool hidden_features(void)
{
    struct cpuid_leaf l = {0};

    if (cpu_features.max_leaf >= 7)
        l = cpuid(7, 0);
    return l.c & (1u << 3 | 1u << 7 | 1u << 16) || l.d & 1u << 20;
}

/* Once, on the boot CPU. */
bool svm_available(void)
{
    struct cpuid_leaf l;
    uint64_t vm_cr = 0;

    if (!opt_hap || !cpu_features.svm || !cpu_features.nx || cpu_features.max_ext_leaf < SVM_LEAF)
        return false;
    l = cpuid(SVM_LEAF, 0);
    if (!(l.d & SVM_NESTED_PAGES)) {
        log_info("SVM: without nested paging, not used");
        return false;
    }
    if (!rdmsr_safe(MSR_VM_CR, &vm_cr) || vm_cr & VM_CR_SVMDIS) {
        log_info("SVM: switched off by the firmware");
        return false;
    }
    if (l.b < 2 || !make_maps())
        return false;
    svm_nrips = l.d & SVM_NRIPS;
    hvm_has_debugctl = l.d & SVM_LBR;
    svm_watch_cr4 = hidden_features();
    svm_vnmi = l.d & SVM_VNMI ? SVM_V_NMI_ON : 0;
    if (l.d & SVM_TSC_RATIO)
        hvm_tsc_ratio_max = TSC_RATIO_MAX;
    asid_init(l.b);
    log_info("SVM: nested paging, %u address space identifiers%s%s%s", l.b, svm_nrips ? ", next RIP" : "",
             hvm_tsc_ratio_max ? ", TSC scaling" : "", svm_vnmi ? ", virtual NMI" : "");
    return true;
}

static bool prepare(unsigned cpu)
{
    mfn_t save, host;

    if (hsave_pa[cpu])
        return true;
    if (!frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &save))
        return false;
    if (!frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &host)) {
        frame_free(save, 0);
        return false;
    }
    hsave_pa[cpu] = mfn_to_maddr(save).a;
    host_pa[cpu] = mfn_to_maddr(host).a;
    return true;
}

static void cpu_on(void)
{
    unsigned cpu = arch_cpu_id();

    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, hsave_pa[cpu]);
    tsc_ratio[cpu] = 0; /* not known */
    svm_vmsave(host_pa[cpu]);
}

/* --- entry and exit --- */

/* What the processor scales its counter by in guests (APM vol. 2 15.30.5), where it can. */
static void load_tsc_ratio(const struct x86_domain *d)
{
    uint64_t ratio = d->tsc_ratio && !d->tsc_emulated ? d->tsc_ratio : TSC_RATIO_1;

    if (hvm_tsc_ratio_max && tsc_ratio[arch_cpu_id()] != ratio) {
        wrmsr(MSR_TSC_RATIO, ratio);
        tsc_ratio[arch_cpu_id()] = ratio;
    }
}

static void load(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    load_tsc_ratio(x86_domain(v->domain));
    if (s->cpu == arch_cpu_id())
        return;
    s->cpu = arch_cpu_id();
    s->clean = 0;
    s->generation = 0;
}

struct svm_enter svm_enter(void)
{
    struct vcpu *v = arch_current();
    struct svm_vcpu *s = svm_vcpu(v);

    hvm_before_entry(v);
    s->vmcb->rax = vcpu_regs(v)->rax;
    asid_assign(v);
    s->vmcb->clean = s->clean;
    s->clean = SVM_CLEAN_ALL;
    return (struct svm_enter){s->pa, host_pa[arch_cpu_id()]};
}

void svm_left(void)
{
    struct vcpu *v = arch_current();
    struct vmcb *c = vmcb_of(v);
    struct guest_regs *r = vcpu_regs(v);
    struct hvm_exit x;

    r->rax = c->rax;
    r->rip = c->rip;
    r->rsp = c->rsp;
    r->rflags = c->rflags;
    r->cs = c->cs.sel | 3; /* never taken for Krypton's own */
    r->ss = c->ss.sel;
    r->vector = (uint32_t)c->exit_code;
    if (unlikely((uint32_t)c->exit_code == SVM_EXIT_INVALID))
        asid_refused();
    svm_decode(c, svm_nrips, &x);
    hvm_handle_exit(v, &x);
}

/* --- the table --- */

static unsigned cpl(const struct vcpu *v)
{
    return vmcb_of(v)->cpl & 3;
}

static bool shadow(const struct vcpu *v)
{
    return vmcb_of(v)->shadow & SVM_SHADOW;
}

static void clear_shadow(struct vcpu *v)
{
    vmcb_of(v)->shadow &= ~SVM_SHADOW;
}

static bool is_64(const struct vcpu *v)
{
    const struct vmcb *c = vmcb_of(v);

    return (c->efer & EFER_LMA) && (c->cs.attr & CS_LONG);
}

static bool advance(struct vcpu *v, unsigned length)
{
    struct vmcb *c = vmcb_of(v);
    uint64_t rip = c->rip + length;

    c->rip = is_64(v) ? rip : (uint32_t)rip;
    c->shadow &= ~SVM_SHADOW;
    c->rflags &= ~(uint64_t)EFLAGS_RF;
    return c->rflags & EFLAGS_TF;
}

static uint8_t tpr(const struct vcpu *v)
{
    return (uint8_t)(vmcb_of(v)->vintr & 0xf);
}

static void set_tpr(struct vcpu *v, uint8_t value)
{
    struct vmcb *c = vmcb_of(v);

    if ((c->vintr & SVM_V_TPR) == (value & 0xfu))
        return;
    c->vintr = (c->vintr & ~SVM_V_TPR) | (value & 0xf);
    svm_touch(v, SVM_CLEAN_VINTR);
}

static void tsc(struct vcpu *v)
{
    bool emulated = x86_domain(v->domain)->tsc_emulated;
    struct vmcb *c = vmcb_of(v);

    c->tsc_offset = x86_vcpu(v)->tsc_offset;
    c->general1 = emulated ? c->general1 | SVM_G1_RDTSC : c->general1 & ~SVM_G1_RDTSC;
    c->general2 = emulated ? c->general2 | SVM_G2_RDTSCP : c->general2 & ~SVM_G2_RDTSCP;
    svm_touch(v, SVM_CLEAN_INTERCEPTS);
}

static void use_debugregs(struct vcpu *v, bool use)
{
    struct vmcb *c = vmcb_of(v);

    c->dr_read = c->dr_write = use ? 0 : 0xffff;
    svm_touch(v, SVM_CLEAN_INTERCEPTS);
}

static void watch(struct vcpu *v, uint32_t bit, bool on)
{
    struct vmcb *c = vmcb_of(v);
    uint32_t now = on ? c->general1 | bit : c->general1 & ~bit;

    if (now == c->general1)
        return;
    c->general1 = now;
    svm_touch(v, SVM_CLEAN_INTERCEPTS);
}

/* Virtual NMIs (APM vol. 2 15.21.10). One that is kept already stands for both. */
static bool queue_nmi(struct vcpu *v)
{
    if (!svm_vnmi)
        return false;
    vmcb_of(v)->vintr |= SVM_V_NMI;
    svm_touch(v, SVM_CLEAN_VINTR);
    return true;
}

static bool nmi_ready(const struct vcpu *v)
{
    return (vmcb_of(v)->vintr & (SVM_V_NMI | SVM_V_NMI_MASK)) == SVM_V_NMI;
}

static void nmi_over(struct vcpu *v)
{
    vmcb_of(v)->vintr &= ~SVM_V_NMI_MASK;
    svm_touch(v, SVM_CLEAN_VINTR);
}

static void watch_iret(struct vcpu *v, bool on)
{
    watch(v, SVM_G1_IRET, on);
}

/* A virtual interrupt that is never delivered, because its delivery is intercepted: it tells when the guest takes one. The interrupt and
 * the intercept come and go together. */
static void watch_window(struct vcpu *v, bool on)
{
    struct vmcb *c = vmcb_of(v);
    uint64_t asked = SVM_V_IRQ | SVM_V_PRIO | SVM_V_IGN_TPR;

    if (likely(((c->vintr & SVM_V_IRQ) != 0) == on))
        return;
    watch(v, SVM_G1_VINTR, on);
    c->vintr = on ? c->vintr | asked : c->vintr & ~asked;
    svm_touch(v, SVM_CLEAN_VINTR);
}

/* While the window is watched, too: QEMU's processor ends QEMU when CR8 is written while a virtual interrupt waits. */
static void watch_tpr(struct vcpu *v, bool on)
{
    struct vmcb *c = vmcb_of(v);

    on |= (c->vintr & SVM_V_IRQ) != 0;
    if (((c->cr_write & SVM_CR8_WRITE) != 0) == on)
        return;
    c->cr_write ^= SVM_CR8_WRITE;
    svm_touch(v, SVM_CLEAN_INTERCEPTS);
}

const struct hvm_ops svm_ops = {
    .name = "SVM",
    .cpu_prepare = prepare,
    .cpu_on = cpu_on,
    .vcpu_init = svm_vcpu_init,
    .vcpu_free = svm_vcpu_free,
    .vcpu_reset = svm_vcpu_reset,
    .get = svm_get,
    .set = svm_set,
    .get_segment = svm_get_segment,
    .set_segment = svm_set_segment,
    .cpl = cpl,
    .shadow = shadow,
    .clear_shadow = clear_shadow,
    .is_64 = is_64,
    .advance = advance,
    .tpr = tpr,
    .set_tpr = set_tpr,
    .tsc = tsc,
    .flush = svm_flush,
    .use_debugregs = use_debugregs,
    .queue_nmi = queue_nmi,
    .nmi_ready = nmi_ready,
    .nmi_over = nmi_over,
    .watch_iret = watch_iret,
    .watch_window = watch_window,
    .watch_tpr = watch_tpr,
    .interrupted = svm_interrupted,
    .inject = svm_inject,
    .load = load,
    .resume = svm_resume,
    .dump = svm_dump,
};
