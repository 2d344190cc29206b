/*
 * attack=bench: instructions per exit of a PVH guest, by the method of docs/testing.md (one TSC tick is one instruction). Prints
 * "bench NAME TICKS" lines; the same binary runs under Debian's Xen.
 */
#include "bench.h"
#include "hvm.h"

static void bench_exits(void)
{
    uint32_t a, c[4];
    uint64_t v;

    MEASURE_SHARED("pvh_cpuid", 100, cpuid(1, 0, c));
    MEASURE_SHARED("pvh_null_hypercall", 100, HC2(xen_version, XENVER_version, 0));
    MEASURE_SHARED("pvh_port_in_80", 100, __asm__ volatile("inb $0x80, %%al" : "=a"(a)));
    MEASURE_SHARED("pvh_port_out_80", 100, __asm__ volatile("outb %%al, $0x80" ::"a"(0)));
    MEASURE_SHARED("pvh_rdmsr_tsc", 100, __asm__ volatile("rdmsr" : "=a"(a) : "c"(0x10) : "edx"));
    MEASURE_SHARED("pvh_rdmsr_pat", 100, __asm__ volatile("rdmsr" : "=a"(a) : "c"(0x277) : "edx"));
    (void)rdmsr_ok(0x277, &v);
    MEASURE_SHARED("pvh_wrmsr_pat", 100,
                   __asm__ volatile("wrmsr" ::"a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(0x277)));
    MEASURE_SHARED("pvh_apic_read", 100, (void)*(volatile uint32_t *)0xfee00030);
    MEASURE_SHARED("pvh_apic_write", 100, *(volatile uint32_t *)0xfee00080 = 0);
}

/* Calls whose arguments lie in memory. */
static void bench_copies(void)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF};
    static struct multicall_entry m[8];
    static struct gnttab_copy copy[32];
    grant_entry_v1_t *table = scratch_va(230);
    struct evtchn_send s;
    struct vcpu_runstate_info rs;
    struct xen_feature_info f = {0};
    char *from = page_alloc(), *to = page_alloc();

    events_off();
    HC2(event_channel_op, EVTCHNOP_alloc_unbound, &a);
    b.remote_port = a.port;
    HC2(event_channel_op, EVTCHNOP_bind_interdomain, &b);
    s.port = b.local_port;
    port_mask(a.port);
    HC2(event_channel_op, EVTCHNOP_send, &s);
    MEASURE_SHARED("pvh_evtchn_send_pending", 100, HC2(event_channel_op, EVTCHNOP_send, &s));
    MEASURE_SHARED("pvh_get_features", 100, HC2(xen_version, XENVER_get_features, &f));
    MEASURE_SHARED("pvh_runstate", 100, HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &rs));
    for (unsigned i = 0; i < 8; i++)
        m[i] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_version, 0}};
    MEASURE_SHARED("pvh_multicall_8", 100, HC2(multicall, m, 8));
    if (!grant_table_at(table, false))
        return;
    table[50].frame = (uint32_t)va_pfn(from);
    table[50].domid = own_id;
    table[50].flags = GTF_permit_access;
    for (unsigned i = 0; i < 32; i++) {
        copy[i] = (struct gnttab_copy){
            .source.domid = own_id, .dest.domid = DOMID_SELF, .len = 1500, .flags = GNTCOPY_source_gref};
        copy[i].source.u.ref = 50;
        copy[i].dest.u.gmfn = va_pfn(to);
    }
    MEASURE_SHARED("pvh_grant_copy_1", 100, HC3(grant_table_op, GNTTABOP_copy, copy, 1));
    MEASURE_SHARED("pvh_grant_copy_32", 20, HC3(grant_table_op, GNTTABOP_copy, copy, 32));
    print("bench-status grant_copy %d\n", copy[31].status);
}

/* Give a page back and take one again: the list of one number, and the first touch behind it. */
static void bench_memory(void)
{
    char *page = page_alloc();
    xen_pfn_t pfn = va_pfn(page);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    set_xen_guest_handle(r.extent_start, &pfn);
    MEASURE_SHARED("pvh_decrease_populate", 50, {
        HC2(memory_op, XENMEM_decrease_reservation, &r);
        HC2(memory_op, XENMEM_populate_physmap, &r);
    });
    MEASURE_SHARED("pvh_hole_read", 100, (void)*(volatile uint32_t *)scratch_va(9));
}

static volatile unsigned ipis;
static void ipi_seen(struct trap_frame *f)
{
    *(volatile uint32_t *)0xfee000b0 = 0;
    ipis++;
}

static void send_to_self(void)
{
    *(volatile uint32_t *)0xfee00300 = 0x40000 | 0xe1;
}

/* An interrupt by the local APIC to itself: sent, delivered, ended. */
static void bench_ipi(void)
{
    trap_hook = ipi_seen;
    *(volatile uint32_t *)0xfee000f0 = 0x1ff;
    __asm__ volatile("sti");
    MEASURE_SHARED("pvh_ipi_self", 100, send_to_self());
    __asm__ volatile("cli");
    trap_hook = NULL;
    print("bench-status ipi_self: %u of 900 handled\n", ipis);
}

static volatile bool answered, over;
static void answer(void *arg)
{
    while (!over) {
        while (!answered && !over)
            HC2(sched_op, SCHEDOP_yield, NULL);
        answered = false;
    }
}

/* Two vCPUs on one CPU: a switch away and back. */
static void bench_switch(void)
{
    if (vcpu_run(1, answer, NULL))
        return;
    MEASURE_SHARED("pvh_vcpu_switch_and_back", 50, {
        answered = true;
        while (answered)
            HC2(sched_op, SCHEDOP_yield, NULL);
    });
    over = true;
    (void)vcpu_wait(1);
}

HOSTILE(bench)
{
    bench_begin();
    bench_exits();
    bench_copies();
    bench_memory();
    bench_ipi();
    bench_switch();
    print("bench-done\n");
}
