/*
 * Control registers that a guest writes without leaving, but for
 *   CR4   where the processor has features that no guest is shown: a bit that a guest could set there would give it state that nobody
 *         switches (protection keys, shadow stacks);
 *   CR8   while an interrupt waits.
 */
#include "private.h"
#include "dev/vlapic.h"
#include "x86/regs.h"

#define CR4_FLUSHES (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP)
#define LOCK        0xf0

/* MOV to a control register: 0f 22, ModRM with its number in the middle; REX right before it names the upper registers. LOCK before the one to
 * CR0 makes it CR8 (AMD APM vol. 3 "MOV CRn"), for modes without REX. Other prefixes mean nothing. */
static bool decode(struct vcpu *v, unsigned number, uint64_t *value, unsigned *length)
{
    uint8_t code[15] = {0}, rex = 0, upper = 0, mod;
    size_t n = hvm_fetch(v, code);
    unsigned at = 0;

    for (; at < sizeof(code) - 3; at++) {
        bool is_rex = hvm_is_64(v) && (code[at] & 0xf0) == 0x40;

        if (code[at] == LOCK)
            upper = 8;
        else if (!is_rex && !hvm_is_prefix(code[at]))
            break;
        rex = is_rex ? code[at] : 0;
    }
    if (at + 3 > n)
        return false;
    mod = code[at + 2];
    upper |= (rex & 4) << 1;
    if (code[at] != 0x0f || code[at + 1] != 0x22 || ((mod >> 3 & 7u) | upper) != number)
        return false;
    *value = hvm_read_register(v, (mod & 7u) | (rex & 1u) << 3);
    if (!hvm_is_64(v))
        *value = (uint32_t)*value;
    *length = at + 3;
    return true;
}

static bool allowed(struct vcpu *v, uint64_t value)
{
    bool lma = hvm_get(v, HVM_EFER) & EFER_LMA;

    if (!hvm_cr4_ok(v, value) || (lma && !(value & CR4_PAE)))
        return false;
    if (value & ~hvm_get(v, HVM_CR4) & CR4_PCIDE)
        return lma && !(hvm_get(v, HVM_CR3) & 0xfff);
    return true;
}

static bool write_cr4(struct vcpu *v, uint64_t value)
{
    uint64_t old = hvm_get(v, HVM_CR4);

    if (!allowed(v, value))
        return false;
    hvm_set(v, HVM_CR4, value);
    if ((value ^ old) & CR4_FLUSHES)
        hvm_ops->flush(v);
    return true;
}

static bool write_cr8(struct vcpu *v, uint64_t value)
{
    if (value > 15)
        return false;
    vlapic_set_tpr(v, (uint8_t)value);
    hvm_attend(v);
    return true;
}

enum hvm_verdict hvm_write_control(struct vcpu *v, const struct hvm_exit *x)
{
    uint64_t value;
    unsigned length;

    if (!decode(v, x->control.number, &value, &length))
        return HVM_UD;
    if (!(x->control.number == 8 ? write_cr8 : write_cr4)(v, value))
        return HVM_GP;
    hvm_advance(v, length);
    return HVM_RESUME;
}
