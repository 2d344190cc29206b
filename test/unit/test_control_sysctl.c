/*
 * sysctl as tools call it: every row with what it answers, short and absent arrays, copies that fail, and callers that may not.
 */
#include "control.h"
#include "core/console.h"
#include "core/frame.h"
#include "core/perf.h"
#include "core/trace.h"

#include <stdlib.h>

#define CPUS 4u

static struct domain *guest;

static int group_setup(void **state)
{
    fake_node_of_cpu[2] = fake_node_of_cpu[3] = 1;
    control_setup(CPUS);
    fake_node_of_cpu[2] = fake_node_of_cpu[3] = 1;
    guest = make(3, 1, false);
    return 0;
}

static int each_teardown(void **state)
{
    frame_room_check();
    return 0;
}

static void who_may_and_versions(void **state)
{
    struct xen_sysctl op = {.cmd = XEN_SYSCTL_physinfo, .interface_version = SYSCTL_4_17};

    assert_int_equal(call_as(guest, __HYPERVISOR_sysctl, &op), -EPERM);
    assert_int_equal(call_as(guest, __HYPERVISOR_sysctl, BAD_POINTER), -EPERM);
    assert_int_equal(call_as(control, __HYPERVISOR_sysctl, BAD_POINTER), -EFAULT);
    op.interface_version = SYSCTL_4_17 - 1;
    assert_int_equal(call_as(control, __HYPERVISOR_sysctl, &op), -EACCES);
    op.interface_version = SYSCTL_4_17 + 1;
    assert_int_equal(call_as(control, __HYPERVISOR_sysctl, &op), -EACCES);
    assert_int_equal(sysctl(0, &op), -ENOSYS);
    assert_int_equal(sysctl(13, &op), -ENOSYS);
    assert_int_equal(sysctl(~0u, &op), -ENOSYS);
}

/* Rows that are not there refuse with their errno, and an unprivileged domain is refused at every row. */
static void every_row(void **state)
{
    for (unsigned i = 0; i < sysctl_op_count; i++) {
        struct xen_sysctl op = {.cmd = sysctl_ops[i].nr, .interface_version = SYSCTL_4_17};

        assert_int_equal(sysctl_ops[i].perm, PERM_CONTROL);
        assert_int_equal(call_as(guest, __HYPERVISOR_sysctl, &op), -EPERM);
        if (!sysctl_ops[i].fn)
            assert_int_equal(sysctl(sysctl_ops[i].nr, &op), -sysctl_ops[i].refused);
    }
}

static void physinfo(void **state)
{
    struct xen_sysctl op = {0};
    struct frame_info f;

    assert_int_equal(sysctl(XEN_SYSCTL_physinfo, &op), 0);
    frame_info(&f);
    assert_int_equal(op.u.physinfo.nr_cpus, CPUS);
    assert_int_equal(op.u.physinfo.max_cpu_id, CPUS - 1);
    assert_int_equal(op.u.physinfo.nr_nodes, 2);
    assert_int_equal(op.u.physinfo.max_node_id, 1);
    assert_int_equal(op.u.physinfo.total_pages, f.total);
    assert_int_equal(op.u.physinfo.free_pages + op.u.physinfo.scrub_pages, f.free);
    assert_int_equal(op.u.physinfo.max_mfn, frame_count - 1);
    every_copy_fails(sysctl(XEN_SYSCTL_physinfo, &op));
}

static void processors(void **state)
{
    struct xen_sysctl_cputopo topo[CPUS + 1];
    struct xen_sysctl_cpuinfo info[CPUS];
    struct xen_sysctl op = {0};

    assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo, &op), 0); /* how many? */
    assert_int_equal(op.u.cputopoinfo.num_cpus, CPUS);
    memset(topo, 0xaa, sizeof(topo));
    set_xen_guest_handle(op.u.cputopoinfo.cputopo, topo);
    op.u.cputopoinfo.num_cpus = CPUS + 1;
    assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo, &op), 0);
    assert_int_equal(op.u.cputopoinfo.num_cpus, CPUS);
    assert_int_equal(topo[3].core, 1);
    assert_int_equal(topo[3].socket, 1);
    assert_int_equal(topo[3].node, 1);
    assert_int_equal(topo[CPUS].node, 0xaaaaaaaa);
    memset(topo, 0xaa, sizeof(topo));
    op.u.cputopoinfo.num_cpus = 2; /* too few: that many, and how many there would be */
    assert_int_equal(sysctl(XEN_SYSCTL_cputopoinfo, &op), 0);
    assert_int_equal(op.u.cputopoinfo.num_cpus, CPUS);
    assert_int_equal(topo[1].socket, 0);
    assert_int_equal(topo[2].socket, 0xaaaaaaaa);
    every_copy_fails(sysctl(XEN_SYSCTL_cputopoinfo, &op));

    fake_run_until(fake_now + 1000000);
    op.u.getcpuinfo.max_cpus = 100;
    set_xen_guest_handle(op.u.getcpuinfo.info, info);
    assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo, &op), 0);
    assert_int_equal(op.u.getcpuinfo.nr_cpus, CPUS);
    assert_true(info[3].idletime >= 1000000);
    op.u.getcpuinfo.max_cpus = 1;
    assert_int_equal(sysctl(XEN_SYSCTL_getcpuinfo, &op), 0);
    assert_int_equal(op.u.getcpuinfo.nr_cpus, 1);
    every_copy_fails(sysctl(XEN_SYSCTL_getcpuinfo, &op));
}

static void memory(void **state)
{
    struct xen_sysctl_meminfo mem[3];
    uint32_t distance[9];
    struct xen_sysctl op = {0};

    assert_int_equal(sysctl(XEN_SYSCTL_numainfo, &op), 0);
    assert_int_equal(op.u.numainfo.num_nodes, 2);
    op.u.numainfo.num_nodes = 3;
    set_xen_guest_handle(op.u.numainfo.meminfo, mem);
    set_xen_guest_handle(op.u.numainfo.distance, distance);
    assert_int_equal(sysctl(XEN_SYSCTL_numainfo, &op), 0);
    assert_int_equal(op.u.numainfo.num_nodes, 2);
    assert_int_equal(mem[0].memfree, frame_free_node(0) * FRAME_SIZE);
    assert_int_equal(mem[0].memsize, 16384 * FRAME_SIZE);
    assert_int_equal(mem[1].memsize, 0);
    assert_int_equal(distance[0] + distance[3], 20);
    assert_int_equal(distance[1] + distance[2], 40);
    memset(distance, 0xaa, sizeof(distance));
    op.u.numainfo.num_nodes = 1;
    assert_int_equal(sysctl(XEN_SYSCTL_numainfo, &op), 0);
    assert_int_equal(op.u.numainfo.num_nodes, 2);
    assert_int_equal(distance[1], 0xaaaaaaaa);
    op.u.numainfo.num_nodes = 2;
    every_copy_fails((op.u.numainfo.num_nodes = 2, sysctl(XEN_SYSCTL_numainfo, &op)));
}

static uint64_t available(uint32_t min, uint32_t max, int32_t node)
{
    struct xen_sysctl op = {.u.availheap = {.min_bitwidth = min, .max_bitwidth = max, .node = node}};

    assert_int_equal(sysctl(XEN_SYSCTL_availheap, &op), 0);
    return op.u.availheap.avail_bytes;
}

/* Frames 16 to 16400: addresses of 17 to 27 bits. */
static void available_heap(void **state)
{
    struct frame_info f;
    uint64_t sum = 0, all;
    mfn_t low;

    frame_info(&f);
    all = f.free * FRAME_SIZE;
    assert_int_equal(available(0, 0, -1), all);
    assert_int_equal(available(0, 0, 0), all);
    assert_int_equal(available(0, 0, 1), 0);
    assert_int_equal(available(0, 0, 1000), 0);
    assert_int_equal(available(0, 0, INT32_MIN), 0);
    assert_int_equal(available(0, 12, -1), 0);
    assert_int_equal(available(64, 0, -1), 0);
    assert_int_equal(available(0, ~0u, -1), all);
    assert_int_equal(available(~0u, ~0u, -1), 0);
    for (unsigned bits = 13; bits <= 44; bits++)
        sum += available(bits, bits, -1);
    assert_int_equal(sum, all);
    assert_true(frame_alloc_bits(0, 20, 0, FRAME_ANY_NODE, &low));
    assert_int_equal(available(0, 0, -1), all - FRAME_SIZE);
    assert_int_equal(available(21, 0, -1) + available(0, 20, -1), all - FRAME_SIZE);
    frame_free(low, 0);
    assert_int_equal(available(0, 0, -1), all);
}

static void console_ring(void **state)
{
    char text[4096];
    struct xen_sysctl op = {0};
    struct xen_sysctl_readconsole *r = &op.u.readconsole;

    console_printf("first line\n");
    console_printf("second line\n");
    set_xen_guest_handle(r->buffer, text);
    r->count = sizeof(text);
    assert_int_equal(sysctl(XEN_SYSCTL_readconsole, &op), 0);
    assert_true(r->count > 20 && !memcmp(text + r->count - 12, "second line\n", 12));
    r->incremental = 1; /* from where the last one ended */
    r->count = sizeof(text);
    assert_int_equal(sysctl(XEN_SYSCTL_readconsole, &op), 0);
    assert_int_equal(r->count, 0);
    console_printf("third\n");
    r->count = 3; /* in pieces, as xl dmesg reads; clearing takes what was read and no more */
    r->clear = 1;
    assert_int_equal(sysctl(XEN_SYSCTL_readconsole, &op), 0);
    assert_int_equal(r->count, 3);
    assert_memory_equal(text, "thi", 3);
    r->clear = r->incremental = 0;
    r->count = sizeof(text);
    assert_int_equal(sysctl(XEN_SYSCTL_readconsole, &op), 0);
    assert_int_equal(r->count, 3);
    assert_memory_equal(text, "rd\n", 3);
    every_copy_fails((r->count = 2, r->incremental = 0, sysctl(XEN_SYSCTL_readconsole, &op)));
    r->count = 2;
    set_xen_guest_handle(r->buffer, BAD_POINTER);
    assert_int_equal(sysctl(XEN_SYSCTL_readconsole, &op), -EFAULT);
}

static unsigned pressed;
static void press(void)
{
    pressed++;
}

static void debug_keys(void **state)
{
    struct xen_sysctl op = {0};
    char keys[] = "zz\377\1z";

    debug_key_register('z', "count", press);
    set_xen_guest_handle(op.u.debug_keys.keys, keys);
    op.u.debug_keys.nr_keys = 5;
    assert_int_equal(sysctl(XEN_SYSCTL_debug_keys, &op), 0);
    assert_int_equal(pressed, 3);
    every_copy_fails(sysctl(XEN_SYSCTL_debug_keys, &op));
    op.u.debug_keys.nr_keys = ~0u;
    assert_int_equal(sysctl(XEN_SYSCTL_debug_keys, &op), -E2BIG);
}

static void domain_list(void **state)
{
    struct xen_domctl_getdomaininfo info[8];
    struct xen_sysctl op = {0};
    struct xen_sysctl_getdomaininfolist *l = &op.u.getdomaininfolist;

    l->max_domains = 8;
    set_xen_guest_handle(l->buffer, info);
    assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist, &op), 0);
    assert_int_equal(l->num_domains, 2);
    assert_int_equal(info[0].domain, 0);
    assert_int_equal(info[1].domain, 3);
    assert_true(info[1].flags & XEN_DOMINF_paused);
    assert_int_equal(info[1].max_pages, 100);
    l->first_domain = 1;
    l->max_domains = 1;
    assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist, &op), 0);
    assert_int_equal(l->num_domains, 1);
    assert_int_equal(info[0].domain, 3);
    l->first_domain = 4;
    assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist, &op), 0);
    assert_int_equal(l->num_domains, 0);
    l->first_domain = 0xffff;
    assert_int_equal(sysctl(XEN_SYSCTL_getdomaininfolist, &op), 0);
    assert_int_equal(l->num_domains, 0);
    l->first_domain = 0;
    l->max_domains = 8;
    every_copy_fails(sysctl(XEN_SYSCTL_getdomaininfolist, &op));
}

static void performance_counters(void **state)
{
    struct xen_sysctl op = {.u.perfc_op.cmd = XEN_SYSCTL_PERFCOP_query};
    struct xen_sysctl_perfc_op *p = &op.u.perfc_op;
    struct xen_sysctl_perfc_desc *desc;
    uint32_t *val, n = 0, before;

    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), 0);
    desc = malloc(p->nr_counters * sizeof(*desc)); /* exactly: the sanitizer sees one more */
    val = malloc(p->nr_vals * sizeof(*val));
    set_xen_guest_handle(p->desc, desc);
    set_xen_guest_handle(p->val, val);
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), 0);
    assert_string_equal(desc[0].name, "hypercalls");
    assert_int_equal(desc[0].nr_vals, 64);
    for (unsigned i = 0; i < p->nr_counters; i++) {
        assert_true(strlen(desc[i].name) > 3);
        n += desc[i].nr_vals;
    }
    assert_int_equal(n, p->nr_vals);
    before = val[__HYPERVISOR_sysctl];
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), 0);
    assert_int_equal(val[__HYPERVISOR_sysctl], before + 1);
    p->cmd = XEN_SYSCTL_PERFCOP_reset;
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), 0);
    assert_int_equal(val[__HYPERVISOR_sysctl], before + 2); /* the last values, then nought */
    p->cmd = XEN_SYSCTL_PERFCOP_query;
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), 0);
    assert_int_equal(val[__HYPERVISOR_sysctl], 1);
    p->cmd = 0;
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), -EINVAL);
    p->cmd = XEN_SYSCTL_PERFCOP_query;
    set_xen_guest_handle(p->val, BAD_POINTER);
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), -EFAULT);
    set_xen_guest_handle(p->desc, BAD_POINTER);
    assert_int_equal(sysctl(XEN_SYSCTL_perfc_op, &op), -EFAULT);
    free(desc);
    free(val);
}

static void pci_nodes(void **state)
{
    struct physdev_pci_device dev[3] = {{0, 1, 0}, {0, 2, 0}, {0, 3, 0}};
    struct xen_sysctl op = {.u.pcitopoinfo.num_devs = 3};
    uint32_t node[3];

    fake_settle(); /* no work of this CPU waits */

    assert_int_equal(sysctl(XEN_SYSCTL_pcitopoinfo, &op), -EINVAL);
    set_xen_guest_handle(op.u.pcitopoinfo.devs, dev);
    assert_int_equal(sysctl(XEN_SYSCTL_pcitopoinfo, &op), -EINVAL);
    set_xen_guest_handle(op.u.pcitopoinfo.nodes, node);
    assert_int_equal(sysctl(XEN_SYSCTL_pcitopoinfo, &op), 0);
    assert_int_equal(op.u.pcitopoinfo.num_devs, 3);
    assert_int_equal(node[0], 0);
    assert_int_equal(node[1], XEN_INVALID_NODE_ID);
    assert_int_equal(node[2], XEN_INVALID_DEV);
    fake_preempt_every = 1; /* part of the work is an answer */
    assert_int_equal(sysctl(XEN_SYSCTL_pcitopoinfo, &op), 0);
    fake_preempt_every = 0;
    assert_int_equal(op.u.pcitopoinfo.num_devs, 1);
    op.u.pcitopoinfo.num_devs = 3;
    every_copy_fails((op.u.pcitopoinfo.num_devs = 3, sysctl(XEN_SYSCTL_pcitopoinfo, &op)));
}

/* --- frames out of use --- */

static long offline(uint32_t cmd, uint64_t first, uint64_t last, uint32_t *status)
{
    struct xen_sysctl op = {.u.page_offline = {.cmd = cmd, .start = (uint32_t)first, .end = (uint32_t)last}};

    set_xen_guest_handle(op.u.page_offline.status, status);
    return sysctl(XEN_SYSCTL_page_offline_op, &op);
}

static void offline_free_frames(void **state)
{
    uint64_t before = available(0, 0, -1), at = 0, got = 0;
    uint32_t status[8];
    mfn_t m;

    for (uint64_t n = 4096; n < frame_count && !at; n += 8) /* eight free ones in a row */
        for (at = n; at && got < 8; got++)
            if (!(frame_table[n + got].flags & FRAME_F_FREE))
                at = got = 0;
    assert_true(at);
    assert_int_equal(offline(sysctl_page_offline, at, at + 7, status), 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(status[i], PG_OFFLINE_OFFLINED);
    frame_room_check();
    assert_int_equal(available(0, 0, -1), before - 8 * FRAME_SIZE);
    assert_int_equal(offline(sysctl_page_offline, at, at, status), 0); /* once more changes nothing */
    assert_int_equal(status[0], PG_OFFLINE_OFFLINED);
    assert_int_equal(offline(sysctl_query_page_offline, at, at + 7, status), 0);
    assert_int_equal(status[7], PG_OFFLINE_STATUS_OFFLINED);
    for (unsigned i = 0; i < 2000; i++) { /* nobody gets one of them */
        assert_true(frame_alloc(0, 0, FRAME_ANY_NODE, &m));
        assert_false(m.n >= at && m.n < at + 8);
        frame_free(m, 0);
    }
    assert_int_equal(offline(sysctl_page_online, at, at + 7, status), 0);
    assert_int_equal(status[3], PG_ONLINE_ONLINED);
    assert_int_equal(available(0, 0, -1), before);
    assert_int_equal(offline(sysctl_page_online, at, at, status), -EINVAL);
    assert_int_equal(status[0], PG_ONLINE_FAILED);
}

static void offline_owned_frames(void **state)
{
    uint64_t before = available(0, 0, -1);
    uint32_t status;
    mfn_t m;

    assert_int_equal(frame_alloc_domain(guest, 0, 64, 0, &m), 0);
    assert_int_equal(offline(sysctl_page_offline, m.n, m.n, &status), 0);
    assert_int_equal(status, PG_OFFLINE_PENDING | PG_OFFLINE_OWNED | 3u << PG_OFFLINE_OWNER_SHIFT);
    assert_int_equal(offline(sysctl_query_page_offline, m.n, m.n, &status), 0);
    assert_int_equal(status, PG_OFFLINE_STATUS_OFFLINE_PENDING);
    assert_false(frame_steal(guest, mfn_frame(m)));
    frame_domain_check(guest);
    assert_true(frame_clear_allocated(mfn_frame(m)));
    frame_put(mfn_frame(m)); /* the guest lets it go: now it is out */
    frame_room_check();
    assert_int_equal(offline(sysctl_query_page_offline, m.n, m.n, &status), 0);
    assert_int_equal(status, PG_OFFLINE_STATUS_OFFLINED);
    assert_int_equal(available(0, 0, -1), before - FRAME_SIZE);
    assert_int_equal(offline(sysctl_page_online, m.n, m.n, &status), 0);
    assert_int_equal(available(0, 0, -1), before);

    assert_int_equal(frame_alloc_domain(guest, 0, 64, 0, &m), 0); /* and a change of mind */
    assert_int_equal(offline(sysctl_page_offline, m.n, m.n, &status), 0);
    assert_int_equal(offline(sysctl_page_online, m.n, m.n, &status), 0);
    assert_true(frame_clear_allocated(mfn_frame(m)));
    frame_put(mfn_frame(m));
    assert_int_equal(available(0, 0, -1), before);
}

static void offline_refused(void **state)
{
    uint32_t status[2];
    mfn_t m;

    assert_true(frame_alloc(0, 0, FRAME_ANY_NODE, &m)); /* Krypton's own */
    assert_int_equal(offline(sysctl_page_offline, m.n, m.n, status), 0);
    assert_int_equal(status[0] & 0xffff, PG_OFFLINE_XENPAGE | PG_OFFLINE_FAILED);
    frame_free(m, 0);
    assert_int_equal(offline(sysctl_page_offline, guest->shared_info_mfn.n, guest->shared_info_mfn.n, status),
                     0);
    assert_int_equal(status[0] & 0xffff, PG_OFFLINE_XENPAGE | PG_OFFLINE_FAILED);
    assert_int_equal(offline(sysctl_page_offline, 0xffffffff, 0xffffffff, status), -EINVAL);
    assert_true(status[0] & PG_OFFLINE_INVALID);
    assert_int_equal(offline(sysctl_query_page_offline, 3, 3, status), -EINVAL);
    assert_int_equal(offline(sysctl_page_online, 3, 3, status), -EINVAL);
    assert_int_equal(offline(sysctl_page_offline, 5, 4, status), -EINVAL);
    assert_int_equal(offline(sysctl_page_offline, 0, 4096, status), -EINVAL);
    assert_int_equal(offline(0, 16, 16, status), -EINVAL);
    assert_int_equal(offline(4, 16, 16, status), -EINVAL);
    every_copy_fails(offline(sysctl_query_page_offline, 100, 101, status));
}

/* --- trace buffers --- */

static long tbuf(struct xen_sysctl *op, uint32_t cmd)
{
    op->u.tbuf_op.cmd = cmd;
    return sysctl(XEN_SYSCTL_tbuf_op, op);
}

/* The reader's side, as xentrace has it: the records of one CPU from cons on. */
struct reader {
    struct t_buf *b;
    uint32_t size;
};

static struct reader reader_of(const struct t_info *t, unsigned cpu)
{
    const uint32_t *list = (const uint32_t *)t + t->mfn_offset[cpu];

    for (unsigned i = 0; i < t->tbuf_size; i++) {
        assert_int_equal(frame_table[list[i]].owner, DOMID_XEN);
        assert_int_equal(list[i], list[0] + i);
    }
    return (struct reader){arch_frame_va(MFN(list[0])), t->tbuf_size * FRAME_SIZE - sizeof(struct t_buf)};
}

/* Takes one record; its event, 0 when there is none. Lengths must fit exactly. */
static uint32_t take(struct reader *r, struct t_rec *out)
{
    uint32_t at = r->b->cons % r->size, bytes;

    if (r->b->cons == r->b->prod)
        return 0;
    memcpy(out, (char *)(r->b + 1) + at, MIN(sizeof(*out), r->size - at));
    bytes = 4 + (out->cycles_included ? 8 : 0) + out->extra_u32 * 4;
    assert_true(at + bytes <= r->size);
    r->b->cons = (r->b->cons + bytes) % (2 * r->size);
    return out->event;
}

static void trace_buffers(void **state)
{
    struct xen_sysctl op = {0};
    struct reader r;
    struct t_rec rec;
    uint64_t cpus = 1;
    unsigned seen = 0, lost = 0, calls = 0;

    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_enable), -EINVAL); /* no buffers yet */
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_get_info), 0);
    assert_int_equal(op.u.tbuf_op.size, 0);
    op.u.tbuf_op.size = 0;
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_size), -EINVAL);
    op.u.tbuf_op.size = 1u << 20;
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_size), -EINVAL);
    op.u.tbuf_op.size = 3;
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_size), 0);
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_size), -EINVAL); /* once */
    assert_int_equal(tbuf(&op, 99), -EINVAL);
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_get_info), 0);
    assert_int_equal(op.u.tbuf_op.evt_mask, TRC_ALL);
    r = reader_of(arch_frame_va(MFN(op.u.tbuf_op.buffer_mfn)), 0);
    assert_int_equal(r.b->prod, 0);

    op.u.tbuf_op.evt_mask = TRC_PV;
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_evt_mask), 0);
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_enable), 0);
    trace(TRC_SCHED_WAKE, 1, 2); /* not asked for */
    assert_int_equal(take(&r, &rec), 0);
    trace(TRC_PV_TRAP, 5);
    assert_int_equal(take(&r, &rec), TRC_PV_TRAP);
    assert_int_equal(rec.extra_u32, 1);
    assert_int_equal(rec.u.cycles.extra_u32[0], 5);
    assert_int_equal(rec.u.cycles.cycles_lo, (uint32_t)fake_now);
    op.u.tbuf_op.evt_mask = TRC_ALL;
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_evt_mask), 0);
    while (take(&r, &rec))
        calls +=
            rec.event == TRC_PV_HYPERCALL_V2 && (rec.u.cycles.extra_u32[0] & 0xff) == __HYPERVISOR_sysctl;
    assert_int_equal(calls, 1);

    /* Round the buffer many times with every length: nothing is lost or out of order while somebody reads. */
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t words[TRACE_WORDS] = {i};

        trace_record(TRC_SCHED_WAKE, i % (TRACE_WORDS + 1), words);
        while (take(&r, &rec)) {
            if (rec.event == TRC_TRACE_WRAP_BUFFER)
                continue;
            assert_int_equal(rec.event, TRC_SCHED_WAKE);
            assert_int_equal(rec.extra_u32, i % (TRACE_WORDS + 1));
            if (rec.extra_u32)
                assert_int_equal(rec.u.cycles.extra_u32[0], i);
            seen++;
        }
    }
    assert_int_equal(seen, 5000);

    /* Nobody reads: counted, and said when there is room again. */
    for (uint32_t i = 0; i < 2000; i++)
        trace(TRC_SCHED_WAKE, i, i);
    seen = 0;
    while (take(&r, &rec))
        seen += rec.event == TRC_SCHED_WAKE;
    trace(TRC_SCHED_SLEEP, 1);
    while (take(&r, &rec))
        lost += rec.event == TRC_LOST_RECORDS ? rec.u.cycles.extra_u32[0] : 0;
    assert_true(seen && lost);
    assert_int_equal(seen + lost, 2000);

    /* A reader that writes nonsense is not believed. */
    for (uint32_t cons = 0; cons < 3 * r.size; cons += 997) {
        r.b->cons = cons;
        r.b->prod = cons * 7;
        for (unsigned i = 0; i < 50; i++)
            trace(TRC_SCHED_WAKE, i, i, i);
    }
    r.b->cons = ~0u;
    trace(TRC_SCHED_WAKE, 1);

    /* Not this CPU. */
    cpus = 2;
    op.u.tbuf_op.cpu_mask.nr_bits = 64;
    set_xen_guest_handle(op.u.tbuf_op.cpu_mask.bitmap, (uint8_t *)&cpus);
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_set_cpu_mask), 0);
    r.b->cons = 0;
    trace(TRC_SCHED_WAKE, 1); /* moves prod if it were recorded */
    r.b->cons = r.b->prod;
    trace(TRC_SCHED_WAKE, 1);
    assert_int_equal(take(&r, &rec), 0);
    every_copy_fails(tbuf(&op, XEN_SYSCTL_TBUFOP_set_cpu_mask));
    assert_int_equal(tbuf(&op, XEN_SYSCTL_TBUFOP_disable), 0);
    assert_int_equal(trace_mask, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_teardown(f, each_teardown)
    const struct CMUnitTest tests[] = {
        T(who_may_and_versions),
        T(every_row),
        T(physinfo),
        T(processors),
        T(memory),
        T(available_heap),
        T(console_ring),
        T(debug_keys),
        T(domain_list),
        T(pci_nodes),
        T(performance_counters),
        T(offline_free_frames),
        T(offline_owned_frames),
        T(offline_refused),
        T(trace_buffers),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
