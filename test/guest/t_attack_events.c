/*
 * Attacks with event channels, grants and vCPUs: numbers of others, limits, hostile contexts. Invariants: docs/security.md 3
 * (only who was named gets through), 6 (limits).
 */
#include "toolstack.h"

#define EVTCHN(op, p) HC2(event_channel_op, EVTCHNOP_##op, p)
#define GNT(op, p)    HC3(grant_table_op, GNTTABOP_##op, p, 1)

/* --- event channels --- */

/* The healthy domain (or any other) and dom0 have ports: none of them was opened for us. */
ATTACK(ports_of_others)
{
    for (unsigned dom = 0; dom < 8; dom++)
        for (unsigned port = 0; port < 300 && dom != own_id; port++) {
            struct evtchn_bind_interdomain b = {.remote_dom = (domid_t)dom, .remote_port = port};

            CHECK(EVTCHN(bind_interdomain, &b) < 0);
        }
    for (unsigned port = 0; port < 5000; port++) {
        struct evtchn_send s = {.port = port};
        struct evtchn_bind_vcpu v = {.port = port, .vcpu = 1};
        struct evtchn_close c = {.port = port};

        /* What a toolstack opened for it is its own. */
        if (port && (port == start_info->store_evtchn || port == start_info->console.domU.evtchn))
            continue;
        CHECK(EVTCHN(send, &s) < 0);
        CHECK(EVTCHN(bind_vcpu, &v) < 0);
        CHECK(EVTCHN(close, &c) < 0);
    }
}

/* Opened for one domain, bound by another. */
ATTACK(port_for_somebody_else)
{
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = 1};
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF};

    CHECK_EQ(EVTCHN(alloc_unbound, &u), 0);
    b.remote_port = u.port;
    if (own_id != 1)
        CHECK(EVTCHN(bind_interdomain, &b) < 0);
}

/* 127 ports were given; PIRQs and VIRQs of the machine none. */
ATTACK(more_ports_than_given)
{
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    unsigned n = 0;
    long r;

    while (!(r = EVTCHN(alloc_unbound, &u)) && n < 1000) {
        CHECK(u.port <= 127);
        n++;
    }
    CHECK_EQ(r, -28);
    CHECK(n > 100 && n <= 127);
    for (unsigned pirq = 0; pirq < 300; pirq++) {
        struct evtchn_bind_pirq p = {.pirq = pirq};

        CHECK(EVTCHN(bind_pirq, &p) < 0);
    }
    for (unsigned virq = 0; virq < 40; virq++)
        for (unsigned vcpu = 0; vcpu < 3; vcpu++) {
            struct evtchn_bind_virq v = {.virq = virq, .vcpu = vcpu};

            CHECK(EVTCHN(bind_virq, &v) < 0); /* no port left in any case */
        }
}

static volatile bool storm_stop;
static void close_on(void *unused)
{
    for (unsigned i = 0; !storm_stop; i++) {
        struct evtchn_close c = {.port = 1 + i % 20};

        EVTCHN(close, &c);
    }
}

/* Opened, bound, sent and closed from two vCPUs at once. */
ATTACK(race_of_port_lives)
{
    CHECK_EQ(vcpu_run(1, close_on, NULL), 0);
    for (unsigned i = 0; i < 3000; i++) {
        struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
        struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF};
        struct evtchn_bind_vcpu v;
        struct evtchn_send s;

        EVTCHN(alloc_unbound, &u);
        b.remote_port = u.port;
        EVTCHN(bind_interdomain, &b);
        s.port = b.local_port;
        EVTCHN(send, &s);
        v = (struct evtchn_bind_vcpu){.port = u.port, .vcpu = i & 1};
        EVTCHN(bind_vcpu, &v);
        if (i % 512 == 0) {
            struct evtchn_reset r = {.dom = DOMID_SELF};

            EVTCHN(reset, &r);
        }
    }
    storm_stop = true;
    CHECK(vcpu_wait(1));
}

/* --- grants --- */

ATTACK(grants_of_others)
{
    uint64_t page = va_mfn(page_alloc());

    for (unsigned dom = 0; dom < 6; dom++)
        for (unsigned ref = 0; ref < 600 && dom != own_id; ref++) {
            struct gnttab_map_grant_ref m = {.host_addr = (uint64_t)scratch_va(30),
                                             .flags = GNTMAP_host_map | (ref & 1 ? GNTMAP_readonly : 0),
                                             .ref = ref,
                                             .dom = (domid_t)dom};
            struct gnttab_copy c = {.source.u.ref = ref,
                                    .source.domid = (domid_t)dom,
                                    .dest.u.gmfn = page,
                                    .dest.domid = DOMID_SELF,
                                    .len = 64,
                                    .flags = GNTCOPY_source_gref};

            CHECK_EQ(GNT(map_grant_ref, &m), 0);
            CHECK(m.status != GNTST_okay);
            CHECK_EQ(GNT(copy, &c), 0);
            CHECK(c.status != GNTST_okay);
        }
}

static bool own_frame(uint64_t mfn)
{
    const uint64_t *p2m = (const uint64_t *)start_info->mfn_list;

    for (unsigned pfn = 0; pfn < start_info->nr_pages; pfn++)
        if (p2m[pfn] == mfn)
            return true;
    return false;
}

/* By frame number instead of a reference: only one's own. */
ATTACK(copies_by_frame)
{
    uint64_t own = va_mfn(page_alloc()), max = (uint64_t)HC2(memory_op, XENMEM_maximum_ram_page, NULL);

    for (uint64_t f = 0; f < max; f += 997) {
        struct gnttab_copy c = {.source.u.gmfn = f,
                                .source.domid = DOMID_SELF,
                                .dest.u.gmfn = own,
                                .dest.domid = DOMID_SELF,
                                .len = 8};

        if (own_frame(f))
            continue;
        CHECK_EQ(GNT(copy, &c), 0);
        CHECK(c.status != GNTST_okay);
        c.source.u.gmfn = own;
        c.dest.u.gmfn = f;
        CHECK_EQ(GNT(copy, &c), 0);
        CHECK(c.status != GNTST_okay);
        c.source.domid = 0;
        c.source.u.gmfn = f;
        CHECK_EQ(GNT(copy, &c), 0);
        CHECK(c.status != GNTST_okay);
    }
}

/* Into tables, by every way of naming them. */
ATTACK(copies_into_tables)
{
    uint64_t *l4 = (uint64_t *)start_info->pt_base, before = l4[0];
    char *from = page_alloc();
    struct gnttab_copy c = {.source.u.gmfn = va_mfn(from),
                            .source.domid = DOMID_SELF,
                            .dest.u.gmfn = va_mfn(l4),
                            .dest.domid = DOMID_SELF,
                            .len = 8};

    memset(from, 0xff, PAGE);
    CHECK_EQ(GNT(copy, &c), 0);
    CHECK(c.status != GNTST_okay);
    CHECK_EQ(l4[0], before);
    c.dest.u.gmfn = pte_machine(start_info) / PAGE;
    CHECK_EQ(GNT(copy, &c), 0);
    CHECK(c.status != GNTST_okay);
}

static struct grant_entry_v1 *table(void)
{
    static xen_pfn_t frame;
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};

    set_xen_guest_handle(s.frame_list, &frame);
    if (GNT(setup_table, &s) || s.status || pte_set(scratch_va(31), frame * PAGE | PTE_KERNEL))
        return NULL;
    return scratch_va(31);
}

ATTACK(more_grant_frames_than_given)
{
    static xen_pfn_t list[2000];
    struct gnttab_setup_table s = {.dom = DOMID_SELF};

    set_xen_guest_handle(s.frame_list, list);
    for (unsigned n = 5; n < 2000; n = n * 3 + 1) {
        s.nr_frames = n;
        CHECK_EQ(GNT(setup_table, &s), 0);
        CHECK(s.status != GNTST_okay);
    }
    s.nr_frames = ~0u;
    CHECK(GNT(setup_table, &s) < 0 || s.status != GNTST_okay);
    s.nr_frames = 4;
    CHECK_EQ(GNT(setup_table, &s), 0);
    CHECK_EQ(s.status, GNTST_okay);
}

/* Four maptrack frames were given: mappings end there. Their entries are overwritten, the domain ends with all of them. */
ATTACK(more_mappings_than_given)
{
    struct grant_entry_v1 *t = table();
    unsigned n = 0;
    struct gnttab_map_grant_ref m = {.host_addr = (uint64_t)scratch_va(32),
                                     .flags = GNTMAP_host_map | GNTMAP_readonly,
                                     .ref = 40,
                                     .dom = own_id};

    CHECK(t);
    t[40] = (struct grant_entry_v1){.domid = own_id, .frame = (uint32_t)va_mfn(page_alloc())};
    t[40].flags = GTF_permit_access;
    for (; n < 10000; n++) {
        m.host_addr = (uint64_t)scratch_va(32 + n % 64);
        CHECK_EQ(GNT(map_grant_ref, &m), 0);
        if (m.status)
            break;
    }
    CHECK(n > 256 && n < 10000);
    CHECK_EQ(t[40].flags & GTF_reading, GTF_reading);
}

ATTACK(handles_at_random)
{
    struct grant_entry_v1 *t = table();

    CHECK(t);
    for (unsigned h = 0; h < 6000; h += 7) {
        struct gnttab_unmap_grant_ref u = {.host_addr = (uint64_t)scratch_va(33), .handle = h};
        struct gnttab_unmap_and_replace r = {
            .host_addr = (uint64_t)scratch_va(33), .new_addr = (uint64_t)scratch_va(34), .handle = h};

        CHECK_EQ(GNT(unmap_grant_ref, &u), 0);
        CHECK(u.status != GNTST_okay);
        CHECK_EQ(GNT(unmap_and_replace, &r), 0);
        CHECK(r.status != GNTST_okay);
    }
}

static void entry_changes(void *entry)
{
    volatile struct grant_entry_v1 *e = entry;
    uint64_t mine = e->frame;

    while (!storm_stop) {
        e->flags = GTF_permit_access;
        e->frame = (uint32_t)(mine + 1000000);
        e->domid = 0;
        e->flags = 0;
        e->domid = own_id;
        e->frame = (uint32_t)mine;
        e->flags = GTF_permit_access | GTF_readonly;
        e->flags = GTF_accept_transfer;
    }
}

/* The entry changes in all its fields while it is mapped and copied from. */
ATTACK(grant_entry_changes_under_the_mapping)
{
    struct grant_entry_v1 *t = table();
    uint64_t end;

    CHECK(t);
    t[50] = (struct grant_entry_v1){.domid = own_id, .frame = (uint32_t)va_mfn(page_alloc())};
    CHECK_EQ(vcpu_run(1, entry_changes, &t[50]), 0);
    end = time_ns() + 100000000;
    while (time_ns() < end) {
        struct gnttab_map_grant_ref m = {
            .host_addr = (uint64_t)scratch_va(35), .flags = GNTMAP_host_map, .ref = 50, .dom = own_id};

        CHECK_EQ(GNT(map_grant_ref, &m), 0);
        if (!m.status) {
            struct gnttab_unmap_grant_ref u = {.host_addr = m.host_addr, .handle = m.handle};
            uint64_t e = pte_read(scratch_va(35));

            CHECK_EQ((e >> 12) & 0xffffffffff,
                     va_mfn(pfn_va(va_pfn(mfn_va((e >> 12) & 0xffffffffff))))); /* a frame of ours */
            CHECK_EQ(GNT(unmap_grant_ref, &u), 0);
            CHECK_EQ(u.status, GNTST_okay);
        }
    }
    storm_stop = true;
    CHECK(vcpu_wait(1));
}

/* --- vCPUs --- */

ATTACK(more_vcpus_than_given)
{
    static struct vcpu_guest_context c;

    for (unsigned v = 2; v < 5000; v += v < 20 ? 1 : 501) {
        CHECK_EQ(HC3(vcpu_op, VCPUOP_initialise, v, &c), -2);
        CHECK_EQ(HC3(vcpu_op, VCPUOP_up, v, NULL), -2);
        CHECK_EQ(HC3(vcpu_op, VCPUOP_is_up, v, NULL), -2);
    }
}

/* A context of the caller's choice for its other vCPU: what is wrong in it is refused, and the vCPU stays down. */
ATTACK(hostile_contexts)
{
    static struct vcpu_guest_context good, c;
    uint64_t cr3 = xen_pfn_to_cr3(va_mfn((void *)start_info->pt_base));

    good.flags = VGCF_in_kernel;
    good.ctrlreg[3] = cr3;
    good.user_regs.cs = FLAT_KERNEL_CS;
    good.user_regs.ss = FLAT_KERNEL_SS;
#define BAD(change)                                                                                          \
    c = good;                                                                                                \
    change;                                                                                                  \
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 1, &c) < 0)
    BAD(c.ctrlreg[3] = 0);
    BAD(c.ctrlreg[3] = xen_pfn_to_cr3(0x200));
    BAD(c.ctrlreg[3] = xen_pfn_to_cr3(va_mfn(page_alloc())));
    BAD(c.ctrlreg[3] = ~0ull);
    BAD(c.ctrlreg[1] = xen_pfn_to_cr3(0x200));
    BAD(c.ctrlreg[1] = xen_pfn_to_cr3(va_mfn(start_info)));
    BAD(c.flags = 0); /* user mode without user tables */
    BAD(c.user_regs.rip = 0x800000000000ull);
    BAD(c.event_callback_eip = 0x800000000000ull);
    BAD(c.failsafe_callback_eip = 1ull << 63);
    BAD(c.syscall_callback_eip = 0xffff7fffffffffffull);
    BAD(c.trap_ctxt[77].address = 0x800000000000ull);
    BAD(c.fs_base = 0x800000000000ull);
    BAD(c.gs_base_kernel = 0x800000000000ull);
    BAD(c.gs_base_user = 0x800000000000ull);
    BAD((c.gdt_ents = 512, c.gdt_frames[0] = 0x200));
    BAD((c.gdt_ents = 512, c.gdt_frames[0] = va_mfn(start_info)));
    BAD((c.gdt_ents = 1024, c.gdt_frames[0] = c.gdt_frames[1] = 0x123));
    BAD(c.gdt_ents = 1ull << 40);
    BAD(c.gdt_ents = 512 * 14 + 1);
    BAD((c.ldt_ents = 8193, c.ldt_base = 0x1000));
    BAD((c.ldt_ents = 512, c.ldt_base = HV_ADDRESS));
    BAD((c.ldt_ents = 512, c.ldt_base = 0x1001));
    BAD(c.debugreg[0] = HV_ADDRESS);
    BAD(c.debugreg[7] = 0x2000);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_initialise, 1, HV_ADDRESS), -14);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_up, 1, NULL), -22);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_is_up, 1, NULL), 0);
    /* All selectors, flags and FPU words wild: it may run, in ring 3. */
    c = good;
    memset(&c.fpu_ctxt, 0xff, sizeof(c.fpu_ctxt));
    c.flags = VGCF_in_kernel | VGCF_i387_valid;
    c.user_regs.rip = (uint64_t)&attack_hostile_contexts;
    c.user_regs.rflags = ~0ull;
    c.user_regs.cs = 0xe008;
    c.user_regs.ss = c.user_regs.ds = c.user_regs.es = c.user_regs.fs = c.user_regs.gs = 0xe010;
    c.user_regs.rsp = HV_ADDRESS;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_initialise, 1, &c), 0);
}

/* The last of them goes down: that ends the domain, and in good order. */
ATTACK(last_vcpu_down)
{
    domu_report->done = 1;
    HC3(vcpu_op, VCPUOP_down, 0, NULL);
    domu_report->failed++;
}

/* --- events in the other form --- */

/* Links of the queues are the guest's to write: in circles, out of range, while events come from two vCPUs. */
static uint32_t *words;
static void scribble(void *control)
{
    struct evtchn_fifo_control_block *cb = control;

    for (unsigned i = 0; !storm_stop; i++) {
        words[i % 1024] = i * 2654435761u;
        cb->head[i % 16] = i * 40503u;
        cb->ready = i;
    }
}

ATTACK(fifo_queues_scribbled_over)
{
    struct evtchn_fifo_control_block *cb[2] = {page_alloc(), page_alloc()};
    struct evtchn_expand_array ex;
    uint64_t end;
    unsigned port[16], n = 0;

    words = page_alloc();
    for (unsigned v = 0; v < 2; v++) {
        struct evtchn_init_control init = {.control_gfn = va_mfn(cb[v]), .vcpu = v};

        CHECK_EQ(EVTCHN(init_control, &init), 0);
    }
    ex.array_gfn = va_mfn(words);
    CHECK_EQ(EVTCHN(expand_array, &ex), 0);
    for (unsigned i = 0; i < 8; i++) {
        struct evtchn_bind_ipi ipi = {.vcpu = i & 1};
        struct evtchn_set_priority p = {.priority = i};

        CHECK_EQ(EVTCHN(bind_ipi, &ipi), 0);
        port[n++] = p.port = ipi.port;
        CHECK_EQ(EVTCHN(set_priority, &p), 0);
    }
    CHECK_EQ(vcpu_run(1, scribble, cb[0]), 0);
    end = time_ns() + 100000000;
    for (unsigned i = 0; time_ns() < end; i++) {
        struct evtchn_send s = {.port = port[i % n]};
        struct evtchn_unmask u = {.port = port[i % n]};
        struct evtchn_set_priority p = {.port = port[i % n], .priority = i % 16};

        EVTCHN(send, &s);
        EVTCHN(unmask, &u);
        if (i % 16 == 0)
            EVTCHN(set_priority, &p);
    }
    storm_stop = true;
    CHECK(vcpu_wait(1));
    for (unsigned i = 0; i < 200; i++) /* the array has an end */
        if (EVTCHN(expand_array, &ex))
            return;
    test_fail("the event array grows without end");
}
