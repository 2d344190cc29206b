/*
 * CR4 where the processor has features that no guest is shown: a bit that a guest could set there would give it state that nobody
 * switches (protection keys, shadow stacks). Elsewhere the guest writes CR4 without leaving.
 */
#include "private.h"
#include "x86/regs.h"

#define CR4_FLUSHES (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP)

/* MOV to CR4: 0f 22, ModRM with 4 in its middle; REX before it names the upper registers. */
static bool decode(struct vcpu *v, uint64_t *value, unsigned *length)
{
    uint8_t code[15] = {0}, rex = 0;
    unsigned at = 0;

    if (hvm_fetch(v, code) < 4)
        return false;
    if (hvm_is_64(v) && (code[0] & 0xf0) == 0x40)
        rex = code[at++];
    if (code[at] != 0x0f || code[at + 1] != 0x22 || (code[at + 2] >> 3 & 7) != 4 || rex & 4)
        return false;
    *value = hvm_read_register(v, (code[at + 2] & 7u) | (rex & 1u) << 3);
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

enum hvm_verdict hvm_cr4(struct vcpu *v, const struct hvm_exit *x)
{
    uint64_t value, old = hvm_get(v, HVM_CR4);
    unsigned length;

    if (!decode(v, &value, &length))
        return HVM_UD;
    if (!allowed(v, value))
        return HVM_GP;
    hvm_set(v, HVM_CR4, value);
    if ((value ^ old) & CR4_FLUSHES)
        hvm_ops->flush(v);
    hvm_advance(v, length);
    return HVM_RESUME;
}
