/* What entry.S knows of struct guest_regs, struct cpu_info and struct x86_vcpu (checked by desc.c). */
#ifndef METAL_OFFSETS_H
#define METAL_OFFSETS_H

#define REGS_R15             0
#define REGS_RBP             32
#define REGS_R11             48
#define REGS_RCX             88
#define REGS_ERROR           120
#define REGS_VECTOR          124
#define REGS_RIP             128
#define REGS_CS              136
#define REGS_RFLAGS          144
#define REGS_RSP             152
#define REGS_SS              160
#define REGS_SIZE            168

#define INFO_FLAGS           172
#define INFO_CURRENT         176
#define INFO_GUEST_CR3       192
#define INFO_HYP_CR3         200
#define INFO_WORK            224
#define INFO_SCRATCH         232
#define INFO_SIZE            248

#define VCPU_INFO            40
/* Two flags side by side. */
#define VCPU_NMI_MCE_PENDING 920

#endif
