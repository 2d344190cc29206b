/* The PV MMU under real concurrency: each thread is a processor that runs one vCPU of the same guest. All of
 * them pin, unpin, load, change and abandon the same few tables at once. Waiting for ever ends by alarm,
 * wrong counts by the room check after each phase, when all are at rest. */
#include "pv.h"
#include "limit.h"
#include "core/perf.h"
#include "core/sched.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#define THREADS 4
#define PHASES  40
#define ROUNDS  LIMIT_ROUNDS(6000)
#define POOL    16

static __thread unsigned me;
static __thread bool started, irqs_off;
static __thread unsigned rng;

static struct domain *dom;
static mfn_t pool[POOL];
static unsigned done_ok;

unsigned arch_cpu_id(void)
{
    return me;
}
struct vcpu *arch_current(void)
{
    return started ? dom->vcpu[me] : sched_idle_vcpu(0);
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
void arch_irq_disable(void)
{
    irqs_off = true;
}
void arch_irq_enable(void)
{
    irqs_off = false;
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
/* A clock that always moves: every change of type has to flush. */
static uint32_t now = 1;
uint32_t tlb_stamp(void)
{
    return __atomic_add_fetch(&now, 1, __ATOMIC_SEQ_CST);
}
void tlb_flush_older(const struct cpumask *cpus, uint32_t stamp)
{
    if (!(rand_r(&rng) % 4))
        sched_yield();
}
void tlb_flush_cpus(const struct cpumask *cpus, unsigned kind, gva_t va)
{
}
void tlb_flush_local(void)
{
}
static unsigned rnd(unsigned n)
{
    return (unsigned)rand_r(&rng) % n;
}

static unsigned an_index(void)
{
    static const unsigned idx[] = {0, 1, 5, 272, 511};

    return idx[rnd(ARRAY_SIZE(idx))];
}

static uint64_t an_entry(void)
{
    return rnd(5) ? pte_make(pool[rnd(POOL)], rnd(3) ? RW : RO) : 0;
}

/* The guest writes what it has mapped writable. */
static void scribble(void)
{
    mfn_t m = pool[rnd(POOL)];

    if (pv_frame_get_type(m, dom, PGT_WRITABLE, false))
        return;
    for (unsigned i = 0; i < 3; i++)
        __atomic_store_n((uint64_t *)arch_frame_va(m) + an_index(), an_entry(), __ATOMIC_RELAXED);
    for (unsigned i = rnd(4) ? 512 : 0; i < 512; i++)
        __atomic_store_n((uint64_t *)arch_frame_va(m) + i, 0, __ATOMIC_RELAXED);
    pv_frame_put_type(m);
}

static void descriptors(struct vcpu *v)
{
    uint64_t f[2] = {pool[rnd(POOL)].n, pool[rnd(POOL)].n};

    if (rnd(2))
        (void)!pv_set_gdt_frames(v, f, rnd(700));
    else
        pv_clear_gdt(v);
}

static void a_hypercall(struct vcpu *v)
{
    mfn_t m = pool[rnd(POOL)];
    struct mmuext_op op = {.cmd = MMUEXT_PIN_L1_TABLE + rnd(4)};
    mmu_update_t u = {mfn_to_maddr(m).a + an_index() * 8, an_entry()};
    struct hypercall hc = {.caller = v, .arg = {(uint64_t)&op, 1, 0, DOMID_SELF}};
    long (*fn)(struct hypercall *) = pv_mmuext_op;
    unsigned steps = rnd(6) ? 100000 : 1 + rnd(3);
    long r = HC_AGAIN;

    op.arg1.mfn = m.n;
    switch (rnd(6)) {
    case 0:
        op.cmd = MMUEXT_UNPIN_TABLE;
        break;
    case 1:
        op.cmd = rnd(2) ? MMUEXT_NEW_BASEPTR : MMUEXT_NEW_USER_BASEPTR;
        break;
    case 2:
    case 3:
        fn = pv_mmu_update;
        hc.arg[0] = (uint64_t)&u;
        break;
    default:
        break;
    }
    while (steps-- && r == HC_AGAIN)
        r = fn(&hc);
    if (!r)
        __atomic_fetch_add(&done_ok, 1, __ATOMIC_RELAXED);
}

static void *processor(void *arg)
{
    me = (unsigned)(uintptr_t)arg & 0xff;
    rng = (unsigned)(uintptr_t)arg * 7919 + 1;
    started = true;
    for (unsigned i = 0; i < ROUNDS; i++) {
        switch (rnd(10)) {
        case 0:
        case 1:
        case 2:
            scribble();
            break;
        case 3:
            descriptors(dom->vcpu[me]);
            break;
        default:
            a_hypercall(dom->vcpu[me]);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .max_vcpus = THREADS,
                              .max_evtchn_port = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 200};

    dom = fake_domain_new(2, &c);
    for (unsigned i = 0; i < POOL; i++)
        assert_int_equal(frame_alloc_domain(dom, 0, 64, 0, &pool[i]), 0);
    for (unsigned p = 0; p < PHASES; p++) {
        pthread_t t[THREADS];

        fake_preempt_every = p % 4;
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&t[i], NULL, processor, (void *)(uintptr_t)(p << 8 | i)), 0);
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(t[i], NULL);
        fake_preempt_every = 0;
        pv_mmu_room_check(dom);
    }
    assert_true(done_ok > PHASES * ROUNDS / 10);
    fake_domain_kill(dom);
    assert_int_equal(dom->frames, 0);
    domain_put(dom);
    fake_run_until(fake_now + 1000000000ull);
}

static int group_setup(void **state)
{
    limit_run();
    fake_start(4096, THREADS);
    domain_subsystem_init();
    sched_init();
    for (unsigned i = 0; i < THREADS; i++)
        if (sched_init_cpu(i))
            return -1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
