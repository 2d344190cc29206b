/*
 * Speculative execution: what this machine needs (docs/security.md). Decided once at boot (policy/speculation.c, pure), put
 * into the entry code by metal/speculation.c, which also answers for each processor.
 */
#ifndef X86_SPEC_H
#define X86_SPEC_H

/* Places in entry.S: a place is switched on if the plan has one of its bits. */
#define SPEC_XPTI 1 /* another page-table root while a guest runs */
#define SPEC_IBRS 2 /* SPEC_CTRL.IBRS written on each entry and exit */
#define SPEC_RSB  4 /* return stack overwritten on entry */
#define SPEC_VERW 8 /* buffers overwritten on exit */

/* cpu_info.flags */
#define CPUF_ROOT_STALE                                                                                      \
    1 /* xpti: the CPU's copy of the guest's L4 is to be made anew before the guest runs */

#ifdef __ASSEMBLER__
/* clang-format off */
/* A place that is off unless the plan has one of `bits`: a jump, which metal/speculation.c makes a NOP. */
    .macro SPEC_PLACE bits, skip
771: .byte 0xe9
    .long \skip - 772f
772:
    .pushsection krypton_spec, "a", @progbits
    .quad 771b, \bits
    .popsection
    .endm
/* clang-format on */
#else
#include "core/types.h"
#include "x86/cpu.h"

/* spec-ctrl=, xpti=: 0 off, 1 on, -1 as the machine needs it. */
struct spec_options {
    int8_t rsb, ibrs, ibpb, verw, xpti_dom0, xpti_domu;
};
#define SPEC_OPTIONS_DEFAULT ((struct spec_options){-1, -1, -1, -1, -1, -1})

enum spec_ibrs {
    SPEC_IBRS_NONE,
    SPEC_IBRS_ENTRY,  /* on while Krypton runs */
    SPEC_IBRS_ALWAYS, /* set once: the processor tells privilege levels apart itself */
    SPEC_IBRS_AUTO,   /* the same by EFER (AMD) */
};

struct spec_plan {
    enum spec_ibrs ibrs;
    bool rsb, ibpb, verw, xpti_dom0, xpti_domu;
    unsigned sites; /* SPEC_*: places of entry.S that are on */
};

/* The text after `=`; false: not understood, *o has what came before. */
bool must_check spec_parse(const char *text, struct spec_options *o);
bool must_check xpti_parse(const char *text, struct spec_options *o);
struct spec_plan spec_decide(const struct cpu_features *f, const struct spec_options *o);
/* "Speculation: ..." without a line's end. */
void spec_describe(const struct spec_plan *p, char *text, size_t size);

extern struct spec_plan spec_plan;
/* Once, the image still writable: decides, switches the places in entry.S. */
void spec_init(void);
/* This processor's own switches. */
void spec_init_cpu(void);
/* Has this processor what the plan needs? */
bool spec_cpu_suits(void);
/* No branch of what runs from here on is predicted by what ran before. */
void spec_barrier(void);

/* --- separate page tables (arch/x86/mm/xpti.c) --- */
/* Any domain with them? */
static inline bool xpti_active(void)
{
    return spec_plan.sites & SPEC_XPTI;
}
/* Tables for a CPU whose stack area is mapped; nothing to do without xpti. False: no memory. */
bool must_check xpti_init_cpu(unsigned cpu);
/* Machine address of the CPU's L4. */
uint64_t xpti_root(unsigned cpu);
/* From entry.S, interrupts off: copies the root of the running vCPU (cpu_info.hyp_cr3) into the CPU's L4. */
void xpti_copy_root(void);
#endif

#endif
