/* What guests see of the processor: CPUID and MSR policy. Pure: facts of the host come in, answers go out (arch/x86/policy). */
#ifndef X86_POLICY_H
#define X86_POLICY_H

#include "core/types.h"
#include "x86/cpu.h"

#define POLICY_VERSION_MAJOR                                                                                 \
    4 /* the interface version that XENVER_version and the hypervisor leaves report */
#define POLICY_VERSION_MINOR 17

/* The facts of the host that policies are made of. */
struct policy_host {
    void (*cpuid)(uint32_t leaf, uint32_t subleaf, struct cpuid_leaf *out); /* the real one */
    bool amd;                                  /* AMD or Hygon conventions of the extended leaves */
    uint32_t max_leaf, max_ext_leaf;           /* the host's */
    uint64_t xcr0_mask;                        /* what Krypton allows guests to enable; 0 = no XSAVE */
    bool fsgsbase;                             /* CR4.FSGSBASE may be used by guests */
    uint64_t platform_info, arch_capabilities; /* MSRs, 0 where there is none */
};

#define POLICY_BASIC    14u   /* leaves 0 to 0xd */
#define POLICY_CACHES   6u    /* subleaves of 4 */
#define POLICY_FEATURES 3u    /* of 7 */
#define POLICY_TOPOLOGY 2u    /* of 0xb */
#define POLICY_XSTATES  63u   /* of 0xd */
#define POLICY_EXTENDED 0x22u /* leaves 0x80000000 to 0x80000021 */

/*
 * What one kind of guest, or one guest, is told of the processor: all that is the same for each of its vCPUs. The elements of
 * basic[] that have subleaves (4, 7, 0xb, 0xd) are not used.
 */
struct cpu_policy {
    struct cpuid_leaf basic[POLICY_BASIC], cache[POLICY_CACHES], feature[POLICY_FEATURES];
    struct cpuid_leaf topology[POLICY_TOPOLOGY], xstate[POLICY_XSTATES], extended[POLICY_EXTENDED];
    uint32_t hv_limit,
        hv2_limit; /* highest leaf above 0x40000000 and 0x40000100; 0 = as far as there are leaves */
    uint64_t platform_info, arch_capabilities; /* MSRs 0xce, 0x10a */
};

/* --- build.c: the policies of the machine --- */
void policy_build_raw(const struct policy_host *h, struct cpu_policy *p);    /* what the processor says */
void policy_build_host(const struct policy_host *h, struct cpu_policy *p);   /* less what is switched off */
void policy_build_pv_max(const struct policy_host *h, struct cpu_policy *p); /* all that a PV guest can use */
void policy_build_hvm_max(const struct policy_host *h, struct cpu_policy *p); /* ... an HVM guest */
/* Of that, what a guest gets that nobody asked more for: it can move to another machine. */
void policy_default(struct cpu_policy *p);

/* --- trim.c --- */
#define POLICY_WORDS 19u /* of a feature set: xen/arch-x86/cpufeatureset.h */
void policy_features(const struct cpu_policy *p, uint32_t words[POLICY_WORDS]);
/* Where a toolstack's policy went beyond what there is. */
struct policy_error {
    uint32_t leaf, subleaf, msr; /* ~0: none */
};
/* Limits that cannot be cut silently: -EINVAL and *e. */
int must_check policy_check(const struct cpu_policy *p, const struct cpu_policy *max, struct policy_error *e);
/* Takes away what max has not and what cannot be without it; recomputes what follows from other fields. */
void policy_trim(struct cpu_policy *p, const struct cpu_policy *max);
/* The XCR0 bits of the policy. */
static inline uint64_t policy_xcr0(const struct cpu_policy *p)
{
    return p->xstate[0].a | (uint64_t)p->xstate[0].d << 32;
}

/* --- wire.c: as the control interface carries it --- */
#define POLICY_MAX_LEAVES 160u /* more than there are: later tools may know of more */
#define POLICY_MAX_MSRS   2u
struct xen_cpuid_leaf;
struct xen_msr_entry;
/* Fill at most POLICY_MAX_*; the number. */
unsigned policy_write_leaves(const struct cpu_policy *p, struct xen_cpuid_leaf *to);
unsigned policy_write_msrs(const struct cpu_policy *p, struct xen_msr_entry *to);
/* Replace what the entries name. -ERANGE (no such leaf or MSR), -EINVAL (flags), with *e. */
int must_check policy_read_leaves(struct cpu_policy *p, const struct xen_cpuid_leaf *from, unsigned n,
                                  struct policy_error *e);
int must_check policy_read_msrs(struct cpu_policy *p, const struct xen_msr_entry *from, unsigned n,
                                struct policy_error *e);

/* --- cpuid.c: the answer to a vCPU --- */
struct cpuid_env {
    uint64_t xcr0; /* the vCPU's */
    unsigned vcpu;
    bool hvm;
    bool upcall_vectors;        /* HVM: kernels are told of them */
    uint16_t domain;            /* HVM: its number */
    uint16_t xen_leaf, xen_msr; /* HVM: how far Xen's leaves, and its hypercall page's MSR, have made room */
    bool osxsave;               /* the guest's CR4.OSXSAVE */
    uint32_t tsc_khz, host_khz; /* of the counter that the guest reads; of the processor's */
    bool tsc_emulated;
    bool tsc_reliable; /* invariant and synchronized */
    uint32_t tsc_mode, tsc_incarnation;
    uint8_t machine_bits; /* width of the highest machine address a guest may meet */
};
/* CPUID as a guest gets it (Intel SDM vol. 2 CPUID, AMD APM vol. 3 app. E, xen/arch-x86/cpuid.h). */
void policy_cpuid(const struct cpu_policy *p, const struct cpuid_env *env, uint32_t leaf, uint32_t subleaf,
                  struct cpuid_leaf *out);
/* Bytes of the standard-format XSAVE area for these components. */
uint32_t policy_xsave_size(const struct cpu_policy *p, uint64_t components);
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
