/*
 * The board of an HVM guest as a whole: made, stopped, unmade; its devices on the bus; its records in an HVM context.
 *
 * Invariants
 *  1. A domain that was made with emulated devices has a board; one of PVH kind has none, and pays nothing for it.
 *  2. A record is loaded only when it was checked, or when whatever it holds is a state that a guest could bring about.
 * Locks: the board's.
 */
#include "board.h"
#include "platform.h"
#include "core/alloc.h"
#include "lib/string.h"

void board_bytes(struct vcpu *v, struct hvm_access *a, port_fn fn)
{
    struct hvm_board *b = board_of(v->domain);
    unsigned long flags = board_lock(b);
    uint64_t value = 0;

    for (unsigned i = 0; i < a->bytes; i++)
        value |= (uint64_t)fn(b, (unsigned)a->address + i, a->write, (uint8_t)(a->value >> 8 * i)) << 8 * i;
    board_unlock(b, flags);
    if (!a->write)
        a->value = value;
}

/* All but the clock, which has a battery. */
static void reset(struct hvm_board *b)
{
    hpet_reset(b);
    pic_reset(b);
    ioapic_reset(b);
    pit_reset(b);
    pm_reset(b);
}

int hvm_board_init(struct domain *d)
{
    static const struct hvm_device *const devices[] = {&ioapic_device,    &hpet_device,    &pic_master_device,
                                                       &pic_slave_device, &pit_device,     &rtc_device,
                                                       &speaker_device,   &pic_elcr_device};
    struct hvm_board *b = mem_new(struct hvm_board);

    if (!b)
        return -ENOMEM;
    b->d = d;
    spin_init(&b->lock, RANK_VBOARD);
    pit_init(b);
    rtc_init(b);
    pm_init(b);
    hpet_init(b);
    reset(b);
    rtc_reset(b);
    hvm_domain(d)->board = b;
    for (unsigned i = 0; i < PM_DEVICES; i++)
        hvm_bus_add(d, &pm_devices[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
        hvm_bus_add(d, devices[i]);
    return 0;
}

void hvm_board_stop(struct domain *d)
{
    struct hvm_board *b = board_of(d);

    if (!b)
        return;
    timer_kill(&b->pit.timer);
    timer_kill(&b->rtc.timer);
    timer_kill(&b->pm.timer);
    timer_kill(&b->hpet.timer);
}

void hvm_board_free(struct domain *d)
{
    hvm_board_stop(d);
    mem_free(board_of(d));
    hvm_domain(d)->board = NULL;
}

/* Wires and routes of device models, and where events go, are theirs and stay; ours are low now. */
void hvm_board_power_lost(struct domain *d)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return;
    flags = board_lock(b);
    b->lines.own = 0;
    memset(b->lines.hpet, 0, sizeof(b->lines.hpet));
    lines_recount(b);
    reset(b);
    rtc_power_lost(b);
    board_unlock(b, flags);
}

void hvm_board_woken(struct domain *d)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return;
    flags = board_lock(b);
    pm_woken(b);
    board_unlock(b, flags);
}

void hvm_board_check(const struct domain *d)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b)
        return;
    flags = board_lock(b);
    lines_check(b);
    board_unlock(b, flags);
}

/* --- records --- */

static unsigned instances(uint16_t type)
{
    return type == HVM_SAVE_CODE(PIC) ? 2 : 1;
}

uint32_t hvm_board_length(uint16_t type)
{
    switch (type) {
    case HVM_SAVE_CODE(PIC):
        return HVM_SAVE_LENGTH(PIC);
    case HVM_SAVE_CODE(IOAPIC):
        return HVM_SAVE_LENGTH(IOAPIC);
    case HVM_SAVE_CODE(PCI_IRQ):
        return HVM_SAVE_LENGTH(PCI_IRQ);
    case HVM_SAVE_CODE(ISA_IRQ):
        return HVM_SAVE_LENGTH(ISA_IRQ);
    case HVM_SAVE_CODE(PCI_LINK):
        return HVM_SAVE_LENGTH(PCI_LINK);
    case HVM_SAVE_CODE(PIT):
        return HVM_SAVE_LENGTH(PIT);
    case HVM_SAVE_CODE(RTC):
        return HVM_SAVE_LENGTH(RTC);
    case HVM_SAVE_CODE(HPET):
        return HVM_SAVE_LENGTH(HPET);
    case HVM_SAVE_CODE(PMTIMER):
        return HVM_SAVE_LENGTH(PMTIMER);
    default:
        return 0;
    }
}

static void get(struct hvm_board *b, uint16_t type, unsigned instance, union hvm_board_record *r)
{
    switch (type) {
    case HVM_SAVE_CODE(PIC):
        r->pic = b->pic[instance];
        break;
    case HVM_SAVE_CODE(IOAPIC):
        r->ioapic = b->ioapic;
        break;
    case HVM_SAVE_CODE(PCI_IRQ):
        r->pci_irqs.pad[0] = b->lines.pci[0];
        r->pci_irqs.pad[1] = b->lines.pci[1];
        break;
    case HVM_SAVE_CODE(ISA_IRQ):
        r->isa_irqs.pad[0] = b->lines.isa;
        break;
    case HVM_SAVE_CODE(PCI_LINK):
        memcpy(r->link.route, b->lines.route, sizeof(r->link.route));
        break;
    case HVM_SAVE_CODE(PIT):
        r->pit = b->pit.hw;
        break;
    case HVM_SAVE_CODE(RTC):
        r->rtc = b->rtc.hw;
        break;
    case HVM_SAVE_CODE(HPET):
        hpet_get(b, &r->hpet);
        break;
    default:
        pm_get(b, &r->pm);
        break;
    }
}

bool hvm_board_get(const struct domain *d, uint16_t type, unsigned instance, union hvm_board_record *r)
{
    struct hvm_board *b = board_of(d);
    unsigned long flags;

    if (!b || !hvm_board_length(type) || instance >= instances(type))
        return false;
    memset(r, 0, sizeof(*r));
    flags = board_lock(b);
    get(b, type, instance, r);
    board_unlock(b, flags);
    return true;
}

static bool record_ok(uint16_t type, const union hvm_board_record *r)
{
    switch (type) {
    case HVM_SAVE_CODE(IOAPIC):
        return ioapic_record_ok(&r->ioapic);
    case HVM_SAVE_CODE(ISA_IRQ):
        return !(r->isa_irqs.pad[0] >> ISA_IRQS);
    case HVM_SAVE_CODE(PCI_LINK):
        for (unsigned i = 0; i < LINKS; i++)
            if (r->link.route[i] >= ISA_IRQS)
                return false;
        return true;
    default:
        return true;
    }
}

int hvm_board_record_ok(const struct domain *d, uint16_t type, unsigned instance, const void *record)
{
    union hvm_board_record r;

    if (!board_of(d))
        return -EOPNOTSUPP;
    if (instance >= instances(type))
        return -EINVAL;
    memcpy(&r, record, hvm_board_length(type));
    return record_ok(type, &r) ? 0 : -EINVAL;
}

static void set(struct hvm_board *b, uint16_t type, unsigned instance, const union hvm_board_record *r)
{
    switch (type) {
    case HVM_SAVE_CODE(PIC):
        b->pic[instance] = r->pic;
        pic_loaded(b);
        break;
    case HVM_SAVE_CODE(IOAPIC):
        b->ioapic = r->ioapic;
        break;
    case HVM_SAVE_CODE(PCI_IRQ):
        b->lines.pci[0] = r->pci_irqs.pad[0];
        b->lines.pci[1] = r->pci_irqs.pad[1];
        lines_recount(b);
        break;
    case HVM_SAVE_CODE(ISA_IRQ):
        b->lines.isa = (uint16_t)r->isa_irqs.pad[0];
        lines_recount(b);
        break;
    case HVM_SAVE_CODE(PCI_LINK):
        memcpy(b->lines.route, r->link.route, sizeof(b->lines.route));
        lines_recount(b);
        break;
    case HVM_SAVE_CODE(PIT):
        b->pit.hw = r->pit;
        pit_loaded(b);
        break;
    case HVM_SAVE_CODE(RTC):
        b->rtc.hw = r->rtc;
        rtc_loaded(b);
        break;
    case HVM_SAVE_CODE(HPET):
        b->hpet.hw = r->hpet;
        hpet_loaded(b);
        break;
    default:
        b->pm.hw = r->pm;
        pm_loaded(b);
        break;
    }
}

void hvm_board_set(struct domain *d, uint16_t type, unsigned instance, const void *record)
{
    struct hvm_board *b = board_of(d);
    union hvm_board_record r;
    unsigned long flags;

    memcpy(&r, record, hvm_board_length(type));
    flags = board_lock(b);
    set(b, type, instance, &r);
    board_unlock(b, flags);
}
