/*
 * The I/O APIC (Intel 82093AA) with 48 pins: what MADT and PCI routing of hvmloader say.
 *
 * Invariants
 *  1. A level-triggered pin sends once (remote_irr) and again only after the end of its interrupt, if its line is still high.
 *  2. What a guest cannot write (delivery_status, remote_irr of its own will, reserved bits) is never taken from it.
 * Locks: the board's.
 */
#include "platform.h"
#include "vlapic.h"

#define IOAPIC_BASE     0xfec00000ull
#define OFFSET_SELECT   0x00u
#define OFFSET_WINDOW   0x10u
#define REG_ID          0x00u
#define REG_VERSION     0x01u
#define REG_ARBITRATION 0x02u
#define REG_TABLE       0x10u
#define VERSION         (0x11u | (GSIS - 1) << 16)

/* Of the lower word: delivery_status and remote_irr are the chip's. */
#define LOW_WRITABLE    0x0001afffu
#define MODE_EXTINT     7u

static void send(struct hvm_board *b, unsigned pin)
{
    union vioapic_redir_entry *e = &b->ioapic.redirtbl[pin];
    struct vlapic_message m = {.dest = e->fields.dest_id,
                               .logical = e->fields.dest_mode,
                               .mode = e->fields.delivery_mode,
                               .vector = e->fields.vector,
                               .level = e->fields.trig_mode,
                               .first = board_turn(b)};

    if (m.mode == MODE_EXTINT)
        return; /* the 8259s' output: asked for by processors (ioapic_extint) */
    if (m.level)
        e->fields.remote_irr = 1;
    vlapic_message(b->d, &m);
}

/* A level that nobody has answered for yet, on a pin that is open. */
static void level(struct hvm_board *b, unsigned pin)
{
    const union vioapic_redir_entry *e = &b->ioapic.redirtbl[pin];

    if (!e->fields.mask && e->fields.trig_mode && !e->fields.remote_irr && b->lines.count[pin])
        send(b, pin);
}

void ioapic_line(struct hvm_board *b, unsigned pin)
{
    const union vioapic_redir_entry *e = &b->ioapic.redirtbl[pin];

    if (e->fields.trig_mode)
        level(b, pin);
    else if (!e->fields.mask)
        send(b, pin);
}

void ioapic_eoi(struct hvm_board *b, uint8_t vector)
{
    for (unsigned pin = 0; pin < GSIS; pin++) {
        union vioapic_redir_entry *e = &b->ioapic.redirtbl[pin];

        if (e->fields.vector != vector || !e->fields.remote_irr)
            continue;
        e->fields.remote_irr = 0;
        level(b, pin);
    }
}

bool ioapic_extint(const struct hvm_board *b)
{
    const union vioapic_redir_entry *e = &b->ioapic.redirtbl[0];

    return !e->fields.mask && e->fields.delivery_mode == MODE_EXTINT;
}

/* --- registers --- */

static uint32_t read_register(const struct hvm_board *b)
{
    unsigned at = b->ioapic.ioregsel - REG_TABLE;
    uint64_t bits;

    switch (b->ioapic.ioregsel) {
    case REG_ID:
    case REG_ARBITRATION:
        return b->ioapic.id << 24;
    case REG_VERSION:
        return VERSION;
    default:
        if (b->ioapic.ioregsel < REG_TABLE || at >= 2 * GSIS)
            return 0;
        bits = b->ioapic.redirtbl[at / 2].bits;
        return (uint32_t)(at & 1 ? bits >> 32 : bits);
    }
}

static void write_entry(struct hvm_board *b, unsigned pin, bool high, uint32_t value)
{
    union vioapic_redir_entry *e = &b->ioapic.redirtbl[pin];

    if (high) {
        e->bits = (uint32_t)e->bits | (uint64_t)(value & 0xff000000) << 32;
        return;
    }
    e->bits = (e->bits & ~(uint64_t)LOW_WRITABLE) | (value & LOW_WRITABLE);
    if (!e->fields.trig_mode)
        e->fields.remote_irr = 0;
    level(b, pin);
    if (!pin)
        pic_tell(b); /* it may have been opened for them */
}

static void write_register(struct hvm_board *b, uint32_t value)
{
    unsigned at = b->ioapic.ioregsel - REG_TABLE;

    if (b->ioapic.ioregsel == REG_ID)
        b->ioapic.id = value >> 24 & 0xf;
    else if (b->ioapic.ioregsel >= REG_TABLE && at < 2 * GSIS)
        write_entry(b, at / 2, at & 1, value);
}

/* Registers are 32 bits wide at multiples of 16; whatever is written there counts as one. */
static bool ioapic_access(struct vcpu *v, struct hvm_access *a)
{
    struct hvm_board *b = board_of(v->domain);
    unsigned offset = (unsigned)(a->address & 0xff), shift = (offset & 3) * 8;
    unsigned long flags = board_lock(b);

    switch (offset & ~3u) {
    case OFFSET_SELECT:
        if (a->write && !shift)
            b->ioapic.ioregsel = (uint8_t)a->value;
        a->value = (uint64_t)b->ioapic.ioregsel >> shift;
        break;
    case OFFSET_WINDOW:
        if (a->write && !shift)
            write_register(b, (uint32_t)a->value);
        else if (!a->write)
            a->value = (uint64_t)read_register(b) >> shift;
        break;
    default:
        a->value = 0;
        break;
    }
    board_unlock(b, flags);
    return true;
}

const struct hvm_device ioapic_device = {"IOAPIC", HVM_MEMORY, IOAPIC_BASE, IOAPIC_BASE + 0xff,
                                         ioapic_access};

void ioapic_reset(struct hvm_board *b)
{
    b->ioapic = (struct hvm_hw_vioapic){.base_address = IOAPIC_BASE};
    for (unsigned pin = 0; pin < GSIS; pin++)
        b->ioapic.redirtbl[pin].fields.mask = 1;
}

bool ioapic_record_ok(const struct hvm_hw_vioapic *r)
{
    for (unsigned pin = 0; pin < GSIS; pin++)
        if (r->redirtbl[pin].bits & ~(0xff00000000000000ull | LOW_WRITABLE | 0x5000u))
            return false;
    return r->base_address == IOAPIC_BASE && r->ioregsel <= 0xff && r->id <= 0xf;
}
