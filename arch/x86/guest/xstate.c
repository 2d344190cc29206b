/*
 * The XSAVE state of a vCPU as toolstacks read and write it: XCR0, the components that may hold something, the area in standard format.
 * The vCPU does not run and stays so meanwhile. No locks.
 */
#include "x86/guest.h"
#include "arch/cpu.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/policy.h"
#include "../metal/asm.h"

#define XSAVE_BV    512 /* XSTATE_BV in the area; SDM vol. 1 13.4.2 */
#define FCW_DEFAULT 0x37f
#define MXCSR       24
#define MXCSR_MASK  0xffffu
#define XSTATE_HEAD 16 /* XCR0 and the components that follow, before the area (xen/domctl.h: vcpuextstate) */

void xstate_complete(const struct x86_vcpu *x)
{
    uint8_t *area = x->fpu;
    const uint16_t fcw = FCW_DEFAULT;
    uint64_t valid;

    if (!cpu_features.xsave)
        return;
    memcpy(&valid, area + XSAVE_BV, sizeof(valid));
    if (!(valid & 1)) {
        memset(area, 0, 24);
        memset(area + 32, 0, 128);
        memcpy(area, &fcw, sizeof(fcw));
    }
    if (!(valid & 2))
        memset(area + 160, 0, 256);
    for (unsigned i = 2; i < 8; i++) {
        struct cpuid_leaf l;

        if (valid & 1ull << i || !(cpu_features.xcr0_mask & 1ull << i))
            continue;
        l = cpuid(0xd, i);
        if (l.a + l.b <= cpu_features.xsave_size)
            memset(area + l.b, 0, l.a);
    }
}

/* Components that may hold something: those that the guest has switched on, and those that are not as after a reset. */
static uint64_t components(const struct x86_vcpu *x)
{
    uint64_t used;

    memcpy(&used, (const char *)x->fpu + XSAVE_BV, sizeof(used));
    return (used | x->xcr0) & policy_xcr0(x86_domain(x->core.domain)->policy);
}

size_t xstate_size(struct vcpu *v)
{
    const struct cpu_policy *p = x86_domain(v->domain)->policy;

    if (!policy_xcr0(p))
        return 0;
    return XSTATE_HEAD + policy_xsave_size(p, components(x86_vcpu(v)));
}

void xstate_get(struct vcpu *v, void *to)
{
    const struct x86_vcpu *x = x86_vcpu(v);
    uint64_t head[2] = {x->xcr0, components(x)}, valid;

    xstate_complete(x);
    memcpy(to, head, sizeof(head));
    memcpy((char *)to + XSTATE_HEAD, x->fpu, xstate_size(v) - XSTATE_HEAD);
    /* A processor may say more than the guest has: what it does not track. */
    memcpy(&valid, (const char *)x->fpu + XSAVE_BV, sizeof(valid));
    valid &= head[1];
    memcpy((char *)to + XSTATE_HEAD + XSAVE_BV, &valid, sizeof(valid));
}

/* Header of the area (SDM vol. 1 13.4.2): components present, compact format, reserved. */
static bool xstate_ok(const struct cpu_policy *p, const uint64_t head[2], const uint64_t header[8])
{
    uint64_t xcr0 = head[0], all = head[1];

    if (!policy_xcr0_ok(xcr0, policy_xcr0(p)) || !policy_xcr0_ok(all | 3, policy_xcr0(p)) || xcr0 & ~all)
        return false;
    if (header[0] & ~all)
        return false;
    for (unsigned i = 1; i < 8; i++)
        if (header[i])
            return false;
    return true;
}

int xstate_check(const struct vcpu *v, const void *from, size_t size)
{
    const struct cpu_policy *p = x86_domain(v->domain)->policy;
    uint64_t head[2], header[8];

    if (size < XSTATE_HEAD + XSAVE_BV + sizeof(header) || !policy_xcr0(p))
        return -EINVAL;
    memcpy(head, from, sizeof(head));
    memcpy(header, (const char *)from + XSTATE_HEAD + XSAVE_BV, sizeof(header));
    if (!xstate_ok(p, head, header) || size != XSTATE_HEAD + policy_xsave_size(p, head[1]) ||
        size - XSTATE_HEAD > cpu_features.xsave_size)
        return -EINVAL;
    return 0;
}

void xstate_set(struct vcpu *v, const void *from, size_t size)
{
    struct x86_vcpu *x = x86_vcpu(v);

    memset(x->fpu, 0, cpu_features.xsave_size);
    memcpy(x->fpu, (const char *)from + XSTATE_HEAD, size - XSTATE_HEAD);
    *(uint32_t *)((char *)x->fpu + MXCSR) &= MXCSR_MASK;
    memcpy(&x->xcr0, from, sizeof(x->xcr0));
}
