/*
 * The end: registers, the call trace with names, the other CPUs stopped, the machine left as it is or
 * restarted.
 *
 * Names come from a table that the second link puts into the image (tools/ksyms): sorted offsets from
 * image_start, then the names, each ending with NUL.
 *
 * Invariants
 *  1. One CPU panics; others that want to are parked (panic() in core/console/log.c lets one through).
 *  2. Nothing here takes a lock, allocates, or looks for callers outside the stack it began in.
 * After a panic the message stays: the machine restarts by itself only if a guest had been started, with
 * reboot delay REBOOT_DELAY, and not with noreboot.
 */
#include "../metal/asm.h"
#include "../metal/metal.h"
#include "../metal/pvregs.h"
#include "private.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/console.h"
#include "core/console_io.h"
#include "core/cpumask.h"
#include "core/domain.h"
#include "core/log.h"
#include "core/params.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/percpu.h"
#include "x86/platform.h"

#define TRACE_MAX       32
#define STOP_WAIT_MS    200
#define REBOOT_DELAY_MS 5000

extern const uint32_t ksyms_count, ksyms_offset[];
extern const char ksyms_names[];

static uint32_t stopped_cpus;
static bool traced;

bool symbol_get(unsigned i, uint64_t *addr, const char **name)
{
    const char *s = ksyms_names;

    if (i >= ksyms_count)
        return false;
    for (unsigned k = 0; k < i; k++)
        while (*s++)
            ;
    *addr = (uint64_t)image_start + ksyms_offset[i];
    *name = s;
    return true;
}

const char *symbol_find(uint64_t addr, uint64_t *offset, uint64_t *size)
{
    uint64_t rel = addr - (uint64_t)image_start, start, end;
    unsigned lo = 0, hi;
    const char *name;

    if (!ksyms_count || addr < (uint64_t)image_start || addr >= (uint64_t)text_end)
        return NULL;
    hi = ksyms_count;
    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;

        if (ksyms_offset[mid] <= rel)
            lo = mid;
        else
            hi = mid;
    }
    if (ksyms_offset[lo] > rel || !symbol_get(lo, &start, &name))
        return NULL;
    end = lo + 1 < ksyms_count ? (uint64_t)image_start + ksyms_offset[lo + 1] : (uint64_t)text_end;
    *offset = addr - start;
    *size = end - start;
    return name;
}

static void show_address(uint64_t addr)
{
    uint64_t offset, size;
    const char *name = symbol_find(addr, &offset, &size);

    if (name)
        console_printf("   [%016lx] %s+0x%lx/0x%lx\n", (unsigned long)addr, name, (unsigned long)offset,
                       (unsigned long)size);
    else
        console_printf("   [%016lx]\n", (unsigned long)addr);
}

/* Eight bytes at this address are this CPU's stack: inside the same page-aligned part as our own or the main one. */
static bool on_stack(uint64_t at)
{
    uint64_t base = (uint64_t)(cpu_info() + 1) - STACK_SIZE, off = at - base;

    if (at % 8 || off >= STACK_SIZE - sizeof(struct cpu_info) - 16)
        return false;
    return off / FRAME_SIZE != STACK_PAGE_STUBS &&
           (off / FRAME_SIZE != STACK_PAGE_GUARD || base == (uint64_t)boot_stack);
}

#ifdef DEBUG

/* A debug build keeps frame pointers: a chain of records, saved rbp and return address. */
static void show_callers(uint64_t sp, uint64_t fp)
{
    for (unsigned n = 0; n < TRACE_MAX && on_stack(fp); n++) {
        const uint64_t *rec = (const uint64_t *)fp;

        if (!symbol_find(rec[1], &(uint64_t){0}, &(uint64_t){0}))
            break;
        show_address(rec[1]);
        if (rec[0] <= fp)
            break;
        fp = rec[0];
    }
}

#else

/* Behind a CALL, near with a displacement or by register or memory: there are returns to here. */
static bool behind_call(uint64_t addr)
{
    const uint8_t *p = (const uint8_t *)addr;

    if (addr < (uint64_t)image_start + 8 || !symbol_find(addr, &(uint64_t){0}, &(uint64_t){0}))
        return false;
    if (p[-5] == 0xe8)
        return true;
    for (int n = 2; n <= 7; n++)
        if (p[-n] == 0xff && (p[1 - n] >> 3 & 7) == 2)
            return true;
    return false;
}

/* A release build has no chain: what on the stack looks like a return address; some may be left from former calls. */
static void show_callers(uint64_t sp, uint64_t fp)
{
    for (unsigned n = 0; n < TRACE_MAX && on_stack(sp); sp += 8) {
        uint64_t word = *(const uint64_t *)sp;

        if (!behind_call(word))
            continue;
        show_address(word);
        n++;
    }
}

#endif

static void show_trace(uint64_t rip, uint64_t sp, uint64_t fp)
{
    console_printf("Call trace:\n");
    show_address(rip);
    show_callers(sp, fp);
}

void show_guest_registers(const struct guest_regs *r)
{
    console_printf("rip %04lx:%016lx  rsp %04lx:%016lx  rflags %08lx\n", r->cs & 0xffff, r->rip,
                   r->ss & 0xffff, r->rsp, r->rflags);
    console_printf("rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n", r->rax, r->rbx, r->rcx, r->rdx);
    console_printf("rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx\n", r->rsi, r->rdi, r->rbp, r->r8);
    console_printf("r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx\n", r->r9, r->r10, r->r11, r->r12);
    console_printf("r13 %016lx  r14 %016lx  r15 %016lx\n", r->r13, r->r14, r->r15);
}

void show_registers(const struct guest_regs *r)
{
    bool ours = !(r->cs & 3);

    traced |= ours;
    console_printf("CPU %u, vector %u, error code %#x, in %s\n", arch_cpu_id(), r->vector, r->error_code,
                   ours ? "Krypton" : "a guest");
    show_guest_registers(r);
    console_printf("cr0 %016lx  cr2 %016lx  cr3 %016lx  cr4 %016lx\n", hw_read_cr0(), hw_read_cr2(),
                   hw_read_cr3(), hw_read_cr4());
    if (ours)
        show_trace(r->rip, r->rsp, r->rbp);
}

/* Also before a restart: the others may not touch anything any more. */
void machine_stop_others(void)
{
    unsigned others = cpu_count() ? cpu_count() - 1 : 0;
    uint64_t start;

    __atomic_store_n(&panic_stop, 1, __ATOMIC_SEQ_CST);
    if (!others)
        return;
    apic_send_nmi_others();
    start = rdtsc();
    while (tsc_khz && rdtsc() - start < tsc_khz * STOP_WAIT_MS)
        if (__atomic_load_n(&stopped_cpus, __ATOMIC_ACQUIRE) >= others)
            break;
}

void machine_park(void)
{
    __atomic_fetch_add(&stopped_cpus, 1, __ATOMIC_RELEASE);
    for (;;) {
        hw_cli();
        hw_hlt();
    }
}

void arch_panic_begin(void)
{
    static uint32_t begun;

    hw_cli();
    if (__atomic_exchange_n(&begun, 1, __ATOMIC_SEQ_CST))
        return;
    machine_stop_others();
    if (!traced)
        show_trace((uint64_t)arch_panic_begin, hw_stack_pointer(), hw_frame_pointer());
}

static void wait_ms(unsigned ms)
{
    uint64_t start = rdtsc(), cycles = (tsc_khz ? tsc_khz : 2000000) * ms;

    while (rdtsc() - start < cycles)
        hw_pause();
}

void arch_panic_end(void)
{
    static uint32_t ended;

    if (__atomic_exchange_n(&ended, 1, __ATOMIC_SEQ_CST) || !dom0 || !machine_reboot_allowed()) {
        console_printf("\nStopped. Switch the machine off or reset it by hand.\n");
        console_flush();
        for (;;) {
            hw_cli();
            hw_hlt();
        }
    }
    console_printf("\nRestarting in %u seconds (noreboot prevents it).\n", REBOOT_DELAY_MS / 1000);
    console_flush();
    wait_ms(REBOOT_DELAY_MS);
    arch_machine_restart();
}
