/* The PV MMU: the foreign domain of a request. */
#include "types.h"
#include "core/abi.h"

int target_frames_of(struct hypercall *hc, uint16_t id, struct domain **out)
{
    switch (id) {
    case DOMID_IO: /* device memory only; whether the caller may have it is asked for each frame */
        *out = dom_io;
        break;
    case DOMID_XEN:
        if (!hc->caller->domain->privileged)
            return -EPERM;
        *out = dom_xen;
        break;
    default:
        return hc_borrow(hc, DID(id), out);
    }
    domain_ref(*out);
    return 0;
}
