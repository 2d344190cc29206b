/*
 * Using a grant entry: from the words a guest wrote to a frame that is held (grant.c has the theory).
 *
 * Version 1: reading / writing bits live beside the guest's own in the entry's first word; they are set by an
 * exchange of the whole word, so that what was checked is what is marked. Version 2: they live in the status
 * word; they are set first, then the entry is looked at again: either we see the guest's change or the guest
 * sees our bits.
 */
#include "private.h"
#include "core/frame.h"
#include "core/log.h"
#include "arch/mem.h"

#define TRIES 4

/* What matters of an entry's first word. */
static bool word_fits(uint32_t w, const struct grant_use *u)
{
    unsigned type = w & GTF_type_mask;

    if (w >> 16 != u->user || (!u->readonly && (w & GTF_readonly)))
        return false;
    return type == GTF_permit_access || (type == GTF_transitive && u->copy);
}

static uint16_t bits_of(const struct grant_use *u)
{
    return (uint16_t)(GTF_reading | (u->readonly ? 0 : GTF_writing));
}

static int mark_v1(const struct grant_table *t, const struct grant_use *u, uint32_t *word)
{
    uint32_t *p = grant_header(t, u->ref), w = __atomic_load_n(p, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < TRIES; i++) {
        if (!word_fits(w, u) || (w & GTF_type_mask) == GTF_transitive)
            return GNTST_general_error;
        if (__atomic_compare_exchange_n(p, &w, w | bits_of(u), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
            *word = w & ~(uint32_t)GTF_sub_page; /* version 1 knows no such bit */
            return GNTST_okay;
        }
    }
    return GNTST_general_error;
}

/* `had`: bits that other pins need. */
static int mark_v2(const struct grant_table *t, const struct grant_use *u, uint16_t had, uint32_t *word)
{
    uint32_t *p = grant_header(t, u->ref), w = __atomic_load_n(p, __ATOMIC_RELAXED);
    grant_status_t *s = grant_status_word(t, u->ref);
    const uint32_t same = 0xffff0000u | GTF_type_mask | GTF_readonly | GTF_sub_page;

    if (!word_fits(w, u))
        return GNTST_general_error;
    (void)__atomic_fetch_or(s, bits_of(u), __ATOMIC_SEQ_CST);
    if ((__atomic_load_n(p, __ATOMIC_SEQ_CST) ^ w) & same) {
        (void)__atomic_fetch_and(s, had, __ATOMIC_SEQ_CST);
        return GNTST_general_error;
    }
    *word = w;
    return GNTST_okay;
}

static uint16_t bits_in_use(const struct active *a)
{
    if (!a->read && !a->write)
        return 0;
    return (uint16_t)(GTF_reading | (a->write ? GTF_writing : 0));
}

/* Takes back the bits that the present pins do not need. */
static void unmark(const struct grant_table *t, const struct active *a, uint32_t ref)
{
    uint16_t keep = (uint16_t)(bits_in_use(a) | ~(GTF_reading | GTF_writing));

    if (t->version == 1)
        (void)__atomic_fetch_and((uint16_t *)grant_header(t, ref), keep, __ATOMIC_SEQ_CST);
    else
        (void)__atomic_fetch_and(grant_status_word(t, ref), keep, __ATOMIC_SEQ_CST);
}

/* The rest of a marked entry, once, into the active one. */
static void entry_read(const struct grant_table *t, const struct grant_use *u, uint32_t word,
                       struct active *a, uint64_t *frame)
{
    const grant_entry_v2_t *e = grant_v2(t, u->ref);

    a->domid = u->user;
    a->start = 0;
    a->length = FRAME_SIZE;
    a->transitive = (word & GTF_type_mask) == GTF_transitive;
    a->whole = !a->transitive && !(word & GTF_sub_page);
    a->mfn = INVALID_MFN;
    *frame = 0;
    if (t->version == 1) {
        *frame = __atomic_load_n(&grant_v1(t, u->ref)->frame, __ATOMIC_RELAXED);
    } else if (a->transitive) {
        a->trans_domid = __atomic_load_n(&e->transitive.trans_domid, __ATOMIC_RELAXED);
        a->trans_ref = __atomic_load_n(&e->transitive.gref, __ATOMIC_RELAXED);
    } else {
        *frame = __atomic_load_n(&e->full_page.frame, __ATOMIC_RELAXED);
        if (!a->whole) {
            a->start = __atomic_load_n(&e->sub_page.page_off, __ATOMIC_RELAXED);
            a->length = __atomic_load_n(&e->sub_page.length, __ATOMIC_RELAXED);
        }
    }
}

/* First pin: reads the entry and finds its frame. Entry lock held. */
static int pin_first(struct grant_table *t, struct grant_use *u, struct active *a)
{
    uint64_t frame;
    uint32_t word;
    int r = t->version == 1 ? mark_v1(t, u, &word) : mark_v2(t, u, 0, &word);

    if (r)
        return r;
    entry_read(t, u, word, a, &frame);
    if (!u->copy && !a->whole)
        r = GNTST_general_error;
    if (!r && !a->transitive) {
        if (!arch_gfn_pin(u->granter, GFN(frame), u->readonly, &a->mfn))
            r = GNTST_bad_page;
    }
    if (r)
        unmark(t, a, u->ref);
    else
        __atomic_fetch_add(&t->in_use, 1, __ATOMIC_RELAXED);
    return r;
}

/* The entry is pinned: what was read then counts; only for writing the guest is asked again. Entry lock held. */
static int pin_more(struct grant_table *t, struct grant_use *u, struct active *a)
{
    uint32_t word;
    int r = GNTST_okay;

    if (a->domid != u->user || (!u->copy && !a->whole))
        return GNTST_general_error;
    if (!u->readonly && !a->write)
        r = t->version == 1 ? mark_v1(t, u, &word) : mark_v2(t, u, bits_in_use(a), &word);
    if (!r && !a->transitive && !arch_grant_pin(u->granter, a->mfn, u->readonly)) {
        unmark(t, a, u->ref);
        r = GNTST_bad_page;
    }
    return r;
}

static int pin(struct grant_table *t, struct grant_use *u, struct active *a)
{
    int r = a->read || a->write ? pin_more(t, u, a) : pin_first(t, u, a);

    if (r)
        return r;
    if (u->readonly)
        a->read++;
    else
        a->write++;
    u->mfn = a->mfn;
    u->start = a->start;
    u->length = a->length;
    u->trans_domid = a->trans_domid;
    u->trans_ref = a->trans_ref;
    return GNTST_okay;
}

/* No entry of its chunk was ever used. Who is granted nothing there must not make the granter's table larger; pin() looks again. */
static int chunk_first(struct grant_table *t, const struct grant_use *u, struct active **a)
{
    if (!word_fits(__atomic_load_n(grant_header(t, u->ref), __ATOMIC_RELAXED), u))
        return GNTST_general_error;
    *a = grant_active_make(t, u->ref);
    return *a ? GNTST_okay : GNTST_no_space;
}

int grant_use_begin(struct grant_use *u)
{
    struct grant_table *t = u->granter->grant;
    struct active *a;
    int r = GNTST_bad_gntref;

    if (!t)
        return GNTST_bad_domain;
    read_lock(&t->lock);
    if (u->ref < grant_refs(t)) {
        u->ref = (uint32_t)array_index(u->ref, grant_refs(t));
        a = grant_active(t, u->ref);
        r = likely(a) ? GNTST_okay : chunk_first(t, u, &a);
        if (!r) {
            spin_lock(&a->lock);
            r = pin(t, u, a);
            spin_unlock(&a->lock);
        }
    }
    read_unlock(&t->lock);
    return r;
}

/* The frame first: a granter that sees its bits clear may at once make a page table of it. */
void grant_use_end(const struct grant_use *u)
{
    struct grant_table *t = u->granter->grant;
    struct active *a;

    read_lock(&t->lock);
    a = grant_active(t, u->ref);
    BUG_ON(!a);
    spin_lock(&a->lock);
    BUG_ON(u->readonly ? !a->read : !a->write);
    if (!a->transitive && !u->readonly)
        arch_frame_written(u->granter, a->mfn);
    if (!a->transitive)
        arch_grant_unpin(a->mfn, u->readonly);
    if (u->readonly)
        a->read--;
    else
        a->write--;
    unmark(t, a, u->ref);
    if (!a->read && !a->write)
        __atomic_fetch_sub(&t->in_use, 1, __ATOMIC_RELAXED);
    spin_unlock(&a->lock);
    read_unlock(&t->lock);
}

/* No lock: the frame of an active entry changes with its first pin only, and the caller's is there already. */
mfn_t grant_use_mfn(struct domain *granter, uint32_t ref)
{
    const struct active *a = grant_active(granter->grant, ref);

    BUG_ON(!a);
    return a->mfn;
}
