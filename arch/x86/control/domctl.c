/*
 * domctl's rows that only x86 can answer.
 */
#include "arch/control.h"
#include "core/control.h"
#include "core/domain.h"

long arch_domctl(struct hypercall *hc)
{
    return -ENOSYS;
}
