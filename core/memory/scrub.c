/*
 * Free memory of unknown contents (nobody has had it since power-on) is zeroed while CPUs have nothing else to do, so that whoever
 * gets it need not wait for it. What guests leave behind is another matter: frame.c.
 *
 * Invariants
 *  1. A group of frames is taken out of the heap before it is written to; its size is taken from the budget first, as for any
 *     allocation, so claims stay honest.
 *  2. It counts as free all the time: figures that people compare before and after do not move.
 * Locks: none here; the place to go on at is taken by an atomic addition, so idle CPUs share the work.
 */
#include "private.h"
#include "core/params.h"
#include "core/perf.h"
#include "arch/mem.h"
#include "lib/string.h"

#define GROUP_ORDER 4 /* 64 KiB: a few microseconds */
#define GROUP       (1ull << GROUP_ORDER)

static uint64_t next_group; /* [a] first frame that nobody has looked at */
static bool opt_idle = true;

/* Xen's values: idle, or a boolean; zeroing everything before dom0 starts is not offered. */
static bool param_bootscrub(const char *value)
{
    return param_bool(strcmp(value, "idle") ? value : "1", &opt_idle);
}
PARAM_CUSTOM("bootscrub", param_bootscrub,
             "idle (the default): free memory is zeroed by idle CPUs; 0: when it is needed");

static void zero_group(uint64_t n)
{
    for (struct frame *f = &frame_table[n], *end = f + GROUP; f < end; f++) {
        /* A stamp: a guest shared it with Krypton, and a CPU may still hold a translation to write there. */
        if (f->flags & (FRAME_F_CLEAN | FRAME_F_STALE) || f->stamp)
            continue;
        perf_count(frames_scrubbed_idle);
        arch_frame_zero(frame_mfn(f));
        frame_flags_change(f, 0, FRAME_F_CLEAN);
    }
}

void scrub_init(void)
{
    next_group = 0;
}

bool frame_scrub_due(void)
{
    return __atomic_load_n(&next_group, __ATOMIC_RELAXED) + GROUP <= frame_count && opt_idle;
}

void frame_scrub_some(void)
{
    uint64_t n = __atomic_fetch_add(&next_group, GROUP, __ATOMIC_RELAXED);

    if (n + GROUP > frame_count ||
        !(__atomic_load_n(&frame_table[n].flags, __ATOMIC_RELAXED) & FRAME_F_FREE) ||
        !budget_take(GROUP, budget_reserve()))
        return;
    if (heap_borrow(MFN(n), GROUP_ORDER)) {
        zero_group(n);
        heap_return(MFN(n), GROUP_ORDER);
    }
    budget_give(GROUP);
}
