/*
 * System time: nanoseconds since boot, the same on all CPUs, from the TSC.
 *
 * A time record is a line through (tsc, ns): ns(t) = ns + ((t - tsc) << shift) * mul >> 32, the formula
 * guests use on the same numbers (xen/xen.h, struct vcpu_time_info), so host and guest time agree to the
 * nanosecond.
 *
 * Stable mode (the TSC runs at a constant rate and all CPUs' agree): one record for the machine, made at
 * boot. Guests may combine records of different vCPUs and are told so (XEN_PVCLOCK_TSC_STABLE_BIT). Unstable
 * mode: each CPU has its own record, renewed once a second against the platform counter. A renewal never
 * jumps: the new line starts where the old one is and is bent so that it meets the counter a second later.
 *
 * Invariants
 *  1. Nobody sees a half-written record: writers fill the slot that is not in use, then switch the index.
 * Only the CPU a record belongs to (or the boot CPU, alone) writes it.
 *  2. arch_time_ns() never goes backwards on a CPU; between CPUs neither: in unstable mode the largest value
 * given out is a floor for all.
 *  3. A record is renewed before its delta can overflow: 2^64 cycles in stable mode, one second in unstable
 * mode.
 *  4. wall_base + system time = UTC; it changes only under wall_lock.
 * Locks: counter_lock (accumulating the platform counter) and wall_lock, both RANK_IOAPIC: leaves.
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/time.h"
#include "core/domain.h"
#include "core/log.h"
#include "core/params.h"
#include "core/timer.h"
#include "lib/string.h"
#include "private.h"
#include "timeline.h"
#include "x86/cpu.h"
#include "x86/vcpu.h"

#define BILLION       1000000000ull
#define CALIBRATE_US  10000u
#define RENEW_NS      BILLION
#define WARP_US       1000u
/* Of a slower counter 100 ns are more than a cycle. */
#define SLOPE_KHZ_MIN 10000u

struct latch {
    struct timeline slot[2];
    uint32_t use;        /* slot in use */
    uint32_t generation; /* counts changes */
};

uint64_t tsc_khz;

static uint64_t tsc_hz;
static struct latch machine;           /* stable mode, and all of boot */
static struct latch per_cpu[MAX_CPUS]; /* unstable mode */
static bool per_cpu_mode;
static uint64_t floor_ns; /* unstable mode: the largest time given out */
static const struct platform_counter *best, *runtime;
static uint64_t boot_count, boot_tsc; /* first sample of `best` */

static struct spinlock counter_lock = SPINLOCK_INIT(RANK_IOAPIC);
static uint64_t counter_last, counter_total; /* [counter_lock] */
static uint64_t counter_ns0;                 /* system time when counter_total was 0 */

static struct spinlock wall_lock = SPINLOCK_INIT(RANK_IOAPIC);
static uint64_t wall_sec;  /* [wall_lock] UTC at system time 0 */
static uint32_t wall_nsec; /* [wall_lock] */

static char opt_tsc[32];
PARAM_STRING("tsc", opt_tsc,
             "unstable: do not trust the TSC; stable:socket or stable: trust it without the invariant bit");

/* --- records
 * ---------------------------------------------------------------------------------------------------------
 */

static const struct timeline *latch_get(const struct latch *l)
{
    return &l->slot[__atomic_load_n(&l->use, __ATOMIC_ACQUIRE)];
}

static void latch_set(struct latch *l, const struct timeline *r)
{
    uint32_t next = !l->use;

    l->slot[next] = *r;
    __atomic_store_n(&l->use, next, __ATOMIC_RELEASE);
    __atomic_fetch_add(&l->generation, 1, __ATOMIC_RELEASE);
}

static const struct latch *my_latch(void)
{
    return per_cpu_mode ? &per_cpu[arch_cpu_id()] : &machine;
}

uint64_t arch_time_ns(void)
{
    const struct timeline *r = latch_get(my_latch());
    uint64_t ns, seen;

    if (unlikely(!r->mul))
        return 0;
    if (likely(!per_cpu_mode))
        return timeline_at(r, rdtsc_ordered());
    ns = timeline_at(r, rdtsc_ordered());
    seen = __atomic_load_n(&floor_ns, __ATOMIC_RELAXED);
    do {
        if (seen >= ns)
            return seen;
    } while (!__atomic_compare_exchange_n(&floor_ns, &seen, ns, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return ns;
}

uint64_t time_to_tsc(uint64_t ns)
{
    const struct timeline *r = latch_get(my_latch());
    uint64_t delta = ns > r->ns ? ns - r->ns : 0;

    /* cycles = ns * hz / 10^9, without a 128-bit division; rounded up by one. */
    return r->tsc + delta / BILLION * tsc_hz + (delta % BILLION) * (tsc_hz >> 4) / (BILLION >> 4) + 1;
}

bool time_tsc_stable(void)
{
    return !per_cpu_mode;
}

/* --- unstable mode
 * ------------------------------------------------------------------------------------------------------ */

static struct {
    struct timer timer;
    uint64_t tsc, ns; /* this CPU's last reading */
} renewal[MAX_CPUS];

/* How often the counter has gone round without anybody looking: this CPU's TSC says by how much the reading
 * of `ns` falls short. Normally 0; a CPU that was not run for seconds (an emulator's, a debugger's) finds
 * more. */
static uint64_t missed_turns(unsigned cpu, uint64_t tsc, uint64_t ns)
{
    uint64_t turn = (runtime->mask + 1) / (runtime->hz / 1000) * 1000000;
    uint64_t by_tsc = (tsc - renewal[cpu].tsc) / tsc_khz * 1000000, by_counter = ns - renewal[cpu].ns;

    if (!renewal[cpu].tsc || tsc < renewal[cpu].tsc || by_tsc < by_counter + turn / 2)
        return 0;
    return (by_tsc - by_counter + turn / 2) / turn;
}

static uint64_t total_ns(void)
{
    uint64_t hz = runtime->hz;

    return counter_ns0 + counter_total / hz * BILLION + counter_total % hz * BILLION / hz;
}

/* Platform time in ns. */
static uint64_t counter_ns(uint64_t *tsc)
{
    unsigned long flags = spin_lock_irq(&counter_lock);
    uint64_t v, ns;

    clock_sample(runtime, &v, tsc);
    counter_total += (v - counter_last) & runtime->mask;
    counter_last = v;
    counter_total += missed_turns(arch_cpu_id(), *tsc, total_ns()) * (runtime->mask + 1);
    ns = total_ns();
    spin_unlock_irq(&counter_lock, flags);
    return ns;
}

static void renew(void *unused)
{
    unsigned cpu = arch_cpu_id();
    struct timeline r = *latch_get(&per_cpu[cpu]);
    uint64_t tsc, truth, local, hz = tsc_hz;
    unsigned long flags = arch_irq_save();

    truth = counter_ns(&tsc);
    local = timeline_at(&r, tsc);
    if (truth > renewal[cpu].ns + RENEW_NS / 4 && tsc > renewal[cpu].tsc) {
        uint64_t us = (truth - renewal[cpu].ns) / 1000;

        hz = (tsc - renewal[cpu].tsc) / us * 1000000 + (tsc - renewal[cpu].tsc) % us * 1000000 / us;
    }
    renewal[cpu].tsc = tsc;
    renewal[cpu].ns = truth;
    r.tsc = tsc;
    r.ns = truth > local + RENEW_NS ? truth
                                    : local; /* more than a second behind (stopped in a debugger): catch up */
    timeline_set_rate(&r, timeline_bend(hz ? hz : tsc_hz, r.ns, truth));
    latch_set(&per_cpu[cpu], &r);
    arch_irq_restore(flags);
    timer_set(&renewal[cpu].timer, truth + RENEW_NS);
    if (!arch_current()->idle)
        arch_vcpu_time_publish(arch_current());
}

/* Runs on every CPU at once. */
static void enter_unstable(void *unused)
{
    unsigned cpu = arch_cpu_id();
    struct timeline r = {0};

    r.ns = counter_ns(&r.tsc);
    renewal[cpu].tsc = r.tsc;
    renewal[cpu].ns = r.ns;
    timeline_set_rate(&r, tsc_hz);
    latch_set(&per_cpu[cpu], &r);
}

static void go_unstable(const char *why)
{
    uint64_t tsc;
    unsigned long flags;

    if (!runtime) {
        log_warn("TSC: %s, and there is no other clock: time may be wrong", why);
        return;
    }
    log_info("TSC: %s; time is kept by the %s", why, runtime->name);
    flags = arch_irq_save();
    clock_sample(runtime, &counter_last, &tsc);
    counter_ns0 = timeline_at(latch_get(&machine), tsc);
    arch_irq_restore(flags);
    smp_call(&cpus_online, enter_unstable, NULL);
    floor_ns = arch_time_ns();
    __atomic_store_n(&per_cpu_mode, true, __ATOMIC_SEQ_CST);
    for_each_cpu(c, &cpus_online)
    {
        timer_init(&renewal[c].timer, renew, NULL, c);
        timer_set(&renewal[c].timer, arch_time_ns() + RENEW_NS / 2);
    }
}

/* --- do the TSCs agree?
 * ---------------------------------------------------------------------------------------------------- */

static struct {
    struct spinlock lock;
    uint64_t last, worst;
    unsigned arrived;
} warp = {.lock = SPINLOCK_INIT(RANK_IOAPIC)};

/* All CPUs at once: readings taken one after another must rise. */
static void warp_check(void *unused)
{
    uint64_t start;
    unsigned long flags = arch_irq_save();

    __atomic_fetch_add(&warp.arrived, 1, __ATOMIC_SEQ_CST);
    start = rdtsc();
    while (__atomic_load_n(&warp.arrived, __ATOMIC_SEQ_CST) < cpu_count() && rdtsc() - start < tsc_hz / 100)
        arch_cpu_relax();
    start = rdtsc();
    while (rdtsc() - start < tsc_hz / 1000000 * WARP_US) {
        uint64_t now;

        spin_lock(&warp.lock);
        now = rdtsc_ordered();
        if (now < warp.last && warp.last - now > warp.worst)
            warp.worst = warp.last - now;
        warp.last = now;
        spin_unlock(&warp.lock);
        arch_cpu_relax();
    }
    arch_irq_restore(flags);
}

/* Why the TSC cannot be the clock of the machine, or NULL. */
static const char *tsc_unfit(void)
{
    if (!strcmp(opt_tsc, "unstable"))
        return "not trusted (tsc=unstable)";
    if (cpu_count() > 1)
        smp_call(&cpus_online, warp_check, NULL);
    if (warp.worst)
        return "the CPUs' counters disagree";
    if (!cpu_features.tsc_invariant && strncmp(opt_tsc, "stable", 6))
        return "its rate is not constant";
    return NULL;
}

/* --- boot
 * ----------------------------------------------------------------------------------------------------------------------
 */

static void set_tsc_hz(uint64_t hz)
{
    tsc_hz = hz;
    tsc_khz = (hz + 500) / 1000;
}

/* The crystal ratio, where the processor says it (CPUID leaf 0x15): exact, nothing to measure. */
static uint64_t cpuid_tsc_hz(void)
{
    struct cpuid_leaf l;

    if (!cpu_features.intel || cpu_features.max_leaf < 0x15)
        return 0;
    l = cpuid(0x15, 0);
    return l.a && l.b && l.c ? (uint64_t)l.c * l.b / l.a : 0;
}

static void wallclock_init(void)
{
    uint64_t now;

    if (rtc_read(&now))
        arch_wallclock_set(now, 0, arch_time_ns());
    else
        log_warn("the CMOS clock holds no sensible time: wall clock starts in 1970");
}

void time_init(void)
{
    struct timeline r = {0};
    uint64_t hz;

    best = clock_find(&runtime);
    hz = cpuid_tsc_hz();
    clock_sample(best, &boot_count, &boot_tsc);
    set_tsc_hz(hz ? hz : clock_measure_tsc(best, CALIBRATE_US));
    if (tsc_hz < 10000000)
        panic("TSC: %llu Hz by the %s is impossible", (unsigned long long)tsc_hz, best->name);
    r.tsc = rdtsc();
    timeline_set_rate(&r, tsc_hz);
    latch_set(&machine, &r);
    wallclock_init();
    apic_timer_setup_cpu();
    log_info("TSC: %llu.%03llu MHz by the %s%s", (unsigned long long)tsc_khz / 1000,
             (unsigned long long)tsc_khz % 1000, hz ? "processor's word" : best->name,
             cpu_features.tsc_invariant ? ", invariant" : "");
}

void time_init_cpu(void)
{
    apic_timer_setup_cpu();
}

/* A second, much longer measurement: from time_init() to now. Only if the counter has not wrapped in between
 * and the result is near the first. */
static void refine(void)
{
    struct timeline r = *latch_get(&machine);
    uint64_t count, tsc, ticks, hz, now;

    if (cpuid_tsc_hz() || best->mask <= 0xffff)
        return;
    clock_sample(best, &count, &tsc);
    ticks = (count - boot_count) & best->mask;
    if ((tsc - boot_tsc) / tsc_hz >= best->mask / best->hz || ticks < best->hz / 100)
        return;
    hz = (tsc - boot_tsc) / ticks * best->hz + (tsc - boot_tsc) % ticks * best->hz / ticks;
    if (hz < tsc_hz - tsc_hz / 500 || hz > tsc_hz + tsc_hz / 500) {
        log_warn("TSC: %llu kHz first, %llu kHz now: not constant", (unsigned long long)tsc_khz,
                 (unsigned long long)hz / 1000);
        return;
    }
    now = rdtsc();
    r.ns = timeline_at(&r, now);
    r.tsc = now;
    set_tsc_hz(hz);
    timeline_set_rate(&r, hz);
    latch_set(&machine, &r);
}

void time_finish(void)
{
    const char *why;

    refine();
    why = tsc_unfit();
    if (why)
        go_unstable(why);
    log_debug("TSC: %llu Hz, system time %llu ms", (unsigned long long)tsc_hz,
              (unsigned long long)arch_time_ns() / 1000000);
}

/* --- what guests see
 * --------------------------------------------------------------------------------------------------------------
 */

/* By the counter that the guest reads (x86/vcpu.h). */
static void fill(const struct vcpu *v, vcpu_time_info_t *t, const struct timeline *r)
{
    const struct x86_domain *d = (const struct x86_domain *)v->domain;
    struct timeline g = *r;

    if (unlikely(d->tsc_emulated))
        timeline_exact(&g, d->tsc_ratio, (uint64_t)d->tsc_guest_khz * 1000);
    else if (unlikely(d->tsc_ratio))
        timeline_scale(&g, d->tsc_ratio);
    t->tsc_timestamp = g.tsc + ((const struct x86_vcpu *)v)->tsc_offset;
    t->system_time = g.ns;
    t->tsc_to_system_mul = g.mul;
    t->tsc_shift = g.shift;
    t->flags = per_cpu_mode ? 0 : XEN_PVCLOCK_TSC_STABLE_BIT;
}

bool time_tsc_line(const struct domain *d, uint64_t *tsc, uint64_t *ns, uint64_t *scale)
{
    const struct x86_domain *x = (const struct x86_domain *)d;
    struct timeline g = *latch_get(&machine);

    if (x->tsc_guest_khz && x->tsc_guest_khz <= SLOPE_KHZ_MIN)
        return false;
    if (x->tsc_emulated) {
        *ns = g.ns = arch_time_ns();
        timeline_exact(&g, x->tsc_ratio, (uint64_t)x->tsc_guest_khz * 1000);
        *tsc = g.tsc;
    } else {
        if (per_cpu_mode || !g.mul)
            return false;
        g.ns = timeline_at(&g, *tsc = rdtsc_ordered());
        g.tsc = *tsc;
        if (x->tsc_ratio)
            timeline_scale(&g, x->tsc_ratio);
        *ns = g.ns;
        *tsc = g.tsc;
    }
    *scale = timeline_slope(&g, 100);
    return true;
}

static void publish_info(struct vcpu *v, const struct timeline *r)
{
    vcpu_time_info_t *t = &v->info->time;
    uint32_t version = (__atomic_load_n(&t->version, __ATOMIC_RELAXED) | 1) + 2;

    __atomic_store_n(&t->version, version, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    fill(v, t, r);
    __atomic_store_n(&t->version, version + 1, __ATOMIC_RELEASE);
}

/* The copy at an address of the guest's choosing (VCPUOP_register_vcpu_time_memory_area): odd version,
 * contents, even version in three writes. After a fault the next publication tries again. */
static void publish_area(struct vcpu *v, const struct timeline *r)
{
    /* The version of vcpu_info changes whenever the contents do. */
    vcpu_time_info_t t = {.version = (__atomic_load_n(&v->info->time.version, __ATOMIC_RELAXED) - 1) | 1};
    gva_t at = v->time_area;

    fill(v, &t, r);
    if (!arch_vcpu_area_write(v, at, &t.version, sizeof(t.version)) ||
        !arch_vcpu_area_write(v, at, &t, sizeof(t)))
        return;
    t.version++;
    (void)!arch_vcpu_area_write(v, at, &t.version, sizeof(t.version));
}

/* time_version_stamp: the record that v's vcpu_info shows. 0 = none. */
void arch_vcpu_time_publish(struct vcpu *v)
{
    const struct latch *l = my_latch();
    struct x86_vcpu *x = x86_vcpu(v);
    uint64_t stamp = (uint64_t)(per_cpu_mode ? arch_cpu_id() + 1 : 0) << 32 |
                     __atomic_load_n(&l->generation, __ATOMIC_ACQUIRE);
    struct timeline r;

    if (v->idle || !v->info)
        return;
    r = *latch_get(l);
    if (x->time_version_stamp != stamp) {
        publish_info(v, &r);
        x->time_version_stamp = stamp;
    }
    if (unlikely(v->time_area.a) && v == arch_current())
        publish_area(v, &r);
}

/* --- wall clock
 * ----------------------------------------------------------------------------------------------------------------------
 */

static void wall_base(uint64_t *sec, uint32_t *nsec)
{
    unsigned long flags = spin_lock_irq(&wall_lock);

    *sec = wall_sec;
    *nsec = wall_nsec;
    spin_unlock_irq(&wall_lock, flags);
}

void arch_wallclock(uint64_t *sec, uint32_t *nsec)
{
    uint64_t s, ns = arch_time_ns();
    uint32_t n;

    wall_base(&s, &n);
    ns += n;
    *sec = s + ns / BILLION;
    *nsec = (uint32_t)(ns % BILLION);
}

void arch_wallclock_set(uint64_t sec, uint32_t nsec, uint64_t system_time_ns)
{
    uint64_t up = system_time_ns / BILLION;
    uint32_t rest = (uint32_t)(system_time_ns % BILLION);
    unsigned long flags = spin_lock_irq(&wall_lock);

    if (nsec < rest) {
        nsec += (uint32_t)BILLION;
        sec--;
    }
    wall_sec = sec - up;
    wall_nsec = nsec - rest;
    spin_unlock_irq(&wall_lock, flags);
}

#define WALLCLOCK_NARROW     (offsetof(struct shared_info, evtchn_pending) + 2 * 1024 / 8)
#define UPPER_SECONDS_NARROW (3 * 4 + 6 * 4) /* the clock, then arch_shared_info's longs */

/* Version, seconds, nanoseconds: behind the event bits, of which a 32-bit kernel has a quarter; it has the upper seconds elsewhere. */
static uint32_t *wallclock_of(const struct domain *d, uint32_t **upper)
{
    struct shared_info *s = d->shared_info;
    char *narrow = (char *)s + WALLCLOCK_NARROW;

    *upper = d->narrow ? (uint32_t *)(narrow + UPPER_SECONDS_NARROW) : &s->wc_sec_hi;
    return d->narrow ? (uint32_t *)narrow : &s->wc_version;
}

void arch_wallclock_publish(struct domain *d)
{
    uint32_t version, nsec, *clock, *upper;
    uint64_t sec;
    unsigned long flags;

    if (!d->shared_info)
        return;
    wall_base(&sec, &nsec);
    sec += (uint64_t)d->time_offset;
    flags = spin_lock_irq(&wall_lock); /* one writer at a time */
    clock = wallclock_of(d, &upper);
    version = (__atomic_load_n(clock, __ATOMIC_RELAXED) | 1) + 2;
    __atomic_store_n(clock, version, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    clock[1] = (uint32_t)sec;
    *upper = (uint32_t)(sec >> 32);
    clock[2] = nsec;
    __atomic_store_n(clock, version + 1, __ATOMIC_RELEASE);
    spin_unlock_irq(&wall_lock, flags);
}
