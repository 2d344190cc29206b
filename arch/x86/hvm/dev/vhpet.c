/*
 * The high precision event timer (IA-PC HPET specification 1.0a): 62.5 MHz, 64 bits, three timers that may be periodic, lines 20-23 or
 * those of the legacy devices. No messages (FSB).
 *
 * Invariants
 *  1. due[n] is not 0 exactly when timer n is to interrupt then; the board's timer is armed for the first of them.
 *  2. lines.hpet[n] is the line that timer n holds high (level mode), 0: none; then its bit in isr is set.
 *  3. A period is at least TICK_MIN_NS; ticks that nobody waited for are not made up.
 * Locks: the board's.
 */
#include "platform.h"
#include <xen/hvm/params.h>

#define BASE         0xfed00000ull
#define TICK_NS      16u
#define CAPABILITIES (0x8086a201ull | (uint64_t)TICK_NS * 1000000 << 32)
#define ON           0x1ull
#define LEGACY       0x2ull
#define T_LEVEL      (1ull << 1)
#define T_ENABLE     (1ull << 2)
#define T_PERIODIC   (1ull << 3)
#define T_CAPS       (1ull << 4 | 1ull << 5 | 0x00f00000ull << 32) /* periodic, 64 bits, lines 20-23 */
#define T_SET        (1ull << 6)
#define T_32         (1ull << 8)
#define T_ROUTE(c)   ((unsigned)((c) >> 9) & 0x1f)
#define T_WRITABLE   (T_LEVEL | T_ENABLE | T_PERIODIC | T_SET | T_32 | 0x1full << 9)
#define FAR_TICKS    (1ull << 54) /* nine years, in ns within 64 bits */
enum { REG_CAP = 0x00, REG_CONFIG = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0, REG_TIMERS = 0x100 };

static uint64_t counter(const struct hvm_board *b)
{
    const struct hvm_hw_hpet *h = &b->hpet.hw;

    return h->config & ON ? h->mc64 + (arch_time_ns() - b->hpet.since) / TICK_NS : h->mc64;
}

bool hpet_legacy(const struct hvm_board *b)
{
    return (b->hpet.hw.config & (ON | LEGACY)) == (ON | LEGACY);
}

/* --- interrupts --- */

static void lower(struct hvm_board *b, unsigned n)
{
    b->hpet.hw.isr &= ~(1ull << n);
    board_hpet(b, n, 0);
}

static void interrupt(struct hvm_board *b, unsigned n)
{
    uint64_t config = b->hpet.hw.timers[n].config;
    unsigned gsi = T_ROUTE(config);

    if (hpet_legacy(b) && n < 2) {
        board_isa_pulse(b, n ? 8 : 0);
    } else if (gsi >= 20 && gsi <= 23) {
        if (config & T_LEVEL) {
            b->hpet.hw.isr |= 1ull << n;
            board_hpet(b, n, gsi);
        } else {
            board_gsi_pulse(b, gsi);
        }
    }
}

static void arm(struct hvm_board *b)
{
    uint64_t first = 0;

    for (unsigned n = 0; n < HPET_TIMER_NUM; n++)
        if (b->hpet.due[n] && (!first || b->hpet.due[n] < first))
            first = b->hpet.due[n];
    if (first)
        board_arm(&b->hpet.timer, first);
    else
        timer_stop(&b->hpet.timer);
}

static uint64_t period_ns(const struct hvm_board *b, unsigned n)
{
    return MAX(MIN(b->hpet.hw.period[n], FAR_TICKS) * TICK_NS, (uint64_t)TICK_MIN_NS);
}

/* Ticks until the counter is at the comparator; behind it counts as now. */
static uint64_t ticks_left(const struct hvm_board *b, unsigned n)
{
    uint64_t left = b->hpet.hw.timers[n].cmp - counter(b);

    if (b->hpet.hw.timers[n].config & T_32)
        return (int32_t)left < 0 ? 0 : (uint32_t)left;
    return (int64_t)left < 0 ? 0 : MIN(left, FAR_TICKS);
}

static void plan(struct hvm_board *b, unsigned n)
{
    uint64_t config = b->hpet.hw.timers[n].config;

    b->hpet.due[n] = 0;
    if ((b->hpet.hw.config & ON) && (config & T_ENABLE) && (!(config & T_PERIODIC) || b->hpet.hw.period[n]))
        b->hpet.due[n] = arch_time_ns() + ticks_left(b, n) * TICK_NS;
    arm(b);
}

/* What is due by now. */
static void expire(struct hvm_board *b)
{
    uint64_t now = arch_time_ns();

    for (unsigned n = 0; n < HPET_TIMER_NUM; n++) {
        uint64_t due = b->hpet.due[n];

        if (!due || now < due)
            continue;
        interrupt(b, n);
        b->hpet.due[n] = 0;
        if (b->hpet.hw.timers[n].config & T_PERIODIC) {
            uint64_t step = period_ns(b, n), times = (now - due) / step + 1;

            b->hpet.due[n] = due + times * step;
            b->hpet.hw.timers[n].cmp += times * b->hpet.hw.period[n];
        }
    }
    arm(b);
}

static void fire(void *data)
{
    struct hvm_board *b = data;
    unsigned long flags = board_lock(b);

    expire(b);
    board_unlock(b, flags);
}

/* --- registers --- */

static uint64_t *timer_register(struct hvm_hw_hpet *h, unsigned offset)
{
    unsigned n = (offset - REG_TIMERS) / 0x20;

    if (offset < REG_TIMERS || n >= HPET_TIMER_NUM)
        return NULL;
    switch (offset & 0x18) {
    case 0x00:
        return &h->timers[n].config;
    case 0x08:
        return &h->timers[n].cmp;
    default:
        return NULL;
    }
}

static uint64_t read_register(struct hvm_board *b, unsigned offset)
{
    const uint64_t *reg;

    switch (offset) {
    case REG_CAP:
        return CAPABILITIES;
    case REG_CONFIG:
        return b->hpet.hw.config;
    case REG_STATUS:
        return b->hpet.hw.isr;
    case REG_COUNTER:
        return counter(b);
    default:
        reg = timer_register(&b->hpet.hw, offset);
        return reg ? *reg : 0;
    }
}

/* The rest of a register of which a half is written. */
static uint64_t old_value(struct hvm_board *b, unsigned offset)
{
    const struct hvm_hw_hpet *h = &b->hpet.hw;
    unsigned n = (offset - REG_TIMERS) / 0x20;

    if (offset == REG_STATUS)
        return 0; /* ones clear */
    if (offset >= REG_TIMERS && n < HPET_TIMER_NUM && (offset & 0x18) == 8 &&
        h->timers[n].config & T_PERIODIC)
        return h->period[n];
    return read_register(b, offset);
}

static void write_config(struct hvm_board *b, uint64_t value)
{
    struct hvm_hw_hpet *h = &b->hpet.hw;

    expire(b); /* the others would be planned anew, past what is due */
    h->mc64 = counter(b);
    b->hpet.since = arch_time_ns();
    h->config = value & (ON | LEGACY);
    for (unsigned n = 0; n < HPET_TIMER_NUM; n++)
        plan(b, n);
    pit_line_changed(b);
    rtc_line_changed(b);
}

static void write_timer_config(struct hvm_board *b, unsigned n, uint64_t value)
{
    lower(b, n);
    b->hpet.hw.timers[n].config = (value & T_WRITABLE) | T_CAPS;
    if (value & T_32) {
        b->hpet.hw.timers[n].cmp = (uint32_t)b->hpet.hw.timers[n].cmp;
        b->hpet.hw.period[n] = (uint32_t)b->hpet.hw.period[n];
    }
    plan(b, n);
}

/* In periodic mode the period; and the first time of all, when T_SET says so. */
static void write_comparator(struct hvm_board *b, unsigned n, uint64_t value)
{
    uint64_t *config = &b->hpet.hw.timers[n].config;

    if (*config & T_32)
        value = (uint32_t)value;
    if (*config & T_PERIODIC)
        b->hpet.hw.period[n] = value;
    if (!(*config & T_PERIODIC) || *config & T_SET)
        b->hpet.hw.timers[n].cmp = value;
    *config &= ~T_SET;
    plan(b, n);
}

static void write_register(struct hvm_board *b, unsigned offset, uint64_t value)
{
    unsigned n = (offset - REG_TIMERS) / 0x20;

    switch (offset) {
    case REG_CONFIG:
        write_config(b, value);
        return;
    case REG_STATUS:
        for (unsigned i = 0; i < HPET_TIMER_NUM; i++)
            if (value >> i & 1)
                lower(b, i);
        return;
    case REG_COUNTER: /* only while it stands */
        if (!(b->hpet.hw.config & ON))
            b->hpet.hw.mc64 = value;
        return;
    default:
        if (offset < REG_TIMERS || n >= HPET_TIMER_NUM)
            return;
        if ((offset & 0x18) == 0)
            write_timer_config(b, n, value);
        else if ((offset & 0x18) == 8)
            write_comparator(b, n, value);
    }
}

/* The specification has aligned accesses of 4 and 8 bytes. Parts of a register can be read, too (hvmloader looks for the vendor so);
 * other writes are dropped. */
static bool hpet_access(struct vcpu *v, struct hvm_access *a)
{
    struct hvm_board *b = board_of(v->domain);
    unsigned offset = (unsigned)(a->address & 0x3ff), at = offset & ~7u, shift = (offset & 7) * 8;
    unsigned long flags;

    if (!hvm_domain(v->domain)->param[HVM_PARAM_HPET_ENABLED])
        return false;
    flags = board_lock(b);
    if (!a->write)
        a->value = read_register(b, at) >> shift;
    else if (a->bytes >= 4 && !(offset & (a->bytes - 1u)))
        write_register(b, at, (old_value(b, at) & ~(bytes_mask(a->bytes) << shift)) | a->value << shift);
    board_unlock(b, flags);
    return true;
}

const struct hvm_device hpet_device = {"HPET", HVM_MEMORY, BASE, BASE + 0x3ff, hpet_access};

/* --- life --- */

void hpet_init(struct hvm_board *b)
{
    timer_init(&b->hpet.timer, fire, b, arch_cpu_id());
}

void hpet_reset(struct hvm_board *b)
{
    b->hpet.hw = (struct hvm_hw_hpet){.capability = CAPABILITIES};
    for (unsigned n = 0; n < HPET_TIMER_NUM; n++) {
        b->hpet.hw.timers[n].config = T_CAPS;
        b->hpet.hw.timers[n].cmp = ~0ull;
        b->hpet.due[n] = 0;
    }
    b->hpet.since = arch_time_ns();
    timer_stop(&b->hpet.timer);
}

void hpet_get(struct hvm_board *b, struct hvm_hw_hpet *out)
{
    *out = b->hpet.hw;
    out->mc64 = counter(b);
}

void hpet_loaded(struct hvm_board *b)
{
    struct hvm_hw_hpet *h = &b->hpet.hw;
    uint64_t was = h->isr;

    h->capability = CAPABILITIES;
    h->config &= ON | LEGACY;
    h->isr = 0;
    b->hpet.since = arch_time_ns();
    for (unsigned n = 0; n < HPET_TIMER_NUM; n++) {
        lower(b, n);
        h->timers[n].config = (h->timers[n].config & T_WRITABLE) | T_CAPS;
        plan(b, n);
        if (was >> n & 1 && h->timers[n].config & T_LEVEL)
            interrupt(b, n);
    }
    pit_line_changed(b);
    rtc_line_changed(b);
}
