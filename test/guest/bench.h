/*
 * What the files of the bench guest, and h_bench.c, share. One TSC tick is one instruction (docs/testing.md): MEASURE runs a statement a few
 * times to warm up, then n times, and prints "bench NAME TICKS-PER-RUN". MEASURE_SHARED, where dom0 has the same CPU and may interrupt, does so
 * nine times and prints the middle one.
 */
#ifndef BENCH_H
#define BENCH_H

#include "guest.h"

extern uint64_t bench_overhead; /* of one reading of the clock */

void bench_begin(void); /* first of all: measures that */
void bench_result(const char *name, uint64_t ticks, uint64_t n);
uint64_t bench_middle(uint64_t row[]); /* of BENCH_ROWS, which it sorts */

#define MEASURE(name, n, stmt)                                                                               \
    do {                                                                                                     \
        uint64_t _start;                                                                                     \
        for (unsigned _i = 0; _i < 16; _i++) {                                                               \
            stmt;                                                                                            \
        }                                                                                                    \
        _start = rdtsc();                                                                                    \
        for (unsigned _i = 0; _i < (n); _i++) {                                                              \
            stmt;                                                                                            \
        }                                                                                                    \
        bench_result(name, rdtsc() - _start - bench_overhead, n);                                            \
    } while (0)

#define BENCH_ROWS 9

#define MEASURE_SHARED(name, n, stmt)                                                                        \
    do {                                                                                                     \
        uint64_t _row[BENCH_ROWS];                                                                           \
        for (unsigned _k = 0; _k < BENCH_ROWS; _k++) {                                                       \
            uint64_t _start = rdtsc();                                                                       \
            for (unsigned _i = 0; _i < (n); _i++) {                                                          \
                stmt;                                                                                        \
            }                                                                                                \
            _row[_k] = rdtsc() - _start - bench_overhead;                                                    \
        }                                                                                                    \
        bench_result(name, bench_middle(_row), n);                                                           \
    } while (0)

/* bench_vcpu.c: what involves user mode, time and a second vCPU. */
void bench_user(void);
void bench_timer(void);
void bench_vcpus(void);
/* bench_tree.c: a whole process's page tables. */
void bench_tree(void);

#endif
