/*
 * Ways into Krypton and back to the guest.
 *
 *   guest: exception, INT n, interrupt --IDT--> trap_common  --\
 *   guest: NMI, #MC, #DB ---------------IDT/IST-> trap_ist ------> C (trap_from_guest) --> exit_to_guest
 *   guest: SYSCALL, SYSENTER --stubs page--> syscall_common ---/
 *   Krypton itself: exception, interrupt -----> trap_common / trap_ist --> C (trap_from_krypton) --> iretq
 *
 * Invariants
 *  1. An entry from a guest finds the main stack empty: its registers become cpu_info.regs, at the stack's top.
 *  2. Between SYSCALL and the load of our stack pointer, and between the load of the guest's and SYSRET, the stack pointer
 *     is the guest's. Interrupts are off there; whatever can come nevertheless (NMI, #MC, and #DB after MOV SS) has a
 *     stack of its own (IST), and looks at the saved CS to learn whom it interrupted.
 *  3. The guest's registers do not survive into C: all general registers are cleared after they are saved, so that no
 *     guest value is left for speculation to use.
 *  4. IRETQ and SYSRET are reached with interrupts off, no work pending and the guest's events delivered. A fault of
 *     that IRETQ is the guest's: trap_from_krypton knows its address. SYSRET is used only where it cannot fault.
 *  5. GS is always the guest's: no SWAPGS here.
 *
 * SPEC_ENTRY, SPEC_EXIT: the mitigations of speculative execution (docs/security.md), and separate page tables. Places
 * that the machine needs are switched on at boot (metal/speculation.c). With separate page tables (mm/xpti.c)
 *  6. while the guest runs, and here before SPEC_ENTRY and after SPEC_EXIT, only .text.entry, the stubs and the last page of
 *     each stack are mapped. What comes from Krypton itself (NMI, #MC, #DB; a fault of the IRETQ) may find it so: then
 *     from_krypton loads the full root, and the former one before it returns. Interrupts are off there.
 */
#include "x86/layout.h"
#include "x86/msr.h"
#include "x86/regs.h"
#include "x86/spec.h"
#include "offsets.h"

#define FLAT_CS64 0xe033
#define FLAT_CS32 0xe023
#define FLAT_SS   0xe02b

    .macro SAVE_REGS from=rdi
    .ifc \from, rdi
    push %rdi
    .endif
    push %rsi
    push %rdx
    push %rcx
    push %rax
    push %r8
    push %r9
    push %r10
    push %r11
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    .endm

    /* All but rbp, which ends or continues the chain of frames, and rsp. */
    .macro CLEAR_REGS
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    .endm

    /* AC is the guest's (or a copy's that was interrupted): with it set SMAP guards nothing. Patched as in access.S. */
    .macro CLEAR_AC
773: .byte 0x0f, 0x1f, 0x00
    .pushsection krypton_smap, "a", @progbits
    .quad 773b, 0xca010f
    .popsection
    .endm

    .macro RESTORE_REGS
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rax
    pop %rcx
    pop %rdx
    pop %rsi
    pop %rdi
    .endm

/* Entry from a guest; rsp = cpu_info. LFENCE: nobody arrives here by a mispredicted branch on the saved CS. Clobbers
   rax, rcx, rdx. */
    .macro SPEC_ENTRY
    SPEC_PLACE (SPEC_XPTI | SPEC_IBRS | SPEC_RSB), 9f
    SPEC_PLACE SPEC_XPTI, 1f
    cmpq $0, INFO_GUEST_CR3(%rsp)
    je 1f
    mov INFO_HYP_CR3(%rsp), %rcx
    mov %rcx, %cr3
1:  SPEC_PLACE SPEC_IBRS, 2f
    mov $MSR_SPEC_CTRL, %ecx
    mov $1, %eax
    xor %edx, %edx
    wrmsr
2:  SPEC_PLACE SPEC_RSB, 4f
    mov $16, %ecx
3:  call 31f
    int3
31: call 32f
    int3
32: dec %ecx
    jnz 3b
    add $(32 * 8), %rsp
4:  lfence
9:
    .endm

/* Back to the guest, interrupts off; rsp = cpu_info. Clobbers rax, rbx, rcx, rdx and what C may. */
    .macro SPEC_EXIT
    SPEC_PLACE (SPEC_XPTI | SPEC_IBRS | SPEC_VERW), 9f
    xor %ebx, %ebx
    SPEC_PLACE SPEC_XPTI, 1f
    mov INFO_GUEST_CR3(%rsp), %rbx
    test %rbx, %rbx
    jz 1f
    testl $CPUF_ROOT_STALE, INFO_FLAGS(%rsp)
    jz 1f
    sub $8, %rsp
    call xpti_copy_root
    add $8, %rsp
1:  SPEC_PLACE SPEC_IBRS, 2f
    mov $MSR_SPEC_CTRL, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
2:  test %rbx, %rbx
    jz 3f
    mov %rbx, %cr3
3:  SPEC_PLACE SPEC_VERW, 9f
    verw verw_selector(%rip)
9:
    .endm

/* Exception, NMI or #MC in Krypton; rbx = the frame, r12 = r13 = 0. Leaves in r12 the CR3 and in r13 whether IBRS is to be
   cleared again. Clobbers rax, rcx, rdx. */
    .macro SPEC_ENTRY_KRYPTON
    SPEC_PLACE (SPEC_XPTI | SPEC_IBRS | SPEC_RSB), 9f
    cmpl $32, REGS_VECTOR(%rbx)
    jae 2f
    SPEC_PLACE SPEC_XPTI, 1f
    mov %rsp, %rdx
    or $(STACK_SIZE - 1), %rdx
    mov %cr3, %rax
    cmp %rax, 1 - INFO_SIZE + INFO_GUEST_CR3(%rdx)
    jne 1f
    mov %rax, %r12
    mov 1 - INFO_SIZE + INFO_HYP_CR3(%rdx), %rcx
    mov %rcx, %cr3
1:  SPEC_PLACE SPEC_IBRS, 2f
    mov $MSR_SPEC_CTRL, %ecx
    rdmsr
    test $1, %al
    jnz 2f
    inc %r13d
    or $1, %eax
    wrmsr
2:  lfence
9:
    .endm

    .macro SPEC_EXIT_KRYPTON
    SPEC_PLACE (SPEC_XPTI | SPEC_IBRS), 9f
    test %r13d, %r13d
    jz 1f
    mov $MSR_SPEC_CTRL, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
1:  test %r12, %r12
    jz 9f
    mov %r12, %cr3
9:
    .endm

/* Three bytes of NOP until SMAP is found, as in access.S: interrupt gates leave the guest's AC as it was. */
    .macro ENTRY_CLAC
771: .byte 0x0f, 0x1f, 0x00
    .pushsection krypton_smap, "a", @progbits
    .quad 771b, 0xca010f
    .popsection
    .endm

    .section .text.entry, "ax", @progbits
verw_selector:
    .word SEL_HYP_DS

/* --- the 256 gates: 16 bytes each, error code and vector on the stack ------------------------------------------------- */
    .align 16
    .globl trap_gates
trap_gates:
    .set vector, 0
    .rept 256
    .align 16
    .if vector != 8 && vector != 10 && vector != 11 && vector != 12 && vector != 13 && vector != 14 && vector != 17 && vector != 21 && vector != 29 && vector != 30
    push $0
    .endif
    movl $vector, 4(%rsp)
    .if vector == TRAP_DB || vector == TRAP_NMI || vector == TRAP_DF || vector == TRAP_MC
    jmp trap_ist
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr

    .align 16
trap_common:
    cld
    CLEAR_AC
    ENTRY_CLAC
    SAVE_REGS
    testb $3, REGS_CS(%rsp)
    jz from_krypton
    SPEC_ENTRY
    CLEAR_REGS
    xor %ebp, %ebp
    mov %rsp, %rdi
    sub $8, %rsp
    call trap_from_guest
    jmp exit_to_guest

from_krypton:
    CLEAR_REGS
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    SPEC_ENTRY_KRYPTON
    call trap_from_krypton
    SPEC_EXIT_KRYPTON
    mov %rbx, %rsp
    RESTORE_REGS
    add $8, %rsp
    iretq

/* On an IST stack. From a guest: the frame moves to the main stack, which is empty, and all goes on as usual. */
    .align 16
trap_ist:
    cld
    CLEAR_AC
    ENTRY_CLAC
    SAVE_REGS
    testb $3, REGS_CS(%rsp)
    jz from_krypton
    CLEAR_REGS
    xor %ebp, %ebp
    mov %rsp, %rsi
    or $(STACK_SIZE - 1), %rsp
    lea 1 - INFO_SIZE(%rsp), %rdi
    mov %rdi, %rsp
    mov $(REGS_SIZE / 8), %ecx
    rep movsq
    SPEC_ENTRY
    mov %rsp, %rdi
    sub $8, %rsp
    call trap_from_guest
    jmp exit_to_guest

/* --- SYSCALL, SYSENTER ------------------------------------------------------------------------------------------------ */
/*
 * The stubs page is mapped into every CPU's stack area at the same place, so that the distance to the stack's top is the
 * same for all: its addresses of cpu_info are relative to rip.
 */
#define STUB_TOP (stubs_page + STACK_SIZE - STACK_PAGE_STUBS * 0x1000)
#define STUB_INFO(off) STUB_TOP - INFO_SIZE + (off)

    .macro SYSCALL_STUB kind, cs
    mov %rsp, STUB_INFO(INFO_SCRATCH)(%rip)
    lea STUB_INFO(REGS_SIZE)(%rip), %rsp
    push $FLAT_SS
    push STUB_INFO(INFO_SCRATCH)(%rip)
    push %r11
    push $\cs
    push %rcx
    push $0
    movl $\kind, 4(%rsp)
    push %rdi
    movabs $syscall_common, %rdi
    jmp *%rdi
    .endm

    .pushsection .text.stubs, "ax", @progbits
    .globl stub_syscall, stub_cstar
stub_syscall:
    SYSCALL_STUB ENTRY_SYSCALL, FLAT_CS64
    .align 64
stub_cstar:
    SYSCALL_STUB ENTRY_CSTAR, FLAT_CS32
    .popsection

/* SYSENTER loads rsp from its MSR (the end of cpu_info.regs) and clears IF, but neither TF, NT nor AC. */
    .globl entry_sysenter
    .align 16
entry_sysenter:
    push $FLAT_SS
    push $0
    pushfq
    push $EFLAGS_MBS
    popfq
    orl $EFLAGS_IF, (%rsp)
    push $3
    push $0
    push $0
    movl $ENTRY_SYSENTER, 4(%rsp)
    push %rdi

    .align 16
syscall_common:
    SAVE_REGS from=rsi
    SPEC_ENTRY
    CLEAR_REGS
    xor %ebp, %ebp
    mov %rsp, %rdi
    mov INFO_CURRENT(%rsp), %rsi
    sub $8, %rsp
    sti
    cmpl $ENTRY_SYSCALL, REGS_VECTOR(%rdi)
    jne 1f
    call pv_syscall_entry
    jmp exit_to_guest
1:  call trap_syscall_other

/* --- the way out -------------------------------------------------------------------------------------------------------- */
    /* What exit_work() would find at once: no work, no NMI or #MC and no event that waits and may be delivered. */
    .align 16
exit_to_guest:
    cli
    mov 8 + INFO_WORK(%rsp), %rax
    cmpl $0, (%rax)
    jne exit_some_work
    mov 8 + INFO_CURRENT(%rsp), %rax
    cmpw $0, VCPU_NMI_MCE_PENDING(%rax)
    jne exit_some_work
    mov VCPU_INFO(%rax), %rax
    cmpb $0, (%rax)             /* evtchn_upcall_pending */
    je exit_no_work
    cmpb $0, 1(%rax)            /* evtchn_upcall_mask: only the guest's kernel clears it, by a hypercall or where it looks itself */
    je exit_some_work
exit_no_work:
    add $8, %rsp
    SPEC_EXIT
    cmpl $ENTRY_SYSCALL, REGS_VECTOR(%rsp)
    jne exit_iret
    cmpl $FLAT_CS64, REGS_CS(%rsp) /* first: Linux leaves to its user space with another */
    jne exit_iret
    mov REGS_RIP(%rsp), %rcx
    cmp %rcx, REGS_RCX(%rsp)
    jne exit_iret
    mov REGS_RFLAGS(%rsp), %rdx
    cmp %rdx, REGS_R11(%rsp)
    jne exit_iret
    test $(EFLAGS_TF | EFLAGS_RF), %edx
    jnz exit_iret
    cmpl $FLAT_SS, REGS_SS(%rsp)
    jne exit_iret
    /* Not canonical: SYSRET would fault in ring 0 on the guest's stack. */
    mov %rcx, %rdx
    shl $16, %rdx
    sar $16, %rdx
    cmp %rdx, %rcx
    jne exit_iret
    RESTORE_REGS
    mov (REGS_RSP - REGS_ERROR)(%rsp), %rsp
    sysretq

exit_some_work:
    lea 8(%rsp), %rdi
    call exit_work              /* returns with interrupts off */
    jmp exit_no_work

    .align 16
exit_iret:
    RESTORE_REGS
    add $8, %rsp
    .globl guest_iretq
guest_iretq:
    iretq

/* --- changing stacks ------------------------------------------------------------------------------------------------------ */
    .macro STACK_RESET
    or $(STACK_SIZE - 1), %rsp
    lea 1 - INFO_SIZE - 8(%rsp), %rsp
    xor %ebp, %ebp
    .endm

/* noreturn void metal_resume_guest(void) */
    .globl metal_resume_guest
metal_resume_guest:
    STACK_RESET
    jmp exit_to_guest

/* noreturn void metal_resume_idle(void) */
    .globl metal_resume_idle
metal_resume_idle:
    STACK_RESET
    call sched_idle_loop
    ud2

/* noreturn void metal_iret_fault(uint32_t vector, uint32_t error): the guest's registers are in cpu_info.regs. */
    .globl metal_iret_fault
metal_iret_fault:
    STACK_RESET
    mov %esi, %edx
    mov %edi, %esi
    lea 8(%rsp), %rdi
    sti
    call pv_iret_fault
    jmp exit_to_guest

/* noreturn void metal_run_on(uint64_t stack_base, void (*fn)(void)): cpu_info stays where its frame is mapped. */
    .globl metal_run_on
metal_run_on:
    lea STACK_SIZE - INFO_SIZE - 8(%rdi), %rsp
    xor %ebp, %ebp
    call *%rsi
    ud2

    .section .note.GNU-stack, "", @progbits
