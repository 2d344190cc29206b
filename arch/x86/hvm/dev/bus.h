/*
 * Accesses of HVM guests to what is no memory, and the devices that Krypton itself has for them: arch/x86/hvm/dev/bus.c. One way for
 * all of them, arch/x86/hvm/access.c: Krypton's devices in the order of this table, then device models, then nothing (all ones).
 */
#ifndef HVM_BUS_H
#define HVM_BUS_H

#include "core/types.h"

struct vcpu;
struct domain;

enum hvm_space { HVM_PORT, HVM_MEMORY };

/* One access, made by the current vCPU. */
struct hvm_access {
    uint64_t address; /* port, guest-physical address */
    uint64_t value;   /* write: no bits beyond the bytes; read: the device's answer */
    uint8_t space;    /* enum hvm_space */
    uint8_t bytes;    /* 1, 2, 4, 8; ports 1, 2, 4 */
    bool write;
    /* Only for device models: so many at once, at a port or at memory addresses going up or down. */
    bool down, pointer; /* pointer: value is the guest-physical address where the data are or go to */
    bool nobody;        /* afterwards: there is none for a pointer, the elements are accessed one by one */
    uint32_t count;     /* 0 is taken as 1 */
};

struct hvm_device {
    const char *name;
    enum hvm_space space;
    uint64_t first, last; /* asked only for accesses that lie wholly inside */
    /* Does all of the access, and answers for all bytes of a read. False: not there now (switched off, moved): the next one is asked. */
    bool (*access)(struct vcpu *v, struct hvm_access *a);
};

#define HVM_BUS_MAX 24u
struct hvm_bus { /* in struct hvm_domain */
    unsigned count;
    const struct hvm_device *device[HVM_BUS_MAX]; /* [c] once the domain has run */
};

/* While the domain is being made. Panics when the table is full: it is as long as Krypton has devices. */
void hvm_bus_add(struct domain *d, const struct hvm_device *dev);
/* Could a device of Krypton's be asked for one of these addresses? */
bool hvm_bus_near(const struct domain *d, enum hvm_space space, uint64_t first, uint64_t last);
/* False: no device of Krypton's is there. */
bool hvm_bus_access(struct vcpu *v, struct hvm_access *a);

extern const struct hvm_device vlapic_device, text_device;

#endif
