/* Which descriptors a guest's GDT or LDT may hold (SDM vol. 3 3.4.5, 3.5; APM vol. 2 4.7, 4.8). Pure. */
#include "x86/pv.h"

#define DESC_TYPE(d) ((unsigned)((d) >> 40) & 15)
#define DESC_S       (1ull << 44)
#define DESC_DPL(d)  ((unsigned)((d) >> 45) & 3)
#define DESC_P       (1ull << 47)
#define GUEST_RING   3

/*
 * Not present: anything. Code and data: only for the guest's ring. System descriptors: none, for a gate can
 * name a code segment of Krypton's, a TSS or LDT descriptor can name any memory. Type 0 is no descriptor for
 * the processor.
 */
bool pv_descriptor_ok(uint64_t d)
{
    if (!(d & DESC_P))
        return true;
    if (!(d & DESC_S))
        return DESC_TYPE(d) == 0;
    return DESC_DPL(d) == GUEST_RING;
}
