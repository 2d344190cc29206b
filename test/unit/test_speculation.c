/* Mitigations of speculative execution: what is planned for which processor, and the options' syntax. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "x86/spec.h"

#define CAP(n) (1ull << (n))

static struct spec_plan plan(const struct cpu_features *f)
{
    struct spec_options o = SPEC_OPTIONS_DEFAULT;

    return spec_decide(f, &o);
}

static struct cpu_features intel(uint64_t caps)
{
    return (struct cpu_features){
        .intel = true, .smep = true, .arch_caps = caps != 0, .arch_capabilities = caps};
}

static const struct cpu_features amd = {.amd = true, .smep = true};

static void test_nothing_needed(void **state)
{
    struct spec_plan p = plan(&amd);

    assert_int_equal(p.ibrs, SPEC_IBRS_NONE);
    assert_false(p.rsb || p.ibpb || p.verw || p.xpti_dom0 || p.xpti_domu);
    assert_int_equal(p.sites, 0);
}

static void test_meltdown(void **state)
{
    struct cpu_features old = intel(0), fixed = intel(CAP(0)), other = {.smep = true};

    assert_int_equal(plan(&old).sites & SPEC_XPTI, SPEC_XPTI);
    assert_true(plan(&old).xpti_dom0 && plan(&old).xpti_domu);
    assert_int_equal(plan(&fixed).sites & SPEC_XPTI, 0);
    assert_true(plan(&other).xpti_dom0); /* nobody has said that it is not concerned */
    /* The bits mean nothing where CPUID does not announce the register. */
    old.arch_capabilities = CAP(0);
    assert_true(plan(&old).xpti_dom0);
}

static void test_ibrs_modes(void **state)
{
    struct cpu_features f = intel(CAP(0) | CAP(5));

    assert_int_equal(plan(&f).ibrs, SPEC_IBRS_NONE);
    f.ibrs = f.ibpb = true;
    assert_int_equal(plan(&f).ibrs, SPEC_IBRS_ENTRY);
    assert_int_equal(plan(&f).sites & SPEC_IBRS, SPEC_IBRS);
    assert_true(plan(&f).ibpb);
    f.arch_capabilities |= CAP(1);
    assert_int_equal(plan(&f).ibrs, SPEC_IBRS_ALWAYS);
    assert_int_equal(plan(&f).sites & SPEC_IBRS, 0);
    f = amd;
    f.ibrs = f.ibrs_always = true;
    assert_int_equal(plan(&f).ibrs, SPEC_IBRS_ALWAYS);
    f.auto_ibrs = true;
    assert_int_equal(plan(&f).ibrs, SPEC_IBRS_AUTO);
}

static void test_rsb(void **state)
{
    struct cpu_features f = amd;

    f.smep = false;
    assert_true(plan(&f).rsb);
    assert_int_equal(plan(&f).sites, SPEC_RSB);
}

static void test_verw(void **state)
{
    const uint64_t stale_no = CAP(13) | CAP(14) | CAP(15);
    struct cpu_features f = intel(CAP(0));

    assert_false(plan(&f).verw); /* microcode without MD_CLEAR: VERW clears nothing */
    f.md_clear = true;
    assert_true(plan(&f).verw);
    f.arch_capabilities = CAP(5); /* MDS_NO, stale MMIO data remain */
    assert_true(plan(&f).verw);
    f.arch_capabilities |= stale_no;
    assert_false(plan(&f).verw);
    f.rtm = true;
    assert_true(plan(&f).verw);
    f.arch_capabilities |= CAP(8); /* TAA_NO */
    assert_false(plan(&f).verw);
    f.arch_capabilities |= CAP(28); /* RFDS_CLEAR */
    assert_true(plan(&f).verw);
    f.arch_capabilities |= CAP(27); /* RFDS_NO */
    assert_false(plan(&f).verw);
    f = amd;
    f.md_clear = true;
    assert_false(plan(&f).verw);
}

static void test_options_ask(void **state)
{
    struct spec_options o = SPEC_OPTIONS_DEFAULT;
    struct spec_plan p;

    assert_true(spec_parse("rsb,verw=1,ibrs=yes,ibpb", &o));
    assert_true(xpti_parse("dom0=1", &o));
    p = spec_decide(&amd, &o);
    assert_true(p.rsb && p.verw && p.xpti_dom0 && !p.xpti_domu);
    /* What the processor does not have stays off. */
    assert_false(p.ibpb);
    assert_int_equal(p.ibrs, SPEC_IBRS_NONE);
    assert_int_equal(p.sites, SPEC_RSB | SPEC_VERW | SPEC_XPTI);
}

static void test_options_refuse(void **state)
{
    struct cpu_features f = intel(0);
    struct spec_options o = SPEC_OPTIONS_DEFAULT;
    struct spec_plan p;

    f.smep = false;
    f.ibrs = f.ibpb = f.md_clear = true;
    assert_int_equal(plan(&f).sites, SPEC_XPTI | SPEC_IBRS | SPEC_RSB | SPEC_VERW);
    assert_true(spec_parse("no-ibrs,no-ibpb,rsb=0,md-clear=off", &o));
    p = spec_decide(&f, &o);
    assert_int_equal(p.sites, SPEC_XPTI);
    assert_false(p.ibpb);
    o = SPEC_OPTIONS_DEFAULT;
    assert_true(spec_parse("no", &o));
    p = spec_decide(&f, &o);
    assert_int_equal(p.sites, 0);
    assert_false(p.ibpb);
    /* xpti= is stronger than spec-ctrl=no, in either order; a later item than an earlier. */
    assert_true(xpti_parse("1", &o) && spec_parse("no,verw", &o));
    assert_int_equal(spec_decide(&f, &o).sites, SPEC_XPTI | SPEC_VERW);
}

static void test_xpti_syntax(void **state)
{
    static const struct {
        const char *text;
        int dom0, domu;
    } good[] = {{"", 1, 1},      {"off", 0, 0},      {"no", 0, 0},       {"default", -1, -1},
                {"dom0", 1, -1}, {"no-domu", -1, 0}, {"1,domu=0", 1, 0}, {"dom0=no,domu=yes", 0, 1}};
    static const char *const bad[] = {"2", "dom1=1", "dom0=", "dom0x", "dom0=maybe"};

    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        struct spec_options o = SPEC_OPTIONS_DEFAULT;

        assert_true(xpti_parse(good[i].text, &o));
        assert_int_equal(o.xpti_dom0, good[i].dom0);
        assert_int_equal(o.xpti_domu, good[i].domu);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct spec_options o = SPEC_OPTIONS_DEFAULT;

        assert_false(xpti_parse(bad[i], &o));
        assert_int_equal(o.xpti_dom0, -1);
        assert_int_equal(o.xpti_domu, -1);
    }
}

static void test_spec_syntax(void **state)
{
    static const char *const bad[] = {"",    "pv=0",  "rs",   "rsbx", "ibrs=2", "bti-thunk=lfence",
                                      "no-", "no-rs", "ibpb,"};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct spec_options o = SPEC_OPTIONS_DEFAULT;

        assert_false(spec_parse(bad[i], &o));
        assert_int_equal(o.rsb, -1);
        assert_int_equal(o.ibrs, -1);
    }
}

static void test_describe(void **state)
{
    struct spec_plan p = {.ibrs = SPEC_IBRS_ENTRY, .ibpb = true, .xpti_dom0 = true};
    char text[120];

    spec_describe(&p, text, sizeof(text));
    assert_string_equal(text, "Speculation: IBRS on entry, IBPB, no RSB, no VERW, xpti for dom0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_needed), cmocka_unit_test(test_meltdown),
        cmocka_unit_test(test_ibrs_modes),     cmocka_unit_test(test_rsb),
        cmocka_unit_test(test_verw),           cmocka_unit_test(test_options_ask),
        cmocka_unit_test(test_options_refuse), cmocka_unit_test(test_xpti_syntax),
        cmocka_unit_test(test_spec_syntax),    cmocka_unit_test(test_describe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
