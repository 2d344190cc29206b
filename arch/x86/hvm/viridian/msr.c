/*
 * The synthetic MSRs 0x40000000-0x40000105 of the current vCPU. An MSR of a group that the domain does not have is none: #GP.
 * What all vCPUs share is one word each, read and written as a whole.
 */
#include "private.h"
#include "../dev/tsc.h"
#include "../dev/vlapic.h"
#include "core/frame.h"
#include "core/log.h"
#include "lib/string.h"

#define MSR_LAST       0x400001ffu
#define APIC_HZ        100000000ull /* hvm/dev/vlapic_timer.c */
#define MSR_X2APIC_ICR 0x830u
#define CRASH_NOTIFY   (1ull << 63)

bool viridian_owns_msr(uint32_t msr)
{
    return msr >= MSR_GUEST_OS_ID && msr <= MSR_LAST;
}

static bool in(uint32_t msr, uint32_t first, uint32_t n)
{
    return msr - first < n;
}

/* The groups of xen/hvm/params.h that bring an MSR; 0: none such. */
static uint64_t group_of(uint32_t msr)
{
    if (in(msr, MSR_GUEST_OS_ID, 4) || in(msr, MSR_EOI, 4))
        return HVMPV_base_freq;
    if (in(msr, MSR_SCONTROL, 5) || in(msr, MSR_SINT0, SINTS))
        return HVMPV_synic;
    if (in(msr, MSR_STIMER0, 2 * STIMERS))
        return HVMPV_stimer;
    if (in(msr, MSR_CRASH_P0, CRASH_PARAMS + 1))
        return HVMPV_crash_ctl;
    switch (msr) {
    case MSR_TIME_REF_COUNT:
        return HVMPV_time_ref_count;
    case MSR_REFERENCE_TSC:
        return HVMPV_reference_tsc;
    case MSR_TSC_FREQUENCY:
    case MSR_APIC_FREQUENCY:
        return HVMPV_base_freq;
    default:
        return 0;
    }
}

static bool is_there(const struct vcpu *v, uint32_t msr)
{
    if ((msr == MSR_TSC_FREQUENCY || msr == MSR_APIC_FREQUENCY) && viridian_has(v, HVMPV_no_freq))
        return false;
    return viridian_vcpu(v) && viridian_has(v, group_of(msr));
}

/* --- the hypercall page --- */

bool viridian_calls(const struct domain *d)
{
    return __atomic_load_n(&viridian_of(d)->call_page, __ATOMIC_RELAXED) & PAGE_ON;
}

/* or $VIRIDIAN_CALL, %eax; vmmcall; ret: the same in all modes. */
static void fill_call_page(uint8_t *p)
{
    static const uint8_t call[] = {0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x01, 0xd9, 0xc3};

    memset(p, 0xcc, FRAME_SIZE);
    memcpy(p, call, sizeof(call));
}

/* It stays off until the guest has said what it is. */
static bool set_call_page(struct vcpu *v, uint64_t value)
{
    struct viridian *vd = viridian_of(v->domain);
    mfn_t m;
    void *p;

    if (__atomic_load_n(&vd->call_page, __ATOMIC_RELAXED) & CALL_PAGE_LOCKED)
        return true;
    if (!__atomic_load_n(&vd->guest_os_id, __ATOMIC_RELAXED))
        value &= ~PAGE_ON;
    if (value & PAGE_ON) {
        p = page_take(v->domain, value, &m);
        if (!p)
            return false;
        fill_call_page(p);
        frame_put(mfn_frame(m));
    }
    __atomic_store_n(&vd->call_page, value, __ATOMIC_RELAXED);
    return true;
}

static void set_guest_os_id(struct viridian *vd, uint64_t value)
{
    __atomic_store_n(&vd->guest_os_id, value, __ATOMIC_RELAXED);
    if (!value)
        __atomic_fetch_and(&vd->call_page, ~PAGE_ON, __ATOMIC_RELAXED);
}

/* --- the local APIC --- */

static bool set_icr(struct vcpu *v, uint64_t value)
{
    if (vlapic_x2(v))
        return vlapic_wrmsr(v, MSR_X2APIC_ICR, value);
    vlapic_mmio_write(v, APIC_ICR2, (uint32_t)(value >> 32));
    vlapic_mmio_write(v, APIC_ICR, (uint32_t)value);
    return true;
}

static uint64_t icr(struct vcpu *v)
{
    uint64_t value;

    if (vlapic_x2(v))
        return vlapic_rdmsr(v, MSR_X2APIC_ICR, &value) ? value : 0;
    return (uint64_t)vlapic_mmio_read(v, APIC_ICR2) << 32 | vlapic_mmio_read(v, APIC_ICR);
}

static bool set_tpr(struct vcpu *v, uint64_t value)
{
    if (value > 0xff)
        return false;
    vlapic_mmio_write(v, APIC_TPR, (uint32_t)value);
    return true;
}

/* --- the end --- */

/* What the kernel says of its crash; it may write a dump yet. However the domain ends then: it crashed. */
static void crash(struct vcpu *v, uint64_t value)
{
    struct domain *d = v->domain;
    const uint64_t *p = viridian_of(d)->crash;

    if (!(value & CRASH_NOTIFY))
        return;
    log_guest(d->id, LOG_WARN, "vCPU %u: the guest says that it crashed: %lx %lx %lx %lx %lx", v->id,
              __atomic_load_n(&p[0], __ATOMIC_RELAXED), __atomic_load_n(&p[1], __ATOMIC_RELAXED),
              __atomic_load_n(&p[2], __ATOMIC_RELAXED), __atomic_load_n(&p[3], __ATOMIC_RELAXED),
              __atomic_load_n(&p[4], __ATOMIC_RELAXED));
    spin_lock(&d->lock);
    if (!d->shutting_down)
        d->shutdown_code = SHUTDOWN_crash;
    spin_unlock(&d->lock);
}

/* --- the two instructions --- */

static uint64_t read_domain(struct vcpu *v, uint32_t msr)
{
    const struct viridian *vd = viridian_of(v->domain);

    switch (msr) {
    case MSR_GUEST_OS_ID:
        return __atomic_load_n(&vd->guest_os_id, __ATOMIC_RELAXED);
    case MSR_CALL_PAGE:
        return __atomic_load_n(&vd->call_page, __ATOMIC_RELAXED);
    case MSR_VP_INDEX:
        return v->id;
    case MSR_TIME_REF_COUNT:
        return reference_time(v->domain);
    case MSR_REFERENCE_TSC:
        return __atomic_load_n(&vd->tsc_page, __ATOMIC_RELAXED);
    case MSR_TSC_FREQUENCY:
        return hvm_tsc_khz(v->domain) * 1000;
    case MSR_APIC_FREQUENCY:
        return APIC_HZ;
    case MSR_CRASH_CTL:
        return CRASH_NOTIFY;
    default: /* MSR_RESET */
        return 0;
    }
}

bool viridian_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct viridian_vcpu *vv = viridian_vcpu(v);
    const struct stimer *t;

    if (!is_there(v, msr) || msr == MSR_EOI)
        return false;
    if (msr == MSR_ICR) {
        *value = icr(v);
    } else if (msr == MSR_TPR) {
        *value = vlapic_mmio_read(v, APIC_TPR);
    } else if (msr == MSR_ASSIST_PAGE) {
        *value = vv->assist.msr;
    } else if (in(msr, MSR_STIMER0, 2 * STIMERS)) {
        t = &vv->stimer[(msr - MSR_STIMER0) / 2];
        *value = msr & 1 ? t->count : t->config;
    } else if (in(msr, MSR_SCONTROL, MSR_SINT0 + SINTS - MSR_SCONTROL)) {
        return synic_read(v, msr, value);
    } else if (in(msr, MSR_CRASH_P0, CRASH_PARAMS)) {
        *value = __atomic_load_n(&viridian_of(v->domain)->crash[msr - MSR_CRASH_P0], __ATOMIC_RELAXED);
    } else {
        *value = read_domain(v, msr);
    }
    return true;
}

static bool write_domain(struct vcpu *v, uint32_t msr, uint64_t value)
{
    struct viridian *vd = viridian_of(v->domain);

    switch (msr) {
    case MSR_GUEST_OS_ID:
        set_guest_os_id(vd, value);
        return true;
    case MSR_CALL_PAGE:
        return set_call_page(v, value);
    case MSR_RESET:
        if (value & 1)
            domain_shutdown(v->domain, SHUTDOWN_reboot);
        return true;
    case MSR_REFERENCE_TSC:
        return tsc_page_set(v, value);
    case MSR_CRASH_CTL:
        crash(v, value);
        return true;
    default: /* read-only */
        return false;
    }
}

bool viridian_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value)
{
    if (!is_there(v, msr))
        return false;
    switch (msr) {
    case MSR_EOI:
        vlapic_eoi(v);
        return true;
    case MSR_ICR:
        return set_icr(v, value);
    case MSR_TPR:
        return set_tpr(v, value);
    case MSR_ASSIST_PAGE:
        return assist_set(v, value);
    default:
        break;
    }
    if (in(msr, MSR_STIMER0, 2 * STIMERS)) {
        (msr & 1 ? stimer_set_count : stimer_set_config)(v, (msr - MSR_STIMER0) / 2, value);
        return true;
    }
    if (in(msr, MSR_SCONTROL, MSR_SINT0 + SINTS - MSR_SCONTROL))
        return synic_write(v, msr, value);
    if (in(msr, MSR_CRASH_P0, CRASH_PARAMS)) {
        __atomic_store_n(&viridian_of(v->domain)->crash[msr - MSR_CRASH_P0], value, __ATOMIC_RELAXED);
        return true;
    }
    return write_domain(v, msr, value);
}
