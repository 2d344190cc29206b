/* Instructions that move between a register or constant and memory, decoded for MMIO (arch/x86/hvm/insn.c). Pure. */
#ifndef HVM_INSN_H
#define HVM_INSN_H

#include "core/types.h"

#define INSN_MAX 15u

struct hvm_insn {
    uint8_t length;
    uint8_t bytes;     /* of the access: 1, 2, 4, 8 */
    bool load, store;  /* both: XCHG */
    bool constant;     /* store: of .value, not of a register */
    uint8_t reg;       /* number, 0-15 */
    bool high;         /* bits 8-15 of it (AH, CH, DH, BH) */
    uint8_t reg_bytes; /* load: written into so many bytes of it, extended */
    bool sign;         /* ... with the sign */
    uint64_t value;
};
/* bits: 16, 32, 64, of the code segment. False: another instruction, or n bytes are not enough for it. */
bool must_check hvm_insn_decode(const uint8_t *code, size_t n, unsigned bits, struct hvm_insn *out);

#endif
