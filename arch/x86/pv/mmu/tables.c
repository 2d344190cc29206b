/*
 * The PV MMU: validation and release of whole tables. Both work on the range of entries that the type word's
 * index names, so that each can stop after any entry and the other can go on (theory in types.c). A table
 * under work is read through the direct map; nobody else writes it meanwhile (invariant 4).
 *
 * Preemption: between the children of an L2, L3 or L4. An L1 or a descriptor page (512 entries) is done in
 * one go; every call gets at least one child done, so that a hypercall that is preempted each time still
 * ends.
 */
#include "types.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "x86/mm.h"

static uint64_t entry_read(const uint64_t *e)
{
    return __atomic_load_n(e, __ATOMIC_RELAXED);
}

/* Plain reads: nobody else writes the table, and a processor that sets accessed and dirty bits leaves P alone. */
static inline bool eight_empty(const uint64_t *e)
{
    return !((e[0] | e[1] | e[2] | e[3] | e[4] | e[5] | e[6] | e[7]) & PTE_P);
}

/* Most entries of most tables are empty: eight are looked at at once. The first present one from i on, PT_ENTRIES: none. */
static inline unsigned skip_up(const uint64_t *t, unsigned i)
{
    for (; i % 8; i++)
        if (entry_read(&t[i]) & PTE_P)
            return i;
    while (i < PT_ENTRIES && eight_empty(&t[i]))
        i += 8;
    while (i < PT_ENTRIES && !(entry_read(&t[i]) & PTE_P))
        i++;
    return i;
}

/* The last present one below i, plus 1; 0: none. */
static inline unsigned skip_down(const uint64_t *t, unsigned i)
{
    for (; i % 8; i--)
        if (entry_read(&t[i - 1]) & PTE_P)
            return i;
    while (i && eight_empty(&t[i - 8]))
        i -= 8;
    while (i && !(entry_read(&t[i - 1]) & PTE_P))
        i--;
    return i;
}

static int l1_validate(uint64_t *t, struct domain *d, unsigned *index)
{
    for (unsigned i = skip_up(t, *index); i < PT_ENTRIES; i = skip_up(t, i + 1)) {
        uint64_t e = entry_read(&t[i]), want;
        int r;

        if (!(e & PTE_P))
            continue;
        want = entry_adjust(e, 1);
        r = l1_entry_get(want, d, d);
        if (r) {
            *index = i;
            return r;
        }
        if (want != e)
            t[i] = want;
    }
    *index = PT_ENTRIES;
    return 0;
}

static void l1_devalidate(const uint64_t *t, unsigned *index)
{
    for (unsigned i = skip_down(t, *index); i; i = skip_down(t, i - 1))
        l1_entry_put(entry_read(&t[i - 1]));
    *index = 0;
}

/* Entry i. 0, or an error with *held = whether the entry holds references nevertheless. */
static int upper_one(struct frame *f, uint64_t *entry, struct domain *d, unsigned level, bool preempt,
                     bool *held)
{
    uint64_t want = entry_adjust(entry_read(entry), level);
    struct frame *child;
    int r = upper_entry_ref(want, level, f, d, &child);

    *held = !r;
    if (r)
        return r;
    *entry = want;
    if (!child)
        return 0;
    r = type_finish(child, d, preempt);
    return !r && preempt && preempt_needed() ? -EAGAIN : r;
}

static int upper_validate(struct frame *f, uint64_t *t, struct domain *d, unsigned level, unsigned *index,
                          bool preempt)
{
    /* Stopped in the middle of the last child? */
    if (*index && slot_is_guests(level, *index - 1)) {
        struct frame *child = upper_entry_child(t[*index - 1], f);
        int r = child ? type_finish(child, d, preempt) : 0;

        if (r)
            return r;
    }
    for (*index = skip_up(t, *index); *index < PT_ENTRIES; *index = skip_up(t, *index + 1)) {
        bool held;
        int r;

        if (!slot_is_guests(level, *index) || !(entry_read(&t[*index]) & PTE_P))
            continue;
        r = upper_one(f, &t[*index], d, level, preempt, &held);
        if (r) {
            *index += held;
            return r;
        }
    }
    return 0;
}

int table_validate(struct frame *f, struct domain *d, unsigned level, unsigned *index, bool preempt)
{
    uint64_t *t = arch_frame_va(frame_mfn(f));
    int r;

    if (level == 1)
        return l1_validate(t, d, index);
    r = upper_validate(f, t, d, level, index, preempt);
    if (!r && level == 4)
        mm_fill_guest_l4(t, d);
    return r;
}

static int upper_devalidate(struct frame *f, const uint64_t *t, unsigned level, unsigned *index, bool preempt)
{
    while ((*index = skip_down(t, *index))) {
        unsigned i = *index - 1;
        struct frame *child = slot_is_guests(level, i) ? upper_entry_child(t[i], f) : NULL;

        if (child) {
            if (type_unref(child, preempt))
                return -EAGAIN;
            frame_put(child);
        }
        *index = i;
        if (child && preempt && i && preempt_needed())
            return -EAGAIN;
    }
    return 0;
}

int table_devalidate(struct frame *f, unsigned level, unsigned *index, bool preempt)
{
    uint64_t *t = arch_frame_va(frame_mfn(f));

    if (level == 1) {
        l1_devalidate(t, index);
        return 0;
    }
    if (upper_devalidate(f, t, level, index, preempt))
        return -EAGAIN;
    if (level == 4) /* Krypton's addresses are no business of whoever reads the page next */
        memset(&t[HYP_SLOT_FIRST], 0, (HYP_SLOT_LAST - HYP_SLOT_FIRST + 1) * sizeof(*t));
    return 0;
}

int descriptors_validate(struct frame *f)
{
    uint64_t *t = arch_frame_va(frame_mfn(f));

    for (unsigned i = 0; i < FRAME_SIZE / 8; i++) {
        uint64_t want = pv_descriptor_fix(t[i]);

        if (!pv_descriptor_ok(want))
            return -EINVAL;
        if (want != t[i])
            t[i] = want;
    }
    return 0;
}
