/* CPUID of HVM guests: the domain's policy with the vCPU's state filled in (arch/x86/policy). */
#include "private.h"
#include "dev/vlapic.h"
#include "dev/tsc.h"
#include "viridian/viridian.h"
#include "x86/cpu.h"
#include "x86/policy.h"

#define LEAF1_APIC (1u << 9)

void hvm_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out)
{
    const struct x86_domain *d = x86_domain(v->domain);
    struct cpuid_env env = {
        .xcr0 = x86_vcpu(v)->xcr0,
        .vcpu = v->id,
        .domain = v->domain->id.v,
        .hvm = true,
        /* Linux also names a line then, and where there is none, goes back to the callback vector, which needs no end of interrupt. */
        .upcall_vectors = hvm_domain(v->domain)->board != NULL,
        .osxsave = (hvm_get(v, HVM_CR4) & CR4_OSXSAVE) != 0,
        .tsc_khz = (uint32_t)hvm_tsc_khz(v->domain),
        .host_khz = (uint32_t)tsc_khz,
        .tsc_emulated = d->tsc_emulated,
        .tsc_reliable = cpu_features.tsc_invariant,
        .tsc_mode = d->tsc_mode,
        .tsc_incarnation = d->tsc_incarnation,
    };

    if (unlikely(hvm_domain(v->domain)->viridian != NULL)) {
        if (leaf - VIRIDIAN_LEAF < VIRIDIAN_XEN_LEAF) {
            viridian_cpuid(v, leaf, out);
            return;
        }
        env.xen_leaf = VIRIDIAN_XEN_LEAF;
        env.xen_msr = VIRIDIAN_XEN_MSR - VIRIDIAN_LEAF;
    }

    policy_cpuid(d->policy, &env, leaf, subleaf, out);
    if (leaf == 1 && !vlapic_xapic_on(v) && !vlapic_x2(v))
        out->d &= ~LEAF1_APIC;
}
