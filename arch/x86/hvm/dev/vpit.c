/*
 * The interval timer (Intel 8254) at ports 0x40-0x43, and port 0x61: channel 0 is ISA line 0, channel 2 the speaker's, whose output is
 * read there. Channel 1 only counts.
 *
 * State is struct hvm_hw_pit. read_state, write_state: 1 low byte, 2 high byte, 3 low byte then high byte, 4 the high byte of the two
 * is next. A count in BCD is taken as binary.
 *
 * Invariants
 *  1. due is not 0 exactly when channel 0 is to interrupt then; the timer is armed for it.
 *  2. A period is at least TICK_MIN_NS; ticks that nobody waited for are not made up.
 * Locks: the board's.
 */
#include "platform.h"

#define HZ           1193182ull
#define PORT_FIRST   0x40u
#define PORT_COMMAND 3u
#define SPEAKER      0x61u
#define READ_BACK    3u
#define REFRESH_NS   15000u
enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH, ACCESS_BOTH_HIGH };

static uint64_t elapsed(const struct hvm_board *b, unsigned n)
{
    return ns_to_ticks(arch_time_ns() - b->pit.loaded[n], HZ);
}

static bool periodic(unsigned mode)
{
    return mode == 2 || mode == 3;
}

static uint16_t current(const struct hvm_board *b, unsigned n)
{
    const struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];
    uint64_t gone = elapsed(b, n);

    if (!c->gate && n == 2)
        return (uint16_t)c->count;
    if (c->mode == 3)
        return (uint16_t)(c->count - (gone * 2) % c->count);
    return (uint16_t)(c->count - (periodic(c->mode) ? gone % c->count : gone));
}

static bool output(const struct hvm_board *b, unsigned n)
{
    const struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];
    uint64_t gone = elapsed(b, n);

    switch (c->mode) {
    case 0:
    case 1:
        return gone >= c->count;
    case 2:
        return gone % c->count != c->count - 1;
    case 3:
        return gone % c->count < (c->count + 1) / 2;
    default: /* low for one clock */
        return gone != c->count;
    }
}

/* --- channel 0's line --- */

static uint64_t period_ns(const struct hvm_board *b)
{
    return MAX(ticks_to_ns(b->pit.hw.channels[0].count, HZ), (uint64_t)TICK_MIN_NS);
}

/* The next edge after `now`. Who has just loaded a count gives the time of that: its end is to come however late we are. A guest that asks for
 * one end after another waits for ever if one is lost. */
static void plan(struct hvm_board *b, uint64_t now)
{
    const struct hvm_hw_pit_channel *c = &b->pit.hw.channels[0];
    uint64_t start = b->pit.loaded[0];

    b->pit.due = 0;
    if (periodic(c->mode))
        b->pit.due = start + ((now - start) / period_ns(b) + 1) * period_ns(b);
    else if ((c->mode == 0 || c->mode == 4) && now - start < ticks_to_ns(c->count, HZ))
        b->pit.due = start + ticks_to_ns(c->count, HZ);
    if (hpet_legacy(b))
        b->pit.due = 0;
    if (b->pit.due)
        board_arm(&b->pit.timer, b->pit.due);
    else
        timer_stop(&b->pit.timer);
}

static bool is_due(const struct hvm_board *b, uint64_t now)
{
    return b->pit.due && now >= b->pit.due;
}

static void fire(void *data)
{
    struct hvm_board *b = data;
    unsigned long flags = board_lock(b);
    uint64_t now = arch_time_ns();

    if (is_due(b, now)) {
        board_isa_pulse(b, 0);
        plan(b, now);
    }
    board_unlock(b, flags);
}

void pit_line_changed(struct hvm_board *b)
{
    uint64_t now = arch_time_ns();

    if (is_due(b, now))
        board_isa_pulse(b, 0);
    plan(b, now);
}

/* --- registers --- */

static void load_count(struct hvm_board *b, unsigned n, uint16_t value)
{
    b->pit.hw.channels[n].count = value ? value : 0x10000;
    b->pit.loaded[n] = arch_time_ns();
    if (n == 0)
        plan(b, b->pit.loaded[0]);
}

static void write_count(struct hvm_board *b, unsigned n, uint8_t value)
{
    struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];

    switch (c->write_state) {
    case ACCESS_LOW:
        load_count(b, n, value);
        break;
    case ACCESS_HIGH:
        load_count(b, n, (uint16_t)(value << 8));
        break;
    case ACCESS_BOTH:
        c->write_latch = value;
        c->write_state = ACCESS_BOTH_HIGH;
        break;
    default:
        load_count(b, n, (uint16_t)(c->write_latch | value << 8));
        c->write_state = ACCESS_BOTH;
        break;
    }
}

/* Two bytes of a latched count, or of the count as it is. */
static uint8_t read_count(struct hvm_board *b, unsigned n)
{
    struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];
    uint16_t value;

    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->count_latched) { /* 1, 2: only that byte is left; 3: both */
        uint8_t left = c->count_latched;

        c->count_latched = left == ACCESS_BOTH ? ACCESS_HIGH : 0;
        return (uint8_t)(left == ACCESS_HIGH ? c->latched_count >> 8 : c->latched_count);
    }
    value = current(b, n);
    switch (c->read_state) {
    case ACCESS_LOW:
        return (uint8_t)value;
    case ACCESS_HIGH:
        return (uint8_t)(value >> 8);
    case ACCESS_BOTH:
        c->read_state = ACCESS_BOTH_HIGH;
        return (uint8_t)value;
    default:
        c->read_state = ACCESS_BOTH;
        return (uint8_t)(value >> 8);
    }
}

static void latch_count(struct hvm_board *b, unsigned n)
{
    struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];

    if (c->count_latched)
        return;
    c->latched_count = current(b, n);
    c->count_latched = c->rw_mode;
}

static void latch_status(struct hvm_board *b, unsigned n)
{
    struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];

    if (c->status_latched)
        return;
    c->status = (uint8_t)(output(b, n) << 7 | c->rw_mode << 4 | c->mode << 1 | c->bcd);
    c->status_latched = 1;
}

static void command(struct hvm_board *b, uint8_t value)
{
    unsigned n = value >> 6;
    struct hvm_hw_pit_channel *c;

    if (n == READ_BACK) {
        for (unsigned i = 0; i < 3; i++) {
            if (!(value >> (i + 1) & 1))
                continue;
            if (!(value & 0x20))
                latch_count(b, i);
            if (!(value & 0x10))
                latch_status(b, i);
        }
        return;
    }
    c = &b->pit.hw.channels[n];
    if (!(value >> 4 & 3)) {
        latch_count(b, n);
        return;
    }
    c->rw_mode = c->read_state = c->write_state = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5)
        c->mode -= 4; /* bit 2 does not matter in modes 2 and 3 */
    c->bcd = value & 1;
    c->count_latched = c->status_latched = 0;
    if (n == 0) { /* nothing until a count comes */
        b->pit.due = 0;
        timer_stop(&b->pit.timer);
    }
}

static uint8_t pit_port(struct hvm_board *b, unsigned port, bool write, uint8_t value)
{
    unsigned n = port - PORT_FIRST;

    if (!write)
        return n == PORT_COMMAND ? 0xff : read_count(b, n);
    if (n == PORT_COMMAND)
        command(b, value);
    else
        write_count(b, n, value);
    return value;
}

/* A gate that opens starts the count again, in modes 0 and 4 too, where the chip's would go on. */
static void gate(struct hvm_board *b, bool open)
{
    struct hvm_hw_pit_channel *c = &b->pit.hw.channels[2];

    if (open && !c->gate)
        b->pit.loaded[2] = arch_time_ns();
    c->gate = open;
}

static uint8_t speaker_port(struct hvm_board *b, unsigned port, bool write, uint8_t value)
{
    if (write) {
        b->pit.hw.speaker_data_on = value >> 1 & 1;
        gate(b, value & 1);
        return value;
    }
    return (uint8_t)(b->pit.hw.channels[2].gate | b->pit.hw.speaker_data_on << 1 |
                     (arch_time_ns() / REFRESH_NS & 1) << 4 | output(b, 2) << 5);
}

static bool pit_access(struct vcpu *v, struct hvm_access *a)
{
    board_bytes(v, a, pit_port);
    return true;
}

static bool speaker_access(struct vcpu *v, struct hvm_access *a)
{
    board_bytes(v, a, speaker_port);
    return true;
}

const struct hvm_device pit_device = {"PIT", HVM_PORT, PORT_FIRST, PORT_FIRST + PORT_COMMAND, pit_access};
const struct hvm_device speaker_device = {"speaker", HVM_PORT, SPEAKER, SPEAKER, speaker_access};

/* --- life --- */

void pit_init(struct hvm_board *b)
{
    timer_init(&b->pit.timer, fire, b, arch_cpu_id());
}

void pit_reset(struct hvm_board *b)
{
    b->pit.hw = (struct hvm_hw_pit){0};
    for (unsigned n = 0; n < 3; n++) {
        struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];

        c->mode = 4; /* until the guest says: counts once, interrupts nobody */
        c->gate = n != 2;
        c->count = 0x10000;
        c->rw_mode = c->read_state = c->write_state = ACCESS_BOTH;
        b->pit.loaded[n] = arch_time_ns();
    }
    b->pit.due = 0;
    timer_stop(&b->pit.timer);
}

/* A record holds what a guest cannot have written, too. Counts begin anew. */
void pit_loaded(struct hvm_board *b)
{
    for (unsigned n = 0; n < 3; n++) {
        struct hvm_hw_pit_channel *c = &b->pit.hw.channels[n];

        c->count = c->count && c->count < 0x10000 ? c->count : 0x10000;
        c->mode = c->mode > 5 ? 0 : c->mode;
        c->bcd &= 1;
        c->gate &= 1;
        c->rw_mode = c->rw_mode & 3 ? c->rw_mode & 3 : ACCESS_BOTH;
        c->read_state = c->read_state - 1u < 4 ? c->read_state : c->rw_mode;
        c->write_state = c->write_state - 1u < 4 ? c->write_state : c->rw_mode;
        c->count_latched &= 3;
        b->pit.loaded[n] = arch_time_ns();
    }
    b->pit.hw.speaker_data_on &= 1;
    plan(b, b->pit.loaded[0]);
}
