/*
 * Enlightenments of a domain: given once, before it runs; begun anew with a new kernel; taken away with the domain.
 *
 * Invariants
 *  1. hvm_domain.viridian is there exactly when HVM_PARAM_VIRIDIAN is not 0, and never changes once the domain has run.
 *  2. A vCPU without its part (made while the domain was given the groups) has none of the MSRs.
 */
#include "private.h"
#include "core/alloc.h"
#include "arch/time.h"

static bool groups_ok(uint64_t features)
{
    return !(features & ~(uint64_t)HVMPV_feature_mask) && (features & HVMPV_base_freq);
}

int viridian_vcpu_init(struct vcpu *v)
{
    struct viridian_vcpu *vv;

    if (!viridian_of(v->domain) || hvm_vcpu(v)->viridian)
        return 0;
    vv = mem_new(struct viridian_vcpu);
    if (!vv)
        return -ENOMEM;
    spin_init(&vv->lock, RANK_VIRIDIAN);
    for (unsigned i = 0; i < SINTS; i++)
        vv->sint[i] = SINT_MASKED;
    hvm_vcpu(v)->viridian = vv;
    for (unsigned n = 0; n < STIMERS; n++)
        stimer_init(v, n);
    return 0;
}

/* Timers never run in a domain that has not: nothing is to be stopped when the memory ends in the middle. */
static int give(struct domain *d, uint64_t features)
{
    struct viridian *vd = mem_new(struct viridian);
    int r = 0;

    if (!vd)
        return -ENOMEM;
    vd->features = features;
    vd->start_ns = arch_time_ns();
    hvm_domain(d)->viridian = vd;
    for_each_vcpu(d, v)
    {
        if (!r)
            r = viridian_vcpu_init(v);
    }
    if (!r)
        return 0;
    for_each_vcpu(d, v)
    {
        mem_free(hvm_vcpu(v)->viridian);
        hvm_vcpu(v)->viridian = NULL;
    }
    hvm_domain(d)->viridian = NULL;
    mem_free(vd);
    return r;
}

int viridian_set(struct domain *d, uint64_t features)
{
    spin_assert_held(&d->lock);
    if (!groups_ok(features))
        return -EINVAL;
    if (viridian_of(d))
        return viridian_of(d)->features == features ? 0 : -EEXIST;
    if (d->started || domain_is_dying(d))
        return -EBUSY;
    return give(d, features);
}

void viridian_vcpu_reset(struct vcpu *v)
{
    if (!viridian_vcpu(v))
        return;
    for (unsigned n = 0; n < STIMERS; n++)
        stimer_reset(v, n);
    synic_reset(v);
}

void viridian_vcpu_free(struct vcpu *v)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);

    if (!vv)
        return;
    for (unsigned n = 0; n < STIMERS; n++)
        timer_kill(&vv->stimer[n].timer);
    page_drop(&vv->sim);
    page_drop(&vv->assist);
    mem_free(vv);
    hvm_vcpu(v)->viridian = NULL;
}

void viridian_reset(struct domain *d)
{
    struct viridian *vd = viridian_of(d);

    if (!vd)
        return;
    for_each_vcpu(d, v)
    {
        viridian_vcpu_reset(v);
    }
    *vd = (struct viridian){
        .features = vd->features, .start_ns = arch_time_ns(), .tsc_changes = vd->tsc_changes};
}

void viridian_stop(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        struct viridian_vcpu *vv = viridian_vcpu(v);

        if (!vv)
            continue;
        viridian_vcpu_reset(v);
        for (unsigned n = 0; n < STIMERS; n++)
            timer_kill(&vv->stimer[n].timer);
    }
}

void viridian_free(struct domain *d)
{
    mem_free(viridian_of(d));
    hvm_domain(d)->viridian = NULL;
}
