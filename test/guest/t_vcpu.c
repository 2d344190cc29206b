/* vCPUs: start, stop, registered areas, hostile contexts. */
#include "guest.h"

static volatile unsigned ran;
static void second(void *arg)
{
    ran = (unsigned)(unsigned long)arg;
}

TEST(vcpu_second_runs_and_goes_down)
{
    struct vcpu_guest_context *again = page_alloc();

    page_alloc(); /* the structure is larger than a page */
    if (!vcpu_exists(1))
        return;
    for (unsigned i = 77; i < 80; i++) {
        ran = 0;
        CHECK_EQ(vcpu_run(1, second, (void *)(unsigned long)i), 0);
        CHECK(vcpu_wait(1));
        CHECK_EQ(ran, i);
    }
    CHECK_EQ(HC3(vcpu_op, VCPUOP_initialise, 1, again), -17); /* EEXIST: once */
}

TEST(vcpu_hostile_numbers)
{
    struct vcpu_runstate_info rs;

    CHECK_EQ(HC3(vcpu_op, VCPUOP_up, 4096, NULL), -2);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_is_up, 0xffffffff, NULL), -2);
    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, HV_ADDRESS), -14);
    CHECK_EQ(HC3(vcpu_op, 999, 0, &rs), -38);
    CHECK(HC3(vcpu_op, VCPUOP_initialise, 0, &rs) < 0);
}

TEST(vcpu_runstate_adds_up)
{
    struct vcpu_runstate_info a, b;
    uint64_t sa = 0, sb = 0;

    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &a), 0);
    CHECK_EQ(a.state, RUNSTATE_running);
    for (volatile unsigned i = 0; i < 1000000; i++)
        ;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &b), 0);
    for (unsigned i = 0; i < 4; i++)
        sa += a.time[i], sb += b.time[i];
    CHECK(sb > sa);
    CHECK(b.time[RUNSTATE_running] > a.time[RUNSTATE_running]);
}

TEST(vcpu_runstate_area_registered)
{
    static struct vcpu_runstate_info area;
    struct vcpu_register_runstate_memory_area r = {.addr.v = &area};

    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &r), 0);
    CHECK_EQ(area.state, RUNSTATE_running);
    CHECK(area.state_entry_time != 0);
    r.addr.v = NULL;
    HC3(vcpu_op, VCPUOP_register_runstate_memory_area, 0, &r);
}

TEST(vcpu_info_cannot_be_a_page_table)
{
    struct vcpu_register_vcpu_info r = {.mfn = TABLE_MFN, .offset = 0};

    if (!HVM_GUEST) /* those of an HVM guest are memory as any other */
        CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &r) < 0);
    r.mfn = va_mfn(page_alloc());
    r.offset = 4090; /* runs over the end */
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &r) < 0);
    r.mfn = 0xffffffffff;
    r.offset = 0;
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &r) < 0);
}

TEST(vcpu_info_moves)
{
    struct vcpu_info *p = page_alloc();
    struct vcpu_register_vcpu_info r = {.mfn = va_mfn(p), .offset = 64};

    if (!vcpu_exists(1))
        return;
    CHECK_EQ(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &r), 0);
    CHECK(HC3(vcpu_op, VCPUOP_register_vcpu_info, 1, &r) < 0); /* once */
    if (HVM_GUEST)
        return;
    CHECK(pte_set(scratch_va(300), va_mfn(p) * PAGE | PTE_KERNEL) == 0);
    CHECK_EQ(pte_set(p, va_mfn(p) * PAGE | PTE_KERNEL_RO), 0);
    CHECK_EQ(pte_set(scratch_va(300), 0), 0);
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L1_TABLE, .arg1.mfn = va_mfn(p)};
    CHECK(HC4(mmuext_op, &pin, 1, NULL, DOMID_SELF) < 0); /* Krypton writes there: never a page table */
}

TEST(sched_bad_operations)
{
    CHECK_EQ(HC2(sched_op, 999, NULL), -38);
    CHECK_EQ(HC2(sched_op, SCHEDOP_poll, HV_ADDRESS), -14);
    CHECK_EQ(HC2(sched_op, SCHEDOP_shutdown, 0x10), -14);
}

TEST(timer_op_fires)
{
    struct vcpu_runstate_info rs;

    CHECK_EQ(HC3(vcpu_op, VCPUOP_get_runstate_info, 0, &rs), 0);
    CHECK_EQ(TIMER_OP(rs.state_entry_time + 1000000), 0);
    CHECK_EQ(TIMER_OP(0ull), 0);
}
