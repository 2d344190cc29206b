/* The decoder of instructions that trap in a PV guest: every form, every length, every truncation, random
 * bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../arch/x86/pv/decode.h"

static struct guest_regs regs;
static struct pv_insn got;

/* Decodes a buffer of exactly that size on the heap, so that the sanitizer sees a read beyond it. */
static bool dec_n(unsigned bits, const void *bytes, unsigned n)
{
    uint8_t *copy = malloc(n ? n : 1);
    bool ok;

    memcpy(copy, bytes, n);
    ok = pv_decode(copy, n, bits, &regs, &got);
    free(copy);
    return ok;
}
#define DEC(bits, s) dec_n(bits, s, sizeof(s) - 1)

/* Decodes, and checks that every shorter prefix of the bytes is refused. */
static void expect_n(unsigned bits, const char *s, unsigned n, enum pv_insn_op op)
{
    assert_true(dec_n(bits, s, n));
    assert_int_equal(got.op, op);
    assert_int_equal(got.len, n);
    for (unsigned k = 0; k < n; k++)
        assert_false(dec_n(bits, s, k));
    assert_true(dec_n(bits, s, n));
}
#define EXPECT(bits, s, op) expect_n(bits, s, sizeof(s) - 1, op)

static void test_ports(void **state)
{
    EXPECT(64, "\xe4\x70", PVI_IN);
    assert_true(got.imm_port && got.port == 0x70 && got.op_bytes == 1);
    EXPECT(64, "\xed", PVI_IN);
    assert_true(!got.imm_port && got.op_bytes == 4);
    EXPECT(64, "\x66\xed", PVI_IN);
    assert_int_equal(got.op_bytes, 2);
    EXPECT(16, "\xef", PVI_OUT);
    assert_int_equal(got.op_bytes, 2);
    EXPECT(64, "\x48\xef", PVI_OUT); /* REX.W does not widen */
    assert_int_equal(got.op_bytes, 4);
    EXPECT(64, "\xe6\x80", PVI_OUT);
    EXPECT(64, "\xf3\x6d", PVI_INS);
    assert_true(got.rep && got.op_bytes == 4 && got.addr_bytes == 8 && got.seg == PVS_ES);
    EXPECT(64, "\x64\x67\xf3\x6e", PVI_OUTS);
    assert_true(got.rep && got.op_bytes == 1 && got.addr_bytes == 4 && got.seg == PVS_FS);
    EXPECT(64, "\x65\x6c", PVI_INS);
    assert_int_equal(got.seg, PVS_ES);
}

static void test_system(void **state)
{
    EXPECT(64, "\xfa", PVI_CLI);
    EXPECT(64, "\xfb", PVI_STI);
    EXPECT(64, "\xf4", PVI_HLT);
    EXPECT(64, "\x0f\x06", PVI_CLTS);
    EXPECT(64, "\x0f\x08", PVI_INVD);
    EXPECT(64, "\x0f\x09", PVI_WBINVD);
    EXPECT(64, "\xf3\x0f\x09", PVI_WBINVD); /* WBNOINVD */
    EXPECT(64, "\x0f\x30", PVI_WRMSR);
    EXPECT(64, "\x0f\x31", PVI_RDTSC);
    EXPECT(64, "\x0f\x32", PVI_RDMSR);
    EXPECT(64, "\x0f\x33", PVI_RDPMC);
    EXPECT(64, "\x0f\xa2", PVI_CPUID);
    EXPECT(64, "\x0f\x01\xd1", PVI_XSETBV);
    EXPECT(64, "\x0f\x01\xf8", PVI_SWAPGS);
    EXPECT(64, "\x0f\x01\xf9", PVI_RDTSCP);
    EXPECT(64, "\x48\x0f\x07", PVI_SYSRET);
}

static void test_umip(void **state)
{
    EXPECT(64, "\x0f\x01\x00", PVI_SGDT);
    assert_true(got.memory);
    EXPECT(64, "\x0f\x01\x0c\x24", PVI_SIDT);
    EXPECT(64, "\x0f\x00\xc3", PVI_SLDT);
    assert_true(!got.memory && got.rm == 3 && got.op_bytes == 4);
    EXPECT(32, "\x66\x0f\x00\xc9", PVI_STR);
    assert_true(got.rm == 1 && got.op_bytes == 2);
    EXPECT(64, "\x0f\x00\x08", PVI_STR);
    assert_true(got.memory && got.op_bytes == 2);
}

static void test_registers(void **state)
{
    EXPECT(64, "\x0f\x22\xd8", PVI_MOV_TO_CR);
    assert_true(got.reg == 3 && got.rm == 0 && got.op_bytes == 8);
    EXPECT(64, "\x44\x0f\x20\xc7", PVI_MOV_FROM_CR);
    assert_true(got.reg == 8 && got.rm == 7);
    EXPECT(64, "\x41\x0f\x22\xe7", PVI_MOV_TO_CR);
    assert_true(got.reg == 4 && got.rm == 15);
    EXPECT(64, "\x0f\x23\xf8", PVI_MOV_TO_DR);
    assert_int_equal(got.reg, 7);
    EXPECT(64, "\x0f\x21\xf1", PVI_MOV_FROM_DR);
    assert_true(got.reg == 6 && got.rm == 1);
    EXPECT(64, "\x0f\x01\xf0", PVI_LMSW);
    assert_true(!got.memory && got.op_bytes == 2);
    EXPECT(64, "\x0f\x01\xe3", PVI_SMSW);
    assert_true(!got.memory && got.rm == 3 && got.op_bytes == 4);
}

static void test_addresses(void **state)
{
    memset(&regs, 0, sizeof(regs));
    regs.rax = 0x1000;
    regs.rbx = 0x10;
    regs.r12 = 0x2000;
    regs.rsp = 0x3000;
    regs.rip = 0x400000;
    EXPECT(64, "\x0f\x01\x38", PVI_INVLPG);
    assert_true(got.memory && got.addr == 0x1000 && got.seg == PVS_DS);
    EXPECT(64, "\x0f\x01\x7c\x98\x08", PVI_INVLPG); /* 8(%rax,%rbx,4) */
    assert_int_equal(got.addr, 0x1048);
    EXPECT(64, "\x41\x0f\x01\x3c\x24", PVI_INVLPG); /* (%r12) */
    assert_int_equal(got.addr, 0x2000);
    EXPECT(64, "\x0f\x01\x3c\x24", PVI_INVLPG); /* (%rsp) */
    assert_true(got.addr == 0x3000 && got.seg == PVS_SS);
    EXPECT(64, "\x0f\x01\x3d\x10\x00\x00\x00", PVI_INVLPG); /* 0x10(%rip) */
    assert_int_equal(got.addr, 0x400017);
    EXPECT(64, "\x0f\x01\xb8\x00\xf0\xff\xff", PVI_INVLPG); /* -0x1000(%rax) */
    assert_int_equal(got.addr, 0);
    EXPECT(64, "\x0f\x01\x3c\x25\x78\x56\x34\x12", PVI_INVLPG); /* absolute */
    assert_int_equal(got.addr, 0x12345678);
    regs.rax = 0xffffffff00001000;
    EXPECT(64, "\x67\x0f\x01\x38", PVI_INVLPG);
    assert_int_equal(got.addr, 0x1000);
}

static void test_refused(void **state)
{
    assert_false(DEC(64, "\xf0\xfa")); /* LOCK */
    assert_false(DEC(64, "\x90"));
    assert_false(DEC(64, "\x0f\x05"));
    assert_false(DEC(64, "\x0f\x01\xd0")); /* XGETBV never traps for us */
    assert_false(DEC(64, "\x0f\x01\xc1"));
    assert_false(DEC(64, "\x0f\x01\x10")); /* LGDT */
    assert_false(DEC(64, "\x0f\x00\xd0")); /* LLDT */
    assert_false(DEC(32, "\x0f\x01\xf8")); /* SWAPGS outside 64-bit mode */
    assert_false(DEC(64, "\x48\x66\xed")); /* REX not last */
    assert_false(DEC(64, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\xed")); /* 16 bytes */
    assert_true(DEC(64, "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\xed"));      /* 15 bytes */
}

/* Whatever the bytes, the answer is bounded and consistent. */
static void test_random(void **state)
{
    uint64_t seed = 0x9e3779b97f4a7c15ull;
    static const uint8_t starts[] = {0x0f, 0x66, 0x67, 0xf3, 0x48, 0x6c, 0xe4, 0x41};

    for (unsigned i = 0; i < 300000; i++) {
        uint8_t buf[16];
        unsigned n, bits = i % 3 == 0 ? 64 : i % 3 == 1 ? 32 : 16;
        for (unsigned k = 0; k < sizeof(buf); k++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            buf[k] = (uint8_t)(seed >> 56);
        }
        if (i & 1)
            buf[0] = starts[seed % sizeof(starts)];
        n = (unsigned)(seed >> 40) % 17;
        if (!dec_n(bits, buf, n))
            continue;
        assert_true(got.len >= 1 && got.len <= n && got.len <= PV_INSN_MAX && got.op != PVI_NONE);
        assert_true(got.rm < 16 && got.reg < 16 && got.seg <= PVS_GS);
    }
}

static void test_gpr(void **state)
{
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(pv_gpr(&regs, i), pv_gpr(&regs, k));
    assert_ptr_equal(pv_gpr(&regs, 4), &regs.rsp);
    assert_ptr_equal(pv_gpr(&regs, 15), &regs.r15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ports),     cmocka_unit_test(test_system),  cmocka_unit_test(test_registers),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_refused), cmocka_unit_test(test_random),
        cmocka_unit_test(test_gpr),       cmocka_unit_test(test_umip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
