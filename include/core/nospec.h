/*
 * Bounds check bypass (Spectre v1): an index that a guest chose, already checked against its bound, is masked so that a
 * mispredicted check cannot read beyond the array either. docs/security.md.
 */
#ifndef CORE_NOSPEC_H
#define CORE_NOSPEC_H

#include "core/types.h"

/* index if index < size, else 0 - computed without a branch. size > 0, both below 2^63. */
static inline uint64_t array_index(uint64_t index, uint64_t size)
{
    uint64_t mask;

    __asm__("" : "+r"(index)); /* the compiler must not use what the bounds check taught it */
    mask = (uint64_t)((int64_t) ~(index | (size - 1 - index)) >> 63);
    return index & mask;
}

#endif
