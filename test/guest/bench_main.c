/*
 * Instructions per operation, by the method of docs/testing.md: under -icount shift=0 one TSC tick is one instruction.
 * Prints "bench NAME TICKS" lines. The same binary runs under Debian's Xen.
 */
#include "bench.h"

static void hook_skip2(struct trap_frame *f)
{
    f->rip += 2;
}
static void hook_pf(struct trap_frame *f)
{
    f->rip = trap_resume;
}

static unsigned hook_port;

static void clear_hook_port(void)
{
    port_clear(hook_port);
}

/* Not masked: rung, delivered, handled, back. */
static void bench_send_self(void)
{
    struct evtchn_bind_ipi b = {.vcpu = 0};
    struct evtchn_send s;
    unsigned seen;

    HC2(event_channel_op, EVTCHNOP_bind_ipi, &b);
    s.port = hook_port = b.port;
    port_unmask(b.port);
    event_hook = clear_hook_port;
    events_on();
    seen = events_seen;
    MEASURE("evtchn_send_self", 1000, HC2(event_channel_op, EVTCHNOP_send, &s));
    events_off();
    event_hook = NULL;
    port_mask(b.port);
    print("bench-status evtchn_send_self: %u of 1016 handled\n", events_seen - seen);
}

static void bench_multicall(void)
{
    static multicall_entry_t list[8];

    for (unsigned i = 0; i < 8; i++)
        list[i] = (multicall_entry_t){.op = __HYPERVISOR_xen_version, .args = {XENVER_version, 0}};
    MEASURE("multicall_8", 1000, HC2(multicall, list, 8));
}

static void bench_events(void)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF};
    struct evtchn_send s;

    HC2(event_channel_op, EVTCHNOP_alloc_unbound, &a);
    b.remote_port = a.port;
    HC2(event_channel_op, EVTCHNOP_bind_interdomain, &b);
    s.port = b.local_port;
    port_mask(a.port);
    HC2(event_channel_op, EVTCHNOP_send, &s);
    MEASURE("evtchn_send_pending", 1000, HC2(event_channel_op, EVTCHNOP_send, &s));
    MEASURE("evtchn_alloc_close", 1000, {
        struct evtchn_close c;

        HC2(event_channel_op, EVTCHNOP_alloc_unbound, &a);
        c.port = a.port;
        HC2(event_channel_op, EVTCHNOP_close, &c);
    });
}

/* Sets n empty entries in one call; the clearing in between is not counted. */
static void mmu_update_set(const char *name, struct mmu_update *u, unsigned n, uint64_t pte)
{
    uint64_t ticks = 0;

    for (unsigned round = 0; round < 100; round++) {
        uint64_t start;

        for (unsigned i = 0; i < n; i++)
            u[i].val = pte;
        start = rdtsc();
        HC4(mmu_update, u, n, NULL, DOMID_SELF);
        ticks += rdtsc() - start;
        for (unsigned i = 0; i < n; i++)
            u[i].val = 0;
        HC4(mmu_update, u, n, NULL, DOMID_SELF);
    }
    bench_result(name, ticks, 100);
}

static void bench_mmu(void)
{
    char *page = page_alloc(), *table = page_alloc();
    uint64_t pte = va_mfn(page) * PAGE | PTE_KERNEL, table_mfn = va_mfn(table);
    struct mmuext_op pin[2] = {{.cmd = MMUEXT_PIN_L1_TABLE, .arg1.mfn = table_mfn},
                               {.cmd = MMUEXT_UNPIN_TABLE, .arg1.mfn = table_mfn}};
    struct mmuext_op root = {.cmd = MMUEXT_NEW_BASEPTR, .arg1.mfn = va_mfn((void *)start_info->pt_base)};
    struct mmuext_op inv = {.cmd = MMUEXT_INVLPG_LOCAL, .arg1.linear_addr = (unsigned long)page};
    static struct mmu_update u[64];

    MEASURE("update_va_mapping_same", 1000, HC4(update_va_mapping, page, pte, UVMF_INVLPG, 0));
    MEASURE("update_va_mapping_clear_set", 1000, {
        HC4(update_va_mapping, page, 0, UVMF_INVLPG, 0);
        HC4(update_va_mapping, page, pte, UVMF_INVLPG, 0);
    });
    u[0].ptr = pte_machine(page);
    u[0].val = pte;
    MEASURE("mmu_update_1", 1000, HC4(mmu_update, u, 1, NULL, DOMID_SELF));
    scratch_va(0);
    for (unsigned i = 0; i < 64; i++)
        u[i].ptr = pte_machine(scratch_va(i)), u[i].val = pte;
    mmu_update_set("mmu_update_32_set", u, 32, pte);
    mmu_update_set("mmu_update_64_set", u, 64, pte);
    MEASURE("new_baseptr_same", 1000, HC4(mmuext_op, &root, 1, NULL, DOMID_SELF));
    MEASURE("invlpg_local", 1000, HC4(mmuext_op, &inv, 1, NULL, DOMID_SELF));
    pte_set(table, table_mfn * PAGE | PTE_KERNEL_RO);
    MEASURE("pin_unpin_l1", 100, {
        HC4(mmuext_op, &pin[0], 1, NULL, DOMID_SELF);
        HC4(mmuext_op, &pin[1], 1, NULL, DOMID_SELF);
    });
}

static void bench_traps(void)
{
    struct physdev_set_iopl iopl = {.iopl = 1};
    uint32_t a;

    trap_hook = hook_skip2;
    MEASURE("ud_bounce_iret", 1000, __asm__ volatile("ud2" ::: "memory"));
    trap_hook = hook_pf;
    MEASURE("pf_bounce_iret", 1000,
            __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, trap_resume(%%rip); movq $0, 8; 1:" ::
                                 : "rax", "memory"));
    trap_hook = NULL;
    trap_resume = 0;
    MEASURE("cpuid_emulated", 1000, {
        a = 0;
        __asm__ volatile("ud2a; .ascii \"xen\"; cpuid" : "+a"(a)::"rbx", "rcx", "rdx");
    });
    MEASURE("rdmsr_efer", 1000, __asm__ volatile("rdmsr" ::"c"(0xc0000080) : "rax", "rdx"));
    HC2(physdev_op, PHYSDEVOP_set_iopl, &iopl);
    MEASURE("in_port_80", 1000, __asm__ volatile("inb $0x80, %%al" ::: "rax"));
}

static void bench_grants(void)
{
    struct gnttab_setup_table setup = {.dom = DOMID_SELF, .nr_frames = 1};
    static xen_pfn_t frames[1];
    static struct gnttab_copy copy[32];
    grant_entry_v1_t *table = (grant_entry_v1_t *)scratch_va(100);
    char *page = page_alloc(), *dest = page_alloc();
    struct gnttab_map_grant_ref map = {
        .flags = GNTMAP_host_map, .ref = 8, .dom = 0, .host_addr = (uint64_t)scratch_va(101)};
    struct gnttab_unmap_grant_ref unmap = {.host_addr = map.host_addr};

    set_xen_guest_handle(setup.frame_list, frames);
    HC3(grant_table_op, GNTTABOP_setup_table, &setup, 1);
    pte_set(table, frames[0] * PAGE | PTE_KERNEL);
    table[8] = (grant_entry_v1_t){.flags = GTF_permit_access, .domid = 0, .frame = (uint32_t)va_pfn(page)};
    table[8].frame = (uint32_t)va_mfn(page);
    MEASURE("grant_map_unmap", 1000, {
        HC3(grant_table_op, GNTTABOP_map_grant_ref, &map, 1);
        unmap.handle = map.handle;
        HC3(grant_table_op, GNTTABOP_unmap_grant_ref, &unmap, 1);
    });
    print("bench-status grant_map %d unmap %d\n", map.status, unmap.status);
    copy[0] = (struct gnttab_copy){
        .source.domid = DOMID_SELF, .dest.domid = DOMID_SELF, .len = PAGE, .flags = GNTCOPY_source_gref};
    copy[0].source.u.ref = 8;
    copy[0].dest.u.gmfn = va_mfn(dest);
    MEASURE("grant_copy_4096", 1000, HC3(grant_table_op, GNTTABOP_copy, copy, 1));
    for (unsigned i = 0; i < 32; i++) {
        copy[i] = (struct gnttab_copy){
            .source.domid = DOMID_SELF, .dest.domid = DOMID_SELF, .len = 1500, .flags = GNTCOPY_source_gref};
        copy[i].source.u.ref = 8;
        copy[i].dest.u.gmfn = va_mfn(dest);
    }
    MEASURE("grant_copy_1", 1000, HC3(grant_table_op, GNTTABOP_copy, copy, 1));
    MEASURE("grant_copy_32", 100, HC3(grant_table_op, GNTTABOP_copy, copy, 32));
    print("bench-status grant_copy %d\n", copy[31].status);
}

void guest_program(void)
{
    bench_begin();
    MEASURE("null_hypercall", 1000, HC2(xen_version, XENVER_version, 0));
    MEASURE("sched_yield", 1000, HC2(sched_op, SCHEDOP_yield, NULL));
    MEASURE("set_segment_base", 1000, HC2(set_segment_base, SEGBASE_FS, 0x1000));
    HC2(set_segment_base, SEGBASE_FS, 0);
    bench_multicall();
    bench_traps();
    bench_user();
    bench_events();
    bench_send_self();
    bench_timer();
    bench_mmu();
    bench_tree();
    bench_grants();
    bench_vcpus();
    print("bench-done\n");
}
