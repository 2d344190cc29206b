/*
 * Hypercall dispatch and multicall.
 *
 * Invariants
 *  1. Nothing runs on behalf of a guest before its row's permission was checked here.
 *  2. A multicall never nests: an entry that is itself a multicall gets -EINVAL.
 *  3. A preempted entry has its arguments written back into the guest's list before the multicall itself returns HC_AGAIN,
 *     so executing it again goes on with that entry.
 * Locks: none.
 */
#include "arch/guest_ops.h"
#include "core/hypercall.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/nospec.h"
#include "core/perf.h"
#include "core/trace.h"
#include "core/work.h"
#include "private.h"

#define NR_MAX 64

/* What dispatching needs of a row (struct hc_entry), by number. All zero: no such hypercall, which is -ENOSYS. */
struct hc_row {
    hc_fn fn;
    const struct hc_op *ops;
    uint32_t op_count, op_mask;
    enum hc_perm perm;
    int unknown;
};
static struct hc_row by_number[NR_MAX];
static uint64_t known; /* a bit per number that has a row */

static void table_add(const struct hc_entry *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        BUG_ON(t[i].nr >= NR_MAX || known >> t[i].nr & 1);
        known |= 1ull << t[i].nr;
        by_number[t[i].nr] = (struct hc_row){.fn = t[i].fn,
                                             .ops = t[i].ops,
                                             .op_count = t[i].ops ? *t[i].op_count : 0,
                                             .op_mask = t[i].op_mask ? t[i].op_mask : ~0u,
                                             .perm = t[i].perm,
                                             .unknown = t[i].unknown};
    }
}

void hypercall_init(void)
{
    table_add(core_hypercalls, core_hypercall_count);
    table_add(arch_hypercalls, arch_hypercall_count);
}

static bool permitted(const struct vcpu *caller, enum hc_perm perm)
{
    if (likely(perm == PERM_ANY || perm == PERM_TARGET))
        return true;
    if (perm == PERM_CONTROL)
        return caller->domain->privileged;
    if (perm == PERM_PV)
        return !caller->domain->ops->translated;
    return perm == PERM_HARDWARE && caller->domain->hardware;
}

static long not_permitted(enum hc_perm perm)
{
    return perm == PERM_PV ? -ENOSYS : -EPERM;
}

static long refuse(int code)
{
    return -(code ? code : ENOSYS);
}

/* A row is at its own index in most tables, else it is searched. */
static inline const struct hc_op *op_find(const struct hc_op *ops, unsigned count, uint32_t nr)
{
    const struct hc_op *op;

    if (nr < count) {
        op = &ops[array_index(nr, count)];
        if (likely(op->nr == nr))
            return op;
    }
    for (op = ops; op < ops + count; op++)
        if (op->nr == nr)
            return op;
    return NULL;
}

/* 0 and the row, or the refusal; unknown: of a number that no row has. */
static inline long choose(const struct vcpu *caller, const struct hc_op *ops, unsigned count, uint32_t nr,
                          int unknown, const struct hc_op **out)
{
    const struct hc_op *op = op_find(ops, count, nr);

    if (!op)
        return refuse(unknown);
    if (!permitted(caller, op->perm))
        return not_permitted(op->perm);
    *out = op;
    return op->fn ? 0 : refuse(op->refused);
}

long hc_op_choose(const struct vcpu *caller, const struct hc_op *ops, unsigned count, uint32_t nr,
                  const struct hc_op **out)
{
    return choose(caller, ops, count, nr, ENOSYS, out);
}

static long run_op(struct hypercall *hc, const struct hc_row *e)
{
    const struct hc_op *op;
    long r = choose(hc->caller, e->ops, e->op_count, hc_u32(hc, 0) & e->op_mask, e->unknown, &op);

    return r ? r : op->fn(hc);
}

/* TRC_PV_HYPERCALL_V2: the number, and the first arguments in 64 bits each, whether the call has them or not. */
static __attribute__((noinline)) void trace_hypercall(const struct hypercall *hc)
{
    uint32_t words[TRACE_WORDS] = {(uint32_t)hc->nr};
    unsigned n = 1;

    for (unsigned i = 0; n + 2 <= TRACE_WORDS; i++) {
        words[0] |= TRC_PV_HYPERCALL_V2_ARG_64(i);
        words[n++] = (uint32_t)hc->arg[i];
        words[n++] = (uint32_t)(hc->arg[i] >> 32);
    }
    trace_record(hc->in_multicall ? TRC_PV_HYPERCALL_SUBCALL : TRC_PV_HYPERCALL_V2, n, words);
}

static inline long run(struct hypercall *hc, const struct hc_row *e)
{
    if (unlikely(!permitted(hc->caller, e->perm)))
        return not_permitted(e->perm);
    if (e->fn)
        return e->fn(hc);
    return e->ops ? run_op(hc, e) : refuse(e->unknown);
}

/* Apart, so that dispatching needs no stack frame while nothing is traced. */
static __attribute__((noinline)) long run_traced(struct hypercall *hc, const struct hc_row *e)
{
    trace_hypercall(hc);
    return run(hc, e);
}

long hypercall_dispatch(struct hypercall *hc)
{
    const struct hc_row *e;
    uint64_t nr;

    if (unlikely(hc->nr >= NR_MAX))
        return -ENOSYS;
    nr = array_index(hc->nr, NR_MAX);
    e = &by_number[nr];
    perf_count_in(hypercalls, nr);
    return unlikely(trace_mask) ? run_traced(hc, e) : run(hc, e);
}

int hc_borrow(struct hypercall *hc, did_t id, struct domain **out)
{
    struct domain *self = hc->caller->domain;

    *out = NULL; /* a caller may release what is there, whatever this returns */
    if (likely(id.v == DOMID_SELF) || did_eq(id, self->id)) {
        *out = self;
        return 0;
    }
    if (!self->privileged)
        return -EPERM;
    *out = domain_get(id);
    return *out ? 0 : -ESRCH;
}

void hc_release(const struct hypercall *hc, struct domain *d)
{
    if (d != hc->caller->domain)
        domain_put(d);
}

int hc_target(struct hypercall *hc, did_t id, struct domain **out)
{
    int r = hc_borrow(hc, id, out);

    if (!r && *out == hc->caller->domain)
        domain_ref(*out);
    return r;
}

/* One entry: HC_AGAIN / HC_NO_RESULT as hypercall_dispatch, else 0 with the result stored, or -EFAULT. */
static long multicall_one(struct hypercall *outer, gva_t list, uint64_t i)
{
    struct multicall_entry entry;
    const xen_ulong_t *a = entry.args;
    struct hypercall hc;
    gva_t at;
    long r;

    if (__builtin_add_overflow(list.a, i * sizeof(entry), &at.a) ||
        guest_read(outer->caller, &entry, at, sizeof(entry)))
        return -EFAULT;
    hc = (struct hypercall){.caller = outer->caller,
                            .nr = entry.op,
                            .arg = {a[0], a[1], a[2], a[3], a[4], a[5]},
                            .in_multicall = true};
    r = hc.nr == __HYPERVISOR_multicall ? -EINVAL : hypercall_dispatch(&hc);
    if (r == HC_NO_RESULT)
        return r;
    if (r != HC_AGAIN) {
        entry.result = (xen_ulong_t)r;
        return guest_write(outer->caller, GVA(at.a + offsetof(struct multicall_entry, result)), &entry.result,
                           sizeof(entry.result));
    }
    for (unsigned k = 0; k < 6; k++)
        entry.args[k] = hc.arg[k];
    return guest_write(outer->caller, at, &entry, sizeof(entry)) ? -EFAULT : r;
}

/* xen/xen.h multicall_entry; arg: 0 list, 1 count. Preempts between entries. */
long do_multicall(struct hypercall *hc)
{
    gva_t list = GVA(hc->arg[0]);
    uint32_t count = hc_u32(hc, 1);

    for (uint32_t i = 0; i < count; i++) {
        long r = multicall_one(hc, list, i);

        if (r == -EFAULT || r == HC_NO_RESULT)
            return r;
        if (r != HC_AGAIN && (i + 1 == count || !preempt_needed()))
            continue;
        i += r != HC_AGAIN;
        hc->arg[0] += i * sizeof(struct multicall_entry);
        hc->arg[1] = count - i;
        return HC_AGAIN;
    }
    return 0;
}
