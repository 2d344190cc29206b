/*
 * What the files of the bench guest, and h_bench.c, share. One TSC tick is one instruction (docs/testing.md): MEASURE runs a statement a few
 * times to warm up, then n times, and prints "bench NAME TICKS-PER-RUN".
 */
#ifndef BENCH_H
#define BENCH_H

#include "guest.h"

extern uint64_t bench_overhead; /* of one reading of the clock */

void bench_begin(void); /* first of all: measures that */
void bench_result(const char *name, uint64_t ticks, uint64_t n);

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

/* bench_vcpu.c: what involves user mode, time and a second vCPU. */
void bench_user(void);
void bench_timer(void);
void bench_vcpus(void);
/* bench_tree.c: a whole process's page tables. */
void bench_tree(void);

#endif
