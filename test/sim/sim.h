/*
 * The simulator: several CPUs of the fake machine at once, each running what its vCPU does, interleaved at every
 * atomic step, guest access, preemption check, waiting loop and interrupt. In `sim` the CPUs are coroutines and
 * a seed decides all of it (engine.c): the same seed gives the same run. In `sim-threads` they are threads, for
 * ThreadSanitizer (threads.c).
 *
 * What is real: core, pv/mmu, the TLB flush protocol (arch/x86/mm/tlb.c), scheduling of vCPUs onto CPUs, deferred
 * work, timers. What is simulated: the processor (interrupt flag, IPIs, TLB and table walks), the clock, the
 * guests. How to write a scenario: docs/testing.md.
 */
#ifndef SIM_H
#define SIM_H

#include "core/abi.h"
#include "core/domain.h"
#include "core/errno.h"
#include "core/frame.h"
#include "core/hypercall.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "x86/pte.h"
#include "x86/pv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_CPUS   3u
#define SIM_FRAMES 1024u
#define SIM_ARG    8192u

/* What a guest's vCPU is doing. */
struct sim_vcpu {
    struct vcpu *v;
    struct hypercall hc; /* its hypercall; goes on with the vCPU's next turn while `again` */
    bool again;          /* hc, or job, has said "again" */
    long (*job)(
        struct sim_vcpu *s); /* work of the control domain that is no hypercall yet; HC_AGAIN: again */
    struct domain *target;   /* the job's */
    uint64_t data[4];        /* the scenario's */
    char *arg;               /* SIM_ARG bytes of its memory, for arguments */
};

struct sim_scenario {
    const char *name;
    unsigned turns;                   /* of guests, until the end */
    void (*start)(void);              /* makes domains; they run after it */
    void (*step)(struct sim_vcpu *s); /* a vCPU's turn: accesses memory, or sets up a hypercall or a job */
    void (*irq)(void);   /* may be NULL: a device interrupt, interrupts off, on any CPU at any time */
    void (*check)(void); /* may be NULL: more checks while all CPUs are between two turns */
    void (*end)(void);   /* may be NULL: after all domains have gone */
};
extern const struct sim_scenario sim_events, sim_fifo, sim_grants, sim_frames, sim_mmu, sim_life, sim_sched;

/* --- chance: of this CPU, from the seed --- */
uint32_t sim_rnd(uint32_t below);
static inline bool sim_one_in(uint32_t n)
{
    return sim_rnd(n) == 0;
}

/* --- places at which others may go on --- */
void sim_point(const char *file, int line);
#define SIM_POINT() sim_point(__FILE__, __LINE__)
/* A line of the trace of a replay; costs nothing else. */
void sim_note(const char *fmt, ...) printf_like(1, 2);
/* Something is wrong: ends the run like a panic. */
__attribute__((noreturn)) void sim_fail(const char *fmt, ...) printf_like(1, 2);
#define SIM_CHECK(x)                                                                                         \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            sim_fail("%s:%d: %s", __FILE__, __LINE__, #x);                                                   \
    } while (0)

/* --- the world --- */
#define SIM_DOMAINS 4u
extern struct domain
    *sim_dom[SIM_DOMAINS]; /* [0] is the control domain; the simulator holds a reference each */
extern unsigned sim_domains;
extern const struct sim_scenario *sim_scenario;
/* A guest with running vCPUs; the first one is the control domain. */
struct domain *sim_domain(unsigned vcpus, unsigned max_frames);
mfn_t sim_page(struct domain *d);
static inline void *sim_va(mfn_t m)
{
    return arch_frame_va(m);
}
struct sim_vcpu *sim_of(const struct vcpu *v);
/* Any of the domains made. */
struct domain *sim_any(void);

/* Sets up the hypercall that s makes in this turn. */
static inline void sim_call(struct sim_vcpu *s, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2,
                            uint64_t a3)
{
    s->hc = (struct hypercall){.caller = s->v, .nr = nr, .arg = {a0, a1, a2, a3}};
}
/* `what` copied to s's argument memory; its address as the guest gives it. */
#define SIM_PUT(s, what) ((uint64_t)(uintptr_t)memcpy((s)->arg, &(what), sizeof(what)))
static inline void sim_job(struct sim_vcpu *s, long (*job)(struct sim_vcpu *), struct domain *target)
{
    s->job = job;
    s->target = target;
}
/* Jobs of the control domain. */
long sim_kill(struct sim_vcpu *s);

/* --- page tables --- */
#define SIM_BASE    0x500000000000ull /* where the one region of a guest's begins */
#define SIM_DATA    8u /* its first pages: data; then its level-1 and level-2 tables, read-only */
#define SIM_PAGE(i) (SIM_BASE + (uint64_t)(i)*FRAME_SIZE)
#define SIM_RO      (PTE_P | PTE_US | PTE_A | PTE_D)
#define SIM_RW      (SIM_RO | PTE_RW)
#define SIM_TABLE   (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)
struct sim_space {
    mfn_t l4, l3, l2, l1, data[SIM_DATA];
};
extern struct sim_space sim_space[SIM_DOMAINS];
/* Tables for d, pinned, as the root of all its vCPUs; before it runs. */
void sim_space_make(struct domain *d);
void sim_space_check_foreign(bool (*allowed)(struct domain *d, uint64_t mfn));

/* --- the simulated processor --- */
/* Whom a CPU runs. */
struct vcpu *sim_runs(unsigned cpu);
/* v's kernel on this CPU reads (or writes `value` to) the 8 bytes at va through TLB and page tables. False: a
 * fault. Fails the run if a stale translation leads to a frame that is somebody else's by now. */
bool sim_touch(struct vcpu *v, uint64_t va, bool write, uint64_t value);

#endif
