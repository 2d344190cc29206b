/*
 * Device models: ioreq servers (xen/hvm/dm_op.h, xen/hvm/ioreq.h). arch/x86/hvm/dev/ioreq_server.c: what they are and what ranges they
 * have; ioreq_send.c: requests and answers. Host-testable.
 */
#ifndef HVM_IOREQ_H
#define HVM_IOREQ_H

#include "bus.h"
#include "core/types.h"

struct domain;
struct vcpu;

#define IOREQ_SERVERS    8u
#define IOREQ_GFNS       8u /* HVM_PARAM_NR_IOREQ_SERVER_PAGES at most */
/*
 * Of one instruction, or one round of a repeated one: two operands of eight bytes, or one of sixteen, each across the end of a page and so
 * in at most four (five) pieces.
 */
#define HVM_ACCESSES_MAX 8u

/* What a vCPU has under way with device models. Its own: nobody else looks. */
struct hvm_io {
    bool sent;    /* a request is with server `server`, as it was at `serial` */
    bool telling; /* ... and is no access of an instruction */
    uint8_t server;
    uint8_t tell;   /* bit per server that is yet to hear that memory has gone (IOREQ_TYPE_INVALIDATE) */
    bool clock_set; /* by the guest, to `clock` seconds from the machine's: yet to be told */
    int64_t clock;
    uint64_t serial;
    struct hvm_access asked;
    /* Accesses that the present instruction has had done, in order; `next` of them the handler has made again so far. */
    uint8_t count, next;
    struct hvm_access done[HVM_ACCESSES_MAX];
};

struct hvm_ioreq; /* in struct hvm_domain; NULL: never had a server */

/* --- requests: v is current --- */

enum ioreq_result {
    IOREQ_NOBODY, /* no server is there for it */
    IOREQ_DONE,   /* a write that waits in a server's ring */
    IOREQ_SENT,   /* v->io waits for the answer */
};
enum ioreq_result ioreq_send(struct vcpu *v, struct hvm_io *io, const struct hvm_access *a);
/* False: not yet. True: io->sent is false again, io->asked.value is the answer (all ones if its server has gone). */
bool ioreq_answered(struct vcpu *v, struct hvm_io *io);
/* All enabled servers are to forget what they know of the guest's memory: ioreq_tell asks the next of them (io->tell). */
void ioreq_invalidate(struct vcpu *v, struct hvm_io *io);
void ioreq_tell(struct vcpu *v, struct hvm_io *io);
/* The guest has set its clock: device models are told how many seconds it is from the machine's, if they have a ring. */
void ioreq_tell_clock(struct vcpu *v, struct hvm_io *io);

bool ioreq_any(const struct domain *d); /* it has, or had, a server */

/* --- servers. d: not the caller's domain. All of them pause it. --- */

int must_check ioreq_create(struct domain *d, did_t emulator, unsigned buffering, uint16_t *id);
int must_check ioreq_destroy(struct domain *d, uint16_t id);
struct ioreq_info {
    uint64_t sync_gfn, buffered_gfn; /* with gfns */
    uint32_t buffered_port;
};
int must_check ioreq_info(struct domain *d, uint16_t id, bool gfns, struct ioreq_info *out);
/* type: XEN_DMOP_IO_RANGE_*. map: the server gets the range, else it gives it up. */
int must_check ioreq_range(struct domain *d, uint16_t id, uint32_t type, uint64_t first, uint64_t last,
                           bool map);
int must_check ioreq_set_state(struct domain *d, uint16_t id, bool enabled);
/* Writes to memory of type HVMMEM_ioreq_server go to this one (id), or to nobody (write false). */
int must_check ioreq_map_memory_type(struct domain *d, uint16_t id, bool write);
bool ioreq_has_memory_server(const struct domain *d);
/* Life: the domain dies, no vCPU of it runs; nobody knows it any more. */
void ioreq_release(struct domain *d);
void ioreq_free(struct domain *d);
void ioreq_check(struct domain *d); /* panics with the broken invariant */

#endif
