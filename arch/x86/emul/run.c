/*
 * One instruction, executed. Each action reads what it needs, computes, writes memory, and only then registers and flags: a function that
 * says EMUL_WAIT or EMUL_FAULT leaves them as they were.
 *
 * Invariants
 *  1. Memory is read before it is written, each operand once, in the same order whenever the instruction runs again.
 */
#include "private.h"

struct work {
    struct emul *e;
    struct insn i;
    uint64_t flags; /* as they will be */
};

/* --- registers --- */

/* AH, CH, DH, BH: without REX, numbers 4 to 7 of one byte. */
static bool high(const struct insn *i, unsigned n, unsigned bytes)
{
    return bytes == 1 && !i->rex && n >= 4 && n < 8;
}

static uint64_t reg_read(const struct work *w, unsigned n, unsigned bytes)
{
    if (high(&w->i, n, bytes))
        return w->e->reg[n - 4] >> 8 & 0xff;
    return w->e->reg[n] & bytes_mask(bytes);
}

/* 32 bits clear the upper half; shorter ones leave the rest. */
static void write_masked(uint64_t *r, uint64_t v, unsigned bytes)
{
    uint64_t mask = bytes_mask(bytes);

    *r = bytes == 4 ? (uint32_t)v : (*r & ~mask) | (v & mask);
}

static void reg_write(struct work *w, unsigned n, unsigned bytes, uint64_t v)
{
    uint64_t *r;

    if (high(&w->i, n, bytes)) {
        r = &w->e->reg[n - 4];
        *r = (*r & ~0xff00ull) | (v & 0xff) << 8;
        return;
    }
    write_masked(&w->e->reg[n], v, bytes);
}

static void add_masked(uint64_t *r, uint64_t n, unsigned bytes)
{
    write_masked(r, *r + n, bytes);
}

/* --- the operand --- */

static enum emul_result load(struct work *w, unsigned bytes, uint64_t *v)
{
    uint64_t both[2] = {0};
    enum emul_result r = w->e->ops->read(w->e, w->i.seg, w->i.offset, bytes, true, both);

    *v = both[0] & bytes_mask(bytes);
    return r;
}

static enum emul_result store(struct work *w, unsigned bytes, uint64_t v)
{
    const uint64_t both[2] = {v & bytes_mask(bytes), 0};

    return w->e->ops->write(w->e, w->i.seg, w->i.offset, bytes, true, both);
}

/* --- arithmetic --- */

static enum emul_result do_alu(struct work *w, unsigned which, uint64_t with, bool to_register)
{
    unsigned bytes = w->i.bytes;
    uint64_t m, v;
    enum emul_result r = load(w, bytes, &m);

    if (r)
        return r;
    v = to_register ? alu(which, with, m, bytes, &w->flags) : alu(which, m, with, bytes, &w->flags);
    if (which == 7)
        return EMUL_DONE;
    if (!to_register)
        return store(w, bytes, v);
    reg_write(w, insn_reg(&w->i), bytes, v);
    return EMUL_DONE;
}

static enum emul_result test(struct work *w, uint64_t with)
{
    uint64_t m;
    enum emul_result r = load(w, w->i.bytes, &m);

    if (!r)
        (void)alu(4, m, with, w->i.bytes, &w->flags);
    return r;
}

static enum emul_result group3(struct work *w)
{
    unsigned which = w->i.modrm >> 3 & 7;
    uint64_t m;
    enum emul_result r;

    if (which < 2)
        return test(w, w->i.constant);
    if (which > 3)
        return EMUL_UNKNOWN;
    r = load(w, w->i.bytes, &m);
    if (r)
        return r;
    return store(w, w->i.bytes, which == 2 ? ~m : alu(5, 0, m, w->i.bytes, &w->flags));
}

static enum emul_result push(struct work *w)
{
    struct emul *e = w->e;
    uint64_t v[2] = {0}, sp = e->reg[RSP];
    enum emul_result r = load(w, w->i.bytes, v);

    if (r)
        return r;
    add_masked(&sp, -(uint64_t)w->i.bytes, e->stack_bytes);
    r = e->ops->write(e, EMUL_SS, sp & bytes_mask(e->stack_bytes), w->i.bytes, false, v);
    if (!r)
        e->reg[RSP] = sp;
    return r;
}

static enum emul_result pop(struct work *w)
{
    struct emul *e = w->e;
    uint64_t v[2] = {0};
    enum emul_result r;

    if (w->i.modrm >> 3 & 7)
        return EMUL_UNKNOWN;
    r = e->ops->read(e, EMUL_SS, e->reg[RSP] & bytes_mask(e->stack_bytes), w->i.bytes, false, v);
    if (!r)
        r = store(w, w->i.bytes, v[0]);
    if (!r)
        add_masked(&e->reg[RSP], w->i.bytes, e->stack_bytes);
    return r;
}

static enum emul_result group5(struct work *w)
{
    unsigned which = w->i.modrm >> 3 & 7;
    uint64_t m;
    enum emul_result r;

    if (which == 6 && w->i.opcode == 0xff && !w->i.lock)
        return push(w);
    if (which > 1)
        return EMUL_UNKNOWN;
    r = load(w, w->i.bytes, &m);
    return r ? r : store(w, w->i.bytes, alu_step(which, m, w->i.bytes, &w->flags));
}

/* --- moves --- */

static enum emul_result mov_rm(struct work *w, unsigned n)
{
    uint64_t m;
    enum emul_result r = load(w, w->i.bytes, &m);

    if (!r)
        reg_write(w, n, w->i.bytes, m);
    return r;
}

static enum emul_result extend(struct work *w, unsigned from, bool sign)
{
    uint64_t m;
    enum emul_result r = load(w, from, &m);

    if (!r)
        reg_write(w, insn_reg(&w->i), w->i.bytes, sign ? sign_extend(m, from) : m);
    return r;
}

static enum emul_result cmov(struct work *w)
{
    unsigned n = insn_reg(&w->i);
    uint64_t m;
    enum emul_result r = load(w, w->i.bytes, &m);

    if (!r)
        reg_write(w, n, w->i.bytes, alu_condition(w->i.opcode & 15, w->flags) ? m : w->e->reg[n]);
    return r;
}

/* --- exchanges: XCHG, XADD, CMPXCHG --- */

static enum emul_result exchange(struct work *w, bool add)
{
    unsigned n = insn_reg(&w->i), bytes = w->i.bytes;
    uint64_t m, v = reg_read(w, n, bytes);
    enum emul_result r = load(w, bytes, &m);

    if (!r)
        r = store(w, bytes, add ? alu(0, m, v, bytes, &w->flags) : v);
    if (!r)
        reg_write(w, n, bytes, m);
    return r;
}

static enum emul_result cmpxchg(struct work *w)
{
    unsigned bytes = w->i.bytes;
    uint64_t m, accumulator = w->e->reg[RAX] & bytes_mask(bytes);
    enum emul_result r = load(w, bytes, &m);

    if (r)
        return r;
    (void)alu(7, accumulator, m, bytes, &w->flags);
    if (w->flags & FLAG_ZF)
        return store(w, bytes, reg_read(w, insn_reg(&w->i), bytes));
    r = store(w, bytes, m); /* as the processor does: always written */
    if (!r)
        reg_write(w, RAX, bytes, m);
    return r;
}

/* --- bits --- */

/* which: 0 BT, 1 BTS, 2 BTR, 3 BTC. */
static enum emul_result bit(struct work *w, unsigned which, unsigned n)
{
    uint64_t m, one = 1ull << n;
    enum emul_result r = load(w, w->i.bytes, &m);

    if (r)
        return r;
    w->flags = (w->flags & ~FLAG_CF) | (m >> n & 1);
    if (!which)
        return EMUL_DONE;
    return store(w, w->i.bytes, which == 1 ? m | one : which == 2 ? m & ~one : m ^ one);
}

/* The register's number may lead anywhere around the operand. */
static enum emul_result bit_register(struct work *w)
{
    unsigned bits = w->i.bytes * 8u;
    int64_t n = (int64_t)sign_extend(w->e->reg[insn_reg(&w->i)], w->i.bytes);
    int64_t away = (n - (n & (bits - 1))) / 8;

    w->i.offset = (w->i.offset + (uint64_t)away) & bytes_mask(w->i.address_bytes);
    return bit(w, w->i.opcode >> 3 & 3, (unsigned)n & (bits - 1));
}

static enum emul_result bit_constant(struct work *w)
{
    unsigned which = w->i.modrm >> 3 & 7;

    if (which < 4 || (which == 4 && w->i.lock))
        return EMUL_UNKNOWN;
    return bit(w, which & 3, (unsigned)w->i.constant & (w->i.bytes * 8u - 1));
}

/* --- vectors --- */

static enum emul_result vector_move(struct work *w, bool is_load)
{
    struct emul *e = w->e;
    unsigned n = insn_reg(&w->i), bytes = w->i.bytes;
    uint64_t v[2] = {0};
    enum emul_result r;

    if (!e->ops->vector(e, n, false, v))
        return EMUL_UNKNOWN;
    if (!is_load)
        return e->ops->write(e, w->i.seg, w->i.offset, bytes, true, v);
    v[0] = v[1] = 0;
    r = e->ops->read(e, w->i.seg, w->i.offset, bytes, true, v);
    v[0] &= bytes_mask(bytes);
    if (!r)
        (void)e->ops->vector(e, n, true, v);
    return r;
}

/* --- strings --- */

enum string { MOVS = 0xa4, CMPS = 0xa6, STOS = 0xaa, LODS = 0xac, SCAS = 0xae };

static enum emul_result element(struct work *w, enum string s, uint64_t from, uint64_t to)
{
    struct emul *e = w->e;
    uint64_t v[2] = {e->reg[RAX] & bytes_mask(w->i.bytes), 0}, m[2] = {0};
    enum emul_result r = EMUL_DONE;
    unsigned bytes = w->i.bytes;

    if (s == MOVS || s == CMPS || s == LODS)
        r = e->ops->read(e, w->i.seg, from, bytes, false, v);
    if (!r && (s == CMPS || s == SCAS))
        r = e->ops->read(e, EMUL_ES, to, bytes, false, m);
    if (!r && (s == MOVS || s == STOS))
        r = e->ops->write(e, EMUL_ES, to, bytes, false, v);
    if (r)
        return r;
    if (s == LODS)
        reg_write(w, RAX, bytes, v[0]);
    else if (s == CMPS || s == SCAS)
        (void)alu(7, v[0], m[0], bytes, &w->flags);
    return EMUL_DONE;
}

static void advance(struct work *w, enum string s, uint64_t n)
{
    struct emul *e = w->e;
    uint64_t by = (w->flags & FLAG_DF ? -(uint64_t)w->i.bytes : w->i.bytes) * n;

    if (s == MOVS || s == CMPS || s == LODS)
        add_masked(&e->reg[RSI], by, w->i.address_bytes);
    if (s != LODS)
        add_masked(&e->reg[RDI], by, w->i.address_bytes);
    if (w->i.repeat)
        add_masked(&e->reg[RCX], -n, w->i.address_bytes);
    e->rflags = w->flags;
}

static bool over(const struct work *w, enum string s)
{
    if (!w->i.repeat || !(w->e->reg[RCX] & bytes_mask(w->i.address_bytes)))
        return true;
    return (s == CMPS || s == SCAS) && !(w->flags & FLAG_ZF) == (w->i.repeat == 0xf3);
}

/* *many: the device may do more at once when it is asked anew. */
static enum emul_result one_round(struct work *w, enum string s, uint64_t left, bool *many)
{
    struct emul *e = w->e;
    uint64_t mask = bytes_mask(w->i.address_bytes), from = e->reg[RSI] & mask, to = e->reg[RDI] & mask, n = 0;
    bool down = w->flags & FLAG_DF;
    enum emul_result r = EMUL_DONE;

    left = MIN(left, string_straight(to, mask, w->i.bytes, down));
    if (s == MOVS)
        left = MIN(left, string_straight(from, mask, w->i.bytes, down));
    if (left > 1 && (s == MOVS || s == STOS)) {
        n = left;
        r = e->ops->many(e, s == STOS, w->i.seg, from, to, w->i.bytes, down,
                         e->reg[RAX] & bytes_mask(w->i.bytes), &n);
    }
    if (!r && !n)
        r = element(w, s, from, to);
    *many = n;
    if (!r)
        advance(w, s, n ? n : 1);
    return r;
}

static enum emul_result string(struct work *w, unsigned rounds)
{
    struct emul *e = w->e;
    enum string s = (enum string)(w->i.opcode & 0xfe);
    uint64_t mask = bytes_mask(w->i.address_bytes);
    bool many;

    if (w->i.repeat && !(e->reg[RCX] & mask))
        return EMUL_DONE;
    for (;;) {
        enum emul_result r = one_round(w, s, w->i.repeat ? e->reg[RCX] & mask : 1, &many);

        if (r)
            return r;
        if (over(w, s))
            return EMUL_DONE;
        e->ops->round(e);
        if (many || !--rounds)
            return EMUL_PART;
    }
}

/* --- which --- */

static enum emul_result execute(struct work *w, unsigned rounds)
{
    const struct insn *i = &w->i;
    uint64_t reg = reg_read(w, insn_reg(i), i->bytes > 8 ? 8 : i->bytes);

    switch (i->action) {
    case ALU_MR:
        return do_alu(w, i->opcode >> 3, reg, false);
    case ALU_RM:
        return do_alu(w, i->opcode >> 3, reg, true);
    case GROUP1:
        return do_alu(w, i->modrm >> 3 & 7, i->constant, false);
    case TEST_MR:
        return test(w, reg);
    case XCHG:
        return exchange(w, false);
    case XADD:
        return exchange(w, true);
    case MOV_MR:
        return store(w, i->bytes, reg);
    case MOVNTI:
        return i->bytes < 4 ? EMUL_UNKNOWN : store(w, i->bytes, reg);
    case MOV_RM:
        return mov_rm(w, insn_reg(i));
    case MOV_MI:
        return i->modrm >> 3 & 7 ? EMUL_UNKNOWN : store(w, i->bytes, i->constant);
    case MOV_AM:
        return mov_rm(w, RAX);
    case MOV_MA:
        return store(w, i->bytes, w->e->reg[RAX]);
    case POP_M:
        return pop(w);
    case GROUP3:
        return group3(w);
    case GROUP5:
        return group5(w);
    case MOVSXD:
        return extend(w, i->bytes < 4 ? i->bytes : 4, true);
    case MOVX:
        return extend(w, i->opcode & 1 ? 2 : 1, i->opcode & 8);
    case CMPXCHG:
        return cmpxchg(w);
    case BIT_R:
        return bit_register(w);
    case BIT_I:
        return bit_constant(w);
    case SETCC:
        return store(w, 1, alu_condition(i->opcode & 15, w->flags));
    case CMOV:
        return cmov(w);
    case VECTOR_LOAD:
    case VECTOR_STORE:
        return vector_move(w, i->action == VECTOR_LOAD);
    case STRING:
        return string(w, rounds);
    default:
        return EMUL_UNKNOWN;
    }
}

/* What must not be locked: TEST, CMP and the like write nothing. */
static bool lock_ok(const struct insn *i)
{
    unsigned which = i->modrm >> 3 & 7;

    switch (i->action) {
    case ALU_MR:
        return i->opcode >> 3 != 7;
    case GROUP1:
        return which != 7;
    case GROUP3:
        return which == 2 || which == 3;
    default:
        return true;
    }
}

enum emul_result emul_run(struct emul *e, unsigned rounds)
{
    struct work w = {.e = e, .flags = e->rflags};
    enum emul_result r;

    if (!emul_decode(e, &w.i) || (w.i.lock && !lock_ok(&w.i)))
        return w.i.cut ? EMUL_CUT : EMUL_UNKNOWN;
    r = execute(&w, rounds);
    if (r)
        return r;
    e->rflags = w.flags;
    e->rip += w.i.length;
    if (e->bits != 64)
        e->rip = (uint32_t)e->rip;
    return EMUL_DONE;
}
