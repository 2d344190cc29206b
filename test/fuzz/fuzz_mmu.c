/* Fuzz target: page tables. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "mmu", .group = {&ops_mmu, &ops_memory}, .checks = CHECK_MMU};
