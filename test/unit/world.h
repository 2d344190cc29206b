/*
 * Allocation failure at every allocation. Each scenario runs in the fuzzers' world (test/fuzz) once for every n with its nth
 * allocation failing - of frames, then of small objects - and then:
 *   - all rooms' checks and the reference models hold
 *   - the same scenario, run again with memory back, succeeds
 *   - when all guests have been destroyed, exactly as much memory is in use as without the scenario: nothing leaked, no domain
 *     was lost
 */
#ifndef WORLD_H
#define WORLD_H

#include "fuzz.h"
#include "snapshot.h"
#include "core/abi.h"
#include "core/control.h"
#include "core/memory_op.h"

#include <string.h>

static struct in nothing;

/* One vCPU's point of view. */
static inline struct step as(unsigned guest, unsigned vcpu)
{
    struct step s = {.in = &nothing, .g = &guests[guest], .v = guests[guest].d->vcpu[vcpu]};

    fake_cpu = guest * FUZZ_VCPUS + vcpu;
    return s;
}

/* A third domain of two vCPUs: what of it is missing yet. NULL: something could not be had. */
static inline struct domain *third_domain(const struct guest_ops *ops, unsigned ports)
{
    struct domain_config c = {.ops = ops,
                              .max_vcpus = 2,
                              .max_evtchn_port = ports,
                              .max_grant_frames = 2,
                              .max_maptrack_frames = 2,
                              .max_frames = 64};
    struct domain *d = domain_get(DID(3));
    struct vcpu *v;

    if (!d && domain_create(DID(3), &c, &d))
        return NULL;
    domain_put(d);
    for (unsigned i = 0; i < 2; i++)
        if (!domain_vcpu(d, i) && vcpu_create(d, i, &v))
            return NULL;
    return d;
}

/* The same as a toolstack makes it: every call may be made again after it failed. */
static inline struct xen_domctl *toolstack_op(uint32_t cmd)
{
    struct xen_domctl *op = arg_alloc(sizeof(*op));

    *op = (struct xen_domctl){.cmd = cmd, .interface_version = XEN_DOMCTL_INTERFACE_VERSION, .domain = 3};
    return op;
}
static inline bool toolstack_call(struct xen_domctl *op)
{
    struct step s = as(0, 0);

    return !call_n(&s, __HYPERVISOR_domctl, op, 0, 0, 0);
}

static inline bool toolstack_creates(uint32_t flags)
{
    struct xen_domctl *op = toolstack_op(XEN_DOMCTL_createdomain);
    struct domain *d = domain_get(DID(3));

    if (d) {
        domain_put(d);
        return true;
    }
    op->u.createdomain = (struct xen_domctl_createdomain){.flags = flags,
                                                          .max_vcpus = 2,
                                                          .max_evtchn_port = 127,
                                                          .max_grant_frames = 2,
                                                          .max_maptrack_frames = 2,
                                                          .grant_opts = 2};
    return toolstack_call(op);
}

static inline bool toolstack_gives_rights(void)
{
    struct xen_domctl *op = toolstack_op(XEN_DOMCTL_iomem_permission);

    op->u.iomem_permission.first_mfn = 0x100002;
    op->u.iomem_permission.nr_mfns = 4;
    op->u.iomem_permission.allow_access = 1;
    if (!toolstack_call(op))
        return false;
    op = toolstack_op(XEN_DOMCTL_ioport_permission);
    op->u.ioport_permission.first_port = 0x2f8;
    op->u.ioport_permission.nr_ports = 8;
    op->u.ioport_permission.allow_access = 1;
    if (!toolstack_call(op))
        return false;
    op = toolstack_op(XEN_DOMCTL_irq_permission);
    op->u.irq_permission.pirq = 3;
    op->u.irq_permission.allow_access = 1;
    return toolstack_call(op);
}

static inline bool toolstack_fills(void)
{
    struct xen_memory_reservation *r = arg_alloc(sizeof(*r));
    xen_pfn_t *list = arg_alloc(4 * sizeof(*list));
    struct step s = as(0, 0);

    for (unsigned i = 0; i < 4; i++)
        list[i] = 0x40 + i * 0x40000;
    *r = (struct xen_memory_reservation){.nr_extents = 4, .domid = 3};
    r->extent_start.p = list;
    (void)call_n(&s, __HYPERVISOR_memory_op, XENMEM_decrease_reservation, r, 0, 0);
    return call_n(&s, __HYPERVISOR_memory_op, XENMEM_populate_physmap, r, 0, 0) == 4;
}

static inline bool toolstack_makes(uint32_t flags)
{
    struct xen_domctl *op = toolstack_op(XEN_DOMCTL_max_vcpus);

    if (!toolstack_creates(flags))
        return false;
    op->u.max_vcpus.max = 2;
    if (!toolstack_call(op))
        return false;
    op = toolstack_op(XEN_DOMCTL_max_mem);
    op->u.max_mem.max_memkb = 1024;
    return toolstack_call(op) && toolstack_gives_rights() && toolstack_fills();
}

struct scenario {
    const char *name;
    bool (*run)(void); /* true when all of it worked; may be run again after it failed */
};

/* --- memory in use: frames that are nobody's and no slab's, and small objects --- */

struct usage {
    uint64_t frames, objects;
};
struct slab_head { /* the head of core/memory/alloc.c's struct slab */
    void *next, *prev, *free;
    uint32_t used;
};
#define SLAB_MARK 0x51abu

static inline struct usage usage(void)
{
    struct usage u = {0};

    for (uint64_t n = 1; n < frame_count; n++) {
        const struct frame *f = mfn_frame(MFN(n));

        if (!mfn_valid(MFN(n)) || f->flags & FRAME_F_FREE)
            continue;
        if (f->owner != FRAME_NO_OWNER || f->prev != SLAB_MARK)
            u.frames++;
        else if (f->next == n)
            u.objects += ((const struct slab_head *)arch_frame_va(MFN(n)))->used;
    }
    return u;
}

/* Ends all but the control domain, which lets go of what it had of them. */
static inline struct usage after_the_end(void)
{
    (void)as(0, 0);
    for (uint16_t id = 1; id < 5; id++) {
        struct domain *d = domain_get(DID(id));
        int r = -EAGAIN;

        if (!d)
            continue;
        while (r == -EAGAIN)
            r = domain_kill(d);
        domain_put(d); /* domain_get's */
        if (id < FUZZ_GUESTS)
            domain_put(d); /* the world's */
        assert_int_equal(r, 0);
    }
    fake_run_until(fake_now + 2000000000ull);
    for (uint16_t id = 1; id < 5; id++)
        assert_null(domain_get(DID(id)));
    return usage();
}

/* --- the loop --- */

static inline void world(void)
{
    static bool taken;

    if (taken) {
        snapshot_restore();
        memset(guest_memory, 0, GUEST_MEMORY);
        return;
    }
    world_build(true);
    snapshot_take();
    taken = true;
}

/* The nth allocation of the kind fails. False: there were not so many. */
static inline bool attempt(const struct scenario *sc, unsigned *counter, unsigned n, struct usage want)
{
    struct usage u;
    bool ok;

    world();
    *counter = n;
    ok = sc->run();
    if (*counter) {
        *counter = 0;
        if (!ok)
            fail_msg("%s: fails without a failure", sc->name);
        return false;
    }
    fake_settle();
    fuzz_checks(CHECK_ALL);
    if (!ok && !sc->run())
        fail_msg("%s: allocation %u failed; does not work when memory is back", sc->name, n);
    fake_settle();
    fuzz_checks(CHECK_ALL);
    u = after_the_end();
    if (u.frames != want.frames || u.objects != want.objects)
        fail_msg("%s: allocation %u failed: %lu frames and %lu objects in use, %lu and %lu without", sc->name,
                 n, u.frames, u.objects, want.frames, want.objects);
    return true;
}

static inline void every_allocation(void **state)
{
    const struct scenario *sc = *state;
    unsigned *const kinds[] = {&fake_fail_alloc, &fake_fail_mem};
    struct usage want;
    unsigned tried = 0;

    world();
    if (!sc->run())
        fail_msg("%s: does not work at all", sc->name);
    want = after_the_end();
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
        for (unsigned n = 1; attempt(sc, kinds[k], n, want); n++)
            tried++;
    print_message("# %s: %u allocations\n", sc->name, tried);
}

static inline int world_run(const struct scenario *scenarios, unsigned count)
{
    struct CMUnitTest tests[32];

    BUG_ON(count > ARRAY_SIZE(tests));
    for (unsigned i = 0; i < count; i++)
        tests[i] =
            (struct CMUnitTest){scenarios[i].name, every_allocation, NULL, NULL, (void *)&scenarios[i]};
    return _cmocka_run_group_tests("allocations", tests, count, NULL, NULL);
}

#endif
