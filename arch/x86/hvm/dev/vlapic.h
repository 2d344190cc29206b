/*
 * The local APIC of an HVM vCPU (Intel SDM vol. 3 ch. 11, AMD APM vol. 2 ch. 16): arch/x86/hvm/dev/vlapic.c. Host-testable: knows
 * the vCPU, time and timers, no processor.
 */
#ifndef HVM_VLAPIC_H
#define HVM_VLAPIC_H

#include "core/types.h"
#include "core/timer.h"

struct domain;
struct vcpu;

#define APIC_PAGE          0xfee00000ull
#define APIC_BASE_BSP      (1ull << 8)
#define APIC_BASE_X2       (1ull << 10)
#define APIC_BASE_ON       (1ull << 11)

/* Offsets of registers (xAPIC); x2APIC MSRs are 0x800 + offset / 16. */
#define APIC_ID            0x20
#define APIC_VERSION       0x30
#define APIC_TPR           0x80
#define APIC_APR           0x90
#define APIC_PPR           0xa0
#define APIC_EOI           0xb0
#define APIC_LDR           0xd0
#define APIC_DFR           0xe0
#define APIC_SVR           0xf0
#define APIC_ISR           0x100
#define APIC_TMR           0x180
#define APIC_IRR           0x200
#define APIC_ESR           0x280
#define APIC_LVT_CMCI      0x2f0
#define APIC_ICR           0x300
#define APIC_ICR2          0x310
#define APIC_LVT_TIMER     0x320
#define APIC_LVT_THERMAL   0x330
#define APIC_LVT_PERF      0x340
#define APIC_LVT_LINT0     0x350
#define APIC_LVT_LINT1     0x360
#define APIC_LVT_ERROR     0x370
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE  0x3e0
#define APIC_SELF_IPI      0x3f0

#define APIC_REGS          64 /* of 16 bytes in the page: 0 to 0x3f0 */

struct vlapic {
    uint32_t reg[APIC_REGS]; /* IRR, ESR [a]; others [v] */
    uint32_t icr_high;       /* [v] x2APIC: the destination; else in reg[APIC_ICR2 / 16] */
    uint32_t esr_pending;    /* [a] errors since the last write of ESR */
    uint64_t base;           /* [v] MSR 0x1b */
    uint64_t deadline;       /* [v] TSC-deadline mode: the guest's TSC; 0 = not armed */
    uint64_t started;        /* [v] system time at which the count began; 0 = not counting */
    struct timer timer;
};

void vlapic_init(struct vcpu *v, struct vlapic *l);
void vlapic_free(struct vlapic *l);     /* v does not run */
void vlapic_reset(struct vcpu *v);      /* as after power-on */
void vlapic_init_reset(struct vcpu *v); /* as after INIT: base and id stay */

bool vlapic_x2(const struct vcpu *v);
bool vlapic_xapic_on(const struct vcpu *v);
uint32_t vlapic_id(const struct vcpu *v); /* the number IPIs name it by */

/* The page: aligned 32-bit accesses are what the architecture defines; others read 0 and write nothing. */
uint32_t vlapic_mmio_read(struct vcpu *v, uint32_t offset);
void vlapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t value);
/* MSRs 0x800-0x8ff, APIC_BASE and TSC_DEADLINE. False: #GP. */
bool vlapic_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value);
bool vlapic_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value);
bool vlapic_owns_msr(uint32_t msr);

/* An edge-triggered interrupt for v; interrupt-safe. */
void vlapic_set_irq(struct vcpu *v, uint8_t vector);
/* It would change something: the last one of this vector was taken. */
bool vlapic_is_news(const struct vcpu *v, uint8_t vector);
/* Between periodic ticks that are no news, at least: a guest's timers are not worked for at a speed that it has no use for. */
#define UNHEARD_NS 1000000u
/* What an I/O APIC or a device sends (SDM vol. 3 11.11); interrupt-safe. */
struct vlapic_message {
    uint8_t dest, mode, vector;
    bool logical, level;
    unsigned first; /* lowest priority: the vCPU from which on one is looked for */
};
void vlapic_message(struct domain *d, const struct vlapic_message *m);
/* LINT0 (or no APIC at all, on the first vCPU) leads the 8259s' interrupts to the processor. */
bool vlapic_takes_extint(const struct vcpu *v);
/* Something may have come for v. */
void vlapic_wake(struct vcpu *v);
/* The vector to be delivered now, or -1. */
int vlapic_pending(const struct vcpu *v);
/* There is one, to be delivered now or later. */
bool vlapic_any(const struct vcpu *v);
/* There is one that only the task priority holds back. */
bool vlapic_held_by_tpr(const struct vcpu *v);
/* It is being delivered. */
void vlapic_ack(struct vcpu *v, uint8_t vector);
/* The end of the highest interrupt in service. */
void vlapic_eoi(struct vcpu *v);
/* False: one interrupt is in service, edge-triggered, and none waits: nothing happens at its end. */
bool vlapic_eoi_matters(const struct vcpu *v);
uint8_t vlapic_tpr(const struct vcpu *v); /* CR8 */
void vlapic_set_tpr(struct vcpu *v, uint8_t cr8);

/* State as in struct hvm_hw_lapic, hvm_hw_lapic_regs. set: -EINVAL. v does not run. */
struct hvm_hw_lapic;
struct hvm_hw_lapic_regs;
void vlapic_get_state(struct vcpu *v, struct hvm_hw_lapic *s, struct hvm_hw_lapic_regs *r);
int must_check vlapic_set_state(struct vcpu *v, const struct hvm_hw_lapic *s);
int must_check vlapic_set_regs(struct vcpu *v, const struct hvm_hw_lapic_regs *r);

#endif
