/* Searching and counting bits (include/lib/bitmap.h). */
#include "lib/bitmap.h"

/* First bit >= from that is set in map ^ flip. */
static size_t next_bit(const uint64_t *map, size_t bits, size_t from, uint64_t flip)
{
    while (from < bits) {
        uint64_t w = (__atomic_load_n(&map[from / 64], __ATOMIC_ACQUIRE) ^ flip) >> (from % 64);

        if (w) {
            from += (size_t)__builtin_ctzll(w);
            return from < bits ? from : bits;
        }
        from = (from / 64 + 1) * 64;
    }
    return bits;
}

size_t bitmap_next(const uint64_t *map, size_t bits, size_t from)
{
    return next_bit(map, bits, from, 0);
}

size_t bitmap_next_clear(const uint64_t *map, size_t bits, size_t from)
{
    return next_bit(map, bits, from, ~0ull);
}

/* Bits [from, from + n) of one word, n = 1..64 - from. */
static uint64_t word_mask(size_t from, size_t n)
{
    return (~0ull >> (64 - n)) << from;
}

void bitmap_set_range(uint64_t *map, size_t from, size_t n)
{
    while (n) {
        size_t in_word = 64 - from % 64 < n ? 64 - from % 64 : n;

        map[from / 64] |= word_mask(from % 64, in_word);
        from += in_word;
        n -= in_word;
    }
}

void bitmap_clear_range(uint64_t *map, size_t from, size_t n)
{
    while (n) {
        size_t in_word = 64 - from % 64 < n ? 64 - from % 64 : n;

        map[from / 64] &= ~word_mask(from % 64, in_word);
        from += in_word;
        n -= in_word;
    }
}

/* Without the POPCNT instruction the builtin would call into the compiler's library, which is not linked. */
static unsigned popcount(uint64_t w)
{
    w -= (w >> 1) & 0x5555555555555555ull;
    w = (w & 0x3333333333333333ull) + ((w >> 2) & 0x3333333333333333ull);
    w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0full;
    return (unsigned)((w * 0x0101010101010101ull) >> 56);
}

size_t bitmap_count(const uint64_t *map, size_t bits)
{
    size_t n = 0;

    for (size_t i = 0; i < bits / 64; i++)
        n += popcount(map[i]);
    if (bits % 64)
        n += popcount(map[bits / 64] & word_mask(0, bits % 64));
    return n;
}
