/* Privileged instructions: ports, PCI configuration, MSRs, CPUID, bases, debug registers. */
#include "guest.h"

static uint32_t in32(uint16_t port)
{
    uint32_t v;

    __asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port));
    return v;
}
static uint16_t in16(uint16_t port)
{
    uint16_t v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "d"(port));
    return v;
}
static uint8_t in8(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "d"(port));
    return v;
}
static void out32(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "d"(port));
}
static void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "d"(port));
}

static long set_iopl(unsigned iopl)
{
    struct physdev_set_iopl s = {.iopl = iopl};

    return HC2(physdev_op, PHYSDEVOP_set_iopl, &s);
}

TEST(io_in_and_out)
{
    CHECK_EQ(set_iopl(1), 0);
    out8(0x70, 0x0f); /* RTC index: a register that survives */
    (void)in8(0x71);
    CHECK(!TRAPS("mov $0x80, %%dx; xor %%eax, %%eax; out %%al, %%dx; out %%ax, %%dx; out %%eax, %%dx; outb "
                 "%%al, $0x80"));
    CHECK(!TRAPS("mov $0x61, %%dx; in %%dx, %%al"));
}

TEST(io_needs_the_level)
{
    CHECK_EQ(set_iopl(4), -22);
    CHECK_EQ(set_iopl(0), 0);
    CHECK(TRAPS("mov $0x61, %%dx; in %%dx, %%al"));
    CHECK_EQ(last_trap.nr, 13);
    CHECK(TRAPS("outb %%al, $0x80"));
    CHECK_EQ(set_iopl(1), 0);
    CHECK(!TRAPS("outb %%al, $0x80"));
    CHECK_EQ(user_run("\xe6\x80\x0f\x0b", 4, 0xe033), 13); /* the user has level 1 only */
    CHECK_EQ(set_iopl(3), 0);
    CHECK_EQ(user_run("\xe6\x80\x0f\x0b", 4, 0xe033), 6);
    CHECK_EQ(user_run("\xfa\xfb\x0f\x0b", 4, 0xe033), 6); /* cli, sti: done by nobody, with level 3 */
    CHECK_EQ(set_iopl(1), 0);
}

TEST(io_bitmap)
{
    uint8_t *bits = page_alloc();
    struct physdev_set_iobitmap s = {.nr_ports = 1024};

    memset(bits, 0xff, 128);
    bits[0x80 / 8] = 0xfe;
    set_xen_guest_handle(s.bitmap, bits);
    CHECK_EQ(set_iopl(1), 0);
    CHECK_EQ(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &s), 0);
    CHECK_EQ(user_run("\xe6\x80\x0f\x0b", 4, 0xe033), 6);
    CHECK_EQ(user_run("\xe6\x81\x0f\x0b", 4, 0xe033), 13);
    CHECK_EQ(user_run("\xe7\x80\x0f\x0b", 4, 0xe033), 13);             /* 4 bytes reach beyond the one port */
    CHECK_EQ(user_run("\x66\xba\x00\x04\xee\x0f\x0b", 7, 0xe033), 13); /* beyond the map */
    s.nr_ports = 65537;
    CHECK_EQ(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &s), -22);
    s.nr_ports = 65536;
    set_xen_guest_handle(s.bitmap, (uint8_t *)HV_ADDRESS); /* read at each access: not allowed, not fatal */
    if (!HC2(physdev_op, PHYSDEVOP_set_iobitmap, &s))
        CHECK_EQ(user_run("\xe6\x80\x0f\x0b", 4, 0xe033), 13);
    set_xen_guest_handle(s.bitmap, (uint8_t *)0x10); /* not mapped */
    HC2(physdev_op, PHYSDEVOP_set_iobitmap, &s);
    CHECK_EQ(user_run("\xe6\x80\x0f\x0b", 4, 0xe033), 13);
    set_xen_guest_handle(s.bitmap, (uint8_t *)NULL);
    s.nr_ports = 0;
    CHECK_EQ(HC2(physdev_op, PHYSDEVOP_set_iobitmap, &s), 0);
}

TEST(io_strings)
{
    static uint8_t buf[16] = {0x12, 0x34, 0x56};
    void *at = buf;
    uint64_t n = 3;

    CHECK_EQ(set_iopl(1), 0);
    __asm__ volatile("rep outsb" : "+S"(at), "+c"(n) : "d"(0x80) : "memory");
    CHECK_EQ(n, 0);
    CHECK_EQ((uint64_t)at, (uint64_t)buf + 3);
    at = buf;
    n = 2;
    memset(buf, 0xcc, sizeof(buf));
    __asm__ volatile("rep insw" : "+D"(at), "+c"(n) : "d"(0x1234) : "memory"); /* nobody there */
    CHECK_EQ(n, 0);
    CHECK_EQ((uint64_t)at, (uint64_t)buf + 4);
    CHECK(buf[0] == 0xff && buf[3] == 0xff && buf[4] == 0xcc);
    at = buf + 3;
    n = 2;
    memset(buf, 0xcc, sizeof(buf));
    __asm__ volatile("std; rep insb; cld" : "+D"(at), "+c"(n) : "d"(0x1234) : "memory");
    CHECK(buf[3] == 0xff && buf[2] == 0xff && buf[1] == 0xcc && buf[4] == 0xcc);
    /* Into a page that cannot be written, from one that is the hypervisor's. */
    CHECK(TRAPS("mov $0x10, %%edi; mov $0x1234, %%edx; insb"));
    CHECK_EQ(last_trap.nr, 14);
    CHECK_EQ(last_trap.cr2, 0x10);
    CHECK(TRAPS("mov $0xffff830000000000, %%rdi; mov $0x1234, %%edx; insb"));
    CHECK(last_trap.nr == 13 || last_trap.nr == 14);
    CHECK(TRAPS("mov $0xffff830000000000, %%rsi; mov $0x80, %%edx; outsb"));
    CHECK(last_trap.nr == 13 || last_trap.nr == 14);
    CHECK(TRAPS("mov $0x800000000000, %%rsi; mov $0x80, %%edx; outsb"));
    CHECK(last_trap.nr == 13 || last_trap.nr == 14);
    CHECK(TRAPS("mov %0, %%rdi; mov $0x1234, %%edx; insb", "r"(start_info->pt_base))); /* a page table */
    CHECK_EQ(last_trap.nr, 14);
}

TEST(io_hypervisors_ports_are_not_there)
{
    CHECK_EQ(set_iopl(1), 0);
    CHECK_EQ(in8(0x20), 0xff); /* interrupt controllers */
    CHECK_EQ(in8(0xa1), 0xff);
    CHECK_EQ(in8(0x3f8 + 5), 0xff); /* our console's UART */
    out8(0x20, 0);
    CHECK(time_ns() != 0);
}

/* --- PCI --- */
static uint32_t pci(unsigned devfn, unsigned reg)
{
    out32(0xcf8, 0x80000000 | devfn << 8 | (reg & 0xfc));
    return in32(0xcfc);
}

TEST(pci_by_ports)
{
    uint32_t id;

    CHECK_EQ(set_iopl(1), 0);
    id = pci(0, 0);
    CHECK(id == 0x29c08086); /* q35's host bridge */
    CHECK_EQ(in32(0xcf8), 0x80000000);
    CHECK_EQ(in16(0xcfc), 0x8086);
    CHECK_EQ(in16(0xcfe), 0x29c0);
    CHECK_EQ(in8(0xcfd), 0x80);
    CHECK_EQ(pci(0x1e << 3 | 7, 0), 0xffffffff); /* nobody there */
    out32(0xcf8, 0);                             /* not enabled */
    CHECK_EQ(in32(0xcfc), 0xffffffff);
    CHECK(!TRAPS("mov $0xcf8, %%dx; in %%dx, %%al; in %%dx, %%ax; mov $0xcff, %%dx; in %%dx, %%eax"));
}

TEST(pci_bars_keep_what_is_written)
{
    uint32_t old, sized, devfn = 0x1f << 3 | 3; /* q35: SMBus; its BAR 4 is I/O */

    CHECK_EQ(set_iopl(1), 0);
    if (pci(devfn, 0) == 0xffffffff)
        return;
    old = pci(devfn, 0x20);
    out32(0xcfc, 0xffffffff);
    sized = in32(0xcfc);
    out32(0xcfc, old);
    CHECK_EQ(in32(0xcfc), old);
    CHECK(sized != old || !sized);
}

/* --- MSRs, CPUID --- */
#define MSR_READ(n)  TRAPS("mov %0, %%ecx; rdmsr", "i"(n))
#define MSR_WRITE(n) TRAPS("mov %0, %%ecx; mov $0x1234, %%eax; xor %%edx, %%edx; wrmsr", "i"(n))

TEST(msr_policy)
{
    CHECK(MSR_WRITE(0x1b));       /* APIC_BASE */
    CHECK(MSR_WRITE(0xc0000080)); /* EFER */
    CHECK(MSR_WRITE(0xc0000081)); /* STAR .. SFMASK */
    CHECK(MSR_WRITE(0xc0000082));
    CHECK(MSR_WRITE(0xc0000083));
    CHECK(MSR_WRITE(0xc0000084));
    CHECK(MSR_WRITE(0x174)); /* SYSENTER */
    CHECK(MSR_WRITE(0x176));
    CHECK(MSR_WRITE(0x1d9));      /* DEBUGCTL */
    CHECK(MSR_WRITE(0xc0010117)); /* VM_HSAVE_PA */
    CHECK(MSR_WRITE(0x277));      /* PAT */
    CHECK(MSR_WRITE(0x10));       /* TSC */
    CHECK(MSR_WRITE(0x6e0));      /* TSC deadline */
    CHECK(MSR_WRITE(0x830));      /* x2APIC ICR */
    CHECK(MSR_READ(0x830));
    CHECK(MSR_READ(0x3f));
    CHECK(MSR_READ(0xffffffff));
    CHECK(MSR_READ(0xc0000082));
    CHECK(!MSR_READ(0x277));
    CHECK(!MSR_READ(0x1b));
    CHECK(!MSR_READ(0x10));
    CHECK_EQ(user_run("\xb9\x10\x00\x00\x00\x0f\x32\x0f\x0b", 9, 0xe033), 13); /* rdmsr in user mode */
    CHECK_EQ(user_run("\xb9\x00\x01\x00\xc0\x0f\x30\x0f\x0b", 9, 0xe033), 13);
}

TEST(msr_bases)
{
    static uint64_t data[3] = {1, 2, 3};
    uint64_t a = (uint64_t)&data[1], v;

    __asm__ volatile("wrmsr" ::"c"(0xc0000100), "a"((uint32_t)a), "d"((uint32_t)(a >> 32)));
    __asm__ volatile("mov %%fs:0, %0" : "=r"(v));
    CHECK_EQ(v, 2);
    CHECK(TRAPS("mov $0xc0000100, %%ecx; xor %%eax, %%eax; mov $0x8000, %%edx; wrmsr"));
    CHECK_EQ(last_trap.nr, 13);
    CHECK(TRAPS("mov $0xc0000101, %%ecx; xor %%eax, %%eax; mov $0x8000, %%edx; wrmsr"));
    CHECK(TRAPS("mov $0xc0000102, %%ecx; xor %%eax, %%eax; mov $0x8000, %%edx; wrmsr"));
    CHECK_EQ(HC2(set_segment_base, SEGBASE_FS, 0), 0);
}

TEST(gs_bases_change_with_the_mode)
{
    static uint64_t kernel[1] = {0xaaa}, user[1] = {0xbbb};
    uint64_t v;

    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_KERNEL, kernel), 0);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_USER, user), 0);
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0xaaa);
    CHECK_EQ(user_run("\x65\x48\x8b\x04\x25\x00\x00\x00\x00\x0f\x05", 11, 0xe033),
             258); /* mov %gs:0, %rax; syscall */
    CHECK_EQ(user_frame.rax, 0xbbb);
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0xaaa);
    /* User space loads a null selector: on return the kernel's base is untouched. */
    CHECK_EQ(user_run("\x31\xc0\x8e\xe8\x0f\x05", 6, 0xe033), 258); /* xor %eax, %eax; mov %eax, %gs */
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0xaaa);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_USER_SEL, 0xffff), 0); /* a bad one: as null */
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0xaaa);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_USER_SEL, 0), 0);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_USER, HV_ADDRESS), 0); /* may point there, may not read there */
    CHECK_EQ(user_run("\x65\x48\x8b\x04\x25\x00\x00\x00\x00\x0f\x05", 11, 0xe033), 14);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_USER, 0), 0);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_KERNEL, 0), 0);
}

static void leaf(uint32_t nr, uint32_t sub, uint32_t *r)
{
    __asm__ volatile("ud2a; .ascii \"xen\"; cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(nr), "c"(sub));
}

TEST(cpuid_leaves)
{
    uint32_t r[4], max;

    leaf(0, 0, r);
    max = r[0];
    CHECK(max >= 1);
    leaf(1, 0, r);
    CHECK(r[3] & (1u << 6));    /* PAE */
    CHECK(!(r[2] & (1u << 3))); /* MONITOR */
    leaf(max, 0xffffffff, r);
    leaf(0x7fffffff, 0, r);
    CHECK_EQ(r[0] | r[1] | r[2] | r[3], 0);
    leaf(0x80000000, 0, r);
    CHECK(r[0] >= 0x80000001);
    leaf(0x80000001, 0, r);
    CHECK(r[3] & (1u << 29));    /* long mode */
    CHECK(!(r[3] & (1u << 26))); /* 1 GiB pages */
    leaf(0x40000003, 0, r);
    leaf(0x400000ff, 0, r);
    CHECK_EQ(r[0] | r[1] | r[2] | r[3], 0);
    leaf(7, 0, r);
    CHECK(!(r[1] & (1u << 7 | 1u << 20))); /* SMEP, SMAP: not for ring 3 kernels */
}

/* --- debug registers --- */
static struct {
    uint64_t dr0, dr7;
} other;
static void dr_on_vcpu1(void *unused)
{
    other.dr0 = (uint64_t)HC1(get_debugreg, 0);
    other.dr7 = (uint64_t)HC1(get_debugreg, 7);
    HC2(set_debugreg, 0, 0x7777);
    HC2(set_debugreg, 7, 0x401);
}

TEST(debug_registers_belong_to_the_vcpu)
{
    if (!vcpu_exists(1))
        return;
    CHECK_EQ(HC2(set_debugreg, 0, 0x1111), 0);
    other.dr0 = 99;
    CHECK_EQ(vcpu_run(1, dr_on_vcpu1, NULL), 0);
    CHECK(vcpu_wait(1));
    CHECK_EQ(other.dr0, 0);
    CHECK_EQ(other.dr7 & 0xff, 0);
    CHECK_EQ(HC1(get_debugreg, 0), 0x1111);
    CHECK_EQ(HC1(get_debugreg, 7) & 0xff, 0);
    CHECK_EQ(HC2(set_debugreg, 0, 0), 0);
}

TEST(debug_register_attacks)
{
    uint64_t v = 0;

    CHECK(HC2(set_debugreg, 7, 0x2000) < 0 || !(HC1(get_debugreg, 7) & 0x2000)); /* general detect */
    CHECK(HC2(set_debugreg, 7, 1ull << 32) < 0);
    CHECK(HC2(set_debugreg, 6, 1ull << 32) < 0);
    CHECK_EQ(HC2(set_debugreg, 7, 0), 0);
    CHECK_EQ(HC2(set_debugreg, 3, 0x2222), 0);
    __asm__ volatile("mov %%dr3, %0" : "=r"(v)); /* emulated */
    CHECK_EQ(v, 0x2222);
    __asm__ volatile("mov %0, %%dr3" ::"r"(0x3333ull));
    CHECK_EQ(HC1(get_debugreg, 3), 0x3333);
    CHECK(TRAPS("mov $0xffff830000000000, %%rax; mov %%rax, %%dr0"));
    CHECK_EQ(HC2(set_debugreg, 3, 0), 0);
    /* A breakpoint on the kernel stack: hit while the hypervisor writes the frame there, it must not matter. */
    __asm__ volatile("mov %%rsp, %0" : "=r"(v));
    CHECK_EQ(HC2(set_debugreg, 0, (v & ~7ull) - 256), 0);
    CHECK_EQ(HC2(set_debugreg, 7, 0x00030001 | 0x000c0000), 0);
    (void)TRAPS("ud2");
    CHECK_EQ(HC2(set_debugreg, 7, 0), 0);
    CHECK_EQ(HC2(set_debugreg, 0, 0), 0);
}

/* MOV SS with a watched operand, then SYSCALL or INT: the #DB arrives inside the hypervisor (CVE-2018-8897). */
TEST(mov_ss_delays_the_breakpoint)
{
    static uint16_t ss;
    uint64_t r = 0;

    __asm__ volatile("mov %%ss, %0" : "=m"(ss));
    CHECK_EQ(HC2(set_debugreg, 0, &ss), 0);
    CHECK_EQ(HC2(set_debugreg, 7, 0x00070001), 0); /* read or write, 2 bytes */
    last_trap.happened = false;
    __asm__ volatile("lea 1f(%%rip), %%rcx; mov %%rcx, trap_resume(%%rip); mov %1, %%ss; syscall; 1: movq "
                     "$0, trap_resume(%%rip)"
                     : "=a"(r)
                     : "m"(ss), "0"((uint64_t)__HYPERVISOR_xen_version), "D"(0ull), "S"(0ull)
                     : "rcx", "r11", "memory", "cc");
    (void)TRAPS("mov %0, %%ss; int3", "m"(ss));
    CHECK_EQ(HC2(set_debugreg, 7, 0), 0);
    CHECK_EQ(HC2(set_debugreg, 0, 0), 0);
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
}

TEST(emul_odd_instructions)
{
    uint64_t cr4;

    (void)TRAPS("invd"); /* for the hardware domain a flush on Xen; never an INVD */
    CHECK(TRAPS("mov $0x10, %%rax; mov %%rax, %%cr3"));
    CHECK(TRAPS("xor %%eax, %%eax; mov %%rax, %%cr0")); /* without paging? */
    (void)TRAPS("mov $0xffff, %%eax; mov %%rax, %%cr4");
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    CHECK_EQ(cr4 & 0x2000, 0); /* VMXE */
    CHECK_EQ(cr4 & 0x20, 0x20);
    (void)TRAPS("xor %%eax, %%eax; mov %%rax, %%cr4");
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    CHECK_EQ(cr4 & 0x20, 0x20); /* PAE */
    CHECK(TRAPS("mov %%rax, %%cr8"));
    CHECK(TRAPS("swapgs"));
    CHECK(TRAPS("lidt 0"));
    CHECK(TRAPS("lldt %%ax"));
    CHECK(TRAPS("sysretq"));
    CHECK(TRAPS("vmcall"));
    CHECK(TRAPS("vmrun"));
    CHECK(!TRAPS("wbinvd"));
    CHECK(!TRAPS("clts"));
}
