/*
 * Bounds check bypass (Spectre v1): an index that a guest chose, already checked against its bound, is masked so that a
 * mispredicted check cannot read beyond the array either. docs/security.md.
 */
#ifndef CORE_NOSPEC_H
#define CORE_NOSPEC_H

#include "core/types.h"

/* index if index < size, else 0 - computed without a branch. */
static inline uint64_t array_index(uint64_t index, uint64_t size)
{
    uint64_t mask;

    /* In assembly: the compiler must not use what the bounds check taught it. */
    __asm__("cmp %2, %1\n\tsbb %0, %0" : "=r"(mask) : "r"(index), "rme"(size) : "cc");
    return index & mask;
}

#endif
