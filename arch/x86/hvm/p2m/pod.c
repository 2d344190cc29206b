/*
 * Populate on demand: a guest is told of more memory than it has, until its balloon driver gives back the rest. Entries of type POD have
 * no frame yet; a cache of frames, which the domain owns, fills them when they are first used.
 *
 *   POD entry --first use: frame from the cache--> RAM --given back--> frame to the cache, as long as entries are outstanding
 *             --given back--> nothing; the cache shrinks to the entries that are left
 *             <--sweep: a page that is all zero-- RAM
 *
 * Frames wait in the cache zeroed, but for their first word, which links them: nobody else can reach them.
 *
 * Invariants
 *  1. A cached frame is the domain's, allocated, with that one reference.
 *  2. cached <= entries outstanding, except while the domain is being built and until the next operation here.
 * Locks: p->lock around the lists; frames are allocated and freed without it.
 */
#include "private.h"
#include "core/work.h"

#define SWEEP_BATCH 32u
#define SWEEP_LOOKS 4096u /* pages that one sweep looks at */

static uint64_t *page_words(mfn_t m)
{
    return arch_frame_va(m);
}

/* --- the lists --- */

static void push(struct p2m *p, mfn_t m, unsigned order)
{
    struct pod_list *l = &p->pod[order == P2M_2M];

    arch_frame_writable(m); /* not as clean as its domain got it */
    *page_words(m) = l->first;
    l->first = m.n;
    l->count += 1ull << order;
}

static bool pop(struct p2m *p, unsigned order, mfn_t *m)
{
    struct pod_list *l = &p->pod[order == P2M_2M];

    if (!l->first)
        return false;
    *m = MFN(l->first);
    l->first = *page_words(*m);
    *page_words(*m) = 0;
    l->count -= 1ull << order;
    return true;
}

static uint64_t cached(const struct p2m *p)
{
    return p->pod[0].count + p->pod[1].count;
}

/* A small frame, if need be out of a large one. */
static bool pop_small(struct p2m *p, mfn_t *m)
{
    if (pop(p, P2M_4K, m))
        return true;
    if (!pop(p, P2M_2M, m))
        return false;
    for (uint64_t i = 1; i < 1u << P2M_2M; i++)
        push(p, MFN(m->n + i), P2M_4K);
    return true;
}

bool pod_keep(struct p2m *p, mfn_t m)
{
    bool keep;

    if (likely(!p->count[P2M_POD]))
        return false;
    spin_lock(&p->lock);
    keep = !p->d->dying && cached(p) < p->count[P2M_POD] &&
           __atomic_load_n(&mfn_frame(m)->count, __ATOMIC_ACQUIRE) == (FRAME_ALLOCATED | 2);
    if (keep) {
        arch_frame_zero(m);
        push(p, m, P2M_4K);
    }
    spin_unlock(&p->lock);
    return keep;
}

/* --- filling --- */

static bool populate_large(struct p2m *p, uint64_t gfn, struct gone *gone)
{
    uint64_t first = gfn & ~((1ull << P2M_2M) - 1), *slot;
    mfn_t m;

    if (!p2m_machine.large || !pop(p, P2M_2M, &m))
        return false;
    slot = p2m_slot(p, first, 2, false);
    if (!slot) {
        push(p, m, P2M_2M);
        return false;
    }
    p2m_exchange(p, slot, 2, first, entry_make(p, m, P2M_RAM, 2), gone);
    return true;
}

static bool populate_small(struct p2m *p, uint64_t gfn, struct gone *gone)
{
    uint64_t *slot = p2m_slot(p, gfn, 1, false);
    mfn_t m;

    if (!slot || !pop_small(p, &m))
        return false;
    p2m_exchange(p, slot, 1, gfn, entry_make(p, m, P2M_RAM, 1), gone);
    return true;
}

/* True: it is there now, or something else is. */
static bool populate(struct p2m *p, uint64_t gfn)
{
    struct gone gone = {.p = p};
    unsigned level;
    bool ok = true;

    spin_lock(&p->lock);
    if (p->d->dying)
        ok = false;
    else if (entry_type(p2m_walk(p, gfn, &level)) == P2M_POD)
        ok = (level >= 2 && populate_large(p, gfn, &gone)) || populate_small(p, gfn, &gone);
    spin_unlock(&p->lock);
    gone_drop(&gone);
    return ok;
}

/* --- the sweep --- */

static bool is_zero(mfn_t m)
{
    const uint64_t *w = page_words(m);

    for (unsigned i = 0; i < FRAME_SIZE / sizeof(*w); i++)
        if (w[i])
            return false;
    return true;
}

/* A page that has been found empty. */
struct swept {
    uint64_t gfn;
    mfn_t m;
};

static bool is_spare(mfn_t m)
{
    return __atomic_load_n(&mfn_frame(m)->count, __ATOMIC_ACQUIRE) == (FRAME_ALLOCATED | 2) && is_zero(m);
}

/* RAM at gfn that nobody else has and that looks empty. *step: where to look next. */
static bool sweep_candidate(struct p2m *p, uint64_t gfn, struct swept *s, uint64_t *step)
{
    unsigned level;
    uint64_t e = p2m_walk(p, gfn, &level), in = gfn & ((1ull << level_order(level)) - 1);

    *step = 1;
    if (entry_type(e) != P2M_RAM) {
        *step = (1ull << level_order(level)) - in;
        return false;
    }
    *s = (struct swept){gfn, MFN(entry_mfn(e).n + in)};
    return is_spare(s->m);
}

static void sweep_exchange(struct p2m *p, const struct swept *s, enum p2m_type t, struct gone *gone)
{
    p2m_exchange(p, p2m_slot(p, s->gfn, 1, false), 1, s->gfn, entry_make(p, s->m, t, 1), gone);
}

/* First: write-protected, so that they stay as they are. */
static unsigned sweep_protect(struct p2m *p, struct swept *list, uint64_t *looks)
{
    struct gone gone = {.p = p};
    unsigned n = 0;
    uint64_t step;

    spin_lock(&p->lock);
    for (; n < SWEEP_BATCH && *looks; --*looks, p->sweep += step) {
        if (p->sweep > p->highest)
            p->sweep = 0;
        if (!sweep_candidate(p, p->sweep, &list[n], &step))
            continue;
        if (!p2m_slot(p, p->sweep, 1, false)) /* no memory to split a large entry */
            break;
        sweep_exchange(p, &list[n++], P2M_LOGGED, &gone);
    }
    spin_unlock(&p->lock);
    gone_drop(&gone);
    return n;
}

/* Then: those that still are empty become POD; list[] holds them, with a reference. */
static unsigned sweep_take(struct p2m *p, struct swept *list, unsigned n)
{
    struct gone gone = {.p = p};
    unsigned taken = 0;

    spin_lock(&p->lock);
    for (unsigned i = 0; i < n && !p->d->dying; i++) {
        unsigned level;
        uint64_t e = p2m_walk(p, list[i].gfn, &level);

        if (level > 1 || entry_type(e) != P2M_LOGGED || !mfn_eq(entry_mfn(e), list[i].m))
            continue;
        if (!is_spare(list[i].m)) {
            sweep_exchange(p, &list[i], P2M_RAM, &gone);
            continue;
        }
        sweep_exchange(p, &list[i], P2M_POD, &gone);
        frame_ref(mfn_frame(list[i].m));
        list[taken++] = list[i];
    }
    spin_unlock(&p->lock);
    gone_drop(&gone);
    return taken;
}

/* Frames that were got. */
static unsigned sweep_some(struct p2m *p, uint64_t *looks)
{
    struct swept list[SWEEP_BATCH];
    unsigned n = sweep_take(p, list, sweep_protect(p, list, looks));

    spin_lock(&p->lock);
    for (unsigned i = 0; i < n && !p->d->dying; i++)
        push(p, list[i].m, P2M_4K);
    spin_unlock(&p->lock);
    for (unsigned i = 0; i < n; i++)
        frame_put(mfn_frame(list[i].m));
    return n;
}

bool pod_populate(struct p2m *p, uint64_t gfn)
{
    uint64_t looks = SWEEP_LOOKS, before;

    while (!populate(p, gfn)) {
        before = looks;
        if (p->d->dying || (!sweep_some(p, &looks) && looks == before) || !looks)
            return populate(p, gfn);
    }
    return true;
}

/* --- the toolstack's side --- */

int p2m_pod_mark(struct domain *d, gfn_t g, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order;) {
        struct p2m_entry e;

        p2m_look(d, GFN(g.n + i), &e);
        if (e.type != P2M_NONE && e.type != P2M_POD)
            return -EINVAL;
        i += (1ull << e.order) - ((g.n + i) & ((1ull << e.order) - 1));
    }
    return p2m_set_range(p2m_of(d), g.n, 0, 1ull << order, P2M_POD);
}

uint64_t p2m_pod_cached(const struct domain *d)
{
    return cached(p2m_of(d));
}

uint64_t p2m_pod_entries(const struct domain *d)
{
    return __atomic_load_n(&p2m_of(d)->count[P2M_POD], __ATOMIC_RELAXED);
}

static int grow(struct p2m *p, uint64_t missing)
{
    unsigned order = missing >= 1ull << P2M_2M ? P2M_2M : P2M_4K;
    mfn_t m;
    int r = frame_alloc_domain(p->d, order, 64, 0, &m);

    if (r && order)
        r = frame_alloc_domain(p->d, order = P2M_4K, 64, 0, &m);
    if (r)
        return r;
    spin_lock(&p->lock);
    if (!p->d->dying) /* else its owner's list finds it, and nobody may find it here */
        push(p, m, order);
    spin_unlock(&p->lock);
    return 0;
}

static void shrink(struct p2m *p, uint64_t surplus)
{
    unsigned order = surplus >= 1ull << P2M_2M ? P2M_2M : P2M_4K;
    mfn_t m;
    bool have;

    spin_lock(&p->lock);
    have = order && pop(p, P2M_2M, &m);
    if (!have) {
        order = P2M_4K;
        have = pop_small(p, &m);
    }
    spin_unlock(&p->lock);
    if (have)
        frame_give_back(p->d, m, order);
}

/* -EAGAIN: preempted. */
static int cache_to(struct p2m *p, uint64_t target)
{
    for (;;) {
        uint64_t have = cached(p);
        int r = 0;

        if (have == target)
            return 0;
        if (have < target)
            r = grow(p, target - have);
        else
            shrink(p, have - target);
        if (r)
            return r;
        if (preempt_needed())
            return -EAGAIN;
    }
}

int p2m_pod_target(struct domain *d, uint64_t pages)
{
    struct p2m *p = p2m_of(d);
    uint64_t frames = __atomic_load_n(&d->frames, __ATOMIC_RELAXED),
             populated = frames - MIN(frames, cached(p));
    uint64_t entries = p2m_pod_entries(d), target;

    if (d->dying)
        return -EINVAL;
    /* Nothing outstanding; or less than there is: that is the balloon driver's work. */
    if ((populated && !entries) || pages < frames)
        return 0;
    target = pages - populated;
    return cache_to(p, populated ? MIN(target, entries) : target);
}

void pod_trim(struct p2m *p)
{
    while (cached(p) > p->count[P2M_POD])
        shrink(p, cached(p) - p->count[P2M_POD]);
}

void pod_forget(struct p2m *p)
{
    p->pod[0] = p->pod[1] = (struct pod_list){0};
}
