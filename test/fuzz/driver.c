/* From bytes to steps: the input's decoder, faults, hypercalls until they are done, checks after each step. */
#include "fuzz.h"
#include "snapshot.h"
#include "core/evtchn.h"
#include "core/grant.h"
#include "core/lock.h"
#include "core/sched.h"
#include "core/timer.h"
#include "x86/p2m.h"
#include "x86/pv.h"
#include "../../arch/x86/platform/private.h"

#include <setjmp.h>
#include <string.h>

#define STEPS_MAX 64
#define AGAIN_MAX 20000

/* --- numbers --- */

uint8_t in_u8(struct in *in)
{
    return in->p < in->end ? *in->p++ : 0;
}
uint16_t in_u16(struct in *in)
{
    uint16_t low = in_u8(in);

    return (uint16_t)(low | in_u8(in) << 8);
}
uint32_t in_u32(struct in *in)
{
    uint32_t low = in_u16(in);

    return low | (uint32_t)in_u16(in) << 16;
}
uint64_t in_u64(struct in *in)
{
    uint64_t low = in_u32(in);

    return low | (uint64_t)in_u32(in) << 32;
}
unsigned in_below(struct in *in, unsigned n)
{
    return in_u8(in) % n;
}
uint64_t in_number(struct in *in)
{
    uint8_t b = in_u8(in);

    switch (b >> 6) {
    case 0:
    case 1:
        return b & 0x7f;
    case 2:
        return (1ull << (b & 63)) - 1 + in_below(in, 3);
    default:
        return b & 1 ? in_u64(in) : in_u16(in);
    }
}

/* --- hypercalls --- */

static struct hypercall unfinished[FUZZ_GUESTS]
                                  [FUZZ_VCPUS]; /* what the vCPU "calls again" when it next runs */
static bool leave_unfinished;

static void hypercall_left(const struct vcpu *v)
{
    lock_assert_none();
    if (fake_irqs_off[fake_cpu])
        panic("a hypercall of d%u left interrupts off", v->domain->id.v);
}

static long run(struct vcpu *v, struct hypercall *hc)
{
    long r;

    for (unsigned n = 0;; n++) {
        r = hypercall_dispatch(hc);
        hypercall_left(v);
        if (r != HC_AGAIN)
            return r;
        fake_settle();
        if (leave_unfinished || fake_current[fake_cpu] != v)
            break;
        if (n > AGAIN_MAX)
            panic("hypercall %lu never ends", hc->nr);
    }
    unfinished[v->domain->id.v][v->id] = *hc;
    return r;
}

long call(struct step *s, unsigned nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)
{
    struct hypercall hc = {.caller = s->v, .nr = nr, .arg = {a0, a1, a2, a3}};

    if (fake_current[fake_cpu] != s->v)
        return HC_AGAIN;
    return run(s->v, &hc);
}

/* --- the end of the machine --- */

static jmp_buf ended;
static bool may_end;

void machine_ended(const char *how)
{
    struct vcpu *v = fake_current[fake_cpu];

    if (!may_end || v->idle || !v->domain->privileged)
        panic("d%u: the machine was %s", v->domain->id.v, how);
    longjmp(ended, 1);
}

/* --- what a vCPU left --- */

/* Its arguments lie in memory that was used for others since: it may do anything now, so the control domain's list of calls
 * that may end the machine does not go on. */
static void go_on(struct step *s)
{
    struct hypercall *u = &unfinished[s->v->domain->id.v][s->v->id], hc = *u;

    u->caller = NULL;
    if (hc.nr == __HYPERVISOR_multicall && s->g == &guests[0])
        return;
    if (hc.nr == __HYPERVISOR_multicall || hc.nr == __HYPERVISOR_mmu_update ||
        hc.nr == __HYPERVISOR_mmuext_op)
        guest_scribbled = true;
    if (hc.nr == __HYPERVISOR_domctl)
        written_forget();
    (void)run(s->v, &hc);
}

/* --- steps --- */

/* The vCPU that the byte names if it runs, else the next one that does. */
static struct vcpu *actor(unsigned b)
{
    for (unsigned i = 0; i < FUZZ_GUESTS * FUZZ_VCPUS; i++) {
        unsigned n = (b + i) % (FUZZ_GUESTS * FUZZ_VCPUS);
        struct domain *d = guests[n / FUZZ_VCPUS].d;
        struct vcpu *v = d ? domain_vcpu(d, n % FUZZ_VCPUS) : NULL;

        for_each_cpu(c, &cpus_online) if (v && fake_current[c] == v)
        {
            fake_cpu = c;
            return v;
        }
    }
    return NULL;
}

static void fault_set(uint8_t f)
{
    unsigned n = 1 + (f >> 4);

    switch (f & 15) {
    case 1:
        fake_fail_alloc = n;
        break;
    case 2:
        fake_fail_mem = n;
        break;
    case 3:
        fuzz_fail_copy = n;
        break;
    case 4:
        fake_preempt_every = n;
        break;
    case 5:
        fuzz_flip_copy = n;
        break;
    case 6:
        fake_preempt_every = n;
        leave_unfinished = true;
        break;
    }
}

static void fault_clear(void)
{
    fake_fail_alloc = fake_fail_mem = fake_preempt_every = fuzz_fail_copy = fuzz_flip_copy = 0;
    leave_unfinished = false;
}

static const struct fuzz_op *pick_op(struct in *in)
{
    unsigned total = 0, n;

    for (unsigned i = 0; fuzz_target.group[i]; i++)
        total += fuzz_target.group[i]->count;
    n = in_below(in, total);
    for (unsigned i = 0; fuzz_target.group[i]; i++) {
        if (n < fuzz_target.group[i]->count)
            return &fuzz_target.group[i]->op[n];
        n -= fuzz_target.group[i]->count;
    }
    return NULL;
}

static bool step(struct in *in)
{
    uint8_t who = in_u8(in), fault = in_u8(in);
    const struct fuzz_op *op = pick_op(in);
    struct step s = {.in = in, .v = actor(who & 7)};

    if (!s.v)
        return false;
    s.g = &guests[s.v->domain->id.v];
    log_debug("-- d%uv%u %s fault %#x", s.v->domain->id.v, s.v->id, op->name, fault);
    fault_set(fault);
    if (device_busy(s.v))
        device_go_on(s.v);
    else if (who & 0x80 && unfinished[s.v->domain->id.v][s.v->id].caller)
        go_on(&s);
    else
        op->fn(&s);
    fault_clear();
    fake_settle();
    world_forget_gone();
    fuzz_checks(fuzz_target.checks);
    return true;
}

void fuzz_run(const uint8_t *data, size_t size)
{
    struct in in = {data, data + size};

    may_end = true;
    if (setjmp(ended))
        return; /* in the middle of something: nothing to be checked any more */
    for (unsigned n = 0; n < STEPS_MAX && in.end - in.p >= 3; n++)
        if (!step(&in))
            break;
    fuzz_checks(CHECK_ALL);
}

void fuzz_checks(unsigned checks)
{
    bool evtchn = checks & CHECK_EVTCHN, dom = checks & CHECK_DOMAIN, grant = checks & CHECK_GRANT;

    tlb_model_check();
    for_each_domain(d)
    {
        if (checks & CHECK_MMU)
            pv_mmu_room_check(d);
        if (checks & CHECK_MEMORY)
            frame_domain_check(d);
        if (grant)
            grant_room_check(d);
        if (evtchn)
            evtchn_room_check(d);
        if (dom)
            domain_room_check(d);
        if (checks & CHECK_P2M) {
            p2m_room_check(d);
            device_check(d);
        }
    }
    if (checks & CHECK_MMU)
        model_mmu_check();
    if (grant)
        model_grant_check(guest_scribbled);
    if (evtchn)
        model_evtchn_check();
    if (checks & CHECK_IRQ)
        irq_room_check();
    if (checks & CHECK_SCHED) {
        sched_room_check();
        timer_room_check();
    }
    if (checks & CHECK_MEMORY) {
        frame_room_check();
        mem_room_check();
    }
}
