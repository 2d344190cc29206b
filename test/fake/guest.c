/* Guests of the fake machine: their addresses are host pointers. Domains, vCPUs, physical address spaces,
 * grants, PIRQs. */
#include "fake.h"
#include "x86/hvm.h"
#include "x86/vcpu.h"
#include "x86/mm.h"
#include "x86/platform.h"
#include "x86/tlb.h"
#include "fake_private.h"

#include <stdlib.h>
#include <string.h>

/* --- copies --- */

uint64_t fake_fault_start, fake_fault_end, fake_window_start, fake_window_end;
unsigned fake_copies;

static bool faults(gva_t a, size_t n)
{
    __atomic_fetch_add(&fake_copies, 1, __ATOMIC_RELAXED);
    return fake_due(&fake_fail_copy) || a.a < 0x10000 || a.a + n < a.a || a.a + n > 1ull << 47 ||
           (a.a < fake_fault_end && a.a + n > fake_fault_start) ||
           (fake_window_end && (a.a < fake_window_start || a.a + n > fake_window_end));
}
static bool copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    if (faults(from, n))
        return false;
    memcpy(to, (const void *)from.a, n);
    return true;
}
static bool copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    if (faults(to, n))
        return false;
    memcpy((void *)to.a, from, n);
    return true;
}
static bool zero(struct vcpu *v, gva_t to, size_t n)
{
    if (faults(to, n))
        return false;
    memset((void *)to.a, 0, n);
    return true;
}
#define COPIES .copy_in = copy_in, .copy_out = copy_out, .zero = zero
const struct guest_ops fake_guest_ops = {.name = "fake", COPIES};
const struct guest_ops fake_translated_ops = {.name = "fake-translated", .translated = true, COPIES};
weak const struct guest_ops pv_guest_ops = {.name = "pv", COPIES};

weak bool arch_vcpu_area_write(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return copy_out(v, to, from, n);
}

/* --- domains and vCPUs --- */

weak struct domain *arch_domain_alloc(void)
{
    return calloc(1, sizeof(struct x86_domain));
}
weak void arch_domain_free(struct domain *d)
{
    free(d);
}
weak struct vcpu *arch_vcpu_alloc(struct domain *d)
{
    return calloc(1, sizeof(struct x86_vcpu));
}
weak void arch_vcpu_free(struct vcpu *v)
{
    free(v);
}
weak int arch_domain_init(struct domain *d, uint32_t flags)
{
    return 0;
}
weak int arch_vcpu_init(struct vcpu *v)
{
    return 0;
}
weak int arch_domain_release(struct domain *d)
{
    return 0;
}
weak int arch_domain_soft_reset(struct domain *d)
{
    return 0;
}
weak int arch_vcpu_unload(struct vcpu *v)
{
    return 0;
}
weak int arch_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online)
{
    uint8_t first;

    *online = true;
    return copy_in(caller, &first, context, 1) ? 0 : -EFAULT;
}
weak void arch_vcpu_reset(struct vcpu *v)
{
}
weak int arch_vcpu_nmi(struct vcpu *v)
{
    return 0;
}
weak void arch_vcpu_dump(struct vcpu *v)
{
}
weak uint32_t arch_features(const struct domain *d)
{
    return 0;
}
weak const char *arch_capabilities(void)
{
    return "xen-3.0-fake ";
}
weak uint64_t arch_virt_start(const struct domain *d)
{
    return 0;
}
weak long arch_memory_op(struct hypercall *hc)
{
    return -ENOSYS;
}
weak const struct hc_entry *const arch_hypercalls;
weak const unsigned arch_hypercall_count = 0;

static struct domain *made[64];
static unsigned made_count;

struct domain *fake_domain(uint16_t id, uint64_t max_frames)
{
    struct domain *d = calloc(1, sizeof(struct x86_domain));
    struct vcpu *v = calloc(1, sizeof(struct x86_vcpu));

    BUG_ON(made_count == ARRAY_SIZE(made));
    made[made_count++] = d;
    d->id = DID(id);
    d->refs = 2;
    d->ops = &fake_guest_ops;
    d->max_vcpus = 1;
    d->vcpu = calloc(1, sizeof(*d->vcpu));
    d->vcpu[0] = v;
    v->domain = d;
    d->max_frames = max_frames;
    d->shared_info_mfn = INVALID_MFN;
    spin_init(&d->lock, RANK_DOMAIN);
    spin_init(&d->page_lock, RANK_PAGE_ALLOC);
    BUG_ON(frame_domain_init(d));
    return d;
}

void fake_domains_free(void)
{
    while (made_count) {
        struct domain *d = made[--made_count];

        free(d->vcpu[0]);
        free(d->vcpu);
        free(d);
    }
}

long fake_hypercall(struct vcpu *v, const struct hc_op *ops, unsigned count, uint32_t op_mask, uint64_t a0,
                    uint64_t a1, uint64_t a2, unsigned *again)
{
    struct hypercall hc = {.caller = v, .arg = {a0, a1, a2}};
    uint32_t nr = (uint32_t)a0 & (op_mask ? op_mask : ~0u);
    const struct hc_op *op = NULL;
    long r;

    for (unsigned i = 0; i < count; i++)
        if (ops[i].nr == nr && ops[i].name)
            op = &ops[i];
    if (!op)
        return -ENOSYS;
    if ((op->perm == PERM_CONTROL && !v->domain->privileged) ||
        (op->perm == PERM_HARDWARE && !v->domain->hardware))
        return -EPERM;
    if (!op->fn)
        return -(op->refused ? op->refused : ENOSYS);
    for (unsigned n = 0; (r = op->fn(&hc)) == HC_AGAIN; n++) {
        if (again)
            ++*again;
        if (n > 10000000)
            panic("hypercall %s never ends", op->name);
    }
    return r;
}

/* --- physical address spaces --- */

static uint64_t *m2p;
weak uint64_t m2p_entries;

void m2p_start(uint64_t frames)
{
    m2p = malloc(frames * sizeof(*m2p));
    memset(m2p, 0xff, frames * sizeof(*m2p));
    m2p_entries = frames;
}
void m2p_stop(void)
{
    free(m2p);
    m2p = NULL;
}
weak bool m2p_present(mfn_t m)
{
    return m.n < m2p_entries;
}
weak uint64_t m2p_get(mfn_t m)
{
    return mfn_valid(m) ? m2p[m.n] : M2P_INVALID;
}
weak void m2p_set(mfn_t m, uint64_t pfn)
{
    if (mfn_valid(m))
        m2p[m.n] = pfn;
}
weak void m2p_set_block(mfn_t m, uint64_t pfn, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        m2p_set(MFN(m.n + i), pfn + i);
}
weak mfn_t m2p_frame(unsigned i)
{
    return MFN(i + 1);
}

/* Translated guests: a list of (domain, gfn, mfn), newest first. */
struct p2m_entry {
    const struct domain *d;
    uint64_t gfn, mfn;
};
static struct p2m_entry p2m[1024];
static unsigned p2m_count;

static struct p2m_entry *p2m_find(const struct domain *d, uint64_t gfn, uint64_t mfn)
{
    for (unsigned i = 0; i < p2m_count; i++)
        if (p2m[i].d == d && (p2m[i].gfn == gfn || gfn == ~0ull) && (p2m[i].mfn == mfn || mfn == ~0ull))
            return &p2m[i];
    return NULL;
}

weak mfn_t arch_gfn_to_mfn(struct domain *d, gfn_t g)
{
    struct p2m_entry *e;

    if (!d->ops->translated)
        return mfn_valid(MFN(g.n)) ? MFN(g.n) : INVALID_MFN;
    e = p2m_find(d, g.n, ~0ull);
    return e ? MFN(e->mfn) : INVALID_MFN;
}
weak gfn_t arch_mfn_to_gfn(struct domain *d, mfn_t m)
{
    struct p2m_entry *e;

    if (!d->ops->translated)
        return GFN(m2p_get(m));
    e = p2m_find(d, ~0ull, m.n);
    return e ? GFN(e->gfn) : INVALID_GFN;
}
weak int arch_physmap_add(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    if (fake_due(&fake_fail_physmap))
        return -ENOMEM;
    for (uint64_t i = 0; i < 1ull << order; i++) {
        if (!d->ops->translated) {
            m2p_set(MFN(m.n + i), g.n + i);
            continue;
        }
        if (p2m_count == ARRAY_SIZE(p2m))
            return -ENOMEM;
        p2m[p2m_count++] = (struct p2m_entry){d, g.n + i, m.n + i};
    }
    return 0;
}
weak int arch_physmap_remove(struct domain *d, gfn_t g, mfn_t m, unsigned order)
{
    int r = 0;

    for (uint64_t i = 0; i < 1ull << order; i++) {
        struct p2m_entry *e = p2m_find(d, g.n + i, m.n + i);

        if (!d->ops->translated)
            m2p_set(MFN(m.n + i), M2P_INVALID);
        else if (e)
            *e = p2m[--p2m_count];
        else
            r = -ENOENT;
    }
    return r;
}
weak struct frame *arch_gfn_get(struct domain *d, gfn_t g)
{
    mfn_t m = arch_gfn_to_mfn(d, g);

    return mfn_valid(m) && frame_get(mfn_frame(m), d) ? mfn_frame(m) : NULL;
}
weak bool arch_gfn_pin(struct domain *d, gfn_t g, bool readonly, mfn_t *m)
{
    *m = arch_gfn_to_mfn(d, g);
    return mfn_valid(*m) && arch_grant_pin(d, *m, readonly);
}
/* Entries of this machine hold no references. */
weak int arch_physmap_release(struct domain *d, gfn_t g, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++) {
        struct p2m_entry *e = p2m_find(d, g.n + i, ~0ull);
        struct frame *f = arch_gfn_get(d, GFN(g.n + i));

        if (!e)
            return -ENOENT;
        *e = p2m[--p2m_count];
        if (!f)
            continue;
        if (frame_clear_allocated(f))
            frame_put(f);
        frame_put(f);
    }
    return 0;
}
weak unsigned arch_physmap_release_list(struct domain *d, const uint64_t *gfn, unsigned n)
{
    unsigned done = 0;

    while (done < n && !arch_physmap_release(d, GFN(gfn[done]), 0))
        done++;
    return done;
}
weak int arch_physmap_add_foreign(struct domain *d, gfn_t g, struct domain *from, gfn_t there)
{
    mfn_t m = arch_gfn_to_mfn(from, there);

    return mfn_valid(m) ? arch_physmap_add(d, g, m, 0) : -EINVAL;
}
weak gfn_t arch_gfn_highest(struct domain *d)
{
    uint64_t max = d->shared_info ? d->shared_info->arch.max_pfn : 0;

    return GFN(max ? max - 1 : 0);
}

/* Without ioreq servers. */
weak int hvm_resource_frame(struct domain *d, uint32_t id, uint64_t index, mfn_t *m)
{
    return -EINVAL;
}
weak void arch_frame_written(struct domain *d, mfn_t m)
{
}
weak uint32_t arch_resource_frames(struct domain *d, unsigned type)
{
    return 0;
}
weak int arch_resource_frame(struct domain *d, unsigned type, uint32_t id, uint64_t index, mfn_t *m)
{
    *m = INVALID_MFN;
    return -EINVAL;
}
weak int arch_pod_mark(struct domain *d, gfn_t g, unsigned order)
{
    return -EOPNOTSUPP;
}
weak int arch_pod_target(struct domain *d, uint64_t pages)
{
    return 0;
}
weak void arch_pod_info(struct domain *d, uint64_t *cached, uint64_t *entries)
{
    *cached = *entries = 0;
}

/* --- TLBs --- */

uint32_t fake_flushes[MAX_CPUS], fake_flush_kind;
uint64_t fake_flush_va;
static uint32_t tlb_clock = 1, tlb_time[MAX_CPUS];

static void flush_cpu(unsigned cpu, unsigned kind, gva_t va)
{
    fake_flushes[cpu]++;
    fake_flush_kind = kind;
    fake_flush_va = va.a;
    if (kind == TLB_FLUSH_ALL)
        tlb_time[cpu] = tlb_clock++;
}
weak void tlb_flush_cpus(const struct cpumask *cpus, unsigned kind, gva_t va)
{
    for_each_cpu(c, cpus) flush_cpu(c, kind, va);
}
weak void tlb_flush_local(void)
{
    flush_cpu(fake_cpu, TLB_FLUSH_ALL, GVA(0));
}
weak void tlb_flush_local_va(gva_t va)
{
    flush_cpu(fake_cpu, TLB_FLUSH_VA, va);
}
weak uint32_t tlb_stamp(void)
{
    return tlb_clock;
}
weak void tlb_flush_older(const struct cpumask *cpus, uint32_t stamp)
{
    for_each_cpu(c, cpus)
    {
        if (tlb_time[c] < stamp)
            flush_cpu(c, TLB_FLUSH_ALL, GVA(0));
    }
}
weak void arch_frame_writable(mfn_t m)
{
}
weak void arch_frame_stamp(struct frame *f)
{
    f->stamp = tlb_clock;
}
/* Frames that never had an owner carry stamp 0. */
weak void arch_frame_settle(struct frame *f, unsigned order)
{
    uint32_t newest = 0;

    for (uint64_t i = 0; i < 1ull << order; i++)
        newest = MAX(newest, f[i].stamp);
    if (newest)
        tlb_flush_older(&cpus_online, newest);
}

/* --- grants --- */

#define MAX_MAPS 4096
#define MAX_PINS 4096
static struct fake_map {
    const struct domain *d;
    uint64_t addr, mfn;
    unsigned flags;
    bool readonly;
} maps[MAX_MAPS];
static struct fake_pin {
    uint64_t mfn;
    unsigned ro, rw;
    bool page_table;
} pins[MAX_PINS];
static unsigned pin_count;
unsigned fake_grant_maps, fake_grant_flushes;

void grants_reset(void)
{
    fake_grant_maps = fake_grant_flushes = pin_count = p2m_count = 0;
    memset(pins, 0, sizeof(pins));
    memset(fake_flushes, 0, sizeof(fake_flushes));
    memset(tlb_time, 0, sizeof(tlb_time));
    tlb_clock = 1;
    fake_pirq_bound = fake_pirq_unmasked = 0;
    fake_pirq_deny = false;
}

static struct fake_pin *pin_of(mfn_t m)
{
    for (unsigned i = 0; i < pin_count; i++)
        if (pins[i].mfn == m.n)
            return &pins[i];
    BUG_ON(pin_count == MAX_PINS);
    pins[pin_count].mfn = m.n;
    return &pins[pin_count++];
}

unsigned fake_pins(mfn_t m, bool writable)
{
    return writable ? pin_of(m)->rw : pin_of(m)->ro;
}
void fake_set_page_table(mfn_t m, bool is)
{
    pin_of(m)->page_table = is;
}

weak bool arch_grant_pin(struct domain *owner, mfn_t m, bool readonly)
{
    struct fake_pin *p = pin_of(m);

    if (!mfn_valid(m) || (!readonly && p->page_table) || !frame_get(mfn_frame(m), owner))
        return false;
    if (readonly)
        p->ro++;
    else
        p->rw++;
    return true;
}
weak void arch_grant_unpin(mfn_t m, bool readonly)
{
    struct fake_pin *p = pin_of(m);

    BUG_ON(readonly ? !p->ro : !p->rw);
    if (readonly)
        p->ro--;
    else
        p->rw--;
    frame_put(mfn_frame(m));
}

static struct fake_map *map_find(const struct domain *d, uint64_t addr)
{
    for (unsigned i = 0; i < fake_grant_maps; i++)
        if ((!d || maps[i].d == d) && maps[i].addr == addr)
            return &maps[i];
    return NULL;
}
bool fake_is_mapped(uint64_t addr, mfn_t m)
{
    struct fake_map *f = map_find(NULL, addr);

    return f && f->mfn == m.n;
}

weak int arch_grant_map(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly)
{
    if (fake_due(&fake_fail_map) || fake_grant_maps == MAX_MAPS || addr % FRAME_SIZE % 8)
        return -EINVAL;
    maps[fake_grant_maps++] = (struct fake_map){v->domain, addr, m.n, flags, readonly};
    return 0;
}
weak int arch_grant_unmap(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly,
                          uint64_t new_addr)
{
    struct fake_map *f = map_find(v->domain, addr);

    if (!f || f->mfn != m.n || f->readonly != readonly)
        return -EINVAL;
    *f = maps[--fake_grant_maps];
    return 0;
}
weak void arch_grant_flush(struct domain *d)
{
    fake_grant_flushes++;
}

/* --- physical interrupts, device rights --- */

uint32_t fake_pirq_bound, fake_pirq_unmasked;
bool fake_pirq_deny;

weak int arch_pirq_bind(struct vcpu *v, uint32_t pirq, bool will_share)
{
    if (fake_pirq_deny)
        return -EBUSY;
    fake_pirq_bound++;
    return 0;
}
weak void arch_pirq_unbind(struct domain *d, uint32_t pirq)
{
    fake_pirq_bound--;
}
weak void arch_pirq_unmask(struct domain *d, uint32_t pirq)
{
    fake_pirq_unmasked++;
}
weak bool arch_pirq_allowed(const struct domain *d, uint32_t pirq)
{
    return d->hardware && pirq < 256;
}
weak void arch_pirq_set_affinity(struct domain *d, uint32_t pirq, struct vcpu *v)
{
}
weak bool port_allowed(const struct domain *d, uint16_t port, unsigned bytes)
{
    return d->hardware;
}
weak bool iomem_allowed(const struct domain *d, mfn_t m)
{
    return d->hardware;
}
weak void mm_fill_guest_l4(uint64_t *l4, struct domain *d)
{
    for (unsigned i = HYP_SLOT_FIRST; i <= HYP_SLOT_LAST; i++)
        l4[i] = 0x8000000000000063ull + ((uint64_t)i << 40);
}
weak bool mm_show_m2p(uint64_t *l4, bool show)
{
    uint64_t want = show ? 0x8000000000000063ull + ((uint64_t)HYP_SLOT_FIRST << 40) : 0;

    return __atomic_exchange_n(&l4[HYP_SLOT_FIRST], want, __ATOMIC_ACQ_REL) != want;
}
weak struct guest_regs *vcpu_regs(struct vcpu *v)
{
    return &x86_vcpu(v)->regs;
}
