/* PV guests: between entry code (metal), traps and emulation (pv) and page tables (pv/mmu). */
#ifndef X86_PV_H
#define X86_PV_H

#include "x86/vcpu.h"
#include "core/abi.h"

struct hypercall;
struct boot_info;

/* --- pv/: from entry.S ---------------------------------------------------------------------------------------------- */
/* All entries from guest mode land here, interrupts on (off for #DB/NMI/#MC/#DF entries); regs = current_regs(). */
void pv_trap(struct guest_regs *r);
/* ENTRY_SYSCALL: hypercall from the kernel, system call from user mode. v: the current one. */
void pv_syscall_entry(struct guest_regs *r, struct vcpu *v);
void pv_sysenter_entry(struct guest_regs *r);
void pv_cstar_entry(struct guest_regs *r);
void pv_int80(struct guest_regs *r);
/* On the way out, interrupts off, no work pending: builds the event frame if events are pending and unmasked. */
bool pv_deliver_events(struct guest_regs *r);
/* Context switch, this CPU: load/save of all that is not in guest_regs (segments, bases, FPU, debug registers, cr3, GDT, LDT). */
void pv_ctxt_save(struct x86_vcpu *v);
void pv_ctxt_load(struct x86_vcpu *v);
/* kernel <-> user: bases and page-table root. */
void pv_toggle_mode(struct vcpu *v);
/* Delivers an exception to the guest kernel (queued as a bounce frame now). */
void pv_inject(struct vcpu *v, uint8_t vector, uint32_t error_code, bool has_error);
void pv_inject_pf(struct vcpu *v, uint64_t addr, uint32_t error_code);

/* iretq or sysretq to the guest faulted (r = the guest registers that were to be loaded, vector/error of the fault; for #PF
 * CR2 is still the fault's). On return the exit path starts again: the guest kernel gets its failsafe callback, or the
 * return is simply retried (LDT page mapped lazily). Never panics. */
void pv_iret_fault(struct guest_regs *r, uint32_t vector, uint32_t error_code);
/* The root of current vCPU v for the mode it runs in was replaced: load it. (pv_set_root calls it; interrupts on or off) */
void pv_root_changed(struct vcpu *v);
/* An entry of that L4 of d's was written: CPUs that run on a copy of it take it over. (pv/mmu; interrupts on) */
void pv_l4_changed(struct domain *d, mfn_t l4);
/* ldt_base / ldt_entries of current vCPU v changed: program this CPU's LDT register. (MMUEXT_SET_LDT) */
void pv_load_ldt(struct vcpu *v);
/* Sets all of v's state; v does not run. 0, -EINVAL, -ENOMEM, -EAGAIN (call again: page tables being validated). Used by
 * VCPUOP_initialise, the builder and domctl. */
struct vcpu_guest_context;
int must_check pv_vcpu_set_context(struct vcpu *v, const struct vcpu_guest_context *c);
/* The other direction. v does not run. */
void pv_vcpu_get_context(struct vcpu *v, struct vcpu_guest_context *c);
/* MSRs of v that are its own and not 0. */
#define PV_VCPU_MSRS 2
unsigned pv_vcpu_msrs_get(struct vcpu *v, uint32_t index[PV_VCPU_MSRS], uint64_t value[PV_VCPU_MSRS]);
bool must_check pv_vcpu_msr_set(struct vcpu *v, uint32_t index, uint64_t value);
/* A trap of v's kernel that a debugger in the control domain waits for: true, v's domain is paused now. */
bool pv_debugger_takes(struct vcpu *v, uint8_t vector);
/* A non-maskable interrupt for v's kernel, delivered by its NMI callback. Interrupt-safe. */
void pv_nmi(struct vcpu *v);
/* The hardware's NMI or recoverable machine check, for the hardware domain; called in that context. */
void pv_hardware_nmi(void);
void pv_hardware_mce(void);
void pv_dump_init(void);
void pv_hardware_nmi_init(void); /* once, before interrupts are on */

/* --- pv/mmu --------------------------------------------------------------------------------------------------------------- */
/* Hypercalls (rows in the arch table). */
long pv_mmu_update(struct hypercall *hc);
long pv_mmuext_op(struct hypercall *hc);
long pv_update_va_mapping(struct hypercall *hc);
long pv_update_va_mapping_otherdomain(struct hypercall *hc);
/* A guest page fault: true = handled (lazy LDT page, spurious, emulated page-table write), else the guest gets it. */
bool pv_mmu_fault(struct vcpu *v, uint64_t addr, struct guest_regs *r);
/* Typed references. type = PGT_*. -EINVAL wrong type or contents, -EAGAIN preempted (only with preemptible true), -EBUSY. */
int must_check pv_frame_get_type(mfn_t m, struct domain *d, uint64_t type, bool preemptible);
void pv_frame_put_type(mfn_t m);
/* new root for a vCPU (0-checked mfn): takes a typed reference, releases the old later. preemptible: -EAGAIN. */
int must_check pv_set_root(struct vcpu *v, mfn_t l4, bool user);
/* May a guest's table hold this descriptor? (pure: pv/mmu/descriptor.c) */
bool pv_descriptor_ok(uint64_t desc);
/* Kernels write their own code and data descriptors with privilege level 0 and start further vCPUs with them (Linux:
 * __KERNEL_CS): as the interface has it, a present code or data descriptor gets level 3. Applied before pv_descriptor_ok,
 * in place when a whole page becomes a descriptor page. */
static inline uint64_t pv_descriptor_fix(uint64_t desc)
{
    bool segment = (desc >> 44 & 1) && (desc >> 47 & 1);

    return segment ? desc | 3ull << 45 : desc;
}
int must_check pv_set_gdt_frames(struct vcpu *v, const uint64_t *frames, unsigned entries);
void pv_clear_gdt(struct vcpu *v);
/* The LDT window: drop what is mapped (before a new LDT, on type change). Returns true if something was mapped. */
bool pv_ldt_unmap(struct vcpu *v);
int must_check pv_domain_release_tables(struct domain *d); /* -EAGAIN: again */
int must_check pv_vcpu_release_tables(struct vcpu *v);
/* Walks the running guest's tables: the L1 entry that maps va, by value; false = not mapped by an L1. For emulation and fault reports. */
bool pv_mmu_walk(struct vcpu *v, gva_t va, uint64_t *l1e);
void pv_mmu_room_check(struct domain *d);
/* The frame of v's domain that v's kernel has at va, referenced (write: also by type); false: none. For debuggers. */
bool must_check pv_foreign_get(struct vcpu *v, gva_t va, bool write, mfn_t *m);
void pv_foreign_put(mfn_t m, bool write);
/* Takes the mappings of device frames [first, last] out of all page tables of d. No vCPU of d runs. -EAGAIN: again. */
int must_check pv_mmio_zap(struct domain *d, uint64_t first, uint64_t last);
/* What a frame is to d: XEN_DOMCTL_PFINFO_* (xen/domctl.h); XTAB when it is none of d's. */
uint32_t pv_frame_info(const struct domain *d, uint64_t mfn);

/* What arch/x86/guest/memory.c asks for PV domains (include/arch/mem.h). */
void pv_physmap_add(struct domain *d, gfn_t g, mfn_t m, unsigned order);
void pv_physmap_remove(mfn_t m, unsigned order);
int must_check pv_grant_map(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly);
int must_check pv_grant_unmap(struct vcpu *v, uint64_t addr, mfn_t m, unsigned flags, bool readonly,
                              uint64_t new_addr);

/* Page types in struct frame.type; the layout is pv/mmu's (pv/mmu/types.h), the names are shared. */
#define PGT_NONE      (0ull << 60)
#define PGT_L1        (1ull << 60)
#define PGT_L2        (2ull << 60)
#define PGT_L3        (3ull << 60)
#define PGT_L4        (4ull << 60)
#define PGT_SEG_DESC  (5ull << 60)
#define PGT_SHARED    (6ull << 60)
#define PGT_WRITABLE  (7ull << 60)
#define PGT_TYPE_MASK (15ull << 60) /* bit 63 stays clear */

/* Fills a kernel's hypercall page (XEN_ELFNOTE_HYPERCALL_PAGE): entry i calls hypercall i. */
void pv_hypercall_page(void *page);
/* The same into a frame of d's, which must be writable memory. False: it is not. */
bool must_check pv_hypercall_page_install(struct domain *d, mfn_t m);

/* Validates and pins a table of the given level (1-4) that d owns, as MMUEXT_PIN_Ln_TABLE; not preemptible. -EINVAL. */
int must_check pv_pin_table(struct domain *d, mfn_t m, unsigned level);

/* --- dom0 builder ------------------------------------------------------------------------------------------------------------ */
/* Loads kernel and ramdisk, builds tables and start_info, leaves dom0 paused and complete. Panics with the cause. */
void dom0_build(const struct boot_info *bi);

#endif
