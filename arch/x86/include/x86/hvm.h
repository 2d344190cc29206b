/*
 * HVM guests (PVH and HVM): the state that no vendor's structure holds, and what other rooms ask of arch/x86/hvm. The hardware
 * structure itself stays in arch/x86/svm (and vmx); hvm reaches it through struct hvm_ops (arch/x86/hvm/private.h).
 */
#ifndef X86_HVM_H
#define X86_HVM_H

#include "x86/vcpu.h"

struct svm_vcpu;
struct vlapic;
struct hvm_bus;
struct hvm_io;
struct hvm_ioreq;
struct hvm_ops;
struct viridian;
struct viridian_vcpu;

/* Registers of segments, in the processor's order of numbers. */
enum hvm_seg {
    HVM_ES,
    HVM_CS,
    HVM_SS,
    HVM_DS,
    HVM_FS,
    HVM_GS,
    HVM_LDTR,
    HVM_TR,
    HVM_GDTR,
    HVM_IDTR,
    HVM_SEGS
};
struct hvm_segment {
    uint16_t sel;
    uint16_t attr; /* type, S, DPL, P in bits 0-7; AVL, L, D/B, G in bits 8-11 (AMD APM vol. 2 15.5.1) */
    uint32_t limit;
    uint64_t base;
};

#define HVM_PARAMS 39 /* xen/hvm/params.h: HVM_NR_PARAMS */

struct hvm_domain {
    uint64_t param[HVM_PARAMS]; /* [d] xen/hvm/params.h; read without */
    uint8_t callback_vector;    /* [a] 0: none */
    uint32_t emulation_flags;   /* [c] XEN_X86_EMU_* */
    struct hvm_board *board;    /* [c] hvm/dev/board.c; NULL: no emulated devices but local APICs (PVH) */
    struct hvm_bus *bus;        /* [c] Krypton's own devices: hvm/dev/bus.h */
    struct hvm_ioreq *ioreq;    /* [appear once] device models: hvm/dev/ioreq.h */
    struct viridian *viridian;  /* [appears once, before it runs] hvm/viridian; NULL: no Hyper-V interface */
    uint64_t p2m_epoch;         /* [a] counts flushes of the p2m: ASIDs of an older one are not used again */
};

/* What is delivered to the guest when it is entered next. */
enum hvm_event_type { HVM_EVENT_IRQ, HVM_EVENT_NMI, HVM_EVENT_EXCEPTION };
struct hvm_event {
    bool valid, has_error;
    uint8_t type; /* enum hvm_event_type */
    uint8_t vector;
    uint32_t error;
};

/* An event that a device model asks for; taken on the vCPU's way in. */
enum { HVM_ASKED_NONE, HVM_ASKED_WRITING, HVM_ASKED };
struct hvm_asked {
    uint32_t state; /* [a] the others are of whoever made it WRITING, then of the vCPU */
    struct hvm_event event;
    uint64_t cr2;
};

struct hvm_vcpu {
    struct svm_vcpu *svm;           /* [c] the vendor's */
    struct vlapic *vlapic;          /* [c] */
    struct hvm_io *io;              /* [c] what it has under way with device models */
    uint32_t attention;             /* [a] hvm_attend */
    struct hvm_event event;         /* [v] */
    bool lazy_eoi;                  /* [v] an interrupt may end without an exit: hvm/viridian/synic.c */
    struct viridian_vcpu *viridian; /* [appears once, before it runs] */
    uint8_t upcall_vector;          /* [a] HVMOP_set_evtchn_upcall_vector; 0: none */
    struct hvm_asked asked;
    bool nmi_pending;                                /* [a] */
    bool nmi_masked, nmi_ended;                      /* [v] its handler runs; it has just come to its IRET */
    bool init_pending;                               /* [a] INIT: it resets itself on its way in */
    bool sipi_wait;                                  /* [d] after INIT: only a STARTUP wakes it */
    bool startup_early;                              /* [d] a STARTUP came while init_pending */
    uint8_t startup_page;                            /* [a] */
    struct timer startup;                            /* tries a STARTUP again */
    bool dr_loaded;                                  /* [v] the hardware's DR0-3 are this vCPU's */
    uint64_t dr[4];                                  /* DR0-3 while they are not in the processor */
    uint64_t tsc_aux;                                /* while it does not run */
    uint64_t tsc_adjust;                             /* [v] its MSR */
    uint64_t mtrr_def, mtrr_var[16], mtrr_fixed[11]; /* what the guest wrote; its memory types are PAT's */
};

static inline struct hvm_domain *hvm_domain(const struct domain *d)
{
    return ((const struct x86_domain *)d)->hvm;
}
static inline struct hvm_vcpu *hvm_vcpu(const struct vcpu *v)
{
    return ((const struct x86_vcpu *)v)->hvm;
}

/* The next entry of v looks for all that may wait for it; else it only looks for what comes without a word: events by the callback
 * vector or a line. After what is to be found was stored, before v is kicked. */
static inline void hvm_attend(const struct vcpu *v)
{
    __atomic_store_n(&hvm_vcpu(v)->attention, 1, __ATOMIC_RELEASE);
}

/* Boot: finds out whether this machine can run HVM guests; switches it on, on each CPU. */
void hvm_init(void);
void hvm_init_cpu(void); /* interrupts off */
/* Memory for a CPU that is about to start. */
bool must_check hvm_prepare_cpu(unsigned cpu);
bool hvm_available(void);

/* Rows of the hypercall table: hvm/params.c. */
struct hc_op;
extern const struct hc_op hvm_op_ops[];
extern const unsigned hvm_op_op_count;
/* Frame `index` of an ioreq server's: hvm/dev/ioreq_server.c. */
int must_check hvm_resource_frame(struct domain *d, uint32_t id, uint64_t index, mfn_t *m);
/* hvm/dm_op.c */
long do_dm_op(struct hypercall *hc);
extern const struct hc_op dm_ops[];
extern const unsigned dm_op_count;

/* domctl on translated domains: hvm/context.c, hvm/domain.c. */
struct domctl;
long hvm_domctl(struct domctl *c);

/* Buttons of a guest's case. -EOPNOTSUPP: it has none. */
int hvm_power_button(struct domain *d);
int hvm_sleep_button(struct domain *d);

extern const struct guest_ops hvm_guest_ops;

#endif
