/*
 * Performance counters (include/core/perf.h): where they are. Counting is done by whoever counts.
 * Invariant: area[cpu] is set before the CPU counts and does not change. Locks: none; a reset may lose what is counted meanwhile.
 */
#include "core/perf.h"
#include "core/alloc.h"
#include "core/cpumask.h"
#include "lib/string.h"

static uint32_t boot_area[PERF_VALUES], unseen[PERF_VALUES];
static uint32_t *area[MAX_CPUS] = {boot_area};

uint32_t *perf_cpu_area(unsigned cpu)
{
    if (!area[cpu])
        area[cpu] = mem_alloc_array(PERF_VALUES, sizeof(uint32_t));
    return area[cpu] ? area[cpu] : unseen;
}

uint32_t perf_of_cpu(unsigned cpu, unsigned value)
{
    return area[cpu] ? __atomic_load_n(&area[cpu][value], __ATOMIC_RELAXED) : 0;
}

uint64_t perf_sum(unsigned value)
{
    uint64_t sum = 0;

    for_each_cpu(c, &cpus_online) sum += perf_of_cpu(c, value);
    return sum;
}

void perf_reset(void)
{
    for_each_cpu(c, &cpus_online) if (area[c]) memset(area[c], 0, PERF_VALUES * sizeof(uint32_t));
}
