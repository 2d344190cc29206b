/* Of bench.h: the clock's own cost, and the lines that bench/run reads. */
#include "bench.h"

uint64_t bench_overhead;

void bench_begin(void)
{
    uint64_t t0 = rdtsc();

    bench_overhead = rdtsc() - t0;
}

void bench_result(const char *name, uint64_t ticks, uint64_t n)
{
    print("bench %s %lu\n", name, (unsigned long)(ticks / n));
}

uint64_t bench_middle(uint64_t row[])
{
    sort_numbers(row, BENCH_ROWS);
    return row[BENCH_ROWS / 2];
}
