/* The guest-copy seam (include/core/guest.h): through the guest kind's ops, with the array arithmetic checked once. */
#include "core/guest.h"
#include "core/domain.h"
#include "arch/guest_ops.h"

int guest_read(struct vcpu *caller, void *to, gva_t from, size_t bytes)
{
    return caller->domain->ops->copy_in(caller, to, from, bytes) ? 0 : -EFAULT;
}

int guest_write(struct vcpu *caller, gva_t to, const void *from, size_t bytes)
{
    return caller->domain->ops->copy_out(caller, to, from, bytes) ? 0 : -EFAULT;
}

int guest_zero(struct vcpu *caller, gva_t to, size_t bytes)
{
    return caller->domain->ops->zero(caller, to, bytes) ? 0 : -EFAULT;
}

/* Address of element i; false when it wraps. */
static bool element(gva_t array, uint64_t i, size_t bytes, gva_t *out)
{
    uint64_t off;

    return !__builtin_mul_overflow(i, (uint64_t)bytes, &off) &&
           !__builtin_add_overflow(array.a, off, &out->a);
}

int guest_read_at(struct vcpu *caller, void *to, gva_t array, uint64_t i, size_t bytes)
{
    gva_t at;

    return element(array, i, bytes, &at) ? guest_read(caller, to, at, bytes) : -EFAULT;
}

int guest_write_at(struct vcpu *caller, gva_t array, uint64_t i, const void *from, size_t bytes)
{
    gva_t at;

    return element(array, i, bytes, &at) ? guest_write(caller, at, from, bytes) : -EFAULT;
}
