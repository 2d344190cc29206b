/*
 * The local APIC of HVM vCPUs: registers, priorities, interprocessor interrupts. The timer is vlapic_timer.c's.
 *
 *   vlapic_set_irq (any CPU) -> IRR -> vlapic_pending, vlapic_ack (the vCPU's own way in) -> ISR -> EOI
 *
 * Invariants
 *  1. Only bits of IRR and pending errors are set from other CPUs, atomically; everything else is changed by the vCPU itself, or while
 *     it does not run.
 *  2. A vector below 16 is never in IRR: it is an error of who sent it.
 *  3. An interrupt in IRR or ISR is a level-triggered one exactly when its bit in TMR is set: its end is told to the I/O APIC.
 *  4. In x2APIC mode the id is the vCPU's and LDR follows from it; base never has X2 without ON.
 * Locks: none.
 */
#include "bus.h"
#include "vlapic_private.h"
#include "irq.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/sched.h"
#include "lib/string.h"
#include <xen/hvm/save.h>

#define VERSION         0x00050014u /* six LVT entries, an integrated APIC */
#define SVR_ON          0x100u
#define SVR_BITS        0x3ffu
#define DFR_FLAT        0xffffffffu
#define LVT_MASKED      (1u << 16)
#define LVT_PENDING     (1u << 12) /* delivery status: read only */
#define LVT_REMOTE_IRR  (1u << 14) /* of a line: read only */
#define FIRST_VECTOR    16u
#define ESR_SEND_VECTOR (1u << 5)
#define ESR_GET_VECTOR  (1u << 6)
#define ESR_REGISTER    (1u << 7)
#define BASE_BITS       (APIC_BASE_BSP | APIC_BASE_X2 | APIC_BASE_ON)

#define ICR_VECTOR      0xffu
#define ICR_MODE(x)     ((x) >> 8 & 7)
#define ICR_LOGICAL     (1u << 11)
#define ICR_BUSY        (1u << 12)
#define ICR_ASSERT      (1u << 14)
#define ICR_LEVEL       (1u << 15)
#define ICR_SHORT(x)    ((x) >> 18 & 3)
#define ICR_BITS        0xccfffu
enum { MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_RESERVED, MODE_NMI, MODE_INIT, MODE_STARTUP, MODE_EXTINT };
enum { SHORT_NONE, SHORT_SELF, SHORT_ALL, SHORT_OTHERS };

static bool enabled(const struct vlapic *l)
{
    return (l->base & APIC_BASE_ON) && (reg_get(l, APIC_SVR) & SVR_ON);
}

bool vlapic_x2(const struct vcpu *v)
{
    return vlapic_of(v)->base & APIC_BASE_X2;
}

bool vlapic_xapic_on(const struct vcpu *v)
{
    return (vlapic_of(v)->base & BASE_BITS & ~APIC_BASE_BSP) == APIC_BASE_ON;
}

static uint32_t x2_id(const struct vcpu *v)
{
    return v->id * 2;
}

/* SDM vol. 3 11.12.10.2: clusters of 16. */
static uint32_t x2_ldr(const struct vcpu *v)
{
    uint32_t id = x2_id(v);

    return id >> 4 << 16 | 1u << (id & 15);
}

uint32_t vlapic_id(const struct vcpu *v)
{
    return vlapic_x2(v) ? x2_id(v) : reg_get(vlapic_of(v), APIC_ID) >> 24;
}

/* --- vectors --- */

static bool vector_set(uint32_t *first, uint8_t vector)
{
    uint32_t bit = 1u << (vector % 32);

    return !(__atomic_fetch_or(&first[vector / 32 * REG_STEP], bit, __ATOMIC_SEQ_CST) & bit);
}

static void vector_clear(uint32_t *first, uint8_t vector)
{
    __atomic_fetch_and(&first[vector / 32 * REG_STEP], ~(1u << (vector % 32)), __ATOMIC_SEQ_CST);
}

static bool vector_is_set(const uint32_t *first, uint8_t vector)
{
    return __atomic_load_n(&first[vector / 32 * REG_STEP], __ATOMIC_RELAXED) >> (vector % 32) & 1;
}

static int vector_highest(const uint32_t *first)
{
    for (int i = 7; i >= 0; i--) {
        uint32_t w = __atomic_load_n(&first[i * REG_STEP], __ATOMIC_SEQ_CST);

        if (w)
            return i * 32 + 31 - __builtin_clz(w);
    }
    return -1;
}

/* The usual answer, on every way into a guest, is no. */
static bool vector_none(const uint32_t *first)
{
    uint32_t any = 0;

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        any |= __atomic_load_n(&first[i * REG_STEP], __ATOMIC_SEQ_CST);
    return !any;
}

static void error(struct vcpu *v, uint32_t bit)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t lvt = reg_get(l, APIC_LVT_ERROR);

    if (__atomic_fetch_or(&l->esr_pending, bit, __ATOMIC_SEQ_CST) & bit)
        return;
    if (!(lvt & LVT_MASKED) && (lvt & ICR_VECTOR) >= FIRST_VECTOR)
        vlapic_set_irq(v, (uint8_t)lvt);
}

void vlapic_wake(struct vcpu *v)
{
    hvm_attend(v);
    vcpu_unblock(v);
    vcpu_kick(v);
}

/* TMR says of each accepted interrupt whether its end is to be told (invariant 3). */
static void accept(struct vcpu *v, uint8_t vector, bool level)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t *tmr = reg_at(l, APIC_TMR);

    if (vector < FIRST_VECTOR) {
        error(v, ESR_GET_VECTOR);
        return;
    }
    /* Switched off by SVR it keeps what comes, as it does what it had. */
    if (!(l->base & APIC_BASE_ON))
        return;
    if (level)
        (void)vector_set(tmr, vector);
    else if (unlikely(vector_is_set(tmr, vector)))
        vector_clear(tmr, vector);
    if (vector_set(reg_at(l, APIC_IRR), vector))
        vlapic_wake(v);
}

void vlapic_set_irq(struct vcpu *v, uint8_t vector)
{
    accept(v, vector, false);
}

bool vlapic_is_news(const struct vcpu *v, uint8_t vector)
{
    const struct vlapic *l = vlapic_of(v);

    return vector >= FIRST_VECTOR && l->base & APIC_BASE_ON &&
           !vector_is_set(reg_at_const(l, APIC_IRR), vector);
}

static uint32_t in_service_class(const struct vlapic *l)
{
    int isr = vector_highest(reg_at_const(l, APIC_ISR));

    return isr < 0 ? 0 : (uint32_t)isr & 0xf0;
}

static uint32_t ppr(const struct vlapic *l)
{
    uint32_t tpr = reg_get(l, APIC_TPR) & 0xff, in_service = in_service_class(l);

    return (tpr & 0xf0) >= in_service ? tpr : in_service;
}

bool vlapic_any(const struct vcpu *v)
{
    return !vector_none(reg_at_const(vlapic_of(v), APIC_IRR));
}

int vlapic_pending(const struct vcpu *v)
{
    const struct vlapic *l = vlapic_of(v);
    int irr;

    if (likely(vector_none(reg_at_const(l, APIC_IRR))) || !enabled(l))
        return -1;
    irr = vector_highest(reg_at_const(l, APIC_IRR));
    if (irr < 0 || ((uint32_t)irr & 0xf0) <= (ppr(l) & 0xf0))
        return -1;
    return irr;
}

bool vlapic_held_by_tpr(const struct vcpu *v)
{
    const struct vlapic *l = vlapic_of(v);
    uint32_t class;

    if (likely(!(reg_get(l, APIC_TPR) & 0xf0)) || !vlapic_any(v) || !enabled(l))
        return false;
    class = (uint32_t)vector_highest(reg_at_const(l, APIC_IRR)) & 0xf0;
    return class > in_service_class(l) && class <= (reg_get(l, APIC_TPR) & 0xf0);
}

void vlapic_ack(struct vcpu *v, uint8_t vector)
{
    struct vlapic *l = vlapic_of(v);

    vector_clear(reg_at(l, APIC_IRR), vector);
    (void)vector_set(reg_at(l, APIC_ISR), vector);
}

void vlapic_eoi(struct vcpu *v)
{
    struct vlapic *l = vlapic_of(v);
    int isr = vector_highest(reg_at(l, APIC_ISR));

    if (isr < 0)
        return;
    vector_clear(reg_at(l, APIC_ISR), (uint8_t)isr);
    if (unlikely(vector_is_set(reg_at(l, APIC_TMR), (uint8_t)isr)))
        hvm_eoi_level(v->domain, (uint8_t)isr);
}

bool vlapic_eoi_matters(const struct vcpu *v)
{
    const struct vlapic *l = vlapic_of(v);
    unsigned in_service = 0;

    for (unsigned i = 0; i < 8; i++)
        in_service += (unsigned)__builtin_popcount(reg_get(l, APIC_ISR + i * 16));
    return in_service != 1 || vector_highest(reg_at_const(l, APIC_IRR)) >= 0 ||
           vector_is_set(reg_at_const(l, APIC_TMR), (uint8_t)vector_highest(reg_at_const(l, APIC_ISR)));
}

uint8_t vlapic_tpr(const struct vcpu *v)
{
    return (uint8_t)(reg_get(vlapic_of(v), APIC_TPR) >> 4 & 0xf);
}

void vlapic_set_tpr(struct vcpu *v, uint8_t cr8)
{
    struct vlapic *l = vlapic_of(v);

    if (vlapic_tpr(v) != cr8)
        reg_set(l, APIC_TPR, (uint32_t)(cr8 & 0xf) << 4);
}

/* --- interprocessor interrupts --- */

static bool logical_match(const struct vcpu *v, uint32_t dest)
{
    const struct vlapic *l = vlapic_of(v);
    uint32_t ldr;

    if (vlapic_x2(v)) {
        ldr = x2_ldr(v);
        return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
    }
    ldr = reg_get(l, APIC_LDR) >> 24;
    if (reg_get(l, APIC_DFR) == DFR_FLAT)
        return ldr & dest & 0xff;
    return (ldr >> 4) == (dest >> 4 & 0xf) && (ldr & dest & 0xf);
}

/* A destination without a shorthand; `all` is the one that means everybody. */
static bool is_dest(const struct vcpu *v, uint32_t dest, bool logical, uint32_t all)
{
    return dest == all || (logical ? logical_match(v, dest) : vlapic_id(v) == dest);
}

static bool matches(const struct vcpu *v, const struct vcpu *from, uint32_t icr, uint32_t dest)
{
    switch (ICR_SHORT(icr)) {
    case SHORT_SELF:
        return v == from;
    case SHORT_ALL:
        return true;
    case SHORT_OTHERS:
        return v != from;
    default:
        return is_dest(v, dest, icr & ICR_LOGICAL, vlapic_x2(from) ? ~0u : 0xff);
    }
}

/* What devices send, too. */
static void hand(struct vcpu *v, unsigned mode, uint8_t vector, bool level)
{
    switch (mode) {
    case MODE_FIXED:
    case MODE_LOWEST:
        accept(v, vector, level);
        break;
    case MODE_NMI:
        vlapic_nmi(v);
        break;
    default: /* SMI: no system management mode; INIT: no device has a use for it; ExtINT is asked for, not sent */
        break;
    }
}

static void deliver(struct vcpu *v, uint32_t icr)
{
    unsigned mode = ICR_MODE(icr);
    uint8_t vector = (uint8_t)(icr & ICR_VECTOR);

    switch (mode) {
    case MODE_INIT:
        if ((icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
            break; /* INIT level de-assert: of the 82489DX only */
        vlapic_signal_init(v);
        break;
    case MODE_STARTUP:
        vlapic_signal_startup(v, vector);
        break;
    default:
        hand(v, mode, vector, false);
        break;
    }
}

/* Lowest priority: the first of those that are meant, from the sender's neighbour on, so that they take turns. */
static void send_lowest(struct vcpu *from, uint32_t icr, uint32_t dest)
{
    struct domain *d = from->domain;

    for (unsigned i = 1; i <= d->max_vcpus; i++) {
        struct vcpu *v = domain_vcpu(d, (from->id + i) % d->max_vcpus);

        if (v && enabled(vlapic_of(v)) && matches(v, from, icr, dest)) {
            deliver(v, icr);
            return;
        }
    }
}

static void send(struct vcpu *from, uint32_t icr, uint32_t dest)
{
    unsigned mode = ICR_MODE(icr);

    if (mode == MODE_FIXED && (icr & ICR_VECTOR) < FIRST_VECTOR) {
        error(from, ESR_SEND_VECTOR);
        return;
    }
    if (mode == MODE_LOWEST) {
        send_lowest(from, icr, dest);
        return;
    }
    for_each_vcpu(from->domain, v)
    {
        if (matches(v, from, icr, dest))
            deliver(v, icr);
    }
}

/* --- messages --- */

void vlapic_message(struct domain *d, const struct vlapic_message *m)
{
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        struct vcpu *v = domain_vcpu(d, m->mode == MODE_LOWEST ? (m->first + i) % d->max_vcpus : i);

        if (!v || !is_dest(v, m->dest, m->logical, 0xff) ||
            (m->mode == MODE_LOWEST && !enabled(vlapic_of(v))))
            continue;
        hand(v, m->mode, m->vector, m->level);
        if (m->mode == MODE_LOWEST)
            return;
    }
}

bool vlapic_takes_extint(const struct vcpu *v)
{
    const struct vlapic *l = vlapic_of(v);
    uint32_t lint0 = reg_get(l, APIC_LVT_LINT0);

    if (!(l->base & APIC_BASE_ON))
        return !v->id;
    return !(lint0 & LVT_MASKED) && ICR_MODE(lint0) == MODE_EXTINT;
}

/* --- registers --- */

static bool is_vector_register(uint32_t offset)
{
    return offset >= APIC_ISR && offset < APIC_ESR;
}

static bool is_lvt(uint32_t offset)
{
    return offset >= APIC_LVT_TIMER && offset <= APIC_LVT_ERROR && !(offset & 0xf);
}

/* There is a register at this offset; others read as 0 and note an error. */
static bool known(uint32_t offset)
{
    switch (offset) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_TPR:
    case APIC_APR:
    case APIC_PPR:
    case APIC_EOI:
    case APIC_LDR:
    case APIC_DFR:
    case APIC_SVR:
    case APIC_ESR:
    case APIC_ICR:
    case APIC_ICR2:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_CURRENT:
    case APIC_TIMER_DIVIDE:
        return true;
    default:
        return is_lvt(offset) || is_vector_register(offset);
    }
}

static uint32_t read_register(struct vcpu *v, uint32_t offset)
{
    struct vlapic *l = vlapic_of(v);

    switch (offset) {
    case APIC_ID:
        return vlapic_x2(v) ? x2_id(v) : reg_get(l, APIC_ID);
    case APIC_LDR:
        return vlapic_x2(v) ? x2_ldr(v) : reg_get(l, APIC_LDR);
    case APIC_PPR:
        return ppr(l);
    case APIC_TIMER_CURRENT:
        return vlapic_timer_current(v);
    case APIC_APR:
    case APIC_EOI:
        return 0;
    default:
        return reg_get(l, offset);
    }
}

static uint32_t lvt_bits(uint32_t offset)
{
    switch (offset) {
    case APIC_LVT_TIMER:
        return 0x700ff;
    case APIC_LVT_LINT0:
    case APIC_LVT_LINT1:
        return 0x1a7ff;
    case APIC_LVT_ERROR:
        return 0x100ff;
    default:
        return 0x107ff;
    }
}

/* What a guest may write as it likes, to no effect: Linux sets both of LINT0's when it gives the APIC up for another kernel. */
static uint32_t lvt_status(uint32_t offset)
{
    bool line = offset == APIC_LVT_LINT0 || offset == APIC_LVT_LINT1;

    return LVT_PENDING | (line ? LVT_REMOTE_IRR : 0);
}

static void write_lvt(struct vcpu *v, uint32_t offset, uint32_t value)
{
    struct vlapic *l = vlapic_of(v);

    value &= lvt_bits(offset);
    if (!(reg_get(l, APIC_SVR) & SVR_ON))
        value |= LVT_MASKED;
    if (offset == APIC_LVT_TIMER)
        vlapic_timer_mode(v, value);
    reg_set(l, offset, value);
    hvm_attend(v); /* the 8259s' interrupt may have waited for LINT0 to be opened */
}

/* Software disable masks every LVT entry for good. */
static void write_svr(struct vlapic *l, uint32_t value)
{
    reg_set(l, APIC_SVR, value & SVR_BITS);
    if (value & SVR_ON)
        return;
    for (uint32_t at = APIC_LVT_TIMER; at <= APIC_LVT_ERROR; at += 0x10)
        reg_set(l, at, reg_get(l, at) | LVT_MASKED);
}

static void write_register(struct vcpu *v, uint32_t offset, uint32_t value)
{
    struct vlapic *l = vlapic_of(v);

    switch (offset) {
    case APIC_TPR:
        reg_set(l, APIC_TPR, value & 0xff);
        hvm_attend(v);
        break;
    case APIC_EOI:
        vlapic_eoi(v);
        break;
    case APIC_SVR:
        write_svr(l, value);
        break;
    case APIC_ESR:
        reg_set(l, APIC_ESR, __atomic_exchange_n(&l->esr_pending, 0, __ATOMIC_SEQ_CST));
        break;
    case APIC_TIMER_INITIAL:
        vlapic_timer_start(v, value);
        break;
    case APIC_TIMER_DIVIDE:
        vlapic_timer_divide(v, value & 0xb);
        break;
    default: /* else read-only */
        if (is_lvt(offset))
            write_lvt(v, offset, value);
    }
}

uint32_t vlapic_mmio_read(struct vcpu *v, uint32_t offset)
{
    if (offset & 0xf || !known(offset)) {
        error(v, ESR_REGISTER);
        return 0;
    }
    return read_register(v, offset);
}

void vlapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t value)
{
    struct vlapic *l = vlapic_of(v);

    switch (offset) {
    case APIC_LDR:
        reg_set(l, APIC_LDR, value & 0xff000000);
        break;
    case APIC_DFR:
        reg_set(l, APIC_DFR, value | 0x0fffffff);
        break;
    case APIC_ICR2:
        reg_set(l, APIC_ICR2, value & 0xff000000);
        break;
    case APIC_ICR:
        reg_set(l, APIC_ICR, value & ICR_BITS & ~ICR_BUSY);
        send(v, value & ICR_BITS, reg_get(l, APIC_ICR2) >> 24);
        break;
    default:
        if (offset & 0xf || !known(offset))
            error(v, ESR_REGISTER);
        else
            write_register(v, offset, value);
    }
}

/* --- MSRs --- */

#define MSR_X2_FIRST 0x800u
#define MSR_X2_LAST  0x8ffu
#define MSR_BASE     0x1bu
#define MSR_DEADLINE 0x6e0u

bool vlapic_owns_msr(uint32_t msr)
{
    return (msr >= MSR_X2_FIRST && msr <= MSR_X2_LAST) || msr == MSR_BASE || msr == MSR_DEADLINE;
}

static bool x2_readable(uint32_t offset)
{
    return known(offset) && offset != APIC_EOI && offset != APIC_DFR && offset != APIC_ICR2 &&
           offset != APIC_APR;
}

bool vlapic_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t offset = (msr - MSR_X2_FIRST) << 4;

    if (msr == MSR_BASE) {
        *value = l->base;
        return true;
    }
    if (msr == MSR_DEADLINE) {
        *value = l->deadline;
        return true;
    }
    if (!vlapic_x2(v) || !x2_readable(offset))
        return false;
    *value = read_register(v, offset);
    if (offset == APIC_ICR)
        *value |= (uint64_t)l->icr_high << 32;
    return true;
}

/* SDM vol. 3 11.12.5: off -> xAPIC -> x2APIC, and back only to off. */
static bool write_base(struct vcpu *v, uint64_t value)
{
    struct vlapic *l = vlapic_of(v);
    uint64_t mode = value & (APIC_BASE_X2 | APIC_BASE_ON), now = l->base & (APIC_BASE_X2 | APIC_BASE_ON);

    if ((value & ~BASE_BITS) != APIC_PAGE || mode == APIC_BASE_X2)
        return false; /* a page that lies elsewhere is not offered */
    if ((value ^ l->base) & APIC_BASE_BSP)
        return false;
    if ((now & APIC_BASE_X2 && mode == APIC_BASE_ON) || (!now && mode & APIC_BASE_X2))
        return false;
    if (now && !mode)
        vlapic_init_reset(v);
    l->base = value;
    hvm_attend(v); /* off, it takes the 8259s' interrupts */
    return true;
}

static bool x2_writable(uint32_t offset)
{
    switch (offset) {
    case APIC_TPR:
    case APIC_EOI:
    case APIC_SVR:
    case APIC_ESR:
    case APIC_TIMER_INITIAL:
    case APIC_TIMER_DIVIDE:
        return true;
    default:
        return is_lvt(offset);
    }
}

static bool x2_reserved(uint32_t offset, uint32_t value)
{
    switch (offset) {
    case APIC_EOI:
    case APIC_ESR:
        return value != 0;
    case APIC_TPR:
        return value > 0xff;
    case APIC_SVR:
        return value & ~SVR_BITS & ~0x1000u;
    case APIC_TIMER_DIVIDE:
        return value & ~0xbu;
    case APIC_TIMER_INITIAL:
        return false;
    default:
        return value & ~(lvt_bits(offset) | lvt_status(offset));
    }
}

static bool x2_write(struct vcpu *v, uint32_t offset, uint64_t value)
{
    struct vlapic *l = vlapic_of(v);

    if (offset == APIC_ICR) {
        if (value & 0xffffffffu & ~(ICR_BITS | ICR_BUSY))
            return false;
        reg_set(l, APIC_ICR, (uint32_t)value & ICR_BITS & ~ICR_BUSY);
        l->icr_high = (uint32_t)(value >> 32);
        send(v, (uint32_t)value & ICR_BITS, l->icr_high);
        return true;
    }
    if (value >> 32)
        return false;
    if (offset == APIC_SELF_IPI) {
        if (value > 0xff)
            return false;
        vlapic_set_irq(v, (uint8_t)value);
        return true;
    }
    if (!x2_writable(offset) || x2_reserved(offset, (uint32_t)value))
        return false;
    write_register(v, offset, (uint32_t)value);
    return true;
}

bool vlapic_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    if (msr == MSR_BASE)
        return write_base(v, value);
    if (msr == MSR_DEADLINE) {
        vlapic_timer_deadline(v, value);
        return true;
    }
    return vlapic_x2(v) && x2_write(v, (msr - MSR_X2_FIRST) << 4, value);
}

/* --- life --- */

void vlapic_init_reset(struct vcpu *v)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t id = reg_get(l, APIC_ID);

    vlapic_timer_stop(v);
    hvm_attend(v);
    memset(l->reg, 0, sizeof(l->reg));
    l->icr_high = l->esr_pending = 0;
    reg_set(l, APIC_ID, id);
    reg_set(l, APIC_VERSION, VERSION);
    reg_set(l, APIC_DFR, DFR_FLAT);
    reg_set(l, APIC_SVR, 0xff);
    for (uint32_t at = APIC_LVT_TIMER; at <= APIC_LVT_ERROR; at += 0x10)
        reg_set(l, at, LVT_MASKED);
}

void vlapic_reset(struct vcpu *v)
{
    struct vlapic *l = vlapic_of(v);

    l->base = APIC_PAGE | APIC_BASE_ON | (v->id ? 0 : APIC_BASE_BSP);
    reg_set(l, APIC_ID, x2_id(v) << 24);
    vlapic_init_reset(v);
}

void vlapic_init(struct vcpu *v, struct vlapic *l)
{
    vlapic_timer_init(v, l);
}

void vlapic_free(struct vlapic *l)
{
    timer_kill(&l->timer);
}

/* --- as records of xen/arch-x86/hvm/save.h --- */

void vlapic_get_state(struct vcpu *v, struct hvm_hw_lapic *s, struct hvm_hw_lapic_regs *r)
{
    struct vlapic *l = vlapic_of(v);
    uint32_t *to = (uint32_t *)r->data;

    *s = (struct hvm_hw_lapic){.apic_base_msr = l->base,
                               .disabled = l->base & APIC_BASE_ON ? 0 : 2, /* 2: by the MSR; 1: by SVR */
                               .timer_divisor = vlapic_timer_divisor(l),
                               .tdt_msr = l->deadline};
    s->disabled |= reg_get(l, APIC_SVR) & SVR_ON ? 0 : 1;
    memset(r, 0, sizeof(*r));
    for (unsigned i = 0; i < APIC_REGS; i++)
        to[i * 4] = read_register(v, i * 16);
    to[APIC_ICR2 / 4] = vlapic_x2(v) ? l->icr_high : reg_get(l, APIC_ICR2);
}

int vlapic_set_state(struct vcpu *v, const struct hvm_hw_lapic *s)
{
    struct vlapic *l = vlapic_of(v);
    uint64_t mode = s->apic_base_msr & (APIC_BASE_X2 | APIC_BASE_ON);

    if ((s->apic_base_msr & ~BASE_BITS) != APIC_PAGE || mode == APIC_BASE_X2)
        return -EINVAL;
    l->base = (s->apic_base_msr & ~APIC_BASE_BSP) | (v->id ? 0 : APIC_BASE_BSP);
    l->deadline = s->tdt_msr;
    return 0;
}

int vlapic_set_regs(struct vcpu *v, const struct hvm_hw_lapic_regs *r)
{
    struct vlapic *l = vlapic_of(v);
    const uint32_t *from = (const uint32_t *)r->data;

    vlapic_timer_stop(v);
    for (unsigned i = 0; i < APIC_REGS; i++)
        if (known(i * 16))
            reg_set(l, i * 16, from[i * 4]);
    reg_set(l, APIC_VERSION, VERSION);
    reg_set(l, APIC_SVR, reg_get(l, APIC_SVR) & SVR_BITS);
    reg_set(l, APIC_TPR, reg_get(l, APIC_TPR) & 0xff);
    reg_set(l, APIC_ICR, reg_get(l, APIC_ICR) & ICR_BITS & ~ICR_BUSY);
    reg_set(l, APIC_IRR, reg_get(l, APIC_IRR) & ~0xffffu);
    reg_set(l, APIC_ISR, reg_get(l, APIC_ISR) & ~0xffffu);
    for (uint32_t at = APIC_LVT_TIMER; at <= APIC_LVT_ERROR; at += 0x10)
        reg_set(l, at, reg_get(l, at) & lvt_bits(at));
    l->icr_high = from[APIC_ICR2 / 4];
    vlapic_timer_restore(v);
    return 0;
}

/* --- its page --- */

/* Parts of a register can be read; written is a register as a whole. */
static bool page_access(struct vcpu *v, struct hvm_access *a)
{
    uint32_t offset = (uint32_t)(a->address - APIC_PAGE);
    unsigned shift = (offset & 3) * 8;

    if (!vlapic_xapic_on(v))
        return false;
    if (a->write) {
        if (a->bytes == 4)
            vlapic_mmio_write(v, offset, (uint32_t)a->value);
    } else if (shift + a->bytes * 8u > 32 || (offset & 0xf) > 3) {
        a->value = 0;
    } else {
        a->value = vlapic_mmio_read(v, offset & ~3u) >> shift;
    }
    return true;
}

const struct hvm_device vlapic_device = {"local APIC", HVM_MEMORY, APIC_PAGE, APIC_PAGE + FRAME_SIZE - 1,
                                         page_access};
