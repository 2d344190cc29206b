/* Two vCPUs at the same page; arguments of memory_op; periodic timer, areas; long multicalls. */
#include "guest.h"

/* --- pin, unpin, map and use of one page from two sides --- */
static struct {
    uint64_t *table;
    void *at;
    volatile bool stop;
    volatile unsigned pinned, mapped, wrong;
} race;

static void race_map(void *unused)
{
    uint64_t m = pte_machine(race.at);

    while (!race.stop) {
        if (!mmu_one(m, pte_of(race.table, PTE_KERNEL))) {
            race.mapped++;
            /* Mapped writable: it is no page table now, so what we write is never looked at. */
            if (probe_write(race.at, 0))
                race.wrong++;
            mmu_one(m, 0);
        }
        mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)race.at, 0);
    }
}

TEST(race_pin_against_writable_mapping)
{
    uint64_t end;

    if (!vcpu_exists(1))
        return;
    race.table = page_alloc();
    race.at = scratch_va(430);
    race.stop = false;
    CHECK_EQ(page_protect(race.table), 0);
    CHECK_EQ(vcpu_run(1, race_map, NULL), 0);
    end = time_ns() + 300000000;
    while (time_ns() < end)
        if (!mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(race.table), 0)) {
            race.pinned++;
            if ((pte_read(race.at) & 3) == 3 && !mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(race.table), 0))
                race.wrong++;
            mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(race.table), 0);
        }
    race.stop = true;
    CHECK(vcpu_wait(1));
    CHECK_EQ(race.wrong, 0);
    CHECK(race.pinned > 0);
    CHECK_EQ(pte_set(race.at, 0), 0);
    CHECK_EQ(page_unprotect(race.table), 0);
}

static void race_pin(void *mfn)
{
    while (!race.stop)
        if (!mmu_ext(MMUEXT_PIN_L2_TABLE, (uint64_t)mfn, 0))
            mmu_ext(MMUEXT_UNPIN_TABLE, (uint64_t)mfn, 0);
}

TEST(race_two_pins_and_updates)
{
    uint64_t *l2 = page_alloc(), *l1 = page_alloc(), end, entry = pte_of(page_alloc(), PTE_KERNEL);

    if (!vcpu_exists(1))
        return;
    race.stop = false;
    CHECK_EQ(page_protect(l2), 0);
    CHECK_EQ(page_protect(l1), 0);
    CHECK_EQ(vcpu_run(1, race_pin, (void *)va_mfn(l2)), 0);
    end = time_ns() + 300000000;
    while (time_ns() < end) {
        if (!mmu_ext(MMUEXT_PIN_L2_TABLE, va_mfn(l2), 0))
            mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l2), 0);
        mmu_one(va_mfn(l2) * PAGE, pte_of(l1, PTE_KERNEL));
        mmu_one(va_mfn(l1) * PAGE + 8, entry);
        mmu_one(va_mfn(l1) * PAGE + 8, 0);
        mmu_one(va_mfn(l2) * PAGE, 0);
    }
    race.stop = true;
    CHECK(vcpu_wait(1));
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l2), 0), -22);
    CHECK_EQ(page_unprotect(l2), 0); /* every reference went back */
    CHECK_EQ(page_unprotect(l1), 0);
}

/* --- memory_op --- */
TEST(memory_limits_and_arguments)
{
    xen_pfn_t frame = 0;
    struct xen_memory_reservation r = {.nr_extents = 1, .extent_order = 63, .domid = DOMID_SELF};
    struct xen_memory_exchange x = {.in = {.nr_extents = 1, .domid = DOMID_SELF},
                                    .out = {.nr_extents = 2, .domid = DOMID_SELF}};
    struct xen_machphys_mapping mm = {0};
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = 99};
    struct xen_mem_acquire_resource res = {.domid = DOMID_SELF, .type = 77, .nr_frames = 1};
    domid_t self = DOMID_SELF;

    set_xen_guest_handle(r.extent_start, &frame);
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &r) <= 0);
    r.extent_order = 0;
    r.nr_extents = ~0ul;
    CHECK(HC2(memory_op, XENMEM_populate_physmap, &r) <= 0);
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &r) <= 0);
    CHECK(HC2(memory_op, XENMEM_exchange, &x) < 0); /* sizes do not match */
    x.out.nr_extents = 1;
    x.nr_exchanged = 5;
    CHECK(HC2(memory_op, XENMEM_exchange, &x) < 0);
    x.nr_exchanged = 0;
    x.in.extent_order = 40;
    x.out.extent_order = 40;
    CHECK(HC2(memory_op, XENMEM_exchange, &x) < 0);
    CHECK_EQ(HC2(memory_op, XENMEM_machphys_mapping, &mm), 0);
    CHECK_EQ(mm.v_start, 0xffff800000000000ul);
    CHECK(HC2(memory_op, XENMEM_add_to_physmap, &add) < 0);
    CHECK(HC2(memory_op, XENMEM_acquire_resource, &res) < 0);
    CHECK(HC2(memory_op, XENMEM_maximum_ram_page, NULL) > 0);
    CHECK(HC2(memory_op, XENMEM_current_reservation, &self) > 0);
    CHECK(HC2(memory_op, XENMEM_maximum_reservation, &self) > 0);
    r = (struct xen_memory_reservation){.nr_extents = 1ul << 40, .domid = DOMID_SELF};
    CHECK(HC2(memory_op, XENMEM_claim_pages, &r) < 0);
    CHECK_EQ(HC2(memory_op, XENMEM_machine_memory_map, HV_ADDRESS), hardware_domain ? -14 : -1);
    CHECK_EQ(HC2(memory_op, 63, NULL), -38);
}

/* --- periodic timer, areas --- */
TEST(periodic_timer_ticks)
{
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
    struct vcpu_set_periodic_timer p = {.period_ns = 2000000}, fast = {.period_ns = 1};
    struct evtchn_close c;
    unsigned n = 0;
    uint64_t end;

    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_virq, &bind), 0);
    c.port = bind.port;
    port_unmask(bind.port);
    CHECK(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, &fast) < 0);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_set_periodic_timer, 0, &p), 0);
    end = time_ns() + 100000000;
    while (time_ns() < end)
        if (port_pending(bind.port)) {
            port_clear(bind.port);
            n++;
        }
    CHECK_EQ(HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, NULL), 0);
    CHECK(n >= 5 && n <= 55);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &c), 0);
}

TEST(time_area_registered)
{
    static struct vcpu_time_info area;
    struct vcpu_register_time_memory_area r = {.addr.v = &area};

    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &r), 0);
    HC2(sched_op, SCHEDOP_yield, NULL);
    CHECK(area.version && !(area.version & 1));
    CHECK(area.tsc_to_system_mul == shared->vcpu_info[0].time.tsc_to_system_mul);
    r.addr.v = (void *)0x10; /* goes away: not written any more, nothing breaks */
    HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &r);
    r.addr.v = (void *)HV_ADDRESS;
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &r) < 0);
    r.addr.v = NULL;
    HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &r);
}

TEST(multicall_long_with_events)
{
    static struct multicall_entry list[2000];

    for (unsigned i = 0; i < 2000; i++)
        list[i] = (struct multicall_entry){.op = __HYPERVISOR_mmuext_op, .args = {0x10, 1, 0, DOMID_SELF}};
    list[1999] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_version}};
    CHECK_EQ(HC2(multicall, list, 2000), 0);
    for (unsigned i = 0; i < 1999; i++)
        CHECK_EQ(list[i].result, -14);
    CHECK_EQ(list[1999].result, (4 << 16) | 17);
}
