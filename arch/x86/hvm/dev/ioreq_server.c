/*
 * Ioreq servers: each is one device model's claim on ports, guest-physical addresses and PCI functions of a domain.
 *
 *   ioreq_create --> disabled <--ioreq_set_state--> enabled        ioreq_destroy, ioreq_release: from both
 *
 * A server has two pages, shared with the device model: one struct ioreq for each vCPU, and a ring of writes that nobody waits for.
 * The device model gets them as a resource (frames of the domain's own that are at no number of the guest's), or by a guest frame number
 * that the toolstack set aside; then they leave the guest's sight while the server is enabled.
 *
 * Invariants
 *  1. Servers, ranges and pages change only while the domain is paused (or dies), and under the lock. So a running vCPU reads them
 *     without one, and what it waits for is found again by (server, serial) or not at all.
 *  2. A page that an enabled server uses cannot be reached by the guest.
 *  3. Ports are Krypton's own (core/evtchn.h): the guest cannot touch them.
 * Locks: RANK_IOREQ, taken with the domain paused already.
 */
#include "ioreq_private.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "x86/p2m.h"

/* --- pages --- */

static int page_own(struct domain *d, struct ioreq_page *p)
{
    mfn_t m;
    int r;

    if (p->va)
        return p->gfn == NO_GFN ? 0 : -EPERM;
    r = frame_alloc_domain(d, 0, 64, FA_NO_LIMIT, &m);
    if (r)
        return r;
    frame_ref(mfn_frame(m)); /* beside the owner's */
    arch_frame_writable(m);  /* Krypton writes there, even if the device model never does */
    *p = (struct ioreq_page){.va = arch_frame_va(m), .mfn = m, .gfn = NO_GFN};
    return 0;
}

static int page_at(struct domain *d, struct ioreq_page *p, uint64_t gfn)
{
    struct p2m_entry e;

    if (!gfn || p2m_get(d, GFN(gfn), P2M_WRITE, &e))
        return -EINVAL;
    *p = (struct ioreq_page){.va = arch_frame_va(e.mfn), .mfn = e.mfn, .gfn = gfn};
    return 0;
}

/* Invariant 2. */
static int page_hide(struct domain *d, struct ioreq_page *p)
{
    int r;

    if (!p->va || p->gfn == NO_GFN || p->hidden)
        return 0;
    r = p2m_remove(d, GFN(p->gfn), p->mfn, 0);
    if (r)
        return r;
    p->hidden = true;
    memset(p->va, 0, FRAME_SIZE);
    return 0;
}

static void page_show(struct domain *d, struct ioreq_page *p)
{
    if (!p->hidden)
        return;
    memset(p->va, 0, FRAME_SIZE);
    if (p2m_set(d, GFN(p->gfn), p->mfn, 0, P2M_RAM))
        log_guest(d->id, LOG_WARN, "page %lx of a device model cannot be given back", p->gfn);
    p->hidden = false;
}

static void page_drop(struct domain *d, struct ioreq_page *p)
{
    struct frame *f;

    if (!p->va)
        return;
    f = mfn_frame(p->mfn);
    if (!domain_is_dying(d))
        page_show(d, p);
    if (p->gfn == NO_GFN && frame_clear_allocated(f))
        frame_put(f);
    frame_put(f);
    p->va = NULL;
}

/* --- numbers that the toolstack set aside --- */

static uint64_t gfn_take(struct domain *d, struct hvm_ioreq *q, bool ring)
{
    const uint64_t *param = hvm_domain(d)->param;
    uint64_t n = MIN(param[HVM_PARAM_NR_IOREQ_SERVER_PAGES], (uint64_t)IOREQ_GFNS);

    for (unsigned i = 0; i < n; i++)
        if (!(q->gfns_used >> i & 1)) {
            q->gfns_used |= 1u << i;
            return param[HVM_PARAM_IOREQ_SERVER_PFN] + i;
        }
    n = IOREQ_GFNS + ring;
    if (q->gfns_used >> n & 1)
        return 0;
    q->gfns_used |= 1u << n;
    return param[ring ? HVM_PARAM_BUFIOREQ_PFN : HVM_PARAM_IOREQ_PFN];
}

static void gfn_give(struct domain *d, struct hvm_ioreq *q, uint64_t gfn)
{
    const uint64_t *param = hvm_domain(d)->param;
    uint64_t i = gfn - param[HVM_PARAM_IOREQ_SERVER_PFN];

    if (i < IOREQ_GFNS && q->gfns_used >> i & 1)
        q->gfns_used &= ~(1u << i);
    else if (gfn == param[HVM_PARAM_IOREQ_PFN])
        q->gfns_used &= ~(1u << IOREQ_GFNS);
    else if (gfn == param[HVM_PARAM_BUFIOREQ_PFN])
        q->gfns_used &= ~(1u << (IOREQ_GFNS + 1));
}

static int page_by_gfn(struct domain *d, struct hvm_ioreq *q, struct ioreq_page *p, bool ring)
{
    uint64_t gfn;
    int r;

    if (p->va)
        return p->gfn == NO_GFN ? -EPERM : 0;
    gfn = gfn_take(d, q, ring);
    if (!gfn)
        return -ENOMEM;
    r = page_at(d, p, gfn);
    if (r)
        gfn_give(d, q, gfn);
    return r;
}

/* --- ports --- */

/* The page says to the device model by which port it hears of each vCPU. */
static int ports_publish(struct domain *d, struct ioreq_server *s)
{
    struct shared_iopage *page = s->sync.va;

    for_each_vcpu(d, v)
    {
        int r;

        if (!s->port[v->id].v) {
            r = evtchn_own_open(d, s->emulator, v->id, &s->port[v->id]);
            if (r)
                return r;
        }
        if (page)
            __atomic_store_n(&page->vcpu_ioreq[v->id].vp_eport, s->port[v->id].v, __ATOMIC_RELAXED);
    }
    return 0;
}

static void ports_close(struct domain *d, struct ioreq_server *s)
{
    for (unsigned i = 0; s->port && i < d->max_vcpus; i++)
        if (s->port[i].v)
            evtchn_own_close(d, s->port[i]);
    if (s->ring_port.v)
        evtchn_own_close(d, s->ring_port);
}

/* --- one server --- */

static void server_free(struct domain *d, struct ioreq_server *s)
{
    struct hvm_ioreq *q = ioreq_of(d);

    ports_close(d, s);
    if (s->sync.va && s->sync.gfn != NO_GFN)
        gfn_give(d, q, s->sync.gfn);
    if (s->ring.va && s->ring.gfn != NO_GFN)
        gfn_give(d, q, s->ring.gfn);
    page_drop(d, &s->sync);
    page_drop(d, &s->ring);
    for (unsigned i = 0; i < RANGE_TYPES; i++)
        rangeset_destroy(&s->range[i]);
    mem_free(s->port);
    mem_free(s);
}

static struct ioreq_server *server_new(struct domain *d, did_t emulator, unsigned buffering, int *error)
{
    struct ioreq_server *s = mem_new(struct ioreq_server);

    *error = -ENOMEM;
    if (!s)
        return NULL;
    s->emulator = emulator;
    s->buffering = (uint8_t)buffering;
    spin_init(&s->ring_lock, RANK_IOREQ_RING);
    for (unsigned i = 0; i < RANGE_TYPES; i++)
        rangeset_init(&s->range[i]);
    s->port = mem_alloc_array(d->max_vcpus, sizeof(*s->port));
    *error = s->port ? ports_publish(d, s) : -ENOMEM;
    if (!*error && buffering != HVM_IOREQSRV_BUFIOREQ_OFF)
        *error = evtchn_own_open(d, emulator, 0, &s->ring_port);
    if (!*error)
        return s;
    server_free(d, s);
    return NULL;
}

/* Who waits for an answer finds that there is none to come. */
static void wake_all(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        vcpu_device_done(v);
    }
}

static int pages_hide(struct domain *d, struct ioreq_server *s)
{
    int r = page_hide(d, &s->sync);

    return r ? r : page_hide(d, &s->ring);
}

static int server_enable(struct domain *d, struct hvm_ioreq *q, struct ioreq_server *s)
{
    int r = pages_hide(d, s);

    if (!r)
        r = ports_publish(d, s);
    if (r)
        return r;
    s->enabled = true;
    s->serial = ++q->serial;
    return 0;
}

static void server_disable(struct domain *d, struct hvm_ioreq *q, struct ioreq_server *s)
{
    s->enabled = false;
    s->serial = ++q->serial;
    page_show(d, &s->sync);
    page_show(d, &s->ring);
    wake_all(d);
}

/* --- the frame around changes --- */

static struct hvm_ioreq *begin(struct domain *d)
{
    struct hvm_ioreq *q = ioreq_of(d);

    if (!q)
        return NULL;
    domain_pause(d);
    spin_lock(&q->lock);
    return q;
}

static int end(struct domain *d, struct hvm_ioreq *q, int r)
{
    spin_unlock(&q->lock);
    domain_unpause(d);
    return r;
}

static struct ioreq_server *find(const struct hvm_ioreq *q, uint32_t id)
{
    return id < IOREQ_SERVERS ? q->server[array_index(id, IOREQ_SERVERS)] : NULL;
}

/* Locked and paused; NULL: no such server. */
static struct hvm_ioreq *begin_server(struct domain *d, uint32_t id, struct ioreq_server **s)
{
    struct hvm_ioreq *q = begin(d);

    if (!q)
        return NULL;
    *s = domain_is_dying(d) ? NULL : find(q, id);
    if (*s)
        return q;
    (void)end(d, q, 0);
    return NULL;
}

/* --- operations --- */

static int table_make(struct domain *d)
{
    struct hvm_domain *h = hvm_domain(d);
    struct hvm_ioreq *q, *none = NULL;

    if (ioreq_of(d))
        return 0;
    q = mem_new(struct hvm_ioreq);
    if (!q)
        return -ENOMEM;
    spin_init(&q->lock, RANK_IOREQ);
    q->memory_server = -1;
    if (!__atomic_compare_exchange_n(&h->ioreq, &none, q, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        mem_free(q);
    return 0;
}

static int create(struct domain *d, struct hvm_ioreq *q, did_t emulator, unsigned buffering, uint16_t *id)
{
    int r;

    if (domain_is_dying(d))
        return -EINVAL;
    for (unsigned i = 0; i < IOREQ_SERVERS; i++) {
        if (q->server[i])
            continue;
        q->server[i] = server_new(d, emulator, buffering, &r);
        *id = (uint16_t)i;
        return r;
    }
    return -ENOSPC;
}

int ioreq_create(struct domain *d, did_t emulator, unsigned buffering, uint16_t *id)
{
    struct hvm_ioreq *q;
    int r;

    if (buffering > HVM_IOREQSRV_BUFIOREQ_ATOMIC)
        return -EINVAL;
    r = table_make(d);
    if (r)
        return r;
    q = begin(d);
    return end(d, q, create(d, q, emulator, buffering, id));
}

int ioreq_destroy(struct domain *d, uint16_t id)
{
    struct ioreq_server *s;
    struct hvm_ioreq *q = begin_server(d, id, &s);

    if (!q)
        return -ENOENT;
    if (q->memory_server == id)
        q->memory_server = -1;
    q->server[id] = NULL;
    server_free(d, s);
    wake_all(d);
    return end(d, q, 0);
}

int ioreq_info(struct domain *d, uint16_t id, bool gfns, struct ioreq_info *out)
{
    struct ioreq_server *s;
    struct hvm_ioreq *q = begin_server(d, id, &s);
    int r = 0;

    if (!q)
        return -ENOENT;
    *out = (struct ioreq_info){.buffered_port = s->ring_port.v};
    if (gfns) {
        r = page_by_gfn(d, q, &s->sync, false);
        if (!r && s->buffering)
            r = page_by_gfn(d, q, &s->ring, true);
        if (!r && s->enabled)
            r = pages_hide(d, s);
        if (!r)
            r = ports_publish(d, s);
        out->sync_gfn = s->sync.gfn;
        out->buffered_gfn = s->ring.gfn;
    }
    return end(d, q, r);
}

static int range_change(struct rangeset *set, uint64_t first, uint64_t last, bool map)
{
    bool there = rangeset_contains(set, first, last);

    if (map)
        return there ? -EEXIST : rangeset_add(set, first, last);
    return there ? rangeset_remove(set, first, last) : -ENOENT;
}

int ioreq_range(struct domain *d, uint16_t id, uint32_t type, uint64_t first, uint64_t last, bool map)
{
    struct ioreq_server *s;
    struct hvm_ioreq *q;

    if (type >= RANGE_TYPES || first > last)
        return -EINVAL;
    q = begin_server(d, id, &s);
    if (!q)
        return -ENOENT;
    return end(d, q, range_change(&s->range[array_index(type, RANGE_TYPES)], first, last, map));
}

int ioreq_set_state(struct domain *d, uint16_t id, bool enabled)
{
    struct ioreq_server *s;
    struct hvm_ioreq *q = begin_server(d, id, &s);
    int r = 0;

    if (!q)
        return -ENOENT;
    if (enabled && !s->enabled)
        r = server_enable(d, q, s);
    else if (!enabled && s->enabled)
        server_disable(d, q, s);
    return end(d, q, r);
}

int ioreq_map_memory_type(struct domain *d, uint16_t id, bool write)
{
    struct ioreq_server *s;
    struct hvm_ioreq *q = begin_server(d, id, &s);
    int r = 0;

    if (!q)
        return -ENOENT;
    if (write && q->memory_server >= 0)
        r = -EEXIST;
    else if (!write && q->memory_server != id)
        r = -EINVAL;
    else
        q->memory_server = write ? id : -1;
    return end(d, q, r);
}

int hvm_resource_frame(struct domain *d, uint32_t id, uint64_t index, mfn_t *m)
{
    struct ioreq_server *s;
    struct hvm_ioreq *q = begin_server(d, id, &s);
    struct ioreq_page *p;
    int r = -EINVAL;

    if (!q)
        return -ENOENT;
    p = index ? &s->sync : &s->ring;
    if (index == XENMEM_resource_ioreq_server_frame_ioreq(0) ||
        (index == XENMEM_resource_ioreq_server_frame_bufioreq && s->buffering))
        r = page_own(d, p);
    if (!r)
        r = ports_publish(d, s);
    *m = p->mfn;
    return end(d, q, r);
}

/* --- the end --- */

void ioreq_release(struct domain *d)
{
    struct hvm_ioreq *q = ioreq_of(d);

    if (!q)
        return;
    spin_lock(&q->lock); /* who is inside began before the domain was dying */
    for (unsigned i = 0; i < IOREQ_SERVERS; i++) {
        if (q->server[i])
            server_free(d, q->server[i]);
        q->server[i] = NULL;
    }
    q->memory_server = -1;
    spin_unlock(&q->lock);
}

void ioreq_free(struct domain *d)
{
    mem_free(ioreq_of(d));
    hvm_domain(d)->ioreq = NULL;
}

bool ioreq_has_memory_server(const struct domain *d)
{
    const struct hvm_ioreq *q = ioreq_of(d);

    return q && q->memory_server >= 0;
}

static void check_page(const struct ioreq_server *s, const struct ioreq_page *p)
{
    if (!p->va)
        return;
    BUG_ON(!(mfn_frame(p->mfn)->count & FRAME_REF_MASK));
    BUG_ON(s->enabled && p->gfn != NO_GFN && !p->hidden);
}

void ioreq_check(struct domain *d)
{
    struct hvm_ioreq *q = ioreq_of(d);

    for (unsigned i = 0; q && i < IOREQ_SERVERS; i++) {
        struct ioreq_server *s = q->server[i];

        if (!s)
            continue;
        BUG_ON(s->serial > q->serial);
        check_page(s, &s->sync);
        check_page(s, &s->ring);
        for (unsigned t = 0; t < RANGE_TYPES; t++)
            rangeset_check(&s->range[t]);
    }
    BUG_ON(q && q->memory_server >= 0 && !q->server[q->memory_server]);
}
