/* Fuzz target: ELF files. All that is returned lies inside the file. */
#include "fake.h"
#include "lib/elf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(const struct elf *e, const void *p, uint64_t n)
{
    const uint8_t *b = p;

    BUG_ON(n && (b < e->data || b > e->data + e->size || n > (uint64_t)(e->data + e->size - b)));
}

static void notes(const struct elf *e)
{
    struct elf_note_cursor c = {0};
    struct elf_note n;
    uint64_t value;

    for (unsigned i = 0; elf_note_next(e, &c, &n); i++) {
        BUG_ON(i > e->size + 8); /* each takes room in the file */
        inside(e, n.name, n.namesz);
        inside(e, n.desc, n.descsz);
        (void)elf_note_number(&n, &value);
        if (elf_note_string(&n))
            BUG_ON(strlen(elf_note_string(&n)) >= n.descsz);
    }
    (void)elf_note_find(e, "Xen", 1, &n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    struct elf_segment s;
    struct elf_section x;
    uint64_t low, high;
    const char *why;
    struct elf e;

    memcpy(copy, data, size);
    if (elf_open(&e, copy, size, &why)) {
        for (uint32_t i = 0; i <= MIN(e.phnum, 64u); i++)
            if (elf_segment(&e, i, &s))
                inside(&e, e.data + s.offset, s.filesz);
        for (uint32_t i = 0; i <= MIN(e.shnum, 64u); i++)
            if (elf_section(&e, i, &x) && x.type != ELF_SHT_NOBITS)
                inside(&e, e.data + x.offset, x.size);
        for (int physical = 0; physical < 2; physical++)
            if (elf_load_range(&e, physical, &low, &high))
                BUG_ON(low > high);
        notes(&e);
    } else {
        BUG_ON(!why);
    }
    free(copy);
    return 0;
}
