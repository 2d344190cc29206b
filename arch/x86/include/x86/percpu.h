/* What a CPU finds at the top of its stack area: guest registers, current vCPU, its number. Reached by
 * masking rsp. */
#ifndef X86_PERCPU_H
#define X86_PERCPU_H

#include "x86/regs.h"
#include "x86/layout.h"

struct vcpu;

struct cpu_info {
    struct guest_regs regs; /* the running guest's; TSS.rsp0 and syscall push down from its end */
    uint32_t cpu;
    uint32_t flags; /* CPUF_*: what the exit path must do */
    struct vcpu *current;
    uint64_t cr4;       /* value loaded */
    uint64_t guest_cr3; /* separate page tables (XPTI): the guest-visible root to load on exit; 0 = off */
    uint64_t hyp_cr3;   /* ... and ours to load on entry */
    uint8_t spec_ctrl;  /* mitigations: bits for entry.S */
    uint8_t pad[7];
    uint64_t scratch[2]; /* [0]: the guest's rsp while the SYSCALL stub runs */
};
_Static_assert((sizeof(struct cpu_info) - sizeof(struct guest_regs)) % 16 == 0,
               "the processor aligns rsp0: regs must end there");

static inline struct cpu_info *cpu_info(void)
{
    uint64_t sp;
    __asm__("mov %%rsp, %0" : "=r"(sp)); /* the one asm outside metal: who am I */
    return (struct cpu_info *)((sp | (STACK_SIZE - 1)) + 1 - sizeof(struct cpu_info));
}
/* Registers of the guest that was interrupted or called us (valid between entry and exit). */
static inline struct guest_regs *current_regs(void)
{
    return &cpu_info()->regs;
}

#endif
