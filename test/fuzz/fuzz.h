/*
 * Fuzzing the host library (docs/testing.md). An input is a program: steps of (vCPU, fault to inject, operation, arguments).
 * The world is a machine with a control domain and two guests that have page tables, grants and event channels; it is built
 * once and put back before each input (snapshot.c), so that an input always does the same. After every step the rooms'
 * checks and the reference models (test/model) run.
 *
 *   driver.c   inputs -> steps; faults; checks      world.c    the domains, snapshot
 *   machine.c  what pv/ and the processors do: guest memory, context switches, the TLB model     translated.c  a guest with a p2m
 *   hardware.c interrupt controllers, devices, firmware: they agree to all        device.c  that guest's devices and device models
 *   ops_*.c    operations, by room                  fuzz_*.c   one target each: which operations it draws from
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "fake.h"
#include "model.h"

/* --- the input --- */
struct in {
    const uint8_t *p, *end;
};
uint8_t in_u8(struct in *in); /* 0 at the end */
uint16_t in_u16(struct in *in);
uint32_t in_u32(struct in *in);
uint64_t in_u64(struct in *in);
/* Below n, from one byte. */
unsigned in_below(struct in *in, unsigned n);
/* A number that breaks things: small, powers of two and their neighbours, or any. */
uint64_t in_number(struct in *in);

/* --- the world --- */
#define FUZZ_CPUS   6
#define FUZZ_FRAMES 3072
#define FUZZ_PAGES  32 /* pages of a guest that the world has names for */
#define FUZZ_VCPUS  2
#define FUZZ_GUESTS 3
#define ARENA       0x4000 /* guest memory for arguments, per vCPU */

/* Page names: [0] L4 [1] L3 [2] L2 [3] L1 (maps all pages) [4] L1 (empty but for its first entries) [5] user L4 [6] user L3 ...
 * [8..] data, mapped writable at FUZZ_VA. */
enum { PG_L4, PG_L3, PG_L2, PG_L1, PG_L1B, PG_UL4, PG_DESC, PG_LDT, PG_DATA };
#define FUZZ_VA   0x500000000000ull       /* page i of PG_L1 is FUZZ_VA + i * FRAME_SIZE */
#define FUZZ_VA_B (FUZZ_VA + 0x200000ull) /* the same of PG_L1B */

struct guest {
    struct domain *d;
    mfn_t page[FUZZ_PAGES];
    uint32_t port[16]; /* ports it was given last, any of them may be closed */
    unsigned ports;
    uint32_t handle[16];
    unsigned handles;
};
extern struct guest guests[FUZZ_GUESTS]; /* [0] is the control domain, which owns the hardware */

/* Of a translated guest page[] are guest frame numbers. */
#define FUZZ_GFN       0x10ull
#define FUZZ_GFN_LARGE 0x200ull /* a large page */
#define FUZZ_GFN_GRANT 0x480ull /* here and at the next 15 it maps grants */
void translated_machine(void);
void translated_make(struct guest *g);
/* The page that the number means, made reachable for a write as by the nested fault that the CPU would take. */
bool translated_reach(struct domain *d, mfn_t *m);

/* Its devices. _run: two accesses, the second with 0 bytes if there is none, are an instruction of its. _busy: it waits for a device model, or is to tell one. */
struct hvm_access;
int device_domain_init(struct domain *d);
void device_domain_release(struct domain *d);
void device_domain_free(struct domain *d);
int device_vcpu_init(struct vcpu *v);
void device_vcpu_free(struct vcpu *v);
void device_check(struct domain *d);
void device_run(struct vcpu *v, const struct hvm_access *a);
bool device_busy(const struct vcpu *v);
void device_go_on(struct vcpu *v);

void world_build(bool pinned_cpus);
void world_reset(void); /* as it was built */
/* Whose domain does not exist any more is another name for the control domain. */
void world_forget_gone(void);

/* --- the machine --- */
extern char *guest_memory; /* ARENA for each CPU, then one area that all may name */
#define GUEST_MEMORY (ARENA * (FUZZ_CPUS + 1))
/* Memory for this step's arguments, as the caller sees it; zeroed; never NULL (wraps around). */
void *arg_alloc(size_t bytes);
extern unsigned fuzz_fail_copy,
    fuzz_flip_copy; /* the nth copy from now fails / is followed by a change of what was read */
/* May CPU c write / read frame m by a translation that it may hold? */
bool tlb_can_write(unsigned cpu, mfn_t m);
/* A CPU that runs a vCPU of d has lost what it held of d's, and takes in what d's tables give now. */
void tlb_flush_domain(struct domain *d);
/* A CPU takes in what its tables give. */
void tlb_fill(unsigned cpu);
/* All CPUs take in what their tables give; panics when one holds what it must not. */
void tlb_model_check(void);
void tlb_model_reset(void);

/* The control domain may end the machine, and its input with it; a guest, or the world of a unit test, must not. */
__attribute__((noreturn)) void machine_ended(const char *how);

/* --- operations --- */
struct step {
    struct in *in;
    struct guest *g;
    struct vcpu *v; /* the caller: current on its CPU */
};
struct fuzz_op {
    const char *name;
    void (*fn)(struct step *s);
};
struct fuzz_group {
    const struct fuzz_op *op;
    unsigned count;
};
extern const struct fuzz_group ops_mmu, ops_memory, ops_grant, ops_evtchn, ops_sched, ops_life, ops_any,
    ops_alloc, ops_p2m, ops_control, ops_platform, ops_hvm;

/* A hypercall through the table, until it is done (or stays unfinished in the vCPU if a preemption was injected and the
 * input says so). Sub-operations in a0. */
long call(struct step *s, unsigned nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
#define call_n(s, nr, a0, a1, a2, a3)                                                                        \
    call(s, nr, (uint64_t)(a0), (uint64_t)(a1), (uint64_t)(a2), (uint64_t)(a3))

/* Mostly one of the guest's own pages; else another's, a special one, Krypton's, or any number. */
uint64_t pick_frame(struct step *s);
uint64_t pick_own(struct step *s); /* one of its named pages */
uint64_t pick_entry(struct step *s,
                    unsigned level); /* a page-table entry that makes sense at that level, mostly */
uint64_t pick_va(struct step *s);
uint16_t pick_domid(struct step *s);
uint32_t pick_port(struct step *s);
void port_remember(struct guest *g, uint32_t port); /* so that it is picked */
struct guest *pick_guest(struct step *s);
/* A buffer of its own memory with the input's bytes. */
uint64_t pick_pointer(struct step *s, size_t bytes);
/* A vCPU's context in its own memory, with its own tables or others. */
struct vcpu_guest_context *pick_context(struct step *s);
/* As the guest would: through what its CPU may write. False: it cannot. */
bool guest_store(struct step *s, mfn_t m, unsigned index, uint64_t value);
/* Nothing is known to have been written any more: the record may be cleaned behind ops_p2m.c's back. */
void written_forget(void);
extern bool guest_scribbled; /* somebody wrote over grant entries in use */
/* A guest is about to write to this frame, itself or through a hypercall that stores where it is told. */
void may_write(uint64_t m);

/* Which checks a target runs after each step. All run at the end of an input. */
enum {
    CHECK_MMU = 1,
    CHECK_GRANT = 2,
    CHECK_EVTCHN = 4,
    CHECK_SCHED = 8,
    CHECK_DOMAIN = 16,
    CHECK_MEMORY = 32,
    CHECK_P2M = 64,
    CHECK_IRQ = 128,
    CHECK_ALL = 255
};
extern const struct fuzz_target {
    const char *name;
    const struct fuzz_group *group[9];
    unsigned checks;
    bool competing;  /* vCPUs share two CPUs, the scheduler chooses; else each has its own */
    bool translated; /* the last guest has a p2m */
} fuzz_target;
void fuzz_checks(unsigned checks);
/* Runs one program in the world as it is now. */
void fuzz_run(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
