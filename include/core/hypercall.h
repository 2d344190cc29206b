/*
 * Hypercall dispatch: one table row per hypercall and per sub-operation. A row names the permission; nothing below
 * checks privilege by hand. docs/hypercalls.md is generated from these tables.
 *
 * Preemption: an operation that has more to do rewrites hc->arg[] so that executing the same hypercall again goes on
 * from there and returns HC_AGAIN. The cursor is thus in the guest's registers: hostile, checked like any argument.
 * 32-bit parameters keep a cursor in the upper half of their register (hc_cursor / hc_set_cursor).
 */
#ifndef CORE_HYPERCALL_H
#define CORE_HYPERCALL_H

#include "core/types.h"

struct vcpu;
struct domain;

#define HC_AGAIN (-0x7fff0000L) /* never returned to a guest */
#define HC_NO_RESULT                                                                                         \
    (-0x7fff0001L) /* the operation has set the guest's registers itself (iret): do not store rax */

struct hypercall {
    struct vcpu *caller;
    uint64_t nr;
    uint64_t arg[6];
    bool in_multicall;
    bool narrow; /* of a 32-bit kernel: records that are kept for it have that layout */
};

enum hc_perm {
    PERM_ANY, /* every domain, acts on itself only */
    PERM_TARGET, /* the handler resolves its target with hc_target(): itself, or any if the caller is privileged */
    PERM_CONTROL,  /* control domain only */
    PERM_HARDWARE, /* the domain that owns the hardware */
    PERM_PV,       /* PV guests, each on itself; the hypercall does not exist for others (ENOSYS) */
};

typedef long (*hc_fn)(struct hypercall *hc);

struct hc_op {
    uint32_t nr;
    enum hc_perm perm;
    const char *name; /* as in the interface header */
    hc_fn fn;         /* NULL: refused with .refused */
    int refused;      /* positive errno for a row without fn; 0 = -ENOSYS */
    const char *note; /* for docs: why refused, or a limit */
};

struct hc_entry { /* one hypercall */
    uint32_t nr;  /* __HYPERVISOR_* */
    enum hc_perm perm;
    const char *name;
    hc_fn fn;                 /* direct handler, or NULL with ops */
    const struct hc_op *ops;  /* sub-operations, chosen by (uint32_t)arg[0] & op_mask */
    const unsigned *op_count; /* address of the table's count */
    uint16_t nargs;
    uint32_t op_mask; /* 0 = all 32 bits; memory_op: low 6 bits (the rest is the start extent) */
    int unknown;      /* positive errno for an unknown sub-operation; 0 = ENOSYS */
    const char *note;
};

/* Entry from the architecture: runs the call, leaves the result for the guest or HC_AGAIN / HC_NO_RESULT. */
long hypercall_dispatch(struct hypercall *hc);

/* For a handler whose sub-operation is in a structure in memory: the row of nr, if the caller may run it. 0; -ENOSYS (no such row),
 * -EPERM, or what a row without a function refuses with. */
long must_check hc_op_choose(const struct vcpu *caller, const struct hc_op *ops, unsigned count, uint32_t nr,
                             const struct hc_op **out);

/* Builds the dispatch index from the tables below. Once, before the first guest. */
void hypercall_init(void);

/* Tables of the core and of the architecture (arch_hypercalls, arch_hypercall_count: provided by arch). */
extern const struct hc_entry core_hypercalls[];
extern const unsigned core_hypercall_count;
extern const struct hc_entry *const arch_hypercalls;
extern const unsigned arch_hypercall_count;

/* Target domain of a PERM_TARGET operation: DOMID_SELF, own id, or (privileged callers) any. Reference taken.
 * 0, -ESRCH (no such domain), -EPERM; *out is NULL then. */
int must_check hc_target(struct hypercall *hc, did_t id, struct domain **out);
/* The same for short paths: the caller's own domain, which is there as long as its vCPU runs, comes without a reference. hc_release
 * gives back what there is to give back. */
int must_check hc_borrow(struct hypercall *hc, did_t id, struct domain **out);
void hc_release(const struct hypercall *hc, struct domain *d);

static inline uint32_t hc_u32(const struct hypercall *hc, unsigned i)
{
    return (uint32_t)hc->arg[i];
}
static inline uint32_t hc_cursor(const struct hypercall *hc, unsigned i)
{
    return (uint32_t)(hc->arg[i] >> 32);
}
static inline void hc_set_cursor(struct hypercall *hc, unsigned i, uint32_t c)
{
    hc->arg[i] = (uint32_t)hc->arg[i] | ((uint64_t)c << 32);
}

#endif
