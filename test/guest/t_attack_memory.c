/*
 * Attacks by an ordinary domain on memory that is not its own. Invariants: docs/security.md 1 (own memory only), 2 (no writable
 * table), 6 (limits), 7 (freed memory).
 */
#include "toolstack.h"
#include <xen/hvm/hvm_op.h>

/* What Krypton shares with us: the shared info page, the first frame of our grant table. */
static bool shared_frame(uint64_t mfn)
{
    xen_pfn_t first = 0;
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};

    set_xen_guest_handle(setup.frame_list, &first);
    HC3(grant_table_op, GNTTABOP_setup_table, &setup, 1);
    return mfn == start_info->shared_info / PAGE || mfn == first;
}

/* The table that all can read says whose a frame may be, our own list whether it is ours. */
static bool own_frame(uint64_t mfn)
{
    const uint64_t *p2m = (const uint64_t *)start_info->mfn_list;
    uint64_t pfn;

    return mfn < 1ull << 32 && !probe_read((const void *)&M2P[mfn], &pfn) && pfn < start_info->nr_pages &&
           p2m[pfn] == mfn;
}

/* Calls fn for frames all over the machine that are not ours: all of the first MiB, of the area around the end of RAM, and every
 * 61st between. False: fn said so. */
static bool foreign_frames(bool (*fn)(uint64_t mfn))
{
    uint64_t max = (uint64_t)HC2(memory_op, XENMEM_maximum_ram_page, NULL);
    static const uint64_t devices[] = {0xfee00, 0xfec00, 0xfed00, 0xfed1c, 0xe0000, 0xb0000, 0xfffff};

    for (uint64_t m = 0; m < max + 64; m += m < 256 || m > max - 64 ? 1 : 61)
        if (!own_frame(m) && !fn(m) && !shared_frame(m))
            return false;
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        if (!own_frame(devices[i]) && !fn(devices[i]))
            return false;
    return fn(1ull << 39) && fn((1ull << 40) - 1) && fn(~0ull >> 12);
}

static bool not_mapped(uint64_t mfn)
{
    void *at = scratch_va(1);
    bool ok = pte_set(at, mfn * PAGE | PTE_KERNEL_RO) < 0 && pte_set(at, mfn * PAGE | PTE_KERNEL) < 0 &&
              mmu_one(pte_machine(at), mfn * PAGE | PTE_KERNEL_RO) < 0 &&
              hypercall(__HYPERVISOR_update_va_mapping_otherdomain, (uint64_t)at, mfn * PAGE | PTE_KERNEL, 0,
                        DOMID_IO, 0) < 0;

    if (!ok) {
        print("frame %llx could be mapped\n", (unsigned long long)mfn);
        pte_set(at, 0);
    }
    return ok;
}

ATTACK(map_frames_of_others)
{
    CHECK(foreign_frames(not_mapped));
    CHECK_EQ(pte_read(scratch_va(1)) & 1, 0);
}

static bool not_used(uint64_t mfn)
{
    for (unsigned op = MMUEXT_PIN_L1_TABLE; op <= MMUEXT_NEW_BASEPTR; op++)
        if (mmu_ext(op, mfn, 0) >= 0) {
            print("mmuext %u of frame %llx\n", op, (unsigned long long)mfn);
            return false;
        }
    return mmu_ext(MMUEXT_NEW_USER_BASEPTR, mfn ? mfn : 1, 0) < 0 && mmu_ext(MMUEXT_CLEAR_PAGE, mfn, 0) < 0 &&
           mmu_ext(MMUEXT_COPY_PAGE, mfn, va_mfn(start_info)) < 0 &&
           mmu_ext(MMUEXT_COPY_PAGE, va_mfn(pfn_va(start_info->nr_pages - 1)), mfn) < 0;
}

ATTACK(use_frames_of_others_as_tables)
{
    CHECK(foreign_frames(not_used));
}

static bool not_written(uint64_t mfn)
{
    return mmu_one(mfn * PAGE + 8, 0) < 0 && mmu_one((mfn * PAGE + 16) | MMU_MACHPHYS_UPDATE, 7) < 0 &&
           HC2(update_descriptor, mfn * PAGE + 8, 0x00cff3000000ffffull) < 0;
}

ATTACK(write_frames_of_others)
{
    CHECK(foreign_frames(not_written));
}

static bool not_given_up(uint64_t mfn)
{
    xen_pfn_t frame = mfn;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};
    static xen_pfn_t out;
    struct xen_memory_exchange x = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                    .out = {.nr_extents = 1, .domid = DOMID_SELF}};
    struct gnttab_transfer t = {.mfn = mfn, .domid = own_id, .ref = 8};

    set_xen_guest_handle(r.extent_start, &frame);
    set_xen_guest_handle(x.in.extent_start, &frame);
    set_xen_guest_handle(x.out.extent_start, &out);
    return HC2(memory_op, XENMEM_decrease_reservation, &r) == 0 && HC2(memory_op, XENMEM_exchange, &x) < 0 &&
           (HC3(grant_table_op, GNTTABOP_transfer, &t, 1) < 0 || t.status != GNTST_okay);
}

ATTACK(give_away_frames_of_others)
{
    struct xen_memory_domain self = {.domid = DOMID_SELF};
    long before = HC2(memory_op, XENMEM_current_reservation, &self);

    CHECK(foreign_frames(not_given_up));
    CHECK_EQ(HC2(memory_op, XENMEM_current_reservation, &self), before);
}

static bool not_registered(uint64_t mfn)
{
    struct vcpu_register_vcpu_info info = {.mfn = mfn};
    xen_pfn_t frame = mfn;
    struct evtchn_init_control c = {.control_gfn = mfn};

    return HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &info) < 0 && HC2(set_gdt, &frame, 8) < 0 &&
           HC2(event_channel_op, EVTCHNOP_init_control, &c) < 0;
}

ATTACK(register_frames_of_others)
{
    CHECK(foreign_frames(not_registered));
}

/* Addresses instead of frames: the hypervisor's part and what is not canonical has no entry that could be changed. */
ATTACK(map_at_the_hypervisors_addresses)
{
    uint64_t pte = pte_of(page_alloc(), PTE_KERNEL);

    for (uint64_t slot = 256; slot < 272; slot++)
        for (uint64_t in = 0; in < 4; in++)
            CHECK(pte_set((void *)(0xffff000000000000ull + (slot << 39) + in * 0x40201000ull), pte) < 0);
    for (uint64_t bit = 47; bit < 63; bit++)
        CHECK(pte_set((void *)(1ull << bit), pte) < 0);
    for (unsigned slot = 256; slot < 272; slot++)
        CHECK(mmu_one(va_mfn((void *)start_info->pt_base) * PAGE + slot * 8, pte) < 0);
}

/* Every hypercall that names a domain, with names of others: refused, whoever it is. */
ATTACK(name_other_domains)
{
    static const domid_t who[] = {
        0, 1, 2, 3, 0x7fef, DOMID_IO, DOMID_XEN, DOMID_COW, DOMID_INVALID, DOMID_IDLE, 0xffff};
    xen_pfn_t frame = 1;

    for (unsigned i = 0; i < ARRAY_SIZE(who); i++) {
        domid_t d = who[i];
        struct xen_memory_reservation r = {.nr_extents = 1, .domid = d};
        struct xen_memory_domain q = {.domid = d};
        struct xen_foreign_memory_map map = {.domid = d};
        struct evtchn_alloc_unbound u = {.dom = d, .remote_dom = DOMID_SELF};
        struct evtchn_status st = {.dom = d, .port = 1};
        struct evtchn_reset reset = {.dom = d};
        struct sched_remote_shutdown kill = {.domain_id = d, .reason = SHUTDOWN_crash};
        struct gnttab_setup_table setup = {.dom = d, .nr_frames = 1};
        struct gnttab_query_size size = {.dom = d};
        struct gnttab_get_version ver = {.dom = d};
        struct xen_mem_acquire_resource res = {
            .domid = d, .type = XENMEM_resource_grant_table, .nr_frames = 1};
        struct xen_add_to_physmap add = {.domid = d, .space = XENMAPSPACE_shared_info};
        struct mmu_update up = {.ptr = pte_machine(scratch_va(2))};

        if (d == own_id)
            continue;
        set_xen_guest_handle(r.extent_start, &frame);
        set_xen_guest_handle(setup.frame_list, &frame);
        set_xen_guest_handle(res.frame_list, &frame);
        CHECK(HC2(memory_op, XENMEM_populate_physmap, &r) <= 0);
        CHECK(HC2(memory_op, XENMEM_increase_reservation, &r) <= 0);
        CHECK(HC2(memory_op, XENMEM_decrease_reservation, &r) <= 0);
        CHECK(HC2(memory_op, XENMEM_claim_pages, &r) < 0);
        CHECK(HC2(memory_op, XENMEM_current_reservation, &q) < 0);
        CHECK(HC2(memory_op, XENMEM_maximum_reservation, &q) < 0);
        CHECK(HC2(memory_op, XENMEM_maximum_gpfn, &q) < 0);
        CHECK(HC2(memory_op, XENMEM_set_memory_map, &map) < 0);
        CHECK(HC2(memory_op, XENMEM_acquire_resource, &res) < 0);
        CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add) < 0);
        CHECK(HC2(event_channel_op, EVTCHNOP_alloc_unbound, &u) < 0);
        CHECK(HC2(event_channel_op, EVTCHNOP_status, &st) < 0);
        CHECK(HC2(event_channel_op, EVTCHNOP_reset, &reset) < 0);
        CHECK(HC2(sched_op, SCHEDOP_remote_shutdown, &kill) < 0);
        CHECK(HC3(grant_table_op, GNTTABOP_setup_table, &setup, 1) < 0 || setup.status != GNTST_okay);
        CHECK(HC3(grant_table_op, GNTTABOP_query_size, &size, 1) < 0 || size.status != GNTST_okay);
        CHECK(HC3(grant_table_op, GNTTABOP_get_version, &ver, 1) < 0);
        if (d == DOMID_IO) /* device memory: a domain that is none may be named, there is nothing to have */
            continue;
        CHECK(HC4(mmu_update, &up, 1, NULL, d) < 0);
        CHECK(d == 0xffff || HC4(mmu_update, &up, 1, NULL, (uint64_t)(d + 1) << 16 | DOMID_SELF) < 0);
        CHECK(hypercall(__HYPERVISOR_update_va_mapping_otherdomain, (uint64_t)scratch_va(2), 0, 0, d, 0) < 0);
    }
}

/* What the toolstack and the hardware domain may: each operation that there is, none is done. */
ATTACK(call_what_others_may)
{
    static uint32_t op[64];

    for (uint32_t cmd = 0; cmd < 100; cmd++)
        for (uint32_t version = 0x14; version < 0x19; version++) {
            op[0] = cmd;
            op[1] = version;
            CHECK_EQ(HC1(domctl, op), -1);
            CHECK_EQ(HC1(sysctl, op), -1);
        }
    for (uint32_t cmd = 0; cmd < 70; cmd++) {
        op[0] = cmd;
        op[1] = XENPF_INTERFACE_VERSION;
        CHECK_EQ(HC1(platform_op, op), -1);
        CHECK(cmd == HVMOP_get_time || HC2(hvm_op, cmd, op) < 0); /* the time is no secret */
        CHECK(HC2(kexec_op, cmd, op) < 0);
        CHECK(HC3(dm_op, 0, cmd, op) < 0);
        CHECK(HC1(arch_0, op) < 0);
        CHECK(HC1(xsm_op, op) < 0);
        CHECK(hypercall(__HYPERVISOR_argo_op, cmd, (uint64_t)op, 0, 0, 0) < 0);
        CHECK(HC2(tmem_op, op, 0) < 0);
    }
    for (uint32_t cmd = PHYSDEVOP_alloc_irq_vector; cmd < 40; cmd++)
        if (cmd != PHYSDEVOP_eoi && cmd != PHYSDEVOP_get_free_pirq && cmd != PHYSDEVOP_pirq_eoi_gmfn_v2)
            CHECK(HC2(physdev_op, cmd, op) < 0);
    CHECK(HC2(memory_op, XENMEM_machine_memory_map, op) < 0);
    CHECK(HC2(memory_op, XENMEM_machphys_mfn_list, op) < 0);
    CHECK(HC2(sched_op, SCHEDOP_pin_override, op) < 0);
}

/* --- freed memory --- */

/* First everything is filled with words that say whose it was; the next domain, which gets the same frames, looks for them. */
#define SECRET 0x5ec4e75ec4e75ec4ull

/* The 2 MiB frames of a domain that a toolstack made, for it to see that the second one has frames of the first. */
static void say_frames(void)
{
    const uint64_t *p2m = (const uint64_t *)start_info->mfn_list;

    for (uint64_t pfn = 0;
         strstr((const char *)start_info->cmd_line, "attack=") && pfn < start_info->nr_pages; pfn += 512)
        print("frame %llx\n", (unsigned long long)p2m[pfn]);
}

ATTACK(memory_a_leave_secrets)
{
    uint64_t *p;

    say_frames();
    do {
        p = page_alloc();
        for (unsigned i = 0; i < 512; i++)
            p[i] = SECRET;
    } while (va_pfn(p) < start_info->nr_pages - 8);
}

/* What a page of ours holds, wherever the builder has left it without a mapping too. */
static const uint64_t *contents(uint64_t pfn)
{
    const uint64_t *p = pfn_va(pfn), *p2m = (const uint64_t *)start_info->mfn_list;
    uint64_t ignored;

    if (!read_faults(p, &ignored))
        return p;
    p = scratch_va(3);
    return pte_set(p, p2m[pfn] * PAGE | PTE_KERNEL_RO) ? NULL : p;
}

ATTACK(memory_b_find_none)
{
    uint64_t first = va_pfn((void *)start_info->pt_base) + start_info->nr_pt_frames + 1;

    say_frames();
    for (uint64_t pfn = 0; pfn < start_info->nr_pages; pfn += pfn == 0xff ? first - 0xff : 1) {
        const uint64_t *p = contents(pfn);

        CHECK(p);
        for (unsigned i = 0; i < 512; i++)
            CHECK_EQ(p[i], 0);
    }
}

/* --- how much there may be --- */

static long increase(unsigned order, unsigned n, xen_pfn_t *list)
{
    struct xen_memory_reservation r = {.nr_extents = n, .extent_order = order, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, list);
    return HC2(memory_op, XENMEM_increase_reservation, &r);
}

static volatile bool greedy_stop;
static void greedy(void *unused)
{
    static xen_pfn_t list[4];

    while (!greedy_stop)
        increase(0, 4, list);
}

ATTACK(exceed_max_mem)
{
    static xen_pfn_t list[600];
    struct xen_memory_domain self = {.domid = DOMID_SELF};
    struct xen_memory_reservation r = {.nr_extents = 300, .domid = DOMID_SELF};
    long total = HC2(memory_op, XENMEM_maximum_reservation, &self);
    unsigned second;

    while (increase(0, 1, list) == 1)
        ;
    for (unsigned order = 0; order < 20; order++)
        CHECK(increase(order, 1, list) <= 0);
    CHECK(increase(0, ~0u, list) <= 0);
    CHECK_EQ(HC2(memory_op, XENMEM_current_reservation, &self), total);
    /* Give 300 up, ask for them again from two vCPUs at once: never more than the limit. */
    for (unsigned i = 0; i < 300; i++) {
        char *page = page_alloc();

        list[i] = va_mfn(page);
        CHECK_EQ(pte_set(page, 0), 0);
    }
    set_xen_guest_handle(r.extent_start, list);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 300);
    CHECK_EQ(HC2(memory_op, XENMEM_current_reservation, &self), total - 300);
    second = !vcpu_run(1, greedy, NULL);
    for (unsigned i = 0; i < 400; i++)
        increase(0, 1, list);
    greedy_stop = true;
    CHECK(!second || vcpu_wait(1));
    CHECK_EQ(HC2(memory_op, XENMEM_current_reservation, &self), total);
    CHECK_EQ(increase(0, 1, list), 0);
}
