/* The decoder of page-table writes against the processor itself: random instructions are run natively and
 * decoded, and must agree in memory, registers and flags. */
#include "pv.h"
#include "arch/x86/pv/mmu/ptwr_insn.h"

#include <sys/mman.h>

static uint8_t *jit;
static unsigned seed = 7;

static uint64_t rnd(void)
{
    seed = seed * 1103515245 + 12345;
    return seed >> 8 & 0xffff;
}
static uint64_t rnd64(void)
{
    static const uint64_t nice[] = {
        0, 1, ~0ull, 0x7fffffffffffffff, 0x8000000000000000, 0x80, 0xff, 0x8000000000000067};

    return rnd() % 3 ? rnd() << 48 | rnd() << 32 | rnd() << 16 | rnd() : nice[rnd() % ARRAY_SIZE(nice)];
}

/* rax, rcx, rdx, rbx are free for the instruction; memory at (%rdi). */
struct native {
    uint64_t rax, rcx, rdx, rbx, flags, memory;
};

#define FLAGS 0x8d5ull

static void run_native(const uint8_t *code, unsigned len, struct native *n)
{
    static const uint8_t before[] = {
        0x53,                   /* push %rbx */
        0x57,                   /* push %rdi */
        0xff, 0x77, 0x20,       /* push 0x20(%rdi): flags */
        0x48, 0x8b, 0x07,       /* mov (%rdi), %rax */
        0x48, 0x8b, 0x4f, 0x08, /* mov 8(%rdi), %rcx */
        0x48, 0x8b, 0x57, 0x10, /* mov 16(%rdi), %rdx */
        0x48, 0x8b, 0x5f, 0x18, /* mov 24(%rdi), %rbx */
        0x48, 0x8d, 0x7f, 0x28, /* lea 40(%rdi), %rdi */
        0x9d,                   /* popf */
    };
    static const uint8_t after[] = {
        0x9c,       /* pushf */
        0x41, 0x58, /* pop %r8 */
        0x5f,       /* pop %rdi */
        0x48, 0x89, 0x07, 0x48, 0x89, 0x4f, 0x08, 0x48,
        0x89, 0x57, 0x10, 0x48, 0x89, 0x5f, 0x18, /* registers */
        0x4c, 0x89, 0x47, 0x20,                   /* mov %r8, 32(%rdi) */
        0x5b,                                     /* pop %rbx */
        0xc3,
    };

    memcpy(jit, before, sizeof(before));
    memcpy(jit + sizeof(before), code, len);
    memcpy(jit + sizeof(before) + len, after, sizeof(after));
    ((void (*)(struct native *))(void *)jit)(n);
}

/* Builds one instruction with the operand (%rdi); returns its length. */
static unsigned make(uint8_t *c)
{
    static const uint8_t one[] = {0x00, 0x01, 0x08, 0x09, 0x20, 0x21, 0x28,
                                  0x29, 0x30, 0x31, 0x86, 0x87, 0x88, 0x89};
    static const uint8_t two[] = {0xb0, 0xb1, 0xc0, 0xc1, 0xab, 0xb3, 0xbb};
    static const uint8_t group[] = {0x80, 0x81, 0x83, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff};
    static const uint8_t alu[] = {0, 1, 4, 5, 6};
    unsigned n = 0, reg = (unsigned)rnd() % 4, imm = 0;
    bool opsize = !(rnd() % 4), rexw = rnd() % 2;
    uint8_t op;

    if (opsize)
        c[n++] = 0x66;
    if (rexw || rnd() % 4 == 0)
        c[n++] = 0x40 | (rexw ? 8 : 0);
    else
        reg = (unsigned)rnd() % 4 + (rnd() % 2 ? 4 : 0); /* perhaps a high byte, where it is one */
    switch (rnd() % 4) {
    case 0:
        op = c[n++] = one[rnd() % ARRAY_SIZE(one)];
        if (op & 1)
            reg &= 3;
        break;
    case 1:
        c[n++] = 0x0f;
        op = c[n++] = two[rnd() % ARRAY_SIZE(two)];
        if (op != 0xb0 && op != 0xc0)
            reg &= 3;
        break;
    case 2:
        c[n++] = 0x0f;
        c[n++] = 0xba;
        reg = 5 + (unsigned)rnd() % 3;
        imm = 1;
        break;
    default:
        op = c[n++] = group[rnd() % ARRAY_SIZE(group)];
        if (op < 0x90)
            reg = alu[rnd() % ARRAY_SIZE(alu)];
        else
            reg = op < 0xd0 ? 0 : op < 0xf8 ? 2 + (unsigned)rnd() % 2 : (unsigned)rnd() % 2;
        if (op == 0x80 || op == 0x83 || op == 0xc6)
            imm = 1;
        else if (op == 0x81 || op == 0xc7)
            imm = rexw ? 4 : opsize ? 2 : 4;
    }
    c[n++] = (uint8_t)(reg << 3 | 7); /* (%rdi) */
    while (imm--)
        c[n++] = (uint8_t)rnd();
    return n;
}

/* Bit strings with a register reach beyond the operand: the offset is kept inside, as the fault address does
 * for us. */
static void bound_bits(struct native *n)
{
    n->rax &= 15;
    n->rcx &= 15;
    n->rdx &= 15;
    n->rbx &= 15;
}

static bool is_bit_string(const uint8_t *c)
{
    while (*c == 0x66 || (*c & 0xf0) == 0x40)
        c++;
    return c[0] == 0x0f && (c[1] == 0xab || c[1] == 0xb3 || c[1] == 0xbb);
}

static void test_against_processor(void **state)
{
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t code[PTWR_INSN_MAX] = {0};
        unsigned len = make(code);
        struct native n = {rnd64(), rnd64(), rnd64(), rnd64(), 0x202 | (rnd() & FLAGS), rnd64()}, m;
        struct guest_regs r = {0};
        struct ptwr_insn insn;
        uint64_t result;

        if (rnd() % 2)
            n.rax = n.memory; /* let exchanges succeed */
        if (is_bit_string(code))
            bound_bits(&n);
        r.rax = n.rax, r.rcx = n.rcx, r.rdx = n.rdx, r.rbx = n.rbx, r.rflags = n.flags;
        m = n;
        run_native(code, len, &m);
        if (!ptwr_decode(code, sizeof(code), &r, &insn)) {
            fail_msg("not decoded: %02x %02x %02x %02x", code[0], code[1], code[2], code[3]);
        }
        assert_int_equal(insn.len, len);
        if (ptwr_execute(&insn, n.memory, &r, &result))
            memcpy(&n.memory, &result, insn.width);
        uint64_t known = insn.op == PTWR_AND || insn.op == PTWR_OR || insn.op == PTWR_XOR ? FLAGS & ~0x10ull
                         : insn.op == PTWR_BTS || insn.op == PTWR_BTR || insn.op == PTWR_BTC ? 1
                                                                                             : FLAGS;
        if (n.memory != m.memory || r.rax != m.rax || r.rcx != m.rcx || r.rdx != m.rdx || r.rbx != m.rbx ||
            (r.rflags ^ m.flags) & known)
            fail_msg("differs: %02x %02x %02x %02x %02x: memory %llx %llx rax %llx %llx flags %llx %llx",
                     code[0], code[1], code[2], code[3], code[4], (unsigned long long)n.memory,
                     (unsigned long long)m.memory, (unsigned long long)r.rax, (unsigned long long)m.rax,
                     (unsigned long long)r.rflags, (unsigned long long)m.flags);
    }
}

/* Every form of a memory operand has the right length; a register operand is none; a cut instruction is none. */
static void test_operands(void **state)
{
    static const struct {
        uint8_t code[12];
        unsigned len;
    } t[] = {
        {{0x89, 0x07}, 2},
        {{0x48, 0x89, 0x47, 0x10}, 4},
        {{0x48, 0x89, 0x87, 1, 2, 3, 4}, 7},
        {{0x48, 0x89, 0x05, 1, 2, 3, 4}, 7},
        {{0x48, 0x89, 0x04, 0xd0}, 4},
        {{0x48, 0x89, 0x44, 0xd0, 8}, 5},
        {{0x48, 0x89, 0x84, 0xd0, 1, 2, 3, 4}, 8},
        {{0x48, 0x89, 0x04, 0xc5, 1, 2, 3, 4}, 8},
        {{0xf0, 0x41, 0x80, 0x64, 0x24, 0x08, 0xfd}, 7},
        {{0x65, 0x4c, 0x89, 0x3f}, 4},
        {{0x48, 0xc7, 0x07, 1, 2, 3, 4}, 7},
        {{0x66, 0xc7, 0x07, 1, 2}, 5},
        {{0x48, 0x0f, 0xc3, 0x07}, 4},
        {{0xf3, 0x48, 0xab}, 3},
        {{0x48, 0xa5}, 2},
    };
    struct guest_regs r = {.rcx = 5};
    struct ptwr_insn i;

    for (unsigned k = 0; k < ARRAY_SIZE(t); k++) {
        assert_true(ptwr_decode(t[k].code, sizeof(t[k].code), &r, &i));
        assert_int_equal(i.len, t[k].len);
        for (unsigned n = 0; n < t[k].len; n++)
            assert_false(ptwr_decode(t[k].code, n, &r, &i));
    }
    static const uint8_t bad[][4] = {{0x48, 0x89, 0xc7, 0}, {0x0f, 0x0b, 0, 0},    {0x67, 0x89, 0x07, 0},
                                     {0x48, 0x8b, 0x07, 0}, {0x48, 0x01, 0xf8, 0}, {0x10, 0x07, 0, 0},
                                     {0x83, 0x3f, 0x01, 0}, {0x0f, 0xba, 0x27, 1}, {0xff, 0x17, 0, 0},
                                     {0xf6, 0x07, 1, 0},    {0xc7, 0x0f, 0, 0},    {0xf3, 0x89, 0x07, 0}};
    for (unsigned k = 0; k < ARRAY_SIZE(bad); k++)
        assert_false(ptwr_decode(bad[k], 4, &r, &i));
}

static void test_noise(void **state)
{
    struct guest_regs r = {0};
    struct ptwr_insn i;
    uint64_t result;

    for (unsigned k = 0; k < 300000; k++) {
        unsigned n = (unsigned)rnd() % (PTWR_INSN_MAX + 1);
        uint8_t *exact = malloc(n ? n : 1); /* reads beyond it are seen */

        for (unsigned b = 0; b < n; b++)
            exact[b] = (uint8_t)rnd();
        if (ptwr_decode(exact, n, &r, &i)) {
            assert_true(i.len && i.len <= n &&
                        (i.width == 1 || i.width == 2 || i.width == 4 || i.width == 8));
            (void)ptwr_execute(&i, rnd64(), &r, &result);
        }
        free(exact);
    }
}

static int setup(void **state)
{
    jit = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return jit == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_processor),
                                       cmocka_unit_test(test_operands), cmocka_unit_test(test_noise)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
