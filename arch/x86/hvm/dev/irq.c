/*
 * The lines between devices and interrupt controllers, and messages.
 *
 *   ISA irq n ------------------------------> GSI n (irq 0: GSI 2) -> I/O APIC pin, 8259 input n
 *   PCI device, INTx --> GSI 16 + ((4 * device + device / 8 + INTx) & 31) -> I/O APIC pin
 *                    \-> link (device + INTx) & 3 -- the bridge's route --> ISA irq, as above
 * (what the tables say that hvmloader gives to the guest).
 *
 * Invariants
 *  1. count[g] is the number of wires that are high and lead to line g; link_count[l] the same for links (lines_check).
 *  2. Controllers hear of a line only when its count leaves 0 or comes back to it.
 * Locks: the board's.
 */
#include "irq.h"
#include "platform.h"
#include "vlapic.h"
#include "core/log.h"

static unsigned wire_gsi(unsigned wire)
{
    unsigned dev = wire / 4, intx = wire % 4;

    return 16 + ((dev * 4 + dev / 8 + intx) & 31);
}

static unsigned wire_link(unsigned wire)
{
    return (wire / 4 + wire % 4) & 3;
}

static unsigned isa_gsi(unsigned irq)
{
    return irq ? irq : 2;
}

/* The 8259 input of a line; 2 is where the second one is joined to the first. */
static void tell_pic(struct hvm_board *b, unsigned gsi, bool level)
{
    if (gsi < ISA_IRQS && gsi != 0)
        pic_line(b, gsi == 2 ? 0 : gsi, level);
}

static void line(struct hvm_board *b, unsigned gsi, bool level)
{
    uint8_t *count = &b->lines.count[gsi];

    if (level) {
        if ((*count)++)
            return;
        tell_pic(b, gsi, true);
        ioapic_line(b, gsi);
    } else if (!--*count) {
        tell_pic(b, gsi, false);
    }
}

static void wire(struct hvm_board *b, unsigned w, bool level)
{
    unsigned link = wire_link(w);
    uint8_t *count = &b->lines.link_count[link];
    bool was = *count;

    *count = (uint8_t)(level ? *count + 1 : *count - 1);
    line(b, wire_gsi(w), level);
    if (was != (*count != 0) && b->lines.route[link])
        line(b, b->lines.route[link], level);
}

/* --- our own devices --- */

void board_isa(struct hvm_board *b, unsigned irq, bool level)
{
    uint16_t bit = (uint16_t)(1u << irq);

    if (level == !!(b->lines.own & bit))
        return;
    b->lines.own ^= bit;
    line(b, isa_gsi(irq), level);
}

void board_gsi_pulse(struct hvm_board *b, unsigned gsi)
{
    line(b, gsi, true);
    line(b, gsi, false);
}

void board_isa_pulse(struct hvm_board *b, unsigned irq)
{
    board_gsi_pulse(b, isa_gsi(irq));
}

void board_hpet(struct hvm_board *b, unsigned timer, unsigned gsi)
{
    uint8_t *held = &b->lines.hpet[timer];

    if (*held == gsi)
        return;
    if (*held)
        line(b, *held, false);
    *held = (uint8_t)gsi;
    if (gsi)
        line(b, gsi, true);
}

/* --- device models --- */

int hvm_isa_irq(struct domain *d, unsigned irq, bool level)
{
    struct hvm_board *b = board_of(d);
    uint16_t bit = (uint16_t)(1u << (irq & 15));
    unsigned long flags;

    if (irq >= ISA_IRQS)
        return -EINVAL;
    if (!b)
        return -EOPNOTSUPP;
    flags = board_lock(b);
    if (level != !!(b->lines.isa & bit)) {
        b->lines.isa ^= bit;
        line(b, isa_gsi(irq), level);
    }
    board_unlock(b, flags);
    return 0;
}

int hvm_pci_intx(struct domain *d, unsigned bus, unsigned dev, unsigned intx, bool level)
{
    struct hvm_board *b = board_of(d);
    unsigned w = (dev & 31) * 4 + (intx & 3);
    unsigned long flags;

    if (bus || dev > 31 || intx > 3)
        return -EINVAL;
    if (!b)
        return -EOPNOTSUPP;
    flags = board_lock(b);
    if (level != !!(b->lines.pci[w / 64] >> (w % 64) & 1)) {
        b->lines.pci[w / 64] ^= 1ull << (w % 64);
        wire(b, w, level);
    }
    board_unlock(b, flags);
    return 0;
}

int hvm_pci_link_route(struct domain *d, unsigned link, unsigned irq)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;
    unsigned old;

    if (link >= LINKS || irq >= ISA_IRQS)
        return -EINVAL;
    if (!b)
        return -EOPNOTSUPP;
    flags = board_lock(b);
    old = b->lines.route[link];
    b->lines.route[link] = (uint8_t)irq;
    if (b->lines.link_count[link] && old != irq) {
        if (old)
            line(b, old, false);
        if (irq)
            line(b, irq, true);
    }
    board_unlock(b, flags);
    return 0;
}

#define FPU_IRQ 13

void hvm_fpu_error(struct domain *d)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return;
    flags = board_lock(b);
    board_isa_pulse(b, FPU_IRQ);
    board_unlock(b, flags);
}

/* Intel SDM vol. 3 11.11.1, 11.11.2. The stock device model gives the place in the page range of messages, not the address. */
int hvm_inject_msi(struct domain *d, uint64_t address, uint32_t data)
{
    struct hvm_board *b = board_of(d);

    if ((address >> 20 && address >> 20 != APIC_PAGE >> 20) || !(data & 0xff))
        return -EINVAL;
    vlapic_message(d, &(struct vlapic_message){.dest = (uint8_t)(address >> 12),
                                               .logical = address >> 2 & 1,
                                               .mode = data >> 8 & 7,
                                               .vector = (uint8_t)data,
                                               .level = data >> 15 & 1,
                                               .first = b ? board_turn(b) : 0});
    return 0;
}

/* --- events by a line --- */

static void callback_level(struct hvm_board *b, bool level)
{
    struct board_lines *l = &b->lines;

    if (level == l->callback_high)
        return;
    if (level)
        hvm_attend(domain_vcpu(b->d, 0)); /* which lowers it (hvm_callback_follow) */
    __atomic_store_n(&l->callback_high, level, __ATOMIC_RELAXED);
    if (l->callback == CALLBACK_GSI)
        line(b, l->callback_line, level);
    else
        wire(b, l->callback_line, level);
}

/* A vCPU with a vector of its own for events hears of them by that: kernels name some line besides, so that a toolstack sees one. */
static bool events_pending(const struct domain *d)
{
    const struct vcpu *v = domain_vcpu(d, 0);

    return v && !__atomic_load_n(&hvm_vcpu(v)->upcall_vector, __ATOMIC_RELAXED) &&
           __atomic_load_n(&vcpu_info_get(v)->evtchn_upcall_pending, __ATOMIC_ACQUIRE);
}

void board_callback_refresh(struct hvm_board *b)
{
    if (b->lines.callback != CALLBACK_NONE)
        callback_level(b, events_pending(b->d));
}

static int callback_set(struct domain *d, enum callback_kind kind, unsigned at)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return kind == CALLBACK_NONE ? 0 : -EOPNOTSUPP;
    flags = board_lock(b);
    callback_level(b, false);
    b->lines.callback_line = (uint8_t)at;
    __atomic_store_n(&b->lines.callback, (uint8_t)kind, __ATOMIC_RELAXED);
    board_callback_refresh(b);
    board_unlock(b, flags);
    return 0;
}

int hvm_callback_gsi(struct domain *d, unsigned gsi)
{
    return gsi < GSIS ? callback_set(d, CALLBACK_GSI, gsi) : -EINVAL;
}

int hvm_callback_intx(struct domain *d, unsigned dev, unsigned intx)
{
    return dev < 32 && intx < 4 ? callback_set(d, CALLBACK_INTX, dev * 4 + intx) : -EINVAL;
}

void hvm_callback_none(struct domain *d)
{
    (void)callback_set(d, CALLBACK_NONE, 0);
}

bool hvm_callback_high(const struct vcpu *v)
{
    const struct hvm_board *b = board_of(v->domain);

    return b && !v->id && __atomic_load_n(&b->lines.callback_high, __ATOMIC_RELAXED);
}

bool hvm_callback_due(const struct vcpu *v)
{
    const struct hvm_board *b = board_of(v->domain);

    return b && !v->id && __atomic_load_n(&b->lines.callback, __ATOMIC_RELAXED) != CALLBACK_NONE &&
           __atomic_load_n(&b->lines.callback_high, __ATOMIC_RELAXED) != events_pending(v->domain);
}

void hvm_callback_follow(struct vcpu *v)
{
    struct hvm_board *b = board_of(v->domain);
    unsigned long flags;

    if (!hvm_callback_due(v))
        return;
    flags = board_lock(b);
    board_callback_refresh(b);
    board_unlock(b, flags);
}

/* --- controllers to processors --- */

bool hvm_pic_pending(const struct vcpu *v)
{
    const struct hvm_board *b = board_of(v->domain);

    return b && __atomic_load_n(&b->pic_output, __ATOMIC_RELAXED) &&
           (vlapic_takes_extint(v) || (!v->id && ioapic_extint(b)));
}

int hvm_pic_ack(struct vcpu *v)
{
    struct hvm_board *b = board_of(v->domain);
    unsigned long flags = board_lock(b);
    int vector = b->pic_output ? pic_ack(b) : -1;

    board_unlock(b, flags);
    return vector;
}

void hvm_eoi_level(struct domain *d, uint8_t vector)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return;
    flags = board_lock(b);
    board_callback_refresh(b);
    ioapic_eoi(b, vector);
    board_unlock(b, flags);
}

/* --- the counts --- */

static void count_all(const struct hvm_board *b, uint8_t count[GSIS], uint8_t link[LINKS])
{
    const struct board_lines *l = &b->lines;

    for (unsigned g = 0; g < GSIS; g++)
        count[g] = 0;
    for (unsigned i = 0; i < LINKS; i++)
        link[i] = 0;
    for (unsigned i = 0; i < ISA_IRQS; i++)
        count[isa_gsi(i)] = (uint8_t)(count[isa_gsi(i)] + (l->isa >> i & 1) + (l->own >> i & 1));
    for (unsigned w = 0; w < PCI_WIRES; w++) {
        unsigned high = l->pci[w / 64] >> (w % 64) & 1;

        if (l->callback == CALLBACK_INTX && l->callback_line == w)
            high += l->callback_high;
        count[wire_gsi(w)] = (uint8_t)(count[wire_gsi(w)] + high);
        link[wire_link(w)] = (uint8_t)(link[wire_link(w)] + high);
    }
    for (unsigned i = 0; i < LINKS; i++)
        if (link[i] && l->route[i])
            count[l->route[i]]++;
    for (unsigned i = 0; i < HPET_TIMER_NUM; i++)
        if (l->hpet[i])
            count[l->hpet[i]]++;
    if (l->callback == CALLBACK_GSI && l->callback_high)
        count[l->callback_line]++;
}

void lines_recount(struct hvm_board *b)
{
    count_all(b, b->lines.count, b->lines.link_count);
}

void lines_check(const struct hvm_board *b)
{
    uint8_t count[GSIS], link[LINKS];

    count_all(b, count, link);
    for (unsigned i = 0; i < LINKS; i++)
        BUG_ON(link[i] != b->lines.link_count[i]);
    for (unsigned g = 0; g < GSIS; g++)
        BUG_ON(count[g] != b->lines.count[g]);
}
