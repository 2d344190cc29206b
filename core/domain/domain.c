/*
 * Domains and vCPUs: how they are found, made and unmade. (life.c: pause, shutdown, crash; kill.c:
 * destruction)
 *
 * A domain is found by a hash table id -> domain; a bucket's lock covers the few instructions between finding
 * and counting the reference, so domain_get() may be used under any lock and in interrupt context. The list
 * by rising id is for walking. The system domains (DOMID_IO, DOMID_XEN, idle) are in neither: a guest's
 * number never leads to them.
 *
 * Invariants
 *  1. A published domain is complete: all rooms' parts exist and d->shared_info is mapped; it is paused.
 *  2. A published domain has at least one reference (the publication's), and one more while it is charged for
 * frames (core/memory). domain_unpublish() drops them, and only when no other is left; memory is freed after
 * that. So domain_put() never frees.
 *  3. d->vcpu[i] goes from NULL to a complete vCPU once and stays until the domain is freed.
 *  4. v->info is never NULL for a guest's vCPU: in the shared page for ids below XEN_LEGACY_MAX_VCPUS, else
 * private memory, or in a frame that is referenced and pinned writable (info_mfn).
 *  5. The id of a domain is used by one domain at a time, from the beginning of its making until it has been
 * freed: other rooms keep tables by id (ids_used).
 *
 * Locks: domain_list_lock (RANK_DOMAIN_LIST), then a bucket lock (RANK_DOMAIN_REF, interrupts off).
 */
#include "private.h"
#include "core/alloc.h"
#include "core/console.h"
#include "core/frame.h"
#include "core/grant.h"
#include "core/log.h"
#include "core/sched.h"
#include "core/perf.h"
#include "core/trace.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "lib/bitmap.h"
#include "lib/string.h"

#define BUCKETS 64u

static struct bucket {
    struct spinlock lock;
    struct domain *first;
} buckets[BUCKETS];

#define ID_WORDS (DOMID_FIRST_RESERVED / 64 + 1)
static uint64_t ids_used[ID_WORDS];           /* [a] */
static uint64_t ids_words[ID_WORDS / 64 + 1]; /* [a] words of ids_used that were ever other than 0 */

struct domain *domain_list;
struct spinlock domain_list_lock = SPINLOCK_INIT(RANK_DOMAIN_LIST);
struct domain *dom0, *dom_io, *dom_xen, *dom_idle;

/* --- finding and holding
 * ---------------------------------------------------------------------------------------- */

static struct bucket *bucket_of(did_t id)
{
    return &buckets[id.v % BUCKETS];
}

struct domain *domain_get(did_t id)
{
    struct bucket *b = bucket_of(id);
    unsigned long flags = spin_lock_irq(&b->lock);
    struct domain *d = b->first;

    while (d && !did_eq(d->id, id))
        d = d->hash_next;
    if (d)
        domain_ref(d);
    spin_unlock_irq(&b->lock, flags);
    return d;
}

void domain_ref(struct domain *d)
{
    uint32_t old = __atomic_fetch_add(&d->refs, 1, __ATOMIC_RELAXED);

    BUG_ON(!old || old == ~0u);
}

void domain_put(struct domain *d)
{
    uint32_t old = __atomic_fetch_sub(&d->refs, 1, __ATOMIC_RELEASE);

    BUG_ON(old <= 1); /* the publication's own is not put */
}

/* The first id from n on that a domain has, or is about to have. */
static unsigned next_used(unsigned n)
{
    for (size_t i = n / 64; (i = bitmap_next(ids_words, ID_WORDS, i)) < ID_WORDS; i++) {
        size_t end = (i + 1) * 64, used = bitmap_next(ids_used, end, MAX(n, i * 64));

        if (used < end)
            return (unsigned)used;
    }
    return DOMID_FIRST_RESERVED;
}

/* By the table, not along the list: tools walk over all domains by asking for the next id again and again. */
struct domain *domain_get_from(did_t id)
{
    struct domain *d = NULL;

    for (unsigned n = next_used(id.v); n < DOMID_FIRST_RESERVED && !d; n = next_used(n + 1))
        d = domain_get(DID(n));
    return d;
}

static bool id_take(did_t id)
{
    uint64_t bit = 1ull << (id.v % 64);
    unsigned word = id.v / 64;

    __atomic_fetch_or(&ids_words[word / 64], 1ull << (word % 64), __ATOMIC_RELAXED);
    return !(__atomic_fetch_or(&ids_used[word], bit, __ATOMIC_ACQUIRE) & bit);
}

static void id_give(did_t id)
{
    __atomic_fetch_and(&ids_used[id.v / 64], ~(1ull << (id.v % 64)), __ATOMIC_RELEASE);
}

static void publish(struct domain *d)
{
    struct domain **at = &domain_list;
    struct bucket *b = bucket_of(d->id);
    unsigned long flags;

    spin_lock(&domain_list_lock);
    while (*at && (*at)->id.v < d->id.v)
        at = &(*at)->next;
    d->next = *at;
    *at = d;
    flags = spin_lock_irq(&b->lock);
    d->hash_next = b->first;
    b->first = d;
    spin_unlock_irq(&b->lock, flags);
    spin_unlock(&domain_list_lock);
}

bool domain_unpublish(struct domain *d, uint32_t refs)
{
    struct bucket *b = bucket_of(d->id);
    struct domain **at;
    unsigned long flags;
    bool last;

    spin_lock(&domain_list_lock);
    flags = spin_lock_irq(&b->lock);
    last = __atomic_compare_exchange_n(&d->refs, &refs, 0, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
    if (last) {
        for (at = &b->first; *at != d;)
            at = &(*at)->hash_next;
        *at = d->hash_next;
    }
    spin_unlock_irq(&b->lock, flags);
    if (last) {
        for (at = &domain_list; *at != d;)
            at = &(*at)->next;
        *at = d->next;
    }
    spin_unlock(&domain_list_lock);
    return last;
}

/* --- making
 * -----------------------------------------------------------------------------------------------------------
 */

static struct domain *domain_alloc(did_t id, unsigned max_vcpus)
{
    struct domain *d = arch_domain_alloc();

    if (!d)
        return NULL;
    d->id = id;
    d->vcpu = mem_alloc_array(max_vcpus ? max_vcpus : 1, sizeof(*d->vcpu));
    if (!d->vcpu || frame_domain_init(d)) {
        mem_free(d->vcpu);
        arch_domain_free(d);
        return NULL;
    }
    d->refs = 1;
    d->max_vcpus = max_vcpus;
    d->shutdown_code = SHUTDOWN_CODE_NONE;
    d->shared_info_mfn = INVALID_MFN;
    d->created_ns = arch_time_ns();
    spin_init(&d->lock, RANK_DOMAIN);
    spin_init(&d->page_lock, RANK_PAGE_ALLOC);
    tasklet_init(&d->crash_job, domain_crash_job, d);
    timer_init(&d->reap, domain_reap, d, arch_cpu_id());
    for (unsigned i = 0; i < DOMAIN_WATCHDOGS; i++)
        timer_init(&d->watchdog[i], domain_watchdog_fire, d, arch_cpu_id());
    return d;
}

static struct domain *system_domain(unsigned id, unsigned max_vcpus)
{
    struct domain *d = domain_alloc(DID(id), max_vcpus);

    if (!d)
        panic("No memory for the system domains");
    d->system = true;
    if (sched_domain_init(d, 0))
        panic("No memory for the system domains");
    return d;
}

void domain_subsystem_init(void)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        spin_init(&buckets[i].lock, RANK_DOMAIN_REF);
    timers_init_cpu(arch_cpu_id());
    dom_idle = system_domain(DOMID_IDLE, MAX_CPUS);
    dom_io = system_domain(DOMID_IO, 0);
    dom_xen = system_domain(DOMID_XEN, 0);
    debug_key_register('q', "domains and vCPUs", domain_dump);
}

static int shared_info_make(struct domain *d)
{
    mfn_t m;

    if (!frame_alloc(0, FA_ZERO, FRAME_ANY_NODE, &m))
        return -ENOMEM;
    frame_share(d, m);
    d->shared_info_mfn = m;
    d->shared_info = arch_frame_va(m);
    for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++)
        d->shared_info->vcpu_info[i].evtchn_upcall_mask = 1;
    return 0;
}

/* Before publication nobody else can hold a reference, so this cannot fail. */
static void shared_info_unmake(struct domain *d)
{
    BUG_ON(!frame_unshare(d->shared_info_mfn));
    frame_free(d->shared_info_mfn, 0);
}

static int config_check(did_t id, const struct domain_config *c)
{
    if (id.v >= DOMID_FIRST_RESERVED || !c->ops)
        return -EINVAL;
    if (!c->max_vcpus || c->max_vcpus > MAX_VCPUS || c->max_grant_version > 2)
        return -EINVAL;
    return 0;
}

static void config_apply(struct domain *d, const struct domain_config *c)
{
    d->ops = c->ops;
    d->privileged = c->privileged;
    d->hardware = c->hardware;
    d->xenstore = c->xenstore;
    d->max_frames = c->max_frames;
    memcpy(d->handle, c->handle, sizeof(d->handle));
    d->pause_count = 1;
    d->controller_pauses = c->hardware ? 0 : 1; /* nobody's tool unpauses dom0 */
}

/* The rooms' parts; all or nothing. */
static int parts_make(struct domain *d, const struct domain_config *c)
{
    int r = sched_domain_init(d, c->cpupool);

    if (r)
        return r;
    r = evtchn_domain_init(d, c->max_evtchn_port);
    if (r)
        goto free_sched;
    r = shared_info_make(d);
    if (r)
        goto free_evtchn;
    r = grant_domain_init(d, c->max_grant_frames, c->max_maptrack_frames,
                          c->max_grant_version ? c->max_grant_version : 2);
    if (r)
        goto unmake_shared_info;
    r = arch_domain_init(d, c->arch_flags);
    if (r)
        goto free_grant;
    return 0;

free_grant:
    grant_domain_free(d);
unmake_shared_info:
    shared_info_unmake(d);
free_evtchn:
    evtchn_domain_free(d);
free_sched:
    sched_domain_free(d);
    return r;
}

int domain_create(did_t id, const struct domain_config *c, struct domain **out)
{
    struct domain *d;
    int r = config_check(id, c);

    if (r)
        return r;
    if (!id_take(id))
        return -EEXIST;
    r = -ENOMEM;
    d = domain_alloc(id, c->max_vcpus);
    if (!d)
        goto give_id;
    config_apply(d, c);
    r = parts_make(d, c);
    if (r)
        goto free_domain;
    domain_ref(d); /* the caller's */
    publish(d);
    perf_count(domains_created);
    trace(TRC_DOM0_DOM_ADD, d->id.v);
    if (c->hardware && !dom0)
        dom0 = d;
    *out = d;
    return 0;

free_domain:
    mem_free(d->vcpu);
    arch_domain_free(d);
give_id:
    id_give(id);
    return r;
}

static int vcpu_info_make(struct vcpu *v)
{
    struct domain *d = v->domain;

    v->info_mfn = INVALID_MFN;
    if (d->system)
        return 0;
    if (v->id < XEN_LEGACY_MAX_VCPUS) {
        v->info = (struct vcpu_info *)&d->shared_info->vcpu_info[v->id];
        return 0;
    }
    v->private_info = mem_new(struct vcpu_info);
    if (!v->private_info)
        return -ENOMEM;
    v->private_info->evtchn_upcall_mask = 1;
    v->info = v->private_info;
    return 0;
}

int vcpu_create(struct domain *d, unsigned id, struct vcpu **out)
{
    struct vcpu *v;
    int r;

    if (id >= d->max_vcpus || domain_is_dying(d))
        return -EINVAL;
    if (domain_vcpu(d, id))
        return -EEXIST;
    v = arch_vcpu_alloc(d);
    if (!v)
        return -ENOMEM;
    v->id = id;
    v->domain = d;
    v->idle = d == dom_idle;
    v->pause_flags = v->idle ? 0 : VPF_DOWN;
    timer_init(&v->periodic, vcpu_periodic_fire, v, arch_cpu_id());
    timer_init(&v->singleshot, vcpu_singleshot_fire, v, arch_cpu_id());
    timer_init(&v->poll, vcpu_poll_fire, v, arch_cpu_id());
    r = vcpu_info_make(v);
    if (r)
        goto free_vcpu;
    r = sched_vcpu_init(v);
    if (r)
        goto free_info;
    r = arch_vcpu_init(v);
    if (r)
        goto free_sched;
    __atomic_store_n(&d->vcpu[id], v, __ATOMIC_RELEASE);
    *out = v;
    return 0;

free_sched:
    sched_vcpu_free(v);
free_info:
    mem_free(v->private_info);
free_vcpu:
    arch_vcpu_free(v);
    return r;
}

/* --- unmaking
 * ---------------------------------------------------------------------------------------------------------
 */

void vcpu_free_all(struct vcpu *v)
{
    evtchn_vcpu_free(v);
    sched_vcpu_free(v);
    mem_free(v->private_info);
    arch_vcpu_free(v);
}

void domain_free_all(struct domain *d)
{
    did_t id = d->id;

    for_each_vcpu(d, v)
    {
        vcpu_free_all(v);
    }
    trace(TRC_DOM0_DOM_REM, d->id.v);
    sched_domain_free(d);
    grant_domain_free(d);
    evtchn_domain_free(d);
    mem_free(d->console_line);
    mem_free(d->vcpu);
    arch_domain_free(d);
    id_give(id);
}
