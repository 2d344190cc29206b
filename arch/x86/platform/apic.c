/*
 * Local APIC (Intel SDM vol. 3 ch. 11, AMD APM vol. 2 ch. 16): xAPIC by memory, x2APIC by MSRs; IPIs and the
 * timer.
 *
 * Invariants
 *  1. All CPUs use the same mode, chosen by the boot CPU before any other starts.
 *  2. The two words of an xAPIC command are written with interrupts off: no other command gets between them.
 *  3. LINT0 is masked: nothing comes through the 8259.
 *  4. The timer is one-shot or deadline: it fires at most once for each arch_timer_program().
 * Locks: none; every register belongs to the CPU that reads it.
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/perf.h"
#include "core/log.h"
#include "core/params.h"
#include "core/work.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/mm.h"
#include "x86/regs.h"
#include "x86/msr.h"

#define APIC_BASE_BSP  (1u << 8)
#define APIC_BASE_EXTD (1u << 10)
#define APIC_BASE_EN   (1u << 11)

enum {
    R_ID = 0x20,
    R_VERSION = 0x30,
    R_TPR = 0x80,
    R_EOI = 0xb0,
    R_LDR = 0xd0,
    R_DFR = 0xe0,
    R_SVR = 0xf0,
    R_ISR = 0x100,
    R_ESR = 0x280,
    R_ICR = 0x300,
    R_ICR2 = 0x310,
    R_LVT_TIMER = 0x320,
    R_LVT_THERMAL = 0x330,
    R_LVT_PERF = 0x340,
    R_LVT_LINT0 = 0x350,
    R_LVT_LINT1 = 0x360,
    R_LVT_ERROR = 0x370,
    R_TIMER_INIT = 0x380,
    R_TIMER_COUNT = 0x390,
    R_TIMER_DIVIDE = 0x3e0,
};
#define SVR_ENABLE   (1u << 8)
#define LVT_MASKED   (1u << 16)
#define LVT_LEVEL    (1u << 15)
#define LVT_LOW      (1u << 13)
#define LVT_NMI      (4u << 8)
#define LVT_DEADLINE (2u << 17)
#define ICR_BUSY     (1u << 12)
#define ICR_ASSERT   (1u << 14)
#define ICR_NMI      (4u << 8)
#define ICR_INIT     (5u << 8)
#define ICR_STARTUP  (6u << 8)
#define ICR_OTHERS   (3u << 18)
#define ICR_SELF     (1u << 18)
#define DIVIDE_BY_1  0xb
#define ICR_SPINS    10000000u
#define CALIBRATE_US 5000u

uint32_t cpu_apic_id[MAX_CPUS];

static bool x2apic, deadline_timer;
static volatile uint32_t *xapic;
static uint64_t timer_hz;  /* LAPIC timer ticks a second (one-shot mode) */
static uint64_t timer_mul; /* ticks = ns * timer_mul >> 32 */

static bool opt_x2apic = true;
PARAM_BOOL("x2apic", opt_x2apic, "use x2APIC mode where the processor has it");
static bool opt_tdt = true;
PARAM_BOOL("tdt", opt_tdt, "use the TSC-deadline timer where the processor has it");

static uint32_t reg_read(unsigned reg)
{
    return x2apic ? (uint32_t)rdmsr(MSR_X2APIC + (reg >> 4)) : xapic[reg / 4];
}

static void reg_write(unsigned reg, uint32_t v)
{
    if (x2apic)
        wrmsr(MSR_X2APIC + (reg >> 4), v);
    else
        xapic[reg / 4] = v;
}

uint32_t apic_id(void)
{
    return x2apic ? reg_read(R_ID) : reg_read(R_ID) >> 24;
}

void apic_eoi(void)
{
    reg_write(R_EOI, 0);
}

/* --- mode
 * ------------------------------------------------------------------------------------------------------- */

static bool ids_need_x2apic(void)
{
    for (unsigned i = 0; i < acpi.cpu_count; i++)
        if (acpi.cpu[i].enabled && acpi.cpu[i].apic_id >= 255)
            return true;
    return false;
}

/* Brings this CPU into the chosen mode. x2APIC -> xAPIC only goes through "off". */
static void enter_mode(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);

    if (x2apic) {
        if (!(base & APIC_BASE_EN))
            wrmsr(MSR_APIC_BASE, base |= APIC_BASE_EN);
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_EXTD);
        return;
    }
    if (base & APIC_BASE_EXTD)
        wrmsr(MSR_APIC_BASE, base &= ~(uint64_t)(APIC_BASE_EXTD | APIC_BASE_EN));
    wrmsr(MSR_APIC_BASE, base | APIC_BASE_EN);
}

static void choose_mode(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    maddr_t pa = MADDR(base & 0x000ffffffffff000ull);

    x2apic = cpu_features.x2apic && (opt_x2apic || ids_need_x2apic());
    if (cpu_features.x2apic && !opt_x2apic && x2apic)
        log_warn("APIC: x2apic=0 ignored, there are APIC ids above 254");
    if (acpi.lapic_base.a && acpi.lapic_base.a != pa.a)
        log_warn("APIC: at %#llx, ACPI says %#llx", (unsigned long long)pa.a,
                 (unsigned long long)acpi.lapic_base.a);
    if (!x2apic) {
        xapic = mm_map_device(pa, FRAME_SIZE);
        if (!xapic)
            panic("APIC: cannot map its registers");
    }
    /* Guests see neither the registers nor the range that turns writes into interrupts. */
    iomem_reserve(pa, FRAME_SIZE, "local APIC");
    iomem_reserve(MADDR(0xfee00000), 0x100000, "interrupt messages");
}

static void setup_nmi(void)
{
    uint32_t mine = acpi_id_of_apic(apic_id());

    reg_write(R_LVT_LINT0, LVT_MASKED);
    reg_write(R_LVT_LINT1, LVT_MASKED);
    for (unsigned i = 0; i < acpi.nmi_count; i++)
        if (acpi.nmi[i].acpi_id == ~0u || acpi.nmi[i].acpi_id == mine)
            reg_write(acpi.nmi[i].lint ? R_LVT_LINT1 : R_LVT_LINT0,
                      LVT_NMI | (acpi.nmi[i].low ? LVT_LOW : 0));
}

/* Interrupts that firmware or an earlier kernel left in service would block ours of lower priority. */
static void drain(void)
{
    for (unsigned n = 0; n < 256; n++) {
        uint32_t any = 0;

        for (unsigned i = 0; i < 8; i++)
            any |= reg_read(R_ISR + i * 16);
        if (!any)
            return;
        apic_eoi();
    }
}

static void setup(void)
{
    unsigned lvts = ((reg_read(R_VERSION) >> 16) & 0xff) + 1;

    if (!x2apic) {
        reg_write(R_DFR, ~0u);
        reg_write(R_LDR, 1u << 24);
    }
    reg_write(R_TPR, 0);
    reg_write(R_LVT_TIMER, LVT_MASKED);
    if (lvts > 4)
        reg_write(R_LVT_PERF, LVT_MASKED);
    if (lvts > 5)
        reg_write(R_LVT_THERMAL, LVT_MASKED);
    reg_write(R_SVR, SVR_ENABLE | VEC_SPURIOUS);
    setup_nmi();
    drain();
    reg_write(R_ESR, 0);
    reg_write(R_LVT_ERROR, VEC_ERROR);
    reg_write(R_ESR, 0);
}

void apic_init_bsp(void)
{
    choose_mode();
    enter_mode();
    setup();
    cpu_apic_id[0] = apic_id();
    topology_add_cpu(0, cpu_apic_id[0]);
    log_info("APIC: %s mode, boot CPU has id %u", x2apic ? "x2APIC" : "xAPIC", cpu_apic_id[0]);
}

void apic_init_cpu(void)
{
    enter_mode();
    setup();
}

/* --- inter-processor interrupts
 * -------------------------------------------------------------------------------- */

/* ICR busy: the earlier command has not been accepted yet. Bounded: a dead APIC must not hang the machine. */
static void icr_wait(void)
{
    for (unsigned i = 0; i < ICR_SPINS && (reg_read(R_ICR) & ICR_BUSY); i++)
        arch_cpu_relax();
}

static void icr_write(uint32_t dest, uint32_t command)
{
    unsigned long flags;

    if (x2apic) {
        fence_all(); /* the WRMSR must not overtake the stores the receiver is to see */
        wrmsr(MSR_X2APIC_ICR, (uint64_t)dest << 32 | command);
        return;
    }
    flags = arch_irq_save();
    icr_wait();
    reg_write(R_ICR2, dest << 24);
    reg_write(R_ICR, command);
    arch_irq_restore(flags);
}

void apic_send_ipi(unsigned cpu, uint8_t vector)
{
    perf_count(ipis_sent);
    icr_write(cpu_apic_id[cpu], ICR_ASSERT | vector);
}

/* The lower half alone, by the shorthand: a destination that was written already stays as it is. */
void apic_send_self(uint8_t vector)
{
    if (x2apic)
        wrmsr(MSR_X2APIC_ICR, ICR_SELF | ICR_ASSERT | vector);
    else
        reg_write(R_ICR, ICR_SELF | ICR_ASSERT | vector);
}

void apic_send_ipi_mask(const struct cpumask *m, uint8_t vector)
{
    unsigned self = arch_cpu_id();

    for_each_cpu(c, m) if (c != self) apic_send_ipi(c, vector);
}

static void delay_us(unsigned us)
{
    uint64_t start = rdtsc(), cycles = (tsc_khz ? tsc_khz : 4000000) * us / 1000;

    while (rdtsc() - start < cycles)
        arch_cpu_relax();
}

/* INIT, 10 ms, STARTUP twice with 200 us between (Intel SDM vol. 3 9.4.4.1). */
void apic_send_init_sipi(uint32_t id, uint8_t page)
{
    reg_write(R_ESR, 0);
    icr_write(id, ICR_INIT | LVT_LEVEL | ICR_ASSERT);
    delay_us(200);
    icr_write(id, ICR_INIT | LVT_LEVEL);
    delay_us(10000);
    for (unsigned i = 0; i < 2; i++) {
        icr_write(id, ICR_STARTUP | ICR_ASSERT | page);
        delay_us(200);
    }
    if (!x2apic)
        icr_wait();
}

void apic_send_nmi_others(void)
{
    if (x2apic || xapic)
        icr_write(0, ICR_OTHERS | ICR_ASSERT | ICR_NMI);
}

void apic_send_nmi(unsigned cpu)
{
    icr_write(cpu_apic_id[cpu], ICR_ASSERT | ICR_NMI);
}

void apic_error_interrupt(void)
{
    static unsigned said;
    uint32_t esr;

    reg_write(R_ESR, 0);
    esr = reg_read(R_ESR);
    apic_eoi();
    if (__atomic_fetch_add(&said, 1, __ATOMIC_RELAXED) < 16)
        log_warn("APIC error %#x on CPU%u", esr, arch_cpu_id());
}

/* --- timer
 * -------------------------------------------------------------------------------------------------------- */

void apic_timer_interrupt(void)
{
    apic_eoi();
    perf_count(timer_interrupts);
    work_raise(WORK_TIMER);
}

void apic_timer_calibrate(void)
{
    uint64_t t0, t1, cycles = tsc_khz * CALIBRATE_US / 1000;
    uint32_t used;
    unsigned long flags;

    deadline_timer = cpu_features.tsc_deadline && opt_tdt && time_tsc_stable();
    if (deadline_timer)
        return;
    flags = arch_irq_save();
    reg_write(R_TIMER_DIVIDE, DIVIDE_BY_1);
    reg_write(R_LVT_TIMER, LVT_MASKED | VEC_TIMER);
    reg_write(R_TIMER_INIT, ~0u);
    t0 = rdtsc_ordered();
    while ((t1 = rdtsc_ordered()) - t0 < cycles)
        arch_cpu_relax();
    used = ~0u - reg_read(R_TIMER_COUNT);
    reg_write(R_TIMER_INIT, 0);
    arch_irq_restore(flags);
    timer_hz = (uint64_t)used * tsc_khz / (t1 - t0) * 1000;
    if (timer_hz < 100000)
        panic("APIC: the timer does not count (%u ticks in %u us)", used, CALIBRATE_US);
    timer_mul = (timer_hz << 22) / 1000000000 << 10;
}

void apic_timer_setup_cpu(void)
{
    if (!timer_hz && !deadline_timer)
        apic_timer_calibrate();
    reg_write(R_TIMER_DIVIDE, DIVIDE_BY_1);
    reg_write(R_LVT_TIMER, VEC_TIMER | (deadline_timer ? LVT_DEADLINE : 0));
    fence_all(); /* the mode is in force before the first deadline is written */
    arch_timer_program(~0ull);
}

void arch_timer_program(uint64_t deadline_ns)
{
    uint64_t now, ticks;

    if (deadline_timer) {
        wrmsr(MSR_TSC_DEADLINE, deadline_ns == ~0ull ? 0 : time_to_tsc(deadline_ns) | 1);
        return;
    }
    if (deadline_ns == ~0ull) {
        reg_write(R_TIMER_INIT, 0);
        return;
    }
    now = arch_time_ns();
    /* Two seconds at most: early wake-ups are harmless and the count has 32 bits. */
    ticks = 1;
    if (deadline_ns > now)
        ticks += (uint64_t)((unsigned __int128)MIN(deadline_ns - now, 2000000000ull) * timer_mul >> 32);
    reg_write(R_TIMER_INIT, (uint32_t)MIN(ticks, 0xffffffffull));
}
