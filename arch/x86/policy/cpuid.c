/*
 * CPUID policy of PV guests: a pure function from the host's answer, the vCPU's state and the question.
 *
 * Invariants
 *  1. A feature bit is shown only if the host has it and the mask below names it: what is new on some future
 * processor stays hidden until somebody has looked at it. (HYPERVISOR is the exception: always shown.)
 *  2. Nothing is shown that ring 3 kernels on Krypton cannot use: large pages, global pages, SMEP/SMAP/UMIP,
 * PCID, APIC modes, VMX/SVM, performance counters, protection keys, supervisor XSAVE states.
 *  3. Features that only exist together disappear together (XSAVE -> AVX -> AVX-512; FMA, F16C, XOP need
 * AVX).
 *  4. Leaves nobody has looked at read as zero.
 *
 * The masks follow the applicability notes of xen/arch-x86/cpufeatureset.h ("A": all guests), less what
 * Krypton does not virtualize yet (SPEC_CTRL).
 */
#include "x86/policy.h"
#include "core/abi.h"

#define B(n) (1u << (n))

/* leaf 1 */
#define L1D_MASK                                                                                             \
    (B(0) | B(2) | B(4) | B(5) | B(6) | B(7) | B(8) | B(9) | B(11) | B(14) | B(15) | B(16) | B(19) | B(22) | \
     B(23) | B(24) | B(25) | B(26) |                                                                         \
     B(27)) /* FPU DE TSC MSR PAE MCE CX8 APIC SEP MCA CMOV PAT CLFSH ACPI MMX FXSR SSE SSE2 SS */
/* SSE3 PCLMUL SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT AESNI RDRAND */
#define L1C_PLAIN      (B(0) | B(1) | B(9) | B(13) | B(19) | B(20) | B(22) | B(23) | B(25) | B(30))
#define L1C_XSAVE      B(26)
#define L1C_AVX        (B(12) | B(28) | B(29)) /* FMA AVX F16C */
#define L1C_OSXSAVE    B(27)
#define L1C_HYPERVISOR B(31)

/* leaf 7.0 */
/* FSGSBASE BMI1 BMI2 ERMS RDSEED ADX CLFLUSHOPT CLWB SHA */
#define L7B_PLAIN      (B(0) | B(3) | B(8) | B(9) | B(18) | B(19) | B(23) | B(24) | B(29))
#define L7B_AVX        B(5)
#define L7B_AVX512     (B(16) | B(17) | B(21) | B(26) | B(27) | B(28) | B(30) | B(31))
#define L7C_PLAIN      (B(0) | B(8) | B(22) | B(25)) /* PREFETCHWT1 GFNI RDPID CLDEMOTE */
#define L7C_AVX        (B(9) | B(10))                /* VAES VPCLMULQDQ */
#define L7C_AVX512     (B(1) | B(6) | B(11) | B(12) | B(14))
#define L7D_PLAIN      (B(4) | B(10) | B(14)) /* FSRM MD_CLEAR SERIALIZE */
#define L7D_AVX512     (B(2) | B(3))
#define L7_1A_PLAIN    (B(10) | B(11) | B(12)) /* fast short rep forms */
#define L7_1A_AVX      B(4)
#define L7_1A_AVX512   B(5)

/* extended leaves */
#define E1D_MASK       (B(11) | B(20) | B(22) | B(25) | B(27) | B(29) | B(30) | B(31))
#define E1C_PLAIN                                                                                            \
    (B(0) | B(5) | B(6) | B(7) | B(8) | B(26)) /* LAHF ABM SSE4A MISALIGNSSE 3DNOWPREFETCH DBEXT */
#define E1C_AVX   (B(11) | B(16) | B(21))      /* XOP FMA4; TBM rides along */
#define E1D_LEAF1 0x0183f3ffu                  /* bits of 0x80000001.edx that AMD repeats from leaf 1 */
#define E8B_MASK                                                                                             \
    (B(0) | B(2) | B(12) | B(26) | B(29) | B(30)) /* CLZERO RSTR_FP IBPB SSB_NO BTC_NO IBPB_RET */
#define E21A_MASK   (B(2) | B(6) | B(29))         /* LFENCE serializing, NSCB, SRSO_NO */

#define XCR0_AVX    4u
#define XCR0_AVX512 0xe0u

static bool has_avx(const struct cpuid_env *e)
{
    return (e->xcr0_mask & XCR0_AVX) != 0;
}
static bool has_avx512(const struct cpuid_env *e)
{
    return has_avx(e) && (e->xcr0_mask & XCR0_AVX512) == XCR0_AVX512;
}

bool policy_xcr0_ok(uint64_t value, uint64_t mask)
{
    if (!(value & 1) || (value & ~mask))
        return false;
    if ((value & XCR0_AVX) && !(value & 2))
        return false;
    if ((value & 0x18) && (value & 0x18) != 0x18)
        return false;
    if ((value & XCR0_AVX512) && ((value & XCR0_AVX512) != XCR0_AVX512 || !(value & XCR0_AVX)))
        return false;
    return true;
}

uint32_t policy_xsave_size(const struct cpuid_env *env, uint64_t components)
{
    uint32_t size = 576; /* legacy region and header */

    for (unsigned i = 2; i < 63; i++) {
        struct cpuid_leaf l;
        if (!(components & (1ull << i)))
            continue;
        env->host(0xd, i, &l);
        if (l.b + l.a > size)
            size = l.b + l.a;
    }
    return size;
}

static uint32_t max_basic(const struct cpuid_env *e)
{
    return MIN(e->max_leaf, 0xdu);
}

static uint32_t max_extended(const struct cpuid_env *e)
{
    return MIN(e->max_ext_leaf, e->amd ? 0x80000021u : 0x80000008u);
}

static void leaf_1(const struct cpuid_env *e, struct cpuid_leaf *l)
{
    uint32_t c = L1C_PLAIN;

    if (e->xcr0_mask)
        c |= L1C_XSAVE;
    if (has_avx(e))
        c |= L1C_AVX;
    l->b = (l->b & 0xff00u) | ((e->vcpu * 2) & 0xff)
                                  << 24; /* CLFLUSH size and the APIC id; one thread per package */
    l->c &= c;
    if ((l->c & L1C_XSAVE) && e->osxsave)
        l->c |= L1C_OSXSAVE;
    l->c |= L1C_HYPERVISOR;
    l->d &= L1D_MASK;
}

static void leaf_7(const struct cpuid_env *e, uint32_t subleaf, struct cpuid_leaf *l)
{
    bool avx = has_avx(e), avx512 = has_avx512(e);

    if (subleaf == 0) {
        l->a = MIN(l->a, 1u);
        l->b &= L7B_PLAIN | (avx ? L7B_AVX : 0) | (avx512 ? L7B_AVX512 : 0);
        l->c &= L7C_PLAIN | (avx ? L7C_AVX : 0) | (avx512 ? L7C_AVX512 : 0);
        l->d &= L7D_PLAIN | (avx512 ? L7D_AVX512 : 0);
        if (!e->fsgsbase)
            l->b &= ~B(0);
    } else if (subleaf == 1) {
        l->a &= L7_1A_PLAIN | (avx ? L7_1A_AVX : 0) | (avx512 ? L7_1A_AVX512 : 0);
        l->b = l->c = l->d = 0;
    } else {
        *l = (struct cpuid_leaf){0};
    }
}

/* XSAVE enumeration. No supervisor states; the compact format's size is computed by the host for the current
 * XCR0. */
static void leaf_d(const struct cpuid_env *e, uint32_t subleaf, struct cpuid_leaf *l)
{
    struct cpuid_leaf host = *l;

    *l = (struct cpuid_leaf){0};
    if (!e->xcr0_mask)
        return;
    if (subleaf == 0) {
        l->a = (uint32_t)e->xcr0_mask;
        l->d = (uint32_t)(e->xcr0_mask >> 32);
        l->b = policy_xsave_size(e, e->xcr0);
        l->c = policy_xsave_size(e, e->xcr0_mask);
    } else if (subleaf == 1) {
        l->a = host.a & 7; /* XSAVEOPT XSAVEC XGETBV1 */
        if (l->a & 2) {
            uint32_t size = 576;
            for (unsigned i = 2; i < 63; i++) {
                struct cpuid_leaf s;
                if (!(e->xcr0 & (1ull << i)))
                    continue;
                e->host(0xd, i, &s);
                size = (s.c & 2) ? ROUND_UP(size, 64u) : size;
                size += s.a;
            }
            l->b = size;
        }
    } else if (subleaf < 63 && (e->xcr0_mask & (1ull << subleaf))) {
        *l = host;
        l->d = 0;
        l->c &= 2; /* bit 0 would mean a supervisor state */
    }
}

static void basic_leaf(const struct cpuid_env *e, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *l)
{
    if (leaf > max_basic(e))
        return;
    e->host(leaf, subleaf, l);
    switch (leaf) {
    case 0:
        l->a = max_basic(e);
        break;
    case 1:
        leaf_1(e, l);
        break;
    case 2: /* cache descriptors */
        break;
    case 4: /* caches, each private to its core */
        l->a &= 0x3ff;
        break;
    case 7:
        leaf_7(e, subleaf, l);
        break;
    case 0xb: /* topology: no levels, the x2APIC id only */
        *l = (struct cpuid_leaf){.c = subleaf & 0xff, .d = e->vcpu * 2};
        break;
    case 0xd:
        leaf_d(e, subleaf, l);
        break;
    default: /* MONITOR, power, performance counters, ... */
        *l = (struct cpuid_leaf){0};
    }
}

static void extended_leaf(const struct cpuid_env *e, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *l)
{
    struct cpuid_leaf one;

    if (leaf > max_extended(e))
        return;
    e->host(leaf, subleaf, l);
    switch (leaf) {
    case 0x80000000:
        l->a = max_extended(e);
        break;
    case 0x80000001:
        policy_cpuid_pv(e, 1, 0, &one);
        l->b &= e->amd ? 0xf0000000u : 0; /* package type */
        l->c &= E1C_PLAIN | (has_avx(e) ? E1C_AVX : 0);
        l->d = (l->d & E1D_MASK) | (e->amd ? one.d & E1D_LEAF1 : 0);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: /* brand string */
    case 0x80000005:
    case 0x80000006: /* caches */
        break;
    case 0x80000007:
        *l = (struct cpuid_leaf){.d = e->hardware ? l->d & B(8)
                                                  : 0}; /* invariant TSC: for who cannot migrate */
        break;
    case 0x80000008:
        l->a &= 0xffff;
        l->b &= e->amd ? E8B_MASK : 0;
        l->c = l->d = 0;
        break;
    case 0x80000021:
        *l = (struct cpuid_leaf){.a = l->a & E21A_MASK};
        break;
    default:
        *l = (struct cpuid_leaf){0};
    }
}

/* xen/arch-x86/cpuid.h */
static void hypervisor_leaf(const struct cpuid_env *e, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *l)
{
    switch (leaf - XEN_CPUID_FIRST_LEAF) {
    case 0:
        l->a = XEN_CPUID_LEAF(XEN_CPUID_MAX_NUM_LEAVES);
        l->b = XEN_CPUID_SIGNATURE_EBX;
        l->c = XEN_CPUID_SIGNATURE_ECX;
        l->d = XEN_CPUID_SIGNATURE_EDX;
        break;
    case 1:
        l->a = POLICY_VERSION_MAJOR << 16 | POLICY_VERSION_MINOR;
        break;
    case 2:
        l->a = 1;          /* one hypercall page */
        l->b = 0x40000000; /* its MSR */
        l->c = XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD;
        break;
    case 3:
        if (subleaf == 0) {
            l->a = (e->tsc_reliable ? 2u : 0u) | 4u;
            l->c = e->tsc_khz;
        } else if (subleaf == 2) {
            l->a = e->tsc_khz;
        }
        break;
    case 5:
        if (subleaf == 0)
            l->b = e->machine_bits;
        break;
    default:
        break;
    }
}

void policy_cpuid_pv(const struct cpuid_env *env, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out)
{
    *out = (struct cpuid_leaf){0};
    if (leaf < 0x40000000)
        basic_leaf(env, leaf, subleaf, out);
    else if (leaf < 0x80000000)
        hypervisor_leaf(env, leaf, subleaf, out);
    else
        extended_leaf(env, leaf, subleaf, out);
}
