/*
 * The machine's memory map, made trustworthy (pure: host-tested). Firmware and boot loaders give entries
 * unsorted, overlapping, empty, or wrapping around the end of the address space.
 *
 * Invariants of the result: sorted by address, disjoint, no empty entry, neighbours of the same type merged,
 * types 1-5. A byte claimed by several entries gets the most restrictive type: RAM only if nobody says
 * otherwise.
 */
#include "private.h"

#define MAP_END (1ull << 52) /* x86 physical addresses have at most 52 bits */

const char *e820_type_name(uint32_t type)
{
    static const char *const names[] = {"unknown", "usable", "reserved", "ACPI data", "ACPI NVS", "unusable"};

    return type < ARRAY_SIZE(names) ? names[type] : names[0];
}

/* Higher wins. */
static unsigned severity(uint32_t type)
{
    switch (type) {
    case E820_RAM:
        return 1;
    case E820_ACPI:
        return 2;
    case E820_NVS:
        return 3;
    case E820_UNUSABLE:
        return 5;
    default:
        return 4;
    }
}

static uint64_t entry_end(const struct e820_entry *e)
{
    uint64_t end = e->addr + e->size;

    return end < e->addr || end > MAP_END ? MAP_END : end;
}

/* The nearest edge above `at`, MAP_END if there is none. */
static uint64_t next_edge(const struct e820_entry *raw, unsigned count, uint64_t at)
{
    uint64_t best = MAP_END;

    for (unsigned i = 0; i < count; i++) {
        if (raw[i].addr > at && raw[i].addr < best)
            best = raw[i].addr;
        if (entry_end(&raw[i]) > at && entry_end(&raw[i]) < best)
            best = entry_end(&raw[i]);
    }
    return best;
}

/* The type at one address, 0 = no entry. */
static uint32_t type_at(const struct e820_entry *raw, unsigned count, uint64_t at)
{
    uint32_t type = 0;

    for (unsigned i = 0; i < count; i++) {
        uint32_t t = raw[i].type >= E820_RAM && raw[i].type <= E820_UNUSABLE ? raw[i].type : E820_RESERVED;

        if (raw[i].addr <= at && at < entry_end(&raw[i]) && (!type || severity(t) > severity(type)))
            type = t;
    }
    return type;
}

unsigned e820_sanitize(const struct e820_entry *raw, unsigned count, struct e820_entry *out, unsigned max)
{
    unsigned n = 0;

    for (uint64_t at = 0; at < MAP_END;) {
        uint64_t end = next_edge(raw, count, at);
        uint32_t type = type_at(raw, count, at);

        if (type && n && out[n - 1].type == type && out[n - 1].addr + out[n - 1].size == at)
            out[n - 1].size += end - at;
        else if (type && n < max)
            out[n++] = (struct e820_entry){at, end - at, type};
        at = end;
    }
    return n;
}

unsigned e820_limit(struct e820_entry *map, unsigned count, uint64_t limit)
{
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        struct e820_entry e = map[i];

        if (limit && e.type == E820_RAM) {
            if (e.addr >= limit)
                continue;
            e.size = MIN(e.size, limit - e.addr);
        }
        map[n++] = e;
    }
    return n;
}

uint64_t e820_ram(const struct e820_entry *map, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++)
        if (map[i].type == E820_RAM)
            sum += map[i].size;
    return sum;
}
