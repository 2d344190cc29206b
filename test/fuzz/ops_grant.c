/* Grants: entries as a granter writes them, and every GNTTABOP. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/grant/private.h"

#include <string.h>

static uint32_t pick_ref(struct step *s)
{
    uint8_t b = in_u8(s->in);

    return b < 240 ? 8 + b % 16u : (uint32_t)in_number(s->in);
}

static uint32_t pick_handle(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 200 && s->g->handles)
        return s->g->handle[b % MIN(s->g->handles, (unsigned)ARRAY_SIZE(s->g->handle))];
    return b < 250 ? b % 24u : (uint32_t)in_number(s->in);
}

static bool in_use(const struct grant_table *t, uint32_t ref)
{
    const struct active *a = grant_active(t, ref);

    return a && (a->read || a->write);
}

/* The granter writes an entry; over one in use only if the input insists (then status bits mean nothing any more). */
static void op_entry(struct step *s)
{
    struct grant_table *t = s->g->d->grant;
    uint32_t ref = pick_ref(s);
    uint8_t b = in_u8(s->in);
    uint16_t domid = (uint16_t)in_below(s->in, 4), flags = b < 128 ? GTF_permit_access : b & 3;
    uint64_t frame = pick_frame(s);

    flags |= b & 0x10 ? GTF_readonly : 0;
    flags |= (b & 0xe0) == 0x60 ? GTF_sub_page : 0;
    if (!t || ref >= grant_refs(t))
        return;
    if (in_use(t, ref)) {
        if (in_u8(s->in) < 200)
            return;
        guest_scribbled = true;
    }
    if (t->version == 1) {
        *grant_v1(t, ref) = (grant_entry_v1_t){.domid = domid, .frame = (uint32_t)frame, .flags = flags};
        return;
    }
    memset(grant_v2(t, ref), 0, sizeof(grant_entry_v2_t));
    if ((flags & GTF_type_mask) == GTF_transitive) {
        grant_v2(t, ref)->transitive.trans_domid = (uint16_t)in_below(s->in, 4);
        grant_v2(t, ref)->transitive.gref = pick_ref(s);
    } else {
        if (flags & GTF_sub_page) {
            grant_v2(t, ref)->sub_page.page_off = in_u16(s->in);
            grant_v2(t, ref)->sub_page.length = in_u16(s->in);
        }
        grant_v2(t, ref)->full_page.frame = frame;
    }
    grant_v2(t, ref)->hdr.domid = domid;
    grant_v2(t, ref)->hdr.flags = flags;
}

static uint64_t host_addr(struct step *s, uint32_t *flags)
{
    uint8_t b = in_u8(s->in);

    if (b < 220 && s->g->d->ops->translated)
        return (FUZZ_GFN_GRANT + b % 16) * FRAME_SIZE;
    if (b < 150)
        return FUZZ_VA_B + (uint64_t)(b % 16) * FRAME_SIZE;
    if (b < 200) {
        *flags |= GNTMAP_contains_pte;
        return s->g->page[PG_L1B].n << FRAME_SHIFT | (b % 16) * 8;
    }
    if (b < 220) {
        *flags |= GNTMAP_contains_pte;
        return pick_frame(s) << FRAME_SHIFT | in_u8(s->in) * 8;
    }
    return pick_va(s);
}

static void op_map(struct step *s)
{
    unsigned n = 1 + in_below(s->in, 3);
    struct gnttab_map_grant_ref *op = arg_alloc(n * sizeof(*op));

    for (unsigned i = 0; i < n; i++) {
        uint8_t b = in_u8(s->in);
        uint32_t flags = b < 200 ? GNTMAP_host_map : b < 230 ? GNTMAP_host_map | GNTMAP_device_map : b;

        flags |= b & 1 ? GNTMAP_readonly : 0;
        op[i] = (struct gnttab_map_grant_ref){.dom = in_u8(s->in) % 5, .ref = pick_ref(s)};
        op[i].host_addr = host_addr(s, &flags);
        op[i].flags = flags | (b == 255 ? in_u32(s->in) : 0);
    }
    (void)call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, op, n, 0);
    for (unsigned i = 0; i < n; i++)
        if (!op[i].status)
            s->g->handle[s->g->handles++ % ARRAY_SIZE(s->g->handle)] = op[i].handle;
}

static void unmap(struct step *s, bool replace)
{
    unsigned n = 1 + in_below(s->in, 3);
    struct gnttab_unmap_grant_ref *op = arg_alloc(n * sizeof(*op));

    for (unsigned i = 0; i < n; i++) {
        uint32_t flags = 0;

        op[i] = (struct gnttab_unmap_grant_ref){.handle = pick_handle(s)};
        op[i].host_addr = in_u8(s->in) & 15 ? host_addr(s, &flags) : 0;
        if (replace)
            op[i].dev_bus_addr = in_u8(s->in) & 3 ? host_addr(s, &flags) : 0;
        else
            op[i].dev_bus_addr = in_u8(s->in) & 7 ? 0 : pick_frame(s) << FRAME_SHIFT;
    }
    (void)call_n(s, __HYPERVISOR_grant_table_op,
                 replace ? GNTTABOP_unmap_and_replace : GNTTABOP_unmap_grant_ref, op, n, 0);
}
static void op_unmap(struct step *s)
{
    unmap(s, false);
}
static void op_replace(struct step *s)
{
    unmap(s, true);
}

static void address_translated(struct step *s, mfn_t m, uint64_t *addr)
{
    for (uint64_t g = FUZZ_GFN_GRANT; g < FUZZ_GFN_GRANT + 16; g++)
        if (mfn_eq(arch_gfn_to_mfn(s->g->d, GFN(g)), m))
            *addr = g << FRAME_SHIFT;
}

static void address_pv(struct step *s, mfn_t m, uint32_t flags, uint64_t *addr)
{
    const uint64_t *l1 = arch_frame_va(s->g->page[PG_L1B]);

    for (unsigned i = 0; i < 64; i++)
        if ((l1[i] & 0xffffffffff000) >> FRAME_SHIFT == m.n && !(l1[i] & 2) == !!(flags & GNTMAP_readonly))
            *addr = flags & GNTMAP_contains_pte ? s->g->page[PG_L1B].n << FRAME_SHIFT | i * 8
                                                : FUZZ_VA_B + (uint64_t)i * FRAME_SIZE;
}

/* Unmaps a handle from where its mapping is. */
static void op_unmap_right(struct step *s)
{
    struct gnttab_unmap_grant_ref *op = arg_alloc(sizeof(*op));
    uint32_t h = pick_handle(s);
    const struct track *k = s->g->d->grant ? grant_track(s->g->d->grant, h) : NULL;
    const struct active *a = k && k->granter ? grant_active(k->granter->grant, k->ref) : NULL;

    *op = (struct gnttab_unmap_grant_ref){.handle = h};
    if (a && s->g->d->ops->translated)
        address_translated(s, a->mfn, &op->host_addr);
    else if (a)
        address_pv(s, a->mfn, k->flags, &op->host_addr);
    if (a && k->flags & GNTMAP_device_map)
        op->dev_bus_addr = a->mfn.n << FRAME_SHIFT;
    (void)call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_unmap_grant_ref, op, 1, 0);
}

static void copy_side(struct step *s, struct gnttab_copy_ptr *p, bool gref)
{
    uint8_t b = in_u8(s->in);

    p->domid = gref ? in_u8(s->in) % 5 : b < 200 ? DOMID_SELF : pick_domid(s);
    if (gref)
        p->u.ref = pick_ref(s);
    else
        p->u.gmfn = pick_frame(s);
    p->offset = b & 3 ? (uint16_t)(b * 8) : in_u16(s->in);
}

static void op_copy(struct step *s)
{
    unsigned n = 1 + in_below(s->in, 4);
    struct gnttab_copy *op = arg_alloc(n * sizeof(*op));

    memset(op, 0, n * sizeof(*op));
    for (unsigned i = 0; i < n; i++) {
        uint8_t b = in_u8(s->in);

        op[i].flags = b & 3;
        copy_side(s, &op[i].source, b & GNTCOPY_source_gref);
        copy_side(s, &op[i].dest, b & GNTCOPY_dest_gref);
        op[i].len = b & 8 ? in_u16(s->in) : (uint16_t)(b * 4);
    }
    (void)call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_copy, op, n, 0);
    guest_scribbled |= true; /* it may have copied over a table of its own */
}

static void op_transfer(struct step *s)
{
    struct gnttab_transfer *op = arg_alloc(sizeof(*op));
    struct guest *to = pick_guest(s);
    struct grant_table *t = to->d->grant;
    uint32_t ref = pick_ref(s);

    *op = (struct gnttab_transfer){.mfn = pick_frame(s), .domid = to->d->id.v, .ref = ref};
    if (t && ref < grant_refs(t) && !in_use(t, ref) && in_u8(s->in) & 3) {
        memset(grant_header(t, ref), 0,
               t->version == 1 ? sizeof(grant_entry_v1_t) : sizeof(grant_entry_v2_t));
        *grant_header(t, ref) = GTF_accept_transfer | (uint32_t)s->g->d->id.v << 16;
    }
    (void)call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_transfer, op, 1, 0);
}

static void op_set_version(struct step *s)
{
    struct gnttab_set_version *op = arg_alloc(sizeof(*op));

    *op =
        (struct gnttab_set_version){.version = in_u8(s->in) < 240 ? 1 + (in_u8(s->in) & 1u) : in_u32(s->in)};
    (void)call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_set_version, op, 1, 0);
}

static void op_setup(struct step *s)
{
    struct gnttab_setup_table *op = arg_alloc(sizeof(*op));
    uint64_t *list = arg_alloc(4 * sizeof(*list));

    *op = (struct gnttab_setup_table){.dom = pick_domid(s),
                                      .nr_frames = in_u8(s->in) < 240 ? in_u8(s->in) % 5u
                                                                      : (uint32_t)in_number(s->in)};
    op->frame_list.p = list;
    (void)call_n(s, __HYPERVISOR_grant_table_op,
                 in_u8(s->in) & 1 ? GNTTABOP_setup_table : GNTTABOP_get_status_frames, op, 1, 0);
}

static void op_swap(struct step *s)
{
    struct gnttab_swap_grant_ref *op = arg_alloc(sizeof(*op));

    *op = (struct gnttab_swap_grant_ref){.ref_a = pick_ref(s), .ref_b = pick_ref(s)};
    (void)call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_swap_grant_ref, op, 1, 0);
}

static void op_any(struct step *s)
{
    unsigned cmd = in_u8(s->in) % 16u, count = in_u8(s->in) & 7;
    uint64_t p = pick_pointer(s, 128);

    (void)call_n(s, __HYPERVISOR_grant_table_op, cmd, p, in_u8(s->in) == 255 ? in_number(s->in) : count, 0);
    guest_scribbled = true;
}

static const struct fuzz_op op[] = {
    {"entry", op_entry},
    {"entry", op_entry},
    {"map", op_map},
    {"map", op_map},
    {"unmap", op_unmap},
    {"unmap", op_unmap_right},
    {"unmap", op_unmap_right},
    {"replace", op_replace},
    {"copy", op_copy},
    {"transfer", op_transfer},
    {"set_version", op_set_version},
    {"setup", op_setup},
    {"swap", op_swap},
    {"grant_any", op_any},
};
const struct fuzz_group ops_grant = {op, ARRAY_SIZE(op)};
