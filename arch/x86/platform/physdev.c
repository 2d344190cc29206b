/*
 * physdev_op (xen/physdev.h): how the hardware domain drives interrupts and reports devices. arg[0] =
 * command, arg[1] = its structure in guest memory. One function per command: read, check, do; the doing is in
 * pirq.c, irq.c, msi.c, pcidev.c.
 *
 * No state, no locks.
 */
#include "core/guest.h"
#include "core/log.h"
#include "drivers/pci.h"
#include "private.h"
#include "x86/pv.h"
#include "x86/vcpu.h"

#define MAX_MULTI_MSI 32

#define READ(hc, s)   guest_read((hc)->caller, &(s), GVA((hc)->arg[1]), sizeof(s))

/* Writes one field of the structure back. */
#define WRITE_FIELD(hc, s, field)                                                                            \
    guest_write((hc)->caller, GVA((hc)->arg[1] + offsetof(__typeof__(s), field)), &(s).field,                \
                sizeof((s).field))

/* --- interrupts
 * -------------------------------------------------------------------------------------------------- */

static long op_eoi(struct hypercall *hc)
{
    struct physdev_eoi s;

    if (READ(hc, s))
        return -EFAULT;
    return pirq_eoi(hc->caller->domain, s.irq);
}

static long op_eoi_page(struct hypercall *hc)
{
    struct physdev_pirq_eoi_gmfn s;

    if (READ(hc, s))
        return -EFAULT;
    return pirq_set_eoi_page(hc->caller->domain, GFN(s.gmfn));
}

static long op_status(struct hypercall *hc)
{
    struct physdev_irq_status_query s;
    int ret;

    if (READ(hc, s))
        return -EFAULT;
    ret = pirq_status(hc->caller->domain, s.irq, &s.flags);
    return ret ? ret : WRITE_FIELD(hc, s, flags);
}

/* map_pirq of a line. */
static int decode_gsi(const struct physdev_map_pirq *s, struct pirq_map_request *r)
{
    if (s->index < 0)
        return -EINVAL;
    r->kind = PIRQ_GSI;
    r->gsi = (unsigned)s->index;
    r->count = 1;
    return 0;
}

/* map_pirq of messages: table_base says whether it is MSI-X. The segment comes in the upper half of bus, for
 * all types but the oldest. */
static int decode_msi(const struct physdev_map_pirq *s, struct pirq_map_request *r)
{
    uint32_t bus = (uint32_t)s->bus;

    if (s->type == MAP_PIRQ_TYPE_MSI)
        bus &= 0xffff;
    if ((bus & 0xff00) || s->devfn < 0 || s->devfn > 255 || s->entry_nr < 0)
        return -EINVAL;
    r->seg = (uint16_t)(bus >> 16);
    r->bus = (uint8_t)bus;
    r->devfn = (uint8_t)s->devfn;
    r->table_base = s->table_base;
    r->kind = s->table_base ? PIRQ_MSIX : PIRQ_MSI;
    r->count = 1;
    if (s->type == MAP_PIRQ_TYPE_MULTI_MSI) {
        if (s->table_base || s->entry_nr < 1 || s->entry_nr > MAX_MULTI_MSI)
            return -EINVAL;
        while (r->count < (unsigned)s->entry_nr)
            r->count *= 2;
    } else if (r->kind == PIRQ_MSIX) {
        r->entry = (unsigned)s->entry_nr;
    }
    return 0;
}

static int decode_map(const struct physdev_map_pirq *s, struct pirq_map_request *r)
{
    r->pirq = s->pirq < 0 ? -1 : s->pirq;
    switch (s->type) {
    case MAP_PIRQ_TYPE_GSI:
        return decode_gsi(s, r);
    case MAP_PIRQ_TYPE_MSI:
    case MAP_PIRQ_TYPE_MSI_SEG:
    case MAP_PIRQ_TYPE_MULTI_MSI:
        return decode_msi(s, r);
    default:
        return -EINVAL;
    }
}

static long op_map_pirq(struct hypercall *hc)
{
    struct physdev_map_pirq s;
    struct pirq_map_request r = {0};
    long ret;

    if (READ(hc, s))
        return -EFAULT;
    ret = decode_map(&s, &r);
    if (!ret)
        ret = hc_target(hc, DID(s.domid), &r.domain);
    if (ret)
        return ret;
    ret = pirq_map(&r);
    if (!ret) {
        s.pirq = r.pirq;
        s.entry_nr = s.type == MAP_PIRQ_TYPE_MULTI_MSI ? (int)r.count : s.entry_nr;
        ret = guest_write(hc->caller, GVA(hc->arg[1]), &s, sizeof(s));
        if (ret && pirq_unmap(r.domain, r.pirq))
            log_guest(hc->caller->domain->id, LOG_DEBUG, "map_pirq: pirq %d was taken back meanwhile",
                      r.pirq);
    }
    domain_put(r.domain);
    return ret;
}

static long op_unmap_pirq(struct hypercall *hc)
{
    struct physdev_unmap_pirq s;
    struct domain *d;
    long ret;

    if (READ(hc, s))
        return -EFAULT;
    ret = hc_target(hc, DID(s.domid), &d);
    if (ret)
        return ret;
    ret = pirq_unmap(d, s.pirq);
    domain_put(d);
    return ret;
}

static long op_get_free_pirq(struct hypercall *hc)
{
    struct physdev_get_free_pirq s;
    int ret;

    if (READ(hc, s))
        return -EFAULT;
    if (s.type != MAP_PIRQ_TYPE_GSI && s.type != MAP_PIRQ_TYPE_MSI)
        return -EINVAL;
    ret = pirq_reserve(hc->caller->domain, s.type == MAP_PIRQ_TYPE_MSI, &s.pirq);
    if (!ret)
        ret = WRITE_FIELD(hc, s, pirq);
    return ret;
}

static long op_setup_gsi(struct hypercall *hc)
{
    struct physdev_setup_gsi s;

    if (READ(hc, s))
        return -EFAULT;
    if (s.gsi < 0)
        return -EINVAL;
    return irq_setup_gsi((unsigned)s.gsi, s.triggering != 0, s.polarity != 0);
}

/* The vector is Krypton's business; the guest only wants to hear that the interrupt exists. */
static long op_alloc_irq_vector(struct hypercall *hc)
{
    struct physdev_irq s;

    if (READ(hc, s))
        return -EFAULT;
    if (s.irq >= irq_gsi_count || !ioapic_has_gsi(s.irq))
        return -EINVAL;
    s.vector = s.irq;
    return WRITE_FIELD(hc, s, vector);
}

/* The IO-APIC as the guest's driver would see it. */
static long op_apic_read(struct hypercall *hc)
{
    struct physdev_apic s;
    int ret;

    if (READ(hc, s))
        return -EFAULT;
    ret = ioapic_reg_read(s.apic_physbase, s.reg, &s.value);
    return ret ? ret : WRITE_FIELD(hc, s, value);
}

/* Of a redirection entry, trigger and polarity are the guest's to choose while nobody uses the line: the same
 * as setup_gsi. Vector, destination and mask are ours and are ignored, as are all other registers. */
static long op_apic_write(struct hypercall *hc)
{
    struct physdev_apic s;
    uint32_t now;
    int gsi, ret;

    if (READ(hc, s))
        return -EFAULT;
    ret = ioapic_reg_read(s.apic_physbase, s.reg, &now);
    if (ret)
        return ret;
    gsi = ioapic_reg_gsi(s.apic_physbase, s.reg);
    if (gsi < 0)
        return 0;
    ret = irq_setup_gsi((unsigned)gsi, s.value >> 15 & 1, s.value >> 13 & 1);
    return ret == -EEXIST ? 0 : ret;
}

/* --- ports
 * ----------------------------------------------------------------------------------------------------------
 */

static long op_set_iopl(struct hypercall *hc)
{
    struct physdev_set_iopl s;

    if (READ(hc, s))
        return -EFAULT;
    if (s.iopl > 3)
        return -EINVAL;
    pv_vcpu(hc->caller)->iopl = s.iopl;
    return 0;
}

static long op_set_iobitmap(struct hypercall *hc)
{
    struct physdev_set_iobitmap s;

    if (READ(hc, s))
        return -EFAULT;
    if (s.nr_ports > 65536)
        return -EINVAL;
    pv_vcpu(hc->caller)->iobmp = HANDLE(s.bitmap);
    pv_vcpu(hc->caller)->iobmp_ports = s.nr_ports;
    return 0;
}

/* --- devices
 * ----------------------------------------------------------------------------------------------------------
 */

static long op_manage_add(struct hypercall *hc)
{
    struct physdev_manage_pci s;

    if (READ(hc, s))
        return -EFAULT;
    return pcidev_add(0, s.bus, s.devfn, 0, 0, 0, 0);
}

static long op_manage_remove(struct hypercall *hc)
{
    struct physdev_manage_pci s;

    if (READ(hc, s))
        return -EFAULT;
    return pcidev_remove(0, s.bus, s.devfn);
}

static long op_manage_add_ext(struct hypercall *hc)
{
    struct physdev_manage_pci_ext s;
    uint32_t flags;

    if (READ(hc, s))
        return -EFAULT;
    if (s.is_extfn > 1 || s.is_virtfn > 1)
        return -EINVAL;
    flags = (s.is_extfn ? XEN_PCI_DEV_EXTFN : 0) | (s.is_virtfn ? XEN_PCI_DEV_VIRTFN : 0);
    return pcidev_add(0, s.bus, s.devfn, flags, s.physfn.bus, s.physfn.devfn, 0);
}

static long op_device_add(struct hypercall *hc)
{
    struct physdev_pci_device_add s;
    uint32_t pxm = 0;

    if (guest_read(hc->caller, &s, GVA(hc->arg[1]), offsetof(struct physdev_pci_device_add, optarr)))
        return -EFAULT;
    if (s.flags & ~(XEN_PCI_DEV_EXTFN | XEN_PCI_DEV_VIRTFN | XEN_PCI_DEV_PXM))
        return -EINVAL;
    if ((s.flags & XEN_PCI_DEV_PXM) &&
        guest_read(hc->caller, &pxm, GVA(hc->arg[1] + offsetof(struct physdev_pci_device_add, optarr)),
                   sizeof(pxm)))
        return -EFAULT;
    return pcidev_add(s.seg, s.bus, s.devfn, s.flags, s.physfn.bus, s.physfn.devfn, pxm);
}

static long op_device_remove(struct hypercall *hc)
{
    struct physdev_pci_device s;

    if (READ(hc, s))
        return -EFAULT;
    return pcidev_remove(s.seg, s.bus, s.devfn);
}

/* What we cache about a device are its messages: written again. */
static long restore(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    if (!pcidev_known(seg, bus, devfn))
        return -ENODEV;
    irq_restore_msi(seg, bus, devfn);
    return 0;
}

static long op_restore_msi(struct hypercall *hc)
{
    struct physdev_restore_msi s;

    if (READ(hc, s))
        return -EFAULT;
    return restore(0, s.bus, s.devfn);
}

static long op_restore_msi_ext(struct hypercall *hc)
{
    struct physdev_pci_device s;

    if (READ(hc, s))
        return -EFAULT;
    return restore(s.seg, s.bus, s.devfn);
}

#ifdef PHYSDEVOP_pci_device_reset
/* Nothing of a device is cached over a reset: its messages come from the lines whenever they are written. */
static long op_device_reset(struct hypercall *hc)
{
    struct pci_device_reset s;

    if (READ(hc, s))
        return -EFAULT;
    if (s.flags & ~PCI_DEVICE_RESET_MASK)
        return -EINVAL;
    return pcidev_known(s.dev.seg, s.dev.bus, s.dev.devfn) ? 0 : -ENODEV;
}
#endif

static long op_prepare_msix(struct hypercall *hc)
{
    struct physdev_pci_device s;

    if (READ(hc, s))
        return -EFAULT;
    return pcidev_known(s.seg, s.bus, s.devfn) ? msix_prepare(s.seg, s.bus, s.devfn) : -ENODEV;
}

static long op_release_msix(struct hypercall *hc)
{
    struct physdev_pci_device s;

    if (READ(hc, s))
        return -EFAULT;
    return msix_release(s.seg, s.bus, s.devfn);
}

static long op_mmcfg_reserved(struct hypercall *hc)
{
    struct physdev_pci_mmcfg_reserved s;

    if (READ(hc, s))
        return -EFAULT;
    if (s.flags & ~XEN_PCI_MMCFG_RESERVED)
        return -EINVAL;
    return pci_mmcfg_enable(MADDR(s.address), s.segment, s.start_bus, s.end_bus,
                            s.flags & XEN_PCI_MMCFG_RESERVED)
               ? 0
               : -ENODEV;
}

/* The hardware domain is about to reset, or has reset, the USB controller behind a debug port console. We
 * drive none, so nothing of ours is in its way. */
static long op_dbgp(struct hypercall *hc)
{
    struct physdev_dbgp_op s;

    if (READ(hc, s))
        return -EFAULT;
    if ((s.op != PHYSDEVOP_DBGP_RESET_PREPARE && s.op != PHYSDEVOP_DBGP_RESET_DONE) ||
        (s.bus != PHYSDEVOP_DBGP_BUS_UNKNOWN && s.bus != PHYSDEVOP_DBGP_BUS_PCI))
        return -EINVAL;
    return 0;
}

#define HW(n, fn)                                                                                            \
    {                                                                                                        \
        PHYSDEVOP_##n, PERM_HARDWARE, #n, fn                                                                 \
    }
#define ANY(n, fn)                                                                                           \
    {                                                                                                        \
        PHYSDEVOP_##n, PERM_ANY, #n, fn                                                                      \
    }

const struct hc_op physdev_ops[] = {
    {PHYSDEVOP_IRQ_UNMASK_NOTIFY, PERM_ANY, "irq_unmask_notify", NULL, ENOSYS, "interface of 2006: use eoi"},
    ANY(irq_status_query, op_status),
    ANY(set_iopl, op_set_iopl),
    ANY(set_iobitmap, op_set_iobitmap),
    HW(apic_read, op_apic_read),
    {PHYSDEVOP_apic_write, PERM_HARDWARE, "apic_write", op_apic_write, 0,
     "takes trigger and polarity of unused lines, ignores the rest"},
    HW(alloc_irq_vector, op_alloc_irq_vector),
    {PHYSDEVOP_free_irq_vector, PERM_HARDWARE, "free_irq_vector", NULL, ENOSYS, "vectors are Krypton's"},
    ANY(eoi, op_eoi),
    HW(map_pirq, op_map_pirq),
    HW(unmap_pirq, op_unmap_pirq),
    HW(manage_pci_add, op_manage_add),
    HW(manage_pci_remove, op_manage_remove),
    {PHYSDEVOP_pirq_eoi_gmfn_v1, PERM_ANY, "pirq_eoi_gmfn_v1", NULL, ENOSYS,
     "version 1 unmasks event channels by the way; use v2"},
    HW(restore_msi, op_restore_msi),
    HW(manage_pci_add_ext, op_manage_add_ext),
    HW(setup_gsi, op_setup_gsi),
    ANY(get_free_pirq, op_get_free_pirq),
    HW(pci_mmcfg_reserved, op_mmcfg_reserved),
    HW(pci_device_add, op_device_add),
    HW(pci_device_remove, op_device_remove),
    HW(restore_msi_ext, op_restore_msi_ext),
    ANY(pirq_eoi_gmfn_v2, op_eoi_page),
    {PHYSDEVOP_dbgp_op, PERM_HARDWARE, "dbgp_op", op_dbgp, 0,
     "no debug-port console of our own: nothing to prepare"},
    HW(prepare_msix, op_prepare_msix),
    HW(release_msix, op_release_msix),
#ifdef PHYSDEVOP_pci_device_reset
    HW(pci_device_reset, op_device_reset),
#else
    {32, PERM_HARDWARE, "pci_device_reset", NULL, ENOSYS, "not in the 4.17 interface headers"},
#endif
};
const unsigned physdev_op_count = ARRAY_SIZE(physdev_ops);
