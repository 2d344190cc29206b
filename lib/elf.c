/*
 * ELF parser (include/lib/elf.h; System V ABI chapters 4 and 5, notes as in the gABI).
 *
 * Invariants
 *  1. Every byte read lies in [data, data + size); range() is the only way to an offset from the file.
 *  2. What elf_open accepted has header tables that lie wholly inside the buffer, so that the accessors need
 * to check only what the headers say.
 *  3. Sums of file-supplied numbers are formed only after the check that they cannot wrap.
 */
#include "lib/elf.h"
#include "lib/string.h"

static uint64_t get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes--)
        v = v << 8 | p[bytes];
    return v;
}

/* The n bytes at off, or NULL if they are not all in the file. */
static const uint8_t *range(const struct elf *e, uint64_t off, uint64_t n)
{
    return off <= e->size && n <= e->size - off ? e->data + off : NULL;
}

static bool fail(const char **why, const char *reason)
{
    if (why)
        *why = reason;
    return false;
}

static void read_header(struct elf *e)
{
    const uint8_t *h = e->data;
    unsigned w = e->is64 ? 8 : 4; /* size of an address */
    const uint8_t *t = h + 24 + 3 * w + 4;

    e->type = (uint16_t)get(h + 16, 2);
    e->machine = (uint16_t)get(h + 18, 2);
    e->entry = get(h + 24, w);
    e->phoff = get(h + 24 + w, w);
    e->shoff = get(h + 24 + 2 * w, w);
    e->phentsize = (uint32_t)get(t + 2, 2);
    e->phnum = (uint32_t)get(t + 4, 2);
    e->shentsize = (uint32_t)get(t + 6, 2);
    e->shnum = (uint32_t)get(t + 8, 2);
    e->shstrndx = (uint32_t)get(t + 10, 2);
}

bool elf_open(struct elf *e, const void *data, size_t size, const char **why)
{
    const uint8_t *h = data;

    *e = (struct elf){.data = data, .size = size};
    if (size < 52 || memcmp(h, "\177ELF", 4))
        return fail(why, "not an ELF file");
    if (h[4] != 1 && h[4] != 2)
        return fail(why, "unknown ELF class");
    if (h[5] != 1)
        return fail(why, "not a little-endian ELF file");
    e->is64 = h[4] == 2;
    if (e->is64 && size < 64)
        return fail(why, "truncated ELF header");
    read_header(e);
    if (e->phnum && e->phentsize < (e->is64 ? 56u : 32u))
        return fail(why, "ELF program headers are too short");
    if (e->shnum && e->shentsize < (e->is64 ? 64u : 40u))
        return fail(why, "ELF section headers are too short");
    if (!range(e, e->phoff, (uint64_t)e->phnum * e->phentsize))
        return fail(why, "ELF program headers are outside the file");
    /* Sections are optional: a stripped or truncated table is as good as none. */
    if (!range(e, e->shoff, (uint64_t)e->shnum * e->shentsize))
        e->shnum = 0;
    return true;
}

bool elf_segment(const struct elf *e, uint32_t i, struct elf_segment *out)
{
    const uint8_t *p;

    if (i >= e->phnum)
        return false;
    p = e->data + e->phoff + (uint64_t)i * e->phentsize;
    if (e->is64)
        *out = (struct elf_segment){.type = (uint32_t)get(p, 4),
                                    .flags = (uint32_t)get(p + 4, 4),
                                    .offset = get(p + 8, 8),
                                    .vaddr = get(p + 16, 8),
                                    .paddr = get(p + 24, 8),
                                    .filesz = get(p + 32, 8),
                                    .memsz = get(p + 40, 8),
                                    .align = get(p + 48, 8)};
    else
        *out = (struct elf_segment){.type = (uint32_t)get(p, 4),
                                    .offset = get(p + 4, 4),
                                    .vaddr = get(p + 8, 4),
                                    .paddr = get(p + 12, 4),
                                    .filesz = get(p + 16, 4),
                                    .memsz = get(p + 20, 4),
                                    .flags = (uint32_t)get(p + 24, 4),
                                    .align = get(p + 28, 4)};
    return range(e, out->offset, out->filesz) != NULL;
}

bool elf_section(const struct elf *e, uint32_t i, struct elf_section *out)
{
    const uint8_t *p;
    unsigned w = e->is64 ? 8 : 4;

    if (i >= e->shnum)
        return false;
    p = e->data + e->shoff + (uint64_t)i * e->shentsize;
    *out = (struct elf_section){.name = (uint32_t)get(p, 4), .type = (uint32_t)get(p + 4, 4)};
    out->flags = get(p + 8, w);
    out->addr = get(p + 8 + w, w);
    out->offset = get(p + 8 + 2 * w, w);
    out->size = get(p + 8 + 3 * w, w);
    out->link = (uint32_t)get(p + 8 + 4 * w, 4);
    out->info = (uint32_t)get(p + 12 + 4 * w, 4);
    out->entsize = get(p + 16 + 5 * w, w);
    return out->type == ELF_SHT_NOBITS || range(e, out->offset, out->size) != NULL;
}

bool elf_load_range(const struct elf *e, bool physical, uint64_t *low, uint64_t *high)
{
    uint64_t lo = ~0ull, hi = 0;

    for (uint32_t i = 0; i < e->phnum; i++) {
        struct elf_segment s;
        uint64_t at, end;
        bool inside = elf_segment(e, i, &s);

        if (s.type != ELF_PT_LOAD || !s.memsz)
            continue;
        at = physical ? s.paddr : s.vaddr;
        if (!inside || s.filesz > s.memsz || __builtin_add_overflow(at, s.memsz, &end))
            return false;
        lo = at < lo ? at : lo;
        hi = end > hi ? end : hi;
    }
    *low = lo;
    *high = hi;
    return hi > lo;
}

/* The cursor's area of notes: false when it is past the last one; size 0 when this index holds none. */
static bool note_area(const struct elf *e, const struct elf_note_cursor *c, uint64_t *off, uint64_t *size)
{
    struct elf_segment seg;
    struct elf_section sec;

    *off = *size = 0;
    if (c->phase == 0) {
        if (c->index >= e->phnum)
            return false;
        if (elf_segment(e, c->index, &seg) && seg.type == ELF_PT_NOTE) {
            *off = seg.offset;
            *size = seg.filesz;
        }
        return true;
    }
    if (c->index >= e->shnum)
        return false;
    if (elf_section(e, c->index, &sec) && sec.type == ELF_SHT_NOTE) {
        *off = sec.offset;
        *size = sec.size;
    }
    return true;
}

/* Note at the cursor inside an area; false when no whole note is left. Names and descriptions are padded
 * to 4. */
static bool note_at(const struct elf *e, uint64_t off, uint64_t size, struct elf_note_cursor *c,
                    struct elf_note *out)
{
    uint64_t left = size - c->offset, name_len, total;
    const uint8_t *p = e->data + off + c->offset;

    if (c->offset > size || left < 12)
        return false;
    out->namesz = (uint32_t)get(p, 4);
    out->descsz = (uint32_t)get(p + 4, 4);
    out->type = (uint32_t)get(p + 8, 4);
    name_len = ((uint64_t)out->namesz + 3) & ~3ull;
    if (12 + name_len + out->descsz > left)
        return false;
    total = 12 + name_len + (((uint64_t)out->descsz + 3) & ~3ull);
    out->name = (const char *)p + 12;
    out->desc = p + 12 + name_len;
    c->offset += total < left ? total : left;
    return true;
}

bool elf_note_next(const struct elf *e, struct elf_note_cursor *c, struct elf_note *out)
{
    uint64_t off, size;

    for (; c->phase < 2; c->phase++, c->index = 0) {
        for (; note_area(e, c, &off, &size); c->index++, c->offset = 0)
            if (note_at(e, off, size, c, out)) {
                c->any = true;
                return true;
            }
        /* Sections only say what the segments say too. */
        if (c->any)
            return false;
    }
    return false;
}

bool elf_note_find(const struct elf *e, const char *name, uint32_t type, struct elf_note *out)
{
    struct elf_note_cursor c = {0};
    size_t n = strlen(name) + 1;

    while (elf_note_next(e, &c, out))
        if (out->type == type && out->namesz == n && !memcmp(out->name, name, n))
            return true;
    return false;
}

bool elf_note_number(const struct elf_note *n, uint64_t *out)
{
    if (n->descsz != 1 && n->descsz != 2 && n->descsz != 4 && n->descsz != 8)
        return false;
    *out = get(n->desc, n->descsz);
    return true;
}

const char *elf_note_string(const struct elf_note *n)
{
    const char *s = n->desc;

    return strnlen(s, n->descsz) < n->descsz ? s : NULL;
}
