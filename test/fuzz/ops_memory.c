/* XENMEM_*: reservations, exchange, figures, resources; and the allocators below them. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/memory_op.h"

#include <string.h>

static long memory(struct step *s, unsigned cmd, void *arg)
{
    uint64_t start = in_u8(s->in) == 255 ? in_number(s->in) << MEMOP_EXTENT_SHIFT : 0;

    return call_n(s, __HYPERVISOR_memory_op, cmd | start, arg, 0, 0);
}

static uint32_t order_of(struct step *s)
{
    uint8_t b = in_u8(s->in);

    return b < 200 ? b & 1u : b < 240 ? b % 5u : (uint32_t)in_number(s->in);
}

static void reservation(struct step *s, unsigned cmd)
{
    struct xen_memory_reservation *r = arg_alloc(sizeof(*r));
    unsigned n = 1 + in_below(s->in, 4);
    xen_pfn_t *list = arg_alloc(n * sizeof(*list));

    for (unsigned i = 0; i < n; i++)
        list[i] = cmd == XENMEM_populate_physmap ? in_number(s->in) : pick_frame(s);
    *r =
        (struct xen_memory_reservation){.nr_extents = n, .extent_order = order_of(s), .domid = pick_domid(s)};
    r->extent_start.p = list;
    if (in_u8(s->in) >= 240) {
        r->mem_flags = in_u32(s->in);
        r->nr_extents = in_number(s->in);
    }
    if (memory(s, cmd, r) > 0 && cmd != XENMEM_decrease_reservation && in_u8(s->in) & 1)
        s->g->page[PG_DATA + in_below(s->in, FUZZ_PAGES - PG_DATA)] = MFN(list[0]);
}
static void op_increase(struct step *s)
{
    reservation(s, XENMEM_increase_reservation);
}
static void op_decrease(struct step *s)
{
    reservation(s, XENMEM_decrease_reservation);
}
static void op_populate(struct step *s)
{
    reservation(s, XENMEM_populate_physmap);
}

/* Gives 2^a extents of order b for 2^b of order a. */
static void op_exchange(struct step *s)
{
    struct xen_memory_exchange *x = arg_alloc(sizeof(*x));
    unsigned in_order = in_u8(s->in) & 1, out_order = in_u8(s->in) & 1, n = 1 + in_below(s->in, 4);
    unsigned n_in = in_order ? n : n * (out_order ? 2 : 1), n_out = (n_in << in_order) >> out_order;
    xen_pfn_t *in = arg_alloc(8 * sizeof(*in)), *out = arg_alloc(8 * sizeof(*out));

    for (unsigned i = 0; i < 8; i++) {
        in[i] = pick_frame(s);
        out[i] = in_u8(s->in);
    }
    memset(x, 0, sizeof(*x));
    x->in.extent_start.p = in;
    if (in_u8(s->in) & 1)
        out = in;
    x->out.extent_start.p = out;
    x->in.nr_extents = MIN(n_in, 8u);
    x->out.nr_extents = MIN(n_out, 8u);
    x->in.extent_order = in_order;
    x->out.extent_order = out_order;
    x->in.domid = x->out.domid = pick_domid(s);
    if (in_u8(s->in) >= 230) {
        x->out.mem_flags = in_u32(s->in);
        x->nr_exchanged = in_number(s->in);
        x->out.nr_extents = in_number(s->in);
        x->out.extent_order = (unsigned)in_number(s->in);
    }
    (void)memory(s, XENMEM_exchange, x);
    if (x->nr_exchanged && in_order == out_order)
        s->g->page[PG_DATA + in_below(s->in, FUZZ_PAGES - PG_DATA)] =
            MFN(out[0]); /* not x->out...: anybody may have written over the argument meanwhile */
}

static void op_acquire(struct step *s)
{
    struct xen_mem_acquire_resource *r = arg_alloc(sizeof(*r));
    xen_pfn_t *list = arg_alloc(4 * sizeof(*list));

    *r =
        (struct xen_mem_acquire_resource){.domid = pick_domid(s),
                                          .type = (uint16_t)(in_u8(s->in) % 3),
                                          .id = in_u8(s->in) % 3u,
                                          .nr_frames = in_u8(s->in) % 6u,
                                          .frame = in_u8(s->in) < 240 ? in_u8(s->in) % 4u : in_number(s->in)};
    r->frame_list.p = in_u8(s->in) & 7 ? list : NULL;
    (void)memory(s, XENMEM_acquire_resource, r);
}

static void op_claim(struct step *s)
{
    struct xen_memory_reservation *r = arg_alloc(sizeof(*r));

    *r = (struct xen_memory_reservation){.nr_extents = in_u8(s->in), .domid = (uint16_t)in_below(s->in, 5)};
    (void)memory(s, XENMEM_claim_pages, r);
}

static void op_memory_map(struct step *s)
{
    struct xen_foreign_memory_map *m = arg_alloc(sizeof(*m));
    void *list = arg_alloc(20 * 8);

    memset(m, 0, sizeof(*m));
    m->domid = pick_domid(s);
    m->map.nr_entries = in_u8(s->in) < 240 ? in_u8(s->in) % 8u : (unsigned)in_number(s->in);
    m->map.buffer.p = list;
    (void)memory(s, XENMEM_set_memory_map, m);
    (void)memory(s, XENMEM_memory_map, &m->map);
}

/* Any sub-operation with any structure. */
static void op_any(struct step *s)
{
    unsigned cmd = in_u8(s->in) % 32u;

    (void)memory(s, cmd, (void *)(uintptr_t)pick_pointer(s, 64));
}

static const struct fuzz_op op[] = {
    {"increase", op_increase}, {"decrease", op_decrease},     {"populate", op_populate},
    {"exchange", op_exchange}, {"exchange", op_exchange},     {"acquire", op_acquire},
    {"claim", op_claim},       {"memory_map", op_memory_map}, {"memory_any", op_any},
};
const struct fuzz_group ops_memory = {op, ARRAY_SIZE(op)};

/* --- the allocators themselves, as other rooms call them --- */

#define HELD 24
static struct {
    void *p;
    uint32_t bytes;
    uint8_t fill;
} object[HELD];
static struct {
    mfn_t m;
    uint8_t order, held;
} block[HELD];

static void op_object(struct step *s)
{
    unsigned i = in_below(s->in, HELD);
    size_t bytes = 1 + in_u16(s->in) % 9000;

    if (object[i].p) {
        for (uint32_t k = 0; k < object[i].bytes; k++)
            if (((uint8_t *)object[i].p)[k] != object[i].fill)
                panic("an object was written to by somebody else");
        mem_free(object[i].p);
        object[i].p = NULL;
        return;
    }
    object[i].p =
        in_u8(s->in) & 7 ? mem_alloc(bytes) : mem_alloc_array(bytes, 1 + (size_t)in_number(s->in) % 4);
    if (!object[i].p)
        return;
    for (size_t k = 0; k < bytes; k++)
        if (((uint8_t *)object[i].p)[k])
            panic("mem_alloc gave memory that is not zero");
    object[i].bytes = (uint32_t)bytes;
    object[i].fill = in_u8(s->in);
    memset(object[i].p, object[i].fill, bytes);
}

static void op_block(struct step *s)
{
    unsigned i = in_below(s->in, HELD), bits = in_u8(s->in) & 7 ? 64 : 12 + in_below(s->in, 14);
    uint8_t order = in_u8(s->in) & 3 ? (uint8_t)in_below(s->in, 4) : (uint8_t)in_below(s->in, 20);
    unsigned flags = in_u8(s->in) & (FA_ZERO | FA_BELOW_4G | FA_EXACT_NODE);
    bool zero = flags & FA_ZERO;

    if (block[i].held) {
        frame_free(block[i].m, block[i].order);
        block[i].held = 0;
        return;
    }
    if (!frame_alloc_bits(order, bits, flags, in_u8(s->in) & 3 ? FRAME_ANY_NODE : in_below(s->in, 12),
                          &block[i].m))
        return;
    block[i].held = 1;
    block[i].order = order;
    if (block[i].m.n & ((1ull << order) - 1) ||
        (bits < 64 && (block[i].m.n + (1ull << order)) << FRAME_SHIFT > 1ull << bits))
        panic("a block of order %u with %u bits at %lx", order, bits, block[i].m.n);
    for (uint64_t k = 0; zero && k < (FRAME_SIZE << order) / 8; k += 61)
        if (((uint64_t *)arch_frame_va(block[i].m))[k])
            panic("a block that is not zero");
    memset(arch_frame_va(block[i].m), 0xa5, FRAME_SIZE);
}

static const struct fuzz_op alloc_op[] = {
    {"object", op_object}, {"object", op_object}, {"block", op_block}, {"block", op_block}};
const struct fuzz_group ops_alloc = {alloc_op, ARRAY_SIZE(alloc_op)};
