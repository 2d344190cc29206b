/*
 * Memory operations that only x86 can answer (xen/memory.h): maps of machine and guest memory, the
 * machine-to-physical table.
 */
#include "types.h"
#include "core/abi.h"
#include "core/alloc.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/memory_op.h"
#include "core/work.h"
#include "arch/mem.h"
#include "x86/boot.h"
#include "x86/mm.h"

#define E820_MAX 128u

/* Answers a struct xen_memory_map request: as many entries as fit, their number; without a buffer, how many
 * there are. */
static long map_write(struct vcpu *v, gva_t arg, const struct e820_entry *e, unsigned count)
{
    struct xen_memory_map map;
    unsigned n;

    if (guest_read(v, &map, arg, sizeof(map)))
        return -EFAULT;
    n = HANDLE(map.buffer).a ? MIN(map.nr_entries, count) : count;
    if (HANDLE(map.buffer).a && n && guest_write(v, HANDLE(map.buffer), e, n * sizeof(*e)))
        return -EFAULT;
    map.nr_entries = n;
    return guest_write(v, arg, &map, sizeof(map));
}

static long machine_memory_map(struct hypercall *hc)
{
    if (!hc->caller->domain->hardware)
        return -EPERM;
    return map_write(hc->caller, GVA(hc->arg[1]), boot_info.e820, boot_info.e820_count);
}

static long memory_map(struct hypercall *hc)
{
    struct x86_domain *d = x86_domain(hc->caller->domain);
    struct e820_entry copy[E820_MAX];
    unsigned n;

    spin_lock(&d->core.lock);
    n = d->e820_count;
    for (unsigned i = 0; i < n; i++)
        copy[i] = d->e820[i];
    spin_unlock(&d->core.lock);
    return n ? map_write(hc->caller, GVA(hc->arg[1]), copy, n) : -ENOSYS;
}

static void e820_replace(struct domain *d, struct e820_entry *e, unsigned n)
{
    struct x86_domain *x = x86_domain(d);
    struct e820_entry *old = e;

    spin_lock(&d->lock);
    if (!domain_is_dying(d)) {
        old = x->e820;
        x->e820 = e;
        x->e820_count = n;
    }
    spin_unlock(&d->lock);
    mem_free(old);
}

static long set_memory_map(struct hypercall *hc)
{
    struct xen_foreign_memory_map fmap;
    struct e820_entry *e;
    struct domain *d;
    long r;

    if (guest_read(hc->caller, &fmap, GVA(hc->arg[1]), sizeof(fmap)))
        return -EFAULT;
    if (fmap.map.nr_entries > E820_MAX)
        return -EINVAL;
    r = hc_target(hc, DID(fmap.domid), &d);
    if (r)
        return r;
    e = mem_alloc_array(MAX(fmap.map.nr_entries, 1u), sizeof(*e));
    if (!e) {
        r = -ENOMEM;
    } else if (guest_read(hc->caller, e, HANDLE(fmap.map.buffer), fmap.map.nr_entries * sizeof(*e))) {
        mem_free(e);
        r = -EFAULT;
    } else {
        e820_replace(d, e, fmap.map.nr_entries);
    }
    domain_put(d);
    return r;
}

static long machphys_mapping(struct hypercall *hc)
{
    struct xen_machphys_mapping m = {
        .v_start = MACH2PHYS_VIRT_START, .v_end = MACH2PHYS_VIRT_END, .max_mfn = MACH2PHYS_NR_ENTRIES - 1};

    return guest_write(hc->caller, GVA(hc->arg[1]), &m, sizeof(m));
}

/* --- the table's own frames
 * ------------------------------------------------------------------------------------------ */

#define CHUNK_FRAMES  512u /* 2 MiB of table */
#define CHUNK_ENTRIES (CHUNK_FRAMES * FRAME_SIZE / 8)

static struct spinlock share_lock = SPINLOCK_INIT(RANK_PHYSMAP);

/* Gives a chunk to DOMID_XEN, so that privileged domains can map it read-only. */
static void share_chunk(mfn_t first)
{
    spin_lock(&share_lock);
    if (mfn_frame(first)->owner == FRAME_NO_OWNER)
        for (unsigned i = CHUNK_FRAMES; i-- > 0;) /* the first last: it says that all are */
            frame_share(dom_xen, MFN(first.n + i));
    spin_unlock(&share_lock);
}

static bool chunk_is_ram(mfn_t first)
{
    return mfn_valid(first) && mfn_valid(MFN(first.n + CHUNK_FRAMES - 1));
}

/* Goes on at the extent in the upper half of the command. */
static long machphys_mfn_list(struct hypercall *hc)
{
    struct xen_machphys_mfn_list list;
    uint32_t i = hc_cursor(hc, 0), n;

    if (!hc->caller->domain->privileged)
        return -EPERM;
    if (guest_read(hc->caller, &list, GVA(hc->arg[1]), sizeof(list)))
        return -EFAULT;
    n = (uint32_t)MIN((uint64_t)list.max_extents, (m2p_entries + CHUNK_ENTRIES - 1) / CHUNK_ENTRIES);
    for (; i < n; i++) {
        mfn_t first = m2p_frame(i);
        xen_pfn_t out = 0; /* a gap of 2 MiB in the table */

        if (!mfn_eq(first, INVALID_MFN) && chunk_is_ram(first)) {
            share_chunk(first);
            out = first.n;
        }
        if (guest_write_at(hc->caller, HANDLE(list.extent_start), i, &out, sizeof(out)))
            return -EFAULT;
        if (i + 1 < n && preempt_needed()) {
            hc_set_cursor(hc, 0, i + 1);
            return HC_AGAIN;
        }
    }
    list.nr_extents = n;
    return guest_write(hc->caller, GVA(hc->arg[1]), &list, sizeof(list));
}

/* args: 0 command, 1 its structure. Permissions that a row cannot say are asked above. */
long arch_memory_op(struct hypercall *hc)
{
    switch (hc_u32(hc, 0) & ((1u << MEMOP_EXTENT_SHIFT) - 1)) {
    case XENMEM_machine_memory_map:
        return machine_memory_map(hc);
    case XENMEM_memory_map:
        return memory_map(hc);
    case XENMEM_set_memory_map:
        return set_memory_map(hc);
    case XENMEM_machphys_mapping:
        return machphys_mapping(hc);
    case XENMEM_machphys_mfn_list:
        return machphys_mfn_list(hc);
    case XENMEM_get_sharing_freed_pages: /* nothing is ever shared between domains by content */
    case XENMEM_get_sharing_shared_pages:
        return 0;
    default:
        return -ENOSYS;
    }
}
