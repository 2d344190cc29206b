/* Fuzz target: ACPI tables. The input is memory at 0x1000 with an RSDP at its start; checksums are made right, since an input
 * that fails them tests nothing but that. */
#include "fake.h"
#include "../../arch/x86/platform/acpi_parse.h"

#include <stdlib.h>
#include <string.h>

#define BASE 0x1000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *memory;
static size_t bytes;

static void fix(uint8_t *p, size_t n, size_t at)
{
    uint8_t sum = 0;

    p[at] = 0;
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + p[i]);
    p[at] = (uint8_t)-sum;
}

/* A copy of exactly what was asked for, so that the sanitizer sees each read beyond it. */
static uint8_t *copies[64];
static unsigned copy_count;

static const void *map(void *ctx, uint64_t pa, size_t len)
{
    uint8_t *c;

    if (pa < BASE || pa - BASE > bytes || len > bytes - (pa - BASE) || copy_count == ARRAY_SIZE(copies))
        return NULL;
    c = copies[copy_count++] = malloc(len ? len : 1);
    memcpy(c, memory + (pa - BASE), len);
    if (len >= 36 && *(uint32_t *)(c + 4) == len)
        fix(c, len, 9);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct acpi_facts f;
    struct acpi_source src = {map, NULL};

    if (size < 36)
        return 0;
    memory = malloc(size);
    bytes = size;
    memcpy(memory, data, size);
    memcpy(memory, "RSD PTR ", 8);
    fix(memory, 20, 8);
    fix(memory, 36, 32);
    (void)acpi_rsdp_scan(&src, BASE, size);
    (void)acpi_parse(&src, BASE, &f);
    BUG_ON(f.cpu_count > MAX_CPUS || f.ioapic_count > ARRAY_SIZE(f.ioapic) ||
           f.override_count > ARRAY_SIZE(f.override) || f.mcfg_count > ARRAY_SIZE(f.mcfg) ||
           f.node_mem_count > ARRAY_SIZE(f.node_mem) || f.nmi_count > ARRAY_SIZE(f.nmi));
    BUG_ON(acpi_usable_cpus(&f) > f.cpu_count);
    while (copy_count)
        free(copies[--copy_count]);
    free(memory);
    return 0;
}
