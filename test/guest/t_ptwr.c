/* Writes to a level-1 table that is mapped read-only: done by the hypervisor, checked like any update (vm_assist). */
#include "guest.h"

/* A pinned L1 table and a page that it may map; writes go to its read-only alias at the page's own address. */
static uint64_t *table;
static char *page;

static bool setup(void)
{
    if (!table) {
        table = page_alloc();
        page = page_alloc();
        if (page_protect(table) || mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(table), 0))
            return false;
    }
    return !HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables);
}

TEST(vm_assist_commands)
{
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_4gb_segments), 0);
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_4gb_segments), 0);
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_enable, 63), -22);
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_enable, 0xffffffff), -22);
    CHECK(HC2(vm_assist, 99, VMASST_TYPE_writable_pagetables) < 0);
}

/* What a hypervisor may set by itself: accessed, dirty, global (Xen marks user pages so). */
#define OURS(e) ((e) & ~0x160ull)

TEST(ptwr_mov_in_all_widths)
{
    uint64_t good = pte_of(page_alloc(), PTE_KERNEL);

    CHECK(setup());
    __asm__ volatile("mov %1, %0" : "=m"(table[1]) : "r"(good));
    CHECK_EQ(OURS(table[1]), OURS(good));
    __asm__ volatile("movl %1, %0" : "=m"(table[1]) : "r"(0)); /* the low half: not present */
    CHECK_EQ(table[1] & 0xffffffff, 0);
    __asm__ volatile("movl $0, %0" : "=m"(((uint32_t *)table)[3]));
    CHECK_EQ(table[1], 0);
}

TEST(ptwr_exchange_and_compare)
{
    uint64_t good = pte_of(page_alloc(), PTE_KERNEL), got = 0, old = 5;

    CHECK(setup());
    got = good;
    __asm__ volatile("xchg %0, %1" : "+r"(got), "+m"(table[2]));
    CHECK_EQ(got, 0);
    CHECK_EQ(OURS(table[2]), OURS(good));
    __asm__ volatile("lock cmpxchg %2, %1" : "+a"(old), "+m"(table[2]) : "r"(0ull)); /* does not match */
    CHECK_EQ(old, table[2]);
    CHECK(table[2] != 0);
    __asm__ volatile("lock cmpxchg %2, %1" : "+a"(old), "+m"(table[2]) : "r"(0ull));
    CHECK_EQ(table[2], 0);
}

TEST(ptwr_bits_and_logic)
{
    uint64_t good = pte_of(page_alloc(), PTE_KERNEL);

    CHECK(setup());
    table[3] = good;
    __asm__ volatile("lock andq %1, %0" : "+m"(table[3]) : "r"(~2ull)); /* write-protect */
    CHECK_EQ(table[3] & 7, 5);
    __asm__ volatile("lock btrq $5, %0" : "+m"(table[3])); /* accessed */
    CHECK_EQ(table[3] & 0x20, 0);
    table[3] = 0;
    CHECK_EQ(table[3], 0);
}

TEST(ptwr_refuses_what_an_update_refuses)
{
    static const uint64_t bad[] = {0x200000 | PTE_KERNEL, 0xffffffff000 | PTE_KERNEL,
                                   0x7ffffffffff000ull | PTE_KERNEL};

    CHECK(setup());
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        CHECK(write_faults(&table[4], bad[i]));
        CHECK_EQ(last_trap.nr, 14);
        CHECK_EQ(last_trap.cr2, (uint64_t)&table[4]);
        CHECK_EQ(table[4], 0);
    }
    CHECK(write_faults(&table[4], pte_of(table, PTE_KERNEL))); /* itself, writable */
    CHECK_EQ(table[4], 0);
    CHECK(!write_faults(&table[4], pte_of(table, PTE_KERNEL_RO)));
    table[4] = 0;
    CHECK(write_faults((char *)table + 37, ~0ull)); /* across two entries */
    CHECK_EQ(table[4], 0);
    CHECK_EQ(table[5], 0);
}

TEST(ptwr_only_level_one)
{
    uint64_t *l2 = page_alloc();

    CHECK(setup());
    CHECK_EQ(page_protect(l2), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L2_TABLE, va_mfn(l2), 0), 0);
    CHECK(write_faults(&l2[0], 0x1000));
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l2), 0), 0);
    CHECK_EQ(page_unprotect(l2), 0);
}

/* Xen asks only domains without devices whether they wanted it. */
TEST(ptwr_only_when_asked)
{
    CHECK(setup());
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_disable, VMASST_TYPE_writable_pagetables), 0);
    CHECK(write_faults(&table[6], 0x1000));
    CHECK_EQ(HC2(vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables), 0);
    CHECK(!write_faults(&table[6], 0x1000));
    table[6] = 0;
}

TEST(ptwr_string_instructions)
{
    static uint64_t source[8];
    void *to, *from = source;
    uint64_t n = 8;

    CHECK(setup());
    for (unsigned i = 0; i < 8; i++)
        source[i] = 0x1000 * i; /* not present: any value goes */
    to = &table[16];
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(table[16 + i], 0x1000 * i);
    to = &table[16];
    n = 8;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0ull) : "memory");
    CHECK_EQ(n, 0);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(table[16 + i], 0);
}

TEST(ptwr_user_mode_may_not)
{
    /* The same write from user space: the fault goes to the kernel. */
    char code[12] = "\x48\xb8\0\0\0\0\0\0\0\0\x89\x00"; /* movabs $table, %rax; mov %eax, (%rax) */
    uint64_t at;

    CHECK(setup());
    at = (uint64_t)&table[7];
    memcpy(code + 2, &at, 8);
    CHECK_EQ(user_run(code, 12, 0xe033), 14);
    CHECK_EQ(user_frame.error & 7, 7);
    CHECK_EQ(table[7], 0);
}

/* The table is in use elsewhere: a write shows at the address that it maps. */
TEST(ptwr_change_is_seen_through_the_mapping)
{
    char *at = scratch_va(400), *a = page_alloc(), *b = page_alloc();
    uint64_t m = pte_machine(at);
    uint64_t *l1 = (uint64_t *)mfn_va(m / PAGE) + m % PAGE / 8;

    CHECK(setup());
    a[0] = 1;
    b[0] = 2;
    *(volatile uint64_t *)l1 = pte_of(a, PTE_KERNEL);
    CHECK_EQ(*(volatile char *)at, 1);
    *(volatile uint64_t *)l1 = pte_of(b, PTE_KERNEL);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0), 0);
    CHECK_EQ(*(volatile char *)at, 2);
    *(volatile uint64_t *)l1 = 0;
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0), 0);
}
