/*
 * The wire: what a control structure looks like in each release that is served. Only what differs between releases is here; the rest
 * is the header's. Decoding is apart from meaning: handlers see one form.
 *
 * domctl 0x15 (4.17), 0x16 (4.18), 0x17 (4.19 to 4.21): createdomain has altp2m_opts before vmtrace_size since 0x17.
 * sysctl 0x15 (4.17 to 4.20): one form.
 */
#include "private.h"

/* The part that has stayed, then what came after it. */
struct create_head {
    uint32_t ssidref;
    xen_domain_handle_t handle;
    uint32_t flags, iommu_opts, max_vcpus, max_evtchn_port;
    int32_t max_grant_frames, max_maptrack_frames;
    uint32_t grant_opts;
};
struct create_0x15 {
    struct create_head head;
    uint32_t vmtrace_size, cpupool_id;
    struct xen_arch_domainconfig arch;
};
struct create_0x17 {
    struct create_head head;
    uint32_t altp2m_opts, vmtrace_size, cpupool_id;
    struct xen_arch_domainconfig arch;
};
_Static_assert(sizeof(struct create_0x17) <= sizeof(((struct xen_domctl *)0)->u), "within the union");
_Static_assert(offsetof(struct xen_domctl, u) == 16 && sizeof(struct xen_domctl) == 144,
               "the same in all releases");

bool domctl_version_ok(uint32_t version)
{
    return version >= DOMCTL_4_17 && version <= DOMCTL_4_19;
}

bool sysctl_version_ok(uint32_t version)
{
    return version == SYSCTL_4_17;
}

void wire_read_create(uint32_t version, const struct xen_domctl *op, struct domctl_create *out)
{
    const struct create_0x15 *v15 = (const struct create_0x15 *)&op->u;
    const struct create_0x17 *v17 = (const struct create_0x17 *)&op->u;
    const struct create_head *h = &v15->head;
    bool old = version < DOMCTL_4_19;

    *out = (struct domctl_create){
        .ssidref = h->ssidref,
        .flags = h->flags,
        .iommu_opts = h->iommu_opts,
        .max_vcpus = h->max_vcpus,
        .max_evtchn_port = h->max_evtchn_port,
        .max_grant_frames = h->max_grant_frames,
        .max_maptrack_frames = h->max_maptrack_frames,
        .grant_opts = h->grant_opts,
        .altp2m_opts = old ? 0 : v17->altp2m_opts,
        .vmtrace_size = old ? v15->vmtrace_size : v17->vmtrace_size,
        .cpupool_id = old ? v15->cpupool_id : v17->cpupool_id,
        .arch = old ? v15->arch : v17->arch,
    };
    for (unsigned i = 0; i < sizeof(out->handle); i++)
        out->handle[i] = h->handle[i];
}
