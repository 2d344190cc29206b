/*
 * Grant tables v1 and v2 (xen/grant_table.h): a domain lets another map, copy or take single frames.
 * This room never edits a page table: it asks arch_grant_map/unmap (include/arch/mem.h).
 */
#ifndef CORE_GRANT_H
#define CORE_GRANT_H

#include "core/types.h"
#include "core/hypercall.h"

struct domain;

/* max_frames and max_maptrack_frames are cut to GRANT_MAX_FRAMES and GRANT_MAX_MAPTRACK_FRAMES; 0 is taken
 * as 1. The domain need not be published. -ENOMEM. */
#define GRANT_MAX_FRAMES          1024u
#define GRANT_MAX_MAPTRACK_FRAMES 4096u
int must_check grant_domain_init(struct domain *d, unsigned max_frames, unsigned max_maptrack_frames,
                                 unsigned max_version);
/* Dying domain: releases everything d mapped from others; preemptible: -EAGAIN = call again. Any time after
 * its vCPUs stopped (page-table entries that are still there have their own references). */
int must_check grant_domain_release_mappings(struct domain *d);
/* Dying domain: gives the table's frames back. False while others use its grants or map the frames (call
 * again later: the frames keep the domain). Nothing to do = true. */
bool must_check grant_domain_release_table(struct domain *d);
/* After the last reference; grant_domain_release_table must have said true, or d never have been published. */
void grant_domain_free(struct domain *d);

/* Frame i of d's grant table (status frame when status), growing the table up to its limit: for the builder,
 * XENMEM_acquire_resource and add_to_physmap. 0, -EINVAL (beyond the limit, no status frames in version 1,
 * dying), -ENOMEM. */
int must_check grant_frame(struct domain *d, unsigned i, bool status, mfn_t *out);
unsigned grant_frame_count(struct domain *d);
/* How many frames the table may have; for XENMEM_acquire_resource's size query. */
unsigned grant_frame_limit(const struct domain *d);

extern const struct hc_op grant_ops[];
extern const unsigned grant_op_count;
void grant_room_check(const struct domain *d);
/* All handles of all domains on d's grants = all pins of d's entries. Only while no grant operation runs
 * anywhere. */
void grant_room_check_sums(const struct domain *granter);
void grant_dump(void); /* debug key 'g' */

#endif
