/*
 * The other processors: started one after the other by INIT and STARTUP, each with its stack area, descriptor
 * page and idle vCPU made before. And functions run on them.
 *
 *   boot CPU                                        new CPU
 *   prepare(cpu), stack -> trampoline, INIT/SIPI -> trampoline takes the stack -> smp_ap_start: tables,
 * registers, APIC sees ARRIVED, GO ----------------------------> clock, timer, online sees ONLINE, next idle
 * loop
 *
 * Invariants
 *  1. CPU numbers are 0 .. cpu_count()-1: a processor that fails leaves no hole, the next one gets its
 * number.
 *  2. A processor that was given up never runs on memory that is used for something else: either it has not
 * taken the stack, and cannot any more, or stack and number are written off (and starting ends there).
 *  3. smp_call: as in mm/tlb.c, one request per initiator, served in interrupt context.
 * Locks: none.
 */
#include "../metal/asm.h"
#include "../metal/metal.h"
#include "../metal/pvregs.h"
#include "private.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "core/console.h"
#include "core/cpumask.h"
#include "core/domain.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/params.h"
#include "core/perf.h"
#include "core/sched.h"
#include "core/work.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/hvm.h"
#include "x86/layout.h"
#include "x86/mce.h"
#include "x86/mm.h"
#include "x86/percpu.h"
#include "x86/platform.h"
#include "x86/pte.h"
#include "x86/spec.h"

#define ARRIVE_NS 1000000000ull /* generous: emulators are slow */
#define ONLINE_NS 5000000000ull
#define LOW_FIRST 0x1000ull /* not page 0: the BIOS data area */
#define LOW_LAST  0x9f000ull

extern char trampoline_start[], trampoline_end[], trampoline_cr3[], trampoline_stack[], trampoline_intel[],
    trampoline_far32[], trampoline_far64[], trampoline_gdt_base[];
void smp_ap_start(void);

enum ap_state { AP_NONE, AP_ARRIVED, AP_GO, AP_ONLINE, AP_REFUSED };
static uint32_t ap_state; /* of the CPU being started */

static unsigned opt_maxcpus;
PARAM_UINT("maxcpus", opt_maxcpus, "number of processors to use");
static bool opt_nosmp;
PARAM_BOOL("nosmp", opt_nosmp, "use the boot processor only");

/* --- the page below 1 MiB
 * ------------------------------------------------------------------------------------------------ */

static uint64_t low_page;
static char *low; /* its address for us */

/* The highest usable page: firmware tends to use low ones. */
static bool find_low_page(void)
{
    for (unsigned i = boot_info.e820_count; i--;) {
        const struct e820_entry *e = &boot_info.e820[i];
        uint64_t at = ROUND_DOWN(MIN(e->addr + e->size, LOW_LAST), FRAME_SIZE);

        if (e->type != E820_RAM || at < LOW_FIRST + FRAME_SIZE || at - FRAME_SIZE < e->addr)
            continue;
        low_page = at - FRAME_SIZE;
        low = arch_frame_va(maddr_to_mfn(MADDR(low_page)));
        return true;
    }
    return false;
}

static char *in_low(const char *symbol)
{
    return low + (symbol - trampoline_start);
}

/* Krypton's address space, and the first 2 MiB as they are. Below 4 GiB: loaded in 32-bit mode. */
static uint64_t *make_tables(mfn_t t[3])
{
    uint64_t *l4, *l3, *l2;

    for (unsigned i = 0; i < 3; i++)
        if (!frame_alloc(0, FA_ZERO | FA_BELOW_4G, FRAME_ANY_NODE, &t[i])) {
            while (i--)
                frame_free(t[i], 0);
            return NULL;
        }
    l4 = arch_frame_va(t[0]);
    l3 = arch_frame_va(t[1]);
    l2 = arch_frame_va(t[2]);
    memcpy(&l4[HYP_SLOT_FIRST], &hyp_l4[HYP_SLOT_FIRST], (HYP_SLOT_LAST - HYP_SLOT_FIRST + 1) * 8);
    l4[0] = pte_make(t[1], PTE_P | PTE_RW | PTE_A);
    l3[0] = pte_make(t[2], PTE_P | PTE_RW | PTE_A);
    l2[0] = PTE_P | PTE_RW | PTE_A | PTE_D | PTE_PS;
    return l4;
}

static void make_trampoline(mfn_t l4)
{
    uint32_t base = (uint32_t)low_page;
    const char *const relative[] = {trampoline_gdt_base, trampoline_far32, trampoline_far64};

    memcpy(low, trampoline_start, (size_t)(trampoline_end - trampoline_start));
    for (unsigned i = 0; i < ARRAY_SIZE(relative); i++)
        *(uint32_t *)in_low(relative[i]) += base;
    *(uint32_t *)in_low(trampoline_cr3) = (uint32_t)mfn_to_maddr(l4).a;
    *(uint32_t *)in_low(trampoline_intel) = cpu_features.intel;
}

/* --- one CPU
 * ------------------------------------------------------------------------------------------------------------------
 */

struct ap_memory {
    mfn_t page[STACK_SIZE / FRAME_SIZE];
    uint64_t *gdt;
};

static bool page_used(unsigned i)
{
    return i != STACK_PAGE_STUBS && i != STACK_PAGE_GUARD;
}

static void free_memory(struct ap_memory *m)
{
    for (unsigned i = 0; i < ARRAY_SIZE(m->page); i++)
        if (page_used(i) && !mfn_eq(m->page[i], INVALID_MFN))
            frame_free(m->page[i], 0);
    frame_free_va(m->gdt, 0);
}

static bool alloc_memory(unsigned cpu, struct ap_memory *m)
{
    bool ok = true;

    m->gdt = frame_alloc_va(0);
    for (unsigned i = 0; i < ARRAY_SIZE(m->page); i++) {
        m->page[i] = INVALID_MFN;
        if (page_used(i) && !frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m->page[i]))
            ok = false;
    }
    if (!m->gdt || !ok || !mm_map_stack(cpu, m->page, arch_va_mfn(m->gdt)) || !xpti_init_cpu(cpu)) {
        if (m->gdt)
            free_memory(m);
        return false;
    }
    return true;
}

static uint64_t *ap_gdt;

static bool wait_state(uint32_t below, uint64_t ns)
{
    uint64_t start = arch_time_ns();

    while (__atomic_load_n(&ap_state, __ATOMIC_ACQUIRE) <= below)
        if (arch_time_ns() - start > ns)
            return false;
        else
            arch_cpu_relax();
    return true;
}

enum start_result { STARTED, SKIPPED, LOST };

static enum start_result start_one(unsigned cpu, uint32_t apic)
{
    uint64_t top = STACK_BASE(cpu) + STACK_SIZE;
    struct cpu_info *ci = (struct cpu_info *)(top - sizeof(*ci));
    uint64_t *slot = (uint64_t *)in_low(trampoline_stack);
    struct ap_memory m;

    if (sched_init_cpu(cpu) || !hvm_prepare_cpu(cpu) || !alloc_memory(cpu, &m)) {
        log_err("SMP: no memory for the CPU with APIC id %u", apic);
        return SKIPPED;
    }
    *ci = (struct cpu_info){
        .cpu = cpu, .current = sched_idle_vcpu(cpu), .perf = perf_cpu_area(cpu), .work = work_word(cpu)};
    ap_gdt = m.gdt;
    cpu_apic_id[cpu] = apic;
    topology_add_cpu(cpu, apic);
    __atomic_store_n(&ap_state, AP_NONE, __ATOMIC_SEQ_CST);
    __atomic_store_n(slot, top - sizeof(*ci) - 8, __ATOMIC_SEQ_CST);
    apic_send_init_sipi(apic, (uint8_t)(low_page >> FRAME_SHIFT));
    if (!wait_state(AP_NONE, ARRIVE_NS)) {
        if (!__atomic_exchange_n(slot, 0, __ATOMIC_SEQ_CST)) {
            log_err("SMP: the CPU with APIC id %u hangs while starting: no further ones are started", apic);
            return LOST;
        }
        log_err("SMP: the CPU with APIC id %u does not start", apic);
        free_memory(&m);
        return SKIPPED;
    }
    if (__atomic_load_n(&ap_state, __ATOMIC_ACQUIRE) == AP_REFUSED) {
        log_err("SMP: the CPU with APIC id %u is not like the boot CPU: not used", apic);
        return LOST; /* it stands on its stack */
    }
    __atomic_store_n(&ap_state, AP_GO, __ATOMIC_RELEASE);
    if (!wait_state(AP_GO, ONLINE_NS)) {
        log_err("SMP: CPU %u (APIC id %u) hangs while starting: no further ones are started", cpu, apic);
        return LOST;
    }
    return STARTED;
}

/* Guests move between CPUs: what one has all must have. */
static bool like_boot_cpu(void)
{
    const struct cpu_features *f = &cpu_features;
    struct cpuid_leaf one = cpuid(1, 0), ext = cpuid(0x80000001, 0);
    uint32_t l7b = f->max_leaf >= 7 && cpuid(0, 0).a >= 7 ? cpuid(7, 0).b : 0;

    return (ext.d >> 20 & 1) && (!f->gbpages || ext.d >> 26 & 1) && (!f->rdtscp || ext.d >> 27 & 1) &&
           (!f->xsave || one.c >> 26 & 1) && (!f->x2apic || one.c >> 21 & 1) && (!f->fsgsbase || l7b & 1) &&
           (!hvm_available() || ext.c >> 2 & 1) && (!f->smep || l7b >> 7 & 1) &&
           (!f->smap || l7b >> 20 & 1) && spec_cpu_suits();
}

/* First C of a new CPU, interrupts off, on its own stack, with the trampoline's page tables. */
void smp_ap_start(void)
{
    unsigned cpu = cpu_info()->cpu;

    hw_write_cr3(mfn_to_maddr(hyp_l4_mfn).a);
    desc_init_this(cpu, STACK_BASE(cpu), ap_gdt);
    if (!like_boot_cpu()) {
        __atomic_store_n(&ap_state, AP_REFUSED, __ATOMIC_RELEASE);
        machine_park();
    }
    cpu_init_this(cpu);
    hvm_init_cpu();
    apic_init_cpu();
    if (apic_id() != cpu_apic_id[cpu]) {
        __atomic_store_n(&ap_state, AP_REFUSED, __ATOMIC_RELEASE);
        machine_park();
    }
    __atomic_store_n(&ap_state, AP_ARRIVED, __ATOMIC_RELEASE);
    while (__atomic_load_n(&ap_state, __ATOMIC_ACQUIRE) != AP_GO)
        arch_cpu_relax();
    time_init_cpu();
    mce_init_cpu();
    cpumask_set(&cpus_online, cpu);
    __atomic_store_n(&ap_state, AP_ONLINE, __ATOMIC_RELEASE);
    metal_resume_idle();
}

/* False: a processor hangs somewhere in the trampoline. */
static bool start_all(unsigned limit)
{
    unsigned cpu = 1;

    for (unsigned i = 0; i < acpi.cpu_count; i++) {
        if (!acpi.cpu[i].enabled || acpi.cpu[i].apic_id == cpu_apic_id[0])
            continue;
        if (cpu >= limit) {
            log_info("SMP: further CPUs are not used (maxcpus, or the limit of %u)", MAX_CPUS);
            return true;
        }
        switch (start_one(cpu, acpi.cpu[i].apic_id)) {
        case STARTED:
            cpu++;
            break;
        case SKIPPED:
            break;
        case LOST:
            return false;
        }
    }
    return true;
}

/* Debug key 'd': what each CPU does. */
static void dump_one(void *unused)
{
    struct vcpu *v = arch_current();

    if (!v || v->idle)
        console_printf("CPU %u: idle\n", arch_cpu_id());
    else
        show_registers(current_regs());
}

static void dump_registers(void)
{
    for_each_cpu(c, &cpus_online)
    {
        struct cpumask one = {{0}};

        cpumask_set(&one, c);
        smp_call(&one, dump_one, NULL);
    }
}

void smp_init(void)
{
    unsigned limit = opt_nosmp ? 1 : MIN(opt_maxcpus ? opt_maxcpus : MAX_CPUS, MAX_CPUS);
    mfn_t tables[3];

    debug_key_register('d', "registers of all CPUs", dump_registers);
    if (limit < 2)
        return;
    if (!find_low_page()) {
        log_err("SMP: no usable page below 1 MiB: one CPU only");
        return;
    }
    if (!make_tables(tables)) {
        log_err("SMP: no memory for the start of CPUs");
        return;
    }
    make_trampoline(tables[0]);
    if (start_all(limit)) {
        /* The first MiB is the hardware domain's to look at. */
        memset(low, 0, FRAME_SIZE);
        for (unsigned i = 0; i < 3; i++)
            frame_free(tables[i], 0);
    } else {
        iomem_reserve(MADDR(low_page), FRAME_SIZE, "start of processors");
    }
    log_info("SMP: %u CPUs", cpu_count());
}

/* --- functions on other CPUs
 * ----------------------------------------------------------------------------------------------------- */

static struct call {
    uint32_t pending;
    void (*fn)(void *data);
    void *data;
} __attribute__((aligned(64))) call[MAX_CPUS];
static struct cpumask wanted_by[MAX_CPUS];

void smp_call_interrupt(void)
{
    unsigned self = arch_cpu_id();

    for_each_cpu(i, &wanted_by[self])
    {
        struct call *c = &call[i];

        cpumask_clear(&wanted_by[self], i);
        c->fn(c->data);
        __atomic_fetch_sub(&c->pending, 1, __ATOMIC_RELEASE);
    }
}

void smp_call(const struct cpumask *m, void (*fn)(void *), void *data)
{
    unsigned self = arch_cpu_id();
    struct call *c = &call[self];
    struct cpumask others;

    cpumask_and(&others, m, &cpus_online);
    others.w[self / 64] &= ~(1ull << (self % 64));
    ASSERT(cpumask_empty(&others) || arch_irq_enabled());
    c->fn = fn;
    c->data = data;
    __atomic_store_n(&c->pending, cpumask_count(&others), __ATOMIC_RELEASE);
    for_each_cpu(t, &others) cpumask_set(&wanted_by[t], self);
    if (!cpumask_empty(&others))
        apic_send_ipi_mask(&others, VEC_CALL);
    if (cpumask_test(m, self)) {
        unsigned long flags = arch_irq_save();

        fn(data);
        arch_irq_restore(flags);
    }
    while (__atomic_load_n(&c->pending, __ATOMIC_ACQUIRE))
        arch_cpu_relax();
}
