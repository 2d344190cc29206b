/*
 * Builds the hypervisor's address space (x86/layout.h) and hands the memory over to the frame allocator.
 *
 *   mm_init:  early allocator -> direct map, image -> CR3 -> frame table, M2P     (all RAM is reachable from
 * here on) mm_release_memory (after ACPI, which knows the nodes): what is left goes to the frame allocator
 *   mm_release_init (dom0 runs): memory of use only while booting
 *
 * Invariants
 *  1. No address is writable and executable. The image's text and constants have no writable alias in the
 * direct map.
 *  2. The direct map covers RAM only, write-back; of the first MiB also the VGA memory, uncached.
 *  3. Parts of the frame table without any RAM are one zero page, read-only: their frames are never valid.
 * Locks: none, one CPU.
 */
#include "private.h"
#include "../metal/metal.h"
#include "../metal/pvregs.h"
#include "arch/mem.h"
#include "core/domain.h"
#include "core/frame.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/boot.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "x86/mm.h"
#include "x86/platform.h"
#include "x86/tlb.h"
#include "x86/vcpu.h"

#define LOW_END      0x100000ull
#define VGA_START    0xa0000ull
#define VGA_END      0xc0000ull
#define DIRECT_LIMIT (DIRECT_VIRT_END - DIRECT_VIRT)
#define CHUNK        0x200000ull
#define CHUNK_FRAMES (CHUNK / sizeof(struct frame))

static const struct boot_info *boot;

/* --- addresses
 * -------------------------------------------------------------------------------------------------------- */

void *arch_frame_va(mfn_t m)
{
    return (void *)(DIRECT_VIRT + (m.n << FRAME_SHIFT));
}

mfn_t arch_va_mfn(const void *va)
{
    return MFN(((uint64_t)va - DIRECT_VIRT) >> FRAME_SHIFT);
}

void arch_frame_zero(mfn_t m)
{
    memset(arch_frame_va(m), 0, FRAME_SIZE);
}

/* Guests, toolstacks and Krypton itself write to a domain's frame only while they hold a reference by type (pv/mmu/types.c,
 * invariants 1 and 2), and a frame that had a type keeps the name of it in its type word until it is freed. */
bool arch_frame_untouched(const struct frame *f)
{
    return !f->type;
}

static uint64_t image_pa(const void *va)
{
    return (uint64_t)va - IMAGE_VIRT;
}

static bool has_ram(uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < boot->e820_count; i++) {
        const struct e820_entry *e = &boot->e820[i];

        if (e->type == E820_RAM && e->addr >> FRAME_SHIFT <= last &&
            (e->addr + e->size - 1) >> FRAME_SHIFT >= first)
            return true;
    }
    return false;
}

/* --- mappings
 * ---------------------------------------------------------------------------------------------------------
 */

static void direct_range(uint64_t start, uint64_t end, uint64_t flags)
{
    if (start < end)
        map_range(DIRECT_VIRT + start, start, end - start, flags);
}

/* RAM at or above 1 MiB; the image's constant part is read-only here too. */
static void direct_ram(uint64_t start, uint64_t end)
{
    uint64_t ro_start = image_pa(image_start), ro_end = image_pa(rodata_end);

    if (end <= ro_start || start >= ro_end) {
        direct_range(start, end, PTE_KRW);
        return;
    }
    direct_range(start, ro_start, PTE_KRW);
    map_pages(DIRECT_VIRT + MAX(start, ro_start), MAX(start, ro_start),
              MIN(end, ro_end) - MAX(start, ro_start), PTE_KRO);
    direct_range(ro_end, end, PTE_KRW);
}

static void direct_low(uint64_t start, uint64_t end)
{
    end = MIN(end, VGA_START);
    if (start < end)
        map_pages(DIRECT_VIRT + start, start, end - start, PTE_KRW);
}

static void map_direct(void)
{
    for (unsigned i = 0; i < boot->e820_count; i++) {
        const struct e820_entry *e = &boot->e820[i];
        uint64_t start = ROUND_UP(e->addr, FRAME_SIZE), end = ROUND_DOWN(e->addr + e->size, FRAME_SIZE);

        if (e->type != E820_RAM || start >= end)
            continue;
        direct_low(start, MIN(end, LOW_END));
        direct_ram(MAX(start, LOW_END), end);
    }
    map_pages(DIRECT_VIRT + VGA_START, VGA_START, VGA_END - VGA_START, PTE_KRW | PTE_UC);
}

static void map_image_part(const char *start, const char *end, uint64_t flags)
{
    map_pages((uint64_t)start, image_pa(start), (uint64_t)(end - start), flags);
}

static void map_image(void)
{
    map_image_part(image_start, text_end, PTE_KRX);
    map_image_part(text_end, rodata_end, PTE_KRO);
    map_image_part(ro_after_init, ro_after_init_end, PTE_KRO);
    map_image_part(ro_after_init_end, image_end, PTE_KRW);
}

/* Every slot but the domains' own gets its L3 now: guests' L4s copy the entries. */
static void fill_slots(void)
{
    for (unsigned slot = HYP_SLOT_FIRST; slot <= HYP_SLOT_LAST; slot++)
        if (slot != PERDOMAIN_SLOT)
            (void)table_entry(0xffff000000000000ull | (uint64_t)slot << 39, 3);
}

/* --- frame table
 * ------------------------------------------------------------------------------------------------------- */

/* One table of 512 entries that all lead to one zero page: stands for 2 MiB of frame table without RAM. */
static uint64_t hole_table(void)
{
    static uint64_t hole;
    uint64_t *t, zero;

    if (hole)
        return hole;
    hole = early_alloc(2 * FRAME_SIZE, FRAME_SIZE, ~0ull);
    zero = hole + FRAME_SIZE;
    t = (uint64_t *)(DIRECT_VIRT + hole);
    memset(t, 0, 2 * FRAME_SIZE);
    for (unsigned i = 0; i < 512; i++)
        t[i] = pte_make(maddr_to_mfn(MADDR(zero)), PTE_KRO);
    return hole;
}

static void map_frame_table(uint64_t frames)
{
    for (uint64_t first = 0; first < frames; first += CHUNK_FRAMES) {
        uint64_t va = FRAMES_VIRT + first * sizeof(struct frame);

        if (has_ram(first, first + CHUNK_FRAMES - 1)) {
            map_range(va, early_alloc(CHUNK, CHUNK, ~0ull), CHUNK, PTE_KRW);
            memset((void *)va, 0, CHUNK);
        } else {
            *table_entry(va, 2) = pte_make(maddr_to_mfn(MADDR(hole_table())), PTE_TABLE);
        }
    }
}

static uint64_t highest_frame(void)
{
    uint64_t top = 0;

    for (unsigned i = 0; i < boot->e820_count; i++)
        if (boot->e820[i].type == E820_RAM)
            top = MAX(top, (boot->e820[i].addr + boot->e820[i].size) >> FRAME_SHIFT);
    return top;
}

void mm_init(const struct boot_info *bi)
{
    uint64_t frames;

    boot = bi;
    frames = highest_frame();
    BUG_ON(frames > DIRECT_LIMIT >> FRAME_SHIFT); /* start.c has clipped the map */
    early_init(bi);
    hyp_l4 = (uint64_t *)(DIRECT_VIRT + early_alloc(FRAME_SIZE, FRAME_SIZE, tables_limit));
    memset(hyp_l4, 0, FRAME_SIZE);
    hyp_l4_mfn = arch_va_mfn(hyp_l4);
    map_direct();
    map_image();
    fill_slots();
    hw_write_cr3(mfn_to_maddr(hyp_l4_mfn).a);
    tables_limit = ~0ull;
    map_frame_table(frames);
    m2p_init(frames, has_ram);
    frame_init((struct frame *)FRAMES_VIRT, frames);
}

/* --- memory goes to its allocator
 * ----------------------------------------------------------------------------------------- */

static uint64_t released_to; /* all RAM below has been released or reserved */

static uint64_t node_end(uint64_t start, uint64_t end, unsigned *node)
{
    *node = 0;
    for (unsigned i = 0; i < acpi.node_mem_count; i++) {
        uint64_t s = acpi.node_mem[i].base.a, e = s + acpi.node_mem[i].size;

        if (start >= s && start < e) {
            *node = acpi.node_mem[i].node;
            return MIN(end, e & ~(FRAME_SIZE - 1) ? ROUND_DOWN(e, FRAME_SIZE) : end);
        }
        if (s > start && s < end)
            end = ROUND_UP(s, FRAME_SIZE);
    }
    return end;
}

/* RAM in [released_to, upto) belongs to Krypton. */
static void reserve_until(uint64_t upto)
{
    for (unsigned i = 0; i < boot->e820_count; i++) {
        const struct e820_entry *e = &boot->e820[i];
        uint64_t s = MAX(ROUND_UP(e->addr, FRAME_SIZE), MAX(released_to, LOW_END));
        uint64_t t = MIN(ROUND_DOWN(e->addr + e->size, FRAME_SIZE), upto);

        if (e->type == E820_RAM && s < t)
            frame_reserve_range(MFN(s >> FRAME_SHIFT), MFN(t >> FRAME_SHIFT));
    }
}

static void release_range(uint64_t start, uint64_t end)
{
    reserve_until(start);
    released_to = end;
    while (start < end) {
        unsigned node;
        uint64_t stop = node_end(start, end, &node);

        stop = stop > start ? stop : end;
        frame_add_range(MFN(start >> FRAME_SHIFT), MFN(stop >> FRAME_SHIFT), node);
        start = stop;
    }
}

void mm_release_memory(const struct boot_info *bi)
{
    struct frame_info info;

    early_finish(release_range);
    reserve_until(~0ull);
    tables_from_heap = true;
    frame_info(&info);
    log_info("Memory: %lu MiB, %lu MiB free", (unsigned long)(info.total >> 8),
             (unsigned long)(info.free >> 8));
}

void mm_release_init(void)
{
    for (char *p = init_bss; p < init_bss_end; p += FRAME_SIZE) {
        uint64_t *e = table_find((uint64_t)p, 1);

        BUG_ON(!e || !(*e & PTE_P));
        *e = 0;
    }
    tlb_flush_cpus(&cpus_online, TLB_FLUSH_ALL, GVA(0));
    for (char *p = init_bss; p < init_bss_end; p += FRAME_SIZE)
        frame_free(maddr_to_mfn(MADDR(image_pa(p))), 0);
}

/* --- per CPU and per domain
 * -------------------------------------------------------------------------------------------------- */

bool mm_map_stack(unsigned cpu, const mfn_t *page, mfn_t gdt)
{
    uint64_t base = STACK_BASE(cpu);

    for (unsigned i = 0; i < STACK_SIZE / FRAME_SIZE; i++) {
        mfn_t m = i == STACK_PAGE_STUBS ? maddr_to_mfn(MADDR(image_pa(stubs_page))) : page[i];

        if (i != STACK_PAGE_GUARD &&
            !mm_set_page(base + i * FRAME_SIZE, m, i == STACK_PAGE_STUBS ? PTE_KRX : PTE_KRW))
            return false;
    }
    if (!mm_set_page(STACK_TSS_VIRT(cpu), gdt, PTE_KRW))
        return false;
    tlb_flush_local(); /* the area of a CPU that did not start is mapped anew */
    return true;
}

void mm_fill_guest_l4(uint64_t *l4, struct domain *d)
{
    for (unsigned slot = HYP_SLOT_FIRST; slot <= HYP_SLOT_LAST; slot++)
        l4[slot] =
            slot == PERDOMAIN_SLOT ? pte_make(x86_domain(d)->perdomain_l3_mfn, PTE_TABLE) : hyp_l4[slot];
}

bool mm_show_m2p(uint64_t *l4, bool show)
{
    uint64_t want = show ? hyp_l4[HYP_SLOT_FIRST] : 0;

    return __atomic_load_n(&l4[HYP_SLOT_FIRST], __ATOMIC_ACQUIRE) != want &&
           __atomic_exchange_n(&l4[HYP_SLOT_FIRST], want, __ATOMIC_ACQ_REL) != want;
}
