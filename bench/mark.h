/* Marks for bench/plugin/count.c: a NOP whose displacement is 0x4b520000 + n, n a constant below 65536. */
#ifndef BENCH_MARK_H
#define BENCH_MARK_H

#define MARK(n) __asm__ volatile(".byte 0x0f, 0x1f, 0x84, 0x00; .long %c0" ::"i"(0x4b520000 + (n)) : "memory")

#endif
