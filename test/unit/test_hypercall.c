/* Dispatch, permissions, targets, multicall, xen_version, the command line. */
#include "fake.h"
#include "core/hypercall/private.h"
#include "core/params.h"
#include "core/perf.h"
#include "core/trace.h"
#include "lib/string.h"

#include <stdlib.h>

void domain_ref(struct domain *d)
{
    d->refs++;
}
void domain_put(struct domain *d)
{
    d->refs--;
}
static struct domain *tools, *guest, *driver;
struct domain *domain_get(did_t id)
{
    struct domain *d = id.v == 0 ? tools : id.v == 5 ? guest : id.v == 6 ? driver : NULL;

    if (d)
        domain_ref(d);
    return d;
}
/* Tracing, seen from outside. */
uint32_t trace_mask;
static uint32_t traced_event, traced[TRACE_WORDS], traced_words;
void trace_record(uint32_t event, unsigned n, const uint32_t *words)
{
    traced_event = event;
    traced_words = n;
    memcpy(traced, words, n * sizeof(*words));
}
static bool busy;
bool preempt_needed(void)
{
    return busy;
}

/* --- a table of our own --- */

static unsigned calls;
static uint64_t last[6];

static long record(struct hypercall *hc)
{
    calls++;
    memcpy(last, hc->arg, sizeof(last));
    return 42;
}
/* Counts arg[0] down, one step a time. */
static long slow(struct hypercall *hc)
{
    calls++;
    return hc->arg[0] && --hc->arg[0] ? HC_AGAIN : (long)calls;
}
static long no_result(struct hypercall *hc)
{
    return HC_NO_RESULT;
}
static long in_multicall(struct hypercall *hc)
{
    return hc->in_multicall;
}

static const struct hc_op sub_ops[] = {
    {0, PERM_ANY, "zero", record},
    {1, PERM_CONTROL, "one", record},
    {2, PERM_HARDWARE, "two", record},
    {3, PERM_TARGET, "three", record},
    {7, PERM_ANY, "seven, not at its index", record},
    {8, PERM_ANY, "refused", .refused = EOPNOTSUPP},
    {9, PERM_CONTROL, "refused to all"},
};
static const unsigned sub_op_count = ARRAY_SIZE(sub_ops);

const struct hc_entry core_hypercalls[] = {
    {1, PERM_ANY, "record", record},
    {2, PERM_ANY, "sub", .ops = sub_ops, .op_count = &sub_op_count, .unknown = EINVAL},
    {3, PERM_ANY, "masked", .ops = sub_ops, .op_count = &sub_op_count, .op_mask = 7},
    {4, PERM_CONTROL, "control", record},
    {5, PERM_ANY, "slow", slow},
    {6, PERM_ANY, "none", no_result},
    {7, PERM_ANY, "refused", .unknown = ENODEV},
    {8, PERM_ANY, "inside", in_multicall},
    {__HYPERVISOR_multicall, PERM_ANY, "multicall", do_multicall},
    {__HYPERVISOR_xen_version, PERM_ANY, "xen_version", .ops = version_ops, .op_count = &version_op_count},
};
const unsigned core_hypercall_count = ARRAY_SIZE(core_hypercalls);

static long call(struct domain *d, uint64_t nr, uint64_t a0, uint64_t a1)
{
    struct hypercall hc = {.caller = fake_vcpu0(d), .nr = nr, .arg = {a0, a1}};

    return hypercall_dispatch(&hc);
}

static int setup(void **state)
{
    static bool once;

    fake_setup(state);
    if (!once)
        hypercall_init();
    once = true;
    tools = fake_domain(0, 0);
    guest = fake_domain(5, 0);
    driver = fake_domain(6, 0);
    tools->privileged = true;
    driver->hardware = true;
    calls = 0;
    busy = false;
    return 0;
}

static void numbers_and_permissions(void **state)
{
    assert_int_equal(call(guest, 1, 11, 22), 42);
    assert_int_equal(last[1], 22);
    assert_int_equal(call(guest, 0, 0, 0), -ENOSYS);
    assert_int_equal(call(guest, 63, 0, 0), -ENOSYS);
    assert_int_equal(call(guest, 64, 0, 0), -ENOSYS);
    assert_int_equal(call(guest, ~0ull, 0, 0), -ENOSYS);
    assert_int_equal(call(guest, 1ull << 32 | 1, 0, 0), -ENOSYS);
    assert_int_equal(call(guest, 4, 0, 0), -EPERM);
    assert_int_equal(call(tools, 4, 0, 0), 42);
    assert_int_equal(call(guest, 7, 0, 0), -ENODEV);
}

static void sub_operations(void **state)
{
    assert_int_equal(call(guest, 2, 0, 0), 42);
    assert_int_equal(call(guest, 2, 1, 0), -EPERM);
    assert_int_equal(call(driver, 2, 1, 0), -EPERM);
    assert_int_equal(call(tools, 2, 1, 0), 42);
    assert_int_equal(call(tools, 2, 2, 0), -EPERM);
    assert_int_equal(call(driver, 2, 2, 0), 42);
    assert_int_equal(call(guest, 2, 3, 0), 42);
    assert_int_equal(call(guest, 2, 7, 0), 42);
    assert_int_equal(call(guest, 2, 8, 0), -EOPNOTSUPP);
    assert_int_equal(call(guest, 2, 9, 0), -EPERM);
    assert_int_equal(call(tools, 2, 9, 0), -ENOSYS);
    assert_int_equal(call(guest, 2, 4, 0), -EINVAL);
    assert_int_equal(call(guest, 2, 0xffffffff, 0), -EINVAL);
    assert_int_equal(call(guest, 2, 0xffffffff00000000, 0), 42); /* 32 bits choose */
    assert_int_equal(call(guest, 3, 7 | 5 << 3, 0), 42);         /* the rest is the cursor */
    assert_int_equal(call(guest, 3, 6, 0), -ENOSYS);
}

static void targets(void **state)
{
    struct hypercall hc = {.caller = fake_vcpu0(guest)};
    struct domain *d;

    assert_int_equal(hc_target(&hc, DID(DOMID_SELF), &d), 0);
    assert_ptr_equal(d, guest);
    assert_int_equal(hc_target(&hc, DID(5), &d), 0);
    assert_int_equal(guest->refs, 4);
    assert_int_equal(hc_target(&hc, DID(0), &d), -EPERM);
    assert_int_equal(hc_target(&hc, DID(99), &d), -EPERM); /* learns nothing */
    hc.caller = fake_vcpu0(tools);
    assert_int_equal(hc_target(&hc, DID(5), &d), 0);
    assert_ptr_equal(d, guest);
    assert_int_equal(hc_target(&hc, DID(99), &d), -ESRCH);
}

static void multicall_runs_all(void **state)
{
    struct multicall_entry m[5] = {
        {.op = 1, .args = {7}}, {.op = 99}, {.op = 4}, {.op = 8}, {.op = __HYPERVISOR_multicall}};

    assert_int_equal(call(guest, __HYPERVISOR_multicall, (uintptr_t)m, 5), 0);
    assert_int_equal(m[0].result, 42);
    assert_true((long)m[1].result == -ENOSYS);
    assert_true((long)m[2].result == -EPERM);
    assert_int_equal(m[3].result, 1);
    assert_true((long)m[4].result == -EINVAL); /* does not nest */
    assert_int_equal(call(guest, __HYPERVISOR_multicall, (uintptr_t)m, 0), 0);
    assert_int_equal(call(guest, __HYPERVISOR_multicall, 8, 1), -EFAULT);
    assert_int_equal(call(guest, __HYPERVISOR_multicall, ~0ull - 20, 0xffffffff), -EFAULT);
}

static void multicall_is_preempted(void **state)
{
    struct multicall_entry m[20];
    struct hypercall hc = {.caller = fake_vcpu0(guest), .nr = __HYPERVISOR_multicall};
    unsigned again = 0;
    long r;

    for (unsigned i = 0; i < 20; i++)
        m[i] = (struct multicall_entry){.op = 1, .args = {i}};
    hc.arg[0] = (uintptr_t)m;
    hc.arg[1] = 20;
    busy = true;
    while ((r = hypercall_dispatch(&hc)) == HC_AGAIN)
        again++;
    assert_int_equal(r, 0);
    assert_int_equal(again, 19);
    assert_int_equal(calls, 20);
}

static void multicall_of_something_long(void **state)
{
    struct multicall_entry m[3] = {{.op = 1}, {.op = 5, .args = {10}}, {.op = 1}};
    struct hypercall hc = {
        .caller = fake_vcpu0(guest), .nr = __HYPERVISOR_multicall, .arg = {(uintptr_t)m, 3}};
    unsigned again = 0;

    while (hypercall_dispatch(&hc) == HC_AGAIN)
        again++;
    assert_int_equal(again, 9);
    assert_int_equal(m[0].result, 42);
    assert_int_equal(m[1].result, 11);
    assert_int_equal(m[2].result, 42);
    assert_int_equal(calls, 12);
}

/* An entry that changed the guest's registers ends the list there. */
static void multicall_with_iret(void **state)
{
    struct multicall_entry m[2] = {{.op = 6}, {.op = 1}};

    assert_true(call(guest, __HYPERVISOR_multicall, (uintptr_t)m, 2) == HC_NO_RESULT);
    assert_int_equal(calls, 0);
}

static void every_copy_of_a_multicall_may_fault(void **state)
{
    for (unsigned n = 1; n <= 6; n++) {
        struct multicall_entry m[3] = {{.op = 1}, {.op = 1}, {.op = 1}};

        fake_fail_copy = n;
        assert_int_equal(call(guest, __HYPERVISOR_multicall, (uintptr_t)m, 3), -EFAULT);
    }
    fake_fail_copy = 0;
}

static void versions(void **state)
{
    static union {
        char b[2048];
        struct xen_feature_info f;
    } buf;

    assert_int_equal(call(guest, __HYPERVISOR_xen_version, XENVER_version, 0) >> 16, 4);
    for (unsigned i = XENVER_extraversion; i <= XENVER_commandline; i++) {
        long r;

        memset(&buf, 0, sizeof(buf));
        buf.b[1500] = 77;
        r = call(guest, __HYPERVISOR_xen_version, i, (uintptr_t)&buf);
        assert_true(i == XENVER_pagesize ? r == -EINVAL : r == 0);
        assert_int_equal(buf.b[1500], 77);
        if (i != XENVER_pagesize)
            assert_int_equal(call(guest, __HYPERVISOR_xen_version, i, 8), -EFAULT);
    }
    assert_int_equal(call(guest, __HYPERVISOR_xen_version, XENVER_pagesize, 0), 4096);
    buf.f.submap_idx = 1;
    assert_int_equal(call(guest, __HYPERVISOR_xen_version, XENVER_get_features, (uintptr_t)&buf), -EINVAL);
    assert_int_equal(call(guest, __HYPERVISOR_xen_version, XENVER_build_id, (uintptr_t)&buf), -ENODATA);
    strlcpy(saved_cmdline, "secret", sizeof(saved_cmdline));
    call(guest, __HYPERVISOR_xen_version, XENVER_commandline, (uintptr_t)&buf);
    assert_string_equal(buf.b, "<denied>");
    call(tools, __HYPERVISOR_xen_version, XENVER_commandline, (uintptr_t)&buf);
    assert_string_equal(buf.b, "secret");
}

/* The forms without cut: the size is asked for, a buffer is filled exactly or not at all. */
static void versions_of_any_length(void **state)
{
    static struct {
        uint32_t len;
        char buf[64];
    } v;

    for (unsigned i = XENVER_extraversion2; i <= XENVER_commandline2; i++) {
        long n = call(guest, __HYPERVISOR_xen_version, i, 0);

        assert_in_range(n, 1, 60);
        memset(&v, 0x55, sizeof(v));
        v.len = 0;
        assert_int_equal(call(guest, __HYPERVISOR_xen_version, i, (uintptr_t)&v), -EINVAL);
        v.len = (uint32_t)n - 1;
        assert_int_equal(call(guest, __HYPERVISOR_xen_version, i, (uintptr_t)&v), -ENOBUFS);
        assert_int_equal(v.buf[0], 0x55);
        v.len = ~0u;
        assert_int_equal(call(guest, __HYPERVISOR_xen_version, i, (uintptr_t)&v), n);
        assert_int_equal(v.buf[n], 0x55);
        assert_int_equal(call(guest, __HYPERVISOR_xen_version, i, 8), -EFAULT);
    }
    assert_memory_equal(v.buf, "<denied>", 8);
}

/* --- the command line --- */

static bool opt_flag;
static unsigned opt_number;
static uint64_t opt_bytes;
static char opt_text[8];
static char custom_seen[32];
static bool opt_custom(const char *value)
{
    strlcpy(custom_seen, value, sizeof(custom_seen));
    return strcmp(value, "bad") != 0;
}
PARAM_BOOL("t-flag", opt_flag, "a flag");
PARAM_UINT("t-number", opt_number, "a number");
PARAM_SIZE("t-size", opt_bytes, "a size");
PARAM_STRING("t-text", opt_text, "a text");
PARAM_CUSTOM("t-custom", opt_custom, "anything");

static void options(void **state)
{
    params_parse("t-flag t-number=0x10 t-size=2M t-text=abc t-custom=x,y:z");
    assert_true(opt_flag);
    assert_int_equal(opt_number, 16);
    assert_int_equal(opt_bytes, 2 << 20);
    assert_string_equal(opt_text, "abc");
    assert_string_equal(custom_seen, "x,y:z");
    assert_int_equal(fake_log_lines, 0);
    params_parse("no-t-flag  \t t-size=512   t-custom");
    assert_false(opt_flag);
    assert_int_equal(opt_bytes, 512 << 10);
    assert_string_equal(custom_seen, "");
    params_parse("t-flag=on");
    assert_true(opt_flag);
    params_parse("t-flag=off no-t-custom");
    assert_false(opt_flag);
    assert_string_equal(custom_seen, "no");
    params_parse("placeholder -- t-flag");
    assert_false(opt_flag);
    assert_int_equal(fake_log_lines, 0);
    assert_string_equal(saved_cmdline, "placeholder -- t-flag");
    assert_string_equal(params_rest(), "t-flag");
    params_parse("placeholder --  ro  quiet");
    assert_string_equal(params_rest(), "ro  quiet");
    params_parse("t-flag--");
    assert_string_equal(params_rest(), "");
    fake_log_lines = 0;
}

static void options_not_understood(void **state)
{
    static char longest[2000];
    static const char *const bad[] = {
        "t-flag=maybe", "t-number=x",  "t-number=1x", "t-size=1Q",  "t-text=toolong8",
        "t-custom=bad", "no-t-number", "unknown=3",   "no-unknown", "=",
        "no-"};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        fake_log_lines = 0;
        params_parse(bad[i]);
        assert_int_equal(fake_log_lines, 1); /* said once */
    }
    memset(longest, 'a', sizeof(longest) - 1);
    fake_log_lines = 0;
    params_parse(longest);
    assert_int_equal(fake_log_lines, 1);
    assert_int_equal(strlen(saved_cmdline), sizeof(saved_cmdline) - 1);
    params_parse("cpufreq=xen");
    assert_non_null(strstr(fake_last_log, "not implemented"));
}

static void sizes(void **state)
{
    const char *end;

    assert_int_equal(param_size("1", NULL), 1024);
    assert_int_equal(param_size("1B", NULL), 1);
    assert_int_equal(param_size("1k", NULL), 1024);
    assert_true(param_size("3G", &end) == 3ull << 30);
    assert_string_equal(end, "");
    assert_true(param_size("1T", NULL) == 1ull << 40);
    assert_true(param_size("99999999999999T", NULL) == ~0ull);
    param_size("x", &end);
    assert_string_equal(end, "x");
    param_size("1Mx", &end);
    assert_string_equal(end, "x");
}

static void counted_and_traced(void **state)
{
    uint32_t before = arch_perf()[PERF_hypercalls + 1];

    assert_int_equal(call(guest, 1, 0x1122334455667788, 3), 42);
    assert_int_equal(arch_perf()[PERF_hypercalls + 1], before + 1);
    assert_int_equal(traced_event, 0);
    trace_mask = TRC_ALL;
    assert_int_equal(call(guest, 1, 0x1122334455667788, 3), 42);
    trace_mask = 0;
    assert_int_equal(traced_event, TRC_PV_HYPERCALL_V2);
    assert_int_equal(traced_words, TRACE_WORDS);
    assert_int_equal(traced[0], 1 | TRC_PV_HYPERCALL_V2_ARG_64(0) | TRC_PV_HYPERCALL_V2_ARG_64(1) |
                                    TRC_PV_HYPERCALL_V2_ARG_64(2));
    assert_int_equal(traced[1], 0x55667788);
    assert_int_equal(traced[2], 0x11223344);
    assert_int_equal(traced[3], 3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, fake_teardown)
    const struct CMUnitTest tests[] = {
        T(numbers_and_permissions),
        T(sub_operations),
        T(counted_and_traced),
        T(targets),
        T(multicall_runs_all),
        T(multicall_is_preempted),
        T(multicall_of_something_long),
        T(multicall_with_iret),
        T(every_copy_of_a_multicall_may_fault),
        T(versions),
        T(versions_of_any_length),
        T(options),
        T(options_not_understood),
        T(sizes),
    };

    return cmocka_run_group_tests_name("hypercall", tests, NULL, NULL);
}
