/* PCI configuration space beyond what x86/platform.h declares. */
#ifndef DRIVERS_PCI_H
#define DRIVERS_PCI_H

#include "x86/platform.h"

#define PCI_COMMAND        0x04
#define PCI_COMMAND_MEMORY 0x02
#define PCI_STATUS         0x06
#define PCI_STATUS_CAPS    0x10
#define PCI_HEADER_TYPE    0x0e
#define PCI_BAR0           0x10
#define PCI_CAP_LIST       0x34
#define PCI_CAP_ID_MSI     0x05
#define PCI_CAP_ID_MSIX    0x11

/* The MCFG area of these buses is (not) reserved by the firmware, says the hardware domain. False: no such
 * area. */
bool pci_mmcfg_enable(maddr_t base, uint16_t seg, uint8_t first, uint8_t last, bool reserved);
/* Is there a function? */
bool pci_present(uint16_t seg, uint8_t bus, uint8_t devfn);
/* Offset of a capability, 0 = none. A looped list ends. */
uint8_t pci_find_capability(uint16_t seg, uint8_t bus, uint8_t devfn, uint8_t id);

static inline uint32_t pci_rd(uint16_t seg, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned bytes)
{
    return pci_read(seg, bus, devfn >> 3, devfn & 7, reg, bytes);
}
static inline void pci_wr(uint16_t seg, uint8_t bus, uint8_t devfn, uint16_t reg, unsigned bytes, uint32_t v)
{
    pci_write(seg, bus, devfn >> 3, devfn & 7, reg, bytes, v);
}

#endif
