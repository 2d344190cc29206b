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
    uint32_t flags; /* CPUF_* (x86/spec.h): what the exit path must do */
    struct vcpu *current;
    uint64_t cr4; /* value loaded */
    uint64_t
        guest_cr3; /* separate page tables (xpti): this CPU's L4, to be loaded on exit; 0 = the guest has none */
    uint64_t
        hyp_cr3; /* ... and the vCPU's root, loaded on entry. Valid while a guest is loaded and xpti_active() */
    uint64_t last_domain; /* serial of the domain whose vCPU ran here last (IBPB) */
    uint32_t *perf;       /* this CPU's counters (core/perf.h) */
    const uint32_t *work; /* core/work.h: work_word of this CPU */
    uint64_t scratch[2];  /* [0]: the guest's rsp while the SYSCALL stub runs */
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
