/*
 * Time stamp counters of HVM guests: the modes of xen-tscmode(7), RDTSC where it leaves the guest, and writes.
 *
 *   mode                 frequency asked for    what the guest reads
 *   default              none, the machine's    the processor's counter
 *                        another                the processor's, scaled where it can, else system time
 *   always emulated      any                    system time at that frequency
 *   never emulated       not looked at          the processor's counter
 *
 * Each vCPU adds its offset. The time record that the guest sees (platform/time.c) is a line through the same counter.
 * Locks: the domain is paused while its mode changes; offsets are the vCPU's own.
 */
#include "private.h"
#include "core/control.h"
#include "dev/tsc.h"
#include "viridian/viridian.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "../metal/asm.h"

#define KHZ_MIN 1000u
#define KHZ_MAX 100000000u

uint64_t hvm_tsc_ratio_max; /* [boot] what the processor scales by at most, 32.32; 0: it does not */

/* --- modes --- */

struct way {
    uint64_t ratio;
    uint32_t khz; /* 0: the processor's */
    bool emulated;
};

/* 32.32; both are below 2^32. */
static uint64_t ratio_of(uint64_t khz, uint64_t base)
{
    return (khz << 32) / base;
}

static int choose(const struct xen_domctl_tsc_info *t, struct way *w)
{
    uint32_t khz = t->gtsc_khz ? t->gtsc_khz : (uint32_t)tsc_khz;

    *w = (struct way){0};
    if (khz < KHZ_MIN || khz > KHZ_MAX || t->tsc_mode > TSC_NEVER_EMULATE)
        return -EINVAL;
    if (t->tsc_mode == TSC_NEVER_EMULATE || (t->tsc_mode == TSC_DEFAULT && khz == tsc_khz))
        return 0;
    w->khz = khz;
    w->ratio = ratio_of(khz, tsc_khz);
    w->emulated = t->tsc_mode == TSC_ALWAYS_EMULATE || w->ratio > hvm_tsc_ratio_max;
    if (w->emulated)
        w->ratio = ratio_of(khz, 1000000); /* of nanoseconds */
    return 0;
}

/* The guest's time records name its counter. */
static void moved(struct vcpu *v)
{
    x86_vcpu(v)->time_version_stamp = 0;
    hvm_ops->tsc(v);
    if (!v->id && hvm_domain(v->domain)->viridian)
        viridian_tsc_moved(v->domain);
}

/* All vCPUs go on from where they were, or begin at what another machine says. */
static void change(struct domain *d, const struct way *w, uint64_t elapsed_ns)
{
    struct x86_domain *x = x86_domain(d);
    uint64_t was = tsc_before_offset(x);

    x->tsc_ratio = w->ratio;
    x->tsc_guest_khz = w->khz;
    x->tsc_emulated = w->emulated;
    for_each_vcpu(d, v)
    {
        struct x86_vcpu *xv = x86_vcpu(v);

        if (elapsed_ns)
            xv->tsc_offset = tsc_scale(elapsed_ns, ratio_of(hvm_tsc_khz(d), 1000000)) - tsc_before_offset(x);
        else
            xv->tsc_offset += was - tsc_before_offset(x);
        moved(v);
    }
}

long hvm_settscinfo(struct domctl *c)
{
    const struct xen_domctl_tsc_info *t = &c->op.u.tsc_info;
    struct x86_domain *x = x86_domain(c->d);
    struct way w;
    int r = c->d == c->hc.caller->domain ? -EINVAL : choose(t, &w);

    if (r)
        return r;
    domain_pause(c->d);
    spin_lock(&c->d->lock);
    x->tsc_mode = t->tsc_mode;
    x->tsc_incarnation = t->incarnation;
    change(c->d, &w, t->elapsed_nsec);
    spin_unlock(&c->d->lock);
    domain_unpause(c->d);
    return 0;
}

long hvm_gettscinfo(struct domctl *c)
{
    struct x86_domain *x = x86_domain(c->d);
    struct vcpu *v = domain_vcpu(c->d, 0);

    spin_lock(&c->d->lock);
    c->op.u.tsc_info = (struct xen_domctl_tsc_info){
        .tsc_mode = x->tsc_mode, .incarnation = x->tsc_incarnation, .gtsc_khz = (uint32_t)hvm_tsc_khz(c->d)};
    if (v)
        c->op.u.tsc_info.elapsed_nsec = tsc_scale(hvm_tsc(v), ratio_of(1000000, hvm_tsc_khz(c->d)));
    spin_unlock(&c->d->lock);
    c->write_back = true;
    return 0;
}

/* --- writes --- */

void hvm_set_tsc(struct vcpu *v, uint64_t tsc)
{
    x86_vcpu(v)->tsc_offset = tsc - tsc_before_offset(x86_domain(v->domain));
    moved(v);
}

void hvm_join_tsc(struct vcpu *v)
{
    struct vcpu *first = domain_vcpu(v->domain, 0);

    if (!first || first == v)
        return;
    x86_vcpu(v)->tsc_offset = x86_vcpu(first)->tsc_offset;
    hvm_vcpu(v)->tsc_adjust = hvm_vcpu(first)->tsc_adjust;
    moved(v);
}

/* SDM vol. 3 "time-stamp counter adjustment": a write to the counter moves this by as much, and a write to this the counter. */
void hvm_write_tsc(struct vcpu *v, uint64_t tsc)
{
    uint64_t before = x86_vcpu(v)->tsc_offset;

    hvm_set_tsc(v, tsc);
    hvm_vcpu(v)->tsc_adjust += x86_vcpu(v)->tsc_offset - before;
    arch_vcpu_time_publish(v);
}

void hvm_write_tsc_adjust(struct vcpu *v, uint64_t value)
{
    x86_vcpu(v)->tsc_offset += value - hvm_vcpu(v)->tsc_adjust;
    hvm_vcpu(v)->tsc_adjust = value;
    moved(v);
    arch_vcpu_time_publish(v);
}

/* --- RDTSC, RDTSCP --- */

/* What a processor without next-RIP support does not say; and some say RDTSC for RDTSCP. 0: neither is there (any more). */
static unsigned length_of(struct vcpu *v, bool *aux)
{
    uint8_t code[15] = {0};
    size_t n = hvm_fetch(v, code);
    unsigned at = 0;

    while (at < 12 && (hvm_is_prefix(code[at]) || (hvm_is_64(v) && (code[at] & 0xf0) == 0x40)))
        at++;
    *aux = code[at] == 0x0f && code[at + 1] == 0x01 && code[at + 2] == 0xf9;
    if (!*aux && (code[at] != 0x0f || code[at + 1] != 0x31))
        return 0;
    at += *aux ? 3 : 2;
    return at <= n ? at : 0;
}

enum hvm_verdict hvm_rdtsc(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);
    uint64_t tsc = hvm_tsc(v);
    bool aux = x->kind == HVM_EXIT_RDTSCP;
    unsigned length = x->length ? x->length : length_of(v, &aux);

    if (!length)
        return HVM_RESUME; /* the code has changed: it runs */
    r->rax = (uint32_t)tsc;
    r->rdx = tsc >> 32;
    if (aux)
        r->rcx = tsc_aux();
    hvm_advance(v, length);
    return HVM_RESUME;
}
