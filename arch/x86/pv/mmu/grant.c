/*
 * The PV MMU: grant mappings (include/arch/mem.h). An L1 entry that maps another domain's frame is like any
 * other: it holds a reference on the frame and, with RW, one of type WRITABLE. So a guest that overwrites the
 * entry, or drops the table it is in, drops exactly these; the grant room's own pin is not touched by that.
 */
#include "types.h"
#include "core/abi.h"
#include "core/log.h"
#include "arch/mem.h"

/* Guest-chosen bits: the first three are PTE bits 9-11, the others bits 52 and up. */
static uint64_t avail_bits(unsigned flags)
{
    uint64_t a = flags >> _GNTMAP_guest_avail0;

    return (a & 7) * PTE_AVAIL0 | (a >> 3 & 0x7ff) << 52;
}

/* The L1 table and index that the request names. */
static struct frame *locate(struct vcpu *v, uint64_t addr, unsigned flags, unsigned *index)
{
    if (!(flags & GNTMAP_contains_pte))
        return walk_l1(pv_vcpu(v)->root_kernel, GVA(addr), index);
    *index = (unsigned)(addr & (FRAME_SIZE - 1)) / 8;
    return addr & 7 ? NULL : frame_named(maddr_to_mfn(MADDR(addr)));
}

/* Locks f if it is an L1 of d's. */
static bool l1_lock(struct frame *f, const struct domain *d)
{
    if (!f || !table_lock(f, d))
        return false;
    if (pgt_type(type_word(f)) == PGT_L1)
        return true;
    table_unlock(f);
    return false;
}

static uint64_t *entry_of(struct frame *f, unsigned index)
{
    return (uint64_t *)arch_frame_va(frame_mfn(f)) + index;
}

static bool entry_refs(mfn_t m, bool readonly, struct domain *d)
{
    frame_ref(mfn_frame(m));
    if (readonly)
        return true;
    if (!type_ref(mfn_frame(m), PGT_WRITABLE, d) && !type_finish(mfn_frame(m), d, false))
        return true;
    frame_put(mfn_frame(m));
    return false;
}

int pv_grant_map(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly)
{
    uint64_t e = pte_make(m, PTE_P | PTE_A | PTE_D | avail_bits(flags) | (readonly ? 0 : PTE_RW)), old;
    unsigned index;
    struct frame *f = locate(v, addr, flags, &index);

    e = entry_adjust(e, 1);
    if (!f || !entry_refs(m, readonly, v->domain))
        return -EINVAL;
    if (!l1_lock(f, v->domain)) {
        l1_entry_put(e);
        return -EINVAL;
    }
    old = __atomic_exchange_n(entry_of(f, index), e, __ATOMIC_ACQ_REL);
    table_unlock(f);
    l1_entry_put(old);
    return 0;
}

/* Takes the entry at a virtual address out of its table, references and all; 0 if there is none. */
static int entry_take(struct vcpu *v, gva_t va, uint64_t *e)
{
    unsigned index;
    struct frame *f = walk_l1(pv_vcpu(v)->root_kernel, va, &index);

    if (!l1_lock(f, v->domain))
        return -EINVAL;
    *e = __atomic_exchange_n(entry_of(f, index), 0, __ATOMIC_ACQ_REL);
    table_unlock(f);
    return 0;
}

/* Puts it back; an entry whose place has gone is dropped. */
static void entry_untake(struct vcpu *v, gva_t va, uint64_t e)
{
    unsigned index;
    struct frame *f = walk_l1(pv_vcpu(v)->root_kernel, va, &index);
    uint64_t old = e;

    if (l1_lock(f, v->domain)) {
        old = __atomic_exchange_n(entry_of(f, index), e, __ATOMIC_ACQ_REL);
        table_unlock(f);
    }
    l1_entry_put(old);
}

static bool maps_grant(uint64_t e, mfn_t m, bool readonly)
{
    return e & PTE_P && mfn_eq(pte_mfn(e), m) && !(e & PTE_RW) == readonly;
}

/* Replaces the grant's entry by `e`, whose references are held already. */
static int entry_replace(struct vcpu *v, uint64_t addr, unsigned flags, mfn_t m, bool readonly, uint64_t e)
{
    unsigned index;
    struct frame *f = locate(v, addr, flags, &index);
    uint64_t old;

    if (!l1_lock(f, v->domain))
        return -EINVAL;
    if (!maps_grant(__atomic_load_n(entry_of(f, index), __ATOMIC_RELAXED), m, readonly)) {
        table_unlock(f);
        return -EINVAL;
    }
    old = __atomic_exchange_n(entry_of(f, index), e, __ATOMIC_ACQ_REL);
    table_unlock(f);
    l1_entry_put(old);
    return 0;
}

int pv_grant_unmap(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly, uint64_t new_addr)
{
    uint64_t moved = 0;
    int r;

    if (new_addr) {
        if (flags & GNTMAP_contains_pte)
            return -EINVAL;
        r = entry_take(v, GVA(new_addr), &moved);
        if (r)
            return r;
    }
    r = entry_replace(v, addr, flags, m, readonly, moved);
    if (r && moved)
        entry_untake(v, GVA(new_addr), moved);
    return r;
}

bool arch_grant_pin(struct domain *owner, mfn_t m, bool readonly)
{
    if (!readonly)
        return !frame_get_typed(m, owner, PGT_WRITABLE, owner);
    return mfn_valid(m) && frame_get(mfn_frame(m), owner);
}

void arch_grant_unpin(mfn_t m, bool readonly)
{
    if (readonly)
        frame_put(mfn_frame(m));
    else
        frame_put_typed(mfn_frame(m));
}
