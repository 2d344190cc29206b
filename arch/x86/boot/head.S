/*
 * From the boot loader's 32-bit code to start_c(): Multiboot1 (QEMU, GRUB), Multiboot2 (GRUB) and PVH (QEMU, Xen).
 *
 * On entry: protected mode, flat segments, no paging, interrupts off. eax = magic (PVH: none), ebx = physical address of
 * the loader's information. Everything here runs at its physical address: symbols go through PA().
 *
 *  1. Nothing of the loader's memory is written: its information is copied by C code before any memory is given out.
 *  2. A processor that lacks what Krypton needs gets a sentence on COM1 and on the VGA text screen, then stops.
 *
 * Boot page tables: the first 4 GiB at 0 and at DIRECT_VIRT, the first 1 GiB at IMAGE_VIRT; all writable and executable,
 * until mm_init has built the real ones.
 */
#include "x86/layout.h"
#include "x86/regs.h"

#define PA(x) ((x) - IMAGE_VIRT)

#define MB1_MAGIC    0x1badb002
#define MB1_FLAGS    0x3 /* modules page-aligned, memory map wanted */
#define MB2_MAGIC    0xe85250d6
#define PVH_MAGIC    0x336ec578 /* what we put into eax for C: XEN_HVM_START_MAGIC_VALUE */
#define MB1_LOADER   0x2badb002
#define MB2_LOADER   0x36d76289

#define MSR_EFER        0xc0000080
#define MSR_MISC_ENABLE 0x1a0

    .section .head, "ax", @progbits
    .code32
    .globl image_head
image_head:
    .align 4
    .globl multiboot1_header
multiboot1_header:
    .long MB1_MAGIC, MB1_FLAGS, -(MB1_MAGIC + MB1_FLAGS)

    .align 8
multiboot2_header:
    .long MB2_MAGIC, 0, 3f - multiboot2_header
    .long 0x100000000 - (MB2_MAGIC + (3f - multiboot2_header))
    .align 8
    .short 1, 0             /* information we need: memory map */
    .long 12, 6
    .align 8
    .short 6, 0             /* modules page-aligned */
    .long 8
    .align 8
    .short 4, 1             /* optional: we know EGA text */
    .long 12, 2
    .align 8
    .short 5, 1             /* optional: any frame buffer */
    .long 20, 0, 0, 0
    .align 8
    .short 0, 0
    .long 8
3:

    .globl entry_pvh
entry_pvh:
    mov $PVH_MAGIC, %eax
    jmp 1f
    .globl entry_multiboot
entry_multiboot:
    cmp $MB1_LOADER, %eax
    je 1f
    cmp $MB2_LOADER, %eax
    je 1f
    cli
    cld
    mov $PA(boot_stack_top), %esp
    mov $PA(msg_loader), %esi
    jmp stop_with_message
1:
    cli
    cld
    mov $PA(boot_stack_top), %esp
    mov %eax, PA(boot_magic)
    mov %ebx, PA(boot_info_pa)
    call check_processor
    call build_tables

    lgdt PA(gdt_descriptor_pa)
    mov %cr4, %eax
    or $0x20, %eax                  /* PAE */
    mov %eax, %cr4
    mov $PA(boot_l4), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $0x900, %eax                 /* LME, NXE */
    wrmsr
    mov $0x80010033, %eax           /* PG WP NE ET MP PE */
    mov %eax, %cr0
    ljmp $SEL_HYP_CS, $PA(1f)

    .code64
1:
    movabs $start64, %rax
    jmp *%rax

    .code32
/* No processor without CPUID, long mode, NX, and the rest that start_c relies on before it can ask politely. */
check_processor:
    pushfl
    pop %eax
    mov %eax, %ecx
    xor $0x200000, %eax             /* EFLAGS.ID */
    push %eax
    popfl
    pushfl
    pop %eax
    xor %ecx, %eax
    mov $PA(msg_cpuid), %esi
    test $0x200000, %eax
    jz stop_with_message

    mov $1, %eax
    cpuid
    mov $PA(msg_features), %esi
    mov %edx, %eax
    and $0x07008161, %eax           /* FXSR SSE SSE2, CMOV, CX8, PAE, MSR, FPU */
    cmp $0x07008161, %eax
    jne stop_with_message
    mov $PA(msg_apic), %esi
    test $0x200, %edx
    jz stop_with_message

    mov $0x80000000, %eax
    cpuid
    mov $PA(msg_long), %esi
    cmp $0x80000001, %eax
    jb stop_with_message
    mov $0x80000001, %eax
    cpuid
    test $0x20000000, %edx
    jz stop_with_message
    test $0x100000, %edx
    jnz 2f
    /* Intel firmware can hide NX: MISC_ENABLE bit 34 (SDM vol. 4). */
    xor %eax, %eax
    cpuid
    mov $PA(msg_nx), %esi
    cmp $0x756e6547, %ebx           /* "Genu" */
    jne stop_with_message
    mov $MSR_MISC_ENABLE, %ecx
    rdmsr
    test $4, %edx
    jz stop_with_message
    and $~4, %edx
    wrmsr
    mov $0x80000001, %eax
    cpuid
    test $0x100000, %edx
    jz stop_with_message
2:  ret

build_tables:
    mov $PA(boot_l2), %edi          /* 4 GiB of 2 MiB pages */
    mov $0xe3, %eax                 /* P RW A D PS */
    xor %edx, %edx
    mov $2048, %ecx
1:  mov %eax, (%edi)
    mov %edx, 4(%edi)
    add $8, %edi
    add $0x200000, %eax
    loop 1b
    mov $PA(boot_l3_low), %edi
    mov $PA(boot_l2) + 0x63, %eax
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x1000, %eax
    loop 1b
    movl $PA(boot_l2) + 0x63, PA(boot_l3_image) + ((IMAGE_VIRT >> 30) & 511) * 8
    movl $PA(boot_l3_low) + 0x63, PA(boot_l4)
    movl $PA(boot_l3_low) + 0x63, PA(boot_l4) + ((DIRECT_VIRT >> 39) & 511) * 8
    movl $PA(boot_l3_image) + 0x63, PA(boot_l4) + ((IMAGE_VIRT >> 39) & 511) * 8
    ret

/* esi = text, with a final NUL: to COM1 and the screen, then the end. */
stop_with_message:
    mov $0xb8000, %edi
1:  lodsb
    test %al, %al
    jz 4f
    mov %al, %bl
    mov $0x10000, %ecx
    mov $0x3fd, %dx
2:  in %dx, %al
    test $0x20, %al
    jnz 3f
    loop 2b
3:  mov $0x3f8, %dx
    mov %bl, %al
    out %al, %dx
    cmp $' ', %bl
    jb 1b
    mov %bl, (%edi)
    movb $0x4f, 1(%edi)
    add $2, %edi
    jmp 1b
4:  cli
    hlt
    jmp 4b

msg_loader:   .asciz "Krypton: not started by a Multiboot, Multiboot2 or PVH boot loader. Stopped.\r\n"
msg_cpuid:    .asciz "Krypton: this processor has no CPUID instruction. Stopped.\r\n"
msg_features: .asciz "Krypton: this processor lacks one of FPU, PAE, MSR, CMPXCHG8B, CMOV, FXSAVE, SSE, SSE2. Stopped.\r\n"
msg_apic:     .asciz "Krypton: this processor has no local APIC, or the firmware has disabled it. Stopped.\r\n"
msg_long:     .asciz "Krypton: this processor has no 64-bit mode. Stopped.\r\n"
msg_nx:       .asciz "Krypton: this processor has no no-execute page protection, or the firmware has disabled it. Stopped.\r\n"

    .align 8
gdt_descriptor_pa:
    .short 0xffff
    .long PA(boot_gdt_page) - GDT_HYP_PAGE * 0x1000

    .code64
    .text
start64:
    lea boot_stack_top - 16(%rip), %rsp
    xor %eax, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    push $EFLAGS_MBS
    popfq
    xor %ebp, %ebp
    /* cpu_info ends at boot_stack_top: stay below it. */
    lea boot_stack_top - 512(%rip), %rsp
    mov boot_magic(%rip), %edi
    mov boot_info_pa(%rip), %esi
    call start_c
    ud2

    .section .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18                  /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .align 4
    .long PA(entry_pvh)

    .data
    .align 4
boot_magic:   .long 0
boot_info_pa: .long 0

    .section .bss.init, "aw", @nobits
    .align 4096
boot_l4:       .skip 4096
boot_l3_low:   .skip 4096
boot_l3_image: .skip 4096
boot_l2:       .skip 4 * 4096

    .section .bss.stack, "aw", @nobits
    .align STACK_SIZE
    .globl boot_stack
boot_stack:    .skip STACK_SIZE
boot_stack_top:
