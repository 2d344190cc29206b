/*
 * Mappings of device registers and firmware memory in the VMAP slot.
 *
 * Address space is taken from the first free range that fits, with an unmapped page behind each mapping, and
 * merged back when it is returned. A returned range is flushed from all TLBs before it can be given out
 * again.
 *
 * Invariants: free_range[] is sorted, disjoint, not adjacent; nothing in it is mapped.
 * Locks: vmap_lock (RANK_VMAP), interrupts as they are.
 */
#include "private.h"
#include "arch/cpu.h"
#include "core/cpumask.h"
#include "core/lock.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/mm.h"
#include "x86/tlb.h"

#define RANGES_MAX 256
#define ABSURD     (64ull << 30)

static struct {
    uint64_t start, end;
} free_range[RANGES_MAX] = {{VMAP_VIRT, VMAP_VIRT_END}};
static unsigned range_count = 1;
static struct spinlock vmap_lock = SPINLOCK_INIT(RANK_VMAP);

static uint64_t take(uint64_t bytes)
{
    for (unsigned i = 0; i < range_count; i++) {
        uint64_t va = free_range[i].start;

        if (free_range[i].end - va < bytes)
            continue;
        free_range[i].start += bytes;
        if (free_range[i].start == free_range[i].end) {
            range_count--;
            memmove(&free_range[i], &free_range[i + 1], (range_count - i) * sizeof(free_range[0]));
        }
        return va;
    }
    return 0;
}

/* When the list is full the address space is lost, which costs nothing but addresses. */
static void give(uint64_t start, uint64_t end)
{
    unsigned i = 0;

    while (i < range_count && free_range[i].start < start)
        i++;
    if (i && free_range[i - 1].end == start) {
        free_range[i - 1].end = end;
        if (i < range_count && free_range[i].start == end) {
            free_range[i - 1].end = free_range[i].end;
            range_count--;
            memmove(&free_range[i], &free_range[i + 1], (range_count - i) * sizeof(free_range[0]));
        }
        return;
    }
    if (i < range_count && free_range[i].start == end) {
        free_range[i].start = start;
        return;
    }
    if (range_count == RANGES_MAX)
        return;
    memmove(&free_range[i + 1], &free_range[i], (range_count - i) * sizeof(free_range[0]));
    range_count++;
    free_range[i].start = start;
    free_range[i].end = end;
}

static void unmap_pages(uint64_t va, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *e = table_find(va + i * FRAME_SIZE, 1);

        if (e)
            __atomic_store_n(e, 0, __ATOMIC_RELAXED);
    }
}

static void *map(maddr_t base, size_t bytes, uint64_t flags)
{
    uint64_t off = base.a % FRAME_SIZE, pages = (off + bytes + FRAME_SIZE - 1) / FRAME_SIZE, va, i;

    if (!bytes || bytes > ABSURD || base.a + bytes < base.a || (base.a + bytes - 1) >> cpu_features.phys_bits)
        return NULL;
    spin_lock(&vmap_lock);
    va = take((pages + 1) * FRAME_SIZE);
    for (i = 0; va && i < pages; i++)
        if (!mm_set_page(va + i * FRAME_SIZE, MFN((base.a >> FRAME_SHIFT) + i), flags))
            break;
    if (va && i < pages) {
        unmap_pages(va, i); /* never used, so in no TLB */
        give(va, va + (pages + 1) * FRAME_SIZE);
        va = 0;
    }
    spin_unlock(&vmap_lock);
    return va ? (void *)(va + off) : NULL;
}

void *mm_map_device(maddr_t base, size_t bytes)
{
    return map(base, bytes, PTE_KRW | PTE_UC);
}

void *mm_map_firmware(maddr_t base, size_t bytes)
{
    return map(base, bytes, PTE_KRO);
}

void mm_unmap_device(void *p, size_t bytes)
{
    uint64_t va = ROUND_DOWN((uint64_t)p, FRAME_SIZE);
    uint64_t pages = ((uint64_t)p % FRAME_SIZE + bytes + FRAME_SIZE - 1) / FRAME_SIZE;

    if (!p)
        return;
    BUG_ON(va < VMAP_VIRT || va >= VMAP_VIRT_END);
    spin_lock(&vmap_lock);
    unmap_pages(va, pages);
    spin_unlock(&vmap_lock);
    tlb_flush_cpus(&cpus_online, TLB_FLUSH_ALL, GVA(0));
    spin_lock(&vmap_lock);
    give(va, va + (pages + 1) * FRAME_SIZE);
    spin_unlock(&vmap_lock);
}
