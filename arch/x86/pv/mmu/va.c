/* The PV MMU: update_va_mapping (xen/xen.h): one L1 entry by virtual address, with the flush that it needs. */
#include "types.h"
#include "core/abi.h"
#include "x86/tlb.h"

/* flags: UVMF_*, with the address of a vCPU bitmap in the upper bits for UVMF_MULTI. */
static int flush_after(struct vcpu *v, gva_t va, uint64_t flags)
{
    unsigned kind;
    struct cpumask cpus;

    switch (flags & UVMF_FLUSHTYPE_MASK) {
    case UVMF_TLB_FLUSH:
        kind = TLB_FLUSH_ALL;
        break;
    case UVMF_INVLPG:
        kind = TLB_FLUSH_VA;
        break;
    default:
        return 0;
    }
    switch (flags & ~UVMF_FLUSHTYPE_MASK) {
    case UVMF_LOCAL:
        if (kind == TLB_FLUSH_VA)
            tlb_flush_local_va(va);
        else
            tlb_flush_local();
        return 0;
    case UVMF_ALL:
        tlb_flush_cpus(&x86_domain(v->domain)->dirty_cpus, kind, va);
        return 0;
    default:
        if (vcpumask_cpus(v, GVA(flags & ~UVMF_FLUSHTYPE_MASK), &cpus))
            return -EFAULT;
        flush_cpus_of(v->domain, &cpus, kind, va);
        return 0;
    }
}

static long update_va(struct vcpu *v, gva_t va, uint64_t value, uint64_t flags, struct domain *pg_owner)
{
    struct pt_change c = {.d = v->domain, .pg_owner = pg_owner, .guest_frames = frames_translated(pg_owner)};
    unsigned index;
    struct frame *f = walk_l1(pv_vcpu(v)->root_kernel, va, &index);
    int r;

    if (unlikely(!f))
        return -EINVAL;
    r = l1_write(&c, f, index, value);
    return r ? r : flush_after(v, va, flags);
}

/*
 * An earlier request that was refused may have left a table half dropped, which a preemption stopped: the guest was told that nothing
 * is held any more, so that goes first.
 */
static bool still_dropping(struct hypercall *hc)
{
    return pending_settle_put(&pv_vcpu(hc->caller)->pending);
}

/* args: 0 address, 1 entry, 2 UVMF_* */
long pv_update_va_mapping(struct hypercall *hc)
{
    if (unlikely(still_dropping(hc)))
        return HC_AGAIN;
    return update_va(hc->caller, GVA(hc->arg[0]), hc->arg[1], hc->arg[2], hc->caller->domain);
}

/* arg 3: whose frame the entry names */
long pv_update_va_mapping_otherdomain(struct hypercall *hc)
{
    struct domain *pg_owner;
    long r;

    if (unlikely(still_dropping(hc)))
        return HC_AGAIN;
    r = target_frames(hc, (uint16_t)hc->arg[3], &pg_owner);
    if (r)
        return r;
    r = update_va(hc->caller, GVA(hc->arg[0]), hc->arg[1], hc->arg[2], pg_owner);
    hc_release(hc, pg_owner);
    return r;
}
