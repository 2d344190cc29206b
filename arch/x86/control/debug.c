/*
 * domctl: what a debugger in the control domain asks of a PV guest (gdbsx): its memory by its own page tables, single vCPUs paused, which
 * trap stopped it.
 *
 *   running --trap of its kernel, setdebugging on--> paused, event set (pv_debugger_takes), VIRQ_DEBUGGER
 *   paused --domstatus--> paused, event told --unpausedomain--> running
 *
 * Locks: d->lock around counts.
 */
#include "private.h"
#include "arch/mem.h"
#include "core/guest.h"
#include "x86/pv.h"

#define MEMIO_MAX (1u << 20) /* bytes of one call: it is not preemptible */
#define PAUSES    255u

static long setdebugging(struct domctl *c)
{
    if (c->d == c->hc.caller->domain)
        return -EINVAL;
    __atomic_store_n(&x86_domain(c->d)->debugged, c->op.u.setdebugging.enable != 0, __ATOMIC_RELAXED);
    return 0;
}

/* Within one page. False: the guest has nothing there, or the caller has no buffer. */
static bool copy_page(struct vcpu *caller, struct vcpu *v, uint64_t at, uint64_t buffer, size_t n, bool write)
{
    char *page;
    mfn_t m;
    int r;

    if (!pv_foreign_get(v, GVA(at), write, &m))
        return false;
    page = (char *)arch_frame_va(m) + at % FRAME_SIZE;
    r = write ? guest_read(caller, page, GVA(buffer), n) : guest_write(caller, GVA(buffer), page, n);
    pv_foreign_put(m, write);
    return !r;
}

static long guestmemio(struct domctl *c)
{
    struct xen_domctl_gdbsx_memio *io = &c->op.u.gdbsx_guest_memio;
    struct vcpu *v = domain_vcpu(c->d, 0);
    uint64_t at = io->gva, buffer = io->uva;

    if (!v || domain_is_dying(c->d))
        return -ESRCH;
    if (c->d == c->hc.caller->domain || io->len > MEMIO_MAX)
        return -EINVAL;
    if (io->pgd3val)
        return -EOPNOTSUPP; /* a 32-bit kernel's tables */
    for (io->remain = io->len; io->remain;) {
        size_t n = MIN(io->remain, (uint32_t)(FRAME_SIZE - at % FRAME_SIZE));

        if (!copy_page(c->hc.caller, v, at, buffer, n, io->gwr))
            break;
        at += n;
        buffer += n;
        io->remain -= (uint32_t)n;
    }
    c->write_back = true;
    return io->remain ? -EFAULT : 0;
}

/* A vCPU of a domain that the toolstack has paused stays so when the domain goes on. */
static long pausevcpu(struct domctl *c)
{
    struct vcpu *v = domctl_vcpu(c, c->op.u.gdbsx_pauseunp_vcpu.vcpu);
    int r = 0;

    if (c->d == c->hc.caller->domain || !v)
        return -EINVAL;
    spin_lock(&c->d->lock);
    if (!c->d->controller_pauses)
        r = -EBUSY;
    else if (pv_vcpu(v)->debug_pauses == PAUSES)
        r = -EOVERFLOW;
    else
        pv_vcpu(v)->debug_pauses++;
    spin_unlock(&c->d->lock);
    if (!r)
        vcpu_pause(v);
    return r;
}

static long unpausevcpu(struct domctl *c)
{
    struct vcpu *v = domctl_vcpu(c, c->op.u.gdbsx_pauseunp_vcpu.vcpu);
    int r = 0;

    if (!v)
        return -EINVAL;
    spin_lock(&c->d->lock);
    if (!c->d->controller_pauses)
        r = -EBUSY;
    else if (!pv_vcpu(v)->debug_pauses)
        r = -EINVAL;
    else
        pv_vcpu(v)->debug_pauses--;
    spin_unlock(&c->d->lock);
    if (!r)
        vcpu_unpause(v);
    return r;
}

/* The first vCPU that stopped for the debugger; its event is told once. */
static long domstatus(struct domctl *c)
{
    struct xen_domctl_gdbsx_domstatus *s = &c->op.u.gdbsx_domstatus;

    s->vcpu_id = ~0u;
    s->vcpu_ev = 0;
    spin_lock(&c->d->lock);
    s->paused = c->d->controller_pauses > 0;
    spin_unlock(&c->d->lock);
    c->write_back = true;
    if (!s->paused)
        return 0;
    for_each_vcpu(c->d, v)
    {
        uint8_t event = __atomic_exchange_n(&pv_vcpu(v)->debug_event, 0, __ATOMIC_ACQUIRE);

        if (event) {
            s->vcpu_id = v->id;
            s->vcpu_ev = event;
            return 0;
        }
    }
    return 0;
}

long control_debug(struct domctl *c)
{
    switch (c->op.cmd) {
    case XEN_DOMCTL_setdebugging:
        return setdebugging(c);
    case XEN_DOMCTL_gdbsx_guestmemio:
        return guestmemio(c);
    case XEN_DOMCTL_gdbsx_pausevcpu:
        return pausevcpu(c);
    case XEN_DOMCTL_gdbsx_unpausevcpu:
        return unpausevcpu(c);
    default:
        return domstatus(c);
    }
}
