/*
 * void modes_trip(void): paging off, protection off with the segments that were loaded before, and back; from 64-bit mode by way of
 * compatibility mode. On the way a CPUID, a port and a place without memory, whose emulation must know the mode.
 */
    .text
.macro look_around
    xor %eax, %eax
    push %ebx
    cpuid
    pop %ebx
    in $0x80, %al
    mov $0x5a, %al
    out %al, $0x80
    mov 0x80001000, %eax
    mov %eax, 0x80001000
    mov $0xfee00030, %ecx    /* the local APIC's version, or not */
    mov (%ecx), %eax
.endm

.globl modes_trip
modes_trip:
#ifdef __x86_64__
    push %rbx
    push %rbp
    push $0x08
    lea 1f(%rip), %rax
    push %rax
    lretq
#else
    push %ebx
    push %ebp
#endif
.code32
1:  mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
#ifdef __x86_64__
    mov $0xc0000080, %ecx
    rdmsr
    and $~0x100, %eax
    wrmsr
#endif
    look_around
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    look_around
    pushf
    popf
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    look_around
#ifdef __x86_64__
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
#endif
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
#ifdef __x86_64__
    ljmp $0x10, $2f
.code64
2:  pop %rbp
    pop %rbx
    ret
#else
    pop %ebp
    pop %ebx
    ret
#endif
