/*
 * The local APIC's timer: one-shot, periodic, TSC deadline (Intel SDM vol. 3 11.5.4). It counts at 100 MHz, divided.
 *
 * Invariants
 *  1. started is not 0 exactly when a count runs (one-shot, periodic); then `timer` is armed for its end.
 *  2. deadline is not 0 exactly when TSC-deadline mode waits for it.
 *  3. A period is at least PERIOD_MIN_NS of ours, and UNHEARD_NS while the guest does not take its ticks, however short it asked: its clock
 *     then loses ticks, Krypton no time.
 * Locks: none; the function runs while the vCPU may, and only reads what it wrote.
 */
#include "tsc.h"
#include "vlapic_private.h"
#include "core/domain.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "x86/platform.h"

#define NS_PER_COUNT  10u
#define PERIOD_MIN_NS 50000u
#define MODE(lvt)     ((lvt) >> 17 & 3)
#define MODE_ONE_SHOT 0u
#define MODE_PERIODIC 1u
#define MODE_DEADLINE 2u
#define LVT_MASKED    (1u << 16)
#define FAR           (1ull << 40) /* ns: a quarter of an hour; later deadlines are looked at again then */

uint32_t vlapic_timer_divisor(const struct vlapic *l)
{
    uint32_t d = reg_get(l, APIC_TIMER_DIVIDE), power = (((d & 3) | (d >> 1 & 4)) + 1) & 7;

    return 1u << power;
}

static uint64_t count_ns(const struct vlapic *l, uint32_t count)
{
    return (uint64_t)count * vlapic_timer_divisor(l) * NS_PER_COUNT;
}

static unsigned mode_of(const struct vlapic *l)
{
    return MODE(reg_get(l, APIC_LVT_TIMER));
}

static void ring(struct vcpu *v)
{
    uint32_t lvt = reg_get(vlapic_of(v), APIC_LVT_TIMER);

    if (!(lvt & LVT_MASKED))
        vlapic_set_irq(v, (uint8_t)lvt);
}

static void arm_deadline(struct vcpu *v)
{
    struct vlapic *l = vlapic_of(v);
    uint64_t khz = hvm_tsc_khz(v->domain), left = l->deadline - hvm_tsc(v);

    if ((int64_t)left <= 0)
        left = 0;
    else
        left = left / khz >= FAR / 1000000 ? FAR : left * 1000000 / khz;
    timer_migrate(&l->timer, arch_cpu_id());
    timer_set(&l->timer, arch_time_ns() + left);
}

/* The end of the period that now is in; later if nobody has heard of the last one. */
static void arm_period(struct vcpu *v, uint64_t now)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t lvt = reg_get(l, APIC_LVT_TIMER);
    bool heard = !(lvt & LVT_MASKED) && vlapic_is_news(v, (uint8_t)lvt);
    uint64_t period = MAX(count_ns(l, reg_get(l, APIC_TIMER_INITIAL)), (uint64_t)PERIOD_MIN_NS);

    if (now - l->started >= period)
        l->started = now - (now - l->started) % period;
    timer_set(&l->timer, MAX(l->started + period, heard ? 0 : now + UNHEARD_NS));
}

static void fire(void *data)
{
    struct vcpu *v = data;
    struct vlapic *l = vlapic_of(v);
    uint64_t now = arch_time_ns();

    if (l->deadline) {
        if ((int64_t)(l->deadline - hvm_tsc(v)) > (int64_t)hvm_tsc_khz(v->domain) / 1000) {
            arm_deadline(v); /* it was too far away */
            return;
        }
        __atomic_store_n(&l->deadline, 0, __ATOMIC_RELAXED);
    } else if (!__atomic_load_n(&l->started, __ATOMIC_RELAXED)) {
        return;
    } else if (mode_of(l) == MODE_PERIODIC) {
        arm_period(v, now);
    } else {
        __atomic_store_n(&l->started, 0, __ATOMIC_RELAXED);
    }
    ring(v);
}

void vlapic_timer_init(struct vcpu *v, struct vlapic *l)
{
    timer_init(&l->timer, fire, v, arch_cpu_id());
}

void vlapic_timer_stop(struct vcpu *v)
{
    struct vlapic *l = vlapic_of(v);

    timer_stop(&l->timer);
    l->started = l->deadline = 0;
}

uint32_t vlapic_timer_current(const struct vcpu *v)
{
    const struct vlapic *l = vlapic_of(v);
    uint64_t started = __atomic_load_n(&l->started, __ATOMIC_RELAXED), gone;
    uint32_t initial = reg_get(l, APIC_TIMER_INITIAL);

    if (!started || !initial || mode_of(l) == MODE_DEADLINE)
        return 0;
    gone = (arch_time_ns() - started) / (vlapic_timer_divisor(l) * NS_PER_COUNT);
    if (mode_of(l) == MODE_PERIODIC)
        return initial - (uint32_t)(gone % initial);
    return gone >= initial ? 0 : initial - (uint32_t)gone;
}

static void start(struct vcpu *v, uint64_t ns)
{
    struct vlapic *l = vlapic_of(v);

    if (mode_of(l) == MODE_PERIODIC)
        ns = MAX(ns, (uint64_t)PERIOD_MIN_NS);
    __atomic_store_n(&l->started, arch_time_ns(), __ATOMIC_RELAXED);
    timer_migrate(&l->timer, arch_cpu_id());
    timer_set(&l->timer, l->started + ns);
}

void vlapic_timer_start(struct vcpu *v, uint32_t count)
{
    struct vlapic *l = vlapic_of(v);

    if (mode_of(l) == MODE_DEADLINE)
        return; /* the register is not used there */
    reg_set(l, APIC_TIMER_INITIAL, count);
    if (count) {
        start(v, count_ns(l, count));
    } else {
        timer_stop(&l->timer);
        l->started = 0;
    }
}

/* A count that runs goes on from where it is, at the new speed. */
void vlapic_timer_divide(struct vcpu *v, uint32_t divide)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t left = vlapic_timer_current(v);
    uint64_t gone;

    reg_set(l, APIC_TIMER_DIVIDE, divide);
    if (!left || !l->started)
        return;
    gone = count_ns(l, reg_get(l, APIC_TIMER_INITIAL) - left);
    start(v, count_ns(l, left));
    l->started -= MIN(gone, l->started - 1);
}

void vlapic_timer_mode(struct vcpu *v, uint32_t lvt)
{
    const struct vlapic *l = vlapic_of(v);
    bool was = mode_of(l) == MODE_DEADLINE, will = MODE(lvt) == MODE_DEADLINE;

    if (was != will)
        vlapic_timer_stop(v);
}

void vlapic_timer_deadline(struct vcpu *v, uint64_t tsc)
{
    struct vlapic *l = vlapic_of(v);

    if (mode_of(l) != MODE_DEADLINE)
        return; /* the register is not used there */
    __atomic_store_n(&l->deadline, tsc, __ATOMIC_RELAXED);
    if (tsc)
        arm_deadline(v);
    else
        timer_stop(&l->timer);
}

void vlapic_timer_restore(struct vcpu *v)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t left = reg_get(l, APIC_TIMER_CURRENT), initial = reg_get(l, APIC_TIMER_INITIAL);

    if (mode_of(l) == MODE_DEADLINE) {
        if (l->deadline)
            arm_deadline(v);
        return;
    }
    l->deadline = 0;
    if (!initial || !left || left > initial)
        return;
    start(v, count_ns(l, left));
    l->started -= MIN(count_ns(l, initial - left), l->started - 1);
}
