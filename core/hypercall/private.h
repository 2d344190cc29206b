/* Inside core/hypercall only. */
#ifndef CORE_HYPERCALL_PRIVATE_H
#define CORE_HYPERCALL_PRIVATE_H

#include "core/hypercall.h"

long do_multicall(struct hypercall *hc);
extern const struct hc_op version_ops[];
extern const unsigned version_op_count;

#endif
