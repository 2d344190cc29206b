/*
 * Where a started processor begins: copied by smp.c to a page below 1 MiB. Real mode, CS = page << 8, IP = 0. Goes
 * through protected mode to 64-bit mode, takes the stack that waits for it, and jumps into the image.
 *
 * The stack pointer is taken by an exchange with 0: a processor that comes late, after it was given up, or uninvited,
 * finds 0 and stops for good.
 */
#include "x86/layout.h"

#define MSR_EFER        0xc0000080
#define MSR_MISC_ENABLE 0x1a0
#define T(x) ((x) - trampoline_start)

    .section .rodata.trampoline, "a", @progbits
    .globl trampoline_start, trampoline_end, trampoline_cr3, trampoline_stack, trampoline_intel, trampoline_far32
    .globl trampoline_far64, trampoline_gdt_base
    .code16
    .align 16
trampoline_start:
    cli
    cld
    xor %ebx, %ebx
    mov %cs, %bx
    mov %bx, %ds
    shl $4, %ebx
    lgdtl T(trampoline_gdtr)
    mov $0x11, %eax                 /* ET PE */
    mov %eax, %cr0
    ljmpl *T(trampoline_far32)

    .code32
trampoline_32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov $0x20, %eax                 /* PAE */
    mov %eax, %cr4
    cmpl $0, T(trampoline_intel)(%ebx)
    je 1f
    mov $MSR_MISC_ENABLE, %ecx      /* firmware can hide NX: bit 34 */
    rdmsr
    test $4, %edx
    jz 1f
    and $~4, %edx
    wrmsr
1:  mov T(trampoline_cr3)(%ebx), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $0x900, %eax                 /* LME, NXE */
    wrmsr
    mov $0x80010033, %eax           /* PG WP NE ET MP PE */
    mov %eax, %cr0
    ljmpl *T(trampoline_far64)(%ebx)

    .code64
trampoline_64:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov %ebx, %ebx
    xchg %rax, T(trampoline_stack)(%rbx)
    test %rax, %rax
    jz 2f
    mov %rax, %rsp
    xor %ebp, %ebp
    movabs $smp_ap_start, %rax
    call *%rax
2:  cli
    hlt
    jmp 2b

    .align 8
trampoline_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        /* 0x08: 32-bit code */
    .quad 0x00cf93000000ffff        /* 0x10: data */
    .quad 0x00af9b000000ffff        /* 0x18: 64-bit code */
trampoline_gdtr:
    .short . - trampoline_gdt - 1
trampoline_gdt_base:                /* smp.c adds the page's address to these three */
    .long T(trampoline_gdt)
trampoline_far32:
    .long T(trampoline_32)
    .short 0x08
trampoline_far64:
    .long T(trampoline_64)
    .short 0x18
    .align 8
trampoline_intel: .long 0
trampoline_cr3:   .long 0
trampoline_stack: .quad 0
trampoline_end:

    .section .note.GNU-stack, "", @progbits
