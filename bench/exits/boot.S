/*
 * How exits.c comes to run in 64-bit mode, under three hypervisors: sector 0 is what a BIOS starts (Xen, Krypton: a disk image), start32 is
 * what bench/exits/kvm.c starts in flat 32-bit mode with the whole file at 7c00h. The second processor starts at ap_start, which exits.c copies
 * to a page of its own. Nothing here reads CR3 or CR4: the emulated processor would report another exit (docs/testing.md).
 */
#define SECTORS   24 /* of the file, this one included; exits.lds */
#define TABLES    0x70000 /* PML4, PDPT, 4 PDs: the first 4 GiB by 2 MiB pages */
#define STACK     0x6f000
#define AP_STACK  0x6d000
#define CODE32    0x08
#define DATA      0x10
#define CODE64    0x18

    .section .head, "ax"
    .code16
    .globl _start
_start:
    ljmp $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    movw $packet, %si
    movb $0x42, %ah
    int $0x13
    jc failed
    cli
    jmp to32
failed:
    hlt
    jmp failed

    .balign 4
packet: .byte 16, 0
    .word SECTORS - 1, start32, 0
    .quad 1
to32:
    lgdt gdtr
    movl $0x11, %eax
    movl %eax, %cr0
    ljmp $CODE32, $start32

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
gdtr: .word . - gdt - 1
    .long gdt
    .org 510
    .word 0xaa55

    .code32
start32:
    lgdt gdtr
    movw $DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    movl $bss_start, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    movl $TABLES, %edi
    xorl %eax, %eax
    movl $(6 * 1024), %ecx
    rep stosl
    movl $(TABLES + 0x1003), TABLES
    movl $(TABLES + 0x2003), %eax
    movl $(TABLES + 0x1000), %edi
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    cmpl $(TABLES + 0x1020), %edi
    jb 2b
    movl $(TABLES + 0x2000), %edi
    movl $0x83, %eax
3:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    jnc 3b
    movl $STACK, %esp
    movl $measure, %ebx
    jmp to64

ap_start32:
    movw $DATA, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $AP_STACK, %esp
    movl $second, %ebx
to64:
    movl $0x620, %eax
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl $0x100, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80000011, %eax
    movl %eax, %cr0
    ljmp $CODE64, $long_mode
    .code64
long_mode:
    call *%rbx
4:  hlt
    jmp 4b

    .code16
    .globl ap_start, ap_end
ap_start:
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl gdtr
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $ap_start32
ap_end:
