/* Fuzz target: frames, heap, small objects, XENMEM operations. */
#include "fuzz.h"

const struct fuzz_target fuzz_target = {
    .name = "memory", .group = {&ops_memory, &ops_alloc}, .checks = CHECK_MEMORY};
