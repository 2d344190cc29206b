/*
 * Mitigations of speculative execution: the options, the plan (policy/speculation.c) put into the entry code, and what
 * each processor must be told.
 *
 * A place in entry.S begins with a jump over it; switching it on replaces the jump by a NOP. So a mitigation that is off
 * costs at most one instruction.
 */
#include "asm.h"
#include "metal.h"
#include "core/log.h"
#include "core/params.h"
#include "lib/string.h"
#include "x86/msr.h"
#include "x86/spec.h"

#define SPEC_CTRL_IBRS 1ull
#define PRED_CMD_IBPB  1ull
#define EFER_AUTO_IBRS (1ull << 21)

struct spec_plan spec_plan RO_AFTER_INIT;

static struct spec_options options = SPEC_OPTIONS_DEFAULT;

static bool opt_spec_ctrl(const char *value)
{
    return spec_parse(value, &options);
}
PARAM_CUSTOM(
    "spec-ctrl", opt_spec_ctrl,
    "mitigations of speculative execution: no, or a list of rsb=, ibrs=, ibpb=, verw= (or md-clear=)");

static bool opt_xpti(const char *value)
{
    return xpti_parse(value, &options);
}
PARAM_CUSTOM("xpti", opt_xpti, "separate page tables for PV guests: a boolean, or a list of dom0=, domu=");

static void switch_places(unsigned sites)
{
    static const uint8_t nop[5] = {0x0f, 0x1f, 0x44, 0x00, 0x00};
    extern const struct {
        uint64_t at, bits;
    } __start_krypton_spec[], __stop_krypton_spec[];

    for (const typeof(__start_krypton_spec[0]) *p = __start_krypton_spec; p < __stop_krypton_spec; p++)
        if (p->bits & sites)
            memcpy((void *)p->at, nop, sizeof(nop));
}

void spec_init(void)
{
    char text[120];

    spec_plan = spec_decide(&cpu_features, &options);
    switch_places(spec_plan.sites);
    spec_describe(&spec_plan, text, sizeof(text));
    log_info("%s", text);
}

void spec_init_cpu(void)
{
    if (spec_plan.ibrs == SPEC_IBRS_ALWAYS || spec_plan.ibrs == SPEC_IBRS_ENTRY)
        wrmsr(MSR_SPEC_CTRL, SPEC_CTRL_IBRS);
    else if (spec_plan.ibrs == SPEC_IBRS_AUTO)
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AUTO_IBRS);
}

/* Microcode may differ between sockets: a missing MSR would be a fault in the entry code. */
bool spec_cpu_suits(void)
{
    uint32_t l7d = cpuid(0, 0).a >= 7 ? cpuid(7, 0).d : 0;
    uint32_t e8b = cpuid(0x80000000, 0).a >= 0x80000008 ? cpuid(0x80000008, 0).b : 0;
    bool ibrs = (l7d >> 26 & 1) || (e8b >> 14 & 1), ibpb = (l7d >> 26 & 1) || (e8b >> 12 & 1);

    if (spec_plan.ibrs == SPEC_IBRS_AUTO && !(cpuid(0x80000021, 0).a >> 8 & 1))
        return false;
    if ((spec_plan.ibrs == SPEC_IBRS_ALWAYS || spec_plan.ibrs == SPEC_IBRS_ENTRY) && !ibrs)
        return false;
    return !spec_plan.ibpb || ibpb;
}

void spec_barrier(void)
{
    wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
}
