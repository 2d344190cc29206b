/* Proof: page-table entries (pv/mmu/entry.c), for every 64-bit value, level and kind of domain: what is let through, and that
 * references are taken and dropped in pairs. */
#include "prove.h"
#include "../../arch/x86/pv/mmu/types.h"
#include "x86/platform.h"

struct frame *frame_table;
uint64_t frame_count;
struct domain *dom_io;

static struct frame frames[2];
static struct x86_domain d, owner;
static int refs, writable;

bool frame_get(struct frame *f, const struct domain *from)
{
    bool ok = anybool();

    prove(from == &owner.core);
    refs += ok;
    return ok;
}
void frame_put(struct frame *f)
{
    refs--;
}
int type_ref(struct frame *f, uint64_t type, struct domain *by)
{
    int r = anybool() ? 0 : -EINVAL;

    prove(type == PGT_WRITABLE && by == &d.core && refs == 1);
    writable += !r;
    return r;
}
int type_finish(struct frame *f, struct domain *o, bool preempt)
{
    return 0;
}
void type_unref_now(struct frame *f)
{
    writable--;
}
bool iomem_allowed(const struct domain *who, mfn_t m)
{
    return anybool();
}

static void start(void)
{
    frame_table = frames;
    frame_count = 2;
    frames[0].flags = frames[1].flags = FRAME_F_RAM;
    refs = writable = 0;
    d.core.hardware = anybool();
    d.devices = anybool();
}

#define CACHE (PTE_PWT | PTE_PCD | PTE_PAT)

void prove_flags(void)
{
    uint64_t e = any64();
    unsigned level = 1 + any32() % 4;
    uint64_t a;

    start();
    a = entry_adjust(e, level);
    prove(a & PTE_US);
    prove(level > 1 || !(a & PTE_G));
    prove(!((a ^ e) & ~(PTE_US | PTE_G)));
    if (entry_flags_ok(&d.core, a, level)) {
        prove(level == 1 || !(a & (PTE_PS | PTE_G | PTE_PWT | PTE_PCD)));
        prove(level > 1 || !(a & CACHE) || d.core.hardware || d.devices);
    }
}

void prove_l1_get(void)
{
    uint64_t e = any64();
    int r;

    start();
    r = l1_entry_get(e, &d.core, &owner.core);
    if (r) {
        prove(!refs && !writable);
        return;
    }
    prove(refs == (pte_mfn(e).n < 2));
    prove(writable == (pte_mfn(e).n < 2 && e & PTE_RW));
    /* And what was taken is what is dropped. */
    l1_entry_put(e | PTE_P);
    prove(!refs && !writable);
}
