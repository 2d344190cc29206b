/*
 * How a PV guest's kernel is entered and left (bounce.c, iret.c), and what privileged instructions do
 * (emul*.c), with the machine replaced by the functions below: guest memory is an array, tables and registers
 * are counters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "../../arch/x86/metal/asm.h"
#include "../../arch/x86/pv/private.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "core/guest.h"
#include "lib/fmt.h"
#include "x86/cpu.h"
#include "x86/platform.h"
#include "x86/policy.h"
#include "x86/pte.h"
#include "x86/tlb.h"
#include "core/frame.h"
#include "arch/mem.h"

#define MEM_BASE 0x7f0000000000ull
#define MEM_SIZE 0x8000u

static struct x86_domain dom;
static struct cpu_policy policy;
static struct x86_vcpu vcpu;
static struct vcpu_info info;
static struct pv_trap traps[256];
static struct guest_regs before, *regs = &vcpu.regs;
static uint8_t mem[MEM_SIZE];
static uint64_t read_only_from; /* offset in mem; MEM_SIZE: all writable */
static unsigned toggles, crashes, port_reads, port_writes, blocks, root_loads;
static uint32_t last_port_value;
static uint16_t last_port;
static bool rights;
static char crash_reason[200];

/* --- the machine --- */
struct cpu_features cpu_features = {.amd = true,
                                    .xsave = true,
                                    .xcr0_mask = 7,
                                    .xsave_size = 832,
                                    .max_leaf = 0xd,
                                    .max_ext_leaf = 0x80000008};
uint64_t tsc_khz = 1000000;

struct vcpu *arch_current(void)
{
    return &vcpu.core;
}
struct guest_regs *vcpu_regs(struct vcpu *v)
{
    return regs;
}
void domain_crash(struct domain *d, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fmt_vsnprintf(crash_reason, sizeof(crash_reason), fmt, ap);
    va_end(ap);
    crashes++;
    d->crashed = 1;
}
bool pv_range_ok(uint64_t a, size_t n)
{
    return a < 0x800000000000 && a + n <= 0x800000000000;
}
bool pv_copy_in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    if (from.a < MEM_BASE || from.a - MEM_BASE + n > MEM_SIZE)
        return false;
    memcpy(to, mem + (from.a - MEM_BASE), n);
    return true;
}
bool pv_copy_out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    if (to.a < MEM_BASE || to.a - MEM_BASE + n > read_only_from)
        return false;
    memcpy(mem + (to.a - MEM_BASE), from, n);
    return true;
}
bool pv_copy_in_kernel(struct vcpu *v, void *to, gva_t from, size_t n)
{
    return pv_copy_in(v, to, from, n);
}
int guest_read(struct vcpu *caller, void *to, gva_t from, size_t n)
{
    return pv_copy_in(caller, to, from, n) ? 0 : -EFAULT;
}
bool pv_mmu_walk(struct vcpu *v, gva_t va, uint64_t *l1e)
{
    if (va.a < MEM_BASE || va.a - MEM_BASE >= MEM_SIZE)
        return false;
    *l1e = PTE_P | PTE_US | (va.a - MEM_BASE < read_only_from ? PTE_RW : 0);
    return true;
}
void pv_toggle_mode(struct vcpu *v)
{
    vcpu.pv.kernel_mode = !vcpu.pv.kernel_mode;
    toggles++;
}
bool pv_code_segment(struct vcpu *v, const struct guest_regs *r, unsigned *bits, uint64_t *base)
{
    *bits = 64;
    *base = 0;
    return true;
}
bool pv_data_base(struct vcpu *v, const struct guest_regs *r, unsigned seg, unsigned bits, uint64_t *base)
{
    *base = 0;
    return true;
}
bool port_allowed(const struct domain *d, uint16_t port, unsigned bytes)
{
    return rights;
}
uint32_t port_in(uint16_t port, unsigned bytes)
{
    last_port = port;
    return 0xa0000000u + port_reads++;
}
void port_out(uint16_t port, unsigned bytes, uint32_t value)
{
    last_port = port;
    last_port_value = value;
    port_writes++;
}
uint32_t pci_read(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes)
{
    return (uint32_t)bus << 24 | (uint32_t)dev << 16 | (uint32_t)fn << 12 | reg;
}
void pci_write(uint16_t seg, uint8_t bus, uint8_t dev, uint8_t fn, uint16_t reg, unsigned bytes,
               uint32_t value)
{
    last_port_value = value;
    last_port = reg;
}
void vcpu_block(struct vcpu *v)
{
    blocks++;
}
void vcpu_kick(struct vcpu *v)
{
}

void vcpu_unblock(struct vcpu *v)
{
}
void pv_set_fpu_ts(struct vcpu *v, bool set)
{
    vcpu.pv.ts = set;
}
void pv_set_xcr0(struct vcpu *v, uint64_t value)
{
    vcpu.xcr0 = value;
}
void pv_load_cr4(struct vcpu *v)
{
}
void pv_load_debug_registers(struct vcpu *v)
{
}
int pv_set_root(struct vcpu *v, mfn_t l4, bool user)
{
    root_loads++;
    return l4.n == 0x77 ? -EAGAIN : l4.n == 0x78 ? -EINVAL : 0;
}
bool rdmsr_safe(uint32_t msr, uint64_t *v)
{
    *v = 0x1234;
    return true;
}
bool wrmsr_safe(uint32_t msr, uint64_t v)
{
    return false;
}
int pv_frame_get_type(mfn_t m, struct domain *d, uint64_t type, bool preemptible)
{
    return -EINVAL;
}
void pv_frame_put_type(mfn_t m)
{
}
void log_guest(did_t id, enum log_level level, const char *fmt, ...)
{
}
void tlb_flush_local(void)
{
}
void tlb_flush_local_va(gva_t va)
{
}
uint64_t frame_count = 0x100000;
struct frame *frame_table;
bool frame_get(struct frame *f, const struct domain *d)
{
    return false;
}
void frame_put(struct frame *f)
{
}
void *arch_frame_va(mfn_t m)
{
    return NULL;
}

/* --- set-up --- */

static int setup(void **state)
{
    memset(&dom, 0, sizeof(dom));
    memset(&vcpu, 0, sizeof(vcpu));
    memset(&info, 0, sizeof(info));
    memset(traps, 0, sizeof(traps));
    memset(mem, 0, sizeof(mem));
    vcpu.core.domain = &dom.core;
    vcpu.core.info = &info;
    vcpu.pv.trap = traps;
    vcpu.pv.kernel_mode = true;
    vcpu.pv.kernel_sp = MEM_BASE + 0x4000;
    vcpu.pv.root_kernel = MFN(5);
    vcpu.pv.root_user = MFN(6);
    dom.core.hardware = true;
    memset(&policy, 0, sizeof(policy));
    policy.basic[0].a = 0xd;
    policy.xstate[0].a = 7;
    dom.policy = &policy;
    rights = true;
    read_only_from = MEM_SIZE;
    toggles = crashes = port_reads = port_writes = blocks = root_loads = 0;
    *regs = (struct guest_regs){.rip = MEM_BASE + 0x100,
                                .cs = FLAT_RING3_CS64,
                                .ss = FLAT_RING3_SS64,
                                .rsp = MEM_BASE + 0x3008,
                                .rflags = 0x10246,
                                .rcx = 0x1111,
                                .r11 = 0x2222};
    for (unsigned i = 0; i < 32; i++)
        traps[i] = (struct pv_trap){.address = 0xffffffff81000000 + i * 16};
    return 0;
}

static const uint64_t *stack(void)
{
    return (const uint64_t *)(mem + (regs->rsp - MEM_BASE));
}

static void code(const char *bytes, unsigned n)
{
    memcpy(mem + 0x100, bytes, n);
}
#define CODE(s) code(s, sizeof(s) - 1)

static enum pv_verdict emulate(struct pv_fault *f)
{
    before = *regs;
    return pv_emulate_privileged(&vcpu.core, regs, f);
}

/* --- frames --- */

static void test_frame_from_kernel(void **state)
{
    before = *regs;
    assert_true(pv_bounce_trap(&vcpu.core, regs, TRAP_GP, 0x58, true));
    assert_int_equal(regs->rsp & 15, 8 & 0); /* 8 words below a 16-byte boundary */
    assert_true(regs->rsp == (before.rsp & ~15ull) - 64);
    assert_true(stack()[0] == 0x1111 && stack()[1] == 0x2222 && stack()[2] == 0x58);
    assert_true(stack()[3] == before.rip);
    assert_true(stack()[4] == (FLAT_RING3_CS64 & ~3)); /* RPL 0: came from the kernel; mask 0 */
    assert_true(stack()[5] == 0x10246);
    assert_true(stack()[6] == before.rsp && stack()[7] == FLAT_RING3_SS64);
    assert_true(regs->rip == traps[TRAP_GP].address && regs->cs == FLAT_KERNEL_CS &&
                regs->ss == FLAT_KERNEL_SS);
    assert_true(regs->rflags == 0x246);
    assert_int_equal(toggles, 0);
    assert_int_equal(info.evtchn_upcall_mask, 0);
}

static void test_frame_from_user(void **state)
{
    vcpu.pv.kernel_mode = false;
    regs->cs = 0x33;
    regs->rsp = 0x1000; /* not the kernel's to use */
    info.evtchn_upcall_mask = 1;
    traps[TRAP_UD].mask_events = true;
    assert_true(pv_bounce_trap(&vcpu.core, regs, TRAP_UD, 0, false));
    assert_int_equal(toggles, 1);
    assert_true(vcpu.pv.kernel_mode);
    assert_true(regs->rsp == MEM_BASE + 0x4000 - 56);
    assert_true(stack()[3] == (0x33 | 1ull << 32)); /* the mask that was */
    assert_true(!(stack()[4] & EFLAGS_IF));
    assert_int_equal(info.evtchn_upcall_mask, 1);
}

static void test_iopl_is_shown_on_demand(void **state)
{
    vcpu.pv.iopl = 1;
    pv_bounce_trap(&vcpu.core, regs, TRAP_DE, 0, false);
    assert_int_equal(stack()[4] & EFLAGS_IOPL, 0);
    setup(NULL);
    vcpu.pv.iopl = 1;
    dom.core.vm_assist = 1ull << VMASST_TYPE_architectural_iopl;
    pv_bounce_trap(&vcpu.core, regs, TRAP_DE, 0, false);
    assert_int_equal(stack()[4] & EFLAGS_IOPL, 0x1000);
}

static void test_undeliverable(void **state)
{
    regs->rsp = 64;
    before = *regs;
    assert_false(pv_bounce_trap(&vcpu.core, regs, TRAP_PF, 2, true));
    assert_int_equal(crashes, 1);
    assert_non_null(strstr(crash_reason, "bad kernel stack"));
    assert_memory_equal(&before, regs, sizeof(before));
    setup(NULL);
    traps[TRAP_PF].address = 0;
    assert_false(pv_bounce_trap(&vcpu.core, regs, TRAP_PF, 2, true));
    assert_non_null(strstr(crash_reason, "no handler"));
    setup(NULL);
    read_only_from = 0x3000 - 8;
    assert_false(pv_bounce_trap(&vcpu.core, regs, TRAP_DE, 0, false));
    assert_int_equal(crashes, 1);
}

static void test_failsafe_frame(void **state)
{
    vcpu.pv.failsafe = (struct pv_callback){.eip = 0xffffffff82000000};
    vcpu.pv.ds = 0x2b;
    vcpu.pv.gs = 0x17;
    assert_true(pv_bounce_failsafe(&vcpu.core, regs));
    assert_true(stack()[2] == 0x2b && stack()[3] == 0 && stack()[5] == 0x17);
    assert_true(stack()[6] == MEM_BASE + 0x100);
    assert_true(regs->rip == 0xffffffff82000000);
}

static void test_page_fault_bits(void **state)
{
    pv_inject_pf(&vcpu.core, 0xdead000, PF_WRITE | PF_USER | PF_PRESENT);
    assert_true(info.arch.cr2 == 0xdead000 && vcpu.pv.cr2 == 0xdead000);
    assert_int_equal(stack()[2], PF_WRITE | PF_PRESENT);
    setup(NULL);
    vcpu.pv.kernel_mode = false;
    pv_inject_pf(&vcpu.core, 0x1000, 0);
    assert_int_equal(stack()[2], PF_USER);
}

static void test_soft_interrupt_levels(void **state)
{
    traps[0x80] = (struct pv_trap){.address = 0xffffffff81800000, .dpl = 3};
    traps[0x81] = (struct pv_trap){.address = 0xffffffff81800010, .dpl = 0};
    traps[0x83] = (struct pv_trap){.address = 0xffffffff81800020, .dpl = 1};
    assert_false(pv_soft_interrupt(&vcpu.core, regs, 0x81));
    assert_false(pv_soft_interrupt(&vcpu.core, regs, 0x82));
    assert_true(pv_soft_interrupt(&vcpu.core, regs, 0x83));
    setup(NULL);
    traps[0x80] = (struct pv_trap){.address = 0xffffffff81800000, .dpl = 3};
    traps[0x83] = (struct pv_trap){.address = 0xffffffff81800020, .dpl = 1};
    vcpu.pv.kernel_mode = false;
    assert_false(pv_soft_interrupt(&vcpu.core, regs, 0x83));
    assert_true(pv_soft_interrupt(&vcpu.core, regs, 0x80));
}

static void test_events(void **state)
{
    before = *regs;
    vcpu.pv.event = (struct pv_callback){.eip = 0xffffffff81900000};
    pv_deliver_events(regs); /* nothing pending */
    assert_memory_equal(&before, regs, sizeof(before));
    info.evtchn_upcall_pending = 1;
    info.evtchn_upcall_mask = 1;
    pv_deliver_events(regs);
    assert_memory_equal(&before, regs, sizeof(before));
    info.evtchn_upcall_mask = 0;
    pv_deliver_events(regs);
    assert_true(regs->rip == 0xffffffff81900000);
    assert_int_equal(info.evtchn_upcall_mask, 1);
    assert_true(stack()[4] & EFLAGS_IF);
    before = *regs;
    pv_deliver_events(regs); /* masked until the kernel unmasks */
    assert_memory_equal(&before, regs, sizeof(before));
}

static void test_nmi_once(void **state)
{
    pv_nmi(&vcpu.core);
    pv_deliver_events(regs);
    assert_true(regs->rip == traps[TRAP_NMI].address && vcpu.pv.nmi_masked && !vcpu.pv.nmi_pending);
    before = *regs;
    pv_nmi(&vcpu.core);
    pv_deliver_events(regs);
    assert_memory_equal(&before, regs, sizeof(before)); /* not before iret */
}

/* --- iret --- */

static struct hypercall hc = {.caller = &vcpu.core};

static void put_frame(const struct iret_context *c)
{
    memcpy(mem + 0x2000, c, sizeof(*c));
    regs->rsp = MEM_BASE + 0x2000;
}

static void test_iret_to_user(void **state)
{
    struct iret_context c = {.rax = 1,
                             .r11 = 2,
                             .rcx = 3,
                             .rip = 0x400000,
                             .cs = 0x33,
                             .rflags = 0x3246 | EFLAGS_VM,
                             .rsp = 0x7ffe0000,
                             .ss = 0x2b};

    info.evtchn_upcall_mask = 1;
    vcpu.pv.nmi_masked = true;
    put_frame(&c);
    assert_true(do_iret(&hc) == HC_NO_RESULT);
    assert_int_equal(toggles, 1);
    assert_false(vcpu.pv.kernel_mode);
    assert_true(regs->rip == 0x400000 && regs->cs == 0x33 && regs->ss == 0x2b && regs->rsp == 0x7ffe0000);
    assert_true(regs->rax == 1 && regs->rcx == 3 && regs->r11 == 2);
    assert_true(regs->rflags == 0x246); /* no IOPL, no VM */
    assert_int_equal(info.evtchn_upcall_mask, 0);
    assert_false(vcpu.pv.nmi_masked);
}

static void test_iret_forces_ring3(void **state)
{
    struct iret_context c = {
        .rip = 0xffffffff81000000, .cs = 0xe008, .rflags = 2, .rsp = 0xffff888000001000, .ss = 0};

    put_frame(&c);
    do_iret(&hc);
    assert_int_equal(toggles, 0);
    assert_true(regs->cs == 0xe00b && regs->ss == 3);
    assert_true(regs->rflags & EFLAGS_IF);
    assert_int_equal(info.evtchn_upcall_mask, 1); /* IF clear in the frame */
}

static void test_iret_bad(void **state)
{
    struct iret_context c = {.cs = 0x33};

    regs->rsp = 0x10;
    assert_true(do_iret(&hc) == HC_NO_RESULT);
    assert_int_equal(crashes, 1);
    setup(NULL);
    vcpu.pv.root_user = INVALID_MFN;
    put_frame(&c);
    do_iret(&hc);
    assert_int_equal(crashes, 1);
    assert_int_equal(toggles, 0);
}

static void test_iret_sysret(void **state)
{
    struct iret_context c = {.flags = VGCF_in_syscall,
                             .rip = 0x400000,
                             .cs = 0x33,
                             .rflags = 0x202,
                             .rsp = 0x7ffe0000,
                             .ss = 0x2b};

    put_frame(&c);
    do_iret(&hc);
    assert_true(regs->rcx == regs->rip && regs->r11 == regs->rflags && regs->cs == FLAT_USER_CS64);
}

/* --- emulation --- */

static void test_port_levels(void **state)
{
    struct pv_fault f;

    CODE("\xed"); /* in (%dx), %eax */
    regs->rdx = 0x1f0;
    regs->rax = ~0ull;
    assert_int_equal(emulate(&f), PVE_NOT_OURS); /* kernel without IOPL 1 */
    vcpu.pv.iopl = 1;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rax == 0xa0000000 && regs->rip == before.rip + 1);
    vcpu.pv.kernel_mode = false;
    CODE("\xed\xed");
    regs->rip = MEM_BASE + 0x100;
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    vcpu.pv.iopl = 3;
    assert_int_equal(emulate(&f), PVE_DONE);
    rights = false;
    regs->rip = MEM_BASE + 0x100;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rax == 0xffffffff);
    assert_int_equal(port_reads, 2);
}

static void test_port_bitmap(void **state)
{
    struct pv_fault f;

    vcpu.pv.kernel_mode = false;
    memset(mem + 0x5000, 0xff, 0x100);
    mem[0x5000 + 0x60 / 8] = 0xfe; /* port 0x60 only */
    vcpu.pv.iobmp = GVA(MEM_BASE + 0x5000);
    vcpu.pv.iobmp_ports = 0x100;
    regs->rdx = 0x60;
    CODE("\xec");
    assert_int_equal(emulate(&f), PVE_DONE);
    regs->rip = MEM_BASE + 0x100;
    CODE("\xed"); /* four ports wide */
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    regs->rdx = 0x100; /* beyond the limit */
    CODE("\xec");
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    regs->rdx = 0x60;
    vcpu.pv.iobmp = GVA(0x10); /* not readable */
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
}

static void test_string_pieces(void **state)
{
    struct pv_fault f;

    vcpu.pv.iopl = 1;
    CODE("\xf3\x6d"); /* rep insl */
    regs->rdx = 0x1f0;
    regs->rdi = MEM_BASE + 0x1000;
    regs->rcx = 300;
    assert_int_equal(emulate(&f), PVE_RETRY);
    assert_true(regs->rcx == 172 && regs->rip == before.rip && regs->rdi == before.rdi + 512);
    assert_int_equal(emulate(&f), PVE_RETRY);
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rcx == 0 && regs->rip == before.rip + 2);
    assert_int_equal(port_reads, 300);
    assert_int_equal(*(uint32_t *)(mem + 0x1000 + 4 * 299), 0xa0000000 + 299);
    regs->rip = MEM_BASE + 0x100;
    assert_int_equal(emulate(&f), PVE_DONE); /* count 0 */
    assert_int_equal(port_reads, 300);
}

static void test_string_fault_loses_nothing(void **state)
{
    struct pv_fault f;

    vcpu.pv.iopl = 1;
    CODE("\xf3\x6d");
    regs->rdx = 0x1f0;
    regs->rdi = MEM_BASE + 0x1ff8;
    regs->rcx = 10;
    read_only_from = 0x2000;
    assert_int_equal(emulate(&f), PVE_FAULT);
    assert_int_equal(f.vector, TRAP_PF);
    assert_true(f.cr2 == MEM_BASE + 0x2000 && f.error_code == (PF_WRITE | PF_PRESENT));
    assert_true(regs->rcx == 8 && regs->rip == before.rip);
    assert_int_equal(port_reads, 2); /* the third word is still in the device */
}

static void test_string_direction(void **state)
{
    struct pv_fault f;

    vcpu.pv.iopl = 1;
    CODE("\xf3\x66\x6f"); /* rep outsw */
    regs->rdx = 0x1f0;
    regs->rsi = MEM_BASE + 0x1004;
    regs->rcx = 3;
    regs->rflags |= EFLAGS_DF;
    *(uint16_t *)(mem + 0x1000) = 0x5678;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(last_port_value == 0x5678 && regs->rsi == MEM_BASE + 0xffe);
}

static void test_pci_ports(void **state)
{
    struct pv_fault f;

    vcpu.pv.iopl = 1;
    CODE("\xef\xed"); /* out %eax, (%dx); in */
    regs->rdx = 0xcf8;
    regs->rax = 0x8102e110;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_int_equal(port_writes, 0); /* a latch of ours */
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rax == 0x8102e110);
    regs->rip = MEM_BASE + 0x101;
    regs->rdx = 0xcfc;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true((uint32_t)regs->rax == (2u << 24 | 28u << 16 | 1u << 12 | 0x110));
    regs->rip = MEM_BASE + 0x101;
    regs->rdx = 0xcfd; /* would cross the register */
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true((uint32_t)regs->rax == ~0u);
    dom.core.hardware = false;
    regs->rip = MEM_BASE + 0x101;
    regs->rdx = 0xcfc;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true((uint32_t)regs->rax == ~0u);
    /* Another domain has the ports that it was granted, and nothing of configuration space. */
    port_reads = port_writes = 0;
    for (uint16_t port = 0xcfc; port <= 0xcff; port++) {
        regs->rip = MEM_BASE + 0x100;
        regs->rdx = port;
        assert_int_equal(emulate(&f), PVE_DONE);
        assert_int_equal(emulate(&f), PVE_DONE);
    }
    assert_int_equal(port_reads + port_writes, 0);
    regs->rip = MEM_BASE + 0x100;
    regs->rdx = 0x300;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(port_reads == 1 && port_writes == 1 && last_port == 0x300);
    rights = false;
    regs->rip = MEM_BASE + 0x100;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_int_equal(port_writes, 1);
}

/* Every instruction that is the kernel's stays a #GP for a user program. */
static void test_user_gets_nothing(void **state)
{
    static const char *const insn[] = {"\x0f\x22\xd8", "\x0f\x20\xc0", "\x0f\x30",     "\x0f\x32",
                                       "\x0f\x06",     "\x0f\x09",     "\x0f\x01\xd1", "\xf4",
                                       "\xfa",         "\x0f\x23\xf8", "\x0f\x01\x38", "\x0f\x31"};
    struct pv_fault f;

    vcpu.pv.kernel_mode = false;
    for (unsigned i = 0; i < ARRAY_SIZE(insn); i++) {
        memset(mem + 0x100, 0, 16);
        memcpy(mem + 0x100, insn[i], strlen(insn[i]));
        assert_int_equal(emulate(&f), PVE_NOT_OURS);
        assert_memory_equal(&before, regs, sizeof(before));
    }
    assert_int_equal(root_loads, 0);
}

static void test_kernel_registers(void **state)
{
    struct pv_fault f;

    CODE("\x0f\x20\xd8"); /* mov %cr3, %rax */
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rax == 5ul << 12);
    regs->rip = MEM_BASE + 0x100;
    regs->rax = 0x77ul << 12;
    CODE("\x0f\x22\xd8");
    assert_int_equal(emulate(&f), PVE_RETRY);
    assert_true(regs->rip == before.rip);
    regs->rax = 0x78ul << 12;
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    regs->rip = MEM_BASE + 0x100;
    CODE("\x0f\x22\xe0"); /* mov %rax, %cr4: unknown bits do not stick */
    regs->rax = ~0ull;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_int_equal(vcpu.pv.cr4_guest & (1u << 20 | 1u << 21 | 1u << 7), 0);
    regs->rip = MEM_BASE + 0x100;
    CODE("\xf4");
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_int_equal(blocks, 1);
}

static void test_xsetbv(void **state)
{
    struct pv_fault f;

    CODE("\x0f\x01\xd1");
    regs->rcx = 0;
    regs->rax = 7;
    assert_int_equal(emulate(&f), PVE_FAULT); /* CR4.OSXSAVE is off */
    assert_int_equal(f.vector, TRAP_UD);
    vcpu.pv.cr4_guest = PV_CR4_INITIAL;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(vcpu.xcr0 == 7);
    regs->rip = MEM_BASE + 0x100;
    regs->rax = 0x207;
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    regs->rax = 6;
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    regs->rax = 7;
    regs->rcx = 1;
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
}

static void test_msrs(void **state)
{
    uint64_t v;

    assert_true(pv_rdmsr(&vcpu.core, 0x277, &v) && v == 0x50100070406);
    assert_true(pv_wrmsr(&vcpu.core, 0x277, v));
    assert_false(pv_wrmsr(&vcpu.core, 0x277, 0));
    assert_true(pv_rdmsr(&vcpu.core, 0x1b, &v) && v == 0xfee00900);
    assert_false(pv_wrmsr(&vcpu.core, 0x1b, v | 1 << 10));
    assert_false(pv_rdmsr(&vcpu.core, 0xdeadbeef, &v));
    assert_false(pv_wrmsr(&vcpu.core, 0xc0000100, 0x800000000000)); /* not canonical */
    assert_false(pv_wrmsr(&vcpu.core, 0xc0000082, 0x1234));         /* LSTAR: callback_op is the way */
    assert_false(pv_rdmsr(&vcpu.core, 0xc0000082, &v));
    assert_false(pv_wrmsr(&vcpu.core, 0x176, 0x1234));
}

/* Where CPUID faults: the kernel gets the policy's answer, its user mode too unless the kernel asked for #GP. */
static void test_cpuid_faulting(void **state)
{
    bool intel = cpu_features.intel, amd = cpu_features.amd;
    struct pv_fault f;
    uint64_t v;

    cpu_features.intel = true;
    cpu_features.amd = false;
    assert_true(pv_rdmsr(&vcpu.core, 0xce, &v) && v == 0);
    assert_false(pv_wrmsr(&vcpu.core, 0x140, 1)); /* the processor does not have it */
    policy.platform_info = 1ull << 31;
    assert_true(pv_rdmsr(&vcpu.core, 0xce, &v) && v == 1ull << 31);
    assert_false(pv_wrmsr(&vcpu.core, 0x140, 2));
    assert_true(pv_wrmsr(&vcpu.core, 0x140, 1) && pv_rdmsr(&vcpu.core, 0x140, &v) && v == 1);
    CODE("\x0f\xa2");
    regs->rax = 0x40000000;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_int_equal(regs->rbx, 0x566e6558);
    vcpu.pv.kernel_mode = false;
    regs->rip = MEM_BASE + 0x100;
    assert_int_equal(emulate(&f), PVE_NOT_OURS); /* stays the #GP that it was */
    assert_true(pv_wrmsr(&vcpu.core, 0x140, 0));
    regs->rax = 0x40000000;
    assert_int_equal(emulate(&f), PVE_DONE);
    policy.platform_info = 0;
    cpu_features.intel = intel;
    cpu_features.amd = amd;
}

/* Before a kernel has a #GP handler, an unknown MSR reads as zero; with one, it faults. */
static void test_early_rdmsr(void **state)
{
    struct pv_fault f;

    CODE("\x0f\x32");
    regs->rcx = 0xdeadbeef;
    assert_int_equal(emulate(&f), PVE_NOT_OURS);
    traps[TRAP_GP].address = 0;
    regs->rax = regs->rdx = 9;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rax == 0 && regs->rdx == 0);
}

static void test_single_step(void **state)
{
    struct pv_fault f;

    CODE("\x0f\x06");
    regs->rflags |= EFLAGS_TF;
    assert_int_equal(emulate(&f), PVE_DONE);
    assert_true(regs->rip == traps[TRAP_DB].address && (vcpu.pv.dr[6] & 0x4000));
    assert_true(stack()[2] == before.rip + 2);
}

static void test_forced_cpuid(void **state)
{
    memcpy(mem + 0x100, "\x0f\x0bxen\x0f\xa2", 7);
    regs->rax = 0x40000000;
    assert_true(pv_emulate_forced_cpuid(&vcpu.core, regs));
    assert_true(regs->rbx == XEN_CPUID_SIGNATURE_EBX && regs->rip == MEM_BASE + 0x107);
    assert_false(pv_emulate_forced_cpuid(&vcpu.core, regs));
}

/* --- debug registers, hypercall page --- */

static void test_debug_registers(void **state)
{
    uint64_t v;

    assert_int_equal(pv_set_debugreg(&vcpu.core, 0, 0xffff800000000000), -EPERM);
    assert_int_equal(pv_set_debugreg(&vcpu.core, 0, 0x400000), 0);
    assert_int_equal(pv_set_debugreg(&vcpu.core, 7, 0x2000), -EPERM);  /* GD */
    assert_int_equal(pv_set_debugreg(&vcpu.core, 7, 0x20002), -EPERM); /* I/O without DE */
    assert_int_equal(pv_set_debugreg(&vcpu.core, 5, 0x1), 0);          /* alias of 7 */
    assert_int_equal(pv_get_debugreg(&vcpu.core, 7, &v), 0);
    assert_true(v == 0x401);
    assert_int_equal(pv_set_debugreg(&vcpu.core, 6, ~0ull), -EINVAL); /* beyond 32 bits */
    assert_int_equal(pv_set_debugreg(&vcpu.core, 7, 1ull << 32), -EINVAL);
    assert_int_equal(pv_set_debugreg(&vcpu.core, 6, 0xffffffff), 0);
    assert_int_equal(pv_get_debugreg(&vcpu.core, 6, &v), 0);
    assert_true(v == 0xffffefff);
    vcpu.pv.cr4_guest = 8;
    assert_int_equal(pv_get_debugreg(&vcpu.core, 4, &v), -ENODEV);
    assert_int_equal(pv_set_debugreg(&vcpu.core, 7, 0x20002), 0);
    assert_int_equal(pv_set_debugreg(&vcpu.core, 8, 0), -EINVAL);
}

static void test_hypercall_page(void **state)
{
    static uint8_t page[4096];

    pv_hypercall_page(page);
    assert_memory_equal(page + 32 * 29, "\x51\x41\x53\xb8\x1d\0\0\0\x0f\x05\x41\x5b\x59\xc3", 14);
    assert_memory_equal(page + 32 * 23, "\x51\x41\x53\x50\xb8\x17\0\0\0\x0f\x05\xcc", 12);
}

#define T(f) cmocka_unit_test_setup(f, setup)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_frame_from_kernel),
        T(test_frame_from_user),
        T(test_iopl_is_shown_on_demand),
        T(test_undeliverable),
        T(test_failsafe_frame),
        T(test_page_fault_bits),
        T(test_soft_interrupt_levels),
        T(test_events),
        T(test_nmi_once),
        T(test_iret_to_user),
        T(test_iret_forces_ring3),
        T(test_iret_bad),
        T(test_iret_sysret),
        T(test_port_levels),
        T(test_port_bitmap),
        T(test_string_pieces),
        T(test_string_fault_loses_nothing),
        T(test_string_direction),
        T(test_pci_ports),
        T(test_user_gets_nothing),
        T(test_kernel_registers),
        T(test_xsetbv),
        T(test_msrs),
        T(test_cpuid_faulting),
        T(test_early_rdmsr),
        T(test_single_step),
        T(test_forced_cpuid),
        T(test_debug_registers),
        T(test_hypercall_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
