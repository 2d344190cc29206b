/*
 * domctl as tools of several releases call it: versions, what createdomain accepts, life, limits and identity, getdomaininfo's two
 * meanings; hostile targets, copies that fail, and callers that may not.
 */
#include "control.h"

#include <errno.h>

static struct domain *guest;

static int group_setup(void **state)
{
    control_setup(2);
    guest = make(7, 1, false);
    return 0;
}

static int each_teardown(void **state)
{
    domain_room_check(guest);
    sched_room_check();
    return 0;
}

static bool exists(uint16_t id)
{
    struct domain *d = domain_get(DID(id));

    if (d)
        domain_put(d);
    return d != NULL;
}

/* Destroys the domain and waits until nothing of it is left. */
static void end(uint16_t id)
{
    struct xen_domctl op = {0};

    assert_int_equal(domctl(XEN_DOMCTL_destroydomain, id, &op), 0);
    fake_settle();
    fake_run_until(fake_now + 1000000000);
    assert_false(exists(id));
}

/* --- the way in --- */

static void versions(void **state)
{
    struct xen_domctl op = {0};

    assert_int_equal(call_as(control, __HYPERVISOR_domctl, BAD_POINTER), -EFAULT);
    for (uint32_t v = 0; v < 0x30; v++) {
        long want = v >= DOMCTL_4_17 && v <= DOMCTL_4_19 ? 0 : -EACCES;

        assert_int_equal(domctl_v(v, XEN_DOMCTL_getdomaininfo, 7, &op), want);
    }
    assert_int_equal(domctl_v(~0u, XEN_DOMCTL_getdomaininfo, 7, &op), -EACCES);
    assert_int_equal(domctl(0, 7, &op), -ENOSYS);
    assert_int_equal(domctl(999, 7, &op), -ENOSYS);
    assert_int_equal(domctl(~0u, 7, &op), -ENOSYS);
}

static void every_row(void **state)
{
    for (unsigned i = 0; i < domctl_op_count; i++) {
        struct xen_domctl op = {.cmd = domctl_ops[i].nr, .interface_version = DOMCTL_4_19, .domain = 7};

        assert_int_equal(domctl_ops[i].perm, PERM_CONTROL);
        assert_int_equal(call_as(guest, __HYPERVISOR_domctl, &op), -EPERM);
        if (!domctl_ops[i].fn) {
            assert_true(domctl_ops[i].refused && domctl_ops[i].note);
            assert_int_equal(domctl(domctl_ops[i].nr, 7, &op), -domctl_ops[i].refused);
        } else if (op.cmd != XEN_DOMCTL_createdomain && op.cmd != XEN_DOMCTL_getdomaininfo) {
            assert_int_equal(domctl(op.cmd, 6, &op), -ESRCH);
            assert_int_equal(domctl(op.cmd, DOMID_SELF, &op), -ESRCH);
            assert_int_equal(domctl(op.cmd, 0xffff, &op), -ESRCH);
        }
    }
}

/* --- createdomain --- */

/* The header of the build decides whether altp2m_opts exists: the tests write the bytes. */
struct create {
    uint32_t ssidref;
    uint8_t handle[16];
    uint32_t flags, iommu_opts, max_vcpus, max_evtchn_port;
    int32_t max_grant_frames, max_maptrack_frames;
    uint32_t grant_opts, rest[8];
};

static struct xen_domctl create_op(void)
{
    struct xen_domctl op = {0};
    struct create c = {.handle = {1, 2, 3},
                       .max_vcpus = 2,
                       .max_evtchn_port = 1023,
                       .max_grant_frames = 4,
                       .max_maptrack_frames = 8,
                       .grant_opts = 2};

    memcpy(&op.u, &c, sizeof(c));
    return op;
}
#define CREATE(op) ((struct create *)&(op).u)

static long create_with(void (*change)(struct create *), uint16_t id)
{
    struct xen_domctl op = create_op();

    change(CREATE(op));
    return domctl(XEN_DOMCTL_createdomain, id, &op);
}

static void create_ids(void **state)
{
    struct xen_domctl op = create_op();
    uint16_t first;

    assert_int_equal(domctl(XEN_DOMCTL_createdomain, 20, &op), 0);
    assert_int_equal(op.domain, 20);
    op = create_op();
    assert_int_equal(domctl(XEN_DOMCTL_createdomain, 20, &op), -EEXIST);
    end(20);
    op = create_op();
    assert_int_equal(domctl(XEN_DOMCTL_createdomain, 0, &op), 0);
    first = op.domain;
    assert_true(first && first != 7);
    end(first);
    op = create_op(); /* not the same again at once; any id that is none counts as 0 */
    assert_int_equal(domctl(XEN_DOMCTL_createdomain, DOMID_INVALID, &op), 0);
    assert_true(op.domain && op.domain != first);
    end(op.domain);
}

static void create_answer_is_lost(void **state)
{
    struct xen_domctl op = create_op();

    for (unsigned copy = 1; copy <= 2;
         copy++) { /* the operation cannot be read, or not be answered: nothing is made */
        fake_fail_copy = copy;
        assert_int_equal(domctl(XEN_DOMCTL_createdomain, 21, &op), -EFAULT);
        assert_false(exists(21));
    }
    fake_fail_copy =
        3; /* the caller's memory went meanwhile: the domain is there all the same, as the list shows */
    assert_int_equal(domctl(XEN_DOMCTL_createdomain, 21, &op), -EFAULT);
    assert_true(exists(21));
    end(21);
}

static void flags_unknown(struct create *c)
{
    c->flags = (XEN_DOMCTL_CDF_MAX << 1);
}
static void flags_iommu(struct create *c)
{
    c->flags = XEN_DOMCTL_CDF_iommu;
}
static void flags_vpmu(struct create *c)
{
    c->flags = XEN_DOMCTL_CDF_vpmu;
}
static void iommu_opts(struct create *c)
{
    c->iommu_opts = 1;
}
static void iommu_opts_unknown(struct create *c)
{
    c->iommu_opts = ~0u;
}
static void no_vcpus(struct create *c)
{
    c->max_vcpus = 0;
}
static void many_vcpus(struct create *c)
{
    c->max_vcpus = 10000;
}
static void all_vcpus(struct create *c)
{
    c->max_vcpus = ~0u;
}
static void no_grant_version(struct create *c)
{
    c->grant_opts = 0;
}
static void grant_version_3(struct create *c)
{
    c->grant_opts = 3;
}
static void grant_bits(struct create *c)
{
    c->grant_opts = 2 | 0x100;
}
static void pool_that_is_not(struct create *c)
{
    c->rest[2] = 99;
}
static void vmtrace(struct create *c)
{
    c->rest[1] = 4096;
}
static void altp2m(struct create *c)
{
    c->rest[0] = 1;
}

static void create_limits(void **state)
{
    assert_int_equal(create_with(flags_unknown, 22), -EINVAL);
    assert_int_equal(create_with(flags_iommu, 22), -EOPNOTSUPP);
    assert_int_equal(create_with(flags_vpmu, 22), -EOPNOTSUPP);
    assert_int_equal(create_with(iommu_opts, 22), -EINVAL);
    assert_int_equal(create_with(iommu_opts_unknown, 22), -EINVAL);
    assert_int_equal(create_with(no_vcpus, 22), -EINVAL);
    assert_int_equal(create_with(many_vcpus, 22), -EINVAL);
    assert_int_equal(create_with(all_vcpus, 22), -EINVAL);
    assert_int_equal(create_with(no_grant_version, 22), -EINVAL);
    assert_int_equal(create_with(grant_version_3, 22), -EINVAL);
    assert_int_equal(create_with(grant_bits, 22), -EINVAL);
    assert_int_equal(create_with(vmtrace, 22), -EOPNOTSUPP);
    assert_int_equal(create_with(altp2m, 22), -EOPNOTSUPP);
    assert_true(create_with(pool_that_is_not, 22) < 0);
    assert_false(exists(22));
}

/* 4.17 and 4.18 have vmtrace_size where 4.19 has altp2m_opts, and the pool one word earlier. */
static void create_by_release(void **state)
{
    struct xen_domctl op = create_op();

    CREATE(op)->rest[0] = 4096;
    assert_int_equal(domctl_v(DOMCTL_4_17, XEN_DOMCTL_createdomain, 23, &op), -EOPNOTSUPP);
    CREATE(op)->rest[0] = 0;
    CREATE(op)->rest[1] = 99;
    assert_true(domctl_v(DOMCTL_4_17, XEN_DOMCTL_createdomain, 23, &op) < 0);
    assert_true(domctl_v(DOMCTL_4_18, XEN_DOMCTL_createdomain, 23, &op) < 0);
    CREATE(op)->rest[1] = 0;
    assert_int_equal(domctl_v(DOMCTL_4_17, XEN_DOMCTL_createdomain, 23, &op), 0);
    end(23);
    op = create_op();
    assert_int_equal(domctl_v(DOMCTL_4_18, XEN_DOMCTL_createdomain, 23, &op), 0);
    end(23);
}

static void create_defaults_and_vcpus(void **state)
{
    struct xen_domctl op = create_op();

    CREATE(op)->max_grant_frames = CREATE(op)->max_maptrack_frames = -1;
    CREATE(op)->flags = XEN_DOMCTL_CDF_xs_domain;
    assert_int_equal(domctl(XEN_DOMCTL_createdomain, 24, &op), 0);
    op.u.max_vcpus.max = 3;
    assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, 24, &op), -EINVAL);
    op.u.max_vcpus.max = 2;
    fake_preempt_every = 1;
    assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, 24, &op), 0);
    fake_preempt_every = 0;
    assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, 24, &op), 0);
    assert_int_equal(domctl(XEN_DOMCTL_max_vcpus, 0, &op), -EINVAL);
    assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, 24, &op), 0);
    assert_int_equal(op.u.getdomaininfo.max_vcpu_id, 1);
    assert_int_equal(op.u.getdomaininfo.nr_online_vcpus, 0);
    assert_true(op.u.getdomaininfo.flags & XEN_DOMINF_xs_domain);
    assert_int_equal(op.u.getdomaininfo.handle[2], 3);
    end(24);
}

static void create_without_memory(void **state)
{
    for (unsigned n = 1;; n++) {
        struct xen_domctl op = create_op();
        long r;

        fake_fail_mem = n;
        r = domctl(XEN_DOMCTL_createdomain, 25, &op);
        if (fake_fail_mem) {
            fake_fail_mem = 0;
            assert_int_equal(r, 0);
            assert_true(n > 1);
            end(25);
            return;
        }
        assert_int_equal(r, -ENOMEM);
        assert_false(exists(25));
    }
}

/* --- getdomaininfo --- */

static void info_next_or_exact(void **state)
{
    struct xen_domctl op = {0};

    assert_int_equal(domctl_v(DOMCTL_4_17, XEN_DOMCTL_getdomaininfo, 1, &op), 0);
    assert_int_equal(op.domain, 7);
    assert_int_equal(op.u.getdomaininfo.domain, 7);
    assert_int_equal(domctl_v(DOMCTL_4_17, XEN_DOMCTL_getdomaininfo, 8, &op), -ESRCH);
    assert_int_equal(domctl_v(DOMCTL_4_18, XEN_DOMCTL_getdomaininfo, 1, &op), -ESRCH);
    assert_int_equal(domctl_v(DOMCTL_4_19, XEN_DOMCTL_getdomaininfo, 1, &op), -ESRCH);
    assert_int_equal(domctl_v(DOMCTL_4_19, XEN_DOMCTL_getdomaininfo, 7, &op), 0);
    assert_int_equal(domctl_v(DOMCTL_4_19, XEN_DOMCTL_getdomaininfo, DOMID_SELF, &op), 0);
    assert_int_equal(op.domain, 0);
    assert_int_equal(domctl_v(DOMCTL_4_17, XEN_DOMCTL_getdomaininfo, DOMID_SELF, &op), 0);
    assert_int_equal(op.domain, 0);
    every_copy_fails(domctl(XEN_DOMCTL_getdomaininfo, 7, &op));
}

static uint32_t flags_of(uint16_t id)
{
    struct xen_domctl op = {0};

    assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, id, &op), 0);
    return op.u.getdomaininfo.flags;
}

/* --- life --- */

static void pauses(void **state)
{
    struct xen_domctl op = {0};

    assert_true(flags_of(7) & XEN_DOMINF_paused);
    assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 7, &op), 0);
    assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 7, &op), 0);
    assert_true(flags_of(7) & XEN_DOMINF_paused);
    assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 7, &op), 0);
    assert_false(flags_of(7) & XEN_DOMINF_paused);
    assert_int_equal(domctl(XEN_DOMCTL_unpausedomain, 7, &op), -EINVAL);
    assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 7, &op), 0);
    assert_int_equal(domctl(XEN_DOMCTL_pausedomain, 0, &op), -EINVAL); /* not oneself */
}

static void shut_down_and_resumed(void **state)
{
    struct xen_domctl op = {0};

    assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 7, &op), -EINVAL);
    assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 0, &op), -EINVAL);
    domain_shutdown(guest, SHUTDOWN_suspend);
    fake_settle();
    assert_true(flags_of(7) & XEN_DOMINF_shutdown);
    assert_int_equal(flags_of(7) >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask, SHUTDOWN_suspend);
    assert_int_equal(domctl(XEN_DOMCTL_resumedomain, 7, &op), 0);
    assert_false(flags_of(7) & XEN_DOMINF_shutdown);
}

static void destroyed(void **state)
{
    struct xen_domctl op = create_op();
    mfn_t m;
    struct domain *d;

    assert_int_equal(domctl(XEN_DOMCTL_destroydomain, 0, &op), -EINVAL);
    assert_int_equal(domctl(XEN_DOMCTL_createdomain, 26, &op), 0);
    op.u.max_mem.max_memkb = 4000;
    assert_int_equal(domctl(XEN_DOMCTL_max_mem, 26, &op), 0);
    d = domain_get(DID(26));
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), -ENOMEM);
    domain_put(d);
    fake_preempt_every = 2;
    assert_int_equal(domctl(XEN_DOMCTL_destroydomain, 26, &op), 0);
    fake_preempt_every = 0;
    fake_settle();
    fake_run_until(fake_now + 1000000000);
    assert_false(exists(26));
    assert_int_equal(domctl(XEN_DOMCTL_destroydomain, 26, &op), -ESRCH);
    frame_room_check();
}

/* --- limits and identity --- */

static void identity(void **state)
{
    struct xen_domctl op = {.u.setdomainhandle.handle = {9, 8, 7}};

    assert_int_equal(domctl(XEN_DOMCTL_setdomainhandle, 7, &op), 0);
    assert_int_equal(domctl(XEN_DOMCTL_getdomaininfo, 7, &op), 0);
    assert_int_equal(op.u.getdomaininfo.handle[0], 9);
    op.u.settimeoffset.time_offset_seconds = -3600;
    assert_int_equal(domctl(XEN_DOMCTL_settimeoffset, 7, &op), 0);
    assert_int_equal(guest->time_offset, -3600);
    op.u.max_mem.max_memkb = 4 * 123 + 3;
    assert_int_equal(domctl(XEN_DOMCTL_max_mem, 7, &op), 0);
    assert_int_equal(guest->max_frames, 123);
    op.u.max_mem.max_memkb = ~0ull;
    assert_int_equal(domctl(XEN_DOMCTL_max_mem, 7, &op), 0);
    op.u.max_mem.max_memkb = 400;
    assert_int_equal(domctl(XEN_DOMCTL_max_mem, 7, &op), 0);
}

static void events(void **state)
{
    struct xen_domctl op = {0};

    op.u.set_virq_handler.virq = VIRQ_TIMER;
    assert_int_equal(domctl(XEN_DOMCTL_set_virq_handler, 7, &op), -EINVAL);
    op.u.set_virq_handler.virq = ~0u;
    assert_int_equal(domctl(XEN_DOMCTL_set_virq_handler, 7, &op), -EINVAL);
    op.u.set_virq_handler.virq = VIRQ_CON_RING;
    assert_int_equal(domctl(XEN_DOMCTL_set_virq_handler, 7, &op), 0);
    assert_int_equal(domctl(XEN_DOMCTL_set_virq_handler, 0, &op), 0);
    op.u.subscribe.port = 5;
    assert_int_equal(domctl(XEN_DOMCTL_subscribe, 7, &op), -EINVAL);
    op.u.subscribe.port = ~0u;
    assert_int_equal(domctl(XEN_DOMCTL_subscribe, 7, &op), -EINVAL);
}

/* --- vCPUs --- */

static void vcpu_info(void **state)
{
    struct xen_domctl op = {0};

    assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 7, &op), 0);
    assert_int_equal(op.u.getvcpuinfo.running, 0);
    op.u.getvcpuinfo.vcpu = 1; /* may be, is not */
    assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 7, &op), -ESRCH);
    op.u.getvcpuinfo.vcpu = 2;
    assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 7, &op), -EINVAL);
    op.u.getvcpuinfo.vcpu = ~0u;
    assert_int_equal(domctl(XEN_DOMCTL_getvcpuinfo, 7, &op), -EINVAL);
    op.u.getvcpuinfo.vcpu = 0;
    every_copy_fails(domctl(XEN_DOMCTL_getvcpuinfo, 7, &op));
}

static void vcpu_context(void **state)
{
    static struct vcpu_guest_context context;
    struct xen_domctl op = {0};

    set_xen_guest_handle(op.u.vcpucontext.ctxt, (vcpu_guest_context_t *)&context);
    assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 0, &op), -EINVAL);
    assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 7, &op), 0);
    assert_true(guest->vcpu[0]->initialised);
    op.u.vcpucontext.vcpu = 1;
    assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 7, &op), -ESRCH);
    op.u.vcpucontext.vcpu = ~0u;
    assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 7, &op), -ESRCH);
    op.u.vcpucontext.vcpu = 0;
    op.u.vcpucontext.ctxt.p = NULL; /* back to before it was initialised */
    assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 7, &op), 0);
    assert_false(guest->vcpu[0]->initialised);
    set_xen_guest_handle(op.u.vcpucontext.ctxt, (vcpu_guest_context_t *)&context);
    assert_int_equal(domctl(XEN_DOMCTL_setvcpucontext, 7, &op), 0);
}

static void triggers(void **state)
{
    struct xen_domctl op = {.u.sendtrigger = {.trigger = XEN_DOMCTL_SENDTRIGGER_NMI}};

    assert_int_equal(domctl(XEN_DOMCTL_sendtrigger, 7, &op), 0);
    op.u.sendtrigger.vcpu = 1;
    assert_int_equal(domctl(XEN_DOMCTL_sendtrigger, 7, &op), -ESRCH);
    op.u.sendtrigger.vcpu = 0;
    for (unsigned t = XEN_DOMCTL_SENDTRIGGER_RESET; t <= XEN_DOMCTL_SENDTRIGGER_SLEEP; t++) {
        op.u.sendtrigger.trigger = t;
        assert_int_equal(domctl(XEN_DOMCTL_sendtrigger, 7, &op), -EINVAL);
    }
    op.u.sendtrigger.trigger = 77;
    assert_int_equal(domctl(XEN_DOMCTL_sendtrigger, 7, &op), -ENOSYS);
}

/* --- bitmaps --- */

static void bitmaps(void **state)
{
    uint8_t bytes[10];
    struct xenctl_bitmap map;
    uint64_t w[2];

    set_xen_guest_handle(map.bitmap, bytes);
    memset(bytes, 0xff, sizeof(bytes));
    for (unsigned n = 0; n <= 80; n++) {
        map.nr_bits = n;
        assert_int_equal(control_bitmap_read(control->vcpu[0], w, 70, &map), 0);
        for (unsigned i = 0; i < 128; i++)
            assert_int_equal(w[i / 64] >> i % 64 & 1, i < n && i < 70);
    }
    w[0] = w[1] = ~0ull;
    for (unsigned n = 1; n <= 80; n++) {
        memset(bytes, 0xaa, sizeof(bytes));
        map.nr_bits = n;
        assert_int_equal(control_bitmap_write(control->vcpu[0], &map, w, 70), 0);
        for (unsigned i = 0; i < 80; i++)
            assert_int_equal(bytes[i / 8] >> i % 8 & 1,
                             i < (n + 7) / 8 * 8 ? i < n && i < 70 : 0xaa >> i % 8 & 1);
    }
    map.nr_bits = 8;
    set_xen_guest_handle(map.bitmap, BAD_POINTER);
    assert_int_equal(control_bitmap_read(control->vcpu[0], w, 70, &map), -EFAULT);
    assert_int_equal(control_bitmap_write(control->vcpu[0], &map, w, 70), -EFAULT);
    map.nr_bits = 0;
    assert_int_equal(control_bitmap_read(control->vcpu[0], w, 70, &map), 0);
    set_xen_guest_handle(map.bitmap, bytes); /* as many bits as a number can say: only ours are read */
    map.nr_bits = ~0u;
    assert_int_equal(control_bitmap_read(control->vcpu[0], w, 70, &map), 0);
    fake_fault_start =
        (uintptr_t)bytes + sizeof(bytes); /* ... and writing all of them ends where memory does */
    fake_fault_end = ~0ull;
    assert_int_equal(control_bitmap_write(control->vcpu[0], &map, w, 70), -EFAULT);
    fake_fault_start = fake_fault_end = 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_teardown(f, each_teardown)
    const struct CMUnitTest tests[] = {
        T(versions),
        T(every_row),
        T(create_ids),
        T(create_answer_is_lost),
        T(create_limits),
        T(create_by_release),
        T(create_defaults_and_vcpus),
        T(create_without_memory),
        T(info_next_or_exact),
        T(pauses),
        T(shut_down_and_resumed),
        T(destroyed),
        T(identity),
        T(events),
        T(vcpu_info),
        T(vcpu_context),
        T(triggers),
        T(bitmaps),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
