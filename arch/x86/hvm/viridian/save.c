/*
 * The records VIRIDIAN_DOMAIN and VIRIDIAN_VCPU of xen/arch-x86/hvm/save.h. What has no place in them begins anew: SCONTROL (on where
 * there is a message page), SIEFP, crash parameters, messages that waited. A period begins with the vCPU.
 */
#include "private.h"
#include "arch/time.h"
#include "x86/p2m.h"
#include <xen/hvm/save.h>

void viridian_get_domain(struct domain *d, struct hvm_viridian_domain_context *c)
{
    const struct viridian *vd = viridian_of(d);

    *c = (struct hvm_viridian_domain_context){.hypercall_gpa = vd->call_page,
                                              .guest_os_id = vd->guest_os_id,
                                              .time_ref_count = reference_time(d),
                                              .reference_tsc = vd->tsc_page};
}

void viridian_set_domain(struct domain *d, const struct hvm_viridian_domain_context *c)
{
    struct viridian *vd = viridian_of(d);

    vd->start_ns = arch_time_ns() - c->time_ref_count * 100;
    vd->guest_os_id = c->guest_os_id;
    vd->call_page = c->guest_os_id ? c->hypercall_gpa : c->hypercall_gpa & ~PAGE_ON;
    vd->tsc_page = c->reference_tsc;
    viridian_tsc_moved(d);
}

void viridian_get_vcpu(struct vcpu *v, struct hvm_viridian_vcpu_context *c)
{
    const struct viridian_vcpu *vv = viridian_vcpu(v);

    *c = (struct hvm_viridian_vcpu_context){.vp_assist_msr = vv->assist.msr,
                                            .apic_assist_pending = hvm_vcpu(v)->lazy_eoi,
                                            .simp_msr = vv->sim.msr};
    for (unsigned i = 0; i < SINTS; i++)
        c->sint_msr[i] = vv->sint[i];
    for (unsigned n = 0; n < STIMERS; n++) {
        c->stimer_config_msr[n] = vv->stimer[n].config;
        c->stimer_count_msr[n] = vv->stimer[n].count;
    }
}

/* As page_set, but what the page holds stays. */
static int page_again(struct vcpu *v, struct viridian_page *p, uint64_t msr)
{
    page_drop(p);
    p->msr = msr;
    if (msr & PAGE_ON)
        p->va = page_take(v->domain, msr, &p->mfn);
    return !(msr & PAGE_ON) || p->va ? 0 : -EINVAL;
}

int viridian_set_vcpu(struct vcpu *v, const struct hvm_viridian_vcpu_context *c)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);

    viridian_vcpu_reset(v);
    if (page_again(v, &vv->assist, c->vp_assist_msr) || page_again(v, &vv->sim, c->simp_msr))
        return -EINVAL;
    vv->scontrol = c->simp_msr & PAGE_ON;
    hvm_vcpu(v)->lazy_eoi = vv->assist.va && c->apic_assist_pending;
    if (vv->assist.va && !hvm_vcpu(v)->lazy_eoi)
        __atomic_store_n((uint32_t *)vv->assist.va, 0, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < SINTS; i++)
        sint_set(v, i, sint_ok(c->sint_msr[i]) ? c->sint_msr[i] : SINT_MASKED);
    for (unsigned n = 0; n < STIMERS; n++) {
        stimer_set_config(v, n, 0);
        stimer_set_count(v, n, c->stimer_count_msr[n]);
        stimer_set_config(v, n, c->stimer_config_msr[n]);
    }
    return 0;
}
