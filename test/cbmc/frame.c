/* Proof: reference counts of frames (core/memory/frame.c), for every value of the count word: no wrap in either direction, no
 * reference to what is free, broken or another's, flags untouched. */
#include "prove.h"
#include "core/domain.h"
#include "core/frame.h"

extern bool panic_allowed;
struct frame *frame_table;
uint64_t frame_count;
static unsigned last_puts;

void owner_frame_last_put(struct frame *f);
void owner_frame_last_put(struct frame *f)
{
    last_puts++;
}

static struct frame f;
static struct domain d;

static void start(void)
{
    f.count = any64();
    f.owner = any16();
    d.id.v = any16();
    last_puts = 0;
}

void prove_get(void)
{
    uint64_t was, refs;
    bool got;

    start();
    was = f.count;
    refs = was & FRAME_REF_MASK;
    got = frame_get(&f, &d);
    prove(f.count == was + got);
    if (got) {
        prove(refs > 0 && refs < FRAME_REF_MASK);
        prove(f.owner == d.id.v && !(was & FRAME_BROKEN));
        prove((f.count & ~FRAME_REF_MASK) == (was & ~FRAME_REF_MASK));
    } else {
        prove(refs == 0 || refs == FRAME_REF_MASK || was & FRAME_BROKEN || f.owner != d.id.v);
    }
    prove(last_puts == 0);
}

void prove_put(void)
{
    uint64_t was, refs;

    start();
    was = f.count;
    refs = was & FRAME_REF_MASK;
    panic_allowed = !refs || (refs == 1 && was & (FRAME_ALLOCATED | FRAME_SPECIAL));
    frame_put(&f);
    prove(refs > 0 && f.count == was - 1);
    prove((f.count & ~FRAME_REF_MASK) == (was & ~FRAME_REF_MASK));
    prove(last_puts == (refs == 1));
    prove(!(refs == 1 && was & (FRAME_ALLOCATED | FRAME_SPECIAL)));
}

void prove_ref(void)
{
    uint64_t was, refs;

    start();
    was = f.count;
    refs = was & FRAME_REF_MASK;
    panic_allowed = !refs || refs == FRAME_REF_MASK;
    frame_ref(&f);
    prove(refs > 0 && refs < FRAME_REF_MASK && f.count == was + 1);
}

/* The owner's reference is given up once, whoever tries. */
void prove_clear(void)
{
    uint64_t was;
    bool first, second;

    start();
    was = f.count;
    first = frame_clear_allocated(&f);
    second = frame_clear_allocated(&f);
    prove(first == ((was & FRAME_ALLOCATED) != 0) && !second);
    prove(f.count == (was & ~FRAME_ALLOCATED));
}
