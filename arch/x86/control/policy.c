/*
 * CPUID and MSR policies for the toolstack: domctl get/set_cpu_policy, sysctl get_cpu_policy, get_cpu_featureset,
 * get_cpu_levelling_caps (xen/domctl.h, xen/sysctl.h). The meaning is arch/x86/policy's.
 *
 * A domain's policy can be changed until it is first unpaused: what a running kernel has seen stays true.
 * Locks: d->lock around a change and around the copy that is read.
 */
#include "private.h"
#include "core/alloc.h"
#include "core/guest.h"
#include "x86/cpu.h"
#include "x86/policy.h"
#include "x86/guest.h"
#include "x86/hvm.h"

/* A policy, and what goes to or comes from the caller's buffers: 6 KiB, not for the stack. */
struct exchange {
    struct cpu_policy policy;
    struct xen_cpuid_leaf leaf[POLICY_MAX_LEAVES];
    struct xen_msr_entry msr[POLICY_MAX_MSRS];
};

/* Without a buffer: how much there can be. With one: -ENOBUFS when it is too small, else how much there is. */
static int give(struct vcpu *caller, gva_t to, uint32_t *n, uint32_t max, const void *from, unsigned count,
                size_t size)
{
    if (!to.a) {
        *n = max;
        return 0;
    }
    if (*n < count)
        return -ENOBUFS;
    *n = count;
    return guest_write(caller, to, from, count * size);
}

static int give_policy(struct vcpu *caller, struct exchange *x, gva_t leaves, uint32_t *nr_leaves, gva_t msrs,
                       uint32_t *nr_msrs)
{
    unsigned n = policy_write_leaves(&x->policy, x->leaf);
    int r = give(caller, leaves, nr_leaves, POLICY_MAX_LEAVES, x->leaf, n, sizeof(x->leaf[0]));

    if (r)
        return r;
    n = policy_write_msrs(&x->policy, x->msr);
    return give(caller, msrs, nr_msrs, POLICY_MAX_MSRS, x->msr, n, sizeof(x->msr[0]));
}

/* --- domctl --- */

long control_get_cpu_policy(struct domctl *c)
{
    struct xen_domctl_cpu_policy *op = &c->op.u.cpu_policy;
    struct exchange *x = mem_new(struct exchange);
    int r;

    if (!x)
        return -ENOMEM;
    spin_lock(&c->d->lock);
    x->policy = *x86_domain(c->d)->policy;
    spin_unlock(&c->d->lock);
    r = give_policy(c->hc.caller, x, HANDLE(op->leaves), &op->nr_leaves, HANDLE(op->msrs), &op->nr_msrs);
    mem_free(x);
    c->write_back = !r;
    return r;
}

/* The caller's entries over what the domain has. */
static int take_policy(struct domctl *c, struct exchange *x, struct policy_error *e)
{
    const struct xen_domctl_cpu_policy *op = &c->op.u.cpu_policy;
    int r;

    if (op->nr_leaves > POLICY_MAX_LEAVES || op->nr_msrs > POLICY_MAX_MSRS)
        return -E2BIG;
    if (guest_read(c->hc.caller, x->leaf, HANDLE(op->leaves), op->nr_leaves * sizeof(x->leaf[0])) ||
        guest_read(c->hc.caller, x->msr, HANDLE(op->msrs), op->nr_msrs * sizeof(x->msr[0])))
        return -EFAULT;
    r = policy_read_leaves(&x->policy, x->leaf, op->nr_leaves, e);
    if (!r)
        r = policy_read_msrs(&x->policy, x->msr, op->nr_msrs, e);
    return r ? r : policy_check(&x->policy, guest_policy_max(c->d->ops->translated), e);
}

static int set_policy(struct domctl *c, struct exchange *x, struct policy_error *e)
{
    struct domain *d = c->d;
    int r;

    if (d == c->hc.caller->domain)
        return -EINVAL;
    spin_lock(&d->lock);
    x->policy = *x86_domain(d)->policy;
    spin_unlock(&d->lock);
    r = take_policy(c, x, e);
    if (r)
        return r;
    policy_trim(&x->policy, guest_policy_max(d->ops->translated));
    spin_lock(&d->lock);
    r = d->started ? -EEXIST : 0;
    if (!r)
        *x86_domain(d)->policy = x->policy;
    spin_unlock(&d->lock);
    return r;
}

long control_set_cpu_policy(struct domctl *c)
{
    struct xen_domctl_cpu_policy *op = &c->op.u.cpu_policy;
    struct policy_error e = {.leaf = ~0u, .subleaf = ~0u, .msr = ~0u};
    struct exchange *x = mem_new(struct exchange);
    int r;

    if (!x)
        return -ENOMEM;
    r = set_policy(c, x, &e);
    mem_free(x);
    op->err_leaf = e.leaf;
    op->err_subleaf = e.subleaf;
    op->err_msr = e.msr;
    c->write_back = true;
    return r;
}

/* --- sysctl --- */

/* -EOPNOTSUPP: policies of HVM guests on a machine that can run none. */
static int system_policy(uint32_t index, struct cpu_policy *p)
{
    struct policy_host h;
    bool hvm;

    guest_policy_host(&h);
    switch (index) {
    case XEN_SYSCTL_cpu_policy_raw:
        policy_build_raw(&h, p);
        return 0;
    case XEN_SYSCTL_cpu_policy_host:
        policy_build_host(&h, p);
        return 0;
    case XEN_SYSCTL_cpu_policy_pv_max:
    case XEN_SYSCTL_cpu_policy_pv_default:
    case XEN_SYSCTL_cpu_policy_hvm_max:
    case XEN_SYSCTL_cpu_policy_hvm_default:
        hvm = index == XEN_SYSCTL_cpu_policy_hvm_max || index == XEN_SYSCTL_cpu_policy_hvm_default;
        if (hvm && !hvm_available())
            return -EOPNOTSUPP;
        *p = *guest_policy_max(hvm);
        if (index == XEN_SYSCTL_cpu_policy_pv_default || index == XEN_SYSCTL_cpu_policy_hvm_default)
            policy_default(p);
        return 0;
    default:
        return -EINVAL;
    }
}

long control_system_cpu_policy(struct sysctl *c)
{
    struct xen_sysctl_cpu_policy *op = &c->op.u.cpu_policy;
    struct exchange *x;
    int r;

    if (op->_rsvd)
        return -EINVAL;
    x = mem_new(struct exchange);
    if (!x)
        return -ENOMEM;
    r = system_policy(op->index, &x->policy);
    if (!r)
        r = give_policy(c->hc.caller, x, HANDLE(op->leaves), &op->nr_leaves, HANDLE(op->msrs), &op->nr_msrs);
    mem_free(x);
    c->write_back = !r;
    return r;
}

/* Feature sets are the feature words of policies, under other numbers. */
static int featureset_policy(uint32_t index)
{
    static const uint8_t policy[] = {
        [XEN_SYSCTL_cpu_featureset_raw] = XEN_SYSCTL_cpu_policy_raw,
        [XEN_SYSCTL_cpu_featureset_host] = XEN_SYSCTL_cpu_policy_host,
        [XEN_SYSCTL_cpu_featureset_pv] = XEN_SYSCTL_cpu_policy_pv_default,
        [XEN_SYSCTL_cpu_featureset_hvm] = XEN_SYSCTL_cpu_policy_hvm_default,
        [XEN_SYSCTL_cpu_featureset_pv_max] = XEN_SYSCTL_cpu_policy_pv_max,
        [XEN_SYSCTL_cpu_featureset_hvm_max] = XEN_SYSCTL_cpu_policy_hvm_max,
    };

    return index < ARRAY_SIZE(policy) ? policy[index] : -EINVAL;
}

static int read_featureset(uint32_t index, uint32_t words[POLICY_WORDS])
{
    int number = featureset_policy(index), r;
    struct cpu_policy *p;

    if (number < 0)
        return number;
    p = mem_new(struct cpu_policy);
    if (!p)
        return -ENOMEM;
    r = system_policy((uint32_t)number, p);
    if (!r)
        policy_features(p, words);
    mem_free(p);
    return r;
}

/* As many words as fit; -ENOBUFS says that there were more. */
long control_cpu_featureset(struct sysctl *c)
{
    struct xen_sysctl_cpu_featureset *op = &c->op.u.cpu_featureset;
    uint32_t words[POLICY_WORDS], n = MIN(op->nr_features, POLICY_WORDS);
    int r = read_featureset(op->index, words);

    if (r)
        return r;
    c->write_back = true;
    if (!HANDLE(op->features).a)
        n = POLICY_WORDS;
    else if (guest_write(c->hc.caller, HANDLE(op->features), words, n * sizeof(words[0])))
        return -EFAULT;
    op->nr_features = n;
    return n < POLICY_WORDS ? -ENOBUFS : 0;
}

/* Of the processor's own ways to mask CPUID only faulting is in use. */
long control_levelling_caps(struct sysctl *c)
{
    c->op.u.cpu_levelling_caps.caps = cpu_features.cpuid_fault ? XEN_SYSCTL_CPU_LEVELCAP_faulting : 0;
    c->write_back = true;
    return 0;
}
