/*
 * The fake machine: everything that core and pv/mmu may ask of a machine (include/arch, x86/tlb.h, x86/mm.h),
 * as an ordinary program in one thread. A test starts a machine, chooses which simulated processor is "this"
 * one, moves the clock, and says what is to fail. Every function of the seam is defined weakly: a room that
 * supplies the real one wins, as does a test that defines its own.
 *
 * Nothing in the product includes this.
 */
#ifndef FAKE_H
#define FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/abi.h"
#include "core/alloc.h"
#include "core/domain.h"
#include "core/frame.h"
#include "core/hypercall.h"
#include "core/log.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "arch/time.h"

/* --- the machine --- */
struct fake_range {
    uint64_t start, end; /* frame numbers */
    unsigned node;
};
/* A machine with frames [16, 16 + frames) on node 0 and so many processors, clock at 1 s, this CPU = 0, no
 * current vCPU. */
void fake_start(uint64_t frames, unsigned cpus);
void fake_start_ranges(const struct fake_range *r, unsigned count, unsigned cpus);
/* Ends it: checks the memory room, forgets all. Domains that were made by fake_domain are freed. */
void fake_stop(void);
/* cmocka fixtures: 4096 frames, 2 CPUs. */
int fake_setup(void **state);
int fake_teardown(void **state);

extern unsigned fake_cpu;                   /* the processor that runs now */
extern struct vcpu *fake_current[MAX_CPUS]; /* arch_current() of each; NULL: none yet */
extern bool fake_irqs_off[MAX_CPUS];
extern uint32_t fake_kicks[MAX_CPUS]; /* arch_cpu_kick() calls since the start */
extern bool fake_kicked[MAX_CPUS];    /* ... since fake_settle() looked at that CPU */
extern unsigned fake_node_of_cpu[MAX_CPUS];
extern uint32_t fake_switches; /* arch_context_switch() calls */
static inline void fake_run_as(struct vcpu *v)
{
    fake_current[fake_cpu] = v;
}

/* --- time --- */
extern uint64_t fake_now;                      /* arch_time_ns() */
extern uint64_t fake_timer_deadline[MAX_CPUS]; /* what arch_timer_program() was told; ~0 = off */
/* Runs deferred work on all CPUs until none has any (kicks included). */
void fake_settle(void);
/* Moves the clock to `when`, stopping at every programmed deadline for the timer work of its CPU, settling
 * each time. */
void fake_run_until(uint64_t when);

/* --- failures: the nth call from now fails (1 = the next), 0 = none --- */
extern unsigned fake_fail_alloc;   /* frames, and through them new slabs */
extern unsigned fake_fail_mem;     /* mem_alloc and mem_alloc_array */
extern unsigned fake_fail_copy;    /* guest copies */
extern unsigned fake_fail_physmap; /* arch_physmap_add */
extern unsigned fake_fail_map;     /* arch_grant_map */
/* preempt_needed() says yes at the nth call from now and at each nth after it (0 = the product's own answer). */
extern unsigned fake_preempt_every;
extern unsigned fake_copies; /* guest copies so far */

/* --- panics --- */
/* Passes when the statement panics with a message that contains `text`. The machine is as the panic left it:
 * locks that were held are forgotten. Do not use it around something that must free host memory. */
#define expect_panic(text, statement)                                                                        \
    do {                                                                                                     \
        fake_panic_expected = true;                                                                          \
        if (!setjmp(fake_panic_env)) {                                                                       \
            statement;                                                                                       \
            fail_msg("no panic: %s", #statement);                                                            \
        }                                                                                                    \
        fake_panic_expected = false;                                                                         \
        fake_panic_check(text);                                                                              \
    } while (0)
extern bool fake_panic_expected;
extern jmp_buf fake_panic_env;
void fake_panic_check(const char *text);
extern char fake_last_log[256]; /* last line that was logged */
extern unsigned fake_log_lines;

/* --- domains --- */
/* A guest kind whose addresses are host pointers; below 64 KiB and inside fake_fault_* they fault. */
extern const struct guest_ops fake_guest_ops, fake_translated_ops;
extern uint64_t fake_fault_start, fake_fault_end; /* this range faults */
extern uint64_t fake_window_start,
    fake_window_end; /* if set, all else faults: for tests with random pointers */
/*
 * A bare domain for rooms below core/domain: id, ops, page_lock, lock, max_frames, one vCPU (id 0), nothing
 * published. Freed by fake_stop. For whole domains use domain_create with fake_guest_ops.
 */
struct domain *fake_domain(uint16_t id, uint64_t max_frames);
/* Whole domains (life.c): a machine with its scheduler, each CPU idle; a domain with all its vCPUs; its end, at once or with its last
 * reference and all that was to be done later. */
void fake_machine(uint64_t frames, unsigned cpus);
struct domain *fake_domain_new(uint16_t id, const struct domain_config *c);
void fake_domain_kill(struct domain *d);
void fake_domain_end(struct domain *d);
static inline struct vcpu *fake_vcpu0(struct domain *d)
{
    return d->vcpu[0];
}
/* Runs one hypercall to its end as v: repeats it while it says HC_AGAIN (each time with the arguments it
 * left), dispatching through `ops` (a room's table). *again, if given, counts the repetitions. */
long fake_hypercall(struct vcpu *v, const struct hc_op *ops, unsigned count, uint32_t op_mask, uint64_t a0,
                    uint64_t a1, uint64_t a2, unsigned *again);

/* --- what the machine saw --- */
extern uint32_t fake_flushes[MAX_CPUS]; /* TLB flushes of each CPU */
extern uint32_t fake_flush_kind;        /* of the last one */
extern uint64_t fake_flush_va;
extern uint32_t fake_zeroed; /* arch_frame_zero() calls */
/* Whoever writes to a domain's frame sets its type (arch_frame_untouched); false at the start of a test. */
extern bool fake_types_show_writes;

/* Grants: mappings made by arch_grant_map and not undone; pins by arch_grant_pin. */
extern unsigned fake_grant_maps, fake_grant_flushes;
unsigned fake_pins(mfn_t m, bool writable);
/* A frame that refuses writable pins, as a page table does. */
void fake_set_page_table(mfn_t m, bool is);
bool fake_is_mapped(uint64_t addr, mfn_t m);

/* PIRQs. */
extern uint32_t fake_pirq_bound, fake_pirq_unmasked; /* number of calls */
extern bool fake_pirq_deny;

#endif
