/*
 * Reference model of pv/mmu (model.h). Starts from what the processor and the interface define as the roots of all access -
 * roots and pins, descriptor windows, pages that Krypton writes for a guest, pins of grants - and walks down. What it believes
 * of the type words is only which tables are validated, and how far those are that a preempted hypercall left.
 */
#include "model.h"
#include "core/log.h"
#include "core/evtchn/private.h"
#include "core/grant/private.h"
#include "arch/mem.h"
#include "x86/p2m.h"
#include "../../arch/x86/hvm/p2m/private.h"
#include "../../arch/x86/platform/private.h"
#include "../../arch/x86/pv/mmu/types.h"

#include <string.h>

struct seen {
    uint32_t refs;        /* references that somebody holds */
    uint32_t typed;       /* of them, by type (table or descriptor page) */
    uint32_t write;       /* of them, WRITABLE */
    uint8_t level;        /* 1-4: reached as a table; 5: as a descriptor page */
    uint8_t pending;      /* reached by a preempted hypercall only: may be unfinished */
    uint8_t names, named; /* linear entries: of others of its level, by others of its level */
};
static struct seen seen[MODEL_FRAMES];
static uint32_t queue[MODEL_FRAMES];
static unsigned queued;

#define WRONG(m, ...)                                                                                        \
    do {                                                                                                     \
        const struct frame *wf = mfn_frame(MFN(m));                                                          \
        log_err(                                                                                             \
            "model: frame %#lx type %#lx count %#lx owner d%u; found refs %u typed %u write %u level %u",    \
            (uint64_t)(m), wf->type, wf->count, wf->owner, seen[m].refs, seen[m].typed, seen[m].write,       \
            seen[m].level);                                                                                  \
        panic("model: " __VA_ARGS__);                                                                        \
    } while (0)

struct domain *model_domain_from(uint32_t id)
{
    struct domain *d = id <= UINT16_MAX ? domain_get_from(DID(id)) : NULL;

    if (d)
        domain_put(d);
    return d;
}

static bool valid(uint64_t m)
{
    return m < MODEL_FRAMES && mfn_valid(MFN(m));
}

static bool given(mfn_t m)
{
    return m.n && !mfn_eq(m, INVALID_MFN);
}

/* One more typed reference on m, as a table of that level (5: descriptors). */
static void reach(const struct domain *d, uint64_t m, unsigned level, bool pending)
{
    struct seen *s = &seen[m];

    if (!valid(m))
        panic("model: d%u uses frame %#lx, which is no RAM, as a table", d->id.v, m);
    if (mfn_frame(MFN(m))->owner != d->id.v)
        WRONG(m, "d%u uses a table that is not its own", d->id.v);
    if (s->level && s->level != level)
        WRONG(m, "used as table of level %u too", level);
    if (!s->level) {
        s->level = (uint8_t)level;
        s->pending = pending;
        if (level <= 4)
            queue[queued++] = (uint32_t)m;
    }
    s->pending &= pending;
    s->refs++;
    s->typed++;
}

static void hold(uint64_t m, bool write)
{
    if (!valid(m))
        panic("model: frame %#lx is held and no RAM", m);
    seen[m].refs++;
    seen[m].write += write;
}

/* Entries that hold references: all of a validated table, the first ones of an unfinished one. */
static unsigned entries(const struct frame *f)
{
    return f->type & PGT_VALIDATED ? PT_ENTRIES : pgt_index(f->type);
}

static bool has_devices(struct domain *d)
{
    return d->hardware || x86_domain(d)->devices;
}

static void l1_entry(struct domain *d, uint64_t m, uint64_t e)
{
    if (!(e & PTE_US) || e & PTE_G)
        WRONG(m, "an L1 entry %#lx that was not adjusted", e);
    if (e & (PTE_PCD | PTE_PWT | PTE_PAT) && !has_devices(d))
        WRONG(m, "an L1 entry %#lx with a memory type", e);
    if (!valid(pte_mfn(e).n)) {
        if (!has_devices(d))
            WRONG(m, "an ordinary domain maps device memory: %#lx", e);
        return;
    }
    hold(pte_mfn(e).n, e & PTE_RW);
}

/* A table read as one of the level below: never writable; others than the table itself are held, and there are no chains. */
static void linear_entry(struct domain *d, uint64_t m, unsigned level, uint64_t e, bool pending)
{
    if (e & PTE_RW)
        WRONG(m, "a writable linear entry %#lx", e);
    if (pte_mfn(e).n == m)
        return;
    if (seen[m].named || seen[pte_mfn(e).n].names)
        WRONG(m, "a chain of linear tables");
    seen[m].names = seen[pte_mfn(e).n].named = 1;
    reach(d, pte_mfn(e).n, level, pending);
}

static void upper_entry(struct domain *d, uint64_t m, unsigned level, uint64_t e, bool pending)
{
    if (!(e & PTE_US) || e & (PTE_PS | PTE_G | PTE_PWT | PTE_PCD))
        WRONG(m, "an entry %#lx with forbidden bits", e);
    if (pte_mfn(e).n == m || (valid(pte_mfn(e).n) && pgt_level(mfn_frame(pte_mfn(e))->type) == level)) {
        linear_entry(d, m, level, e, pending);
        return;
    }
    reach(d, pte_mfn(e).n, level - 1, pending);
}

static void walk_table(struct domain *d, uint64_t m)
{
    const struct frame *f = mfn_frame(MFN(m));
    const uint64_t *t = arch_frame_va(MFN(m));
    unsigned level = seen[m].level, n = entries(f);
    bool whole = f->type & PGT_VALIDATED;

    for (unsigned i = 0; i < n; i++) {
        if (!(t[i] & PTE_P) || (level == 4 && i >= HYP_SLOT_FIRST && i <= HYP_SLOT_LAST))
            continue;
        if (level == 1)
            l1_entry(d, m, t[i]);
        else
            upper_entry(d, m, level, t[i], !whole && i + 1 == n);
    }
}

/* --- where access begins --- */

static void pins_of(struct domain *d)
{
    for (struct frame *f = frame_domain_first(d); f; f = frame_next(f))
        if (f->type & PGT_PINNED)
            reach(d, frame_mfn(f).n, pgt_level(f->type), false);
}

static void pending_slot(const struct pv_pending *p)
{
    if (!p->mfn)
        return;
    if (!valid(p->mfn))
        panic("model: a pending slot names frame %#lx", p->mfn);
    for_each_domain(owner) if (owner->id.v == mfn_frame(MFN(p->mfn))->owner)
        reach(owner, p->mfn, (unsigned)(pgt_type(mfn_frame(MFN(p->mfn))->type) >> 60), true);
}

static void vcpu_of(struct domain *d, struct vcpu *v)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    const uint64_t *window = x86_domain(d)->window_l1 ? x86_domain(d)->window_l1[v->id] : NULL;

    if (given(pv->root_kernel))
        reach(d, pv->root_kernel.n, 4, false);
    if (given(pv->root_user))
        reach(d, pv->root_user.n, 4, false);
    for (unsigned i = 0; i < PV_GDT_FRAMES && i * 512 < pv->gdt_entries; i++)
        reach(d, pv->gdt_frame[i].n, 5, false);
    for (unsigned i = 16; window && i < 32; i++) {
        if (!(window[i] & PTE_P) != !(pv->ldt_mapped >> (i - 16) & 1))
            panic("model: d%u vCPU %u: LDT window entry %u and its bit differ", d->id.v, v->id, i);
        if (window[i] & PTE_P)
            reach(d, pte_mfn(window[i]).n, 5, false);
    }
    pending_slot(&pv->pending);
    if (!mfn_eq(v->info_mfn, INVALID_MFN))
        hold(v->info_mfn.n, true);
    if (v->evtchn.fifo)
        hold(v->evtchn.fifo->mfn.n, true);
}

static void others_of(struct domain *d)
{
    const struct evtchn_fifo_domain *f = d->evtchn.fifo;
    const struct grant_table *t = d->grant;
    const struct pirq_table *irqs = x86_domain(d)->pirq;

    for (uint32_t i = 0; f && i < f->pages; i++)
        hold(f->mfn[i].n, true);
    if (irqs && irqs->eoi_page) {
        hold(irqs->eoi_mfn.n, false);
        hold(irqs->eoi_mfn.n, true);
    }
    for (uint32_t ref = 0; t && ref < t->max_frames * V1_PER_FRAME; ref++) {
        const struct active *a = grant_active(t, ref);

        if (!a) {
            ref |= ACTIVE_PER_CHUNK - 1;
            continue;
        }
        if (a->transitive)
            continue;
        for (uint32_t i = 0; i < a->read; i++)
            hold(a->mfn.n, false);
        for (uint32_t i = 0; i < a->write; i++)
            hold(a->mfn.n, true);
    }
}

/* --- the comparison --- */

static void compare_type(uint64_t m)
{
    const struct seen *s = &seen[m];
    uint64_t x = mfn_frame(MFN(m))->type, count = pgt_count(x);

    if (s->write && s->typed)
        WRONG(m, "writable, and a table or descriptor page");
    if (x & PGT_LOCKED || (count && !(x & (PGT_VALIDATED | PGT_PARTIAL))))
        WRONG(m, "at work at rest");
    if (count != s->write + s->typed)
        WRONG(m, "type count %lu differs from what was found", count);
    if (s->write && (pgt_type(x) != PGT_WRITABLE || !(x & PGT_VALIDATED)))
        WRONG(m, "writable and of another type");
    if (s->typed && pgt_type(x) != (uint64_t)s->level << 60)
        WRONG(m, "of another type than it is used as");
    if (s->typed && !(x & PGT_VALIDATED) && !s->pending)
        WRONG(m, "in use and not validated");
}

static void compare_frame(uint64_t m)
{
    const struct frame *f = mfn_frame(MFN(m));
    const struct seen *s = &seen[m];
    uint64_t refs = f->count & FRAME_REF_MASK, own = f->count & (FRAME_ALLOCATED | FRAME_SPECIAL) ? 1 : 0;

    if (!refs) {
        if (s->refs)
            WRONG(m, "in use, and free or Krypton's own");
        return;
    }
    if (f->owner == DOMID_XEN) {
        if (s->write || s->typed)
            WRONG(m, "writable or a table, and Krypton's own");
        return;
    }
    if (refs != own + s->refs)
        WRONG(m, "references %lu differ from what was found, %lu", refs, own + s->refs);
    if (f->count & FRAME_SPECIAL && s->typed)
        WRONG(m, "a table, and shared with Krypton");
    compare_type(m);
}

static struct domain *owner_of(uint64_t m)
{
    for_each_domain(d) if (d->id.v == mfn_frame(MFN(m))->owner) return d;
    return NULL;
}

/* Programs that have no device models are not linked with them. */
#pragma weak model_held

/* Reads the tables themselves, without the lock: a flush in the middle of a change looks, too. */
static void walk_nested(struct domain *d, const uint64_t *t, unsigned level,
                        void (*fn)(struct domain *, const struct p2m_entry *))
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct p2m_entry e = {.mfn = entry_mfn(t[i]), .type = entry_type(t[i]), .order = level_order(level)};

        if (entry_is_table(p2m_of(d), t[i], level))
            walk_nested(d, entry_table(t[i]), level - 1, fn);
        else if (type_has_frame(e.type))
            fn(d, &e);
    }
}

void model_walk_p2m(struct domain *d, void (*fn)(struct domain *, const struct p2m_entry *))
{
    if (x86_domain(d)->p2m)
        walk_nested(d, p2m_of(d)->root, LEVELS, fn);
}

static void entry_holds(struct domain *d, const struct p2m_entry *e)
{
    if (e->type == P2M_MMIO) {
        if (!has_devices(d))
            panic("model: d%u has device memory, frame %#lx", d->id.v, e->mfn.n);
        return;
    }
    for (uint64_t i = 0; i < 1ull << e->order; i++) {
        uint64_t m = e->mfn.n + i, owner = valid(m) ? mfn_frame(MFN(m))->owner : d->id.v;

        hold(m, e->type == P2M_FOREIGN);
        if (e->type != P2M_GRANT && e->type != P2M_GRANT_RO &&
            (owner == d->id.v) == (e->type == P2M_FOREIGN || e->type == P2M_FOREIGN_RO))
            WRONG(m, "d%u has it in its p2m as type %u", d->id.v, e->type);
    }
}

static void hold_read(uint64_t m)
{
    hold(m, false);
}

/* A frame that a translated domain could ever write has one count of the type writable that no entry holds. */
static void writable_for_ever(const struct domain *d)
{
    for (uint64_t m = 1; m < frame_count; m++) {
        const struct frame *f = mfn_frame(MFN(m));

        if (mfn_valid(MFN(m)) && f->owner == d->id.v && f->count & FRAME_REF_MASK && f->type)
            seen[m].write++;
    }
}

static void walk_all(void)
{
    BUG_ON(frame_count > MODEL_FRAMES);
    memset(seen, 0, frame_count * sizeof(seen[0]));
    queued = 0;
    for_each_domain(d)
    {
        pins_of(d);
        for_each_vcpu(d, v) vcpu_of(d, v);
        pending_slot(&x86_domain(d)->release_pending);
        others_of(d);
        model_walk_p2m(d, entry_holds);
        if (model_held)
            model_held(d, hold_read);
        if (x86_domain(d)->p2m)
            writable_for_ever(d);
    }
    for (unsigned i = 0; i < queued; i++)
        walk_table(owner_of(queue[i]), queue[i]);
}

void model_mmu_check(void)
{
    walk_all();
    for (uint64_t m = 1; m < frame_count; m++)
        if (mfn_valid(MFN(m)) && (mfn_frame(MFN(m))->count || seen[m].refs))
            compare_frame(m);
}

void model_walk_l1(struct domain *d, model_l1_fn fn, void *data)
{
    walk_all();
    for (unsigned i = 0; i < queued; i++) {
        const struct frame *f = mfn_frame(MFN(queue[i]));
        const uint64_t *t = arch_frame_va(MFN(queue[i]));

        if (seen[queue[i]].level != 1 || f->owner != d->id.v)
            continue;
        for (unsigned k = 0; k < entries(f); k++)
            if (t[k] & PTE_P)
                fn(d, t[k], data);
    }
}
