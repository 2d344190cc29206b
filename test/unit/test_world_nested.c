/* Allocation failure at every allocation (world.h): a translated guest's memory, what others have in it, its device model. */
#include "world.h"
#include "core/control.h"
#include "core/grant.h"
#include "core/memory_op.h"
#include "core/sched.h"
#include "x86/hvm.h"
#include "x86/p2m.h"
#include "../../arch/x86/hvm/dev/bus.h"
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>

const struct fuzz_target fuzz_target = {.name = "nested", .translated = true};

#define NESTED 2

static long memory(struct step *s, unsigned cmd, void *arg)
{
    return call_n(s, __HYPERVISOR_memory_op, cmd, arg, 0, 0);
}

static long populate(struct step *s, uint64_t gfn, unsigned order, unsigned flags)
{
    struct xen_memory_reservation *r = arg_alloc(sizeof(*r));
    xen_pfn_t *list = arg_alloc(sizeof(*list));

    list[0] = gfn;
    *r = (struct xen_memory_reservation){
        .nr_extents = 1, .extent_order = order, .domid = NESTED, .mem_flags = flags};
    r->extent_start.p = list;
    return memory(s, XENMEM_populate_physmap, r);
}

/* Small pages, a large one, one in a far table. */
static bool memory_grows(void)
{
    struct step s = as(0, 0);

    return populate(&s, 0x2000, 0, 0) == 1 && populate(&s, 0x4000, 0, 0) == 1 &&
           populate(&s, 0x8000000, 0, 0) == 1;
}

/* One page of a large one goes: its entry is divided. */
static bool large_page_divided(void)
{
    struct step s = as(0, 0);
    struct xen_remove_from_physmap *a = arg_alloc(sizeof(*a));

    *a = (struct xen_remove_from_physmap){.domid = NESTED, .gpfn = FUZZ_GFN_LARGE + 7};
    (void)memory(&s, XENMEM_remove_from_physmap, a);
    return !mfn_valid(arch_gfn_to_mfn(guests[NESTED].d, GFN(FUZZ_GFN_LARGE + 7)));
}

static bool page_moves(void)
{
    struct step s = as(NESTED, 0);
    struct xen_add_to_physmap *a = arg_alloc(sizeof(*a));

    *a =
        (struct xen_add_to_physmap){.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 0x4000000};
    return !memory(&s, XENMEM_add_to_physmap, a);
}

/* The control domain puts one of guest 1's pages there. */
static bool foreign_page(void)
{
    struct step s = as(0, 0);
    struct xen_add_to_physmap_batch *a = arg_alloc(sizeof(*a));
    xen_ulong_t *idx = arg_alloc(sizeof(*idx));
    xen_pfn_t *to = arg_alloc(sizeof(*to));
    int *error = arg_alloc(sizeof(*error));

    *idx = guests[1].page[PG_DATA].n;
    *to = 0x60000;
    memset(a, 0, sizeof(*a));
    a->domid = NESTED;
    a->space = XENMAPSPACE_gmfn_foreign;
    a->size = 1;
    a->u.foreign_domid = 1;
    a->idxs.p = idx;
    a->gpfns.p = to;
    a->errs.p = error;
    return !memory(&s, XENMEM_add_to_physmap_batch, a) && !*error;
}

/* Guest 1 grants to it. */
static bool grant_mapped(void)
{
    struct step s = as(NESTED, 0);
    struct gnttab_map_grant_ref *op = arg_alloc(sizeof(*op));

    *op = (struct gnttab_map_grant_ref){
        .host_addr = 0x70000ull << FRAME_SHIFT, .dom = 1, .ref = 8, .flags = GNTMAP_host_map};
    return !call_n(&s, __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, op, 1, 0) && !op->status;
}

static bool on_demand(void)
{
    struct step s = as(0, 0);
    struct xen_pod_target *t = arg_alloc(sizeof(*t));
    struct domain *d = guests[NESTED].d;

    if (populate(&s, 0x10000, 4, XENMEMF_populate_on_demand) != 1)
        return false;
    memset(t, 0, sizeof(*t));
    t->domid = NESTED;
    t->target_pages = d->frames + 8;
    if (memory(&s, XENMEM_set_pod_target, t))
        return false;
    (void)as(NESTED, 0);
    return p2m_fault(d, 0x10003ull << FRAME_SHIFT, P2M_ACC_WRITE) == P2M_RETRY;
}

static bool log_dirty(void)
{
    struct step s = as(0, 0);
    static const uint32_t ops[] = {XEN_DOMCTL_SHADOW_OP_OFF, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY,
                                   XEN_DOMCTL_SHADOW_OP_CLEAN, XEN_DOMCTL_SHADOW_OP_OFF};
    struct xen_domctl *op = arg_alloc(sizeof(*op));

    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        *op = (struct xen_domctl){
            .cmd = XEN_DOMCTL_shadow_op, .interface_version = XEN_DOMCTL_INTERFACE_VERSION, .domain = NESTED};
        op->u.shadow_op.op = ops[i];
        op->u.shadow_op.mode = XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY;
        op->u.shadow_op.pages = 0x400;
        op->u.shadow_op.dirty_bitmap.p = arg_alloc(0x400 / 8);
        if (call_n(&s, __HYPERVISOR_domctl, op, 0, 0, 0) && i)
            return false;
        (void)p2m_fault(guests[NESTED].d, (FUZZ_GFN_LARGE + i) << FRAME_SHIFT, P2M_ACC_WRITE);
    }
    return true;
}

/* --- a device model --- */

static long dm(struct step *s, struct xen_dm_op *op)
{
    struct xen_dm_op_buf *b = arg_alloc(sizeof(*b));
    struct xen_dm_op *at = arg_alloc(sizeof(*at));
    long r;

    *at = *op;
    b->h.p = at;
    b->size = sizeof(*at);
    r = call_n(s, __HYPERVISOR_dm_op, NESTED, 1, b, 0);
    *op = *at;
    return r;
}

static bool server_there(struct step *s, uint16_t id)
{
    struct xen_mem_acquire_resource *a = arg_alloc(sizeof(*a));
    struct xen_dm_op range = {.op = XEN_DMOP_map_io_range_to_ioreq_server,
                              .u.map_io_range_to_ioreq_server = {
                                  .id = id, .type = XEN_DMOP_IO_RANGE_PORT, .start = 0x100, .end = 0x10f}};
    struct xen_dm_op state = {.op = XEN_DMOP_set_ioreq_server_state,
                              .u.set_ioreq_server_state = {.id = id, .enabled = 1}};
    struct hvm_access in[2] = {{.address = 0x100, .space = HVM_PORT, .bytes = 1}};
    long r;

    memset(a, 0, sizeof(*a));
    a->domid = NESTED;
    a->type = XENMEM_resource_ioreq_server;
    a->id = id;
    a->nr_frames = 2;
    a->frame_list.p = arg_alloc(2 * sizeof(xen_pfn_t));
    if (memory(s, XENMEM_acquire_resource, a))
        return false;
    r = dm(s, &range);
    if ((r && r != -EEXIST) || dm(s, &state))
        return false;
    *s = as(NESTED, 0);
    device_run(s->v, in);
    return device_busy(s->v);
}

static bool device_model(void)
{
    struct step s = as(0, 0);
    struct xen_dm_op op = {.op = XEN_DMOP_create_ioreq_server,
                           .u.create_ioreq_server.handle_bufioreq = HVM_IOREQSRV_BUFIOREQ_ATOMIC};
    uint16_t id;
    bool ok;

    if (dm(&s, &op))
        return false;
    id = op.u.create_ioreq_server.id;
    ok = server_there(&s, id);
    s = as(0, 0);
    op = (struct xen_dm_op){.op = XEN_DMOP_destroy_ioreq_server, .u.destroy_ioreq_server.id = id};
    return !dm(&s, &op) && ok; /* the answer is all ones */
}

/* --- the whole domain --- */

static bool domain_comes(void)
{
    struct domain *d = third_domain(&hvm_guest_ops, 100);
    mfn_t m;

    if (!d)
        return false;
    if (frame_alloc_domain(d, 0, 64, 0, &m))
        return false;
    return !arch_physmap_add(d, GFN(0x12345), m, 0);
}

static bool toolstack_domain(void)
{
    return toolstack_makes(XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap);
}

static bool it_ends(void)
{
    struct domain *d = guests[NESTED].d;
    int r = -EAGAIN;

    /* What of it is there already, of a first attempt, is not put there again. */
    if (!memory_grows() || (!grant_mapped() && !mfn_valid(arch_gfn_to_mfn(d, GFN(0x70000)))) ||
        !foreign_page())
        return false;
    (void)as(0, 0);
    for (unsigned n = 0; n < 1000 && r == -EAGAIN; n++)
        r = domain_kill(d);
    return !r;
}

static const struct scenario scenarios[] = {
    {"memory grows", memory_grows},
    {"a large page is divided", large_page_divided},
    {"a page moves", page_moves},
    {"another domain's page", foreign_page},
    {"a grant is mapped", grant_mapped},
    {"populate on demand", on_demand},
    {"log-dirty", log_dirty},
    {"a device model", device_model},
    {"a domain is made", domain_comes},
    {"the toolstack makes a domain", toolstack_domain},
    {"a domain ends", it_ends},
};

int main(void)
{
    return world_run(scenarios, ARRAY_SIZE(scenarios));
}
