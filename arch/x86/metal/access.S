/*
 * Accesses that may fault: guest memory, MSRs, selectors. Each faulting instruction has a line in the exception table
 * (address, where to go on); trap_from_krypton looks there.
 *
 * STAC and CLAC are three bytes of NOP until cpu_detect() has found SMAP and patched them (table krypton_smap).
 */
    .macro FIXUP insn, to
    .pushsection krypton_extable, "a", @progbits
    .quad \insn, \to
    .popsection
    .endm

    .macro USER_BEGIN
771: .byte 0x0f, 0x1f, 0x00
    .pushsection krypton_smap, "a", @progbits
    .quad 771b, 0xcb010f
    .popsection
    .endm
    .macro USER_END
772: .byte 0x0f, 0x1f, 0x00
    .pushsection krypton_smap, "a", @progbits
    .quad 772b, 0xca010f
    .popsection
    .endm

    .text

/*
 * size_t metal_copy_from_user(void *to, const void *from, size_t n): bytes that remain; the same code serves both directions.
 * What faults is tried once more, byte by byte: to find the very byte, and because a stale translation faults once only.
 */
    .globl metal_copy_from_user, metal_copy_to_user
    .align 16
metal_copy_from_user:
metal_copy_to_user:
    USER_BEGIN
    mov %rdx, %rcx
    shr $3, %rcx
    and $7, %edx
1:  rep movsq                   /* changes no flags */
    jnz 6f
3:  mov %rcx, %rax
    USER_END
    ret
6:  mov %edx, %ecx
2:  rep movsb
    jmp 3b
4:  lea (%rdx, %rcx, 8), %rcx
5:  rep movsb
    jmp 3b
    FIXUP 1b, 4b
    FIXUP 2b, 5b
    FIXUP 5b, 3b

/* size_t metal_zero_user(void *to, size_t n) */
    .globl metal_zero_user
    .align 16
metal_zero_user:
    USER_BEGIN
    xor %eax, %eax
    mov %rsi, %rcx
    and $7, %esi
    shr $3, %rcx
1:  rep stosq
    mov %esi, %ecx
2:  rep stosb
3:  mov %rcx, %rax
    USER_END
    ret
4:  lea (%rsi, %rcx, 8), %rcx
5:  rep stosb
    jmp 3b
    FIXUP 1b, 4b
    FIXUP 2b, 5b
    FIXUP 5b, 3b

/* bool metal_cmpxchg64_user(uint64_t *p, uint64_t *expected, uint64_t new): false = fault; *expected = what was there. */
    .globl metal_cmpxchg64_user, metal_cmpxchg32_user
    .align 16
metal_cmpxchg64_user:
    mov (%rsi), %rax
    USER_BEGIN
1:  lock cmpxchg %rdx, (%rdi)
    USER_END
    mov %rax, (%rsi)
    mov $1, %eax
    ret
    FIXUP 1b, user_fault

/* bool metal_cmpxchg32_user(uint32_t *p, uint32_t *expected, uint32_t new) */
    .align 16
metal_cmpxchg32_user:
    mov (%rsi), %eax
    USER_BEGIN
1:  lock cmpxchg %edx, (%rdi)
    USER_END
    mov %eax, (%rsi)
    mov $1, %eax
    ret
    FIXUP 1b, user_fault
user_fault:
    USER_END
    xor %eax, %eax
    ret

/* bool rdmsr_safe(uint32_t msr, uint64_t *v) */
    .globl rdmsr_safe, wrmsr_safe
    .align 16
rdmsr_safe:
    mov %edi, %ecx
1:  rdmsr
    mov %eax, (%rsi)
    mov %edx, 4(%rsi)
    mov $1, %eax
    ret
    FIXUP 1b, insn_fault

/* bool wrmsr_safe(uint32_t msr, uint64_t v) */
    .align 16
wrmsr_safe:
    mov %edi, %ecx
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
1:  wrmsr
    mov $1, %eax
    ret
    FIXUP 1b, insn_fault
insn_fault:
    xor %eax, %eax
    ret

/* bool xrstor_safe(const void *area, uint64_t mask), bool fxrstor_safe(const void *area) */
    .globl xrstor_safe, fxrstor_safe
xrstor_safe:
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
1:  xrstor64 (%rdi)
    mov $1, %eax
    ret
    FIXUP 1b, insn_fault
fxrstor_safe:
1:  fxrstor64 (%rdi)
    mov $1, %eax
    ret
    FIXUP 1b, insn_fault

/* bool hw_load_XX(uint16_t sel): false = refused, and the null selector loaded. */
    .macro SEGLOAD seg
    .globl hw_load_\seg
    .align 16
hw_load_\seg:
1:  mov %edi, %\seg
    mov $1, %eax
    ret
2:  xor %eax, %eax
    mov %eax, %\seg
    ret
    FIXUP 1b, 2b
    .endm
    SEGLOAD ds
    SEGLOAD es
    SEGLOAD fs
    SEGLOAD gs

    .section .note.GNU-stack, "", @progbits
