/*
 * domctl: the memory of translated domains (xen/domctl.h: memory_mapping, get_, set_paging_mempool_size, shadow_op). The pool is a limit:
 * frames are taken when tables are made, and go back when they are empty.
 * Locks: none; those of the p2m.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/work.h"
#include "x86/p2m.h"
#include "x86/platform.h"
#include "x86/vcpu.h"
#include "arch/guest_ops.h"

#define MAPPING_MAX 64u /* frames per call, as tools know it */
#define MB_FRAMES   256u
#define LOG_STEP    32768u /* bits of a page */

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

/* Bits of what was written, a page of them at a time, from the cursor on. The bits that tools get are those that were cleaned: should
 * writing them to the tools' memory fail, they are lost, as the interface has it. */
static long log_read(struct domctl *c, struct xen_domctl_shadow_op *s, bool clean)
{
    uint64_t pages = MIN(s->pages, p2m_highest(c->d).n + 1), *next = &x86_domain(c->d)->log_next;
    uint8_t *bits = frame_alloc_va(0);
    long r = bits ? 0 : -ENOMEM;

    for (; !r && *next < pages; *next += LOG_STEP) {
        unsigned n = (unsigned)MIN(pages - *next, (uint64_t)LOG_STEP);

        if (*next && preempt_needed()) {
            frame_free_va(bits, 0);
            return HC_AGAIN;
        }
        if (p2m_log_read_some(c->d, GFN(*next), n, bits, clean))
            p2m_flush(c->d);
        for (unsigned i = 0; i < (n + 7) / 8; i++)
            x86_domain(c->d)->log_dirty += (uint32_t)__builtin_popcount(bits[i]);
        if (HANDLE(s->dirty_bitmap).a)
            r = guest_write(c->hc.caller, GVA(HANDLE(s->dirty_bitmap).a + *next / 8), bits, (n + 7) / 8);
    }
    frame_free_va(bits, 0);
    s->pages = pages;
    s->stats.fault_count = p2m_log_faults(c->d, clean);
    s->stats.dirty_count = x86_domain(c->d)->log_dirty;
    *next = 0;
    x86_domain(c->d)->log_dirty = 0;
    c->write_back = true;
    return r;
}

static long log_op(struct domctl *c, struct xen_domctl_shadow_op *s)
{
    int r;

    if (!c->d->ops->translated)
        return s->op == XEN_DOMCTL_SHADOW_OP_OFF ? 0 : -EOPNOTSUPP;
    if (s->op == XEN_DOMCTL_SHADOW_OP_CLEAN || s->op == XEN_DOMCTL_SHADOW_OP_PEEK)
        return p2m_log_enabled(c->d) ? log_read(c, s, s->op == XEN_DOMCTL_SHADOW_OP_CLEAN) : -EINVAL;
    if (s->op == XEN_DOMCTL_SHADOW_OP_ENABLE && s->mode != XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY)
        return -EOPNOTSUPP;
    r = s->op == XEN_DOMCTL_SHADOW_OP_OFF ? p2m_log_disable(c->d) : p2m_log_enable(c->d);
    return r == -EAGAIN ? HC_AGAIN : r;
}

static long shadow_op(struct domctl *c)
{
    struct xen_domctl_shadow_op *s = &c->op.u.shadow_op;

    if (c->d == c->hc.caller->domain)
        return -EINVAL;
    switch (s->op) {
    case XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION:
    case XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION:
        return pool_op(c, s);
    case XEN_DOMCTL_SHADOW_OP_OFF:
    case XEN_DOMCTL_SHADOW_OP_ENABLE:
    case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
    case XEN_DOMCTL_SHADOW_OP_CLEAN:
    case XEN_DOMCTL_SHADOW_OP_PEEK:
        return log_op(c, s);
    case XEN_DOMCTL_SHADOW_OP_ENABLE_TEST:
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
