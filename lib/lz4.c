/*
 * LZ4 decompression (include/lib/lz4.h). A block is a row of sequences: a token with two lengths of four bits (15: more bytes
 * follow, each added, until one is not 255), that many literal bytes, a distance of two bytes, and a match of at least four bytes
 * that is copied from so far back. The last sequence ends after its literals.
 *
 * Invariants: nothing is read outside [in, end) nor written outside [out, limit); a match lies behind its place in the output.
 */
#include "lib/lz4.h"
#include "lib/string.h"

#define MIN_MATCH    4u
#define LENGTH_MORE  15u
#define BLOCK_HEADER 4u
#define MAGIC_SIZE   4u

/* False: the input ends in between, or the length is beyond all outputs. */
static int length_rest(const uint8_t **in, const uint8_t *end, size_t *length, size_t limit)
{
    uint8_t b = 255;

    if (*length != LENGTH_MORE)
        return 1;
    while (b == 255) {
        if (*in == end || *length > limit)
            return 0;
        b = *(*in)++;
        *length += b;
    }
    return 1;
}

/* Source and destination overlap when the match is longer than its distance: it then repeats itself. */
static void copy_match(uint8_t *to, size_t distance, size_t n)
{
    const uint8_t *from = to - distance;

    if (distance >= n)
        memcpy(to, from, n);
    else
        while (n--)
            *to++ = *from++;
}

long lz4_block(uint8_t *out, size_t out_size, const uint8_t *in, size_t in_size)
{
    const uint8_t *end = in + in_size;
    uint8_t *to = out, *limit = out + out_size;

    while (in < end) {
        size_t literals = *in >> 4, match = *in & LENGTH_MORE, distance;

        in++;
        if (!length_rest(&in, end, &literals, out_size) || literals > (size_t)(end - in) ||
            literals > (size_t)(limit - to))
            return -1;
        memcpy(to, in, literals);
        in += literals;
        to += literals;
        if (in == end)
            return to - out;
        if (end - in < 2)
            return -1;
        distance = in[0] | (size_t)in[1] << 8;
        in += 2;
        if (!length_rest(&in, end, &match, out_size) || !distance || distance > (size_t)(to - out) ||
            match + MIN_MATCH > (size_t)(limit - to))
            return -1;
        copy_match(to, distance, match + MIN_MATCH);
        to += match + MIN_MATCH;
    }
    return -1;
}

size_t lz4_frame(void *out, size_t out_size, const void *in, size_t in_size, const char **why)
{
    const uint8_t *p = in, *end = p + in_size;
    size_t done = 0;

    p += in_size < MAGIC_SIZE ? in_size : MAGIC_SIZE;
    while ((size_t)(end - p) >= BLOCK_HEADER && done < out_size) {
        size_t n = p[0] | p[1] << 8 | p[2] << 16 | (size_t)p[3] << 24;
        long r;

        p += BLOCK_HEADER;
        if (n > (size_t)(end - p)) {
            *why = "lz4: a block is cut short";
            return 0;
        }
        r = lz4_block((uint8_t *)out + done, out_size - done, p, n);
        if (r <= 0) {
            *why = "lz4: corrupt data";
            return 0;
        }
        done += (size_t)r;
        p += n;
    }
    return done;
}
