/*
 * CPUID of guests: the domain's policy with the vCPU's state filled in. Pure.
 *
 * Invariants
 *  1. Nothing but the policy and the vCPU's own state is in an answer; the machine is asked for nothing.
 *  2. Leaves beyond the policy's limits read as zero.
 */
#include "x86/policy.h"
#include "core/abi.h"
#include "core/nospec.h"

#define L1C_OSXSAVE             (1u << 27)
#define L1C_XSAVE               (1u << 26)
#define XCR0_AVX                4u
#define XCR0_AVX512             0xe0u
/* xen/arch-x86/cpuid.h, from 4.17 on */
#define HVM_CPUID_UPCALL_VECTOR (1u << 6)
#define XSAVE_MIN               576u /* legacy region and header */

bool policy_xcr0_ok(uint64_t value, uint64_t mask)
{
    if (!(value & 1) || (value & ~mask))
        return false;
    if ((value & XCR0_AVX) && !(value & 2))
        return false;
    if ((value & 0x18) && (value & 0x18) != 0x18)
        return false;
    if ((value & XCR0_AVX512) && ((value & XCR0_AVX512) != XCR0_AVX512 || !(value & XCR0_AVX)))
        return false;
    return true;
}

uint32_t policy_xsave_size(const struct cpu_policy *p, uint64_t components)
{
    uint32_t size = XSAVE_MIN;

    for (unsigned i = 2; i < POLICY_XSTATES && components >> i; i++)
        if (components >> i & 1 && p->xstate[i].b + p->xstate[i].a > size)
            size = p->xstate[i].b + p->xstate[i].a;
    return size;
}

/* The same in the compact format. */
static uint32_t compact_size(const struct cpu_policy *p, uint64_t components)
{
    uint32_t size = XSAVE_MIN;

    for (unsigned i = 2; i < POLICY_XSTATES && components >> i; i++) {
        if (!(components >> i & 1))
            continue;
        size = (p->xstate[i].c & 2) ? ROUND_UP(size, 64u) : size;
        size += p->xstate[i].a;
    }
    return size;
}

static const struct cpuid_leaf zero;

static const struct cpuid_leaf *subleaf_of(const struct cpuid_leaf *l, uint32_t subleaf, uint32_t n)
{
    return subleaf < n ? &l[array_index(subleaf, n)] : &zero;
}

static void xstate_leaf(const struct cpu_policy *p, const struct cpuid_env *e, uint32_t subleaf,
                        struct cpuid_leaf *out)
{
    *out = *subleaf_of(p->xstate, subleaf, POLICY_XSTATES);
    if (subleaf == 0 && out->a)
        out->b = policy_xsave_size(p, e->xcr0);
    else if (subleaf == 1 && out->a & 2)
        out->b = compact_size(p, e->xcr0);
}

static void basic_leaf(const struct cpu_policy *p, const struct cpuid_env *e, uint32_t leaf, uint32_t subleaf,
                       struct cpuid_leaf *out)
{
    switch (leaf) {
    case 1:
        *out = p->basic[1];
        out->b |= ((e->vcpu * 2) & 0xff) << 24; /* the APIC id; one thread per package */
        if (out->c & L1C_XSAVE && e->osxsave)
            out->c |= L1C_OSXSAVE;
        break;
    case 4:
        *out = *subleaf_of(p->cache, subleaf, POLICY_CACHES);
        break;
    case 7:
        *out = *subleaf_of(p->feature, subleaf, POLICY_FEATURES);
        break;
    case 0xb: /* no levels, the x2APIC id only */
        *out = (struct cpuid_leaf){.c = subleaf & 0xff, .d = e->vcpu * 2};
        break;
    case 0xd:
        xstate_leaf(p, e, subleaf, out);
        break;
    default:
        *out = p->basic[array_index(leaf, POLICY_BASIC)];
    }
}

/* xen/arch-x86/cpuid.h */
static void hypervisor_leaf(const struct cpu_policy *p, const struct cpuid_env *e, uint32_t leaf,
                            uint32_t subleaf, struct cpuid_leaf *l)
{
    uint32_t limit = e->xen_leaf ? p->hv2_limit : p->hv_limit;
    uint32_t last = limit ? MIN(limit, XEN_CPUID_MAX_NUM_LEAVES) : XEN_CPUID_MAX_NUM_LEAVES;

    leaf -= XEN_CPUID_FIRST_LEAF + e->xen_leaf;
    if (leaf > last)
        return;
    switch (leaf) {
    case 0:
        l->a = XEN_CPUID_LEAF(last) + e->xen_leaf;
        l->b = XEN_CPUID_SIGNATURE_EBX;
        l->c = XEN_CPUID_SIGNATURE_ECX;
        l->d = XEN_CPUID_SIGNATURE_EDX;
        break;
    case 1:
        l->a = POLICY_VERSION_MAJOR << 16 | POLICY_VERSION_MINOR;
        break;
    case 2:
        l->a = 1; /* one hypercall page */
        l->b = 0x40000000 + e->xen_msr;
        l->c = e->hvm ? 0 : XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD;
        break;
    case 3:
        if (subleaf == 0) {
            l->a = (e->tsc_reliable ? 2u : 0u) | (e->tsc_emulated ? 1u : 0u) | 4u;
            l->b = e->tsc_mode;
            l->c = e->tsc_khz;
            l->d = e->tsc_incarnation;
        } else if (subleaf == 2) {
            l->a = e->host_khz;
        }
        break;
    case 4:
        if (!e->hvm || subleaf)
            break;
        l->a = XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT |
               (e->upcall_vectors ? HVM_CPUID_UPCALL_VECTOR : 0);
        l->b = e->vcpu;
        l->c = e->domain;
        break;
    case 5:
        if (subleaf == 0 && !e->hvm)
            l->b = e->machine_bits;
        break;
    default:
        break;
    }
}

void policy_cpuid(const struct cpu_policy *p, const struct cpuid_env *env, uint32_t leaf, uint32_t subleaf,
                  struct cpuid_leaf *out)
{
    *out = zero;
    if (leaf < 0x40000000) {
        if (leaf <= p->basic[0].a)
            basic_leaf(p, env, leaf, subleaf, out);
    } else if (leaf >= 0x80000000) {
        if (leaf <= p->extended[0].a)
            *out = p->extended[array_index(leaf - 0x80000000, POLICY_EXTENDED)];
    } else {
        hypervisor_leaf(p, env, leaf, subleaf, out);
    }
}
