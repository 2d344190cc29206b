/*
 * The control operations of the scheduler as a toolstack calls them: parameters, affinity, CPU pools, NUMA; with what a
 * hostile or broken caller passes.
 */
#include "fake.h"
#include "core/control.h"
#include "core/cpupool.h"
#include "core/sched.h"
#include "core/timer.h"
#include "core/work.h"

#include <string.h>

#define CPUS 4

static struct domain *control, *guest;
static struct vcpu *kept[8]; /* where the leak checker sees them: these domains are never destroyed */
static unsigned nkept;

static struct domain *make(uint16_t id, unsigned vcpus, bool privileged)
{
    struct domain_config c = {.ops = &fake_guest_ops,
                              .privileged = privileged,
                              .hardware = privileged,
                              .max_vcpus = vcpus + 1, /* one that is never made */
                              .max_evtchn_port = 1023,
                              .max_frames = 100,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 4};
    struct domain *d;
    struct vcpu *v;

    assert_int_equal(domain_create(DID(id), &c, &d), 0);
    for (unsigned i = 0; i < vcpus; i++) {
        assert_int_equal(vcpu_create(d, i, &v), 0);
        v->initialised = true;
        kept[nkept++] = v;
    }
    return d;
}

static int group_setup(void **state)
{
    fake_start(16384, CPUS);
    domain_subsystem_init();
    sched_init();
    hypercall_init();
    for (unsigned c = 0; c < CPUS; c++) {
        assert_int_equal(sched_init_cpu(c), 0);
        fake_current[c] = sched_idle_vcpu(c);
        fake_cpu = c;
        work_raise(WORK_SCHEDULE);
    }
    fake_cpu = 0;
    fake_settle();
    control = make(0, 1, true);
    guest = make(1, 2, false);
    return 0;
}

static int each_teardown(void **state)
{
    sched_room_check();
    return 0;
}

static long call_as(struct domain *d, uint32_t nr, void *arg)
{
    struct hypercall hc = {.caller = d->vcpu[0], .nr = nr, .arg = {(uintptr_t)arg}};

    return hypercall_dispatch(&hc);
}

static long domctl(struct xen_domctl *op, uint32_t cmd, uint16_t domid)
{
    op->cmd = cmd;
    op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op->domain = domid;
    return call_as(control, __HYPERVISOR_domctl, op);
}

static long sysctl(struct xen_sysctl *op, uint32_t cmd)
{
    op->cmd = cmd;
    op->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return call_as(control, __HYPERVISOR_sysctl, op);
}

/* --- parameters --- */

static long params(uint32_t cmd, uint16_t domid, unsigned *weight, unsigned *cap)
{
    struct xen_domctl op = {0};
    long r;

    op.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    op.u.scheduler_op.cmd = cmd;
    op.u.scheduler_op.u.credit2.weight = (uint16_t)*weight;
    op.u.scheduler_op.u.credit2.cap = (uint16_t)*cap;
    r = domctl(&op, XEN_DOMCTL_scheduler_op, domid);
    *weight = op.u.scheduler_op.u.credit2.weight;
    *cap = op.u.scheduler_op.u.credit2.cap;
    return r;
}

static void weight_and_cap(void **state)
{
    unsigned w = 0, c = 0;

    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_getinfo, 1, &w, &c), 0);
    assert_int_equal(w, 256);
    assert_int_equal(c, 0);
    w = 1000, c = 150;
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_putinfo, 1, &w, &c), 0);
    w = c = 7;
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_getinfo, 1, &w, &c), 0);
    assert_int_equal(w, 1000);
    assert_int_equal(c, 150);
    w = 0, c = 0; /* the weight stays, the cap goes */
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_putinfo, 1, &w, &c), 0);
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_getinfo, 1, &w, &c), 0);
    assert_int_equal(w, 1000);
    assert_int_equal(c, 0);
    w = 256, c = 65535;
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_putinfo, 1, &w, &c), -EINVAL);
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_putvcpuinfo, 1, &w, &c), -EINVAL);
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_getvcpuinfo, 1, &w, &c), -EINVAL);
    assert_int_equal(params(4, 1, &w, &c), -EINVAL);
    assert_int_equal(params(XEN_DOMCTL_SCHEDOP_getinfo, 2, &w, &c), -ESRCH);
}

static void other_schedulers(void **state)
{
    struct xen_domctl op = {0};
    struct xen_sysctl sys = {0};

    for (uint32_t id = 0; id < 20; id++) {
        op.u.scheduler_op.sched_id = id;
        op.u.scheduler_op.cmd = XEN_DOMCTL_SCHEDOP_getinfo;
        assert_int_equal(domctl(&op, XEN_DOMCTL_scheduler_op, 1), id == XEN_SCHEDULER_CREDIT2 ? 0 : -EINVAL);
        sys.u.scheduler_op.cpupool_id = 0;
        sys.u.scheduler_op.sched_id = id;
        sys.u.scheduler_op.cmd = XEN_SYSCTL_SCHEDOP_getinfo;
        assert_int_equal(sysctl(&sys, XEN_SYSCTL_scheduler_op), id == XEN_SCHEDULER_CREDIT2 ? 0 : -EINVAL);
    }
    assert_int_equal(sysctl(&sys, XEN_SYSCTL_sched_id), 0);
    assert_int_equal(sys.u.sched_id.sched_id, XEN_SCHEDULER_CREDIT2);
}

static long rate(uint32_t cmd, uint32_t pool, uint32_t *us)
{
    struct xen_sysctl op = {0};
    long r;

    op.u.scheduler_op.cpupool_id = pool;
    op.u.scheduler_op.sched_id = XEN_SCHEDULER_CREDIT2;
    op.u.scheduler_op.cmd = cmd;
    op.u.scheduler_op.u.sched_credit2.ratelimit_us = *us;
    r = sysctl(&op, XEN_SYSCTL_scheduler_op);
    *us = op.u.scheduler_op.u.sched_credit2.ratelimit_us;
    return r;
}

static void rate_limit(void **state)
{
    uint32_t us = 0;

    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_getinfo, 0, &us), 0);
    assert_int_equal(us, 1000);
    us = 2500;
    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_putinfo, 0, &us), 0);
    us = 99;
    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_putinfo, 0, &us), -EINVAL);
    us = XEN_SYSCTL_SCHED_RATELIMIT_MAX + 1;
    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_putinfo, 0, &us), -EINVAL);
    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_getinfo, 0, &us), 0);
    assert_int_equal(us, 2500);
    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_getinfo, 9, &us), -ESRCH);
    assert_int_equal(rate(2, 0, &us), -EINVAL);
    us = 1000;
    assert_int_equal(rate(XEN_SYSCTL_SCHEDOP_putinfo, 0, &us), 0);
}

/* --- affinity --- */

static uint8_t hard[32], soft[32];

static struct xen_domctl affinity(uint32_t vcpu, uint32_t flags, unsigned bits)
{
    struct xen_domctl op = {0};

    op.u.vcpuaffinity.vcpu = vcpu;
    op.u.vcpuaffinity.flags = flags;
    op.u.vcpuaffinity.cpumap_hard.nr_bits = op.u.vcpuaffinity.cpumap_soft.nr_bits = bits;
    op.u.vcpuaffinity.cpumap_hard.bitmap.p = hard;
    op.u.vcpuaffinity.cpumap_soft.bitmap.p = soft;
    return op;
}

#define BOTH (XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT)

static void affinity_set_and_told(void **state)
{
    struct xen_domctl op = affinity(1, BOTH, 256);

    memset(hard, 0xaa, sizeof(hard));
    assert_int_equal(domctl(&op, XEN_DOMCTL_getvcpuaffinity, 1), 0);
    assert_int_equal(hard[0], 15); /* the CPUs there are, and no bit beyond them */
    assert_int_equal(soft[0], 15);
    for (unsigned i = 1; i < 32; i++)
        assert_int_equal(hard[i] | soft[i], 0);
    hard[0] = 0x36; /* CPUs that do not exist are accepted, as long as one does */
    soft[0] = 0x1c;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), 0);
    assert_int_equal(hard[0], 6); /* in force */
    assert_int_equal(soft[0], 4);
    assert_int_equal(domctl(&op, XEN_DOMCTL_getvcpuaffinity, 1), 0);
    assert_int_equal(hard[0], 6); /* as set, of 4 CPUs */
    assert_int_equal(soft[0], 12);
    op = affinity(1, XEN_VCPUAFFINITY_SOFT, 4);
    soft[0] = 0xf1;
    hard[0] = 0x55;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), 0);
    assert_int_equal(hard[0], 0x55); /* not named, not touched */
    assert_int_equal(guest->vcpu[1]->hard_affinity.w[0], 0x36);
    assert_int_equal(guest->vcpu[1]->soft_affinity.w[0], 1);
}

static void affinity_refused(void **state)
{
    struct xen_domctl op = affinity(0, 0, 8);
    uint64_t was = guest->vcpu[0]->hard_affinity.w[0];

    hard[0] = soft[0] = 15;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -EINVAL);
    assert_int_equal(domctl(&op, XEN_DOMCTL_getvcpuaffinity, 1), -EINVAL);
    op = affinity(2, BOTH, 8); /* within the limit, not there */
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -ESRCH);
    assert_int_equal(domctl(&op, XEN_DOMCTL_getvcpuaffinity, 1), -ESRCH);
    op = affinity(3, BOTH, 8);
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -EINVAL);
    op = affinity(0xffffffff, BOTH, 8);
    assert_int_equal(domctl(&op, XEN_DOMCTL_getvcpuaffinity, 1), -EINVAL);
    op = affinity(0, BOTH, 8);
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 7), -ESRCH);
    hard[0] = 0xf0; /* no CPU of ours */
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -EINVAL);
    hard[0] = 1;
    soft[0] = 0;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -EINVAL);
    op = affinity(0, BOTH, 0);
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -EINVAL);
    op.u.vcpuaffinity.cpumap_hard.bitmap.p = NULL;
    assert_int_equal(domctl(&op, XEN_DOMCTL_getvcpuaffinity, 1), -EINVAL);
    op = affinity(0, BOTH, 0xffffffff);
    op.u.vcpuaffinity.cpumap_soft.bitmap.p = (void *)64;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 1), -EFAULT);
    assert_int_equal(guest->vcpu[0]->hard_affinity.w[0], was);
}

static void force_undoes_override(void **state)
{
    struct xen_domctl op = affinity(0, XEN_VCPUAFFINITY_HARD, 8);
    struct vcpu *v = control->vcpu[0];

    assert_int_equal(sched_pin_override(v, 2), 0);
    hard[0] = 3;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 0), -EBUSY);
    op = affinity(0, XEN_VCPUAFFINITY_FORCE, 8);
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 0), 0);
    assert_false(v->pin_override);
    assert_int_equal(v->hard_affinity.w[0], ~0ull);
    assert_int_equal(sched_pin_override(v, 2), 0);
    hard[0] = 3;
    op = affinity(0, XEN_VCPUAFFINITY_FORCE | XEN_VCPUAFFINITY_HARD, 8);
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 0), 0);
    assert_false(v->pin_override);
    assert_int_equal(v->hard_affinity.w[0], 3);
    hard[0] = 15;
    assert_int_equal(domctl(&op, XEN_DOMCTL_setvcpuaffinity, 0), 0); /* nothing to undo: no error */
}

/* --- pools --- */

static uint8_t map[4];

static long pool(uint32_t cmd, uint32_t id, uint32_t arg, struct xen_sysctl_cpupool_op *out)
{
    struct xen_sysctl op = {0};
    long r;

    op.u.cpupool_op.op = cmd;
    op.u.cpupool_op.cpupool_id = id;
    op.u.cpupool_op.cpu = op.u.cpupool_op.domid = arg;
    op.u.cpupool_op.sched_id = XEN_SCHEDULER_CREDIT2;
    op.u.cpupool_op.cpumap.nr_bits = 32;
    op.u.cpupool_op.cpumap.bitmap.p = map;
    memset(map, 0xcc, sizeof(map));
    r = sysctl(&op, XEN_SYSCTL_cpupool_op);
    if (out)
        *out = op.u.cpupool_op;
    return r;
}
#define POOL(cmd, ...) pool(XEN_SYSCTL_CPUPOOL_OP_##cmd, __VA_ARGS__)

/* What xl cpupool-create, -cpu-remove, -cpu-add, -migrate, -list and -destroy do, one after the other. */
static void life_of_a_pool(void **state)
{
    struct xen_sysctl_cpupool_op i;

    assert_int_equal(POOL(INFO, 0, 0, &i), 0);
    assert_int_equal(i.n_dom, 2);
    assert_int_equal(i.sched_id, XEN_SCHEDULER_CREDIT2);
    assert_int_equal(map[0] | map[1] | map[2] | map[3], 15);
    assert_int_equal(POOL(INFO, 1, 0, &i), -ENOENT);
    assert_int_equal(POOL(RMCPU, 0, 3, NULL), 0);
    assert_int_equal(POOL(FREEINFO, 0, 0, NULL), 0);
    assert_int_equal(map[0] | map[1] << 8, 8);
    assert_int_equal(POOL(CREATE, XEN_SYSCTL_CPUPOOL_PAR_ANY, 0, &i), 0);
    assert_int_equal(i.cpupool_id, 1);
    assert_int_equal(POOL(CREATE, 1, 0, NULL), -EEXIST);
    assert_int_equal(POOL(MOVEDOMAIN, 1, 1, NULL), -ENOENT);
    assert_int_equal(POOL(ADDCPU, 1, 2, NULL), -ENODEV);
    assert_int_equal(POOL(ADDCPU, 1, 3, NULL), 0);
    assert_int_equal(POOL(MOVEDOMAIN, 1, 1, NULL), 0);
    assert_int_equal(POOL(INFO, 1, 0, &i), 0);
    assert_int_equal(i.n_dom, 1);
    assert_int_equal(map[0], 8);
    assert_int_equal(POOL(RMCPU, 1, 3, NULL), -EBUSY);
    assert_int_equal(POOL(DESTROY, 1, 0, NULL), -EBUSY);
    assert_int_equal(POOL(MOVEDOMAIN, 0, 1, NULL), 0);
    assert_int_equal(POOL(RMCPU, 1, XEN_SYSCTL_CPUPOOL_PAR_ANY, NULL), 0);
    assert_int_equal(POOL(DESTROY, 1, 0, NULL), 0);
    assert_int_equal(POOL(ADDCPU, 0, XEN_SYSCTL_CPUPOOL_PAR_ANY, NULL), 0);
    assert_int_equal(POOL(INFO, 0, 0, &i), 0);
    assert_int_equal(map[0], 15);
}

static void pools_refused(void **state)
{
    struct xen_sysctl op = {0};

    assert_int_equal(POOL(MOVEDOMAIN, 0, 0, NULL), -EINVAL); /* dom0 stays */
    assert_int_equal(POOL(MOVEDOMAIN, 0, 5, NULL), -EINVAL);
    assert_int_equal(POOL(MOVEDOMAIN, 0, DOMID_IDLE, NULL), -EINVAL);
    assert_int_equal(POOL(MOVEDOMAIN, 0, 0x10001, NULL), -EINVAL); /* no wrap to domain 1 */
    assert_int_equal(POOL(MOVEDOMAIN, 4, 1, NULL), -ENOENT);
    assert_int_equal(POOL(DESTROY, 0, 0, NULL), -EBUSY);
    assert_int_equal(POOL(DESTROY, 4, 0, NULL), -ENOENT);
    assert_int_equal(POOL(ADDCPU, 0, 4, NULL), -EINVAL);
    assert_int_equal(POOL(RMCPU, 0, 0xfffffffe, NULL), -EINVAL);
    assert_int_equal(pool(0, 0, 0, NULL), -ENOSYS);
    assert_int_equal(pool(8, 0, 0, NULL), -ENOSYS);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_CREATE;
    op.u.cpupool_op.sched_id = XEN_SCHEDULER_RTDS;
    op.u.cpupool_op.cpupool_id = XEN_SYSCTL_CPUPOOL_PAR_ANY;
    assert_int_equal(sysctl(&op, XEN_SYSCTL_cpupool_op), -ENOENT);
    op.u.cpupool_op.op = XEN_SYSCTL_CPUPOOL_OP_INFO;
    op.u.cpupool_op.cpupool_id = 0;
    op.u.cpupool_op.cpumap.nr_bits = 64;
    op.u.cpupool_op.cpumap.bitmap.p = (void *)8;
    assert_int_equal(sysctl(&op, XEN_SYSCTL_cpupool_op), -EFAULT);
    /* Pools 0 and 1 only: the last CPU of pool 0 is dom0's. */
    for (unsigned c = 0; c < CPUS - 1; c++)
        assert_int_equal(POOL(RMCPU, 0, c, NULL), 0);
    assert_int_equal(POOL(RMCPU, 0, CPUS - 1, NULL), -EBUSY);
    for (unsigned c = 0; c < CPUS - 1; c++)
        assert_int_equal(POOL(ADDCPU, 0, c, NULL), 0);
}

static void guests_are_refused(void **state)
{
    struct xen_domctl d = affinity(0, BOTH, 8);
    struct xen_sysctl s = {0};

    d.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    d.domain = 1;
    for (d.cmd = 0; d.cmd < 100; d.cmd++)
        assert_int_equal(call_as(guest, __HYPERVISOR_domctl, &d), -EPERM);
    s.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    for (s.cmd = 0; s.cmd < 40; s.cmd++)
        assert_int_equal(call_as(guest, __HYPERVISOR_sysctl, &s), -EPERM);
}

/* --- NUMA --- */

static long nodes(uint32_t cmd, uint8_t *bits)
{
    struct xen_domctl op = {0};

    op.u.nodeaffinity.nodemap.nr_bits = 8;
    op.u.nodeaffinity.nodemap.bitmap.p = bits;
    return domctl(&op, cmd, 1);
}

static void node_affinity(void **state)
{
    uint8_t bits = 0;

    assert_int_equal(nodes(XEN_DOMCTL_getnodeaffinity, &bits), 0);
    assert_int_equal(bits, 1);
    bits = 2; /* a node without memory */
    assert_int_equal(nodes(XEN_DOMCTL_setnodeaffinity, &bits), -EINVAL);
    bits = 3;
    assert_int_equal(nodes(XEN_DOMCTL_setnodeaffinity, &bits), 0);
    assert_int_equal(nodes(XEN_DOMCTL_getnodeaffinity, &bits), 0);
    assert_int_equal(bits, 1);
    assert_int_equal(nodes(XEN_DOMCTL_setnodeaffinity, (uint8_t *)8), -EFAULT);
    assert_int_equal(nodes(XEN_DOMCTL_getnodeaffinity, (uint8_t *)8), -EFAULT);
}

#define TEST(f) cmocka_unit_test_teardown(f, each_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(weight_and_cap),        TEST(other_schedulers), TEST(rate_limit),
        TEST(affinity_set_and_told), TEST(affinity_refused), TEST(force_undoes_override),
        TEST(life_of_a_pool),        TEST(pools_refused),    TEST(guests_are_refused),
        TEST(node_affinity),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
