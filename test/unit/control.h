/* For the tests of core/control: a machine with a control domain and calls through the hypercall table, as tools make them. */
#ifndef TEST_CONTROL_H
#define TEST_CONTROL_H

#include "fake.h"
#include "core/control.h"
#include "core/sched.h"
#include "core/timer.h"
#include "core/work.h"

#include <string.h>

static struct domain *control;
static struct vcpu *kept[16]; /* where the leak checker sees them: these domains are never destroyed */
static unsigned nkept;

static inline struct domain *make(uint16_t id, unsigned vcpus, bool privileged)
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

static inline int control_setup(unsigned cpus)
{
    fake_start(16384, cpus);
    domain_subsystem_init();
    sched_init();
    hypercall_init();
    for (unsigned c = 0; c < cpus; c++) {
        assert_int_equal(sched_init_cpu(c), 0);
        fake_current[c] = sched_idle_vcpu(c);
        fake_cpu = c;
        work_raise(WORK_SCHEDULE);
    }
    fake_cpu = 0;
    fake_settle();
    control = make(0, 1, true);
    dom0 = control;
    return 0;
}

static inline long call_as(struct domain *d, uint32_t nr, void *arg)
{
    struct hypercall hc = {.caller = d->vcpu[0], .nr = nr, .arg = {(uintptr_t)arg}};
    long r;

    do
        r = hypercall_dispatch(&hc);
    while (r == HC_AGAIN);
    return r;
}

static inline long domctl_v(uint32_t version, uint32_t cmd, uint16_t domain, struct xen_domctl *op)
{
    op->cmd = cmd;
    op->interface_version = version;
    op->domain = domain;
    return call_as(control, __HYPERVISOR_domctl, op);
}

static inline long domctl(uint32_t cmd, uint16_t domain, struct xen_domctl *op)
{
    return domctl_v(DOMCTL_4_19, cmd, domain, op);
}

static inline long sysctl(uint32_t cmd, struct xen_sysctl *op)
{
    op->cmd = cmd;
    op->interface_version = SYSCTL_4_17;
    return call_as(control, __HYPERVISOR_sysctl, op);
}

#define BAD_POINTER ((void *)16)
/* The statement makes copies from and to the caller: each of them, one after the other, fails. */
#define every_copy_fails(call)                                                                               \
    do {                                                                                                     \
        for (unsigned nth_ = 1;; nth_++) {                                                                   \
            fake_fail_copy = nth_;                                                                           \
            long r_ = (call);                                                                                \
            if (fake_fail_copy) { /* fewer copies than that */                                               \
                fake_fail_copy = 0;                                                                          \
                assert_true(nth_ > 1);                                                                       \
                break;                                                                                       \
            }                                                                                                \
            assert_int_equal(r_, -EFAULT);                                                                   \
        }                                                                                                    \
    } while (0)

#endif
