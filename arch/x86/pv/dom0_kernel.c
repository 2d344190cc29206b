/*
 * Reads a dom0 kernel: ELF headers and Xen notes (xen/elfnote.h). Pure but for panics, which name what is
 * wrong with the file: at this point there is no one to return an error to.
 */
#include "dom0_private.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/layout.h"
#include "x86/pte.h"

static bool note_number(const struct elf *e, uint32_t type, uint64_t *out)
{
    struct elf_note n;

    return elf_note_find(e, "Xen", type, &n) && elf_note_number(&n, out);
}

static const char *note_text(const struct elf *e, uint32_t type)
{
    struct elf_note n;

    return elf_note_find(e, "Xen", type, &n) ? elf_note_string(&n) : NULL;
}

static const char *const feature_names[] = {
    [XENFEAT_writable_page_tables] = "writable_page_tables",
    [XENFEAT_writable_descriptor_tables] = "writable_descriptor_tables",
    [XENFEAT_auto_translated_physmap] = "auto_translated_physmap",
    [XENFEAT_supervisor_mode_kernel] = "supervisor_mode_kernel",
    [XENFEAT_pae_pgdir_above_4gb] = "pae_pgdir_above_4gb",
};

/* XEN_ELFNOTE_FEATURES: names separated by '|', required when preceded by '!'. */
static uint32_t required_features(const char *s)
{
    uint32_t bits = 0;

    while (s && *s) {
        size_t n = strchr(s, '|') ? (size_t)(strchr(s, '|') - s) : strlen(s);

        for (unsigned i = 0; i < ARRAY_SIZE(feature_names); i++)
            if (*s == '!' && feature_names[i] && strlen(feature_names[i]) == n - 1 &&
                !strncmp(s + 1, feature_names[i], n - 1))
                bits |= 1u << i;
        s += n;
        s += *s == '|';
    }
    return bits;
}

static void check_notes(const struct elf *e)
{
    uint64_t v;
    const char *text = note_text(e, XEN_ELFNOTE_XEN_VERSION);

    if (!note_number(e, XEN_ELFNOTE_ENTRY, &v) && !note_number(e, XEN_ELFNOTE_VIRT_BASE, &v)) {
        if (note_number(e, XEN_ELFNOTE_PHYS32_ENTRY, &v))
            panic("The dom0 kernel is for PVH only (no PV entry in its Xen ELF notes): PVH dom0 is not "
                  "supported");
        panic("The dom0 kernel has no Xen ELF notes: it was built without Xen PV support (CONFIG_XEN_PV)");
    }
    if (!text || strncmp(text, "xen-3.0", 7))
        panic("The dom0 kernel's ELF notes ask for interface '%s': only xen-3.0 exists",
              text ? text : "(none)");
    text = note_text(e, XEN_ELFNOTE_LOADER);
    if (text && strcmp(text, "generic"))
        panic("The dom0 kernel's ELF notes ask for loader '%s': only 'generic' exists", text);
}

/* The mapped area must not touch Krypton's. */
static void check_addresses(const struct dom0_kernel *k)
{
    uint64_t low = k->phys_low + k->virt_offset, high = k->phys_high + k->virt_offset;

    if (!va_canonical(low) || !va_canonical(high) || high < low || low < k->virt_base ||
        (low < HYP_VIRT_END && high > HYP_VIRT_START))
        panic("The dom0 kernel wants to be at %#lx-%#lx: not a usable address range", low, high);
    if (k->entry < low || k->entry >= high)
        panic("The dom0 kernel's entry point %#lx is outside its image %#lx-%#lx", k->entry, low, high);
    if (k->hypercall_page &&
        (k->hypercall_page < low || k->hypercall_page > high - FRAME_SIZE || k->hypercall_page % FRAME_SIZE))
        panic("The dom0 kernel's hypercall page %#lx is outside its image", k->hypercall_page);
    if (high - k->virt_base > 0x40000000)
        panic("The dom0 kernel's image ends %#lx above its base: corrupt headers?", high - k->virt_base);
    if (k->init_p2m && (!va_canonical(k->init_p2m) || k->init_p2m % (1ul << 21) ||
                        (k->init_p2m >= HYP_VIRT_START && k->init_p2m < HYP_VIRT_END)))
        panic("The dom0 kernel wants its p2m list at %#lx: not a usable address", k->init_p2m);
}

void dom0_kernel_parse(struct dom0_kernel *k, const struct kernel_image *image)
{
    const char *why;
    uint64_t v;

    *k = (struct dom0_kernel){0};
    if (!elf_open(&k->elf, image->elf, image->size, &why))
        panic("The dom0 kernel is not a usable ELF file: %s", why);
    if (!k->elf.is64 || k->elf.machine != ELF_MACHINE_X86_64)
        panic("The dom0 kernel is not for x86-64: 32-bit PV kernels are not supported");
    check_notes(&k->elf);
    if (!elf_load_range(&k->elf, true, &k->phys_low, &k->phys_high))
        panic("The dom0 kernel's program headers are corrupt");

    note_number(&k->elf, XEN_ELFNOTE_VIRT_BASE, &k->virt_base);
    v = 0;
    note_number(&k->elf, XEN_ELFNOTE_PADDR_OFFSET, &v);
    k->virt_offset = k->virt_base - v;
    k->entry = k->elf.entry;
    note_number(&k->elf, XEN_ELFNOTE_ENTRY, &k->entry);
    note_number(&k->elf, XEN_ELFNOTE_HYPERCALL_PAGE, &k->hypercall_page);
    note_number(&k->elf, XEN_ELFNOTE_INIT_P2M, &k->init_p2m);
    k->initrd_unmapped = note_number(&k->elf, XEN_ELFNOTE_MOD_START_PFN, &v) && v;
    k->features = required_features(note_text(&k->elf, XEN_ELFNOTE_FEATURES));
    k->os = note_text(&k->elf, XEN_ELFNOTE_GUEST_OS);
    k->os_version = note_text(&k->elf, XEN_ELFNOTE_GUEST_VERSION);
    check_addresses(k);
}
