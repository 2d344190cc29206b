/*
 * The guest-copy seam: the only way to memory that a guest names by virtual address. The caller is the vCPU whose
 * hypercall runs (its address space is the current one for PV). Every call may fault: -EFAULT, nothing assumed copied.
 */
#ifndef CORE_GUEST_H
#define CORE_GUEST_H

#include "core/types.h"

struct vcpu;

int must_check guest_read(struct vcpu *caller, void *to, gva_t from, size_t bytes);
int must_check guest_write(struct vcpu *caller, gva_t to, const void *from, size_t bytes);
int must_check guest_zero(struct vcpu *caller, gva_t to, size_t bytes);
/* Element i of an array whose start the guest gave; -EFAULT also when the address overflows. */
int must_check guest_read_at(struct vcpu *caller, void *to, gva_t array, uint64_t i, size_t bytes);
int must_check guest_write_at(struct vcpu *caller, gva_t array, uint64_t i, const void *from, size_t bytes);

#endif
