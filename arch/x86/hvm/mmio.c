/*
 * Nested page faults: memory that is not there yet goes to the p2m; for other holes the instruction is executed here, its accesses
 * take the way of access.c.
 *
 * Invariants
 *  1. An instruction is executed here only as far as emul_run knows it; any other one that touches a hole is #UD.
 *  2. An instruction that waits for a device model begins again from the registers it had: arch/x86/emul changes them last.
 */
#include "private.h"
#include "dev/bus.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/emul.h"
#include "x86/guest.h"
#include "x86/regs.h"

unsigned hvm_code_bits(const struct vcpu *v)
{
    struct hvm_segment cs;

    if (hvm_is_64(v))
        return 64;
    hvm_ops->get_segment(v, HVM_CS, &cs);
    return cs.attr & SEG_BIG ? 32 : 16;
}

/* What lies at the instruction pointer; a page that cannot be read ends it early. */
size_t hvm_fetch(struct vcpu *v, uint8_t code[EMUL_INSN_MAX])
{
    struct hvm_waiting *w = hvm_waiting(v);
    uint64_t at;
    size_t first;
    unsigned access = WALK_FETCH | hvm_walk_user(v);
    struct guest_paging p;
    struct copy_fault f;

    if (w->code_bytes) { /* the same instruction as when its first access was made, whatever is there now */
        memcpy(code, w->code, w->code_bytes);
        return w->code_bytes;
    }
    at = hvm_linear(v, HVM_CS, hvm_get(v, HVM_RIP));
    first = MIN(FRAME_SIZE - (at & (FRAME_SIZE - 1)), (uint64_t)EMUL_INSN_MAX);
    hvm_paging(v, &p);
    if (guest_linear_in(v, &p, code, at, first, access, &f) != COPY_OK)
        return 0;
    if (first < EMUL_INSN_MAX &&
        guest_linear_in(v, &p, code + first, at + first, EMUL_INSN_MAX - first, access, &f) == COPY_OK)
        first = EMUL_INSN_MAX;
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

void hvm_write_register(struct vcpu *v, unsigned n, uint64_t value)
{
    uint64_t *at = reg_place(vcpu_regs(v), n);

    if (at)
        *at = value;
    else
        hvm_set(v, HVM_RSP, value);
}

/* --- the instruction, executed --- */

#define ROUNDS      64u /* of a repeated one, for each exit */
#define FLAGS_ARITH 0x8d5ull

struct mmio {
    struct emul e;
    struct vcpu *v;
    const struct hvm_exit *x;
    bool device; /* what the operand names is at x->memory.gpa, and no RAM */
    uint64_t rip, rflags, rsp;
};

static struct mmio *mmio_of(struct emul *e)
{
    return container_of(e, struct mmio, e);
}

static void registers_in(struct mmio *m)
{
    for (unsigned n = 0; n < 16; n++)
        m->e.reg[n] = hvm_read_register(m->v, n);
    m->rsp = m->e.reg[4];
    m->rip = m->e.rip = hvm_get(m->v, HVM_RIP);
    m->rflags = m->e.rflags = hvm_get(m->v, HVM_RFLAGS);
}

static void registers_out(struct mmio *m)
{
    for (unsigned n = 0; n < 16; n++)
        if (n != 4)
            *reg_place(vcpu_regs(m->v), n) = m->e.reg[n];
    if (m->rsp != m->e.reg[4])
        hvm_set(m->v, HVM_RSP, m->e.reg[4]);
    /* An earlier round may have changed what this one puts back. */
    hvm_set(m->v, HVM_RFLAGS, (m->rflags & ~FLAGS_ARITH) | (m->e.rflags & FLAGS_ARITH));
}

/* At most eight bytes at a guest-physical address, in pieces that a device can take. */
static enum emul_result device_move(struct vcpu *v, uint64_t gpa, uint8_t *buf, unsigned n, bool write)
{
    while (n) {
        unsigned bytes = n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
        struct hvm_access a = {.space = HVM_MEMORY, .address = gpa, .bytes = (uint8_t)bytes, .write = write};

        if (write)
            memcpy(&a.value, buf, bytes);
        if (!hvm_access(v, &a))
            return EMUL_WAIT;
        if (!write)
            memcpy(buf, &a.value, bytes);
        gpa += bytes;
        buf += bytes;
        n -= bytes;
    }
    return EMUL_DONE;
}

/* A write to memory that a device model wants to see written (P2M_RAM_DM). */
static bool is_watched(struct mmio *m, const struct guest_paging *p, uint64_t linear, unsigned user,
                       uint64_t *gpa)
{
    struct p2m_entry e;
    uint32_t error;

    if (!ioreq_has_memory_server(m->v->domain) ||
        guest_walk(m->v, p, linear, WALK_WRITE | user, gpa, &error) != WALK_OK)
        return false;
    p2m_look(m->v->domain, GFN(*gpa >> FRAME_SHIFT), &e);
    return e.type == P2M_RAM_DM;
}

/* Within one page: RAM, else a device. */
static enum emul_result page_move(struct mmio *m, uint64_t linear, uint8_t *buf, unsigned n, bool write)
{
    unsigned user = hvm_walk_user(m->v);
    struct guest_paging p;
    struct copy_fault f;
    enum copy_result r;
    uint64_t gpa;

    hvm_paging(m->v, &p);
    if (write && is_watched(m, &p, linear, user, &gpa))
        return device_move(m->v, gpa, buf, n, true);
    r = write ? guest_linear_out(m->v, &p, linear, buf, n, user, &f)
              : guest_linear_in(m->v, &p, buf, linear, n, user, &f);
    if (r == COPY_OK)
        return EMUL_DONE;
    if (r == COPY_NO_RAM)
        return device_move(m->v, f.gpa, buf, n, write);
    hvm_page_fault(m->v, f.address, f.error);
    return EMUL_FAULT;
}

static bool same_place(uint64_t linear, uint64_t gpa)
{
    return !((linear ^ gpa) & (FRAME_SIZE - 1));
}

static enum emul_result move(struct mmio *m, enum emul_seg s, uint64_t offset, uint8_t *buf, unsigned n,
                             bool operand, bool write)
{
    uint64_t linear = hvm_linear(m->v, (enum hvm_seg)s, offset);

    /* The processor has translated this address for such an access, and said where it ends. */
    if (operand && m->device && write == m->x->memory.write && same_place(linear, m->x->memory.gpa) &&
        (linear & (FRAME_SIZE - 1)) + n <= FRAME_SIZE)
        return device_move(m->v, m->x->memory.gpa, buf, n, write);
    if (!hvm_reaches(m->v, (enum hvm_seg)s, offset, n, write)) {
        hvm_out_of_reach(m->v, (enum hvm_seg)s);
        return EMUL_FAULT;
    }
    while (n) {
        unsigned here = (unsigned)MIN((uint64_t)n, FRAME_SIZE - (linear & (FRAME_SIZE - 1)));
        enum emul_result r = page_move(m, linear, buf, here, write);

        if (r)
            return r;
        linear += here;
        buf += here;
        n -= here;
    }
    return EMUL_DONE;
}

static enum emul_result mmio_read(struct emul *e, enum emul_seg s, uint64_t offset, unsigned bytes,
                                  bool operand, uint64_t value[2])
{
    return move(mmio_of(e), s, offset, (uint8_t *)value, bytes, operand, false);
}

static enum emul_result mmio_write(struct emul *e, enum emul_seg s, uint64_t offset, unsigned bytes,
                                   bool operand, const uint64_t value[2])
{
    uint64_t v[2] = {value[0], value[1]};

    return move(mmio_of(e), s, offset, (uint8_t *)v, bytes, operand, true);
}

static bool mmio_vector(struct emul *e, unsigned n, bool write, uint64_t value[2])
{
    fpu_vector(x86_vcpu(mmio_of(e)->v), n, write, value);
    return true;
}

static void mmio_round(struct emul *e)
{
    registers_out(mmio_of(e));
    hvm_waiting(mmio_of(e)->v)->rounds = true;
    hvm_access_commit(mmio_of(e)->v);
}

/* One side is the device at x->memory.gpa, where the first round is, the other, of MOVS, RAM in one page. */
static enum emul_result mmio_many(struct emul *e, bool store, enum emul_seg source, uint64_t from,
                                  uint64_t to, unsigned bytes, bool down, uint64_t value, uint64_t *count)
{
    struct mmio *m = mmio_of(e);
    bool write = m->x->memory.write;
    uint64_t most = *count, gpa = m->x->memory.gpa, at = gpa & (FRAME_SIZE - 1);
    uint64_t linear = write ? hvm_linear(m->v, HVM_ES, to) : hvm_linear(m->v, (enum hvm_seg)source, from);
    struct hvm_access a = {.space = HVM_MEMORY,
                           .address = gpa,
                           .bytes = (uint8_t)bytes,
                           .write = write,
                           .down = down,
                           .pointer = !store,
                           .value = value};

    *count = 0;
    most = MIN(most, down ? at / bytes + 1 : (FRAME_SIZE - at) / bytes);
    if (!m->device || hvm_waiting(m->v)->rounds || !same_place(linear, gpa) || at & (bytes - 1) || most < 2 ||
        hvm_bus_near(m->v->domain, HVM_MEMORY, gpa & ~(FRAME_SIZE - 1), gpa | (FRAME_SIZE - 1)))
        return EMUL_DONE;
    a.count = (uint32_t)most;
    if (store ? !ioreq_any(m->v->domain)
              : !hvm_batch_memory(m->v, write ? (enum hvm_seg)source : HVM_ES, write ? from : to, !write, &a,
                                  most))
        return EMUL_DONE;
    if (!hvm_access(m->v, &a))
        return EMUL_WAIT;
    if (!a.nobody)
        *count = a.count;
    return EMUL_DONE;
}

static const struct emul_ops ops = {
    .read = mmio_read, .write = mmio_write, .vector = mmio_vector, .round = mmio_round, .many = mmio_many};

static void not_known(const struct mmio *m)
{
    const uint8_t *c = m->e.code;

    log_guest(m->v->domain->id, LOG_WARN,
              "vCPU %u: instruction at %lx (%02x %02x %02x %02x %02x %02x) cannot be used on %lx", m->v->id,
              m->rip, c[0], c[1], c[2], c[3], c[4], c[5], m->x->memory.gpa);
}

static unsigned stack_bytes(const struct vcpu *v, unsigned bits)
{
    struct hvm_segment ss;

    hvm_ops->get_segment(v, HVM_SS, &ss);
    return bits == 64 ? 8 : ss.attr & SEG_BIG ? 4 : 2;
}

static enum hvm_verdict access(struct vcpu *v, const struct hvm_exit *x, enum p2m_verdict verdict)
{
    struct mmio m = {.e = {.ops = &ops}, .v = v, .x = x, .device = verdict == P2M_IS_MMIO};
    enum emul_result r;

    m.e.bits = (uint8_t)hvm_code_bits(v);
    m.e.stack_bytes = (uint8_t)stack_bytes(v, m.e.bits);
    m.e.code_bytes = (uint8_t)hvm_fetch(v, m.e.code);
    if (!m.e.code_bytes)
        return HVM_RESUME; /* the code has gone meanwhile: the processor finds that out */
    registers_in(&m);
    r = emul_run(&m.e, ROUNDS);
    switch (r) {
    case EMUL_DONE:
        registers_out(&m);
        hvm_advance(v, (unsigned)(m.e.rip - m.rip));
        break;
    case EMUL_CUT:
    case EMUL_UNKNOWN:
        if (r == EMUL_CUT && m.e.code_bytes < EMUL_INSN_MAX)
            break; /* the rest of the code has gone meanwhile */
        not_known(&m);
        return HVM_UD;
    case EMUL_PART: /* written back after each round */
    case EMUL_WAIT:
    case EMUL_FAULT:
        break;
    }
    return HVM_RESUME;
}

static enum hvm_verdict hole(struct vcpu *v, const struct hvm_exit *x, enum p2m_verdict verdict)
{
    bool event = hvm_vcpu(v)->event.valid;

    if (x->memory.fetch && !x->memory.walk && !event && hvm_walk_user(v))
        return HVM_GP; /* a process jumps into a device that it has mapped: its end, not its guest's */
    if (x->memory.walk || x->memory.fetch || event) {
        domain_crash(v->domain, "vCPU %u: %s at %lx, where there is no memory", v->id,
                     x->memory.fetch  ? "code"
                     : x->memory.walk ? "page tables"
                                      : "tables for an exception",
                     x->memory.gpa);
        return HVM_RESUME;
    }
    return access(v, x, verdict);
}

enum hvm_verdict hvm_memory(struct vcpu *v, const struct hvm_exit *x)
{
    unsigned how = (x->memory.write ? P2M_ACC_WRITE : 0) | (x->memory.fetch ? P2M_ACC_FETCH : 0) |
                   (x->memory.walk ? P2M_ACC_WALK : 0);
    enum p2m_verdict verdict = p2m_fault(v->domain, x->memory.gpa, how);

    switch (verdict) {
    case P2M_RETRY:
        return HVM_RESUME;
    case P2M_DENIED:
        return HVM_GP;
    case P2M_NO_MEMORY:
        domain_crash(v->domain, "vCPU %u: no memory for %lx", v->id, x->memory.gpa);
        return HVM_RESUME;
    default:
        return hole(v, x, verdict);
    }
}
