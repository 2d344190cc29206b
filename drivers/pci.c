/*
 * PCI configuration space: mechanism #1 (ports 0xcf8/0xcfc, under a lock: the address register is one for all
 * CPUs) for segment 0 and registers below 256, the memory-mapped way of the MCFG table for the rest.
 *
 * Invariants
 *  1. Nobody else writes 0xcf8: guests' accesses are emulated by these functions.
 *  2. bus_window[i] is NULL or a whole mapped bus (1 MiB); once set it stays.
 *  3. A register that cannot be reached reads as all ones and swallows writes, as absent hardware does.
 * Locks: cf8 (RANK_PCI, interrupts off).
 */
#include "../arch/x86/metal/asm.h"
#include "arch/cpu.h"
#include "core/lock.h"
#include "drivers/pci.h"
#include "x86/mm.h"
#include "x86/platform.h"

#define ADDRESS   0xcf8
#define DATA      0xcfc
#define BUS_BYTES (1u << 20)
#define WINDOWS   256u

static struct spinlock cf8 = SPINLOCK_INIT(RANK_PCI);
static bool segment_ok[ARRAY_SIZE(acpi.mcfg)];
static struct {
    uint32_t key; /* segment << 8 | bus, + 1; 0 = free */
    uint8_t *va;  /* NULL while it is being mapped */
} window[WINDOWS];
#define NO_WINDOW ((uint8_t *)1)

bool pci_mmcfg_enable(maddr_t base, uint16_t seg, uint8_t first, uint8_t last, bool reserved)
{
    for (unsigned i = 0; i < acpi.mcfg_count; i++) {
        const struct acpi_mcfg *m = &acpi.mcfg[i];

        if (m->base.a == base.a && m->segment == seg && m->bus_first <= first && m->bus_last >= last) {
            __atomic_store_n(&segment_ok[i], reserved, __ATOMIC_RELEASE);
            return true;
        }
    }
    return false;
}

static const struct acpi_mcfg *mcfg_of(uint16_t seg, uint8_t bus)
{
    for (unsigned i = 0; i < acpi.mcfg_count; i++)
        if (acpi.mcfg[i].segment == seg && bus >= acpi.mcfg[i].bus_first && bus <= acpi.mcfg[i].bus_last &&
            (seg || __atomic_load_n(&segment_ok[i], __ATOMIC_ACQUIRE)))
            return &acpi.mcfg[i];
    return NULL;
}

/* Maps the bus of slot i, which the caller has just taken. */
static uint8_t *window_map(unsigned i, const struct acpi_mcfg *m, uint8_t bus)
{
    uint8_t *va = mm_map_device(MADDR(m->base.a + (uint64_t)bus * BUS_BYTES), BUS_BYTES);

    __atomic_store_n(&window[i].va, va ? va : NO_WINDOW, __ATOMIC_RELEASE);
    return va;
}

/* The bus's window, mapped on first use (so not from interrupt context for a new bus). */
static uint8_t *bus_window(uint16_t seg, uint8_t bus)
{
    const struct acpi_mcfg *m = mcfg_of(seg, bus);
    uint32_t key = ((uint32_t)seg << 8 | bus) + 1;

    for (unsigned i = 0; m && i < WINDOWS; i++) {
        uint32_t seen = 0;
        uint8_t *va;

        if (__atomic_compare_exchange_n(&window[i].key, &seen, key, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return window_map(i, m, bus);
        if (seen != key)
            continue;
        while (!(va = __atomic_load_n(&window[i].va, __ATOMIC_ACQUIRE)))
            arch_cpu_relax();
        return va == NO_WINDOW ? NULL : va;
    }
    return NULL;
}

static volatile uint8_t *mmcfg_reg(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg)
{
    uint8_t *va = bus_window(seg, bus);

    return va ? va + ((uint32_t)dev << 15 | (uint32_t)fn << 12 | reg) : NULL;
}

static bool bad(uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes)
{
    return dev > 31 || fn > 7 || reg > 4095 || (bytes != 1 && bytes != 2 && bytes != 4) ||
           (reg & (bytes - 1));
}

static uint32_t ones(unsigned bytes)
{
    return bytes == 4 ? ~0u : (1u << (8 * bytes)) - 1;
}

uint32_t pci_read(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes)
{
    volatile uint8_t *p;
    unsigned long flags;
    uint32_t v;

    if (bad(dev, fn, reg, bytes))
        return ones(bytes);
    if (seg || reg > 255) {
        p = mmcfg_reg(seg, bus, dev, fn, reg);
        if (!p)
            return ones(bytes);
        return bytes == 1 ? *p : bytes == 2 ? *(volatile uint16_t *)p : *(volatile uint32_t *)p;
    }
    flags = spin_lock_irq(&cf8);
    out32(ADDRESS, 1u << 31 | (uint32_t)bus << 16 | (uint32_t)dev << 11 | (uint32_t)fn << 8 | (reg & 0xfcu));
    v = port_in((uint16_t)(DATA + (reg & 3)), bytes);
    spin_unlock_irq(&cf8, flags);
    return v;
}

void pci_write(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes,
               uint32_t value)
{
    volatile uint8_t *p;
    unsigned long flags;

    if (bad(dev, fn, reg, bytes))
        return;
    if (seg || reg > 255) {
        p = mmcfg_reg(seg, bus, dev, fn, reg);
        if (!p)
            return;
        if (bytes == 1)
            *p = (uint8_t)value;
        else if (bytes == 2)
            *(volatile uint16_t *)p = (uint16_t)value;
        else
            *(volatile uint32_t *)p = value;
        return;
    }
    flags = spin_lock_irq(&cf8);
    out32(ADDRESS, 1u << 31 | (uint32_t)bus << 16 | (uint32_t)dev << 11 | (uint32_t)fn << 8 | (reg & 0xfcu));
    port_out((uint16_t)(DATA + (reg & 3)), bytes, value);
    spin_unlock_irq(&cf8, flags);
}

bool pci_present(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    uint16_t vendor = (uint16_t)pci_rd(seg, bus, devfn, 0, 2);

    return vendor != 0xffff && vendor != 0;
}

uint8_t pci_find_capability(uint16_t seg, uint8_t bus, uint8_t devfn, uint8_t id)
{
    uint8_t pos;

    if (!pci_present(seg, bus, devfn) || !(pci_rd(seg, bus, devfn, PCI_STATUS, 2) & PCI_STATUS_CAPS))
        return 0;
    pos = pci_rd(seg, bus, devfn, PCI_CAP_LIST, 1) & 0xfc;
    /* 48 capabilities of 4 bytes fill the space: a longer list is a loop. */
    for (unsigned i = 0; i < 48 && pos >= 0x40; i++) {
        if (pci_rd(seg, bus, devfn, pos, 1) == id)
            return pos;
        pos = pci_rd(seg, bus, devfn, (uint16_t)(pos + 1), 1) & 0xfc;
    }
    return 0;
}
