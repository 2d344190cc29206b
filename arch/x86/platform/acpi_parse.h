/* The ACPI table parser, pure: reads tables through a source, so that host tests can feed it anything. */
#ifndef PLATFORM_ACPI_PARSE_H
#define PLATFORM_ACPI_PARSE_H

#include "x86/platform.h"

struct acpi_source {
    /* Readable memory [pa, pa + len), or NULL when there is none. Pointers stay valid. */
    const void *(*map)(void *ctx, uint64_t pa, size_t len);
    void *ctx;
};

/* The longest table that is believed. */
#define ACPI_TABLE_MAX (16u << 20)

/* Is there a sound RSDP (ACPI 6.5, 5.2.5.3) at p? `room` bytes are readable. */
bool acpi_rsdp_sound(const uint8_t *p, size_t room);
/* Address of the first sound RSDP in [from, from + len), every 16 bytes; 0 = none. */
uint64_t acpi_rsdp_scan(const struct acpi_source *src, uint64_t from, size_t len);
/*
 * Fills *facts (zeroed first) from the tables under the RSDP. Whatever is broken is said (log_warn), counted
 * and skipped; the result is the number of problems, or -1 when there is no usable root table at all.
 */
int acpi_parse(const struct acpi_source *src, uint64_t rsdp, struct acpi_facts *facts);
/* The number of CPUs that may be started. */
unsigned acpi_usable_cpus(const struct acpi_facts *facts);

#endif
