/*
 * MSR policy of PV guests: one table, in ascending order, first match wins, no match is #GP. Pure.
 *
 * Invariants
 *  1. No write reaches the hardware but by a named answer (bases, TSC_AUX, PRED_CMD): a guest cannot change
 * how Krypton or another guest runs.
 *  2. No entry point of the hardware (STAR, LSTAR, CSTAR, SFMASK, SYSENTER_*) has a row: callback_op is the way,
 * and a guest that believes it changed one would be wrong in silence.
 *  3. No read of the host's registers but those listed: what identifies or times other guests' activity stays
 * hidden.
 */
#include "x86/policy.h"

#define HW      true
#define V_ANY   0
#define V_INTEL 1
#define V_AMD   2

/* PAT as the interface promises it to PV guests: WB WT UC- UC WC WP UC UC. */
#define PV_PAT  0x0000050100070406ull

static const struct msr_rule rules[] = {
    {0x00000000, 0x00000001, MSR_CONSTANT, false, V_ANY, 0}, /* P5_MC_ADDR, P5_MC_TYPE: Windows */
    {0x00000010, 0x00000010, MSR_TSC_, false, V_ANY, 0},
    {0x00000017, 0x00000017, MSR_HOST_READ, HW, V_INTEL, 0}, /* platform id: microcode tools */
    {0x0000001b, 0x0000001b, MSR_APIC_BASE_, false, V_ANY, 0},
    {0x00000049, 0x00000049, MSR_PRED_CMD_, false, V_ANY, 0},
    {0x0000008b, 0x0000008b, MSR_HOST_READ, HW, V_AMD, 0}, /* patch level */
    {0x0000008b, 0x0000008b, MSR_CONSTANT, false, V_AMD, 0},
    {0x0000008b, 0x0000008b, MSR_IGNORE_WRITE, false, V_INTEL, 0},   /* written as 0 before it is read */
    {0x000000ce, 0x000000ce, MSR_PLATFORM_INFO_, false, V_INTEL, 0}, /* CPUID faulting and nothing else */
    {0x000000fe, 0x000000fe, MSR_HOST_READ, HW, V_ANY, 0},           /* MTRRcap */
    {0x00000140, 0x00000140, MSR_MISC_FEATURES_, false, V_INTEL, 0},
    {0x00000179, 0x0000017a, MSR_IGNORE_WRITE, false, V_ANY, 0}, /* MCG_CAP: no banks; MCG_STATUS */
    {0x000001a0, 0x000001a0, MSR_MISC_ENABLE_, false, V_INTEL, 0},
    {0x00000200, 0x0000020f, MSR_HOST_READ, HW, V_ANY, 0}, /* variable MTRRs */
    {0x00000250, 0x00000250, MSR_HOST_READ, HW, V_ANY, 0}, /* fixed MTRRs */
    {0x00000258, 0x00000259, MSR_HOST_READ, HW, V_ANY, 0},
    {0x00000268, 0x0000026f, MSR_HOST_READ, HW, V_ANY, 0},
    {0x00000277, 0x00000277, MSR_CONSTANT, false, V_ANY, PV_PAT},
    {0x000002ff, 0x000002ff, MSR_HOST_READ, HW, V_ANY, 0}, /* MTRR default type */
    {0x40000000, 0x40000000, MSR_HYPERCALL_PAGE_, false, V_ANY, 0},
    {0x40000001, 0x40000001, MSR_CONSTANT, false, V_ANY, 0},
    {0xc0000080, 0xc0000080, MSR_EFER_, false, V_ANY, 0},
    {0xc0000100, 0xc0000100, MSR_FS_BASE_, false, V_ANY, 0},
    {0xc0000101, 0xc0000101, MSR_GS_BASE_, false, V_ANY, 0},
    {0xc0000102, 0xc0000102, MSR_GS_SHADOW_, false, V_ANY, 0},
    {0xc0000103, 0xc0000103, MSR_TSC_AUX_, false, V_ANY, 0},
    {0xc0010010, 0xc0010010, MSR_HOST_READ, HW, V_AMD, 0}, /* SYSCFG */
    {0xc0010010, 0xc0010010, MSR_IGNORE_WRITE, false, V_AMD, 0},
    {0xc0010015, 0xc0010015, MSR_IGNORE_WRITE, false, V_AMD, 1u << 24}, /* HWCR: TSC at P0 frequency */
    {0xc0010016, 0xc0010019, MSR_HOST_READ, HW, V_AMD, 0},              /* IORRs */
    {0xc001001a, 0xc001001a, MSR_HOST_READ, HW, V_AMD, 0},              /* TOP_MEM */
    {0xc001001d, 0xc001001d, MSR_HOST_READ, HW, V_AMD, 0},              /* TOP_MEM2 */
    {0xc001001f, 0xc001001f, MSR_HOST_IGNORE, HW, V_AMD, 0}, /* NB_CFG: extended cf8 is ours and always on */
    {0xc001001f, 0xc001001f, MSR_IGNORE_WRITE, false, V_AMD, 0}, /* Linux sets that bit on each CPU unasked */
    {0xc0010058, 0xc0010058, MSR_HOST_READ, HW, V_AMD, 0},       /* MMIO configuration base */
    {0xc0010064, 0xc001006b, MSR_CONSTANT, false, V_AMD, 0},     /* P-states: none is on */
    {0xc0010112, 0xc0010113, MSR_HOST_READ, HW, V_AMD, 0},       /* SMM ranges: read by kernels on AMD */
    {0xc0010114, 0xc0010114, MSR_CONSTANT, false, V_AMD, 0x10},  /* VM_CR: SVM disabled */
    /* LS_CFG and its neighbours have no row: a kernel that reads LS_CFG believes it can set SSBD there. */
    {0xc0011029, 0xc0011029, MSR_IGNORE_WRITE, false, V_AMD, 2}, /* DE_CFG: LFENCE serializes */
};

/* The first rule that does not end before msr. */
static const struct msr_rule *first_rule(uint32_t msr)
{
    unsigned from = 0, to = ARRAY_SIZE(rules);

    while (from < to) {
        unsigned mid = (from + to) / 2;

        if (rules[mid].last < msr)
            from = mid + 1;
        else
            to = mid;
    }
    return &rules[from];
}

const struct msr_rule *policy_msr_pv(const struct msr_env *env, uint32_t msr)
{
    for (const struct msr_rule *r = first_rule(msr); r < rules + ARRAY_SIZE(rules) && r->first <= msr; r++) {
        if ((r->vendor == V_INTEL && !env->intel) || (r->vendor == V_AMD && !env->amd))
            continue;
        if (r->hardware_only && !env->hardware)
            continue;
        if ((r->answer == MSR_TSC_AUX_ && !env->rdtscp) || (r->answer == MSR_PRED_CMD_ && !env->ibpb))
            return NULL;
        return r;
    }
    return NULL;
}
