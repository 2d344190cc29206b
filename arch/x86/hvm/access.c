/*
 * The one way of every access of a guest to what is no memory: ports, and guest-physical addresses without RAM.
 *
 *   handler -> hvm_access -> Krypton's device -> done
 *                         -> a device model   -> the vCPU waits; the handler runs again when the answer has come
 *                         -> nobody           -> all ones, or dropped
 *
 * Invariants
 *  1. A handler that runs again makes the same accesses as before, in the same order: those that were done already get the answer they
 *     had, and are not made twice. If it makes others (the guest has changed its tables meanwhile), they are new ones.
 */
#include "private.h"
#include "dev/bus.h"

bool hvm_access(struct vcpu *v, struct hvm_access *a)
{
    if (a->write)
        a->value &= hvm_mask(a->bytes);
    if (!hvm_bus_access(v, a))
        a->value = ~0ull;
    if (!a->write)
        a->value &= hvm_mask(a->bytes);
    return true;
}
