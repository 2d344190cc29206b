/* Inside arch/x86/pv/mmu only: the type word of a frame, and what its files offer each other. */
#ifndef PV_MMU_TYPES_H
#define PV_MMU_TYPES_H

#include "arch/guest_ops.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/errno.h"
#include "core/frame.h"
#include "core/hypercall.h"
#include "core/nospec.h"
#include "x86/layout.h"
#include "x86/pte.h"
#include "x86/pv.h"

/* struct frame.type; bits 60-62 are PGT_* of x86/pv.h. The theory is at the head of types.c. */
#define PGT_PINNED    (1ull << 59) /* a guest's pin owns one reference of each kind */
#define PGT_VALIDATED (1ull << 58) /* the frame is what its type says */
#define PGT_PARTIAL   (1ull << 57) /* nobody is at work on it; entries [0, index) hold references */
#define PGT_LOCKED    (1ull << 56) /* somebody changes an entry; counted as one reference */
#define PGT_FOREIGN                                                                                          \
    (1ull << 55) /* another domain than the owner was given it as WRITABLE since it became that */
#define PGT_NAMES       (1ull << 54) /* since it became a table it has named, or tried to, others of its level */
#define PGT_NAMED       (1ull << 43) /* since it became a table another of its level has named it */
#define PGT_INDEX_SHIFT 44           /* 10 bits: 0..512 */
#define PGT_INDEX_MASK  (0x3ffull << PGT_INDEX_SHIFT)
#define PGT_COUNT_MASK  ((1ull << 40) - 1)

#define PT_ENTRIES      512u

static inline uint64_t pgt_type(uint64_t x)
{
    return x & PGT_TYPE_MASK;
}
static inline uint64_t pgt_count(uint64_t x)
{
    return x & PGT_COUNT_MASK;
}
static inline unsigned pgt_index(uint64_t x)
{
    return (unsigned)((x & PGT_INDEX_MASK) >> PGT_INDEX_SHIFT);
}
/* Level of a table's type word (or of a bare type), 1-4; 0 for all others. */
static inline unsigned pgt_level(uint64_t x)
{
    uint64_t type = pgt_type(x);

    return type >= PGT_L1 && type <= PGT_L4 ? (unsigned)(type >> 60) : 0;
}
static inline uint64_t pgt_of_level(unsigned level)
{
    return (uint64_t)level << 60;
}
/* The frame that a guest names, NULL if it is not RAM of ours. Go on with this, not with the number: a
 * mispredicted check then leads to frame 0 (docs/security.md). */
static inline struct frame *frame_named(mfn_t m)
{
    struct frame *f;

    if (unlikely(m.n >= frame_count))
        return NULL;
    f = &frame_table[array_index(m.n, frame_count)];
    return likely(__atomic_load_n(&f->flags, __ATOMIC_RELAXED) & FRAME_F_RAM) ? f : NULL;
}
static inline uint64_t type_word(const struct frame *f)
{
    return __atomic_load_n(&f->type, __ATOMIC_ACQUIRE);
}

/* --- types.c: references by type
 * ------------------------------------------------------------------------------ */
/*
 * One more reference of this type; the caller holds a reference on the frame. 0: the reference is held,
 * type_finish() must follow. -EINVAL: the frame is something else now, -EBUSY: not now (stale translations
 * and interrupts off). by: who asks (its own frame or not decides what has to be flushed later).
 */
int must_check type_ref(struct frame *f, uint64_t type, struct domain *by);
/* Brings a frame of which the caller holds a type reference to VALIDATED. 0, -EINVAL (contents), -EAGAIN
 * (preempted: call again). The reference is held in any case. d: the owner. */
int must_check type_finish(struct frame *f, struct domain *d, bool preempt);
/* Drops a type reference. -EAGAIN (only with preempt): it is still held, call again. */
int must_check type_unref(struct frame *f, bool preempt);
void type_unref_now(struct frame *f);
/* Both references by frame number: frame_get + type_ref + type_finish, not preemptible. 0, -EINVAL, -EBUSY. */
int must_check frame_get_typed(mfn_t m, struct domain *owner, uint64_t type, struct domain *by);
void frame_put_typed(struct frame *f);
/* The lock of a VALIDATED table of any level that d owns; false: it is no such table. Short sections, no
 * waiting inside but for tables of lower levels. */
bool must_check table_lock(struct frame *f, const struct domain *d);
void table_unlock(struct frame *f);
/* Takes the pin of a validated table: the caller's two references become the pin's. False: was pinned
 * already. */
bool must_check type_pin(struct frame *f);
/* Takes the pin away: its references are the caller's now. False: was not pinned. */
bool must_check type_unpin(struct frame *f);

/* --- tables.c: contents
 * ------------------------------------------------------------------------------------------ */
/* References for entries [*index, 512) of the table, upwards; the child of entry *index - 1 is finished
 * first. 0, or -EINVAL / -EBUSY / -EAGAIN with *index = number of leading entries that hold references. */
int must_check table_validate(struct frame *f, struct domain *d, unsigned level, unsigned *index,
                              bool preempt);
/* Drops the references of entries [0, *index), downwards. 0 or -EAGAIN with *index = what is left. */
int must_check table_devalidate(struct frame *f, unsigned level, unsigned *index, bool preempt);
/* Descriptor levels raised, then every descriptor checked. */
int must_check descriptors_validate(struct frame *f);

/* --- entry.c: single entries
 * ---------------------------------------------------------------------------------------- */
/* The entry as it goes into the table: privilege and global bits as the hardware must have them. */
uint64_t entry_adjust(uint64_t e, unsigned level);
/* Flags which no entry of that level of d's may have. */
bool entry_flags_ok(const struct domain *d, uint64_t e, unsigned level);
/* References for an adjusted L1 entry in a table of d's; frames from pg_owner. 0, -EINVAL, -EPERM, -EBUSY. */
int must_check l1_entry_get(uint64_t e, struct domain *d, struct domain *pg_owner);
void l1_entry_put(uint64_t e);
/* The same for levels 2-4 in `table`; the child is referenced but perhaps not finished (*child, NULL if none
 * is needed). */
int must_check upper_entry_ref(uint64_t e, unsigned level, struct frame *table, struct domain *d,
                               struct frame **child);
/* Both references for a linear entry: a validated table f of the level of `table` itself. -EINVAL: it is none,
 * or it would be one of a chain. */
int must_check linear_ref(struct frame *table, unsigned level, struct frame *f, struct domain *d);
/* The frame whose references the upper entry holds, NULL for none. */
struct frame *upper_entry_child(uint64_t e, const struct frame *table);
/* Is this entry the table's own frame? */
bool entry_is_self(uint64_t e, unsigned level, const struct frame *table);
/* Does this entry, whose references are held, name a table of its own level (the same or another)? Then it is
 * read-only. */
bool entry_is_linear(uint64_t e, unsigned level, const struct frame *table);
static inline bool slot_is_guests(unsigned level, unsigned i)
{
    return level != 4 || i < HYP_SLOT_FIRST || i > HYP_SLOT_LAST;
}

/* --- pending.c: work on a table in which a hypercall was preempted
 * -------------------------------------------- */
/* A slot holds at most one reference pair (struct pv_pending, x86/vcpu.h); a null slot means: not
 * preemptible. */
/* Reference pair on m as that type, owner d; goes on with the slot's get if it is that. -EAGAIN: in the slot
 * now, or the slot's former content is not done with; again. Else -EINVAL, -EBUSY. On success the slot is
 * empty. */
int must_check pending_get(struct pv_pending *p, mfn_t m, struct domain *d, uint64_t type);
/* Drops a reference pair; what preemption leaves is in the slot, which was empty. */
void pending_put(struct pv_pending *p, struct frame *f);
/* Drops what is in the slot. -EAGAIN: there is more. */
int must_check pending_settle(struct pv_pending *p);
/* The same if it is to be dropped: a hypercall does not return to its guest before this says 0. */
int must_check pending_settle_put(struct pv_pending *p);

/* --- update.c: changing entries
 * ------------------------------------------------------------------------------- */
struct pt_change {
    struct pv_pending *pending;
    struct domain *d;        /* owner of the table */
    struct domain *pg_owner; /* whose frames the entry may name */
    bool preserve_ad;
    bool translated;   /* pg_owner is */
    bool guest_frames; /* entries name guest frames of pg_owner, which is translated */
};
/* Writes entry `index` of f, a table of d's (any level). 0, -EINVAL, -EPERM, -EBUSY; -EAGAIN: nothing
 * changed, again. The release of the old entry may be pending on success. */
int must_check table_write(const struct pt_change *c, struct frame *f, unsigned index, uint64_t e);
/* For level 1, as above, never -EAGAIN. f must be an L1. */
int must_check l1_write(const struct pt_change *c, struct frame *f, unsigned index, uint64_t e);
/* With f locked: the change alone; *old = the entry whose references the caller drops after unlocking (0:
 * none). */
int must_check l1_swap(const struct pt_change *c, uint64_t *entry, uint64_t e, uint64_t *old);

/* --- walk.c
 * ------------------------------------------------------------------------------------------------------------
 */
/* The L1 table and index that map va under that L4; NULL: there is no L1. Not referenced: lock it, the lock
 * checks. */
struct frame *walk_l1(mfn_t root, gva_t va, unsigned *index);
/* The L1 entry for va by value; false: no present one. */
bool walk_l1e(mfn_t root, gva_t va, uint64_t *e);
/* An address outside of Krypton's, canonical. */
bool address_is_guests(gva_t va);
/* Is va mapped for this access at all levels? For faults that a stale translation caused. */
bool walk_permits(mfn_t root, gva_t va, bool write);
/* The root that v, in its mode, runs on. */
mfn_t walk_root(struct vcpu *v);

/* --- target.c: whose tables, whose frames
 * ----------------------------------------------------------------------------- */
/* Domain whose frames are meant, until hc_release. DOMID_IO for all, DOMID_XEN for the privileged, else hc_borrow. */
int must_check target_frames_of(struct hypercall *hc, uint16_t id, struct domain **out);
static inline int must_check target_frames(struct hypercall *hc, uint16_t id, struct domain **out)
{
    if (unlikely(id != DOMID_SELF))
        return target_frames_of(hc, id, out);
    *out = hc->caller->domain;
    return 0;
}
/* Are the numbers of that domain's frames those of a p2m? (DOMID_IO and DOMID_XEN: no) */
static inline bool frames_translated(const struct domain *pg_owner)
{
    return pg_owner->ops && pg_owner->ops->translated;
}

/* --- segments.c
 * ----------------------------------------------------------------------------------------------------------
 */
/* Drops every LDT window page of d's vCPUs; true if there was one. */
bool ldt_unmap_all(struct domain *d);
/* A fault in v's LDT window: maps the page that is missing there. */
bool window_map_ldt(struct vcpu *v, unsigned offset);

/* --- ptwr.c
 * ----------------------------------------------------------------------------------------------------------------
 */
/* A write to a page table that is mapped read-only, done for the guest kernel. False: not ours. */
bool ptwr_emulate(struct vcpu *v, uint64_t addr, struct guest_regs *r);

/* --- flush.c
 * --------------------------------------------------------------------------------------------------- */
/* CPUs on which the vCPUs of the guest's bitmap run. -EFAULT. */
int must_check vcpumask_cpus(struct vcpu *caller, gva_t bitmap, struct cpumask *out);
/* Whose translations: the caller's domain's. kind as in x86/tlb.h. */
void flush_cpus_of(struct domain *d, const struct cpumask *cpus, unsigned kind, gva_t va);

#endif
