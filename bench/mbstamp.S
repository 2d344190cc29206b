/*
 * A Multiboot1 kernel that prints the TSC at its first instruction on the serial port and halts: the moment "hypervisor
 * entry" of a boot with the same loader and modules.
 */
    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002
    .text
    .code32
    .globl start
start:
    rdtsc
    mov %eax, %esi
    mov %edx, %edi
    mov $text, %ebx
    mov $8, %ecx
1:  rol $4, %edi
    call digit
    loop 1b
    mov $8, %ecx
    mov %esi, %edi
2:  rol $4, %edi
    call digit
    loop 2b
    mov $text_start, %esi
    mov $text_end - text_start, %ecx
    mov $0x3f8, %edx
3:  lodsb
    outb %al, %dx
    loop 3b
4:  cli
    hlt
    jmp 4b
digit:
    mov %edi, %eax
    and $15, %eax
    cmp $10, %eax
    jb 5f
    add $39, %eax
5:  add $48, %eax
    mov %al, (%ebx)
    inc %ebx
    ret
    .data
text_start: .ascii "bench-entry "
text: .ascii "0000000000000000\r\n"
text_end:
