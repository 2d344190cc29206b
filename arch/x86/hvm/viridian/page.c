/*
 * Pages that the guest names and Krypton writes.
 *
 * Invariants
 *  1. va is not NULL exactly while a reference on mfn is held; the guest may give the page's number to something else meanwhile, the
 *     frame stays.
 *  2. A page that is set is memory that the guest may write itself: nothing is shown or changed that is not its own.
 */
#include "private.h"
#include "core/frame.h"
#include "arch/mem.h"
#include "lib/string.h"
#include "x86/p2m.h"

void *page_take(struct domain *d, uint64_t msr, mfn_t *m)
{
    struct p2m_entry e;

    if (p2m_get(d, GFN(msr >> FRAME_SHIFT), P2M_WRITE, &e))
        return NULL;
    *m = e.mfn;
    return arch_frame_va(e.mfn);
}

void page_drop(struct viridian_page *p)
{
    if (p->va)
        frame_put(mfn_frame(p->mfn));
    p->va = NULL;
}

bool page_set(struct vcpu *v, struct viridian_page *p, uint64_t value, struct spinlock *lock)
{
    struct viridian_page next = {.msr = value}, last;
    unsigned long flags;

    if (value & PAGE_ON) {
        if (p->va && !((value ^ p->msr) >> FRAME_SHIFT))
            return true; /* on as before; other bits have no meaning */
        next.va = page_take(v->domain, value, &next.mfn);
        if (!next.va)
            return false;
        memset(next.va, 0, FRAME_SIZE);
    }
    flags = spin_lock_irq(lock);
    last = *p;
    *p = next;
    spin_unlock_irq(lock, flags);
    page_drop(&last);
    return true;
}
