/*
 * What the translated guest of the fuzzed machine has beside memory: local APICs, the board of an HVM guest, device models - Krypton's
 * own files. Missing are the vendor's room and the way into the guest: a vCPU makes accesses (ops_hvm.c), and one that waits for a
 * device model does nothing else until the answer is there.
 */
#include "fuzz.h"
#include "core/alloc.h"
#include "core/sched.h"
#include "x86/hvm.h"
#include "x86/platform.h"
#include "../../arch/x86/hvm/dev/board.h"
#include "../../arch/x86/hvm/dev/ioreq_private.h"
#include "../../arch/x86/hvm/dev/irq.h"
#include "../../arch/x86/hvm/dev/vlapic_private.h"
#include "../../arch/x86/hvm/private.h"
#include "../../arch/x86/hvm/viridian/private.h"

/* --- what hvm/ has of a vCPU --- */

static unsigned cpl(const struct vcpu *v)
{
    return 0;
}
static void segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    *out = (struct hvm_segment){0};
}
static void set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in)
{
}
static void set(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
}
static const struct hvm_ops vendor = {
    .cpl = cpl, .get_segment = segment, .set_segment = set_segment, .set = set};
const struct hvm_ops *hvm_ops = &vendor;

bool hvm_is_64(const struct vcpu *v)
{
    return true;
}
void hvm_paging(struct vcpu *v, struct guest_paging *p)
{
    *p = (struct guest_paging){0};
}
void hvm_latch_layout(struct vcpu *v)
{
}
void hvm_vcpu_reset(struct vcpu *v)
{
    BUG_ON(v->running || !v->domain->pause_count);
    hvm_access_forget(v);
    vlapic_reset(v);
    viridian_vcpu_reset(v);
}
void hvm_set_tsc(struct vcpu *v, uint64_t tsc)
{
}
void hvm_join_tsc(struct vcpu *v)
{
}
static void wake(struct vcpu *v)
{
    vcpu_unblock(v);
    vcpu_kick(v);
}
void hvm_event_kick(struct vcpu *v)
{
    wake(v);
}
int hvm_vcpu_nmi(struct vcpu *v)
{
    wake(v);
    return 0;
}
void vlapic_nmi(struct vcpu *v)
{
    wake(v);
}
void vlapic_signal_init(struct vcpu *v)
{
    wake(v);
}
void vlapic_signal_startup(struct vcpu *v, uint8_t page)
{
}
int hvm_ask_event(struct vcpu *v, const struct hvm_event *e, uint64_t cr2)
{
    BUG_ON(!e->valid || (e->type == HVM_EVENT_EXCEPTION && e->vector >= 32));
    wake(v);
    return 0;
}

/* The vCPUs of the set have no translations here; what is counted is that they are asked for. */
void hvm_flush_vcpus(struct vcpu *caller, const uint64_t *set)
{
    for_each_vcpu(caller->domain, v)
    {
        if (set[v->id / 64] >> (v->id % 64) & 1)
            wake(v);
    }
}
bool time_tsc_line(const struct domain *who, uint64_t *tsc, uint64_t *ns, uint64_t *scale)
{
    *tsc = *ns = arch_time_ns();
    *scale = ~0ull / 100;
    return *ns & 1;
}

/* --- made and unmade --- */

int device_domain_init(struct domain *d)
{
    struct hvm_domain *h = mem_new(struct hvm_domain);

    if (!h)
        return -ENOMEM;
    x86_domain(d)->hvm = h;
    h->bus = mem_new(struct hvm_bus);
    if (!h->bus)
        return -ENOMEM;
    hvm_bus_add(d, &vlapic_device);
    hvm_bus_add(d, &text_device);
    return hvm_board_init(d);
}

void device_domain_release(struct domain *d)
{
    for_each_vcpu(d, v)
    {
        vlapic_free(hvm_vcpu(v)->vlapic);
    }
    hvm_board_stop(d);
    viridian_stop(d);
    ioreq_release(d);
}

void device_domain_free(struct domain *d)
{
    if (!hvm_domain(d))
        return;
    hvm_board_free(d);
    ioreq_free(d);
    viridian_free(d);
    mem_free(hvm_domain(d)->bus);
    mem_free(hvm_domain(d));
    x86_domain(d)->hvm = NULL;
}

int device_vcpu_init(struct vcpu *v)
{
    struct hvm_vcpu *h = mem_new(struct hvm_vcpu);

    if (!h)
        return -ENOMEM;
    x86_vcpu(v)->hvm = h;
    h->vlapic = mem_new(struct vlapic);
    h->io = (struct hvm_io *)mem_new(struct hvm_waiting);
    if (!h->vlapic || !h->io)
        return -ENOMEM;
    vlapic_init(v, h->vlapic);
    return viridian_vcpu_init(v);
}

void device_vcpu_free(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    if (!h)
        return;
    viridian_vcpu_free(v);
    if (h->vlapic)
        vlapic_free(h->vlapic);
    mem_free(h->vlapic);
    mem_free(h->io);
    mem_free(h);
    x86_vcpu(v)->hvm = NULL;
}

void device_check(struct domain *d)
{
    if (!hvm_domain(d))
        return;
    ioreq_check(d);
    hvm_board_check(d);
}

static void hold_page(const struct ioreq_page *p, void (*hold)(uint64_t mfn))
{
    if (p->va)
        hold(p->mfn.n);
}

/* Pages of device models: model.h. */
void model_held(struct domain *d, void (*hold)(uint64_t mfn))
{
    struct hvm_ioreq *q = hvm_domain(d) ? ioreq_of(d) : NULL;

    for (unsigned i = 0; q && i < IOREQ_SERVERS; i++)
        if (q->server[i]) {
            hold_page(&q->server[i]->sync, hold);
            hold_page(&q->server[i]->ring, hold);
        }
    for_each_vcpu(d, v)
    {
        const struct viridian_vcpu *vv = hvm_domain(d) && hvm_vcpu(v) ? viridian_vcpu(v) : NULL;

        if (vv && vv->assist.va)
            hold(vv->assist.mfn.n);
        if (vv && vv->sim.va)
            hold(vv->sim.mfn.n);
    }
}

/* --- accesses --- */

/* The instruction of each vCPU: its accesses, and which of them it made last. */
static struct hvm_access instruction[FUZZ_VCPUS][2];

void hvm_handle(struct vcpu *v, const struct hvm_exit *x)
{
    for (unsigned i = 0; i < 2; i++) {
        struct hvm_access a = instruction[v->id][i];

        if (!a.bytes)
            break;
        if (!hvm_access(v, &a))
            return;
        BUG_ON(!a.pointer && !a.write && a.value & ~bytes_mask(a.bytes));
    }
    hvm_access_commit(v);
}

void device_run(struct vcpu *v, const struct hvm_access *a)
{
    struct hvm_exit x = {.kind = HVM_EXIT_MEMORY};

    if (v->id >= FUZZ_VCPUS)
        return;
    instruction[v->id][0] = a[0];
    instruction[v->id][1] = a[1];
    hvm_access_begin(v, &x);
    hvm_handle(v, &x);
}

bool device_busy(const struct vcpu *v)
{
    return v->domain->ops->translated && hvm_access_pending(v);
}

/* What the vCPU does on its way in. */
void device_go_on(struct vcpu *v)
{
    int vector;

    for (unsigned n = 0; n < 16 && hvm_access_pending(v) && fake_current[fake_cpu] == v; n++)
        hvm_access_go_on(v);
    if (hvm_access_pending(v))
        return;
    hvm_callback_follow(v);
    if (hvm_pic_pending(v))
        (void)hvm_pic_ack(v);
    vector = vlapic_pending(v);
    BUG_ON(vector >= 0 && vector < 16);
    if (vector >= 0)
        vlapic_ack(v, (uint8_t)vector);
}
