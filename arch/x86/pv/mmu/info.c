/*
 * The PV MMU: what the toolstack is told of a frame (XEN_DOMCTL_getpageframeinfo3, xen/domctl.h). A moment's answer: a guest that
 * runs may have changed it already. No locks.
 */
#include "types.h"
#include "core/abi.h"

uint32_t pv_frame_info(const struct domain *d, uint64_t mfn)
{
    struct frame *f = frame_named(MFN(mfn));
    uint32_t info;
    uint64_t x;

    if (!f || __atomic_load_n(&f->count, __ATOMIC_RELAXED) & FRAME_SPECIAL || !frame_get(f, d))
        return XEN_DOMCTL_PFINFO_XTAB;
    x = type_word(f);
    if (__atomic_load_n(&f->count, __ATOMIC_RELAXED) & FRAME_BROKEN)
        info = XEN_DOMCTL_PFINFO_BROKEN;
    else
        info = pgt_count(x) ? pgt_level(x) << XEN_DOMCTL_PFINFO_LTAB_SHIFT : XEN_DOMCTL_PFINFO_NOTAB;
    if (x & PGT_PINNED && pgt_level(x))
        info |= XEN_DOMCTL_PFINFO_LPINTAB;
    frame_put(f);
    return info;
}
