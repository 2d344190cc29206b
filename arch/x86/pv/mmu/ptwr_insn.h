/* The instructions with which kernels write page-table entries in place: decoding and arithmetic, pure
 * (ptwr_insn.c). */
#ifndef PV_MMU_PTWR_INSN_H
#define PV_MMU_PTWR_INSN_H

#include "core/types.h"
#include "x86/regs.h"

#define PTWR_INSN_MAX 15

enum ptwr_op {
    PTWR_MOV,
    PTWR_STOS,
    PTWR_MOVS,
    PTWR_ADD,
    PTWR_OR,
    PTWR_AND,
    PTWR_SUB,
    PTWR_XOR,
    PTWR_INC,
    PTWR_DEC,
    PTWR_NOT,
    PTWR_NEG,
    PTWR_BTS,
    PTWR_BTR,
    PTWR_BTC,
    PTWR_XCHG,
    PTWR_CMPXCHG,
    PTWR_XADD,
};

struct ptwr_insn {
    enum ptwr_op op;
    uint8_t len, width; /* bytes of the instruction, of the operand (1, 2, 4, 8) */
    bool rep;           /* STOS, MOVS */
    uint8_t reg;        /* XCHG, XADD: register that gets the old value; may be a high byte: 16 + 0..3 */
    uint64_t source;    /* value of the register or immediate operand, width bits */
};

/* 64-bit code; the memory operand is known from the fault. False: not one of these, or not within n bytes. */
bool ptwr_decode(const uint8_t *code, unsigned n, const struct guest_regs *r, struct ptwr_insn *out);
/*
 * What the instruction makes of memory contents `old`: the new contents in *result; registers and flags in r
 * (rip and string registers not). False: nothing is written (CMPXCHG that does not match).
 */
bool ptwr_execute(const struct ptwr_insn *i, uint64_t old, struct guest_regs *r, uint64_t *result);

#endif
