/*
 * The PV MMU: writable page tables (vm_assist). A guest kernel has its page tables mapped read-only and may
 * yet write to level-1 entries as if they were memory: the write faults, and we do it, checked like any other
 * update and atomic with respect to all of them.
 */
#include "types.h"
#include "ptwr_insn.h"
#include "core/abi.h"
#include "core/perf.h"
#include "core/trace.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"

/* The L1 table that is mapped read-only at addr, NULL if it is not that. */
static struct frame *written_table(struct vcpu *v, uint64_t addr)
{
    uint64_t e;
    struct frame *f;

    if (!walk_l1e(pv_vcpu(v)->root_kernel, GVA(addr), &e) || e & PTE_RW || !mfn_valid(pte_mfn(e)))
        return NULL;
    f = mfn_frame(pte_mfn(e));
    return pgt_type(type_word(f)) == PGT_L1 && f->owner == v->domain->id.v ? f : NULL;
}

/* Bytes at rip: as many as are there, up to the longest instruction. */
static unsigned fetch(struct vcpu *v, uint64_t rip, uint8_t *code)
{
    const struct guest_ops *ops = v->domain->ops;
    unsigned to_page_end = (unsigned)(FRAME_SIZE - rip % FRAME_SIZE);

    if (ops->copy_in(v, code, GVA(rip), PTWR_INSN_MAX))
        return PTWR_INSN_MAX;
    return to_page_end < PTWR_INSN_MAX && ops->copy_in(v, code, GVA(rip), to_page_end) ? to_page_end : 0;
}

/* String instructions: the operand, checked to be where the fault was. */
static bool string_source(struct vcpu *v, uint64_t addr, const struct guest_regs *r, struct ptwr_insn *i)
{
    if (i->op != PTWR_STOS && i->op != PTWR_MOVS)
        return true;
    if (r->rdi != addr || (i->rep && !r->rcx))
        return false;
    if (i->op == PTWR_STOS)
        return true;
    i->source = 0;
    return v->domain->ops->copy_in(v, &i->source, GVA(r->rsi), i->width);
}

static void advance(const struct ptwr_insn *i, struct guest_regs *r)
{
    uint64_t step = r->rflags & EFLAGS_DF ? -(uint64_t)i->width : i->width;

    if (i->op == PTWR_STOS || i->op == PTWR_MOVS) {
        r->rdi += step;
        if (i->op == PTWR_MOVS)
            r->rsi += step;
        if (i->rep && --r->rcx)
            return; /* the next element faults by itself */
    }
    r->rip += i->len;
}

/* The entry with the operand of the instruction, `shift` bits up in it, replaced. */
static uint64_t merge(uint64_t entry, uint64_t value, unsigned width, unsigned shift)
{
    uint64_t mask = (width == 8 ? ~0ull : (1ull << (width * 8)) - 1) << shift;

    return (entry & ~mask) | (value << shift & mask);
}

/* Under the lock of f: 0 = done (registers updated in r). */
static int write_locked(const struct pt_change *c, uint64_t *entry, const struct ptwr_insn *i, unsigned shift,
                        struct guest_regs *r, uint64_t *old)
{
    uint64_t now = __atomic_load_n(entry, __ATOMIC_RELAXED), value;

    *old = 0;
    if (!ptwr_execute(i, now >> shift, r, &value))
        return 0;
    return l1_swap(c, entry, merge(now, value, i->width, shift), old);
}

bool ptwr_emulate(struct vcpu *v, uint64_t addr, struct guest_regs *r)
{
    struct pt_change c = {.d = v->domain, .pg_owner = v->domain};
    struct frame *f = written_table(v, addr);
    uint8_t code[PTWR_INSN_MAX];
    struct guest_regs after = *r;
    struct ptwr_insn i;
    uint64_t *entry, old = 0;
    int err = -EINVAL;

    if (!f || !ptwr_decode(code, fetch(v, r->rip, code), r, &i) || addr % i.width ||
        !string_source(v, addr, r, &i) || !table_lock(f, c.d))
        return false;
    if (pgt_type(type_word(f)) == PGT_L1) {
        entry = (uint64_t *)arch_frame_va(frame_mfn(f)) + addr % FRAME_SIZE / 8;
        err = write_locked(&c, entry, &i, (unsigned)(addr % 8) * 8, &after, &old);
    }
    table_unlock(f);
    if (err)
        return false;
    l1_entry_put(old);
    perf_count(ptwr_emulations);
    trace(TRC_PV_PTWR_EMULATION | TRC_64_FLAG, TRACE_U64(old), TRACE_U64(addr), TRACE_U64(r->rip));
    advance(&i, &after);
    *r = after;
    return true;
}
