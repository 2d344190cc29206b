/*
 * Hypercalls of 32-bit kernels, translated (arch/x86/hvm/narrow): what a handler sees, what comes back, lists in pieces, preemption at
 * every place, and pointers that lead nowhere or out of 32 bits. The handlers are the test's own.
 */
#include "fake.h"
#include "core/guest.h"
#include "core/memory_op.h"
#include "x86/p2m.h"
#include "x86/vcpu.h"
#include "arch/x86/hvm/narrow/layout.h"
#include "arch/x86/hvm/narrow/narrow.h"

#include <string.h>
#include <sys/mman.h>

/* --- a kernel of 32 bits: its memory is an arena of the host's below 4 GiB; all else faults --- */

#define ARENA 0x20000u
static char *arena;
static uint32_t used;

static bool reach(struct vcpu *v, gva_t at, size_t n, void **host)
{
    const struct arg_window *w = x86_vcpu(v)->window;

    *host = w ? arg_window_find(w, at.a, n) : NULL;
    if (*host)
        return true;
    *host = (void *)at.a;
    return at.a >= (uintptr_t)arena && at.a + n <= (uintptr_t)arena + ARENA && at.a + n > at.a;
}
static bool in(struct vcpu *v, void *to, gva_t from, size_t n)
{
    void *host;

    if (!reach(v, from, n, &host))
        return false;
    memcpy(to, host, n);
    return true;
}
static bool out(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    void *host;

    if (!reach(v, to, n, &host))
        return false;
    memcpy(host, from, n);
    return true;
}
static const struct guest_ops ops = {.name = "narrow", .translated = true, .copy_in = in, .copy_out = out};
static struct x86_domain domain;
static struct x86_vcpu vcpu;

static void *take(size_t bytes)
{
    void *p = arena + used;

    used += (uint32_t)(bytes + 15) & ~15u;
    assert_true(used <= ARENA);
    return memset(p, 0, bytes);
}
static uint32_t handle(const void *p)
{
    return (uint32_t)(uintptr_t)p;
}

static int start(void **state)
{
    if (!arena) {
        fake_start(64, 1);
        arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    }
    assert_true(arena != MAP_FAILED && (uintptr_t)arena + ARENA < 1ull << 32);
    used = 0;
    domain.core.ops = &ops;
    vcpu.core.domain = &domain.core;
    return 0;
}

/* --- the handlers --- */

static long (*handler)(struct hypercall *hc);
static unsigned handled;
static struct hypercall seen;

long __wrap_hypercall_dispatch(struct hypercall *hc);
long __wrap_hypercall_dispatch(struct hypercall *hc)
{
    handled++;
    seen = *hc;
    assert_true(hc->narrow);
    return handler ? handler(hc) : 7;
}

static long call(uint32_t nr, uint32_t a, uint32_t b, uint32_t c, struct narrow *n)
{
    struct narrow mine;

    n = n ? n : &mine;
    *n = (struct narrow){.caller = &vcpu.core, .nr = nr, .arg = {a, b, c}};
    handled = 0;
    return narrow_dispatch(n);
}
/* Again and again, as the guest's instruction would. */
static long call_to_the_end(uint32_t nr, uint32_t a, uint32_t b, uint32_t c, unsigned *times)
{
    struct narrow n;
    long r = call(nr, a, b, c, &n);

    for (*times = 1; r == HC_AGAIN; ++*times) {
        assert_true(*times < 1000);
        r = narrow_dispatch(&n);
    }
    return r;
}

/* --- calls without structures of two kinds --- */

static long again_once(struct hypercall *hc)
{
    if (hc->arg[1] == 0x1000)
        return 3;
    hc->arg[1] = 0x1000 | 1ull << 40;
    return HC_AGAIN;
}

static void test_the_same_in_both(void **state)
{
    struct narrow n;

    handler = NULL;
    assert_int_equal(call(__HYPERVISOR_event_channel_op, EVTCHNOP_send, 0x1234, 0, NULL), 7);
    assert_int_equal(seen.arg[1], 0x1234);
    handler = again_once;
    assert_int_equal(call(__HYPERVISOR_console_io, CONSOLEIO_write, 5, 0x2000, &n), HC_AGAIN);
    assert_int_equal(n.arg[1], 0x1000);
    assert_int_equal(narrow_dispatch(&n), 3);
}

static void test_what_is_not_there(void **state)
{
    static const uint32_t none[] = {
        __HYPERVISOR_domctl, __HYPERVISOR_sysctl, __HYPERVISOR_mmu_update, 11, 60, 63, 64, 0xffffffff};

    handler = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        assert_int_equal(call(none[i], 0, 0, 0, NULL), -ENOSYS);
        assert_int_equal(handled, 0);
    }
    assert_int_equal(call(__HYPERVISOR_memory_op, XENMEM_exchange, 0x1000, 0, NULL), -ENOSYS);
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_transfer, 0x1000, 1, NULL), -ENOSYS);
}

static long timer(struct hypercall *hc)
{
    return hc->arg[0] == 0x123456789abcull ? 1 : -1;
}

static void test_time_in_two_registers(void **state)
{
    handler = timer;
    assert_int_equal(call(__HYPERVISOR_set_timer_op, 0x56789abc, 0x1234, 0, NULL), 1);
}

/* --- structures --- */

static long poll(struct hypercall *hc)
{
    struct sched_poll p;

    assert_int_equal(guest_read(hc->caller, &p, GVA(hc->arg[1]), sizeof(p)), 0);
    assert_int_equal((uintptr_t)p.ports.p, 0xf0001000);
    assert_int_equal(p.nr_ports, 3);
    assert_true(p.timeout == 0xfedcba9876543210ull);
    assert_int_equal(guest_read(hc->caller, &p, GVA(hc->arg[1] + 1), sizeof(p)),
                     -EFAULT); /* beyond the window */
    assert_int_equal(guest_read(hc->caller, &p, GVA(hc->arg[1] - 1), 1), -EFAULT);
    return 0;
}

static void test_fields(void **state)
{
    struct narrow_poll *p = take(sizeof(*p));

    *p = (struct narrow_poll){.ports = 0xf0001000, .nr_ports = 3, .timeout = 0xfedcba9876543210ull};
    handler = poll;
    assert_int_equal(call(__HYPERVISOR_sched_op, SCHEDOP_poll, handle(p), 0, NULL), 0);
    assert_int_equal(handled, 1);
    assert_null(vcpu.window);
    assert_int_equal(call(__HYPERVISOR_sched_op, SCHEDOP_poll, handle(arena + ARENA - 8), 0, NULL), -EFAULT);
    assert_int_equal(call(__HYPERVISOR_sched_op, SCHEDOP_poll, 0xfffffff8, 0, NULL), -EFAULT);
    assert_int_equal(handled, 0);
}

static long runstate(struct hypercall *hc)
{
    struct vcpu_runstate_info i = {
        .state = 2, .state_entry_time = 0x1122334455667788ull, .time = {1, 2, 3, 0x99aabbccddeeff00ull}};

    assert_int_equal(hc->arg[1], 5);
    return guest_write(hc->caller, GVA(hc->arg[2]), &i, sizeof(i));
}

static void test_results_come_back(void **state)
{
    struct {
        struct narrow_runstate r;
        uint32_t behind;
    } *p = take(sizeof(*p));

    p->behind = 0xabcd;
    handler = runstate;
    assert_int_equal(call(__HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, 5, handle(p), NULL), 0);
    assert_int_equal(p->r.state, 2);
    assert_true(p->r.state_entry_time == 0x1122334455667788ull && p->r.time[3] == 0x99aabbccddeeff00ull);
    assert_int_equal(p->behind, 0xabcd);
}

static long area(struct hypercall *hc)
{
    uint64_t p;

    assert_int_equal(guest_read(hc->caller, &p, GVA(hc->arg[2]), sizeof(p)), 0);
    return p == 0xc0001234;
}

static void test_area_is_half_of_the_union(void **state)
{
    struct narrow_area *a = take(sizeof(*a));

    *a = (struct narrow_area){0xc0001234, 0xdddddddd};
    handler = area;
    assert_int_equal(call(__HYPERVISOR_vcpu_op, VCPUOP_register_runstate_memory_area, 0, handle(a), NULL), 1);
}

/* --- lists of frame numbers --- */

static uint32_t total; /* extents that the handlers have done */
static uint32_t bad;   /* the one at which they stop */

/* Does what populate does, preempted when the machine says so; names each extent anew. */
static long populate(struct hypercall *hc)
{
    struct xen_memory_reservation r;
    uint64_t i = hc->arg[0] >> MEMOP_EXTENT_SHIFT, n;

    assert_int_equal(hc->arg[0] & 63, XENMEM_populate_physmap);
    assert_int_equal(guest_read(hc->caller, &r, GVA(hc->arg[1]), sizeof(r)), 0);
    assert_int_equal(r.domid, 0x7ff0);
    assert_int_equal(r.mem_flags, 9);
    for (uint64_t first = i; i < r.nr_extents; i++) {
        if (i != first && preempt_needed()) {
            hc->arg[0] = XENMEM_populate_physmap | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        assert_int_equal(guest_read_at(hc->caller, &n, GVA((uintptr_t)r.extent_start.p), i, sizeof(n)), 0);
        assert_int_equal(n, 0x1000 + total);
        if (total == bad)
            break;
        n += 0x70000000;
        assert_int_equal(guest_write_at(hc->caller, GVA((uintptr_t)r.extent_start.p), i, &n, sizeof(n)), 0);
        total++;
    }
    return (long)i;
}

static void populate_at(unsigned preempt, uint32_t extents, uint32_t stop)
{
    struct narrow_reservation *r = take(sizeof(*r));
    uint32_t *list = take(extents * 4 + 4);
    unsigned times;

    *r = (struct narrow_reservation){
        .extent_start = handle(list), .nr_extents = extents, .mem_flags = 9, .domid = 0x7ff0};
    for (uint32_t i = 0; i < extents; i++)
        list[i] = 0x1000 + i;
    list[extents] = 77;
    handler = populate;
    total = 0;
    bad = stop;
    fake_preempt_every = preempt;
    assert_int_equal(call_to_the_end(__HYPERVISOR_memory_op, XENMEM_populate_physmap, handle(r), 0, &times),
                     MIN(extents, stop));
    fake_preempt_every = 0;
    assert_int_equal(total, MIN(extents, stop));
    for (uint32_t i = 0; i < extents; i++)
        assert_int_equal(list[i], 0x1000 + i + (i < stop ? 0x70000000 : 0));
    assert_int_equal(list[extents], 77);
    assert_true(preempt != 1 || extents < 3 || times > 1);
    used = 0;
}

static void test_lists_in_pieces(void **state)
{
    static const uint32_t sizes[] = {0, 1, 63, 64, 65, 200};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        for (unsigned preempt = 0; preempt < 70; preempt += preempt < 4 ? 1 : 13) {
            populate_at(preempt, sizes[i], ~0u);
            populate_at(preempt, sizes[i], 64);
            populate_at(preempt, sizes[i], 100);
        }
}

static void test_list_that_ends(void **state)
{
    struct narrow_reservation *r = take(sizeof(*r));
    uint32_t *list = (uint32_t *)(arena + ARENA) - 10;
    unsigned times;

    for (unsigned i = 0; i < 10; i++)
        list[i] = 0x1000 + i;
    *r = (struct narrow_reservation){
        .extent_start = handle(list), .nr_extents = 100, .mem_flags = 9, .domid = 0x7ff0};
    handler = populate;
    total = 0;
    bad = ~0u;
    assert_int_equal(call_to_the_end(__HYPERVISOR_memory_op, XENMEM_populate_physmap, handle(r), 0, &times),
                     10);
    assert_int_equal(total, 10);
    r->nr_extents = 0x8000000; /* more than a cursor can say */
    assert_int_equal(call_to_the_end(__HYPERVISOR_memory_op, XENMEM_populate_physmap, handle(r), 0, &times),
                     0);
    r->nr_extents = 4;
    r->extent_start = 0xfffffff8; /* to the end of the world */
    assert_int_equal(call_to_the_end(__HYPERVISOR_memory_op, XENMEM_populate_physmap, handle(r), 0, &times),
                     -EFAULT);
    assert_int_equal(call(__HYPERVISOR_memory_op, XENMEM_populate_physmap, 5, 0, NULL), -EFAULT);
}

static long batch(struct hypercall *hc)
{
    struct xen_add_to_physmap_batch b;
    uint64_t i = hc->arg[0] >> MEMOP_EXTENT_SHIFT, idx, gpfn;

    assert_int_equal(guest_read(hc->caller, &b, GVA(hc->arg[1]), sizeof(b)), 0);
    assert_int_equal(b.space, 4);
    assert_int_equal(b.u.foreign_domid, 12);
    for (uint64_t first = i; i < b.size; i++) {
        int err = -(int)total;

        if (i != first && preempt_needed()) {
            hc->arg[0] = (hc->arg[0] & 63) | i << MEMOP_EXTENT_SHIFT;
            return HC_AGAIN;
        }
        assert_int_equal(guest_read_at(hc->caller, &idx, GVA((uintptr_t)b.idxs.p), i, sizeof(idx)), 0);
        assert_int_equal(guest_read_at(hc->caller, &gpfn, GVA((uintptr_t)b.gpfns.p), i, sizeof(gpfn)), 0);
        assert_int_equal(idx, 0x100 + total);
        assert_int_equal(gpfn, 0xf0000000 + total);
        if (guest_write_at(hc->caller, GVA((uintptr_t)b.errs.p), i, &err, sizeof(err)))
            return -EFAULT;
        total++;
    }
    return 0;
}

static void test_batch(void **state)
{
    struct narrow_add_to_physmap_batch *b = take(sizeof(*b));
    uint32_t *idx = take(800), *gpfn = take(800);
    int *err = take(800);
    unsigned times;

    for (uint32_t i = 0; i < 200; i++) {
        idx[i] = 0x100 + i;
        gpfn[i] = 0xf0000000 + i;
    }
    *b = (struct narrow_add_to_physmap_batch){.domid = 0x7ff0,
                                              .space = 4,
                                              .size = 200,
                                              .u = 12,
                                              .idxs = handle(idx),
                                              .gpfns = handle(gpfn),
                                              .errs = handle(err)};
    handler = batch;
    for (unsigned preempt = 0; preempt < 5; preempt++) {
        total = 0;
        memset(err, 0x55, 800);
        fake_preempt_every = preempt;
        assert_int_equal(
            call_to_the_end(__HYPERVISOR_memory_op, XENMEM_add_to_physmap_batch, handle(b), 0, &times), 0);
        assert_int_equal(total, 200);
        for (int i = 0; i < 200; i++)
            assert_int_equal(err[i], -i);
    }
    fake_preempt_every = 0;
    total = 0;
    b->gpfns = 0xffffff00;
    assert_int_equal(
        call_to_the_end(__HYPERVISOR_memory_op, XENMEM_add_to_physmap_batch, handle(b), 0, &times), -EFAULT);
    assert_int_equal(call(__HYPERVISOR_memory_op, XENMEM_add_to_physmap_batch | 201 << 6, handle(b), 0, NULL),
                     -EINVAL);
}

/* --- grants --- */

static long copies(struct hypercall *hc)
{
    uint32_t n = (uint32_t)hc->arg[2];

    for (uint32_t i = 0; i < n; i++) {
        struct gnttab_copy c;

        if (i && preempt_needed()) {
            hc->arg[1] += i * sizeof(c);
            hc->arg[2] = n - i;
            return HC_AGAIN;
        }
        assert_int_equal(guest_read_at(hc->caller, &c, GVA(hc->arg[1]), i, sizeof(c)), 0);
        assert_int_equal(c.source.u.ref, 0x80000000 + total);
        assert_int_equal(c.dest.u.gmfn, 0x90000000 + total);
        assert_int_equal(c.source.offset, 1);
        assert_int_equal(c.dest.offset, 2);
        assert_int_equal(c.source.domid, 3);
        assert_int_equal(c.dest.domid, 4);
        assert_int_equal(c.len, 5);
        assert_int_equal(c.flags, 3);
        c.status = (int16_t)-total;
        assert_int_equal(guest_write_at(hc->caller, GVA(hc->arg[1]), i, &c, sizeof(c)), 0);
        total++;
    }
    return 0;
}

static void test_copies(void **state)
{
    enum { N = 41 };
    struct narrow_copy *c = take(N * sizeof(*c));
    unsigned times;

    handler = copies;
    for (unsigned preempt = 0; preempt < 12; preempt++) {
        for (uint32_t i = 0; i < N; i++)
            c[i] = (struct narrow_copy){.source = {0x80000000 + i, 3, 1},
                                        .dest = {0x90000000 + i, 4, 2},
                                        .len = 5,
                                        .flags = 3,
                                        .status = 99};
        total = 0;
        fake_preempt_every = preempt;
        assert_int_equal(call_to_the_end(__HYPERVISOR_grant_table_op, GNTTABOP_copy, handle(c), N, &times),
                         0);
        for (int i = 0; i < N; i++)
            assert_int_equal(c[i].status, -i);
    }
    fake_preempt_every = 0;
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_copy, handle(c), 0x80000000, NULL), -EINVAL);
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_copy, 0xfffffff0, 3, NULL), -EFAULT);
}

static long setup(struct hypercall *hc)
{
    struct gnttab_setup_table s;

    assert_int_equal(guest_read(hc->caller, &s, GVA(hc->arg[1]), sizeof(s)), 0);
    for (uint32_t i = 0; i < s.nr_frames; i++) {
        uint64_t name = 0x123400000000ull + 0xabc0 + i;

        assert_int_equal(guest_write_at(hc->caller, GVA((uintptr_t)s.frame_list.p), i, &name, sizeof(name)),
                         0);
    }
    s.status = 0;
    return guest_write(hc->caller, GVA(hc->arg[1]), &s, sizeof(s));
}

static void test_setup_table(void **state)
{
    struct narrow_setup_table *s = take(sizeof(*s));
    uint32_t *names = take(4 * 65);

    *s = (struct narrow_setup_table){.dom = 1, .nr_frames = 64, .status = 9, .frame_list = handle(names)};
    names[64] = 5;
    handler = setup;
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, handle(s), 1, NULL), 0);
    assert_int_equal(s->status, 0);
    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(names[i], 0xabc0 + i);
    assert_int_equal(names[64], 5);
    s->nr_frames = 65;
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, handle(s), 1, NULL), 0);
    assert_int_equal(s->status, GNTST_general_error);
    s->nr_frames = 2;
    s->frame_list = 0xfffffff0;
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, handle(s), 1, NULL), 0);
    assert_int_equal(s->status, GNTST_bad_virt_addr);
    assert_int_equal(call(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, handle(s), 2, NULL), -EINVAL);
}

/* --- multicall --- */

static long count_down(struct hypercall *hc)
{
    assert_true(hc->in_multicall);
    if (hc->arg[1] == 9 && !--hc->arg[2])
        return 40;
    return hc->arg[1] == 9 ? HC_AGAIN : -(long)hc->arg[1];
}

static void test_multicall(void **state)
{
    struct narrow_multicall *m = take(8 * sizeof(*m));
    unsigned times;

    handler = count_down;
    for (unsigned preempt = 0; preempt < 3; preempt++) {
        for (uint32_t i = 0; i < 8; i++)
            m[i] = (struct narrow_multicall){
                .op = __HYPERVISOR_sched_op, .result = 1, .args = {SCHEDOP_yield, i, 3}};
        m[4].args[1] = 9;
        m[6].op = __HYPERVISOR_multicall;
        fake_preempt_every = preempt;
        assert_int_equal(call_to_the_end(__HYPERVISOR_multicall, handle(m), 8, 0, &times), 0);
        for (int i = 0; i < 8; i++)
            assert_int_equal((int32_t)m[i].result, i == 4 ? 40 : i == 6 ? -EINVAL : -i);
    }
    fake_preempt_every = 0;
    assert_int_equal(call(__HYPERVISOR_multicall, 0xfffffff0, 1, 0, NULL), -EFAULT);
    assert_int_equal(call(__HYPERVISOR_multicall, 0xffffffe0, 0, 0, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_same_in_both, start),
        cmocka_unit_test_setup(test_what_is_not_there, start),
        cmocka_unit_test_setup(test_time_in_two_registers, start),
        cmocka_unit_test_setup(test_fields, start),
        cmocka_unit_test_setup(test_results_come_back, start),
        cmocka_unit_test_setup(test_area_is_half_of_the_union, start),
        cmocka_unit_test_setup(test_lists_in_pieces, start),
        cmocka_unit_test_setup(test_list_that_ends, start),
        cmocka_unit_test_setup(test_batch, start),
        cmocka_unit_test_setup(test_copies, start),
        cmocka_unit_test_setup(test_setup_table, start),
        cmocka_unit_test_setup(test_multicall, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
