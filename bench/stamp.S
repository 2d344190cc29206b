/*
 * Laid over the first instructions of a Linux kernel (bench/stamp-kernel): prints the TSC through the dom0 console and powers
 * off. Position-independent; the kernel's text is writable at that moment.
 */
    .text
    .globl start
start:
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, %rbx
    lea text(%rip), %rdi
    mov $16, %ecx
1:  rol $4, %rbx
    mov %ebx, %eax
    and $15, %eax
    cmp $10, %eax
    jb 2f
    add $39, %eax
2:  add $48, %eax
    mov %al, (%rdi)
    inc %rdi
    dec %ecx
    jnz 1b
    mov $18, %eax                    /* console_io write */
    xor %edi, %edi
    mov $text_end - text_start, %esi
    lea text_start(%rip), %rdx
    syscall
    mov $29, %eax                    /* sched_op shutdown: poweroff */
    mov $2, %edi
    lea reason(%rip), %rsi
    syscall
3:  jmp 3b
reason: .long 0
text_start: .ascii "bench-dom0 "
text: .ascii "0000000000000000\n"
text_end:
