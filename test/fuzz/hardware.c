/* Interrupt controllers, devices with messages and firmware of the fuzzed machine, as arch/x86/platform sees them: they agree to all. */
#include "fuzz.h"
#include "drivers/pci.h"
#include "x86/cpu.h"
#include "x86/layout.h"
#include "../../arch/x86/platform/private.h"

#define GSIS 24u

struct acpi_facts acpi;
uint32_t cpu_apic_id[MAX_CPUS];

unsigned ioapic_init(void)
{
    return GSIS;
}
bool ioapic_has_gsi(unsigned gsi)
{
    return gsi < GSIS;
}
void ioapic_write(unsigned gsi, uint8_t vector, bool level, bool low, uint32_t dest, bool masked)
{
}
void ioapic_mask(unsigned gsi, bool masked)
{
}
void ioapic_set_dest(unsigned gsi, uint32_t dest)
{
}
uint64_t ioapic_entry(unsigned gsi)
{
    return 0;
}
int ioapic_reg_read(uint64_t base, uint32_t reg, uint32_t *value)
{
    *value = 0;
    return base == 0xfec00000 && reg < 0x10 + 2 * GSIS ? 0 : -EINVAL;
}
int ioapic_reg_gsi(uint64_t base, uint32_t reg)
{
    return reg >= 0x10 && reg % 2 == 0 ? (int)(reg - 0x10) / 2 : -1;
}
unsigned isa_gsi(unsigned irq, bool *level, bool *low)
{
    *level = *low = irq == 9;
    return irq == 0 ? 2 : irq;
}
void apic_eoi(void)
{
}

/* Every function has eight messages of each kind. */
int msi_attach(struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, unsigned entry,
               unsigned count, uint64_t table_base)
{
    if (seg || bus > 3 || entry >= 8 || count > 8)
        return -ENODEV;
    *m = (struct msi){(struct msi_dev *)&acpi, msix, (uint16_t)entry, (uint16_t)count};
    return 0;
}
void msi_detach(struct msi *m)
{
    m->dev = NULL;
}
void msi_program(const struct msi *m, uint8_t vector, uint32_t dest)
{
}
void msi_mask(const struct msi *m, bool masked)
{
}
void msi_set_dest(const struct msi *m, uint32_t dest)
{
}
void msi_disable(const struct msi *m)
{
}
bool msi_is_of(const struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn)
{
    return m->dev != NULL;
}
void msi_describe(const struct msi *m, char *to, size_t size)
{
    *to = 0;
}
void msi_restore_control(const struct msi *m)
{
}
int msix_prepare(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    return 0;
}
int msix_release(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    return 0;
}

bool pci_mmcfg_enable(maddr_t base, uint16_t seg, uint8_t first, uint8_t last, bool reserved)
{
    return false;
}
uint32_t topology_node_of_pxm(uint32_t pxm)
{
    return pxm;
}
uint32_t acpi_id_of_apic(uint32_t apic_id)
{
    return apic_id;
}
int ucode_revision(struct ucode_revision *r)
{
    return r->cpu < FUZZ_CPUS ? 0 : -ENOENT;
}
long firmware_info_op(struct vcpu *caller, xenpf_firmware_info_t *f)
{
    return -ESRCH;
}
bool symbol_get(unsigned i, uint64_t *addr, const char **name)
{
    *addr = HYP_VIRT_START + i;
    *name = "one_of_the_hypervisors_functions";
    return i < 3;
}
