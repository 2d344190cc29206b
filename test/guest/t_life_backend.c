/*
 * Two domains that xl starts one after the other: the first grants pages to the second, as the front end of a device does, the second maps
 * them and keeps them. Which of the two is destroyed first is the test's choice (test/boot/test_7_hostile.py).
 */
#include "toolstack.h"

#define FIRST_REF 8u
#define PAGES     64u
#define WORD      0xbac4e7d0ull
#define TICK      20000000ull

static unsigned in_use(const volatile struct grant_entry_v1 *t)
{
    unsigned n = 0;

    for (unsigned i = 0; i < PAGES; i++)
        n += (t[FIRST_REF + i].flags & (GTF_reading | GTF_writing)) != 0;
    return n;
}

/* The pages as the other domain has left them, and as nobody has after it. */
static bool pages_hold(uint64_t *const pages[], uint64_t word)
{
    for (unsigned i = 0; i < PAGES; i++)
        if (pages[i][0] != word + i)
            return false;
    return true;
}

LIFE(front_end)
{
    static uint64_t *pages[PAGES];
    struct grant_entry_v1 *t = scratch_va(20);

    CHECK(grant_table_at(t, false));
    for (unsigned i = 0; i < PAGES; i++) {
        pages[i] = page_alloc();
        t[FIRST_REF + i] = (struct grant_entry_v1){.domid = own_id + 1, .frame = (uint32_t)va_mfn(pages[i])};
        __atomic_store_n(&t[FIRST_REF + i].flags, GTF_permit_access, __ATOMIC_RELEASE);
    }
    print("front end: granted\n");
    while (in_use(t) != PAGES || !pages_hold(pages, WORD))
        sleep_ns(TICK);
    print("front end: all is mapped\n");
    while (in_use(t))
        sleep_ns(TICK);
    print("front end: nothing is mapped, pages %s\n", pages_hold(pages, WORD) ? "as left" : "CHANGED");
    for (;;)
        sleep_ns(50 * TICK);
}

LIFE(back_end)
{
    volatile uint64_t *page[PAGES];
    bool same = true;

    for (unsigned i = 0; i < PAGES;) {
        struct gnttab_map_grant_ref m = {.host_addr = (uint64_t)scratch_va(32 + i),
                                         .flags = GNTMAP_host_map,
                                         .ref = FIRST_REF + i,
                                         .dom = own_id - 1};

        CHECK_EQ(HC3(grant_table_op, GNTTABOP_map_grant_ref, &m, 1), 0);
        if (m.status) {
            sleep_ns(TICK); /* the front end is not ready */
            continue;
        }
        page[i] = scratch_va(32 + i);
        page[i][0] = WORD + i;
        i++;
    }
    print("back end: all is mapped\n");
    for (unsigned n = 0; same; n++) {
        for (unsigned i = 0; i < PAGES; i++)
            same &= page[i][0] == WORD + i;
        if (n % 50 == 49)
            print("back end: as written\n");
        sleep_ns(TICK);
    }
    print("back end: pages CHANGED under it\n");
}
