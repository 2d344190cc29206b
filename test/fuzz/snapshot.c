/*
 * Snapshot of the machine under the fuzzers: an input has to do the same whatever ran before it, and building a world takes
 * longer than most inputs run.
 *
 *   globals      .data and .bss of the objects between mark_begin and mark_end in the link (the core, pv/mmu, the fake machine,
 *                the models and the world); not the fuzzer's own
 *   memory       the arena is put over a file that holds its contents at the snapshot, mapped private: forgetting the pages that
 *                an input wrote brings those back
 *   frame table, machine-to-physical table: copied
 *   the sanitizer's shadow of the arena (free memory is forbidden memory): copied
 *
 * Nothing in that state may point to memory of the C library: domains and all else come from the arena.
 */
#include "fuzz.h"
#include "snapshot.h"
#include "x86/mm.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* This file itself is built without the sanitizer. */
extern void __asan_init(void) __attribute__((weak));

extern char fuzz_data_begin[], fuzz_bss_begin[], fuzz_data_end[], fuzz_bss_end[];

struct copy {
    char *from, *saved;
    size_t bytes;
};
static struct copy copies[4];
static char *arena;
static size_t arena_bytes;
static uint64_t *m2p;

#if defined(__clang__) || defined(__GNUC__)
#define RAW __attribute__((no_sanitize("address", "undefined"), noinline))
#endif

/* Not the sanitizer's business: these copies go over its red zones. */
RAW static void raw_copy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void copy_take(struct copy *c, char *from, size_t bytes)
{
    c->from = from;
    c->bytes = bytes;
    c->saved = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->saved == MAP_FAILED)
        abort();
    raw_copy(c->saved, from, bytes);
}

/* System calls are made directly: the sanitizer's wrappers look at what they are given. */
static void arena_take(void)
{
    long fd = syscall(SYS_memfd_create, "arena", 0);
    size_t done = 0;

    arena = arch_frame_va(MFN(0));
    arena_bytes = frame_count * FRAME_SIZE;
    while (done < arena_bytes) {
        long n = syscall(SYS_write, fd, arena + done, arena_bytes - done);

        if (n <= 0)
            abort();
        done += (size_t)n;
    }
    if (syscall(SYS_mmap, arena, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                fd, 0l) != (long)arena) /* of full width: it goes over the stack */
        abort();
}

static void m2p_take(void)
{
    m2p = malloc(frame_count * sizeof(*m2p));
    for (uint64_t i = 0; i < frame_count; i++)
        m2p[i] = m2p_get(MFN(i));
}

void snapshot_take(void)
{
    arena_take();
    m2p_take();
    copy_take(&copies[0], fuzz_data_begin, (size_t)(fuzz_data_end - fuzz_data_begin));
    copy_take(&copies[1], fuzz_bss_begin, (size_t)(fuzz_bss_end - fuzz_bss_begin));
    copy_take(&copies[2], (char *)frame_table, frame_count * sizeof(*frame_table));
    if (__asan_init)
        copy_take(&copies[3], (char *)(((uintptr_t)arena >> 3) + 0x7fff8000), arena_bytes >> 3);
}

void snapshot_restore(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(copies); i++)
        if (copies[i].bytes)
            raw_copy(copies[i].from, copies[i].saved, copies[i].bytes);
    if (syscall(SYS_madvise, arena, arena_bytes, MADV_DONTNEED))
        abort();
    for (uint64_t i = 0; i < frame_count; i++)
        m2p_set(MFN(i), m2p[i]);
}
