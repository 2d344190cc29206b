/* The PV CPU: traps, privileged instructions, segments, debug registers, user mode and the ways back. */
#include "guest.h"

TEST(trap_ud_is_bounced)
{
    CHECK(TRAPS("ud2"));
    CHECK_EQ(last_trap.nr, 6);
}

TEST(trap_de_and_bp)
{
    CHECK(TRAPS("xor %%eax, %%eax; xor %%ecx, %%ecx; div %%ecx"));
    CHECK_EQ(last_trap.nr, 0);
    CHECK(TRAPS("int3"));
    CHECK_EQ(last_trap.nr, 3);
}

TEST(trap_gp_for_what_a_guest_may_not)
{
    CHECK(TRAPS("mov $0x1234, %%ax; ltr %%ax"));
    CHECK_EQ(last_trap.nr, 13);
    CHECK(TRAPS("lgdt 0"));
    CHECK(last_trap.nr == 13 || last_trap.nr == 14);
    CHECK(TRAPS("mov $0x12345678, %%ecx; rdmsr"));
    CHECK_EQ(last_trap.nr, 13);
    CHECK(TRAPS("mov $0xc0000082, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; wrmsr; ud2"));
    CHECK_EQ(last_trap.nr, 13);
}

TEST(trap_noncanonical_access)
{
    CHECK(TRAPS("mov $0x800000000000, %%rax; mov (%%rax), %%rcx"));
    CHECK_EQ(last_trap.nr, 13);
    CHECK(TRAPS("mov $0xffff830000000000, %%rax; mov (%%rax), %%rcx")); /* Krypton's memory */
    CHECK_EQ(last_trap.nr, 14);
    CHECK_EQ(last_trap.cr2, 0xffff830000000000ul);
    CHECK(TRAPS("mov $0xffff830000000000, %%rax; mov %%rcx, (%%rax)"));
    CHECK_EQ(last_trap.nr, 14);
}

TEST(emul_cr_reads)
{
    uint64_t cr0 = 0, cr3 = 0, cr4 = 0;

    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    CHECK(cr0 & 1);
    CHECK(cr0 & 0x80000000ul);
    CHECK_EQ(cr3 >> 12, va_mfn((void *)start_info->pt_base));
    CHECK(cr4 & 0x20); /* PAE */
}

TEST(emul_msr_efer)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0xc0000080));
    CHECK((lo & 0x500) == 0x500); /* LME, LMA */
}

TEST(cpuid_shows_the_hypervisor)
{
    uint32_t a = 0x40000000, b, c, d;
    char name[13] = {0};

    __asm__ volatile("ud2a; .ascii \"xen\"; cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    memcpy(name, &b, 4);
    memcpy(name + 4, &c, 4);
    memcpy(name + 8, &d, 4);
    CHECK(!strcmp(name, "XenVMMXenVMM"));
    CHECK(a >= 0x40000002);
    a = 0x40000001;
    __asm__ volatile("ud2a; .ascii \"xen\"; cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    CHECK_EQ(a, (4 << 16) | 17);
    a = 1;
    c = 0;
    __asm__ volatile("ud2a; .ascii \"xen\"; cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    CHECK(!(c & (1u << 5))); /* VMX */
    CHECK(c & (1u << 31));   /* a hypervisor is present */
    a = 0x80000001;
    __asm__ volatile("ud2a; .ascii \"xen\"; cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    CHECK(!(c & (1u << 2))); /* SVM */
}

TEST(debug_registers_checked)
{
    CHECK_EQ(HC2(set_debugreg, 0, 0x1000), 0);
    CHECK_EQ(HC1(get_debugreg, 0), 0x1000);
    CHECK_EQ(HC2(set_debugreg, 0, 0xffff830000000000ul), -1); /* EPERM: in Krypton */
    CHECK(HC2(set_debugreg, 9, 0) < 0);
    CHECK(HC1(get_debugreg, 9) < 0);
    CHECK_EQ(HC2(set_debugreg, 0, 0), 0);
}

TEST(debug_breakpoint_hits)
{
    static volatile uint64_t watched;

    CHECK_EQ(HC2(set_debugreg, 0, &watched), 0);
    CHECK_EQ(HC2(set_debugreg, 7, 0x000d0002ul | 1),
             0); /* write, 8 bytes would be 0xd|0x9: len 4, global 0 */
    last_trap.happened = false;
    __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, trap_resume(%%rip); movl $1, %0; nop; 1: movq $0, "
                     "trap_resume(%%rip)"
                     : "=m"(watched)::"rax", "memory");
    CHECK(last_trap.happened);
    CHECK_EQ(last_trap.nr, 1);
    CHECK(HC1(get_debugreg, 6) & 1);
    CHECK_EQ(HC2(set_debugreg, 7, 0), 0);
    CHECK_EQ(HC2(set_debugreg, 0, 0), 0);
}

TEST(single_step_traps)
{
    last_trap.happened = false;
    __asm__ volatile(
        "lea 1f(%%rip), %%rax; mov %%rax, trap_resume(%%rip); pushfq; orq $0x100, (%%rsp); popfq; nop; 1: "
        "nop; movq $0, trap_resume(%%rip); pushfq; andq $~0x100, (%%rsp); popfq" ::
            : "rax", "memory", "cc");
    CHECK(last_trap.happened);
    CHECK_EQ(last_trap.nr, 1);
}

TEST(segment_bases)
{
    static uint64_t data[2] = {0x1234, 0x5678};
    uint64_t v;

    CHECK_EQ(HC2(set_segment_base, SEGBASE_FS, &data[1]), 0);
    __asm__ volatile("mov %%fs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0x5678);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_KERNEL, &data[0]), 0);
    __asm__ volatile("mov %%gs:0, %0" : "=r"(v));
    CHECK_EQ(v, 0x1234);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_FS, 0x800000000000ul), -22);
    CHECK_EQ(HC2(set_segment_base, 77, 0), -22);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_FS, 0), 0);
    CHECK_EQ(HC2(set_segment_base, SEGBASE_GS_KERNEL, 0), 0);
}

TEST(descriptors_checked)
{
    static const uint64_t bad[] = {
        0x00cf9b000000ffffull, /* ring-0 code */
        0x00cf93000000ffffull, /* ring-0 data */
        0x0000e90000000067ull, /* TSS */
        0x0000ec0000000000ull, /* call gate to selector 0 */
        0x0000820000000fffull, /* LDT */
    };
    uint64_t *gdt = page_alloc();
    xen_pfn_t frames[1] = {va_mfn(gdt)};

    gdt[1] = 0x00affb000000ffffull; /* ring-3 64-bit code */
    gdt[2] = 0x00cff3000000ffffull;
    CHECK(HC2(set_gdt, frames, 512) < 0); /* still mapped writable */
    CHECK_EQ(pte_set(gdt, va_mfn(gdt) * PAGE | PTE_KERNEL_RO), 0);
    CHECK_EQ(HC2(set_gdt, frames, 512), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        long r = HC2(update_descriptor, va_mfn(gdt) * PAGE + 24, bad[i]);

        /* Refused, its privilege forced down to 3, or made not present. */
        if (r == 0 && (gdt[3] >> 47 & 1) && (i > 1 || (gdt[3] >> 45 & 3) != 3))
            test_fail("descriptor %u is accepted: %llx", i, (unsigned long long)gdt[3]);
    }
    CHECK_EQ(HC2(update_descriptor, va_mfn(gdt) * PAGE + 24, 0x00cff3000000ffffull), 0);
    CHECK(pte_set(gdt, va_mfn(gdt) * PAGE | PTE_KERNEL) < 0); /* descriptor pages stay read-only */
    CHECK(HC2(update_descriptor, va_mfn((void *)start_info->pt_base) * PAGE, 0) < 0);
    CHECK(HC2(set_gdt, frames, 100000) < 0);
    CHECK_EQ(HC2(set_gdt, NULL, 0), 0);
    CHECK_EQ(pte_set(gdt, va_mfn(gdt) * PAGE | PTE_KERNEL), 0);
}

/* Behind Krypton's descriptors, to the end of what a selector can name, lies nothing that is one. */
TEST(descriptors_end_with_the_reserved_ones)
{
    unsigned found = 0;

    for (uint32_t sel = 0xe06b; sel <= 0xffff; sel += 8) {
        uint32_t rights = 0;
        uint8_t valid;

        __asm__ volatile("lar %2, %0; setz %1" : "+r"(rights), "=q"(valid) : "r"(sel) : "cc");
        if (valid)
            print("selector %x: rights %x\n", sel, rights);
        found += valid;
    }
    CHECK_EQ(found, 0);
}

/* AC belongs to the guest; what enters Krypton must not run with it (debug builds assert that). */
TEST(alignment_flag_stays_outside)
{
    uint64_t flags;

    __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; mov %%cr4, %%rax; pushfq; pop %0; "
                     "pushfq; andl $~0x40000, (%%rsp); popfq"
                     : "=r"(flags)::"rax", "memory", "cc");
    CHECK(flags & 0x40000); /* and comes back to it */
}

TEST(callbacks_checked)
{
    struct callback_register r = {.type = CALLBACKTYPE_event, .address = 0x800000000000ul};
    struct callback_unregister u = {.type = CALLBACKTYPE_event};

    CHECK_EQ(HC2(callback_op, CALLBACKOP_register, &r), -22);
    r.type = 77;
    r.address = 0x1000;
    CHECK(HC2(callback_op, CALLBACKOP_register, &r) < 0);
    CHECK(HC2(callback_op, CALLBACKOP_unregister, &u) < 0); /* the event callback cannot go */
    CHECK_EQ(HC2(callback_op, CALLBACKOP_register, 0xffff830000000000ul), -14);
}

TEST(trap_table_checked)
{
    struct trap_info t[2] = {{.vector = 5, .cs = FLAT_KERNEL_CS, .address = 0x800000000000ul}, {0}};

    CHECK(HC1(set_trap_table, t) < 0);
    CHECK_EQ(HC1(set_trap_table, 0xffff830000000000ul), -14);
}

/* --- user mode ---- */
TEST(user_ud_comes_back)
{
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    CHECK_EQ(user_frame.cs & 3, 3);
}

TEST(user_syscall_reaches_the_kernel)
{
    CHECK_EQ(user_run("\x0f\x05", 2, 0xe033), 258);
    CHECK_EQ(user_frame.cs & 3, 3);
}

TEST(user_cannot_make_hypercalls_or_io)
{
    CHECK_EQ(user_run("\xe4\x80\x0f\x0b", 4, 0xe033), 13);     /* in $0x80, %al */
    CHECK_EQ(user_run("\xfa\x0f\x0b", 3, 0xe033), 13);         /* cli */
    CHECK_EQ(user_run("\x0f\x20\xc0\x0f\x0b", 5, 0xe033), 13); /* mov %cr0, %rax */
}

TEST(user_int80_by_its_gate)
{
    CHECK_EQ(user_run("\xcd\x80", 2, 0xe033), 128);
    CHECK_EQ(user_run("\xcd\x20", 2, 0xe033), 13); /* no gate for user space: #GP */
}

TEST(iret_forged_frames)
{
    struct {
        uint64_t cs, ss;
    } bad[] = {{0xe008, 0xe010}, {0xe030, 0xe028}, {0, 0}, {0x10, 0x18}};

    /* Ring 0 selectors never stick: the guest continues in ring 3 or gets a fault, the machine goes on. */
    for (unsigned i = 0; i < 2; i++) {
        long r = user_run("\x0f\x0b", 2, bad[i].cs);

        CHECK(r == 6 || r == 13 || r == 257);
        CHECK_EQ(user_frame.cs & 0xffff & 3, user_frame.cs & 3);
    }
}

TEST(fpu_taskswitch_traps)
{
    CHECK_EQ(HC1(fpu_taskswitch, 1), 0);
    CHECK(TRAPS("fnop"));
    CHECK_EQ(last_trap.nr, 7);
    CHECK_EQ(HC1(fpu_taskswitch, 0), 0);
    CHECK(!TRAPS("fnop"));
}
