/*
 * The control interface: domctl (xen/domctl.h) and sysctl (xen/sysctl.h), by which the toolstack manages domains and the machine.
 *
 * The dispatcher (core/control/domctl.c, sysctl.c) copies the operation in once, checks interface version and permission, finds the
 * target domain, and calls the operation's row with a `struct domctl` / `struct sysctl`. Handlers are reached as hc_fn, so that one
 * kind of table (struct hc_op) serves every hypercall; domctl_of() and sysctl_of() lead from there to the decoded operation.
 *
 * A handler that returns results sets write_back: the private copy goes back to the caller, whatever the result. Long work keeps its
 * place in the target's own state and returns HC_AGAIN: the caller's registers hold no cursor (they are undefined beyond the first).
 */
#ifndef CORE_CONTROL_H
#define CORE_CONTROL_H

#include "core/abi.h"
#include "core/hypercall.h"
#include "core/types.h"

struct cpumask;
struct domain;
struct vcpu;

/* Interface versions that are served: what Debian 12's (4.17), 4.18's and Debian 13's (4.20) tools speak. */
#define DOMCTL_4_17 0x15u
#define DOMCTL_4_18 0x16u
#define DOMCTL_4_19 0x17u
#define SYSCTL_4_17 0x15u

/* createdomain as of the newest release, whatever release the caller and the headers of the build speak. */
struct domctl_create {
    uint32_t ssidref;
    xen_domain_handle_t handle;
    uint32_t flags, iommu_opts, max_vcpus, max_evtchn_port;
    int32_t max_grant_frames, max_maptrack_frames;
    uint32_t grant_opts, altp2m_opts, vmtrace_size, cpupool_id;
    struct xen_arch_domainconfig arch;
};

struct domctl {
    struct hypercall hc;  /* first: what the row's handler gets */
    uint32_t version;     /* DOMCTL_4_xx */
    struct domain *d;     /* the target, referenced; NULL where the operation has none (createdomain) */
    struct xen_domctl op; /* private copy */
    struct domctl_create create; /* createdomain only: instead of op.u */
    bool write_back;             /* op goes back to the caller */
};

struct sysctl {
    struct hypercall hc; /* first */
    uint32_t version;
    struct xen_sysctl op;
    bool write_back;
};

static inline struct domctl *domctl_of(struct hypercall *hc)
{
    return container_of(hc, struct domctl, hc);
}
static inline struct sysctl *sysctl_of(struct hypercall *hc)
{
    return container_of(hc, struct sysctl, hc);
}

long do_domctl(struct hypercall *hc);
long do_sysctl(struct hypercall *hc);
extern const struct hc_op domctl_ops[], sysctl_ops[];
extern const unsigned domctl_op_count, sysctl_op_count;

/* The vCPU that an operation names, or NULL (-> -ESRCH or -EINVAL, as the operation has it). */
struct vcpu *domctl_vcpu(const struct domctl *c, uint32_t id);

/* --- xenctl_bitmap: a bitmap in the caller's memory, least significant bit of the first byte first ---
 * Reads at most `bits` bits into `to` (uint64_t words, cleared first); bits beyond the caller's are 0, bits beyond `bits` are
 * ignored. -EFAULT. */
int must_check control_bitmap_read(struct vcpu *caller, uint64_t *to, unsigned bits,
                                   const struct xenctl_bitmap *from);
/* Writes `bits` bits; what the caller's bitmap has beyond them becomes 0 (within its last byte). -EFAULT. */
int must_check control_bitmap_write(struct vcpu *caller, struct xenctl_bitmap *to, const uint64_t *from,
                                    unsigned bits);

#endif
