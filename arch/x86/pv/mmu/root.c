/*
 * The PV MMU: roots of vCPUs, pins, and the end of a domain's tables.
 *
 * A root holds one reference pair on its L4. It is replaced only by its own vCPU or while that cannot run,
 * and the new one is loaded before the old one is released, so that no processor runs on a table that is
 * being released.
 *
 * Release: when all roots, pins, pending slots and windows are gone, no table has a reference left that does
 * not come from a table above it, or from one of its level that nothing of that level names; tables of level 4
 * have none but these: all types end, down to the last L1 entry. (Invariants 2 and 5 of types.c.)
 */
#include "types.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "x86/mm.h"
#include "core/abi.h"

static bool mfn_given(mfn_t m)
{
    return m.n && !mfn_eq(m, INVALID_MFN);
}

/* With VMASST_TYPE_m2p_strict the roots of user mode do not show the M2P. The last who loads a root decides. */
static void root_m2p(struct vcpu *v, mfn_t l4, bool user)
{
    bool hide = user && v->domain->vm_assist & (1ull << VMASST_TYPE_m2p_strict);

    if (unlikely(mm_show_m2p(arch_frame_va(l4), !hide)))
        pv_l4_changed(v->domain, l4);
}

int pv_set_root(struct vcpu *v, mfn_t l4, bool user)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    mfn_t *root = user ? &pv->root_user : &pv->root_kernel, old = *root;
    int r;

    if (mfn_eq(l4, old) && mfn_given(l4)) {
        /* The reference that the vCPU holds is the one it asks for: the tables are only loaded again. */
        if (pending_settle(&pv->pending))
            return -EAGAIN;
        root_m2p(v, l4, user);
        if (!user)
            (void)pv_ldt_unmap(v);
        if (pv->kernel_mode != user)
            pv_root_changed(v);
        return 0;
    }
    if (mfn_given(l4))
        r = pending_get(&pv->pending, l4, v->domain, PGT_L4);
    else
        r = user ? pending_settle(&pv->pending) : -EINVAL;
    if (r)
        return r;
    *root = mfn_given(l4) ? l4 : INVALID_MFN;
    if (mfn_given(l4))
        root_m2p(v, l4, user);
    if (!user)
        (void)pv_ldt_unmap(v); /* its pages were found through the old tables */
    if (pv->kernel_mode != user)
        pv_root_changed(v);
    if (mfn_given(old))
        pending_put(&pv->pending, mfn_frame(old));
    return 0;
}

int pv_pin_table(struct domain *d, mfn_t m, unsigned level)
{
    int r;

    if (level < 1 || level > 4)
        return -EINVAL;
    r = frame_get_typed(m, d, pgt_of_level(level), d);
    if (r || type_pin(mfn_frame(m)))
        return r;
    frame_put_typed(mfn_frame(m));
    return -EINVAL;
}

/* --- the end
 * -------------------------------------------------------------------------------------------------------- */

int pv_vcpu_release_tables(struct vcpu *v)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    mfn_t *roots[] = {&pv->root_user, &pv->root_kernel};

    if (v->idle || v->domain->system)
        return 0;
    if (pending_settle(&pv->pending))
        return -EAGAIN;
    (void)pv_ldt_unmap(v);
    pv_clear_gdt(v);
    for (unsigned i = 0; i < ARRAY_SIZE(roots); i++) {
        mfn_t m = *roots[i];

        *roots[i] = INVALID_MFN;
        if (mfn_given(m))
            pending_put(&pv->pending, mfn_frame(m));
        if (pending_settle(&pv->pending))
            return -EAGAIN;
    }
    return 0;
}

#define SCAN_CHUNK 256u

/* Looks at up to SCAN_CHUNK frames from the cursor on. *pinned: the first one that has a pin. True: the list
 * ended. */
static bool scan_for_pin(struct domain *d, struct frame **pinned)
{
    struct x86_domain *x = x86_domain(d);
    struct frame *f;
    bool end;

    *pinned = NULL;
    spin_lock(&d->page_lock);
    f = x->release_cursor ? &frame_table[x->release_cursor] : frame_domain_first(d);
    /* Frames can leave the list while we look elsewhere: then from the start. */
    if (f && f->owner != d->id.v)
        f = frame_domain_first(d);
    for (unsigned n = 0; f && n < SCAN_CHUNK && !*pinned; n++) {
        if (type_word(f) & PGT_PINNED)
            *pinned = f;
        else
            f = frame_next(f);
    }
    x->release_cursor = f ? (uint32_t)frame_mfn(f).n : 0;
    end = !f;
    spin_unlock(&d->page_lock);
    return end;
}

static int release_pins(struct domain *d)
{
    struct pv_pending *p = &x86_domain(d)->release_pending;
    struct frame *f;
    bool end;

    do {
        if (pending_settle(p))
            return -EAGAIN;
        end = scan_for_pin(d, &f);
        if (f && type_unpin(f))
            pending_put(p, f);
        if (!end && preempt_needed())
            return -EAGAIN;
    } while (!end);
    return 0;
}

int pv_domain_release_tables(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);

    for_each_vcpu(d, v) if (pv_vcpu_release_tables(v)) return -EAGAIN;
    if (release_pins(d))
        return -EAGAIN;
    mem_free(x->e820);
    x->e820 = NULL;
    x->e820_count = 0;
    return 0;
}
