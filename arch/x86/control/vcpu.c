/*
 * domctl: a vCPU's state, read and written while it is paused. Never one of the caller's own domain: waiting for each other's pause
 * two of its vCPUs would never end.
 * Locks: none.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/guest.h"
#include "x86/pv.h"

/* The vCPU that an operation means: 0, -ESRCH, -EINVAL (the caller's own). */
static int find(struct domctl *c, uint32_t id, struct vcpu **out)
{
    *out = domctl_vcpu(c, id);
    if (!*out)
        return -ESRCH;
    return c->d == c->hc.caller->domain ? -EINVAL : 0;
}

long control_getvcpucontext(struct domctl *c)
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
    pv_vcpu_get_context(v, ctxt);
    vcpu_unpause(v);
    r = guest_write(c->hc.caller, HANDLE(c->op.u.vcpucontext.ctxt), ctxt, sizeof(*ctxt));
    mem_free(ctxt);
    return r;
}
