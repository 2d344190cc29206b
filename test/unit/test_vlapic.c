/* The local APIC of HVM guests: priorities, interprocessor interrupts, timer modes, what a guest may write; and what is hostile. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "fake.h"
#include "core/perf.h"
#include "arch/x86/hvm/dev/vlapic.h"
#include "arch/x86/hvm/dev/vlapic_private.h"
#include "core/sched.h"
#include <xen/hvm/save.h>

#define VCPUS 3u

uint64_t tsc_khz = 1000000; /* one cycle a nanosecond */

static struct x86_vcpu vcpu[VCPUS];
static struct hvm_vcpu hvm[VCPUS];
static struct vlapic apic[VCPUS];
static struct vcpu *list[VCPUS], **own_list;
static struct domain *d;
static unsigned nmis[VCPUS], inits[VCPUS], startups[VCPUS];
static uint8_t last_page;

void vlapic_nmi(struct vcpu *v)
{
    nmis[v->id]++;
}
void vlapic_signal_init(struct vcpu *v)
{
    inits[v->id]++;
}
void vlapic_signal_startup(struct vcpu *v, uint8_t page)
{
    startups[v->id]++;
    last_page = page;
}

/* One machine for all tests: the queues of timers belong to its clock. */
static int group_setup(void **state)
{
    fake_setup(state);
    for (unsigned c = 0; c < 2; c++)
        timers_init_cpu(c);
    d = fake_domain(1, 16);
    own_list = d->vcpu;
    return 0;
}

static int group_teardown(void **state)
{
    d->vcpu = own_list;
    d->max_vcpus = 1;
    return fake_teardown(state);
}

static int setup(void **state)
{
    d->vcpu = list;
    d->max_vcpus = VCPUS;
    for (unsigned i = 0; i < VCPUS; i++) {
        memset(&vcpu[i], 0, sizeof(vcpu[i]));
        vcpu[i].core.id = i;
        vcpu[i].core.domain = d;
        vcpu[i].hvm = &hvm[i];
        hvm[i].vlapic = &apic[i];
        list[i] = &vcpu[i].core;
        memset(&apic[i], 0, sizeof(apic[i]));
        vlapic_init(list[i], &apic[i]);
        vlapic_reset(list[i]);
        vlapic_mmio_write(list[i], APIC_SVR, 0x1ff);
        nmis[i] = inits[i] = startups[i] = 0;
    }
    return 0;
}

static int teardown(void **state)
{
    for (unsigned i = 0; i < VCPUS; i++)
        vlapic_free(&apic[i]);
    return 0;
}

static void x2_on(unsigned i)
{
    uint64_t base;

    assert_true(vlapic_rdmsr(list[i], 0x1b, &base));
    assert_true(vlapic_wrmsr(list[i], 0x1b, base | APIC_BASE_X2));
}

static void test_priorities(void **state)
{
    struct vcpu *v = list[0];

    assert_int_equal(vlapic_pending(v), -1);
    vlapic_set_irq(v, 0x31);
    vlapic_set_irq(v, 0x82);
    assert_int_equal(vlapic_pending(v), 0x82);
    vlapic_ack(v, 0x82);
    assert_int_equal(vlapic_pending(v), -1); /* 0x31 waits for the end of 0x82 */
    vlapic_set_irq(v, 0x8f);
    assert_int_equal(vlapic_pending(v), -1); /* same class */
    vlapic_set_irq(v, 0x90);
    assert_int_equal(vlapic_pending(v), 0x90);
    vlapic_ack(v, 0x90);
    vlapic_mmio_write(v, APIC_EOI, 0);
    vlapic_mmio_write(v, APIC_EOI, 0);
    assert_int_equal(vlapic_pending(v), 0x8f);
    vlapic_set_tpr(v, 8);
    assert_int_equal(vlapic_pending(v), -1);
    assert_int_equal(vlapic_mmio_read(v, APIC_TPR), 0x80);
    assert_int_equal(vlapic_mmio_read(v, APIC_PPR), 0x80);
    vlapic_set_tpr(v, 0);
    vlapic_mmio_write(v, APIC_SVR, 0xff); /* off by software */
    assert_int_equal(vlapic_pending(v), -1);
}

static void test_low_vectors_are_errors(void **state)
{
    struct vcpu *v = list[0];

    vlapic_mmio_write(v, APIC_LVT_ERROR, 0x40);
    vlapic_set_irq(v, 15);
    assert_int_equal(vlapic_pending(v), 0x40);
    vlapic_mmio_write(v, APIC_ESR, 0);
    assert_int_equal(vlapic_mmio_read(v, APIC_ESR), 1 << 6);
    vlapic_mmio_write(v, APIC_ICR2, 0);
    vlapic_mmio_write(v, APIC_ICR, 3); /* an interprocessor interrupt with vector 3 */
    vlapic_mmio_write(v, APIC_ESR, 0);
    assert_int_equal(vlapic_mmio_read(v, APIC_ESR), 1 << 5);
    /* An error interrupt whose own vector is wrong must not go round in circles. */
    vlapic_mmio_write(v, APIC_LVT_ERROR, 3);
    vlapic_set_irq(v, 1);
    vlapic_mmio_write(v, APIC_ESR, 0);
}

static void test_ipi_physical(void **state)
{
    vlapic_mmio_write(list[0], APIC_ICR2, 4u << 24); /* id of vCPU 2 */
    vlapic_mmio_write(list[0], APIC_ICR, 0x55);
    assert_int_equal(vlapic_pending(list[2]), 0x55);
    assert_int_equal(vlapic_pending(list[1]), -1);
    vlapic_mmio_write(list[0], APIC_ICR, 3u << 18 | 0x66); /* all but self */
    assert_int_equal(vlapic_pending(list[0]), -1);
    assert_int_equal(vlapic_pending(list[1]), 0x66);
    vlapic_mmio_write(list[0], APIC_ICR, 1u << 18 | 0x77); /* self */
    assert_int_equal(vlapic_pending(list[0]), 0x77);
    vlapic_mmio_write(list[0], APIC_ICR2, 0xffu << 24);
    vlapic_mmio_write(list[0], APIC_ICR, 4u << 8);
    assert_true(nmis[0] == 1 && nmis[1] == 1 && nmis[2] == 1);
}

static void test_ipi_logical(void **state)
{
    for (unsigned i = 0; i < VCPUS; i++)
        vlapic_mmio_write(list[i], APIC_LDR, 1u << (24 + i));
    vlapic_mmio_write(list[0], APIC_ICR2, 6u << 24);
    vlapic_mmio_write(list[0], APIC_ICR, 1u << 11 | 0x44);
    assert_int_equal(vlapic_pending(list[0]), -1);
    assert_int_equal(vlapic_pending(list[1]), 0x44);
    assert_int_equal(vlapic_pending(list[2]), 0x44);
    /* lowest priority: one of them */
    vlapic_mmio_write(list[0], APIC_ICR, 1u << 11 | 1u << 8 | 0x99);
    assert_int_equal((vlapic_pending(list[1]) == 0x99) + (vlapic_pending(list[2]) == 0x99), 1);
}

static void test_x2apic(void **state)
{
    uint64_t value;

    assert_false(vlapic_rdmsr(list[0], 0x802, &value)); /* not in xAPIC mode */
    x2_on(0);
    x2_on(1);
    assert_true(vlapic_rdmsr(list[1], 0x802, &value));
    assert_int_equal(value, 2);
    assert_true(vlapic_rdmsr(list[1], 0x80d, &value));
    assert_int_equal(value, 1u << 2);
    assert_true(vlapic_wrmsr(list[0], 0x830, 2ull << 32 | 0x51));
    assert_int_equal(vlapic_pending(list[1]), 0x51);
    assert_true(vlapic_wrmsr(list[0], 0x83f, 0x52)); /* self */
    assert_int_equal(vlapic_pending(list[0]), 0x52);
    assert_false(vlapic_wrmsr(list[0], 0x80b, 1)); /* EOI of not 0 */
    assert_false(vlapic_wrmsr(list[0], 0x802, 1)); /* read only */
    assert_false(vlapic_wrmsr(list[0], 0x80e, 1)); /* DFR: not there */
    assert_false(vlapic_wrmsr(list[0], 0x808, 1ull << 32));
    assert_false(vlapic_wrmsr(list[0], 0x830, 1u << 20));
    assert_true(vlapic_wrmsr(list[0], 0x835,
                             0x15700)); /* LINT0 with what only the processor sets: as if it were not */
    assert_true(vlapic_rdmsr(list[0], 0x835, &value));
    assert_int_equal(value, 0x10700);
    assert_true(vlapic_wrmsr(list[0], 0x832, 0x110ee));
    assert_false(vlapic_wrmsr(list[0], 0x832, 0x140ee)); /* the timer has no line */
    assert_false(vlapic_wrmsr(list[0], 0x835, 1u << 17));
    for (uint32_t msr = 0x800; msr < 0x900; msr++) { /* none of them may hurt */
        (void)vlapic_rdmsr(list[0], msr, &value);
        (void)vlapic_wrmsr(list[0], msr, ~0ull);
    }
}

static void test_base(void **state)
{
    uint64_t base;

    assert_true(vlapic_rdmsr(list[0], 0x1b, &base));
    assert_int_equal(base, APIC_PAGE | APIC_BASE_ON | APIC_BASE_BSP);
    assert_false(vlapic_wrmsr(list[0], 0x1b, base + 0x1000)); /* elsewhere */
    assert_false(
        vlapic_wrmsr(list[0], 0x1b, (base | APIC_BASE_X2) & ~APIC_BASE_ON)); /* x2APIC without APIC */
    assert_false(vlapic_wrmsr(list[0], 0x1b, base & ~APIC_BASE_BSP));
    x2_on(0);
    assert_false(vlapic_wrmsr(list[0], 0x1b, base)); /* back to xAPIC directly */
    assert_true(vlapic_wrmsr(list[0], 0x1b, base & ~APIC_BASE_ON));
    assert_false(vlapic_wrmsr(list[0], 0x1b, base | APIC_BASE_X2)); /* from off directly */
    assert_true(vlapic_wrmsr(list[0], 0x1b, base));
}

static void test_init_startup(void **state)
{
    vlapic_mmio_write(list[0], APIC_ICR2, 2u << 24);
    vlapic_mmio_write(list[0], APIC_ICR, 5u << 8 | 1u << 14 | 1u << 15);
    vlapic_mmio_write(list[0], APIC_ICR, 5u << 8 | 1u << 15); /* de-assert: nothing */
    vlapic_mmio_write(list[0], APIC_ICR, 6u << 8 | 0x9a);
    assert_int_equal(inits[1], 1);
    assert_int_equal(startups[1], 1);
    assert_int_equal(last_page, 0x9a);
    assert_int_equal(inits[0] + inits[2] + startups[0] + startups[2], 0);
}

static void test_timer_one_shot(void **state)
{
    struct vcpu *v = list[0];
    uint64_t start = fake_now;

    vlapic_mmio_write(v, APIC_TIMER_DIVIDE, 0xb); /* by 1: a count is 10 ns */
    vlapic_mmio_write(v, APIC_LVT_TIMER, 0xe0);
    vlapic_mmio_write(v, APIC_TIMER_INITIAL, 100000);
    fake_run_until(start + 400000);
    assert_int_equal(vlapic_mmio_read(v, APIC_TIMER_CURRENT), 60000);
    assert_int_equal(vlapic_pending(v), -1);
    fake_run_until(start + 1000001);
    assert_int_equal(vlapic_pending(v), 0xe0);
    assert_int_equal(vlapic_mmio_read(v, APIC_TIMER_CURRENT), 0);
    vlapic_ack(v, 0xe0);
    vlapic_mmio_write(v, APIC_EOI, 0);
    fake_run_until(start + 5000000);
    assert_int_equal(vlapic_pending(v), -1);
}

static void test_timer_periodic(void **state)
{
    struct vcpu *v = list[0];
    uint64_t start = fake_now;

    vlapic_mmio_write(v, APIC_TIMER_DIVIDE, 0); /* by 2 */
    vlapic_mmio_write(v, APIC_LVT_TIMER, 1u << 17 | 0xe0);
    vlapic_mmio_write(v, APIC_TIMER_INITIAL, 50000); /* 1 ms */
    for (unsigned i = 1; i <= 5; i++) {
        fake_run_until(start + i * 1000000 + 10);
        assert_int_equal(vlapic_pending(v), 0xe0);
        vlapic_ack(v, 0xe0);
        vlapic_mmio_write(v, APIC_EOI, 0);
        assert_int_equal(vlapic_pending(v), -1);
    }
    vlapic_mmio_write(v, APIC_TIMER_INITIAL, 0);
    fake_run_until(start + 20000000);
    assert_int_equal(vlapic_pending(v), -1);
    /* The shortest period that a guest can ask for does not become ours. */
    vlapic_mmio_write(v, APIC_TIMER_DIVIDE, 0xb);
    vlapic_mmio_write(v, APIC_TIMER_INITIAL, 1);
    assert_true(apic[0].timer.deadline >= fake_now + 50000);
}

/* Ticks that a vCPU does not take: whether it is down, deaf or has forgotten them, Krypton does not work for them at full speed. */
static void test_timer_of_nobody(void **state)
{
    const uint32_t lvt[] = {0xe0, 1u << 16 | 0xe0, 0x05};
    uint32_t *fired = &arch_perf()[PERF_timers_fired], before;
    struct vcpu *v = list[0];

    vlapic_mmio_write(v, APIC_TIMER_DIVIDE, 0xb);
    for (unsigned i = 0; i < ARRAY_SIZE(lvt); i++) {
        vlapic_mmio_write(v, APIC_LVT_TIMER, 1u << 17 | lvt[i]);
        vlapic_mmio_write(v, APIC_TIMER_INITIAL, 1);
        before = *fired;
        fake_run_until(fake_now + 100000000);
        assert_in_range(*fired - before, 50, 110);
    }
    /* As soon as it takes them they come as before. */
    vlapic_mmio_write(v, APIC_LVT_TIMER, 1u << 17 | 0xe0);
    fake_run_until(fake_now + 2000000);
    before = *fired;
    for (unsigned i = 0; i < 1000; i++) {
        if (vlapic_pending(v) == 0xe0) {
            vlapic_ack(v, 0xe0);
            vlapic_mmio_write(v, APIC_EOI, 0);
        }
        fake_run_until(fake_now + 10000);
    }
    assert_in_range(*fired - before, 180, 201);
}

static void test_timer_masked(void **state)
{
    struct vcpu *v = list[0];

    vlapic_mmio_write(v, APIC_LVT_TIMER, 1u << 16 | 0xe0);
    vlapic_mmio_write(v, APIC_TIMER_INITIAL, 1000);
    fake_run_until(fake_now + 10000000);
    assert_int_equal(vlapic_pending(v), -1);
}

static void test_timer_deadline(void **state)
{
    struct vcpu *v = list[0];
    uint64_t value;

    vlapic_wrmsr(v, 0x6e0, 12345); /* another mode: ignored */
    assert_true(vlapic_rdmsr(v, 0x6e0, &value));
    assert_int_equal(value, 0);
    vlapic_mmio_write(v, APIC_LVT_TIMER, 2u << 17 | 0xe1);
    vlapic_mmio_write(v, APIC_TIMER_INITIAL, 5); /* ignored here */
    assert_int_equal(vlapic_mmio_read(v, APIC_TIMER_INITIAL), 0);
    assert_true(vlapic_wrmsr(v, 0x6e0, arch_cycles() + 2000000));
    fake_run_until(fake_now + 1900000);
    assert_int_equal(vlapic_pending(v), -1);
    fake_run_until(fake_now + 200000);
    assert_int_equal(vlapic_pending(v), 0xe1);
    assert_true(vlapic_rdmsr(v, 0x6e0, &value));
    assert_int_equal(value, 0);
    vlapic_ack(v, 0xe1);
    vlapic_mmio_write(v, APIC_EOI, 0);
    vlapic_wrmsr(v, 0x6e0, 1); /* long ago: at once */
    fake_run_until(fake_now + 1000);
    assert_int_equal(vlapic_pending(v), 0xe1);
    vlapic_wrmsr(v, 0x6e0, ~0ull >> 1); /* never */
    vlapic_wrmsr(v, 0x6e0, 0);
}

static void test_state(void **state)
{
    struct hvm_hw_lapic s;
    struct hvm_hw_lapic_regs r, r2;

    vlapic_set_irq(list[0], 0x71);
    vlapic_mmio_write(list[0], APIC_LVT_LINT0, 0x700);
    vlapic_get_state(list[0], &s, &r);
    assert_int_equal(vlapic_set_state(list[1], &s), 0);
    assert_int_equal(vlapic_set_regs(list[1], &r), 0);
    assert_int_equal(vlapic_pending(list[1]), 0x71);
    assert_true(apic[1].base == (APIC_PAGE | APIC_BASE_ON)); /* who is first does not move */
    s.apic_base_msr = APIC_PAGE | APIC_BASE_X2;
    assert_int_equal(vlapic_set_state(list[1], &s), -EINVAL);
    s.apic_base_msr = 0x1000 | APIC_BASE_ON;
    assert_int_equal(vlapic_set_state(list[1], &s), -EINVAL);
    memset(&r, 0xff, sizeof(r)); /* hostile */
    assert_int_equal(vlapic_set_regs(list[2], &r), 0);
    vlapic_get_state(list[2], &s, &r2);
    assert_false(reg_get(&apic[2], APIC_IRR) & 0xffff);
    assert_false(reg_get(&apic[2], APIC_SVR) & ~0x3ffu);
}

/* Any register, any value, any order: nothing but the guest's own state changes, and no sanitizer complains. */
static void test_random(void **state)
{
    uint64_t x = 88172645463325252ull, value;

    for (unsigned i = 0; i < 200000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        switch (x & 7) {
        case 0:
            vlapic_set_irq(list[x >> 8 & 1], (uint8_t)(x >> 16));
            break;
        case 1:
            (void)vlapic_wrmsr(list[0], 0x800 + (x >> 8 & 0xff), x >> 16);
            break;
        case 2:
            (void)vlapic_rdmsr(list[0], 0x800 + (x >> 8 & 0xff), &value);
            break;
        case 3:
            (void)vlapic_wrmsr(list[0], 0x1b, APIC_PAGE | (x >> 8 & 0xf00));
            break;
        case 4: {
            int vector = vlapic_pending(list[0]);

            if (vector >= 0)
                vlapic_ack(list[0], (uint8_t)vector);
            break;
        }
        case 5:
            (void)vlapic_mmio_read(list[1], x >> 8 & 0xfff);
            break;
        default:
            vlapic_mmio_write(list[1], x >> 8 & 0xfff, (uint32_t)(x >> 24));
        }
        assert_true(vlapic_pending(list[0]) == -1 || vlapic_pending(list[0]) >= 16);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_priorities),     TEST(test_low_vectors_are_errors),
        TEST(test_ipi_physical),   TEST(test_ipi_logical),
        TEST(test_x2apic),         TEST(test_base),
        TEST(test_init_startup),   TEST(test_timer_one_shot),
        TEST(test_timer_periodic), TEST(test_timer_of_nobody),
        TEST(test_timer_masked),   TEST(test_timer_deadline),
        TEST(test_state),          TEST(test_random),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
