/*
 * The PV MMU: two guests of two vCPUs and the control domain pin, unpin, load, change and abandon the same tables,
 * write page-table entries through writable mappings and trap-and-emulate, turn pages into tables and back, set
 * descriptor tables, map each other's frames, give frames back - and one of them is killed. Every access goes
 * through TLBs: a frame that changed its type while a CPU can still write it ends the run.
 */
#include "sim.h"
#include "arch/x86/pv/mmu/types.h"

#define POOL 10u

static mfn_t pool[SIM_DOMAINS][POOL];
static bool killing;

static void start(void)
{
    for (unsigned i = 0; i < 3; i++) {
        struct domain *d = sim_domain(2, 100);

        sim_space_make(d);
        for (unsigned k = 0; k < POOL; k++)
            pool[i][k] = sim_page(d);
    }
    killing = sim_one_in(3);
}

static unsigned dom_of(const struct sim_vcpu *s)
{
    return s->v->domain->id.v;
}

static mfn_t pooled(unsigned d, unsigned i)
{
    return MFN(__atomic_load_n(&pool[d][i].n, __ATOMIC_RELAXED));
}

/* Mostly the guest's own spare frames, at times its tables and data. */
static mfn_t a_frame(unsigned d)
{
    const struct sim_space *s = &sim_space[d];

    switch (sim_rnd(12)) {
    case 0:
        return s->l1;
    case 1:
        return s->l2;
    case 2:
        return s->data[sim_rnd(SIM_DATA)];
    default:
        return pooled(d, sim_rnd(POOL));
    }
}

static unsigned an_index(void)
{
    static const uint16_t idx[] = {0, 1, 5, 20, 160, 272, 511};

    return idx[sim_rnd(ARRAY_SIZE(idx))];
}

static uint64_t an_entry(unsigned d)
{
    return sim_rnd(5) ? pte_make(a_frame(d), sim_rnd(3) ? SIM_RW : SIM_RO) : 0;
}

static void ext(struct sim_vcpu *s, unsigned cmd, uint64_t arg1, uint64_t arg2, uint16_t whose)
{
    struct mmuext_op op = {.cmd = cmd};

    op.arg1.mfn = arg1;
    op.arg2.src_mfn = arg2;
    sim_call(s, __HYPERVISOR_mmuext_op, SIM_PUT(s, op), 1, 0, whose);
}

static void update(struct sim_vcpu *s)
{
    mmu_update_t *u = (mmu_update_t *)s->arg;
    unsigned d = dom_of(s), n = 1 + sim_rnd(3), whose = d;
    uint32_t fd = DOMID_SELF;

    if (d == 0 && sim_one_in(2)) { /* the control domain: others' frames, or others' tables */
        whose = 1 + sim_rnd(2);
        fd = sim_one_in(2) ? whose : DOMID_SELF | (whose + 1) << 16;
    }
    for (unsigned i = 0; i < n; i++) {
        unsigned in = fd >> 16 ? whose : d;
        mfn_t table = sim_one_in(3) ? sim_space[in].l1 : a_frame(in);

        u[i].ptr = mfn_to_maddr(table).a + an_index() * 8 + (sim_one_in(5) ? 2 : 0);
        u[i].val = an_entry(whose);
    }
    sim_call(s, __HYPERVISOR_mmu_update, (uint64_t)(uintptr_t)u, n, 0, fd);
}

/* Writable in the region (mostly each frame at its own place), so that the guest can write entries into it; or
 * gone from there, often without a flush. */
static void map(struct sim_vcpu *s)
{
    static const uint64_t flush[] = {0, UVMF_INVLPG | UVMF_LOCAL, UVMF_INVLPG | UVMF_ALL,
                                     UVMF_TLB_FLUSH | UVMF_ALL};

    unsigned slot = sim_rnd(8);
    mfn_t m = sim_one_in(4) ? a_frame(dom_of(s)) : pooled(dom_of(s), slot);

    sim_call(s, __HYPERVISOR_update_va_mapping, SIM_PAGE(16 + slot),
             sim_one_in(2) ? 0 : pte_make(m, sim_rnd(3) ? SIM_RW : SIM_RO), flush[sim_rnd(ARRAY_SIZE(flush))],
             0);
}

/* A table of level n made in memory: through mappings, as guests do. */
static void scribble(struct sim_vcpu *s)
{
    for (unsigned i = 0; i < 4; i++)
        sim_touch(s->v, SIM_PAGE(sim_one_in(3) ? sim_rnd(SIM_DATA) : 16 + sim_rnd(8)) + an_index() * 8, true,
                  an_entry(dom_of(s)));
}

/* What the fault handler does with a write to a table that is mapped read-only. */
static void emulated_write(struct sim_vcpu *s)
{
    static const uint8_t mov[16] = {0x48, 0x89, 0x07}; /* mov %rax, (%rdi) */
    uint64_t va = SIM_PAGE(SIM_DATA) + an_index() * 8;
    struct guest_regs r = {.rdi = va, .rax = an_entry(dom_of(s)), .error_code = 3};

    memcpy(s->arg, mov, sizeof(mov));
    r.rip = (uint64_t)(uintptr_t)s->arg;
    if (!sim_touch(s->v, va, true, r.rax))
        (void)pv_mmu_fault(s->v, va, &r);
}

static void descriptors(struct sim_vcpu *s)
{
    uint64_t f[2] = {a_frame(dom_of(s)).n, a_frame(dom_of(s)).n};

    if (sim_rnd(2))
        (void)!pv_set_gdt_frames(s->v, f, 1 + sim_rnd(700));
    else
        pv_clear_gdt(s->v);
}

static void reservation(struct sim_vcpu *s)
{
    struct xen_memory_reservation *r = (struct xen_memory_reservation *)s->arg;
    uint64_t *list = (uint64_t *)(s->arg + 1024);

    list[0] = pooled(dom_of(s), sim_rnd(POOL)).n;
    *r = (struct xen_memory_reservation){.nr_extents = 1, .domid = DOMID_SELF};
    set_xen_guest_handle(r->extent_start, (xen_pfn_t *)list);
    sim_call(s, __HYPERVISOR_memory_op,
             sim_one_in(2) ? XENMEM_decrease_reservation : XENMEM_increase_reservation,
             (uint64_t)(uintptr_t)r, 0, 0);
    s->data[0] = 1;
}

/* The frame that the last turn brought takes a place in the pool. */
static void learn(struct sim_vcpu *s)
{
    uint64_t m = *(uint64_t *)(s->arg + 1024);

    if (s->data[0] && m < frame_count)
        __atomic_store_n(&pool[dom_of(s)][sim_rnd(POOL)].n, m, __ATOMIC_RELAXED);
    s->data[0] = 0;
}

static void one_ext(struct sim_vcpu *s)
{
    unsigned d = dom_of(s), whose = d == 0 && sim_one_in(3) ? 1 + sim_rnd(2) : d;
    uint16_t fd = whose == d ? DOMID_SELF : (uint16_t)whose;

    switch (sim_rnd(10)) {
    case 0 ... 3:
        ext(s, MMUEXT_PIN_L1_TABLE + sim_rnd(4), a_frame(whose).n, 0, fd);
        break;
    case 4 ... 6:
        ext(s, MMUEXT_UNPIN_TABLE, a_frame(whose).n, 0, fd);
        break;
    case 7:
        ext(s, sim_one_in(2) ? MMUEXT_NEW_BASEPTR : MMUEXT_NEW_USER_BASEPTR,
            sim_one_in(2) ? sim_space[d].l4.n : a_frame(d).n, 0, DOMID_SELF);
        break;
    case 8:
        ext(s, sim_one_in(2) ? MMUEXT_CLEAR_PAGE : MMUEXT_COPY_PAGE, a_frame(whose).n, a_frame(whose).n, fd);
        break;
    default:
        ext(s, sim_one_in(2) ? MMUEXT_TLB_FLUSH_ALL : MMUEXT_SET_LDT, SIM_PAGE(sim_rnd(8)), sim_rnd(600),
            DOMID_SELF);
    }
}

static void step(struct sim_vcpu *s)
{
    learn(s);
    if (killing && s->v->domain == sim_dom[0] && sim_one_in(50)) {
        sim_job(s, sim_kill, sim_dom[1 + sim_rnd(2)]);
        return;
    }
    switch (sim_rnd(20)) {
    case 0 ... 4:
        one_ext(s);
        break;
    case 5 ... 8:
        update(s);
        break;
    case 9 ... 11:
        map(s);
        break;
    case 12 ... 15:
        scribble(s);
        break;
    case 16 ... 17:
        emulated_write(s);
        break;
    case 18:
        descriptors(s);
        break;
    default:
        reservation(s);
    }
}

const struct sim_scenario sim_mmu = {"mmu", 160, start, step, NULL, NULL, NULL};
