/* The whole table: any number, any arguments, multicalls of anything. */
#include "fuzz.h"
#include "core/abi.h"
#include "x86/vcpu.h"

#include <string.h>

/* Numbers that would end the run are not for the control domain: it may restart the machine. */
static bool fatal(const struct step *s, unsigned nr, uint64_t a0)
{
    if (s->g != &guests[0])
        return false;
    return (nr == __HYPERVISOR_sched_op || nr == __HYPERVISOR_sched_op_compat || nr == __HYPERVISOR_iret) ||
           (nr == __HYPERVISOR_vcpu_op && (uint32_t)a0 == VCPUOP_down) || nr == __HYPERVISOR_multicall;
}

static uint64_t argument(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 96)
        return pick_pointer(s, 64);
    if (b < 176)
        return b % 24u;
    if (b < 208)
        return pick_frame(s);
    return b < 224 ? pick_va(s) : in_number(s->in);
}

static void op_raw(struct step *s)
{
    unsigned nr = in_u8(s->in) % 64u;
    uint64_t a0 = in_u8(s->in) & 1 ? in_u8(s->in) % 40u : argument(s), a1 = argument(s), a2 = argument(s),
             a3 = argument(s);

    if (fatal(s, nr, a0))
        return;
    guest_scribbled = true;
    (void)call(s, nr, a0, a1, a2, a3);
}

static void op_multicall(struct step *s)
{
    unsigned n = 1 + in_below(s->in, 5);
    struct multicall_entry *e = arg_alloc(n * sizeof(*e));

    memset(e, 0, n * sizeof(*e));
    for (unsigned i = 0; i < n; i++) {
        e[i].op = in_u8(s->in) % 64u;
        for (unsigned k = 0; k < 4; k++)
            e[i].args[k] = k || in_u8(s->in) & 1 ? argument(s) : in_u8(s->in) % 40u;
        if (fatal(s, (unsigned)e[i].op, e[i].args[0]))
            e[i].op = 63;
    }
    guest_scribbled = true;
    if (s->g != &guests[0] || !fuzz_flip_copy)
        (void)call_n(s, __HYPERVISOR_multicall, e, in_u8(s->in) == 255 ? in_number(s->in) : n, 0, 0);
}

static void op_version(struct step *s)
{
    (void)call_n(s, __HYPERVISOR_xen_version, in_u8(s->in) % 13, pick_pointer(s, 64), 0, 0);
}

static void op_console(struct step *s)
{
    (void)call_n(s, __HYPERVISOR_console_io, in_u8(s->in) % 3, in_number(s->in), pick_pointer(s, 200), 0);
}

/* What a kernel sets up for its traps. */
static void op_callbacks(struct step *s)
{
    struct trap_info *t = arg_alloc(4 * sizeof(*t));
    uint8_t b = in_u8(s->in);

    switch (b & 7) {
    case 0:
        for (unsigned i = 0; i < 3; i++)
            t[i] = (struct trap_info){in_u8(s->in), in_u8(s->in), in_u16(s->in), pick_va(s)};
        t[3].address = 0;
        (void)call_n(s, __HYPERVISOR_set_trap_table, t, 0, 0, 0);
        break;
    case 1:
        (void)call_n(s, __HYPERVISOR_stack_switch, in_u16(s->in), pick_va(s), 0, 0);
        break;
    case 2:
        (void)call_n(s, __HYPERVISOR_set_callbacks, pick_va(s), pick_va(s), pick_va(s), 0);
        break;
    case 3:
        (void)call_n(s, __HYPERVISOR_set_debugreg, in_u8(s->in) % 9, b & 16 ? pick_va(s) : in_number(s->in),
                     0, 0);
        (void)call_n(s, __HYPERVISOR_get_debugreg, in_u8(s->in) % 9, 0, 0, 0);
        break;
    case 4:
        (void)call_n(s, __HYPERVISOR_set_segment_base, in_u8(s->in) % 5,
                     b & 16 ? pick_va(s) : in_number(s->in), 0, 0);
        break;
    case 5:
        (void)call_n(s, __HYPERVISOR_callback_op, in_u8(s->in) % 3, pick_pointer(s, 24), 0, 0);
        break;
    case 6:
        (void)call_n(s, __HYPERVISOR_nmi_op, in_u8(s->in) % 3, pick_pointer(s, 24), 0, 0);
        break;
    default:
        (void)call_n(s, __HYPERVISOR_fpu_taskswitch, b >> 3, 0, 0, 0);
    }
}

static void op_iret(struct step *s)
{
    struct guest_regs *r = vcpu_regs(s->v);

    if (s->g == &guests[0])
        return;
    r->rsp = pick_pointer(s, sizeof(struct iret_context));
    (void)call_n(s, __HYPERVISOR_iret, 0, 0, 0, 0);
}

static const struct fuzz_op op[] = {
    {"raw", op_raw},         {"raw", op_raw},         {"multicall", op_multicall},
    {"version", op_version}, {"console", op_console}, {"callbacks", op_callbacks},
    {"iret", op_iret}};
const struct fuzz_group ops_any = {op, ARRAY_SIZE(op)};
