/*
 * Hypercalls of the Hyper-V interface (TLFS 3): TLB flushes and interrupts for sets of vCPUs, and a word about a long spin.
 *
 * Parameters are read once into the caller's stack, checked, then used. vCPUs that are not there are nobody's: their bits have no
 * meaning.
 */
#include "private.h"
#include "../dev/vlapic.h"
#include "core/sched.h"
#include "lib/string.h"
#include "x86/p2m.h"

#define FLUSH_SPACE       0x02u
#define FLUSH_LIST        0x03u
#define LONG_SPIN         0x08u
#define SEND_IPI          0x0bu
#define FLUSH_SPACE_EX    0x13u
#define FLUSH_LIST_EX     0x14u
#define SEND_IPI_EX       0x15u

#define SUCCESS           0u
#define INVALID_CODE      2u
#define INVALID_INPUT     3u
#define INVALID_ALIGNMENT 4u
#define INVALID_PARAMETER 5u

/* The input value. */
#define CODE(x)           ((uint32_t)((x)&0xffff))
#define FAST              (1ull << 16)
#define HEADER_WORDS(x)   ((unsigned)((x) >> 17) & 0x3ff)
#define REPS(x)           ((unsigned)((x) >> 32) & 0xfff)
#define FIRST_REP(x)      ((unsigned)((x) >> 48) & 0xfff)
#define RESERVED          0xf000f000f8000000ull

#define FLUSH_ALL_VPS     1ull
#define SET_SPARSE        0u
#define SET_ALL           1u
#define BANKS             64u
#define INPUT_WORDS       (4 + BANKS) /* the longest header */

struct vps {
    uint64_t bank[BANKS];
};

static void all_of(struct vps *s)
{
    memset(s, 0xff, sizeof(*s));
}

static bool has(const struct vps *s, unsigned id)
{
    return id < BANKS * 64 && s->bank[id / 64] >> (id % 64) & 1;
}

/* --- parameters --- */

/* `n` words from `skip` on. What lies in memory is aligned and in one page. */
static uint32_t read_words(struct vcpu *v, const struct viridian_call *c, uint64_t *to, unsigned skip,
                           unsigned n)
{
    uint64_t at = c->in + skip * 8ull;

    if (c->input & FAST) {
        if (skip + n > 2)
            return INVALID_INPUT;
        for (unsigned i = 0; i < n; i++)
            to[i] = skip + i ? c->out : c->in;
        return SUCCESS;
    }
    if (c->in & 7)
        return INVALID_ALIGNMENT;
    if ((c->in & (FRAME_SIZE - 1)) + (skip + n) * 8 > FRAME_SIZE)
        return INVALID_ALIGNMENT;
    return guest_phys_in(v->domain, to, at, n * 8ul) ? SUCCESS : INVALID_PARAMETER;
}

/* HV_VP_SET at word `skip`: format, mask of banks, the banks. */
static uint32_t read_set(struct vcpu *v, const struct viridian_call *c, unsigned skip, struct vps *s)
{
    uint64_t head[2], bank[BANKS];
    uint32_t status = read_words(v, c, head, skip, 2);
    unsigned n = 0;

    if (status)
        return status;
    if (head[0] == SET_ALL) {
        all_of(s);
        return HEADER_WORDS(c->input) ? INVALID_INPUT : SUCCESS;
    }
    if (head[0] != SET_SPARSE)
        return INVALID_PARAMETER;
    if (HEADER_WORDS(c->input) != (unsigned)__builtin_popcountll(head[1]))
        return INVALID_INPUT;
    status = read_words(v, c, bank, skip + 2, HEADER_WORDS(c->input));
    if (status)
        return status;
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < BANKS; i++)
        if (head[1] >> i & 1)
            s->bank[i] = bank[n++];
    return SUCCESS;
}

static uint32_t read_mask(struct vcpu *v, const struct viridian_call *c, unsigned skip, bool ex,
                          struct vps *s)
{
    if (ex)
        return read_set(v, c, skip, s);
    memset(s, 0, sizeof(*s));
    return HEADER_WORDS(c->input) ? INVALID_INPUT : read_words(v, c, s->bank, skip, 1);
}

/* --- what they do --- */

/* Which addresses are meant does not matter: all of a vCPU's translations go at once. The list itself is not read. */
static uint32_t flush(struct vcpu *v, const struct viridian_call *c, bool ex)
{
    uint64_t head[2]; /* address space, flags */
    struct vps s;
    uint32_t status = c->input & FAST ? INVALID_INPUT : read_words(v, c, head, 0, 2);

    if (!status)
        status = read_mask(v, c, 2, ex, &s);
    if (status)
        return status;
    if (head[1] & FLUSH_ALL_VPS)
        all_of(&s);
    hvm_flush_vcpus(v, s.bank);
    return SUCCESS;
}

static uint32_t send_ipi(struct vcpu *v, const struct viridian_call *c, bool ex)
{
    uint64_t head; /* vector, trust level */
    struct vps s;
    uint32_t status = read_words(v, c, &head, 0, 1);

    if (!status)
        status = read_mask(v, c, 1, ex, &s);
    if (status)
        return status;
    if ((uint32_t)head < FIRST_VECTOR || (uint32_t)head > 0xff || head >> 32)
        return INVALID_PARAMETER;
    for_each_vcpu(v->domain, t)
    {
        if (has(&s, t->id))
            vlapic_set_irq(t, (uint8_t)head);
    }
    return SUCCESS;
}

/* --- which of them --- */

static uint64_t group_of(uint32_t code)
{
    switch (code) {
    case FLUSH_SPACE:
    case FLUSH_LIST:
        return HVMPV_hcall_remote_tlb_flush;
    case FLUSH_SPACE_EX:
    case FLUSH_LIST_EX:
        return HVMPV_hcall_remote_tlb_flush | HVMPV_ex_processor_masks;
    case SEND_IPI:
        return HVMPV_hcall_ipi;
    case SEND_IPI_EX:
        return HVMPV_hcall_ipi | HVMPV_ex_processor_masks;
    case LONG_SPIN:
        return HVMPV_base_freq;
    default:
        return ~0ull;
    }
}

static bool is_list(uint32_t code)
{
    return code == FLUSH_LIST || code == FLUSH_LIST_EX;
}

static bool counts_ok(uint64_t input)
{
    if (input & RESERVED)
        return false;
    if (is_list(CODE(input)))
        return FIRST_REP(input) < REPS(input);
    return !REPS(input) && !FIRST_REP(input);
}

static uint32_t do_call(struct vcpu *v, const struct viridian_call *c)
{
    switch (CODE(c->input)) {
    case LONG_SPIN:
        vcpu_yield(v);
        return SUCCESS;
    case SEND_IPI:
        return send_ipi(v, c, false);
    case SEND_IPI_EX:
        return send_ipi(v, c, true);
    case FLUSH_SPACE:
    case FLUSH_LIST:
        return flush(v, c, false);
    default:
        return flush(v, c, true);
    }
}

uint64_t viridian_call(struct vcpu *v, const struct viridian_call *c)
{
    uint64_t group = group_of(CODE(c->input));
    uint32_t status;

    if ((viridian_of(v->domain)->features & group) != group)
        return INVALID_CODE;
    if (!counts_ok(c->input))
        return INVALID_INPUT;
    status = do_call(v, c);
    return status || !is_list(CODE(c->input)) ? status : (uint64_t)REPS(c->input) << 32;
}
