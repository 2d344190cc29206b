/*
 * The VMCB of a vCPU: made, reset, read and written in neutral terms.
 *
 * Invariants
 *  1. What keeps a guest inside is set once, in intercepts(), and only changed for debug registers, IRET, CR8 and the interrupt window.
 *  2. EFER.SVME is always set in the VMCB and never shown.
 *  3. CPL is the DPL of SS.
 */
#include "private.h"
#include "arch/mem.h"
#include "core/alloc.h"
#include "core/frame.h"
#include "core/log.h"
#include "lib/string.h"
#include "x86/cpu.h"

#define DR6_DEFAULT 0xffff0ff0ull
#define DR7_DEFAULT 0x400ull
#define PAT_RESET   0x0007040600070406ull

static void intercepts(struct vmcb *c)
{
    c->dr_read = c->dr_write = 0xffff;
    c->exceptions = 1u << TRAP_MC | 1u << TRAP_DB | 1u << TRAP_AC;
    c->general1 = SVM_G1_INTR | SVM_G1_NMI | SVM_G1_SMI | SVM_G1_INIT | SVM_G1_RDPMC | SVM_G1_CPUID |
                  SVM_G1_RSM | SVM_G1_INVD | SVM_G1_HLT | SVM_G1_INVLPGA | SVM_G1_IOIO | SVM_G1_MSR |
                  SVM_G1_TASK_SWITCH | SVM_G1_FERR | SVM_G1_SHUTDOWN;
    c->general2 = SVM_G2_VMRUN | SVM_G2_VMMCALL | SVM_G2_VMLOAD | SVM_G2_VMSAVE | SVM_G2_STGI | SVM_G2_CLGI |
                  SVM_G2_SKINIT | SVM_G2_WBINVD | SVM_G2_MONITOR | SVM_G2_MWAIT | SVM_G2_MWAIT_ARMED |
                  SVM_G2_XSETBV | SVM_G2_RDPRU;
    c->general3 = SVM_G3_HIDDEN;
    c->cr_write = svm_watch_cr4 ? 1u << 4 : 0;
}

int svm_vcpu_init(struct vcpu *v)
{
    struct svm_vcpu *s = mem_new(struct svm_vcpu);
    struct vmcb *c;

    if (!s)
        return -ENOMEM;
    hvm_vcpu(v)->svm = s;
    c = frame_alloc_va(0);
    if (!c)
        return -ENOMEM;
    s->vmcb = c;
    s->pa = mfn_to_maddr(arch_va_mfn(c)).a;
    s->cpu = ~0u;
    intercepts(c);
    c->iopm = svm_iopm_pa;
    c->msrpm = svm_msrpm_pa;
    c->vintr = SVM_V_MASKING | svm_vnmi;
    c->nested = SVM_NESTED_ON;
    c->ncr3 = mfn_to_maddr(p2m_root(v->domain)).a;
    svm_vcpu_reset(v);
    return 0;
}

void svm_vcpu_free(struct vcpu *v)
{
    struct svm_vcpu *s = svm_vcpu(v);

    if (!s)
        return;
    if (s->vmcb)
        frame_free_va(s->vmcb, 0);
    mem_free(s);
    hvm_vcpu(v)->svm = NULL;
}

/* APM vol. 2 14.1.3. */
void svm_vcpu_reset(struct vcpu *v)
{
    struct vmcb *c = vmcb_of(v);
    const struct vmcb_segment data = {.attr = 0x93, .limit = 0xffff};

    memset(&c->es, 0, sizeof(*c) - offsetof(struct vmcb, es));
    c->es = c->ss = c->ds = c->fs = c->gs = data;
    c->cs = (struct vmcb_segment){.sel = 0xf000, .attr = 0x9b, .limit = 0xffff, .base = 0xffff0000};
    c->gdtr.limit = c->idtr.limit = 0xffff;
    c->ldtr = (struct vmcb_segment){.attr = 0x82, .limit = 0xffff};
    c->tr = (struct vmcb_segment){.attr = 0x8b, .limit = 0xffff};
    c->efer = EFER_SVME;
    c->cr0 = CR0_ET;
    c->dr6 = DR6_DEFAULT;
    c->dr7 = DR7_DEFAULT;
    c->rflags = EFLAGS_MBS;
    c->rip = 0xfff0;
    c->pat = PAT_RESET;
    c->event = c->exit_int_info = c->shadow = c->lbr_control = 0;
    c->vintr = SVM_V_MASKING | svm_vnmi;
    c->dr_read = c->dr_write = 0xffff;
    c->general1 &= ~(SVM_G1_IRET | SVM_G1_VINTR);
    c->cr_write &= (uint16_t)~SVM_CR8_WRITE;
    svm_vcpu(v)->clean = 0;
    svm_flush(v);
}

/* --- registers --- */

static uint64_t *place(struct vmcb *c, enum hvm_reg r, uint32_t *part)
{
    *part = 0;
    switch (r) {
    case HVM_RIP:
        return &c->rip;
    case HVM_RSP:
        return &c->rsp;
    case HVM_RFLAGS:
        return &c->rflags;
    case HVM_CR0:
        *part = SVM_CLEAN_CR;
        return &c->cr0;
    case HVM_CR2:
        *part = SVM_CLEAN_CR2;
        return &c->cr2;
    case HVM_CR3:
        *part = SVM_CLEAN_CR;
        return &c->cr3;
    case HVM_CR4:
        *part = SVM_CLEAN_CR;
        return &c->cr4;
    case HVM_EFER:
        *part = SVM_CLEAN_CR;
        return &c->efer;
    case HVM_DR6:
        *part = SVM_CLEAN_DR;
        return &c->dr6;
    case HVM_DR7:
        *part = SVM_CLEAN_DR;
        return &c->dr7;
    case HVM_PAT:
        *part = SVM_CLEAN_NESTED;
        return &c->pat;
    case HVM_DEBUGCTL:
        return &c->dbgctl;
    case HVM_BRANCH_FROM:
        return &c->branch_from;
    case HVM_BRANCH_TO:
        return &c->branch_to;
    case HVM_EXCEPTION_FROM:
        return &c->exception_from;
    case HVM_EXCEPTION_TO:
        return &c->exception_to;
    case HVM_STAR:
        return &c->star;
    case HVM_LSTAR:
        return &c->lstar;
    case HVM_CSTAR:
        return &c->cstar;
    case HVM_SFMASK:
        return &c->sfmask;
    case HVM_KERNEL_GS:
        return &c->kernel_gs;
    case HVM_SYSENTER_CS:
        return &c->sysenter_cs;
    case HVM_SYSENTER_ESP:
        return &c->sysenter_esp;
    case HVM_SYSENTER_EIP:
        return &c->sysenter_eip;
    }
    panic("SVM: no such register %u", r);
}

uint64_t svm_get(const struct vcpu *v, enum hvm_reg r)
{
    uint32_t part;
    uint64_t value = *place(vmcb_of(v), r, &part);

    return r == HVM_EFER ? value & ~EFER_SVME : value;
}

void svm_set(struct vcpu *v, enum hvm_reg r, uint64_t value)
{
    uint32_t part;
    uint64_t *at = place(vmcb_of(v), r, &part);

    *at = r == HVM_EFER ? value | EFER_SVME : value;
    if (r == HVM_DEBUGCTL)
        vmcb_of(v)->lbr_control = value != 0;
    svm_touch(v, part);
}

static struct vmcb_segment *segment(struct vmcb *c, enum hvm_seg s)
{
    struct vmcb_segment *const at[HVM_SEGS] = {
        [HVM_ES] = &c->es,     [HVM_CS] = &c->cs,    [HVM_SS] = &c->ss,     [HVM_DS] = &c->ds,
        [HVM_FS] = &c->fs,     [HVM_GS] = &c->gs,    [HVM_LDTR] = &c->ldtr, [HVM_TR] = &c->tr,
        [HVM_GDTR] = &c->gdtr, [HVM_IDTR] = &c->idtr};

    return at[s];
}

void svm_get_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    const struct vmcb_segment *e = segment(vmcb_of(v), s);

    *out = (struct hvm_segment){.sel = e->sel, .attr = e->attr, .limit = e->limit, .base = e->base};
}

void svm_set_segment(struct vcpu *v, enum hvm_seg s, const struct hvm_segment *in)
{
    struct vmcb *c = vmcb_of(v);

    *segment(c, s) =
        (struct vmcb_segment){.sel = in->sel, .attr = in->attr & 0xfff, .limit = in->limit, .base = in->base};
    if (s == HVM_SS)
        c->cpl = in->attr >> 5 & 3;
    svm_touch(v, s >= HVM_GDTR ? SVM_CLEAN_TABLES : SVM_CLEAN_SEGMENTS);
}

/* --- events --- */

/* What was interrupted while it was being delivered. Software interrupts and breakpoints are left out: RIP still names the instruction,
 * which runs again. */
void svm_interrupted(struct vcpu *v, struct hvm_event *out)
{
    struct vmcb *c = vmcb_of(v);
    uint64_t e = c->exit_int_info;
    uint8_t vector = (uint8_t)e;

    out->valid = false;
    if (!(e & SVM_EVENT_VALID))
        return;
    c->exit_int_info = 0;
    *out = (struct hvm_event){.valid = true,
                              .vector = vector,
                              .has_error = (e & SVM_EVENT_ERROR) != 0,
                              .error = (uint32_t)(e >> 32)};
    switch (e >> 8 & 7) {
    case SVM_TYPE_IRQ:
        out->type = HVM_EVENT_IRQ;
        break;
    case SVM_TYPE_NMI:
        out->type = HVM_EVENT_NMI;
        break;
    case SVM_TYPE_EXCEPTION:
        out->type = HVM_EVENT_EXCEPTION;
        out->valid = vector != TRAP_BP && vector != TRAP_OF && vector < 32 && vector != TRAP_NMI;
        break;
    default:
        out->valid = false;
    }
}

void svm_inject(struct vcpu *v, const struct hvm_event *e)
{
    static const uint8_t type[] = {[HVM_EVENT_IRQ] = SVM_TYPE_IRQ,
                                   [HVM_EVENT_NMI] = SVM_TYPE_NMI,
                                   [HVM_EVENT_EXCEPTION] = SVM_TYPE_EXCEPTION};

    vmcb_of(v)->event = SVM_EVENT_VALID | SVM_EVENT_TYPE(type[e->type]) | e->vector |
                        (e->has_error ? SVM_EVENT_ERROR | (uint64_t)e->error << 32 : 0);
}

void svm_dump(struct vcpu *v)
{
    const struct vmcb *c = vmcb_of(v);
    unsigned id = v->domain->id.v;

    log_err("d%u exit %lx info %lx %lx int %lx event %lx asid %u", id, c->exit_code, c->info1, c->info2,
            c->exit_int_info, c->event, c->asid);
    log_err("d%u vintr %lx shadow %lx ncr3 %lx tsc %lx clean %lx intercepts %x %x", id, c->vintr, c->shadow,
            c->ncr3, c->tsc_offset, c->clean, c->general1, c->general2);
}
