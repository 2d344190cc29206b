/*
 * Sending, the hot path: from a port to the bits in guest memory and to the vCPU (evtchn.c has the theory).
 *
 * A sender holds the lock of the port it names, nothing else of the structure: that keeps the connection up
 * (closing either end takes both ports' locks) and so the far port open. Any context; interrupts are off
 * while the lock is held.
 */
#include "core/perf.h"
#include "private.h"
#include "core/sched.h"
#include "arch/guest_ops.h"

uint32_t vcpu_select_narrow(struct vcpu *v, uint32_t bits)
{
    uint32_t *selector = (uint32_t *)vcpu_info_get(v) + 1; /* behind upcall_pending and upcall_mask */

    return __atomic_fetch_or(selector, bits, __ATOMIC_SEQ_CST) & bits;
}

void vcpu_mark_events_pending(struct vcpu *v)
{
    if (__atomic_exchange_n(&vcpu_info_get(v)->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST))
        return;
    vcpu_unblock(v);
    vcpu_kick(v);
    if (v->domain->ops->kick)
        v->domain->ops->kick(v);
}

static void wake_if_polling(struct domain *d, struct vcpu *v, uint32_t port)
{
    uint64_t bit = 1ull << (v->id % 64);

    if (!__atomic_load_n(&v->polling_any, __ATOMIC_RELAXED) &&
        __atomic_load_n(&v->poll_port.v, __ATOMIC_RELAXED) != port)
        return;
    if (__atomic_fetch_and(&d->evtchn.poll_mask[v->id / 64], ~bit, __ATOMIC_SEQ_CST) & bit)
        vcpu_unblock(v);
}

/* The pending bit was set with a full barrier before; a poller sets its bit in poll_mask, then looks at the
 * ports. */
static __attribute__((noinline)) void wake_some_pollers(struct domain *d, uint32_t port)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->evtchn.poll_mask); i++) {
        uint64_t m = __atomic_load_n(&d->evtchn.poll_mask[i], __ATOMIC_RELAXED);

        for (; m; m &= m - 1) {
            struct vcpu *v = domain_vcpu(d, i * 64 + (unsigned)__builtin_ctzll(m));

            if (v)
                wake_if_polling(d, v, port);
        }
    }
}

void evtchn_wake_pollers(struct domain *d, uint32_t port)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(d->evtchn.poll_mask); i++)
        any |= __atomic_load_n(&d->evtchn.poll_mask[i], __ATOMIC_RELAXED);
    if (unlikely(any))
        wake_some_pollers(d, port);
}

/* --- 2-level: pending and mask bits in shared_info, a selector bit per word of them in vcpu_info --- */

static void select_word(struct domain *d, const struct evtchn *c, uint32_t port)
{
    struct vcpu *v = domain_vcpu(d, __atomic_load_n(&c->notify_vcpu, __ATOMIC_RELAXED));

    if (!v)
        return;
    if (unlikely(d->narrow)) {
        if (!vcpu_select_narrow(v, 1u << port / 32))
            vcpu_mark_events_pending(v);
    } else if (!shared_set64(&vcpu_info_get(v)->evtchn_pending_sel, port / 64)) {
        vcpu_mark_events_pending(v);
    }
}

static void level2_set_pending(struct domain *d, struct evtchn *c, uint32_t port)
{
    if (unlikely(port >= level2_ports(d)) || shared_set64(level2_pending(d, port), port % 64))
        return;
    if (!shared_test64(level2_mask(d, port), port % 64))
        select_word(d, c, port);
    evtchn_wake_pollers(d, port);
}

/* Krypton hears at once. */
static void hear(struct domain *d, const struct evtchn *c)
{
    struct vcpu *v = domain_vcpu(d, __atomic_load_n(&c->notify_vcpu, __ATOMIC_RELAXED));

    if (v)
        vcpu_device_done(v);
}

void evtchn_set_pending(struct domain *d, struct evtchn *c, uint32_t port)
{
    struct evtchn_fifo_domain *f = evtchn_fifo(d);

    if (unlikely(c->own)) {
        hear(d, c);
        return;
    }
    if (f)
        fifo_set_pending(d, f, c, port);
    else
        level2_set_pending(d, c, port);
}

void evtchn_clear_pending(struct domain *d, struct evtchn *c, uint32_t port)
{
    struct evtchn_fifo_domain *f = evtchn_fifo(d);

    if (f) {
        event_word_t *w = fifo_word(f, port);

        if (w)
            (void)__atomic_fetch_and(w, ~(1u << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
    } else if (port < level2_ports(d) && d->shared_info) {
        (void)__atomic_fetch_and(level2_pending(d, port), ~(1ull << (port % 64)), __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&c->unsent, false, __ATOMIC_RELAXED);
}

bool evtchn_pending(const struct domain *d, const struct evtchn *c, uint32_t port)
{
    const struct evtchn_fifo_domain *f = evtchn_fifo(d);
    const event_word_t *w;

    if (!f)
        return port < level2_ports(d) && shared_test64(level2_pending(d, port), port % 64);
    w = fifo_word(f, port);
    return w ? fifo_word_test(w, EVTCHN_FIFO_PENDING) : __atomic_load_n(&c->unsent, __ATOMIC_RELAXED);
}

bool evtchn_masked(const struct domain *d, uint32_t port)
{
    const struct evtchn_fifo_domain *f = evtchn_fifo(d);
    const event_word_t *w;

    if (!f)
        return port >= level2_ports(d) || shared_test64(level2_mask(d, port), port % 64);
    w = fifo_word(f, port);
    return !w || fifo_word_test(w, EVTCHN_FIFO_MASKED);
}

static void level2_unmask(struct domain *d, struct evtchn *c, uint32_t port)
{
    uint64_t bit = 1ull << (port % 64);

    if (port >= level2_ports(d))
        return;
    (void)__atomic_fetch_and(level2_mask(d, port), ~bit, __ATOMIC_SEQ_CST);
    if (shared_test64(level2_pending(d, port), port % 64))
        select_word(d, c, port);
}

/* --- who rings --- */

static int send(struct domain *d, port_t port, bool own)
{
    struct evtchn *c = evtchn_find(d, port.v), *far;
    unsigned long flags;
    int r = 0;

    if (unlikely(!c))
        return -EINVAL;
    perf_count(event_sends);
    flags = spin_lock_irq(&c->lock);
    switch (likely(c->own == own) ? c->state : EVT_FREE) {
    case EVT_INTERDOMAIN:
        far = evtchn_find(c->remote, c->remote_port);
        evtchn_set_pending(c->remote, far, c->remote_port);
        break;
    case EVT_IPI:
        evtchn_set_pending(d, c, port.v);
        break;
    case EVT_UNBOUND:
        break;
    default:
        r = -EINVAL;
    }
    spin_unlock_irq(&c->lock, flags);
    return r;
}

/* EVTCHNOP_send. -EINVAL: not a port one can send through. An unbound port swallows the event. */
int evtchn_send(struct domain *d, port_t port)
{
    return send(d, port, false);
}

void evtchn_own_send(struct domain *d, port_t port)
{
    (void)send(d, port, true);
}

void evtchn_notify(struct domain *d, port_t port)
{
    struct evtchn *c = evtchn_find(d, port.v);
    unsigned long flags;

    if (!c)
        return;
    flags = spin_lock_irq(&c->lock);
    if (c->state > EVT_RESERVED)
        evtchn_set_pending(d, c, port.v);
    spin_unlock_irq(&c->lock, flags);
}

/* The port was read without a lock: it may be closed or something else by now, which the check under its lock
 * sees. */
static void virq_ring(struct domain *d, struct vcpu *v, uint32_t virq)
{
    uint32_t port = __atomic_load_n(&v->virq_port[virq], __ATOMIC_RELAXED);
    struct evtchn *c = port ? evtchn_find(d, port) : NULL;
    unsigned long flags;

    if (!c)
        return;
    flags = spin_lock_irq(&c->lock);
    perf_count(event_virqs);
    if (c->state == EVT_VIRQ && c->virq == virq &&
        __atomic_load_n(&v->virq_port[virq], __ATOMIC_RELAXED) == port)
        evtchn_set_pending(d, c, port);
    spin_unlock_irq(&c->lock, flags);
}

void evtchn_virq(struct vcpu *v, uint32_t virq)
{
    if (virq < NR_VIRQS)
        virq_ring(v->domain, v, virq);
}

void evtchn_virq_global(struct domain *d, uint32_t virq)
{
    struct vcpu *v = d ? domain_vcpu(d, 0) : NULL;

    if (v && virq < NR_VIRQS)
        virq_ring(d, v, virq);
}

/* Ids, not pointers: a handler that has gone is not found any more. 0 = dom0. */
static uint16_t virq_handler[NR_VIRQS]; /* [a] */

int evtchn_virq_handler_set(struct domain *d, uint32_t virq)
{
    if (virq >= NR_VIRQS || !virq_is_global(virq) || domain_is_dying(d))
        return -EINVAL;
    __atomic_store_n(&virq_handler[array_index(virq, NR_VIRQS)], d->id.v, __ATOMIC_RELAXED);
    return 0;
}

void evtchn_virq_dom0(uint32_t virq)
{
    uint16_t id = __atomic_load_n(&virq_handler[virq], __ATOMIC_RELAXED);
    struct domain *d = id ? domain_get(DID(id)) : NULL;

    if (!d || domain_is_dying(d))
        evtchn_virq_global(dom0, virq);
    else
        evtchn_virq_global(d, virq);
    if (d)
        domain_put(d);
}

bool evtchn_pirq(struct domain *d, uint32_t pirq)
{
    uint32_t *slot = evtchn_pirq_slot(d, pirq);
    uint32_t port = slot ? __atomic_load_n(slot, __ATOMIC_ACQUIRE) : 0;
    struct evtchn *c = port ? evtchn_find(d, port) : NULL;
    unsigned long flags;
    bool ours;

    if (!c)
        return false;
    flags = spin_lock_irq(&c->lock);
    perf_count(event_pirqs);
    ours = c->state == EVT_PIRQ && c->pirq == pirq;
    if (ours)
        evtchn_set_pending(d, c, port);
    spin_unlock_irq(&c->lock, flags);
    return ours;
}

bool evtchn_is_pending(struct domain *d, port_t port, bool *valid)
{
    struct evtchn *c = evtchn_find(d, port.v);
    unsigned long flags;
    bool pending;

    *valid = c != NULL;
    if (!c)
        return false;
    flags = spin_lock_irq(&c->lock);
    pending = c->state > EVT_RESERVED && evtchn_pending(d, c, port.v);
    spin_unlock_irq(&c->lock, flags);
    return pending;
}

/* EVTCHNOP_unmask; for a PIRQ it also ends the interrupt. -EINVAL: no open port. */
int evtchn_unmask(struct domain *d, uint32_t port)
{
    struct evtchn *c = evtchn_find(d, port);
    struct evtchn_fifo_domain *f;
    bool ends_irq = false;
    uint32_t pirq = 0;
    unsigned long flags;
    int r = -EINVAL;

    if (!c)
        return r;
    flags = spin_lock_irq(&c->lock);
    if (c->state > EVT_RESERVED && !c->own) {
        r = 0;
        f = evtchn_fifo(d);
        if (f)
            fifo_unmask(d, f, c, port);
        else
            level2_unmask(d, c, port);
        ends_irq = c->state == EVT_PIRQ;
        pirq = c->pirq;
    }
    spin_unlock_irq(&c->lock, flags);
    if (ends_irq)
        arch_pirq_unmask(d, pirq);
    return r;
}
