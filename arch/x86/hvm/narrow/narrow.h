/*
 * Hypercalls of 32-bit kernels in HVM guests: their structures are made into those that the handlers know, and back (narrow/call.c).
 */
#ifndef HVM_NARROW_H
#define HVM_NARROW_H

#include "core/types.h"

struct vcpu;

struct narrow {
    struct vcpu *caller;
    uint32_t nr;
    uint32_t arg[6]; /* moved on when the result is HC_AGAIN */
    bool in_multicall;
};

/* As hypercall_dispatch. */
long narrow_dispatch(struct narrow *n);

#endif
