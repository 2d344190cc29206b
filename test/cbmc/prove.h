/*
 * For all proofs (docs/testing.md): included before everything else. What the checker cannot know stands here: the product's
 * mask of an index is assembly; a panic is a failed proof.
 */
#ifndef PROVE_H
#define PROVE_H

#include "core/types.h"

/* core/nospec.h */
#define CORE_NOSPEC_H
static inline uint64_t array_index(uint64_t index, uint64_t size)
{
    return index < size ? index : 0;
}

uint64_t any64(void);
uint32_t any32(void);
uint16_t any16(void);
#define anybool() ((any32() & 1) != 0)
/* Of this checker's age, without these. */
static inline bool prove_mul(uint64_t a, uint64_t b, uint64_t *r)
{
    unsigned __int128 x = (unsigned __int128)a * b;

    *r = (uint64_t)x;
    return x >> 64;
}
static inline bool prove_add(uint64_t a, uint64_t b, uint64_t *r)
{
    *r = a + b;
    return *r < a;
}
#define __builtin_mul_overflow prove_mul
#define __builtin_add_overflow prove_add
#define assume(c)              __CPROVER_assume(c)
#define prove(c)               __CPROVER_assert(c, #c)

#endif
