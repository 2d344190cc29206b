/*
 * Calls into Debian's static libraries (zlib, liblzma, libzstd). The only file that sees their headers and so
 * the host's C library headers; it includes nothing of Krypton but its room.
 */
#include "private.h"

#include <zlib.h>
#include <lzma.h>
#include <zstd.h>

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
