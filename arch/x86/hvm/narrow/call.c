/*
 * A 32-bit kernel's hypercall. Most structures are the same in both worlds and go through as they are; the rest is in a table of
 * operations, each with its fields, or with a function for those that have lists behind them.
 *
 *   guest's structure --read--> ours, in a window --handler reads and writes the window--> ours --back--> guest's structure
 *
 * The window (struct arg_window, x86/p2m.h) is some bytes of Krypton's stack that the copies of this vCPU's arguments find at an address
 * that no 32-bit kernel can name, while the handler runs.
 *
 * Invariants
 *  1. What is read here once is translated once; handlers check it as any argument.
 *  2. No address or number of the guest's is longer than 32 bits, whatever its registers hold above.
 *  3. A preempted call goes on from what its 32-bit registers say: no cursor is anywhere else.
 * Locks: none.
 */
#include "private.h"
#include "core/guest.h"
#include "core/nospec.h"
#include "lib/string.h"
#include "x86/p2m.h"
#include "x86/vcpu.h"

#define LARGEST 64u

struct field {
    uint8_t at, size;            /* in the guest's structure */
    uint8_t native, native_size; /* in ours: the rest is zeros */
};
#define FIELD(theirs, a, ours, b)                                                                            \
    {                                                                                                        \
        offsetof(struct theirs, a), sizeof(((struct theirs *)0)->a), offsetof(struct ours, b),               \
            sizeof(((struct ours *)0)->b)                                                                    \
    }

struct op {
    uint32_t nr;
    uint8_t size, native_size, fields;
    bool back; /* results lie in the structure */
    const struct field *field;
    long (*run)(struct narrow *n); /* does all itself */
};
/* The same in both worlds. */
#define SAME(n)                                                                                              \
    {                                                                                                        \
        .nr = (n)                                                                                            \
    }
#define BY_FUNCTION(n, f)                                                                                    \
    {                                                                                                        \
        .nr = (n), .run = (f)                                                                                \
    }
/* by_fields has room for so much. */
#define FITTING(t)                                                                                           \
    (sizeof(t) + 0 * sizeof(struct {                                                                         \
                     _Static_assert(sizeof(t) <= LARGEST, #t);                                               \
                     char c;                                                                                 \
                 }))
#define BY_FIELDS(n, theirs, ours, f, b)                                                                     \
    {                                                                                                        \
        .nr = (n), .size = FITTING(struct theirs), .native_size = FITTING(struct ours),                      \
        .fields = ARRAY_SIZE(f), .back = (b), .field = (f)                                                   \
    }

struct call {
    bool there;
    bool others;     /* operations without a row are the same in both worlds */
    uint8_t pointer; /* which argument is the structure's address */
    uint8_t count;
    uint32_t op_mask; /* 0: all */
    const struct op *ops;
    long (*run)(struct narrow *n); /* has no operations */
};

/* --- fields --- */

#define PHYSMAP(f) FIELD(narrow_add_to_physmap, f, xen_add_to_physmap, f)
static const struct field add_to_physmap[] = {PHYSMAP(domid), PHYSMAP(size), PHYSMAP(space), PHYSMAP(idx),
                                              PHYSMAP(gpfn)};

#define REMOVE(f) FIELD(narrow_remove_from_physmap, f, xen_remove_from_physmap, f)
static const struct field remove_from_physmap[] = {REMOVE(domid), REMOVE(gpfn)};

#define MAP(f) FIELD(narrow_memory_map, f, xen_memory_map, f)
static const struct field memory_map[] = {MAP(nr_entries), MAP(buffer)};

static const struct field platform_parameters[] = {
    FIELD(narrow_platform_parameters, virt_start, xen_platform_parameters, virt_start)};

#define POLL(f) FIELD(narrow_poll, f, sched_poll, f)
static const struct field poll[] = {POLL(ports), POLL(nr_ports), POLL(timeout)};

#define RUNSTATE(f) FIELD(narrow_runstate, f, vcpu_runstate_info, f)
static const struct field runstate[] = {RUNSTATE(state), RUNSTATE(state_entry_time), RUNSTATE(time)};

#define SINGLESHOT(f) FIELD(narrow_singleshot, f, vcpu_set_singleshot_timer, f)
static const struct field singleshot[] = {SINGLESHOT(timeout_abs_ns), SINGLESHOT(flags)};

static const struct field runstate_area[] = {
    FIELD(narrow_area, address, vcpu_register_runstate_memory_area, addr.p)};
static const struct field time_area[] = {FIELD(narrow_area, address, vcpu_register_time_memory_area, addr.p)};

#define PIRQ(f) FIELD(narrow_map_pirq, f, physdev_map_pirq, f)
static const struct field map_pirq[] = {PIRQ(domid), PIRQ(type),  PIRQ(index),    PIRQ(pirq),
                                        PIRQ(bus),   PIRQ(devfn), PIRQ(entry_nr), PIRQ(table_base)};

/* --- operations --- */

static long refused(struct narrow *n)
{
    return -ENOSYS;
}

static const struct op memory_rows[] = {
    BY_FUNCTION(XENMEM_increase_reservation, narrow_reservation),
    BY_FUNCTION(XENMEM_decrease_reservation, narrow_reservation),
    BY_FUNCTION(XENMEM_populate_physmap, narrow_reservation),
    BY_FUNCTION(XENMEM_add_to_physmap_batch, narrow_physmap_batch),
    BY_FIELDS(XENMEM_add_to_physmap, narrow_add_to_physmap, xen_add_to_physmap, add_to_physmap, false),
    BY_FIELDS(XENMEM_remove_from_physmap, narrow_remove_from_physmap, xen_remove_from_physmap,
              remove_from_physmap, false),
    BY_FIELDS(XENMEM_memory_map, narrow_memory_map, xen_memory_map, memory_map, true),
    SAME(XENMEM_maximum_ram_page),
    SAME(XENMEM_current_reservation),
    SAME(XENMEM_maximum_reservation),
    SAME(XENMEM_maximum_gpfn),
};

static const struct op version_rows[] = {BY_FIELDS(XENVER_platform_parameters, narrow_platform_parameters,
                                                   xen_platform_parameters, platform_parameters, true)};

static const struct op sched_rows[] = {BY_FIELDS(SCHEDOP_poll, narrow_poll, sched_poll, poll, false)};

static const struct op vcpu_rows[] = {
    BY_FIELDS(VCPUOP_get_runstate_info, narrow_runstate, vcpu_runstate_info, runstate, true),
    BY_FIELDS(VCPUOP_set_singleshot_timer, narrow_singleshot, vcpu_set_singleshot_timer, singleshot, false),
    BY_FIELDS(VCPUOP_register_runstate_memory_area, narrow_area, vcpu_register_runstate_memory_area,
              runstate_area, false),
    BY_FIELDS(VCPUOP_register_vcpu_time_memory_area, narrow_area, vcpu_register_time_memory_area, time_area,
              false),
};

static const struct op physdev_rows[] = {
    SAME(PHYSDEVOP_eoi), SAME(PHYSDEVOP_irq_status_query), SAME(PHYSDEVOP_get_free_pirq),
    SAME(PHYSDEVOP_unmap_pirq),
    BY_FIELDS(PHYSDEVOP_map_pirq, narrow_map_pirq, physdev_map_pirq, map_pirq, true)};

static const struct op grant_rows[] = {BY_FUNCTION(GNTTABOP_setup_table, narrow_setup_table),
                                       BY_FUNCTION(GNTTABOP_get_status_frames, narrow_status_frames),
                                       BY_FUNCTION(GNTTABOP_copy, narrow_grant_copy),
                                       BY_FUNCTION(GNTTABOP_transfer, refused)};

/* The time comes in two registers. */
static long set_timer(struct narrow *n)
{
    struct hypercall hc = {.caller = n->caller,
                           .nr = n->nr,
                           .arg = {n->arg[0] | (uint64_t)n->arg[1] << 32},
                           .in_multicall = n->in_multicall,
                           .narrow = true};

    return hypercall_dispatch(&hc);
}

#define OPS(t) .there = true, .ops = (t), .count = ARRAY_SIZE(t)

static const struct call calls[] = {
    [__HYPERVISOR_memory_op] = {OPS(memory_rows), .pointer = 1, .op_mask = (1u << MEMOP_EXTENT_SHIFT) - 1},
    [__HYPERVISOR_multicall] = {.there = true, .run = narrow_multicall},
    [__HYPERVISOR_set_timer_op] = {.there = true, .run = set_timer},
    [__HYPERVISOR_xen_version] = {OPS(version_rows), .others = true, .pointer = 1},
    [__HYPERVISOR_console_io] = {.there = true, .others = true},
    [__HYPERVISOR_physdev_op] = {OPS(physdev_rows), .pointer = 1},
    [__HYPERVISOR_grant_table_op] = {OPS(grant_rows), .others = true, .pointer = 1},
    [__HYPERVISOR_vm_assist] = {.there = true, .others = true},
    [__HYPERVISOR_sched_op_compat] = {.there = true, .others = true},
    [__HYPERVISOR_vcpu_op] = {OPS(vcpu_rows), .others = true, .pointer = 2},
    [__HYPERVISOR_sched_op] = {OPS(sched_rows), .others = true, .pointer = 1},
    [__HYPERVISOR_event_channel_op] = {.there = true, .others = true},
    [__HYPERVISOR_hvm_op] = {.there = true, .others = true},
};

/* --- running them --- */

void *narrow_address(size_t offset)
{
    return (void *)(uintptr_t)(ARG_WINDOW + offset);
}

long narrow_native(struct narrow *n, struct hypercall *hc, unsigned at, void *translated, size_t bytes)
{
    struct arg_window w = {.host = translated, .bytes = bytes};
    struct x86_vcpu *x = x86_vcpu(n->caller);
    long r;

    *hc =
        (struct hypercall){.caller = n->caller, .nr = n->nr, .in_multicall = n->in_multicall, .narrow = true};
    for (unsigned i = 0; i < 6; i++)
        hc->arg[i] = n->arg[i];
    if (bytes)
        hc->arg[at] = ARG_WINDOW;
    x->window = bytes ? &w : NULL;
    r = hypercall_dispatch(hc);
    x->window = NULL;
    return r;
}

static long same(struct narrow *n)
{
    struct hypercall hc;
    long r = narrow_native(n, &hc, 0, NULL, 0);

    for (unsigned i = 0; r == HC_AGAIN && i < 6; i++)
        n->arg[i] = (uint32_t)hc.arg[i];
    return r;
}

static long by_fields(struct narrow *n, const struct op *o, unsigned pointer)
{
    uint8_t theirs[LARGEST], ours[LARGEST];
    gva_t at = GVA(n->arg[pointer]);
    struct hypercall hc;
    long r;

    if (guest_read(n->caller, theirs, at, o->size))
        return -EFAULT;
    memset(ours, 0, sizeof(ours));
    for (const struct field *f = o->field; f < o->field + o->fields; f++)
        memcpy(ours + f->native, theirs + f->at, MIN(f->size, f->native_size));
    r = narrow_native(n, &hc, pointer, ours, o->native_size);
    if (r == HC_AGAIN)
        n->arg[0] = (uint32_t)hc.arg[0];
    if (!o->back || r < 0)
        return r;
    for (const struct field *f = o->field; f < o->field + o->fields; f++)
        memcpy(theirs + f->at, ours + f->native, MIN(f->size, f->native_size));
    return guest_write(n->caller, at, theirs, o->size) ? -EFAULT : r;
}

long narrow_dispatch(struct narrow *n)
{
    const struct call *c;
    uint32_t nr;

    if (n->nr >= ARRAY_SIZE(calls))
        return -ENOSYS;
    c = &calls[array_index(n->nr, ARRAY_SIZE(calls))];
    if (!c->there)
        return -ENOSYS;
    if (c->run)
        return c->run(n);
    nr = n->arg[0] & (c->op_mask ? c->op_mask : ~0u);
    for (const struct op *o = c->ops; o < c->ops + c->count; o++) {
        if (o->nr != nr)
            continue;
        if (o->run)
            return o->run(n);
        return o->size ? by_fields(n, o, c->pointer) : same(n);
    }
    return c->others ? same(n) : -ENOSYS;
}
