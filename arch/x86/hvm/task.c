/*
 * Hardware task switches (AMD APM vol. 2 ch. 12; SDM vol. 3 "task management"): the processor checks who may, and leaves the rest to us.
 *
 *   exit -> find_task (descriptor, state: looked at) -> leave_task (state into the old TSS, back link, busy bits)
 *        -> load_registers -> load_segments -> error code on the new stack, debug trap
 *
 * Invariants
 *  1. Before load_registers a fault is the old task's: no register has changed, what was written does not keep it from trying again.
 *  2. From then on a fault is the new task's; a segment that was not loaded has its selector and cannot be used.
 *  3. Tables, TSSs and descriptors are reached by linear addresses as the processor does it itself; where they are in no RAM, the domain ends.
 * Locks: none. The guest's other vCPUs may write to what is read here: each thing is read once.
 */
#include "private.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/emul.h"
#include "x86/guest.h"
#include "x86/regs.h"

#define DPL(attr) ((attr) >> 5 & 3u)
#define TSS_BUSY  0x2u
#define TSS_WIDE  0x8u
#define TSS_MASK  0x15u /* of a TSS's type: 1 */
#define TYPE_LDT  0x2u

#define DR6_BT    (1ull << 15)
#define DR7_LOCAL 0x155ull

/* A TSS: the words from the instruction pointer to the LDT are one behind the other, of four bytes or of two; that has no FS and GS. */
enum { IP, FLAGS, REGS, SEGS = REGS + 8, LDT = SEGS + 6, WORDS };
#define WIDE_FIRST   0x20u
#define WIDE_BYTES   0x68u
#define NARROW_FIRST 0x0eu
#define NARROW_BYTES 0x2cu
#define WIDE_CR3     0x1cu
#define WIDE_TRAP    0x64u

struct task {
    struct vcpu *v;
    enum hvm_task_by by;
    uint32_t external; /* bit 0 of error codes */
    struct hvm_segment tss;
    uint64_t descriptor; /* the address of it */
    uint32_t word[WORDS], cr3;
    bool wide, trap;
};

/* --- faults and memory --- */

static bool fault(const struct task *t, uint8_t vector, uint32_t selector)
{
    hvm_exception(t->v, vector, true, (selector & 0xfffc) | t->external);
    return false;
}

static bool done(const struct task *t, enum copy_result r, const struct copy_fault *f)
{
    if (r == COPY_FAULT)
        hvm_page_fault(t->v, f->address, f->error);
    else if (r != COPY_OK)
        domain_crash(t->v->domain, "vCPU %u: a task switch by tables at %lx, where there is no memory",
                     t->v->id, f->gpa);
    return r == COPY_OK;
}

static bool take(const struct task *t, void *to, uint64_t at, size_t n)
{
    struct guest_paging p;
    struct copy_fault f;

    hvm_paging(t->v, &p);
    return done(t, guest_linear_in(t->v, &p, to, (uint32_t)at, n, WALK_IMPLICIT, &f), &f);
}

static bool put(const struct task *t, uint64_t at, const void *from, size_t n)
{
    struct guest_paging p;
    struct copy_fault f;

    hvm_paging(t->v, &p);
    return done(t, guest_linear_out(t->v, &p, (uint32_t)at, from, n, WALK_IMPLICIT, &f), &f);
}

/* --- descriptors --- */

/* False: there is none. */
static bool descriptor_at(const struct task *t, uint16_t selector, uint64_t *at)
{
    struct hvm_segment table;

    hvm_ops->get_segment(t->v, selector & 4 ? HVM_LDTR : HVM_GDTR, &table);
    *at = table.base + (selector & ~7u);
    return (selector | 7u) <= table.limit && (!(selector & 4) || table.attr & SEG_PRESENT);
}

static struct hvm_segment unpack(uint16_t selector, uint64_t d)
{
    struct hvm_segment s = {.sel = selector,
                            .attr = (uint16_t)((d >> 40 & 0xff) | (d >> 44 & 0xf00)),
                            .limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000)),
                            .base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000)};

    if (s.attr & SEG_PAGES)
        s.limit = s.limit << 12 | 0xfff;
    return s;
}

/* Sets or clears bits of a descriptor's type. */
static bool retype(const struct task *t, uint64_t descriptor, uint8_t clear, uint8_t set)
{
    uint8_t type;

    if (!take(t, &type, descriptor + 5, 1))
        return false;
    type = (uint8_t)((type & ~clear) | set);
    return put(t, descriptor + 5, &type, 1);
}

/* --- the new task, looked at --- */

static uint32_t least_limit(uint32_t attr)
{
    return (attr & TSS_WIDE ? WIDE_BYTES : NARROW_BYTES) - 1;
}

static bool read_state(struct task *t)
{
    uint8_t raw[WIDE_BYTES];
    const uint8_t *at = raw + (t->wide ? WIDE_FIRST : NARROW_FIRST);
    unsigned bytes = t->wide ? 4 : 2;

    if (!take(t, raw, t->tss.base, t->wide ? WIDE_BYTES : NARROW_BYTES))
        return false;
    for (unsigned i = 0; i < WORDS; i++) {
        if (!t->wide && (i == SEGS + HVM_FS || i == SEGS + HVM_GS))
            continue;
        memcpy(&t->word[i], at, bytes);
        at += bytes;
    }
    if (t->wide) {
        memcpy(&t->cr3, raw + WIDE_CR3, 4);
        t->trap = raw[WIDE_TRAP] & 1;
    }
    return true;
}

static bool find_task(struct task *t, uint16_t selector)
{
    uint8_t vector = t->by == HVM_TASK_IRET ? TRAP_TS : TRAP_GP;
    bool busy = t->by == HVM_TASK_IRET;
    uint64_t d;

    if (selector < 4 || selector & 4 || !descriptor_at(t, selector, &t->descriptor))
        return fault(t, vector, selector);
    if (!take(t, &d, t->descriptor, sizeof(d)))
        return false;
    t->tss = unpack(selector, d);
    t->wide = t->tss.attr & TSS_WIDE;
    if ((t->tss.attr & TSS_MASK) != 1 || !(t->tss.attr & TSS_BUSY) == busy)
        return fault(t, vector, selector);
    if (!(t->tss.attr & SEG_PRESENT))
        return fault(t, TRAP_NP, selector);
    if (t->tss.limit < least_limit(t->tss.attr))
        return fault(t, TRAP_TS, selector);
    return read_state(t);
}

/* --- the old task, left --- */

static bool write_state(const struct task *t, const struct hvm_segment *old, uint32_t ip, bool rf)
{
    bool wide = old->attr & TSS_WIDE;
    unsigned bytes = wide ? 4 : 2, words = wide ? LDT : SEGS + HVM_FS;
    uint64_t flags = hvm_get(t->v, HVM_RFLAGS) & ~(uint64_t)EFLAGS_RF;
    uint8_t raw[LDT * 4];
    uint32_t word[LDT];

    word[IP] = ip;
    word[FLAGS] =
        (uint32_t)(t->by == HVM_TASK_IRET ? flags & ~(uint64_t)EFLAGS_NT : flags) | (rf ? EFLAGS_RF : 0);
    for (unsigned i = 0; i < 8; i++)
        word[REGS + i] = (uint32_t)hvm_read_register(t->v, i);
    for (unsigned i = HVM_ES; i <= HVM_GS; i++) {
        struct hvm_segment s;

        hvm_ops->get_segment(t->v, (enum hvm_seg)i, &s);
        word[SEGS + i] = s.sel;
    }
    for (unsigned i = 0; i < words; i++)
        memcpy(raw + i * bytes, &word[i], bytes);
    return put(t, old->base + (wide ? WIDE_FIRST : NARROW_FIRST), raw, words * bytes);
}

/* The new one's busy bit first: it can be taken back. */
static bool exchange_busy(const struct task *t, uint16_t old)
{
    bool comes = t->by != HVM_TASK_IRET, goes = t->by == HVM_TASK_IRET || t->by == HVM_TASK_JUMP;
    uint64_t at;

    if (comes && !retype(t, t->descriptor, 0, TSS_BUSY))
        return false;
    if (!goes || old < 4 || !descriptor_at(t, old, &at) || at == t->descriptor)
        return true;
    if (retype(t, at, TSS_BUSY, 0))
        return true;
    if (comes && !t->v->domain->crashed)
        (void)retype(t, t->descriptor, TSS_BUSY, 0);
    return false;
}

static bool leave_task(const struct task *t, uint32_t ip, bool rf)
{
    struct hvm_segment old;

    hvm_ops->get_segment(t->v, HVM_TR, &old);
    if (old.limit < least_limit(old.attr))
        return fault(t, TRAP_TS, old.sel);
    if (!write_state(t, &old, ip, rf))
        return false;
    if (t->by != HVM_TASK_JUMP && t->by != HVM_TASK_IRET && !put(t, t->tss.base, &old.sel, sizeof(old.sel)))
        return false;
    return exchange_busy(t, old.sel);
}

/* --- the new task's registers --- */

static void load_registers(struct task *t)
{
    struct vcpu *v = t->v;
    uint64_t flags = hvm_rflags(t->wide ? t->word[FLAGS] : t->word[FLAGS] & 0xffff);

    if (t->by != HVM_TASK_JUMP && t->by != HVM_TASK_IRET)
        flags |= EFLAGS_NT;
    if (t->by == HVM_TASK_EVENT)
        hvm_vcpu(v)->event.valid = false;
    if (t->by == HVM_TASK_IRET)
        hvm_ops->nmi_over(v);
    if (t->wide && hvm_get(v, HVM_CR0) & CR0_PG) {
        hvm_set(v, HVM_CR3, t->cr3);
        hvm_ops->flush(v);
    }
    t->tss.attr |= TSS_BUSY;
    hvm_ops->set_segment(v, HVM_TR, &t->tss);
    hvm_set(v, HVM_CR0, hvm_get(v, HVM_CR0) | CR0_TS);
    hvm_set(v, HVM_DR7, hvm_get(v, HVM_DR7) & ~DR7_LOCAL);
    hvm_set(v, HVM_RIP, t->word[IP]);
    hvm_set(v, HVM_RFLAGS, flags);
    for (unsigned i = 0; i < 8; i++)
        hvm_write_register(v, i, t->word[REGS + i]);
    hvm_ops->clear_shadow(v);
}

/* --- its segments --- */

static bool load_ldt(const struct task *t, uint16_t selector)
{
    struct hvm_segment s;
    uint64_t at, d;

    if (selector < 4)
        return true;
    if (selector & 4 || !descriptor_at(t, selector, &at))
        return fault(t, TRAP_TS, selector);
    if (!take(t, &d, at, sizeof(d)))
        return false;
    s = unpack(selector, d);
    if ((s.attr & 0x1f) != TYPE_LDT || !(s.attr & SEG_PRESENT))
        return fault(t, TRAP_TS, selector);
    hvm_ops->set_segment(t->v, HVM_LDTR, &s);
    return true;
}

static bool type_ok(enum hvm_seg which, const struct hvm_segment *s, unsigned cpl)
{
    unsigned rpl = s->sel & 3u, dpl = DPL(s->attr);

    if (!(s->attr & SEG_ORDINARY))
        return false;
    if (which == HVM_CS)
        return s->attr & SEG_CODE && (s->attr & SEG_CONFORMING ? dpl <= cpl : dpl == cpl);
    if (which == HVM_SS)
        return !(s->attr & SEG_CODE) && s->attr & SEG_USABLE && rpl == cpl && dpl == cpl;
    if (!(s->attr & SEG_CODE))
        return dpl >= cpl && dpl >= rpl;
    return s->attr & SEG_USABLE && (s->attr & SEG_CONFORMING || (dpl >= cpl && dpl >= rpl));
}

static bool load_segment(const struct task *t, enum hvm_seg which, unsigned cpl)
{
    uint16_t selector = (uint16_t)t->word[SEGS + which];
    struct hvm_segment s;
    uint64_t at, d;

    if (selector < 4 && which != HVM_CS && which != HVM_SS)
        return true;
    if (selector < 4 || !descriptor_at(t, selector, &at))
        return fault(t, TRAP_TS, selector);
    if (!take(t, &d, at, sizeof(d)))
        return false;
    s = unpack(selector, d);
    if (!type_ok(which, &s, cpl))
        return fault(t, TRAP_TS, selector);
    if (!(s.attr & SEG_PRESENT))
        return fault(t, which == HVM_SS ? TRAP_SS : TRAP_NP, selector);
    if (!(s.attr & SEG_ACCESSED) && !retype(t, at, 0, SEG_ACCESSED))
        return false;
    s.attr |= SEG_ACCESSED;
    hvm_ops->set_segment(t->v, which, &s);
    return true;
}

/* Selectors of all, with no segments behind them; or those of virtual-8086 mode, which need none. */
static void set_selectors(const struct task *t, bool virtual, unsigned cpl)
{
    struct hvm_segment ldt = {.sel = (uint16_t)t->word[LDT]};

    hvm_ops->set_segment(t->v, HVM_LDTR, &ldt);
    for (unsigned i = HVM_ES; i <= HVM_GS; i++) {
        struct hvm_segment s = {.sel = (uint16_t)t->word[SEGS + i], .attr = (uint16_t)(cpl << 5)};

        if (virtual) {
            s.attr = SEG_PRESENT | 3u << 5 | SEG_ORDINARY | SEG_USABLE | SEG_ACCESSED;
            s.base = (uint32_t)s.sel << 4;
            s.limit = 0xffff;
        }
        hvm_ops->set_segment(t->v, (enum hvm_seg)i, &s);
    }
}

static bool load_segments(const struct task *t)
{
    static const uint8_t order[] = {HVM_CS, HVM_SS, HVM_ES, HVM_DS, HVM_FS, HVM_GS};
    bool virtual = hvm_get(t->v, HVM_RFLAGS) & EFLAGS_VM;
    unsigned cpl = virtual ? 3 : t->word[SEGS + HVM_CS] & 3;
    struct hvm_segment cs;

    set_selectors(t, virtual, cpl);
    if (!load_ldt(t, (uint16_t)t->word[LDT]))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(order) && !virtual; i++)
        if (!load_segment(t, (enum hvm_seg)order[i], cpl))
            return false;
    hvm_ops->get_segment(t->v, HVM_CS, &cs);
    return t->word[IP] <= cs.limit || fault(t, TRAP_GP, 0);
}

/* --- what an exception brings along --- */

static bool push(const struct task *t, uint32_t error)
{
    uint64_t sp = hvm_get(t->v, HVM_RSP), end;
    unsigned bytes = t->wide ? 4 : 2;
    struct hvm_segment ss;
    struct guest_paging p;
    struct copy_fault f;
    uint32_t mask, to;

    hvm_ops->get_segment(t->v, HVM_SS, &ss);
    mask = ss.attr & SEG_BIG ? ~0u : 0xffff;
    to = (uint32_t)(sp - bytes) & mask;
    end = (uint64_t)to + bytes - 1;
    if (ss.attr & SEG_DOWN ? to <= ss.limit || end > mask : end > ss.limit)
        return fault(t, TRAP_SS, 0);
    hvm_paging(t->v, &p);
    if (!done(t, guest_linear_out(t->v, &p, (uint32_t)(ss.base + to), &error, bytes, hvm_walk_user(t->v), &f),
              &f))
        return false;
    hvm_set(t->v, HVM_RSP, (sp & ~(uint64_t)mask) | to);
    return true;
}

/* --- all of it --- */

/* Behind the instruction that asked. False: it is not there any more. */
static bool old_ip(const struct task *t, uint32_t *ip)
{
    struct emul e = {.bits = (uint8_t)hvm_code_bits(t->v)};
    unsigned length = 0;

    if (t->by != HVM_TASK_EVENT) {
        e.code_bytes = (uint8_t)hvm_fetch(t->v, e.code);
        length = emul_task_length(&e);
        /* An INT3 that a device model asks for is at no instruction. */
        if (!length && t->by != HVM_TASK_SOFT)
            return false;
    }
    *ip = (uint32_t)(hvm_get(t->v, HVM_RIP) + length);
    return true;
}

enum hvm_verdict hvm_task_switch(struct vcpu *v, const struct hvm_exit *x)
{
    struct task t = {.v = v, .by = x->task.by, .external = x->task.by == HVM_TASK_EVENT};
    uint32_t ip;

    if (hvm_get(v, HVM_EFER) & EFER_LMA || !(hvm_get(v, HVM_CR0) & CR0_PE))
        return HVM_GP; /* the processor does not get here */
    if (!old_ip(&t, &ip) || !find_task(&t, x->task.selector) || !leave_task(&t, ip, x->task.rf))
        return HVM_RESUME;
    load_registers(&t);
    if (!load_segments(&t) || (x->task.has_error && !push(&t, x->task.error)))
        return HVM_RESUME;
    if (t.trap) {
        hvm_set(v, HVM_DR6, hvm_get(v, HVM_DR6) | DR6_BT);
        hvm_exception(v, TRAP_DB, false, 0);
    }
    return HVM_RESUME;
}
