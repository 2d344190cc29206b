/*
 * PIRQs: the numbers by which a domain names physical interrupts (xen/physdev.h). A PIRQ is mapped to a line
 * (PHYSDEVOP_map_pirq), then bound to an event channel (EVTCHNOP_bind_pirq).
 *
 *   free --get_free_pirq--> reserved --map_pirq--> mapped --bind_pirq--> bound
 *   free --map_pirq--> mapped;  bound --close--> mapped --unmap_pirq--> free;  bound --unmap_pirq--> free
 *
 * Numbers below irq_gsi_count are GSIs of the same number unless the domain asks for others; messages get
 * numbers from the top of the table.
 *
 * Invariants
 *  1. p->irq changes only under the table's lock, and to -1 only under the line's lock too: who holds the
 * line's lock and sees p->irq there may use p.
 *  2. A line is mapped to at most one PIRQ of a domain.
 *  3. An MSI line has exactly one PIRQ; unmapping it frees the line.
 *  4. The bit of a PIRQ in the EOI page says whether the guest owes an EOI for it: level-triggered and bound.
 *  5. A domain is bound to a line only while it has the right to it. A mapping that the hardware domain makes gives the right; it ends
 * with the mapping (an MSI line's number comes again), or when the toolstack takes it.
 * Locks: table->lock (RANK_PIRQ) for mapping; the functions that event channels call take only the line's
 * lock.
 */
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "core/nospec.h"
#include "private.h"
#include "x86/vcpu.h"

#define OTHER_DOMAIN_PIRQS 256u

static struct pirq_table *table_of(const struct domain *d)
{
    return ((const struct x86_domain *)d)->pirq;
}

int pirq_domain_init(struct domain *d)
{
    unsigned n = d->hardware ? IRQ_MAX : OTHER_DOMAIN_PIRQS;
    struct pirq_table *t = mem_alloc(sizeof(*t) + n * sizeof(t->pirq[0]));

    if (!t)
        return -ENOMEM;
    spin_init(&t->lock, RANK_PIRQ);
    t->count = n;
    for (unsigned i = 0; d->hardware && i < ARRAY_SIZE(t->rights); i++)
        t->rights[i] = ~0ull;
    for (unsigned i = 0; i < n; i++) {
        t->pirq[i].domain = d;
        t->pirq[i].nr = i;
        t->pirq[i].irq = -1;
    }
    x86_domain(d)->pirq = t;
    return 0;
}

static struct pirq *pirq_of(const struct domain *d, uint32_t nr)
{
    struct pirq_table *t = table_of(d);

    return t && nr < t->count ? &t->pirq[array_index(nr, t->count)] : NULL;
}

/* --- rights --- */

static bool line_allowed(const struct pirq_table *t, unsigned irq)
{
    return irq < IRQ_MAX &&
           __atomic_load_n(&t->rights[array_index(irq, IRQ_MAX) / 64], __ATOMIC_RELAXED) >> irq % 64 & 1;
}

static void line_allow(struct pirq_table *t, unsigned irq, bool allow)
{
    if (allow)
        __atomic_fetch_or(&t->rights[irq / 64], 1ull << irq % 64, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(&t->rights[irq / 64], ~(1ull << irq % 64), __ATOMIC_RELAXED);
}

/* --- mapping
 * -------------------------------------------------------------------------------------------------------- */

static bool pirq_free(const struct pirq *p)
{
    return p->irq < 0;
}

/* `count` consecutive free numbers: the wanted one, or from the top for messages, from the bottom for lines.
 * -1: none. */
static int pick(const struct pirq_table *t, int wanted, bool msi, unsigned count)
{
    unsigned low = msi ? MIN(irq_gsi_count, t->count / 2) : 0;

    if (wanted >= 0) {
        if ((unsigned)wanted >= t->count || count > t->count - (unsigned)wanted)
            return -1;
        for (unsigned i = 0; i < count; i++)
            if (!pirq_free(&t->pirq[(unsigned)wanted + i]))
                return -1;
        return wanted;
    }
    for (unsigned i = 0; low + count + i <= t->count; i++) {
        unsigned first = msi ? t->count - count - i : i, n = 0;

        while (n < count && pirq_free(&t->pirq[first + n]) && !t->pirq[first + n].reserved)
            n++;
        if (n == count)
            return (int)first;
    }
    return -1;
}

static int map_gsi(struct pirq_table *t, struct pirq_map_request *r)
{
    int nr, ret;

    if (r->gsi >= irq_gsi_count || !ioapic_has_gsi(r->gsi))
        return -EINVAL;
    r->gsi = (unsigned)array_index(r->gsi, irq_gsi_count);
    /* Krypton's own lines (the serial console) may be mapped, as kernels map all ISA interrupts; binding them
     * is refused. */
    for (unsigned i = 0; i < t->count; i++)
        if (t->pirq[i].irq == (int)r->gsi) { /* already: fine if it is the same */
            if (r->pirq >= 0 && (unsigned)r->pirq != i)
                return -EEXIST;
            r->pirq = (int)i;
            return 0;
        }
    nr = r->pirq < 0 && r->gsi < t->count && pirq_free(&t->pirq[r->gsi]) ? (int)r->gsi
                                                                         : pick(t, r->pirq, false, 1);
    if (nr < 0)
        return r->pirq < 0 ? -ENOSPC : -EINVAL;
    ret = irq_enable_gsi(r->gsi);
    if (ret)
        return ret;
    t->pirq[nr].reserved = false;
    line_allow(t, r->gsi, true);
    __atomic_store_n(&t->pirq[nr].irq, (int32_t)r->gsi, __ATOMIC_RELEASE);
    r->pirq = nr;
    return 0;
}

static int map_msi(struct pirq_table *t, struct pirq_map_request *r)
{
    int nr = pick(t, r->pirq, true, r->count), ret;
    unsigned first;

    if (nr < 0)
        return r->pirq < 0 ? -ENOSPC : -EINVAL;
    ret = irq_alloc_msi(r->seg, r->bus, r->devfn, r->kind == PIRQ_MSIX, r->entry, r->count, r->table_base,
                        &first);
    if (ret)
        return ret;
    for (unsigned i = 0; i < r->count; i++) {
        t->pirq[(unsigned)nr + i].reserved = false;
        line_allow(t, first + i, true);
        __atomic_store_n(&t->pirq[(unsigned)nr + i].irq, (int32_t)(first + i), __ATOMIC_RELEASE);
    }
    r->pirq = nr;
    return 0;
}

int pirq_map(struct pirq_map_request *r)
{
    struct pirq_table *t = table_of(r->domain);
    int ret;

    if (!t)
        return -EINVAL;
    spin_lock(&t->lock);
    if (t->closed)
        ret = -EINVAL;
    else
        ret = r->kind == PIRQ_GSI ? map_gsi(t, r) : map_msi(t, r);
    spin_unlock(&t->lock);
    return ret;
}

static void eoi_bit(const struct pirq_table *t, uint32_t nr, bool needed)
{
    uint64_t *page = __atomic_load_n(&t->eoi_page, __ATOMIC_ACQUIRE);

    if (!page)
        return;
    if (needed)
        __atomic_fetch_or(&page[nr / 64], 1ull << (nr % 64), __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_and(&page[nr / 64], ~(1ull << (nr % 64)), __ATOMIC_SEQ_CST);
}

/* One PIRQ loses its line; an MSI line is freed. t->lock held. */
static void unmap_one(struct pirq_table *t, struct pirq *p)
{
    int irq = irq_drop_guest(p);

    eoi_bit(t, p->nr, false);
    if (irq >= 0 && !p->domain->hardware)
        line_allow(t, (unsigned)irq, false);
    if (irq >= (int)irq_gsi_count)
        irq_free_msi((unsigned)irq);
}

int pirq_unmap(struct domain *d, int nr)
{
    struct pirq_table *t = table_of(d);
    unsigned count;
    int ret = 0;

    if (!t || nr < 0 || (unsigned)nr >= t->count)
        return -EINVAL;
    spin_lock(&t->lock);
    if (t->pirq[nr].irq < 0) {
        ret = t->pirq[nr].reserved ? 0 : -EINVAL;
        t->pirq[nr].reserved = false;
    } else {
        count = irq_msi_block((unsigned)t->pirq[nr].irq);
        if (!count)
            ret = -EINVAL; /* a block goes by its first message */
        for (unsigned i = 0; i < count; i++)
            unmap_one(t, &t->pirq[(unsigned)nr + i]);
    }
    spin_unlock(&t->lock);
    return ret;
}

/* The toolstack gives or takes a line. What is taken is unmapped as well: the guest hears no more of it. */
static int set_line(struct domain *d, const struct domain *by, unsigned irq, bool allow)
{
    struct pirq_table *t = table_of(d);
    int ret = 0;

    if (!t || !table_of(by))
        return -EINVAL;
    if (!line_allowed(table_of(by), irq) || irq_facts(irq).krypton)
        return -EPERM;
    spin_lock(&t->lock);
    if (t->closed && allow)
        ret = -EINVAL;
    else
        line_allow(t, irq, allow);
    for (unsigned i = 0; !allow && irq < irq_gsi_count && i < t->count; i++)
        if (t->pirq[i].irq == (int)irq)
            unmap_one(t, &t->pirq[i]);
    spin_unlock(&t->lock);
    return ret;
}

int rights_set_gsi(struct domain *d, const struct domain *by, uint32_t gsi, bool allow)
{
    if (gsi >= irq_gsi_count || !ioapic_has_gsi(gsi))
        return -EINVAL;
    return set_line(d, by, gsi, allow);
}

/* `by` knows the line by a PIRQ of its own; an unmapped one is the GSI of the same number. */
int rights_set_pirq(struct domain *d, struct domain *by, uint32_t nr, bool allow)
{
    struct pirq *p = pirq_of(by, nr);
    int32_t irq = p ? __atomic_load_n(&p->irq, __ATOMIC_ACQUIRE) : -1;

    if (!p)
        return -EINVAL;
    if (irq < 0)
        return nr < irq_gsi_count && ioapic_has_gsi(nr) ? set_line(d, by, nr, allow) : -EPERM;
    return set_line(d, by, (unsigned)irq, allow);
}

int pirq_reserve(struct domain *d, bool msi, uint32_t *nr)
{
    struct pirq_table *t = table_of(d);
    int found;

    if (!t)
        return -EINVAL;
    spin_lock(&t->lock);
    found = t->closed ? -1 : pick(t, -1, msi, 1);
    if (found >= 0)
        t->pirq[found].reserved = true;
    spin_unlock(&t->lock);
    if (found < 0)
        return -ENOSPC;
    *nr = (uint32_t)found;
    return 0;
}

void pirq_domain_release(struct domain *d)
{
    struct pirq_table *t = table_of(d);

    if (!t)
        return;
    spin_lock(&t->lock);
    t->closed = true;
    for (unsigned i = 0; i < t->count; i++)
        if (t->pirq[i].irq >= 0)
            unmap_one(t, &t->pirq[i]);
    spin_unlock(&t->lock);
    if (__atomic_exchange_n(&t->eoi_page, NULL, __ATOMIC_SEQ_CST)) {
        arch_grant_unpin(t->eoi_mfn, false);
        frame_put(mfn_frame(t->eoi_mfn));
    }
}

void pirq_domain_free(struct domain *d)
{
    mem_free(x86_domain(d)->pirq);
    x86_domain(d)->pirq = NULL;
}

/* --- the guest's side: physdev_op
 * ------------------------------------------------------------------------------------- */

int pirq_eoi(struct domain *d, uint32_t nr)
{
    struct pirq *p = pirq_of(d, nr);

    if (!p || __atomic_load_n(&p->irq, __ATOMIC_ACQUIRE) < 0)
        return -EINVAL;
    irq_guest_eoi(p);
    return 0;
}

int pirq_status(struct domain *d, uint32_t nr, uint32_t *flags)
{
    const struct pirq *p = pirq_of(d, nr);
    int32_t irq = p ? __atomic_load_n(&p->irq, __ATOMIC_ACQUIRE) : -1;
    struct irq_facts f;

    if (!p)
        return -EINVAL;
    *flags = XENIRQSTAT_needs_eoi; /* unknown yet: the careful answer */
    if (irq >= 0) {
        f = irq_facts((unsigned)irq);
        *flags = (f.level ? XENIRQSTAT_needs_eoi : 0) | (f.shared ? XENIRQSTAT_shared : 0);
    }
    return 0;
}

static void eoi_page_fill(const struct pirq_table *t)
{
    for (unsigned i = 0; i < t->count; i++) {
        const struct pirq *p = &t->pirq[i];

        eoi_bit(t, i, p->irq >= 0 && p->bound && irq_facts((unsigned)p->irq).level);
    }
}

int pirq_set_eoi_page(struct domain *d, gfn_t g)
{
    struct pirq_table *t = table_of(d);
    struct frame *f = t ? arch_gfn_get(d, g) : NULL;
    uint64_t *none = NULL;
    mfn_t m;

    if (!f)
        return -EINVAL;
    m = frame_mfn(f);
    if (!arch_grant_pin(d, m, false)) {
        frame_put(mfn_frame(m));
        return -EINVAL;
    }
    spin_lock(&t->lock);
    if (t->closed || t->eoi_page) {
        spin_unlock(&t->lock);
        arch_grant_unpin(m, false);
        frame_put(mfn_frame(m));
        return -EBUSY;
    }
    t->eoi_mfn = m;
    (void)__atomic_compare_exchange_n(&t->eoi_page, &none, (uint64_t *)arch_frame_va(m), false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    eoi_page_fill(t);
    spin_unlock(&t->lock);
    return 0;
}

/* --- the event channels' side: include/arch/guest_ops.h
 * ------------------------------------------------------------------ */

bool arch_pirq_allowed(const struct domain *d, uint32_t nr)
{
    const struct pirq *p = pirq_of(d, nr);
    int32_t irq = p ? __atomic_load_n(&p->irq, __ATOMIC_ACQUIRE) : -1;

    return p && (d->hardware || (irq >= 0 && line_allowed(table_of(d), (unsigned)irq)));
}

int arch_pirq_bind(struct vcpu *v, uint32_t nr, bool will_share)
{
    struct domain *d = v->domain;
    struct pirq *p = pirq_of(d, nr);
    bool level;
    int ret = p ? irq_bind_guest(p, v, will_share, &level) : -EINVAL;

    if (!ret)
        eoi_bit(table_of(d), nr, level);
    return ret;
}

void arch_pirq_unbind(struct domain *d, uint32_t nr)
{
    struct pirq *p = pirq_of(d, nr);

    if (p) {
        irq_unbind_guest(p);
        eoi_bit(table_of(d), nr, false);
    }
}

void arch_pirq_unmask(struct domain *d, uint32_t nr)
{
    struct pirq *p = pirq_of(d, nr);

    if (p)
        irq_guest_eoi(p);
}

void arch_pirq_set_affinity(struct domain *d, uint32_t nr, struct vcpu *v)
{
    struct pirq *p = pirq_of(d, nr);

    if (p)
        irq_set_vcpu(p, v);
}
