/* Between vlapic.c and vlapic_timer.c, and what they need of the vCPU (hvm/start.c, inject.c; the host test's own). */
#ifndef HVM_VLAPIC_PRIVATE_H
#define HVM_VLAPIC_PRIVATE_H

#include "vlapic.h"
#include "x86/hvm.h"

#define REG_STEP 1 /* reg[] has one word per register */

static inline struct vlapic *vlapic_of(const struct vcpu *v)
{
    return hvm_vcpu(v)->vlapic;
}
static inline uint32_t *reg_at(struct vlapic *l, uint32_t offset)
{
    return &l->reg[offset / 16];
}
static inline const uint32_t *reg_at_const(const struct vlapic *l, uint32_t offset)
{
    return &l->reg[offset / 16];
}
static inline uint32_t reg_get(const struct vlapic *l, uint32_t offset)
{
    return __atomic_load_n(&l->reg[offset / 16], __ATOMIC_RELAXED);
}
static inline void reg_set(struct vlapic *l, uint32_t offset, uint32_t value)
{
    __atomic_store_n(&l->reg[offset / 16], value, __ATOMIC_RELAXED);
}

/* --- vlapic_timer.c --- */
void vlapic_timer_init(struct vcpu *v, struct vlapic *l);
void vlapic_timer_stop(struct vcpu *v);
uint32_t vlapic_timer_current(const struct vcpu *v);
void vlapic_timer_start(struct vcpu *v, uint32_t count);
void vlapic_timer_divide(struct vcpu *v, uint32_t divide);
/* LVT_TIMER is about to get this value. */
void vlapic_timer_mode(struct vcpu *v, uint32_t lvt);
void vlapic_timer_deadline(struct vcpu *v, uint64_t tsc);
uint32_t vlapic_timer_divisor(const struct vlapic *l);
/* Registers were loaded: what counted goes on. */
void vlapic_timer_restore(struct vcpu *v);

/* --- of the vCPU --- */
void vlapic_nmi(struct vcpu *v);
void vlapic_signal_init(struct vcpu *v);
void vlapic_signal_startup(struct vcpu *v, uint8_t page);

#endif
