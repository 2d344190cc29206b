/*
 * CPUID and MSRs of the running PV guest: the policy's answers (arch/x86/policy) with the vCPU's state filled
 * in.
 */
#include "private.h"
#include "core/frame.h"
#include "core/log.h"
#include "x86/cpu.h"
#include "x86/platform.h"
#include "x86/policy.h"
#include "x86/pte.h"
#include "../metal/asm.h"
#include "../metal/pvregs.h"
#include "x86/msr.h"

#define EFER_SHOWN           0xd01ull /* SCE LME LMA NXE */
#define APIC_BASE_SHOWN      0xfee00800ull
#define APIC_BASE_BSP        0x100ull
/* MISC_ENABLE: no performance monitoring, no MONITOR; BTS, PEBS unavailable, xTPR off. */
#define MISC_CLEAR           ((1ull << 7) | (1ull << 18))
#define MISC_SET             ((1ull << 11) | (1ull << 12) | (1ull << 23))
#define CR4_OSXSAVE          (1ull << 18)
#define PLATFORM_CPUID_FAULT (1ull << 31)

/* --- CPUID --- */

static uint8_t machine_bits(void)
{
    uint64_t last = frame_count ? frame_count - 1 : 0;

    return last ? (uint8_t)(64 - __builtin_clzll(last) + FRAME_SHIFT) : 32;
}

void pv_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct guest_regs *r)
{
    const struct x86_domain *d = x86_domain(v->domain);
    struct cpuid_env env = {
        .xcr0 = x86_vcpu(v)->xcr0,
        .vcpu = v->id,
        .osxsave = (pv_vcpu(v)->cr4_guest & CR4_OSXSAVE) != 0,
        .tsc_khz = (uint32_t)tsc_khz,
        .host_khz = (uint32_t)tsc_khz,
        .tsc_reliable = cpu_features.tsc_invariant,
        .tsc_mode = d->tsc_mode,
        .tsc_incarnation = d->tsc_incarnation,
        .machine_bits = machine_bits(),
    };
    struct cpuid_leaf l;

    policy_cpuid(d->policy, &env, leaf, subleaf, &l);
    r->rax = l.a;
    r->rbx = l.b;
    r->rcx = l.c;
    r->rdx = l.d;
}

/* --- MSRs --- */

static const struct msr_rule *rule_for(const struct vcpu *v, uint32_t msr)
{
    struct msr_env env = {.intel = cpu_features.intel,
                          .amd = cpu_features.amd,
                          .hardware = v->domain->hardware,
                          .rdtscp = cpu_features.rdtscp,
                          .ibpb = cpu_features.ibpb};

    return policy_msr_pv(&env, msr);
}

static uint64_t misc_enable(void)
{
    uint64_t value = 0;

    if (!rdmsr_safe(MSR_MISC_ENABLE, &value))
        value = 1; /* fast strings */
    return (value & ~MISC_CLEAR) | MISC_SET;
}

static bool read_by_rule(struct vcpu *v, const struct msr_rule *rule, uint32_t msr, uint64_t *value)
{
    switch (rule->answer) {
    case MSR_CONSTANT:
    case MSR_IGNORE_WRITE:
        *value = rule->value;
        return true;
    case MSR_HOST_READ:
    case MSR_HOST_IGNORE:
        return rdmsr_safe(msr, value);
    case MSR_FS_BASE_:
    case MSR_GS_BASE_:
    case MSR_GS_SHADOW_:
        *value = rdmsr(msr);
        return true;
    case MSR_TSC_AUX_:
        *value = pv_vcpu(v)->tsc_aux;
        return true;
    case MSR_TSC_:
        *value = rdtsc();
        return true;
    case MSR_EFER_:
        *value = rdmsr(MSR_EFER) & EFER_SHOWN;
        return true;
    case MSR_APIC_BASE_:
        *value = APIC_BASE_SHOWN | (v->id == 0 ? APIC_BASE_BSP : 0);
        return true;
    case MSR_MISC_ENABLE_:
        *value = misc_enable();
        return true;
    case MSR_HYPERCALL_PAGE_:
        *value = 0;
        return true;
    case MSR_PLATFORM_INFO_:
        *value = x86_domain(v->domain)->policy->platform_info;
        return true;
    case MSR_MISC_FEATURES_:
        *value = pv_vcpu(v)->cpuid_fault;
        return true;
    default: /* PRED_CMD is write-only */
        return false;
    }
}

bool pv_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct msr_rule *rule = rule_for(v, msr);

    if (rule && read_by_rule(v, rule, msr, value))
        return true;
    log_guest(v->domain->id, LOG_DEBUG, "rdmsr %x refused", msr);
    return false;
}

/* Low 12 bits: page number, of which there is one; the rest: the guest's frame. */
static bool write_hypercall_page(struct vcpu *v, uint64_t value)
{
    return !(value & (FRAME_SIZE - 1)) && pv_hypercall_page_install(v->domain, MFN(value >> FRAME_SHIFT));
}

/* Was the domain promised that it can make CPUID fault in its user mode? */
static bool cpuid_fault_given(const struct vcpu *v)
{
    return x86_domain(v->domain)->policy->platform_info & PLATFORM_CPUID_FAULT;
}

static bool write_base(uint32_t msr, uint64_t value)
{
    if (!va_canonical(value))
        return false;
    wrmsr(msr, value);
    return true;
}

static bool write_tsc_aux(struct vcpu *v, uint64_t value)
{
    if (value >> 32)
        return false;
    pv_vcpu(v)->tsc_aux = (uint32_t)value;
    wrmsr(MSR_TSC_AUX, value);
    return true;
}

static bool write_by_rule(struct vcpu *v, const struct msr_rule *rule, uint32_t msr, uint64_t value)
{
    uint64_t now;

    switch (rule->answer) {
    case MSR_IGNORE_WRITE:
    case MSR_HOST_IGNORE:
        return true;
    case MSR_FS_BASE_:
    case MSR_GS_BASE_:
    case MSR_GS_SHADOW_:
        return write_base(msr, value);
    case MSR_TSC_AUX_:
        return write_tsc_aux(v, value);
    case MSR_PRED_CMD_:
        return !(value & ~1ull) && wrmsr_safe(MSR_PRED_CMD, value);
    case MSR_HYPERCALL_PAGE_:
        return write_hypercall_page(v, value);
    case MSR_TSC_:
        return false;
    case MSR_MISC_FEATURES_: /* bit 0: CPUID faulting, where we have it to give */
        if (value > cpuid_fault_given(v))
            return false;
        pv_vcpu(v)->cpuid_fault = value;
        return true;
    default: /* a write that changes nothing is harmless: kernels do read-modify-write without need */
        return read_by_rule(v, rule, msr, &now) && now == value;
    }
}

bool pv_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    const struct msr_rule *rule = rule_for(v, msr);

    if (rule && write_by_rule(v, rule, msr, value))
        return true;
    log_guest(v->domain->id, LOG_DEBUG, "wrmsr %x = %lx refused", msr, value);
    return false;
}
