/* What a PV guest may have in its registers and descriptors, and a translated one of device memory: the fuzzers' world, one call each. */
#include "world.h"
#include "core/control.h"
#include "x86/p2m.h"
#include "x86/pv.h"

const struct fuzz_target fuzz_target = {.name = "state", .translated = true};

#define NESTED   2
#define HOLE     0x0000800000000000ull /* the first address that is not canonical */
#define DEVICE   0x100010ull           /* a frame of device memory (test/fuzz/world.c) */
#define CODE64   0x00affb000000ffffull
#define CALLGATE 0x0000ec00e0330000ull

static int setup(void **state)
{
    world();
    return 0;
}

static int teardown(void **state)
{
    fuzz_checks(CHECK_ALL);
    return 0;
}

static long set_base(struct step *s, unsigned which, uint64_t base)
{
    return call_n(s, __HYPERVISOR_set_segment_base, which, base, 0, 0);
}

static void segment_bases(void **state)
{
    struct step s = as(1, 0);

    for (unsigned which = SEGBASE_FS; which <= SEGBASE_GS_KERNEL; which++) {
        assert_int_equal(set_base(&s, which, HOLE), -EINVAL);
        assert_int_equal(set_base(&s, which, 0xffff7fffffffffffull), -EINVAL);
        assert_int_equal(set_base(&s, which, HOLE - 1), 0);
        assert_int_equal(set_base(&s, which, 0xffff800000000000ull), 0);
    }
    assert_int_equal(set_base(&s, SEGBASE_GS_USER_SEL, 0), 0);
    assert_int_equal(set_base(&s, SEGBASE_GS_USER_SEL + 1, 0), -EINVAL);
}

static long update(struct step *s, mfn_t m, unsigned index, uint64_t desc)
{
    return call_n(s, __HYPERVISOR_update_descriptor, mfn_to_maddr(m).a + index * 8, desc, 0, 0);
}
static uint64_t word(mfn_t m, unsigned index)
{
    return ((uint64_t *)arch_frame_va(m))[index];
}

static void descriptors(void **state)
{
    struct step s = as(1, 0);
    const mfn_t *page = guests[1].page;
    uint64_t was = word(page[PG_L1], 3);

    assert_int_equal(update(&s, page[PG_DATA], 5, CODE64), 0);
    assert_int_equal(word(page[PG_DATA], 5), CODE64);
    assert_int_equal(update(&s, page[PG_DATA], 5, CALLGATE), -EINVAL);
    assert_int_equal(update(&s, page[PG_DATA], 5, CODE64 & ~(3ull << 45)), 0); /* ring 0 becomes ring 3 */
    assert_int_equal(word(page[PG_DATA], 5) >> 45 & 3, 3);
    /* Into what it may not write: a table, another's page, what is no page of its own. */
    assert_int_equal(update(&s, page[PG_L1], 3, CODE64), -EINVAL);
    assert_int_equal(word(page[PG_L1], 3), was);
    was = word(guests[0].page[PG_DATA], 5);
    assert_int_equal(update(&s, guests[0].page[PG_DATA], 5, CODE64), -EINVAL);
    assert_int_equal(word(guests[0].page[PG_DATA], 5), was);
    assert_int_equal(update(&s, MFN(frame_count), 0, CODE64), -EINVAL);
    assert_int_equal(
        call_n(&s, __HYPERVISOR_update_descriptor, mfn_to_maddr(page[PG_DATA]).a + 4, CODE64, 0, 0), -EINVAL);
}

static long start(struct step *s, const struct vcpu_guest_context *c)
{
    guests[1].d->vcpu[1]->initialised = false;
    return call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, c, 0);
}

static void contexts(void **state)
{
    struct step s = as(1, 0);
    struct vcpu_guest_context *c = arg_alloc(sizeof(*c)), good;
    xen_ulong_t *const address[] = {&c->user_regs.rip,
                                    &c->event_callback_eip,
                                    &c->failsafe_callback_eip,
                                    &c->syscall_callback_eip,
                                    &c->fs_base,
                                    &c->gs_base_kernel,
                                    &c->gs_base_user,
                                    &c->trap_ctxt[0].address,
                                    &c->trap_ctxt[255].address};

    memset(&good, 0, sizeof(good));
    good.ctrlreg[3] = guests[1].page[PG_L4].n << FRAME_SHIFT;
    good.flags = VGCF_in_kernel;
    (void)call_n(&s, __HYPERVISOR_vcpu_op, VCPUOP_down, 1, 0, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(address); i++) {
        *c = good;
        *address[i] = HOLE;
        assert_int_equal(start(&s, c), -EINVAL);
    }
    *c = good;
    assert_int_equal(start(&s, c), 0);
}

static long device(struct step *s, bool permission, bool on)
{
    struct xen_domctl *op = arg_alloc(sizeof(*op));

    *op = (struct xen_domctl){.cmd = permission ? XEN_DOMCTL_iomem_permission : XEN_DOMCTL_memory_mapping,
                              .interface_version = XEN_DOMCTL_INTERFACE_VERSION,
                              .domain = NESTED};
    if (permission)
        op->u.iomem_permission =
            (struct xen_domctl_iomem_permission){.first_mfn = DEVICE, .nr_mfns = 1, .allow_access = on};
    else
        op->u.memory_mapping = (struct xen_domctl_memory_mapping){
            .first_gfn = 0x50000, .first_mfn = DEVICE, .nr_mfns = 1, .add_mapping = on};
    return call_n(s, __HYPERVISOR_domctl, op, 0, 0, 0);
}

static void device_memory(void **state)
{
    struct step s = as(0, 0);
    struct p2m_entry e;

    assert_int_equal(device(&s, false, true), -EPERM);
    p2m_look(guests[NESTED].d, GFN(0x50000), &e);
    assert_int_equal(e.type, P2M_NONE);
    assert_int_equal(device(&s, true, true), 0);
    assert_int_equal(device(&s, false, true), 0);
    p2m_look(guests[NESTED].d, GFN(0x50000), &e);
    assert_int_equal(e.type, P2M_MMIO);
    assert_int_equal(device(&s, false, false), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(segment_bases), T(descriptors), T(contexts), T(device_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
