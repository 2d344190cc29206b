/*
 * What an exit of a hardware-assisted guest costs, by the method of docs/testing.md (one TSC tick is one instruction): the same few kilobytes
 * as an HVM guest of Xen and of Krypton, with the stock device model, and under KVM with bench/exits/kvm.c as device model. Prints
 * "bench hvm_NAME TICKS" on COM1, the loop included, the middle of nine; then asks ACPI for power-off. Marks 400 + 2 n and 401 + 2 n
 * stand around all RUNS of measurement n, for the hypervisor's share (bench/plugin/count.c): "bench-marked N NAME RUNS" names them.
 */
#include "../mark.h"
#include <stdbool.h>
#include <stdint.h>

#define ROWS         9
#define APIC         0xfee00000ul
#define VECTOR_IPI   0xe1
#define VECTOR_AP    0xe2
#define VECTOR_TIMER 0xe3
#define AP_PAGE      0x6000ul
#define COM1         0x3f8
#define PM1A         0xb004
#define FRESH        (24ul << 20) /* memory that nobody has touched, up to FRESH_END */
#define FRESH_END    (46ul << 20)

extern const char ap_start[], ap_end[];
void measure(void);
void second(void);

static inline uint8_t in8(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return lo | (uint64_t)hi << 32;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (uint64_t)hi << 32;
}

static inline uint32_t apic_read(unsigned reg)
{
    return *(volatile uint32_t *)(APIC + reg);
}

static inline void apic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(APIC + reg) = v;
}

static void say(const char *s)
{
    for (; *s; s++) {
        while (!(in8(COM1 + 5) & 0x20))
            ;
        out8(COM1, (uint8_t)*s);
    }
}

static void say_number(uint64_t n)
{
    char text[24], *p = text + sizeof(text) - 1;

    *p = 0;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    say(p);
}

static void result(const char *name, uint64_t ticks)
{
    say("bench hvm_");
    say(name);
    say(" ");
    say_number(ticks);
    say("\n");
}

static void marked(unsigned mark, const char *name, uint64_t runs)
{
    say("bench-marked ");
    say_number(mark);
    say(" hvm_");
    say(name);
    say(" ");
    say_number(runs);
    say("\n");
}

static uint64_t middle(uint64_t *row, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned k = i; k && row[k] < row[k - 1]; k--) {
            uint64_t t = row[k];

            row[k] = row[k - 1];
            row[k - 1] = t;
        }
    return row[n / 2];
}

#define MEASURE(mark, name, n, stmt)                                                                         \
    do {                                                                                                     \
        uint64_t _row[ROWS];                                                                                 \
        MARK(400 + 2 * (mark));                                                                              \
        for (unsigned _k = 0; _k < ROWS; _k++) {                                                             \
            uint64_t _start = rdtsc();                                                                       \
            for (unsigned _i = 0; _i < (n); _i++) {                                                          \
                stmt;                                                                                        \
            }                                                                                                \
            _row[_k] = rdtsc() - _start;                                                                     \
        }                                                                                                    \
        MARK(401 + 2 * (mark));                                                                              \
        result(name, middle(_row, ROWS) / (n));                                                              \
        marked(mark, name, ROWS *(n));                                                                       \
    } while (0)

/* Interrupts. */

struct frame;
static volatile unsigned ipis, answers;
static volatile uint32_t second_id;
static volatile uint64_t fired;

__attribute__((interrupt)) static void on_ipi(struct frame *f)
{
    (void)f;
    apic_write(0xb0, 0);
    ipis++;
}

static void send(uint32_t apic_id, uint32_t icr)
{
    apic_write(0x310, apic_id << 24);
    apic_write(0x300, icr);
}

/* On the second processor: answer with the interrupt that the first waits for. */
__attribute__((interrupt)) static void on_ap(struct frame *f)
{
    (void)f;
    apic_write(0xb0, 0);
    answers++;
    send(0, 0x4000 | VECTOR_IPI);
}

__attribute__((interrupt)) static void on_timer(struct frame *f)
{
    (void)f;
    fired = rdtsc();
    apic_write(0xb0, 0);
}

__attribute__((interrupt)) static void on_other(struct frame *f)
{
    (void)f;
}

__attribute__((interrupt)) static void on_exception(struct frame *f)
{
    (void)f;
    say("bench-failed: an exception\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

struct gate {
    uint16_t low, selector, flags, middle;
    uint32_t high, zero;
};
static struct gate idt[256];

static void set_gate(unsigned vector, void (*fn)(struct frame *))
{
    uint64_t a = (uint64_t)fn;

    idt[vector] = (struct gate){(uint16_t)a, 0x18, 0x8e00, (uint16_t)(a >> 16), (uint32_t)(a >> 32), 0};
}

static void load_idt(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) r = {sizeof(idt) - 1, (uint64_t)idt};

    __asm__ volatile("lidt %0" ::"m"(r));
}

static void interrupts(void)
{
    for (unsigned i = 0; i < 256; i++)
        set_gate(i, i < 32 ? on_exception : on_other);
    set_gate(VECTOR_IPI, on_ipi);
    set_gate(VECTOR_AP, on_ap);
    set_gate(VECTOR_TIMER, on_timer);
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    load_idt();
    apic_write(0xf0, 0x1ff);
    apic_write(0x350, 0x10000);
    __asm__ volatile("sti");
}

/* Exits, one by one. */

static uint64_t vmmcall(void)
{
    uint64_t rax = 17, b = 0, c = 0, d = 0, rdi = 0,
             rsi = 0; /* xen_version, XENVER_version; KVM knows none of this number */

    __asm__ volatile("vmmcall" : "+a"(rax), "+b"(b), "+c"(c), "+d"(d), "+D"(rdi), "+S"(rsi)::"memory");
    return rax;
}

static void exits(void)
{
    uint32_t a, b, c, d;

    MEASURE(0, "cpuid", 100, __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(1), "2"(0)));
    MEASURE(1, "vmmcall", 100, vmmcall());
    MEASURE(2, "rdmsr_apic_base", 100, rdmsr(0x1b));
    MEASURE(3, "port_pit", 100, in8(0x40));
    MEASURE(4, "port_device_model", 50, in8(COM1 + 5));
    MEASURE(5, "apic_read", 100, apic_read(0x80));
    MEASURE(6, "apic_write", 100, apic_write(0x80, 0));
}

/* Step: one fault each. Xen and Krypton bring 2 MiB at a time to a domain that is populated on demand, kvm.c's process 4 KiB. */
static void first_touch(void)
{
    uint64_t row[(FRESH_END - FRESH) >> 21], step = *(volatile uint64_t *)AP_PAGE == 1 ? 4096 : 2ul << 20;
    unsigned n = sizeof(row) / sizeof(row[0]);

    MARK(420);
    for (unsigned i = 0; i < n; i++) {
        uint64_t start = rdtsc();

        *(volatile char *)(FRESH + i * step) = 1;
        row[i] = rdtsc() - start;
    }
    MARK(421);
    marked(10, "first_touch", n);
    result("first_touch", middle(row, n));
}

static void ipi_self(void)
{
    MEASURE(7, "ipi_self", 50, {
        unsigned before = ipis;

        send(0, 0x40000 | VECTOR_IPI);
        while (ipis == before)
            __asm__ volatile("pause");
    });
}

void second(void)
{
    load_idt();
    apic_write(0xf0, 0x1ff);
    second_id = apic_read(0x20) >> 24;
    answers = 1;
    for (;;)
        __asm__ volatile("sti; hlt");
}

/* To a processor that halts and back, while this one halts too. */
static void ipi_pair(void)
{
    uint64_t until;

    for (unsigned i = 0; i < (unsigned)(ap_end - ap_start); i++)
        ((volatile char *)AP_PAGE)[i] = ap_start[i];
    send(0, 0xc4500); /* INIT to all others */
    for (until = rdtsc() + 10000000; rdtsc() < until;)
        ;
    for (unsigned k = 0; k < 2 && !answers; k++) {
        send(0, 0xc4600 | AP_PAGE >> 12);
        for (until = rdtsc() + 200000000; rdtsc() < until && !answers;)
            __asm__ volatile("pause");
    }
    if (!answers) {
        say("bench-failed: the second processor does not start\n");
        return;
    }
    MEASURE(8, "ipi_pair", 50, {
        unsigned before = ipis;

        __asm__ volatile("cli");
        send(second_id, 0x4000 | VECTOR_AP);
        while (ipis == before)
            __asm__ volatile("sti; hlt; cli");
        __asm__ volatile("sti");
    });
}

/* How many ticks after its time the local APIC's timer is in the guest's handler. */
static uint64_t late(uint64_t ticks_per_1024, uint32_t count, bool halted)
{
    uint64_t start;

    fired = 0;
    __asm__ volatile("cli");
    start = rdtsc();
    apic_write(0x380, count);
    while (!fired)
        if (halted)
            __asm__ volatile("sti; hlt; cli");
        else
            __asm__ volatile("sti; pause; cli");
    __asm__ volatile("sti");
    start += count * ticks_per_1024 / 1024;
    return fired > start ? fired - start : 0;
}

static void timer(void)
{
    uint64_t row[33], from, to, per_1024;
    uint32_t left;

    apic_write(0x3e0, 0xb); /* divide by 1 */
    apic_write(0x320, 0x10000);
    apic_write(0x380, 0xffffffff);
    from = rdtsc();
    while (rdtsc() < from + 20000000)
        ;
    to = rdtsc();
    left = apic_read(0x390);
    per_1024 = (to - from) * 1024 / (0xffffffff - left);
    apic_write(0x320, VECTOR_TIMER);
    for (unsigned halted = 0; halted < 2; halted++) {
        for (unsigned i = 0; i < 33; i++)
            row[i] = late(per_1024, (uint32_t)(2000000 * 1024 / per_1024), halted);
        result(halted ? "timer_late_halted" : "timer_late_running", middle(row, 33));
    }
}

void measure(void)
{
    interrupts();
    say("bench-exits\n");
    exits();
    first_touch();
    ipi_self();
    timer();
    ipi_pair();
    say("bench-exits-done\n");
    __asm__ volatile("outw %0, %1" ::"a"((uint16_t)0x2000), "Nd"((uint16_t)PM1A));
}
