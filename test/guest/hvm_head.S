/*
 * The PVH kernel of the test guest, for 64-bit and, from the same source, for 32-bit mode: entry, page tables, descriptors, trap entries.
 * ebx = hvm_start_info. Memory is mapped where its number says: the first 4 GiB, but for the page at 0; the 2 MiB at 2 GiB, which are no
 * RAM, page by page (scratch_va). Also a Multiboot kernel, which a device model's BIOS can start: ebx = its information.
 */
#include <xen/elfnote.h>
#include "test/guest/regs.inc"

.pushsection .note.Xen, "a", @note
.balign 4
.long 4, 2f - 1f, XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
1: .long start
2: .balign 4
.popsection

.section .text
.code32
.balign 4
load_start:
.long 0x1badb002, 0x10000, -(0x1badb002 + 0x10000), load_start, load_start, bss_start, _end, multiboot_start
multiboot_start:
    movl $1, by_multiboot
.globl start
start:
    cli
    mov $stack_top, %esp
    mov %ebx, boot_info
    mov $0x620, %eax         /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
#ifdef __x86_64__
    mov $table_l4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax          /* NXE, LME, SCE */
    wrmsr
#else
    mov $table_pdpt, %eax
    mov %eax, %cr3
#endif
    mov $0x80010031, %eax    /* PG, WP, NE, ET, PE */
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x10, $1f
#ifdef __x86_64__
.code64
#endif
1:  mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    call hvm_main
2:  jmp 2b

/* A further vCPU from STARTUP on, at the start of a page below 1 MiB that this was copied to; ap_start says where it goes from here. */
.globl ap_page, ap_page_end, ap_start
.code16
ap_page:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl ap_gdt_pointer - ap_page
    mov $0x11, %eax          /* ET, PE */
    mov %eax, %cr0
    ljmpl $0x08, $ap_protected
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_page_end:
.code32
ap_protected:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x620, %eax
    mov %eax, %cr4
    mov $table_l4, %eax
    mov %eax, %cr3
#ifdef __x86_64__
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
#endif
    mov $0x80010031, %eax
    mov %eax, %cr0
    mov ap_start, %esp
    mov ap_start + 8, %edi
    mov ap_start + 16, %esi
    movl $1, ap_start + 24
    ljmp $0x10, $vcpu_start
#ifdef __x86_64__
.code64
#endif

/* A further vCPU, in its final mode already: arguments as vcpu_initialise gives them: di = function, si = argument. */
.globl vcpu_start
vcpu_start:
#ifdef __x86_64__
    lgdt gdt_pointer
    push $0x10
    lea 3f(%rip), %rax
    push %rax
    lretq
3:
#else
    lgdt gdt_pointer
    ljmp $0x10, $3f
3:
#endif
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    lidt idt_pointer
#ifdef __x86_64__
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
#else
    push %esi
    call *%edi
#endif
4:  jmp 4b

/* Entry n, of 16 bytes: pushes an error code unless the processor does, and the vector. */
.balign 16
.globl trap_entries
trap_entries:
.set v, 0
.rept 256
    .balign 16
    .if !(v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21)
    push $0
    .endif
    push $v
    jmp trap_common
    .set v, v + 1
.endr

trap_common:
#ifdef __x86_64__
    save_regs
    mov %rsp, %rdi
    cld
    call guest_trap
    restore_regs
    add $16, %rsp
    iretq
#else
    pusha
    mov $0x18, %eax
    mov %eax, %es           /* an attack's own may be anything; it is not given back */
    push %esp
    cld
    call guest_trap
    add $4, %esp
    popa
    add $8, %esp
    iret
#endif

/* long hypercall_raw(page entry, a, b, c, d, e): through the page, in the convention of the mode. */
.globl hypercall_raw
hypercall_raw:
#ifdef __x86_64__
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    jmp *%rax
#else
    push %ebx
    push %esi
    push %edi
    mov 16(%esp), %eax
    mov 20(%esp), %ebx
    mov 24(%esp), %ecx
    mov 28(%esp), %edx
    mov 32(%esp), %esi
    mov 36(%esp), %edi
    call *%eax
    pop %edi
    pop %esi
    pop %ebx
    ret
#endif

.section .data
.globl by_multiboot
by_multiboot:
    .long 0
.balign 8
ap_start:                    /* stack, function, argument, set when it is under way */
    .quad 0, 0, 0, 0
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 08: 32-bit code */
#ifdef __x86_64__
    .quad 0x00af9b000000ffff /* 10: 64-bit code */
#else
    .quad 0x00cf9b000000ffff
#endif
    .quad 0x00cf93000000ffff /* 18: data */
.globl gdt_more, gdt_pointer
gdt_more:                    /* 20 on: for tests */
    .skip 12 * 8
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt, 0
.globl idt_pointer
idt_pointer:
    .word 256 * 16 - 1
    .long idt, 0

.balign 4096
.globl table_l4, table_l1_scratch, table_l2, table_l1_low
#ifdef __x86_64__
table_l4:
    .long table_l3 + 0x63, 0
    .skip 4088
table_l3:
    .long table_l2 + 0x63, 0, table_l2 + 0x1063, 0, table_l2 + 0x2063, 0, table_l2 + 0x3063, 0
    .skip 4096 - 32
#else
table_l4:
table_pdpt:
    .long table_l2 + 1, 0, table_l2 + 0x1001, 0, table_l2 + 0x2001, 0, table_l2 + 0x3001, 0
    .skip 4096 - 32
#endif
table_l2:
    .long table_l1_low + 0x63, 0
    .set i, 1
    .rept 2047
    .if i == 1024
    .long table_l1_scratch + 0x63, 0
    .elseif i == 2047
    .long table_l1_top + 0x63, 0
    .else
    .quad i * 0x200000 + 0xe3
    .endif
    .set i, i + 1
    .endr
table_l1_low:
    .quad 0
    .set i, 1
    .rept 511
    .quad i * 4096 + 0x63
    .set i, i + 1
    .endr
table_l1_scratch:
    .set i, 0
    .rept 512
    .quad 0x80000000 + i * 4096 + 0x63
    .set i, i + 1
    .endr
table_l1_top:                /* the last page is not mapped: HV_ADDRESS */
    .set i, 0
    .rept 511
    .quad 0xffe00000 + i * 4096 + 0x63
    .set i, i + 1
    .endr
    .quad 0

.section .bss
.balign 4096
.globl hypercall_page, boot_info, idt
hypercall_page:
    .skip 4096
idt:
    .skip 4096
    .skip 16384
stack_top:
boot_info:
    .skip 8
