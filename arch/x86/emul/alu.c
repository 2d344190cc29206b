/* Arithmetic and its flags (AMD APM vol. 3 ch. 3). What is undefined there is as processors have it: AF of logic is 0. */
#include "private.h"

static uint64_t result_flags(uint64_t r, unsigned bytes)
{
    uint64_t f = 0;

    if (!(r & bytes_mask(bytes)))
        f |= FLAG_ZF;
    if (r >> (8 * bytes - 1) & 1)
        f |= FLAG_SF;
    if (!(__builtin_popcount((uint8_t)r) & 1))
        f |= FLAG_PF;
    return f;
}

static uint64_t top(uint64_t v, unsigned bytes)
{
    return v >> (8 * bytes - 1) & 1;
}

static uint64_t add(uint64_t a, uint64_t b, uint64_t carry, unsigned bytes, uint64_t *f)
{
    uint64_t mask = bytes_mask(bytes), r = (a + b + carry) & mask;

    *f = result_flags(r, bytes) | ((a ^ b ^ r) & FLAG_AF);
    if (r < a || (carry && r == a))
        *f |= FLAG_CF;
    if (top((a ^ r) & (b ^ r), bytes))
        *f |= FLAG_OF;
    return r;
}

static uint64_t sub(uint64_t a, uint64_t b, uint64_t borrow, unsigned bytes, uint64_t *f)
{
    uint64_t mask = bytes_mask(bytes), r = (a - b - borrow) & mask;

    *f = result_flags(r, bytes) | ((a ^ b ^ r) & FLAG_AF);
    if (a < b || (borrow && a == b))
        *f |= FLAG_CF;
    if (top((a ^ b) & (a ^ r), bytes))
        *f |= FLAG_OF;
    return r;
}

uint64_t alu(unsigned which, uint64_t a, uint64_t b, unsigned bytes, uint64_t *flags)
{
    uint64_t mask = bytes_mask(bytes), carry = *flags & FLAG_CF, f = 0, r;

    a &= mask;
    b &= mask;
    switch (which) {
    case 0:
        r = add(a, b, 0, bytes, &f);
        break;
    case 2:
        r = add(a, b, carry, bytes, &f);
        break;
    case 3:
        r = sub(a, b, carry, bytes, &f);
        break;
    case 5:
    case 7:
        r = sub(a, b, 0, bytes, &f);
        break;
    default:
        r = which == 1 ? a | b : which == 4 ? a & b : a ^ b;
        f = result_flags(r, bytes);
    }
    *flags = (*flags & ~FLAGS_ALU) | f;
    return r;
}

uint64_t alu_step(bool down, uint64_t a, unsigned bytes, uint64_t *flags)
{
    uint64_t carry = *flags & FLAG_CF, r = alu(down ? 5 : 0, a, 1, bytes, flags);

    *flags = (*flags & ~FLAG_CF) | carry;
    return r;
}

bool alu_condition(unsigned cc, uint64_t f)
{
    bool less = !(f & FLAG_SF) != !(f & FLAG_OF), r = false;

    switch (cc >> 1 & 7) {
    case 0:
        r = f & FLAG_OF;
        break;
    case 1:
        r = f & FLAG_CF;
        break;
    case 2:
        r = f & FLAG_ZF;
        break;
    case 3:
        r = f & (FLAG_CF | FLAG_ZF);
        break;
    case 4:
        r = f & FLAG_SF;
        break;
    case 5:
        r = f & FLAG_PF;
        break;
    case 6:
        r = less;
        break;
    case 7:
        r = less || f & FLAG_ZF;
        break;
    }
    return r != (cc & 1);
}
