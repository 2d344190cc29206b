/*
 * domctl's rows that only x86 can answer: which function has which operation, and the small ones.
 * Locks: d->lock around the fields that are its own.
 */
#include "private.h"
#include "arch/control.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "core/frame.h"
#include "core/guest.h"
#include "x86/hvm.h"
#include "x86/platform.h"
#include "x86/pv.h"

#define FRAME_INFO_MAX 1024u /* per call: tools ask in batches of this size */

/* --- address size: 64 bits, nothing else --- */

static long set_address_size(struct domctl *c)
{
    switch (c->op.u.address_size.size) {
    case 64:
        return 0;
    case 32:
        return domain_vcpu(c->d, 0) ? -EACCES : -EOPNOTSUPP; /* no 32-bit PV guests */
    default:
        return -EINVAL;
    }
}

static long get_address_size(struct domctl *c)
{
    c->op.u.address_size.size = 64;
    c->write_back = true;
    return 0;
}

/* --- frames --- */

static long init_hypercall_page(struct domctl *c)
{
    return pv_hypercall_page_install(c->d, MFN(c->op.u.hypercall_init.gmfn)) ? 0 : -EACCES;
}

/* Tables mean nothing there: it is memory, or not. */
static uint32_t translated_frame_info(struct domain *d, gfn_t g)
{
    struct frame *f = arch_gfn_get(d, g);
    uint32_t info;

    if (!f)
        return XEN_DOMCTL_PFINFO_XTAB;
    info = f->count & FRAME_SPECIAL ? XEN_DOMCTL_PFINFO_XTAB : XEN_DOMCTL_PFINFO_NOTAB;
    frame_put(f);
    return info;
}

static long getpageframeinfo3(struct domctl *c)
{
    struct vcpu *caller = c->hc.caller;
    gva_t array = HANDLE(c->op.u.getpageframeinfo3.array);
    uint64_t num = c->op.u.getpageframeinfo3.num;

    if (num > FRAME_INFO_MAX) {
        c->op.u.getpageframeinfo3.num = FRAME_INFO_MAX;
        c->write_back = true;
        return -E2BIG;
    }
    for (uint64_t i = 0; i < num; i++) {
        uint64_t value;

        if (guest_read_at(caller, &value, array, i, sizeof(value)))
            return -EFAULT;
        value = c->d->ops->translated ? translated_frame_info(c->d, GFN(value)) : pv_frame_info(c->d, value);
        if (guest_write_at(caller, array, i, &value, sizeof(value)))
            return -EFAULT;
    }
    return 0;
}

/* --- time stamp counter --- */

/* PV guests read the processor's counter. That is right for the default mode on the machine where the domain was made, and what "never
 * emulate" asks for; the mode that always emulates, and a frequency of another machine, need an emulation that is not there. */
static int tsc_ok(const struct xen_domctl_tsc_info *t)
{
    switch (t->tsc_mode) {
    case TSC_DEFAULT:
        return t->gtsc_khz && t->gtsc_khz != tsc_khz && t->incarnation ? -EOPNOTSUPP : 0;
    case TSC_NEVER_EMULATE:
        return 0;
    case TSC_ALWAYS_EMULATE:
        return -EOPNOTSUPP;
    default:
        return -EINVAL;
    }
}

static long settscinfo(struct domctl *c)
{
    const struct xen_domctl_tsc_info *t = &c->op.u.tsc_info;
    struct x86_domain *x = x86_domain(c->d);
    int r = c->d == c->hc.caller->domain ? -EINVAL : tsc_ok(t);

    if (r)
        return r;
    spin_lock(&c->d->lock);
    x->tsc_mode = t->tsc_mode;
    x->tsc_incarnation = t->incarnation;
    spin_unlock(&c->d->lock);
    return 0;
}

/* Without emulation there is no frequency and no offset of the guest's own. */
static long gettscinfo(struct domctl *c)
{
    struct x86_domain *x = x86_domain(c->d);

    spin_lock(&c->d->lock);
    c->op.u.tsc_info =
        (struct xen_domctl_tsc_info){.tsc_mode = x->tsc_mode, .incarnation = x->tsc_incarnation};
    spin_unlock(&c->d->lock);
    c->write_back = true;
    return 0;
}

long arch_domctl(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    bool pv =
        !c->d->ops
             ->translated; /* what only a PV guest has, or what is not there for the others yet: EOPNOTSUPP */

    switch (c->op.cmd) {
    case XEN_DOMCTL_gethvmcontext:
    case XEN_DOMCTL_sethvmcontext:
    case XEN_DOMCTL_gethvmcontext_partial:
        return pv ? -EINVAL : hvm_domctl(c);
    case XEN_DOMCTL_set_address_size:
        return pv ? set_address_size(c) : -EOPNOTSUPP;
    case XEN_DOMCTL_get_address_size:
        return get_address_size(c);
    case XEN_DOMCTL_hypercall_init:
        return pv ? init_hypercall_page(c) : -EOPNOTSUPP;
    case XEN_DOMCTL_getpageframeinfo3:
        return getpageframeinfo3(c);
    case XEN_DOMCTL_settscinfo:
        return pv ? settscinfo(c) : hvm_domctl(c);
    case XEN_DOMCTL_gettscinfo:
        return pv ? gettscinfo(c) : hvm_domctl(c);
    case XEN_DOMCTL_shadow_op:
    case XEN_DOMCTL_memory_mapping:
    case XEN_DOMCTL_get_paging_mempool_size:
    case XEN_DOMCTL_set_paging_mempool_size:
        return control_paging(c);
    case XEN_DOMCTL_getvcpucontext:
        return control_vcpu(c);
    case XEN_DOMCTL_get_ext_vcpucontext:
    case XEN_DOMCTL_set_ext_vcpucontext:
    case XEN_DOMCTL_getvcpuextstate:
    case XEN_DOMCTL_setvcpuextstate:
    case XEN_DOMCTL_get_vcpu_msrs:
    case XEN_DOMCTL_set_vcpu_msrs:
        return pv ? control_vcpu(c) : -EOPNOTSUPP;
    case XEN_DOMCTL_setdebugging:
    case XEN_DOMCTL_gdbsx_guestmemio:
    case XEN_DOMCTL_gdbsx_pausevcpu:
    case XEN_DOMCTL_gdbsx_unpausevcpu:
    case XEN_DOMCTL_gdbsx_domstatus:
        return pv ? control_debug(c) : -EOPNOTSUPP;
    case XEN_DOMCTL_irq_permission:
    case XEN_DOMCTL_gsi_permission:
    case XEN_DOMCTL_ioport_permission:
    case XEN_DOMCTL_iomem_permission:
        return control_rights(c);
    case XEN_DOMCTL_get_cpu_policy:
        return control_get_cpu_policy(c);
    case XEN_DOMCTL_set_cpu_policy:
        return control_set_cpu_policy(c);
    }
    return -ENOSYS;
}
