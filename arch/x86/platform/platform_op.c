/*
 * platform_op (xen/platform.h): the hardware domain's word in matters of the machine. arg[0] points to a
 * struct xen_platform_op, which is copied in once; the handlers of platform_ops[] get that copy and write
 * back what they return.
 *
 * No state but wall clock and processors, which other files own. No locks.
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/console.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/sched.h"
#include "lib/string.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/msr.h"

/* After 4.17's headers. */
#ifndef XENPF_get_ucode_revision
#define XENPF_get_ucode_revision 66
#endif

#define BILLION       1000000000u
#define MTRR_VALID    (1u << 11)
#define SLP_TYP_SHIFT 10
#define SLP_TYP_MASK  (7u << SLP_TYP_SHIFT)
#define SLP_EN        (1u << 13)
#define PDC_REVISION  1u
#define PDC_C1_HALT   0x02u /* what remains of _PDC when no one drives power states */
#define PDC_SMP_C1PT  0x08u

/* The dispatcher's private copy, see do_platform_op. */
static struct xen_platform_op *op_of(const struct hypercall *hc)
{
    return (struct xen_platform_op *)(uintptr_t)hc->arg[1];
}

static long write_back(struct hypercall *hc)
{
    return guest_write(hc->caller, GVA(hc->arg[0]), op_of(hc), sizeof(struct xen_platform_op));
}

/* --- wall clock
 * --------------------------------------------------------------------------------------------------- */

static long set_time(uint64_t sec, uint32_t nsec, uint64_t system_time)
{
    if (nsec >= BILLION)
        return -EINVAL;
    arch_wallclock_set(sec, nsec, system_time);
    for_each_held_domain(d)
    {
        arch_wallclock_publish(d);
    }
    return 0;
}

static long op_settime32(struct hypercall *hc)
{
    const struct xenpf_settime32 *s = &op_of(hc)->u.settime32;

    return set_time(s->secs, s->nsecs, s->system_time);
}

static long op_settime64(struct hypercall *hc)
{
    const struct xenpf_settime64 *s = &op_of(hc)->u.settime64;

    return s->mbz ? -EINVAL : set_time(s->secs, s->nsecs, s->system_time);
}

/* --- MTRRs: read only
 * ------------------------------------------------------------------------------------------------ */

static long op_read_memtype(struct hypercall *hc)
{
    struct xenpf_read_memtype *s = &op_of(hc)->u.read_memtype;
    uint64_t cap, base, mask, size_mask = (1ull << cpu_features.phys_bits) - 1;

    if (!rdmsr_safe(MSR_MTRRCAP, &cap) || s->reg >= (cap & 0xff))
        return -EINVAL;
    if (!rdmsr_safe(MSR_MTRR_BASE + 2 * s->reg, &base) || !rdmsr_safe(MSR_MTRR_BASE + 2 * s->reg + 1, &mask))
        return -EINVAL;
    s->mfn = s->nr_mfns = s->type = 0;
    if (mask & MTRR_VALID) {
        s->mfn = (base & size_mask) >> FRAME_SHIFT;
        s->nr_mfns = ((~mask & size_mask & ~(FRAME_SIZE - 1)) + FRAME_SIZE) >> FRAME_SHIFT;
        s->type = base & 0xff;
    }
    return write_back(hc);
}

/* --- sleep
 * --------------------------------------------------------------------------------------------------------------
 */

/* S5 only. The values the guest wants in the PM1 control registers must ask for just that: the sleep type of
 * \_S5. */
static long op_enter_acpi_sleep(struct hypercall *hc)
{
    const struct xenpf_enter_acpi_sleep *s = &op_of(hc)->u.enter_acpi_sleep;

    if (s->sleep_state < 1 || s->sleep_state > 5)
        return -EINVAL;
    if (s->sleep_state != 5 || (s->flags & XENPF_ACPI_SLEEP_EXTENDED))
        return -EOPNOTSUPP;
    if (s->flags)
        return -EINVAL;
    if (!acpi.s5_valid || !acpi.pm1a_cnt)
        return -EPERM;
    if (((s->val_a & SLP_TYP_MASK) >> SLP_TYP_SHIFT) != acpi.s5_typ_a)
        return -EINVAL;
    log_info("dom%u switches the machine off", hc->caller->domain->id.v);
    arch_machine_poweroff();
}

/* --- processors
 * ------------------------------------------------------------------------------------------------------------
 */

static uint32_t max_present(void)
{
    return cpu_count() - 1;
}

static bool cpu_there(uint32_t cpu)
{
    return cpu < MAX_CPUS && cpumask_test(&cpus_online, cpu);
}

static long op_get_cpuinfo(struct hypercall *hc)
{
    struct xenpf_pcpuinfo *s = &op_of(hc)->u.pcpu_info;

    s->max_present = max_present();
    if (cpu_there(s->xen_cpuid)) {
        s->flags = XEN_PCPU_FLAGS_ONLINE;
        s->apic_id = cpu_apic_id[s->xen_cpuid];
        s->acpi_id = acpi_id_of_apic(s->apic_id);
    } else {
        s->flags = XEN_PCPU_FLAGS_INVALID;
        s->apic_id = s->acpi_id = ~0u;
    }
    return write_back(hc);
}

static long op_get_cpu_version(struct hypercall *hc)
{
    struct xenpf_pcpu_version *s = &op_of(hc)->u.pcpu_version;

    s->max_present = max_present();
    memset(s->vendor_id, 0, sizeof(s->vendor_id));
    s->family = s->model = s->stepping = 0;
    if (cpu_there(s->xen_cpuid)) { /* all CPUs are of one kind */
        memcpy(s->vendor_id, cpu_features.vendor, sizeof(s->vendor_id));
        s->family = cpu_features.family;
        s->model = cpu_features.model;
        s->stepping = cpu_features.stepping;
    }
    return write_back(hc);
}

/* One CPU of getidletime: its byte of the map and its element of the array. */
static int idle_one(struct vcpu *caller, const struct xenpf_getidletime *s, uint32_t cpu, uint8_t *map)
{
    uint64_t idle = 0;

    if (cpu_there(cpu))
        idle = sched_idle_time(cpu);
    else
        *map = (uint8_t)(*map & ~(1u << (cpu % 8)));
    return guest_write_at(caller, HANDLE(s->idletime), cpu, &idle, sizeof(idle));
}

static long op_getidletime(struct hypercall *hc)
{
    struct xenpf_getidletime *s = &op_of(hc)->u.getidletime;
    uint32_t n = MIN(s->cpumap_nr_cpus, MAX_CPUS);
    uint8_t map = 0;

    s->now = arch_time_ns();
    for (uint32_t cpu = 0; cpu < n; cpu++) {
        if (cpu % 8 == 0 && guest_read_at(hc->caller, &map, HANDLE(s->cpumap_bitmap), cpu / 8, 1))
            return -EFAULT;
        if ((map >> (cpu % 8) & 1) && idle_one(hc->caller, s, cpu, &map))
            return -EFAULT;
        if ((cpu % 8 == 7 || cpu == n - 1) &&
            guest_write_at(hc->caller, HANDLE(s->cpumap_bitmap), cpu / 8, &map, 1))
            return -EFAULT;
    }
    return write_back(hc);
}

/* Of the three matters only _PDC has an answer: what the firmware may hand to the power management of this
 * machine. Nobody here drives C states (beyond HLT), P states or T states, so their bits go. */
static long op_set_pminfo(struct hypercall *hc)
{
    struct xenpf_set_processor_pminfo *s = &op_of(hc)->u.set_pminfo;
    uint32_t pdc[3];

    if (s->type != XEN_PM_PDC)
        return s->type <= XEN_PM_TX ? -ENOSYS : -EINVAL;
    if (guest_read(hc->caller, pdc, HANDLE(s->u.pdc), sizeof(pdc)))
        return -EFAULT;
    if (pdc[0] != PDC_REVISION || !pdc[1])
        return -EINVAL;
    pdc[2] &= PDC_C1_HALT | PDC_SMP_C1PT;
    return guest_write_at(hc->caller, HANDLE(s->u.pdc), 2, &pdc[2], sizeof(pdc[2]));
}

static long op_core_parking(struct hypercall *hc)
{
    struct xenpf_core_parking *s = &op_of(hc)->u.core_parking;

    if (s->type != XEN_CORE_PARKING_GET)
        return s->type == XEN_CORE_PARKING_SET ? -EOPNOTSUPP : -EINVAL;
    s->idle_nums = 0;
    return write_back(hc);
}

/* One symbol and the number of the next; the number that came in when there is none left (xen/platform.h). */
static long op_get_symbol(struct hypercall *hc)
{
    struct xenpf_symdata *s = &op_of(hc)->u.symdata;
    const char *name = "";
    uint32_t size;

    s->address = 0;
    s->type = 0;
    if (symbol_get(s->symnum, &s->address, &name)) {
        s->symnum++;
        s->type = 'T';
    }
    size = (uint32_t)strlen(name) + 1;
    if (guest_write(hc->caller, HANDLE(s->name), name, MIN(size, s->namelen)))
        return -EFAULT;
    s->namelen = size;
    return write_back(hc);
}

static long op_firmware_info(struct hypercall *hc)
{
    long ret = firmware_info_op(hc->caller, &op_of(hc)->u.firmware_info);

    return ret ? ret : write_back(hc);
}

static long op_get_ucode_revision(struct hypercall *hc)
{
    int r = ucode_revision((struct ucode_revision *)&op_of(hc)->u);

    return r ? r : write_back(hc);
}

#define HW(n, fn)                                                                                            \
    {                                                                                                        \
        XENPF_##n, PERM_HARDWARE, #n, fn                                                                     \
    }
#define NO(n, e, why)                                                                                        \
    {                                                                                                        \
        XENPF_##n, PERM_HARDWARE, #n, NULL, e, why                                                           \
    }

const struct hc_op platform_ops[] = {
    HW(settime32, op_settime32),
    HW(settime64, op_settime64),
    NO(add_memtype, EOPNOTSUPP, "MTRRs stay as the firmware set them; use PAT"),
    NO(del_memtype, EOPNOTSUPP, "see add_memtype"),
    HW(read_memtype, op_read_memtype),
    NO(microcode_update, EOPNOTSUPP, "missing: load microcode before Krypton"),
    NO(platform_quirk, EOPNOTSUPP,
       "for chip sets without working IO-APIC index registers; none serves a 64-bit machine"),
    NO(efi_runtime_call, EOPNOTSUPP, "missing: no firmware code is called at run time"),
    {XENPF_firmware_info, PERM_HARDWARE, "firmware_info", op_firmware_info, 0,
     "EFI tables, BIOS keyboard flags; disks and monitors: ESRCH"},
    {XENPF_enter_acpi_sleep, PERM_HARDWARE, "enter_acpi_sleep", op_enter_acpi_sleep, 0,
     "S5 only; other states EOPNOTSUPP"},
    NO(change_freq, ENOSYS, "frequencies are the firmware's"),
    HW(getidletime, op_getidletime),
    {XENPF_set_processor_pminfo, PERM_HARDWARE, "set_processor_pminfo", op_set_pminfo, 0,
     "_PDC is answered; C, P and T states ENOSYS: nobody drives them"},
    HW(get_cpuinfo, op_get_cpuinfo),
    HW(get_cpu_version, op_get_cpu_version),
    NO(cpu_online, EOPNOTSUPP, "missing: CPUs stay as started"),
    NO(cpu_offline, EOPNOTSUPP, "missing: CPUs stay as started"),
    NO(cpu_hotadd, EOPNOTSUPP, "missing: CPUs that come after boot are not started"),
    NO(mem_hotadd, EOPNOTSUPP, "missing: memory that comes after boot is not taken"),
    {XENPF_core_parking, PERM_HARDWARE, "core_parking", op_core_parking, 0,
     "get: none parked; set: EOPNOTSUPP"},
    NO(resource_op, EOPNOTSUPP, "reads the counters of cache monitoring, which is not there"),
    HW(get_symbol, op_get_symbol),
#ifdef XENPF_get_dom0_console
    NO(get_dom0_console, ENOSYS, "a PV dom0 finds it in start_info"),
#endif
    HW(get_ucode_revision, op_get_ucode_revision),
#ifdef XENPF_microcode_update2
    NO(microcode_update2, EOPNOTSUPP, "missing: load microcode before Krypton"),
#endif
};
const unsigned platform_op_count = ARRAY_SIZE(platform_ops);

long do_platform_op(struct hypercall *hc)
{
    struct xen_platform_op op;
    struct hypercall inner = *hc;
    const struct hc_op *row;
    long r;

    if (guest_read(hc->caller, &op, GVA(hc->arg[0]), sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XENPF_INTERFACE_VERSION)
        return -EACCES;
    inner.arg[1] = (uintptr_t)&op;
    r = hc_op_choose(hc->caller, platform_ops, platform_op_count, op.cmd, &row);
    return r ? r : row->fn(&inner);
}
