/*
 * Which of Krypton's own devices an access is for. The table is a handful of entries, looked through in its order: those that are used
 * most are added first.
 */
#include "bus.h"
#include "core/console_io.h"
#include "core/log.h"
#include "x86/hvm.h"

#define PORT_TEXT 0xe9

void hvm_bus_add(struct domain *d, const struct hvm_device *dev)
{
    struct hvm_bus *b = hvm_domain(d)->bus;

    BUG_ON(b->count == HVM_BUS_MAX || dev->first > dev->last);
    b->device[b->count++] = dev;
}

bool hvm_bus_near(const struct domain *d, enum hvm_space space, uint64_t first, uint64_t last)
{
    const struct hvm_bus *b = hvm_domain(d)->bus;

    for (unsigned i = 0; i < b->count; i++)
        if (b->device[i]->space == space && b->device[i]->first <= last && first <= b->device[i]->last)
            return true;
    return false;
}

bool hvm_bus_access(struct vcpu *v, struct hvm_access *a)
{
    const struct hvm_bus *b = hvm_domain(v->domain)->bus;

    for (unsigned i = 0; i < b->count; i++) {
        const struct hvm_device *dev = b->device[i];

        if (dev->space != a->space || a->address < dev->first || a->address > dev->last ||
            dev->last - a->address < a->bytes - 1u)
            continue;
        if (dev->access(v, a))
            return true;
    }
    return false;
}

/* --- where early code of many systems writes text: it goes where CONSOLEIO_write's goes --- */

static bool text(struct vcpu *v, struct hvm_access *a)
{
    const char c = (char)a->value;

    if (a->write)
        console_guest_text(v->domain, &c, 1);
    else
        a->value = ~0ull;
    return true;
}

const struct hvm_device text_device = {"text", HVM_PORT, PORT_TEXT, PORT_TEXT, text};
