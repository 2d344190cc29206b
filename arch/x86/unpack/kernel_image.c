/*
 * Finds the ELF file in a kernel image, see x86/unpack.h.
 *
 * The libraries are compiled for user space: they use SSE registers, the red zone below the stack pointer and a
 * stack-protector word at %fs:0x28. So they run with interrupts off (an interrupt would overwrite the red zone) and FS pointing
 * at memory of ours; the SSE registers hold nothing yet when the dom0 kernel is unpacked.
 */
#include "private.h"
#include "x86/msr.h"
#include "x86/unpack.h"
#include "core/frame.h"
#include "core/log.h"
#include "arch/cpu.h"
#include "lib/string.h"
#include "../metal/asm.h"

/* Linux boot protocol: offsets in the file. */
#define BZ_SETUP_SECTS    0x1f1
#define BZ_MAGIC          0x202
#define BZ_VERSION        0x206
#define BZ_PAYLOAD_OFFSET 0x248
#define BZ_PAYLOAD_LENGTH 0x24c
#define BZ_MIN_SIZE       0x260

#define ELF_LIMIT         (512ul << 20) /* larger kernels do not exist; a corrupt size shall not ask for all memory */

struct packing {
    const char *name;
    uint8_t magic[6];
    uint8_t magic_size;
    size_t (*unpack)(void *out, size_t out_size, const void *in, size_t in_size, const char **why);
};

static const struct packing packings[] = {
    {"gzip", {0x1f, 0x8b}, 2, unpack_gzip},           {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
    {"lzma", {0x5d, 0x00, 0x00}, 3, unpack_lzma},     {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4}, {"bzip2", {'B', 'Z', 'h'}, 3, NULL},
    {"lzo", {0x89, 'L', 'Z', 'O', 0}, 5, NULL},
};

static uint32_t le32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static size_t unpack_guarded(const struct packing *p, void *out, size_t out_size, const void *in,
                             size_t in_size, const char **why)
{
    static uint64_t fs_area[8];
    unsigned long flags = arch_irq_save();
    uint64_t fs = rdmsr(MSR_FS_BASE);
    size_t n;

    wrmsr(MSR_FS_BASE, (uint64_t)(uintptr_t)fs_area);
    n = p->unpack(out, out_size, in, in_size, why);
    wrmsr(MSR_FS_BASE, fs);
    arch_irq_restore(flags);
    return n;
}

static bool unpack_payload(const uint8_t *in, size_t size, struct kernel_image *out, const char **why)
{
    const struct packing *p = NULL;
    size_t unpacked, n;

    for (unsigned i = 0; i < ARRAY_SIZE(packings); i++)
        if (size > 8 && !memcmp(in, packings[i].magic, packings[i].magic_size))
            p = &packings[i];
    if (!p || !p->unpack) {
        *why = p ? "compression not supported (bzip2, lzo): use gzip, xz, zstd or lz4"
                 : "unknown compression or corrupt payload";
        return false;
    }
    unpacked = le32(in + size - 4);
    if (!unpacked || unpacked > ELF_LIMIT) {
        *why = "the unpacked size behind the payload makes no sense: file truncated?";
        return false;
    }
    while ((FRAME_SIZE << out->order) < unpacked)
        out->order++;
    out->frames = frame_alloc_va(out->order);
    if (!out->frames) {
        *why = "not enough memory to unpack the kernel";
        return false;
    }
    n = unpack_guarded(p, out->frames, unpacked, in, size, why);
    if (n != unpacked) {
        if (n)
            *why = "unpacked data is shorter than announced";
        kernel_image_free(out);
        return false;
    }
    out->elf = out->frames;
    out->size = unpacked;
    out->packing = p->name;
    return true;
}

bool kernel_image_open(const void *data, size_t size, struct kernel_image *out, const char **why)
{
    const uint8_t *d = data;
    uint64_t start, length;
    unsigned sects;

    *out = (struct kernel_image){.packing = "none"};
    *why = "not a kernel: neither ELF nor bzImage";
    if (size >= 64 && !memcmp(d, "\177ELF", 4)) {
        out->elf = data;
        out->size = size;
        return true;
    }
    if (size < BZ_MIN_SIZE || memcmp(d + BZ_MAGIC, "HdrS", 4))
        return false;
    if ((d[BZ_VERSION] | d[BZ_VERSION + 1] << 8) < 0x208) {
        *why = "bzImage of boot protocol before 2.08 (Linux before 2.6.26)";
        return false;
    }
    sects = d[BZ_SETUP_SECTS] ? d[BZ_SETUP_SECTS] : 4;
    start = (sects + 1) * 512ull + le32(d + BZ_PAYLOAD_OFFSET);
    length = le32(d + BZ_PAYLOAD_LENGTH);
    if (start >= size || length > size - start || length < 16) {
        *why = "bzImage payload lies outside the file: file truncated?";
        return false;
    }
    return unpack_payload(d + start, length, out, why);
}

void kernel_image_free(struct kernel_image *k)
{
    if (k->frames)
        frame_free_va(k->frames, k->order);
    k->frames = NULL;
}
