/*
 * Nested page faults: memory that is not there yet goes to the p2m; for other holes the instruction is executed here, its accesses
 * take the way of access.c.
 *
 * Invariants
 *  1. An instruction is executed here only as far as hvm_insn_decode knows it; any other one that touches a hole is #UD.
 */
#include "private.h"
#include "insn.h"
#include "dev/bus.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/regs.h"

#define CS_BIG (1u << 10)

static unsigned code_bits(const struct vcpu *v, const struct hvm_segment *cs)
{
    if (hvm_is_64(v))
        return 64;
    return cs->attr & CS_BIG ? 32 : 16;
}

/* What lies at the instruction pointer; a page that cannot be read ends it early. */
size_t hvm_fetch(struct vcpu *v, uint8_t code[INSN_MAX])
{
    struct hvm_segment cs;
    struct hvm_waiting *w = hvm_waiting(v);
    uint64_t at;
    size_t first;
    unsigned access = WALK_FETCH | (hvm_ops->cpl(v) == 3 ? WALK_USER : 0);
    struct guest_paging p;
    struct copy_fault f;

    if (w->code_bytes) { /* the same instruction as when its first access was made, whatever is there now */
        memcpy(code, w->code, w->code_bytes);
        return w->code_bytes;
    }
    hvm_ops->get_segment(v, HVM_CS, &cs);
    at = (hvm_is_64(v) ? 0 : cs.base) + hvm_get(v, HVM_RIP);
    first = MIN(FRAME_SIZE - (at & (FRAME_SIZE - 1)), (uint64_t)INSN_MAX);
    hvm_paging(v, &p);
    if (guest_linear_in(v, &p, code, at, first, access, &f) != COPY_OK)
        return 0;
    if (first < INSN_MAX &&
        guest_linear_in(v, &p, code + first, at + first, INSN_MAX - first, access, &f) == COPY_OK)
        first = INSN_MAX;
    memcpy(w->code, code, first);
    w->code_bytes = (uint8_t)first;
    return first;
}

/* --- registers --- */

static uint64_t *reg_place(struct guest_regs *r, unsigned n)
{
    uint64_t *const at[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, NULL,    &r->rbp, &r->rsi, &r->rdi,
                              &r->r8,  &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15};

    return at[n & 15];
}

uint64_t hvm_read_register(struct vcpu *v, unsigned n)
{
    const uint64_t *at = reg_place(vcpu_regs(v), n);

    return at ? *at : hvm_get(v, HVM_RSP);
}

static uint64_t reg_read(struct vcpu *v, const struct hvm_insn *i)
{
    uint64_t value = hvm_read_register(v, i->reg);

    return i->high ? value >> 8 : value;
}

/* A 32-bit result clears the upper half, shorter ones leave the rest. */
static void reg_write(struct vcpu *v, const struct hvm_insn *i, uint64_t value)
{
    uint64_t *at = reg_place(vcpu_regs(v), i->reg), mask = hvm_mask(i->reg_bytes), old;

    value &= hvm_mask(i->bytes);
    if (i->sign && value >> (8 * i->bytes - 1))
        value |= ~hvm_mask(i->bytes);
    old = at ? *at : hvm_get(v, HVM_RSP);
    if (i->high)
        value = (old & ~0xff00ull) | (value & 0xff) << 8;
    else
        value = i->reg_bytes == 4 ? (uint32_t)value : (old & ~mask) | (value & mask);
    if (at)
        *at = value;
    else
        hvm_set(v, HVM_RSP, value);
}

static enum hvm_verdict access(struct vcpu *v, uint64_t gpa)
{
    uint8_t code[INSN_MAX];
    struct hvm_segment cs;
    struct hvm_access a = {.space = HVM_MEMORY, .address = gpa}, b;
    struct hvm_insn i;
    size_t n;

    hvm_ops->get_segment(v, HVM_CS, &cs);
    n = hvm_fetch(v, code);
    if (!n)
        return HVM_RESUME; /* the code has gone meanwhile: the processor finds that out */
    if (!hvm_insn_decode(code, n, code_bits(v, &cs), &i)) {
        log_guest(v->domain->id, LOG_DEBUG, "vCPU %u: instruction at %lx cannot be used on %lx", v->id,
                  hvm_get(v, HVM_RIP), gpa);
        return HVM_UD;
    }
    a.bytes = i.bytes;
    b = a;
    b.write = true;
    b.value = i.constant ? i.value : reg_read(v, &i);
    if ((i.load && !hvm_access(v, &a)) || (i.store && !hvm_access(v, &b)))
        return HVM_RESUME;
    if (i.load)
        reg_write(v, &i, a.value);
    hvm_advance(v, i.length);
    return HVM_RESUME;
}

static enum hvm_verdict hole(struct vcpu *v, const struct hvm_exit *x)
{
    if (x->memory.walk || x->memory.fetch || hvm_vcpu(v)->event.valid) {
        domain_crash(v->domain, "vCPU %u: %s at %lx, where there is no memory", v->id,
                     x->memory.fetch  ? "code"
                     : x->memory.walk ? "page tables"
                                      : "tables for an exception",
                     x->memory.gpa);
        return HVM_RESUME;
    }
    return access(v, x->memory.gpa);
}

enum hvm_verdict hvm_memory(struct vcpu *v, const struct hvm_exit *x)
{
    unsigned how = (x->memory.write ? P2M_ACC_WRITE : 0) | (x->memory.fetch ? P2M_ACC_FETCH : 0) |
                   (x->memory.walk ? P2M_ACC_WALK : 0);

    switch (p2m_fault(v->domain, x->memory.gpa, how)) {
    case P2M_RETRY:
        return HVM_RESUME;
    case P2M_DENIED:
        return HVM_GP;
    case P2M_NO_MEMORY:
        domain_crash(v->domain, "vCPU %u: no memory for %lx", v->id, x->memory.gpa);
        return HVM_RESUME;
    default:
        return hole(v, x);
    }
}
