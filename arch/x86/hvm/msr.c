/*
 * MSRs of HVM guests that are intercepted: those of the local APIC, modes, memory types, and constants (arch/x86/policy/msr.c).
 *
 * Invariants
 *  1. Nothing is written to the hardware here but PRED_CMD; what the guest owns is in the vendor's structure or in struct hvm_vcpu.
 *  2. EFER has no bit that the guest's CPUID does not show, and LMA follows from LME and CR0.PG.
 */
#include "private.h"
#include "dev/vlapic.h"
#include "dev/tsc.h"
#include "viridian/viridian.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/mm.h"
#include "x86/msr.h"
#include "x86/policy.h"
#include "x86/pte.h"
#include "lib/string.h"
#include "../metal/asm.h"

#define E1D(bit)         (1u << (bit))

#define MSR_TSC          0x10u
#define MSR_TSC_ADJUST   0x3bu
#define MSR_MTRR_FIXED64 0x250u
#define MSR_MTRR_FIXED16 0x258u
#define MSR_MTRR_FIXED4  0x268u
#define MSR_MTRR_DEF     0x2ffu
#define MSR_HYPERCALL    0x40000000u
#define MSR_DEBUGCTL     0x1d9u
#define MSR_BRANCH_FROM  0x1dbu /* and three more: HVM_BRANCH_FROM */
#define DEBUGCTL_KEPT    0x3ull /* LBR, BTF */
#define DEBUGCTL_PINS    0x3cull
#define MTRRCAP_VALUE    0x508ull /* write combining, fixed ranges, 8 variable ones */
#define MTRR_VARIABLES   16u

/* --- EFER, CR0, RFLAGS, CR4, PAT --- */

static uint64_t efer_bits(const struct vcpu *v)
{
    uint32_t d = x86_domain(v->domain)->policy->extended[1].d;

    return (d & E1D(11) ? EFER_SCE : 0) | (d & E1D(29) ? EFER_LME | EFER_LMA : 0) |
           (d & E1D(20) ? EFER_NXE : 0) | (d & E1D(25) ? EFER_FFX : 0);
}

bool hvm_efer_ok(const struct vcpu *v, uint64_t value)
{
    return !(value & ~efer_bits(v));
}

static bool write_efer(struct vcpu *v, uint64_t value)
{
    uint64_t now = hvm_get(v, HVM_EFER);

    if (!hvm_efer_ok(v, value))
        return false;
    if ((hvm_get(v, HVM_CR0) & CR0_PG) && ((value ^ now) & EFER_LME))
        return false;
    hvm_set(v, HVM_EFER, (value & ~EFER_LMA) | (now & EFER_LMA));
    return true;
}

bool hvm_cr0_ok(uint64_t value)
{
    return !(value >> 32) && (value & CR0_PE || !(value & CR0_PG)) && (value & CR0_CD || !(value & CR0_NW));
}

/* Of a value from outside: the bits that there are. */
uint64_t hvm_rflags(uint64_t value)
{
    return (value & 0x3f7fd5) | EFLAGS_MBS;
}

/* CR4 bits that are there: the architecture's old ones, and those of features that CPUID shows. */
bool hvm_cr4_ok(const struct vcpu *v, uint64_t value)
{
    const struct cpu_policy *p = x86_domain(v->domain)->policy;
    uint64_t ok = 0x7ff;

    ok |= p->basic[1].c & 1u << 26 ? 1ull << 18 : 0;   /* OSXSAVE */
    ok |= p->basic[1].c & 1u << 17 ? 1ull << 17 : 0;   /* PCIDE */
    ok |= p->feature[0].b & 1u << 0 ? 1ull << 16 : 0;  /* FSGSBASE */
    ok |= p->feature[0].b & 1u << 7 ? 1ull << 20 : 0;  /* SMEP */
    ok |= p->feature[0].b & 1u << 20 ? 1ull << 21 : 0; /* SMAP */
    ok |= p->feature[0].c & 1u << 2 ? 1ull << 11 : 0;  /* UMIP */
    return !(value & ~ok);
}

bool hvm_pat_ok(uint64_t value)
{
    for (unsigned i = 0; i < 64; i += 8) {
        uint8_t type = (uint8_t)(value >> i);

        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

/* --- MTRRs: kept, and without effect; the guest's memory is write-back but for what its PAT says --- */

static uint64_t *mtrr(struct hvm_vcpu *h, uint32_t msr)
{
    if (msr >= MSR_MTRR_BASE && msr < MSR_MTRR_BASE + MTRR_VARIABLES)
        return &h->mtrr_var[msr - MSR_MTRR_BASE];
    if (msr == MSR_MTRR_FIXED64)
        return &h->mtrr_fixed[0];
    if (msr == MSR_MTRR_FIXED16 || msr == MSR_MTRR_FIXED16 + 1)
        return &h->mtrr_fixed[1 + msr - MSR_MTRR_FIXED16];
    if (msr >= MSR_MTRR_FIXED4 && msr < MSR_MTRR_FIXED4 + 8)
        return &h->mtrr_fixed[3 + msr - MSR_MTRR_FIXED4];
    return msr == MSR_MTRR_DEF ? &h->mtrr_def : NULL;
}

static bool type_ok(uint64_t type)
{
    return type <= 6 && type != 2 && type != 3;
}

static bool mtrr_ok(const struct vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t width = x86_domain(v->domain)->policy->extended[8].a & 0xff,
             high = ~0ull << MIN(MAX(width, 36ull), 52ull);

    if (msr == MSR_MTRR_DEF)
        return !(value & ~0xcffull) && type_ok(value & 0xff);
    if (msr < MSR_MTRR_BASE + MTRR_VARIABLES) {
        if (msr & 1)
            return !(value & (high | 0x7ff));
        return !(value & (high | 0xf00)) && type_ok(value & 0xff);
    }
    for (unsigned i = 0; i < 64; i += 8)
        if (!type_ok(value >> i & 0xff))
            return false;
    return true;
}

uint64_t hvm_mtrr_get(const struct vcpu *v, uint32_t msr, bool *known)
{
    const uint64_t *at = mtrr(hvm_vcpu(v), msr);

    *known = at != NULL || msr == MSR_MTRRCAP;
    return at ? *at : MTRRCAP_VALUE;
}

bool hvm_mtrr_set(struct vcpu *v, uint32_t msr, uint64_t value, bool *known)
{
    uint64_t *at = mtrr(hvm_vcpu(v), msr);

    *known = at != NULL || msr == MSR_MTRRCAP;
    if (!at || !mtrr_ok(v, msr, value))
        return false;
    *at = value;
    return true;
}

/* --- the hypercall page: xen/arch-x86/cpuid.h, leaf 2 --- */

/* Entry i: mov $i, %eax; vmmcall; ret. iret has no meaning here. */
static void fill_page(uint8_t *p)
{
    static const uint8_t call[] = {0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3};

    memset(p, 0xcc, FRAME_SIZE);
    for (unsigned n = 0; n < FRAME_SIZE / 32; n++, p += 32) {
        memcpy(p, call, sizeof(call));
        p[1] = (uint8_t)n;
        if (n == __HYPERVISOR_iret) {
            p[0] = 0x0f; /* ud2 */
            p[1] = 0x0b;
        }
    }
}

static bool hypercall_page(struct vcpu *v, uint64_t value)
{
    struct p2m_entry e;

    if (value & (FRAME_SIZE - 1)) /* there is one page */
        return false;
    if (p2m_get(v->domain, GFN(value >> FRAME_SHIFT), P2M_WRITE, &e))
        return false;
    hvm_latch_layout(v);
    fill_page(arch_frame_va(e.mfn));
    frame_put(mfn_frame(e.mfn));
    return true;
}

/* Where the MSR of Xen's page is: Viridian's have its place. */
static bool is_hypercall_msr(const struct vcpu *v, uint32_t msr)
{
    return msr == (hvm_domain(v->domain)->viridian ? VIRIDIAN_XEN_MSR : MSR_HYPERCALL);
}

static bool is_viridian_msr(const struct vcpu *v, uint32_t msr)
{
    return hvm_domain(v->domain)->viridian && viridian_owns_msr(msr);
}

/* --- constants --- */

static const struct msr_rule *rule_for(uint32_t msr)
{
    struct msr_env env = {.intel = cpu_features.intel, .amd = cpu_features.amd, .ibpb = cpu_features.ibpb};
    const struct msr_rule *r = policy_msr_pv(&env, msr);

    if (!r)
        return NULL;
    switch (r->answer) {
    case MSR_CONSTANT:
    case MSR_IGNORE_WRITE:
    case MSR_PRED_CMD_:
    case MSR_PLATFORM_INFO_:
        return r;
    default:
        return NULL; /* a matter of PV guests */
    }
}

static bool read_constant(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct msr_rule *r = rule_for(msr);

    if (!r || r->answer == MSR_PRED_CMD_)
        return false;
    *value = r->answer == MSR_PLATFORM_INFO_ ? 0 : r->value;
    return true;
}

static bool write_constant(struct vcpu *v, uint32_t msr, uint64_t value)
{
    const struct msr_rule *r = rule_for(msr);

    if (!r)
        return false;
    switch (r->answer) {
    case MSR_PRED_CMD_:
        return !(value & ~1ull) && wrmsr_safe(MSR_PRED_CMD, value);
    case MSR_IGNORE_WRITE:
        return true;
    default:
        return value == r->value;
    }
}

/* --- DEBUGCTL (AMD APM vol. 2 13.1.1): the processor switches it with a guest that set it --- */

bool hvm_has_debugctl; /* [boot] it can */

/* The bits of performance monitoring pins are taken and mean nothing: there are no pins. */
static bool write_debugctl(struct vcpu *v, uint64_t value)
{
    if (value & ~(hvm_has_debugctl ? DEBUGCTL_KEPT | DEBUGCTL_PINS : 0))
        return false;
    hvm_set(v, HVM_DEBUGCTL, value & DEBUGCTL_KEPT);
    return true;
}

/* --- the two instructions --- */

static bool has_tsc_adjust(const struct vcpu *v)
{
    return x86_domain(v->domain)->policy->feature[0].b & 2;
}

bool hvm_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    bool known;

    if (vlapic_owns_msr(msr))
        return vlapic_rdmsr(v, msr, value);
    *value = hvm_mtrr_get(v, msr, &known);
    if (known)
        return true;
    switch (msr) {
    case MSR_TSC:
        *value = hvm_tsc(v);
        return true;
    case MSR_TSC_ADJUST:
        *value = hvm_vcpu(v)->tsc_adjust;
        return has_tsc_adjust(v);
    case MSR_EFER:
        *value = hvm_get(v, HVM_EFER);
        return true;
    case MSR_PAT:
        *value = hvm_get(v, HVM_PAT);
        return true;
    case MSR_DEBUGCTL:
        *value = hvm_get(v, HVM_DEBUGCTL);
        return true;
    case MSR_BRANCH_FROM ... MSR_BRANCH_FROM + 3:
        *value = hvm_get(v, (enum hvm_reg)(HVM_BRANCH_FROM + msr - MSR_BRANCH_FROM));
        return true;
    default:
        if (is_hypercall_msr(v, msr)) {
            *value = 0;
            return true;
        }
        if (is_viridian_msr(v, msr))
            return viridian_rdmsr(v, msr, value);
        if (read_constant(v, msr, value))
            return true;
        log_guest(v->domain->id, LOG_DEBUG, "rdmsr %x refused", msr);
        return false;
    }
}

bool hvm_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    bool known, ok;

    if (vlapic_owns_msr(msr))
        return vlapic_wrmsr(v, msr, value);
    ok = hvm_mtrr_set(v, msr, value, &known);
    if (known)
        return ok;
    switch (msr) {
    case MSR_TSC:
        hvm_write_tsc(v, value);
        return true;
    case MSR_TSC_ADJUST:
        if (!has_tsc_adjust(v))
            return false;
        hvm_write_tsc_adjust(v, value);
        return true;
    case MSR_EFER:
        return write_efer(v, value);
    case MSR_PAT:
        if (!hvm_pat_ok(value))
            return false;
        hvm_set(v, HVM_PAT, value);
        return true;
    case MSR_DEBUGCTL:
        return write_debugctl(v, value);
    default:
        if (is_hypercall_msr(v, msr))
            return hypercall_page(v, value);
        if (is_viridian_msr(v, msr))
            return viridian_wrmsr(v, msr, value);
        if (write_constant(v, msr, value))
            return true;
        log_guest(v->domain->id, LOG_DEBUG, "wrmsr %x = %lx refused", msr, value);
        return false;
    }
}
