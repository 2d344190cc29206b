/*
 * Frames under real concurrency: each thread is a processor. What a single-threaded model cannot show:
 * references that are taken while the last one goes, steals that race with gets, allocation and release side
 * by side, a domain dying meanwhile.
 */
#include "fake.h"
#include "limit.h"
#include "core/perf.h"
#include "core/alloc.h"
#include "lib/string.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define THREADS 4
#define ROUNDS  LIMIT_ROUNDS(40000)
#define SLOTS   64

static __thread unsigned me;
static __thread bool irqs_off;

unsigned arch_cpu_id(void)
{
    return me;
}
uint32_t *arch_perf(void)
{
    static _Thread_local uint32_t counts[PERF_VALUES];

    return counts;
}
void arch_cpu_relax(void)
{
    sched_yield();
}
bool arch_irq_enabled(void)
{
    return !irqs_off;
}
unsigned long arch_irq_save(void)
{
    unsigned long was = !irqs_off;

    irqs_off = true;
    return was;
}
void arch_irq_restore(unsigned long flags)
{
    irqs_off = !flags;
}
void arch_frame_settle(struct frame *f, unsigned order)
{
}
void arch_frame_stamp(struct frame *f)
{
}
void arch_frame_zero(mfn_t m)
{
    memset(arch_frame_va(m), 0, FRAME_SIZE);
}
void domain_ref(struct domain *d)
{
    __atomic_fetch_add(&d->refs, 1, __ATOMIC_SEQ_CST);
}
void domain_put(struct domain *d)
{
    BUG_ON(__atomic_fetch_sub(&d->refs, 1, __ATOMIC_SEQ_CST) <= 1);
}

static struct domain *dom[2];
/* Frames that once were somebody's: guests may name any of them at any time. */
static uint64_t named[SLOTS];

static mfn_t some_frame(unsigned *rng)
{
    return MFN(__atomic_load_n(&named[(unsigned)rand_r(rng) % SLOTS], __ATOMIC_RELAXED));
}

/* What hypercalls do with a number from a guest. */
static void one_round(unsigned *rng)
{
    struct domain *d = dom[(unsigned)rand_r(rng) % 2];
    mfn_t m = some_frame(rng), fresh;
    struct frame *f = mfn_valid(m) ? mfn_frame(m) : NULL;
    unsigned order;
    void *p;

    switch (rand_r(rng) % 6) {
    case 0:
        if (!frame_alloc_domain(d, 0, 64, 0, &fresh))
            __atomic_store_n(&named[(unsigned)rand_r(rng) % SLOTS], fresh.n, __ATOMIC_RELAXED);
        break;
    case 1: /* decrease_reservation */
        if (f && frame_get(f, d)) {
            if (frame_clear_allocated(f))
                frame_put(f);
            frame_put(f);
        }
        break;
    case 2: /* a mapping, held for a moment */
        if (f && frame_get(f, d)) {
            __atomic_store_n((char *)arch_frame_va(m), 1, __ATOMIC_RELAXED);
            sched_yield();
            frame_ref(f);
            frame_put(f);
            frame_put(f);
        }
        break;
    case 3: /* transfer */
        if (f && frame_steal(d, f) && frame_assign(dom[d == dom[0]], m, 0, 0))
            frame_free(m, 0);
        break;
    case 4:
        order = (unsigned)rand_r(rng) % 4;
        if (frame_alloc(order, 0, FRAME_ANY_NODE, &fresh)) {
            *(volatile char *)arch_frame_va(fresh) = 2;
            for (unsigned i = 0; i < 1u << order; i++) /* in pieces: they merge again */
                frame_free(MFN(fresh.n + i), 0);
        }
        break;
    default:
        p = mem_alloc(1 + (size_t)rand_r(rng) % 3000);
        if (p)
            *(volatile char *)p = 3;
        mem_free(p);
    }
}

static void *processor(void *arg)
{
    unsigned rng = (unsigned)(uintptr_t)arg * 7919;

    me = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < ROUNDS; i++)
        one_round(&rng);
    return NULL;
}

static void *killer(void *arg)
{
    me = THREADS;
    for (unsigned i = 0; i < 200; i++)
        sched_yield();
    __atomic_store_n(&dom[1]->dying, DOM_DYING, __ATOMIC_RELAXED);
    while (frame_domain_release(dom[1], 16) == -EAGAIN)
        sched_yield();
    return NULL;
}

static void run(bool kill)
{
    pthread_t t[THREADS + 1];
    struct frame_info i;

    memset(named, 0, sizeof(named));
    for (unsigned d = 0; d < 2; d++)
        dom[d] = fake_domain((uint16_t)(d + 1), 300);
    for (uintptr_t c = 0; c < THREADS; c++)
        pthread_create(&t[c], NULL, processor, (void *)c);
    if (kill)
        pthread_create(&t[THREADS], NULL, killer, NULL);
    for (unsigned c = 0; c < THREADS + (kill ? 1u : 0u); c++)
        pthread_join(t[c], NULL);
    me = 0;
    for (unsigned d = 0; d < 2; d++) {
        frame_domain_check(dom[d]);
        dom[d]->dying = DOM_DYING;
        while (frame_domain_release(dom[d], 1000) == -EAGAIN)
            ;
        assert_int_equal(dom[d]->frames, 0);
        assert_int_equal(dom[d]->refs, 2);
        frame_domain_check(dom[d]);
    }
    frame_room_check();
    mem_room_check();
    frame_info(&i);
    assert_int_equal(i.total, 4096);
}

static void processors(void **state)
{
    run(false);
}
static void processors_while_one_dies(void **state)
{
    run(true);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fake_setup, fake_teardown)
    const struct CMUnitTest tests[] = {T(processors), T(processors_while_one_dies)};

    return cmocka_run_group_tests_name("frame_threads", tests, NULL, NULL);
}
