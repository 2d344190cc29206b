/* Inside arch/x86/hvm/p2m only. The theory is at the head of p2m.c. */
#ifndef P2M_PRIVATE_H
#define P2M_PRIVATE_H

#include "core/domain.h"
#include "core/errno.h"
#include "core/frame.h"
#include "core/lock.h"
#include "core/log.h"
#include "arch/mem.h"
#include "x86/p2m.h"
#include "x86/vcpu.h"

#define ENTRIES        512u
#define LEVELS         4u
#define TYPE_SHIFT     52 /* five bits that both formats leave to software */
#define TYPE_MASK      (31ull << TYPE_SHIFT)
#define ENTRY_MFN_MASK 0x000ffffffffff000ull

/* How the hardware wants its entries. */
struct p2m_format {
    const char *name;
    uint64_t table;           /* flags of an entry that leads to a table */
    uint64_t leaf[P2M_TYPES]; /* of one that maps, by type; 0: no frame, the hardware finds nothing */
    uint64_t present;         /* one of these: the hardware goes on */
    uint64_t large;           /* at level 2 and 3: maps instead of leading on */
    uint64_t write;
    uint64_t accessed, dirty; /* what the hardware sets in leaves */
};
extern const struct p2m_format p2m_npt, p2m_ept;

/* Frames that wait for a first use of a number, linked through their first words. */
struct pod_list {
    uint64_t first, count; /* [lock] count: in small frames */
};

struct p2m {
    struct domain *d;             /* [c] */
    const struct p2m_format *fmt; /* [c] */
    struct spinlock lock;         /* RANK_P2M */
    uint64_t *root;               /* [c] */
    uint64_t max_gfn;             /* [c] */
    uint64_t pool, used;          /* [lock] frames of tables: allowed, in use */
    uint64_t generation;          /* [a] */
    uint64_t highest;             /* [a] */
    uint64_t zap;                 /* [domctl] number from which p2m_mmio_zap goes on */
    bool log;                     /* [domctl] log-dirty */
    uint64_t log_next;            /* [domctl] number from which an operation on all memory goes on */
    uint32_t log_faults;          /* [lock] */
    struct pod_list pod[2];       /* [lock] small, large */
    uint64_t sweep;               /* [lock] number from which the search for empty pages goes on */
    uint64_t count[P2M_TYPES];    /* [lock] frames' worth of entries */
};

extern struct p2m_machine p2m_machine;

static inline struct p2m *p2m_of(const struct domain *d)
{
    return ((const struct x86_domain *)d)->p2m;
}

/* --- entries --- */
static inline enum p2m_type entry_type(uint64_t e)
{
    return (enum p2m_type)((e & TYPE_MASK) >> TYPE_SHIFT);
}
static inline mfn_t entry_mfn(uint64_t e)
{
    return MFN((e & ENTRY_MFN_MASK) >> FRAME_SHIFT);
}
static inline bool entry_is_table(const struct p2m *p, uint64_t e, unsigned level)
{
    return level > 1 && (e & p->fmt->present) && !(e & p->fmt->large);
}
static inline unsigned level_order(unsigned level)
{
    return (level - 1) * 9;
}
static inline unsigned slot_index(uint64_t gfn, unsigned level)
{
    return (unsigned)(gfn >> level_order(level)) & (ENTRIES - 1);
}
static inline uint64_t *entry_table(uint64_t e)
{
    return arch_frame_va(entry_mfn(e));
}
static inline uint64_t entry_read(const uint64_t *slot)
{
    return __atomic_load_n(slot, __ATOMIC_ACQUIRE);
}
/* Types whose frame is RAM that the domain owns or shares with Krypton. */
static inline bool type_own(enum p2m_type t)
{
    return t == P2M_RAM || t == P2M_RAM_RO || t == P2M_LOGGED || t == P2M_RAM_DM;
}
static inline bool type_others(enum p2m_type t)
{
    return t == P2M_FOREIGN || t == P2M_FOREIGN_RO;
}
static inline bool type_grant(enum p2m_type t)
{
    return t == P2M_GRANT || t == P2M_GRANT_RO;
}
static inline bool type_has_frame(enum p2m_type t)
{
    return type_own(t) || type_others(t) || type_grant(t) || t == P2M_MMIO;
}
/* A leaf at that level; P2M_NONE gives 0. */
static inline uint64_t entry_make(const struct p2m *p, mfn_t m, enum p2m_type t, unsigned level)
{
    uint64_t e = (uint64_t)t << TYPE_SHIFT | p->fmt->leaf[t];

    if (type_has_frame(t))
        e |= m.n << FRAME_SHIFT;
    if (level > 1 && t != P2M_NONE)
        e |= p->fmt->large;
    return e;
}

/* --- table.c: the tree. p->lock held for all but peek and walk --- */

/* The leaf for gfn, without a lock; *level is where it was found. */
uint64_t p2m_walk(const struct p2m *p, uint64_t gfn, unsigned *level);
/* The slot for gfn at that level, larger leaves above it split, missing tables made if `make`. NULL: nothing there (and not made),
 * or no memory. */
uint64_t *p2m_slot(struct p2m *p, uint64_t gfn, unsigned level, bool make);

/* What an operation took out: dropped by gone_drop() after the flush, without the lock. */
#define GONE_MAX   64u
#define GONE_BATCH (GONE_MAX - 8) /* entries before a flush: pruning may add a table of each level, twice */
struct gone {
    struct p2m *p;
    uint64_t leaf[GONE_MAX]; /* entries, of their level */
    uint8_t level
        [GONE_MAX]; /* the entry was in a table of this level; 0: it led to a table that is not needed any more */
    unsigned count;
    bool flush;   /* the hardware may know it */
    bool release; /* the domain's own frames leave its reservation, too */
};
/* Exchanges the entry in *slot (level, for gfn) and accounts for both; what was there goes into `gone`. */
void p2m_exchange(struct p2m *p, uint64_t *slot, unsigned level, uint64_t gfn, uint64_t e, struct gone *gone);
/* Gives up tables above gfn that have become empty. */
void p2m_prune(struct p2m *p, uint64_t gfn, struct gone *gone);
/* Makes one large entry of the full table that gfn's level-1 or level-2 entry is in, if it says the same. */
void p2m_merge(struct p2m *p, uint64_t gfn, struct gone *gone);
/* Flush, references, tables. Lock not held. */
void gone_drop(struct gone *gone);
/* A piece of emptying everything, for a dying domain. True: it is empty. */
bool must_check p2m_empty_some(struct p2m *p);

/* --- pod.c: lock not held --- */
/* Fills the POD entry at gfn. False: there is no memory for it. */
bool must_check pod_populate(struct p2m *p, uint64_t gfn);
/* The domain gives m back, of which the caller has the only reference but the owner's. True: it is kept for entries that are outstanding. */
bool must_check pod_keep(struct p2m *p, mfn_t m);
/* Entries have gone: frames that no entry waits for are given back. */
void pod_trim(struct p2m *p);
/* The domain dies: its frames are found by their owner's list. Lock held. */
void pod_forget(struct p2m *p);

/* --- dirty.c: a write to an entry of type LOGGED makes it RAM --- */
void p2m_unlog(struct p2m *p, uint64_t gfn);

/* --- p2m.c --- */
#define TAKE_ALL   (~0u)
#define TAKE_GRANT (1u << P2M_GRANT | 1u << P2M_GRANT_RO)
#define TAKE_MMIO  (1u << P2M_MMIO)
#define TAKE_GUEST (TAKE_ALL & ~(TAKE_GRANT | TAKE_MMIO)) /* what is not under somebody else's rule */
/* n entries of any type, as p2m_set. Over grants, or over device memory something else: -EBUSY. */
int must_check p2m_set_range(struct p2m *p, uint64_t gfn, uint64_t mfn, uint64_t n, enum p2m_type type);
void p2m_raise_highest(struct p2m *p, uint64_t gfn); /* lock held */
/* As p2m_remove, if their types are in `types` (bits): else -EBUSY. */
int must_check p2m_take(struct p2m *p, uint64_t gfn, mfn_t m, uint64_t n, unsigned types, bool release);

/* Frames of tables; lock held. NULL: pool or machine has no more. */
uint64_t *p2m_table_new(struct p2m *p);
void p2m_table_free(struct p2m *p, uint64_t *table);
/* Number of entries of a table that are not 0. */
static inline uint64_t *table_fill(uint64_t *table)
{
    return &mfn_frame(arch_va_mfn(table))->type;
}

#endif
