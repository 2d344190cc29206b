/* Fuzz target: physical interrupts, devices, platform_op and mca. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "platform",
                                        .group = {&ops_platform, &ops_platform, &ops_evtchn},
                                        .checks = CHECK_IRQ | CHECK_EVTCHN | CHECK_DOMAIN};
