/* A guest's general registers as the entry code leaves them at the top of the CPU's stack. */
#ifndef X86_REGS_H
#define X86_REGS_H

#ifndef __ASSEMBLER__
#include "core/types.h"

struct guest_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint32_t error_code;
    uint32_t vector; /* TRAP_* or ENTRY_* : why we came in */
    uint64_t rip, cs, rflags, rsp, ss;
};
_Static_assert(sizeof(struct guest_regs) == 168, "entry.S knows the layout");
#endif

/* Entry kinds beside vectors 0-255. */
#define ENTRY_SYSCALL    0x100
#define ENTRY_SYSENTER   0x101
#define ENTRY_CSTAR      0x102 /* syscall from 32-bit code */

#define TRAP_DE          0
#define TRAP_DB          1
#define TRAP_NMI         2
#define TRAP_BP          3
#define TRAP_OF          4
#define TRAP_BR          5
#define TRAP_UD          6
#define TRAP_NM          7
#define TRAP_DF          8
#define TRAP_TS          10
#define TRAP_NP          11
#define TRAP_SS          12
#define TRAP_GP          13
#define TRAP_PF          14
#define TRAP_MF          16
#define TRAP_AC          17
#define TRAP_MC          18
#define TRAP_XM          19
#define TRAP_CP          21

/* Interrupt vectors: 0x20-0xdf devices (0x80 is a guest software interrupt, 0x82 reserved), 0xf0.. ours. */
#define VEC_DEVICE_FIRST 0x20
#define VEC_DEVICE_LAST  0xdf
#define VEC_KICK         0xfb /* arch_cpu_kick */
#define VEC_FLUSH        0xfc /* TLB flush request */
#define VEC_CALL         0xfd /* run a function on other CPUs */
#define VEC_TIMER        0xf9
#define VEC_ERROR        0xfe
#define VEC_SPURIOUS     0xff

#define EFLAGS_CF        0x1
#define EFLAGS_TF        0x100
#define EFLAGS_IF        0x200
#define EFLAGS_DF        0x400
#define EFLAGS_IOPL      0x3000
#define EFLAGS_NT        0x4000
#define EFLAGS_RF        0x10000
#define EFLAGS_VM        0x20000
#define EFLAGS_AC        0x40000
#define EFLAGS_VIF       0x80000
#define EFLAGS_VIP       0x100000
#define EFLAGS_ID        0x200000
#define EFLAGS_MBS       0x2

#define PF_PRESENT       1
#define PF_WRITE         2
#define PF_USER          4
#define PF_RSVD          8
#define PF_FETCH         16

#endif
