/* Fuzz target: the toolstack's operations, and the domains that it makes and ends with them. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "control",
                                        .group = {&ops_control, &ops_control, &ops_life, &ops_memory},
                                        .checks = CHECK_ALL & ~CHECK_GRANT,
                                        .translated = true};
