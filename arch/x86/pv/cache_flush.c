/* Write-back and invalidation of processor caches for domains that drive devices (declared in x86/tlb.h). */
#include "x86/platform.h"
#include "x86/tlb.h"
#include "../metal/pvregs.h"

static void flush_here(void *unused)
{
    hw_wbinvd();
}

void cache_flush_cpus(const struct cpumask *cpus)
{
    smp_call(cpus, flush_here, NULL);
}
