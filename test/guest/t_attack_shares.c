/*
 * Attacks on others' time and on the machine's order: spinning, long hypercalls, floods of the log, deaths at any moment. From outside, by the domain that makes the others.
 */
#include "toolstack.h"

/* --- what the hostile ones do --- */

static void spin_on(void *unused)
{
    for (;;)
        __asm__ volatile("" ::: "memory");
}

LIFE(spins)
{
    vcpu_run(1, spin_on, NULL);
    spin_on(NULL);
}

/* Long lists of everything, again and again, on both vCPUs. */
static struct mmu_update *long_list;

static void long_calls(void *unused)
{
    static struct multicall_entry m[1000];
    static uint32_t done;

    for (unsigned i = 0; i < ARRAY_SIZE(m); i++)
        m[i] = (struct multicall_entry){.op = __HYPERVISOR_mmuext_op, .args = {0x10, 1, 0, DOMID_SELF}};
    for (;;) {
        HC4(mmu_update, long_list, 10 * PAGE / sizeof(*long_list), &done, DOMID_SELF);
        HC2(multicall, m, ARRAY_SIZE(m));
        HC3(console_io, CONSOLEIO_write, 40000, (uint64_t)long_list);
        HC1(set_trap_table, long_list); /* no end in it: reads till something is refused */
        mmu_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
        mmu_ext(MMUEXT_PIN_L3_TABLE, va_mfn(long_list), 0);
    }
}

LIFE(long_hypercalls)
{
    long_list = page_alloc();
    for (unsigned i = 1; i < 10; i++)
        page_alloc();
    for (unsigned i = 0; i < 10 * PAGE / sizeof(*long_list); i++)
        long_list[i] = (struct mmu_update){.ptr = va_mfn(long_list) * PAGE + 8 * 100, .val = 5};
    vcpu_run(1, long_calls, NULL);
    long_calls(NULL);
}

static void write_text(void *text)
{
    for (;;)
        HC3(console_io, CONSOLEIO_write, 10 * PAGE, text);
}

/* Nothing but text, on both vCPUs: in lines as long as they get. */
LIFE(writes)
{
    char *text = page_alloc();

    for (unsigned i = 1; i < 10; i++)
        page_alloc();
    memset(text, 'w', 10 * PAGE);
    vcpu_run(1, write_text, text);
    write_text(text);
}

/* All that makes the hypervisor say something. */
LIFE(talks)
{
    char line[100];

    memset(line, 'x', sizeof(line));
    line[99] = '\n';
    for (unsigned i = 0;; i++) {
        HC3(console_io, CONSOLEIO_write, sizeof(line), line);
        (void)TRAPS("mov $0x12345678, %%ecx; rdmsr");
        (void)TRAPS("mov $0x12345678, %%ecx; wrmsr");
        mmu_ext(MMUEXT_PIN_L1_TABLE, i, 0);
    }
}

static void pin_roots(void *l4)
{
    for (;;) {
        mmu_ext(MMUEXT_NEW_USER_BASEPTR, (uint64_t)l4, 0);
        mmu_ext(MMUEXT_PIN_L4_TABLE, (uint64_t)l4, 0);
        mmu_ext(MMUEXT_UNPIN_TABLE, (uint64_t)l4, 0);
        mmu_ext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
    }
}

/* A tree of which some hundred tables are shared by two roots, pinned and let go on two vCPUs. */
LIFE(builds_and_drops)
{
    uint64_t *l4 = page_alloc(), *l3 = page_alloc(), *l2 = page_alloc();

    for (unsigned i = 0; i < 60; i++) {
        uint64_t *l1 = page_alloc();

        for (unsigned j = 0; j < 512; j++)
            l1[j] = pte_of(start_info, PTE_KERNEL_RO);
        l2[i] = pte_of(l1, PTE_KERNEL);
        page_protect(l1);
    }
    l4[1] = pte_of(l3, PTE_KERNEL);
    l3[1] = pte_of(l2, PTE_KERNEL);
    page_protect(l2);
    page_protect(l3);
    page_protect(l4);
    vcpu_run(1, pin_roots, (void *)va_mfn(l4));
    pin_roots((void *)va_mfn(l4));
}

static bool begin(struct domu *u, const struct attack *life)
{
    long r = healthy() ? domu_create(u, 1, ROLE_ATTACK, attack_number(life), 2) : -1;

    if (!r)
        r = domu_unpause(u);
    if (r)
        test_fail("%s: cannot be started: %ld", life->name, r);
    return !r;
}

/* How often the healthy domain wakes in this time. */
static uint64_t beats_in(uint64_t ns)
{
    uint64_t from = healthy()->report->beats;

    sleep_ns(ns);
    return healthy()->report->beats - from;
}

/*
 * The healthy domain wakes at least a quarter as often as alone, in one of twenty looks: where processors are emulated one may
 * stand still for a while, and whom an attack starves sees nothing in all of them.
 */
static void beside(const struct attack *life)
{
    uint64_t alone, with, best = 0;
    struct domu u;

    if (!healthy())
        return;
    alone = beats_in(200000000);
    if (!begin(&u, life))
        return;
    sleep_ns(20000000);
    for (unsigned i = 0; i < 20 && (best < alone / 4 || !best); i++) {
        with = beats_in(200000000);
        best = with > best ? with : best;
    }
    CHECK_EQ(domu_destroy(&u), 0);
    if (best < alone / 4 || !best)
        test_fail("%s: the healthy domain woke %llu times instead of %llu", life->name,
                  (unsigned long long)best, (unsigned long long)alone);
    healthy_is_well();
}

/* --- tests --- */

TEST(domu_spinning_starves_nobody)
{
    beside(&a_spins);
}

TEST(domu_long_hypercalls_starve_nobody)
{
    beside(&a_long_hypercalls);
}

TEST(domu_writing_starves_nobody)
{
    beside(&a_writes);
}

TEST(domu_flood_of_the_log)
{
    struct domu u;
    char who[16];
    unsigned lines = 0;

    CHECK(healthy());
    log_says(NULL);
    CHECK(begin(&u, &a_talks));
    sleep_ns(300000000);
    fmt_snprintf(who, sizeof(who), "d%u", u.id);
    CHECK_EQ(domu_destroy(&u), 0);
    while (log_says(who))
        for (const char *p = log_last(); (p = strstr(p, who)); p++)
            lines++;
    if (lines > 150)
        test_fail("%u lines of one domain in 0.3 s", lines);
    healthy_is_well();
}

/* Destroyed while it is at work: whatever was under way is taken apart, and all of its memory comes back. */
TEST(domu_destroyed_in_the_middle)
{
    struct domu u;
    uint64_t before = 0;

    CHECK(healthy());
    for (unsigned i = 0; i < 16; i++) {
        if (i == 2) /* the first ones fill the hypervisor's own stores */
            before = machine_free_pages();
        CHECK(begin(&u, i & 1 ? &a_builds_and_drops : &a_long_hypercalls));
        sleep_ns(4000000 + i * 1100000);
        CHECK_EQ(domu_destroy(&u), 0);
    }
    for (unsigned i = 0; i < 1000 && machine_free_pages() < before; i++)
        sleep_ns(2000000);
    CHECK(machine_free_pages() >=
          before); /* more: the second one was not quite gone when `before` was taken */
    healthy_is_well();
}
