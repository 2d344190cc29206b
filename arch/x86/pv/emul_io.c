/*
 * Port access of PV guests.
 *
 * Two questions, in this order: does the guest's own kernel allow it (IOPL, I/O bitmap: else #GP for the
 * guest), and does Krypton allow it (rights of the domain: else reads give ones and writes vanish, as on a
 * bus where nobody answers).
 *
 * PCI configuration mechanism 1 (the hardware domain's): port 0xcf8 is a latch of the domain, so that Krypton's own accesses and
 * those of the guest's other vCPUs' never mix in the hardware's.
 */
#include "private.h"
#include "x86/platform.h"

#define CF8        0xcf8
#define CFC        0xcfc
#define CF8_ENABLE (1u << 31)

static bool bitmap_allows(struct vcpu *v, uint16_t port, unsigned bytes)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    uint16_t bits = 0;
    unsigned last = (port + bytes - 1) / 8, first = port / 8;

    if (!pv->iobmp.a || (unsigned)port + bytes > pv->iobmp_ports)
        return false;
    if (!pv_copy_in_kernel(v, &bits, GVA(pv->iobmp.a + first), last - first + 1))
        return false;
    return !(bits >> (port % 8) & ((1u << bytes) - 1));
}

bool pv_port_permitted(struct vcpu *v, uint16_t port, unsigned bytes)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    unsigned kernel_level = v->domain->vm_assist & (1ull << VMASST_TYPE_architectural_iopl) ? 0 : 1;

    if (pv->iopl >= (pv->kernel_mode ? kernel_level : 3))
        return (unsigned)port + bytes <= 0x10000;
    return bitmap_allows(v, port, bytes);
}

static uint32_t all_ones(unsigned bytes)
{
    return bytes == 4 ? ~0u : (1u << 8 * bytes) - 1;
}

/* Register number of a mechanism-1 access: bits 24-27 of the address are AMD's extension. */
static uint16_t config_register(uint32_t cf8, uint16_t port)
{
    return (uint16_t)((cf8 & 0xfc) | (port & 3) | (cf8 >> 24 & 0xf) << 8);
}

static uint32_t config_read(struct x86_domain *d, uint16_t port, unsigned bytes)
{
    uint32_t cf8 = __atomic_load_n(&d->pci_cf8, __ATOMIC_RELAXED);

    if (!(cf8 & CF8_ENABLE) || (port & 3) + bytes > 4)
        return all_ones(bytes);
    return pci_read(0, cf8 >> 16 & 0xff, cf8 >> 11 & 0x1f, cf8 >> 8 & 7, config_register(cf8, port), bytes);
}

static void config_write(struct x86_domain *d, uint16_t port, unsigned bytes, uint32_t value)
{
    uint32_t cf8 = __atomic_load_n(&d->pci_cf8, __ATOMIC_RELAXED);

    if ((cf8 & CF8_ENABLE) && (port & 3) + bytes <= 4)
        pci_write(0, cf8 >> 16 & 0xff, cf8 >> 11 & 0x1f, cf8 >> 8 & 7, config_register(cf8, port), bytes,
                  value);
}

uint32_t pv_port_read(struct vcpu *v, uint16_t port, unsigned bytes)
{
    struct domain *d = v->domain;

    if (d->hardware && port == CF8 && bytes == 4)
        return __atomic_load_n(&x86_domain(d)->pci_cf8, __ATOMIC_RELAXED);
    if ((port & ~3) == CFC)
        return d->hardware ? config_read(x86_domain(d), port, bytes) : all_ones(bytes);
    if (!port_allowed(d, port, bytes))
        return all_ones(bytes);
    return port_in(port, bytes);
}

void pv_port_write(struct vcpu *v, uint16_t port, unsigned bytes, uint32_t value)
{
    struct domain *d = v->domain;

    if (d->hardware && port == CF8 && bytes == 4)
        __atomic_store_n(&x86_domain(d)->pci_cf8, value, __ATOMIC_RELAXED);
    else if (d->hardware && (port & ~3) == CFC)
        config_write(x86_domain(d), port, bytes, value);
    else if ((port & ~3) != CFC && port_allowed(d, port, bytes))
        port_out(port, bytes, value);
}
