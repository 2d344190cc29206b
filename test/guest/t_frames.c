/* How the kernel is entered, word by word, and what a return may smuggle. */
#include "guest.h"

#define FLAG_TF   0x100ull
#define FLAG_IF   0x200ull
#define FLAG_IOPL 0x3000ull
#define FLAG_NT   0x4000ull
#define FLAG_RF   0x10000ull
#define FLAG_VM   0x20000ull
#define FLAG_AC   0x40000ull

TEST(frame_of_a_trap_in_the_kernel)
{
    uint64_t at;

    events_off();
    last_trap.happened = false;
    __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, trap_resume(%%rip); lea 2f(%%rip), %0; mov $0x1111, "
                     "%%ecx; mov $0x2222, %%r11d;"
                     "mov $0x5555, %%edx; 2: ud2; 1: movq $0, trap_resume(%%rip)"
                     : "=&r"(at)::"rax", "rcx", "rdx", "r11", "memory", "cc");
    CHECK(last_trap.happened);
    CHECK_EQ(raw_frame[0], 0x1111); /* rcx */
    CHECK_EQ(raw_frame[1], 0x2222); /* r11 */
    CHECK_EQ(raw_frame[2], at);
    CHECK_EQ(raw_frame[3] & 0xffff, FLAT_KERNEL_CS & ~3); /* RPL 0 says: from the kernel */
    CHECK_EQ(raw_frame[3] >> 32, 1);                      /* the upcall mask as it was */
    CHECK_EQ(raw_frame[4] & FLAG_IF, 0);                  /* and IF as its inverse */
    CHECK_EQ(raw_frame[4] & FLAG_IOPL, 0);
    CHECK_EQ(last_trap.rsp, raw_frame[5]);
    CHECK_EQ(raw_frame[6] & 0xffff, FLAT_KERNEL_SS);
    events_on();
    CHECK(TRAPS("ud2"));
    CHECK_EQ(raw_frame[3] >> 32, 0);
    CHECK_EQ(raw_frame[4] & FLAG_IF, FLAG_IF);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 0); /* exceptions leave the mask alone */
    events_off();
}

TEST(frame_error_codes)
{
    uint64_t v;

    CHECK(read_faults((void *)0x10, &v));
    CHECK_EQ(last_trap.error & 0x1f, 0); /* read, not present, kernel */
    CHECK(write_faults((void *)0x10, 1));
    CHECK_EQ(last_trap.error & 0x1f, 2);
    CHECK_EQ(pte_set(scratch_va(0), pte_of(page_alloc(), PTE_KERNEL_RO)), 0);
    CHECK(write_faults(scratch_va(0), 1));
    CHECK_EQ(last_trap.error & 0x1f, 3);
    CHECK_EQ(pte_set(scratch_va(0), 0), 0);
    CHECK(TRAPS("mov $0xbeec, %%eax; mov %%eax, %%ds")); /* beyond the table */
    CHECK_EQ(last_trap.nr, 13);
    CHECK_EQ(last_trap.error, 0xbeec);
    CHECK(TRAPS("int $0x55")); /* no gate */
    CHECK_EQ(last_trap.nr, 13);
    CHECK_EQ(last_trap.error, 0x55 * 8 + 2);
    CHECK_EQ(user_run("\x8b\x04\x25\x10\x00\x00\x00", 7, 0xe033), 14); /* mov 0x10, %eax */
    CHECK_EQ(user_frame.error & 0x1f, 4);                              /* user */
}

TEST(frame_from_user_mode)
{
    events_off();
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    CHECK_EQ(raw_frame[2], user_code);
    CHECK_EQ(raw_frame[3] & 0xffff, 0xe033);
    CHECK_EQ(raw_frame[3] >> 32, 0); /* the return by iret with IF had unmasked events */
    CHECK_EQ(raw_frame[4] & FLAG_IF, FLAG_IF);
    CHECK_EQ(raw_frame[5], user_stack);
    CHECK_EQ(raw_frame[6] & 0xffff, 0xe02b);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 0);
    events_off();
}

TEST(iret_with_if_clear_masks_events)
{
    /* Kernels may return to themselves so; IF of the hardware is on in any case. */
    CHECK_EQ(user_run_flags("\x0f\x0b", 2, 0xe033, 0xe02b, 0x002), 6);
    CHECK_EQ(raw_frame[3] >> 32, 1);
    CHECK_EQ(raw_frame[4] & FLAG_IF, 0);
}

TEST(iret_cannot_smuggle_flags)
{
    static const char pushf[] = "\x9c\x58\x0f\x05"; /* pushf; pop %rax; syscall */

    CHECK_EQ(
        user_run_flags(pushf, 4, 0xe033, 0xe02b, 0x202 | FLAG_IOPL | FLAG_VM | FLAG_NT | FLAG_AC | 0x180000),
        258);
    CHECK_EQ(user_frame.rax & (FLAG_IOPL | FLAG_VM), 0);
    CHECK_EQ(user_frame.rax & FLAG_IF, FLAG_IF);
    CHECK_EQ(user_run_flags(pushf, 4, 0xe033, 0xe02b, ~0ull & ~FLAG_TF), 258);
    CHECK_EQ(user_frame.rax & (FLAG_IOPL | FLAG_VM), 0);
    CHECK_EQ(user_run_flags(pushf, 4, 0xe033, 0xe02b, 0x202 | FLAG_TF), 1); /* steps once */
    CHECK_EQ(user_frame.rip, user_code + 1);
    /* cli in user mode faults whatever was asked for. */
    CHECK_EQ(user_run_flags("\xfa\x0f\x0b", 3, 0xe033, 0xe02b, 0x202 | FLAG_IOPL), 13);
}

TEST(entry_flags_are_clean)
{
    static uint64_t flags;

    /* The handler must not run with TF, NT, RF, VM of the interrupted code: a single step of user code would step the kernel. */
    CHECK_EQ(user_run_flags("\x0f\x0b", 2, 0xe033, 0xe02b, 0x202 | FLAG_NT | FLAG_RF), 6);
    __asm__ volatile("pushfq; popq %0" : "=r"(flags));
    CHECK_EQ(flags & (FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM), 0);
}

TEST(iret_to_a_bad_place_comes_back)
{
    static const struct {
        uint64_t cs, ss;
    } bad[] = {{0xe033, 0x1237}, {0x1237, 0xe02b}, {0xe02b, 0xe02b},
               {0xe033, 0xe033}, {0x3, 0xe02b},    {0xffff, 0xffff}};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        long r = user_run_flags("\x0f\x0b", 2, bad[i].cs, bad[i].ss, 0x202);

        CHECK(r == 257 || r == 13); /* the failsafe callback, or a fault of the first instruction */
        if (r == 257) {
            CHECK_EQ(raw_frame[6], user_code); /* rcx r11 ds es fs gs rip ... */
            CHECK_EQ(raw_frame[7] & 0xffff, bad[i].cs | 3);
            CHECK_EQ(raw_frame[9], user_stack);
        }
    }
}

TEST(iret_to_a_noncanonical_address)
{
    long r;

    extern long guest_enter_user(uint64_t, uint64_t, uint64_t);
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    trap_hook = NULL;
    r = user_run_flags("\x48\xb8\x00\x00\x00\x00\x00\x80\x00\x00\xff\xe0", 12, 0xe033, 0xe02b,
                       0x202); /* jmp 0x800000000000 */
    CHECK_EQ(r, 13);
}

/* --- system calls of user space --- */
TEST(user_syscall_frame)
{
    static const char code[] =
        "\x49\xc7\xc3\x44\x00\x00\x00\x48\xc7\xc1\x33\x00\x00\x00\x0f\x05"; /* mov $0x44, %r11; mov $0x33, %rcx; syscall */

    CHECK_EQ(user_run(code, 16, 0xe033), 258);
    CHECK_EQ(raw_frame[0], user_code + 16); /* rcx: what SYSCALL left there */
    CHECK_EQ(raw_frame[2], user_code + 16);
    CHECK_EQ(raw_frame[1] & 0x202, 0x202); /* r11: flags */
    CHECK_EQ(raw_frame[3] & 3, 3);
    CHECK_EQ(raw_frame[5], user_stack);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 1); /* CALLBACKF_mask_events */
    CHECK_EQ(raw_frame[3] >> 32, 0);
}

TEST(user32_runs_and_traps)
{
    CHECK_EQ(user_run("\x40\x0f\x0b", 3, 0xe023),
             6); /* inc %eax in 32 bits, a prefix in 64: would be ud2 at +1 */
    CHECK_EQ(user_frame.rip, user_code + 1);
    CHECK_EQ(user_frame.cs & 0xffff, 0xe023);
}

TEST(user32_int80)
{
    CHECK_EQ(user_run("\xcd\x80", 2, 0xe023), 128);
    CHECK_EQ(user_frame.rip, user_code + 2);
    CHECK_EQ(user_frame.cs & 0xffff, 0xe023);
    CHECK_EQ(user_run("\xcd\x31", 2, 0xe023), 13);
    CHECK_EQ(user_frame.error, 0x31 * 8 + 2);
    CHECK_EQ(user_frame.rip, user_code);
}

TEST(user32_syscall_or_fault)
{
    long r = user_run("\x0f\x05", 2, 0xe023);

    if (r != 6) /* Intel: #UD */
        CHECK_EQ(r, 259);
    if (r == 259) {
        CHECK_EQ(user_frame.rip, user_code + 2);
        CHECK_EQ(user_frame.rsp, user_stack);
    }
}

/* A kernel that registers nothing must not be brought down by its user space: #UD, as if there were no instruction. */
TEST(user_syscall_without_callback)
{
    extern char syscall_callback[], syscall32_callback[];
    struct callback_register r[2] = {{.type = CALLBACKTYPE_syscall}, {.type = CALLBACKTYPE_syscall32}};
    long r64, r32;
    uint64_t rip64;

    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(HC2(callback_op, CALLBACKOP_register, &r[i]), 0);
    r64 = user_run("\x0f\x05", 2, 0xe033);
    rip64 = user_frame.rip;
    r32 = user_run("\x0f\x05", 2, 0xe023);
    r[0].address = (unsigned long)syscall_callback;
    r[1].address = (unsigned long)syscall32_callback;
    r[0].flags = r[1].flags = CALLBACKF_mask_events;
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(HC2(callback_op, CALLBACKOP_register, &r[i]), 0);
    CHECK_EQ(r64, 6);
    CHECK_EQ(rip64, user_code);
    CHECK_EQ(r32, 6);
    CHECK_EQ(user_frame.rip, user_code);
}

TEST(user32_sysenter)
{
    long r = user_run("\x0f\x34", 2, 0xe023);

    CHECK(r == 260 || r == 6 || r == 13); /* AMD lacks it in long mode */
}

TEST(user_sysenter_64)
{
    long r = user_run("\x0f\x34", 2, 0xe033);

    CHECK(r == 260 || r == 6 || r == 13);
}

TEST(kernel_sysenter_and_int80_do_not_confuse)
{
    CHECK(TRAPS("int $0x80"));
    CHECK(last_trap.nr == 128);
    CHECK_EQ(last_trap.cs & 3, 0);
}

/* --- callbacks --- */
TEST(trap_table_if_flag_masks_events)
{
    extern char trap_6[];
    struct trap_info t[2] = {{6, 4, FLAT_KERNEL_CS, (unsigned long)trap_6}, {0}}; /* TI_SET_IF */

    CHECK_EQ(HC1(set_trap_table, t), 0);
    events_on();
    CHECK(TRAPS("ud2; nop; 2:"));
    /* The frame's iret has unmasked again; that it was masked inside is seen by the hook below. */
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 0);
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 1);
    t[0].flags = 0;
    CHECK_EQ(HC1(set_trap_table, t), 0);
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 0);
    events_off();
}

static unsigned mask_in_event;
static void note_mask(void)
{
    mask_in_event = shared->vcpu_info[0].evtchn_upcall_mask;
}

TEST(event_callback_masks_and_saves)
{
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_send s;
    struct evtchn_close c;

    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_ipi, &ipi), 0);
    s.port = c.port = ipi.port;
    event_hook = note_mask;
    mask_in_event = 99;
    events_on();
    port_unmask(ipi.port);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_send, &s), 0);
    CHECK_EQ(mask_in_event, 1);
    CHECK_EQ(raw_frame[3] & 0xff, FLAT_KERNEL_CS & 0xfc);
    CHECK_EQ(raw_frame[3] >> 32, 0);
    CHECK_EQ(raw_frame[4] & FLAG_IF, FLAG_IF);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_mask, 0); /* the iret restored it */
    events_off();
    port_clear(ipi.port);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &c), 0);
}

TEST(event_interrupts_user_mode)
{
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
    struct evtchn_close c;
    unsigned before = events_seen;

    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_virq, &bind), 0);
    c.port = bind.port;
    port_unmask(bind.port);
    CHECK_EQ(HC1(set_timer_op, time_ns() + 5000000), 0);
    /* mov $300000000, %ecx; 1: dec %ecx; jnz 1b; ud2 */
    CHECK_EQ(user_run("\xb9\x00\xc2\xeb\x0b\xff\xc9\x75\xfc\x0f\x0b", 11, 0xe033), 6);
    CHECK(events_seen > before);
    CHECK_EQ(user_frame.rip, user_code + 9); /* undisturbed */
    events_off();
    port_clear(bind.port);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &c), 0);
}

/* --- NMI --- */
static unsigned nmis;
static void nmi_hook(struct trap_frame *f)
{
    if (f->nr == 2)
        nmis++;
}

TEST(nmi_to_ourselves)
{
    extern char trap_2[];
    struct xennmi_callback cb = {.handler_address = (unsigned long)trap_2};

    CHECK_EQ(HC2(nmi_op, XENNMI_register_callback, &cb), 0);
    trap_hook = nmi_hook;
    nmis = 0;
    events_off(); /* does not hold back an NMI */
    CHECK_EQ(HC3(vcpu_op, VCPUOP_send_nmi, 0, NULL), 0);
    CHECK_EQ(nmis, 1);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_send_nmi, 0, NULL), 0); /* iret has allowed the next */
    CHECK_EQ(nmis, 2);
    trap_hook = NULL;
    CHECK(HC3(vcpu_op, VCPUOP_send_nmi, 4000, NULL) < 0);
    CHECK_EQ(HC2(nmi_op, 7, NULL), -38);
    CHECK_EQ(HC2(nmi_op, XENNMI_register_callback, HV_ADDRESS), -14);
    cb.handler_address = 0x800000000000ul;
    CHECK(HC2(nmi_op, XENNMI_register_callback, &cb) < 0);
    CHECK_EQ(HC2(nmi_op, XENNMI_unregister_callback, NULL), 0);
}
