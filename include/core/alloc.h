/* Small objects (8 B .. 2 KiB from slabs; larger: whole frames). May be called with any lock below RANK_SLAB
 * held. */
#ifndef CORE_ALLOC_H
#define CORE_ALLOC_H

#include "core/types.h"

/* Zeroed memory, aligned to 16 (to 64 from 64 B up); NULL when there is none. */
void *mem_alloc(size_t bytes);
void *mem_alloc_array(size_t n, size_t bytes); /* NULL also on overflow */
void mem_free(void *p);                        /* NULL is fine */
void mem_room_check(void);
uint64_t
mem_idle_frames(void); /* in empty slabs, which are kept for the next object: one of a class at most */

#define mem_new(type) ((type *)mem_alloc(sizeof(type)))

#endif
