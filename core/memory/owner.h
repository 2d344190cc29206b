/* Between frame.c and owner.c. */
#ifndef CORE_MEMORY_OWNER_H
#define CORE_MEMORY_OWNER_H

#include "core/frame.h"

/* The last reference is gone: off the owner's list, out of its accounts, back to the heap. */
void owner_frame_last_put(struct frame *f);
/* Frame with count 0, no owner, on no list: back to the heap, zeroed first or noted as dirty. */
void frame_release_owned(struct frame *f, bool scrub);
/* A block, settled and zero as asked; type, links and CLEAN are still those of free frames. The budget is the caller's business. */
bool frame_take(unsigned order, unsigned bits, unsigned flags, unsigned node, mfn_t *out);
void owner_init(void);
uint64_t owner_frames(void); /* that domains own, without special ones */
uint64_t owner_claims(void);
void owner_dump(void);

#endif
