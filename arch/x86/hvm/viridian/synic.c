/*
 * The synthetic interrupt controller (TLFS 11): sources and their messages; and ends of interrupts that need no exit (TLFS 10.3.5).
 *
 *   stimer's time is up -> synic_post -> the source's slot in the message page, its vector in the local APIC
 *                          slot is full: its flag is set; the guest empties it, writes EOM -> stimers_try
 *   the local APIC gives a vector -> viridian_taken: bit in the assist page -> the guest clears it instead of a write of EOI
 *                                 -> viridian_look, at exits and on the way in: ends it, or takes the bit back
 *
 * Invariants
 *  1. hvm_vcpu.lazy_eoi says that exactly one interrupt is in service, it is edge-triggered, nothing waited when the bit was set, and
 *     whoever finds the bit gone has to end it.
 *  2. auto_eoi has the vectors of unmasked sources with AutoEOI.
 * Locks: the vCPU's own (RANK_VIRIDIAN) around slots and sources; timers post from any CPU. The assist page is the vCPU's alone.
 */
#include "private.h"
#include "../dev/vlapic.h"
#include "arch/cpu.h"
#include "lib/string.h"
#include "x86/p2m.h"

#define SLOT_BYTES    256u
#define SIEFP_BITS    (~0xfffull | PAGE_ON)
#define SINT_BITS     (SINT_VECTOR | SINT_MASKED | SINT_AUTO_EOI | SINT_POLLING)
#define MESSAGE_WAITS 1u /* in flags */
#define SYNIC_VERSION 1u
#define ASSIST_NO_EOI 1u

struct slot {
    uint32_t type; /* 0: empty */
    uint8_t bytes, flags;
    uint16_t reserved;
    uint64_t sender;
    uint64_t payload[30];
};
_Static_assert(sizeof(struct slot) == SLOT_BYTES, "TLFS 11.9");

/* --- messages --- */

/* After the flag the slot is looked at again: the guest empties it first, and looks at the flag then. */
static bool slot_is_full(struct slot *s)
{
    if (!__atomic_load_n(&s->type, __ATOMIC_SEQ_CST))
        return false;
    __atomic_fetch_or(&s->flags, MESSAGE_WAITS, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&s->type, __ATOMIC_SEQ_CST);
}

bool synic_post(struct vcpu *v, unsigned sint, uint32_t type, const uint64_t *payload, unsigned words)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);
    struct slot *s = vv->sim.va;

    if (!(vv->scontrol & 1) || !s || slot_is_full(&s[sint]))
        return false;
    s += sint;
    for (unsigned i = 0; i < words; i++)
        __atomic_store_n(&s->payload[i], payload[i], __ATOMIC_RELAXED);
    __atomic_store_n(&s->bytes, (uint8_t)(words * 8), __ATOMIC_RELAXED);
    __atomic_store_n(&s->flags, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&s->sender, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&s->type, type, __ATOMIC_RELEASE);
    if (!(vv->sint[sint] & (SINT_MASKED | SINT_POLLING)))
        vlapic_set_irq(v, (uint8_t)vv->sint[sint]);
    return true;
}

void synic_wrote(struct vcpu *v)
{
    p2m_mark_dirty(v->domain, GFN(viridian_vcpu(v)->sim.msr >> FRAME_SHIFT));
}

/* --- sources --- */

static void note_auto_eoi(struct viridian_vcpu *vv)
{
    uint64_t map[4] = {0};

    for (unsigned i = 0; i < SINTS; i++)
        if ((vv->sint[i] & (SINT_MASKED | SINT_AUTO_EOI)) == SINT_AUTO_EOI)
            map[(vv->sint[i] & SINT_VECTOR) / 64] |= 1ull << (vv->sint[i] & 63);
    memcpy(vv->auto_eoi, map, sizeof(map));
}

bool sint_ok(uint64_t value)
{
    return (value & SINT_MASKED) || (value & SINT_VECTOR) >= FIRST_VECTOR;
}

void sint_set(struct vcpu *v, unsigned n, uint64_t value)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);
    unsigned long flags = spin_lock_irq(&vv->lock);

    vv->sint[n] = value & SINT_BITS;
    note_auto_eoi(vv);
    spin_unlock_irq(&vv->lock, flags);
}

void synic_reset(struct vcpu *v)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);

    vv->siefp = vv->scontrol = 0;
    for (unsigned i = 0; i < SINTS; i++)
        sint_set(v, i, SINT_MASKED);
    (void)!page_set(v, &vv->sim, 0, &vv->lock);
    (void)!page_set(v, &vv->assist, 0, &vv->lock);
    hvm_vcpu(v)->lazy_eoi = false;
}

bool synic_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct viridian_vcpu *vv = viridian_vcpu(v);

    switch (msr) {
    case MSR_SCONTROL:
        *value = vv->scontrol;
        return true;
    case MSR_SVERSION:
        *value = SYNIC_VERSION;
        return true;
    case MSR_SIEFP:
        *value = vv->siefp;
        return true;
    case MSR_SIMP:
        *value = vv->sim.msr;
        return true;
    case MSR_EOM:
        *value = 0;
        return true;
    default:
        *value = vv->sint[msr - MSR_SINT0];
        return true;
    }
}

/* Each change may make room for a message that waits. */
bool synic_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);

    switch (msr) {
    case MSR_SCONTROL:
        __atomic_store_n(&vv->scontrol, value & 1, __ATOMIC_RELAXED);
        break;
    case MSR_SIEFP: /* kept: nothing here raises event flags */
        vv->siefp = value & SIEFP_BITS;
        return true;
    case MSR_SIMP:
        if (!page_set(v, &vv->sim, value & SIEFP_BITS, &vv->lock))
            return false;
        break;
    case MSR_EOM:
        break;
    case MSR_SVERSION:
        return false;
    default:
        if (!sint_ok(value))
            return false;
        sint_set(v, msr - MSR_SINT0, value);
        return true;
    }
    stimers_try(v);
    return true;
}

/* --- ends of interrupts --- */

static uint32_t *assist_word(const struct vcpu *v)
{
    return viridian_vcpu(v)->assist.va;
}

/* True: the guest had ended it. */
static bool take_back(struct vcpu *v)
{
    hvm_vcpu(v)->lazy_eoi = false;
    return !(__atomic_fetch_and(assist_word(v), ~ASSIST_NO_EOI, __ATOMIC_SEQ_CST) & ASSIST_NO_EOI);
}

void viridian_look(struct vcpu *v)
{
    bool ended = !(__atomic_load_n(assist_word(v), __ATOMIC_SEQ_CST) & ASSIST_NO_EOI);

    if (!ended && !vlapic_eoi_matters(v))
        return;
    if (take_back(v))
        vlapic_eoi(v);
}

void viridian_taken(struct vcpu *v, uint8_t vector)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);

    if (vv->auto_eoi[vector / 64] >> (vector % 64) & 1) {
        vlapic_eoi(v);
        return;
    }
    /* What is written here while memory is logged would not be noted. */
    if (!assist_word(v) || !viridian_has(v, HVMPV_apic_assist) || vlapic_eoi_matters(v) ||
        p2m_log_enabled(v->domain))
        return;
    __atomic_fetch_or(assist_word(v), ASSIST_NO_EOI, __ATOMIC_SEQ_CST);
    hvm_vcpu(v)->lazy_eoi = true;
}

bool assist_set(struct vcpu *v, uint64_t value)
{
    struct viridian_vcpu *vv = viridian_vcpu(v);

    if (hvm_vcpu(v)->lazy_eoi && take_back(v))
        vlapic_eoi(v);
    return page_set(v, &vv->assist, value, &vv->lock);
}
