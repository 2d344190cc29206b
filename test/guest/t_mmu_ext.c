/* mmuext_op and large trees: pins at every level, flushes that another vCPU feels, the LDT, roots. */
#include "guest.h"

TEST(pin_every_level)
{
    uint64_t *t[5];

    for (unsigned l = 1; l <= 4; l++)
        t[l] = page_alloc();
    for (unsigned l = 2; l <= 4; l++)
        t[l][3] = pte_of(t[l - 1], PTE_KERNEL);
    t[1][3] = pte_of(page_alloc(), PTE_KERNEL);
    CHECK(mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(t[4]), 0) < 0); /* all still writable */
    for (unsigned l = 4; l >= 1; l--)
        CHECK_EQ(page_protect(t[l]), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(t[4]), 0), 0);
    for (unsigned l = 1; l <= 3; l++) {
        CHECK(page_unprotect(t[l]) < 0);
        for (unsigned as = 1; as <= 4; as++) {
            long r = mmu_ext(MMUEXT_PIN_L1_TABLE + as - 1, va_mfn(t[l]), 0);

            CHECK_EQ(r == 0, as == l);
        }
    }
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(t[4]), 0), 0);
    CHECK_EQ(page_unprotect(t[4]), 0);
    CHECK(page_unprotect(t[3]) < 0); /* pinned by itself */
    for (unsigned l = 3; l >= 1; l--)
        CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(t[l]), 0), 0);
    for (unsigned l = 3; l >= 1; l--)
        CHECK_EQ(page_unprotect(t[l]), 0);
}

TEST(pin_a_tree_with_one_bad_leaf)
{
    uint64_t *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc(), *data = page_alloc();

    l3[0] = pte_of(l2, PTE_KERNEL);
    l2[511] = pte_of(l1, PTE_KERNEL);
    l1[510] = pte_of(data, PTE_KERNEL);
    l1[511] = pte_of(l3, PTE_KERNEL); /* the root of the tree, writable */
    CHECK_EQ(page_protect(l1), 0);
    CHECK_EQ(page_protect(l2), 0);
    CHECK_EQ(page_protect(l3), 0);
    CHECK(mmu_ext(MMUEXT_PIN_L3_TABLE, va_mfn(l3), 0) < 0);
    /* All of it has been let go. */
    CHECK_EQ(page_unprotect(l1), 0);
    CHECK_EQ(page_unprotect(l2), 0);
    CHECK_EQ(page_unprotect(l3), 0);
}

TEST(linear_root)
{
    uint64_t *l4 = page_alloc(), *other = page_alloc();

    l4[5] = pte_of(l4, PTE_KERNEL_RO);
    CHECK_EQ(page_protect(l4), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L4_TABLE, va_mfn(l4), 0), 0);
    CHECK(mmu_one(va_mfn(l4) * PAGE + 6 * 8, pte_of(l4, PTE_KERNEL)) < 0); /* linear, but writable */
    CHECK_EQ(mmu_one(va_mfn(l4) * PAGE + 5 * 8, 0), 0);
    CHECK_EQ(mmu_one(va_mfn(l4) * PAGE + 6 * 8, pte_of(l4, PTE_KERNEL_RO)), 0);
    /* The current root read through itself. */
    uint64_t cur = va_mfn((void *)start_info->pt_base);
    CHECK_EQ(mmu_one(cur * PAGE + 8 * 8, cur * PAGE | PTE_KERNEL_RO), 0);
    uint64_t *self = (uint64_t *)(8ul << 39 | 8ul << 30 | 8ul << 21 | 8ul << 12), v;
    CHECK(!read_faults(&self[8], &v));
    CHECK_EQ(v >> 12 & 0xffffffffff, cur);
    CHECK(write_faults(&self[8], 0));
    CHECK_EQ(mmu_one(cur * PAGE + 8 * 8, 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l4), 0), 0);
    CHECK_EQ(page_unprotect(l4), 0); /* the reference to itself has not kept it */
    (void)other;
}

/* Hundreds of tables under one root: more than is validated in one go. Events come through in between. */
static unsigned ticks;
static void rearm(void)
{
    ticks++;
}

#define LEAVES 400
TEST(large_tree_is_preempted)
{
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};
    uint64_t *l3 = page_alloc(), *l2 = page_alloc(), *data = page_alloc(), *l1[2];
    struct evtchn_close close;

    for (unsigned i = 0; i < LEAVES; i++) {
        l1[0] = page_alloc();
        if (i == 0)
            l1[1] = l1[0];
        for (unsigned j = 0; j < 512; j++)
            l1[0][j] = pte_of(data, PTE_KERNEL);
        l2[i] = pte_of(l1[0], PTE_KERNEL);
        CHECK_EQ(page_protect(l1[0]), 0);
    }
    l3[0] = pte_of(l2, PTE_KERNEL);
    CHECK_EQ(page_protect(l2), 0);
    CHECK_EQ(page_protect(l3), 0);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_virq, &bind), 0);
    port_unmask(bind.port);
    event_hook = rearm;
    for (unsigned round = 0; round < 3; round++) {
        ticks = 0;
        events_on();
        CHECK_EQ(HC1(set_timer_op, time_ns() + 1000000), 0);
        uint64_t t0 = time_ns();
        CHECK_EQ(mmu_ext(MMUEXT_PIN_L3_TABLE, va_mfn(l3), 0), 0);
        uint64_t t1 = time_ns();
        unsigned seen = ticks;
        CHECK(page_unprotect(l1[1]) < 0);
        CHECK(page_unprotect(l1[0]) < 0);
        CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(l3), 0), 0);
        CHECK(seen || t1 - t0 < 1000000); /* a timer event during a longer hypercall is seen by its end */
        port_clear(bind.port);
        CHECK_EQ(page_unprotect(l3), 0);
        CHECK_EQ(page_protect(l3), 0);
    }
    events_off();
    CHECK_EQ(page_unprotect(l3), 0);
    CHECK_EQ(page_unprotect(l2), 0);
    CHECK_EQ(page_unprotect(l1[0]), 0);
    CHECK_EQ(page_unprotect(l1[1]), 0);
    close.port = bind.port;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_close, &close), 0);
}

/* Between two calls of a preempted hypercall a guest may change its registers: the cursor is hostile input. */
TEST(continuation_cursors_are_hostile)
{
    char *list = scratch_va(414), *page = page_alloc(); /* one entry, behind which nothing is mapped */
    struct multicall_entry *call;
    unsigned done = 0;
    uint64_t at;

    CHECK_EQ(pte_set(list, pte_of(page, PTE_KERNEL)), 0);
    at = (uint64_t)list + PAGE - sizeof(struct multicall_entry);
    call = (void *)at;
    for (unsigned s = 31; s < 64; s++) {
        uint64_t n = 1ull << s | 1;

        call->op = __HYPERVISOR_xen_version;
        call->args[0] = XENVER_version;
        hypercall(__HYPERVISOR_multicall, at, n, 0, 0, 0);
        memset(page, 0, PAGE); /* updates of machine address 0, TLB operation 0, maps of nothing */
        hypercall(__HYPERVISOR_mmu_update, at, n, (uint64_t)&done, DOMID_SELF, 0);
        hypercall(__HYPERVISOR_mmuext_op, at, n, (uint64_t)&done, DOMID_SELF, 0);
        hypercall(__HYPERVISOR_memory_op, 1ull << s | XENMEM_machphys_mfn_list, at, 0, 0, 0);
        hypercall(__HYPERVISOR_memory_op, 1ull << s | XENMEM_decrease_reservation, at, 0, 0, 0);
        hypercall(__HYPERVISOR_memory_op, 1ull << s | XENMEM_populate_physmap, at, 0, 0, 0);
        hypercall(__HYPERVISOR_memory_op, 1ull << s | XENMEM_exchange, at, 0, 0, 0);
        hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, 0, 1ull << s, 0, 0);
        for (unsigned op = GNTTABOP_map_grant_ref; op <= GNTTABOP_cache_flush; op++)
            if (op != GNTTABOP_set_version)
                hypercall(__HYPERVISOR_grant_table_op, op, at, n, 0, 0);
    }
    CHECK_EQ(HC4(mmu_update, NULL, 0, &done, DOMID_SELF), 0);
    CHECK_EQ(done, 0);
    CHECK_EQ(pte_set(list, 0), 0);
}

TEST(ext_refusals)
{
    CHECK(mmu_ext(MMUEXT_MARK_SUPER, va_mfn(start_info), 0) < 0);
    CHECK(mmu_ext(MMUEXT_UNMARK_SUPER, va_mfn(start_info), 0) < 0);
    CHECK(mmu_ext(MMUEXT_PIN_L1_TABLE, 0xffffffffffffull, 0) < 0);
    CHECK(mmu_ext(MMUEXT_PIN_L4_TABLE, 0x200, 0) < 0); /* the hypervisor's */
    CHECK(mmu_ext(MMUEXT_NEW_BASEPTR, 0x200, 0) < 0);
    CHECK(mmu_ext(MMUEXT_NEW_BASEPTR, ~0ull, 0) < 0);
    CHECK(mmu_ext(MMUEXT_UNPIN_TABLE, 0x200, 0) < 0);
    CHECK(mmu_ext(MMUEXT_COPY_PAGE, va_mfn(page_alloc()), 0x200) < 0);
    CHECK_EQ(mmu_ext(MMUEXT_FLUSH_CACHE, 0, 0), hardware_domain ? 0 : -13);
    CHECK_EQ(mmu_ext(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0), hardware_domain ? 0 : -13);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, HV_ADDRESS, 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_ALL, 0x800000000000ul, 0), 0);
    struct mmuext_op op = {.cmd = MMUEXT_TLB_FLUSH_MULTI};
    set_xen_guest_handle(op.arg2.vcpumask, (void *)HV_ADDRESS);
    CHECK(HC4(mmuext_op, &op, 1, NULL, DOMID_SELF) < 0);
}

TEST(user_root_may_be_none)
{
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
    CHECK_EQ(mmu_ext(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);                         /* sets it again */
    CHECK(mmu_ext(MMUEXT_NEW_USER_BASEPTR, va_mfn(page_alloc()), 0) < 0); /* writable */
    CHECK_EQ(user_run("\x0f\x0b", 2, 0xe033), 6);
}

/* --- flushes --- */
static struct {
    volatile uint64_t *at;
    volatile uint64_t seen, loops;
    volatile bool stop, faulted;
} reader;

static void read_on(void *unused)
{
    uint64_t v = 0;

    while (!reader.stop) {
        if (probe_read((const void *)reader.at, &v))
            reader.faulted = true;
        else
            reader.seen = v;
        reader.loops++;
    }
}

static bool reader_sees(uint64_t v, bool faulted)
{
    uint64_t end = time_ns() + 5000000000ull, from;

    from = reader.loops;
    while (reader.loops < from + 2)
        if (time_ns() > end)
            return false;
    return faulted ? reader.faulted : reader.seen == v;
}

TEST(flush_reaches_the_other_vcpu)
{
    uint64_t *a = page_alloc(), *b = page_alloc(), mask = 2;
    struct mmuext_op op = {.cmd = MMUEXT_INVLPG_MULTI};
    void *at = scratch_va(410);
    uint64_t m = pte_machine(at);

    if (!vcpu_exists(1))
        return;
    a[0] = 11;
    b[0] = 22;
    reader.at = at;
    reader.stop = reader.faulted = false;
    CHECK_EQ(pte_set(at, pte_of(a, PTE_KERNEL)), 0);
    CHECK_EQ(vcpu_run(1, read_on, NULL), 0);
    CHECK(reader_sees(11, false));
    op.arg1.linear_addr = (uint64_t)at;
    set_xen_guest_handle(op.arg2.vcpumask, (void *)&mask);
    CHECK_EQ(mmu_one(m, pte_of(b, PTE_KERNEL)), 0);
    CHECK_EQ(HC4(mmuext_op, &op, 1, NULL, DOMID_SELF), 0);
    CHECK(reader_sees(22, false));
    CHECK_EQ(mmu_one(m, pte_of(a, PTE_KERNEL)), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_ALL, (uint64_t)at, 0), 0);
    CHECK(reader_sees(11, false));
    CHECK_EQ(mmu_one(m, pte_of(b, PTE_KERNEL)), 0);
    CHECK_EQ(mmu_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    CHECK(reader_sees(22, false));
    CHECK_EQ(mmu_one(m, pte_of(a, PTE_KERNEL)), 0);
    op.cmd = MMUEXT_TLB_FLUSH_MULTI;
    CHECK_EQ(HC4(mmuext_op, &op, 1, NULL, DOMID_SELF), 0);
    CHECK(reader_sees(11, false));
    CHECK_EQ(HC4(update_va_mapping, at, pte_of(b, PTE_KERNEL), UVMF_INVLPG | (uint64_t)&mask, 0), 0);
    CHECK(reader_sees(22, false));
    CHECK_EQ(HC4(update_va_mapping, at, 0, UVMF_TLB_FLUSH | UVMF_ALL, 0), 0);
    CHECK(reader_sees(0, true));
    reader.stop = true;
    CHECK(vcpu_wait(1));
}

/* A page given back while the other vCPU reads it without rest: after the hypercall its contents are out of reach. */
TEST(freed_page_is_out_of_reach_of_a_stale_translation)
{
    uint64_t *p = page_alloc(), *spare = page_alloc();
    void *at = scratch_va(411);
    uint64_t m = pte_machine(at);
    xen_pfn_t frame = va_mfn(p);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    if (!vcpu_exists(1))
        return;
    p[0] = 77;
    reader.at = at;
    reader.stop = reader.faulted = false;
    CHECK_EQ(pte_set(at, frame * PAGE | PTE_KERNEL), 0);
    CHECK_EQ(pte_set(p, 0), 0);
    CHECK_EQ(vcpu_run(1, read_on, NULL), 0);
    CHECK(reader_sees(77, false));
    CHECK_EQ(mmu_one(m, 0), 0); /* and no flush: the guest's sin */
    set_xen_guest_handle(r.extent_start, &frame);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 1);
    /* Whoever gets a frame next waits for the flush: this may even be the same frame. */
    frame = va_pfn(p);
    CHECK_EQ(HC2(memory_op, XENMEM_populate_physmap, &r), 1);
    CHECK_EQ(mmu_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    CHECK(reader_sees(0, true));
    reader.stop = true;
    CHECK(vcpu_wait(1));
    CHECK_EQ(pte_set(p, frame * PAGE | PTE_KERNEL), 0);
    ((uint64_t *)start_info->mfn_list)[va_pfn(p)] = frame;
    (void)spare;
}

/* --- the LDT --- */
TEST(ldt_is_mapped_when_used)
{
    uint64_t *ldt = page_alloc();
    uint16_t got = 0;

    ldt[1] = 0x00cff3000000ffffull; /* ring-3 data */
    ldt[2] = 0x0000f20010000fffull; /* base 0x1000, not used */
    CHECK_EQ(page_protect(ldt), 0);
    CHECK(mmu_ext(MMUEXT_SET_LDT, (uint64_t)ldt + 8, 512) < 0);
    CHECK(mmu_ext(MMUEXT_SET_LDT, (uint64_t)ldt, 8193) < 0);
    CHECK(mmu_ext(MMUEXT_SET_LDT, HV_ADDRESS, 512) < 0);
    CHECK_EQ(mmu_ext(MMUEXT_SET_LDT, (uint64_t)ldt, 512), 0);
    CHECK(!TRAPS("mov $0x0f, %%eax; mov %%eax, %%es"));
    __asm__ volatile("mov %%es, %0" : "=r"(got));
    CHECK_EQ(got, 0x0f);
    /* A descriptor page now: not writable, or no longer of use as one. */
    if (!page_unprotect(ldt)) {
        ldt[1] = 0x00cf93000000ffffull; /* ring 0 */
        CHECK(TRAPS("mov $0x0f, %%eax; mov %%eax, %%es"));
        ldt[1] = 0x00cff3000000ffffull;
        CHECK_EQ(page_protect(ldt), 0);
    }
    CHECK(TRAPS("mov $0x1f, %%eax; mov %%eax, %%es")); /* entry 3 is empty */
    CHECK(last_trap.nr == 13 || last_trap.nr == 11);
    CHECK_EQ(last_trap.error & 0xfffc, 0x1c);
    __asm__ volatile("mov %0, %%es" ::"r"(0));
    CHECK_EQ(mmu_ext(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK(TRAPS("mov $0x0f, %%eax; mov %%eax, %%es"));
    CHECK_EQ(page_unprotect(ldt), 0);
}

TEST(ldt_that_is_not_there_faults)
{
    uint64_t *ldt = page_alloc(), *bad = page_alloc();

    /* A page with a descriptor that may not be: call gate into the hypervisor. */
    bad[1] = 0xffffec00e0080000ull;
    CHECK_EQ(page_protect(bad), 0);
    CHECK_EQ(mmu_ext(MMUEXT_SET_LDT, (uint64_t)bad, 512), 0);
    CHECK(TRAPS("mov $0x0f, %%eax; mov %%eax, %%es"));
    CHECK_EQ(mmu_ext(MMUEXT_SET_LDT, (uint64_t)ldt, 512), 0); /* writable: not a descriptor page */
    CHECK(TRAPS("mov $0x0f, %%eax; mov %%eax, %%es"));
    CHECK_EQ(mmu_ext(MMUEXT_SET_LDT, (uint64_t)scratch_va(412), 512), 0); /* not mapped */
    CHECK(TRAPS("mov $0x0f, %%eax; mov %%eax, %%es"));
    CHECK(user_run_flags("\x0f\x0b", 2, 0x0f, 0xe02b, 0x202) != 6); /* iret to such a cs */
    CHECK_EQ(mmu_ext(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK_EQ(page_unprotect(bad), 0);
}

TEST(gdt_code_segment_of_our_own)
{
    uint64_t *gdt = page_alloc();
    xen_pfn_t frame = va_mfn(gdt);
    long r;

    gdt[4] = 0x00cffb000000ffffull; /* 32-bit code, ring 3 */
    CHECK_EQ(page_protect(gdt), 0);
    CHECK_EQ(HC2(set_gdt, &frame, 512), 0);
    r = user_run("\x40\x0f\x0b", 3, 0x23);
    CHECK_EQ(r, 6);
    CHECK_EQ(user_frame.rip, user_code + 1);
    CHECK_EQ(user_frame.cs & 0xffff, 0x23);
    CHECK_EQ(HC2(set_gdt, NULL, 0), 0);
    CHECK_EQ(page_unprotect(gdt), 0);
}
