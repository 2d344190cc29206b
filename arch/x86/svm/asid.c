/*
 * Address space identifiers: each CPU gives out its own, so that most entries need no flush of the TLB.
 *
 * An ASID belongs to a vCPU as long as three things stay: the CPU, the CPU's generation, and the domain's p2m epoch. What must not be
 * used any more (the p2m lost entries, the vCPU's own tables are to be read anew) is left behind with the old number; when the numbers
 * are used up, one entry flushes all of them and the next generation begins.
 *
 * Flushes of Krypton's and PV guests' own translations (x86/tlb.h) are none of ours: those have ASID 0, and frames leave a p2m only
 * after its epoch was raised and its vCPUs were left (arch/x86/hvm/p2m).
 *
 * Invariants
 *  1. Two vCPUs never have the same ASID in the same generation of a CPU.
 *  2. A translation made before a flush of the domain's p2m, or of the vCPU, is under no ASID that is used after it.
 * Locks: none; interrupts are off.
 */
#include "private.h"
#include "arch/cpu.h"

static struct asid_cpu {
    uint64_t generation; /* counts from 1 on; none of a vCPU's: 0 */
    uint32_t next;       /* 0: who takes one has to flush first */
} __attribute__((aligned(64))) cpus[MAX_CPUS];
static uint32_t asid_count;

void asid_init(uint32_t count)
{
    asid_count = count;
    for (unsigned i = 0; i < MAX_CPUS; i++)
        cpus[i].generation = 1;
}

/* True: all numbers are used up, a new generation begins. */
static bool take(struct asid_cpu *a, uint32_t *number)
{
    bool flush = !a->next || a->next >= asid_count;

    if (flush) {
        a->generation++;
        a->next = 1; /* 0 is Krypton's */
    }
    *number = a->next++;
    return flush;
}

static __attribute__((noinline)) void renew(struct vcpu *v, struct asid_cpu *a, uint64_t epoch)
{
    struct svm_vcpu *s = svm_vcpu(v);

    s->vmcb->tlb_control = take(a, &s->vmcb->asid) ? SVM_TLB_ALL : SVM_TLB_NOTHING;
    __atomic_store_n(&s->generation, a->generation, __ATOMIC_RELAXED);
    s->p2m_epoch = epoch;
    s->renewed = true;
    svm_touch(v, SVM_CLEAN_ASID);
}

void asid_assign(struct vcpu *v)
{
    struct asid_cpu *a = &cpus[arch_cpu_id()];
    struct svm_vcpu *s = svm_vcpu(v);
    uint64_t epoch = __atomic_load_n(&hvm_domain(v->domain)->p2m_epoch, __ATOMIC_SEQ_CST);

    if (unlikely(__atomic_load_n(&s->generation, __ATOMIC_SEQ_CST) != a->generation ||
                 s->p2m_epoch != epoch)) {
        renew(v, a, epoch);
    } else if (unlikely(s->renewed)) {
        s->renewed = false;
        s->vmcb->tlb_control = SVM_TLB_NOTHING;
    }
}

/* The processor looks at a guest's state before it looks at TLB_CONTROL (APM vol. 3 "VMRUN"). A guest can have a state that is refused. */
void asid_refused(void)
{
    cpus[arch_cpu_id()].next = 0;
}
