/* struct xenctl_bitmap (xen/domctl.h): bytes in the caller's memory, of a length of its own. No locks. */
#include "private.h"
#include "core/guest.h"
#include "lib/string.h"

#define BYTES(bits) ((bits) / 8 + !!((bits) % 8)) /* of any 32-bit number */

int control_bitmap_read(struct vcpu *caller, uint64_t *to, unsigned bits, const struct xenctl_bitmap *from)
{
    unsigned words = (bits + 63) / 64, n = MIN(bits, from->nr_bits);

    memset(to, 0, words * sizeof(*to));
    if (!n)
        return 0;
    if (guest_read(caller, to, HANDLE(from->bitmap), BYTES(n)))
        return -EFAULT;
    if (n % 64)
        to[n / 64] &= (1ull << n % 64) - 1;
    return 0;
}

int control_bitmap_write(struct vcpu *caller, struct xenctl_bitmap *to, const uint64_t *from, unsigned bits)
{
    unsigned bytes = BYTES(to->nr_bits), n = MIN(BYTES(bits), bytes);

    for (unsigned i = 0; i < n; i++) {
        unsigned left = bits - i * 8;
        uint8_t byte = (uint8_t)(from[i / 8] >> (i % 8 * 8));

        if (left < 8)
            byte &= (uint8_t)((1u << left) - 1);
        left = to->nr_bits - i * 8;
        if (left < 8)
            byte &= (uint8_t)((1u << left) - 1);
        if (guest_write_at(caller, HANDLE(to->bitmap), i, &byte, 1))
            return -EFAULT;
    }
    if (n < bytes && guest_zero(caller, GVA(HANDLE(to->bitmap).a + n), bytes - n))
        return -EFAULT;
    return 0;
}
