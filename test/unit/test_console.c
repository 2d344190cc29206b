/* The log ring, drivers, levels and rate limit, input switching, debug keys, console_io. Built with the real
 * core/console/log.c. */
#include "fake.h"
#include "core/alloc.h"
#include "core/console_io.h"
#include "core/params.h"
#include "core/work.h"
#include "lib/string.h"

#include <stdlib.h>

static struct domain *hw;

static char seen[200000];
static size_t seen_n;
static unsigned flushes;
static size_t room, most; /* what the driver takes without waiting; the most that it was given at once */
static struct domain *writer;
static void drv_write(const char *s, size_t n)
{
    assert_true(!writer || !spin_is_locked(&writer->lock));
    most = n > most ? n : most;
    assert_true(seen_n + n < sizeof(seen));
    memcpy(seen + seen_n, s, n);
    seen_n += n;
    seen[seen_n] = 0;
}
static void drv_flush(void)
{
    flushes++;
}
static size_t drv_room(void)
{
    return room;
}
static struct console_driver drv = {.name = "test", .write = drv_write, .flush = drv_flush, .room = drv_room};

static int setup(void **state)
{
    fake_setup(state);
    writer = NULL;
    room = SIZE_MAX;
    console_register(&drv);
    seen_n = most = 0;
    seen[0] = 0;
    console_set_level("all", false);
    console_set_level("all", true);
    hw = fake_domain(0, 0);
    hw->hardware = true;
    fake_now += 3600000000000ull; /* the rate limit's bucket is full again */
    return 0;
}
static int teardown(void **state)
{
    console_unregister(&drv);
    return fake_teardown(state);
}

static void lines_reach_drivers_and_ring(void **state)
{
    char out[64] = "";
    uint32_t index = 0;
    size_t n;

    while (console_ring_read(out, sizeof(out), &index, true))
        ;
    console_printf("one\ntwo\r\nthree");
    assert_string_equal(seen, "one\r\ntwo\r\nthree");
    n = console_ring_read(out, sizeof(out), &index, false);
    assert_memory_equal(out, "one\ntwo\r\nthree", n);
    assert_int_equal(console_ring_read(out, sizeof(out), &index, true), 0);
    index = 0; /* behind what was cleared: from the first that is left */
    assert_int_equal(console_ring_read(out, sizeof(out), &index, false), 0);
    index = 0x7fffffff;
    assert_int_equal(console_ring_read(out, sizeof(out), &index, false), 0);
}

static void the_ring_keeps_the_newest(void **state)
{
    static char out[70000];
    uint32_t index = 0;
    size_t n;

    for (unsigned i = 0; i < 12000; i++) {
        console_printf("line %05u\n", i);
        seen_n = 0;
    }
    n = console_ring_read(out, sizeof(out), &index, false);
    assert_int_equal(n, 65536);
    assert_memory_equal(out + n - 11, "line 11999\n", 11);
}

static void late_drivers_get_the_past(void **state)
{
    console_printf("before\n");
    console_unregister(&drv);
    seen_n = 0;
    console_register(&drv);
    assert_true(seen_n >= 8 && !memcmp(seen + seen_n - 8, "before\r\n", 8));
}

static void levels(void **state)
{
    assert_true(console_set_level("warning", false));
    log_info("quiet");
    assert_int_equal(seen_n, 0);
    log_err("loud %d", 5);
    assert_non_null(strstr(seen, "loud 5"));
    assert_false(console_set_level("nonsense", false));
    assert_false(console_set_level("error/", false));
    assert_true(console_set_level("none/all", true));
    seen_n = 0;
    log_guest(DID(3), LOG_ERR, "guest line");
    assert_non_null(strstr(seen, "d3: guest line"));
}

static void guests_cannot_flood(void **state)
{
    unsigned lines = 0;

    console_set_level("none/all", true);
    for (unsigned i = 0; i < 5000; i++)
        log_guest(DID(3), LOG_WARN, "noise");
    for (const char *p = seen; (p = strstr(p, "noise")); p++)
        lines++;
    assert_in_range(lines, 1, 50);
    fake_now += 10000000000ull;
    seen_n = 0;
    log_guest(DID(3), LOG_WARN, "later");
    assert_non_null(strstr(seen, "later"));
}

static void long_lines_are_cut(void **state)
{
    char s[2000];

    memset(s, 'x', sizeof(s));
    s[sizeof(s) - 1] = 0;
    log_err("%s", s);
    assert_in_range(seen_n, 100, 1000);
    seen_n = 0;
    console_printf("%s", s);
    assert_in_range(seen_n, 100, 1000);
}

/* As an NMI does that interrupts a holder of the console's lock: were the lock taken, the fake machine would report the order. */
static void in_an_nmi_text_is_set_aside(void **state)
{
    console_nmi_begin();
    log_err("first %u", 1);
    console_nmi_begin(); /* a machine check in it */
    console_printf("second\n");
    console_nmi_end();
    log_err("third");
    console_nmi_end();
    assert_int_equal(seen_n, 0);
    log_err("fourth");
    assert_null(strstr(seen, "first"));
    assert_true(work_pending());
    work_run();
    assert_non_null(strstr(seen, "first 1\r\n"
                                 "second\r\n"));
    assert_true(strstr(seen, "third") > strstr(seen, "second"));
    assert_null(strstr(seen, "lost"));
}

static void text_set_aside_is_bounded_and_its_loss_is_said(void **state)
{
    for (unsigned round = 0; round < 2; round++) {
        seen_n = 0;
        console_nmi_begin();
        for (unsigned i = 0; i < 11; i++)
            log_err("line %u.", i);
        console_nmi_end();
        work_run();
        assert_non_null(strstr(seen, "line 7."));
        assert_null(strstr(seen, "line 8."));
        assert_non_null(strstr(seen, "3 lines about NMIs and machine checks were lost"));
    }
    assert_non_null(strstr(seen, "line 0."));
}

static unsigned pressed;
static void key_fn(void)
{
    pressed++;
}

static void type(const char *s)
{
    while (*s)
        console_input(*s++);
    while (work_pending())
        work_run();
}

static void input_goes_where_it_is_switched(void **state)
{
    char buf[16] = "";
    struct vcpu *v = fake_vcpu0(hw);

    debug_key_register('~', "test key", key_fn);
    console_input_init();
    type("ab\001c");
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_read, 16, (uintptr_t)buf, NULL), 4);
    assert_memory_equal(buf, "ab\001c", 4);
    type("~");
    assert_int_equal(pressed, 0);
    type("\001\001\001");
    assert_non_null(strstr(seen, "Krypton"));
    type("~");
    assert_int_equal(pressed, 1);
    type("h");
    assert_non_null(strstr(seen, "test key"));
    type("}");
    assert_non_null(strstr(seen, "no debug key 0x7d"));
    type("\xff\x80\001\001\001");
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_read, 1, (uintptr_t)buf, NULL), 1);
    assert_int_equal(buf[0], '~');
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_read, 16, (uintptr_t)buf, NULL), 0);
    for (unsigned i = 0; i < 10000; i++) /* nobody reads: the rest is dropped */
        console_input('x');
    for (unsigned n = 0;
         fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_read, 16, (uintptr_t)buf, NULL);)
        assert_true(++n <= 4096 / 16);
}

static void dom0_writes(void **state)
{
    struct vcpu *v = fake_vcpu0(hw);
    char text[1000];
    unsigned again = 0;

    memset(text, 'y', sizeof(text));
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_write, 5, (uintptr_t) "hello", NULL),
        0);
    assert_string_equal(seen, "hello");
    fake_preempt_every = 1;
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_write, 1000, (uintptr_t)text, &again),
        0);
    assert_int_equal(seen_n, 1005);
    assert_int_equal(again, 7);
    assert_int_equal(fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_write, 5, 8, NULL),
                     -EFAULT);
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_write, 0xffffffff, 8, NULL), -EINVAL);
    assert_int_equal(fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_read, 0x80000000, 8, NULL),
                     -EINVAL);
    assert_int_equal(fake_hypercall(v, console_ops, console_op_count, 0, 2, 0, 0, NULL), -ENOSYS);
    console_flush();
    assert_int_equal(flushes, 1);
}

static void guest_writes(struct vcpu *v, const char *text)
{
    assert_int_equal(fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_write, strlen(text),
                                    (uintptr_t)text, NULL),
                     0);
}

/* Whole lines, marked as the guest's, without anything that moves a cursor; too long ones are cut; a flood is suppressed and said. */
static void guests_write_lines(void **state)
{
    struct domain *d = fake_domain(5, 0);
    struct vcpu *v = fake_vcpu0(d);
    char text[600];

    guest_writes(v, "half");
    assert_int_equal(seen_n, 0);
    guest_writes(v, " a line\r\n\033[2Jnext");
    assert_string_equal(seen, "(d5) half a line\r\n");
    guest_writes(v, "\n");
    assert_non_null(strstr(seen, "(d5) .[2Jnext\r\n"));
    memset(text, 'z', sizeof(text));
    text[sizeof(text) - 1] = 0;
    seen_n = 0;
    guest_writes(v, text);
    assert_int_equal(seen_n, 2 * (239 + 7));
    seen_n = 0;
    for (unsigned i = 0; i < 2000; i++)
        guest_writes(v, "flood\n");
    assert_in_range(seen_n / strlen("(d5) flood\r\n"), 100, 300);
    assert_true(console_set_level("warning", true));
    guest_writes(v, "unwanted\n");
    assert_null(strstr(seen, "unwanted"));
    assert_true(console_set_level("all", true));
    assert_int_equal(
        fake_hypercall(v, console_ops, console_op_count, 0, CONSOLEIO_read, 5, (uintptr_t)text, NULL),
        -EPERM);
    mem_free(d->console_line);
}

/* On two vCPUs this once kept all processors from everybody else: no lock may be held while it is printed, nobody waits for
 * the device, and there is an end to it. */
static void a_flood_stays_small(void **state)
{
    struct domain *d = fake_domain(5, 0);
    struct vcpu *v = fake_vcpu0(d);
    char text[4001];

    memset(text, 'f', sizeof(text));
    text[sizeof(text) - 1] = 0;
    writer = d;
    for (unsigned i = 0; i < 1000; i++) { /* in a second */
        guest_writes(v, text);
        fake_now += 1000000;
    }
    assert_in_range(seen_n, 10000, 20000);
    for (unsigned i = 0; i < 20000; i++) /* empty lines cost something, too */
        guest_writes(v, "\n");
    assert_in_range(seen_n, 10000, 20000);
    fake_now += 10000000000ull;
    seen_n = 0;
    guest_writes(v, "heard again\n");
    assert_non_null(strstr(seen, "lines from d5 suppressed"));
    assert_non_null(strstr(seen, "(d5) heard again"));
    mem_free(d->console_line);
}

static void guests_do_not_wait_for_a_device(void **state)
{
    struct domain *d = fake_domain(5, 0);
    char text[1001];

    memset(text, 'w', sizeof(text));
    text[sizeof(text) - 1] = 0;
    room = 100;
    guest_writes(fake_vcpu0(d), text);
    assert_int_equal(seen_n, 0);
    guest_writes(fake_vcpu0(hw), text); /* dom0 does, but in small pieces, between which others may run */
    assert_int_equal(seen_n, 1000);
    assert_int_equal(most, 16);
    room = 500;
    guest_writes(fake_vcpu0(d), "\nshort\n");
    assert_non_null(strstr(seen, "(d5) short\r\n"));
    mem_free(d->console_line);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(lines_reach_drivers_and_ring),
        T(the_ring_keeps_the_newest),
        T(late_drivers_get_the_past),
        T(levels),
        T(guests_cannot_flood),
        T(long_lines_are_cut),
        T(in_an_nmi_text_is_set_aside),
        T(text_set_aside_is_bounded_and_its_loss_is_said),
        T(input_goes_where_it_is_switched),
        T(dom0_writes),
        T(guests_write_lines),
        T(a_flood_stays_small),
        T(guests_do_not_wait_for_a_device),
    };

    return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
