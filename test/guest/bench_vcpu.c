/* Measurements that need user mode, a timer or a second vCPU (on the same CPU: dom0_max_vcpus=2, one processor). */
#include "bench.h"

/* --- system calls of user space --- */

/* The shortest callback and return that a kernel could have. */
extern char bench_syscall[];
__asm__(".pushsection .text\n"
        "bench_syscall:\n"
        "  add $16, %rsp\n" /* rcx, r11 */
        "  push $0x100\n"   /* VGCF_in_syscall */
        "  push %rcx\n"
        "  push %r11\n"
        "  push %rax\n"
        "  mov $23, %eax\n" /* iret */
        "  syscall\n"
        "  ud2\n"
        ".popsection\n");

/* User space: r15 = ticks of 1000 system calls. */
extern char bench_user_code[], bench_user_end[];
__asm__(".pushsection .rodata\n"
        "bench_user_code:\n"
        "  syscall\n"
        "  rdtsc\n"
        "  shl $32, %rdx\n"
        "  lea (%rax, %rdx), %r15\n"
        "  mov $1000, %ebx\n"
        "1: syscall\n"
        "  dec %ebx\n"
        "  jnz 1b\n"
        "  rdtsc\n"
        "  shl $32, %rdx\n"
        "  or %rdx, %rax\n"
        "  sub %r15, %rax\n"
        "  mov %rax, %r15\n"
        "  ud2\n"
        "bench_user_end:\n"
        ".popsection\n");

static long set_syscall_callback(char *address)
{
    struct callback_register cb = {
        .type = CALLBACKTYPE_syscall, .flags = CALLBACKF_mask_events, .address = (unsigned long)address};

    return HC2(callback_op, CALLBACKOP_register, &cb);
}

void bench_user(void)
{
    long r = set_syscall_callback(bench_syscall);

    if (!r)
        r = user_run(bench_user_code, (size_t)(bench_user_end - bench_user_code), FLAT_RING3_CS64);
    print("bench-status syscall_bounce %ld\n", r);
    if (r == 6)
        bench_result("syscall_bounce_iret", user_frame.r15, 1000);
}

/* --- timer --- */
static unsigned hook_port;

static void clear_hook_port(void)
{
    port_clear(hook_port);
}

/* A deadline that has passed fires at once: from the hypercall to the end of the event's handler. */
static void timer_once(void)
{
    unsigned seen = events_seen;

    HC1(set_timer_op, 1);
    while (events_seen == seen)
        ;
}

void bench_timer(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER};
    uint64_t far = time_ns() + 1000000000000ull;
    long r = HC2(event_channel_op, EVTCHNOP_bind_virq, &b);

    print("bench-status timer %ld\n", r);
    if (r)
        return;
    HC3(vcpu_op, VCPUOP_stop_periodic_timer, 0, NULL);
    hook_port = b.port;
    event_hook = clear_hook_port;
    port_unmask(b.port);
    MEASURE("timer_set", 1000, HC1(set_timer_op, far));
    events_on();
    MEASURE("timer_set_fire", 200, timer_once());
    events_off();
    event_hook = NULL;
}

/* --- a second vCPU --- */
static volatile bool stop;
static volatile uint64_t turns;
static unsigned port_of[2]; /* rings vCPU 0, 1 */

static void yield_loop(void *arg)
{
    while (!stop) {
        HC2(sched_op, SCHEDOP_yield, NULL);
        turns++;
    }
}

static void bench_switch(void)
{
    uint64_t start, ticks, others;

    for (unsigned i = 0; i < 32; i++)
        HC2(sched_op, SCHEDOP_yield, NULL);
    others = turns;
    start = rdtsc();
    for (unsigned i = 0; i < 1000; i++)
        HC2(sched_op, SCHEDOP_yield, NULL);
    ticks = rdtsc() - start;
    others = turns - others;
    print("bench-status switch: the other ran %lu times\n", (unsigned long)others);
    if (others > 900)
        bench_result("vcpu_switch_yield", ticks, others + 1000);
}

/* What a sender sees whose target waits in the run queue; the guest's own bits are cleared in between. */
static void bench_send_other(void)
{
    struct evtchn_send s = {.port = port_of[1]};
    struct vcpu_info *v = &shared->vcpu_info[1];

    v->evtchn_upcall_mask = 1;
    port_unmask(s.port);
    MEASURE("evtchn_send_vcpu", 1000, {
        __atomic_and_fetch(&shared->evtchn_pending[s.port / 64], ~(1ul << (s.port % 64)), __ATOMIC_SEQ_CST);
        v->evtchn_pending_sel = 0;
        v->evtchn_upcall_pending = 0;
        HC2(event_channel_op, EVTCHNOP_send, &s);
    });
    port_mask(s.port);
}

static void poll_port(unsigned port)
{
    evtchn_port_t p = port;
    struct sched_poll poll = {.nr_ports = 1};

    set_xen_guest_handle(poll.ports, &p);
    while (!port_pending(port))
        HC2(sched_op, SCHEDOP_poll, &poll);
    __atomic_and_fetch(&shared->evtchn_pending[port / 64], ~(1ul << (port % 64)), __ATOMIC_SEQ_CST);
}

static void answer_loop(void *arg)
{
    struct evtchn_send s = {.port = port_of[0]};

    while (!stop) {
        poll_port(port_of[1]);
        HC2(event_channel_op, EVTCHNOP_send, &s);
    }
}

static void ping(void)
{
    struct evtchn_send s = {.port = port_of[1]};

    HC2(event_channel_op, EVTCHNOP_send, &s);
    poll_port(port_of[0]);
}

/* Rings another vCPU, which sleeps, and sleeps till it answers: two sends, two waits, two switches. */
static void bench_ping(void)
{
    MEASURE("vcpu_ping_pong", 500, ping());
}

void bench_vcpus(void)
{
    struct evtchn_bind_ipi b;
    long r = vcpu_exists(1) ? 0 : -1;

    for (unsigned i = 0; !r && i < 2; i++) {
        b.vcpu = i;
        r = HC2(event_channel_op, EVTCHNOP_bind_ipi, &b);
        port_of[i] = b.port;
        port_mask(b.port);
    }
    if (!r)
        r = vcpu_run(1, yield_loop, NULL);
    print("bench-status vcpus %ld\n", r);
    if (r)
        return;
    bench_switch();
    bench_send_other();
    stop = true;
    if (!vcpu_wait(1))
        return;
    stop = false;
    if (vcpu_run(1, answer_loop, NULL))
        return;
    bench_ping();
}
