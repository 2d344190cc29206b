/* Handles of mappings (grant.c has the theory): frames of them, a free list through their `ref` fields. */
#include "private.h"
#include "core/frame.h"
#include "core/log.h"

struct track *grant_track(const struct grant_table *t, uint32_t handle)
{
    uint32_t frames = __atomic_load_n(&t->track_frames, __ATOMIC_ACQUIRE),
             n = frames * (uint32_t)TRACKS_PER_FRAME;

    if (handle >= n)
        return NULL;
    handle = (uint32_t)array_index(handle, n);
    return &t->tracks[handle / TRACKS_PER_FRAME][handle % TRACKS_PER_FRAME];
}

/* track_lock held. */
static bool grow(struct grant_table *t)
{
    uint32_t first = t->track_frames * (uint32_t)TRACKS_PER_FRAME;
    struct track *f;

    if (t->track_frames == t->max_track_frames)
        return false;
    f = frame_alloc_va(0);
    if (!f)
        return false;
    for (uint32_t i = 0; i < TRACKS_PER_FRAME; i++)
        f[i].ref = i + 1 < TRACKS_PER_FRAME ? first + i + 1 : t->track_free;
    t->track_free = first;
    t->tracks[t->track_frames] = f;
    __atomic_store_n(&t->track_frames, t->track_frames + 1, __ATOMIC_RELEASE);
    return true;
}

struct track *grant_track_new(struct grant_table *t, uint32_t *handle)
{
    struct track *k = NULL;

    spin_lock(&t->track_lock);
    if (t->track_free != NO_HANDLE || grow(t)) {
        *handle = t->track_free;
        k = grant_track(t, *handle);
        t->track_free = k->ref;
        t->track_used++;
        __atomic_store_n(&k->state, TRACK_BUSY, __ATOMIC_RELAXED);
    }
    spin_unlock(&t->track_lock);
    return k;
}

void grant_track_free(struct grant_table *t, struct track *k, uint32_t handle)
{
    spin_lock(&t->track_lock);
    k->granter = NULL;
    k->flags = 0;
    k->ref = t->track_free;
    t->track_free = handle;
    t->track_used--;
    __atomic_store_n(&k->state, TRACK_FREE, __ATOMIC_RELEASE);
    spin_unlock(&t->track_lock);
}

bool grant_track_take(struct track *k)
{
    uint16_t live = TRACK_LIVE;

    return __atomic_compare_exchange_n(&k->state, &live, TRACK_BUSY, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

void grant_track_live(struct track *k)
{
    __atomic_store_n(&k->state, TRACK_LIVE, __ATOMIC_RELEASE);
}
