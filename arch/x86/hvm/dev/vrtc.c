/*
 * The clock and its fourteen registers of CMOS memory (Motorola MC146818A) at ports 0x70 and 0x71. The memory behind them is a device
 * model's.
 *
 * What happened is worked out when somebody looks: register C has the flags of what came up to `seen`; a timer is armed only for the
 * next event that is to interrupt, and none while an interrupt waits for its acknowledgement (a read of register C). The line is an HPET's
 * while that has replaced the legacy devices (IA-PC HPET 1.0a, LEG_RT_CNF).
 *
 * Invariants
 *  1. The guest's time is the wall clock + rtc_offset, but while SET is on: then the registers hold what it writes.
 * Locks: the board's.
 */
#include "ioreq.h"
#include "platform.h"

#define PORT_INDEX 0x70u
#define LINE       8u
enum { SEC, SEC_ALARM, MIN_, MIN_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D };
#define A_UIP     0x80
#define A_RATE    0x0f
#define B_SET     0x80
#define B_SQUARE  0x08
#define B_BINARY  0x04
#define B_24H     0x02
#define FLAG_PF   0x40
#define FLAG_AF   0x20
#define FLAG_UF   0x10
#define C_IRQ     0x80
#define D_VALID   0x80
#define PM        0x80
#define ANY       0xc0 /* an alarm register that matches always */
#define ALWAYS    ~0u
#define UPDATE_NS 244000u
#define DAY_S     86400u

static uint8_t *reg(struct hvm_board *b, unsigned n)
{
    return &b->rtc.hw.cmos_data[n];
}

/* --- numbers --- */

static uint8_t encode(struct hvm_board *b, unsigned value)
{
    return (uint8_t)(*reg(b, B) & B_BINARY ? value : (value / 10 % 10) << 4 | value % 10);
}

static unsigned decode(struct hvm_board *b, uint8_t value)
{
    return *reg(b, B) & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode_hour(struct hvm_board *b, unsigned hour)
{
    if (*reg(b, B) & B_24H)
        return encode(b, hour);
    return (uint8_t)(encode(b, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? PM : 0));
}

static unsigned decode_hour(struct hvm_board *b, uint8_t value)
{
    if (*reg(b, B) & B_24H)
        return decode(b, value);
    return decode(b, value & (uint8_t)~PM) % 12 + (value & PM ? 12 : 0);
}

/* Days since 1 March 0000 (proleptic Gregorian): years that begin in March have the leap day at their end. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month > 2 ? year : year - 1;
    unsigned m = (month + 9) % 12;

    return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
}

#define EPOCH days_of(1970, 1, 1)

struct date {
    unsigned year, month, day, weekday;
};

static struct date date_of(uint64_t sec)
{
    int64_t days = (int64_t)(sec / DAY_S) + EPOCH, year = days * 400 / 146097 + 1;
    int64_t rest;
    unsigned m;

    while ((rest = days - days_of(year, 3, 1)) < 0)
        year--;
    m = ((unsigned)rest * 5 + 2) / 153;
    return (struct date){.year = (unsigned)(m < 10 ? year : year + 1),
                         .month = m < 10 ? m + 3 : m - 9,
                         .day = (unsigned)rest - (m * 153 + 2) / 5 + 1,
                         .weekday = (unsigned)((sec / DAY_S + 4) % 7) + 1};
}

/* --- time --- */

/* The guest's time in seconds at system time `when`; *ns: within the second. */
static uint64_t guest_time(struct hvm_board *b, uint64_t when, uint32_t *ns)
{
    uint64_t sec, now = arch_time_ns();
    int64_t at, whole;
    uint32_t nsec;

    arch_wallclock(&sec, &nsec);
    at = (int64_t)nsec - (int64_t)(now - when);
    whole = at / (int64_t)NS_PER_S;
    at %= (int64_t)NS_PER_S;
    if (at < 0) {
        at += (int64_t)NS_PER_S;
        whole--;
    }
    *ns = (uint32_t)at;
    return sec + (uint64_t)whole + (uint64_t)b->rtc.hw.rtc_offset + (uint64_t)b->d->time_offset;
}

static void time_to_registers(struct hvm_board *b)
{
    uint32_t ns;
    uint64_t sec = guest_time(b, arch_time_ns(), &ns);
    struct date t = date_of(sec);

    *reg(b, SEC) = encode(b, (unsigned)(sec % 60));
    *reg(b, MIN_) = encode(b, (unsigned)(sec / 60 % 60));
    *reg(b, HOUR) = encode_hour(b, (unsigned)(sec / 3600 % 24));
    *reg(b, WEEKDAY) = encode(b, t.weekday);
    *reg(b, DAY) = encode(b, t.day);
    *reg(b, MONTH) = encode(b, t.month);
    *reg(b, YEAR) = encode(b, t.year % 100);
}

/* The century byte is a device model's: years are of 1970 to 2069. What is no date is taken as the nearest sum of seconds. */
static void registers_to_time(struct hvm_board *b)
{
    unsigned year = decode(b, *reg(b, YEAR)) % 100, month = decode(b, *reg(b, MONTH)) % 13;
    uint32_t ns;
    int64_t sec =
        days_of(year + (year < 70 ? 2000 : 1900), month ? month : 1, decode(b, *reg(b, DAY))) - EPOCH;

    sec = sec * DAY_S + decode_hour(b, *reg(b, HOUR)) * 3600 + decode(b, *reg(b, MIN_)) * 60 +
          decode(b, *reg(b, SEC));
    b->rtc.hw.rtc_offset += sec - (int64_t)guest_time(b, arch_time_ns(), &ns);
}

/* --- events --- */

/* ns; 0: the divider stands or no rate is chosen. */
static uint64_t period(struct hvm_board *b)
{
    unsigned rate = *reg(b, A) & A_RATE;

    if ((*reg(b, A) & 0x70) != 0x20 || !rate)
        return 0;
    return NS_PER_S * (1u << ((rate < 3 ? rate + 7 : rate) - 1)) / 32768;
}

/* The number in an alarm register, or ALWAYS. */
static unsigned alarm(struct hvm_board *b, unsigned n)
{
    uint8_t value = *reg(b, n);

    if ((value & ANY) == ANY)
        return ALWAYS;
    return n == HOUR_ALARM ? decode_hour(b, value) : decode(b, value);
}

static bool alarm_is(unsigned alarm, uint64_t value)
{
    return alarm == ALWAYS || alarm == value;
}

/* A number that no time has is in it. */
static bool never(unsigned alarm, unsigned limit)
{
    return alarm != ALWAYS && alarm >= limit;
}

/*
 * Seconds from `sec` (not counted) to the next alarm; 0: never. It goes in steps of hours, minutes, then seconds: some 200 at most,
 * because what can never be is not looked for.
 */
static uint64_t to_alarm(struct hvm_board *b, uint64_t sec)
{
    unsigned hour = alarm(b, HOUR_ALARM), min = alarm(b, MIN_ALARM), second = alarm(b, SEC_ALARM);
    uint64_t t = sec + 1;

    if (never(hour, 24) || never(min, 60) || never(second, 60))
        return 0;
    while (t <= sec + DAY_S) {
        if (!alarm_is(hour, t / 3600 % 24))
            t = (t / 3600 + 1) * 3600;
        else if (!alarm_is(min, t / 60 % 60))
            t = (t / 60 + 1) * 60;
        else if (!alarm_is(second, t % 60))
            t++;
        else
            return t - sec;
    }
    return 0;
}

void rtc_line_changed(struct hvm_board *b)
{
    board_isa(b, LINE, *reg(b, C) & C_IRQ && !hpet_legacy(b));
}

/* Flags of what has come since `seen`. */
static void look(struct hvm_board *b)
{
    uint64_t now = arch_time_ns(), p = period(b), was, is, left;
    uint32_t ns;

    if (p && now / p != b->rtc.seen / p)
        *reg(b, C) |= FLAG_PF;
    was = guest_time(b, b->rtc.seen, &ns);
    is = guest_time(b, now, &ns);
    if (!(*reg(b, B) & B_SET) && is > was) {
        *reg(b, C) |= FLAG_UF;
        left = to_alarm(b, was);
        if (left && left <= is - was)
            *reg(b, C) |= FLAG_AF;
    }
    b->rtc.seen = now;
    if (*reg(b, C) & *reg(b, B) & (FLAG_PF | FLAG_AF | FLAG_UF)) {
        *reg(b, C) |= C_IRQ;
        rtc_line_changed(b);
    }
}

/* The next event that is to interrupt, after what was seen. */
static void plan(struct hvm_board *b)
{
    uint64_t next = ~0ull, p = period(b), sec, left;
    uint8_t on = *reg(b, B);
    uint32_t ns;

    if (!(*reg(b, C) & C_IRQ)) {
        sec = guest_time(b, b->rtc.seen, &ns);
        if (p && on & FLAG_PF)
            next = MAX((b->rtc.seen / p + 1) * p, b->rtc.seen + TICK_MIN_NS);
        if (!(on & B_SET) && on & FLAG_UF)
            next = MIN(next, b->rtc.seen + NS_PER_S - ns);
        left = !(on & B_SET) && on & FLAG_AF ? to_alarm(b, sec) : 0;
        if (left)
            next = MIN(next, b->rtc.seen + left * NS_PER_S - ns);
    }
    if (next == ~0ull)
        timer_stop(&b->rtc.timer);
    else
        board_arm(&b->rtc.timer, next);
}

static void fire(void *data)
{
    struct hvm_board *b = data;
    unsigned long flags = board_lock(b);

    look(b);
    plan(b);
    board_unlock(b, flags);
}

/* --- registers --- */

static void write_register(struct hvm_board *b, unsigned n, uint8_t value)
{
    bool set = *reg(b, B) & B_SET;

    look(b);
    if (n == C || n == D)
        return;
    if (n < A && !(n < WEEKDAY && n & 1)) { /* a part of the time */
        if (!set)
            time_to_registers(b);
        *reg(b, n) = value;
        if (!set)
            registers_to_time(b);
    } else if (n == A) {
        *reg(b, A) = value & (uint8_t)~A_UIP;
    } else if (n == B) {
        if (value & B_SET && !set)
            time_to_registers(b);
        *reg(b, B) = value;
        if (set && !(value & B_SET)) {
            registers_to_time(b);
            b->rtc.seen = arch_time_ns();
        }
    } else {
        *reg(b, n) = value;
    }
    look(b);
    plan(b);
}

static uint8_t read_register(struct hvm_board *b, unsigned n)
{
    uint8_t value;
    uint32_t ns;

    if (n < A && !(*reg(b, B) & B_SET))
        time_to_registers(b);
    switch (n) {
    case A:
        (void)guest_time(b, arch_time_ns(), &ns);
        return *reg(b, A) | (!(*reg(b, B) & B_SET) && ns >= NS_PER_S - UPDATE_NS ? A_UIP : 0);
    case C:
        look(b);
        value = *reg(b, C);
        *reg(b, C) = 0;
        board_isa(b, LINE, false);
        plan(b);
        return value;
    case D:
        return D_VALID;
    default:
        return *reg(b, n);
    }
}

/* Only bytes; the memory behind the clock's registers is not here. */
static bool rtc_access(struct vcpu *v, struct hvm_access *a)
{
    struct hvm_board *b = board_of(v->domain);
    struct hvm_io *io = hvm_vcpu(v)->io;
    unsigned long flags;
    bool mine = true;
    int64_t before;

    if (a->bytes != 1)
        return false;
    flags = board_lock(b);
    before = b->rtc.hw.rtc_offset;
    if (a->address == PORT_INDEX && a->write) {
        b->rtc.hw.cmos_index = a->value & 0x7f;
        mine = false; /* a device model wants to know it, too */
    } else if (a->address == PORT_INDEX) {
        a->value = 0xff;
    } else if (b->rtc.hw.cmos_index >= RTC_CMOS_SIZE) {
        mine = false;
    } else if (a->write) {
        write_register(b, b->rtc.hw.cmos_index, (uint8_t)a->value);
    } else {
        a->value = read_register(b, b->rtc.hw.cmos_index);
    }
    if (b->rtc.hw.rtc_offset != before && io) {
        io->clock = b->rtc.hw.rtc_offset + b->d->time_offset;
        io->clock_set = true;
        hvm_attend(v);
    }
    board_unlock(b, flags);
    return mine;
}

const struct hvm_device rtc_device = {"RTC", HVM_PORT, PORT_INDEX, PORT_INDEX + 1, rtc_access};

/* --- life --- */

void rtc_init(struct hvm_board *b)
{
    timer_init(&b->rtc.timer, fire, b, arch_cpu_id());
}

void rtc_reset(struct hvm_board *b)
{
    b->rtc.hw = (struct hvm_hw_rtc){0};
    *reg(b, A) = 0x26; /* 32768 Hz, 1024 a second */
    *reg(b, B) = B_24H;
    *reg(b, D) = D_VALID;
    b->rtc.seen = arch_time_ns();
    timer_stop(&b->rtc.timer);
}

void rtc_power_lost(struct hvm_board *b)
{
    *reg(b, B) &= (uint8_t) ~(FLAG_PF | FLAG_AF | FLAG_UF | B_SQUARE);
    *reg(b, C) = 0;
    b->rtc.hw.cmos_index = 0;
    b->rtc.seen = arch_time_ns();
    timer_stop(&b->rtc.timer);
}

void rtc_loaded(struct hvm_board *b)
{
    b->rtc.hw.cmos_index &= 0x7f;
    *reg(b, A) &= (uint8_t)~A_UIP;
    *reg(b, C) &= C_IRQ | FLAG_PF | FLAG_AF | FLAG_UF;
    b->rtc.seen = arch_time_ns();
    look(b);
    plan(b);
}
