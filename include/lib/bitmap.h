/* Bits in arrays of 64-bit words. Plain accesses: the owner's lock protects them. Bit n is bit n % 64 of word
 * n / 64. */
#ifndef LIB_BITMAP_H
#define LIB_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITMAP_WORDS(bits) (((bits) + 63) / 64)

static inline bool bitmap_test(const uint64_t *map, size_t bit)
{
    return (map[bit / 64] >> (bit % 64)) & 1;
}
static inline void bitmap_set(uint64_t *map, size_t bit)
{
    map[bit / 64] |= 1ull << (bit % 64);
}
static inline void bitmap_clear(uint64_t *map, size_t bit)
{
    map[bit / 64] &= ~(1ull << (bit % 64));
}
/* First set / clear bit >= from, or `bits` when there is none. Words are read atomically: also for maps that others change with
 * atomic operations. */
size_t bitmap_next(const uint64_t *map, size_t bits, size_t from);
size_t bitmap_next_clear(const uint64_t *map, size_t bits, size_t from);
/* Sets / clears bits [from, from + n). */
void bitmap_set_range(uint64_t *map, size_t from, size_t n);
void bitmap_clear_range(uint64_t *map, size_t from, size_t n);
/* Number of set bits among the first `bits`. */
size_t bitmap_count(const uint64_t *map, size_t bits);

#endif
