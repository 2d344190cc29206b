/* Decoder of the instructions that trap in a PV guest: pure, over a buffer of fetched bytes (arch/x86/pv/decode.c). */
#ifndef PV_DECODE_H
#define PV_DECODE_H

#include "core/types.h"
#include "x86/regs.h"

#define PV_INSN_MAX 15

enum pv_insn_op {
    PVI_NONE, /* not one of ours */
    PVI_IN,
    PVI_OUT,
    PVI_INS,
    PVI_OUTS,
    PVI_CLI,
    PVI_STI,
    PVI_HLT,
    PVI_CLTS,
    PVI_LMSW,
    PVI_SMSW,
    PVI_MOV_FROM_CR,
    PVI_MOV_TO_CR,
    PVI_MOV_FROM_DR,
    PVI_MOV_TO_DR,
    PVI_RDMSR,
    PVI_WRMSR,
    PVI_RDTSC,
    PVI_RDTSCP,
    PVI_RDPMC,
    PVI_CPUID,
    PVI_INVD,
    PVI_WBINVD,
    PVI_INVLPG,
    PVI_XSETBV,
    PVI_SWAPGS,
    PVI_SYSRET,
    PVI_SGDT,
    PVI_SIDT,
    PVI_SLDT,
    PVI_STR, /* with UMIP on */
};

enum pv_segment { PVS_ES, PVS_CS, PVS_SS, PVS_DS, PVS_FS, PVS_GS };

struct pv_insn {
    uint8_t op;         /* enum pv_insn_op */
    uint8_t len;        /* bytes */
    uint8_t op_bytes;   /* 1, 2, 4, 8: what is moved */
    uint8_t addr_bytes; /* 2, 4, 8 */
    uint8_t seg;        /* enum pv_segment: segment of a memory operand */
    uint8_t reg;        /* CR/DR number */
    uint8_t rm;         /* general register operand */
    bool rep;
    bool imm_port; /* IN/OUT with the port in `port` (else DX) */
    bool memory;   /* system-table and MSW instructions, INVLPG: operand at `addr` */
    uint8_t port;
    uint64_t addr; /* offset within seg, computed from the registers given */
};

/*
 * Decodes buf[0..n); bits is 64, 32 or 16 by the code segment; r gives register values for address forms.
 * False: not one of the instructions above, or it does not fit in n bytes.
 */
bool pv_decode(const uint8_t *buf, unsigned n, unsigned bits, const struct guest_regs *r,
               struct pv_insn *out);
/* Register i (0 = rax, 1 = rcx, ... as encoded) in r. */
uint64_t *pv_gpr(struct guest_regs *r, unsigned i);

#endif
