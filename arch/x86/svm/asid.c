/*
 * Address space identifiers: each CPU gives out its own, so that most entries need no flush of the TLB.
 *
 * An ASID belongs to a vCPU as long as three things stay: the CPU, the CPU's generation, and the domain's p2m epoch. What must not be
 * used any more (the p2m lost entries, this CPU was told to flush) is left behind with the old number; when the numbers are used up,
 * one entry flushes all of them and the next generation begins.
 *
 * Invariants
 *  1. Two vCPUs never have the same ASID in the same generation of a CPU.
 *  2. A translation made before a flush of this CPU (x86/tlb.h) or of the domain's p2m is under no ASID that is used after it.
 * Locks: none; interrupts are off.
 */
#include "private.h"
#include "arch/cpu.h"
#include "x86/tlb.h"

static struct asid_cpu {
    uint64_t generation; /* from 1 on; 0 in a vCPU: none */
    uint64_t flushes;    /* tlb_flush_count() when it began */
    uint32_t next;
} __attribute__((aligned(64))) cpus[MAX_CPUS];
static uint32_t asid_count;

void asid_init(uint32_t count)
{
    asid_count = count;
}

static uint32_t take(struct asid_cpu *a, bool *flush)
{
    *flush = !a->generation || a->next >= asid_count;
    if (*flush) {
        a->generation++;
        a->next = 1; /* 0 is Krypton's */
    }
    return a->next++;
}

void asid_assign(struct vcpu *v)
{
    struct asid_cpu *a = &cpus[arch_cpu_id()];
    struct svm_vcpu *s = svm_vcpu(v);
    uint32_t epoch = __atomic_load_n(&hvm_domain(v->domain)->p2m_epoch, __ATOMIC_SEQ_CST);
    uint64_t flushes = tlb_flush_count();
    bool flush = false;

    if (a->flushes != flushes) {
        a->flushes = flushes;
        if (a->generation)
            a->generation++; /* the numbers go on: those of before are not given out again without a flush */
    }
    if (__atomic_load_n(&s->generation, __ATOMIC_SEQ_CST) != a->generation || s->p2m_epoch != epoch ||
        !a->generation) {
        s->vmcb->asid = take(a, &flush);
        __atomic_store_n(&s->generation, a->generation, __ATOMIC_RELAXED);
        s->p2m_epoch = epoch;
        svm_touch(v, SVM_CLEAN_ASID);
    }
    s->vmcb->tlb_control = flush ? SVM_TLB_ALL : SVM_TLB_NOTHING;
}
