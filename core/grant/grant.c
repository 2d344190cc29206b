/*
 * Grant tables (xen/grant_table.h): a domain (the granter) writes into entries of a table that it shares with
 * Krypton which other domain (the user) may map, copy or take which of its frames. This file has the tables;
 * entry.c the use of an entry, maptrack.c the handles, map.c, copy.c and transfer.c the operations, ops.c
 * their arguments, check.c the invariants.
 *
 *   entry, in guest memory         active entry, ours           handle (track), of the user
 *   permit_access, user, frame --> pins, frame, user       <--  granter, ref, what is mapped
 *
 *   active:  unused --grant_use_begin--> pinned --grant_use_end, last--> unused       (each edge under the
 * entry's lock) handle:  FREE --grant_track_new--> BUSY --mapped--> LIVE --grant_track_take--> BUSY --all
 * unmapped--> FREE
 *                                                        ^------- something left ----'
 * While an entry is pinned, only the active entry counts: the guest's words are read once, when the first pin
 * is made.
 *
 * Invariants
 *  1. The pins of an entry are the LIVE or BUSY handles that name it, one each, plus the copies under way. So
 * they are bounded by handles and CPUs and do not overflow.
 *  2. Each pin of an entry that is not transitive holds one arch_grant_pin of the entry's frame: the frame
 * cannot be freed or, with write pins, become a page table. It goes before the granter is told (status bits
 * cleared).
 *  3. A handle that is not FREE holds a reference on its granter.
 *  4. in_use is the number of entries with pins.
 *  5. An entry exists for the guest (ref < grant_refs) exactly while its shared frame and, in version 2, its
 * status frame do. Frames go only when nothing is in use and the domain dies, status frames also by
 * set_version.
 *  6. Guest memory is only read and written by single atomic accesses or exchanges tried a few times.
 *
 * Locks: a table's lock (read by everybody who uses an entry), in it the entry's lock; never two tables at
 * once. Handles: track_lock for the free list only. Page tables are touched with none of these held.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/console.h"
#include "core/log.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "lib/string.h"

static unsigned status_frames_for(unsigned frames)
{
    return (unsigned)((frames * V2_PER_FRAME + STATUS_PER_FRAME - 1) / STATUS_PER_FRAME);
}

/* --- entries --- */

uint32_t *grant_header(const struct grant_table *t, uint32_t ref)
{
    if (t->version == 1)
        return (uint32_t *)&((grant_entry_v1_t *)t->shared[ref / V1_PER_FRAME])[ref % V1_PER_FRAME];
    return (uint32_t *)&((grant_entry_v2_t *)t->shared[ref / V2_PER_FRAME])[ref % V2_PER_FRAME];
}

struct active *grant_active_make(struct grant_table *t, uint32_t ref)
{
    struct active *none = NULL, *chunk;

    chunk = frame_alloc_va(0);
    if (!chunk)
        return NULL;
    for (unsigned i = 0; i < ACTIVE_PER_CHUNK; i++)
        spin_init(&chunk[i].lock, RANK_GRANT_ENTRY);
    if (!__atomic_compare_exchange_n(&t->active[ref / ACTIVE_PER_CHUNK], &none, chunk, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        frame_free_va(chunk, 0);
    return grant_active(t, ref);
}

/* --- frames of the table --- */

static void *table_frame_new(struct domain *d)
{
    mfn_t m;

    if (!frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m))
        return NULL;
    frame_share(d, m);
    return arch_frame_va(m);
}

/* False while somebody maps it. */
static bool table_frame_free(void *va)
{
    mfn_t m = arch_va_mfn(va);

    if (!frame_unshare(m))
        return false;
    frame_free(m, 0);
    return true;
}

gfn_t grant_frame_gfn(struct domain *d, const void *va)
{
    mfn_t m = arch_va_mfn(va);

    return d->ops->translated ? arch_mfn_to_gfn(d, m) : GFN(m.n);
}

static int status_grow(struct domain *d, struct grant_table *t, unsigned frames)
{
    for (; t->status_frames < status_frames_for(frames); t->status_frames++) {
        t->status[t->status_frames] = table_frame_new(d);
        if (!t->status[t->status_frames])
            return -ENOMEM;
    }
    return 0;
}

int grant_grow(struct domain *d, unsigned n)
{
    struct grant_table *t = d->grant;

    if (n > t->max_frames || domain_is_dying(d))
        return -EINVAL;
    if (t->version == 2 && status_grow(d, t, n))
        return -ENOMEM; /* status frames to spare do no harm */
    for (; t->frames < n; t->frames++) {
        t->shared[t->frames] = table_frame_new(d);
        if (!t->shared[t->frames])
            return -ENOMEM;
    }
    return 0;
}

int grant_frame(struct domain *d, unsigned i, bool status, mfn_t *out)
{
    struct grant_table *t = d->grant;
    uint64_t need = status ? (uint64_t)i * (STATUS_PER_FRAME / V2_PER_FRAME) + 1 : (uint64_t)i + 1;
    int r = -EINVAL;

    if (!t || need > t->max_frames)
        return r;
    write_lock(&t->lock);
    if (!status || t->version == 2)
        r = grant_grow(d, (unsigned)MAX(need, t->frames));
    if (!r)
        *out = status ? arch_va_mfn(t->status[array_index(i, t->status_frames)])
                      : arch_va_mfn(t->shared[array_index(i, t->frames)]);
    write_unlock(&t->lock);
    return r;
}

unsigned grant_frame_count(struct domain *d)
{
    return d->grant ? __atomic_load_n(&d->grant->frames, __ATOMIC_RELAXED) : 0;
}

unsigned grant_frame_limit(const struct domain *d)
{
    return d->grant ? d->grant->max_frames : 0;
}

/* --- versions --- */

/* One of the entries that survive a change of version, in neutral form. */
struct kept {
    uint16_t flags, domid;
    uint64_t frame;
};

/* -ERANGE: an entry that the other version cannot say. */
static int kept_read(const struct grant_table *t, uint32_t ref, struct kept *k)
{
    uint32_t w = __atomic_load_n(grant_header(t, ref), __ATOMIC_RELAXED);

    k->flags = (uint16_t)w;
    k->domid = (uint16_t)(w >> 16);
    k->frame = t->version == 1 ? __atomic_load_n(&grant_v1(t, ref)->frame, __ATOMIC_RELAXED)
                               : __atomic_load_n(&grant_v2(t, ref)->full_page.frame, __ATOMIC_RELAXED);
    switch (k->flags & GTF_type_mask) {
    case GTF_invalid:
        k->flags = 0;
        return 0;
    case GTF_permit_access:
        k->flags &= GTF_type_mask | GTF_readonly | GTF_PWT | GTF_PCD | GTF_PAT | GTF_sub_page;
        return t->version == 2 && ((k->flags & GTF_sub_page) || k->frame >> 32) ? -ERANGE : 0;
    default:
        return -ERANGE;
    }
}

/* The table is in its new version, zero. Pins made in the old one go on: their bits are written where they
 * belong now. */
static void kept_write(struct grant_table *t, uint32_t ref, const struct kept *k)
{
    const struct active *a = grant_active(t, ref);
    uint16_t in_use = 0;

    if (a && (a->read || a->write))
        in_use = (uint16_t)(GTF_reading | (a->write ? GTF_writing : 0));
    if (t->version == 1) {
        __atomic_store_n(&grant_v1(t, ref)->frame, (uint32_t)k->frame, __ATOMIC_RELAXED);
        in_use |= k->flags;
    } else {
        __atomic_store_n(&grant_v2(t, ref)->full_page.frame, k->frame, __ATOMIC_RELAXED);
        __atomic_store_n(grant_status_word(t, ref), in_use, __ATOMIC_RELAXED);
        in_use = k->flags;
    }
    __atomic_store_n(grant_header(t, ref), in_use | (uint32_t)k->domid << 16, __ATOMIC_RELEASE);
}

/* Entries in use beyond those that survive? Lock written. */
static bool others_in_use(const struct grant_table *t)
{
    uint32_t kept = 0;

    for (uint32_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
        const struct active *a = grant_active(t, ref);

        kept += a && (a->read || a->write);
    }
    return __atomic_load_n(&t->in_use, __ATOMIC_RELAXED) != kept;
}

/* Lock written. All or, when the guest still maps one, the rest stays: -EBUSY. */
static int status_drop(struct grant_table *t)
{
    while (t->status_frames) {
        if (!table_frame_free(t->status[t->status_frames - 1]))
            return -EBUSY;
        t->status[--t->status_frames] = NULL;
    }
    return 0;
}

static int version_change(struct domain *d, struct grant_table *t, unsigned version)
{
    struct kept kept[GNTTAB_NR_RESERVED_ENTRIES];
    int r;

    if (domain_is_dying(d))
        return -EINVAL;
    if (others_in_use(t))
        return -EBUSY;
    for (uint32_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++) {
        r = kept_read(t, ref, &kept[ref]);
        if (r)
            return r;
    }
    r = version == 2 ? status_grow(d, t, t->frames) : status_drop(t);
    if (r) {
        if (version == 1)
            r = status_grow(d, t, t->frames) ? -ENOMEM : r;
        return r;
    }
    for (unsigned i = 0; i < t->frames; i++)
        memset(t->shared[i], 0, FRAME_SIZE);
    for (unsigned i = 0; i < t->status_frames; i++)
        memset(t->status[i], 0, FRAME_SIZE);
    __atomic_store_n(&t->version, version, __ATOMIC_RELAXED); /* op_set_version reads it without the lock */
    for (uint32_t ref = 0; ref < GNTTAB_NR_RESERVED_ENTRIES; ref++)
        kept_write(t, ref, &kept[ref]);
    return 0;
}

/* -EINVAL; -ENOSYS: above what the toolstack allows; -EBUSY: grants in use, or status frames still mapped; -ERANGE; -ENOMEM. */
int grant_set_version(struct domain *d, unsigned version)
{
    struct grant_table *t = d->grant;
    int r = 0;

    if (version != 1 && version != 2)
        return -EINVAL;
    if (version > t->max_version)
        return -ENOSYS;
    write_lock(&t->lock);
    if (version != t->version)
        r = version_change(d, t, version);
    write_unlock(&t->lock);
    return r;
}

/* --- life --- */

static void table_free(struct grant_table *t)
{
    for (unsigned i = 0; t->active && i < t->max_frames * (V1_PER_FRAME / ACTIVE_PER_CHUNK); i++)
        if (t->active[i])
            frame_free_va(t->active[i], 0);
    for (unsigned i = 0; i < t->track_frames; i++)
        frame_free_va(t->tracks[i], 0);
    mem_free(t->tracks);
    mem_free(t->active);
    mem_free(t->status);
    mem_free(t->shared);
    mem_free(t);
}

int grant_domain_init(struct domain *d, unsigned max_frames, unsigned max_maptrack_frames,
                      unsigned max_version)
{
    struct grant_table *t = mem_new(struct grant_table);
    int r;

    if (!t)
        return -ENOMEM;
    rw_init(&t->lock, RANK_GRANT);
    spin_init(&t->track_lock, RANK_MAPTRACK);
    t->version = 1;
    t->max_version = max_version;
    t->track_free = NO_HANDLE;
    t->max_frames = MAX(1u, MIN(max_frames, GRANT_MAX_FRAMES));
    t->max_track_frames = MAX(1u, MIN(max_maptrack_frames, GRANT_MAX_MAPTRACK_FRAMES));
    t->shared = mem_alloc_array(t->max_frames, sizeof(void *));
    t->status = mem_alloc_array(status_frames_for(t->max_frames), sizeof(void *));
    t->active = mem_alloc_array(t->max_frames * (V1_PER_FRAME / ACTIVE_PER_CHUNK), sizeof(void *));
    t->tracks = mem_alloc_array(t->max_track_frames, sizeof(void *));
    d->grant = t;
    if (t->shared && t->status && t->active && t->tracks) {
        write_lock(&t->lock);
        r = grant_grow(d, 1);
        write_unlock(&t->lock);
        if (!r && d->hardware) /* once, at boot */
            debug_key_register('g', "grant tables", grant_dump);
        if (!r)
            return 0;
    }
    d->grant = NULL;
    table_free(t);
    return -ENOMEM;
}

bool grant_domain_release_table(struct domain *d)
{
    struct grant_table *t = d->grant;
    bool gone;

    if (!t)
        return true;
    write_lock(&t->lock);
    gone = !__atomic_load_n(&t->in_use, __ATOMIC_RELAXED) && !status_drop(t);
    while (gone && t->frames) {
        gone = table_frame_free(t->shared[t->frames - 1]);
        if (gone)
            t->shared[--t->frames] = NULL;
    }
    write_unlock(&t->lock);
    return gone;
}

void grant_domain_free(struct domain *d)
{
    if (!d->grant)
        return;
    BUG_ON(!grant_domain_release_table(d));
    BUG_ON(d->grant->track_used);
    table_free(d->grant);
    d->grant = NULL;
}
