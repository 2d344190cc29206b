/* Interrupt controllers, clocks, ACPI, device rights (arch/x86/platform). */
#ifndef X86_PLATFORM_H
#define X86_PLATFORM_H

#include "core/types.h"
#include "core/cpumask.h"
#include "core/hypercall.h"

struct boot_info;
struct domain;
struct vcpu;
struct guest_regs;

/* --- ACPI ---------------------------------------------------------------------------------------------------------- */
struct acpi_cpu {
    uint32_t apic_id, acpi_id;
    bool enabled;
    uint32_t node;
};
struct acpi_ioapic {
    uint8_t id;
    maddr_t base;
    uint32_t gsi_base;
};
struct acpi_override {
    uint8_t irq;
    uint32_t gsi;
    bool level, low;
};
struct acpi_mcfg {
    maddr_t base;
    uint16_t segment;
    uint8_t bus_first, bus_last;
};
/* A local APIC input that is an NMI; acpi_id ~0u = every CPU. */
struct acpi_nmi {
    uint32_t acpi_id;
    uint8_t lint;
    bool level, low;
};
#define ACPI_MAX_NODES 64
struct acpi_facts {
    maddr_t rsdp;
    bool madt_cut; /* an entry of the MADT is so wrong that what follows it cannot be found */
    unsigned cpu_count, ioapic_count, override_count, mcfg_count;
    struct acpi_cpu cpu[MAX_CPUS];
    struct acpi_ioapic ioapic[16];
    struct acpi_override override[24];
    struct acpi_mcfg mcfg[8];
    maddr_t lapic_base;
    bool pcat_compat;
    maddr_t hpet_base; /* 0 = none */
    uint32_t pm_timer_port;
    bool pm_timer_32;
    uint16_t pm1a_cnt, pm1b_cnt, pm1a_evt, pm1b_evt;
    uint8_t pm1_evt_len;
    uint16_t smi_cmd, sci_irq;
    struct {
        uint8_t space, width, offset, access;
        uint64_t address;
    } reset_reg;
    uint8_t reset_value;
    bool reset_valid;
    uint8_t s5_typ_a, s5_typ_b;
    bool s5_valid;
    unsigned node_count;
    uint32_t node_pxm[ACPI_MAX_NODES]; /* the firmware's number (proximity domain) of node i */
    struct {
        maddr_t base;
        uint64_t size;
        uint32_t node;
    } node_mem[64];
    unsigned node_mem_count;
    bool hw_reduced;
    unsigned nmi_count;
    struct acpi_nmi nmi[8];
    uint8_t rtc_century; /* CMOS index of the century; 0 = none */
    bool node_distance_valid;
    uint8_t node_distance[ACPI_MAX_NODES][ACPI_MAX_NODES]; /* SLIT: 10 = local */
};
extern struct acpi_facts acpi;
/* Parses the tables, every length and checksum checked; what is broken is said and skipped; no usable CPU = panic with the cause. */
void acpi_init(const struct boot_info *bi);
/* S5 by the PM1 registers, with the sleep types of the \_S5 package. Returns only if the machine has none or ignores it. */
void acpi_power_off(void);
/* ACPI's number of a CPU by its APIC id; ~0u = not in the MADT. */
uint32_t acpi_id_of_apic(uint32_t apic_id);

/* Where the CPU is (include/arch/cpu.h tells core); the boot CPU first, on it. */
void topology_add_cpu(unsigned cpu, uint32_t apic_id);

/* --- local APIC ------------------------------------------------------------------------------------------------------ */
void apic_init_bsp(void); /* chooses x2APIC if present and allowed */
void apic_init_cpu(void); /* each AP */
uint32_t apic_id(void);
extern uint32_t cpu_apic_id[MAX_CPUS]; /* by CPU number */
void apic_eoi(void);
void apic_send_ipi(unsigned cpu, uint8_t vector);
void apic_send_ipi_mask(const struct cpumask *m, uint8_t vector); /* not to self */
void apic_send_self(uint8_t vector); /* also from an NMI that interrupted another sending */
void apic_send_init_sipi(uint32_t apic_id, uint8_t page);
void apic_send_nmi_others(void);
void apic_send_nmi(unsigned cpu);
/* From the entry code, interrupts off; each does its own EOI. VEC_SPURIOUS needs nothing, not even an EOI. */
void apic_timer_interrupt(void); /* VEC_TIMER */
void apic_error_interrupt(void); /* VEC_ERROR */
void apic_timer_setup_cpu(void); /* vector VEC_TIMER, one-shot or TSC deadline */

/* --- interrupt lines -------------------------------------------------------------------------------------------------- */
void irq_init(void); /* IO-APICs masked, vectors assigned, 8259 off */
/* When timers work: lines that come without end are masked for a while. */
void irq_storm_init(void);
/* Device vector arrived (interrupts off): handler or guest delivery, EOI. */
void irq_handle(uint8_t vector);
/* A line for Krypton itself (serial): gsi by ISA irq number. */
int must_check irq_request_isa(unsigned isa_irq, void (*fn)(void *), void *data);
/* For the guest side (physdev_op): core/evtchn reaches these through arch_pirq_* of include/arch/guest_ops.h. */
void irq_dump(void); /* debug key 'i' */
int must_check pirq_domain_init(struct domain *d);
void pirq_domain_release(
    struct domain *d); /* unmaps everything; no mapping after it. Event channels are closed */
void pirq_domain_free(struct domain *d); /* with the domain's memory (arch_domain_free) */

/* --- time -------------------------------------------------------------------------------------------------------------- */
void time_init(void);     /* boot CPU: clock source, TSC calibration, wall clock */
void time_init_cpu(void); /* each AP: its timer and first time record */
/* Once, on the boot CPU, when all CPUs are online, interrupts are on and timers work, before a guest runs: compares the
 * TSCs of all CPUs, corrects the calibration by the time the boot has taken, starts what keeps unstable clocks right. */
void time_finish(void);
/* The same moment: hang detection, when `watchdog` is given. */
void watchdog_init(void);
extern uint64_t tsc_khz;
/* How d's counter, without its vCPUs' offsets, tells the time: a point (tsc, system time), and 100 ns units per cycle in 2^-64. False: it
 * does not. */
struct domain;
bool must_check time_tsc_line(const struct domain *d, uint64_t *tsc, uint64_t *ns, uint64_t *scale);

/* --- PCI configuration (drivers/pci.c) ------------------------------------------------------------------------------ */
uint32_t pci_read(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes);
void pci_write(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes,
               uint32_t value);
/* dom0's access by ports 0xcf8/0xcfc after Krypton's own filter: emulation calls these. */
/* --- rights ---------------------------------------------------------------------------------------------------------------- */
/* May d touch this port range / this machine frame as MMIO? Krypton keeps: its serial ports, PIC, PIT counter 0-2 as needed,
 * IO-APICs, local APICs, HPET if used, MSI address range, IOMMUs. */
bool port_allowed(const struct domain *d, uint16_t port, unsigned bytes);
bool iomem_allowed(const struct domain *d, mfn_t m);
void port_reserve(uint16_t first, uint16_t last, const char *why); /* Krypton's own */
void iomem_reserve(maddr_t base, uint64_t bytes, const char *why);
int must_check rights_domain_init(struct domain *d);
void rights_domain_free(struct domain *d);
/* d gets or loses a range that `by` has: -EINVAL (no such range), -EPERM (not `by`'s to give), -ENOMEM. What d has mapped of device
 * memory stays mapped: pv_mmio_zap. */
int must_check rights_set_ports(struct domain *d, const struct domain *by, uint32_t first, uint32_t count,
                                bool allow);
int must_check rights_set_iomem(struct domain *d, const struct domain *by, uint64_t first, uint64_t count,
                                bool allow);
/* The same for an interrupt line, named by a PIRQ or a GSI of `by`'s; a line that is taken is also unmapped. */
int must_check rights_set_pirq(struct domain *d, struct domain *by, uint32_t pirq, bool allow);
int must_check rights_set_gsi(struct domain *d, const struct domain *by, uint32_t gsi, bool allow);
/* Port-I/O on behalf of a guest that may do it. */
uint32_t port_in(uint16_t port, unsigned bytes);
void port_out(uint16_t port, unsigned bytes, uint32_t value);

/* --- hypercalls (rows for the table in arch/x86/pv) ---------------------------------------------------------------- */
extern const struct hc_op physdev_ops[]; /* PHYSDEVOP_*: arg[0] = command, arg[1] = structure */
extern const unsigned physdev_op_count;
extern const struct hc_op
    platform_ops[]; /* XENPF_*: chosen by do_platform_op from the structure; listed for docs */
extern const unsigned platform_op_count;
long do_platform_op(struct hypercall *hc);
extern const struct hc_op mca_ops[]; /* XEN_MC_*: chosen by do_mca from the structure */
extern const unsigned mca_op_count;
long do_mca(struct hypercall *hc);

/* --- SMP ---------------------------------------------------------------------------------------------------------------------- */
void smp_init(void); /* starts the APs; maxcpus= */
/* Runs fn(data) on all CPUs of the mask (self too if named) and waits. Interrupts on. */
void smp_call(const struct cpumask *m, void (*fn)(void *), void *data);
void smp_call_interrupt(void); /* VEC_CALL */

#endif
