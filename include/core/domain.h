/*
 * Domains and vCPUs: identity, references, life.
 *
 *   created --domain_create--> paused (published complete) --unpause--> running --domain_shutdown--> shut
 * down any --domain_kill (preemptible)--> dying: resources released step by step --last put--> memory freed
 *
 * Field tags: [c] constant after creation  [d] domain lock  [p] page_lock  [a] atomic  [v] the vCPU itself or
 * its run-queue lock
 */
#ifndef CORE_DOMAIN_H
#define CORE_DOMAIN_H

#include "core/abi.h"
#include "core/cpumask.h"
#include "core/lock.h"
#include "core/nospec.h"
#include "core/timer.h"
#include "core/evtchn.h"
#include "core/hypercall.h"
#include "core/work.h"

struct grant_table;
struct guest_ops;
struct sched_unit;
struct sched_domain;
struct console_line;
struct cpupool;

#define SHUTDOWN_CODE_NONE 255
#define DOMAIN_WATCHDOGS   2

enum domain_dying { DOM_ALIVE = 0, DOM_DYING = 1, DOM_DEAD = 2 };

struct domain {
    did_t id;                      /* [c] */
    uint32_t refs;                 /* [a] */
    const struct guest_ops *ops;   /* [c] what kind of guest: include/arch/guest_ops.h */
    bool privileged;               /* [c] may use control operations (dom0) */
    bool hardware;                 /* [c] owns the devices (dom0) */
    bool xenstore;                 /* [c] serves xenstore: the toolstack says so at creation */
    bool system;                   /* [c] DOMID_IO, DOMID_XEN, idle: no vCPUs to run, never destroyed */
    uint8_t dying;                 /* [d, read without] enum domain_dying */
    uint8_t release_step;          /* [d] where domain_kill goes on */
    bool shutting_down, shut_down; /* [d] */
    uint8_t shutdown_code;         /* [d] SHUTDOWN_*, or SHUTDOWN_CODE_NONE: nobody gave one yet */
    uint8_t handle[16];            /* [d] uuid */
    uint32_t pause_count;          /* [a] */
    uint32_t controller_pauses;    /* [d] */
    bool started;                  /* [d] the toolstack has let it run once */
    struct domain *next;           /* [domain list lock] by rising id */
    struct domain *hash_next;      /* [bucket lock] */
    struct spinlock lock;

    unsigned max_vcpus; /* [c] */
    struct vcpu **vcpu; /* [c] max_vcpus pointers; entries appear once, complete */

    /* memory */
    struct spinlock page_lock;
    uint32_t page_list, special_list; /* [p] first frame index of each list; 0 = empty */
    uint64_t frames;                  /* [p] on page_list: what the guest owns */
    uint64_t special_frames;          /* [p] */
    uint64_t max_frames;              /* [p] */
    uint64_t outstanding;             /* [p] claimed, not yet allocated */
    uint32_t
        node_affinity; /* [a] NUMA nodes that its memory should come from; 0: that of the CPU that asks */

    struct shared_info *shared_info; /* [c] direct-map address */
    mfn_t shared_info_mfn;           /* [c] */
    bool shared_info_private;        /* [reap] nobody but us has it any more */
    bool narrow;                     /* [a] shared_info and vcpu_info have the layout of 32-bit kernels */
    struct evtchn_domain evtchn;
    struct grant_table *grant; /* [c] */
    uint64_t vm_assist;        /* [a] VMASST_TYPE_* bits */
    struct console_line
        *console_line; /* [d] what it wrote to the console since the last line's end; NULL = nothing yet */
    uint32_t suspend_port;      /* [a] rings when the domain has suspended; 0 = none (DOMCTL_subscribe) */
    int64_t time_offset;        /* [d] seconds, wall clock */
    uint64_t created_ns;        /* [c] */
    uint32_t sched_weight;      /* [run-queue locks] */
    uint32_t sched_cap;         /* percent of one CPU, 0 = none */
    struct sched_domain *sched; /* [c] the policy's */
    struct cpupool *pool;       /* [pool lock] NULL: a system domain */

    uint8_t crashed;          /* [a] domain_crash was called */
    struct tasklet crash_job; /* finishes domain_crash outside of the caller's locks */
    struct timer reap;        /* a dead domain: looks whether the last reference has gone */
    uint64_t reap_since;      /* [reap] ns */
    struct timer watchdog[DOMAIN_WATCHDOGS];
    uint32_t watchdog_used; /* [d] bit per timer */
};

/* vcpu.pause_flags bits: not runnable while any is set (or pause counts > 0). */
enum vcpu_pause_flag {
    VPF_BLOCKED = 1,
    VPF_DOWN = 2,
    VPF_POLLING = 4,
    VPF_BROKEN = 8,
    VPF_DEVICE = 16, /* in the middle of an instruction: for a device model's answer */
};

struct vcpu {
    unsigned id;           /* [c] */
    struct domain *domain; /* [c] */
    bool idle;             /* [c] */
    unsigned cpu;          /* [v] where it runs or last ran */
    uint32_t pause_flags;  /* [a] VPF_* */
    uint32_t pause_count;  /* [a] */
    bool running;          /* [v] its state is on a CPU (cleared after the save) */
    bool initialised;      /* [d] VCPUOP_initialise or builder done */
    bool polling_any;      /* poll on several ports */
    port_t poll_port;

    /* [d], read by senders without it: vcpu_info_get. In shared_info, or where it was registered; never NULL for a guest. */
    struct vcpu_info *info;
    mfn_t info_mfn;                 /* referenced frame when registered, else INVALID_MFN */
    struct vcpu_info *private_info; /* [c] for ids beyond the shared page, until one is registered */
    struct evtchn_vcpu evtchn;

    /* time */
    struct vcpu_runstate_info runstate; /* [v] */
    gva_t runstate_area;                /* [v] guest address or 0 */
    bool runstate_narrow;               /* [v] the record there is a 32-bit kernel's */
    gva_t time_area;
    uint64_t period_ns; /* [v] periodic timer */
    struct timer periodic, singleshot, poll;
    uint32_t virq_port[NR_VIRQS]; /* [evtchn lock] 0 = unbound */

    struct cpumask hard_affinity, soft_affinity; /* [v] */
    struct cpumask allowed;                      /* [v] hard affinity within the pool: where it may run */
    struct cpumask saved_affinity;               /* [v] hard affinity while pin_override holds */
    bool pin_override;                           /* [v] */
    struct sched_unit *sched;                    /* [c] the policy's */
};

/* For others than v itself: it may be registered elsewhere meanwhile; whoever still writes to the old place is made up for. */
static inline struct vcpu_info *vcpu_info_get(const struct vcpu *v)
{
    return __atomic_load_n(&v->info, __ATOMIC_ACQUIRE);
}

static inline bool domain_is_dying(const struct domain *d)
{
    return __atomic_load_n(&d->dying, __ATOMIC_RELAXED) != DOM_ALIVE;
}

/* --- finding and holding
 * ----------------------------------------------------------------------------------------- */
extern struct domain *dom0, *dom_io, *dom_xen,
    *dom_idle; /* dom_io owns MMIO frames, dom_xen what Krypton shows to guests */
/* The domain with a reference, or NULL. DOMID_SELF etc. are not resolved here. dying domains are found too. */
struct domain *domain_get(did_t id);
void domain_ref(struct domain *d);
void domain_put(struct domain *d);
/* First domain with id >= the given one, reference taken; NULL at the end. */
struct domain *domain_get_from(did_t id);
/* The one behind d, whose reference goes; the same otherwise. Ids end below DOMID_FIRST_RESERVED: there is always a next number. */
static inline struct domain *domain_get_next(struct domain *d)
{
    struct domain *next = domain_get_from(DID(d->id.v + 1));

    domain_put(d);
    return next;
}
/* Each domain in turn, held while its turn lasts: who leaves the loop early owes a domain_put(). */
#define for_each_held_domain(d) for (struct domain *d = domain_get_from(DID(0)); d; d = domain_get_next(d))
static inline struct vcpu *domain_vcpu(const struct domain *d,
                                       unsigned id) /* NULL when there is none; id is masked */
{
    return id < d->max_vcpus ? __atomic_load_n(&d->vcpu[array_index(id, d->max_vcpus)], __ATOMIC_ACQUIRE)
                             : NULL;
}
#define for_each_vcpu(d, v)                                                                                  \
    for (unsigned _i = 0; _i < (d)->max_vcpus; _i++)                                                         \
        for (struct vcpu *v = domain_vcpu((d), _i); v; v = NULL)

/* --- life
 * ----------------------------------------------------------------------------------------------------------
 */
struct domain_config {
    const struct guest_ops *ops;
    bool privileged, hardware, xenstore;
    unsigned max_grant_version; /* 1 or 2; 0 is taken as 2 */
    uint32_t cpupool;
    unsigned max_vcpus, max_evtchn_port, max_grant_frames, max_maptrack_frames;
    uint64_t max_frames;
    uint8_t handle[16];
    uint32_t arch_flags;
};
void domain_subsystem_init(void);
/* A complete, paused, published domain with one reference for the caller. -EEXIST, -ENOMEM, -EINVAL,
 * -ENOENT (no such CPU pool). */
int must_check domain_create(did_t id, const struct domain_config *c, struct domain **out);
/* A vCPU, VPF_DOWN. Domain lock held or domain not yet running. */
int must_check vcpu_create(struct domain *d, unsigned id, struct vcpu **out);
/* Starts or goes on with destruction: 0 = done, -EAGAIN = call again. */
int must_check domain_kill(struct domain *d);
/* Stops d and tells dom0 (VIRQ_DOM_EXC). The first call counts; a latched code wins. Domain lock not held. */
void domain_shutdown(struct domain *d, uint8_t code);
/* VCPUOP_down, HLT for good: v stops being up. The last vCPU that goes down takes the domain with it. d->lock not held. */
void vcpu_go_down(struct vcpu *v);
/* Undoes domain_shutdown (after a suspend that was cancelled). Domain lock not held. -EINVAL if d is not shut
 * down. */
int must_check domain_resume(struct domain *d);
/* Of a translated domain that is shut down: soft_reset.c. -EINVAL: another; -EAGAIN: call again. */
int must_check domain_soft_reset(struct domain *d);
/* The guest is beyond saving. Safe from any context; the vCPU does not run again. Prints the reason once. */
void domain_crash(struct domain *d, const char *fmt, ...) printf_like(2, 3);
/* Pause: counted. The synchronous forms wait for other CPUs: no lock may be held that a hypercall of d may
 * wait for. */
void domain_pause(struct domain *d); /* returns when no vCPU of d runs; not for the caller's own domain */
void domain_pause_nosync(struct domain *d);
void domain_unpause(struct domain *d);
void vcpu_pause(struct vcpu *v);
void vcpu_unpause(struct vcpu *v);
/* SCHEDOP_watchdog: a new timer's number (id 0), 0 (poked, or stopped with seconds 0), -EINVAL, -ENOSPC. */
long domain_watchdog(struct domain *d, uint32_t id, uint32_t seconds);
extern bool opt_noreboot; /* noreboot: stay on the screen after a crash or panic */
/* The machine must stop or restart because the hardware domain said so. */
__attribute__((noreturn)) void hardware_domain_shutdown(uint8_t code);
/* The toolstack's pause: counted apart, so that it cannot undo others'. A domain is created with one unless
 * it is the hardware domain. -EINVAL (unpause: not paused by it), -EOVERFLOW. */
int must_check domain_controller_pause(struct domain *d);
int must_check domain_controller_pause_nosync(struct domain *d); /* also for the caller's own */
int must_check domain_controller_unpause(struct domain *d);

/* --- shared with the guest
 * --------------------------------------------------------------------------------------- */
/* VCPUOP_register_vcpu_info and friends live in core/domain/vcpu_op.c. */
extern const struct hc_op vcpu_ops[];
extern const unsigned vcpu_op_count;
long do_set_timer_op(struct hypercall *hc);
long do_vm_assist(struct hypercall *hc);
/* v's runstate record in guest memory, as of now. v is the current vCPU of this CPU. */
void vcpu_runstate_publish(struct vcpu *v);
void domain_room_check(const struct domain *d);
void domain_dump(void); /* debug key 'q' */

#endif
