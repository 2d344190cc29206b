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
#include "viridian/viridian.h"
#include "x86/tlb.h"

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

/* --- the Hyper-V interface's (TLFS 3.7-3.9): input in RCX, parameters in RDX and R8; else EDX:EAX, EBX:ECX, EDI:ESI --- */

void hvm_flush_vcpus(struct vcpu *caller, const uint64_t *set)
{
    struct domain *d = caller->domain;
    bool others = false;

    for_each_vcpu(d, v)
    {
        if (!(set[v->id / 64] >> (v->id % 64) & 1))
            continue;
        hvm_ops->flush(v);
        others |= v != caller;
    }
    /* Who is in the guest leaves it. Who loads a vCPU later sees what was set: first its CPU is in the mask, then it looks. */
    if (others)
        tlb_flush_cpus(&x86_domain(d)->dirty_cpus, TLB_FLUSH_GUESTS, GVA(0));
}

static uint64_t pair(uint64_t high, uint64_t low)
{
    return high << 32 | (uint32_t)low;
}

static enum hvm_verdict enlightened_call(struct vcpu *v, struct guest_regs *r)
{
    struct viridian_call c = {r->rcx, r->rdx, r->r8};
    bool wide = hvm_is_64(v);
    uint64_t result;

    if (hvm_ops->cpl(v) || !(hvm_get(v, HVM_CR0) & CR0_PE))
        return HVM_UD;
    if (!wide)
        c = (struct viridian_call){pair(r->rdx, r->rax & ~(uint64_t)VIRIDIAN_CALL), pair(r->rbx, r->rcx),
                                   pair(r->rdi, r->rsi)};
    result = viridian_call(v, &c);
    r->rax = wide ? result : (uint32_t)result;
    if (!wide)
        r->rdx = result >> 32;
    return HVM_NEXT;
}

static bool is_enlightened(const struct vcpu *v, uint32_t nr)
{
    return (nr & VIRIDIAN_CALL) && hvm_domain(v->domain)->viridian && viridian_calls(v->domain);
}

enum hvm_verdict hvm_hypercall(struct vcpu *v)
{
    struct guest_regs *r = vcpu_regs(v);
    uint32_t nr = (uint32_t)r->rax;
    uint64_t generation;
    enum hvm_verdict verdict;

    if (unlikely(is_enlightened(v, nr)))
        return enlightened_call(v, r);
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
