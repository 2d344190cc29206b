/*
 * Segments of PV guests: what a selector means (for emulation), descriptors, segment bases.
 * Hypercalls: set_gdt, update_descriptor, set_segment_base.
 *
 * Descriptors are read from the frames that the tables are made of, never through the windows, so that a page
 * which is not mapped cannot fault here.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/nospec.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "x86/pte.h"
#include "../metal/asm.h"
#include "../metal/bases.h"
#include "../metal/pvregs.h"
#include "x86/msr.h"

#define DESC_P    (1ull << 47)
#define DESC_S    (1ull << 44)
#define DESC_CODE (1ull << 43)
#define DESC_L    (1ull << 53)
#define DESC_D    (1ull << 54)

/* --- looking up --- */

static bool read_gdt(struct vcpu *v, unsigned index, uint64_t *desc)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    mfn_t m;

    if (index >= pv->gdt_entries)
        return false;
    m = pv->gdt_frame[array_index(index / 512, PV_GDT_FRAMES)];
    if (!mfn_valid(m))
        return false;
    *desc = __atomic_load_n((uint64_t *)arch_frame_va(m) + index % 512, __ATOMIC_RELAXED);
    return true;
}

static bool read_descriptor(struct vcpu *v, uint16_t sel, uint64_t *desc)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    unsigned index = sel >> 3;

    if (!(sel & 4))
        return read_gdt(v, index, desc);
    return index < pv->ldt_entries && pv_copy_in_kernel(v, desc, GVA(pv->ldt_base.a + index * 8), 8);
}

static uint64_t descriptor_base(uint64_t d)
{
    return (d >> 16 & 0xffffff) | (d >> 56 & 0xff) << 24;
}

bool pv_code_segment(struct vcpu *v, const struct guest_regs *r, unsigned *bits, uint64_t *base)
{
    uint64_t d;

    *base = 0;
    switch (r->cs & 0xfffc) {
    case FLAT_RING3_CS64 & 0xfffc:
        *bits = 64;
        return true;
    case FLAT_RING3_CS32 & 0xfffc:
        *bits = 32;
        return true;
    }
    if (!read_descriptor(v, (uint16_t)r->cs, &d) || !(d & DESC_P) || !(d & DESC_S) || !(d & DESC_CODE))
        return false;
    *bits = d & DESC_L ? 64 : d & DESC_D ? 32 : 16;
    *base = *bits == 64 ? 0 : descriptor_base(d);
    return true;
}

/* v is current: the selectors and bases are in the hardware. seg as enum pv_segment (ES CS SS DS FS GS). */
bool pv_data_base(struct vcpu *v, const struct guest_regs *r, unsigned seg, unsigned bits, uint64_t *base)
{
    uint16_t sel;
    uint64_t d;

    *base = 0;
    if (seg >= 4) {
        *base = rdmsr(seg == 4 ? MSR_FS_BASE : MSR_GS_BASE);
        return true;
    }
    if (bits == 64)
        return true;
    sel = seg == 0 ? hw_read_es() : seg == 1 ? (uint16_t)r->cs : seg == 2 ? (uint16_t)r->ss : hw_read_ds();
    if ((sel & 0xfffc) == (FLAT_RING3_DS32 & 0xfffc))
        return true;
    if (!(sel & 0xfffc) || !read_descriptor(v, sel, &d) || !(d & DESC_P) || !(d & DESC_S))
        return false;
    *base = descriptor_base(d);
    return true;
}

/* --- hypercalls --- */

/* set_gdt(frames, entries): the frames are the machine frames of descriptor pages, validated by pv/mmu. */
long do_set_gdt(struct hypercall *hc)
{
    struct vcpu *v = hc->caller;
    unsigned entries = hc_u32(hc, 1), n;
    uint64_t frames[FIRST_RESERVED_GDT_PAGE];

    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -EINVAL;
    n = (entries + 511) / 512;
    if (n && guest_read(v, frames, GVA(hc->arg[0]), n * sizeof(frames[0])))
        return -EFAULT;
    return pv_set_gdt_frames(v, frames, entries);
}

/*
 * update_descriptor(machine address, value): a descriptor in one of the caller's frames that is a descriptor
 * page (or becomes one for the moment, or is plainly writable). A descriptor page in use is changed with one
 * atomic store.
 */
long do_update_descriptor(struct hypercall *hc)
{
    struct domain *d = hc->caller->domain;
    uint64_t pa = hc->arg[0], desc = pv_descriptor_fix(hc->arg[1]);
    mfn_t m = maddr_to_mfn(MADDR(pa));
    struct frame *f;
    int err;

    if ((pa & 7) || !mfn_valid(m))
        return -EINVAL;
    m = MFN(array_index(m.n, frame_count));
    f = mfn_frame(m);
    if (!frame_get(f, d))
        return -EINVAL;
    err = pv_descriptor_ok(desc) ? 0 : -EINVAL;
    if (!err) {
        err = pv_frame_get_type(m, d, PGT_SEG_DESC, false);
        if (err)
            err = pv_frame_get_type(m, d, PGT_WRITABLE, false);
        if (!err) {
            __atomic_store_n((uint64_t *)arch_frame_va(m) + (pa & 0xfff) / 8, desc, __ATOMIC_SEQ_CST);
            pv_frame_put_type(m);
        }
    }
    frame_put(f);
    return err ? -EINVAL : 0;
}

/* A base of the running vCPU, by role rather than by register: GS bases swap with the mode. */
static void set_gs_base(struct vcpu *v, bool kernel, uint64_t base)
{
    if (pv_vcpu(v)->kernel_mode == kernel)
        hw_set_gs_base(base);
    else
        hw_set_gs_shadow(base);
}

/* Loads the user's GS selector, and with it the user's base. The caller is the kernel, whose own base must
 * not move. */
static void set_user_gs_selector(struct vcpu *v, uint16_t sel)
{
    if ((sel & 0xfffc) && (sel & 4))
        pv_prefault_ldt(v, sel);
    /* Swapped, for on AMD a null selector leaves the base as it is: it must be the user's that stays. */
    hw_swapgs();
    (void)hw_load_gs(sel & 0xfffc ? sel | 3 : sel);
    hw_swapgs();
}

long do_set_segment_base(struct hypercall *hc)
{
    struct vcpu *v = hc->caller;
    uint32_t which = hc_u32(hc, 0);
    uint64_t base = hc->arg[1];

    if (which != SEGBASE_GS_USER_SEL && !va_canonical(base))
        return -EINVAL;
    switch (which) {
    case SEGBASE_FS:
        hw_set_fs_base(base);
        return 0;
    case SEGBASE_GS_USER:
        set_gs_base(v, false, base);
        return 0;
    case SEGBASE_GS_KERNEL:
        set_gs_base(v, true, base);
        return 0;
    case SEGBASE_GS_USER_SEL:
        set_user_gs_selector(v, (uint16_t)base);
        return 0;
    default:
        return -EINVAL;
    }
}
