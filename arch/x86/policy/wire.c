/*
 * Policies as the control interface carries them: arrays of CPUID leaves and MSRs (xen/arch-x86/xen.h: xen_cpuid_leaf_t,
 * xen_msr_entry_t), in order, leaves without subleaves marked XEN_CPUID_NO_SUBLEAF. Pure.
 */
#include "x86/policy.h"
#include "core/abi.h"

#define MSR_PLATFORM_INFO     0xceu
#define MSR_ARCH_CAPABILITIES 0x10au
#define HV2_FIRST_LEAF        (XEN_CPUID_FIRST_LEAF + 0x100)

static void put(struct xen_cpuid_leaf **to, uint32_t leaf, uint32_t subleaf, const struct cpuid_leaf *l)
{
    *(*to)++ =
        (struct xen_cpuid_leaf){.leaf = leaf, .subleaf = subleaf, .a = l->a, .b = l->b, .c = l->c, .d = l->d};
}

static void put_all(struct xen_cpuid_leaf **to, uint32_t leaf, const struct cpuid_leaf *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put(to, leaf, i, &l[i]);
}

unsigned policy_write_leaves(const struct cpu_policy *p, struct xen_cpuid_leaf *to)
{
    const struct xen_cpuid_leaf *start = to;
    const struct cpuid_leaf hv = {.a = p->hv_limit}, hv2 = {.a = p->hv2_limit};

    for (uint32_t i = 0; i < POLICY_BASIC && i <= p->basic[0].a; i++) {
        if (i == 4)
            put_all(&to, i, p->cache, POLICY_CACHES);
        else if (i == 7)
            put_all(&to, i, p->feature, MIN(p->feature[0].a + 1, POLICY_FEATURES));
        else if (i == 0xb)
            put_all(&to, i, p->topology, POLICY_TOPOLOGY);
        else if (i == 0xd)
            put_all(&to, i, p->xstate, POLICY_XSTATES);
        else
            put(&to, i, XEN_CPUID_NO_SUBLEAF, &p->basic[i]);
    }
    put(&to, XEN_CPUID_FIRST_LEAF, XEN_CPUID_NO_SUBLEAF, &hv);
    put(&to, HV2_FIRST_LEAF, XEN_CPUID_NO_SUBLEAF, &hv2);
    for (uint32_t i = 0; i < POLICY_EXTENDED && 0x80000000 + i <= p->extended[0].a; i++)
        put(&to, 0x80000000 + i, XEN_CPUID_NO_SUBLEAF, &p->extended[i]);
    return (unsigned)(to - start);
}

unsigned policy_write_msrs(const struct cpu_policy *p, struct xen_msr_entry *to)
{
    to[0] = (struct xen_msr_entry){.idx = MSR_PLATFORM_INFO, .val = p->platform_info};
    to[1] = (struct xen_msr_entry){.idx = MSR_ARCH_CAPABILITIES, .val = p->arch_capabilities};
    return 2;
}

/* Place of a leaf that has subleaves; NULL: it has none, or not this one. */
static struct cpuid_leaf *place_of_subleaf(struct cpu_policy *p, uint32_t leaf, uint32_t subleaf)
{
    switch (leaf) {
    case 4:
        return subleaf < POLICY_CACHES ? &p->cache[subleaf] : NULL;
    case 7:
        return subleaf < POLICY_FEATURES ? &p->feature[subleaf] : NULL;
    case 0xb:
        return subleaf < POLICY_TOPOLOGY ? &p->topology[subleaf] : NULL;
    case 0xd:
        return subleaf < POLICY_XSTATES ? &p->xstate[subleaf] : NULL;
    default:
        return NULL;
    }
}

static struct cpuid_leaf *place_of(struct cpu_policy *p, uint32_t leaf, uint32_t subleaf)
{
    if (leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd)
        return place_of_subleaf(p, leaf, subleaf);
    if (subleaf != XEN_CPUID_NO_SUBLEAF)
        return NULL;
    if (leaf < POLICY_BASIC)
        return &p->basic[leaf];
    if (leaf >= 0x80000000 && leaf - 0x80000000 < POLICY_EXTENDED)
        return &p->extended[leaf - 0x80000000];
    return NULL;
}

static uint32_t *limit_of(struct cpu_policy *p, const struct xen_cpuid_leaf *l)
{
    if (l->subleaf != XEN_CPUID_NO_SUBLEAF)
        return NULL;
    return l->leaf == XEN_CPUID_FIRST_LEAF ? &p->hv_limit : l->leaf == HV2_FIRST_LEAF ? &p->hv2_limit : NULL;
}

int policy_read_leaves(struct cpu_policy *p, const struct xen_cpuid_leaf *from, unsigned n,
                       struct policy_error *e)
{
    for (unsigned i = 0; i < n; i++) {
        const struct xen_cpuid_leaf *l = &from[i];
        struct cpuid_leaf *to = place_of(p, l->leaf, l->subleaf);
        uint32_t *limit = limit_of(p, l);

        if (to) {
            *to = (struct cpuid_leaf){.a = l->a, .b = l->b, .c = l->c, .d = l->d};
        } else if (limit) {
            *limit = l->a;
        } else {
            e->leaf = l->leaf;
            e->subleaf = l->subleaf;
            return -ERANGE;
        }
    }
    return 0;
}

int policy_read_msrs(struct cpu_policy *p, const struct xen_msr_entry *from, unsigned n,
                     struct policy_error *e)
{
    for (unsigned i = 0; i < n; i++) {
        const struct xen_msr_entry *m = &from[i];

        e->msr = m->idx;
        if (m->flags)
            return -EINVAL;
        if (m->idx == MSR_PLATFORM_INFO)
            p->platform_info = m->val;
        else if (m->idx == MSR_ARCH_CAPABILITIES)
            p->arch_capabilities = m->val;
        else
            return -ERANGE;
    }
    e->msr = ~0u;
    return 0;
}
