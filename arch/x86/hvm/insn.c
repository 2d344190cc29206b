/*
 * MOV, MOVZX, MOVSX, MOVSXD, XCHG with a memory operand, for MMIO (AMD APM vol. 3). The operand's address is not looked at: the nested
 * page fault has told it.
 *
 * Invariants
 *  1. Never reads beyond the n bytes it was given, and never more than INSN_MAX.
 */
#include "insn.h"

struct cursor {
    const uint8_t *p;
    size_t left;
    unsigned used;
    bool short_of; /* more was asked than there is */
};

static uint8_t next(struct cursor *c)
{
    if (!c->left || c->used >= INSN_MAX) {
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

struct prefixes {
    bool operand, address;
    uint8_t rex; /* 0: none */
};

static uint8_t read_prefixes(struct cursor *c, unsigned bits, struct prefixes *p)
{
    for (;;) {
        uint8_t b = next(c);

        switch (b) {
        case 0x66:
            p->operand = true;
            break;
        case 0x67:
            p->address = true;
            break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x64:
        case 0x65:
        case 0xf0: /* XCHG is locked anyway; others fault before they get here */
        case 0xf2:
        case 0xf3:
            break;
        default:
            if (bits != 64 || (b & 0xf0) != 0x40)
                return b;
            p->rex = b;
            b = next(c);
            return b;
        }
        if (c->short_of)
            return 0;
    }
}

static unsigned operand_bytes(const struct prefixes *p, unsigned bits)
{
    if (p->rex & 8)
        return 8;
    return (bits == 16) != p->operand ? 2 : 4;
}

/* ModRM, SIB, displacement. False: the operand is a register. */
static bool skip_address(struct cursor *c, const struct prefixes *p, unsigned bits, uint8_t *modrm)
{
    uint8_t m = *modrm = next(c), mod = m >> 6, rm = m & 7;
    bool small = bits == 16 ? !p->address : bits == 32 && p->address;

    if (mod == 3)
        return false;
    if (small) {
        (void)next_value(c, mod == 1 ? 1 : mod == 2 || (!mod && rm == 6) ? 2 : 0);
        return true;
    }
    if (rm == 4 && (next(c) & 7) == 5 && !mod)
        (void)next_value(c, 4);
    if (!mod && rm == 5)
        (void)next_value(c, 4);
    (void)next_value(c, mod == 1 ? 1 : mod == 2 ? 4 : 0);
    return true;
}

static void set_register(struct hvm_insn *i, const struct prefixes *p, uint8_t modrm)
{
    i->reg = (uint8_t)((modrm >> 3 & 7) | (p->rex & 4 ? 8 : 0));
    i->high = i->bytes == 1 && !i->constant && i->reg_bytes <= 1 && !p->rex && i->reg >= 4;
    if (i->high)
        i->reg -= 4;
}

/* MOVZX, MOVSX: 0f b6, b7, be, bf. */
static bool extended(struct cursor *c, const struct prefixes *p, unsigned bits, struct hvm_insn *i)
{
    uint8_t op = next(c), modrm;

    if (op != 0xb6 && op != 0xb7 && op != 0xbe && op != 0xbf)
        return false;
    i->load = true;
    i->bytes = op & 1 ? 2 : 1;
    i->reg_bytes = (uint8_t)operand_bytes(p, bits);
    i->sign = op & 8;
    if (!skip_address(c, p, bits, &modrm))
        return false;
    set_register(i, p, modrm);
    return true;
}

static bool accumulator(struct cursor *c, const struct prefixes *p, unsigned bits, uint8_t op,
                        struct hvm_insn *i)
{
    unsigned width = bits == 64 ? (p->address ? 4 : 8) : (bits == 16) != p->address ? 2 : 4;

    i->load = !(op & 2);
    i->store = !i->load;
    (void)next_value(c, width);
    i->reg = 0;
    return true;
}

static bool plain(struct cursor *c, const struct prefixes *p, unsigned bits, uint8_t op, struct hvm_insn *i)
{
    uint8_t modrm;

    i->bytes = i->reg_bytes = op & 1 ? (uint8_t)operand_bytes(p, bits) : 1;
    if (op >= 0xa0 && op <= 0xa3)
        return accumulator(c, p, bits, op, i);
    switch (op & 0xfe) {
    case 0x88:
        i->store = true;
        break;
    case 0x8a:
        i->load = true;
        break;
    case 0x86:
        i->load = i->store = true;
        break;
    case 0xc6:
        i->store = i->constant = true;
        break;
    default:
        return false;
    }
    if (!skip_address(c, p, bits, &modrm) || (i->constant && modrm & 0x38))
        return false;
    if (!i->constant) {
        set_register(i, p, modrm);
        return true;
    }
    i->value = next_value(c, MIN(i->bytes, 4));
    if (i->bytes == 8)
        i->value = (uint64_t)(int32_t)i->value;
    return true;
}

static bool movsxd(struct cursor *c, const struct prefixes *p, unsigned bits, struct hvm_insn *i)
{
    uint8_t modrm;

    i->load = i->sign = true;
    i->bytes = 4;
    i->reg_bytes = (uint8_t)operand_bytes(p, bits);
    if (bits != 64 || !skip_address(c, p, bits, &modrm))
        return false;
    set_register(i, p, modrm);
    return true;
}

bool hvm_insn_decode(const uint8_t *code, size_t n, unsigned bits, struct hvm_insn *out)
{
    struct cursor c = {.p = code, .left = n};
    struct prefixes p = {0};
    uint8_t op = read_prefixes(&c, bits, &p);
    bool ok;

    *out = (struct hvm_insn){0};
    if (op == 0x0f)
        ok = extended(&c, &p, bits, out);
    else if (op == 0x63)
        ok = movsxd(&c, &p, bits, out);
    else
        ok = plain(&c, &p, bits, op, out);
    out->length = (uint8_t)c.used;
    return ok && !c.short_of;
}
