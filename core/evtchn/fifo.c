/*
 * FIFO delivery (xen/event_channel.h): each vCPU has 16 queues by priority; a queue is a list of event words
 * in guest memory, chained by their LINK fields, with its head in the vCPU's control block. The guest takes
 * from the head, we add at the tail, without a lock between us:
 *
 *   add p:  set LINKED in word(p); if the tail's word still is LINKED, put p into its LINK field: chained.
 * Otherwise the guest has taken the tail, the queue is empty: write p to head, set the queue's bit in
 * `ready`, tell the vCPU. take:   the guest clears LINKED and LINK of the head's word in one exchange; LINK
 * was the next one, or 0: empty.
 *
 * Invariants
 *  1. A word is linked by us only while not LINKED; so it is in one queue at most, unless the guest forges
 * that.
 *  2. queue.tail is 0 or the port linked into this queue last; a port that is linked anew is no queue's tail
 * before.
 *  3. Nothing is read from a LINK field and no list is followed: what the guest writes cannot lead us
 * anywhere. Exchanges on guest words are tried a few times; a guest that keeps writing them loses its own
 * event.
 *
 * Two setters of one port (its peer's send, its own unmask) meet at the lock of the queue that the port was
 * linked into last (last_vcpu, last_priority); moving to another queue takes both locks.
 */
#include "private.h"
#include "core/log.h"

#define BIT32(n)   (1u << (n))
#define LINK_TRIES 4

static struct fifo_queue *queue_of(const struct domain *d, unsigned vcpu, unsigned priority)
{
    const struct vcpu *v = domain_vcpu(d, vcpu);
    struct evtchn_fifo_vcpu *f = v ? __atomic_load_n(&v->evtchn.fifo, __ATOMIC_ACQUIRE) : NULL;

    return f ? &f->queue[priority % EVTCHN_FIFO_MAX_QUEUES] : NULL;
}

struct link {
    struct vcpu *vcpu;
    struct fifo_queue *queue, *old; /* both locked; old == queue: one lock */
    unsigned priority;
};

static void lock_both(const struct evtchn *c, const struct link *l)
{
    bool old_first =
        c->last_vcpu < l->vcpu->id || (c->last_vcpu == l->vcpu->id && c->last_priority < l->priority);

    if (l->old == l->queue) {
        spin_lock(&l->queue->lock);
        return;
    }
    spin_lock(old_first ? &l->old->lock : &l->queue->lock);
    spin_lock_second(old_first ? &l->queue->lock : &l->old->lock);
}

static void unlock_both(const struct link *l)
{
    spin_unlock(&l->queue->lock);
    if (l->old != l->queue)
        spin_unlock(&l->old->lock);
}

/* Locks the queue the port belongs into and the one it was in last. False: its vCPU has no queues. */
static bool queues_lock(const struct domain *d, const struct evtchn *c, struct link *l)
{
    for (unsigned tries = 0; tries < LINK_TRIES; tries++) {
        unsigned vcpu = __atomic_load_n(&c->last_vcpu, __ATOMIC_RELAXED);
        unsigned priority = __atomic_load_n(&c->last_priority, __ATOMIC_RELAXED);

        l->vcpu = domain_vcpu(d, __atomic_load_n(&c->notify_vcpu, __ATOMIC_RELAXED));
        l->priority = __atomic_load_n(&c->priority, __ATOMIC_RELAXED);
        l->queue = l->vcpu ? queue_of(d, l->vcpu->id, l->priority) : NULL;
        if (!l->queue)
            return false;
        l->old = queue_of(d, vcpu, priority);
        if (!l->old)
            l->old = l->queue;
        lock_both(&(struct evtchn){.last_vcpu = (uint16_t)vcpu, .last_priority = (uint8_t)priority}, l);
        if (c->last_vcpu == vcpu && c->last_priority == priority)
            return true;
        unlock_both(l); /* another setter moved it */
    }
    return false;
}

/* Puts `port` into the LINK field of a word that is LINKED. False: it is not, the queue has run empty. */
static bool chain(event_word_t *tail, uint32_t port)
{
    event_word_t w = __atomic_load_n(tail, __ATOMIC_RELAXED), to;

    for (unsigned tries = 0; tries < LINK_TRIES; tries++) {
        if (!(w & BIT32(EVTCHN_FIFO_LINKED)))
            break;
        to = (w & ~(BIT32(EVTCHN_FIFO_BUSY) | EVTCHN_FIFO_LINK_MASK)) | port;
        if (__atomic_compare_exchange_n(tail, &w, to, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return true;
        if (!tries) /* asks the guest to leave the word alone for a moment */
            w = __atomic_or_fetch(tail, BIT32(EVTCHN_FIFO_BUSY), __ATOMIC_SEQ_CST);
    }
    if (w & BIT32(EVTCHN_FIFO_BUSY))
        (void)__atomic_fetch_and(tail, ~BIT32(EVTCHN_FIFO_BUSY), __ATOMIC_SEQ_CST);
    /* Still LINKED: the event is lost, by the guest's own doing. Not "empty": its head would be overwritten. */
    return w & BIT32(EVTCHN_FIFO_LINKED);
}

/* Queues locked, the word was just made LINKED by us. True if the queue was empty. */
static bool append(struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port, const struct link *l)
{
    event_word_t *tail;
    bool chained;

    if (l->old->tail == port)
        l->old->tail = 0;
    __atomic_store_n(&c->last_vcpu, (uint16_t)l->vcpu->id, __ATOMIC_RELAXED);
    __atomic_store_n(&c->last_priority, (uint8_t)l->priority, __ATOMIC_RELAXED);
    tail = l->queue->tail ? fifo_word(f, l->queue->tail) : NULL;
    chained = tail && chain(tail, port);
    l->queue->tail = port;
    return !chained;
}

static void link_event(struct domain *d, struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port,
                       event_word_t *word)
{
    struct evtchn_fifo_control_block *block;
    struct link l;
    event_word_t w;

    if (!queues_lock(d, c, &l))
        return;
    w = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (w & (BIT32(EVTCHN_FIFO_LINKED) | BIT32(EVTCHN_FIFO_MASKED))) {
        unlock_both(&l);
        return;
    }
    (void)__atomic_fetch_or(word, BIT32(EVTCHN_FIFO_LINKED), __ATOMIC_SEQ_CST);
    block = l.vcpu->evtchn.fifo->block;
    if (!append(f, c, port, &l)) {
        unlock_both(&l);
        return;
    }
    /* The exchange is also the barrier between head and the look at ready. */
    (void)__atomic_exchange_n(&block->head[l.priority], port, __ATOMIC_SEQ_CST);
    unlock_both(&l);
    if (!((__atomic_load_n(&block->ready, __ATOMIC_RELAXED) >> l.priority) & 1)) {
        (void)__atomic_fetch_or(&block->ready, BIT32(l.priority), __ATOMIC_SEQ_CST);
        vcpu_mark_events_pending(l.vcpu);
    }
}

/* The event word, or NULL after noting that the event waits for it. */
static event_word_t *word_or_note(const struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port)
{
    event_word_t *word = fifo_word(f, port);

    if (likely(word))
        return word;
    __atomic_store_n(&c->unsent, true, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return fifo_word(f, port); /* the page may have come before the note could be seen */
}

void fifo_set_pending(struct domain *d, struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port)
{
    event_word_t *word = word_or_note(f, c, port), w;
    bool was;

    if (!word) {
        evtchn_wake_pollers(d, port); /* for them it is pending now (evtchn_pending) */
        return;
    }
    w = __atomic_load_n(word, __ATOMIC_RELAXED);
    was = w & BIT32(EVTCHN_FIFO_PENDING);
    if (!was)
        (void)__atomic_fetch_or(word, BIT32(EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
    w = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (!(w & (BIT32(EVTCHN_FIFO_MASKED) | BIT32(EVTCHN_FIFO_LINKED))))
        link_event(d, f, c, port, word);
    if (!was)
        evtchn_wake_pollers(d, port);
}

void fifo_unmask(struct domain *d, struct evtchn_fifo_domain *f, struct evtchn *c, uint32_t port)
{
    event_word_t *word = fifo_word(f, port);

    if (!word)
        return;
    (void)__atomic_fetch_and(word, ~BIT32(EVTCHN_FIFO_MASKED), __ATOMIC_SEQ_CST);
    if (fifo_word_test(word, EVTCHN_FIFO_PENDING))
        fifo_set_pending(d, f, c, port);
}
