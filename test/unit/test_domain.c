/* Domains and vCPUs: making and unmaking with every allocation failing once, references, zombies, shutdown,
 * crash, pauses, watchdogs, VCPUOP_*, vm_assist - and hostile arguments. */
#include "fake.h"
#include "core/evtchn.h"
#include "core/grant.h"
#include "core/sched.h"
#include "core/timer.h"
#include "core/work.h"
#include "lib/string.h"

#include <stdlib.h>

#define CPUS  2
#define MS(x) ((x)*1000000ull)
#define SEC   1000000000ull

static int group_setup(void **state)
{
    fake_start(16384, CPUS);
    domain_subsystem_init();
    sched_init();
    for (unsigned c = 0; c < CPUS; c++) {
        assert_int_equal(sched_init_cpu(c), 0);
        fake_current[c] = sched_idle_vcpu(c);
        fake_cpu = c;
        work_raise(WORK_SCHEDULE);
    }
    fake_cpu = 0;
    fake_settle();
    return 0;
}

static struct domain_config config(unsigned vcpus)
{
    return (struct domain_config){.ops = &fake_guest_ops,
                                  .max_vcpus = vcpus,
                                  .max_evtchn_port = 1023,
                                  .max_frames = 1000,
                                  .max_grant_frames = 4,
                                  .max_maptrack_frames = 4};
}

static struct domain *start(uint16_t id, unsigned n)
{
    struct domain_config c = config(n);
    struct domain *d;
    struct vcpu *v;

    assert_int_equal(domain_create(DID(id), &c, &d), 0);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(vcpu_create(d, i, &v), 0);
    d->vcpu[0]->initialised = true;
    d->vcpu[0]->pause_flags = 0;
    assert_int_equal(domain_controller_unpause(d), 0);
    fake_settle();
    domain_room_check(d);
    return d;
}

static bool exists(uint16_t id)
{
    struct domain *d = domain_get(DID(id));

    if (d)
        domain_put(d);
    return d != NULL;
}

static void kill(struct domain *d)
{
    unsigned n = 0;

    fake_cpu = 0;
    domain_pause_nosync(d);
    fake_settle();
    while (domain_kill(d) == -EAGAIN)
        assert_true(n++ < 10000);
    domain_room_check(d);
}

static void end(struct domain *d)
{
    uint16_t id = d->id.v;

    kill(d);
    domain_put(d);
    fake_run_until(fake_now + SEC);
    assert_false(exists(id));
    sched_room_check();
    timer_room_check();
}

static uint64_t free_frames(void)
{
    struct frame_info i;

    frame_info(&i);
    return i.free;
}

/* --- making
 * ----------------------------------------------------------------------------------------------------------------
 */

static void bad_configurations(void **state)
{
    struct domain_config c = config(1);
    struct domain *d;

    assert_int_equal(domain_create(DID(DOMID_FIRST_RESERVED), &c, &d), -EINVAL);
    assert_int_equal(domain_create(DID(0xffff), &c, &d), -EINVAL);
    c.max_vcpus = 0;
    assert_int_equal(domain_create(DID(1), &c, &d), -EINVAL);
    c.max_vcpus = MAX_VCPUS + 1;
    assert_int_equal(domain_create(DID(1), &c, &d), -EINVAL);
    c = config(1);
    c.ops = NULL;
    assert_int_equal(domain_create(DID(1), &c, &d), -EINVAL);
    assert_false(exists(1));
    assert_null(domain_get(DID(DOMID_IO)));
    assert_null(domain_get(DID(DOMID_XEN)));
    assert_null(domain_get(DID(DOMID_IDLE)));
}

static void ids_are_unique_and_ordered(void **state)
{
    struct domain_config c = config(1);
    struct domain *a = start(7, 1), *b = start(3, 1), *e = start(71, 1), *d;

    assert_int_equal(domain_create(DID(7), &c, &d), -EEXIST);
    d = domain_get_from(DID(0));
    assert_ptr_equal(d, b);
    domain_put(d);
    d = domain_get_from(DID(4));
    assert_ptr_equal(d, a);
    domain_put(d);
    d = domain_get_from(DID(8));
    assert_ptr_equal(d, e);
    domain_put(d);
    assert_null(domain_get_from(DID(72)));
    d = start(5000, 1); /* far from the others */
    assert_ptr_equal(domain_get_from(DID(72)), d);
    domain_put(d);
    assert_ptr_equal(domain_get_from(DID(5000)), d);
    domain_put(d);
    assert_null(domain_get_from(DID(5001)));
    end(d);
    assert_null(domain_get_from(DID(72)));
    end(a); /* 7 and 71 share a bucket */
    assert_true(exists(71));
    end(e);
    end(b);
}

static void a_new_domain_is_complete_and_paused(void **state)
{
    struct domain_config c = config(40);
    struct domain *d;
    struct vcpu *v;

    assert_int_equal(domain_create(DID(1), &c, &d), 0);
    assert_int_equal(d->pause_count, 1);
    assert_int_equal(d->controller_pauses, 1);
    assert_int_equal(vcpu_create(d, 40, &v), -EINVAL);
    assert_int_equal(vcpu_create(d, 0, &v), 0);
    assert_int_equal(vcpu_create(d, 0, &v), -EEXIST);
    assert_int_equal(v->pause_flags, VPF_DOWN);
    assert_ptr_equal(v->info, &d->shared_info->vcpu_info[0]);
    assert_int_equal(v->info->evtchn_upcall_mask, 1);
    assert_null(domain_vcpu(d, 1));
    assert_null(domain_vcpu(d, ~0u));
    assert_int_equal(vcpu_create(d, 39, &v), 0); /* beyond the shared page */
    assert_non_null(v->info);
    assert_int_equal(v->info->evtchn_upcall_mask, 1);
    domain_room_check(d);
    end(d);
}

/* Each allocation fails once: an error, and nothing of the attempt is left. */
static void creation_fails_cleanly(void **state)
{
    struct domain_config c = config(2);
    struct domain *d;
    struct vcpu *v;
    unsigned failed = 0;

    end(start(1, 1)); /* slabs are warm */
    for (unsigned which = 0; which < 2; which++)
        for (unsigned n = 1; n < 60; n++) {
            uint64_t before = free_frames();
            int r;

            fake_fail_mem = which ? 0 : n;
            fake_fail_alloc = which ? n : 0;
            r = domain_create(DID(1), &c, &d);
            if (r) {
                assert_int_equal(r, -ENOMEM);
                assert_false(exists(1));
                assert_true(free_frames() + 8 >= before); /* slabs may have grown */
                failed++;
            } else {
                r = vcpu_create(d, 0, &v);
                assert_true(r == 0 || r == -ENOMEM);
                failed += r != 0;
                assert_true((domain_vcpu(d, 0) != NULL) == (r == 0));
                fake_fail_mem = fake_fail_alloc = 0;
                end(d);
            }
            fake_fail_mem = fake_fail_alloc = 0;
        }
    assert_true(failed >= 6);
    mem_room_check();
}

static void no_memory_lost(void **state)
{
    uint64_t before;

    for (unsigned i = 0; i < 3; i++)
        end(start(1, 3));
    before = free_frames();
    for (unsigned i = 0; i < 20; i++)
        end(start(1, 3));
    assert_int_equal(free_frames(), before);
}

/* --- the end
 * ------------------------------------------------------------------------------------------------------------------
 */

static void references_keep_a_zombie(void **state)
{
    struct domain *d = start(5, 2), *held;

    held = domain_get(DID(5));
    assert_ptr_equal(held, d);
    kill(d);
    assert_int_equal(domain_kill(d), 0);
    domain_put(d);
    fake_run_until(fake_now + 2 * SEC);
    assert_true(exists(5));
    assert_int_equal(held->dying, DOM_DEAD);
    domain_put(held);
    fake_run_until(fake_now + SEC);
    assert_false(exists(5));
}

static void frames_mapped_elsewhere_keep_a_zombie(void **state)
{
    struct domain *d = start(5, 1);
    mfn_t m;

    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    assert_true(frame_get(mfn_frame(m), d)); /* another domain maps it */
    kill(d);
    domain_put(d);
    fake_run_until(fake_now + SEC);
    assert_true(exists(5));
    frame_put(mfn_frame(m));
    fake_run_until(fake_now + SEC);
    assert_false(exists(5));
}

static void shared_page_mapped_elsewhere(void **state)
{
    struct domain *d = start(5, 1);
    struct frame *f = mfn_frame(d->shared_info_mfn);

    assert_true(frame_get(f, d));
    kill(d);
    domain_put(d);
    fake_run_until(fake_now + SEC);
    assert_true(exists(5));
    frame_put(f);
    fake_run_until(fake_now + SEC);
    assert_false(exists(5));
}

static void kill_is_preemptible(void **state)
{
    struct domain *d = start(5, 2);
    mfn_t m;
    unsigned n = 1;

    for (unsigned i = 0; i < 900; i++)
        assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    domain_pause_nosync(d);
    fake_settle();
    fake_preempt_every = 1;
    while (domain_kill(d) == -EAGAIN)
        assert_true(n++ < 1000);
    assert_true(n > 15); /* 900 frames, 64 at a time, and the other steps */
    fake_preempt_every = 0;
    domain_put(d);
    fake_run_until(fake_now + SEC);
    assert_false(exists(5));
}

static void what_cannot_be_killed(void **state)
{
    struct domain *d = start(5, 1);

    assert_int_equal(domain_kill(dom_io), -EINVAL);
    assert_int_equal(domain_kill(dom_idle), -EINVAL);
    fake_cpu = d->vcpu[0]->cpu;
    assert_int_equal(domain_kill(d), -EINVAL); /* itself */
    d->hardware = true;
    fake_cpu = !fake_cpu;
    assert_int_equal(domain_kill(d), -EINVAL);
    d->hardware = false;
    end(d);
}

static void a_dying_domain_gets_nothing(void **state)
{
    struct domain *d = start(5, 2);
    struct vcpu *v;
    port_t port;
    mfn_t m;

    kill(d);
    assert_int_equal(vcpu_create(d, 1, &v), -EINVAL);
    assert_true(evtchn_alloc_unbound(d, DID(0), &port) < 0);
    assert_true(frame_alloc_domain(d, 0, 64, 0, &m) < 0);
    assert_int_equal(domain_resume(d), -EINVAL);
    domain_shutdown(d, SHUTDOWN_poweroff);
    assert_false(d->shut_down);
    domain_put(d);
    fake_run_until(fake_now + SEC);
    assert_false(exists(5));
}

/* --- shutdown, crash, pauses
 * -------------------------------------------------------------------------------------------------- */

static long sched_op(struct vcpu *v, unsigned cmd, void *arg)
{
    long r = fake_hypercall(v, sched_ops, sched_op_count, 0, cmd, (uintptr_t)arg, 0, NULL);

    fake_settle();
    return r;
}

static void soft_reset(void **state)
{
    struct domain *d = start(5, 2);
    const struct guest_ops *ops = d->ops;
    port_t port;

    assert_int_equal(evtchn_alloc_unbound(d, DID(0), &port), 0);
    d->vcpu[0]->runstate_area.a = d->vcpu[1]->time_area.a = 0x1000;
    assert_int_equal(domain_soft_reset(d), -EINVAL); /* it runs */
    domain_shutdown(d, SHUTDOWN_soft_reset);
    fake_settle();
    assert_int_equal(domain_soft_reset(d), -EINVAL); /* not translated */
    d->ops = &fake_translated_ops;
    assert_int_equal(domain_soft_reset(d), 0);
    assert_int_equal(d->evtchn.active, d->evtchn.own);
    assert_int_equal(d->evtchn.close_next, 0);
    assert_true(!d->vcpu[0]->runstate_area.a && !d->vcpu[1]->time_area.a);
    assert_true(!d->shut_down && d->shutdown_code == 255);
    assert_int_equal(domain_soft_reset(d), -EINVAL);
    d->ops = ops;
    domain_room_check(d);
    end(d);
}

static void shutdown_and_resume(void **state)
{
    struct domain *d = start(5, 1);
    struct vcpu *v = d->vcpu[0];
    struct sched_shutdown a = {SHUTDOWN_suspend}, bad = {255};

    assert_true(v->running);
    fake_cpu = v->cpu;
    assert_int_equal(sched_op(v, SCHEDOP_shutdown, &bad), -EINVAL);
    assert_int_equal(sched_op(v, SCHEDOP_shutdown, NULL), -EFAULT);
    assert_int_equal(sched_op(v, SCHEDOP_shutdown, &a), 0);
    assert_true(d->shut_down && !v->running);
    assert_int_equal(d->shutdown_code, SHUTDOWN_suspend);
    domain_room_check(d);
    domain_shutdown(d, SHUTDOWN_crash); /* the first counts */
    assert_int_equal(d->shutdown_code, SHUTDOWN_suspend);
    assert_int_equal(domain_resume(d), 0);
    assert_int_equal(domain_resume(d), -EINVAL);
    fake_settle();
    assert_true(v->running);
    a.reason = SHUTDOWN_reboot;
    assert_int_equal(sched_op(v, SCHEDOP_shutdown_code, &a), 0);
    a.reason = SHUTDOWN_suspend;
    assert_int_equal(sched_op(v, SCHEDOP_shutdown_code, &a), 0); /* latched already */
    assert_int_equal(sched_op(v, SCHEDOP_shutdown_code, &bad), -EINVAL);
    domain_shutdown(d, SHUTDOWN_poweroff);
    assert_int_equal(d->shutdown_code, SHUTDOWN_reboot);
    fake_settle();
    end(d);
}

static void crash_under_locks(void **state)
{
    struct domain *d = start(5, 2);
    struct vcpu *v = d->vcpu[0];
    unsigned long flags;

    fake_cpu = v->cpu;
    spin_lock(&d->lock);
    spin_lock(&d->page_lock);
    flags = spin_lock_irq(&d->evtchn.lock);
    fake_log_lines = 0;
    domain_crash(d, "it did %s", "something");
    domain_crash(d, "and again");
    spin_unlock_irq(&d->evtchn.lock, flags);
    spin_unlock(&d->page_lock);
    spin_unlock(&d->lock);
    assert_int_equal(fake_log_lines, 1);
    assert_non_null(strstr(fake_last_log, "it did something"));
    assert_true(work_pending());
    fake_settle();
    assert_false(v->running);
    assert_true(d->shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_crash);
    domain_room_check(d);
    end(d);
}

static void hardware_domain_takes_the_machine_along(void **state)
{
    expect_panic("poweroff", hardware_domain_shutdown(SHUTDOWN_poweroff));
    expect_panic("restart", hardware_domain_shutdown(SHUTDOWN_reboot));
    expect_panic("restart", hardware_domain_shutdown(SHUTDOWN_crash));
    expect_panic("restart", hardware_domain_shutdown(SHUTDOWN_watchdog));
    expect_panic("restart", hardware_domain_shutdown(77));
}

static void pauses_nest(void **state)
{
    struct domain *d = start(5, 1);
    struct vcpu *v = d->vcpu[0];

    domain_pause_nosync(d);
    domain_pause_nosync(d);
    fake_settle();
    assert_false(v->running);
    assert_int_equal(v->runstate.state, RUNSTATE_offline);
    domain_unpause(d);
    fake_settle();
    assert_false(v->running);
    fake_cpu = 0;
    vcpu_pause(v);
    domain_unpause(d);
    fake_settle();
    assert_false(v->running);
    vcpu_unpause(v);
    fake_settle();
    assert_true(v->running);

    assert_int_equal(domain_controller_unpause(d), -EINVAL);
    domain_pause_nosync(d); /* one thread: off the CPU before anybody waits */
    fake_settle();
    for (unsigned i = 0; i < 255; i++)
        assert_int_equal(domain_controller_pause(d), 0);
    assert_int_equal(domain_controller_pause(d), -EOVERFLOW);
    for (unsigned i = 0; i < 255; i++)
        assert_int_equal(domain_controller_unpause(d), 0);
    domain_unpause(d);
    fake_settle();
    assert_true(v->running);
    end(d);
}

static void watchdogs(void **state)
{
    struct domain *d = start(5, 1);
    struct vcpu *v = d->vcpu[0];
    struct sched_watchdog w = {0, 5}, none = {0, 0}, odd = {3, 1};

    assert_int_equal(sched_op(v, SCHEDOP_watchdog, NULL), -EFAULT);
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &none), -EINVAL);
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &odd), -EINVAL);
    odd.id = 2;
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &odd), -EINVAL);
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &w), 1);
    w.timeout = ~0u;
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &w), 2);
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &w), -ENOSPC);
    w = (struct sched_watchdog){2, 0};
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &w), 0); /* stop */
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &w), -EINVAL);
    fake_run_until(fake_now + 3 * SEC);
    w = (struct sched_watchdog){1, 5};
    assert_int_equal(sched_op(v, SCHEDOP_watchdog, &w), 0); /* poke */
    fake_run_until(fake_now + 4 * SEC);
    assert_false(d->shut_down);
    fake_run_until(fake_now + 2 * SEC);
    assert_true(d->shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_watchdog);
    end(d);
}

static void remote_shutdown(void **state)
{
    struct domain *d = start(5, 1), *e = start(6, 1);
    struct sched_remote_shutdown a = {.domain_id = 6, .reason = SHUTDOWN_crash};
    struct vcpu *v = d->vcpu[0];

    assert_int_equal(sched_op(v, SCHEDOP_remote_shutdown, &a), -EPERM);
    assert_int_equal(sched_op(v, SCHEDOP_remote_shutdown, NULL), -EFAULT);
    d->privileged = true;
    a.domain_id = 77;
    assert_int_equal(sched_op(v, SCHEDOP_remote_shutdown, &a), -ESRCH);
    a.domain_id = DOMID_SELF;
    assert_int_equal(sched_op(v, SCHEDOP_remote_shutdown, &a), -EPERM);
    a.domain_id = 6;
    a.reason = 1000;
    assert_int_equal(sched_op(v, SCHEDOP_remote_shutdown, &a), -EINVAL);
    a.reason = SHUTDOWN_crash;
    assert_int_equal(sched_op(v, SCHEDOP_remote_shutdown, &a), 0);
    assert_true(e->shut_down);
    d->privileged = false;
    end(e);
    end(d);
}

/* --- VCPUOP_*
 * --------------------------------------------------------------------------------------------------------------------
 */

static long vcpu_op(struct vcpu *v, unsigned cmd, unsigned id, void *arg)
{
    long r;

    fake_cpu = v->cpu;
    r = fake_hypercall(v, vcpu_ops, vcpu_op_count, 0, cmd, id, (uintptr_t)arg, NULL);
    fake_settle();
    return r;
}

static void vcpus_come_and_go(void **state)
{
    struct domain *d = start(5, 2);
    struct vcpu *a = d->vcpu[0], *b = d->vcpu[1];
    char context[64] = {0};

    for (unsigned cmd = 0; cmd <= 13; cmd++)
        if (cmd != VCPUOP_get_physid)
            assert_int_equal(vcpu_op(a, cmd, 2, context), -ENOENT);
    assert_int_equal(vcpu_op(a, 99, 0, NULL), -ENOSYS);
    assert_int_equal(vcpu_op(a, VCPUOP_get_physid, 0, context), -EINVAL);
    assert_int_equal(vcpu_op(a, VCPUOP_up, 1, NULL), -EINVAL);
    assert_int_equal(vcpu_op(a, VCPUOP_initialise, 1, NULL), -EFAULT);
    assert_false(b->initialised);
    assert_int_equal(vcpu_op(a, VCPUOP_initialise, 1, context), 0);
    assert_int_equal(vcpu_op(a, VCPUOP_initialise, 1, context), -EEXIST);
    assert_int_equal(vcpu_op(a, VCPUOP_is_up, 1, NULL), 0);
    assert_int_equal(vcpu_op(a, VCPUOP_up, 1, NULL), 0);
    assert_int_equal(vcpu_op(a, VCPUOP_is_up, 1, NULL), 1);
    assert_true(a->running && b->running);
    assert_int_equal(vcpu_op(a, VCPUOP_send_nmi, 1, NULL), 0);
    assert_int_equal(vcpu_op(b, VCPUOP_down, 1, NULL), 0);
    assert_false(b->running);
    assert_int_equal(b->runstate.state, RUNSTATE_offline);
    assert_false(d->shut_down);
    assert_int_equal(vcpu_op(a, VCPUOP_down, 0, NULL), 0); /* the last one */
    assert_true(d->shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_poweroff);
    end(d);
}

static void vcpu_info_placement(void **state)
{
    struct domain *d = start(5, 40), *e = start(6, 1);
    struct vcpu *v = d->vcpu[0], *w = d->vcpu[39];
    struct vcpu_register_vcpu_info a = {0};
    struct vcpu_info *old = v->info, *at;
    mfn_t m, other;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    assert_int_equal(frame_alloc_domain(e, 0, 64, 0, &other), 0);
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, NULL), -EFAULT);
    a.mfn = other.n; /* not ours */
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL);
    a.mfn = 1ull << 50;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL);
    a.mfn = ~0ull;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL);
    a.mfn = m.n;
    a.offset = FRAME_SIZE - sizeof(struct vcpu_info) + 8;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL);
    a.offset = ~0u;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL);
    a.offset = 4;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -ENXIO);
    a.offset = 128;
    fake_set_page_table(m, true);
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL);
    fake_set_page_table(m, false);
    assert_int_equal(fake_pins(m, true), 0);

    old->arch.cr2 = 0x1234;
    old->evtchn_upcall_mask = 1;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), 0);
    at = (struct vcpu_info *)((char *)arch_frame_va(m) + 128);
    assert_ptr_equal(v->info, at);
    assert_int_equal(at->arch.cr2, 0x1234);
    assert_int_equal(at->evtchn_upcall_mask, 1);
    assert_int_equal(at->evtchn_upcall_pending, 1);
    assert_true(at->evtchn_pending_sel == ~0ul);
    assert_int_equal(fake_pins(m, true), 1);
    domain_room_check(d);
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 0, &a), -EINVAL); /* once */

    a.offset = 256;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 39, &a), 0); /* another, still down */
    assert_ptr_equal(w->info, (char *)arch_frame_va(m) + 256);
    d->vcpu[1]->pause_flags = VPF_BLOCKED; /* up */
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_info, 1, &a), -EINVAL);
    d->vcpu[1]->pause_flags = VPF_DOWN;
    end(d);
    end(e);
    assert_int_equal(fake_pins(m, true), 0);
}

static void areas(void **state)
{
    struct domain *d = start(5, 2);
    struct vcpu *v = d->vcpu[0];
    struct vcpu_register_runstate_memory_area r = {0};
    struct vcpu_register_time_memory_area t = {0};
    struct vcpu_runstate_info info = {.state = 77};
    static struct vcpu_time_info time;

    assert_int_equal(vcpu_op(v, VCPUOP_get_runstate_info, 0, NULL), -EFAULT);
    assert_int_equal(vcpu_op(v, VCPUOP_get_runstate_info, 0, &info), 0);
    assert_int_equal(info.state, RUNSTATE_running);
    assert_int_equal(vcpu_op(v, VCPUOP_get_runstate_info, 1, &info), 0);
    assert_int_equal(info.state, RUNSTATE_offline);
    assert_int_equal(vcpu_op(v, VCPUOP_register_runstate_memory_area, 0, NULL), -EFAULT);
    r.addr.p = 16;
    assert_int_equal(vcpu_op(v, VCPUOP_register_runstate_memory_area, 0, &r), -EFAULT);
    assert_int_equal(v->runstate_area.a, 0);
    r.addr.v = &info;
    info.state = 77;
    assert_int_equal(vcpu_op(v, VCPUOP_register_runstate_memory_area, 0, &r), 0);
    assert_int_equal(info.state, RUNSTATE_running);
    r.addr.p = 0;
    assert_int_equal(vcpu_op(v, VCPUOP_register_runstate_memory_area, 0, &r), 0);
    assert_int_equal(v->runstate_area.a, 0);
    t.addr.p = 16;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_time_memory_area, 0, &t), -EFAULT);
    t.addr.v = &time;
    assert_int_equal(vcpu_op(v, VCPUOP_register_vcpu_time_memory_area, 0, &t), 0);
    assert_int_equal(v->time_area.a, (uintptr_t)&time);
    end(d);
}

static unsigned timer_events(struct vcpu *v, bool clear)
{
    unsigned was = v->info->evtchn_upcall_pending;

    if (clear) {
        v->info->evtchn_upcall_pending = 0;
        v->info->evtchn_pending_sel = 0;
        memset(v->domain->shared_info->evtchn_pending, 0, sizeof(v->domain->shared_info->evtchn_pending));
    }
    return was;
}

static void timers_ring(void **state)
{
    struct domain *d = start(5, 2);
    struct vcpu *v = d->vcpu[0];
    struct vcpu_set_singleshot_timer s = {fake_now - 1, VCPU_SSHOTTMR_future};
    struct vcpu_set_periodic_timer p = {999999};
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER};
    struct hypercall hc = {.caller = v};

    fake_cpu = v->cpu;
    assert_int_equal(
        fake_hypercall(v, evtchn_ops, evtchn_op_count, 0, EVTCHNOP_bind_virq, (uintptr_t)&b, 0, NULL), 0);
    timer_events(v, true);
    assert_int_equal(vcpu_op(v, VCPUOP_set_singleshot_timer, 0, &s), -ETIME);
    assert_int_equal(vcpu_op(v, VCPUOP_set_singleshot_timer, 1, &s), -EINVAL);
    assert_int_equal(vcpu_op(v, VCPUOP_stop_singleshot_timer, 1, &s), -EINVAL);
    assert_int_equal(vcpu_op(v, VCPUOP_set_singleshot_timer, 0, NULL), -EFAULT);
    s = (struct vcpu_set_singleshot_timer){fake_now + MS(3), VCPU_SSHOTTMR_future};
    assert_int_equal(vcpu_op(v, VCPUOP_set_singleshot_timer, 0, &s), 0);
    fake_run_until(fake_now + MS(2));
    assert_int_equal(timer_events(v, true), 0);
    fake_run_until(fake_now + MS(2));
    assert_int_equal(timer_events(v, true), 1);
    s.timeout_abs_ns = fake_now + MS(3);
    assert_int_equal(vcpu_op(v, VCPUOP_set_singleshot_timer, 0, &s), 0);
    assert_int_equal(vcpu_op(v, VCPUOP_stop_singleshot_timer, 0, NULL), 0);
    fake_run_until(fake_now + MS(9));
    assert_int_equal(timer_events(v, true), 0);

    assert_int_equal(vcpu_op(v, VCPUOP_set_periodic_timer, 0, &p), -EINVAL);
    p.period_ns = ~0ull;
    assert_int_equal(vcpu_op(v, VCPUOP_set_periodic_timer, 0, &p), -EINVAL);
    assert_int_equal(vcpu_op(v, VCPUOP_set_periodic_timer, 0, NULL), -EFAULT);
    p.period_ns = MS(10);
    assert_int_equal(vcpu_op(v, VCPUOP_set_periodic_timer, 0, &p), 0);
    for (unsigned i = 0; i < 5; i++) {
        fake_run_until(fake_now + MS(10));
        assert_int_equal(timer_events(v, true), 1);
    }
    fake_cpu = v->cpu;
    vcpu_block(v);
    fake_settle();
    fake_run_until(fake_now + MS(50));
    assert_int_equal(timer_events(v, true), 0); /* blocked: not woken by it */
    assert_false(v->running);
    vcpu_unblock(v);
    fake_run_until(fake_now + MS(20));
    assert_int_equal(timer_events(v, true), 1);
    assert_int_equal(vcpu_op(v, VCPUOP_stop_periodic_timer, 0, NULL), 0);
    fake_run_until(fake_now + MS(50));
    assert_int_equal(timer_events(v, true), 0);

    hc.arg[0] = fake_now + MS(1);
    assert_int_equal(do_set_timer_op(&hc), 0);
    hc.arg[0] = 0;
    assert_int_equal(do_set_timer_op(&hc), 0);
    fake_run_until(fake_now + MS(5));
    assert_int_equal(timer_events(v, true), 0);
    hc.arg[0] = ~0ull; /* never: but a tick in 100 ms */
    assert_int_equal(do_set_timer_op(&hc), 0);
    fake_run_until(fake_now + MS(101));
    assert_int_equal(timer_events(v, true), 1);
    end(d);
}

static void assists(void **state)
{
    struct domain *d = start(5, 1);
    struct hypercall hc = {.caller = d->vcpu[0]};

    for (unsigned type = 0; type < 40; type++) {
        hc.arg[0] = VMASST_CMD_enable;
        hc.arg[1] = type;
        assert_int_equal(do_vm_assist(&hc), type <= 5 || type == 32 ? 0 : -EINVAL);
    }
    assert_int_equal(d->vm_assist, 0x10000003f);
    hc.arg[0] = VMASST_CMD_disable;
    hc.arg[1] = VMASST_TYPE_writable_pagetables;
    assert_int_equal(do_vm_assist(&hc), 0);
    assert_int_equal(d->vm_assist, 0x10000003b);
    hc.arg[0] = 2;
    assert_int_equal(do_vm_assist(&hc), -ENOSYS);
    hc.arg[1] = ~0ull;
    assert_int_equal(do_vm_assist(&hc), -EINVAL);
    end(d);
}

static void dump_is_safe(void **state)
{
    struct domain *d = start(5, 40);

    domain_dump();
    sched_dump();
    end(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(ids_are_unique_and_ordered),
        cmocka_unit_test(a_new_domain_is_complete_and_paused),
        cmocka_unit_test(creation_fails_cleanly),
        cmocka_unit_test(no_memory_lost),
        cmocka_unit_test(references_keep_a_zombie),
        cmocka_unit_test(frames_mapped_elsewhere_keep_a_zombie),
        cmocka_unit_test(shared_page_mapped_elsewhere),
        cmocka_unit_test(kill_is_preemptible),
        cmocka_unit_test(what_cannot_be_killed),
        cmocka_unit_test(a_dying_domain_gets_nothing),
        cmocka_unit_test(shutdown_and_resume),
        cmocka_unit_test(soft_reset),
        cmocka_unit_test(crash_under_locks),
        cmocka_unit_test(hardware_domain_takes_the_machine_along),
        cmocka_unit_test(pauses_nest),
        cmocka_unit_test(watchdogs),
        cmocka_unit_test(remote_shutdown),
        cmocka_unit_test(vcpus_come_and_go),
        cmocka_unit_test(vcpu_info_placement),
        cmocka_unit_test(areas),
        cmocka_unit_test(timers_ring),
        cmocka_unit_test(assists),
        cmocka_unit_test(dump_is_safe),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
