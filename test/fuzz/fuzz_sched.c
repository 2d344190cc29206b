/* Fuzz target: scheduling: six vCPUs share two processors. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "sched",
                                        .group = {&ops_sched, &ops_evtchn},
                                        .checks = CHECK_SCHED | CHECK_DOMAIN,
                                        .competing = true};
