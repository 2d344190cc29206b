/*
 * HVM guests without a processor: exits, events, contexts, parameters and starts of vCPUs on a vendor that keeps its state in a structure.
 * What a guest or a toolstack can say wrong is said.
 */
#define _GNU_SOURCE
#include "fake.h"
#include "core/control.h"
#include "core/guest.h"
#include "core/sched.h"
#include "core/work.h"
#include "arch/x86/hvm/dev/irq.h"
#include "arch/x86/hvm/dev/ioreq_private.h"
#include "arch/x86/hvm/dev/vlapic.h"
#include "arch/x86/hvm/dev/vlapic_private.h"
#include "arch/x86/hvm/private.h"
#include "arch/x86/hvm/dev/tsc.h"
#include "arch/x86/hvm/viridian/viridian.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/mce.h"
#include "x86/mm.h"
#include "x86/platform.h"
#include "x86/policy.h"
#include "arch/x86/metal/asm.h"
#include "arch/x86/metal/pvregs.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>

/* --- the vendor --- */

#define REGS (HVM_SYSENTER_EIP + 1)
struct svm_vcpu {
    uint64_t reg[REGS];
    struct hvm_segment seg[HVM_SEGS];
    bool shadow, window, iret, cr8;
    uint8_t tpr;
    struct hvm_event injected, interrupted;
};
static struct svm_vcpu *soft(const struct vcpu *v)
{
    return hvm_vcpu(v)->svm;
}
static void f_reset(struct vcpu *v)
{
    memset(soft(v), 0, sizeof(*soft(v)));
    soft(v)->reg[HVM_RFLAGS] = 2;
    soft(v)->reg[HVM_PAT] = 0x0007040600070406ull;
    soft(v)->seg[HVM_CS] = (struct hvm_segment){.sel = 0xf000, .base = 0xffff0000};
}
static int f_init(struct vcpu *v)
{
    static struct svm_vcpu states[4][2];

    hvm_vcpu(v)->svm = &states[v->domain->id.v][v->id];
    f_reset(v);
    return 0;
}
static void f_free(struct vcpu *v)
{
}
static uint64_t f_get(const struct vcpu *v, enum hvm_reg r)
{
    return soft(v)->reg[r];
}
static void f_set(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
    soft(v)->reg[r] = value;
}
static void f_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    *out = soft(v)->seg[s];
}
static void f_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in)
{
    soft(v)->seg[s] = *in;
}
static unsigned f_cpl(const struct vcpu *v)
{
    return soft(v)->seg[HVM_SS].attr >> 5 & 3;
}
static bool f_shadow(const struct vcpu *v)
{
    return soft(v)->shadow;
}
static void f_clear_shadow(struct vcpu *v)
{
    soft(v)->shadow = false;
}
static bool f_is_64(const struct vcpu *v)
{
    return (soft(v)->reg[HVM_EFER] & EFER_LMA) && (soft(v)->seg[HVM_CS].attr & CS_LONG);
}
static bool f_advance(struct vcpu *v, unsigned length)
{
    uint64_t *rip = &soft(v)->reg[HVM_RIP], *rflags = &soft(v)->reg[HVM_RFLAGS];

    *rip = f_is_64(v) ? *rip + length : (uint32_t)(*rip + length);
    *rflags &= ~(uint64_t)EFLAGS_RF;
    soft(v)->shadow = false;
    return *rflags & EFLAGS_TF;
}
static uint8_t f_tpr(const struct vcpu *v)
{
    return soft(v)->tpr;
}
static void f_set_tpr(struct vcpu *v, uint8_t tpr)
{
    soft(v)->tpr = tpr;
}
static void f_nothing(struct vcpu *v)
{
}
static unsigned tsc_changes;
static void f_tsc(struct vcpu *v)
{
    tsc_changes++;
}
static unsigned flushes;
static void f_flush(struct vcpu *v)
{
    flushes++;
}
static bool debugregs_used;
static void f_debugregs(struct vcpu *v, bool on)
{
    debugregs_used = on;
}
static bool keeps_nmis, kept_nmi;
static bool f_queue_nmi(struct vcpu *v)
{
    kept_nmi |= keeps_nmis;
    return keeps_nmis;
}
static bool f_nmi_ready(const struct vcpu *v)
{
    return kept_nmi;
}
static void f_window(struct vcpu *v, bool on)
{
    soft(v)->window = on;
}
static void f_iret(struct vcpu *v, bool on)
{
    soft(v)->iret = on;
}
static void f_watch_tpr(struct vcpu *v, bool on)
{
    soft(v)->cr8 = on;
}
static void f_interrupted(struct vcpu *v, struct hvm_event *out)
{
    *out = soft(v)->interrupted;
    soft(v)->interrupted.valid = false;
}
static void f_inject(struct vcpu *v, const struct hvm_event *e)
{
    assert_false(soft(v)->injected.valid);
    soft(v)->injected = *e;
}
const struct hvm_ops svm_ops = {.name = "soft",
                                .vcpu_init = f_init,
                                .vcpu_free = f_free,
                                .vcpu_reset = f_reset,
                                .get = f_get,
                                .set = f_set,
                                .get_segment = f_get_segment,
                                .set_segment = f_set_segment,
                                .cpl = f_cpl,
                                .shadow = f_shadow,
                                .clear_shadow = f_clear_shadow,
                                .is_64 = f_is_64,
                                .advance = f_advance,
                                .tpr = f_tpr,
                                .set_tpr = f_set_tpr,
                                .tsc = f_tsc,
                                .flush = f_flush,
                                .use_debugregs = f_debugregs,
                                .queue_nmi = f_queue_nmi,
                                .nmi_ready = f_nmi_ready,
                                .watch_iret = f_iret,
                                .watch_window = f_window,
                                .watch_tpr = f_watch_tpr,
                                .interrupted = f_interrupted,
                                .inject = f_inject,
                                .dump = f_nothing};
bool svm_available(void)
{
    return true;
}

/* --- the rest of the machine --- */

struct cpu_features cpu_features = {
    .amd = true, .phys_bits = 40, .xsave = true, .xcr0_mask = 7, .xsave_size = 832};
uint64_t tsc_khz = 1000000;
mfn_t hyp_l4_mfn;
static struct cpu_policy policy;
static uint8_t code[16];
static enum p2m_verdict verdict;

struct guest_regs *vcpu_regs(struct vcpu *v)
{
    return &x86_vcpu(v)->regs;
}
void fpu_reset(struct x86_vcpu *x)
{
    memset(x->fpu, 0, 1024);
}
void fpu_save(struct x86_vcpu *x)
{
}
void fpu_load(struct x86_vcpu *x)
{
}
void fpu_vector(struct x86_vcpu *x, unsigned n, bool write, uint64_t value[2])
{
}
bool hw_load_ds(uint16_t sel)
{
    return true;
}
bool hw_load_es(uint16_t sel)
{
    return true;
}
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
    fail_msg("the processor's MSR %x is read", msr);
    return false;
}
bool wrmsr_safe(uint32_t msr, uint64_t v)
{
    assert_true(msr == 0x49 && v <= 1); /* PRED_CMD and nothing else */
    return true;
}
void mce_exception(const struct guest_regs *r, bool from_guest)
{
}
void pirq_domain_release(struct domain *d)
{
}
void p2m_machine_set(const struct p2m_machine *m)
{
}
int p2m_domain_init(struct domain *d)
{
    return 0;
}
void p2m_domain_free(struct domain *d)
{
}
void p2m_dump(struct domain *d)
{
}
int p2m_domain_release(struct domain *d)
{
    return 0;
}
enum p2m_verdict p2m_fault(struct domain *d, uint64_t gpa, unsigned access)
{
    return verdict;
}
int p2m_get(struct domain *d, gfn_t g, unsigned want, struct p2m_entry *e)
{
    return -ENOENT;
}
void p2m_look(struct domain *d, gfn_t g, struct p2m_entry *e)
{
    *e = (struct p2m_entry){.mfn = INVALID_MFN, .type = g.n == 5 ? P2M_RAM : P2M_NONE};
}
/* Guests of this test have no memory that could be changed. */
int p2m_set(struct domain *d, gfn_t g, mfn_t m, unsigned order, enum p2m_type type)
{
    return -ENOMEM;
}
int p2m_remove(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    return -ENOENT;
}
int p2m_change_type(struct domain *d, gfn_t g, enum p2m_type from, enum p2m_type to)
{
    return -EINVAL;
}
bool guest_phys_in(struct domain *d, void *to, uint64_t gpa, size_t n)
{
    memset(to, 0, n);
    return gpa >> FRAME_SHIFT == 5;
}
bool time_tsc_line(const struct domain *who, uint64_t *tsc, uint64_t *ns, uint64_t *scale)
{
    return false;
}
static bool memory_goes; /* at every look */
uint64_t p2m_generation(const struct domain *d)
{
    static uint64_t generation;

    return generation += memory_goes;
}
static unsigned told;
void __wrap_ioreq_invalidate(struct vcpu *v, struct hvm_io *io);
void __wrap_ioreq_invalidate(struct vcpu *v, struct hvm_io *io)
{
    told++;
}
gfn_t p2m_highest(const struct domain *d)
{
    return GFN(0);
}
void p2m_mark_dirty(struct domain *d, gfn_t g)
{
}
bool p2m_log_enabled(const struct domain *d)
{
    return false;
}
bool p2m_log_read_some(struct domain *d, gfn_t g, unsigned n, uint8_t *bits, bool clean)
{
    return false;
}
void p2m_flush(struct domain *d)
{
}
static uint64_t read_only = ~0ull; /* an address that the guest's tables do not let be written */
static bool plain_memory;          /* page 5, wherever the guest looks */
enum walk_result guest_walk(struct vcpu *v, const struct guest_paging *p, uint64_t va, unsigned access,
                            uint64_t *gpa, uint32_t *error)
{
    *gpa = (plain_memory ? 0x5000 : 0x9000) | (va & (FRAME_SIZE - 1));
    *error = access | WALK_PRESENT;
    return access & WALK_WRITE && va == read_only ? WALK_FAULT : WALK_OK;
}
struct walk_cache *walk_cache_alloc(void)
{
    return NULL;
}
void walk_cache_free(struct walk_cache *c)
{
}
static uint64_t device_at = ~0ull; /* from here on a device's memory, at the same guest-physical addresses */
enum copy_result guest_linear_in(struct vcpu *v, const struct guest_paging *p, void *to, uint64_t va,
                                 size_t n, unsigned access, struct copy_fault *fault)
{
    *fault = (struct copy_fault){.address = va, .gpa = va};
    if (va >= device_at)
        return COPY_NO_RAM;
    memcpy(to, code, MIN(n, sizeof(code)));
    return COPY_OK;
}
static unsigned all_ones; /* elements written */
enum copy_result guest_linear_out(struct vcpu *v, const struct guest_paging *p, uint64_t va, const void *from,
                                  size_t n, unsigned access, struct copy_fault *fault)
{
    *fault = (struct copy_fault){.address = va, .error = 2};
    all_ones += !memcmp(from, &(uint64_t){~0ull}, n);
    return va == 0x666 || va == read_only ? COPY_FAULT : COPY_OK;
}
bool hvm_copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    if (from.a < 65536)
        return false;
    memcpy(to, (void *)from.a, n);
    return true;
}
bool hvm_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    if (to.a < 65536)
        return false;
    memcpy((void *)to.a, from, n);
    return true;
}
bool hvm_zero(struct vcpu *v, gva_t to, size_t n)
{
    return false;
}
struct domain *arch_domain_alloc(void)
{
    return calloc(1, sizeof(struct x86_domain));
}
void arch_domain_free(struct domain *d)
{
    if (d->ops && d->ops->translated)
        hvm_domain_free(d);
    free(d);
}
struct vcpu *arch_vcpu_alloc(struct domain *d)
{
    return calloc(1, sizeof(struct x86_vcpu));
}
void arch_vcpu_free(struct vcpu *v)
{
    if (x86_vcpu(v)->hvm)
        hvm_vcpu_free(v);
    free(x86_vcpu(v)->fpu);
    free(v);
}
int arch_domain_init(struct domain *d, uint32_t flags)
{
    x86_domain(d)->policy = &policy;
    return d->ops && d->ops->translated ? hvm_domain_init(d, flags) : 0;
}
int arch_vcpu_init(struct vcpu *v)
{
    if (!v->domain->ops || !v->domain->ops->translated)
        return 0;
    x86_vcpu(v)->fpu = calloc(1, 1024);
    return hvm_vcpu_init(v);
}
int arch_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online)
{
    return hvm_vcpu_initialise(v, caller, context, online);
}

/* --- guests --- */

static struct domain *ctl, *d;
static struct vcpu *tool, *v, *second;

static struct domain *domain_new(uint16_t id, const struct guest_ops *ops, unsigned vcpus)
{
    struct domain_config c = {.ops = ops,
                              .privileged = id == 1,
                              .arch_flags = id == 3 ? XEN_X86_EMU_ALL : 0,
                              .max_vcpus = vcpus,
                              .max_evtchn_port = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 100};

    return fake_domain_new(id, &c);
}

static void host_cpuid(uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out)
{
    *out = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    if (leaf == 0xd && subleaf >= 2)
        *out = (struct cpuid_leaf){subleaf == 2 ? 256 : 0, subleaf == 2 ? 576 : 0, 0, 0};
}

static int group_setup(void **state)
{
    const struct policy_host h = {.cpuid = host_cpuid,
                                  .amd = true,
                                  .max_leaf = 0xd,
                                  .max_ext_leaf = 0x80000021,
                                  .xcr0_mask = 7,
                                  .fsgsbase = true};

    fake_setup(state);
    policy_build_hvm_max(&h, &policy);
    domain_subsystem_init();
    sched_init();
    hvm_ops = &svm_ops;
    ctl = domain_new(1, &fake_guest_ops, 1);
    tool = ctl->vcpu[0];
    d = domain_new(2, &hvm_guest_ops, 2);
    v = d->vcpu[0];
    second = d->vcpu[1];
    return 0;
}

static int setup(void **state)
{
    hvm_vcpu_reset(v);
    hvm_vcpu_reset(second);
    vlapic_mmio_write(v, APIC_SVR, 0x1ff);
    v->pause_flags = second->pause_flags = VPF_DOWN;
    v->initialised = second->initialised = false;
    v->info->evtchn_upcall_pending = 0;
    hvm_domain(d)->callback_vector = 0;
    d->shutting_down = d->shut_down = false;
    d->shutdown_code = SHUTDOWN_CODE_NONE;
    d->crashed = 0;
    fake_run_as(v);
    verdict = P2M_IS_MMIO;
    return 0;
}

static void sixty_four(struct vcpu *w)
{
    soft(w)->reg[HVM_EFER] = 0xd01;
    soft(w)->reg[HVM_CR0] = 0x80010033;
    soft(w)->reg[HVM_CR4] = 0x20;
    soft(w)->seg[HVM_CS].attr = 0xa9b;
    soft(w)->reg[HVM_RIP] = 0x1000;
}

static void leave(struct vcpu *w, struct hvm_exit x)
{
    soft(w)->injected.valid = false;
    hvm_handle_exit(w, &x);
}

static long control(uint32_t cmd, void (*fill)(struct xen_domctl *op), struct xen_domctl *out,
                    long (*fn)(struct domctl *c))
{
    struct domctl c = {.hc = {.caller = tool}, .d = d, .op = {.cmd = cmd}};
    long r;

    if (out)
        c.op = *out;
    fake_run_as(tool);
    r = fn(&c);
    fake_run_as(v);
    if (out)
        *out = c.op;
    return r;
}

/* --- exits --- */

static void test_hypercall(void **state)
{
    struct guest_regs *r = vcpu_regs(v);

    sixty_four(v);
    r->rax = 63; /* no such */
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_HYPERCALL, .length = 3});
    assert_int_equal(r->rax, (uint64_t)-ENOSYS);
    assert_int_equal(f_get(v, HVM_RIP), 0x1003);
    soft(v)->seg[HVM_SS].attr = 3 << 5; /* from user mode */
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_HYPERCALL, .length = 3});
    assert_int_equal(r->rax, (uint64_t)-EPERM);
    soft(v)->seg[HVM_SS].attr = 0;
    soft(v)->seg[HVM_CS].attr = 0xc9b; /* 32 bits */
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_HYPERCALL, .length = 3});
    assert_int_equal((uint32_t)r->rax, (uint32_t)-ENOSYS);
}

/* Memory that a kernel of either width has given back, by itself or in a list, is no device model's any more. */
static void test_hypercall_tells(void **state)
{
    static const unsigned nr[] = {__HYPERVISOR_memory_op, __HYPERVISOR_multicall, __HYPERVISOR_xen_version};

    for (unsigned wide = 0; wide < 2; wide++)
        for (unsigned i = 0; i < 2 * ARRAY_SIZE(nr); i++) {
            sixty_four(v);
            soft(v)->seg[HVM_CS].attr = wide ? 0xa9b : 0xc9b;
            *vcpu_regs(v) = (struct guest_regs){.rax = nr[i / 2]};
            memory_goes = i % 2;
            told = 0;
            leave(v, (struct hvm_exit){.kind = HVM_EXIT_HYPERCALL, .length = 3});
            assert_int_equal(told, memory_goes && nr[i / 2] != __HYPERVISOR_xen_version);
        }
    memory_goes = false;
}

static void test_cpuid(void **state)
{
    struct guest_regs *r = vcpu_regs(v);

    r->rax = 0x40000000;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
    assert_int_equal(r->rbx, XEN_CPUID_SIGNATURE_EBX);
    r->rax = 0x40000004;
    r->rcx = 0;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
    assert_true(r->rax & XEN_HVM_CPUID_VCPU_ID_PRESENT && r->rbx == 0 && r->rcx == 2);
    r->rax = 1;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
    assert_true(r->rcx & 1u << 31 && r->rcx & 1u << 21);
    assert_false(r->rcx & 1u << 5); /* no VMX in a guest */
    r->rax = 0x80000001;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
    assert_false(r->rcx & 4); /* nor SVM */
    for (uint32_t leaf = 0x80000009; leaf < 0x80000020; leaf++) {
        r->rax = leaf;
        leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
        assert_int_equal(r->rax | r->rbx | r->rcx | r->rdx, 0);
    }
}

/* Every MSR, read and written: an exception or nothing, and the processor's own is touched by none. */
static void test_every_msr(void **state)
{
    static const uint32_t first[] = {0, 0x40000000, 0xc0000000, 0xc0010000};
    static const uint64_t values[] = {0, 1, ~0ull, 0x8000000000000000ull, 0x0007040600070406ull};

    sixty_four(v);
    for (unsigned k = 0; k < ARRAY_SIZE(first); k++)
        for (uint32_t msr = first[k]; msr < first[k] + 0x2000; msr++) {
            struct guest_regs *r = vcpu_regs(v);

            r->rcx = msr;
            hvm_vcpu(v)->event.valid = false;
            leave(v, (struct hvm_exit){.kind = HVM_EXIT_RDMSR, .length = 2});
            for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
                r->rax = (uint32_t)values[i];
                r->rdx = values[i] >> 32;
                hvm_vcpu(v)->event.valid = false;
                leave(v, (struct hvm_exit){.kind = HVM_EXIT_WRMSR, .length = 2});
                assert_false(f_get(v, HVM_EFER) & ~0xd01ull & ~0x4000ull);
                assert_true(hvm_pat_ok(f_get(v, HVM_PAT)));
            }
        }
    vlapic_reset(v);
}

/* Written by debuggers, and by Windows: real where the processor switches it for guests, else it can only stay off. */
static void test_debugctl(void **state)
{
    uint64_t value = 1;

    assert_true(hvm_rdmsr(v, 0x1d9, &value) && !value);
    assert_true(hvm_wrmsr(v, 0x1d9, 0) && !hvm_wrmsr(v, 0x1d9, 1));
    hvm_has_debugctl = true;
    assert_true(hvm_wrmsr(v, 0x1d9, 0x3f) && !hvm_wrmsr(v, 0x1d9, 0x40));
    assert_true(hvm_rdmsr(v, 0x1d9, &value) && value == 3 && f_get(v, HVM_DEBUGCTL) == 3);
    soft(v)->reg[HVM_EXCEPTION_TO] = 0x1234;
    assert_true(hvm_rdmsr(v, 0x1de, &value) && value == 0x1234);
    assert_true(!hvm_wrmsr(v, 0x1de, 0) && !hvm_rdmsr(v, 0x1da, &value) && !hvm_rdmsr(v, 0x1df, &value));
    /* Single steps from branch to branch: what is done here for the guest is none. */
    soft(v)->reg[HVM_RFLAGS] = 0x102;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
    assert_false(hvm_vcpu(v)->event.valid);
    assert_true(hvm_wrmsr(v, 0x1d9, 1));
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
    assert_int_equal(hvm_vcpu(v)->event.vector, 1);
    hvm_has_debugctl = false;
}

static void test_efer(void **state)
{
    soft(v)->reg[HVM_EFER] = 0;
    assert_true(hvm_wrmsr(v, 0xc0000080, 0x901));
    assert_false(hvm_wrmsr(v, 0xc0000080, 0x1901)); /* SVME */
    sixty_four(v);
    assert_false(hvm_wrmsr(v, 0xc0000080, 0x801)); /* LME while paging */
    assert_true(hvm_wrmsr(v, 0xc0000080, 0x101));
    assert_int_equal(f_get(v, HVM_EFER), 0x501); /* LMA stays */
}

static void test_io(void **state)
{
    struct guest_regs *r = vcpu_regs(v);
    struct hvm_exit x = {.kind = HVM_EXIT_IO, .length = 2, .io = {.port = 0x3f8, .bytes = 1, .in = true}};

    sixty_four(v);
    r->rax = 0x1234567811223300;
    leave(v, x);
    assert_int_equal(r->rax, 0x12345678112233ff);
    x.io.bytes = 4;
    leave(v, x);
    assert_int_equal(r->rax, 0xffffffff);
    x = (struct hvm_exit){.kind = HVM_EXIT_IO,
                          .length = 2,
                          .io = {.bytes = 4, .in = true, .string = true, .rep = true, .address_bytes = 8}};
    r->rcx = 100;
    r->rdi = 0x10000;
    leave(v, x);
    assert_int_equal(r->rcx, 36); /* not all in one exit */
    leave(v, x);
    assert_int_equal(r->rcx, 0);
    assert_int_equal(r->rdi, 0x10000 + 400);
    r->rcx = 1;
    r->rdi = 0x666;
    leave(v, x);
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 14 && r->rcx == 1);
    assert_int_equal(f_get(v, HVM_CR2), 0x666);
}

/* A processor that does not say how wide addresses are: the mode and a prefix do (QEMU's, of a 64-bit kernel that reads an IDE disk). */
static void test_io_address_width(void **state)
{
    static const struct {
        uint16_t attr;
        bool wide, prefix;
        uint64_t after;
    } cases[] = {{0xa9b, true, false, 0xffff888000010002},
                 {0xa9b, true, true, 0x10002},
                 {0xc9b, false, false, 0x10002},
                 {0xc9b, false, true, 0xffff888000010002},
                 {0x09b, false, false, 0xffff888000010002},
                 {0x09b, false, true, 0x10002}};
    struct guest_regs *r = vcpu_regs(v);
    struct hvm_exit x = {
        .kind = HVM_EXIT_IO, .length = 3, .io = {.bytes = 2, .in = true, .string = true, .rep = true}};

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        sixty_four(v);
        soft(v)->seg[HVM_CS].attr = cases[i].attr;
        soft(v)->reg[HVM_EFER] = cases[i].wide ? 0xd01 : 0;
        soft(v)->seg[HVM_ES] = (struct hvm_segment){.attr = 0xc93, .limit = ~0u};
        memcpy(code, cases[i].prefix ? "\x67\xf3\x6d" : "\xf3\x6d\x67", 3);
        r->rcx = 1;
        r->rdi = 0xffff888000010000;
        leave(v, x);
        assert_int_equal(r->rdi, cases[i].after);
        assert_int_equal(r->rcx, 0);
    }
    /* 16 bits: the index wraps, and what is above it in the registers stays. */
    memcpy(code, "\xf3\x6d\x67", 3);
    r->rcx = 0xffff0002;
    r->rdi = 0x1234fffe;
    leave(v, x);
    assert_true(r->rdi == 0x12340002 && r->rcx == 0xffff0000);
}

/* INS and OUTS are left at before the processor looks at their memory: segments and canonical form are looked at here. */
static void test_strings_stay_in_their_segment(void **state)
{
    static const struct {
        bool out; /* by SS */
        uint16_t code, attr;
        uint32_t limit, cr0;
        uint64_t offset;
        uint8_t vector; /* 0: done */
    } cases[] = {
        {false, 0xa9b, 0, 0, CR0_PE, 0xffff888000010000, 0}, /* 64 bits: no limits, no types */
        {false, 0xa9b, 0xc93, ~0u, CR0_PE, 0x800000000000, TRAP_GP},
        {false, 0xa9b, 0xc93, ~0u, CR0_PE, 0x7ffffffffffe, TRAP_GP}, /* its last byte */
        {true, 0xa9b, 0xc93, ~0u, CR0_PE, 0x800000000000, TRAP_SS},
        {false, 0xc9b, 0xc93, 0x20003, CR0_PE, 0x20000, 0},
        {false, 0xc9b, 0xc93, 0x20002, CR0_PE, 0x20000, TRAP_GP},
        {true, 0xc9b, 0xc93, 0x20002, CR0_PE, 0x20000, TRAP_SS},
        {false, 0xc9b, 0xc93, ~0u, CR0_PE, 0xfffffffe, TRAP_GP}, /* over the end of all */
        {false, 0xc9b, 0xc91, ~0u, CR0_PE, 0x20000, TRAP_GP},    /* may be read only */
        {true, 0xc9b, 0xc91, ~0u, CR0_PE, 0x20000, 0},
        {false, 0xc9b, 0xc9b, ~0u, CR0_PE, 0x20000, TRAP_GP}, /* code */
        {true, 0xc9b, 0xc99, ~0u, CR0_PE, 0x20000, TRAP_SS},  /* may be executed only */
        {false, 0xc9b, 0, 0, CR0_PE, 0, TRAP_GP},             /* null */
        {false, 0xc9b, 0xc97, 0x1ffff, CR0_PE, 0x20000, 0},   /* expand down */
        {false, 0xc9b, 0xc97, 0x1ffff, CR0_PE, 0x1fffe, TRAP_GP},
        {false, 0xc9b, 0x097, 0xffu, CR0_PE, 0xfffe, TRAP_GP}, /* of 16 bits: ends there */
        {false, 0x09b, 0x091, 0xffff, 0, 0xfffc, 0},           /* real mode: no types */
        {false, 0x09b, 0x093, 0xffff, 0, 0xfffe, TRAP_GP},
    };
    struct guest_regs *r = vcpu_regs(v);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct hvm_exit x = {.kind = HVM_EXIT_IO,
                             .length = 2,
                             .io = {.bytes = 4, .in = !cases[i].out, .string = true, .rep = true}};

        sixty_four(v);
        hvm_vcpu(v)->event.valid = false;
        soft(v)->seg[HVM_CS].attr = cases[i].code;
        soft(v)->reg[HVM_EFER] = cases[i].code == 0xa9b ? 0xd01 : 0;
        soft(v)->reg[HVM_CR0] = cases[i].cr0;
        soft(v)->seg[cases[i].out ? HVM_SS : HVM_ES] =
            (struct hvm_segment){.attr = cases[i].attr, .limit = cases[i].limit};
        memcpy(code, cases[i].out ? "\x36\xf3\x6f" : "\xf3\x6d\x90", 3);
        r->rcx = 1;
        r->rdi = r->rsi = cases[i].offset;
        leave(v, x);
        assert_int_equal(r->rcx, cases[i].vector != 0);
        assert_int_equal(hvm_vcpu(v)->event.valid, cases[i].vector != 0);
        if (cases[i].vector)
            assert_int_equal(hvm_vcpu(v)->event.vector, cases[i].vector);
    }
    hvm_vcpu(v)->event.valid = false;
}

/* Many elements from a port that no device model serves: the guest's memory gets what one element gets. */
static void test_io_nobody(void **state)
{
    struct guest_regs *r = vcpu_regs(v);
    struct hvm_exit x = {
        .kind = HVM_EXIT_IO,
        .length = 2,
        .io = {.port = 0x300, .bytes = 4, .in = true, .string = true, .rep = true, .address_bytes = 8}};
    uint16_t id;

    fake_run_as(tool);
    assert_int_equal(ioreq_create(d, DID(1), HVM_IOREQSRV_BUFIOREQ_OFF, &id), 0);
    fake_run_as(v);
    sixty_four(v);
    plain_memory = true;
    r->rcx = 20;
    r->rdi = 0x10000;
    all_ones = 0;
    leave(v, x);
    assert_true(r->rcx == 0 && r->rdi == 0x10000 + 80);
    assert_int_equal(all_ones, 20);
    plain_memory = false;
    fake_run_as(tool);
    assert_int_equal(ioreq_destroy(d, id), 0);
    fake_run_as(v);
}

/* What a device gives is gone from it: a page that cannot be written is found out before it is asked. */
static void test_ins_to_a_page_that_is_not_there(void **state)
{
    struct guest_regs *r = vcpu_regs(v);
    struct hvm_exit x = {
        .kind = HVM_EXIT_IO,
        .length = 2,
        .io = {.port = 0x300, .bytes = 4, .in = true, .string = true, .rep = true, .address_bytes = 8}};
    const uint64_t places[] = {0x10ffc, 0x11000};
    struct shared_iopage *page;
    uint16_t id;
    mfn_t m;

    fake_run_as(tool);
    assert_int_equal(ioreq_create(d, DID(1), HVM_IOREQSRV_BUFIOREQ_OFF, &id), 0);
    assert_int_equal(hvm_resource_frame(d, id, XENMEM_resource_ioreq_server_frame_ioreq(0), &m), 0);
    assert_int_equal(ioreq_range(d, id, XEN_DMOP_IO_RANGE_PORT, 0x300, 0x303, true), 0);
    assert_int_equal(ioreq_set_state(d, id, true), 0);
    page = arch_frame_va(m);
    fake_run_as(v);
    sixty_four(v);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) { /* all of it, its end */
        hvm_vcpu(v)->event.valid = false;
        read_only = places[i];
        r->rcx = 2;
        r->rdi = i ? 0x10ffe : 0x10ffc;
        leave(v, x);
        assert_int_equal(page->vcpu_ioreq[v->id].state, STATE_IOREQ_NONE);
        assert_false(hvm_access_pending(v));
        assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 14);
        assert_int_equal(f_get(v, HVM_CR2), places[i]);
        assert_int_equal(r->rcx, 2);
    }
    read_only = ~0ull;
    leave(v, x);
    assert_int_equal(page->vcpu_ioreq[v->id].state, STATE_IOREQ_READY);
    page->vcpu_ioreq[v->id].state = STATE_IORESP_READY;
    hvm_access_go_on(v); /* the second one is asked for */
    assert_int_equal(r->rcx, 1);
    page->vcpu_ioreq[v->id].state = STATE_IORESP_READY;
    hvm_access_go_on(v);
    assert_int_equal(r->rcx, 0);
    fake_run_as(tool);
    assert_int_equal(ioreq_destroy(d, id), 0);
    fake_run_as(v);
}

/* MOVS from a device: the processor has looked at that side only. */
static void test_movs_other_side(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_MEMORY, .memory = {.gpa = 0x123456000}};
    struct guest_regs *r = vcpu_regs(v);

    sixty_four(v);
    memcpy(code, "\xa4\x90", 2);
    r->rsi = 0x5000;
    r->rdi = 0x800000000000;
    leave(v, x);
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == TRAP_GP);
    assert_int_equal(r->rdi, 0x800000000000);
    hvm_vcpu(v)->event.valid = false;
    r->rdi = 0x10000;
    leave(v, x);
    assert_false(hvm_vcpu(v)->event.valid);
    assert_int_equal(r->rdi, 0x10001);
}

static void test_apic_page(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_MEMORY, .memory = {.gpa = APIC_PAGE + APIC_TPR, .write = true}};

    sixty_four(v);
    memcpy(code, "\x89\x08", 2); /* mov %ecx, (%rax) */
    vcpu_regs(v)->rcx = 0x55;
    vcpu_regs(v)->rax = 0x5000 + APIC_TPR; /* where the guest has mapped it */
    leave(v, x);
    assert_int_equal(vlapic_mmio_read(v, APIC_TPR), 0x55);
    assert_int_equal(f_get(v, HVM_RIP), 0x1002);
    memcpy(code, "\x8b\x08", 2);
    x.memory.write = false;
    vcpu_regs(v)->rcx = ~0ull;
    soft(v)->tpr = 5;
    leave(v, x);
    assert_int_equal(vcpu_regs(v)->rcx, 0x50 | (vcpu_regs(v)->rcx & 0xf));
    x.memory.gpa = 0x123456000 + APIC_TPR; /* nobody's */
    leave(v, x);
    assert_int_equal(vcpu_regs(v)->rcx, 0xffffffff);
    memcpy(code, "\xff\x10", 2); /* a call: not one of those */
    leave(v, x);
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 6);
    hvm_vcpu(v)->event.valid = false;
    verdict = P2M_DENIED;
    leave(v, x);
    assert_int_equal(hvm_vcpu(v)->event.vector, 13);
    assert_false(d->crashed);
    verdict = P2M_IS_MMIO;
    x.memory.walk = true;
    leave(v, x);
    assert_true(d->crashed);
}

/* Flags are those of the last round, also when it leaves them as the first one found them. */
static void test_flags_after_rounds(void **state)
{
    struct guest_regs *r = vcpu_regs(v);

    sixty_four(v);
    memcpy(code, "\xf2\xae\x90", 3); /* repne scas (%rdi), %al */
    vlapic_mmio_write(v, APIC_TPR, 0x55);
    soft(v)->tpr = 5;
    device_at = APIC_PAGE;
    soft(v)->reg[HVM_RFLAGS] = 0x46; /* equal */
    r->rax = 0;
    r->rcx = 10;
    r->rdi = APIC_PAGE + APIC_TPR;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_MEMORY, .memory = {.gpa = APIC_PAGE + APIC_TPR}});
    device_at = ~0ull;
    assert_true(r->rcx == 8 && r->rdi == APIC_PAGE + APIC_TPR + 2);
    assert_int_equal(f_get(v, HVM_RIP), 0x1002);
    assert_int_equal(f_get(v, HVM_RFLAGS), 0x46);
}

/*
 * What the processor found to be allowed was a read. Another vCPU has made a write of the instruction meanwhile: that is for the guest's own
 * tables to allow, which keep this page of the device from being written.
 */
static void test_a_read_does_not_become_a_write(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_MEMORY, .memory.gpa = APIC_PAGE + APIC_TPR};

    sixty_four(v);
    soft(v)->seg[HVM_SS].attr = 3 << 5;
    vlapic_mmio_write(v, APIC_TPR, 0x55);
    soft(v)->tpr = 5;
    memcpy(code, "\x89\x08", 2); /* mov %ecx, (%rax) */
    vcpu_regs(v)->rcx = 0x77;
    vcpu_regs(v)->rax = read_only = 0x5000 + APIC_TPR;
    leave(v, x);
    assert_int_equal(vlapic_mmio_read(v, APIC_TPR), 0x55);
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 14);
    assert_int_equal(f_get(v, HVM_CR2), read_only);
    assert_int_equal(f_get(v, HVM_RIP), 0x1000);
    read_only = ~0ull;
}

/*
 * A copy from two pages of a device model's device whose first element could not be moved together with others. When it has gone, element by
 * element, to the same place in the second page, the page that the processor named is not the one that it is in.
 */
static void test_many_from_the_second_page(void **state)
{
    struct guest_regs *r = vcpu_regs(v);
    const uint64_t at = 0x10000000;
    struct shared_iopage *page;
    struct ioreq *q;
    uint64_t moved = 0;
    uint16_t id;
    mfn_t m;

    fake_run_as(tool);
    assert_int_equal(ioreq_create(d, DID(1), HVM_IOREQSRV_BUFIOREQ_OFF, &id), 0);
    assert_int_equal(hvm_resource_frame(d, id, XENMEM_resource_ioreq_server_frame_ioreq(0), &m), 0);
    assert_int_equal(ioreq_range(d, id, XEN_DMOP_IO_RANGE_MEMORY, at, at + 2 * FRAME_SIZE - 1, true), 0);
    assert_int_equal(ioreq_set_state(d, id, true), 0);
    page = arch_frame_va(m);
    q = &page->vcpu_ioreq[v->id];
    fake_run_as(v);
    sixty_four(v);
    memcpy(code, "\xf3\x48\xa5", 3); /* rep movsq */
    device_at = at;
    r->rcx = 2 * FRAME_SIZE / 8;
    r->rsi = at;
    r->rdi = 0x20000;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_MEMORY, .memory.gpa = at});
    while (hvm_access_pending(v)) {
        assert_int_equal(q->state, STATE_IOREQ_READY);
        assert_int_equal(q->addr, at + moved);
        moved += (uint64_t)q->count * q->size;
        q->state = STATE_IORESP_READY;
        plain_memory = moved > 8; /* from the second element on */
        hvm_access_go_on(v);
    }
    assert_int_equal(r->rsi, at + moved);
    assert_true(moved >= FRAME_SIZE);
    device_at = ~0ull;
    plain_memory = false;
    fake_run_as(tool);
    assert_int_equal(ioreq_destroy(d, id), 0);
    fake_run_as(v);
}

/*
 * An instruction goes on in a page that has gone since the processor read it: that is a page fault when the processor reads it again, and no
 * unknown instruction. One that ends before that page is what it is.
 */
static void test_the_rest_of_the_instruction_has_gone(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_MEMORY, .memory = {.gpa = 0x123456000, .write = true}};

    sixty_four(v);
    soft(v)->reg[HVM_RIP] = 0x1ffe;
    device_at = 0x2000;
    memcpy(code, "\x89\x88", 2); /* mov %ecx, and four bytes more (%rax) */
    leave(v, x);
    assert_false(hvm_vcpu(v)->event.valid);
    assert_int_equal(f_get(v, HVM_RIP), 0x1ffe);
    memcpy(code, "\xff\x10", 2);
    leave(v, x);
    device_at = ~0ull;
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 6);
    hvm_vcpu(v)->event.valid = false;
    memset(code, 0x66, 15); /* no instruction is so long */
    leave(v, x);
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 6);
}

/* A process that has a device's page mapped does not end its guest by a jump there. */
static void test_code_in_a_device(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_MEMORY, .memory = {.gpa = 0x123456000, .fetch = true}};

    sixty_four(v);
    soft(v)->seg[HVM_SS].attr = 3 << 5;
    leave(v, x);
    assert_false(d->crashed);
    assert_true(hvm_vcpu(v)->event.valid && hvm_vcpu(v)->event.vector == 13);
    hvm_vcpu(v)->event.valid = false;
    x.memory.walk = true; /* not the process's doing */
    leave(v, x);
    assert_true(d->crashed);
    d->crashed = 0;
    x.memory.walk = false;
    soft(v)->seg[HVM_SS].attr = 0;
    leave(v, x);
    assert_true(d->crashed);
}

static void test_cr4(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_CONTROL, .control.number = 4};

    sixty_four(v);
    memcpy(code, "\x0f\x22\xe1\x90", 4); /* mov %rcx, %cr4 */
    vcpu_regs(v)->rcx = 0xa0;
    flushes = 0;
    leave(v, x);
    assert_int_equal(f_get(v, HVM_CR4), 0xa0);
    assert_int_equal(f_get(v, HVM_RIP), 0x1003);
    assert_int_equal(flushes, 1);        /* PGE */
    memcpy(code, "\x41\x0f\x22\xe0", 4); /* mov %r8, %cr4 */
    vcpu_regs(v)->r8 = 0x2a0;
    leave(v, x);
    assert_int_equal(f_get(v, HVM_CR4), 0x2a0);
    assert_int_equal(flushes, 1);
    for (unsigned bit = 0; bit < 64; bit++) {
        hvm_vcpu(v)->event.valid = false;
        vcpu_regs(v)->r8 = 0x20 | 1ull << bit;
        leave(v, x);
        assert_true(hvm_cr4_ok(v, f_get(v, HVM_CR4)));
    }
    vcpu_regs(v)->r8 = 0; /* PAE stays in long mode */
    leave(v, x);
    assert_true(f_get(v, HVM_CR4) & 0x20);
    hvm_vcpu(v)->event.valid = false;
    memcpy(code, "\x0f\x20\xe1\x90", 4); /* another instruction: it was changed meanwhile */
    leave(v, x);
    assert_int_equal(hvm_vcpu(v)->event.vector, 6);
}

/* --- debug registers --- */

static uint64_t dr[4];

/* The processor's part of MOV to DR0-3, which a process may not execute: 0f 23, REX before it for the upper registers. */
static void move_to_dr(int sig, siginfo_t *info, void *context)
{
    static const int place[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *p = (const uint8_t *)r[REG_RIP];
    unsigned upper = (*p & 0xf0) == 0x40 ? *p++ & 1u : 0;

    if (p[0] != 0x0f || p[1] != 0x23)
        abort();
    dr[p[2] >> 3 & 3] = (uint64_t)r[place[(p[2] & 7u) | upper << 3]];
    r[REG_RIP] = (greg_t)(p + 3);
}

/* A vCPU that comes back to a CPU has its breakpoints at once, not from its next access to a debug register on. */
static void test_breakpoints(void **state)
{
    struct sigaction mine = {.sa_sigaction = move_to_dr, .sa_flags = SA_SIGINFO}, old;
    struct hvm_vcpu *h = hvm_vcpu(v);

    assert_int_equal(sigaction(SIGSEGV, &mine, &old), 0);
    for (unsigned i = 0; i < 4; i++)
        h->dr[i] = 0x1000 + i;
    soft(v)->reg[HVM_DR7] = 0x400; /* none is on: left for later */
    hvm_debugregs_follow(v);
    assert_true(!h->dr_loaded && !debugregs_used && !dr[0]);
    soft(v)->reg[HVM_DR7] = 0x480;
    hvm_debugregs_follow(v);
    assert_true(h->dr_loaded && debugregs_used);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(dr[i], 0x1000 + i);
    h->dr_loaded = debugregs_used = false;
    h->dr[1] = 7;
    soft(v)->reg[HVM_DR7] = 0x400;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_DEBUGREG});
    assert_true(h->dr_loaded && debugregs_used && dr[1] == 7);
    assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

/* --- events --- */

/* As on the way into the guest, and what is left out there is done here all the same: it must find nothing. */
static void deliver(struct vcpu *w)
{
    struct svm_vcpu *s = soft(w);
    bool quiet = hvm_quiet(w), window = s->window;
    uint8_t tpr = s->tpr;

    s->injected.valid = false;
    hvm_deliver(w);
    assert_false(quiet && (s->injected.valid || s->window != window || s->tpr != tpr));
}

/* What is to be found makes itself known; when all is delivered, nothing is looked for any more. */
static void test_quiet(void **state)
{
    struct hvm_event asked = {.type = HVM_EVENT_EXCEPTION, .vector = 6, .valid = true};

    soft(v)->reg[HVM_RFLAGS] = 0x202;
    deliver(v);
    assert_true(hvm_quiet(v));
    vlapic_set_irq(v, 0x51);
    vlapic_set_irq(v, 0x41);
    assert_false(hvm_quiet(v));
    deliver(v);
    assert_false(hvm_quiet(v)); /* the other one waits for its priority */
    vlapic_eoi(v);
    deliver(v);
    assert_true(soft(v)->injected.vector == 0x41 && hvm_quiet(v));
    vlapic_mmio_write(v, APIC_TPR, 0x70);
    assert_false(hvm_quiet(v));
    deliver(v);
    assert_true(soft(v)->tpr == 7 && hvm_quiet(v));
    assert_int_equal(hvm_ask_event(v, &asked, 0), 0);
    hvm_exception(v, 13, true, 0);
    deliver(v);
    assert_true(soft(v)->injected.vector == 13 && !hvm_quiet(v));
    deliver(v);
    assert_true(soft(v)->injected.vector == 6 && hvm_quiet(v));
    v->pause_flags = 0;
    vlapic_mmio_write(v, APIC_ICR, 5u << 8 | 1u << 14); /* INIT to itself */
    assert_true(hvm_vcpu(v)->init_pending && !hvm_quiet(v));
    deliver(v);
    soft(v)->interrupted = (struct hvm_event){.valid = true, .type = HVM_EVENT_IRQ, .vector = 0x33};
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_NOTHING});
    assert_false(hvm_quiet(v));
}

static void test_interrupts(void **state)
{
    vlapic_set_irq(v, 0x41);
    deliver(v); /* IF is clear */
    assert_true(!soft(v)->injected.valid && soft(v)->window);
    soft(v)->reg[HVM_RFLAGS] = 0x202;
    soft(v)->shadow = true;
    deliver(v);
    assert_true(!soft(v)->injected.valid && soft(v)->window);
    soft(v)->shadow = false;
    deliver(v);
    assert_true(soft(v)->injected.valid && soft(v)->injected.vector == 0x41 && !soft(v)->window);
    assert_int_equal(vlapic_pending(v), -1);
    /* Left while it was being delivered: delivered again, though the local APIC has forgotten it. */
    soft(v)->interrupted = soft(v)->injected;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_NOTHING});
    deliver(v);
    assert_true(soft(v)->injected.valid && soft(v)->injected.vector == 0x41);
}

/* MOV to CR8 in all its forms; one that lowers the priority lets in what waited. */
static void test_cr8(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_CONTROL, .control.number = 8};

    sixty_four(v);
    soft(v)->reg[HVM_RFLAGS] = 0x202;
    vlapic_mmio_write(v, APIC_TPR, 0x7f);
    deliver(v);
    assert_false(soft(v)->cr8);
    vlapic_set_irq(v, 0x71);
    deliver(v);
    assert_true(soft(v)->cr8 && !soft(v)->injected.valid);
    memcpy(code, "\x44\x0f\x22\xc1", 4); /* mov %rcx, %cr8 */
    vcpu_regs(v)->rcx = 16;
    leave(v, x);
    assert_true(hvm_vcpu(v)->event.vector == 13 && vlapic_tpr(v) == 7 && f_get(v, HVM_RIP) == 0x1000);
    hvm_vcpu(v)->event.valid = false;
    vcpu_regs(v)->rcx = 6;
    leave(v, x);
    assert_int_equal(f_get(v, HVM_RIP), 0x1004);
    assert_true(vlapic_tpr(v) == 6 && vlapic_mmio_read(v, APIC_TPR) == 0x60);
    deliver(v);
    assert_true(soft(v)->injected.vector == 0x71 && !soft(v)->cr8 && soft(v)->tpr == 6);
    vlapic_set_irq(v, 0x61); /* held back by what is in service, too */
    deliver(v);
    assert_false(soft(v)->cr8);
    memcpy(code, "\x45\x0f\x22\xc0", 4); /* mov %r8, %cr8 */
    vcpu_regs(v)->r8 = 15;
    leave(v, x);
    assert_int_equal(vlapic_tpr(v), 15);
    memcpy(code, "\xf0\x0f\x22\xc1", 4); /* lock mov %rcx, %cr0 */
    leave(v, x);
    assert_int_equal(vlapic_tpr(v), 6);
    memcpy(code, "\x66\x3e\x45\x0f\x22\xc0", 6); /* prefixes that mean nothing */
    leave(v, x);
    assert_int_equal(vlapic_tpr(v), 15);
    memcpy(code, "\x44\x67\x0f\x22\xc1\x90", 6); /* no REX any more: CR0, changed meanwhile */
    leave(v, x);
    assert_int_equal(hvm_vcpu(v)->event.vector, 6);
    hvm_vcpu(v)->event.valid = false;
    memcpy(code, "\x0f\x22\xc1\x90", 4); /* not CR8: changed meanwhile */
    leave(v, x);
    assert_int_equal(hvm_vcpu(v)->event.vector, 6);
}

static void test_callback(void **state)
{
    soft(v)->reg[HVM_RFLAGS] = 0x202;
    v->info->evtchn_upcall_pending = 1;
    deliver(v);
    assert_false(soft(v)->injected.valid);
    hvm_domain(d)->callback_vector = 0xf3;
    assert_true(hvm_interrupt_pending(v));
    deliver(v);
    assert_int_equal(soft(v)->injected.vector, 0xf3);
    deliver(v); /* as long as the guest has not looked */
    assert_int_equal(soft(v)->injected.vector, 0xf3);
    v->info->evtchn_upcall_pending = 0;
    deliver(v);
    assert_false(soft(v)->injected.valid);
    hvm_vcpu(v)->upcall_vector = 0x60;
    hvm_event_kick(v);
    assert_int_equal(vlapic_pending(v), 0x60);
    hvm_vcpu_init_reset(v); /* the local APIC forgets what was sent; there was nothing new */
    vlapic_mmio_write(v, APIC_SVR, 0x1ff);
    assert_int_equal(vlapic_pending(v), -1);
    v->info->evtchn_upcall_pending = 1;
    hvm_vcpu_reset(v);
    vlapic_mmio_write(v, APIC_SVR, 0x1ff);
    assert_int_equal(vlapic_pending(v), 0x60);
    hvm_vcpu_init_reset(v);
    vlapic_mmio_write(v, APIC_SVR, 0x1ff);
    assert_int_equal(vlapic_pending(v), 0x60);
}

static void test_nmi(void **state)
{
    assert_int_equal(hvm_vcpu_nmi(v), 0);
    deliver(v);
    assert_true(soft(v)->injected.valid && soft(v)->injected.type == HVM_EVENT_NMI && soft(v)->iret);
    assert_int_equal(hvm_vcpu_nmi(v), 0);
    deliver(v);
    assert_false(soft(v)->injected.valid); /* until IRET */
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_IRET});
    deliver(v);
    assert_false(soft(v)->injected.valid); /* IRET has not run yet */
    assert_true(soft(v)->window);
    deliver(v);
    assert_true(soft(v)->injected.valid);
}

/* A processor that keeps NMIs gets it, and an interrupt beside it; while one waits there, nobody sleeps. */
static void test_virtual_nmi(void **state)
{
    keeps_nmis = true;
    assert_int_equal(hvm_vcpu_nmi(v), 0);
    vlapic_set_irq(v, 0x61);
    soft(v)->reg[HVM_RFLAGS] = 0x202;
    deliver(v);
    assert_true(soft(v)->injected.type == HVM_EVENT_IRQ && soft(v)->injected.vector == 0x61 && kept_nmi);
    assert_false(soft(v)->iret || hvm_vcpu(v)->nmi_pending || hvm_vcpu(v)->nmi_masked);
    assert_true(hvm_interrupt_pending(v) && hvm_nmi_pending(v));
    kept_nmi = keeps_nmis = false;
    assert_false(hvm_interrupt_pending(v) || hvm_nmi_pending(v));
}

static void test_double_and_triple_fault(void **state)
{
    hvm_exception(v, 13, true, 0);
    hvm_exception(v, 11, true, 8);
    assert_int_equal(hvm_vcpu(v)->event.vector, 8);
    hvm_exception(v, 13, true, 0);
    assert_true(d->shutting_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_reboot);
}

static void test_halt(void **state)
{
    v->pause_flags = second->pause_flags = 0;
    soft(v)->reg[HVM_RFLAGS] = 0x202;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_HLT, .length = 1});
    assert_int_equal(v->pause_flags, VPF_BLOCKED);
    vlapic_set_irq(v, 0x70);
    assert_int_equal(v->pause_flags, 0);
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_HLT, .length = 1}); /* something waits */
    assert_int_equal(v->pause_flags, 0);
    soft(v)->reg[HVM_RFLAGS] = 2;
    leave(v, (struct hvm_exit){.kind = HVM_EXIT_HLT, .length = 1});
    assert_int_equal(v->pause_flags, VPF_DOWN);
    assert_false(d->shutting_down);
    fake_run_as(second);
    leave(second, (struct hvm_exit){.kind = HVM_EXIT_HLT, .length = 1}); /* the last one */
    assert_true(d->shutting_down && d->shutdown_code == SHUTDOWN_poweroff);
}

/* --- starts --- */

static void test_init_startup(void **state)
{
    vlapic_mmio_write(v, APIC_ICR2, 2u << 24);
    vlapic_mmio_write(v, APIC_ICR, 6u << 8 | 0x12); /* STARTUP alone: nothing */
    assert_int_equal(second->pause_flags, VPF_DOWN);
    vlapic_mmio_write(v, APIC_ICR, 5u << 8 | 1u << 14);
    vlapic_mmio_write(v, APIC_ICR, 6u << 8 | 0x12);
    assert_int_equal(second->pause_flags, 0);
    assert_true(second->initialised);
    assert_int_equal(soft(second)->seg[HVM_CS].base, 0x12000);
    assert_int_equal(f_get(second, HVM_RIP), 0);
    vlapic_mmio_write(v, APIC_ICR, 6u << 8 | 0x34); /* a running one is not disturbed */
    assert_int_equal(soft(second)->seg[HVM_CS].base, 0x12000);
    vlapic_mmio_write(v, APIC_ICR, 5u << 8 | 1u << 14);
    assert_true(hvm_vcpu(second)->init_pending);
    fake_run_as(second);
    hvm_take_init(second);
    assert_int_equal(second->pause_flags, VPF_DOWN);
    /* It still runs here: tried again later. */
    second->running = true;
    fake_run_as(v);
    vlapic_mmio_write(v, APIC_ICR, 6u << 8 | 0x56);
    assert_int_equal(second->pause_flags, VPF_DOWN);
    second->running = false;
    fake_run_until(fake_now + 1000000);
    assert_int_equal(second->pause_flags, 0);
    assert_int_equal(soft(second)->seg[HVM_CS].base, 0x56000);
    /* INIT and STARTUP one behind the other, before it could reset itself: as kernels do that leave out the pause between. */
    vlapic_mmio_write(v, APIC_ICR, 5u << 8 | 1u << 14);
    vlapic_mmio_write(v, APIC_ICR, 6u << 8 | 0x78);
    assert_true(hvm_vcpu(second)->init_pending && !second->pause_flags);
    fake_run_as(second);
    hvm_take_init(second);
    assert_int_equal(second->pause_flags, VPF_DOWN);
    fake_run_as(v);
    fake_run_until(fake_now + 1000000);
    assert_int_equal(second->pause_flags, 0);
    assert_int_equal(soft(second)->seg[HVM_CS].base, 0x78000);
    /* Another INIT before that: it waits for another STARTUP. */
    vlapic_mmio_write(v, APIC_ICR, 5u << 8 | 1u << 14);
    vlapic_mmio_write(v, APIC_ICR, 6u << 8 | 0x9a);
    vlapic_mmio_write(v, APIC_ICR, 5u << 8 | 1u << 14);
    fake_run_as(second);
    hvm_take_init(second);
    fake_run_as(v);
    fake_run_until(fake_now + 1000000);
    assert_int_equal(second->pause_flags, VPF_DOWN);
}

static void test_initialise(void **state)
{
    struct vcpu_hvm_context c = {.mode = VCPU_HVM_MODE_64B};
    bool online;

    c.cpu_regs.x86_64 = (struct vcpu_hvm_x86_64){
        .rip = 0xffffffff81000000, .cr0 = 0x80000011, .cr4 = 0x20, .efer = 0x500, .rbx = 7};
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), 0);
    assert_int_equal(x86_vcpu(second)->regs.rbx, 7);
    c.cpu_regs.x86_64.rip = 0x1234567890abcdef;
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), -EINVAL);
    c.cpu_regs.x86_64.rip = 0;
    c.cpu_regs.x86_64.efer = 0x1500; /* SVME */
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), -EINVAL);
    c.cpu_regs.x86_64.efer = 0x400;
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), -EINVAL);
    c.mode = 2;
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), -EINVAL);
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(5), &online), -EFAULT);
    assert_int_equal(hvm_vcpu_initialise(second, tool, GVA(&c), &online), -EOPNOTSUPP);
    memset(&c, 0, sizeof(c));
    c.cpu_regs.x86_32 = (struct vcpu_hvm_x86_32){.cs_ar = 0xc9b,
                                                 .ds_ar = 0xc93,
                                                 .ss_ar = 0xc93,
                                                 .es_ar = 0xc93,
                                                 .tr_ar = 0x8b,
                                                 .cs_limit = ~0u,
                                                 .cr0 = 1,
                                                 .eip = 0x100000};
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), 0);
    c.cpu_regs.x86_32.cs_ar = 0xfc9b;
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), -EINVAL);
    c.cpu_regs.x86_32.cs_ar = 0xc93; /* data */
    assert_int_equal(hvm_vcpu_initialise(second, v, GVA(&c), &online), -EINVAL);
}

/* --- the counter --- */

static struct xen_domctl tsc_op;
static long tsc_set(uint32_t mode, uint32_t khz, uint64_t elapsed)
{
    tsc_op = (struct xen_domctl){
        .cmd = XEN_DOMCTL_settscinfo,
        .u.tsc_info = {.tsc_mode = mode, .gtsc_khz = khz, .elapsed_nsec = elapsed, .incarnation = 7}};
    return control(0, NULL, &tsc_op, hvm_domctl);
}
static uint64_t tsc_pace(void) /* per microsecond */
{
    uint64_t before = hvm_tsc(v);

    fake_now += 1000;
    return hvm_tsc(v) - before;
}

/* xen-tscmode(7): which counter the guest reads; it goes on from where it was, whatever it is made of. */
static void test_tsc_modes(void **state)
{
    static const struct {
        uint32_t mode, khz;
        uint64_t ratio_max, ratio, pace;
        bool emulated;
    } row[] = {{0, 0, 0, 0, 1000, false},
               {0, 1000000, 0, 0, 1000, false},
               {0, 2000000, 0, 2ull << 32, 2000, true},
               {0, 2000000, (1ull << 40) - 1, 2ull << 32, 2000, false},
               {0, 500000, (1ull << 40) - 1, 1ull << 31, 500, false},
               {0, 3000000, 2ull << 32, 3ull << 32, 3000, true}, /* more than it can */
               {1, 0, (1ull << 40) - 1, 1ull << 32, 1000, true},
               {1, 250000, 0, 1ull << 30, 250, true},
               {2, 2000000, (1ull << 40) - 1, 0, 1000, false}};

    fake_now = 1000000000;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        uint64_t before = hvm_tsc(v);
        unsigned changes = tsc_changes;

        hvm_tsc_ratio_max = row[i].ratio_max;
        assert_int_equal(tsc_set(row[i].mode, row[i].khz, 0), 0);
        assert_int_equal(hvm_tsc(v), before);
        assert_int_equal(hvm_tsc(second), before);
        assert_int_equal(tsc_changes, changes + 2);
        assert_int_equal(x86_domain(d)->tsc_ratio, row[i].ratio);
        assert_int_equal(x86_domain(d)->tsc_emulated, row[i].emulated);
        assert_int_equal(tsc_pace(), row[i].pace);
        vcpu_regs(v)->rax = 0x40000003;
        vcpu_regs(v)->rcx = 0;
        leave(v, (struct hvm_exit){.kind = HVM_EXIT_CPUID, .length = 2});
        assert_int_equal(vcpu_regs(v)->rax & 1, row[i].emulated);
        assert_int_equal(vcpu_regs(v)->rbx, row[i].mode);
        assert_int_equal(vcpu_regs(v)->rcx, row[i].pace * 1000);
        tsc_op = (struct xen_domctl){.cmd = XEN_DOMCTL_gettscinfo};
        assert_int_equal(control(0, NULL, &tsc_op, hvm_domctl), 0);
        assert_int_equal(tsc_op.u.tsc_info.tsc_mode, row[i].mode);
        assert_int_equal(tsc_op.u.tsc_info.incarnation, 7);
        assert_int_equal(tsc_op.u.tsc_info.gtsc_khz, row[i].pace * 1000);
        assert_in_range(tsc_op.u.tsc_info.elapsed_nsec, hvm_tsc(v) * 1000 / row[i].pace - 2,
                        hvm_tsc(v) * 1000 / row[i].pace + 2);
    }
    assert_int_equal(tsc_set(1, 2000000, 5000), 0); /* as it was on another machine after 5 us */
    assert_int_equal(hvm_tsc(v), 10000);
    assert_int_equal(hvm_tsc(second), 10000);
    assert_int_equal(tsc_set(3, 0, 0), -EINVAL);
    assert_int_equal(tsc_set(1, 999, 0), -EINVAL);
    assert_int_equal(tsc_set(1, 100000001, 0), -EINVAL);
    assert_int_equal(tsc_set(0, ~0u, 0), -EINVAL);
    assert_int_equal(tsc_pace(), 2000);
    hvm_tsc_ratio_max = 0;
    assert_int_equal(tsc_set(0, 0, 0), 0);
}

static void test_rdtsc(void **state)
{
    static const struct {
        uint8_t code[6], length, known;
        bool aux;
    } row[] = {{{0x0f, 0x31}, 2, 0, false},
               {{0x0f, 0x01, 0xf9}, 3, 0, true},
               {{0x48, 0x0f, 0x31}, 3, 0, false},
               {{0x2e, 0x66, 0x0f, 0x01, 0xf9}, 5, 0, true},
               {{0x90, 0x0f, 0x31}, 0, 0, false},
               {{0x0f, 0x01, 0xf8}, 0, 0, false},
               {{0x90}, 2, 2, false}};

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        struct guest_regs *r = vcpu_regs(v);

        sixty_four(v);
        memcpy(code, row[i].code, sizeof(row[i].code));
        fake_now = 0x1234567890ull;
        r->rax = r->rdx = ~0ull;
        r->rcx = ~0ull;
        leave(v, (struct hvm_exit){.kind = HVM_EXIT_RDTSC, .length = row[i].known});
        assert_int_equal(f_get(v, HVM_RIP), 0x1000 + row[i].length);
        assert_int_equal(r->rcx == ~0ull, !row[i].aux);
        if (row[i].length)
            assert_int_equal(r->rax | r->rdx << 32, hvm_tsc(v));
        else
            assert_int_equal(r->rax, ~0ull);
    }
    memset(code, 0, sizeof(code));
}

/* A write to the counter moves TSC_ADJUST by as much, and the other way round; another vCPU that starts begins with both. */
static void test_tsc_adjust(void **state)
{
    uint64_t value;

    fake_now = 5000;
    hvm_set_tsc(v, 5000);
    assert_true(hvm_rdmsr(v, 0x3b, &value) && !value);
    assert_true(hvm_wrmsr(v, 0x3b, 100));
    assert_true(hvm_rdmsr(v, 0x10, &value) && value == 5100);
    assert_true(hvm_wrmsr(v, 0x10, 1000));
    assert_true(hvm_rdmsr(v, 0x3b, &value) && value == 100 - 4100ull);
    assert_true(hvm_wrmsr(v, 0x3b, 0));
    assert_true(hvm_rdmsr(v, 0x10, &value) && value == 5000);
    assert_true(hvm_wrmsr(v, 0x3b, 50));
    hvm_join_tsc(second);
    assert_true(hvm_rdmsr(second, 0x3b, &value) && value == 50);
    assert_int_equal(hvm_tsc(second), 5050);
    policy.feature[0].b &= ~2u;
    assert_false(hvm_rdmsr(v, 0x3b, &value));
    assert_false(hvm_wrmsr(v, 0x3b, 0));
    policy.feature[0].b |= 2;
}

/* --- contexts --- */

static uint8_t buffer[16384];

static uint32_t get_context(void)
{
    struct xen_domctl op = {.cmd = XEN_DOMCTL_gethvmcontext};

    set_xen_guest_handle(op.u.hvmcontext.buffer, buffer);
    op.u.hvmcontext.size = sizeof(buffer);
    assert_int_equal(control(0, NULL, &op, hvm_domctl), 0);
    return op.u.hvmcontext.size;
}

static long put_context(const void *from, uint32_t size)
{
    struct xen_domctl op = {.cmd = XEN_DOMCTL_sethvmcontext};

    set_xen_guest_handle(op.u.hvmcontext.buffer, (uint8_t *)from);
    op.u.hvmcontext.size = size;
    return control(0, NULL, &op, hvm_domctl);
}

/* What the toolstack builds for a PVH guest. */
struct start {
    struct hvm_save_descriptor header_d;
    struct hvm_save_header header;
    struct hvm_save_descriptor cpu_d;
    struct hvm_hw_cpu cpu;
    struct hvm_save_descriptor end_d;
} __attribute__((packed));

static struct start start_record(void)
{
    struct start s;

    memset(&s, 0, sizeof(s));
    s.header_d = (struct hvm_save_descriptor){.typecode = HVM_SAVE_CODE(HEADER), .length = sizeof(s.header)};
    s.header = (struct hvm_save_header){.magic = HVM_FILE_MAGIC, .version = HVM_FILE_VERSION};
    s.cpu_d = (struct hvm_save_descriptor){.typecode = HVM_SAVE_CODE(CPU), .length = sizeof(s.cpu)};
    s.cpu.cr0 = 0x11;
    s.cpu.rip = 0x1000370;
    s.cpu.rbx = 0x5000;
    s.cpu.cs_arbytes = 0xc9b;
    s.cpu.ss_arbytes = s.cpu.ds_arbytes = s.cpu.es_arbytes = 0xc93;
    s.cpu.tr_arbytes = 0x8b;
    s.cpu.dr6 = 0xffff0ff0;
    s.cpu.dr7 = 0x400;
    return s;
}

static void test_context_start(void **state)
{
    struct start s = start_record();

    assert_int_equal(put_context(&s, sizeof(s)), 0);
    assert_true(v->initialised && !v->pause_flags);
    assert_int_equal(f_get(v, HVM_RIP), 0x1000370);
    assert_int_equal(x86_vcpu(v)->regs.rbx, 0x5000);
    assert_int_equal(soft(v)->seg[HVM_CS].attr, 0xc9b);
}

/* What a core dump has of a vCPU. */
static void test_context_shown(void **state)
{
    static struct vcpu_guest_context c;
    struct start s = start_record();

    s.cpu.cs_sel = 8;
    s.cpu.gs_base = 0x1111;
    s.cpu.shadow_gs = 0x2222;
    s.cpu.cr3 = 0x7000;
    s.cpu.dr2 = 0x3333;
    assert_int_equal(put_context(&s, sizeof(s)), 0);
    memset(&c, 0xff, sizeof(c));
    guest_kind(v->domain)->vcpu_context(v, &c);
    assert_int_equal(c.flags, VGCF_i387_valid | VGCF_in_kernel | VGCF_online);
    assert_int_equal(c.user_regs.rip, 0x1000370);
    assert_int_equal(c.user_regs.rbx, 0x5000);
    assert_int_equal(c.user_regs.cs, 8);
    assert_int_equal(c.ctrlreg[0], 0x11);
    assert_int_equal(c.ctrlreg[3], 0x7000);
    assert_int_equal(c.debugreg[2], 0x3333);
    assert_int_equal(c.debugreg[6], 0xffff0ff0);
    assert_int_equal(c.gs_base_kernel, 0x1111);
    assert_int_equal(c.gs_base_user, 0x2222);
    soft(v)->seg[HVM_SS].attr = 0xcf3; /* level 3 */
    guest_kind(v->domain)->vcpu_context(v, &c);
    assert_int_equal(c.flags, VGCF_i387_valid | VGCF_online);
    assert_int_equal(c.gs_base_kernel, 0x2222);
    assert_int_equal(c.gs_base_user, 0x1111);
}

static void test_context_round(void **state)
{
    struct start s = start_record();
    static uint8_t copy[sizeof(buffer)];
    uint32_t size, again;

    assert_int_equal(put_context(&s, sizeof(s)), 0);
    vlapic_set_irq(v, 0x99);
    size = get_context();
    memcpy(copy, buffer, size);
    vlapic_reset(v);
    assert_int_equal(put_context(copy, size), 0);
    assert_int_equal(vlapic_pending(v), 0x99);
    again = get_context();
    assert_int_equal(size, again);
}

/* Where the record of v's extended state begins in a context; 0: nowhere. */
static uint32_t xsave_at(const uint8_t *from, uint32_t size)
{
    struct hvm_save_descriptor head;

    for (uint32_t at = 0; at + sizeof(head) <= size; at += (uint32_t)sizeof(head) + head.length) {
        memcpy(&head, from + at, sizeof(head));
        if (head.typecode == CPU_XSAVE_CODE && head.instance == v->id)
            return at + (uint32_t)sizeof(head);
    }
    return 0;
}

/* XCR0 and AVX registers move with the guest: a kernel that has switched them on does not do it again. */
static void test_context_xsave(void **state)
{
    struct hvm_hw_cpu_xsave *r;
    static uint8_t copy[sizeof(buffer)];
    struct start s = start_record();
    uint8_t *fpu = x86_vcpu(v)->fpu;
    const uint64_t present = 7;
    uint32_t size, at;

    assert_int_equal(put_context(&s, sizeof(s)), 0);
    x86_vcpu(v)->xcr0 = 7;
    memcpy(fpu + 512, &present, sizeof(present));
    memset(fpu + 576, 0xab, 256);
    memset(fpu + 160, 0xcd, 256);
    size = get_context();
    memcpy(copy, buffer, size);
    at = xsave_at(copy, size);
    r = (struct hvm_hw_cpu_xsave *)(copy + at);
    assert_true(at && r->xcr0 == 7 && r->xcr0_accum == 7 && r->save_area.xsave_hdr.xstate_bv == 7);
    assert_int_equal(copy[at + offsetof(struct hvm_hw_cpu_xsave, save_area) + 576 + 255], 0xab);
    hvm_vcpu_reset(v);
    assert_int_equal(put_context(copy, size), 0);
    assert_int_equal(x86_vcpu(v)->xcr0, 7);
    assert_true(!memcmp(fpu + 512, &present, 8) && fpu[576] == 0xab && fpu[831] == 0xab && fpu[160] == 0xcd);
    /* What would fault, and a shorter one. */
    r->xcr0 = 4;
    assert_int_equal(put_context(copy, size), -EINVAL);
    r->xcr0 = 0x207;
    assert_int_equal(put_context(copy, size), -EINVAL);
    r->xcr0 = 7;
    r->save_area.xsave_hdr.xcomp_bv = 1ull << 63;
    assert_int_equal(put_context(copy, size), -EINVAL);
    r->save_area.xsave_hdr.xcomp_bv = 0;
    r->xcr0_accum = r->xcr0 = r->save_area.xsave_hdr.xstate_bv = 3;
    assert_int_equal(put_context(copy, size), -EINVAL);
    s.cpu_d.typecode = CPU_XSAVE_CODE;
    s.cpu_d.length = 8;
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
}

static void test_context_hostile(void **state)
{
    struct start s = start_record();
    uint64_t x = 1;
    uint32_t size;

    s.cpu.msr_efer = 0x1000; /* SVME */
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu.cr0 = 0x80000000; /* paging without protection */
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu.cr4 = 1ull << 12; /* LA57 */
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu.msr_lstar = 0x8000000000000000ull;
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu_d.instance = 77;
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu_d.length--;
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu_d.typecode = HVM_SAVE_CODE(PIT); /* of another length */
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    s.cpu_d.typecode = HVM_SAVE_CODE(VMCE_VCPU);
    assert_int_equal(put_context(&s, sizeof(s)), -EOPNOTSUPP);
    s = start_record();
    s.header.magic = 0;
    assert_int_equal(put_context(&s, sizeof(s)), -EINVAL);
    s = start_record();
    for (uint32_t n = 0; n < sizeof(s); n++) /* cut anywhere */
        assert_true(put_context(&s, n) < 0);
    assert_false(v->initialised);
    assert_int_equal(put_context((void *)5, 100), -EFAULT);
    assert_int_equal(put_context(&s, ~0u), -EINVAL);
    /* Any byte changed: refused or taken, nothing else. */
    assert_int_equal(put_context(&s, sizeof(s)), 0);
    size = get_context();
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *one = malloc(size);

        memcpy(one, buffer, size);
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        one[(x >> 33) % size] ^= (uint8_t)(x >> 20) | 1;
        (void)put_context(one, size);
        free(one);
        assert_false(f_get(v, HVM_EFER) & ~0x4d01ull);
        assert_true(hvm_pat_ok(f_get(v, HVM_PAT)));
        assert_true(hvm_cr4_ok(v, f_get(v, HVM_CR4)));
    }
}

/* --- parameters --- */

static long param(struct vcpu *caller, uint32_t op, uint16_t id, uint32_t index, uint64_t *value)
{
    struct xen_hvm_param a = {.domid = id, .index = index, .value = *value};
    long r = fake_hypercall(caller, hvm_op_ops, hvm_op_op_count, 0, op, (uintptr_t)&a, 0, NULL);

    *value = a.value;
    return r;
}

static long set_param(struct vcpu *caller, uint16_t id, uint32_t index, uint64_t value)
{
    return param(caller, HVMOP_set_param, id, index, &value);
}

static void test_params(void **state)
{
    uint64_t value = 0;

    assert_int_equal(set_param(tool, 2, HVM_PARAM_STORE_PFN, 0xff000), 0);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_STORE_PFN, 0xff001), -EEXIST);
    assert_int_equal(param(v, HVMOP_get_param, DOMID_SELF, HVM_PARAM_STORE_PFN, &value), 0);
    assert_int_equal(value, 0xff000);
    assert_int_equal(set_param(v, DOMID_SELF, HVM_PARAM_STORE_PFN, 1), -EPERM);
    assert_int_equal(param(v, HVMOP_get_param, DOMID_SELF, HVM_PARAM_IDENT_PT, &value), -EPERM);
    assert_int_equal(set_param(v, 1, HVM_PARAM_CALLBACK_IRQ, 1), -EPERM);
    assert_int_equal(set_param(tool, 1, HVM_PARAM_STORE_PFN, 1), -EINVAL); /* a PV domain */
    assert_int_equal(set_param(tool, 99, HVM_PARAM_STORE_PFN, 1), -ESRCH);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_ALTP2M, 0), 0);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_ALTP2M, 1), -EOPNOTSUPP);
    assert_int_equal(set_param(tool, 2, HVM_NR_PARAMS, 0), -EINVAL);
    assert_int_equal(set_param(tool, 2, ~0u, 0), -EINVAL);
    assert_int_equal(set_param(v, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, 2ull << 56 | 0xf3), 0);
    assert_int_equal(hvm_domain(d)->callback_vector, 0xf3);
    assert_int_equal(set_param(v, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, 2ull << 56 | 3), -EINVAL);
    assert_int_equal(set_param(v, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, 2ull << 56 | 0x1f3), -EINVAL);
    assert_int_equal(set_param(v, DOMID_SELF, HVM_PARAM_CALLBACK_IRQ, 1ull << 56), -EOPNOTSUPP);
    for (uint32_t i = 0; i < 64; i++)
        for (unsigned bit = 0; bit < 64; bit++)
            (void)set_param(i & 1 ? v : tool, 2, i, 1ull << bit);
}

/* --- suspend to RAM --- */

/* A guest with a board, on both of its vCPUs; unpaused. */
static struct domain *sleeper;
static struct vcpu *sleeper_new(void)
{
    sleeper = domain_new(3, &hvm_guest_ops, 2);
    fake_run_as(tool);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), -EINVAL); /* it never ran */
    for_each_vcpu(sleeper, w)
    {
        sixty_four(w);
        soft(w)->reg[HVM_RFLAGS] = 0x202;
        vlapic_mmio_write(w, APIC_SVR, 0x1ff);
        w->initialised = true;
        w->pause_flags = 0;
        x86_vcpu(w)->regs.rbx = 0x1234;
        hvm_set_tsc(w, 1ull << 40);
    }
    assert_int_equal(domain_controller_unpause(sleeper), 0);
    assert_int_equal(sleeper->pause_count, 0);
    return sleeper->vcpu[0];
}

static uint64_t s_state(struct vcpu *caller, uint16_t id)
{
    uint64_t value = 77;

    assert_int_equal(param(caller, HVMOP_get_param, id, HVM_PARAM_ACPI_S_STATE, &value), 0);
    return value;
}

static void in_s3(void)
{
    struct vcpu *first = sleeper->vcpu[0], *other = sleeper->vcpu[1];

    assert_int_equal(s_state(tool, 3), HVM_S3);
    assert_true(first->initialised && !other->initialised);
    assert_int_equal(first->pause_flags & ~(uint32_t)VPF_DEVICE, 0);
    assert_int_equal(other->pause_flags & ~(uint32_t)VPF_DEVICE, VPF_DOWN);
    for_each_vcpu(sleeper, w)
    {
        assert_true(soft(w)->seg[HVM_CS].sel == 0xf000 && soft(w)->seg[HVM_CS].base == 0xf0000);
        assert_int_equal(f_get(w, HVM_RIP), 0xfff0);
        assert_int_equal(f_get(w, HVM_RFLAGS), 2);
        assert_true(!f_get(w, HVM_EFER) && !f_get(w, HVM_CR0) && !x86_vcpu(w)->regs.rbx);
        assert_int_equal(vlapic_mmio_read(w, APIC_SVR), 0xff);
        assert_false(vcpu_runnable(w));
        assert_false(hvm_vcpu(w)->sipi_wait || hvm_vcpu(w)->event.valid);
    }
}

static void test_a_guest_sleeps_when_its_device_model_says_so(void **state)
{
    struct vcpu *first = sleeper_new(), *other = sleeper->vcpu[1];
    struct hvm_access status = {.space = HVM_PORT, .address = 0x1f40, .bytes = 2};

    first->pause_flags = VPF_BLOCKED;
    assert_int_equal(s_state(tool, 3), 0);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), 0); /* it is awake */
    assert_int_equal(sleeper->pause_count, 0);
    assert_int_equal(f_get(first, HVM_RIP), 0x1000);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0);
    in_s3();
    assert_int_equal(sleeper->pause_count, 1);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0); /* it sleeps */
    assert_int_equal(sleeper->pause_count, 1);
    in_s3();
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), 0);
    assert_int_equal(sleeper->pause_count, 0);
    assert_true(vcpu_runnable(first) && !vcpu_runnable(other));
    assert_int_equal(s_state(tool, 3), 0);
    assert_true(f_get(first, HVM_RIP) == 0xfff0 && soft(first)->seg[HVM_CS].base == 0xf0000);
    assert_true(hvm_bus_access(first, &status) && status.value == 0x8000);
    /* Counters begin at 0 and together. */
    assert_true(hvm_tsc(first) < 1ull << 20);
    assert_int_equal(x86_vcpu(first)->tsc_offset, x86_vcpu(other)->tsc_offset);
    /* The firmware wakes the other processor. */
    vlapic_mmio_write(first, APIC_ICR, 3u << 18 | 5u << 8 | 1u << 14);
    vlapic_mmio_write(first, APIC_ICR, 3u << 18 | 6u << 8 | 0x12);
    assert_true(vcpu_runnable(other) && other->initialised);
    assert_int_equal(soft(other)->seg[HVM_CS].base, 0x12000);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0); /* and again */
    in_s3();
    fake_domain_end(sleeper);
}

/* An interrupt of the 8259s that waits behind an event's vector: nobody announces it again. */
static void test_an_extint_behind_an_event_is_looked_for(void **state)
{
    static const struct {
        uint16_t port;
        uint8_t value;
    } out[] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0x21, 0}};
    struct vcpu *first = sleeper_new();

    for (unsigned i = 0; i < ARRAY_SIZE(out); i++) {
        struct hvm_access a = {
            .space = HVM_PORT, .address = out[i].port, .bytes = 1, .write = true, .value = out[i].value};

        assert_true(hvm_bus_access(first, &a));
    }
    vlapic_mmio_write(first, APIC_LVT_LINT0, 0x700);
    hvm_domain(sleeper)->callback_vector = 0xf3;
    first->info->evtchn_upcall_pending = 1;
    assert_int_equal(hvm_isa_irq(sleeper, 4, true), 0);
    deliver(first);
    assert_int_equal(soft(first)->injected.vector, 0xf3);
    first->info->evtchn_upcall_pending = 0;
    assert_false(hvm_quiet(first));
    deliver(first);
    assert_int_equal(soft(first)->injected.vector, 0x24);
    fake_domain_end(sleeper);
}

/* The request that asked for it is still with the device model. */
static void test_a_request_under_way_outlives_the_sleep(void **state)
{
    struct vcpu *first = sleeper_new();

    for_each_vcpu(sleeper, w)
    {
        hvm_vcpu(w)->io->sent = true;
        hvm_vcpu(w)->io->serial = 7;
        hvm_vcpu(w)->io->count = 3;
        w->pause_flags = VPF_DEVICE;
    }
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0);
    in_s3();
    for_each_vcpu(sleeper, w)
    {
        assert_true(w->pause_flags & VPF_DEVICE);
        assert_true(hvm_access_pending(w) && hvm_vcpu(w)->io->telling && hvm_vcpu(w)->io->serial == 7);
        assert_true(!hvm_vcpu(w)->io->count && !hvm_quiet(w));
    }
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), 0);
    assert_false(vcpu_runnable(first)); /* not before its answer */
    vcpu_device_done(first);
    assert_true(vcpu_runnable(first) && hvm_access_pending(first));
    hvm_vcpu(first)->io->sent = false;
    fake_domain_end(sleeper);
}

/* Who has no business with it: the guest, another guest; and what is none of its states. PVH guests have no firmware. */
static void test_who_may_put_a_guest_to_sleep(void **state)
{
    struct vcpu *first = sleeper_new();
    static const uint64_t none[] = {1, 2, 4, 5, 3ull | 1ull << 32, ~0ull};
    uint32_t pauses = d->pause_count;

    fake_run_as(first);
    assert_int_equal(set_param(first, DOMID_SELF, HVM_PARAM_ACPI_S_STATE, HVM_S3), -EPERM);
    assert_int_equal(set_param(first, 3, HVM_PARAM_ACPI_S_STATE, 0), -EPERM);
    assert_int_equal(s_state(first, DOMID_SELF), 0);
    assert_int_equal(set_param(v, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), -EPERM);
    fake_run_as(tool);
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++)
        assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, none[i]), -EINVAL);
    v->initialised = true;
    assert_int_equal(set_param(tool, 2, HVM_PARAM_ACPI_S_STATE, HVM_S3), -EOPNOTSUPP);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_ACPI_S_STATE, 0), 0);
    assert_true(sleeper->pause_count == 0 && d->pause_count == pauses);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++)
        assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, none[i]), -EINVAL);
    in_s3();
    fake_domain_end(sleeper);
}

/* All that can be sent to a sleeping machine, its vCPUs' wake-ups included. */
static void test_nothing_that_comes_wakes_or_outlives_a_sleep(void **state)
{
    struct vcpu *first = sleeper_new(), *other = sleeper->vcpu[1];
    struct hvm_event asked = {.valid = true, .type = HVM_EVENT_EXCEPTION, .vector = 6};

    hvm_vcpu(first)->upcall_vector = 0xf3;
    hvm_exception(first, 13, true, 0);
    assert_int_equal(hvm_ask_event(first, &asked, 0), 0);
    assert_int_equal(hvm_vcpu_nmi(other), 0);
    vlapic_set_irq(first, 0x41);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0);
    in_s3();
    assert_false(hvm_interrupt_pending(first) || hvm_interrupt_pending(other));
    assert_false(vlapic_any(first));
    /* While it sleeps. */
    assert_int_equal(hvm_vcpu_nmi(first), 0);
    assert_int_equal(hvm_ask_event(first, &asked, 0), 0);
    vlapic_set_irq(first, 0x41);
    vlapic_signal_init(other);
    vlapic_signal_startup(other, 0x12);
    vlapic_signal_init(first);
    assert_int_equal(domain_controller_pause(sleeper), 0);
    assert_int_equal(domain_controller_unpause(sleeper), 0);
    assert_int_equal(domain_controller_unpause(sleeper), -EINVAL);
    vcpu_wake(first);
    fake_run_until(fake_now + 1000000000);
    assert_false(vcpu_runnable(first) || vcpu_runnable(other));
    first->info->evtchn_upcall_pending = 1;
    hvm_event_kick(first);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), 0);
    assert_true(vcpu_runnable(first) && !vcpu_runnable(other) && !other->initialised);
    assert_false(hvm_vcpu(first)->nmi_pending || hvm_vcpu(first)->init_pending);
    assert_int_equal(hvm_vcpu(first)->asked.state, HVM_ASKED_NONE);
    /* Of all that only the event channel's: when the kernel has its local APIC again. */
    vlapic_mmio_write(first, APIC_SVR, 0x1ff);
    assert_int_equal(vlapic_pending(first), 0xf3);
    vlapic_ack(first, 0xf3);
    assert_false(vlapic_any(first));
    first->info->evtchn_upcall_pending = 0;
    fake_domain_end(sleeper);
}

/* The toolstack's pause, a shutdown and the end, each of a guest that sleeps. */
static void test_a_sleeping_guest_is_paused_shut_down_and_destroyed(void **state)
{
    struct vcpu *first = sleeper_new();

    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0);
    assert_int_equal(domain_controller_pause(sleeper), 0);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), 0);
    assert_false(vcpu_runnable(first));
    assert_int_equal(domain_controller_unpause(sleeper), 0);
    assert_true(vcpu_runnable(first));
    domain_shutdown(sleeper, SHUTDOWN_suspend);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3),
                     0); /* between the two it was asked for */
    assert_int_equal(domain_resume(sleeper), 0);
    in_s3();
    domain_ref(sleeper);
    fake_domain_kill(sleeper);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), -EINVAL);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), -EINVAL);
    assert_false(vcpu_runnable(first));
    domain_put(sleeper);
    fake_domain_end(sleeper);
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, 0), -ESRCH);
}

/* What is saved of a sleeping guest is one processor at its reset vector. */
static void test_a_sleeping_guest_can_be_saved(void **state)
{
    struct hvm_hw_cpu cpu = {0};
    unsigned cpus = 0;
    uint32_t size;

    sleeper_new();
    assert_int_equal(set_param(tool, 3, HVM_PARAM_ACPI_S_STATE, HVM_S3), 0);
    d = sleeper;
    size = get_context();
    d = v->domain;
    for (uint32_t at = 0; at < size;) {
        struct hvm_save_descriptor h;

        memcpy(&h, buffer + at, sizeof(h));
        if (h.typecode == HVM_SAVE_CODE(CPU)) {
            memcpy(&cpu, buffer + at + sizeof(h), sizeof(cpu));
            cpus++;
        }
        at += (uint32_t)sizeof(h) + h.length;
    }
    assert_int_equal(cpus, 1);
    assert_true(cpu.cs_base == 0xf0000 && cpu.rip == 0xfff0 && !cpu.msr_efer);
    fake_run_as(tool);
    fake_domain_end(sleeper);
}

/* --- the Hyper-V interface: what of it is in the files of hvm/; the rest is test_viridian's --- */

static void test_viridian_param(void **state)
{
    struct vcpu *w = second;
    uint64_t value = 0;

    d->started = true;
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, 1), -EBUSY);
    d->started = false;
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, 0), -EINVAL);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, 4), -EINVAL); /* without the base */
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, 1ull << 13 | 1), -EINVAL);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, 1ull << 63 | 1), -EINVAL);
    assert_int_equal(set_param(v, DOMID_SELF, HVM_PARAM_VIRIDIAN, 1), -EPERM);
    for (fake_fail_mem = 1; set_param(tool, 2, HVM_PARAM_VIRIDIAN, HVMPV_feature_mask) == -ENOMEM;
         fake_fail_mem = ++value)
        assert_null(hvm_domain(d)->viridian);
    fake_fail_mem = 0;
    assert_true(value >= 3); /* the domain's part and each vCPU's */
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, HVMPV_feature_mask), 0);
    assert_int_equal(set_param(tool, 2, HVM_PARAM_VIRIDIAN, 1), -EEXIST);
    assert_int_equal(param(tool, HVMOP_get_param, 2, HVM_PARAM_VIRIDIAN, &value), 0);
    assert_int_equal(value, HVMPV_feature_mask);
    assert_non_null(hvm_vcpu(w)->viridian);
}

static void test_viridian_leaves(void **state)
{
    struct cpuid_leaf l;

    hvm_cpuid(v, 0x40000000, 0, &l);
    assert_int_equal(l.a, 0x40000006);
    assert_memory_equal(&l.b, "Microsoft Hv", 12);
    hvm_cpuid(v, 0x40000001, 0, &l);
    assert_memory_equal(&l.a, "Hv#1", 4);
    hvm_cpuid(v, 0x40000007, 0, &l);
    assert_int_equal(l.a | l.b | l.c | l.d, 0);
    hvm_cpuid(v, 0x40000100, 0, &l);
    assert_int_equal(l.a, 0x40000105);
    assert_memory_equal(&l.b, "XenVMMXenVMM", 12);
    hvm_cpuid(v, 0x40000102, 0, &l);
    assert_int_equal(l.b, 0x40000200);
    hvm_cpuid(v, 0x40000104, 0, &l);
    assert_int_equal(l.c, 2);
    hvm_cpuid(v, 0x40000106, 0, &l);
    assert_int_equal(l.a | l.b | l.c | l.d, 0);
}

static void test_viridian_msrs_and_calls(void **state)
{
    struct guest_regs *r = &x86_vcpu(v)->regs;
    uint64_t value;

    sixty_four(v);
    assert_true(hvm_rdmsr(v, 0x40000200, &value)); /* the page of Xen's interface */
    assert_false(hvm_wrmsr(v, 0x40000200, 1));
    assert_true(hvm_wrmsr(v, 0x40000000, 0));
    r->rax = 0x80000008;
    assert_int_equal(hvm_hypercall(v), HVM_NEXT); /* no page: one of Xen's that there is not */
    assert_int_equal(r->rax, -ENOSYS);
    assert_true(hvm_wrmsr(v, 0x40000000, 1));
    assert_false(hvm_wrmsr(v, 0x40000001, 0x5001)); /* this test's guest has no memory */
    for (uint64_t msr = 0x3fffffff; msr < 0x40000300; msr++)
        if (hvm_rdmsr(v, (uint32_t)msr, &value))
            (void)hvm_wrmsr(v, (uint32_t)msr, ~0ull);
    fake_settle();
    viridian_reset(d);
}

static void test_viridian_context(void **state)
{
    static uint8_t copy[sizeof(buffer)];
    uint32_t size;
    uint64_t value;

    assert_true(hvm_wrmsr(v, 0x40000000, 0x1234));
    assert_true(hvm_wrmsr(v, 0x40000091, 0x20033));
    assert_true(hvm_wrmsr(v, 0x400000b3, 77));
    fake_now += 1000000;
    size = get_context();
    memcpy(copy, buffer, size);
    viridian_reset(d);
    assert_true(hvm_rdmsr(v, 0x40000020, &value) && value == 0);
    assert_int_equal(put_context(copy, size), 0);
    assert_true(hvm_rdmsr(v, 0x40000020, &value) && value >= 10000);
    assert_true(hvm_rdmsr(v, 0x40000000, &value) && value == 0x1234);
    assert_true(hvm_rdmsr(v, 0x40000091, &value) && value == 0x20033);
    assert_true(hvm_rdmsr(v, 0x400000b3, &value) && value == 77);
    for (uint32_t at = 0; at < size; at += 3) { /* anything in it may be anything */
        copy[at] ^= 0x51;
        (void)put_context(copy, size);
        copy[at] ^= 0x51;
    }
    viridian_reset(d);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tsc_modes),
        TEST(test_rdtsc),
        TEST(test_tsc_adjust),
        TEST(test_hypercall),
        TEST(test_hypercall_tells),
        TEST(test_cpuid),
        TEST(test_every_msr),
        TEST(test_efer),
        TEST(test_debugctl),
        TEST(test_io),
        TEST(test_io_address_width),
        TEST(test_io_nobody),
        TEST(test_strings_stay_in_their_segment),
        TEST(test_ins_to_a_page_that_is_not_there),
        TEST(test_movs_other_side),
        TEST(test_apic_page),
        TEST(test_flags_after_rounds),
        TEST(test_a_read_does_not_become_a_write),
        TEST(test_many_from_the_second_page),
        TEST(test_code_in_a_device),
        TEST(test_the_rest_of_the_instruction_has_gone),
        TEST(test_cr4),
        TEST(test_breakpoints),
        TEST(test_interrupts),
        TEST(test_quiet),
        TEST(test_an_extint_behind_an_event_is_looked_for),
        TEST(test_cr8),
        TEST(test_callback),
        TEST(test_nmi),
        TEST(test_virtual_nmi),
        TEST(test_double_and_triple_fault),
        TEST(test_halt),
        TEST(test_init_startup),
        TEST(test_initialise),
        TEST(test_context_start),
        TEST(test_context_shown),
        TEST(test_context_round),
        TEST(test_context_xsave),
        TEST(test_context_hostile),
        TEST(test_params),
        TEST(test_a_guest_sleeps_when_its_device_model_says_so),
        TEST(test_a_request_under_way_outlives_the_sleep),
        TEST(test_who_may_put_a_guest_to_sleep),
        TEST(test_nothing_that_comes_wakes_or_outlives_a_sleep),
        TEST(test_a_sleeping_guest_is_paused_shut_down_and_destroyed),
        TEST(test_a_sleeping_guest_can_be_saved),
        TEST(test_viridian_param),
        TEST(test_viridian_leaves),
        TEST(test_viridian_msrs_and_calls),
        TEST(test_viridian_context),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
