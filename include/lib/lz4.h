/* LZ4 decompression: what Linux kernels are packed with (CONFIG_KERNEL_LZ4). Pure; any input is safe. */
#ifndef LIB_LZ4_H
#define LIB_LZ4_H

#include <stddef.h>
#include <stdint.h>

/* One block ("LZ4 Block Format Description"): the number of bytes written to out, or -1: corrupt, or more than out_size. */
long lz4_block(uint8_t *out, size_t out_size, const uint8_t *in, size_t in_size);
/* The legacy frame: magic, then blocks that begin with their packed size. Stops when `out` is full. The number of bytes, or 0
 * with the reason in *why. */
size_t lz4_frame(void *out, size_t out_size, const void *in, size_t in_size, const char **why);

#endif
