/*
 * The simulated processors: interrupt flag, IPIs, timer, TLB and table walks; and the rest of the seam that the
 * fake machine offers for one thread only. Both engines use it.
 *
 * Interrupts are taken at points (sim_point) with the interrupt flag on, as on a processor: a kick that comes
 * while interrupts are on is taken and gone, one that comes while they are off ends the next idle wait.
 *
 * The TLB keeps what it is not told to drop, tables of level 1 included (as processors cache them). Each access
 * through it is checked: a frame that was given to somebody since the translation was made (`use`), or that is a
 * page or descriptor table by now (for writes), or an L1 table that became writable memory, is a missing flush.
 */
#include "sim_private.h"
#include "fake.h"
#include "arch/x86/pv/mmu/types.h"
#include "core/lock.h"
#include "core/perf.h"
#include "core/work.h"
#include "x86/boot.h"
#include "x86/mm.h"
#include "x86/percpu.h"
#include "x86/platform.h"
#include "x86/tlb.h"

struct sim_cpu sim_cpus[SIM_CPUS];
_Thread_local struct sim_cpu *sim_me;
struct boot_info boot_info;
static bool outside_irqs_off; /* the simulator's own flag */
static uint32_t *use;         /* [a] by frame: how often it was given to somebody */
static uint64_t *m2p;
static unsigned domains_alive;

static struct sim_cpu *me(void)
{
    return sim_me ? sim_me : &sim_cpus[0];
}

/* --- processors --- */

unsigned arch_cpu_id(void)
{
    return me()->id;
}
unsigned arch_cpu_node(unsigned cpu)
{
    return 0;
}
struct vcpu *arch_current(void)
{
    return me()->current;
}
struct vcpu *sim_runs(unsigned cpu)
{
    return sim_cpus[cpu].current;
}
static bool *irq_flag(void)
{
    return sim_me ? &sim_me->irqs_off : &outside_irqs_off;
}
bool arch_irq_enabled(void)
{
    return !*irq_flag();
}
void arch_irq_disable(void)
{
    *irq_flag() = true;
}
void arch_irq_enable(void)
{
    *irq_flag() = false;
    SIM_POINT();
}
unsigned long arch_irq_save(void)
{
    unsigned long was = !*irq_flag();

    *irq_flag() = true;
    return was;
}
void arch_irq_restore(unsigned long flags)
{
    *irq_flag() = !flags;
    SIM_POINT();
}

static void as_cpu(struct sim_cpu *c)
{
    struct sim_cpu *was = sim_me;
    bool off = c->irqs_off;

    sim_me = c;
    c->irqs_off = true;
    tlb_flush_interrupt();
    c->irqs_off = off;
    sim_me = was;
}

void arch_cpu_relax(void)
{
    if (sim_me) {
        sim_engine_relax();
        return;
    }
    /* The simulator itself waits for flushes: the CPUs stand still, so it takes their interrupts. */
    for (unsigned i = 0; i < SIM_CPUS; i++)
        if (sim_cpus[i].flush_wanted) {
            sim_cpus[i].flush_wanted = false;
            as_cpu(&sim_cpus[i]);
        }
}
void arch_cpu_kick(unsigned cpu)
{
    SIM_CHECK(cpu < SIM_CPUS);
    __atomic_store_n(&sim_cpus[cpu].kicked, true, __ATOMIC_RELAXED);
}
void apic_send_ipi_mask(const struct cpumask *m, uint8_t vector)
{
    SIM_CHECK(vector == VEC_FLUSH);
    for_each_cpu(c, m) __atomic_store_n(&sim_cpus[c].flush_wanted, true, __ATOMIC_RELAXED);
}
void arch_timer_program(uint64_t deadline_ns)
{
    me()->deadline = deadline_ns;
}
uint32_t *arch_perf(void)
{
    static _Thread_local uint32_t counts[PERF_VALUES];

    return counts;
}
uint64_t arch_time_ns(void)
{
    return sim_engine_now();
}

bool sim_interrupt_waiting(const struct sim_cpu *c)
{
    return __atomic_load_n(&c->kicked, __ATOMIC_RELAXED) ||
           __atomic_load_n(&c->flush_wanted, __ATOMIC_RELAXED) || c->deadline <= sim_engine_now();
}

static void handle(struct sim_cpu *c, void (*fn)(void))
{
    c->irqs_off = c->in_irq = true;
    fn();
    SIM_CHECK(c->irqs_off);
    c->irqs_off = c->in_irq = false;
}

static void timer_interrupt(void)
{
    me()->deadline = ~0ull;
    work_raise(WORK_TIMER);
}

static void kick_interrupt(void)
{
}

void sim_interrupts(struct sim_cpu *c)
{
    if (c->irqs_off || c->in_irq)
        return;
    if (__atomic_load_n(&c->flush_wanted, __ATOMIC_RELAXED) &&
        __atomic_exchange_n(&c->flush_wanted, false, __ATOMIC_RELAXED))
        handle(c, tlb_flush_interrupt);
    if (__atomic_load_n(&c->kicked, __ATOMIC_RELAXED) &&
        __atomic_exchange_n(&c->kicked, false, __ATOMIC_RELAXED))
        handle(c, kick_interrupt);
    if (c->deadline <= sim_engine_now())
        handle(c, timer_interrupt);
    if (sim_scenario->irq && !__atomic_load_n(&sim_finishing, __ATOMIC_RELAXED) && sim_one_in(512))
        handle(c, sim_scenario->irq);
}

void arch_machine_restart(void)
{
    sim_fail("the machine restarts");
}
void arch_machine_poweroff(void)
{
    sim_fail("the machine powers off");
}

/* --- TLB --- */

uint64_t hw_read_cr3(void);
void hw_write_cr3(uint64_t v);
void hw_invlpg(uint64_t va);
struct cpu_info *sim_cpu_info(void);

uint64_t hw_read_cr3(void)
{
    return me()->cr3;
}
void hw_write_cr3(uint64_t v)
{
    struct sim_cpu *c = me();

    c->cr3 = v;
    memset(c->tlb, 0, sizeof(c->tlb));
    memset(c->pde, 0, sizeof(c->pde));
}
void hw_invlpg(uint64_t va)
{
    struct sim_cpu *c = me();

    memset(c->pde, 0, sizeof(c->pde));
    for (unsigned i = 0; i < SIM_TLB; i++)
        if (c->tlb[i].va == va >> FRAME_SHIFT)
            c->tlb[i].valid = false;
}
struct cpu_info *sim_cpu_info(void)
{
    static struct cpu_info info;

    return &info;
}
void cache_flush_cpus(const struct cpumask *cpus)
{
}

static uint32_t use_of(uint64_t mfn)
{
    return mfn < frame_count ? __atomic_load_n(&use[mfn], __ATOMIC_RELAXED) : 0;
}

/* From here on a new owner sees the frame. */
void __real_arch_frame_settle(struct frame *f, unsigned order);
void __wrap_arch_frame_settle(struct frame *f, unsigned order);
void __wrap_arch_frame_settle(struct frame *f, unsigned order)
{
    __real_arch_frame_settle(f, order);
    for (uint64_t i = 0; i < 1ull << order; i++)
        __atomic_fetch_add(&use[frame_mfn(f).n + i], 1, __ATOMIC_RELAXED);
}

static uint64_t frame_type(uint64_t mfn)
{
    return __atomic_load_n(&mfn_frame(MFN(mfn))->type, __ATOMIC_RELAXED);
}

static void check_entry(const struct sim_tlb_entry *e, const char *what)
{
    if (e->use != use_of(e->mfn))
        sim_fail("CPU %u: stale translation (%s) of %#llx to frame %#llx, which was given to somebody since",
                 me()->id, what, (unsigned long long)e->va, (unsigned long long)e->mfn);
}

static void check_write(const struct sim_tlb_entry *e)
{
    uint64_t x = frame_type(e->mfn);

    if (x & (PGT_VALIDATED | PGT_PARTIAL) && pgt_type(x) != PGT_WRITABLE && pgt_type(x) != PGT_SHARED)
        sim_fail("CPU %u: writes to frame %#llx of type %#llx through a stale translation of %#llx", me()->id,
                 (unsigned long long)e->mfn, (unsigned long long)x, (unsigned long long)e->va);
}

static void check_l1(const struct sim_tlb_entry *e)
{
    uint64_t x = frame_type(e->mfn);

    if (pgt_type(x) == PGT_WRITABLE && x & PGT_VALIDATED && pgt_count(x))
        sim_fail("CPU %u: walks frame %#llx as a level-1 table, which is writable now", me()->id,
                 (unsigned long long)e->mfn);
}

static uint64_t *slot(uint64_t table, uint64_t va, unsigned level)
{
    return (uint64_t *)arch_frame_va(MFN(table)) + pt_index(va, level);
}

/* Accessed and dirty bits are set as a processor does: atomically, only if the entry is still that. */
static bool mark(uint64_t *p, uint64_t e, uint64_t bits)
{
    return (e & bits) == bits ||
           __atomic_compare_exchange_n(p, &e, e | bits, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* The L1 table for va, through the cache of such or from the root. */
static struct sim_tlb_entry *find_l1(struct sim_cpu *c, uint64_t va)
{
    struct sim_tlb_entry *e = &c->pde[(va >> 21) % SIM_PDE];
    uint64_t table = c->cr3 >> FRAME_SHIFT;
    bool write = true;

    if (e->valid && e->va == va >> 21) {
        check_entry(e, "of a level-1 table");
        check_l1(e);
        return e;
    }
    for (unsigned level = 4; level > 1; level--) {
        uint64_t *p = slot(table, va, level), x = __atomic_load_n(p, __ATOMIC_RELAXED);

        if (!pgt_level(frame_type(table)))
            sim_fail("CPU %u: frame %#llx is in use as a table of level %u, type %#llx", c->id,
                     (unsigned long long)table, level, (unsigned long long)frame_type(table));
        if (!(x & PTE_P) || !mark(p, x, PTE_A))
            return NULL;
        write &= !!(x & PTE_RW);
        table = pte_mfn(x).n;
        SIM_CHECK(table < frame_count);
    }
    *e = (struct sim_tlb_entry){va >> 21, table, use_of(table), true, write};
    return e;
}

static struct sim_tlb_entry *find_page(struct sim_cpu *c, uint64_t va, bool write)
{
    struct sim_tlb_entry *e = &c->tlb[(va >> FRAME_SHIFT) % SIM_TLB], *l1;
    uint64_t *p, x;

    if (e->valid && e->va == va >> FRAME_SHIFT && (!write || e->write))
        return e;
    e->valid = false;
    l1 = find_l1(c, va);
    if (!l1)
        return NULL;
    p = slot(l1->mfn, va, 1);
    x = __atomic_load_n(p, __ATOMIC_RELAXED);
    if (!(x & PTE_P) || (write && !(l1->write && x & PTE_RW)) || !mark(p, x, write ? PTE_A | PTE_D : PTE_A) ||
        pte_mfn(x).n >= frame_count)
        return NULL;
    /* Dirty bits of writable entries are set above, so a later write needs no walk. */
    *e = (struct sim_tlb_entry){va >> FRAME_SHIFT, pte_mfn(x).n, use_of(pte_mfn(x).n), true, write};
    return e;
}

/* A stale write may land in a free frame: that is no mistake, but memory that ASan forbids. */
__attribute__((no_sanitize("address"))) static void store(uint64_t *p, uint64_t value)
{
    __atomic_store_n(p, value, __ATOMIC_RELAXED);
}

bool sim_touch(struct vcpu *v, uint64_t va, bool write, uint64_t value)
{
    struct sim_tlb_entry *e = me()->cr3 ? find_page(me(), va, write) : NULL;
    uint64_t *p;

    SIM_CHECK(me()->current == v && !me()->irqs_off);
    if (!e)
        return false;
    check_entry(e, write ? "writable" : "readable");
    if (!write)
        return true;
    check_write(e);
    p = (uint64_t *)arch_frame_va(MFN(e->mfn)) + (va & (FRAME_SIZE - 1)) / 8;
    store(p, value);
    return true;
}

/* --- switch: as arch/x86/pv/context.c does it --- */

static uint64_t root_of(struct vcpu *v)
{
    mfn_t m = pv_vcpu(v)->kernel_mode ? pv_vcpu(v)->root_kernel : pv_vcpu(v)->root_user;

    return mfn_eq(m, INVALID_MFN) ? 0 : mfn_to_maddr(m).a;
}

void arch_context_switch(struct vcpu *prev, struct vcpu *next)
{
    struct sim_cpu *c = me();

    SIM_CHECK(c->irqs_off && prev == c->current && prev != next);
    lock_assert_none();
    c->current = next;
    if (next->idle) {
        hw_write_cr3(0);
    } else {
        cpumask_set(&x86_domain(next->domain)->dirty_cpus, c->id);
        SIM_POINT();
        hw_write_cr3(root_of(next));
    }
    SIM_POINT();
    if (!prev->idle && prev->domain != next->domain)
        cpumask_clear(&x86_domain(prev->domain)->dirty_cpus, c->id);
    SIM_POINT();
    sched_context_saved(prev);
    sim_note("runs d%uv%u", next->domain->id.v, next->id);
    c->irqs_off = false;
}

void pv_root_changed(struct vcpu *v)
{
    SIM_CHECK(v == me()->current);
    hw_write_cr3(root_of(v));
}
void pv_l4_changed(struct domain *d, mfn_t l4)
{
}
void pv_load_ldt(struct vcpu *v)
{
}
void pv_inject(struct vcpu *v, uint8_t vector, uint32_t error_code, bool has_error)
{
}
void pv_inject_pf(struct vcpu *v, uint64_t addr, uint32_t error_code)
{
}

/* --- domains --- */

struct domain *arch_domain_alloc(void)
{
    struct x86_domain *x = calloc(1, sizeof(*x));

    __atomic_fetch_add(&domains_alive, 1, __ATOMIC_RELAXED);
    return x ? &x->core : NULL;
}
void arch_domain_free(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);

    for (unsigned i = 0; x->window_l1 && i < d->max_vcpus; i++)
        free(x->window_l1[i]);
    free(x->window_l1);
    free(x);
    __atomic_fetch_sub(&domains_alive, 1, __ATOMIC_RELAXED);
}
int arch_domain_init(struct domain *d, uint32_t flags)
{
    struct x86_domain *x = x86_domain(d);

    x->window_l1 = calloc(d->max_vcpus, sizeof(uint64_t *));
    for (unsigned i = 0; i < d->max_vcpus; i++)
        x->window_l1[i] = calloc(32, 8);
    return 0;
}
int arch_vcpu_init(struct vcpu *v)
{
    struct pv_vcpu *pv = pv_vcpu(v);

    pv->root_kernel = pv->root_user = INVALID_MFN;
    pv->kernel_mode = true;
    spin_init(&pv->ldt_lock, RANK_PV_FRAME);
    return 0;
}
int arch_domain_release(struct domain *d)
{
    return pv_domain_release_tables(d);
}
unsigned sim_domains_alive(void)
{
    return __atomic_load_n(&domains_alive, __ATOMIC_RELAXED);
}

static const struct hc_entry rows[] = {
    {__HYPERVISOR_mmu_update, PERM_ANY, "mmu_update", pv_mmu_update, .nargs = 4},
    {__HYPERVISOR_update_va_mapping, PERM_ANY, "update_va_mapping", pv_update_va_mapping, .nargs = 3},
    {__HYPERVISOR_update_va_mapping_otherdomain, PERM_ANY, "update_va_mapping_otherdomain",
     pv_update_va_mapping_otherdomain, .nargs = 4},
    {__HYPERVISOR_mmuext_op, PERM_ANY, "mmuext_op", pv_mmuext_op, .nargs = 4},
};
const struct hc_entry *const arch_hypercalls = rows;
const unsigned arch_hypercall_count = ARRAY_SIZE(rows);

/* --- memory --- */

void arch_frame_zero(mfn_t m)
{
    uint64_t *p = arch_frame_va(m);

    for (unsigned i = 0; i < FRAME_SIZE / sizeof(*p);
         i++) /* guests that write meanwhile are no race of ours */
        store(p + i, 0);
    SIM_POINT();
}
uint64_t m2p_entries;
bool m2p_present(mfn_t m)
{
    return m.n < m2p_entries;
}
uint64_t m2p_get(mfn_t m)
{
    return m.n < m2p_entries ? __atomic_load_n(&m2p[m.n], __ATOMIC_RELAXED) : M2P_INVALID;
}
void m2p_set(mfn_t m, uint64_t pfn)
{
    if (m.n < m2p_entries)
        __atomic_store_n(&m2p[m.n], pfn, __ATOMIC_RELAXED);
}

/* --- guest memory that is named by address: host pointers, copied in two halves with a point between --- */

static bool faults(gva_t a, size_t n)
{
    SIM_POINT();
    return a.a < 0x10000 || a.a + n < a.a || a.a + n > 1ull << 47;
}
static bool copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    if (faults(from, n))
        return false;
    memcpy(to, (const void *)from.a, n / 2);
    SIM_POINT();
    memcpy((char *)to + n / 2, (const char *)from.a + n / 2, n - n / 2);
    return true;
}
static bool copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    if (faults(to, n))
        return false;
    memcpy((void *)to.a, from, n);
    SIM_POINT();
    return true;
}
static bool zero(struct vcpu *v, gva_t to, size_t n)
{
    if (faults(to, n))
        return false;
    memset((void *)to.a, 0, n);
    SIM_POINT();
    return true;
}
const struct guest_ops sim_guest_ops = {
    .name = "sim", .copy_in = copy_in, .copy_out = copy_out, .zero = zero};

bool arch_vcpu_area_write(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return copy_out(v, to, from, n);
}

/* --- physical interrupts --- */

int arch_pirq_bind(struct vcpu *v, uint32_t pirq, bool will_share)
{
    return pirq % 3 ? 0 : -EBUSY;
}
void arch_pirq_unbind(struct domain *d, uint32_t pirq)
{
}
void arch_pirq_unmask(struct domain *d, uint32_t pirq)
{
}
void arch_pirq_set_affinity(struct domain *d, uint32_t pirq, struct vcpu *v)
{
}
bool arch_pirq_allowed(const struct domain *d, uint32_t pirq)
{
    return pirq < 8;
}

/* --- log, failures on demand (in place of test/fake/fail.c) --- */

unsigned fake_fail_alloc, fake_fail_mem, fake_fail_copy, fake_fail_physmap, fake_fail_map, fake_preempt_every;
bool fake_due(unsigned *counter);
bool fake_due(unsigned *counter)
{
    return false;
}

/* Long operations are told to stop now and then although nothing waits. */
bool __real_preempt_needed(void);
bool __wrap_preempt_needed(void);
bool __wrap_preempt_needed(void)
{
    SIM_POINT();
    return __real_preempt_needed() || (sim_me && sim_one_in(8));
}

static void log_va(const char *fmt, va_list ap)
{
    char line[256];

    if (!sim_trace)
        return;
    vsnprintf(line, sizeof(line), fmt, ap);
    sim_note("log: %s", line);
}
void log_line(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_va(fmt, ap);
    va_end(ap);
}
void log_guest(did_t id, enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_va(fmt, ap);
    va_end(ap);
}
void panic(const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    sim_fail("panic: %s", line);
}

void sim_machine_start(void)
{
    for (unsigned i = 0; i < SIM_CPUS; i++)
        sim_cpus[i] = (struct sim_cpu){.id = i, .deadline = ~0ull, .irqs_off = true, .rng = 1};
    use = calloc(frame_count, sizeof(*use));
    m2p = malloc(frame_count * sizeof(*m2p));
    memset(m2p, 0xff, frame_count * sizeof(*m2p));
    m2p_entries = frame_count;
}

void sim_machine_seed(void)
{
    for (unsigned i = 0; i < SIM_CPUS; i++)
        sim_cpus[i].rng = (sim_seed + 1 + i * 1000003) * 0x9e3779b97f4a7c15ull | 1;
}

uint32_t sim_rnd(uint32_t below)
{
    struct sim_cpu *c = me();

    c->rng ^= c->rng << 13;
    c->rng ^= c->rng >> 7;
    c->rng ^= c->rng << 17;
    return (uint32_t)((c->rng * 0x2545f4914f6cdd1dull) >> 32) % below;
}
