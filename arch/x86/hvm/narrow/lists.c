/*
 * Operations with lists of frame numbers, which are 4 bytes long for a 32-bit kernel, and multicall. A list is translated in pieces of
 * CHUNK, each a call of the handler's; between two of them the call may be preempted.
 */
#include "private.h"
#include "core/guest.h"
#include "core/work.h"

#define CHUNK       64u
#define EXTENT_MASK ((1u << MEMOP_EXTENT_SHIFT) - 1)

/* n numbers of the guest's list from element `first` on. */
static int list_read(struct narrow *n, uint64_t *out, uint32_t list, uint32_t first, uint32_t count)
{
    uint32_t part[CHUNK];
    uint64_t at = list + (uint64_t)first * sizeof(part[0]);

    if (at >> 32 || guest_read(n->caller, part, GVA(at), count * sizeof(part[0])))
        return -EFAULT;
    for (uint32_t i = 0; i < count; i++)
        out[i] = part[i];
    return 0;
}

static int list_write(struct narrow *n, const uint64_t *in, uint32_t list, uint32_t first, uint32_t count)
{
    uint32_t part[CHUNK];
    uint64_t at = list + (uint64_t)first * sizeof(part[0]);

    for (uint32_t i = 0; i < count; i++)
        part[i] = (uint32_t)in[i];
    return at >> 32 ? -EFAULT : guest_write(n->caller, GVA(at), part, count * sizeof(part[0]));
}

static long go_on(struct narrow *n, uint32_t done)
{
    n->arg[0] = (n->arg[0] & EXTENT_MASK) | done << MEMOP_EXTENT_SHIFT;
    return HC_AGAIN;
}

/* --- increase, decrease, populate: the result is the number of extents done --- */

struct reservation {
    struct xen_memory_reservation r;
    uint64_t list[CHUNK];
};

/* `count` extents from `first` on; how many were done, an error, or HC_AGAIN with *done set. */
static long reservation_part(struct narrow *n, const struct narrow_reservation *a, uint32_t first,
                             uint32_t count, uint32_t *done)
{
    bool results = (n->arg[0] & EXTENT_MASK) != XENMEM_decrease_reservation;
    struct reservation w = {.r = {.nr_extents = count,
                                  .extent_order = a->extent_order,
                                  .mem_flags = a->mem_flags,
                                  .domid = a->domid}};
    struct narrow part = *n;
    struct hypercall hc;
    long r;

    *done = 0;
    if (a->extent_start) {
        if (list_read(n, w.list, a->extent_start, first, count))
            return -EFAULT;
        set_xen_guest_handle(w.r.extent_start, narrow_address(offsetof(struct reservation, list)));
    }
    part.arg[0] &= EXTENT_MASK;
    r = narrow_native(&part, &hc, 1, &w, sizeof(w));
    *done = r == HC_AGAIN ? (uint32_t)(hc.arg[0] >> MEMOP_EXTENT_SHIFT) : r > 0 ? (uint32_t)r : 0;
    if (*done > count)
        *done = count;
    if (*done && results && a->extent_start && list_write(n, w.list, a->extent_start, first, *done))
        return -EFAULT;
    return r;
}

long narrow_reservation(struct narrow *n)
{
    struct narrow_reservation a;
    uint32_t done = n->arg[0] >> MEMOP_EXTENT_SHIFT, now, count;

    if (guest_read(n->caller, &a, GVA(n->arg[1]), sizeof(a)))
        return done ? (long)done : -EFAULT;
    if (a.nr_extents >> (32 - MEMOP_EXTENT_SHIFT))
        return done;
    while (done < a.nr_extents) {
        long r;

        count = MIN(a.nr_extents - done, CHUNK);
        r = reservation_part(n, &a, done, count, &now);
        if (r == -EFAULT && count > 1) { /* the list may end within the piece */
            count = 1;
            r = reservation_part(n, &a, done, count, &now);
        }
        done += now;
        if (r < 0 && r != HC_AGAIN)
            return done ? (long)done : r;
        if (r != HC_AGAIN && now < count)
            break;
        if (done < a.nr_extents && (r == HC_AGAIN || preempt_needed()))
            return go_on(n, done);
    }
    return done;
}

/* --- add_to_physmap_batch --- */

struct batch {
    struct xen_add_to_physmap_batch b;
    uint64_t idx[CHUNK], gpfn[CHUNK];
};

static long batch_part(struct narrow *n, const struct narrow_add_to_physmap_batch *a, uint32_t first,
                       uint32_t count, uint32_t *done)
{
    struct batch w = {.b = {.domid = a->domid, .space = a->space, .size = (uint16_t)count}};
    struct narrow part = *n;
    struct hypercall hc;
    long r;

    *done = 0;
    w.b.u.res0 = a->u;
    if (list_read(n, w.idx, a->idxs, first, count) || list_read(n, w.gpfn, a->gpfns, first, count))
        return -EFAULT;
    set_xen_guest_handle(w.b.idxs, narrow_address(offsetof(struct batch, idx)));
    set_xen_guest_handle(w.b.gpfns, narrow_address(offsetof(struct batch, gpfn)));
    set_xen_guest_handle(w.b.errs, (int *)(uintptr_t)(a->errs + (uint64_t)first * sizeof(int)));
    part.arg[0] &= EXTENT_MASK;
    r = narrow_native(&part, &hc, 1, &w, sizeof(w));
    *done = r == HC_AGAIN ? (uint32_t)(hc.arg[0] >> MEMOP_EXTENT_SHIFT) : count;
    return r;
}

long narrow_physmap_batch(struct narrow *n)
{
    struct narrow_add_to_physmap_batch a;
    uint32_t done = n->arg[0] >> MEMOP_EXTENT_SHIFT, now;

    if (guest_read(n->caller, &a, GVA(n->arg[1]), sizeof(a)))
        return -EFAULT;
    if (done > a.size)
        return -EINVAL;
    do {
        long r = batch_part(n, &a, done, MIN(a.size - done, CHUNK), &now);

        if (r && r != HC_AGAIN)
            return r;
        done += now;
        if (done < a.size && (r == HC_AGAIN || preempt_needed()))
            return go_on(n, done);
    } while (done < a.size);
    return 0;
}

/* --- multicall --- */

static long multicall_one(struct narrow *outer, uint64_t at)
{
    struct narrow_multicall e;
    struct narrow n = {.caller = outer->caller, .in_multicall = true};
    long r;

    if (at >> 32 || guest_read(outer->caller, &e, GVA(at), sizeof(e)))
        return -EFAULT;
    n.nr = e.op;
    for (unsigned i = 0; i < 6; i++)
        n.arg[i] = e.args[i];
    r = n.nr == __HYPERVISOR_multicall ? -EINVAL : narrow_dispatch(&n);
    if (r == HC_NO_RESULT)
        return r;
    if (r == HC_AGAIN) {
        for (unsigned i = 0; i < 6; i++)
            e.args[i] = n.arg[i];
        return guest_write(outer->caller, GVA(at), &e, sizeof(e)) ? -EFAULT : r;
    }
    e.result = (uint32_t)r;
    return guest_write(outer->caller, GVA(at + offsetof(struct narrow_multicall, result)), &e.result,
                       sizeof(e.result));
}

long narrow_multicall(struct narrow *n)
{
    uint32_t count = n->arg[1];

    for (uint32_t i = 0; i < count; i++) {
        long r = multicall_one(n, n->arg[0] + (uint64_t)i * sizeof(struct narrow_multicall));

        if (r == -EFAULT || r == HC_NO_RESULT)
            return r;
        if (r != HC_AGAIN && (i + 1 == count || !preempt_needed()))
            continue;
        i += r != HC_AGAIN;
        n->arg[0] += i * (uint32_t)sizeof(struct narrow_multicall);
        n->arg[1] = count - i;
        return HC_AGAIN;
    }
    return 0;
}
