/*
 * sysctl perfc_op (xen/sysctl.h): descriptions and values of the counters of core/perf.h. An array has a value per element, summed
 * over the CPUs; a single counter has a value per CPU. Values come in the order of the descriptions.
 * Locks: none.
 */
#include "private.h"
#include "core/cpumask.h"
#include "core/guest.h"
#include "core/perf.h"
#include "lib/string.h"

#if PERF_COUNTED

static const struct {
    const char *name;
    uint16_t first, n; /* n: elements of an array; 0 = single */
} counters[] = {
#define PERF_A(id, text, count) {text, PERF_##id, count},
#define PERF_S(id, text)        {text, PERF_##id, 0},
    PERF_ARRAYS(PERF_A) PERF_SINGLES(PERF_S)
#undef PERF_A
#undef PERF_S
};

static unsigned values_of(unsigned i)
{
    return counters[i].n ? counters[i].n : cpu_count();
}

static int write_desc(struct vcpu *caller, gva_t to, unsigned i)
{
    struct xen_sysctl_perfc_desc d = {.nr_vals = values_of(i)};

    strlcpy(d.name, counters[i].name, sizeof(d.name));
    return guest_write_at(caller, to, i, &d, sizeof(d));
}

static int write_values(struct vcpu *caller, gva_t to, unsigned i, unsigned at)
{
    for (unsigned k = 0; k < values_of(i); k++) {
        uint32_t v =
            counters[i].n ? (uint32_t)perf_sum(counters[i].first + k) : perf_of_cpu(k, counters[i].first);

        if (guest_write_at(caller, to, at + k, &v, sizeof(v)))
            return -EFAULT;
    }
    return 0;
}

long sysctl_perfc_op(struct hypercall *hc)
{
    struct xen_sysctl_perfc_op *p = &sysctl_of(hc)->op.u.perfc_op;
    unsigned n = 0;

    if (p->cmd != XEN_SYSCTL_PERFCOP_query && p->cmd != XEN_SYSCTL_PERFCOP_reset)
        return -EINVAL;
    for (unsigned i = 0; i < ARRAY_SIZE(counters); n += values_of(i++)) {
        if (HANDLE(p->desc).a && write_desc(hc->caller, HANDLE(p->desc), i))
            return -EFAULT;
        if (HANDLE(p->val).a && write_values(hc->caller, HANDLE(p->val), i, n))
            return -EFAULT;
    }
    if (p->cmd == XEN_SYSCTL_PERFCOP_reset)
        perf_reset();
    p->nr_counters = ARRAY_SIZE(counters);
    p->nr_vals = n;
    sysctl_of(hc)->write_back = true;
    return 0;
}

#endif
