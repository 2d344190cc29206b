/* Fuzz target: dispatch, permissions, multicalls, hypercalls without a room of their own. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "hypercall",
                                        .group = {&ops_any, &ops_any, &ops_hvm},
                                        .checks = CHECK_DOMAIN | CHECK_P2M,
                                        .translated = true};
