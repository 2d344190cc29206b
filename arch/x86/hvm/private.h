/* Between the files of arch/x86/hvm, and what a vendor's room (svm, vmx) provides to it and gets from it. */
#ifndef HVM_PRIVATE_H
#define HVM_PRIVATE_H

#include "dev/bus.h"
#include "dev/ioreq.h"
#include "x86/hvm.h"
#include "x86/p2m.h"

struct cpuid_leaf;
struct hypercall;

/* Bits of control registers and EFER (AMD APM vol. 2 ch. 3). */
#define CR0_PE      0x1ull
#define CR0_TS      0x8ull
#define CR0_ET      0x10ull
#define CR0_WP      (1ull << 16)
#define CR0_NW      (1ull << 29)
#define CR0_CD      (1ull << 30)
#define CR0_PG      (1ull << 31)
#define CR4_PSE     (1ull << 4)
#define CR4_PAE     (1ull << 5)
#define CR4_PGE     (1ull << 7)
#define CR4_PCIDE   (1ull << 17)
#define CR4_OSXSAVE (1ull << 18)
#define CR4_SMEP    (1ull << 20)
#define CR4_SMAP    (1ull << 21)
#define EFER_SCE    0x1ull
#define EFER_LME    0x100ull
#define EFER_LMA    0x400ull
#define EFER_NXE    0x800ull
#define EFER_SVME   (1ull << 12)
#define EFER_FFX    (1ull << 14)

#define CS_LONG     (1u << 9) /* in the attributes of a code segment: 64-bit code */

/* --- the vendor's side --- */

enum hvm_reg {
    HVM_RIP,
    HVM_RSP,
    HVM_RFLAGS,
    HVM_CR0,
    HVM_CR2,
    HVM_CR3,
    HVM_CR4,
    HVM_EFER, /* as the guest sees it */
    HVM_DR6,
    HVM_DR7,
    HVM_PAT,
    HVM_DEBUGCTL,
    HVM_BRANCH_FROM, /* the last one, and the last exception's; as DEBUGCTL says */
    HVM_BRANCH_TO,
    HVM_EXCEPTION_FROM,
    HVM_EXCEPTION_TO,
    HVM_STAR,
    HVM_LSTAR,
    HVM_CSTAR,
    HVM_SFMASK,
    HVM_KERNEL_GS,
    HVM_SYSENTER_CS,
    HVM_SYSENTER_ESP,
    HVM_SYSENTER_EIP,
};

/* Attributes of segments (struct hvm_segment). */
#define SEG_ACCESSED   0x1u
#define SEG_USABLE     0x2u /* code: readable; data: writable */
#define SEG_CONFORMING 0x4u
#define SEG_DOWN       0x4u /* a data segment's limit is its lower end */
#define SEG_CODE       0x8u
#define SEG_ORDINARY   0x10u
#define SEG_PRESENT    0x80u
#define SEG_BIG        0x400u
#define SEG_PAGES      0x800u

enum hvm_exit_kind {
    HVM_EXIT_NOTHING, /* interrupt, NMI: done by the time we look */
    HVM_EXIT_WINDOW,  /* the guest takes interrupts now */
    HVM_EXIT_IRET,    /* the end of the guest's NMI handler */
    HVM_EXIT_MACHINE_CHECK,
    HVM_EXIT_EXCEPTION, /* #DB, #AC: back to the guest; intercepted because their delivery may never end */
    HVM_EXIT_CPUID,
    HVM_EXIT_HLT,
    HVM_EXIT_HYPERCALL,
    HVM_EXIT_IO,
    HVM_EXIT_RDMSR,
    HVM_EXIT_WRMSR,
    HVM_EXIT_XSETBV,
    HVM_EXIT_RDTSC, /* or RDTSCP, where the length is not known */
    HVM_EXIT_RDTSCP,
    HVM_EXIT_DEBUGREG, /* DR0-7: the guest begins to use them */
    HVM_EXIT_CACHE,    /* WBINVD, INVD */
    HVM_EXIT_MEMORY,   /* nested page fault */
    HVM_EXIT_CONTROL,  /* a write of CR4 or CR8, while it is watched */
    HVM_EXIT_RDPMC,
    HVM_EXIT_FPU_ERROR, /* the x87's, by its line (CR0.NE clear): the processor stands before the next x87 instruction */
    HVM_EXIT_REFUSED,     /* an instruction that this processor does not have: #UD */
    HVM_EXIT_TASK_SWITCH, /* by hardware task */
    HVM_EXIT_SHUTDOWN,    /* triple fault */
    HVM_EXIT_INVALID,     /* the state that was to be entered is none */
    HVM_EXIT_KINDS
};

/* One exit, in no vendor's terms. Everything in it comes from the guest's doing: hostile. */
struct hvm_exit {
    enum hvm_exit_kind kind;
    uint8_t
        length; /* of the instruction, prefixes not counted where the processor does not tell; 0: not known */
    uint64_t reason; /* the vendor's number, for messages */
    union {
        struct {
            uint16_t port;
            uint8_t bytes; /* 1, 2, 4 */
            bool in, string, rep;
            uint8_t address_bytes; /* of string operations: 2, 4, 8; 0: not told */
        } io;
        struct {
            uint64_t gpa;
            bool write, fetch, walk, present;
        } memory;
        struct {
            uint8_t number; /* 4, 8 */
        } control;
        struct {
            uint8_t vector;
            bool has_error;
            uint32_t error;
        } exception;
        struct {
            uint8_t by;        /* enum hvm_task_by */
            bool rf;           /* RFLAGS.RF as the old task is to find it */
            bool has_error;    /* for the new task's stack */
            uint16_t selector; /* of the new task's TSS */
            uint32_t error;
        } task;
    };
};

enum hvm_task_by {
    HVM_TASK_CALL,
    HVM_TASK_JUMP,
    HVM_TASK_IRET,
    HVM_TASK_SOFT,  /* INT n, INT3, INTO */
    HVM_TASK_EVENT, /* an exception or interrupt, in h->event */
};

/* Where a handler leaves the guest. */
enum hvm_verdict {
    HVM_RESUME, /* as it is: the instruction runs (again) */
    HVM_NEXT,   /* behind the instruction */
    HVM_GP,     /* #GP(0) */
    HVM_UD,
};

struct hvm_ops {
    const char *name;     /* "SVM" */
    void (*cpu_on)(void); /* this CPU, interrupts off; memory for it exists (cpu_prepare) */
    bool (*cpu_prepare)(unsigned cpu);

    int (*vcpu_init)(struct vcpu *v);
    void (*vcpu_free)(struct vcpu *v);
    void (*vcpu_reset)(struct vcpu *v);

    /* Of the current vCPU or one that does not run. set: the value is checked. */
    uint64_t (*get)(const struct vcpu *v, enum hvm_reg r);
    void (*set)(struct vcpu *v, enum hvm_reg r, uint64_t value);
    void (*get_segment)(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out);
    void (*set_segment)(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in);
    unsigned (*cpl)(const struct vcpu *v);
    /* Interrupts are held back for one instruction (STI, MOV SS). */
    bool (*shadow)(const struct vcpu *v);
    void (*clear_shadow)(struct vcpu *v);
    bool (*is_64)(const struct vcpu *v); /* its code is 64-bit code */
    /* Behind an instruction of that length: RIP as wide as the code's mode, no shadow, no RF. Returns RFLAGS.TF. */
    bool (*advance)(struct vcpu *v, unsigned length);
    uint8_t (*tpr)(const struct vcpu *v); /* CR8 */
    void (*set_tpr)(struct vcpu *v, uint8_t tpr);
    void (*tsc)(struct vcpu *v); /* x->tsc_offset, or how the domain's counter is made (tsc.h), has changed */
    void (*flush)(struct vcpu *v); /* no translation of v's own tables from before is used */
    void (*use_debugregs)(struct vcpu *v, bool use);
    /* A processor that keeps an NMI until the guest takes it, and knows when its handler is over: true, it has it. Else watch_iret. */
    bool (*queue_nmi)(struct vcpu *v);
    bool (*nmi_ready)(const struct vcpu *v); /* one that it keeps would be taken now */
    void (*nmi_over)(struct vcpu *v);        /* an IRET that the processor did not execute */
    void (*watch_iret)(struct vcpu *v, bool on);
    void (*watch_window)(struct vcpu *v, bool on);
    /* A write of CR8 leaves the guest. */
    void (*watch_tpr)(struct vcpu *v, bool on);
    /* The event that was being delivered when the guest was left: out and forgotten. */
    void (*interrupted)(struct vcpu *v, struct hvm_event *out);
    void (*inject)(struct vcpu *v, const struct hvm_event *e);

    /* The switch, interrupts off. */
    void (*load)(struct vcpu *v);
    __attribute__((noreturn)) void (*resume)(void);
    void (*dump)(struct vcpu *v);
};
extern const struct hvm_ops *hvm_ops; /* NULL: no HVM guests here */
extern const struct hvm_ops svm_ops;  /* arch/x86/svm */
bool svm_available(void);

/* --- from the vendor's entry code --- */
/* What must be done before the guest runs on: returns with interrupts off, no work pending, events injected. May not return. */
void hvm_before_entry(struct vcpu *v);
/* An exit, interrupts on; the general registers are in current_regs(). */
void hvm_handle_exit(struct vcpu *v, const struct hvm_exit *x);

static inline uint64_t hvm_get(const struct vcpu *v, enum hvm_reg r)
{
    return hvm_ops->get(v, r);
}
static inline void hvm_set(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
    hvm_ops->set(v, r, value);
}

/* An access to memory as v makes it now: from level 3 or not (guest_walk, guest_linear_in). */
static inline unsigned hvm_walk_user(const struct vcpu *v)
{
    return hvm_ops->cpl(v) == 3 ? WALK_USER : 0;
}

/* --- access.c --- */
/* False: the vCPU waits for a device model; the handler comes back at once with HVM_RESUME and is called again, from its beginning. */
bool must_check hvm_access(struct vcpu *v, struct hvm_access *a);
/* v does not run, and its instruction is given up: what a device model still has of it gets an answer that is for nobody. */
void hvm_access_forget(struct vcpu *v);
/* A handler's progress is in the registers: what comes is another round. */
void hvm_access_commit(struct vcpu *v);
/* A new exit; before the handler. */
void hvm_access_begin(struct vcpu *v, const struct hvm_exit *x);
/* On the way in: something is with a device model, or is to be told to one; interrupts on for _go_on, to be called until nothing is. */
bool hvm_access_pending(const struct vcpu *v);
void hvm_access_go_on(struct vcpu *v);

/*
 * The other side of a repeated access, in RAM at s:offset: fills in a->value and a->count (at most `count`) if a device model may move
 * so many elements itself. write: into the RAM. False: one by one.
 */
bool hvm_batch_memory(struct vcpu *v, enum hvm_seg s, uint64_t offset, bool write, struct hvm_access *a,
                      uint64_t count);

/* The linear address of s:offset in the present mode; limits are not looked at. */
uint64_t hvm_linear(struct vcpu *v, enum hvm_seg s, uint64_t offset);
/* Whether mode and segment let v have the bytes (at least one) at s:offset: canonical form with 64 bits, else the limit and, in protected
 * mode, the type (AMD APM vol. 2 4.12, 5.3.1). */
bool must_check hvm_reaches(struct vcpu *v, enum hvm_seg s, uint64_t offset, uint64_t bytes, bool write);

/* A vCPU's exit that waits for a device model, and its instruction as it was first read. */
struct hvm_waiting {
    struct hvm_io io; /* first: struct hvm_vcpu.io */
    struct hvm_exit exit;
    uint8_t code[15], code_bytes;
    bool rounds; /* of a repeated one, some are done: the exit's address is behind them */
};
static inline struct hvm_waiting *hvm_waiting(const struct vcpu *v)
{
    return (struct hvm_waiting *)hvm_vcpu(v)->io;
}

/* --- domain.c --- */
int hvm_domain_init(struct domain *d, uint32_t flags);
void hvm_domain_free(struct domain *d);
int hvm_domain_release(struct domain *d);
int hvm_vcpu_init(struct vcpu *v);
void hvm_vcpu_free(struct vcpu *v);
void hvm_vcpu_reset(struct vcpu *v);      /* as after power-on */
void hvm_vcpu_init_reset(struct vcpu *v); /* as after INIT: FPU and some MSRs stay */
int hvm_vcpu_unload(struct vcpu *v);
void hvm_vcpu_dump(struct vcpu *v);
void hvm_vcpu_context(struct vcpu *v, struct vcpu_guest_context *c); /* vcpu_context.c; v is paused */
void hvm_paging(struct vcpu *v, struct guest_paging *p);

/* --- tsc.c --- */
extern uint64_t hvm_tsc_ratio_max;
extern bool hvm_has_debugctl; /* msr.c */
/* The guest's TSC of v runs with that of vCPU 0 from here on. */
void hvm_join_tsc(struct vcpu *v);
void hvm_set_tsc(struct vcpu *v, uint64_t tsc);
/* As the guest does it. */
void hvm_write_tsc(struct vcpu *v, uint64_t tsc);
void hvm_write_tsc_adjust(struct vcpu *v, uint64_t value);
enum hvm_verdict hvm_rdtsc(struct vcpu *v, const struct hvm_exit *x);
struct domctl;
long hvm_settscinfo(struct domctl *c);
long hvm_gettscinfo(struct domctl *c);

/* --- domain.c --- */
/* The current vCPU's DR0-3 into the processor: it uses them now, or has breakpoints that are on (hvm_debugregs_follow). */
void hvm_debugregs_load(struct vcpu *v);
void hvm_debugregs_follow(struct vcpu *v);

/* --- sleep.c --- */
#define HVM_S3 3u
/* HVM_PARAM_ACPI_S_STATE becomes 0 or HVM_S3. d: not the caller's domain. -EOPNOTSUPP: no board; -EINVAL: it dies, or never ran. */
int must_check hvm_sleep(struct domain *d, uint64_t state);

/* --- exits.c --- */
bool hvm_is_64(const struct vcpu *v);
void hvm_advance(struct vcpu *v, unsigned length);
void hvm_handle(struct vcpu *v, const struct hvm_exit *x); /* the handler, and what it says */

/* --- start.c: VCPUOP_initialise, INIT and STARTUP --- */
int hvm_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online);
void hvm_take_init(struct vcpu *v);
void hvm_startup_try(void *data);

/* --- inject.c --- */
/* Exception for the current vCPU, delivered at the next entry; a second one makes a double fault, a third ends the domain. */
void hvm_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error);
void hvm_triple_fault(struct vcpu *v); /* exits.c */
void hvm_page_fault(struct vcpu *v, uint64_t address, uint32_t error);
void hvm_out_of_reach(struct vcpu *v, enum hvm_seg s); /* not hvm_reaches(): #GP, or #SS by way of SS */
int hvm_vcpu_nmi(struct vcpu *v);
bool hvm_nmi_pending(struct vcpu *v);
/* From another domain's hypercall. -EBUSY: one is waiting already. */
int must_check hvm_ask_event(struct vcpu *v, const struct hvm_event *e, uint64_t cr2);
/* Something to be delivered, whatever the guest's IF says. */
bool hvm_interrupt_pending(struct vcpu *v);
bool hvm_takes_interrupts(const struct vcpu *v);
/* Interrupts off: nothing waits for v that hvm_deliver, or what is done before it, would find. */
bool hvm_quiet(const struct vcpu *v);
void hvm_deliver(struct vcpu *v); /* interrupts off */
void hvm_after_exit(struct vcpu *v);
/* Events for v: guest_ops.kick. */
void hvm_event_kick(struct vcpu *v);
/* The same if there are any, after a change of where v hears of them. A kernel names a vCPU's vector before it starts the vCPU: what is
 * pending then may not go with the local APIC that INIT clears. */
static inline void hvm_event_rekick(struct vcpu *v)
{
    if (v->info && __atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_SEQ_CST))
        hvm_event_kick(v);
}

/* --- cpuid.c, msr.c, io.c, hypercall.c, mmio.c --- */
void hvm_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out);
bool hvm_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value);
bool hvm_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value);
bool hvm_efer_ok(const struct vcpu *v, uint64_t value);
bool hvm_cr0_ok(uint64_t value);
uint64_t hvm_rflags(uint64_t value);
bool hvm_cr4_ok(const struct vcpu *v, uint64_t value);
bool hvm_pat_ok(uint64_t value);
uint64_t hvm_mtrr_get(const struct vcpu *v, uint32_t msr, bool *known);
bool hvm_mtrr_set(struct vcpu *v, uint32_t msr, uint64_t value, bool *known);
enum hvm_verdict hvm_io(struct vcpu *v, const struct hvm_exit *x);
enum hvm_verdict hvm_hypercall(struct vcpu *v);
/* The records that the domain shares with Krypton get the layout of the mode in which v, the current vCPU, runs. */
void hvm_latch_layout(struct vcpu *v);
enum hvm_verdict hvm_memory(struct vcpu *v, const struct hvm_exit *x);
/* The bytes at the instruction pointer, as many as can be read. mmio.c */
size_t hvm_fetch(struct vcpu *v, uint8_t code[15]);
/* A legacy prefix, without LOCK: sizes, segments, REP. */
static inline bool hvm_is_prefix(uint8_t b)
{
    return b == 0x66 || b == 0x67 || (b & 0xe7) == 0x26 || (b & 0xfe) == 0x64 || (b & 0xfe) == 0xf2;
}
/* 16, 32 or 64: the mode of the code that runs. mmio.c */
unsigned hvm_code_bits(const struct vcpu *v);
/* A general register by its number in instructions. */
uint64_t hvm_read_register(struct vcpu *v, unsigned n);
void hvm_write_register(struct vcpu *v, unsigned n, uint64_t value);
enum hvm_verdict hvm_write_control(struct vcpu *v, const struct hvm_exit *x); /* control.c */
enum hvm_verdict hvm_task_switch(struct vcpu *v, const struct hvm_exit *x);   /* task.c */

#endif
