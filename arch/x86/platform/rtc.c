/*
 * The CMOS clock (MC146818), read once at boot for the wall clock; afterwards it is the hardware domain's.
 * No locks: boot CPU, before any guest runs.
 */
#include "../metal/asm.h"
#include "core/log.h"
#include "private.h"

#define CMOS_INDEX   0x70
#define CMOS_DATA    0x71
#define REG_A_UPDATE 0x80
#define REG_B_24H    0x02
#define REG_B_BINARY 0x04
#define HOUR_PM      0x80

struct rtc_time {
    uint8_t sec, min, hour, day, month, year, century;
};

static uint8_t cmos(uint8_t reg)
{
    out8(CMOS_INDEX, reg);
    return in8(CMOS_DATA);
}

static bool read_once(struct rtc_time *t)
{
    for (unsigned i = 0; cmos(0x0a) & REG_A_UPDATE; i++)
        if (i > 100000) /* an update takes 2 ms; no chip at all reads as all ones */
            return false;
    *t = (struct rtc_time){
        cmos(0), cmos(2), cmos(4), cmos(7), cmos(8), cmos(9), acpi.rtc_century ? cmos(acpi.rtc_century) : 0};
    return true;
}

static bool same(const struct rtc_time *a, const struct rtc_time *b)
{
    return a->sec == b->sec && a->min == b->min && a->hour == b->hour && a->day == b->day &&
           a->month == b->month && a->year == b->year && a->century == b->century;
}

static uint8_t bcd(uint8_t v)
{
    return (uint8_t)((v >> 4) * 10 + (v & 15));
}

static void convert(struct rtc_time *t, uint8_t b)
{
    bool pm = !(b & REG_B_24H) && (t->hour & HOUR_PM);

    t->hour &= b & REG_B_24H ? 0xff : 0x7f;
    if (!(b & REG_B_BINARY)) {
        t->sec = bcd(t->sec);
        t->min = bcd(t->min);
        t->hour = bcd(t->hour);
        t->day = bcd(t->day);
        t->month = bcd(t->month);
        t->year = bcd(t->year);
        t->century = bcd(t->century);
    }
    if (!(b & REG_B_24H))
        t->hour = (uint8_t)(t->hour % 12 + (pm ? 12 : 0));
}

/* Days from 1970-01-01, by counting leap days before the year's March. */
static uint64_t days(unsigned year, unsigned month, unsigned day)
{
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    unsigned y = month > 2 ? year : year - 1;
    unsigned leaps = y / 4 - y / 100 + y / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);

    return (uint64_t)(year - 1970) * 365 + leaps + before[month - 1] + day - 1;
}

bool rtc_read(uint64_t *seconds)
{
    struct rtc_time a, b;
    unsigned year, tries = 0;

    do {
        if (!read_once(&a) || !read_once(&b))
            return false;
    } while (!same(&a, &b) && ++tries < 10);
    convert(&a, cmos(0x0b));
    if (a.century >= 19 && a.century <= 21)
        year = a.century * 100u + a.year;
    else
        year = a.year + (a.year < 70 ? 2000u : 1900u);
    if (year < 1970 || a.month < 1 || a.month > 12 || a.day < 1 || a.day > 31 || a.hour > 23 || a.min > 59 ||
        a.sec > 60)
        return false;
    *seconds = ((days(year, a.month, a.day) * 24 + a.hour) * 60 + a.min) * 60 + a.sec;
    return true;
}
