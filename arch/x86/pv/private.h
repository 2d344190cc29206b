/* Shared by the files of arch/x86/pv only. */
#ifndef PV_PRIVATE_H
#define PV_PRIVATE_H

#include "core/abi.h"
#include "core/hypercall.h"
#include "x86/pv.h"

/* --- the kind's table (kind.c; x86/guest.h) --- */
int pv_domain_init(struct domain *d, uint32_t flags);
void pv_domain_free(struct domain *d);
int pv_domain_release(struct domain *d);
int pv_vcpu_init(struct vcpu *v);
void pv_vcpu_free(struct vcpu *v);
void pv_vcpu_reset(struct vcpu *v);
int pv_vcpu_initialise(struct vcpu *v, struct vcpu *caller, gva_t context, bool *online);
int pv_vcpu_nmi(struct vcpu *v);
void pv_vcpu_dump(struct vcpu *v);
bool pv_area_write(struct vcpu *v, gva_t to, const void *from, size_t n);
uint32_t pv_features(const struct domain *d);
uint64_t pv_virt_start(const struct domain *d);

/* --- copy.c: memory that the running vCPU v sees through the page tables that are loaded now --- */
/* [a, a + n) lies within the guest's part of the address space, both halves canonical. */
bool pv_range_ok(uint64_t a, size_t n);
bool pv_copy_in(struct vcpu *v, void *to, gva_t from, size_t n);
bool pv_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n);
bool pv_zero(struct vcpu *v, gva_t to, size_t n);
/* The same through the guest kernel's tables, whatever mode v is in. */
bool pv_copy_in_kernel(struct vcpu *v, void *to, gva_t from, size_t n);
bool pv_copy_out_kernel(struct vcpu *v, gva_t to, const void *from, size_t n);

/* --- bounce.c: frames on the guest kernel's stack --- */
struct pv_bounce {
    uint64_t address; /* where the kernel goes on; 0 = crash */
    uint32_t error_code;
    bool has_error;
    bool mask_events;
    bool segments;    /* failsafe: ds, es, fs, gs too */
    const char *what; /* for the message when it cannot be delivered */
};
/* Switches v (current) into its kernel as the frame says. False: the domain was crashed. */
bool pv_bounce(struct vcpu *v, struct guest_regs *r, const struct pv_bounce *b);
/* A system call of v's user space. */
bool pv_bounce_callback(struct vcpu *v, struct guest_regs *r, const struct pv_callback *cb, const char *what);
/* Trap through the trap table. */
bool pv_bounce_trap(struct vcpu *v, struct guest_regs *r, uint8_t vector, uint32_t error_code,
                    bool has_error);
/* Category 1/2 failures on the way to the guest: bad selectors, bad return frame. */
bool pv_bounce_failsafe(struct vcpu *v, struct guest_regs *r);
/* INT n from the guest. False: not permitted or no handler. */
bool pv_soft_interrupt(struct vcpu *v, struct guest_regs *r, uint8_t vector);
bool pv_has_trap(const struct vcpu *v, uint8_t vector);

/* --- context.c --- */
/* Root of the tables for the mode v is in. */
mfn_t pv_active_root(const struct vcpu *v);
void pv_load_debug_registers(struct vcpu *v);
/* A selector into the LDT is about to be loaded: map its page of the window. v current. */
void pv_prefault_ldt(struct vcpu *v, uint16_t sel);
void pv_set_fpu_ts(struct vcpu *v, bool set);     /* v current */
void pv_load_cr4(struct vcpu *v);                 /* v current */
void pv_set_xcr0(struct vcpu *v, uint64_t value); /* v current, value checked */

/* --- segment.c --- */
/* Bits (16/32/64) and base of the code segment r is in. False: no such code segment. */
bool pv_code_segment(struct vcpu *v, const struct guest_regs *r, unsigned *bits, uint64_t *base);
/* Base of a data segment in that mode. */
bool pv_data_base(struct vcpu *v, const struct guest_regs *r, unsigned seg, unsigned bits, uint64_t *base);

/* --- debugreg.c --- */
/* Checks and stores; loads the hardware when v is current. -EINVAL, -EPERM, -ENODEV. */
int must_check pv_set_debugreg(struct vcpu *v, unsigned reg, uint64_t value);
int must_check pv_get_debugreg(struct vcpu *v, unsigned reg, uint64_t *value);

/* --- callback_ops.c --- */
int must_check pv_set_trap(struct vcpu *v, const struct trap_info *t);

/* --- emulation --- */
enum pv_verdict {
    PVE_DONE,
    PVE_RETRY /* rip unchanged: run the instruction again */,
    PVE_FAULT /* .vector */,
    PVE_NOT_OURS
};
struct pv_fault {
    uint8_t vector;
    bool has_error;
    uint32_t error_code;
    uint64_t cr2;
};
/* After #GP with error code 0: emulates the privileged instruction at rip if the guest may use it. */
enum pv_verdict pv_emulate_privileged(struct vcpu *v, struct guest_regs *r, struct pv_fault *f);
/* After #UD: ud2a "xen" cpuid. True if it was that and has been done. */
bool pv_emulate_forced_cpuid(struct vcpu *v, struct guest_regs *r);
/* Instruction finished: next address, single-step trap. */
void pv_insn_done(struct vcpu *v, struct guest_regs *r, unsigned len);
void pv_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, struct guest_regs *r);
bool pv_rdmsr(struct vcpu *v, uint32_t msr, uint64_t *value);
bool pv_wrmsr(struct vcpu *v, uint32_t msr, uint64_t value);
/* Ports, after the IOPL / bitmap check. */
bool pv_port_permitted(struct vcpu *v, uint16_t port, unsigned bytes);
uint32_t pv_port_read(struct vcpu *v, uint16_t port, unsigned bytes);
void pv_port_write(struct vcpu *v, uint16_t port, unsigned bytes, uint32_t value);
/* CR4 as the guest reads it: fixed bits and, of `wanted`, those that are its own. */
uint64_t pv_cr4_guest_value(uint64_t wanted);
#define PV_CR4_INITIAL (1ull << 18) /* OSXSAVE: kernels look for it before they set it */

/* --- hypercall handlers --- */
long do_set_trap_table(struct hypercall *hc);
long do_set_gdt(struct hypercall *hc);
long do_stack_switch(struct hypercall *hc);
long do_set_callbacks(struct hypercall *hc);
long do_fpu_taskswitch(struct hypercall *hc);
long do_set_debugreg(struct hypercall *hc);
long do_get_debugreg(struct hypercall *hc);
long do_update_descriptor(struct hypercall *hc);
long do_set_segment_base(struct hypercall *hc);
long do_iret(struct hypercall *hc);
void pv_iret(struct vcpu *v, struct guest_regs *r); /* the same; r: v's, which is current */
extern const struct hc_op callback_ops[];
extern const unsigned callback_op_count;
extern const struct hc_op nmi_ops[];
extern const unsigned nmi_op_count;

#endif
