/* x86 parts of domains and vCPUs. The core's object comes first, so a pointer to one is a pointer to the other. */
#ifndef X86_VCPU_H
#define X86_VCPU_H

#include "core/domain.h"
#include "core/rangeset.h"
#include "x86/regs.h"

struct pv_trap {      /* what set_trap_table gave */
    uint64_t address; /* canonical; 0 = none */
    uint16_t cs;
    uint8_t dpl;      /* 0-3: lowest privilege that may use it by INT n */
    bool mask_events; /* TI_IF: event delivery masked on entry */
};

#define PV_GDT_FRAMES 14

/* A page table of which one reference pair is held although the work on it was preempted (pv/mmu/pending.c). */
struct pv_pending {
    uint64_t mfn; /* 0 = none */
    bool put;     /* being dropped (else: being taken) */
};

struct pv_callback {
    uint64_t eip;
    bool mask_events;
};

struct pv_vcpu {
    struct pv_trap *trap;          /* 256 */
    bool kernel_mode;              /* the guest kernel runs (else its user space) */
    uint64_t kernel_sp, kernel_ss; /* stack_switch */
    struct pv_callback event, failsafe, syscall, syscall32, sysenter;
    bool nmi_pending, mce_pending, nmi_masked; /* the way out looks at the first two at once */

    /* segments: selectors and bases while the vCPU is not running (on the CPU while it is) */
    uint16_t ds, es, fs, gs;
    uint64_t fs_base, gs_base_kernel, gs_base_user;

    uint64_t cr2, cr4_guest; /* guest's idea */
    bool ts;                 /* fpu_taskswitch: guest's CR0.TS */
    uint64_t dr[8];          /* dr[6], dr[7] as the guest sees them; 0-3 checked addresses */
    uint32_t iopl;           /* 0-3, from PHYSDEVOP_set_iopl */
    gva_t iobmp;             /* PHYSDEVOP_set_iobitmap */
    uint32_t iobmp_ports;
    uint32_t tsc_aux;     /* MSR_TSC_AUX */
    bool cpuid_fault;     /* MISC_FEATURES: its user mode gets #GP for CPUID */
    uint8_t debug_event;  /* [a] the trap for which a debugger's domain was paused; 0 = none */
    uint8_t debug_pauses; /* [d] of this vCPU, by a debugger */
    bool dr_loaded;       /* [v] the hardware debug registers are this vCPU's */

    /* page tables (pv/mmu): each holds a reference and a type on its frame */
    mfn_t root_kernel, root_user; /* L4; INVALID_MFN = none */
    mfn_t gdt_frame[PV_GDT_FRAMES];
    uint32_t gdt_entries;
    gva_t ldt_base;
    uint32_t ldt_entries;
    uint32_t ldt_mapped;       /* [a] bit per LDT window page that is mapped */
    struct spinlock ldt_lock;  /* RANK_PV_FRAME: ldt_mapped and the LDT part of the window */
    struct pv_pending pending; /* [v] a table in which this vCPU was preempted */
};

struct x86_vcpu {
    struct vcpu core;       /* first */
    struct guest_regs regs; /* while not running; a fresh vCPU starts from here */
    void *fpu;              /* XSAVE area, 64-aligned, x86_fpu_size bytes; eager */
    uint64_t xcr0;
    uint64_t time_version_stamp;
    uint64_t tsc_offset;             /* the guest's TSC less the processor's; PV: 0 */
    struct hvm_vcpu *hvm;            /* [c] x86/hvm.h; NULL: PV */
    struct walk_cache *walk;         /* [c] x86/p2m.h; NULL: PV */
    const struct arg_window *window; /* [v] x86/p2m.h; NULL but in a 32-bit kernel's hypercall */
    struct pv_vcpu pv;
};

struct e820_entry;
struct cpu_policy;

/* xen/arch-x86/cpuid.h names them in a comment only. */
enum tsc_mode { TSC_DEFAULT, TSC_ALWAYS_EMULATE, TSC_NEVER_EMULATE };

struct x86_domain {
    struct domain core;        /* first */
    struct cpumask dirty_cpus; /* [a] CPUs whose TLB may hold this domain's translations */
    uint64_t *perdomain_l3;    /* page for L4 slot 260 (direct map), its L2 and L1s below */
    mfn_t perdomain_l3_mfn;
    uint64_t *perdomain_l2;
    uint64_t **window_l1; /* per vCPU: pointer to its 32 PTEs */
    uint64_t p2m_max_pfn; /* highest gfn put into the M2P for this domain */
    uint32_t release_step;
    uint64_t serial;                   /* unique among all domains ever: identifiers come again */
    bool xpti;                         /* its vCPUs run on per-CPU page tables (mm/xpti.c) */
    struct rangeset ports, iomem;      /* device rights (platform/rights.c); iomem: frame numbers */
    bool debugged;                     /* [a] traps of its kernel pause it (DOMCTL_setdebugging) */
    bool devices;                      /* [a] has, or had, rights to device memory: may choose memory types */
    struct pirq_table *pirq;           /* platform/ : this domain's PIRQs */
    struct e820_entry *e820;           /* [d] what XENMEM_set_memory_map gave, or NULL */
    uint32_t e820_count;               /* [d] */
    struct pv_pending release_pending; /* pv/mmu: only while the domain dies */
    uint32_t release_cursor;           /* frame from which the search for pins goes on; 0 = from the first */
    struct cpu_policy *policy;         /* [d until the domain first runs, then c] x86/policy.h */
    uint32_t pci_cf8;                  /* [a] latch of port 0xcf8 */
    uint32_t tsc_mode;                 /* [d] xen/arch-x86/cpuid.h, leaf 4 */
    /* What a guest's counter is, but for its offset: hvm/dev/tsc.h. Changed while the domain is paused. Of PV guests 0: the processor's. */
    uint64_t tsc_ratio;       /* 32.32; 0: 1 */
    uint32_t tsc_guest_khz;   /* 0: the processor's */
    bool tsc_emulated;        /* made of system time; RDTSC leaves the guest */
    uint32_t zap_cursor;      /* [domctl] frame from which pv_mmio_zap goes on; 0 = from the first */
    uint32_t tsc_incarnation; /* [d] */
    struct hvm_domain *hvm;   /* [c] x86/hvm.h; NULL: PV */
    uint64_t log_next;        /* [domctl] shadow_op: where it goes on */
    uint32_t log_dirty;       /* [domctl] pages it has found written so far */
    struct p2m *p2m;          /* [c] x86/p2m.h; NULL: not translated */
};

static inline struct x86_vcpu *x86_vcpu(struct vcpu *v)
{
    return (struct x86_vcpu *)v;
}
static inline struct x86_domain *x86_domain(struct domain *d)
{
    return (struct x86_domain *)d;
}
static inline struct pv_vcpu *pv_vcpu(struct vcpu *v)
{
    return &x86_vcpu(v)->pv;
}
/* Registers of v: on the stack when it is the current one of this CPU, else saved. */
struct guest_regs *vcpu_regs(struct vcpu *v);

#endif
