/*
 * Two 8259A interrupt controllers (Intel 231468), the second at the first one's input 2, with the edge/level registers of PCI bridges.
 *
 * State is struct hvm_hw_vpic. init_state: bits 0-1 which ICW the next write to port 1 is less one (0: none is awaited), bit 2 an ICW4
 * follows, bit 3 there is no second chip.
 *
 * Invariants
 *  1. An input in edge mode stays in IRR until it is acknowledged; one in level mode is in IRR while its line is high.
 *  2. b->pic_output is the first chip's INT; the second one's INT is the first one's IRR bit 2.
 * Locks: the board's.
 */
#include "irq.h"
#include "platform.h"
#include "vlapic.h"

#define CASCADE     2u
#define ICW1        0x10u
#define ICW1_IC4    0x01u
#define ICW1_SINGLE 0x02u
#define OCW3        0x08u
#define SPURIOUS    7u
#define NONE        8u

/* The rank of the first of `bits` from the highest priority on; NONE: no bit. */
static unsigned rank(const struct hvm_hw_vpic *p, uint8_t bits)
{
    unsigned rotated = (bits >> p->priority_add | (unsigned)bits << (8 - p->priority_add)) & 0xff;

    return rotated ? (unsigned)__builtin_ctz(rotated) : NONE;
}

static unsigned input_at(const struct hvm_hw_vpic *p, unsigned r)
{
    return (r + p->priority_add) & 7;
}

/* The input whose interrupt is due; NONE. */
static unsigned due(const struct hvm_hw_vpic *p)
{
    uint8_t busy = p->isr;
    unsigned next = rank(p, p->irr & (uint8_t)~p->imr);

    if (p->special_mask_mode)
        busy &= (uint8_t)~p->imr;
    if (p->is_master && p->special_fully_nested_mode)
        busy &= (uint8_t) ~(1u << CASCADE);
    return next != NONE && next < rank(p, busy) ? input_at(p, next) : NONE;
}

void pic_tell(struct hvm_board *b)
{
    for_each_vcpu(b->d, v)
    {
        if (hvm_pic_pending(v))
            vlapic_wake(v);
    }
}

static void update(struct hvm_board *b)
{
    struct hvm_hw_vpic *master = &b->pic[0], *slave = &b->pic[1];
    bool was = b->pic_output;

    slave->int_output = due(slave) != NONE;
    master->irr = (uint8_t)((master->irr & ~(1u << CASCADE)) | (unsigned)slave->int_output << CASCADE);
    master->int_output = due(master) != NONE;
    __atomic_store_n(&b->pic_output, master->int_output, __ATOMIC_RELAXED);
    if (master->int_output && !was)
        pic_tell(b);
}

void pic_line(struct hvm_board *b, unsigned irq, bool level)
{
    struct hvm_hw_vpic *p = &b->pic[irq >> 3];
    uint8_t bit = (uint8_t)(1u << (irq & 7));

    if (p->is_master && bit == 1u << CASCADE)
        return;
    if (level)
        p->irr |= bit;
    else if (p->elcr & bit)
        p->irr &= (uint8_t)~bit;
    update(b);
}

static void end(struct hvm_hw_vpic *p, unsigned input, bool rotate)
{
    p->isr &= (uint8_t) ~(1u << input);
    if (rotate)
        p->priority_add = (input + 1) & 7;
}

static void end_first(struct hvm_hw_vpic *p, bool rotate)
{
    uint8_t busy = p->special_mask_mode ? p->isr & (uint8_t)~p->imr : p->isr;
    unsigned r = rank(p, busy);

    if (r != NONE)
        end(p, input_at(p, r), rotate);
}

/* What the acknowledge cycle does to one chip: the input, SPURIOUS when nothing is due any more. */
static unsigned take(struct hvm_hw_vpic *p)
{
    unsigned input = due(p);

    if (input == NONE)
        return SPURIOUS;
    if (!(p->elcr >> input & 1))
        p->irr &= (uint8_t) ~(1u << input);
    p->isr |= (uint8_t)(1u << input);
    if (p->auto_eoi)
        end(p, input, p->rotate_on_auto_eoi);
    return input;
}

int pic_ack(struct hvm_board *b)
{
    struct hvm_hw_vpic *master = &b->pic[0], *slave = &b->pic[1];
    unsigned input = take(master), vector = master->irq_base + input;

    if (input == CASCADE)
        vector = slave->irq_base + take(slave);
    update(b);
    return (int)vector;
}

/* --- commands --- */

static void icw1(struct hvm_hw_vpic *p, uint8_t value)
{
    p->irr &= p->elcr;
    p->imr = p->isr = 0;
    p->priority_add = 0;
    p->readsel_isr = p->poll = p->special_mask_mode = p->rotate_on_auto_eoi = 0;
    if (!(value & ICW1_IC4))
        p->auto_eoi = p->special_fully_nested_mode = 0;
    p->init_state = (uint8_t)((value & ICW1_SINGLE ? 8 : 0) | (value & ICW1_IC4 ? 4 : 0) | 1);
}

static void icw(struct hvm_hw_vpic *p, uint8_t value)
{
    unsigned step = p->init_state & 3, keep = p->init_state & 12u, next;

    if (step == 1) {
        p->irq_base = value & 0xf8;
        next = keep & 8 ? 3 : 2;
    } else if (step == 2) {
        next = 3;
    } else {
        p->special_fully_nested_mode = value >> 4 & 1;
        p->auto_eoi = value >> 1 & 1;
        next = 0;
    }
    if (next == 3 && !(keep & 4))
        next = 0;
    p->init_state = (uint8_t)(next ? keep | next : 0);
}

static void ocw2(struct hvm_hw_vpic *p, uint8_t value)
{
    unsigned input = value & 7;

    switch (value >> 5) {
    case 0:
    case 4:
        p->rotate_on_auto_eoi = value >> 7;
        break;
    case 1:
    case 5:
        end_first(p, value >> 7);
        break;
    case 3:
    case 7:
        end(p, input, value >> 7);
        break;
    case 6:
        p->priority_add = (input + 1) & 7;
        break;
    default:
        break;
    }
}

static void ocw3(struct hvm_hw_vpic *p, uint8_t value)
{
    p->poll = value >> 2 & 1;
    if (value & 2)
        p->readsel_isr = value & 1;
    if (value & 0x40)
        p->special_mask_mode = value >> 5 & 1;
}

static void write(struct hvm_board *b, struct hvm_hw_vpic *p, bool second, uint8_t value)
{
    board_callback_refresh(b); /* an EOI is what ends an event's interrupt */
    if (second) {
        if (p->init_state & 3)
            icw(p, value);
        else
            p->imr = value;
    } else if (value & ICW1) {
        icw1(p, value);
    } else if (value & OCW3) {
        ocw3(p, value);
    } else {
        ocw2(p, value);
    }
}

static uint8_t read(struct hvm_hw_vpic *p, bool second)
{
    unsigned input;

    if (p->poll) {
        p->poll = 0;
        input = due(p);
        if (input != NONE)
            (void)take(p);
        return input == NONE ? 0 : (uint8_t)(0x80 | input);
    }
    if (second)
        return p->imr;
    return p->readsel_isr ? p->isr : p->irr;
}

static uint8_t chip(struct hvm_board *b, unsigned port, bool is_write, uint8_t value)
{
    struct hvm_hw_vpic *p = &b->pic[port >> 7 & 1];

    if (is_write)
        write(b, p, port & 1, value);
    else
        value = read(p, port & 1);
    update(b);
    return value;
}

/* Inputs 0, 1, 2, 8 and 13 are edges always. */
static uint8_t elcr(struct hvm_board *b, unsigned port, bool is_write, uint8_t value)
{
    struct hvm_hw_vpic *p = &b->pic[port & 1];

    if (!is_write)
        return p->elcr;
    p->elcr = value & (port & 1 ? 0xde : 0xf8);
    for (unsigned i = 0; i < 8; i++) { /* an input in level mode is what its line is */
        uint8_t bit = (uint8_t)(1u << i);

        if (p->elcr & bit)
            p->irr = b->lines.count[(port & 1) * 8 + i] ? p->irr | bit : p->irr & (uint8_t)~bit;
    }
    update(b);
    return value;
}

static bool pic_access(struct vcpu *v, struct hvm_access *a)
{
    board_bytes(v, a, chip);
    return true;
}

static bool elcr_access(struct vcpu *v, struct hvm_access *a)
{
    board_bytes(v, a, elcr);
    return true;
}

const struct hvm_device pic_master_device = {"PIC", HVM_PORT, 0x20, 0x21, pic_access};
const struct hvm_device pic_slave_device = {"PIC", HVM_PORT, 0xa0, 0xa1, pic_access};
const struct hvm_device pic_elcr_device = {"ELCR", HVM_PORT, 0x4d0, 0x4d1, elcr_access};

void pic_reset(struct hvm_board *b)
{
    for (unsigned i = 0; i < 2; i++)
        b->pic[i] = (struct hvm_hw_vpic){.is_master = !i};
    b->pic_output = false;
}

/* A record holds what a guest cannot have written, too. */
void pic_loaded(struct hvm_board *b)
{
    for (unsigned i = 0; i < 2; i++) {
        struct hvm_hw_vpic *p = &b->pic[i];

        p->is_master = !i;
        p->irq_base &= 0xf8;
        p->priority_add &= 7;
        p->elcr &= i ? 0xde : 0xf8;
        if (!(p->init_state & 3))
            p->init_state = 0;
    }
    b->pic_output = false;
    update(b);
}
