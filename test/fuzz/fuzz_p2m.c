/* Fuzz target: the memory of a translated guest, and others' grip on it. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "p2m",
                                        .group = {&ops_p2m, &ops_p2m, &ops_memory, &ops_grant, &ops_hvm},
                                        .checks = CHECK_P2M | CHECK_MMU | CHECK_GRANT | CHECK_MEMORY,
                                        .translated = true};
