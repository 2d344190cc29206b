/* Scheduling, vCPUs, timers. The clock moves here and nowhere else. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/evtchn.h"
#include "core/sched.h"

#include <string.h>

static long sched(struct step *s, unsigned cmd, void *arg)
{
    return call_n(s, __HYPERVISOR_sched_op, cmd, arg, 0, 0);
}

static void op_yield(struct step *s)
{
    (void)sched(s, SCHEDOP_yield, NULL);
}

static void op_block(struct step *s)
{
    (void)sched(s, SCHEDOP_block, NULL);
}

static void op_poll(struct step *s)
{
    struct sched_poll *a = arg_alloc(sizeof(*a));
    evtchn_port_t *port = arg_alloc(4 * sizeof(*port));

    for (unsigned i = 0; i < 4; i++)
        port[i] = pick_port(s);
    memset(a, 0, sizeof(*a));
    a->nr_ports = in_u8(s->in) < 240 ? in_u8(s->in) % 5u : (unsigned)in_number(s->in);
    a->ports.p = port;
    a->timeout = in_u8(s->in) & 1 ? 0 : fake_now + in_u32(s->in);
    (void)sched(s, SCHEDOP_poll, a);
}

static void op_time(struct step *s)
{
    fake_run_until(fake_now + 1 + in_u32(s->in) % 200000000u);
}

static void op_wake(struct step *s)
{
    struct domain *d = guests[in_below(s->in, FUZZ_GUESTS)].d;
    struct vcpu *v = domain_vcpu(d, in_below(s->in, FUZZ_VCPUS));

    if (v)
        vcpu_unblock(v);
}

static void op_timer(struct step *s)
{
    struct vcpu_set_periodic_timer *p = arg_alloc(sizeof(*p));
    struct vcpu_set_singleshot_timer *one = arg_alloc(sizeof(*one));
    uint8_t b = in_u8(s->in);

    p->period_ns = in_u8(s->in) & 1 ? 1000000 + in_u32(s->in) : in_number(s->in);
    one->timeout_abs_ns = fake_now + in_u32(s->in);
    one->flags = b & 4 ? VCPU_SSHOTTMR_future : 0;
    switch (b & 3) {
    case 0:
        (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_set_periodic_timer, in_u8(s->in) % 3, p, 0);
        break;
    case 1:
        (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, in_u8(s->in) % 3, one, 0);
        break;
    case 2:
        (void)call_n(s, __HYPERVISOR_vcpu_op,
                     b & 4 ? VCPUOP_stop_periodic_timer : VCPUOP_stop_singleshot_timer, in_u8(s->in) % 3, 0,
                     0);
        break;
    default:
        (void)call_n(s, __HYPERVISOR_set_timer_op, b & 4 ? 0 : fake_now + in_u32(s->in), 0, 0, 0);
    }
}

static void op_vcpu(struct step *s)
{
    static const uint8_t cmd[] = {VCPUOP_up,         VCPUOP_down,    VCPUOP_is_up, VCPUOP_get_runstate_info,
                                  VCPUOP_get_physid, VCPUOP_send_nmi};
    uint8_t b = in_u8(s->in);

    if (s->g == &guests[0] && cmd[b % sizeof(cmd)] == VCPUOP_down)
        return;
    (void)call_n(s, __HYPERVISOR_vcpu_op, cmd[b % sizeof(cmd)], in_u8(s->in) & 7 ? b & 1 : in_number(s->in),
                 arg_alloc(64), 0);
}

static void op_register(struct step *s)
{
    struct vcpu_register_vcpu_info *a = arg_alloc(64);
    unsigned id = in_u8(s->in) % 3u;

    switch (in_u8(s->in) & 3) {
    case 0:
        *a = (struct vcpu_register_vcpu_info){
            .mfn = pick_frame(s), .offset = in_u8(s->in) < 240 ? in_u8(s->in) * 64u % 4096 : in_u32(s->in)};
        may_write(a->mfn);
        (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, id, a, 0);
        break;
    case 1:
        *(uint64_t *)a = pick_pointer(s, 48);
        (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_register_runstate_memory_area, id, a, 0);
        break;
    default:
        *(uint64_t *)a = pick_pointer(s, 48);
        (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_time_memory_area, id, a, 0);
    }
}

static void op_watchdog(struct step *s)
{
    struct sched_watchdog *a = arg_alloc(sizeof(*a));

    if (s->g == &guests[0])
        return; /* the machine would restart */
    *a = (struct sched_watchdog){.id = in_u8(s->in) % 4u, .timeout = in_u8(s->in) % 20u};
    (void)sched(s, SCHEDOP_watchdog, a);
}

static void op_assist(struct step *s)
{
    (void)call_n(s, __HYPERVISOR_vm_assist, in_u8(s->in) % 3, in_u8(s->in) % 34, 0, 0);
}

static void op_affinity(struct step *s)
{
    struct sched_pin_override *a = arg_alloc(sizeof(*a));
    struct cpumask hard = {{in_u8(s->in)}}, soft = {{in_u8(s->in)}};
    struct vcpu *v = domain_vcpu(guests[in_below(s->in, FUZZ_GUESTS)].d, in_below(s->in, FUZZ_VCPUS));

    a->pcpu = (int8_t)in_u8(s->in) % 4;
    if (in_u8(s->in) & 1 || !v)
        (void)sched(s, SCHEDOP_pin_override, a);
    else if (sched_set_affinity(v, &hard, &soft))
        return;
}

static void op_params(struct step *s)
{
    uint32_t weight = in_u16(s->in), cap = in_u8(s->in);
    struct domain *d = guests[in_below(s->in, FUZZ_GUESTS)].d;

    if (sched_set_params(d, weight, cap))
        return;
}

static const struct fuzz_op op[] = {
    {"yield", op_yield},       {"block", op_block},       {"poll", op_poll},     {"time", op_time},
    {"time", op_time},         {"wake", op_wake},         {"timer", op_timer},   {"vcpu", op_vcpu},
    {"register", op_register}, {"watchdog", op_watchdog}, {"assist", op_assist}, {"affinity", op_affinity},
    {"params", op_params},
};
const struct fuzz_group ops_sched = {op, ARRAY_SIZE(op)};
