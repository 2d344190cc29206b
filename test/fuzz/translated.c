/*
 * A translated guest in the fuzzed machine, of targets that ask for one: its memory is a real p2m (arch/x86/hvm/p2m), its devices are
 * device.c's, its vCPUs have no state but that of their hypercalls and accesses. It names its pages by numbers from FUZZ_GFN on.
 *
 * Its part of the TLB model: a CPU that runs such a vCPU may hold what the p2m gives, until the p2m's own flush.
 */
#include "fuzz.h"
#include "core/alloc.h"
#include "x86/guest.h"
#include "x86/hvm.h"
#include "x86/p2m.h"
#include "x86/pv.h"
#include "../../arch/x86/pv/private.h"

static int t_domain_init(struct domain *d, uint32_t flags)
{
    int r = device_domain_init(d);

    return r ? r : p2m_domain_init(d);
}
static void t_domain_free(struct domain *d)
{
    p2m_domain_free(d);
    device_domain_free(d);
}
static int t_domain_release(struct domain *d)
{
    device_domain_release(d);
    mem_free(x86_domain(d)->e820);
    x86_domain(d)->e820 = NULL;
    x86_domain(d)->e820_count = 0;
    return p2m_domain_release(d);
}
static void t_vcpu_nothing(struct vcpu *v)
{
}
static int t_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online)
{
    uint8_t first;

    *online = true;
    return pv_copy_in(caller, &first, context, 1) ? 0 : -EFAULT;
}
static int t_vcpu_zero(struct vcpu *v)
{
    return 0;
}
static uint32_t t_features(const struct domain *d)
{
    return 0;
}
static uint64_t t_virt_start(const struct domain *d)
{
    return 0;
}

static const struct arch_guest_ops translated_arch_ops = {
    .domain_init = t_domain_init,
    .domain_free = t_domain_free,
    .domain_release = t_domain_release,
    .vcpu_init = device_vcpu_init,
    .vcpu_free = device_vcpu_free,
    .vcpu_reset = t_vcpu_nothing,
    .vcpu_initialise = t_vcpu_initialise,
    .vcpu_unload = t_vcpu_zero,
    .vcpu_nmi = t_vcpu_zero,
    .vcpu_dump = t_vcpu_nothing,
    .area_write = pv_area_write,
    .features = t_features,
    .virt_start = t_virt_start,
};
const struct guest_ops hvm_guest_ops = {.name = "hvm",
                                        .translated = true,
                                        .copy_in = pv_copy_in,
                                        .copy_out = pv_copy_out,
                                        .zero = pv_zero,
                                        .arch = &translated_arch_ops};

bool hvm_available(void)
{
    return fuzz_target.translated;
}

/* --- the machine's side of it --- */

static void paging(struct vcpu *v, struct guest_paging *p)
{
    *p = (struct guest_paging){0};
}

void translated_machine(void)
{
    static const struct p2m_machine machine = {
        .flush = tlb_flush_domain, .paging = paging, .large = true, .huge = true, .guest_bits = 40};

    p2m_machine_set(&machine);
}

static void must(bool ok)
{
    if (!ok)
        panic("the translated guest cannot be built");
}

/* Small pages under their names, shared_info and the grant table behind them, and a large page. */
void translated_make(struct guest *g)
{
    mfn_t m;

    for (unsigned i = 0; i < FUZZ_PAGES; i++) {
        must(!frame_alloc_domain(g->d, 0, 64, FA_ZERO, &m));
        g->page[i] = MFN(FUZZ_GFN + i);
        must(!arch_physmap_add(g->d, GFN(FUZZ_GFN + i), m, 0));
    }
    must(!frame_alloc_domain(g->d, P2M_2M, 64, FA_ZERO, &m));
    must(!arch_physmap_add(g->d, GFN(FUZZ_GFN_LARGE), m, P2M_2M));
    must(!arch_physmap_add(g->d, GFN(FUZZ_GFN + FUZZ_PAGES), g->d->shared_info_mfn, 0));
}

bool translated_reach(struct domain *d, mfn_t *m)
{
    gfn_t g = GFN(m->n);

    if (!tlb_can_write(fake_cpu, arch_gfn_to_mfn(d, g)) &&
        p2m_fault(d, g.n << FRAME_SHIFT, P2M_ACC_WRITE) != P2M_RETRY)
        return false;
    tlb_fill(fake_cpu);
    *m = arch_gfn_to_mfn(d, g);
    return mfn_valid(*m);
}
