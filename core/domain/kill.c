/*
 * The end of a domain: domain_kill() goes through the steps below, each bounded; it is called again after
 * -EAGAIN and goes on where it stopped (release_step). What others still hold of the domain (references, its
 * frames mapped elsewhere) keeps it as a zombie: dead, without vCPUs that could run, but found by its id. The
 * reaper, a timer, frees it when the last of that has gone.
 *
 *   DOM_ALIVE --domain_kill--> DOM_DYING: steps pause, timers, events, grants, vcpu info, arch, frames
 *             --last step--> DOM_DEAD --domain_reap: refs == 1, no frames--> freed
 *
 * Invariants
 *  1. Once dying, the domain has one pause that nobody takes away: its vCPUs never run again.
 *  2. Steps are walked in order and never back; each leaves nothing of its kind and, because the rooms refuse
 * a dying domain, nothing of it comes again.
 *  3. The reaper frees only what nobody can reach: no reference but the publication's, no frame owned.
 *
 * Locks: d->lock around each step, so that two callers do not walk it at once; the waiting for CPUs is
 * outside.
 */
#include "private.h"
#include "core/frame.h"
#include "core/grant.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/time.h"

#define FRAMES_PER_STEP 64
#define REAP_FIRST_NS   1000000ull
#define REAP_MOST_NS    128000000ull

/* Watchdogs take d->lock, so this happens without it. */
static void kill_timers(struct domain *d)
{
    for (unsigned i = 0; i < DOMAIN_WATCHDOGS; i++)
        timer_kill(&d->watchdog[i]);
    for_each_vcpu(d, v)
    {
        timer_kill(&v->periodic);
        timer_kill(&v->singleshot);
        timer_kill(&v->poll);
    }
}

static int release_vcpu_info(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        vcpu_info_release(v);
    }
    return 0;
}

static int release_frames(struct domain *d)
{
    while (frame_domain_release(d, FRAMES_PER_STEP) == -EAGAIN)
        if (preempt_needed())
            return -EAGAIN;
    return 0;
}

static int finish(struct domain *d)
{
    __atomic_store_n(&d->dying, DOM_DEAD, __ATOMIC_RELEASE);
    d->reap_since = arch_time_ns();
    timer_set(&d->reap, d->reap_since + REAP_FIRST_NS);
    return 0;
}

static int (*const steps[])(struct domain *d) = {
    evtchn_domain_close, grant_domain_release_mappings,
    release_vcpu_info,   arch_domain_release,
    release_frames,      finish,
};

static void begin(struct domain *d)
{
    bool first;

    spin_lock(&d->lock);
    first = d->dying == DOM_ALIVE;
    if (first)
        __atomic_store_n(&d->dying, DOM_DYING, __ATOMIC_SEQ_CST);
    spin_unlock(&d->lock);
    if (first)
        domain_pause_nosync(d);
    /* Every caller waits: after this no step meets a vCPU that is still on a CPU. */
    for_each_vcpu(d, v)
    {
        vcpu_sleep_sync(v);
    }
    kill_timers(d);
    sched_domain_retire(d);
}

int domain_kill(struct domain *d)
{
    int r = 0;

    if (d->system || d->hardware || arch_current()->domain == d)
        return -EINVAL;
    if (__atomic_load_n(&d->dying, __ATOMIC_ACQUIRE) == DOM_DEAD)
        return 0;
    begin(d);
    spin_lock(&d->lock);
    while (!r && d->release_step < ARRAY_SIZE(steps)) {
        r = steps[d->release_step](d);
        if (!r)
            d->release_step++;
        if (!r && d->release_step < ARRAY_SIZE(steps) && preempt_needed())
            r = -EAGAIN;
    }
    spin_unlock(&d->lock);
    if (!r)
        evtchn_virq_dom0(VIRQ_DOM_EXC);
    return r;
}

/* Nobody else has a frame of d. The shared page itself stays until d cannot be found any more. */
static bool memory_gone(struct domain *d)
{
    if (!grant_domain_release_table(d))
        return false;
    if (!d->shared_info_private)
        d->shared_info_private = frame_unshare(d->shared_info_mfn);
    return d->shared_info_private && !__atomic_load_n(&d->frames, __ATOMIC_RELAXED);
}

void domain_reap(void *data)
{
    struct domain *d = data;
    uint64_t now = arch_time_ns();

    ASSERT(d->dying == DOM_DEAD);
    if (!memory_gone(d) || !domain_unpublish(d, 1)) {
        timer_set(&d->reap, now + MIN(MAX(now - d->reap_since, REAP_FIRST_NS), REAP_MOST_NS));
        return;
    }
    frame_free(d->shared_info_mfn, 0);
    log_debug("d%u is gone", d->id.v);
    domain_free_all(d);
    evtchn_virq_dom0(VIRQ_DOM_EXC);
}
