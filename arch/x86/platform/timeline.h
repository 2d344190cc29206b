/*
 * A line through (tsc, ns): ns(t) = ns + ((t - tsc) << shift) * mul >> 32, as xen/xen.h gives it for struct
 * vcpu_time_info. Pure arithmetic, tested on the host.
 */
#ifndef PLATFORM_TIMELINE_H
#define PLATFORM_TIMELINE_H

#include "core/types.h"

#define TIMELINE_BILLION  1000000000ull
#define TIMELINE_RENEW_NS TIMELINE_BILLION /* a bent line meets the truth after this time */

struct timeline {
    uint64_t tsc, ns;
    uint32_t mul;
    int8_t shift;
};

/* Before the line's start it is flat: a CPU whose TSC is a little behind gets the start. */
static inline uint64_t timeline_at(const struct timeline *r, uint64_t tsc)
{
    uint64_t u = (int64_t)(tsc - r->tsc) < 0 ? 0 : tsc - r->tsc;

    u = r->shift >= 0 ? u << r->shift : u >> -r->shift;
    return r->ns + (uint64_t)((unsigned __int128)u * r->mul >> 32);
}

/* mul = 10^9 * 2^32 / (hz << shift) with its top bit set, for hz cycles a second (1 MHz .. 1 THz). */
static inline void timeline_set_rate(struct timeline *r, uint64_t hz)
{
    uint64_t quotient, rest;
    int shift = 0;

    while (hz >> -shift > 2 * TIMELINE_BILLION)
        shift--;
    while (shift >= 0 && hz << shift <= TIMELINE_BILLION)
        shift++;
    if (shift > 0) {
        r->mul = (uint32_t)((TIMELINE_BILLION << 32) / (hz << shift));
    } else {
        /* hz is divided by 2^-shift without losing its low bits: the quotient gets them from the remainder. */
        quotient = (TIMELINE_BILLION << 32) / hz;
        rest = (TIMELINE_BILLION << 32) % hz;
        quotient = (quotient << -shift) + ((rest << -shift) / hz);
        r->mul = (uint32_t)MIN(quotient, 0xffffffffull);
    }
    r->shift = (int8_t)shift;
}

/* The line of a counter that is ratio (32.32) times as fast. */
static inline void timeline_scale(struct timeline *r, uint64_t ratio)
{
    uint64_t mul;

    r->tsc = (uint64_t)((unsigned __int128)r->tsc * ratio >> 32);
    while (ratio >> 32) {
        ratio >>= 1;
        r->shift--;
    }
    mul = ((uint64_t)r->mul << 32) / ratio;
    while (mul >> 32) {
        mul >>= 1;
        r->shift++;
    }
    r->mul = (uint32_t)mul;
}

/* The line of a counter that is made of the time it stands for: ratio counts a nanosecond. */
static inline void timeline_exact(struct timeline *r, uint64_t ratio, uint64_t hz)
{
    r->tsc = (uint64_t)((unsigned __int128)r->ns * ratio >> 32);
    timeline_set_rate(r, hz);
}

/* Units of `unit` ns per cycle, in 2^-64: the line's slope, rounded down. Below 10 MHz and 100 ns it would not fit. */
static inline uint64_t timeline_slope(const struct timeline *r, unsigned unit)
{
    uint64_t mul = (uint64_t)r->mul << 32;

    if (r->shift <= 0)
        return (mul >> -r->shift) / unit;
    return ((mul / unit) << r->shift) + ((mul % unit) << r->shift) / unit;
}

/*
 * The rate, in cycles a second, of a line that starts at `local` now and meets the clock that says `truth`
 * one renewal later, if that clock sees hz cycles a second. The bend is at most a tenth: a bad reading does
 * not run away with time.
 */
static inline uint64_t timeline_bend(uint64_t hz, uint64_t local, uint64_t truth)
{
    int64_t error = (int64_t)(truth - local), limit = (int64_t)(TIMELINE_RENEW_NS / 10);
    int64_t step = error > limit ? limit : error < -limit ? -limit : error;

    /* Behind by `step`: fewer cycles must make a nanosecond. hz * (1 - step/s), near enough for small steps. */
    return (uint64_t)((int64_t)hz - (int64_t)(hz / 1000) * step / (int64_t)(TIMELINE_RENEW_NS / 1000));
}

#endif
