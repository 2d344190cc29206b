/*
 * The framework of guest.h for PVH kernels of 64 and 32 bits: see hvm_head.S for the memory's map. Interrupts: one vector for events.
 */
#include "hvm.h"

#include <stdarg.h>
#include <xen/arch-x86/hvm/start_info.h>

#define EVENT_VECTOR  0x30u
#define MSR_HYPERCALL 0x40000000u

struct shared_info *shared;
bool hardware_domain;
domid_t own_id;
struct trap_record last_trap;
#ifdef __i386__
unsigned long trap_resume;
#else
uint64_t trap_resume;
#endif
void (*trap_hook)(struct trap_frame *f);
void (*event_hook)(void);
volatile unsigned events_seen;
bool test_failed;
unsigned vcpu_count;
uint64_t random_state = 88172645463325252ull;

extern struct hvm_start_info *boot_info;
extern char hypercall_page[], trap_stubs[], vcpu_start[], _end[], table_l4[];
extern uint64_t table_l1_scratch[];
extern uint64_t idt[512];
extern const struct test tests_start[], tests_end[];
extern const struct hostile attacks_start[], attacks_end[];
long hypercall_raw(const void *entry, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
                   unsigned long e);
void guest_trap(struct trap_frame *f);
void hvm_main(void);

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

static void ring_write(const char *text, unsigned n)
{
    struct evtchn_send send = {.port = ring_port};

    for (unsigned i = 0; i < n; i++) {
        XENCONS_RING_IDX prod = ring->out_prod;

        while (prod - __atomic_load_n(&ring->out_cons, __ATOMIC_ACQUIRE) >= sizeof(ring->out)) {
            HC2(event_channel_op, EVTCHNOP_send, &send);
            HC2(sched_op, SCHEDOP_yield, NULL);
        }
        ring->out[MASK_XENCONS_IDX(prod, ring->out)] = text[i];
        __atomic_store_n(&ring->out_prod, prod + 1, __ATOMIC_RELEASE);
    }
    HC2(event_channel_op, EVTCHNOP_send, &send);
}

void print(const char *fmt, ...)
{
    char buf[400];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = fmt_vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n > (int)sizeof(buf) - 1)
        n = sizeof(buf) - 1;
    if (ring)
        ring_write(buf, (unsigned)n);
    else
        HC3(console_io, CONSOLEIO_write, n, buf);
}

void test_fail(const char *fmt, ...)
{
    char buf[300];
    va_list ap;

    va_start(ap, fmt);
    fmt_vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    test_failed = true;
    print("  %s\n", buf);
}

void guest_shutdown(unsigned reason)
{
    struct sched_shutdown s = {.reason = reason};

    for (;;)
        HC2(sched_op, SCHEDOP_shutdown, &s);
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

uint64_t ram_pages(void)
{
    xen_ulong_t self = DOMID_SELF;

    return (uint64_t)HC2(memory_op, XENMEM_current_reservation, &self);
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

void scratch_entry(unsigned n, uint64_t entry)
{
    ((volatile uint64_t *)table_l1_scratch)[n] = entry;
    __asm__ volatile("invlpg (%0)" ::"r"(scratch_va(n)) : "memory");
}

long pte_set(const void *va, uint64_t pte)
{
    scratch_entry(((unsigned long)va - 0x80000000ul) / PAGE, pte);
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

bool grant_table_gone(void *va)
{
    struct xen_remove_from_physmap r = {.domid = DOMID_SELF, .gpfn = va_pfn(va)};

    return !HC2(memory_op, XENMEM_remove_from_physmap, &r);
}

/* --- traps and events ---- */

void guest_trap(struct trap_frame *f)
{
    unsigned long cr2;

    if (f->nr == EVENT_VECTOR) {
        shared->vcpu_info[0].evtchn_upcall_pending = 0;
        __atomic_exchange_n(&shared->vcpu_info[0].evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
        events_seen++;
        if (event_hook)
            event_hook();
        return;
    }
    if (trap_hook) {
        trap_hook(f);
        return;
    }
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    last_trap = (struct trap_record){.happened = true,
                                     .nr = f->nr,
                                     .error = f->error,
                                     .rip = f->rip,
                                     .cs = f->cs,
                                     .rflags = f->rflags,
                                     .cr2 = cr2};
    if (trap_resume) {
        f->rip = trap_resume;
        f->rflags &= ~0x100ul;
        return;
    }
    print("FAIL framework: unexpected trap %u error %x at %lx cr2 %lx\n", (unsigned)f->nr, (unsigned)f->error,
          (unsigned long)f->rip, cr2);
    guest_shutdown(SHUTDOWN_crash);
}

bool read_faults(const void *p, uint64_t *out)
{
    unsigned long v = 0;
    bool t = TRAPS("mov (%0), %1", "r"(p), "r"(v));

    (void)t;
    last_trap.happened = false;
#ifdef __i386__
    __asm__ volatile("movl $1f, trap_resume; mov (%1), %0; 1: movl $0, trap_resume"
                     : "+r"(v)
                     : "r"(p)
                     : "memory");
    *out = v == ~0ul ? ~0ull : v;
#else
    __asm__ volatile("movq $1f, trap_resume; mov (%1), %0; 1: movq $0, trap_resume"
                     : "+r"(v)
                     : "r"(p)
                     : "memory");
    *out = v;
#endif
    return last_trap.happened;
}

bool write_faults(void *p, uint64_t v)
{
    unsigned long value = (unsigned long)v;

    return TRAPS("mov %1, (%0)", "r"(p), "r"(value));
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

static volatile unsigned long *bit_word(xen_ulong_t *array, unsigned port)
{
    return (volatile unsigned long *)&array[port / (8 * sizeof(long))];
}
static unsigned long bit_of(unsigned port)
{
    return 1ul << port % (8 * sizeof(long));
}
bool port_pending(unsigned port)
{
    return *bit_word(shared->evtchn_pending, port) & bit_of(port);
}
void port_clear(unsigned port)
{
    __atomic_and_fetch(bit_word(shared->evtchn_pending, port), ~bit_of(port), __ATOMIC_SEQ_CST);
    __atomic_exchange_n(&shared->vcpu_info[0].evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
}
void port_mask(unsigned port)
{
    __atomic_or_fetch(bit_word(shared->evtchn_mask, port), bit_of(port), __ATOMIC_SEQ_CST);
}
void port_unmask(unsigned port)
{
    struct evtchn_unmask u = {.port = port};

    HC2(event_channel_op, EVTCHNOP_unmask, &u);
}

static uint64_t scaled(uint64_t delta, const volatile struct vcpu_time_info *t)
{
    uint64_t low, high;

    delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
    low = (delta & 0xffffffff) * t->tsc_to_system_mul;
    high = (delta >> 32) * t->tsc_to_system_mul;
    return high + (low >> 32);
}

uint64_t time_ns(void)
{
    volatile struct vcpu_time_info *t = &shared->vcpu_info[0].time;
    uint32_t version;
    uint64_t ns;

    do {
        version = t->version & ~1u;
        __asm__ volatile("" ::: "memory");
        ns = t->system_time + scaled(rdtsc() - t->tsc_timestamp, t);
        __asm__ volatile("" ::: "memory");
    } while (t->version != version);
    return ns;
}

uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
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
static struct {
    void (*fn)(void *);
    void *arg;
    bool started;
} job[8];

static void vcpu_loop(void *n)
{
    for (;;) {
        job[(unsigned long)n].fn(job[(unsigned long)n].arg);
        HC3(vcpu_op, VCPUOP_down, n, NULL);
    }
}

static long vcpu_initialise(unsigned long n)
{
    static struct vcpu_hvm_context c;
    unsigned long stack = (unsigned long)page_alloc() + PAGE;

    memset(&c, 0, sizeof(c));
#ifdef __i386__
    c.mode = VCPU_HVM_MODE_32B;
    c.cpu_regs.x86_32 = (struct vcpu_hvm_x86_32){.esp = stack,
                                                 .eip = (unsigned long)vcpu_start,
                                                 .edi = (unsigned long)vcpu_loop,
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
                                                 .rdi = (unsigned long)vcpu_loop,
                                                 .rsi = n,
                                                 .rflags = 2,
                                                 .cr0 = 0x80010031,
                                                 .cr3 = (unsigned long)table_l4,
                                                 .cr4 = 0x620,
                                                 .efer = 0xd01};
#endif
    return HC3(vcpu_op, VCPUOP_initialise, n, &c);
}

bool vcpu_exists(unsigned n)
{
    return HC3(vcpu_op, VCPUOP_is_up, n, NULL) >= 0;
}

long vcpu_run(unsigned n, void (*fn)(void *), void *arg)
{
    long r = 0;

    if (!n || n >= ARRAY_SIZE(job))
        return -1;
    job[n].fn = fn;
    job[n].arg = arg;
    if (!job[n].started)
        r = vcpu_initialise(n);
    if (r)
        return r;
    job[n].started = true;
    return HC3(vcpu_op, VCPUOP_up, n, NULL);
}

bool vcpu_wait(unsigned n)
{
    uint64_t end = time_ns() + 20000000000ull;

    while (HC3(vcpu_op, VCPUOP_is_up, n, NULL) == 1) {
        if (time_ns() > end)
            return false;
        HC2(sched_op, SCHEDOP_yield, NULL);
    }
    return true;
}

/* --- start ---- */

static void gates(void)
{
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = (unsigned long)(trap_stubs + v * 16), low;

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
    const char *s = (const char *)(unsigned long)boot_info->cmdline_paddr;

    for (unsigned i = 0; s && s[i] && i < sizeof(command_line) - 1; i++)
        command_line[i] = s[i];
}

/* Is `word` on the command line, and does `text` begin as what is behind it up to the next space? */
static bool asked_for(const char *word, const char *text, bool otherwise)
{
    const char *at = strstr(command_line, word), *end;
    size_t n;

    if (!at)
        return otherwise;
    at += strlen(word);
    end = strchr(at, ' ');
    n = end ? (size_t)(end - at) : strlen(at);
    return !strncmp(at, text, n);
}

static void attacks(void)
{
    for (const struct hostile *h = attacks_start; h < attacks_end; h++) {
        if (!asked_for("attack=", h->name, false))
            continue;
        print("hostile: %s begins\n", h->name);
        h->fn();
        print("hostile: %s %s\n", h->name, test_failed ? "FAIL" : "PASS");
        guest_shutdown(SHUTDOWN_poweroff);
    }
}

static void all_tests(void)
{
    unsigned passed = 0, failed = 0;

    for (const struct test *t = tests_start; t < tests_end; t++) {
        if (!asked_for("only=", t->name, true))
            continue;
        test_failed = false;
        trap_hook = NULL;
        event_hook = NULL;
        t->fn();
        events_off();
        if (test_failed)
            print("FAIL %s\n", t->name);
        *(test_failed ? &failed : &passed) += 1;
    }
    print("krypton-test: %u-bit, %u passed, %u failed\n", (unsigned)(8 * sizeof(long)), passed, failed);
}

/* xen/arch-x86/cpuid.h, leaf 4: the domain's number in ECX, if EAX says so. */
static domid_t id_of_domain(void)
{
    uint32_t r[4];

    cpuid(0x40000004, 0, r);
    return r[0] & 1u << 4 ? (domid_t)r[2] : DOMID_SELF;
}

void hvm_main(void)
{
    uint64_t pfn, port;

    gates();
    keep_command_line();
    next_page = (char *)(((unsigned long)_end + PAGE - 1) & ~(PAGE - 1));
    __asm__ volatile("wrmsr" ::"c"(MSR_HYPERCALL), "a"((unsigned long)hypercall_page), "d"(0) : "memory");
    appears(XENMAPSPACE_shared_info, 0, scratch_gfn(511));
    shared = scratch_va(511);
    own_id = id_of_domain();
    if (!hvm_param_get(HVM_PARAM_CONSOLE_PFN, &pfn) && !hvm_param_get(HVM_PARAM_CONSOLE_EVTCHN, &port)) {
        ring = pfn_va(pfn);
        ring_port = (uint32_t)port;
    }
    hvm_param_set(HVM_PARAM_CALLBACK_IRQ, (uint64_t)HVM_PARAM_CALLBACK_TYPE_VECTOR << 56 | EVENT_VECTOR);
    while (vcpu_count < ARRAY_SIZE(job) && vcpu_exists(vcpu_count))
        vcpu_count++;
    attacks();
    all_tests();
    guest_shutdown(SHUTDOWN_poweroff);
}
