/* Inside arch/x86/unpack only: between the kernel-image parser and Debian's decompression libraries. */
#ifndef UNPACK_PRIVATE_H
#define UNPACK_PRIVATE_H

#include <stddef.h>

/* Unpack in[0..in_size) into out[0..out_size); the number of bytes written, or 0 with the reason in *why. */
size_t unpack_gzip(void *out, size_t out_size, const void *in, size_t in_size, const char **why);
size_t unpack_xz(void *out, size_t out_size, const void *in, size_t in_size, const char **why);
size_t unpack_lzma(void *out, size_t out_size, const void *in, size_t in_size, const char **why);
size_t unpack_zstd(void *out, size_t out_size, const void *in, size_t in_size, const char **why);
size_t unpack_lz4(void *out, size_t out_size, const void *in, size_t in_size, const char **why);

/* The little of a C library that they need. */
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void free(void *p);

#endif
