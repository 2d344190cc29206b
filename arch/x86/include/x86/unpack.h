/*
 * dom0 kernels as distributions ship them: a bzImage (Linux boot protocol 2.08 or later, x86/boot.rst) whose payload is an
 * ELF file packed by gzip, xz, lzma, zstd or lz4, or a plain ELF file.
 */
#ifndef X86_UNPACK_H
#define X86_UNPACK_H

#include "core/types.h"

struct kernel_image {
    const void *elf; /* the ELF file: inside the module, or in frames of ours */
    size_t size;
    void *frames; /* != NULL: to be freed with kernel_image_free */
    unsigned order;
    const char *packing; /* "gzip", ... or "none" */
};
/* False with the reason in *why. Runs with interrupts off for as long as unpacking takes (boot only). */
bool must_check kernel_image_open(const void *data, size_t size, struct kernel_image *out, const char **why);
void kernel_image_free(struct kernel_image *k);

#endif
