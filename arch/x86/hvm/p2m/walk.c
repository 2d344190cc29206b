/*
 * A guest's own page tables (AMD APM vol. 2 ch. 5; SDM vol. 3 ch. 4): from a virtual to a guest-physical address in each of its paging
 * modes, with the processor's checks, its error codes and its accessed and dirty bits.
 *
 * The guest's other vCPUs may change the tables meanwhile: every entry is read once, and marked by an exchange that fails when it is not
 * any more what was judged; then the walk starts again.
 *
 * Invariants
 *  1. Accessed and dirty bits are set only for accesses that are allowed.
 *  2. Tables are reached through the p2m as the guest would reach them: a table in no RAM, or in memory that may not be written, is
 *     reported, not touched.
 * Locks: none. Interrupts are off in walk_run and ram_find, and as long as what they found is used (p2m.c, invariant 2).
 */
#include "walk.h"
#include "arch/cpu.h"
#include "x86/pte.h"

#define RESTARTS 64 /* a guest that changes its tables all the time does not keep us here */
#define BLOCKED  16

/* --- guest-physical memory --- */

enum walk_result ram_find(struct p2m *p, uint64_t gpa, bool write, void **host)
{
    uint64_t gfn = gpa >> FRAME_SHIFT, e;
    enum p2m_type t;
    unsigned level;

    if (unlikely(gfn > p->max_gfn))
        return WALK_NO_RAM;
    e = p2m_walk(p, gfn, &level);
    t = entry_type(e);
    *host = NULL;
    if (unlikely(t == P2M_POD || (t == P2M_LOGGED && write)))
        return WALK_AGAIN;
    if (unlikely(t == P2M_RAM_RO && write))
        return WALK_OK;
    if (unlikely(t == P2M_NONE || t == P2M_MMIO || (write && t != P2M_RAM_DM && !(e & p->fmt->write))))
        return WALK_NO_RAM;
    *host = (char *)arch_frame_va(MFN(entry_mfn(e).n + (gfn & ((1ull << level_order(level)) - 1)))) +
            (gpa & (FRAME_SIZE - 1));
    return WALK_OK;
}

bool ram_unblock(struct p2m *p, uint64_t gpa, bool write)
{
    return p2m_fault(p->d, gpa, write ? P2M_ACC_WRITE : 0) == P2M_RETRY;
}

/* --- one entry --- */

static bool is_leaf(const struct walk *w, uint64_t e, unsigned level)
{
    if (level == 1)
        return true;
    if (!(e & PTE_PS))
        return false;
    return level == 2 ? !w->narrow || w->gp->mode & GP_PSE : level == 3 && w->gp->mode & GP_LONG;
}

static bool is_pdpte(const struct walk *w, unsigned level)
{
    return level == 3 && !(w->gp->mode & GP_LONG);
}

/* Bits that must be zero in a present entry. */
static uint64_t reserved_bits(const struct walk *w, uint64_t e, unsigned level)
{
    uint64_t r;

    if (w->narrow)
        return is_leaf(w, e, level) && level == 2 ? 1ull << 21 : 0;
    r = (1ull << 52) - (1ull << p2m_machine.guest_bits);
    if (!(w->gp->mode & GP_LONG))
        r |= 0x7ffull << 52;
    if (!(w->gp->mode & GP_NXE) || is_pdpte(w, level))
        r |= PTE_NX;
    if (is_pdpte(w, level))
        return r | 0x1c6; /* the accessed bit is reserved too, but QEMU's processor sets it */
    if (level == 4 || (level == 3 && !(w->gp->mode & GP_HUGE)))
        return r | PTE_PS;
    if (level > 1 && e & PTE_PS)
        r |= ((1ull << (level_order(level) + FRAME_SHIFT)) - 1) & ~0x1fffull;
    return r;
}

/* --- permission --- */

static enum walk_result fault(struct walk *w, uint32_t bits)
{
    uint32_t e = w->access & (WALK_WRITE | WALK_USER);

    if (w->access & WALK_FETCH && w->gp->mode & (GP_NXE | GP_SMEP))
        e |= WALK_FETCH;
    w->error = e | bits;
    return WALK_FAULT;
}

/* What protection keys say about a user page. */
static bool key_denies(const struct walk *w, uint64_t leaf, uint64_t rights)
{
    unsigned key = (unsigned)(leaf >> 59) & 15;
    uint32_t bits = w->gp->pkru >> (2 * key) & 3;
    bool wp = w->access & WALK_USER || w->gp->mode & GP_WP;

    if (!(w->gp->mode & GP_PKE) || !(w->gp->mode & GP_LONG) || !(rights & PTE_US) || w->access & WALK_FETCH)
        return false;
    return bits & 1 || (bits & 2 && w->access & WALK_WRITE && wp);
}

/* rights: RW and US as all levels have them, NX if one has it. */
static bool permitted(const struct walk *w, uint64_t rights)
{
    uint32_t mode = w->gp->mode, access = w->access;
    bool user = access & WALK_USER;

    if (user && !(rights & PTE_US))
        return false;
    if (access & WALK_WRITE && !(rights & PTE_RW) && (user || mode & GP_WP))
        return false;
    if (access & WALK_FETCH)
        return !(rights & PTE_NX) && (user || !(mode & GP_SMEP) || !(rights & PTE_US));
    if (!user && rights & PTE_US && mode & GP_SMAP)
        return mode & GP_AC && !(access & WALK_IMPLICIT);
    return true;
}

/* --- the walk --- */

/* False: the guest has changed the entry. */
static bool entry_mark(struct walk *w, unsigned i, uint64_t bits)
{
    uint64_t old = w->value[i], e = old | bits;
    uint32_t narrow = (uint32_t)old;

    w->value[i] = e;
    if (w->narrow)
        return __atomic_compare_exchange_n((uint32_t *)w->entry[i], &narrow, (uint32_t)e, false,
                                           __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    return __atomic_compare_exchange_n((uint64_t *)w->entry[i], &old, e, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Accessed and dirty bits. at[i]: guest-physical address of entry i. */
static enum walk_result walk_mark(struct walk *w, const uint64_t *at, bool *changed)
{
    bool pdptes = w->gp->mode & GP_PAE && !(w->gp->mode & GP_LONG);

    *changed = false;
    for (unsigned i = 0; i < w->steps; i++) {
        uint64_t want = PTE_A | (i == w->steps - 1 && w->access & WALK_WRITE ? PTE_D : 0);
        enum walk_result r;

        if ((pdptes && !i) || (w->value[i] & want) == want)
            continue;
        r = ram_find(w->p, at[i], true, &w->entry[i]);
        if (r || !w->entry[i]) {
            w->gpa = at[i];
            w->writing = true;
            return r ? r : WALK_NO_RAM;
        }
        if (!entry_mark(w, i, want)) {
            *changed = true;
            return WALK_OK;
        }
    }
    return WALK_OK;
}

static uint64_t leaf_gpa(const struct walk *w, uint64_t e, unsigned level)
{
    unsigned shift = FRAME_SHIFT + (w->narrow ? 10 : 9) * (level - 1);
    uint64_t base = e & PTE_MFN_MASK & ~((1ull << shift) - 1);

    if (w->narrow && level == 2)
        base |= (e >> 13 & 0xff) << 32; /* PSE-36 */
    return base | (w->va & ((1ull << shift) - 1));
}

static uint64_t root_of(const struct guest_paging *gp)
{
    if (gp->mode & GP_LONG)
        return gp->cr3 & PTE_MFN_MASK;
    return gp->cr3 & (gp->mode & GP_PAE ? 0xffffffe0ull : 0xfffff000ull);
}

static enum walk_result walk_once(struct walk *w, bool *changed)
{
    unsigned bits = w->narrow ? 10 : 9, level = w->narrow ? 2 : w->gp->mode & GP_LONG ? 4 : 3;
    uint64_t table = root_of(w->gp), rights = PTE_RW | PTE_US, at[LEVELS] = {0}, e;
    enum walk_result r;

    for (w->steps = 0;; level--) {
        unsigned i = w->steps++,
                 index = (unsigned)(w->va >> (FRAME_SHIFT + bits * (level - 1))) & ((1u << bits) - 1);

        w->gpa = at[i] = table + index * (w->narrow ? 4u : 8u);
        w->writing = false;
        r = ram_find(w->p, at[i], false, &w->entry[i]);
        if (r)
            return r;
        e = w->value[i] = guest_entry_read(w->entry[i], w->narrow);
        if (!(e & PTE_P))
            return fault(w, 0);
        if (e & reserved_bits(w, e, level))
            return fault(w, WALK_PRESENT | WALK_RSVD);
        if (!is_pdpte(w, level))
            rights = (rights & (e | PTE_NX)) | (w->narrow ? 0 : e & PTE_NX);
        if (is_leaf(w, e, level))
            break;
        table = e & (w->narrow ? 0xfffff000ull : PTE_MFN_MASK);
    }
    if (!permitted(w, rights))
        return fault(w, WALK_PRESENT);
    if (key_denies(w, e, rights))
        return fault(w, WALK_PRESENT | WALK_PK);
    r = walk_mark(w, at, changed);
    if (!r)
        w->gpa = leaf_gpa(w, e, level);
    return r;
}

enum walk_result walk_run(struct walk *w)
{
    bool changed = false;

    w->steps = 0;
    if (!(w->gp->mode & GP_LONG))
        w->va = (uint32_t)w->va;
    w->gpa = w->va;
    w->narrow = !(w->gp->mode & GP_PAE);
    if (!(w->gp->mode & GP_PAGING))
        return WALK_OK;
    if (w->gp->mode & GP_LONG && !va_canonical(w->va))
        return fault(w, 0);
    for (unsigned i = 0; i < RESTARTS; i++) {
        enum walk_result r = walk_once(w, &changed);

        if (r || !changed)
            return r;
    }
    return WALK_NO_RAM;
}

enum walk_result guest_walk(struct vcpu *v, const struct guest_paging *p, uint64_t va, unsigned access,
                            uint64_t *gpa, uint32_t *error)
{
    struct walk w = {.p = p2m_of(v->domain), .gp = p, .va = va, .access = access};
    enum walk_result r = WALK_AGAIN;

    for (unsigned i = 0; r == WALK_AGAIN && i < BLOCKED; i++) {
        unsigned long flags = arch_irq_save();

        r = walk_run(&w);
        arch_irq_restore(flags);
        if (r == WALK_AGAIN && (!arch_irq_enabled() || !ram_unblock(w.p, w.gpa, w.writing)))
            r = WALK_NO_RAM;
    }
    *gpa = w.gpa;
    *error = w.error;
    return r == WALK_AGAIN ? WALK_NO_RAM : r;
}
