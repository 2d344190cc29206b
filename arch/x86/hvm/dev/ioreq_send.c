/*
 * Requests to device models and their answers (xen/hvm/ioreq.h).
 *
 *   NONE --send, Krypton--> READY --device model--> INPROCESS --device model--> IORESP_READY --answered, Krypton--> NONE
 *
 * Invariants
 *  1. The pages are the device model's to write, at any time. Nothing is read from them but the state and the answer's value, each once,
 *     and the ring's two pointers, which choose a slot by remainder. A state that no device model gives ends the guest that it serves.
 *  2. One request of a vCPU at a time. It is found again only by the serial of the server it was sent to.
 * Locks: ring_lock. Servers are read without: they do not change while a vCPU of the domain runs (ioreq_server.c).
 */
#include "ioreq_private.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/p2m.h"

#define PCI_ADDRESS  0xcf8
#define PCI_DATA     0xcfc
#define PCI_ENABLE   0x80000000u
#define VGA_FIRST    0xa0000ull
#define VGA_LAST     0xbffffull
#define ATOMIC_TRIES 4u

/* State and three flags share a byte. */
#define FLAGS_AT     (offsetof(struct ioreq, type) - 1)
#define STATE        15u
_Static_assert(sizeof(struct ioreq) == 32 && FLAGS_AT == 30, "xen/hvm/ioreq.h");
_Static_assert(sizeof(struct buffered_iopage) <= FRAME_SIZE, "xen/hvm/ioreq.h");
_Static_assert(MAX_VCPUS * sizeof(struct ioreq) <= FRAME_SIZE, "one page has a request of every vCPU");

static uint8_t *flags_of(struct ioreq *r)
{
    return (uint8_t *)r + FLAGS_AT;
}

static struct ioreq *slot_of(const struct ioreq_server *s, const struct vcpu *v)
{
    return &((struct shared_iopage *)s->sync.va)->vcpu_ioreq[v->id];
}

/* --- which server --- */

/* What is asked for, as ranges are: type and the first and last number. */
struct claim {
    uint32_t type;
    uint64_t first, last;
};

/*
 * The PCI register that a names: what was written to PCI_ADDRESS, read once, as another vCPU may write it meanwhile. 0: a is no access to
 * a function's configuration.
 */
static uint32_t pci_register(const struct hvm_ioreq *q, const struct hvm_access *a)
{
    uint32_t latched = __atomic_load_n(&q->pci_address, __ATOMIC_RELAXED);

    if (a->space != HVM_PORT || (a->address & ~3ull) != PCI_DATA || a->count != 1)
        return 0;
    return latched & PCI_ENABLE ? latched : 0;
}

static uint64_t pci_function(uint32_t pci)
{
    return pci >> 8 & 0xffff;
}

static struct claim claim_of(uint32_t pci, const struct hvm_access *a)
{
    uint64_t more = (uint64_t)a->bytes * (a->count - 1);

    if (pci)
        return (struct claim){XEN_DMOP_IO_RANGE_PCI, pci_function(pci), pci_function(pci)};
    if (a->space == HVM_PORT)
        return (struct claim){XEN_DMOP_IO_RANGE_PORT, a->address, a->address + a->bytes - 1};
    return (struct claim){XEN_DMOP_IO_RANGE_MEMORY, a->address - (a->down ? more : 0),
                          a->address + a->bytes - 1 + (a->down ? 0 : more)};
}

/* NULL: there is none of this number. */
static bool ready(const struct ioreq_server *s)
{
    return s && s->enabled && s->sync.va;
}

static bool serves(struct ioreq_server *s, const struct claim *c)
{
    return ready(s) && rangeset_contains(&s->range[c->type], c->first, c->last);
}

/* Later ones come first: special device models are started beside the general one. */
static int server_for(struct domain *d, const struct hvm_ioreq *q, uint32_t pci, const struct hvm_access *a)
{
    struct claim c = claim_of(pci, a);
    struct p2m_entry e;

    if (q->memory_server >= 0 && a->space == HVM_MEMORY && a->write) {
        p2m_look(d, GFN(a->address >> FRAME_SHIFT), &e);
        if (e.type == P2M_RAM_DM)
            return ready(q->server[q->memory_server]) ? q->memory_server : -1;
    }
    for (int i = IOREQ_SERVERS - 1; i >= 0; i--)
        if (serves(q->server[i], &c))
            return i;
    return -1;
}

/* --- the ring --- */

/* Where it begins again does not divide 2^32: both pointers go back together before they get there. */
static void ring_rewind(struct buffered_iopage *p)
{
    uint64_t *both = (uint64_t *)p, old = __atomic_load_n(both, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < ATOMIC_TRIES; i++) {
        uint32_t read = (uint32_t)old, write = (uint32_t)(old >> 32);
        uint32_t less = read - read % IOREQ_BUFFER_SLOT_NUM;

        if (!less || __atomic_compare_exchange_n(both, &old, (uint64_t)(write - less) << 32 | (read - less),
                                                 false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return;
    }
}

static bool ring_put(struct ioreq_server *s, const struct buf_ioreq *b, unsigned n)
{
    struct buffered_iopage *p = s->ring.va;
    uint32_t write = __atomic_load_n(&p->write_pointer, __ATOMIC_RELAXED);
    uint32_t used = write - __atomic_load_n(&p->read_pointer, __ATOMIC_ACQUIRE);

    if (used > IOREQ_BUFFER_SLOT_NUM - n)
        return false;
    for (unsigned i = 0; i < n; i++)
        p->buf_ioreq[(write + i) % IOREQ_BUFFER_SLOT_NUM] = b[i];
    __atomic_store_n(&p->write_pointer, write + n, __ATOMIC_SEQ_CST);
    if (s->buffering == HVM_IOREQSRV_BUFIOREQ_ATOMIC)
        ring_rewind(p);
    return true;
}

/* False: no ring, or it is full. */
static bool buffered(struct domain *d, struct ioreq_server *s, uint8_t type, uint64_t address, unsigned bytes,
                     uint64_t value)
{
    struct buf_ioreq b[2] = {{.type = type,
                              .dir = IOREQ_WRITE,
                              .size = bytes == 8 ? 3 : bytes / 2 & 3,
                              .addr = address & 0xfffff,
                              .data = (uint32_t)value}};
    bool ok;

    if (!s->ring.va)
        return false;
    b[1] = b[0];
    b[1].data = (uint32_t)(value >> 32);
    spin_lock(&s->ring_lock);
    ok = ring_put(s, b, bytes == 8 ? 2 : 1);
    spin_unlock(&s->ring_lock);
    if (ok)
        evtchn_own_send(d, s->ring_port);
    return ok;
}

/* --- one request that is waited for --- */

static struct ioreq request_of(uint32_t pci, const struct hvm_access *a)
{
    struct ioreq r = {.addr = a->address,
                      .data = a->value,
                      .count = a->count,
                      .size = a->bytes,
                      .state = STATE_IOREQ_READY,
                      .data_is_ptr = a->pointer,
                      .dir = a->write ? IOREQ_WRITE : IOREQ_READ,
                      .df = a->down,
                      .type = a->space == HVM_PORT ? IOREQ_TYPE_PIO : IOREQ_TYPE_COPY};

    if (pci) {
        r.type = IOREQ_TYPE_PCI_CONFIG;
        r.addr = pci_function(pci) << 32 | (pci & 0xfc) | (a->address & 3);
    }
    return r;
}

/* False: the guest is ended. */
static bool put(struct vcpu *v, struct hvm_io *io, int id, struct ioreq *r)
{
    struct ioreq_server *s = ioreq_of(v->domain)->server[id];
    struct ioreq *slot = slot_of(s, v);
    uint8_t flags;

    if (__atomic_load_n(flags_of(slot), __ATOMIC_ACQUIRE) & STATE) {
        domain_crash(v->domain, "vCPU %u: the device model has a request that nobody made", v->id);
        return false;
    }
    r->vp_eport = s->port[v->id].v;
    memcpy(slot, r, FLAGS_AT);
    slot->type = r->type;
    memcpy(&flags, flags_of(r), 1);
    __atomic_store_n(flags_of(slot), flags, __ATOMIC_SEQ_CST);
    io->sent = true;
    hvm_attend(v);
    io->server = (uint8_t)id;
    io->serial = s->serial;
    evtchn_own_send(v->domain, s->port[v->id]);
    return true;
}

static bool may_wait_in_ring(const struct hvm_access *a)
{
    return a->space == HVM_MEMORY && a->write && a->count == 1 && !a->pointer && a->address >= VGA_FIRST &&
           a->address + a->bytes - 1 <= VGA_LAST;
}

static void latch_pci_address(struct hvm_ioreq *q, const struct hvm_access *a)
{
    if (a->space == HVM_PORT && a->write && a->address == PCI_ADDRESS && a->bytes == 4 && !a->pointer)
        __atomic_store_n(&q->pci_address, (uint32_t)a->value, __ATOMIC_RELAXED);
}

enum ioreq_result ioreq_send(struct vcpu *v, struct hvm_io *io, const struct hvm_access *a)
{
    struct hvm_ioreq *q = ioreq_of(v->domain);
    struct ioreq_server *s;
    struct ioreq r;
    uint32_t pci;
    int id;

    if (!q)
        return IOREQ_NOBODY;
    latch_pci_address(q, a);
    pci = pci_register(q, a);
    id = server_for(v->domain, q, pci, a);
    if (id < 0)
        return IOREQ_NOBODY;
    s = q->server[id];
    if (!s->port[v->id].v)
        return IOREQ_NOBODY;
    if (may_wait_in_ring(a) && buffered(v->domain, s, IOREQ_TYPE_COPY, a->address, a->bytes, a->value))
        return IOREQ_DONE;
    r = request_of(pci, a);
    io->asked = *a;
    io->telling = false;
    return put(v, io, id, &r) ? IOREQ_SENT : IOREQ_NOBODY;
}

/* --- answers --- */

bool ioreq_answered(struct vcpu *v, struct hvm_io *io)
{
    struct hvm_ioreq *q = ioreq_of(v->domain);
    struct ioreq_server *s = q ? q->server[io->server] : NULL;
    struct ioreq *slot;
    unsigned state;

    io->asked.value = ~0ull;
    if (s && s->serial == io->serial) {
        slot = slot_of(s, v);
        state = __atomic_load_n(flags_of(slot), __ATOMIC_ACQUIRE) & STATE;
        if (state == STATE_IOREQ_READY || state == STATE_IOREQ_INPROCESS)
            return false;
        if (state == STATE_IORESP_READY) {
            io->asked.value = __atomic_load_n(&slot->data, __ATOMIC_RELAXED);
            __atomic_store_n(flags_of(slot), STATE_IOREQ_NONE, __ATOMIC_RELEASE);
        } else if (state !=
                   STATE_IOREQ_NONE) { /* none: a device model that is about to go has cleared its page */
            domain_crash(v->domain, "vCPU %u: the device model gives its request the state %u", v->id, state);
        }
    }
    io->sent = false;
    return true;
}

/* --- what device models are told --- */

void ioreq_invalidate(struct vcpu *v, struct hvm_io *io)
{
    const struct hvm_ioreq *q = ioreq_of(v->domain);

    for (unsigned i = 0; q && i < IOREQ_SERVERS; i++)
        if (q->server[i] && q->server[i]->enabled)
            io->tell |= (uint8_t)(1u << i);
    hvm_attend(v);
}

void ioreq_tell(struct vcpu *v, struct hvm_io *io)
{
    const struct hvm_ioreq *q = ioreq_of(v->domain);
    struct ioreq r = {.data = ~0ull,
                      .count = 1,
                      .size = 4,
                      .state = STATE_IOREQ_READY,
                      .dir = IOREQ_WRITE,
                      .type = IOREQ_TYPE_INVALIDATE};

    while (io->tell) {
        int id = __builtin_ctz(io->tell);
        const struct ioreq_server *s = q->server[id];

        io->tell &= (uint8_t)(io->tell - 1);
        if (!ready(s) || !s->port[v->id].v)
            continue;
        io->telling = true;
        if (put(v, io, id, &r))
            return;
    }
}

void ioreq_tell_clock(struct vcpu *v, struct hvm_io *io)
{
    const struct hvm_ioreq *q = ioreq_of(v->domain);

    io->clock_set = false;
    for (unsigned i = 0; q && i < IOREQ_SERVERS; i++)
        if (q->server[i] && q->server[i]->enabled)
            (void)buffered(v->domain, q->server[i], IOREQ_TYPE_TIMEOFFSET, 0, 8, (uint64_t)io->clock);
}

bool ioreq_any(const struct domain *d)
{
    return ioreq_of(d) != NULL;
}
