/*
 * The dom0 builder: from the boot loader's modules to a paused, complete dom0 (xen/xen.h, "start-of-day
 * memory layout").
 *
 *   virt_base  kernel | [ramdisk] | [p2m] | start_info | page tables | stack | padding to the next 4 MiB
 *   unmapped   [ramdisk, when the kernel takes it by pfn]
 *   init_p2m   [p2m, when the kernel names an address of its own] - its page tables follow it in pfn space
 */
#include "dom0_private.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/params.h"
#include "core/sched.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "drivers/vga.h"
#include "lib/fmt.h"
#include "lib/string.h"
#include "x86/layout.h"
#include "x86/mm.h"
#include "x86/pte.h"
#include "x86/pv.h"

#define PAGES(bytes) (((bytes) + FRAME_SIZE - 1) >> FRAME_SHIFT)

static unsigned dom0_max_vcpus;
PARAM_UINT("dom0_max_vcpus", dom0_max_vcpus, "number of dom0's vCPUs");
static bool dom0_vcpus_pin;
PARAM_BOOL("dom0_vcpus_pin", dom0_vcpus_pin, "pin each of dom0's vCPUs to one CPU");

static void layout_make(struct dom0_layout *l, const struct dom0_kernel *k, uint64_t pages,
                        uint64_t initrd_bytes)
{
    uint64_t pfn = PAGES(k->phys_high + k->virt_offset - k->virt_base), tables = 1, end;

    *l = (struct dom0_layout){.initrd_bytes = initrd_bytes, .initrd_pages = PAGES(initrd_bytes)};
    l->p2m_pages = PAGES(pages * sizeof(uint64_t));
    if (!k->initrd_unmapped) {
        l->initrd_pfn = pfn;
        pfn += l->initrd_pages;
    }
    if (!k->init_p2m) {
        l->p2m_pfn = pfn;
        l->p2m_va = k->virt_base + (pfn << FRAME_SHIFT);
        pfn += l->p2m_pages;
    }
    l->start_info_pfn = pfn++;
    l->tables_pfn = pfn;
    /* The tables map themselves: grow until it fits. At least 512 KiB of padding, up to a 4 MiB boundary. */
    do {
        l->tables_pages = tables;
        l->stack_pfn = l->tables_pfn + tables;
        end = ROUND_UP(k->virt_base + ((l->stack_pfn + 1) << FRAME_SHIFT) + 0x80000, 1ull << 22);
        l->mapped_end = (end - k->virt_base) >> FRAME_SHIFT;
        tables = 1 + dom0_table_count(k->virt_base, l->mapped_end);
    } while (tables > l->tables_pages);

    pfn = l->mapped_end;
    if (k->initrd_unmapped) {
        l->initrd_pfn = pfn;
        pfn += l->initrd_pages;
    }
    if (k->init_p2m) {
        l->p2m_pfn = pfn;
        l->p2m_va = k->init_p2m;
        l->p2m_table_pages = dom0_table_count(k->init_p2m, l->p2m_pages);
        pfn += l->p2m_pages + l->p2m_table_pages;
    }
    l->used_end = pfn;
}

/* Copies into dom0's memory at pfn * 4096 + offset, over frames that need not be contiguous. */
static void copy_to_dom0(const struct dom0_memory *m, uint64_t at, const void *from, uint64_t n)
{
    while (n) {
        uint64_t in_page = at % FRAME_SIZE, chunk = MIN(n, FRAME_SIZE - in_page);

        memcpy((char *)dom0_va(m, at >> FRAME_SHIFT) + in_page, from, chunk);
        at += chunk;
        from = (const char *)from + chunk;
        n -= chunk;
    }
}

static void zero_in_dom0(const struct dom0_memory *m, uint64_t at, uint64_t n)
{
    while (n) {
        uint64_t in_page = at % FRAME_SIZE, chunk = MIN(n, FRAME_SIZE - in_page);

        memset((char *)dom0_va(m, at >> FRAME_SHIFT) + in_page, 0, chunk);
        at += chunk;
        n -= chunk;
    }
}

static void load_kernel(const struct dom0_memory *m, const struct dom0_kernel *k)
{
    struct elf_segment s;
    uint64_t at;

    for (uint32_t i = 0; i < k->elf.phnum; i++) {
        if (!elf_segment(&k->elf, i, &s) || s.type != ELF_PT_LOAD)
            continue;
        at = s.paddr + k->virt_offset - k->virt_base;
        copy_to_dom0(m, at, k->elf.data + s.offset, s.filesz);
        zero_in_dom0(m, at + s.filesz, s.memsz - s.filesz);
    }
    if (k->hypercall_page)
        pv_hypercall_page(dom0_va(m, (k->hypercall_page - k->virt_base) >> FRAME_SHIFT));
}

/* p2m list in dom0's memory, M2P in ours. */
static void fill_p2m(const struct dom0_memory *m, const struct dom0_layout *l)
{
    for (unsigned r = 0; r < m->run_count; r++) {
        const struct dom0_run *run = &m->run[r];

        for (uint64_t i = 0; i < (1ull << run->order); i++) {
            uint64_t pfn = run->pfn + i, *slot = dom0_va(m, l->p2m_pfn + pfn / 512);

            slot[pfn % 512] = run->mfn.n + i;
            m2p_set(MFN(run->mfn.n + i), pfn);
        }
    }
}

/* What dom0 needs to draw on the screen that the boot loader set up (xen/xen.h dom0_vga_console_info). */
static void fill_video(struct start_info *si, const struct boot_info *bi)
{
    struct dom0_vga_console_info *v = (void *)(si + 1);

    si->console.dom0.info_off = sizeof(*si);
    si->console.dom0.info_size = sizeof(*v);
    if (bi->fb.base.a) {
        v->video_type = bi->efi_systab.a ? XEN_VGATYPE_EFI_LFB : XEN_VGATYPE_VESA_LFB;
        v->u.vesa_lfb.width = (uint16_t)bi->fb.width;
        v->u.vesa_lfb.height = (uint16_t)bi->fb.height;
        v->u.vesa_lfb.bytes_per_line = (uint16_t)bi->fb.pitch;
        v->u.vesa_lfb.bits_per_pixel = (uint16_t)bi->fb.bpp;
        v->u.vesa_lfb.lfb_base = (uint32_t)bi->fb.base.a;
        v->u.vesa_lfb.ext_lfb_base = (uint32_t)(bi->fb.base.a >> 32);
        v->u.vesa_lfb.lfb_size = (bi->fb.pitch * bi->fb.height + 0xffff) >> 16;
        v->u.vesa_lfb.red_pos = bi->fb.red_pos;
        v->u.vesa_lfb.red_size = bi->fb.red_size;
        v->u.vesa_lfb.green_pos = bi->fb.green_pos;
        v->u.vesa_lfb.green_size = bi->fb.green_size;
        v->u.vesa_lfb.blue_pos = bi->fb.blue_pos;
        v->u.vesa_lfb.blue_size = bi->fb.blue_size;
    } else if (bi->vga_text) {
        v->video_type = XEN_VGATYPE_TEXT_MODE_3;
        v->u.text_mode_3.rows = 25;
        v->u.text_mode_3.columns = 80;
        v->u.text_mode_3.font_height = 16;
    } else {
        si->console.dom0.info_off = si->console.dom0.info_size = 0;
    }
}

static void fill_start_info(const struct dom0_memory *m, const struct dom0_layout *l,
                            const struct dom0_kernel *k, const struct boot_info *bi, const char *cmdline)
{
    struct start_info *si = dom0_va(m, l->start_info_pfn);

    fmt_snprintf(si->magic, sizeof(si->magic), "xen-3.0-x86_64");
    si->nr_pages = m->pages;
    si->shared_info = mfn_to_maddr(m->d->shared_info_mfn).a;
    si->flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    si->pt_base = k->virt_base + (l->tables_pfn << FRAME_SHIFT);
    si->nr_pt_frames = l->tables_pages;
    si->mfn_list = l->p2m_va;
    if (k->init_p2m) {
        si->first_p2m_pfn = l->p2m_pfn;
        si->nr_p2m_frames = l->p2m_pages + l->p2m_table_pages;
    }
    if (l->initrd_bytes) {
        si->mod_len = l->initrd_bytes;
        si->mod_start = k->initrd_unmapped ? l->initrd_pfn : k->virt_base + (l->initrd_pfn << FRAME_SHIFT);
        si->flags |= k->initrd_unmapped ? SIF_MOD_START_PFN : 0;
    }
    if (fmt_snprintf((char *)si->cmd_line, MAX_GUEST_CMDLINE, "%s%s%s", cmdline,
                     *cmdline && *params_rest() ? " " : "", params_rest()) >= MAX_GUEST_CMDLINE)
        log_warn("dom0's command line is cut to %u characters", MAX_GUEST_CMDLINE - 1);
    fill_video(si, bi);
}

/* A module is in RAM that has a struct frame; its frames go to the allocator when it has been copied. */
static const void *module_data(const struct boot_module *mod, const char *what)
{
    if (!mod->size)
        panic("The %s (boot module) is empty", what);
    for (uint64_t a = mod->start; a < mod->start + mod->size; a += FRAME_SIZE)
        if (!mfn_valid(maddr_to_mfn(MADDR(a))))
            panic("The %s (boot module at %#lx, %lu bytes) is not in usable memory", what,
                  (unsigned long)mod->start, (unsigned long)mod->size);
    return (char *)arch_frame_va(maddr_to_mfn(MADDR(mod->start))) + mod->start % FRAME_SIZE;
}

static void module_free(const struct boot_module *mod)
{
    uint64_t first = mod->start >> FRAME_SHIFT, end = PAGES(mod->start + mod->size);

    for (uint64_t n = first; n < end; n++)
        frame_free(MFN(n), 0);
}

static struct domain *make_domain(uint64_t max_pages)
{
    struct domain_config c = {.ops = &pv_guest_ops,
                              .privileged = true,
                              .hardware = true,
                              .max_frames = max_pages,
                              .max_evtchn_port = 131071,
                              .max_grant_frames = 64,
                              .max_maptrack_frames = 1024};
    struct domain *d;
    struct vcpu *v;
    int r;

    c.max_vcpus = dom0_max_vcpus ? MIN(dom0_max_vcpus, MAX_VCPUS) : MIN(cpu_count(), MAX_VCPUS);
    r = domain_create(DID(0), &c, &d);
    if (r)
        panic("Cannot create dom0: error %d", r);
    for (unsigned i = 0; i < c.max_vcpus; i++) {
        r = vcpu_create(d, i, &v);
        if (r)
            panic("Cannot create dom0's vCPU %u: error %d", i, r);
        if (dom0_vcpus_pin) {
            struct cpumask one = {{0}};

            cpumask_set(&one, i % cpu_count());
            if (sched_set_affinity(v, &one, &one))
                log_warn("dom0_vcpus_pin: cannot pin vCPU %u to CPU %u", i, i % cpu_count());
        }
    }
    return d;
}

static void start_vcpu(struct domain *d, const struct dom0_memory *m, const struct dom0_layout *l,
                       const struct dom0_kernel *k)
{
    struct vcpu *v = domain_vcpu(d, 0);
    struct guest_regs *r = vcpu_regs(v);
    mfn_t l4 = dom0_mfn(m, l->tables_pfn);
    int e = pv_pin_table(d, l4, 4);

    if (e)
        panic("dom0's page tables are refused: error %d", e);
    e = pv_set_root(v, l4, false);
    if (e)
        panic("dom0's page-table root is refused: error %d", e);
    arch_vcpu_reset(v);
    pv_vcpu(v)->kernel_mode = true;
    *r = (struct guest_regs){
        .rip = k->entry,
        .rsp = k->virt_base + ((l->stack_pfn + 1) << FRAME_SHIFT),
        .rsi = k->virt_base + (l->start_info_pfn << FRAME_SHIFT),
        .rflags = EFLAGS_IF | EFLAGS_MBS,
        .cs = FLAT_RING3_CS64,
        .ss = FLAT_RING3_SS64,
    };
    v->info->evtchn_upcall_mask = 1;
    v->initialised = true;
    __atomic_and_fetch(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
}

static void check_features(const struct domain *d, const struct dom0_kernel *k)
{
    /* "!writable_page_tables" in Linux's note says that it does without them, so it is no requirement. */
    uint32_t missing = k->features & ~arch_features(d) & ~(1u << XENFEAT_writable_page_tables);

    if (missing)
        panic("The dom0 kernel requires interface features that do not exist here (bits %#x)", missing);
}

static void say(const struct dom0_kernel *k, const struct kernel_image *image, const struct dom0_layout *l,
                const struct dom0_memory *m)
{
    log_info("dom0 kernel: %s %s, %s, ELF %lu KiB, entry %#lx", k->os ? k->os : "?",
             k->os_version ? k->os_version : "", image->packing, (unsigned long)(image->size >> 10),
             (unsigned long)k->entry);
    log_info("dom0 memory: %lu MiB in %u pieces, at most %lu MiB; %u vCPUs", (unsigned long)(m->pages >> 8),
             m->run_count, (unsigned long)(m->max_pages >> 8), m->d->max_vcpus);
    log_debug("dom0 layout: mapped pfns 0-%#lx, ramdisk %#lx+%#lx, p2m %#lx+%#lx, start_info %#lx, tables "
              "%#lx+%#lx",
              (unsigned long)l->mapped_end, (unsigned long)l->initrd_pfn, (unsigned long)l->initrd_pages,
              (unsigned long)l->p2m_pfn, (unsigned long)(l->p2m_pages + l->p2m_table_pages),
              (unsigned long)l->start_info_pfn, (unsigned long)l->tables_pfn, (unsigned long)l->tables_pages);
}

void dom0_build(const struct boot_info *bi)
{
    const struct boot_module *kmod = &bi->module[0], *rmod = bi->module_count > 1 ? &bi->module[1] : NULL;
    struct kernel_image image;
    struct dom0_kernel k;
    struct dom0_memory m;
    struct dom0_layout l;
    struct domain *d;
    uint64_t pages, max_pages;
    const char *why;

    if (!bi->module_count)
        panic("No dom0 kernel: the boot loader gave no module (GRUB: add module2 /vmlinuz ...; QEMU: -initrd "
              "vmlinuz)");
    if (!kernel_image_open(module_data(kmod, "dom0 kernel"), kmod->size, &image, &why))
        panic("Cannot use the dom0 kernel (%lu bytes): %s", (unsigned long)kmod->size, why);
    dom0_kernel_parse(&k, &image);

    pages = dom0_memory_size(&max_pages);
    layout_make(&l, &k, pages, rmod ? rmod->size : 0);
    if (l.used_end > pages)
        panic(
            "dom0's %lu MiB of memory are too small for its kernel and ramdisk (%lu MiB needed at the start)",
            (unsigned long)(pages >> 8), (unsigned long)(l.used_end >> 8) + 1);
    d = make_domain(max_pages);
    check_features(d, &k);
    dom0_memory_allocate(&m, d, pages, max_pages);

    load_kernel(&m, &k);
    zero_in_dom0(&m, l.start_info_pfn << FRAME_SHIFT, (l.stack_pfn + 1 - l.start_info_pfn) << FRAME_SHIFT);
    zero_in_dom0(&m, l.p2m_pfn << FRAME_SHIFT, (l.p2m_pages + l.p2m_table_pages) << FRAME_SHIFT);
    if (rmod)
        copy_to_dom0(&m, l.initrd_pfn << FRAME_SHIFT, module_data(rmod, "ramdisk"), rmod->size);
    fill_p2m(&m, &l);
    fill_start_info(&m, &l, &k, bi, kmod->cmdline);
    dom0_tables_build(&m, &l, k.virt_base);
    say(&k, &image, &l, &m);

    start_vcpu(d, &m, &l, &k);
    arch_wallclock_publish(d);
    kernel_image_free(&image);
    module_free(kmod);
    if (rmod)
        module_free(rmod);
    dom0_memory_done(&m);
    vga_release();
}
