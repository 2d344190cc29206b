/* HVM guests: moves to and from devices decoded, SVM exits decoded; any bytes may come. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86/hvm/insn.h"
#include "arch/x86/svm/private.h"

static struct hvm_insn decode(unsigned bits, size_t n, const char *code)
{
    struct hvm_insn i;

    assert_true(hvm_insn_decode((const uint8_t *)code, n, bits, &i));
    assert_int_equal(i.length, n);
    return i;
}
#define DECODE(bits, code) decode(bits, sizeof(code) - 1, code)

static void test_moves(void **state)
{
    struct hvm_insn i = DECODE(64, "\x89\x88\xb0\x00\x00\x00"); /* mov %ecx, 0xb0(%rax) */

    assert_true(i.store && !i.load && i.bytes == 4 && i.reg == 1 && !i.constant);
    i = DECODE(64, "\x8b\x04\x25\x20\x00\xe0\xfe"); /* mov 0xfee00020, %eax */
    assert_true(i.load && !i.store && i.bytes == 4 && i.reg == 0);
    i = DECODE(64, "\xc7\x04\x25\xb0\xd0\x5f\xff\x00\x00\x00\x00"); /* movl $0, 0xff5fd0b0 */
    assert_true(i.store && i.constant && i.value == 0 && i.bytes == 4);
    i = DECODE(64, "\x44\x8b\x6d\xfc"); /* mov -4(%rbp), %r13d */
    assert_true(i.load && i.reg == 13 && i.bytes == 4);
    i = DECODE(64, "\x48\x89\x1d\x01\x02\x03\x04"); /* mov %rbx, rip + */
    assert_true(i.store && i.reg == 3 && i.bytes == 8);
    i = DECODE(32, "\xa1\x20\x00\xe0\xfe"); /* mov 0xfee00020, %eax */
    assert_true(i.load && i.reg == 0 && i.bytes == 4);
    i = DECODE(32, "\x87\x10"); /* xchg %edx, (%eax) */
    assert_true(i.load && i.store && i.reg == 2);
    i = DECODE(16, "\x66\x89\x46\xfe"); /* mov %eax, -2(%bp) */
    assert_true(i.store && i.bytes == 4 && i.reg == 0);
    i = DECODE(16, "\x8a\x26\x34\x12"); /* mov 0x1234, %ah */
    assert_true(i.load && i.bytes == 1 && i.reg == 0 && i.high);
    i = DECODE(64, "\x40\x8a\x20"); /* mov (%rax), %spl */
    assert_true(i.load && i.bytes == 1 && i.reg == 4 && !i.high);
    i = DECODE(64, "\x0f\xb6\x20"); /* movzbl (%rax), %esp: not %ah */
    assert_true(i.load && i.bytes == 1 && i.reg_bytes == 4 && i.reg == 4 && !i.high && !i.sign);
    i = DECODE(64, "\x48\x0f\xbf\x00"); /* movswq (%rax), %rax */
    assert_true(i.load && i.bytes == 2 && i.reg_bytes == 8 && i.sign);
    i = DECODE(64, "\x48\x63\x00"); /* movslq */
    assert_true(i.load && i.bytes == 4 && i.reg_bytes == 8 && i.sign);
}

static void test_refused(void **state)
{
    static const char *const other[] = {"\x01\x00",
                                        "\x89\xc8" /* register to register */,
                                        "\x0f\xa2",
                                        "\xc7\x48\x00\x00\x00\x00\x00"
                                        /* c7 /1 */,
                                        "\xf4",
                                        "\xff\x10",
                                        "\x62\x00",
                                        "\x0f\xb6\xc0"};
    struct hvm_insn i;

    for (unsigned k = 0; k < sizeof(other) / sizeof(other[0]); k++) {
        uint8_t code[15] = {0};

        memcpy(code, other[k], strlen(other[k]) ? strlen(other[k]) : 2);
        assert_false(hvm_insn_decode(code, sizeof(code), 64, &i));
    }
    assert_false(hvm_insn_decode(
        (const uint8_t *)"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x89", 15, 64, &i));
    assert_false(hvm_insn_decode(NULL, 0, 64, &i));
}

/* Every prefix of random bytes, copied so that a byte too many is seen. */
static void test_any_bytes(void **state)
{
    uint64_t x = 1442695040888963407ull;

    for (unsigned round = 0; round < 100000; round++) {
        size_t n = round % 16;
        uint8_t *code = malloc(n ? n : 1);
        struct hvm_insn i;

        for (size_t k = 0; k < n; k++) {
            x = x * 6364136223846793005ull + 1442695040888963407ull;
            code[k] = (uint8_t)(x >> 40);
        }
        if (n && round & 16)
            code[0] = (uint8_t)(0x86 + (x >> 50) % 6);
        if (hvm_insn_decode(code, n, 16u << (round >> 5) % 3, &i)) {
            assert_true(i.length && i.length <= n && (i.load || i.store) && i.reg < 16);
            assert_true(i.bytes == 1 || i.bytes == 2 || i.bytes == 4 || i.bytes == 8);
        }
        free(code);
    }
}

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
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_exits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
