/* Event channels: what the files of this room share. The theory is at the head of evtchn.c. */
#ifndef EVTCHN_PRIVATE_H
#define EVTCHN_PRIVATE_H

#include "core/domain.h"
#include "core/nospec.h"

enum evtchn_state {
    EVT_FREE = 0,
    EVT_RESERVED, /* being opened or closed by somebody who had to leave the locks for it */
    EVT_UNBOUND,
    EVT_INTERDOMAIN,
    EVT_PIRQ,
    EVT_VIRQ,
    EVT_IPI,
};

/* One port. Field tags: [s] written with the domain's evtchn.lock and the port's lock held, so either lock
 * gives a stable view; [a] atomic; [q] the lock of the FIFO queue it names. */
struct evtchn {
    struct spinlock lock; /* RANK_EVTCHN_PORT */
    struct domain
        *remote; /* [s] INTERDOMAIN: the peer; alive because its own port points back. PIRQ: see evtchn.c */
    union {
        uint32_t remote_port; /* [s] INTERDOMAIN */
        uint16_t remote_id;   /* [s] UNBOUND: who may bind */
        uint32_t virq;        /* [s] VIRQ */
        uint32_t pirq;        /* [s] PIRQ */
    };
    uint16_t notify_vcpu;  /* [a] */
    uint16_t last_vcpu;    /* [q] the FIFO queue it was linked into last */
    uint8_t state;         /* [s] enum evtchn_state */
    uint8_t priority;      /* [a] */
    uint8_t last_priority; /* [q] */
    uint8_t unsent;        /* [a] FIFO: pending, but the guest has not given the event word yet */
    bool own;              /* [s] Krypton's end, UNBOUND or INTERDOMAIN */
};
/* Who walks over all ports reads it without a lock, and looks again under one. */
static inline void evtchn_state_set(struct evtchn *c, enum evtchn_state s)
{
    __atomic_store_n(&c->state, (uint8_t)s, __ATOMIC_RELAXED);
}
_Static_assert(sizeof(struct evtchn) == 32, "a bucket is one frame");

#define EVTCHN_PER_BUCKET 128u
#define EVTCHN_2L_PORTS   4096u
#define EVTCHN_FIFO_PORTS 131072u
_Static_assert(sizeof(((struct shared_info *)0)->evtchn_pending) * 8 == EVTCHN_2L_PORTS &&
                   EVTCHN_FIFO_NR_CHANNELS == EVTCHN_FIFO_PORTS,
               "ABI");
/* A 32-bit kernel's bits are a quarter as many; the masks follow the pending bits in both layouts. */
#define EVTCHN_2L_NARROW 1024u
static inline uint32_t level2_ports(const struct domain *d)
{
    return unlikely(d->narrow) ? EVTCHN_2L_NARROW : EVTCHN_2L_PORTS;
}
static inline uint64_t *level2_pending(const struct domain *d, uint32_t port)
{
    uint64_t *words = (uint64_t *)d->shared_info->evtchn_pending;

    return words + port / 64;
}
static inline uint64_t *level2_mask(const struct domain *d, uint32_t port)
{
    return level2_pending(d, level2_ports(d) + port);
}
_Static_assert(offsetof(struct shared_info, evtchn_mask) ==
                   offsetof(struct shared_info, evtchn_pending) + EVTCHN_2L_PORTS / 8,
               "ABI");

#define FIFO_WORDS_PER_PAGE 1024u
#define FIFO_PAGES          (EVTCHN_FIFO_PORTS / FIFO_WORDS_PER_PAGE)

struct fifo_queue {
    struct spinlock lock; /* RANK_EVTCHN_FIFO; two of one domain: lower vCPU, then lower priority first */
    uint32_t tail;        /* port linked last, 0 = none */
};
struct evtchn_fifo_vcpu {
    struct evtchn_fifo_control_block *block; /* in guest memory: hostile */
    mfn_t mfn;                               /* pinned */
    struct evtchn_fifo_vcpu *next;           /* while being freed */
    struct fifo_queue queue[EVTCHN_FIFO_MAX_QUEUES];
};
struct evtchn_fifo_domain {
    uint32_t pages;                 /* [evtchn lock] */
    event_word_t *page[FIFO_PAGES]; /* [appear once, acquire] guest memory: hostile */
    mfn_t mfn[FIFO_PAGES];          /* [evtchn lock] pinned */
};

/* The port's struct, or NULL for a number that was never given out. Lock-free; structs stay until the domain
 * is freed. */
static inline struct evtchn *evtchn_find(const struct domain *d, uint32_t port)
{
    uint32_t n = __atomic_load_n(&d->evtchn.valid_ports, __ATOMIC_ACQUIRE);

    if (unlikely(port >= n))
        return NULL;
    port = (uint32_t)array_index(port, n);
    return &d->evtchn.bucket[port / EVTCHN_PER_BUCKET][port % EVTCHN_PER_BUCKET];
}

static inline struct evtchn_fifo_domain *evtchn_fifo(const struct domain *d)
{
    return __atomic_load_n(&d->evtchn.fifo, __ATOMIC_ACQUIRE);
}

/* Guest-shared words. A plain look first, then one locked instruction whose result is not used: no loop that
 * a guest could hold up, at the price that two setters at once may both see "was clear" (a spurious
 * notification). The caller has executed a full barrier (taking a lock) since it wrote what the event is
 * about. */
static inline bool shared_set64(uint64_t *w, unsigned bit)
{
    bool was = (__atomic_load_n(w, __ATOMIC_RELAXED) >> bit) & 1;

    if (!was)
        (void)__atomic_fetch_or(w, 1ull << bit, __ATOMIC_SEQ_CST);
    return was;
}
static inline bool shared_test64(const uint64_t *w, unsigned bit)
{
    return (__atomic_load_n(w, __ATOMIC_RELAXED) >> bit) & 1;
}

static inline bool virq_is_global(uint32_t virq)
{
    return virq != VIRQ_TIMER && virq != VIRQ_DEBUG && virq != VIRQ_XENOPROF && virq != VIRQ_XENPMU;
}

/* --- evtchn.c: the state machine (read and checked arguments) --- */
int must_check evtchn_bind_interdomain(struct domain *ld, struct domain *rd, uint32_t rport, port_t *out);
int must_check evtchn_bind_virq(struct domain *d, uint32_t virq, uint32_t vcpu, port_t *out);
int must_check evtchn_bind_ipi(struct domain *d, uint32_t vcpu, port_t *out);
/* A guest's: Krypton's own ports are not there for it (-EINVAL). */
int must_check evtchn_close(struct domain *d, uint32_t port);
int must_check evtchn_bind_vcpu(struct domain *d, uint32_t port, uint32_t vcpu);
/* Closes what is open from *from on, Krypton's own if `own`; 0 at the end, -EAGAIN: preempted, *from says where to go on. */
int must_check evtchn_close_all(struct domain *d, uint32_t *from, bool own);
void evtchn_status(struct domain *d, const struct evtchn *c, struct evtchn_status *out);

/* --- port.c: numbers; evtchn.lock held, interrupts off --- */
/* Runs `take` under d's lock, growing the port table as needed: 0 and the port (RESERVED), -ENOSPC, -ENOMEM,
 * -EINVAL (dying). Called without locks. */
int must_check evtchn_port_alloc(struct domain *d, struct evtchn **c, uint32_t *port);
/* RESERVED -> FREE; forgets pending state and binding. */
void evtchn_port_release(struct domain *d, struct evtchn *c, uint32_t port);
/* Number of ports the domain's present ABI can name, within its limit. */
uint32_t evtchn_port_limit(const struct domain *d);

/* --- pirq.c --- */
int must_check evtchn_bind_pirq(struct vcpu *v, uint32_t pirq, bool share, port_t *out);
/* The slot for a PIRQ number, or NULL. */
uint32_t *evtchn_pirq_slot(const struct domain *d, uint32_t pirq);
void evtchn_pirq_free(struct domain *d);

/* --- send.c: the hot path --- */
/* Sets port c of d pending and tells its vCPU. The port must be kept open by the caller (a port lock). */
void evtchn_set_pending(struct domain *d, struct evtchn *c, uint32_t port);
void evtchn_clear_pending(struct domain *d, struct evtchn *c, uint32_t port);
bool evtchn_pending(const struct domain *d, const struct evtchn *c, uint32_t port);
bool evtchn_masked(const struct domain *d, uint32_t port);
int must_check evtchn_unmask(struct domain *d, uint32_t port);
void evtchn_wake_pollers(struct domain *d, uint32_t port);

/* --- fifo.c --- */
void fifo_set_pending(struct domain *d, struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port);
void fifo_unmask(struct domain *d, struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port);
/* The event word, or NULL when the guest has not given the page. */
static inline event_word_t *fifo_word(const struct evtchn_fifo_domain *f, uint32_t port)
{
    event_word_t *page = __atomic_load_n(&f->page[port / FIFO_WORDS_PER_PAGE], __ATOMIC_ACQUIRE);

    return page ? &page[port % FIFO_WORDS_PER_PAGE] : NULL;
}
static inline bool fifo_word_test(const event_word_t *w, unsigned bit)
{
    return (__atomic_load_n(w, __ATOMIC_RELAXED) >> bit) & 1;
}

/* --- fifo_setup.c --- */
int must_check evtchn_init_control(struct domain *d, uint64_t gfn, uint32_t offset, uint32_t vcpu);
int must_check evtchn_expand_array(struct domain *d, uint64_t gfn);
int must_check evtchn_set_priority(struct domain *d, uint32_t port, uint32_t priority);
/* Back to 2-level: -EAGAIN while a port is open. */
int must_check evtchn_fifo_leave(struct domain *d);

#endif
