/* Inside arch/x86/hvm/viridian. Numbers are the TLFS's. */
#ifndef VIRIDIAN_PRIVATE_H
#define VIRIDIAN_PRIVATE_H

#include "viridian.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/errno.h"
#include "core/lock.h"
#include "core/timer.h"
#include <xen/hvm/params.h>

#define MSR_GUEST_OS_ID    0x40000000u
#define MSR_CALL_PAGE      0x40000001u
#define MSR_VP_INDEX       0x40000002u
#define MSR_RESET          0x40000003u
#define MSR_TIME_REF_COUNT 0x40000020u
#define MSR_REFERENCE_TSC  0x40000021u
#define MSR_TSC_FREQUENCY  0x40000022u
#define MSR_APIC_FREQUENCY 0x40000023u
#define MSR_EOI            0x40000070u
#define MSR_ICR            0x40000071u
#define MSR_TPR            0x40000072u
#define MSR_ASSIST_PAGE    0x40000073u
#define MSR_SCONTROL       0x40000080u
#define MSR_SVERSION       0x40000081u
#define MSR_SIEFP          0x40000082u
#define MSR_SIMP           0x40000083u
#define MSR_EOM            0x40000084u
#define MSR_SINT0          0x40000090u
#define MSR_STIMER0        0x400000b0u /* configuration, count, configuration, ... */
#define MSR_CRASH_P0       0x40000100u
#define MSR_CRASH_CTL      0x40000105u

#define PAGE_ON            0x1ull /* of MSRs that name a page */
#define CALL_PAGE_LOCKED   0x2ull
#define SINTS              16u
#define SINT_VECTOR        0xffull
#define SINT_MASKED        (1ull << 16)
#define SINT_AUTO_EOI      (1ull << 17)
#define SINT_POLLING       (1ull << 18)
#define STIMERS            4u
#define CRASH_PARAMS       5u
#define FIRST_VECTOR       16u

/* A page of the guest's that Krypton writes when it likes: its frame is referenced as long as it is on. */
struct viridian_page {
    uint64_t msr;
    void *va; /* NULL: off */
    mfn_t mfn;
};

struct stimer {
    struct timer timer;
    struct vcpu *v;     /* [c] */
    uint64_t config;    /* [l] */
    uint64_t count;     /* [l] */
    uint64_t due;       /* [l] reference time; 0: it does not run */
    bool waits;         /* [l] its message found no room */
    uint64_t waits_due; /* [l] of that message */
};

struct viridian_vcpu {
    struct spinlock lock;                  /* RANK_VIRIDIAN */
    struct viridian_page assist;           /* [v] */
    struct viridian_page sim;              /* [l] messages */
    uint64_t siefp, scontrol, sint[SINTS]; /* [l] */
    uint64_t auto_eoi[4];                  /* [v] vectors that end by being delivered */
    struct stimer stimer[STIMERS];
};

struct viridian {
    uint64_t features;            /* [c] HVMPV_* */
    uint64_t start_ns;            /* reference time 0; changed while no vCPU runs */
    uint64_t guest_os_id;         /* [a] */
    uint64_t call_page;           /* [a] */
    uint64_t tsc_page;            /* [a] */
    uint32_t tsc_changes;         /* [a] */
    uint64_t crash[CRASH_PARAMS]; /* [a] */
};

static inline struct viridian *viridian_of(const struct domain *d)
{
    return hvm_domain(d)->viridian;
}
static inline bool viridian_has(const struct vcpu *v, uint64_t group)
{
    return viridian_of(v->domain)->features & group;
}
static inline struct viridian_vcpu *viridian_vcpu(const struct vcpu *v)
{
    return hvm_vcpu(v)->viridian;
}

/* --- page.c --- */
/* The page gets this MSR value: what it was is let go, what it is now is zeroed. False: there is no memory at that number. */
__attribute__((noinline)) bool must_check page_set(struct vcpu *v, struct viridian_page *p, uint64_t value,
                                                   struct spinlock *lock);
/* A look at memory for one use; drop with frame_put. NULL: none that can be written. */
__attribute__((noinline)) void *page_take(struct domain *d, uint64_t msr, mfn_t *m);
void page_drop(struct viridian_page *p);

/* --- time.c --- */
uint64_t reference_time(const struct domain *d); /* in units of 100 ns */
bool must_check tsc_page_set(struct vcpu *v, uint64_t value);

/* --- stimer.c --- */
void stimer_init(struct vcpu *v, unsigned n);
__attribute__((noinline)) void stimer_set_config(struct vcpu *v, unsigned n, uint64_t value);
__attribute__((noinline)) void stimer_set_count(struct vcpu *v, unsigned n, uint64_t value);
void stimer_reset(struct vcpu *v, unsigned n);
void stimers_try(struct vcpu *v); /* messages that waited */

/* --- synic.c --- */
#define MESSAGE_TIMER 0x80000010u
/* Lock held. False: no room, or nobody listens. */
bool must_check synic_post(struct vcpu *v, unsigned sint, uint32_t type, const uint64_t *payload,
                           unsigned words);
/* After that, without the lock: the page was written. */
void synic_wrote(struct vcpu *v);
bool synic_read(struct vcpu *v, uint32_t msr, uint64_t *value);
bool synic_write(struct vcpu *v, uint32_t msr, uint64_t value);
bool assist_set(struct vcpu *v, uint64_t value);
void synic_reset(struct vcpu *v);
bool must_check sint_ok(uint64_t value);
__attribute__((noinline)) void sint_set(struct vcpu *v, unsigned n, uint64_t value);

#endif
