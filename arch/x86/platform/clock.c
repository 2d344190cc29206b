/*
 * Counters that tick at a known rate whatever the processors do: HPET, ACPI PM timer, PIT. They measure the
 * TSC at boot; where the TSC cannot be trusted, one of them is the clock (time.c).
 *
 * Invariants: a struct platform_counter's read() returns values modulo mask + 1, rising by hz a second; it
 * has no side effect and may be called on any CPU at any time - but for the PIT, which only the boot CPU uses
 * during boot. Locks: none (each read is one access).
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "core/log.h"
#include "core/params.h"
#include "lib/string.h"
#include "private.h"
#include "x86/mm.h"

#define PM_TIMER_HZ     3579545u
#define PIT_HZ          1193182u
#define PIT_CHANNEL2    0x42
#define PIT_COMMAND     0x43
#define PIT_GATE        0x61
#define HPET_CAP        0x00
#define HPET_CONFIG     0x10
#define HPET_COUNTER    0xf0
#define HPET_ENABLE     1u
#define HPET_MAX_PERIOD 100000000u /* femtoseconds: the specification's slowest */

static volatile uint32_t *hpet;
static char opt_clock[16];
PARAM_STRING("clocksource", opt_clock,
             "hpet, acpi or pit: the clock to measure the TSC with and to use where it is unfit");

/* --- HPET (IA-PC HPET specification 1.0a)
 * -------------------------------------------------------------------------- */

static uint64_t hpet_read(void)
{
    return hpet[HPET_COUNTER / 4];
}

static struct platform_counter hpet_counter = {"HPET", 0, 0xffffffff, hpet_read};

static bool hpet_find(void)
{
    uint32_t period;

    if (!acpi.hpet_base.a)
        return false;
    hpet = mm_map_device(acpi.hpet_base, 1024);
    if (!hpet)
        return false;
    period = hpet[HPET_CAP / 4 + 1];
    if (hpet[HPET_CAP / 4] == ~0u || !period || period > HPET_MAX_PERIOD) {
        log_warn("HPET at %#llx: impossible period %u", (unsigned long long)acpi.hpet_base.a, period);
        return false;
    }
    hpet_counter.hz = 1000000000000000ull / period;
    hpet[HPET_CONFIG / 4] |= HPET_ENABLE;
    for (uint64_t start = hpet_read(), i = 0; i < 10000; i++)
        if (hpet_read() != start)
            return true;
    log_warn("HPET does not count");
    return false;
}

/* --- ACPI PM timer
 * --------------------------------------------------------------------------------------------------- */

static uint64_t pm_read(void)
{
    return in32((uint16_t)acpi.pm_timer_port);
}

static struct platform_counter pm_counter = {"ACPI PM timer", PM_TIMER_HZ, 0xffffff, pm_read};

static bool pm_find(void)
{
    uint64_t start;

    if (!acpi.pm_timer_port)
        return false;
    pm_counter.mask = acpi.pm_timer_32 ? 0xffffffff : 0xffffff;
    start = pm_read();
    for (unsigned i = 0; i < 10000; i++)
        if (pm_read() != start)
            return true;
    log_warn("ACPI PM timer does not count");
    return false;
}

/* --- PIT channel 2, not connected to an interrupt
 * ----------------------------------------------------------------------- */

static uint64_t pit_read(void)
{
    uint16_t v;

    out8(PIT_COMMAND, 0x80); /* latch */
    v = in8(PIT_CHANNEL2);
    v = (uint16_t)(v | in8(PIT_CHANNEL2) << 8);
    return 0xffff - v; /* it counts down */
}

static struct platform_counter pit_counter = {"PIT", PIT_HZ, 0xffff, pit_read};

static void pit_start(void)
{
    out8(PIT_GATE, (uint8_t)((in8(PIT_GATE) & ~2) | 1)); /* gate on, speaker off */
    out8(PIT_COMMAND, 0xb4);                             /* channel 2, both bytes, mode 2 */
    out8(PIT_CHANNEL2, 0);
    out8(PIT_CHANNEL2, 0); /* 65536 */
}

/* --- choice and measuring
 * ---------------------------------------------------------------------------------------------- */

static bool wanted(const char *name)
{
    return !opt_clock[0] || !strcmp(opt_clock, name);
}

const struct platform_counter *clock_find(const struct platform_counter **runtime)
{
    bool have_hpet = wanted("hpet") && hpet_find(), have_pm = wanted("acpi") && pm_find();

    /* After boot the PM timer is the better one: the hardware domain cannot stop or set it, and may drive the
     * HPET. */
    *runtime = have_pm ? &pm_counter : have_hpet ? &hpet_counter : NULL;
    if (*runtime == &hpet_counter)
        iomem_reserve(acpi.hpet_base, 1024, "HPET");
    if (have_hpet)
        return &hpet_counter;
    if (have_pm)
        return &pm_counter;
    if (opt_clock[0] && strcmp(opt_clock, "pit"))
        log_warn("clocksource=%s: there is no such clock here, using the PIT", opt_clock);
    pit_start();
    return &pit_counter;
}

/* Of several tries the one that took least is least disturbed. */
void clock_sample(const struct platform_counter *c, uint64_t *count, uint64_t *tsc)
{
    uint64_t best = ~0ull;

    for (unsigned i = 0; i < 8; i++) {
        uint64_t before = rdtsc_ordered(), v = c->read(), after = rdtsc_ordered();

        if (after - before >= best)
            continue;
        best = after - before;
        *count = v;
        *tsc = before + best / 2;
    }
}

uint64_t clock_measure_tsc(const struct platform_counter *c, unsigned us)
{
    uint64_t c0, c1, t0, t1, need = c->hz * us / 1000000, ticks = 0;
    unsigned long flags = arch_irq_save();

    clock_sample(c, &c0, &t0);
    do {
        clock_sample(c, &c1, &t1);
        ticks = (c1 - c0) & c->mask;
    } while (ticks < need && t1 - t0 < 100000000000ull); /* a counter that stops must not stop us */
    arch_irq_restore(flags);
    if (!ticks)
        panic("%s: it stopped while the TSC was being measured", c->name);
    return (uint64_t)((t1 - t0) * c->hz / ticks);
}
