/*
 * What the framework's two kernels, PV (guest.c) and PVH (hvm.c), have in common: texts, the reports of tests, traps that are waited for,
 * events, time, further vCPUs.
 */
#include "guest.h"
#include "lib/sort.h"

#include <stdarg.h>

struct shared_info *shared;
struct trap_record last_trap;
unsigned long trap_resume;
void (*trap_hook)(struct trap_frame *f);
void (*event_hook)(void);
volatile unsigned events_seen;
bool test_failed;
unsigned tests_passed, tests_failed;

/* --- console ---- */

void ring_write(struct xencons_interface *ring, evtchn_port_t port, const char *text, unsigned n)
{
    struct evtchn_send send = {.port = port};

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
    char buf[512];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = fmt_vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n > (int)sizeof(buf) - 1)
        n = sizeof(buf) - 1;
    console_write(buf, (unsigned)n);
}

void guest_shutdown(unsigned reason)
{
    struct sched_shutdown s = {.reason = reason};

    for (;;)
        HC2(sched_op, SCHEDOP_shutdown, &s);
}

/* --- tests ---- */

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

void test_begin(void)
{
    test_failed = false;
    trap_hook = NULL;
    event_hook = NULL;
}

void test_end(const char *name, const char *where)
{
    print("%s %s%s\n", test_failed ? "FAIL" : "PASS", name, where);
    *(test_failed ? &tests_failed : &tests_passed) += 1;
}

bool asked_for(const char *line, const char *word, const char *text, bool otherwise)
{
    const char *at = strstr(line, word), *end;
    size_t n;

    if (!at)
        return otherwise;
    at += strlen(word);
    end = strchr(at, ' ');
    n = end ? (size_t)(end - at) : strlen(at);
    return !strncmp(at, text, n);
}

/* --- traps and events ---- */

void trap_noted(struct trap_frame *f, uint64_t cr2)
{
    last_trap = (struct trap_record){.happened = true,
                                     .nr = f->nr,
                                     .error = f->error,
                                     .rip = f->rip,
                                     .cs = f->cs,
                                     .rflags = f->rflags,
#ifdef __x86_64__
                                     .rsp = f->rsp,
#endif
                                     .cr2 = cr2};
    if (trap_resume) {
        f->rip = trap_resume;
        f->rflags &= ~0x100ul; /* a single-stepping test steps once */
        return;
    }
    print("FAIL framework: unexpected trap %llu error %llx rip %llx cs %llx cr2 %llx\n",
          (unsigned long long)f->nr, (unsigned long long)f->error, (unsigned long long)f->rip,
          (unsigned long long)f->cs, (unsigned long long)cr2);
    guest_shutdown(SHUTDOWN_crash);
}

bool read_faults(const void *p, uint64_t *out)
{
    unsigned long v = 0;

    last_trap.happened = false;
    __asm__ volatile(SET_RESUME "mov (%1), %0; 1: " NO_RESUME : "+r"(v) : "r"(p) : "memory");
    if (!last_trap.happened)
        *out = v == ~0ul ? ~0ull : v;
    return last_trap.happened;
}

bool write_faults(void *p, uint64_t v)
{
    last_trap.happened = false;
    __asm__ volatile(SET_RESUME "mov %0, (%1); 1: " NO_RESUME ::"r"((unsigned long)v), "r"(p) : "memory");
    return last_trap.happened;
}

void guest_event(struct trap_frame *f)
{
    shared->vcpu_info[0].evtchn_upcall_pending = 0;
    __atomic_exchange_n(&shared->vcpu_info[0].evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    events_seen++;
    if (event_hook)
        event_hook();
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

/* --- time ---- */

/* 32-bit compilers have no products of 96 bits. */
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

static int ascending(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

void sort_numbers(uint64_t *a, unsigned n)
{
    sort(a, n, sizeof(*a), ascending);
}

/* --- vCPUs ---- */

static struct {
    void (*fn)(void *);
    void *arg;
    bool started;
} job[4];

/* What a further vCPU does all its life: a job each time it is brought up. */
static void vcpu_loop(void *n)
{
    for (;;) {
        job[(unsigned long)n].fn(job[(unsigned long)n].arg);
        HC3(vcpu_op, VCPUOP_down, n, NULL);
    }
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
        r = vcpu_initialise(n, vcpu_loop);
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
