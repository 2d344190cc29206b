/* PV page tables: what a kernel does with them, and every way we know to get a writable mapping of one. */
#include "guest.h"

TEST(mmu_map_and_unmap)
{
    char *page = page_alloc(), *at = scratch_va(0);
    uint64_t v;

    page[0] = 0x5a;
    CHECK_EQ(pte_set(at, pte_of(page, PTE_KERNEL)), 0);
    CHECK_EQ(at[0], 0x5a);
    at[1] = 0x11;
    CHECK_EQ(page[1], 0x11);
    CHECK_EQ(pte_set(at, pte_of(page, PTE_KERNEL_RO)), 0);
    CHECK(write_faults(at, 1));
    CHECK_EQ(last_trap.nr, 14);
    CHECK_EQ(last_trap.cr2, (uint64_t)at);
    CHECK_EQ(pte_set(at, 0), 0);
    CHECK(read_faults(at, &v));
}

TEST(mmu_table_cannot_be_mapped_writable)
{
    uint64_t *table = (uint64_t *)start_info->pt_base;

    CHECK(pte_set(scratch_va(0), pte_of(table, PTE_KERNEL)) < 0);
    CHECK_EQ(pte_set(scratch_va(0), pte_of(table, PTE_KERNEL_RO)), 0);
    CHECK(write_faults(scratch_va(0), 0));
    CHECK_EQ(pte_set(scratch_va(0), 0), 0);
    CHECK(write_faults(table, 0));
}

TEST(mmu_writable_page_cannot_become_table)
{
    char *page = page_alloc();

    CHECK(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(page), 0) < 0);
    CHECK_EQ(pte_set(page, pte_of(page, PTE_KERNEL_RO)), 0);
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(page), 0), 0);
    CHECK(pte_set(page, pte_of(page, PTE_KERNEL)) < 0);
    CHECK(mmu_ext(MMUEXT_PIN_L2_TABLE, va_mfn(page), 0) < 0);     /* one type at a time */
    CHECK_EQ(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(page), 0), -22); /* pinned already */
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(page), 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_UNPIN_TABLE, va_mfn(page), 0), -22);
    CHECK_EQ(pte_set(page, pte_of(page, PTE_KERNEL)), 0);
}

TEST(mmu_table_with_bad_entry_is_refused)
{
    uint64_t *t = page_alloc();

    t[7] = 0xfffffffful * PAGE | PTE_KERNEL; /* no such memory */
    CHECK_EQ(pte_set(t, pte_of(t, PTE_KERNEL_RO)), 0);
    CHECK(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(t), 0) < 0);
    CHECK_EQ(pte_set(t, pte_of(t, PTE_KERNEL)), 0);
    t[7] = (uint64_t)va_mfn(t) * PAGE | PTE_KERNEL; /* itself, writable */
    CHECK_EQ(pte_set(t, pte_of(t, PTE_KERNEL_RO)), 0);
    CHECK(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(t), 0) < 0);
    CHECK_EQ(pte_set(t, pte_of(t, PTE_KERNEL)), 0);
    t[7] = 0;
}

TEST(mmu_hypervisor_memory_stays_out)
{
    /* Frames of Krypton: the image is at 2 MiB. */
    CHECK(pte_set(scratch_va(0), (0x200000ul) | PTE_KERNEL) < 0);
    CHECK(HC4(update_va_mapping, 0xffff830000000000ul, pte_of(page_alloc(), PTE_KERNEL), UVMF_INVLPG, 0) < 0);
    CHECK(HC4(update_va_mapping, 0xffff800000000000ul, pte_of(page_alloc(), PTE_KERNEL), UVMF_INVLPG, 0) < 0);
    uint64_t l4 = va_mfn((void *)start_info->pt_base) * PAGE;
    for (unsigned slot = 256; slot < 272; slot++)
        CHECK(mmu_one(l4 + slot * 8, pte_of(page_alloc, PTE_KERNEL)) < 0 || slot > 271);
}

TEST(mmu_m2p_is_read_only)
{
    volatile uint64_t *m2p = (volatile uint64_t *)0xffff800000000000ul;
    uint64_t mfn = va_mfn(start_info);

    CHECK_EQ(m2p[mfn], va_pfn(start_info));
    CHECK(write_faults((void *)&m2p[mfn], 0));
    struct mmu_update u = {.ptr = mfn * PAGE | MMU_MACHPHYS_UPDATE, .val = va_pfn(start_info)};
    CHECK_EQ(HC4(mmu_update, &u, 1, NULL, DOMID_SELF), 0);
    u.ptr = 0xfffffffful * PAGE | MMU_MACHPHYS_UPDATE;
    CHECK(HC4(mmu_update, &u, 1, NULL, DOMID_SELF) < 0);
}

TEST(mmu_update_through_the_table)
{
    char *page = page_alloc();
    void *at = scratch_va(3);

    CHECK_EQ(mmu_one(pte_machine(at), pte_of(page, PTE_KERNEL)), 0);
    *(uint64_t *)at = 42;
    CHECK_EQ(*(uint64_t *)page, 42);
    CHECK(mmu_one(pte_machine(at) + 4, 0) < 0); /* not aligned to an entry */
    CHECK_EQ(mmu_one(pte_machine(at), 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_INVLPG_LOCAL, (uint64_t)at, 0), 0);
}

TEST(mmu_update_counts_what_it_did)
{
    char *page = page_alloc();
    struct mmu_update u[3] = {
        {.ptr = pte_machine(scratch_va(4)), .val = pte_of(page, PTE_KERNEL)},
        {.ptr = pte_machine(scratch_va(5)), .val = 0xfffffffful * PAGE | PTE_KERNEL},
        {.ptr = pte_machine(scratch_va(6)), .val = pte_of(page, PTE_KERNEL)},
    };
    unsigned done = 99;

    CHECK(HC4(mmu_update, u, 3, &done, DOMID_SELF) < 0);
    CHECK_EQ(done, 1);
    CHECK_EQ(pte_set(scratch_va(4), 0), 0);
    CHECK_EQ(pte_read(scratch_va(6)), 0);
}

TEST(mmu_preserve_ad_keeps_the_bits)
{
    char *page = page_alloc();
    void *at = scratch_va(0);
    struct mmu_update u = {.ptr = pte_machine(at) | MMU_PT_UPDATE_PRESERVE_AD, .val = pte_of(page, 0x7)};

    CHECK_EQ(pte_set(at, pte_of(page, 0x7)), 0);
    *(volatile char *)at = 1; /* sets A and D */
    CHECK((pte_read(at) & 0x60) == 0x60);
    CHECK_EQ(HC4(mmu_update, &u, 1, NULL, DOMID_SELF), 0);
    CHECK((pte_read(at) & 0x60) == 0x60);
    CHECK_EQ(pte_set(at, 0), 0);
}

TEST(mmu_superpage_and_reserved_bits_refused)
{
    uint64_t l2 = pte_machine(scratch_va(0)) & ~0xffful; /* the L1's frame */
    char *page = page_alloc();

    CHECK(mmu_one(l2 + 8 * 9, pte_of(page, PTE_KERNEL | 0x80)) <=
          0); /* PAT in an L1: a matter of cache attributes */
    mmu_one(l2 + 8 * 9, 0);
    CHECK(pte_set(scratch_va(9), pte_of(page, PTE_KERNEL) | (1ul << 51)) < 0); /* beyond the address width */
}

TEST(mmu_foreign_domain_needs_to_exist)
{
    struct mmu_update u = {.ptr = pte_machine(scratch_va(0)), .val = 0};

    CHECK_EQ(HC4(mmu_update, &u, 1, NULL, 12345), NO_SUCH_DOMAIN);
    CHECK(HC4(mmuext_op, NULL, 1, NULL, DOMID_SELF) == -14);
}

TEST(mmu_ext_tlb_and_clear_copy)
{
    char *a = page_alloc(), *b = page_alloc();
    uint64_t mask = 1;
    struct mmuext_op op = {.cmd = MMUEXT_COPY_PAGE, .arg1.mfn = va_mfn(b), .arg2.src_mfn = va_mfn(a)};

    memset(a, 0x77, PAGE);
    CHECK_EQ(HC4(mmuext_op, &op, 1, NULL, DOMID_SELF), 0);
    CHECK_EQ(b[4095], 0x77);
    CHECK_EQ(mmu_ext(MMUEXT_CLEAR_PAGE, va_mfn(b), 0), 0);
    CHECK_EQ(b[4095], 0);
    CHECK_EQ(mmu_ext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    op = (struct mmuext_op){.cmd = MMUEXT_TLB_FLUSH_MULTI};
    set_xen_guest_handle(op.arg2.vcpumask, (void *)&mask);
    CHECK_EQ(HC4(mmuext_op, &op, 1, NULL, DOMID_SELF), 0);
    CHECK(mmu_ext(MMUEXT_CLEAR_PAGE, va_mfn((void *)start_info->pt_base), 0) < 0); /* a page table */
    CHECK(mmu_ext(200, 0, 0) < 0);
}

TEST(mmu_new_root_and_back)
{
    uint64_t *l4 = page_alloc();
    uint64_t old = va_mfn((void *)start_info->pt_base);
    const uint64_t *cur = (const uint64_t *)start_info->pt_base;

    for (unsigned i = 0; i < 512; i++)
        if (i < 256 || i > 271)
            l4[i] = cur[i];
    CHECK(mmu_ext(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0) < 0); /* still mapped writable */
    CHECK_EQ(pte_set(l4, pte_of(l4, PTE_KERNEL_RO)), 0);
    CHECK_EQ(mmu_ext(MMUEXT_NEW_BASEPTR, va_mfn(l4), 0), 0);
    CHECK_EQ(mmu_ext(MMUEXT_NEW_BASEPTR, old, 0), 0);
    CHECK_EQ(pte_set(l4, pte_of(l4, PTE_KERNEL)), 0); /* nobody uses it any more */
}

TEST(mmu_decrease_and_populate)
{
    char *page = page_alloc();
    uint64_t pfn = va_pfn(page);
    xen_pfn_t frame = va_mfn(page);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    memset(page, 0x99, PAGE);
    set_xen_guest_handle(r.extent_start, &frame);
    CHECK_EQ(pte_set(page, 0), 0);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 1);
    CHECK(pte_set(page, frame * PAGE | PTE_KERNEL) < 0); /* not ours any more */
    frame = pfn;
    CHECK_EQ(HC2(memory_op, XENMEM_populate_physmap, &r), 1);
    CHECK_EQ(pte_set(page, frame * PAGE | PTE_KERNEL), 0);
    CHECK_EQ(((uint64_t *)0xffff800000000000ul)[frame], pfn);
    for (unsigned i = 0; i < PAGE; i++)
        CHECK_EQ(page[i], 0); /* scrubbed */
    ((uint64_t *)start_info->mfn_list)[pfn] = frame;
}

TEST(mmu_decrease_of_used_page_keeps_it_until_unmapped)
{
    xen_pfn_t frame = va_mfn((void *)start_info->pt_base);
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = DOMID_SELF};

    /* Giving away hypervisor frames or nonsense does nothing. */
    frame = 0x200;
    set_xen_guest_handle(r.extent_start, &frame);
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 0);
    frame = ~0ul;
    CHECK_EQ(HC2(memory_op, XENMEM_decrease_reservation, &r), 0);
    r.domid = 12345;
    CHECK(HC2(memory_op, XENMEM_decrease_reservation, &r) <= 0);
}

TEST(memory_exchange_below_4g)
{
    static xen_pfn_t in[1], out[1];
    char *page = page_alloc();
    struct xen_memory_exchange x = {
        .in = {.nr_extents = 1, .domid = DOMID_SELF},
        .out = {.nr_extents = 1, .domid = DOMID_SELF, .mem_flags = XENMEMF_address_bits(32)}};

    in[0] = va_mfn(page);
    out[0] = va_pfn(page);
    set_xen_guest_handle(x.in.extent_start, in);
    set_xen_guest_handle(x.out.extent_start, out);
    CHECK_EQ(pte_set(page, 0), 0);
    CHECK_EQ(HC2(memory_op, XENMEM_exchange, &x), 0);
    CHECK_EQ(x.nr_exchanged, 1);
    CHECK(out[0] < (1ul << 20));
    CHECK_EQ(pte_set(page, out[0] * PAGE | PTE_KERNEL), 0);
    ((uint64_t *)start_info->mfn_list)[va_pfn(page)] = out[0];
}
