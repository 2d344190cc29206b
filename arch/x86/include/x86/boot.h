/* What the boot loader gave us, in one form for Multiboot1, Multiboot2 and PVH (arch/x86/boot). */
#ifndef X86_BOOT_H
#define X86_BOOT_H

#include "core/types.h"

#define BOOT_MAX_MODULES 8
#define BOOT_MAX_E820    256

#define E820_RAM         1
#define E820_RESERVED    2
#define E820_ACPI        3
#define E820_NVS         4
#define E820_UNUSABLE    5

struct e820_entry {
    uint64_t addr, size;
    uint32_t type;
} __attribute__((packed));

struct boot_module {
    uint64_t start, size;
    char cmdline[2048];
}; /* physical; cmdline without the file name */

struct boot_info {
    const char *loader_name;
    const char *protocol; /* "multiboot", "multiboot2", "pvh" */
    char cmdline[1024];   /* Krypton's, without the file name */
    unsigned module_count;
    struct boot_module module[BOOT_MAX_MODULES];
    unsigned e820_count; /* sanitized: sorted, no overlaps */
    struct e820_entry e820[BOOT_MAX_E820];
    maddr_t rsdp;       /* 0 = search */
    maddr_t efi_systab; /* 0 = BIOS */
    maddr_t efi_memmap;
    uint32_t efi_memmap_size, efi_memdesc_size, efi_memdesc_version;
    bool vga_text; /* 80x25 text at 0xb8000 works */
    struct {
        maddr_t base;
        uint32_t width, height, pitch, bpp;
        uint8_t red_pos, red_size, green_pos, green_size, blue_pos, blue_size;
    } fb;
    maddr_t image_start, image_end; /* Krypton itself */
};
extern struct boot_info boot_info;

#endif
