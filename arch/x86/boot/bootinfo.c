/*
 * What the boot loader left, copied into boot_info: Multiboot1 (multiboot.html of GRUB, section 3.3),
 * Multiboot2 (section 3.6), PVH (xen/arch-x86/hvm/start_info.h).
 *
 * Runs on the boot page tables: the first 4 GiB are mapped at DIRECT_VIRT. Everything is copied before any
 * memory is given out; modules, and an EFI memory map, are kept in place and reserved by mm_init.
 *
 * File names. QEMU puts them before the arguments, GRUB 2 and PVH loaders do not (their first word is an
 * argument, if only Debian's "placeholder"), so whether the first word is cut off depends on the loader.
 */
#include "private.h"
#include "core/abi.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/layout.h"

#define MB1_LOADER 0x2badb002u
#define MB2_LOADER 0x36d76289u
#define EARLY_END  0x100000000ull

struct boot_info boot_info;

#define RAW_MAX 512
static struct e820_entry raw[RAW_MAX] __attribute__((section(".bss.init")));
static unsigned raw_count;
static bool raw_overflow;
static char loader_name[64];
static uint8_t rsdp_copy[64] __attribute__((aligned(16)));

/* A physical range of the loader's as a pointer, or NULL if it is not below 4 GiB. */
static const void *early(uint64_t pa, uint64_t bytes)
{
    if (pa >= EARLY_END || bytes > EARLY_END - pa)
        return NULL;
    return (const void *)(DIRECT_VIRT + pa);
}

static void copy_string(char *to, size_t size, uint64_t pa, bool skip_first_word)
{
    const char *s = early(pa, 1);
    size_t n = 0;

    to[0] = 0;
    if (!s || !pa)
        return;
    if (skip_first_word) {
        while (*s == ' ')
            s++;
        while (*s && *s != ' ')
            s++;
        while (*s == ' ')
            s++;
    }
    while (n < size - 1 && s[n]) {
        to[n] = s[n];
        n++;
    }
    to[n] = 0;
}

static void add_memory(uint64_t addr, uint64_t size, uint32_t type)
{
    if (!size)
        return;
    if (raw_count == RAW_MAX)
        raw_overflow = true;
    else
        raw[raw_count++] = (struct e820_entry){addr, size, type};
}

static void add_module(uint64_t start, uint64_t size, uint64_t string, bool skip_first_word)
{
    struct boot_module *m;

    if (boot_info.module_count == BOOT_MAX_MODULES)
        return;
    m = &boot_info.module[boot_info.module_count++];
    m->start = start;
    m->size = size;
    copy_string(m->cmdline, sizeof(m->cmdline), string, skip_first_word);
}

static void set_framebuffer(uint64_t base, uint32_t pitch, uint32_t width, uint32_t height, uint8_t bpp,
                            uint8_t type, const uint8_t *color)
{
    boot_info.vga_text = type == 2;
    if (type != 1)
        return;
    boot_info.fb.base = MADDR(base);
    boot_info.fb.pitch = pitch;
    boot_info.fb.width = width;
    boot_info.fb.height = height;
    boot_info.fb.bpp = bpp;
    boot_info.fb.red_pos = color[0];
    boot_info.fb.red_size = color[1];
    boot_info.fb.green_pos = color[2];
    boot_info.fb.green_size = color[3];
    boot_info.fb.blue_pos = color[4];
    boot_info.fb.blue_size = color[5];
}

/* --- Multiboot1
 * -------------------------------------------------------------------------------------------------------- */

struct mb1_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length,
        mmap_addr, drives_length, drives_addr, config_table, loader_name, apm_table, vbe[4];
    uint64_t fb_addr;
    uint32_t fb_pitch, fb_width, fb_height;
    uint8_t fb_bpp, fb_type, fb_color[6];
} __attribute__((packed));
enum { MB1_MEMORY = 1, MB1_CMDLINE = 4, MB1_MODS = 8, MB1_MMAP = 0x40, MB1_NAME = 0x200, MB1_FB = 0x1000 };

struct mb1_module {
    uint32_t start, end, string, reserved;
};
struct mb1_mmap {
    uint32_t size;
    uint64_t addr, len;
    uint32_t type;
} __attribute__((packed));

static void mb1_memory(const struct mb1_info *mb)
{
    const char *p = mb->flags & MB1_MMAP ? early(mb->mmap_addr, mb->mmap_length) : NULL;
    uint64_t left = mb->mmap_length;

    if (!p) {
        if (mb->flags & MB1_MEMORY) {
            add_memory(0, (uint64_t)mb->mem_lower * 1024, E820_RAM);
            add_memory(0x100000, (uint64_t)mb->mem_upper * 1024, E820_RAM);
        }
        return;
    }
    while (left >= sizeof(struct mb1_mmap)) {
        const struct mb1_mmap *e = (const void *)p;
        uint64_t step = (uint64_t)e->size + 4;

        add_memory(e->addr, e->len, e->type);
        if (step < sizeof(*e) || step > left)
            return;
        p += step;
        left -= step;
    }
}

static void mb1_read(const struct mb1_info *mb)
{
    const struct mb1_module *mod = NULL;
    bool file_names;

    if (mb->flags & MB1_NAME)
        copy_string(loader_name, sizeof(loader_name), mb->loader_name, false);
    file_names = strncmp(loader_name, "GRUB ", 5) || loader_name[5] == '0';
    if (mb->flags & MB1_CMDLINE)
        copy_string(boot_info.cmdline, sizeof(boot_info.cmdline), mb->cmdline, file_names);
    if (mb->flags & MB1_MODS)
        mod = early(mb->mods_addr, (uint64_t)mb->mods_count * sizeof(*mod));
    for (uint32_t i = 0; mod && i < mb->mods_count && i < BOOT_MAX_MODULES; i++)
        add_module(mod[i].start, mod[i].end > mod[i].start ? mod[i].end - mod[i].start : 0, mod[i].string,
                   file_names);
    mb1_memory(mb);
    boot_info.vga_text = true;
    if (mb->flags & MB1_FB)
        set_framebuffer(mb->fb_addr, mb->fb_pitch, mb->fb_width, mb->fb_height, mb->fb_bpp, mb->fb_type,
                        mb->fb_color);
}

/* --- Multiboot2
 * -------------------------------------------------------------------------------------------------------- */

struct mb2_tag {
    uint32_t type, size;
};
enum {
    MB2_END = 0,
    MB2_CMDLINE = 1,
    MB2_NAME = 2,
    MB2_MODULE = 3,
    MB2_MMAP = 6,
    MB2_FB = 8,
    MB2_EFI64 = 12,
    MB2_RSDP1 = 14,
    MB2_RSDP2 = 15,
    MB2_EFI_MMAP = 17,
};
struct mb2_module {
    struct mb2_tag tag;
    uint32_t start, end;
    char string[];
};
struct mb2_mmap {
    struct mb2_tag tag;
    uint32_t entry_size, entry_version;
};
struct mb2_mmap_entry {
    uint64_t addr, len;
    uint32_t type, zero;
};
struct mb2_fb {
    struct mb2_tag tag;
    uint64_t addr;
    uint32_t pitch, width, height;
    uint8_t bpp, type;
    uint16_t reserved;
    uint8_t color[6];
};
struct mb2_efi_mmap {
    struct mb2_tag tag;
    uint32_t desc_size, desc_version;
};
struct efi_memory {
    uint32_t type, pad;
    uint64_t phys, virt, pages, attribute;
};

/* UEFI specification 7.2: loader and boot-services memory is free once boot services have ended, as is
 * conventional. */
static uint32_t efi_type(uint32_t type)
{
    switch (type) {
    case 1:
    case 2:
    case 3:
    case 4:
    case 7:
        return E820_RAM;
    case 8:
        return E820_UNUSABLE;
    case 9:
        return E820_ACPI;
    case 10:
        return E820_NVS;
    default:
        return E820_RESERVED;
    }
}

static void mb2_memory(const struct mb2_tag *t)
{
    const struct mb2_mmap *m = (const void *)t;
    uint32_t off = sizeof(*m);

    if (t->size < sizeof(*m) || m->entry_size < sizeof(struct mb2_mmap_entry))
        return;
    for (; off + m->entry_size <= t->size; off += m->entry_size) {
        const struct mb2_mmap_entry *e = (const void *)((const char *)t + off);

        add_memory(e->addr, e->len, e->type);
    }
}

static void mb2_efi_memory(const struct mb2_tag *t, bool use)
{
    const struct mb2_efi_mmap *m = (const void *)t;
    uint32_t off = sizeof(*m);

    if (t->size < sizeof(*m) || m->desc_size < sizeof(struct efi_memory))
        return;
    boot_info.efi_memmap = MADDR((uint64_t)(m + 1) - DIRECT_VIRT);
    boot_info.efi_memmap_size = t->size - (uint32_t)sizeof(*m);
    boot_info.efi_memdesc_size = m->desc_size;
    boot_info.efi_memdesc_version = m->desc_version;
    for (; use && off + m->desc_size <= t->size; off += m->desc_size) {
        const struct efi_memory *e = (const void *)((const char *)t + off);

        add_memory(e->phys, e->pages << FRAME_SHIFT, efi_type(e->type));
    }
}

static void mb2_rsdp(const struct mb2_tag *t)
{
    uint32_t n = t->size - (uint32_t)sizeof(*t);

    if (boot_info.rsdp.a && t->type == MB2_RSDP1)
        return; /* the newer one is here already */
    memcpy(rsdp_copy, t + 1, MIN(n, (uint32_t)sizeof(rsdp_copy)));
    boot_info.rsdp = MADDR((uint64_t)rsdp_copy - IMAGE_VIRT);
}

static uint64_t mb2_text(const struct mb2_tag *t, size_t off)
{
    return (uint64_t)t + off - DIRECT_VIRT;
}

/* True if the tag's text ends inside the tag. */
static bool mb2_text_ok(const struct mb2_tag *t, size_t off)
{
    return t->size > off && strnlen((const char *)t + off, t->size - off) < t->size - off;
}

static void mb2_tag(const struct mb2_tag *t)
{
    const struct mb2_module *m = (const void *)t;
    const struct mb2_fb *fb = (const void *)t;

    switch (t->type) {
    case MB2_CMDLINE:
        if (mb2_text_ok(t, sizeof(*t)))
            copy_string(boot_info.cmdline, sizeof(boot_info.cmdline), mb2_text(t, sizeof(*t)), false);
        break;
    case MB2_NAME:
        if (mb2_text_ok(t, sizeof(*t)))
            copy_string(loader_name, sizeof(loader_name), mb2_text(t, sizeof(*t)), false);
        break;
    case MB2_MODULE:
        if (mb2_text_ok(t, sizeof(*m)))
            add_module(m->start, m->end > m->start ? m->end - m->start : 0, mb2_text(t, sizeof(*m)), false);
        break;
    case MB2_MMAP:
        mb2_memory(t);
        break;
    case MB2_FB:
        if (t->size >= offsetof(struct mb2_fb, color) + sizeof(fb->color))
            set_framebuffer(fb->addr, fb->pitch, fb->width, fb->height, fb->bpp, fb->type, fb->color);
        else if (t->size >= offsetof(struct mb2_fb, color))
            boot_info.vga_text = fb->type == 2;
        break;
    case MB2_EFI64:
        if (t->size >= sizeof(*t) + 8)
            boot_info.efi_systab = MADDR(*(const uint64_t *)(t + 1));
        break;
    case MB2_RSDP1:
    case MB2_RSDP2:
        if (t->size >= sizeof(*t) + 20)
            mb2_rsdp(t);
        break;
    }
}

static void mb2_read(const char *info)
{
    uint32_t total = *(const uint32_t *)info;
    const struct mb2_tag *efi_map = NULL;
    bool have_map = false;

    for (uint32_t off = 8; off <= total && total - off >= sizeof(struct mb2_tag);) {
        const struct mb2_tag *t = (const void *)(info + off);

        if (t->type == MB2_END || t->size < sizeof(*t) || t->size > total - off)
            break;
        if (t->type == MB2_EFI_MMAP)
            efi_map = t;
        have_map |= t->type == MB2_MMAP;
        mb2_tag(t);
        off += (uint32_t)ROUND_UP((uint64_t)t->size, 8);
    }
    if (efi_map)
        mb2_efi_memory(efi_map, !have_map);
}

/* --- PVH
 * ------------------------------------------------------------------------------------------------------------------
 */

static bool pvh_read(const struct hvm_start_info *si)
{
    const struct hvm_modlist_entry *mod = early(si->modlist_paddr, (uint64_t)si->nr_modules * sizeof(*mod));
    const struct hvm_memmap_table_entry *map =
        si->version ? early(si->memmap_paddr, (uint64_t)si->memmap_entries * sizeof(*map)) : NULL;

    strlcpy(loader_name, "PVH", sizeof(loader_name));
    copy_string(boot_info.cmdline, sizeof(boot_info.cmdline), si->cmdline_paddr, false);
    for (uint32_t i = 0; mod && i < si->nr_modules && i < BOOT_MAX_MODULES; i++)
        add_module(mod[i].paddr, mod[i].size, mod[i].cmdline_paddr, false);
    for (uint32_t i = 0; map && i < si->memmap_entries && i <= RAW_MAX; i++)
        add_memory(map[i].addr, map[i].size, map[i].type);
    boot_info.rsdp = MADDR(si->rsdp_paddr);
    boot_info.vga_text = true;
    return map != NULL;
}

/* --- all
 * -------------------------------------------------------------------------------------------------------------------
 */

bool boot_info_read(uint32_t magic, uint32_t info, const char **why)
{
    const void *p = early(info, FRAME_SIZE);

    *why = "its information is not below 4 GiB";
    if (!p)
        return false;
    boot_info.loader_name = loader_name;
    if (magic == MB1_LOADER) {
        boot_info.protocol = "multiboot";
        mb1_read(p);
    } else if (magic == MB2_LOADER) {
        boot_info.protocol = "multiboot2";
        mb2_read(p);
    } else {
        boot_info.protocol = "pvh";
        *why = "the PVH start information has no memory map (version 0)";
        if (((const struct hvm_start_info *)p)->magic != XEN_HVM_START_MAGIC_VALUE || !pvh_read(p))
            return false;
    }
    *why = "it gave a memory map of more than 512 entries";
    if (raw_overflow)
        return false;
    boot_info.e820_count = e820_sanitize(raw, raw_count, boot_info.e820, BOOT_MAX_E820);
    *why = "it gave no memory map";
    return e820_ram(boot_info.e820, boot_info.e820_count) != 0;
}
