/* Page tables: mmu_update, mmuext_op, update_va_mapping, faults, descriptor tables; and what a guest does with memory. */
#include "fuzz.h"
#include "core/abi.h"
#include "x86/pte.h"
#include "x86/pv.h"
#include "../../arch/x86/pv/mmu/types.h"

#include <string.h>

static uint32_t foreign(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 200)
        return DOMID_SELF;
    return b < 250 ? (uint32_t)pick_domid(s) | (b & 1 ? (uint32_t)(in_u8(s->in) % 5) << 16 : 0)
                   : in_u32(s->in);
}

/* A page of the guest's that is, or might become, a table, and the level it would have. */
static uint64_t table_page(struct step *s, unsigned *level)
{
    static const uint8_t levels[] = {4, 3, 2, 1, 1, 4, 1, 1};
    uint8_t b = in_u8(s->in);
    uint64_t m = b < 200 ? s->g->page[b % 8].n : pick_frame(s);

    *level = b < 200 ? levels[b % 8] : 1 + b % 4;
    if (m < frame_count && pgt_level(mfn_frame(MFN(m))->type))
        *level = pgt_level(mfn_frame(MFN(m))->type);
    return m;
}

static unsigned index_of(struct step *s, unsigned level)
{
    uint8_t b = in_u8(s->in);

    if (b < 128 && level > 1)
        return pt_index(b & 1 ? FUZZ_VA_B : FUZZ_VA, level);
    return b < 200 ? b % 40u : b < 230 ? 256u + b % 16 : in_u16(s->in) % 512u;
}

static void op_mmu_update(struct step *s)
{
    unsigned n = 1 + in_below(s->in, 4), level;
    mmu_update_t *u = arg_alloc(n * sizeof(*u));

    for (unsigned i = 0; i < n; i++) {
        uint8_t b = in_u8(s->in);
        uint64_t m = table_page(s, &level);

        u[i].ptr = m << FRAME_SHIFT | index_of(s, level) * 8 | (b < 220 ? 0 : b & 3);
        u[i].val = pick_entry(s, level);
        may_write(m);
    }
    if (in_u8(s->in) == 255) {
        n = in_u32(s->in);
        guest_scribbled = true; /* requests that nobody wrote */
    }
    (void)call_n(s, __HYPERVISOR_mmu_update, u, n, 0, foreign(s));
}

static void op_va_mapping(struct step *s)
{
    uint64_t va = pick_va(s), e = pick_entry(s, 1), flags = in_u8(s->in);

    flags = flags < 200 ? flags % 8 : flags < 240 ? UVMF_INVLPG | UVMF_ALL : in_number(s->in);
    if (in_u8(s->in) < 220)
        (void)call_n(s, __HYPERVISOR_update_va_mapping, va, e, flags, 0);
    else
        (void)call_n(s, __HYPERVISOR_update_va_mapping_otherdomain, va, e, flags, pick_domid(s));
}

static void op_mmuext(struct step *s)
{
    unsigned n = 1 + in_below(s->in, 3);
    struct mmuext_op *op = arg_alloc(n * sizeof(*op));

    for (unsigned i = 0; i < n; i++) {
        op[i].cmd = in_u8(s->in) % 22u;
        op[i].arg1.mfn = in_u8(s->in) & 7 ? pick_frame(s) : pick_va(s);
        op[i].arg2.src_mfn = op[i].cmd == MMUEXT_SET_LDT ? in_number(s->in) : pick_frame(s);
        if (op[i].cmd == MMUEXT_CLEAR_PAGE || op[i].cmd == MMUEXT_COPY_PAGE)
            may_write(op[i].arg1.mfn);
    }
    (void)call_n(s, __HYPERVISOR_mmuext_op, op, n, 0, foreign(s));
}

static long ext_one(struct step *s, unsigned cmd, uint64_t m)
{
    struct mmuext_op *op = arg_alloc(sizeof(*op));

    *op = (struct mmuext_op){.cmd = cmd};
    op->arg1.mfn = m;
    return call_n(s, __HYPERVISOR_mmuext_op, op, 1, 0, DOMID_SELF);
}

/* Pins a table at its level, or at another. */
static void op_pin(struct step *s)
{
    unsigned level;
    uint64_t m = table_page(s, &level);
    uint8_t b = in_u8(s->in);

    if (b >= 240)
        level = 1 + b % 4;
    (void)ext_one(s, b & 1 ? MMUEXT_UNPIN_TABLE : MMUEXT_PIN_L1_TABLE + level - 1, m);
}

static void op_root(struct step *s)
{
    uint8_t b = in_u8(s->in);
    uint64_t m = b < 100 ? s->g->page[PG_L4].n : b < 200 ? s->g->page[PG_UL4].n : b < 220 ? 0 : pick_frame(s);

    (void)ext_one(s, b & 1 ? MMUEXT_NEW_USER_BASEPTR : MMUEXT_NEW_BASEPTR, m);
}

/* A store of the guest's into any page that it can write. */
static void op_store(struct step *s)
{
    unsigned n = 1 + in_below(s->in, 4);
    uint64_t m = pick_frame(s);

    for (unsigned i = 0; i < n; i++) {
        unsigned level = 1 + in_below(s->in, 4);

        guest_store(s, MFN(m), index_of(s, level), pick_entry(s, level));
    }
}

/* Makes a table of a data page: fills it, takes its mapping away, pins it. */
static void op_make_table(struct step *s)
{
    unsigned i = PG_DATA + in_below(s->in, FUZZ_PAGES - PG_DATA), level = 1 + in_below(s->in, 4),
             n = in_below(s->in, 5);
    mfn_t m = s->g->page[i];

    while (n--)
        guest_store(s, m, index_of(s, level), pick_entry(s, level));
    (void)call_n(s, __HYPERVISOR_update_va_mapping, FUZZ_VA + i * FRAME_SIZE,
                 in_u8(s->in) & 1 ? pte_make(m, PTE_P | PTE_US) : 0, in_below(s->in, 8), 0);
    (void)ext_one(s, MMUEXT_PIN_L1_TABLE + level - 1, m.n);
}

/* And a page of it again. */
static void op_unmake_table(struct step *s)
{
    unsigned i = PG_DATA + in_below(s->in, FUZZ_PAGES - PG_DATA);
    mfn_t m = s->g->page[i];

    (void)ext_one(s, MMUEXT_UNPIN_TABLE, m.n);
    (void)call_n(s, __HYPERVISOR_update_va_mapping, FUZZ_VA + i * FRAME_SIZE,
                 pte_make(m, PTE_P | PTE_US | PTE_RW), 0, 0);
    guest_store(s, m, in_u8(s->in), in_u64(s->in));
}

static void op_set_gdt(struct step *s)
{
    unsigned n = in_below(s->in, 4);
    uint64_t *list = arg_alloc(4 * sizeof(*list));

    for (unsigned i = 0; i < n; i++)
        list[i] = in_u8(s->in) & 3 ? s->g->page[PG_DESC].n : pick_frame(s);
    (void)call_n(s, __HYPERVISOR_set_gdt, list, in_u8(s->in) == 255 ? in_number(s->in) : n * 512, 0, 0);
}

static void op_ldt(struct step *s)
{
    struct guest_regs r = {0};
    struct mmuext_op *op = arg_alloc(sizeof(*op));

    *op = (struct mmuext_op){.cmd = MMUEXT_SET_LDT};
    op->arg1.linear_addr = FUZZ_VA + (in_u8(s->in) & 7 ? PG_LDT : in_below(s->in, FUZZ_PAGES)) * FRAME_SIZE;
    op->arg2.nr_ents = in_u8(s->in) * 16u;
    if (call_n(s, __HYPERVISOR_mmuext_op, op, 1, 0, DOMID_SELF) == 0)
        (void)pv_mmu_fault(s->v, VCPU_LDT_VIRT(s->v->id) + in_u16(s->in) % 0x10000, &r);
}

static void op_update_descriptor(struct step *s)
{
    uint64_t m = in_u8(s->in) & 3 ? s->g->page[in_u8(s->in) & 1 ? PG_DESC : PG_LDT].n : pick_frame(s);
    uint8_t b = in_u8(s->in);
    uint64_t desc = b < 80    ? 0x00af9a000000ffff | (uint64_t)(b & 3) << 45
                    : b < 120 ? 0x0000890000000067
                              : in_u64(s->in);

    may_write(m);
    (void)call_n(s, __HYPERVISOR_update_descriptor, m << FRAME_SHIFT | in_u16(s->in) % 512 * 8, desc, 0, 0);
}

/* A write to a page table that is mapped read-only: the instruction is in guest memory. */
static void op_ptwr(struct step *s)
{
    static const uint8_t mov[] = {0x48, 0x89, 0x07}, xchg[] = {0x48, 0x87, 0x07},
                         cmpxchg[] = {0xf0, 0x48, 0x0f, 0xb1, 0x0f}, and[] = {0x48, 0x21, 0x0f};
    static const struct {
        const uint8_t *code;
        unsigned n;
    } insn[] = {{mov, 3}, {xchg, 3}, {cmpxchg, 5}, {and, 3}};
    struct guest_regs *r = vcpu_regs(s->v);
    uint8_t *code = arg_alloc(16), b = in_u8(s->in);
    uint64_t va = FUZZ_VA + (b & 1 ? PG_L1 : PG_L1B) * FRAME_SIZE + index_of(s, 1) * 8;
    unsigned k = b >> 1 & 3;

    if (s->g->d->ops->translated)
        return;
    for (unsigned i = 0; i < 16; i++)
        code[i] = b < 240 ? (i < insn[k].n ? insn[k].code[i] : 0x90) : in_u8(s->in);
    if (b >= 250)
        va = pick_va(s);
    (void)call_n(s, __HYPERVISOR_vm_assist, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables, 0, 0);
    r->rip = (uintptr_t)code;
    r->rdi = va;
    r->rax = r->rcx = pick_entry(s, 1);
    r->error_code = PF_PRESENT | PF_WRITE;
    (void)pv_mmu_fault(s->v, va, r);
}

/* To user mode and back, as a system call does. */
static void op_mode(struct step *s)
{
    struct pv_vcpu *pv = pv_vcpu(s->v);

    if (s->g->d->ops->translated)
        return;
    if (mfn_valid(pv->root_user))
        pv_toggle_mode(s->v);
    if (!pv->kernel_mode && in_u8(s->in) & 1)
        pv_toggle_mode(s->v);
}

static const struct fuzz_op op[] = {
    {"mmu_update", op_mmu_update},
    {"mmu_update", op_mmu_update},
    {"va_mapping", op_va_mapping},
    {"va_mapping", op_va_mapping},
    {"mmuext", op_mmuext},
    {"pin", op_pin},
    {"root", op_root},
    {"store", op_store},
    {"make_table", op_make_table},
    {"unmake", op_unmake_table},
    {"set_gdt", op_set_gdt},
    {"ldt", op_ldt},
    {"descriptor", op_update_descriptor},
    {"ptwr", op_ptwr},
    {"mode", op_mode},
};
const struct fuzz_group ops_mmu = {op, ARRAY_SIZE(op)};
