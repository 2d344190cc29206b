/*
 * Structures of the interface as 32-bit kernels have them: longs and addresses of 4 bytes, 8-byte numbers at multiples of 4. Only those
 * that differ from the 64-bit ones; the test guest is compiled for both and compares them with the headers (test/guest/layout32.c).
 */
#ifndef HVM_NARROW_LAYOUT_H
#define HVM_NARROW_LAYOUT_H

#include <stdint.h>

#define NARROW_LAYOUT __attribute__((packed, aligned(4)))

struct narrow_multicall {
    uint32_t op, result, args[6];
};

struct narrow_reservation {
    uint32_t extent_start, nr_extents, extent_order, mem_flags;
    uint16_t domid, padding;
};

struct narrow_add_to_physmap {
    uint16_t domid, size;
    uint32_t space, idx, gpfn;
};

struct narrow_add_to_physmap_batch {
    uint16_t domid, space, size, u;
    uint32_t idxs, gpfns, errs;
};

struct narrow_remove_from_physmap {
    uint16_t domid, padding;
    uint32_t gpfn;
};

struct narrow_memory_map {
    uint32_t nr_entries, buffer;
};

struct narrow_platform_parameters {
    uint32_t virt_start;
};

struct narrow_poll {
    uint32_t ports, nr_ports;
    uint64_t timeout;
} NARROW_LAYOUT;

struct narrow_runstate {
    int32_t state;
    uint64_t state_entry_time, time[4];
} NARROW_LAYOUT;

struct narrow_singleshot {
    uint64_t timeout_abs_ns;
    uint32_t flags;
} NARROW_LAYOUT;

struct narrow_area { /* vcpu_register_*_memory_area: only this half of the union is the address */
    uint32_t address, unused;
};

struct narrow_map_pirq {
    uint16_t domid, padding;
    int32_t type, index, pirq, bus, devfn, entry_nr;
    uint64_t table_base;
} NARROW_LAYOUT;

struct narrow_setup_table {
    uint16_t dom, padding;
    uint32_t nr_frames;
    int16_t status, padding2;
    uint32_t frame_list;
};

struct narrow_status_frames {
    uint32_t nr_frames;
    uint16_t dom;
    int16_t status;
    uint32_t frame_list;
};

struct narrow_copy_ptr {
    uint32_t u;
    uint16_t domid, offset;
};
struct narrow_copy {
    struct narrow_copy_ptr source, dest;
    uint16_t len, flags;
    int16_t status, padding;
};

#endif
