/*
 * Sets of whole numbers as ranges: what a domain was granted of ports, of device memory. Readers and writers may come at the same
 * time; an answer is one moment's.
 */
#ifndef CORE_RANGESET_H
#define CORE_RANGESET_H

#include "core/lock.h"
#include "core/types.h"

#define RANGESET_MAX 256u /* ranges of one set: more is a mistake, not a machine */

struct range {
    uint64_t first, last;
};
struct rangeset {
    struct spinlock lock;  /* RANK_RANGESET */
    uint32_t count, space; /* [lock] */
    struct range *range;   /* [lock] by rising number, apart by at least one that is not in the set */
};

void rangeset_init(struct rangeset *s);    /* empty */
void rangeset_destroy(struct rangeset *s); /* nobody uses it any more */
/* first <= last. 0, -EINVAL, -ENOMEM (also: too many ranges); on an error the set is as before. */
int must_check rangeset_add(struct rangeset *s, uint64_t first, uint64_t last);
int must_check rangeset_remove(struct rangeset *s, uint64_t first, uint64_t last);
/* Is all of [first, last] in it? */
bool rangeset_contains(struct rangeset *s, uint64_t first, uint64_t last);
bool rangeset_empty(struct rangeset *s);
void rangeset_check(struct rangeset *s); /* panics with the broken invariant */

#endif
