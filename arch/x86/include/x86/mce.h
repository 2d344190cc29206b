/* Machine checks: what a report of the hardware means (arch/x86/policy/mce.c, pure), and who looks for such reports
 * (arch/x86/platform/mce.c). */
#ifndef X86_MCE_H
#define X86_MCE_H

#include "core/types.h"

struct guest_regs;

/* IA32_MCG_CAP, IA32_MCG_STATUS, IA32_MCi_STATUS (Intel SDM vol. 3 17.3, AMD APM vol. 2 9.3). */
#define MCG_CAP_COUNT(x) ((unsigned)((x)&0xff))
#define MCG_CAP_CTL_P    (1ull << 8)
#define MCG_CAP_SER_P    (1ull << 24) /* S and AR say whether and when software must act */
#define MCG_RIPV         (1ull << 0)  /* the interrupted context can be resumed */
#define MCI_VALID        (1ull << 63)
#define MCI_OVERFLOW     (1ull << 62)
#define MCI_UNCORRECTED  (1ull << 61)
#define MCI_MISC_VALID   (1ull << 59)
#define MCI_ADDR_VALID   (1ull << 58)
#define MCI_CONTEXT_LOST (1ull << 57)
#define MCI_SIGNALED     (1ull << 56) /* SER_P: by this machine check */
#define MCI_ACTION       (1ull << 55) /* SER_P: the interrupted context used the bad data */

enum mce_verdict {
    MCE_CONTINUE,   /* nothing is lost: log it, tell the hardware domain */
    MCE_KILL_GUEST, /* the guest that ran has used bad data, or cannot be resumed; Krypton is unharmed */
    MCE_PANIC,
};
/* What one bank's report means for who was interrupted. */
enum mce_verdict mce_judge_bank(uint64_t cap, uint64_t status, bool from_guest);
/* And the global status, of a machine check exception whose banks gave `worst`. */
enum mce_verdict mce_judge(uint64_t mcg_status, enum mce_verdict worst, bool from_guest);

/* --- policy/mce_log.c: reports for the hardware domain; all lock-free, any context */
#define MCE_LOG_PLACES 32u
struct mce_report {
    uint64_t id;    /* given by mce_log_put */
    bool urgent;    /* by exception; else found by looking */
    uint32_t flags; /* MC_FLAG_* */
    uint32_t cpu;   /* that found it */
    uint16_t bank;
    uint16_t domid;  /* who ran, DOMID_INVALID: not known */
    uint16_t vcpuid; /* XEN_MC_VCPUID_INVALID: not known */
    uint64_t mcg_status, status, addr, misc, tsc;
};
/* False: no place left, the report is not kept. */
bool mce_log_put(const struct mce_report *r);
/* The oldest of its class that nobody has fetched; it waits for ack, or is put back for the next fetch. */
bool must_check mce_log_fetch(bool urgent, struct mce_report *out);
bool mce_log_ack(bool urgent, uint64_t id); /* false: no such report was fetched */
bool mce_log_put_back(bool urgent, uint64_t id);

/* #MC, on this CPU. Does not return if the machine cannot go on. */
void mce_exception(const struct guest_regs *r, bool from_guest);
/* Each CPU: reporting on in all banks. Then, once: looking for corrected errors now and then. */
void mce_init_cpu(void);
void mce_init(void);

#endif
