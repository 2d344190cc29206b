/*
 * PCI functions that the hardware domain has reported (PHYSDEVOP_pci_device_add and its older forms). Krypton
 * scans no bus itself: the list is what passthrough and IOMMUs will work from.
 *
 * Invariants: at most one entry for each segment/bus/devfn; at most MAX_DEVS entries (the domain cannot use
 * up memory). Locks: lock (RANK_PIRQ).
 */
#include "arch/control.h"
#include "core/alloc.h"
#include "core/domain.h"
#include "core/log.h"
#include "drivers/pci.h"
#include "private.h"

#define MAX_DEVS 4096u

struct pcidev {
    struct pcidev *next;
    uint16_t seg;
    uint8_t bus, devfn;
    uint32_t flags; /* XEN_PCI_DEV_* */
    uint8_t pf_bus, pf_devfn;
    uint32_t pxm;
};

static struct pcidev *list;
static unsigned count;
static struct spinlock lock = SPINLOCK_INIT(RANK_PIRQ);

static struct pcidev **find(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    struct pcidev **at = &list;

    while (*at && ((*at)->seg != seg || (*at)->bus != bus || (*at)->devfn != devfn))
        at = &(*at)->next;
    return at;
}

int pcidev_add(uint16_t seg, uint8_t bus, uint8_t devfn, uint32_t flags, uint8_t pf_bus, uint8_t pf_devfn,
               uint32_t pxm)
{
    struct pcidev *fresh = mem_new(struct pcidev), *d;
    int ret = 0;

    if (!fresh)
        return -ENOMEM;
    spin_lock(&lock);
    d = *find(seg, bus, devfn);
    if (!d && count < MAX_DEVS) {
        d = fresh;
        fresh = NULL;
        d->next = list;
        list = d;
        count++;
    }
    if (d) {
        d->seg = seg;
        d->bus = bus;
        d->devfn = devfn;
        d->flags = flags;
        d->pf_bus = pf_bus;
        d->pf_devfn = pf_devfn;
        d->pxm = pxm;
    } else {
        ret = -ENOSPC;
    }
    spin_unlock(&lock);
    mem_free(fresh);
    if (!ret)
        log_guest(dom0->id, LOG_DEBUG, "PCI add %04x:%02x:%02x.%u", seg, bus, devfn >> 3, devfn & 7u);
    return ret;
}

int pcidev_remove(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    struct pcidev **at, *d;

    spin_lock(&lock);
    at = find(seg, bus, devfn);
    d = *at;
    if (d) {
        *at = d->next;
        count--;
    }
    spin_unlock(&lock);
    mem_free(d);
    return d ? 0 : -ENODEV;
}

bool pcidev_known(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    bool known;

    spin_lock(&lock);
    known = *find(seg, bus, devfn) != NULL;
    spin_unlock(&lock);
    return known;
}

uint32_t arch_pci_node(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    const struct pcidev *d;
    uint32_t node = XEN_INVALID_DEV;

    spin_lock(&lock);
    d = *find(seg, bus, devfn);
    if (d)
        node = d->flags & XEN_PCI_DEV_PXM ? topology_node_of_pxm(d->pxm) : XEN_INVALID_NODE_ID;
    spin_unlock(&lock);
    return node;
}
