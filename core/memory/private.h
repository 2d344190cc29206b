/* Inside core/memory only: the buddy heap under the frames, and sanitizer hooks. */
#ifndef CORE_MEMORY_PRIVATE_H
#define CORE_MEMORY_PRIVATE_H

#include "core/frame.h"

struct hypercall;
struct domain;

/* --- heap.c: blocks of frames, knows no owners --- */
#define HEAP_NODES FRAME_NODES

/* A block of 2^order frames with every address < 2^bits. exact: from this node only. Not settled, not zeroed;
 * *clean: all of it is CLEAN and nothing STALE. */
bool heap_take(unsigned order, unsigned bits, unsigned node, bool exact, mfn_t *out, bool *clean);
/* The block must not be free; frames whose contents are zero carry FRAME_F_CLEAN. */
void heap_give(mfn_t m, unsigned order);
void heap_init(struct frame *table, uint64_t count);
/* Boot: [n, end) is RAM, free in this node / in use by the hypervisor. Panics when given twice. */
void heap_add_range(uint64_t n, uint64_t end, unsigned node);
void heap_reserve_range(uint64_t n, uint64_t end);
uint64_t heap_free_frames(void);
/* Takes the 2^order free frames at m out of their block; *clean as above. False: they are not free, or not in one block. */
bool must_check heap_carve(mfn_t m, unsigned order, bool *clean);
/* The first frame of a free block of FRAME_MAX_ORDER on one of these nodes; INVALID_MFN: there is none. */
mfn_t heap_largest(uint32_t nodes_wanted);
/* Takes 2^order frames for a moment that still count as free, if all of them are in one free block. */
bool must_check heap_borrow(mfn_t m, unsigned order);
void heap_return(mfn_t m, unsigned order);
void scrub_init(void);
void heap_check(void);

/* --- the budget: free frames that nobody was promised (frame.c) --- */
/* Takes n if at least `floor` remain. */
bool budget_take(uint64_t n, uint64_t floor);
void budget_give(uint64_t n);
/* What ordinary allocations for domains leave alone. */
uint64_t budget_reserve(void);

/* alloc.c: forgets all slabs (frame_init: the frames they were in are gone). */
void slab_init(void);
void slab_dump(void);

/* --- ops.c, exchange.c, physmap.c, resource.c: XENMEM_* --- */

/* Largest extent order that a domain may ask for. */
unsigned memory_max_order(const struct domain *d);
/* bits and flags for the allocator out of XENMEMF_*; -EINVAL. */
int must_check memory_alloc_args(uint32_t mem_flags, unsigned *bits, unsigned *flags, unsigned *node);
long memory_exchange(struct hypercall *hc);
long memory_add_to_physmap(struct hypercall *hc);
long memory_add_to_physmap_batch(struct hypercall *hc);
long memory_remove_from_physmap(struct hypercall *hc);
long memory_acquire_resource(struct hypercall *hc);

/* --- the sanitizer of host builds sees free memory as forbidden --- */
#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
void __asan_poison_memory_region(void const volatile *p, size_t n);
void __asan_unpoison_memory_region(void const volatile *p, size_t n);
#define mem_forbid(p, n) __asan_poison_memory_region(p, n)
#define mem_permit(p, n) __asan_unpoison_memory_region(p, n)
#else
#define mem_forbid(p, n) ((void)0)
#define mem_permit(p, n) ((void)0)
#endif

/* Flags change in one store: others look at them without a lock (mfn_valid, the buddy of a block), for bits that this change
 * leaves alone. */
static inline void frame_flags_change(struct frame *f, uint8_t clear, uint8_t set)
{
    __atomic_store_n(&f->flags, (uint8_t)((f->flags & ~clear) | set), __ATOMIC_RELAXED);
}

#endif
