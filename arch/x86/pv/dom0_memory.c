/*
 * dom0's memory: how much (dom0_mem=, Xen's syntax) and which frames.
 */
#include "dom0_private.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/params.h"
#include "arch/mem.h"
#include "lib/string.h"

#define PAGES_MIB(m) ((uint64_t)(m) << (20 - FRAME_SHIFT))

/* One of dom0_mem='s values: bytes, or (negative) all but so many bytes. */
struct amount {
    bool given, negative;
    uint64_t bytes;
};
static struct amount mem_size, mem_min, mem_max;

static bool parse_amount(const char *s, const char **end, struct amount *a)
{
    const char *digits = *s == '-' ? s + 1 : s;

    a->negative = digits != s;
    a->bytes = param_size(digits, end);
    a->given = *end != digits;
    return a->given;
}

static bool opt_dom0_mem(const char *s)
{
    while (*s) {
        struct amount *a = &mem_size;

        if (!strncmp(s, "min:", 4)) {
            a = &mem_min;
            s += 4;
        } else if (!strncmp(s, "max:", 4)) {
            a = &mem_max;
            s += 4;
        }
        if (!parse_amount(s, &s, a) || (*s && *s != ','))
            return false;
        s += *s == ',';
    }
    return true;
}
PARAM_CUSTOM("dom0_mem", opt_dom0_mem, "dom0's memory: <size>[,min:<size>][,max:<size>], negative = all but");

static uint64_t amount_pages(const struct amount *a, uint64_t available)
{
    uint64_t pages = a->bytes >> FRAME_SHIFT;

    return !a->negative ? pages : pages < available ? available - pages : 0;
}

uint64_t dom0_memory_size(uint64_t *max_pages)
{
    struct frame_info info;
    uint64_t reserve, available, pages;

    frame_info(&info);
    /* What Krypton keeps for page tables, grant tables and guests' own structures: 1/16, at most 128 MiB. */
    reserve = MIN(info.free / 16, PAGES_MIB(128));
    available = info.free - reserve;
    pages = mem_size.given ? amount_pages(&mem_size, available) : available;
    if (mem_min.given)
        pages = MAX(pages, amount_pages(&mem_min, available));
    if (mem_max.given)
        pages = MIN(pages, amount_pages(&mem_max, available));
    if (pages > available)
        panic("dom0_mem asks for %lu MiB, but only %lu MiB of memory are available for dom0: give a smaller "
              "dom0_mem=",
              (unsigned long)(pages >> (20 - FRAME_SHIFT)), (unsigned long)(available >> (20 - FRAME_SHIFT)));
    if (pages < PAGES_MIB(64))
        panic("dom0 would get %lu MiB of memory (%lu MiB are available): it needs at least 64 MiB",
              (unsigned long)(pages >> (20 - FRAME_SHIFT)), (unsigned long)(available >> (20 - FRAME_SHIFT)));
    *max_pages = mem_max.given ? MAX(amount_pages(&mem_max, available), pages) : MAX(info.total, pages);
    return pages;
}

static void add_run(struct dom0_memory *m, uint64_t pfn, mfn_t mfn, unsigned order)
{
    if (m->run_count == m->run_max)
        panic("Memory is too fragmented to build dom0 (%u pieces)", m->run_count);
    m->run[m->run_count++] = (struct dom0_run){pfn, mfn, order};
}

/* Largest pieces first: few runs, and superpage-friendly p2m. Contents are what the firmware left: the
 * builder writes or zeroes every frame that it uses, and dom0 may see the rest. */
void dom0_memory_allocate(struct dom0_memory *m, struct domain *d, uint64_t pages, uint64_t max_pages)
{
    unsigned order = FRAME_MAX_ORDER;

    *m = (struct dom0_memory){.d = d, .pages = pages, .max_pages = max_pages, .run_order = 8};
    m->run = frame_alloc_va(m->run_order);
    BUG_ON(!m->run);
    m->run_max = (unsigned)((FRAME_SIZE << m->run_order) / sizeof(m->run[0]));
    for (uint64_t pfn = 0; pfn < pages;) {
        mfn_t mfn;

        if ((1ull << order) > pages - pfn || frame_alloc_domain(d, order, 64, FA_NO_SCRUB, &mfn)) {
            if (!order--)
                panic("Out of memory after giving dom0 %lu of %lu MiB", (unsigned long)(pfn >> 8),
                      (unsigned long)(pages >> 8));
            continue;
        }
        add_run(m, pfn, mfn, order);
        pfn += 1ull << order;
    }
}

mfn_t dom0_mfn(const struct dom0_memory *m, uint64_t pfn)
{
    unsigned low = 0, high = m->run_count;

    BUG_ON(pfn >= m->pages);
    while (high - low > 1) {
        unsigned mid = (low + high) / 2;

        if (m->run[mid].pfn <= pfn)
            low = mid;
        else
            high = mid;
    }
    return MFN(m->run[low].mfn.n + (pfn - m->run[low].pfn));
}

void *dom0_va(const struct dom0_memory *m, uint64_t pfn)
{
    return arch_frame_va(dom0_mfn(m, pfn));
}

void dom0_memory_done(struct dom0_memory *m)
{
    frame_free_va(m->run, m->run_order);
    m->run = NULL;
}
