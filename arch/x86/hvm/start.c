/*
 * How a vCPU of an HVM guest begins: VCPUOP_initialise (xen/hvm/hvm_vcpu.h), INIT and STARTUP of its local APIC.
 *
 *   down, never started --VCPUOP_initialise--> initialised --VCPUOP_up--> running
 *   running --INIT--> (resets itself on its way into the guest) waits for STARTUP --STARTUP--> running
 *   (a STARTUP that comes before it has reset itself is kept till then: startup_early)
 *   down, never started --INIT, STARTUP--> running
 *
 * Locks: d->lock around what is done to a vCPU that does not run.
 */
#include "private.h"
#include "dev/vlapic_private.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/sched.h"
#include "core/work.h"
#include "arch/time.h"
#include "lib/string.h"
#include "x86/guest.h"
#include "x86/pte.h"
#include <xen/hvm/hvm_vcpu.h>

#define STARTUP_RETRY_NS 100000u

#define ATTR_S           0x10u
#define ATTR_P           0x80u
#define ATTR_CODE        0x8u
#define ATTR_BUSY        0x2u

/* --- INIT, STARTUP --- */

void vlapic_signal_init(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    spin_lock(&v->domain->lock);
    h->startup_early = false;
    if (__atomic_load_n(&v->pause_flags, __ATOMIC_SEQ_CST) & VPF_DOWN)
        h->sipi_wait = true;
    else
        __atomic_store_n(&h->init_pending, true, __ATOMIC_SEQ_CST);
    hvm_attend(v);
    spin_unlock(&v->domain->lock);
    vcpu_unblock(v);
    vcpu_kick(v);
}

/* The current vCPU does what an INIT asks, and sleeps. */
void hvm_take_init(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);
    bool early;

    spin_lock(&v->domain->lock);
    __atomic_store_n(&h->init_pending, false, __ATOMIC_SEQ_CST);
    hvm_vcpu_init_reset(v);
    h->sipi_wait = true;
    early = h->startup_early;
    h->startup_early = false;
    __atomic_fetch_or(&v->pause_flags, VPF_DOWN, __ATOMIC_SEQ_CST);
    spin_unlock(&v->domain->lock);
    if (early)
        timer_set(&h->startup, arch_time_ns() + STARTUP_RETRY_NS);
    work_raise(WORK_SCHEDULE);
}

/* Real mode at page * 4 KiB. */
static void start_at(struct vcpu *v, uint8_t page)
{
    struct hvm_segment cs = {
        .sel = (uint16_t)(page << 8), .attr = 0x9b, .limit = 0xffff, .base = (uint64_t)page << 12};

    if (v->initialised)
        hvm_vcpu_init_reset(v);
    else
        hvm_vcpu_reset(v);
    hvm_ops->set_segment(v, HVM_CS, &cs);
    hvm_set(v, HVM_RIP, 0);
    hvm_join_tsc(v);
}

/* One that went down and is still about to leave its CPU is not waited for, since it may be waiting for us: tried again later. */
void hvm_startup_try(void *data)
{
    struct vcpu *v = data;
    struct hvm_vcpu *h = hvm_vcpu(v);
    bool go, later;

    /* domain_kill waits for this timer with the lock held. */
    if (!spin_trylock(&v->domain->lock)) {
        timer_set(&h->startup, arch_time_ns() + STARTUP_RETRY_NS);
        return;
    }
    h->startup_early = __atomic_load_n(&h->init_pending, __ATOMIC_RELAXED);
    go = h->sipi_wait && !v->domain->dying && (__atomic_load_n(&v->pause_flags, __ATOMIC_SEQ_CST) & VPF_DOWN);
    later = go && __atomic_load_n(&v->running, __ATOMIC_ACQUIRE);
    go = go && !later;
    if (go) {
        start_at(v, h->startup_page);
        h->sipi_wait = false;
        v->initialised = true;
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
    }
    spin_unlock(&v->domain->lock);
    if (later)
        timer_set(&h->startup, arch_time_ns() + STARTUP_RETRY_NS);
    if (go)
        vcpu_wake(v);
}

void vlapic_signal_startup(struct vcpu *v, uint8_t page)
{
    __atomic_store_n(&hvm_vcpu(v)->startup_page, page, __ATOMIC_RELAXED);
    hvm_startup_try(v);
}

/* --- VCPUOP_initialise --- */

struct start {
    struct guest_regs regs;
    uint64_t rsp, rip, rflags, cr0, cr3, cr4, efer;
    struct hvm_segment cs, ds, es, ss, tr;
};

static struct hvm_segment segment32(uint32_t base, uint32_t limit, uint16_t ar)
{
    return (struct hvm_segment){.attr = ar, .limit = limit, .base = base};
}

static int read32(const struct vcpu_hvm_x86_32 *c, struct start *s)
{
    uint16_t all = c->cs_ar | c->ds_ar | c->ss_ar | c->es_ar | c->tr_ar;

    if (c->pad1 || c->pad2[0] || c->pad2[1] || c->pad2[2] || all >> 12)
        return -EINVAL;
    s->regs = (struct guest_regs){.rax = c->eax,
                                  .rcx = c->ecx,
                                  .rdx = c->edx,
                                  .rbx = c->ebx,
                                  .rbp = c->ebp,
                                  .rsi = c->esi,
                                  .rdi = c->edi};
    s->rsp = c->esp;
    s->rip = c->eip;
    s->rflags = c->eflags;
    s->cr0 = c->cr0;
    s->cr3 = c->cr3;
    s->cr4 = c->cr4;
    s->efer = c->efer;
    s->cs = segment32(c->cs_base, c->cs_limit, c->cs_ar);
    s->ds = segment32(c->ds_base, c->ds_limit, c->ds_ar);
    s->es = segment32(c->es_base, c->es_limit, c->es_ar);
    s->ss = segment32(c->ss_base, c->ss_limit, c->ss_ar);
    s->tr = segment32(c->tr_base, c->tr_limit, c->tr_ar | ATTR_BUSY);
    return 0;
}

static int read64(const struct vcpu_hvm_x86_64 *c, struct start *s)
{
    const struct hvm_segment flat = {.attr = 0xc93, .limit = ~0u};

    s->regs = (struct guest_regs){.rax = c->rax,
                                  .rcx = c->rcx,
                                  .rdx = c->rdx,
                                  .rbx = c->rbx,
                                  .rbp = c->rbp,
                                  .rsi = c->rsi,
                                  .rdi = c->rdi};
    s->rsp = c->rsp;
    s->rip = c->rip;
    s->rflags = c->rflags;
    s->cr0 = c->cr0;
    s->cr3 = c->cr3;
    s->cr4 = c->cr4;
    s->efer = c->efer;
    s->cs = (struct hvm_segment){.attr = 0xa9b, .limit = ~0u};
    s->ds = s->es = s->ss = flat;
    s->tr = (struct hvm_segment){.attr = 0x8b, .limit = 0x67};
    if (!va_canonical(c->rip) || !(c->efer & EFER_LMA) || !(c->cr0 & CR0_PG))
        return -EINVAL;
    return 0;
}

static bool data_ok(const struct hvm_segment *s)
{
    return !(s->attr & ATTR_P) || ((s->attr & ATTR_S) && !(s->attr & ATTR_CODE && !(s->attr & 2)));
}

static bool modes_ok(const struct vcpu *v, const struct start *s)
{
    bool paging = s->cr0 & CR0_PG;

    if (!hvm_cr0_ok(s->cr0) || !hvm_cr4_ok(v, s->cr4) || !hvm_efer_ok(v, s->efer & ~EFER_LMA))
        return false;
    if (s->efer & EFER_LMA && (!(s->efer & EFER_LME) || !paging || !(s->cr4 & CR4_PAE)))
        return false;
    return !(s->efer & EFER_LME && paging && !(s->efer & EFER_LMA));
}

static bool segments_ok(const struct start *s)
{
    return (s->cs.attr & (ATTR_P | ATTR_S | ATTR_CODE)) == (ATTR_P | ATTR_S | ATTR_CODE) && data_ok(&s->ds) &&
           data_ok(&s->es) && data_ok(&s->ss) && !(s->tr.attr & ATTR_S) &&
           s->rip <= MAX((uint64_t)s->cs.limit, s->rip >> 32 ? s->rip : 0);
}

static void apply(struct vcpu *v, const struct start *s)
{
    hvm_vcpu_reset(v);
    x86_vcpu(v)->regs = s->regs;
    hvm_set(v, HVM_RSP, s->rsp);
    hvm_set(v, HVM_RIP, s->rip);
    hvm_set(v, HVM_RFLAGS, hvm_rflags(s->rflags));
    hvm_set(v, HVM_CR0, s->cr0 | CR0_ET);
    hvm_set(v, HVM_CR3, s->cr3);
    hvm_set(v, HVM_CR4, s->cr4);
    hvm_set(v, HVM_EFER, s->efer);
    hvm_ops->set_segment(v, HVM_CS, &s->cs);
    hvm_ops->set_segment(v, HVM_DS, &s->ds);
    hvm_ops->set_segment(v, HVM_ES, &s->es);
    hvm_ops->set_segment(v, HVM_SS, &s->ss);
    hvm_ops->set_segment(v, HVM_TR, &s->tr);
    hvm_join_tsc(v);
}

int hvm_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online)
{
    struct vcpu_hvm_context c;
    struct start s;
    int r;

    *online = false;
    if (caller->domain != v->domain) /* DOMCTL_setvcpucontext has the form of PV guests */
        return -EOPNOTSUPP;
    if (guest_read(caller, &c, context, sizeof(c)))
        return -EFAULT;
    if (c.pad)
        return -EINVAL;
    memset(&s, 0, sizeof(s));
    if (c.mode == VCPU_HVM_MODE_32B)
        r = read32(&c.cpu_regs.x86_32, &s);
    else
        r = c.mode == VCPU_HVM_MODE_64B ? read64(&c.cpu_regs.x86_64, &s) : -EINVAL;
    if (r)
        return r;
    if (!modes_ok(v, &s) || !segments_ok(&s))
        return -EINVAL;
    apply(v, &s);
    return 0;
}
