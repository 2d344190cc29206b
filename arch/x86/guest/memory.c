/*
 * The seam's questions about guests' memory (include/arch/mem.h), answered by the kind of guest: a PV domain's numbers are those of the
 * machine, with the machine-to-physical table as its own record; a translated domain has a p2m (x86/p2m.h).
 *
 * Locks: none here.
 */
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "core/abi.h"
#include "core/frame.h"
#include "x86/hvm.h"
#include "x86/mm.h"
#include "x86/p2m.h"
#include "x86/pv.h"
#include "x86/tlb.h"

static inline bool translated(const struct domain *d)
{
    return unlikely(d->ops->translated);
}

/* --- numbers and frames --- */

mfn_t arch_gfn_to_mfn(struct domain *d, gfn_t g)
{
    struct p2m_entry e;

    if (!translated(d))
        return mfn_valid(MFN(g.n)) ? MFN(array_index(g.n, frame_count)) : INVALID_MFN;
    p2m_look(d, g, &e);
    return e.type == P2M_MMIO ? INVALID_MFN : e.mfn;
}

/* A frame that is not in the p2m may still have the number that another domain knew it by. */
gfn_t arch_mfn_to_gfn(struct domain *d, mfn_t m)
{
    gfn_t g = GFN(m2p_get(m));

    return translated(d) && !mfn_eq(arch_gfn_to_mfn(d, g), m) ? INVALID_GFN : g;
}

struct frame *arch_gfn_get(struct domain *d, gfn_t g)
{
    struct p2m_entry e;
    mfn_t m;

    if (translated(d))
        return p2m_get(d, g, 0, &e) ? NULL : mfn_frame(e.mfn);
    m = arch_gfn_to_mfn(d, g);
    return mfn_valid(m) && frame_get(mfn_frame(m), d) ? mfn_frame(m) : NULL;
}

/* Its memory is writable in the eyes of pv/mmu, and stays so while the pin is there. */
static bool gfn_pin_translated(struct domain *d, gfn_t g, bool readonly, mfn_t *m)
{
    struct p2m_entry e;
    bool ok;

    if (p2m_get(d, g, readonly ? 0 : P2M_WRITE, &e))
        return false;
    *m = e.mfn;
    if (readonly)
        return true;
    ok = arch_grant_pin(d, e.mfn, false);
    frame_put(mfn_frame(e.mfn));
    return ok;
}

bool arch_gfn_pin(struct domain *d, gfn_t g, bool readonly, mfn_t *m)
{
    if (translated(d))
        return gfn_pin_translated(d, g, readonly, m);
    *m = arch_gfn_to_mfn(d, g);
    return arch_grant_pin(d, *m, readonly); /* which looks whether there is such a frame */
}

/* --- what is where --- */

int arch_physmap_add(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    if (translated(d))
        return p2m_set(d, g, m, order, P2M_RAM);
    pv_physmap_add(d, g, m, order);
    return 0;
}

int arch_physmap_remove(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    if (translated(d))
        return p2m_remove(d, g, m, order);
    pv_physmap_remove(m, order);
    return 0;
}

int arch_physmap_release(struct domain *d, gfn_t g, unsigned order)
{
    return p2m_release_frames(d, g, order);
}

unsigned arch_physmap_release_list(struct domain *d, const uint64_t *gfn, unsigned n)
{
    return p2m_release_list(d, gfn, n);
}

int arch_physmap_add_foreign(struct domain *d, gfn_t g, struct domain *from, gfn_t there)
{
    bool readonly = false;
    mfn_t m;
    int r;

    if (!arch_gfn_pin(from, there, false, &m)) {
        readonly = true;
        if (!arch_gfn_pin(from, there, true, &m))
            return -EINVAL;
    }
    r = p2m_set(d, g, m, 0, readonly ? P2M_FOREIGN_RO : P2M_FOREIGN);
    if (r)
        arch_grant_unpin(m, readonly);
    return r;
}

int arch_pod_mark(struct domain *d, gfn_t g, unsigned order)
{
    return translated(d) ? p2m_pod_mark(d, g, order) : -EOPNOTSUPP;
}

int arch_pod_target(struct domain *d, uint64_t pages)
{
    return translated(d) ? p2m_pod_target(d, pages) : 0;
}

void arch_pod_info(struct domain *d, uint64_t *cached, uint64_t *entries)
{
    *cached = translated(d) ? p2m_pod_cached(d) : 0;
    *entries = translated(d) ? p2m_pod_entries(d) : 0;
}

/* Pages of ioreq servers: hvm/dev/ioreq_server.c. */
uint32_t arch_resource_frames(struct domain *d, unsigned type)
{
    return translated(d) && type == XENMEM_resource_ioreq_server ? 2 : 0;
}

int arch_resource_frame(struct domain *d, unsigned type, uint32_t id, uint64_t index, mfn_t *m)
{
    return hvm_resource_frame(d, id, index, m);
}

/* A PV guest says itself in shared_info how far its own numbering goes. */
gfn_t arch_gfn_highest(struct domain *d)
{
    uint64_t max;

    if (translated(d))
        return p2m_highest(d);
    max = d->shared_info ? __atomic_load_n(&d->shared_info->arch.max_pfn, __ATOMIC_RELAXED) : 0;
    return GFN(max ? max - 1 : 0);
}

/* --- grants --- */

int arch_grant_map(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly)
{
    if (!translated(v->domain))
        return pv_grant_map(v, addr, m, flags, readonly);
    return flags & GNTMAP_contains_pte ? -EINVAL : p2m_grant_map(v->domain, addr, m, readonly);
}

int arch_grant_unmap(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly, uint64_t new_addr)
{
    if (!translated(v->domain))
        return pv_grant_unmap(v, addr, m, flags, readonly, new_addr);
    return new_addr ? -EINVAL : p2m_grant_unmap(v->domain, addr, m, readonly);
}

void arch_frame_written(struct domain *d, mfn_t m)
{
    if (translated(d))
        p2m_mark_dirty(d, GFN(m2p_get(m)));
}

void arch_grant_flush(struct domain *d)
{
    if (translated(d))
        p2m_flush(d);
    else
        tlb_flush_cpus(&x86_domain(d)->dirty_cpus, TLB_FLUSH_ALL, GVA(0));
}
