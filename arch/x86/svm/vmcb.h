/*
 * The virtual machine control block (AMD APM vol. 2 appendix B) and its codes (appendix C). Never leaves this room.
 */
#ifndef SVM_VMCB_H
#define SVM_VMCB_H

#include "core/types.h"

struct vmcb_segment {
    uint16_t sel, attr;
    uint32_t limit;
    uint64_t base;
};

struct vmcb {
    /* control area */
    uint16_t cr_read, cr_write, dr_read, dr_write; /* 000: intercepts */
    uint32_t exceptions;                           /* 008 */
    uint32_t general1, general2, general3;         /* 00c */
    uint8_t reserved0[0x3c - 0x18];
    uint16_t pause_threshold, pause_count; /* 03c */
    uint64_t iopm, msrpm, tsc_offset;      /* 040 */
    uint32_t asid;                         /* 058 */
    uint8_t tlb_control, reserved1[3];
    uint64_t vintr;                   /* 060: V_TPR and the rest */
    uint64_t shadow;                  /* 068 */
    uint64_t exit_code, info1, info2; /* 070 */
    uint64_t exit_int_info;           /* 088 */
    uint64_t nested;                  /* 090 */
    uint8_t reserved2[0xa8 - 0x98];
    uint64_t event;             /* 0a8 */
    uint64_t ncr3;              /* 0b0 */
    uint64_t lbr_control;       /* 0b8 */
    uint64_t clean;             /* 0c0 */
    uint64_t next_rip;          /* 0c8 */
    uint8_t fetched, bytes[15]; /* 0d0 */
    uint8_t reserved3[0x400 - 0xe0];
    /* state save area */
    struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; /* 400 */
    uint8_t reserved4[0x4cb - 0x4a0];
    uint8_t cpl; /* 4cb */
    uint32_t reserved5;
    uint64_t efer; /* 4d0 */
    uint8_t reserved6[0x548 - 0x4d8];
    uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip; /* 548 */
    uint8_t reserved7[0x5d8 - 0x580];
    uint64_t rsp; /* 5d8 */
    uint8_t reserved8[0x5f8 - 0x5e0];
    uint64_t rax, star, lstar, cstar, sfmask, kernel_gs, sysenter_cs, sysenter_esp, sysenter_eip,
        cr2; /* 5f8 */
    uint8_t reserved9[0x668 - 0x648];
    uint64_t pat, dbgctl, branch_from, branch_to, exception_from, exception_to; /* 668 */
    uint8_t reserved10[0x1000 - 0x698];
};
_Static_assert(sizeof(struct vmcb) == 4096 && offsetof(struct vmcb, iopm) == 0x40 &&
                   offsetof(struct vmcb, vintr) == 0x60 && offsetof(struct vmcb, event) == 0xa8 &&
                   offsetof(struct vmcb, next_rip) == 0xc8 && offsetof(struct vmcb, es) == 0x400 &&
                   offsetof(struct vmcb, cpl) == 0x4cb && offsetof(struct vmcb, efer) == 0x4d0 &&
                   offsetof(struct vmcb, cr4) == 0x548 && offsetof(struct vmcb, rip) == 0x578 &&
                   offsetof(struct vmcb, rsp) == 0x5d8 && offsetof(struct vmcb, rax) == 0x5f8 &&
                   offsetof(struct vmcb, cr2) == 0x640 && offsetof(struct vmcb, pat) == 0x668,
               "APM vol. 2 appendix B");

/* general1 */
#define SVM_G1_INTR          (1u << 0)
#define SVM_G1_NMI           (1u << 1)
#define SVM_G1_SMI           (1u << 2)
#define SVM_G1_INIT          (1u << 3)
#define SVM_G1_VINTR         (1u << 4)
#define SVM_G1_RDTSC         (1u << 14)
#define SVM_G1_RDPMC         (1u << 15)
#define SVM_G1_CPUID         (1u << 18)
#define SVM_G1_RSM           (1u << 19)
#define SVM_G1_IRET          (1u << 20)
#define SVM_G1_INVD          (1u << 22)
#define SVM_G1_HLT           (1u << 24)
#define SVM_G1_INVLPGA       (1u << 26)
#define SVM_G1_IOIO          (1u << 27)
#define SVM_G1_MSR           (1u << 28)
#define SVM_G1_TASK_SWITCH   (1u << 29)
#define SVM_G1_FERR          (1u << 30)
#define SVM_G1_SHUTDOWN      (1u << 31)
/* general2 */
#define SVM_G2_VMRUN         (1u << 0)
#define SVM_G2_VMMCALL       (1u << 1)
#define SVM_G2_VMLOAD        (1u << 2)
#define SVM_G2_VMSAVE        (1u << 3)
#define SVM_G2_STGI          (1u << 4)
#define SVM_G2_CLGI          (1u << 5)
#define SVM_G2_SKINIT        (1u << 6)
#define SVM_G2_RDTSCP        (1u << 7)
#define SVM_G2_WBINVD        (1u << 9)
#define SVM_G2_MONITOR       (1u << 10)
#define SVM_G2_MWAIT         (1u << 11)
#define SVM_G2_MWAIT_ARMED   (1u << 12)
#define SVM_G2_XSETBV        (1u << 13)
#define SVM_G2_RDPRU         (1u << 14)
/* general3: instructions that no guest of ours has: INVLPGB (two bits), MCOMMIT, TLBSYNC. INVPCID, bit 2, is a guest's own: it reaches
 * translations of its ASID only. */
#define SVM_G3_HIDDEN        0x1bu

/* cr_write */
#define SVM_CR8_WRITE        (1u << 8) /* in cr_write */

/* vintr */
#define SVM_V_TPR            0xffull
#define SVM_V_IRQ            (1ull << 8)
#define SVM_V_NMI            (1ull << 11)
#define SVM_V_NMI_MASK       (1ull << 12)
#define SVM_V_NMI_ON         (1ull << 26)
#define SVM_V_PRIO           (0xfull << 16)
#define SVM_V_IGN_TPR        (1ull << 20)
#define SVM_V_MASKING        (1ull << 24)
#define SVM_SHADOW           1ull
#define SVM_NESTED_ON        1ull

/* event, exit_int_info */
#define SVM_EVENT_VALID      (1ull << 31)
#define SVM_EVENT_ERROR      (1ull << 11)
#define SVM_EVENT_TYPE(n)    ((uint64_t)(n) << 8)
#define SVM_TYPE_IRQ         0
#define SVM_TYPE_NMI         2
#define SVM_TYPE_EXCEPTION   3
#define SVM_TYPE_SOFTWARE    4

/* clean: what the processor may have kept since the last entry */
#define SVM_CLEAN_INTERCEPTS (1u << 0)
#define SVM_CLEAN_MAPS       (1u << 1)
#define SVM_CLEAN_ASID       (1u << 2)
#define SVM_CLEAN_VINTR      (1u << 3)
#define SVM_CLEAN_NESTED     (1u << 4)
#define SVM_CLEAN_CR         (1u << 5)
#define SVM_CLEAN_DR         (1u << 6)
#define SVM_CLEAN_TABLES     (1u << 7)
#define SVM_CLEAN_SEGMENTS   (1u << 8)
#define SVM_CLEAN_CR2        (1u << 9)
#define SVM_CLEAN_ALL        0x3ffu

#define SVM_TLB_NOTHING      0
#define SVM_TLB_ALL          1

/* exit codes */
#define SVM_EXIT_CR0_WRITE   0x10
#define SVM_EXIT_CR4_WRITE   0x14
#define SVM_EXIT_CR8_WRITE   0x18
#define SVM_EXIT_DR_READ     0x20
#define SVM_EXIT_DR_WRITE    0x30
#define SVM_EXIT_EXCEPTION   0x40
#define SVM_EXIT_INTR        0x60
#define SVM_EXIT_NMI         0x61
#define SVM_EXIT_SMI         0x62
#define SVM_EXIT_INIT        0x63
#define SVM_EXIT_VINTR       0x64
#define SVM_EXIT_RDTSC       0x6e
#define SVM_EXIT_RDPMC       0x6f
#define SVM_EXIT_CPUID       0x72
#define SVM_EXIT_IRET        0x74
#define SVM_EXIT_INVD        0x76
#define SVM_EXIT_HLT         0x78
#define SVM_EXIT_IOIO        0x7b
#define SVM_EXIT_MSR         0x7c
#define SVM_EXIT_TASK_SWITCH 0x7d
#define SVM_EXIT_FERR        0x7e
#define SVM_EXIT_SHUTDOWN    0x7f
#define SVM_EXIT_VMMCALL     0x81
#define SVM_EXIT_RDTSCP      0x87
#define SVM_EXIT_WBINVD      0x89
#define SVM_EXIT_XSETBV      0x8d
#define SVM_EXIT_NPF         0x400
#define SVM_EXIT_INVALID     (~0u) /* -1; QEMU's processor writes 32 bits of it */

#endif
