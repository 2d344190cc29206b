/*
 * What a machine check means: pure.
 *
 *   corrected                       the hardware has repaired it                        go on
 *   context lost (PCC)              registers or caches of this CPU are not to be trusted    stop
 *   uncorrected, S and AR known:
 *     not signaled, or no action    bad data was found that nobody has used yet         go on
 *     action                        the interrupted context used it: a guest dies, Krypton stops
 *   uncorrected, nothing known      stop
 *   RIPV clear                      the interrupted context cannot be resumed: a guest dies, Krypton stops
 *
 * A lost report (overflow) of an uncorrected error counts as unknown.
 */
#include "x86/mce.h"

enum mce_verdict mce_judge_bank(uint64_t cap, uint64_t status, bool from_guest)
{
    if (!(status & MCI_VALID))
        return MCE_CONTINUE;
    if (status & MCI_CONTEXT_LOST)
        return MCE_PANIC;
    if (!(status & MCI_UNCORRECTED))
        return MCE_CONTINUE;
    if (!(cap & MCG_CAP_SER_P) || status & MCI_OVERFLOW)
        return MCE_PANIC;
    if (!(status & MCI_SIGNALED) || !(status & MCI_ACTION))
        return MCE_CONTINUE;
    return from_guest ? MCE_KILL_GUEST : MCE_PANIC;
}

enum mce_verdict mce_judge(uint64_t mcg_status, enum mce_verdict worst, bool from_guest)
{
    if (mcg_status & MCG_RIPV || worst == MCE_PANIC)
        return worst;
    return from_guest ? MCE_KILL_GUEST : MCE_PANIC;
}
