/*
 * Trace buffers (include/core/trace.h, xen/trace.h). The reader has struct t_buf and the data behind it mapped writable: it moves
 * `cons`. What it writes is not believed: our own `prod` is kept apart, and a `cons` that cannot be means that nothing was read.
 *
 *   0 <= cons, prod < 2 * size; prod - cons (modulo 2 * size) <= size is what waits for the reader
 *
 * Invariants
 *  1. A record is written as a whole before prod moves over it; none wraps round the end: what is left there is one record that
 *     says so.
 *  2. A record that does not fit is counted; the next one that fits comes after a record with that count.
 *  3. Buffers, once there, stay for ever: a CPU that still writes when tracing ends harms nobody.
 * Locks: none. Each CPU writes to its own buffer with interrupts off.
 */
#include "core/trace.h"
#include "core/domain.h"
#include "core/evtchn.h"
#include "core/frame.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "lib/string.h"

#define HEADER_CYCLES 12u /* header word, time stamp */
#define LOST_WORDS    4u
#define PAGES_MAX     4096u

static struct buffer {
    struct t_buf *shared;
    uint32_t prod, lost;
    uint64_t lost_since;
    bool told; /* the reader was told that the buffer is half full */
} buffers[MAX_CPUS];

uint32_t trace_mask;
static uint32_t wanted = TRC_ALL;
static struct cpumask cpus;
static struct t_info *info;
static uint32_t info_bytes, size; /* of a buffer's data */

static void tell_reader(void *unused)
{
    evtchn_virq_dom0(VIRQ_TBUF);
}
static struct tasklet half_full = {.fn = tell_reader};

/* Class and subclass of xen/trace.h, each a set of bits of which one must be common. */
static bool is_wanted(uint32_t event)
{
    uint32_t both = __atomic_load_n(&trace_mask, __ATOMIC_RELAXED) & event;

    return both >> TRC_CLS_SHIFT && both >> TRC_SUBCLS_SHIFT & 0xf && cpumask_test(&cpus, arch_cpu_id());
}

static uint32_t used(const struct buffer *b)
{
    uint32_t cons = __atomic_load_n(&b->shared->cons, __ATOMIC_ACQUIRE);
    uint32_t n = b->prod >= cons ? b->prod - cons : b->prod + 2 * size - cons;

    return cons >= 2 * size || n > size ? size : n;
}

static void advance(struct buffer *b, uint32_t n)
{
    b->prod = b->prod + n >= 2 * size ? b->prod + n - 2 * size : b->prod + n;
    __atomic_store_n(&b->shared->prod, b->prod, __ATOMIC_RELEASE);
}

static uint32_t *data_at(const struct buffer *b)
{
    return (uint32_t *)((char *)(b->shared + 1) + (b->prod >= size ? b->prod - size : b->prod));
}

static uint32_t to_end(const struct buffer *b)
{
    return size - (b->prod >= size ? b->prod - size : b->prod);
}

/* A record without time stamp over what is left at the end: header and up to TRACE_WORDS words, more by a second one. */
static void fill_end(struct buffer *b, uint32_t n)
{
    while (n) {
        uint32_t words = MIN(n / 4 - 1, TRACE_WORDS);

        *data_at(b) = TRC_TRACE_WRAP_BUFFER | words << TRACE_EXTRA_SHIFT;
        memset(data_at(b) + 1, 0, words * 4);
        n -= 4 + words * 4;
        advance(b, 4 + words * 4);
    }
}

/* Room for a record of n bytes, the end filled if it does not fit there. */
static bool make_room(struct buffer *b, uint32_t n)
{
    uint32_t end = to_end(b);

    if (size - used(b) < n + (end < n ? end : 0))
        return false;
    if (end < n)
        fill_end(b, end);
    return true;
}

static void put(struct buffer *b, uint32_t event, uint64_t now, unsigned n, const uint32_t *words)
{
    uint32_t *p = data_at(b);

    p[0] = event | n << TRACE_EXTRA_SHIFT | (uint32_t)TRC_HD_CYCLE_FLAG;
    p[1] = (uint32_t)now;
    p[2] = (uint32_t)(now >> 32);
    memcpy(p + 3, words, n * 4);
    advance(b, HEADER_CYCLES + n * 4);
}

static bool put_lost(struct buffer *b, uint64_t now)
{
    const struct vcpu *v = arch_current();
    uint32_t words[LOST_WORDS] = {b->lost, v ? (uint32_t)v->id << 16 | v->domain->id.v : 0,
                                  TRACE_U64(b->lost_since)};

    if (!make_room(b, HEADER_CYCLES + sizeof(words)))
        return false;
    put(b, TRC_LOST_RECORDS, now, LOST_WORDS, words);
    b->lost = 0;
    return true;
}

static void record(struct buffer *b, uint32_t event, unsigned n, const uint32_t *words)
{
    uint64_t now = arch_cycles();

    if ((b->lost && !put_lost(b, now)) || !make_room(b, HEADER_CYCLES + n * 4)) {
        if (!b->lost++)
            b->lost_since = now;
        return;
    }
    put(b, event, now, n, words);
    if (used(b) < size / 2) {
        b->told = false;
    } else if (!b->told) {
        b->told = true;
        tasklet_schedule(&half_full);
    }
}

void trace_record(uint32_t event, unsigned n, const uint32_t *words)
{
    struct buffer *b = &buffers[arch_cpu_id()];
    unsigned long flags;

    if (!is_wanted(event) || !b->shared || n > TRACE_WORDS)
        return;
    flags = arch_irq_save();
    record(b, event, n, words);
    arch_irq_restore(flags);
}

/* --- control --- */

static unsigned order_of(uint32_t pages)
{
    unsigned order = 0;

    while (1u << order < pages)
        order++;
    return order;
}

/* Frames of one CPU's buffer: contiguous, shown to the toolstack, writable. Their numbers go into struct t_info. */
static bool make_buffer(unsigned cpu, uint32_t pages, uint32_t *list)
{
    mfn_t m;

    if (!frame_alloc(order_of(pages), FA_ZERO, FRAME_ANY_NODE, &m))
        return false;
    for (uint32_t i = 0; i < pages; i++) {
        arch_frame_writable(MFN(m.n + i));
        frame_share(dom_xen, MFN(m.n + i));
        list[i] = (uint32_t)(m.n + i);
    }
    for (uint32_t i = pages; i < 1u << order_of(pages); i++)
        frame_free(MFN(m.n + i), 0);
    __atomic_store_n(&buffers[cpu].shared, arch_frame_va(m), __ATOMIC_RELEASE);
    return true;
}

/* struct t_info: the header, an offset per CPU (in words), then the lists. */
static uint32_t info_words(uint32_t pages)
{
    return (uint32_t)(sizeof(struct t_info) + (cpu_count() + 1) * 2 + 3) / 4 + cpu_count() * pages;
}

int trace_set_size(unsigned pages)
{
    uint32_t bytes = info_words(MIN(pages, PAGES_MAX)) * 4, first = info_words(0);
    unsigned order = order_of((bytes + FRAME_SIZE - 1) >> FRAME_SHIFT);
    struct t_info *t;

    if (info || !pages || pages > PAGES_MAX || info_words(pages) > 0xffff)
        return -EINVAL;
    t = frame_alloc_va(order);
    if (!t)
        return -ENOMEM;
    size = pages * FRAME_SIZE - sizeof(struct t_buf);
    t->tbuf_size = (uint16_t)pages;
    for (unsigned c = 0; c < cpu_count(); c++) {
        t->mfn_offset[c] = (uint16_t)(first + c * pages);
        if (!make_buffer(c, pages, (uint32_t *)t + t->mfn_offset[c]))
            break; /* the CPUs behind it trace nothing; xentrace finds no frames for them */
        cpumask_set(&cpus, c);
    }
    for (unsigned i = 0; i < 1u << order; i++)
        frame_share(dom_xen, MFN(arch_va_mfn(t).n + i));
    info = t;
    info_bytes = (uint32_t)FRAME_SIZE << order;
    return 0;
}

int trace_enable(bool on)
{
    if (!info)
        return -EINVAL;
    __atomic_store_n(&trace_mask, on ? wanted : 0, __ATOMIC_RELAXED);
    return 0;
}

void trace_set_events(uint32_t mask)
{
    wanted = mask;
    if (__atomic_load_n(&trace_mask, __ATOMIC_RELAXED))
        __atomic_store_n(&trace_mask, mask, __ATOMIC_RELAXED);
}

void trace_set_cpus(const struct cpumask *m)
{
    cpus = *m;
}

mfn_t trace_info(uint32_t *bytes, uint32_t *events)
{
    *bytes = info_bytes;
    *events = wanted;
    return info ? arch_va_mfn(info) : MFN(0);
}
