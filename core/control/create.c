/*
 * createdomain and max_vcpus: how a domain comes to be for the toolstack. What is wrong with a request is found before anything is made.
 * Locks: none of its own (domain_create publishes a complete, paused domain).
 */
#include "private.h"
#include "arch/control.h"
#include "arch/guest_ops.h"
#include "core/domain.h"
#include "core/grant.h"
#include "core/work.h"
#include "lib/string.h"

#define GRANT_FRAMES_DEFAULT    64u
#define MAPTRACK_FRAMES_DEFAULT 1024u

/* Ids are given out in turn, so that one which has just been freed does not come back at once. */
static uint16_t last_id; /* [a] */

static int check(const struct domctl_create *c)
{
    unsigned version = XEN_DOMCTL_GRANT_version(c->grant_opts);

    if (c->flags & ~((XEN_DOMCTL_CDF_MAX << 1) - 1) || c->iommu_opts & ~((XEN_DOMCTL_IOMMU_MAX << 1) - 1))
        return -EINVAL;
    if (c->flags & (XEN_DOMCTL_CDF_s3_integrity | XEN_DOMCTL_CDF_iommu | XEN_DOMCTL_CDF_vpmu))
        return -EOPNOTSUPP;
    if (c->iommu_opts || (c->grant_opts & ~(uint32_t)XEN_DOMCTL_GRANT_version_mask))
        return -EINVAL;
    if (version < 1 || version > 2 || !c->max_vcpus || c->max_vcpus > MAX_VCPUS)
        return -EINVAL;
    if (c->vmtrace_size || c->altp2m_opts)
        return -EOPNOTSUPP;
    return 0;
}

static void configure(const struct domctl_create *c, struct domain_config *out)
{
    out->xenstore = (c->flags & XEN_DOMCTL_CDF_xs_domain) != 0;
    out->max_vcpus = c->max_vcpus;
    out->max_evtchn_port = c->max_evtchn_port;
    out->max_grant_frames = c->max_grant_frames < 0 ? GRANT_FRAMES_DEFAULT : (unsigned)c->max_grant_frames;
    out->max_maptrack_frames =
        c->max_maptrack_frames < 0 ? MAPTRACK_FRAMES_DEFAULT : (unsigned)c->max_maptrack_frames;
    out->max_grant_version = XEN_DOMCTL_GRANT_version(c->grant_opts);
    out->cpupool = c->cpupool_id;
    memcpy(out->handle, c->handle, sizeof(out->handle));
}

/* An id of the caller's choice, or (0 and what is no domain's id) the next that is free. */
static int create(uint16_t wish, const struct domain_config *config, struct domain **out)
{
    unsigned id = __atomic_load_n(&last_id, __ATOMIC_RELAXED);

    if (wish && wish < DOMID_FIRST_RESERVED)
        return domain_create(DID(wish), config, out);
    for (unsigned tries = 1; tries < DOMID_FIRST_RESERVED; tries++) {
        int r;

        id = id + 1 < DOMID_FIRST_RESERVED ? id + 1 : 1;
        r = domain_create(DID(id), config, out);
        if (r != -EEXIST) {
            __atomic_store_n(&last_id, (uint16_t)id, __ATOMIC_RELAXED);
            return r;
        }
    }
    return -ENOSPC;
}

long domctl_createdomain(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct domain_config config = {0};
    int r = check(&c->create);

    if (r)
        return r;
    r = arch_domain_config(&c->create, &config.ops, &config.arch_flags);
    if (r)
        return r;
    configure(&c->create, &config);
    r = create(c->op.domain, &config, &c->d);
    if (r)
        return r;
    c->op.domain = c->d->id.v;
    c->write_back = true;
    return 0;
}

/* The vCPUs below `max` that are not there yet. Creating one is some allocations: asked for preemption between them. */
long domctl_max_vcpus(struct hypercall *hc)
{
    struct domctl *c = domctl_of(hc);
    struct domain *d = c->d;
    uint32_t max = c->op.u.max_vcpus.max;
    bool more = false;
    int r = 0;

    if (d == hc->caller->domain || max > d->max_vcpus)
        return -EINVAL;
    spin_lock(&d->lock);
    for (unsigned i = 0; i < max && !r && !more; i++) {
        struct vcpu *v;

        if (domain_vcpu(d, i))
            continue;
        r = vcpu_create(d, i, &v);
        more = !r && i + 1 < max && preempt_needed();
    }
    spin_unlock(&d->lock);
    return more ? HC_AGAIN : r;
}
