/*
 * domctl: a vCPU's state, read and written while it is paused. Never one of the caller's own domain: waiting for each other's pause
 * two of its vCPUs would never end.
 * Locks: none.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/guest.h"
#include "lib/string.h"
#include "x86/guest.h"
#include "x86/pte.h"
#include "x86/pv.h"

/* The vCPU that an operation means: 0, -ESRCH, -EINVAL (the caller's own). */
static int find(struct domctl *c, uint32_t id, struct vcpu **out)
{
    *out = domctl_vcpu(c, id);
    if (!*out)
        return -ESRCH;
    return c->d == c->hc.caller->domain ? -EINVAL : 0;
}

static long getvcpucontext(struct domctl *c)
{
    struct vcpu_guest_context *ctxt;
    struct vcpu *v;
    int r = find(c, c->op.u.vcpucontext.vcpu, &v);

    if (r)
        return r;
    if (!v->initialised)
        return -ENODATA;
    ctxt = mem_new(struct vcpu_guest_context); /* 5 KiB: not for the stack */
    if (!ctxt)
        return -ENOMEM;
    vcpu_pause(v);
    guest_kind(c->d)->vcpu_context(v, ctxt);
    vcpu_unpause(v);
    r = guest_write(c->hc.caller, HANDLE(c->op.u.vcpucontext.ctxt), ctxt, sizeof(*ctxt));
    mem_free(ctxt);
    return r;
}

/* --- what is not in the context: entry points of 32-bit system calls, machine checks --- */

/* Older tools' structure ends before the machine-check part. */
#define EXT_MIN offsetof(struct xen_domctl_ext_vcpucontext, mcg_cap)

static void ext_get(struct vcpu *v, struct xen_domctl_ext_vcpucontext *e)
{
    const struct pv_vcpu *pv = pv_vcpu(v);

    *e = (struct xen_domctl_ext_vcpucontext){
        .vcpu = v->id,
        .size = sizeof(*e),
        .syscall32_callback_eip = pv->syscall32.eip,
        .sysenter_callback_eip = pv->sysenter.eip,
        .syscall32_disables_events = pv->syscall32.mask_events,
        .sysenter_disables_events = pv->sysenter.mask_events,
    };
}

/* Guests have no machine-check banks: a state with some comes from elsewhere and cannot be kept. */
static bool mce_ok(const struct xen_domctl_ext_vcpucontext *e)
{
    static const struct hvm_vmce_vcpu none;

    return e->size < sizeof(*e) || !memcmp(&e->vmce, &none, sizeof(none));
}

static int ext_set(struct vcpu *v, const struct xen_domctl_ext_vcpucontext *e)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    if (e->size < EXT_MIN || !va_canonical(e->syscall32_callback_eip) ||
        !va_canonical(e->sysenter_callback_eip))
        return -EINVAL;
    if (!mce_ok(e))
        return -EPERM;
    pv->syscall32 = (struct pv_callback){e->syscall32_callback_eip, e->syscall32_disables_events != 0};
    pv->sysenter = (struct pv_callback){e->sysenter_callback_eip, e->sysenter_disables_events != 0};
    return 0;
}

static long ext_vcpucontext(struct domctl *c)
{
    struct xen_domctl_ext_vcpucontext *e = &c->op.u.ext_vcpucontext;
    bool get = c->op.cmd == XEN_DOMCTL_get_ext_vcpucontext;
    struct vcpu *v;
    int r = find(c, e->vcpu, &v);

    if (r)
        return r;
    vcpu_pause(v);
    if (get)
        ext_get(v, e);
    else
        r = ext_set(v, e);
    vcpu_unpause(v);
    c->write_back = get;
    return r;
}

/* --- extended FPU state --- */

static long getvcpuextstate(struct domctl *c)
{
    struct xen_domctl_vcpuextstate *e = &c->op.u.vcpuextstate;
    bool ask = !HANDLE(e->buffer).a || (!e->size && !e->xfeature_mask);
    char *copy = NULL;
    struct vcpu *v;
    size_t size;
    int r = find(c, e->vcpu, &v);

    if (r)
        return r;
    vcpu_pause(v);
    size = xstate_size(v);
    if (!ask && e->size != size)
        r = -EINVAL;
    else if (!ask && size && !(copy = mem_alloc(size)))
        r = -ENOMEM;
    else if (!ask && size)
        xstate_get(v, copy);
    vcpu_unpause(v);
    if (!r && copy)
        r = guest_write(c->hc.caller, HANDLE(e->buffer), copy, size);
    mem_free(copy);
    e->size = size;
    c->write_back = ask || !r;
    return r;
}

static long setvcpuextstate(struct domctl *c)
{
    struct xen_domctl_vcpuextstate *e = &c->op.u.vcpuextstate;
    struct vcpu *v;
    char *copy;
    int r = find(c, e->vcpu, &v);

    if (r)
        return r;
    if (!e->size || e->size > 2 * FRAME_SIZE)
        return -EINVAL;
    copy = mem_alloc(e->size);
    if (!copy)
        return -ENOMEM;
    r = guest_read(c->hc.caller, copy, HANDLE(e->buffer), e->size);
    if (!r) {
        vcpu_pause(v);
        r = xstate_check(v, copy, e->size);
        if (!r)
            xstate_set(v, copy, e->size);
        vcpu_unpause(v);
    }
    mem_free(copy);
    return r;
}

/* --- MSRs --- */

static long get_vcpu_msrs(struct domctl *c)
{
    struct xen_domctl_vcpu_msrs *m = &c->op.u.vcpu_msrs;
    uint32_t index[PV_VCPU_MSRS];
    uint64_t value[PV_VCPU_MSRS];
    struct vcpu *v;
    unsigned n = PV_VCPU_MSRS;
    int r = find(c, m->vcpu, &v);

    if (r)
        return r;
    c->write_back = true;
    if (HANDLE(m->msrs).a) {
        vcpu_pause(v);
        n = pv_vcpu_msrs_get(v, index, value);
        vcpu_unpause(v);
        r = m->msr_count < n ? -ENOBUFS : 0;
        for (unsigned i = 0; i < n && !r; i++) {
            struct xen_domctl_vcpu_msr one = {.index = index[i], .value = value[i]};

            r = guest_write_at(c->hc.caller, HANDLE(m->msrs), i, &one, sizeof(one));
        }
    }
    m->msr_count = n;
    return r;
}

/* On an error msr_count names the entry. */
static long set_vcpu_msrs(struct domctl *c)
{
    struct xen_domctl_vcpu_msrs *m = &c->op.u.vcpu_msrs;
    struct xen_domctl_vcpu_msr one;
    struct vcpu *v;
    int r = find(c, m->vcpu, &v);

    if (r)
        return r;
    if (m->msr_count > PV_VCPU_MSRS)
        return -EINVAL;
    c->write_back = true;
    for (uint32_t i = 0; i < m->msr_count; i++) {
        r = guest_read_at(c->hc.caller, &one, HANDLE(m->msrs), i, sizeof(one));
        if (!r) {
            vcpu_pause(v);
            r = !one.reserved && pv_vcpu_msr_set(v, one.index, one.value) ? 0 : -EINVAL;
            vcpu_unpause(v);
        }
        if (r) {
            m->msr_count = i;
            return r;
        }
    }
    return 0;
}

long control_vcpu(struct domctl *c)
{
    switch (c->op.cmd) {
    case XEN_DOMCTL_get_ext_vcpucontext:
    case XEN_DOMCTL_set_ext_vcpucontext:
        return ext_vcpucontext(c);
    case XEN_DOMCTL_getvcpuextstate:
        return getvcpuextstate(c);
    case XEN_DOMCTL_setvcpuextstate:
        return setvcpuextstate(c);
    case XEN_DOMCTL_get_vcpu_msrs:
        return get_vcpu_msrs(c);
    case XEN_DOMCTL_set_vcpu_msrs:
        return set_vcpu_msrs(c);
    default:
        return getvcpucontext(c);
    }
}
