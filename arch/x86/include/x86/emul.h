/*
 * One instruction of a guest, executed on a structure: arch/x86/emul. Pure: registers are in the structure, memory is behind
 * functions. Only instructions that touch memory are known, because only they come here: what a guest does to a device.
 */
#ifndef X86_EMUL_H
#define X86_EMUL_H

#include "core/types.h"

#define EMUL_INSN_MAX 15u

/* Segments by their numbers in instructions. */
enum emul_seg { EMUL_ES, EMUL_CS, EMUL_SS, EMUL_DS, EMUL_FS, EMUL_GS };

enum emul_result {
    EMUL_DONE,    /* rip is behind the instruction */
    EMUL_PART,    /* a repeated one: some of its rounds are done, the next time goes on */
    EMUL_WAIT,    /* a function said so: nothing of this round has happened to registers */
    EMUL_FAULT,   /* the same; the guest has an exception */
    EMUL_UNKNOWN, /* another instruction */
    EMUL_CUT,     /* not all of it is in `code` */
};

struct emul;
struct emul_ops {
    /*
     * bytes: 1, 2, 4, 8, 16. operand: this is what ModRM names (or a moffs), of which an instruction has one; else a string's side or the
     * stack. EMUL_DONE, EMUL_WAIT, EMUL_FAULT.
     */
    enum emul_result (*read)(struct emul *e, enum emul_seg s, uint64_t offset, unsigned bytes, bool operand,
                             uint64_t value[2]);
    enum emul_result (*write)(struct emul *e, enum emul_seg s, uint64_t offset, unsigned bytes, bool operand,
                              const uint64_t value[2]);
    /* Register XMM n: false if the guest has none now. */
    bool (*vector)(struct emul *e, unsigned n, bool write, uint64_t value[2]);
    /* Registers are as after another round of a repeated instruction. */
    void (*round)(struct emul *e);
    /*
     * Many rounds of MOVS (from source:from to ES:to) or STOS (of value) at once, going up, or down with `down`: *count: how many
     * at most, and then how many were; 0: one by one. EMUL_DONE, EMUL_WAIT.
     */
    enum emul_result (*many)(struct emul *e, bool store, enum emul_seg source, uint64_t from, uint64_t to,
                             unsigned bytes, bool down, uint64_t value, uint64_t *count);
};

struct emul {
    const struct emul_ops *ops;
    uint64_t reg[16]; /* in the order of their numbers */
    uint64_t rip, rflags;
    uint8_t bits;        /* of the code segment: 16, 32, 64 */
    uint8_t stack_bytes; /* of the stack pointer: 2, 4, 8 */
    uint8_t code_bytes;
    uint8_t code[EMUL_INSN_MAX];
};

/* How long a far CALL or JMP, an IRET, INT n, INT3 or INTO at e->code is: the instructions that can switch tasks. 0: it is none. */
unsigned emul_task_length(const struct emul *e);
/* At most `rounds` of a repeated instruction. */
enum emul_result emul_run(struct emul *e, unsigned rounds);

/* Elements of a string instruction before its index, as wide as mask, turns over; or one less. */
static inline uint64_t string_straight(uint64_t index, uint64_t mask, unsigned bytes, bool down)
{
    return (down ? index : mask - index) / bytes;
}

#endif
