/*
 * dm_op (xen/hvm/dm_op.h): what a device model does to the domain that it serves.
 *
 * The caller gives buffers in its own memory; the first one holds the operation. It is copied in once, as long as the operation's
 * arguments are, and goes back where an operation answers in it. Long work keeps its place in the operation itself, as the interface has
 * it: what comes back with the call is hostile again.
 *
 * Invariants
 *  1. The domain is another one than the caller's, translated, and held while the operation runs.
 *  2. Nothing here trusts the device model more than this: it may do to its domain whatever ends in that domain.
 */
#include "private.h"
#include "dev/irq.h"
#include "core/guest.h"
#include "core/hypercall.h"
#include "core/memory_op.h"
#include "core/nospec.h"
#include "core/sched.h"
#include "core/work.h"
#include "arch/guest_ops.h"
#include "lib/string.h"
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>

#define BUFS_MAX      2u
#define PAGES_AT_ONCE 256u
#define VRAM_MAX      (1u << 15) /* pages of one track_dirty_vram: it is not divided */

struct dm_call {
    struct hypercall hc; /* first */
    struct domain *d;
    struct xen_dm_op op; /* private copy */
    struct xen_dm_op_buf buf[BUFS_MAX];
    bool write_back;
};

static struct dm_call *dm_of(struct hypercall *hc)
{
    return container_of(hc, struct dm_call, hc);
}

/* Element i of the second buffer, all of it inside. */
static long element(struct dm_call *c, uint64_t i, void *to, size_t bytes)
{
    if (i >= c->buf[1].size / bytes)
        return -EINVAL;
    return guest_read_at(c->hc.caller, to, GVA((uint64_t)c->buf[1].h.p), i, bytes);
}

/* --- ioreq servers --- */

static long op_create(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    struct xen_dm_op_create_ioreq_server *a = &c->op.u.create_ioreq_server;

    c->write_back = true;
    if (a->pad[0] || a->pad[1] || a->pad[2])
        return -EINVAL;
    return ioreq_create(c->d, hc->caller->domain->id, a->handle_bufioreq, &a->id);
}

static long op_info(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    struct xen_dm_op_get_ioreq_server_info *a = &c->op.u.get_ioreq_server_info;
    struct ioreq_info info;
    long r;

    if (a->flags & ~XEN_DMOP_no_gfns)
        return -EINVAL;
    r = ioreq_info(c->d, a->id, !(a->flags & XEN_DMOP_no_gfns), &info);
    if (r)
        return r;
    a->bufioreq_port = info.buffered_port;
    a->ioreq_gfn = info.sync_gfn;
    a->bufioreq_gfn = info.buffered_gfn;
    c->write_back = true;
    return 0;
}

static long range(struct dm_call *c, const struct xen_dm_op_ioreq_server_range *a, bool map)
{
    return a->pad ? -EINVAL : ioreq_range(c->d, a->id, a->type, a->start, a->end, map);
}

static long op_map_range(struct hypercall *hc)
{
    return range(dm_of(hc), &dm_of(hc)->op.u.map_io_range_to_ioreq_server, true);
}

static long op_unmap_range(struct hypercall *hc)
{
    return range(dm_of(hc), &dm_of(hc)->op.u.unmap_io_range_from_ioreq_server, false);
}

static long op_state(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_set_ioreq_server_state *a = &c->op.u.set_ioreq_server_state;

    return a->pad ? -EINVAL : ioreq_set_state(c->d, a->id, a->enabled);
}

static long op_destroy(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_destroy_ioreq_server *a = &c->op.u.destroy_ioreq_server;

    return a->pad ? -EINVAL : ioreq_destroy(c->d, a->id);
}

/* Memory of that type becomes ordinary again, from number *from on. -EAGAIN: again. */
static long untype_all(struct domain *d, uint64_t *from)
{
    uint64_t last = p2m_highest(d).n;
    struct p2m_entry e;

    while (*from <= last) {
        p2m_look(d, GFN(*from), &e);
        if (e.type == P2M_RAM_DM && p2m_change_type(d, GFN(*from), P2M_RAM_DM, P2M_RAM))
            return -ENOMEM;
        *from = (*from & ~((1ull << e.order) - 1)) + (1ull << e.order);
        if (preempt_needed())
            return -EAGAIN;
    }
    return 0;
}

static long op_memory_type(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    struct xen_dm_op_map_mem_type_to_ioreq_server *a = &c->op.u.map_mem_type_to_ioreq_server;
    long r;

    if (a->type != HVMMEM_ioreq_server || a->flags & ~XEN_DMOP_IOREQ_MEM_ACCESS_WRITE ||
        (a->flags && a->opaque))
        return -EINVAL;
    if (!a->opaque) {
        r = ioreq_map_memory_type(c->d, a->id, a->flags);
        if (r || a->flags)
            return r;
    }
    r = untype_all(c->d, &a->opaque);
    c->write_back = r == -EAGAIN;
    return r == -EAGAIN ? HC_AGAIN : r;
}

/* --- interrupts and events --- */

static long op_intx(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_set_pci_intx_level *a = &c->op.u.set_pci_intx_level;

    if (a->domain || a->bus || a->level > 1)
        return -EINVAL;
    return hvm_pci_intx(c->d, a->bus, a->device, a->intx, a->level);
}

static long op_isa_irq(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_set_isa_irq_level *a = &c->op.u.set_isa_irq_level;

    return a->level > 1 ? -EINVAL : hvm_isa_irq(c->d, a->isa_irq, a->level);
}

static long op_link(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_set_pci_link_route *a = &c->op.u.set_pci_link_route;

    return hvm_pci_link_route(c->d, a->link, a->isa_irq);
}

static long op_msi(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_inject_msi *a = &c->op.u.inject_msi;

    return a->pad ? -EINVAL : hvm_inject_msi(c->d, a->addr, a->data);
}

static long op_event(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_inject_event *a = &c->op.u.inject_event;
    struct vcpu *v = domain_vcpu(c->d, a->vcpuid);
    struct hvm_event e = {.valid = true, .vector = a->vector};

    if (!v || a->pad0 || a->pad1)
        return -EINVAL;
    switch (a->type) {
    case XEN_DMOP_EVENT_nmi:
        return hvm_vcpu_nmi(v);
    case XEN_DMOP_EVENT_ext_int:
        e.type = HVM_EVENT_IRQ;
        return a->vector < 16 ? -EINVAL : hvm_ask_event(v, &e, 0);
    case XEN_DMOP_EVENT_hw_exc:
        e.type = HVM_EVENT_EXCEPTION;
        e.has_error = a->error_code != ~0u;
        e.error = e.has_error ? a->error_code : 0;
        return a->vector >= 32 || a->vector == TRAP_NMI ? -EINVAL : hvm_ask_event(v, &e, a->cr2);
    default:
        return -EOPNOTSUPP;
    }
}

static long op_shutdown(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    uint32_t reason = c->op.u.remote_shutdown.reason;

    if (reason > SHUTDOWN_MAX)
        return -EINVAL;
    domain_shutdown(c->d, (uint8_t)reason);
    return 0;
}

/* --- memory --- */

/* While a migration keeps the record it alone may clean it: to the screen all of its memory counts as written. */
static bool read_screen(struct domain *d, uint64_t first, uint32_t n, uint8_t *bits)
{
    if (!p2m_log_enabled(d))
        return p2m_log_read_some(d, GFN(first), n, bits, true);
    memset(bits, 0xff, n / 8);
    if (n % 8)
        bits[n / 8] = (uint8_t)((1u << n % 8) - 1);
    return false;
}

static long op_vram(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    const struct xen_dm_op_track_dirty_vram *a = &c->op.u.track_dirty_vram;
    uint8_t bits[PAGES_AT_ONCE / 8];
    bool flush = false;
    long r = 0;

    if (a->pad || a->nr > VRAM_MAX || a->first_pfn + a->nr < a->first_pfn || c->buf[1].size < (a->nr + 7) / 8)
        return -EINVAL;
    for (uint32_t at = 0; at < a->nr && !r; at += PAGES_AT_ONCE) {
        uint32_t n = MIN(a->nr - at, PAGES_AT_ONCE);

        flush |= read_screen(c->d, a->first_pfn + at, n, bits);
        r = guest_write(hc->caller, GVA((uint64_t)c->buf[1].h.p + at / 8), bits, (n + 7) / 8);
    }
    if (flush)
        p2m_flush(c->d);
    return r;
}

/* The extents from the last to the first: nr_extents says how many are left, opaque how far the last of them is done. */
static long op_modified(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    struct xen_dm_op_modified_memory *a = &c->op.u.modified_memory;
    struct xen_dm_op_modified_memory_extent e;

    c->write_back = true;
    for (; a->nr_extents; a->nr_extents--, a->opaque = 0) {
        long r = element(c, a->nr_extents - 1, &e, sizeof(e));

        if (r)
            return r;
        if (e.pad || a->opaque > e.nr || e.first_pfn + e.nr < e.first_pfn ||
            e.first_pfn + e.nr - 1 > p2m_highest(c->d).n)
            return -EINVAL;
        for (; a->opaque < e.nr; a->opaque++) {
            p2m_mark_dirty(c->d, GFN(e.first_pfn + a->opaque));
            if (a->opaque % PAGES_AT_ONCE == PAGES_AT_ONCE - 1 && preempt_needed()) {
                a->opaque++;
                return HC_AGAIN;
            }
        }
        if (preempt_needed()) {
            a->nr_extents--;
            a->opaque = 0;
            return a->nr_extents ? HC_AGAIN : 0;
        }
    }
    return 0;
}

/* Ordinary memory to read-only or to the ioreq server's, and back. */
static long set_type(struct domain *d, uint64_t gfn, uint16_t type)
{
    static const uint8_t types[] = {
        [HVMMEM_ram_rw] = P2M_RAM, [HVMMEM_ram_ro] = P2M_RAM_RO, [HVMMEM_ioreq_server] = P2M_RAM_DM};
    struct p2m_entry e;

    if (p2m_fault(d, gfn << FRAME_SHIFT, P2M_ACC_WRITE) == P2M_NO_MEMORY) /* populates, ends logging */
        return -ENOMEM;
    p2m_look(d, GFN(gfn), &e);
    if (type == HVMMEM_mmio_dm)
        return e.type == P2M_NONE ? 0 : e.type == P2M_RAM ? -EOPNOTSUPP : -EINVAL;
    if (e.type == types[type])
        return 0;
    if (e.type != P2M_RAM && !(e.type == P2M_RAM_RO && type == HVMMEM_ram_rw) &&
        !(e.type == P2M_RAM_DM && type == HVMMEM_ram_rw))
        return -EINVAL;
    return p2m_change_type(d, GFN(gfn), e.type, types[type]);
}

static long op_set_type(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    struct xen_dm_op_set_mem_type *a = &c->op.u.set_mem_type;

    if (a->pad || a->first_pfn + a->nr < a->first_pfn || a->first_pfn + a->nr - 1 > p2m_highest(c->d).n)
        return -EINVAL;
    switch (a->mem_type) {
    case HVMMEM_ram_rw:
    case HVMMEM_ram_ro:
    case HVMMEM_mmio_dm:
        break;
    case HVMMEM_ioreq_server:
        if (ioreq_has_memory_server(c->d))
            break;
        return -EINVAL;
    default:
        return -EINVAL;
    }
    for (; a->nr; a->nr--, a->first_pfn++) {
        long r = set_type(c->d, a->first_pfn, (uint16_t)array_index(a->mem_type, HVMMEM_ioreq_server + 1));

        if (r)
            return r;
        if (preempt_needed() && a->nr > 1) {
            a->nr--;
            a->first_pfn++;
            c->write_back = true;
            return HC_AGAIN;
        }
    }
    return 0;
}

/*
 * Upwards onto itself one page would move on and on, over all that the domain has and as far as there are numbers; otherwise each step takes
 * another page.
 */
static long op_relocate(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);
    struct xen_dm_op_relocate_memory *a = &c->op.u.relocate_memory;

    c->write_back = true;
    if (a->pad || (a->dst_gfn >= a->src_gfn && a->dst_gfn - a->src_gfn < a->size))
        return -EINVAL;
    for (; a->size; a->size--, a->src_gfn++, a->dst_gfn++) {
        long r = memory_relocate(c->d, GFN(a->src_gfn), GFN(a->dst_gfn));

        if (r)
            return r;
        if (preempt_needed() && a->size > 1) {
            a->size--;
            a->src_gfn++;
            a->dst_gfn++;
            return HC_AGAIN;
        }
    }
    return 0;
}

static long op_nr_vcpus(struct hypercall *hc)
{
    struct dm_call *c = dm_of(hc);

    c->op.u.nr_vcpus.vcpus = c->d->max_vcpus;
    c->write_back = true;
    return 0;
}

/* --- the table --- */

#define ROW(n, fn, ...)                                                                                      \
    {                                                                                                        \
        XEN_DMOP_##n, PERM_CONTROL, "XEN_DMOP_" #n, fn, ##__VA_ARGS__                                        \
    }
const struct hc_op dm_ops[] = {
    ROW(create_ioreq_server, op_create, .note = "eight for each domain"),
    ROW(get_ioreq_server_info, op_info),
    ROW(map_io_range_to_ioreq_server, op_map_range),
    ROW(unmap_io_range_from_ioreq_server, op_unmap_range),
    ROW(set_ioreq_server_state, op_state),
    ROW(destroy_ioreq_server, op_destroy),
    ROW(track_dirty_vram, op_vram, .note = "at most 32768 pages"),
    ROW(set_pci_intx_level, op_intx, .note = "segment 0, bus 0"),
    ROW(set_isa_irq_level, op_isa_irq),
    ROW(set_pci_link_route, op_link),
    ROW(modified_memory, op_modified),
    ROW(set_mem_type, op_set_type, .note = "memory to HVMMEM_mmio_dm: EOPNOTSUPP"),
    ROW(inject_event, op_event, .note = "external interrupts, NMI, exceptions; software events: EOPNOTSUPP"),
    ROW(inject_msi, op_msi),
    ROW(map_mem_type_to_ioreq_server, op_memory_type),
    ROW(remote_shutdown, op_shutdown),
    ROW(relocate_memory, op_relocate, .note = "upwards onto itself: EINVAL"),
    ROW(pin_memory_cacheattr, NULL, EOPNOTSUPP,
        "memory of guests without devices is always cached as they say"),
    ROW(set_irq_level, NULL, EOPNOTSUPP, "for Arm"),
    ROW(nr_vcpus, op_nr_vcpus),
};
const unsigned dm_op_count = ARRAY_SIZE(dm_ops);

/* Bytes of each operation's arguments. A buffer without room for them all would lose the place of long work, which then never ends. */
#define BYTES(n) [XEN_DMOP_##n] = sizeof(((struct xen_dm_op *)0)->u.n)
static const uint8_t arg_bytes[] = {
    BYTES(create_ioreq_server),
    BYTES(get_ioreq_server_info),
    BYTES(map_io_range_to_ioreq_server),
    BYTES(unmap_io_range_from_ioreq_server),
    BYTES(set_ioreq_server_state),
    BYTES(destroy_ioreq_server),
    BYTES(track_dirty_vram),
    BYTES(set_pci_intx_level),
    BYTES(set_isa_irq_level),
    BYTES(set_pci_link_route),
    BYTES(modified_memory),
    BYTES(set_mem_type),
    BYTES(inject_event),
    BYTES(inject_msi),
    BYTES(map_mem_type_to_ioreq_server),
    BYTES(remote_shutdown),
    BYTES(relocate_memory),
    BYTES(nr_vcpus),
};

/* Has the first buffer room for the arguments of the operation, one that is done here? */
static bool holds_all(const struct dm_call *c)
{
    uint32_t op = array_index(c->op.op, ARRAY_SIZE(arg_bytes));

    /* A row that was forgotten above does not pass. */
    return arg_bytes[op] && c->buf[0].size >= offsetof(struct xen_dm_op, u) + arg_bytes[op];
}

/* --- the frame around them --- */

/* The first buffer may be shorter than struct xen_dm_op, as long as the operation's arguments are. */
static long read_op(struct dm_call *c)
{
    uint32_t n = hc_u32(&c->hc, 1);
    size_t bytes;

    if (n > BUFS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++)
        if (guest_read_at(c->hc.caller, &c->buf[i], GVA(c->hc.arg[2]), i, sizeof(c->buf[i])))
            return -EFAULT;
    bytes = MIN(c->buf[0].size, sizeof(c->op));
    if (!n || bytes < offsetof(struct xen_dm_op, u))
        return -EFAULT;
    if (guest_read(c->hc.caller, &c->op, GVA((uint64_t)c->buf[0].h.p), bytes))
        return -EFAULT;
    return c->op.pad ? -EINVAL : 0;
}

static long find_target(struct dm_call *c)
{
    long r = hc_target(&c->hc, DID((uint16_t)c->hc.arg[0]), &c->d);

    if (r)
        return r;
    if (c->d == c->hc.caller->domain)
        r = -EPERM;
    else if (!c->d->ops->translated || !hvm_domain(c->d))
        r = -EINVAL;
    if (r)
        domain_put(c->d);
    return r;
}

long do_dm_op(struct hypercall *hc)
{
    struct dm_call c;
    const struct hc_op *row;
    long r;

    memset(&c, 0, sizeof(c));
    c.hc = *hc;
    r = find_target(&c);
    if (r)
        return r;
    r = read_op(&c);
    if (!r)
        r = hc_op_choose(hc->caller, dm_ops, dm_op_count, c.op.op, &row);
    if (r == -ENOSYS)
        r = -EOPNOTSUPP;
    if (!r)
        r = holds_all(&c) ? row->fn(&c.hc) : -EFAULT;
    if (c.write_back &&
        guest_write(hc->caller, GVA((uint64_t)c.buf[0].h.p), &c.op, MIN(c.buf[0].size, sizeof(c.op))))
        r = -EFAULT;
    domain_put(c.d);
    return r;
}
