/*
 * The PV MMU: page types.
 *
 * A PV guest sees real page tables, so whoever can write one can read all memory. Every frame therefore has a
 * type, and a count of the references of that type; as long as the count is not 0 the type cannot change.
 * Page tables are read before they are used, entry by entry, and every present entry holds references on what
 * it names. The type word:
 *
 *    count 0, type T      was T last: who makes it something else flushes the translations that T allowed
 *    VALIDATED            it is T. Others may take and drop references
 *    PARTIAL              a table whose first `index` entries hold references; nobody is at work on it.
 * Validation and release, when preempted, end in the same state, and either may go on from there neither of
 * the two   one CPU is at work (validating, releasing, flushing); others who need it wait
 *
 *    count 0 --type_ref--> at work (flush) --> VALIDATED (WRITABLE, SHARED)
 *                                          --> PARTIAL(0) --type_finish--> VALIDATED (tables, descriptors)
 *    VALIDATED, PARTIAL --type_unref of the last--> at work --> count 0, or PARTIAL (preempted, reference
 * kept)
 *
 * Whoever holds a reference on a PARTIAL table finishes or drops it, and only he: a table entry holds it for
 * its table, a preempted hypercall in its vCPU's pending slot (pending.c).
 *
 * Invariants
 *  1. No frame is at the same time writable by a guest and a page table, a descriptor page or Krypton's: an
 * L1 entry with RW holds a WRITABLE reference, and a special frame never becomes a table or a descriptor
 * page.
 *  2. The count of a type equals the number of references of that type: present L1 entries with RW, present
 * L2-L4 entries, pins, roots, descriptor windows, pending slots, holders of the lock, and the writable pins
 * of other rooms.
 *  3. Every reference by type comes with one reference on the frame, held by the same owner, so a typed frame
 * in use is never freed. A read-only L1 entry to RAM holds just that one.
 *  4. The contents of a table are stable while it is VALIDATED, but for changes under its lock by this room
 * and accessed and dirty bits by processors.
 *  5. Entries of a VALIDATED table lead to VALIDATED tables of the level below, owned by the same domain;
 * read-only ones may also name the table itself, which counts nothing, or another table of its level that
 * names none (linear tables: entry.c).
 *  6. L4 slots 256-271 of a VALIDATED L4 are Krypton's and no guest write reaches them.
 *  7. Before a frame changes its type, every processor has flushed that could still use it as what it was
 * (stamp).
 *  8. Waiting is downwards only: who works on a table waits for tables of lower levels, never of higher ones;
 * who holds a table's lock waits for nobody but for flushes. Hence no circles.
 *
 * Locks: the type word itself; table_lock is a bit in it. Nothing here is called in interrupt context.
 */
#include "types.h"
#include "core/perf.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "x86/tlb.h"

static bool type_swap(struct frame *f, uint64_t *expected, uint64_t value)
{
    return __atomic_compare_exchange_n(&f->type, expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static bool is_checked_type(uint64_t type)
{
    return pgt_level(type) || type == PGT_SEG_DESC;
}

/* --- taking
 * ----------------------------------------------------------------------------------------------------------
 */

/* The CPUs that may hold translations of what f was (old word x). */
static const struct cpumask *holders(const struct frame *f, uint64_t x, struct domain *by)
{
    return x & PGT_FOREIGN || f->owner != by->id.v ? &cpus_online : &x86_domain(by)->dirty_cpus;
}

static bool changes_type(uint64_t x, uint64_t type)
{
    return pgt_type(x) != type && pgt_type(x) != PGT_NONE;
}

/* With interrupts off no other CPU can be waited for, and one may begin to run the domain at any time: who holds
 * translations now says nothing. */
static bool may_flush(void)
{
    if (!arch_irq_enabled())
        for_each_cpu(c, &cpus_online) if (c != arch_cpu_id()) return false;
    return true;
}

/* This CPU has made the count 1 with the new type: the frame is this CPU's to work on. */
static void begin_type(struct frame *f, uint64_t was, uint64_t type, const struct cpumask *cpus)
{
    perf_count(type_changes);
    if (changes_type(was, type))
        tlb_flush_older(cpus, __atomic_load_n(&f->stamp, __ATOMIC_RELAXED));
    __atomic_fetch_or(&f->type, is_checked_type(type) ? PGT_PARTIAL : PGT_VALIDATED, __ATOMIC_RELEASE);
}

static uint64_t foreign_bit(const struct frame *f, uint64_t type, const struct domain *by)
{
    return type == PGT_WRITABLE && f->owner != by->id.v ? PGT_FOREIGN : 0;
}

/* May this frame ever have that type? Krypton's own data are no tables, what it shows to all is not writable. */
static bool type_possible(const struct frame *f, uint64_t type)
{
    if (f->owner == DOMID_XEN)
        return false;
    return !is_checked_type(type) || !(__atomic_load_n(&f->count, __ATOMIC_RELAXED) & FRAME_SPECIAL);
}

/* The type's first reference is Krypton's and stays: the frame is writable for ever. One that has a type already is writable memory of a
 * domain without PV page tables. */
void arch_frame_writable(mfn_t m)
{
    uint64_t none = 0;

    (void)__atomic_compare_exchange_n(&mfn_frame(m)->type, &none, PGT_WRITABLE | PGT_VALIDATED | 1, false,
                                      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The first reference, of which word x knew none. 1: it is another word by now. Not inlined: the others need no stack frame. */
static __attribute__((noinline)) int type_ref_first(struct frame *f, uint64_t x, uint64_t type,
                                                    struct domain *by)
{
    const struct cpumask *cpus = holders(f, x, by);
    uint64_t kept = pgt_type(x) == type ? x & PGT_FOREIGN : 0, was = x;

    if (unlikely(!type_possible(f, type)))
        return -EINVAL;
    if (unlikely(changes_type(x, type) && !may_flush()))
        return -EBUSY;
    if (!type_swap(f, &x, type | 1 | kept | foreign_bit(f, type, by)))
        return 1;
    begin_type(f, was, type, cpus);
    return 0;
}

static int type_ref_once(struct frame *f, uint64_t type, struct domain *by)
{
    uint64_t x = type_word(f), foreign = foreign_bit(f, type, by);

    for (;;) {
        if (unlikely(!pgt_count(x))) {
            int r = type_ref_first(f, x, type, by);

            if (r <= 0)
                return r;
            x = type_word(f);
            continue;
        }
        if (pgt_type(x) != type)
            return -EINVAL;
        if (unlikely(pgt_count(x) >= PGT_COUNT_MASK - 1))
            return -EBUSY;
        if (type_swap(f, &x, (x + 1) | foreign))
            return 0;
    }
}

static __attribute__((noinline)) int type_ref_any(struct frame *f, uint64_t type, struct domain *by)
{
    int r = type_ref_once(f, type, by);

    /* A descriptor page that only LDT windows hold: the windows are filled again when somebody needs them. */
    if (unlikely(r == -EINVAL) && type != PGT_SEG_DESC && pgt_type(type_word(f)) == PGT_SEG_DESC &&
        f->owner == by->id.v && ldt_unmap_all(by))
        r = type_ref_once(f, type, by);
    return r;
}

/* The frequent case, one more of what it is already, without a stack frame. */
int type_ref(struct frame *f, uint64_t type, struct domain *by)
{
    uint64_t x = type_word(f), foreign = foreign_bit(f, type, by);

    while (likely(pgt_count(x) && pgt_type(x) == type && pgt_count(x) < PGT_COUNT_MASK - 1))
        if (likely(type_swap(f, &x, (x + 1) | foreign)))
            return 0;
    return type_ref_any(f, type, by);
}

/* --- validating
 * ------------------------------------------------------------------------------------------------------- */

/* This CPU has taken the work on f. */
static int validate(struct frame *f, struct domain *d, uint64_t type, unsigned index, bool preempt)
{
    unsigned level = pgt_level(type);
    int r = level ? table_validate(f, d, level, &index, preempt) : descriptors_validate(f);

    perf_count_in(validate_seg, level);
    if (!r)
        __atomic_fetch_or(&f->type, PGT_VALIDATED, __ATOMIC_RELEASE);
    else
        __atomic_fetch_or(&f->type, PGT_PARTIAL | (uint64_t)index << PGT_INDEX_SHIFT, __ATOMIC_RELEASE);
    return r;
}

int type_finish(struct frame *f, struct domain *d, bool preempt)
{
    uint64_t x = type_word(f);

    for (;;) {
        if (likely(x & PGT_VALIDATED))
            return 0;
        if (!(x & PGT_PARTIAL)) {
            /* Who works on it may wait for this CPU to flush. */
            if (unlikely(!arch_irq_enabled()))
                return -EBUSY;
            arch_cpu_relax();
            x = type_word(f);
        } else if (type_swap(f, &x, x & ~(PGT_PARTIAL | PGT_INDEX_MASK))) {
            return validate(f, d, pgt_type(x), pgt_index(x), preempt);
        }
    }
}

/* --- dropping
 * ------------------------------------------------------------------------------------------------------------
 */

/* This CPU has taken the work on f, its own reference is still counted. Ends the type, unless others wait for
 * it. */
static void end_type(struct frame *f)
{
    uint64_t x = type_word(f), n;

    do {
        arch_frame_stamp(f);
        n = pgt_count(x) == 1 ? x & (PGT_TYPE_MASK | PGT_FOREIGN) : (x - 1) | PGT_PARTIAL;
    } while (!type_swap(f, &x, n));
}

static int release_checked(struct frame *f, uint64_t x, bool preempt)
{
    unsigned level = pgt_level(pgt_type(x)), index = x & PGT_VALIDATED ? PT_ENTRIES : pgt_index(x);

    if (level && table_devalidate(f, level, &index, preempt)) {
        __atomic_fetch_or(&f->type, PGT_PARTIAL | (uint64_t)index << PGT_INDEX_SHIFT, __ATOMIC_RELEASE);
        return -EAGAIN;
    }
    end_type(f);
    return 0;
}

int type_unref(struct frame *f, bool preempt)
{
    uint64_t x = type_word(f);

    for (;;) {
        uint64_t count = pgt_count(x);

        if (unlikely(!count))
            panic("frame %#llx: a reference by type too many was dropped (type %#llx)",
                  (unsigned long long)frame_mfn(f).n, (unsigned long long)x);
        if (count > 1 && !(count == 2 && x & PGT_LOCKED)) {
            if (likely(type_swap(f, &x, x - 1)))
                return 0;
        } else if (count > 1) {
            arch_cpu_relax(); /* the last is the lock's holder, who does not expect to release the table */
            x = type_word(f);
        } else if (is_checked_type(pgt_type(x))) {
            if (!(x & (PGT_VALIDATED | PGT_PARTIAL)))
                panic("frame %#llx: released while at work (type %#llx)", (unsigned long long)frame_mfn(f).n,
                      (unsigned long long)x);
            if (type_swap(f, &x, x & ~(PGT_VALIDATED | PGT_PARTIAL | PGT_INDEX_MASK)))
                return release_checked(f, x, preempt);
        } else {
            /* The stamp is taken after the last mapping has gone and before anybody can see count 0. */
            arch_frame_stamp(f);
            if (likely(type_swap(f, &x, x & (PGT_TYPE_MASK | PGT_FOREIGN))))
                return 0;
        }
    }
}

void type_unref_now(struct frame *f)
{
    int r = type_unref(f, false);

    BUG_ON(r);
}

/* --- both references
 * --------------------------------------------------------------------------------------------------- */

int frame_get_typed(mfn_t m, struct domain *owner, uint64_t type, struct domain *by)
{
    struct frame *f = frame_named(m);
    int r;

    if (!f || !frame_get(f, owner))
        return -EINVAL;
    r = type_ref(f, type, by);
    if (likely(!r) && unlikely(!(type_word(f) & PGT_VALIDATED))) {
        r = type_finish(f, owner, false);
        if (r)
            type_unref_now(f);
    }
    if (r)
        frame_put(f);
    return r;
}

void frame_put_typed(struct frame *f)
{
    type_unref_now(f);
    frame_put(f);
}

int pv_frame_get_type(mfn_t m, struct domain *d, uint64_t type, bool preemptible)
{
    struct vcpu *v = preemptible ? arch_current() : NULL;

    return pending_get(v && !v->idle ? &pv_vcpu(v)->pending : NULL, m, d, type);
}

void pv_frame_put_type(mfn_t m)
{
    frame_put_typed(mfn_frame(m));
}

/* --- lock, pin
 * -----------------------------------------------------------------------------------------------------------
 */

bool table_lock(struct frame *f, const struct domain *d)
{
    uint64_t x = type_word(f);

    for (;;) {
        if (unlikely(!pgt_count(x) || !pgt_level(pgt_type(x)) || !(x & PGT_VALIDATED)))
            return false;
        if (unlikely(x & PGT_LOCKED)) {
            arch_cpu_relax();
            x = type_word(f);
            continue;
        }
        if (unlikely(pgt_count(x) >= PGT_COUNT_MASK - 1))
            return false;
        if (likely(type_swap(f, &x, (x + 1) | PGT_LOCKED)))
            break;
    }
    /* In use as a table, thus referenced: the owner cannot change any more. */
    if (likely(f->owner == d->id.v))
        return true;
    table_unlock(f);
    return false;
}

void table_unlock(struct frame *f)
{
    uint64_t before = __atomic_fetch_sub(&f->type, PGT_LOCKED + 1, __ATOMIC_RELEASE);

    ASSERT(before & PGT_LOCKED && pgt_count(before) > 1);
    (void)before;
}

bool type_pin(struct frame *f)
{
    return !(__atomic_fetch_or(&f->type, PGT_PINNED, __ATOMIC_ACQ_REL) & PGT_PINNED);
}

bool type_unpin(struct frame *f)
{
    return __atomic_fetch_and(&f->type, ~PGT_PINNED, __ATOMIC_ACQ_REL) & PGT_PINNED;
}
