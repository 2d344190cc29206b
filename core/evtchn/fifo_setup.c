/*
 * FIFO set-up and leaving: control blocks and event arrays are frames of the guest, held by a reference and a
 * writable type, so that they can be no page table, from EVTCHNOP_init_control / expand_array until
 * evtchn_fifo_leave. Pinning and memory come before evtchn.lock is taken; what turns out not to be needed is
 * given back after it.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "arch/mem.h"

static bool frame_pin(struct domain *d, uint64_t gfn, mfn_t *m)
{
    return arch_gfn_pin(d, GFN(gfn), false, m);
}

/* What was pending in the 2-level bits is noted, to be linked when the guest gives the event words. A setter
 * that still saw the 2-level interface holds its port's lock: it is waited for. evtchn.lock held. */
static void take_over(struct domain *d)
{
    uint32_t end = MIN(d->evtchn.valid_ports, level2_ports(d));

    for (uint32_t port = 1; port < end; port++) {
        struct evtchn *c = evtchn_find(d, port);

        spin_lock(&c->lock);
        if (c->state > EVT_RESERVED && shared_test64(level2_pending(d, port), port % 64))
            __atomic_store_n(&c->unsent, true, __ATOMIC_RELAXED);
        spin_unlock(&c->lock);
    }
}

struct control {
    struct evtchn_fifo_domain *domain; /* spare: used if this is the domain's first control block */
    struct evtchn_fifo_vcpu *vcpu;
};

/* Lock held. What was taken over is NULL afterwards. */
static int control_install(struct domain *d, struct vcpu *v, struct control *k)
{
    if (domain_is_dying(d) || v->evtchn.fifo)
        return -EINVAL;
    __atomic_store_n(&v->evtchn.fifo, k->vcpu, __ATOMIC_RELEASE);
    k->vcpu = NULL;
    if (!d->evtchn.fifo) {
        __atomic_store_n(&d->evtchn.fifo, k->domain, __ATOMIC_RELEASE);
        k->domain = NULL;
        take_over(d);
    }
    return 0;
}

/* -ENOENT: no such vCPU; -EINVAL: misplaced, not the guest's writable memory, or done already; -ENOMEM. */
int evtchn_init_control(struct domain *d, uint64_t gfn, uint32_t offset, uint32_t vcpu)
{
    struct vcpu *v = domain_vcpu(d, vcpu);
    struct control k;
    unsigned long flags;
    mfn_t m;
    int r;

    if (!v)
        return -ENOENT;
    if (offset > FRAME_SIZE - sizeof(*k.vcpu->block) || offset % 8)
        return -EINVAL;
    k.domain = mem_new(struct evtchn_fifo_domain);
    k.vcpu = mem_new(struct evtchn_fifo_vcpu);
    r = k.domain && k.vcpu ? 0 : -ENOMEM;
    if (!r && !frame_pin(d, gfn, &m))
        r = -EINVAL;
    if (!r) {
        k.vcpu->mfn = m;
        k.vcpu->block = (void *)((char *)arch_frame_va(m) + offset);
        for (unsigned i = 0; i < EVTCHN_FIFO_MAX_QUEUES; i++)
            spin_init(&k.vcpu->queue[i].lock, RANK_EVTCHN_FIFO);
        flags = spin_lock_irq(&d->evtchn.lock);
        r = control_install(d, v, &k);
        spin_unlock_irq(&d->evtchn.lock, flags);
        if (r)
            arch_grant_unpin(m, false);
    }
    mem_free(k.domain);
    mem_free(k.vcpu);
    return r;
}

/* Lock held: ports whose words have just come get what was noted for them. */
static void deliver_unsent(struct domain *d, struct evtchn_fifo_domain *f, uint32_t page)
{
    uint32_t first = page * FIFO_WORDS_PER_PAGE,
             end = MIN(first + FIFO_WORDS_PER_PAGE, d->evtchn.valid_ports);

    for (uint32_t port = MAX(first, 1u); port < end; port++) {
        struct evtchn *c = evtchn_find(d, port);

        spin_lock(&c->lock);
        if (__atomic_exchange_n(&c->unsent, false, __ATOMIC_SEQ_CST) && c->state > EVT_RESERVED)
            fifo_set_pending(d, f, c, port);
        spin_unlock(&c->lock);
    }
}

static int page_install(struct domain *d, mfn_t m)
{
    struct evtchn_fifo_domain *f = d->evtchn.fifo;

    if (domain_is_dying(d))
        return -EINVAL;
    if (!f)
        return -EOPNOTSUPP;
    if (f->pages == FIFO_PAGES)
        return -ENOSPC;
    f->mfn[f->pages] = m;
    __atomic_store_n(&f->page[f->pages], arch_frame_va(m), __ATOMIC_SEQ_CST);
    deliver_unsent(d, f, f->pages++);
    return 0;
}

int evtchn_expand_array(struct domain *d, uint64_t gfn)
{
    unsigned long flags;
    mfn_t m;
    int r;

    if (!evtchn_fifo(d))
        return -EOPNOTSUPP;
    if (!frame_pin(d, gfn, &m))
        return -EINVAL;
    flags = spin_lock_irq(&d->evtchn.lock);
    r = page_install(d, m);
    spin_unlock_irq(&d->evtchn.lock, flags);
    if (r)
        arch_grant_unpin(m, false);
    return r;
}

/* Takes effect the next time the event is linked. -ENOSYS: 2-level has no priorities. */
int evtchn_set_priority(struct domain *d, uint32_t port, uint32_t priority)
{
    struct evtchn *c = evtchn_find(d, port);
    unsigned long flags;
    int r = 0;

    if (!c)
        return -EINVAL;
    if (!evtchn_fifo(d))
        return -ENOSYS;
    if (priority > EVTCHN_FIFO_PRIORITY_MIN)
        return -EINVAL;
    flags = spin_lock_irq(&c->lock);
    if (c->state > EVT_RESERVED)
        __atomic_store_n(&c->priority, (uint8_t)priority, __ATOMIC_RELAXED);
    else
        r = -EINVAL;
    spin_unlock_irq(&c->lock, flags);
    return r;
}

static void fifo_free(struct evtchn_fifo_domain *f)
{
    for (uint32_t i = 0; i < f->pages; i++)
        arch_grant_unpin(f->mfn[i], false);
    mem_free(f);
}

/* Lock held: takes the queues of all vCPUs away, as a list. */
static struct evtchn_fifo_vcpu *vcpus_detach(struct domain *d)
{
    struct evtchn_fifo_vcpu *list = NULL;

    for_each_vcpu(d, v)
    {
        struct evtchn_fifo_vcpu *f = v->evtchn.fifo;

        if (!f)
            continue;
        __atomic_store_n(&v->evtchn.fifo, NULL, __ATOMIC_RELEASE);
        f->next = list;
        list = f;
    }
    return list;
}

/*
 * With every port closed, seen under the lock, no setter is inside (each holds the lock of an open port) and
 * none can come before domain and vCPUs have forgotten the pages: then they can go.
 */
int evtchn_fifo_leave(struct domain *d)
{
    struct evtchn_fifo_vcpu *list, *next;
    struct evtchn_fifo_domain *f;
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);

    if (d->evtchn.active != d->evtchn.own) {
        spin_unlock_irq(&d->evtchn.lock, flags);
        return -EAGAIN;
    }
    f = d->evtchn.fifo;
    __atomic_store_n(&d->evtchn.fifo, NULL, __ATOMIC_RELEASE);
    list = vcpus_detach(d);
    spin_unlock_irq(&d->evtchn.lock, flags);
    for (; list; list = next) {
        next = list->next;
        arch_grant_unpin(list->mfn, false);
        mem_free(list);
    }
    if (f)
        fifo_free(f);
    return 0;
}

/* evtchn_domain_close has been through (or the domain never lived). */
void evtchn_vcpu_free(struct vcpu *v)
{
    BUG_ON(v->evtchn.fifo);
}
