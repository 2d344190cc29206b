/* Inside arch/x86/hvm/p2m only: one walk of a guest's tables, with interrupts off (walk.c). */
#ifndef P2M_WALK_H
#define P2M_WALK_H

#include "private.h"

#define WALK_AGAIN ((enum walk_result)100) /* `blocked` has to be populated or noted first */

struct walk {
    struct p2m *p;
    const struct guest_paging *gp;
    uint64_t va;
    unsigned access;
    /* out */
    uint64_t gpa;   /* WALK_OK: of va; WALK_NO_RAM, WALK_AGAIN: what could not be reached */
    uint32_t error; /* WALK_FAULT */
    bool writing;   /* WALK_AGAIN: was to be written */
    unsigned steps; /* entries that the walk went through, upper first, as they are now */
    bool narrow;    /* they have four bytes */
    void *entry[LEVELS];
    uint64_t value[LEVELS];
};

static inline uint64_t guest_entry_read(const void *entry, bool narrow)
{
    return narrow ? __atomic_load_n((const uint32_t *)entry, __ATOMIC_RELAXED)
                  : __atomic_load_n((const uint64_t *)entry, __ATOMIC_RELAXED);
}

enum walk_result walk_run(struct walk *w);

/* The memory at gpa, as the guest may use it; interrupts off for as long as it is used. WALK_OK with *host; *host NULL: a write that
 * is to be dropped. Else WALK_NO_RAM or WALK_AGAIN. */
enum walk_result ram_find(struct p2m *p, uint64_t gpa, bool write, void **host);
/* After WALK_AGAIN, interrupts on. False: it is no use. */
bool must_check ram_unblock(struct p2m *p, uint64_t gpa, bool write);

#endif
