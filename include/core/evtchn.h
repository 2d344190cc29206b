/*
 * Event channels (xen/event_channel.h): ports, their states, 2-level and FIFO delivery. The state machine is
 * drawn at the head of core/evtchn/evtchn.c.
 */
#ifndef CORE_EVTCHN_H
#define CORE_EVTCHN_H

#include "core/types.h"
#include "core/hypercall.h"
#include "core/lock.h"

struct domain;
struct vcpu;
struct evtchn;
struct evtchn_fifo_domain;
struct evtchn_fifo_vcpu;

#define EVTCHN_PIRQ_PAGES 16u
#define EVTCHN_MAX_PIRQ   (EVTCHN_PIRQ_PAGES * 1024) /* highest PIRQ number that can be bound, plus one */

struct evtchn_domain {      /* in struct domain */
    struct spinlock lock;   /* RANK_EVTCHN: structure; each port has its own lock for its state */
    struct evtchn **bucket; /* [c] array; entries [lock, appear once]: EVTCHN_PER_BUCKET ports each */
    uint64_t *free;         /* [lock] bit per port with a struct that can be given out */
    uint32_t bucket_count;  /* [lock] buckets that exist */
    uint32_t first_free;    /* [lock] no bit below this word of free is set */
    uint32_t valid_ports;   /* [lock; read without, acquire] ports with a struct: [0, valid_ports) */
    uint32_t max_port;      /* [c] highest port number, given at creation */
    uint32_t active;        /* [lock] open ports */
    uint32_t own;           /* [lock] those of them that are Krypton's */
    uint32_t close_next;    /* [lock] where evtchn_domain_close, _reset go on */
    struct evtchn_fifo_domain *fifo;        /* [lock; read without, acquire] NULL: 2-level */
    uint32_t *pirq_page[EVTCHN_PIRQ_PAGES]; /* [appear once] port by PIRQ, 0 = not bound; entries: lock */
    uint64_t poll_mask[2];                  /* [a] vCPUs in SCHEDOP_poll */
};
struct evtchn_vcpu {               /* in struct vcpu */
    struct evtchn_fifo_vcpu *fifo; /* [evtchn lock; read without, acquire] its control block and queues */
};

/* max_port: highest port (toolstack's max_evtchn_port); more than the interface's 131071 is cut to that.
 * -ENOMEM. */
int must_check evtchn_domain_init(struct domain *d, unsigned max_port);
/* Closes every port; preemptible: -EAGAIN = call again. */
int must_check evtchn_domain_close(struct domain *d);
/* Closes the guest's ports and goes back to 2-level; d does not run. Preemptible: -EAGAIN = call again. */
int must_check evtchn_domain_reset(struct domain *d);
void evtchn_domain_free(struct domain *d);
void evtchn_vcpu_free(struct vcpu *v);

/* Rings a port that d owns (the hypervisor acts as the far side). Interrupt-safe. */
void evtchn_notify(struct domain *d, port_t port);
/* Rings a per-vCPU VIRQ (VIRQ_TIMER...) if bound; a global VIRQ goes to whoever bound it (dom0 by default).
 * Interrupt-safe. */
void evtchn_virq(struct vcpu *v, uint32_t virq);
void evtchn_virq_global(struct domain *d, uint32_t virq);
void evtchn_virq_dom0(uint32_t virq); /* to the domain that handles this global VIRQ */
/* d handles a global VIRQ from now on (XEN_DOMCTL_set_virq_handler). When it is gone, dom0 does again. -EINVAL. */
int must_check evtchn_virq_handler_set(struct domain *d, uint32_t virq);
/* A physical interrupt bound with bind_pirq came in. Interrupt-safe. False if not bound. */
bool evtchn_pirq(struct domain *d, uint32_t pirq);
/* Does the port have its pending bit set (SCHEDOP_poll)? False for a port that does not exist; *valid tells. */
bool evtchn_is_pending(struct domain *d, port_t port, bool *valid);

/* For tools and the builder: like EVTCHNOP_alloc_unbound / bind_virq done by d itself. */
int must_check evtchn_alloc_unbound(struct domain *d, did_t remote, port_t *out);
/* The far side of `port` (which d owns) as a hypercall of d would: EVTCHNOP_send. */
int must_check evtchn_send(struct domain *d, port_t port);
/*
 * A port of d at which Krypton itself is this end, not the guest: to be bound by `remote`. Nothing that the guest does reaches it. What
 * the far side rings ends the wait of vCPU `vcpu` for a device (vcpu_device_done); evtchn_own_send rings the far side.
 */
int must_check evtchn_own_open(struct domain *d, did_t remote, unsigned vcpu, port_t *out);
void evtchn_own_send(struct domain *d, port_t port);
void evtchn_own_close(struct domain *d, port_t port); /* also if it has gone with a dying d */

/* The vCPU has events that it did not see (used when its callback becomes deliverable): sets upcall_pending,
 * unblocks, kicks. */
void vcpu_mark_events_pending(struct vcpu *v);
/* Selector bits of a 32-bit kernel's vcpu_info (struct domain.narrow); those of them that were set already. */
uint32_t vcpu_select_narrow(struct vcpu *v, uint32_t bits);

void evtchn_room_check(const struct domain *d);
void evtchn_dump(void); /* debug key 'e' */

/* Handlers for the dispatch table: core/evtchn/ops.c. */

extern const struct hc_op evtchn_ops[];
extern const unsigned evtchn_op_count;

#endif
