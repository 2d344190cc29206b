/* Between the files of arch/x86/metal, arch/x86/boot and arch/x86/mm: what entry.S provides and calls. */
#ifndef METAL_METAL_H
#define METAL_METAL_H

#include "core/types.h"
#include "x86/regs.h"

struct boot_info;

/* --- krypton.lds.S
 * --------------------------------------------------------------------------------------------------- */
extern char image_start[], text_end[], rodata_end[], ro_after_init[], ro_after_init_end[], image_end[];
extern char init_bss[], init_bss_end[], stubs_page[], boot_stack[], entry_text[], entry_text_end[];
#define RO_AFTER_INIT __attribute__((section(".data.ro_after_init")))

/* --- entry.S
 * -----------------------------------------------------------------------------------------------------------
 */
extern char trap_gates[], stub_syscall[], stub_cstar[], entry_sysenter[], guest_iretq[];
__attribute__((noreturn)) void metal_iret_fault(uint32_t vector, uint32_t error_code);
__attribute__((noreturn)) void metal_resume_idle(void);
__attribute__((noreturn)) void metal_run_on(uint64_t stack_base, void (*fn)(void));
/* Called by entry.S. */
void trap_from_guest(struct guest_regs *r);
void trap_from_krypton(struct guest_regs *r);
void trap_syscall_other(struct guest_regs *r);
void exit_work(struct guest_regs *r);

/* --- desc.c
 * --------------------------------------------------------------------------------------------------------------
 */
extern uint64_t boot_gdt_page[512]; /* the boot CPU's */
void desc_init_idt(void);           /* once, first thing */
uint64_t desc_idt(void);            /* its address: one page */

/* --- trap.c
 * --------------------------------------------------------------------------------------------------------------
 */
/* Set while a panic stops the machine: NMIs then park their CPU. */
extern uint32_t panic_stop;
__attribute__((noreturn)) void machine_park(void); /* boot/panic.c */

/* --- access.S
 * --------------------------------------------------------------------------------------------------------------
 */
bool must_check metal_cmpxchg64_user(uint64_t *p, uint64_t *expected, uint64_t desired);
bool must_check metal_cmpxchg32_user(uint32_t *p, uint32_t *expected, uint32_t desired);
bool must_check xrstor_safe(const void *area, uint64_t mask);
bool must_check fxrstor_safe(const void *area);

/* --- boot
 * -------------------------------------------------------------------------------------------------------------------
 */
void start_c(uint32_t magic, uint32_t info_pa);

#endif
