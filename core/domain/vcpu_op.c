/*
 * VCPUOP_* (xen/vcpu.h) and set_timer_op: what a guest does with its vCPUs and their timers. The memory areas
 * that a vCPU registers are vcpu_area.c's.
 *
 * arg: 0 command, 1 vCPU id, 2 pointer. All act on the caller's own domain.
 *
 * Invariants
 *  1. A vCPU is initialised at most once (v->initialised, domain lock) and comes up only after that.
 *  2. Single-shot and periodic timers ring VIRQ_TIMER and nothing else; they move to the CPU on which they
 * are set.
 *
 * Locks: d->lock for initialise, up, down.
 */
#include "private.h"
#include "core/guest.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/time.h"
#include "vcpu_area.h"

#define PERIOD_MIN_NS 1000000ull
#define NS_MAX        (1ull << 62) /* beyond: a century; guests that mean "never" */

static struct vcpu *target(const struct hypercall *hc)
{
    return domain_vcpu(hc->caller->domain, hc_u32(hc, 1));
}

/* --- life
 * -------------------------------------------------------------------------------------------------------------
 */

static long op_initialise(struct hypercall *hc)
{
    struct vcpu *v = target(hc);
    bool online; /* VCPUOP_up says so here */
    int r;

    if (!v)
        return -ENOENT;
    spin_lock(&v->domain->lock);
    r = v->initialised ? -EEXIST : arch_vcpu_initialise(v, hc->caller, GVA(hc->arg[2]), &online);
    if (!r)
        v->initialised = true;
    spin_unlock(&v->domain->lock);
    return r == -EAGAIN ? HC_AGAIN : r;
}

static long op_up(struct hypercall *hc)
{
    struct vcpu *v = target(hc);
    bool ok;

    if (!v)
        return -ENOENT;
    spin_lock(&v->domain->lock);
    ok = v->initialised;
    if (ok)
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
    spin_unlock(&v->domain->lock);
    if (!ok)
        return -EINVAL;
    vcpu_wake(v);
    return 0;
}

void vcpu_go_down(struct vcpu *v)
{
    struct domain *d = v->domain;
    bool others = false;

    spin_lock(&d->lock);
    for_each_vcpu(d, o)
    {
        if (o != v && !(__atomic_load_n(&o->pause_flags, __ATOMIC_RELAXED) & VPF_DOWN))
            others = true;
    }
    if (others)
        __atomic_fetch_or(&v->pause_flags, VPF_DOWN, __ATOMIC_SEQ_CST);
    spin_unlock(&d->lock);
    if (others)
        vcpu_sleep_nosync(v);
    else
        domain_shutdown(d, SHUTDOWN_poweroff);
}

static long op_down(struct hypercall *hc)
{
    struct vcpu *v = target(hc);

    if (!v)
        return -ENOENT;
    vcpu_go_down(v);
    return 0;
}

static long op_is_up(struct hypercall *hc)
{
    struct vcpu *v = target(hc);

    if (!v)
        return -ENOENT;
    return !(__atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED) & VPF_DOWN);
}

static long op_send_nmi(struct hypercall *hc)
{
    struct vcpu *v = target(hc);

    return v ? arch_vcpu_nmi(v) : -ENOENT;
}

static long op_get_runstate(struct hypercall *hc)
{
    struct vcpu *v = target(hc);
    struct vcpu_runstate_info info = {0};

    if (!v)
        return -ENOENT;
    sched_runstate(v, &info);
    return guest_write(hc->caller, GVA(hc->arg[2]), &info, sizeof(info));
}

/* --- timers
 * -----------------------------------------------------------------------------------------------------------
 */

void vcpu_singleshot_fire(void *data)
{
    evtchn_virq(data, VIRQ_TIMER);
}

/* A tick that a blocked vCPU would sleep through is not delivered: it asked for no wake-up. */
void vcpu_periodic_fire(void *data)
{
    struct vcpu *v = data;
    uint64_t period = __atomic_load_n(&v->period_ns, __ATOMIC_RELAXED), now = arch_time_ns();
    uint64_t next = __atomic_load_n(&v->periodic.deadline, __ATOMIC_RELAXED) +
                    period; /* or of who set it anew meanwhile */

    if (!period)
        return;
    if (!(__atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED) & (VPF_BLOCKED | VPF_DOWN)))
        evtchn_virq(v, VIRQ_TIMER);
    timer_set(&v->periodic, next > now ? next : now + period);
}

static long op_set_periodic(struct hypercall *hc)
{
    struct vcpu *v = target(hc);
    struct vcpu_set_periodic_timer a;

    if (!v)
        return -ENOENT;
    if (guest_read(hc->caller, &a, GVA(hc->arg[2]), sizeof(a)))
        return -EFAULT;
    if (a.period_ns < PERIOD_MIN_NS || a.period_ns > NS_MAX)
        return -EINVAL;
    __atomic_store_n(&v->period_ns, a.period_ns, __ATOMIC_RELAXED);
    timer_migrate(&v->periodic, arch_cpu_id());
    timer_set(&v->periodic, arch_time_ns() + a.period_ns);
    return 0;
}

static long op_stop_periodic(struct hypercall *hc)
{
    struct vcpu *v = target(hc);

    if (!v)
        return -ENOENT;
    __atomic_store_n(&v->period_ns, 0, __ATOMIC_RELAXED);
    timer_stop(&v->periodic);
    return 0;
}

static void set_singleshot(struct vcpu *v, uint64_t deadline)
{
    timer_migrate(&v->singleshot, arch_cpu_id());
    timer_set(&v->singleshot, deadline);
}

static long op_set_singleshot(struct hypercall *hc)
{
    struct vcpu *v = target(hc);
    struct vcpu_set_singleshot_timer a;

    if (!v)
        return -ENOENT;
    if (v != hc->caller)
        return -EINVAL;
    if (guest_read(hc->caller, &a, GVA(hc->arg[2]), sizeof(a)))
        return -EFAULT;
    if ((a.flags & VCPU_SSHOTTMR_future) && a.timeout_abs_ns < arch_time_ns())
        return -ETIME;
    set_singleshot(v, a.timeout_abs_ns);
    return 0;
}

static long op_stop_singleshot(struct hypercall *hc)
{
    struct vcpu *v = target(hc);

    if (!v)
        return -ENOENT;
    if (v != hc->caller)
        return -EINVAL;
    timer_stop(&v->singleshot);
    return 0;
}

/*
 * A time that no clock reaches is an old kernel's idea of "none pending, but wake me now and then"; it must
 * not get lost, as such a kernel's time stands still then: it gets a tick in 100 ms.
 */
long do_set_timer_op(struct hypercall *hc)
{
    uint64_t deadline = hc->arg[0];

    if (!deadline)
        timer_stop(&hc->caller->singleshot);
    else
        set_singleshot(hc->caller, deadline < NS_MAX ? deadline : arch_time_ns() + 100000000ull);
    return 0;
}

void vcpu_poll_fire(void *data)
{
    struct vcpu *v = data;

    if (__atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED) & VPF_POLLING)
        vcpu_unblock(v);
}

/* --- table
 * ------------------------------------------------------------------------------------------------------------
 */

const struct hc_op vcpu_ops[] = {
    {VCPUOP_initialise, PERM_ANY, "VCPUOP_initialise", op_initialise},
    {VCPUOP_up, PERM_ANY, "VCPUOP_up", op_up},
    {VCPUOP_down, PERM_ANY, "VCPUOP_down", op_down},
    {VCPUOP_is_up, PERM_ANY, "VCPUOP_is_up", op_is_up},
    {VCPUOP_get_runstate_info, PERM_ANY, "VCPUOP_get_runstate_info", op_get_runstate},
    {VCPUOP_register_runstate_memory_area, PERM_ANY, "VCPUOP_register_runstate_memory_area",
     vcpu_op_runstate_area},
    {VCPUOP_set_periodic_timer, PERM_ANY, "VCPUOP_set_periodic_timer", op_set_periodic, 0,
     "periods from 1 ms; does not wake a blocked vCPU"},
    {VCPUOP_stop_periodic_timer, PERM_ANY, "VCPUOP_stop_periodic_timer", op_stop_periodic},
    {VCPUOP_set_singleshot_timer, PERM_ANY, "VCPUOP_set_singleshot_timer", op_set_singleshot, 0,
     "the caller's own"},
    {VCPUOP_stop_singleshot_timer, PERM_ANY, "VCPUOP_stop_singleshot_timer", op_stop_singleshot, 0,
     "the caller's own"},
    {VCPUOP_register_vcpu_info, PERM_ANY, "VCPUOP_register_vcpu_info", vcpu_op_vcpu_info},
    {VCPUOP_send_nmi, PERM_ANY, "VCPUOP_send_nmi", op_send_nmi},
    {VCPUOP_get_physid, PERM_ANY, "VCPUOP_get_physid", NULL, EINVAL,
     "as for a vCPU that is not pinned: physical ids are not shown"},
    {VCPUOP_register_vcpu_time_memory_area, PERM_ANY, "VCPUOP_register_vcpu_time_memory_area",
     vcpu_op_time_area},
#ifdef VCPUOP_register_runstate_phys_area
    {VCPUOP_register_runstate_phys_area, PERM_ANY, "VCPUOP_register_runstate_phys_area", NULL, ENOSYS,
     "not offered in the feature bits"},
    {VCPUOP_register_vcpu_time_phys_area, PERM_ANY, "VCPUOP_register_vcpu_time_phys_area", NULL, ENOSYS,
     "not offered in the feature bits"},
#endif
};
const unsigned vcpu_op_count = ARRAY_SIZE(vcpu_ops);
