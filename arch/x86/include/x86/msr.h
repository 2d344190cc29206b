/* Model-specific registers that we name (Intel SDM vol. 4, AMD APM vol. 2 appendix A). */
#ifndef X86_MSR_H
#define X86_MSR_H

#define MSR_APIC_BASE         0x1b
#define MSR_SPEC_CTRL         0x48
#define MSR_PRED_CMD          0x49
#define MSR_PLATFORM_INFO     0xce
#define MSR_MTRRCAP           0xfe
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_MISC_FEATURES     0x140
#define MSR_SYSENTER_CS       0x174
#define MSR_SYSENTER_ESP      0x175
#define MSR_SYSENTER_EIP      0x176
#define MSR_MCG_CAP           0x179
#define MSR_MCG_STATUS        0x17a
#define MSR_MISC_ENABLE       0x1a0
#define MSR_MTRR_BASE         0x200
#define MSR_PAT               0x277
#define MSR_MCG_CTL           0x17b
#define MSR_MC0_CTL           0x400
#define MSR_MC0_STATUS        0x401
#define MSR_MC0_ADDR          0x402
#define MSR_MC0_MISC          0x403
#define MSR_TSC_DEADLINE      0x6e0
#define MSR_X2APIC            0x800
#define MSR_X2APIC_ICR        0x830
#define MSR_EFER              0xc0000080
#define MSR_STAR              0xc0000081
#define MSR_LSTAR             0xc0000082
#define MSR_CSTAR             0xc0000083
#define MSR_SFMASK            0xc0000084
#define MSR_FS_BASE           0xc0000100
#define MSR_GS_BASE           0xc0000101
#define MSR_KERNEL_GS_BASE    0xc0000102
#define MSR_TSC_AUX           0xc0000103
#define MSR_HWCR              0xc0010015

#endif
