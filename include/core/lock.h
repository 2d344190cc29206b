/*
 * Spinlocks (ticket) and reader/writer locks. Order: a lock may be taken only while every held lock has a
 * smaller rank; debug and host builds check it at run time (core/lock.c). The table of ranks with reasons is
 * docs/locking.md. spin_lock() never touches the interrupt flag. A lock that is taken in interrupt context is
 * taken with spin_lock_irq() everywhere. Interrupt handlers may take only locks of rank >= RANK_IRQ_SAFE.
 */
#ifndef CORE_LOCK_H
#define CORE_LOCK_H

#include "core/types.h"

enum lock_rank {
    RANK_DOMAIN_LIST = 20, /* the list of domains */
    RANK_DOMAIN = 30,      /* struct domain.lock: lifecycle, vCPU set-up */
    RANK_CPUPOOL = 35,     /* which CPUs and domains are in which pool; before run queues */
    RANK_IOREQ = 37,       /* x86: a domain's ioreq servers, changed while it is paused */
    RANK_IOREQ_RING = 38,  /* the ring of one of them */
    RANK_GRANT = 40,       /* struct grant_table.lock; two of them: lower domain id first */
    RANK_GRANT_ENTRY = 42, /* one active grant entry, inside its table's lock */
    RANK_MAPTRACK = 45,
    RANK_P2M = 50, /* x86: the table of a translated domain's memory; never two of them */
    RANK_PV_FRAME = 52,
    RANK_PHYSMAP = 55,
    RANK_PIRQ = 57,       /* x86: a domain's table of physical interrupts (map, unmap); sets up devices */
    RANK_RANGESET = 59,   /* a set of ranges (device rights): read below any lock of a domain */
    RANK_PAGE_ALLOC = 60, /* struct domain.page_lock: a domain's frame lists and counts */
    RANK_HEAP = 65,       /* the frame allocator */
    RANK_VMAP = 61,       /* x86: the hypervisor's own page tables; allocates frames */
    RANK_SLAB = 63,       /* the small-object allocator: may call the heap */
    RANK_IRQ_SAFE = 70,   /* from here on: may be taken in interrupt context, so always with interrupts off */
    RANK_VBOARD = 71,     /* x86: the emulated devices of one HVM guest */
    RANK_IRQ_DESC = 72,   /* an interrupt line; delivers events */
    RANK_VIRIDIAN = 73,   /* x86: an HVM vCPU's synthetic timers and messages */
    RANK_EVTCHN = 75,     /* struct domain.evtchn.lock; two of them: lower domain id first */
    RANK_EVTCHN_PORT = 76,  /* one port; two of them: lower domain id, then lower port first */
    RANK_EVTCHN_FIFO = 77,  /* a FIFO queue */
    RANK_SCHED = 80,        /* a run queue; two of them: lower CPU first */
    RANK_SCHED_DOMAIN = 82, /* a domain's CPU budget; inside a run queue's lock */
    RANK_TIMER = 85,        /* a CPU's timers */
    RANK_IOAPIC = 90,
    RANK_PCI = 91,        /* configuration space access */
    RANK_DOMAIN_REF = 93, /* a bucket of the table id -> domain: held for a few instructions */
    RANK_CONSOLE = 95,
    RANK_UART = 96,
};

struct spinlock {
    uint16_t next, owner; /* tickets */
    uint16_t rank;
    uint16_t holder; /* cpu + 1, debug only */
};

#define SPINLOCK_INIT(r)                                                                                     \
    {                                                                                                        \
        0, 0, (r), 0                                                                                         \
    }

void spin_init(struct spinlock *l, enum lock_rank rank);
void spin_lock(struct spinlock *l);
/* A second lock of the same rank (two domains, two run queues), taken in the order the rank's comment gives. */
void spin_lock_second(struct spinlock *l);
bool spin_trylock(struct spinlock *l);
void spin_unlock(struct spinlock *l);
/* Interrupts off, then lock; returns what spin_unlock_irq needs. */
unsigned long spin_lock_irq(struct spinlock *l);
void spin_unlock_irq(struct spinlock *l, unsigned long flags);
bool spin_is_locked(const struct spinlock *l);
/* Debug: panics unless the calling CPU holds l. */
void spin_assert_held(const struct spinlock *l);
/* Debug: panics if the calling CPU holds any lock (before a context switch or a return to a guest). */
void lock_assert_none(void);
/* Debug: after a panic nobody is accused of the locks that were held. */
void lock_forget_all(void);

struct rwlock {
    struct spinlock writer;
    uint32_t readers;
};
void rw_init(struct rwlock *l, enum lock_rank rank);
void read_lock(struct rwlock *l);
void read_unlock(struct rwlock *l);
void write_lock(struct rwlock *l);
void write_unlock(struct rwlock *l);

#endif
