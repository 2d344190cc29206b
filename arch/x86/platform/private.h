/* Between the files of arch/x86/platform only. */
#ifndef PLATFORM_PRIVATE_H
#define PLATFORM_PRIVATE_H

#include "core/abi.h"
#include "core/domain.h"
#include "core/lock.h"
#include "x86/platform.h"

/* --- io-apic (ioapic.c)
 * -------------------------------------------------------------------------------------- */
/* Maps and masks all pins; returns the number of GSIs (highest + 1). Panics when there is no IO-APIC. */
unsigned ioapic_init(void);
bool ioapic_has_gsi(unsigned gsi);
/* Writes the whole entry of a pin. dest is an APIC id. */
void ioapic_write(unsigned gsi, uint8_t vector, bool level, bool low, uint32_t dest, bool masked);
void ioapic_mask(unsigned gsi, bool masked);
void ioapic_set_dest(unsigned gsi, uint32_t dest);
uint64_t ioapic_entry(unsigned gsi);
/* A register of the IO-APIC at base, as its driver would read it: -EINVAL when there is none or no such
 * register. */
int must_check ioapic_reg_read(uint64_t base, uint32_t reg, uint32_t *value);
/* The pin whose low word is register reg of the IO-APIC at base: its GSI, or -1. */
int ioapic_reg_gsi(uint64_t base, uint32_t reg);
/* The GSI of an ISA interrupt and how the firmware says it is wired. */
unsigned isa_gsi(unsigned isa_irq, bool *level, bool *low);

/* topology.c: the node that the firmware calls so, or XEN_INVALID_NODE_ID. */
uint32_t topology_node_of_pxm(uint32_t pxm);

/* ucode.c: xenpf_ucode_revision of later headers. -ENOENT: no such CPU. */
struct ucode_revision {
    uint32_t cpu;
    uint32_t signature, pf, revision;
};
int must_check ucode_revision(struct ucode_revision *r);

/* --- MSI (msi.c)
 * --------------------------------------------------------------------------------------------------- */
struct msi_dev;
struct msi {             /* one message of a device; part of a line */
    struct msi_dev *dev; /* holds a use count while set */
    bool msix;
    uint16_t entry; /* MSI-X: table index; MSI: number within the block */
    uint16_t count; /* MSI: messages of the block (the first one's line programs the device) */
};
/* Where the device is and what it has: -ENODEV, -ENXIO (memory decoding off), -EINVAL (no such entry),
 * -EBUSY. */
int must_check msi_attach(struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, unsigned entry,
                          unsigned count, uint64_t table_base);
void msi_detach(struct msi *m);
/* Writes address and data; the message stays masked where it can be masked. */
void msi_program(const struct msi *m, uint8_t vector, uint32_t dest);
void msi_mask(const struct msi *m, bool masked);
void msi_set_dest(const struct msi *m, uint32_t dest);
void msi_disable(const struct msi *m);
/* MSI-X set up without entries (PHYSDEVOP_prepare_msix), and its undoing. */
int must_check msix_prepare(uint16_t seg, uint8_t bus, uint8_t devfn);
int must_check msix_release(uint16_t seg, uint8_t bus, uint8_t devfn);
bool msi_is_of(const struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn);
void msi_describe(const struct msi *m, char *to, size_t size);
/* After the device lost its state: control registers as they were. */
void msi_restore_control(const struct msi *m);

/* --- interrupt lines (irq.c)
 * --------------------------------------------------------------------------------------- */
#define IRQ_MAX 512u

enum irq_kind { IRQ_NONE, IRQ_GSI, IRQ_MSI };

struct pirq {              /* one PIRQ of a domain */
    struct domain *domain; /* [c] */
    uint32_t nr;           /* [c] */
    int32_t irq;           /* [table; to -1 only with the line's lock too] line, or -1 */
    bool reserved;         /* [table] given out by get_free_pirq, not mapped yet */
    bool bound, shareable; /* [line] */
    bool needs_eoi;        /* [line] delivered, not acknowledged yet */
    struct vcpu *vcpu;     /* [line] whose CPU gets the interrupt */
    struct pirq *next;     /* [line] other PIRQs bound to the same line */
};

struct irq_line {
    struct spinlock lock; /* RANK_IRQ_DESC */
    uint8_t kind;         /* [lock] enum irq_kind; a GSI line never changes it */
    uint8_t vector;       /* [lock] 0 = none */
    bool level, low;      /* [lock] */
    bool masked;          /* [lock] */
    bool programmed;      /* [lock] trigger and polarity were set by setup_gsi or an override */
    uint16_t unacked;     /* [lock] bound PIRQs that owe an end of interrupt */
    uint32_t cpu;         /* [lock] where it goes */
    void (*fn)(void *);   /* [lock] Krypton's own handler; excludes guests */
    void *data;
    struct pirq *guests;         /* [lock] */
    struct msi msi;              /* [lock] of an MSI line */
    uint64_t moved_ns;           /* [lock] last change of cpu */
    uint64_t count, unhandled;   /* [lock] */
    bool storm;                  /* [lock] masked because it came without end (storm.c) */
    uint32_t storms, burst;      /* [lock] burst: interrupts since window_ns */
    uint64_t storm_until;        /* [lock] ns */
    uint64_t window_ns, busy_ns; /* [lock] what handling it took since then */
};

extern struct irq_line irq_lines[IRQ_MAX];
extern unsigned irq_gsi_count; /* lines [0, irq_gsi_count) are GSIs */

/* An interrupt of the line was handled. True: it is one too many, the line is to be masked. Lock held. (storm.c) */
bool must_check storm_note(struct irq_line *l, uint64_t begin, uint64_t end);
/* Ends the line's storm if its time has come; when to look again, ~0 = no need. */
uint64_t irq_storm_over(struct irq_line *l, uint64_t now);

/* Trigger and polarity of a GSI, by its user: -EINVAL, -EEXIST (in use with another setting), -EBUSY
 * (Krypton's own). */
int must_check irq_setup_gsi(unsigned gsi, bool level, bool low);
/* Gives the line a vector if it has none: -EINVAL, -ENOSPC. */
int must_check irq_enable_gsi(unsigned gsi);
/* `count` (a power of two for MSI) consecutive MSI lines with vectors, programmed and masked. 0 and the first
 * line. */
int must_check irq_alloc_msi(uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, unsigned entry,
                             unsigned count, uint64_t table_base, unsigned *first);
void irq_free_msi(unsigned irq);
/* A guest's PIRQ joins or leaves its line. -EINVAL: not mapped; -EBUSY: not shareable. *level: needs an EOI. */
int must_check irq_bind_guest(struct pirq *p, struct vcpu *v, bool share, bool *level);
void irq_unbind_guest(struct pirq *p);
/* Unbinds and unmaps in one step: p->irq is -1 afterwards. Table lock held. Returns the line it had, or -1. */
int irq_drop_guest(struct pirq *p);
/* The guest has finished with an interrupt. */
void irq_guest_eoi(struct pirq *p);
void irq_set_vcpu(struct pirq *p, struct vcpu *v);
void irq_room_check(void); /* panics with the broken invariant */
/* Is the line level-triggered, is it Krypton's, do several guests use it? */
struct irq_facts {
    bool level, krypton, shared;
};
struct irq_facts irq_facts(unsigned irq);
/* Messages of the block that starts with this line (1 for everything but multi-message MSI), 0 = inside a
 * block. */
unsigned irq_msi_block(unsigned irq);
/* Rewrites all messages of a device after a reset or resume; the number of them. */
unsigned irq_restore_msi(uint16_t seg, uint8_t bus, uint8_t devfn);

/* --- PIRQs (pirq.c)
 * ---------------------------------------------------------------------------------------------------- */
struct pirq_table {
    struct spinlock lock;
    bool closed;        /* [lock] the domain dies: no more mappings */
    unsigned count;     /* [c] */
    uint64_t *eoi_page; /* [lock; read without] the guest's bitmap, or NULL */
    mfn_t eoi_mfn;      /* [lock] referenced, and writable */
    uint64_t
        rights[IRQ_MAX / 64]; /* [a] lines that the domain may have: all (hardware domain), or as granted */
    struct pirq pirq[];
};

struct pirq_map_request {
    struct domain *domain;
    enum { PIRQ_GSI, PIRQ_MSI, PIRQ_MSIX } kind;
    unsigned gsi;
    uint16_t seg;
    uint8_t bus, devfn;
    unsigned entry, count;
    uint64_t table_base;
    int pirq; /* wanted, or -1; out: the (first) one */
};
int must_check pirq_map(struct pirq_map_request *r);
int must_check pirq_unmap(struct domain *d, int pirq);
int must_check pirq_reserve(struct domain *d, bool msi, uint32_t *pirq);
int must_check pirq_eoi(struct domain *d, uint32_t pirq);
/* XENIRQSTAT_* flags. */
int must_check pirq_status(struct domain *d, uint32_t pirq, uint32_t *flags);
/* The page that tells the guest which PIRQs need PHYSDEVOP_eoi: -EBUSY (there is one), -EINVAL, -ENOSPC (too
 * small). */
int must_check pirq_set_eoi_page(struct domain *d, gfn_t g);

/* --- clocks (clock.c, time.c, rtc.c)
 * ----------------------------------------------------------------------------------- */
struct platform_counter {
    const char *name;
    uint64_t hz;
    uint64_t mask; /* of the raw value */
    uint64_t (*read)(void);
};
/* Finds the clocks. `runtime`: the one to keep reading after boot (NULL: none); the result: the best for
 * calibration. */
const struct platform_counter *clock_find(const struct platform_counter **runtime);
/* TSC cycles per second, measured over at least us microseconds. */
uint64_t clock_measure_tsc(const struct platform_counter *c, unsigned us);
/* A (counter, TSC) pair read as close together as possible. */
void clock_sample(const struct platform_counter *c, uint64_t *count, uint64_t *tsc);
/* The CMOS clock as seconds since 1970; false when it holds no sensible time. */
bool rtc_read(uint64_t *seconds);
/* The TSC value at which this CPU's system time will be ns. */
uint64_t time_to_tsc(uint64_t ns);
bool time_tsc_stable(void);
/* LAPIC timer: (re)measured against the TSC. */
void apic_timer_calibrate(void);

/* --- PCI devices the hardware domain has told of (pcidev.c)
 * ---------------------------------------------------------------- */
int must_check pcidev_add(uint16_t seg, uint8_t bus, uint8_t devfn, uint32_t flags, uint8_t pf_bus,
                          uint8_t pf_devfn, uint32_t pxm);
int must_check pcidev_remove(uint16_t seg, uint8_t bus, uint8_t devfn);
bool pcidev_known(uint16_t seg, uint8_t bus, uint8_t devfn);

/* --- firmware (efi.c)
 * -------------------------------------------------------------------------------------------------------- */
long firmware_info_op(struct vcpu *caller, xenpf_firmware_info_t *f);
/* ACPI's root pointer in the EFI configuration table, 0 = none. */
uint64_t efi_find_rsdp(void);

#endif
