/*
 * domctl: the memory of translated domains (xen/domctl.h: memory_mapping, get_, set_paging_mempool_size, shadow_op). The pool is a limit:
 * frames are taken when tables are made, and go back when they are empty.
 * Locks: none; those of the p2m.
 */
#include "private.h"
#include "core/frame.h"
#include "x86/p2m.h"
#include "x86/platform.h"
#include "arch/guest_ops.h"

#define MAPPING_MAX 64u /* frames per call, as tools know it */
#define MB_FRAMES   256u

/* --- device memory --- */

static int mapping_check(const struct domctl *c, const struct xen_domctl_memory_mapping *m)
{
    uint64_t limit = 1ull << (52 - FRAME_SHIFT);

    if (!m->nr_mfns || m->first_mfn >= limit || m->nr_mfns > limit - m->first_mfn || m->first_gfn >= limit ||
        m->nr_mfns > limit - m->first_gfn)
        return -EINVAL;
    if (m->nr_mfns > MAPPING_MAX)
        return -E2BIG;
    for (uint64_t i = 0; i < m->nr_mfns; i++) {
        mfn_t f = MFN(m->first_mfn + i);

        if (mfn_valid(f) || !iomem_allowed(c->hc.caller->domain, f) || !iomem_allowed(c->d, f))
            return -EPERM;
    }
    return 0;
}

static long memory_mapping(struct domctl *c)
{
    const struct xen_domctl_memory_mapping *m = &c->op.u.memory_mapping;
    int r = mapping_check(c, m);

    if (r || !c->d->ops->translated) /* a PV domain maps what it has the right to by itself */
        return r;
    if (m->add_mapping)
        return p2m_mmio_map(c->d, GFN(m->first_gfn), MFN(m->first_mfn), m->nr_mfns);
    return p2m_mmio_unmap(c->d, GFN(m->first_gfn), MFN(m->first_mfn), m->nr_mfns);
}

/* --- the pool --- */

static long get_mempool(struct domctl *c)
{
    if (!c->d->ops->translated)
        return -EOPNOTSUPP;
    c->op.u.paging_mempool.size = p2m_pool_size(c->d) << FRAME_SHIFT;
    c->write_back = true;
    return 0;
}

static long set_mempool(struct domctl *c)
{
    uint64_t size = c->op.u.paging_mempool.size;

    if (!c->d->ops->translated)
        return -EOPNOTSUPP;
    return size & (FRAME_SIZE - 1) ? -EINVAL : p2m_pool_set(c->d, size >> FRAME_SHIFT);
}

/* --- shadow_op: "paging assistance". There are no shadow page tables; a PV domain has no pool. --- */

static long pool_op(struct domctl *c, struct xen_domctl_shadow_op *s)
{
    bool translated = c->d->ops->translated;

    if (s->op == XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION) {
        if (!translated)
            return s->mb ? -EOPNOTSUPP : 0;
        return p2m_pool_set(c->d, (uint64_t)s->mb * MB_FRAMES);
    }
    s->mb = translated ? (uint32_t)((p2m_pool_size(c->d) + MB_FRAMES - 1) / MB_FRAMES) : 0;
    c->write_back = true;
    return 0;
}

static long shadow_op(struct domctl *c)
{
    struct xen_domctl_shadow_op *s = &c->op.u.shadow_op;

    if (c->d == c->hc.caller->domain)
        return -EINVAL;
    switch (s->op) {
    case XEN_DOMCTL_SHADOW_OP_OFF:
        return 0;
    case XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION:
    case XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION:
        return pool_op(c, s);
    case XEN_DOMCTL_SHADOW_OP_ENABLE:
    case XEN_DOMCTL_SHADOW_OP_ENABLE_TEST:
    case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
    case XEN_DOMCTL_SHADOW_OP_CLEAN:
    case XEN_DOMCTL_SHADOW_OP_PEEK:
        return -EOPNOTSUPP;
    default:
        return -EINVAL;
    }
}

long control_paging(struct domctl *c)
{
    switch (c->op.cmd) {
    case XEN_DOMCTL_memory_mapping:
        return memory_mapping(c);
    case XEN_DOMCTL_get_paging_mempool_size:
        return get_mempool(c);
    case XEN_DOMCTL_set_paging_mempool_size:
        return set_mempool(c);
    default:
        return shadow_op(c);
    }
}
