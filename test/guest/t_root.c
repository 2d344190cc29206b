/* Entries of a root in use: what is written there holds at once, on every vCPU that runs on it - also where each CPU runs on
 * a copy of the root (xpti). */
#include "guest.h"

#define SLOT 40

static struct {
    const void *at;
    volatile bool stop, faulted;
    volatile uint64_t value, rounds;
} watch;

static void watch_on(void *unused)
{
    while (!watch.stop) {
        uint64_t v = 0;

        watch.faulted = probe_read(watch.at, &v);
        watch.value = v;
        watch.rounds++;
    }
}

/* What the other vCPU reads, after a read that began later than now. */
static bool watcher_sees(uint64_t value, bool faulted)
{
    uint64_t from = watch.rounds, end = time_ns() + 5000000000ul;

    while (watch.rounds < from + 2)
        if (time_ns() > end)
            return false;
    return watch.faulted == faulted && (faulted || watch.value == value);
}

static uint64_t tree(uint64_t value)
{
    uint64_t *t[4] = {page_alloc(), page_alloc(), page_alloc(), page_alloc()};

    t[0][0] = value;
    for (unsigned l = 1; l <= 3; l++)
        t[l][0] = pte_of(t[l - 1], PTE_KERNEL);
    for (unsigned l = 1; l <= 3; l++)
        if (page_protect(t[l]))
            return 0;
    return pte_of(t[3], PTE_KERNEL);
}

TEST(root_entry_changes_hold_at_once)
{
    void *at = (void *)(uint64_t)(SLOT * (1ul << 39));
    uint64_t one = tree(77), two = tree(88), entry, v;

    CHECK(one && two);
    CHECK_EQ(table_entry(at, 4, &entry), 0);
    CHECK(read_faults(at, &v));
    CHECK_EQ(mmu_one(entry, one), 0);
    CHECK(!read_faults(at, &v));
    CHECK_EQ(v, 77);
    CHECK(!write_faults((uint64_t *)at + 1, 5));
    CHECK_EQ(mmu_one(entry, one & ~2ul), 0); /* rights only */
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0), 0);
    CHECK(write_faults((uint64_t *)at + 1, 6));
    CHECK_EQ(mmu_one(entry, two), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0), 0);
    CHECK(!read_faults(at, &v));
    CHECK_EQ(v, 88);
    CHECK_EQ(mmu_one(entry, 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0), 0);
    CHECK(read_faults(at, &v));
}

TEST(root_entry_changes_hold_on_the_other_vcpu)
{
    void *at = (void *)(uint64_t)((SLOT + 1) * (1ul << 39));
    uint64_t one = tree(77), two = tree(88), entry;

    if (!vcpu_exists(1))
        return;
    CHECK(one && two);
    (void)table_entry(at, 4, &entry);
    watch.at = at;
    watch.stop = false;
    CHECK_EQ(vcpu_run(1, watch_on, NULL), 0);
    CHECK(watcher_sees(0, true));
    CHECK_EQ(mmu_one(entry, one), 0);
    CHECK(watcher_sees(77, false));
    CHECK_EQ(mmu_one(entry, two), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_ALL, (uint64_t)at, 0), 0);
    CHECK(watcher_sees(88, false));
    CHECK_EQ(mmu_one(entry, 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_ALL, (uint64_t)at, 0), 0);
    CHECK(watcher_sees(0, true));
    watch.stop = true;
    CHECK(vcpu_wait(1));
}
