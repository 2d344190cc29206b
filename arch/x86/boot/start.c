/*
 * From head.S to the idle loop of the boot CPU, with dom0 running: the order in which the rooms come to life.
 *
 * Stage 1 runs on the boot stack with the boot page tables (everything below 4 GiB at DIRECT_VIRT); stage 2
 * on the boot CPU's own stack area in Krypton's address space. Interrupts come on in stage 2, when there is a
 * scheduler.
 */
#include "../metal/asm.h"
#include "../metal/metal.h"
#include "../metal/pvregs.h"
#include "private.h"
#include "arch/cpu.h"
#include "core/console.h"
#include "core/console_io.h"
#include "core/domain.h"
#include "core/hypercall.h"
#include "core/log.h"
#include "core/params.h"
#include "core/perf.h"
#include "core/sched.h"
#include "core/work.h"
#include "drivers/uart.h"
#include "drivers/vga.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/hvm.h"
#include "x86/layout.h"
#include "x86/mce.h"
#include "x86/mm.h"
#include "x86/percpu.h"
#include "x86/platform.h"
#include "x86/pv.h"
#include "x86/spec.h"

#define VGA_TEXT     0xb8000ull
#define DIRECT_LIMIT (DIRECT_VIRT_END - DIRECT_VIRT)

static uint64_t opt_mem;
PARAM_SIZE("mem", opt_mem, "use memory below this address only");

static void show_memory_map(void)
{
    log_info("Memory map:");
    for (unsigned i = 0; i < boot_info.e820_count; i++) {
        const struct e820_entry *e = &boot_info.e820[i];

        log_info("  %012llx-%012llx %s", (unsigned long long)e->addr,
                 (unsigned long long)(e->addr + e->size - 1), e820_type_name(e->type));
    }
    for (unsigned i = 0; i < boot_info.module_count; i++)
        log_debug("Module %u: %#llx, %llu KiB, \"%s\"", i, (unsigned long long)boot_info.module[i].start,
                  (unsigned long long)boot_info.module[i].size >> 10, boot_info.module[i].cmdline);
}

static void limit_memory(void)
{
    uint64_t limit = opt_mem ? MIN(opt_mem, DIRECT_LIMIT) : DIRECT_LIMIT;

    boot_info.e820_count = e820_limit(boot_info.e820, boot_info.e820_count, limit);
}

static void early_console(void)
{
    params_parse(boot_info.cmdline);
    uart_early_init();
    if (boot_info.vga_text)
        vga_init((volatile uint16_t *)(DIRECT_VIRT + VGA_TEXT));
}

/* The boot stack becomes the boot CPU's stack area: the same frames, at STACK_BASE(0), with a guard page. */
static void map_boot_stack(void)
{
    mfn_t page[STACK_SIZE / FRAME_SIZE];

    for (unsigned i = 0; i < ARRAY_SIZE(page); i++)
        page[i] = MFN(((uint64_t)boot_stack - IMAGE_VIRT) / FRAME_SIZE + i);
    if (!mm_map_stack(0, page, MFN(((uint64_t)boot_gdt_page - IMAGE_VIRT) / FRAME_SIZE)))
        panic("no memory for the boot CPU's stack");
}

/* The 8259 is not used. Silent before the APIC stops listening to it, it leaves no interrupt half delivered. */
static void mask_8259(void)
{
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
}

/* The decompression libraries choose their checksum functions so. */
static void run_constructors(void)
{
    extern void (*const __init_array_start[])(void), (*const __init_array_end[])(void);

    for (void (*const *fn)(void) = __init_array_start; fn < __init_array_end; fn++)
        (*fn)();
}

static void stage2(void)
{
    desc_init_this(0, STACK_BASE(0), boot_gdt_page);
    cpu_init_this(0);
    acpi_init(&boot_info);
    mm_release_memory(&boot_info);
    if (!xpti_init_cpu(0))
        panic("no memory for the boot CPU's tables");
    apic_init_bsp();
    irq_init();
    time_init();
    mce_init_cpu();
    hypercall_init();
    guest_policy_init();
    domain_subsystem_init();
    sched_init();
    cpu_info()->current = sched_idle_vcpu(0);
    console_input_init();
    pv_dump_init();
    pv_hardware_nmi_init();
    hvm_init();
    hw_sti();
    uart_irq_init();
    log_debug("Boot: interrupts on");
    smp_init();
    time_finish();
    watchdog_init();
    mce_init();
    irq_storm_init();
    log_debug("Boot: building dom0");
    run_constructors();
    dom0_build(&boot_info);
    mm_release_init();
    log_debug("Boot: starting dom0");
    domain_unpause(dom0);
    metal_resume_idle();
}

void start_c(uint32_t magic, uint32_t info_pa)
{
    const char *why;
    bool ok;

    memset(cpu_info(), 0, sizeof(struct cpu_info));
    cpu_info()->perf = perf_cpu_area(0);
    cpu_info()->work = work_word(0);
    mask_8259();
    desc_init_idt();
    desc_init_this(0, (uint64_t)boot_stack, boot_gdt_page);
    boot_info.image_start = MADDR((uint64_t)image_start - IMAGE_VIRT);
    boot_info.image_end = MADDR((uint64_t)image_end - IMAGE_VIRT);
    ok = boot_info_read(magic, info_pa, &why);
    early_console();
    log_info("Krypton, started by %s (%s)", boot_info.loader_name, boot_info.protocol);
    log_info("Command line: %s", boot_info.cmdline);
    if (!ok)
        panic("The boot loader's information cannot be used: %s", why);
    limit_memory();
    show_memory_map();
    cpu_detect();
    mm_init(&boot_info);
    log_debug("Boot: own address space");
    map_boot_stack();
    metal_run_on(STACK_BASE(0), stage2);
}
