/*
 * ELF files (System V ABI, ELF-32 and ELF-64, little endian) in a buffer that may hold anything: every offset
 * is checked against the buffer, nothing is written, nothing is assumed to be aligned or terminated.
 */
#ifndef LIB_ELF_H
#define LIB_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_MACHINE_386    3
#define ELF_MACHINE_X86_64 62
#define ELF_TYPE_EXEC      2
#define ELF_TYPE_DYN       3
#define ELF_PT_LOAD        1
#define ELF_PT_NOTE        4
#define ELF_SHT_SYMTAB     2
#define ELF_SHT_STRTAB     3
#define ELF_SHT_NOTE       7
#define ELF_SHT_NOBITS     8

struct elf {
    const uint8_t *data;
    size_t size;
    bool is64;
    uint16_t machine, type;
    uint64_t entry;
    uint64_t phoff, shoff;
    uint32_t phnum, shnum, phentsize, shentsize, shstrndx;
};
struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
struct elf_section {
    uint32_t name, type, link, info;
    uint64_t flags, addr, offset, size, entsize;
};
struct elf_note {
    uint32_t type;
    const char *name; /* namesz bytes, not necessarily terminated */
    uint32_t namesz;
    const void *desc; /* descsz bytes, any alignment */
    uint32_t descsz;
};

/* False, with a reason in *why, unless the buffer holds an ELF header whose tables lie inside it. */
bool elf_open(struct elf *e, const void *data, size_t size, const char **why);
/* Program / section header i < phnum / shnum. False if its file part is not inside the buffer (or i is too
 * large). */
bool elf_segment(const struct elf *e, uint32_t i, struct elf_segment *out);
bool elf_section(const struct elf *e, uint32_t i, struct elf_section *out);
/* [low, high) of the memory of all PT_LOAD segments, by paddr or vaddr. False if there is none, one is broken
 * (filesz > memsz, outside the file) or addresses wrap. */
bool elf_load_range(const struct elf *e, bool physical, uint64_t *low, uint64_t *high);

/* Notes of the PT_NOTE segments; of the SHT_NOTE sections when no segment has any. Start with a zeroed
 * cursor. */
struct elf_note_cursor {
    uint32_t phase, index;
    uint64_t offset;
    bool any;
};
bool elf_note_next(const struct elf *e, struct elf_note_cursor *c, struct elf_note *out);
/* The first note with this name and type. */
bool elf_note_find(const struct elf *e, const char *name, uint32_t type, struct elf_note *out);
/* A note's value as a number: descsz 1, 2, 4 or 8. */
bool elf_note_number(const struct elf_note *n, uint64_t *out);
/* A note's value as text: terminated inside the description; NULL otherwise. */
const char *elf_note_string(const struct elf_note *n);

#endif
