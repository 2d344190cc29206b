/* What guests see of the processor: CPUID and MSR policy. Pure: facts of the host come in, answers go out (arch/x86/policy). */
#ifndef X86_POLICY_H
#define X86_POLICY_H

#include "core/types.h"
#include "x86/cpu.h"

#define POLICY_VERSION_MAJOR                                                                                 \
    4 /* the interface version that XENVER_version and the hypervisor leaves report */
#define POLICY_VERSION_MINOR 17

/* Everything the answer depends on. */
struct cpuid_env {
    void (*host)(uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out); /* the real CPUID */
    bool amd;                        /* AMD or Hygon conventions of the extended leaves */
    uint32_t max_leaf, max_ext_leaf; /* the host's */
    uint64_t xcr0_mask;              /* what Krypton allows guests to enable; 0 = no XSAVE */
    uint64_t xcr0;                   /* the vCPU's */
    unsigned vcpu;
    bool hardware; /* domain that owns the devices */
    bool osxsave;  /* the guest's CR4.OSXSAVE */
    bool fsgsbase; /* CR4.FSGSBASE may be used by guests */
    uint32_t tsc_khz;
    bool tsc_reliable;    /* invariant and synchronized */
    uint8_t machine_bits; /* width of the highest machine address a guest may meet */
};

/* CPUID as a PV guest gets it (Intel SDM vol. 2 CPUID, AMD APM vol. 3 app. E, xen/arch-x86/cpuid.h). */
void policy_cpuid_pv(const struct cpuid_env *env, uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out);
/* Bytes of the standard-format XSAVE area for these components. */
uint32_t policy_xsave_size(const struct cpuid_env *env, uint64_t components);
/* May a guest load this into XCR0? */
bool policy_xcr0_ok(uint64_t value, uint64_t mask);

/* How the MSR of a PV guest is answered. */
enum msr_answer {
    MSR_FAULT,        /* #GP */
    MSR_CONSTANT,     /* read: .value; write: accepted only if equal to it */
    MSR_IGNORE_WRITE, /* read: .value; writes vanish */
    MSR_HOST_IGNORE,  /* read: the host's; writes vanish */
    MSR_HOST_READ,    /* read: the host's; write: accepted only if it changes nothing */
    MSR_FS_BASE_,
    MSR_GS_BASE_,
    MSR_GS_SHADOW_,
    MSR_TSC_AUX_,
    MSR_TSC_,
    MSR_EFER_,
    MSR_APIC_BASE_,
    MSR_MISC_ENABLE_,
    MSR_PRED_CMD_,
    MSR_HYPERCALL_PAGE_,
    MSR_PLATFORM_INFO_,
    MSR_MISC_FEATURES_,
};
struct msr_rule {
    uint32_t first, last;
    enum msr_answer answer;
    bool hardware_only; /* others fault */
    uint8_t vendor;     /* 0 any, 1 Intel, 2 AMD */
    uint64_t value;
};
struct msr_env {
    bool intel, amd, hardware, rdtscp, ibpb;
};
/* The rule for an MSR, or NULL: #GP. */
const struct msr_rule *policy_msr_pv(const struct msr_env *env, uint32_t msr);

#endif
