/* Fuzz target: what guests see of CPUID, MSRs, XCR0 and descriptors. No answer may show what Krypton keeps from a guest. */
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

/* A host that says anything. */
static void host(uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out)
{
    static const uint32_t word[] = {0, ~0u, 0x12345678, 0xffff0000};

    out->a = word[next(1) % 4];
    out->b = word[next(1) % 4] ^ leaf;
    out->c = ~0u;
    out->d = ~0u;
}

static void cpuid(void)
{
    uint64_t b = next(2);
    struct cpuid_env env = {.host = host,
                            .amd = b & 1,
                            .hardware = b & 2,
                            .osxsave = b & 4,
                            .fsgsbase = b & 8,
                            .tsc_reliable = b & 16,
                            .max_leaf = (uint32_t)next(1),
                            .max_ext_leaf = 0x80000000u + (uint32_t)next(1),
                            .xcr0_mask = next(1),
                            .xcr0 = next(1),
                            .vcpu = (unsigned)next(1),
                            .machine_bits = (uint8_t)(32 + next(1) % 21)};
    static const uint32_t base[] = {0, 0x40000000, 0x80000000};
    uint32_t leaf = base[next(1) % 3] + (uint32_t)next(1);
    struct cpuid_leaf out;

    policy_cpuid_pv(&env, leaf, (uint32_t)next(1), &out);
    if (leaf == 1) {
        BUG_ON(out.c & (1u << 5 | 1u << 3 | 1u << 17 | 1u << 21)); /* VMX, MONITOR, PCID, x2APIC */
        BUG_ON(out.d & (1u << 3 | 1u << 13 | 1u << 12 | 1u << 21) && !env.hardware); /* PSE, PGE, MTRR, DS */
    }
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
    input = data;
    left = size;
    for (unsigned i = 0; left && i < 64; i++) {
        cpuid();
        others();
    }
    return 0;
}
