/* Between the files of arch/x86/control only. */
#ifndef X86_CONTROL_PRIVATE_H
#define X86_CONTROL_PRIVATE_H

#include "core/control.h"
#include "core/domain.h"

/* domctl.c's rows in other files; each gets the decoded operation. */
long control_getvcpucontext(struct domctl *c);

#endif
