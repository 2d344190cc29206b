/* Looking at domains: the room's invariants (domain.c, life.c, kill.c, vcpu_area.c) and debug key 'q'. No
 * locks needed. */
#include "private.h"
#include "core/console.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "arch/time.h"

static void check_vcpu(const struct domain *d, const struct vcpu *v, unsigned id)
{
    BUG_ON(v->id != id || v->domain != d || v->idle != (d == dom_idle));
    if (d->system)
        return;
    BUG_ON(!v->info);
    if (!mfn_eq(v->info_mfn, INVALID_MFN))
        BUG_ON(!mfn_eq(arch_va_mfn(v->info), v->info_mfn) ||
               !(mfn_frame(v->info_mfn)->count & FRAME_REF_MASK));
    else
        BUG_ON(v->info != vcpu_info_default(v));
    BUG_ON(domain_is_dying(d) && v->running && !(v->pause_count | d->pause_count));
}

void domain_room_check(const struct domain *d)
{
    BUG_ON(!d->refs);
    BUG_ON(d->dying > DOM_DEAD);
    BUG_ON(d->shut_down && !d->shutting_down);
    BUG_ON(d->shutting_down && d->shutdown_code == SHUTDOWN_CODE_NONE);
    BUG_ON(d->pause_count < d->controller_pauses + d->shut_down);
    if (!d->system) {
        BUG_ON(!d->ops || !d->shared_info);
        BUG_ON(!mfn_eq(arch_va_mfn(d->shared_info), d->shared_info_mfn));
    }
    for (unsigned i = 0; i < d->max_vcpus; i++) {
        const struct vcpu *v = domain_vcpu(d, i);

        if (v)
            check_vcpu(d, v, i);
    }
}

static void dump_vcpu(struct vcpu *v)
{
    uint64_t us = sched_vcpu_time(v) / 1000;

    console_printf("  vCPU %u: CPU %u%s flags %s%s%s%s pauses %u  ran %llu.%06llu s\n", v->id, v->cpu,
                   v->running ? " running" : "", v->pause_flags & VPF_BLOCKED ? "b" : "-",
                   v->pause_flags & VPF_DOWN ? "d" : "-", v->pause_flags & VPF_POLLING ? "p" : "-",
                   v->pause_flags & VPF_BROKEN ? "x" : "-", v->pause_count, (unsigned long long)us / 1000000,
                   (unsigned long long)us % 1000000);
    if (v->info)
        console_printf(
            "          upcall pending %u mask %u sel %#lx  info %s  singleshot %+lld us\n",
            v->info->evtchn_upcall_pending, v->info->evtchn_upcall_mask, v->info->evtchn_pending_sel,
            mfn_eq(v->info_mfn, INVALID_MFN) ? "shared" : "registered",
            v->singleshot.queued ? (long long)(v->singleshot.deadline - arch_time_ns()) / 1000 : 0ll);
}

void domain_dump(void)
{
    for_each_held_domain(d)
    {
        console_printf("d%u: %s%s%s refs %u pauses %u (%u by tools) dying %u step %u shutdown %s code %u\n",
                       d->id.v, d->ops->name, d->privileged ? " privileged" : "",
                       d->hardware ? " hardware" : "", d->refs - 1, d->pause_count, d->controller_pauses,
                       d->dying, d->release_step,
                       d->shut_down       ? "yes"
                       : d->shutting_down ? "begun"
                                          : "no",
                       d->shutdown_code);
        console_printf("    frames %llu of %llu, special %llu, weight %u cap %u%%\n",
                       (unsigned long long)d->frames, (unsigned long long)d->max_frames,
                       (unsigned long long)d->special_frames, d->sched_weight, d->sched_cap);
        for_each_vcpu(d, v)
        {
            dump_vcpu(v);
        }
    }
}
