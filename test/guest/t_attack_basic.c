/* An ordinary domain of our own: it runs, it ends, it dies with a reason, and nothing is left of it. */
#include "toolstack.h"

ATTACK(domain_runs_and_ends)
{
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
    CHECK(!(start_info->flags & SIF_INITDOMAIN));
}

DEADLY(death_has_a_reason, "no handler")
{
    struct trap_info none = {0};

    HC1(set_trap_table, NULL);
    HC1(set_trap_table, &none);
    __asm__ volatile("ud2");
}
