/*
 * ACPI on the machine: finds the root pointer, runs the parser (acpi_parse.c), keeps the facts, switches off.
 *
 * Invariants: `acpi` is complete after acpi_init() and constant from then on. It names at least one usable
 * CPU. Locks: none (boot CPU, before the others start).
 */
#include "../metal/asm.h"
#include "acpi_parse.h"
#include "core/log.h"
#include "private.h"
#include "x86/boot.h"
#include "x86/cpu.h"
#include "x86/mm.h"

#define BDA_EBDA_SEGMENT 0x40e
#define BIOS_AREA        0xe0000
#define BIOS_AREA_SIZE   0x20000
#define SLP_EN           (1u << 13)

struct acpi_facts acpi;

static const void *map_firmware(void *ctx, uint64_t pa, size_t len)
{
    uint64_t limit = 1ull << (cpu_features.phys_bits ? cpu_features.phys_bits : 36);

    if (!len || pa >= limit || len > limit - pa)
        return NULL;
    return mm_map_firmware(MADDR(pa), len);
}

static const struct acpi_source firmware = {map_firmware, NULL};

/* ACPI 5.2.5.1: the first KiB of the EBDA, then the BIOS read-only area. */
static uint64_t search_bios(void)
{
    const uint8_t *low = map_firmware(NULL, 0, 0x1000);
    uint64_t ebda, found = 0;

    if (low) {
        ebda = (uint64_t)(low[BDA_EBDA_SEGMENT] | low[BDA_EBDA_SEGMENT + 1] << 8) << 4;
        if (ebda >= 0x400 && ebda < 0xa0000)
            found = acpi_rsdp_scan(&firmware, ebda, 1024);
    }
    return found ? found : acpi_rsdp_scan(&firmware, BIOS_AREA, BIOS_AREA_SIZE);
}

static uint64_t find_rsdp(const struct boot_info *bi)
{
    uint64_t pa = bi->rsdp.a;

    if (!pa && bi->efi_systab.a)
        pa = efi_find_rsdp();
    return pa ? pa : search_bios();
}

void acpi_init(const struct boot_info *bi)
{
    uint64_t rsdp = find_rsdp(bi);
    int problems;
    unsigned cpus;

    if (!rsdp)
        panic("ACPI: no root pointer (RSDP) found; Krypton needs ACPI to find processors and interrupts");
    problems = acpi_parse(&firmware, rsdp, &acpi);
    if (problems < 0)
        panic("ACPI: no usable root table (RSDT/XSDT) at RSDP %#llx", (unsigned long long)rsdp);
    if (acpi.madt_cut)
        panic("ACPI: the MADT is damaged (see above): processors and interrupt routes would be missing");
    cpus = acpi_usable_cpus(&acpi);
    if (!cpus)
        panic("ACPI: the MADT names no usable CPU (%u entries, none enabled)", acpi.cpu_count);
    log_info(
        "ACPI: %u CPUs (%u usable), %u IO-APICs, %u overrides, %s, %u PCI segments, %u NUMA nodes, S5 %s",
        acpi.cpu_count, cpus, acpi.ioapic_count, acpi.override_count, acpi.hpet_base.a ? "HPET" : "no HPET",
        acpi.mcfg_count, acpi.node_count, acpi.s5_valid ? "known" : "unknown");
    if (problems)
        log_warn("ACPI: %d problems in the tables, see above", problems);
}

uint32_t acpi_id_of_apic(uint32_t id)
{
    for (unsigned i = 0; i < acpi.cpu_count; i++)
        if (acpi.cpu[i].apic_id == id)
            return acpi.cpu[i].acpi_id;
    return ~0u;
}

/* SLP_TYP goes in first, then once more with SLP_EN, as ACPI 7.4.2 has it; PM1b together with PM1a. */
void acpi_power_off(void)
{
    uint16_t a, b;

    if (!acpi.s5_valid || !acpi.pm1a_cnt)
        return;
    a = (uint16_t)((in16(acpi.pm1a_cnt) & ~(7u << 10)) | acpi.s5_typ_a << 10);
    out16(acpi.pm1a_cnt, a);
    if (acpi.pm1b_cnt) {
        b = (uint16_t)((in16(acpi.pm1b_cnt) & ~(7u << 10)) | acpi.s5_typ_b << 10);
        out16(acpi.pm1b_cnt, b);
        out16(acpi.pm1a_cnt, (uint16_t)(a | SLP_EN));
        out16(acpi.pm1b_cnt, (uint16_t)(b | SLP_EN));
    } else {
        out16(acpi.pm1a_cnt, (uint16_t)(a | SLP_EN));
    }
    for (unsigned i = 0; i < 1000000; i++)
        in8(0x80); /* about a microsecond each: time for the machine to go */
}
