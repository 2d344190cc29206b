/* THE SEAM: memory. */
#ifndef ARCH_MEM_H
#define ARCH_MEM_H

#include "core/types.h"

struct domain;
struct vcpu;
struct frame;
struct hypercall;

void *arch_frame_va(mfn_t m);      /* the direct map; any frame with a struct frame */
mfn_t arch_va_mfn(const void *va); /* inverse, for direct-map addresses */
void arch_frame_zero(mfn_t m);
/* A frame that its domain got from the allocator, zeroed, comes back: true if nobody could write to it in between. */
bool must_check arch_frame_untouched(const struct frame *f);

/* A frame left an owner (freed or retyped): remember the TLB time; before a new owner sees it: flush who may hold it. */
void arch_frame_stamp(struct frame *f);
void arch_frame_settle(struct frame *f, unsigned order);

/* A frame of Krypton's that is about to be shared (frame_share): domains that see it may map it writable. */
void arch_frame_writable(mfn_t m);

/* Guest frame numbers. For PV, gfn == mfn of the caller's choosing and the machine-to-physical table is Krypton's. */
mfn_t arch_gfn_to_mfn(struct domain *d,
                      gfn_t g); /* a moment's answer, of any owner. INVALID_MFN: nothing there */
/* The frame of d's own at g, with a reference (frame_put); NULL: there is none. */
struct frame *arch_gfn_get(struct domain *d, gfn_t g);
/* The same with what a mapping or an access of others' needs (arch_grant_pin): arch_grant_unpin drops it. False: not allowed now. */
bool must_check arch_gfn_pin(struct domain *d, gfn_t g, bool readonly, mfn_t *m);
/* Enters/removes 2^order frames at g: PV = M2P entries, translated = p2m, which takes references. -ENOMEM, -EINVAL, -EBUSY (what is
 * there may not go this way); remove also -ENOENT: something else is there. */
int must_check arch_physmap_add(struct domain *d, gfn_t g, mfn_t m, unsigned order);
int must_check arch_physmap_remove(struct domain *d, gfn_t g, mfn_t m, unsigned order);
gfn_t arch_mfn_to_gfn(struct domain *d, mfn_t m);
/* Translated domains only. Empties 2^order numbers; frames of the domain's own leave its reservation. Errors as above. */
int must_check arch_physmap_release(struct domain *d, gfn_t g, unsigned order);
/* The same for a list of single numbers: how many went (less than n: the next one cannot). */
unsigned must_check arch_physmap_release_list(struct domain *d, const uint64_t *gfn, unsigned n);
/* Translated domains only: another domain's frame appears at g, of the kind the other has it (read-only or not). */
int must_check arch_physmap_add_foreign(struct domain *d, gfn_t g, struct domain *from, gfn_t there);
/* Populate on demand (translated domains; others have none). mark: -EINVAL (something is there), -EOPNOTSUPP, -ENOMEM. target: the frames
 * that d is to have: -ENOMEM, -EAGAIN (again). */
int must_check arch_pod_mark(struct domain *d, gfn_t g, unsigned order);
int must_check arch_pod_target(struct domain *d, uint64_t pages);
void arch_pod_info(struct domain *d, uint64_t *cached, uint64_t *entries);
/* XENMEM_maximum_gpfn. */
gfn_t arch_gfn_highest(struct domain *d);
/* Where tools find the shared info page of d: PV = its machine frame. */
gfn_t arch_shared_info_gfn(struct domain *d);
/* XENMEM_acquire_resource of a type that only the architecture has: how many frames there are of each (0: none), and one of them. */
uint32_t arch_resource_frames(struct domain *d, unsigned type);
int must_check arch_resource_frame(struct domain *d, unsigned type, uint32_t id, uint64_t index, mfn_t *m);
/* XENMEM_* operations that only the architecture can answer (memory maps, the M2P); rows in core/memory/ops.c. */
long arch_memory_op(struct hypercall *hc);

/*
 * Grants. `addr` is GNTTABOP_map_grant_ref.host_addr (PV: a virtual address or, with GNTMAP_contains_pte, a PTE's
 * machine address; translated: a guest-physical address). flags = GNTMAP_*. The caller holds references on m; for a
 * writable mapping of another PV domain's RAM the page must have been made writable-typed by arch_grant_pin.
 */
int must_check arch_grant_map(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly);
/* Removes exactly that mapping (PTE must still point to m, else -EINVAL / GNTST_general_error); new_addr for unmap_and_replace or 0. */
int must_check arch_grant_unmap(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly,
                                uint64_t new_addr);
/* Takes/drops the references a mapping of owner's frame needs (writable: also a writable type). False: not allowed now, or m, which
 * may be any number, is no frame of owner's. */
bool must_check arch_grant_pin(struct domain *owner, mfn_t m, bool readonly);
void arch_grant_unpin(mfn_t m, bool readonly);
/* Somebody who had a writable pin of d's frame is done: it counts as written. */
void arch_frame_written(struct domain *d, mfn_t m);
/* After unmaps, before the grant status is cleared: no CPU of d's may hold the translations. */
void arch_grant_flush(struct domain *d);

#endif
