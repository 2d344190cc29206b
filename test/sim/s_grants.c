/*
 * Grants: three domains rewrite entries, map, access what they mapped through their TLBs, copy, transfer, unmap,
 * change the version, while one of them is killed. Against stale translations: what was unmapped is no longer
 * translated by any CPU when the hypercall is through.
 */
#include "sim.h"
#include "core/grant/private.h"
#include "model.h"

#define REFS    12u
#define HANDLES 16u
#define SLOTS   8u
#define SLOT(i) SIM_PAGE(16 + (i))

static bool killing;

static void start(void)
{
    for (unsigned i = 0; i < 3; i++)
        sim_space_make(sim_domain(2, 128));
    killing = sim_one_in(2);
}

static void op(struct sim_vcpu *s, unsigned nr, uint64_t count)
{
    sim_call(s, __HYPERVISOR_grant_table_op, nr, (uint64_t)(uintptr_t)s->arg, count, 0);
}

static uint16_t someone(void)
{
    return sim_any()->id.v;
}

static mfn_t own_page(const struct sim_vcpu *s)
{
    return sim_space[s->v->domain->id.v].data[sim_rnd(SIM_DATA)];
}

/* The granter's memory: an entry for some user, of any kind. */
static void rewrite(struct sim_vcpu *s)
{
    struct grant_table *t = s->v->domain->grant;
    uint32_t ref = sim_rnd(REFS), word = (uint32_t)someone() << 16;
    static const uint32_t kinds[] = {GTF_permit_access,   GTF_permit_access,
                                     GTF_permit_access,   GTF_permit_access | GTF_readonly,
                                     GTF_accept_transfer, 0};

    word |= kinds[sim_rnd(ARRAY_SIZE(kinds))];
    read_lock(&t->lock); /* for the version only: which words are the entry's */
    if (ref < grant_refs(t)) {
        if (t->version == 1)
            __atomic_store_n(&grant_v1(t, ref)->frame, (uint32_t)own_page(s).n, __ATOMIC_RELAXED);
        else
            __atomic_store_n(&grant_v2(t, ref)->full_page.frame, own_page(s).n, __ATOMIC_RELAXED);
        __atomic_store_n(grant_header(t, ref), word, __ATOMIC_RELEASE);
    }
    read_unlock(&t->lock);
}

static void map(struct sim_vcpu *s)
{
    struct gnttab_map_grant_ref *m = (struct gnttab_map_grant_ref *)s->arg;
    unsigned n = 1 + sim_rnd(3), slot;

    for (unsigned i = 0; i < n; i++) {
        slot = sim_rnd(SLOTS);
        m[i] = (struct gnttab_map_grant_ref){.host_addr = SLOT(slot),
                                             .flags = GNTMAP_host_map | (sim_one_in(3) ? GNTMAP_readonly : 0),
                                             .ref = sim_rnd(REFS),
                                             .dom = someone()};
        if (sim_one_in(4)) {
            m[i].flags |= GNTMAP_contains_pte;
            m[i].host_addr = mfn_to_maddr(sim_space[s->v->domain->id.v].l1).a + (16 + slot) * 8;
        }
        if (sim_one_in(8))
            m[i].flags |= GNTMAP_device_map;
    }
    op(s, GNTTABOP_map_grant_ref, n);
}

static void unmap(struct sim_vcpu *s)
{
    struct gnttab_unmap_grant_ref *u = (struct gnttab_unmap_grant_ref *)s->arg;
    struct gnttab_unmap_and_replace *r = (struct gnttab_unmap_and_replace *)s->arg;
    unsigned n = 1 + sim_rnd(4);

    if (sim_one_in(6)) {
        *r = (struct gnttab_unmap_and_replace){
            .host_addr = SLOT(sim_rnd(SLOTS)), .new_addr = SLOT(sim_rnd(SLOTS)), .handle = sim_rnd(HANDLES)};
        op(s, GNTTABOP_unmap_and_replace, 1);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        u[i] = (struct gnttab_unmap_grant_ref){.host_addr = SLOT(sim_rnd(SLOTS)), .handle = sim_rnd(HANDLES)};
    op(s, GNTTABOP_unmap_grant_ref, n);
}

static void copy(struct sim_vcpu *s)
{
    struct gnttab_copy *c = (struct gnttab_copy *)s->arg;
    unsigned n = 1 + sim_rnd(3);

    for (unsigned i = 0; i < n; i++) {
        c[i] = (struct gnttab_copy){.source = {.u.ref = sim_rnd(REFS), .domid = someone()},
                                    .dest = {.u.gmfn = own_page(s).n, .domid = DOMID_SELF},
                                    .len = 8,
                                    .flags = GNTCOPY_source_gref};
        if (sim_one_in(3)) {
            c[i].dest.u.ref = sim_rnd(REFS);
            c[i].dest.domid = someone();
            c[i].flags |= GNTCOPY_dest_gref;
        }
    }
    op(s, GNTTABOP_copy, n);
}

/* A frame that is not mapped, given to whoever accepts it. */
static void transfer(struct sim_vcpu *s)
{
    struct gnttab_transfer *t = (struct gnttab_transfer *)s->arg;

    *t = (struct gnttab_transfer){.mfn = own_page(s).n, .domid = someone(), .ref = sim_rnd(REFS)};
    op(s, GNTTABOP_transfer, 1);
}

static void rare(struct sim_vcpu *s)
{
    struct gnttab_set_version *v = (struct gnttab_set_version *)s->arg;
    struct gnttab_swap_grant_ref *w = (struct gnttab_swap_grant_ref *)s->arg;
    struct gnttab_setup_table *t = (struct gnttab_setup_table *)s->arg;

    switch (sim_rnd(4)) {
    case 0:
        v->version = 1 + sim_rnd(2);
        op(s, GNTTABOP_set_version, 1);
        break;
    case 1:
        *w = (struct gnttab_swap_grant_ref){.ref_a = sim_rnd(REFS), .ref_b = sim_rnd(REFS)};
        op(s, GNTTABOP_swap_grant_ref, 1);
        break;
    case 2:
        *t = (struct gnttab_setup_table){.dom = DOMID_SELF, .nr_frames = 1 + sim_rnd(4)};
        set_xen_guest_handle(t->frame_list, (xen_pfn_t *)(s->arg + 256));
        op(s, GNTTABOP_setup_table, 1);
        break;
    default:
        /* Out of the way, or back: its frame can then be transferred. */
        sim_call(s, __HYPERVISOR_update_va_mapping, SIM_PAGE(sim_rnd(SIM_DATA)),
                 sim_one_in(2) ? 0 : pte_make(own_page(s), SIM_RW), UVMF_INVLPG | UVMF_ALL, 0);
    }
}

static void step(struct sim_vcpu *s)
{
    if (killing && s->v->domain == sim_dom[0] && sim_one_in(40)) {
        sim_job(s, sim_kill, sim_dom[1 + sim_rnd(2)]);
        return;
    }
    switch (sim_rnd(16)) {
    case 0 ... 2:
        rewrite(s);
        break;
    case 3 ... 5:
        map(s);
        break;
    case 6 ... 8:
        unmap(s);
        break;
    case 9:
        copy(s);
        break;
    case 10:
        transfer(s);
        break;
    case 11:
        rare(s);
        break;
    default:
        for (unsigned i = 0; i < 3; i++)
            sim_touch(s->v, sim_one_in(3) ? SIM_PAGE(sim_rnd(SIM_DATA)) : SLOT(sim_rnd(SLOTS)), sim_one_in(2),
                      0);
    }
}

/* A guest that maps something else at the same place has not given the first mapping back yet. */
static bool has_handle(struct domain *d, uint64_t mfn)
{
    struct track *k;

    for (uint32_t h = 0; (k = grant_track(d->grant, h)); h++)
        if (k->state == TRACK_LIVE && grant_use_mfn(k->granter, k->ref).n == mfn)
            return true;
    return false;
}

static void check(void)
{
    sim_space_check_foreign(has_handle);
    model_grant_check(true);
}

const struct sim_scenario sim_grants = {"grants", 120, start, step, NULL, check, NULL};
