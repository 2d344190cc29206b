/*
 * Hypercalls of HVM guests: VMMCALL from level 0. In 64-bit mode number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9; in others EAX and
 * EBX, ECX, EDX, ESI, EDI, EBP, and structures as 32-bit kernels have them (narrow/).
 */
#include "private.h"
#include "core/abi.h"
#include "core/hypercall.h"
#include "core/perf.h"
#include "arch/time.h"
#include "x86/guest.h"
#include "narrow/narrow.h"

/* xen/arch-x86/xen-x86_32.h */
static enum hvm_verdict narrow_hypercall(struct vcpu *v, struct guest_regs *r)
{
    uint64_t *const at[] = {&r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi, &r->rbp};
    struct narrow n = {.caller = v, .nr = (uint32_t)r->rax};
    long result;

    for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
        n.arg[i] = (uint32_t)*at[i];
    result = narrow_dispatch(&n);
    if (result == HC_AGAIN) {
        perf_count(hypercalls_again);
        for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
            *at[i] = n.arg[i];
        return HVM_RESUME;
    }
    if (result != HC_NO_RESULT)
        r->rax = (uint32_t)result;
    return HVM_NEXT;
}

void hvm_latch_layout(struct vcpu *v)
{
    struct domain *d = v->domain;
    bool narrow = !hvm_is_64(v);

    if (__atomic_exchange_n(&d->narrow, narrow, __ATOMIC_SEQ_CST) != narrow)
        arch_wallclock_publish(d);
}

static enum hvm_verdict wide_hypercall(struct vcpu *v, struct guest_regs *r)
{
    struct hypercall hc = hypercall_of(v, r);
    long result = hypercall_dispatch(&hc);

    if (unlikely(result == HC_AGAIN)) {
        perf_count(hypercalls_again);
        hypercall_write_back(&hc, r);
        return HVM_RESUME;
    }
    if (result != HC_NO_RESULT)
        r->rax = (uint64_t)result;
    return HVM_NEXT;
}

enum hvm_verdict hvm_hypercall(struct vcpu *v)
{
    struct guest_regs *r = vcpu_regs(v);
    uint32_t nr = (uint32_t)r->rax;
    uint64_t generation;
    enum hvm_verdict verdict;

    if (hvm_ops->cpl(v)) {
        r->rax = (uint64_t)-EPERM;
        return HVM_NEXT;
    }
    generation = p2m_generation(v->domain);
    verdict = hvm_is_64(v) ? wide_hypercall(v, r) : narrow_hypercall(v, r);
    /* Device models may still have mapped what has gone. */
    if (unlikely((nr == __HYPERVISOR_memory_op || nr == __HYPERVISOR_multicall) &&
                 generation != p2m_generation(v->domain)))
        ioreq_invalidate(v, hvm_vcpu(v)->io);
    return verdict;
}
