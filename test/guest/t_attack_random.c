/*
 * Attacks without a plan: hypercalls, code and frames by a random number, on two vCPUs at once. The domain may die of it, the
 * machine and the healthy domain may not. The seed is in the test's message when it fails.
 */
#include "toolstack.h"

static uint64_t random_next(uint64_t *x)
{
    *x = *x * 6364136223846793005ull + 1442695040888963407ull;
    return *x >> 24;
}

static char *pool[4];

/* Mostly what has a meaning, sometimes anything. */
static uint64_t random_word(uint64_t *x)
{
    uint64_t r = random_next(x);
    uint64_t base = ((const uint64_t *)start_info->mfn_list)[0];

    switch (r & 15) {
    case 0:
        return r >> 8 & 63;
    case 1:
        return (uint64_t)pool[r >> 4 & 3] + (r >> 8 & 0xff8);
    case 2:
        return va_mfn(pool[r >> 4 & 3]);
    case 3:
        return va_mfn(pool[r >> 4 & 3]) * PAGE | (r >> 8 & 0xfff);
    case 4:
        return HV_ADDRESS + (r >> 8 & 0xffffffff);
    case 5:
        return DOMID_SELF;
    case 6:
        return 1ull << (r >> 8 & 63);
    case 7:
        return ~0ull << (r >> 8 & 63);
    case 8:
        return base + (r >> 8 & 1023);
    case 9:
        return (base + (r >> 8 & 1023)) * PAGE | (r >> 20 & 0xfff);
    case 10:
        return start_info->pt_base + (r >> 8 & 0x4fff);
    case 11:
        return r >> 8 & 0x7fff;
    case 12:
        return (uint64_t)scratch_va(50 + (r >> 8 & 15));
    default:
        return r >> 8 & 7;
    }
}

static bool ends_the_domain(uint64_t nr, uint64_t op)
{
    return nr == __HYPERVISOR_iret || nr == __HYPERVISOR_stack_switch || nr == __HYPERVISOR_set_trap_table ||
           nr == __HYPERVISOR_set_callbacks ||
           (nr == __HYPERVISOR_sched_op && (uint32_t)op != SCHEDOP_yield) ||
           nr == __HYPERVISOR_sched_op_compat ||
           (nr == __HYPERVISOR_vcpu_op && (uint32_t)op == VCPUOP_down) || nr == __HYPERVISOR_callback_op;
}

static void hypercalls_at_random(uint64_t x, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        static const uint8_t often[] = {__HYPERVISOR_mmu_update,        __HYPERVISOR_mmuext_op,
                                        __HYPERVISOR_memory_op,         __HYPERVISOR_grant_table_op,
                                        __HYPERVISOR_event_channel_op,  __HYPERVISOR_vcpu_op,
                                        __HYPERVISOR_update_va_mapping, __HYPERVISOR_multicall};
        uint64_t r = random_next(&x), nr = r & 1 ? often[r >> 1 & 7] : r >> 1 & 63;
        uint64_t a[5];

        for (unsigned k = 0; k < 5; k++)
            a[k] = random_word(&x);
        if (r >> 10 & 3)
            a[0] =
                nr == __HYPERVISOR_mmu_update || nr == __HYPERVISOR_mmuext_op || nr == __HYPERVISOR_multicall
                    ? (uint64_t)pool[r >> 12 & 3]
                    : r >> 12 & 31;
        if (r >> 16 & 3)
            a[1] =
                nr == __HYPERVISOR_mmu_update || nr == __HYPERVISOR_mmuext_op || nr == __HYPERVISOR_multicall
                    ? r >> 18 & 7
                    : (uint64_t)pool[r >> 18 & 3];
        for (unsigned k = 0; k < 24; k++) /* what the pointers point to */
            probe_write(pool[r >> 20 & 3] + k * 8, random_word(&x));
        if (!ends_the_domain(nr, a[0]))
            hypercall((unsigned)nr, a[0], a[1], a[2], a[3], a[4]);
    }
}

static void second(void *x)
{
    hypercalls_at_random((uint64_t)x, 4000);
}

EITHER(random_hypercalls, 6)
{
    for (unsigned i = 0; i < 4; i++)
        pool[i] = page_alloc();
    (void)scratch_va(50);
    vcpu_run(1, second, (void *)(attack_seed * 7919));
    hypercalls_at_random(attack_seed, 4000);
}

/* Bytes at random as a program in user mode; whatever it does ends in the kernel. */
EITHER(random_user_code, 2)
{
    struct physdev_set_iopl s = {.iopl = 3};
    uint64_t x = attack_seed;
    char code[32];

    HC2(physdev_op, PHYSDEVOP_set_iopl, &s);
    for (unsigned i = 0; i < 1500; i++) {
        for (unsigned k = 0; k < sizeof(code) - 2; k++)
            if ((code[k] = (char)random_next(&x)) == (char)0x8e)
                code[k] =
                    0x40; /* MOV to CS: #UD on processors, done by QEMU 10, for the next #DB to have CS 0 */
        if (i & 1)
            code[0] = 0x0f;
        memcpy(code + sizeof(code) - 2, "\x0f\x0b", 2);
        /* TF: a loop ends after its first step. */
        (void)user_run_flags(code, sizeof(code), i & 2 ? 0xe033 : 0xe023, 0xe02b, 0x302);
    }
}

/* Privileged instructions at random in kernel mode, one at a time. */
static char *slot;
static void next_one(struct trap_frame *f)
{
    f->rflags &= ~0x500ull;
    f->rip = trap_resume;
    f->cs = FLAT_KERNEL_CS;
}

EITHER(random_kernel_code, 3)
{
    static const uint8_t second_byte[] = {0x00, 0x01, 0x06, 0x08, 0x09, 0x20, 0x21, 0x22,
                                          0x23, 0x30, 0x32, 0x33, 0xa2, 0x07, 0x31};
    uint64_t x = attack_seed, v;

    slot = page_alloc();
    trap_hook = next_one;
    for (unsigned i = 0; i < 4000; i++) {
        unsigned n = 0;

        memset(slot, 0x90, 32);
        if (random_next(&x) & 1)
            slot[n++] = "\x66\x67\xf2\xf3\x48\x41\x2e\x65"[random_next(&x) & 7];
        v = random_next(&x);
        if (v & 3) {
            slot[n++] = 0x0f;
            slot[n++] = (char)second_byte[(v >> 2) % ARRAY_SIZE(second_byte)];
        } else {
            slot[n++] = "\x6c\x6d\x6e\x6f\xe4\xe5\xe6\xe7\xec\xed\xee\xef\xfa\xfb\xcd\xcf"[v >> 2 & 15];
        }
        slot[n++] = (char)random_next(&x);
        slot[n++] = (char)random_next(&x);
        memcpy(slot + 20, "\x0f\x0b", 2);
        __asm__ volatile(
            "lea 1f(%%rip), %%rax; mov %%rax, trap_resume(%%rip); mov %%rsp, %%r12; xor %%eax, %%eax;"
            "mov %1, %%rcx; mov %1, %%rdx; mov %1, %%rsi; mov %1, %%rdi; mov $3, %%ecx; jmp *%0; 1: cld; mov "
            "%%r12, %%rsp" ::"r"(slot),
            "r"(random_word(&x))
            : "rax", "rcx", "rdx", "rsi", "rdi", "r12", "memory", "cc");
    }
    trap_hook = NULL;
}
