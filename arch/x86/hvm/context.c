/*
 * HVM contexts (xen/hvm/save.h, xen/arch-x86/hvm/save.h): a domain's processors as a list of records, each behind a descriptor; HEADER
 * first, END last. domctl get/sethvmcontext and gethvmcontext_partial.
 *
 * Written: HEADER, and for each vCPU that was started CPU and CPU_XSAVE (XCR0 and what is behind the legacy region); for each vCPU LAPIC, LAPIC_REGS, MTRR; what the domain's board has (dev/board.c).
 * Records of devices that are not there are refused (EOPNOTSUPP), unknown ones too (EINVAL).
 *
 * Invariants
 *  1. A buffer is checked as a whole - every descriptor, length and instance - before its first record is applied.
 *  2. What a CPU record brings is checked so that the vendor's structure holds nothing that a guest could not have set itself.
 * Locks: d->lock; the domain is paused meanwhile.
 */
#include "private.h"
#include "dev/board.h"
#include "dev/vlapic.h"
#include "dev/tsc.h"
#include "viridian/viridian.h"
#include "core/alloc.h"
#include "core/control.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/time.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/guest.h"
#include "x86/msr.h"
#include "x86/platform.h"
#include "x86/policy.h"
#include "x86/pte.h"
#include "../metal/asm.h"
#include <xen/hvm/save.h>

#define CONTEXT_MAX (1u << 20)
#define FPU_LEGACY  512u
#define MXCSR       24u

/* --- writing --- */

struct writer {
    uint8_t *at; /* NULL: only counting */
    size_t used, size;
};

static void put(struct writer *w, uint16_t type, uint16_t instance, const void *record, uint32_t length)
{
    const struct hvm_save_descriptor head = {.typecode = type, .instance = instance, .length = length};

    if (w->at && w->used + sizeof(head) + length <= w->size) {
        memcpy(w->at + w->used, &head, sizeof(head));
        if (length && record)
            memcpy(w->at + w->used + sizeof(head), record, length);
    }
    w->used += sizeof(head) + length;
}

static void put_header(struct writer *w, const struct domain *d)
{
    struct hvm_save_header h = {.magic = HVM_FILE_MAGIC,
                                .version = HVM_FILE_VERSION,
                                .changeset = ~0ull,
                                .cpuid = x86_domain((struct domain *)d)->policy->basic[1].a,
                                .gtsc_khz = (uint32_t)hvm_tsc_khz(d)};

    put(w, HVM_SAVE_CODE(HEADER), 0, &h, sizeof(h));
}

#define SEGMENT_OUT(c, v, name, which)                                                                       \
    do {                                                                                                     \
        struct hvm_segment g_;                                                                               \
        hvm_ops->get_segment(v, which, &g_);                                                                 \
        (c)->name##_sel = g_.sel;                                                                            \
        (c)->name##_limit = g_.limit;                                                                        \
        (c)->name##_base = g_.base;                                                                          \
        (c)->name##_arbytes = g_.attr;                                                                       \
    } while (0)

static void segments_out(struct hvm_hw_cpu *c, struct vcpu *v)
{
    struct hvm_segment g;

    SEGMENT_OUT(c, v, cs, HVM_CS);
    SEGMENT_OUT(c, v, ds, HVM_DS);
    SEGMENT_OUT(c, v, es, HVM_ES);
    SEGMENT_OUT(c, v, fs, HVM_FS);
    SEGMENT_OUT(c, v, gs, HVM_GS);
    SEGMENT_OUT(c, v, ss, HVM_SS);
    SEGMENT_OUT(c, v, tr, HVM_TR);
    SEGMENT_OUT(c, v, ldtr, HVM_LDTR);
    hvm_ops->get_segment(v, HVM_GDTR, &g);
    c->gdtr_limit = g.limit;
    c->gdtr_base = g.base;
    hvm_ops->get_segment(v, HVM_IDTR, &g);
    c->idtr_limit = g.limit;
    c->idtr_base = g.base;
}

static void general_out(struct hvm_hw_cpu *c, const struct guest_regs *r)
{
    c->rax = r->rax;
    c->rbx = r->rbx;
    c->rcx = r->rcx;
    c->rdx = r->rdx;
    c->rbp = r->rbp;
    c->rsi = r->rsi;
    c->rdi = r->rdi;
    c->r8 = r->r8;
    c->r9 = r->r9;
    c->r10 = r->r10;
    c->r11 = r->r11;
    c->r12 = r->r12;
    c->r13 = r->r13;
    c->r14 = r->r14;
    c->r15 = r->r15;
}

static void event_out(struct hvm_hw_cpu *c, const struct hvm_event *e)
{
    static const uint8_t type[] = {[HVM_EVENT_IRQ] = 0, [HVM_EVENT_NMI] = 2, [HVM_EVENT_EXCEPTION] = 3};

    if (!e->valid)
        return;
    c->pending_vector = e->vector;
    c->pending_type = type[e->type] & 7;
    c->pending_error_valid = e->has_error;
    c->pending_valid = 1;
    c->error_code = e->error;
}

static void cpu_out(struct hvm_hw_cpu *c, struct vcpu *v)
{
    const struct hvm_vcpu *h = hvm_vcpu(v);
    const struct x86_vcpu *x = x86_vcpu(v);

    memset(c, 0, sizeof(*c));
    xstate_complete(x);
    memcpy(c->fpu_regs, x->fpu, sizeof(c->fpu_regs));
    general_out(c, &x->regs);
    segments_out(c, v);
    c->rsp = hvm_get(v, HVM_RSP);
    c->rip = hvm_get(v, HVM_RIP);
    c->rflags = hvm_get(v, HVM_RFLAGS);
    c->cr0 = hvm_get(v, HVM_CR0);
    c->cr2 = hvm_get(v, HVM_CR2);
    c->cr3 = hvm_get(v, HVM_CR3);
    c->cr4 = hvm_get(v, HVM_CR4);
    c->dr0 = h->dr[0];
    c->dr1 = h->dr[1];
    c->dr2 = h->dr[2];
    c->dr3 = h->dr[3];
    c->dr6 = hvm_get(v, HVM_DR6);
    c->dr7 = hvm_get(v, HVM_DR7);
    c->sysenter_cs = hvm_get(v, HVM_SYSENTER_CS);
    c->sysenter_esp = hvm_get(v, HVM_SYSENTER_ESP);
    c->sysenter_eip = hvm_get(v, HVM_SYSENTER_EIP);
    c->shadow_gs = hvm_get(v, HVM_KERNEL_GS);
    c->msr_lstar = hvm_get(v, HVM_LSTAR);
    c->msr_star = hvm_get(v, HVM_STAR);
    c->msr_cstar = hvm_get(v, HVM_CSTAR);
    c->msr_syscall_mask = hvm_get(v, HVM_SFMASK);
    c->msr_efer = hvm_get(v, HVM_EFER);
    c->msr_tsc_aux = h->tsc_aux;
    c->tsc = hvm_tsc(v);
    c->flags = XEN_X86_FPU_INITIALISED;
    event_out(c, &h->event);
}

static void mtrr_out(struct hvm_hw_mtrr *m, struct vcpu *v)
{
    const struct hvm_vcpu *h = hvm_vcpu(v);
    bool known;

    memset(m, 0, sizeof(*m));
    m->msr_pat_cr = hvm_get(v, HVM_PAT);
    memcpy(m->msr_mtrr_var, h->mtrr_var, sizeof(m->msr_mtrr_var));
    memcpy(m->msr_mtrr_fixed, h->mtrr_fixed, sizeof(m->msr_mtrr_fixed));
    m->msr_mtrr_cap = hvm_mtrr_get(v, MSR_MTRRCAP, &known);
    m->msr_mtrr_def_type = h->mtrr_def;
}

/* Each kind of record for all vCPUs, in the order of types; then the board's. `scratch` holds the largest. */
union record {
    struct hvm_hw_cpu cpu;
    struct {
        struct hvm_hw_lapic lapic;
        struct hvm_hw_lapic_regs regs;
    } l;
    struct hvm_hw_mtrr mtrr;
    union hvm_board_record board;
    struct hvm_viridian_domain_context viridian;
    struct hvm_viridian_vcpu_context viridian_vcpu;
};

static void put_board(struct writer *w, const struct domain *d, union hvm_board_record *r)
{
    for (uint16_t type = 0; type <= HVM_SAVE_CODE_MAX; type++)
        for (uint16_t i = 0; hvm_board_get(d, type, i, r); i++)
            put(w, type, i, r, hvm_board_length(type));
}

static void put_viridian(struct writer *w, struct domain *d, union record *s)
{
    if (!hvm_domain(d)->viridian)
        return;
    viridian_get_domain(d, &s->viridian);
    put(w, HVM_SAVE_CODE(VIRIDIAN_DOMAIN), 0, &s->viridian, sizeof(s->viridian));
    for_each_vcpu(d, v)
    {
        if (!hvm_vcpu(v)->viridian)
            continue;
        viridian_get_vcpu(v, &s->viridian_vcpu);
        put(w, HVM_SAVE_CODE(VIRIDIAN_VCPU), (uint16_t)v->id, &s->viridian_vcpu, sizeof(s->viridian_vcpu));
    }
}

/* struct hvm_hw_cpu_xsave: a mask that nobody reads, then what xstate.c has. */
#define XSAVE_HEAD offsetof(struct hvm_hw_cpu_xsave, xcr0)

static bool has_cpu(const struct vcpu *v)
{
    return v->initialised && !(v->pause_flags & VPF_DOWN);
}

static void put_xsave(struct writer *w, struct vcpu *v)
{
    uint32_t length = (uint32_t)(XSAVE_HEAD + xstate_size(v));
    uint64_t mask = policy_xcr0(x86_domain(v->domain)->policy);
    size_t at = w->used + sizeof(struct hvm_save_descriptor);

    put(w, CPU_XSAVE_CODE, (uint16_t)v->id, NULL, length);
    if (!w->at || at + length > w->size)
        return;
    memcpy(w->at + at, &mask, sizeof(mask));
    xstate_get(v, w->at + at + XSAVE_HEAD);
}

static void put_all(struct writer *w, struct domain *d, union record *s)
{
    put_header(w, d);
    for_each_vcpu(d, v)
    {
        if (!has_cpu(v))
            continue;
        cpu_out(&s->cpu, v);
        put(w, HVM_SAVE_CODE(CPU), (uint16_t)v->id, &s->cpu, sizeof(s->cpu));
    }
    for_each_vcpu(d, v)
    {
        vlapic_get_state(v, &s->l.lapic, &s->l.regs);
        put(w, HVM_SAVE_CODE(LAPIC), (uint16_t)v->id, &s->l.lapic, sizeof(s->l.lapic));
        put(w, HVM_SAVE_CODE(LAPIC_REGS), (uint16_t)v->id, &s->l.regs, sizeof(s->l.regs));
    }
    for_each_vcpu(d, v)
    {
        mtrr_out(&s->mtrr, v);
        put(w, HVM_SAVE_CODE(MTRR), (uint16_t)v->id, &s->mtrr, sizeof(s->mtrr));
    }
    put_board(w, d, &s->board);
    put_viridian(w, d, s);
    for_each_vcpu(d, v)
    {
        if (has_cpu(v) && xstate_size(v))
            put_xsave(w, v);
    }
    put(w, HVM_SAVE_CODE(END), 0, NULL, 0);
}

/* The whole context, allocated. */
static int build(struct domain *d, struct writer *w)
{
    union record *scratch = mem_new(union record);
    struct writer count = {0};

    if (!scratch)
        return -ENOMEM;
    domain_pause(d);
    put_all(&count, d, scratch);
    *w = (struct writer){.at = mem_alloc(count.used), .size = count.used};
    if (w->at)
        put_all(w, d, scratch);
    domain_unpause(d);
    mem_free(scratch);
    return w->at ? 0 : -ENOMEM;
}

/* n bytes into the caller's buffer of `room`; without a buffer it only wants to know how many. */
static int hand_over(struct domctl *c, gva_t buffer, uint64_t room, const void *from, uint32_t n)
{
    if (!buffer.a)
        return 0;
    return room < n ? -ENOSPC : guest_write(c->hc.caller, buffer, from, n);
}

static long get_context(struct domctl *c)
{
    struct xen_domctl_hvmcontext *op = &c->op.u.hvmcontext;
    struct writer w;
    int r;

    if (c->d == c->hc.caller->domain)
        return -EINVAL;
    r = build(c->d, &w);
    if (r)
        return r;
    c->write_back = true;
    r = hand_over(c, HANDLE(op->buffer), op->size, w.at, (uint32_t)w.used);
    op->size = (uint32_t)w.used;
    mem_free(w.at);
    return r;
}

/* One record, without its descriptor. */
static long get_context_partial(struct domctl *c)
{
    struct xen_domctl_hvmcontext_partial *op = &c->op.u.hvmcontext_partial;
    struct hvm_save_descriptor head;
    struct writer w;
    int r;

    if (c->d == c->hc.caller->domain)
        return -EINVAL;
    r = build(c->d, &w);
    if (r)
        return r;
    r = -ENOENT;
    for (size_t at = 0; r == -ENOENT && at + sizeof(head) <= w.used; at += sizeof(head) + head.length) {
        memcpy(&head, w.at + at, sizeof(head));
        if (head.typecode != op->type || head.instance != op->instance)
            continue;
        r = hand_over(c, HANDLE(op->buffer), op->bufsz, w.at + at + sizeof(head), head.length);
        op->bufsz = head.length;
        c->write_back = !r;
    }
    mem_free(w.at);
    return r;
}

/* --- checking --- */

static uint32_t length_of(uint16_t type)
{
    switch (type) {
    case HVM_SAVE_CODE(HEADER):
        return HVM_SAVE_LENGTH(HEADER);
    case HVM_SAVE_CODE(CPU):
        return HVM_SAVE_LENGTH(CPU);
    case HVM_SAVE_CODE(LAPIC):
        return HVM_SAVE_LENGTH(LAPIC);
    case HVM_SAVE_CODE(LAPIC_REGS):
        return HVM_SAVE_LENGTH(LAPIC_REGS);
    case HVM_SAVE_CODE(MTRR):
        return HVM_SAVE_LENGTH(MTRR);
    case HVM_SAVE_CODE(VIRIDIAN_DOMAIN):
        return HVM_SAVE_LENGTH(VIRIDIAN_DOMAIN);
    case HVM_SAVE_CODE(VIRIDIAN_VCPU):
        return HVM_SAVE_LENGTH(VIRIDIAN_VCPU);
    default:
        return hvm_board_length(type);
    }
}

static bool modes_ok(struct vcpu *v, const struct hvm_hw_cpu *c)
{
    bool paging = c->cr0 & CR0_PG, lme = c->msr_efer & EFER_LME;

    if (!hvm_cr0_ok(c->cr0) || !hvm_cr4_ok(v, c->cr4) || !hvm_efer_ok(v, c->msr_efer))
        return false;
    return !(paging && lme) || (c->cr4 & CR4_PAE);
}

static bool addresses_ok(const struct hvm_hw_cpu *c)
{
    return va_canonical(c->fs_base) && va_canonical(c->gs_base) && va_canonical(c->shadow_gs) &&
           va_canonical(c->msr_lstar) && va_canonical(c->msr_cstar) && va_canonical(c->gdtr_base) &&
           va_canonical(c->idtr_base) && va_canonical(c->ldtr_base) && va_canonical(c->tr_base) &&
           va_canonical(c->sysenter_esp) && va_canonical(c->sysenter_eip) && !(c->dr6 >> 32) &&
           !(c->dr7 >> 32) && !(c->msr_tsc_aux >> 32);
}

static bool event_ok(const struct hvm_hw_cpu *c)
{
    if (!c->pending_valid)
        return true;
    switch (c->pending_type) {
    case 0:
        return c->pending_vector >= 16;
    case 2:
        return c->pending_vector == TRAP_NMI;
    case 3:
        return c->pending_vector < 32 && c->pending_vector != TRAP_NMI;
    case 4: /* a software interrupt: RIP is at its instruction, which runs again */
        return true;
    default:
        return false;
    }
}

static bool mtrr_record_ok(struct vcpu *v, const struct hvm_hw_mtrr *m)
{
    return hvm_pat_ok(m->msr_pat_cr) && !(m->msr_mtrr_def_type & ~0xcffull);
}

static int record_ok(struct domain *d, const struct hvm_save_descriptor *head, const void *record)
{
    const struct hvm_save_header *h = record;
    struct vcpu *v = domain_vcpu(d, head->instance);

    if (head->typecode == HVM_SAVE_CODE(HEADER))
        return h->magic == HVM_FILE_MAGIC && h->version == HVM_FILE_VERSION ? 0 : -EINVAL;
    if (head->typecode == CPU_XSAVE_CODE)
        return v && head->length > XSAVE_HEAD
                   ? xstate_check(v, (const uint8_t *)record + XSAVE_HEAD, head->length - XSAVE_HEAD)
                   : -EINVAL;
    if (!length_of(head->typecode))
        return head->typecode > HVM_SAVE_CODE_MAX ? -EINVAL : -EOPNOTSUPP;
    if (hvm_board_length(head->typecode))
        return hvm_board_record_ok(d, head->typecode, head->instance, record);
    if (!v)
        return -EINVAL;
    if (head->typecode == HVM_SAVE_CODE(VIRIDIAN_DOMAIN) || head->typecode == HVM_SAVE_CODE(VIRIDIAN_VCPU))
        return hvm_vcpu(v)->viridian ? 0 : -EINVAL;
    if (head->typecode == HVM_SAVE_CODE(CPU)) {
        const struct hvm_hw_cpu *c = record;

        return modes_ok(v, c) && addresses_ok(c) && event_ok(c) ? 0 : -EINVAL;
    }
    if (head->typecode == HVM_SAVE_CODE(MTRR))
        return mtrr_record_ok(v, record) ? 0 : -EINVAL;
    return 0;
}

typedef int (*record_fn)(struct domain *d, const struct hvm_save_descriptor *head, const void *record);

/* fn for each record, until END. */
static int each(struct domain *d, const uint8_t *from, size_t size, record_fn fn)
{
    struct hvm_save_descriptor head;
    size_t at = 0;

    for (;;) {
        int r;

        if (size - at < sizeof(head))
            return -ENODATA;
        memcpy(&head, from + at, sizeof(head));
        at += sizeof(head);
        if (head.typecode == HVM_SAVE_CODE(END))
            return 0;
        if (at == sizeof(head) && head.typecode != HVM_SAVE_CODE(HEADER))
            return -EINVAL;
        if (head.length > size - at)
            return -ENODATA;
        if (length_of(head.typecode) && head.length != length_of(head.typecode))
            return -EINVAL;
        r = fn(d, &head, from + at);
        if (r)
            return r;
        at += head.length;
    }
}

/* --- applying: checked before --- */

#define SEGMENT_IN(c, v, name, which)                                                                        \
    do {                                                                                                     \
        struct hvm_segment g_ = {.sel = (uint16_t)(c)->name##_sel,                                           \
                                 .attr = (c)->name##_arbytes & 0xfff,                                        \
                                 .limit = (c)->name##_limit,                                                 \
                                 .base = (c)->name##_base};                                                  \
        hvm_ops->set_segment(v, which, &g_);                                                                 \
    } while (0)

static void segments_in(const struct hvm_hw_cpu *c, struct vcpu *v)
{
    const struct hvm_segment gdtr = {.limit = c->gdtr_limit & 0xffff, .base = c->gdtr_base};
    const struct hvm_segment idtr = {.limit = c->idtr_limit & 0xffff, .base = c->idtr_base};

    SEGMENT_IN(c, v, cs, HVM_CS);
    SEGMENT_IN(c, v, ds, HVM_DS);
    SEGMENT_IN(c, v, es, HVM_ES);
    SEGMENT_IN(c, v, fs, HVM_FS);
    SEGMENT_IN(c, v, gs, HVM_GS);
    SEGMENT_IN(c, v, ss, HVM_SS);
    SEGMENT_IN(c, v, tr, HVM_TR);
    SEGMENT_IN(c, v, ldtr, HVM_LDTR);
    hvm_ops->set_segment(v, HVM_GDTR, &gdtr);
    hvm_ops->set_segment(v, HVM_IDTR, &idtr);
}

static void general_in(const struct hvm_hw_cpu *c, struct guest_regs *r)
{
    *r = (struct guest_regs){.rax = c->rax,
                             .rbx = c->rbx,
                             .rcx = c->rcx,
                             .rdx = c->rdx,
                             .rbp = c->rbp,
                             .rsi = c->rsi,
                             .rdi = c->rdi,
                             .r8 = c->r8,
                             .r9 = c->r9,
                             .r10 = c->r10,
                             .r11 = c->r11,
                             .r12 = c->r12,
                             .r13 = c->r13,
                             .r14 = c->r14,
                             .r15 = c->r15};
}

static void event_in(const struct hvm_hw_cpu *c, struct hvm_event *e)
{
    *e = (struct hvm_event){.valid = c->pending_valid && c->pending_type != 4,
                            .type = c->pending_type == 0   ? HVM_EVENT_IRQ
                                    : c->pending_type == 2 ? HVM_EVENT_NMI
                                                           : HVM_EVENT_EXCEPTION,
                            .vector = c->pending_vector,
                            .has_error = c->pending_error_valid,
                            .error = c->error_code};
}

/* The legacy region as FXSAVE wrote it; without the flag, as after a reset. */
static void fpu_in(const struct hvm_hw_cpu *c, struct x86_vcpu *x)
{
    const uint64_t both = 3;

    fpu_reset(x);
    if (!(c->flags & XEN_X86_FPU_INITIALISED))
        return;
    memcpy(x->fpu, c->fpu_regs, FPU_LEGACY);
    *(uint32_t *)((char *)x->fpu + MXCSR) &= 0xffff;
    if (cpu_features.xsave)
        memcpy((char *)x->fpu + FPU_LEGACY, &both, sizeof(both));
}

static void cpu_in(struct vcpu *v, const struct hvm_hw_cpu *c)
{
    struct hvm_vcpu *h = hvm_vcpu(v);
    bool lma = (c->msr_efer & EFER_LME) && (c->cr0 & CR0_PG);

    hvm_set(v, HVM_RSP, c->rsp);
    hvm_set(v, HVM_RIP, c->rip);
    hvm_set(v, HVM_RFLAGS, hvm_rflags(c->rflags));
    hvm_set(v, HVM_CR0, c->cr0 | CR0_ET);
    hvm_set(v, HVM_CR2, c->cr2);
    hvm_set(v, HVM_CR3, c->cr3);
    hvm_set(v, HVM_CR4, c->cr4);
    hvm_set(v, HVM_EFER, (c->msr_efer & ~EFER_LMA) | (lma ? EFER_LMA : 0));
    h->dr[0] = c->dr0;
    h->dr[1] = c->dr1;
    h->dr[2] = c->dr2;
    h->dr[3] = c->dr3;
    hvm_set(v, HVM_DR6, c->dr6);
    hvm_set(v, HVM_DR7, c->dr7);
    hvm_set(v, HVM_SYSENTER_CS, c->sysenter_cs);
    hvm_set(v, HVM_SYSENTER_ESP, c->sysenter_esp);
    hvm_set(v, HVM_SYSENTER_EIP, c->sysenter_eip);
    hvm_set(v, HVM_KERNEL_GS, c->shadow_gs);
    hvm_set(v, HVM_LSTAR, c->msr_lstar);
    hvm_set(v, HVM_STAR, c->msr_star);
    hvm_set(v, HVM_CSTAR, c->msr_cstar);
    hvm_set(v, HVM_SFMASK, c->msr_syscall_mask);
    h->tsc_aux = c->msr_tsc_aux;
    hvm_set_tsc(v, c->tsc);
}

static void start(struct vcpu *v, const struct hvm_hw_cpu *c)
{
    general_in(c, &x86_vcpu(v)->regs);
    segments_in(c, v);
    cpu_in(v, c);
    fpu_in(c, x86_vcpu(v));
    event_in(c, &hvm_vcpu(v)->event);
    v->initialised = true;
    hvm_vcpu(v)->sipi_wait = false;
    __atomic_fetch_and(&v->pause_flags, ~(uint32_t)VPF_DOWN, __ATOMIC_SEQ_CST);
}

static void mtrr_in(struct vcpu *v, const struct hvm_hw_mtrr *m)
{
    struct hvm_vcpu *h = hvm_vcpu(v);
    bool known;

    hvm_set(v, HVM_PAT, m->msr_pat_cr);
    for (unsigned i = 0; i < MTRR_VCNT * 2; i++)
        (void)hvm_mtrr_set(v, MSR_MTRR_BASE + i, m->msr_mtrr_var[i], &known);
    memcpy(h->mtrr_fixed, m->msr_mtrr_fixed, sizeof(h->mtrr_fixed));
    h->mtrr_def = m->msr_mtrr_def_type;
}

static int apply(struct domain *d, const struct hvm_save_descriptor *head, const void *record)
{
    struct vcpu *v = domain_vcpu(d, head->instance);

    switch (head->typecode) {
    case HVM_SAVE_CODE(CPU):
        start(v, record);
        return 0;
    case CPU_XSAVE_CODE:
        xstate_set(v, (const uint8_t *)record + XSAVE_HEAD, head->length - XSAVE_HEAD);
        return 0;
    case HVM_SAVE_CODE(LAPIC):
        return vlapic_set_state(v, record);
    case HVM_SAVE_CODE(LAPIC_REGS):
        return vlapic_set_regs(v, record);
    case HVM_SAVE_CODE(MTRR):
        mtrr_in(v, record);
        return 0;
    case HVM_SAVE_CODE(VIRIDIAN_DOMAIN):
        viridian_set_domain(d, record);
        return 0;
    case HVM_SAVE_CODE(VIRIDIAN_VCPU):
        return viridian_set_vcpu(v, record);
    case HVM_SAVE_CODE(HEADER):
        return 0;
    default:
        hvm_board_set(d, head->typecode, head->instance, record);
        return 0;
    }
}

static int load(struct domain *d, const uint8_t *from, size_t size)
{
    int r;

    domain_pause(d);
    spin_lock(&d->lock);
    r = d->dying ? -EINVAL : each(d, from, size, record_ok);
    if (!r)
        r = each(d, from, size, apply);
    spin_unlock(&d->lock);
    if (!r)
        arch_wallclock_publish(d);
    domain_unpause(d);
    return r;
}

static long set_context(struct domctl *c)
{
    const struct xen_domctl_hvmcontext *op = &c->op.u.hvmcontext;
    uint8_t *copy;
    int r;

    if (c->d == c->hc.caller->domain || op->size > CONTEXT_MAX)
        return -EINVAL;
    copy = mem_alloc(MAX(op->size, 1u));
    if (!copy)
        return -ENOMEM;
    r = guest_read(c->hc.caller, copy, HANDLE(op->buffer), op->size);
    if (!r)
        r = load(c->d, copy, op->size);
    mem_free(copy);
    return r;
}

/* --- which of them --- */

long hvm_domctl(struct domctl *c)
{
    switch (c->op.cmd) {
    case XEN_DOMCTL_settscinfo:
        return hvm_settscinfo(c);
    case XEN_DOMCTL_gettscinfo:
        return hvm_gettscinfo(c);
    case XEN_DOMCTL_gethvmcontext:
        return get_context(c);
    case XEN_DOMCTL_sethvmcontext:
        return set_context(c);
    case XEN_DOMCTL_gethvmcontext_partial:
        return get_context_partial(c);
    default:
        return -EOPNOTSUPP;
    }
}
