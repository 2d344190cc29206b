/* The fuzzed machine's inhabitants: a control domain with the hardware and two guests, all running (fuzz.h has the layout). */
#include "fuzz.h"
#include "core/grant/private.h"
#include "core/sched.h"
#include "x86/guest.h"
#include "x86/hvm.h"
#include "x86/platform.h"
#include "x86/pte.h"
#include "x86/pv.h"
#include "../../arch/x86/platform/private.h"
#include "../../arch/x86/pv/mmu/types.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RO_FLAGS    (PTE_P | PTE_US | PTE_A | PTE_D)
#define TABLE_FLAGS (RO_FLAGS | PTE_RW)

struct guest guests[FUZZ_GUESTS];
bool guest_scribbled;

static uint64_t *at(mfn_t m)
{
    return arch_frame_va(m);
}

static void must(long r)
{
    if (r)
        panic("the world cannot be built: %ld", r);
}

static void tables_make(struct guest *g)
{
    mfn_t *p = g->page;

    for (unsigned i = 0; i < FUZZ_PAGES; i++)
        must(frame_alloc_domain(g->d, 0, 64, FA_ZERO, &p[i]));
    at(p[PG_L4])[pt_index(FUZZ_VA, 4)] = pte_make(p[PG_L3], TABLE_FLAGS);
    at(p[PG_UL4])[pt_index(FUZZ_VA, 4)] = pte_make(p[PG_L3], TABLE_FLAGS);
    at(p[PG_L3])[pt_index(FUZZ_VA, 3)] = pte_make(p[PG_L2], TABLE_FLAGS);
    at(p[PG_L2])[pt_index(FUZZ_VA, 2)] = pte_make(p[PG_L1], TABLE_FLAGS);
    at(p[PG_L2])[pt_index(FUZZ_VA_B, 2)] = pte_make(p[PG_L1B], TABLE_FLAGS);
    for (unsigned i = 0; i < FUZZ_PAGES; i++)
        at(p[PG_L1])[i] = pte_make(p[i], i >= PG_DATA ? TABLE_FLAGS : RO_FLAGS);
}

static void cpu_give(struct vcpu *v, bool pinned)
{
    struct cpumask one = {{0}}, both = {{3}};

    cpumask_set(&one, pinned ? v->domain->id.v * FUZZ_VCPUS + v->id : 0);
    must(sched_set_affinity(v, pinned ? &one : &both, pinned ? &one : &both));
}

static void roots_set(struct guest *g, struct vcpu *v)
{
    must(pv_set_root(v, g->page[PG_L4], false));
    if (v->id == 0)
        must(pv_set_root(v, g->page[PG_UL4], true));
}

static void guest_make(struct guest *g, uint16_t id, bool pinned)
{
    bool translated = fuzz_target.translated && id == FUZZ_GUESTS - 1;
    struct domain_config c = {.ops = translated ? &hvm_guest_ops : &pv_guest_ops,
                              .privileged = id == 0,
                              .hardware = id == 0,
                              .max_vcpus = FUZZ_VCPUS,
                              .max_evtchn_port = 300,
                              .max_grant_frames = 3,
                              .max_maptrack_frames = 1,
                              .max_frames = translated ? 1200 : 200};
    struct vcpu *v;

    must(domain_create(DID(id), &c, &g->d));
    if (translated)
        translated_make(g);
    else
        tables_make(g);
    for (unsigned i = 0; i < FUZZ_VCPUS; i++) {
        must(vcpu_create(g->d, i, &v));
        v->info->evtchn_upcall_mask = 0;
        cpu_give(v, pinned);
        if (!translated)
            roots_set(g, v);
        v->initialised = true;
        __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
    }
}

/* Entries 8-15: pages for the next guest, every second one read-only. */
static void grants_make(struct guest *g, const struct guest *to)
{
    for (uint32_t i = 0; i < 8; i++) {
        grant_entry_v1_t *e = grant_v1(g->d->grant, 8 + i);

        e->domid = to->d->id.v;
        e->frame = (uint32_t)g->page[PG_DATA + i].n;
        e->flags = (uint16_t)(GTF_permit_access | (i & 1 ? GTF_readonly : 0));
    }
}

/* Lines 0 to 7, by the same numbers. */
static void lines_make(struct guest *g)
{
    for (unsigned i = 0; i < 8; i++) {
        struct pirq_map_request r = {.domain = g->d, .kind = PIRQ_GSI, .gsi = i, .count = 1, .pirq = (int)i};

        must(pirq_map(&r));
    }
}

static void ports_make(struct guest *g, const struct guest *to)
{
    for (unsigned i = 0; i < 3; i++) {
        port_t p;

        must(evtchn_alloc_unbound(g->d, to->d->id, &p));
        g->port[g->ports++] = p.v;
    }
}

void world_build(bool pinned)
{
    guest_memory = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fake_start(FUZZ_FRAMES, pinned ? FUZZ_CPUS : 2);
    translated_machine();
    guest_policy_init();
    irq_init();
    iomem_reserve(mfn_to_maddr(MFN(0x100100)), 1ull << 40, "no device"); /* 0x100000 to 0x1000ff are some */
    hypercall_init();
    domain_subsystem_init();
    sched_init();
    for_each_cpu(c, &cpus_online) must(sched_init_cpu(c));
    for_each_cpu(c, &cpus_online) fake_current[c] = sched_idle_vcpu(c);
    for (unsigned i = 0; i < FUZZ_GUESTS; i++)
        guest_make(&guests[i], (uint16_t)i, pinned);
    for (unsigned i = 0; i < FUZZ_GUESTS; i++) {
        grants_make(&guests[i], &guests[(i + 1) % FUZZ_GUESTS]);
        ports_make(&guests[i], &guests[(i + 1) % FUZZ_GUESTS]);
    }
    dom0 = guests[0].d;
    lines_make(&guests[0]);
    domain_unpause(guests[0].d);
    must(domain_controller_unpause(guests[1].d));
    must(domain_controller_unpause(guests[2].d));
    fake_settle();
}

/* By the object, not by its number: another one may have that by now. */
void world_forget_gone(void)
{
    for (unsigned i = 1; i < FUZZ_GUESTS; i++) {
        const struct domain *d = model_domain_from(i);

        if (d != guests[i].d || d->id.v != i)
            guests[i] = guests[0];
    }
}
