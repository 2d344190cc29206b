/* lib/lz4.c against Debian's liblz4, and against corrupt input: every buffer ends where the sanitizer sees one byte more. */
#include "fake.h"
#include "lib/lz4.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

static unsigned rng = 7;
static unsigned next(void)
{
    rng = rng * 1103515245u + 12345u;
    return rng >> 8;
}

/* Text with repetitions near and far, and stretches without any. */
static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t run = 1 + next() % 600, kind = next() % 3, back = 1 + next() % (kind == 1 ? 70000 : 16);

        for (size_t k = 0; k < run && i < n; k++, i++)
            p[i] = kind == 0 || back > i ? (uint8_t)next() : p[i - back];
    }
}

static void blocks_come_back(void **state)
{
    for (unsigned round = 0; round < 300; round++) {
        size_t n = round < 40 ? round : next() % 200000;
        uint8_t *plain = malloc(n + 1), *out = malloc(n ? n : 1);
        int bound = LZ4_compressBound((int)n);
        char *packed = malloc((size_t)bound);
        uint8_t *exact;
        int size;

        fill(plain, n);
        size = LZ4_compress_default((const char *)plain, packed, (int)n, bound);
        assert_true(size > 0);
        exact = malloc((size_t)size);
        memcpy(exact, packed, (size_t)size);
        assert_int_equal(lz4_block(out, n, exact, (size_t)size), n);
        assert_memory_equal(out, plain, n);
        if (n)
            assert_int_equal(lz4_block(out, n - 1, exact, (size_t)size), -1);
        free(plain);
        free(out);
        free(packed);
        free(exact);
    }
}

/* Changed, cut and random input: nothing outside the buffers is touched, and what liblz4 accepts we read alike. */
static void corrupt_blocks(void **state)
{
    enum { N = 3000 };
    static uint8_t plain[N], theirs[2 * N];

    for (unsigned round = 0; round < 20000; round++) {
        uint8_t *out = malloc(2 * N), packed[LZ4_COMPRESSBOUND(N)], *in;
        size_t size;
        long r;

        fill(plain, N);
        size = (size_t)LZ4_compress_default((const char *)plain, (char *)packed, N, sizeof(packed));
        for (unsigned i = next() % 8; i--;)
            packed[next() % size] = (uint8_t)next();
        size = round % 2 ? size : 1 + next() % size;
        in = malloc(size);
        memcpy(in, packed, size);
        r = lz4_block(out, 2 * N, in, size);
        if (LZ4_decompress_safe((const char *)in, (char *)theirs, (int)size, 2 * N) > 0 && r >= 0)
            assert_memory_equal(out, theirs, (size_t)r);
        free(in);
        free(out);
    }
}

static void lengths_do_not_overflow(void **state)
{
    uint8_t in[5000], out[64];

    memset(in, 255, sizeof(in));
    assert_int_equal(lz4_block(out, sizeof(out), in, sizeof(in)), -1);
    assert_int_equal(lz4_block(out, sizeof(out), in, 1), -1);
    assert_int_equal(lz4_block(out, sizeof(out), in, 0), -1);
    /* one literal, then a match from before the output, from distance 0, and cut in the distance */
    assert_int_equal(lz4_block(out, sizeof(out),
                               (const uint8_t *)"\x10"
                                                "a\2\0",
                               4),
                     -1);
    assert_int_equal(lz4_block(out, sizeof(out),
                               (const uint8_t *)"\x10"
                                                "a\0\0",
                               4),
                     -1);
    assert_int_equal(lz4_block(out, sizeof(out),
                               (const uint8_t *)"\x10"
                                                "a\1",
                               3),
                     -1);
    /* one literal repeated: distance 1, and a last literal */
    assert_int_equal(lz4_block(out, sizeof(out),
                               (const uint8_t *)"\x11"
                                                "a\1\0\x10"
                                                "b",
                               6),
                     7);
    assert_memory_equal(out, "aaaaaab", 7);
}

static void frames(void **state)
{
    const char *why = NULL;
    char out[16];
    /* magic, block of 4 ("abc"), block of 3 ("de") */
    uint8_t f[] = {2, 0x21, 0x4c, 0x18, 4,    0,   0,   0, 0x30, 'a', 'b', 'c',
                   3, 0,    0,    0,    0x20, 'd', 'e', 5, 0,    0,   0};

    assert_int_equal(lz4_frame(out, 5, f, sizeof(f), &why), 5);
    assert_memory_equal(out, "abcde", 5);
    assert_int_equal(lz4_frame(out, 4, f, sizeof(f), &why), 0);
    assert_string_equal(why, "lz4: corrupt data");
    assert_int_equal(lz4_frame(out, sizeof(out), f, sizeof(f), &why),
                     0); /* the size behind the frame is no block */
    assert_string_equal(why, "lz4: a block is cut short");
    assert_int_equal(lz4_frame(out, sizeof(out), f, 3, &why), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(corrupt_blocks),
        cmocka_unit_test(lengths_do_not_overflow),
        cmocka_unit_test(frames),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
