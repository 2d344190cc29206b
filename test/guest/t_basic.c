/* Version, features, console, multicall, time: what every kernel asks first. */
#include "guest.h"

TEST(version_is_4_17)
{
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
}

TEST(version_unknown_op_is_enosys)
{
    CHECK_EQ(HC2(xen_version, 99, 0), -38);
}

TEST(hypercall_unknown_is_enosys)
{
    CHECK_EQ(hypercall(63, 0, 0, 0, 0, 0), -38);
    CHECK_EQ(hypercall(0xffffffff, 0, 0, 0, 0, 0), -38);
}

TEST(features_linux_needs)
{
    struct xen_feature_info f = {0};

    CHECK_EQ(HC2(xen_version, XENVER_get_features, &f), 0);
    if (HVM_GUEST)
        CHECK(f.submap & 1u << XENFEAT_auto_translated_physmap &&
              f.submap & 1u << XENFEAT_hvm_callback_vector && f.submap & 1u << XENFEAT_hvm_safe_pvclock);
    else
        CHECK(f.submap & (1u << XENFEAT_mmu_pt_update_preserve_ad));
    CHECK(f.submap & (1u << XENFEAT_gnttab_map_avail_bits));
    CHECK_EQ(f.submap >> XENFEAT_dom0 & 1, hardware_domain);
    CHECK(!(f.submap & (1u << XENFEAT_supervisor_mode_kernel)));
    f.submap_idx = 1;
    CHECK_EQ(HC2(xen_version, XENVER_get_features, &f), -22);
}

TEST(version_bad_pointers_fault)
{
    CHECK_EQ(HC2(xen_version, XENVER_extraversion, HV_ADDRESS), -14);
#ifdef __x86_64__
    CHECK_EQ(HC2(xen_version, XENVER_extraversion, 0xffff7ffffffffff8ul), -14); /* straddles into it */
    CHECK_EQ(HC2(xen_version, XENVER_extraversion, 0x0000800000000000ul), -14); /* not canonical */
#endif
    CHECK_EQ(HC2(xen_version, XENVER_extraversion, 0x10), -14); /* not mapped */
    CHECK_EQ(HC2(xen_version, XENVER_extraversion, -8ul), -14); /* wraps */
}

TEST(multicall_runs_all)
{
    struct multicall_entry m[3] = {
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_version, 0}},
        {.op = 63},
        {.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize, 0}},
    };

    CHECK_EQ(HC2(multicall, m, 3), 0);
    CHECK_EQ(m[0].result, (4 << 16) | 17);
    CHECK_EQ((long)m[1].result, -38);
    CHECK_EQ(m[2].result, 4096);
}

TEST(multicall_does_not_nest)
{
    struct multicall_entry inner = {.op = __HYPERVISOR_xen_version};
    struct multicall_entry m = {.op = __HYPERVISOR_multicall, .args = {(unsigned long)&inner, 1}};

    CHECK_EQ(HC2(multicall, &m, 1), 0);
    CHECK_EQ((long)m.result, -22);
}

TEST(multicall_bad_list_faults)
{
    CHECK_EQ(HC2(multicall, HV_ADDRESS, 1), -14);
    CHECK_EQ(HC2(multicall, NULL, 0), 0);
}

TEST(console_io_rejects)
{
    char c;

    CHECK_EQ(HC3(console_io, CONSOLEIO_write, 4, HV_ADDRESS), -14);
    CHECK_EQ(HC3(console_io, 7, 0, 0), -38);
    CHECK_EQ(HC3(console_io, CONSOLEIO_read, 1, &c), hardware_domain ? 0 : -1);
}

TEST(time_moves)
{
    struct vcpu_time_info *t = &shared->vcpu_info[0].time;
    uint64_t before = rdtsc();

    CHECK(t->version != 0 && !(t->version & 1));
    CHECK(t->tsc_to_system_mul != 0);
    CHECK(shared->wc_sec > 1577836800); /* later than 2020 */
    CHECK(rdtsc() > before);
}

static volatile unsigned timer_fired;
static unsigned timer_port;
static void timer_event(void)
{
    if (port_pending(timer_port)) {
        port_clear(timer_port);
        timer_fired++;
    }
}

TEST(singleshot_timer_fires)
{
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
    struct vcpu_set_singleshot_timer t = {.timeout_abs_ns = 0};
    struct vcpu_runstate_info rs;

    HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, NULL);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_virq, &bind), 0);
    timer_port = bind.port;
    timer_fired = 0;
    event_hook = timer_event;
    port_unmask(timer_port);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &rs), 0);
    t.timeout_abs_ns = rs.state_entry_time + 20000000;
    events_off();
    CHECK_EQ(HC3(vcpu_op, VCPUOP_set_singleshot_timer, 0, &t), 0);
    CHECK_EQ(events_wait(), 0);
    CHECK_EQ(timer_fired, 1);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_stop_singleshot_timer, 0, NULL), 0);
    struct evtchn_close close = {.port = timer_port};
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &close), 0);
}
