/*
 * Privileged instructions of PV guests: after a #GP with error code 0 the instruction is fetched, decoded
 * (decode.c, pure) and done on the guest's behalf.
 *
 * Invariants
 *  1. User mode gets only what IOPL and the I/O bitmap allow; everything else needs the guest's kernel mode.
 *  2. An instruction either completes (registers and rip move on), is to be run again (string I/O in pieces,
 * preempted page-table work), faults with nothing changed but completed string iterations, or stays the #GP
 * that it was.
 *  3. No instruction works longer than STRING_PIECE port accesses.
 * Locks: none. v is the current vCPU.
 */
#include "private.h"
#include "decode.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "x86/cpu.h"
#include "x86/policy.h"
#include "x86/pte.h"
#include "x86/tlb.h"
#include "../metal/asm.h"
#include "../metal/bases.h"
#include "../metal/pvregs.h"

#define STRING_PIECE 128
#define CR0_TS       0x8ull
#define CR4_TSD      0x4ull
#define CR4_DE       0x8ull
#define CR4_PAE      0x20ull
#define CR4_MCE      0x40ull
#define CR4_OSFXSR   0x200ull
#define CR4_OSXMM    0x400ull
#define CR4_FSGSBASE 0x10000ull
#define CR4_OSXSAVE  0x40000ull

/* --- common --- */

void pv_insn_done(struct vcpu *v, struct guest_regs *r, unsigned len)
{
    r->rip += len;
    if ((r->cs & 0xfffc) == (FLAT_RING3_CS32 & 0xfffc))
        r->rip = (uint32_t)r->rip;
    r->rflags &= ~(uint64_t)EFLAGS_RF;
    if (r->rflags & EFLAGS_TF) {
        pv_vcpu(v)->dr[6] |= 0x4000; /* BS */
        pv_bounce_trap(v, r, TRAP_DB, 0, false);
    }
}

static enum pv_verdict fault(struct pv_fault *f, uint8_t vector)
{
    *f = (struct pv_fault){.vector = vector, .has_error = vector == TRAP_GP};
    return PVE_FAULT;
}

static enum pv_verdict page_fault(struct vcpu *v, struct pv_fault *f, uint64_t addr, bool write)
{
    uint64_t l1e = 0;

    *f = (struct pv_fault){
        .vector = TRAP_PF, .has_error = true, .error_code = write ? PF_WRITE : 0, .cr2 = addr};
    if (pv_mmu_walk(v, GVA(addr), &l1e) && (l1e & PTE_P))
        f->error_code |= PF_PRESENT;
    return PVE_FAULT;
}

static void set_rax_rdx(struct guest_regs *r, uint64_t value)
{
    r->rax = (uint32_t)value;
    r->rdx = value >> 32;
}

static uint64_t edx_eax(const struct guest_regs *r)
{
    return (uint32_t)r->rax | (r->rdx << 32);
}

/* A result of 1, 2, 4 or 8 bytes into a register: 4 bytes clear the upper half. */
static void set_register(uint64_t *reg, unsigned bytes, uint64_t value)
{
    switch (bytes) {
    case 1:
        *reg = (*reg & ~0xffull) | (value & 0xff);
        break;
    case 2:
        *reg = (*reg & ~0xffffull) | (value & 0xffff);
        break;
    case 4:
        *reg = (uint32_t)value;
        break;
    default:
        *reg = value;
    }
}

/* What UMIP hides from programs: constants that tell nothing, as kernels with UMIP give them. */
static enum pv_verdict store_table(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i,
                                   uint64_t base, unsigned bits, struct pv_fault *f)
{
    struct {
        uint16_t limit;
        uint64_t address;
    } __attribute__((packed)) table = {0, i->op == PVI_SGDT ? 0xfffffffffffe0000 : 0xffffffffffff0000};
    uint16_t selector = i->op == PVI_STR ? 0x40 : 0;
    bool is_table = i->op == PVI_SGDT || i->op == PVI_SIDT;
    size_t n = !is_table ? 2 : bits == 64 ? 10 : 6;

    if (!i->memory)
        set_register(pv_gpr(r, i->rm), i->op_bytes, selector);
    else if (!pv_copy_out(v, GVA(base + i->addr), is_table ? (void *)&table : (void *)&selector, n))
        return page_fault(v, f, base + i->addr, true);
    return PVE_DONE;
}

/* --- control and debug registers --- */

uint64_t pv_cr4_guest_value(uint64_t wanted)
{
    uint64_t own = CR4_TSD | CR4_DE;

    if (cpu_features.fsgsbase)
        own |= CR4_FSGSBASE;
    if (cpu_features.xsave)
        own |= CR4_OSXSAVE;
    return CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMM | (wanted & own);
}

static uint64_t guest_cr0(const struct vcpu *v)
{
    return (hw_read_cr0() & ~CR0_TS) | (((const struct x86_vcpu *)v)->pv.ts ? CR0_TS : 0);
}

static enum pv_verdict mov_from_cr(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    uint64_t value;

    switch (i->reg) {
    case 0:
        value = guest_cr0(v);
        break;
    case 2:
        value = pv->cr2;
        break;
    case 3:
        value = xen_pfn_to_cr3(pv->root_kernel.n);
        break;
    case 4:
        value = pv->cr4_guest;
        break;
    case 8:
        value = 0;
        break;
    default:
        return PVE_NOT_OURS;
    }
    set_register(pv_gpr(r, i->rm), i->op_bytes, value);
    return PVE_DONE;
}

static enum pv_verdict load_cr3(struct vcpu *v, uint64_t value)
{
    int err = pv_set_root(v, MFN((value & PTE_MFN_MASK) >> FRAME_SHIFT), false);

    if (err == -EAGAIN)
        return PVE_RETRY;
    if (err)
        return PVE_NOT_OURS;
    tlb_flush_local(); /* also when the root stays the same */
    return PVE_DONE;
}

static enum pv_verdict mov_to_cr(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i)
{
    uint64_t value = *pv_gpr(r, i->rm);

    switch (i->reg) {
    case 0:
        if ((value ^ guest_cr0(v)) & ~CR0_TS)
            return PVE_NOT_OURS;
        pv_set_fpu_ts(v, (value & CR0_TS) != 0);
        return PVE_DONE;
    case 2:
        pv_vcpu(v)->cr2 = value;
        v->info->arch.cr2 = value;
        return PVE_DONE;
    case 3:
        return load_cr3(v, value);
    case 4: /* bits that are not the guest's to choose stay as they are */
        pv_vcpu(v)->cr4_guest = pv_cr4_guest_value(value);
        pv_load_cr4(v);
        return PVE_DONE;
    case 8:
        return value <= 15 ? PVE_DONE : PVE_NOT_OURS;
    default:
        return PVE_NOT_OURS;
    }
}

static enum pv_verdict mov_dr(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i,
                              struct pv_fault *f)
{
    uint64_t value = 0;
    int err;

    if (i->op == PVI_MOV_TO_DR) {
        value = *pv_gpr(r, i->rm);
        err = i->reg >= 4 && value >> 32 ? -EINVAL : pv_set_debugreg(v, i->reg, value);
    } else {
        err = pv_get_debugreg(v, i->reg, &value);
        if (!err)
            set_register(pv_gpr(r, i->rm), i->op_bytes, value);
    }
    if (err)
        return fault(f, err == -ENODEV || i->reg > 7 ? TRAP_UD : TRAP_GP);
    return PVE_DONE;
}

static enum pv_verdict msw(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i, uint64_t base,
                           struct pv_fault *f)
{
    uint16_t value = (uint16_t)guest_cr0(v);

    if (i->op == PVI_SMSW) {
        if (!i->memory)
            set_register(pv_gpr(r, i->rm), i->op_bytes, i->op_bytes == 2 ? value : guest_cr0(v));
        else if (!pv_copy_out(v, GVA(base + i->addr), &value, 2))
            return page_fault(v, f, base + i->addr, true);
        return PVE_DONE;
    }
    if (!i->memory)
        value = (uint16_t)*pv_gpr(r, i->rm);
    else if (!pv_copy_in(v, &value, GVA(base + i->addr), 2))
        return page_fault(v, f, base + i->addr, false);
    if (((value ^ guest_cr0(v)) & 0x7) || !(value & 1)) /* PE, MP, EM are not the guest's */
        return PVE_NOT_OURS;
    pv_set_fpu_ts(v, (value & CR0_TS) != 0);
    return PVE_DONE;
}

static enum pv_verdict xsetbv(struct vcpu *v, const struct guest_regs *r, struct pv_fault *f)
{
    uint64_t value = edx_eax(r), mask = policy_xcr0(x86_domain(v->domain)->policy);

    if (!mask || !(pv_vcpu(v)->cr4_guest & CR4_OSXSAVE))
        return fault(f, TRAP_UD);
    if ((uint32_t)r->rcx || !policy_xcr0_ok(value, mask))
        return PVE_NOT_OURS;
    pv_set_xcr0(v, value);
    return PVE_DONE;
}

/* --- port instructions --- */

static enum pv_verdict in_out(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i)
{
    uint16_t port = i->imm_port ? i->port : (uint16_t)r->rdx;

    if (!pv_port_permitted(v, port, i->op_bytes))
        return PVE_NOT_OURS;
    if (i->op == PVI_IN)
        set_register(&r->rax, i->op_bytes, pv_port_read(v, port, i->op_bytes));
    else
        pv_port_write(v, port, i->op_bytes,
                      i->op_bytes == 4 ? (uint32_t)r->rax : (uint32_t)r->rax & ((1u << 8 * i->op_bytes) - 1));
    return PVE_DONE;
}

static uint64_t by_size(uint64_t value, unsigned bytes)
{
    return bytes == 8 ? value : bytes == 4 ? (uint32_t)value : (uint16_t)value;
}

/* May the guest store here? Asked before a device is read, whose data would be lost. */
static bool storable(struct vcpu *v, uint64_t addr)
{
    uint64_t l1e;

    return pv_range_ok(addr, 1) && pv_mmu_walk(v, GVA(addr), &l1e) &&
           (l1e & (PTE_P | PTE_RW)) == (PTE_P | PTE_RW);
}

static bool string_one(struct vcpu *v, const struct guest_regs *r, const struct pv_insn *i, uint64_t addr)
{
    uint32_t data = 0;

    if (i->op == PVI_INS) {
        if (!storable(v, addr) || !storable(v, addr + i->op_bytes - 1))
            return false;
        data = pv_port_read(v, (uint16_t)r->rdx, i->op_bytes);
        return pv_copy_out(v, GVA(addr), &data, i->op_bytes);
    }
    if (!pv_copy_in(v, &data, GVA(addr), i->op_bytes))
        return false;
    pv_port_write(v, (uint16_t)r->rdx, i->op_bytes, data);
    return true;
}

static enum pv_verdict string_io(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i, uint64_t base,
                                 struct pv_fault *f)
{
    uint64_t *index = i->op == PVI_INS ? &r->rdi : &r->rsi;
    uint64_t count = i->rep ? by_size(r->rcx, i->addr_bytes) : 1;
    int64_t step = r->rflags & EFLAGS_DF ? -(int64_t)i->op_bytes : (int64_t)i->op_bytes;

    if (!pv_port_permitted(v, (uint16_t)r->rdx, i->op_bytes))
        return PVE_NOT_OURS;
    for (unsigned n = 0; count; n++) {
        uint64_t addr = base + by_size(*index, i->addr_bytes);
        if (n == STRING_PIECE)
            return PVE_RETRY;
        if (!string_one(v, r, i, addr))
            return page_fault(v, f, addr, i->op == PVI_INS);
        set_register(index, i->addr_bytes, *index + (uint64_t)step);
        count--;
        if (i->rep)
            set_register(&r->rcx, i->addr_bytes, count);
    }
    return PVE_DONE;
}

/* --- dispatch --- */

static bool iopl_allows(const struct vcpu *v)
{
    const struct pv_vcpu *pv = &((const struct x86_vcpu *)v)->pv;
    unsigned kernel_level = v->domain->vm_assist & (1ull << VMASST_TYPE_architectural_iopl) ? 0 : 1;

    return pv->iopl >= (pv->kernel_mode ? kernel_level : 3);
}

/* CLI and STI do nothing: IF belongs to Krypton, and a guest that masks events this way could never see them
 * unmasked again by POPF, which does not trap. */
static enum pv_verdict any_mode(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i, uint64_t base,
                                unsigned bits, struct pv_fault *f)
{
    switch (i->op) {
    case PVI_IN:
    case PVI_OUT:
        return in_out(v, r, i);
    case PVI_INS:
    case PVI_OUTS:
        return string_io(v, r, i, base, f);
    case PVI_CLI:
    case PVI_STI:
        return iopl_allows(v) ? PVE_DONE : PVE_NOT_OURS;
    case PVI_SMSW:
        return msw(v, r, i, base, f);
    case PVI_SGDT:
    case PVI_SIDT:
    case PVI_SLDT:
    case PVI_STR:
        return store_table(v, r, i, base, bits, f);
    case PVI_CPUID: /* arrives here where CPUID faults */
        if (pv_vcpu(v)->cpuid_fault && !pv_vcpu(v)->kernel_mode)
            return PVE_NOT_OURS;
        pv_cpuid(v, (uint32_t)r->rax, (uint32_t)r->rcx, r);
        return PVE_DONE;
    default:
        return PVE_NOT_OURS;
    }
}

static enum pv_verdict rdmsr_insn(struct vcpu *v, struct guest_regs *r)
{
    uint64_t value = 0;

    if (likely((uint32_t)r->rcx == MSR_KERNEL_GS_BASE)) { /* its user space's, at each switch of processes */
        set_rax_rdx(r, hw_gs_shadow());
        return PVE_DONE;
    }
    /* A kernel that has no #GP handler yet gets zero rather than a crash (xen/arch-x86/xen.h, at
     * set_trap_table). */
    if (!pv_rdmsr(v, (uint32_t)r->rcx, &value) && pv_has_trap(v, TRAP_GP))
        return PVE_NOT_OURS;
    set_rax_rdx(r, value);
    return PVE_DONE;
}

static enum pv_verdict time_stamp(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i)
{
    set_rax_rdx(r, rdtsc());
    if (i->op == PVI_RDTSCP)
        r->rcx = pv_vcpu(v)->tsc_aux;
    return PVE_DONE;
}

static enum pv_verdict cache_flush(const struct vcpu *v)
{
    if (v->domain->hardware)
        hw_wbinvd();
    return PVE_DONE;
}

static enum pv_verdict invlpg(uint64_t addr)
{
    if (pv_range_ok(addr, 1))
        tlb_flush_local_va(GVA(addr));
    return PVE_DONE;
}

static enum pv_verdict kernel_mode(struct vcpu *v, struct guest_regs *r, const struct pv_insn *i,
                                   uint64_t base, unsigned bits, struct pv_fault *f)
{
    switch (i->op) {
    case PVI_HLT:
        vcpu_block(v);
        return PVE_DONE;
    case PVI_CLTS:
        pv_set_fpu_ts(v, false);
        return PVE_DONE;
    case PVI_LMSW:
        return msw(v, r, i, base, f);
    case PVI_MOV_FROM_CR:
        return mov_from_cr(v, r, i);
    case PVI_MOV_TO_CR:
        return mov_to_cr(v, r, i);
    case PVI_MOV_FROM_DR:
    case PVI_MOV_TO_DR:
        return mov_dr(v, r, i, f);
    case PVI_RDMSR:
        return rdmsr_insn(v, r);
    case PVI_WRMSR:
        return pv_wrmsr(v, (uint32_t)r->rcx, edx_eax(r)) ? PVE_DONE : PVE_NOT_OURS;
    case PVI_RDTSC:
    case PVI_RDTSCP:
        return time_stamp(v, r, i);
    case PVI_INVD:
    case PVI_WBINVD:
        return cache_flush(v);
    case PVI_INVLPG:
        return invlpg(base + i->addr);
    case PVI_XSETBV:
        return xsetbv(v, r, f);
    default: /* SWAPGS, SYSRET, RDPMC */
        return any_mode(v, r, i, base, bits, f);
    }
}

/* Fetches what there is: first up to the end of the page, more only if the instruction goes on there. */
static bool fetch_and_decode(struct vcpu *v, const struct guest_regs *r, unsigned bits, uint64_t cs_base,
                             struct pv_insn *i)
{
    uint8_t buf[PV_INSN_MAX];
    uint64_t at = bits == 64 ? r->rip : (uint32_t)(cs_base + (uint32_t)r->rip);
    unsigned first = MIN((unsigned)sizeof(buf), (unsigned)(FRAME_SIZE - (at & (FRAME_SIZE - 1))));

    if (!pv_copy_in(v, buf, GVA(at), first))
        return false;
    if (pv_decode(buf, first, bits, r, i))
        return true;
    return first < sizeof(buf) && pv_copy_in(v, buf + first, GVA(at + first), sizeof(buf) - first) &&
           pv_decode(buf, sizeof(buf), bits, r, i);
}

static bool uses_memory(const struct pv_insn *i)
{
    return i->memory || i->op == PVI_INS || i->op == PVI_OUTS;
}

/* RDMSR of a kernel in its flat code segment, without prefixes: Linux has one in each switch of processes. */
static bool is_plain_rdmsr(struct vcpu *v, const struct guest_regs *r)
{
    uint16_t code;

    return pv_vcpu(v)->kernel_mode && r->cs == FLAT_KERNEL_CS &&
           pv_copy_in(v, &code, GVA(r->rip), sizeof(code)) && code == 0x320f;
}

enum pv_verdict pv_emulate_privileged(struct vcpu *v, struct guest_regs *r, struct pv_fault *f)
{
    struct pv_insn i;
    enum pv_verdict verdict;
    uint64_t cs_base, base = 0;
    unsigned bits;

    if (is_plain_rdmsr(v, r)) {
        verdict = rdmsr_insn(v, r);
        if (verdict == PVE_DONE)
            pv_insn_done(v, r, 2);
        return verdict;
    }
    if (!pv_code_segment(v, r, &bits, &cs_base) || !fetch_and_decode(v, r, bits, cs_base, &i))
        return PVE_NOT_OURS;
    if (uses_memory(&i) && !pv_data_base(v, r, i.seg, bits, &base))
        return PVE_NOT_OURS;
    verdict =
        pv_vcpu(v)->kernel_mode ? kernel_mode(v, r, &i, base, bits, f) : any_mode(v, r, &i, base, bits, f);
    if (verdict == PVE_DONE)
        pv_insn_done(v, r, i.len);
    return verdict;
}

/* XEN_EMULATE_PREFIX cpuid (xen/arch-x86/xen.h): for kernels that want the guest's view where CPUID does not
 * trap. */
bool pv_emulate_forced_cpuid(struct vcpu *v, struct guest_regs *r)
{
    const uint64_t want = 0xa20f6e65780b0f; /* 0f 0b 'x' 'e' 'n' 0f a2 */
    uint64_t got = 0;

    if (!pv_copy_in(v, &got, GVA(r->rip), 7) || got != want)
        return false;
    if (pv_vcpu(v)->cpuid_fault && !pv_vcpu(v)->kernel_mode) {
        pv_bounce_trap(v, r, TRAP_GP, 0, true);
        return true;
    }
    pv_cpuid(v, (uint32_t)r->rax, (uint32_t)r->rcx, r);
    pv_insn_done(v, r, 7);
    return true;
}
