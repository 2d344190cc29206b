/*
 * A PV kernel of a few kilobytes: ELF notes, entry, trap stubs, callbacks. rsi = start_info.
 */
#include <xen/elfnote.h>
#include "test/guest/regs.inc"

#define NOTE(type, ...) .pushsection .note.Xen, "a", @note; .balign 4; .long 4, 2f - 1f, type; .asciz "Xen"; 1: __VA_ARGS__; 2: .balign 4; .popsection

NOTE(XEN_ELFNOTE_GUEST_OS, .asciz "krypton-test")
NOTE(XEN_ELFNOTE_GUEST_VERSION, .asciz "1")
NOTE(XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0")
NOTE(XEN_ELFNOTE_LOADER, .asciz "generic")
NOTE(XEN_ELFNOTE_VIRT_BASE, .quad 0xffffffff80000000)
NOTE(XEN_ELFNOTE_PADDR_OFFSET, .quad 0)
NOTE(XEN_ELFNOTE_ENTRY, .quad start)
NOTE(XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page)
NOTE(XEN_ELFNOTE_FEATURES, .asciz "!writable_page_tables|pae_pgdir_above_4gb")

.section .text
.globl start
start:
    mov %rax, entry_regs(%rip)
    mov %rbx, entry_regs + 8(%rip)
    mov %rcx, entry_regs + 16(%rip)
    mov %rdx, entry_regs + 24(%rip)
    mov %rsi, entry_regs + 32(%rip)
    mov %rdi, entry_regs + 40(%rip)
    mov %rbp, entry_regs + 48(%rip)
    mov %r8, entry_regs + 56(%rip)
    mov %r9, entry_regs + 64(%rip)
    mov %r10, entry_regs + 72(%rip)
    mov %r11, entry_regs + 80(%rip)
    mov %r12, entry_regs + 88(%rip)
    mov %r13, entry_regs + 96(%rip)
    mov %r14, entry_regs + 104(%rip)
    mov %r15, entry_regs + 112(%rip)
    lea stack_top(%rip), %rsp
    mov %rsi, %rdi
    xor %ebp, %ebp
    call guest_main
1:  jmp 1b

/* A second vCPU: rdi = function, rsi = argument (set in its context by the test library). */
.globl vcpu_start
vcpu_start:
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
1:  jmp 1b

.balign 4096
.globl hypercall_page
hypercall_page:
    .skip 4096

/*
 * Trap frames: the hypervisor pushes rcx, r11, [error], rip, cs, rflags, rsp, ss. The stubs make a uniform
 * struct trap_frame: general registers, number, error.
 */
/* Keeps the first n words of the frame in raw_frame. */
.macro save_raw n
    cld                      /* the interrupted code's direction flag comes along */
    push %rax
    .set i, 0
    .rept \n
    mov 8 + 8 * i(%rsp), %rax
    mov %rax, raw_frame + 8 * i(%rip)
    .set i, i + 1
    .endr
    pop %rax
.endm

.macro stub n, has_error
.globl trap_\n
trap_\n:
    .if \has_error
    save_raw 8
    .else
    save_raw 7
    .endif
    mov (%rsp), %rcx
    mov 8(%rsp), %r11
    .if \has_error
    add $16, %rsp
    .else
    add $8, %rsp
    movq $0, (%rsp)
    .endif
    push $\n
    jmp trap_common
.endm

.irp n, 0,1,2,3,4,5,6,7,9,16,18,19,32,128
stub \n, 0
.endr
.irp n, 8,10,11,12,13,14,17
stub \n, 1
.endr

.macro callback_entry n
    save_raw 7
    mov (%rsp), %rcx
    mov 8(%rsp), %r11
    add $8, %rsp
    movq $0, (%rsp)
    push $\n
    jmp trap_common
.endm

trap_common:
    save_regs
    mov %rsp, %rdi
    call guest_trap
    restore_regs
    add $16, %rsp            /* number, error */
    /* HYPERVISOR_iret: rax, r11, rcx, flags on top of rip cs rflags rsp ss */
do_iret:
    push $0                  /* flags */
    push %rcx
    push %r11
    push %rax
    mov $23, %eax
    syscall
    ud2

.globl event_callback
event_callback:
    save_raw 7
    mov (%rsp), %rcx
    mov 8(%rsp), %r11
    add $8, %rsp
    movq $0, (%rsp)
    push $256
    save_regs
    mov %rsp, %rdi
    call guest_event
    restore_regs
    add $16, %rsp
    jmp do_iret

.globl failsafe_callback
failsafe_callback:           /* rcx r11 ds es fs gs rip cs rflags rsp ss */
    save_raw 11
    mov (%rsp), %rcx
    mov 8(%rsp), %r11
    add $40, %rsp
    movq $0, (%rsp)
    push $257
    jmp trap_common

/* syscall from user mode: the frame as for a trap without error code (rcx = return rip, r11 = flags). */
.globl syscall_callback
syscall_callback:
    callback_entry 258
.globl syscall32_callback
syscall32_callback:
    callback_entry 259
.globl sysenter_callback
sysenter_callback:
    callback_entry 260

/* bool probe_read(const void *p, uint64_t *out); bool probe_write(void *p, uint64_t v): guest_trap knows the addresses. */
.globl probe_read, probe_read_insn, probe_write, probe_write_insn, probe_fixup
probe_read:
probe_read_insn:
    mov (%rdi), %rax
    mov %rax, (%rsi)
    xor %eax, %eax
    ret
probe_write:
probe_write_insn:
    mov %rsi, (%rdi)
    xor %eax, %eax
    ret
probe_fixup:
    mov $1, %eax
    ret

/* long guest_enter_user(uint64_t rip, uint64_t rsp, uint64_t cs): iret to ring-3 user space; comes back when the trap
 * handler calls guest_leave_user. */
.globl guest_enter_user
guest_enter_user:
    mov $0xe02b, %ecx
    mov $0x202, %r8d
/* long guest_enter_user_flags(rip, rsp, cs, ss, rflags) */
.globl guest_enter_user_flags
guest_enter_user_flags:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, user_return_sp(%rip)
    push %rcx                /* ss */
    push %rsi
    push %r8
    push %rdx
    push %rdi
    push iret_flags(%rip)    /* VGCF_in_syscall or 0 */
    push $0
    push $0
    push $0
    mov $23, %eax
    syscall
    ud2
.globl guest_leave_user
guest_leave_user:            /* rdi = value to return */
    mov user_return_sp(%rip), %rsp
    mov %rdi, %rax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

.section .bss
.balign 8
.globl user_return_sp, raw_frame, iret_flags, entry_regs
user_return_sp: .skip 8
iret_flags: .skip 8
entry_regs: .skip 120        /* as the vCPU began: rax rbx rcx rdx rsi rdi rbp r8 to r15 */
raw_frame: .skip 96
.balign 4096
.globl stack_bottom
stack_bottom:
    .skip 32768
.globl stack_top
stack_top:
    .skip 8192               /* for traps from user mode: the kernel's own stack is in use below guest_enter_user */
.globl user_trap_stack_top
user_trap_stack_top:
