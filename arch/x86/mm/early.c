/*
 * Memory before the frame allocator: the RAM of the memory map without the image, the modules and the
 * loader's information, taken away from the top.
 *
 * Invariants: range[] is sorted and disjoint, whole frames, RAM at or above 1 MiB (below it is I/O space,
 * BIOS data and the page from which processors start: never given to anyone).
 */
#include "private.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/boot.h"
#include "x86/layout.h"

#define LOW_END    0x100000ull
#define RANGES_MAX (2 * BOOT_MAX_E820)

static struct {
    uint64_t start, end;
} range[RANGES_MAX] __attribute__((section(".bss.init")));
static unsigned count;

static void insert(unsigned at, uint64_t start, uint64_t end)
{
    if (start >= end)
        return;
    if (count == RANGES_MAX)
        panic("memory map: too many pieces");
    memmove(&range[at + 1], &range[at], (count - at) * sizeof(range[0]));
    range[at].start = start;
    range[at].end = end;
    count++;
}

static void delete (unsigned at)
{
    memmove(&range[at], &range[at + 1], (--count - at) * sizeof(range[0]));
}

/* Takes [start, end), widened to whole frames, out of all ranges. */
static void cut(uint64_t start, uint64_t end)
{
    start = ROUND_DOWN(start, FRAME_SIZE);
    end = ROUND_UP(end, FRAME_SIZE);
    for (unsigned i = 0; i < count; i++) {
        uint64_t s = range[i].start, e = range[i].end;

        if (end <= s || start >= e)
            continue;
        delete (i);
        insert(i, MAX(end, s), e);
        insert(i, s, MIN(start, e));
        i = (unsigned)-1; /* indices moved: begin again; cuts are few */
    }
}

void early_init(const struct boot_info *bi)
{
    for (unsigned i = 0; i < bi->e820_count; i++) {
        const struct e820_entry *e = &bi->e820[i];

        if (e->type == E820_RAM)
            insert(count, MAX(ROUND_UP(e->addr, FRAME_SIZE), LOW_END),
                   ROUND_DOWN(e->addr + e->size, FRAME_SIZE));
    }
    cut(bi->image_start.a, bi->image_end.a);
    for (unsigned i = 0; i < bi->module_count; i++)
        cut(bi->module[i].start, bi->module[i].start + bi->module[i].size);
    if (bi->efi_memmap.a)
        cut(bi->efi_memmap.a, bi->efi_memmap.a + bi->efi_memmap_size);
}

uint64_t early_alloc(uint64_t bytes, uint64_t align, uint64_t limit)
{
    for (unsigned i = count; i--;) {
        uint64_t s = range[i].start, e = range[i].end, top = MIN(e, limit), at;

        if (top < bytes)
            continue;
        at = ROUND_DOWN(top - bytes, align);
        if (at < s)
            continue;
        delete (i);
        insert(i, at + bytes, e);
        insert(i, s, at);
        return at;
    }
    panic("not enough memory for Krypton's own tables: %lu KiB in one piece are missing",
          (unsigned long)(bytes >> 10));
}

void early_finish(void (*fn)(uint64_t start, uint64_t end))
{
    for (unsigned i = 0; i < count; i++)
        fn(range[i].start, range[i].end);
    count = 0;
}
