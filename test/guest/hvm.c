/*
 * The framework of guest.h for PVH kernels of 64 and 32 bits: see hvm_head.S for the memory's map. Interrupts: one vector for events.
 */
#include "hvm.h"

#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>

#define EVENT_VECTOR 0x30u
#define LAPIC(reg)   (*(volatile uint32_t *)(0xfee00000ul + (reg)))
#define AP_PAGE      8u
#define XEN_LEAVES   0x40000000u /* or, beside another interface's, some steps of 0x100 further */

bool hardware_domain;
domid_t own_id;

extern struct hvm_start_info *boot_info;
extern char hypercall_page[], trap_entries[], vcpu_start[], _end[], table_l4[], ap_page[], ap_page_end[];
extern volatile uint64_t ap_start[4];
extern uint64_t table_l1_scratch[];
extern uint64_t idt[512];
extern const struct test tests_start[], tests_end[];
extern const struct hostile attacks_start[], attacks_end[];
long hypercall_raw(const void *entry, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
                   unsigned long e);
void guest_trap(struct trap_frame *f);
void hvm_main(void);

uint64_t attack_began;
static char *next_page;
static struct xencons_interface *ring;
static uint32_t ring_port;

long hypercall(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    if (nr >= 64) { /* beyond the page: by hand */
        long r;

        __asm__ volatile("vmmcall" : "=a"(r) : "0"((unsigned long)nr) : "memory");
        return r;
    }
    return hypercall_raw(hypercall_page + nr * 32, (unsigned long)a, (unsigned long)b, (unsigned long)c,
                         (unsigned long)d, (unsigned long)e);
}

/* --- console ---- */

void console_write(const char *text, unsigned n)
{
    if (ring)
        ring_write(ring, ring_port, text, n);
    else
        HC3(console_io, CONSOLEIO_write, n, text);
}

/* --- memory ---- */

uint64_t va_pfn(const void *va)
{
    return (unsigned long)va / PAGE;
}
uint64_t va_mfn(const void *va)
{
    return va_pfn(va);
}
void *pfn_va(uint64_t pfn)
{
    return (void *)(unsigned long)(pfn * PAGE);
}

void *page_alloc(void)
{
    char *p = next_page;

    next_page += PAGE;
    memset(p, 0, PAGE);
    return p;
}

void *scratch_va(unsigned page)
{
    return (void *)(0x80000000ul + page * PAGE);
}

/* Of scratch pages. */
long pte_set(const void *va, uint64_t pte)
{
    ((volatile uint64_t *)table_l1_scratch)[((unsigned long)va - 0x80000000ul) / PAGE] = pte;
    __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
    return 0;
}

static long appears(unsigned space, uint64_t index, uint64_t gfn)
{
    struct xen_add_to_physmap a = {
        .domid = DOMID_SELF, .space = space, .idx = (xen_ulong_t)index, .gpfn = gfn};

    return HC2(memory_op, XENMEM_add_to_physmap, &a);
}

bool grant_table_at(void *va, bool status)
{
    return !appears(XENMAPSPACE_grant_table, status ? XENMAPIDX_grant_table_status : 0, va_pfn(va));
}

bool mapping_gone(void *va)
{
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = va_pfn(va)};

    return !HC2(memory_op, XENMEM_remove_from_physmap, &r);
}

/* --- traps and events ---- */

void guest_trap(struct trap_frame *f)
{
    unsigned long cr2;

    if (f->nr == EVENT_VECTOR) {
        guest_event(f);
        return;
    }
    if (trap_hook) {
        trap_hook(f);
        return;
    }
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    trap_noted(f, cr2);
}

void events_on(void)
{
    __asm__ volatile("sti; nop; nop" ::: "memory");
}

long events_wait(void)
{
    long r = HC2(sched_op, SCHEDOP_block, NULL);

    events_on();
    return r;
}

/* --- parameters ---- */

long hvm_param_get(unsigned index, uint64_t *value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index};
    long r = HC2(hvm_op, HVMOP_get_param, &p);

    *value = p.value;
    return r;
}

long hvm_param_set(unsigned index, uint64_t value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index, .value = value};

    return HC2(hvm_op, HVMOP_set_param, &p);
}

/* --- vCPUs ---- */

/* INIT and STARTUP, for one that firmware has started before: VCPUOP_initialise is for those that never ran. */
static long vcpu_start_up(unsigned long n, void (*loop)(void *), unsigned long stack)
{
    uint64_t end = time_ns() + 10000000000ull;

    memcpy(pfn_va(AP_PAGE), ap_page, (size_t)(ap_page_end - ap_page));
    ap_start[0] = stack;
    ap_start[1] = (unsigned long)loop;
    ap_start[2] = n;
    ap_start[3] = 0;
    LAPIC(0x310) = (uint32_t)n << 25; /* the toolstack's numbers: twice the vCPU's */
    LAPIC(0x300) = 0x4500;
    LAPIC(0x310) = (uint32_t)n << 25;
    LAPIC(0x300) = 0x4600 | AP_PAGE;
    while (!ap_start[3])
        if (time_ns() > end)
            return -1;
    return 0;
}

long vcpu_initialise(unsigned long n, void (*loop)(void *))
{
    static struct vcpu_hvm_context c;
    unsigned long stack = (unsigned long)page_alloc() + PAGE;

    if (by_multiboot)
        return vcpu_start_up(n, loop, stack);
    memset(&c, 0, sizeof(c));
#ifdef __i386__
    c.mode = VCPU_HVM_MODE_32B;
    c.cpu_regs.x86_32 = (struct vcpu_hvm_x86_32){.esp = stack,
                                                 .eip = (unsigned long)vcpu_start,
                                                 .edi = (unsigned long)loop,
                                                 .esi = n,
                                                 .eflags = 2,
                                                 .cr0 = 0x80010031,
                                                 .cr3 = (unsigned long)table_l4,
                                                 .cr4 = 0x620,
                                                 .cs_ar = 0xc9b,
                                                 .ds_ar = 0xc93,
                                                 .ss_ar = 0xc93,
                                                 .es_ar = 0xc93,
                                                 .tr_ar = 0x8b,
                                                 .cs_limit = ~0u,
                                                 .ds_limit = ~0u,
                                                 .ss_limit = ~0u,
                                                 .es_limit = ~0u,
                                                 .tr_limit = 0x67};
#else
    c.mode = VCPU_HVM_MODE_64B;
    c.cpu_regs.x86_64 = (struct vcpu_hvm_x86_64){.rsp = stack,
                                                 .rip = (unsigned long)vcpu_start,
                                                 .rdi = (unsigned long)loop,
                                                 .rsi = n,
                                                 .rflags = 2,
                                                 .cr0 = 0x80010031,
                                                 .cr3 = (unsigned long)table_l4,
                                                 .cr4 = 0x620,
                                                 .efer = 0xd01};
#endif
    return HC3(vcpu_op, VCPUOP_initialise, n, &c);
}

/* --- start ---- */

static void gates(void)
{
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = (unsigned long)(trap_entries + v * 16), low;

        low = (at & 0xffff) | 0x10ull << 16 | 0x8eull << 40 | (at & 0xffff0000) << 32;
#ifdef __i386__
        idt[v] = low;
#else
        idt[2 * v] = low;
        idt[2 * v + 1] = at >> 32;
#endif
    }
    __asm__ volatile("lidt idt_pointer");
}

/* What the loader left lies where our own pages begin. */
static char command_line[256];

static void keep_command_line(void)
{
    const uint32_t *multiboot = (const uint32_t *)boot_info;
    const char *s = (const char *)(unsigned long)(by_multiboot ? multiboot[4] : boot_info->cmdline_paddr);

    for (unsigned i = 0; s && s[i] && i < sizeof(command_line) - 1; i++)
        command_line[i] = s[i];
}

static void attack(const struct hostile *h)
{
    test_begin();
    attack_began = time_ns();
    print("hostile: %s begins\n", h->name);
    h->fn();
    print("hostile: %s %s\n", h->name, test_failed ? "FAIL" : "PASS");
}

/* attack=NAME[,NAME...]: one after the other, in one domain. */
static void attacks(void)
{
    const char *name = strstr(command_line, "attack="), *end;

    if (!name)
        return;
    for (name += strlen("attack="); *name && *name != ' '; name = *end == ',' ? end + 1 : end) {
        for (end = name; *end && *end != ' ' && *end != ','; end++)
            ;
        for (const struct hostile *h = attacks_start; h < attacks_end; h++)
            if (strlen(h->name) == (size_t)(end - name) && !strncmp(h->name, name, strlen(h->name)))
                attack(h);
    }
    guest_shutdown(SHUTDOWN_poweroff);
}

static void all_tests(void)
{
    for (const struct test *t = tests_start; t < tests_end; t++) {
        if (!asked_for(command_line, "only=", t->name, true))
            continue;
        test_begin();
        t->fn();
        events_off();
        test_end(t->name, "");
    }
    print("krypton-test: %u-bit, %u passed, %u failed\n", (unsigned)(8 * sizeof(long)), tests_passed,
          tests_failed);
}

/* xen/arch-x86/cpuid.h. */
static uint32_t xen_leaves(void)
{
    uint32_t r[4], at = XEN_LEAVES;

    for (cpuid(at, 0, r); r[1] != XEN_CPUID_SIGNATURE_EBX && at < XEN_LEAVES + 0x10000; cpuid(at, 0, r))
        at += 0x100;
    return at;
}

/* Leaf 4: the domain's number in ECX, if EAX says so. */
static domid_t id_of_domain(void)
{
    uint32_t r[4];

    cpuid(xen_leaves() + 4, 0, r);
    return r[0] & 1u << 4 ? (domid_t)r[2] : DOMID_SELF;
}

/* Leaf 2: in EBX the MSR that names the page. */
static void hypercall_page_on(void)
{
    uint32_t r[4];

    cpuid(xen_leaves() + 2, 0, r);
    __asm__ volatile("wrmsr" ::"c"(r[1]), "a"((unsigned long)hypercall_page), "d"(0) : "memory");
}

static void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "d"(port));
}

/* The BIOS left its interrupts on, at vectors that are exceptions'. */
static void legacy_interrupts_off(void)
{
    for (unsigned i = 0; i < 2; i++) {
        uint16_t base = i ? 0xa0 : 0x20;

        outb(base, 0x11);
        outb(base + 1, 0x20 + 8 * i);
        outb(base + 1, i ? 2 : 4);
        outb(base + 1, 1);
        outb(base + 1, 0xff);
    }
}

void hvm_main(void)
{
    uint64_t pfn, port;

    if (by_multiboot)
        legacy_interrupts_off();
    gates();
    keep_command_line();
    next_page = (char *)(((unsigned long)_end + PAGE - 1) & ~(PAGE - 1));
    hypercall_page_on();
    appears(XENMAPSPACE_shared_info, 0, scratch_gfn(511));
    shared = scratch_va(511);
    /* The console's other end is not to ring into a test. */
    memset(shared->evtchn_mask, 0xff, sizeof(shared->evtchn_mask));
    own_id = id_of_domain();
    if (!hvm_param_get(HVM_PARAM_CONSOLE_PFN, &pfn) && !hvm_param_get(HVM_PARAM_CONSOLE_EVTCHN, &port)) {
        ring = pfn_va(pfn);
        ring_port = (uint32_t)port;
    }
    hvm_param_set(HVM_PARAM_CALLBACK_IRQ, (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | EVENT_VECTOR);
    attacks();
    all_tests();
    guest_shutdown(SHUTDOWN_poweroff);
}
