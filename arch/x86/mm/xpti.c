/*
 * Separate page tables for PV guests where Meltdown applies: while the guest runs, CR3 holds an L4 of the CPU's own with
 * the guest's slots and, of Krypton, only what an entry needs before it loads the full root.
 *
 *   slot 256        M2P, if the root shows it (vm_assist m2p_strict): guests may read it anyway
 *   slot 260        the domain's descriptor windows
 *   slot 261        entry.S, the SYSCALL stubs, the IDT, this CPU's TSS, the pages of its stack area on which entries push
 *   all others      the guest's, as in the root of the running vCPU when it was last copied
 *
 *   guest runs (guest_cr3) --entry.S--> hyp_cr3 = the vCPU's root --exit: stale? xpti_copy_root--> guest_cr3
 *
 * Invariants
 *  1. The copy is made after the last full TLB flush of this CPU, or it is marked stale (CPUF_ROOT_STALE) and made anew
 * before the guest runs: to the rules of pv/mmu (stamps) it is just another stale translation.
 *  2. It is stale too when the vCPU's root was replaced, or an entry of that root was written (pv_l4_changed).
 *  3. Nothing mapped here is another CPU's, nor a guest's secret: of the main stack only the last page is here.
 * There are no PCIDs: each entry and each exit empties the TLB.
 */
#include "private.h"
#include "../metal/metal.h"
#include "arch/mem.h"
#include "core/frame.h"
#include "core/log.h"
#include "x86/layout.h"
#include "x86/mm.h"
#include "x86/percpu.h"
#include "x86/spec.h"

static uint64_t *l4_of[MAX_CPUS];

/* The page at va as Krypton has it, but never more rights than `flags`. False: no memory. */
static bool clone_page(uint64_t *l4, uint64_t va, uint64_t flags)
{
    const uint64_t *master = table_find(va, 1);
    uint64_t *t = l4;

    BUG_ON(!master || !(*master & PTE_P));
    for (unsigned l = 4; l > 1; l--) {
        uint64_t *e = &t[pt_index(va, l)];

        if (!(*e & PTE_P)) {
            uint64_t *n = frame_alloc_va(0);

            if (!n)
                return false;
            *e = pte_make(arch_va_mfn(n), PTE_TABLE);
        }
        t = arch_frame_va(pte_mfn(*e));
    }
    t[pt_index(va, 1)] = pte_make(pte_mfn(*master), flags);
    return true;
}

bool xpti_init_cpu(unsigned cpu)
{
    static const unsigned entry_pages[] = {STACK_PAGE_NMI, STACK_PAGE_MC, STACK_PAGE_DF, STACK_PAGE_TOP};
    uint64_t base = STACK_BASE(cpu), *l4 = l4_of[cpu];

    if (!xpti_active())
        return true;
    if (!l4)
        l4 = frame_alloc_va(0);
    if (!l4)
        return false;
    l4_of[cpu] = l4; /* after a failure the next CPU of this number goes on from here */
    for (char *p = entry_text; p < entry_text_end; p += FRAME_SIZE)
        if (!clone_page(l4, (uint64_t)p, PTE_KRX))
            return false;
    for (unsigned i = 0; i < ARRAY_SIZE(entry_pages); i++)
        if (!clone_page(l4, base + entry_pages[i] * FRAME_SIZE, PTE_KRW))
            return false;
    if (!clone_page(l4, base + STACK_PAGE_STUBS * FRAME_SIZE, PTE_KRX) ||
        !clone_page(l4, STACK_TSS_VIRT(cpu), PTE_KRO) || !clone_page(l4, desc_idt(), PTE_KRO))
        return false;
    return true;
}

uint64_t xpti_root(unsigned cpu)
{
    return mfn_to_maddr(arch_va_mfn(l4_of[cpu])).a;
}

static void copy(uint64_t *to, const uint64_t *from, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++)
        __atomic_store_n(&to[i], __atomic_load_n(&from[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

void xpti_copy_root(void)
{
    struct cpu_info *ci = cpu_info();
    const uint64_t *from = arch_frame_va(maddr_to_mfn(MADDR(ci->hyp_cr3)));
    uint64_t *to = l4_of[ci->cpu];

    ci->flags &= ~CPUF_ROOT_STALE;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* pv_l4_changed: entry written, then who runs on it is asked */
    copy(to, from, 0, HYP_SLOT_FIRST + 1);
    copy(to, from, PERDOMAIN_SLOT, PERDOMAIN_SLOT + 1);
    copy(to, from, HYP_SLOT_LAST + 1, 512);
}
