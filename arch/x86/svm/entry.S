/*
 * Into the guest by VMRUN and back (AMD APM vol. 2 ch. 15).
 *
 *   svm_resume -> svm_enter (C: work, events, ASID) -> CLGI, VMLOAD, VMRUN ... guest ... VMSAVE, VMLOAD, STGI -> svm_left (C) -> again
 *
 * Invariants
 *  1. The guest's general registers are in cpu_info.regs while Krypton runs, but RAX, RSP, RIP and RFLAGS, which svm_left copies
 *     from the VMCB.
 *  2. Between CLGI and STGI nothing interrupts, not even NMI or #MC: there FS, GS, TR, LDTR and the SYSCALL MSRs are the guest's, so
 *     that no interrupt stack could be found. IF is set there: with V_INTR_MASKING the host's IF says that interrupts leave the guest.
 *  3. Of the guest's registers none but those that C has saved are left when C runs.
 *  4. The stack is empty while the guest runs: svm_enter may switch to another vCPU and not return.
 */
#include "x86/layout.h"
#include "x86/msr.h"
#include "x86/regs.h"
#include "x86/spec.h"
#include "../metal/offsets.h"

#define HOST_PA (INFO_SCRATCH + 8)

    .text
svm_verw_selector:
    .word SEL_HYP_DS

    .align 16
    .globl svm_resume
svm_resume:
    or $(STACK_SIZE - 1), %rsp
    lea 1 - INFO_SIZE - 8(%rsp), %rsp
    xor %ebp, %ebp

    .align 16
again:
    call svm_enter
    add $8, %rsp
    mov %rax, %rbx
    mov %rdx, HOST_PA(%rsp)
    clgi
    sti
    SPEC_PLACE SPEC_IBRS, 1f
    mov $MSR_SPEC_CTRL, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
1:  SPEC_PLACE SPEC_VERW, 2f
    verw svm_verw_selector(%rip)
2:  mov %rbx, %rax
    vmload
    mov 0(%rsp), %r15
    mov 8(%rsp), %r14
    mov 16(%rsp), %r13
    mov 24(%rsp), %r12
    mov 32(%rsp), %rbp
    mov 40(%rsp), %rbx
    mov 48(%rsp), %r11
    mov 56(%rsp), %r10
    mov 64(%rsp), %r9
    mov 72(%rsp), %r8
    mov 88(%rsp), %rcx
    mov 96(%rsp), %rdx
    mov 104(%rsp), %rsi
    mov 112(%rsp), %rdi
    vmrun
    mov %r15, 0(%rsp)
    mov %r14, 8(%rsp)
    mov %r13, 16(%rsp)
    mov %r12, 24(%rsp)
    mov %rbp, 32(%rsp)
    mov %rbx, 40(%rsp)
    mov %r11, 48(%rsp)
    mov %r10, 56(%rsp)
    mov %r9, 64(%rsp)
    mov %r8, 72(%rsp)
    mov %rcx, 88(%rsp)
    mov %rdx, 96(%rsp)
    mov %rsi, 104(%rsp)
    mov %rdi, 112(%rsp)
    vmsave
    mov HOST_PA(%rsp), %rax
    vmload
    SPEC_PLACE SPEC_IBRS, 3f
    mov $MSR_SPEC_CTRL, %ecx
    mov $1, %eax
    xor %edx, %edx
    wrmsr
3:  SPEC_PLACE SPEC_RSB, 6f
    mov $16, %ecx
4:  call 41f
    int3
41: call 42f
    int3
42: dec %ecx
    jnz 4b
    add $(32 * 8), %rsp
6:  xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    xor %esi, %esi
    xor %edi, %edi
    xor %ebp, %ebp
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    cld
    sub $8, %rsp
    stgi
    call svm_left
    jmp again

/* void svm_vmsave(uint64_t pa): this CPU's own state, for the VMLOAD above. */
    .globl svm_vmsave
svm_vmsave:
    mov %rdi, %rax
    vmsave
    ret

    .section .note.GNU-stack, "", @progbits
