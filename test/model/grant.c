/* Reference model of grants (model.h). */
#include "model.h"
#include "core/log.h"
#include "core/grant/private.h"
#include "x86/p2m.h"
#include "x86/pte.h"

#include <string.h>

/* --- pins = handles --- */

struct pins {
    uint32_t read, write;
};

static struct pins handles_on(const struct domain *granter, uint32_t ref)
{
    struct pins n = {0};

    for_each_domain(u)
    {
        const struct track *k;

        for (uint32_t h = 0; u->grant && (k = grant_track(u->grant, h)); h++) {
            if (k->state == TRACK_FREE || k->granter != granter || k->ref != ref)
                continue;
            if (k->flags & GNTMAP_readonly)
                n.read++;
            else
                n.write++;
        }
    }
    return n;
}

static void each_active(const struct domain *d,
                        void (*fn)(const struct domain *, uint32_t, const struct active *))
{
    const struct grant_table *t = d->grant;

    for (uint32_t ref = 0; t && ref < t->max_frames * V1_PER_FRAME; ref++) {
        const struct active *a = grant_active(t, ref);

        if (!a)
            ref |= ACTIVE_PER_CHUNK - 1;
        else
            fn(d, ref, a);
    }
}

static void pins_match(const struct domain *d, uint32_t ref, const struct active *a)
{
    struct pins n;

    if (!a->read && !a->write)
        return;
    n = handles_on(d, ref);
    if (n.read != a->read || n.write != a->write)
        panic("model: d%u grant %u: %u readers and %u writers, handles %u and %u", d->id.v, ref, a->read,
              a->write, n.read, n.write);
}

static unsigned used_handles(const struct domain *d)
{
    const struct track *k;
    unsigned n = 0;

    for (uint32_t h = 0; d->grant && (k = grant_track(d->grant, h)); h++)
        n += k->state != TRACK_FREE;
    return n;
}

static void handle_has_pin(const struct domain *d)
{
    const struct track *k;

    for (uint32_t h = 0; d->grant && (k = grant_track(d->grant, h)); h++) {
        const struct active *a = k->state == TRACK_FREE ? NULL : grant_active(k->granter->grant, k->ref);

        if (k->state != TRACK_FREE && (!a || !(k->flags & GNTMAP_readonly ? a->read : a->write)))
            panic("model: d%u handle %u: nothing is pinned for it", d->id.v, h);
    }
}

void model_grant_pins_check(void)
{
    for_each_domain(d)
    {
        each_active(d, pins_match);
        if (used_handles(d))
            handle_has_pin(d);
    }
}

/* --- what granters see --- */

/* The bit of a reader is also that of a completed transfer, in entries for one. */
static uint16_t status_of(const struct grant_table *t, uint32_t ref)
{
    uint16_t w = t->version == 1 ? (uint16_t)*grant_header(t, ref) : *grant_status_word(t, ref);

    if (t->version == 1 && (w & GTF_type_mask) == GTF_accept_transfer)
        return 0;
    return w & (GTF_reading | GTF_writing);
}

static void status_matches(const struct domain *d, uint32_t ref, const struct active *a)
{
    uint16_t want = (uint16_t)((a->read || a->write ? GTF_reading : 0) | (a->write ? GTF_writing : 0));

    if (ref < grant_refs(d->grant) && status_of(d->grant, ref) != want)
        panic("model: d%u grant %u: status %#x, in use %#x", d->id.v, ref, status_of(d->grant, ref), want);
}

/* --- mappings --- */

static uint16_t maps[MODEL_FRAMES][2]; /* by frame and writable: entries found, then less handles */

static void count_foreign(struct domain *d, uint64_t e, void *data)
{
    uint64_t m = pte_mfn(e).n;

    if (m < MODEL_FRAMES && mfn_valid(MFN(m)) && mfn_frame(MFN(m))->owner != d->id.v)
        maps[m][!!(e & PTE_RW)]++;
}

static void count_mapped(struct domain *d, const struct p2m_entry *e)
{
    if (e->type == P2M_GRANT || e->type == P2M_GRANT_RO)
        maps[e->mfn.n][e->type == P2M_GRANT]++;
}

static void less_handles(const struct domain *d)
{
    const struct track *k;

    for (uint32_t h = 0; d->grant && (k = grant_track(d->grant, h)); h++) {
        const struct active *a = k->state == TRACK_FREE ? NULL : grant_active(k->granter->grant, k->ref);
        uint16_t *n = a && k->flags & GNTMAP_host_map ? &maps[a->mfn.n][!(k->flags & GNTMAP_readonly)] : NULL;

        if (n && *n)
            --*n;
    }
}

/* Privileged domains also map others' frames by their number. */
static void mappings_match(struct domain *d)
{
    memset(maps, 0, frame_count * sizeof(maps[0]));
    model_walk_l1(d, count_foreign, NULL);
    model_walk_p2m(d, count_mapped);
    less_handles(d);
    for (uint64_t m = 0; m < frame_count; m++)
        if (maps[m][0] || maps[m][1])
            panic("model: d%u maps frame %#lx of d%u %s, and was not granted it", d->id.v, m,
                  mfn_frame(MFN(m))->owner, maps[m][1] ? "writable" : "read-only");
}

void model_grant_check(bool scribbled)
{
    model_grant_pins_check();
    for_each_domain(d)
    {
        if (!scribbled && d->grant)
            each_active(d, status_matches);
        /* Entries of a dying domain, or of one that unmapped only the handle, are nobody's any more: its vCPUs are gone. */
        if (!d->privileged && !d->dying)
            mappings_match(d);
    }
}
