/*
 * hvm_op (xen/hvm/hvm_op.h): parameters of a domain, and how its events are announced.
 *
 * Invariants
 *  1. What the toolstack sets for itself to find (ring pages, ports) is only kept here; what Krypton acts on is checked when it is set.
 *  2. A guest sets for itself only what concerns its own wake-up.
 * Locks: d->lock around param[].
 */
#include "private.h"
#include "dev/irq.h"
#include "viridian/viridian.h"
#include "core/guest.h"
#include "core/hypercall.h"
#include "core/nospec.h"
#include "core/sched.h"
#include "arch/guest_ops.h"
#include "arch/time.h"
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>

#define CALLBACK_TYPE(x) ((unsigned)((x) >> 56))

/* --- who may --- */

static bool guest_may_set(uint32_t index)
{
    switch (index) {
    case HVM_PARAM_CALLBACK_IRQ:
    case HVM_PARAM_VM86_TSS:
    case HVM_PARAM_VM86_TSS_SIZED:
    case HVM_PARAM_ACPI_IOPORTS_LOCATION:
    case HVM_PARAM_VM_GENERATION_ID_ADDR:
    case HVM_PARAM_STORE_EVTCHN:
    case HVM_PARAM_CONSOLE_EVTCHN:
    case HVM_PARAM_X87_FIP_WIDTH:
        return true;
    default:
        return false;
    }
}

static bool guest_may_get(uint32_t index)
{
    switch (index) {
    case HVM_PARAM_STORE_PFN:
    case HVM_PARAM_CONSOLE_PFN:
    case HVM_PARAM_ACPI_S_STATE:
        return true;
    default:
        return guest_may_set(index);
    }
}

/* --- values --- */

/* PCI: domain (16 bits), bus, device and function, INTx; only device 0-31 of bus 0 has wires. */
static int callback_by_intx(struct domain *d, uint64_t value)
{
    if (value << 8 >> 24 || value & 0xfc)
        return -EINVAL;
    return hvm_callback_intx(d, (unsigned)(value >> 11) & 31, (unsigned)value & 3);
}

static int callback_by_line(struct domain *d, uint64_t value)
{
    switch (CALLBACK_TYPE(value)) {
    case HVM_PARAM_CALLBACK_TYPE_GSI:
        if (value)
            return value < 256 ? hvm_callback_gsi(d, (unsigned)value) : -EINVAL;
        hvm_callback_none(d);
        return 0;
    case HVM_PARAM_CALLBACK_TYPE_PCI_INTX:
        return callback_by_intx(d, value);
    default:
        return -EINVAL;
    }
}

/* By a line of the interrupt controllers, or by a vector without any; 0: not at all. */
static int set_callback(struct domain *d, uint64_t value)
{
    struct hvm_domain *h = hvm_domain(d);

    if (CALLBACK_TYPE(value) != HVM_PARAM_CALLBACK_TYPE_VECTOR) {
        int r = callback_by_line(d, value);

        if (!r)
            __atomic_store_n(&h->callback_vector, 0, __ATOMIC_RELAXED);
        return r;
    }
    if (value << 8 >> 16 || (value & 0xff) < 16)
        return -EINVAL;
    hvm_callback_none(d);
    __atomic_store_n(&h->callback_vector, (uint8_t)value, __ATOMIC_SEQ_CST);
    for_each_vcpu(d, v)
    {
        if (__atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_RELAXED)) {
            vcpu_unblock(v);
            vcpu_kick(v);
        }
    }
    return 0;
}

/* What a value may be. -EOPNOTSUPP: asks for what is not there. */
static int value_ok(uint32_t index, uint64_t value)
{
    switch (index) {
    case HVM_PARAM_NESTEDHVM:
    case HVM_PARAM_ALTP2M:
    case HVM_PARAM_MCA_CAP:
        return value ? -EOPNOTSUPP : 0;
    case HVM_PARAM_TRIPLE_FAULT_REASON:
        return value > SHUTDOWN_MAX ? -EINVAL : 0;
    case HVM_PARAM_TIMER_MODE:
        return value > HVMPTM_one_missed_tick_pending ? -EINVAL : 0;
    case HVM_PARAM_ACPI_S_STATE:
        return value && value != HVM_S3 ? -EINVAL : 0;
    case HVM_PARAM_HPET_ENABLED:
    case HVM_PARAM_VPT_ALIGN:
    case HVM_PARAM_PAE_ENABLED:
        return value > 1 ? -EINVAL : 0;
    case HVM_PARAM_X87_FIP_WIDTH:
        return value && value != 4 && value != 8 ? -EINVAL : 0;
    case HVM_PARAM_DM_DOMAIN:
        return value == DOMID_SELF ? 0 : -EOPNOTSUPP;
    case HVM_PARAM_NR_IOREQ_SERVER_PAGES:
        return value > IOREQ_GFNS ? -EINVAL : 0;
    case HVM_PARAM_BUFIOREQ_EVTCHN:
        return -EINVAL; /* read only */
    default:
        return 0;
    }
}

static bool exists(uint32_t index)
{
    static const uint64_t none = 1ull << 3 | 1ull << 7 | 1ull << 8 | 1ull << HVM_PARAM_MEMORY_EVENT_CR0 |
                                 1ull << HVM_PARAM_MEMORY_EVENT_CR3 | 1ull << HVM_PARAM_MEMORY_EVENT_CR4 |
                                 1ull << HVM_PARAM_MEMORY_EVENT_INT3 |
                                 1ull << HVM_PARAM_MEMORY_EVENT_SINGLE_STEP |
                                 1ull << HVM_PARAM_MEMORY_EVENT_MSR;

    return index < HVM_NR_PARAMS && !(none >> index & 1);
}

/* Set once by the toolstack; another value later would be about a guest that already relies on the first. */
static bool set_once(uint32_t index)
{
    return index == HVM_PARAM_STORE_PFN || index == HVM_PARAM_CONSOLE_PFN || index == HVM_PARAM_IOREQ_PFN ||
           index == HVM_PARAM_BUFIOREQ_PFN;
}

static int set(struct domain *d, uint32_t index, uint64_t value)
{
    struct hvm_domain *h = hvm_domain(d);
    int r = value_ok(index, value);

    if (!r && index == HVM_PARAM_CALLBACK_IRQ)
        r = set_callback(d, value);
    if (!r && index == HVM_PARAM_ACPI_S_STATE)
        return hvm_sleep(d, value);
    if (r)
        return r;
    spin_lock(&d->lock);
    if (set_once(index) && h->param[index] && h->param[index] != value)
        r = -EEXIST;
    else if (index == HVM_PARAM_VIRIDIAN)
        r = viridian_set(d, value);
    if (!r)
        h->param[index] = value;
    spin_unlock(&d->lock);
    return r;
}

/* --- the operations --- */

static long begin(struct hypercall *hc, struct xen_hvm_param *a, struct domain **d)
{
    long r;

    if (guest_read(hc->caller, a, GVA(hc->arg[1]), sizeof(*a)))
        return -EFAULT;
    if (!exists(a->index))
        return -EINVAL;
    a->index = (uint32_t)array_index(a->index, HVM_NR_PARAMS);
    r = hc_target(hc, DID(a->domid), d);
    if (r)
        return r;
    if ((*d)->ops->translated)
        return 0;
    domain_put(*d);
    return -EINVAL;
}

static long op_set_param(struct hypercall *hc)
{
    struct xen_hvm_param a;
    struct domain *d;
    long r = begin(hc, &a, &d);

    if (r)
        return r;
    if (d == hc->caller->domain && !guest_may_set(a.index))
        r = -EPERM;
    else
        r = set(d, a.index, a.value);
    if (!r && d == hc->caller->domain && a.index == HVM_PARAM_CALLBACK_IRQ)
        hvm_latch_layout(hc->caller); /* a new kernel in an old domain */
    domain_put(d);
    return r;
}

static long op_get_param(struct hypercall *hc)
{
    struct xen_hvm_param a;
    struct domain *d;
    long r = begin(hc, &a, &d);

    if (r)
        return r;
    if (d == hc->caller->domain && !guest_may_get(a.index)) {
        r = -EPERM;
    } else {
        spin_lock(&d->lock);
        a.value = hvm_domain(d)->param[a.index];
        spin_unlock(&d->lock);
        r = guest_write(hc->caller, GVA(hc->arg[1]), &a, sizeof(a));
    }
    domain_put(d);
    return r;
}

static long op_upcall_vector(struct hypercall *hc)
{
    struct xen_hvm_evtchn_upcall_vector a;
    struct vcpu *v;

    if (!hc->caller->domain->ops->translated)
        return -EINVAL;
    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    v = domain_vcpu(hc->caller->domain, a.vcpu);
    if (!v)
        return -ENOENT;
    if (a.vector < 16)
        return -EINVAL;
    __atomic_store_n(&hvm_vcpu(v)->upcall_vector, a.vector, __ATOMIC_SEQ_CST);
    hvm_event_rekick(v);
    return 0;
}

/* Nested paging leaves a guest's tables alone: nothing is to be prepared for their end. */
static long op_pagetable_dying(struct hypercall *hc)
{
    return -EINVAL;
}

static long op_get_time(struct hypercall *hc)
{
    struct xen_hvm_get_time a = {.now = arch_time_ns()};

    return guest_write(hc->caller, GVA(hc->arg[1]), &a, sizeof(a));
}

/* Whether a page is memory: kernels that dump themselves ask before they touch it. */
static long op_get_mem_type(struct hypercall *hc)
{
    struct xen_hvm_get_mem_type a;
    struct p2m_entry e;
    struct domain *d;
    long r;

    if (guest_read(hc->caller, &a, GVA(hc->arg[1]), sizeof(a)))
        return -EFAULT;
    r = hc_target(hc, DID(a.domid), &d);
    if (r)
        return r;
    if (!d->ops->translated) {
        domain_put(d);
        return -EINVAL;
    }
    p2m_look(d, GFN(a.pfn), &e);
    domain_put(d);
    a.mem_type = e.type == P2M_RAM_RO                       ? HVMMEM_ram_ro
                 : e.type == P2M_NONE || e.type == P2M_MMIO ? HVMMEM_mmio_dm
                                                            : HVMMEM_ram_rw;
    return guest_write(hc->caller, GVA(hc->arg[1]), &a, sizeof(a));
}

const struct hc_op hvm_op_ops[] = {
    {HVMOP_set_param, PERM_TARGET, "HVMOP_set_param", op_set_param,
     .note = "nested HVM, altp2m, MCA: 0 only; ACPI_S_STATE: 0 and, with emulated devices, 3, by another "
             "domain; TIMER_MODE, VPT_ALIGN, PAE_ENABLED, X87_FIP_WIDTH: kept, no "
             "effect; VIRIDIAN: all groups, once, before the domain runs"},
    {HVMOP_get_param, PERM_TARGET, "HVMOP_get_param", op_get_param},
    /* Numbers of old interfaces, which the headers give no name any more. */
    {2, PERM_ANY, "HVMOP_set_pci_intx_level", NULL, ENOSYS, "withdrawn: dm_op has it"},
    {3, PERM_ANY, "HVMOP_set_isa_irq_level", NULL, ENOSYS, "withdrawn: dm_op has it"},
    {4, PERM_ANY, "HVMOP_set_pci_link_route", NULL, ENOSYS, "withdrawn: dm_op has it"},
    {HVMOP_flush_tlbs, PERM_ANY, "HVMOP_flush_tlbs", NULL, ENOSYS, "for guests with shadow page tables"},
    {HVMOP_pagetable_dying, PERM_TARGET, "HVMOP_pagetable_dying", op_pagetable_dying,
     .note = "EINVAL: for shadow page tables"},
    {HVMOP_get_time, PERM_ANY, "HVMOP_get_time", op_get_time},
    {HVMOP_xentrace, PERM_ANY, "HVMOP_xentrace", NULL, ENOSYS, "guests write no trace records"},
    {12, PERM_ANY, "HVMOP_set_mem_access", NULL, ENOSYS, "withdrawn: XENMEM_access_op"},
    {13, PERM_ANY, "HVMOP_get_mem_access", NULL, ENOSYS, "withdrawn: XENMEM_access_op"},
    {HVMOP_get_mem_type, PERM_TARGET, "HVMOP_get_mem_type", op_get_mem_type},
    {HVMOP_set_evtchn_upcall_vector, PERM_ANY, "HVMOP_set_evtchn_upcall_vector", op_upcall_vector},
    {HVMOP_guest_request_vm_event, PERM_ANY, "HVMOP_guest_request_vm_event", NULL, EOPNOTSUPP,
     "no introspection"},
    {HVMOP_altp2m, PERM_ANY, "HVMOP_altp2m", NULL, EOPNOTSUPP, "one p2m for each domain"},
};
const unsigned hvm_op_op_count = ARRAY_SIZE(hvm_op_ops);
