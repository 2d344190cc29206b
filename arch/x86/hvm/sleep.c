/*
 * Suspend to RAM of an HVM guest (ACPI S3), when its device model says so: HVM_PARAM_ACPI_S_STATE (xen/hvm/params.h).
 *
 *   awake --hvm_sleep(3): paused, power lost--> S3 --hvm_sleep(0): power lost, clocks from 0, WAK_STS, unpaused--> awake
 *
 * Processors and board lose their state as by RESET. Memory, grants, event channels and what the guest has registered with Krypton stay.
 * vCPU 0 begins at the reset vector, where firmware finds out by itself (CMOS, FACS) why; the others wait for INIT and STARTUP.
 *
 * Invariants
 *  1. In S3 the domain has one pause of this state's own: no toolstack's unpause runs a guest that has lost its registers.
 *  2. The parameter is 3 exactly while that pause is there; both change under d->lock, in the same step as the loss of state.
 *  3. A request that a device model has stays with it. It may call here before it answers the very write that asked for S3: the answer is
 *     waited for as always, also after the way out of S3, and then is for nobody (hvm_access_forget).
 *  4. What comes meanwhile (interrupts, NMIs, INITs, device models' events) does not outlive S3: a machine without power heard nothing.
 *     Event channels are no part of that machine: a vCPU hears of what is pending there.
 * Locks: d->lock; the pause is waited for without it.
 */
#include "private.h"
#include "dev/board.h"
#include "core/domain.h"
#include "core/sched.h"
#include <xen/hvm/params.h>

/* The last 64 KiB below 1 MiB, where a guest's firmware is; there is no memory in their image below 4 GiB. */
static const struct hvm_segment reset_code = {.sel = 0xf000, .attr = 0x9b, .limit = 0xffff, .base = 0xf0000};

static void vcpu_power_lost(struct vcpu *v)
{
    bool first = !v->id;

    hvm_vcpu_reset(v);
    hvm_ops->set_segment(v, HVM_CS, &reset_code);
    hvm_set(v, HVM_RIP, 0xfff0);
    v->initialised = first;
    if (first)
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_or(&v->pause_flags, VPF_DOWN, __ATOMIC_SEQ_CST);
    vcpu_unblock(v);
    vcpu_sleep_nosync(v); /* how it rests has changed */
}

static void power_lost(struct domain *d)
{
    hvm_board_power_lost(d);
    for_each_vcpu(d, v)
    {
        vcpu_power_lost(v);
    }
}

static bool asleep(const struct domain *d)
{
    return hvm_domain(d)->param[HVM_PARAM_ACPI_S_STATE] == HVM_S3;
}

static int may_sleep(const struct domain *d)
{
    const struct vcpu *first = domain_vcpu(d, 0);

    if (!hvm_domain(d)->board)
        return -EOPNOTSUPP; /* no firmware that would wake it */
    return domain_is_dying(d) || !first || !first->initialised ? -EINVAL : 0;
}

static int go_to_sleep(struct domain *d)
{
    bool goes;
    int r;

    domain_pause(d);
    spin_lock(&d->lock);
    r = may_sleep(d);
    goes = !r && !asleep(d);
    if (goes) {
        power_lost(d);
        hvm_domain(d)->param[HVM_PARAM_ACPI_S_STATE] = HVM_S3;
    }
    spin_unlock(&d->lock);
    if (!goes)
        domain_unpause(d);
    return r;
}

static void power_back(struct domain *d)
{
    power_lost(d);
    hvm_set_tsc(domain_vcpu(d, 0), 0);
    for_each_vcpu(d, v)
    {
        hvm_join_tsc(v);
    }
    hvm_board_woken(d);
    hvm_domain(d)->param[HVM_PARAM_ACPI_S_STATE] = 0;
}

static int wake_up(struct domain *d)
{
    bool wakes;
    int r;

    spin_lock(&d->lock);
    r = domain_is_dying(d) ? -EINVAL : 0;
    wakes = !r && asleep(d);
    if (wakes)
        power_back(d);
    spin_unlock(&d->lock);
    if (wakes)
        domain_unpause(d);
    return r;
}

int hvm_sleep(struct domain *d, uint64_t state)
{
    return state == HVM_S3 ? go_to_sleep(d) : wake_up(d);
}
