/*
 * What the firmware left behind, for the hardware domain (XENPF_firmware_info): under UEFI the system table
 * (UEFI 2.10, 4.3), under BIOS the data area. Only tables are read; no firmware code is called.
 *
 * Invariants: nothing is read through an address that mm_map_firmware() did not map for exactly that length;
 * lists are walked to at most the limits below. Locks: none: mappings are made once and kept; two CPUs that
 * race make the same one twice.
 */
#include "core/guest.h"
#include "core/log.h"
#include "lib/string.h"
#include "private.h"
#include "x86/boot.h"
#include "x86/mm.h"

#define EFI_SIGNATURE 0x5453595320494249ull /* "IBI SYST" */
#define MAX_CONFIG    256u
#define MAX_VENDOR    256u
#define BDA_KBD_FLAGS 0x417

/* The system table's fields by offset: it is the firmware's, so copied field by field. */
enum {
    ST_SIGNATURE = 0,
    ST_REVISION = 8,
    ST_VENDOR = 24,
    ST_FW_REVISION = 32,
    ST_RUNTIME = 88,
    ST_COUNT = 104,
    ST_CONFIG = 112,
    ST_SIZE = 120
};

static const uint8_t acpi20_guid[16] = {0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11,
                                        0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81};
static const uint8_t acpi10_guid[16] = {0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11,
                                        0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d};

static uint64_t field(const uint8_t *p, unsigned off, unsigned n)
{
    uint64_t v = 0;

    memcpy(&v, p + off, n);
    return v;
}

/* The mapped system table, or NULL when the machine was not started by UEFI. */
static const uint8_t *system_table(void)
{
    static const uint8_t *table;
    const uint8_t *p = table;

    if (p || !boot_info.efi_systab.a)
        return p;
    p = mm_map_firmware(boot_info.efi_systab, ST_SIZE);
    if (!p || field(p, ST_SIGNATURE, 8) != EFI_SIGNATURE) {
        log_warn("EFI: no system table at %#llx", (unsigned long long)boot_info.efi_systab.a);
        boot_info.efi_systab = MADDR(0);
        return NULL;
    }
    table = p;
    return p;
}

uint64_t efi_find_rsdp(void)
{
    const uint8_t *st = system_table(), *cfg;
    uint64_t found = 0, n;

    if (!st)
        return 0;
    n = MIN(field(st, ST_COUNT, 8), (uint64_t)MAX_CONFIG);
    cfg = n ? mm_map_firmware(MADDR(field(st, ST_CONFIG, 8)), n * 24) : NULL;
    for (uint64_t i = 0; cfg && i < n; i++) {
        if (!memcmp(cfg + i * 24, acpi20_guid, 16))
            return field(cfg + i * 24, 16, 8);
        if (!memcmp(cfg + i * 24, acpi10_guid, 16))
            found = field(cfg + i * 24, 16, 8);
    }
    return found;
}

/* Maps a piece of firmware memory once and remembers it: what a guest asks for again must not cost address
 * space again. */
static const void *map_once(const void **kept, uint64_t pa, size_t len)
{
    if (!*kept && pa)
        *kept = mm_map_firmware(MADDR(pa), len);
    return *kept;
}

static long vendor(struct vcpu *caller, const uint8_t *st, xenpf_firmware_info_t *f)
{
    static const void *kept;
    const uint16_t *name = map_once(&kept, field(st, ST_VENDOR, 8), 2);
    uint16_t c = 0;
    uint32_t n = 0;
    uint64_t pa = field(st, ST_VENDOR, 8);

    f->u.efi_info.vendor.revision = (uint32_t)field(st, ST_FW_REVISION, 4);
    /* As many characters as fit, the last one NUL; bufsz is in bytes. */
    for (; name && n < MAX_VENDOR && (n + 1) * 2 <= f->u.efi_info.vendor.bufsz; n++) {
        if ((pa & (FRAME_SIZE - 1)) + n * 2 >= FRAME_SIZE)
            break; /* only the first page is looked at */
        c = (n + 2) * 2 <= f->u.efi_info.vendor.bufsz ? name[n] : 0;
        if (guest_write_at(caller, HANDLE(f->u.efi_info.vendor.name), n, &c, sizeof(c)))
            return -EFAULT;
        if (!c)
            break;
    }
    return 0;
}

/* The memory descriptor (UEFI 7.2.3) that covers mem.addr. */
static long mem_info(xenpf_firmware_info_t *f)
{
    uint64_t want = f->u.efi_info.mem.addr, size = f->u.efi_info.mem.size;
    uint32_t step = boot_info.efi_memdesc_size, total = boot_info.efi_memmap_size;
    static const void *kept;
    const uint8_t *map;

    if (!boot_info.efi_memmap.a || step < 40 || total < step)
        return -ENODATA;
    map = map_once(&kept, boot_info.efi_memmap.a, total);
    for (uint32_t off = 0; map && off + step <= total; off += step) {
        uint64_t start = field(map + off, 8, 8), len = field(map + off, 24, 8) << FRAME_SHIFT;

        if (want < start || want - start >= len)
            continue;
        f->u.efi_info.mem.type = (uint32_t)field(map + off, 0, 4);
        f->u.efi_info.mem.attr = field(map + off, 32, 8);
        f->u.efi_info.mem.size = MIN(size, len - (want - start));
        return 0;
    }
    return -ENOENT;
}

static long efi_info(struct vcpu *caller, xenpf_firmware_info_t *f)
{
    static const void *kept;
    const uint8_t *st = system_table(), *rt;

    if (!st)
        return -ENOSYS;
    switch (f->index) {
    case XEN_FW_EFI_VERSION:
        f->u.efi_info.version = (uint32_t)field(st, ST_REVISION, 4);
        return 0;
    case XEN_FW_EFI_CONFIG_TABLE:
        f->u.efi_info.cfg.addr = field(st, ST_CONFIG, 8);
        f->u.efi_info.cfg.nent = (uint32_t)field(st, ST_COUNT, 8);
        return 0;
    case XEN_FW_EFI_VENDOR:
        return vendor(caller, st, f);
    case XEN_FW_EFI_MEM_INFO:
        return mem_info(f);
    case XEN_FW_EFI_RT_VERSION:
        rt = map_once(&kept, field(st, ST_RUNTIME, 8), 24);
        if (!rt)
            return -ENODATA;
        f->u.efi_info.version = (uint32_t)field(rt, 8, 4);
        return 0;
    case XEN_FW_EFI_PCI_ROM:
        return -ENOENT; /* the boot loader handed none over */
    case XEN_FW_EFI_APPLE_PROPERTIES:
        return -ENODATA;
    default:
        return -EINVAL;
    }
}

static long keyboard_flags(xenpf_firmware_info_t *f)
{
    static const void *kept;
    const uint8_t *bda;

    if (boot_info.efi_systab.a || f->index)
        return -EINVAL;
    bda = map_once(&kept, BDA_KBD_FLAGS, 1);
    if (!bda)
        return -ENODATA;
    f->u.kbd_shift_flags = *bda;
    return 0;
}

/* Fills f; the caller writes it back on success. Disks and monitors were never asked: no BIOS call is made at
 * boot. */
long firmware_info_op(struct vcpu *caller, xenpf_firmware_info_t *f)
{
    switch (f->type) {
    case XEN_FW_DISK_INFO:
    case XEN_FW_DISK_MBR_SIGNATURE:
    case XEN_FW_VBEDDC_INFO:
        return -ESRCH;
    case XEN_FW_EFI_INFO:
        return efi_info(caller, f);
    case XEN_FW_KBD_SHIFT_FLAGS:
        return keyboard_flags(f);
    default:
        return -EINVAL;
    }
}
