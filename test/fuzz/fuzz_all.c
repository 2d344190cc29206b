/* Fuzz target: the whole hypercall table and the life of domains. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {
    .name = "all",
    .group = {&ops_mmu, &ops_memory, &ops_grant, &ops_evtchn, &ops_sched, &ops_life, &ops_any, &ops_hvm},
    .checks = CHECK_ALL,
    .translated = true};
