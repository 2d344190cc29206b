/*
 * A vCPU copies through its cache and by walks while another CPU takes the very frames and tables away and gives them to another domain:
 * nothing of the other's is ever read or written (p2m.c, invariant 2). Two threads; a flush waits, as the interrupt would, for a section
 * with interrupts off.
 */
#include "fake.h"
#include "x86/p2m.h"
#include "x86/pte.h"
#include "x86/vcpu.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

static _Thread_local unsigned cpu;
static uint32_t section[2]; /* odd: interrupts are off there */

unsigned arch_cpu_id(void)
{
    return cpu;
}
unsigned long arch_irq_save(void)
{
    unsigned long was = !(__atomic_load_n(&section[cpu], __ATOMIC_RELAXED) & 1);

    if (was)
        __atomic_fetch_add(&section[cpu], 1, __ATOMIC_SEQ_CST);
    return was;
}
void arch_irq_restore(unsigned long flags)
{
    if (flags)
        __atomic_fetch_add(&section[cpu], 1, __ATOMIC_SEQ_CST);
}
bool arch_irq_enabled(void)
{
    return !(__atomic_load_n(&section[cpu], __ATOMIC_RELAXED) & 1);
}
void arch_cpu_relax(void)
{
    sched_yield();
}
void domain_ref(struct domain *d)
{
    __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);
}
void domain_put(struct domain *d)
{
    __atomic_fetch_sub(&d->refs, 1, __ATOMIC_RELAXED);
}
bool preempt_needed(void)
{
    return false;
}
void arch_frame_writable(mfn_t m)
{
    uint64_t none = 0;

    (void)__atomic_compare_exchange_n(&mfn_frame(m)->type, &none, 1, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_RELAXED);
}

static struct domain *guest, *other;
static struct vcpu *v;
static struct guest_paging gp;
static uint64_t flushes;

static void flush(struct domain *d)
{
    uint32_t now = __atomic_load_n(&section[0], __ATOMIC_SEQ_CST);

    assert_true(arch_irq_enabled());
    flushes++;
    while (now & 1 && __atomic_load_n(&section[0], __ATOMIC_SEQ_CST) == now)
        sched_yield();
}
static void paging(struct vcpu *x, struct guest_paging *p)
{
    *p = gp;
}

#define PAGES   8
#define ROUNDS  3000
#define CANARY  0xdeadbeefdeadbeefull
#define OURS    0x1111111111111111ull
#define PAGE(i) ((uint64_t)(16 + (i)) << 12)
#define VA      0x1234567000ull
#define ALL     (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)

static bool stop;
static uint64_t reads, faults;

/* The vCPU: reads and writes its pages; what it finds is its own, or nothing. */
static void *copier(void *arg)
{
    cpu = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        for (unsigned i = 0; i < PAGES; i++) {
            uint64_t x = 0, ours = OURS;

            if (hvm_copy_in(v, &x, GVA(VA + i * FRAME_SIZE + 64), 8)) {
                if (x && x != OURS)
                    return "the other domain's memory was read";
                reads++;
            } else {
                faults++;
            }
            (void)hvm_copy_out(v, GVA(VA + i * FRAME_SIZE + 64), &ours, 8);
        }
    }
    return NULL;
}

static mfn_t frame_for(struct domain *d)
{
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    return m;
}

/* The page at that number goes, its frame to the other domain, and comes back to the guest. */
static void take_and_give(uint64_t gfn)
{
    uint64_t *w[PAGES];
    mfn_t m[PAGES], back;

    assert_int_equal(p2m_release_frames(guest, GFN(gfn), 0), 0);
    for (unsigned i = 0; i < PAGES; i++) {
        m[i] = frame_for(other);
        w[i] = arch_frame_va(m[i]);
        for (unsigned k = 0; k < 512; k += 8)
            __atomic_store_n(&w[i][k], CANARY, __ATOMIC_RELAXED);
    }
    sched_yield();
    for (unsigned i = 0; i < PAGES; i++) {
        for (unsigned k = 0; k < 512; k += 8)
            assert_true(__atomic_load_n(&w[i][k], __ATOMIC_RELAXED) == CANARY);
        assert_true(frame_clear_allocated(mfn_frame(m[i])));
        frame_put(mfn_frame(m[i]));
    }
    back = frame_for(guest);
    assert_int_equal(p2m_set(guest, GFN(gfn), back, 0, P2M_RAM), 0);
}

static uint64_t *table(unsigned i)
{
    struct p2m_entry e;

    p2m_look(guest, GFN(16 + i), &e);
    return arch_frame_va(e.mfn);
}

static void frames_change_hands(void **state)
{
    static const struct p2m_machine machine = {
        .flush = flush, .paging = paging, .large = true, .huge = true, .guest_bits = 40};
    pthread_t t;
    void *wrong;

    fake_start(2048, 2);
    cpu = 1;
    p2m_machine_set(&machine);
    guest = fake_domain(5, 500);
    other = fake_domain(6, 500);
    guest->ops = &fake_translated_ops;
    v = fake_vcpu0(guest);
    assert_int_equal(p2m_domain_init(guest), 0);
    for (unsigned i = 0; i < 4 + PAGES; i++)
        assert_int_equal(p2m_set(guest, GFN(16 + i), frame_for(guest), 0, P2M_RAM), 0);
    gp = (struct guest_paging){.cr3 = PAGE(0), .mode = GP_PAGING | GP_PAE | GP_LONG | GP_NXE};
    for (unsigned l = 4; l > 1; l--)
        table(4 - l)[pt_index(VA, l)] = PAGE(5 - l) | ALL;
    for (unsigned i = 0; i < PAGES; i++)
        table(3)[pt_index(VA, 1) + i] = PAGE(4 + i) | ALL;
    x86_vcpu(v)->walk = walk_cache_alloc();
    assert_int_equal(pthread_create(&t, NULL, copier, NULL), 0);
    for (unsigned n = 0; n < ROUNDS; n++) {
        if (n % 64 ==
            63) { /* a table of the guest's, its contents with it: it faults until they are written anew */
            take_and_give(16 + 3);
            for (unsigned i = 0; i < PAGES; i++)
                __atomic_store_n(&table(3)[pt_index(VA, 1) + i], PAGE(4 + i) | ALL, __ATOMIC_RELEASE);
        } else {
            take_and_give(16 + 4 + n % PAGES);
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(t, &wrong);
    if (wrong)
        fail_msg("%s", (char *)wrong);
    assert_true(flushes >= ROUNDS && reads && faults);
    p2m_room_check(guest);
    walk_cache_free(x86_vcpu(v)->walk);
    guest->dying = DOM_DYING;
    assert_int_equal(p2m_domain_release(guest), 0);
    while (frame_domain_release(guest, 64))
        ;
    p2m_domain_free(guest);
    cpu = 0;
    fake_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames_change_hands)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
