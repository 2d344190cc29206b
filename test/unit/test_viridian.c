/*
 * The Hyper-V interface's synthetic MSRs, timers, messages, ends of interrupts and hypercalls, without a processor: what a guest may ask
 * for, and what a hostile one says instead.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fake.h"
#include "core/perf.h"
#include "arch/x86/hvm/dev/vlapic_private.h"
#include "arch/x86/hvm/viridian/viridian.h"
#include "core/sched.h"
#include "x86/p2m.h"
#include "x86/platform.h"
#include "x86/policy.h"
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>

#define VCPUS     3u
#define PAGES     4u
#define FIRST_GFN 0x10u
#define ON(n)     ((FIRST_GFN + (n)) << FRAME_SHIFT | 1)
#define HOLE      (0x999ull << FRAME_SHIFT | 1)
#define MS        10000ull /* of reference time */

uint64_t tsc_khz = 1000000; /* one cycle a nanosecond */

static struct x86_vcpu vcpu[VCPUS];
static struct hvm_vcpu hvm[VCPUS];
static struct vlapic apic[VCPUS];
static struct vcpu *list[VCPUS], **own_list, *v;
static struct hvm_domain hd;
static struct domain *d;
static mfn_t page[PAGES];
static bool stable, logging;
static uint64_t flushed;

/* --- what the room asks for --- */

void vlapic_nmi(struct vcpu *w)
{
}
void vlapic_signal_init(struct vcpu *w)
{
}
void vlapic_signal_startup(struct vcpu *w, uint8_t start)
{
}
int p2m_get(struct domain *who, gfn_t g, unsigned want, struct p2m_entry *e)
{
    assert_int_equal(want, P2M_WRITE);
    if (g.n - FIRST_GFN >= PAGES)
        return -ENOENT;
    e->mfn = page[g.n - FIRST_GFN];
    return frame_get(mfn_frame(e->mfn), d) ? 0 : -ENOENT;
}
bool guest_phys_in(struct domain *who, void *to, uint64_t gpa, size_t n)
{
    uint64_t g = (gpa >> FRAME_SHIFT) - FIRST_GFN;

    assert_true((gpa & (FRAME_SIZE - 1)) + n <= FRAME_SIZE);
    if (g >= PAGES)
        return false;
    memcpy(to, (char *)arch_frame_va(page[g]) + (gpa & (FRAME_SIZE - 1)), n);
    return true;
}
void p2m_mark_dirty(struct domain *who, gfn_t g)
{
}
bool p2m_log_enabled(const struct domain *who)
{
    return logging;
}
bool time_tsc_line(const struct domain *who, uint64_t *tsc, uint64_t *ns, uint64_t *scale)
{
    *tsc = *ns = fake_now;
    *scale = ~0ull / 100;
    return stable;
}
void hvm_flush_vcpus(struct vcpu *caller, const uint64_t *set)
{
    flushed = set[0];
}

/* --- fixtures --- */

static int group_setup(void **state)
{
    fake_setup(state);
    for (unsigned c = 0; c < 2; c++)
        timers_init_cpu(c);
    d = fake_domain(1, 16);
    own_list = d->vcpu;
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &page[i]), 0);
    return 0;
}

static int group_teardown(void **state)
{
    d->vcpu = own_list;
    d->max_vcpus = 1;
    ((struct x86_domain *)d)->hvm = NULL;
    return fake_teardown(state);
}

static int give(uint64_t features)
{
    int r;

    spin_lock(&d->lock);
    r = viridian_set(d, features);
    spin_unlock(&d->lock);
    return r;
}

static int setup_with(uint64_t features)
{
    d->vcpu = list;
    d->max_vcpus = VCPUS;
    d->started = d->shutting_down = false;
    d->shutdown_code = SHUTDOWN_CODE_NONE;
    memset(&hd, 0, sizeof(hd));
    ((struct x86_domain *)d)->hvm = &hd;
    stable = true;
    logging = false;
    for (unsigned i = 0; i < VCPUS; i++) {
        memset(&vcpu[i], 0, sizeof(vcpu[i]));
        memset(&hvm[i], 0, sizeof(hvm[i]));
        vcpu[i].core.id = i;
        vcpu[i].core.domain = d;
        vcpu[i].hvm = &hvm[i];
        hvm[i].vlapic = &apic[i];
        list[i] = &vcpu[i].core;
        memset(&apic[i], 0, sizeof(apic[i]));
        vlapic_init(list[i], &apic[i]);
        vlapic_reset(list[i]);
        vlapic_mmio_write(list[i], APIC_SVR, 0x1ff);
    }
    v = list[0];
    return features ? give(features) : 0;
}

static int setup(void **state)
{
    return setup_with(HVMPV_feature_mask & ~HVMPV_no_freq);
}

static int setup_bare(void **state)
{
    return setup_with(0);
}

static int teardown(void **state)
{
    if (hd.viridian) {
        viridian_stop(d);
        for (unsigned i = 0; i < VCPUS; i++)
            viridian_vcpu_free(list[i]);
        viridian_free(d);
    }
    for (unsigned i = 0; i < VCPUS; i++)
        vlapic_free(&apic[i]);
    for (unsigned i = 0; i < PAGES; i++) /* nobody holds them but the domain */
        assert_int_equal(mfn_frame(page[i])->count & FRAME_REF_MASK, 1);
    return 0;
}

static uint64_t rd(uint32_t msr)
{
    uint64_t value;

    assert_true(viridian_rdmsr(v, msr, &value));
    return value;
}

static void wr(uint32_t msr, uint64_t value)
{
    assert_true(viridian_wrmsr(v, msr, value));
}

static bool refused(uint32_t msr, uint64_t value)
{
    return !viridian_wrmsr(v, msr, value);
}

static uint8_t *at(unsigned n)
{
    return arch_frame_va(page[n]);
}

static bool in_irr(uint8_t vector)
{
    return apic[v->id].reg[APIC_IRR / 16 + vector / 32] >> (vector % 32) & 1;
}

static bool in_isr(uint8_t vector)
{
    return apic[v->id].reg[APIC_ISR / 16 + vector / 32] >> (vector % 32) & 1;
}

static void take(uint8_t vector)
{
    assert_int_equal(vlapic_pending(v), vector);
    vlapic_ack(v, vector);
    viridian_taken(v, vector);
}

/* The clock goes on by so much reference time. */
static void later(uint64_t units)
{
    fake_run_until(fake_now + units * 100);
}

/* --- groups --- */

static void test_groups(void **state)
{
    assert_int_equal(give(0), -EINVAL);
    assert_int_equal(give(HVMPV_stimer), -EINVAL);
    assert_int_equal(give(HVMPV_base_freq | 1ull << 40), -EINVAL);
    d->started = true;
    assert_int_equal(give(HVMPV_base_freq), -EBUSY);
    d->started = false;
    assert_int_equal(give(HVMPV_base_freq), 0);
    d->started = true;
    assert_int_equal(give(HVMPV_base_freq), 0);
    assert_int_equal(give(HVMPV_base_freq | HVMPV_stimer), -EEXIST);
    assert_int_equal(give(0), -EINVAL);
}

/* A group that is not there has no MSRs, no leaf's bit, no hypercalls. */
static void test_base_alone(void **state)
{
    struct viridian_call ipi = {.input = 0x1000b, .in = 0x40, .out = 7};
    uint64_t value;
    struct cpuid_leaf l;

    assert_int_equal(give(HVMPV_base_freq | HVMPV_no_freq), 0);
    for (uint32_t msr = 0x40000020; msr < 0x40000200; msr++)
        if (msr < 0x40000070 || msr > 0x40000073)
            assert_false(viridian_rdmsr(v, msr, &value) || viridian_wrmsr(v, msr, 0));
    viridian_cpuid(v, 0x40000003, &l);
    assert_int_equal(l.a, 0xf0);
    assert_int_equal(l.d, 0);
    viridian_cpuid(v, 0x40000004, &l);
    assert_int_equal(l.a, 0x28);
    viridian_cpuid(v, 0x40000005, &l);
    assert_int_equal(l.a, 64);
    assert_int_equal(viridian_call(v, &ipi), 2);
}

static void test_all_leaves(void **state)
{
    struct cpuid_leaf l;

    viridian_cpuid(v, 0x40000003, &l);
    assert_int_equal(l.a, 0xafe);
    assert_int_equal(l.d, 1u << 3 | 1u << 8 | 1u << 10 | 1u << 17 | 1u << 19);
    viridian_cpuid(v, 0x40000004, &l);
    assert_int_equal(l.a, 0xc2c);
    viridian_cpuid(v, 0x40000002, &l);
    assert_int_equal(l.a, 0);
    wr(0x40000000, 1);
    viridian_cpuid(v, 0x40000002, &l);
    assert_int_equal(l.b, 6 << 16);
    viridian_cpuid(v, 0x40000005, &l);
    assert_int_equal(l.a, ~0u);
}

/* --- the guest and its page --- */

static void test_call_page(void **state)
{
    static const uint8_t stub[] = {0x0d, 0, 0, 0, 0x80, 0x0f, 1, 0xd9, 0xc3};

    wr(0x40000001, ON(0)); /* it has not said who it is */
    assert_int_equal(rd(0x40000001), ON(0) - 1);
    assert_false(viridian_calls(d));
    wr(0x40000000, 0x8100000000000000);
    assert_true(refused(0x40000001, HOLE));
    assert_true(refused(0x40000001, ~0ull));
    wr(0x40000001, ON(0));
    assert_true(viridian_calls(d));
    assert_memory_equal(at(0), stub, sizeof(stub));
    assert_int_equal(at(0)[4095], 0xcc);
    wr(0x40000000, 0);
    assert_false(viridian_calls(d));
    wr(0x40000000, 1);
    wr(0x40000001, ON(1) | 2); /* locked */
    wr(0x40000001, 0);
    assert_int_equal(rd(0x40000001), ON(1) | 2);
    v = list[2];
    assert_int_equal(rd(0x40000002), 2);
    assert_true(refused(0x40000002, 0));
}

static void test_time(void **state)
{
    uint64_t *tsc = (uint64_t *)at(2), t;
    uint32_t *sequence = (uint32_t *)at(2), first;

    assert_int_equal(rd(0x40000022), 1000000000);
    assert_int_equal(rd(0x40000023), 100000000);
    assert_true(refused(0x40000020, 1) && refused(0x40000022, 1));
    t = rd(0x40000020);
    later(5 * MS);
    assert_int_equal(rd(0x40000020), t + 5 * MS);
    vcpu[0].tsc_offset = 12345678901;
    assert_true(refused(0x40000021, HOLE));
    wr(0x40000021, ON(2));
    first = *sequence;
    assert_true(first && first != ~0u);
    for (unsigned i = 0; i < 10; i++, later(17 * MS)) {
        uint64_t page_time =
            (uint64_t)((unsigned __int128)(fake_now + vcpu[0].tsc_offset) * tsc[1] >> 64) + tsc[2];

        assert_true(page_time - rd(0x40000020) + 1 <= 2);
    }
    vcpu[0].tsc_offset = 99;
    viridian_tsc_moved(d);
    assert_true(*sequence != first && *sequence);
    t = (uint64_t)((unsigned __int128)(fake_now + 99) * tsc[1] >> 64) + tsc[2];
    assert_true(t - rd(0x40000020) + 1 <= 2);
    stable = false;
    wr(0x40000021, ON(2));
    assert_int_equal(*sequence, 0); /* read the MSR */
}

static void test_apic_msrs(void **state)
{
    uint64_t value, base;

    vlapic_set_irq(v, 0x55);
    take(0x55);
    wr(0x40000070, 0);
    assert_false(in_isr(0x55));
    assert_false(viridian_rdmsr(v, 0x40000070, &value));
    wr(0x40000072, 0x40);
    assert_int_equal(rd(0x40000072), 0x40);
    assert_true(refused(0x40000072, 0x100));
    wr(0x40000071, 1ull << 57 | 0x4061); /* xAPIC: vCPU 1 has id 2 */
    assert_int_equal(apic[0].reg[APIC_ICR / 16], 0x4061);
    assert_int_equal(rd(0x40000071) >> 57, 1);
    assert_true(vlapic_rdmsr(v, 0x1b, &base) && vlapic_wrmsr(v, 0x1b, base | APIC_BASE_X2));
    wr(0x40000071, 4ull << 32 | 0x62);
    v = list[2];
    assert_true(refused(0x40000072, ~0ull));
    assert_true(in_irr(0x62));
    v = list[1];
    assert_true(in_irr(0x61));
}

/* --- synthetic interrupts --- */

#define SLOT(n, sint)  ((uint32_t *)(at(n) + (sint)*256))
#define TYPE(n, sint)  SLOT(n, sint)[0]
#define FLAGS(n, sint) (at(n)[(sint)*256 + 5])

static void synic_on(void)
{
    wr(0x40000083, ON(1));
    wr(0x40000080, 1);
    wr(0x40000092, 0x72);
    assert_int_equal(rd(0x40000081), 1);
}

static void test_synic_msrs(void **state)
{
    assert_int_equal(rd(0x40000090), 0x10000);
    assert_true(refused(0x40000090, 0xf)); /* a vector that is none */
    wr(0x40000090, 0x1000f);
    wr(0x40000090, ~0ull);
    assert_int_equal(rd(0x40000090), 0x700ff);
    assert_true(refused(0x40000081, 1));
    assert_true(refused(0x40000083, HOLE));
    assert_int_equal(rd(0x40000083), 0);
    memset(at(1), 0xff, FRAME_SIZE);
    wr(0x40000083, ON(1));
    assert_int_equal(at(1)[700], 0);
    wr(0x40000083, ON(2)); /* another one: the first is let go */
    wr(0x40000083, ON(3) - 1);
    wr(0x40000082, ~0ull);
    assert_int_equal(rd(0x40000082), ~0xffeull);
    wr(0x40000084, ~0ull);
    assert_int_equal(rd(0x40000084), 0);
}

static void test_timer_message(void **state)
{
    uint64_t now;

    synic_on();
    now = rd(0x40000020);
    wr(0x400000b1, now + 20 * MS);
    wr(0x400000b0, 2 << 16 | 1);
    later(19 * MS);
    assert_int_equal(TYPE(1, 2), 0);
    later(2 * MS);
    assert_int_equal(TYPE(1, 2), 0x80000010);
    assert_int_equal(at(1)[512 + 4], 24);
    assert_int_equal(*(uint64_t *)(at(1) + 512 + 16), 0);             /* which timer */
    assert_int_equal(*(uint64_t *)(at(1) + 512 + 24), now + 20 * MS); /* its time */
    assert_true(*(uint64_t *)(at(1) + 512 + 32) >= now + 20 * MS);    /* the message's */
    assert_true(in_irr(0x72));
    assert_int_equal(rd(0x400000b0), 2 << 16); /* one shot: it is off */
    /* The next one finds the slot full, and waits for the guest's word. */
    wr(0x400000b2, 2 << 16 | 8);
    wr(0x400000b3, 1); /* auto-enable; long past */
    later(1);
    assert_true(FLAGS(1, 2) & 1);
    TYPE(1, 2) = 0;
    wr(0x40000084, 0);
    assert_int_equal(TYPE(1, 2), 0x80000010);
    assert_int_equal(*(uint64_t *)(at(1) + 512 + 16), 1);
    assert_int_equal(FLAGS(1, 2), 0);
}

/* Off, masked, polled: the message comes when there is room, the interrupt only if it is wanted. */
static void test_message_without_listener(void **state)
{
    wr(0x400000b1, 1);
    wr(0x400000b0, 5 << 16 | 1);
    later(MS);
    wr(0x40000083, ON(1));
    assert_int_equal(TYPE(1, 5), 0);
    wr(0x40000080, 1);
    assert_int_equal(TYPE(1, 5), 0x80000010);
    wr(0x40000096, 0x40000 | 0x88);
    wr(0x400000b3, 1);
    wr(0x400000b2, 6 << 16 | 1);
    later(MS);
    assert_int_equal(TYPE(1, 6), 0x80000010);
    assert_int_equal(vlapic_pending(v), -1);
}

static void test_timer_direct(void **state)
{
    uint64_t now = rd(0x40000020);

    wr(0x400000b6, 1 << 12 | 0xec << 4 | 1);
    assert_int_equal(rd(0x400000b6) & 1, 0); /* there is no count yet */
    wr(0x400000b6, 1 << 12 | 0xec << 4 | 8);
    wr(0x400000b7, now + 3 * MS);
    assert_int_equal(rd(0x400000b6) & 1, 1);
    later(2 * MS);
    assert_false(in_irr(0xec));
    later(2 * MS);
    assert_true(in_irr(0xec));
    assert_int_equal(rd(0x400000b6) & 1, 0);
    wr(0x400000b6, 1 << 12 | 0xf << 4 | 1); /* a vector that is none */
    assert_int_equal(rd(0x400000b6) & 1, 0);
    wr(0x400000b6, 1); /* no source */
    assert_int_equal(rd(0x400000b6) & 1, 0);
    wr(0x400000b7, 0);
    assert_int_equal(rd(0x400000b7), 0);
}

static unsigned ticks_in(uint64_t units, uint64_t step)
{
    unsigned n = 0;

    for (uint64_t i = 0; i < units; i += step) {
        later(step);
        if (in_irr(0x91)) {
            n++;
            vlapic_ack(v, 0x91);
            vlapic_eoi(v);
        }
    }
    return n;
}

static void test_timer_periodic(void **state)
{
    unsigned n;

    wr(0x400000b1, MS);
    wr(0x400000b0, 1 << 12 | 0x91 << 4 | 3);
    n = ticks_in(100 * MS, MS / 4);
    assert_in_range(n, 99, 101);
    wr(0x400000b1, 0);
    assert_int_equal(rd(0x400000b0) & 1, 0);
    assert_int_equal(ticks_in(10 * MS, MS), 0);
    wr(0x400000b1, 1); /* too often: no more than every 50 us */
    wr(0x400000b0, 1 << 12 | 0x91 << 4 | 3);
    assert_in_range(ticks_in(10 * MS, 100), 190, 201);
    wr(0x400000b1, ~0ull);
    assert_int_equal(ticks_in(10 * MS, MS), 0);
    assert_int_equal(rd(0x400000b0) & 1, 1);
}

/* Ticks that the vCPU does not take are not made at full speed: interrupts, messages, and those of a source that is masked. */
static void test_timer_of_nobody(void **state)
{
    const uint64_t config[] = {1 << 12 | 0x91 << 4 | 3, 2 << 16 | 3, 5 << 16 | 3};
    uint32_t *fired = &arch_perf()[PERF_timers_fired], before;

    synic_on();
    for (unsigned i = 0; i < ARRAY_SIZE(config); i++) {
        wr(0x400000b1, 1);
        wr(0x400000b0, config[i]);
        before = *fired;
        for (unsigned k = 0; k < 1000; k++) {
            later(MS / 10);
            TYPE(1, 5) = 0; /* another vCPU makes room, but nobody is called */
        }
        assert_in_range(*fired - before, 50, 110);
        wr(0x400000b0, 0);
    }
}

/* A clock that jumps: lazy ticks are lost, others are made up for at twice the speed. */
static void test_timer_late(void **state)
{
    for (unsigned lazy = 0; lazy <= 4; lazy += 4) {
        wr(0x400000b1, MS);
        wr(0x400000b0, 1 << 12 | 0x91 << 4 | 3 | lazy);
        (void)ticks_in(2 * MS, MS / 4);
        fake_now += 8 * MS * 100;
        assert_in_range(ticks_in(8 * MS, MS / 4), lazy ? 8 : 14, lazy ? 9 : 17);
        fake_now += 1000000 * MS * 100; /* too long ago */
        assert_in_range(ticks_in(8 * MS, MS / 4), 8, 9);
        wr(0x400000b0, 0);
    }
}

/* --- ends of interrupts --- */

static void test_assist(void **state)
{
    uint32_t *word = (uint32_t *)at(0);

    assert_true(refused(0x40000073, HOLE));
    *word = 0xffff;
    wr(0x40000073, ON(0));
    assert_int_equal(*word, 0);
    vlapic_set_irq(v, 0x61);
    take(0x61);
    assert_true(hvm[0].lazy_eoi && *word == 1);
    viridian_look(v);
    assert_true(hvm[0].lazy_eoi && in_isr(0x61)); /* its handler runs */
    *word = 0;
    viridian_look(v);
    assert_false(hvm[0].lazy_eoi || in_isr(0x61));
    /* Another one comes meanwhile: the guest has to tell. */
    vlapic_set_irq(v, 0x61);
    take(0x61);
    vlapic_set_irq(v, 0x52);
    viridian_look(v);
    assert_true(!hvm[0].lazy_eoi && *word == 0 && in_isr(0x61));
    wr(0x40000070, 0);
    take(0x52);
    wr(0x40000070, 0); /* although it need not */
    viridian_look(v);
    assert_true(!hvm[0].lazy_eoi && *word == 0);
    /* Two at once, and one in another's handler: none of them lazily. */
    vlapic_set_irq(v, 0x61);
    vlapic_set_irq(v, 0x71);
    take(0x71);
    assert_false(hvm[0].lazy_eoi);
    wr(0x40000070, 0);
    wr(0x40000070, 0);
}

static void test_assist_moves(void **state)
{
    uint32_t *word = (uint32_t *)at(0);

    wr(0x40000073, ON(0));
    vlapic_set_irq(v, 0x61);
    take(0x61);
    wr(0x40000073, ON(3)); /* in its handler */
    assert_true(!hvm[0].lazy_eoi && !*word && in_isr(0x61));
    wr(0x40000070, 0);
    vlapic_set_irq(v, 0x61);
    take(0x61);
    *(uint32_t *)at(3) = 0;
    wr(0x40000073, 0);
    assert_false(hvm[0].lazy_eoi || in_isr(0x61));
    logging = true;
    wr(0x40000073, ON(0));
    vlapic_set_irq(v, 0x61);
    take(0x61);
    assert_false(hvm[0].lazy_eoi);
}

static void test_auto_eoi(void **state)
{
    wr(0x40000094, 0x20000 | 0x83);
    vlapic_set_irq(v, 0x83);
    take(0x83);
    assert_false(in_isr(0x83));
    wr(0x40000094, 0x30000 | 0x83);
    vlapic_set_irq(v, 0x83);
    take(0x83);
    assert_true(in_isr(0x83));
}

/* --- hypercalls --- */

static uint64_t call(uint64_t input, uint64_t in, uint64_t out)
{
    struct viridian_call c = {input, in, out};

    return viridian_call(v, &c);
}

static uint64_t by_memory(uint64_t input, const uint64_t *words, unsigned n)
{
    memcpy(at(0), words, n * 8);
    return call(input, ON(0) - 1, 0);
}

static uint64_t hit(uint8_t vector)
{
    uint64_t set = 0;

    for (unsigned i = 0; i < VCPUS; i++) {
        v = list[i];
        set |= (uint64_t)in_irr(vector) << i;
    }
    v = list[0];
    return set;
}

static void test_ipi(void **state)
{
    const uint64_t slow[] = {0x93, 6}, ex[] = {0x94, 0, 1 | 1ull << 63, 5, ~0ull}, all[] = {0x95, 1, 0};
    const uint64_t odd[] = {0x96, 2, 0};

    assert_int_equal(call(0x1000b, 0x92, 5), 0);
    assert_int_equal(hit(0x92), 5);
    assert_int_equal(by_memory(0xb, slow, 2), 0);
    assert_int_equal(hit(0x93), 6);
    assert_int_equal(by_memory(2 << 17 | 0x15, ex, 5), 0);
    assert_int_equal(hit(0x94), 5);
    assert_int_equal(by_memory(0x15, all, 3), 0);
    assert_int_equal(hit(0x95), 7);
    assert_int_equal(by_memory(0x15, odd, 3), 5);
    assert_int_equal(by_memory(1 << 17 | 0x15, ex, 5), 3); /* two banks are there */
    assert_int_equal(by_memory(1 << 17 | 0xb, slow, 2), 3);
    assert_int_equal(call(0x10015, 0x92, 5), 3); /* too long for registers */
    assert_int_equal(call(0x1000b, 0xf, 7), 5);
    assert_int_equal(call(0x1000b, 0x100, 7), 5);
    assert_int_equal(call(0x1000b, 1ull << 32 | 0x97, 7), 5);
    assert_int_equal(call(0x1000b, 0x98, ~0ull << 3), 0); /* vCPUs that are not there */
    assert_int_equal(hit(0x96) | hit(0x97) | hit(0x98), 0);
}

static void test_flush(void **state)
{
    const uint64_t some[] = {0, 0, 6}, all[] = {0, 1, 0}, ex[] = {0, 0, 0, 2, 9};

    assert_int_equal(by_memory(2, some, 3), 0);
    assert_int_equal(flushed, 6);
    assert_int_equal(by_memory(2, all, 3), 0);
    assert_int_equal(flushed, ~0ull);
    assert_int_equal(by_memory(5ull << 32 | 3, some, 3), 5ull << 32);
    assert_int_equal(flushed, 6);
    assert_int_equal(by_memory(1 << 17 | 0x13, ex, 5), 0);
    assert_int_equal(flushed, 0); /* the second bank alone */
    assert_int_equal(by_memory(3ull << 32 | 1 << 17 | 0x14, ex, 5), 3ull << 32);
    assert_int_equal(by_memory(3, some, 3), 3); /* a list of nothing */
    assert_int_equal(by_memory(5ull << 48 | 5ull << 32 | 3, some, 3), 3);
    assert_int_equal(by_memory(1ull << 32 | 2, some, 3), 3); /* not a list */
    assert_int_equal(call(0x10002, 0, 0), 3);
}

static void test_bad_calls(void **state)
{
    uint64_t last = ((FIRST_GFN + 1) << FRAME_SHIFT) - 16;

    assert_int_equal(call(8, 0, 0), 0);
    for (unsigned code = 0; code < 0x10000; code++)
        if (code != 2 && code != 3 && code != 8 && code != 0xb && (code < 0x13 || code > 0x15))
            assert_int_equal(call(code, 0, 0), 2);
    for (unsigned bit = 27; bit < 64; bit++)
        assert_int_equal(call(1ull << bit | 0x1000b, 0x92, 7), 3);
    assert_int_equal(call(2, (ON(0) - 1) | 4, 0), 4);
    assert_int_equal(call(2, last, 0), 4); /* over the page's end */
    assert_int_equal(call(2, HOLE - 1, 0), 5);
    assert_int_equal(call(2, ~7ull, 0), 4);
    assert_int_equal(call(2, ~0xfffull, 0), 5);
    assert_int_equal(call(0x3ff << 17 | 0x15, ON(0) - 1, 0), 3);
    assert_int_equal(hit(0x92), 0);
}

/* --- ends --- */

static void test_crash(void **state)
{
    assert_int_equal(rd(0x40000105), 1ull << 63);
    wr(0x40000104, 0x1234567);
    wr(0x40000105, 1ull << 62);
    assert_int_equal(d->shutdown_code, SHUTDOWN_CODE_NONE);
    wr(0x40000105, 1ull << 63);
    assert_int_equal(d->shutdown_code, SHUTDOWN_crash);
    assert_non_null(strstr(fake_last_log, "1234567"));
    assert_int_equal(rd(0x40000104), 0x1234567);
}

static void test_save(void **state)
{
    struct hvm_viridian_domain_context dc, again;
    struct hvm_viridian_vcpu_context vc, back;
    uint64_t now;

    wr(0x40000000, 0x77);
    wr(0x40000001, ON(2));
    synic_on();
    wr(0x40000073, ON(0));
    vlapic_set_irq(v, 0x61);
    take(0x61);
    now = rd(0x40000020);
    wr(0x400000b1, now + 50 * MS);
    wr(0x400000b0, 2 << 16 | 1);
    viridian_get_domain(d, &dc);
    viridian_get_vcpu(v, &vc);
    assert_true(vc.apic_assist_pending);
    viridian_reset(d);
    assert_false(viridian_calls(d) || hvm[0].lazy_eoi);
    assert_int_equal(rd(0x40000083) | rd(0x400000b0) | rd(0x40000020), 0);
    viridian_set_domain(d, &dc);
    assert_int_equal(viridian_set_vcpu(v, &vc), 0);
    viridian_get_domain(d, &again);
    viridian_get_vcpu(v, &back);
    assert_memory_equal(&dc, &again, sizeof(dc));
    assert_memory_equal(&vc, &back, sizeof(vc));
    assert_true(hvm[0].lazy_eoi && *(uint32_t *)at(0) == 1);
    later(51 * MS);
    assert_int_equal(TYPE(1, 2), 0x80000010);
    vc.simp_msr = HOLE;
    assert_int_equal(viridian_set_vcpu(v, &vc), -EINVAL);
}

/* Every MSR, with values of all kinds, while time goes on. */
static void test_every_value(void **state)
{
    static const uint64_t values[] = {0,     1,    3,       ~0ull,   1ull << 63, ON(0),
                                      ON(3), HOLE, 0x10091, 0x20091, 0x81091f,   0xfffffffffffff001};
    uint64_t x = 1, value;

    for (unsigned i = 0; i < 20000; i++) {
        uint32_t msr;

        x = x * 6364136223846793005ull + 1442695040888963407ull;
        v = list[x >> 60 & 1];
        msr = 0x40000000 + (uint32_t)(x >> 33) % 0x108;
        if (msr != 0x40000003)
            (void)viridian_wrmsr(v, msr, values[(x >> 20) % ARRAY_SIZE(values)]);
        (void)viridian_rdmsr(v, msr, &value);
        later(x >> 50);
        if (vlapic_pending(v) >= 0)
            take((uint8_t)vlapic_pending(v));
        if (hvm[v->id].lazy_eoi)
            viridian_look(v);
        memset(at((unsigned)(x >> 40) % PAGES), (int)(x >> 48), FRAME_SIZE);
        if (hvm[v->id].lazy_eoi)
            viridian_look(v);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define BARE(f) cmocka_unit_test_setup_teardown(f, setup_bare, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        BARE(test_groups),
        BARE(test_base_alone),
        TEST(test_all_leaves),
        TEST(test_call_page),
        TEST(test_time),
        TEST(test_apic_msrs),
        TEST(test_synic_msrs),
        TEST(test_timer_message),
        TEST(test_message_without_listener),
        TEST(test_timer_direct),
        TEST(test_timer_periodic),
        TEST(test_timer_of_nobody),
        TEST(test_timer_late),
        TEST(test_assist),
        TEST(test_assist_moves),
        TEST(test_auto_eoi),
        TEST(test_ipi),
        TEST(test_flush),
        TEST(test_bad_calls),
        TEST(test_crash),
        TEST(test_save),
        TEST(test_every_value),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
