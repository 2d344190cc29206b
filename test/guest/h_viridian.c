/*
 * The Hyper-V interface as a guest uses it that was given all of it (HVM_PARAM_VIRIDIAN; attack=viridian; test/boot/test_8_viridian.py):
 * each group once for what it is there for, then what a hostile guest makes of it. Ends as a domain that crashed, with five numbers.
 */
#include "hvm.h"

#define MSR(n)    (0x40000000u + (n))
#define OS_ID     MSR(0)
#define CALL_PAGE MSR(1)
#define VP_INDEX  MSR(2)
#define REF_COUNT MSR(0x20)
#define TSC_PAGE  MSR(0x21)
#define EOI       MSR(0x70)
#define ICR       MSR(0x71)
#define TPR       MSR(0x72)
#define ASSIST    MSR(0x73)
#define SCONTROL  MSR(0x80)
#define SIMP      MSR(0x83)
#define EOM       MSR(0x84)
#define SINT(n)   MSR(0x90 + (n))
#define TIMER(n)  MSR(0xb0 + 2 * (n))
#define COUNT(n)  MSR(0xb1 + 2 * (n))
#define CRASH(n)  MSR(0x100 + (n))
#define CRASH_CTL MSR(0x105)
#define MS        10000ull /* of reference time */
#define SPIN(done)                                                                                           \
    for (uint64_t end_ = time_ns() + 10000000000ull; !(done) && time_ns() < end_;)                           \
    __asm__ volatile("sti; pause; cli" ::: "memory")

static uint8_t area[8][PAGE] __attribute__((aligned(4096)));
enum { CODE, TSC, MESSAGES, WORD, INPUT, ONE, OTHER, LOST };
static const void *volatile code_page = area[CODE];
static volatile unsigned got[2][256], lazily;
static bool use_assist;

static uint64_t on(unsigned n)
{
    return (unsigned long)area[n] | 1;
}

static uint64_t rd(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (uint64_t)hi << 32;
}

static void wr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

/* Counts, by vCPU and vector, and ends: by the assist page where that will do. */
static void interrupt(struct trap_frame *f)
{
    unsigned vp;

    if (f->nr < 32) {
        trap_noted(f, 0);
        return;
    }
    vp = (unsigned)rd(VP_INDEX) & 1;
    got[vp][f->nr & 255]++;
    if (!vp && use_assist && __atomic_exchange_n((uint32_t *)area[WORD], 0, __ATOMIC_SEQ_CST) & 1)
        lazily++;
    else
        wr(EOI, 0);
}

static void apic_on(void)
{
    *(volatile uint32_t *)0xfee000f0 = 0x1ff;
}

/* --- hypercalls --- */

#ifdef __x86_64__
static uint64_t call(uint64_t input, uint64_t in, uint64_t out)
{
    register uint64_t r8 __asm__("r8") = out;
    uint64_t result = 0;

    __asm__ volatile("call *%[page]"
                     : "+a"(result), "+c"(input), "+d"(in), "+r"(r8)
                     : [page] "m"(code_page)
                     : "r9", "r10", "r11", "memory", "cc");
    return result;
}
#else
static uint64_t call(uint64_t input, uint64_t in, uint64_t out)
{
    uint32_t lo = (uint32_t)input, hi = (uint32_t)(input >> 32);

    __asm__ volatile("call *%[page]"
                     : "+a"(lo), "+d"(hi)
                     : "b"((uint32_t)(in >> 32)), "c"((uint32_t)in), "D"((uint32_t)(out >> 32)),
                       "S"((uint32_t)out), [page] "m"(code_page)
                     : "memory", "cc");
    return lo | (uint64_t)hi << 32;
}
#endif

static uint64_t call_with(uint64_t input, const uint64_t *words, unsigned n)
{
    memcpy(area[INPUT], words, n * 8);
    return call(input, (unsigned long)area[INPUT], 0);
}

/* --- leaves, the page, time --- */

static void leaves(void)
{
    uint32_t r[4];

    cpuid(0x40000000, 0, r);
    CHECK(r[0] >= 0x40000006 && r[1] == 0x7263694d && r[2] == 0x666f736f && r[3] == 0x76482074);
    cpuid(0x40000001, 0, r);
    CHECK_EQ(r[0], 0x31237648);
    cpuid(0x40000003, 0, r);
    CHECK_EQ(r[0] & 0xa7e, 0xa7e);
    cpuid(0x40000100, 0, r);
    CHECK_EQ(r[1], 0x566e6558);
    cpuid(0x40000102, 0, r);
    CHECK_EQ(r[1], 0x40000200);
    wr(OS_ID, 0x8100000000000001ull);
    wr(CALL_PAGE, on(CODE));
    CHECK_EQ(rd(CALL_PAGE), on(CODE));
    CHECK_EQ(call(8, 0, 0), 0); /* a long spin */
    CHECK_EQ(call(0x7777, 0, 0), 2);
    CHECK_EQ(rd(VP_INDEX), 0);
}

static uint64_t high_product(uint64_t a, uint64_t b)
{
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32, mid = ah * bl + (al * bl >> 32);

    return ah * bh + (mid >> 32) + ((al * bh + (uint32_t)mid) >> 32);
}

static void time_goes_on(void)
{
    const volatile uint64_t *page = (const uint64_t *)area[TSC];
    uint64_t last = rd(REF_COUNT), first = last, ns = time_ns(), by_page, worst = 0;

    wr(TSC_PAGE, on(TSC));
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t now = rd(REF_COUNT);

        CHECK(now >= last);
        last = now;
        if (!(uint32_t)page[0])
            continue; /* this machine's TSC is not to be trusted */
        by_page = high_product(rdtsc(), page[1]) + page[2];
        now = rd(REF_COUNT);
        CHECK(by_page + 1 >= last && by_page <= now + 1);
        worst = now - last > worst ? now - last : worst;
    }
    SPIN(rd(REF_COUNT) - first > 50 * MS);
    ns = (time_ns() - ns) / 100;
    last = rd(REF_COUNT) - first;
    CHECK(last + MS >= ns && last <= ns + 1000 * MS);
    print("viridian: the TSC page is %s, two reads of the count at most %u units apart\n",
          (uint32_t)page[0] ? "used" : "not used", (unsigned)worst);
    CHECK(rd(MSR(0x22)) > 10000000 && rd(MSR(0x23)) == 100000000);
}

/* --- interrupts --- */

static void assist(void)
{
    unsigned n = got[0][0x61];

    wr(ASSIST, on(WORD));
    use_assist = true;
    for (unsigned i = 0; i < 100; i++) {
        wr(ICR, 0x40061 | 0x4000); /* to itself */
        SPIN(got[0][0x61] > n + i);
    }
    CHECK_EQ(got[0][0x61], n + 100);
    CHECK(lazily >= 50);
    /* Two at once: the first one's end is told, or the second would not come. */
    wr(ICR, 0x44071);
    wr(ICR, 0x44052);
    SPIN(got[0][0x52]);
    CHECK(got[0][0x71] == 1 && got[0][0x52] == 1);
    print("viridian: %u ends of 102 without an exit\n", lazily);
    use_assist = false;
    wr(ASSIST, 0);
}

static volatile bool stop;

static void listener(void *unused)
{
    apic_on();
    while (!stop)
        __asm__ volatile("sti; hlt; cli" ::: "memory");
}

static void ipis(void)
{
    const uint64_t some[] = {0x93, 2}, set[] = {0x94, 0, 1, 2}, all[] = {0x95, 1, 0};

    CHECK_EQ(vcpu_run(1, listener, NULL), 0);
    CHECK_EQ(call(0x1000b, 0x92, 2), 0);
    SPIN(got[1][0x92]);
    CHECK_EQ(got[1][0x92], 1);
    CHECK_EQ(call_with(0xb, some, 2), 0);
    SPIN(got[1][0x93]);
    CHECK_EQ(call_with(1 << 17 | 0x15, set, 4), 0);
    SPIN(got[1][0x94]);
    CHECK_EQ(call_with(0x15, all, 3), 0);
    SPIN(got[1][0x95] && got[0][0x95]);
    CHECK(got[1][0x93] == 1 && got[1][0x94] == 1 && got[1][0x95] == 1 && got[0][0x95] == 1);
    CHECK(!got[0][0x92] && !got[0][0x93] && !got[0][0x94]);
    stop = true;
    CHECK_EQ(call(0x1000b, 0x96, 2), 0);
    CHECK(vcpu_wait(1));
}

/* turn 2n: the page shows n. In between it may show either. */
static volatile uint32_t turn, looked;
static volatile unsigned stale, looks;

static void reader(void *page)
{
    while (turn != ~0u) {
        uint32_t before = turn, value = *(volatile uint32_t *)page;

        if (!(before & 1) && before == turn) {
            stale += value != before / 2;
            looked = before;
            looks++;
        }
    }
}

static void remote_flush(void)
{
    volatile uint32_t *page = scratch_va(3);
    uint64_t flush[] = {0, 1, 2};

    pte_set((const void *)page, va_mfn(area[ONE]) * PAGE | 0x63);
    CHECK_EQ(vcpu_run(1, reader, (void *)page), 0);
    for (uint32_t n = 1; n <= 300; n++) {
        unsigned to = n & 1 ? OTHER : ONE;

        SPIN(looked == 2 * n - 2);
        *(uint32_t *)area[to] = n;
        turn = 2 * n - 1;
        pte_set((const void *)page, va_mfn(area[to]) * PAGE | 0x63);
        if (n & 4)
            CHECK_EQ(call_with(1ull << 32 | 3, flush, 3), 1ull << 32);
        else
            CHECK_EQ(call_with(2, flush, 3), 0);
        turn = 2 * n;
    }
    SPIN(looked == 600);
    CHECK_EQ(looked, 600);
    turn = ~0u;
    CHECK(vcpu_wait(1));
    CHECK_EQ(stale, 0);
    print("viridian: 300 remote flushes, %u looks of the other vCPU, none of them stale\n", looks);
}

/* --- timers --- */

static void direct_timer(void)
{
    uint64_t now = rd(REF_COUNT);
    unsigned ticks = got[0][0xec];

    wr(TIMER(3), 1 << 12 | 0xec << 4 | 8);
    wr(COUNT(3), now + 20 * MS);
    SPIN(got[0][0xec] > ticks);
    CHECK_EQ(got[0][0xec], ticks + 1);
    CHECK(rd(REF_COUNT) >= now + 20 * MS);
    CHECK_EQ(rd(TIMER(3)) & 1, 0);
    wr(TIMER(3), 1 << 12 | 0xed << 4 | 2);
    wr(COUNT(3), 5 * MS);
    wr(TIMER(3), 1 << 12 | 0xed << 4 | 3);
    SPIN(got[0][0xed] >= 10);
    wr(TIMER(3), 0);
    CHECK(got[0][0xed] >= 10);
    CHECK(rd(REF_COUNT) >= now + 70 * MS);
}

static void timer_message(void)
{
    volatile uint32_t *slot = (volatile uint32_t *)(area[MESSAGES] + 2 * 256);
    uint64_t now;

    wr(SIMP, on(MESSAGES));
    wr(SCONTROL, 1);
    wr(SINT(2), 0x72);
    now = rd(REF_COUNT);
    wr(COUNT(0), now + 10 * MS);
    wr(TIMER(0), 2 << 16 | 1);
    SPIN(got[0][0x72]);
    CHECK_EQ(got[0][0x72], 1);
    CHECK(slot[0] == 0x80000010 && ((volatile uint8_t *)slot)[4] == 24 && slot[4] == 0);
    CHECK_EQ(slot[6] | (uint64_t)slot[7] << 32, now + 10 * MS);
    CHECK((slot[8] | (uint64_t)slot[9] << 32) >= now + 10 * MS);
    wr(TIMER(1), 2 << 16 | 8); /* the next one has to wait for its place */
    wr(COUNT(1), 1);
    SPIN(((volatile uint8_t *)slot)[5] & 1);
    CHECK(((volatile uint8_t *)slot)[5] & 1);
    CHECK_EQ(got[0][0x72], 1);
    slot[0] = 0;
    wr(EOM, 0);
    SPIN(got[0][0x72] == 2);
    CHECK(got[0][0x72] == 2 && slot[0] == 0x80000010 && slot[4] == 1);
    slot[0] = 0;
    wr(EOM, 0);
    wr(SINT(2), 0x10000);
    wr(SIMP, 0);
}

/* --- attacks --- */

static bool spared(uint32_t msr)
{
    return msr == MSR(3) || msr == ICR || msr == CRASH_CTL || msr == OS_ID;
}

static void any_value(void)
{
    static const uint64_t values[] = {
        0, 1, ~0ull, 1ull << 63, 0x90000001, 0xfee00001, 1ull << 45 | 1, 0x10010, 0x81ff9};
    uint64_t v;
    unsigned taken = 0, refused = 0;

    for (uint32_t msr = MSR(0); msr < MSR(0x210); msr++) {
        for (unsigned i = 0; i < ARRAY_SIZE(values) && !spared(msr); i++)
            wrmsr_ok(msr, values[i]) ? taken++ : refused++;
        rdmsr_ok(msr, &v) ? taken++ : refused++;
    }
    for (unsigned n = 0; n < 4; n++)
        wr(TIMER(n), 0);
    wr(TPR, 0);
    wr(CALL_PAGE, on(CODE));
    print("viridian: %u accesses taken, %u refused\n", taken, refused);
    CHECK(taken > 200 && refused > 300);
    CHECK(!wrmsr_ok(SIMP, 0x90000001) && !wrmsr_ok(ASSIST, 0xfee00001) && !wrmsr_ok(TSC_PAGE, ~0ull));
    CHECK(!wrmsr_ok(CALL_PAGE, 0x90000001));
}

static void bad_calls(void)
{
    static const uint64_t places[] = {0x90000000, 0xfee00000, ~0ull << 3, ~0xfffull, 1ull << 45, 4, 0xff8};
    static const uint8_t codes[] = {2, 3, 8, 0xb, 0x13, 0x14, 0x15};
    const uint64_t nobody[] = {0x93, ~3ull}, banks[] = {0x93, 0, ~0ull};

    for (unsigned c = 0; c < sizeof(codes); c++)
        for (unsigned p = 0; p < ARRAY_SIZE(places); p++)
            for (unsigned bits = 0; bits < 64; bits++) {
                (void)call(1ull << bits | codes[c], places[p], ~0ull);
                (void)call((1ull << 32 | 0x3ffull << 17 | codes[c]) ^ 1ull << bits, places[p], ~0ull);
            }
    CHECK_EQ(call(2, 0x90000000, 0), 5);
    CHECK_EQ(call(0xb, 0xfee00000, 0), 5);
    CHECK_EQ(call(0xb, 4, 0), 4);
    CHECK_EQ(call_with(0xb, nobody, 2), 0);
    CHECK_EQ(call_with(0x3ffull << 17 | 0x15, banks, 3), 3);
    CHECK_EQ(call(0x1000b, 3, 1), 5);
}

/* The page of messages goes while a timer is to write there. */
static void page_goes(void)
{
    xen_pfn_t gfn = va_pfn(area[LOST]);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};
    unsigned n = got[0][0x73];

    set_xen_guest_handle(r.extent_start, &gfn);
    wr(SIMP, on(LOST));
    wr(SCONTROL, 1);
    wr(SINT(3), 0x73);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 1);
    wr(COUNT(2), rd(REF_COUNT) + MS);
    wr(TIMER(2), 3 << 16 | 1);
    SPIN(got[0][0x73] > n);
    CHECK_EQ(got[0][0x73], n + 1);
    wr(SIMP, 0);
    CHECK(!wrmsr_ok(SIMP, on(LOST)));
}

HOSTILE(viridian)
{
    uint64_t crash_at;

    hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 0);
    trap_hook = interrupt;
    apic_on();
    leaves();
    if (test_failed)
        return;
    time_goes_on();
    assist();
    ipis();
    remote_flush();
    direct_timer();
    timer_message();
    any_value();
    bad_calls();
    page_goes();
    crash_at = rd(REF_COUNT) + 3000 * MS; /* so much was refused that Krypton's log has no line for it now */
    SPIN(rd(REF_COUNT) > crash_at);
    for (unsigned i = 0; i < 5; i++)
        wr(CRASH(i), 0xabc0 + i);
    wr(CRASH_CTL, 1ull << 63);
}
