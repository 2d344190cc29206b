/* Inside test/sim only: the simulated CPU, and what the two engines (engine.c, threads.c) give the rest. */
#ifndef SIM_PRIVATE_H
#define SIM_PRIVATE_H

#include "sim.h"

#define SIM_TLB 32u
#define SIM_PDE 4u

struct sim_tlb_entry {
    uint64_t va, mfn;
    uint32_t use; /* of the frame, when it was looked up (machine.c) */
    bool valid, write;
};

enum sim_state { SIM_READY, SIM_WAITING, SIM_PARKED };

struct sim_cpu {
    unsigned id;
    struct vcpu *current;
    bool irqs_off, in_irq;
    bool kicked, flush_wanted; /* [a] IPIs that have not been taken yet */
    uint64_t deadline;         /* of its timer, ~0 = off */
    uint64_t cr3;
    struct sim_tlb_entry tlb[SIM_TLB], pde[SIM_PDE];
    uint64_t rng;

    /* the engine's */
    enum sim_state state;
    void *sp, *stack, *fake_stack;
    uint64_t stalled_until; /* in points */
    const char *file;       /* where it is */
    int line;
    const char *doing;
    uint64_t nr;
};
extern struct sim_cpu sim_cpus[SIM_CPUS];
extern _Thread_local struct sim_cpu *sim_me; /* NULL: the simulator itself */
extern uint64_t sim_seed;
extern bool sim_trace;     /* print all */
extern bool sim_finishing; /* [a] guests do nothing more; all domains go */
extern bool sim_gone;      /* [a] ... have gone */

/* --- engine.c, threads.c --- */
extern const bool sim_deterministic;
/* Runs the scenario on the CPUs (sim_cpu_main each), which are set up; returns when sim_gone. */
void sim_engine_run(void);
/* A waiting loop's turn. */
void sim_engine_relax(void);
/* Sleeps until an interrupt is there; interrupts off. */
void sim_engine_wait(void);
/* Between two turns: the place where all CPUs meet for checks. Interrupts off, no work pending. False: an
 * interrupt is to be taken, and no turn. */
bool sim_engine_boundary(void);
/* One turn was taken: false = there are no more. */
bool sim_engine_turn(void);
/* Something got done. */
void sim_engine_progress(void);
uint64_t sim_engine_now(void);
/* Why all stand still, for a report. */
void sim_engine_report(void);

/* --- machine.c --- */
void sim_machine_start(void);
void sim_machine_seed(void);
void sim_interrupts(struct sim_cpu *c);
bool sim_interrupt_waiting(const struct sim_cpu *c);
unsigned sim_domains_alive(void); /* ... that were allocated and not freed, without the system's */
extern const struct guest_ops sim_guest_ops;

/* --- world.c --- */
void sim_world_prepare(void);
void sim_world_start(const struct sim_scenario *s);
void sim_cpu_main(void);
void sim_world_check(void);
void sim_world_end_check(void);
/* Wakes whoever sleeps for good. */
void sim_world_rescue(void);
/* All CPUs idle and nothing to come: nobody may have been forgotten. */
void sim_world_lost_wakeups(void);

#endif
