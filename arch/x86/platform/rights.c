/*
 * Device rights: which ports and memory-mapped registers a domain may touch. The hardware domain has
 * everything that is neither RAM nor Krypton's own; other domains have nothing.
 *
 * Invariants
 *  1. A reserved range stays reserved.
 *  2. Ranges are only added before the hardware domain runs: readers need no lock.
 * Locks: none.
 */
#include "../metal/asm.h"
#include "core/frame.h"
#include "core/log.h"
#include "private.h"
#include "x86/cpu.h"

#define PCI_ADDRESS 0xcf8u
#define PCI_DATA    0xcfcu

static struct {
    uint16_t first, last;
    const char *why;
} port_taken[32];
static unsigned port_taken_count;

static struct {
    uint64_t first, last; /* frame numbers */
    const char *why;
} mem_taken[64];
static unsigned mem_taken_count;

void port_reserve(uint16_t first, uint16_t last, const char *why)
{
    if (port_taken_count == ARRAY_SIZE(port_taken))
        panic("too many reserved port ranges (%s)", why);
    port_taken[port_taken_count].first = first;
    port_taken[port_taken_count].last = last;
    port_taken[port_taken_count].why = why;
    port_taken_count++;
}

void iomem_reserve(maddr_t base, uint64_t bytes, const char *why)
{
    if (mem_taken_count == ARRAY_SIZE(mem_taken))
        panic("too many reserved memory ranges (%s)", why);
    if (!bytes)
        return;
    mem_taken[mem_taken_count].first = base.a >> FRAME_SHIFT;
    mem_taken[mem_taken_count].last = (base.a + bytes - 1) >> FRAME_SHIFT;
    mem_taken[mem_taken_count].why = why;
    mem_taken_count++;
}

bool port_allowed(const struct domain *d, uint16_t port, unsigned bytes)
{
    unsigned last = port + bytes - 1;

    if (!d->hardware || !bytes || bytes > 4 || last > 0xffff)
        return false;
    /* Configuration space goes through the emulation: the address register is visible to 4-byte accesses
     * only, 0xcf9 is the reset register. */
    if ((port == PCI_ADDRESS && bytes == 4) || (last >= PCI_DATA && port < PCI_DATA + 4))
        return false;
    for (unsigned i = 0; i < port_taken_count; i++)
        if (port <= port_taken[i].last && last >= port_taken[i].first)
            return false;
    return true;
}

bool iomem_allowed(const struct domain *d, mfn_t m)
{
    if (!d->hardware || m.n >> (cpu_features.phys_bits - FRAME_SHIFT) || mfn_valid(m))
        return false;
    for (unsigned i = 0; i < mem_taken_count; i++)
        if (m.n >= mem_taken[i].first && m.n <= mem_taken[i].last)
            return false;
    return true;
}

uint32_t port_in(uint16_t port, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return in8(port);
    case 2:
        return in16(port);
    default:
        return in32(port);
    }
}

void port_out(uint16_t port, unsigned bytes, uint32_t value)
{
    switch (bytes) {
    case 1:
        out8(port, (uint8_t)value);
        break;
    case 2:
        out16(port, (uint16_t)value);
        break;
    default:
        out32(port, value);
        break;
    }
}
