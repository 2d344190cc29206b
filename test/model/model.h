/*
 * Reference models: what must be true of the whole machine, found from scratch - from the contents of tables, not from the
 * incremental counts that the rooms keep. They panic with what differs. For host tests and fuzzers; all domains must be at
 * rest (hypercalls that were preempted and not finished are fine).
 */
#ifndef MODEL_H
#define MODEL_H

#include "core/domain.h"
#include "core/frame.h"

#define MODEL_FRAMES 32768u /* machines with more frames are not for the models */

/* Walks every page table of every domain from its roots and pins. References and types of every frame must be exactly what
 * was found; nothing writable may be a table, a descriptor page, Krypton's, or free. Needs pv/mmu. */
void model_mmu_check(void);
/* The mappings of others' frames that the walk finds, against handles and active entries: who maps what, writable or not.
 * And the status bits that granters see, unless `scribbled`: a guest has written over its own entries. Needs pv/mmu. */
void model_grant_check(bool scribbled);
/* Pins of every entry = handles of all domains that name it, by kind of access. Any host test; no copy under way. */
void model_grant_pins_check(void);
/* Both ends of every channel agree, seen through EVTCHNOP_status; a VIRQ of a vCPU and a PIRQ have one port each. */
void model_evtchn_check(void);

/* Present L1 entries of d: called for each by model_walk_l1. */
typedef void (*model_l1_fn)(struct domain *d, uint64_t entry, void *data);
void model_walk_l1(struct domain *d, model_l1_fn fn, void *data);

/* Entries of a translated domain's p2m that name a frame, device memory included; none of a PV domain. */
struct p2m_entry;
void model_walk_p2m(struct domain *d, void (*fn)(struct domain *, const struct p2m_entry *));

/* Weak: of programs whose domains have device models. Calls hold() for each reference that these hold on a frame of d. */
void model_held(struct domain *d, void (*hold)(uint64_t mfn));

/* Next domain from id on, without a reference (single-threaded tests). */
struct domain *model_domain_from(uint32_t id);
#define for_each_domain(d)                                                                                   \
    for (struct domain *d = model_domain_from(0); d; d = model_domain_from(d->id.v + 1u))

#endif
