/*
 * What machine checks reported, kept for the hardware domain to fetch (XEN_MC_fetch): a few places, each
 *
 *   EMPTY --put--> WRITING --put--> FULL --fetch--> TAKEN --ack--> EMPTY
 *                                    ^----put_back----'
 *
 * Invariants
 *  1. A place's contents change only in WRITING, by the CPU that brought it there.
 *  2. Ids rise; what is fetched is the oldest of its class that is FULL.
 *  3. When all places are in use a new report is not kept: the first ones say most. (All are in Krypton's log.)
 * Locks: none, each step is one exchange of the place's state: reports come where no lock may be taken.
 */
#include "x86/mce.h"

enum { EMPTY, WRITING, FULL, TAKEN };

static struct place {
    uint32_t state; /* [a] */
    struct mce_report r;
} places[MCE_LOG_PLACES];
static uint64_t last_id; /* [a] */

static bool step(struct place *p, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&p->state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static uint32_t state_of(const struct place *p)
{
    return __atomic_load_n(&p->state, __ATOMIC_ACQUIRE);
}

bool mce_log_put(const struct mce_report *r)
{
    for (unsigned i = 0; i < MCE_LOG_PLACES; i++) {
        struct place *p = &places[i];

        if (state_of(p) != EMPTY || !step(p, EMPTY, WRITING))
            continue;
        p->r = *r;
        p->r.id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&p->state, FULL, __ATOMIC_RELEASE);
        return true;
    }
    return false;
}

static struct place *oldest(bool urgent)
{
    struct place *best = NULL;

    for (unsigned i = 0; i < MCE_LOG_PLACES; i++)
        if (state_of(&places[i]) == FULL && places[i].r.urgent == urgent &&
            (!best || places[i].r.id < best->r.id))
            best = &places[i];
    return best;
}

bool mce_log_fetch(bool urgent, struct mce_report *out)
{
    /* Two that fetch at once may want the same one. */
    for (unsigned tries = 0; tries < MCE_LOG_PLACES; tries++) {
        struct place *p = oldest(urgent);

        if (!p)
            return false;
        if (!step(p, FULL, TAKEN))
            continue;
        *out = p->r;
        return true;
    }
    return false;
}

static bool leave(bool urgent, uint64_t id, uint32_t to)
{
    for (unsigned i = 0; i < MCE_LOG_PLACES; i++)
        if (state_of(&places[i]) == TAKEN && places[i].r.id == id && places[i].r.urgent == urgent)
            return step(&places[i], TAKEN, to);
    return false;
}

bool mce_log_ack(bool urgent, uint64_t id)
{
    return leave(urgent, id, EMPTY);
}

bool mce_log_put_back(bool urgent, uint64_t id)
{
    return leave(urgent, id, FULL);
}
