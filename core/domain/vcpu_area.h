/* Rows of vcpu_ops[] that register memory (vcpu_area.c). */
#ifndef DOMAIN_VCPU_AREA_H
#define DOMAIN_VCPU_AREA_H

#include "core/hypercall.h"

long vcpu_op_runstate_area(struct hypercall *hc);
long vcpu_op_time_area(struct hypercall *hc);
long vcpu_op_vcpu_info(struct hypercall *hc);

#endif
