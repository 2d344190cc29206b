/* Between the files of arch/x86/boot. */
#ifndef BOOT_PRIVATE_H
#define BOOT_PRIVATE_H

#include "x86/boot.h"

/* bootinfo.c: fills boot_info from what the loader left at `info`; false with the reason in *why. */
bool boot_info_read(uint32_t magic, uint32_t info, const char **why);

/* e820.c (pure): `raw` entries in any order, overlapping or absurd -> sorted, disjoint, merged, in
 * out[0..max). Where entries overlap the more restrictive type wins. Returns their number; entries that do
 * not fit are dropped. */
unsigned e820_sanitize(const struct e820_entry *raw, unsigned count, struct e820_entry *out, unsigned max);
/* Drops RAM above limit (bytes); 0 = none. */
unsigned e820_limit(struct e820_entry *map, unsigned count, uint64_t limit);
uint64_t e820_ram(const struct e820_entry *map, unsigned count);
const char *e820_type_name(uint32_t type);

/* machine.c */
bool machine_reboot_allowed(void);

/* panic.c */
void machine_stop_others(void);

#endif
