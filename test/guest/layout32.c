/* What the hypervisor believes of 32-bit kernels' structures (arch/x86/hvm/narrow/layout.h), against the headers compiled for 32 bits. */
#include "guest.h"
#include <xen/hvm/hvm_op.h>

#include "arch/x86/hvm/narrow/layout.h"

#ifdef __i386__
#define SIZE(theirs, real) _Static_assert(sizeof(struct theirs) == sizeof(real), #theirs)
#define PLACE(theirs, a, real, b)                                                                            \
    _Static_assert(offsetof(struct theirs, a) == offsetof(real, b) &&                                        \
                       sizeof(((struct theirs *)0)->a) == sizeof(((real *)0)->b),                            \
                   #theirs "." #a)

SIZE(narrow_multicall, struct multicall_entry);
PLACE(narrow_multicall, result, struct multicall_entry, result);
PLACE(narrow_multicall, args, struct multicall_entry, args);
SIZE(narrow_reservation, struct xen_memory_reservation);
PLACE(narrow_reservation, nr_extents, struct xen_memory_reservation, nr_extents);
PLACE(narrow_reservation, domid, struct xen_memory_reservation, domid);
SIZE(narrow_add_to_physmap, struct xen_add_to_physmap);
PLACE(narrow_add_to_physmap, size, struct xen_add_to_physmap, size);
PLACE(narrow_add_to_physmap, idx, struct xen_add_to_physmap, idx);
PLACE(narrow_add_to_physmap, gpfn, struct xen_add_to_physmap, gpfn);
SIZE(narrow_add_to_physmap_batch, struct xen_add_to_physmap_batch);
PLACE(narrow_add_to_physmap_batch, u, struct xen_add_to_physmap_batch, u);
PLACE(narrow_add_to_physmap_batch, idxs, struct xen_add_to_physmap_batch, idxs);
PLACE(narrow_add_to_physmap_batch, errs, struct xen_add_to_physmap_batch, errs);
SIZE(narrow_remove_from_physmap, struct xen_remove_from_physmap);
PLACE(narrow_remove_from_physmap, gpfn, struct xen_remove_from_physmap, gpfn);
SIZE(narrow_memory_map, struct xen_memory_map);
SIZE(narrow_platform_parameters, struct xen_platform_parameters);
SIZE(narrow_poll, struct sched_poll);
PLACE(narrow_poll, timeout, struct sched_poll, timeout);
SIZE(narrow_runstate, struct vcpu_runstate_info);
PLACE(narrow_runstate, state_entry_time, struct vcpu_runstate_info, state_entry_time);
PLACE(narrow_runstate, time, struct vcpu_runstate_info, time);
SIZE(narrow_singleshot, struct vcpu_set_singleshot_timer);
SIZE(narrow_area, struct vcpu_register_runstate_memory_area);
SIZE(narrow_area, struct vcpu_register_time_memory_area);
SIZE(narrow_map_pirq, struct physdev_map_pirq);
PLACE(narrow_map_pirq, table_base, struct physdev_map_pirq, table_base);
SIZE(narrow_setup_table, struct gnttab_setup_table);
PLACE(narrow_setup_table, status, struct gnttab_setup_table, status);
SIZE(narrow_status_frames, struct gnttab_get_status_frames);
PLACE(narrow_status_frames, status, struct gnttab_get_status_frames, status);
SIZE(narrow_copy, struct gnttab_copy);
PLACE(narrow_copy, dest, struct gnttab_copy, dest);
PLACE(narrow_copy, status, struct gnttab_copy, status);

/* The same in both worlds. */
_Static_assert(sizeof(struct gnttab_map_grant_ref) == 32 &&
                   offsetof(struct gnttab_map_grant_ref, dev_bus_addr) == 24,
               "map");
_Static_assert(sizeof(struct gnttab_unmap_grant_ref) == 24, "unmap");
_Static_assert(sizeof(struct gnttab_query_size) == 16 && sizeof(struct gnttab_cache_flush) == 16,
               "query, flush");
_Static_assert(sizeof(struct evtchn_init_control) == 24 && sizeof(struct evtchn_expand_array) == 8, "FIFO");
_Static_assert(sizeof(struct evtchn_status) == 24 && sizeof(struct evtchn_bind_interdomain) == 12, "events");
_Static_assert(sizeof(struct vcpu_register_vcpu_info) == 16 && sizeof(struct vcpu_info) == 64, "vcpu_info");
_Static_assert(offsetof(struct vcpu_info, evtchn_pending_sel) == 4 && offsetof(struct vcpu_info, time) == 32,
               "vcpu_info");
_Static_assert(sizeof(struct xen_hvm_param) == 16 && sizeof(struct xen_hvm_pagetable_dying) == 16 &&
                   sizeof(struct xen_hvm_get_mem_type) == 16,
               "hvm_op");
_Static_assert(offsetof(struct shared_info, evtchn_mask) == 2048 + 128 &&
                   offsetof(struct shared_info, wc_version) == 2048 + 256 &&
                   offsetof(struct shared_info, arch.wc_sec_hi) == 2048 + 256 + 36,
               "shared_info");
#endif
