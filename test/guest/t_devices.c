/* Foreign and device mappings, physdev_op, platform_op, console_io. */
#include "guest.h"

static long map_other(void *at, uint64_t pte, unsigned domid)
{
    return hypercall(__HYPERVISOR_update_va_mapping_otherdomain, (uint64_t)at, pte, UVMF_INVLPG | UVMF_ALL,
                     domid, 0);
}

TEST(otherdomain_of_nobody)
{
    CHECK_EQ(map_other(scratch_va(420), pte_of(page_alloc(), PTE_KERNEL), 12345), NO_SUCH_DOMAIN);
    CHECK(map_other(scratch_va(420), pte_of(page_alloc(), PTE_KERNEL), DOMID_IO) < 0); /* RAM is no device */
    CHECK(map_other(scratch_va(420), pte_of(page_alloc(), PTE_KERNEL), DOMID_XEN) < 0);
    CHECK_EQ(map_other(scratch_va(420), 0, DOMID_SELF), 0);
}

TEST(m2p_frames_through_domid_xen)
{
    static xen_pfn_t list[4];
    struct xen_machphys_mfn_list l = {.max_extents = 4};
    uint64_t mfn = va_mfn(start_info), per = (2ul << 20) / 8;

    set_xen_guest_handle(l.extent_start, list);
    CHECK_EQ(HC2(memory_op, XENMEM_machphys_mfn_list, &l), 0);
    CHECK(l.nr_extents >= 1);
    if (mfn / per >= l.nr_extents)
        return;
    uint64_t frame = list[mfn / per] + mfn % per / 512;
    CHECK(map_other(scratch_va(421), frame * PAGE | PTE_KERNEL, DOMID_XEN) < 0); /* read-only it is */
    CHECK_EQ(map_other(scratch_va(421), frame * PAGE | PTE_KERNEL_RO, DOMID_XEN), 0);
    CHECK_EQ(((uint64_t *)scratch_va(421))[mfn % 512], va_pfn(start_info));
    CHECK(write_faults((uint64_t *)scratch_va(421) + mfn % 512, 0));
    CHECK(pte_set(scratch_va(421), frame * PAGE | PTE_KERNEL) < 0);
    CHECK_EQ(pte_set(scratch_va(421), 0), 0);
    set_xen_guest_handle(l.extent_start, (xen_pfn_t *)HV_ADDRESS);
    CHECK_EQ(HC2(memory_op, XENMEM_machphys_mfn_list, &l), -14);
}

TEST(device_memory)
{
    void *at = scratch_va(422);
    uint64_t v;

    CHECK(pte_set(at, 0xfee00000 | PTE_KERNEL) < 0); /* local APIC */
    CHECK(map_other(at, 0xfee00000 | PTE_KERNEL, DOMID_IO) < 0);
    if (!pte_set(at, 0xfec00000 | PTE_KERNEL)) /* IO-APIC: Xen takes the write permission away in silence */
        CHECK(!(pte_read(at) & 2));
    CHECK_EQ(pte_set(at, 0), 0);
    CHECK_EQ(map_other(at, 0xb8000 | PTE_KERNEL | 0x10, DOMID_IO), 0); /* video memory, uncached */
    CHECK(!read_faults(at, &v));
    CHECK_EQ(pte_set(at, 0), 0);
    CHECK_EQ(pte_set(at, 0xb8000 | PTE_KERNEL | 0x10), 0);
    CHECK_EQ(pte_set(at, 0xfd000000 | PTE_KERNEL | 0x10), 0); /* the PCI hole */
    CHECK_EQ(pte_set(at, 0), 0);
    CHECK(pte_set(at, 1ull << 50 | PTE_KERNEL) < 0);
}

#define PHYS(op, p) HC2(physdev_op, PHYSDEVOP_##op, p)

TEST(physdev_arguments)
{
    struct physdev_map_pirq m = {.domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_GSI, .index = 100000, .pirq = -1};
    struct physdev_unmap_pirq u = {.domid = DOMID_SELF, .pirq = 100000};
    struct physdev_eoi e = {.irq = 0xffffffff};
    struct physdev_irq_status_query q = {.irq = 0xffffffff};
    struct physdev_setup_gsi g = {.gsi = 100000};
    struct physdev_get_free_pirq f = {.type = 99};
    struct physdev_pci_device_add pci = {.seg = 77, .bus = 255, .devfn = 255};

    CHECK(PHYS(map_pirq, &m) < 0);
    m.index = -1;
    CHECK(PHYS(map_pirq, &m) < 0);
    m = (struct physdev_map_pirq){.domid = 12345, .type = MAP_PIRQ_TYPE_GSI, .index = 9, .pirq = -1};
    CHECK_EQ(PHYS(map_pirq, &m), -3);
    m = (struct physdev_map_pirq){.domid = DOMID_SELF, .type = 77, .index = 9, .pirq = -1};
    CHECK(PHYS(map_pirq, &m) < 0);
    m = (struct physdev_map_pirq){
        .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_MSI, .index = -1, .pirq = -1, .bus = 250, .devfn = 8};
    CHECK(PHYS(map_pirq, &m) < 0); /* no such device */
    m = (struct physdev_map_pirq){
        .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_MULTI_MSI, .pirq = -1, .entry_nr = 0x7fffffff};
    CHECK(PHYS(map_pirq, &m) < 0);
    m = (struct physdev_map_pirq){
        .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_GSI, .index = 9, .pirq = 0x7fffffff};
    CHECK(PHYS(map_pirq, &m) < 0);
    CHECK(PHYS(unmap_pirq, &u) < 0);
    u.pirq = -5;
    CHECK(PHYS(unmap_pirq, &u) < 0);
    CHECK(PHYS(eoi, &e) < 0);
    CHECK(PHYS(irq_status_query, &q) < 0);
    q.irq = 9;
    CHECK_EQ(PHYS(irq_status_query, &q), 0);
    CHECK(PHYS(setup_gsi, &g) < 0);
    PHYS(get_free_pirq, &f);
    PHYS(pci_device_add, &pci);
    CHECK_EQ(HC2(physdev_op, 9999, &f), -38);
    CHECK_EQ(PHYS(eoi, HV_ADDRESS), -14);
    CHECK_EQ(PHYS(map_pirq, HV_ADDRESS), -14);
}

TEST(pirq_life)
{
    struct physdev_map_pirq m = {.domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_GSI, .index = 11, .pirq = 11};
    struct physdev_setup_gsi g = {.gsi = 11, .triggering = 1, .polarity = 1};
    struct evtchn_bind_pirq b = {.pirq = 11}, again = b;
    struct evtchn_close c;
    struct physdev_eoi e = {.irq = 11};
    struct physdev_unmap_pirq u = {.domid = DOMID_SELF, .pirq = 11};

    PHYS(setup_gsi, &g);
    CHECK_EQ(PHYS(map_pirq, &m), 0);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_pirq, &b), 0);
    CHECK(HC2(event_channel_op, EVTCHNOP_bind_pirq, &again) < 0);
    CHECK_EQ(PHYS(eoi, &e), 0);
    c.port = b.port;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &c), 0);
    CHECK_EQ(PHYS(unmap_pirq, &u), 0);
    CHECK(PHYS(unmap_pirq, &u) < 0);
}

TEST(platform_arguments)
{
    struct xen_platform_op *op = page_alloc();

    op->cmd = XENPF_get_cpuinfo;
    op->interface_version = 0x01020304;
    CHECK_EQ(HC1(platform_op, op), -13); /* EACCES */
    op->interface_version = XENPF_INTERFACE_VERSION;
    op->u.pcpu_info.xen_cpuid = 0;
    CHECK_EQ(HC1(platform_op, op), 0);
    CHECK(op->u.pcpu_info.flags & XEN_PCPU_FLAGS_ONLINE);
    op->u.pcpu_info.xen_cpuid = 0xffffffff;
    HC1(platform_op, op);
    op->cmd = 9999;
    CHECK_EQ(HC1(platform_op, op), -38);
    op->cmd = XENPF_settime64;
    op->u.settime64.mbz = 1;
    CHECK_EQ(HC1(platform_op, op), -22);
    CHECK_EQ(HC1(platform_op, HV_ADDRESS), -14);
    op->cmd = XENPF_firmware_info;
    op->u.firmware_info.type = 12345;
    CHECK(HC1(platform_op, op) < 0);
    op->u.firmware_info.type = XEN_FW_DISK_INFO;
    op->u.firmware_info.index = 0xffffffff;
    HC1(platform_op, op);
}

TEST(platform_settime_moves_the_wall_clock)
{
    struct xen_platform_op *op = page_alloc();
    uint32_t before = shared->wc_version;

    op->cmd = XENPF_settime64;
    op->interface_version = XENPF_INTERFACE_VERSION;
    op->u.settime64.secs = 1700000000;
    op->u.settime64.nsecs = 5;
    op->u.settime64.system_time = time_ns();
    CHECK_EQ(HC1(platform_op, op), 0);
    CHECK(shared->wc_version != before && !(shared->wc_version & 1));
    CHECK((uint64_t)shared->wc_sec + time_ns() / 1000000000 - (1700000000 - 2) < 5);
    op->u.settime64.secs = ~0ull;
    op->u.settime64.nsecs = 0xffffffff;
    HC1(platform_op, op); /* whatever it answers */
    op->u.settime64.secs = 1700000000;
    op->u.settime64.nsecs = 0;
    op->u.settime64.system_time = time_ns();
    CHECK_EQ(HC1(platform_op, op), 0);
}

TEST(console_io_attacks)
{
    char *page = page_alloc();

    char *last = scratch_va(423); /* nothing is mapped behind it */

    CHECK_EQ(pte_set(last, pte_of(page, PTE_KERNEL)), 0);
    memset(page, '.', PAGE);
    CHECK(HC3(console_io, CONSOLEIO_write, 0x7fffffff, last + PAGE - 20) < 0);
    CHECK_EQ(pte_set(last, 0), 0);
    CHECK_EQ(HC3(console_io, CONSOLEIO_write, 0, HV_ADDRESS), 0);
    memcpy(page, "\0\1\2\033[31m\xff%s%n\n", 14);
    CHECK(HC3(console_io, CONSOLEIO_write, 14, page) >= 0);
    CHECK(HC3(console_io, CONSOLEIO_read, 100, HV_ADDRESS) <= 0);
}

TEST(privileged_calls_not_yet_there)
{
    for (unsigned nr = 0; nr < 64; nr++) {
        /* No hypercall may bring the machine down for bad pointers, but iret, which ends the guest; shutdown is an answer, too. */
        if (nr == __HYPERVISOR_iret || nr == __HYPERVISOR_set_trap_table ||
            nr == __HYPERVISOR_set_callbacks || nr == __HYPERVISOR_sched_op_compat ||
            nr == __HYPERVISOR_sched_op || nr == __HYPERVISOR_stack_switch ||
            nr == __HYPERVISOR_fpu_taskswitch || nr == __HYPERVISOR_set_timer_op)
            continue;
        for (unsigned op = 0; op < 40; op++)
            if (nr != __HYPERVISOR_grant_table_op || op != GNTTABOP_set_version)
                if (nr != __HYPERVISOR_vcpu_op || (op != VCPUOP_down && op != VCPUOP_send_nmi))
                    if (nr != __HYPERVISOR_nmi_op && nr != __HYPERVISOR_set_gdt &&
                        nr != __HYPERVISOR_set_segment_base)
                        hypercall(nr, op, HV_ADDRESS, HV_ADDRESS, HV_ADDRESS, HV_ADDRESS);
    }
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
}
