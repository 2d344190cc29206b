/*
 * The PV MMU: another domain's memory by its virtual addresses, for a debugger in the control domain. The domain may run meanwhile: what
 * is found is one moment's, and only frames of that domain are given. No locks.
 */
#include "types.h"

static bool pin(struct domain *d, struct frame *f, bool write)
{
    if (!frame_get(f, d))
        return false;
    /* Breakpoints are written into code that is mapped read-only: any frame that may be writable memory. */
    if (!write || !pv_frame_get_type(frame_mfn(f), d, PGT_WRITABLE, false))
        return true;
    frame_put(f);
    return false;
}

bool pv_foreign_get(struct vcpu *v, gva_t va, bool write, mfn_t *m)
{
    struct frame *f;
    uint64_t e;

    if (!walk_l1e(pv_vcpu(v)->root_kernel, va, &e))
        return false;
    f = frame_named(pte_mfn(e));
    if (!f || !pin(v->domain, f, write))
        return false;
    *m = frame_mfn(f);
    return true;
}

void pv_foreign_put(mfn_t m, bool write)
{
    if (write)
        pv_frame_put_type(m);
    frame_put(mfn_frame(m));
}
