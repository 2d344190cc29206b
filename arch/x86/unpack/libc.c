/*
 * What Debian's decompression libraries want from a C library: an allocator on whole frames (their requests are few and
 * large), and the stack protector's failure exit. memcpy and friends are lib/string.c's.
 */
#include "private.h"
#include "core/frame.h"
#include "core/log.h"
#include "lib/string.h"

struct header {
    uint64_t order;
    uint64_t pad[7]; /* keeps 64-byte alignment */
};

void *malloc(size_t n)
{
    unsigned order = 0;
    struct header *h;

    if (n > (512ul << 20))
        return NULL;
    while ((FRAME_SIZE << order) < n + sizeof(*h))
        order++;
    h = frame_alloc_va(order);
    if (!h)
        return NULL;
    h->order = order;
    return h + 1;
}

void *calloc(size_t n, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(n, size, &bytes) ? NULL : malloc(bytes); /* frames come zeroed */
}

void free(void *p)
{
    struct header *h = p;

    if (p)
        frame_free_va(h - 1, (unsigned)h[-1].order);
}

__attribute__((noreturn)) void __stack_chk_fail(void);
void __stack_chk_fail(void)
{
    panic("stack overwritten while unpacking the dom0 kernel: is the image corrupt?");
}

/* libzstd's hooks for tracing are weak; undefined they would be at address 0, which no call from here reaches. */
unsigned long long ZSTD_trace_decompress_begin(const void *context);
void ZSTD_trace_decompress_end(unsigned long long handle, const void *trace);

unsigned long long ZSTD_trace_decompress_begin(const void *context)
{
    return 0;
}

void ZSTD_trace_decompress_end(unsigned long long handle, const void *trace)
{
}

/* Takes the place of libzstd's decoders of formats before 1.0 (mk/hypervisor.mk): every such call fails. */
size_t unpack_no_legacy(void);

size_t unpack_no_legacy(void)
{
    return (size_t)-1;
}
