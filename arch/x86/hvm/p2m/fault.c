/*
 * Nested page faults, in the p2m's eyes: is the memory there, and may it be used so? What a device has to answer goes back to the exit
 * handler as a verdict. The fault may be older than the table is now (another vCPU, or an operation of the toolstack, was quicker): then
 * the guest just tries again.
 * Locks: p->lock while an entry is changed.
 */
#include "private.h"

static enum p2m_verdict ram_verdict(struct p2m *p, uint64_t gfn, enum p2m_type t, unsigned access)
{
    if (!(access & P2M_ACC_WRITE))
        return P2M_RETRY;
    switch (t) {
    case P2M_RAM_RO:
        return P2M_IS_ROM;
    case P2M_RAM_DM:
        return P2M_IS_DM_RAM;
    case P2M_LOGGED:
        p2m_unlog(p, gfn);
        return P2M_RETRY;
    default:
        return P2M_RETRY;
    }
}

enum p2m_verdict p2m_fault(struct domain *d, uint64_t gpa, unsigned access)
{
    struct p2m *p = p2m_of(d);
    uint64_t gfn = gpa >> FRAME_SHIFT;
    struct p2m_entry e;

    p2m_look(d, GFN(gfn), &e);
    switch (e.type) {
    case P2M_NONE:
        return P2M_IS_MMIO;
    case P2M_MMIO:
        return P2M_RETRY;
    case P2M_FOREIGN:
    case P2M_GRANT:
        return access & P2M_ACC_FETCH ? P2M_DENIED : P2M_RETRY;
    case P2M_FOREIGN_RO:
    case P2M_GRANT_RO:
        return access & (P2M_ACC_FETCH | P2M_ACC_WRITE) ? P2M_DENIED : P2M_RETRY;
    case P2M_POD:
        return pod_populate(p, gfn) ? P2M_RETRY : P2M_NO_MEMORY;
    default:
        return ram_verdict(p, gfn, e.type, access);
    }
}
