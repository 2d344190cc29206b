/*
 * Ports. A guest without emulated devices finds nothing at any port: reads give all ones, writes go nowhere. But port 0xe9, where
 * early code of many systems writes text: it goes where CONSOLEIO_write's goes.
 */
#include "private.h"
#include "core/console_io.h"

#define PORT_TEXT     0xe9
#define STRING_BUDGET 64u /* elements per exit */

static enum hvm_verdict plain(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);

    if (!x->io.in) {
        const char c = (char)r->rax;

        if (x->io.port == PORT_TEXT && x->io.bytes == 1)
            console_guest_text(v->domain, &c, 1);
    } else if (x->io.bytes == 4) {
        r->rax = 0xffffffff;
    } else {
        r->rax |= x->io.bytes == 2 ? 0xffff : 0xff;
    }
    return HVM_NEXT;
}

static void set_masked(uint64_t *reg, uint64_t value, uint64_t mask)
{
    *reg = mask == 0xffffffff ? (uint32_t)value : (*reg & ~mask) | (value & mask);
}

/* INS: the element read from a port without a device goes to ES:rDI. */
static bool store_ones(struct vcpu *v, uint64_t offset, unsigned bytes)
{
    static const uint32_t ones = ~0u;
    struct guest_paging p;
    struct copy_fault f;
    struct hvm_segment es;

    hvm_ops->get_segment(v, HVM_ES, &es);
    hvm_paging(v, &p);
    switch (guest_linear_out(v, &p, (hvm_is_64(v) ? 0 : es.base) + offset, &ones, bytes,
                             hvm_ops->cpl(v) == 3 ? WALK_USER : 0, &f)) {
    case COPY_OK:
        return true;
    case COPY_FAULT:
        hvm_page_fault(v, f.address, f.error);
        return false;
    default:
        return true; /* into another hole */
    }
}

static enum hvm_verdict string(struct vcpu *v, const struct hvm_exit *x)
{
    struct guest_regs *r = vcpu_regs(v);
    uint64_t mask = hvm_mask(x->io.address_bytes), count = x->io.rep ? r->rcx & mask : 1;
    uint64_t *index = x->io.in ? &r->rdi : &r->rsi;
    uint64_t step = hvm_get(v, HVM_RFLAGS) & EFLAGS_DF ? -(uint64_t)x->io.bytes : x->io.bytes;

    for (unsigned i = 0; count && i < STRING_BUDGET; i++, count--) {
        if (x->io.in && !store_ones(v, *index & mask, x->io.bytes))
            return HVM_RESUME;
        set_masked(index, *index + step, mask);
        if (x->io.rep)
            set_masked(&r->rcx, count - 1, mask);
    }
    return count ? HVM_RESUME : HVM_NEXT;
}

enum hvm_verdict hvm_io(struct vcpu *v, const struct hvm_exit *x)
{
    return x->io.string ? string(v, x) : plain(v, x);
}
