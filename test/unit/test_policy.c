/* CPUID and MSR policy of PV guests: nothing shows that the host lacks, nothing shows that ring 3 kernels
 * cannot use. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/abi.h"
#include "x86/policy.h"
#include <xen/arch-x86/cpufeatureset.h>

static struct cpuid_leaf all; /* what the fake host answers to every feature leaf */

static void host(uint32_t leaf, uint32_t sub, struct cpuid_leaf *out)
{
    *out = all;
    if (leaf == 0xd && sub >= 2)
        *out = (struct cpuid_leaf){sub == 2 ? 256 : 64, sub == 2 ? 576 : 832 + (sub - 5) * 256,
                                   sub == 6 ? 3 : 1, 0};
}

/* A host and a vCPU of one of its PV guests. */
struct env {
    struct policy_host host;
    struct cpuid_env vcpu;
    bool hardware;
};

static struct env env_full(void)
{
    return (struct env){
        .host = {.cpuid = host,
                 .amd = true,
                 .max_leaf = 0x1f,
                 .max_ext_leaf = 0x80000030,
                 .xcr0_mask = 0xe7,
                 .fsgsbase = true},
        .vcpu = {.xcr0 = 7, .vcpu = 3, .osxsave = true, .tsc_khz = 2000000, .machine_bits = 36},
        .hardware = true};
}

static struct cpu_policy policy_of(const struct env *e)
{
    struct cpu_policy p;

    policy_build_pv_max(&e->host, &p);
    if (!e->hardware)
        policy_default(&p);
    return p;
}

static struct cpuid_leaf ask_policy(const struct cpu_policy *p, uint32_t leaf, uint32_t sub)
{
    struct env e = env_full();
    struct cpuid_leaf l;

    policy_cpuid(p, &e.vcpu, leaf, sub, &l);
    return l;
}

static struct cpuid_leaf ask(const struct env *e, uint32_t leaf, uint32_t sub)
{
    struct cpu_policy p = policy_of(e);
    struct cpuid_leaf l;

    policy_cpuid(&p, &e->vcpu, leaf, sub, &l);
    return l;
}

static void test_hypervisor_leaves(void **state)
{
    struct env e = env_full();
    struct cpuid_leaf l = ask(&e, 0x40000000, 0);
    char sig[13] = {0};

    memcpy(sig, &l.b, 4);
    memcpy(sig + 4, &l.c, 4);
    memcpy(sig + 8, &l.d, 4);
    assert_string_equal(sig, "XenVMMXenVMM");
    assert_int_equal(l.a, 0x40000005);
    assert_int_equal(ask(&e, 0x40000001, 0).a, 4 << 16 | 17);
    assert_int_equal(ask(&e, 0x40000002, 0).b, 0x40000000);
    assert_int_equal(ask(&e, 0x40000003, 0).c, 2000000);
    assert_int_equal(ask(&e, 0x40000005, 0).b, 36);
    assert_int_equal(ask(&e, 0x40000100, 0).a, 0);
}

static void test_hidden_features(void **state)
{
    struct env e = env_full();
    struct cpuid_leaf l;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    l = ask(&e, 1, 0);
    assert_int_equal(l.d & (1 << 3 | 1 << 12 | 1 << 13 | 1 << 17 | 1 << 28), 0); /* PSE MTRR PGE PSE36 HTT */
    assert_int_equal(l.c & (1 << 3 | 1 << 5 | 1 << 17 | 1 << 21 | 1 << 24),
                     0); /* MONITOR VMX PCID X2APIC DEADLINE */
    assert_true(l.c >> 31);
    assert_int_equal(l.b >> 24, 6);
    l = ask(&e, 7, 0);
    assert_int_equal(l.b & (1 << 7 | 1 << 10 | 1 << 20), 0);     /* SMEP INVPCID SMAP */
    assert_int_equal(l.c & (1 << 2 | 1 << 3 | 1 << 4), 0);       /* UMIP PKU OSPKE */
    assert_int_equal(l.d & (1u << 26 | 1u << 27 | 1u << 31), 0); /* what needs SPEC_CTRL */
    l = ask(&e, 0x80000001, 0);
    assert_int_equal(l.c & (1 << 2 | 1 << 22), 0); /* SVM TOPOEXT */
    assert_int_equal(l.c & (1 << 26), 0);          /* DBEXT: its MSRs are not there */
    assert_int_equal(l.d & (1 << 26), 0);          /* 1 GiB pages */
    assert_int_equal(ask(&e, 5, 0).a | ask(&e, 6, 0).a | ask(&e, 0xa, 0).a | ask(&e, 0x14, 0).a, 0);
    assert_int_equal(ask(&e, 0x8000000a, 0).a | ask(&e, 0x8000001e, 0).a, 0);
    assert_int_equal(ask(&e, 0, 0).a, 0xd);
    assert_int_equal(ask(&e, 0x80000000, 0).a, 0x80000021);
}

static void test_subset_of_host(void **state)
{
    struct env e = env_full();

    all = (struct cpuid_leaf){0};
    assert_int_equal(ask(&e, 1, 0).c, 1u << 31); /* HYPERVISOR only */
    assert_int_equal(ask(&e, 1, 0).d, 0);
    for (uint32_t sub = 0; sub < 3; sub++) {
        struct cpuid_leaf l = ask(&e, 7, sub);
        assert_int_equal(l.a | l.b | l.c | l.d, 0);
    }
    assert_int_equal(ask(&e, 0x80000001, 0).d, 0);
}

static void test_no_xsave(void **state)
{
    struct env e = env_full();
    struct cpuid_leaf l;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    e.host.xcr0_mask = 0;
    l = ask(&e, 1, 0);
    assert_int_equal(l.c & (1 << 12 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29), 0);
    assert_int_equal(ask(&e, 7, 0).b & (1u << 5 | 1u << 16), 0);
    l = ask(&e, 0xd, 0);
    assert_int_equal(l.a | l.b | l.c | l.d, 0);
    e.host.xcr0_mask = 7;
    assert_int_equal(ask(&e, 7, 0).b & (1u << 5 | 1u << 16), 1 << 5);
}

static void test_osxsave_follows_guest(void **state)
{
    struct env e = env_full();

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    assert_true(ask(&e, 1, 0).c & 1 << 27);
    e.vcpu.osxsave = false;
    assert_false(ask(&e, 1, 0).c & 1 << 27);
}

static void test_xsave_sizes(void **state)
{
    struct env e = env_full();
    struct cpu_policy p;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    p = policy_of(&e);
    assert_int_equal(policy_xsave_size(&p, 1), 576);
    assert_int_equal(policy_xsave_size(&p, 3), 576);
    assert_int_equal(policy_xsave_size(&p, 7), 832);
    assert_int_equal(p.xstate[0].c, 832 + 3 * 256 - 192); /* the last component ends there */
    assert_int_equal(ask(&e, 0xd, 0).b, 832);
    assert_int_equal(ask(&e, 0xd, 0).a, 0xe7);
    assert_int_equal(ask(&e, 0xd, 1).a, 7); /* no XSAVES */
    assert_int_equal(ask(&e, 0xd, 9).a, 0); /* PKRU is not offered */
    assert_int_equal(ask(&e, 0xd, 6).c, 2);
    assert_int_equal(ask(&e, 0xd, 100).a, 0);
}

static void test_xcr0(void **state)
{
    assert_true(policy_xcr0_ok(1, 0xe7));
    assert_true(policy_xcr0_ok(7, 0xe7));
    assert_true(policy_xcr0_ok(0xe7, 0xe7));
    assert_false(policy_xcr0_ok(0, 0xe7));
    assert_false(policy_xcr0_ok(5, 0xe7));    /* AVX without SSE */
    assert_false(policy_xcr0_ok(0x27, 0xe7)); /* part of AVX-512 */
    assert_false(policy_xcr0_ok(0xe3, 0xe7));
    assert_false(policy_xcr0_ok(0xf, 0xff)); /* half of MPX */
    assert_false(policy_xcr0_ok(7, 3));
    assert_false(policy_xcr0_ok(1ull << 63 | 1, 0xe7));
}

/* --- a toolstack's policy --- */

static bool has(const struct cpu_policy *p, unsigned feature)
{
    uint32_t words[POLICY_WORDS];

    policy_features(p, words);
    return words[feature / 32] >> feature % 32 & 1;
}
#define HAS(p, name) has(p, XEN_X86_FEATURE_##name)

static void test_default_can_move(void **state)
{
    struct env e = env_full();
    struct cpu_policy max, def;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    max = policy_of(&e);
    e.hardware = false;
    def = policy_of(&e);
    assert_true(HAS(&max, ITSC) && !HAS(&def, ITSC));
    assert_true(HAS(&def, AVX512F) && HAS(&def, FSGSBASE));
}

/* Whatever is written into a policy: after trimming nothing is there that the maximum has not, and nothing is beyond the arrays. */
static void test_trim_never_gives(void **state)
{
    struct env e = env_full();
    struct cpu_policy max, p;
    uint32_t allowed[POLICY_WORDS], got[POLICY_WORDS];

    all = (struct cpuid_leaf){0x5a5a5a5a, 0xa5a5a5a5, 0x0fffffff, 0xdeadbeef};
    max = policy_of(&e);
    policy_features(&max, allowed);
    for (unsigned byte = 0; byte < 256; byte++) {
        memset(&p, (int)byte, sizeof(p));
        policy_trim(&p, &max);
        policy_features(&p, got);
        for (unsigned i = 0; i < POLICY_WORDS; i++)
            assert_int_equal(got[i] & ~allowed[i], 0);
        assert_true(p.basic[0].a < POLICY_BASIC && p.extended[0].a <= 0x80000021);
        assert_int_equal(policy_xcr0(&p) & ~policy_xcr0(&max), 0);
        assert_true(policy_xcr0(&p) == 0 || policy_xcr0_ok(policy_xcr0(&p), policy_xcr0(&max)));
        for (uint64_t leaf = 0; leaf < 0x100000000; leaf += 0x10000001 - leaf % 2)
            ask_policy(&p, (uint32_t)leaf, byte); /* for the sanitizers */
        assert_int_equal(ask_policy(&p, 0xa, 0).a | ask_policy(&p, 5, 0).a, 0);
    }
}

static void test_trim_dependencies(void **state)
{
    struct env e = env_full();
    struct cpu_policy max, p;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    p = max = policy_of(&e);
    policy_trim(&p, &max);
    assert_memory_equal(&p, &max, sizeof(p)); /* what is whole stays */
    p.basic[1].c &= ~(1u << 28);              /* AVX */
    policy_trim(&p, &max);
    assert_false(HAS(&p, AVX2) || HAS(&p, FMA) || HAS(&p, AVX512F) || HAS(&p, AVX512_VNNI) || HAS(&p, XOP));
    assert_true(HAS(&p, XSAVE) && HAS(&p, AESNI));
    assert_true(policy_xcr0(&p) == 3);
    assert_int_equal(ask_policy(&p, 0xd, 2).a, 0);
    assert_int_equal(ask_policy(&p, 0xd, 0).c, 576);
    p = max;
    p.feature[0].b &= ~(1u << 16); /* AVX512F */
    policy_trim(&p, &max);
    assert_true(HAS(&p, AVX2) && !HAS(&p, AVX512BW) && policy_xcr0(&p) == 7);
    p = max;
    p.basic[1].d &= ~(1u << 25); /* SSE */
    policy_trim(&p, &max);
    assert_false(HAS(&p, SSE2) || HAS(&p, SSE4_2) || HAS(&p, AVX));
    assert_int_equal((p.basic[1].d ^ p.extended[1].d) & 0x0183f3ff, 0); /* AMD's copy follows */
    p = max;
    p.basic[0].a = 6;
    policy_trim(&p, &max);
    assert_false(HAS(&p, FSGSBASE) || HAS(&p, XSAVE));
    assert_int_equal(ask_policy(&p, 7, 0).b, 0);
}

static void test_trim_fixed(void **state)
{
    struct env e = env_full();
    struct cpu_policy max, p;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    p = max = policy_of(&e);
    p.extended[8].a = 0x1010;     /* address widths are the machine's */
    p.basic[1].a = 0x000306c3;    /* another model of the same maker: as the toolstack likes */
    p.basic[1].c &= ~(1u << 31);  /* it runs under a hypervisor, whatever it would like to hear */
    p.extended[2].a = 0x41414141; /* brand string */
    policy_trim(&p, &max);
    assert_int_equal(p.extended[8].a, max.extended[8].a);
    assert_int_equal(ask_policy(&p, 1, 0).a, 0x000306c3);
    assert_true(HAS(&p, HYPERVISOR));
    assert_int_equal(ask_policy(&p, 0x80000002, 0).a, 0x41414141);
}

static void test_check(void **state)
{
    struct policy_error err = {~0u, ~0u, ~0u};
    struct env e = env_full();
    struct cpu_policy max, p;

    all = (struct cpuid_leaf){1, 2, 3, 4};
    p = max = policy_of(&e);
    assert_int_equal(policy_check(&p, &max, &err), 0);
    p.basic[0].a++;
    assert_int_equal(policy_check(&p, &max, &err), -EINVAL);
    assert_int_equal(err.leaf, 0);
    p = max;
    p.basic[0].c ^= 1; /* another maker */
    assert_int_equal(policy_check(&p, &max, &err), -EINVAL);
    p = max;
    p.feature[0].a = max.feature[0].a + 1;
    assert_int_equal(policy_check(&p, &max, &err), -EINVAL);
    assert_true(err.leaf == 7 && err.subleaf == 0);
    p = max;
    p.extended[0].a = 0x80000022;
    assert_int_equal(policy_check(&p, &max, &err), -EINVAL);
    assert_int_equal(err.leaf, 0x80000000);
    p.extended[0].a = 0;
    assert_int_equal(policy_check(&p, &max, &err), -EINVAL);
    p = max;
    p.platform_info = 1ull << 31;
    assert_int_equal(policy_check(&p, &max, &err), -EINVAL);
    assert_int_equal(err.msr, 0xce);
}

static void test_wire(void **state)
{
    static struct xen_cpuid_leaf leaf[POLICY_MAX_LEAVES + 1];
    struct policy_error err = {~0u, ~0u, ~0u};
    struct xen_msr_entry msr[POLICY_MAX_MSRS];
    struct env e = env_full();
    struct cpu_policy p, q;
    unsigned n;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    p = policy_of(&e);
    n = policy_write_leaves(&p, leaf);
    assert_in_range(n, 100, POLICY_MAX_LEAVES);
    for (unsigned i = 1; i < n; i++) /* in order, each once */
        assert_true(leaf[i].leaf > leaf[i - 1].leaf ||
                    (leaf[i].leaf == leaf[i - 1].leaf && leaf[i].subleaf == leaf[i - 1].subleaf + 1));
    memset(&q, 0, sizeof(q));
    assert_int_equal(policy_read_leaves(&q, leaf, n, &err), 0);
    assert_int_equal(policy_write_msrs(&p, msr), 2);
    assert_int_equal(policy_read_msrs(&q, msr, 2, &err), 0);
    assert_memory_equal(&p, &q, sizeof(p));
    assert_true(err.leaf == ~0u && err.msr == ~0u);
    msr[1].flags = 1;
    assert_int_equal(policy_read_msrs(&q, msr, 2, &err), -EINVAL);
    assert_int_equal(err.msr, 0x10a);
    msr[1] = (struct xen_msr_entry){.idx = 0x1234};
    assert_int_equal(policy_read_msrs(&q, msr, 2, &err), -ERANGE);
}

static void test_wire_refuses(void **state)
{
    static const struct xen_cpuid_leaf bad[] = {
        {.leaf = 0xe, .subleaf = XEN_CPUID_NO_SUBLEAF},
        {.leaf = 1, .subleaf = 0},
        {.leaf = 4, .subleaf = 6},
        {.leaf = 4, .subleaf = XEN_CPUID_NO_SUBLEAF},
        {.leaf = 7, .subleaf = 3},
        {.leaf = 0xb, .subleaf = 2},
        {.leaf = 0xd, .subleaf = 63},
        {.leaf = 0x80000022, .subleaf = ~0u},
        {.leaf = 0x40000001, .subleaf = XEN_CPUID_NO_SUBLEAF},
        {.leaf = 0x40000000, .subleaf = 0},
        {.leaf = 0xffffffff, .subleaf = ~0u},
        {.leaf = 0x80000000, .subleaf = 1},
    };
    struct cpu_policy p = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct policy_error err = {0};
        assert_int_equal(policy_read_leaves(&p, &bad[i], 1, &err), -ERANGE);
        assert_true(err.leaf == bad[i].leaf && err.subleaf == bad[i].subleaf);
    }
}

static void test_raw_and_host(void **state)
{
    struct env e = env_full();
    struct cpu_policy p;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    policy_build_raw(&e.host, &p);
    assert_true(HAS(&p, SMEP) && HAS(&p, VMX) && HAS(&p, PCID));
    e.host.fsgsbase = false;
    e.host.xcr0_mask = 0;
    policy_build_host(&e.host, &p);
    assert_true(HAS(&p, SMEP) && !HAS(&p, FSGSBASE) && !HAS(&p, XSAVE) && !policy_xcr0(&p));
}

static void test_hv_limit(void **state)
{
    struct env e = env_full();
    struct cpu_policy p = policy_of(&e);

    p.hv_limit = 2;
    policy_trim(&p, &p);
    assert_int_equal(ask_policy(&p, 0x40000000, 0).a, 0x40000002);
    assert_int_equal(ask_policy(&p, 0x40000003, 0).c, 0);
    p.hv_limit = 200;
    assert_int_equal(ask_policy(&p, 0x40000000, 0).a, 0x40000005);
}

static void test_msr(void **state)
{
    struct msr_env dom0 = {.amd = true, .hardware = true, .rdtscp = true, .ibpb = true};
    struct msr_env domu = {.intel = true};
    static const struct {
        uint32_t msr, answer;
    } of_amd[] = {{0, MSR_CONSTANT},          {1, MSR_CONSTANT},
                  {0x8b, MSR_CONSTANT},       {0xc001001f, MSR_IGNORE_WRITE},
                  {0xc0010064, MSR_CONSTANT}, {0xc001006b, MSR_CONSTANT}};
    const struct msr_rule *r;

    assert_int_equal(policy_msr_pv(&dom0, 0xc0000100)->answer, MSR_FS_BASE_);
    assert_int_equal(policy_msr_pv(&domu, 0xc0000102)->answer, MSR_GS_SHADOW_);
    r = policy_msr_pv(&domu, 0x277);
    assert_int_equal(r->answer, MSR_CONSTANT);
    assert_true(r->value == 0x50100070406ull);
    assert_non_null(policy_msr_pv(&dom0, 0x2ff));
    assert_null(policy_msr_pv(&domu, 0x2ff));      /* MTRRs: hardware domain only */
    assert_null(policy_msr_pv(&domu, 0xc0010015)); /* AMD's on Intel */
    assert_null(policy_msr_pv(&domu, 0xc0000103)); /* no RDTSCP, no TSC_AUX */
    assert_null(policy_msr_pv(&domu, 0x49));
    assert_null(policy_msr_pv(&dom0, 0xc0000104));
    assert_null(policy_msr_pv(&dom0, 0x48));
    assert_null(
        policy_msr_pv(&dom0, 0xc0011020)); /* LS_CFG: an ignored write would be an SSBD that is none */
    /* What kernels read because CPUID says AMD, and do not live without. */
    for (unsigned i = 0; i < ARRAY_SIZE(of_amd); i++) {
        r = policy_msr_pv(&(struct msr_env){.amd = true}, of_amd[i].msr);
        assert_true(r && r->answer == of_amd[i].answer && !r->value);
    }
    assert_int_equal(policy_msr_pv(&dom0, 0x8b)->answer, MSR_HOST_READ);
    assert_int_equal(policy_msr_pv(&dom0, 0xc001001f)->answer, MSR_HOST_IGNORE);
    for (uint32_t msr = 0; msr < 0x2000; msr++) {
        r = policy_msr_pv(&domu, msr);
        assert_true(!r || (msr >= r->first && msr <= r->last && r->answer != MSR_HOST_READ));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hypervisor_leaves),
        cmocka_unit_test(test_hidden_features),
        cmocka_unit_test(test_subset_of_host),
        cmocka_unit_test(test_no_xsave),
        cmocka_unit_test(test_osxsave_follows_guest),
        cmocka_unit_test(test_xsave_sizes),
        cmocka_unit_test(test_xcr0),
        cmocka_unit_test(test_default_can_move),
        cmocka_unit_test(test_trim_never_gives),
        cmocka_unit_test(test_trim_dependencies),
        cmocka_unit_test(test_trim_fixed),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_wire),
        cmocka_unit_test(test_wire_refuses),
        cmocka_unit_test(test_raw_and_host),
        cmocka_unit_test(test_hv_limit),
        cmocka_unit_test(test_msr),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
