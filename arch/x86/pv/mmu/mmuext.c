/*
 * The PV MMU: mmuext_op (xen/xen.h): pins, roots, flushes, the LDT, and pages written on behalf of the guest.
 * Preemption and its cursor as in update.c.
 */
#include "types.h"
#include "core/abi.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "x86/tlb.h"

struct ext_call {
    struct vcpu *v;
    struct domain *d;        /* the caller's */
    struct domain *pg_owner; /* whose frames */
    struct pv_pending *pending;
    struct mmuext_op op;
};

static int op_pin(struct ext_call *c)
{
    mfn_t m = MFN(c->op.arg1.mfn);
    struct frame *f;
    int r;

    if (c->pg_owner != c->d && domain_is_dying(c->pg_owner))
        return -EINVAL;
    r = pending_get(c->pending, m, c->pg_owner, pgt_of_level(c->op.cmd - MMUEXT_PIN_L1_TABLE + 1));
    if (r)
        return r;
    f = mfn_frame(m);
    if (!type_pin(f)) {
        pending_put(c->pending, f);
        return -EINVAL;
    }
    /* Release looks for pins after `dying` is set: either it sees this one, or we see `dying`. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (unlikely(domain_is_dying(c->pg_owner)) && type_unpin(f)) {
        pending_put(c->pending, f);
        return -EINVAL;
    }
    return 0;
}

static int op_unpin(struct ext_call *c)
{
    struct frame *f = frame_named(MFN(c->op.arg1.mfn));
    bool pinned;

    if (pending_settle(c->pending))
        return -EAGAIN;
    if (!f || !frame_get(f, c->pg_owner))
        return -EINVAL;
    pinned = type_unpin(f);
    frame_put(f);
    if (!pinned)
        return -EINVAL;
    pending_put(c->pending, f);
    return 0;
}

static int op_set_root(struct ext_call *c)
{
    return pv_set_root(c->v, MFN(c->op.arg1.mfn), c->op.cmd == MMUEXT_NEW_USER_BASEPTR);
}

static int op_flush_local(struct ext_call *c)
{
    if (c->op.cmd == MMUEXT_TLB_FLUSH_LOCAL)
        tlb_flush_local();
    else if (address_is_guests(GVA(c->op.arg1.linear_addr)))
        tlb_flush_local_va(GVA(c->op.arg1.linear_addr));
    return 0;
}

static int op_flush_multi(struct ext_call *c)
{
    bool one = c->op.cmd == MMUEXT_INVLPG_MULTI;
    gva_t va = GVA(one ? c->op.arg1.linear_addr : 0);
    struct cpumask cpus;

    if (vcpumask_cpus(c->v, HANDLE(c->op.arg2.vcpumask), &cpus))
        return -EFAULT;
    if (!one || address_is_guests(va))
        flush_cpus_of(c->d, &cpus, one ? TLB_FLUSH_VA : TLB_FLUSH_ALL, va);
    return 0;
}

static int op_flush_all(struct ext_call *c)
{
    bool one = c->op.cmd == MMUEXT_INVLPG_ALL;
    gva_t va = GVA(one ? c->op.arg1.linear_addr : 0);

    if (!one || address_is_guests(va))
        tlb_flush_cpus(&x86_domain(c->d)->dirty_cpus, one ? TLB_FLUSH_VA : TLB_FLUSH_ALL, va);
    return 0;
}

static int op_flush_cache(struct ext_call *c)
{
    struct cpumask here = {{0}};

    if (!c->d->hardware)
        return -EACCES;
    cpumask_set(&here, c->v->cpu);
    cache_flush_cpus(c->op.cmd == MMUEXT_FLUSH_CACHE_GLOBAL ? &cpus_online : &here);
    return 0;
}

static int op_set_ldt(struct ext_call *c)
{
    struct pv_vcpu *pv = pv_vcpu(c->v);
    unsigned entries = c->op.arg2.nr_ents;
    gva_t base = GVA(c->op.arg1.linear_addr);

    if (entries > 8192 || (entries && (base.a % FRAME_SIZE || !address_is_guests(base) ||
                                       !address_is_guests(GVA(base.a + entries * 8ull - 1)))))
        return -EINVAL;
    if (pv->ldt_entries == entries && (!entries || pv->ldt_base.a == base.a))
        return 0;
    (void)pv_ldt_unmap(c->v);
    pv->ldt_base = entries ? base : GVA(0);
    pv->ldt_entries = entries;
    pv_load_ldt(c->v);
    return 0;
}

static int op_clear_page(struct ext_call *c)
{
    mfn_t m = MFN(c->op.arg1.mfn);
    int r = frame_get_typed(m, c->pg_owner, PGT_WRITABLE, c->pg_owner);

    if (r)
        return r;
    arch_frame_zero(m);
    frame_put_typed(mfn_frame(m));
    return 0;
}

static void copy_bytes(mfn_t to, mfn_t from)
{
    memmove(arch_frame_va(to), arch_frame_va(from), FRAME_SIZE);
}

static int op_copy_page(struct ext_call *c)
{
    struct frame *from = frame_named(MFN(c->op.arg2.src_mfn));
    mfn_t to = MFN(c->op.arg1.mfn);
    int r;

    if (!from || !frame_get(from, c->pg_owner))
        return -EINVAL;
    r = frame_get_typed(to, c->pg_owner, PGT_WRITABLE, c->pg_owner);
    if (!r) {
        copy_bytes(to, frame_mfn(from));
        frame_put_typed(mfn_frame(to));
    }
    frame_put(from);
    return r;
}

static const struct ext_op {
    int (*fn)(struct ext_call *c);
    bool self_only; /* acts on the calling vCPU or domain: no foreign domain */
    int refused;
} ext_ops[] = {
    [MMUEXT_PIN_L1_TABLE] = {op_pin},
    [MMUEXT_PIN_L2_TABLE] = {op_pin},
    [MMUEXT_PIN_L3_TABLE] = {op_pin},
    [MMUEXT_PIN_L4_TABLE] = {op_pin},
    [MMUEXT_UNPIN_TABLE] = {op_unpin},
    [MMUEXT_NEW_BASEPTR] = {op_set_root, true},
    [MMUEXT_TLB_FLUSH_LOCAL] = {op_flush_local, true},
    [MMUEXT_INVLPG_LOCAL] = {op_flush_local, true},
    [MMUEXT_TLB_FLUSH_MULTI] = {op_flush_multi, true},
    [MMUEXT_INVLPG_MULTI] = {op_flush_multi, true},
    [MMUEXT_TLB_FLUSH_ALL] = {op_flush_all, true},
    [MMUEXT_INVLPG_ALL] = {op_flush_all, true},
    [MMUEXT_FLUSH_CACHE] = {op_flush_cache, true},
    [MMUEXT_SET_LDT] = {op_set_ldt, true},
    [MMUEXT_NEW_USER_BASEPTR] = {op_set_root, true},
    [MMUEXT_CLEAR_PAGE] = {op_clear_page},
    [MMUEXT_COPY_PAGE] = {op_copy_page},
    [MMUEXT_FLUSH_CACHE_GLOBAL] = {op_flush_cache, true},
    [MMUEXT_MARK_SUPER] = {.refused = EOPNOTSUPP}, /* no superpages for PV guests */
    [MMUEXT_UNMARK_SUPER] = {.refused = EOPNOTSUPP},
};

static int ext_one(struct ext_call *c)
{
    const struct ext_op *op =
        c->op.cmd < ARRAY_SIZE(ext_ops) ? &ext_ops[array_index(c->op.cmd, ARRAY_SIZE(ext_ops))] : NULL;

    if (!op || !op->fn)
        return op && op->refused ? -op->refused : -ENOSYS;
    if (op->self_only && c->pg_owner != c->d)
        return -EPERM;
    return op->fn(c);
}

static long run_ops(struct ext_call *c, gva_t list, uint32_t count, uint32_t *done)
{
    for (*done = 0; *done < count;) {
        int r;

        if (guest_read_at(c->v, &c->op, list, *done, sizeof(c->op)))
            return -EFAULT;
        r = ext_one(c);
        if (r)
            return r == -EAGAIN ? HC_AGAIN : r;
        ++*done;
        if (c->pending->mfn && c->pending->put)
            return HC_AGAIN;
        if (*done < count && preempt_needed())
            return HC_AGAIN;
    }
    return 0;
}

/* args: 0 list, 1 count, 2 pdone, 3 foreign domain */
long pv_mmuext_op(struct hypercall *hc)
{
    struct ext_call c; /* c.op is read before it is used */
    uint32_t count = hc_u32(hc, 1), before = hc_cursor(hc, 1), done;
    gva_t pdone = GVA(hc->arg[2]);
    long r;

    c.v = hc->caller;
    c.d = hc->caller->domain;
    c.pending = &pv_vcpu(hc->caller)->pending;
    if (pending_settle_put(c.pending))
        return HC_AGAIN;
    r = target_frames(hc, (uint16_t)hc->arg[3], &c.pg_owner);
    if (r)
        return r;
    if (frames_translated(c.pg_owner)) { /* no operation of this kind is for them */
        hc_release(hc, c.pg_owner);
        return -EPERM;
    }
    r = run_ops(&c, GVA(hc->arg[0]), count, &done);
    hc_release(hc, c.pg_owner);
    if (r == HC_AGAIN) {
        hc->arg[0] += (uint64_t)done * sizeof(struct mmuext_op);
        hc->arg[1] = count - done;
        hc_set_cursor(hc, 1, before + done);
        return HC_AGAIN;
    }
    before += done;
    if (pdone.a && guest_write(hc->caller, pdone, &before, sizeof(before)))
        return -EFAULT;
    return r;
}
