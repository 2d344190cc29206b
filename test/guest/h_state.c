/*
 * What a vCPU keeps while others run on its processor - debug registers, vector registers, XCR0 - and NMIs, of which one is handled at a time.
 */
#include "hvm.h"

/* --- NMIs --- */

#define APIC(reg) (*(volatile uint32_t *)(0xfee00000ul + (reg)))
#define ICR_NMI   0x400u

static volatile unsigned nmis, depth, deepest, seen_inside;

static void nmi_to_self(void)
{
    APIC(0x310) = APIC(0x20) & 0xff000000;
    APIC(0x300) = ICR_NMI;
}

static void leave_once(void)
{
    uint32_t r[4];

    cpuid(0, 0, r);
}

static void on_nmi(struct trap_frame *f)
{
    if (f->nr != 2) {
        trap_hook = NULL;
        test_fail("trap %u", (unsigned)f->nr);
        return;
    }
    deepest = ++depth > deepest ? depth : deepest;
    if (!nmis++) {
        nmi_to_self();
        nmi_to_self(); /* one waits, more are lost */
        for (unsigned i = 0; i < 20; i++)
            leave_once();
        seen_inside = nmis;
    }
    depth--;
}

static void nmi_test(bool interrupts)
{
    uint64_t end = time_ns() + 2000000000;

    nmis = depth = deepest = 0;
    trap_hook = on_nmi;
    if (interrupts)
        __asm__ volatile("sti" ::: "memory");
    nmi_to_self();
    while (nmis < 2 && time_ns() < end)
        leave_once();
    for (unsigned i = 0; i < 20; i++)
        leave_once();
    __asm__ volatile("cli" ::: "memory");
    trap_hook = NULL;
    CHECK_EQ(nmis, 2);
    CHECK_EQ(seen_inside, 1);
    CHECK_EQ(deepest, 1);
}

TEST(hvm_nmi_one_at_a_time)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0x1b));
    if (lo & 1u << 10) /* x2APIC: the registers are elsewhere */
        return;
    nmi_test(false);
    nmi_test(true);
}

/* --- priorities by CR8 --- */

#ifdef __x86_64__
static volatile unsigned taken;

static void on_interrupt(struct trap_frame *f)
{
    if (f->nr != 0x61) {
        trap_hook = NULL;
        test_fail("trap %u", (unsigned)f->nr);
        return;
    }
    taken++;
    APIC(0xb0) = 0;
}

static void cr8_set(uint64_t priority)
{
    __asm__ volatile("mov %0, %%cr8; nop; nop; nop" ::"r"(priority) : "memory");
}

/* An interrupt that waits for a lower priority comes when CR8 is lowered, not at some later exit. */
TEST(hvm_cr8_holds_interrupts_back)
{
    uint64_t lo, hi, low = 5;
    unsigned after[3];

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0x1b));
    if (lo & 1u << 10)
        return;
    taken = 0;
    trap_hook = on_interrupt;
    APIC(0xf0) = 0x1ff;
    cr8_set(15);
    __asm__ volatile("sti" ::: "memory");
    APIC(0x300) = 0x40000 | 0x61;
    leave_once();
    after[0] = taken;
    cr8_set(6);
    after[1] = taken;
    __asm__ volatile("mov %0, %%r15; mov %%r15, %%cr8; nop; nop; nop" ::"r"(low) : "memory", "r15");
    after[2] = taken;
    __asm__ volatile("cli" ::: "memory");
    CHECK(after[0] == 0 && after[1] == 0);
    CHECK_EQ(after[2], 1);
    __asm__ volatile("mov %%cr8, %0" : "=r"(lo));
    CHECK(lo == 5 && APIC(0x80) == 0x50);
    cr8_set(15);
    APIC(0x300) = 0x40000 | 0x61;
    trap_hook = NULL;
    CHECK(TRAPS("mov $16, %%eax; mov %%rax, %%cr8")); /* while its writes are watched */
    CHECK_EQ(last_trap.nr, 13);
    trap_hook = on_interrupt;
    __asm__ volatile("sti" ::: "memory");
    APIC(0x80) = 0; /* the other way to the same register */
    leave_once();
    __asm__ volatile("cli; mov %%cr8, %0" : "=r"(lo)::"memory");
    CHECK(lo == 0 && taken == 2);
    trap_hook = NULL;
}
#endif

/* --- debug registers --- */

#ifdef __x86_64__
#define STACK_POINTER "rsp"
#else
#define STACK_POINTER "esp"
#endif

static volatile unsigned long watched;
static uint64_t debug_traps, debug_dr6;

#define DR_WRITE(n, v) __asm__ volatile("mov %0, %%dr" #n ::"r"((unsigned long)(v)))
#define DR_READ(n)                                                                                           \
    ({                                                                                                       \
        unsigned long dr_;                                                                                   \
        __asm__ volatile("mov %%dr" #n ", %0" : "=r"(dr_));                                                  \
        dr_;                                                                                                 \
    })

static void on_debug(struct trap_frame *f)
{
    debug_traps += f->nr == 1;
    debug_dr6 = DR_READ(6);
    DR_WRITE(6, 0xffff0ff0);
    f->rflags &= ~0x100ul;
}

static void others_run(void)
{
    for (unsigned i = 0; i < 5; i++) {
        struct sched_poll p = {.timeout = time_ns() + 2000000};

        HC2(sched_op, SCHEDOP_poll, &p);
    }
}

/* Not whether they stop the guest: QEMU 10 forgets what it watches for a guest whenever that is left. */
TEST(hvm_debug_registers_stay)
{
    DR_WRITE(0, &watched);
    DR_WRITE(1, 0x1111);
    DR_WRITE(2, 0x2222);
    DR_WRITE(3, 0x3333);
    DR_WRITE(7, 0x33330400);
    others_run();
    CHECK_EQ(DR_READ(7), 0x33330400);
    CHECK_EQ(DR_READ(0), (unsigned long)&watched);
    CHECK_EQ(DR_READ(1), 0x1111);
    CHECK_EQ(DR_READ(2), 0x2222);
    CHECK_EQ(DR_READ(3), 0x3333);
    debug_traps = 0;
    trap_hook = on_debug;
    __asm__ volatile("pushf; orl $0x100, (%%" STACK_POINTER "); popf; nop" ::: "memory", "cc");
    CHECK_EQ(debug_traps, 1);
    CHECK_EQ(debug_dr6 & 0x4000, 0x4000); /* single step */
    trap_hook = NULL;
    DR_WRITE(7, 0x400);
}

/* --- vector registers and XCR0 --- */

struct vectors {
    uint64_t value;
    volatile bool stop;
    volatile unsigned wrong, rounds;
    bool wide;
};

static bool has_wide(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    return (r[2] & 1u << 26) && (r[2] & 1u << 28);
}

/* CR4.OSXSAVE and XCR0 are each vCPU's own. */
static void wide_on(uint32_t xcr0)
{
    unsigned long cr4;

    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4" ::"r"(cr4 | 1ul << 18));
    __asm__ volatile("xsetbv" ::"c"(0), "a"(xcr0), "d"(0));
}

static void one_round(struct vectors *w)
{
    uint64_t in[4] = {w->value, ~w->value, w->value * 3, w->value + w->rounds}, out[4] = {0};

    if (w->wide)
        __asm__ volatile("vmovups %0, %%ymm0; vmovups %0, %%ymm7" ::"m"(in));
    else
        __asm__ volatile("movups %0, %%xmm0; movups %0, %%xmm7" ::"m"(in));
    HC2(sched_op, SCHEDOP_yield, NULL);
    if (w->rounds % 8 == 0)
        others_run();
    if (w->wide)
        __asm__ volatile("vmovups %%ymm7, %0" : "=m"(out));
    else
        __asm__ volatile("movups %%xmm7, %0" : "=m"(out));
    for (unsigned i = 0; i < (w->wide ? 4 : 2); i++)
        w->wrong += in[i] != out[i];
    w->rounds++;
}

static void vector_loop(void *arg)
{
    struct vectors *w = arg;

    if (w->wide)
        wide_on(7);
    while (!w->stop)
        one_round(w);
}

TEST(hvm_vectors_stay)
{
    static struct vectors mine, other;

    mine = (struct vectors){.value = 0x1111222233334444, .wide = has_wide()};
    other = (struct vectors){.value = 0x8888777766665555, .wide = has_wide()};
    if (mine.wide) {
        wide_on(7);
        CHECK(TRAPS("xor %%ecx, %%ecx; mov $6, %%eax; xor %%edx, %%edx; xsetbv")); /* without x87 */
        CHECK_EQ(last_trap.nr, 13);
    }
    if (vcpu_exists(1))
        CHECK_EQ(vcpu_run(1, vector_loop, &other), 0);
    while (mine.rounds < 40 || (vcpu_exists(1) && !other.rounds && mine.rounds < 4000))
        one_round(&mine);
    other.stop = true;
    if (vcpu_exists(1)) {
        CHECK(vcpu_wait(1));
        CHECK(other.rounds > 0);
    }
    CHECK_EQ(mine.wrong, 0);
    CHECK_EQ(other.wrong, 0);
    if (mine.wide) { /* what XCR0 does not have, is not there */
        wide_on(3);
        CHECK(TRAPS("vzeroupper"));
        CHECK_EQ(last_trap.nr, 6);
        wide_on(7);
    }
}
