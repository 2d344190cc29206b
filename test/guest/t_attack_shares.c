/*
 * Attacks on others' time and on the machine's order: spinning, long hypercalls, floods of the log, deaths at any moment, a
 * toolstack that asks nonsense. From outside, by the domain that makes the others.
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
        (void)user_enter_at(0x1000, 0, 0x1237, 0xe02b, 0x202);
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

static void beside(const struct attack *life)
{
    struct domu u;
    uint64_t alone, with;

    if (!healthy())
        return;
    alone = beats_in(200000000);
    if (!begin(&u, life))
        return;
    sleep_ns(20000000);
    with = beats_in(400000000) / 2;
    CHECK_EQ(domu_destroy(&u), 0);
    if (with < alone / 4 || !with)
        test_fail("%s: the healthy domain woke %llu times instead of %llu", life->name,
                  (unsigned long long)with, (unsigned long long)alone);
    healthy_is_well();
}

/* --- tests --- */

TEST(domu_spinning_starves_nobody)
{
    beside(&a_spins);
}

TEST(domu_long_hypercalls_give_way)
{
    beside(&a_long_hypercalls);
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
    CHECK_EQ(machine_free_pages(), before);
    healthy_is_well();
}

/* A page of a dead domain that is still mapped elsewhere stays what it was, and comes back when it is let go. */
TEST(domu_page_outlives_its_domain)
{
    struct domu u, other;
    uint64_t *at, before = 0;
    domid_t id;

    CHECK(healthy());
    for (unsigned round = 0; round < 2; round++) {
        struct xen_domctl op = {0};
        struct xen_domctl_getdomaininfo info;

        before = machine_free_pages();
        CHECK_EQ(domu_create(&u, 1, ROLE_IDLE, 0, 1), 0);
        id = u.id;
        at = foreign_map(&u, 0, domu_mfn(&u, 5), PTE_KERNEL);
        CHECK(at);
        at[0] = 0x7777;
        pte_set(u.report, 0);
        CHECK_EQ(domctl(&op, XEN_DOMCTL_destroydomain, id), 0);
        sleep_ns(5000000);
        CHECK(domu_info(id, &info)); /* still there, dying */
        CHECK(info.flags & XEN_DOMINF_dying);
        CHECK_EQ(domu_create(&other, 1, ROLE_ATTACK, 0, 1), 0);
        CHECK_EQ(at[0], 0x7777);
        CHECK_EQ(domu_destroy(&other), 0);
        CHECK_EQ(at[0], 0x7777);
        CHECK(!foreign_map(&u, 1, domu_mfn(&u, 6), PTE_KERNEL_RO)); /* no new ones */
        CHECK_EQ(pte_set(at, 0), 0);
        for (unsigned i = 0; i < 1000 && domu_info(id, &info); i++)
            sleep_ns(2000000);
        CHECK(!domu_info(id, &info));
    }
    for (unsigned i = 0; i < 500 && machine_free_pages() < before; i++)
        sleep_ns(2000000);
    CHECK_EQ(machine_free_pages(), before);
}

/* Control operations on what is no domain of the toolstack's: system domains, the caller itself, nobody. */
TEST(domu_control_of_special_domains)
{
    static const domid_t who[] = {DOMID_SELF, DOMID_IO, DOMID_XEN, DOMID_COW, DOMID_INVALID,
                                  DOMID_IDLE, 0x7fef,   0xffff,    0};
    static struct vcpu_guest_context c;

    for (unsigned i = 0; i < ARRAY_SIZE(who); i++) {
        static const uint8_t cmd[] = {XEN_DOMCTL_destroydomain, XEN_DOMCTL_pausedomain,
                                      XEN_DOMCTL_setvcpucontext, XEN_DOMCTL_resumedomain};

        for (unsigned k = 0; k < ARRAY_SIZE(cmd); k++) {
            struct xen_domctl op = {0};

            if (cmd[k] == XEN_DOMCTL_setvcpucontext)
                set_xen_guest_handle(op.u.vcpucontext.ctxt, &c);
            if (domctl(&op, cmd[k], who[i]) >= 0)
                test_fail("domctl %u on domain %x succeeded", cmd[k], who[i]);
        }
    }
}

static uint64_t random_next(uint64_t *x)
{
    *x = *x * 6364136223846793005ull + 1442695040888963407ull;
    return *x >> 20;
}

/* A toolstack gone wrong: every control operation, at random, on a domain of its own. The machine and other domains go on. */
TEST(domu_control_operations_at_random)
{
    static char buffer[4 * PAGE];
    struct domu u;
    uint64_t x = 4711;

    CHECK(healthy());
    for (unsigned round = 0; round < 3; round++) {
        CHECK_EQ(domu_create(&u, 1, ROLE_IDLE, 0, 2), 0);
        for (unsigned i = 0; i < 2500; i++) {
            struct xen_domctl op;
            unsigned cmd = (unsigned)random_next(&x) % 95;

            for (unsigned k = 0; k < sizeof(op) / 8; k++) {
                uint64_t r = random_next(&x);

                ((uint64_t *)&op)[k] = r & 7    ? r >> 3 & 15
                                       : r & 8  ? (uint64_t)buffer + (r >> 8 & 0xfff)
                                       : r & 16 ? r
                                       : r & 32 ? HV_ADDRESS
                                                : ~0ull;
            }
            if (cmd == XEN_DOMCTL_createdomain || cmd == XEN_DOMCTL_destroydomain ||
                cmd == XEN_DOMCTL_set_virq_handler)
                continue;
            domctl(&op, cmd, u.id);
        }
        CHECK_EQ(domu_destroy(&u), 0);
    }
    healthy_is_well();
}
