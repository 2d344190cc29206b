/* physdev_op, platform_op, mca: a hardware domain's way to interrupts and to the machine; and interrupts themselves. */
#include "fuzz.h"
#include "core/abi.h"
#include "x86/mce.h"
#include "../../arch/x86/platform/private.h"

#include <string.h>

static long physdev(struct step *s, unsigned cmd, void *arg)
{
    return call_n(s, __HYPERVISOR_physdev_op, cmd, arg, 0, 0);
}

static int pick_pirq(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 200)
        return b % 26;
    return b < 220 ? -1 : b < 240 ? 511 - b % 20 : (int)in_number(s->in);
}

static void op_map(struct step *s)
{
    struct physdev_map_pirq *a = arg_alloc(sizeof(*a));
    uint8_t b = in_u8(s->in);

    *a = (struct physdev_map_pirq){.domid = b & 1 ? DOMID_SELF : (domid_t)in_below(s->in, 4),
                                   .type = b < 240 ? b / 2 % 5 : in_u8(s->in),
                                   .index = pick_pirq(s),
                                   .pirq = pick_pirq(s),
                                   .bus = in_below(s->in, 5),
                                   .devfn = in_u8(s->in),
                                   .entry_nr = in_below(s->in, 10),
                                   .table_base = b & 128 ? 0xfe000000 : 0};
    (void)physdev(s, PHYSDEVOP_map_pirq, a);
}

static void op_unmap(struct step *s)
{
    struct physdev_unmap_pirq *a = arg_alloc(sizeof(*a));

    *a = (struct physdev_unmap_pirq){.domid = in_u8(s->in) & 1 ? DOMID_SELF : (domid_t)in_below(s->in, 4),
                                     .pirq = pick_pirq(s)};
    (void)physdev(s, PHYSDEVOP_unmap_pirq, a);
}

static void op_bind(struct step *s)
{
    struct evtchn_bind_pirq *a = arg_alloc(sizeof(*a));

    *a = (struct evtchn_bind_pirq){.pirq = (uint32_t)pick_pirq(s), .flags = in_u8(s->in) & 1};
    if (!call_n(s, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_pirq, a, 0, 0))
        port_remember(s->g, a->port);
}

static void op_gsi(struct step *s)
{
    struct physdev_setup_gsi *a = arg_alloc(sizeof(*a));

    *a = (struct physdev_setup_gsi){pick_pirq(s), in_u8(s->in) & 1, in_u8(s->in) & 1};
    (void)physdev(s, PHYSDEVOP_setup_gsi, a);
}

static void op_eoi(struct step *s)
{
    struct physdev_eoi *a = arg_alloc(sizeof(*a));

    a->irq = (uint32_t)pick_pirq(s);
    (void)physdev(s, PHYSDEVOP_eoi, a);
}

static void op_eoi_page(struct step *s)
{
    struct physdev_pirq_eoi_gmfn *a = arg_alloc(sizeof(*a));

    a->gmfn = pick_frame(s);
    may_write(a->gmfn);
    (void)physdev(s, PHYSDEVOP_pirq_eoi_gmfn_v2, a);
}

static void op_rights(struct step *s)
{
    struct xen_domctl *op = arg_alloc(sizeof(*op));
    uint8_t b = in_u8(s->in);

    *op = (struct xen_domctl){.cmd = b & 1 ? XEN_DOMCTL_irq_permission : XEN_DOMCTL_gsi_permission,
                              .interface_version = b & 1 ? XEN_DOMCTL_INTERFACE_VERSION : 0x17,
                              .domain = (domid_t)in_below(s->in, 4)};
    op->u.irq_permission.pirq = (uint8_t)pick_pirq(s);
    op->u.irq_permission.allow_access = b >> 1 & 1;
    (void)call_n(s, __HYPERVISOR_domctl, op, 0, 0, 0);
}

/* The device interrupts. */
static void op_interrupt(struct step *s)
{
    const struct irq_line *l = &irq_lines[in_u8(s->in) < 200 ? in_u8(s->in) % 32u : in_u16(s->in) % IRQ_MAX];
    unsigned long flags = arch_irq_save();

    if (l->vector && !l->masked)
        irq_handle(l->vector);
    arch_irq_restore(flags);
}

static void op_physdev(struct step *s)
{
    uint8_t b = in_u8(s->in);

    (void)physdev(s, b % 34u, (void *)(uintptr_t)pick_pointer(s, 48));
    guest_scribbled = true; /* the page of ends of interrupts */
}

static void op_platform(struct step *s)
{
    struct xen_platform_op *op = arg_alloc(sizeof(*op));
    uint32_t *w = (uint32_t *)&op->u;

    memset(op, 0, sizeof(*op));
    op->cmd = in_u8(s->in) % 70u;
    op->interface_version = in_u8(s->in) < 250 ? XENPF_INTERFACE_VERSION : in_u8(s->in);
    for (unsigned i = 0; i < 12; i++)
        w[i] = in_u8(s->in) < 200 ? in_u8(s->in) % 16u : (uint32_t)in_number(s->in);
    if (in_u8(s->in) & 3) { /* handles of operations that have some */
        uint64_t p = (uint64_t)(uintptr_t)arg_alloc(256);

        memcpy(&op->u.symdata.name, &p, sizeof(p));
        if (op->cmd == XENPF_getidletime) {
            memcpy(&op->u.getidletime.cpumap_bitmap, &p, sizeof(p));
            memcpy(&op->u.getidletime.idletime, &p, sizeof(p));
        }
        if (op->cmd == XENPF_set_processor_pminfo)
            memcpy(&op->u.set_pminfo.u.pdc, &p, sizeof(p));
    }
    (void)call_n(s, __HYPERVISOR_platform_op, op, 0, 0, 0);
}

static void op_mca(struct step *s)
{
    struct xen_mc *op = arg_alloc(sizeof(*op));
    struct mce_report r = {.cpu = in_below(s->in, FUZZ_CPUS), .bank = in_u8(s->in), .status = in_u64(s->in)};
    uint8_t b = in_u8(s->in);

    if (b & 1)
        (void)!mce_log_put(&r);
    memset(op, 0, sizeof(*op));
    op->cmd = b >> 1 & 7;
    op->interface_version = b < 250 ? XEN_MCA_INTERFACE_VERSION : b;
    if (op->cmd == XEN_MC_fetch) {
        op->u.mc_fetch.flags = in_u8(s->in) % 8u;
        op->u.mc_fetch.fetch_id = in_u8(s->in) % 4u;
        op->u.mc_fetch.data.p = in_u8(s->in) & 7 ? arg_alloc(sizeof(struct mc_info)) : NULL;
    } else {
        op->u.mc_physcpuinfo.ncpus = in_u8(s->in) % 9u;
        op->u.mc_physcpuinfo.info.p =
            in_u8(s->in) & 3 ? arg_alloc(8 * sizeof(struct mcinfo_logical_cpu)) : NULL;
    }
    (void)call_n(s, __HYPERVISOR_mca, op, 0, 0, 0);
}

static const struct fuzz_op op[] = {
    {"pirq_map", op_map},
    {"pirq_map", op_map},
    {"pirq_unmap", op_unmap},
    {"pirq_bind", op_bind},
    {"pirq_bind", op_bind},
    {"setup_gsi", op_gsi},
    {"eoi", op_eoi},
    {"eoi_page", op_eoi_page},
    {"irq_rights", op_rights},
    {"interrupt", op_interrupt},
    {"interrupt", op_interrupt},
    {"physdev_any", op_physdev},
    {"platform", op_platform},
    {"mca", op_mca},
};
const struct fuzz_group ops_platform = {op, ARRAY_SIZE(op)};
