/*
 * sysctl's rows that only x86 can answer, and the machine's figures.
 * No state, no locks.
 */
#include "private.h"
#include "arch/control.h"
#include "x86/cpu.h"
#include "x86/hvm.h"
#include "x86/platform.h"
#include "../metal/asm.h"

long arch_sysctl(struct hypercall *hc)
{
    struct sysctl *c = sysctl_of(hc);

    switch (c->op.cmd) {
    case XEN_SYSCTL_get_cpu_policy:
        return control_system_cpu_policy(c);
    case XEN_SYSCTL_get_cpu_featureset:
        return control_cpu_featureset(c);
    case XEN_SYSCTL_get_cpu_levelling_caps:
        return control_levelling_caps(c);
    }
    return -ENOSYS;
}

/* Intel SDM vol. 3 9.9.5: levels of leaf 0xb; false: the processor does not say. */
static bool topology_levels(uint32_t *threads, uint32_t *cores)
{
    struct cpuid_leaf smt, core;

    if (cpu_features.max_leaf < 0xb)
        return false;
    smt = cpuid(0xb, 0);
    core = cpuid(0xb, 1);
    if (!(smt.b & 0xffff) || !(core.b & 0xffff))
        return false;
    *threads = smt.b & 0xffff;
    *cores = MAX((core.b & 0xffff) / *threads, 1u);
    return true;
}

/* AMD APM vol. 3 E.4: all logical processors of the package, and how many share a core. */
static void topology_amd(uint32_t *threads, uint32_t *cores)
{
    uint32_t all = cpu_features.max_ext_leaf >= 0x80000008 ? (cpuid(0x80000008, 0).c & 0xff) + 1 : 1;

    *threads = 1;
    if (cpu_features.family >= 0x17 && cpu_features.max_ext_leaf >= 0x8000001e)
        *threads = (cpuid(0x8000001e, 0).b >> 8 & 0xff) + 1;
    *cores = MAX(all / *threads, 1u);
}

/* Leaves 1 and 4: logical processors and cores of the package, rounded up to powers of two. */
static void topology_old(uint32_t *threads, uint32_t *cores)
{
    struct cpuid_leaf one = cpuid(1, 0);
    bool many = one.d & (1u << 28); /* HTT */
    uint32_t logical = many ? MAX(one.b >> 16 & 0xff, 1u) : 1;

    *cores = many && cpu_features.max_leaf >= 4 ? (cpuid(4, 0).a >> 26) + 1 : 1;
    *threads = MAX(logical / *cores, 1u);
}

/* The feature words that tools print as hw_caps: those of xen/arch-x86/cpufeatureset.h, 0 to 7. */
static void feature_words(uint32_t w[8])
{
    struct cpuid_leaf one = cpuid(1, 0), ext = cpuid(0x80000001, 0), seven = {0};

    if (cpu_features.max_leaf >= 7)
        seven = cpuid(7, 0);
    w[0] = one.d;
    w[1] = one.c;
    w[2] = ext.d;
    w[3] = ext.c;
    w[4] = cpu_features.xsave ? cpuid(0xd, 1).a : 0;
    w[5] = seven.b;
    w[6] = seven.c;
    w[7] = cpu_features.max_ext_leaf >= 0x80000007 ? cpuid(0x80000007, 0).d : 0;
}

void arch_physinfo(struct xen_sysctl_physinfo *p)
{
    if (!topology_levels(&p->threads_per_core, &p->cores_per_socket)) {
        if (cpu_features.amd)
            topology_amd(&p->threads_per_core, &p->cores_per_socket);
        else
            topology_old(&p->threads_per_core, &p->cores_per_socket);
    }
    p->cpu_khz = (uint32_t)tsc_khz;
    p->capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2;
    if (hvm_available())
        p->capabilities |= XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap;
    feature_words(p->hw_cap);
}
