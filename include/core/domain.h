/*
 * Domains and vCPUs: identity, references, life.
 *
 *   created --domain_create--> paused (published complete) --unpause--> running --domain_shutdown--> shut down
 *      any --domain_kill (preemptible)--> dying: resources released step by step --last put--> memory freed
 *
 * Field tags: [c] constant after creation  [d] domain lock  [p] page_lock  [a] atomic  [v] the vCPU itself or its run-queue lock
 */
#ifndef CORE_DOMAIN_H
#define CORE_DOMAIN_H

#include "core/abi.h"
#include "core/cpumask.h"
#include "core/lock.h"
#include "core/timer.h"
#include "core/evtchn.h"

struct grant_table;
struct guest_ops;
struct sched_unit;

enum domain_dying { DOM_ALIVE = 0, DOM_DYING = 1, DOM_DEAD = 2 };

struct domain {
    did_t id;                     /* [c] */
    uint32_t refs;                /* [a] */
    const struct guest_ops *ops;  /* [c] what kind of guest: include/arch/guest_ops.h */
    bool privileged;              /* [c] may use control operations (dom0) */
    bool hardware;                /* [c] owns the devices (dom0) */
    bool system;                  /* [c] DOMID_IO, DOMID_XEN, idle: no vCPUs to run, never destroyed */
    uint8_t dying;                /* [d, read without] enum domain_dying */
    uint8_t release_step;         /* [d] where domain_kill goes on */
    bool shutting_down, shut_down;/* [d] */
    uint8_t shutdown_code;        /* [d] SHUTDOWN_* */
    uint8_t handle[16];           /* [d] uuid */
    uint32_t pause_count;         /* [a] */
    uint32_t controller_pauses;   /* [d] */
    struct domain *next;          /* [domain list lock] by rising id */
    struct spinlock lock;

    unsigned max_vcpus;           /* [c] */
    struct vcpu **vcpu;           /* [c] max_vcpus pointers; entries appear once, complete */

    /* memory */
    struct spinlock page_lock;
    uint32_t page_list, special_list; /* [p] first frame index of each list; 0 = empty */
    uint64_t frames;              /* [p] on page_list: what the guest owns */
    uint64_t special_frames;      /* [p] */
    uint64_t max_frames;          /* [p] */
    uint64_t outstanding;         /* [p] claimed, not yet allocated */

    struct shared_info *shared_info; /* [c] direct-map address */
    mfn_t shared_info_mfn;        /* [c] */
    struct evtchn_domain evtchn;
    struct grant_table *grant;    /* [c] */
    uint32_t vm_assist;           /* [a] VMASST_TYPE_* bits */
    int64_t time_offset;          /* [d] seconds, wall clock */
    uint64_t created_ns;          /* [c] */
    uint32_t sched_weight;        /* [run-queue locks] */
    uint32_t sched_cap;           /* percent of one CPU, 0 = none */
    uint16_t virq_port_unused;
};

enum vcpu_pause_flag {            /* vcpu.pause_flags bits: not runnable while any is set (or pause counts > 0) */
    VPF_BLOCKED = 1, VPF_DOWN = 2, VPF_POLLING = 4, VPF_BROKEN = 8,
};

struct vcpu {
    unsigned id;                  /* [c] */
    struct domain *domain;        /* [c] */
    bool idle;                    /* [c] */
    unsigned cpu;                 /* [v] where it runs or last ran */
    uint32_t pause_flags;         /* [a] VPF_* */
    uint32_t pause_count;         /* [a] */
    bool running;                 /* [v] its state is on a CPU (cleared after the save) */
    bool initialised;             /* [d] VCPUOP_initialise or builder done */
    bool polling_any;             /* poll on several ports */
    port_t poll_port;

    struct vcpu_info *info;       /* [d] in shared_info, or where register_vcpu_info put it; never NULL for a guest */
    mfn_t info_mfn;               /* referenced frame when registered, else INVALID_MFN */
    struct evtchn_vcpu evtchn;

    /* time */
    struct vcpu_runstate_info runstate; /* [v] */
    gva_t runstate_area;          /* [v] guest address or 0 */
    gva_t time_area;
    uint64_t period_ns;           /* [v] periodic timer */
    struct timer periodic, singleshot, poll;
    uint32_t virq_port[NR_VIRQS]; /* [evtchn lock] 0 = unbound */

    struct cpumask hard_affinity, soft_affinity; /* [v] */
    struct sched_unit *sched;     /* the policy's */
    struct waitq *unused;
};

/* --- finding and holding ----------------------------------------------------------------------------------------- */
extern struct domain *dom0, *dom_io, *dom_xen, *dom_idle; /* dom_io owns MMIO frames, dom_xen what Krypton shows to guests */
/* The domain with a reference, or NULL. DOMID_SELF etc. are not resolved here. dying domains are found too. */
struct domain *domain_get(did_t id);
void domain_ref(struct domain *d);
void domain_put(struct domain *d);
/* First domain with id >= the given one, reference taken; NULL at the end. */
struct domain *domain_get_from(did_t id);
static inline struct vcpu *domain_vcpu(const struct domain *d, unsigned id) /* NULL when there is none; id is masked */
{
    return id < d->max_vcpus ? __atomic_load_n(&d->vcpu[id], __ATOMIC_ACQUIRE) : NULL;
}
#define for_each_vcpu(d, v)                                                                                 \
    for (unsigned _i = 0; _i < (d)->max_vcpus; _i++)                                                        \
        for (struct vcpu *v = domain_vcpu((d), _i); v; v = NULL)

/* --- life ---------------------------------------------------------------------------------------------------------- */
struct domain_config {
    const struct guest_ops *ops;
    bool privileged, hardware;
    unsigned max_vcpus, max_evtchn_port, max_grant_frames, max_maptrack_frames;
    uint64_t max_frames;
    uint8_t handle[16];
    uint32_t arch_flags;
};
void domain_subsystem_init(void);
/* A complete, paused, published domain with one reference for the caller. -EEXIST, -ENOMEM, -EINVAL. */
int must_check domain_create(did_t id, const struct domain_config *c, struct domain **out);
/* A vCPU, VPF_DOWN. Domain lock held or domain not yet running. */
int must_check vcpu_create(struct domain *d, unsigned id, struct vcpu **out);
/* Starts or goes on with destruction: 0 = done, -EAGAIN = call again. */
int must_check domain_kill(struct domain *d);
void domain_shutdown(struct domain *d, uint8_t code);
/* The guest is beyond saving. Safe from any context; the vCPU does not run again. Prints the reason once. */
void domain_crash(struct domain *d, const char *fmt, ...) printf_like(2, 3);
void domain_pause(struct domain *d);    /* returns when no vCPU of d runs */
void domain_pause_nosync(struct domain *d);
void domain_unpause(struct domain *d);
void vcpu_pause(struct vcpu *v);
void vcpu_unpause(struct vcpu *v);
/* The machine must stop or restart because the hardware domain said so. */
void hardware_domain_shutdown(uint8_t code);

/* --- shared with the guest --------------------------------------------------------------------------------------- */
/* VCPUOP_register_vcpu_info and friends live in core/domain/vcpu_op.c. */
void domain_room_check(const struct domain *d);
void domain_dump(void); /* debug key 'q' */

#endif
