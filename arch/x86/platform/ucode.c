/*
 * XENPF_get_ucode_revision: which microcode a CPU runs (xen-ucode show-cpu-info). Intel SDM vol. 3 10.11.7.1: clear the MSR, CPUID,
 * read it; AMD: read it (APM vol. 2, 17). Krypton loads none itself.
 * No state. Locks: none; the named CPU reads its own registers.
 */
#include "../metal/asm.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/msr.h"

#define MSR_PLATFORM_ID 0x17
#define MSR_UCODE_REV   0x8b

static void read_own(void *data)
{
    struct ucode_revision *r = data;
    uint64_t rev = 0, id = 0;

    bool ok = !cpu_features.intel || wrmsr_safe(MSR_UCODE_REV, 0);

    r->signature = cpuid(1, 0).a;
    if (!ok || !rdmsr_safe(MSR_UCODE_REV, &rev))
        rev = 0;
    r->revision = (uint32_t)(cpu_features.intel ? rev >> 32 : rev);
    r->pf = cpu_features.intel && rdmsr_safe(MSR_PLATFORM_ID, &id) ? 1u << (id >> 50 & 7) : 0;
}

int ucode_revision(struct ucode_revision *r)
{
    struct cpumask one = {{0}};

    if (r->cpu >= MAX_CPUS || !cpumask_test(&cpus_online, r->cpu))
        return -ENOENT;
    cpumask_set(&one, r->cpu);
    smp_call(&one, read_own, r);
    return 0;
}
