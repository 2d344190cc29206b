/*
 * Who owns which frames: a domain's lists, accounts, limit and claim (include/core/frame.h).
 *
 * A domain's page list holds what it owns, its special list what the hypervisor shares with it and, while it
 * dies, frames that others still refer to. As long as a domain is charged for anything, its entry in the
 * owner table holds a reference on it, so the last frame_put can find the owner by id without a lock, and a
 * dead domain's object lives until nobody maps its memory any more.
 *
 * Invariants (page_lock of the domain d)
 *  1. Every frame with owner d and count > 0 is on exactly one of d's lists.
 *  2. d->frames = frames with owner d that are not SPECIAL, plus those being allocated now; d->special_frames
 * likewise.
 *  3. table entry of d->id is d exactly while d->frames + d->special_frames > 0.
 *  4. A dying domain gets no frame any more. (dying is set before the first frame_domain_release, and looked
 * at under page_lock: what came before is on the list, what comes after is refused.)
 *  5. d->frames <= d->max_frames at the moment of each charge without FA_NO_LIMIT.
 *  6. The sum of all d->outstanding is claimed_total.
 * Locks: page_lock (RANK_PAGE_ALLOC). domain_put() is called without it, but possibly under the caller's
 * locks.
 */
#include "private.h"
#include "owner.h"
#include "core/console.h"
#include "core/domain.h"
#include "core/log.h"
#include "arch/mem.h"

#define CHUNK  (FRAME_SIZE / sizeof(struct domain *))
#define CHUNKS (0x8000 / CHUNK)

static struct domain **owner_table[CHUNKS]; /* [chunks appear once; entries: page_lock of the domain] */
static uint64_t owned_total, claimed_total; /* [a] */

static struct domain **owner_slot(uint16_t id)
{
    struct domain **chunk = __atomic_load_n(&owner_table[(id & 0x7fff) / CHUNK], __ATOMIC_ACQUIRE);

    return chunk ? &chunk[id % CHUNK] : NULL;
}

/* The domain charged with f, an owned or special frame; it cannot go away while f is on its list. */
static struct domain *owner_of(const struct frame *f)
{
    struct domain **slot = f->owner == FRAME_NO_OWNER ? NULL : owner_slot(f->owner);

    BUG_ON(!slot || !*slot);
    return *slot;
}

/* Chunks are never freed: ids are used again, and 64 frames hold all there are. */
int frame_domain_init(const struct domain *d)
{
    struct domain **none = NULL, **chunk;

    if (owner_slot(d->id.v))
        return 0;
    chunk = frame_alloc_va(0);
    if (!chunk)
        return -ENOMEM;
    if (!__atomic_compare_exchange_n(&owner_table[(d->id.v & 0x7fff) / CHUNK], &none, chunk, false,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        frame_free_va(chunk, 0);
    return 0;
}

/* Before the first frame is charged; page_lock held. */
static void owner_enter(struct domain *d)
{
    struct domain **slot;

    if (d->frames + d->special_frames)
        return;
    slot = owner_slot(d->id.v);
    BUG_ON(!slot || *slot);
    domain_ref(d);
    __atomic_store_n(slot, d, __ATOMIC_RELEASE);
}

/* After frames were uncharged; page_lock held. True: the caller does domain_put(d) when it has left
 * page_lock. */
static bool owner_leave(struct domain *d)
{
    if (d->frames + d->special_frames)
        return false;
    BUG_ON(*owner_slot(d->id.v) != d);
    __atomic_store_n(owner_slot(d->id.v), NULL, __ATOMIC_RELEASE);
    return true;
}

static void unlock_and_put(struct domain *d, bool put)
{
    spin_unlock(&d->page_lock);
    if (put)
        domain_put(d);
}

/* --- lists: page_lock held --- */

static void list_add(uint32_t *head, struct frame *f)
{
    uint32_t n = (uint32_t)frame_mfn(f).n;

    f->prev = 0;
    f->next = *head;
    if (*head)
        frame_table[*head].prev = n;
    *head = n;
}

static void list_del(struct domain *d, struct frame *f)
{
    uint32_t n = (uint32_t)frame_mfn(f).n;

    if (f->prev)
        frame_table[f->prev].next = f->next;
    else if (d->page_list == n)
        d->page_list = f->next;
    else
        d->special_list = f->next;
    if (f->next)
        frame_table[f->next].prev = f->prev;
    f->next = f->prev = 0;
}

/* --- charging --- */

/* A domain's figures change under its page_lock and are read without it, too. */
static void figure_set(uint64_t *figure, uint64_t to)
{
    __atomic_store_n(figure, to, __ATOMIC_RELAXED);
}

/* Counts n frames against d's limit and uses up to n of its claim (*claimed). -ENOMEM, -EINVAL when d dies. */
static int charge(struct domain *d, uint64_t n, unsigned flags, bool use_claim, uint64_t *claimed)
{
    int rc = 0;

    spin_lock(&d->page_lock);
    if (domain_is_dying(d))
        rc = -EINVAL;
    else if (!(flags & FA_NO_LIMIT) && (d->frames > d->max_frames || n > d->max_frames - d->frames))
        rc = -ENOMEM;
    *claimed = rc || !use_claim ? 0 : MIN(n, d->outstanding);
    if (!rc) {
        owner_enter(d);
        figure_set(&d->frames, d->frames + n);
        figure_set(&d->outstanding, d->outstanding - *claimed);
    }
    spin_unlock(&d->page_lock);
    if (rc)
        return rc;
    __atomic_fetch_add(&owned_total, n, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&claimed_total, *claimed, __ATOMIC_RELAXED);
    return 0;
}

/* Undoes charge(). A claim given up in between (the domain died) goes to the budget. */
static void uncharge(struct domain *d, uint64_t n, uint64_t claimed)
{
    bool put, keep;

    spin_lock(&d->page_lock);
    figure_set(&d->frames, d->frames - n);
    keep = claimed && !domain_is_dying(d);
    if (keep) {
        figure_set(&d->outstanding, d->outstanding + claimed);
        __atomic_fetch_add(&claimed_total, claimed, __ATOMIC_RELAXED);
    }
    put = owner_leave(d);
    unlock_and_put(d, put);
    __atomic_fetch_sub(&owned_total, n, __ATOMIC_RELAXED);
    if (claimed && !keep)
        budget_give(claimed);
}

/* n frames from f on, linked to each other already, go to the head of d's page list; page_lock held. */
static void list_add_block(struct domain *d, struct frame *f, uint64_t n)
{
    uint32_t first = (uint32_t)frame_mfn(f).n;

    f[0].prev = 0;
    f[n - 1].next = d->page_list;
    if (d->page_list)
        frame_table[d->page_list].prev = (uint32_t)(first + n - 1);
    d->page_list = first;
}

/* Frame number n becomes d's, in the middle of a block. Guests may name it at any time: they look, and see 0. */
static inline void publish_one(struct frame *f, uint32_t n, uint16_t id, uint8_t set)
{
    BUG_ON(__atomic_load_n(&f->count, __ATOMIC_RELAXED) || f->owner != FRAME_NO_OWNER);
    frame_flags_change(f, FRAME_F_CLEAN, set);
    __atomic_store_n(&f->type, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&f->owner, id, __ATOMIC_RELAXED);
    f->next = n + 1;
    f->prev = n - 1;
    __atomic_store_n(&f->count, FRAME_ALLOCATED | 1, __ATOMIC_RELEASE);
}

/* Publishes 2^order charged frames, private or just taken, as d's. clean: all zero (not for a domain that its builder writes
 * to directly). False when d dies. */
static bool publish(struct domain *d, mfn_t m, unsigned order, bool clean)
{
    struct frame *first = mfn_frame(m), *f = first, *end = first + (1ull << order);
    uint8_t set = clean ? FRAME_F_CLEAN : 0;
    uint32_t n = (uint32_t)m.n;
    uint16_t id = d->id.v;
    bool ok;

    spin_lock(&d->page_lock);
    ok = !domain_is_dying(d);
    if (ok) {
        for (; end - f >= 4; f += 4, n += 4)
#pragma GCC unroll 4
            for (unsigned i = 0; i < 4; i++)
                publish_one(f + i, n + i, id, set);
        for (; f < end; f++, n++)
            publish_one(f, n, id, set);
        list_add_block(d, first, 1ull << order);
    }
    spin_unlock(&d->page_lock);
    return ok;
}

/* --- a domain's memory --- */

int frame_alloc_domain(struct domain *d, unsigned order, unsigned bits, unsigned flags, mfn_t *out)
{
    return frame_alloc_domain_node(d, order, bits, flags, FRAME_ANY_NODE, out);
}

int frame_set_node_affinity(struct domain *d, uint32_t nodes)
{
    if (!(nodes & frame_nodes()))
        return -EINVAL;
    if ((nodes & frame_nodes()) == frame_nodes())
        nodes = 0;
    __atomic_store_n(&d->node_affinity, nodes, __ATOMIC_RELAXED);
    return 0;
}

uint32_t frame_node_affinity(const struct domain *d)
{
    uint32_t nodes = __atomic_load_n(&d->node_affinity, __ATOMIC_RELAXED);

    return nodes ? nodes : frame_nodes();
}

/* The node of the domain's that has most to give. The heap goes on to others when that is not enough. */
static unsigned home_node(const struct domain *d)
{
    uint32_t nodes = __atomic_load_n(&d->node_affinity, __ATOMIC_RELAXED) & frame_nodes();
    unsigned best = FRAME_ANY_NODE;

    for (; nodes; nodes &= nodes - 1) {
        unsigned n = (unsigned)__builtin_ctz(nodes);

        if (best == FRAME_ANY_NODE || frame_free_node(n) > frame_free_node(best))
            best = n;
    }
    return best;
}

int frame_alloc_domain_node(struct domain *d, unsigned order, unsigned bits, unsigned flags, unsigned node,
                            mfn_t *out)
{
    uint64_t n = 1ull << order, claimed;
    unsigned how = (flags & FA_NO_SCRUB ? flags : flags | FA_ZERO);

    if (order > FRAME_MAX_ORDER || charge(d, n, flags, true, &claimed))
        return -ENOMEM;
    if (!budget_take(n - claimed, budget_reserve()) && n > claimed)
        goto fail_charge;
    if (node == FRAME_ANY_NODE)
        node = home_node(d);
    if (!frame_take(order, bits, how, node, out))
        goto fail_budget;
    if (publish(d, *out, order, how & FA_ZERO && !d->hardware))
        return 0;
    heap_give(*out, order);
fail_budget:
    budget_give(n - claimed);
fail_charge:
    uncharge(d, n, claimed);
    return -ENOMEM;
}

int frame_assign(struct domain *d, mfn_t m, unsigned order, unsigned flags)
{
    uint64_t claimed;
    int rc = charge(d, 1ull << order, flags, false, &claimed);

    if (rc)
        return rc;
    arch_frame_settle(mfn_frame(m), order);
    if (publish(d, m, order, false))
        return 0;
    uncharge(d, 1ull << order, 0);
    return -EINVAL;
}

bool frame_steal(struct domain *d, struct frame *f)
{
    uint64_t only = FRAME_ALLOCATED | 1;
    bool put;

    spin_lock(&d->page_lock);
    if (__atomic_load_n(&f->owner, __ATOMIC_RELAXED) != d->id.v || domain_is_dying(d) ||
        !__atomic_compare_exchange_n(&f->count, &only, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        spin_unlock(&d->page_lock);
        return false;
    }
    list_del(d, f);
    __atomic_store_n(&f->owner, FRAME_NO_OWNER, __ATOMIC_RELAXED);
    __atomic_store_n(&f->type, 0, __ATOMIC_RELAXED);
    frame_flags_change(f, FRAME_F_CLEAN, 0); /* it was written, or not: nobody knows it any more */
    figure_set(&d->frames, d->frames - 1);
    put = owner_leave(d);
    unlock_and_put(d, put);
    __atomic_fetch_sub(&owned_total, 1, __ATOMIC_RELAXED);
    arch_frame_stamp(f);
    return true;
}

void frame_share(struct domain *d, mfn_t m)
{
    struct frame *f = mfn_frame(m);

    BUG_ON(!mfn_valid(m));
    spin_lock(&d->page_lock);
    BUG_ON(__atomic_load_n(&f->count, __ATOMIC_RELAXED) || f->owner != FRAME_NO_OWNER ||
           f->flags & FRAME_F_FREE);
    owner_enter(d);
    d->special_frames++;
    __atomic_store_n(&f->owner, d->id.v, __ATOMIC_RELAXED);
    list_add(&d->special_list, f);
    __atomic_store_n(&f->count, FRAME_SPECIAL | 1, __ATOMIC_RELEASE);
    spin_unlock(&d->page_lock);
}

bool frame_unshare(mfn_t m)
{
    struct frame *f = mfn_frame(m);
    struct domain *d = owner_of(f);
    uint64_t only = FRAME_SPECIAL | 1;
    bool put;

    spin_lock(&d->page_lock);
    if (!__atomic_compare_exchange_n(&f->count, &only, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        BUG_ON(!(only & FRAME_SPECIAL));
        spin_unlock(&d->page_lock);
        return false;
    }
    list_del(d, f);
    __atomic_store_n(&f->owner, FRAME_NO_OWNER, __ATOMIC_RELAXED);
    __atomic_store_n(&f->type, 0, __ATOMIC_RELAXED);
    d->special_frames--;
    put = owner_leave(d);
    unlock_and_put(d, put);
    arch_frame_stamp(f);
    return true;
}

void owner_frame_last_put(struct frame *f)
{
    struct domain *d = owner_of(f);
    bool put, dying;

    spin_lock(&d->page_lock);
    list_del(d, f);
    __atomic_store_n(&f->owner, FRAME_NO_OWNER, __ATOMIC_RELAXED);
    figure_set(&d->frames, d->frames - 1);
    dying = domain_is_dying(d);
    put = owner_leave(d);
    spin_unlock(&d->page_lock);
    __atomic_fetch_sub(&owned_total, 1, __ATOMIC_RELAXED);
    frame_release_owned(f, dying);
    if (put)
        domain_put(d);
}

/* --- the end --- */

static void claim_drop(struct domain *d)
{
    uint64_t n;

    spin_lock(&d->page_lock);
    n = d->outstanding;
    figure_set(&d->outstanding, 0);
    __atomic_fetch_sub(&claimed_total, n, __ATOMIC_RELAXED);
    spin_unlock(&d->page_lock);
    budget_give(n);
}

/* Next frame of the page list, moved to the special list so that those in use elsewhere do not come up again. */
static struct frame *release_next(struct domain *d)
{
    struct frame *f = NULL;

    spin_lock(&d->page_lock);
    while (d->page_list && !f) {
        f = &frame_table[d->page_list];
        list_del(d, f);
        list_add(&d->special_list, f);
        if (!frame_get(f, d))
            f = NULL; /* its last reference goes just now: whoever dropped it waits for page_lock */
    }
    spin_unlock(&d->page_lock);
    return f;
}

void frame_give_back(struct domain *d, mfn_t m, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++) {
        struct frame *f = mfn_frame(MFN(m.n + i));

        if (!frame_get(f, d))
            continue;
        if (frame_clear_allocated(f))
            frame_put(f);
        frame_put(f);
    }
}

int frame_domain_release(struct domain *d, unsigned budget_frames)
{
    BUG_ON(!domain_is_dying(d));
    claim_drop(d);
    while (budget_frames--) {
        struct frame *f = release_next(d);

        if (!f)
            return 0;
        if (frame_clear_allocated(f))
            frame_put(f);
        frame_put(f);
    }
    return __atomic_load_n(&d->page_list, __ATOMIC_RELAXED) ? -EAGAIN : 0;
}

int frame_claim(struct domain *d, uint64_t pages)
{
    int rc = 0;

    if (!pages) {
        claim_drop(d);
        return 0;
    }
    spin_lock(&d->page_lock);
    if (domain_is_dying(d) || d->outstanding || pages <= d->frames || pages > d->max_frames)
        rc = -EINVAL;
    else if (!budget_take(pages - d->frames, budget_reserve()))
        rc = -ENOMEM;
    if (!rc) {
        figure_set(&d->outstanding, pages - d->frames);
        __atomic_fetch_add(&claimed_total, d->outstanding, __ATOMIC_RELAXED);
    }
    spin_unlock(&d->page_lock);
    return rc;
}

struct frame *frame_domain_first(struct domain *d)
{
    return d->page_list ? &frame_table[d->page_list] : NULL;
}

struct frame *frame_next(struct frame *f)
{
    return f->next ? &frame_table[f->next] : NULL;
}

/* --- figures and checks --- */

uint64_t owner_frames(void)
{
    return __atomic_load_n(&owned_total, __ATOMIC_RELAXED);
}

uint64_t owner_claims(void)
{
    return __atomic_load_n(&claimed_total, __ATOMIC_RELAXED);
}

static uint64_t check_list(const struct domain *d, uint32_t head, uint64_t *special)
{
    uint64_t n = 0;
    uint32_t prev = 0;

    for (uint32_t i = head; i; prev = i, i = frame_table[i].next) {
        const struct frame *f = &frame_table[i];

        BUG_ON(f->prev != prev || f->owner != d->id.v || f->flags & FRAME_F_FREE);
        *special += (f->count & FRAME_SPECIAL) != 0;
        n++;
    }
    return n;
}

void frame_domain_check(struct domain *d)
{
    uint64_t special = 0, on_page_list, all;
    struct domain **slot = owner_slot(d->id.v);

    spin_lock(&d->page_lock);
    on_page_list = check_list(d, d->page_list, &special);
    BUG_ON(special);
    all = on_page_list + check_list(d, d->special_list, &special);
    BUG_ON(special != d->special_frames || all - special != d->frames);
    BUG_ON((slot && *slot == d) != (all > 0));
    spin_unlock(&d->page_lock);
}

void owner_dump(void)
{
    for (unsigned c = 0; c < CHUNKS; c++) {
        struct domain **chunk = __atomic_load_n(&owner_table[c], __ATOMIC_ACQUIRE);

        for (unsigned i = 0; chunk && i < CHUNK; i++) {
            const struct domain *d = __atomic_load_n(&chunk[i], __ATOMIC_ACQUIRE);

            if (d)
                console_printf("  d%u: %llu KiB of %llu, %llu special frames, claim %llu\n", d->id.v,
                               (unsigned long long)d->frames * 4, (unsigned long long)d->max_frames * 4,
                               (unsigned long long)d->special_frames, (unsigned long long)d->outstanding);
        }
    }
}

/* From frame_init, which host tests call once per test. */
void owner_init(void)
{
    for (unsigned c = 0; c < CHUNKS; c++)
        owner_table[c] = NULL;
    owned_total = claimed_total = 0;
}
