/* What only HVM guests call, and what kernels of both widths call with structures that differ. */
#include "hvm.h"

TEST(hvm_params)
{
    uint64_t v;

    CHECK_EQ(hvm_param_get(HVM_PARAM_STORE_PFN, &v), 0);
    CHECK(v != 0);
    CHECK_EQ(hvm_param_set(HVM_PARAM_STORE_PFN, 5), -1);
    CHECK_EQ(hvm_param_get(HVM_PARAM_IOREQ_PFN, &v), -1);
    CHECK_EQ(hvm_param_get(1000, &v), -22);
    CHECK_EQ(HC2(hvm_op, HVMOP_get_param, HV_ADDRESS), -14);
    CHECK_EQ(hvm_param_set(HVM_PARAM_CALLBACK_IRQ, (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | 3), -22);
    CHECK_EQ(HC2(hvm_op, 999, NULL), -38);
}

TEST(hvm_get_time_and_memory_type)
{
    struct xen_hvm_get_time t = {.now = 0};
    struct xen_hvm_get_mem_type m = {.domid = DOMID_SELF, .pfn = 0x200};

    CHECK_EQ(HC2(hvm_op, HVMOP_get_time, &t), 0);
    CHECK(t.now != 0);
    CHECK_EQ(HC2(hvm_op, HVMOP_get_mem_type, &m), 0);
    CHECK_EQ(m.mem_type, HVMMEM_ram_rw);
    m.pfn = scratch_gfn(100);
    CHECK_EQ(HC2(hvm_op, HVMOP_get_mem_type, &m), 0);
    CHECK_EQ(m.mem_type, HVMMEM_mmio_dm);
}

/* The record is written at each switch: its layout must be the kernel's. */
TEST(hvm_runstate_record_stays_true)
{
    static struct {
        struct vcpu_runstate_info area;
        uint32_t behind;
    } r;
    struct vcpu_register_runstate_memory_area a = {.addr.p = 0};
    struct vcpu_runstate_info now;
    uint64_t sum = 0;

    r.behind = 0xabcdef01;
    a.addr.v = &r.area;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &a), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct sched_poll poll = {.nr_ports = 0, .timeout = time_ns() + 3000000};

        CHECK_EQ(HC2(sched_op, SCHEDOP_poll, &poll), 0); /* switched away and back */
    }
    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &now), 0);
    CHECK_EQ(r.area.state, RUNSTATE_running);
    CHECK(now.state_entry_time >= r.area.state_entry_time);
    CHECK(r.area.state_entry_time + 1000000000ull > now.state_entry_time);
    CHECK(r.area.time[RUNSTATE_blocked] >= 5000000);
    for (unsigned i = 0; i < 4; i++)
        sum += r.area.time[i];
    CHECK(sum > 5000000 && sum < 1000000000000ull);
    CHECK_EQ(r.behind, 0xabcdef01);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, HV_ADDRESS), -14);
    a.addr.v = NULL;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &a), 0);
}

TEST(hvm_time_record)
{
    static struct vcpu_time_info area;
    struct vcpu_register_time_memory_area a = {.addr.p = 0};

    a.addr.v = &area;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &a), 0);
    CHECK(area.version && area.tsc_to_system_mul == shared->vcpu_info[0].time.tsc_to_system_mul);
    a.addr.v = NULL;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &a), 0);
}

/* Forty ports of one's own that are rung: the selector and words are where this kernel's width has them. */
TEST(hvm_events_in_all_words)
{
    unsigned port[40], seen = 0;

    events_off();
    for (unsigned i = 0; i < ARRAY_SIZE(port); i++) {
        struct evtchn_bind_ipi b = {.vcpu = 0};
        struct evtchn_send s;

        CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_ipi, &b), 0);
        s.port = port[i] = b.port;
        port_mask(b.port);
        CHECK_EQ(HC2(event_channel_op, EVTCHNOP_send, &s), 0);
        CHECK(port_pending(b.port));
        shared->vcpu_info[0].evtchn_pending_sel = 0;
        shared->vcpu_info[0].evtchn_upcall_pending = 0;
        port_unmask(b.port);
        CHECK_EQ(shared->vcpu_info[0].evtchn_pending_sel, 1ul << b.port / (8 * sizeof(long)));
        CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_pending, 1);
        seen |= 1u << b.port / (8 * sizeof(long));
        port_clear(b.port);
    }
    CHECK(sizeof(long) == 8 || seen & 2);
    for (unsigned i = 0; i < ARRAY_SIZE(port); i++) {
        struct evtchn_close c = {.port = port[i]};

        CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &c), 0);
    }
}

static unsigned vector_seen;
static void note_vector(struct trap_frame *f)
{
    vector_seen = (unsigned)f->nr;
    shared->vcpu_info[0].evtchn_upcall_pending = 0;
    shared->vcpu_info[0].evtchn_pending_sel = 0;
}

/* Vectors and vCPUs that are refused; a vector named with such a vCPU stays the guest's. */
TEST(hvm_upcall_vector)
{
    struct xen_hvm_evtchn_upcall_vector u = {.vcpu = 0, .vector = 3};

    CHECK_EQ(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, &u), -22);
    u.vector = 0x55;
    u.vcpu = 4000;
    CHECK_EQ(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, &u), -2);
    CHECK_EQ(HC2(hvm_op, HVMOP_set_evtchn_upcall_vector, HV_ADDRESS), -14);
    trap_hook = note_vector;
    vector_seen = 0;
    __asm__ volatile("int $0x55" ::: "memory");
    CHECK_EQ(vector_seen, 0x55);
    trap_hook = NULL;
}

TEST(hvm_long_multicall)
{
    static struct multicall_entry m[300];

    for (unsigned i = 0; i < ARRAY_SIZE(m); i++)
        m[i] = (struct multicall_entry){.op = __HYPERVISOR_xen_version,
                                        .args = {i % 2 ? XENVER_version : XENVER_pagesize, 0}};
    CHECK_EQ(HC2(multicall, m, ARRAY_SIZE(m)), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(m); i++)
        CHECK_EQ(m[i].result, i % 2 ? 4 << 16 | 17 : 4096);
    CHECK_EQ(HC2(multicall, HV_ADDRESS, 2), -14);
}

TEST(hvm_has_no_calls_of_pv)
{
    CHECK_EQ(HC1(set_trap_table, NULL), -38);
    CHECK_EQ(HC4(mmu_update, NULL, 0, NULL, DOMID_SELF), -38);
    CHECK_EQ(HC4(update_va_mapping, 0x100000, 0, 0, 0), -38);
    CHECK_EQ(HC4(mmuext_op, NULL, 0, NULL, DOMID_SELF), -38);
    CHECK_EQ(HC2(set_gdt, NULL, 0), -38);
}

TEST(hvm_may_not_control)
{
    static char op[512];
    long r = HC1(domctl, op);

    CHECK(r == -1 || r == -38);
    r = HC1(sysctl, op);
    CHECK(r == -1 || r == -38);
    r = HC1(platform_op, op);
    CHECK(r == -1 || r == -38);
}

TEST(hvm_version_strings)
{
    static char text[XEN_CAPABILITIES_INFO_LEN];
    struct xen_platform_parameters p = {.virt_start = 1};
    xen_domain_handle_t h;

    CHECK_EQ(HC2(xen_version, XENVER_capabilities, text), 0);
    CHECK(strstr(text, "hvm-3.0-x86_64") != NULL);
    CHECK_EQ(HC2(xen_version, XENVER_platform_parameters, &p), 0);
    CHECK_EQ(p.virt_start, 0);
    CHECK_EQ(HC2(xen_version, XENVER_guest_handle, h), 0);
}
