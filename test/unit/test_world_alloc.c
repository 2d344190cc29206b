/* Allocation failure at every allocation (world.h): domains, grants, event channels, interrupts, memory and page tables of PV guests. */
#include "world.h"
#include "core/grant.h"
#include "core/memory_op.h"
#include "core/sched.h"
#include "x86/pte.h"
#include "x86/pv.h"

const struct fuzz_target fuzz_target = {.name = "alloc"};

static bool domain_comes(void)
{
    struct domain *d = third_domain(&pv_guest_ops, 1000);
    mfn_t m;

    if (!d)
        return false;
    for (unsigned i = 0; i < 10; i++)
        if (frame_alloc_domain(d, i & 1, 64, 0, &m))
            return false;
    return frame_claim(d, 0) == 0 && frame_claim(d, 40) == 0;
}

static bool toolstack_domain(void)
{
    return toolstack_makes(0);
}

static bool map_one(struct step *s, uint16_t granter, uint32_t ref, unsigned slot)
{
    struct gnttab_map_grant_ref *op = arg_alloc(sizeof(*op));

    *op = (struct gnttab_map_grant_ref){.host_addr = FUZZ_VA_B + slot * FRAME_SIZE,
                                        .dom = granter,
                                        .ref = ref,
                                        .flags = GNTMAP_host_map | (ref & 1 ? GNTMAP_readonly : 0)};
    return !call_n(s, __HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, op, 1, 0) && !op->status;
}

static bool grants_grow(void)
{
    struct step s = as(1, 0);
    struct gnttab_setup_table *op = arg_alloc(sizeof(*op));
    struct gnttab_set_version *v = arg_alloc(sizeof(*v));

    *op = (struct gnttab_setup_table){.dom = DOMID_SELF, .nr_frames = 3};
    op->frame_list.p = arg_alloc(64);
    v->version = 2;
    if (call_n(&s, __HYPERVISOR_grant_table_op, GNTTABOP_setup_table, op, 1, 0) || op->status)
        return false;
    return !call_n(&s, __HYPERVISOR_grant_table_op, GNTTABOP_set_version, v, 1, 0);
}

static bool grants_mapped(void)
{
    struct step s = as(1, 0); /* guest 0 grants to 1 */

    for (unsigned i = 0; i < 8; i++)
        if (!map_one(&s, 0, 8 + i, i))
            return false;
    return true;
}

static bool grant_copied(void)
{
    struct step s = as(2, 0);
    struct gnttab_copy *op = arg_alloc(sizeof(*op));

    memset(op, 0, sizeof(*op));
    op->flags = GNTCOPY_source_gref;
    op->source.domid = 1;
    op->source.u.ref = 9;
    op->dest.domid = DOMID_SELF;
    op->dest.u.gmfn = guests[2].page[PG_DATA].n;
    op->len = 64;
    return !call_n(&s, __HYPERVISOR_grant_table_op, GNTTABOP_copy, op, 1, 0) && !op->status;
}

static bool many_ports(void)
{
    struct step s = as(2, 0);

    for (unsigned n = 0; n < 250; n++) {
        struct evtchn_alloc_unbound *a = arg_alloc(sizeof(*a));
        long r;

        *a = (struct evtchn_alloc_unbound){.dom = DOMID_SELF, .remote_dom = 1};
        r = call_n(&s, __HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, a, 0, 0);
        if (r == -ENOSPC)
            break;
        if (r)
            return false;
    }
    return true;
}

static bool fifo_set_up(void)
{
    struct step s = as(2, 0);

    for (unsigned i = 0; i < FUZZ_VCPUS; i++) {
        struct evtchn_init_control *a = arg_alloc(sizeof(*a));
        long r;

        *a = (struct evtchn_init_control){.control_gfn = guests[2].page[PG_DATA + i].n, .vcpu = i};
        r = guests[2].d->vcpu[i]->evtchn.fifo
                ? 0
                : call_n(&s, __HYPERVISOR_event_channel_op, EVTCHNOP_init_control, a, 0, 0);
        if (r)
            return false;
    }
    struct evtchn_expand_array *x = arg_alloc(sizeof(*x));

    x->array_gfn = guests[2].page[PG_DATA + 4].n;
    return !call_n(&s, __HYPERVISOR_event_channel_op, EVTCHNOP_expand_array, x, 0, 0) && many_ports();
}

static bool pirqs_bound(void)
{
    struct step s = as(0, 0);
    struct evtchn_bind_pirq *a = arg_alloc(sizeof(*a));
    long r;

    *a = (struct evtchn_bind_pirq){.pirq = 5};
    r = call_n(&s, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_pirq, a, 0, 0);
    if (r)
        return false;
    struct evtchn_close *c = arg_alloc(sizeof(*c));

    c->port = a->port;
    return !call_n(&s, __HYPERVISOR_event_channel_op, EVTCHNOP_close, c, 0, 0);
}

static bool memory_grows(void)
{
    struct step s = as(1, 1);
    struct xen_memory_reservation *r = arg_alloc(sizeof(*r));
    xen_pfn_t *list = arg_alloc(8 * sizeof(*list));

    *r = (struct xen_memory_reservation){.nr_extents = 3, .extent_order = 1, .domid = DOMID_SELF};
    r->extent_start.p = list;
    if (call_n(&s, __HYPERVISOR_memory_op, XENMEM_increase_reservation, r, 0, 0) != 3)
        return false;
    r->nr_extents = 4;
    r->extent_order = 0;
    for (unsigned i = 0; i < 4; i++)
        list[i] = 100 + i;
    return call_n(&s, __HYPERVISOR_memory_op, XENMEM_populate_physmap, r, 0, 0) == 4;
}

static bool memory_exchanged(void)
{
    struct step s = as(1, 1);
    struct xen_memory_exchange *x = arg_alloc(sizeof(*x));
    xen_pfn_t *in = arg_alloc(64), *out = arg_alloc(64);
    mfn_t fresh[2];

    for (unsigned i = 0; i < 2; i++) {
        if (frame_alloc_domain(guests[1].d, 0, 64, 0, &fresh[i]))
            return false;
        in[i] = fresh[i].n;
    }
    memset(x, 0, sizeof(*x));
    x->in.extent_start.p = in;
    x->out.extent_start.p = out;
    x->in.nr_extents = 2;
    x->out.nr_extents = 1;
    x->out.extent_order = 1;
    x->in.domid = x->out.domid = DOMID_SELF;
    out[0] = 500;
    if (call_n(&s, __HYPERVISOR_memory_op, XENMEM_exchange, x, 0, 0))
        return false;
    return x->nr_exchanged == 2;
}

static bool resource_mapped(void)
{
    struct step s = as(0, 0);
    struct xen_mem_acquire_resource *r = arg_alloc(sizeof(*r));
    xen_pfn_t *list = arg_alloc(64);
    struct vcpu *v = s.v;
    struct hypercall hc = {.caller = v, .arg = {FUZZ_VA_B + 5 * FRAME_SIZE, 0, 0, 2}};

    *r = (struct xen_mem_acquire_resource){.domid = 2, .type = XENMEM_resource_grant_table, .nr_frames = 3};
    r->frame_list.p = list;
    if (call_n(&s, __HYPERVISOR_memory_op, XENMEM_acquire_resource, r, 0, 0))
        return false;
    hc.arg[1] = pte_make(MFN(list[2]), PTE_P | PTE_RW | PTE_US);
    if (pv_update_va_mapping_otherdomain(&hc))
        return false;
    hc.arg[1] = 0;
    return !pv_update_va_mapping_otherdomain(&hc);
}

static bool memory_map_set(void)
{
    struct step s = as(2, 0);
    struct xen_foreign_memory_map *m = arg_alloc(sizeof(*m));

    memset(m, 0, sizeof(*m));
    m->domid = DOMID_SELF;
    m->map.nr_entries = 100;
    m->map.buffer.p = arg_alloc(20 * 100);
    return !call_n(&s, __HYPERVISOR_memory_op, XENMEM_set_memory_map, m, 0, 0);
}

static bool vcpu_started(void)
{
    struct step s = as(1, 0);
    struct vcpu_guest_context *c = arg_alloc(sizeof(*c));
    struct vcpu *v = guests[1].d->vcpu[1];
    long r;

    memset(c, 0, sizeof(*c));
    c->ctrlreg[3] = guests[1].page[PG_L4].n << FRAME_SHIFT;
    c->gdt_ents = 512;
    c->gdt_frames[0] = guests[1].page[PG_DESC].n;
    c->flags = VGCF_in_kernel;
    v->initialised = false;
    (void)call_n(&s, __HYPERVISOR_vcpu_op, VCPUOP_down, 1, 0, 0);
    r = call_n(&s, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, c, 0);
    return !r;
}

static bool tables_made(void)
{
    struct step s = as(2, 0);
    mfn_t m = guests[2].page[PG_DATA + 9];
    struct mmuext_op *op = arg_alloc(sizeof(*op));

    (void)call_n(&s, __HYPERVISOR_update_va_mapping, FUZZ_VA + (PG_DATA + 9) * FRAME_SIZE, 0, 0, 0);
    *op = (struct mmuext_op){.cmd = MMUEXT_PIN_L1_TABLE};
    op->arg1.mfn = m.n;
    if (call_n(&s, __HYPERVISOR_mmuext_op, op, 1, 0, DOMID_SELF))
        return false;
    op->cmd = MMUEXT_UNPIN_TABLE;
    return !call_n(&s, __HYPERVISOR_mmuext_op, op, 1, 0, DOMID_SELF);
}

static bool a_domain_ends(void)
{
    struct domain *d = guests[2].d;
    int r = -EAGAIN;

    (void)as(0, 0);
    for (unsigned n = 0; n < 1000 && r == -EAGAIN; n++)
        r = domain_kill(d);
    return !r;
}

static bool all_at_once(void)
{
    return grants_grow() && grants_mapped() && many_ports() && memory_grows() && domain_comes() &&
           a_domain_ends();
}

static const struct scenario scenarios[] = {
    {"a domain is made", domain_comes},
    {"the toolstack makes a domain", toolstack_domain},
    {"a grant table grows, version 2", grants_grow},
    {"grants are mapped", grants_mapped},
    {"a grant is copied", grant_copied},
    {"event channels", many_ports},
    {"FIFO event channels", fifo_set_up},
    {"an interrupt is bound", pirqs_bound},
    {"memory grows", memory_grows},
    {"memory is exchanged", memory_exchanged},
    {"a resource is mapped", resource_mapped},
    {"a memory map", memory_map_set},
    {"a vCPU starts", vcpu_started},
    {"page tables", tables_made},
    {"a domain ends", a_domain_ends},
    {"all of it", all_at_once},
};

int main(void)
{
    return world_run(scenarios, ARRAY_SIZE(scenarios));
}
