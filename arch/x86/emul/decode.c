/*
 * Instructions taken apart (AMD APM vol. 3): prefixes, opcode by table, ModRM and SIB to an offset, constant.
 *
 * Invariants
 *  1. Nothing is read beyond e->code_bytes, and never more than EMUL_INSN_MAX.
 *  2. i->bytes is 1, 2, 4, 8 or 16; the operand of an instruction that has ModRM is in memory.
 */
#include "private.h"

struct cursor {
    const uint8_t *p;
    unsigned left, used;
    bool short_of; /* more was asked than there is */
};

static uint8_t next(struct cursor *c)
{
    if (!c->left) {
        c->short_of = true;
        return 0;
    }
    c->left--;
    c->used++;
    return *c->p++;
}

static uint64_t next_value(struct cursor *c, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)next(c) << (8 * i);
    return v;
}

/* --- opcodes --- */

#define B1   1u /* one byte wide; else as prefixes say, by opcode bit 0 with W */
#define W    2u
#define M    4u  /* has ModRM */
#define I8   8u  /* a constant of one byte, its sign extended */
#define IMM  16u /* a constant of the operation's width, four bytes at most */
#define LOCK 32u /* LOCK is allowed */

struct row {
    uint8_t first, last, action, flags;
};

static const struct row one[] = {
    {0x63, 0x63, MOVSXD, M},
    {0x80, 0x80, GROUP1, B1 | M | I8 | LOCK},
    {0x81, 0x81, GROUP1, M | IMM | LOCK},
    {0x83, 0x83, GROUP1, M | I8 | LOCK},
    {0x84, 0x85, TEST_MR, W | M},
    {0x86, 0x87, XCHG, W | M | LOCK},
    {0x88, 0x89, MOV_MR, W | M},
    {0x8a, 0x8b, MOV_RM, W | M},
    {0x8f, 0x8f, POP_M, M},
    {0xa0, 0xa1, MOV_AM, W},
    {0xa2, 0xa3, MOV_MA, W},
    {0xa4, 0xa7, STRING, W},
    {0xaa, 0xaf, STRING, W},
    {0xc6, 0xc7, MOV_MI, W | M | IMM},
    {0xf6, 0xf7, GROUP3, W | M | LOCK},
    {0xfe, 0xff, GROUP5, W | M | LOCK},
};

static const struct row two[] = {
    {0x10, 0x10, VECTOR_LOAD, M},  {0x11, 0x11, VECTOR_STORE, M}, {0x28, 0x28, VECTOR_LOAD, M},
    {0x29, 0x29, VECTOR_STORE, M}, {0x2b, 0x2b, VECTOR_STORE, M}, {0x40, 0x4f, CMOV, M},
    {0x6e, 0x6f, VECTOR_LOAD, M},  {0x7e, 0x7f, VECTOR_STORE, M}, {0x90, 0x9f, SETCC, B1 | M},
    {0xa3, 0xa3, BIT_R, M},        {0xab, 0xab, BIT_R, M | LOCK}, {0xb0, 0xb1, CMPXCHG, W | M | LOCK},
    {0xb3, 0xb3, BIT_R, M | LOCK}, {0xb6, 0xb7, MOVX, M},         {0xba, 0xba, BIT_I, M | I8 | LOCK},
    {0xbb, 0xbb, BIT_R, M | LOCK}, {0xbe, 0xbf, MOVX, M},         {0xc0, 0xc1, XADD, W | M | LOCK},
    {0xc3, 0xc3, MOVNTI, M},       {0xd6, 0xd6, VECTOR_STORE, M}, {0xe7, 0xe7, VECTOR_STORE, M},
};

static const struct row *find_row(const struct row *r, unsigned n, uint8_t op)
{
    for (; n; n--, r++)
        if (op >= r->first && op <= r->last)
            return r;
    return NULL;
}

/* ADD to CMP: four forms each between 00 and 3b. */
static const struct row *alu_row(uint8_t op)
{
    static const struct row form[4] = {
        {0, 0, ALU_MR, B1 | M | LOCK}, {0, 0, ALU_MR, M | LOCK}, {0, 0, ALU_RM, B1 | M}, {0, 0, ALU_RM, M}};

    return op < 0x40 && (op & 7) < 4 ? &form[op & 3] : NULL;
}

/* --- prefixes --- */

static void read_prefixes(struct cursor *c, unsigned bits, struct insn *i, bool *address, uint8_t *op)
{
    for (;;) {
        uint8_t b = *op = next(c);

        if (b == 0x66)
            i->operand16 = true;
        else if (b == 0x67)
            *address = true;
        else if (b == 0xf0)
            i->lock = true;
        else if (b == 0xf2 || b == 0xf3)
            i->repeat = b;
        else if (b == 0x64 || b == 0x65)
            i->segment = (int8_t)(b - 0x60);
        else if ((b & 0xe7) == 0x26)
            i->segment = bits == 64 ? i->segment : (int8_t)(b >> 3 & 3);
        else
            break;
    }
    if (bits == 64 && (*op & 0xf0) == 0x40) {
        i->rex = *op;
        *op = next(c);
    }
}

/* --- the operand --- */

static uint64_t small_offset(const struct emul *e, struct cursor *c, struct insn *i, bool *stack)
{
    static const int8_t first[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const int8_t second[8] = {RSI, RDI, RSI, RDI, -1, -1, -1, -1};
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    uint64_t at = 0;

    if (!mod && rm == 6)
        return next_value(c, 2);
    *stack = first[rm] == RBP;
    at = e->reg[first[rm]] + (second[rm] >= 0 ? e->reg[second[rm]] : 0);
    if (mod == 1)
        at += sign_extend(next(c), 1);
    else if (mod == 2)
        at += next_value(c, 2);
    return at;
}

static uint64_t sib(const struct emul *e, struct cursor *c, const struct insn *i, unsigned *base, bool *none)
{
    uint8_t s = next(c);
    unsigned index = (s >> 3 & 7u) | (i->rex & 2u) << 2;

    *base = (s & 7u) | (i->rex & 1u) << 3;
    *none = (s & 7) == 5 && !(i->modrm >> 6);
    return index == RSP ? 0 : e->reg[index] << (s >> 6);
}

/* Without what RIP adds: *rip says that it does. */
static uint64_t offset_of(const struct emul *e, struct cursor *c, struct insn *i, bool *stack, bool *rip)
{
    unsigned mod = i->modrm >> 6, base = (i->modrm & 7u) | (i->rex & 1u) << 3;
    bool none = false;
    uint64_t at = 0;

    if (i->address_bytes == 2)
        return small_offset(e, c, i, stack);
    if ((i->modrm & 7) == 4) {
        at = sib(e, c, i, &base, &none);
    } else if (!mod && (i->modrm & 7) == 5) {
        none = true;
        *rip = e->bits == 64;
    }
    if (!none) {
        at += e->reg[base];
        *stack = base == RSP || base == RBP;
        if (base == RSP && i->action == POP_M)
            at += i->bytes; /* as after the pop */
    }
    if (mod == 1)
        at += sign_extend(next(c), 1);
    else if (mod == 2 || none)
        at += sign_extend(next_value(c, 4), 4);
    return at;
}

/* --- widths --- */

static unsigned width(const struct emul *e, const struct insn *i)
{
    if (i->rex & 8)
        return 8;
    return (e->bits == 16) != i->operand16 ? 2 : 4;
}

/* By the prefix that belongs to the opcode: none, 66, f3, f2. 0: not known. */
static unsigned vector_width(const struct insn *i, bool wide)
{
    unsigned p = i->repeat == 0xf3 ? 2 : i->repeat == 0xf2 ? 3 : i->operand16;
    static const uint8_t moves[4] = {16, 16, 4, 8};

    switch (i->opcode) {
    case 0x10:
    case 0x11:
        return moves[p];
    case 0x28:
    case 0x29:
    case 0x2b:
        return p < 2 ? 16 : 0;
    case 0x6f:
    case 0x7f:
        return p == 1 || p == 2 ? 16 : 0;
    case 0xe7:
        return p == 1 ? 16 : 0;
    case 0xd6:
        return p == 1 ? 8 : 0;
    case 0x6e:
        return p == 1 ? (wide ? 8 : 4) : 0;
    default: /* 7e */
        return p == 1 ? (wide ? 8 : 4) : p == 2 ? 8 : 0;
    }
}

static void set_width(const struct emul *e, struct insn *i, const struct row *r)
{
    unsigned w = width(e, i);

    if (r->flags & B1 || (r->flags & W && !(i->opcode & 1)))
        w = 1;
    if (i->action == POP_M || (i->action == GROUP5 && (i->modrm >> 3 & 7) == 6))
        w = e->bits == 64 ? (i->operand16 ? 2 : 8) : w;
    if (i->action == VECTOR_LOAD || i->action == VECTOR_STORE) {
        if (i->opcode == 0x7e && i->repeat == 0xf3)
            i->action = VECTOR_LOAD;
        w = vector_width(i, i->rex & 8);
    }
    i->bytes = (uint8_t)w;
}

/* TEST has a constant, the others of its group have none. */
static unsigned constant_bytes(const struct insn *i, const struct row *r)
{
    if (r->flags & I8)
        return 1;
    if (r->flags & IMM || (i->action == GROUP3 && (i->modrm >> 3 & 7) < 2))
        return i->bytes < 4 ? i->bytes : 4;
    return 0;
}

static bool read_rest(const struct emul *e, struct cursor *c, struct insn *i, const struct row *r)
{
    bool stack = false, rip = false;
    unsigned n;

    if (r->flags & M) {
        i->offset = offset_of(e, c, i, &stack, &rip);
    } else if (i->action == MOV_AM || i->action == MOV_MA) {
        i->offset = next_value(c, i->address_bytes);
    }
    n = constant_bytes(i, r);
    if (n)
        i->constant = sign_extend(next_value(c, n), n);
    i->length = (uint8_t)c->used;
    if (rip)
        i->offset += e->rip + i->length;
    i->offset &= bytes_mask(i->address_bytes);
    i->seg = (uint8_t)(i->segment >= 0 ? i->segment : stack ? EMUL_SS : EMUL_DS);
    i->cut = c->short_of;
    return !c->short_of && i->bytes && (!i->lock || r->flags & LOCK);
}

/* In 16- and 32-bit code. */
unsigned emul_task_length(const struct emul *e)
{
    struct cursor c = {.p = e->code, .left = MIN(e->code_bytes, EMUL_INSN_MAX)};
    struct insn i = {.segment = -1};
    bool address = false, stack, rip;
    uint8_t op;

    read_prefixes(&c, e->bits, &i, &address, &op);
    i.address_bytes = (e->bits == 16) != address ? 2 : 4;
    switch (op) {
    case 0x9a: /* CALL, JMP */
    case 0xea:
        next_value(&c, width(e, &i) + 2);
        break;
    case 0xff:
        i.modrm = next(&c);
        if (i.modrm >> 6 == 3 || ((i.modrm >> 3 & 7) != 3 && (i.modrm >> 3 & 7) != 5))
            return 0;
        offset_of(e, &c, &i, &stack, &rip);
        break;
    case 0xcd:
        next(&c);
        break;
    case 0xcc:
    case 0xce:
    case 0xcf:
        break;
    default:
        return 0;
    }
    return c.short_of ? 0 : c.used;
}

bool emul_decode(const struct emul *e, struct insn *i)
{
    struct cursor c = {.p = e->code, .left = e->code_bytes < EMUL_INSN_MAX ? e->code_bytes : EMUL_INSN_MAX};
    bool address = false, two_bytes;
    const struct row *r;
    uint8_t op;

    *i = (struct insn){.segment = -1};
    read_prefixes(&c, e->bits, i, &address, &op);
    two_bytes = op == 0x0f;
    if (two_bytes)
        op = next(&c);
    i->opcode = op;
    i->address_bytes = e->bits == 64 ? (address ? 4 : 8) : (e->bits == 16) != address ? 2 : 4;
    r = two_bytes ? find_row(two, ARRAY_SIZE(two), op) : alu_row(op);
    if (!r && !two_bytes)
        r = find_row(one, ARRAY_SIZE(one), op);
    i->cut = c.short_of;
    if (!r || c.short_of)
        return false;
    i->action = r->action;
    if (r->flags & M)
        i->modrm = next(&c);
    if ((r->flags & M && i->modrm >> 6 == 3) || (i->action == MOVSXD && e->bits != 64))
        return false;
    set_width(e, i, r);
    return read_rest(e, &c, i, r);
}
