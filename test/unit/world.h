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
