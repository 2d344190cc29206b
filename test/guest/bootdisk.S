/*
 * A boot disk of our own for HVM guests: BIOS loads the first sector at 7c00h, which loads the rest. It says on COM1 how far it came:
 * real mode, the BIOS's disk and memory calls, its timer tick (8259s and PIT), protected mode, paging, long mode, compatibility mode,
 * and the way back to real mode, ROUNDS times; then powers off (ACPI, as hvmloader sets it up). A disk whose text says "reset" there
 * asks the keyboard controller for that as soon as it is loaded.
 */
#define COM1    0x3f8
#define ROUNDS  300
#define CODE32  0x08
#define DATA32  0x10
#define CODE64  0x18
#define CODE16  0x20
#define DATA16  0x28
#define TABLES  0x10000 /* PML4, PDPT, PD */
#define SECTORS 4

    .code16
    .globl _start
_start:
    ljmp $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    movb %dl, drive
    cld
    /* the serial line: 115200, 8N1 */
    movw $(COM1 + 3), %dx
    movb $0x80, %al
    outb %al, %dx
    movw $COM1, %dx
    movb $1, %al
    outb %al, %dx
    incw %dx
    xorb %al, %al
    outb %al, %dx
    movw $(COM1 + 3), %dx
    movb $3, %al
    outb %al, %dx
    sti
    movw $hello, %si
    call say
    /* the rest of us */
    movw $packet, %si
    movb $0x42, %ah
    movb drive, %dl
    int $0x13
    jc fail
    cmpl $0x6b727970, mark
    jne fail
    jmp rest
fail:
    movw $bad, %si
    call say
    cli
    hlt

/* SI: text, ended by 0 */
say:
    lodsb
    testb %al, %al
    jz 2f
    call char
    jmp say
2:  ret
char:
    movb %al, %ah
    movw $(COM1 + 5), %dx
3:  inb %dx, %al
    testb $0x20, %al
    jz 3b
    movb %ah, %al
    movw $COM1, %dx
    outb %al, %dx
    ret

drive: .byte 0
packet: .byte 16, 0
    .word SECTORS - 1, rest, 0
    .quad 1
hello: .asciz "boot: real mode\n"
bad: .asciz "boot: FAILED\n"
    .org 510
    .word 0xaa55

rest:
    movw $disk, %si
    call say
    cmpb $'r', over + 17
    jne 8f
    movb $0xfe, %al
    outb %al, $0x64
    cli
    hlt
    jmp fail
8:
    /* memory map: continuations until there are no more */
    xorl %ebx, %ebx
    xorl %ebp, %ebp
4:  movl $0xe820, %eax
    movl $0x534d4150, %edx
    movl $24, %ecx
    movw $0x600, %di
    int $0x15
    jc 5f
    incl %ebp
    testl %ebx, %ebx
    jnz 4b
5:  cmpl $3, %ebp
    jb fail
    movw $map, %si
    call say
    /* the tick counts by itself */
    movl 0x46c, %eax
    addl $4, %eax
6:  sti
    hlt
    cmpl %eax, 0x46c
    jb 6b
    movw $tick, %si
    call say
    /* the clock: its seconds move */
    call seconds
    movb %al, %bl
7:  call seconds
    cmpb %al, %bl
    je 7b
    movw $clock, %si
    call say

    movw $modes, %si
    call say
    movl $ROUNDS, rounds
again:
    cli
    lgdt gdtr
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmp $CODE32, $protected
seconds:
    movb $10, %al
    outb %al, $0x70
    inb $0x71, %al
    testb $0x80, %al
    jnz seconds
    movb $0, %al
    outb %al, $0x70
    inb $0x71, %al
    ret

    .code32
protected:
    movw $DATA32, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    /* tables: one 2 MiB page, itself */
    movl $TABLES, %edi
    xorl %eax, %eax
    movl $3072, %ecx
    rep stosl
    movl $(TABLES + 0x1003), TABLES
    movl $(TABLES + 0x2003), TABLES + 0x1000
    movl $0x83, TABLES + 0x2000
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmp $CODE64, $long_mode
    .code64
long_mode:
    movq $0x123456789abcdef0, %rax
    movq %rax, %r15
    addq %rax, sum
    pushq $CODE32
    pushq $back
    lretq
    .code32
back:
    /* compatibility mode, paging off, long mode off */
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $~0x100, %eax
    wrmsr
    movl %cr4, %eax
    andl $~0x20, %eax
    movl %eax, %cr4
    ljmp $CODE16, $small
    .code16
small:
    movw $DATA16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmp $0, $real
real:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    sti
    nop
    decl rounds
    jnz again
    /* ROUNDS times the number, in 64 bits */
    cmpl $((0x9abcdef0 * ROUNDS) & 0xffffffff), sum
    jne fail
    cmpl $((0x123456789abcdef0 * ROUNDS) >> 32 & 0xffffffff), sum + 4
    jne fail
    movw $over, %si
    call say
    /* S5: PM1a control */
    movw $0xb004, %dx
    movw $0x2000, %ax
    outw %ax, %dx
    cli
    hlt
    jmp fail

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
    .quad 0x00009b000000ffff
    .quad 0x000093000000ffff
gdtr: .word . - gdt - 1
    .long gdt
rounds: .long 0
sum: .quad 0
mark: .long 0x6b727970
disk: .asciz "boot: disk read\n"
map: .asciz "boot: memory map\n"
tick: .asciz "boot: timer ticks\n"
clock: .asciz "boot: clock\n"
modes: .asciz "boot: modes\n"
over: .asciz "boot: all modes, off  \n"
    .org 512 * SECTORS
