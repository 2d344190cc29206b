/*
 * IO-APICs (Intel 82093AA; AMD and ICH data sheets) and the 8259s, which are only silenced.
 *
 * Invariants
 *  1. Index and data of one IO-APIC are accessed under its lock: they are one register pair.
 *  2. A pin whose entry is being rewritten is masked while the two halves disagree.
 *  3. shadow[] holds the low half of every entry as last written: masking needs no read of the device.
 * Locks: ioapic_lock (RANK_IOAPIC, interrupts off).
 */
#include "../metal/asm.h"
#include "core/alloc.h"
#include "core/log.h"
#include "private.h"
#include "x86/mm.h"

#define IND_SEL    0x00
#define WINDOW     0x10
#define R_ID       0x00
#define R_VERSION  0x01
#define R_ARB      0x02
#define R_ENTRY    0x10
#define MAX_GSI    (IRQ_MAX / 2)

#define RTE_LOW    (1u << 13)
#define RTE_LEVEL  (1u << 15)
#define RTE_MASKED (1u << 16)

struct ioapic {
    volatile uint32_t *regs;
    uint64_t base;
    unsigned gsi_base, pins;
    uint32_t *shadow; /* by pin */
};

static struct ioapic ioapics[ARRAY_SIZE(acpi.ioapic)];
static unsigned ioapic_count;
static struct spinlock ioapic_lock = SPINLOCK_INIT(RANK_IOAPIC);

static uint32_t raw_read(const struct ioapic *a, uint32_t reg)
{
    a->regs[IND_SEL / 4] = reg;
    return a->regs[WINDOW / 4];
}

static void raw_write(const struct ioapic *a, uint32_t reg, uint32_t v)
{
    a->regs[IND_SEL / 4] = reg;
    a->regs[WINDOW / 4] = v;
}

static struct ioapic *of_gsi(unsigned gsi, unsigned *pin)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].pins) {
            *pin = gsi - ioapics[i].gsi_base;
            return &ioapics[i];
        }
    return NULL;
}

bool ioapic_has_gsi(unsigned gsi)
{
    unsigned pin;

    return of_gsi(gsi, &pin) != NULL;
}

static bool ioapic_add(const struct acpi_ioapic *from)
{
    struct ioapic *a = &ioapics[ioapic_count];

    a->base = from->base.a;
    a->gsi_base = from->gsi_base;
    a->regs = mm_map_device(from->base, 32);
    if (!a->regs || raw_read(a, R_VERSION) == ~0u) {
        log_warn("IO-APIC %u at %#llx does not answer", from->id, (unsigned long long)a->base);
        return false;
    }
    a->pins = ((raw_read(a, R_VERSION) >> 16) & 0xff) + 1;
    if (a->gsi_base >= MAX_GSI || a->pins > MAX_GSI - a->gsi_base) {
        log_warn("IO-APIC %u: interrupts %u-%u are beyond what Krypton serves (%u)", from->id, a->gsi_base,
                 a->gsi_base + a->pins - 1, MAX_GSI);
        return false;
    }
    a->shadow = mem_alloc_array(a->pins, sizeof(*a->shadow));
    if (!a->shadow)
        panic("IO-APIC: no memory");
    for (unsigned pin = 0; pin < a->pins; pin++) {
        a->shadow[pin] = RTE_MASKED;
        raw_write(a, R_ENTRY + 2 * pin, RTE_MASKED);
        raw_write(a, R_ENTRY + 2 * pin + 1, 0);
    }
    iomem_reserve(from->base, FRAME_SIZE, "IO-APIC");
    return true;
}

/* All lines of both chips masked, moved away from the exception vectors in case one is spurious anyway. */
static void pic_silence(void)
{
    static const uint8_t base[2] = {0x20, 0xa0};

    for (unsigned i = 0; i < 2; i++) {
        out8(base[i] + 1, 0xff);
        out8(base[i], 0x11);
        out8(base[i] + 1, (uint8_t)(0x20 + 8 * i));
        out8(base[i] + 1, i ? 2 : 4);
        out8(base[i] + 1, 1);
        out8(base[i] + 1, 0xff);
        port_reserve(base[i], base[i] + 1, "8259");
    }
}

unsigned ioapic_init(void)
{
    unsigned top = 0;

    if (acpi.pcat_compat)
        pic_silence();
    for (unsigned i = 0; i < acpi.ioapic_count; i++) {
        struct ioapic *a = &ioapics[ioapic_count];

        if (!ioapic_add(&acpi.ioapic[i]))
            continue;
        log_debug("IO-APIC %u: GSI %u-%u", acpi.ioapic[i].id, a->gsi_base, a->gsi_base + a->pins - 1);
        top = MAX(top, a->gsi_base + a->pins);
        ioapic_count++;
    }
    if (!ioapic_count)
        panic("no usable IO-APIC (the MADT names %u): devices could not interrupt", acpi.ioapic_count);
    return top;
}

void ioapic_write(unsigned gsi, uint8_t vector, bool level, bool low, uint32_t dest, bool masked)
{
    unsigned pin;
    struct ioapic *a = of_gsi(gsi, &pin);
    uint32_t v = vector | (level ? RTE_LEVEL : 0) | (low ? RTE_LOW : 0);
    unsigned long flags;

    if (!a)
        return;
    flags = spin_lock_irq(&ioapic_lock);
    raw_write(a, R_ENTRY + 2 * pin, v | RTE_MASKED);
    raw_write(a, R_ENTRY + 2 * pin + 1, dest << 24);
    if (!masked)
        raw_write(a, R_ENTRY + 2 * pin, v);
    a->shadow[pin] = v | (masked ? RTE_MASKED : 0);
    spin_unlock_irq(&ioapic_lock, flags);
}

void ioapic_mask(unsigned gsi, bool masked)
{
    unsigned pin;
    struct ioapic *a = of_gsi(gsi, &pin);
    unsigned long flags;

    if (!a)
        return;
    flags = spin_lock_irq(&ioapic_lock);
    a->shadow[pin] = (a->shadow[pin] & ~RTE_MASKED) | (masked ? RTE_MASKED : 0);
    raw_write(a, R_ENTRY + 2 * pin, a->shadow[pin]);
    if (masked)
        raw_read(a, R_ENTRY + 2 * pin); /* the write has arrived before the caller goes on to its EOI */
    spin_unlock_irq(&ioapic_lock, flags);
}

void ioapic_set_dest(unsigned gsi, uint32_t dest)
{
    unsigned pin;
    struct ioapic *a = of_gsi(gsi, &pin);
    unsigned long flags;

    if (!a)
        return;
    flags = spin_lock_irq(&ioapic_lock);
    raw_write(a, R_ENTRY + 2 * pin + 1, dest << 24);
    spin_unlock_irq(&ioapic_lock, flags);
}

uint64_t ioapic_entry(unsigned gsi)
{
    unsigned pin;
    struct ioapic *a = of_gsi(gsi, &pin);
    unsigned long flags;
    uint64_t v;

    if (!a)
        return RTE_MASKED;
    flags = spin_lock_irq(&ioapic_lock);
    v = raw_read(a, R_ENTRY + 2 * pin) | (uint64_t)raw_read(a, R_ENTRY + 2 * pin + 1) << 32;
    spin_unlock_irq(&ioapic_lock, flags);
    return v;
}

static struct ioapic *of_base(uint64_t base)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (ioapics[i].base == base)
            return &ioapics[i];
    return NULL;
}

int ioapic_reg_read(uint64_t base, uint32_t reg, uint32_t *value)
{
    struct ioapic *a = of_base(base);
    unsigned long flags;

    if (!a || (reg > R_ARB && (reg < R_ENTRY || reg >= R_ENTRY + 2 * a->pins)))
        return -EINVAL;
    flags = spin_lock_irq(&ioapic_lock);
    *value = raw_read(a, reg);
    spin_unlock_irq(&ioapic_lock, flags);
    return 0;
}

int ioapic_reg_gsi(uint64_t base, uint32_t reg)
{
    const struct ioapic *a = of_base(base);

    if (!a || reg < R_ENTRY || reg >= R_ENTRY + 2 * a->pins || (reg & 1))
        return -1;
    return (int)(a->gsi_base + (reg - R_ENTRY) / 2);
}

unsigned isa_gsi(unsigned isa_irq, bool *level, bool *low)
{
    *level = *low = false;
    for (unsigned i = 0; i < acpi.override_count; i++)
        if (acpi.override[i].irq == isa_irq) {
            *level = acpi.override[i].level;
            *low = acpi.override[i].low;
            return acpi.override[i].gsi;
        }
    return isa_irq;
}
