/*
 * Ports of physical interrupts. The architecture owns the lines and PIRQ numbers (arch_pirq_*); here is only
 * which port of a domain a PIRQ rings, in pages of slots that exist from the first binding on (invariant 3 in
 * evtchn.c).
 */
#include "private.h"
#include "core/frame.h"
#include "core/log.h"
#include "arch/guest_ops.h"

#define SLOTS_PER_PAGE (FRAME_SIZE / sizeof(uint32_t))

uint32_t *evtchn_pirq_slot(const struct domain *d, uint32_t pirq)
{
    uint32_t *page;

    if (pirq >= EVTCHN_MAX_PIRQ)
        return NULL;
    pirq = (uint32_t)array_index(pirq, EVTCHN_MAX_PIRQ);
    page = __atomic_load_n(&d->evtchn.pirq_page[pirq / SLOTS_PER_PAGE], __ATOMIC_ACQUIRE);
    return page ? &page[pirq % SLOTS_PER_PAGE] : NULL;
}

static uint32_t *slot_make(struct domain *d, uint32_t pirq)
{
    uint32_t **at = &d->evtchn.pirq_page[pirq / SLOTS_PER_PAGE], *none = NULL, *page;

    if (!__atomic_load_n(at, __ATOMIC_ACQUIRE)) {
        page = frame_alloc_va(0);
        if (!page)
            return NULL;
        if (!__atomic_compare_exchange_n(at, &none, page, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            frame_free_va(page, 0);
    }
    return evtchn_pirq_slot(d, pirq);
}

void evtchn_pirq_free(struct domain *d)
{
    for (unsigned i = 0; i < EVTCHN_PIRQ_PAGES; i++) {
        if (d->evtchn.pirq_page[i])
            frame_free_va(d->evtchn.pirq_page[i], 0);
        d->evtchn.pirq_page[i] = NULL;
    }
}

/* The slot belongs to the port from here on, though it does not ring yet. */
static int slot_claim(struct domain *d, uint32_t *slot, uint32_t port)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);
    int r = *slot ? -EEXIST : 0;

    if (!r)
        __atomic_store_n(slot, port, __ATOMIC_RELEASE);
    spin_unlock_irq(&d->evtchn.lock, flags);
    return r;
}

static void port_drop(struct domain *d, struct evtchn *c, uint32_t port, uint32_t *slot)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);

    spin_lock(&c->lock);
    if (slot)
        __atomic_store_n(slot, 0, __ATOMIC_RELAXED);
    evtchn_port_release(d, c, port);
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
}

/* The port rings from here on; `remote` marks that its line is not ours yet, so that nobody closes it. */
static void port_arm(struct domain *d, struct evtchn *c, uint32_t pirq)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);

    spin_lock(&c->lock);
    c->pirq = pirq;
    c->remote = d;
    evtchn_state_set(c, EVT_PIRQ);
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
}

static void port_armed(struct domain *d, struct evtchn *c)
{
    unsigned long flags = spin_lock_irq(&d->evtchn.lock);

    spin_lock(&c->lock);
    c->remote = NULL;
    spin_unlock(&c->lock);
    spin_unlock_irq(&d->evtchn.lock, flags);
}

/*
 * The port is PIRQ before the line is let through, so that no interrupt finds it shut. -EINVAL, -EPERM,
 * -EEXIST, -ENOMEM, -ENOSPC and what arch_pirq_bind says.
 */
int evtchn_bind_pirq(struct vcpu *v, uint32_t pirq, bool share, port_t *out)
{
    struct domain *d = v->domain;
    struct evtchn *c;
    uint32_t port, *slot;
    int r;

    if (pirq >= EVTCHN_MAX_PIRQ)
        return -EINVAL;
    if (!arch_pirq_allowed(d, pirq))
        return -EPERM;
    slot = slot_make(d, pirq);
    if (!slot)
        return -ENOMEM;
    r = evtchn_port_alloc(d, &c, &port);
    if (r)
        return r;
    r = slot_claim(d, slot, port);
    if (r) {
        port_drop(d, c, port, NULL);
        return r;
    }
    port_arm(d, c, pirq);
    r = arch_pirq_bind(v, pirq, share);
    if (r) {
        port_drop(d, c, port, slot);
        return r;
    }
    port_armed(d, c);
    *out = PORT(port);
    return 0;
}
