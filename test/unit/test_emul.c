/*
 * The instruction emulator (arch/x86/emul) against the processor of the build machine: the same instruction with the same registers, flags
 * and memory, once executed and once emulated, must leave the same behind. Modes that this program cannot be in (16 and 32 bits) are tested by
 * examples, as is what the emulator must refuse.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/mman.h>

#include "arch/x86/emul/private.h"

#define MEMORY 1024u

/* --- the processor: registers and flags from a structure, one instruction, back --- */

struct native {
    uint64_t reg[16], rflags, target, xmm[2];
};
void native_run(struct native *n);
extern const char native_back[];
__asm__(".text\n"
        "native_run:\n"
        "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "  mov %rdi, native_state(%rip)\n"
        "  mov %rsp, native_stack(%rip)\n"
        "  mov 136(%rdi), %rax; mov %rax, native_target(%rip)\n"
        "  movdqu 144(%rdi), %xmm1\n"
        "  push 128(%rdi); popfq\n"
        "  mov 0(%rdi), %rax; mov 8(%rdi), %rcx; mov 16(%rdi), %rdx; mov 24(%rdi), %rbx\n"
        "  mov 32(%rdi), %rsp; mov 40(%rdi), %rbp; mov 48(%rdi), %rsi\n"
        "  mov 64(%rdi), %r8; mov 72(%rdi), %r9; mov 80(%rdi), %r10; mov 88(%rdi), %r11\n"
        "  mov 96(%rdi), %r12; mov 104(%rdi), %r13; mov 112(%rdi), %r14; mov 120(%rdi), %r15\n"
        "  mov 56(%rdi), %rdi\n"
        "  jmp *native_target(%rip)\n"
        "native_back:\n"
        "  mov %rdi, native_rdi(%rip)\n"
        "  mov native_state(%rip), %rdi\n"
        "  mov %rax, 0(%rdi); mov %rcx, 8(%rdi); mov %rdx, 16(%rdi); mov %rbx, 24(%rdi)\n"
        "  mov %rsp, 32(%rdi); mov %rbp, 40(%rdi); mov %rsi, 48(%rdi)\n"
        "  mov native_rdi(%rip), %rax; mov %rax, 56(%rdi)\n"
        "  mov %r8, 64(%rdi); mov %r9, 72(%rdi); mov %r10, 80(%rdi); mov %r11, 88(%rdi)\n"
        "  mov %r12, 96(%rdi); mov %r13, 104(%rdi); mov %r14, 112(%rdi); mov %r15, 120(%rdi)\n"
        "  movdqu %xmm1, 144(%rdi)\n"
        "  mov native_stack(%rip), %rsp\n"
        "  pushfq; pop 128(%rdi)\n"
        "  cld\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "  ret\n"
        ".data\n"
        "native_state: .quad 0\n"
        "native_stack: .quad 0\n"
        "native_target: .quad 0\n"
        "native_rdi: .quad 0\n"
        ".text\n");

/* --- the emulator's memory: the same, or one that makes it wait --- */

static uint8_t *memory, *page;
static uint64_t xmm[2];
static unsigned wait_at, accesses; /* the nth access says EMUL_WAIT, 0: none */
static unsigned rounds;

static enum emul_result step(uint64_t at, unsigned bytes)
{
    assert_true(at >= (uintptr_t)memory && at + bytes <= (uintptr_t)memory + MEMORY);
    return ++accesses == wait_at ? EMUL_WAIT : EMUL_DONE;
}
static enum emul_result t_read(struct emul *e, enum emul_seg s, uint64_t at, unsigned bytes, bool operand,
                               uint64_t value[2])
{
    if (step(at, bytes))
        return EMUL_WAIT;
    memcpy(value, (void *)at, bytes);
    return EMUL_DONE;
}
static enum emul_result t_write(struct emul *e, enum emul_seg s, uint64_t at, unsigned bytes, bool operand,
                                const uint64_t value[2])
{
    if (step(at, bytes))
        return EMUL_WAIT;
    memcpy((void *)at, value, bytes);
    return EMUL_DONE;
}
static bool t_vector(struct emul *e, unsigned n, bool write, uint64_t value[2])
{
    assert_true(n < 16);
    memcpy(write ? xmm : value, write ? value : xmm, sizeof(xmm));
    return true;
}
static void t_round(struct emul *e)
{
    rounds++;
}
static enum emul_result t_many(struct emul *e, bool store, enum emul_seg source, uint64_t from, uint64_t to,
                               unsigned bytes, bool down, uint64_t value, uint64_t *count)
{
    *count = 0;
    return EMUL_DONE;
}
static const struct emul_ops ops = {t_read, t_write, t_vector, t_round, t_many};

static uint64_t seed = 88172645463325252ull;
static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
/* Numbers at which carries and signs change come often. */
static uint64_t number(void)
{
    static const uint64_t edge[] = {0,      1,      0x7f,       0x80,       0xff,      0x7fff,
                                    0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
    uint64_t r = rnd();

    switch (r % 4) {
    case 0:
        return edge[(r >> 8) % (sizeof(edge) / sizeof(edge[0]))];
    case 1:
        return ~edge[(r >> 8) % (sizeof(edge) / sizeof(edge[0]))];
    default:
        return rnd();
    }
}

/* --- instructions: opcodes with an operand at rbx, rsi, rdi or by SIB --- */

struct form {
    const char *opcode; /* with the prefix that belongs to it */
    uint8_t bytes;      /* of opcode */
    int8_t extension;   /* ModRM's middle; -1: any */
    uint8_t constant;   /* bytes; 9: the operation's width, four at most */
    bool byte, wide;    /* one byte wide; may have REX.W and 66 */
    bool lock;
    uint64_t ignore; /* flags that are not defined */
};
#define BITS (FLAGS_ALU & ~(FLAG_CF | FLAG_ZF))
#define ALU4(n)                                                                                              \
    {(const char[]){n * 8}, 1, -1, 0, true, false, true, 0},                                                 \
        {(const char[]){n * 8 + 1}, 1, -1, 0, false, true, true, 0},                                         \
        {(const char[]){n * 8 + 2}, 1, -1, 0, true, false, false, 0},                                        \
    {                                                                                                        \
        (const char[]){n * 8 + 3}, 1, -1, 0, false, true, false, 0                                           \
    }
#define GRP1(n)                                                                                              \
    {"\x80", 1, n, 1, true, false, true, 0}, {"\x81", 1, n, 9, false, true, true, 0},                        \
    {                                                                                                        \
        "\x83", 1, n, 1, false, true, true, 0                                                                \
    }

static const struct form forms[] = {
    ALU4(0),
    ALU4(1),
    ALU4(2),
    ALU4(3),
    ALU4(4),
    ALU4(5),
    ALU4(6),
    GRP1(0),
    GRP1(1),
    GRP1(2),
    GRP1(3),
    GRP1(4),
    GRP1(5),
    GRP1(6),
    {"\x38", 1, -1, 0, true, false, false, 0},
    {"\x39", 1, -1, 0, false, true, false, 0},
    {"\x3a", 1, -1, 0, true, false, false, 0},
    {"\x3b", 1, -1, 0, false, true, false, 0},
    {"\x80", 1, 7, 1, true, false, false, 0},
    {"\x81", 1, 7, 9, false, true, false, 0},
    {"\x83", 1, 7, 1, false, true, false, 0},
    {"\x63", 1, -1, 0, false, true, false, 0},
    {"\x84", 1, -1, 0, true, false, false, 0},
    {"\x85", 1, -1, 0, false, true, false, 0},
    {"\x86", 1, -1, 0, true, false, true, 0},
    {"\x87", 1, -1, 0, false, true, true, 0},
    {"\x88", 1, -1, 0, true, false, false, 0},
    {"\x89", 1, -1, 0, false, true, false, 0},
    {"\x8a", 1, -1, 0, true, false, false, 0},
    {"\x8b", 1, -1, 0, false, true, false, 0},
    {"\xc6", 1, 0, 1, true, false, false, 0},
    {"\xc7", 1, 0, 9, false, true, false, 0},
    {"\xf6", 1, 0, 1, true, false, false, 0},
    {"\xf7", 1, 0, 9, false, true, false, 0},
    {"\xf6", 1, 2, 0, true, false, true, 0},
    {"\xf7", 1, 2, 0, false, true, true, 0},
    {"\xf6", 1, 3, 0, true, false, true, 0},
    {"\xf7", 1, 3, 0, false, true, true, 0},
    {"\xfe", 1, 0, 0, true, false, true, 0},
    {"\xff", 1, 0, 0, false, true, true, 0},
    {"\xfe", 1, 1, 0, true, false, true, 0},
    {"\xff", 1, 1, 0, false, true, true, 0},
    {"\xff", 1, 6, 0, false, true, false, 0},
    {"\x8f", 1, 0, 0, false, true, false, 0},
    {"\x0f\xb0", 2, -1, 0, true, false, true, 0},
    {"\x0f\xb1", 2, -1, 0, false, true, true, 0},
    {"\x0f\xc0", 2, -1, 0, true, false, true, 0},
    {"\x0f\xc1", 2, -1, 0, false, true, true, 0},
    {"\x0f\xb6", 2, -1, 0, false, true, false, 0},
    {"\x0f\xb7", 2, -1, 0, false, true, false, 0},
    {"\x0f\xbe", 2, -1, 0, false, true, false, 0},
    {"\x0f\xbf", 2, -1, 0, false, true, false, 0},
    {"\x0f\xba", 2, 4, 1, false, true, false, BITS},
    {"\x0f\xba", 2, 5, 1, false, true, true, BITS},
    {"\x0f\xba", 2, 6, 1, false, true, true, BITS},
    {"\x0f\xba", 2, 7, 1, false, true, true, BITS},
    {"\x0f\xa3", 2, 1, 0, false, true, false, BITS},
    {"\x0f\xab", 2, 1, 0, false, true, true, BITS},
    {"\x0f\xb3", 2, 1, 0, false, true, true, BITS},
    {"\x0f\xbb", 2, 1, 0, false, true, true, BITS},
    {"\x0f\x92", 2, -1, 0, true, false, false, 0},
    {"\x0f\x9c", 2, -1, 0, true, false, false, 0},
    {"\x0f\x9f", 2, -1, 0, true, false, false, 0},
    {"\x0f\x9a", 2, -1, 0, true, false, false, 0},
    {"\x0f\x42", 2, -1, 0, false, true, false, 0},
    {"\x0f\x46", 2, -1, 0, false, true, false, 0},
    {"\x0f\x4d", 2, -1, 0, false, true, false, 0},
    {"\x0f\x48", 2, -1, 0, false, true, false, 0},
    {"\x0f\xc3", 2, -1, 0, false, false, false, 0},
    {"\x0f\x10", 2, 1, 0, false, false, false, 0},
    {"\x0f\x11", 2, 1, 0, false, false, false, 0},
    {"\xf3\x0f\x10", 3, 1, 0, false, false, false, 0},
    {"\xf3\x0f\x11", 3, 1, 0, false, false, false, 0},
    {"\xf2\x0f\x10", 3, 1, 0, false, false, false, 0},
    {"\xf2\x0f\x11", 3, 1, 0, false, false, false, 0},
    {"\xf3\x0f\x6f", 3, 1, 0, false, false, false, 0},
    {"\xf3\x0f\x7f", 3, 1, 0, false, false, false, 0},
    {"\xf3\x0f\x7e", 3, 1, 0, false, false, false, 0},
    {"\x66\x0f\xd6", 3, 1, 0, false, false, false, 0},
    {"\x66\x0f\x6e", 3, 1, 0, false, false, false, 0},
    {"\x66\x0f\x7e", 3, 1, 0, false, false, false, 0},
    /* Strings have no ModRM: extension -2. */
    {"\xa4", 1, -2, 0, true, false, false, 0},
    {"\xa5", 1, -2, 0, false, true, false, 0},
    {"\xa6", 1, -2, 0, true, false, false, 0},
    {"\xa7", 1, -2, 0, false, true, false, 0},
    {"\xaa", 1, -2, 0, true, false, false, 0},
    {"\xab", 1, -2, 0, false, true, false, 0},
    {"\xac", 1, -2, 0, true, false, false, 0},
    {"\xad", 1, -2, 0, false, true, false, 0},
    {"\xae", 1, -2, 0, true, false, false, 0},
    {"\xaf", 1, -2, 0, false, true, false, 0},
};
#define FORMS (sizeof(forms) / sizeof(forms[0]))

static unsigned put_modrm(uint8_t *c, unsigned reg)
{
    static const uint8_t base[] = {3, 6, 7};
    unsigned n = 0, how = (unsigned)rnd() % 4;

    if (how < 2) { /* base and a displacement of one or four bytes */
        int8_t disp = (int8_t)(rnd() % 64);

        c[n++] = (uint8_t)((how + 1) << 6 | reg << 3 | base[rnd() % 3]);
        c[n++] = (uint8_t)disp;
        for (unsigned i = 0; how && i < 3; i++)
            c[n++] = 0;
    } else if (how == 2) { /* rbx + r9 * scale, r9 small; REX.X must be there: c is behind REX 42 */
        c[n++] = (uint8_t)(1 << 6 | reg << 3 | 4);
        c[n++] = (uint8_t)((rnd() & 3) << 6 | 1 << 3 | 3);
        c[n++] = (uint8_t)(rnd() % 32);
    } else {
        c[n++] = (uint8_t)(reg << 3 | base[rnd() % 3]);
    }
    return n;
}

/* The instruction's bytes: how many. */
static unsigned build(uint8_t *c, const struct form *f, bool repeat)
{
    unsigned n = 0, at = 0, width = f->byte ? 1 : 4, reg = (unsigned)rnd() % 8;
    bool rex = rnd() & 1, rex_w = false;

    if (f->extension >= 0)
        reg = (unsigned)f->extension;
    else if (reg == RSP && !(f->byte && !rex))
        reg = RAX; /* not the stack pointer */
    if (f->lock && rnd() % 4 == 0)
        c[n++] = 0xf0;
    if (repeat)
        c[n++] = rnd() & 1 ? 0xf3 : 0xf2;
    if (f->wide) {
        width = 1u << (1 + rnd() % 3);
        if (width == 2)
            c[n++] = 0x66;
        rex_w = width == 8;
    }
    while (at < f->bytes && (f->opcode[at] == 0x66 || (uint8_t)f->opcode[at] >= 0xf2) && f->bytes == 3)
        c[n++] = (uint8_t)f->opcode[at++];
    c[n++] = (uint8_t)(0x42 | (rex_w ? 8 : 0)); /* X: r9 as an index */
    while (at < f->bytes)
        c[n++] = (uint8_t)f->opcode[at++];
    if (f->extension != -2)
        n += put_modrm(c + n, reg);
    for (unsigned i = 0; i < (f->constant == 9 ? (width < 4 ? width : 4) : f->constant); i++)
        c[n++] = (uint8_t)number();
    return n;
}

/* --- one comparison --- */

static void fill(struct native *n, const struct form *f)
{
    for (unsigned i = 0; i < MEMORY / 8; i++)
        ((uint64_t *)memory)[i] = rnd() % 3 ? number() : 0x4141414141414141ull;
    for (unsigned i = 0; i < 16; i++)
        n->reg[i] = number();
    n->reg[RBX] = (uintptr_t)memory + 256 + rnd() % 256;
    n->reg[RSI] = (uintptr_t)memory + 256 + rnd() % 256;
    n->reg[RDI] = (uintptr_t)memory + 256 + rnd() % 256;
    n->reg[RSP] = (uintptr_t)memory + 800;
    n->reg[9] = rnd() % 16;
    if (f->extension == 1 && f->bytes == 2 && f->opcode[0] == 0x0f && f->opcode[1] != 0x10 &&
        f->opcode[1] != 0x11)
        n->reg[RCX] = (uint64_t)((int64_t)(rnd() % 1024) - 512); /* a bit somewhere near */
    if (f->extension == -2) {
        n->reg[RCX] = rnd() % 20;
        if (rnd() & 1)
            n->reg[RAX] = 0x4141414141414141ull;
    }
    n->rflags = 0x202 | (rnd() & FLAGS_ALU) | (f->extension == -2 && rnd() & 1 ? FLAG_DF : 0);
    n->xmm[0] = number();
    n->xmm[1] = number();
}

static void emulate(const uint8_t *code, unsigned n, struct native *s, unsigned wait)
{
    struct emul e = {.ops = &ops, .bits = 64, .stack_bytes = 8, .rip = 0x1000, .rflags = s->rflags};
    struct emul before;
    enum emul_result r;

    memcpy(e.reg, s->reg, sizeof(e.reg));
    memcpy(xmm, s->xmm, sizeof(xmm));
    e.code_bytes = (uint8_t)n;
    memcpy(e.code, code, n);
    wait_at = wait;
    accesses = 0;
    before = e;
    while ((r = emul_run(&e, 3)) == EMUL_PART)
        before = e;
    if (wait && wait_at && r == EMUL_WAIT) {
        if (!rounds)
            assert_memory_equal(&before, &e, sizeof(e)); /* nothing has happened */
        return;
    }
    if (r != EMUL_DONE || e.rip != 0x1000 + n)
        fail_msg("%u, rip %lx, %u bytes: %02x %02x %02x %02x %02x %02x", r, e.rip, n, code[0], code[1],
                 code[2], code[3], code[4], code[5]);
    memcpy(s->reg, e.reg, sizeof(e.reg));
    memcpy(s->xmm, xmm, sizeof(xmm));
    s->rflags = e.rflags;
}

static void compare(const struct form *f, bool repeat)
{
    static uint8_t copy[MEMORY], after[MEMORY];
    struct native n, s;
    uint8_t code[16];
    unsigned length = build(code, f, repeat);

    fill(&n, f);
    s = n;
    memcpy(copy, memory, MEMORY);
    memcpy(page, code, length);
    page[length] = 0xff; /* jmp *0(%rip) */
    page[length + 1] = 0x25;
    memset(page + length + 2, 0, 4);
    memcpy(page + length + 6, &(const char *){native_back}, 8);
    n.target = (uintptr_t)page;
    native_run(&n);
    memcpy(after, memory, MEMORY);
    /* First with the device model slow, which must change nothing; then for good. */
    rounds = 0;
    memcpy(memory, copy, MEMORY);
    if (!repeat) {
        struct native waits = s;

        emulate(code, length, &waits, 1 + rnd() % 2);
        memcpy(memory, copy, MEMORY);
    }
    emulate(code, length, &s, 0);
    for (unsigned i = 0; i < 16; i++)
        if (n.reg[i] != s.reg[i])
            fail_msg("register %u: %lx, should be %lx: %02x %02x %02x %02x %02x %02x", i, s.reg[i], n.reg[i],
                     code[0], code[1], code[2], code[3], code[4], code[5]);
    if ((n.rflags ^ s.rflags) & FLAGS_ALU & ~f->ignore)
        fail_msg("flags %lx, should be %lx: %02x %02x %02x %02x %02x %02x", s.rflags, n.rflags, code[0],
                 code[1], code[2], code[3], code[4], code[5]);
    assert_memory_equal(memory, after, MEMORY);
    assert_memory_equal(n.xmm, s.xmm, sizeof(n.xmm));
}

static void like_the_processor(void **state)
{
    for (unsigned round = 0; round < 2000; round++)
        for (unsigned f = 0; f < FORMS; f++)
            compare(&forms[f], forms[f].extension == -2 && rnd() & 1);
}

/* --- other modes: what an instruction touches --- */

static uint64_t touched_at;
static enum emul_seg touched_seg;
static unsigned touched_bytes;
static uint64_t touched_value;
static enum emul_result m_read(struct emul *e, enum emul_seg s, uint64_t at, unsigned bytes, bool operand,
                               uint64_t value[2])
{
    touched_at = at;
    touched_seg = s;
    touched_bytes = bytes;
    value[0] = 0x1122334455667788ull;
    return EMUL_DONE;
}
static enum emul_result m_write(struct emul *e, enum emul_seg s, uint64_t at, unsigned bytes, bool operand,
                                const uint64_t value[2])
{
    touched_at = at;
    touched_seg = s;
    touched_bytes = bytes;
    touched_value = value[0];
    return EMUL_DONE;
}
static const struct emul_ops marks = {m_read, m_write, t_vector, t_round, t_many};

static struct emul run(unsigned bits, const char *code, size_t n, enum emul_result result)
{
    struct emul e = {
        .ops = &marks, .bits = (uint8_t)bits, .stack_bytes = (uint8_t)(bits / 8), .rip = 0xfff0, .rflags = 2};

    for (unsigned i = 0; i < 16; i++)
        e.reg[i] = 0x111100001000ull + i * 0x10;
    memcpy(e.code, code, n);
    e.code_bytes = (uint8_t)n;
    assert_int_equal(emul_run(&e, 4), result);
    return e;
}
#define RUN(bits, code) run(bits, code, sizeof(code) - 1, EMUL_DONE)
#define TOUCHED(s, at, n)                                                                                    \
    do {                                                                                                     \
        assert_int_equal(touched_at, at);                                                                    \
        assert_int_equal(touched_seg, s);                                                                    \
        assert_int_equal(touched_bytes, n);                                                                  \
    } while (0)

static void other_modes(void **state)
{
    struct emul e = RUN(16, "\x89\x40\x02"); /* mov %ax, 2(%bx,%si) */

    TOUCHED(EMUL_DS, 0x1030 + 0x1060 + 2, 2);
    assert_int_equal(e.rip, 0xfff3);
    RUN(16, "\x89\x46\xfe"); /* mov %ax, -2(%bp) */
    TOUCHED(EMUL_SS, 0x104e, 2);
    RUN(16, "\x26\x89\x46\xfe");
    TOUCHED(EMUL_ES, 0x104e, 2);
    RUN(16, "\x66\x89\x06\x34\x12"); /* mov %eax, 0x1234 */
    TOUCHED(EMUL_DS, 0x1234, 4);
    e = RUN(16, "\x8a\x26\x34\x12"); /* mov 0x1234, %ah */
    TOUCHED(EMUL_DS, 0x1234, 1);
    assert_int_equal(e.reg[RAX], 0x111100008800ull);
    RUN(16, "\x67\x89\x04\x24"); /* mov %ax, (%esp) */
    TOUCHED(EMUL_SS, 0x1040, 2);
    e = RUN(16, "\xab"); /* stosw */
    TOUCHED(EMUL_ES, 0x1070, 2);
    assert_int_equal(e.reg[RDI], 0x111100001072ull);
    e = RUN(16, "\xff\x36\x00\x20"); /* push 0x2000 */
    TOUCHED(EMUL_SS, 0x103e, 2);
    assert_int_equal(e.reg[RSP], 0x11110000103eull);
    RUN(32, "\xa1\x20\x00\xe0\xfe"); /* mov 0xfee00020, %eax */
    TOUCHED(EMUL_DS, 0xfee00020, 4);
    e = RUN(32, "\x64\x8b\x15\x78\x56\x34\x12"); /* mov %fs:0x12345678, %edx */
    TOUCHED(EMUL_FS, 0x12345678, 4);
    assert_int_equal(e.reg[RDX], 0x55667788);
    RUN(32, "\x67\x8b\x07"); /* mov (%bx), %eax */
    TOUCHED(EMUL_DS, 0x1030, 4);
    RUN(64, "\x8b\x05\x00\x01\x00\x00"); /* mov 0x100(%rip), %eax */
    TOUCHED(EMUL_DS, 0x10000 + 0xf6, 4);
    RUN(64, "\xc7\x05\x00\x01\x00\x00\x01\x00\x00\x00"); /* the constant is before the next instruction too */
    TOUCHED(EMUL_DS, 0xfff0 + 10 + 0x100, 4);
    RUN(64, "\x67\x8b\x00"); /* mov (%eax), %eax */
    TOUCHED(EMUL_DS, 0x1000, 4);
    RUN(64, "\x8b\x04\x25\x20\x00\xe0\xfe");
    TOUCHED(EMUL_DS, 0xfffffffffee00020ull, 4);
    RUN(64, "\xa1\x88\x77\x66\x55\x44\x33\x22\x11"); /* movabs */
    TOUCHED(EMUL_DS, 0x1122334455667788ull, 4);
    RUN(64, "\x43\x8b\x44\x25\x00"); /* mov 0(%r13,%r12), %eax */
    TOUCHED(EMUL_DS, 0x111100001000ull * 2 + 0xd0 + 0xc0, 4);
    e = RUN(64, "\x40\x8a\x20"); /* mov (%rax), %spl */
    assert_int_equal(e.reg[RSP], 0x111100001088ull);
    e = RUN(64, "\x8f\x04\x24"); /* pop (%rsp): the address is that after the pop */
    TOUCHED(EMUL_SS, 0x111100001048ull, 8);
    assert_int_equal(e.reg[RSP], 0x111100001048ull);
    (void)run(32, "\xf3\xab", 2, EMUL_PART); /* rep stosl: four rounds, no more, at once */
}

static void refused(void **state)
{
    static const struct {
        const char *code;
        size_t n;
    } no[] = {
        {"\x89\xc8", 2}, /* between registers */
        {"\x0f\xa2", 2},
        {"\xc7\x48\x00\x00\x00\x00\x00", 7},
        {"\xf4", 1},
        {"\xff\x10", 2},
        {"\x62\x00", 2},
        {"\x0f\xb6\xc0", 3},
        {"\x8f\x08", 2},
        {"\xf6\x20", 2},
        {"\x0f\xba\x00\x01", 4},
        {"\xf0\x89\x00", 3},
        {"\xf0\x39\x00", 3},
        {"\xf0\x0f\xba\x20\x01", 5},
        {"\xf0\x03\x00", 3},
        {"\x0f\x6f\x00", 3},
        {"\xc5\xfa\x6f\x00", 4},
        {"\x66\x0f\xc3\x00", 4},
    };
    static const struct {
        const char *code;
        unsigned n;
    } cut[] = {
        {"\x8b", 1},
        {"\x8b\x80\x00\x00", 4},
        {"\x0f", 1},
        {"", 0},
        {"\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x89", 15},
    };

    for (unsigned i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        (void)run(64, no[i].code, no[i].n, EMUL_UNKNOWN);
    for (unsigned i = 0; i < sizeof(cut) / sizeof(cut[0]); i++)
        (void)run(64, cut[i].code, cut[i].n, EMUL_CUT);
    (void)run(32, "\x63\x00", 2, EMUL_UNKNOWN); /* ARPL */
}

/* The other instruction of a repeated one: how it ends, and that no exit does too much. */
static void repeated(void **state)
{
    struct emul e = {
        .ops = &marks, .bits = 32, .stack_bytes = 4, .code = {0xf3, 0xab}, .code_bytes = 2, .rip = 5};

    e.reg[RCX] = 10;
    e.reg[RDI] = 0xfffffff8;
    rounds = 0;
    assert_int_equal(emul_run(&e, 4), EMUL_PART);
    assert_true(e.reg[RCX] == 6 && e.reg[RDI] == 8 && e.rip == 5 && rounds == 4);
    assert_int_equal(emul_run(&e, 4), EMUL_PART);
    assert_int_equal(emul_run(&e, 4), EMUL_DONE);
    assert_true(e.reg[RCX] == 0 && e.reg[RDI] == 0x20 && e.rip == 7);
    e.rip = 5;
    assert_int_equal(emul_run(&e, 4), EMUL_DONE); /* none left: nothing is touched */
    assert_true(e.reg[RDI] == 0x20 && e.rip == 7);
}

static int start(void **state)
{
    memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED || page == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_the_processor),
        cmocka_unit_test(other_modes),
        cmocka_unit_test(refused),
        cmocka_unit_test(repeated),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
