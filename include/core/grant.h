/*
 * Grant tables v1 and v2 (xen/grant_table.h): a domain lets another map, copy or take single frames.
 * This room never edits a page table: it asks arch_grant_map/unmap (include/arch/mem.h).
 */
#ifndef CORE_GRANT_H
#define CORE_GRANT_H

#include "core/types.h"
#include "core/hypercall.h"

struct domain;


int must_check grant_domain_init(struct domain *d, unsigned max_frames, unsigned max_maptrack_frames);
/* Releases everything d mapped from others; preemptible: -EAGAIN = call again. */
int must_check grant_domain_release_mappings(struct domain *d);
/* After the last reference. */
void grant_domain_free(struct domain *d);

/* Frame i of d's grant table (status frame when status), growing the table up to its limit: for the builder,
 * XENMEM_acquire_resource and add_to_physmap. 0, -EINVAL, -ENOMEM. */
int must_check grant_frame(struct domain *d, unsigned i, bool status, mfn_t *out);
/* The PV MMU tears down a PTE that is a grant mapping (a guest overwrote it or its table died): finds and drops the
 * mapping of `mfn` by d at this PTE. Called without PV MMU locks. */
unsigned grant_frame_count(struct domain *d);
/* How many frames the table may have (for XENMEM_acquire_resource's size query). */
unsigned grant_frame_limit(const struct domain *d);

extern const struct hc_op grant_ops[];
extern const unsigned grant_op_count;
void grant_room_check(const struct domain *d);
void grant_dump(void); /* debug key 'g' */

#endif
