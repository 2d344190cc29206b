/*
 * Attacks of a PVH or HVM guest on Krypton (attack=NAME,...): whatever state of the processor it can make, every MSR and port, memory
 * that is not there, descriptors that are none, and memory that changes under everybody's feet. Each ends by itself and says so, or dies
 * with a reason in Krypton's log (test/boot/test_8_hostile.py and test_8_hvm_hostile.py say which). A trap is an answer as good as any.
 */
#include "hvm.h"

#define HOLE   0x80001000ul
#define BIT(n) (1ull << (n))

#ifdef __x86_64__
#define STR_AX "rax"
#define STR_DX "rdx"
#define STR_SI "rsi"
#define STR_DI "rdi"
#define STR_SP "rsp"
#define B      "(%%rbx)"
#else
#define STR_AX "eax"
#define STR_DX "edx"
#define STR_SI "esi"
#define STR_DI "edi"
#define STR_SP "esp"
#define B      "(%%ebx)"
#endif

void modes_trip(void);
extern uint64_t gdt_more[12], idt[512], table_l2[2048];

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252ull;

    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static bool time_left(unsigned ms)
{
    return time_ns() - attack_began < ms * 1000000ull;
}

/* --- control registers, EFER, debug registers, XCR0 --- */

#define WRITE_REGISTER(reg, v)                                                                               \
    ({                                                                                                       \
        unsigned long value_ = (unsigned long)(v);                                                           \
        TRAPS("mov %0, %" reg, "r"(value_));                                                                 \
    })

static unsigned long cr0_now(void)
{
    unsigned long v;

    __asm__ volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}

static unsigned long cr4_now(void)
{
    unsigned long v;

    __asm__ volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}

/*
 * Keeps what this code needs: protection, paging, PAE. Not CR8: QEMU 10 aborts when it is written while a virtual interrupt waits. And
 * not two things for which a processor raises #GP: NW without CD, which QEMU takes, and refuses the guest after its next exit; and bits of
 * CR4 that are none, at which QEMU leaves the guest as if its state had been refused. Either is that guest's end there.
 */
#define CR4_KNOWN 0x3507fful

HOSTILE(control_registers)
{
    unsigned long cr0 = cr0_now(), cr4 = cr4_now();
    unsigned taken = 0;

    while (time_left(4000)) {
        uint64_t r = next_random();

        uint64_t v = (cr0 & 0x80000001) | (r & (r & 1 ? 0xe005003e : ~0ull));

        if (v & BIT(29))
            v |= BIT(30);
        if (!WRITE_REGISTER("%cr0", v))
            taken++;
        WRITE_REGISTER("%cr0", cr0);
        if (!WRITE_REGISTER("%cr4", (cr4 & 0x20) |
                                        ((1ul << r % 32 | (r & 2 ? 1ul << (r >> 8) % 32 : 0)) & CR4_KNOWN)))
            taken++;
        WRITE_REGISTER("%cr4", cr4);
        if (wrmsr_ok(0xc0000080, (sizeof(long) == 8 ? 0x500 : 0) | (r >> 3 & 0x7fff)))
            taken++;
        wrmsr_ok(0xc0000080, sizeof(long) == 8 ? 0xd01 : 0);
        TRAPS("xor %%ecx, %%ecx; mov %0, %%eax; xor %%edx, %%edx; xsetbv", "m"(r));
        if (r & 4)
            WRITE_REGISTER("%dr7", r & 0x33330000);
        WRITE_REGISTER("%dr6", r);
        WRITE_REGISTER("%dr0", r);
        WRITE_REGISTER("%dr7", 0x400);
        WRITE_REGISTER("%cr2", r);
    }
    print("  %u values taken\n", taken);
    CHECK(taken > 100);
}

HOSTILE(mode_switches)
{
    unsigned n = 0;

    while (time_left(4000)) {
        modes_trip();
        n++;
    }
    print("  %u trips\n", n);
    CHECK(n > 50);
}

/* --- MSRs --- */

static void try_msr(uint32_t msr, unsigned *readable, unsigned *writable)
{
    uint64_t v, w;

    if (msr == 0xc0000080 || msr == 0x40000000)
        return; /* EFER has its own test; the hypercall page's would overwrite us */
    if (rdmsr_ok(msr, &v))
        ++*readable;
    else
        v = 0;
    if (wrmsr_ok(msr, ~0ull) | wrmsr_ok(msr, next_random()) | wrmsr_ok(msr, 1))
        ++*writable;
    if (!wrmsr_ok(msr, v))
        return;
    (void)rdmsr_ok(msr, &w);
}

HOSTILE(every_msr)
{
    static const uint32_t ranges[][2] = {
        {0, 0x2000}, {0x40000000, 0x40000200}, {0xc0000000, 0xc0002000}, {0xc0010000, 0xc0012000}};
    unsigned readable = 0, writable = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        for (uint32_t m = ranges[i][0]; m < ranges[i][1]; m++)
            try_msr(m, &readable, &writable);
    for (unsigned i = 0; i < 2000; i++)
        try_msr((uint32_t)next_random(), &readable, &writable);
    print("  %u can be read, %u written\n", readable, writable);
    CHECK(readable > 20 && readable < 400 && writable < 400);
}

/* --- ports --- */

HOSTILE(every_port)
{
    static char buf[64];

    for (unsigned port = 0; port < 0x10000; port++) {
        uint32_t a;

        __asm__ volatile("inb %w1, %b0" : "=a"(a) : "d"(port));
        if (port % 3 == 0)
            __asm__ volatile("inl %w1, %0" : "=a"(a) : "d"(port));
        if (port == 0xe9 || (port >= 0xcf8 && port < 0xd00))
            continue;
        __asm__ volatile("outb %b0, %w1" ::"a"(a), "d"(port));
        if (port % 5 == 0)
            __asm__ volatile("outw %w0, %w1" ::"a"((uint16_t)next_random()), "d"(port));
        if (port % 7 == 0)
            __asm__ volatile("outl %0, %w1" ::"a"((uint32_t)next_random()), "d"(port));
        if (port % 256 == 1) {
            unsigned long n = 16, to = (unsigned long)buf;

            __asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"(port) : "memory");
            n = 16;
            to = (unsigned long)buf;
            __asm__ volatile("rep outsl" : "+S"(to), "+c"(n) : "d"(port) : "memory");
            TRAPS("mov $4, %%ecx; mov $0x10, %%edi; mov %0, %%edx; rep insl",
                  "m"(port)); /* to an unmapped page */
            TRAPS("mov $0x1000, %%ecx; mov $0x10, %%esi; mov %0, %%edx; rep outsb", "m"(port));
        }
    }
}

static char port_buffer[64];

static void one_access(uint32_t port)
{
    uint64_t r = next_random();
    uint32_t v = r & 1 ? (uint32_t)(r >> 32) : 1u << (r >> 32) % 32;
    unsigned long at = (unsigned long)port_buffer, n = 1 + (r >> 8) % 16;

    switch (r >> 1 & 7) {
    case 0:
        __asm__ volatile("inb %w1, %b0" : "+a"(v) : "d"(port));
        break;
    case 1:
        __asm__ volatile("inw %w1, %w0" : "+a"(v) : "d"(port));
        break;
    case 2:
        __asm__ volatile("inl %w1, %0" : "+a"(v) : "d"(port));
        break;
    case 3:
        __asm__ volatile("rep insl" : "+D"(at), "+c"(n) : "d"(port) : "memory");
        break;
    case 4:
        __asm__ volatile("rep outsw" : "+S"(at), "+c"(n) : "d"(port) : "memory");
        break;
    case 5:
        __asm__ volatile("outw %w0, %w1" ::"a"(v), "d"(port));
        break;
    case 6:
        __asm__ volatile("outl %0, %w1" ::"a"(v), "d"(port));
        break;
    default:
        __asm__ volatile("outb %b0, %w1" ::"a"(v), "d"(port));
    }
}

/* The device model's: whatever its devices can be told, in any order, DMA to any place too. Not what ends or resets the machine. */
HOSTILE(device_ports)
{
    static const struct {
        uint16_t first, count;
    } range[] = {{0, 0x100},     {0x170, 8},     {0x1f0, 8},     {0x1ce, 4},      {0x370, 8},
                 {0x3b0, 0x30},  {0x3f0, 0x10},  {0x4d0, 2},     {0x510, 12},     {0xae00, 0x20},
                 {0xaf00, 0x20}, {0xb000, 0x40}, {0xb100, 0x40}, {0xc000, 0x200}, {0xcfc, 4}};
    unsigned accesses = 0;

    while (time_left(10000)) {
        unsigned i = (unsigned)(next_random() % ARRAY_SIZE(range));
        uint32_t port = range[i].first + (uint32_t)(next_random() % range[i].count);

        if ((port >= 0x61 && port <= 0x64) || (port >= 0x8f && port <= 0x92) ||
            (port >= 0xb001 && port <= 0xb005))
            continue;
        if (range[i].first == 0xcfc) {
            uint32_t where = 1u << 31 | (next_random() & 0x3ffc);

            __asm__ volatile("outl %0, %w1" ::"a"(where), "d"(0xcf8));
        }
        one_access(port);
        accesses++;
    }
    print("  %u accesses\n", accesses);
    CHECK(accesses > 500);
}

/* --- memory that is not there --- */

#define AT_HOLE(insn)                                                                                        \
    do {                                                                                                     \
        unsigned long at_ = HOLE + (next_random() & 0xfff);                                                  \
        TRAPS(insn, "b"(at_));                                                                               \
        at_ = 0xfee00000 + (next_random() & 0xfff);                                                          \
        TRAPS(insn, "b"(at_));                                                                               \
    } while (0)

static void every_instruction(void)
{
    AT_HOLE("mov " B ", %%eax");
    AT_HOLE("mov %%ax, " B);
    AT_HOLE("movb $7, " B);
    AT_HOLE("movl $0x12345678, " B);
    AT_HOLE("xchg %%eax, " B);
    AT_HOLE("lock; cmpxchg %%ecx, " B);
    AT_HOLE("lock; addl $1, " B);
    AT_HOLE("orb $1, " B);
    AT_HOLE("testl $5, " B);
    AT_HOLE("cmpw $5, " B);
    AT_HOLE("notl " B);
    AT_HOLE("bts %%eax, " B);
    AT_HOLE("movzbl " B ", %%eax");
    AT_HOLE("movsbl " B ", %%ecx");
    AT_HOLE("fldl " B);
    AT_HOLE("fninit; fstpl " B);
    AT_HOLE("movups " B ", %%xmm0");
    AT_HOLE("movups %%xmm0, " B);
    AT_HOLE("fxsave " B);
    AT_HOLE("lgdt " B);
    AT_HOLE("sgdt " B);
    AT_HOLE("lldt " B);
    AT_HOLE("cmpxchg8b " B);
    AT_HOLE("clflush " B);
    AT_HOLE("rep; nop; adcl $1, " B);
}

HOSTILE(memory_holes)
{
    TRAPS("fninit");
    while (time_left(4000)) {
        every_instruction();
        for (unsigned i = 0; i < 8; i++) {
            unsigned long from = next_random() & 1 ? HOLE : (unsigned long)scratch_va(2),
                          to = HOLE + 0x800 + i;

            TRAPS("mov %0, %%edi; mov %1, %%esi; mov $70, %%ecx; rep movsb", "m"(to), "m"(from));
            TRAPS("mov %0, %%edi; mov $3000, %%ecx; rep stosl", "m"(to));
            TRAPS("mov %0, %%esi; mov $9, %%ecx; repe cmpsb", "m"(to));
        }
    }
}

/* The places of devices, Krypton's and the device model's, and of ROMs: any instruction, any operand. */
HOSTILE(device_holes)
{
    static const uint32_t place[] = {0xfec00000, 0xfed00000, 0xfee00000, 0xfed40000, 0xa0000,
                                     0xb8000,    0xc0000,    0xe0000,    0xf0000,    0xf0000000,
                                     0xf2000000, 0xf3000000, 0xfc000000, 0xfffe0000};
    unsigned rounds = 0;

    while (time_left(8000)) {
        unsigned long at =
            place[next_random() % ARRAY_SIZE(place)] + (next_random() & (rounds & 1 ? 0xfff : 0x3f8));
        if (at >= 0xfee00200 && at < 0xfee00400) /* an INIT of its own making would be this vCPU's end */
            at = 0xfee00000 + (at & 0x1ff);
        uint32_t value = next_random() & 1 ? (uint32_t)next_random() : 1u << next_random() % 32;

        TRAPS("mov %1, %%eax; mov %%eax, " B, "b"(at), "m"(value));
        TRAPS("mov " B ", %%eax", "b"(at));
        TRAPS("mov %1, %%eax; mov %%al, " B, "b"(at), "m"(value));
        TRAPS("mov " B ", %%ax", "b"(at + 3));
        TRAPS("lock; xadd %%ecx, " B, "b"(at));
        TRAPS("movups " B ", %%xmm0; movups %%xmm0, " B, "b"(at));
        TRAPS("mov %0, %%esi; mov %0, %%edi; mov $7, %%ecx; rep movsb", "m"(at));
        TRAPS("mov %0, %%edi; mov %1, %%eax; mov $40, %%ecx; rep stosl", "m"(at), "m"(value));
        rounds++;
    }
    print("  %u rounds\n", rounds);
    CHECK(rounds > 20);
}

/* Page tables in a hole: the processor cannot go on. */
HOSTILE(tables_in_a_hole)
{
    table_l2[512] = 0x90000067; /* the table of 1 GiB to 1 GiB + 2 MiB */
    __asm__ volatile("mov %%cr3, %%" STR_AX "; mov %%" STR_AX ", %%cr3; mov 0x40000000, %%al" ::: STR_AX);
    test_fail("went on");
}

HOSTILE(code_in_a_hole)
{
    ((void (*)(void))HOLE)();
    test_fail("went on");
}

/* --- ends --- */

HOSTILE(triple_fault)
{
    static const struct {
        uint16_t limit;
        unsigned long base;
    } __attribute__((packed)) none = {0, 0};

    __asm__ volatile("lidt %0; ud2" ::"m"(none));
}

/* Not hostile at all: for whoever looks what such a guest costs. */
HOSTILE(rests)
{
    for (;;)
        HC2(sched_op, SCHEDOP_block, NULL);
}

/* A gate to a stack that is not there: a fault in delivering a fault in delivering a fault. */
HOSTILE(no_stack)
{
    TRAPS("nop");
    __asm__ volatile("mov $0x10, %%" STR_SP "; ud2" ::: "memory");
}

HOSTILE(asleep_for_ever)
{
    __asm__ volatile("cli; hlt");
    test_fail("woke up");
}

/* --- instructions of hypervisors --- */

HOSTILE(svm_instructions)
{
    for (unsigned i = 0; i < 20; i++) {
        unsigned long a = i % 2 ? (unsigned long)page_alloc() : (unsigned long)next_random();

        CHECK(TRAPS("mov %0, %%" STR_AX "; .byte 0x0f, 0x01, 0xd8", "m"(a))); /* VMRUN */
        CHECK(last_trap.nr == 6 || last_trap.nr == 13);
        CHECK(TRAPS("mov %0, %%" STR_AX "; .byte 0x0f, 0x01, 0xda", "m"(a))); /* VMLOAD */
        CHECK(TRAPS("mov %0, %%" STR_AX "; .byte 0x0f, 0x01, 0xdb", "m"(a))); /* VMSAVE */
        CHECK(TRAPS(".byte 0x0f, 0x01, 0xdc"));                               /* STGI */
        CHECK(TRAPS(".byte 0x0f, 0x01, 0xdd"));                               /* CLGI */
        CHECK(TRAPS("mov %0, %%" STR_AX "; .byte 0x0f, 0x01, 0xde", "m"(a))); /* SKINIT */
        CHECK(TRAPS("mov %0, %%" STR_AX "; .byte 0x0f, 0x01, 0xdf", "m"(a))); /* INVLPGA */
        CHECK(last_trap.nr == 6 || last_trap.nr == 13);
        CHECK(TRAPS(".byte 0x0f, 0x01, 0xc1")); /* VMCALL: the other vendor's */
        CHECK(!wrmsr_ok(0xc0000080, (sizeof(long) == 8 ? 0xd01 : 0) | BIT(12)));
        TRAPS("rsm");
        TRAPS("xor %%ecx, %%ecx; rdpmc");
        TRAPS("invd");
        TRAPS("wbinvd");
        TRAPS(".byte 0x0f, 0x01, 0xc8"); /* MONITOR */
        TRAPS(".byte 0x0f, 0x01, 0xc9"); /* MWAIT */
        TRAPS("mov $-1, %%eax; vmmcall");
        TRAPS("mov $0x80000000, %%eax; vmmcall");
    }
}

/* --- descriptors --- */

HOSTILE(descriptors)
{
    unsigned loaded = 0;

    while (time_left(4000)) {
        uint32_t sel = 0x20 + (uint32_t)(next_random() % 12) * 8 + (uint32_t)(next_random() & 7);

        for (unsigned i = 0; i < ARRAY_SIZE(gdt_more); i++)
            gdt_more[i] = next_random() | (next_random() & 3 ? BIT(47) : 0);
        loaded += !TRAPS("mov %0, %%eax; mov %%eax, %%es", "m"(sel));
        loaded += !TRAPS("mov %0, %%eax; mov %%eax, %%fs", "m"(sel));
        loaded += !TRAPS("mov %0, %%eax; mov %%eax, %%gs", "m"(sel));
        loaded += !TRAPS("mov %0, %%eax; lldt %%ax", "m"(sel));
        loaded += !TRAPS("mov %0, %%eax; ltr %%ax", "m"(sel));
        TRAPS("mov %0, %%eax; lar %%ax, %%ecx; lsl %%ax, %%ecx; verr %%ax; verw %%ax", "m"(sel));
        TRAPS("mov %%fs:0x10, %%eax");
        TRAPS("mov %%gs:0, %%eax; mov %%es:0x7fffffff, %%eax");
        uint32_t regs[4];
        cpuid(0, 0, regs);
        __asm__ volatile("mov %0, %%es; mov %1, %%fs; mov %1, %%gs" ::"r"(0x18), "r"(0));
        TRAPS("xor %%eax, %%eax; lldt %%ax");
    }
    print("  %u taken\n", loaded);
}

/* --- events without end --- */

static void ignore(struct trap_frame *f)
{
    *(volatile uint32_t *)0xfee000b0 = 0; /* end of interrupt */
}

HOSTILE(apic_storm)
{
    trap_hook = ignore;
    hvm_param_set(HVM_PARAM_CALLBACK_IRQ, 0);
    *(volatile uint32_t *)0xfee000f0 = 0x1ff;
    while (time_left(4000)) {
        uint32_t reg = (uint32_t)(next_random() % 0x40) * 16, v = (uint32_t)next_random();

        if ((v & 0xf0) == 0x10) /* exceptions' vectors, of which some come with an error code */
            v |= 0x20;
        if (reg == 0x300)
            v = (v & 0xff) | 0x40000 | (v >> 8 & 1 ? 0x80000 : 0); /* fixed, to itself */
        (void)*(volatile uint32_t *)(0xfee00000ul + reg);
        *(volatile uint32_t *)(0xfee00000ul + reg) = v;
        *(volatile uint32_t *)0xfee000f0 = 0x1ff;
        *(volatile uint32_t *)0xfee00080 = v >> 24 & 0x30;
        *(volatile uint32_t *)0xfee003e0 = 0xb;
        *(volatile uint32_t *)0xfee00320 = 0x40 + (v & 0x3f);
        *(volatile uint32_t *)0xfee00380 = 1 + (v & 0xff);
        __asm__ volatile("sti; nop; nop; cli");
    }
}

/* A breakpoint on the stack onto which the breakpoint's own exception is pushed. */
HOSTILE(debug_without_end)
{
    static char stack[256] __attribute__((aligned(16)));

    print("hostile: debug_without_end at work\n");
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7; mov %2, %%" STR_SP "; push %%" STR_AX
                     "; 1: jmp 1b" ::"r"(stack + 248 - 32),
                     "r"(0xd0003ul), "r"(stack + 248));
}

/* --- memory that changes --- */

static volatile bool stop;
static volatile unsigned at_work;

#define WORKERS 3

static void start_workers(void (*fn)(void *), void *arg)
{
    uint64_t end = time_ns() + 10000000000ull;

    stop = false;
    at_work = 0;
    for (unsigned i = 1; i <= WORKERS && vcpu_exists(i); i++)
        CHECK_EQ(vcpu_run(i, fn, arg), 0);
    while (!at_work && time_ns() < end)
        HC2(sched_op, SCHEDOP_yield, NULL);
    CHECK(at_work);
}

static void end_workers(void)
{
    stop = true;
    for (unsigned i = 1; i <= WORKERS && vcpu_exists(i); i++)
        CHECK(vcpu_wait(i));
}

static void hammer(void *page)
{
    volatile uint32_t *p = page;

    at_work++;
    while (!stop) {
        for (unsigned i = 0; i < 64; i++) {
            uint32_t v = p[i];

            p[i] = v + 1;
            p[(i * 17 & 63) + 64] = i;
        }
    }
}

HOSTILE(page_goes_while_used)
{
    char *page = page_alloc(), *other = page_alloc();
    xen_pfn_t pfn = va_pfn(page);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};
    struct xen_add_to_physmap a = {.domid = DOMID_SELF, .space = XENMAPSPACE_gmfn};
    unsigned rounds = 0;

    set_xen_guest_handle(r.extent_start, &pfn);
    start_workers(hammer, page);
    while (time_left(5000)) {
        CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 1);
        CHECK_EQ(HC2(memory_op, XENMEM_populate_physmap, &r), 1);
        a.idx = va_pfn(page);
        a.gpfn = va_pfn(other);
        CHECK_EQ(HC2(memory_op, XENMEM_add_to_physmap, &a), 0); /* away, over another one's place */
        CHECK_EQ(HC2(memory_op, XENMEM_populate_physmap, &r), 1);
        rounds++;
    }
    end_workers();
    print("  %u rounds\n", rounds);
    CHECK(rounds > 20);
}

/* The same through hypercalls: their arguments lie in a page that goes. */
static void ask(void *page)
{
    at_work++;
    while (!stop) {
        HC2(xen_version, XENVER_compile_info, (char *)page + 4000);
        HC2(xen_version, XENVER_get_features, page);
        HC2(multicall, page, 8);
        HC3(grant_table_op, GNTTABOP_copy, page, 4);
    }
}

HOSTILE(arguments_go_while_read)
{
    char *pages = page_alloc();
    xen_pfn_t pfn[2] = {va_pfn(pages), va_pfn(page_alloc())};
    struct xen_memory_reservation r = {.nr_extents = 2, .domid = DOMID_SELF};
    unsigned rounds = 0;

    set_xen_guest_handle(r.extent_start, pfn);
    start_workers(ask, pages);
    while (time_left(5000)) {
        CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 2);
        CHECK_EQ(HC2(memory_op, XENMEM_populate_physmap, &r), 2);
        rounds++;
    }
    end_workers();
    CHECK(rounds > 20);
}

/*
 * An instruction over two pages that is rewritten while its accesses to a hole, or to the device model's VGA memory, are emulated. Whatever its
 * bytes make together, it names no memory of ours but the page at 0x1000, and no register that matters.
 */
static char *code;

#define CODE_HOLE 0x70001000ul

static void rewrite(void *arg)
{
    static const uint8_t byte[8][8] = {
        {0x90, 0x66, 0xf0, 0xf3, 0x2e, 0x90, 0x90, 0x90}, /* a prefix, or none */
        {0x8b, 0x89, 0x01, 0xc7, 0x87, 0xa5, 0x8a, 0x31}, /* behind a5, MOVS, others begin */
        {0x04, 0x14, 0x04, 0x14, 0x04, 0x14, 0x04, 0x14}, /* EAX or EDX, and an address */
        {0x25, 0x25, 0x25, 0x25, 0x25, 0x25, 0x25, 0x25},
        {0x00, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00, 0x04}, /* which begins the second page */
        {0x10, 0x12, 0x10, 0x12, 0x10, 0x12, 0x10, 0x12},
        {0x00, 0x0a, 0x00, 0x0a, 0x00, 0x0a, 0x00, 0x0a},
        {0x70, 0x00, 0x70, 0x00, 0x70, 0x00, 0x70, 0x00},
    };

    at_work++;
    while (!stop) {
        uint64_t r = next_random();

        for (unsigned i = 0; i < 8; i++)
            ((volatile uint8_t *)code)[PAGE - 4 + i] = byte[i][r >> 8 * i & 7];
    }
}

unsigned long kept_sp;
void *code_entry;
#ifdef __x86_64__
#define CLOBBERED "rdx", "rsi", "rdi"
#else
#define CLOBBERED "edx", "esi", "edi"
#endif

static void anywhere(struct trap_frame *f)
{
    last_trap.happened = true;
    f->rip = trap_resume;
}

HOSTILE(code_changes_while_emulated)
{
    unsigned n = 0;

    code = page_alloc();
    page_alloc();
    memset(code, 0x90, PAGE + 64);
    ((uint8_t *)code)[PAGE + 60] = 0xc3;
    start_workers(rewrite, NULL);
    trap_hook = anywhere;
    while (time_left(5000)) {
        unsigned long a = CODE_HOLE, c = CODE_HOLE, count = 3;

        code_entry = code + PAGE - 8;
        last_trap.happened = false;
        __asm__ volatile("mov %%" STR_SP ", kept_sp; mov %2, %%" STR_DI "; mov %2, %%" STR_SI
                         "; mov %0, %%" STR_DX "; " SET_RESUME "call *code_entry; 1: mov kept_sp, %%" STR_SP
                         : "+a"(a), "+c"(count)
                         : "b"(c)
                         : "memory", "cc", CLOBBERED);
        n += !last_trap.happened;
    }
    trap_hook = NULL;
    end_workers();
    print("  %u times through\n", n);
    CHECK(n > 20);
}
