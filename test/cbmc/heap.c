/* Proof: the buddy allocator (core/memory/heap.c) over eight frames: after any two blocks are taken and given back in any order,
 * blocks lie where they may, do not overlap, and everything is merged again. */
#include "prove.h"
#include "core/memory/private.h"
#include "core/log.h"

#define FRAMES 16

static struct frame table[FRAMES];

void *arch_frame_va(mfn_t m)
{
    return 0;
}

static bool overlap(mfn_t a, unsigned ao, mfn_t b, unsigned bo)
{
    return a.n < b.n + (1ull << bo) && b.n < a.n + (1ull << ao);
}

void prove_merge(void)
{
    unsigned o1 = any32() % 3, o2 = any32() % 3;
    mfn_t a, b;
    bool got_a, got_b, first = anybool();

    heap_init(table, FRAMES);
    heap_add_range(8, 16, 0);
    got_a = heap_take(o1, 64, 0, false, &a);
    got_b = heap_take(o2, 64, 0, false, &b);
    prove(got_a && got_b);
    prove(a.n >= 8 && a.n + (1ull << o1) <= 16 && !(a.n & ((1ull << o1) - 1)));
    prove(b.n >= 8 && b.n + (1ull << o2) <= 16 && !(b.n & ((1ull << o2) - 1)));
    prove(!overlap(a, o1, b, o2));
    prove(heap_free_frames() == 8 - (1ull << o1) - (1ull << o2));
    if (first) {
        heap_give(a, o1);
        heap_give(b, o2);
    } else {
        heap_give(b, o2);
        heap_give(a, o1);
    }
    prove(heap_free_frames() == 8);
    prove(heap_take(3, 64, 0, false, &a) && a.n == 8);
}
