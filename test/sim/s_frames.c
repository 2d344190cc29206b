/*
 * Frames and reservations: increase, decrease, populate, exchange, claims, limits, by two vCPUs of a domain on the
 * same frames, by the control domain on others, while one of them is killed; guests access what they have.
 */
#include "sim.h"
#include "core/memory_op.h"

#define NAMES 12u

static uint64_t names[SIM_DOMAINS][NAMES]; /* [a] frames that once were the domain's; others name them too */
static bool killing;

static void remember(unsigned d, uint64_t mfn)
{
    __atomic_store_n(&names[d][sim_rnd(NAMES)], mfn, __ATOMIC_RELAXED);
}

static uint64_t recall(const struct sim_vcpu *s)
{
    unsigned d = sim_one_in(8) ? sim_rnd(sim_domains) : s->v->domain->id.v;

    return __atomic_load_n(&names[d][sim_rnd(NAMES)], __ATOMIC_RELAXED);
}

static void start(void)
{
    for (unsigned i = 0; i < 3; i++) {
        struct domain *d = sim_domain(2, 60);

        sim_space_make(d);
        for (unsigned k = 0; k < 6; k++)
            remember(i, sim_page(d).n);
    }
    killing = sim_one_in(3);
}

static uint16_t target(const struct sim_vcpu *s)
{
    return s->v->domain == sim_dom[0] ? sim_any()->id.v : DOMID_SELF;
}

static uint64_t *list(struct sim_vcpu *s)
{
    return (uint64_t *)(s->arg + 1024);
}

/* The last turn's frames become known. */
static void learn(struct sim_vcpu *s)
{
    for (unsigned i = 0; i < s->data[0]; i++)
        if (list(s)[i] < frame_count)
            remember(s->v->domain->id.v, list(s)[i]);
    s->data[0] = 0;
}

static void reservation(struct sim_vcpu *s, unsigned nr, unsigned n, unsigned order)
{
    struct xen_memory_reservation *r = (struct xen_memory_reservation *)s->arg;

    *r = (struct xen_memory_reservation){.nr_extents = n, .extent_order = order, .domid = target(s)};
    set_xen_guest_handle(r->extent_start, (xen_pfn_t *)list(s));
    sim_call(s, __HYPERVISOR_memory_op, nr, (uint64_t)(uintptr_t)r, 0, 0);
}

static void give(struct sim_vcpu *s)
{
    unsigned n = 1 + sim_rnd(4);

    for (unsigned i = 0; i < n; i++)
        list(s)[i] = recall(s);
    reservation(s, XENMEM_decrease_reservation, n, 0);
}

static void take(struct sim_vcpu *s)
{
    unsigned n = 1 + sim_rnd(4), order = sim_one_in(4) ? 1 + sim_rnd(2) : 0;

    for (unsigned i = 0; i < n; i++)
        list(s)[i] = sim_rnd(64);
    s->data[0] = n;
    reservation(s, sim_one_in(2) ? XENMEM_increase_reservation : XENMEM_populate_physmap, n, order);
}

static void exchange(struct sim_vcpu *s)
{
    struct xen_memory_exchange *x = (struct xen_memory_exchange *)s->arg;
    bool join = sim_one_in(2);
    unsigned in = join ? 4 : 1 + sim_rnd(3);

    memset(x, 0, sizeof(*x));
    for (unsigned i = 0; i < in; i++)
        list(s)[i] = recall(s);
    x->in.nr_extents = in;
    x->in.domid = x->out.domid = target(s);
    x->out.nr_extents = join ? 1 : in;
    x->out.extent_order = join ? 2 : 0;
    set_xen_guest_handle(x->in.extent_start, (xen_pfn_t *)list(s));
    for (unsigned i = 0; i < x->out.nr_extents; i++)
        list(s)[16 + i] = sim_rnd(64);
    set_xen_guest_handle(x->out.extent_start, (xen_pfn_t *)(list(s) + 16));
    sim_call(s, __HYPERVISOR_memory_op, XENMEM_exchange, (uint64_t)(uintptr_t)x, 0, 0);
}

static void claim(struct sim_vcpu *s)
{
    struct xen_memory_reservation *r = (struct xen_memory_reservation *)s->arg;

    *r = (struct xen_memory_reservation){.nr_extents = sim_one_in(2) ? 0 : 20 + sim_rnd(40),
                                         .domid = target(s)};
    sim_call(s, __HYPERVISOR_memory_op, XENMEM_claim_pages, (uint64_t)(uintptr_t)r, 0, 0);
}

/* Maps a frame that the guest has, or has no more. */
static void map(struct sim_vcpu *s)
{
    uint64_t e = sim_one_in(3) ? 0 : pte_make(MFN(recall(s)), sim_one_in(2) ? SIM_RW : SIM_RO);

    sim_call(s, __HYPERVISOR_update_va_mapping, SIM_PAGE(16 + sim_rnd(8)), e,
             sim_one_in(2) ? UVMF_INVLPG | UVMF_ALL : 0, 0);
}

static void step(struct sim_vcpu *s)
{
    learn(s);
    if (killing && s->v->domain == sim_dom[0] && sim_one_in(40)) {
        sim_job(s, sim_kill, sim_dom[1 + sim_rnd(2)]);
        return;
    }
    switch (sim_rnd(12)) {
    case 0 ... 1:
        give(s);
        break;
    case 2 ... 4:
        take(s);
        break;
    case 5 ... 6:
        exchange(s);
        break;
    case 7:
        if (s->v->domain == sim_dom[0])
            claim(s);
        break;
    case 8 ... 9:
        map(s);
        break;
    default:
        for (unsigned i = 0; i < 3; i++)
            sim_touch(s->v, SIM_PAGE(sim_one_in(3) ? sim_rnd(SIM_DATA) : 16 + sim_rnd(8)), sim_one_in(2),
                      sim_rnd(1000));
    }
}

const struct sim_scenario sim_frames = {"frames", 120, start, step, NULL, NULL, NULL};
