/* Grant tables: the room's invariants (grant.c) as code, and debug key 'g'. */
#include "private.h"
#include "core/console.h"
#include "core/log.h"

#define DUMP_ENTRIES 64u

static uint32_t refs_max(const struct grant_table *t)
{
    return (uint32_t)(t->max_frames * V1_PER_FRAME);
}

/* Invariants 4 and 5. Lock read. */
static void check_entries(const struct grant_table *t)
{
    uint32_t used = 0;

    for (uint32_t ref = 0; ref < refs_max(t); ref++) {
        const struct active *a = grant_active(t, ref);

        if (!a) {
            ref |= ACTIVE_PER_CHUNK - 1;
            continue;
        }
        if (!a->read && !a->write)
            continue;
        used++;
        BUG_ON(ref >= grant_refs(t));
        BUG_ON(a->transitive && (a->whole || !mfn_eq(a->mfn, INVALID_MFN)));
        BUG_ON(!a->transitive && mfn_eq(a->mfn, INVALID_MFN));
    }
    BUG_ON(used != t->in_use);
}

/* Invariants 1 and 3: nobody else may be mapping meanwhile, and no copy be under way (host tests, single
 * CPU). */
static void check_tracks(const struct domain *d, const struct grant_table *t)
{
    uint32_t used = 0;
    const struct track *k;

    for (uint32_t h = 0; (k = grant_track(t, h)); h++) {
        const struct active *a;

        if (k->state == TRACK_FREE) {
            BUG_ON(k->granter || k->flags);
            continue;
        }
        used++;
        BUG_ON(!k->granter || !(k->flags & (GNTMAP_host_map | GNTMAP_device_map)));
        a = grant_active(k->granter->grant, k->ref);
        BUG_ON(!a || a->domid != d->id.v || !a->whole);
        BUG_ON(k->flags & GNTMAP_readonly ? !a->read : !a->write);
    }
    BUG_ON(used != t->track_used);
}

static uint64_t pins_of(const struct grant_table *t)
{
    uint64_t sum = 0;

    for (uint32_t ref = 0; ref < refs_max(t); ref++) {
        const struct active *a = grant_active(t, ref);

        if (!a)
            ref |= ACTIVE_PER_CHUNK - 1;
        else
            sum += (uint64_t)a->read + a->write;
    }
    return sum;
}

static uint64_t handles_on(const struct domain *granter)
{
    uint64_t sum = 0;

    for_each_held_domain(u)
    {
        const struct track *k;

        for (uint32_t h = 0; u->grant && (k = grant_track(u->grant, h)); h++)
            sum += k->state != TRACK_FREE && k->granter == granter;
    }
    return sum;
}

void grant_room_check_sums(const struct domain *granter)
{
    if (granter->grant)
        BUG_ON(pins_of(granter->grant) != handles_on(granter));
}

static uint32_t free_count(const struct grant_table *t)
{
    uint32_t n = 0;

    for (uint32_t h = t->track_free; h != NO_HANDLE; h = grant_track(t, h)->ref) {
        BUG_ON(grant_track(t, h)->state != TRACK_FREE);
        BUG_ON(++n > t->track_frames * TRACKS_PER_FRAME);
    }
    return n;
}

void grant_room_check(const struct domain *d)
{
    struct grant_table *t = d->grant;

    if (!t)
        return;
    read_lock(&t->lock);
    BUG_ON(t->frames > t->max_frames || (t->version != 1 && t->version != 2));
    BUG_ON(t->version == 1 ? t->status_frames
                           : t->status_frames * STATUS_PER_FRAME < t->frames * V2_PER_FRAME);
    check_entries(t);
    read_unlock(&t->lock);
    spin_lock(&t->track_lock);
    check_tracks(d, t);
    BUG_ON(t->track_used + free_count(t) != t->track_frames * TRACKS_PER_FRAME);
    spin_unlock(&t->track_lock);
}

void grant_dump_domain(const struct domain *d)
{
    struct grant_table *t = d->grant;
    uint32_t shown = 0;

    if (!t)
        return;
    read_lock(&t->lock);
    console_printf("d%u: version %u, %u of %u frames, %u grants in use, %u handles in %u frames\n", d->id.v,
                   t->version, t->frames, t->max_frames, t->in_use, t->track_used, t->track_frames);
    for (uint32_t ref = 0; ref < grant_refs(t) && shown < DUMP_ENTRIES; ref++) {
        const struct active *a = grant_active(t, ref);

        if (!a)
            ref |= ACTIVE_PER_CHUNK - 1;
        if (!a || (!a->read && !a->write))
            continue;
        shown++;
        console_printf("  %5u to d%u frame %lx readers %u writers %u%s\n", ref, a->domid, a->mfn.n, a->read,
                       a->write,
                       a->transitive ? " transitive"
                       : a->whole    ? ""
                                     : " part");
    }
    if (shown == DUMP_ENTRIES)
        console_printf("  ...\n");
    read_unlock(&t->lock);
}

void grant_dump(void)
{
    for_each_held_domain(d)
    {
        grant_dump_domain(d);
    }
}
