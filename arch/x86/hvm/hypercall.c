/*
 * Hypercalls of HVM guests: VMMCALL in 64-bit mode, number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9, from level 0.
 * The 32-bit form needs the interface's 32-bit structures, which are not there: ENOSYS.
 */
#include "private.h"
#include "core/abi.h"
#include "core/hypercall.h"
#include "core/perf.h"
#include "x86/guest.h"

enum hvm_verdict hvm_hypercall(struct vcpu *v)
{
    struct guest_regs *r = vcpu_regs(v);
    struct hypercall hc = hypercall_of(v, r);
    uint64_t generation = p2m_generation(v->domain);
    long result;

    if (hvm_ops->cpl(v)) {
        r->rax = (uint64_t)-EPERM;
        return HVM_NEXT;
    }
    if (!hvm_is_64(v)) {
        r->rax = (uint32_t)-ENOSYS;
        return HVM_NEXT;
    }
    result = hypercall_dispatch(&hc);
    /* Device models may still have mapped what has gone. */
    if (unlikely(hc.nr == __HYPERVISOR_memory_op && generation != p2m_generation(v->domain)))
        ioreq_invalidate(v, hvm_vcpu(v)->io);
    if (unlikely(result == HC_AGAIN)) {
        perf_count(hypercalls_again);
        hypercall_write_back(&hc, r);
        return HVM_RESUME;
    }
    if (result != HC_NO_RESULT)
        r->rax = (uint64_t)result;
    return HVM_NEXT;
}
