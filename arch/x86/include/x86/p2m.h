/*
 * The memory of translated (HVM, PVH) domains: which frame a guest frame number means (arch/x86/hvm/p2m).
 *
 * The table that the hardware walks is the only copy of this knowledge. Every entry that maps RAM holds one reference on each frame it
 * maps; an entry that maps another domain's frame writable also holds what arch_grant_pin gives. References are dropped only after
 * every processor has forgotten the translation (struct p2m_machine.flush).
 *
 * Who may look, and how
 *  - p2m_get: any domain's table, any CPU: the frame is referenced, the answer stays true of the frame, not of the number.
 *  - hvm_copy_*, guest_walk: the current vCPU's own memory. They read tables without a lock, with interrupts off: a change waits in its
 *    flush until they are through.
 */
#ifndef X86_P2M_H
#define X86_P2M_H

#include "core/types.h"

struct domain;
struct vcpu;
struct hypercall;

enum p2m_type {
    P2M_NONE = 0,   /* nothing, or a device model's device */
    P2M_RAM,        /* the domain's own, or shared with it by Krypton (shared_info, grant table) */
    P2M_RAM_RO,     /* writes are dropped (ROM); the device model is not asked */
    P2M_MMIO,       /* device memory the domain has the right to */
    P2M_FOREIGN,    /* another domain's frame */
    P2M_FOREIGN_RO, /* never writable */
    P2M_GRANT,      /* mapped by the grant room, which holds the references */
    P2M_GRANT_RO,
    P2M_POD,    /* present to the guest, without a frame yet (populate on demand) */
    P2M_LOGGED, /* RAM, write-protected until its next write: log-dirty without the hardware's dirty bits */
    P2M_RAM_DM, /* RAM that a device model wants to see written (HVMMEM_ioreq_server) */
    P2M_TYPES
};

/* Orders of entries. */
#define P2M_4K 0u
#define P2M_2M 9u
#define P2M_1G 18u

/* What the vendor's room does for this one. Once, before the first HVM domain. */
struct guest_paging;
struct p2m_machine {
    /* Returns when no CPU uses a translation of d that was made before (all ASIDs or VPIDs of its vCPUs) and no CPU is inside a
     * section with interrupts off that began before. Interrupts on. */
    void (*flush)(struct domain *d);
    /* How v, the current vCPU, translates addresses now. */
    void (*paging)(struct vcpu *v, struct guest_paging *p);
    bool ept;            /* else the nested-paging format */
    bool large, huge;    /* 2 MiB and 1 GiB entries */
    unsigned guest_bits; /* width of guest-physical addresses, at most 48 */
};
void p2m_machine_set(const struct p2m_machine *m);

/* --- life --- */

/* The table of a translated domain, empty, with the pool's first allowance. -ENOMEM. */
int must_check p2m_domain_init(struct domain *d);
/* A dying domain whose vCPUs do not run any more: takes everything out. -EAGAIN: call again. Its frames keep the owner's reference. */
int must_check p2m_domain_release(struct domain *d);
/* After that; also of a domain that was never published. */
void p2m_domain_free(struct domain *d);
/* What the VMCB's nCR3 (the EPT pointer) names. Constant. */
mfn_t p2m_root(const struct domain *d);
/* Rises with every change that takes something away: what was looked up before may be wrong. */
uint64_t p2m_generation(const struct domain *d);
/* The highest number that has an entry (0 without any). */
gfn_t p2m_highest(const struct domain *d);

/* --- the paging pool: how many frames tables may take (domctl shadow_op, *_paging_mempool_size) --- */

uint64_t p2m_pool_size(const struct domain *d); /* frames allowed */
uint64_t p2m_pool_used(const struct domain *d);
/* Not below what is in use (then: that). -ENOMEM: more than the machine has. */
int must_check p2m_pool_set(struct domain *d, uint64_t frames);

/* --- looking --- */

struct p2m_entry {
    mfn_t mfn; /* of the number asked for; INVALID_MFN without a frame */
    enum p2m_type type;
    unsigned order; /* of the entry it is part of (0, 9, 18; for P2M_NONE: that so much is empty) */
};

/* A moment's answer, without a reference. */
void p2m_look(struct domain *d, gfn_t g, struct p2m_entry *e);

enum p2m_want {
    P2M_WRITE = 1,  /* it will be written: P2M_RAM and the like only; notes the write for log-dirty */
    P2M_OTHERS = 2, /* other domains' frames will do (foreign; never grants) */
};
/* The RAM frame at g, referenced: drop it with frame_put. Populates on demand. 0, -ENOENT: nothing there that would do, -ENOMEM. */
int must_check p2m_get(struct domain *d, gfn_t g, unsigned want, struct p2m_entry *e);

/* --- changing: 0, -EINVAL (number too high, not aligned to the order, wrong type for the frame), -ENOMEM (pool), -EBUSY --- */

/*
 * 2^order frames from m on appear at g as `type`; whatever was there goes. RAM: the caller holds a reference on each frame; the table
 * takes its own. P2M_FOREIGN(_RO): takes over the caller's arch_gfn_pin. P2M_POD: m is not looked at.
 */
int must_check p2m_set(struct domain *d, gfn_t g, mfn_t m, unsigned order, enum p2m_type type);
/* Takes 2^order entries away, if they map m (INVALID_MFN: whatever they map). -ENOENT: the first one that does not; those before it went. */
int must_check p2m_remove(struct domain *d, gfn_t g, mfn_t m, unsigned order);
/* One entry of RAM from one type to another: RAM, RAM_RO, RAM_DM. -EBUSY: it is not `from`. */
int must_check p2m_change_type(struct domain *d, gfn_t g, enum p2m_type from, enum p2m_type to);

/* --- nested page faults --- */

enum p2m_access {
    P2M_ACC_WRITE = 1,
    P2M_ACC_FETCH = 2,
    P2M_ACC_WALK = 4, /* by the walk of the guest's page tables, not by the access itself */
};
enum p2m_verdict {
    P2M_RETRY, /* it is there now (populated, logged, or somebody else was quicker): enter the guest again */
    P2M_IS_MMIO,   /* nothing there: a device, Krypton's or the device model's */
    P2M_IS_ROM,    /* a write to RAM_RO: emulate, throw the value away */
    P2M_IS_DM_RAM, /* a write to RAM_DM: the ioreq server's; reads find the memory */
    P2M_DENIED, /* it may not do that (write to a read-only grant or foreign frame, fetch from such a one): #GP or a crash */
    P2M_NO_MEMORY, /* populate on demand failed: the domain cannot go on */
};
enum p2m_verdict p2m_fault(struct domain *d, uint64_t gpa, unsigned access);

/* --- populate on demand --- */

/* 2^order empty numbers become POD. -EINVAL: something is there. -ENOMEM. */
int must_check p2m_pod_mark(struct domain *d, gfn_t g, unsigned order);
/* XENMEM_set_pod_target: the frames that the domain is to have. Allocates or frees what waits. -ENOMEM, -EINVAL (it dies), -EAGAIN: again. */
int must_check p2m_pod_target(struct domain *d, uint64_t pages);
uint64_t p2m_pod_cached(const struct domain *d);
uint64_t p2m_pod_entries(const struct domain *d);

/* --- what has been written (dirty.c) --- */

/* From now on writes to RAM are noted; nothing counts as written yet. -EINVAL: already. -EAGAIN: again. */
int must_check p2m_log_enable(struct domain *d);
int must_check p2m_log_disable(struct domain *d); /* -EAGAIN: again */
bool p2m_log_enabled(const struct domain *d);
/*
 * n numbers from g on: bit i of bits (or NULL) = g + i has been written since it was last cleaned. clean: from now on it has not; true:
 * p2m_flush must follow before the memory is read. Also without log-dirty: the first look protects. The toolstack's (the device model's)
 * calls for one domain do not run at once.
 */
bool must_check p2m_log_read_some(struct domain *d, gfn_t g, unsigned n, uint8_t *bits, bool clean);
/* Write faults since the last clean. */
uint32_t p2m_log_faults(struct domain *d, bool clean);
/* g was written by somebody who did not fault: a device model, a grant's user. */
void p2m_mark_dirty(struct domain *d, gfn_t g);

/* --- guest-virtual addresses --- */

/* AMD APM vol. 2 ch. 5; the CPU's idea of a guest's paging. */
struct guest_paging {
    uint64_t cr3;
    uint32_t mode; /* GP_* */
    uint32_t pkru; /* 0 without protection keys */
};
#define GP_PAGING 1u  /* CR0.PG */
#define GP_PAE    2u  /* CR4.PAE */
#define GP_LONG   4u  /* EFER.LMA */
#define GP_PSE    8u  /* CR4.PSE */
#define GP_WP     16u /* CR0.WP */
#define GP_NXE    32u /* EFER.NXE */
#define GP_SMEP   64u
#define GP_SMAP   128u
#define GP_AC     256u  /* RFLAGS.AC: explicit supervisor accesses to user pages are fine */
#define GP_PKE    512u  /* CR4.PKE in long mode */
#define GP_HUGE   1024u /* CPUID shows 1 GiB pages to the guest */

enum walk_access { /* also the bits of a page fault's error code */
                   WALK_PRESENT = 1,
                   WALK_WRITE = 2,
                   WALK_USER = 4,
                   WALK_RSVD = 8,
                   WALK_FETCH = 16,
                   WALK_PK = 32,
                   WALK_IMPLICIT =
                       0x10000, /* in: by the processor itself (descriptor tables, TSS): AC does not help */
};
enum walk_result {
    WALK_OK,
    WALK_FAULT, /* a page fault with *error, at the address */
    WALK_NO_RAM, /* a table is in no RAM: *gpa is the table's address (the hardware would have taken a nested fault) */
};
/* Guest-virtual to guest-physical; sets accessed and dirty bits as the processor does. v is current and does not change its tables
 * meanwhile otherwise than by its other vCPUs. va is taken as 32 bits wide outside of long mode. */
enum walk_result guest_walk(struct vcpu *v, const struct guest_paging *p, uint64_t va, unsigned access,
                            uint64_t *gpa, uint32_t *error);

enum copy_result {
    COPY_OK,
    COPY_FAULT,  /* page fault: fault.address, fault.error */
    COPY_NO_RAM, /* fault.gpa is a device's, or not there */
};
struct copy_fault {
    uint64_t address, gpa;
    uint32_t error;
};
/* n bytes at a linear address of current v, for the emulator: access is WALK_USER, WALK_FETCH, WALK_IMPLICIT as it is; WALK_WRITE is
 * added for _out. What was copied before a fault stays copied. */
enum copy_result guest_linear_in(struct vcpu *v, const struct guest_paging *p, void *to, uint64_t va,
                                 size_t n, unsigned access, struct copy_fault *fault);
enum copy_result guest_linear_out(struct vcpu *v, const struct guest_paging *p, uint64_t va, const void *from,
                                  size_t n, unsigned access, struct copy_fault *fault);
/* At a guest-physical address, of any translated domain. False: not all of it is RAM (some may have been copied). */
bool must_check guest_phys_in(struct domain *d, void *to, uint64_t gpa, size_t n);
bool must_check guest_phys_out(struct domain *d, uint64_t gpa, const void *from, size_t n);

/* The guest_ops of HVM kinds: hypercall arguments, supervisor accesses of current v. */
bool hvm_copy_in(struct vcpu *v, void *to, gva_t from, size_t n);
bool hvm_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n);
bool hvm_zero(struct vcpu *v, gva_t to, size_t n);

/* Krypton's own bytes among a hypercall's arguments (hvm/narrow): found at ARG_WINDOW, which is no address of any kernel's. */
struct arg_window {
    char *host;
    size_t bytes;
};
#define ARG_WINDOW (1ull << 62)
/* The n bytes at `at` when they lie in the window, else NULL. */
static inline void *arg_window_find(const struct arg_window *w, uint64_t at, size_t n)
{
    uint64_t offset = at - ARG_WINDOW;

    return offset <= w->bytes && n <= w->bytes - offset ? w->host + offset : NULL;
}

/* The vCPU's translation cache, part of struct x86_vcpu's HVM half: NULL is fine (no cache). It needs no invalidation: an entry is
 * used only while the guest's own page-table entries that it came from read the same, and the p2m has taken nothing away. */
struct walk_cache *walk_cache_alloc(void);
void walk_cache_free(struct walk_cache *c);

/* --- what arch/x86/guest/memory.c asks for translated domains (include/arch/mem.h) --- */

/* Takes the 2^order numbers from g on out; frames of the domain's own leave its reservation too. -ENOENT: nothing at the first that is
 * left, -EBUSY: a grant or device memory, -ENOMEM: no memory to split a larger entry. What came before is done. */
int must_check p2m_release_frames(struct domain *d, gfn_t g, unsigned order);
/* The same for single numbers, with one flush for many; how many went: the next one is as the errors above say. */
unsigned must_check p2m_release_list(struct domain *d, const uint64_t *gfn, unsigned n);
/* A grant's frame m appears at the guest-physical address; nothing else may be there. And goes again: not before p2m_machine.flush was
 * called are the translations gone. -EINVAL. */
int must_check p2m_grant_map(struct domain *d, uint64_t gpa, mfn_t m, bool readonly);
int must_check p2m_grant_unmap(struct domain *d, uint64_t gpa, mfn_t m, bool readonly);
/* Device frames [m, m + n) at g (domctl memory_mapping). Adding: what is there must be nothing, or the same. -EBUSY, -EINVAL, -ENOMEM. */
int must_check p2m_mmio_map(struct domain *d, gfn_t g, mfn_t m, uint64_t n);
int must_check p2m_mmio_unmap(struct domain *d, gfn_t g, mfn_t m, uint64_t n);
/* Takes the device frames [first, last] out, wherever they are. No vCPU of d runs. -EAGAIN: again. */
int must_check p2m_mmio_zap(struct domain *d, mfn_t first, mfn_t last);
/* All translations of d that were made before are gone (p2m_machine.flush). */
void p2m_flush(struct domain *d);

/* --- checks --- */

/* Walks everything: entries well-formed, counts, references at least as many as entries, M2P agreement. Nothing under way for d. */
void p2m_room_check(struct domain *d);
void p2m_dump(struct domain *d); /* debug key */

#endif
