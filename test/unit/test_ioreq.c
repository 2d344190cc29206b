/*
 * Device models: ioreq servers, requests and answers, and every dm_op, on the real p2m and event channels. The device model is this test:
 * it answers, answers nonsense, dies, and writes into the pages that it shares with the hypervisor whatever it likes.
 */
#include "fake.h"
#include "core/guest.h"
#include "core/sched.h"
#include "core/work.h"
#include "arch/x86/hvm/dev/ioreq_private.h"
#include "arch/x86/hvm/dev/irq.h"
#include "arch/x86/hvm/private.h"
#include "x86/mm.h"
#include <stdlib.h>
#include <string.h>

#define GUEST_VCPUS 3u

/* --- the machine --- */

static unsigned handled;
static long last_line;
static struct hvm_exit last_exit;

void hvm_handle(struct vcpu *v, const struct hvm_exit *x)
{
    handled++;
    last_exit = *x;
}
bool hvm_is_64(const struct vcpu *v)
{
    return true;
}
void hvm_paging(struct vcpu *v, struct guest_paging *p)
{
    *p = (struct guest_paging){0};
}
int hvm_vcpu_nmi(struct vcpu *v)
{
    last_line = 'n';
    return 0;
}
int hvm_ask_event(struct vcpu *v, const struct hvm_event *e, uint64_t cr2)
{
    last_line = e->type << 16 | e->vector;
    return 0;
}
int hvm_isa_irq(struct domain *d, unsigned irq, bool level)
{
    last_line = irq * 2 + level;
    return irq < 16 ? 0 : -EINVAL;
}
int hvm_pci_intx(struct domain *d, unsigned bus, unsigned dev, unsigned intx, bool level)
{
    last_line = (dev * 4 + intx) * 2 + level;
    return dev < 32 && intx < 4 ? 0 : -EINVAL;
}
int hvm_pci_link_route(struct domain *d, unsigned link, unsigned irq)
{
    return link < 4 && irq < 16 ? 0 : -EINVAL;
}
int hvm_inject_msi(struct domain *d, uint64_t address, uint32_t data)
{
    last_line = data;
    return 0;
}
static unsigned f_cpl(const struct vcpu *v)
{
    return 0;
}
static void f_segment(const struct vcpu *v, enum hvm_seg s, struct hvm_segment *out)
{
    *out = (struct hvm_segment){0};
}
static const struct hvm_ops soft = {.cpl = f_cpl, .get_segment = f_segment};
const struct hvm_ops *hvm_ops = &soft;
void arch_frame_writable(mfn_t m)
{
    mfn_frame(m)->type |= 1;
}
static void flush(struct domain *d)
{
}
static const struct p2m_machine machine = {
    .flush = flush, .paging = hvm_paging, .large = true, .guest_bits = 40};

static struct domain *dm, *d;
static struct vcpu *tool, *v;

struct domain *arch_domain_alloc(void)
{
    return calloc(1, sizeof(struct x86_domain));
}
void arch_domain_free(struct domain *gone)
{
    if (hvm_domain(gone)) {
        p2m_domain_free(gone);
        ioreq_free(gone);
        mem_free(hvm_domain(gone)->bus);
        mem_free(hvm_domain(gone));
    }
    free(gone);
}
struct vcpu *arch_vcpu_alloc(struct domain *of)
{
    return calloc(1, sizeof(struct x86_vcpu));
}
void arch_vcpu_free(struct vcpu *gone)
{
    if (x86_vcpu(gone)->hvm) {
        mem_free(x86_vcpu(gone)->hvm->io);
        mem_free(x86_vcpu(gone)->hvm);
    }
    free(gone);
}
int arch_domain_init(struct domain *new, uint32_t flags)
{
    if (!new->ops || !new->ops->translated)
        return 0;
    x86_domain(new)->hvm = mem_new(struct hvm_domain);
    hvm_domain(new)->bus = mem_new(struct hvm_bus);
    hvm_bus_add(new, &text_device);
    return p2m_domain_init(new);
}
int arch_vcpu_init(struct vcpu *new)
{
    if (!new->domain->ops || !new->domain->ops->translated)
        return 0;
    x86_vcpu(new)->hvm = mem_new(struct hvm_vcpu);
    x86_vcpu(new)->hvm->io = (struct hvm_io *)mem_new(struct hvm_waiting);
    return 0;
}
int arch_domain_release(struct domain *old)
{
    if (!hvm_domain(old))
        return 0;
    ioreq_release(old);
    return p2m_domain_release(old);
}
int arch_physmap_add(struct domain *to, gfn_t g, mfn_t m, unsigned order)
{
    return p2m_set(to, g, m, order, P2M_RAM);
}
int arch_physmap_remove(struct domain *from, gfn_t g, mfn_t m, unsigned order)
{
    return p2m_remove(from, g, m, order);
}
int arch_physmap_release(struct domain *from, gfn_t g, unsigned order)
{
    return p2m_release_frames(from, g, order);
}
struct frame *arch_gfn_get(struct domain *of, gfn_t g)
{
    struct p2m_entry e;

    return p2m_get(of, g, 0, &e) ? NULL : mfn_frame(e.mfn);
}
mfn_t arch_gfn_to_mfn(struct domain *of, gfn_t g)
{
    struct p2m_entry e;

    p2m_look(of, g, &e);
    return e.mfn;
}

gfn_t arch_mfn_to_gfn(struct domain *of, mfn_t m)
{
    struct p2m_entry e;

    for (uint64_t g = 0; g < 0x200; g++) {
        p2m_look(of, GFN(g), &e);
        if (mfn_eq(e.mfn, m))
            return GFN(g);
    }
    return INVALID_GFN;
}

static struct domain *domain_new(uint16_t id, const struct guest_ops *ops, unsigned vcpus)
{
    struct domain_config c = {.ops = ops,
                              .privileged = id == 1,
                              .max_vcpus = vcpus,
                              .max_evtchn_port = 200,
                              .max_grant_frames = 4,
                              .max_maptrack_frames = 2,
                              .max_frames = 100};

    return fake_domain_new(id, &c);
}

static int group_setup(void **state)
{
    fake_machine(16384, 2);
    p2m_machine_set(&machine);
    return 0;
}

static void ram(uint64_t gfn)
{
    mfn_t m;

    assert_int_equal(frame_alloc_domain(d, 0, 64, 0, &m), 0);
    assert_int_equal(p2m_set(d, GFN(gfn), m, 0, P2M_RAM), 0);
}

static int setup(void **state)
{
    dm = domain_new(1, &fake_guest_ops, 1);
    d = domain_new(5, &fake_translated_ops, GUEST_VCPUS);
    dom0 = dm;
    tool = dm->vcpu[0];
    v = d->vcpu[0];
    for (uint64_t g = 1; g < 12; g++)
        ram(g);
    handled = 0;
    return 0;
}

static int teardown(void **state)
{
    fake_fail_alloc = fake_fail_mem = fake_fail_copy = fake_preempt_every = 0;
    ioreq_check(d);
    evtchn_room_check(d);
    dom0 = NULL;
    fake_domain_end(d);
    fake_domain_end(dm);
    frame_room_check();
    return 0;
}

/* --- the device model --- */

static long dm_call(uint16_t domid, unsigned bufs, struct xen_dm_op_buf *list)
{
    struct hypercall hc = {.caller = tool, .arg = {domid, bufs, (uintptr_t)list}};
    long r;

    do {
        r = do_dm_op(&hc);
    } while (r == HC_AGAIN);
    return r;
}

static long dm_op2(struct xen_dm_op *op, void *second, size_t bytes)
{
    struct xen_dm_op_buf b[2] = {{.size = sizeof(*op)}, {.size = bytes}};

    b[0].h.p = op;
    b[1].h.p = second;
    return dm_call(5, second ? 2 : 1, b);
}
static long dm_op(struct xen_dm_op *op)
{
    return dm_op2(op, NULL, 0);
}
#define OP(n, ...)                                                                                           \
    {                                                                                                        \
        .op = XEN_DMOP_##n, .u.n = { __VA_ARGS__ }                                                           \
    }

static long server_create(uint8_t buffering)
{
    struct xen_dm_op op = OP(create_ioreq_server, .handle_bufioreq = buffering);
    long r = dm_op(&op);

    return r ? r : op.u.create_ioreq_server.id;
}
static long server_destroy(long id)
{
    struct xen_dm_op op = OP(destroy_ioreq_server, .id = (uint16_t)id);

    return dm_op(&op);
}
static long server_state(long id, bool on)
{
    struct xen_dm_op op = OP(set_ioreq_server_state, .id = (uint16_t)id, .enabled = on);

    return dm_op(&op);
}
static long range(long id, uint32_t type, uint64_t first, uint64_t last, bool map)
{
    struct xen_dm_op op =
        OP(map_io_range_to_ioreq_server, .id = (uint16_t)id, .type = type, .start = first, .end = last);

    if (!map)
        op.op = XEN_DMOP_unmap_io_range_from_ioreq_server;
    return dm_op(&op);
}
static void *page(long id, unsigned index)
{
    mfn_t m;

    if (hvm_resource_frame(d, (uint32_t)id, index, &m))
        return NULL;
    assert_int_equal(mfn_frame(m)->owner, 5);
    return arch_frame_va(m);
}

/* One that serves ports 0x100-0x1ff, memory 0xa0000-0xbffff and 0xf0000000-0xf0000fff, and PCI function 3 of device 2. */
static struct shared_iopage *sync;
static struct buffered_iopage *ring;
static long start_server(void)
{
    long id = server_create(HVM_IOREQSRV_BUFIOREQ_ATOMIC);

    assert_true(id >= 0);
    ring = page(id, 0);
    sync = page(id, 1);
    assert_non_null(ring);
    assert_non_null(sync);
    assert_int_equal(range(id, XEN_DMOP_IO_RANGE_PORT, 0x100, 0x1ff, true), 0);
    assert_int_equal(range(id, XEN_DMOP_IO_RANGE_MEMORY, 0xa0000, 0xbffff, true), 0);
    assert_int_equal(range(id, XEN_DMOP_IO_RANGE_MEMORY, 0xf0000000, 0xf0000fff, true), 0);
    assert_int_equal(range(id, XEN_DMOP_IO_RANGE_PCI, 2 << 3 | 3, 2 << 3 | 3, true), 0);
    assert_int_equal(server_state(id, true), 0);
    return id;
}

static uint64_t served;
static struct ioreq asked; /* the request that was answered last */
static void answer(unsigned vcpu, uint64_t value)
{
    struct ioreq *r = &sync->vcpu_ioreq[vcpu];

    assert_int_equal(r->state, STATE_IOREQ_READY);
    asked = *r;
    r->state = STATE_IOREQ_INPROCESS;
    r->data = value;
    r->state = STATE_IORESP_READY;
    vcpu_device_done(d->vcpu[vcpu]); /* what its event does */
    served++;
}

static bool sleeps(const struct vcpu *who)
{
    return who->pause_flags & VPF_DEVICE;
}

/* An access to its end, as a handler makes it; the device model answers with `value`. */
static uint64_t access(struct hvm_access a, uint64_t value)
{
    struct hvm_exit x = {.kind = HVM_EXIT_IO};
    struct hvm_access first = a;

    fake_run_as(v);
    hvm_access_begin(v, &x);
    if (!hvm_access(v, &a)) {
        unsigned before = handled;

        assert_true(hvm_access_pending(v));
        hvm_access_go_on(v);
        assert_true(sleeps(v) && handled == before);
        answer(0, value);
        assert_false(sleeps(v));
        hvm_access_go_on(v);
        assert_int_equal(handled, before + 1);
        assert_false(hvm_access_pending(v));
        a = first;
        assert_true(hvm_access(v, &a));
    }
    hvm_access_commit(v);
    fake_run_as(sched_idle_vcpu(0));
    return a.value;
}
#define IN(port, n) ((struct hvm_access){.space = HVM_PORT, .address = port, .bytes = n})
#define OUT(port, n, x)                                                                                      \
    ((struct hvm_access){.space = HVM_PORT, .address = port, .bytes = n, .write = true, .value = x})
#define LOAD(at, n) ((struct hvm_access){.space = HVM_MEMORY, .address = at, .bytes = n})
#define STORE(at, n, x)                                                                                      \
    ((struct hvm_access){.space = HVM_MEMORY, .address = at, .bytes = n, .write = true, .value = x})

/* --- requests --- */

static void requests(void **state)
{
    struct ioreq *r;
    long id;

    assert_int_equal(access(IN(0x100, 2), 0), 0xffff); /* no device model yet */
    id = start_server();
    r = &asked;
    served = 0;
    assert_int_equal(access(IN(0x104, 2), 0x123456789), 0x6789);
    assert_true(r->type == IOREQ_TYPE_PIO && r->addr == 0x104 && r->size == 2 && r->count == 1 &&
                r->dir == IOREQ_READ && !r->data_is_ptr && !r->df);
    assert_int_equal(sync->vcpu_ioreq[0].state, STATE_IOREQ_NONE);
    (void)access(OUT(0x1fc, 4, 0x1122334455), 0);
    assert_true(r->addr == 0x1fc && r->dir == IOREQ_WRITE && r->size == 4);
    assert_int_equal(access(LOAD(0xf0000ff8, 8), ~1ull), ~1ull);
    assert_true(r->type == IOREQ_TYPE_COPY && r->addr == 0xf0000ff8 && r->size == 8);
    assert_int_equal(served, 3);
    /* Not wholly inside, or elsewhere. */
    assert_int_equal(access(IN(0x1fe, 4), 0), 0xffffffff);
    assert_int_equal(access(LOAD(0xf0000ffc, 8), 0), ~0ull);
    assert_int_equal(access(IN(0x200, 1), 0), 0xff);
    assert_int_equal(served, 3);
    /* Krypton's own come first. */
    assert_int_equal(range(id, XEN_DMOP_IO_RANGE_PORT, 0xe9, 0xe9, true), 0);
    assert_int_equal(access(IN(0xe9, 1), 0), 0xff);
    assert_int_equal(served, 3);
    assert_int_equal(server_state(id, false), 0);
    assert_int_equal(access(IN(0x104, 2), 0), 0xffff);
}

static void pci_configuration(void **state)
{
    struct ioreq *r;

    start_server();
    r = &asked;
    served = 0;
    (void)access(OUT(0xcf8, 4, 0x80000000 | 2 << 11 | 3 << 8 | 0x40), 0);
    assert_int_equal(access(IN(0xcfe, 2), 0xabcd), 0xabcd);
    assert_true(r->type == IOREQ_TYPE_PCI_CONFIG && r->size == 2 &&
                r->addr == ((uint64_t)(2 << 3 | 3) << 32 | 0x42));
    (void)access(OUT(0xcf8, 4, 0x80000000 | 2 << 11 | 4 << 8), 0); /* another function */
    assert_int_equal(access(IN(0xcfc, 4), 0), 0xffffffff);
    (void)access(OUT(0xcf8, 4, 2 << 11 | 3 << 8), 0); /* not enabled */
    assert_int_equal(access(IN(0xcfc, 4), 0), 0xffffffff);
    (void)access(OUT(0xcf8, 2, 0x8000), 0); /* no 32-bit write: latches nothing */
    assert_int_equal(served, 1);
}

static void writes_that_nobody_waits_for(void **state)
{
    long id = start_server();

    served = 0;
    for (unsigned i = 0; i < 1000; i++) {
        (void)access(STORE(0xb8000 + i * 2, 2, i), 0);
        assert_int_equal(ring->write_pointer - ring->read_pointer, 1);
        assert_true(ring->write_pointer <= 2 * IOREQ_BUFFER_SLOT_NUM);
        assert_true(ring->buf_ioreq[ring->read_pointer % IOREQ_BUFFER_SLOT_NUM].addr == 0xb8000 + i * 2 &&
                    ring->buf_ioreq[ring->read_pointer % IOREQ_BUFFER_SLOT_NUM].data == i &&
                    ring->buf_ioreq[ring->read_pointer % IOREQ_BUFFER_SLOT_NUM].size == 1);
        ring->read_pointer++;
    }
    (void)access(STORE(0xa0000, 8, 0x1122334455667788), 0); /* two slots */
    assert_int_equal(ring->write_pointer - ring->read_pointer, 2);
    assert_int_equal(ring->buf_ioreq[(ring->write_pointer - 1) % IOREQ_BUFFER_SLOT_NUM].data, 0x11223344);
    assert_int_equal(ring->buf_ioreq[ring->read_pointer % IOREQ_BUFFER_SLOT_NUM].size, 3);
    assert_int_equal(served, 0);
    /* Full: one by one, waited for. */
    ring->read_pointer = ring->write_pointer - IOREQ_BUFFER_SLOT_NUM;
    (void)access(STORE(0xa0000, 1, 1), 0);
    assert_int_equal(served, 1);
    assert_int_equal(access(LOAD(0xa0000, 1), 7), 7);
    assert_int_equal(served, 2);
    /* Pointers out of any order: never beyond the page. */
    for (unsigned i = 0; i < 64; i++) {
        ring->read_pointer = (uint32_t)rand() * 3u;
        ring->write_pointer = ring->read_pointer + (uint32_t)rand() % 600;
        (void)access(STORE(0xa0000, 8, ~0ull), 0);
    }
    ring->read_pointer = ring->write_pointer;
    hvm_vcpu(v)->io->clock = -7;
    hvm_vcpu(v)->io->clock_set = true;
    assert_true(hvm_access_pending(v));
    hvm_access_go_on(v);
    assert_false(hvm_access_pending(v));
    assert_int_equal(ring->write_pointer - ring->read_pointer, 2);
    assert_int_equal(ring->buf_ioreq[ring->read_pointer % IOREQ_BUFFER_SLOT_NUM].type, IOREQ_TYPE_TIMEOFFSET);
    assert_int_equal(ring->buf_ioreq[ring->read_pointer % IOREQ_BUFFER_SLOT_NUM].data, (uint32_t)-7);
    assert_int_equal(server_destroy(id), 0);
}

/* --- a device model that does not behave --- */

static void begin_access(struct hvm_access a)
{
    struct hvm_exit x = {.kind = HVM_EXIT_IO};

    fake_run_as(v);
    hvm_access_begin(v, &x);
    assert_false(hvm_access(v, &a));
    hvm_access_go_on(v);
    assert_true(sleeps(v));
    fake_run_as(sched_idle_vcpu(0));
}
static uint64_t end_access(struct hvm_access a)
{
    fake_run_as(v);
    vcpu_device_done(v);
    hvm_access_go_on(v);
    assert_false(hvm_access_pending(v));
    assert_true(hvm_access(v, &a));
    hvm_access_commit(v);
    fake_run_as(sched_idle_vcpu(0));
    return a.value;
}

static void it_goes_while_waited_for(void **state)
{
    long id = start_server();

    begin_access(IN(0x100, 4));
    assert_int_equal(server_destroy(id), 0);
    assert_false(sleeps(v));
    assert_int_equal(end_access(IN(0x100, 4)), 0xffffffff);
    /* Switched off and on again: the old request is not the new server's. */
    id = start_server();
    begin_access(IN(0x100, 4));
    assert_int_equal(server_state(id, false), 0);
    assert_int_equal(server_state(id, true), 0);
    assert_false(sleeps(v));
    sync->vcpu_ioreq[0].data = 5;
    sync->vcpu_ioreq[0].state = STATE_IORESP_READY;
    assert_int_equal(end_access(IN(0x100, 4)), 0xffffffff);
    sync->vcpu_ioreq[0].state = STATE_IOREQ_NONE;
    assert_int_equal(access(IN(0x100, 4), 9), 9);
    /* A wake-up without an answer: it sleeps on. */
    begin_access(IN(0x100, 4));
    fake_run_as(v);
    vcpu_device_done(v);
    hvm_access_go_on(v);
    assert_true(sleeps(v) && hvm_access_pending(v));
    fake_run_as(sched_idle_vcpu(0));
    /* It clears its page and goes. */
    memset(sync, 0, FRAME_SIZE);
    assert_int_equal(end_access(IN(0x100, 4)), 0xffffffff);
    /* The domain ends meanwhile: teardown. */
    begin_access(IN(0x100, 4));
}

static void it_lies(void **state)
{
    start_server();
    memset(sync, 0xff, FRAME_SIZE); /* a request that nobody made */
    fake_run_as(v);
    hvm_access_begin(v, &(struct hvm_exit){.kind = HVM_EXIT_IO});
    (void)!hvm_access(v, &IN(0x100, 4));
    fake_run_as(sched_idle_vcpu(0));
    assert_true(d->crashed);
}

static void it_gives_states_that_are_none(void **state)
{
    start_server();
    begin_access(IN(0x100, 4));
    sync->vcpu_ioreq[0].state = 9;
    assert_int_equal(end_access(IN(0x100, 4)), 0xffffffff);
    assert_true(d->crashed);
}

/* What was asked for is not read back: size, address and count are the device model's to destroy. */
static void it_rewrites_the_request(void **state)
{
    start_server();
    begin_access(IN(0x100, 2));
    memset(&sync->vcpu_ioreq[0], 0xff, sizeof(struct ioreq));
    sync->vcpu_ioreq[0].state = STATE_IORESP_READY;
    assert_int_equal(end_access(IN(0x100, 2)), 0xffff);
    assert_false(d->crashed);
    sync->vcpu_ioreq[1].state = STATE_IORESP_READY; /* for a vCPU that asked nothing */
    vcpu_device_done(d->vcpu[1]);
    assert_false(hvm_access_pending(d->vcpu[1]));
}

/* --- the instruction is given up (suspended to RAM) --- */

/* v is reset; then the answer comes and is for nobody, and what v asks next is its first request. */
static void forgets(void)
{
    unsigned before = handled;

    hvm_access_forget(v);
    assert_int_equal(hvm_vcpu(v)->io->count, 0);
    fake_run_as(v);
    assert_true(hvm_access_pending(v));
    hvm_access_go_on(v);
    if (hvm_access_pending(v)) { /* nothing but the answer lets it in */
        assert_true(sleeps(v));
        hvm_access_forget(v); /* once more, on the way out of the sleep */
        assert_true(sleeps(v) && hvm_access_pending(v));
        answer(0, 0x5555);
        hvm_access_go_on(v);
    }
    assert_false(hvm_access_pending(v) || sleeps(v));
    assert_int_equal(handled, before);
    fake_run_as(sched_idle_vcpu(0));
    assert_int_equal(access(IN(0x104, 2), 0x1234), 0x1234);
    assert_false(d->crashed);
}

static void a_forgotten_request_is_answered_for_nobody(void **state)
{
    struct ioreq *r;
    long id = start_server();

    r = &sync->vcpu_ioreq[0];
    begin_access(OUT(0x104, 2, 0x2400)); /* the write that asks for the sleep */
    forgets();
    begin_access(IN(0x104, 2));
    answer(0, 7); /* not yet looked at */
    forgets();
    begin_access(IN(0x104, 2));
    r->state = STATE_IOREQ_INPROCESS;
    hvm_access_forget(v);
    fake_run_as(v);
    hvm_access_go_on(v);
    assert_true(hvm_access_pending(v));
    r->state = STATE_IORESP_READY;
    vcpu_device_done(v);
    fake_run_as(sched_idle_vcpu(0));
    forgets();
    /* Its server goes meanwhile. */
    begin_access(IN(0x104, 2));
    hvm_access_forget(v);
    assert_int_equal(server_destroy(id), 0);
    fake_run_as(v);
    hvm_access_go_on(v);
    assert_false(hvm_access_pending(v) || sleeps(v));
    fake_run_as(sched_idle_vcpu(0));
    /* The device model makes nonsense of it: that ends the guest, as ever. */
    start_server();
    begin_access(IN(0x104, 2));
    hvm_access_forget(v);
    sync->vcpu_ioreq[0].state = 9;
    fake_run_as(v);
    hvm_access_go_on(v);
    assert_false(hvm_access_pending(v));
    assert_int_equal(handled, 3); /* of the accesses in between */
    assert_true(d->crashed);
    fake_run_as(sched_idle_vcpu(0));
}

/* Half of an instruction is done: the next one does not find its answers. What servers are to hear of the memory they still hear. */
static void an_instruction_given_up_leaves_no_answers(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_IO};
    struct hvm_access a = IN(0x104, 2);

    start_server();
    begin_access(a);
    answer(0, 0x1111);
    fake_run_as(v);
    hvm_access_go_on(v);
    assert_int_equal(hvm_vcpu(v)->io->count, 1);
    ioreq_invalidate(v, hvm_vcpu(v)->io);
    hvm_access_forget(v);
    hvm_access_go_on(v);
    assert_int_equal(sync->vcpu_ioreq[0].type, IOREQ_TYPE_INVALIDATE);
    answer(0, 0);
    hvm_access_go_on(v);
    assert_false(hvm_access_pending(v));
    assert_int_equal(handled, 1);
    hvm_access_begin(v, &x);
    assert_false(hvm_access(v, &a)); /* asked anew */
    fake_run_as(sched_idle_vcpu(0));
}

/* --- servers --- */

static void servers(void **state)
{
    long id[IOREQ_SERVERS];
    struct xen_dm_op info = OP(get_ioreq_server_info, .flags = XEN_DMOP_no_gfns);

    assert_int_equal(server_create(3), -EINVAL);
    for (unsigned i = 0; i < IOREQ_SERVERS; i++) {
        id[i] = server_create(i % 3);
        assert_int_equal(id[i], i);
    }
    assert_int_equal(server_create(0), -ENOSPC);
    assert_int_equal(server_destroy(IOREQ_SERVERS), -ENOENT);
    assert_int_equal(server_destroy(0xffff), -ENOENT);
    assert_int_equal(server_destroy(3), 0);
    assert_int_equal(server_destroy(3), -ENOENT);
    assert_int_equal(server_state(3, true), -ENOENT);
    assert_int_equal(range(3, 0, 0, 1, true), -ENOENT);
    assert_int_equal(server_create(0), 3);
    info.u.get_ioreq_server_info.id = 1;
    assert_int_equal(dm_op(&info), 0);
    assert_true(info.u.get_ioreq_server_info.bufioreq_port > 0);
    assert_null(page(3, 0)); /* unbuffered */
    assert_null(page(1, 2));
    assert_non_null(page(1, 0));
    assert_non_null(page(1, 1));
    assert_ptr_equal(page(1, 1), page(1, 1));
    /* Ranges. */
    assert_int_equal(range(1, 3, 0, 1, true), -EINVAL);
    assert_int_equal(range(1, 0, 2, 1, true), -EINVAL);
    assert_int_equal(range(1, 1, 0, ~0ull, true), 0);
    assert_int_equal(range(1, 1, 5, 6, true), -EEXIST);
    assert_int_equal(range(1, 0, 5, 6, false), -ENOENT);
    assert_int_equal(range(1, 1, 0, ~0ull, false), 0);
    for (unsigned i = 0; i < RANGESET_MAX; i++)
        assert_int_equal(range(1, 0, i * 2, i * 2, true), 0);
    assert_int_equal(range(1, 0, 0x5000, 0x5000, true), -ENOMEM);
    ioreq_check(d);
}

static void pages_by_number(void **state)
{
    struct xen_dm_op info = OP(get_ioreq_server_info, .flags = 0);
    struct p2m_entry e;
    uint64_t gfn;
    long id = server_create(HVM_IOREQSRV_BUFIOREQ_LEGACY);

    info.u.get_ioreq_server_info.id = (uint16_t)id;
    assert_int_equal(dm_op(&info), -ENOMEM); /* the toolstack set nothing aside */
    hvm_domain(d)->param[HVM_PARAM_IOREQ_SERVER_PFN] = 50;
    hvm_domain(d)->param[HVM_PARAM_NR_IOREQ_SERVER_PAGES] = 3;
    assert_int_equal(dm_op(&info), -EINVAL); /* no memory there */
    hvm_domain(d)->param[HVM_PARAM_IOREQ_SERVER_PFN] = 2;
    assert_int_equal(dm_op(&info), 0);
    gfn = info.u.get_ioreq_server_info.ioreq_gfn;
    assert_true(gfn >= 2 && gfn < 5 && info.u.get_ioreq_server_info.bufioreq_gfn != gfn);
    assert_null(page(id, 1)); /* not both ways */
    assert_int_equal(server_state(id, true), 0);
    p2m_look(d, GFN(gfn), &e);
    assert_int_equal(e.type, P2M_NONE); /* out of the guest's sight */
    ioreq_check(d);
    assert_int_equal(server_state(id, false), 0);
    p2m_look(d, GFN(gfn), &e);
    assert_int_equal(e.type, P2M_RAM);
    assert_int_equal(server_state(id, true), 0);
    assert_int_equal(server_destroy(id), 0);
    p2m_look(d, GFN(gfn), &e);
    assert_int_equal(e.type, P2M_RAM);
    p2m_room_check(d);
    id = server_create(HVM_IOREQSRV_BUFIOREQ_OFF); /* stays enabled to the end */
    info.u.get_ioreq_server_info.id = (uint16_t)id;
    assert_int_equal(dm_op(&info), 0);
    assert_int_equal(server_state(id, true), 0);
}

static void memory_falls_short(void **state)
{
    for (unsigned n = 1; n < 12; n++) {
        long id;

        fake_fail_mem = n;
        id = server_create(HVM_IOREQSRV_BUFIOREQ_ATOMIC);
        fake_fail_mem = 0;
        assert_true(id >= 0 || id == -ENOMEM);
        ioreq_check(d);
        evtchn_room_check(d);
        if (id >= 0)
            assert_int_equal(server_destroy(id), 0);
        assert_int_equal(d->evtchn.own, 0);
    }
}

/* Memory that was taken from the guest: all device models hear of it, one after the other. */
static void they_are_told(void **state)
{
    struct shared_iopage *first;
    long a = start_server();

    first = sync;
    start_server();
    (void)a;
    fake_run_as(v);
    ioreq_invalidate(v, hvm_vcpu(v)->io);
    assert_true(hvm_access_pending(v));
    hvm_access_go_on(v);
    assert_int_equal(first->vcpu_ioreq[0].type, IOREQ_TYPE_INVALIDATE);
    assert_int_equal(first->vcpu_ioreq[0].state, STATE_IOREQ_READY);
    hvm_access_go_on(v);
    assert_true(sleeps(v));
    first->vcpu_ioreq[0].state = STATE_IORESP_READY;
    vcpu_device_done(v);
    hvm_access_go_on(v);
    hvm_access_go_on(v);
    assert_int_equal(sync->vcpu_ioreq[0].state, STATE_IOREQ_READY);
    sync->vcpu_ioreq[0].state = STATE_IORESP_READY;
    hvm_access_go_on(v);
    assert_false(hvm_access_pending(v));
    assert_int_equal(handled, 0);
    fake_run_as(sched_idle_vcpu(0));
}

/* --- instructions of several accesses --- */

static void made_again(void **state)
{
    struct hvm_access r, w;

    start_server();
    fake_run_as(v);
    hvm_access_begin(v, &(struct hvm_exit){.kind = HVM_EXIT_MEMORY, .reason = 77});
    r = LOAD(0xf0000000, 4);
    assert_false(hvm_access(v, &r));
    answer(0, 0x55);
    hvm_access_go_on(v);
    assert_true(handled == 1 && last_exit.reason == 77);
    r = LOAD(0xf0000000, 4); /* from the beginning */
    w = STORE(0xf0000000, 4, 0x56);
    assert_true(hvm_access(v, &r));
    assert_int_equal(r.value, 0x55);
    assert_false(hvm_access(v, &w));
    answer(0, 0);
    hvm_access_go_on(v);
    r = LOAD(0xf0000000, 4);
    assert_true(hvm_access(v, &r) && hvm_access(v, &w));
    assert_int_equal(r.value, 0x55);
    /* The guest has changed what the instruction means meanwhile: another access, which is made. */
    hvm_access_begin(v, &(struct hvm_exit){.kind = HVM_EXIT_MEMORY});
    r = LOAD(0xf0000000, 4);
    assert_false(hvm_access(v, &r));
    answer(0, 0x11);
    hvm_access_go_on(v);
    r = LOAD(0xf0000010, 4);
    assert_false(hvm_access(v, &r));
    answer(0, 0x22);
    hvm_access_go_on(v);
    r = LOAD(0xf0000010, 4);
    assert_true(hvm_access(v, &r) && r.value == 0x22);
    fake_run_as(sched_idle_vcpu(0));
}

static void many_at_once(void **state)
{
    struct hvm_access a = {.space = HVM_PORT, .address = 0x1f0, .bytes = 2};

    fake_run_as(v);
    assert_false(hvm_batch_memory(v, HVM_ES, 0x1000, true, &a, 256)); /* nobody who could */
    fake_run_as(sched_idle_vcpu(0));
    start_server();
    fake_run_as(v);
    assert_true(hvm_batch_memory(v, HVM_ES, 0x1000, true, &a, 256));
    assert_true(a.count == 256 && a.value == 0x1000);
    assert_true(hvm_batch_memory(v, HVM_ES, 0x1f00, true, &a, 256));
    assert_int_equal(a.count, 128);                                     /* to the page's end */
    assert_false(hvm_batch_memory(v, HVM_ES, 0x1f01, true, &a, 256));   /* one would cross it */
    assert_false(hvm_batch_memory(v, HVM_ES, 0x1ffe, true, &a, 256));   /* only one */
    assert_false(hvm_batch_memory(v, HVM_ES, 0x100000, true, &a, 256)); /* no memory */
    a.down = true;
    assert_true(hvm_batch_memory(v, HVM_ES, 0x1006, true, &a, 256));
    assert_int_equal(a.count, 4);
    a.pointer = true;
    assert_false(hvm_access(v, &a));
    assert_true(sync->vcpu_ioreq[0].data_is_ptr && sync->vcpu_ioreq[0].df && sync->vcpu_ioreq[0].count == 4 &&
                sync->vcpu_ioreq[0].data == 0x1006);
    answer(0, 0);
    hvm_access_go_on(v);
    assert_true(hvm_access(v, &a));
    fake_run_as(sched_idle_vcpu(0));
}

/* A port that nobody serves for many elements at once may be a device model's for one: that one is asked once. */
static void many_for_nobody(void **state)
{
    const struct hvm_access many = {
        .space = HVM_PORT, .address = 0xcfc, .bytes = 4, .pointer = true, .value = 0x1000, .count = 2};
    struct hvm_access a = many, one = IN(0xcfc, 4);

    start_server();
    served = 0;
    (void)access(OUT(0xcf8, 4, 0x80000000 | 2 << 11 | 3 << 8), 0);
    fake_run_as(v);
    hvm_access_begin(v, &(struct hvm_exit){.kind = HVM_EXIT_IO});
    assert_true(hvm_access(v, &a) && a.nobody);
    assert_false(hvm_access(v, &one));
    answer(0, 5);
    hvm_access_go_on(v);
    a = many;
    one = IN(0xcfc, 4);
    assert_true(hvm_access(v, &a) && a.nobody);
    assert_true(hvm_access(v, &one) && one.value == 5);
    assert_int_equal(served, 1);
    fake_run_as(sched_idle_vcpu(0));
}

/* --- the other operations --- */

static void lines(void **state)
{
    struct xen_dm_op op = OP(set_pci_intx_level, .device = 3, .intx = 1, .level = 1);

    assert_int_equal(dm_op(&op), 0);
    assert_int_equal(last_line, (3 * 4 + 1) * 2 + 1);
    op.u.set_pci_intx_level.level = 2;
    assert_int_equal(dm_op(&op), -EINVAL);
    op.u.set_pci_intx_level.level = 1;
    op.u.set_pci_intx_level.bus = 1;
    assert_int_equal(dm_op(&op), -EINVAL);
    op = (struct xen_dm_op)OP(set_isa_irq_level, .isa_irq = 16, .level = 1);
    assert_int_equal(dm_op(&op), -EINVAL);
    op.u.set_isa_irq_level.isa_irq = 14;
    assert_int_equal(dm_op(&op), 0);
    op = (struct xen_dm_op)OP(set_pci_link_route, .link = 4);
    assert_int_equal(dm_op(&op), -EINVAL);
    op = (struct xen_dm_op)OP(inject_msi, .data = 0x41, .addr = 0xfee00000);
    assert_int_equal(dm_op(&op), 0);
    assert_int_equal(last_line, 0x41);
    op = (struct xen_dm_op)OP(inject_event, .vcpuid = 0, .vector = 14, .type = XEN_DMOP_EVENT_hw_exc);
    assert_int_equal(dm_op(&op), 0);
    assert_int_equal(last_line, HVM_EVENT_EXCEPTION << 16 | 14);
    op.u.inject_event.vector = 32;
    assert_int_equal(dm_op(&op), -EINVAL);
    op.u.inject_event.vcpuid = GUEST_VCPUS;
    assert_int_equal(dm_op(&op), -EINVAL);
    op.u.inject_event.vcpuid = 0;
    op.u.inject_event.type = XEN_DMOP_EVENT_sw_int;
    assert_int_equal(dm_op(&op), -EOPNOTSUPP);
    op = (struct xen_dm_op)OP(nr_vcpus, .vcpus = 0);
    assert_int_equal(dm_op(&op), 0);
    assert_int_equal(op.u.nr_vcpus.vcpus, GUEST_VCPUS);
    op = (struct xen_dm_op)OP(remote_shutdown, .reason = SHUTDOWN_MAX + 1);
    assert_int_equal(dm_op(&op), -EINVAL);
    op.u.remote_shutdown.reason = SHUTDOWN_reboot;
    assert_int_equal(dm_op(&op), 0);
    assert_true(d->shutting_down);
}

/* The screen's reader does not clean what a migration has to send: neither overlooks anything that was written. */
static void screen_while_logging(void **state)
{
    struct xen_dm_op op = OP(track_dirty_vram, .nr = 10, .first_pfn = 1);
    uint8_t bits[2] = {0}, log[2] = {0};

    assert_int_equal(p2m_log_enable(d), 0);
    p2m_mark_dirty(d, GFN(3));
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), 0);
    assert_true(bits[0] == 0xff && bits[1] == 3);
    assert_false(p2m_log_read_some(d, GFN(1), 10, log, false));
    assert_true(log[0] == 1u << 2 && !log[1]);
    assert_int_equal(p2m_log_disable(d), 0);
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), 0);
    assert_true(bits[0] == 0xff && bits[1] == 3);
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), 0);
    assert_true(!bits[0] && !bits[1]);
}

static void memory(void **state)
{
    struct xen_dm_op_modified_memory_extent e[3] = {
        {.nr = 2, .first_pfn = 1}, {.nr = 5, .first_pfn = 2}, {.nr = 1}};
    struct xen_dm_op op = OP(track_dirty_vram, .nr = 10, .first_pfn = 1);
    struct p2m_entry p;
    uint8_t bits[4] = {0};

    assert_int_equal(dm_op2(&op, bits, 1), -EINVAL); /* too short */
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), 0);
    assert_true(bits[0] == 0xff && bits[1] == 3);
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), 0);
    assert_true(!bits[0] && !bits[1]);
    op = (struct xen_dm_op)OP(modified_memory, .nr_extents = 3);
    fake_preempt_every = 1;
    assert_int_equal(dm_op2(&op, e, sizeof(e)), 0);
    fake_preempt_every = 0;
    op = (struct xen_dm_op)OP(track_dirty_vram, .nr = 10, .first_pfn = 1);
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), 0);
    assert_true(bits[0] == 0x3f && !bits[1]);
    op.u.track_dirty_vram.nr = ~0u;
    assert_int_equal(dm_op2(&op, bits, ~0ull), -EINVAL);
    op.u.track_dirty_vram.nr = 5;
    op.u.track_dirty_vram.first_pfn = ~0ull - 2;
    assert_int_equal(dm_op2(&op, bits, sizeof(bits)), -EINVAL);
    /* The failing extent's number, from one. */
    e[1].first_pfn = 1ull << 50;
    op = (struct xen_dm_op)OP(modified_memory, .nr_extents = 3);
    assert_int_equal(dm_op2(&op, e, sizeof(e)), -EINVAL);
    assert_int_equal(op.u.modified_memory.nr_extents, 2);
    op = (struct xen_dm_op)OP(modified_memory, .nr_extents = 4);
    assert_int_equal(dm_op2(&op, e, sizeof(e)), -EINVAL); /* beyond the buffer */
    /* Types. */
    fake_preempt_every = 1;
    op = (struct xen_dm_op)OP(set_mem_type, .nr = 3, .mem_type = HVMMEM_ram_ro, .first_pfn = 4);
    assert_int_equal(dm_op(&op), 0);
    fake_preempt_every = 0;
    p2m_look(d, GFN(6), &p);
    assert_int_equal(p.type, P2M_RAM_RO);
    op = (struct xen_dm_op)OP(set_mem_type, .nr = 3, .mem_type = HVMMEM_ram_rw, .first_pfn = 4);
    assert_int_equal(dm_op(&op), 0);
    op = (struct xen_dm_op)OP(set_mem_type, .nr = 1, .mem_type = HVMMEM_ioreq_server, .first_pfn = 4);
    assert_int_equal(dm_op(&op), -EINVAL); /* whose? */
    op = (struct xen_dm_op)OP(set_mem_type, .nr = 2, .mem_type = HVMMEM_ram_rw, .first_pfn = ~0ull);
    assert_int_equal(dm_op(&op), -EINVAL);
    op = (struct xen_dm_op)OP(set_mem_type, .nr = 1, .mem_type = 77, .first_pfn = 1);
    assert_int_equal(dm_op(&op), -EINVAL);
    /* Moved: video memory to where the guest put the BAR. */
    fake_preempt_every = 1;
    op = (struct xen_dm_op)OP(relocate_memory, .size = 3, .src_gfn = 8, .dst_gfn = 0x100);
    assert_int_equal(dm_op(&op), 0);
    fake_preempt_every = 0;
    p2m_look(d, GFN(8), &p);
    assert_int_equal(p.type, P2M_NONE);
    p2m_look(d, GFN(0x102), &p);
    assert_int_equal(p.type, P2M_RAM);
    op = (struct xen_dm_op)OP(relocate_memory, .size = 1, .src_gfn = 0x500, .dst_gfn = 0x100);
    assert_int_equal(dm_op(&op), -EINVAL);
    /* One page that would go up for ever, eating what it meets; down onto itself is a move as any other. */
    for (unsigned by = 0; by < 3; by++) {
        op = (struct xen_dm_op)OP(relocate_memory, .size = 0xffffffff, .src_gfn = 0x100,
                                  .dst_gfn = 0x100 + by);
        assert_int_equal(dm_op(&op), -EINVAL);
    }
    op = (struct xen_dm_op)OP(relocate_memory, .size = 3, .src_gfn = 0x100, .dst_gfn = 0xff);
    assert_int_equal(dm_op(&op), 0);
    p2m_look(d, GFN(0xff), &p);
    assert_int_equal(p.type, P2M_RAM);
    p2m_room_check(d);
}

static void memory_of_a_server(void **state)
{
    long id = start_server();
    struct xen_dm_op op = OP(map_mem_type_to_ioreq_server, .id = (uint16_t)id, .type = HVMMEM_ioreq_server,
                             .flags = XEN_DMOP_IOREQ_MEM_ACCESS_WRITE),
                     type = OP(set_mem_type, .nr = 2, .mem_type = HVMMEM_ioreq_server, .first_pfn = 4);
    struct p2m_entry p;

    assert_int_equal(dm_op(&op), 0);
    assert_int_equal(dm_op(&op), -EEXIST);
    assert_int_equal(dm_op(&type), 0);
    served = 0;
    (void)access(STORE(0x4010, 4, 1), 0);
    assert_int_equal(served, 1);
    assert_int_equal(sync->vcpu_ioreq[0].addr, 0x4010);
    op.u.map_mem_type_to_ioreq_server.flags = XEN_DMOP_IOREQ_MEM_ACCESS_READ;
    assert_int_equal(dm_op(&op), -EINVAL);
    op.u.map_mem_type_to_ioreq_server.flags = 0;
    fake_preempt_every = 1;
    assert_int_equal(dm_op(&op), 0);
    fake_preempt_every = 0;
    p2m_look(d, GFN(4), &p);
    assert_int_equal(p.type, P2M_RAM);
    op.u.map_mem_type_to_ioreq_server.opaque = 0;
    assert_int_equal(dm_op(&op), -EINVAL);
}

static void who_may(void **state)
{
    struct xen_dm_op op = OP(nr_vcpus, .vcpus = 0);
    struct xen_dm_op_buf b[3] = {{.size = sizeof(op)}};
    struct hypercall hc = {.caller = v, .arg = {5, 1, (uintptr_t)b}};

    b[0].h.p = &op;
    assert_int_equal(dm_call(5, 1, b), 0);
    assert_int_equal(dm_call(1, 1, b), -EPERM); /* itself */
    assert_int_equal(dm_call(DOMID_SELF, 1, b), -EPERM);
    assert_int_equal(dm_call(99, 1, b), -ESRCH);
    assert_int_equal(dm_call(5, 3, b), -E2BIG);
    assert_int_equal(dm_call(5, 0, b), -EFAULT);
    assert_int_equal(do_dm_op(&hc), -EPERM); /* the guest on itself */
    hc.arg[0] = 1;
    assert_int_equal(do_dm_op(&hc), -EPERM); /* ... and on others */
    op.op = 0;
    assert_int_equal(dm_call(5, 1, b), -EOPNOTSUPP);
    op.op = ~0u;
    assert_int_equal(dm_call(5, 1, b), -EOPNOTSUPP);
    op.op = XEN_DMOP_nr_vcpus;
    op.pad = 1;
    assert_int_equal(dm_call(5, 1, b), -EINVAL);
    op.pad = 0;
    b[0].size = 4;
    assert_int_equal(dm_call(5, 1, b), -EFAULT);
    b[0].size = sizeof(op);
    b[0].h.p = (void *)16;
    assert_int_equal(dm_call(5, 1, b), -EFAULT);
}

/* Long work keeps its place in the first buffer: one that has no room for it would have it begin anew for ever. */
static void short_buffer(void **state)
{
    struct xen_dm_op_modified_memory_extent e = {.nr = 0x280, .first_pfn = 1};
    struct xen_dm_op op = OP(modified_memory, .nr_extents = 1);
    struct xen_dm_op_buf b[2] = {{.size = offsetof(struct xen_dm_op, u.modified_memory.opaque)},
                                 {.size = sizeof(e)}};

    b[0].h.p = &op;
    b[1].h.p = &e;
    fake_preempt_every = 1;
    assert_int_equal(dm_call(5, 2, b), -EFAULT);
    op = (struct xen_dm_op)OP(map_mem_type_to_ioreq_server, .type = HVMMEM_ioreq_server);
    b[0].size = offsetof(struct xen_dm_op, u.map_mem_type_to_ioreq_server.opaque) + 7;
    assert_int_equal(dm_call(5, 1, b), -EFAULT);
    b[0].size = offsetof(struct xen_dm_op, u) + sizeof(op.u.nr_vcpus);
    op = (struct xen_dm_op)OP(nr_vcpus, .vcpus = 0);
    assert_int_equal(dm_call(5, 1, b), 0); /* room for its own arguments is enough */
    fake_preempt_every = 0;
}

/* Random operations, random arguments, random pages: whatever happens, it happens to this domain. */
static void anything(void **state)
{
    unsigned seed = 7;

    for (unsigned i = 0; i < 20000; i++) {
        uint8_t second[64];
        struct xen_dm_op op;

        for (unsigned k = 0; k < sizeof(op); k++)
            ((uint8_t *)&op)[k] = rand_r(&seed) % 4 ? 0 : (uint8_t)rand_r(&seed);
        for (unsigned k = 0; k < sizeof(second); k++)
            second[k] = rand_r(&seed) % 4 ? 0 : (uint8_t)rand_r(&seed);
        op.op = (uint32_t)rand_r(&seed) % 22;
        op.pad = 0;
        if (op.op == XEN_DMOP_remote_shutdown)
            continue;
        fake_preempt_every = (unsigned)rand_r(&seed) % 3;
        (void)dm_op2(&op, second, (size_t)rand_r(&seed) % sizeof(second));
        fake_preempt_every = 0;
        if (i % 64 == 0) {
            ioreq_check(d);
            evtchn_room_check(d);
            p2m_room_check(d);
        }
    }
}

/* A device model that asks for the pages and never maps them: what Krypton itself wrote there does not pass for memory that nobody
 * touched. */
static void pages_are_not_clean(void **state)
{
    long id = server_create(HVM_IOREQSRV_BUFIOREQ_OFF);
    struct shared_iopage *p = page(id, 1);
    struct frame *f = mfn_frame(arch_va_mfn(p));

    fake_types_show_writes = true;
    assert_true(p->vcpu_ioreq[0].vp_eport);
    assert_int_equal(server_destroy(id), 0);
    assert_true(!(f->flags & FRAME_F_CLEAN) || !p->vcpu_ioreq[0].vp_eport);
    fake_types_show_writes = false;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(requests),
        T(pci_configuration),
        T(writes_that_nobody_waits_for),
        T(it_goes_while_waited_for),
        T(it_lies),
        T(it_gives_states_that_are_none),
        T(it_rewrites_the_request),
        T(a_forgotten_request_is_answered_for_nobody),
        T(an_instruction_given_up_leaves_no_answers),
        T(servers),
        T(pages_by_number),
        T(pages_are_not_clean),
        T(memory_falls_short),
        T(they_are_told),
        T(made_again),
        T(many_at_once),
        T(many_for_nobody),
        T(lines),
        T(memory),
        T(screen_while_logging),
        T(memory_of_a_server),
        T(who_may),
        T(short_buffer),
        T(anything),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
