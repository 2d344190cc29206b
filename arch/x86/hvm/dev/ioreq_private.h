/* Between ioreq_server.c and ioreq_send.c. */
#ifndef HVM_IOREQ_PRIVATE_H
#define HVM_IOREQ_PRIVATE_H

#include "ioreq.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/rangeset.h"
#include "x86/hvm.h"
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/params.h>

#define RANGE_TYPES 3u /* XEN_DMOP_IO_RANGE_* */
#define NO_GFN      (~0ull)

/* A page that Krypton shares with a device model: hostile. */
struct ioreq_page {
    void *va;     /* NULL: none yet */
    mfn_t mfn;    /* referenced */
    uint64_t gfn; /* where the guest had it; NO_GFN: it never did */
    bool hidden;  /* taken out of the guest's sight */
};

struct ioreq_server {
    uint64_t serial; /* changes with each enabling and disabling */
    did_t emulator;
    uint8_t buffering; /* HVM_IOREQSRV_BUFIOREQ_* */
    bool enabled;
    struct ioreq_page sync, ring;
    struct spinlock ring_lock; /* RANK_IOREQ_RING: its pointers */
    port_t ring_port;
    port_t *port; /* [max_vcpus] 0: none yet */
    struct rangeset range[RANGE_TYPES];
};

struct hvm_ioreq {
    struct spinlock lock; /* RANK_IOREQ */
    uint64_t serial;
    uint32_t gfns_used;   /* bit per page from HVM_PARAM_IOREQ_SERVER_PFN on */
    int memory_server;    /* for writes to P2M_RAM_DM; -1: none */
    uint32_t pci_address; /* [a] what was written to port 0xcf8 last */
    struct ioreq_server *server[IOREQ_SERVERS];
};

static inline struct hvm_ioreq *ioreq_of(const struct domain *d)
{
    return __atomic_load_n(&hvm_domain(d)->ioreq, __ATOMIC_ACQUIRE);
}

#endif
