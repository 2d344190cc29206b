/*
 * The FPU state of vCPUs, switched on this machine's own processor by FXSAVE and FXRSTOR, which a process may use. Processors that leave the
 * x87 unit's pointers to who runs next are few and old: what is done for them is looked at by itself.
 */
#include "fake.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "arch/x86/metal/pvregs.h"
#include <string.h>

struct cpu_features cpu_features = {.xsave_size = 512};

struct x87 {
    uint32_t control, status, tags, ip, op, operand, seg;
};
static struct x87 environment(void)
{
    struct x87 e;

    __asm__ volatile("fnstenv %0" : "=m"(e)); /* and masks all exceptions */
    return e;
}

static uint8_t area[2][576] __attribute__((aligned(64)));
static struct x86_vcpu first = {.fpu = area[0]}, second = {.fpu = area[1]};
static float number = 1.5f;

/* The first vCPU's turn: eight numbers in its registers, an exception that it wants to hear of is pending. */
static void run(void)
{
    struct x87 e;

    __asm__ volatile("fninit");
    for (unsigned i = 0; i < 8; i++)
        __asm__ volatile("flds %0" : : "m"(number));
    e = environment();
    e.control &= ~0x3fu;
    e.status |= 0x81; /* invalid operation; the summary */
    __asm__ volatile("fldenv %0" : : "m"(e));
}

static void test_pointers_are_forgotten(void **state)
{
    struct x87 before, after;

    __asm__ volatile("fninit; flds %0" : : "m"(number));
    before = environment();
    hw_x87_forget();
    after = environment();
    assert_int_not_equal(after.ip, before.ip);
    run();
    hw_x87_forget(); /* the process would be ended by a signal */
    assert_int_equal(environment().status & 0xff, 0);
    __asm__ volatile("fninit");
}

/* Whatever the one before left, the next one has its own. */
static void test_turns(void **state)
{
    for (unsigned stay = 0; stay < 2; stay++) {
        float top = 0;
        struct x87 e;

        cpu_features.x87_pointers_stay = stay;
        fpu_reset(&second);
        run();
        fpu_save(&first);
        fpu_load(&second);
        e = environment();
        assert_int_equal(e.status & 0x38ff, 0);
        assert_int_equal(e.tags & 0xffff, 0xffff);
        assert_int_not_equal(e.operand, (uint32_t)(uintptr_t)&number);
        fpu_load(&first);
        e = environment();
        assert_int_equal(e.status & 0x81, 0x81);
        assert_int_equal(e.control & 0x3f, 0);
        __asm__ volatile("fnclex; fstps %0; fninit" : "=m"(top));
        assert_true(top == number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pointers_are_forgotten, fake_setup, fake_teardown),
        cmocka_unit_test_setup_teardown(test_turns, fake_setup, fake_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
