/* CPUID and MSR policy of PV guests: nothing shows that the host lacks, nothing shows that ring 3 kernels
 * cannot use. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "x86/policy.h"

static struct cpuid_leaf all; /* what the fake host answers to every feature leaf */

static void host(uint32_t leaf, uint32_t sub, struct cpuid_leaf *out)
{
    *out = all;
    if (leaf == 0xd && sub >= 2)
        *out = (struct cpuid_leaf){sub == 2 ? 256 : 64, sub == 2 ? 576 : 832 + (sub - 5) * 256,
                                   sub == 6 ? 3 : 1, 0};
}

static struct cpuid_env env_full(void)
{
    return (struct cpuid_env){.host = host,
                              .amd = true,
                              .max_leaf = 0x1f,
                              .max_ext_leaf = 0x80000030,
                              .xcr0_mask = 0xe7,
                              .xcr0 = 7,
                              .vcpu = 3,
                              .hardware = true,
                              .osxsave = true,
                              .fsgsbase = true,
                              .tsc_khz = 2000000,
                              .machine_bits = 36};
}

static struct cpuid_leaf ask(const struct cpuid_env *e, uint32_t leaf, uint32_t sub)
{
    struct cpuid_leaf l;

    policy_cpuid_pv(e, leaf, sub, &l);
    return l;
}

static void test_hypervisor_leaves(void **state)
{
    struct cpuid_env e = env_full();
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
    struct cpuid_env e = env_full();
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
    assert_int_equal(l.d & (1 << 26), 0);          /* 1 GiB pages */
    assert_int_equal(ask(&e, 5, 0).a | ask(&e, 6, 0).a | ask(&e, 0xa, 0).a | ask(&e, 0x14, 0).a, 0);
    assert_int_equal(ask(&e, 0x8000000a, 0).a | ask(&e, 0x8000001e, 0).a, 0);
    assert_int_equal(ask(&e, 0, 0).a, 0xd);
    assert_int_equal(ask(&e, 0x80000000, 0).a, 0x80000021);
}

static void test_subset_of_host(void **state)
{
    struct cpuid_env e = env_full();

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
    struct cpuid_env e = env_full();
    struct cpuid_leaf l;

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    e.xcr0_mask = 0;
    l = ask(&e, 1, 0);
    assert_int_equal(l.c & (1 << 12 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29), 0);
    assert_int_equal(ask(&e, 7, 0).b & (1u << 5 | 1u << 16), 0);
    l = ask(&e, 0xd, 0);
    assert_int_equal(l.a | l.b | l.c | l.d, 0);
    e.xcr0_mask = 7;
    assert_int_equal(ask(&e, 7, 0).b & (1u << 5 | 1u << 16), 1 << 5);
}

static void test_osxsave_follows_guest(void **state)
{
    struct cpuid_env e = env_full();

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    assert_true(ask(&e, 1, 0).c & 1 << 27);
    e.osxsave = false;
    assert_false(ask(&e, 1, 0).c & 1 << 27);
}

static void test_xsave_sizes(void **state)
{
    struct cpuid_env e = env_full();

    all = (struct cpuid_leaf){~0u, ~0u, ~0u, ~0u};
    assert_int_equal(policy_xsave_size(&e, 1), 576);
    assert_int_equal(policy_xsave_size(&e, 3), 576);
    assert_int_equal(policy_xsave_size(&e, 7), 832);
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

static void test_msr(void **state)
{
    struct msr_env dom0 = {.amd = true, .hardware = true, .rdtscp = true, .ibpb = true};
    struct msr_env domu = {.intel = true};
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
        cmocka_unit_test(test_msr),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
