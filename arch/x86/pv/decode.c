/*
 * Decoder of what traps in a PV guest (AMD APM vol. 3 1, Intel SDM vol. 2 2). Pure: bytes in, description
 * out.
 *
 * Invariants
 *  1. No byte beyond buf[n - 1] is read; an instruction never has more than 15 bytes.
 *  2. LOCK, VEX and unknown opcodes are not ours: they stay what they were, an exception for the guest.
 */
#include "decode.h"

struct cursor {
    const uint8_t *buf;
    unsigned n, at, bits;
    const struct guest_regs *r;
    bool opsize, rep, repne, lock, seg_given;
    uint8_t rex;
    bool short_read;
};

static uint8_t next(struct cursor *c)
{
    if (c->at >= c->n || c->at >= PV_INSN_MAX) {
        c->short_read = true;
        return 0;
    }
    return c->buf[c->at++];
}

static int32_t next_signed(struct cursor *c, unsigned bytes)
{
    uint32_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint32_t)next(c) << (8 * i);
    if (bytes == 1)
        return (int8_t)v;
    return bytes == 2 ? (int16_t)v : (int32_t)v;
}

uint64_t *pv_gpr(struct guest_regs *r, unsigned i)
{
    switch (i & 15) {
    case 0:
        return &r->rax;
    case 1:
        return &r->rcx;
    case 2:
        return &r->rdx;
    case 3:
        return &r->rbx;
    case 4:
        return &r->rsp;
    case 5:
        return &r->rbp;
    case 6:
        return &r->rsi;
    case 7:
        return &r->rdi;
    case 8:
        return &r->r8;
    case 9:
        return &r->r9;
    case 10:
        return &r->r10;
    case 11:
        return &r->r11;
    case 12:
        return &r->r12;
    case 13:
        return &r->r13;
    case 14:
        return &r->r14;
    default:
        return &r->r15;
    }
}

static uint64_t reg_value(const struct cursor *c, unsigned i)
{
    return *pv_gpr((struct guest_regs *)(uintptr_t)c->r, i);
}

static void stack_segment(const struct cursor *c, struct pv_insn *out)
{
    if (!c->seg_given)
        out->seg = PVS_SS;
}

/* 16-bit addressing forms. */
static uint64_t address_16(struct cursor *c, uint8_t mod, uint8_t rm, struct pv_insn *out)
{
    static const uint8_t base[8] = {3, 3, 5, 5, 6, 7, 5, 3}, index[8] = {6, 7, 6, 7, 16, 16, 16, 16};
    uint64_t a = 0;

    if (mod == 0 && rm == 6)
        return (uint16_t)next_signed(c, 2);
    a = reg_value(c, base[rm]);
    if (index[rm] < 16)
        a += reg_value(c, index[rm]);
    if (base[rm] == 5)
        stack_segment(c, out);
    if (mod)
        a += (uint64_t)(int64_t)next_signed(c, mod == 1 ? 1 : 2);
    return (uint16_t)a;
}

static uint64_t address_sib(struct cursor *c, uint8_t mod, struct pv_insn *out)
{
    uint8_t sib = next(c), base = (sib & 7) | (c->rex & 1) << 3, index = (sib >> 3 & 7) | (c->rex & 2) << 2;
    uint64_t a = 0;

    if ((sib & 7) == 5 && mod == 0) {
        a = (uint64_t)(int64_t)next_signed(c, 4);
    } else {
        a = reg_value(c, base);
        if (base == 4 || base == 5)
            stack_segment(c, out);
    }
    if (index != 4)
        a += reg_value(c, index) << (sib >> 6);
    return a;
}

/* Reads what follows a ModRM byte with a memory operand. RIP-relative forms are completed by the caller's
 * length: no instruction here has an immediate after its ModRM operand. */
static void memory_operand(struct cursor *c, uint8_t modrm, struct pv_insn *out)
{
    uint8_t mod = modrm >> 6, rm = modrm & 7;
    uint64_t a;

    out->memory = true;
    if (out->addr_bytes == 2) {
        out->addr = address_16(c, mod, rm, out);
        return;
    }
    if (rm == 4) {
        a = address_sib(c, mod, out);
    } else if (rm == 5 && mod == 0) {
        a = (uint64_t)(int64_t)next_signed(c, 4);
        if (c->bits == 64)
            a += c->r->rip + c->at;
    } else {
        uint8_t base = rm | (c->rex & 1) << 3;
        a = reg_value(c, base);
        if (base == 5)
            stack_segment(c, out);
    }
    if (mod == 1)
        a += (uint64_t)(int64_t)next_signed(c, 1);
    else if (mod == 2)
        a += (uint64_t)(int64_t)next_signed(c, 4);
    out->addr = out->addr_bytes == 4 ? (uint32_t)a : a;
}

/* Takes the prefixes; returns the first opcode byte. */
static uint8_t prefixes(struct cursor *c, struct pv_insn *out)
{
    for (;;) {
        uint8_t b = next(c);
        if (c->short_read)
            return 0;
        switch (b) {
        case 0x66:
            c->opsize = true;
            break;
        case 0x67:
            out->addr_bytes = c->bits == 64 ? 4 : c->bits == 32 ? 2 : 4;
            break;
        case 0xf0:
            c->lock = true;
            break;
        case 0xf2:
            c->repne = true;
            break;
        case 0xf3:
            c->rep = true;
            break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            out->seg = b >> 3 & 3;
            c->seg_given = true;
            break;
        case 0x64:
        case 0x65:
            out->seg = b == 0x64 ? PVS_FS : PVS_GS;
            c->seg_given = true;
            break;
        default:
            if (c->bits == 64 && (b & 0xf0) == 0x40) {
                c->rex = b;
                b = next(c);
                if ((b & 0xf0) == 0x40 || b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 || b == 0xf3)
                    c->short_read = true; /* REX not directly before the opcode: rare, not ours */
            }
            return b;
        }
    }
}

static uint8_t default_size(const struct cursor *c)
{
    if (c->rex & 8)
        return 8;
    return (c->bits == 16) != c->opsize ? 2 : 4;
}

static uint8_t io_size(const struct cursor *c)
{
    return (c->bits == 16) != c->opsize ? 2 : 4;
}

static void decode_cr_dr(struct cursor *c, uint8_t opcode, struct pv_insn *out)
{
    uint8_t modrm = next(c);

    out->op = opcode == 0x20   ? PVI_MOV_FROM_CR
              : opcode == 0x21 ? PVI_MOV_FROM_DR
              : opcode == 0x22 ? PVI_MOV_TO_CR
                               : PVI_MOV_TO_DR;
    out->reg = (modrm >> 3 & 7) | (c->rex & 4) << 1;
    out->rm = (modrm & 7) | (c->rex & 1) << 3; /* mod is ignored: always a register */
    out->op_bytes = c->bits == 64 ? 8 : 4;
}

static void decode_0f01(struct cursor *c, struct pv_insn *out)
{
    static const uint8_t memory_op[8] = {PVI_SGDT, PVI_SIDT, 0, 0, PVI_SMSW, 0, PVI_LMSW, PVI_INVLPG};
    uint8_t modrm = next(c), reg = modrm >> 3 & 7;

    if (modrm >= 0xc0) {
        switch (modrm) {
        case 0xd1:
            out->op = PVI_XSETBV;
            return;
        case 0xf8:
            out->op = c->bits == 64 ? PVI_SWAPGS : PVI_NONE;
            return;
        case 0xf9:
            out->op = PVI_RDTSCP;
            return;
        }
        out->rm = (modrm & 7) | (c->rex & 1) << 3;
        if (reg == 4 || reg == 6)
            out->op = reg == 4 ? PVI_SMSW : PVI_LMSW;
        out->op_bytes = reg == 4 ? default_size(c) : 2;
        return;
    }
    if (!memory_op[reg])
        return;
    memory_operand(c, modrm, out);
    out->op = memory_op[reg];
    out->op_bytes = 2;
}

/* SLDT, STR: a register of the operand's size, or two bytes of memory. */
static void decode_0f00(struct cursor *c, struct pv_insn *out)
{
    uint8_t modrm = next(c), reg = modrm >> 3 & 7;

    if (reg > 1)
        return;
    out->op = reg ? PVI_STR : PVI_SLDT;
    out->op_bytes = modrm >= 0xc0 ? default_size(c) : 2;
    if (modrm >= 0xc0)
        out->rm = (modrm & 7) | (c->rex & 1) << 3;
    else
        memory_operand(c, modrm, out);
}

static void decode_0f(struct cursor *c, struct pv_insn *out)
{
    uint8_t b = next(c);

    switch (b) {
    case 0x00:
        decode_0f00(c, out);
        break;
    case 0x01:
        decode_0f01(c, out);
        break;
    case 0x06:
        out->op = PVI_CLTS;
        break;
    case 0x07:
        out->op = PVI_SYSRET;
        break;
    case 0x08:
        out->op = PVI_INVD;
        break;
    case 0x09:
        out->op = PVI_WBINVD;
        break;
    case 0x20:
    case 0x21:
    case 0x22:
    case 0x23:
        decode_cr_dr(c, b, out);
        break;
    case 0x30:
        out->op = PVI_WRMSR;
        break;
    case 0x31:
        out->op = PVI_RDTSC;
        break;
    case 0x32:
        out->op = PVI_RDMSR;
        break;
    case 0x33:
        out->op = PVI_RDPMC;
        break;
    case 0xa2:
        out->op = PVI_CPUID;
        break;
    default:
        break;
    }
}

static void decode_io(struct cursor *c, uint8_t b, struct pv_insn *out)
{
    bool wide = b & 1;

    out->op_bytes = wide ? io_size(c) : 1;
    if (b >= 0x6c && b <= 0x6f) {
        out->op = b < 0x6e ? PVI_INS : PVI_OUTS;
        out->rep = c->rep || c->repne;
        if (out->op == PVI_INS)
            out->seg = PVS_ES; /* cannot be overridden */
        return;
    }
    out->op = b & 2 ? PVI_OUT : PVI_IN;
    out->imm_port = b < 0xe8;
    if (out->imm_port)
        out->port = next(c);
}

bool pv_decode(const uint8_t *buf, unsigned n, unsigned bits, const struct guest_regs *r, struct pv_insn *out)
{
    struct cursor c = {.buf = buf, .n = n, .bits = bits, .r = r};
    uint8_t b;

    *out = (struct pv_insn){.seg = PVS_DS, .addr_bytes = (uint8_t)(bits / 8)};
    b = prefixes(&c, out);
    if (c.short_read || c.lock)
        return false;
    switch (b) {
    case 0x0f:
        decode_0f(&c, out);
        break;
    case 0x6c ... 0x6f:
    case 0xe4 ... 0xe7:
    case 0xec ... 0xef:
        decode_io(&c, b, out);
        break;
    case 0xf4:
        out->op = PVI_HLT;
        break;
    case 0xfa:
        out->op = PVI_CLI;
        break;
    case 0xfb:
        out->op = PVI_STI;
        break;
    default:
        return false;
    }
    out->len = (uint8_t)c.at;
    return !c.short_read && out->op != PVI_NONE;
}
