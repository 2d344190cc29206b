/*
 * IN, OUT, INS, OUTS: from the exit to accesses (access.c) and back into registers or memory.
 */
#include "private.h"
#include "dev/bus.h"
#include "x86/emul.h"

#define WAITS         (~0ull)
#define STRING_BUDGET 64u /* elements per exit */

static void set_masked(uint64_t *reg, uint64_t value, uint64_t mask)
{
    *reg = mask == 0xffffffff ? (uint32_t)value : (*reg & ~mask) | (value & mask);
}

static enum hvm_verdict plain(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);
    struct hvm_access a = {
        .space = HVM_PORT, .address = x->io.port, .bytes = x->io.bytes, .write = !x->io.in, .value = r->rax};

    if (!hvm_access(v, &a))
        return HVM_RESUME;
    if (x->io.in)
        set_masked(&r->rax, a.value, bytes_mask(x->io.bytes));
    return HVM_NEXT;
}

/* --- strings --- */

/*
 * OUTS may have a prefix for its source, either one for the width of addresses. Processors tell the width, software that plays one may
 * not; not every processor tells the segment. Bytes of an address.
 */
static unsigned prefixes(struct vcpu *v, const struct hvm_exit *x, enum hvm_seg *s)
{
    static const uint8_t prefix[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}; /* in the order of numbers */
    bool other = false;
    uint8_t code[15];
    unsigned bits;
    size_t n = 0;

    *s = x->io.in ? HVM_ES : HVM_DS;
    if (!x->io.in || !x->io.address_bytes)
        n = hvm_fetch(v, code);
    for (size_t i = 0; i < n && (code[i] & 0xfc) != 0x6c; i++) {
        other |= code[i] == 0x67;
        for (unsigned k = 0; !x->io.in && k < ARRAY_SIZE(prefix); k++)
            if (code[i] == prefix[k])
                *s = (enum hvm_seg)k;
    }
    if (x->io.address_bytes)
        return x->io.address_bytes;
    bits = hvm_code_bits(v);
    if (bits == 64)
        return other ? 4 : 8;
    return (bits == 16) != other ? 2 : 4;
}

/* Between memory (INS: ES:rDI, OUTS: rSI) and *value. HVM_NEXT: done; else what to do instead. */
static enum hvm_verdict memory(struct vcpu *v, const struct hvm_exit *x, uint64_t linear, uint64_t *value)
{
    struct guest_paging p;
    struct copy_fault f;
    enum copy_result r;

    hvm_paging(v, &p);
    if (x->io.in)
        r = guest_linear_out(v, &p, linear, value, x->io.bytes, hvm_walk_user(v), &f);
    else
        r = guest_linear_in(v, &p, value, linear, x->io.bytes, hvm_walk_user(v), &f);
    if (r == COPY_FAULT) {
        hvm_page_fault(v, f.address, f.error);
        return HVM_RESUME;
    }
    if (r != COPY_OK && !x->io.in)
        *value = ~0ull; /* from one hole into another */
    return HVM_NEXT;
}

/* As the processor does: INS asks its port only when there is room for what it gives. */
static enum hvm_verdict room(struct vcpu *v, const struct hvm_exit *x, uint64_t linear)
{
    uint64_t last = (linear + x->io.bytes - 1) & ~(FRAME_SIZE - 1), gpa;
    struct guest_paging p;
    uint32_t error;

    hvm_paging(v, &p);
    for (uint64_t at = linear;; at = last) {
        if (guest_walk(v, &p, at, WALK_WRITE | hvm_walk_user(v), &gpa, &error) == WALK_FAULT) {
            hvm_page_fault(v, at, error);
            return HVM_RESUME;
        }
        if (at >= last)
            return HVM_NEXT;
    }
}

static enum hvm_verdict element(struct vcpu *v, const struct hvm_exit *x, enum hvm_seg s, uint64_t offset)
{
    struct hvm_access a = {
        .space = HVM_PORT, .address = x->io.port, .bytes = x->io.bytes, .write = !x->io.in};
    uint64_t linear = hvm_linear(v, s, offset);
    enum hvm_verdict verdict;

    if (!hvm_reaches(v, s, offset, x->io.bytes, x->io.in)) {
        hvm_out_of_reach(v, s);
        return HVM_RESUME;
    }
    verdict = x->io.in ? room(v, x, linear) : memory(v, x, linear, &a.value);
    if (verdict == HVM_NEXT && !hvm_access(v, &a))
        verdict = HVM_RESUME;
    if (verdict == HVM_NEXT && x->io.in)
        verdict = memory(v, x, linear, &a.value);
    return verdict;
}

/*
 * Many elements by one request: the device model moves them itself to or from the guest's memory, as far as that lies in one page.
 * How many; 0: one by one; WAITS.
 */
static uint64_t batch(struct vcpu *v, const struct hvm_exit *x, enum hvm_seg s, uint64_t offset,
                      uint64_t count)
{
    struct hvm_access a = {.space = HVM_PORT,
                           .address = x->io.port,
                           .bytes = x->io.bytes,
                           .write = !x->io.in,
                           .down = hvm_get(v, HVM_RFLAGS) & EFLAGS_DF,
                           .pointer = true};

    if (hvm_bus_near(v->domain, HVM_PORT, x->io.port, x->io.port + x->io.bytes - 1u) ||
        !hvm_batch_memory(v, s, offset, x->io.in, &a, count))
        return 0;
    if (!hvm_access(v, &a))
        return WAITS;
    return a.nobody ? 0 : a.count;
}

static enum hvm_verdict string(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);
    enum hvm_seg s;
    uint64_t mask = bytes_mask(prefixes(v, x, &s)), count = x->io.rep ? r->rcx & mask : 1;
    uint64_t *index = x->io.in ? &r->rdi : &r->rsi;
    uint64_t step = hvm_get(v, HVM_RFLAGS) & EFLAGS_DF ? -(uint64_t)x->io.bytes : x->io.bytes;

    for (unsigned i = 0; count && i < STRING_BUDGET; i++) {
        uint64_t at = *index & mask, most = MIN(count, string_straight(at, mask, x->io.bytes, step >> 63));
        uint64_t n = most > 1 ? batch(v, x, s, at, most) : 0;
        enum hvm_verdict verdict = n == WAITS ? HVM_RESUME : n ? HVM_NEXT : element(v, x, s, at);

        if (verdict != HVM_NEXT)
            return verdict;
        n = n ? n : 1;
        set_masked(index, *index + step * n, mask);
        if (x->io.rep)
            set_masked(&r->rcx, count - n, mask);
        count -= n;
        hvm_access_commit(v);
    }
    return count ? HVM_RESUME : HVM_NEXT;
}

enum hvm_verdict hvm_io(struct vcpu *v, const struct hvm_exit *x)
{
    return x->io.string ? string(v, x) : plain(v, x);
}
