/* A set of physical CPUs. Set and clear may be used concurrently, and every look at a set reads each word once; copies and
 * results of cpumask_and and cpumask_or are the caller's own. Whoever sees a bit cleared also sees what that CPU did before: the
 * TLB's flushes rely on that (a CPU that has left a domain's set has made its last store through that domain's translations). */
#ifndef CORE_CPUMASK_H
#define CORE_CPUMASK_H

#include "core/types.h"

struct cpumask {
    uint64_t w[MAX_CPUS / 64];
};

static inline uint64_t cpumask_word(const struct cpumask *m, unsigned i)
{
    return __atomic_load_n(&m->w[i], __ATOMIC_ACQUIRE);
}
static inline bool cpumask_test(const struct cpumask *m, unsigned cpu)
{
    return (cpumask_word(m, cpu / 64) >> (cpu % 64)) & 1;
}
static inline void cpumask_set(struct cpumask *m, unsigned cpu)
{
    __atomic_fetch_or(&m->w[cpu / 64], 1ull << (cpu % 64), __ATOMIC_SEQ_CST);
}
static inline void cpumask_clear(struct cpumask *m, unsigned cpu)
{
    __atomic_fetch_and(&m->w[cpu / 64], ~(1ull << (cpu % 64)), __ATOMIC_SEQ_CST);
}
static inline bool cpumask_empty(const struct cpumask *m)
{
    for (unsigned i = 0; i < MAX_CPUS / 64; i++)
        if (cpumask_word(m, i))
            return false;
    return true;
}
/* First CPU >= from in the set, or MAX_CPUS. */
static inline unsigned cpumask_next(const struct cpumask *m, unsigned from)
{
    for (unsigned c = from; c < MAX_CPUS;) {
        uint64_t w = cpumask_word(m, c / 64) >> (c % 64);
        if (w)
            return c + (unsigned)__builtin_ctzll(w);
        c = (c / 64 + 1) * 64;
    }
    return MAX_CPUS;
}
#define for_each_cpu(c, m) for (unsigned c = cpumask_next((m), 0); c < MAX_CPUS; c = cpumask_next((m), c + 1))
static inline unsigned cpumask_count(const struct cpumask *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MAX_CPUS / 64; i++)
        n += (unsigned)__builtin_popcountll(cpumask_word(m, i));
    return n;
}
/* Is a CPU other than this one in the set? */
static inline bool cpumask_others(const struct cpumask *m, unsigned cpu)
{
    for (unsigned i = 0; i < MAX_CPUS / 64; i++)
        if (cpumask_word(m, i) & ~(i == cpu / 64 ? 1ull << (cpu % 64) : 0))
            return true;
    return false;
}
static inline void cpumask_and(struct cpumask *r, const struct cpumask *a, const struct cpumask *b)
{
    for (unsigned i = 0; i < MAX_CPUS / 64; i++)
        r->w[i] = cpumask_word(a, i) & cpumask_word(b, i);
}
static inline void cpumask_or(struct cpumask *r, const struct cpumask *a, const struct cpumask *b)
{
    for (unsigned i = 0; i < MAX_CPUS / 64; i++)
        r->w[i] = cpumask_word(a, i) | cpumask_word(b, i);
}
/* CPUs that run Krypton now: numbers are 0 .. cpu_count()-1 without holes. */
extern struct cpumask cpus_online;
static inline unsigned cpu_count(void)
{
    return cpumask_count(&cpus_online);
}

#endif
