/*
 * domctl and sysctl as tools call them: every operation that has a row or none, with small numbers in its fields and memory behind its
 * handles. One that has no entry here gets its fields all the same.
 */
#include "fuzz.h"
#include "core/abi.h"
#include "core/control.h"

#include <string.h>

#define BUFFER 2048u

/* Small numbers, mostly. */
static void fields(struct step *s, void *u, size_t bytes)
{
    uint32_t *w = u;
    unsigned n = in_below(s->in, 13);

    for (unsigned i = 0; i < n && i < bytes / sizeof(*w); i++) {
        uint8_t b = in_u8(s->in);

        w[i] = b < 200 ? b % 24u : b < 230 ? (uint32_t)pick_frame(s) : (uint32_t)in_number(s->in);
    }
}

/* Memory with some of the input's bytes in it. */
static void *buffer(struct step *s)
{
    uint32_t *p = arg_alloc(BUFFER);

    memset(p, 0, BUFFER);
    fields(s, p, BUFFER);
    return p;
}

struct handles {
    uint32_t cmd;
    uint8_t at[4]; /* 64-bit handles in the operation's part of the union: offset + 1; 0 ends the list */
};
#define AT(type, field)     (uint8_t)(offsetof(struct type, field) + 1)
#define BITMAP(type, field) AT(type, field.bitmap)
#define ROW(op, ...)                                                                                         \
    {                                                                                                        \
        XEN_##op,                                                                                            \
        {                                                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

static void handles_fill(struct step *s, const struct handles *h, unsigned count, uint32_t cmd, uint8_t *u)
{
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; h[i].cmd == cmd && k < ARRAY_SIZE(h[i].at) && h[i].at[k]; k++) {
            uint64_t p = in_u8(s->in) < 240 ? (uint64_t)(uintptr_t)buffer(s) : in_number(s->in);

            memcpy(u + h[i].at[k] - 1, &p, sizeof(p));
        }
}

/* --- domctl --- */

static const struct handles domctl_handles[] = {
    ROW(DOMCTL_getpageframeinfo3, AT(xen_domctl_getpageframeinfo3, array)),
    ROW(DOMCTL_shadow_op, AT(xen_domctl_shadow_op, dirty_bitmap)),
    ROW(DOMCTL_getvcpucontext, AT(xen_domctl_vcpucontext, ctxt)),
    ROW(DOMCTL_setvcpuaffinity, BITMAP(xen_domctl_vcpuaffinity, cpumap_hard),
        BITMAP(xen_domctl_vcpuaffinity, cpumap_soft)),
    ROW(DOMCTL_getvcpuaffinity, BITMAP(xen_domctl_vcpuaffinity, cpumap_hard),
        BITMAP(xen_domctl_vcpuaffinity, cpumap_soft)),
    ROW(DOMCTL_setnodeaffinity, BITMAP(xen_domctl_nodeaffinity, nodemap)),
    ROW(DOMCTL_getnodeaffinity, BITMAP(xen_domctl_nodeaffinity, nodemap)),
    ROW(DOMCTL_get_cpu_policy, AT(xen_domctl_cpu_policy, leaves), AT(xen_domctl_cpu_policy, msrs)),
    ROW(DOMCTL_set_cpu_policy, AT(xen_domctl_cpu_policy, leaves), AT(xen_domctl_cpu_policy, msrs)),
    ROW(DOMCTL_getvcpuextstate, AT(xen_domctl_vcpuextstate, buffer)),
    ROW(DOMCTL_setvcpuextstate, AT(xen_domctl_vcpuextstate, buffer)),
    ROW(DOMCTL_get_vcpu_msrs, AT(xen_domctl_vcpu_msrs, msrs)),
    ROW(DOMCTL_set_vcpu_msrs, AT(xen_domctl_vcpu_msrs, msrs)),
};

static long control(struct step *s, struct xen_domctl *op, uint32_t cmd, uint16_t domain)
{
    uint8_t b = in_u8(s->in);

    op->cmd = cmd;
    op->domain = domain;
    op->interface_version = b < 220 ? XEN_DOMCTL_INTERFACE_VERSION : 0x14 + b % 5u;
    return call_n(s, __HYPERVISOR_domctl, op, 0, 0, 0);
}

static uint16_t subject(struct step *s)
{
    uint8_t b = in_u8(s->in);

    return b < 230 ? b % 5 : b < 245 ? DOMID_SELF : in_u16(s->in);
}

static struct xen_domctl *domctl_new(struct step *s)
{
    struct xen_domctl *op = arg_alloc(sizeof(*op));

    memset(op, 0, sizeof(*op));
    return op;
}

static void op_domctl(struct step *s)
{
    struct xen_domctl *op = domctl_new(s);
    uint8_t b = in_u8(s->in);
    uint32_t cmd = b < 240 ? b % 91u : 1000 + b % 4u;

    fields(s, &op->u, sizeof(op->u));
    handles_fill(s, domctl_handles, ARRAY_SIZE(domctl_handles), cmd, (uint8_t *)&op->u);
    if (cmd == XEN_DOMCTL_gdbsx_guestmemio || cmd == XEN_DOMCTL_hypercall_init)
        guest_scribbled = true; /* they write where they are told */
    (void)control(s, op, cmd, subject(s));
}

/* A domain like xl's: the numbers 3 and 4 are those that others find. */
static void op_create(struct step *s)
{
    struct xen_domctl *op = domctl_new(s);
    struct xen_domctl_createdomain *c = &op->u.createdomain;
    uint8_t b = in_u8(s->in);

    *c = (struct xen_domctl_createdomain){.flags = b & 8 ? XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap : 0,
                                          .max_vcpus = b % 4u,
                                          .max_evtchn_port = in_u8(s->in) * 8u,
                                          .max_grant_frames = in_u8(s->in) % 5 - 1,
                                          .max_maptrack_frames = in_u8(s->in) % 4 - 1,
                                          .grant_opts = 1 + (b >> 4 & 1)};
    if (b >= 240)
        fields(s, c, sizeof(*c));
    if (control(s, op, XEN_DOMCTL_createdomain, 3 + (b >> 5 & 1)))
        return;
    op->u.max_vcpus.max = b % 4u;
    (void)control(s, op, XEN_DOMCTL_max_vcpus, op->domain);
    op->u.max_mem.max_memkb = in_u8(s->in) * 4u;
    (void)control(s, op, XEN_DOMCTL_max_mem, op->domain);
}

static void op_context(struct step *s)
{
    struct xen_domctl *op = domctl_new(s);

    op->u.vcpucontext.vcpu = in_u8(s->in) % 3u;
    op->u.vcpucontext.ctxt.p = in_u8(s->in) < 250 ? pick_context(s) : NULL;
    (void)control(s, op, XEN_DOMCTL_setvcpucontext, subject(s));
}

/* A debugger's look through a guest's tables, or a write. */
static void op_guestmem(struct step *s)
{
    struct xen_domctl *op = domctl_new(s);
    struct xen_domctl_gdbsx_memio *m = &op->u.gdbsx_guest_memio;

    m->pgd3val = in_u8(s->in) >= 200 ? in_number(s->in) : 0;
    m->gva = pick_va(s);
    m->uva = (uint64_t)(uintptr_t)buffer(s);
    m->len = in_u8(s->in) < 240 ? in_u8(s->in) * 8u : in_u32(s->in);
    m->gwr = in_u8(s->in) & 1;
    guest_scribbled = true;
    (void)control(s, op, XEN_DOMCTL_gdbsx_guestmemio, subject(s));
}

/* --- sysctl --- */

static const struct handles sysctl_handles[] = {
    ROW(SYSCTL_readconsole, AT(xen_sysctl_readconsole, buffer)),
    ROW(SYSCTL_tbuf_op, BITMAP(xen_sysctl_tbuf_op, cpu_mask)),
    ROW(SYSCTL_perfc_op, AT(xen_sysctl_perfc_op, desc), AT(xen_sysctl_perfc_op, val)),
    ROW(SYSCTL_getdomaininfolist, AT(xen_sysctl_getdomaininfolist, buffer)),
    ROW(SYSCTL_getcpuinfo, AT(xen_sysctl_getcpuinfo, info)),
    ROW(SYSCTL_page_offline_op, AT(xen_sysctl_page_offline_op, status)),
    ROW(SYSCTL_cputopoinfo, AT(xen_sysctl_cputopoinfo, cputopo)),
    ROW(SYSCTL_numainfo, AT(xen_sysctl_numainfo, meminfo), AT(xen_sysctl_numainfo, distance)),
    ROW(SYSCTL_cpupool_op, BITMAP(xen_sysctl_cpupool_op, cpumap)),
    ROW(SYSCTL_pcitopoinfo, AT(xen_sysctl_pcitopoinfo, devs), AT(xen_sysctl_pcitopoinfo, nodes)),
    ROW(SYSCTL_get_cpu_featureset, AT(xen_sysctl_cpu_featureset, features)),
    ROW(SYSCTL_get_cpu_policy, AT(xen_sysctl_cpu_policy, leaves), AT(xen_sysctl_cpu_policy, msrs)),
};

static void op_sysctl(struct step *s)
{
    struct xen_sysctl *op = arg_alloc(sizeof(*op));
    uint8_t b = in_u8(s->in);
    uint32_t cmd = b % 31u;

    memset(op, 0, sizeof(*op));
    op->cmd = cmd;
    op->interface_version = b < 250 ? XEN_SYSCTL_INTERFACE_VERSION : b;
    fields(s, &op->u, sizeof(op->u));
    handles_fill(s, sysctl_handles, ARRAY_SIZE(sysctl_handles), cmd, (uint8_t *)&op->u);
    if (cmd == XEN_SYSCTL_debug_keys) { /* but none that ends the machine */
        char *keys = arg_alloc(8);

        for (unsigned i = 0; i < 8; i++)
            keys[i] = "hmgeqraz"[in_u8(s->in) % 8];
        op->u.debug_keys.keys.p = keys;
        op->u.debug_keys.nr_keys = in_u8(s->in) % 9u;
    }
    (void)call_n(s, __HYPERVISOR_sysctl, op, 0, 0, 0);
}

static const struct fuzz_op op[] = {
    {"domctl", op_domctl},     {"domctl", op_domctl}, {"domctl", op_domctl},
    {"domctl", op_domctl},     {"create", op_create}, {"context", op_context},
    {"guestmem", op_guestmem}, {"sysctl", op_sysctl}, {"sysctl", op_sysctl},
};
const struct fuzz_group ops_control = {op, ARRAY_SIZE(op)};
