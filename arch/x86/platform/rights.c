/*
 * Device rights: which ports and memory-mapped registers a domain may touch. The hardware domain begins with
 * everything that is neither RAM nor Krypton's own; other domains begin with nothing and get what the
 * toolstack grants (domctl ioport_permission, iomem_permission).
 *
 * Invariants
 *  1. A reserved range stays reserved, whatever a domain's sets say.
 *  2. Reserved ranges are only added before the hardware domain runs: readers need no lock.
 *  3. Nobody gives a right that it has not itself.
 * Locks: those of the sets.
 */
#include "../metal/asm.h"
#include "core/frame.h"
#include "core/log.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/vcpu.h"

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

/* Locks of the sets are taken for reading, too. */
static struct x86_domain *rights_of(const struct domain *d)
{
    return (struct x86_domain *)(uintptr_t)d;
}

/* First frame number beyond what the processor can address. */
static uint64_t frame_limit(void)
{
    return 1ull << (cpu_features.phys_bits - FRAME_SHIFT);
}

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

/* --- whose --- */

int rights_domain_init(struct domain *d)
{
    struct x86_domain *x = x86_domain(d);
    int r = 0;

    rangeset_init(&x->ports);
    rangeset_init(&x->iomem);
    if (!d->hardware)
        return 0;
    x->devices = true;
    r = rangeset_add(&x->ports, 0, 0xffff);
    return r ? r : rangeset_add(&x->iomem, 0, frame_limit() - 1);
}

void rights_domain_free(struct domain *d)
{
    rangeset_destroy(&x86_domain(d)->ports);
    rangeset_destroy(&x86_domain(d)->iomem);
}

static bool ports_reserved(unsigned first, unsigned last)
{
    for (unsigned i = 0; i < port_taken_count; i++)
        if (first <= port_taken[i].last && last >= port_taken[i].first)
            return true;
    return false;
}

static bool iomem_reserved(uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < mem_taken_count; i++)
        if (first <= mem_taken[i].last && last >= mem_taken[i].first)
            return true;
    return false;
}

bool port_allowed(const struct domain *d, uint16_t port, unsigned bytes)
{
    unsigned last = port + bytes - 1;

    if (!bytes || bytes > 4 || last > 0xffff || rangeset_empty(&rights_of(d)->ports))
        return false;
    /* Configuration space goes through the emulation: the address register is visible to 4-byte accesses
     * only, 0xcf9 is the reset register. */
    if ((port == PCI_ADDRESS && bytes == 4) || (last >= PCI_DATA && port < PCI_DATA + 4))
        return false;
    return !ports_reserved(port, last) && rangeset_contains(&rights_of(d)->ports, port, last);
}

bool iomem_allowed(const struct domain *d, mfn_t m)
{
    if (d->system || m.n >= frame_limit() || mfn_valid(m) || rangeset_empty(&rights_of(d)->iomem))
        return false;
    return !iomem_reserved(m.n, m.n) && rangeset_contains(&rights_of(d)->iomem, m.n, m.n);
}

/* --- giving and taking --- */

static int change(struct rangeset *s, uint64_t first, uint64_t last, bool allow)
{
    return allow ? rangeset_add(s, first, last) : rangeset_remove(s, first, last);
}

int rights_set_ports(struct domain *d, const struct domain *by, uint32_t first, uint32_t count, bool allow)
{
    uint32_t last = first + count - 1;

    if (!count || last < first || last > 0xffff)
        return -EINVAL;
    /* Configuration space is the hardware domain's, and with it the reset register. */
    if (first <= PCI_DATA + 3 && last >= PCI_ADDRESS)
        return -EPERM;
    if (ports_reserved(first, last) || !rangeset_contains(&rights_of(by)->ports, first, last))
        return -EPERM;
    return change(&x86_domain(d)->ports, first, last, allow);
}

int rights_set_iomem(struct domain *d, const struct domain *by, uint64_t first, uint64_t count, bool allow)
{
    uint64_t last = first + count - 1;
    int r;

    if (!count || last < first || last >= frame_limit())
        return -EINVAL;
    if (iomem_reserved(first, last) || !rangeset_contains(&rights_of(by)->iomem, first, last))
        return -EPERM;
    r = change(&x86_domain(d)->iomem, first, last, allow);
    if (!r && allow)
        __atomic_store_n(&x86_domain(d)->devices, true, __ATOMIC_RELAXED);
    return r;
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
