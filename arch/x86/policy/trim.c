/*
 * What a toolstack may make of a policy: less than the maximum, never more, and nothing that does not fit together. Pure.
 *
 * Invariants (after policy_trim(p, max))
 *  1. Every feature of p is one of max.
 *  2. No feature is there without those it needs (the list below).
 *  3. Every index that the answering code takes from p lies within its arrays: the limits are at most max's.
 *  4. What describes hardware state that a guest could reach (XSAVE components, address widths) is max's.
 */
#include "x86/policy.h"
#include "core/abi.h"
#include "lib/string.h"
#include <xen/arch-x86/cpufeatureset.h>

#define F(name)      XEN_X86_FEATURE_##name
#define AT(field)    offsetof(struct cpu_policy, field)
#define EXT(n)       extended[n]
#define XCR0_BASE    3u
#define XCR0_AVX     4u
#define XCR0_AVX512  0xe0u
#define LEAF1_REPEAT 0x0183f3ffu /* bits of 0x80000001.edx that AMD repeats from leaf 1 */

/* Where each word of a feature set lies (xen/arch-x86/cpufeatureset.h). */
static const uint16_t word_at[POLICY_WORDS] = {
    AT(basic[1].d),       AT(basic[1].c),        AT(extended[1].d),
    AT(extended[1].c),    AT(xstate[1].a),       AT(feature[0].b),
    AT(feature[0].c),     AT(extended[7].d),     AT(extended[8].b),
    AT(feature[0].d),     AT(feature[1].a),      AT(extended[0x21].a),
    AT(feature[1].b),     AT(feature[2].d),      AT(feature[1].c),
    AT(feature[1].d),     AT(arch_capabilities), AT(arch_capabilities) + 4,
    AT(extended[0x21].c),
};

static uint32_t *word(struct cpu_policy *p, unsigned i)
{
    return (uint32_t *)((char *)p + word_at[i]);
}

/* { feature, what it needs }, parents before children. */
static const uint16_t needs[][2] = {
    {F(FXSR), F(FPU)},
    {F(MMX), F(FPU)},
    {F(SSE), F(FXSR)},
    {F(FFXSR), F(FXSR)},
    {F(MMXEXT), F(MMX)},
    {F(3DNOW), F(MMX)},
    {F(3DNOWEXT), F(3DNOW)},
    {F(SSE2), F(SSE)},
    {F(MISALIGNSSE), F(SSE)},
    {F(SSE3), F(SSE2)},
    {F(PCLMULQDQ), F(SSE2)},
    {F(AESNI), F(SSE2)},
    {F(SHA), F(SSE2)},
    {F(GFNI), F(SSE2)},
    {F(LM), F(SSE2)},
    {F(SSSE3), F(SSE3)},
    {F(SSE4A), F(SSE3)},
    {F(SSE4_1), F(SSSE3)},
    {F(SSE4_2), F(SSE4_1)},
    {F(LAHF_LM), F(LM)},
    {F(CX16), F(LM)},
    {F(FSGSBASE), F(LM)},
    {F(XSAVE), F(FXSR)},
    {F(XSAVEOPT), F(XSAVE)},
    {F(XSAVEC), F(XSAVE)},
    {F(XGETBV1), F(XSAVE)},
    {F(AVX), F(XSAVE)},
    {F(AVX), F(SSE2)},
    {F(FMA), F(AVX)},
    {F(F16C), F(AVX)},
    {F(FMA4), F(AVX)},
    {F(XOP), F(AVX)},
    {F(TBM), F(AVX)}, /* encoded as XOP */
    {F(AVX2), F(AVX)},
    {F(VAES), F(AVX)},
    {F(VPCLMULQDQ), F(AVX)},
    {F(AVX_VNNI), F(AVX2)},
    {F(AVX512F), F(AVX2)},
    {F(AVX512DQ), F(AVX512F)},
    {F(AVX512_IFMA), F(AVX512F)},
    {F(AVX512PF), F(AVX512F)},
    {F(AVX512ER), F(AVX512F)},
    {F(AVX512CD), F(AVX512F)},
    {F(AVX512BW), F(AVX512F)},
    {F(AVX512VL), F(AVX512F)},
    {F(AVX512_4VNNIW), F(AVX512F)},
    {F(AVX512_4FMAPS), F(AVX512F)},
    {F(AVX512_VNNI), F(AVX512F)},
    {F(AVX512_VPOPCNTDQ), F(AVX512F)},
    {F(AVX512_VBMI), F(AVX512BW)},
    {F(AVX512_VBMI2), F(AVX512BW)},
    {F(AVX512_BITALG), F(AVX512BW)},
    {F(AVX512_BF16), F(AVX512BW)},
};

static bool has(struct cpu_policy *p, unsigned feature)
{
    return *word(p, feature / 32) >> feature % 32 & 1;
}

void policy_features(const struct cpu_policy *p, uint32_t words[POLICY_WORDS])
{
    for (unsigned i = 0; i < POLICY_WORDS; i++)
        memcpy(&words[i], (const char *)p + word_at[i], sizeof(words[i]));
}

static int refuse(struct policy_error *e, uint32_t leaf, uint32_t subleaf)
{
    e->leaf = leaf;
    e->subleaf = subleaf;
    return -EINVAL;
}

int policy_check(const struct cpu_policy *p, const struct cpu_policy *max, struct policy_error *e)
{
    const struct cpuid_leaf *v = &p->basic[0], *m = &max->basic[0];

    if (v->a > m->a || v->b != m->b || v->c != m->c || v->d != m->d) /* another maker's processor */
        return refuse(e, 0, XEN_CPUID_NO_SUBLEAF);
    if (v->a >= 7 && p->feature[0].a > max->feature[0].a)
        return refuse(e, 7, 0);
    if (p->extended[0].a < 0x80000000 || p->extended[0].a > max->extended[0].a)
        return refuse(e, 0x80000000, XEN_CPUID_NO_SUBLEAF);
    if (p->platform_info & ~max->platform_info) {
        e->msr = 0xce;
        return -EINVAL;
    }
    return 0;
}

/* Leaves above the limits have no features. */
static void cut_leaves(struct cpu_policy *p)
{
    if (p->basic[0].a < 1)
        p->basic[1] = (struct cpuid_leaf){0};
    if (p->basic[0].a < 7)
        memset(p->feature, 0, sizeof(p->feature));
    for (unsigned i = p->feature[0].a + 1; i < POLICY_FEATURES; i++)
        p->feature[i] = (struct cpuid_leaf){0};
    for (unsigned i = (p->extended[0].a & 0xffff) + 1; i < POLICY_EXTENDED; i++)
        p->extended[i] = (struct cpuid_leaf){0};
    if (p->basic[0].a < 0xd)
        p->basic[1].c &= ~(1u << F(XSAVE) % 32);
}

static void cut_features(struct cpu_policy *p, const struct cpu_policy *max)
{
    uint32_t allowed[POLICY_WORDS];

    policy_features(max, allowed);
    for (unsigned i = 0; i < POLICY_WORDS; i++)
        *word(p, i) &= allowed[i];
    if (!(max->xstate[0].a & XCR0_AVX))
        p->basic[1].c &= ~(1u << F(AVX) % 32);
    if ((max->xstate[0].a & XCR0_AVX512) != XCR0_AVX512)
        p->feature[0].b &= ~(1u << F(AVX512F) % 32);
    for (unsigned i = 0; i < ARRAY_SIZE(needs); i++)
        if (!has(p, needs[i][1]))
            *word(p, needs[i][0] / 32) &= ~(1u << needs[i][0] % 32);
}

/* XSAVE components: those of the features that are left. */
static void set_xstates(struct cpu_policy *p, const struct cpu_policy *max)
{
    uint32_t xcr0 = XCR0_BASE;

    if (!has(p, F(XSAVE)))
        xcr0 = 0;
    else if (has(p, F(AVX)))
        xcr0 |= XCR0_AVX | (has(p, F(AVX512F)) ? XCR0_AVX512 : 0);
    xcr0 &= max->xstate[0].a;
    p->xstate[0] = (struct cpuid_leaf){.a = xcr0};
    p->xstate[1] = (struct cpuid_leaf){.a = p->xstate[1].a};
    for (unsigned i = 2; i < POLICY_XSTATES; i++)
        p->xstate[i] = i < 32 && xcr0 >> i & 1 ? max->xstate[i] : (struct cpuid_leaf){0};
    p->xstate[0].c = xcr0 ? policy_xsave_size(p, xcr0) : 0;
}

static void set_fixed(struct cpu_policy *p, const struct cpu_policy *max)
{
    p->basic[1].b &= 0xff00;
    p->basic[1].c |= max->basic[1].c & 1u << F(HYPERVISOR) % 32;
    for (unsigned i = 3; i < POLICY_BASIC; i++)
        p->basic[i] = max->basic[i];
    memset(p->topology, 0, sizeof(p->topology));
    p->extended[1].b = max->extended[1].b;
    if (max->extended[1].d & LEAF1_REPEAT & 1) /* AMD: FPU is there twice */
        p->extended[1].d = (p->extended[1].d & ~LEAF1_REPEAT) | (p->basic[1].d & LEAF1_REPEAT);
    p->extended[7] = (struct cpuid_leaf){.d = p->extended[7].d};
    p->extended[8] = (struct cpuid_leaf){.a = max->extended[8].a, .b = p->extended[8].b};
    for (unsigned i = 9; i < POLICY_EXTENDED; i++)
        p->extended[i] =
            (struct cpuid_leaf){.a = i == 0x21 ? p->extended[i].a : 0, .c = i == 0x21 ? p->extended[i].c : 0};
    p->hv_limit &= 0xff;
    p->hv2_limit &= 0xff;
}

void policy_trim(struct cpu_policy *p, const struct cpu_policy *max)
{
    p->basic[0].a = MIN(p->basic[0].a, POLICY_BASIC - 1);
    p->feature[0].a = MIN(p->feature[0].a, POLICY_FEATURES - 1);
    p->extended[0].a = MIN(p->extended[0].a, 0x80000000 + POLICY_EXTENDED - 1);
    cut_leaves(p);
    cut_features(p, max);
    set_xstates(p, max);
    set_fixed(p, max);
}
