/*
 * The PV MMU: which processors a guest's flush concerns. A vCPU that is not running has no translations: its
 * tables are loaded afresh when it runs again. One that starts to run after we looked does so after the entry
 * was changed.
 */
#include "types.h"
#include "core/guest.h"
#include "x86/tlb.h"

void flush_cpus_of(struct domain *d, const struct cpumask *cpus, unsigned kind, gva_t va)
{
    struct cpumask m;

    cpumask_and(&m, cpus, &x86_domain(d)->dirty_cpus);
    tlb_flush_cpus(&m, kind, va);
}

int vcpumask_cpus(struct vcpu *caller, gva_t bitmap, struct cpumask *out)
{
    const struct domain *d = caller->domain;
    uint8_t bits[(MAX_VCPUS + 7) / 8];

    *out = (struct cpumask){{0}};
    if (guest_read(caller, bits, bitmap, (d->max_vcpus + 7) / 8))
        return -EFAULT;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for_each_vcpu(d,
                  v) if (bits[v->id / 8] >> (v->id % 8) & 1 && __atomic_load_n(&v->running, __ATOMIC_RELAXED))
        cpumask_set(out, __atomic_load_n(&v->cpu, __ATOMIC_RELAXED));
    return 0;
}
