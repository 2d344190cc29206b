/*
 * The image: linked at IMAGE_VIRT + physical address, loaded at IMAGE_LOAD_PA. Sections are whole pages of one right each
 * (mm_init maps them so). .ksyms comes after everything executable: the second link, which fills it, moves no function.
 */
#include "x86/layout.h"

OUTPUT_FORMAT("elf64-x86-64")
OUTPUT_ARCH(i386:x86-64)
ENTRY(entry_multiboot)

PHDRS
{
    load PT_LOAD FLAGS(7);
    note PT_NOTE FLAGS(4);
}

SECTIONS
{
    . = IMAGE_VIRT + IMAGE_LOAD_PA;
    image_start = .;
    .text : AT(ADDR(.text) - IMAGE_VIRT) {
        *(.head)
        . = ALIGN(4096);
        stubs_page = .;
        entry_text = .;
        KEEP(*(.text.stubs))
        *(.text.entry)
        . = ALIGN(4096);
        entry_text_end = .;
        *(.text .text.*)
        . = ALIGN(4096);
    } :load
    text_end = .;
    .rodata : AT(ADDR(.rodata) - IMAGE_VIRT) {
        *(.rodata .rodata.*)
        . = ALIGN(8);
        __start_krypton_params = .;
        KEEP(*(krypton_params))
        __stop_krypton_params = .;
        . = ALIGN(8);
        __start_krypton_extable = .;
        KEEP(*(krypton_extable))
        __stop_krypton_extable = .;
        __start_krypton_smap = .;
        KEEP(*(krypton_smap))
        __stop_krypton_smap = .;
        __start_krypton_spec = .;
        KEEP(*(krypton_spec))
        __stop_krypton_spec = .;
        *(.data.rel.ro .data.rel.ro.*)
        /* Constructors of the decompression libraries: start.c runs them. */
        . = ALIGN(8);
        __init_array_start = .;
        KEEP(*(.init_array .init_array.*))
        __init_array_end = .;
    } :load
    .note : AT(ADDR(.note) - IMAGE_VIRT) {
        KEEP(*(.note.pvh))
    } :load :note
    .ksyms : AT(ADDR(.ksyms) - IMAGE_VIRT) {
        KEEP(*(.ksyms))
        . = ALIGN(4096);
    } :load
    rodata_end = .;
    .data : AT(ADDR(.data) - IMAGE_VIRT) {
        /* Written while booting, read-only from mm_protect() on. */
        ro_after_init = .;
        *(.data.ro_after_init)
        . = ALIGN(4096);
        ro_after_init_end = .;
        *(.data.page_aligned)
        *(.got .got.plt)
        *(.data .data.*)
        . = ALIGN(64);
    } :load
    .bss (NOLOAD) : AT(ADDR(.bss) - IMAGE_VIRT) {
        *(.bss.stack)
        *(.bss.page_aligned)
        *(.bss .bss.* COMMON)
        . = ALIGN(4096);
        /* Of use until dom0 runs; its frames go to the allocator then. */
        init_bss = .;
        *(.bss.init)
        . = ALIGN(4096);
        init_bss_end = .;
    } :load
    image_end = .;

    .debug_abbrev 0 : { *(.debug_abbrev) }
    .debug_addr 0 : { *(.debug_addr) }
    .debug_aranges 0 : { *(.debug_aranges) }
    .debug_frame 0 : { *(.debug_frame) }
    .debug_info 0 : { *(.debug_info .gnu.linkonce.wi.*) }
    .debug_line 0 : { *(.debug_line .debug_line.*) }
    .debug_line_str 0 : { *(.debug_line_str) }
    .debug_loclists 0 : { *(.debug_loclists) }
    .debug_rnglists 0 : { *(.debug_rnglists) }
    .debug_str 0 : { *(.debug_str) }
    .debug_str_offsets 0 : { *(.debug_str_offsets) }

    /* Must be empty: nothing is relocated when Krypton starts. */
    .rela.all : { *(.rela .rela.* .plt .iplt .igot.plt) }
    ASSERT(SIZEOF(.rela.all) == 0, "the image has relocations")

    /DISCARD/ : { *(.comment) *(.llvm_addrsig) *(.note.GNU-stack) *(.note.gnu.*) *(.eh_frame) *(.eh_frame_hdr) *(.interp) *(.dynamic) }
    ASSERT(image_end - image_start < 0x1000000, "the image must fit the boot page tables and the area below 16 MiB + 2 MiB")
}
