/*
 * The CPUID and MSR policies of this machine and of each domain. A domain's is its own copy: the toolstack may change it until the
 * domain runs (arch/x86/control), after that nobody does.
 * Locks: none; written at boot, or before the domain is published.
 */
#include "x86/guest.h"
#include "core/alloc.h"
#include "x86/cpu.h"
#include "x86/msr.h"
#include "x86/policy.h"
#include "../metal/asm.h"

static struct cpu_policy max[2];

const struct cpu_policy *guest_policy_max(bool hvm)
{
    return &max[hvm];
}

static void host_cpuid(uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out)
{
    *out = cpuid(leaf, subleaf);
}

void guest_policy_host(struct policy_host *h)
{
    *h = (struct policy_host){
        .cpuid = host_cpuid,
        .amd = cpu_features.amd,
        .max_leaf = cpu_features.max_leaf,
        .max_ext_leaf = cpu_features.max_ext_leaf,
        .xcr0_mask = cpu_features.xsave ? cpu_features.xcr0_mask : 0,
        .fsgsbase = cpu_features.fsgsbase,
        .arch_capabilities = cpu_features.arch_caps ? cpu_features.arch_capabilities : 0,
    };
    if (!cpu_features.intel || !rdmsr_safe(MSR_PLATFORM_INFO, &h->platform_info))
        h->platform_info = 0;
}

void guest_policy_init(void)
{
    struct policy_host h;

    guest_policy_host(&h);
    policy_build_pv_max(&h, &max[0]);
    policy_build_hvm_max(&h, &max[1]);
}

int guest_policy_domain_init(struct domain *d)
{
    struct cpu_policy *p = mem_alloc(sizeof(*p));

    if (!p)
        return -ENOMEM;
    *p = max[d->ops->translated];
    if (!d->hardware)
        policy_default(p);
    x86_domain(d)->policy = p;
    return 0;
}
