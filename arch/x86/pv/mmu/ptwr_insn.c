/*
 * Decoder for stores to page tables (SDM vol. 2, opcode maps of appendix A). Only the length and the
 * non-memory operand matter: where the store goes, the page fault has told. Flags of the arithmetic are as
 * the SDM gives them; undefined ones are left alone.
 */
#include "ptwr_insn.h"

#define FLAG_CF 0x001ull
#define FLAG_PF 0x004ull
#define FLAG_AF 0x010ull
#define FLAG_ZF 0x040ull
#define FLAG_SF 0x080ull
#define FLAG_OF 0x800ull

struct code {
    const uint8_t *p;
    unsigned n, at;
    bool overrun;
};

static uint8_t next(struct code *c)
{
    if (c->at < c->n)
        return c->p[c->at++];
    c->overrun = true;
    return 0;
}

static uint64_t width_mask(unsigned width)
{
    return width == 8 ? ~0ull : (1ull << (width * 8)) - 1;
}

/* Sign-extended immediate of `bytes` (1, 2 or 4). */
static uint64_t immediate(struct code *c, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)next(c) << (i * 8);
    return (uint64_t)((int64_t)(v << (64 - bytes * 8)) >> (64 - bytes * 8));
}

static uint64_t *gpr(struct guest_regs *r, unsigned i)
{
    uint64_t *const map[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi,
                               &r->r8,  &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15};

    return map[i & 15];
}

static uint64_t reg_read(const struct guest_regs *r, unsigned reg, unsigned width)
{
    struct guest_regs *m = (struct guest_regs *)r;

    return reg >= 16 ? *gpr(m, reg - 16) >> 8 & 0xff : *gpr(m, reg) & width_mask(width);
}

/* 32-bit results clear the upper half, smaller ones leave the rest. */
static void reg_write(struct guest_regs *r, unsigned reg, unsigned width, uint64_t v)
{
    uint64_t *g = gpr(r, reg >= 16 ? reg - 16 : reg);

    if (reg >= 16)
        *g = (*g & ~0xff00ull) | (v & 0xff) << 8;
    else if (width >= 4)
        *g = v & width_mask(width);
    else
        *g = (*g & ~width_mask(width)) | (v & width_mask(width));
}

struct prefixes {
    bool opsize, rep, rex;
    uint8_t rex_bits;
};

#define REX_W 8
#define REX_R 4

/* Takes prefixes off; returns the first opcode byte. An address-size prefix is not for kernels: refused as
 * 0x67. */
static uint8_t prefixes(struct code *c, struct prefixes *p)
{
    *p = (struct prefixes){false};
    for (;;) {
        uint8_t b = next(c);

        if (b == 0x66)
            p->opsize = true;
        else if (b == 0xf2 || b == 0xf3)
            p->rep = true;
        else if (b == 0xf0 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65)
            ; /* LOCK: we are atomic anyway; segments: the fault address is final */
        else if ((b & 0xf0) == 0x40) {
            p->rex = true;
            p->rex_bits = b & 15;
            return next(c);
        } else
            return b;
        if (c->overrun)
            return 0x67;
    }
}

/* ModRM with a memory operand, SIB and displacement skipped; the reg field without REX.R. False: a register
 * operand. */
static bool memory_operand(struct code *c, uint8_t *reg)
{
    uint8_t m = next(c), mod = m >> 6, rm = m & 7;

    *reg = m >> 3 & 7;
    if (mod == 3)
        return false;
    if (rm == 4) {
        uint8_t sib = next(c);

        if (mod == 0 && (sib & 7) == 5)
            (void)immediate(c, 4);
    } else if (mod == 0 && rm == 5) {
        (void)immediate(c, 4);
    }
    if (mod)
        (void)immediate(c, mod == 1 ? 1 : 4);
    return true;
}

enum operand { SRC_REG, SRC_IMM, SRC_IMM8, SRC_ONE, SRC_BIT_REG, SRC_BIT_IMM, SRC_STRING, SRC_BAD };

/* One-byte opcodes that write memory; *group: the reg field chooses among several. */
static enum operand opcode1(uint8_t b, enum ptwr_op *op)
{
    static const uint8_t alu[8] = {PTWR_ADD, PTWR_OR, 0xff, 0xff, PTWR_AND, PTWR_SUB, PTWR_XOR, 0xff};

    if (b < 0x40 && (b & 7) < 2 && alu[b >> 3] != 0xff) {
        *op = alu[b >> 3];
        return SRC_REG;
    }
    switch (b & 0xfe) {
    case 0x86:
        *op = PTWR_XCHG;
        return SRC_REG;
    case 0x88:
        *op = PTWR_MOV;
        return SRC_REG;
    case 0xa4:
        *op = PTWR_MOVS;
        return SRC_STRING;
    case 0xaa:
        *op = PTWR_STOS;
        return SRC_STRING;
    default:
        return SRC_BAD;
    }
}

/* Opcodes whose reg field is part of the opcode. */
static enum operand group1(uint8_t b, uint8_t reg, enum ptwr_op *op)
{
    static const uint8_t alu[8] = {PTWR_ADD, PTWR_OR, 0xff, 0xff, PTWR_AND, PTWR_SUB, PTWR_XOR, 0xff};

    switch (b) {
    case 0x80:
    case 0x81:
    case 0x83:
        if (alu[reg] == 0xff)
            return SRC_BAD;
        *op = alu[reg];
        return b == 0x81 ? SRC_IMM : SRC_IMM8;
    case 0xc6:
    case 0xc7:
        *op = PTWR_MOV;
        return reg ? SRC_BAD : b == 0xc6 ? SRC_IMM8 : SRC_IMM;
    case 0xf6:
    case 0xf7:
        *op = reg == 2 ? PTWR_NOT : PTWR_NEG;
        return reg == 2 || reg == 3 ? SRC_ONE : SRC_BAD;
    case 0xfe:
    case 0xff:
        *op = reg ? PTWR_DEC : PTWR_INC;
        return reg < 2 ? SRC_ONE : SRC_BAD;
    default:
        return SRC_BAD;
    }
}

static enum operand opcode2(uint8_t b, uint8_t reg, enum ptwr_op *op)
{
    switch (b) {
    case 0xab:
        *op = PTWR_BTS;
        return SRC_BIT_REG;
    case 0xb3:
        *op = PTWR_BTR;
        return SRC_BIT_REG;
    case 0xbb:
        *op = PTWR_BTC;
        return SRC_BIT_REG;
    case 0xba:
        *op = reg == 5 ? PTWR_BTS : reg == 6 ? PTWR_BTR : PTWR_BTC;
        return reg >= 5 ? SRC_BIT_IMM : SRC_BAD;
    case 0xb0:
    case 0xb1:
        *op = PTWR_CMPXCHG;
        return SRC_REG;
    case 0xc0:
    case 0xc1:
        *op = PTWR_XADD;
        return SRC_REG;
    case 0xc3: /* MOVNTI */
        *op = PTWR_MOV;
        return SRC_REG;
    default:
        return SRC_BAD;
    }
}

static bool two_byte_is_byte_wide(uint8_t b)
{
    return b == 0xb0 || b == 0xc0;
}

bool ptwr_decode(const uint8_t *code, unsigned n, const struct guest_regs *r, struct ptwr_insn *out)
{
    struct code c = {code, n < PTWR_INSN_MAX ? n : PTWR_INSN_MAX, 0, false};
    struct prefixes p;
    uint8_t b = prefixes(&c, &p), reg = 0;
    bool two = b == 0x0f, byte_wide;
    enum operand src;

    *out = (struct ptwr_insn){.rep = p.rep};
    if (two)
        b = next(&c);
    src = two ? SRC_BAD : opcode1(b, &out->op);
    if (src != SRC_STRING && !memory_operand(&c, &reg))
        return false;
    if (two)
        src = opcode2(b, reg, &out->op);
    else if (src == SRC_BAD)
        src = group1(b, reg, &out->op);
    if (src == SRC_BAD || (p.rep && src != SRC_STRING && b != 0x86 && b != 0x87))
        return false;
    byte_wide = two ? two_byte_is_byte_wide(b) : !(b & 1) && b != 0x83;
    out->width = byte_wide ? 1 : p.rex_bits & REX_W ? 8 : p.opsize ? 2 : 4;
    out->reg = reg | (p.rex_bits & REX_R ? 8 : 0);
    if (out->width == 1 && !p.rex && reg >= 4)
        out->reg = (uint8_t)(16 + reg - 4); /* AH, CH, DH, BH */

    switch (src) {
    case SRC_REG:
        out->source = reg_read(r, out->reg, out->width);
        break;
    case SRC_IMM:
        out->source = immediate(&c, out->width == 2 ? 2 : 4);
        break;
    case SRC_IMM8:
        out->source = immediate(&c, 1);
        break;
    case SRC_BIT_REG:
        out->source = reg_read(r, out->reg, out->width) & (out->width * 8u - 1);
        break;
    case SRC_BIT_IMM:
        out->source = immediate(&c, 1) & (out->width * 8u - 1);
        break;
    case SRC_STRING:
        out->source = r->rax;
        break;
    default:
        break;
    }
    out->source &= width_mask(out->width);
    out->len = (uint8_t)c.at;
    return !c.overrun;
}

/* --- arithmetic
 * ----------------------------------------------------------------------------------------------------- */

static void set_flags(struct guest_regs *r, uint64_t mask, uint64_t value)
{
    r->rflags = (r->rflags & ~mask) | (value & mask);
}

static uint64_t result_flags(uint64_t v, unsigned width)
{
    uint64_t f = 0;

    if (!(v & width_mask(width)))
        f |= FLAG_ZF;
    if (v >> (width * 8 - 1) & 1)
        f |= FLAG_SF;
    if (!(__builtin_popcount((unsigned)v & 0xff) & 1))
        f |= FLAG_PF;
    return f;
}

#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

static uint64_t add(struct guest_regs *r, uint64_t a, uint64_t b, unsigned width, uint64_t mask)
{
    uint64_t m = width_mask(width), v = (a + b) & m, f = result_flags(v, width);

    f |= v < (a & m) ? FLAG_CF : 0;
    f |= (a ^ b ^ v) & 0x10 ? FLAG_AF : 0;
    f |= (~(a ^ b) & (a ^ v)) >> (width * 8 - 1) & 1 ? FLAG_OF : 0;
    set_flags(r, mask, f);
    return v;
}

static uint64_t sub(struct guest_regs *r, uint64_t a, uint64_t b, unsigned width, uint64_t mask)
{
    uint64_t m = width_mask(width), v = (a - b) & m, f = result_flags(v, width);

    f |= (a & m) < (b & m) ? FLAG_CF : 0;
    f |= (a ^ b ^ v) & 0x10 ? FLAG_AF : 0;
    f |= ((a ^ b) & (a ^ v)) >> (width * 8 - 1) & 1 ? FLAG_OF : 0;
    set_flags(r, mask, f);
    return v;
}

static uint64_t logic(struct guest_regs *r, uint64_t v, unsigned width)
{
    set_flags(r, FLAGS_ARITH & ~FLAG_AF, result_flags(v, width));
    return v;
}

static uint64_t bit_op(const struct ptwr_insn *i, uint64_t old, struct guest_regs *r)
{
    uint64_t bit = 1ull << i->source;

    set_flags(r, FLAG_CF, old & bit ? FLAG_CF : 0);
    return i->op == PTWR_BTS ? old | bit : i->op == PTWR_BTR ? old & ~bit : old ^ bit;
}

static bool cmpxchg(const struct ptwr_insn *i, uint64_t old, struct guest_regs *r, uint64_t *result)
{
    (void)sub(r, reg_read(r, 0, i->width), old, i->width, FLAGS_ARITH);
    if (reg_read(r, 0, i->width) != old) {
        reg_write(r, 0, i->width, old);
        return false;
    }
    *result = i->source;
    return true;
}

bool ptwr_execute(const struct ptwr_insn *i, uint64_t old, struct guest_regs *r, uint64_t *result)
{
    unsigned w = i->width;

    old &= width_mask(w);
    switch (i->op) {
    case PTWR_MOV:
    case PTWR_STOS:
    case PTWR_MOVS:
        *result = i->source;
        break;
    case PTWR_ADD:
        *result = add(r, old, i->source, w, FLAGS_ARITH);
        break;
    case PTWR_SUB:
        *result = sub(r, old, i->source, w, FLAGS_ARITH);
        break;
    case PTWR_INC:
        *result = add(r, old, 1, w, FLAGS_ARITH & ~FLAG_CF);
        break;
    case PTWR_DEC:
        *result = sub(r, old, 1, w, FLAGS_ARITH & ~FLAG_CF);
        break;
    case PTWR_NEG:
        *result = sub(r, 0, old, w, FLAGS_ARITH);
        break;
    case PTWR_OR:
        *result = logic(r, old | i->source, w);
        break;
    case PTWR_AND:
        *result = logic(r, old & i->source, w);
        break;
    case PTWR_XOR:
        *result = logic(r, old ^ i->source, w);
        break;
    case PTWR_NOT:
        *result = ~old;
        break;
    case PTWR_BTS:
    case PTWR_BTR:
    case PTWR_BTC:
        *result = bit_op(i, old, r);
        break;
    case PTWR_XCHG:
        *result = i->source;
        reg_write(r, i->reg, w, old);
        break;
    case PTWR_XADD:
        *result = add(r, old, i->source, w, FLAGS_ARITH);
        reg_write(r, i->reg, w, old);
        break;
    case PTWR_CMPXCHG:
        return cmpxchg(i, old, r, result);
    }
    *result &= width_mask(w);
    return true;
}
