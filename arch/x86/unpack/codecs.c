/*
 * Calls into Debian's static libraries (zlib, liblzma, libzstd, liblz4). The only file that sees their headers and so
 * the host's C library headers; it includes nothing of Krypton but its room.
 */
#include "private.h"

#include <zlib.h>
#include <lzma.h>
#include <zstd.h>
#include <lz4.h>

size_t unpack_gzip(void *out, size_t out_size, const void *in, size_t in_size, const char **why)
{
    z_stream s = {
        .next_in = (Bytef *)in, .avail_in = (uInt)in_size, .next_out = out, .avail_out = (uInt)out_size};
    int r;

    if (inflateInit2(&s, 15 + 16) != Z_OK) {
        *why = "gzip: not enough memory";
        return 0;
    }
    r = inflate(&s, Z_FINISH);
    inflateEnd(&s);
    if (r != Z_STREAM_END) {
        *why = "gzip: corrupt data";
        return 0;
    }
    return out_size - s.avail_out;
}

static size_t run_lzma(lzma_stream *s, void *out, size_t out_size, const void *in, size_t in_size,
                       const char **why)
{
    lzma_ret r;

    s->next_in = in;
    s->avail_in = in_size;
    s->next_out = out;
    s->avail_out = out_size;
    r = lzma_code(s, LZMA_FINISH);
    lzma_end(s);
    if (r == LZMA_STREAM_END || (r == LZMA_OK && !s->avail_out))
        return out_size - s->avail_out;
    *why = r == LZMA_MEM_ERROR       ? "xz: not enough memory"
           : r == LZMA_OPTIONS_ERROR ? "xz: unsupported filter"
                                     : "xz: corrupt data";
    return 0;
}

size_t unpack_xz(void *out, size_t out_size, const void *in, size_t in_size, const char **why)
{
    lzma_stream s = LZMA_STREAM_INIT;

    if (lzma_stream_decoder(&s, 256u << 20, 0) != LZMA_OK) {
        *why = "xz: not enough memory";
        return 0;
    }
    return run_lzma(&s, out, out_size, in, in_size, why);
}

size_t unpack_lzma(void *out, size_t out_size, const void *in, size_t in_size, const char **why)
{
    lzma_stream s = LZMA_STREAM_INIT;

    if (lzma_alone_decoder(&s, 256u << 20) != LZMA_OK) {
        *why = "lzma: not enough memory";
        return 0;
    }
    return run_lzma(&s, out, out_size, in, in_size, why);
}

size_t unpack_zstd(void *out, size_t out_size, const void *in, size_t in_size, const char **why)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    size_t frame, r;

    if (!ctx) {
        *why = "zstd: not enough memory";
        return 0;
    }
    /* The payload carries the size behind the frame: decompress exactly the frame. */
    frame = ZSTD_findFrameCompressedSize(in, in_size);
    r = ZSTD_isError(frame) ? frame : ZSTD_decompressDCtx(ctx, out, out_size, in, frame);
    ZSTD_freeDCtx(ctx);
    if (ZSTD_isError(r)) {
        *why = "zstd: corrupt data";
        return 0;
    }
    return r;
}

/* The legacy frame that kernels use: magic, then blocks of (size, data), each up to 8 MiB unpacked. */
size_t unpack_lz4(void *out, size_t out_size, const void *in, size_t in_size, const char **why)
{
    const unsigned char *p = (const unsigned char *)in + 4, *end = (const unsigned char *)in + in_size;
    size_t done = 0;

    while (end - p >= 4 && done < out_size) {
        size_t n = p[0] | p[1] << 8 | p[2] << 16 | (size_t)p[3] << 24;
        int r;

        p += 4;
        if (n > (size_t)(end - p)) {
            *why = "lz4: a block is cut short";
            return 0;
        }
        r = LZ4_decompress_safe((const char *)p, (char *)out + done, (int)n, (int)(out_size - done));
        if (r <= 0) {
            *why = "lz4: corrupt data";
            return 0;
        }
        done += (size_t)r;
        p += n;
    }
    return done;
}
