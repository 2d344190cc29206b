/*
 * Attacks on the ways between a guest and the hypervisor: forged frames, callbacks, stacks, SYSRET, exceptions without end,
 * I/O rights, MSRs, CPUID. Invariants: heads of arch/x86/pv/bounce.c, iret.c and arch/x86/metal/entry.S.
 */
#include "toolstack.h"

#define FLAG_TF 0x100ull

extern char trap_6[], event_callback[], failsafe_callback[];
extern char user_trap_stack_top[];

static long trap_set(uint8_t vector, uint64_t address)
{
    struct trap_info t[2] = {{vector, 0, FLAT_KERNEL_CS, address}, {0}};

    return HC1(set_trap_table, t);
}

static long callback_set(unsigned type, uint64_t address)
{
    struct callback_register r = {.type = (uint16_t)type, .address = address};

    return HC2(callback_op, CALLBACKOP_register, &r);
}

/* --- deaths that are right --- */

DEADLY(no_trap_handler, "#UD: no handler")
{
    trap_set(6, 0);
    HC1(set_trap_table, NULL);
    __asm__ volatile("ud2");
}

DEADLY(no_failsafe_handler, "failsafe callback: no handler")
{
    if (callback_set(CALLBACKTYPE_failsafe, 0) == 0)
        user_run_flags("\x0f\x0b", 2, 0xe033, 0x1237, 0x202);
}

#define STACK_ATTACK(id, sp)                                                                                 \
    DEADLY(id, "bad kernel stack")                                                                           \
    {                                                                                                        \
        HC2(stack_switch, FLAT_KERNEL_SS, sp);                                                               \
        user_run("\x0f\x0b", 2, 0xe033);                                                                     \
    }
STACK_ATTACK(kernel_stack_in_the_hypervisor, HV_ADDRESS + 0x10000)
STACK_ATTACK(kernel_stack_at_its_first_byte, 0xffff800000000008ull)
STACK_ATTACK(kernel_stack_not_canonical, 0x0000900000000000ull)
STACK_ATTACK(kernel_stack_not_mapped, 0x10000)
STACK_ATTACK(kernel_stack_wraps, 16)
STACK_ATTACK(kernel_stack_in_a_table, start_info->pt_base + 4096)
STACK_ATTACK(kernel_stack_in_the_m2p, 0xffff800000001000ull)

DEADLY(stack_pointer_into_the_hypervisor, "bad kernel stack")
{
    __asm__ volatile("mov $0xffff830000010000, %rax; mov %rax, %rsp; ud2");
}

DEADLY(page_faults_without_end, "bad kernel stack")
{
    trap_set(14, 0x10); /* the handler is not there: each fault faults again */
    __asm__ volatile("mov 0x20, %eax");
}

DEADLY(handler_in_the_hypervisor, "bad kernel stack")
{
    trap_set(14, HV_ADDRESS);
    __asm__ volatile("mov 0x20, %eax");
}

DEADLY(iret_frame_not_readable, "iret frame")
{
    __asm__ volatile("mov $0x30, %rsp; mov $23, %eax; syscall");
}

DEADLY(iret_frame_in_the_hypervisor, "iret frame")
{
    __asm__ volatile("mov $0xffff830000000000, %rax; mov %rax, %rsp; mov $23, %eax; syscall");
}

DEADLY(iret_without_user_tables, "without user page tables")
{
    uint64_t frame[9] = {0, 0, 0, 0, 0x1000, 0xe033, 0x202, 0x2000, 0xe02b};

    mmu_ext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
    __asm__ volatile("mov %0, %%rsp; mov $23, %%eax; syscall" ::"r"(frame) : "memory");
}

DEADLY(iret_in_a_multicall, "iret frame")
{
    struct multicall_entry m[2] = {{.op = __HYPERVISOR_iret}, {.op = __HYPERVISOR_iret}};

    __asm__ volatile("mov $0x30, %%r15; xchg %%r15, %%rsp; mov $13, %%eax; syscall" ::"D"(m), "S"(2ul)
                     : "memory");
}

/* --- return frames: nothing of them gives more than ring 3 --- */

/* iret with everything that a frame can say; whoever comes back comes by the failsafe callback or a fault. */
ATTACK(iret_forged_in_every_field)
{
    static const uint64_t rip[] = {0x800000000000ull,
                                   0xffff7fffffffffffull,
                                   HV_ADDRESS,
                                   0xffff800000000000ull,
                                   0x7ffffffffffeull,
                                   ~0ull,
                                   0x10};
    static const uint64_t cs[] = {0xe033, 0xe023, 0xe008, 0xe010, 0xe030, 0xe02b,
                                  0,      3,      0xffff, 0xe043, 7,      0x10033};

    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6); /* sets user memory and tables up */
    for (unsigned r = 0; r < ARRAY_SIZE(rip); r++)
        for (unsigned c = 0; c < ARRAY_SIZE(cs); c++) {
            long nr = user_enter_at(rip[r], user_stack, cs[c] | 3, 0xe02b, 0x202);

            CHECK(nr == 257 || nr == 13 || nr == 14 || nr == 6);
        }
    for (unsigned ss = 0; ss < 0x80; ss += 3)
        (void)user_enter_at(user_code, user_stack, 0xe033, 0xe000 + ss, 0x202);
    for (unsigned bit = 0; bit < 64; bit++)
        if (bit != 8 && bit != 18)
            CHECK_EQ(user_enter_at(user_code, user_stack, 0xe033, 0xe02b, 0x202 | 1ull << bit), 6);
}

/* VGCF_in_syscall asks for SYSRET; an address that is not canonical must not get there (CVE-2012-0217). */
ATTACK(sysret_to_what_is_not_canonical)
{
    static const uint64_t rip[] = {0x800000000000ull, 0x8000000000000000ull, 0xffff7ffffffffff0ull,
                                   HV_ADDRESS};

    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    iret_flags = VGCF_in_syscall;
    for (unsigned i = 0; i < ARRAY_SIZE(rip); i++) {
        long nr = user_enter_at(rip[i], user_stack, 0xe033, 0xe02b, 0x202);

        CHECK(nr == 257 || nr == 13 || nr == 14);
    }
    for (unsigned sp = 0; sp < ARRAY_SIZE(rip); sp++) /* any stack pointer goes */
        CHECK_EQ(user_enter_at(user_code, rip[sp], 0xe033, 0xe02b, 0x202), 6);
    CHECK_EQ(user_enter_at(user_code, user_stack, 0xe033, 0xe02b, 0x202 | FLAG_TF),
             6); /* the fault comes first */
    iret_flags = 0;
}

/* SYSCALL as the last two bytes below the hole: what it leaves in rcx is not canonical. */
ATTACK(syscall_at_the_end_of_the_lower_half)
{
    char *page = (char *)0x7ffffffff000ull, *code = page_alloc();
    uint64_t *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc(), m;
    long nr;

    memset(code, 0x90, PAGE);
    memcpy(code + PAGE - 2, "\x0f\x05", 2);
    l1[511] = pte_of(code, PTE_KERNEL);
    l2[511] = pte_of(l1, PTE_KERNEL);
    l3[511] = pte_of(l2, PTE_KERNEL);
    CHECK_EQ(page_protect(l1) | page_protect(l2) | page_protect(l3), 0);
    table_entry(page, 4, &m);
    CHECK_EQ(m & 0xff8, 255 * 8);
    CHECK_EQ(mmu_one(m, pte_of(l3, PTE_KERNEL)), 0);
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    nr = user_enter_at((uint64_t)page + PAGE - 2, user_stack, 0xe033, 0xe02b, 0x202);
    CHECK_EQ(nr, 258);
    CHECK_EQ(user_frame.rip, 0x800000000000ull);
    /* The kernel makes a hypercall there: it has nowhere to go on. */
    CHECK(TRAPS("mov $0x7ffffffffffe, %%rcx; mov $17, %%eax; xor %%edi, %%edi; push %%rcx; ret"));
    CHECK(last_trap.nr == 13 || last_trap.nr == 257);
}

/* --- exceptions in numbers --- */

static volatile uint64_t steps;
static void step_on(struct trap_frame *f)
{
    if (f->nr == 1 && steps++ < 5000)
        return; /* TF stays: the next instruction traps too, hypercalls and emulated ones as well */
    f->rflags &= ~FLAG_TF;
}

ATTACK(single_step_through_everything)
{
    uint64_t v;

    trap_hook = step_on;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    for (unsigned i = 0; i < 20; i++) {
        HC2(xen_version, XENVER_version, 0);
        __asm__ volatile("mov %%cr0, %0; mov %%cr4, %0; ud2a; .ascii \"xen\"; cpuid"
                         : "=&r"(v)::"rax", "rbx", "rcx", "rdx");
        HC2(sched_op, SCHEDOP_yield, NULL);
    }
    __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
    trap_hook = NULL;
    CHECK(steps > 100);
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
}

static void pass_over(struct trap_frame *f)
{
    f->rip += f->nr == 6 ? 2 : 0;
}

/* A breakpoint on the very stack to which the frame of its own exception is written; on the hypercall's operand; on an entry
 * of the trap handler: never inside the hypervisor. */
ATTACK(breakpoints_where_the_hypervisor_writes)
{
    static struct xen_feature_info info;
    uint64_t sp;

    trap_hook = pass_over;
    __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
    for (unsigned i = 0; i < 64; i++) {
        CHECK_EQ(HC2(set_debugreg, 0, (sp & ~7ull) - i * 8), 0);
        CHECK_EQ(HC2(set_debugreg, 1, (uint64_t)user_trap_stack_top - i * 8), 0);
        CHECK_EQ(HC2(set_debugreg, 2, &info), 0);
        CHECK_EQ(HC2(set_debugreg, 7, 0x0bbb002a), 0); /* data, read and write */
        __asm__ volatile("ud2");
        HC2(xen_version, XENVER_get_features, &info);
        HC2(set_debugreg, 7, 0);
    }
    trap_hook = NULL;
    CHECK_EQ(HC2(set_debugreg, 0, 0) | HC2(set_debugreg, 1, 0) | HC2(set_debugreg, 2, 0), 0);
}

ATTACK(alignment_checks_without_end)
{
    static const char code[] =
        "\x9c\x48\x81\x0c\x24\x00\x00\x04\x00\x9d\x8b\x44\x24\x01\x0f\x0b"; /* AC on; mov 1(%rsp), %eax */

    for (unsigned i = 0; i < 200; i++) {
        long nr = user_run(code, sizeof(code) - 1, 0xe033);

        CHECK(nr == 17 || nr == 6);
    }
}

ATTACK(int_n_for_all_n)
{
    char code[4] = {(char)0xcd, 0, 0x0f, 0x0b};

    for (unsigned n = 0; n < 256; n++) {
        long nr;

        code[1] = (char)n;
        nr = user_run(code, 4, 0xe033);
        CHECK(nr == 13 || nr == n);
        CHECK(nr == 13 || n == 3 || n == 4 || n == 128);
    }
}

/* --- ports --- */

static uint32_t in32(uint16_t port)
{
    uint32_t v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port));
    return v;
}

/* A domain without devices may ask for IOPL; nobody answers it on the bus. Among these ports are those that reset the machine,
 * raise an SMI, switch it off, and PCI's. */
ATTACK(ports_of_the_machine)
{
    struct physdev_set_iopl s = {.iopl = 3};
    static const uint16_t deadly[] = {0xcf9, 0x64, 0x92, 0xb2, 0x604, 0x605, 0x600, 0x20,
                                      0x21,  0xa0, 0x40, 0x43, 0x70,  0x71,  0x3f8};

    CHECK_EQ(HC2(physdev_op, PHYSDEVOP_set_iopl, &s), 0);
    for (unsigned port = 0; port < 0xfffd; port += 3)
        CHECK_EQ(in32((uint16_t)port), 0xffffffff);
    for (unsigned i = 0; i < ARRAY_SIZE(deadly); i++)
        for (unsigned v = 0; v < 256; v += 5)
            __asm__ volatile("outb %0, %1" ::"a"((uint8_t)v), "d"(deadly[i]));
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        __asm__ volatile("outl %0, %1" ::"a"(0x80000000u | devfn << 8), "d"((uint16_t)0xcf8));
        CHECK_EQ(in32(0xcfc), 0xffffffff);
        __asm__ volatile("outl %0, %1" ::"a"(0xffffffffu), "d"((uint16_t)0xcfc));
    }
    __asm__ volatile("outw %0, %1" ::"a"((uint16_t)0x2000), "d"((uint16_t)0x604)); /* q35: power off */
}

/* --- model-specific registers --- */

static bool rdmsr_ok(uint32_t msr, uint64_t *v)
{
    static volatile uint32_t lo, hi;
    bool trapped = TRAPS("mov %k2, %%ecx; rdmsr; mov %%eax, %0; mov %%edx, %1", "m"(lo), "m"(hi), "r"(msr));

    *v = lo | (uint64_t)hi << 32;
    return !trapped;
}

static bool wrmsr_ok(uint32_t msr, uint64_t v)
{
    return !TRAPS("mov %k0, %%ecx; mov %1, %%rdx; mov %%edx, %%eax; shr $32, %%rdx; wrmsr", "r"(msr), "r"(v));
}

/* Nothing of the hypervisor shows, nothing that is written takes effect. */
ATTACK(msr_probing)
{
    static const struct {
        uint32_t first, last;
    } range[] = {{0, 0x1fff},
                 {0x40000000, 0x400000ff},
                 {0xc0000000, 0xc00003ff},
                 {0xc0010000, 0xc00103ff},
                 {0xc0011000, 0xc00110ff}};
    uint64_t v;

    for (unsigned r = 0; r < ARRAY_SIZE(range); r++)
        for (uint32_t m = range[r].first; m <= range[r].last; m++) {
            if (rdmsr_ok(m, &v))
                CHECK(v < 0xffff800000000000ull || v > 0xffff87ffffffffffull || m == 0xc0000100 ||
                      m == 0xc0000101 || m == 0xc0000102);
            if (m >= 0xc0000100 && m <= 0xc0000103)
                continue;
            wrmsr_ok(m, 0);
            wrmsr_ok(m, ~0ull);
            wrmsr_ok(m, HV_ADDRESS);
        }
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17); /* SYSCALL still goes where it went */
    CHECK_EQ(user_run("\x0f\x05", 2, 0xe033), 258);
}

ATTACK(cpuid_probing)
{
    static const uint32_t first[] = {0, 0x40000000, 0x80000000, 0xc0000000, 0xfffffff0};

    for (unsigned i = 0; i < ARRAY_SIZE(first); i++)
        for (uint32_t leaf = first[i]; leaf < first[i] + (i == 4 ? 15 : 0x60); leaf++)
            for (uint32_t sub = 0; sub < 70; sub += sub < 4 ? 1 : 33) {
                uint32_t a = leaf, b, c = sub, d;

                __asm__ volatile("ud2a; .ascii \"xen\"; cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
                if (leaf == 1)
                    CHECK(!(c & 1u << 5) && c >> 31);
            }
}

ATTACK(control_registers)
{
    CHECK(TRAPS("mov $0x80000011, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; xsetbv"));
    CHECK(TRAPS("xor %%eax, %%eax; xor %%ecx, %%ecx; xor %%edx, %%edx; xsetbv"));
    CHECK(TRAPS("mov $1, %%eax; mov $1, %%ecx; xor %%edx, %%edx; xsetbv"));
    for (unsigned bit = 0; bit < 32; bit++) {
        uint64_t cr4 = 1ull << bit;

        (void)TRAPS("mov %0, %%cr4", "r"(cr4));
        __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
        CHECK_EQ(cr4 & ~0x5066cull, 0); /* TSD DE PAE MCE OSFXSR OSXMM FSGSBASE OSXSAVE */
        CHECK(cr4 & 0x20);
    }
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
}

/* --- what a fresh vCPU finds in its registers --- */

ATTACK(registers_at_the_start)
{
    uint8_t xmm[256];

    for (unsigned i = 0; i < 15; i++)
        CHECK(entry_regs[i] == 0 || entry_regs[i] == (uint64_t)start_info);
    __asm__ volatile(
        "movups %%xmm0, 0(%0); movups %%xmm1, 16(%0); movups %%xmm2, 32(%0); movups %%xmm3, 48(%0);"
        "movups %%xmm4, 64(%0); movups %%xmm5, 80(%0); movups %%xmm6, 96(%0); movups %%xmm7, 112(%0);"
        "movups %%xmm8, 128(%0); movups %%xmm9, 144(%0); movups %%xmm10, 160(%0); movups %%xmm11, 176(%0);"
        "movups %%xmm12, 192(%0); movups %%xmm13, 208(%0); movups %%xmm14, 224(%0); movups %%xmm15, "
        "240(%0)" ::"r"(xmm)
        : "memory");
    for (unsigned i = 0; i < sizeof(xmm); i++)
        CHECK_EQ(xmm[i], 0);
}
