/*
 * XENMEM_* (xen/memory.h): a domain's reservation, figures, and the table of all sub-operations.
 *
 * The three reservation calls work extent by extent. Their result is the number of extents done, never less
 * than what an earlier part of the same call did: that count travels in the upper bits of arg[0], so a
 * refusal after a preemption looks like a short count, as the interface has it. A guest that forges the count
 * only skips its own extents.
 *
 * Invariants
 *  1. A frame reaches a guest's lists zeroed and counted (frame_alloc_domain) before its number is written to
 * the guest.
 *  2. A frame leaves a guest only by clearing ALLOCATED once and dropping that reference: frames that are
 * mapped anywhere stay until the last mapping is gone. Locks: none of its own.
 */
#include "private.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/memory_op.h"
#include "core/work.h"
#include "core/trace.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"

/* Order of the largest extent: dom0 drives devices and needs large contiguous buffers, others get 2 MiB. */
#define MAX_ORDER_HARDWARE 12
#define MAX_ORDER_OTHERS   9

unsigned memory_max_order(const struct domain *d)
{
    return d->hardware ? MAX_ORDER_HARDWARE : MAX_ORDER_OTHERS;
}

int memory_alloc_args(uint32_t mem_flags, unsigned *bits, unsigned *flags, unsigned *node)
{
    unsigned want = XENMEMF_get_address_bits(mem_flags);

    if (want && want <= FRAME_SHIFT)
        return -EINVAL;
    *bits = want ? want : 64;
    *flags = 0;
    *node = FRAME_ANY_NODE;
    /* Nodes of the guest's own invention mean nothing: there is no virtual topology. */
    if (mem_flags & XENMEMF_vnode || XENMEMF_get_node(mem_flags) == 0xff)
        return 0;
    *node = XENMEMF_get_node(mem_flags);
    if (mem_flags & XENMEMF_exact_node_request)
        *flags = FA_EXACT_NODE;
    return 0;
}

/* One of the reservation calls under way. */
struct reservation {
    struct vcpu *caller;
    struct domain *d;
    struct xen_memory_reservation r;
    gva_t list;
    unsigned bits, flags, node;
};

static long extents_done(const struct hypercall *hc)
{
    return (long)(hc->arg[0] >> MEMOP_EXTENT_SHIFT);
}

static bool write_extent(struct reservation *a, uint64_t i, mfn_t m)
{
    uint64_t n = m.n;

    return guest_write_at(a->caller, a->list, i, &n, sizeof(n)) == 0;
}

static bool increase_one(struct reservation *a, uint64_t i)
{
    unsigned order = a->r.extent_order;
    mfn_t m;

    if (frame_alloc_domain_node(a->d, order, a->bits, a->flags, a->node, &m))
        return false;
    if (!a->list.a || a->d->ops->translated || write_extent(a, i, m))
        return true;
    frame_give_back(a->d, m, order);
    return false;
}

/*
 * Where an extent of a translated domain would become part of a piece of the largest size: behind what is there of the piece, or at the start
 * of a free block as large as that. The toolstack asks for such a piece first, which would take too long at once (MAX_ORDER_*), and
 * then for its parts in order. INVALID_MFN: anywhere.
 */
static mfn_t best_place(const struct reservation *a, uint64_t gpfn)
{
    const uint64_t piece = 1ull << FRAME_MAX_ORDER;
    const struct domain *d = a->d;
    mfn_t before;

    if (!d->ops->translated || a->r.extent_order < MAX_ORDER_OTHERS || a->bits != 64 || a->flags ||
        gpfn & ((1ull << a->r.extent_order) - 1))
        return INVALID_MFN;
    if (!(gpfn & (piece - 1)))
        return __atomic_load_n(&d->frames, __ATOMIC_RELAXED) + piece >
                       __atomic_load_n(&d->max_frames, __ATOMIC_RELAXED)
                   ? INVALID_MFN
                   : heap_largest(frame_node_affinity(d));
    before = arch_gfn_to_mfn(a->d, GFN(gpfn - 1));
    return (before.n + 1 - gpfn) & (piece - 1) ? INVALID_MFN : MFN(before.n + 1);
}

static bool populate_one(struct reservation *a, uint64_t i)
{
    unsigned order = a->r.extent_order;
    uint64_t gpfn;
    mfn_t m;

    if (guest_read_at(a->caller, &gpfn, a->list, i, sizeof(gpfn)))
        return false;
    if (a->r.mem_flags & XENMEMF_populate_on_demand)
        return a->caller->domain->privileged && !arch_pod_mark(a->d, GFN(gpfn), order);
    m = best_place(a, gpfn);
    if (frame_alloc_domain_node(a->d, order, a->bits, a->flags | FA_PLACE, a->node, &m))
        return false;
    if (arch_physmap_add(a->d, GFN(gpfn), m, order)) {
        frame_give_back(a->d, m, order);
        return false;
    }
    if (a->d->ops->translated || write_extent(a, i, m))
        return true;
    if (!arch_physmap_remove(a->d, GFN(gpfn), m, order))
        frame_give_back(a->d, m, order);
    return false;
}

/* Takes the frame at g out of the reservation of d, a PV domain. */
static bool remove_one(struct domain *d, gfn_t g)
{
    struct frame *f = arch_gfn_get(d, g);
    bool done;

    if (!f)
        return false;
    if (!frame_clear_allocated(f)) {
        frame_put(f); /* shared by the hypervisor, or given back before and still mapped */
        return false;
    }
    done = !arch_physmap_remove(d, g, frame_mfn(f), 0);
    frame_put(f);
    frame_put(f);
    return done;
}

static bool decrease_one(struct reservation *a, uint64_t i)
{
    uint64_t gmfn, n = 1ull << a->r.extent_order;

    if (guest_read_at(a->caller, &gmfn, a->list, i, sizeof(gmfn)) || gmfn + n < gmfn)
        return false;
    if (a->d->ops->translated && arch_physmap_release(a->d, GFN(gmfn), a->r.extent_order))
        return false;
    for (uint64_t j = 0; !a->d->ops->translated && j < n; j++)
        if (!remove_one(a->d, GFN(gmfn + j)))
            return false;
    trace(TRC_MEM_DECREASE_RESERVATION, TRACE_U64(gmfn), a->r.extent_order);
    return true;
}

typedef bool (*extent_fn)(struct reservation *a, uint64_t i);

/* Runs over the extents from the cursor on; the count done, or HC_AGAIN. */
static long each_extent(struct hypercall *hc, struct reservation *a, extent_fn fn)
{
    uint64_t start = (uint64_t)extents_done(hc), i;

    for (i = start; i < a->r.nr_extents; i++) {
        if (i != start && preempt_needed()) {
            hc->arg[0] = (hc->arg[0] & ((1u << MEMOP_EXTENT_SHIFT) - 1)) | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        if (!fn(a, i))
            break;
    }
    return (long)i;
}

#define RELEASE_BATCH 32u

/* A translated domain's single numbers from i on, as many as one flush serves; how many went. */
static uint64_t decrease_some(struct reservation *a, uint64_t i, uint64_t *wanted)
{
    uint64_t gfn[RELEASE_BATCH], n = MIN(a->r.nr_extents - i, (uint64_t)RELEASE_BATCH);

    if (i * sizeof(gfn[0]) > ~0ull - a->list.a ||
        guest_read(a->caller, gfn, GVA(a->list.a + i * sizeof(gfn[0])), n * sizeof(gfn[0]))) {
        n = 1; /* the list may end here */
        if (guest_read_at(a->caller, gfn, a->list, i, sizeof(gfn[0])))
            return 0;
    }
    *wanted = n;
    return arch_physmap_release_list(a->d, gfn, (unsigned)n);
}

static long decrease_list(struct hypercall *hc, struct reservation *a)
{
    uint64_t start = (uint64_t)extents_done(hc), i = start, wanted = 0, done = 0;

    while (i < a->r.nr_extents && done == wanted) {
        if (i != start && preempt_needed()) {
            hc->arg[0] = (hc->arg[0] & ((1u << MEMOP_EXTENT_SHIFT) - 1)) | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        wanted = 1;
        done = decrease_some(a, i, &wanted);
        i += done;
    }
    return (long)i;
}

static long reservation_op(struct hypercall *hc, extent_fn fn)
{
    struct reservation a = {.caller = hc->caller};
    long done = extents_done(hc), rc;

    if (guest_read(hc->caller, &a.r, GVA(hc->arg[1]), sizeof(a.r)))
        return done ? done : -EFAULT;
    a.list = HANDLE(a.r.extent_start);
    if (a.r.nr_extents > ~0ull >> (MEMOP_EXTENT_SHIFT + 1) || (uint64_t)done >= a.r.nr_extents ||
        a.r.extent_order > memory_max_order(hc->caller->domain))
        return done;
    rc = memory_alloc_args(a.r.mem_flags, &a.bits, &a.flags, &a.node);
    if (rc)
        return done ? done : rc;
    rc = hc_target(hc, DID(a.r.domid), &a.d);
    if (rc)
        return rc == -ESRCH || done ? done : rc;
    if (fn == decrease_one && a.d->ops->translated && !a.r.extent_order)
        rc = decrease_list(hc, &a);
    else
        rc = each_extent(hc, &a, fn);
    domain_put(a.d);
    return rc;
}

static long op_increase(struct hypercall *hc)
{
    return reservation_op(hc, increase_one);
}

static long op_decrease(struct hypercall *hc)
{
    return reservation_op(hc, decrease_one);
}

static long op_populate(struct hypercall *hc)
{
    return reservation_op(hc, populate_one);
}

/* --- figures --- */

static long op_maximum_ram_page(struct hypercall *hc)
{
    return extents_done(hc) ? -EINVAL : (long)frame_count;
}

/* arg[1] points to a domid. */
static long target_of(struct hypercall *hc, struct domain **d)
{
    struct xen_memory_domain q;

    if (extents_done(hc))
        return -EINVAL;
    if (guest_read(hc->caller, &q.domid, GVA(hc->arg[1]), sizeof(q.domid)))
        return -EFAULT;
    return hc_target(hc, DID(q.domid), d);
}

static long op_current_reservation(struct hypercall *hc)
{
    struct domain *d;
    long rc = target_of(hc, &d);

    if (!rc) {
        rc = (long)__atomic_load_n(&d->frames, __ATOMIC_RELAXED);
        domain_put(d);
    }
    return rc;
}

static long op_maximum_reservation(struct hypercall *hc)
{
    struct domain *d;
    long rc = target_of(hc, &d);

    if (!rc) {
        rc = (long)MIN(__atomic_load_n(&d->max_frames, __ATOMIC_RELAXED), (uint64_t)INT64_MAX);
        domain_put(d);
    }
    return rc;
}

static long op_maximum_gpfn(struct hypercall *hc)
{
    struct domain *d;
    long rc = target_of(hc, &d);

    if (rc)
        return rc;
    rc = (long)MIN(arch_gfn_highest(d).n, (uint64_t)INT64_MAX);
    domain_put(d);
    return rc;
}

/* --- control --- */

/* Memory that devices which may be given to guests insist on. */
static long op_reserved_map(struct hypercall *hc)
{
    struct xen_reserved_device_memory_map m;

    if (extents_done(hc))
        return -EINVAL;
    if (guest_read(hc->caller, &m, GVA(hc->arg[1]), sizeof(m)))
        return -EFAULT;
    if (m.flags & ~(uint32_t)XENMEM_RDM_ALL)
        return -EINVAL;
    m.nr_entries = 0;
    return guest_write(hc->caller, GVA(hc->arg[1]), &m, sizeof(m));
}

static long op_claim_pages(struct hypercall *hc)
{
    struct xen_memory_reservation r;
    struct domain *d;
    long rc;

    if (extents_done(hc))
        return -EINVAL;
    if (guest_read(hc->caller, &r, GVA(hc->arg[1]), sizeof(r)))
        return -EFAULT;
    if (HANDLE(r.extent_start).a || r.extent_order || r.mem_flags)
        return -EINVAL;
    rc = hc_target(hc, DID(r.domid), &d);
    if (rc)
        return rc;
    rc = frame_claim(d, r.nr_extents);
    domain_put(d);
    return rc;
}

/* A PV guest has no populate-on-demand entries, so every target is reached at once; tools set it for them, too. */
static long op_pod_target(struct hypercall *hc)
{
    struct xen_pod_target t;
    struct domain *d;
    long rc;

    if (extents_done(hc))
        return -EINVAL;
    if (guest_read(hc->caller, &t, GVA(hc->arg[1]), sizeof(t)))
        return -EFAULT;
    rc = hc_target(hc, DID(t.domid), &d);
    if (rc)
        return rc;
    if ((hc->arg[0] & ((1u << MEMOP_EXTENT_SHIFT) - 1)) == XENMEM_set_pod_target)
        rc = t.target_pages > __atomic_load_n(&d->max_frames, __ATOMIC_RELAXED)
                 ? -EINVAL
                 : arch_pod_target(d, t.target_pages);
    if (!rc) {
        t.tot_pages = __atomic_load_n(&d->frames, __ATOMIC_RELAXED);
        arch_pod_info(d, &t.pod_cache_pages, &t.pod_entries);
        rc = guest_write(hc->caller, GVA(hc->arg[1]), &t, sizeof(t));
    }
    domain_put(d);
    return rc == -EAGAIN ? HC_AGAIN : rc;
}

#define ROW(op, perm, fn, ...) [XENMEM_##op] = {XENMEM_##op, perm, "XENMEM_" #op, fn, ##__VA_ARGS__}
#define REFUSED(op, perm, code, why)                                                                         \
    [XENMEM_##op] = {XENMEM_##op, perm, "XENMEM_" #op, .refused = code, .note = why}

const struct hc_op memory_ops[] = {
    ROW(increase_reservation, PERM_TARGET, op_increase),
    ROW(decrease_reservation, PERM_TARGET, op_decrease),
    ROW(maximum_ram_page, PERM_ANY, op_maximum_ram_page),
    ROW(current_reservation, PERM_TARGET, op_current_reservation),
    ROW(maximum_reservation, PERM_TARGET, op_maximum_reservation),
    ROW(machphys_mfn_list, PERM_ANY, arch_memory_op),
    ROW(populate_physmap, PERM_TARGET, op_populate,
        .note = "populate on demand: for the control domain's use, of HVM domains"),
    ROW(add_to_physmap, PERM_TARGET, memory_add_to_physmap,
        .note = "EACCES for PV domains, as the interface has it; EOPNOTSUPP for dev_mmio, which x86 does not "
                "have"),
    [8] = {8, PERM_ANY, "XENMEM_translate_gpfn_list", .refused = ENOSYS,
           .note = "withdrawn from the interface"},
    ROW(memory_map, PERM_ANY, arch_memory_op),
    ROW(machine_memory_map, PERM_HARDWARE, arch_memory_op),
    ROW(exchange, PERM_TARGET, memory_exchange),
    ROW(machphys_mapping, PERM_ANY, arch_memory_op),
    ROW(set_memory_map, PERM_TARGET, arch_memory_op),
    ROW(maximum_gpfn, PERM_TARGET, op_maximum_gpfn),
    ROW(remove_from_physmap, PERM_TARGET, memory_remove_from_physmap),
    ROW(set_pod_target, PERM_CONTROL, op_pod_target),
    ROW(get_pod_target, PERM_CONTROL, op_pod_target),
    ROW(get_sharing_freed_pages, PERM_ANY, arch_memory_op),
    ROW(get_sharing_shared_pages, PERM_ANY, arch_memory_op),
    REFUSED(paging_op, PERM_CONTROL, ENOSYS, "guest paging is not there"),
    REFUSED(access_op, PERM_CONTROL, ENOSYS, "memory access monitoring is not there"),
    REFUSED(sharing_op, PERM_CONTROL, ENOSYS, "page sharing is not there"),
    ROW(add_to_physmap_batch, PERM_TARGET, memory_add_to_physmap_batch),
    ROW(claim_pages, PERM_CONTROL, op_claim_pages),
    ROW(machphys_compat_mfn_list, PERM_ANY, arch_memory_op),
    REFUSED(get_vnumainfo, PERM_TARGET, EOPNOTSUPP, "no domain has a virtual NUMA topology"),
    ROW(reserved_device_memory_map, PERM_CONTROL, op_reserved_map,
        .note = "none: no IOMMU is driven, no device is given away"),
    ROW(acquire_resource, PERM_CONTROL, memory_acquire_resource,
        .note = "grant tables, ioreq servers; EOPNOTSUPP for other types"),
};
const unsigned memory_op_count = ARRAY_SIZE(memory_ops);
