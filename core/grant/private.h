/* Grant tables: what the files of this room share. The theory is at the head of grant.c. */
#ifndef GRANT_PRIVATE_H
#define GRANT_PRIVATE_H

#include "core/domain.h"
#include "core/grant.h"
#include "core/nospec.h"

#define V1_PER_FRAME     (FRAME_SIZE / sizeof(grant_entry_v1_t))
#define V2_PER_FRAME     (FRAME_SIZE / sizeof(grant_entry_v2_t))
#define STATUS_PER_FRAME (FRAME_SIZE / sizeof(grant_status_t))
_Static_assert(V1_PER_FRAME == 512 && V2_PER_FRAME == 256 && STATUS_PER_FRAME == 2048, "ABI");

/* What Krypton knows of a grant entry in use. Field tag [e]: the entry's lock. */
struct active {
    struct spinlock lock;   /* RANK_GRANT_ENTRY */
    uint32_t read, write;   /* [e] pins by kind of access; both 0: not in use, the rest means nothing */
    uint16_t domid;         /* [e] who uses it */
    uint16_t start, length; /* [e] the bytes that may be copied */
    bool whole;             /* [e] a full page: may be mapped */
    bool transitive;        /* [e] stands for trans_ref of trans_domid; mfn means nothing */
    uint16_t trans_domid;
    uint32_t trans_ref;
    mfn_t mfn; /* [e] one arch_grant_pin per pin */
    uint64_t pad[3];
};
_Static_assert(sizeof(struct active) == 64, "a cache line each");
#define ACTIVE_PER_CHUNK (FRAME_SIZE / sizeof(struct active))

enum track_state { TRACK_FREE = 0, TRACK_BUSY, TRACK_LIVE };

/* A handle: what a domain has mapped. Only who moved it to BUSY may touch the rest. */
struct track {
    struct domain *granter; /* a reference; NULL when free */
    uint32_t ref;           /* free: the next free handle */
    uint16_t flags;         /* GNTMAP_* as far as still mapped */
    uint16_t state;         /* [a] enum track_state */
};
_Static_assert(sizeof(struct track) == 16, "256 per frame");
#define TRACKS_PER_FRAME (FRAME_SIZE / sizeof(struct track))
#define NO_HANDLE        0xffffffffu

struct grant_table {
    struct rwlock lock;      /* RANK_GRANT: read to use entries, written to change what entries there are */
    unsigned version;        /* [lock] 1 or 2 */
    unsigned frames;         /* [lock] shared frames that exist */
    unsigned status_frames;  /* [lock] version 2: enough for them, else 0 */
    unsigned max_version;    /* [c] */
    unsigned max_frames;     /* [c] */
    void **shared;           /* [lock] max_frames direct-map pointers: guest memory, hostile */
    grant_status_t **status; /* [lock] */
    struct active **active;  /* [appear once] max_frames * 512 / 64 chunks */
    uint32_t in_use;         /* [a] entries with pins */

    struct spinlock track_lock; /* RANK_MAPTRACK: the free list and growth */
    struct track **tracks;      /* [entries appear once] frames of handles */
    unsigned track_frames, max_track_frames;
    uint32_t track_free;   /* [track_lock] first free handle */
    uint32_t track_used;   /* [track_lock] not FREE */
    uint32_t release_next; /* where grant_domain_release_mappings goes on */
};

/* --- grant.c --- */
static inline uint32_t grant_refs(const struct grant_table *t)
{
    return (uint32_t)(t->frames * (t->version == 1 ? V1_PER_FRAME : V2_PER_FRAME));
}
/* First word of an entry: flags in the low half, domid above; both versions. ref < grant_refs(t), lock held. */
uint32_t *grant_header(const struct grant_table *t, uint32_t ref);
static inline grant_entry_v1_t *grant_v1(const struct grant_table *t, uint32_t ref)
{
    return (grant_entry_v1_t *)grant_header(t, ref);
}
static inline grant_entry_v2_t *grant_v2(const struct grant_table *t, uint32_t ref)
{
    return (grant_entry_v2_t *)grant_header(t, ref);
}
static inline grant_status_t *grant_status_word(const struct grant_table *t, uint32_t ref)
{
    return &t->status[ref / STATUS_PER_FRAME][ref % STATUS_PER_FRAME];
}
/* The active entry if it was ever used, else NULL; _make allocates (NULL: no memory). */
static inline struct active *grant_active(const struct grant_table *t, uint32_t ref)
{
    struct active *chunk = __atomic_load_n(&t->active[ref / ACTIVE_PER_CHUNK], __ATOMIC_ACQUIRE);

    return chunk ? &chunk[ref % ACTIVE_PER_CHUNK] : NULL;
}
struct active *grant_active_make(struct grant_table *t, uint32_t ref);
/* At least n shared frames. -EINVAL beyond the limit or dying, -ENOMEM. Lock written. */
int must_check grant_grow(struct domain *d, unsigned n);
int must_check grant_set_version(struct domain *d, unsigned version);
/* The guest's name for a frame of its table. */
gfn_t grant_frame_gfn(struct domain *d, const void *va);

/* --- entry.c: using an entry. Results are GNTST_* --- */
struct grant_use {
    struct domain *granter;
    uint32_t ref;
    uint16_t user; /* domain id */
    bool readonly;
    bool copy; /* not a mapping: sub-page and transitive grants are fine */
    /* out */
    mfn_t mfn; /* INVALID_MFN for a transitive entry */
    uint16_t start, length;
    uint16_t trans_domid;
    uint32_t trans_ref;
};
/* One pin: marks the entry as in use, holds the frame (arch_grant_pin). No locks. */
int must_check grant_use_begin(struct grant_use *u);
/* Needs granter, ref, readonly. Lets the frame go, then tells the granter. */
void grant_use_end(const struct grant_use *u);
/* The frame of an entry in use by the caller. */
mfn_t grant_use_mfn(struct domain *granter, uint32_t ref);

/* --- maptrack.c --- */
/* A BUSY handle, or NULL: none left. */
struct track *grant_track_new(struct grant_table *t, uint32_t *handle);
void grant_track_free(struct grant_table *t, struct track *k, uint32_t handle);
struct track *grant_track(const struct grant_table *t, uint32_t handle);
/* LIVE -> BUSY. False: not LIVE. */
bool must_check grant_track_take(struct track *k);
void grant_track_live(struct track *k);

/* --- operations on arrays (map.c, copy.c, transfer.c) --- */
long grant_op_map(struct hypercall *hc);
long grant_op_unmap(struct hypercall *hc);
long grant_op_unmap_and_replace(struct hypercall *hc);
long grant_op_copy(struct hypercall *hc);
long grant_op_transfer(struct hypercall *hc);
void grant_dump_domain(const struct domain *d);
/* After `done` elements of `size` bytes: 0 at the end, else HC_AGAIN with the arguments moved on. */
long grant_again(struct hypercall *hc, uint32_t done, size_t size);

#endif
