/* Between the files of arch/x86/svm. */
#ifndef SVM_PRIVATE_H
#define SVM_PRIVATE_H

#include "vmcb.h"
#include "../hvm/private.h"

struct svm_vcpu {
    struct vmcb *vmcb;   /* [c] */
    uint64_t pa;         /* [c] of it */
    unsigned cpu;        /* where it ran last: the processor there may have kept parts */
    uint32_t clean;      /* SVM_CLEAN_*: unchanged since it ran there */
    uint64_t generation; /* of the ASID: svm/asid.c */
    uint64_t p2m_epoch;  /* struct hvm_domain's when the ASID was taken */
    bool renewed;        /* the last entry was the first with it: it may have asked for a flush */
};

static inline struct svm_vcpu *svm_vcpu(const struct vcpu *v)
{
    return hvm_vcpu(v)->svm;
}
static inline struct vmcb *vmcb_of(const struct vcpu *v)
{
    return svm_vcpu(v)->vmcb;
}
static inline void svm_touch(const struct vcpu *v, uint32_t parts)
{
    svm_vcpu(v)->clean &= ~parts;
}
/* The next entry takes another ASID. v may be entered just now by another CPU: with an ASID from before, or with a new one. */
static inline void svm_flush(struct vcpu *v)
{
    __atomic_store_n(&svm_vcpu(v)->generation, 0, __ATOMIC_SEQ_CST);
}

/* --- state.c --- */
uint64_t svm_get(const struct vcpu *v, enum hvm_reg r);
void svm_set(struct vcpu *v, enum hvm_reg r, uint64_t value);
void svm_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out);
void svm_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in);
int svm_vcpu_init(struct vcpu *v);
void svm_vcpu_free(struct vcpu *v);
void svm_vcpu_reset(struct vcpu *v);
void svm_dump(struct vcpu *v);
void svm_interrupted(struct vcpu *v, struct hvm_event *out);
void svm_inject(struct vcpu *v, const struct hvm_event *e);

/* --- cpu.c --- */
extern uint64_t svm_iopm_pa, svm_msrpm_pa;
extern bool svm_nrips, svm_watch_cr4;
extern uint64_t svm_vnmi;           /* SVM_V_NMI_ON where the processor has virtual NMIs, else 0 */
uint64_t svm_host_pa(unsigned cpu); /* this CPU's own FS, GS, TR, LDTR and MSRs for VMLOAD */

/* --- asid.c --- */
void asid_init(uint32_t count);
/* An ASID for v on this CPU, with which it meets no translation that it must not; tells the VMCB. Interrupts off. */
void asid_assign(struct vcpu *v);
/* VMRUN was refused here: the flush that it was to do is still due. */
void asid_refused(void);

/* --- exit.c --- */
void svm_decode(const struct vmcb *c, bool nrips, struct hvm_exit *x);

/* --- entry.S and what it calls --- */
__attribute__((noreturn)) void svm_resume(void);
struct svm_enter {
    uint64_t guest, host; /* machine addresses of the VMCBs for VMRUN and VMLOAD */
};
struct svm_enter svm_enter(void);
void svm_left(void);

#endif
