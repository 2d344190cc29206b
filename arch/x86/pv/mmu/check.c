/*
 * The PV MMU: room check. Walks every table of a domain from its contents alone and compares with the counts
 * that the type words keep (invariants of types.c). d must be at rest: no vCPU of it in a hypercall. Needs
 * memory for two counters per frame of the machine; without it the check is left out.
 */
#include "types.h"
#include "core/alloc.h"
#include "core/log.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "x86/mm.h"

struct tally {
    uint32_t *types, *refs; /* by frame number */
    struct domain *d;
};

#define BROKEN(f, what)                                                                                      \
    panic("pv/mmu: %s: frame %#llx, type %#llx, count %#llx, owner d%u", what,                               \
          (unsigned long long)frame_mfn(f).n, (unsigned long long)(f)->type, (unsigned long long)(f)->count, \
          (f)->owner)

static void count_frame(struct tally *t, mfn_t m, bool typed)
{
    t->refs[m.n]++;
    t->types[m.n] += typed;
}

static void check_l1_entry(struct tally *t, const struct frame *table, uint64_t e)
{
    struct frame *f;

    if (!(e & PTE_US) || e & PTE_G)
        BROKEN(table, "an L1 entry that was not adjusted");
    if (!mfn_valid(pte_mfn(e)))
        return;
    f = mfn_frame(pte_mfn(e));
    if (e & PTE_RW && (pgt_type(f->type) != PGT_WRITABLE || !(f->type & PGT_VALIDATED)))
        BROKEN(f, "mapped writable, and not of type WRITABLE");
    count_frame(t, pte_mfn(e), e & PTE_RW);
}

static void check_upper_entry(struct tally *t, struct frame *table, unsigned level, uint64_t e, bool last)
{
    struct frame *f;

    if (!(e & PTE_US) || !entry_flags_ok(t->d, e, level) || !mfn_valid(pte_mfn(e)))
        BROKEN(table, "an upper entry with forbidden contents");
    if (entry_is_linear(e, level, table) && e & PTE_RW)
        BROKEN(table, "a writable linear entry");
    if (entry_is_self(e, level, table))
        return;
    f = mfn_frame(pte_mfn(e));
    if (entry_is_linear(e, level, table)) {
        if (f->owner != t->d->id.v || !(f->type & PGT_NAMED) || f->type & PGT_NAMES ||
            !(table->type & PGT_NAMES) || table->type & PGT_NAMED)
            BROKEN(f, "named by a table of its level, and a chain is possible");
        count_frame(t, pte_mfn(e), true);
        return;
    }
    if (f->owner != t->d->id.v || pgt_level(pgt_type(f->type)) != level - 1)
        BROKEN(f, "named by a table of the level above, and no table of this domain's");
    if (!last && !(f->type & PGT_VALIDATED))
        BROKEN(f, "in use, and not validated");
    count_frame(t, pte_mfn(e), true);
}

static void check_hyp_slots(const struct tally *t, struct frame *f, const uint64_t *l4)
{
    uint64_t *want = frame_alloc_va(0);

    if (!want)
        return;
    mm_fill_guest_l4(want, t->d);
    if (!l4[HYP_SLOT_FIRST]) /* the M2P, hidden from user mode */
        want[HYP_SLOT_FIRST] = 0;
    if (memcmp(&want[HYP_SLOT_FIRST], &l4[HYP_SLOT_FIRST],
               (HYP_SLOT_LAST - HYP_SLOT_FIRST + 1) * sizeof(*l4)))
        BROKEN(f, "Krypton's slots of an L4 were changed");
    frame_free_va(want, 0);
}

static void tally_table(struct tally *t, struct frame *f)
{
    unsigned level = pgt_level(pgt_type(f->type)),
             n = f->type & PGT_VALIDATED ? PT_ENTRIES : pgt_index(f->type);
    const uint64_t *table = arch_frame_va(frame_mfn(f));

    if (!level || !pgt_count(f->type))
        return;
    for (unsigned i = 0; i < n; i++) {
        if (!(table[i] & PTE_P) || !slot_is_guests(level, i))
            continue;
        if (level == 1)
            check_l1_entry(t, f, table[i]);
        else
            check_upper_entry(t, f, level, table[i], !(f->type & PGT_VALIDATED) && i + 1 == n);
    }
    if (level == 4 && f->type & PGT_VALIDATED)
        check_hyp_slots(t, f, table);
}

static void tally_pending(struct tally *t, const struct pv_pending *p)
{
    if (p->mfn)
        count_frame(t, MFN(p->mfn), true);
}

static void tally_mfn(struct tally *t, mfn_t m)
{
    if (m.n && !mfn_eq(m, INVALID_MFN))
        count_frame(t, m, true);
}

static void tally_vcpu(struct tally *t, struct vcpu *v)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    const uint64_t *window = x86_domain(t->d)->window_l1 ? x86_domain(t->d)->window_l1[v->id] : NULL;

    tally_mfn(t, pv->root_kernel);
    tally_mfn(t, pv->root_user);
    for (unsigned i = 0; i < PV_GDT_FRAMES && i * 512 < pv->gdt_entries; i++)
        tally_mfn(t, pv->gdt_frame[i]);
    for (unsigned i = 0; window && i < 16; i++)
        if (pv->ldt_mapped & (1u << i))
            count_frame(t, pte_mfn(window[16 + i]), true);
}

/* Whoever was preempted in one of d's tables: also a privileged domain that works for it. */
static void tally_all_pending(struct tally *t)
{
    for_each_held_domain(d)
    {
        for_each_vcpu(d, v) tally_pending(t, &pv_vcpu(v)->pending);
        tally_pending(t, &x86_domain(d)->release_pending);
    }
}

static void compare(struct tally *t, struct frame *f)
{
    uint64_t x = f->type, n = frame_mfn(f).n, counted = t->types[n] + !!(x & PGT_PINNED);
    uint64_t refs = t->refs[n] + !!(x & PGT_PINNED) + !!(f->count & (FRAME_ALLOCATED | FRAME_SPECIAL));

    if (x & PGT_LOCKED)
        BROKEN(f, "locked at rest");
    if (pgt_count(x) && !(x & (PGT_VALIDATED | PGT_PARTIAL)))
        BROKEN(f, "at work at rest");
    if (pgt_type(x) == PGT_WRITABLE ? pgt_count(x) < counted : pgt_count(x) != counted)
        BROKEN(f, "type count differs from the references found");
    if ((f->count & FRAME_REF_MASK) < refs)
        BROKEN(f, "fewer references on the frame than were found");
    if (f->count & FRAME_SPECIAL && pgt_count(x) && pgt_type(x) != PGT_WRITABLE)
        BROKEN(f, "a special frame with a type of its own");
}

static void each_frame(const struct tally *t, void (*fn)(struct tally *, struct frame *))
{
    uint32_t lists[] = {t->d->page_list, t->d->special_list};

    for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
        for (struct frame *f = lists[i] ? &frame_table[lists[i]] : NULL; f; f = frame_next(f))
            fn((struct tally *)t, f);
}

void pv_mmu_room_check(struct domain *d)
{
    struct tally t = {mem_alloc_array(frame_count, sizeof(uint32_t)),
                      mem_alloc_array(frame_count, sizeof(uint32_t)), d};

    if (t.types && t.refs) {
        each_frame(&t, tally_table);
        for_each_vcpu(d, v) tally_vcpu(&t, v);
        tally_all_pending(&t);
        each_frame(&t, compare);
    }
    mem_free(t.types);
    mem_free(t.refs);
}
