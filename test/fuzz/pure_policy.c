/* Fuzz target: what guests see of CPUID, MSRs, XCR0 and descriptors. A toolstack's policy, read from any bytes and trimmed, never
 * shows more than what there is; no answer shows what Krypton keeps from a PV guest. */
#include "fake.h"
#include "x86/policy.h"
#include "x86/pv.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t left;

static uint64_t next(size_t n)
{
    uint64_t v = 0;

    while (n-- && left) {
        v = v << 8 | *input++;
        left--;
    }
    return v;
}

/* A processor that says anything. */
static void processor(uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out)
{
    uint32_t x = (leaf * 2654435761u) ^ (subleaf * 40503u);

    out->a = leaf == 0 ? 0x16 : leaf == 0x80000000 ? 0x80000021 : x % 3 ? ~0u : x;
    out->b = x % 5 ? ~0u : x;
    out->c = ~0u;
    out->d = ~0u;
}

static void take_leaves(struct cpu_policy *p)
{
    static const uint32_t base[] = {0, 7, 0xd, 0x80000000};
    struct policy_error e;
    struct xen_cpuid_leaf leaf[8];
    struct xen_msr_entry msr[2];
    unsigned n = (unsigned)next(1) % 9;

    for (unsigned i = 0; i < n; i++)
        leaf[i] = (struct xen_cpuid_leaf){.leaf = base[next(1) % 4] + (uint32_t)next(1) % 40,
                                          .subleaf = next(1) & 1 ? XEN_CPUID_NO_SUBLEAF : (uint32_t)next(1),
                                          .a = (uint32_t)next(4),
                                          .b = (uint32_t)next(4),
                                          .c = (uint32_t)next(4),
                                          .d = (uint32_t)next(4)};
    if (policy_read_leaves(p, leaf, n, &e))
        return;
    for (unsigned i = 0; i < 2; i++)
        msr[i] = (struct xen_msr_entry){
            .idx = next(1) & 1 ? 0xce : 0x10a, .flags = (uint32_t)next(1) & 1, .val = next(8)};
    if (policy_read_msrs(p, msr, (unsigned)next(1) % 3, &e))
        return;
}

static void no_more_than(const struct cpu_policy *p, const struct cpu_policy *max)
{
    uint32_t have[POLICY_WORDS], most[POLICY_WORDS];

    policy_features(p, have);
    policy_features(max, most);
    for (unsigned i = 0; i < POLICY_WORDS; i++)
        BUG_ON(have[i] & ~most[i]);
    BUG_ON(policy_xcr0(p) & ~policy_xcr0(max));
}

static void cpuid(const struct cpu_policy *p)
{
    uint64_t b = next(2);
    struct cpuid_env env = {.xcr0 = next(1),
                            .vcpu = (unsigned)next(1),
                            .osxsave = b & 4,
                            .tsc_reliable = b & 16,
                            .machine_bits = (uint8_t)(32 + next(1) % 21)};
    static const uint32_t base[] = {0, 0x40000000, 0x80000000};
    uint32_t leaf = base[next(1) % 3] + (uint32_t)next(1);
    struct cpuid_leaf out;

    policy_cpuid(p, &env, leaf, (uint32_t)next(1), &out);
    if (leaf == 1)
        BUG_ON(out.c & (1u << 5 | 1u << 3 | 1u << 17)); /* VMX, MONITOR, PCID */
    if (leaf == 0x80000001)
        BUG_ON(out.c & (1u << 2)); /* SVM */
}

static void others(void)
{
    struct msr_env env = {.intel = next(1) & 1, .amd = next(1) & 1, .hardware = next(1) & 1};
    uint32_t msr = next(1) & 1 ? (uint32_t)next(4) : 0xc0000000u + (uint32_t)next(2);
    const struct msr_rule *r = policy_msr_pv(&env, msr);
    uint64_t desc = next(8), fixed = pv_descriptor_fix(desc), value = next(8), mask = next(2) | 1;

    if (r)
        BUG_ON(msr < r->first || msr > r->last || (r->hardware_only && !env.hardware));
    if (policy_xcr0_ok(value, mask))
        BUG_ON(value & ~mask || !(value & 1));
    /* Present: code or data for ring 3, or nothing that the processor takes for a descriptor. */
    if (pv_descriptor_ok(fixed) && fixed >> 47 & 1)
        BUG_ON(fixed >> 44 & 1 ? (fixed >> 45 & 3) != 3 : fixed >> 40 & 15);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct policy_host h = {.cpuid = processor, .max_leaf = 0x16, .max_ext_leaf = 0x80000021};
    static struct cpu_policy max, mine;
    struct policy_error e;

    input = data;
    left = size;
    h.amd = next(1) & 1;
    h.fsgsbase = next(1) & 1;
    h.xcr0_mask = next(1) << 1 | 1;
    policy_build_pv_max(&h, &max);
    mine = max;
    for (unsigned i = 0; left && i < 16; i++) {
        take_leaves(&mine);
        if (!policy_check(&mine, &max, &e)) {
            policy_trim(&mine, &max);
            no_more_than(&mine, &max);
        } else {
            mine = max; /* refused: as it was */
        }
        cpuid(&mine);
        others();
    }
    return 0;
}
