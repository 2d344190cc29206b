/* Proof: the heap's merges (core/memory/heap.c), for every order in which four neighbours, or two pairs, come back: no frame is
 * free that was not given, each free one is in one listed block, no two buddies stay apart, and the whole can be taken again
 * exactly when all of it is there. */
#include "prove.h"
#include "core/memory/private.h"

#define FIRST 4u
#define COUNT 4u

static struct frame frames[FIRST + COUNT];
static bool given[COUNT];

static void start(void)
{
    frame_table = frames;
    frame_count = FIRST + COUNT;
    for (unsigned n = FIRST; n < FIRST + COUNT; n++) {
        frames[n].flags = FRAME_F_RAM;
        frames[n].owner = FRAME_NO_OWNER;
    }
}

/* One of the frames, or a pair of them, that is not there yet; or nothing. */
static void step(void)
{
    unsigned i = any32() % COUNT;

    if (anybool()) {
        if (given[i])
            return;
        given[i] = true;
        heap_give(MFN(FIRST + i), 0);
    } else {
        i &= ~1u;
        if (given[i] || given[i + 1])
            return;
        given[i] = given[i + 1] = true;
        heap_give(MFN(FIRST + i), 1);
    }
}

static bool heads(unsigned n)
{
    return frames[n].flags & FRAME_F_HEAD;
}

static void check(void)
{
    unsigned have = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        unsigned n = FIRST + i, covered = 0;

        have += given[i];
        prove(!(frames[n].flags & FRAME_F_FREE) == !given[i]);
        for (unsigned h = FIRST; h <= n; h++)
            covered += heads(h) && h + (1u << frames[h].order) > n;
        prove(covered == given[i]);
        if (heads(n)) {
            unsigned o = frames[n].order, b = n ^ (1u << o);

            prove(o <= 2 && !(n & ((1u << o) - 1)) && n + (1u << o) <= FIRST + COUNT);
            prove(o == 2 || !heads(b) || frames[b].order != o);
        }
    }
    prove(heap_free_frames() == have);
}

void prove_merge(void)
{
    start();
    step();
    step();
    step();
    step();
    check();
}
