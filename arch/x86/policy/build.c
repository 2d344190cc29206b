/*
 * The CPUID policies of the machine: what the processor says, what of it is in use, and what PV guests may see of it. Pure.
 *
 * Invariants (of a PV policy)
 *  1. A feature bit is shown only if the host has it and the mask below names it: what is new on some future
 * processor stays hidden until somebody has looked at it. (HYPERVISOR is the exception: always shown.)
 *  2. Nothing is shown that ring 3 kernels on Krypton cannot use: large pages, global pages, SMEP/SMAP/UMIP,
 * PCID, APIC modes, VMX/SVM, performance counters, protection keys, supervisor XSAVE states.
 *  3. Features that only exist together disappear together (trim.c).
 *  4. Leaves nobody has looked at read as zero.
 *
 * The masks follow the applicability notes of xen/arch-x86/cpufeatureset.h ("A": all guests), less what
 * Krypton does not virtualize yet (SPEC_CTRL).
 */
#include "x86/policy.h"
#include "lib/string.h"

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
#define E1C_PLAIN      (B(0) | B(5) | B(6) | B(7) | B(8)) /* LAHF ABM SSE4A MISALIGNSSE 3DNOWPREFETCH */
#define E1C_AVX        (B(11) | B(16) | B(21))            /* XOP FMA4; TBM rides along */
#define E1D_LEAF1      0x0183f3ffu /* bits of 0x80000001.edx that AMD repeats from leaf 1 */
#define E8B_MASK                                                                                             \
    (B(0) | B(2) | B(12) | B(26) | B(29) | B(30)) /* CLZERO RSTR_FP IBPB SSB_NO BTC_NO IBPB_RET */
#define E21A_MASK     (B(2) | B(6) | B(29))       /* LFENCE serializing, NSCB, SRSO_NO */

#define XCR0_MASK_ALL 0xe7u
#define CPUID_FAULT   (1ull << 31) /* of PLATFORM_INFO */

static void read_subleaves(const struct policy_host *h, uint32_t leaf, struct cpuid_leaf *to, unsigned n)
{
    if (leaf <= h->max_leaf)
        for (unsigned i = 0; i < n; i++)
            h->cpuid(leaf, i, &to[i]);
}

static bool has_subleaves(uint32_t leaf)
{
    return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd;
}

void policy_build_raw(const struct policy_host *h, struct cpu_policy *p)
{
    memset(p, 0, sizeof(*p));
    for (uint32_t i = 0; i < POLICY_BASIC && i <= h->max_leaf; i++)
        if (!has_subleaves(i))
            h->cpuid(i, 0, &p->basic[i]);
    read_subleaves(h, 4, p->cache, POLICY_CACHES);
    read_subleaves(h, 7, p->feature, POLICY_FEATURES);
    read_subleaves(h, 0xb, p->topology, POLICY_TOPOLOGY);
    read_subleaves(h, 0xd, p->xstate, POLICY_XSTATES);
    for (uint32_t i = 0; i < POLICY_EXTENDED && 0x80000000 + i <= h->max_ext_leaf; i++)
        h->cpuid(0x80000000 + i, 0, &p->extended[i]);
    p->platform_info = h->platform_info;
    p->arch_capabilities = h->arch_capabilities;
}

/* Limits of what a policy can hold. */
static void limit_leaves(const struct policy_host *h, struct cpu_policy *p, uint32_t max_extended)
{
    p->basic[0].a = MIN(h->max_leaf, POLICY_BASIC - 1);
    p->feature[0].a = MIN(p->feature[0].a, POLICY_FEATURES - 1);
    p->extended[0].a = MIN(h->max_ext_leaf, max_extended);
}

void policy_build_host(const struct policy_host *h, struct cpu_policy *p)
{
    policy_build_raw(h, p);
    limit_leaves(h, p, 0x80000000 + POLICY_EXTENDED - 1);
    if (!h->xcr0_mask) {
        p->basic[1].c &= ~(L1C_XSAVE | L1C_OSXSAVE | L1C_AVX);
        memset(p->xstate, 0, sizeof(p->xstate));
    }
    p->xstate[0].a &= (uint32_t)h->xcr0_mask;
    p->xstate[0].d &= (uint32_t)(h->xcr0_mask >> 32);
    if (!h->fsgsbase)
        p->feature[0].b &= ~B(0);
}

/* --- the maximum of PV guests: the raw policy, leaf by leaf --- */

static void basic_leaves(struct cpu_policy *p)
{
    struct cpuid_leaf *one = &p->basic[1];

    one->b &= 0xff00u; /* CLFLUSH size; the APIC id is the vCPU's */
    one->c = (one->c & (L1C_PLAIN | L1C_XSAVE | L1C_AVX)) | L1C_HYPERVISOR;
    one->d &= L1D_MASK;
    for (unsigned i = 3; i < POLICY_BASIC; i++) /* MONITOR, power, performance counters, ... */
        p->basic[i] = (struct cpuid_leaf){0};
    for (unsigned i = 0; i < POLICY_CACHES; i++) /* each private to its core */
        p->cache[i].a &= 0x3ff;
    memset(p->topology, 0, sizeof(p->topology));
}

static void feature_leaves(const struct policy_host *h, struct cpu_policy *p)
{
    struct cpuid_leaf *f = p->feature;

    f[0].a = MIN(f[0].a, 1u);
    f[0].b &= L7B_PLAIN | L7B_AVX | L7B_AVX512;
    f[0].c &= L7C_PLAIN | L7C_AVX | L7C_AVX512;
    f[0].d &= L7D_PLAIN | L7D_AVX512;
    if (!h->fsgsbase)
        f[0].b &= ~B(0);
    f[1] = (struct cpuid_leaf){.a = f[1].a & (L7_1A_PLAIN | L7_1A_AVX | L7_1A_AVX512)};
    f[2] = (struct cpuid_leaf){0};
}

/* No supervisor states. */
static void xstate_leaves(const struct policy_host *h, struct cpu_policy *p)
{
    uint64_t mask = h->xcr0_mask & XCR0_MASK_ALL;

    p->xstate[0] = (struct cpuid_leaf){.a = (uint32_t)mask};
    p->xstate[1] = (struct cpuid_leaf){.a = mask ? p->xstate[1].a & 7 : 0}; /* XSAVEOPT XSAVEC XGETBV1 */
    for (unsigned i = 2; i < POLICY_XSTATES; i++) {
        struct cpuid_leaf *l = &p->xstate[i];

        if (mask & 1ull << i)
            *l = (struct cpuid_leaf){.a = l->a, .b = l->b, .c = l->c & 2}; /* bit 0: a supervisor state */
        else
            *l = (struct cpuid_leaf){0};
    }
}

static void extended_leaves(bool amd, struct cpu_policy *p)
{
    struct cpuid_leaf *x = p->extended;

    x[1].b &= amd ? 0xf0000000u : 0; /* package type */
    x[1].c &= E1C_PLAIN | E1C_AVX;
    x[1].d = (x[1].d & E1D_MASK) | (amd ? p->basic[1].d & E1D_LEAF1 : 0);
    x[7] = (struct cpuid_leaf){.d = x[7].d & B(8)}; /* invariant TSC */
    x[8] = (struct cpuid_leaf){.a = x[8].a & 0xffff, .b = amd ? x[8].b & E8B_MASK : 0};
    for (unsigned i = 9; i < POLICY_EXTENDED; i++)
        x[i] = (struct cpuid_leaf){.a = i == 0x21 ? x[i].a & E21A_MASK : 0};
}

void policy_build_pv_max(const struct policy_host *h, struct cpu_policy *p)
{
    policy_build_raw(h, p);
    limit_leaves(h, p, h->amd ? 0x80000021u : 0x80000008u);
    basic_leaves(p);
    feature_leaves(h, p);
    xstate_leaves(h, p);
    extended_leaves(h->amd, p);
    if (!h->xcr0_mask)
        p->basic[1].c &= ~L1C_XSAVE;
    p->hv_limit = p->hv2_limit = 0;
    p->platform_info &= CPUID_FAULT;
    p->arch_capabilities = 0;
    policy_trim(p, p);
}

/*
 * --- the maximum of HVM guests: what ring 0 can use of a processor with nested paging, and what the local APIC of Krypton has, which
 * is emulated whatever the host's has ---
 */

/* VME PSE PGE MTRR PSE36 beside those of PV guests */
#define HVM_L1D   (B(1) | B(3) | B(12) | B(13) | B(17))
#define HVM_L1C   B(17)                  /* PCID */
#define HVM_OURS  (B(21) | B(24))        /* x2APIC, TSC deadline */
#define HVM_OUR7B B(1)                   /* TSC_ADJUST */
#define HVM_L7B   (B(7) | B(10) | B(20)) /* SMEP INVPCID SMAP */
#define HVM_L7C   B(2)                   /* UMIP */
#define HVM_E1D   B(26)                  /* 1 GiB pages */
#define HVM_WIDTH 48u

void policy_build_hvm_max(const struct policy_host *h, struct cpu_policy *p)
{
    struct cpuid_leaf one, seven, ext, eight;

    policy_build_raw(h, p);
    one = p->basic[1];
    seven = p->feature[0];
    ext = p->extended[1];
    eight = p->extended[8];
    limit_leaves(h, p, h->amd ? 0x80000021u : 0x80000008u);
    basic_leaves(p);
    feature_leaves(h, p);
    xstate_leaves(h, p);
    p->basic[1].d |= one.d & HVM_L1D;
    p->basic[1].c |= (one.c & HVM_L1C) | HVM_OURS;
    p->feature[0].b |= (seven.b & HVM_L7B) | HVM_OUR7B;
    p->feature[0].c |= seven.c & HVM_L7C;
    extended_leaves(h->amd, p);
    p->extended[1].d |= ext.d & HVM_E1D;
    p->extended[8].a = (p->extended[8].a & ~0xffu) | MIN(eight.a & 0xff, HVM_WIDTH);
    if (!h->xcr0_mask)
        p->basic[1].c &= ~L1C_XSAVE;
    p->hv_limit = p->hv2_limit = 0;
    p->platform_info = 0; /* CPUID always leaves the guest */
    p->arch_capabilities = 0;
    policy_trim(p, p);
}

void policy_default(struct cpu_policy *p)
{
    p->extended[7].d &= ~B(8); /* invariant TSC: for who cannot migrate */
}
