/* HVM guests: SVM exits decoded; any bytes may come. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86/svm/private.h"

static void test_exits(void **state)
{
    struct vmcb *c = calloc(1, sizeof(*c));
    struct hvm_exit x;

    c->exit_code = SVM_EXIT_IOIO;
    c->info1 = 0x3f8ull << 16 | 0x10 | 1 | 0x200;
    c->rip = 0x1000;
    c->info2 = 0x1002;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_IO && x.io.port == 0x3f8 && x.io.bytes == 1 && x.io.in && x.length == 2);
    assert_true(!x.io.string && x.io.address_bytes == 8);
    for (unsigned k = 0; k < 4; k++) { /* no bit: the width of addresses is not told */
        c->info1 = 0x03f80005 | (k ? 0x40u << k : 0);
        svm_decode(c, false, &x);
        assert_true(x.io.string && x.io.address_bytes == (k ? 1 << k : 0));
    }
    c->exit_code = SVM_EXIT_NPF;
    c->info1 = 1ull << 33 | 2;
    c->info2 = 0xfee00300;
    svm_decode(c, true, &x);
    assert_true(x.kind == HVM_EXIT_MEMORY && x.memory.write && x.memory.walk && x.memory.gpa == 0xfee00300);
    c->exit_code = SVM_EXIT_MSR;
    c->info1 = 1;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_WRMSR && x.length == 2);
    c->next_rip = 0x1004;
    svm_decode(c, true, &x);
    assert_int_equal(x.length, 4);
    c->next_rip = 0x900; /* nonsense is not believed */
    svm_decode(c, true, &x);
    assert_int_equal(x.length, 2);
    /* Any code is one of the kinds. */
    for (uint64_t code = 0; code < 0x500; code++) {
        c->exit_code = code;
        svm_decode(c, false, &x);
        assert_true(x.kind < HVM_EXIT_KINDS);
    }
    c->exit_code = 0x80; /* VMRUN */
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_REFUSED);
    c->exit_code = SVM_EXIT_VMMCALL;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_HYPERCALL && x.length == 3);
    c->exit_code = SVM_EXIT_XSETBV; /* the last of the table, and the one behind it */
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_XSETBV);
    c->exit_code = SVM_EXIT_XSETBV + 1;
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_REFUSED);
    c->exit_code = SVM_EXIT_CR4_WRITE;
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_CR4);
    c->exit_code = SVM_EXIT_INVALID;
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_INVALID);
    c->exit_code = SVM_EXIT_EXCEPTION + 17;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_EXCEPTION && x.exception.vector == 17 && x.exception.has_error);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
