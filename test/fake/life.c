/* Whole domains on the fake machine, as most tests of rooms above core/domain want them. Needs core/domain and core/sched. */
#include "fake.h"
#include "core/sched.h"

void fake_machine(uint64_t frames, unsigned cpus)
{
    fake_start(frames, cpus);
    domain_subsystem_init();
    sched_init();
    for (unsigned c = 0; c < cpus; c++) {
        assert_int_equal(sched_init_cpu(c), 0);
        fake_current[c] = sched_idle_vcpu(c);
    }
}

struct domain *fake_domain_new(uint16_t id, const struct domain_config *c)
{
    struct domain *d;
    struct vcpu *v;

    assert_int_equal(domain_create(DID(id), c, &d), 0);
    for (unsigned i = 0; i < c->max_vcpus; i++)
        assert_int_equal(vcpu_create(d, i, &v), 0);
    return d;
}

void fake_domain_kill(struct domain *d)
{
    int r;

    while ((r = domain_kill(d)) == -EAGAIN)
        ;
    assert_int_equal(r, 0);
}

void fake_domain_end(struct domain *d)
{
    fake_domain_kill(d);
    domain_put(d);
    fake_run_until(fake_now + 1000000000ull);
}
