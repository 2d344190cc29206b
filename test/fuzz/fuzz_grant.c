/* Fuzz target: grant tables, with the page tables that map them. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {
    .name = "grant", .group = {&ops_grant, &ops_grant, &ops_mmu}, .checks = CHECK_GRANT | CHECK_MMU};
