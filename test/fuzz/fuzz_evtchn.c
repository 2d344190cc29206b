/* Fuzz target: event channels. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {.name = "evtchn", .group = {&ops_evtchn}, .checks = CHECK_EVTCHN};
