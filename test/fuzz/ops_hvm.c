/* hvm_op and dm_op; accesses of the translated guest to its devices; a device model that answers, or lies. */
#include "fuzz.h"
#include "core/abi.h"
#include "core/sched.h"
#include "x86/hvm.h"
#include "../../arch/x86/hvm/dev/ioreq_private.h"
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>

#include <string.h>

#define TRANSLATED (FUZZ_GUESTS - 1)

static uint16_t whose(struct step *s)
{
    return in_u8(s->in) < 240 ? (s->g->d->ops->translated ? DOMID_SELF : TRANSLATED) : pick_domid(s);
}

static uint64_t pick_gfn(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 160)
        return FUZZ_GFN + b % (FUZZ_PAGES + 4);
    return b < 224 ? FUZZ_GFN_LARGE + (b & 31) : in_number(s->in);
}

/* The translated domain's servers; NULL: it has gone, or never had one. */
static struct hvm_ioreq *servers(void)
{
    struct domain *d = guests[TRANSLATED].d;

    return d->ops->translated ? ioreq_of(d) : NULL;
}

/* --- hvm_op --- */

static uint64_t param_value(struct step *s, uint32_t index)
{
    uint8_t b = in_u8(s->in);

    if (index == HVM_PARAM_CALLBACK_IRQ && b < 200)
        return (uint64_t)(b % 4) << 56 | (b & 128 ? in_u16(s->in) : in_u8(s->in));
    if (b < 128)
        return b % 12u;
    return b < 224 ? pick_gfn(s) : in_number(s->in);
}

static void op_param(struct step *s)
{
    static const uint8_t often[] = {HVM_PARAM_CALLBACK_IRQ,  HVM_PARAM_STORE_PFN,
                                    HVM_PARAM_IOREQ_PFN,     HVM_PARAM_BUFIOREQ_PFN,
                                    HVM_PARAM_CONSOLE_PFN,   HVM_PARAM_IOREQ_SERVER_PFN,
                                    HVM_PARAM_HPET_ENABLED,  HVM_PARAM_NR_IOREQ_SERVER_PAGES,
                                    HVM_PARAM_ACPI_S_STATE,  HVM_PARAM_DM_DOMAIN,
                                    HVM_PARAM_X87_FIP_WIDTH, HVM_PARAM_TRIPLE_FAULT_REASON};
    struct xen_hvm_param *a = arg_alloc(sizeof(*a));
    uint8_t b = in_u8(s->in);

    memset(a, 0, sizeof(*a));
    a->domid = whose(s);
    a->index = b < 192 ? often[b % sizeof(often)] : b < 250 ? b % 40u : in_u32(s->in);
    a->value = param_value(s, a->index);
    (void)call_n(s, __HYPERVISOR_hvm_op, b & 3 ? HVMOP_set_param : HVMOP_get_param, a, 0, 0);
}

static void op_hvm(struct step *s)
{
    static const uint8_t ops[] = {
        HVMOP_get_time, HVMOP_get_mem_type,    HVMOP_set_evtchn_upcall_vector, HVMOP_flush_tlbs,
        HVMOP_altp2m,   HVMOP_pagetable_dying, HVMOP_guest_request_vm_event};
    uint8_t b = in_u8(s->in);
    unsigned op = b < 200 ? ops[b % sizeof(ops)] : b % 32u;
    uint64_t arg = pick_pointer(s, 64);

    if (b & 1 && op == HVMOP_get_mem_type) {
        struct xen_hvm_get_mem_type *a = arg_alloc(sizeof(*a));

        *a = (struct xen_hvm_get_mem_type){.domid = whose(s), .pfn = pick_gfn(s)};
        arg = (uint64_t)(uintptr_t)a;
    } else if (b & 1 && op == HVMOP_set_evtchn_upcall_vector) {
        struct xen_hvm_evtchn_upcall_vector *a = arg_alloc(sizeof(*a));

        *a = (struct xen_hvm_evtchn_upcall_vector){.vcpu = in_u8(s->in) % 3u, .vector = in_u8(s->in)};
        arg = (uint64_t)(uintptr_t)a;
    }
    (void)call_n(s, __HYPERVISOR_hvm_op, op, arg, 0, 0);
}

/* --- dm_op --- */

static void dm(struct step *s, const struct xen_dm_op *op, void *second, size_t bytes)
{
    struct xen_dm_op_buf *b = arg_alloc(2 * sizeof(*b));
    struct xen_dm_op *at = arg_alloc(sizeof(*at));
    uint8_t odd = in_u8(s->in);

    *at = *op;
    memset(b, 0, 2 * sizeof(*b));
    b[0].h.p = at;
    b[0].size = odd < 240 ? sizeof(*at) : in_u8(s->in);
    b[1].h.p = second;
    b[1].size = odd < 250 ? bytes : (xen_ulong_t)in_number(s->in);
    if (odd == 255)
        ((uint8_t *)at)[in_u8(s->in) % sizeof(*at)] = in_u8(s->in);
    (void)call_n(s, __HYPERVISOR_dm_op, in_u8(s->in) < 250 ? TRANSLATED : pick_domid(s), second ? 2 : 1, b,
                 0);
}

static void op_server(struct step *s)
{
    struct xen_dm_op op = {0};
    uint8_t b = in_u8(s->in), id = b >> 5;

    switch (b % 6) {
    case 0:
    case 1:
        op.op = XEN_DMOP_create_ioreq_server;
        op.u.create_ioreq_server.handle_bufioreq = id & 3;
        break;
    case 2:
        op.op = XEN_DMOP_get_ioreq_server_info;
        op.u.get_ioreq_server_info.id = id;
        op.u.get_ioreq_server_info.flags = in_u8(s->in) & 1;
        break;
    case 3:
    case 4:
        op.op = XEN_DMOP_set_ioreq_server_state;
        op.u.set_ioreq_server_state.id = id & 1;
        op.u.set_ioreq_server_state.enabled = b & 64 || in_u8(s->in) & 1;
        break;
    default:
        op.op = XEN_DMOP_destroy_ioreq_server;
        op.u.destroy_ioreq_server.id = id;
    }
    dm(s, &op, NULL, 0);
}

/* Its frames, as a device model asks for them. */
static void op_resource(struct step *s)
{
    struct xen_mem_acquire_resource *a = arg_alloc(sizeof(*a));
    uint8_t b = in_u8(s->in);

    memset(a, 0, sizeof(*a));
    a->domid = TRANSLATED;
    a->type = XENMEM_resource_ioreq_server;
    a->id = b & 7;
    a->frame = b >> 3 & 1;
    a->nr_frames = b < 250 ? 1 + (b >> 6 & 1) : in_u8(s->in);
    a->frame_list.p = arg_alloc(4 * sizeof(xen_pfn_t));
    (void)call_n(s, __HYPERVISOR_memory_op, XENMEM_acquire_resource, a, 0, 0);
}

static const uint64_t places[] = {0xa0000, 0xbfff8, 0xf0000000, 0xfee00000, 0xfec00000, 0xfed00000};
static const uint16_t ports[] = {0x20, 0x21, 0xa0,  0xa1,  0x4d0, 0x4d1, 0x40,  0x41,   0x42,   0x43,  0x61,
                                 0x70, 0x71, 0xcf8, 0xcfc, 0xe9,  0x1f0, 0x100, 0xb000, 0xb004, 0xb008};

static uint64_t pick_port_number(struct step *s)
{
    uint8_t b = in_u8(s->in);

    return b < 224 ? ports[b % ARRAY_SIZE(ports)] + (b >> 6 == 1) : in_u16(s->in);
}

static uint64_t pick_place(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b >= 240)
        return in_number(s->in);
    if (b >= 208)
        return pick_gfn(s) << FRAME_SHIFT | (in_u8(s->in) & 0xff8);
    return places[b % ARRAY_SIZE(places)] + in_u8(s->in) * (b & 64 ? 4u : 16u);
}

static void op_range(struct step *s)
{
    struct xen_dm_op op = {0};
    struct xen_dm_op_ioreq_server_range *r = &op.u.map_io_range_to_ioreq_server;
    uint8_t b = in_u8(s->in);

    op.op = b & 3 ? XEN_DMOP_map_io_range_to_ioreq_server : XEN_DMOP_unmap_io_range_from_ioreq_server;
    r->id = b >> 7;
    r->type = b >> 2 & 3;
    r->start = r->type == XEN_DMOP_IO_RANGE_PORT     ? pick_port_number(s)
               : r->type == XEN_DMOP_IO_RANGE_MEMORY ? pick_place(s)
                                                     : in_u8(s->in) % 32u;
    r->end = r->start + (b & 16 ? in_u8(s->in) * 16u : in_u8(s->in) & 15);
    dm(s, &op, NULL, 0);
}

static void op_line(struct step *s)
{
    struct xen_dm_op op = {0};
    uint8_t b = in_u8(s->in), c = in_u8(s->in);

    switch (b % 5) {
    case 0:
        op.op = XEN_DMOP_set_pci_intx_level;
        op.u.set_pci_intx_level.device = c & 63;
        op.u.set_pci_intx_level.intx = c >> 6;
        op.u.set_pci_intx_level.level = b >> 4 & 1;
        break;
    case 1:
        op.op = XEN_DMOP_set_isa_irq_level;
        op.u.set_isa_irq_level.isa_irq = c % 18u;
        op.u.set_isa_irq_level.level = b >> 4 & 1;
        break;
    case 2:
        op.op = XEN_DMOP_set_pci_link_route;
        op.u.set_pci_link_route.link = c % 5u;
        op.u.set_pci_link_route.isa_irq = (b >> 4) + (c >> 7);
        break;
    case 3:
        op.op = XEN_DMOP_inject_msi;
        op.u.inject_msi.addr = 0xfee00000ull | (uint64_t)c << 12 | (in_u8(s->in) & 0xffc);
        op.u.inject_msi.data = in_u16(s->in);
        break;
    default:
        op.op = XEN_DMOP_inject_event;
        op.u.inject_event.vcpuid = b >> 4 & 3;
        op.u.inject_event.type = (c & 7) + 1;
        op.u.inject_event.vector = in_u8(s->in);
    }
    dm(s, &op, NULL, 0);
}

static void op_pages(struct step *s)
{
    struct xen_dm_op op = {0};
    struct xen_dm_op_modified_memory_extent *e = arg_alloc(4 * sizeof(*e));
    uint8_t b = in_u8(s->in);
    void *second = NULL;
    size_t bytes = 0;

    switch (b % 5) {
    case 0:
        op.op = XEN_DMOP_track_dirty_vram;
        op.u.track_dirty_vram.first_pfn = pick_gfn(s);
        op.u.track_dirty_vram.nr = in_u8(s->in);
        second = e;
        bytes = 4 * sizeof(*e);
        break;
    case 1:
        op.op = XEN_DMOP_modified_memory;
        op.u.modified_memory.nr_extents = b >> 6;
        for (unsigned i = 0; i < 4; i++)
            e[i] = (struct xen_dm_op_modified_memory_extent){.nr = in_u16(s->in) % 600u,
                                                             .first_pfn = pick_gfn(s)};
        second = e;
        bytes = 4 * sizeof(*e);
        break;
    case 2:
        op.op = XEN_DMOP_set_mem_type;
        op.u.set_mem_type.mem_type = b >> 3 & 7;
        op.u.set_mem_type.nr = in_u8(s->in);
        op.u.set_mem_type.first_pfn = pick_gfn(s);
        break;
    case 3:
        op.op = XEN_DMOP_map_mem_type_to_ioreq_server;
        op.u.map_mem_type_to_ioreq_server.id = b >> 6 & 1;
        op.u.map_mem_type_to_ioreq_server.type = b & 8 ? in_u8(s->in) % 8u : HVMMEM_ioreq_server;
        op.u.map_mem_type_to_ioreq_server.flags = b >> 4 & 1;
        break;
    default:
        op.op = XEN_DMOP_relocate_memory;
        op.u.relocate_memory.size = in_u8(s->in) % 20u;
        op.u.relocate_memory.src_gfn = pick_gfn(s);
        op.u.relocate_memory.dst_gfn = pick_gfn(s);
    }
    dm(s, &op, second, bytes);
}

/* Any operation, any fields. */
static void op_dm_raw(struct step *s)
{
    struct xen_dm_op op = {0};
    uint8_t *u = (uint8_t *)&op.u;

    op.op = in_u8(s->in) % 24u;
    for (unsigned i = 0; i < 24; i++)
        u[i] = in_u8(s->in);
    if (op.op != XEN_DMOP_remote_shutdown || in_u8(s->in) < 32)
        dm(s, &op, u[0] & 1 ? arg_alloc(64) : NULL, 64);
}

/* --- the guest, and who serves it --- */

static struct hvm_access pick_access(struct step *s)
{
    struct hvm_access a = {0};
    uint8_t b = in_u8(s->in);

    a.space = b & 1 ? HVM_PORT : HVM_MEMORY;
    a.bytes = (uint8_t)(1u << (b >> 1 & 3));
    if (a.space == HVM_PORT && a.bytes == 8)
        a.bytes = 1;
    a.address = a.space == HVM_PORT ? pick_port_number(s) : pick_place(s);
    a.write = b >> 3 & 1;
    if (b >= 224) {
        a.count = 1 + in_u8(s->in) % 32u;
        a.down = b >> 4 & 1;
        a.pointer = true;
        a.value = pick_gfn(s) << FRAME_SHIFT;
    } else {
        a.value = b & 16 ? in_u8(s->in) : b & 32 ? in_u32(s->in) : in_number(s->in);
    }
    return a;
}

static void op_access(struct step *s)
{
    struct hvm_access a[2] = {{0}};
    unsigned n = 1 + (in_u8(s->in) & 1);

    if (!s->g->d->ops->translated)
        return;
    for (unsigned i = 0; i < n; i++)
        a[i] = pick_access(s);
    device_run(s->v, a);
}

static void op_enter(struct step *s)
{
    if (s->g->d->ops->translated)
        device_go_on(s->v);
}

/* The device model writes into its pages, and rings. */
static void op_answer(struct step *s)
{
    static const uint8_t states[] = {STATE_IORESP_READY, STATE_IORESP_READY, STATE_IOREQ_INPROCESS,
                                     STATE_IOREQ_NONE};
    struct hvm_ioreq *q = servers();
    uint8_t b = in_u8(s->in);
    struct ioreq_server *t = q ? q->server[b & 1] : NULL;
    struct ioreq *r;

    if (!t || !t->sync.va)
        return;
    r = &((struct shared_iopage *)t->sync.va)->vcpu_ioreq[b >> 1 & 1];
    r->data = in_number(s->in);
    if (b < 208 && r->state != STATE_IOREQ_READY && r->state != STATE_IOREQ_INPROCESS)
        return;
    r->state = b < 240 ? states[b >> 2 & 3] : in_u8(s->in) & 15;
    if (b >= 248)
        r->vp_eport = in_u8(s->in);
    if (b & 16)
        vcpu_device_done(domain_vcpu(guests[TRANSLATED].d, b >> 1 & 1)); /* what its event does */
}

static void op_ring(struct step *s)
{
    struct hvm_ioreq *q = servers();
    uint8_t b = in_u8(s->in);
    struct ioreq_server *t = q ? q->server[b & 1] : NULL;
    struct buffered_iopage *p = t ? t->ring.va : NULL;

    if (!p)
        return;
    if (b < 200) {
        p->read_pointer = p->write_pointer;
    } else {
        p->read_pointer = (uint32_t)in_number(s->in);
        p->write_pointer = (uint32_t)in_number(s->in);
    }
}

/* It binds the port that its page names, or another, and rings one. */
static void op_bind(struct step *s)
{
    struct hvm_ioreq *q = servers();
    uint8_t b = in_u8(s->in);
    struct ioreq_server *t = q ? q->server[b & 1] : NULL;
    struct evtchn_bind_interdomain *a = arg_alloc(sizeof(*a));
    struct evtchn_send *e = arg_alloc(sizeof(*e));

    a->remote_dom = TRANSLATED;
    a->remote_port = t && b < 128 ? t->port[b >> 1 & 1].v : b % 40u;
    if (!call_n(s, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_interdomain, a, 0, 0))
        port_remember(s->g, a->local_port);
    e->port = pick_port(s);
    (void)call_n(s, __HYPERVISOR_event_channel_op, EVTCHNOP_send, e, 0, 0);
}

static void op_wait(struct step *s)
{
    fake_run_until(fake_now + 1 + in_u16(s->in) * 997u);
}

static const struct fuzz_op op[] = {
    {"hvm_param", op_param},   {"hvm_op", op_hvm},    {"server", op_server}, {"server", op_server},
    {"resource", op_resource}, {"range", op_range},   {"line", op_line},     {"dm_pages", op_pages},
    {"dm_raw", op_dm_raw},     {"access", op_access}, {"access", op_access}, {"access", op_access},
    {"enter", op_enter},       {"answer", op_answer}, {"ring", op_ring},     {"dm_bind", op_bind},
    {"wait", op_wait},
};
const struct fuzz_group ops_hvm = {op, ARRAY_SIZE(op)};
