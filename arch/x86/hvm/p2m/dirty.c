/*
 * Which memory has been written: for migration (log-dirty) and for a device model's screen.
 *
 * The entries themselves are the record: what is clean is of type LOGGED, write-protected; the first write makes it RAM, and RAM is dirty
 * until it is looked at and protected again. So there is no bitmap to keep, and memory that appears meanwhile is dirty from the beginning.
 *
 *   RAM (dirty) --p2m_log_read, clean--> LOGGED --write: p2m_unlog--> RAM
 *
 * Who writes without a fault (a grant in use, a device model's mapping) says so when it has finished: p2m_mark_dirty.
 * Locks: p->lock for each table's worth of entries.
 */
#include "private.h"
#include "core/work.h"
#include "lib/string.h"

/* Another type for an entry with the same frames: no reference changes. */
static void retype(struct p2m *p, uint64_t *slot, unsigned level, enum p2m_type to)
{
    uint64_t e = *slot, n = 1ull << level_order(level);

    p->count[entry_type(e)] -= n;
    p->count[to] += n;
    __atomic_store_n(slot, entry_make(p, entry_mfn(e), to, level) | p->fmt->accessed | p->fmt->dirty,
                     __ATOMIC_RELEASE);
}

void p2m_unlog(struct p2m *p, uint64_t gfn)
{
    unsigned level;
    uint64_t *slot;

    spin_lock(&p->lock);
    if (entry_type(p2m_walk(p, gfn, &level)) == P2M_LOGGED) {
        slot = p2m_slot(p, gfn, 1, false);
        if (slot)
            level = 1; /* else there is no memory to split: all of it counts as written */
        else
            slot = p2m_slot(p, gfn, level, false);
        /* More rights: who still has the old translation faults again, no more. */
        retype(p, slot, level, P2M_RAM);
        p->log_faults++;
    }
    spin_unlock(&p->lock);
}

void p2m_mark_dirty(struct domain *d, gfn_t g)
{
    struct p2m *p = p2m_of(d);

    if (__atomic_load_n(&p->count[P2M_LOGGED], __ATOMIC_RELAXED) && g.n <= p->max_gfn)
        p2m_unlog(p, g.n);
}

/* One entry's part of [gfn, end). True: the hardware has to forget it. Lock held. */
static bool read_entry(struct p2m *p, uint64_t gfn, uint64_t end, uint64_t first, uint8_t *bits, bool clean,
                       uint64_t *next)
{
    unsigned level;
    enum p2m_type t = entry_type(p2m_walk(p, gfn, &level));
    uint64_t size = 1ull << level_order(level);

    /* What is larger than what was asked for is divided; where there is no memory for a table, it stays dirty. */
    while (clean && t == P2M_RAM && (gfn & (size - 1) || end - gfn < size) &&
           p2m_slot(p, gfn, level - 1, false))
        size = 1ull << level_order(--level);
    *next = MIN(end, (gfn & ~(size - 1)) + size);
    if (t != P2M_RAM)
        return false;
    for (uint64_t g = gfn; bits && g < *next; g++)
        bits[(g - first) / 8] |= (uint8_t)(1u << ((g - first) % 8));
    if (!clean || *next - gfn < size)
        return false;
    retype(p, p2m_slot(p, gfn, level, false), level, P2M_LOGGED);
    return true;
}

bool p2m_log_read_some(struct domain *d, gfn_t g, unsigned n, uint8_t *bits, bool clean)
{
    struct p2m *p = p2m_of(d);
    uint64_t first = g.n, end, at = g.n;
    bool flush = false;

    if (bits)
        memset(bits, 0, (n + 7) / 8);
    if (first > p->max_gfn)
        return false;
    end = first + MIN((uint64_t)n, p->max_gfn - first + 1);
    while (at < end) {
        uint64_t stop = MIN(end, (at | (ENTRIES - 1)) + 1);

        spin_lock(&p->lock);
        while (at < stop && !domain_is_dying(d))
            flush |= read_entry(p, at, stop, first, bits, clean, &at);
        spin_unlock(&p->lock);
        if (domain_is_dying(d))
            break;
    }
    if (flush)
        __atomic_fetch_add(&p->generation, 1, __ATOMIC_SEQ_CST);
    return flush;
}

/* --- all of a domain's memory --- */

#define STEP 32768u

int p2m_log_enable(struct domain *d)
{
    struct p2m *p = p2m_of(d);

    if (p->log)
        return -EINVAL;
    for (; p->log_next <= p2m_highest(d).n; p->log_next += STEP) {
        if (p2m_log_read_some(d, GFN(p->log_next), STEP, NULL, true))
            p2m_flush(d);
        if (preempt_needed()) {
            p->log_next += STEP;
            return -EAGAIN;
        }
    }
    p->log_next = 0;
    p->log_faults = 0;
    p->log = true;
    return 0;
}

/* Entries that are LOGGED become RAM, and large again where they can. */
static void unlog_table(struct p2m *p, uint64_t gfn)
{
    struct gone gone = {.p = p};
    uint64_t at = gfn, end = gfn + ENTRIES;

    spin_lock(&p->lock);
    while (at < end) {
        unsigned level;
        enum p2m_type t = entry_type(p2m_walk(p, at, &level));

        if (t == P2M_LOGGED)
            retype(p, p2m_slot(p, at, level, false), level, P2M_RAM);
        at += level > 1 ? end - at : 1;
    }
    p2m_merge(p, gfn, &gone);
    spin_unlock(&p->lock);
    gone_drop(&gone);
}

int p2m_log_disable(struct domain *d)
{
    struct p2m *p = p2m_of(d);

    if (p->log)
        p->log_next = 0;
    p->log = false;
    for (; p->log_next <= p2m_highest(d).n && p->count[P2M_LOGGED]; p->log_next += ENTRIES) {
        unlog_table(p, p->log_next);
        if (preempt_needed()) {
            p->log_next += ENTRIES;
            return -EAGAIN;
        }
    }
    p->log_next = 0;
    return 0;
}

bool p2m_log_enabled(const struct domain *d)
{
    return p2m_of(d)->log;
}

uint32_t p2m_log_faults(struct domain *d, bool clean)
{
    struct p2m *p = p2m_of(d);
    uint32_t n;

    spin_lock(&p->lock);
    n = p->log_faults;
    if (clean)
        p->log_faults = 0;
    spin_unlock(&p->lock);
    return n;
}
