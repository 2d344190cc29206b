/* The life of domains: made, paused, crashed, resumed, killed; further domains 3 and 4 come and go. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/sched.h"

#include <string.h>

static struct domain *victim(struct step *s)
{
    uint8_t b = in_u8(s->in);

    return model_domain_from(1 + b % 4u);
}

static void op_create(struct step *s)
{
    struct domain_config c = {.ops = &pv_guest_ops,
                              .max_vcpus = in_u8(s->in) % 4u,
                              .max_evtchn_port = in_u8(s->in) * 8u,
                              .max_grant_frames = in_u8(s->in) % 4u,
                              .max_maptrack_frames = in_u8(s->in) % 3u,
                              .max_frames = in_u8(s->in)};
    struct domain *d;
    struct vcpu *v;

    if (domain_create(DID(in_u8(s->in) < 250 ? 3 + in_u8(s->in) % 2 : in_u16(s->in)), &c, &d))
        return;
    for (unsigned i = 0; i < c.max_vcpus; i++)
        if (vcpu_create(d, i, &v))
            break;
    for (unsigned n = in_u8(s->in) % 8; n--;) {
        mfn_t m;

        if (frame_alloc_domain(d, n % 3, 64, 0, &m))
            break;
    }
    domain_put(d);
}

/* Some steps of it; the rest may never come. */
static void op_kill(struct step *s)
{
    struct domain *d = victim(s);
    unsigned tries = in_u8(s->in) & 1 ? 1000 : 1 + in_below(s->in, 6);

    if (!d)
        return;
    domain_ref(d);
    while (tries-- && domain_kill(d) == -EAGAIN)
        ;
    domain_put(d);
}

static void op_reap(struct step *s)
{
    fake_run_until(fake_now + 300000000);
}

static void op_pause(struct step *s)
{
    struct domain *d = victim(s);
    uint8_t b = in_u8(s->in);

    if (!d)
        return;
    if (b & 1 ? domain_controller_unpause(d) : d != s->v->domain ? domain_controller_pause(d) : 0)
        return;
}

static void op_shutdown(struct step *s)
{
    struct sched_shutdown *a = arg_alloc(sizeof(*a));
    uint8_t b = in_u8(s->in);

    if (s->g == &guests[0])
        return;
    a->reason = b < 240 ? b % 5u : (unsigned)in_number(s->in);
    (void)call_n(s, __HYPERVISOR_sched_op, b & 1 ? SCHEDOP_shutdown : SCHEDOP_shutdown_code, a, 0, 0);
}

static void op_remote_shutdown(struct step *s)
{
    struct sched_remote_shutdown *a = arg_alloc(sizeof(*a));
    uint8_t b = in_u8(s->in);

    *a = (struct sched_remote_shutdown){.domain_id = b < 240 ? 1 + b % 4u : DOMID_SELF,
                                        .reason = in_u8(s->in) % 6u};
    (void)call_n(s, __HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, a, 0, 0);
}

static void op_crash(struct step *s)
{
    struct domain *d = victim(s);

    if (d)
        domain_crash(d, "the fuzzer wants it");
}

static void op_resume(struct step *s)
{
    struct domain *d = victim(s);

    if (d && domain_resume(d))
        return;
}

struct vcpu_guest_context *pick_context(struct step *s)
{
    struct vcpu_guest_context *c = arg_alloc(sizeof(*c));
    uint8_t b = in_u8(s->in);

    memset(c, 0, sizeof(*c));
    c->ctrlreg[3] = (b & 1 ? s->g->page[PG_L4].n : pick_frame(s)) << FRAME_SHIFT;
    c->ctrlreg[1] = (b & 2 ? s->g->page[PG_UL4].n : b & 4 ? pick_frame(s) : 0) << FRAME_SHIFT;
    c->gdt_ents = b & 8 ? 512 : b & 16 ? in_u16(s->in) : 0;
    c->gdt_frames[0] = b & 32 ? s->g->page[PG_DESC].n : pick_frame(s);
    c->flags = VGCF_in_kernel;
    if (b >= 224)
        for (size_t i = 0; i < 64; i++)
            ((uint8_t *)c)[in_u16(s->in) % sizeof(*c)] = in_u8(s->in);
    return c;
}

/* A second vCPU's start from a context of the guest's. */
static void op_initialise(struct step *s)
{
    struct vcpu_guest_context *c = pick_context(s);

    if (s->g != &guests[0]) /* the machine goes when the last of its vCPUs is down */
        (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_down, in_u8(s->in) & 1, 0, 0);
    (void)call_n(s, __HYPERVISOR_vcpu_op, VCPUOP_initialise, in_u8(s->in) % 3, c, 0);
}

static const struct fuzz_op op[] = {
    {"create", op_create},
    {"create", op_create},
    {"kill", op_kill},
    {"kill", op_kill},
    {"reap", op_reap},
    {"pause", op_pause},
    {"shutdown", op_shutdown},
    {"remote_shutdown", op_remote_shutdown},
    {"crash", op_crash},
    {"resume", op_resume},
    {"initialise", op_initialise},
};
const struct fuzz_group ops_life = {op, ARRAY_SIZE(op)};
