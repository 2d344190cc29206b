/*
 * sysctl on the machine: console ring, debug keys, what there is of memory and processors.
 * Locks: none of its own.
 */
#include "private.h"
#include "arch/control.h"
#include "arch/cpu.h"
#include "core/console.h"
#include "core/cpumask.h"
#include "core/frame.h"
#include "core/guest.h"

#define CHUNK    512u
#define KEYS_MAX 1024u

/* xl dmesg. The ring is bounded, so is the loop. */
long sysctl_readconsole(struct hypercall *hc)
{
    struct xen_sysctl_readconsole *r = &sysctl_of(hc)->op.u.readconsole;
    uint32_t index = r->incremental ? r->index : 0, done = 0;
    char chunk[CHUNK];

    while (done < r->count) {
        uint32_t want = MIN(CHUNK, r->count - done);
        uint32_t n = (uint32_t)console_ring_read(chunk, want, &index, false);

        if (n && guest_write(hc->caller, GVA(HANDLE(r->buffer).a + done), chunk, n))
            return -EFAULT;
        done += n;
        if (n < want)
            break;
    }
    if (r->clear)
        console_ring_read(chunk, 0, &index, true);
    r->count = done;
    r->index = index;
    sysctl_of(hc)->write_back = true;
    return 0;
}

long sysctl_debug_keys(struct hypercall *hc)
{
    struct xen_sysctl_debug_keys *k = &sysctl_of(hc)->op.u.debug_keys;

    if (k->nr_keys > KEYS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; i < k->nr_keys; i++) {
        char key;

        if (guest_read_at(hc->caller, &key, HANDLE(k->keys), i, 1))
            return -EFAULT;
        debug_key(key);
    }
    return 0;
}

long sysctl_physinfo(struct hypercall *hc)
{
    struct xen_sysctl_physinfo *p = &sysctl_of(hc)->op.u.physinfo;
    struct frame_info f;

    *p = (struct xen_sysctl_physinfo){0};
    frame_info(&f);
    p->nr_cpus = cpu_count();
    p->max_cpu_id = cpu_count() - 1;
    p->nr_nodes = arch_node_count();
    p->max_node_id = p->nr_nodes - 1;
    p->total_pages = f.total;
    p->free_pages = f.free;
    /* scrub_pages stays 0: frames that wait to be zeroed are free ones already, and tools add the two. */
    p->outstanding_pages = f.claimed;
    p->max_mfn = frame_count - 1;
    arch_physinfo(p);
    sysctl_of(hc)->write_back = true;
    return 0;
}
