/*
 * Port numbers: which exist, which are free (evtchn.c has the theory).
 *
 * Memory for ports comes in buckets of 128. Allocating memory is not allowed under evtchn.lock, so a caller
 * that finds no free number leaves the lock, allocates a bucket and tries again with it in hand.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/console.h"
#include "core/log.h"
#include "lib/bitmap.h"

/* How many closed ports that the guest still has linked in a FIFO queue we look at before taking fresh
 * numbers. */
#define BUSY_MAX 128

uint32_t evtchn_port_limit(const struct domain *d)
{
    return MIN(d->evtchn.max_port + 1, evtchn_fifo(d) ? EVTCHN_FIFO_PORTS : level2_ports(d));
}

int evtchn_domain_init(struct domain *d, unsigned max_port)
{
    struct evtchn_domain *e = &d->evtchn;
    unsigned buckets;

    spin_init(&e->lock, RANK_EVTCHN);
    e->max_port = MIN(max_port, EVTCHN_FIFO_PORTS - 1);
    buckets = e->max_port / EVTCHN_PER_BUCKET + 1;
    e->bucket = mem_alloc_array(buckets, sizeof(void *));
    e->free = mem_alloc_array(buckets, EVTCHN_PER_BUCKET / 8);
    if (e->bucket && e->free) {
        if (d->hardware) /* once, at boot */
            debug_key_register('e', "event channels", evtchn_dump);
        return 0;
    }
    mem_free(e->bucket);
    mem_free(e->free);
    e->bucket = NULL;
    e->free = NULL;
    return -ENOMEM;
}

void evtchn_domain_free(struct domain *d)
{
    struct evtchn_domain *e = &d->evtchn;

    BUG_ON(e->fifo);
    for (unsigned i = 0; i < e->bucket_count; i++)
        mem_free(e->bucket[i]);
    evtchn_pirq_free(d);
    mem_free(e->bucket);
    mem_free(e->free);
    e->bucket = NULL;
    e->free = NULL;
    e->bucket_count = e->valid_ports = 0;
}

static struct evtchn *bucket_new(void)
{
    struct evtchn *b = mem_alloc_array(EVTCHN_PER_BUCKET, sizeof(*b));

    for (unsigned i = 0; b && i < EVTCHN_PER_BUCKET; i++) {
        spin_init(&b[i].lock, RANK_EVTCHN_PORT);
        b[i].priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
    }
    return b;
}

/* Lock held. */
static void bucket_add(struct domain *d, struct evtchn *b)
{
    struct evtchn_domain *e = &d->evtchn;
    uint32_t first = e->bucket_count * EVTCHN_PER_BUCKET;

    e->bucket[e->bucket_count++] = b;
    bitmap_set_range(e->free, first, EVTCHN_PER_BUCKET);
    if (!first)
        bitmap_clear(e->free, 0); /* port 0 means "no port" */
    e->first_free = MIN(e->first_free, first / 64);
    __atomic_store_n(&e->valid_ports, MIN(first + EVTCHN_PER_BUCKET, e->max_port + 1), __ATOMIC_RELEASE);
}

/* A guest that closed a port may still have it linked in a queue; it would be delivered with the old
 * priority. */
static bool still_linked(const struct domain *d, uint32_t port)
{
    const struct evtchn_fifo_domain *f = d->evtchn.fifo;
    const event_word_t *w = f ? fifo_word(f, port) : NULL;

    return w && fifo_word_test(w, EVTCHN_FIFO_LINKED);
}

/* Lock held. The lowest free number below the limit, or 0. */
static uint32_t free_find(struct domain *d)
{
    struct evtchn_domain *e = &d->evtchn;
    uint32_t end = MIN(e->valid_ports, evtchn_port_limit(d)), port = e->first_free * 64, busy = 0;

    while (port < end && busy++ < BUSY_MAX) {
        port = (uint32_t)bitmap_next(e->free, end, port);
        if (busy == 1)
            e->first_free = MIN(port, end) / 64;
        if (port < end && !still_linked(d, port))
            return port;
        port++;
    }
    return 0;
}

/* Lock held. -ENOBUFS: a bucket more would help. */
static int take(struct domain *d, struct evtchn **c, uint32_t *port)
{
    struct evtchn_domain *e = &d->evtchn;

    if (domain_is_dying(d))
        return -EINVAL;
    *port = free_find(d);
    if (!*port)
        return e->bucket_count * EVTCHN_PER_BUCKET < evtchn_port_limit(d) ? -ENOBUFS : -ENOSPC;
    bitmap_clear(e->free, *port);
    *c = &e->bucket[*port / EVTCHN_PER_BUCKET][*port % EVTCHN_PER_BUCKET];
    BUG_ON((*c)->state != EVT_FREE);
    spin_lock(&(*c)->lock); /* senders look at it under its lock alone */
    evtchn_state_set(*c, EVT_RESERVED);
    spin_unlock(&(*c)->lock);
    e->active++;
    return 0;
}

int evtchn_port_alloc(struct domain *d, struct evtchn **c, uint32_t *port)
{
    struct evtchn *fresh = NULL;
    unsigned long flags;
    int r;

    if (!d->evtchn.bucket)
        return -EINVAL;
    flags = spin_lock_irq(&d->evtchn.lock);
    r = take(d, c, port);
    if (r == -ENOBUFS) {
        spin_unlock_irq(&d->evtchn.lock, flags);
        fresh = bucket_new();
        if (!fresh)
            return -ENOMEM;
        flags = spin_lock_irq(&d->evtchn.lock);
        r = take(d, c, port); /* another CPU may have been here meanwhile */
        if (r == -ENOBUFS) {
            bucket_add(d, fresh);
            fresh = NULL;
            r = take(d, c, port);
        }
    }
    spin_unlock_irq(&d->evtchn.lock, flags);
    mem_free(fresh);
    return r == -ENOBUFS ? -ENOSPC : r;
}

/* Lock held, and the port's. */
void evtchn_port_release(struct domain *d, struct evtchn *c, uint32_t port)
{
    struct evtchn_domain *e = &d->evtchn;

    spin_assert_held(&e->lock);
    spin_assert_held(&c->lock);
    evtchn_state_set(c, EVT_FREE);
    e->own -= c->own;
    __atomic_store_n(&c->own, false, __ATOMIC_RELAXED);
    c->remote = NULL;
    c->remote_port = 0;
    __atomic_store_n(&c->notify_vcpu, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&c->priority, EVTCHN_FIFO_PRIORITY_DEFAULT, __ATOMIC_RELAXED);
    evtchn_clear_pending(d, c, port);
    bitmap_set(e->free, port);
    e->first_free = MIN(e->first_free, port / 64);
    e->active--;
}
