/* Between the files of arch/x86/control only. */
#ifndef X86_CONTROL_PRIVATE_H
#define X86_CONTROL_PRIVATE_H

#include "core/control.h"
#include "core/domain.h"

/* domctl.c's rows in other files; each gets the decoded operation. */
long control_vcpu(struct domctl *c);
long control_debug(struct domctl *c);
long control_rights(struct domctl *c);
long control_paging(struct domctl *c);
long control_get_cpu_policy(struct domctl *c);
long control_set_cpu_policy(struct domctl *c);

/* sysctl.c's. */
long control_system_cpu_policy(struct sysctl *c);
long control_cpu_featureset(struct sysctl *c);
long control_levelling_caps(struct sysctl *c);

#endif
