/*
 * What pv/ and the processors do in the fuzzed machine (fuzz.h).
 *
 * Guest memory is one buffer; everything outside of it faults. A CPU loads the tables of the vCPU that it switches to.
 *
 * The TLB model. A CPU may at any moment take any translation into its TLB that its tables give, and keeps it until it
 * flushes all. So after each flush and each step every CPU's set is extended by all that a walk from its root finds: frames
 * that it could read, write, walk as a table of some level, or use as descriptors. Then nothing in a set may contradict what
 * the frame is now:
 *   - writable: no table, no descriptor page
 *   - walked or used as descriptors: no other type in use
 *   - any: owned by the domain whose tables gave it, or granted to it, or the frame is free (whoever takes it next flushes)
 * Of a translated guest the tables are its p2m (translated.c).
 */
#include "fuzz.h"
#include "fake_private.h"
#include "core/grant/private.h"
#include "arch/control.h"
#include "core/control.h"
#include "core/guest.h"
#include "core/lock.h"
#include "core/sched.h"
#include "core/work.h"
#include "../../arch/x86/pv/mmu/types.h"
#include "../../arch/x86/pv/private.h"
#include "x86/boot.h"
#include "x86/guest.h"
#include "x86/hvm.h"
#include "x86/mm.h"
#include "x86/p2m.h"
#include "x86/platform.h"
#include "x86/spec.h"
#include "x86/tlb.h"

#include <string.h>

struct boot_info boot_info;
struct spec_plan spec_plan;
struct cpu_features cpu_features = {.xsave_size = 576, .nx = true, .phys_bits = 46};
uint64_t tsc_khz = 1000000;

/* --- guest memory --- */

char *guest_memory;
unsigned fuzz_fail_copy, fuzz_flip_copy;
static uint32_t arg_used;

void *arg_alloc(size_t bytes)
{
    char *base = guest_memory + (size_t)ARENA * fake_cpu;

    bytes = ROUND_UP(bytes, 8);
    if (arg_used + bytes > ARENA)
        arg_used = 0;
    base += arg_used;
    arg_used += (uint32_t)bytes;
    return base;
}

static bool reachable(gva_t a, size_t n)
{
    uint64_t base = (uint64_t)(uintptr_t)guest_memory;

    return !fake_due(&fuzz_fail_copy) && a.a >= base && n <= GUEST_MEMORY && a.a <= base + GUEST_MEMORY - n;
}
static bool copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    if (!reachable(from, n))
        return false;
    memcpy(to, (const void *)from.a, n);
    /* Another vCPU writes what was just read. */
    if (fake_due(&fuzz_flip_copy))
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)from.a)[i] ^= (uint8_t)(0x5a + i * 7);
    return true;
}
static bool copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    if (!reachable(to, n))
        return false;
    memcpy((void *)to.a, from, n);
    return true;
}
bool pv_zero(struct vcpu *v, gva_t to, size_t n)
{
    if (!reachable(to, n))
        return false;
    memset((void *)to.a, 0, n);
    return true;
}

bool pv_area_write(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    BUG_ON(v != arch_current());
    return copy_out(v, to, from, n);
}
bool pv_range_ok(uint64_t a, size_t n)
{
    uint64_t end = a + n;

    if (a >= HYP_VIRT_END)
        return end >= a || !end;
    return end <= 0x0000800000000000ull && end >= a;
}
bool pv_copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    return copy_in(v, to, from, n);
}
bool pv_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return copy_out(v, to, from, n);
}
bool pv_copy_in_kernel(struct vcpu *v, void *to, gva_t from, size_t n)
{
    return copy_in(v, to, from, n);
}
bool pv_copy_out_kernel(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    return copy_out(v, to, from, n);
}

/* --- the rest of pv/ --- */

void pv_load_ldt(struct vcpu *v)
{
}
void pv_load_debug_registers(struct vcpu *v)
{
}
void pv_prefault_ldt(struct vcpu *v, uint16_t sel)
{
    (void)pv_mmu_fault(v, VCPU_LDT_VIRT(v->id) + (sel & ~7u), &(struct guest_regs){0});
}
void pv_set_fpu_ts(struct vcpu *v, bool set)
{
    pv_vcpu(v)->ts = set;
}
uint64_t pv_cr4_guest_value(uint64_t wanted)
{
    return wanted;
}
bool rdmsr_safe(uint32_t msr, uint64_t *v);
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
    return false;
}
bool hw_load_gs(uint16_t sel);
bool hw_load_gs(uint16_t sel)
{
    return true;
}
void cache_flush_cpus(const struct cpumask *cpus)
{
}
void pv_l4_changed(struct domain *d, mfn_t l4)
{
}

/* What the toolstack can make: PV guests, and translated ones where the target has them. */
int arch_domain_config(const struct domctl_create *c, const struct guest_ops **ops, uint32_t *arch_flags)
{
    bool translated = c->flags & XEN_DOMCTL_CDF_hvm;

    *ops = translated ? &hvm_guest_ops : &pv_guest_ops;
    *arch_flags = 0;
    return translated && !fuzz_target.translated ? -EINVAL : 0;
}
long hvm_domctl(struct domctl *c)
{
    return -EOPNOTSUPP;
}

/* One thread: whoever waits for another CPU lets that one do what it was asked to. */
void arch_cpu_relax(void)
{
    static unsigned spins;
    static bool nested;
    unsigned self = fake_cpu;

    if (++spins > 1000000)
        panic("CPU %u spins for ever", self);
    if (nested)
        return;
    nested = true;
    for_each_cpu(c, &cpus_online)
    {
        fake_cpu = c;
        while (c != self && (fake_kicked[c] || work_pending())) {
            fake_kicked[c] = false;
            work_run();
        }
    }
    fake_cpu = self;
    nested = false;
}

void arch_machine_restart(void)
{
    machine_ended("restarted");
}
void arch_machine_poweroff(void)
{
    machine_ended("powered off");
}

/* --- TLBs --- */

enum { T_READ = 1, T_WRITE = 2, T_DESC = 4, T_L1 = 16, T_L2 = 32, T_L3 = 64, T_L4 = 128 };
static uint8_t tlb[FUZZ_CPUS][FUZZ_FRAMES + 32];
static uint16_t tlb_domain[FUZZ_CPUS]; /* whose tables gave it */
/* Of the CPU that was filled last: frames that its p2m says are another domain's. */
static bool others[FUZZ_FRAMES + 32];
static uint32_t tlb_clock = 1, tlb_last[FUZZ_CPUS];

void tlb_model_reset(void)
{
    memset(tlb, 0, sizeof(tlb));
}

static void take(unsigned cpu, uint64_t m, uint8_t what)
{
    if (mfn_valid(MFN(m)))
        tlb[cpu][m] |= what;
}

/* A table named by one of its own level: it is walked, and the tables below are read as data. */
static void fill_linear(unsigned cpu, mfn_t table, unsigned level)
{
    const uint64_t *t = arch_frame_va(table);

    take(cpu, table.n, (uint8_t)(T_READ | T_L1 << (level - 1)));
    for (unsigned i = 0; i < 512; i++)
        if (t[i] & PTE_P && slot_is_guests(level, i))
            take(cpu, pte_mfn(t[i]).n, T_READ);
}

static void fill_table(unsigned cpu, mfn_t table, unsigned level, bool write)
{
    const uint64_t *t = arch_frame_va(table);

    take(cpu, table.n, (uint8_t)(T_L1 << (level - 1)));
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = t[i];

        if (!(e & PTE_P) || !(e & PTE_US) || (level == 4 && !slot_is_guests(4, i)) || !mfn_valid(pte_mfn(e)))
            continue;
        if (level > 1 && pgt_level(mfn_frame(pte_mfn(e))->type) == level) {
            fill_linear(cpu, pte_mfn(e), level);
            continue;
        }
        if (level > 1)
            fill_table(cpu, pte_mfn(e), level - 1, write && e & PTE_RW);
        else
            take(cpu, pte_mfn(e).n, T_READ | (write && e & PTE_RW ? T_WRITE : 0));
    }
}

static unsigned filled; /* the CPU that take_nested is about */

static void take_nested(struct domain *d, const struct p2m_entry *e)
{
    bool foreign = e->type == P2M_FOREIGN || e->type == P2M_FOREIGN_RO;
    bool write = e->type == P2M_RAM || e->type == P2M_FOREIGN || e->type == P2M_GRANT;

    if (!mfn_valid(e->mfn))
        return;
    for (uint64_t m = e->mfn.n; m < e->mfn.n + (1ull << e->order); m++) {
        take(filled, m, (uint8_t)(T_READ | (write ? T_WRITE : 0)));
        others[m] |= foreign;
    }
}

void tlb_fill(unsigned cpu)
{
    struct vcpu *v = fake_current[cpu];
    const struct pv_vcpu *pv;
    mfn_t root;

    memset(others, 0, sizeof(others));
    if (!v || v->idle)
        return;
    if (v->domain->ops->translated) {
        filled = cpu;
        tlb_domain[cpu] = v->domain->id.v;
        model_walk_p2m(v->domain, take_nested);
        return;
    }
    pv = pv_vcpu(v);
    root = pv->kernel_mode ? pv->root_kernel : pv->root_user;
    tlb_domain[cpu] = v->domain->id.v;
    if (mfn_valid(root))
        fill_table(cpu, root, 4, true);
    for (unsigned i = 0; i < 32; i++) {
        uint64_t e = x86_domain(v->domain)->window_l1[v->id][i];

        if (e & PTE_P)
            take(cpu, pte_mfn(e).n, T_DESC);
    }
}

static void flush(unsigned cpu, unsigned kind)
{
    if (kind == TLB_FLUSH_VA)
        return; /* one page: the model keeps it, nothing of Krypton's may rest on it */
    memset(tlb[cpu], 0, sizeof(tlb[cpu]));
    tlb_last[cpu] = tlb_clock++;
    fake_flushes[cpu]++;
    tlb_fill(cpu);
}
void tlb_flush_cpus(const struct cpumask *cpus, unsigned kind, gva_t va)
{
    for_each_cpu(c, cpus) if (c != fake_cpu && cpumask_test(&cpus_online, c) && fake_irqs_off[fake_cpu])
        panic("another CPU is waited for with interrupts off");
    for_each_cpu(c, cpus) if (cpumask_test(&cpus_online, c)) flush(c, kind);
}
void tlb_flush_domain(struct domain *d)
{
    if (fake_irqs_off[fake_cpu])
        panic("other CPUs are waited for with interrupts off");
    for_each_cpu(c, &cpus_online) if (fake_current[c] && fake_current[c]->domain == d)
        flush(c, TLB_FLUSH_ALL);
}
void tlb_flush_local(void)
{
    flush(fake_cpu, TLB_FLUSH_ALL);
}
void tlb_flush_local_va(gva_t va)
{
}
uint32_t tlb_stamp(void)
{
    return tlb_clock;
}
void tlb_flush_older(const struct cpumask *cpus, uint32_t stamp)
{
    struct cpumask m = {{0}};

    for_each_cpu(c, cpus) if (tlb_last[c] < stamp) cpumask_set(&m, c);
    tlb_flush_cpus(&m, TLB_FLUSH_ALL, GVA(0));
}
void pv_root_changed(struct vcpu *v)
{
    if (v != fake_current[fake_cpu])
        return;
    memset(tlb[fake_cpu], 0, sizeof(tlb[fake_cpu]));
    tlb_fill(fake_cpu);
}
void pv_toggle_mode(struct vcpu *v)
{
    pv_vcpu(v)->kernel_mode = !pv_vcpu(v)->kernel_mode;
    pv_root_changed(v);
}

void arch_context_switch(struct vcpu *prev, struct vcpu *next)
{
    BUG_ON(arch_irq_enabled());
    lock_assert_none();
    fake_switches++;
    if (prev != next) {
        if (!next->idle)
            cpumask_set(&x86_domain(next->domain)->dirty_cpus, fake_cpu);
        fake_current[fake_cpu] = next;
        memset(tlb[fake_cpu], 0, sizeof(tlb[fake_cpu]));
        tlb_fill(fake_cpu);
        if (!prev->idle && prev->domain != next->domain)
            cpumask_clear(&x86_domain(prev->domain)->dirty_cpus, fake_cpu);
        sched_context_saved(prev);
    }
    fake_irqs_off[fake_cpu] = false;
}

bool tlb_can_write(unsigned cpu, mfn_t m)
{
    return mfn_valid(m) && tlb[cpu][m.n] & T_WRITE;
}

static bool granted(const struct domain *d, uint64_t m, bool write)
{
    const struct track *k;

    for (uint32_t h = 0; d->grant && (k = grant_track(d->grant, h)); h++) {
        const struct active *a = k->state == TRACK_FREE ? NULL : grant_active(k->granter->grant, k->ref);

        if (a && a->mfn.n == m && (!write || !(k->flags & GNTMAP_readonly)))
            return true;
    }
    return false;
}

static void check_one(unsigned cpu, uint64_t m)
{
    const struct frame *f = mfn_frame(MFN(m));
    uint8_t t = tlb[cpu][m];
    uint64_t x = f->type;
    struct domain *d = fake_current[cpu] ? fake_current[cpu]->domain : NULL;
    const char *wrong = NULL;

    if (f->flags & FRAME_F_FREE || !d || d->id.v != tlb_domain[cpu])
        return;
    if (pgt_count(x)) {
        unsigned level = pgt_level(x);

        if (t & T_WRITE && pgt_type(x) != PGT_WRITABLE)
            wrong = "can write what is no writable page any more";
        if (t & (T_L1 | T_L2 | T_L3 | T_L4) & ~(level ? T_L1 << (level - 1) : 0))
            wrong = "can walk a frame as a table that it is not";
        if (t & T_DESC && pgt_type(x) != PGT_SEG_DESC && !(f->owner == FRAME_NO_OWNER))
            wrong = "can use a page for descriptors that is none";
    }
    if (f->owner != d->id.v && !d->privileged && !(t & T_DESC) && !others[m] && !granted(d, m, t & T_WRITE))
        wrong = "can reach a frame that its domain has no right to";
    if (wrong)
        panic("TLB: CPU %u of d%u %s: frame %#lx, type %#lx, count %#lx, owner d%u, held %#x", cpu, d->id.v,
              wrong, m, x, f->count, f->owner, t);
}

void tlb_model_check(void)
{
    for (unsigned c = 0; c < FUZZ_CPUS; c++) {
        tlb_fill(c);
        for (uint64_t m = 0; m < frame_count && m < sizeof(tlb[c]); m++)
            if (tlb[c][m])
                check_one(c, m);
    }
}

/* The FPU is arch/x86/guest/fpu.c's, which is not linked: nobody looks into the area. */
void fpu_reset(struct x86_vcpu *x)
{
    memset(x->fpu, 0, x86_fpu_size);
}

/* No switch to and from the hardware here: the vCPU's state stays where it is. */
void pv_ctxt_save(struct x86_vcpu *x)
{
}
void pv_ctxt_load(struct x86_vcpu *x)
{
}
__attribute__((noreturn)) void metal_resume_guest(void);
void metal_resume_guest(void)
{
    panic("nothing returns to a guest here");
}
