/*
 * Of the test guest as a PVH kernel (hvm.c), beside guest.h: what such a guest has and a PV guest has not.
 *
 *   TEST(...)              runs in order, as in a PV guest
 *   HOSTILE(name) { ... }  one of those that `attack=name,...` on the command line runs, and nothing else; h_hostile.c, h_bench.c
 */
#ifndef GUEST_HVM_H
#define GUEST_HVM_H

#include "guest.h"
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>

extern uint32_t by_multiboot; /* an HVM guest that GRUB started, with a board of devices */
long hvm_param_get(unsigned index, uint64_t *value);
long hvm_param_set(unsigned index, uint64_t value);
static inline uint64_t scratch_gfn(unsigned n)
{
    return va_pfn(scratch_va(n));
}

struct hostile {
    const char *name;
    void (*fn)(void);
};
#define HOSTILE(id)                                                                                          \
    static void hostile_##id(void);                                                                          \
    static const struct hostile h_##id                                                                       \
        __attribute__((used, section("attacks"), aligned(8))) = {#id, hostile_##id};                         \
    static void hostile_##id(void)
extern uint64_t attack_began; /* time_ns() */

static inline bool rdmsr_ok(uint32_t msr, uint64_t *value)
{
    uint32_t lo = 0, hi = 0;
    bool trapped;

    trapped = TRAPS("mov %2, %%ecx; rdmsr; mov %%eax, %0; mov %%edx, %1", "m"(lo), "m"(hi), "m"(msr));
    *value = lo | (uint64_t)hi << 32;
    return !trapped;
}

static inline bool wrmsr_ok(uint32_t msr, uint64_t value)
{
    uint32_t lo = (uint32_t)value, hi = (uint32_t)(value >> 32);

    return !TRAPS("mov %2, %%ecx; mov %0, %%eax; mov %1, %%edx; wrmsr", "m"(lo), "m"(hi), "m"(msr));
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    __asm__ volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "0"(leaf), "2"(sub));
}

#endif
