/*
 * The framework of test/guest for PV kernels: see guest.h; common.c. Single-threaded but for vcpu_run.
 */
#include "guest.h"

/* toolstack.c: when this runs as a domain that another test guest made. */
extern bool domu_made;
void domu_start(struct start_info *si);
void domu_print(const char *s, unsigned n);
void domu_program(void);

struct start_info *start_info;

extern char event_callback[], failsafe_callback[], syscall_callback[], syscall32_callback[],
    sysenter_callback[];
extern char vcpu_start[], user_trap_stack_top[], probe_read_insn[], probe_write_insn[], probe_fixup[];
struct trap_frame user_frame;
uint64_t user_code, user_stack;
long guest_enter_user_flags(uint64_t rip, uint64_t rsp, uint64_t cs, uint64_t ss, uint64_t rflags);
static uint64_t *p2m;
static uint64_t next_pfn;

void guest_main(struct start_info *si);
void guest_trap(struct trap_frame *f);

/* --- console ---- */

/* A guest that xl started writes to the ring that xenconsoled reads; in place of dom0, to the hypervisor's console. */
void console_write(const char *text, unsigned n)
{
    if (domu_made)
        domu_print(text, n);
    else if (start_info->flags & SIF_INITDOMAIN)
        HC3(console_io, CONSOLEIO_write, n, text);
    else
        ring_write(mfn_va(start_info->console.domU.mfn), start_info->console.domU.evtchn, text, n);
}

/* --- memory ---- */
uint64_t va_pfn(const void *va)
{
    return ((uint64_t)va - VIRT_BASE) / PAGE;
}
uint64_t va_mfn(const void *va)
{
    return p2m[va_pfn(va)];
}
void *pfn_va(uint64_t pfn)
{
    return (void *)(VIRT_BASE + pfn * PAGE);
}
void *mfn_va(uint64_t mfn)
{
    const uint64_t *m2p = (const uint64_t *)0xffff800000000000ul;

    return pfn_va(m2p[mfn]);
}

/* Maps the 2 MiB around va, which have no L1 table, with a table made in `spare`. */
static bool map_region(char *va, uint64_t *spare)
{
    uint64_t first = va_pfn(va) & ~511ull, m;

    for (unsigned i = 0; i < 512 && first + i < start_info->nr_pages; i++)
        spare[i] = p2m[first + i] * PAGE | PTE_KERNEL;
    table_entry(va, 2, &m);
    return m && !page_protect(spare) && !mmu_one(m, va_mfn(spare) * PAGE | PTE_KERNEL);
}

/* The builder maps at least 512 KiB behind the stack; pages come from there, then from pfns mapped by ourselves. */
void *page_alloc(void)
{
    static uint64_t *spare;
    char *va = pfn_va(next_pfn++);
    uint64_t ignored;
    bool ok = true;

    if (!spare) {
        spare = pfn_va(next_pfn++);
        memset(spare, 0, PAGE);
    }
    if (read_faults(va, &ignored)) {
        if (table_entry(va, 2, &ignored) & 1) {
            ok = !pte_set(va, va_mfn(va) * PAGE | PTE_KERNEL);
        } else {
            ok = map_region(va, spare);
            spare = NULL;
        }
    }
    if (!ok || va_pfn(va) >= start_info->nr_pages) {
        print("FAIL framework: out of pages at pfn %llx\n", (unsigned long long)next_pfn);
        guest_shutdown(SHUTDOWN_crash);
    }
    memset(va, 0, PAGE);
    return va;
}

uint64_t table_entry(const void *va, unsigned level, uint64_t *machine)
{
    uint64_t table = start_info->pt_base, e = 0;

    for (unsigned l = 4;; l--) {
        unsigned i = ((uint64_t)va >> (12 + 9 * (l - 1))) & 511;

        e = ((volatile uint64_t *)table)[i];
        if (l == level) {
            *machine = va_mfn((void *)table) * PAGE + i * 8;
            return e;
        }
        if (!(e & 1)) {
            *machine = 0;
            return 0;
        }
        table = (uint64_t)mfn_va((e & 0x000ffffffffff000ull) >> 12);
    }
}

uint64_t pte_machine(const void *va)
{
    uint64_t m;

    table_entry(va, 1, &m);
    return m;
}

uint64_t pte_read(const void *va)
{
    uint64_t m;

    return table_entry(va, 1, &m);
}

long pte_set(const void *va, uint64_t pte)
{
    return HC4(update_va_mapping, va, pte, UVMF_INVLPG | UVMF_ALL, 0);
}

/* The last L1 table of the builder's area always has room in the 2 MiB behind it only by luck, so a table of our own. */
void *scratch_va(unsigned page)
{
    static char *base;

    if (!base) {
        char *va =
            (char *)VIRT_BASE + (1ul << 30) - (1ul << 21); /* the end of the 1 GiB that our L3 entry covers */
        uint64_t *l1 = page_alloc(), m;
        struct mmu_update u;

        pte_set(l1, va_mfn(l1) * PAGE | PTE_KERNEL_RO);
        table_entry(va, 2, &m);
        u.ptr = m | MMU_NORMAL_PT_UPDATE;
        u.val = va_mfn(l1) * PAGE | PTE_KERNEL;
        if (!m || HC4(mmu_update, &u, 1, NULL, DOMID_SELF))
            print("FAIL framework: cannot make a scratch area\n");
        base = va;
    }
    return base + page * PAGE;
}

/* Maps n fresh pages at a low address, below 2 GiB, with tables of our own. */
static long low_pages(char *va, unsigned n)
{
    uint64_t *l3 = page_alloc(), *l2 = page_alloc(), *l1 = page_alloc(), m;

    for (unsigned i = 0; i < n; i++)
        l1[(uint64_t)va / PAGE % 512 + i] = pte_of(page_alloc(), PTE_KERNEL);
    l2[(uint64_t)va / PAGE / 512 % 512] = pte_of(l1, PTE_KERNEL);
    l3[(uint64_t)va / PAGE / 512 / 512 % 512] = pte_of(l2, PTE_KERNEL);
    if (page_protect(l1) || page_protect(l2) || page_protect(l3))
        return -1;
    table_entry(va, 4, &m);
    return mmu_one(m, pte_of(l3, PTE_KERNEL));
}

bool grant_table_at(void *va, bool status)
{
    static xen_pfn_t frames[1];
    struct gnttab_setup_table s = {.dom = DOMID_SELF, .nr_frames = 1};
    struct gnttab_get_status_frames g = {.dom = DOMID_SELF, .nr_frames = 1};
    long r;

    set_xen_guest_handle(s.frame_list, frames);
    set_xen_guest_handle(g.frame_list, (uint64_t *)frames);
    r = status ? HC3(grant_table_op, GNTTABOP_get_status_frames, &g, 1)
               : HC3(grant_table_op, GNTTABOP_setup_table, &s, 1);
    return !r && !s.status && !g.status && !pte_set(va, frames[0] * PAGE | PTE_KERNEL);
}

bool mapping_gone(void *va)
{
    return !pte_set(va, 0);
}

/* --- traps ---- */
/* clang-format off */
#define TRAP_ENTRIES(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(16) X(17) X(18) X(19) \
    X(32) X(128)
/* clang-format on */
#define DECLARE(n) extern char trap_##n[];
TRAP_ENTRIES(DECLARE)
#define ROW(n) {n, n == 3 || n == 4 || n == 128 ? 3 : 0, FLAT_KERNEL_CS, (unsigned long)trap_##n},

static const struct trap_info trap_table[] = {TRAP_ENTRIES(ROW){0, 0, 0, 0}};

static void traps_fill(struct trap_info *by_vector)
{
    for (const struct trap_info *t = trap_table; t->address; t++)
        by_vector[t->vector] = *t;
}

static void traps_init(void)
{
    struct callback_register cb[] = {
        {.type = CALLBACKTYPE_event, .address = (unsigned long)event_callback},
        {.type = CALLBACKTYPE_failsafe, .address = (unsigned long)failsafe_callback},
        {.type = CALLBACKTYPE_syscall,
         .flags = CALLBACKF_mask_events,
         .address = (unsigned long)syscall_callback},
        {.type = CALLBACKTYPE_syscall32,
         .flags = CALLBACKF_mask_events,
         .address = (unsigned long)syscall32_callback},
        {.type = CALLBACKTYPE_sysenter,
         .flags = CALLBACKF_mask_events,
         .address = (unsigned long)sysenter_callback},
    };

    if (HC1(set_trap_table, trap_table))
        print("FAIL framework: set_trap_table\n");
    for (unsigned i = 0; i < ARRAY_SIZE(cb); i++)
        if (HC2(callback_op, CALLBACKOP_register, &cb[i]))
            print("FAIL framework: callback %u\n", i);
}

void guest_trap(struct trap_frame *f)
{
    if (f->rip == (uint64_t)probe_read_insn || f->rip == (uint64_t)probe_write_insn) {
        f->rip = (uint64_t)probe_fixup;
        return;
    }
    if (trap_hook) {
        trap_hook(f);
        return;
    }
    trap_noted(f, shared->vcpu_info[0].arch.cr2);
}

/* --- user mode ---- */
static void leave_hook(struct trap_frame *f)
{
    user_frame = *f;
    guest_leave_user((long)f->nr);
}

long user_run_flags(const void *code, size_t bytes, uint64_t cs, uint64_t ss, uint64_t rflags)
{
    static char *page, *stack;
    long r;

    if (!page) {
        page = (char *)0x40000000; /* low: 32-bit code can run there */
        stack = page + PAGE;
        if (low_pages(page, 2))
            return -1;
    }
    memcpy(page, code, bytes);
    if (mmu_ext(MMUEXT_NEW_USER_BASEPTR, va_mfn((void *)start_info->pt_base), 0))
        return -1;
    user_code = (uint64_t)page;
    user_stack = (uint64_t)stack + PAGE - 64;
    trap_hook = leave_hook;
    r = guest_enter_user_flags(user_code, user_stack, cs, ss, rflags);
    trap_hook = NULL;
    return r;
}

long user_enter_at(uint64_t rip, uint64_t rsp, uint64_t cs, uint64_t ss, uint64_t rflags)
{
    long r;

    trap_hook = leave_hook;
    r = guest_enter_user_flags(rip, rsp, cs, ss, rflags);
    trap_hook = NULL;
    return r;
}

long user_run(const void *code, size_t bytes, uint64_t cs)
{
    return user_run_flags(code, bytes, cs, 0xe02b, 0x202);
}

/* --- events ---- */
void events_on(void)
{
    volatile struct vcpu_info *v = &shared->vcpu_info[0];

    v->evtchn_upcall_mask = 0;
    __asm__ volatile("" ::: "memory");
    if (v->evtchn_upcall_pending)
        HC2(xen_version, 0, 0); /* any entry delivers */
}

long events_wait(void)
{
    return HC2(sched_op, SCHEDOP_block, NULL); /* unmasks events by definition */
}

/* --- vCPUs ---- */
long vcpu_initialise(unsigned long n, void (*loop)(void *))
{
    static struct vcpu_guest_context ctx;
    char *stack = page_alloc();

    memset(&ctx, 0, sizeof(ctx));
    traps_fill(ctx.trap_ctxt);
    ctx.flags = VGCF_in_kernel;
    ctx.user_regs.rip = (uint64_t)vcpu_start;
    ctx.user_regs.rsp = (uint64_t)stack + PAGE;
    ctx.user_regs.rdi = (uint64_t)loop;
    ctx.user_regs.rsi = n;
    ctx.user_regs.rflags = 0x202;
    ctx.user_regs.cs = FLAT_KERNEL_CS;
    ctx.user_regs.ss = FLAT_KERNEL_SS;
    ctx.kernel_ss = FLAT_KERNEL_SS;
    ctx.kernel_sp = (uint64_t)stack + PAGE;
    ctx.ctrlreg[0] = 0x80000001;
    ctx.ctrlreg[3] = xen_pfn_to_cr3(va_mfn((void *)start_info->pt_base));
    ctx.event_callback_eip = (uint64_t)event_callback;
    ctx.failsafe_callback_eip = (uint64_t)failsafe_callback;
    ctx.syscall_callback_eip = (uint64_t)syscall_callback;
    return HC3(vcpu_op, VCPUOP_initialise, n, &ctx);
}

/* --- start ---- */
void guest_main(struct start_info *si)
{
    static char shared_page[PAGE] __attribute__((aligned(4096)));

    domu_start(si);
    start_info = si;
    p2m = (uint64_t *)si->mfn_list;
    /* shared_info takes the place of a page of ours. */
    HC4(update_va_mapping, shared_page, si->shared_info | PTE_KERNEL, UVMF_INVLPG, 0);
    shared = (struct shared_info *)shared_page;
    next_pfn = va_pfn((void *)si->pt_base) + si->nr_pt_frames + 1; /* behind the builder's stack page */
    HC2(stack_switch, FLAT_KERNEL_SS, user_trap_stack_top);
    traps_init();
    if (domu_made)
        domu_program();
    guest_program();
    guest_shutdown(SHUTDOWN_poweroff);
}
