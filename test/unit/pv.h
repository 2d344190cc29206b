/*
 * For the tests of pv/mmu: what the rest of pv/ and the machine do, noted and nothing more, and the architecture's part of a domain's
 * life. Defines functions of the product: for one file of a program.
 */
#ifndef TEST_PV_H
#define TEST_PV_H

#include "fake.h"
#include "x86/boot.h"
#include "x86/layout.h"
#include "x86/mm.h"
#include "x86/p2m.h"
#include "x86/platform.h"
#include "x86/pte.h"
#include "x86/pv.h"
#include "x86/tlb.h"

#include <stdlib.h>
#include <string.h>

/* Flags of entries: of data, read-only and writable, and of tables. */
#define RO  (PTE_P | PTE_US | PTE_A | PTE_D)
#define RW  (RO | PTE_RW)
#define PTB RW

struct boot_info boot_info;
/* Changed atomically: some tests have threads. */
static struct {
    unsigned l4_changes, roots_loaded, ldts_loaded, caches_flushed;
    unsigned vector; /* injected last */
    uint64_t addr;   /* its address, or error code */
    mfn_t l4;
} seen;

static inline void seen_exception(unsigned vector, uint64_t addr)
{
    __atomic_store_n(&seen.vector, vector, __ATOMIC_RELAXED);
    __atomic_store_n(&seen.addr, addr, __ATOMIC_RELAXED);
}
void pv_root_changed(struct vcpu *v)
{
    __atomic_fetch_add(&seen.roots_loaded, 1, __ATOMIC_RELAXED);
}
void pv_l4_changed(struct domain *d, mfn_t l4)
{
    __atomic_fetch_add(&seen.l4_changes, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&seen.l4.n, l4.n, __ATOMIC_RELAXED);
}
void pv_load_ldt(struct vcpu *v)
{
    __atomic_fetch_add(&seen.ldts_loaded, 1, __ATOMIC_RELAXED);
}
void pv_inject(struct vcpu *v, uint8_t vector, uint32_t error_code, bool has_error)
{
    seen_exception(vector, error_code);
}
void pv_inject_pf(struct vcpu *v, uint64_t addr, uint32_t error_code)
{
    seen_exception(TRAP_PF, addr);
}
void cache_flush_cpus(const struct cpumask *cpus)
{
    __atomic_fetch_add(&seen.caches_flushed, cpumask_count(cpus), __ATOMIC_RELAXED);
}

int arch_domain_init(struct domain *d, uint32_t flags)
{
    x86_domain(d)->window_l1 = calloc(MAX(d->max_vcpus, 1u), sizeof(uint64_t *));
    for (unsigned i = 0; i < d->max_vcpus; i++)
        x86_domain(d)->window_l1[i] = calloc(32, 8);
    cpumask_set(&x86_domain(d)->dirty_cpus, 0);
    return d->ops && d->ops->translated ? p2m_domain_init(d) : 0;
}
void arch_domain_free(struct domain *d)
{
    p2m_domain_free(d);
    for (unsigned i = 0; x86_domain(d)->window_l1 && i < d->max_vcpus; i++)
        free(x86_domain(d)->window_l1[i]);
    free(x86_domain(d)->window_l1);
    free(d);
}
int arch_vcpu_init(struct vcpu *v)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    pv->root_kernel = pv->root_user = INVALID_MFN;
    pv->kernel_mode = true;
    spin_init(&pv->ldt_lock, RANK_PV_FRAME);
    return 0;
}
int arch_domain_release(struct domain *d)
{
    return d->ops->translated ? p2m_domain_release(d) : pv_domain_release_tables(d);
}

#endif
