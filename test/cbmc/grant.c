/* Proof: one use of a grant entry, version 1 (core/grant/entry.c), for every content of the entry and of the active one: who may,
 * how many pins, which status bits; and that the end of the use undoes exactly that. */
#include "prove.h"
#include "core/abi.h"
#include "core/frame.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "core/grant/private.h"

#define REF 300u /* which one makes no difference, beyond the table apart */

struct frame *frame_table;
uint64_t frame_count;

static struct frame frames[4];
static grant_entry_v1_t entry;
static struct active chunk[ACTIVE_PER_CHUNK], *chunks[V1_PER_FRAME / ACTIVE_PER_CHUNK];
static struct active *act; /* the one in question */
static int pins_read, pins_write;

uint32_t *grant_header(const struct grant_table *t, uint32_t ref)
{
    return (uint32_t *)&entry;
}
struct active *grant_active_make(struct grant_table *t, uint32_t ref)
{
    prove(ref < V1_PER_FRAME && !chunks[ref / ACTIVE_PER_CHUNK]);
    if (anybool())
        return NULL;
    chunks[ref / ACTIVE_PER_CHUNK] = chunk;
    return &chunk[ref % ACTIVE_PER_CHUNK];
}
bool arch_grant_pin(struct domain *owner, mfn_t m, bool readonly)
{
    bool ok = anybool();

    prove(m.n < 4);
    if (ok && readonly)
        pins_read++;
    else if (ok)
        pins_write++;
    return ok;
}
bool arch_gfn_pin(struct domain *owner, gfn_t g, bool readonly, mfn_t *m)
{
    *m = MFN(g.n);
    return g.n < 4 && arch_grant_pin(owner, *m, readonly);
}
void arch_frame_written(struct domain *d, mfn_t m)
{
}
void arch_grant_unpin(mfn_t m, bool readonly)
{
    if (readonly)
        pins_read--;
    else
        pins_write--;
}

static uint16_t bits(void)
{
    return entry.flags & (GTF_reading | GTF_writing);
}
static uint16_t bits_of_pins(void)
{
    return (uint16_t)((act->read || act->write ? GTF_reading : 0) | (act->write ? GTF_writing : 0));
}

void prove_use(void)
{
    struct grant_table t = {.version = 1, .frames = 1, .active = chunks};
    struct domain granter = {.grant = &t};
    struct grant_use u = {
        .granter = &granter, .ref = REF, .user = any16(), .readonly = anybool(), .copy = anybool()};
    uint32_t read, write;
    bool fresh;

    frame_table = frames;
    frame_count = 4;
    for (unsigned i = 0; i < 4; i++)
        frames[i].flags = FRAME_F_RAM;
    act = &chunk[REF % ACTIVE_PER_CHUNK];
    entry.flags = any16();
    entry.domid = any16();
    entry.frame = any32();
    read = act->read = any32() % 3;
    write = act->write = any32() % 3;
    act->domid = any16();
    act->whole = true;
    act->mfn = MFN(any32() % 4);
    fresh = !read && !write;
    t.in_use = !fresh;
    chunks[REF / ACTIVE_PER_CHUNK] = fresh && anybool() ? NULL : chunk;
    assume(bits() == bits_of_pins());

    if (grant_use_begin(&u)) {
        prove(act->read == read && act->write == write && !pins_read && !pins_write);
        prove(bits() == bits_of_pins() && t.in_use == !fresh);
        return;
    }
    prove(u.ref < 512 && u.mfn.n < 4);
    prove(act->read == read + u.readonly && act->write == write + !u.readonly);
    prove(pins_read == u.readonly && pins_write == !u.readonly);
    prove(bits() == bits_of_pins() && t.in_use == 1);
    if (fresh)
        prove(entry.domid == u.user && (entry.flags & GTF_type_mask) == GTF_permit_access &&
              u.mfn.n == entry.frame);
    else
        prove(act->domid == u.user);
    if (!u.readonly && !write)
        prove(!(entry.flags & GTF_readonly));

    grant_use_end(&u);
    prove(act->read == read && act->write == write && !pins_read && !pins_write);
    prove(bits() == bits_of_pins() && t.in_use == !fresh);
}

void prove_beyond(void)
{
    struct grant_table t = {.version = 1, .frames = 1};
    struct domain granter = {.grant = &t};
    struct grant_use u = {.granter = &granter, .ref = any32(), .user = any16(), .readonly = anybool()};

    assume(u.ref >= V1_PER_FRAME);
    prove(grant_use_begin(&u) && !pins_read && !pins_write && !t.in_use);
}
