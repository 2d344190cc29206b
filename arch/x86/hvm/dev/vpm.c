/*
 * ACPI's fixed hardware as far as Krypton has it: the PM timer and the PM1a event block (ACPI 6.4, 4.8.3), at the ports that
 * HVM_PARAM_ACPI_IOPORTS_LOCATION chooses. PM1a control and general-purpose events are a device model's. The SCI is ISA line 9.
 *
 * Locks: the board's.
 */
#include "irq.h"
#include "platform.h"
#include <xen/hvm/params.h>

#define HZ         3579545ull
#define SCI        9u
#define TIMER_STS  0x001u
#define GLOBAL_STS 0x020u
#define POWER_STS  0x100u
#define SLEEP_STS  0x200u
#define WAKE_STS   0x8000u /* for reading: it interrupts nobody */
#define ALL_STS    (TIMER_STS | GLOBAL_STS | POWER_STS | SLEEP_STS)
#define HALF       (1ull << 31)
#define EVENT_OLD  0x1f40u
#define EVENT_NEW  0xb000u
#define TIMER_AT   8u /* from the event block */

/* Ticks since the board's reset; the register is the lower half. */
static uint64_t ticks(const struct hvm_board *b)
{
    return b->pm.hw.tmr_val + ns_to_ticks(arch_time_ns() - b->pm.since, HZ);
}

static void update(struct hvm_board *b)
{
    uint64_t now = ticks(b), end;

    if (now / HALF != b->pm.seen / HALF)
        b->pm.hw.pm1a_sts |= TIMER_STS;
    b->pm.seen = now;
    board_isa(b, SCI, b->pm.hw.pm1a_sts & b->pm.hw.pm1a_en & ALL_STS);
    if (b->pm.hw.pm1a_en & TIMER_STS && !(b->pm.hw.pm1a_sts & TIMER_STS)) {
        end = (now / HALF + 1) * HALF;
        board_arm(&b->pm.timer, arch_time_ns() + ticks_to_ns(end - now, HZ));
    } else {
        timer_stop(&b->pm.timer);
    }
}

static void fire(void *data)
{
    struct hvm_board *b = data;
    unsigned long flags = board_lock(b);

    update(b);
    board_unlock(b, flags);
}

/* Status bits are cleared by writing ones. */
static uint8_t event_port(struct hvm_board *b, unsigned port, bool write, uint8_t value)
{
    uint16_t *reg = port & 2 ? &b->pm.hw.pm1a_en : &b->pm.hw.pm1a_sts;
    unsigned shift = (port & 1) * 8;

    update(b);
    if (!write)
        return (uint8_t)(*reg >> shift);
    if (port & 2)
        *reg = (uint16_t)((*reg & ~(0xffu << shift)) | (unsigned)value << shift);
    else
        *reg &= (uint16_t) ~((unsigned)value << shift);
    update(b);
    return value;
}

static bool is_here(const struct vcpu *v, uint64_t port)
{
    return (port >= EVENT_NEW) == !!hvm_domain(v->domain)->param[HVM_PARAM_ACPI_IOPORTS_LOCATION];
}

static bool event_access(struct vcpu *v, struct hvm_access *a)
{
    if (!is_here(v, a->address))
        return false;
    board_bytes(v, a, event_port);
    return true;
}

static bool timer_access(struct vcpu *v, struct hvm_access *a)
{
    struct hvm_board *b = board_of(v->domain);
    unsigned long flags;

    if (!is_here(v, a->address))
        return false;
    if (a->write)
        return true;
    flags = board_lock(b);
    a->value = (uint32_t)ticks(b) >> (a->address & 3) * 8;
    board_unlock(b, flags);
    return true;
}

#define EVENT(at)                                                                                            \
    {                                                                                                        \
        "PM1a", HVM_PORT, at, at + 3, event_access                                                           \
    }
#define TIMER(at)                                                                                            \
    {                                                                                                        \
        "PM timer", HVM_PORT, at + TIMER_AT, at + TIMER_AT + 3, timer_access                                 \
    }
const struct hvm_device pm_devices[PM_DEVICES] = {TIMER(EVENT_NEW), TIMER(EVENT_OLD), EVENT(EVENT_NEW),
                                                  EVENT(EVENT_OLD)};

static int button(struct domain *d, uint16_t bit)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return -EOPNOTSUPP;
    flags = board_lock(b);
    b->pm.hw.pm1a_sts |= bit;
    update(b);
    board_unlock(b, flags);
    return 0;
}

int hvm_power_button(struct domain *d)
{
    return button(d, POWER_STS);
}

int hvm_sleep_button(struct domain *d)
{
    return button(d, SLEEP_STS);
}

/* --- life --- */

void pm_init(struct hvm_board *b)
{
    timer_init(&b->pm.timer, fire, b, arch_cpu_id());
}

void pm_reset(struct hvm_board *b)
{
    b->pm.hw = (struct hvm_hw_pmtimer){0};
    b->pm.since = arch_time_ns();
    b->pm.seen = 0;
    timer_stop(&b->pm.timer);
}

void pm_woken(struct hvm_board *b)
{
    b->pm.hw.pm1a_sts |= WAKE_STS;
}

void pm_get(struct hvm_board *b, struct hvm_hw_pmtimer *out)
{
    *out = b->pm.hw;
    out->tmr_val = (uint32_t)ticks(b);
}

void pm_loaded(struct hvm_board *b)
{
    b->pm.hw.pm1a_sts &= ALL_STS | WAKE_STS;
    b->pm.since = arch_time_ns();
    b->pm.seen = b->pm.hw.tmr_val;
    update(b);
}
