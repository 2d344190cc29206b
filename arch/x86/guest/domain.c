/*
 * The architecture's part of domains and vCPUs that is the same for each kind of guest: objects, policy, rights, interrupts. The rest
 * goes through the kind's table (x86/guest.h).
 *
 * Invariants
 *  1. A domain that is not a system one has a kind; idle vCPUs and system domains have none and are asked nothing here.
 */
#include "x86/guest.h"
#include "core/alloc.h"
#include "x86/cpu.h"
#include "x86/hvm.h"
#include "x86/platform.h"
#include "x86/pv.h"

#define FPU_MIN 576

/* --- domains --- */

struct domain *arch_domain_alloc(void)
{
    return mem_alloc(sizeof(struct x86_domain));
}

void arch_domain_free(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);

    if (d->ops)
        guest_kind(d)->domain_free(d);
    mem_free(x->policy);
    rights_domain_free(d);
    if (x->pirq)
        pirq_domain_free(d);
    mem_free(x);
}

/* On failure the caller frees the domain, with what was allocated here. */
int arch_domain_init(struct domain *d, uint32_t flags)
{
    static uint64_t serial;
    int err;

    if (d->system)
        return 0;
    x86_domain(d)->serial = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    err = guest_policy_domain_init(d);
    if (!err)
        err = rights_domain_init(d);
    if (!err)
        err = pirq_domain_init(d);
    return err ? err : guest_kind(d)->domain_init(d, flags);
}

int arch_domain_release(struct domain *d)
{
    return guest_kind(d)->domain_release(d);
}

int arch_domain_soft_reset(struct domain *d)
{
    if (!guest_kind(d)->domain_soft_reset)
        return -EINVAL;
    guest_kind(d)->domain_soft_reset(d);
    return 0;
}

/* --- vCPUs --- */

struct vcpu *arch_vcpu_alloc(struct domain *d)
{
    return mem_alloc(sizeof(struct x86_vcpu));
}

void arch_vcpu_free(struct vcpu *v)
{
    if (v->domain->ops)
        guest_kind(v->domain)->vcpu_free(v);
    mem_free(x86_vcpu(v)->fpu);
    mem_free(x86_vcpu(v));
}

int arch_vcpu_init(struct vcpu *v)
{
    struct x86_vcpu *x = x86_vcpu(v);

    if (v->idle || v->domain->system)
        return 0;
    x->fpu = mem_alloc(MAX(x86_fpu_size, FPU_MIN));
    return x->fpu ? guest_kind(v->domain)->vcpu_init(v) : -ENOMEM;
}

void arch_vcpu_reset(struct vcpu *v)
{
    guest_kind(v->domain)->vcpu_reset(v);
}

int arch_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online)
{
    return guest_kind(v->domain)->vcpu_initialise(v, caller, context, online);
}

int arch_vcpu_unload(struct vcpu *v)
{
    return guest_kind(v->domain)->vcpu_unload(v);
}

int arch_vcpu_nmi(struct vcpu *v)
{
    return guest_kind(v->domain)->vcpu_nmi(v);
}

void arch_vcpu_dump(struct vcpu *v)
{
    if (!v->idle)
        guest_kind(v->domain)->vcpu_dump(v);
}

bool arch_vcpu_area_write(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return guest_kind(v->domain)->area_write(v, to, from, n);
}

/* --- what guests are told --- */

uint32_t arch_features(const struct domain *d)
{
    return guest_kind(d)->features(d);
}

const char *arch_capabilities(void)
{
    return hvm_available() ? "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
                           : "xen-3.0-x86_64 ";
}

uint64_t arch_virt_start(const struct domain *d)
{
    return guest_kind(d)->virt_start(d);
}
