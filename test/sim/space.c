/* Page tables of the simulated guests: one region of one level-1 table. */
#include "sim_private.h"

struct sim_space sim_space[SIM_DOMAINS];

static void entry(mfn_t table, unsigned index, mfn_t m, uint64_t flags)
{
    ((uint64_t *)sim_va(table))[index] = pte_make(m, flags);
}

static void fill(struct domain *d, struct sim_space *s)
{
    entry(s->l4, pt_index(SIM_BASE, 4), s->l3, SIM_TABLE);
    entry(s->l3, pt_index(SIM_BASE, 3), s->l2, SIM_TABLE);
    entry(s->l2, pt_index(SIM_BASE, 2), s->l1, SIM_TABLE);
    for (unsigned i = 0; i < SIM_DATA; i++) {
        s->data[i] = sim_page(d);
        entry(s->l1, i, s->data[i], SIM_RW);
    }
    entry(s->l1, SIM_DATA, s->l1, SIM_RO);
    entry(s->l1, SIM_DATA + 1, s->l2, SIM_RO);
}

void sim_space_make(struct domain *d)
{
    struct sim_space *s = &sim_space[d->id.v];

    s->l4 = sim_page(d);
    s->l3 = sim_page(d);
    s->l2 = sim_page(d);
    s->l1 = sim_page(d);
    fill(d, s);
    SIM_CHECK(!pv_pin_table(d, s->l4, 4));
    for_each_vcpu(d, v)
    {
        SIM_CHECK(!pv_frame_get_type(s->l4, d, PGT_L4, false));
        pv_vcpu(v)->root_kernel = s->l4;
    }
}

static mfn_t root_of(unsigned cpu)
{
    return maddr_to_mfn(MADDR(sim_cpus[cpu].cr3));
}

/* The level-1 entry for a page number under that root, 0: none. */
static uint64_t look_up(mfn_t table, uint64_t page)
{
    for (unsigned level = 4; level > 1; level--) {
        uint64_t e = ((uint64_t *)sim_va(table))[pt_index(page << FRAME_SHIFT, level)];

        if (!(e & PTE_P))
            return 0;
        table = pte_mfn(e);
    }
    return ((uint64_t *)sim_va(table))[pt_index(page << FRAME_SHIFT, 1)];
}

/* At rest: what a CPU still translates to another domain's frame must be mapped, or `allowed`. */
void sim_space_check_foreign(bool (*allowed)(struct domain *d, uint64_t mfn))
{
    for (unsigned c = 0; c < SIM_CPUS; c++)
        for (unsigned i = 0; i < SIM_TLB; i++) {
            const struct sim_tlb_entry *e = &sim_cpus[c].tlb[i];

            if (!e->valid || sim_cpus[c].current->idle ||
                mfn_frame(MFN(e->mfn))->owner == sim_cpus[c].current->domain->id.v)
                continue;
            if (pte_mfn(look_up(root_of(c), e->va)).n != e->mfn &&
                !allowed(sim_cpus[c].current->domain, e->mfn))
                sim_fail(
                    "CPU %u still translates %#llx to frame %#llx of d%u, which is not mapped there any more",
                    c, (unsigned long long)e->va, (unsigned long long)e->mfn, mfn_frame(MFN(e->mfn))->owner);
        }
}
