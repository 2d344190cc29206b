/*
 * Sets of numbers as a sorted array of ranges: few ranges, read often, changed by the toolstack only.
 *
 * Invariants
 *  1. range[0 .. count) is sorted; each has first <= last; between two is at least one number that is in neither.
 *  2. count <= space, count <= RANGESET_MAX.
 * Locks: s->lock; memory is allocated under it.
 */
#include "core/rangeset.h"
#include "core/alloc.h"
#include "core/errno.h"
#include "core/log.h"
#include "lib/string.h"

#define SPACE_STEP 8u

void rangeset_init(struct rangeset *s)
{
    *s = (struct rangeset){0};
    spin_init(&s->lock, RANK_RANGESET);
}

void rangeset_destroy(struct rangeset *s)
{
    mem_free(s->range);
    s->range = NULL;
    s->count = s->space = 0;
}

/* Index of the first range that ends at or behind n; count: none does. */
static uint32_t find(const struct rangeset *s, uint64_t n)
{
    uint32_t low = 0, high = s->count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (s->range[mid].last < n)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Room for `new` ranges in place of `old` ones. */
static int make_room(struct rangeset *s, uint32_t old, uint32_t new)
{
    struct range *more;

    if (s->count - old + new <= s->space)
        return 0;
    if (s->count >= RANGESET_MAX)
        return -ENOMEM;
    more = mem_alloc_array(s->space + SPACE_STEP, sizeof(*more));
    if (!more)
        return -ENOMEM;
    if (s->count)
        memcpy(more, s->range, s->count * sizeof(*more));
    mem_free(s->range);
    s->range = more;
    s->space += SPACE_STEP;
    return 0;
}

/* The ranges [at, at + old) become `new` ranges, whose contents the caller sets; there is room. */
static void replace(struct rangeset *s, uint32_t at, uint32_t old, uint32_t new)
{
    memmove(&s->range[at + new], &s->range[at + old], (s->count - at - old) * sizeof(s->range[0]));
    s->count = s->count + new - old;
}

static int add(struct rangeset *s, struct range r)
{
    uint32_t at = find(s, r.first ? r.first - 1 : 0), end = at;
    int err;

    /* All that it touches melts into it. */
    for (; end < s->count && (r.last == ~0ull || s->range[end].first <= r.last + 1); end++) {
        r.first = MIN(r.first, s->range[end].first);
        r.last = MAX(r.last, s->range[end].last);
    }
    err = make_room(s, end - at, 1);
    if (err)
        return err;
    replace(s, at, end - at, 1);
    s->range[at] = r;
    return 0;
}

static int cut(struct rangeset *s, struct range r)
{
    uint32_t at = find(s, r.first), end = at, left = 0;
    struct range keep[2];
    int err;

    for (; end < s->count && s->range[end].first <= r.last; end++) {
        if (s->range[end].first < r.first)
            keep[left++] = (struct range){s->range[end].first, r.first - 1};
        if (s->range[end].last > r.last)
            keep[left++] = (struct range){r.last + 1, s->range[end].last};
    }
    err = make_room(s, end - at, left); /* one range may become two */
    if (err)
        return err;
    replace(s, at, end - at, left);
    memcpy(&s->range[at], keep, left * sizeof(keep[0]));
    return 0;
}

int rangeset_add(struct rangeset *s, uint64_t first, uint64_t last)
{
    int r;

    if (first > last)
        return -EINVAL;
    spin_lock(&s->lock);
    r = add(s, (struct range){first, last});
    spin_unlock(&s->lock);
    return r;
}

int rangeset_remove(struct rangeset *s, uint64_t first, uint64_t last)
{
    int r = 0;

    if (first > last)
        return -EINVAL;
    spin_lock(&s->lock);
    if (s->count)
        r = cut(s, (struct range){first, last});
    spin_unlock(&s->lock);
    return r;
}

bool rangeset_contains(struct rangeset *s, uint64_t first, uint64_t last)
{
    bool in = false;
    uint32_t at;

    if (first > last)
        return false;
    spin_lock(&s->lock);
    at = find(s, first);
    if (at < s->count)
        in = s->range[at].first <= first && s->range[at].last >= last;
    spin_unlock(&s->lock);
    return in;
}

bool rangeset_empty(struct rangeset *s)
{
    return !__atomic_load_n(&s->count, __ATOMIC_RELAXED);
}

void rangeset_check(struct rangeset *s)
{
    spin_lock(&s->lock);
    if (s->count > s->space || s->count > RANGESET_MAX)
        panic("rangeset: %u ranges in room for %u", s->count, s->space);
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->range[i].first > s->range[i].last)
            panic("rangeset: range %u ends before it begins", i);
        if (i && s->range[i - 1].last + 1 >= s->range[i].first)
            panic("rangeset: ranges %u and %u touch", i - 1, i);
    }
    spin_unlock(&s->lock);
}
