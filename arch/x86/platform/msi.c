/*
 * Message-signalled interrupts (PCI 3.0 6.8): finds a device's capability, writes messages, masks.
 *
 * The hardware domain enables MSI and MSI-X in the device's control register itself and leaves addresses,
 * data and mask bits to us (that is what Linux does as a PV dom0).
 *
 * Invariants
 *  1. uses = number of struct msi with dev set to this device, plus one while it is `prepared`; a device with
 * uses = 0 is off the list and its table unmapped.
 *  2. An MSI-X slot is only touched inside the table's size as the device's control register gives it.
 *  3. A device has MSI or MSI-X messages, never both.
 *  4. The destination changes by one aligned 32-bit write: no interrupt sees half a message.
 * Locks: devs_lock (RANK_PCI is below configuration accesses, so RANK_IOAPIC) for the list and counts; the
 * messages of a device belong to their lines' locks.
 */
#include "core/alloc.h"
#include "core/log.h"
#include "drivers/pci.h"
#include "lib/fmt.h"
#include "private.h"
#include "x86/mm.h"

#define MSG_ADDRESS   0xfee00000u
#define MSI_CONTROL   2
#define MSI_ENABLE    0x0001
#define MSI_MMC(c)    (((c) >> 1) & 7) /* log2 of the messages it can have */
#define MSI_MME_SHIFT 4
#define MSI_64        0x0080
#define MSI_MASKABLE  0x0100
#define MSIX_CONTROL  2
#define MSIX_TABLE    4
#define MSIX_ENABLE   0x8000
#define MSIX_SIZE(c)  (((c)&0x7ff) + 1u)
#define SLOT_WORDS    4 /* address, address high, data, control */
#define SLOT_MASKED   1u

struct msi_dev {
    struct msi_dev *next; /* [devs_lock] */
    uint16_t seg;
    uint8_t bus, devfn;       /* [c] */
    bool msix;                /* [c] */
    bool prepared;            /* [devs_lock] */
    uint8_t cap;              /* [c] */
    uint16_t control;         /* [c] as found */
    unsigned uses;            /* [devs_lock] */
    unsigned table_size;      /* [c] MSI-X entries */
    volatile uint32_t *table; /* [c] */
    uint64_t *taken;          /* [devs_lock] bitmap of used entries */
};

static struct msi_dev *devs;
static struct spinlock devs_lock = SPINLOCK_INIT(RANK_IOAPIC);

static uint32_t cfg_rd(const struct msi_dev *d, unsigned off, unsigned bytes)
{
    return pci_rd(d->seg, d->bus, d->devfn, (uint16_t)(d->cap + off), bytes);
}

static void cfg_wr(const struct msi_dev *d, unsigned off, unsigned bytes, uint32_t v)
{
    pci_wr(d->seg, d->bus, d->devfn, (uint16_t)(d->cap + off), bytes, v);
}

static unsigned data_off(const struct msi_dev *d)
{
    return d->control & MSI_64 ? 12 : 8;
}

static unsigned mask_off(const struct msi_dev *d)
{
    return d->control & MSI_64 ? 16 : 12;
}

/* --- devices
 * -------------------------------------------------------------------------------------------------------- */

/* The table's address: by the device's own BAR, or by the BAR's start as the hardware domain gives it (a
 * virtual function's BARs read as zero). 0 = none. */
static uint64_t table_address(const struct msi_dev *d, uint64_t hint)
{
    uint32_t where = cfg_rd(d, MSIX_TABLE, 4), bar;
    unsigned bir = where & 7;
    uint64_t base;

    if (bir > 5)
        return 0;
    bar = pci_rd(d->seg, d->bus, d->devfn, (uint16_t)(PCI_BAR0 + 4 * bir), 4);
    if (bar & 1)
        return 0;
    base = bar & ~0xfu;
    if ((bar & 6) == 4 && bir < 5)
        base |= (uint64_t)pci_rd(d->seg, d->bus, d->devfn, (uint16_t)(PCI_BAR0 + 4 * bir + 4), 4) << 32;
    if (!base)
        base = hint;
    return base ? base + (where & ~7u) : 0;
}

/* May this be a device's table? Never RAM, never Krypton's own registers. */
static bool table_allowed(uint64_t pa, size_t bytes)
{
    for (uint64_t a = pa & ~(FRAME_SIZE - 1); a < pa + bytes; a += FRAME_SIZE)
        if (!iomem_allowed(dom0, maddr_to_mfn(MADDR(a))))
            return false;
    return !(pa & 7) && pa + bytes > pa;
}

static int map_table(struct msi_dev *d, uint64_t hint)
{
    size_t bytes;
    uint64_t pa;

    if (!(pci_rd(d->seg, d->bus, d->devfn, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY))
        return -ENXIO;
    d->table_size = MSIX_SIZE(d->control);
    bytes = d->table_size * SLOT_WORDS * 4;
    pa = table_address(d, hint);
    if (!pa || !table_allowed(pa, bytes))
        return -EINVAL;
    d->taken = mem_alloc_array((d->table_size + 63) / 64, 8);
    if (!d->taken)
        return -ENOMEM;
    d->table = mm_map_device(MADDR(pa), bytes);
    if (!d->table) {
        mem_free(d->taken);
        return -ENOMEM;
    }
    return 0;
}

static int dev_new(uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, uint64_t hint, struct msi_dev **out)
{
    struct msi_dev *d;
    uint8_t cap = pci_find_capability(seg, bus, devfn, msix ? PCI_CAP_ID_MSIX : PCI_CAP_ID_MSI);
    int ret;

    if (!cap)
        return -ENODEV;
    d = mem_new(struct msi_dev);
    if (!d)
        return -ENOMEM;
    d->seg = seg;
    d->bus = bus;
    d->devfn = devfn;
    d->msix = msix;
    d->cap = cap;
    d->control = (uint16_t)cfg_rd(d, MSI_CONTROL, 2);
    ret = msix ? map_table(d, hint) : 0;
    if (ret) {
        mem_free(d);
        return ret;
    }
    *out = d;
    return 0;
}

static void dev_free(struct msi_dev *d)
{
    if (d->table)
        mm_unmap_device((void *)(uintptr_t)d->table, d->table_size * SLOT_WORDS * 4);
    mem_free(d->taken);
    mem_free(d);
}

static struct msi_dev *dev_find(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    for (struct msi_dev *d = devs; d; d = d->next)
        if (d->seg == seg && d->bus == bus && d->devfn == devfn)
            return d;
    return NULL;
}

/* The device with one more use, made if it is not on the list. */
static int dev_get(uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, uint64_t hint, struct msi_dev **out)
{
    struct msi_dev *fresh = NULL, *d;
    unsigned long flags;
    int ret = 0;

    for (;;) {
        flags = spin_lock_irq(&devs_lock);
        d = dev_find(seg, bus, devfn);
        if (!d && fresh) {
            fresh->next = devs;
            devs = d = fresh;
            fresh = NULL;
        }
        if (d && d->msix == msix)
            d->uses++;
        else if (d)
            ret = -EBUSY;
        spin_unlock_irq(&devs_lock, flags);
        if (d || ret)
            break;
        ret = dev_new(seg, bus, devfn, msix, hint, &fresh); /* maps memory: not under a lock */
        if (ret)
            return ret;
    }
    if (fresh)
        dev_free(fresh);
    *out = d;
    return ret;
}

static void dev_put(struct msi_dev *d)
{
    unsigned long flags = spin_lock_irq(&devs_lock);
    bool last = !--d->uses;

    for (struct msi_dev **at = &devs; last && *at; at = &(*at)->next)
        if (*at == d) {
            *at = d->next;
            break;
        }
    spin_unlock_irq(&devs_lock, flags);
    if (last)
        dev_free(d);
}

/* --- messages
 * ----------------------------------------------------------------------------------------------------------
 */

static int entry_take(struct msi_dev *d, unsigned entry, unsigned count)
{
    unsigned long flags;
    int ret = 0;

    if (!d->msix)
        return entry < count && count <= 1u << MSI_MMC(d->control) ? 0 : -EINVAL;
    if (entry >= d->table_size)
        return -EINVAL;
    flags = spin_lock_irq(&devs_lock);
    if (d->taken[entry / 64] >> (entry % 64) & 1)
        ret = -EEXIST;
    else
        d->taken[entry / 64] |= 1ull << (entry % 64);
    spin_unlock_irq(&devs_lock, flags);
    return ret;
}

int msi_attach(struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, unsigned entry,
               unsigned count, uint64_t table_base)
{
    struct msi_dev *d;
    int ret = dev_get(seg, bus, devfn, msix, table_base, &d);

    if (ret)
        return ret;
    /* Plain MSI has one block: the device must be ours alone when its first message is attached. */
    ret = !msix && !entry && __atomic_load_n(&d->uses, __ATOMIC_RELAXED) != 1 ? -EEXIST
                                                                              : entry_take(d, entry, count);
    if (ret) {
        dev_put(d);
        return ret;
    }
    *m = (struct msi){.dev = d, .msix = msix, .entry = (uint16_t)entry, .count = (uint16_t)count};
    return 0;
}

void msi_detach(struct msi *m)
{
    struct msi_dev *d = m->dev;
    unsigned long flags;

    if (!d)
        return;
    if (d->msix) {
        flags = spin_lock_irq(&devs_lock);
        d->taken[m->entry / 64] &= ~(1ull << (m->entry % 64));
        spin_unlock_irq(&devs_lock, flags);
    }
    m->dev = NULL;
    dev_put(d);
}

static volatile uint32_t *slot(const struct msi *m)
{
    return m->dev->table + m->entry * SLOT_WORDS;
}

static uint32_t address_of(uint32_t dest)
{
    return MSG_ADDRESS | dest << 12; /* physical destination, no redirection */
}

static void program_msi(const struct msi *m, uint8_t vector, uint32_t dest)
{
    const struct msi_dev *d = m->dev;
    uint16_t control;

    if (m->entry) /* the first message's registers stand for the whole block */
        return;
    control = (uint16_t)(cfg_rd(d, MSI_CONTROL, 2) & ~(7u << MSI_MME_SHIFT));
    for (unsigned n = m->count; n > 1; n >>= 1)
        control = (uint16_t)(control + (1u << MSI_MME_SHIFT));
    cfg_wr(d, 4, 4, address_of(dest));
    if (d->control & MSI_64)
        cfg_wr(d, 8, 4, 0);
    cfg_wr(d, data_off(d), 2, vector);
    cfg_wr(d, MSI_CONTROL, 2, control);
}

void msi_program(const struct msi *m, uint8_t vector, uint32_t dest)
{
    if (!m->dev)
        return;
    if (!m->msix) {
        program_msi(m, vector, dest);
        return;
    }
    slot(m)[3] |= SLOT_MASKED;
    slot(m)[0] = address_of(dest);
    slot(m)[1] = 0;
    slot(m)[2] = vector;
}

void msi_mask(const struct msi *m, bool masked)
{
    uint32_t v;

    if (!m->dev)
        return;
    if (m->msix) {
        v = slot(m)[3] & ~SLOT_MASKED;
        slot(m)[3] = v | (masked ? SLOT_MASKED : 0);
        (void)slot(m)[3]; /* posted writes have arrived */
    } else if (m->dev->control & MSI_MASKABLE) {
        v = cfg_rd(m->dev, mask_off(m->dev), 4) & ~(1u << m->entry);
        cfg_wr(m->dev, mask_off(m->dev), 4, v | (uint32_t)masked << m->entry);
    }
}

void msi_set_dest(const struct msi *m, uint32_t dest)
{
    if (!m->dev)
        return;
    if (m->msix)
        slot(m)[0] = address_of(dest);
    else if (!m->entry)
        cfg_wr(m->dev, 4, 4, address_of(dest));
}

void msi_disable(const struct msi *m)
{
    const struct msi_dev *d = m->dev;

    if (!d || m->msix || m->entry || !pci_present(d->seg, d->bus, d->devfn))
        return;
    cfg_wr(d, MSI_CONTROL, 2, cfg_rd(d, MSI_CONTROL, 2) & ~(uint32_t)MSI_ENABLE);
}

void msi_restore_control(const struct msi *m)
{
    const struct msi_dev *d = m->dev;
    uint16_t enable = m->msix ? MSIX_ENABLE : MSI_ENABLE;

    if (m->msix || !m->entry)
        cfg_wr(d, MSI_CONTROL, 2, cfg_rd(d, MSI_CONTROL, 2) | enable);
}

bool msi_is_of(const struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn)
{
    return m->dev && m->dev->seg == seg && m->dev->bus == bus && m->dev->devfn == devfn;
}

void msi_describe(const struct msi *m, char *to, size_t size)
{
    if (m->dev)
        fmt_snprintf(to, size, "%s %04x:%02x:%02x.%u entry %u", m->msix ? "MSI-X" : "MSI", m->dev->seg,
                     m->dev->bus, m->dev->devfn >> 3, m->dev->devfn & 7u, m->entry);
    else
        fmt_snprintf(to, size, "MSI (closing)");
}

int msix_prepare(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    struct msi_dev *d;
    int ret = dev_get(seg, bus, devfn, true, 0, &d);
    unsigned long flags;
    bool again;

    if (ret)
        return ret;
    flags = spin_lock_irq(&devs_lock);
    again = d->prepared;
    d->prepared = true;
    spin_unlock_irq(&devs_lock, flags);
    if (again)
        dev_put(d);
    return 0;
}

int msix_release(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    unsigned long flags = spin_lock_irq(&devs_lock);
    struct msi_dev *d = dev_find(seg, bus, devfn);
    int ret = !d || !d->prepared ? -ENODEV : d->uses > 1 ? -EBUSY : 0;

    if (!ret)
        d->prepared = false;
    spin_unlock_irq(&devs_lock, flags);
    if (!ret)
        dev_put(d);
    return ret;
}
