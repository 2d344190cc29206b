/* Between the files of arch/x86/hvm/narrow. */
#ifndef HVM_NARROW_PRIVATE_H
#define HVM_NARROW_PRIVATE_H

#include "layout.h"
#include "narrow.h"
#include "core/abi.h"
#include "core/hypercall.h"
#include "core/memory_op.h"

/* The guest's call with argument `at` pointing to `bytes` at `translated`. */
long narrow_native(struct narrow *n, struct hypercall *hc, unsigned at, void *translated, size_t bytes);
/* The address at which a handler finds what lies `offset` behind `translated`. */
void *narrow_address(size_t offset);

/* --- lists.c --- */
long narrow_reservation(struct narrow *n);
long narrow_physmap_batch(struct narrow *n);
long narrow_multicall(struct narrow *n);

/* --- grant.c --- */
long narrow_setup_table(struct narrow *n);
long narrow_status_frames(struct narrow *n);
long narrow_grant_copy(struct narrow *n);

#endif
