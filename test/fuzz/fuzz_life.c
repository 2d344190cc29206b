/* Fuzz target: the life of domains, while they use all else. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "life",
                                        .group = {&ops_life, &ops_grant, &ops_evtchn, &ops_memory},
                                        .checks = CHECK_DOMAIN | CHECK_MEMORY | CHECK_GRANT | CHECK_EVTCHN};
