/*
 * The PV MMU: descriptor tables. Each vCPU has a window in slot 260 (x86/layout.h) in which its GDT frames
 * and its LDT pages are mapped for the processor: GDT frames at once, LDT pages when a selector needs them.
 *
 * Invariants
 *  1. Every frame in a window, the GDT's page 14 apart, holds a frame and a SEG_DESC reference of the
 * window's.
 *  2. Bit i of ldt_mapped is set exactly when entry LDT_FIRST + i of the window is present. [ldt_lock]
 *  3. A window's entries of a running vCPU change only on its own CPU, but for the removal of LDT pages,
 * which flushes. Locks: ldt_lock; nothing is waited for while it is held, since a context switch takes it
 * with interrupts off.
 */
#include "types.h"
#include "core/abi.h"
#include "core/log.h"
#include "arch/cpu.h"
#include "x86/tlb.h"

#define LDT_FIRST    16u
#define LDT_PAGES    16u
#define WINDOW_FLAGS (PTE_P | PTE_RW | PTE_A | PTE_D | PTE_NX) /* writable: processors set accessed bits */

static uint64_t *window(struct vcpu *v)
{
    return x86_domain(v->domain)->window_l1[v->id];
}

static void window_set(struct vcpu *v, unsigned i, uint64_t e)
{
    __atomic_store_n(&window(v)[i], e, __ATOMIC_RELEASE);
}

/* --- GDT
 * -----------------------------------------------------------------------------------------------------------
 */

static void gdt_frames_put(const mfn_t *frame, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!mfn_eq(frame[i], INVALID_MFN))
            frame_put_typed(mfn_frame(frame[i]));
}

/* Replaces the GDT by n referenced frames. */
static void gdt_replace(struct vcpu *v, const mfn_t *frame, unsigned n, unsigned entries)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    mfn_t old[PV_GDT_FRAMES];

    for (unsigned i = 0; i < PV_GDT_FRAMES; i++) {
        old[i] = pv->gdt_entries > i * 512 ? pv->gdt_frame[i] : INVALID_MFN;
        pv->gdt_frame[i] = i < n ? frame[i] : INVALID_MFN;
        window_set(v, i, i < n ? pte_make(frame[i], WINDOW_FLAGS) : 0);
    }
    pv->gdt_entries = entries;
    if (v == arch_current())
        tlb_flush_local();
    gdt_frames_put(old, PV_GDT_FRAMES);
}

int pv_set_gdt_frames(struct vcpu *v, const uint64_t *frames, unsigned entries)
{
    unsigned n = (entries + 511) / 512;
    mfn_t taken[PV_GDT_FRAMES];

    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -EINVAL;
    for (unsigned i = 0; i < n; i++) {
        int r = frame_get_typed(MFN(frames[i]), v->domain, PGT_SEG_DESC, v->domain);

        if (r) {
            gdt_frames_put(taken, i);
            return r;
        }
        taken[i] = MFN(frames[i]);
    }
    gdt_replace(v, taken, n, entries);
    return 0;
}

void pv_clear_gdt(struct vcpu *v)
{
    if (pv_vcpu(v)->gdt_entries)
        gdt_replace(v, NULL, 0, 0);
}

/* --- LDT
 * ------------------------------------------------------------------------------------------------------------
 */

/* Empties the LDT part of the window; the frames, whose references are the caller's now, to `out`. */
static unsigned ldt_take_all(struct vcpu *v, struct frame **out)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    unsigned n = 0;

    if (!__atomic_load_n(&pv->ldt_mapped, __ATOMIC_ACQUIRE))
        return 0;
    spin_lock(&pv->ldt_lock);
    for (unsigned i = 0; i < LDT_PAGES; i++)
        if (pv->ldt_mapped & (1u << i)) {
            out[n++] = mfn_frame(pte_mfn(window(v)[LDT_FIRST + i]));
            window_set(v, LDT_FIRST + i, 0);
        }
    __atomic_store_n(&pv->ldt_mapped, 0, __ATOMIC_RELEASE);
    spin_unlock(&pv->ldt_lock);
    return n;
}

static void frames_put(struct frame **f, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        frame_put_typed(f[i]);
}

bool pv_ldt_unmap(struct vcpu *v)
{
    struct frame *f[LDT_PAGES];
    unsigned n = ldt_take_all(v, f);

    if (n && v == arch_current())
        tlb_flush_local();
    frames_put(f, n);
    return n;
}

bool ldt_unmap_all(struct domain *d)
{
    bool any = false;

    if (!arch_irq_enabled())
        return false;
    for_each_vcpu(d, v)
    {
        struct frame *f[LDT_PAGES];
        unsigned n = ldt_take_all(v, f);

        if (n)
            tlb_flush_cpus(&x86_domain(d)->dirty_cpus, TLB_FLUSH_ALL, GVA(0));
        frames_put(f, n);
        any |= n;
    }
    return any;
}

bool window_map_ldt(struct vcpu *v, unsigned offset)
{
    struct pv_vcpu *pv = pv_vcpu(v);
    unsigned page = offset >> FRAME_SHIFT;
    uint64_t e;
    bool mapped;

    if (offset / 8 >= pv->ldt_entries || page >= LDT_PAGES ||
        !walk_l1e(pv->root_kernel, GVA(pv->ldt_base.a + ((uint64_t)page << FRAME_SHIFT)), &e) ||
        frame_get_typed(pte_mfn(e), v->domain, PGT_SEG_DESC, v->domain))
        return false;
    spin_lock(&pv->ldt_lock);
    mapped = pv->ldt_mapped & (1u << page);
    if (!mapped) {
        window_set(v, LDT_FIRST + page, pte_make(pte_mfn(e), WINDOW_FLAGS));
        __atomic_store_n(&pv->ldt_mapped, pv->ldt_mapped | 1u << page, __ATOMIC_RELEASE);
    }
    spin_unlock(&pv->ldt_lock);
    if (mapped)
        frame_put_typed(mfn_frame(pte_mfn(e)));
    return true;
}
