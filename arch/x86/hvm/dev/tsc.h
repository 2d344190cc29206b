/*
 * A guest's time stamp counter: the processor's, scaled by it, or made of system time (hvm/tsc.c); and the vCPU's offset. Pure.
 */
#ifndef HVM_TSC_H
#define HVM_TSC_H

#include "arch/cpu.h"
#include "arch/time.h"
#include "x86/platform.h"
#include "x86/vcpu.h"

static inline uint64_t tsc_scale(uint64_t value, uint64_t ratio)
{
    return ratio ? (uint64_t)((unsigned __int128)value * ratio >> 32) : value;
}

static inline uint64_t tsc_before_offset(const struct x86_domain *d)
{
    return tsc_scale(d->tsc_emulated ? arch_time_ns() : arch_cycles(), d->tsc_ratio);
}

static inline uint64_t hvm_tsc(const struct vcpu *v)
{
    return tsc_before_offset((const struct x86_domain *)v->domain) + ((const struct x86_vcpu *)v)->tsc_offset;
}

static inline uint64_t hvm_tsc_khz(const struct domain *d)
{
    uint32_t khz = ((const struct x86_domain *)d)->tsc_guest_khz;

    return khz ? khz : tsc_khz;
}

#endif
