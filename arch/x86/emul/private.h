/* Inside arch/x86/emul: an instruction taken apart. */
#ifndef EMUL_PRIVATE_H
#define EMUL_PRIVATE_H

#include "x86/emul.h"

#define FLAG_CF   0x1ull
#define FLAG_PF   0x4ull
#define FLAG_AF   0x10ull
#define FLAG_ZF   0x40ull
#define FLAG_SF   0x80ull
#define FLAG_DF   0x400ull
#define FLAG_OF   0x800ull
#define FLAGS_ALU (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

/* What to do, from the table of opcodes (decode.c). */
enum action {
    NOTHING = 0, /* not known */
    ALU_MR,      /* memory <- memory op register; which: opcode bits 3-5 */
    ALU_RM,      /* register <- register op memory */
    GROUP1,      /* memory op constant; which: ModRM */
    TEST_MR,
    XCHG,
    MOV_MR,
    MOV_RM,
    MOV_MI,
    MOV_AM, /* accumulator <- moffs */
    MOV_MA,
    POP_M,
    GROUP3, /* TEST, NOT, NEG */
    GROUP5, /* INC, DEC, PUSH */
    MOVSXD,
    MOVX, /* MOVZX, MOVSX */
    CMPXCHG,
    XADD,
    BIT_R, /* BT, BTS, BTR, BTC by register */
    BIT_I,
    SETCC,
    CMOV,
    MOVNTI,
    VECTOR_LOAD,
    VECTOR_STORE,
    STRING,
};

struct insn {
    uint8_t action;
    uint8_t opcode;
    uint8_t modrm, rex;
    uint8_t bytes;         /* of the operation */
    uint8_t address_bytes; /* 2, 4, 8 */
    uint8_t repeat;        /* 0, 0xf2, 0xf3 */
    uint8_t length;
    bool operand16, lock, cut;
    int8_t segment;  /* from a prefix; -1 */
    uint8_t seg;     /* of the operand */
    uint64_t offset; /* of the operand, within address_bytes */
    uint64_t constant;
};

/* False: not known, or i->cut: not all of it is there. */
bool emul_decode(const struct emul *e, struct insn *i);

static inline uint64_t sign_extend(uint64_t v, unsigned bytes)
{
    unsigned shift = 64 - 8 * bytes;

    return (uint64_t)((int64_t)(v << shift) >> shift);
}
static inline unsigned insn_reg(const struct insn *i)
{
    return (i->modrm >> 3 & 7u) | (i->rex & 4u) << 1;
}

/* alu.c: results within bytes; *flags gets the arithmetic ones anew. which: 0 ADD, OR, ADC, SBB, AND, SUB, XOR, 7 CMP. */
uint64_t alu(unsigned which, uint64_t a, uint64_t b, unsigned bytes, uint64_t *flags);
uint64_t alu_step(bool down, uint64_t a, unsigned bytes, uint64_t *flags); /* INC, DEC: CF stays */
bool alu_condition(unsigned cc, uint64_t flags);

#endif
