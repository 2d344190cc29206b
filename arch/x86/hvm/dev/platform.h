/*
 * Inside arch/x86/hvm/dev: the board of an HVM guest - two 8259s, the I/O APIC and the lines between them and devices, PIT, RTC, ACPI
 * timer, HPET. The structures of xen/arch-x86/hvm/save.h are the devices' state where they fit.
 *
 * Locks: one for all of a board (RANK_VBOARD, interrupts off). A device's access function takes it, as do functions of timers and the
 * entries of irq.h; everything called board_, pic_, ioapic_, pit_, rtc_, hpet_, pm_ below expects it held.
 */
#ifndef HVM_PLATFORM_H
#define HVM_PLATFORM_H

#include "core/abi.h"
#include "core/domain.h"
#include "core/errno.h"
#include "core/lock.h"
#include "core/timer.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "board.h"
#include "bus.h"
#include "x86/hvm.h"
#include <xen/hvm/save.h>

#define GSIS        VIOAPIC_NUM_PINS
#define PCI_WIRES   128u
#define LINKS       4u
#define ISA_IRQS    16u
#define NS_PER_S    1000000000ull
/* However short a guest wants a period, its clock loses ticks and Krypton no time. */
#define TICK_MIN_NS 100000u

enum callback_kind { CALLBACK_NONE, CALLBACK_GSI, CALLBACK_INTX };

struct board_lines {
    uint64_t pci[2];              /* wires device * 4 + INTx */
    uint16_t isa, own;            /* ISA wires of device models, of our own devices */
    uint8_t route[LINKS];         /* ISA irq; 0: none */
    uint8_t link_count[LINKS];    /* wires high on it */
    uint8_t count[GSIS];          /* wires high on the line */
    uint8_t hpet[HPET_TIMER_NUM]; /* the line that a timer of the HPET holds high; 0: none */
    uint8_t callback;             /* [a] enum callback_kind */
    uint8_t callback_line;        /* GSI, or PCI wire */
    bool callback_high;           /* [a] */
};

struct board_pit {
    struct hvm_hw_pit hw;
    uint64_t loaded[3]; /* ns: when the count began */
    uint64_t due;       /* channel 0: its next interrupt; 0: none */
    struct timer timer;
};

struct board_rtc {
    struct hvm_hw_rtc hw;
    uint64_t seen; /* ns: the flags in register C are of what was until then */
    struct timer timer;
};

struct board_pm {
    struct hvm_hw_pmtimer hw; /* tmr_val: at `since` */
    uint64_t since;           /* ns */
    uint64_t seen;            /* ticks up to which pm1a_sts is true */
    struct timer timer;
};

struct board_hpet {
    struct hvm_hw_hpet hw; /* mc64: at `since` */
    uint64_t since;        /* ns */
    uint64_t due[HPET_TIMER_NUM];
    struct timer timer;
};

struct hvm_board {
    struct spinlock lock;
    struct domain *d; /* [c] */
    struct board_lines lines;
    struct hvm_hw_vpic pic[2];
    bool pic_output; /* [a] the master's */
    struct hvm_hw_vioapic ioapic;
    unsigned turn; /* [a] lowest-priority messages: who is next */
    struct board_pit pit;
    struct board_rtc rtc;
    struct board_pm pm;
    struct board_hpet hpet;
};

static inline struct hvm_board *board_of(const struct domain *d)
{
    return hvm_domain(d)->board;
}
static inline unsigned long board_lock(struct hvm_board *b)
{
    return spin_lock_irq(&b->lock);
}
static inline void board_unlock(struct hvm_board *b, unsigned long flags)
{
    spin_unlock_irq(&b->lock, flags);
}
/* A device of single-byte registers: each byte of an access by itself. */
typedef uint8_t (*port_fn)(struct hvm_board *b, unsigned port, bool write, uint8_t value);
void board_bytes(struct vcpu *v, struct hvm_access *a, port_fn fn);

/* now * hz / 10^9, without losing what goes over 64 bits on the way; and back. */
static inline uint64_t ns_to_ticks(uint64_t ns, uint64_t hz)
{
    return ns / NS_PER_S * hz + ns % NS_PER_S * hz / NS_PER_S;
}
static inline uint64_t ticks_to_ns(uint64_t ticks, uint64_t hz) /* rounded up */
{
    return ticks / hz * NS_PER_S + (ticks % hz * NS_PER_S + hz - 1) / hz;
}
/* For struct vlapic_message.first; no lock needed. */
static inline unsigned board_turn(struct hvm_board *b)
{
    return __atomic_fetch_add(&b->turn, 1, __ATOMIC_RELAXED);
}
static inline void board_arm(struct timer *t, uint64_t ns)
{
    timer_migrate(t, arch_cpu_id());
    timer_set(t, ns);
}

/* --- irq.c --- */
/* An ISA wire of our own device. A pulse makes an edge where no wire holds the line high. */
void board_isa(struct hvm_board *b, unsigned irq, bool level);
void board_isa_pulse(struct hvm_board *b, unsigned irq);
void board_hpet(struct hvm_board *b, unsigned timer, unsigned gsi); /* 0: low */
void board_gsi_pulse(struct hvm_board *b, unsigned gsi);
void board_callback_refresh(struct hvm_board *b);
void lines_check(const struct hvm_board *b);
/* After wires or routes were loaded: the counts. */
void lines_recount(struct hvm_board *b);

/* --- vpic.c --- */
void pic_reset(struct hvm_board *b);
void pic_line(struct hvm_board *b, unsigned irq, bool level);
int pic_ack(struct hvm_board *b);
/* Wakes the processors that take the 8259s' interrupt, if one waits. */
void pic_tell(struct hvm_board *b);
void pic_loaded(struct hvm_board *b);

/* --- vioapic.c --- */
void ioapic_reset(struct hvm_board *b);
void ioapic_line(struct hvm_board *b, unsigned pin); /* has just become high */
void ioapic_eoi(struct hvm_board *b, uint8_t vector);
/* Pin 0 in ExtINT mode: the 8259s' output by way of the I/O APIC. */
bool ioapic_extint(const struct hvm_board *b);
bool ioapic_record_ok(const struct hvm_hw_vioapic *r);

/* --- the devices --- */
void pit_init(struct hvm_board *b);
void pit_reset(struct hvm_board *b);
void pit_loaded(struct hvm_board *b);
/* The HPET has taken timer 0's line (legacy replacement), or given it back. */
void pit_line_changed(struct hvm_board *b);
void rtc_line_changed(struct hvm_board *b);
void rtc_init(struct hvm_board *b);
void rtc_reset(struct hvm_board *b);      /* the first time */
void rtc_power_lost(struct hvm_board *b); /* but for its battery: time, alarm and modes stay */
void rtc_loaded(struct hvm_board *b);
void pm_init(struct hvm_board *b);
void pm_reset(struct hvm_board *b);
void pm_woken(struct hvm_board *b); /* says that it comes from a sleep */
void pm_get(struct hvm_board *b, struct hvm_hw_pmtimer *out);
void pm_loaded(struct hvm_board *b);
void hpet_init(struct hvm_board *b);
void hpet_reset(struct hvm_board *b);
void hpet_get(struct hvm_board *b, struct hvm_hw_hpet *out);
void hpet_loaded(struct hvm_board *b);
bool hpet_legacy(const struct hvm_board *b);

#define PM_DEVICES 4u
extern const struct hvm_device pm_devices[PM_DEVICES];
extern const struct hvm_device pic_master_device, pic_slave_device, pic_elcr_device, ioapic_device,
    pit_device, speaker_device, rtc_device, hpet_device;

#endif
