/* The memory_op hypercall's table (xen/memory.h; core/memory/ops.c). */
#ifndef CORE_MEMORY_OP_H
#define CORE_MEMORY_OP_H

#include "core/hypercall.h"

/* The sub-operation is in the low bits of arg[0], the extent to go on with above them. Not in libxen-dev's
 * headers. */
#define MEMOP_EXTENT_SHIFT 6

struct domain;
/* What is at `from` of a translated domain moves to `to`, as XENMAPSPACE_gmfn has it. */
int must_check memory_relocate(struct domain *d, gfn_t from, gfn_t to);

extern const struct hc_op memory_ops[];
extern const unsigned memory_op_count;

#endif
