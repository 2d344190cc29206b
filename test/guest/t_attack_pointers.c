/*
 * Attacks by arguments: pointers of every bad kind, numbers at the edges of 32 and 64 bits, memory that changes while it is
 * read. Invariants: what a guest names by address is reached only through the copies that check it (include/core/guest.h); a
 * list is read once.
 */
#include "toolstack.h"

/* Pages for pointers: one writable and one read-only, each before a page that is not mapped. */
static char *rw_edge, *ro_edge;

static bool make_edges(void)
{
    rw_edge = scratch_va(20);
    ro_edge = scratch_va(22);
    return !pte_set(rw_edge, pte_of(page_alloc(), PTE_KERNEL)) &&
           !pte_set(ro_edge, pte_of(page_alloc(), PTE_KERNEL_RO)) && !pte_set(rw_edge + PAGE, 0) &&
           !pte_set(ro_edge + PAGE, 0);
}

static unsigned bad_pointers(uint64_t *out)
{
    unsigned n = 0;

    out[n++] = HV_ADDRESS;
    out[n++] = 0xffff800000000000ull - 4; /* straddles into the hypervisor's part */
    out[n++] = 0xffff87ffffffffffull - 3; /* and out of it */
    out[n++] = 0x00007ffffffffffcull;     /* into what is not canonical */
    out[n++] = 0x0000800000000000ull;
    out[n++] = 0xfffffffffffffffcull; /* wraps */
    out[n++] = 0x10;
    out[n++] = (uint64_t)rw_edge + PAGE - 4;
    out[n++] = (uint64_t)rw_edge + PAGE;
    out[n++] = (uint64_t)ro_edge;
    out[n++] = (uint64_t)ro_edge + PAGE - 4;
    out[n++] = start_info->pt_base;   /* a page table: readable */
    out[n++] = 0xffff800000000000ull; /* the M2P: readable */
    out[n++] = (uint64_t)shared;
    return n;
}

/* Hypercalls whose success would end or maim the caller by right. */
static bool left_out(unsigned nr, unsigned op)
{
    switch (nr) {
    case __HYPERVISOR_iret:
    case __HYPERVISOR_set_trap_table:
    case __HYPERVISOR_set_callbacks:
    case __HYPERVISOR_callback_op:
    case __HYPERVISOR_sched_op_compat:
    case __HYPERVISOR_stack_switch:
    case __HYPERVISOR_set_segment_base:
    case __HYPERVISOR_nmi_op:
        return true;
    case __HYPERVISOR_sched_op:
        return op == SCHEDOP_shutdown || op == SCHEDOP_block || op == SCHEDOP_poll || op == SCHEDOP_watchdog;
    case __HYPERVISOR_vcpu_op:
        return op == VCPUOP_down || op == VCPUOP_send_nmi || op == VCPUOP_register_vcpu_info;
    default:
        return false;
    }
}

/* Some of it succeeds, a multicall of zeros clears the trap table: so it may be the end of the domain. */
EITHER(hostile_pointers_everywhere, 1)
{
    uint64_t bad[16];
    unsigned n;

    CHECK(make_edges());
    n = bad_pointers(bad);
    for (unsigned nr = 0; nr < 50; nr++)
        for (unsigned op = 0; op < 33; op++)
            for (unsigned i = 0; i < n && !left_out(nr, op); i++) {
                hypercall(nr, op, bad[i], bad[i], bad[i], bad[i]);
                hypercall(nr, bad[i], op, bad[i], bad[i], bad[i]);
                hypercall(nr, op, bad[i], 1, bad[i], bad[i]);
                hypercall(nr, bad[i], 1, 0, DOMID_SELF, 0);
            }
    HC1(fpu_taskswitch, 0);
    HC2(set_debugreg, 7, 0);
    CHECK_EQ(HC2(xen_version, XENVER_version, 0), (4 << 16) | 17);
}

/* What the hypervisor gives out does not go through read-only entries, least of all into tables. */
ATTACK(results_into_read_only_memory)
{
    static uint64_t before[512];
    uint64_t *l4 = (uint64_t *)start_info->pt_base;
    struct vcpu_runstate_info *area = (void *)l4;
    struct vcpu_register_runstate_memory_area reg = {.addr.v = area};
    struct gnttab_query_size *q = (void *)l4;
    struct vcpu_register_time_memory_area time = {.addr.v = (void *)l4};

    memcpy(before, l4, PAGE);
    CHECK_EQ(HC2(xen_version, XENVER_extraversion, l4), -14);
    CHECK_EQ(HC2(xen_version, XENVER_capabilities, l4), -14);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, area), -14);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &reg), -14);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_vcpu_time_memory_area, 0, &time), -14);
    CHECK(HC3(grant_table_op, GNTTABOP_query_size, q, 1) < 0);
    CHECK(HC2(event_channel_op, EVTCHNOP_alloc_unbound, l4) < 0);
    CHECK(HC2(memory_op, XENMEM_machphys_mapping, l4) < 0);
    CHECK(HC2(multicall, l4, 1) < 0);
    for (unsigned i = 0; i < 512; i++)
        CHECK_EQ(l4[i] & ~0x60ull, before[i] & ~0x60ull);
}

/* Counts at the edges: the list is one entry long, behind it nothing is mapped. */
ATTACK(counts_at_the_edges)
{
    static const uint64_t count[] = {0x7fffffff,  0x80000000, 0xffffffff, 0x100000000,
                                     0x100000001, 1ull << 63, ~0ull};
    char *list;
    unsigned done;

    CHECK(make_edges());
    for (unsigned i = 0; i < ARRAY_SIZE(count); i++) {
        list = rw_edge + PAGE - sizeof(struct multicall_entry);
        memset(rw_edge, 0, PAGE);
        ((struct multicall_entry *)list)->op = __HYPERVISOR_xen_version;
        hypercall(__HYPERVISOR_multicall, (uint64_t)list, count[i], 0, 0, 0);
        list = rw_edge + PAGE - 16;
        memset(rw_edge, 0, PAGE);
        hypercall(__HYPERVISOR_mmu_update, (uint64_t)list, count[i], (uint64_t)&done, DOMID_SELF, 0);
        list = rw_edge + PAGE - sizeof(struct mmuext_op);
        hypercall(__HYPERVISOR_mmuext_op, (uint64_t)list, count[i], (uint64_t)&done, DOMID_SELF, 0);
        for (unsigned op = 0; op < 13; op++)
            if (op != GNTTABOP_set_version)
                hypercall(__HYPERVISOR_grant_table_op, op, (uint64_t)rw_edge + PAGE - 64, count[i], 0, 0);
        hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, count[i] | 1, (uint64_t)rw_edge + PAGE - 1, 0, 0);
        hypercall(__HYPERVISOR_set_gdt, (uint64_t)rw_edge, count[i], 0, 0, 0);
        hypercall(__HYPERVISOR_vm_assist, count[i], count[i], 0, 0, 0);
        hypercall(__HYPERVISOR_update_descriptor, count[i] & ~7ull, 0, 0, 0, 0);
        hypercall(__HYPERVISOR_vcpu_op, VCPUOP_is_up, count[i], 0, 0, 0);
        CHECK(hypercall(__HYPERVISOR_get_debugreg, count[i], 0, 0, 0, 0) < 0 || (uint32_t)count[i] < 8);
        CHECK(mmu_ext(MMUEXT_SET_LDT, 0x1000, count[i]) < 0 || (uint32_t)count[i] <= 8192);
    }
    mmu_ext(MMUEXT_SET_LDT, 0, 0);
    CHECK_EQ(HC2(set_gdt, NULL, 0), 0);
}

/* --- what changes while it is read --- */

static struct {
    volatile bool stop;
    volatile uint64_t *word;
    uint64_t one, two;
} flip;

static void flip_on(void *unused)
{
    while (!flip.stop) {
        *flip.word = flip.one;
        *flip.word = flip.two;
    }
}

static bool flip_start(volatile void *word, uint64_t one, uint64_t two)
{
    flip.word = word;
    flip.one = one;
    flip.two = two;
    flip.stop = false;
    return !vcpu_run(1, flip_on, NULL);
}
static bool flip_end(void)
{
    flip.stop = true;
    return vcpu_wait(1);
}

/* An entry that is good when it is looked at and bad when it is used would give a writable page table. */
ATTACK(request_changes_under_the_copy)
{
    static struct mmu_update u;
    uint64_t *t = page_alloc(), good = pte_of(page_alloc(), PTE_KERNEL), bad, end;

    CHECK_EQ(page_protect(t), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(t), 0), 0);
    bad = pte_of(t, PTE_KERNEL);
    u.ptr = va_mfn(t) * PAGE + 8;
    CHECK(flip_start(&u.val, good, bad));
    end = time_ns() + 60000000;
    while (time_ns() < end) {
        HC4(mmu_update, &u, 1, NULL, DOMID_SELF);
        if ((t[1] >> 12 & 0xffffffffff) == va_mfn(t)) {
            test_fail("a table maps itself writable");
            break;
        }
    }
    CHECK(flip_end());
    CHECK(flip_start(&u.ptr, va_mfn(t) * PAGE + 8, (va_mfn(t) + (1ull << 38)) * PAGE + 8));
    u.val = good;
    end = time_ns() + 30000000;
    while (time_ns() < end)
        HC4(mmu_update, &u, 1, NULL, DOMID_SELF);
    CHECK(flip_end());
}

ATTACK(multicall_changes_under_the_copy)
{
    static struct multicall_entry m[4];
    uint64_t end;

    for (unsigned i = 0; i < 4; i++)
        m[i] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_version}};
    CHECK(flip_start(&m[2].op, __HYPERVISOR_multicall, __HYPERVISOR_xen_version));
    end = time_ns() + 60000000;
    while (time_ns() < end) {
        m[2].args[0] = 0;
        CHECK_EQ(HC2(multicall, m, 4), 0);
        CHECK(m[2].result == (4 << 16 | 17) || m[2].result == (xen_ulong_t)-22);
        CHECK_EQ(m[3].result, (4 << 16) | 17);
    }
    CHECK(flip_end());
}

static void entry_on(void *good)
{
    while (!flip.stop) {
        mmu_one(flip.one, 0);
        mmu_one(flip.one, (uint64_t)good);
    }
}

/* The list unmapped by the other vCPU while it is walked. */
ATTACK(list_goes_away_under_the_walk)
{
    struct mmu_update *list = scratch_va(24);
    uint64_t entry = pte_machine(list), good = pte_of(page_alloc(), PTE_KERNEL), end;
    unsigned ok = 0, fault = 0;

    CHECK_EQ(pte_set(list, good), 0);
    for (unsigned i = 0; i < 256; i++)
        list[i] = (struct mmu_update){.ptr = pte_machine(scratch_va(25)), .val = 0};
    /* The other vCPU writes the same entry over and over through the hypervisor. */
    flip.one = entry;
    flip.stop = false;
    CHECK_EQ(vcpu_run(1, entry_on, (void *)good), 0);
    end = time_ns() + 80000000;
    while (time_ns() < end) {
        long r = HC4(mmu_update, list, 256, NULL, DOMID_SELF);

        ok += r == 0;
        fault += r == -14;
        CHECK(r == 0 || r == -14);
    }
    CHECK(flip_end());
    CHECK(ok + fault > 0);
}

/* --- padding --- */

/* Every byte of a returned structure is the guest's own or meant for it. Two calls differ in nothing but time. */
ATTACK(padding_of_results)
{
    static union {
        uint8_t b[256];
        struct vcpu_runstate_info rs;
        struct evtchn_status st;
        struct xen_machphys_mapping mm;
        struct xen_platform_parameters pp;
        struct physdev_irq_status_query irq;
    } u;
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};

    memset(&u, 0xa5, sizeof(u));
    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &u.rs), 0);
    for (unsigned i = 4; i < 8; i++)
        CHECK(u.b[i] == 0 || u.b[i] == 0xa5);
    for (unsigned i = sizeof(u.rs); i < sizeof(u); i++)
        CHECK_EQ(u.b[i], 0xa5);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_alloc_unbound, &a), 0);
    memset(&u, 0xa5, sizeof(u));
    u.st.dom = DOMID_SELF;
    u.st.port = a.port;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_status, &u.st), 0);
    CHECK(u.b[2] == 0xa5 && u.b[3] == 0xa5); /* hole behind dom */
    for (unsigned i = 18; i < 24; i++)       /* the rest of the union: as it was, or nothing */
        CHECK(u.b[i] == 0xa5 || u.b[i] == 0);
    for (unsigned op = XENVER_extraversion; op <= XENVER_commandline; op++) {
        static char text[2][2048];

        if (op == XENVER_pagesize || op == XENVER_get_features)
            continue;
        for (unsigned k = 0; k < 2; k++) {
            memset(text[k], 0x5a, sizeof(text[k]));
            CHECK_EQ(HC2(xen_version, op, text[k]), 0);
        }
        CHECK(!memcmp(text[0], text[1], sizeof(text[0]))); /* nothing of a stack, which differs */
    }
}
