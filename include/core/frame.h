/*
 * Frames: every 4 KiB piece of RAM has one struct frame. Free lists per node and order, owner, reference
 * count. This room knows neither page types nor p2m formats: `type` and `stamp` belong to the architecture.
 *
 * Reference count word:  bit 63 ALLOCATED  the owner's own reference (dropped once, by whoever clears the
 * bit) bit 62 SPECIAL    the hypervisor's, shared with the owner (shared_info, grant frames): never freed
 * through a guest's reference, not on the domain's page list bit 61 BROKEN     taken out of use, count is this
 * bit alone; bit 60 LEAVING    goes out of use with its last reference; bits 0-47
 * number of references, the owner's included. 0 = free or hypervisor-private
 */
#ifndef CORE_FRAME_H
#define CORE_FRAME_H

#include "core/types.h"

struct domain;

#define FRAME_ALLOCATED (1ull << 63)
#define FRAME_SPECIAL   (1ull << 62)
#define FRAME_BROKEN    (1ull << 61)
#define FRAME_LEAVING   (1ull << 60)
#define FRAME_REF_MASK  ((1ull << 48) - 1)

#define FRAME_NO_OWNER  0xffff
#define FRAME_NODES     8u /* NUMA nodes that are told apart; further ones count as the last */

struct frame {
    uint64_t count; /* [atomic] see above */
    uint64_t type;  /* [atomic] the architecture's (pv/mmu: page type); 0 after allocation */
    uint32_t next,
        prev;       /* links by frame index: free list [heap lock] or the owner's list [owner page_lock] */
    uint32_t stamp; /* the architecture's TLB time at the last free or type change */
    uint16_t owner; /* domain id; FRAME_NO_OWNER = hypervisor or free. Changes only while count == 0 or under
                       page_lock */
    uint8_t order;  /* free block's order [heap lock] */
    uint8_t flags;  /* FRAME_F_* and the node in bits 5-7 [heap lock; CLEAN, STALE: whoever has the frame] */
};

#define FRAME_F_RAM   1  /* Krypton manages it */
#define FRAME_F_FREE  2  /* inside a free block */
#define FRAME_F_HEAD  4  /* first frame of a free block; its order is in `order` */
#define FRAME_F_CLEAN 8  /* contents are zero; a domain's frame: were zero when it got it */
#define FRAME_F_STALE 16 /* holds what a guest left behind; only while free */

/* The table, indexed by mfn; the entries for holes exist but are never allocated. frame_count = highest RAM
 * mfn + 1. */
extern struct frame *frame_table;
extern uint64_t frame_count;

static inline struct frame *mfn_frame(mfn_t m)
{
    return &frame_table[m.n];
} /* requires mfn_is_ram_range(m) */
static inline mfn_t frame_mfn(const struct frame *f)
{
    return MFN(f - frame_table);
}
/* True if m has a struct frame and is RAM that Krypton manages (not a hole, not MMIO, not firmware-reserved). */
static inline bool mfn_valid(mfn_t m)
{
    return m.n < frame_count && (__atomic_load_n(&frame_table[m.n].flags, __ATOMIC_RELAXED) & FRAME_F_RAM);
}

/* --- boot: the architecture hands over memory
 * ---------------------------------------------------------------- */
/* Sets up the table (zeroed memory for `count` entries, provided by the architecture). Once. */
void frame_init(struct frame *table, uint64_t count);
/* Gives [start, end) to the allocator; may be called many times; ranges must not overlap (checked: panics). */
void frame_add_range(mfn_t start, mfn_t end, unsigned node);
/* Marks [start,end) as RAM with a struct frame that is in use by the hypervisor (image, modules) and not
 * free. */
void frame_reserve_range(mfn_t start, mfn_t end);

/* --- hypervisor-private memory
 * -------------------------------------------------------------------------------- */
#define FRAME_ANY_NODE (~0u)
enum frame_alloc_flags {
    FA_ZERO = 1,     /* contents are zero */
    FA_BELOW_4G = 2, /* the whole block below 4 GiB */
    FA_EXACT_NODE = 4,
    FA_NO_SCRUB = 16, /* contents may be anything (the caller overwrites all of it: boot only) */
    FA_PLACE = 64,    /* *out says where, if that is free; else anywhere (32 is FA_NO_LIMIT) */
};
#define FRAME_MAX_ORDER 18 /* 1 GiB */
/* 2^order contiguous aligned frames, no owner. Returns false when there is none. Any lock below RANK_HEAP may
 * be held. */
bool must_check frame_alloc(unsigned order, unsigned flags, unsigned node, mfn_t *out);
/* As above, with address bits: every frame's address < 2^bits (bits >= 12; 64 = no limit). */
bool must_check frame_alloc_bits(unsigned order, unsigned bits, unsigned flags, unsigned node, mfn_t *out);
void frame_free(mfn_t m, unsigned order);
/* Zeroed whole frames as a pointer into the direct map; NULL when there is none. */
void *frame_alloc_va(unsigned order);
void frame_free_va(void *va, unsigned order);

/* --- a domain's memory
 * ------------------------------------------------------------------------------------------ */
/* Before any frame is charged to d or shared with it, with its id set: room in the table of owners. 0 or -ENOMEM. Nothing to undo. */
int must_check frame_domain_init(const struct domain *d);
/*
 * Allocates 2^order frames for d: zeroed, counted against d->max_frames (-ENOMEM beyond it unless MEMF-like
 * flag FA_NO_LIMIT), ALLOCATED with one reference each, on d's list. bits as above. 0 or -ENOMEM.
 */
#define FA_NO_LIMIT 32
int must_check frame_alloc_domain(struct domain *d, unsigned order, unsigned bits, unsigned flags,
                                  mfn_t *out);
/* The same from a NUMA node (FA_EXACT_NODE: only from there). */
int must_check frame_alloc_domain_node(struct domain *d, unsigned order, unsigned bits, unsigned flags,
                                       unsigned node, mfn_t *out);
/* Gives an ownerless allocated frame to d (grant transfer, exchange): same counting; -ENOMEM / -EINVAL if d
 * dies. */
int must_check frame_assign(struct domain *d, mfn_t m, unsigned order, unsigned flags);
/*
 * Takes frame f away from d without freeing it: needs the ALLOCATED reference to be the only one (count 1)
 * and leaves it ownerless and off d's list. Returns false (nothing changed) when somebody else holds a
 * reference.
 */
bool must_check frame_steal(struct domain *d, struct frame *f);
/* Makes a hypervisor frame visible to d (FRAME_SPECIAL, one reference kept by the hypervisor, owner d). */
void frame_share(struct domain *d, mfn_t m);
/* Undoes frame_share. False while a guest still holds references (the caller retries: destruction is
 * preemptible). */
bool must_check frame_unshare(mfn_t m);

/* Takes a reference if d owns f and f is in use. The only way to get from a guest's number to memory.
 * Lock-free. */
bool must_check frame_get(struct frame *f, const struct domain *d);
/* Takes a reference whoever the owner is, if the frame is in use; the owner's id to *owner. */
bool must_check frame_get_any(struct frame *f, did_t *owner);
/* One more reference to a frame to which the caller already holds one. */
void frame_ref(struct frame *f);
/* Drops a reference; the last one frees the frame (scrubbed, d->frames decreased). Panics when there is none. */
void frame_put(struct frame *f);
/* Clears ALLOCATED; true if this call cleared it: the caller then owes one frame_put(). */
bool must_check frame_clear_allocated(struct frame *f);
/* Undoes an allocation of 2^order frames to d. Only what is still d's: a PV guest names frames by guessing, and a domain may be killed
 * meanwhile, so that some may be another domain's by now. Takes and drops references. */
void frame_give_back(struct domain *d, mfn_t m, unsigned order);

/*
 * Releases up to `budget` of d's listed frames and d's claim; 0 when the list is empty, -EAGAIN when there is
 * more. For dying domains (d->dying set before). Frames that others still refer to are freed by the last
 * frame_put; until then they keep a reference on d.
 */
int must_check frame_domain_release(struct domain *d, unsigned budget);

/*
 * XENMEM_claim_pages: promises d that its frames can grow to `pages` in all (0 = gives the claim up).
 * -EINVAL: has a claim already, not more than it owns, more than its limit; -ENOMEM: not that much
 * unpromised.
 */
int must_check frame_claim(struct domain *d, uint64_t pages);

/* Walks d's list (page_lock held by the caller): first frame / next, NULL at the end. */
struct frame *frame_domain_first(struct domain *d);
struct frame *frame_next(struct frame *f);

/* --- frames out of use (sysctl page_offline_op) --- */
enum frame_offline {
    FRAME_OFFLINE_DONE,
    FRAME_OFFLINE_PENDING,
    FRAME_OFFLINE_BUSY,
    FRAME_OFFLINE_PRIVATE,
    FRAME_OFFLINE_NO_RAM
};
/* A free frame leaves the heap; a domain's (*owner) when its last reference goes; Krypton's own, shared or not, stay (PRIVATE). BUSY:
 * it is promised, or changes hands just now. */
enum frame_offline frame_offline(mfn_t m, did_t *owner);
/* Undoes it. False: it was not out of use, nor on its way. */
bool must_check frame_online(mfn_t m);
/* DONE, PENDING, or BUSY: in use or free. */
enum frame_offline frame_offline_query(mfn_t m);

/* --- free memory of unknown contents is zeroed by idle CPUs (scrub.c) --- */
bool frame_scrub_due(void);
/* One small group. Interrupts on, no locks. */
void frame_scrub_some(void);

/* --- figures
 * ------------------------------------------------------------------------------------------------------- */
struct frame_info {
    uint64_t total, free, hypervisor;
    uint64_t scrub_pending; /* free frames that held a guest's data: zeroed before anyone else gets them */
    uint64_t claimed;       /* promised to domains by claims, part of free */
};
void frame_info(struct frame_info *out);
uint64_t frame_free_node(unsigned node);
uint64_t frame_total_node(unsigned node);
/* Free frames whose addresses have at least min_bits and at most max_bits significant bits (0 = no bound), on a node
 * (-1 = on all). */
uint64_t frame_free_region(int node, unsigned min_bits, unsigned max_bits);
uint32_t frame_nodes(void); /* a bit per node that has memory */
/* Nodes that d's memory is taken from first. -EINVAL: none of them has memory. */
int must_check frame_set_node_affinity(struct domain *d, uint32_t nodes);
uint32_t frame_node_affinity(const struct domain *d);
/* Invariants of this room; panics with the broken one. Host tests and debug builds. */
void frame_room_check(void);
void frame_domain_check(
    struct domain *d); /* one domain's lists and accounts; nothing may be under way for it */
/* Debug key 'm'. */
void frame_dump(void);

#endif
